"""Clerk in Django's admin: what is shown, what can be done there, and by whom. Threats: LFC-01, LFC-02, USR-05."""

from __future__ import annotations

import re
import types
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import path, reverse
from django.utils import timezone
from django.utils.formats import date_format

from clerk_views.accounts import sync_django_user
from clerk_views.admin import ClerkColumns, sync_now
from clerk_views.models import ClerkAccount
from clerk_views.testing import LocalClerk, LocalUser

pytestmark = pytest.mark.django_db

User: Any = get_user_model()
ACCOUNTS = "admin:clerk_views_clerkaccount"
USERS = f"admin:{User._meta.app_label}_{User._meta.model_name}"


@pytest.fixture
def root(client: Client, settings: Any) -> Any:
    settings.ROOT_URLCONF = "tests.admin_urls"
    user = User.objects.create_superuser("root", "root@example.com", "x")
    client.force_login(user)
    return user


@pytest.fixture
def ada(local_clerk: LocalClerk, root: Any) -> LocalUser:
    ada = local_clerk.add_user(email="ada@example.com", username="ada", first_name="Ada")
    sync_django_user(ada.data)
    return ada


@pytest.fixture
def user_admin(settings: Any) -> None:
    """A project's own user admin with ours in it, as the README has it."""

    class Admin(ClerkColumns, UserAdmin):  # type: ignore[type-arg]  # generic in the stubs alone
        list_display = ["username", "clerk_user", "last_sync"]
        readonly_fields = ["clerk_user", "last_sync"]
        fieldsets = [(None, {"fields": ["username", "clerk_user", "last_sync"]})]
        actions = [sync_now]

    site = admin.AdminSite()
    site.register(User, Admin)
    urls: Any = types.ModuleType("user_admin_urls")
    urls.urlpatterns = [path("admin/", site.urls)]
    settings.ROOT_URLCONF = urls


def act(client: Client, page: str, *rows: Any) -> list[tuple[str, str]]:
    """Sync these rows on this page; return the messages with their levels."""
    data = {"action": "sync_now", "_selected_action": [row.pk for row in rows]}
    response = client.post(reverse(f"{page}_changelist"), data)
    assert response.status_code == 302
    return [(message.level_tag, str(message)) for message in get_messages(response.wsgi_request)]


def test_an_account_leads_to_clerks_dashboard(client: Client, ada: LocalUser) -> None:
    url = reverse(f"{ACCOUNTS}_change", args=[ClerkAccount.objects.get().pk])
    page = client.get(url).content.decode()
    assert f'<a href="https://dashboard.clerk.com/last-active?path=users/{ada.id}"' in page
    assert 'name="clerk_id"' not in page
    added = client.get(reverse(f"{ACCOUNTS}_add")).content.decode()
    assert "dashboard.clerk.com" not in added
    assert 'name="clerk_id"' in added


def test_an_id_is_shown_as_text(client: Client, root: Any) -> None:
    account = ClerkAccount.objects.create(user=root, clerk_id='"><script>')
    assert "<script>&quot;" not in (
        page := client.get(reverse(f"{ACCOUNTS}_change", args=[account.pk])).content.decode()
    )
    assert "&quot;&gt;&lt;script&gt;" in page


def test_a_user_who_was_deleted_unseen_is_shown(client: Client, root: Any) -> None:
    account = ClerkAccount.objects.create(clerk_id="user_gone", deactivated=True)
    assert "user_gone" in client.get(reverse(f"{ACCOUNTS}_changelist")).content.decode()
    assert client.get(reverse(f"{ACCOUNTS}_change", args=[account.pk])).status_code == 200


def test_a_link_by_hand_wants_a_user(client: Client, root: Any) -> None:
    response = client.post(reverse(f"{ACCOUNTS}_add"), {"user": "", "clerk_id": "user_1"})
    assert response.status_code == 200
    assert not ClerkAccount.objects.exists()


def test_every_row_says_what_came_of_it(client: Client, local_clerk: LocalClerk, ada: LocalUser) -> None:
    """LFC-01, LFC-02."""
    others = [local_clerk.add_user(username=name) for name in ("banned", "gone")]
    for user in others:
        sync_django_user(user.data)
    local_clerk.update_user(ada, first_name="Augusta")
    local_clerk.update_user(others[0], banned=True)
    local_clerk.delete_user(others[1])
    ClerkAccount.objects.create(clerk_id="user_unseen", deactivated=True)
    assert sorted(act(client, ACCOUNTS, *ClerkAccount.objects.all())) == sorted(
        [
            ("success", f"{ada.id}: ada is in step."),
            ("warning", f"{others[0].id}: banned at Clerk. banned is inactive."),
            ("warning", f"{others[1].id}: Clerk has no such user. gone is inactive."),
            ("warning", "user_unseen: this Clerk user was deleted."),
        ]
    )
    assert User.objects.get(username="ada").first_name == "Augusta"
    assert set(User.objects.filter(is_active=False).values_list("username", flat=True)) == {"banned", "gone"}


def test_an_outage_is_said_and_changes_nothing(client: Client, local_clerk: LocalClerk, ada: LocalUser) -> None:
    local_clerk.faults.down()
    [(level, text)] = act(client, ACCOUNTS, *ClerkAccount.objects.all())
    assert (level, text) == ("error", f"{ada.id}: not compared (upstream-unavailable); try again later.")
    assert User.objects.get(username="ada").is_active


