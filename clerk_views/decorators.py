"""``@clerk_required`` and ``@clerk_optional``, for function views, sync and async."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, Unpack, overload

from clerk_views.access import guard
from clerk_views.requirements import OPTIONAL, PREFIX, RequiredOptions, Requirement, clerk_names

V = TypeVar("V", bound=Callable[..., Any])


@overload
def clerk_required(view: V, /) -> V: ...


@overload
def clerk_required(**asked: Unpack[RequiredOptions]) -> Callable[[V], V]: ...


def clerk_required(view: Any = None, /, **asked: Unpack[RequiredOptions]) -> Any:
    """
    Let only visitors in whom Clerk has signed in, and who meet everything else that is asked.

    Works bare and called, on sync and async function views, under ``@api_view``, and through ``method_decorator``.
    Inside, ``request.clerk`` is the caller's ``ClerkAuth`` and ``request.user`` the Django user.

    Args:
        asked: ``role``, ``permission``, ``feature``, ``plan``, ``reverification``, ``organization``, ``condition``,
            ``accepts_token``, ``scopes``, ``allow_pending``, ``allow_impersonation``; ``login_url``,
            ``redirect_field_name``, ``raise_exception``. What they mean stands at
            ``clerk_views.requirements.Requirement``.

    Raises:
        TypeError: When put on a class, on what is no view, or on a function with ``clerk_…`` attributes; for an unknown
            keyword, a value of the wrong type, or None for what would be asked.
        ValueError: For a value that no visitor could meet, or everybody would.
    """
    requirement = Requirement.from_keywords(asked)

    def decorate(view: Any) -> Any:
        _check_view(view, "clerk_required", "ClerkLoginRequiredMixin")
        return guard(view, requirement)

    return decorate if view is None else decorate(view)


@overload
def clerk_optional(view: V, /) -> V: ...


@overload
def clerk_optional() -> Callable[[V], V]: ...


def clerk_optional(view: Any = None, /) -> Any:
    """
    Tell a view who is calling, signed in or not.

    Nobody is refused for want of a credential. ``request.clerk`` is there, and ``request.user`` is read from the
    database when asked for.

    Raises:
        TypeError: When put on a class, on what is no view, or on a function with ``clerk_…`` attributes.
    """

    def decorate(view: Any) -> Any:
        _check_view(view, "clerk_optional", "ClerkOptionalMixin")
        return guard(view, OPTIONAL)

    return decorate if view is None else decorate(view)


def _check_view(view: Any, name: str, mixin: str) -> None:
    if inspect.isclass(view):
        raise TypeError(
            f"@{name} is for functions, and {view.__name__} is a class. For Django's class-based views put {mixin} "
            f'first among its bases, or @method_decorator({name}, name="dispatch") on it; for REST framework set '
            "authentication_classes = [ClerkAuthentication] and permission_classes = [IsClerkAuthenticated]."
        )
    if not callable(view):
        raise TypeError(
            f"@{name} was given {type(view).__name__}, which is no view. Its options are keywords, as in "
            f"@{name}(login_url=...); of several decorators it stands below @staticmethod and @classmethod."
        )
    unread = sorted(clerk_names(view))
    if unread and not hasattr(view, "cls"):  # REST framework's permissions read them from a view of @api_view
        raise TypeError(
            f"{view.__name__}.{unread[0]} would ask nothing: attributes are for classes. For a function write "
            f"@clerk_required({unread[0].removeprefix(PREFIX)}=...)."
        )
