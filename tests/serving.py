"""The test project as servers run it: called with raw bytes, or behind a port as uvicorn and gunicorn serve it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import uvicorn
from asgiref.sync import async_to_sync
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.db import connection

ROOT = Path(__file__).resolve().parents[1]

Headers = Iterable[tuple[bytes, bytes]]


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def clerk(self) -> Any:
        """Whom the view saw: Clerk's id, or None for nobody and for every refusal."""
        return json.loads(self.body)["clerk"] if self.status == 200 else None


def call_wsgi(
    application: WSGIHandler,
    path: bytes,
    headers: Headers = (),
    *,
    method: str = "GET",
    query: bytes = b"",
    body: bytes = b"",
) -> Answer:
    """Send one request to a WSGI application, as a server would: what came twice is joined."""
    joined: dict[str, str] = {}
    for name, value in headers:
        key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        text = value.decode("latin-1")
        joined[key] = joined[key] + ("; " if key == "HTTP_COOKIE" else ",") + text if key in joined else text
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path.decode("latin-1"),
        "QUERY_STRING": query.decode("latin-1"),
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_TYPE": "application/x-www-form-urlencoded",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        **joined,
    }
    began: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, fields: list[tuple[str, str]], exc_info: Any = None) -> Any:
        began.append((status, fields))

    response = application(environ, start_response)
    try:
        content = b"".join(response)
    finally:
        response.close()
    status, fields = began[0]
    return Answer(int(status[:3]), fields, content)


def call_asgi(
    application: ASGIHandler,
    path: bytes,
    headers: Headers = (),
    *,
    method: str = "GET",
    query: bytes = b"",
    body: bytes = b"",
) -> Answer:
    """Send one request to an ASGI application. Inside async_to_sync, the database is the test's own."""
    host = [] if any(name == b"host" for name, _ in headers) else [(b"host", b"testserver")]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path.decode("utf-8", "replace"),
        "raw_path": path,
        "root_path": "",
        "query_string": query,
        "headers": [*host, (b"content-length", str(len(body)).encode()), *headers],
        "server": ("testserver", 80),
        "client": ("127.0.0.1", 1),
    }
    sent: list[Any] = []

    async def talk() -> None:
        arriving: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        arriving.put_nowait({"type": "http.request", "body": body, "more_body": False})

        async def send(message: Any) -> None:
            sent.append(message)

        await application(scope, arriving.get, send)

    async_to_sync(talk)()
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in sent[0]["headers"]]
    return Answer(sent[0]["status"], fields, b"".join(part.get("body", b"") for part in sent[1:]))


@dataclass
class Served:
    """
    A running server.

    Attributes:
        largest_gap: Seconds, the longest time for which the event loop did nothing else.
    """

    port: int
    largest_gap: float = 0.0
    stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def client(self) -> Iterator[httpx.Client]:
        """Open an HTTP client whose host name Django allows."""
        limits = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Host": "testserver"},
            timeout=20,
            limits=limits,
            trust_env=False,
        ) as client:
            yield client


@contextmanager
def wsgi_serving() -> Iterator[Served]:
    """Serve the project by Django's own server, each request on a thread of this process."""
    server = ThreadedWSGIServer(("127.0.0.1", 0), _QuietHandler)
    server.set_app(WSGIHandler())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="wsgi")
    thread.start()
    try:
        yield Served(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def uvicorn_serving() -> Iterator[Served]:
    """Serve the project by uvicorn, on a thread of this process, beside a coroutine that watches the event loop."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        served = Served(listener.getsockname()[1])
        server = uvicorn.Server(
            uvicorn.Config(
                get_asgi_application(), http="h11", ws="none", lifespan="off", log_config=None, access_log=False
            )
        )

        async def watch() -> None:
            while not served.stop.is_set():
                before = time.monotonic()
                await asyncio.sleep(0.005)
                served.largest_gap = max(served.largest_gap, time.monotonic() - before)
            server.should_exit = True

        async def main() -> None:
            await asyncio.gather(server.serve(sockets=[listener]), watch())

        thread = threading.Thread(target=lambda: asyncio.run(main()), name="uvicorn")
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield served
        finally:
            served.stop.set()
            thread.join()


def environment(**settings: Any) -> dict[str, str]:
    """
    Return the environment for a program that shares our database: tests/wsgi.py, or what imports it.

    Args:
        settings: Django settings, as far as JSON can say them, for tests/wsgi.py to put in force.
    """
    database = {
        name: value
        for name, value in connection.settings_dict.items()
        if name in ("ENGINE", "NAME", "HOST", "PORT", "USER", "PASSWORD", "OPTIONS")
    }
    overrides = {"DATABASES": {"default": database}, "ALLOWED_HOSTS": ["testserver"], **settings}
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "CLERK_VIEWS_TEST_OVERRIDES": json.dumps(overrides, default=str),
    }


@contextmanager
def gunicorn_serving(*options: str, **settings: Any) -> Iterator[Served]:
    """Serve the project by gunicorn, in processes of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        os.set_inheritable(listener.fileno(), True)
        command = [sys.executable, "-m", "gunicorn", "--no-control-socket", "--bind", f"fd://{listener.fileno()}"]
        process = subprocess.Popen(
            [*command, *options, "tests.wsgi:application"],
            cwd=ROOT,
            env=environment(**settings),
            pass_fds=[listener.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        served = Served(listener.getsockname()[1])
        try:
            yield served
        finally:
            process.terminate()
            try:
                output, _ = process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                output, _ = process.communicate()
                output += "\ngunicorn did not end by itself"
        assert process.returncode == 0, output
        assert not re.search(r"Traceback|did not end|Error", output), output
