"""
Who is calling? From a request to its ``RequestState``, worked out once per request.

With a publishable key a browser's cookies are judged as Clerk's own backend SDK does it, handshake and all; what
decides there is in handshake.py, and here is what has to be done for it. Without one, a session token is verified and
nothing more.

Which kinds of token count is for the door to say, and looked at before anything is asked of anybody: a machine token
counts only where its kind is accepted, and only in the header. Such a token is judged like others where it is a
JWT, and by machines.py where only Clerk can look into it.

Every door asks here, so every door hears the same. Single tokens are judged by verdicts.py; what comes of it is kept in
states.py.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterable
from functools import lru_cache, partial
from typing import Any

from asgiref.sync import sync_to_async
from django.db import close_old_connections
from django.views.decorators.debug import sensitive_variables

from clerk_views import cookies, handshake, keys, replays, revocation, signals, tokens
from clerk_views.api import get_api
from clerk_views.auth import ClerkAuth
from clerk_views.conf import Config
from clerk_views.exceptions import ClerkUnavailable, NotInMemory, TokenRefused
from clerk_views.states import NOBODY, Memo, Proof, RequestState, Verdict, memo_of, report_failure, send_once
from clerk_views.verdicts import Judged, apart, judge, judge_all, recall, with_key

logger = logging.getLogger("clerk_views")

#: Leeway for a session that has just come back from Clerk to a development machine, whose clock may be wrong. Seconds.
DEVELOPMENT_LEEWAY = 86_400.0

# Headers of a request that Clerk is not told of when it renews a session: credentials that are none of its own.
_KEPT_BACK = frozenset({"authorization", "cookie", "proxy-authorization"})

SESSIONS_ALONE = ("session_token",)

_SCHEME = "Bearer "


def is_foreign(memo: Memo) -> bool:
    """Whether the request brings a bearer token that is plainly another scheme's. See tokens.is_foreign()."""
    if _known(memo) is not None:
        return False
    bearer = _found(memo).bearer
    return bearer is not None and tokens.is_foreign(bearer, memo.config, partial(apart, memo))


def _known(memo: Memo) -> Verdict | None:
    """
    Return the verdict on the session token in the header, if this process remembers one.

    Of what is remembered nothing needs be looked at again: tokens.find() would find the same, as a token's letters are
    all that it takes, and no other kind of token is remembered there. Measured: half of what deciding costs otherwise.
    """
    header = memo.request.META.get("HTTP_AUTHORIZATION") or ""
    if not header.startswith(_SCHEME) or len(header) > tokens.MAX_TOKEN_LENGTH:
        return None
    return recall(header[len(_SCHEME) :], "session_token", memo)[1]


def _at_once(memo: Memo) -> RequestState | None:
    """Say how a request stands of which nothing has to be weighed, as most have not; None for any other."""
    if memo.judged is not None or "session_token" not in memo.accepts:
        return None
    meta = memo.request.META
    if not (meta.get("HTTP_AUTHORIZATION") or meta.get("HTTP_COOKIE") or "__" in meta.get("QUERY_STRING", "")):
        return None if handshake.is_page_navigation(memo.request) else _of_silence(memo.config)
    known = _known(memo)
    # One token that is known is good alone, see judge_all(); but its session may have been ended.
    if known is None or memo.config.check_revoked_sessions or not known.holds(keys.get_key_ring(memo.config)):
        return None
    return _signed_in(known, "header")


def _found(memo: Memo) -> tokens.Found:
    if memo.found is None:
        memo.found = tokens.find(memo.request.META, memo.config)
    return memo.found


def authenticate(
    request: Any, *, accepts: tuple[str, ...] | None = None, early: bool = False, offline: bool = False
) -> RequestState:
    """See state_of()."""
    return state_of(memo_of(request), accepts=accepts, early=early, offline=offline)


