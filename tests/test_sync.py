"""
A Clerk user becomes a Django user: found, linked, created, kept in step.

Threats: USR-01 to USR-12, LFC-01, LFC-02, F-17, F-18, F-27, LOG-03. The same with other user models:
tests/custom_users. Other databases: test_accounts.py runs this file on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import DataError, IntegrityError, OperationalError, connection
from django.db.models.signals import post_init, pre_save
from django.test import Client

from clerk_views import signals
from clerk_views.accounts import read_user, sync_django_user
from clerk_views.exceptions import AccountRefused, ClerkUnavailable, UserNotFound
from clerk_views.models import ClerkAccount
from clerk_views.testing.directory import email_body, user_body
from tests.elsewhere import run_elsewhere

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("local_clerk")]

User: Any = get_user_model()


@pytest.fixture
def heard() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Every signal about users that was sent, by name."""
    heard: list[tuple[str, dict[str, Any]]] = []

    def synced(**sent: Any) -> None:
        heard.append(("synced", sent))

    def linked(**sent: Any) -> None:
        heard.append(("linked", sent))

    signals.clerk_user_synced.connect(synced)
    signals.clerk_user_linked.connect(linked)
    yield heard
    signals.clerk_user_synced.disconnect(synced)
    signals.clerk_user_linked.disconnect(linked)


def local_user(**fields: Any) -> Any:
    return User.objects.create_user(**{"username": "local", "email": "ada@example.com", "password": "old", **fields})


class TestCreating:
    def test_an_unknown_user_is_created_without_password(self, heard: list[Any]) -> None:
        body = user_body(email="Ada@example.com", first_name="Ada", last_name="Lovelace", updated_at=7)
        user = sync_django_user(body)
        assert (user.username, user.email, user.first_name, user.last_name) == (
            "Ada",
            "Ada@example.com",
            "Ada",
            "Lovelace",
        )
        assert not user.has_usable_password()
        assert (user.is_active, user.is_staff, user.is_superuser) == (True, False, False)
        account = ClerkAccount.objects.get()
        assert account == user.clerk_account
        assert (account.clerk_id, account.user, account.clerk_updated_at) == (body["id"], user, 7)
        assert (account.linked, account.deactivated) == (False, False)
        assert read_user(body["id"]) == user
        assert [name for name, _ in heard] == ["synced"]
        assert heard[0][1] | {"signal": None} == {
            "signal": None,
            "sender": User,
            "user": user,
            "clerk_user": body,
            "created": True,
        }

    def test_signals_name_the_request_class_if_there_is_one(self, heard: list[Any]) -> None:
        sync_django_user(user_body(), sender=SimpleNamespace)
        assert heard[0][1]["sender"] is SimpleNamespace

    def test_a_receiver_that_raises_changes_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        """F-27."""

        def receiver(**sent: Any) -> None:
            raise RuntimeError

        signals.clerk_user_synced.connect(receiver)
        try:
            assert sync_django_user(user_body()).pk
        finally:
            signals.clerk_user_synced.disconnect(receiver)

    @pytest.mark.parametrize("verified", [False, "expired", None])
    def test_an_unverified_address_is_never_stored(self, verified: Any) -> None:
        """USR-01."""
        user = sync_django_user(user_body(id="user_1", email="ada@example.com", verified=verified))
        assert (user.email, user.username) == ("", "clerk_user_1")

    def test_a_user_banned_from_the_start_exists_but_is_inactive(self) -> None:
        user = sync_django_user(user_body(banned=True))
        assert (user.is_active, user.clerk_account.deactivated) == (False, True)

    def test_nothing_that_clerk_may_send_is_fatal(self) -> None:
        """USR-06, USR-09, F-22."""
        hostile = dict.fromkeys((field.name for field in User._meta.get_fields()), True)
        body = user_body(
            email="ada@example.com", username="x" * 300, first_name="\x00\ud800A" + "d" * 300, last_name=["x"]
        )
        known = {key: body[key] for key in ("id", "username", "first_name", "last_name")}
        user = sync_django_user({**body, **hostile, **known, "public_metadata": {"is_staff": True}})
        user.refresh_from_db()
        lengths = [User._meta.get_field(name).max_length for name in ("username", "first_name")]
        assert (user.username, user.first_name) == (("x" * 300)[: lengths[0]], ("A" + "d" * 300)[: lengths[1]])
        assert user.last_name == ""
        assert (user.is_staff, user.is_superuser, user.groups.count(), user.email) == (
            False,
            False,
            0,
            "ada@example.com",
        )

    def test_names_are_numbered(self) -> None:
        """USR-09."""
        names = [sync_django_user(user_body(username="alex")).username for _ in range(3)]
        assert names == ["alex", "alex-2", "alex-3"]

    def test_no_id_no_user(self) -> None:
        with pytest.raises(ValueError, match="no Clerk user"):
            sync_django_user({"first_name": "Ada"})


