"""
What does a view ask for, who may pass, and what stands around the view: the one guard of decorators and mixins.

The fork between sync and async is here, in ``guard``, and nowhere else. What decides is written once: it first tries
with what memory holds; if that does not suffice on an event loop, all that is left to do takes one hop to a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.functional import SimpleLazyObject

from clerk_views import answers, csrf, signals
from clerk_views.auth import ClerkAuth
from clerk_views.authentication import Memo, RequestState, Verdict, authenticate, memo_of, report_failure
from clerk_views.exceptions import AccountRefused, ClerkError, ClerkUnavailable, NotInMemory

View = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Requirement:
    """
    What a view asks of its visitor.

    Attributes:
        optional: Nobody is refused for want of a credential.
        login_url: Where to send a browser that is not signed in: an address, a path or a URL name. None: the configured
            sign-in page.
        redirect_field_name: The parameter that carries the way back. None: ``redirect_url`` for Clerk's pages, Django's
            ``next`` for other ones.
        raise_exception: Answer 403 instead of sending browsers to sign in, as in ``django.contrib.auth``.
    """

    optional: bool = False
    login_url: str | None = None
    redirect_field_name: str | None = None
    raise_exception: bool = False


OPTIONAL = Requirement(optional=True)


def load_user(request: Any, *, offline: bool = False) -> Any:
    """
    Return the Django user of a signed-in request. Asks once per request.

    Raises:
        AccountRefused: The account is inactive, gone, or may not be linked.
        ClerkUnavailable: Clerk or the database is away, and the user is not known here.
        NotInMemory: ``offline``: a user is a row, and a row is read from the database.
    """
    memo = memo_of(request)
    if memo.user_error is not None:
        raise memo.user_error
    if memo.user is None:
        if offline:
            raise NotInMemory
        try:
            verdict = authenticate(request).verdict
            if verdict is None:
                raise AccountRefused("session-token-missing", "nobody is signed in")
            memo.user = _resolve(memo, verdict)
        except (AccountRefused, ClerkUnavailable) as error:
            memo.user_error = error
            raise
    return memo.user


def _resolve(memo: Memo, verdict: Verdict) -> Any:
    # It loads models, which are not there yet when an app's modules import our decorators.
    from clerk_views import accounts

    sender = type(memo.request)
    try:
        resolved = accounts.resolve(
            verdict.session[0],
            verdict.auth.claims if memo.config.user_source == "claims" else {},
            config=memo.config,
            budget=memo.budget,
            sender=sender,
            fresh_until=verdict.fresh_until,
        )
    except AccountRefused as error:
        report_failure(memo, error.reason, verdict.token)
        raise
    verdict.fresh_until = resolved.fresh_until
    signals.clerk_auth_success.send_robust(
        sender, user=resolved.user, source=resolved.source, auth=verdict.auth, request=memo.request
    )
    return resolved.user


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
        base.user = SimpleLazyObject(partial(user_of, base))  # type: ignore[assignment]  # lazy, as Django's own
        base.auser = partial(_auser_of, base)  # likewise


def attach_clerk(request: Any, auth: ClerkAuth | None = None) -> None:
    """Set ``request.clerk`` alone. See attach()."""
    base = memo_of(request).request
    request.clerk = base.clerk = auth or SimpleLazyObject(lambda: authenticate(base).auth)  # type: ignore[attr-defined]  # ours to add


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
    state = authenticate(request)
    if state.auth.is_authenticated:
        if state.carrier == "cookie" and request.method not in csrf.SAFE_METHODS and csrf.failure(request):
            return AnonymousUser()  # another site may have sent this; nobody stands behind it
        return load_user(request)
    if state.carrier == "header" or memo.session_user is None:
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


def admit(request: Any, requirement: Requirement, view: View, *, offline: bool = False) -> HttpResponseBase | None:
    """Return None if the visitor may pass, with ``request.clerk`` and the user set; else the answer he gets."""
    base = memo_of(request).request
    try:
        state = authenticate(request, offline=offline)
        signed_in = state.auth.is_authenticated
        attach(request, state.auth)
        if not signed_in and not requirement.optional:
            return _refuse(request, state, requirement, offline)
        if signed_in and state.carrier == "header":
            csrf.exempt(base)
        elif base.method not in csrf.SAFE_METHODS and _must_prove_intent(signed_in, view):
            if offline:
                raise NotInMemory  # the secret may be in the session, and so in the database
            if csrf.failure(base):
                return answers.forbidden(base, "csrf-failed", page=False)
        if not requirement.optional:
            attach_user(request, load_user(request, offline=offline))
    except ClerkError as problem:
        return answer(request, problem)
    return None


def _is_page(request: Any) -> bool:
    """Whether to answer with a page. REST framework's request never wants one, nor a redirect."""
    return isinstance(request, HttpRequest) and answers.is_page_navigation(request)


