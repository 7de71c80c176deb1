"""
The HTTP server under LocalClerk: a port of 127.0.0.1, a thread for each connection, and an end to all at once.

It knows nothing of Clerk. Each request becomes an Exchange and goes to the function that it was given.
"""

from __future__ import annotations

import json
import re
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote

from clerk_views.testing.calls import Calls
from clerk_views.testing.places import HOST, PROXY_PATH

#: Method, pattern of the address below ``/v1/``, and what answers. The first that fits counts.
Routes = tuple[tuple[str, str, Callable[..., Any]], ...]


def routed(routes: Routes, method: str, path: str) -> Iterator[tuple[Callable[..., Any], list[str]]]:
    """Say what answers a request, and with which parts of its address."""
    for expected, pattern, answer in routes:
        fitting = re.fullmatch(f"/v1/{pattern}", path)
        if fitting and method == expected:
            yield answer, [unquote(part) for part in fitting.groups()]


class _Connection(NamedTuple):
    thread: threading.Thread
    hung_up: threading.Event


class Listener(ThreadingHTTPServer):
    """Accepts connections on a thread of its own, answers each on another, and can end them all at once."""

    request_queue_size = 128  # many clients may knock at the same moment
    daemon_threads = True

    def __init__(self, port: int, handle: Callable[[Exchange], None], calls: Calls) -> None:
        self.handle_exchange = handle
        self.calls = calls
        self._guard = threading.Lock()
        self._open: dict[socket.socket, _Connection] = {}
        self._loop = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.02}, name="LocalClerk", daemon=True
        )
        super().__init__((HOST, port), Exchange)

    def server_bind(self) -> None:
        # Not HTTPServer's own, which asks the network for this machine's name.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.socket.getsockname()[1]

    def begin(self) -> None:
        """Start to answer."""
        self._loop.start()

    def end(self) -> None:
        """Close the port, then every connection."""
        self.shutdown()
        self._loop.join()
        self.server_close()
        self.hang_up()

    def hang_up(self) -> None:
        """Close all connections, and wait until their threads have noticed."""
        with self._guard:
            there = dict(self._open)
        for request, connection in there.items():
            connection.hung_up.set()
            with suppress(OSError):  # closed in the meantime, by us or by the client
                request.shutdown(socket.SHUT_RDWR)
        for connection in there.values():
            connection.thread.join(5)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.calls.connected()
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), name="LocalClerk client", daemon=True
        )
        with self._guard:
            self._open[request] = _Connection(thread, threading.Event())
            thread.start()

    def hung_up(self, request: Any) -> threading.Event:
        """Return what is set when a connection shall end."""
        with self._guard:
            return self._open[request].hung_up

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            del self._open[request]
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients that leave early are what half of the faults are about; anything else is a mistake to be seen.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Exchange(BaseHTTPRequestHandler):
    """One connection and the requests on it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Listener

    def setup(self) -> None:
        super().setup()
        self._hung_up = self.server.hung_up(self.request)

    def do_GET(self) -> None:
        # The Frontend API stands below a path of its own, and beside it nothing has the same address.
        self.path = re.sub(f"^{PROXY_PATH}(?=/)", "", self.path)
        #: Headers that go with whatever is answered.
        self.standing_headers: list[tuple[str, str]] = []
        self._body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.calls.began(self.command, self.path, self.headers.items())
        self._under_way = True
        try:
            self.server.handle_exchange(self)
        finally:
            self._end()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    @property
    def host(self) -> str:
        """The host name that the client asked for, without the port."""
        return (self.headers["Host"] or "").partition(":")[0].lower()

    @property
    def port(self) -> int:
        """Our own port."""
        return self.server.server_port

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that came with the request, as they are; of those that came twice the first."""
        pairs = [pair.strip().partition("=") for pair in (self.headers["Cookie"] or "").split(";")]
        return {name: value for name, _, value in reversed(pairs)}

    def form(self, *, blank: bool = False) -> dict[str, list[str]]:
        """
        Return the form that came with the request.

        Args:
            blank: Whether fields without a value count.
        """
        return parse_qs(self._body.decode("latin-1"), keep_blank_values=blank)

    def json_object(self) -> dict[str, Any]:
        """Return the JSON object that came with the request; an empty one for anything else."""
        try:
            found = json.loads(self._body)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def answer(
        self,
        status: int,
        body: bytes,
        content_type: str = "application/json",
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        headers = tuple(headers)
        lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, 'Status')}"]
        if not any(name.lower() == "date" for name, _ in headers):
            lines.append(f"Date: {self.date_time_string()}")
        lines += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (*self.standing_headers, *headers)]
        self._end()
        self.wfile.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    def _end(self) -> None:
        """Count the exchange as over, before a client that has the whole answer can look at the counts."""
        if self._under_way:
            self._under_way = False
            self.server.calls.ended()

    def send(self, data: bytes) -> None:
        self.close_connection = True
        self.wfile.write(data)

    def pause(self, seconds: float) -> bool:
        return self._hung_up.wait(seconds)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: ``calls`` remembers the requests, without their secrets."""


_PHRASES = {status.value: status.phrase for status in HTTPStatus}
