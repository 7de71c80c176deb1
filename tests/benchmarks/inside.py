"""
What a process of one configuration does: serve blocks of requests, and say what they cost.

What counts is CPU time, this process's own: another one that is busy meanwhile does not lengthen it. The time by the
clock is told beside it.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from typing import Any

import django

django.setup()

from django.contrib.auth import get_user_model  # noqa: E402  # after setup
from django.core.handlers.asgi import ASGIHandler  # noqa: E402  # after setup
from django.core.handlers.wsgi import WSGIHandler  # noqa: E402  # after setup
from django.core.management import call_command  # noqa: E402  # after setup
from django.test import override_settings  # noqa: E402  # after setup

from tests.benchmarks import urls  # noqa: E402  # after setup
from tests.benchmarks.stacks import ENGINE, STACKS  # noqa: E402  # after setup


class Inside:
    """What a parent can ask for: the methods without an underscore, by name."""

    def __init__(self) -> None:
        self._handlers: dict[tuple[str, str], Any] = {}
        self._sessions: dict[str, str] = {}
        self._loop = asyncio.new_event_loop()

    def do(self, what: str, **details: Any) -> Any:
        return getattr(self, what)(**details)

    def migrate(self) -> bool:
        """Make the tables."""

        call_command("migrate", verbosity=0)
        return True

    def block(
        self, kind: str, path: str, stack: str, brings: str, status: int, tokens: list[str], requests: int
    ) -> dict[str, float]:
        """Serve so many requests and return what one of them cost, in µs: ``cpu`` and ``wall``."""
        if kind == "piece":
            pieces = import_module("tests.benchmarks.pieces")  # of our library, which not every process has
            run = pieces.repeated(path, tokens[0], requests)
            return self._cost(run, requests)
        urls.put_first(path)
        if kind == "async":
            run = self._async_run(path, stack, self._headers(stack, brings, tokens, requests), status)
        else:
            run = self._sync_run(path, stack, self._headers(stack, brings, tokens, requests), status)
        return self._cost(run, requests)

    @staticmethod
    def _cost(run: Callable[[], None], requests: int) -> dict[str, float]:
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        return {"cpu": cpu / requests * 1e6, "wall": wall / requests * 1e6}

    def _headers(self, stack: str, brings: str, tokens: list[str], requests: int) -> list[dict[str, str]]:
        if brings == "nothing":
            return [{}] * requests
        if brings == "session":
            return [{"HTTP_COOKIE": f"sessionid={self.session(stack)}"}] * requests
        if brings == "simplejwt":
            tokens = [self.simplejwt()]
        share = -(-requests // len(tokens))
        return [{"HTTP_AUTHORIZATION": f"Bearer {tokens[number // share]}"} for number in range(requests)]

    def people(self, users: int) -> bool:
        """Write so many users."""
        import_module("tests.benchmarks.people").move_in(users)
        return True

    def sign_in(self, tokens: list[str]) -> float:
        """Sign new users in; the median milliseconds."""
        cost: float = import_module("tests.benchmarks.people").sign_in(tokens)
        return cost

    def sync(self, bodies: list[dict[str, Any]]) -> float:
        """Sync known users; the median milliseconds."""
        cost: float = import_module("tests.benchmarks.people").sync(bodies)
        return cost

    def session(self, stack: str) -> str:
        """Sign the user in as Django does, and return the session's key."""
        if stack not in self._sessions:
            store = import_module(ENGINE + STACKS[stack][1]).SessionStore()
            user = get_user_model().objects.get(pk=1)
            store["_auth_user_id"] = str(user.pk)
            store["_auth_user_backend"] = "django.contrib.auth.backends.ModelBackend"
            store["_auth_user_hash"] = user.get_session_auth_hash()
            store.save()
            self._sessions[stack] = str(store.session_key)
        return self._sessions[stack]

    def simplejwt(self) -> str:
        """Return the user's token."""
        if "simplejwt" not in self._sessions:
            token = import_module("rest_framework_simplejwt.tokens").AccessToken.for_user(
                get_user_model().objects.get(pk=1)
            )
            token.set_exp(lifetime=timedelta(days=1))
            self._sessions["simplejwt"] = str(token)
        return self._sessions["simplejwt"]

    def _handler(self, kind: str, stack: str) -> Any:
        """Return Django's handler. What a stack's middleware does not read when it starts, no request looks at."""
        if (kind, stack) not in self._handlers:
            middleware, engine = STACKS[stack]
            with override_settings(MIDDLEWARE=middleware, SESSION_ENGINE=ENGINE + engine):
                self._handlers[kind, stack] = ASGIHandler() if kind == "async" else WSGIHandler()
        return self._handlers[kind, stack]

    def _sync_run(self, path: str, stack: str, headers: list[dict[str, str]], status: int) -> Callable[[], None]:
        handler = self._handler("sync", stack)
        environ = {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": "",
            "PATH_INFO": f"/{path}",
            "QUERY_STRING": "",
            "SERVER_NAME": "testserver",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "testserver",
            "HTTP_ACCEPT": "application/json",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
        }
        environs = [{**environ, **header} for header in headers]
        expected = str(status)

        def start_response(line: str, fields: Any, exc_info: Any = None) -> None:
            if not line.startswith(expected):
                raise RuntimeError(f"/{path} answered {line}, not {expected}")

        def run() -> None:
            for environ in environs:
                response = handler(environ, start_response)
                for _ in response:
                    pass
                response.close()

        return run

    def _async_run(self, path: str, stack: str, headers: list[dict[str, str]], status: int) -> Callable[[], None]:
        handler = self._handler("async", stack)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": f"/{path}",
            "raw_path": f"/{path}".encode(),
            "root_path": "",
            "query_string": b"",
            "server": ("testserver", 80),
            "client": ("127.0.0.1", 1),
        }
        fields = [(b"host", b"testserver"), (b"accept", b"application/json")]
        scopes = [
            {**scope, "headers": [*fields, *((b"authorization", value.encode()) for value in header.values())]}
            for header in headers
        ]

        async def send(message: Any) -> None:
            if message.get("status", status) != status:
                raise RuntimeError(f"/{path} answered {message['status']}, not {status}")

        async def run() -> None:
            for scope in scopes:
                arriving: asyncio.Queue[Any] = asyncio.Queue()
                arriving.put_nowait({"type": "http.request", "body": b"", "more_body": False})
                await handler(scope, arriving.get, send)

        return lambda: self._loop.run_until_complete(run())


def main() -> None:
    inside = Inside()
    answers = sys.stdout
    sys.stdout = sys.stderr  # nothing else comes between the answers
    for line in sys.stdin:
        print(json.dumps(inside.do(**json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
