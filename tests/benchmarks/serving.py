"""Requests per second over HTTP: gunicorn with two sync workers, and wrk on the same machine."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from clerk_views.testing import LocalClerk
from tests.benchmarks.measuring import missing, quartiles, sqlite
from tests.benchmarks.stacks import SESSIONS
from tests.benchmarks.worker import ROOT, Worker, environment

TURNS = 9
CONNECTIONS = 8


def measure(clerk: LocalClerk, scratch: Path, seconds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Return requests per second of each way, and in relation to the bare view; ``skipped`` says why there are none."""
    why = missing(("gunicorn",)) or (None if shutil.which("wrk") else "wrk is not installed")
    if why:
        return {"skipped": why, "rows": []}
    ada = clerk.add_user(email="http@example.com", username="http")
    token = clerk.token(ada, expires_in=86_400)
    configuration: dict[str, Any] = {
        "library": "clerk_views",
        "database": sqlite(scratch / "http.sqlite3"),
        "clerk": clerk.settings(CLERK_JWT_KEY=clerk.signing_key.public_pem),
    }
    worker = Worker(**configuration)
    worker.ask("migrate")
    worker.ask(
        "block", kind="sync", path="required", stack="none", brings="warm", status=200, tokens=[token], requests=1
    )
    cookie = worker.ask("session", stack="sessions db")
    ways: dict[str, tuple[str, list[str], str | None]] = {
        "bare view": ("bare", [], None),
        "@clerk_required, user read, warm": ("required", [], f"Authorization: Bearer {token}"),
        "Django login_required, db sessions": ("login", SESSIONS, f"Cookie: sessionid={cookie}"),
    }
    if missing(("rest_framework", "rest_framework_simplejwt")) is None:
        ways["simplejwt on an APIView"] = ("api/simplejwt", [], f"Authorization: Bearer {worker.ask('simplejwt')}")
    worker.close()
    rates: dict[str, list[float]] = {name: [] for name in ways}
    with ExitStack() as stack:
        ports = {
            name: stack.enter_context(_serving(configuration | {"middleware": middleware, "served": path}))
            for name, (path, middleware, _) in ways.items()
        }
        for turn in range(TURNS + 1):
            say(f"HTTP, turn {turn} of {TURNS}" if turn else "HTTP, a turn that does not count")
            for name, (path, _, header) in ways.items():
                rate = _rate(ports[name], path, header, seconds if turn else 1)
                if turn:
                    rates[name].append(rate)
    bare = rates["bare view"]
    return {
        "rows": [
            {
                "name": name,
                "rate": quartiles(found),
                "ratio": quartiles([rate / other for rate, other in zip(found, bare, strict=True)]),
            }
            for name, found in rates.items()
        ],
        "goal": {"name": "@clerk_required, user read, warm", "at_least": 0.75},
    }


@contextmanager
def _serving(configuration: dict[str, Any]) -> Iterator[int]:
    """Serve by gunicorn, in processes of its own, and return the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        listener.set_inheritable(True)
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--bind", f"fd://{listener.fileno()}", "--workers", "2"]
            + ["--log-level", "error", "tests.benchmarks.wsgi:application"],
            cwd=ROOT,
            env=environment(**configuration),
            pass_fds=[listener.fileno()],
        )
        port = listener.getsockname()[1]
        try:
            with urlopen(
                Request(f"http://127.0.0.1:{port}/bare", headers={"Host": "testserver"}), timeout=30
            ):  # our own
                yield port  # it has started
        finally:
            process.terminate()
            process.wait(20)


def _rate(port: int, path: str, header: str | None, seconds: int) -> float:
    host = ["-H", "Host: testserver", "-H", "Accept: application/json", *(["-H", header] if header else [])]
    done = subprocess.run(
        ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", *host, f"http://127.0.0.1:{port}/{path}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 30,
    )
    found = re.search(r"Requests/sec:\s+([0-9.]+)", done.stdout)
    if found is None or "Non-2xx" in done.stdout:
        raise RuntimeError(f"/{path} did not answer as it should: {done.stdout}")
    return float(found[1])
