"""
A local stand-in for Clerk, for tests and for trying things out without an account.

::

    from clerk_views.testing import LocalClerk

    with LocalClerk() as clerk_server:
        ada = clerk_server.add_user(email="ada@example.com")
        with override_settings(**clerk_server.settings()):
            client.get("/invoices", headers={"Authorization": f"Bearer {clerk_server.token(ada)}"})

What it offers is listed in server.py, and who it is, with the settings that point at it, in instance.py; places.py
says under which names, and where it may lead. backend.py answers for Clerk's Backend API, frontend.py for the
Frontend API as clerk-js asks it; clients.py knows the browsers, handshakes.py brings their cookies up to date,
sign_in.py is the page, packages.py serves Clerk's own scripts from a folder, and pictures.py what users look like.
tokens.py says what is in a session token, machines.py knows API keys and the like, minting.py signs tokens of every
shape. The pytest fixtures ``local_clerk`` and ``clerk`` are in fixtures.py.

It listens on 127.0.0.1 alone, and nothing in the library imports it: it cannot be switched on by a setting.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clerk_views.testing.directory import LocalUser
    from clerk_views.testing.machines import LocalMachine
    from clerk_views.testing.organizations import LocalMembership, LocalOrganization
    from clerk_views.testing.server import LocalClerk
    from clerk_views.testing.sessions import LocalSession

__all__ = ["LocalClerk", "LocalMachine", "LocalMembership", "LocalOrganization", "LocalSession", "LocalUser"]

_HOMES = {
    "LocalClerk": "clerk_views.testing.server",
    "LocalMachine": "clerk_views.testing.machines",
    "LocalMembership": "clerk_views.testing.organizations",
    "LocalOrganization": "clerk_views.testing.organizations",
    "LocalSession": "clerk_views.testing.sessions",
    "LocalUser": "clerk_views.testing.directory",
}


def __getattr__(name: str) -> Any:
    # pytest imports this package in every project that has it installed, for the fixtures beside it. Only those
    # that use the kit should pay for an HTTP server and for cryptography.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
