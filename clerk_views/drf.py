"""
REST framework: ``ClerkAuthentication``, ``IsClerkAuthenticated`` and ``clerk_requires``.

The only module that imports ``rest_framework``. It decides nothing of its own: it asks where the decorators ask, and
says it in REST framework's exceptions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.template.response import SimpleTemplateResponse
from rest_framework import exceptions, permissions
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.views import APIView
from typing_extensions import Unpack

from clerk_views import answers, csrf
from clerk_views.access import keep_refusal, refusal_of
from clerk_views.auth import ClerkAuth
from clerk_views.authentication import authenticate, is_foreign
from clerk_views.exceptions import AccountRefused, ClerkUnavailable
from clerk_views.requirements import Asked, Refusal, Requirement
from clerk_views.states import NOBODY, Memo, RequestState, memo_of
from clerk_views.values import TOKEN_TYPES
from clerk_views.visitors import attach, attach_clerk, load_user


class ClerkAuthenticationFailed(exceptions.AuthenticationFailed):
    """
    A bad Clerk credential: 401, whichever authentication class stands first.

    REST framework turns a 401 into a 403 when the first class has no challenge to offer, as SessionAuthentication has
    none. Ours always has one, so the status stays (RFC 9110, section 11.6.1).
    """

    def __init__(self, request: Request, state: RequestState) -> None:
        super().__init__({"detail": answers.detail(state), "code": state.auth.reason})
        self.auth_header = answers.challenge(memo_of(request).request, state)

    @property
    def status_code(self) -> int:
        """Always 401."""
        return 401

    @status_code.setter
    def status_code(self, value: int) -> None:
        pass


class ClerkServiceUnavailable(exceptions.APIException):
    """It cannot be decided now: 503 with ``Retry-After``."""

    status_code = 503

    def __init__(self, error: ClerkUnavailable) -> None:
        super().__init__(answers.unavailable_body(error))
        self.wait = error.retry_after


class ClerkAuthentication(BaseAuthentication):
    """
    Authenticate by Clerk. ``request.user`` is the Django user, ``request.auth`` and ``request.clerk`` the ClerkAuth.

    Which kinds of token count is what the view's permissions say (``clerk_accepts_token``), else CLERK_ACCEPTS_TOKEN.
    The user of a token that is a machine's or an organisation's is anonymous; ``request.auth`` says whose it is.

    Another scheme's credential, a bearer token that is plainly another scheme's, and a stale cookie are left to the
    next class. A bad Clerk bearer is 401. A cookie on an unsafe method needs Django's CSRF token (CSR-01).
    """

    def authenticate(self, request: Request) -> tuple[Any, ClerkAuth] | None:
        """Return the user and the ClerkAuth, or None where another class should be asked."""
        memo = memo_of(request)
        view = (request.parser_context or {}).get("view")
        if view is not None:
            _prepare(view, request)
        if is_foreign(memo):
            attach_clerk(request)  # whoever asks is told; the user is for the next class to find
            return None
        try:
            asked = [] if view is None else _asked(view, memo)
            accepts = _accepted(asked, memo)
            state = authenticate(request, accepts=accepts, early=memo.looking).without_redirect()
            auth = state.auth
            if auth.is_pending and any(requirement.allow_pending for requirement in asked):
                auth = state.auth_if_pending_allowed
            attach(request, auth)
            if auth.is_authenticated:
                if state.carrier == "cookie" and csrf.must_check(memo.request) and csrf.failure(memo.request):
                    raise _denied("csrf-failed")
                return load_user(request), auth
        except ClerkUnavailable as error:
            raise ClerkServiceUnavailable(error) from error
        except AccountRefused as error:
            raise _denied(error.reason) from error
        if state.carrier == "header" and not state.is_signed_in and not memo.looking:
            raise ClerkAuthenticationFailed(request, state)
        return None

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge for ``WWW-Authenticate``."""
        return answers.challenge(memo_of(request).request, _state(request))


class IsClerkAuthenticated(permissions.BasePermission):
    """
    Allow only whom ``ClerkAuthentication`` has signed in, and who meets the view's ``clerk_…`` attributes.

    They are named like the keywords of ``clerk_requires``, with ``clerk_`` in front; a property of the view will do,
    too, which may look at ``self.action``. Composes with ``&``, ``|`` and ``~``.
    """

    message: Any = {"detail": answers.FORBIDDEN, "code": "not-authorized"}  # for whom another class has signed in

    def get_requirement(self, view: APIView) -> Requirement:
        """Return what is asked for."""
        return Requirement.from_attributes(view)

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Whether the request is a Clerk user's, who has all that is asked."""
        requirement = self.get_requirement(view)
        auth = request.auth
        memo = memo_of(request)
        if isinstance(auth, ClerkAuth) and auth.is_authenticated:
            try:
                memo.refusal = refusal_of(requirement, auth, view.kwargs, memo.config)
            except ClerkUnavailable as error:  # a condition that asks Clerk could not find out
                raise ClerkServiceUnavailable(error) from error
        else:
            memo.refusal = Refusal(detail="not a Clerk user")
        return memo.refusal is None


