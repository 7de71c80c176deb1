"""
Arbitrary bytes in headers and cookies, through real WSGI and ASGI handlers.

Whatever comes in: no 5xx, and nobody but the owner of a token that we minted and sent.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.test import override_settings
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clerk_views.testing import LocalClerk
from tests.doors import MIDDLEWARE

pytestmark = pytest.mark.django_db

PATHS = ["/required/", "/optional/", "/class/", "/plain/", "/api/open/", "/api/"]
few = hypothesis_settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


class Server:
    """A site behind both kinds of handler, and the tokens of two users who are known to it."""

    def __init__(self, clerk: LocalClerk) -> None:
        self.clerk = clerk
        self.ada, self.bob = clerk.add_user(email="ada@example.com").id, clerk.add_user(email="bob@example.com").id
        self.tokens = {clerk.token(user, expires_in=3600): user for user in (self.ada, self.bob)}
        self.wsgi, self.asgi = WSGIHandler(), ASGIHandler()

    def over_wsgi(self, path: str, headers: list[tuple[bytes, bytes]], method: str = "GET") -> tuple[int, bytes]:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "SERVER_NAME": "testserver",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": io.StringIO(),
        }
        for name, value in headers:  # as servers do: bytes as latin-1, repeated headers joined
            key = "HTTP_" + name.decode().upper().replace("-", "_")
            text = value.decode("latin-1")
            environ[key] = f"{environ[key]},{text}" if key in environ else text
        status: list[str] = []
        response = self.wsgi(environ, lambda line, _: status.append(line))  # type: ignore[arg-type]
        body = b"".join(response)
        response.close()
        return int(status[0].split()[0]), body

    def over_asgi(self, path: str, headers: list[tuple[bytes, bytes]], method: str = "GET") -> tuple[int, bytes]:
        sent: list[dict[str, Any]] = []
        body = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> dict[str, Any]:
            if not body:  # the client stays; Django stops asking when it has answered
                await asyncio.Event().wait()
            return body.pop()

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": [(b"host", b"testserver"), *headers],
            "server": ("testserver", 80),
            "scheme": "http",
        }
        from asgiref.sync import async_to_sync

        async_to_sync(self.asgi)(scope, receive, send)
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])

    def visit(self, path: str, headers: list[tuple[bytes, bytes]], method: str = "GET") -> set[str]:
        """Send it both ways; return the identities that were seen."""
        seen: set[str] = set()
        for way in (self.over_wsgi, self.over_asgi):
            status, body = way(path, headers, method)
            assert status in {200, 301, 302, 400, 401, 403, 405}, (status, headers, body[:200])
            seen.update(user for user in (self.ada, self.bob) if user.encode() in body)
        return seen


@pytest.fixture
def server(local_clerk: LocalClerk, settings: Any) -> Iterator[Server]:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
    # As Django's own test client does: the test's transaction is on a connection that must stay open.
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    with override_settings(ALLOWED_HOSTS=["*"], DEBUG=False):
        server = Server(local_clerk)
        for token, user in server.tokens.items():
            assert server.visit("/required/", [(b"authorization", f"Bearer {token}".encode())]) == {user}
        yield server
    for signal in signals:
        signal.connect(close_old_connections)


paths = st.sampled_from(PATHS)
methods = st.sampled_from(["GET", "HEAD", "POST", "PUT", "OPTIONS"])
junk = st.binary(max_size=300)


@few
@given(path=paths, method=methods, authorization=junk, cookie=junk)
def test_arbitrary_bytes(server: Server, path: str, method: str, authorization: bytes, cookie: bytes) -> None:
    """I2, SRC-07, F-22."""
    assert server.visit(path, [(b"authorization", authorization), (b"cookie", cookie)], method) == set()
    assert server.visit(path, [(b"authorization", b"Bearer " + authorization)], method) == set()
    assert server.visit(path, [(b"cookie", b"__session=" + cookie)], method) == set()


@few
@given(data=st.data(), path=paths)
def test_mutations_of_good_requests(server: Server, data: st.DataObject, path: str) -> None:
    """I3: one changed byte of a token makes it nobody's, never somebody else's."""
    token = data.draw(st.sampled_from(sorted(server.tokens)))
    position = data.draw(st.integers(0, len(token) - 1))
    replacement = data.draw(st.binary(max_size=3))
    raw = token.encode()[:position] + replacement + token.encode()[position + 1 :]
    expected = {server.tokens[token]} if raw == token.encode() else set()
    assert server.visit(path, [(b"authorization", b"Bearer " + raw)]) == expected
    # In a cookie a separator may cut the value off; what is left is judged by itself.
    assert server.visit(path, [(b"cookie", b"__session=" + raw)]) <= {server.tokens[token]}


@few
@given(data=st.data(), path=paths, extra=st.lists(junk, max_size=3), name=st.binary(min_size=1, max_size=20))
def test_junk_beside_a_good_credential_changes_nothing(
    server: Server, data: st.DataObject, path: str, extra: list[bytes], name: bytes
) -> None:
    """I4, SRC-05, SRC-06."""
    token = data.draw(st.sampled_from(sorted(server.tokens)))
    # Junk that holds a separator followed by the very name of a session cookie could be another credential.
    pieces = [piece for piece in (*extra, name + b"=x") if b"__session" not in piece]
    good = f"__session={token}".encode()
    where = data.draw(st.integers(0, len(pieces)))
    cookie = b"; ".join([*pieces[:where], good, *pieces[where:]])
    assert server.visit(path, [(b"cookie", cookie)]) == {server.tokens[token]}
    headers = [(b"authorization", f"Bearer {token}".encode()), (b"cookie", b"; ".join(pieces)), (b"x-junk", name)]
    assert server.visit(path, headers) == {server.tokens[token]}


@few
@given(data=st.data(), path=paths)
def test_two_credentials_never_mix(server: Server, data: st.DataObject, path: str) -> None:
    """I3, SRC-03, SRC-04."""
    one, other = data.draw(st.permutations(sorted(server.tokens)))
    header, cookie = f"Bearer {one}".encode(), f"__session={other}".encode()
    assert server.visit(path, [(b"authorization", header), (b"cookie", cookie)]) == {server.tokens[one]}
    twice = [(b"authorization", header), (b"authorization", f"Bearer {other}".encode())]
    assert server.visit(path, twice) == set()
    both = f"__session={one}; __session={other}".encode()
    assert server.visit(path, [(b"cookie", both)]) == set()


@pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer " + b"a" * 2**20)],
        [(b"authorization", b"Bearer " + b"a.b." * 2**18)],
        [(b"authorization", b"Basic " + b",Bearer" * 2**17)],
        [(b"cookie", b"__session=" + b"a" * 2**20)],
        [(b"cookie", b"__session=a.b.c;" * 2**16)],
        [(b"cookie", b";".join(b"__session=a.b.%d" % number for number in range(2**16)))],
        [(b"cookie", b"=" * 2**20)],
    ],
    ids=["long", "dots", "schemes", "long-cookie", "same-cookie", "many-cookies", "equals"],
)
def test_a_megabyte_is_judged_quickly(server: Server, headers: list[tuple[bytes, bytes]]) -> None:
    """DOS-01, F-21: linear work. Django's own parsing is part of it, so the bound is a generous one."""
    started = time.monotonic()
    assert server.visit("/required/", headers) == set()
    assert time.monotonic() - started < 5