class TestLinking:
    def test_the_user_of_the_verified_primary_address_is_linked(self, heard: list[Any]) -> None:
        user = local_user()
        body = user_body(email="ADA@example.COM", username="ada", first_name="Ada")
        assert sync_django_user(body) == user
        user.refresh_from_db()
        assert user.clerk_account.linked
        assert (user.username, user.first_name, user.email) == ("local", "Ada", "ADA@example.COM")
        assert [name for name, _ in heard] == ["linked", "synced"]
        assert heard[0][1]["clerk_user"] is body
        assert heard[1][1]["created"] is False

    @pytest.mark.parametrize("by_expression", [True, False])
    def test_whatever_indexes_the_database_has(self, monkeypatch: pytest.MonkeyPatch, by_expression: bool) -> None:
        """USR-02: the address is found in every spelling, and another one that resembles it is not."""
        if by_expression and not connection.features.supports_expression_indexes:
            pytest.skip("this database has none on expressions")
        monkeypatch.setattr(connection.features, "supports_expression_indexes", by_expression)
        user = local_user()
        assert sync_django_user(user_body(email="a_a@example.com")) != user
        assert sync_django_user(user_body(email="aDa@EXAMPLE.com")) == user

    def test_old_password_and_sessions_end(self, client: Client) -> None:
        """USR-10."""
        user = local_user()
        client.force_login(user)
        before = user.get_session_auth_hash()
        sync_django_user(user_body(email="ada@example.com"))
        user.refresh_from_db()
        assert not user.has_usable_password()
        assert not user.check_password("old")
        assert user.get_session_auth_hash() != before
        assert not client.login(username="local", password="old")

    def test_a_linked_user_keeps_the_name_for_good(self) -> None:
        local_user()
        body = user_body(email="ada@example.com", username="ada", updated_at=1)
        sync_django_user(body)
        assert sync_django_user({**body, "username": "countess", "updated_at": 2}).username == "local"

    def test_linking_can_be_switched_off(self, settings: Any) -> None:
        settings.CLERK_LINK_BY_EMAIL = False
        user = local_user()
        assert sync_django_user(user_body(email="ada@example.com")) != user

    @pytest.mark.parametrize(
        "fields",
        [
            {"email": "ada@example.com", "verified": False},
            {"email": "ada@example.com", "verified": "expired"},
            {"email": "eve@example.com", "email_addresses": ["ada@example.com"]},
            {"email_addresses": ["ada@example.com"]},
            {"email_addresses": ["ada@example.com"], "primary_email_address_id": "idn_dangling"},
            {"external_accounts": [{"email_address": "ada@example.com"}]},
        ],
        ids=["unverified", "expired", "not primary", "no primary", "dangling", "external account"],
    )
    def test_no_other_address_links(self, fields: dict[str, Any]) -> None:
        """USR-01."""
        user = local_user()
        assert sync_django_user(user_body(**fields)) != user
        assert not ClerkAccount.objects.filter(user=user).exists()

    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [
            ("mike@example.com", "mıke@example.com"),
            ("kate@example.com", "\u212aate@example.com"),
            ("jose@example.com", "josé@example.com"),
            ("jos\u00e9@example.com", "jose\u0301@example.com"),
            ("strasse@example.com", "straße@example.com"),
            ("a.da@example.com", "ada@example.com"),
            ("ada+x@example.com", "ada@example.com"),
            ("ada@example.com ", "ada@example.com"),
            ("ÄDA@example.com", "äda@example.com"),
        ],
        ids=ascii,
    )
    def test_look_alikes_are_strangers(self, ours: str, theirs: str) -> None:
        """USR-02: whatever the database takes for equal."""
        user = local_user()
        User.objects.update(email=ours)  # as it stands, without a manager's tidying
        assert sync_django_user(user_body(email=theirs)) != user

    @pytest.mark.parametrize(
        "why",
        ["is_staff", "is_superuser", "inactive", "several", "linked"],
    )
    def test_nobody_is_linked_who_must_not_be(self, why: str, caplog: pytest.LogCaptureFixture) -> None:
        """USR-03, USR-04, USR-05."""
        user = local_user(**{"is_active": why != "inactive"}, **({why: True} if why.startswith("is_") else {}))
        if why == "several":
            local_user(username="other", email="Ada@example.com")
        if why == "linked":
            ClerkAccount.objects.create(user=user, clerk_id="user_other")
        body = user_body(id="user_1", email="ada@example.com")
        with pytest.raises(AccountRefused) as caught:
            sync_django_user(body)
        assert caught.value.reason == "link-refused"
        assert not ClerkAccount.objects.filter(clerk_id="user_1").exists()
        user.refresh_from_db()
        assert user.check_password("old")
        assert "'user_1'" in caplog.text
        assert "ada@" not in caplog.text.lower()
        assert "user_other" not in caplog.text

    def test_a_recreated_clerk_user_does_not_inherit(self) -> None:
        """LFC-02, USR-04."""
        body = user_body(email="ada@example.com")
        user = sync_django_user(body)
        sync_django_user({"id": body["id"], "object": "user", "deleted": True})
        with pytest.raises(AccountRefused):
            sync_django_user(user_body(email="ada@example.com"))
        user.refresh_from_db()
        assert not user.is_active


