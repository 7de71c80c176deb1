"""
What is an opaque machine token: whose, with which scopes, and is it still good? Only Clerk can tell.

Where it stands in the flow: after the kind of the token was found to be one that the view accepts, and its shape one
that Clerk gives out. Tokens that are JWTs never come here; tokens.py judges them without a call.

What Clerk said, good or bad, is kept in Django's cache for VERDICT_LIFETIME seconds, so that all processes together ask
about a token once in that time. The entry's key is a keyed digest, and its text can be read only by who brings the very
token again. What Clerk did not say is not kept: an outage is no refusal.

Clerk's SDK has methods for the three calls, and none is right here. Their addresses are below ``/v1``, where these are
not. Their models drop ``active``, and read an OAuth answer that they do not know to the last member as "not active".
And M2M tokens may be asked about with another key than the client's. So api.py makes the calls, on the same connections
and within the same limits as the SDK's.
"""

from __future__ import annotations

import base64
import copy
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from django.utils.crypto import salted_hmac
from django.views.decorators.debug import sensitive_variables

from clerk_views import tokens
from clerk_views.api import get_api, get_machine_api
from clerk_views.calls import Budget
from clerk_views.conf import Config
from clerk_views.entries import CLOCKS, SharedEntry, complain, keyed_digest
from clerk_views.exceptions import ClerkUnavailable, TokenRefused
from clerk_views.freshness import Flights

logger = logging.getLogger("clerk_views")

#: Seconds that a verdict counts, good or bad. A key that is revoked at Clerk works for so long at most, and refusals
#: must not be kept longer (CAC-07).
VERDICT_LIFETIME = 60
#: Seconds for which processes tell each other that a token was good: a machine may come by once a day. It counts for
#: nothing but that Clerk is asked about it while junk pours in.
GOOD_LIFETIME = 7 * 86_400
#: Characters of JSON. Custom claims beyond are left out: entries must stay small, and a view misses them at once.
MAX_CLAIMS = 4096
MAX_SCOPES = 256
#: Verdicts that this process keeps while the cache is away, and tokens of which it remembers that they were good.
MAX_KEPT = 1024

_CACHE_VERSION = 1
_ENDPOINTS = {
    "api_key": ("/api_keys/verify", "secret"),
    "m2m_token": ("/m2m_tokens/verify", "token"),
    "oauth_token": ("/oauth_applications/access_tokens/verify", "access_token"),
}
# Names in the claims that a machine token's own may not take.
_REGISTERED = ("sub", "jti", "client_id", "act")


class Verdict(NamedTuple):
    """
    What Clerk said of a token.

    Attributes:
        until: UNIX seconds until which it counts.
        subject: Whose token it is (``user_…``, ``org_…``, ``mch_…``); None when it was refused.
        scopes: What it may do.
        claims: Its custom claims, with the subject as ``sub``, its id as ``jti``, and an OAuth client as ``client_id``.
        expires: UNIX seconds; None for never.
    """

    until: float
    subject: str | None = None
    scopes: tuple[str, ...] = ()
    claims: Mapping[str, Any] = {}
    expires: float | None = None

    def __repr__(self) -> str:
        return f"<Verdict until {self.until} on a token of {self.subject}>"

    @property
    def counts(self) -> bool:
        """Whether it may still be believed. A genuine one that somebody put back later counts no longer than before."""
        return 0 < self.until - time.time() <= VERDICT_LIFETIME + CLOCKS


@sensitive_variables("token")
def verify(
    token: str, token_type: str, config: Config, budget: Budget, *, on_miss: Callable[[], None] = lambda: None
) -> tuple[Verdict, bool]:
    """
    Return what Clerk says of a good token, and whether it was asked just now.

    Does I/O: a cache, and now and then the network.

    Args:
        token_type: As its prefix says.
        on_miss: Called before Clerk is asked, or somebody is waited for who does.

    Raises:
        TokenRefused: ``token-invalid``: it is unknown, revoked, expired, or nobody's who may have such a token.
        ClerkUnavailable: Clerk cannot be asked, or does not say.
    """
    if not tokens.is_opaque_shaped(token):
        raise TokenRefused("token-invalid", "not of a machine token's shape")
    if get_key(token_type, config) is None:
        complain(
            "machine tokens",
            "A view accepts %s, and CLERK_SECRET_KEY, with which Clerk could be asked about it, is not set. It is "
            "refused.",
            token_type,
        )
        raise TokenRefused("token-invalid", "there is no key to ask Clerk with")
    question = _Question(token, token_type, config, budget)
    verdict = question.recall()
    asked = verdict is None
    if verdict is None:
        on_miss()
        verdict = question.ask()
    if verdict.subject is None:
        raise TokenRefused("token-invalid", "Clerk knows no such token, or it is not good any more")
    return verdict, asked


