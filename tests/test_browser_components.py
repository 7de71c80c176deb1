"""
Clerk's components on a project's own pages, mounted by Clerk's own scripts in a real browser; both key kinds.

The pages stand under a strict Content-Security-Policy, that of component_urls.py. A test that finds nothing blocked
shows that what it admits is enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from clerk_views.frontend import COMPONENTS
from clerk_views.testing import LocalClerk, LocalUser
from tests.serving import wsgi_serving

if TYPE_CHECKING:
    from tests.browser import Browser

pytestmark = pytest.mark.django_db(transaction=True)

KINDS = [pytest.param(False, id="development"), pytest.param(True, id="production")]

BUTTON = "document.querySelector('[data-clerk-component=UserButton] .cl-userButtonTrigger')"

SIGNED_OUT = ("sign-in", "sign-up", "waitlist")
TASKS = tuple(name for name in COMPONENTS if name.startswith("task-"))


class Site:
    """The site, and the stand-in that it uses."""

    def __init__(self, clerk: LocalClerk, url: str) -> None:
        self.clerk = clerk
        self.url = url


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, clerk_packages: Path, settings: Any) -> Iterator[Site]:
    settings.MIDDLEWARE = [
        "tests.component_urls.policy",
        *settings.MIDDLEWARE,
        "clerk_views.middleware.ClerkMiddleware",
    ]
    with LocalClerk(production=request.param, packages=clerk_packages) as clerk, wsgi_serving() as served:
        url = f"http://127.0.0.1:{served.port}"
        for name, value in clerk.settings().items():
            setattr(settings, name, value)
        settings.CLERK_AUTH_PARTIES = [url]
        settings.CLERK_SIGN_IN_URL = "/sign-in/"
        settings.CLERK_SIGN_UP_URL = None
        settings.LOGIN_REDIRECT_URL = "/"
        settings.ALLOWED_HOSTS = ["127.0.0.1"]
        settings.ROOT_URLCONF = "tests.component_urls"
        yield Site(clerk, url)


@pytest.fixture
def ada(site: Site) -> LocalUser:
    return site.clerk.add_user(email="ada@example.com", first_name="Ada")


def sign_in(browser: Browser, site: Site, user: LocalUser, path: str = "/members/") -> None:
    """Sign in on the project's page, and come to the one that was asked for."""
    browser.open(f"{site.url}{path}")
    browser.fill_in(str(user.email))
    browser.wait_for("location.pathname === arguments[0] && document.readyState === 'complete'", path)


def blocked(browser: Browser) -> Any:
    """Return what the policy has kept from happening on the site since the browser came."""
    return browser.run("JSON.parse(sessionStorage.getItem('violations') || '[]')")


def test_a_page_of_one_s_own_signs_in_and_leads_on(browser: Browser, site: Site, ada: LocalUser) -> None:
    browser.open(f"{site.url}/sign-in/?next=/members/%3Fpage%3D2")
    assert browser.run("document.querySelector('h1').textContent") == "Come in"

    browser.fill_in("ada@example.com")

    browser.wait_for("location.pathname === '/members/' && document.readyState === 'complete'")
    assert browser.url == f"{site.url}/members/?page=2"
    assert browser.run("document.querySelector('h1').textContent") == f"Hello, {ada.id}"
    assert browser.errors == blocked(browser) == []


def test_it_leads_back_to_the_page_that_wanted_a_user(browser: Browser, site: Site, ada: LocalUser) -> None:
    browser.open(f"{site.url}/members/?page=3")
    assert browser.run("location.pathname") == "/sign-in/"

    browser.fill_in("ada@example.com")

    browser.wait_for("location.pathname === '/members/' && document.readyState === 'complete'")
    assert browser.url == f"{site.url}/members/?page=3"
    assert browser.run("document.querySelector('h1').textContent") == f"Hello, {ada.id}"


def test_it_leads_nowhere_else(browser: Browser, site: Site, ada: LocalUser) -> None:
    """RED-01."""
    browser.open(f"{site.url}/sign-in/?next=//evil.example/")

    browser.fill_in("ada@example.com")

    browser.wait_for("document.querySelector('h1')?.textContent === 'Home' && document.readyState === 'complete'")
    assert browser.url == f"{site.url}/"


