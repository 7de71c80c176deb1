"""
Who is calling? From a request to its ``RequestState``, worked out once per request.

With a publishable key a browser's cookies are judged as Clerk's own backend SDK does it, handshake and all; what
decides there is in handshake.py, and here is what has to be done for it. Without one, a session token is verified and
nothing more.

Which kinds of token count is for the door to say, and looked at before anything is asked of anybody: a machine token
counts only where its kind is accepted, and only in the header. Such a token is verified here where it is a JWT, and by
machines.py where only Clerk can look into it.

Every door asks here, so every door hears the same. A verdict on a token is remembered in this process until the token
expires, under the token's SHA-256 and for one configuration; it names no Django user, who is looked up each time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from asgiref.sync import sync_to_async
from django.dispatch import Signal
from django.http import HttpRequest
from django.views.decorators.debug import sensitive_variables

from clerk_views import cookies, handshake, keys, machines, signals, tokens
from clerk_views.api import Budget, get_api
from clerk_views.auth import Claims, ClerkAuth
from clerk_views.conf import Config, config
from clerk_views.exceptions import ClerkUnavailable, NotInMemory, TokenRefused

if TYPE_CHECKING:  # 25 ms to import
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

logger = logging.getLogger("clerk_views")

#: Verdicts kept per configuration. Measured: 2.9 KB each with a token of 900 characters, so at most 12 MB.
MAX_VERDICTS = 4096

_ATTRIBUTE = "_clerk_views_memo"

#: Leeway for a session that has just come back from Clerk to a development machine, whose clock may be wrong. Seconds.
DEVELOPMENT_LEEWAY = 86_400.0

# Headers of a request that Clerk is not told of when it renews a session: credentials that are none of its own.
_KEPT_BACK = frozenset({"authorization", "cookie", "proxy-authorization"})

SESSIONS_ALONE = ("session_token",)

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Proof:
    """
    A good token of whatever kind.

    Attributes:
        source: "api" when Clerk was asked about it for this request, else "cache".
        fresh_until: UNIX seconds until which the user is known to be in sync, so that only the row need be read.
    """

    auth: ClerkAuth
    token: str = field(repr=False)
    claims: str = field(repr=False)  # JSON text, for the reason given in auth.py
    source: Literal["api", "cache"] = "cache"
    fresh_until: float = 0.0


@dataclass(slots=True, kw_only=True)
class Verdict(Proof):
    """A good JWT, as this process remembers it."""

    session: tuple[str, str]  # user id and session id: who it is
    issued: float
    not_before: float
    expires: float
    key_id: str | None
    key: RSAPublicKey = field(repr=False)
    seen: cookies.Seen = field(repr=False)

    def holds(self, ring: keys.KeyRing) -> bool:
        """Whether it still counts: the token not expired, and its key still one of Clerk's."""
        return self.not_before <= tokens.now() < self.expires and ring.peek(self.key_id) is self.key


