"""
One requirement behind every kind of door, each at a URL of its own, for the tests that go through all of them.

``served(asked)`` puts the doors up for the keywords of one requirement; a ``Doorway`` says which of them, and in which
world.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View

from clerk_views import clerk_required
from clerk_views.mixins import ClerkLoginRequiredMixin

PASSED = "passed"


def plain(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return JsonResponse({"seen": PASSED, "clerk": request.clerk.user_id, "user": request.user.pk})  # type: ignore[attr-defined]


async def aplain(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return plain(request)


def attributes(asked: dict[str, Any]) -> dict[str, Any]:
    """Return a requirement's keywords as the attributes of a class-based view."""
    own = ("login_url", "redirect_field_name", "raise_exception")
    return {name if name in own else f"clerk_{name}": value for name, value in asked.items()}


def _patterns(asked: dict[str, Any]) -> list[Any]:
    bases = (ClerkLoginRequiredMixin, View)
    class_view: Any = type("Sync", bases, {**attributes(asked), "get": _get, "post": _get})
    async_view: Any = type("Async", bases, {**attributes(asked), "get": _aget, "post": _aget})
    decorated: Any = method_decorator(clerk_required(**asked), name="dispatch")(type("D", (View,), {"get": _get}))
    patterns = [
        path("function", clerk_required(**asked)(plain)),
        path("afunction", clerk_required(**asked)(aplain)),
        path("class", class_view.as_view()),
        path("aclass", async_view.as_view()),
        path("method-decorator", decorated.as_view()),
    ]
    return patterns + (_rest_patterns(asked) if find_spec("rest_framework") else [])


def _get(self: Any, request: Any, **kwargs: Any) -> HttpResponse:
    return plain(request)


async def _aget(self: Any, request: Any, **kwargs: Any) -> HttpResponse:
    return plain(request)


def _rest_patterns(asked: dict[str, Any]) -> list[Any]:
    from rest_framework.decorators import action, api_view, authentication_classes, permission_classes
    from rest_framework.views import APIView
    from rest_framework.viewsets import ViewSet

    from clerk_views.drf import ClerkAuthentication, IsClerkAuthenticated, clerk_requires

    theirs = {name: value for name, value in asked.items() if name != "raise_exception"}
    alone = {"authentication_classes": [ClerkAuthentication], "permission_classes": [IsClerkAuthenticated]}
    named = {**alone, "permission_classes": [clerk_requires(**theirs)]}

    class Things(ViewSet):
        authentication_classes = [ClerkAuthentication]
        permission_classes = [IsClerkAuthenticated]

        def list(self, request: Any, **kwargs: Any) -> HttpResponse:
            return plain(request)

        @action(detail=False, permission_classes=[clerk_requires(**theirs)])
        def mine(self, request: Any, **kwargs: Any) -> HttpResponse:
            return plain(request)

    guarded = type("Guarded", (Things,), attributes(theirs))

    def fresh() -> Any:
        # REST framework's decorators write on the function that they are given.
        return lambda request, **kwargs: plain(request, **kwargs)

    function = authentication_classes([ClerkAuthentication])(permission_classes([clerk_requires(**theirs)])(fresh()))
    return [
        path("rest-attributes", type("A", (APIView,), {**alone, **attributes(theirs), "get": _get}).as_view()),  # type: ignore[attr-defined]
        path("rest-requires", type("R", (APIView,), {**named, "get": _get}).as_view()),  # type: ignore[attr-defined]
        path("rest-function", api_view(["GET"])(function)),
        path("rest-decorated", api_view(["GET"])(permission_classes([])(clerk_required(**asked)(fresh())))),
        path("rest-around", clerk_required(**asked)(api_view(["GET"])(permission_classes([])(fresh())))),
        path("viewset", guarded.as_view({"get": "list"})),  # type: ignore[attr-defined]
        path("viewset-action", Things.as_view({"get": "mine"}, **Things.mine.kwargs)),
    ]


_PLAIN = ("function", "afunction", "class", "aclass", "method-decorator")
_REST = (
    "rest-attributes",
    "rest-requires",
    "rest-function",
    "rest-decorated",
    "rest-around",
    "viewset",
    "viewset-action",
)


@dataclass(frozen=True)
class Doorway:
    """One kind of door in one world."""

    name: str
    world: str

    @property
    def is_rest(self) -> bool:
        return self.name in _REST


DOORWAYS = [
    Doorway(name, world)
    for name in (*_PLAIN, *(_REST if find_spec("rest_framework") else ()))
    for world in ("sync", "async")
]

#: One of each kind.
FEW_DOORWAYS = [
    door
    for door in DOORWAYS
    if (door.name, door.world)
    in {
        ("function", "sync"),
        ("afunction", "async"),
        ("aclass", "async"),
        ("rest-attributes", "sync"),
        ("rest-requires", "sync"),
    }
]


def doorway_id(door: Doorway) -> str:
    return f"{door.name}-{door.world}"


@contextmanager
def served(asked: dict[str, Any]) -> Iterator[Callable[..., Any]]:
    """Put the doors up; the result goes through one: ``visit(door, "Bearer …", organization="acme")``."""
    urls = ModuleType("requirement_urls")
    patterns = _patterns(asked)
    urls.urlpatterns = [  # type: ignore[attr-defined]
        path("", include(patterns)),
        path("of/<slug:organization>/", include(patterns)),
    ]

    def visit(door: Doorway, authorization: str, *, organization: str | None = None, **headers: str) -> Any:
        client: Any = AsyncClient() if door.world == "async" else Client()
        client.cookies["__clerk_db_jwt"] = "dvb_1"  # no browser of a development instance goes without
        get = async_to_sync(client.get) if door.world == "async" else client.get
        where = f"/{door.name}" if organization is None else f"/of/{organization}/{door.name}"
        return get(where, headers={"authorization": authorization, **headers})

    with override_settings(ROOT_URLCONF=urls):
        yield visit
