"""Bytes to Clerk and back: in bounded time and size, over verified TLS, to one host, and nothing leaks on the way."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest

from clerk_views import transport
from clerk_views.api import get_api
from clerk_views.calls import Budget
from clerk_views.conf import config
from clerk_views.exceptions import ClerkUnavailable
from clerk_views.testing import LocalClerk
from clerk_views.transport import MAX_ANSWER, Transport, within
from tests import wire

BODY = b'{"keys": []}'


def fetch(url: str, *, timeout: float = 5, backend: httpcore.NetworkBackend | None = None) -> httpx.Response:
    """GET an address the way the SDK's client does it."""
    carrier = Transport(timeout, backend)
    try:
        with httpx.Client(transport=carrier, timeout=httpx.Timeout(2, connect=1), trust_env=False) as client:
            return client.get(f"{url}/v1/jwks", headers={"Authorization": "Bearer sk_test_canary"})
    finally:
        carrier.close()


HEAD_LENGTH = len(wire.JSON_HEAD)


@pytest.mark.parametrize(
    "handle",
    [
        pytest.param(wire.silence, id="never answers"),
        pytest.param(wire.answer(wire.whole(BODY), interval=0.05), id="status line dripped"),
        pytest.param(wire.answer(wire.whole(BODY), interval=0.05, start=20), id="headers dripped"),
        pytest.param(wire.answer(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, interval=0.01), id="hints without end"),
        pytest.param(wire.answer(wire.whole(b" " * 99), interval=0.05, start=HEAD_LENGTH + 22), id="body dripped"),
    ],
)
def test_no_server_takes_longer_than_the_timeout(handle: Any) -> None:
    """F-03, DOS-02: each byte comes well before a timeout per read would notice."""
    with wire.serving(handle) as server:
        began = time.monotonic()
        with pytest.raises(httpx.TimeoutException):
            fetch(server.url, timeout=0.3)
        assert time.monotonic() - began < 0.9


def test_a_call_ends_with_what_is_left_of_the_outer_limit() -> None:
    with wire.serving(wire.silence) as server, within(0.2), within(5):
        began = time.monotonic()
        with pytest.raises(httpx.TimeoutException):
            fetch(server.url)
        with pytest.raises(httpx.TimeoutException, match="over"):
            fetch(server.url)
        assert time.monotonic() - began < 0.4


class SlowBackend(httpcore.NetworkBackend):
    """Connects when told to, as if name resolution hung until then. Stands in for the operating system."""

    def __init__(self, stream: httpcore.NetworkStream | None) -> None:
        self.stream = stream
        self.go_on = threading.Event()
        self.threads: list[threading.Thread] = []

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        self.threads.append(threading.current_thread())
        self.go_on.wait()
        if self.stream is None:
            raise httpcore.ConnectError("no such host")
        return self.stream


class ClosingStream(httpcore.NetworkStream):
    closed = False

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("stream", [ClosingStream(), None], ids=["then connects", "then fails"])
def test_name_resolution_that_hangs_is_not_waited_for(stream: ClosingStream | None) -> None:
    """F-01: and what comes of it later is thrown away."""
    backend = SlowBackend(stream)
    began = time.monotonic()
    with pytest.raises(httpx.ConnectTimeout):
        fetch("http://clerk.invalid", timeout=0.2, backend=backend)
    assert time.monotonic() - began < 0.4
    backend.go_on.set()
    backend.threads[0].join()
    assert stream is None or stream.closed


def test_a_refused_connection_fails_at_once() -> None:
    """F-01."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(httpx.ConnectError):
        fetch(f"http://127.0.0.1:{port}")


def test_a_host_name_that_cannot_be_is_an_error_not_a_wait() -> None:
    with pytest.raises(UnicodeError):
        fetch(f"http://{'a' * 70}.example")


@pytest.fixture
def trusting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let the authority in ``server.pem`` vouch for servers, as an operator would."""
    transport._tls.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    yield tmp_path
    transport._tls.cache_clear()


def test_a_trusted_server_is_talked_to(trusting: Path) -> None:
    with wire.serving(wire.answer(wire.whole(BODY)), tls=wire.certificate(trusting)) as server:
        assert fetch(server.url).json() == {"keys": []}


@pytest.mark.parametrize(
    "flaw", [{"days": -1}, {"host": "127.0.0.2"}, {"host": "clerk.example"}], ids=["expired", "other IP", "other host"]
)
def test_a_bad_certificate_ends_the_call_before_anything_is_sent(trusting: Path, flaw: dict[str, Any]) -> None:
    """F-07, KEY-08: TLS is never downgraded."""
    with wire.serving(wire.answer(wire.whole(BODY)), tls=wire.certificate(trusting, **flaw)) as server:
        with pytest.raises(transport.TLSError):
            fetch(server.url)
        assert server.received == []


def test_an_unknown_issuer_ends_the_call_before_anything_is_sent(tmp_path: Path) -> None:
    """F-07, KEY-08."""
    with wire.serving(wire.answer(wire.whole(BODY)), tls=wire.certificate(tmp_path)) as server:
        with pytest.raises(transport.TLSError):
            fetch(server.url)
        assert server.received == []