@dataclass(frozen=True, slots=True)
class RequestState:
    """
    How a request stands with Clerk.

    Attributes:
        status: ``signed-in``, ``signed-out`` or ``handshake``: not decided, the browser has to ask Clerk first. A
            pending session is signed in here, and signed out in ``auth``.
        reason: Why it is not signed in, as Clerk's kebab-case code, else None.
        auth: What a view sees as ``request.clerk``.
        carrier: ``header`` or ``cookie``: where a credential was presented; None when none was.
        headers: Name and value pairs that the response must carry, whatever the status, in this order. Each
            ``Set-Cookie`` is a header of its own, to be sent as it stands. They hold credentials.
    """

    status: str
    reason: str | None
    auth: ClerkAuth
    carrier: str | None = None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    verdict: Proof | None = field(default=None, repr=False)

    @property
    def is_signed_in(self) -> bool:
        """Whether a token was verified. Ask ``auth`` whether there is a user."""
        return self.status == "signed-in"

    @property
    def location(self) -> str | None:
        """Where a handshake leads next; None when there is none under way."""
        return next((value for name, value in self.headers if name == "Location"), None)

    @property
    def is_handshake(self) -> bool:
        """
        Whether the browser has to be redirected (307) to ``location`` before anything else, whatever the status.

        That is on its way to Clerk, and on a development instance also on its way back, who comes signed in or not.
        """
        return self.location is not None

    def without_redirect(self) -> RequestState:
        """Return how the request stands for a door that never redirects: a handshake reads as signed out."""
        if not self.is_handshake:
            return self
        if self.status == "handshake" and self.reason is not None:
            outcome = handshake.signed_out(self.reason)
            auth = ClerkAuth.signed_out(self.reason)
            return replace(self, status=outcome.status, auth=auth, headers=outcome.headers)
        return replace(self, headers=tuple(pair for pair in self.headers if pair[0] != "Location"))

    @property
    def token(self) -> str | None:
        """The verified token; None when signed out."""
        return self.verdict.token if self.verdict else None

    @property
    def token_type(self) -> str | None:
        """The kind of the verified token, pending sessions' included; None when signed out."""
        return (self.verdict.auth.token_type or "session_token") if self.verdict else None

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
    accepts: tuple[str, ...]  # the kinds of token that count for whoever asked last
    state: RequestState | None = None  # for these
    judged: RequestState | None = None  # of the one credential that may count
    kind: str | None = None  # of the bearer token, once looked at
    unavailable: ClerkUnavailable | None = None
    reported: set[tuple[int, str | None]] = field(default_factory=set)
    user: Any = None
    user_error: Exception | None = None
    session_user: Any = None
    session_auser: Any = None
    attached: bool = False
    auth: ClerkAuth | None = None  # what a view sees, once that is settled
    refusal: Any = None  # of the permission that REST framework asked last, see drf.py
    looking: bool = False  # at what REST framework's permissions ask for, likewise


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
        memo = Memo(request, settings, Budget(settings.timeout), settings.accepts_token)
        request.__dict__[_ATTRIBUTE] = memo
    return memo


def is_foreign(memo: Memo) -> bool:
    """Whether the request brings a bearer token that is plainly another scheme's. See tokens.is_foreign()."""
    found = tokens.find(memo.request.META, memo.config)
    return found.carrier == "header" and any(
        tokens.is_foreign(token, memo.config) for group in found.groups for token in group
    )


def authenticate(
    request: Any, *, accepts: tuple[str, ...] | None = None, early: bool = False, offline: bool = False
) -> RequestState:
    """
    Say how a request stands with Clerk. Asks once per request, however often it is called.

    Args:
        accepts: The kinds of token that count; None for those that counted last, at first CLERK_ACCEPTS_TOKEN.
        early: The view is not known yet, and may accept another kind of token than ``accepts``; so one that is not
            among these is no failure yet.
        offline: Answer from memory alone, for callers on an event loop.

    Raises:
        ClerkUnavailable: It cannot be decided, because the signing keys cannot be had.
        NotInMemory: ``offline``, and memory does not suffice.
        ImproperlyConfigured: The settings allow no decision.
    """
    memo = memo_of(request)
    if accepts is not None and accepts != memo.accepts:
        memo.accepts, memo.state, memo.auth = accepts, None, None
    if memo.state is None:
        found = tokens.find(memo.request.META, memo.config)
        mismatch = _mismatch(memo, found)
        if mismatch is not None:
            state = _not_accepted(memo, found, mismatch, early, offline)
            if early:
                return state
            memo.state = state
        else:
            memo.state = _judged(memo, found, offline)
    return memo.state


async def aauthenticate(request: Any, *, accepts: tuple[str, ...] | None = None, early: bool = False) -> RequestState:
    """See authenticate()."""
    try:
        return authenticate(request, accepts=accepts, early=early, offline=True)
    except NotInMemory:
        # Only the network and a cache are waited for, never the database; so any thread will do.
        return await sync_to_async(authenticate, thread_sensitive=False)(request, accepts=accepts, early=early)


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


