"""
The demo in a real browser: what a visitor of a server-rendered site goes through, with keys of both kinds.

Each site is a process of its own, as a project's is; the stand-in for Clerk runs here, where the tests can ask it.
"""

from __future__ import annotations

import json
import os
import runpy
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import jwt
import pytest

from clerk_views.testing import LocalClerk, LocalUser
from clerk_views.testing.minting import new_signing_key

if TYPE_CHECKING:
    from tests.browser import Browser

DEMO = Path(__file__).resolve().parents[1] / "examples" / "demo"

pytest.importorskip("rest_framework")

RUN = runpy.run_path(str(DEMO / "run.py"))

#: What a site's process runs: settings come by its standard input, the open port by a file descriptor.
PROGRAM = """
import json, socket, sys
from pathlib import Path
import run
site = socket.socket(fileno=int(sys.argv[1]))
run.prepare_site(site.getsockname()[1], Path(sys.argv[2]), json.load(sys.stdin))
from django.core.checks import run_checks
assert not [problem for problem in run_checks(tags=["clerk_views"]) if problem.is_serious()], run_checks()
run.web_server().run(sockets=[site])
"""

KINDS = [pytest.param(False, id="development"), pytest.param(True, id="production")]

HEADING = "document.querySelector('h1')?.textContent.trim() === arguments[0]"


@contextmanager
def open_port() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listener:
        os.set_inheritable(listener.fileno(), True)
        yield listener


@contextmanager
def serving(listener: socket.socket, database: Path, settings: dict[str, Any]) -> Iterator[None]:
    """Serve the demo on an open port, in a process of its own, with these settings."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(listener.fileno()), str(database)],
        cwd=DEMO,
        env={
            **{name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"},
            "PYTHONPATH": os.pathsep.join([str(DEMO), str(DEMO.parents[1]), *filter(None, sys.path)]),
        },
        pass_fds=[listener.fileno()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(settings))
    process.stdin.close()
    process.stdin = None
    try:
        port = listener.getsockname()[1]
        answer = httpx.get(f"http://127.0.0.1:{port}/static/demo.css", timeout=60, trust_env=False)  # once it is there
        assert answer.status_code == 200
        yield
    finally:
        process.terminate()
        try:
            output, _ = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            output = process.communicate()[0] + "\nit did not end by itself"
        assert "Traceback" not in output, output
        assert "did not end" not in output, output


class World:
    """
    The stand-in, and where two sites can be opened: under 127.0.0.1 and under localhost, or under names of a domain.

    Cookies belong to host names, so to a browser the first two are as far from each other as two domains.
    """

    def __init__(self, clerk: LocalClerk, folder: Path, ports: dict[str, socket.socket]) -> None:
        self.clerk = clerk
        self.origins = {host: f"http://{host}:{port.getsockname()[1]}" for host, port in ports.items()}
        self.url = next(iter(self.origins.values()))
        self._folder = folder
        self._ports = ports

    def serve(self, host: str | None = None, **settings: Any) -> AbstractContextManager[None]:
        """Serve the demo under a host name, the first one by default."""
        host = host or next(iter(self.origins))
        # Without leeway, so that a token expires when it says so.
        settings = (
            RUN["stand_in_settings"](self.clerk)
            | {"CLERK_CLOCK_SKEW_IN_MS": 0, "ALLOWED_HOSTS": ["127.0.0.1", host]}
            | settings
        )
        return serving(self._ports[host], self._folder / f"{host}.sqlite3", settings)


@contextmanager
def world(folder: Path, names: Sequence[str] = ("127.0.0.1", "localhost"), **options: Any) -> Iterator[World]:
    with open_port() as here, open_port() as there:
        ports = dict(zip(names, (here, there), strict=True))
        origins = [f"http://{host}:{port.getsockname()[1]}" for host, port in ports.items()]
        with LocalClerk(parties=origins, **options) as clerk:
            yield World(clerk, folder, ports)


@pytest.fixture(scope="module", params=KINDS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The demo, running; tests bring users of their own."""
    with world(tmp_path_factory.mktemp("site"), production=request.param) as there, there.serve():
        yield there


@pytest.fixture
def clerk(site: World) -> Iterator[LocalClerk]:
    yield site.clerk
    site.clerk.session_lifetime = 60


@pytest.fixture
def ada(clerk: LocalClerk) -> LocalUser:
    return clerk.add_user(first_name="Ada")