def get_key(token_type: str, config: Config) -> str | None:
    """Return the key with which Clerk is asked about tokens of this type; None if there is none."""
    return (config.machine_secret_key if token_type == "m2m_token" else None) or config.secret_key


class _Entry(SharedEntry):
    consequence = "each process asks Clerk about machine tokens itself"


class _Question:
    """One token, and the way to what is known of it."""

    def __init__(self, token: str, token_type: str, config: Config, budget: Budget) -> None:
        self.token = token
        self.token_type = token_type
        self.config = config
        self.budget = budget
        # With another key, the same token may be another instance's (CAC-02).
        scope = repr((config.api_url, get_key(token_type, config), token_type, token))
        digest = keyed_digest("clerk_views.machines", scope)
        self.entry = _Entry(f"clerk_views:{_CACHE_VERSION}:machine:{digest}", config)
        secret = salted_hmac("clerk_views.machines.entry", scope, algorithm="sha256").digest()
        self._secret = base64.urlsafe_b64encode(secret)

    def recall(self) -> Verdict | None:
        """Return what is known already, and still counts."""
        verdict: Verdict | None
        stored = self.entry.ask("get", self.entry.key)
        if self.entry.broken:
            verdict = _kept.get(self.entry.key)
        elif stored is None:
            return None
        else:
            verdict = self._opened(stored)
            if verdict is None:
                self.entry.drop_forged()
        if verdict is None or not verdict.counts:
            return None
        if verdict.subject is not None and self.entry.key not in _good:
            _good.put(self.entry.key, True)
        return verdict

    def remember(self, verdict: Verdict) -> None:
        text = json.dumps(verdict._asdict(), separators=(",", ":"))
        lifetime = max(1, math.ceil(verdict.until - time.time()))  # what it counts is looked at when it is read
        self.entry.ask("set", self.entry.key, self._closed(text), lifetime)
        if self.entry.broken:
            _kept.put(self.entry.key, verdict)

    def was_good(self) -> bool:
        """Say whether Clerk has called the token good of late, in this process or another."""
        return self.entry.key in _good or self.entry.opened(self.entry.ask("get", self._good_key)) == "good"

    def note_good(self, verdict: Verdict) -> None:
        """Remember that the token is good, as long as it can be."""
        _good.put(self.entry.key, True)
        lifetime = min(GOOD_LIFETIME, (verdict.expires or math.inf) - time.time())
        self.entry.ask("set", self._good_key, self.entry.sealed("good"), max(1, math.ceil(lifetime)))

    def note_bad(self) -> None:
        """Take that back."""
        _good.drop(self.entry.key)
        self.entry.ask("delete", self._good_key)

    @property
    def _good_key(self) -> str:
        return f"{self.entry.key}:good"

    def _closed(self, text: str) -> str:
        """Write a text down so that only who brings the token can read it, and only we can have written it (CAC-04)."""
        from cryptography.fernet import Fernet  # see tokens.verify()

        return Fernet(self._secret).encrypt(text.encode()).decode()

    def _opened(self, stored: Any) -> Verdict | None:
        from cryptography.fernet import Fernet, InvalidToken  # see tokens.verify()

        try:
            found = json.loads(Fernet(self._secret).decrypt(stored))
        except (InvalidToken, TypeError, ValueError):
            return None
        return Verdict(**{**found, "scopes": tuple(found["scopes"])})

    def ask(self) -> Verdict:
        """Ask Clerk for everybody who wants to know meanwhile, or wait for who asks already."""
        while True:
            flight, leading = flights.board(self.entry.key, sharing=True)
            if leading:
                claimed = False
                try:
                    claimed = self._take_turn()
                    # Somebody else may have asked between our look and our turn.
                    flight.brought = self.recall() or self._fetch()
                    return flight.brought
                except ClerkUnavailable as error:
                    flight.error = error
                    raise
                finally:
                    if claimed:
                        self.entry.release()
                    flights.land(flight, linger=0)
            with self.budget.spending():
                landed = flight.landed.wait(max(self.budget.remaining, 0))
            if not landed:
                raise ClerkUnavailable("upstream-timeout", "somebody else was asking Clerk and took too long")
            if flight.error is not None:
                raise copy.copy(flight.error)
            if flight.brought is not None:
                return flight.brought

    def _take_turn(self) -> bool:
        """Wait for at most half of the budget until no other process is at it. False: one still is."""
        enough = self.budget.remaining / 2
        claimed = self.entry.claim()
        with self.budget.spending():
            while not claimed and self.budget.remaining > enough:
                time.sleep(0.05)
                claimed = self.entry.claim()
        return claimed

    def _fetch(self) -> Verdict:
        path, member = _ENDPOINTS[self.token_type]
        api = (get_machine_api if self.token_type == "m2m_token" else get_api)(self.config)
        known = self.was_good()
        try:
            verdict = api.verify_machine_token(
                path, {member: self.token}, self.budget, partial(_read, self.token_type), known=known
            )
        except TokenRefused as refused:
            logger.info("Clerk refused a machine token: %s (%.100s)", refused.reason, refused)
            verdict = Verdict(time.time() + VERDICT_LIFETIME)
            if known:
                self.note_bad()
        else:
            self.note_good(verdict)
        self.remember(verdict)
        return verdict


