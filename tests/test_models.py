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
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from clerk_views import clerk_client
from clerk_views.models import ClerkAccount
from clerk_views.profiles import DELETED
from clerk_views.testing import LocalClerk

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


class TestIndexOfAddresses:
    """USR-01: the search for a user to link at each first sign-in, on Django's own table of users."""

    pytestmark = pytest.mark.skipif(User._meta.label != "auth.User", reason="another user model names its own index")

    @staticmethod
    def names() -> set[str]:
        with connection.cursor() as cursor:
            return {name for name in connection.introspection.get_constraints(cursor, "auth_user") if "clerk" in name}

    def test_serves_the_search_at_a_first_sign_in(self, local_clerk: LocalClerk) -> None:
        clerk_user = clerk_client.get_user_details(local_clerk.add_user(email="ada@example.com").id)
        with CaptureQueriesContext(connection) as queries:
            clerk_client.sync_django_user(clerk_user)
        searches = [query["sql"] for query in queries if "auth_user" in query["sql"] and "example.com" in query["sql"]]
        searches = [search for search in searches if search.startswith("SELECT")]
        assert searches
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SET LOCAL enable_seqscan = off")  # on a table this small it would rather not
            for search in searches:
                cursor.execute(f"EXPLAIN {'QUERY PLAN ' if connection.vendor == 'sqlite' else ''}{search}")
                assert "clerk_views_email_lower" in str(cursor.fetchall())

    @pytest.mark.django_db(transaction=True)
    def test_comes_and_goes_with_its_migration(self) -> None:
        try:
            for there in (False, True):
                call_command("migrate", "clerk_views", "0006" if there else "0005", verbosity=0)
                assert self.names() == ({"clerk_views_email_lower"} if there else set())
        finally:
            call_command("migrate", "clerk_views", verbosity=0)

    @pytest.mark.django_db(transaction=True)
    def test_what_is_done_already_is_left_alone(self) -> None:
        """A large table is given its index beforehand; and SQLite loses it when Django makes the table anew."""
        migration = import_module("clerk_views.migrations.0006_auth_user_email_lower")
        try:
            for step, there in ((migration.add, True), (migration.remove, False), (migration.remove, False)):
                with connection.schema_editor() as editor:
                    step(apps, editor)
                assert bool(self.names()) is there
        finally:
            with connection.schema_editor() as editor:
                migration.add(apps, editor)
        assert self.names() == {"clerk_views_email_lower"}

    @pytest.mark.django_db(transaction=True)
    def test_is_not_made_where_the_users_are_not(self, settings: Any) -> None:
        class Elsewhere:
            def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
                return app_label != "auth"

        migration = import_module("clerk_views.migrations.0006_auth_user_email_lower")

        def run(step: Any, model: str, routers: list[Any]) -> set[str]:
            settings.AUTH_USER_MODEL, settings.DATABASE_ROUTERS = model, routers
            with connection.schema_editor() as editor:
                step(apps, editor)
            return self.names()

        places: list[tuple[str, list[Any]]] = [("auth.User", [Elsewhere()]), ("somebody.Else", [])]
        try:
            assert [run(migration.remove, *place) for place in places] == [{"clerk_views_email_lower"}] * 2
            run(migration.remove, "auth.User", [])
            assert [run(migration.add, *place) for place in places] == [set()] * 2
        finally:
            run(migration.add, "auth.User", [])


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
