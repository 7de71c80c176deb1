"""The decorators where a view is defined; what they let through is in test_flow.py."""

from __future__ import annotations

from functools import wraps
from typing import Any

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

from clerk_views import clerk_optional, clerk_required
from clerk_views.testing import LocalClerk
from tests.conftest import World

DECORATORS = [clerk_required, clerk_optional]


def view(request: HttpRequest) -> HttpResponse:
    """Greet."""
    return HttpResponse("hello")


async def aview(request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


@pytest.mark.parametrize("decorator", DECORATORS)
def test_bare_and_called_are_the_same(decorator: Any) -> None:
    for decorated in (decorator(view), decorator()(view)):
        assert decorated.__name__ == "view"
        assert decorated.__doc__ == "Greet."
        assert not iscoroutinefunction(decorated)
    for decorated in (decorator(aview), decorator()(aview)):
        assert iscoroutinefunction(decorated)


@pytest.mark.parametrize("decorator", DECORATORS)
def test_on_a_class_it_says_what_to_use_instead(decorator: Any) -> None:
    class Report(View):
        pass

    with pytest.raises(TypeError, match=r"Report is a class.*Mixin first.*method_decorator.*ClerkAuthentication"):
        decorator(Report)


@pytest.mark.parametrize("decorator", DECORATORS)
@pytest.mark.parametrize("wrong", ["/login/", 3, property(view)], ids=["text", "number", "property"])
def test_on_what_is_no_view_it_fails_at_once(decorator: Any, wrong: Any) -> None:
    with pytest.raises(TypeError, match="which is no view"):
        decorator(wrong)


@pytest.mark.parametrize("keyword", ["role_", "loginurl", "redirect", "optional"])
@pytest.mark.parametrize("decorator", DECORATORS)
def test_a_wrong_keyword_is_an_error_where_the_view_is_defined(decorator: Any, keyword: str) -> None:
    with pytest.raises(TypeError, match=keyword):
        decorator(**{keyword: "x"})


@pytest.mark.parametrize("decorator", DECORATORS)
def test_on_a_method_it_fails_loudly_and_says_what_to_use(decorator: Any) -> None:
    """MWR-04: a decorator in the wrong place must not pass unguarded."""

    class Report(View):
        get = decorator(lambda self, request: HttpResponse("secret"))

    with pytest.raises(TypeError, match="method_decorator"):
        Report.as_view()(RequestFactory().get("/"))


@pytest.mark.django_db
def test_method_decorator_works(local_clerk: LocalClerk) -> None:
    headers = {"authorization": f"Bearer {local_clerk.token(local_clerk.add_user(email='a@example.com'))}"}
    for path in ("/class/decorated/", "/class/decorated/method/"):
        assert Client().get(path).status_code == 401
        assert Client().get(path, headers=headers).status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/class/decorated/async/", "/class/decorated/method/async/"])
def test_method_decorator_works_on_async_classes(local_clerk: LocalClerk, each_world: World, path: str) -> None:
    """CTX-04: an async class's dispatch is a plain function, and gives what has to be awaited."""
    headers = {"authorization": f"Bearer {local_clerk.token(local_clerk.add_user(email='a@example.com'))}"}
    assert each_world.get(path).status_code == 401
    assert each_world.get(path, headers=headers).json()["user"] is not None  # type: ignore[attr-defined]
    if "method" not in path:
        assert each_world.post(path).status_code == 401
        assert each_world.put(path, headers=headers).status_code == 405
        assert each_world.options(path, headers=headers).status_code == 200


class Outspoken(View):
    """Answers some requests in dispatch() itself, the others in async handlers."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return HttpResponse("short") if "short" in request.GET else super().dispatch(request, *args, **kwargs)

    async def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("long")


def through(view: Any) -> Any:
    """Do nothing, as a decorator that knows nothing of async views."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return view(request, *args, **kwargs)

    return wrapped


@pytest.mark.parametrize(
    "decorators",
    [
        clerk_optional,
        [clerk_optional],
        [clerk_optional, csrf_exempt],
        [csrf_exempt, clerk_optional],
        [never_cache, clerk_optional],
        [clerk_optional, through],
        [clerk_optional, clerk_optional],
    ],
    ids=["one", "listed", "outside", "inside", "async-aware", "unaware", "twice"],
)
def test_method_decorator_finds_the_async_class_under_others(local_clerk: LocalClerk, decorators: Any) -> None:
    decorated: Any = method_decorator(decorators, name="dispatch")(type("Report", (Outspoken,), {}))
    again: Any = method_decorator(clerk_optional, name="dispatch")(type("Report", (decorated,), {}))
    for view in (decorated.as_view(), again.as_view()):
        for query, text in (("", b"long"), ("?short", b"short")):
            response = async_to_sync(view)(RequestFactory().get(f"/{query}"))
            assert response.content == text
            assert "Authorization" in response["Vary"]


def test_a_sync_view_around_an_async_one_is_sync(local_clerk: LocalClerk) -> None:
    @wraps(aview)
    def around(request: HttpRequest) -> Any:
        return async_to_sync(aview)(request)

    decorated: Any = clerk_optional(around)
    assert decorated(RequestFactory().get("/")).content == b"hello"


@pytest.mark.django_db
def test_two_decorators_in_a_row_are_one(local_clerk: LocalClerk, django_assert_num_queries: Any) -> None:
    user = local_clerk.add_user(email="ada@example.com")
    both: Any = clerk_optional(clerk_required(lambda request: HttpResponse(request.user.email)))
    headers = {"authorization": f"Bearer {local_clerk.token(user)}"}
    assert both(RequestFactory().get("/", headers=headers)).content == b"ada@example.com"
    with django_assert_num_queries(1):
        assert both(RequestFactory().get("/", headers=headers)).content == b"ada@example.com"
    assert both(RequestFactory().get("/")).status_code == 401


@pytest.mark.parametrize("decorator", [clerk_required, clerk_optional])
def test_attributes_on_a_function_would_ask_nothing(decorator: Any) -> None:
    """ORG-04: they are for classes."""

    def view(request: Any) -> None:
        pass

    view.clerk_role = "org:admin"  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=r"@clerk_required\(role=\.\.\.\)"):
        decorator(view)


def test_a_view_of_rest_framework_may_have_them() -> None:
    """There the permissions read them."""
    pytest.importorskip("rest_framework")
    from rest_framework.decorators import api_view

    def view(request: Any) -> HttpResponse:
        return HttpResponse()

    made = api_view(["GET"])(view)
    made.clerk_role = "org:admin"  # type: ignore[attr-defined]
    clerk_required(made)