def _read(token_type: str, answer: Any) -> Verdict:
    """
    Read what Clerk says of a token.

    Raises:
        TokenRefused: It says that the token is not good, or not whose it is.
        ValueError: It says neither.

    Source: Clerk's Backend API, "verify"; its SDKs look at no flag. Times are in milliseconds.
    """
    if not isinstance(answer, dict):
        raise ValueError("no object")
    if answer.get("revoked") is True or answer.get("expired") is True or answer.get("active") is False:
        raise TokenRefused("token-invalid", "revoked, expired or not active")
    expiration = answer.get("expiration")
    odd = [answer.get("revoked") or False, answer.get("expired") or False, answer.get("active", True) is not True]
    if any(odd) or not _is_time(expiration):
        raise ValueError("flags or times of other types")
    expires = None if expiration is None else min(expiration / 1000, tokens.LAST_TIME)
    now = time.time()
    if expires is not None and expires <= now:
        raise TokenRefused("token-invalid", "expired")
    token_id, subject = answer.get("id"), answer.get("subject")
    if not (isinstance(token_id, str) and token_id) or not tokens.is_subject(subject, token_type):
        raise TokenRefused("token-invalid", "without an id, or nobody's who may have such a token")
    own = answer.get("claims")
    claims = {name: own[name] for name in own if name not in _REGISTERED} if isinstance(own, dict) else {}
    if len(json.dumps(claims)) > MAX_CLAIMS:
        logger.warning("The custom claims of a machine token are too long, and left out.")
        claims = {}
    claims |= {"sub": subject, "jti": token_id}
    if isinstance(answer.get("client_id"), str):
        claims["client_id"] = answer["client_id"]
    return Verdict(
        until=min(now + VERDICT_LIFETIME, expires or math.inf),
        subject=subject,
        scopes=tokens.scopes_in(answer.get("scopes"))[:MAX_SCOPES],
        claims=claims,
        expires=expires,
    )


def _is_time(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e18)


class _Kept:
    """A bounded table, the oldest forgotten first."""

    def __init__(self) -> None:
        self.start_anew()

    def start_anew(self) -> None:
        """Forget all. In a forked child a lock of another thread would stay held for ever."""
        self._entries: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def get(self, key: str) -> Any:
        return self._entries.get(key)

    def put(self, key: str, value: Any) -> None:
        with self._lock:
            self._entries.pop(key, None)
            while len(self._entries) >= MAX_KEPT:
                del self._entries[next(iter(self._entries))]
            self._entries[key] = value

    def drop(self, key: str) -> None:
        with self._lock:
            self._entries.pop(key, None)


#: Verdicts, while the cache is away.
_kept = _Kept()
#: Tokens that were good a while ago, by the keys of their entries: they are asked about even while junk pours in.
_good = _Kept()
flights = Flights[Verdict]()
for _table in (_kept, _good, flights):
    os.register_at_fork(after_in_child=_table.start_anew)