def test_a_connection_lost_during_the_handshake_is_no_question_of_identity() -> None:
    """F-05: it is tried again, a bad certificate is not."""

    def reset(connection: socket.socket, server: wire.Wire) -> None:
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset

    with wire.serving(reset) as server, pytest.raises(httpx.ConnectError) as caught:
        fetch(server.url.replace("http:", "https:"))
    assert not isinstance(caught.value, transport.TLSError)


def test_a_redirect_is_not_followed(local_clerk: LocalClerk) -> None:
    """F-10, KEY-08: whoever is redirected to never hears from us, let alone the secret key."""
    with wire.serving(wire.silence) as elsewhere:
        local_clerk.faults.redirect(elsewhere.url)
        assert fetch(local_clerk.url).status_code == 307
        with pytest.raises(ClerkUnavailable):
            get_api(config()).get_key_set(Budget(5))
        assert elsewhere.connections == 0


def test_the_environment_names_no_proxy(local_clerk: LocalClerk, monkeypatch: pytest.MonkeyPatch) -> None:
    with wire.serving(wire.silence) as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert get_api(config()).get_key_set(Budget(5))
        assert proxy.connections == 0


@pytest.mark.parametrize("size", [MAX_ANSWER, MAX_ANSWER + 1])
def test_an_answer_has_at_most_a_megabyte(size: int) -> None:
    """F-06."""
    with wire.serving(wire.answer(wire.whole(b" " * size))) as server:
        if size <= MAX_ANSWER:
            assert len(fetch(server.url).content) == size
        else:
            with pytest.raises(transport.UnusableAnswer, match="longer"):
                fetch(server.url)


def test_a_packed_answer_is_refused_and_none_is_asked_for(local_clerk: LocalClerk) -> None:
    """F-06: a megabyte can unpack to gigabytes."""
    packed = wire.answer(wire.whole(BODY, b"Content-Encoding: GZIP"))
    with wire.serving(packed) as server, pytest.raises(transport.UnusableAnswer, match="packed"):
        fetch(server.url)
    with wire.serving(wire.answer(wire.whole(BODY, b"Content-Encoding: identity"))) as server:
        assert fetch(server.url).json() == {"keys": []}
    get_api(config()).get_key_set(Budget(5))
    assert local_clerk.calls.paths[-1].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("charset", ["zlib", "hex", "utf-7", "no-such"])
