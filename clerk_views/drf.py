"""
REST framework: ``ClerkAuthentication``, ``IsClerkAuthenticated`` and ``clerk_requires``.

The only module that imports ``rest_framework``. It decides nothing of its own: it asks where the decorators ask, and
says it in REST framework's exceptions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Unpack

from django.template.response import SimpleTemplateResponse
from rest_framework import exceptions, permissions
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.views import APIView

from clerk_views import answers, csrf
from clerk_views.access import keep_refusal, refusal_of
from clerk_views.auth import ClerkAuth
from clerk_views.authentication import is_foreign, state_of
from clerk_views.exceptions import AccountRefused, ClerkUnavailable
from clerk_views.requirements import OWN_NAMES, WIDENING, Asked, Refusal, Requirement, asks_by_attributes, keywords_of
from clerk_views.states import NOBODY, Memo, RequestState, memo_of
from clerk_views.values import TOKEN_TYPES
from clerk_views.visitors import attach, attach_clerk, attach_lazy_clerk, attach_user, load_user


class ClerkAuthenticationFailed(exceptions.AuthenticationFailed):
    """
    A bad Clerk credential: 401, whichever authentication class stands first.

    REST framework takes the challenge of the first class, and turns a 401 into a 403 when that has none to offer, as
    SessionAuthentication has none. Ours always has one, so both stay (RFC 9110, section 11.6.1).
    """

    def __init__(self, request: Request, state: RequestState) -> None:
        super().__init__({"detail": answers.detail(state), "code": state.auth.reason})
        self._challenge = answers.challenge(memo_of(request).request, state)

    @property
    def auth_header(self) -> str:
        """The challenge of bearer tokens."""
        return self._challenge

    @auth_header.setter
    def auth_header(self, value: str) -> None:
        pass

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

    Who brings no credential at all is told what REST framework tells him: the challenge of the class that stands first,
    or a 403 where that has none, as SessionAuthentication. For a 401 put this class first.

    A session with open tasks, or a token of a kind that only a permission of the view accepts, counts for that
    permission, and not for others that are composed with it: see ``_refusals_by_exception``.
    """

    def authenticate(self, request: Request) -> tuple[Any, ClerkAuth] | None:
        """Return the user and the ClerkAuth, or None where another class should be asked."""
        memo = memo_of(request)
        view = (request.parser_context or {}).get("view")
        permissions_of_view = None if view is None else _prepare(view, memo)
        if is_foreign(memo):
            attach_lazy_clerk(request)  # whoever asks is told; the user is for the next class to find
            return None
        try:
            asking = [] if permissions_of_view is None else _looked_at(permissions_of_view, memo)
            asked = [requirement for part in asking for ours in _ours(part) for requirement in ours.asked(view)]
            accepts = _accepted(asked, memo)
            state = state_of(memo, accepts=accepts, early=memo.looking, page=False).without_redirect()
            auth = state.auth
            if auth.is_pending and any(requirement.allow_pending for requirement in asked):
                auth = state.auth_if_pending_allowed
            by_exception = auth.is_pending or auth.token_type not in memo.config.accepts_token
            refusals = _refusals_by_exception(asking, auth, view, memo) if by_exception else []
            if refusals and auth.is_pending:
                auth, refusals = state.auth, []
            if refusals:
                attach(request, memo, auth)
                memo.refusal = refusals
                raise exceptions.PermissionDenied
            if auth.is_authenticated:
                return self._user_of(request, memo, auth, state), auth
            attach(request, memo, auth)
        except ClerkUnavailable as error:
            raise ClerkServiceUnavailable(error) from error
        except AccountRefused as error:
            raise _denied(error.reason) from error
        if state.carrier == "header" and not state.is_signed_in and not memo.looking:
            raise ClerkAuthenticationFailed(request, state)
        return None

    @staticmethod
    def _user_of(request: Request, memo: Memo, auth: ClerkAuth, state: RequestState) -> Any:
        """Return the user of a signed-in request. Till then nobody asks for him, so that no lazy one is made."""
        try:
            attach_clerk(request, memo, auth)
            if state.carrier == "cookie" and csrf.must_check(memo.request) and csrf.failure(memo.request):
                raise _denied("csrf-failed")
            user = load_user(memo)
        except Exception:
            attach(request, memo, auth)
            raise
        attach_user(memo.request, memo, user)  # REST framework itself puts him on its own request
        return user

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge for ``WWW-Authenticate``."""
        return answers.challenge(memo_of(request).request, _state(request))


# Plain classes, for which the stubs do not take them.
_AND: Any = permissions.AND
_OR: Any = permissions.OR
_NOT_AUTHORIZED = {"detail": answers.FORBIDDEN, "code": "not-authorized"}


class _Operators:
    """``&``, ``|`` and ``~`` of whatever has one of our permissions in it."""

    def __and__(self: Any, other: Any) -> Any:
        return _Two(_AND, self, other)

    def __rand__(self: Any, other: Any) -> Any:
        return _Two(_AND, other, self)

    def __or__(self: Any, other: Any) -> Any:
        return _Two(_OR, self, other)

    def __ror__(self: Any, other: Any) -> Any:
        return _Two(_OR, other, self)

    def __invert__(self: Any) -> Any:
        return _One(_NOT, self)


class _One(_Operators, permissions.SingleOperandHolder):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _with_message(super().__call__(*args, **kwargs))


class _Two(_Operators, permissions.OperandHolder):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _with_message(super().__call__(*args, **kwargs))


def _with_message(permission: Any) -> Any:
    permission.message = _NOT_AUTHORIZED  # REST framework's own has no code
    return permission


class _Not(permissions.NOT):
    """
    Grants to whom a question could be put, and the answer was no.

    Of a stranger nobody knows whether he has the role; nor is a session with open tasks asked where it does not count.
    What is undecided is denied (I8).
    """

    op1: Any

    def has_permission(self, request: Request, view: APIView) -> bool:
        return self._is_decided(request, view) and super().has_permission(request, view)

    def has_object_permission(self, request: Request, view: APIView, obj: Any) -> bool:
        return self._is_decided(request, view) and super().has_object_permission(request, view, obj)

    def _is_decided(self, request: Request, view: APIView) -> bool:
        auth, config = _auth_of(request), memo_of(request).config
        return all(
            requirement == Requirement() or (auth is not None and requirement.concerns(auth, config))
            for ours in _ours(self.op1)
            for requirement in ours.asked(view)
        )


_NOT: Any = _Not


class _PermissionType(_Operators, permissions.BasePermissionMetaclass):
    pass


_SIGNED_IN = Requirement()


class IsClerkAuthenticated(permissions.BasePermission, metaclass=_PermissionType):
    """
    Allow only whom ``ClerkAuthentication`` has signed in, and who meets the view's ``clerk_…`` attributes.

    They are named like the keywords of ``clerk_requires``, with ``clerk_`` in front; a property of the view will do,
    too, which may look at ``self.action``. With ``@api_view`` they stand on the function. None asks nothing.

    Composes with ``&``, ``|`` and ``~``. ``~IsClerkAuthenticated`` lets in whom Clerk has not signed in. Where more is
    asked, ``~`` lets in who is signed in and has it not; what his token does not tell counts as not had, so do not keep
    anybody out by it.
    """

    message: Any = _NOT_AUTHORIZED  # for whom another class has signed in

    def asked(self, view: Any) -> list[Requirement]:
        """Return what is asked for, all of it. For a class in place of a view see Requirement.from_attributes()."""
        view_class: type = view if isinstance(view, type) else type(view)
        if not asks_by_attributes(view_class):
            return [_SIGNED_IN]  # 2 µs quicker than to look for what is not there
        return [Requirement.again(**keywords_of(view, _served(view)))]

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Whether the request is a Clerk user's, who has all that is asked."""
        memo, auth = memo_of(request), _auth_of(request)
        requirements = self.asked(view)  # a mistake is an error whoever comes
        if auth is None:
            refusals = [Refusal(detail="not a Clerk user")]
        else:
            try:
                found = [refusal_of(requirement, auth, view.kwargs, memo.config) for requirement in requirements]
            except ClerkUnavailable as error:  # a condition that asks Clerk could not find out
                raise ClerkServiceUnavailable(error) from error
            refusals = [refusal for refusal in found if refusal is not None]
        if refusals and memo.refusal is not None:
            memo.refusal.append(_foremost(refusals))
        return not refusals

    def has_object_permission(self, request: Request, view: APIView, obj: Any) -> bool:
        """The same, of whatever object: the answer to ``~`` must be the opposite here as well."""
        return self.has_permission(request, view)