def press(browser: Browser, text: str) -> None:
    """Press a button or follow a link that says so, and wait until the next page is there."""
    found = "[...document.querySelectorAll('button, a')].find(each => each.textContent.trim() === arguments[0])"
    browser.run("void (window.isTheOldPage = true)")
    browser.run(f"void {found}.click()", text)
    browser.wait_for("!window.isTheOldPage && document.readyState === 'complete'")


def choose(browser: Browser, user: LocalUser) -> None:
    """On the page of the stand-in, choose who to be, and wait until that has led elsewhere."""
    origin = browser.run("location.origin")
    browser.run("void document.querySelector(arguments[0]).click()", f'button[value="{user.id}"]')
    browser.wait_for("location.origin !== arguments[0] && document.readyState === 'complete'", origin)


def sign_in(browser: Browser, site: World, user: LocalUser, path: str = "/required/") -> None:
    """Open a page that wants a user, choose one at the stand-in, and come back."""
    browser.open(f"{site.url}{path}")
    assert browser.url.startswith(f"{site.clerk.url}/sign-in?")
    choose(browser, user)


def heading(browser: Browser) -> Any:
    return browser.run("document.querySelector('h1').textContent.trim()")


def expire(browser: Browser, *, keep_refresh_token: bool = False) -> None:
    """Wait until the token of a browser has expired."""
    token = browser.cookies["__session"]["value"]
    expires: float = jwt.decode(token, options={"verify_signature": False})["exp"]
    time.sleep(max(0, expires - time.time()) + 0.1)
    if not keep_refresh_token:
        for name in [name for name in browser.cookies if name.startswith("__refresh")]:
            browser.driver.delete_cookie(name)


def forget_detours(browser: Browser) -> None:
    """Do as if two seconds had passed, after which detours count from one again."""
    browser.driver.delete_cookie("__clerk_redirect_count")


def test_a_visitor_signs_in_and_comes_back_to_the_very_page(browser: Browser, site: World, ada: LocalUser) -> None:
    sign_in(browser, site, ada, "/required/?page=2")

    assert browser.url == f"{site.url}/required/?page=2"
    assert heading(browser).startswith("Hello, ")
    assert browser.cookies["__session"]["path"] == "/"
    browser.open(f"{site.url}/whoami/")
    assert heading(browser) == "You are Ada"
    assert browser.errors == []


def test_the_first_page_is_open_to_strangers(browser: Browser, site: World) -> None:
    """With a development key by way of Clerk, which gets to know the browser; the address does not tell."""
    browser.open(f"{site.url}/optional/?a=b%20c")

    assert heading(browser) == "Hello, stranger."
    assert browser.url == f"{site.url}/optional/?a=b{'%20' if site.clerk.production else '+'}c"
    assert ("__clerk_db_jwt" in browser.cookies) is not site.clerk.production


def test_after_expiry_a_handshake_brings_the_visitor_back(
    browser: Browser, site: World, clerk: LocalClerk, ada: LocalUser
) -> None:
    clerk.session_lifetime = 1
    sign_in(browser, site, ada)
    expire(browser)
    clerk.calls.reset()
    clerk.session_lifetime = 60

    browser.open(f"{site.url}/members/")

    assert heading(browser).startswith("Hello, ")
    assert browser.url == f"{site.url}/members/"
    assert clerk.calls.count("/v1/client/handshake") == 1
    browser.open(f"{site.url}/required/")
    assert heading(browser).startswith("Hello, ")
    assert clerk.calls.count("/v1/client/handshake") == 1


def test_a_refresh_token_spares_the_detour(browser: Browser, site: World, clerk: LocalClerk, ada: LocalUser) -> None:
    clerk.session_lifetime = 1
    sign_in(browser, site, ada)
    expire(browser, keep_refresh_token=True)
    clerk.calls.reset()
    clerk.session_lifetime = 60
    old = browser.cookies["__session"]["value"]

    browser.open(f"{site.url}/members/")

    assert heading(browser).startswith("Hello, ")
    assert clerk.calls.count("/v1/client/handshake") == 0
    assert browser.cookies["__session"]["value"] != old


