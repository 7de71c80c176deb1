"""The list of ended sessions: who writes, who reads, what caches do to it. LFC-03, CAC-02, CAC-04, CAC-05, F-11."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.cache import cache
from django.core.management import call_command
from django.db import connections
from django.test import AsyncRequestFactory, Client

from clerk_views import clerk_client, entries
from clerk_views.conf import config
from clerk_views.revocation import LONGEST_TOKEN_LIFE, is_revoked, revoke
from clerk_views.testing import LocalClerk
from tests.caches import BrokenCache, CountingCache
from tests.doors import DOORS, Door, door_id

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


@pytest.mark.django_db
@pytest.mark.parametrize("door", DOORS, ids=door_id)
def test_an_ended_session_is_refused_at_once_at_every_door(local_clerk: LocalClerk, settings: Any, door: Door) -> None:
    """LFC-03: though its token is good and remembered; and other sessions of the same user go on."""
    ada = local_clerk.add_user(email="ada@example.com")
    session, other = (local_clerk.open_session(ada) for _ in range(2))
    token = local_clerk.session_token(session)
    for checked in (False, True):
        settings.CLERK_CHECK_REVOKED_SESSIONS = checked
        for _ in range(2):
            assert door.verdict(door.send(f"Bearer {token}")) == ada.id
            assert door.verdict(door.send(cookie=f"__session={token}")) == ada.id
    assert revoke(session.id, config())
    refused = door.send(f"Bearer {token}")
    assert door.verdict(refused) in ("nobody", "401")
    assert door.verdict(door.send(cookie=f"__session={token}")) == "nobody"
    assert door.verdict(door.send(f"Bearer {local_clerk.session_token(other)}")) == ada.id
    if door.kind == "required":
        assert refused.json()["code"] == "session-revoked"  # type: ignore[attr-defined]
    settings.CLERK_CHECK_REVOKED_SESSIONS = False
    assert door.verdict(door.send(f"Bearer {token}")) == ada.id


@pytest.mark.django_db
@pytest.mark.parametrize("door", DOORS, ids=door_id)
def test_a_token_that_may_outlive_the_note_is_refused_at_every_door(
    local_clerk: LocalClerk, settings: Any, door: Door
) -> None:
    """LFC-03: else it would be good again once the note is gone. Clerk mints tokens for ten years on request."""
    ada = local_clerk.add_user(email="ada@example.com")
    longest, longer = (local_clerk.token(ada, expires_in=LONGEST_TOKEN_LIFE + more) for more in (0, 1))
    for bearer in (longest, longer):
        assert door.verdict(door.send(f"Bearer {bearer}")) == ada.id
    settings.CLERK_CHECK_REVOKED_SESSIONS = True
    assert door.verdict(door.send(f"Bearer {longest}")) == ada.id
    for _ in range(2):
        refused = door.send(f"Bearer {longer}")
        assert door.verdict(refused) in ("nobody", "401")
        assert door.verdict(door.send(cookie=f"__session={longer}")) == "nobody"
    if door.kind == "required":
        assert refused.json()["code"] == "session-token-too-long-lived"  # type: ignore[attr-defined]


@pytest.mark.django_db
def test_it_costs_one_round_trip_and_only_where_asked_for(
    local_clerk: LocalClerk, settings: Any, operations: list[Any]
) -> None:
    """Contract, section 6: the warm path asks no cache."""
    ada = local_clerk.add_user(email="ada@example.com")
    token = local_clerk.token(ada)
    door = DOORS[0]
    for checked, expected in ((False, []), (True, ["get"])):
        settings.CLERK_CHECK_REVOKED_SESSIONS = checked
        door.send(f"Bearer {token}")
        operations.clear()
        door.send(f"Bearer {token}")
        assert [operation for operation, *_ in operations] == expected


@pytest.mark.django_db
def test_whoever_signs_out_here_has_signed_out(local_clerk: LocalClerk, settings: Any) -> None:
    """LFC-03: a copy of the token is worth nothing any more, without waiting for the webhook."""
    settings.CLERK_CHECK_REVOKED_SESSIONS = True
    settings.ROOT_URLCONF = "tests.page_urls"
    session = local_clerk.open_session(local_clerk.add_user(email="ada@example.com"))
    token = local_clerk.session_token(session)
    client = Client()
    client.cookies.load(local_clerk.session_cookies(token))
    assert client.get("/required/").status_code == 200
    assert client.post("/clerk/sign-out/").status_code == 303
    assert client.get("/required/", headers={"authorization": f"Bearer {token}"}).status_code == 401


class CacheToSecond:
    """Keeps caches that are tables in the second database."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "second" if model._meta.app_label == "django_cache" else None

    db_for_write = db_for_read


@pytest.mark.django_db
def test_a_cache_in_a_table_costs_no_connection(local_clerk: LocalClerk, settings: Any, second_database: str) -> None:
    """An async look into it is on a thread of its own, of which Django closes nothing when the request ends."""
    settings.DATABASE_ROUTERS = ["tests.test_revocation.CacheToSecond"]
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "notes"}}
    settings.CLERK_CHECK_REVOKED_SESSIONS = True
    call_command("createcachetable", database=second_database)
    session = local_clerk.open_session(local_clerk.add_user(email="ada@example.com"))
    revoke(session.id, config())
    left: list[Any] = []

    def look() -> None:
        left.extend(each.connection for each in connections.all(initialized_only=True))

    async def ask() -> str | None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        # Opened by itself, as Django's test cases open none that they have not been told of.
        await sync_to_async(lambda: connections[second_database].connect(), thread_sensitive=False)()
        headers = {"authorization": f"Bearer {local_clerk.session_token(session)}"}
        state = await clerk_client.aauthenticate_request(AsyncRequestFactory().get("/", headers=headers))
        await sync_to_async(look, thread_sensitive=False)()
        return state.auth.reason

    assert async_to_sync(ask)() == "session-revoked"
    assert left == [None]
