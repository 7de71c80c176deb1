"""
``ClerkMiddleware``: ``request.clerk`` and ``request.user`` for the whole site, both lazy.

It refuses nobody; protect views by the decorators, the mixins or Django's own ``login_required``. A view that never
asks costs no row. Its token is looked at in two cases all the same: of a browser that opens a page, as it may have to
make the detour to Clerk first; and under ASGI, as code on the event loop cannot wait for Clerk when it asks.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.apps import apps
from django.conf import settings
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.auth.views import redirect_to_login
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, Resolver404, resolve
from django.utils.module_loading import import_string

from clerk_views import addresses, answers, cookies, csrf
from clerk_views.access import answer, is_page, keep_refusal
from clerk_views.authentication import aauthenticate, authenticate, is_foreign
from clerk_views.exceptions import AccountRefused, ClerkError, ClerkUnavailable
from clerk_views.handshake import is_page_navigation
from clerk_views.states import RequestState, known_memo, memo_of
from clerk_views.visitors import attach_lazily, user_of

_HANDLER = convert_exception_to_response.__module__


class ClerkMiddleware:
    """
    Authenticate requests lazily, sync and async. Place it after Django's AuthenticationMiddleware.

    Without Clerk credentials a session user stays. A presented bad bearer makes the request anonymous; a stale or bad
    cookie does not throw out a session user.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)
        self._login_is_required = any(
            isinstance(item, type) and issubclass(item, LoginRequiredMiddleware)
            for item in map(import_string, settings.MIDDLEWARE)
        )

    def __call__(self, request: HttpRequest) -> Any:
        """Attach the lazy user and hand the request on."""
        if self.is_async:
            return self.__acall__(request)
        if _may_skip_csrf(request):
            try:
                _skip_csrf(request, authenticate(request, early=True))
            except ClerkUnavailable as problem:
                return self._finish(request, answer(request, problem))
        attach_lazily(request)
        response = self.get_response(request)
        if known_memo(request) is None:
            return response  # nobody has asked anything
        return self._finish(request, self._settle(request, response))

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        """See __call__()."""
        # What runs on an event loop must not wait for Clerk when it merely looks at request.clerk or request.user, and
        # whether it will look nobody knows yet. So the token is looked at here, where there is a thread to wait in.
        brought = f"{request.META.get('HTTP_COOKIE', '')} {request.META.get('QUERY_STRING', '')}"
        asks = cookies.SESSION in brought or cookies.HANDSHAKE in brought
        if asks or request.META.get("HTTP_AUTHORIZATION") or is_page_navigation(request):
            may_skip_csrf = _may_skip_csrf(request)
            try:
                state = await aauthenticate(request, early=True)
                if may_skip_csrf:
                    _skip_csrf(request, state)
            except ClerkUnavailable as problem:
                if may_skip_csrf:
                    return self._finish(request, await sync_to_async(answer)(request, problem))
        attach_lazily(request)
        response = await self.get_response(request)
        if _trouble(request) is not None:  # pages and rows may want the database
            response = await sync_to_async(self._settle)(request, response)
        return self._finish(request, response)

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        """
        Send a browser on its way to Clerk or back, and find out who it is before LoginRequiredMiddleware asks.

        Here, because only the view says whether a redirect is of use: REST framework's never answer with one. What is
        raised inside another middleware becomes a 500 in Django, and an outage must be a 503.
        """
        if is_page(request, view):
            with suppress(ClerkUnavailable):  # whoever wants to know who it is will hear of it
                if authenticate(request, early=True).is_handshake:
                    return answers.Handshake()
        if getattr(view, "__name__", "") == "login" and request.method in ("GET", "HEAD"):
            leads_on = _past_admin_login(request, view)
            if leads_on is not None:
                return leads_on
        if self._login_is_required and getattr(view, "login_required", True):
            try:
                user_of(request)
            except (AccountRefused, ClerkUnavailable) as problem:
                return answer(request, problem)
        return None

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
        """Answer what a lazy ``request.user`` or ``request.clerk`` had to raise inside a view."""
        return answer(request, exception) if isinstance(exception, (AccountRefused, ClerkUnavailable)) else None

    def _settle(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """
        See to what an error of ours has left behind, now that the request's transaction is over.

        REST framework answers a refused account by itself, so nobody else may have heard of it. And what is raised in a
        middleware below this one, which merely looked at ``request.user``, Django has answered as it can: an outage
        as a bug, and a script with a page.
        """
        problem = _trouble(request)
        keep_refusal(problem)
        expected = 500 if isinstance(problem, ClerkUnavailable) else 403
        if problem is None or response.status_code != expected or not _was_answered_by_django(problem):
            return response
        return response if expected == 403 and is_page(request) else answer(request, problem)

    def _finish(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        memo = known_memo(request)
        if memo is not None and (memo.state is not None or memo.unavailable is not None):  # somebody asked who it is
            answers.finish(response, memo.state, personal=memo.state is None or memo.state.carrier is not None)
        return response


def _trouble(request: HttpRequest) -> ClerkError | None:
    """Return what stood in the way of saying who is calling, if that was asked."""
    memo = known_memo(request)
    if memo is None:
        return None
    return memo.user_error if isinstance(memo.user_error, ClerkError) else memo.unavailable


def _was_answered_by_django(problem: ClerkError) -> bool:
    """
    Whether an error got as far as the handler that Django puts around each middleware.

    The error itself tells: on its way it has collected who passed it on. So a project's own 403 or 500 stays what it
    is, also where an error of ours came up before and was caught.
    """
    return any(frame.f_globals.get("__name__") == _HANDLER for frame, _ in traceback.walk_tb(problem.__traceback__))


def _may_skip_csrf(request: HttpRequest) -> bool:
    """
    Whether a bearer token of ours comes with an unsafe method.

    Such a token, once verified, is spared the CSRF check, which Django's middleware runs before any view is asked. If
    it cannot be verified now, the answer is 503, not the 403 that the check would give.
    """
    return (
        csrf.must_check(request) and bool(request.META.get("HTTP_AUTHORIZATION")) and not is_foreign(memo_of(request))
    )


def _skip_csrf(request: HttpRequest, state: RequestState) -> None:
    if state.auth.is_authenticated and state.carrier == "header":
        csrf.exempt(request)


def _past_admin_login(request: HttpRequest, view: Callable[..., Any]) -> HttpResponseBase | None:
    """
    Send a visitor of the admin's password form on to Clerk, where LOGIN_URL says so and nobody is signed in.

    Who is signed in and no staff hears that from the admin, as ever. None: the view may answer.
    """
    if not _is_admin_login(view) or not _login_url_is_ours():
        return None
    try:
        if user_of(request).is_authenticated:
            return None
    except (AccountRefused, ClerkUnavailable) as problem:
        return answer(request, problem)
    back = addresses.asked_return_url(request) or request.path.removesuffix("login/")
    response = redirect_to_login(back)
    response["Cache-Control"] = "no-store"
    return response


def _is_admin_login(view: Any) -> bool:
    """Whether this is the login view of an admin site, decorated or not; one that a project wrote itself is none."""
    if not apps.is_installed("django.contrib.admin"):
        return False
    from django.contrib.admin import AdminSite

    while view is not None and getattr(view, "__func__", None) is not AdminSite.login:
        view = getattr(view, "__wrapped__", None)
    return view is not None


def _login_url_is_ours() -> bool:
    with suppress(NoReverseMatch, Resolver404):
        parts = urlsplit(resolve_url(settings.LOGIN_URL))
        return not parts.netloc and getattr(resolve(parts.path).func, "leads_to_clerk", False)
    return False