def test_a_session_that_ended_at_clerk_is_over_here_once_its_token_is(
    browser: Browser, site: World, clerk: LocalClerk, ada: LocalUser
) -> None:
    clerk.session_lifetime = 1
    sign_in(browser, site, ada)
    clerk.sessions(ada)[0].revoke()
    expire(browser)

    browser.open(f"{site.url}/required/")

    assert browser.url.startswith(f"{clerk.url}/sign-in?")


def test_signing_out_is_for_clerk_too(browser: Browser, site: World, clerk: LocalClerk, ada: LocalUser) -> None:
    sign_in(browser, site, ada)

    press(browser, "Sign out")

    assert browser.url == f"{site.url}/"
    assert browser.run("document.querySelector('.state .big').textContent") == "Nobody yet"
    assert clerk.sessions(ada) == []
    assert not [name for name in browser.cookies if name.startswith(("__session", "__refresh"))]
    browser.open(f"{site.url}/required/")
    assert browser.url.startswith(f"{clerk.url}/sign-in?")


def test_step_up_is_passed_after_verifying_again(browser: Browser, site: World, ada: LocalUser) -> None:
    sign_in(browser, site, ada, "/step-up/")
    assert heading(browser) == "You proved it lately."

    press(browser, "Let an hour pass, or verify again")
    press(browser, "As if an hour had passed")
    assert (browser.url, heading(browser)) == (f"{site.url}/step-up/", "Prove that it is you")

    press(browser, "Verify again")
    press(browser, "It is me: prove it again")
    assert (browser.url, heading(browser)) == (f"{site.url}/step-up/", "You proved it lately.")


def test_an_address_makes_its_organisation_active_for_members_alone(
    browser: Browser, site: World, clerk: LocalClerk, ada: LocalUser
) -> None:
    """Whoever is no member is told so."""
    ours, theirs = (clerk.add_organization(name=name, slug=f"{name}-{ada.id[-6:].lower()}") for name in ("a", "b"))
    clerk.add_member(ours, ada)
    sign_in(browser, site, ada, f"/orgs/{ours.slug}/")

    assert heading(browser).endswith(f"welcome to {ours.slug}.")
    clerk.calls.reset()
    browser.open(f"{site.url}/orgs/{theirs.slug}/")
    assert heading(browser) == "This door stays closed"
    assert 1 <= clerk.calls.count("/v1/client/handshake") <= 3


def test_handshakes_that_bring_nothing_of_use_come_to_an_end(
    browser: Browser, site: World, clerk: LocalClerk, ada: LocalUser
) -> None:
    """As where the two clocks differ: each token has expired on arrival, and asks for the next handshake (RED-03)."""
    clerk.session_lifetime = 1
    sign_in(browser, site, ada)
    expire(browser)
    forget_detours(browser)
    clerk.calls.reset()
    clerk.session_lifetime = -30

    browser.open(f"{site.url}/optional/")

    assert heading(browser) == "Hello, stranger."
    assert clerk.calls.count("/v1/client/handshake") == 3
    browser.open(f"{site.url}/required/")
    assert browser.url.startswith(f"{clerk.url}/sign-in?")


@pytest.mark.parametrize("production", KINDS)
def test_signing_in_comes_to_an_end_where_keys_do_not_match(browser: Browser, tmp_path: Path, production: bool) -> None:
    """Nothing that Clerk signs is believed here, so signing in leads to the sign-in page again (RED-03)."""
    wrong = new_signing_key().public_pem
    with world(tmp_path, production=production) as site, site.serve(CLERK_JWT_KEY=wrong):
        ada = site.clerk.add_user(first_name="Ada")
        turns = 0
        browser.open(f"{site.url}/required/")
        while browser.url.startswith(site.clerk.url) and turns < 10:
            turns += 1
            browser.run("void (window.isTheOldPage = true)")
            browser.run("void document.querySelector(arguments[0]).click()", f'button[value="{ada.id}"]')
            browser.wait_for("!window.isTheOldPage && document.readyState === 'complete'")

        assert turns == 3
        assert (browser.url, heading(browser)) == (f"{site.url}/required/", "You are not signed in")
        browser.open(f"{site.url}/optional/")
        assert heading(browser) == "Hello, stranger."