class TestKeepingInStep:
    def test_only_what_changed_is_saved(self) -> None:
        body = user_body(email="ada@example.com", first_name="Ada", username="ada", updated_at=1)
        sync_django_user(body)
        saved: list[Any] = []

        def note(update_fields: Any, **sent: Any) -> None:
            saved.append(update_fields)

        pre_save.connect(note, sender=User)
        try:
            sync_django_user({**body, "updated_at": 2})
            assert saved == []
            sync_django_user({**body, "updated_at": 3, "first_name": "Augusta"})
        finally:
            pre_save.disconnect(note, sender=User)
        assert saved == [frozenset({"first_name"})]

    def test_synced_is_sent_though_nothing_changed(self, heard: list[Any]) -> None:
        body = user_body()
        sync_django_user(body)
        sync_django_user(body)
        assert [sent["created"] for _, sent in heard] == [True, False]

    def test_older_news_changes_nothing(self, heard: list[Any]) -> None:
        """USR-12."""
        body = user_body(first_name="New", updated_at=5)
        sync_django_user(body)
        heard.clear()
        assert sync_django_user({**body, "first_name": "Old", "updated_at": 4}).first_name == "New"
        assert sync_django_user({**body, "first_name": "Odd", "updated_at": None}).first_name == "New"
        assert heard == []
        assert sync_django_user({**body, "first_name": "Same time", "updated_at": 5}).first_name == "Same time"
        assert ClerkAccount.objects.get().clerk_updated_at == 5

    def test_a_rivals_newer_write_survives_what_was_read_before_it(self) -> None:
        """USR-12: the comparison is made in the UPDATE, not on what was read."""
        body = user_body(first_name="First", updated_at=1)
        user = sync_django_user(body)
        fired: list[bool] = []

        def rival(instance: Any, **sent: Any) -> None:
            if not fired:  # as soon as our account is read
                fired.append(True)
                sync_django_user({**body, "first_name": "Third", "updated_at": 3})

        post_init.connect(rival, sender=ClerkAccount)
        try:
            sync_django_user({**body, "first_name": "Second", "updated_at": 2})
        finally:
            post_init.disconnect(rival, sender=ClerkAccount)
        user.refresh_from_db()
        assert (user.first_name, ClerkAccount.objects.get().clerk_updated_at) == ("Third", 3)

    def test_an_explicit_name_is_followed(self) -> None:
        """USR-09."""
        body = user_body(username="ada", updated_at=1)
        sync_django_user(body)
        sync_django_user(user_body(username="bob"))
        assert sync_django_user({**body, "username": "countess", "updated_at": 2}).username == "countess"
        assert sync_django_user({**body, "username": "bob", "updated_at": 3}).username == "bob-2"
        assert sync_django_user({**body, "username": "bob", "updated_at": 4}).username == "bob-2"
        assert sync_django_user({**body, "username": None, "updated_at": 5}).username == "bob-2"

    def test_a_derived_name_is_never_computed_again(self) -> None:
        body = user_body(email="ada@example.com", updated_at=1)
        sync_django_user(body)
        email = email_body("countess@example.com")
        changed = {**body, "email_addresses": [email], "primary_email_address_id": email["id"], "updated_at": 2}
        user = sync_django_user(changed)
        assert (user.username, user.email) == ("ada", "countess@example.com")

    def test_an_address_is_cleared_only_when_clerk_says_there_is_none(self) -> None:
        body = user_body(email="ada@example.com", updated_at=1)
        sync_django_user(body)
        unverified = email_body("eve@example.com", False)
        pending = {"email_addresses": [unverified], "primary_email_address_id": unverified["id"]}
        assert sync_django_user({**body, **pending, "updated_at": 2}).email == "ada@example.com"
        assert sync_django_user({**body, "primary_email_address_id": None, "updated_at": 3}).email == ""

    def test_swapped_addresses_change_nobodys_account(self) -> None:
        """USR-11."""
        ada, bob = user_body(email="ada@example.com", updated_at=1), user_body(email="bob@example.com", updated_at=1)
        users = [sync_django_user(ada), sync_django_user(bob)]
        swapped = ("email_addresses", "primary_email_address_id")
        again = [
            sync_django_user({**ada, **{key: bob[key] for key in swapped}, "updated_at": 2}),
            sync_django_user({**bob, **{key: ada[key] for key in swapped}, "updated_at": 2}),
        ]
        assert again == users
        assert [user.email for user in again] == ["bob@example.com", "ada@example.com"]

    def test_ids_that_differ_by_case_are_two_users(self) -> None:
        """CAC-04."""
        assert sync_django_user(user_body(id="user_Aa")) != sync_django_user(user_body(id="user_aA"))
        assert read_user("user_AA") is None

    def test_a_function_of_the_project_gets_value_and_clerk_user(self, settings: Any) -> None:
        settings.CLERK_USER_FIELDS = {"first_name": "tests.test_sync.shouted"}
        assert sync_django_user(user_body(id="user_1", first_name="Ada")).first_name == "ADA user_1"


