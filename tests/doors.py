"""
Every door, as a table: what the tests of "the same answer everywhere" go through.

A door is a way to a view, a client (WSGI or ASGI) and the middleware in front of it. ``Door.send`` sends one request,
and ``Door.verdict`` says what came of it in words that are the same for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import AsyncClient, Client, override_settings

from clerk_views.conf import config

MIDDLEWARE = "clerk_views.middleware.ClerkMiddleware"


def beside(cookie: str | None = None) -> str:
    """
    Return a raw cookie header with what a browser of a development instance keeps besides session tokens.

    Long signed in, under both spellings of the names; so the newer of two tokens counts, the suffixed one of equals.
    Without any cookie of ours only the browser's own token, as of somebody who never signed in.
    """
    try:
        key = config().publishable_key
    except ImproperlyConfigured:
        key = None
    if key is None:
        return cookie or ""
    names = ["__clerk_db_jwt"] if cookie is None else ["__clerk_db_jwt", "__client_uat"]
    added = [f"{name}{ending}=1" for name in names for ending in ("", f"_{key.cookie_suffix}")]
    return "; ".join(filter(None, [cookie, *added]))


class RawAsyncClient(AsyncClient):
    """Sends the cookie header that a test gives, and not an empty one beside it, which Django 5.2 would join to it."""

    def _base_scope(self, **request: Any) -> Any:
        scope: Any = super()._base_scope(**request)  # type: ignore[misc]  # the stubs leave it out
        scope["headers"] = [header for header in scope["headers"] if header != (b"cookie", b"")]
        return scope


@dataclass(frozen=True)
class Door:
    """
    Attributes:
        path: Where the view is.
        kind: ``required`` refuses the signed-out with 401; ``optional`` and ``site`` let them in as nobody.
        world: ``sync`` for WSGI, ``async`` for ASGI.
        middleware: Whether ClerkMiddleware stands in front.
    """

    path: str
    kind: str
    world: str
    middleware: bool

    @property
    def id(self) -> str:
        return f"{self.path.strip('/').replace('/', '-')}-{self.world}{'-middleware' if self.middleware else ''}"

    @contextmanager
    def open(self) -> Iterator[None]:
        """Put the door's middleware in place."""
        middleware = [*settings.MIDDLEWARE, MIDDLEWARE] if self.middleware else settings.MIDDLEWARE
        with override_settings(MIDDLEWARE=middleware):
            yield

    def send(
        self,
        authorization: str | None = None,
        cookie: str | None = None,
        *,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        path: str | None = None,
        client: Any = None,
        **options: Any,
    ) -> HttpResponse:
        """Send one request with these raw header values, and the cookies that no browser goes without."""
        raw = dict(headers or {})
        if authorization is not None:
            raw["authorization"] = authorization
        if client is None or cookie is not None:
            raw["cookie"] = beside(cookie)
        where = path or self.path
        with self.open():
            if self.world == "async":
                client = client or RawAsyncClient(raise_request_exception=False)

                async def send() -> HttpResponse:
                    response: HttpResponse = await client.generic(method, where, headers=raw, **options)
                    return response

                return async_to_sync(send)()
            client = client or Client(raise_request_exception=False)
            response: HttpResponse = client.generic(method, where, headers=raw, **options)
            return response

    def verdict(self, response: HttpResponse) -> str:
        """Say what came of it: the Clerk user's id, ``nobody``, or a status."""
        if response.status_code == 200:
            return response.json()["clerk"] or "nobody"  # type: ignore[attr-defined]
        if response.status_code == 401 and self.kind == "required":
            return "nobody"
        return str(response.status_code)


_PLAIN = [
    ("/required/", "required"),
    ("/required/async/", "required"),
    ("/class/", "required"),
    ("/class/async/", "required"),
    ("/class/decorated/", "required"),
    ("/class/decorated/async/", "required"),
    ("/optional/", "optional"),
    ("/optional/async/", "optional"),
    ("/class/optional/", "optional"),
    ("/class/optional/async/", "optional"),
    ("/class/decorated/optional/async/", "optional"),
]
_REST = [
    ("/api/", "required"),
    ("/api/function/", "required"),
    ("/api/decorated/", "required"),
    ("/api/decorated-outside/", "required"),
    ("/api/things/", "required"),
    ("/api/things/recent/", "required"),
]
_SITE = [("/plain/", "site"), ("/plain/async/", "site")]

WORLDS = ("sync", "async")
REST_FRAMEWORK = find_spec("rest_framework") is not None

#: Every door, in both worlds, with and without the middleware where it stands by itself.
DOORS = [
    Door(path, kind, world, middleware)
    for path, kind in [*_PLAIN, *(_REST if REST_FRAMEWORK else [])]
    for world in WORLDS
    for middleware in (False, True)
] + [Door(path, kind, world, True) for path, kind in _SITE for world in WORLDS]

#: The doors that refuse whoever is not signed in.
REQUIRED = [door for door in DOORS if door.kind == "required"]

#: One of each kind: for what is costly to try and not decided at the door.
FEW = [
    door
    for door in DOORS
    if (door.path, door.world, door.middleware)
    in {
        ("/required/", "sync", False),
        ("/required/async/", "async", False),
        ("/class/", "sync", True),
        ("/api/", "sync", False),
        ("/plain/", "sync", True),
        ("/plain/async/", "async", True),
        ("/optional/", "async", True),
    }
]


def door_id(door: Door) -> str:
    return door.id
