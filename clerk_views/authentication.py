"""
Who is calling? From a request to its ``RequestState``, worked out once per request.

Every door asks here, so every door hears the same. A verdict on a token is remembered in this process until the token
expires, under the token's SHA-256 and for one configuration; it names no Django user, who is looked up each time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.dispatch import Signal
from django.http import HttpRequest
from django.views.decorators.debug import sensitive_variables

from clerk_views import keys, signals, tokens
from clerk_views.api import Budget
from clerk_views.auth import Claims, ClerkAuth
from clerk_views.conf import Config, config
from clerk_views.exceptions import ClerkUnavailable, NotInMemory, TokenRefused

if TYPE_CHECKING:  # 25 ms to import
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

logger = logging.getLogger("clerk_views")

#: Verdicts kept per configuration. Measured: 2.9 KB each with a token of 900 characters, so at most 12 MB.
MAX_VERDICTS = 4096

_ATTRIBUTE = "_clerk_views_memo"

# Times go by other names once a whole request is judged. Source: Clerk, reasons of a signed-out request.
_PUBLIC_REASONS = {
    "token-not-active-yet": "session-token-nbf",
    "token-iat-in-the-future": "session-token-iat-in-the-future",
}


@dataclass(slots=True)
class Verdict:
    """
    A good token, as this process remembers it.

    Attributes:
        fresh_until: UNIX seconds until which the user is known to be in sync, so that only the row need be read.
    """

    auth: ClerkAuth
    token: str = field(repr=False)
    claims: str = field(repr=False)  # JSON text, for the reason given in auth.py
    session: tuple[str, str]  # user id and session id: who it is
    issued: float
    not_before: float
    expires: float
    key_id: str | None
    key: RSAPublicKey = field(repr=False)
    fresh_until: float = 0.0

    def holds(self, ring: keys.KeyRing) -> bool:
        """Whether it still counts: the token not expired, and its key still one of Clerk's."""
        return self.not_before <= tokens.now() < self.expires and ring.peek(self.key_id) is self.key


@dataclass(frozen=True, slots=True)
class RequestState:
    """
    How a request stands with Clerk.

    Attributes:
        status: ``signed-in`` or ``signed-out``. A pending session is signed in here, and signed out in ``auth``.
        reason: Why it is signed out, as Clerk's kebab-case code, else None.
        auth: What a view sees as ``request.clerk``.
        carrier: ``header`` or ``cookie``: where a credential was presented; None when none was.
        headers: Name and value pairs that the response must carry.
    """

    status: str
    reason: str | None
    auth: ClerkAuth
    carrier: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    verdict: Verdict | None = field(default=None, repr=False)

    @property
    def is_signed_in(self) -> bool:
        """Whether a token was verified. Ask ``auth`` whether there is a user."""
        return self.status == "signed-in"

    @property
    def token(self) -> str | None:
        """The verified token; None when signed out."""
        return self.verdict.token if self.verdict else None

    @property
    def token_type(self) -> str | None:
        """``session_token``; None when signed out."""
        return "session_token" if self.verdict else None

    @property
    def payload(self) -> Claims | None:
        """The verified claims, pending sessions included, read-only; None when signed out."""
        return MappingProxyType(json.loads(self.verdict.claims)) if self.verdict else None

    @property
    def auth_if_pending_allowed(self) -> ClerkAuth:
        """What a view sees that admits sessions with open tasks: such a session in full, else the same as ``auth``."""
        if self.verdict is None or not self.auth.is_pending:
            return self.auth
        text = self.verdict.claims
        return ClerkAuth.from_session(self.verdict.token, json.loads(text), text, allow_pending=True)


@dataclass(slots=True, repr=False)
class Memo:
    """
    What is known of one request. Kept on the request itself: no state of one request can reach another (CTX-01).

    Its type is its brand: whatever another component leaves under the same name is not looked at (MWR-02).
    """

    request: HttpRequest
    config: Config
    budget: Budget
    state: RequestState | None = None
    unavailable: ClerkUnavailable | None = None
    reported: set[tuple[int, str | None]] = field(default_factory=set)
    user: Any = None
    user_error: Exception | None = None
    session_user: Any = None
    session_auser: Any = None
    attached: bool = False
    refusal: Any = None  # of the permission that REST framework asked last, see drf.py


