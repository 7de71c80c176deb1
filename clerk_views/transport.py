"""
How bytes travel to Clerk and back: in bounded time and size, over verified TLS, to the configured host alone.

Apart from api.py because importing httpx and the SDK takes a fifth of a second: that happens on the first call.
"""

from __future__ import annotations

import asyncio
import math
import os
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from typing import Any

import httpcore
import httpx
from clerk_backend_api import Clerk

CONNECT_TIMEOUT = 1.0  # seconds, for each address of the host
READ_TIMEOUT = 2.0  # seconds without a byte
MAX_CONNECTIONS = 10
KEEP_ALIVE = 30.0  # seconds
MAX_ANSWER = 1024 * 1024  # bytes

_most: ContextVar[int] = ContextVar("clerk_views_most", default=MAX_ANSWER)  # bytes
_deadline: ContextVar[float] = ContextVar("clerk_views_deadline", default=math.inf)  # on the monotonic clock


class UnusableAnswer(httpx.RequestError):
    """The answer is too large, packed, or not the UTF-8 that JSON has to be."""


class TLSFailed(httpcore.ConnectError):
    """The server did not prove who it is, as httpcore's callers see it."""


class TLSError(httpx.ConnectError):
    """The server did not prove who it is; nothing was sent to it."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Bound all that is sent and received inside the block, taken together. An earlier bound stays in force."""
    outer = _deadline.set(min(_deadline.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _deadline.reset(outer)


@contextmanager
def up_to(size: int) -> Iterator[None]:
    """Let answers inside the block have this many bytes."""
    outer = _most.set(size)
    try:
        yield
    finally:
        _most.reset(outer)


def _left(late: type[Exception], timeout: float | None = None) -> float:
    left = _deadline.get() - time.monotonic()
    if left <= 0:
        raise late("The time for this call is over.")
    return min(left, timeout or left)


class _Stream(httpcore.NetworkStream):
    """
    A connection on which every step ends at the deadline of the call it serves.

    A timeout per step does not do: a server that sends one byte now and then would be listened to for ever.
    """

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(httpcore.ReadTimeout, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(httpcore.WriteTimeout, timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            # The handshake as a whole is bound by the timeout, however its bytes arrive.
            secured = self._stream.start_tls(ssl_context, server_hostname, _left(httpcore.ConnectTimeout, timeout))
        except httpcore.ConnectError as error:
            if isinstance(error.__cause__, ssl.SSLError):
                raise TLSFailed(str(error)) from None
            raise
        return _Stream(secured)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Opens connections. The operating system's name resolution knows no timeout, so it is waited for elsewhere."""

    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        self._backend = backend

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        made: Future[httpcore.NetworkStream] = Future()
        each = _left(httpcore.ConnectTimeout, timeout)

        def connect() -> None:
            try:
                stream = self._backend.connect_tcp(host, port, each, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout, UnicodeError) as error:
                with suppress(InvalidStateError):  # nobody waits any more
                    made.set_exception(error)
                return
            try:
                made.set_result(stream)
            except InvalidStateError:
                stream.close()

        threading.Thread(target=connect, name="clerk_views connect", daemon=True).start()
        with suppress(TimeoutError):
            made.result(_left(httpcore.ConnectTimeout))
        if made.cancel():
            raise httpcore.ConnectTimeout("No connection in time.")
        return _Stream(made.result())


@cache
def _tls() -> ssl.SSLContext:
    """Return the one context; always verifying. SSL_CERT_FILE and SSL_CERT_DIR name other authorities, as usual."""
    return httpx.create_ssl_context()


class Transport(httpx.BaseTransport):
    """
    Carries one request at a time per connection, whole answers only.

    Args:
        timeout: Seconds for a request as a whole. ``within`` makes it less.
        backend: What opens the connections; the operating system's sockets unless a test brings its own.

    Attributes:
        dated: What the last answer called its ``Date``, and our own time then in UNIX seconds; None before the first.
    """

    dated: tuple[str, float] | None = None

    def __init__(self, timeout: float, backend: httpcore.NetworkBackend | None = None) -> None:
        self._timeout = timeout
        self._backend = _Backend(backend or httpcore.SyncBackend())
        self._open()

    def _open(self) -> None:
        self._process = os.getpid()
        self._pool = httpcore.ConnectionPool(
            ssl_context=_tls(),
            max_connections=MAX_CONNECTIONS,
            keepalive_expiry=KEEP_ALIVE,
            network_backend=self._backend,
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self._process != os.getpid():
            self._open()  # a connection from before the fork is the parent's
        # "from None": the frames below hold the request's headers, and error reports show the variables of frames.
        with within(self._timeout):
            try:
                answer = self._exchange(request)
            except TLSFailed as error:
                raise TLSError(str(error)) from None
            except httpcore.ProtocolError:
                raise httpx.RemoteProtocolError("This is not HTTP.") from None  # httpcore would quote the answer
            except (httpcore.TimeoutException, httpcore.NetworkError) as error:
                raise getattr(httpx, type(error).__name__)(str(error)) from None  # both libraries use the same names
        self.dated = (answer.headers.get("date", ""), time.time())
        return answer

    def close(self) -> None:
        """Close the connections. A later request opens new ones."""
        self._pool.close()

    def _exchange(self, request: httpx.Request) -> httpx.Response:
        timeouts = {**request.extensions["timeout"], "pool": _left(httpcore.PoolTimeout)}
        answer = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions={**request.extensions, "timeout": timeouts},
            )
        )
        try:
            return _whole(answer)
        finally:
            answer.close()


def _whole(answer: httpcore.Response) -> httpx.Response:
    headers = []
    is_json = False
    for name, value in answer.headers:
        match name.lower():
            case b"content-type":
                # JSON is UTF-8, whatever else is claimed; and some of Python's codecs unpack or run on for long.
                value = value.partition(b";")[0].strip().lower()
                is_json = value == b"application/json"
            case b"content-encoding" if value.strip().lower() != b"identity":
                raise UnusableAnswer("The answer is packed, which was not asked for.")  # a megabyte can hold gigabytes
            case b"set-cookie" | b"location":
                continue  # nothing is carried from one call to the next, and no redirect is followed (F-10)
        headers.append((name, value))
    body = bytearray()
    for part in answer.iter_stream():
        body += part
        if len(body) > _most.get():
            raise UnusableAnswer(f"The answer is longer than {_most.get()} bytes.")
    if is_json:
        try:
            body.decode()
        except UnicodeDecodeError:
            raise UnusableAnswer("The answer is not UTF-8.") from None
    return httpx.Response(answer.status, headers=headers, content=bytes(body))


class AsyncTransport(httpx.AsyncBaseTransport):
    """The same for coroutines: an own pool of connections would belong to one event loop and fail on the next."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await asyncio.to_thread(self._transport.handle_request, request)


class _Silence:
    """Instead of the SDK's log, which has the secret key in it."""

    def debug(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Say nothing."""


def build_sdk(secret_key: str, api_url: str, transport: Transport) -> Clerk:
    """Return Clerk's SDK on our transport. The SDK's own retries, up to an hour of them, are off."""
    options: dict[str, Any] = {
        "headers": {"Accept-Encoding": "identity"},
        "timeout": httpx.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT),
        "follow_redirects": False,
        "trust_env": False,
    }
    return Clerk(
        bearer_auth=lambda: secret_key,  # as a function it is in no repr of the SDK's configuration
        server_url=f"{api_url}/v1",
        client=httpx.Client(transport=transport, **options),
        async_client=httpx.AsyncClient(transport=AsyncTransport(transport), **options),
        retry_config=None,
        debug_logger=_Silence(),
    )
