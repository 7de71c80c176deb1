"""
Who is behind a request, as a view sees him: ``request.clerk`` and the Django user.

Both are there for whoever asks, with or without a guard around the view; the row is read when somebody wants it.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any
from weakref import ref

from asgiref.sync import sync_to_async
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from clerk_views import csrf, signals
from clerk_views.auth import ClerkAuth
from clerk_views.authentication import aauthenticate, authenticate
from clerk_views.exceptions import AccountRefused, ClerkUnavailable, NotInMemory
from clerk_views.states import Memo, Proof, RequestState, memo_of, report_failure

_ORIGIN = "_clerk_views_origin"


def get_clerk(request: Any) -> ClerkAuth:
    """
    Return who is calling, for code outside a decorated view; inside one, what ``request.clerk`` is.

    Nobody, where a cookie came with an unsafe method and without Django's CSRF token: any other site can send that.

    Raises:
        ClerkUnavailable: It cannot be decided now. Not the same as nobody.
    """
    memo = memo_of(request)
    if memo.auth is None:
        state = authenticate(request)
        forgeable = state.auth.is_authenticated and state.carrier == "cookie" and csrf.must_check(memo.request)
        memo.auth = ClerkAuth.signed_out("csrf-failed") if forgeable and csrf.failure(memo.request) else state.auth
    return memo.auth


async def aget_clerk(request: Any) -> ClerkAuth:
    """See get_clerk()."""
    state = await aauthenticate(request)
    # The secret of the CSRF check may be in the session, and so in the database.
    on_loop = state.carrier != "cookie" or not csrf.must_check(memo_of(request).request)
    return get_clerk(request) if on_loop else await sync_to_async(get_clerk)(request)


def load_user(request: Any, *, offline: bool = False) -> Any:
    """
    Return the Django user of a signed-in request; nobody for a token that is a machine's or an organisation's.

    Asks once per request.

    Raises:
        AccountRefused: The account is inactive, gone, or may not be linked.
        ClerkUnavailable: Clerk or the database is away, and the user is not known here.
        NotInMemory: ``offline``: a user is a row, and a row is read from the database.
    """
    memo = memo_of(request)
    if memo.user_error is not None:
        raise memo.user_error
    if memo.user is None:
        state = memo.state or authenticate(request, offline=offline)
        try:
            if state.verdict is None or not state.auth_if_pending_allowed.is_authenticated:
                raise AccountRefused("session-token-missing", "nobody is signed in")
            memo.user = _resolve(memo, state, state.verdict, offline)
        except (AccountRefused, ClerkUnavailable) as error:
            memo.user_error = error
            raise
    return memo.user


def _resolve(memo: Memo, state: RequestState, verdict: Proof, offline: bool) -> Any:
    sender = type(memo.request)
    clerk_id = state.auth_if_pending_allowed.user_id
    if clerk_id is None:
        # A machine never becomes a user row (MCH-03). It loads models, too.
        from django.contrib.auth.models import AnonymousUser

        if offline and signals.clerk_auth_success.has_listeners(sender):
            raise NotInMemory
        nobody = AnonymousUser()
        signals.clerk_auth_success.send_robust(
            sender, user=nobody, source=verdict.source, auth=state.auth, request=memo.request
        )
        return nobody
    if offline:
        raise NotInMemory
    # It loads models, which are not there yet when an app's modules import our decorators.
    from clerk_views import accounts

    # What a machine token claims may have been put there by whoever made it, and describes no user.
    describes = memo.config.user_source == "claims" and state.token_type == "session_token"
    try:
        resolved = accounts.resolve(
            clerk_id,
            json.loads(verdict.claims) if describes else {},
            config=memo.config,
            budget=memo.budget,
            sender=sender,
            fresh_until=verdict.fresh_until,
        )
    except AccountRefused as error:
        report_failure(memo, error.reason, verdict.token)
        raise
    verdict.fresh_until = resolved.fresh_until
    resolved.user.__dict__[_ORIGIN] = _Origin(memo.request)
    signals.clerk_auth_success.send_robust(
        sender,
        user=resolved.user,
        source="api" if verdict.source == "api" else resolved.source,
        auth=state.auth_if_pending_allowed,  # nobody with open tasks comes here whom his view does not admit
        request=memo.request,
    )
    return resolved.user


class _Origin:
    """On a user object: the request for which it was loaded, as long as that lasts. It does not go into pickles."""

    def __init__(self, request: HttpRequest | None = None) -> None:
        self._request = None if request is None else ref(request)

    @property
    def request(self) -> HttpRequest | None:
        return None if self._request is None else self._request()

    def __reduce__(self) -> tuple[type[_Origin], tuple[()]]:
        return _Origin, ()


def auth_of_user(user: Any) -> ClerkAuth | None:
    """
    Return what the current request's token says of a user, for code that is handed the user alone.

    None for every object but the one that is ``request.user``: another one of the same user, loaded by somebody else or
    kept from an earlier request, must not speak with this request's rights.
    """
    origin = user.__dict__.get(_ORIGIN)
    request = origin.request if isinstance(origin, _Origin) else None
    memo = None if request is None else memo_of(request)
    if memo is None or memo.user is not user or memo.state is None:
        return None
    return memo.state.auth_if_pending_allowed  # whoever was not admitted with open tasks has no user


def attach(request: Any, auth: ClerkAuth | None = None) -> None:
    """
    Set ``request.clerk``, ``request.user`` and ``request.auser``, the user lazily.

    Without Clerk credentials, or with a stale or bad cookie, a session user stays who he is. A presented bearer
    decides alone: a bad one makes the request anonymous.

    Args:
        auth: What ``request.clerk`` is to be; None: worked out when asked for.
    """
    attach_clerk(request, auth)
    memo = memo_of(request)
    if not memo.attached:
        base = memo.request
        if auth is not None and memo.state is not None and memo.state.carrier is None:
            # Nobody has brought anything, and so nobody is there but for a session's user. Measured: a lazy user that
            # is to say the same costs 3 µs.
            if "user" not in base.__dict__:
                # It loads models, too.
                from django.contrib.auth.models import AnonymousUser

                attach_user(request, AnonymousUser())
            return
        memo.attached = True
        memo.session_user = base.__dict__.get("user")
        memo.session_auser = base.__dict__.get("auser")
        base.user = SimpleLazyObject(_LazyUser(base))  # type: ignore[assignment]  # lazy, as Django's own
        base.auser = partial(_auser_of, base)  # likewise


class _LazyUser:
    """Finds the user of a request, and then lets go of it: who keeps the user must not keep the request's rights."""

    def __init__(self, request: HttpRequest) -> None:
        self._request: HttpRequest | None = request
        self._user: Any = None

    def __call__(self) -> Any:
        if self._request is not None:
            self._user = user_of(self._request)
            self._request = None
        return self._user


