"""
From Clerk's id to the Django user, and what that costs; with Clerk, the cache or the database away.

Threats: CAC-03 to CAC-09, LFC-01, LFC-02, USR-08, F-02, F-09, F-11 to F-18, F-27, F-30.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.db import OperationalError, connection, transaction
from django.db.models import F
from django.test import Client

from clerk_views import entries
from clerk_views.accounts import Resolved, read_user, resolve, sync_django_user
from clerk_views.calls import Budget
from clerk_views.conf import config
from clerk_views.exceptions import AccountRefused, ClerkUnavailable
from clerk_views.freshness import Mark, Memory, flights
from clerk_views.models import ClerkAccount
from clerk_views.profiles import read_profile
from clerk_views.testing import LocalClerk, LocalUser
from clerk_views.testing.directory import user_body
from tests.caches import BrokenCache, CountingCache
from tests.elsewhere import run_elsewhere
from tests.probes import simultaneously

pytestmark = pytest.mark.django_db

User: Any = get_user_model()


def ask(user: LocalUser | str, *, claims: dict[str, Any] | None = None, **keywords: Any) -> Resolved:
    settings = config()
    keywords.setdefault("budget", Budget(settings.timeout))
    clerk_id = user if isinstance(user, str) else user.id
    return resolve(clerk_id, claims or {}, config=settings, **keywords)


def memory(user: LocalUser) -> Memory:
    return Memory(user.id, config())


@pytest.fixture
def ada(local_clerk: LocalClerk) -> LocalUser:
    return local_clerk.add_user(email="ada@example.com", first_name="Ada")


@pytest.fixture
def counted(settings: Any, local_clerk: LocalClerk) -> Iterator[list[Any]]:
    """The operations of the cache, written down."""
    settings.CACHES = {"default": {"BACKEND": "tests.caches.CountingCache", "LOCATION": "counted"}}
    CountingCache.operations.clear()
    yield CountingCache.operations
    cache.clear()


@pytest.fixture
def no_cache(settings: Any, local_clerk: LocalClerk, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A cache that is away; the operations that it was asked for."""
    monkeypatch.setattr(entries, "_complaints", {})
    settings.CACHES = {"default": {"BACKEND": "tests.caches.BrokenCache"}}
    BrokenCache.operations.clear()
    return BrokenCache.operations


@pytest.fixture
def broken_database() -> Iterator[Callable[..., None]]:
    """``broken_database("UPDATE", …)``: statements that start so fail from now on."""
    wrappers = []

    def start(*starts: str) -> None:
        def fail(execute: Any, sql: str, *arguments: Any) -> Any:
            if sql.startswith(starts):
                raise OperationalError("the database is away")
            return execute(sql, *arguments)

        wrapper = connection.execute_wrapper(fail)
        wrapper.__enter__()
        wrappers.append(wrapper)

    yield start
    for wrapper in reversed(wrappers):
        wrapper.__exit__(None, None, None)


