"""
Who is behind a request, as a view sees him: ``request.clerk`` and the Django user.

Both are there for whoever asks, with or without a guard around the view; the row is read when somebody wants it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

from asgiref.sync import sync_to_async
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject, empty

from clerk_views import csrf, signals
from clerk_views.auth import ClerkAuth
from clerk_views.authentication import aauthenticate, state_of
from clerk_views.exceptions import AccountRefused, ClerkUnavailable, NotInMemory
from clerk_views.states import Memo, Proof, django_request, known_memo, memo_of, report_failure

if TYPE_CHECKING:  # see the end
    from django.contrib.auth.models import AnonymousUser

    from clerk_views.accounts import Resolved

_ORIGIN = "_clerk_views_origin"
_REPLACED = "_clerk_views_replaced"


def get_clerk(request: Any) -> ClerkAuth:
    """
    Return who is calling, for code outside a decorated view; inside one, what ``request.clerk`` is.

    Nobody, where a cookie came with an unsafe method and without Django's CSRF token: any other site can send that.

    Raises:
        ClerkUnavailable: It cannot be decided now. Not the same as nobody.
    """
    memo = memo_of(request)
    if memo.auth is None:
        state = state_of(memo)
        forgeable = state.auth.is_authenticated and state.carrier == "cookie" and csrf.must_check(memo.request)
        memo.auth = ClerkAuth.signed_out("csrf-failed") if forgeable and csrf.failure(memo.request) else state.auth
    return memo.auth


async def aget_clerk(request: Any) -> ClerkAuth:
    """See get_clerk()."""
    state = await aauthenticate(request)
    # The secret of the CSRF check may be in the session, and so in the database.
    on_loop = state.carrier != "cookie" or not csrf.must_check(memo_of(request).request)
    return get_clerk(request) if on_loop else await sync_to_async(get_clerk)(request)


def load_user(memo: Memo, *, offline: bool = False) -> Any:
    """
    Return the Django user of a signed-in request; nobody for a token that is a machine's or an organisation's.

    Asks once per request.

    Raises:
        AccountRefused: The account is inactive, gone, or may not be linked.
        ClerkUnavailable: Clerk or the database is away, and the user is not known here.
        NotInMemory: ``offline``: a user is a row, and a row is read from the database.
    """
    if memo.user_error is not None:
        raise memo.user_error
    if memo.user is None:
        state = memo.state or state_of(memo, offline=offline)
        try:
            auth = state.auth_if_pending_allowed  # nobody with open tasks comes here whom his view does not admit
            if state.verdict is None or not auth.is_authenticated:
                raise AccountRefused("session-token-missing", "nobody is signed in")
            memo.user = _resolve(memo, auth, state.verdict, offline)
        except (AccountRefused, ClerkUnavailable) as error:
            memo.user_error = error
            raise
    return memo.user


def _resolve(memo: Memo, auth: ClerkAuth, verdict: Proof, offline: bool) -> Any:
    request = memo.request
    sender = type(request)
    clerk_id = auth.user_id
    if clerk_id is None:
        # A machine never becomes a user row (MCH-03).
        if offline and signals.clerk_auth_success.has_listeners(sender):
            raise NotInMemory
        nobody = _nobody()
        signals.clerk_auth_success.send_robust(sender, user=nobody, source=verdict.source, auth=auth, request=request)
        return nobody
    if offline:
        raise NotInMemory
    # What a machine token claims may have been put there by whoever made it, and describes no user.
    describes = memo.config.user_source == "claims" and auth.token_type == "session_token"
    try:
        resolved = _resolver()(
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
    resolved.user.__dict__[_ORIGIN] = _Origin(request)
    signals.clerk_auth_success.send_robust(
        sender,
        user=resolved.user,
        source="api" if verdict.source == "api" else resolved.source,
        auth=auth,
        request=request,
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


def attach_lazily(request: HttpRequest) -> None:
    """
    Set ``request.clerk``, ``request.user`` and ``request.auser``, all to be found out when somebody asks.

    Without Clerk credentials, or with a stale or bad cookie, a session user stays who he is. A presented bearer
    decides alone: a bad one makes the request anonymous.
    """
    request.clerk = _Lazy(partial(get_clerk, request))  # type: ignore[attr-defined]  # ours to add
    if replaced(request) is None:
        _attach_lazy_user(request)


def attach(request: Any, memo: Memo, auth: ClerkAuth) -> None:
    """Set ``request.clerk``, and ``request.user`` and ``request.auser`` lazily. See attach_lazily()."""
    attach_clerk(request, memo, auth)
    base = memo.request
    if memo.attached or (_REPLACED in base.__dict__ and replaced(base) is not None):
        return
    if memo.state is None or memo.state.carrier is not None:
        _attach_lazy_user(base)
    elif "user" not in base.__dict__:
        # Nobody has brought anything, and there is no session's user. Measured: a lazy user that is to say the same
        # costs 3 µs.
        _set_user(request, base, _nobody())


def _attach_lazy_user(base: Any) -> None:
    found = base.__dict__
    found[_REPLACED] = Replaced(ref(base), found.get("user"), found.get("auser"))
    base.user = _Lazy(_LazyUser(base))
    base.auser = partial(_auser_of, base)


class Replaced(NamedTuple):
    """
    The user that the project's own middleware had found, in whose place ours was put; None where there was none.

    Kept on the request and not in its memo: of most requests behind ClerkMiddleware nothing is asked, and then there
    need be no memo. Measured: it would be half of what they cost.
    """

    of: Callable[[], HttpRequest | None]  # weak; a copy of the request has attributes of its own to find
    user: Any = None
    auser: Any = None


_NOBODY_REPLACED = Replaced(lambda: None)


def replaced(request: HttpRequest) -> Replaced | None:
    """Return whom ours was put in the place of; None where it was put nowhere yet."""
    found = request.__dict__.get(_REPLACED)
    if type(found) is Replaced and found.of() is request:
        return found
    memo = known_memo(request)
    return _NOBODY_REPLACED if memo is not None and memo.attached else None


class _Lazy(SimpleLazyObject):  # type: ignore[type-arg]  # it takes none outside the stubs
    """What Django makes of SimpleLazyObject(), without its four calls in Python: 2 µs less for each."""

    _wrapped = empty  # here, as Django's own look at the names of an instance is one of the four

    def __init__(self, find: Callable[[], Any]) -> None:
        object.__setattr__(self, "_setupfunc", find)


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


def attach_lazy_clerk(request: Any) -> None:
    """Set ``request.clerk`` alone, to be found out when somebody asks."""
    base: Any = django_request(request)
    request.clerk = base.clerk = _Lazy(partial(get_clerk, base))


def attach_clerk(request: Any, memo: Memo, auth: ClerkAuth) -> None:
    """Set ``request.clerk`` alone."""
    base: Any = memo.request
    memo.auth = request.clerk = base.clerk = auth  # of REST framework's request, and of Django's within it


def attach_user(request: Any, memo: Memo, user: Any) -> None:
    """Set ``request.user`` to the user himself, loaded already."""
    memo.attached = True
    _set_user(request, memo.request, user)


def _set_user(request: Any, base: Any, user: Any) -> None:
    auser = partial(_himself, user)
    base.user, base.auser = user, auser
    if request is not base:  # but REST framework's, around it
        request.user, request.auser = user, auser


async def _himself(user: Any) -> Any:
    return user


def user_of(request: HttpRequest) -> Any:
    """Return the user a request is made by: Clerk's, else the session's, else nobody."""
    auth = get_clerk(request)
    memo = memo_of(request)
    if auth.is_authenticated:
        return load_user(memo)
    before = replaced(request)
    # Whoever presents a bearer has chosen it; and behind a forged request nobody stands.
    if before is None or state_of(memo).carrier == "header" or auth.reason == "csrf-failed":
        return _nobody()
    return _nobody() if before.user is None else before.user


async def _auser_of(request: HttpRequest) -> Any:
    before = replaced(request)
    state = await aauthenticate(request)
    if before and before.auser is not None and not state.auth.is_authenticated and state.carrier != "header":
        user = await before.auser()
    else:
        user = await sync_to_async(user_of)(request)
    request.user = user  # templates that follow need no database
    return user


# What loads models, which are not there yet when an app's modules import our decorators. Measured: an import costs 1 µs
# each time that it is come by.


@cache
def _resolver() -> Callable[..., Resolved]:
    from clerk_views import accounts

    return accounts.resolve


@cache
def _anonymous() -> type[AnonymousUser]:
    from django.contrib.auth.models import AnonymousUser

    return AnonymousUser


def _nobody() -> AnonymousUser:
    return _anonymous()()