def state_of(
    memo: Memo,
    *,
    accepts: tuple[str, ...] | None = None,
    early: bool = False,
    page: bool = True,
    offline: bool = False,
) -> RequestState:
    """
    Say how a request stands with Clerk. Asks once per request, however often it is called.

    Args:
        accepts: The kinds of token that count; None for those that counted last, at first CLERK_ACCEPTS_TOKEN.
        early: The view is not known yet, and may accept another kind of token than ``accepts``; so one that is not
            among these is no failure yet.
        page: False for a view that never answers with a page: it takes no part in handshakes, and what one has brought
            is not looked at from here on.
        offline: Answer from memory alone, for callers on an event loop.

    Raises:
        ClerkUnavailable: It cannot be decided, because the signing keys cannot be had.
        NotInMemory: ``offline``, and memory does not suffice.
        ImproperlyConfigured: The settings allow no decision.
    """
    if accepts is not None and accepts != memo.accepts:
        memo.accepts, memo.state, memo.auth = accepts, None, None
    if not page and not memo.apart:
        memo.apart = True
        if memo.judged is not None and memo.judged.arrived:
            memo.judged = memo.state = memo.auth = None
    if memo.state is None:
        at_once = _at_once(memo)
        if at_once is not None:
            memo.state = memo.judged = at_once
            return at_once
        found = _found(memo)
        mismatch = _mismatch(memo, found)
        if mismatch is not None:
            state = _not_accepted(memo, found, mismatch, early, offline)
        else:
            state = _judged(memo, found, offline)
        if not state.is_signed_in and len(memo.accepts) == 1 and memo.accepts != SESSIONS_ALONE:
            state = state._replace(asked=memo.accepts[0])
        if mismatch is not None and early:
            return state
        memo.state = state
    return memo.state


async def aauthenticate(request: Any, *, accepts: tuple[str, ...] | None = None, early: bool = False) -> RequestState:
    """See authenticate()."""
    try:
        return authenticate(request, accepts=accepts, early=early, offline=True)
    except NotInMemory:
        # Only the network and a cache are waited for, never the request's transaction; so any thread will do.
        return await sync_to_async(_authenticate_elsewhere, thread_sensitive=False)(request, accepts, early)


def _authenticate_elsewhere(request: Any, accepts: tuple[str, ...] | None, early: bool) -> RequestState:
    try:
        return authenticate(request, accepts=accepts, early=early)
    finally:
        # The cache may be a table. What a request's own thread opens Django looks after, and nobody what this one does.
        close_old_connections()


def _mismatch(memo: Memo, found: tokens.Found) -> str | None:
    """
    Say why the credential is not of a kind that counts; None if it is, or may be.

    Source: Clerk's backend SDK, "acceptsToken".
    """
    if found.carrier != "header":
        if "session_token" in memo.accepts:
            return None  # the cookies count, if there are any
        return "No token in header" if len(memo.accepts) == 1 else "token-type-mismatch"
    if memo.kind is None:
        memo.kind = _kind(memo, found.bearer)
    if memo.kind in memo.accepts:
        return None
    if memo.accepts == SESSIONS_ALONE and tokens.is_opaque(found.bearer or ""):
        return "token-invalid"
    return "token-type-mismatch"


def _kind(memo: Memo, bearer: str | None) -> str:
    if bearer is None or recall(bearer, "session_token", memo)[1] is not None:
        return "session_token"  # what nobody can read is no machine's, at any rate
    return tokens.kind(bearer, partial(apart, memo))


def _not_accepted(memo: Memo, found: tokens.Found, reason: str, early: bool, offline: bool) -> RequestState:
    carrier = found.carrier if found.carrier == "header" else None  # cookies are not looked at
    if carrier is not None and not early:
        report_failure(memo, reason, found.bearer, offline=offline)
        logger.info("A credential in the header was refused: %s (it is a %s)", reason, memo.kind)
    auth, headers = ClerkAuth.signed_out(reason), handshake.report("signed-out", reason)
    return RequestState("signed-out", reason, auth, carrier, headers)


def _judged(memo: Memo, found: tokens.Found, offline: bool) -> RequestState:
    if memo.unavailable is not None:
        raise memo.unavailable
    if memo.judged is None:
        try:
            if memo.kind is None or memo.kind == "session_token":
                memo.judged = _unless_revoked(memo, found, _decide(memo, found, offline), offline)
            else:
                memo.judged = _decide_machine(memo, found, memo.kind, offline)
        except ClerkUnavailable as error:
            memo.unavailable = error
            raise
    return memo.judged


