"""Clerk's own scripts, clerk-js and its components from npm, in a real browser against the stand-in; both key kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

import jwt
import pytest

from clerk_views.testing import LocalClerk, LocalUser

if TYPE_CHECKING:
    from tests.browser import Browser

KINDS = [pytest.param(False, id="development"), pytest.param(True, id="production")]

PAGE = """<!doctype html><title>app</title><div id="place"></div>
<script crossorigin="anonymous" data-clerk-publishable-key="%(key)s" data-clerk-proxy-url="%(url)s"
  src="%(url)s/npm/@clerk/clerk-js@6/dist/clerk.browser.js"></script>
<script crossorigin="anonymous" src="%(url)s/npm/@clerk/ui@1/dist/ui.browser.js"></script>
<script>
  const place = document.getElementById("place");
  Clerk.load({ui: {ClerkUI: window.__internal_ClerkUICtor}, telemetry: false}).then(() => {
    if (Clerk.user) Clerk.mountUserButton(place);
    else Clerk.mountSignIn(place, {fallbackRedirectUrl: "/welcome"});
    window.ready = true;
  });
</script>"""


class App:
    """An application on another port of this machine: one page under every path, and what was asked of it."""

    def __init__(self, clerk: LocalClerk) -> None:
        self.requests: list[tuple[str, str]] = []  # paths, and the cookies that came with them
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(clerk))
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.url = f"http://{urlsplit(clerk.url).hostname}:{self._server.server_port}"

    def _handler(self, clerk: LocalClerk) -> type[BaseHTTPRequestHandler]:
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path != "/favicon.ico":
                    requests.append((self.path, self.headers["Cookie"] or ""))
                body = (PAGE % {"key": clerk.publishable_key, "url": clerk.url}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler

    def __enter__(self) -> App:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(params=KINDS)
def clerk(request: pytest.FixtureRequest, clerk_packages: Path) -> Iterator[LocalClerk]:
    # clerk-js renews a token 17 seconds before its end, so these after three seconds.
    with LocalClerk(production=request.param, packages=clerk_packages, session_lifetime=20) as started:
        yield started


@pytest.fixture
def app(clerk: LocalClerk) -> Iterator[App]:
    with App(clerk) as started:
        yield started


@pytest.fixture
def ada(clerk: LocalClerk) -> LocalUser:
    return clerk.add_user(email="ada@example.com", first_name="Ada")


@pytest.fixture
def sign_in(clerk: LocalClerk, app: App, browser: Browser) -> Callable[[LocalUser], None]:
    """Choose a user on the stand-in's sign-in page, and come back to the application."""

    def choose(user: LocalUser) -> None:
        browser.open(f"{clerk.url}/sign-in?redirect_url={quote(f'{app.url}/in', safe='')}")
        browser.run("document.querySelector(arguments[0]).click()", f'button[value="{user.id}"]')
        browser.wait_for("window.ready && location.pathname === '/in'")

    return choose


def names(*cookies: str, clerk: LocalClerk) -> set[str]:
    return {*cookies, *(f"{name}_{clerk.cookie_suffix}" for name in cookies)}


def test_a_visitor_signs_in_on_the_page_of_the_stand_in(
    clerk: LocalClerk, app: App, browser: Browser, ada: LocalUser, sign_in: Callable[[LocalUser], None]
) -> None:
    browser.open(app.url)
    assert browser.wait_for("window.ready && Clerk.user === null && Clerk.status") == "ready"

    sign_in(ada)

    assert browser.run("[Clerk.user.id, Clerk.status]") == [ada.id, "ready"]
    browser.wait_for("document.querySelector('#place .cl-userButtonTrigger')")
    cookies = browser.cookies
    assert names("__session", "__client_uat", clerk=clerk) <= cookies.keys()
    assert (names("__clerk_db_jwt", clerk=clerk) <= cookies.keys()) is not clerk.production
    claims = jwt.decode(cookies["__session"]["value"], clerk.signing_key.public_pem, algorithms=["RS256"])
    assert (claims["sub"], claims["azp"]) == (ada.id, app.url)
    assert 0 < int(cookies["__client_uat"]["value"]) <= claims["iat"]
    assert "__session=" in app.requests[-1][1]
    assert browser.errors == []


def test_a_visitor_signs_in_with_clerk_s_own_form(
    clerk: LocalClerk, app: App, browser: Browser, ada: LocalUser
) -> None:
    browser.open(app.url)

    browser.fill_in("ada@example.com")

    browser.wait_for("location.pathname === '/welcome' && window.ready")
    assert browser.run("Clerk.user.id") == ada.id
    assert "__session=" in app.requests[-1][1]
    assert "__client_uat=" in app.requests[-1][1]


def test_the_token_is_renewed_by_itself(
    clerk: LocalClerk, browser: Browser, ada: LocalUser, sign_in: Callable[[LocalUser], None]
) -> None:
    sign_in(ada)
    first = browser.cookies["__session"]["value"]
    asked = clerk.calls.count("/v1/client/sessions/{id}/tokens")

    browser.wait_for("document.cookie.includes('__session=') && !document.cookie.includes(arguments[0])", first)

    assert clerk.calls.count("/v1/client/sessions/{id}/tokens") > asked
    renewed = browser.cookies
    assert renewed["__session"]["value"] == renewed[f"__session_{clerk.cookie_suffix}"]["value"]
    assert browser.run("Clerk.user.id") == ada.id