def test_without_a_key_nothing_is_compared(
    client: Client, local_clerk: LocalClerk, ada: LocalUser, settings: Any
) -> None:
    settings.CLERK_SECRET_KEY = None
    settings.CLERK_USER_SOURCE = "claims"
    settings.CLERK_JWT_KEY = local_clerk.signing_key.public_pem
    [(level, text)] = act(client, ACCOUNTS, *ClerkAccount.objects.all())
    assert (level, text) == ("error", f"{ada.id}: not compared, as there is no CLERK_SECRET_KEY.")


def test_who_may_only_look_may_not_sync(client: Client, local_clerk: LocalClerk, ada: LocalUser) -> None:
    clerk = User.objects.create_user("looker", "looker@example.com", "x", is_staff=True)
    clerk.user_permissions.add(Permission.objects.get(codename="view_clerkaccount"))
    client.force_login(clerk)
    page = reverse(f"{ACCOUNTS}_changelist")
    assert "sync_now" not in client.get(page).content.decode()
    local_clerk.calls.reset()
    client.post(page, {"action": "sync_now", "_selected_action": [ClerkAccount.objects.get().pk]})
    assert local_clerk.calls.total == 0


def test_users_are_shown_with_their_clerk_users(client: Client, ada: LocalUser, root: Any, user_admin: None) -> None:
    link = f'<a href="https://dashboard.clerk.com/last-active?path=users/{ada.id}"'
    user = User.objects.get(username="ada")
    for url in (reverse(f"{USERS}_change", args=[user.pk]), reverse(f"{USERS}_changelist")):
        page = client.get(url).content.decode()
        assert link in page
        assert date_format(timezone.localtime(user.clerk_account.synced_at), "DATETIME_FORMAT") in page
    assert "dashboard.clerk.com" not in client.get(reverse(f"{USERS}_change", args=[root.pk])).content.decode()


def edited(client: Client, user: Any) -> set[str]:
    """Return the columns that the form of a user has inputs for."""
    page = client.get(reverse(f"{USERS}_change", args=[user.pk])).content.decode()
    return set(re.findall(r'<(?:input|select|textarea)[^>]* name="(\w+)"', page)) & {
        field.name for field in User._meta.get_fields()
    }


@pytest.fixture
def whole_user_admin(settings: Any) -> None:
    """A project's own user admin with all of Django's columns."""

    class Admin(ClerkColumns, UserAdmin):  # type: ignore[type-arg]  # generic in the stubs alone
        readonly_fields = ("last_login",)

    site = admin.AdminSite()
    site.register(User, Admin)
    urls: Any = types.ModuleType("whole_user_admin_urls")
    urls.urlpatterns = [path("admin/", site.urls)]
    settings.ROOT_URLCONF = urls


OWN = {"groups", "is_active", "is_staff", "is_superuser", "user_permissions"}


def test_what_clerk_fills_is_not_edited(
    client: Client, ada: LocalUser, root: Any, settings: Any, whole_user_admin: None
) -> None:
    user = User.objects.get(username="ada")
    assert edited(client, user) == OWN
    assert edited(client, root) == OWN | {"username", "first_name", "last_name", "email"}
    assert "username" in client.get(reverse(f"{USERS}_add")).content.decode()
    settings.CLERK_USER_FIELDS = {"first_name": None, "last_name": "tests.test_admin.nothing"}
    assert edited(client, user) == OWN | {"first_name", "last_name"}


def nothing(value: Any, clerk_user: Any) -> dict[str, Any]:
    """Stand for a function named in CLERK_USER_FIELDS."""
    return {}


def test_who_was_here_first_keeps_the_name(client: Client, ada: LocalUser, root: Any, whole_user_admin: None) -> None:
    ClerkAccount.objects.update(linked=True)
    assert edited(client, User.objects.get(username="ada")) == OWN | {"username"}


def test_the_operators_lock_is_his_and_the_syncs_is_not(
    client: Client, ada: LocalUser, root: Any, whole_user_admin: None
) -> None:
    """USR-07, LFC-01: what is cleared by hand stays so; what the sync has cleared would be cleared again."""
    user = User.objects.get(username="ada")
    joined = {"date_joined_0": "2026-01-02", "date_joined_1": "12:00:00"}
    url = reverse(f"{USERS}_change", args=[user.pk])
    assert client.post(url, joined).status_code == 302
    assert not sync_django_user(ada.data).is_active
    assert client.post(url, {**joined, "is_active": "on"}).status_code == 302
    assert sync_django_user({**ada.data, "banned": True}).is_active is False
    assert edited(client, user) == OWN - {"is_active"}
    assert client.post(url, {**joined, "is_active": "on"}).status_code == 302
    user.refresh_from_db()
    assert not user.is_active


def test_users_are_synced_from_their_own_list(
    client: Client, local_clerk: LocalClerk, ada: LocalUser, root: Any, user_admin: None
) -> None:
    local_clerk.update_user(ada, first_name="Augusta")
    assert act(client, USERS, *User.objects.all()) == [
        ("success", f"{ada.id}: ada is in step."),
        ("info", "1 without a Clerk user."),
    ]
    assert User.objects.get(username="ada").first_name == "Augusta"
