"""``ClerkLoginRequiredMixin`` and ``ClerkOptionalMixin``, for class-based views, sync and async."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from django.contrib.auth import REDIRECT_FIELD_NAME
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views.generic.base import View

from clerk_views.access import guard
from clerk_views.requirements import ASKING, ATTRIBUTES, OPTIONAL, Requirement, attribute_names


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
        guarded = guard(
            super().dispatch, self.get_clerk_requirement(), is_async=self.view_is_async, view_class=type(self)
        )
        return guarded(request, *args, **kwargs)

    # as_view() copies these marks from dispatch() to the view: the guard checks CSRF and sign-in itself.
    dispatch.csrf_exempt = True  # type: ignore[attr-defined]
    dispatch.login_required = False  # type: ignore[attr-defined]


class ClerkOptionalMixin(_ClerkMixin):
    """Tell a class-based view who is calling, signed in or not, as ``@clerk_optional`` does."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        view_class: type = cls
        asked = attribute_names(view_class)
        if asked:
            raise TypeError(
                f"{cls.__name__}.{asked[0]} would ask nothing of anybody: ClerkOptionalMixin refuses nobody. Use "
                "ClerkLoginRequiredMixin, or ask request.clerk.has() inside the view."
            )


class ClerkLoginRequiredMixin(_ClerkMixin):
    """
    Let only visitors into a class-based view whom Clerk has signed in, as ``@clerk_required`` does.

    The mixin comes first among the bases. What is asked besides stands in attributes named like the decorator's
    keywords, with ``clerk_`` in front (``clerk_role = "org:admin"``); their meaning stands at
    ``clerk_views.requirements.Requirement``. ``clerk_condition`` may be a method ``(self, auth)`` or a function of the
    ``ClerkAuth``. The other attributes are Django's own. A mistake is a TypeError or a ValueError where the class is
    defined, or where ``as_view()`` is called; so is None, except where it lifts what a base class asks, or where a
    property says so.

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
    clerk_role: Any = None  # here and below: a property will do as well
    clerk_permission: Any = None
    clerk_feature: Any = None
    clerk_plan: Any = None
    clerk_reverification: Any = None
    clerk_organization: Any = False
    clerk_accepts_token: Any = None
    clerk_scopes: Any = None
    clerk_condition: Any = None
    clerk_allow_pending: Any = False
    clerk_allow_impersonation: Any = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ATTRIBUTES & vars(cls).keys():
            # A class may lift what its base asks. Over nothing, None is a value that was to come from somewhere.
            lifts = name in ASKING and getattr(super(cls, cls), name) is not None
            if vars(cls)[name] is None and not lifts:
                raise TypeError(
                    f"{cls.__name__}.{name} is None, which asks for nothing. Leave it out where nothing is meant; if "
                    "the value comes from the environment or the settings, it is missing there."
                )
        flag = inspect.getattr_static(cls, "raise_exception")
        Requirement.from_attributes(cls, raise_exception=False if hasattr(flag, "__get__") else flag)

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        """See Django's; attributes given here are looked at, too."""
        view = super().as_view(**initkwargs)
        type(cls.__name__, (cls,), initkwargs)  # looked at like any subclass
        return view

    def get_clerk_requirement(self) -> Requirement:
        """Return what the view asks for, from its attributes."""
        return Requirement.from_attributes(
            self,
            login_url=self.login_url,
            redirect_field_name=None if self.redirect_field_name == REDIRECT_FIELD_NAME else self.redirect_field_name,
            raise_exception=self.raise_exception,
        )
