"""What handshakes have brought: who remembers it, for how long, and what caches do to it. RED-06, CAC-02, CAC-04."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.cache import cache

from clerk_views import entries, replays
from clerk_views.conf import config
from clerk_views.replays import is_known, take_up
from tests.caches import BrokenCache, CountingCache

pytestmark = pytest.mark.usefixtures("local_clerk")


@pytest.fixture(autouse=True)
def _nothing_known() -> Iterator[None]:
    replays._kept.start_anew()
    yield
    replays._kept.start_anew()


@pytest.fixture
def operations(settings: Any) -> list[Any]:
    """The operations of the cache, written down."""
    settings.CACHES = {"default": {"BACKEND": "tests.caches.CountingCache", "LOCATION": "replays"}}
    cache.clear()
    CountingCache.operations.clear()
    return CountingCache.operations


def soon() -> float:
    return time.time() + 60


def test_a_session_is_taken_up_once() -> None:
    """RED-06."""
    assert not is_known("a.b.c")
    assert take_up("a.b.c", soon(), config())
    assert is_known("a.b.c")
    assert not take_up("a.b.c", soon(), config())
    assert take_up("a.b.d", soon(), config())


def test_other_processes_know_it_by_the_cache(operations: list[Any]) -> None:
    """RED-06: one round trip each, and none for what is known here."""
    assert take_up("a.b.c", soon(), config())
    replays._kept.start_anew()
    assert not is_known("a.b.c")
    assert not take_up("a.b.c", soon(), config())
    assert is_known("a.b.c")
    assert not take_up("a.b.c", soon(), config())
    assert [operation[0] for operation in operations] == ["add", "add"]


def test_the_note_lives_as_long_as_it_matters(time_machine: Any) -> None:
    take_up("a.b.c", soon(), config())
    time_machine.move_to(time.time() + 59)
    assert is_known("a.b.c")
    replays._kept.start_anew()
    assert not take_up("a.b.c", soon(), config())
    time_machine.move_to(time.time() + 62)
    assert not is_known("a.b.c")
    assert take_up("a.b.c", time.time() - 5, config())  # which nobody would be signed in by
    assert take_up("a.b.c", soon(), config()) is False  # the cache remembers it for a second


def test_nothing_of_the_token_stands_in_the_cache(operations: list[Any]) -> None:
    """CAC-05, CAC-09."""
    take_up("canary.canary.canary", soon(), config())
    assert "canary" not in repr(operations)
    assert len(operations[0][1]) <= 200


def test_instances_share_nothing(settings: Any) -> None:
    """CAC-02."""
    take_up("a.b.c", soon(), config())
    replays._kept.start_anew()
    settings.CLERK_API_URL = "http://127.0.0.1:9"
    assert take_up("a.b.c", soon(), config())


def test_nobody_without_our_key_can_foresee_an_entry(operations: list[Any], settings: Any) -> None:
    """CAC-04: a neighbour on the cache keeps nobody out by writing first."""
    take_up("a.b.c", soon(), config())
    replays._kept.start_anew()
    settings.SECRET_KEY = "another"
    assert take_up("a.b.c", soon(), config())
    assert operations[0][1] != operations[1][1]
    assert operations[0][2].startswith("brought ")


def test_a_cache_that_is_down_leaves_the_process_alone(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    """RED-06, F-11."""
    settings.CACHES = {"default": {"BACKEND": "tests.caches.BrokenCache"}}
    BrokenCache.operations.clear()
    entries._complaints.clear()
    assert take_up("a.b.c", soon(), config())
    assert not take_up("a.b.c", soon(), config())
    assert BrokenCache.operations == ["add"]
    assert "counts once in each process" in caplog.text


def test_memory_is_bounded_and_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    """DOS-01."""
    monkeypatch.setattr(replays, "MAX_KEPT", 3)
    for number in range(4):
        assert take_up(f"a.b.{number}", soon(), config())
    assert [is_known(f"a.b.{number}") for number in range(4)] == [False, True, True, True]
    assert not take_up("a.b.0", soon(), config())  # the cache knows


def test_of_many_at_once_one_is_the_first() -> None:
    """CTX-01."""
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: take_up("a.b.c", soon(), config()), range(64)))
    assert found.count(True) == 1


def test_a_child_process_starts_without_locks_held() -> None:
    """CTX-03."""
    take_up("a.b.c", soon(), config())
    with replays._kept._lock:
        child = os.fork()
        if child == 0:  # pragma: no cover  # measured in no child that ends so
            os._exit(0 if not is_known("a.b.c") and replays._kept.add(b"x", soon()) else 1)
        assert os.waitpid(child, 0)[1] == 0