def clerk_requires(**asked: Unpack[Asked]) -> type[IsClerkAuthenticated]:
    """
    Return a permission class that allows only signed-in Clerk users who have all that is asked.

    ::

        permission_classes = [clerk_requires(role="org:admin") | IsAdminUser]

    Args:
        asked: As for ``@clerk_required``; their meaning stands at ``clerk_views.requirements.Requirement``.

    Raises:
        TypeError: An unknown keyword, a value of the wrong type, or nothing asked, which IsClerkAuthenticated is for.
        ValueError: A value that no visitor could meet, or everybody would.
    """
    if not asked:
        raise TypeError("clerk_requires() asks for nothing. For signed-in users alone take IsClerkAuthenticated.")
    requirement = Requirement(**asked)

    class ClerkRequires(IsClerkAuthenticated):
        def get_requirement(self, view: APIView) -> Requirement:
            return requirement

    return ClerkRequires


def _denied(reason: str) -> exceptions.PermissionDenied:
    return exceptions.PermissionDenied({"detail": answers.FORBIDDEN, "code": reason})


def _state(request: Request) -> RequestState:
    """Return how the request stands, as far as that has been asked; another scheme's credential is none of ours."""
    memo = memo_of(request)
    return NOBODY if memo.state is None or is_foreign(memo) else memo.state.without_redirect()


def _asked(view: APIView, memo: Memo) -> list[Requirement]:
    """
    Return what the view's permissions ask for; nothing while it is being asked already.

    A view that chooses its permissions by ``request.user`` comes back here while they are asked for.
    """
    if memo.looking:
        return []
    memo.looking = True
    try:
        return list(_requirements(view))
    finally:
        memo.looking = False


def _accepted(asked: list[Requirement], memo: Memo) -> tuple[str, ...]:
    """Return the kinds of token that one or another permission accepts. Each looks at its own once more."""
    found = {name for requirement in asked for name in requirement.accepted(memo.config)} or memo.config.accepts_token
    return tuple(name for name in TOKEN_TYPES if name in found)


def _requirements(view: APIView) -> Iterator[Requirement]:
    """Return what the view's permissions ask for, however they are composed."""
    permissions: list[Any] = list(view.get_permissions())
    while permissions:
        permission = permissions.pop()
        if isinstance(permission, IsClerkAuthenticated):
            yield permission.get_requirement(view)
        # The operands of REST framework's own "&", "|" and "~".
        permissions += [part for name in ("op1", "op2") if (part := getattr(permission, name, None)) is not None]


def _prepare(view: APIView, request: Request) -> None:
    """
    See to the response: its caching headers, and the bodies of the 401 and 403 that REST framework itself gives.

    REST framework shows an authentication class the view, never the response; and of permissions that are composed it
    asks none for its words. So two of the view's steps are wrapped, on this one instance that serves this one request.
    """
    memo = memo_of(request)
    finalize, get_permissions = view.finalize_response, view.get_permissions

    def permissions_in_turn() -> Iterator[Any]:
        # A refusal counts while the permission that it is part of is being asked: composed, it may pass all the same.
        for permission in get_permissions():
            memo.refusal = None
            yield permission
        memo.refusal = None

    def finalize_response(request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = finalize(request, response, *args, **kwargs)
        if response.status_code == 503:
            response["Cache-Control"] = "no-store"
        if memo.state is not None:
            answers.carry(response, memo.state)
        answers.mark_private(response)
        data = getattr(response, "data", None)
        code = getattr(data.get("detail"), "code", None) if isinstance(data, dict) else None
        if code == "not_authenticated":
            state = _state(request)
            response.data = {"detail": answers.detail(state), "code": state.auth.reason}
        elif code == "permission_denied" and memo.refusal is not None:
            response.data = answers.refusal_body(memo.refusal)
            told = answers.scope_challenge(memo.request, memo.refusal)
            if told is not None:
                response["WWW-Authenticate"] = told
        problem = memo.user_error
        rendered_later = isinstance(response, SimpleTemplateResponse)  # as all but a handler's of the project's own
        if rendered_later and isinstance(problem, AccountRefused) and problem.rewrite is not None:
            # REST framework takes back the transaction of a refused request; rendering comes after its end.
            response.add_post_render_callback(lambda response: keep_refusal(problem))
        return response

    view.finalize_response = finalize_response  # type: ignore[method-assign]
    view.get_permissions = permissions_in_turn  # type: ignore[method-assign,assignment]
