"""The table of links, its migrations, and its place in the admin. Threat: CAC-04."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.urls import reverse

from clerk_views.models import ClerkAccount
from clerk_views.profiles import DELETED

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("local_clerk")]

User: Any = get_user_model()


@pytest.fixture
def user() -> Any:
    return User.objects.create(username="ada")


def test_migrations_are_complete() -> None:
    call_command("makemigrations", "clerk_views", check=True, dry_run=True, verbosity=0)


def test_deletions_of_before_are_told_apart(user: Any) -> None:
    """LFC-02: they stood in place of the time of the last change."""
    ClerkAccount.objects.create(user=user, clerk_id="user_1", clerk_updated_at=DELETED, deactivated=True)
    ClerkAccount.objects.create(clerk_id="user_2", clerk_updated_at=5)
    migration = import_module("clerk_views.migrations.0004_deletions")
    migration._tell_deletions_apart(apps, SimpleNamespace(connection=connection))
    told = dict(ClerkAccount.objects.values_list("clerk_id", "deleted"))
    times = dict(ClerkAccount.objects.values_list("clerk_id", "clerk_updated_at"))
    assert (told, times) == ({"user_1": True, "user_2": False}, {"user_1": None, "user_2": 5})


def test_one_user_one_clerk_id(user: Any) -> None:
    ClerkAccount.objects.create(user=user, clerk_id="user_1")
    other = User.objects.create(username="bob")
    for taken in ({"user": user, "clerk_id": "user_2"}, {"user": other, "clerk_id": "user_1"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            ClerkAccount.objects.create(**taken)


def test_ids_differ_by_case_on_every_database(user: Any) -> None:
    """CAC-04."""
    ClerkAccount.objects.create(user=user, clerk_id="user_aB")
    ClerkAccount.objects.create(user=User.objects.create(username="bob"), clerk_id="user_Ab")
    assert [account.user for account in ClerkAccount.objects.filter(clerk_id="user_aB")] == [user]
    if connection.vendor == "mysql":
        with connection.cursor() as cursor:
            description = connection.introspection.get_table_description(cursor, ClerkAccount._meta.db_table)
        assert {column.collation for column in description if column.name == "clerk_id"} == {"utf8mb4_bin"}


def test_ids_of_any_length_of_clerks_fit(user: Any) -> None:
    account = ClerkAccount.objects.create(user=user, clerk_id="user_" + "x" * 250)
    account.refresh_from_db()
    assert str(account) == "user_" + "x" * 250


class TestAdmin:
    @pytest.fixture(autouse=True)
    def _signed_in(self, client: Client, settings: Any) -> None:
        settings.ROOT_URLCONF = "tests.admin_urls"
        client.force_login(User.objects.create_superuser("root", password="x"))

    def test_links_are_found_by_id_and_name(self, client: Client, user: Any) -> None:
        ClerkAccount.objects.create(user=user, clerk_id="user_1")
        url = reverse("admin:clerk_views_clerkaccount_changelist")
        for text in ("user_1", "ada"):
            assert "user_1" in client.get(url, {"q": text}).content.decode()
        assert "user_1" not in client.get(url, {"q": "bob"}).content.decode()

    def test_an_existing_link_is_only_looked_at(self, client: Client, user: Any) -> None:
        account = ClerkAccount.objects.create(user=user, clerk_id="user_1")
        url = reverse("admin:clerk_views_clerkaccount_change", args=[account.pk])
        assert '<input type="text"' not in client.get(url).content.decode()
        assert client.post(url, {"clerk_id": "user_2", "deactivated": "on"}).status_code == 302
        account.refresh_from_db()
        assert (account.clerk_id, account.deactivated, account.linked) == ("user_1", False, False)

    def test_a_link_is_made_by_hand(self, client: Client, user: Any) -> None:
        """USR-05: the way for staff."""
        url = reverse("admin:clerk_views_clerkaccount_add")
        assert client.post(url, {"user": user.pk, "clerk_id": "user_1"}).status_code == 302
        assert ClerkAccount.objects.get(clerk_id="user_1", user=user).linked