class TestCost:
    """The contract's section 6."""

    def test_first_sight_costs_one_call(self, local_clerk: LocalClerk, ada: LocalUser) -> None:
        resolved = ask(ada)
        assert (resolved.source, resolved.user) == ("api", read_user(ada.id))
        assert 290 < resolved.fresh_until - time.time() <= 300
        assert local_clerk.calls.user_fetches == 1

    def test_a_known_token_costs_one_query(
        self, local_clerk: LocalClerk, ada: LocalUser, counted: list[Any], django_assert_num_queries: Any
    ) -> None:
        fresh_until = ask(ada).fresh_until
        counted.clear()
        with django_assert_num_queries(1):
            resolved = ask(ada, fresh_until=fresh_until)
            assert resolved.user.clerk_account.clerk_id == ada.id  # type: ignore[attr-defined]  # beside it
        assert resolved == Resolved(resolved.user, "cache", fresh_until)
        assert counted == []
        assert local_clerk.calls.user_fetches == 1

    def test_a_renewed_token_costs_one_query_and_one_look_into_the_cache(
        self, local_clerk: LocalClerk, ada: LocalUser, counted: list[Any], django_assert_num_queries: Any
    ) -> None:
        """F-12."""
        fresh_until = ask(ada).fresh_until
        counted.clear()
        with django_assert_num_queries(1):
            resolved = ask(ada)
        assert (resolved.source, resolved.fresh_until) == ("cache", fresh_until)
        assert [operation for operation, *_ in counted] == ["get"]
        assert local_clerk.calls.user_fetches == 1

    def test_the_cache_holds_no_personal_data(
        self, ada: LocalUser, local_clerk: LocalClerk, counted: list[Any]
    ) -> None:
        """CAC-05, CAC-09."""
        ask(ada)
        held = repr(counted)
        for secret in ("ada@", "Ada", ada.id, local_clerk.secret_key):  # "ada" alone may stand in a digest
            assert secret not in held
        for _, key, *_ in counted:
            assert len(key) <= 200
            assert set(key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:._-")

    def test_without_lifetime_clerk_is_asked_each_time(
        self, settings: Any, local_clerk: LocalClerk, ada: LocalUser
    ) -> None:
        settings.CLERK_CACHE_TIMEOUT = 0
        for _ in range(3):
            assert ask(ada, fresh_until=ask(ada).fresh_until).source == "api"
        assert local_clerk.calls.user_fetches == 6


class TestFreshness:
    def test_changes_arrive_when_the_memory_is_over(self, local_clerk: LocalClerk, ada: LocalUser) -> None:
        """F-13: a cache that forgets costs a call, and nothing else."""
        ask(ada)
        local_clerk.update_user(ada, first_name="Augusta")
        assert ask(ada).user.first_name == "Ada"  # type: ignore[attr-defined]  # the project's model
        cache.clear()
        resolved = ask(ada)
        assert (resolved.source, resolved.user.first_name) == ("api", "Augusta")  # type: ignore[attr-defined]  # likewise

    def test_other_settings_make_everybody_out_of_step(
        self, settings: Any, local_clerk: LocalClerk, ada: LocalUser
    ) -> None:
        """CAC-02."""
        ask(ada)
        settings.CLERK_USER_FIELDS = {"last_name": None}
        assert ask(ada).source == "api"

    def test_a_write_that_was_taken_back_does_not_count(self, ada: LocalUser) -> None:
        ask(ada)
        cache.clear()
        before = ClerkAccount.objects.get().synced_at
        with transaction.atomic():
            assert ask(ada).source == "api"
            transaction.set_rollback(True)
        assert ClerkAccount.objects.get().synced_at == before
        assert ask(ada).source == "api"

    def test_a_row_that_is_gone_is_made_anew(self, ada: LocalUser) -> None:
        fresh_until = ask(ada).fresh_until
        User.objects.all().delete()
        assert ask(ada, fresh_until=fresh_until).user == User.objects.get()

    def test_a_link_that_was_never_synced_is(self, ada: LocalUser) -> None:
        user = User.objects.create(username="staff", is_staff=True)
        ClerkAccount.objects.create(user=user, clerk_id=ada.id, linked=True)
        assert ask(ada).source == "api"
        user.refresh_from_db()
        assert (user.username, user.first_name) == ("staff", "Ada")

    @pytest.mark.parametrize("ahead", [-1, 100_000, float("inf"), float("nan")])
    def test_a_clock_that_jumps_makes_nobody_fresh(self, counted: list[Any], ada: LocalUser, ahead: float) -> None:
        """F-20."""
        ask(ada)
        counted.clear()
        ask(ada, fresh_until=time.time() + ahead)
        assert len(counted) == 1

    @pytest.mark.parametrize(
        "entry",
        [
            "garbage",
            "",
            {"version": 1},
            [1, 2.0, "ok"],
            "2.0 ok",
            "2.0 ok seal",
            "two ok seal",
            "nan ok seal",
            "2.0 fine seal",
            "\u0661 ok \ud800",
            b"\x80\x04",
        ],
        ids=repr,
    )
    def test_garbage_in_the_cache_is_dropped(
        self,
        counted: list[Any],
        local_clerk: LocalClerk,
        ada: LocalUser,
        entry: Any,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """CAC-04, F-14."""
        monkeypatch.setattr(entries, "_complaints", {})
        ask(ada)
        key = memory(ada).key
        cache.set(key, entry)
        counted.clear()
        assert ask(ada).source == "api"
        assert ("delete", key) in counted
        assert "something else" in caplog.text

    def test_a_mark_of_another_time_is_none(self, ada: LocalUser) -> None:
        """CAC-04: whoever can write into the cache cannot write our seal."""
        ask(ada)
        _, verdict, seal = cache.get(memory(ada).key).split(" ")
        ClerkAccount.objects.update(synced_at=F("synced_at") - timedelta(hours=1))
        cache.set(memory(ada).key, f"{time.time() + 30!r} {verdict} {seal}")
        assert ask(ada).source == "api"

    def test_a_mark_that_is_put_back_makes_nobody_fresh(self, ada: LocalUser, time_machine: Any) -> None:
        """CAC-04: it is genuine, and old."""
        ask(ada)
        kept = cache.get(memory(ada).key)
        time_machine.move_to(time.time() + 301)
        cache.set(memory(ada).key, kept)
        assert ask(ada).source == "api"

    def test_a_bar_that_is_put_back_shuts_nobody_out(
        self, local_clerk: LocalClerk, ada: LocalUser, time_machine: Any
    ) -> None:
        """CAC-04, CAC-07."""
        ask(ada)
        local_clerk.update_user(ada, banned=True)
        cache.clear()
        with pytest.raises(AccountRefused):
            ask(ada)
        kept = cache.get(memory(ada).key)
        time_machine.move_to(time.time() + 1)
        sync_django_user(local_clerk.update_user(ada, banned=False).data)  # as a webhook would
        assert ask(ada).user.is_active
        time_machine.move_to(time.time() + 200)
        cache.set(memory(ada).key, kept)
        assert ask(ada).user.is_active

    def test_a_turn_that_nobody_took_holds_nothing_up(self, local_clerk: LocalClerk, ada: LocalUser) -> None:
        """CAC-04: a forged or an old one."""
        user = sync_django_user(ada.data)
        for forged in (1, None, "1.0 turn seal"):
            cache.set(f"{memory(ada).key}:turn", forged)
            cache.delete(memory(ada).key)
            local_clerk.calls.reset()
            assert ask(ada).user == user
            assert local_clerk.calls.user_fetches == 1

    def test_a_turn_is_no_mark(self, ada: LocalUser) -> None:
        """CAC-04: an entry put in another's place says nothing there."""
        ask(ada)
        assert memory(ada).claim()
        cache.set(memory(ada).key, cache.get(f"{memory(ada).key}:turn"))
        memory(ada).release()
        assert ask(ada).source == "api"

    def test_the_row_must_carry_the_very_id(self, ada: LocalUser, local_clerk: LocalClerk) -> None:
        """CAC-04: another user's entry in the cache names nobody."""
        bob = local_clerk.add_user(email="bob@example.com")
        ask(ada)
        cache.set(memory(bob).key, cache.get(memory(ada).key))
        assert ask(bob).user != ask(ada).user


class TestRefusals:
    @pytest.mark.parametrize("table", [User, ClerkAccount])
    def test_an_inactive_account_is_refused_at_once(self, ada: LocalUser, table: Any) -> None:
        """CAC-03, LFC-01: whatever was fresh."""
        fresh_until = ask(ada).fresh_until
        table.objects.update(**({"is_active": False} if table is User else {"deactivated": True}))
        for until in (fresh_until, 0.0):
            with pytest.raises(AccountRefused) as caught:
                ask(ada, fresh_until=until)
            assert caught.value.reason == "user-inactive"

    def test_a_banned_user_is_refused_and_comes_back(self, local_clerk: LocalClerk, ada: LocalUser) -> None:
        """LFC-01."""
        ask(ada)
        local_clerk.update_user(ada, banned=True)
        cache.clear()
        with pytest.raises(AccountRefused):
            ask(ada)
        assert not User.objects.get().is_active
        local_clerk.update_user(ada, banned=False)
        cache.clear()
        assert ask(ada).user.is_active

    def test_a_user_deleted_at_clerk_is_refused(self, local_clerk: LocalClerk, ada: LocalUser) -> None:
        """LFC-02, F-09: asked once a minute at most."""
        ask(ada)
        local_clerk.delete_user(ada)
        cache.clear()
        for _ in range(3):
            with pytest.raises(AccountRefused) as caught:
                ask(ada)
            assert caught.value.reason == "user-inactive"
        assert local_clerk.calls.user_fetches == 2
        assert not User.objects.get().is_active
        local_clerk.add_user(email="ada@example.com")

    def test_a_user_whom_clerk_never_knew_is_refused(self, local_clerk: LocalClerk) -> None:
        """F-09."""
        for _ in range(3):
            with pytest.raises(AccountRefused) as caught:
                ask("user_nobody")
            assert caught.value.reason == "user-not-found"
        assert local_clerk.calls.user_fetches == 1
        assert not User.objects.exists()

    def test_the_wrong_instance_costs_nobody_the_account(self, local_clerk: LocalClerk, ada: LocalUser) -> None:
        """CAC-07: the next good answer takes it back."""
        ask(ada)
        data = ada.data
        local_clerk.delete_user(ada)
        cache.clear()
        with pytest.raises(AccountRefused):
            ask(ada)
        local_clerk.add_user(**{**data, "email": None})
        cache.clear()
        assert ask(ada).user.is_active

    def test_a_payload_that_says_deleted_is_believed(self, local_clerk: LocalClerk) -> None:
        with pytest.raises(AccountRefused) as caught:
            ask(local_clerk.add_user(deleted=True, public_metadata=None))
        assert caught.value.reason == "user-not-found"

    def test_a_link_that_must_not_be_is_refused(self, local_clerk: LocalClerk, ada: LocalUser) -> None:
        """USR-05."""
        User.objects.create(username="root", email="ada@example.com", is_staff=True)
        with pytest.raises(AccountRefused) as caught:
            ask(ada)
        assert caught.value.reason == "link-refused"


class TestClerkAway:
    """F-02."""

    def test_a_known_user_is_served_and_synced_later(self, local_clerk: LocalClerk, ada: LocalUser) -> None:
        ask(ada)
        local_clerk.update_user(ada, first_name="Augusta")
        cache.clear()
        local_clerk.faults.status(503, path="/v1/users")
        resolved = ask(ada)
        assert (resolved.source, resolved.user.first_name) == ("cache", "Ada")  # type: ignore[attr-defined]  # the project's
        assert 0 < resolved.fresh_until - time.time() <= 6
        calls = local_clerk.calls.user_fetches
        ask(ada, fresh_until=resolved.fresh_until)
        assert local_clerk.calls.user_fetches == calls
        local_clerk.faults.clear()
        assert ask(ada).user.first_name == "Augusta"  # type: ignore[attr-defined]  # the project's

    def test_an_unknown_user_may_come_back(self, local_clerk: LocalClerk, ada: LocalUser) -> None:
        """CAC-07: no outage becomes a verdict."""
        local_clerk.faults.status(503, path="/v1/users")
        with pytest.raises(ClerkUnavailable) as caught:
            ask(ada)
        assert caught.value.retry_after >= 1
        assert not User.objects.exists()
        local_clerk.faults.clear()
        assert ask(ada).source == "api"


class TestDatabaseAway:
    def test_no_row_can_be_read(
        self, ada: LocalUser, broken_database: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """F-15."""
        monkeypatch.setattr(entries, "_complaints", {})
        broken_database("SELECT")
        for _ in range(3):
            with pytest.raises(ClerkUnavailable) as caught:
                ask(ada)
            assert caught.value.reason == "database-unavailable"
        assert caplog.text.count("manage.py migrate") == 1
        assert "the database is away" in caplog.text

    def test_a_known_user_is_served_as_stored(
        self, local_clerk: LocalClerk, ada: LocalUser, broken_database: Any, time_machine: Any
    ) -> None:
        """F-16: and each of his renewed tokens costs no call of its own; the sync is made up for later."""
        ask(ada)
        cache.clear()
        local_clerk.update_user(ada, first_name="Augusta")
        broken_database("UPDATE", "INSERT")
        for _ in range(3):
            resolved = ask(ada)
            assert resolved.user == User.objects.get()
            assert 0 < resolved.fresh_until - time.time() <= 60
        assert local_clerk.calls.user_fetches == 2
        time_machine.move_to(time.time() + 61)
        ask(ada)
        assert local_clerk.calls.user_fetches == 3

    def test_who_is_banned_is_refused_all_the_same(
        self, local_clerk: LocalClerk, ada: LocalUser, broken_database: Any
    ) -> None:
        """F-16, LFC-01: that it could not be written down does not let him in."""
        ask(ada)
        local_clerk.update_user(ada, banned=True)
        cache.clear()
        broken_database("UPDATE", "INSERT")
        for _ in range(3):
            with pytest.raises(AccountRefused) as caught:
                ask(ada)
            assert caught.value.reason == "user-inactive"
        assert local_clerk.calls.user_fetches == 2

    def test_a_new_user_may_come_back(self, ada: LocalUser, broken_database: Any) -> None:
        """F-16."""
        broken_database("UPDATE", "INSERT")
        with pytest.raises(ClerkUnavailable) as caught:
            ask(ada)
        assert caught.value.reason == "database-unavailable"

    def test_a_deleted_user_is_refused_all_the_same(
        self, local_clerk: LocalClerk, ada: LocalUser, broken_database: Any
    ) -> None:
        ask(ada)
        local_clerk.delete_user(ada)
        cache.clear()
        broken_database("UPDATE", "INSERT")
        with pytest.raises(AccountRefused) as caught:
            ask(ada)
        assert caught.value.reason == "user-inactive"


class TestCacheAway:
    """F-11."""

    def test_everything_works_with_one_call_a_minute(
        self, no_cache: list[str], local_clerk: LocalClerk, ada: LocalUser, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert ask(ada).source == "api"
        for _ in range(3):
            assert ask(ada).source == "cache"
        assert local_clerk.calls.user_fetches == 1
        assert caplog.text.count("does not work") == 1

    def test_a_cache_that_fails_is_not_asked_twice_in_a_request(self, no_cache: list[str], ada: LocalUser) -> None:
        ask(ada)
        assert no_cache == ["get"]

    def test_older_rows_are_compared_with_clerk(
        self, no_cache: list[str], local_clerk: LocalClerk, ada: LocalUser
    ) -> None:
        ask(ada)
        ClerkAccount.objects.update(synced_at=F("synced_at") - timedelta(seconds=61))
        assert ask(ada).source == "api"

    def test_a_cache_that_is_not_configured_is_no_error(self, settings: Any, ada: LocalUser) -> None:
        settings.CLERK_CACHE_ALIAS = "nowhere"
        assert ask(ada).source == "api"


class TestUsersFromClaims:
    CLAIMS = {"email": "ada@example.com", "email_verified": True, "first_name": "Ada"}

    @pytest.fixture(autouse=True)
    def _from_claims(self, settings: Any, local_clerk: LocalClerk) -> None:
        settings.CLERK_USER_SOURCE = "claims"

    def test_no_call_is_made(self, local_clerk: LocalClerk) -> None:
        resolved = ask("user_1", claims={**self.CLAIMS, "iat": 5})
        assert (resolved.source, resolved.user.email) == ("cache", "ada@example.com")  # type: ignore[attr-defined]  # the project's
        account = ClerkAccount.objects.get()
        assert (account.claims_issued_at, account.clerk_updated_at) == (5000, None)
        assert local_clerk.calls.total == 0

    def test_newer_tokens_tell_newer_names(self) -> None:
        ask("user_1", claims={**self.CLAIMS, "iat": 5})
        cache.clear()
        ask("user_1", claims={**self.CLAIMS, "iat": 6, "first_name": "Augusta"})
        cache.clear()
        assert ask("user_1", claims={**self.CLAIMS, "iat": 4}).user.first_name == "Augusta"  # type: ignore[attr-defined]  # likewise
        assert ClerkAccount.objects.get().claims_issued_at == 6000

    def test_claims_hold_no_news_of_clerk_s_back(self) -> None:
        """USR-12: a change is older than the token that tells of it, and older than tokens that do not."""
        ask("user_1", claims={"iat": 50})
        news = user_body(id="user_1", first_name="Augusta", updated_at=49_000)
        assert sync_django_user(news).first_name == "Augusta"
        assert sync_django_user({**news, "first_name": "Old", "updated_at": 48_000}).first_name == "Augusta"
        assert ClerkAccount.objects.get().clerk_updated_at == 49_000

    def test_claims_from_before_a_change_do_not_undo_it(self) -> None:
        """USR-12: a token lives for a minute after the webhook that tells of the change."""
        sync_django_user(user_body(id="user_1", first_name="Augusta", updated_at=49_500))
        assert ask("user_1", claims={**self.CLAIMS, "iat": 49}).user.first_name == "Augusta"  # type: ignore[attr-defined]  # likewise
        cache.clear()
        assert ask("user_1", claims={**self.CLAIMS, "iat": 50}).user.first_name == "Ada"  # type: ignore[attr-defined]  # likewise
        account = ClerkAccount.objects.get()
        assert (account.claims_issued_at, account.clerk_updated_at) == (50_000, 49_500)

    def test_claims_bring_nobody_back(self) -> None:
        """LFC-02."""
        ask("user_1", claims={**self.CLAIMS, "iat": 50})
        sync_django_user({"id": "user_1", "object": "user", "deleted": True})
        cache.clear()
        with pytest.raises(AccountRefused):
            ask("user_1", claims={**self.CLAIMS, "iat": 60})

    def test_the_api_may_take_over_from_claims(self, local_clerk: LocalClerk, ada: LocalUser, settings: Any) -> None:
        """USR-12: the user has not changed since, but what claims left out comes in."""
        ask(ada, claims={"iat": int(time.time()) + 60})
        settings.CLERK_USER_SOURCE = "api"
        cache.clear()
        assert ask(ada).user.email == "ada@example.com"  # type: ignore[attr-defined]  # likewise

    def test_an_unverified_address_links_nobody(self) -> None:
        """USR-01."""
        User.objects.create(username="ada", email="ada@example.com")
        resolved = ask("user_1", claims={**self.CLAIMS, "iat": 5, "email_verified": "true"})
        assert (resolved.user.username, resolved.user.email) == ("clerk_user_1", "")  # type: ignore[attr-defined]  # likewise


class TestOtherProcesses:
    """KEY-07's like for users: one fetch over all processes that share the cache."""

    def test_a_known_user_is_served_meanwhile(self, local_clerk: LocalClerk, ada: LocalUser) -> None:
        user = sync_django_user(ada.data)
        assert memory(ada).claim()
        assert ask(ada) == Resolved(user, "cache", 0.0)
        assert local_clerk.calls.user_fetches == 0

    def test_an_unknown_user_waits_for_the_other_process(self, local_clerk: LocalClerk, ada: LocalUser) -> None:
        other = memory(ada)
        assert other.claim()
        done = threading.Timer(0.1, other.release)
        done.start()
        assert ask(ada).source == "api"
        done.join()

    def test_but_not_for_ever(self, local_clerk: LocalClerk, ada: LocalUser) -> None:
        """F-30: whoever died is not waited for."""
        assert memory(ada).claim()
        began = time.monotonic()
        assert ask(ada, budget=Budget(2)).source == "api"
        assert 1 <= time.monotonic() - began < 2

    def test_nothing_is_done_twice(self, local_clerk: LocalClerk, ada: LocalUser) -> None:
        """Between our look into the cache and our turn another process may have done it."""
        other = memory(ada)
        assert other.claim()

        def finish() -> None:
            user = sync_django_user(ada.data)
            other.remember(Mark(user.clerk_account.synced_at.timestamp(), "ok"))
            other.release()

        with Watch("SELECT", finish, after=2):
            assert ask(ada, budget=Budget(1)).source == "cache"
        assert local_clerk.calls.user_fetches == 0


class Watch:
    """Does something when the database is asked for the n-th time."""

    def __init__(self, start: str, act: Callable[[], Any], *, after: int) -> None:
        self.start, self.act, self.after = start, act, after

    def __enter__(self) -> None:
        self.wrapper = connection.execute_wrapper(self.watch)
        self.wrapper.__enter__()

    def __exit__(self, *raised: object) -> None:
        self.wrapper.__exit__(None, None, None)

    def watch(self, execute: Any, sql: str, *arguments: Any) -> Any:
        if sql.startswith(self.start):
            self.after -= 1
            if self.after == 0:
                self.act()
        return execute(sql, *arguments)


class TestOtherThreads:
    """CAC-06, CTX-02."""

    def test_a_known_user_is_served_meanwhile(self, local_clerk: LocalClerk, ada: LocalUser) -> None:
        user = sync_django_user(ada.data)
        flight, leading = flights.board(memory(ada).key, sharing=False)
        assert leading
        assert ask(ada) == Resolved(user, "cache", 0.0)
        flights.land(flight, linger=0)
        assert local_clerk.calls.user_fetches == 0

    def test_an_unknown_user_waits_within_the_budget(self, ada: LocalUser) -> None:
        flight, _ = flights.board(memory(ada).key, sharing=False)
        budget = Budget(0.1)
        with pytest.raises(ClerkUnavailable) as caught:
            ask(ada, budget=budget)
        assert caught.value.reason == "upstream-timeout"
        assert budget.remaining <= 0
        flights.land(flight, linger=0)
        assert ask(ada).source == "api"

    def test_an_outcome_is_shared(self, local_clerk: LocalClerk, ada: LocalUser) -> None:
        flight, _ = flights.board(memory(ada).key, sharing=False)
        flight.error = ClerkUnavailable("upstream-unavailable", retry_after=9)
        flights.land(flight, linger=60)
        with pytest.raises(ClerkUnavailable) as caught:
            ask(ada)
        assert (caught.value.reason, caught.value.retry_after) == ("upstream-unavailable", 9)
        assert caught.value is not flight.error
        flights.land(flight, linger=0)

    def test_a_row_of_an_open_transaction_is_not_fetched_again(self, local_clerk: LocalClerk, ada: LocalUser) -> None:
        """USR-08: its payload is shared with those who cannot see it yet."""
        ask(ada)  # in the test's own transaction
        User.objects.all().delete()  # as another connection sees it
        assert ask(ada).user == User.objects.get()
        assert local_clerk.calls.user_fetches == 1

    def test_whoever_leads_and_dies_is_replaced(self, local_clerk: LocalClerk, ada: LocalUser, settings: Any) -> None:
        """F-30: locks are released on any exception."""
        settings.CLERK_USER_FIELDS = {"first_name": "no.such.function"}
        with pytest.raises(ImportError):
            ask(ada)
        settings.CLERK_USER_FIELDS = None
        assert ask(ada).source == "api"

    def test_a_flight_that_brings_nothing_is_flown_again(self, local_clerk: LocalClerk, ada: LocalUser) -> None:
        flight, _ = flights.board(memory(ada).key, sharing=False)
        dying = threading.Timer(0.1, flights.land, [flight], {"linger": 0})
        dying.start()
        assert ask(ada).source == "api"
        dying.join()

    def test_followers_see_the_row_of_the_leader(self, local_clerk: LocalClerk, ada: LocalUser) -> None:
        flight, _ = flights.board(memory(ada).key, sharing=False)
        flight.brought = read_profile(ada.data)
        flights.land(flight, linger=60)
        with Watch("SELECT", lambda: sync_django_user(ada.data), after=2):
            assert ask(ada).source == "cache"
        flights.land(flight, linger=0)
        assert local_clerk.calls.user_fetches == 0


def at_once(count: int, act: Callable[[], Any]) -> list[Any]:
    """Run something in many threads at the same moment; return what they returned or raised."""

    def outcome(_: int) -> Any:
        try:
            return act()
        except Exception as error:  # noqa: BLE001  # a test shows whatever it was
            return error

    return simultaneously(count, outcome)


def but_for_deadlocks(outcomes: list[Any], in_transaction: bool) -> list[Any]:
    """Leave out who may come back: MariaDB ends a deadlock by undoing somebody's transaction, savepoints and all."""
    if in_transaction and connection.vendor == "mysql":
        return [outcome for outcome in outcomes if not isinstance(outcome, ClerkUnavailable)]
    return outcomes


@pytest.mark.django_db(transaction=True)
class TestRaces:
    """USR-08, F-18. On PostgreSQL and MariaDB, too: see TestOtherDatabases."""

    @pytest.mark.parametrize("in_transaction", [False, True])
    def test_64_first_sign_ins_of_one_user(
        self, local_clerk: LocalClerk, ada: LocalUser, settings: Any, in_transaction: bool
    ) -> None:
        settings.CLERK_TIMEOUT_MS = 30_000  # two cores, 64 threads

        def sign_in() -> Any:
            if in_transaction:
                with transaction.atomic():
                    return ask(ada).user.pk
            return ask(ada).user.pk

        outcomes = but_for_deadlocks(at_once(64, sign_in), in_transaction)
        assert set(outcomes) == {User.objects.get().pk}
        assert ClerkAccount.objects.get().clerk_id == ada.id
        assert local_clerk.calls.user_fetches == 1

    @pytest.mark.parametrize("in_transaction", [False, True])
    def test_payloads_written_without_any_turn(self, ada: LocalUser, in_transaction: bool) -> None:
        """As by several processes: nothing but the database decides."""
        payload = ada.data

        def write() -> Any:
            if in_transaction:
                with transaction.atomic():
                    return sync_django_user(payload).pk
            return sync_django_user(payload).pk

        outcomes = but_for_deadlocks(at_once(16, write), in_transaction)
        assert set(outcomes) == {User.objects.get().pk}
        assert ClerkAccount.objects.count() == 1

    def test_users_of_one_name(self, local_clerk: LocalClerk) -> None:
        """USR-09."""
        payloads = [local_clerk.add_user(email=f"alex@{number}.example").data for number in range(8)]
        outcomes = at_once(8, lambda: sync_django_user(payloads.pop()).username)
        assert len(set(outcomes)) == 8
        assert all(name.startswith(("alex", "clerk_")) for name in outcomes)

    def test_many_new_users(self, local_clerk: LocalClerk, settings: Any) -> None:
        """F-17: a morning's first sign-ins."""
        settings.CLERK_TIMEOUT_MS = 30_000  # two cores, 64 threads
        users = [
            local_clerk.add_user(email=f"new{number}@example.com", username=f"new{number}") for number in range(64)
        ]
        waiting = list(users)
        outcomes = at_once(64, lambda: ask(waiting.pop()).user.pk)
        assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
        assert set(outcomes) == set(User.objects.values_list("pk", flat=True))
        assert {user.id for user in users} == set(ClerkAccount.objects.values_list("clerk_id", flat=True))

    def test_many_new_users_at_a_door(self, local_clerk: LocalClerk, settings: Any) -> None:
        """F-17: half of them with the same name, which only one can have (USR-09)."""
        settings.CLERK_TIMEOUT_MS = 30_000
        names = [f"alex@{number}.example" if number % 2 else f"new{number}@example.com" for number in range(32)]
        waiting = [local_clerk.token(local_clerk.add_user(email=name)) for name in names]

        def sign_in() -> int:
            return Client().get("/required/", headers={"authorization": f"Bearer {waiting.pop()}"}).status_code

        assert set(at_once(32, sign_in)) == {200}
        assert set(User.objects.values_list("email", flat=True)) == set(names)
        assert User.objects.values("username").distinct().count() == 32

    def test_one_user_is_linked_once(self, local_clerk: LocalClerk, ada: LocalUser) -> None:
        """F-18, USR-04: of two Clerk users with the address one gets it, the other none."""
        user = User.objects.create(username="ada", email="ada@example.com")
        payloads = [ada.data, local_clerk.add_user(email="ada@example.com").data]
        outcomes = at_once(2, lambda: sync_django_user(payloads.pop()))
        assert user in outcomes
        assert {getattr(outcome, "reason", None) for outcome in outcomes} <= {
            None,
            "link-refused",
            "database-unavailable",
        }
        assert ClerkAccount.objects.count() == User.objects.count() == 1


@pytest.mark.skipif(connection.vendor != "sqlite", reason="is itself on another database")
class TestOtherDatabases:
    """USR-02, USR-08, USR-12: races and the sync, where rows are locked and letters compared otherwise."""

    @pytest.mark.parametrize("service", ["postgresql", "mariadb"])
    def test_the_same_there(self, service: str, request: pytest.FixtureRequest) -> None:
        request.getfixturevalue(service)
        sync = ("tests/test_sync.py::TestLinking", "tests/test_sync.py::TestKeepingInStep")
        files = ("tests/test_accounts.py::TestRaces", "tests/test_models.py", *sync)
        run_elsewhere(*files, CLERK_VIEWS_TEST_DATABASE=service)

    def test_the_same_on_sqlite_as_it_comes(self) -> None:
        """F-17: by Django's own options it refuses at once to let a reader write while somebody else does."""
        run_elsewhere("tests/test_accounts.py::TestRaces", "-k", "many", CLERK_VIEWS_TEST_DATABASE="sqlite-as-it-comes")