def shouted(value: str, clerk_user: Any) -> dict[str, Any]:
    return {"first_name": f"{value.upper()} {clerk_user['id']}", "is_staff": True}


class TestBans:
    def test_a_ban_locks_and_its_end_unlocks(self) -> None:
        """LFC-01."""
        body = user_body(updated_at=1)
        sync_django_user(body)
        user = sync_django_user({**body, "banned": True, "updated_at": 2})
        assert (user.is_active, user.clerk_account.deactivated) == (False, True)
        user = sync_django_user({**body, "updated_at": 3})
        assert (user.is_active, user.clerk_account.deactivated) == (True, False)

    def test_a_lock_by_an_administrator_stays(self) -> None:
        """USR-07."""
        body = user_body(updated_at=1)
        user = sync_django_user(body)
        User.objects.update(is_active=False)
        for update in ({"updated_at": 2}, {"banned": True, "updated_at": 3}, {"updated_at": 4}):
            user = sync_django_user({**body, **update})
            assert (user.is_active, user.clerk_account.deactivated) == (False, False)

    def test_an_administrator_does_not_lift_a_ban_by_accident(self) -> None:
        body = user_body(banned=True, updated_at=1)
        sync_django_user(body)
        User.objects.update(is_active=True)
        assert not sync_django_user({**body, "updated_at": 2}).is_active

    def test_unknown_whether_banned_changes_nothing(self) -> None:
        body = user_body(banned=True, updated_at=1)
        sync_django_user(body)
        assert not sync_django_user({**body, "banned": None, "updated_at": 2}).is_active

    def test_a_lock_at_sign_in_is_ignored(self) -> None:
        assert sync_django_user(user_body(locked=True)).is_active