def _must_prove_intent(by_cookie: bool, view: View) -> bool:
    """
    Whether an unsafe request must pass the CSRF check.

    Always where a Clerk cookie says who is calling. Else as the project's own middleware would have it, which left this
    view to us.
    """
    return by_cookie or (not getattr(view, "csrf_exempt", False) and csrf.site_enforces())


def _refuse(request: Any, state: RequestState, requirement: Requirement, offline: bool) -> HttpResponseBase:
    base = memo_of(request).request
    page = _is_page(request)
    if requirement.raise_exception:
        if page and offline:
            raise NotInMemory  # the project's own page may read the database
        return answers.forbidden(base, state.auth.reason or state.auth.status, page=page)
    return answers.unauthenticated(
        base, state, page=page, login_url=requirement.login_url, redirect_field_name=requirement.redirect_field_name
    )


def answer(request: Any, problem: ClerkError) -> HttpResponseBase:
    """Answer an error of ours that came up on the way."""
    # It loads models.
    from django.contrib.auth.models import AnonymousUser

    page = _is_page(request)
    if page:  # which may show who is signed in, and must not meet the same error by asking
        state = memo_of(request).state
        attach_clerk(request, ClerkAuth.signed_out(problem.reason) if state is None else state.auth)
        attach_user(request, AnonymousUser())
    return answers.error(memo_of(request).request, problem, page=page)


def _finish(request: Any, response: Any, requirement: Requirement) -> Any:
    """Set the caching headers of a response that depends on who is calling."""
    if isinstance(response, HttpResponseBase):  # else Django says what is wrong with it
        state = memo_of(request).state
        answers.mark_private(response, personal=not requirement.optional or state is None or state.carrier is not None)
    return response


def guard(view: View, requirement: Requirement, *, is_async: bool | None = None) -> View:
    """
    Put a requirement around a view, sync or async.

    The view is exempt from Django's own CSRF and login middleware, because the guard does both: only it knows whether a
    verified bearer token, which needs no CSRF token, made the request.
    """
    if is_async is None:
        is_async = iscoroutinefunction(view)
    if is_async:

        @wraps(view)
        async def guarded(request: Any, *args: Any, **kwargs: Any) -> Any:
            response = await _aadmit(request, requirement, view)
            if response is None:
                try:
                    response = await view(request, *args, **kwargs)
                except (AccountRefused, ClerkUnavailable) as problem:
                    response = await sync_to_async(answer)(request, problem)
            return _finish(request, response, requirement)

    else:

        @wraps(view)
        def guarded(request: Any, *args: Any, **kwargs: Any) -> Any:
            response = admit(request, requirement, view)
            if response is None:
                try:
                    response = view(request, *args, **kwargs)
                except (AccountRefused, ClerkUnavailable) as problem:
                    response = answer(request, problem)
            return _finish(request, response, requirement)

    guarded.csrf_exempt = True  # type: ignore[attr-defined]  # Django's own marks
    guarded.login_required = False  # type: ignore[attr-defined]
    return guarded


async def _aadmit(request: Any, requirement: Requirement, view: View) -> HttpResponseBase | None:
    try:
        return admit(request, requirement, view, offline=True)
    except NotInMemory:
        return await sync_to_async(admit)(request, requirement, view)
