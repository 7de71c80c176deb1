"""The browser that other tests drive: it is a real one, each begins empty, and Clerk's scripts are there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.browser import Browser


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<!doctype html><title>here</title><script>setTimeout(() => { window.later = 'now' }, 100)</script>"
        self.send_response(200 if self.path == "/" else 404)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", "hidden=1; HttpOnly; Max-Age=60")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_a_page_runs_its_scripts_and_keeps_its_cookies(browser: Browser, page: str) -> None:
    browser.open(page)

    assert browser.wait_for("window.later") == "now"
    assert browser.run("document.title + arguments[0]", "!") == "here!"
    assert browser.run("Promise.resolve([1, null])") == [1, None]
    assert browser.cookies["hidden"]["httpOnly"] is True


def test_browsers_share_nothing(browser: Browser, page: str) -> None:
    from tests.browser import chromium

    browser.open(page)
    browser.run("localStorage.setItem('a', '1')")
    browser.run("document.cookie = 'shown=1'")
    with chromium() as other:
        other.open(page)
        assert other.run("localStorage.length") == 0
        assert set(other.cookies) == {"hidden"}


def test_scripts_see_a_browser_that_nobody_steers(browser: Browser, page: str) -> None:
    """clerk-js asks, and behaves otherwise in an automated one."""
    browser.open(page)
    assert not browser.run("navigator.webdriver")


def test_names_under_test_are_those_of_this_machine(browser: Browser, page: str) -> None:
    browser.open(page.replace("127.0.0.1", "app.example.test"))
    assert browser.wait_for("window.later") == "now"
    assert browser.run("location.hostname") == "app.example.test"


def test_nothing_leaves_this_machine(browser: Browser, page: str) -> None:
    browser.open(page)
    assert browser.run("fetch('https://example.com/').then(() => 'answered', String)") == "TypeError: Failed to fetch"
    assert any("ERR_NAME_NOT_RESOLVED" in error for error in browser.errors)


def test_what_does_not_come_true_fails_the_test_with_what_was_seen(browser: Browser, page: str) -> None:
    browser.open(page)
    with pytest.raises(pytest.fail.Exception, match=r"nowhere.*not defined.*at http://127"):
        browser.wait_for("nowhere", seconds=0.3)
    with pytest.raises(pytest.fail.Exception, match="but 0"):
        browser.wait_for("0", seconds=0.3)


def test_clerk_s_scripts_are_there(clerk_packages: Path) -> None:
    for name in ("clerk-js/dist/clerk.browser.js", "ui/dist/ui.browser.js"):
        assert (clerk_packages / "node_modules/@clerk" / name).stat().st_size > 100_000