class TestDeletion:
    def test_a_deleted_user_is_inactive_for_good(self, heard: list[Any]) -> None:
        """LFC-02, WHK-05: late news does not bring him back."""
        body = user_body(email="ada@example.com", updated_at=1)
        sync_django_user(body)
        gone = {"id": body["id"], "object": "user", "deleted": True}
        for news in (gone, {**body, "updated_at": 2**60}, gone):
            user = sync_django_user(news)
            assert (user.is_active, user.clerk_account.deactivated) == (False, True)
        assert user.email == "ada@example.com"

    def test_an_unknown_one_is_not_created(self) -> None:
        with pytest.raises(UserNotFound):
            sync_django_user({"id": "user_1", "object": "user", "deleted": True})
        assert not User.objects.exists()


@pytest.fixture
def trouble() -> Iterator[Callable[..., list[str]]]:
    """``trouble(error, "INSERT", times=2)``: the database fails on such statements; returns those that failed."""
    wrappers = []

    def start(error: Exception, *starts: str, times: int = 10**6) -> list[str]:
        failed: list[str] = []

        def fail(execute: Any, sql: str, *arguments: Any) -> Any:
            if sql.startswith(starts) and len(failed) < times:
                failed.append(sql)
                raise error
            return execute(sql, *arguments)

        wrapper = connection.execute_wrapper(fail)
        wrapper.__enter__()
        wrappers.append(wrapper)
        return failed

    yield start
    for wrapper in reversed(wrappers):
        wrapper.__exit__(None, None, None)


