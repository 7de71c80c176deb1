"""
How does a request stand with Clerk, and what is known of it so far?

What authentication.py works out, and where it is kept: on the request itself. The doors read it here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from weakref import ref

from django.dispatch import Signal
from django.http import HttpRequest

from clerk_views import cookies, handshake, keys, signals, tokens
from clerk_views.auth import Claims, ClerkAuth
from clerk_views.calls import Budget
from clerk_views.conf import Config, config
from clerk_views.exceptions import ClerkUnavailable, NotInMemory

if TYPE_CHECKING:  # 25 ms to import
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

_ATTRIBUTE = "_clerk_views_memo"


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Proof:
    """
    A good token of whatever kind.

    Attributes:
        source: "api" when Clerk was asked about it for this request, else "cache".
        fresh_until: UNIX seconds until which the user is known to be in sync, so that only the row need be read.
    """

    auth: ClerkAuth
    token: str
    claims: str  # JSON text, for the reason given in auth.py
    source: Literal["api", "cache"] = "cache"
    fresh_until: float = 0.0


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Verdict(Proof):
    """A good JWT, as this process remembers it."""

    session: tuple[str, str]  # user id and session id: who it is
    issued: float
    not_before: float
    expires: float
    key_id: str | None
    key: RSAPublicKey
    seen: cookies.Seen
    has_party: bool = True  # whether the token says which page obtained it

    def holds(self, ring: keys.KeyRing) -> bool:
        """Whether it still counts: the token not expired, and its key still one of Clerk's."""
        return self.not_before <= tokens.now() < self.expires and ring.peek(self.key_id) is self.key


class RequestState(NamedTuple):
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
        arrived: Whether it is what a handshake brought that decided.
        asked: The kind of machine token that was asked for, where it is one alone.
    """

    status: str
    reason: str | None
    auth: ClerkAuth
    carrier: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    verdict: Proof | None = None
    arrived: bool = False
    asked: str | None = None

    def __repr__(self) -> str:
        return f"<RequestState {self.status} {self.reason}>"

    @property
    def is_signed_in(self) -> bool:
        """Whether a token was verified. Ask ``auth`` whether there is a user."""
        return self.status == "signed-in"

    @property
    def location(self) -> str | None:
        """Where a handshake leads next; None when there is none under way."""
        for name, value in self.headers:
            if name == "Location":
                return value
        return None

    @property
    def is_handshake(self) -> bool:
        """
        Whether the browser has to be redirected (307) to ``location`` before anything else, whatever the status.

        That is on its way to Clerk, and on a development instance also on its way back, who comes signed in or not.
        """
        return self.location is not None

    def without_redirect(self) -> RequestState:
        """Return how the request stands for a door that never redirects: a handshake reads as signed out."""
        if self.location is None:
            return self
        if self.status == "handshake" and self.reason is not None:
            outcome = handshake.signed_out(self.reason)
            auth = ClerkAuth.signed_out(self.reason)
            return self._replace(status=outcome.status, auth=auth, headers=outcome.headers)
        return self._replace(headers=tuple(pair for pair in self.headers if pair[0] != "Location"))

    @property
    def token(self) -> str | None:
        """The verified token; None when signed out."""
        return self.verdict.token if self.verdict else None

    @property
    def token_type(self) -> str | None:
        """
        The kind of the verified token, pending sessions' included.

        When signed out: the kind of machine token that was asked for, if that is one alone; else None. Source: Clerk's
        backend SDK, "acceptsToken".
        """
        return (self.verdict.auth.token_type or "session_token") if self.verdict else self.asked

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


class Memo:
    """
    What is known of one request. Kept on the request itself: no state of one request can reach another (CTX-01).

    Its type is its brand: whatever another component leaves under the same name is not looked at (MWR-02).

    What is not known yet stands on the class alone: most requests learn little of it. Measured: 2 µs each.

    Attributes:
        accepts: The kinds of token that count for whoever asked last.
    """

    found: tokens.Found | None = None
    recalled: tuple[tuple[str, str], bytes, Verdict | None] | None = None  # see verdicts.recall()
    pieces: tuple[str, tokens.Pieces] | None = None  # see verdicts.apart()
    state: RequestState | None = None  # for what is accepted
    judged: RequestState | None = None  # of the one credential that may count
    kind: str | None = None  # of the bearer token, once looked at
    apart: bool = False  # of handshakes, as REST framework's views are
    unavailable: ClerkUnavailable | None = None
    reported: frozenset[tuple[int, str | None]] = frozenset()  # the signals sent
    user: Any = None
    user_error: Exception | None = None
    auth: ClerkAuth | None = None  # what a view sees, once that is settled
    attached: bool = False  # the user, loaded already
    refusal: Any = None  # of the permission that REST framework asked last, see drf.py
    looking: bool = False  # at what REST framework's permissions ask for, likewise

    def __init__(self, request: HttpRequest, config: Config) -> None:
        self._request = ref(request)  # so that a request ends with its last use, and not with the next garbage run
        self.config = config
        self.accepts = config.accepts_token

    @cached_property
    def budget(self) -> Budget:
        """The seconds left to wait for Clerk."""
        return Budget(self.config.timeout)

    @property
    def request(self) -> HttpRequest:
        """The request that it is kept on, and lives no longer than."""
        return self._request()  # type: ignore[return-value]  # there as long as somebody has it to ask


def django_request(request: Any) -> HttpRequest:
    """
    Return Django's own request, also for REST framework's wrapper around it.

    Raises:
        TypeError: It is none.
    """
    request = getattr(request, "_request", request)
    if not isinstance(request, HttpRequest):
        raise TypeError(
            f"Clerk authenticates a Django HttpRequest; it was given {type(request).__name__}. On a method of a class, "
            "use method_decorator; for WebSockets, verify the token of the handshake's HTTP request."
        )
    return request


def known_memo(request: HttpRequest) -> Memo | None:
    """Return the memo of a request; None where nobody has asked anything of it."""
    memo = request.__dict__.get(_ATTRIBUTE)
    return memo if type(memo) is Memo and memo.request is request else None


def memo_of(request: Any) -> Memo:
    """Return the memo of a request, REST framework's wrapper or Django's own."""
    base = django_request(request)
    memo = known_memo(base)
    if memo is None:
        memo = base.__dict__[_ATTRIBUTE] = Memo(base, config())
    return memo


def report_failure(memo: Memo, reason: str, token: str | None, *, offline: bool = False) -> None:
    """Send ``clerk_auth_failed``, once per request."""
    send_once(signals.clerk_auth_failed, memo, token, offline, reason=reason)


def send_once(signal: Signal, memo: Memo, token: str | None, offline: bool, **values: Any) -> None:
    sender = type(memo.request)
    mark = (id(signal), token)
    if mark in memo.reported or not signal.receivers or not signal.has_listeners(sender):
        return  # most projects listen to nothing: 3 µs less to look at the list of receivers first
    if offline:
        raise NotInMemory  # a receiver may want the database, which no event loop should wait for
    memo.reported |= {mark}
    token_hash = None if token is None else hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
    signal.send_robust(sender, token_hash=token_hash, request=memo.request, **values)


#: The state of a request that brings no credential of ours.
NOBODY = RequestState(
    "signed-out",
    "session-token-and-uat-missing",
    ClerkAuth.signed_out("session-token-and-uat-missing"),
    headers=handshake.report("signed-out", "session-token-and-uat-missing"),
)