def memo_of(request: Any) -> Memo:
    """Return the memo of a request, REST framework's wrapper or Django's own."""
    request = getattr(request, "_request", request)
    if not isinstance(request, HttpRequest):
        raise TypeError(
            f"Clerk authenticates a Django HttpRequest; it was given {type(request).__name__}. On a method of a class, "
            "use method_decorator; for WebSockets, verify the token of the handshake's HTTP request."
        )
    memo = request.__dict__.get(_ATTRIBUTE)
    if not isinstance(memo, Memo) or memo.request is not request:
        settings = config()
        memo = Memo(request, settings, Budget(settings.timeout))
        request.__dict__[_ATTRIBUTE] = memo
    return memo


def is_foreign(memo: Memo) -> bool:
    """Whether the request brings a bearer token that is plainly another scheme's. See tokens.is_foreign()."""
    found = tokens.find(memo.request.META, memo.config)
    return found.carrier == "header" and any(
        tokens.is_foreign(token, memo.config) for group in found.groups for token in group
    )


def authenticate(request: Any, *, offline: bool = False) -> RequestState:
    """
    Say how a request stands with Clerk. Asks once per request, however often it is called.

    Args:
        offline: Answer from memory alone, for callers on an event loop.

    Raises:
        ClerkUnavailable: It cannot be decided, because the signing keys cannot be had.
        NotInMemory: ``offline``, and memory does not suffice.
        ImproperlyConfigured: The settings allow no decision.
    """
    memo = memo_of(request)
    if memo.unavailable is not None:
        raise memo.unavailable
    if memo.state is None:
        try:
            memo.state = _decide(memo, offline)
        except ClerkUnavailable as error:
            memo.unavailable = error
            raise
    return memo.state


async def aauthenticate(request: Any) -> RequestState:
    """See authenticate()."""
    try:
        return authenticate(request, offline=True)
    except NotInMemory:
        # Only the network is waited for, never the database; so any thread will do.
        return await sync_to_async(authenticate, thread_sensitive=False)(request)


def get_clerk(request: Any) -> ClerkAuth:
    """
    Return who is calling, for code outside a decorated view.

    Raises:
        ClerkUnavailable: It cannot be decided now. Not the same as nobody.
    """
    return authenticate(request).auth


async def aget_clerk(request: Any) -> ClerkAuth:
    """See get_clerk()."""
    return (await aauthenticate(request)).auth


def report_failure(memo: Memo, reason: str, token: str | None, *, offline: bool = False) -> None:
    """Send ``clerk_auth_failed``, once per request."""
    _send_once(signals.clerk_auth_failed, memo, token, offline, reason=reason)


def _send_once(signal: Signal, memo: Memo, token: str | None, offline: bool, **values: Any) -> None:
    sender = type(memo.request)
    mark = (id(signal), token)
    if mark in memo.reported or not signal.has_listeners(sender):
        return
    if offline:
        raise NotInMemory  # a receiver may want the database, which no event loop should wait for
    memo.reported.add(mark)
    token_hash = None if token is None else hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
    signal.send_robust(sender, token_hash=token_hash, request=memo.request, **values)


class _Verdicts:
    """The verdicts of one configuration, the oldest forgotten first."""

    def __init__(self) -> None:
        self._entries: dict[bytes, Verdict] = {}
        self._lock = threading.Lock()

    def get(self, digest: bytes) -> Verdict | None:
        return self._entries.get(digest)

    def put(self, digest: bytes, verdict: Verdict) -> None:
        with self._lock:
            if len(self._entries) >= MAX_VERDICTS:
                del self._entries[next(iter(self._entries))]
            self._entries[digest] = verdict

    def drop(self, digest: bytes) -> None:
        with self._lock:
            self._entries.pop(digest, None)


