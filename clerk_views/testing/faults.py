"""
What can go wrong with an API, on demand: away, slow, refusing, redirecting, or answering nonsense.

Each fault is limited to requests whose path starts with ``path`` (both APIs as a whole unless told otherwise, where
machine tokens are verified included) and, with
``times``, to that many requests. Those with ``times`` are used up first, in the order in which they were set; of the
others the latest one set for the most particular path counts. ``clear()`` ends them all.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

#: Where Clerk's two APIs begin; their faults leave the sign-in page alone.
API = "/v1"
#: Parts of the Backend API that do not begin there.
_ELSEWHERE = ("/api_keys/", "/m2m_tokens/", "/oauth_applications/")


class Wire(Protocol):
    """The connection of one request, as far as a fault needs it."""

    def answer(
        self,
        status: int,
        body: bytes,
        content_type: str = "application/json",
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Send a whole, well-formed answer."""

    def send(self, data: bytes) -> None:
        """Send bytes, maybe none, as they are. The connection is closed when the request has been dealt with."""

    def pause(self, seconds: float) -> bool:
        """Wait. True means that the server is being stopped, and there is no time to lose."""


@dataclass
class _Fault:
    act: Callable[[Wire], bool]  # True: that was the answer; False: go on with the genuine one
    path: str
    times: int | None


class Faults:
    """The faults of one LocalClerk. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limited: list[_Fault] = []
        self._standing: dict[str, _Fault] = {}

    def down(self, *, path: str = API, times: int | None = None) -> None:
        """Close the connection without an answer. (For a refused connection stop() the server.)"""

        def act(wire: Wire) -> bool:
            wire.send(b"")
            return True

        self._set(act, path, times)

    def slow(self, seconds: float, *, path: str = API, times: int | None = None) -> None:
        """Answer as usual, after this many seconds."""

        def act(wire: Wire) -> bool:
            return wire.pause(seconds)

        self._set(act, path, times)

    def drip(self, interval: float = 0.02, *, path: str = API, times: int | None = None) -> None:
        """Send headers and then a body that never ends, one byte every ``interval`` seconds."""

        def act(wire: Wire) -> bool:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
            sent = 0
            while not wire.pause(interval):
                wire.send(head[sent : sent + 1] or b" ")
                sent += 1
            return True

        self._set(act, path, times)

    def status(
        self,
        code: int,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        path: str = API,
        times: int | None = None,
    ) -> None:
        """Answer with this status; without ``body`` with a Clerk error that fits it, for example 429 or 500."""
        content = error_body(code) if body is None else body

        def act(wire: Wire) -> bool:
            wire.answer(code, content, headers=tuple((headers or {}).items()))
            return True

        self._set(act, path, times)

    def redirect(self, url: str, *, code: int = 307, path: str = API, times: int | None = None) -> None:
        """Answer with a redirect to another address."""
        self.status(code, headers={"Location": url}, body=b"", path=path, times=times)

    def garbage(self, kind: str, *, path: str = API, times: int | None = None) -> None:
        """
        Answer 200 with something no client can use; GARBAGE lists the kinds.

        Raises:
            ValueError: For another kind.
        """
        if kind not in GARBAGE:
            raise ValueError(f"No such garbage: {kind!r}. Known: {', '.join(GARBAGE)}.")

        def act(wire: Wire) -> bool:
            GARBAGE[kind](wire)
            return True

        self._set(act, path, times)

    def clear(self) -> None:
        """End all faults. Answers already under way are finished as they began."""
        with self._lock:
            self._limited.clear()
            self._standing.clear()

    def strike(self, path: str, wire: Wire) -> bool:
        """Let the fault that is due for a request happen. True means that the request has been dealt with."""
        with self._lock:
            fault = self._due(path)
        return fault is not None and fault.act(wire)

    def _set(self, act: Callable[[Wire], bool], path: str, times: int | None) -> None:
        fault = _Fault(act, path, times)
        with self._lock:
            if times is None:
                self._standing[path] = fault
            else:
                self._limited.append(fault)

    def _due(self, path: str) -> _Fault | None:
        for fault in self._limited:
            if fault.times and _concerns(fault, path):
                fault.times -= 1
                return fault
        matching = [fault for fault in self._standing.values() if _concerns(fault, path)]
        return max(matching, key=lambda fault: len(fault.path), default=None)


def _concerns(fault: _Fault, path: str) -> bool:
    return path.startswith(fault.path) or (fault.path == API and path.startswith(_ELSEWHERE))


def error_body(status: int, code: str | None = None, message: str | None = None) -> bytes:
    """Return a body of Clerk's error form. Source: Clerk, "Backend API errors"."""
    code, message = code or _CODES.get(status, "internal_clerk_error"), message or f"The answer is {status}."
    error = {"message": message, "long_message": message, "code": code, "meta": {}}
    return json.dumps({"errors": [error], "clerk_trace_id": "00000000000000000000000000000000"}).encode()


