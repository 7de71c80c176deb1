"""
REST framework: ``ClerkAuthentication`` and ``IsClerkAuthenticated``.

The only module that imports ``rest_framework``. It decides nothing of its own: it asks where the decorators ask, and
says it in REST framework's exceptions.
"""

from __future__ import annotations

from typing import Any

from rest_framework import exceptions, permissions
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.views import APIView

from clerk_views import answers, csrf
from clerk_views.access import attach, attach_clerk, load_user
from clerk_views.auth import ClerkAuth
from clerk_views.authentication import NOBODY, RequestState, authenticate, is_foreign, memo_of
from clerk_views.exceptions import AccountRefused, ClerkUnavailable


class ClerkAuthenticationFailed(exceptions.AuthenticationFailed):
    """
    A bad Clerk credential: 401, whichever authentication class stands first.

    REST framework turns a 401 into a 403 when the first class has no challenge to offer, as SessionAuthentication has
    none. Ours always has one, so the status stays (RFC 9110, section 11.6.1).
    """

    def __init__(self, state: RequestState) -> None:
        super().__init__({"detail": answers.detail(state), "code": state.auth.reason})
        self.auth_header = answers.challenge(state)

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

    Another scheme's credential, a bearer token that is plainly another scheme's, and a stale cookie are left to the
    next class. A bad Clerk bearer is 401. A cookie on an unsafe method needs Django's CSRF token (CSR-01).
    """

    def authenticate(self, request: Request) -> tuple[Any, ClerkAuth] | None:
        """Return the user and the ClerkAuth, or None where another class should be asked."""
        memo = memo_of(request)
        _mark_response(request)
        if is_foreign(memo):
            attach_clerk(request)  # whoever asks is told; the user is for the next class to find
            return None
        try:
            state = authenticate(request)
            attach(request, state.auth)
            if state.auth.is_authenticated:
                if state.carrier == "cookie" and request.method not in csrf.SAFE_METHODS and csrf.failure(memo.request):
                    raise _denied("csrf-failed")
                return load_user(request), state.auth
        except ClerkUnavailable as error:
            raise ClerkServiceUnavailable(error) from error
        except AccountRefused as error:
            raise _denied(error.reason) from error
        if state.carrier == "header" and not state.is_signed_in:
            raise ClerkAuthenticationFailed(state)
        return None

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge for ``WWW-Authenticate``."""
        return answers.challenge(_state(request))


class IsClerkAuthenticated(permissions.BasePermission):
    """Allow only whom ``ClerkAuthentication`` has signed in. Composes with ``&``, ``|`` and ``~``."""

    message: Any = {"detail": answers.FORBIDDEN, "code": "not-authorized"}  # for whom another class has signed in

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Whether the request is a Clerk user's."""
        return isinstance(request.auth, ClerkAuth) and request.auth.is_authenticated


def _denied(reason: str) -> exceptions.PermissionDenied:
    return exceptions.PermissionDenied({"detail": answers.FORBIDDEN, "code": reason})


def _state(request: Request) -> RequestState:
    """Return how the request stands, as far as that has been asked; another scheme's credential is none of ours."""
    memo = memo_of(request)
    return NOBODY if memo.state is None or is_foreign(memo) else memo.state


def _mark_response(request: Request) -> None:
    """
    See to the response: its caching headers, and the code of a 401 that REST framework itself gives.

    REST framework shows an authentication class the view, never the response; so the view's last step is wrapped, on
    this one instance, which serves this one request.
    """
    view = (request.parser_context or {}).get("view")
    if view is None:
        return
    finalize = view.finalize_response

    def finalize_response(request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = finalize(request, response, *args, **kwargs)
        if response.status_code == 503:
            response["Cache-Control"] = "no-store"
        answers.mark_private(response)
        data = getattr(response, "data", None)
        if isinstance(data, dict) and getattr(data.get("detail"), "code", None) == "not_authenticated":
            state = _state(request)
            response.data = {"detail": answers.detail(state), "code": state.auth.reason}
        return response

    view.finalize_response = finalize_response
