"""What every test may use besides the public kit's fixtures (``local_clerk``, ``clerk``)."""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.cache import caches
from django.db import connections
from django.http import HttpResponse
from django.test import AsyncClient, Client
from hypothesis import settings as hypothesis_settings

from clerk_views.api import ClerkApi, get_api
from clerk_views.calls import Budget
from clerk_views.conf import config
from clerk_views.testing import LocalClerk
from tests.settings import SCRATCH, SERVICES

if TYPE_CHECKING:
    from clerk_backend_api import Clerk

    from tests.browser import Browser

# A developer's own Clerk settings must not reach the tests, nor the programs they start.
for name in [name for name in os.environ if name.startswith("CLERK_") and not name.startswith("CLERK_VIEWS_")]:
    del os.environ[name]

# tmp_path stays inside the clone, too.
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(SCRATCH))

# A busy machine is no failure, and the same commit gives the same answer.
hypothesis_settings.register_profile("ours", deadline=None, derandomize="CI" in os.environ)
hypothesis_settings.load_profile("ours")


class World:
    """Django's test client, sync or async; both are called alike and see the test's transaction."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.client: Any = AsyncClient() if name == "async" else Client()
        self.client.cookies["__clerk_db_jwt"] = "dvb_1"  # no browser of a development instance goes without

    @property
    def is_async(self) -> bool:
        return self.name == "async"

    def __getattr__(self, method: str) -> Callable[..., HttpResponse]:
        """Return the client's ``get``, ``post``, ``put``, … as a plain function."""
        call: Callable[..., HttpResponse] = getattr(self.client, method)
        return async_to_sync(call) if self.is_async else call  # type: ignore[arg-type]  # the async client's is a coroutine function


@pytest.fixture(params=["sync", "async"])
def each_world(request: pytest.FixtureRequest) -> World:
    """Run the test twice: ``each_world.get("/path")`` through Django's client, then through its async client."""
    return World(request.param)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On another database than SQLite run the tests that use it; for the others nothing has changed."""
    if settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        return
    asks = {"db", "transactional_db"}
    using = [i for i in items if i.get_closest_marker("django_db") or asks & set(getattr(i, "fixturenames", ()))]
    config.hook.pytest_deselected(items=[item for item in items if item not in using])
    items[:] = using


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where CLERK_VIEWS_REQUIRE_SERVICES=1 says that all is there, a test that misses a service fails the run."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = [report for report in reporter.stats.get("skipped", ()) if "does not answer" in str(report.longrepr)]
    if os.environ.get("CLERK_VIEWS_REQUIRE_SERVICES") == "1" and skipped:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _service(service: str) -> str:
    url = urlsplit(SERVICES[service])
    try:
        socket.create_connection((url.hostname, url.port), timeout=2).close()
    except OSError as error:
        pytest.skip(f"{service} at {url.hostname}:{url.port} does not answer: {error}")
    return SERVICES[service]


@pytest.fixture
def postgresql() -> str:
    """URL of a PostgreSQL server; skips without one. Django's settings for it: ``tests.settings.database(...)``."""
    return _service("postgresql")


@pytest.fixture
def mariadb() -> str:
    """URL of a MariaDB server; skips without one."""
    return _service("mariadb")


@pytest.fixture
def redis() -> str:
    """URL of a Redis database that tests may empty; skips without one."""
    return _service("redis")


@pytest.fixture(scope="session")
def clerk_packages() -> Path:
    """Folder with clerk-js and Clerk's UI for ``LocalClerk(packages=…)``, from npm; skips where npm does not answer."""
    from tests.browser import clerk_packages

    return clerk_packages()


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A real browser, with a profile of its own; skips without Chromium and its driver."""
    from tests.browser import chromium

    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def _server() -> Iterator[LocalClerk]:
    with LocalClerk() as server:
        yield server


@pytest.fixture
def server(_server: LocalClerk) -> LocalClerk:
    """An empty stand-in that Django's settings know nothing of, for tests of the stand-in itself."""
    _server.reset()
    return _server


@pytest.fixture
def sdk(server: LocalClerk) -> Iterator[Clerk]:
    """Clerk's own SDK, which asks that stand-in."""
    from clerk_backend_api import Clerk

    with Clerk(bearer_auth=server.secret_key, server_url=f"{server.url}/v1", retry_config=None) as sdk:
        yield sdk


@pytest.fixture
def over_http(server: LocalClerk) -> Iterator[httpx.Client]:
    """A plain client that asks it with its secret key."""
    headers = {"Authorization": f"Bearer {server.secret_key}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=5) as client:
        yield client


@pytest.fixture
def second_database(tmp_path: Path) -> Iterator[str]:
    """The alias of another, empty database. In a file, as Django never closes one in memory."""
    second = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "second.sqlite3"}
    connections.settings["second"] = connections.configure_settings({"default": {}, "second": second})["second"]
    connections["second"].connect()  # by itself, as Django's test cases open none that they have not been told of
    try:
        yield "second"
    finally:
        connections["second"].close()
        del connections["second"]
        del connections.settings["second"]


@pytest.fixture
def api(local_clerk: LocalClerk) -> ClerkApi:
    """The API of the local Clerk, with everything imported that the first call imports."""
    made = get_api(config())
    made.get_key_set(Budget(60))
    assert made.sdk.users is not None  # importing would disturb what is measured
    local_clerk.calls.reset()
    return made


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    yield
    caches["default"].clear()


@pytest.fixture(autouse=True, scope="session")
def _nothing_left_behind() -> Iterator[None]:
    """Fail the run if a test left a thread or a child process running; executors' idle workers do no harm."""
    before = set(threading.enumerate())
    yield
    left = [
        thread
        for thread in threading.enumerate()
        if thread not in before and not thread.name.startswith(("ThreadPoolExecutor", "asyncio_"))
    ]
    assert not left
    assert not multiprocessing.active_children()
