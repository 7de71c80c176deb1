"""When Clerk is asked, how often and for how long; and what comes of it when it says nothing, or nonsense."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from clerk_views.api import ClerkApi, get_api
from clerk_views.calls import Budget
from clerk_views.conf import config
from clerk_views.exceptions import ClerkError, ClerkUnavailable
from clerk_views.testing import LocalClerk
from clerk_views.testing.faults import GARBAGE, error_body
from tests import wire
from tests.asking import ASK, Ask, fail


@pytest.fixture(params=ASK)
def ask(request: pytest.FixtureRequest) -> Ask:
    """Ask for the key set, and in another run for a user."""
    return ASK[request.param]


# Faults


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_a_failure_and_not_quoted(
    local_clerk: LocalClerk, api: ClerkApi, ask: Ask, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """F-06, F-05."""
    local_clerk.faults.garbage(kind)
    error = fail(api, ask)
    text = "".join(traceback.format_exception(error)) + caplog.text
    assert "Welcome" not in text
    assert local_clerk.secret_key not in text


def test_bodies_with_personal_data_stay_out_of_errors_and_logs(
    local_clerk: LocalClerk, api: ClerkApi, caplog: pytest.LogCaptureFixture
) -> None:
    """LOG-01: the SDK's errors carry the answer in their text."""
    for status in (200, 302, 400, 500):
        local_clerk.respond("/v1/users/user_1", b'{"id": ["ada@example.com"]}', status)
        error = fail(get_api(config()))
        local_clerk.add_user(id=f"user_{status}")
        api.get_user(f"user_{status}", Budget(5))
        assert "ada@" not in "".join(traceback.format_exception(error)) + caplog.text


@pytest.mark.parametrize(
    "set_fault",
    [
        pytest.param(lambda faults, times: faults.status(500, times=times), id="500"),
        pytest.param(lambda faults, times: faults.status(503, times=times), id="503"),
        pytest.param(lambda faults, times: faults.status(408, times=times), id="408"),
        pytest.param(lambda faults, times: faults.down(times=times), id="dropped"),
        pytest.param(lambda faults, times: faults.garbage("truncated", times=times), id="truncated"),
        pytest.param(lambda faults, times: faults.garbage("bad-chunk", times=times), id="bad chunk"),
    ],
)
def test_a_passing_fault_is_tried_again_once(
    local_clerk: LocalClerk, api: ClerkApi, set_fault: Callable[[Any, int | None], None]
) -> None:
    """F-05."""
    set_fault(local_clerk.faults, 1)
    assert api.get_key_set(Budget(5)) == [local_clerk.signing_key.jwk]
    assert local_clerk.calls.total == 2
    set_fault(local_clerk.faults, None)
    fail(api)
    assert local_clerk.calls.total == 4


@pytest.mark.parametrize("kind", ["key set", "user"])
@pytest.mark.parametrize("status", [400, 422])
def test_a_question_that_clerk_does_not_understand_is_not_asked_again(
    local_clerk: LocalClerk, api: ClerkApi, kind: str, status: int
) -> None:
    """F-08."""
    local_clerk.faults.status(status)
    fail(api, ASK[kind])
    assert local_clerk.calls.total == 1


@pytest.mark.parametrize("status", [302, 401, 403, 429])
def test_a_clear_answer_is_not_asked_for_again(local_clerk: LocalClerk, api: ClerkApi, ask: Ask, status: int) -> None:
    """F-04, F-08, F-10."""
    local_clerk.faults.status(status, headers={"Location": "/"})
    fail(api, ask)
    assert local_clerk.calls.total == 1


def test_a_stopped_server_is_unavailable_and_then_back(local_clerk: LocalClerk, api: ClerkApi) -> None:
    """F-01, F-02: refused connections."""
    local_clerk.stop()
    try:
        assert fail(api).reason == "upstream-unavailable"
    finally:
        local_clerk.start()
    assert api.get_key_set(Budget(5))


@pytest.mark.parametrize("fault", ["slow", "drip"])
def test_a_slow_api_costs_no_more_than_the_budget(local_clerk: LocalClerk, api: ClerkApi, ask: Ask, fault: str) -> None:
    """F-03: and is not asked twice."""
    if fault == "slow":
        local_clerk.faults.slow(1)
    else:
        local_clerk.faults.drip()
    began = time.monotonic()
    error = fail(api, ask, 0.2)
    assert time.monotonic() - began < 0.9
    assert error.reason == "upstream-timeout"
    assert local_clerk.calls.total == 1


def test_a_host_name_that_cannot_be_is_unavailable(settings: Any, local_clerk: LocalClerk) -> None:
    settings.CLERK_API_URL = f"https://{'a' * 70}.example"
    assert fail(get_api(config())).reason == "upstream-unavailable"


