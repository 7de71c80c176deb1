"""``ClerkLoginRequiredMixin`` and ``ClerkOptionalMixin``, for class-based views, sync and async."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import REDIRECT_FIELD_NAME
from django.http import HttpRequest
from django.views.generic.base import View

from clerk_views.access import OPTIONAL, Requirement, guard


class _ClerkMixin(View):
    """The guard around ``dispatch``, so that it stands before every method, HEAD, OPTIONS and unknown ones included."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in cls.__mro__[: cls.__mro__.index(_ClerkMixin)]:
            if "dispatch" in vars(base) and issubclass(base, View) and not issubclass(base, _ClerkMixin):
                raise TypeError(
                    f"{cls.__name__} would run {base.__name__}.dispatch() unguarded. Name the Clerk mixin before "
                    f"{base.__name__} among its bases."
                )

    def get_clerk_requirement(self) -> Requirement:
        """Return what the view asks for."""
        return OPTIONAL

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Let Django's own dispatch run only for whom the requirement admits."""
        guarded = guard(super().dispatch, self.get_clerk_requirement(), is_async=self.view_is_async)
        return guarded(request, *args, **kwargs)

    # as_view() copies these marks from dispatch() to the view: the guard checks CSRF and sign-in itself.
    dispatch.csrf_exempt = True  # type: ignore[attr-defined]
    dispatch.login_required = False  # type: ignore[attr-defined]


class ClerkOptionalMixin(_ClerkMixin):
    """Tell a class-based view who is calling, signed in or not, as ``@clerk_optional`` does."""


class ClerkLoginRequiredMixin(_ClerkMixin):
    """
    Let only visitors into a class-based view whom Clerk has signed in, as ``@clerk_required`` does.

    The attributes are Django's own; the mixin comes first among the bases.

    Attributes:
        login_url: Where to send a browser that is not signed in: an address, a path or a URL name. None: the configured
            sign-in page.
        redirect_field_name: The parameter that carries the way back. Left at Django's ``next``, it is ``redirect_url``
            for Clerk's pages, which know no other.
        raise_exception: Answer 403 instead of sending browsers to sign in.
    """

    login_url: Any = None  # what AccessMixin's may be, lazy text included
    redirect_field_name: str | None = REDIRECT_FIELD_NAME
    raise_exception: bool = False

    def get_clerk_requirement(self) -> Requirement:
        """Return what the view asks for, from its attributes."""
        return Requirement(
            login_url=self.login_url,
            redirect_field_name=None if self.redirect_field_name == REDIRECT_FIELD_NAME else self.redirect_field_name,
            raise_exception=self.raise_exception,
        )