def clerk_requires(**asked: Unpack[Asked]) -> type[IsClerkAuthenticated]:
    """
    Return a permission class that allows only signed-in Clerk users who have all that is asked, here and by the view's
    own ``clerk_…`` attributes.

    ::

        permission_classes = [clerk_requires(role="org:admin") | IsAdminUser]

    Args:
        asked: As for ``@clerk_required``, but for ``login_url``, ``redirect_field_name`` and ``raise_exception``: REST
            views never redirect. Their meaning stands at ``clerk_views.requirements.Requirement``.

    Raises:
        TypeError: An unknown keyword, a value of the wrong type, None for what would be asked, or nothing asked, which
            IsClerkAuthenticated is for.
        ValueError: A value that no visitor could meet, or everybody would.
    """
    for name in OWN_NAMES:
        if name in asked:
            raise TypeError(
                f"clerk_requires() takes no {name}: REST views never redirect, and who is not signed in gets a 401. "
                "It is for @clerk_required and ClerkLoginRequiredMixin."
            )
    requirement = Requirement.from_keywords(asked)
    if requirement == Requirement():
        raise TypeError(
            "clerk_requires() asks for nothing beyond being signed in. For signed-in users alone take "
            "IsClerkAuthenticated."
        )

    class ClerkRequires(IsClerkAuthenticated):
        def asked(self, view: Any) -> list[Requirement]:
            attributes = keywords_of(view, _served(view))
            if not attributes:
                return [requirement]
            # Both must hold. What widens, said by one of them, is meant for both.
            own = {name: attributes[name] for name in WIDENING if name in attributes}
            given = {name: value for name, value in asked.items() if name in WIDENING}
            return [Requirement.again(**{**own, **asked}), Requirement.again(**{**given, **attributes})]

    return ClerkRequires


