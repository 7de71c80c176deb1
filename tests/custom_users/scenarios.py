"""
The sync with user models of other projects. tests/test_sync.py runs this once for each of them.

Threats: USR-04, USR-06, USR-07, USR-09, USR-11, LFC-01, LFC-02.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.core.management import CommandError, call_command

from clerk_views import signals
from clerk_views.accounts import read_user, resolve, sync_django_user
from clerk_views.calls import Budget
from clerk_views.conf import config
from clerk_views.exceptions import AccountRefused
from clerk_views.models import ClerkAccount
from clerk_views.testing import LocalClerk
from clerk_views.testing.directory import email_body, user_body

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("local_clerk")]

User: Any = get_user_model()


def only(model: str) -> Any:
    return pytest.mark.skipif(User.__name__ != model, reason=f"about {model}")


def test_a_user_is_created_found_and_kept_in_step(local_clerk: LocalClerk) -> None:
    settings = config()
    ada = local_clerk.add_user(email="ada@example.com", username="ada", first_name="Ada")
    for source in ("api", "cache"):
        resolved = resolve(ada.id, {}, config=settings, budget=Budget(5))
        assert (resolved.source, resolved.user) == (source, User.objects.get())
    assert read_user(ada.id) == resolved.user
    assert not resolved.user.has_usable_password()
    local_clerk.update_user(ada, banned=True)
    cache.clear()
    with pytest.raises(AccountRefused):
        resolve(ada.id, {}, config=settings, budget=Budget(5))
    local_clerk.update_user(ada, banned=False)
    cache.clear()
    assert resolve(ada.id, {}, config=settings, budget=Budget(5)).user == User.objects.get()


def test_users_without_any_data_are_told_apart() -> None:
    """USR-09, USR-11."""
    users = {sync_django_user(user_body(username=None)).pk for _ in range(3)}
    assert len(users) == 3


def test_a_deleted_user_is_inactive() -> None:
    """LFC-02: also where the model cannot tell."""
    body = user_body(email="ada@example.com")
    sync_django_user(body)
    user = sync_django_user({"id": body["id"], "deleted": True})
    assert user.clerk_account.deactivated
    assert user.is_active is (User.__name__ in ("BareUser", "MemberUser"))


def test_the_checks_are_content_with_the_model() -> None:
    call_command("check", fail_level="ERROR")


def test_the_prepared_row_is_the_row() -> None:
    """Whatever the model is made of: keys, tables, columns with a mind of their own."""
    user = sync_django_user(user_body(id="user_1", email="ada@example.com"))
    user.books = ("Sketch", "Notes")
    user.born = datetime(1815, 12, 10, 12, tzinfo=UTC)
    user.balance, user.shared = Decimal("12.50"), {"a": [1]}
    user.save()
    plain = User._default_manager.select_related("clerk_account").get(pk=user.pk)
    for _ in range(2):
        read: Any = read_user("user_1")
        for found, expected in ((read, plain), (read.clerk_account, plain.clerk_account)):
            values = {field.attname: getattr(found, field.attname) for field in found._meta.concrete_fields}
            assert values == {name: getattr(expected, name) for name in values}
            assert [type(value) for value in values.values()] == [type(getattr(expected, name)) for name in values]


@only("MemberUser")
class TestMemberUser:
    def test_a_user_in_two_tables_is_saved_into_both(self) -> None:
        sync_django_user(user_body(id="user_1"))
        user: Any = read_user("user_1")
        user.name, user.handle = "Ada", "countess"
        user.save()
        assert User.objects.named("Ada").get().handle == "countess"


@only("BareUser")
class TestBareUser:
    def test_the_name_to_sign_in_with_is_made_and_kept(self) -> None:
        """USR-09: it is not mapped, so it is filled once and followed never."""
        body = user_body(username="ada" * 10, updated_at=1)
        assert sync_django_user(body).handle == ("ada" * 10)[:20]
        assert sync_django_user({**body, "username": "bob", "updated_at": 2}).handle == ("ada" * 10)[:20]
        other = sync_django_user(user_body(username=None))
        assert len(other.handle) == 20
        assert other.handle.startswith("clerk_")

    def test_or_followed_where_it_is_mapped(self, settings: Any) -> None:
        settings.CLERK_USER_FIELDS = {"username": "handle"}
        body = user_body(username="ada", updated_at=1)
        assert sync_django_user(body).handle == "ada"
        assert sync_django_user({**body, "username": "bob", "updated_at": 2}).handle == "bob"


@only("EmailUser")
class TestEmailUser:
    def test_who_has_no_address_gets_one_that_is_nobodys(self) -> None:
        user = sync_django_user(user_body(id="user_1", email="ada@example.com", verified=False))
        assert user.email == "clerk_user_1@clerk.invalid"

    def test_an_address_that_is_needed_is_not_cleared(self) -> None:
        body = user_body(email="ada@example.com", updated_at=1)
        sync_django_user(body)
        assert sync_django_user({**body, "primary_email_address_id": None, "updated_at": 2}).email == "ada@example.com"

    def test_several_who_carry_the_id_are_refused(self) -> None:
        """USR-03."""
        for name in ("ada", "bob"):
            User.objects.create(email=f"{name}@example.com", clerk_user_id="user_1")
        with pytest.raises(AccountRefused):
            sync_django_user(user_body(id="user_1"))


@only("FullUser")
class TestFullUser:
    def test_columns_of_all_types_are_filled(self, settings: Any) -> None:
        settings.CLERK_USER_FIELDS = {
            "first_name": "given_name",
            "public_metadata": "metadata",
            "external_id": "employee_number",
            "locale": "manager",
        }
        user = sync_django_user(
            user_body(
                id="user_1",
                first_name="Augusta",
                image_url="https://img.clerk.com/1",
                last_active_at=1_767_355_200_000,
                public_metadata={"plan": "pro\x00"},
                external_id="7",
                locale="1",
            )
        )
        user.refresh_from_db()
        assert (user.clerk_user_id, user.given_name, user.first_name) == ("user_1", "Augus", "")
        assert (user.image, user.employee_number, user.metadata) == ("https://img.clerk.com/1", 7, {"plan": "pro"})
        assert user.last_active_at == datetime(2026, 1, 2, 12, tzinfo=UTC)
        assert user.manager is None

    def test_a_row_that_carries_the_id_is_adopted(self) -> None:
        """Section 5 of the contract: a project that comes from elsewhere keeps its users."""
        user = User.objects.create(username="local", clerk_user_id="user_1", is_staff=True, password="old")
        linked: list[Any] = []

        def note(**sent: Any) -> None:
            linked.append(sent["user"])

        signals.clerk_user_linked.connect(note)
        try:
            assert sync_django_user(user_body(id="user_1", username="ada", first_name="Ada")) == user
        finally:
            signals.clerk_user_linked.disconnect(note)
        assert linked == [user]
        user.refresh_from_db()
        assert (user.username, user.first_name, user.password, user.clerk_account.linked) == (
            "local",
            "Ada",
            "old",
            True,
        )

    def test_but_not_if_it_is_linked_to_another(self) -> None:
        """USR-04."""
        user = User.objects.create(username="local", clerk_user_id="user_1")
        ClerkAccount.objects.create(user=user, clerk_id="user_2")
        with pytest.raises(AccountRefused):
            sync_django_user(user_body(id="user_1"))

    def test_a_row_that_carries_another_id_is_not_linked(self) -> None:
        """USR-04."""
        user = User.objects.create(username="local", email="ada@example.com", clerk_user_id="user_2")
        with pytest.raises(AccountRefused):
            sync_django_user(user_body(id="user_1", email="ada@example.com"))
        user.refresh_from_db()
        assert user.clerk_user_id == "user_2"

    def test_a_row_of_the_address_is_linked_and_marked(self) -> None:
        User.objects.create(username="local", email="ada@example.com")
        assert sync_django_user(user_body(id="user_1", email="ada@example.com")).clerk_user_id == "user_1"

    def test_an_address_that_is_another_users_is_not_taken(self, caplog: pytest.LogCaptureFixture) -> None:
        """USR-11: the old value stays, and the sign-in succeeds."""
        sync_django_user(user_body(email="ada@example.com"))
        body = user_body(email="bob@example.com", updated_at=1)
        sync_django_user(body)
        entry = email_body("ada@example.com")
        moved = {"email_addresses": [entry], "primary_email_address_id": entry["id"]}
        user = sync_django_user({**body, **moved, "first_name": "Bob", "updated_at": 2})
        assert (user.email, user.first_name) == ("bob@example.com", "Bob")
        assert "another user's" in caplog.text
        assert "ada@" not in caplog.text

    def test_without_linking_a_taken_address_stays_empty(self, settings: Any) -> None:
        settings.CLERK_LINK_BY_EMAIL = False
        User.objects.create(username="local", email="ada@example.com")
        assert sync_django_user(user_body(email="ada@example.com")).email is None

    def test_whom_the_project_hides_stays_hidden(self, local_clerk: LocalClerk) -> None:
        """A default manager that leaves rows out has the last word."""
        ada = local_clerk.add_user()
        sync_django_user(ada.data)
        User.objects.update(removed=True)
        with pytest.raises(AccountRefused) as caught:
            resolve(ada.id, {}, config=config(), budget=Budget(5))
        assert caught.value.reason == "user-inactive"


def test_all_users_are_synced_by_command(local_clerk: LocalClerk) -> None:
    for number in range(3):
        local_clerk.add_user(email=f"{number}@example.com", username=f"user{number}")
    gone = local_clerk.add_user(email="gone@example.com")
    call_command("clerk_sync", verbosity=0)
    local_clerk.delete_user(gone)
    ClerkAccount.objects.update(synced_at=datetime(2026, 1, 1, tzinfo=UTC))
    call_command("clerk_sync", "--dry-run", verbosity=0)
    assert not ClerkAccount.objects.filter(deactivated=True).exists()
    call_command("clerk_sync", verbosity=0)
    assert User.objects.count() == 4
    assert ClerkAccount.objects.get(deactivated=True).clerk_id == gone.id


def test_a_user_is_linked_by_command(local_clerk: LocalClerk) -> None:
    """USR-04: also where another row carries the id."""
    ada = local_clerk.add_user(email="ada@example.com", username="ada")
    user = sync_django_user(user_body(email="own@example.com", username="own"))
    ClerkAccount.objects.all().delete()
    call_command("clerk_link", str(user.pk), ada.id)
    assert read_user(ada.id) == user
    if not hasattr(user, "clerk_user_id"):
        return
    user.refresh_from_db()
    assert user.clerk_user_id == ada.id
    other = sync_django_user(user_body(email="other@example.com", username="other"))
    ClerkAccount.objects.all().delete()
    with pytest.raises(CommandError, match="stands in clerk_user_id"):
        call_command("clerk_link", str(other.pk), ada.id)
    call_command("clerk_link", other.get_username(), ada.id, "--force")
    assert read_user(ada.id) == other
    user.refresh_from_db()
    assert not user.clerk_user_id


@only("FullUser")
class TestTheLinkByHand:
    def test_a_user_whom_the_manager_hides_is_not_linked(self, local_clerk: LocalClerk) -> None:
        """USR-05: he could not sign in."""
        ada = local_clerk.add_user(email="ada@example.com")
        User._base_manager.create(username="gone", email="gone@example.com", given_name="G", removed=True)
        with pytest.raises(CommandError, match="Not linked: the user model's default manager hides the user"):
            call_command("clerk_link", "gone", ada.id)
        assert not ClerkAccount.objects.exists()