@lru_cache(maxsize=48)
def _verdicts(fingerprint: str, token_type: str = "session_token") -> _Verdicts:
    """Return the verdicts on one kind of token, so that none is ever taken for another's (MCH-01)."""
    return _Verdicts()


os.register_at_fork(after_in_child=_verdicts.cache_clear)  # a lock held by another thread would stay held for ever


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
    # A session token that is known here need not be taken apart again.
    if bearer is None or _verdicts(memo.config.fingerprint).get(_digest(bearer)) is not None:
        return "session_token"  # what nobody can read is no machine's, at any rate
    return tokens.kind(bearer)


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
                memo.judged = _decide(memo, found, offline)
            else:
                memo.judged = _decide_machine(memo, found, memo.kind, offline)
        except ClerkUnavailable as error:
            memo.unavailable = error
            raise
    return memo.judged


@sensitive_variables()
def _decide_machine(memo: Memo, found: tokens.Found, token_type: str, offline: bool) -> RequestState:
    token = found.bearer or ""
    try:
        if tokens.is_opaque(token):
            proof = _ask_about(token, token_type, memo, offline)
        else:
            proof = _judge(token, memo, offline, token_type=token_type)
    except TokenRefused as refused:
        # Clerk's own words for all that is wrong with a machine token, but for its class.
        reason = refused.reason if refused.reason == "token-invalid" else "token-verification-failed"
        return _conclude(memo, found, handshake.signed_out(reason), _Judged(None, refused, token), offline)
    return _signed_in(proof, "header")