def _denied(reason: str) -> exceptions.PermissionDenied:
    return exceptions.PermissionDenied({"detail": answers.FORBIDDEN, "code": reason})


def _state(request: Request) -> RequestState:
    """Return how the request stands, as far as that has been asked; another scheme's credential is none of ours."""
    memo = memo_of(request)
    return NOBODY if memo.state is None or is_foreign(memo) else memo.state.without_redirect()


def _looked_at(permissions_of_view: Callable[[], list[Any]], memo: Memo) -> list[Any]:
    """
    Return the view's permissions; none while it is being asked already.

    A view that chooses its permissions by ``request.user`` comes back here while they are asked for.
    """
    if memo.looking:
        return []
    memo.looking = True
    try:
        return permissions_of_view()
    finally:
        memo.looking = False


def _accepted(asked: list[Requirement], memo: Memo) -> tuple[str, ...]:
    """Return the kinds of token that one or another permission accepts. Each looks at its own once more."""
    if len(asked) == 1:
        return asked[0].accepted(memo.config)
    found = {name for requirement in asked for name in requirement.accepted(memo.config)} or memo.config.accepts_token
    return tuple(name for name in TOKEN_TYPES if name in found)


def _ours(permission: Any) -> list[IsClerkAuthenticated]:
    """Return our own permissions in one that may be composed."""
    if isinstance(permission, IsClerkAuthenticated):
        return [permission]
    # The operands of REST framework's own "&", "|" and "~".
    parts = (getattr(permission, "op1", None), getattr(permission, "op2", None))
    return [ours for part in parts if part is not None for ours in _ours(part)]