def attach_clerk(request: Any, auth: ClerkAuth | None = None) -> None:
    """Set ``request.clerk`` alone. See attach()."""
    memo = memo_of(request)
    base = memo.request
    if auth is not None:
        memo.auth = auth
    request.clerk = base.clerk = auth or SimpleLazyObject(partial(get_clerk, base))  # type: ignore[attr-defined]  # ours to add


def attach_user(request: Any, user: Any) -> None:
    """Set ``request.user`` to the user himself, loaded already."""
    memo = memo_of(request)
    memo.attached = True

    async def auser() -> Any:
        return user

    base: Any = memo.request
    base.user, base.auser = user, auser
    if request is not base:  # but REST framework's, around it
        request.user, request.auser = user, auser


def user_of(request: HttpRequest) -> Any:
    """Return the user a request is made by: Clerk's, else the session's, else nobody."""
    # It loads models, too.
    from django.contrib.auth.models import AnonymousUser

    memo = memo_of(request)
    auth = get_clerk(request)
    if auth.is_authenticated:
        return load_user(request)
    # Whoever presents a bearer has chosen it; and behind a forged request nobody stands.
    if memo.session_user is None or authenticate(request).carrier == "header" or auth.reason == "csrf-failed":
        return AnonymousUser()
    return memo.session_user


async def _auser_of(request: HttpRequest) -> Any:
    memo = memo_of(request)
    state = await aauthenticate(request)
    if memo.session_auser is not None and not state.auth.is_authenticated and state.carrier != "header":
        user = await memo.session_auser()
    else:
        user = await sync_to_async(user_of)(request)
    request.user = user  # templates that follow need no database
    return user
