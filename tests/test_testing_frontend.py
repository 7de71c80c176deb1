"""
The stand-in's Frontend API: Clerk's own clerk-js works against it, and the handshake, for both kinds of keys.

The first part asks as a program does, the second part is clerk-js from npm in a real browser.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest

from clerk_views.testing import LocalClerk, LocalUser

if TYPE_CHECKING:
    from tests.browser import Browser

KINDS = {"development": False, "production": True}

PAGE = """<!doctype html><title>app</title><div id="button">fallback</div>
<script crossorigin="anonymous" data-clerk-publishable-key="%(key)s" data-clerk-proxy-url="%(url)s"
  src="%(url)s/npm/@clerk/clerk-js@6/dist/clerk.browser.js"></script>
<script crossorigin="anonymous" src="%(url)s/npm/@clerk/ui@1/dist/ui.browser.js"></script>
<script>
  window.started = Clerk.load({ui: {ClerkUI: window.__internal_ClerkUICtor}, telemetry: false}).then(() => {
    if (Clerk.user) Clerk.mountUserButton(document.getElementById("button"));
    window.ready = true;
  });
</script>"""


class App:
    """An application on another port of this machine: one page, and what cookies it was sent."""

    def __init__(self, clerk: LocalClerk) -> None:
        app = self
        self.cookies: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path != "/favicon.ico":
                    app.cookies.append(self.headers["Cookie"] or "")
                body = (PAGE % {"key": clerk.publishable_key, "url": clerk.url}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> App:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def clerk(request: pytest.FixtureRequest, clerk_packages: Path) -> Iterator[LocalClerk]:
    with LocalClerk(production=request.param, packages=clerk_packages, session_lifetime=20) as started:
        yield started


@pytest.fixture
def app(clerk: LocalClerk) -> Iterator[App]:
    with App(clerk) as started:
        yield started


class TestClerkJs:
    def test_all(self, clerk: LocalClerk, app: App, browser: Browser) -> None:
        ada = clerk.add_user(email="ada@example.com", first_name="Ada", last_name="Lovelace")
        browser.open(app.url)
        browser.wait_for("window.ready")
        assert browser.run("Clerk.user") is None
        print(browser.cookies.keys())
        browser.open(f"{clerk.url}/sign-in?redirect_url={app.url}/")
        browser.run("document.querySelector('button[name=user_id]').click()")
        browser.wait_for("window.ready")
        print(browser.url, browser.cookies.keys(), browser.errors)
        assert browser.run("Clerk.user.id") == ada.id
        browser.wait_for("document.querySelector('#button button')")
        first = browser.cookies["__session"]["value"]
        t = time.time()
        browser.wait_for("document.cookie.includes('__session=') && !document.cookie.includes(arguments[0])", first)
        print("renewed after", time.time() - t)
        browser.run("Clerk.signOut()")
        browser.wait_for("Clerk.loaded && !Clerk.user")
        print(browser.url, browser.cookies, browser.errors)
        print([c.path for c in clerk.calls.paths if "/npm" not in c.path])
        assert 0