def test_signing_out_ends_the_session_and_removes_the_cookies(
    clerk: LocalClerk, app: App, browser: Browser, ada: LocalUser, sign_in: Callable[[LocalUser], None]
) -> None:
    sign_in(ada)
    assert len(clerk.sessions(ada)) == 1

    browser.run("void Clerk.signOut()")
    browser.wait_for("window.ready && location.pathname === '/' && Clerk.user === null")

    assert clerk.sessions(ada) == []
    cookies = browser.cookies
    assert not cookies.keys() & names("__session", "__refresh", clerk=clerk)
    assert {cookies[name]["value"] for name in names("__client_uat", clerk=clerk)} == {"0"}
    assert "__session=" not in app.requests[-1][1]


def test_a_session_that_is_revoked_elsewhere_signs_the_open_page_out(
    clerk: LocalClerk, browser: Browser, ada: LocalUser, sign_in: Callable[[LocalUser], None]
) -> None:
    sign_in(ada)
    clerk.update_user(ada, banned=True)

    browser.wait_for("Clerk.user === null")

    assert not browser.cookies.keys() & names("__session", clerk=clerk)


def test_the_page_of_the_stand_in_signs_the_scripts_out(
    clerk: LocalClerk, app: App, browser: Browser, ada: LocalUser, sign_in: Callable[[LocalUser], None]
) -> None:
    sign_in(ada)
    action = f"{clerk.url}/sign-out?redirect_url={quote(app.url, safe='')}/out"
    form = f'<form id="out" method="post" action="{action}"></form>'
    browser.run("document.body.insertAdjacentHTML('beforeend', arguments[0])", form)
    browser.run("document.getElementById('out').submit()")
    browser.wait_for("window.ready && location.pathname === '/out'")

    assert browser.run("Clerk.user") is None
    assert clerk.sessions(ada) == []


def test_an_organisation_becomes_active_in_the_token(
    clerk: LocalClerk, browser: Browser, ada: LocalUser, sign_in: Callable[[LocalUser], None]
) -> None:
    acme = clerk.add_organization(name="Acme")
    clerk.add_member(acme, ada, "org:admin")
    sign_in(ada)
    assert browser.run("Clerk.organization") is None

    browser.run("Clerk.setActive({organization: arguments[0]}).then(() => Clerk.organization.name)", acme.id)

    token = browser.cookies["__session"]["value"]
    claims = jwt.decode(token, clerk.signing_key.public_pem, algorithms=["RS256"])
    assert claims["o"] == {"id": acme.id, "slg": "acme", "rol": "admin"}


def test_nothing_is_loaded_from_elsewhere_not_even_pictures(
    clerk: LocalClerk, browser: Browser, ada: LocalUser, sign_in: Callable[[LocalUser], None]
) -> None:
    clerk.add_member(clerk.add_organization(name="Acme"), ada)
    sign_in(ada)

    assert browser.wait_for("document.querySelector('#place img')?.naturalWidth") == 64
    browser.run("void (Clerk.unmountUserButton(place), Clerk.mountOrganizationList(place))")
    browser.wait_for("document.querySelectorAll('#place img').length > 1")
    browser.wait_for("[...document.querySelectorAll('#place img')].every(each => each.naturalWidth === 64)")

    loaded = browser.run("performance.getEntriesByType('resource').map(each => new URL(each.name).hostname)")
    assert set(loaded) == {"127.0.0.1"}


def test_the_handshake_comes_back_with_what_the_application_takes_up(
    clerk: LocalClerk, app: App, browser: Browser, ada: LocalUser, sign_in: Callable[[LocalUser], None]
) -> None:
    sign_in(ada)
    target = quote(f"{app.url}/back?page=2", safe="")

    browser.open(f"{clerk.url}/v1/client/handshake?redirect_url={target}&suffixed_cookies=true&format=nonce")

    path, cookies = next(request for request in app.requests if request[0].startswith("/back"))
    query = parse_qs(urlsplit(path).query)
    assert query["page"] == ["2"]
    assert ("__clerk_handshake_nonce" in query) is not clerk.production
    assert ("__clerk_handshake_nonce=" in cookies) is clerk.production


@pytest.mark.parametrize("production", KINDS)
def test_it_works_under_the_name_localhost_as_well(clerk_packages: Path, browser: Browser, production: bool) -> None:
    with LocalClerk(production=production, packages=clerk_packages, host="localhost") as clerk, App(clerk) as app:
        ada = clerk.add_user(username="ada")
        browser.open(f"{clerk.url}/sign-in?redirect_url={quote(app.url, safe='')}")
        browser.run("document.querySelector('button[name=user_id]').click()")
        browser.wait_for("window.ready")
        assert browser.run("Clerk.user.id") == ada.id
        assert browser.url == f"{app.url}/"