@pytest.mark.parametrize("production", KINDS)
def test_a_satellite_learns_from_the_primary_site_who_is_signed_in(
    browser: Browser, tmp_path: Path, production: bool
) -> None:
    with world(tmp_path, production=production) as site:
        primary, satellite = site.url, site.origins["localhost"]
        as_satellite = {
            "CLERK_IS_SATELLITE": True,
            "CLERK_SATELLITE_AUTO_SYNC": True,
            "CLERK_SIGN_IN_URL": f"{primary}/clerk/sign-in/",
        }
        ada = site.clerk.add_user(first_name="Ada")
        with site.serve(), site.serve("localhost", **as_satellite):
            browser.open(f"{satellite}/optional/")
            assert heading(browser) == "Hello, stranger."
            forget_detours(browser)

            sign_in(browser, site, ada)
            name = heading(browser)
            browser.open(f"{satellite}/required/")

            assert heading(browser) == name
            assert browser.run("location.origin + location.pathname") == f"{satellite}/required/"
            claims = jwt.decode(browser.cookies["__session"]["value"], options={"verify_signature": False})
            assert claims["azp"] == satellite
            browser.open(f"{satellite}/whoami/")
            assert heading(browser) == "You are Ada"
            press(browser, "Sign out")
            assert site.clerk.sessions(ada) == []
            assert browser.errors == []


@pytest.mark.parametrize("page", ["clerk/sign-in/", "sign-in"], ids=["by-the-primary", "at-once"])
@pytest.mark.parametrize("production", KINDS)
def test_who_signs_in_from_a_satellite_is_signed_in_at_both_sites(
    browser: Browser, tmp_path: Path, production: bool, page: str
) -> None:
    """Without automatic syncing, which is the default: the satellite asks nobody about strangers."""
    with world(tmp_path, production=production) as site:
        primary, satellite = site.url, site.origins["localhost"]
        as_satellite = {"CLERK_IS_SATELLITE": True, "CLERK_SIGN_IN_URL": f"{primary}/clerk/sign-in/"}
        if page == "sign-in":
            as_satellite["CLERK_SIGN_IN_URL"] = f"{site.clerk.url}/sign-in"
        ada = site.clerk.add_user(first_name="Ada")
        with site.serve(), site.serve("localhost", **as_satellite):
            browser.open(f"{satellite}/optional/")
            assert heading(browser) == "Hello, stranger."

            browser.open(f"{satellite}/required/?page=2")
            assert browser.url.startswith(f"{site.clerk.url}/sign-in?")
            choose(browser, ada)

            assert heading(browser).startswith("Hello, ")
            assert browser.url.startswith(f"{satellite}/required/?page=2")
            browser.open(f"{satellite}/whoami/")
            assert heading(browser) == "You are Ada"
            browser.open(f"{primary}/whoami/")
            assert heading(browser) == "You are Ada"
            assert len(site.clerk.sessions(ada)) == 1
            assert browser.errors == []


@pytest.mark.parametrize("production", KINDS)
def test_whoever_signs_in_on_the_primary_s_own_page_comes_back_to_the_satellite(
    browser: Browser, tmp_path: Path, clerk_packages: Path, production: bool
) -> None:
    """With Clerk's component there, which by itself leads to no other origin than its page's."""
    with world(tmp_path, production=production, packages=clerk_packages) as site:
        primary, satellite = site.url, site.origins["localhost"]
        own_page = {"CLERK_SIGN_IN_URL": "/sign-in/", "CLERK_SIGN_UP_URL": None, "ROOT_URLCONF": "tests.component_urls"}
        as_satellite = {
            "CLERK_IS_SATELLITE": True,
            "CLERK_SIGN_IN_URL": f"{primary}/sign-in/",
            # Under the satellite's own name, or else what clerk-js asks there comes without cookies.
            "CLERK_PROXY_URL": site.clerk.settings()["CLERK_PROXY_URL"].replace("127.0.0.1", "localhost"),
        }
        ada = site.clerk.add_user(first_name="Ada", email="ada@example.com")
        with site.serve(**own_page), site.serve("localhost", **as_satellite):
            browser.open(f"{satellite}/required/?page=2")
            assert browser.url.startswith(f"{primary}/sign-in/?")

            browser.fill_in("ada@example.com")

            # clerk-js takes from the address what was said in it.
            browser.wait_for("location.href === arguments[0] && window.Clerk?.user", f"{satellite}/required/?page=2")
            assert heading(browser).startswith("Hello, ")
            browser.wait_for("document.querySelector('.account .cl-userButtonTrigger')")
            browser.open(f"{satellite}/whoami/")
            assert heading(browser) == "You are Ada"
            browser.open(f"{primary}/members/")
            assert heading(browser) == f"Hello, {ada.id}"
            assert len(site.clerk.sessions(ada)) == 1
            assert browser.errors == []