def test_without_threads_to_be_had_the_api_is_unavailable(local_clerk: LocalClerk, api: ClerkApi) -> None:
    """F-29: as while the interpreter shuts down."""
    api.close()
    threading.stack_size(2**46)  # more than there is: no thread starts with that
    try:
        assert fail(api).reason == "upstream-unavailable"
    finally:
        threading.stack_size(0)
    assert api.get_key_set(Budget(5))


def test_a_refused_secret_key_is_said_loudly_but_not_again_and_again(
    local_clerk: LocalClerk, api: ClerkApi, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    """F-08: once a minute, without the key."""
    for status in (401, 403):
        local_clerk.faults.status(status)
        assert fail(api, ask).reason == "secret-key-invalid"
    [record] = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert "CLERK_SECRET_KEY" in record.getMessage()
    assert local_clerk.secret_key not in caplog.text


def test_a_server_that_does_not_prove_its_identity_is_said_but_not_again_and_again(
    local_clerk: LocalClerk, settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """F-07: once a minute; it is not asked twice, and hears no secret."""
    with wire.serving(wire.silence, tls=wire.certificate(tmp_path)) as server:
        settings.CLERK_API_URL = server.url
        api = get_api(config())
        for _ in range(2):
            assert fail(api, seconds=60).reason == "upstream-unavailable"
        assert (server.connections, server.received) == (2, [])
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert server.url in record.getMessage()


# Budget


def test_the_budget_is_spent_over_all_calls_and_only_on_them(local_clerk: LocalClerk, api: ClerkApi) -> None:
    """DOS-02."""
    local_clerk.faults.slow(0.1)
    budget = Budget(0.38)
    api.get_key_set(budget)
    assert 0.2 < budget.remaining < 0.28
    before = budget.remaining
    time.sleep(0.05)
    assert budget.remaining == before
    for _ in range(2):
        api.get_key_set(budget)
    with pytest.raises(ClerkUnavailable) as caught:
        api.get_key_set(budget)
    assert caught.value.reason == "upstream-timeout"
    local_clerk.calls.reset()
    with pytest.raises(ClerkUnavailable, match="no time left"):
        api.get_key_set(Budget(0))
    assert local_clerk.calls.total == 0


def test_no_more_than_ten_calls_at_a_time_and_the_rest_waits_in_turn(local_clerk: LocalClerk, api: ClerkApi) -> None:
    """F-31, DOS-02."""
    local_clerk.faults.slow(0.1)
    with ThreadPoolExecutor(25) as pool:
        found = list(pool.map(lambda _: api.get_key_set(Budget(5)), range(25)))
    assert all(found)
    assert (local_clerk.calls.total, local_clerk.calls.most_at_once) == (25, 10)


def test_who_waits_in_vain_for_a_turn_is_told_in_time(local_clerk: LocalClerk, api: ClerkApi) -> None:
    """F-31: the overload is ours, so the breaker stays closed."""
    local_clerk.faults.slow(0.6)
    with ThreadPoolExecutor(10) as pool:
        busy = [pool.submit(api.get_key_set, Budget(5)) for _ in range(10)]
        while local_clerk.calls.total < 10:
            time.sleep(0.01)
        began = time.monotonic()
        for _ in range(4):
            assert fail(api, seconds=0.05).reason == "upstream-timeout"
        assert time.monotonic() - began < 0.55
        assert all(call.result() for call in busy)
    assert local_clerk.calls.total == 10
    assert api.retry_after == 0


def test_errors_say_what_to_show(local_clerk: LocalClerk, api: ClerkApi) -> None:
    """LOG-02: reasons are fixed codes; details name no secret."""
    local_clerk.faults.status(500, body=error_body(500, "x", local_clerk.secret_key))
    error: ClerkError = fail(api)
    assert (error.reason, str(error)) == ("upstream-unavailable", "Clerk's API: status 500")


# Breaker


def test_three_failures_in_a_row_open_the_breaker(local_clerk: LocalClerk, api: ClerkApi, ask: Ask) -> None:
    """F-03, F-05: from then on the answer comes at once and nobody is asked."""
    for _ in range(2):
        local_clerk.faults.status(500)
        for _ in range(2):
            fail(api, ask)
        local_clerk.faults.clear()
        api.get_key_set(Budget(5))  # a success in between starts the count again
    local_clerk.faults.status(500)
    for _ in range(3):
        error = fail(api, ask)
    assert 4 < api.retry_after <= 5
    assert error.retry_after == 5
    local_clerk.faults.clear()
    local_clerk.calls.reset()
    began = time.monotonic()
    for _ in range(100):
        assert fail(api, ask).retry_after == 5
    assert time.monotonic() - began < 3
    assert local_clerk.calls.total == 0


def http_date(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 5),
        ("7", 7),
        ("0", 1),
        ("3600", 60),
        ("9" * 5000, 60),
        ("-5", 5),
        ("1e3", 5),
        ("soon", 5),
        ("", 5),
        ("٧", 5),
        (lambda: http_date(40), 40),
        (lambda: http_date(-40), 1),
        (lambda: http_date(10**8), 60),
        ("Thu, 01 Jan 1970 00:00:00 -0000", 5),
        ("Thu, 99999999999999999999 Jan 2026 00:00:00 GMT", 5),
    ],
)
def test_one_429_opens_the_breaker_for_as_long_as_clerk_asks(
    local_clerk: LocalClerk, api: ClerkApi, header: str | Callable[[], str] | None, seconds: int
) -> None:
    """F-04: within reason."""
    text = header() if callable(header) else header
    headers = {} if text is None else {"Retry-After": text.encode().decode("latin-1")}
    local_clerk.faults.status(429, headers=headers)
    error = fail(api)
    assert seconds - 2 < api.retry_after <= seconds
    assert error.retry_after in (seconds, seconds - 1)
    fail(api)
    assert local_clerk.calls.total == 1


