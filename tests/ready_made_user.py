"""Tests of clerk_views.users; tests/test_users_app.py runs them where ClerkUser is the user model."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core import mail
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from clerk_views.accounts import sync_django_user
from clerk_views.testing.directory import user_body
from clerk_views.users.models import ClerkUser

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("local_clerk")]


def test_migrations_are_complete() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_every_column_is_filled() -> None:
    user = sync_django_user(
        user_body(
            id="user_1",
            email="ada@example.com",
            username="ada",
            first_name="Ada",
            last_name="Lovelace",
            image_url="https://img.clerk.com/" + "x" * 300,
            last_active_at=1_767_355_200_000,
        )
    )
    user = ClerkUser.objects.get(pk=user.pk)
    assert (user.clerk_user_id, user.email, user.username) == ("user_1", "ada@example.com", "ada")
    assert user.image == "https://img.clerk.com/" + "x" * 300
    assert user.last_active_at == datetime(2026, 1, 2, 12, tzinfo=UTC)
    assert (user.get_full_name(), user.get_short_name(), str(user)) == ("Ada Lovelace", "Ada", "ada")


def test_users_without_address_or_clerk_id_are_many() -> None:
    """USR-11."""
    for name in ("ada", "bob"):
        user = ClerkUser.objects.create_user(name)
        user.clerk_user_id = ""
        user.full_clean()
        user.save()
        assert (user.clerk_user_id, user.email) == (None, "")
    with pytest.raises(ValidationError, match="exists already"):
        ClerkUser(username="ada").full_clean()


@pytest.mark.parametrize("create_user", [ClerkUser.objects.create_user, async_to_sync(ClerkUser.objects.acreate_user)])
def test_users_are_made_by_hand(create_user: Any) -> None:
    user = create_user("\ufb01ona", "Fi@EXAMPLE.com", "secret", first_name="Fi")
    assert (user.username, user.email, user.first_name) == ("fiona", "Fi@example.com", "Fi")
    assert user.check_password("secret")
    assert not create_user("bob").has_usable_password()
    with pytest.raises(ValueError, match="user name"):
        create_user("")


@pytest.mark.parametrize(
    "create_superuser", [ClerkUser.objects.create_superuser, async_to_sync(ClerkUser.objects.acreate_superuser)]
)
def test_superusers_are_made_by_hand(create_superuser: Any) -> None:
    user = create_superuser("root", password="secret")
    assert (user.is_staff, user.is_superuser, user.is_active) == (True, True, True)
    for flag in ("is_staff", "is_superuser"):
        with pytest.raises(ValueError, match=flag):
            create_superuser("other", **{flag: False})


def test_createsuperuser_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "secret")
    call_command("createsuperuser", username="root", email="root@example.com", interactive=False, verbosity=0)
    assert ClerkUser.objects.get().check_password("secret")


@pytest.mark.filterwarnings("ignore:Django 2028")  # 6.1 wants MAILERS, which 5.2 does not know
def test_mail_goes_to_whoever_has_an_address() -> None:
    ClerkUser(username="ada", email="ada@example.com").email_user("Hello", "Text")
    ClerkUser(username="bob").email_user("Hello", "Text")
    assert [message.to for message in mail.outbox] == [["ada@example.com"]]


class TestAdmin:
    @pytest.fixture(autouse=True)
    def _signed_in(self, client: Client, settings: Any) -> None:
        settings.ROOT_URLCONF = "tests.admin_urls"
        root: Any = ClerkUser.objects.create_superuser("root", password="secret")
        client.force_login(root)

    def test_users_are_found(self, client: Client) -> None:
        ClerkUser.objects.create_user("ada", clerk_user_id="user_1")
        url = reverse("admin:clerk_users_clerkuser_changelist")
        assert "ada" in client.get(url, {"q": "user_1"}).content.decode()

    def test_a_user_is_added_with_a_hashed_password(self, client: Client) -> None:
        url = reverse("admin:clerk_users_clerkuser_add")
        assert client.get(url).status_code == 200
        passwords = {"usable_password": "true", "password1": "a long secret", "password2": "a long secret"}
        assert client.post(url, {"username": "ada", **passwords}).status_code == 302
        assert ClerkUser.objects.get(username="ada").check_password("a long secret")

    def test_what_clerk_says_is_only_looked_at(self, client: Client) -> None:
        user = ClerkUser.objects.create_user("ada", password="secret", clerk_user_id="user_1")
        url = reverse("admin:clerk_users_clerkuser_change", args=[user.pk])
        page = client.get(url).content.decode()
        assert "user_1" in page
        assert "sync_now" in client.get(reverse("admin:clerk_users_clerkuser_changelist")).content.decode()
        assert user.password not in page
        assert 'name="clerk_user_id"' not in page
        joined = {"date_joined_0": "2026-01-02", "date_joined_1": "12:00:00"}
        form = {"username": "ada", "email": "ada@example.com", "first_name": "Ada", "clerk_user_id": "user_2", **joined}
        assert client.post(url, form).status_code == 302
        user.refresh_from_db()
        assert (user.first_name, user.clerk_user_id, user.is_active) == ("Ada", "user_1", False)
        assert user.check_password("secret")

    @pytest.mark.parametrize("deactivated", [False, True])
    def test_of_a_linked_user_only_the_operators_own_is_edited(self, client: Client, deactivated: bool) -> None:
        body = user_body(email="ada@example.com", username="ada", first_name="Ada", banned=deactivated)
        user = sync_django_user(body)
        url = reverse("admin:clerk_users_clerkuser_change", args=[user.pk])
        page = client.get(url).content.decode()
        edited = set(re.findall(r'name="(username|first_name|last_name|email|image|is_active|is_staff)"', page))
        assert edited == ({"is_staff"} if deactivated else {"is_staff", "is_active"})
        names = ("username", "first_name", "last_name", "email", "image")
        form = {**dict.fromkeys(names, "mallory@evil.example"), "is_staff": "on", "is_active": "on" * deactivated}
        joined = {"date_joined_0": "2026-01-02", "date_joined_1": "12:00:00"}
        assert client.post(url, {**form, **joined}).status_code == 302
        user.refresh_from_db()
        assert [getattr(user, name) for name in names] == ["ada", "Ada", "", "ada@example.com", user.image]
        assert (user.is_staff, user.is_active) == (True, False)
        assert sync_django_user(body).is_active is False  # nobody's word but the operator's unlocks whom he has locked