@lru_cache(maxsize=16)
def _verdicts(fingerprint: str) -> _Verdicts:
    return _Verdicts()


os.register_at_fork(after_in_child=_verdicts.cache_clear)  # a lock held by another thread would stay held for ever


@sensitive_variables()
def _decide(memo: Memo, offline: bool) -> RequestState:
    found = tokens.find(memo.request.META, memo.config)
    if found.carrier is None:
        return NOBODY
    good: list[Verdict] = []
    refused: TokenRefused | None = None
    unavailable: ClerkUnavailable | None = None
    for group in found.groups:
        verdicts: list[Verdict] = []
        for token in group:
            try:
                verdicts.append(_judge(token, memo, offline))
            except TokenRefused as error:
                refused = refused or error
            except ClerkUnavailable as error:
                unavailable = unavailable or error
        if len({verdict.session for verdict in verdicts}) > 1:
            return _signed_out(memo, found, TokenRefused("token-invalid", "two sessions under one name"), offline)
        good.extend(verdicts[:1])
    if good:
        newest = max(good, key=lambda verdict: verdict.issued)  # of equals the first: the suffixed cookie
        return RequestState("signed-in", None, newest.auth, found.carrier, verdict=newest)
    if unavailable is not None:
        raise unavailable
    return _signed_out(memo, found, refused or TokenRefused("token-invalid", "not of a token's shape"), offline)


def _signed_out(memo: Memo, found: tokens.Found, refused: TokenRefused, offline: bool) -> RequestState:
    reason = _PUBLIC_REASONS.get(refused.reason, refused.reason)
    if reason == "token-expired":
        # Clerk's own words: expired, and why it was not refreshed.
        why = "no-refresh-cookie" if memo.request.method == "GET" else "non-get"
        reason = f"session-token-expired-refresh-non-eligible-{why}"
    token = next((token for group in found.groups for token in group), None)
    report_failure(memo, reason, token, offline=offline)
    logger.info("A credential in the %s was refused: %s (%.100s)", found.carrier, reason, refused)
    headers = (("x-clerk-auth-status", "signed-out"), ("x-clerk-auth-reason", reason))
    return RequestState("signed-out", reason, ClerkAuth.signed_out(reason), found.carrier, headers)


@sensitive_variables()
def _judge(token: str, memo: Memo, offline: bool) -> Verdict:
    settings = memo.config
    ring = keys.get_key_ring(settings)
    verdicts = _verdicts(settings.fingerprint)
    digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
    verdict = verdicts.get(digest)
    if verdict is not None:
        if verdict.holds(ring):
            return verdict
        verdicts.drop(digest)
    parsed = tokens.parse(token)
    key = ring.peek(parsed.key_id) if offline else ring.get(parsed.key_id, memo.budget)
    if key is None:
        raise NotInMemory
    _send_once(signals.clerk_cache_miss, memo, token, offline)
    try:
        claims = tokens.verify(parsed, key, settings)
    except TokenRefused as refused:
        if refused.reason != "token-invalid-signature":
            raise
        if offline:
            raise NotInMemory from None
        # Clerk may have put another key under the same id; the ring looks, within its rate limit (KEY-02).
        another = ring.replace(parsed.key_id, key, memo.budget)
        if another is None:
            raise
        key = another
        claims = tokens.verify(parsed, key, settings)
    text = json.dumps(claims, separators=(",", ":"))
    verdict = Verdict(
        auth=ClerkAuth.from_session(token, claims, text),
        token=token,
        claims=text,
        session=(claims["sub"], claims["sid"]),
        issued=claims["iat"],
        not_before=claims.get("nbf", 0),
        expires=claims["exp"],
        key_id=parsed.key_id,
        key=key,
    )
    verdicts.put(digest, verdict)
    return verdict


#: The state of a request that brings no credential of ours.
NOBODY = RequestState(
    "signed-out",
    "session-token-and-uat-missing",
    ClerkAuth.signed_out("session-token-and-uat-missing"),
    headers=(("x-clerk-auth-status", "signed-out"), ("x-clerk-auth-reason", "session-token-and-uat-missing")),
)
