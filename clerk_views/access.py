"""
What stands around a view: the one guard of decorators and mixins.

The fork between sync and async is here, in ``guard``, and nowhere else. What decides is written once: it first tries
with what memory holds; if that does not suffice on an event loop, all that is left to do takes one hop to a thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial, wraps
from inspect import isawaitable
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views.generic.base import View as ClassBasedView

from clerk_views import answers, csrf
from clerk_views.auth import ClerkAuth
from clerk_views.authentication import state_of
from clerk_views.conf import Config
from clerk_views.exceptions import AccountRefused, ClerkError, ClerkUnavailable, NotInMemory
from clerk_views.handshake import is_page_navigation
from clerk_views.requirements import Refusal, Requirement
from clerk_views.states import Memo, RequestState, memo_of
from clerk_views.visitors import attach, attach_clerk, attach_user, load_user

logger = logging.getLogger("clerk_views")

View = Callable[..., Any]


def admit(
    request: Any,
    memo: Memo,
    requirement: Requirement,
    view: View,
    url_kwargs: Mapping[str, Any],
    *,
    offline: bool = False,
) -> HttpResponseBase | None:
    """
    Return None if the visitor may pass, with ``request.clerk`` and the user set; else the answer he gets.

    Args:
        memo: The request's.
        url_kwargs: What the URL gave the view.

    Raises:
        NotInMemory: ``offline``, and memory does not suffice.
    """
    base = memo.request
    accepts = requirement.accepted(memo.config)
    # Where no session counts, no browser can be helped by signing in.
    page = is_page(request, view) and "session_token" in accepts
    try:
        state = state_of(memo, accepts=accepts, page=page, offline=offline)
        if not page:
            state = state.without_redirect()
        elif state.is_handshake:
            return answers.Handshake()
        auth = auth_for(state, requirement)
        # Whoever is let in below is loaded anyway, and no other request.user is asked for till then but by conditions:
        # a lazy one would cost 3 µs in vain.
        is_authenticated, optional = auth.is_authenticated, requirement.optional
        shown = not is_authenticated or optional or requirement.condition is not None
        (attach if shown else attach_clerk)(request, memo, auth)
        if not is_authenticated and not optional:
            return _refuse(request, state, requirement, page, offline)
        if is_authenticated and state.carrier == "header":
            csrf.exempt(base)
        elif csrf.must_check(base) and _must_prove_intent(is_authenticated, view):
            if offline:
                raise NotInMemory  # the secret may be in the session, and so in the database
            if csrf.failure(base):
                attach(request, memo, auth)
                return answers.forbidden(base, "csrf-failed", page=False)
        if not optional:
            if requirement.condition is not None and offline:
                raise NotInMemory  # a condition may read the database
            refusal = refusal_of(requirement, auth, url_kwargs, memo.config)
            if refusal is not None:
                attach(request, memo, auth)
                if page and offline:
                    raise NotInMemory  # the project's own page may read the database
                return answers.refused(base, refusal, page=page)
            try:
                attach_user(request, memo, load_user(memo, offline=offline))
            except ClerkError:
                attach(request, memo, auth)
                raise
    except ClerkError as problem:
        return answer(request, problem, page=page)
    return None


def auth_for(state: RequestState, requirement: Requirement) -> ClerkAuth:
    """Return what a view of this requirement sees as ``request.clerk``."""
    return state.auth_if_pending_allowed if requirement.allow_pending else state.auth


def refusal_of(
    requirement: Requirement, auth: ClerkAuth, url_kwargs: Mapping[str, Any], config: Config
) -> Refusal | None:
    """
    See Requirement.refusal(); what was not met is logged, as the visitor is not told.

    A condition that raises PermissionDenied says no in Django's own word.
    """
    try:
        refusal = requirement.refusal(auth, url_kwargs, config)
    except AccountRefused:
        raise
    except PermissionDenied:
        refusal = Refusal(detail="condition")
    if refusal is not None:
        whose = auth.user_id or auth.machine_id or auth.org_id
        logger.info("%.100r does not meet a view's requirement: %.200s", whose, refusal.detail)
    return refusal


def is_page(request: Any, view: View | None = None) -> bool:
    """Whether to answer with a page. REST framework's views and requests never want one, nor a redirect."""
    if not isinstance(request, HttpRequest) or not is_page_navigation(request):
        return False
    return not hasattr(getattr(view, "cls", None), "authentication_classes")


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
    memo = memo_of(request)
    if page:  # which may show who is signed in, and must not meet the same error by asking
        auth = ClerkAuth.signed_out(problem.reason) if memo.state is None else memo.state.auth
        attach_clerk(request, memo, auth)
        attach_user(request, memo, AnonymousUser())
    return answers.error(memo.request, problem, page=page)


def keep_refusal(problem: Exception | None) -> None:
    """Write once more what shut an account, if the refusal has undone it. Call it after the request's transaction."""
    if isinstance(problem, AccountRefused) and problem.rewrite is not None:
        rewrite, problem.rewrite = problem.rewrite, None  # once is enough, whoever comes first
        with suppress(ClerkError):  # logged where it came up
            rewrite()


def _finish(memo: Memo, response: Any, requirement: Requirement) -> Any:
    """Set the caching headers of a response that depends on who is calling."""
    if isinstance(response, HttpResponseBase):  # else Django says what is wrong with it
        state = memo.state
        answers.finish(response, state, personal=not requirement.optional or state is None or state.carrier is not None)
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
        is_async = _is_async(view)
    if is_async:

        @wraps(view)
        async def guarded(request: Any, *args: Any, **kwargs: Any) -> Any:
            memo = memo_of(request)
            try:
                response = await _aadmit(request, memo, requirement, view, kwargs)
                if response is None:
                    response = view(request, *args, **kwargs)
                    if isawaitable(response):  # else the dispatch of an async class has answered by itself
                        response = await response
            except _ANSWERED as problem:
                response = await sync_to_async(_answer_raised)(request, problem, guarded, view_class)
                if response is None:
                    raise
            return _finish(memo, response, requirement)

    else:

        @wraps(view)
        def guarded(request: Any, *args: Any, **kwargs: Any) -> Any:
            memo = memo_of(request)
            try:
                response = admit(request, memo, requirement, view, kwargs)
                if response is None:
                    response = view(request, *args, **kwargs)
            except _ANSWERED as problem:
                response = _answer_raised(request, problem, guarded, view_class)
                if response is None:
                    raise
            return _finish(memo, response, requirement)

    guarded.csrf_exempt = True  # type: ignore[attr-defined]  # Django's own marks
    guarded.login_required = False  # type: ignore[attr-defined]
    return guarded


def _is_async(view: Any) -> bool:
    """
    Whether a view gives what has to be awaited.

    A class says it of its handlers alone: its ``dispatch`` is a plain function that returns what they give.
    ``method_decorator`` hands it to us bound, in a partial that pretends (``__wrapped__``) not to be.
    """
    if iscoroutinefunction(view):
        return True
    while view is not None:
        instance = getattr(view, "__self__", None)
        if isinstance(instance, ClassBasedView):
            return instance.view_is_async
        view = view.func if isinstance(view, partial) else getattr(view, "__wrapped__", None)
    return False


async def _aadmit(
    request: Any, memo: Memo, requirement: Requirement, view: View, url_kwargs: Mapping[str, Any]
) -> HttpResponseBase | None:
    try:
        return admit(request, memo, requirement, view, url_kwargs, offline=True)
    except NotInMemory:
        return await sync_to_async(admit)(request, memo, requirement, view, url_kwargs)


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