def _unless_revoked(memo: Memo, found: tokens.Found, state: RequestState, offline: bool) -> RequestState:
    """Look whether the session has been ended, whatever its token says, where the settings ask for that (LFC-03)."""
    if not memo.config.check_revoked_sessions or not isinstance(state.verdict, Verdict):
        return state
    if revocation.outlives_notes(state.verdict.issued, state.verdict.expires):
        refused = TokenRefused(revocation.TOO_LONG_LIVED, "CLERK_CHECK_REVOKED_SESSIONS allows tokens of a day at most")
        return _conclude(memo, found, handshake.signed_out(refused.reason), Judged(None, refused, state.token), offline)
    if offline:
        raise NotInMemory  # the list is in Django's cache, which may be on the network
    if not revocation.is_revoked(state.verdict.session[1], memo.config):
        return state
    refused = TokenRefused("session-revoked", "the session was ended at Clerk")
    return _conclude(memo, found, handshake.signed_out(refused.reason), Judged(None, refused, state.token), offline)


@sensitive_variables()
def _decide_machine(memo: Memo, found: tokens.Found, token_type: str, offline: bool) -> RequestState:
    token = found.bearer or ""
    try:
        if tokens.is_opaque(token):
            proof = _ask_about(token, token_type, memo, offline)
        else:
            proof = judge(token, memo, offline, token_type=token_type)
    except TokenRefused as refused:
        # Clerk's own words for all that is wrong with a machine token, but for its class.
        reason = refused.reason if refused.reason == "token-invalid" else "token-verification-failed"
        return _conclude(memo, found, handshake.signed_out(reason), Judged(None, refused, token), offline)
    return _signed_in(proof, "header")


@sensitive_variables()
def _ask_about(token: str, token_type: str, memo: Memo, offline: bool) -> Proof:
    if offline and tokens.is_opaque_shaped(token):
        raise NotInMemory  # Django's cache may be on the network
    from clerk_views import machines  # 5 ms with what it needs, and most projects have no machines

    found, asked = machines.verify(
        token,
        token_type,
        memo.config,
        memo.budget,
        on_miss=lambda: send_once(signals.clerk_cache_miss, memo, token, offline=False),
    )
    text = json.dumps(found.claims, separators=(",", ":"))
    auth = ClerkAuth.from_machine(token, token_type, found.claims, text, scopes=found.scopes, expires=found.expires)
    return Proof(auth=auth, token=token, claims=text, source="api" if asked else "cache")


@sensitive_variables()
def _decide(memo: Memo, found: tokens.Found, offline: bool) -> RequestState:
    if memo.config.publishable_key is not None and found.carrier != "header":
        return _by_cookies(memo, found, offline)
    if found.carrier is None:
        return NOBODY
    groups = found.groups
    judged = judge_all(groups[0] if groups else (), memo, offline)
    if judged.verdict is not None:
        return _signed_in(judged.verdict, found.carrier)
    if memo.config.publishable_key is not None:
        return _recover(memo, found, _facts(memo, found), judged, offline)
    reason = handshake.CLOCK_REASONS.get(judged.refused.reason, judged.refused.reason)
    if reason == "token-expired":
        # Clerk's own words: expired, and why it was not refreshed.
        reason = handshake.expired(handshake.why_not_refresh(memo.request.method or "", "") or "")
    return _conclude(memo, found, handshake.signed_out(reason), judged, offline)


@lru_cache(maxsize=8)
def _of_silence(config: Config) -> RequestState:
    """
    Return the state of a request that says nothing, and can go nowhere: most of what strangers ask of an API.

    It is the same for each. Measured: 7 µs less than to find that out again.
    """
    if config.publishable_key is None:
        return NOBODY
    facts = handshake.Facts("", "", "", "", "", "", cookies.NO_COOKIES, False, None, str, str)
    outcome = handshake.start(facts, config) or handshake.signed_out("session-token-and-uat-missing")
    auth = ClerkAuth(status=outcome.status, reason=outcome.reason)
    return RequestState(outcome.status, outcome.reason, auth, headers=outcome.headers)