class TestTrouble:
    @pytest.mark.parametrize("times", [1, 2])
    def test_a_lock_is_waited_for(self, trouble: Any, times: int) -> None:
        """F-17."""
        failed = trouble(OperationalError("database is locked"), "INSERT", times=times)
        assert sync_django_user(user_body()).pk
        assert len(failed) == times

    def test_not_for_long(self, trouble: Any, caplog: pytest.LogCaptureFixture) -> None:
        """F-17: the outer transaction is intact."""
        failed = trouble(OperationalError("database is locked"), "INSERT")
        with pytest.raises(ClerkUnavailable) as caught:
            sync_django_user(user_body(email="ada@example.com"))
        assert caught.value.reason == "database-unavailable"
        assert len(failed) == 3
        assert "database is locked" in caplog.text
        assert "ada@" not in caplog.text
        assert User.objects.count() == 0

    def test_a_rival_who_was_first_is_found(self) -> None:
        """F-18, USR-08: the unique link decides, and both succeed."""
        body = user_body(email="ada@example.com")
        before = Rival(lambda: sync_django_user(body))
        with before:
            user = sync_django_user(body)
        assert before.fired
        assert User.objects.get() == user
        assert ClerkAccount.objects.get().user == user

    @pytest.mark.parametrize(
        ("times", "name", "first_name"), [(1, "ada", "Ada"), (2, "clerk_user_1", "Ada"), (3, "clerk_user_1", "")]
    )
    def test_what_cannot_be_written_does_not_keep_anybody_outside(
        self, trouble: Any, times: int, name: str, first_name: str
    ) -> None:
        """F-18: first the name is given up, at the last try all but the link; the next sync tries the columns again."""
        trouble(IntegrityError("a name that was free a moment ago"), "INSERT", times=times)
        body = user_body(id="user_1", username="ada", first_name="Ada")
        user = sync_django_user(body)
        assert (user.username, user.first_name) == (name, first_name)
        user = sync_django_user(body)
        assert (user.username, user.first_name) == ("ada", "Ada")

    @pytest.mark.parametrize(
        ("times", "name", "first_name"), [(1, "countess", "Augusta"), (2, "ada", "Augusta"), (3, "ada", "Ada")]
    )
    def test_nor_does_it_keep_a_known_user_outside(self, trouble: Any, times: int, name: str, first_name: str) -> None:
        body = user_body(id="user_1", username="ada", first_name="Ada", updated_at=1)
        sync_django_user(body)
        table = connection.ops.quote_name(User._meta.db_table)
        trouble(DataError("out of range"), f"UPDATE {table}", times=times)
        user = sync_django_user({**body, "username": "countess", "first_name": "Augusta", "updated_at": 2})
        assert (user.username, user.first_name) == (name, first_name)

    def test_a_rival_who_brings_late_news_of_the_deleted_is_found(self) -> None:
        """F-18, LFC-02."""
        body = user_body(updated_at=1)
        with pytest.raises(UserNotFound):
            sync_django_user({"id": body["id"], "object": "user", "deleted": True})
        with Rival(lambda: sync_django_user({**body, "first_name": "newer", "updated_at": 2})):
            user = sync_django_user(body)
        assert (User.objects.get(), user.first_name, user.is_active) == (user, "newer", False)

    def test_an_account_that_vanishes_meanwhile_is_made_anew(self) -> None:
        body = user_body(updated_at=1)
        sync_django_user(body)
        with Rival(ClerkAccount.objects.all().delete):
            user = sync_django_user(body)
        assert ClerkAccount.objects.get().user == user

    def test_a_column_that_nothing_fills_is_reported(self, trouble: Any, caplog: pytest.LogCaptureFixture) -> None:
        failed = trouble(IntegrityError("DETAIL: (email)=(ada@example.com)"), "INSERT")
        with pytest.raises(ClerkUnavailable):
            sync_django_user(user_body(email="ada@example.com"))
        assert len(failed) == 4
        assert "IntegrityError" in caplog.text
        assert "CLERK_USER_FIELDS" in caplog.text
        assert "ada@" not in caplog.text

    def test_a_candidate_promoted_meanwhile_is_not_linked(self) -> None:
        """USR-05: looked at again under lock."""
        user = local_user()
        with Rival(lambda: User.objects.filter(pk=user.pk).update(is_staff=True)), pytest.raises(AccountRefused):
            sync_django_user(user_body(email="ada@example.com"))
        assert not ClerkAccount.objects.exists()


class Rival:
    """Somebody who acts right before our first write, as happens between two processes."""

    def __init__(self, act: Callable[[], Any], on: str = "SAVEPOINT") -> None:
        self.act = act
        self.on = on
        self.fired = False

    def __enter__(self) -> None:
        self.wrapper = connection.execute_wrapper(self.watch)
        self.wrapper.__enter__()

    def __exit__(self, *raised: object) -> None:
        self.wrapper.__exit__(None, None, None)

    def watch(self, execute: Any, sql: str, *arguments: Any) -> Any:
        if sql.startswith(self.on) and not self.fired:
            self.fired = True
            self.act()
        return execute(sql, *arguments)


@pytest.mark.skipif(User.__module__ != "django.contrib.auth.models", reason="is itself about another user model")
@pytest.mark.skipif(connection.vendor != "sqlite", reason="is itself on another database")
@pytest.mark.parametrize("model", ["BareUser", "EmailUser", "FullUser", "MemberUser"])
def test_other_user_models(model: str) -> None:
    run_elsewhere("tests/custom_users/scenarios.py", CLERK_VIEWS_TEST_USER=f"custom_users.{model}")