@sensitive_variables()
def _ask_about(token: str, token_type: str, memo: Memo, offline: bool) -> Proof:
    if offline and tokens.is_opaque_shaped(token):
        raise NotInMemory  # Django's cache may be on the network
    found, asked = machines.verify(
        token,
        token_type,
        memo.config,
        memo.budget,
        on_miss=lambda: _send_once(signals.clerk_cache_miss, memo, token, offline=False),
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
    judged = _judge_all(found.groups[0] if found.groups else (), memo, offline)
    if judged.verdict is not None:
        return _signed_in(judged.verdict, found.carrier)
    if memo.config.publishable_key is not None:
        return _recover(memo, found, _facts(memo, found), judged, offline)
    reason = handshake.CLOCK_REASONS.get(judged.refused.reason, judged.refused.reason)
    if reason == "token-expired":
        # Clerk's own words: expired, and why it was not refreshed.
        reason = handshake.expired(handshake.why_not_refresh(memo.request.method or "", "") or "")
    return _conclude(memo, found, handshake.signed_out(reason), judged, offline)


def _by_cookies(memo: Memo, found: tokens.Found, offline: bool) -> RequestState:
    """Judge a browser's cookies. The steps are those of handshake.py, C1 to C16."""
    facts = _facts(memo, found)
    brought = handshake.brought(facts, memo.config)
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
    judged = _judge_all(sessions, memo, offline, since=variant.last_change)
    if judged.verdict is None:
        return _recover(memo, found, facts, judged, offline)
    auth = judged.verdict.auth
    outcome = handshake.finish(facts, memo.config, lambda: auth.claims)
    if outcome is not None:
        return _conclude(memo, found, outcome, None, offline)
    return _signed_in(judged.verdict, "cookie")


def _facts(memo: Memo, found: tokens.Found) -> handshake.Facts:
    request, meta = memo.request, memo.request.META
    verdicts = _verdicts(memo.config.fingerprint)

    def peek(token: str) -> cookies.Seen | None:
        known = verdicts.get(_digest(token))
        return known.seen if known else tokens.peek(token)

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

    The session inside is verified before any cookie is set (RED-06).

    Raises:
        ClerkUnavailable: Clerk cannot be asked what the nonce stands for. That is not the same as a sign-out.
    """
    try:
        directives = handshake.check_directives(_directives(brought, memo, offline), facts, memo.config)
        session = handshake.session_in(directives)
        verdict = _judge_arrived(session, memo, offline) if session else None
    except TokenRefused as refused:
        # Another application's handshake cookie on a shared domain is nothing unusual.
        logger.info("What a handshake brought back was refused: %s (%.100s)", refused.reason, refused)
        return None
    headers = handshake.arrival(facts, memo.config, directives)
    if verdict is not None:
        return _signed_in(verdict, "cookie", headers)
    outcome = handshake.signed_out("session-token-missing")
    return _conclude(memo, found, replace(outcome, headers=(*headers, *outcome.headers)), None, offline)


def _directives(brought: handshake.Brought, memo: Memo, offline: bool) -> Iterable[Any]:
    if brought.token:
        parsed = tokens.parse(brought.token)
        directives, _ = _with_key(parsed, memo, offline, lambda key: tokens.verify_handshake(parsed, key))
        return directives
    if memo.config.secret_key is None:
        raise TokenRefused("token-invalid", "a nonce, and no secret key to exchange it with")
    if offline:
        raise NotInMemory
    try:
        return get_api(memo.config).get_handshake_payload(brought.nonce, memo.budget)
    except TokenRefused as refused:
        # As in Clerk's SDK: it brought nothing, rather than not having been there.
        logger.info("Clerk refused the nonce of a handshake: %s", refused.reason)
        return []


def _judge_arrived(session: str, memo: Memo, offline: bool) -> Verdict:
    try:
        return _judge(session, memo, offline)
    except TokenRefused as refused:
        clock = refused.reason == "token-expired" or refused.reason in handshake.CLOCK_REASONS
        if not (clock and memo.config.is_development):
            raise
        verdict = _judge(session, memo, offline, leeway=DEVELOPMENT_LEEWAY)
        logger.warning(
            "Clerk has just issued a session token that counts as %s here: this machine's clock is wrong. On a "
            "development instance it is accepted all the same; set the clock.",
            refused.reason,
        )
        return verdict


@sensitive_variables()
def _recover(memo: Memo, found: tokens.Found, facts: handshake.Facts, judged: _Judged, offline: bool) -> RequestState:
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
        verdict = _judge(handshake.session_in(directives), memo, offline)
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


def _conclude(
    memo: Memo, found: tokens.Found, outcome: handshake.Outcome, judged: _Judged | None, offline: bool
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
    auth = ClerkAuth(status=outcome.status, reason=outcome.reason)
    return RequestState(outcome.status, outcome.reason, auth, found.carrier, outcome.headers)


@dataclass(frozen=True, slots=True)
class _Judged:
    """
    What came of the tokens under one name.

    Attributes:
        verdict: None when none is good.
        refused: Why none is, and of which token it is said.
    """

    verdict: Verdict | None
    refused: TokenRefused
    token: str | None = field(default=None, repr=False)


_UNREADABLE = TokenRefused("token-invalid", "not of a token's shape")
_RECOVERABLE = ("token-expired", handshake.STALE, *handshake.CLOCK_REASONS)


@sensitive_variables()
def _judge_all(group: Iterable[str], memo: Memo, offline: bool, since: float = 0) -> _Judged:
    """
    Judge the tokens that stand under one name. Those that verify must agree on who it is (SRC-06).

    Args:
        since: UNIX seconds; a token issued before is a left-over of an earlier sign-in.

    Raises:
        ClerkUnavailable: None is good, and of one it cannot be decided.
    """
    good: list[Verdict] = []
    refused: TokenRefused | None = None
    of: str | None = None
    unavailable: ClerkUnavailable | None = None
    for token in group:
        try:
            good.append(_judge(token, memo, offline, since=since))
        except TokenRefused as error:
            # A token that may be renewed says more than junk beside it.
            if refused is None or (error.reason in _RECOVERABLE and refused.reason not in _RECOVERABLE):
                refused, of = error, token
        except ClerkUnavailable as error:
            unavailable = unavailable or error
    if len({verdict.session for verdict in good}) > 1:
        return _Judged(None, TokenRefused("token-invalid", "two sessions under one name"), good[0].token)
    if good:
        return _Judged(max(good, key=lambda verdict: verdict.issued), _UNREADABLE)
    if unavailable is not None:
        raise unavailable
    return _Judged(None, refused or _UNREADABLE, of)


@sensitive_variables()
def _judge(
    token: str,
    memo: Memo,
    offline: bool,
    *,
    token_type: str = "session_token",
    since: float = 0,
    leeway: float | None = None,
) -> Verdict:
    """
    Return the verdict on a good JWT, out of memory if it is there.

    Args:
        token_type: What it has to be.
        since: See _judge_all().
        leeway: Clock difference allowed, in seconds; None for the configured one. What another one allows is not
            remembered.
    """
    settings = memo.config
    ring = keys.get_key_ring(settings)
    is_session = token_type == "session_token"
    verdicts = _verdicts(settings.fingerprint, token_type)
    digest = _digest(token)
    verdict = verdicts.get(digest)
    if verdict is not None:
        if verdict.holds(ring):
            if verdict.issued < since:
                raise TokenRefused(handshake.STALE)
            return verdict
        verdicts.drop(digest)
    parsed = tokens.parse(token) if is_session else tokens.parse_machine(token, token_type)
    if parsed.seen.issued is not None and parsed.seen.issued < since:
        raise TokenRefused(handshake.STALE)

    def verify(key: RSAPublicKey) -> dict[str, Any]:
        _send_once(signals.clerk_cache_miss, memo, token, offline)
        if is_session:
            return tokens.verify(parsed, key, settings, leeway=leeway)
        return tokens.verify_machine(parsed, key, settings, token_type)

    claims, key = _with_key(parsed, memo, offline, verify)
    text = json.dumps(claims, separators=(",", ":"))
    verdict = Verdict(
        auth=ClerkAuth.from_session(token, claims, text)
        if is_session
        else ClerkAuth.from_machine(
            token,
            token_type,
            claims,
            text,
            scopes=tokens.scopes_of(claims, token_type),
            expires=claims["exp"],
            actor=claims.get("act"),
        ),
        token=token,
        claims=text,
        session=(claims["sub"], claims["sid"] if is_session else ""),
        issued=claims.get("iat", 0),
        not_before=claims.get("nbf", 0),
        expires=claims["exp"],
        key_id=parsed.key_id,
        key=key,
        seen=parsed.seen,
    )
    if leeway is None:
        verdicts.put(digest, verdict)
    return verdict


def _with_key(
    parsed: tokens.Parsed, memo: Memo, offline: bool, verify: Callable[[RSAPublicKey], T]
) -> tuple[T, RSAPublicKey]:
    """Return what ``verify`` says, and the key with which it does not find the signature bad."""
    ring = keys.get_key_ring(memo.config)
    key = ring.peek(parsed.key_id) if offline else ring.get(parsed.key_id, memo.budget)
    if key is None:
        raise NotInMemory
    try:
        return verify(key), key
    except TokenRefused as refused:
        if refused.reason != "token-invalid-signature":
            raise
        if offline:
            raise NotInMemory from None
        # Clerk may have put another key under the same id; the ring looks, within its rate limit (KEY-02).
        another = ring.replace(parsed.key_id, key, memo.budget)
        if another is None:
            raise
        return verify(another), another


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


#: The state of a request that brings no credential of ours.
NOBODY = RequestState(
    "signed-out",
    "session-token-and-uat-missing",
    ClerkAuth.signed_out("session-token-and-uat-missing"),
    headers=handshake.report("signed-out", "session-token-and-uat-missing"),
)