def _by_cookies(memo: Memo, found: tokens.Found, offline: bool) -> RequestState:
    """Judge a browser's cookies. The steps are those of handshake.py, C1 to C16."""
    facts = _facts(memo, found)
    brought = None if memo.apart else handshake.brought(facts, memo.config)
    if brought is None:
        return _as_they_are(memo, found, facts, offline)
    try:
        arrived = _arrive(memo, found, facts, brought, offline)
    except ClerkUnavailable:
        state = _as_they_are(memo, found, facts, offline) if brought.token else NOBODY
        if not state.is_signed_in:
            raise
        return state  # a handshake cookie that may well be another application's changes nothing (I4)
    return arrived or _as_they_are(memo, found, facts, offline)


def _as_they_are(memo: Memo, found: tokens.Found, facts: handshake.Facts, offline: bool) -> RequestState:
    """Judge the cookies that the browser holds, whatever it may have brought back from Clerk: C2 to C16."""
    outcome = handshake.start(facts, memo.config)
    if outcome is not None:
        return _conclude(memo, found, outcome, None, offline)
    variant = facts.variant
    sessions = variant.sessions if len(variant.sessions) == 1 else tokens.candidates(variant.sessions)
    judged = judge_all(sessions, memo, offline, since=variant.last_change)
    if judged.verdict is None:
        return _recover(memo, found, facts, judged, offline)
    auth = judged.verdict.auth
    outcome = handshake.finish(facts, memo.config, lambda: auth.claims)
    if outcome is not None:
        return _conclude(memo, found, outcome, None, offline)
    if not judged.verdict.has_party:
        _party_watch.note()
    return _signed_in(judged.verdict, "cookie")


def _facts(memo: Memo, found: tokens.Found) -> handshake.Facts:
    request, meta = memo.request, memo.request.META

    def peek(token: str) -> cookies.Seen | None:
        known = recall(token, "session_token", memo)[1]
        return known.seen if known else tokens.peek(token, partial(apart, memo))

    return handshake.Facts(
        method=request.method or "",
        scheme=request.scheme or "http",
        destination=meta.get("HTTP_SEC_FETCH_DEST", ""),
        accept=meta.get("HTTP_ACCEPT", ""),
        referer=meta.get("HTTP_REFERER", ""),
        query_string=meta.get("QUERY_STRING", ""),
        cookies=found.cookies,
        suffixed=cookies.use_suffixed(found.cookies, memo.config, peek, tokens.now()),
        bearer=found.bearer,
        get_host=request.get_host,
        get_path=request.get_full_path,
    )


@sensitive_variables()
def _arrive(
    memo: Memo, found: tokens.Found, facts: handshake.Facts, brought: handshake.Brought, offline: bool
) -> RequestState | None:
    """
    Take what a handshake brought back, C1. None: it is of no use, and the request is judged as it is.

    The session inside is verified before any cookie is set, and is brought once (RED-06).

    Raises:
        ClerkUnavailable: Clerk cannot be asked what the nonce stands for. That is not the same as a sign-out.
    """
    try:
        directives = handshake.check_directives(_directives(brought, memo, offline), facts, memo.config)
        session = handshake.session_in(directives)
        verdict = _take_up(session, memo, offline) if session else None
    except TokenRefused as refused:
        # Another application's handshake cookie on a shared domain is nothing unusual.
        logger.info("What a handshake brought back was refused: %s (%.100s)", refused.reason, refused)
        return None
    headers = handshake.arrival(facts, memo.config, directives)
    if verdict is not None:
        return _signed_in(verdict, "cookie", headers)._replace(arrived=True)
    outcome = handshake.signed_out("session-token-missing")
    state = _conclude(memo, found, outcome._replace(headers=(*headers, *outcome.headers)), None, offline)
    return state._replace(arrived=True)


