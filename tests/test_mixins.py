"""The mixins where a class is defined; what they let through is in test_flow.py."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.mixins import UserPassesTestMixin
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.views import View
from django.views.generic import TemplateView

from clerk_views.mixins import ClerkLoginRequiredMixin, ClerkOptionalMixin
from clerk_views.testing import LocalClerk

pytestmark = pytest.mark.django_db


class Own(View):
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return HttpResponse("unguarded")


def test_a_base_that_would_dispatch_unguarded_is_refused() -> None:
    """MWR-04: the wrong order fails where the class is defined."""
    with pytest.raises(TypeError, match=r"Wrong would run Own.dispatch\(\) unguarded. Name the Clerk mixin before Own"):

        class Wrong(Own, ClerkLoginRequiredMixin):
            pass

    with pytest.raises(TypeError, match="MRO"):
        type("Wrong", (View, ClerkLoginRequiredMixin), {})


def test_a_base_without_a_dispatch_of_its_own_may_stand_first(local_clerk: LocalClerk) -> None:
    class Fine(TemplateView, ClerkLoginRequiredMixin):
        pass

    assert Fine.as_view()(RequestFactory().get("/")).status_code == 401


def test_a_dispatch_of_the_view_s_own_goes_on_to_the_guard(local_clerk: LocalClerk) -> None:
    class Fine(ClerkLoginRequiredMixin, View):
        def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            response = super().dispatch(request, *args, **kwargs)
            response["X-Own"] = "1"
            return response

    response = Fine.as_view()(RequestFactory().get("/"))
    assert response.status_code == 401
    assert response["X-Own"] == "1"


def test_django_s_mixins_see_the_clerk_user(local_clerk: LocalClerk) -> None:
    class Only(ClerkLoginRequiredMixin, UserPassesTestMixin, View):
        raise_exception = True

        def test_func(self) -> bool:
            return bool(getattr(self.request.user, "email", None) == "ada@example.com")

        def get(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse("in")

    def get(email: str) -> Any:
        token = local_clerk.token(local_clerk.add_user(email=email))
        return Only.as_view()(RequestFactory().get("/", headers={"authorization": f"Bearer {token}"}))

    assert get("ada@example.com").content == b"in"
    from django.core.exceptions import PermissionDenied

    with pytest.raises(PermissionDenied):
        get("bob@example.com")


def test_the_optional_mixin_lets_everybody_in(local_clerk: LocalClerk) -> None:
    class Greeting(ClerkOptionalMixin, View):
        def get(self, request: Any) -> HttpResponse:
            return HttpResponse(request.clerk.status)

    greeting: Any = Greeting.as_view()
    assert greeting(RequestFactory().get("/")).content == b"signed-out"
    token = local_clerk.token(local_clerk.add_user(email="ada@example.com"))
    headers = {"authorization": f"Bearer {token}"}
    assert greeting(RequestFactory().get("/", headers=headers)).content == b"signed-in"
