"""
What stands around a view: the one guard of decorators and mixins, and the user whom it admits.

The fork between sync and async is here, in ``guard``, and nowhere else. What decides is written once: it first tries
with what memory holds; if that does not suffice on an event loop, all that is left to do takes one hop to a thread.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial, wraps
from typing import Any
from weakref import ref

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.functional import SimpleLazyObject

from clerk_views import answers, csrf, signals
from clerk_views.auth import ClerkAuth
from clerk_views.authentication import aauthenticate, authenticate
from clerk_views.exceptions import AccountRefused, ClerkError, ClerkUnavailable, NotInMemory
from clerk_views.requirements import Refusal, Requirement
from clerk_views.states import Memo, Proof, RequestState, memo_of, report_failure

logger = logging.getLogger("clerk_views")

View = Callable[..., Any]

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
        state = authenticate(request, offline=offline)
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
        memo.attached = True
        base = memo.request
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

    for target in {id(memo.request): memo.request, id(request): request}.values():
        target.user = user
        target.auser = auser


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
    state = await sync_to_async(authenticate, thread_sensitive=False)(request)
    if memo.session_auser is not None and not state.auth.is_authenticated and state.carrier != "header":
        user = await memo.session_auser()
    else:
        user = await sync_to_async(user_of)(request)
    request.user = user  # templates that follow need no database
    return user


def admit(
    request: Any, requirement: Requirement, view: View, url_kwargs: Mapping[str, Any], *, offline: bool = False
) -> HttpResponseBase | None:
    """
    Return None if the visitor may pass, with ``request.clerk`` and the user set; else the answer he gets.

    Args:
        url_kwargs: What the URL gave the view.

    Raises:
        NotInMemory: ``offline``, and memory does not suffice.
    """
    base = memo_of(request).request
    accepts = requirement.accepted
    # Where no session counts, no browser can be helped by signing in.
    page = is_page(request, view) and "session_token" in accepts
    try:
        state = authenticate(request, accepts=accepts, offline=offline)
        if not page:
            state = state.without_redirect()
        elif state.is_handshake:
            return answers.Handshake()
        auth = auth_for(state, requirement)
        attach(request, auth)
        if not auth.is_authenticated and not requirement.optional:
            return _refuse(request, state, requirement, page, offline)
        if auth.is_authenticated and state.carrier == "header":
            csrf.exempt(base)
        elif csrf.must_check(base) and _must_prove_intent(auth.is_authenticated, view):
            if offline:
                raise NotInMemory  # the secret may be in the session, and so in the database
            if csrf.failure(base):
                return answers.forbidden(base, "csrf-failed", page=False)
        if not requirement.optional:
            if requirement.condition is not None and offline:
                raise NotInMemory  # a condition may read the database
            refusal = refusal_of(requirement, auth, url_kwargs)
            if refusal is not None:
                if page and offline:
                    raise NotInMemory  # the project's own page may read the database
                return answers.refused(base, refusal, page=page)
            attach_user(request, load_user(request, offline=offline))
    except ClerkError as problem:
        return answer(request, problem, page=page)
    return None


def auth_for(state: RequestState, requirement: Requirement) -> ClerkAuth:
    """Return what a view of this requirement sees as ``request.clerk``."""
    return state.auth_if_pending_allowed if requirement.allow_pending else state.auth


def refusal_of(requirement: Requirement, auth: ClerkAuth, url_kwargs: Mapping[str, Any]) -> Refusal | None:
    """See Requirement.refusal(); what was not met is logged, as the visitor is not told."""
    refusal = requirement.refusal(auth, url_kwargs)
    if refusal is not None:
        whose = auth.user_id or auth.machine_id or auth.org_id
        logger.info("%.100r does not meet a view's requirement: %.200s", whose, refusal.detail)
    return refusal


def is_page(request: Any, view: View | None = None) -> bool:
    """Whether to answer with a page. REST framework's views and requests never want one, nor a redirect."""
    if not isinstance(request, HttpRequest) or hasattr(getattr(view, "cls", None), "authentication_classes"):
        return False
    return answers.is_page_navigation(request)


def _must_prove_intent(by_cookie: bool, view: View) -> bool:
    """
    Whether an unsafe request must pass the CSRF check.

    Always where a Clerk cookie says who is calling. Else as the project's own middleware would have it, which left this
    view to us.
    """
    return by_cookie or (not getattr(view, "csrf_exempt", False) and csrf.site_enforces())