@sensitive_variables()
def pending_session(request: Any) -> str:
    """
    Return the session token that a handshake has brought in a cookie, unverified; empty when there is none.

    For signing out, which must not leave behind what signs the browser in at the next page.

    Raises:
        ClerkUnavailable: The keys cannot be had, or Clerk cannot be asked what a nonce stands for.
    """
    memo = memo_of(request)
    facts = _facts(memo, tokens.find(memo.request.META, memo.config))
    brought = handshake.held(facts) if memo.config.publishable_key is not None else None
    if brought is None:
        return ""
    try:
        return handshake.session_in(
            handshake.check_directives(_directives(brought, memo, offline=False), facts, memo.config)
        )
    except TokenRefused:
        return ""  # another application's, say


def _directives(brought: handshake.Brought, memo: Memo, offline: bool) -> Iterable[Any]:
    if brought.token:
        parsed = tokens.parse(brought.token)
        directives, _ = with_key(parsed, memo, offline, lambda key: tokens.verify_handshake(parsed, key))
        return directives
    if memo.config.secret_key is None:
        raise TokenRefused("token-invalid", "a nonce, and no secret key to exchange it with")
    if offline:
        raise NotInMemory
    # Refused, it is as if it had not been there. Clerk's SDK signs the visitor out instead; whoever is able to set a
    # cookie on the domain could do so then (I4).
    return get_api(memo.config).get_handshake_payload(brought.nonce, memo.budget)


def _take_up(session: str, memo: Memo, offline: bool) -> Verdict:
    if replays.is_known(session):
        raise TokenRefused("token-invalid", "a session that was brought before")
    verdict = _judge_arrived(session, memo, offline)
    if offline:
        raise NotInMemory  # another process may know it, and Django's cache may be on the network
    leeway = DEVELOPMENT_LEEWAY if memo.config.is_development else memo.config.clock_skew
    if not replays.take_up(session, verdict.expires + leeway, memo.config):
        raise TokenRefused("token-invalid", "a session that was brought before")
    return verdict


def _judge_arrived(session: str, memo: Memo, offline: bool) -> Verdict:
    try:
        return judge(session, memo, offline)
    except TokenRefused as refused:
        clock = refused.reason == "token-expired" or refused.reason in handshake.CLOCK_REASONS
        if not (clock and memo.config.is_development):
            raise
        verdict = judge(session, memo, offline, leeway=DEVELOPMENT_LEEWAY)
        logger.warning(
            "Clerk has just issued a session token that counts as %s here: this machine's clock is wrong. On a "
            "development instance it is accepted all the same; set the clock.",
            refused.reason,
        )
        return verdict


@sensitive_variables()
def _recover(memo: Memo, found: tokens.Found, facts: handshake.Facts, judged: Judged, offline: bool) -> RequestState:
    """Say what becomes of a refused token: renewed by Clerk, a handshake, or signed out."""
    reason = judged.refused.reason
    if reason == "token-expired":
        why = handshake.why_not_refresh(facts.method, facts.cookies.refresh)
        if why is None:
            renewed = _refresh(memo, found.carrier or "", facts, judged.token or "", offline)
            if isinstance(renewed, RequestState):
                return renewed
            why = renewed
        reason = handshake.expired(why)
    return _conclude(memo, found, handshake.recover(facts, memo.config, reason), judged, offline)


@sensitive_variables()
def _refresh(memo: Memo, carrier: str, facts: handshake.Facts, token: str, offline: bool) -> RequestState | str:
    """Let Clerk renew an expired session. Return the state of the request, or in Clerk's words why it was not."""
    if memo.config.secret_key is None:
        return "missing-api-client"
    seen = tokens.peek(token)
    session_id = seen.session_id if seen else None
    if not tokens.is_session_id(session_id):
        return "expired-session-token-missing-sid-claim"
    if offline:
        raise NotInMemory
    body = {
        "format": "cookie",
        "expired_token": token,
        "refresh_token": facts.cookies.refresh,
        "request_origin": facts.origin,
        "request_headers": _told_headers(memo, carrier, token),
    }
    try:
        brought = get_api(memo.config).refresh_session(session_id, body, facts.suffixed, memo.budget)
    except TokenRefused as refused:
        return refused.reason
    except ClerkUnavailable as error:
        return "unexpected-bapi-error" if error.answered else "fetch-error"
    if not brought:
        return "unexpected-sdk-error"
    try:
        directives = handshake.check_directives(brought, facts, memo.config)
    except TokenRefused as refused:
        logger.warning("The cookies of a renewed session were refused: %.100s", refused)
        return "unexpected-sdk-error"
    try:
        verdict = judge(handshake.session_in(directives), memo, offline)
    except TokenRefused:
        return "invalid-session-token"
    return _signed_in(verdict, carrier, handshake.cookie_headers(directives))