def open_briefly(local_clerk: LocalClerk, api: ClerkApi) -> None:
    """Let the breaker open for the shortest time there is, and wait until it is half open."""
    local_clerk.faults.status(429, headers={"Retry-After": "0"}, times=1)
    fail(api)
    time.sleep(api.retry_after + 0.01)
    local_clerk.calls.reset()


def test_one_call_finds_out_whether_the_api_is_back(local_clerk: LocalClerk, api: ClerkApi) -> None:
    open_briefly(local_clerk, api)
    local_clerk.faults.slow(0.3, times=1)
    with ThreadPoolExecutor(1) as pool:
        probe = pool.submit(api.get_key_set, Budget(5))
        while not local_clerk.calls.total:
            time.sleep(0.01)
        assert fail(api).retry_after == 1
        assert probe.result()
    assert local_clerk.calls.total == 1
    assert api.retry_after == 0
    with ThreadPoolExecutor(5) as pool:
        assert all(pool.map(lambda _: api.get_key_set(Budget(5)), range(5)))


def test_a_probe_in_vain_opens_the_breaker_again(local_clerk: LocalClerk, api: ClerkApi) -> None:
    open_briefly(local_clerk, api)
    local_clerk.faults.status(500)
    fail(api)
    assert 4 < api.retry_after <= 5


def test_a_call_from_before_the_trouble_does_not_end_the_pause(local_clerk: LocalClerk, api: ClerkApi) -> None:
    """F-04."""
    local_clerk.faults.slow(0.3, times=1)
    with ThreadPoolExecutor(1) as pool:
        early = pool.submit(api.get_key_set, Budget(5))
        while not local_clerk.calls.total:
            time.sleep(0.01)
        local_clerk.faults.status(429, headers={"Retry-After": "30"})
        fail(api)
        assert early.result()
    assert api.retry_after > 20


class Interrupted(BaseException):
    """As a signal handler or a server's worker timeout raises it."""


@pytest.fixture
def interrupting() -> Iterator[None]:
    """Interrupt the main thread after 0.15 seconds, wherever it is."""

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.15)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_an_interrupted_probe_does_not_leave_the_breaker_stuck(
    local_clerk: LocalClerk, api: ClerkApi, request: pytest.FixtureRequest
) -> None:
    """F-30, CTX-02: nor does the interrupted call keep its turn."""
    open_briefly(local_clerk, api)
    local_clerk.faults.slow(0.5)
    request.getfixturevalue("interrupting")
    with pytest.raises(Interrupted):
        api.get_key_set(Budget(5))
    assert 4 < api.retry_after <= 5
    time.sleep(0.5)  # the server has not noticed
    other = ClerkApi(local_clerk.secret_key, local_clerk.url, 5)
    local_clerk.faults.clear()
    local_clerk.faults.slow(0.1)
    local_clerk.calls.reset()
    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(lambda _: other.get_key_set(Budget(5)), range(10)))
    other.close()
    assert all(found)
    assert (local_clerk.calls.total, local_clerk.calls.most_at_once) == (10, 10)


# Forks

PROGRAM = """
import os, sys, threading, time
from django.conf import settings
settings.configure(CLERK_SECRET_KEY=sys.argv[1], CLERK_API_URL=sys.argv[2])
from clerk_views import calls
from clerk_views.api import get_api
from clerk_views.conf import config
api = get_api(config())
api.get_key_set(calls.Budget(60))
assert api.sdk.users is not None
for _ in range(calls.MAX_CALLS):
    threading.Thread(target=api.get_user, args=("user_1", calls.Budget(60)), daemon=True).start()
while calls._slots.acquire(blocking=False):
    calls._slots.release()
    time.sleep(0.01)
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
get_api(config()).get_key_set(calls.Budget(2))
"""


def test_a_forked_child_has_all_places_to_itself(local_clerk: LocalClerk) -> None:
    """F-29: those who held them in the parent are not there to give them back."""
    local_clerk.faults.slow(20, path="/v1/users")
    subprocess.run([sys.executable, "-c", PROGRAM, local_clerk.secret_key, local_clerk.url], check=True, timeout=30)
    assert local_clerk.calls.key_fetches == 2
