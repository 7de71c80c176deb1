"""
The pytest fixtures ``local_clerk`` and ``clerk``. Installed with the library; nothing to import or to register.

::

    def test_invoices(client, clerk, db):
        ada = clerk.add_user(email="ada@example.com")
        clerk.sign_in(client, ada, org_role="org:admin", org_permissions=["org:invoices:read"])
        assert client.get("/invoices").status_code == 200

pytest loads this module in every project that has the library installed, also in those without Django. So the top of
the module imports pytest and nothing else; the rest is imported when a test asks for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, cast

import pytest

if TYPE_CHECKING:
    from django.test import AsyncClient, Client

    from clerk_views.testing import LocalClerk, LocalMembership, LocalOrganization, LocalUser
    from clerk_views.testing.webhooks import WebhookAnswer


class ClerkFixture:
    """
    What the ``clerk`` fixture gives to a test.

    Attributes:
        server: The LocalClerk behind it, for everything that is not here: faults, calls, key rotation, …
    """

    def __init__(self, server: LocalClerk) -> None:
        self.server = server

    def add_user(self, **fields: Any) -> LocalUser:
        """Add a user; see LocalClerk.add_user()."""
        return self.server.add_user(**fields)

    def add_organization(self, **fields: Any) -> LocalOrganization:
        """Add an organisation; see LocalClerk.add_organization()."""
        return self.server.add_organization(**fields)

    def add_member(
        self,
        organization: LocalOrganization | str,
        user: LocalUser | str,
        role: str = "org:member",
        permissions: Iterable[str] | None = None,
    ) -> LocalMembership:
        """Make a user a member of an organisation; see LocalClerk.add_member()."""
        return self.server.add_member(organization, user, role, permissions)

    def token(self, user: LocalUser | str, /, **claims: Any) -> str:
        """
        Mint a session token.

        Args:
            claims: What LocalClerk.token() takes: ``organization`` or ``org_role``, ``org_permissions``, …;
                ``features``, ``plans``, ``factor_verification_age``, ``actor``, ``pending``; ``expires_in`` and the
                like; and claims by their own names, which win.
        """
        return self.server.token(user, **claims)

    def sign_in(
        self,
        client: Client | AsyncClient,
        user: LocalUser | str,
        /,
        *,
        via: Literal["cookie", "bearer"] = "cookie",
        **claims: Any,
    ) -> str:
        """
        Let a test client send a fresh session token with each request from now on.

        Args:
            client: Django's Client or AsyncClient, or REST framework's APIClient.
            via: "cookie" as browsers do it, or "bearer" for an Authorization header.
            claims: As for token().

        Returns:
            The token. It lives 60 seconds unless ``expires_in`` says otherwise.
        """
        self.sign_out(client)
        issued_at = claims.setdefault("issued_at", time.time())
        token = self.server.token(user, **claims)
        if via == "bearer":
            _defaults(client)[_authorization(client)] = f"Bearer {token}"
        else:
            # With the time when the browser signed in; a token from before that would count as a left-over.
            for name, value in self.server.session_cookies(token, issued_at).items():
                client.cookies[name] = value
        return token

    def send_webhook(
        self, target: str | Client | AsyncClient, event_type: str, data: Any, /, **message: Any
    ) -> WebhookAnswer:
        """Tell the project what has happened; see LocalClerk.send_webhook()."""
        return self.server.send_webhook(target, event_type, data, **message)

    def sign_out(self, client: Client | AsyncClient, /) -> None:
        """Let a test client send no Clerk credential any more. An Authorization header of another scheme stays."""
        for name in self.server.session_cookies(""):
            client.cookies.pop(name, None)
        defaults, name = _defaults(client), _authorization(client)
        if defaults.get(name, "").startswith("Bearer "):
            del defaults[name]


def _defaults(client: Client | AsyncClient) -> dict[str, Any]:
    """Return what the client adds to each request; headers are among it."""
    return cast("dict[str, Any]", client.defaults)


def _authorization(client: Client | AsyncClient) -> str:
    """Return the key of the Authorization header there: WSGI's name, or ASGI's."""
    from django.test import AsyncClient

    return "authorization" if isinstance(client, AsyncClient) else "HTTP_AUTHORIZATION"


@pytest.fixture(scope="session")
def _local_clerk_server() -> Iterator[LocalClerk]:
    from clerk_views.testing import LocalClerk

    with LocalClerk() as server:
        yield server


@pytest.fixture
def local_clerk(_local_clerk_server: LocalClerk, request: pytest.FixtureRequest) -> Iterator[LocalClerk]:
    """
    A running LocalClerk that Django's settings point at.

    One server serves all tests, but each finds it empty: no users, faults or calls, and another secret key and signing
    key, so nothing that the library remembers from one test can matter in the next. Caches that live in this process
    are emptied; shared ones (Redis, …) are left alone, for they may not be the tests' own.
    """
    from django.conf import settings
    from django.core.cache import caches
    from django.test.utils import override_settings

    _local_clerk_server.reset()
    for alias, cache in settings.CACHES.items():
        if cache.get("BACKEND") == "django.core.cache.backends.locmem.LocMemCache":
            caches[alias].clear()
    values = _local_clerk_server.settings()
    plugins = request.config.pluginmanager.get_plugins()
    if any(getattr(plugin, "__name__", "") == "pytest_django.plugin" for plugin in plugins):
        # pytest-django's own fixture must make the change: overrides that end in another order than they began
        # leave the wrong settings behind, and the test may be using that fixture too.
        wrapper = request.getfixturevalue("settings")
        for name, value in values.items():
            setattr(wrapper, name, value)
        yield _local_clerk_server
    else:
        with override_settings(**values):
            yield _local_clerk_server


@pytest.fixture
def clerk(local_clerk: LocalClerk) -> ClerkFixture:
    """Users, tokens and signed-in test clients, against ``local_clerk``."""
    return ClerkFixture(local_clerk)