def _told_headers(memo: Memo, carrier: str, token: str) -> dict[str, list[str]]:
    """
    Return the request's headers as Clerk is told of them: by lower-case name, a list of values each.

    Clerk's SDK sends all. Ours sends no credential that is none of Clerk's: of the cookies only Clerk's own, and the
    Authorization header only if it is the token in question.
    """
    told = {name.lower(): [value] for name, value in memo.request.headers.items() if name.lower() not in _KEPT_BACK}
    told["cookie"] = [
        "; ".join(
            f"{name}={value}"
            for name, value in cookies.pairs(memo.request.META["HTTP_COOKIE"])
            if cookies.is_ours(name, memo.config.cookie_suffix)
        )
    ]
    if carrier == "header":
        told["authorization"] = [f"Bearer {token}"]
    return told


def _signed_in(verdict: Proof, carrier: str, headers: tuple[tuple[str, str], ...] = ()) -> RequestState:
    return RequestState("signed-in", None, verdict.auth, carrier, headers, verdict)


class _ClockWatch:
    """Tells the operator when most of what is refused comes from the future: the clock here is wrong then (F-20)."""

    WINDOW = 60.0  # seconds
    ENOUGH = 5  # tokens from the future within it; one visitor's clock is his own affair

    def __init__(self) -> None:
        self._since = -math.inf  # on the monotonic clock
        self._refused = self._ahead = 0
        self._told = False

    def note(self, ahead: bool) -> None:
        """Count a refused token. Two threads at once may miscount by one, which a hint can bear."""
        now = time.monotonic()
        if now - self._since > self.WINDOW:
            self._since, self._refused, self._ahead, self._told = now, 0, 0, False
        self._refused += 1
        self._ahead += ahead
        if not self._told and self._ahead >= self.ENOUGH and 2 * self._ahead > self._refused:
            self._told = True
            logger.error(
                "Most of the tokens refused in the last minute are from the future, by this machine's clock. Set the "
                "clock, or compare it with Clerk's by 'manage.py clerk_doctor'."
            )


_clock_watch = _ClockWatch()


class _PartyWatch:
    """Tells the operator once that session cookies do not say which page obtained them, as Clerk's SDK does (C16)."""

    def __init__(self) -> None:
        self.told = False

    def note(self) -> None:
        if not self.told:
            self.told = True
            logger.warning(
                "The token of a session cookie has no 'azp' claim, so nothing says which page obtained it. Clerk may "
                "refuse such tokens one day; ask its support, or look whether a proxy hides the Origin header from it."
            )


_party_watch = _PartyWatch()


def _conclude(
    memo: Memo, found: tokens.Found, outcome: handshake.Outcome, judged: Judged | None, offline: bool
) -> RequestState:
    """
    Return the state of a request that is not signed in.

    Args:
        judged: What was refused; None if no token was looked at.
    """
    if found.carrier is not None and outcome.status == "signed-out":
        first = next((token for group in found.groups for token in group), None)
        report_failure(memo, outcome.reason, (judged.token if judged else None) or first, offline=offline)
    if judged is not None:
        logger.info("A credential in the %s was refused: %s (%.100s)", found.carrier, outcome.reason, judged.refused)
        _clock_watch.note(judged.refused.reason in handshake.CLOCK_REASONS)
    auth = ClerkAuth(status=outcome.status, reason=outcome.reason)
    return RequestState(outcome.status, outcome.reason, auth, found.carrier, outcome.headers)