def _settled(permission: Any) -> Any:
    """Put ours in the place of REST framework's own "~", which stands where others were composed first."""
    for name in ("op1", "op2"):
        if hasattr(permission, name):
            setattr(permission, name, _settled(getattr(permission, name)))
    foreign = type(permission) is permissions.NOT and _ours(permission)
    return _NOT(permission.op1) if foreign else permission


def _value(
    permission: Any, ours: Callable[[IsClerkAuthenticated], bool], theirs: Callable[[Any], bool | None]
) -> bool | None:
    """Return what a permission, composed or not, comes to, for given answers of its parts. None: it cannot be told."""
    if isinstance(permission, IsClerkAuthenticated):
        return ours(permission)
    if not isinstance(permission, (_AND, _OR)):
        return theirs(permission)  # negations, too, which let nobody in by exception
    decisive = isinstance(permission, _OR)
    values = [_value(part, ours, theirs) for part in (permission.op1, permission.op2)]
    if decisive in values:
        return decisive
    return None if None in values else not decisive


def _all(values: Iterable[bool | None]) -> bool | None:
    found = list(values)
    return False if False in found else None if None in found else True


def _refusals_by_exception(asking: list[Any], auth: ClerkAuth, view: Any, memo: Memo) -> list[Refusal]:
    """
    Say why a credential does not count that counts by exception; nothing if it does.

    Such are a session with open tasks, and a token of a kind that CLERK_ACCEPTS_TOKEN does not list: one of the view's
    permissions admits them. But another one that is an alternative to it, as ``| IsAuthenticated``, sees a user like
    any other. So they count only where our permissions alone let them in, or where without ours nobody comes in.
    """
    if not auth.is_authenticated:
        return []
    refusals: list[Refusal] = []

    def is_met(permission: IsClerkAuthenticated) -> bool:
        found = [requirement.refusal(auth, view.kwargs, memo.config) for requirement in permission.asked(view)]
        refusals.extend(refusal for refusal in found if refusal is not None)
        return found.count(None) == len(found)

    without = _all(_value(part, lambda ours: False, lambda theirs: None) for part in asking)
    if without is False or _all([_value(part, is_met, lambda theirs: None) for part in asking]):
        return []
    return refusals or [Refusal()]


def _auth_of(request: Request) -> ClerkAuth | None:
    """Return whom ClerkAuthentication has signed in; None if it was another class, or nobody."""
    auth = request.auth
    return auth if isinstance(auth, ClerkAuth) and auth.is_authenticated else None


def _served(view: Any) -> Any:
    """Return the function that Django has found for the URL; None for a class, and where no URL led here."""
    request = getattr(view, "request", None)
    # Not by way of REST framework's request, which takes 2 µs to pass a question on.
    match = getattr(getattr(request, "_request", request), "resolver_match", None)
    return None if match is None else match.func


def _foremost(refusals: list[Refusal]) -> Refusal:
    """Return the refusal to be told: of several that one first which proving anything does not mend."""
    return min(refusals, key=lambda refusal: (refusal.reverification is not None, not refusal.scopes))