class Refused(Exception):
    """
    The answer is an error of Clerk's form; see error_body().

    Attributes:
        status: Of the answer.
        body: Of the answer.
    """

    def __init__(self, status: int, code: str | None = None, message: str | None = None) -> None:
        super().__init__(status, code, message)
        self.status = status
        self.body = error_body(status, code, message)


_CODES = {
    400: "request_invalid",
    401: "clerk_key_invalid",
    403: "authorization_invalid",
    404: "resource_not_found",
    422: "form_param_value_invalid",
    429: "too_many_requests",
}

_HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n"
_MEGABYTE = 1024 * 1024

_WRONG_TYPES: dict[str, Any] = {
    "object": ["user"],
    "id": 7,
    "keys": {"kid": 1},
    "email_addresses": {"email_address": 1},
    "primary_email_address_id": 3.5,
    "username": {"a": 1},
    "first_name": False,
    "banned": "perhaps",
    "updated_at": "yesterday",
    "total_count": "many",
}


def _whole(body: bytes, content_type: str = "application/json", **headers: str) -> Callable[[Wire], None]:
    fields = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return lambda wire: wire.answer(200, body, content_type, fields)


def _huge(wire: Wire) -> None:
    wire.send(_HEAD + b"Content-Length: %d\r\n\r\n" % (50 * _MEGABYTE + 11))
    wire.send(b'{"pad": "')
    for _ in range(50):
        wire.send(b"x" * _MEGABYTE)
    wire.send(b'"}')


def _endless(wire: Wire) -> None:
    wire.send(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:  # until the client or the server hangs up, which makes sending fail
        wire.send(b"10000\r\n" + b" " * 0x10000 + b"\r\n")


def _truncated(wire: Wire) -> None:
    wire.send(_HEAD + b'Content-Length: 1000\r\n\r\n{"keys": [')


def _bad_chunk(wire: Wire) -> None:
    wire.send(_HEAD + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"key\r\nnot a length\r\n')


def _gzip_bomb(wire: Wire) -> None:
    packer = zlib.compressobj(9, wbits=31)
    body = packer.compress(b'{"pad": "' + b" " * (50 * _MEGABYTE) + b'"}') + packer.flush()
    wire.answer(200, body, headers=[("Content-Encoding", "gzip")])


#: The kinds of garbage: what each sends with status 200.
GARBAGE: Mapping[str, Callable[[Wire], None]] = {
    "html": _whole(b"<!doctype html><title>Welcome</title><p>Please log in to the network.", "text/html"),
    "empty": _whole(b""),
    "null": _whole(b"null"),
    "list": _whole(b"[1, 2]"),
    "wrong-types": _whole(json.dumps(_WRONG_TYPES).encode()),
    "charset": _whole('{"id": "ÿ", "keys": []}'.encode("latin-1"), "application/json; charset=utf-8"),
    "json-bomb": _whole(b"[" * 200_000),  # nested deeper than a parser can follow
    "digits": _whole(b'{"keys": ' + b"1" * 10_000 + b"}"),  # a number longer than Python agrees to read
    "huge": _huge,  # 50 MB of good JSON
    "endless": _endless,
    "truncated": _truncated,  # less than Content-Length promised
    "bad-chunk": _bad_chunk,
    "gzip": _whole(b"not gzip at all", Content_Encoding="gzip"),
    "gzip-bomb": _gzip_bomb,  # small on the wire, 50 MB when unpacked
}
