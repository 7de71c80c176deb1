"""
A real browser for tests: Debian's Chromium or another, driven by Selenium, and Clerk's own scripts for it from npm.

The fixtures ``browser`` and ``clerk_packages`` in conftest.py are made of this. A browser needs ``chromium`` and
``chromedriver``, on PATH or where CLERK_VIEWS_CHROMIUM and CLERK_VIEWS_CHROMEDRIVER say; the scripts need ``npm``.
Without them the tests are skipped. Selenium, because it leaves no event loop running in the thread of the tests, as
Playwright does: Django's ORM and asgiref refuse to work beside one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.common.exceptions import JavascriptException, WebDriverException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from tests.settings import SCRATCH

#: What npm is asked for: the current majors.
PACKAGES = ("@clerk/clerk-js@6", "@clerk/ui@1")

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    # clerk-js takes an automated browser for an invalid one, and then behaves as if it were offline.
    "--disable-blink-features=AutomationControlled",
    # Whatever a page asks for, nothing leaves this machine; but names that nobody has can be had here.
    "--host-resolver-rules=MAP *.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)


class Browser:
    """
    A browser with one tab, and without cookies or storage at first.

    Attributes:
        driver: Selenium's own object, for what is not here.
    """

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Go to a page, and wait until it has loaded."""
        self.driver.get(url)

    @property
    def url(self) -> str:
        """The address of the page that is shown."""
        return self.driver.current_url

    @property
    def cookies(self) -> dict[str, dict[str, Any]]:
        """The cookies of the page's host by name, also those hidden from scripts; each as WebDriver describes it."""
        return {cookie["name"]: cookie for cookie in self.driver.get_cookies()}

    @property
    def errors(self) -> list[str]:
        """What the console has shown as an error since the last call."""
        entries: list[dict[str, Any]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def type(self, selector: str, text: str) -> None:
        """Type into a field, as from the keyboard."""
        self.driver.find_element(By.CSS_SELECTOR, selector).send_keys(text)

    def click(self, selector: str) -> None:
        """Click on something that is in view."""
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def fill_in(self, identifier: str) -> None:
        """Sign in with the form of Clerk's own component, which asks for one thing after the other."""
        for field, text in (("identifier", identifier), ("password", "whatever")):
            self.wait_for(f"document.querySelector('input[name={field}]:not([tabindex=\"-1\"])')")
            self.type(f"input[name={field}]", text)
            self.click(".cl-formButtonPrimary")

    def run(self, expression: str, *arguments: Any) -> Any:
        """Return the value of a JavaScript expression, awaited; ``arguments[0]`` and so on stand for the arguments."""
        return self.driver.execute_script(f"return ({expression})", *arguments)

    def wait_for(self, expression: str, *arguments: Any, seconds: float = 20) -> Any:
        """Return the value of a JavaScript expression once it is true, also across page loads; else fail the test."""
        deadline = time.monotonic() + seconds
        seen: object = None
        while time.monotonic() < deadline:
            try:
                seen = self.run(expression, *arguments)
            except JavascriptException as error:  # no such variable yet, or the page is just being left
                seen = error.msg
            else:
                if seen:
                    return seen
            time.sleep(0.05)
        pytest.fail(f"{expression} is not true after {seconds} seconds, but {seen!r}; at {self.url}: {self.errors}")


def _program(variable: str, *names: str) -> str:
    found = os.environ.get(variable) or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"Chromium does not answer: {names[0]} is not installed")
    return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser without a window, with an empty profile; skips the test without one."""
    options = ChromeOptions()
    options.binary_location = _program("CLERK_VIEWS_CHROMIUM", "chromium", "chromium-browser", "google-chrome")
    driver_path = _program("CLERK_VIEWS_CHROMEDRIVER", "chromedriver")
    options.add_experimental_option("excludeSwitches", ["enable-automation"])
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(dir=SCRATCH, prefix="chromium-", ignore_cleanup_errors=True) as profile:
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        try:
            # What a browser writes to the home directory of its user belongs to the profile as well.
            driver = Chrome(options, Service(driver_path, env={**os.environ, "HOME": profile}))
        except WebDriverException as error:
            pytest.skip(f"Chromium does not answer: {error.msg}")
        try:
            yield Browser(driver)
        finally:
            driver.quit()


def clerk_packages() -> Path:
    """
    Return a folder for ``LocalClerk(packages=…)``, filled by npm the first time; skips the test where npm fails.

    The archives are unpacked without what they depend on: the scripts for browsers are whole.
    """
    folder = SCRATCH.parent / "npm" / "+".join(package.rpartition("/")[2] for package in PACKAGES)
    if folder.is_dir():
        return folder
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm does not answer: not installed")
    with tempfile.TemporaryDirectory(dir=SCRATCH, prefix="npm-") as scratch:
        command = [npm, "pack", "--silent", f"--cache={scratch}/cache", "--no-update-notifier", *PACKAGES]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=120, check=False)
        archives = sorted(Path(scratch).glob("*.tgz"))
        if done.returncode or len(archives) != len(PACKAGES):
            pytest.skip(f"npm does not answer: {done.stdout}{done.stderr}")
        whole = Path(scratch, "whole")
        for package, archive in zip(sorted(PACKAGES), archives, strict=True):
            target = whole / "node_modules" / package.rpartition("@")[0]
            with tarfile.open(archive) as packed:
                scripts = [member for member in packed if member.name.count("/") == 2 and member.name.endswith(".js")]
                packed.extractall(target, scripts, filter="data")
            # npm's archives hold everything below a folder of that name.
            (target / "package" / "dist").rename(target / "dist")
        folder.parent.mkdir(exist_ok=True)
        try:
            whole.rename(folder)
        except OSError:  # another run was faster
            assert folder.is_dir()
    return folder