@pytest.fixture
def domain(tmp_path: Path) -> Iterator[World]:
    """The demo twice, under two names of one domain, where the stand-in has a name too: as in production."""
    names = ("app.example.test", "docs.example.test")
    plain = {"SECURE_CROSS_ORIGIN_OPENER_POLICY": None}  # browsers want https for it, and say so
    with (
        world(tmp_path, names, production=True, host="clerk.example.test") as there,
        there.serve(names[0], **plain),
        there.serve(names[1], **plain),
    ):
        yield there


def test_after_signing_out_here_and_in_again_a_page_costs_no_detour(browser: Browser, domain: World) -> None:
    """Clerk's word of who changed last is a cookie of the whole domain, beside which no other of ours may stand."""
    clerk = domain.clerk
    ada = clerk.add_user(first_name="Ada")
    for _ in range(2):
        sign_in(browser, domain, ada)
        assert heading(browser).startswith("Hello, ")
        assert browser.cookies["__client_uat"]["domain"] == ".example.test"
        forget_detours(browser)
        clerk.calls.reset()
        browser.open(f"{domain.url}/whoami/")
        assert heading(browser) == "You are Ada"
        browser.open(f"{domain.url}/required/")
        assert heading(browser).startswith("Hello, ")
        assert clerk.calls.count("/v1/client/handshake") == 0

        press(browser, "Sign out")

        assert browser.run("document.querySelector('.state .big').textContent") == "Nobody yet"
        assert clerk.sessions(ada) == []
        browser.open(f"{domain.url}/optional/")
        assert heading(browser) == "Hello, stranger."
        forget_detours(browser)
    assert browser.errors == []


def test_sites_under_one_domain_know_the_same_visitor(browser: Browser, domain: World) -> None:
    other = domain.origins["docs.example.test"]
    ada = domain.clerk.add_user(first_name="Ada")
    sign_in(browser, domain, ada)

    browser.open(f"{other}/whoami/")
    assert heading(browser) == "You are Ada"
    press(browser, "Sign out")
    assert browser.url == f"{other}/"
    browser.open(f"{domain.url}/optional/")

    assert heading(browser) == "Hello, stranger."


def test_step_up_works_under_a_shared_domain(browser: Browser, domain: World) -> None:
    ada = domain.clerk.add_user(first_name="Ada")
    sign_in(browser, domain, ada, "/step-up/")
    press(browser, "Let an hour pass, or verify again")
    press(browser, "As if an hour had passed")
    assert (browser.url, heading(browser)) == (f"{domain.url}/step-up/", "Prove that it is you")


@pytest.fixture(params=KINDS)
def scripted(request: pytest.FixtureRequest, tmp_path: Path, clerk_packages: Path) -> Iterator[World]:
    """The demo with Clerk's own JavaScript on its pages."""
    # clerk-js renews a token 17 seconds before its end, so these after three seconds.
    options = {"production": request.param, "packages": clerk_packages, "session_lifetime": 20}
    with world(tmp_path, **options) as site, site.serve():
        yield site


def test_clerks_own_script_keeps_the_session_fresh_on_a_page(browser: Browser, scripted: World) -> None:
    clerk = scripted.clerk
    ada = clerk.add_user(first_name="Ada")
    sign_in(browser, scripted, ada)
    browser.wait_for("document.querySelector('.account .cl-userButtonTrigger')")
    first = browser.cookies["__session"]["value"]

    browser.wait_for("document.cookie.includes('__session=') && !document.cookie.includes(arguments[0])", first)

    assert clerk.calls.count("/v1/client/sessions/{id}/tokens") >= 1
    clerk.calls.reset()
    browser.open(f"{scripted.url}/members/")
    assert heading(browser).startswith("Hello, ")
    assert clerk.calls.count("/v1/client/handshake") == 0
    browser.wait_for("document.querySelector('.account .cl-userButtonTrigger')")
    assert browser.errors == []

    browser.run("void Clerk.signOut()")
    browser.wait_for("document.querySelector('.state .big')?.textContent === 'Nobody yet'")
    assert clerk.sessions(ada) == []