def _told(refusals: list[Refusal], asking: list[Any], request: Request, view: APIView) -> Refusal:
    """
    Choose among the refusals of permissions that are composed. There is none where only another's half has refused.

    To prove anew who he is, a visitor is told only where that lets him in, and then whatever else was refused.
    """
    to_prove = [refusal for refusal in refusals if refusal.reverification is not None]
    if to_prove and _all(_value_if_proved(part, request, view) for part in asking):
        return to_prove[0]
    others = [refusal for refusal in refusals if refusal.reverification is None]
    return _foremost(others) if others else Refusal()


def _value_if_proved(permission: Any, request: Request, view: APIView) -> bool | None:
    def ours(part: IsClerkAuthenticated) -> bool:
        auth: Any = request.auth  # only who is known has been told to prove anything
        config = memo_of(request).config
        found = [requirement.refusal(auth, view.kwargs, config) for requirement in part.asked(view)]
        return all(refusal is None or refusal.reverification is not None for refusal in found)

    def theirs(part: Any) -> bool:
        with suppress(Exception):  # it may count on what one before it has asked
            return bool(part.has_permission(request, view))
        return False

    return _value(permission, ours, theirs)


def _prepare(view: APIView, memo: Memo) -> Callable[[], list[Any]]:
    """
    See to the response: its caching headers, and the bodies of the 401 and 403 that REST framework itself gives.

    REST framework shows an authentication class the view, never the response; and of permissions that are composed it
    asks none for its words. So two of the view's steps are wrapped, on this one instance that serves this one request.

    Returns:
        What makes the view's permissions, for a look at what they ask.
    """
    finalize, get_permissions = view.finalize_response, view.get_permissions
    lists_them = getattr(get_permissions, "__func__", None) is APIView.get_permissions
    made_of: Any = object()  # of nothing yet, and None is not nothing: it is a mistake of which somebody has to hear
    asking: list[Any] = []

    def permissions_of_view() -> list[Any]:
        nonlocal made_of
        # What was made for the look at them will do, as long as the view lists the same: 3 µs less.
        if not lists_them or view.permission_classes is not made_of:
            made_of = view.permission_classes if lists_them else None
            asking[:] = [
                permission if isinstance(permission, IsClerkAuthenticated) else _settled(permission)
                for permission in get_permissions()
            ]
        return asking[:]

    def permissions_in_turn() -> Iterator[Any]:
        # A refusal counts while the permission that it is part of is being asked: composed, it may pass all the same.
        for permission in permissions_of_view():
            memo.refusal = [] if isinstance(permission, IsClerkAuthenticated) or _ours(permission) else None
            yield permission
        memo.refusal = None

    def finalize_response(request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = finalize(request, response, *args, **kwargs)
        if response.status_code == 503:
            response["Cache-Control"] = "no-store"
        answers.finish(response, memo.state, personal=True)
        data = getattr(response, "data", None)
        code = getattr(data.get("detail"), "code", None) if isinstance(data, dict) else None
        if code == "not_authenticated":
            state = _state(request)
            response.data = {"detail": answers.detail(state), "code": state.auth.reason}
        elif code == "permission_denied" and memo.refusal is not None:
            refusal = _told(memo.refusal, asking, request, view)
            fixed = response.data["detail"] in (exceptions.PermissionDenied.default_detail, answers.FORBIDDEN)
            if fixed or refusal.reverification is not None:  # else it is a message of the project's
                response.data = answers.refusal_body(refusal)
            challenge = answers.scope_challenge(memo.request, refusal)
            if challenge is not None:
                response["WWW-Authenticate"] = challenge
        problem = memo.user_error
        rendered_later = isinstance(response, SimpleTemplateResponse)  # as all but a handler's of the project's own
        if rendered_later and isinstance(problem, AccountRefused) and problem.rewrite is not None:
            # REST framework takes back the transaction of a refused request; rendering comes after its end.
            response.add_post_render_callback(lambda response: keep_refusal(problem))
        return response

    view.finalize_response = finalize_response  # type: ignore[method-assign]
    view.get_permissions = permissions_in_turn  # type: ignore[method-assign,assignment]
    return permissions_of_view
