"""The list of ended sessions: who writes, who reads, what caches do to it. LFC-03, CAC-02, CAC-04, CAC-05, F-11."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import cache

from clerk_views import entries
from clerk_views.conf import config
from clerk_views.revocation import LONGEST_TOKEN_LIFE, is_revoked, revoke
from clerk_views.testing import LocalClerk
from tests.caches import BrokenCache, CountingCache

pytestmark = pytest.mark.usefixtures("local_clerk")


@pytest.fixture
def operations(local_clerk: LocalClerk, settings: Any) -> list[Any]:
    """The operations of the cache, written down."""
    settings.CACHES = {"default": {"BACKEND": "tests.caches.CountingCache", "LOCATION": "revocation"}}
    cache.clear()
    CountingCache.operations.clear()
    return CountingCache.operations


def test_a_session_is_refused_once_it_is_noted() -> None:
    assert not is_revoked("sess_1", config())
    assert revoke("sess_1", config())
    assert is_revoked("sess_1", config())
    assert not is_revoked("sess_2", config())


def test_a_look_is_one_round_trip(operations: list[Any]) -> None:
    """F-12."""
    revoke("sess_1", config())
    is_revoked("sess_1", config())
    is_revoked("sess_2", config())
    assert [operation[0] for operation in operations] == ["set", "get", "get"]


def test_the_note_outlives_the_tokens(operations: list[Any], settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lifetimes: list[float] = []
    original = CountingCache.set

    def note(self: Any, key: Any, value: Any, timeout: float) -> None:
        lifetimes.append(timeout)
        original(self, key, value, timeout)

    monkeypatch.setattr(CountingCache, "set", note)
    settings.CLERK_CLOCK_SKEW_IN_MS = 60_000
    revoke("sess_1", config())
    assert lifetimes[0] >= LONGEST_TOKEN_LIFE + 60
    assert LONGEST_TOKEN_LIFE >= 60


def test_nothing_of_the_session_stands_in_the_cache(operations: list[Any]) -> None:
    """CAC-05, CAC-09."""
    revoke("sess_canary", config())
    assert "canary" not in repr(operations)
    assert len(operations[0][1]) <= 200


def test_instances_are_kept_apart(local_clerk: LocalClerk, settings: Any) -> None:
    """CAC-02."""
    revoke("sess_1", config())
    settings.CLERK_API_URL = "https://api.clerk.com"
    assert not is_revoked("sess_1", config())


@pytest.mark.parametrize("entry", [1, True, b"x", "", "é\ud800", "0" * 64, ["x"], {"a": 1}], ids=ascii)
def test_what_was_not_put_there_by_us_ends_no_session(
    operations: list[Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, entry: Any
) -> None:
    """CAC-04, F-14: else whoever writes into the cache could sign everybody out."""
    monkeypatch.setattr(entries, "_complaints", {})
    revoke("sess_1", config())
    [key] = [operation[1] for operation in operations]
    cache.set(key, entry)
    assert not is_revoked("sess_1", config())
    assert cache.get(key) is None
    assert "something else than was put there" in caplog.text


def test_another_sessions_note_is_none(operations: list[Any]) -> None:
    """CAC-04."""
    revoke("sess_1", config())
    revoke("sess_2", config())
    (_, first, seal), (_, second, _) = operations
    cache.set(second, seal)
    assert is_revoked("sess_1", config())
    assert not is_revoked("sess_2", config())
    assert first != second


def test_a_cache_that_is_away_signs_nobody_out(
    settings: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F-11."""
    monkeypatch.setattr(entries, "_complaints", {})
    settings.CACHES = {"default": {"BACKEND": "tests.caches.BrokenCache"}}
    BrokenCache.operations.clear()
    assert not revoke("sess_1", config())
    assert not is_revoked("sess_1", config())
    assert not is_revoked("sess_1", config())
    assert BrokenCache.operations == ["set", "get", "get"]
    assert caplog.text.count("revoked sessions count until their tokens expire") == 1