def test_json_is_utf_8_whatever_is_claimed(charset: str) -> None:
    """F-06: Python has codecs that unpack."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: Application/JSON; charset=%s\r\nConnection: close\r\n\r\n"
    with wire.serving(wire.answer(head % charset.encode() + b'"\xc3\xbf"')) as server:
        answer = fetch(server.url)
    assert answer.text == '"ÿ"'
    assert answer.headers["content-type"] == "application/json"


def test_json_in_another_encoding_is_refused() -> None:
    """F-06."""
    latin = wire.answer(wire.whole(b'"\xff"'))
    with wire.serving(latin) as server, pytest.raises(transport.UnusableAnswer, match="UTF-8"):
        fetch(server.url)


def test_a_server_cannot_quote_its_answer_into_our_errors() -> None:
    """LOG-01."""
    quoting = wire.answer(b"HTTP/1.1 200 ada@example.com\r\nada@example.com\r\n\r\n")
    with wire.serving(quoting) as server, pytest.raises(httpx.RemoteProtocolError) as caught:
        fetch(server.url)
    assert "ada@" not in str(caught.value)


def test_cookies_are_not_carried_from_one_call_to_the_next(local_clerk: LocalClerk) -> None:
    local_clerk.faults.status(404, headers={"Set-Cookie": "track=1; Path=/"})
    sdk = get_api(config()).sdk
    for _ in range(2):
        with pytest.raises(Exception, match="resource_not_found"):
            sdk.users.get(user_id="user_1")
    assert "cookie" not in local_clerk.calls.paths[-1].headers


def test_the_sdk_by_itself_is_bounded_too(local_clerk: LocalClerk, settings: Any) -> None:
    """DOS-02: left alone, the SDK tries for an hour."""
    settings.CLERK_TIMEOUT_MS = 200
    local_clerk.faults.drip()
    began = time.monotonic()
    with pytest.raises(httpx.TimeoutException):
        get_api(config()).sdk.users.get(user_id="user_1")
    assert time.monotonic() - began < 3
    local_clerk.faults.clear()
    local_clerk.faults.status(500)
    local_clerk.calls.reset()
    with pytest.raises(Exception, match="internal_clerk_error"):
        get_api(config()).sdk.users.get(user_id="user_1")
    assert local_clerk.calls.total == 1


def test_async_calls_work_on_one_event_loop_after_another(local_clerk: LocalClerk) -> None:
    """CTX-03: connections that belong to a loop fail on the next."""
    user = local_clerk.add_user(email="ada@example.com")
    sdk = get_api(config()).sdk

    async def both() -> list[Any]:
        return await asyncio.gather(*(sdk.users.get_async(user_id=user.id) for _ in range(2)))

    found = asyncio.run(both()) + asyncio.run(both())
    assert [one.id for one in found] == [user.id] * 4
    assert local_clerk.calls.connections <= 2


def test_a_slow_async_call_does_not_hold_up_the_event_loop(local_clerk: LocalClerk) -> None:
    """CTX-02."""
    user = local_clerk.add_user()
    sdk = get_api(config()).sdk
    assert sdk.users.get(user_id=user.id).id == user.id  # all is imported now
    local_clerk.faults.slow(0.3)

    async def longest_lag() -> float:
        call = asyncio.ensure_future(sdk.users.get_async(user_id=user.id))
        lag = 0.0
        while not call.done():
            before = time.monotonic()
            await asyncio.sleep(0.01)
            lag = max(lag, time.monotonic() - before)
        assert call.result().id == user.id
        return lag

    assert asyncio.run(longest_lag()) < 0.2


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files the way Linux shows them")
def test_open_files_stay_flat_over_many_calls(local_clerk: LocalClerk) -> None:
    """CTX-03: good calls share a connection, failed ones leave none behind."""
    api = get_api(config())
    user = local_clerk.add_user()

    def calls(count: int) -> int:
        for number in range(count):
            if number % 10 == 0:
                local_clerk.faults.status(500, headers={"Connection": "close"}, path="/v1/users", times=1)
            if number % 15 == 7:
                local_clerk.faults.down(path="/v1/users", times=1)
            api.get_user(user.id, Budget(5))
        return len(os.listdir("/proc/self/fd"))

    before = calls(50)
    assert calls(250) <= before + 2


def test_no_more_than_ten_connections_are_open(local_clerk: LocalClerk, settings: Any) -> None:
    """F-31: also when the SDK is used directly. On a busy machine one may come too late, and be opened once more."""
    user = local_clerk.add_user()
    opened = []
    for more in range(3):
        settings.CLERK_TIMEOUT_MS = 5000 + more  # another configuration has connections of its own
        local_clerk.calls.reset()
        local_clerk.faults.clear()
        sdk = get_api(config()).sdk
        sdk.users.get(user_id=user.id)
        local_clerk.faults.slow(0.1)
        threads = [threading.Thread(target=lambda sdk=sdk: sdk.users.get(user_id=user.id)) for _ in range(25)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert local_clerk.calls.user_fetches >= 26
        assert local_clerk.calls.most_at_once <= 10
        opened.append(local_clerk.calls.connections)
        if opened[-1] <= 10:
            break
    assert 1 < min(opened) <= 10


FORK = """
import os, sys
import django
from django.conf import settings
settings.configure(CLERK_SECRET_KEY=sys.argv[1], CLERK_API_URL=sys.argv[2])
from clerk_views.api import get_api
from clerk_views.calls import Budget
from clerk_views.conf import config
api = get_api(config())
sdk = api.sdk
assert sdk.users.get(user_id=sys.argv[3]).id == sys.argv[3]
child = os.fork()
if child:
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
same = get_api(config()) is api
for _ in range(20):
    assert sdk.users.get(user_id=sys.argv[3]).id == sys.argv[3]
    assert get_api(config()).get_user(sys.argv[3], Budget(5)).id == sys.argv[3]
assert same == bool(child)
sys.exit(status if child else 0)
"""


def test_a_forked_child_opens_connections_of_its_own(local_clerk: LocalClerk) -> None:
    """F-29, CTX-03: even through an SDK object from before the fork."""
    user = local_clerk.add_user()
    command = [sys.executable, "-c", FORK, local_clerk.secret_key, local_clerk.url, user.id]
    subprocess.run(command, check=True, timeout=30)
    assert local_clerk.calls.user_fetches == 81
    assert local_clerk.calls.connections == 3  # the parent's, and the child's through the old SDK and the new


def test_nothing_on_the_way_logs_or_shows_the_secret_key(
    local_clerk: LocalClerk, caplog: pytest.LogCaptureFixture
) -> None:
    """LOG-01: every logger at DEBUG, good calls and bad ones."""
    caplog.set_level(logging.DEBUG)
    user = local_clerk.add_user(email="ada@example.com")
    api = get_api(config())
    api.get_user(user.id, Budget(5))
    local_clerk.faults.slow(0.3)
    with pytest.raises(ClerkUnavailable) as caught:
        api.get_user(user.id, Budget(0.1))
    local_clerk.faults.status(500)
    with pytest.raises(ClerkUnavailable):
        api.get_user(user.id, Budget(5))
    assert {"httpcore.http11", "clerk_views"} <= {record.name for record in caplog.records}
    shown = [caplog.text, repr(api), repr(api.sdk), repr(api.sdk.sdk_configuration)]
    error: BaseException | None = caught.value
    while error is not None:
        shown.append(repr(error))
        frame = error.__traceback__
        while frame is not None:  # what an error report shows
            shown.append(repr(frame.tb_frame.f_locals) if "httpcore" in frame.tb_frame.f_code.co_filename else "")
            frame = frame.tb_next
        error = error.__cause__
    text = "\n".join(shown)
    assert local_clerk.secret_key not in text
    assert "ada@example.com" not in text