def test_a_strict_policy_blocks_nothing_of_a_visit(browser: Browser, site: Site, ada: LocalUser) -> None:
    """Signing in, components and their styles, renewal by both of clerk-js's timers, signing out."""
    site.clerk.session_lifetime = 8  # too short for any timer but the one in a worker
    sign_in(browser, site, ada)
    browser.wait_for(BUTTON)
    assert browser.run(f"getComputedStyle({BUTTON}).borderRadius") not in ("", "0px")
    assert browser.wait_for("document.querySelector('.cl-userButtonAvatarImage').naturalWidth") > 0
    first = browser.cookies["__session"]["value"]

    browser.wait_for("document.cookie.includes('__session=') && !document.cookie.includes(arguments[0])", first)

    browser.run(f"void {BUTTON}.click()")
    browser.wait_for("document.querySelector('.cl-userButtonPopoverActionButton__signOut')")
    browser.run("void document.querySelector('.cl-userButtonPopoverActionButton__signOut').click()")
    browser.wait_for("document.querySelector('h1')?.textContent === 'Home' && window.Clerk?.user === null")
    assert site.clerk.sessions(ada) == []
    assert browser.errors == blocked(browser) == []


def test_the_policy_of_these_pages_is_one(browser: Browser, site: Site) -> None:
    """What it does not admit is blocked, and seen to be."""
    browser.open(f"{site.url}/")
    browser.run("void (document.body.appendChild(document.createElement('script')).textContent = '1')")
    browser.run("void (new Image().src = 'http://localhost:8009/')")
    browser.wait_for("JSON.parse(sessionStorage.getItem('violations') || '[]').length === 2")
    assert blocked(browser) == ["script-src-elem inline", "img-src http://localhost:8009/"]
    assert any("Content Security Policy" in error for error in browser.errors)


def test_a_component_in_a_fragment_that_comes_later_is_mounted(browser: Browser, site: Site, ada: LocalUser) -> None:
    """And again where it is swapped for another, as HTMX does; what went away is let go of."""
    sign_in(browser, site, ada)
    browser.open(f"{site.url}/")
    browser.wait_for("window.Clerk?.loaded")
    for _ in range(2):
        browser.run(
            "fetch('/fragment/').then(answer => answer.text())"
            ".then(text => { document.getElementById('place').innerHTML = text })"
        )
        browser.wait_for(BUTTON)
        assert browser.run("document.querySelectorAll('.cl-userButtonTrigger').length") == 1

    browser.run(f"void {BUTTON}.click()")

    browser.wait_for("document.querySelector('.cl-userButtonPopoverCard')")
    assert browser.errors == blocked(browser) == []


def test_components_of_a_whole_body_that_is_swapped_are_mounted(browser: Browser, site: Site, ada: LocalUser) -> None:
    """As links do with HTMX's hx-boost: the head stays, Clerk's own elements in the body go."""
    sign_in(browser, site, ada)
    browser.open(f"{site.url}/")
    browser.wait_for("window.Clerk?.loaded")

    for path, selector in (("/members/", ".cl-userButtonTrigger"), ("/components/user-profile/", ".cl-navbar")):
        browser.run(
            "fetch(arguments[0]).then(answer => answer.text()).then(text => {"
            " const page = new DOMParser().parseFromString(text, 'text/html');"
            " document.body.replaceWith(document.adoptNode(page.body)) })",
            path,
        )
        browser.wait_for("document.querySelector(arguments[0])", f"[data-clerk-component] {selector}")

    browser.run("fetch('/members/').then(answer => answer.text()).then(text => { document.body.innerHTML = text })")
    browser.wait_for(BUTTON)
    browser.run(f"void {BUTTON}.click()")
    browser.wait_for("document.querySelector('.cl-userButtonPopoverCard')")
    assert browser.run("Clerk.user.id") == ada.id
    assert browser.errors == blocked(browser) == []


def test_each_component_is_mounted(browser: Browser, site: Site, ada: LocalUser) -> None:
    """Each by the function of clerk-js that the table names, for a visitor who has what it needs."""
    clerk = site.clerk
    acme = clerk.add_organization(name="Acme")
    clerk.add_member(acme, ada, "org:admin")

    def see(name: str) -> None:
        browser.open(f"{site.url}/components/{name}/")
        browser.wait_for("document.querySelector('[data-clerk-component] [class^=cl-]')")
        assert browser.run("typeof Clerk['mount' + arguments[0]]", COMPONENTS[name]) == "function"
        assert browser.run("document.querySelector('[data-clerk-component]').textContent") != "not yet"
        warnings = browser.driver.get_log("browser")  # type: ignore[no-untyped-call]
        said = [entry["message"] for entry in warnings if entry["level"] in ("SEVERE", "WARNING")]
        assert [message for message in said if "development keys" not in message] == []
        assert blocked(browser) == []

    for name in SIGNED_OUT:
        see(name)
    sign_in(browser, site, ada)
    browser.wait_for("window.Clerk?.loaded")
    browser.run("Clerk.setActive({organization: arguments[0]}).then(() => 1)", acme.id)
    for name in COMPONENTS:
        if name not in (*SIGNED_OUT, *TASKS):
            see(name)
    for name in TASKS:
        (session,) = clerk.sessions(ada)
        session.remove()
        clerk.open_session(ada, pending=name.removeprefix("task-"), client_id=session.client_id)
        see(name)