def _refuse(request: Any, state: RequestState, requirement: Requirement, page: bool, offline: bool) -> HttpResponseBase:
    base = memo_of(request).request
    if requirement.raise_exception:
        if page and offline:
            raise NotInMemory  # the project's own page may read the database
        return answers.forbidden(base, state.auth.reason or state.auth.status, page=page)
    return answers.unauthenticated(
        base, state, page=page, login_url=requirement.login_url, redirect_field_name=requirement.redirect_field_name
    )


def answer(request: Any, problem: ClerkError, *, page: bool | None = None) -> HttpResponseBase:
    """
    Answer an error of ours that came up on the way.

    Args:
        page: Whether with a page; None: as the request has it.
    """
    # It loads models.
    from django.contrib.auth.models import AnonymousUser

    if page is None:
        page = is_page(request)
    if page:  # which may show who is signed in, and must not meet the same error by asking
        state = memo_of(request).state
        attach_clerk(request, ClerkAuth.signed_out(problem.reason) if state is None else state.auth)
        attach_user(request, AnonymousUser())
    return answers.error(memo_of(request).request, problem, page=page)


def keep_refusal(problem: Exception | None) -> None:
    """Write once more what shut an account, if the refusal has undone it. Call it after the request's transaction."""
    if isinstance(problem, AccountRefused) and problem.rewrite is not None:
        with suppress(ClerkError):  # logged where it came up
            problem.rewrite()


def _finish(request: Any, response: Any, requirement: Requirement) -> Any:
    """Set the caching headers of a response that depends on who is calling."""
    if isinstance(response, HttpResponseBase):  # else Django says what is wrong with it
        state = memo_of(request).state
        if state is not None:
            answers.carry(response, state)
        answers.mark_private(response, personal=not requirement.optional or state is None or state.carrier is not None)
    return response


def guard(
    view: View, requirement: Requirement, *, is_async: bool | None = None, view_class: type | None = None
) -> View:
    """
    Put a requirement around a view, sync or async.

    The view is exempt from Django's own CSRF and login middleware, because the guard does both: only it knows whether a
    verified bearer token, which needs no CSRF token, made the request.

    Args:
        is_async: Whether the view is; None: look at it.
        view_class: The class whose ``dispatch`` the view is; None for a function.
    """
    if is_async is None:
        is_async = iscoroutinefunction(view)
    if is_async:

        @wraps(view)
        async def guarded(request: Any, *args: Any, **kwargs: Any) -> Any:
            response = await _aadmit(request, requirement, view, kwargs)
            if response is None:
                try:
                    response = await view(request, *args, **kwargs)
                except _ANSWERED as problem:
                    response = await sync_to_async(_answer_raised)(request, problem, guarded, view_class)
                    if response is None:
                        raise
            return _finish(request, response, requirement)

    else:

        @wraps(view)
        def guarded(request: Any, *args: Any, **kwargs: Any) -> Any:
            response = admit(request, requirement, view, kwargs)
            if response is None:
                try:
                    response = view(request, *args, **kwargs)
                except _ANSWERED as problem:
                    response = _answer_raised(request, problem, guarded, view_class)
                    if response is None:
                        raise
            return _finish(request, response, requirement)

    guarded.csrf_exempt = True  # type: ignore[attr-defined]  # Django's own marks
    guarded.login_required = False  # type: ignore[attr-defined]
    return guarded


async def _aadmit(
    request: Any, requirement: Requirement, view: View, url_kwargs: Mapping[str, Any]
) -> HttpResponseBase | None:
    try:
        return admit(request, requirement, view, url_kwargs, offline=True)
    except NotInMemory:
        return await sync_to_async(admit)(request, requirement, view, url_kwargs)


_ANSWERED = (AccountRefused, ClerkUnavailable, *answers.CLIENT_ERRORS)


def _answer_raised(request: Any, problem: Exception, guarded: View, view_class: type | None) -> HttpResponseBase | None:
    """Answer what a guarded view raised; None if that is somebody else's to answer."""
    if isinstance(problem, (AccountRefused, ClerkUnavailable)):
        return answer(request, problem)
    match = request.resolver_match if isinstance(request, HttpRequest) else None
    served: Any = None if match is None else match.func
    is_class = view_class is not None and getattr(served, "view_class", None) is view_class
    if served is guarded or (is_class and not hasattr(served, "__wrapped__")):
        return answers.client_error(request, problem)
    return None  # there is a decorator around us, which may want to hear of it
