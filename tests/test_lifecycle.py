"""
The life of a user, as a visitor sees it: from the first word about him to the last, at every door.

Threats: LFC-01 to LFC-05, CAC-03, USR-07, USR-12, WHK-05, F-09, F-11.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from typing import Any

import httpx
import pytest
import time_machine
from clerk_backend_api.models import ClerkBaseError
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.core.management import call_command
from django.db import transaction
from django.test import Client

from clerk_views import ClerkAuth, clerk_client
from clerk_views.accounts import read_user, sync_django_user
from clerk_views.conf import config
from clerk_views.exceptions import ClerkUnavailable, UserNotFound
from clerk_views.models import ClerkAccount
from clerk_views.profiles import absent
from clerk_views.sync import write_profile
from clerk_views.testing import LocalClerk, LocalUser
from clerk_views.testing.organizations import LocalOrganization
from tests.conftest import World
from tests.doors import DOORS, FEW, MIDDLEWARE, Door, door_id
from tests.requirement_doors import FEW_DOORWAYS, Doorway, doorway_id, served

pytestmark = pytest.mark.django_db

User: Any = get_user_model()


@pytest.fixture
def ada(local_clerk: LocalClerk) -> LocalUser:
    return local_clerk.add_user(email="ada@example.com", username="ada")


@pytest.fixture
def tell(local_clerk: LocalClerk, client: Client) -> Callable[[str, LocalUser], None]:
    """``tell("user.updated", user)``: send that webhook."""

    def send(event_type: str, user: LocalUser) -> None:
        assert local_clerk.send_webhook(Client(), event_type, user).is_taken

    return send


def ban(clerk: LocalClerk, user: LocalUser) -> str:
    clerk.update_user(user, banned=True)
    return "user.updated"


def delete(clerk: LocalClerk, user: LocalUser) -> str:
    clerk.delete_user(user)
    return "user.deleted"


ENDS = pytest.mark.parametrize("end", [ban, delete])


class TestDoors:
    @ENDS
    @pytest.mark.parametrize("door", DOORS, ids=door_id)
    def test_a_webhook_shuts_every_door_at_once(
        self, local_clerk: LocalClerk, ada: LocalUser, tell: Any, door: Door, end: Any
    ) -> None:
        """LFC-01, LFC-02, CAC-03: the token is good, its verdict remembered, the user in sync a moment ago."""
        token = local_clerk.token(ada)
        assert door.verdict(door.send(f"Bearer {token}")) == ada.id
        tell(end(local_clerk, ada), ada)
        local_clerk.calls.reset()
        began = time.monotonic()
        response = door.send(f"Bearer {token}")
        assert time.monotonic() - began < 10  # at once: what is remembered of users lasts a minute and more
        assert door.verdict(response) == "403"
        assert local_clerk.calls.total == 0
        renewed = local_clerk.token(ada, issued_at=time.time() + 1)
        assert door.verdict(door.send(f"Bearer {renewed}")) == "403"

    @pytest.mark.parametrize("door", FEW, ids=door_id)
    def test_a_ban_that_is_taken_back_opens_them_again(
        self, local_clerk: LocalClerk, ada: LocalUser, tell: Any, door: Door
    ) -> None:
        """USR-07: also after a door has found out by itself, and the cache remembers it."""
        token = local_clerk.token(ada)
        local_clerk.update_user(ada, banned=True)
        assert door.verdict(door.send(f"Bearer {token}")) == "403"
        local_clerk.update_user(ada, banned=False)
        tell("user.updated", ada)
        assert door.verdict(door.send(f"Bearer {token}")) == ada.id

    @pytest.mark.parametrize("door", FEW, ids=door_id)
    def test_an_administrators_lock_outlasts_all_news(
        self, local_clerk: LocalClerk, ada: LocalUser, tell: Any, door: Door
    ) -> None:
        """USR-07."""
        token = local_clerk.token(ada)
        door.send(f"Bearer {token}")
        User.objects.update(is_active=False)
        tell("user.updated", local_clerk.update_user(ada, banned=True))
        tell("user.updated", local_clerk.update_user(ada, banned=False))
        assert door.verdict(door.send(f"Bearer {token}")) == "403"

    @pytest.mark.parametrize("source", ["api", "claims"])
    @pytest.mark.parametrize("door", FEW, ids=door_id)
    def test_who_was_deleted_unseen_does_not_come_in(
        self, local_clerk: LocalClerk, ada: LocalUser, tell: Any, settings: Any, door: Door, source: str
    ) -> None:
        """LFC-02: with claims Clerk is not asked, and the token alone would create the user."""
        settings.CLERK_USER_SOURCE = source
        token = local_clerk.token(ada)
        tell(delete(local_clerk, ada), ada)
        assert door.verdict(door.send(f"Bearer {token}")) == "403"
        assert not User.objects.exists()


class TestFreshness:
    """Contract, section 3: a synced user counts as fresh, whoever has synced him."""

    @pytest.fixture
    def calls(self, local_clerk: LocalClerk, ada: LocalUser, each_world: World) -> Callable[[], int]:
        """``calls()``: let Ada come by with a new token; return how often Clerk was asked for her in all."""

        def come_by() -> int:
            headers = {"authorization": f"Bearer {local_clerk.token(ada, issued_at=time.time())}"}
            assert each_world.get("/required/", headers=headers).status_code in (200, 403)
            return local_clerk.calls.user_fetches

        return come_by

    def late(self, local_clerk: LocalClerk, user: LocalUser, seconds: float) -> None:
        """Deliver news of a user that is so old."""
        message = local_clerk.webhook("user.updated", user)
        told = {**json.loads(message.body), "timestamp": int((time.time() - seconds) * 1000)}
        assert replace(message, body=json.dumps(told).encode()).send(Client()).is_taken

    def test_a_user_whom_a_webhook_brought_needs_no_call(self, ada: LocalUser, tell: Any, calls: Any) -> None:
        tell("user.created", ada)
        assert [calls() for _ in range(3)] == [0, 0, 0]

    def test_nor_does_one_whom_a_full_sync_brought(self, ada: LocalUser, calls: Any) -> None:
        call_command("clerk_sync", stdout=StringIO(), stderr=StringIO())
        assert [calls() for _ in range(2)] == [0, 0]

    @pytest.mark.parametrize("known", [False, True])
    def test_what_was_taken_back_counts_for_nothing(self, ada: LocalUser, calls: Any, known: bool) -> None:
        if known:
            sync_django_user(ada.data)
            time.sleep(0.002)
        with transaction.atomic():
            call_command("clerk_sync", stdout=StringIO(), stderr=StringIO())
            transaction.set_rollback(True)
        assert [calls() for _ in range(2)] == [1, 1]

    def test_a_dry_run_makes_nobody_fresh(self, ada: LocalUser, calls: Any) -> None:
        sync_django_user(ada.data)
        call_command("clerk_sync", "--dry-run", stdout=StringIO(), stderr=StringIO())
        assert calls() == 1

    @pytest.mark.parametrize(("age", "expected"), [(0, 0), (100, 0), (299, 0), (301, 1), (100_000, 1)])
    def test_news_is_as_old_as_clerk_says(
        self, local_clerk: LocalClerk, ada: LocalUser, calls: Any, age: float, expected: int
    ) -> None:
        """USR-12: a message that was tried again for hours does not hide what happened since."""
        with time_machine.travel(time.time(), tick=False):
            self.late(local_clerk, ada, age)
            assert calls() == expected

    def test_it_is_over_in_time(self, local_clerk: LocalClerk, ada: LocalUser, calls: Any) -> None:
        now = time.time()
        with time_machine.travel(now, tick=False) as clock:
            self.late(local_clerk, ada, 200)
            clock.move_to(now + 98)
            assert calls() == 0
            clock.move_to(now + 102)
            assert calls() == 1

    def test_a_clock_that_is_ahead_makes_nobody_fresh_for_longer(
        self, local_clerk: LocalClerk, ada: LocalUser, calls: Any
    ) -> None:
        """F-20."""
        now = time.time()
        with time_machine.travel(now, tick=False) as clock:
            self.late(local_clerk, ada, -3600)
            assert calls() == 0
            clock.move_to(now + 301)
            assert calls() == 1

    def test_who_is_not_let_in_is_not_fresh(
        self, local_clerk: LocalClerk, ada: LocalUser, tell: Any, calls: Any
    ) -> None:
        """LFC-01: when the ban is lifted unheard, the next sync finds out."""
        tell("user.updated", local_clerk.update_user(ada, banned=True))
        local_clerk.update_user(ada, banned=False)
        assert calls() == 1
        assert User.objects.get().is_active

    def test_what_changes_nothing_makes_nobody_fresh(
        self, local_clerk: LocalClerk, ada: LocalUser, tell: Any, calls: Any
    ) -> None:
        """USR-12: older news says nothing of now."""
        old = local_clerk.webhook("user.updated", ada)
        sync_django_user(local_clerk.update_user(ada, first_name="Augusta").data)
        assert old.send(Client()).is_taken
        assert calls() == 1

    def test_news_does_not_hide_what_clerk_has_said_since(
        self, local_clerk: LocalClerk, ada: LocalUser, tell: Any, calls: Any
    ) -> None:
        """F-09, LFC-02: Clerk knew her no more when asked, and a message of before arrives."""
        tell("user.created", ada)
        cache.clear()
        late = local_clerk.webhook("user.updated", local_clerk.update_user(ada, first_name="late"))
        local_clerk.delete_user(ada)
        assert calls() == 1
        assert not User.objects.get().is_active
        assert late.send(Client()).is_taken
        assert calls() == 2
        assert not User.objects.get().is_active

    def test_claims_are_read_all_the_same(
        self, local_clerk: LocalClerk, ada: LocalUser, tell: Any, settings: Any, client: Client
    ) -> None:
        """They may tell what Clerk's user object does not, and cost no call."""
        settings.CLERK_USER_SOURCE = "claims"
        settings.CLERK_USER_CLAIMS = {"first_name": "nick"}
        tell("user.created", ada)
        token = local_clerk.token(ada, nick="Lovelace", issued_at=time.time() + 2)
        assert client.get("/required/", headers={"authorization": f"Bearer {token}"}).status_code == 200
        assert User.objects.get().first_name == "Lovelace"

    def test_a_cache_that_is_away_costs_no_more_than_the_call(
        self, ada: LocalUser, tell: Any, calls: Any, settings: Any
    ) -> None:
        """F-11."""
        settings.CACHES = {"default": {"BACKEND": "tests.caches.BrokenCache"}}
        tell("user.created", ada)
        assert User.objects.get().is_active
        assert calls() <= 1


class TestDjangoSessions:
    """LFC-01, LFC-04."""

    @ENDS
    def test_they_end_with_the_user(
        self, local_clerk: LocalClerk, ada: LocalUser, tell: Any, end: Any, settings: Any, each_world: World
    ) -> None:
        user = sync_django_user(ada.data)
        user.set_password("local")
        user.save()
        settings.ROOT_URLCONF = "tests.page_urls"
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
        each_world.client.force_login(user)
        assert each_world.get("/login/").status_code == 200
        tell(end(local_clerk, ada), ada)
        assert each_world.get("/login/").status_code == 302
        assert not Client().login(username=user.get_username(), password="local")


class TestComingBack:
    def test_a_recreated_user_inherits_nothing(
        self, local_clerk: LocalClerk, ada: LocalUser, tell: Any, client: Client
    ) -> None:
        """LFC-02: neither the row nor what it may do."""
        old = sync_django_user(ada.data)
        User.objects.filter(pk=old.pk).update(is_superuser=True)
        tell(delete(local_clerk, ada), ada)
        again = local_clerk.add_user(email="ada@example.com", username="ada")
        tell("user.created", again)
        headers = {"authorization": f"Bearer {local_clerk.token(again)}"}
        assert client.get("/required/", headers=headers).status_code == 403
        assert read_user(again.id) is None
        old.refresh_from_db()
        assert (old.is_active, old.clerk_account.clerk_id) == (False, ada.id)

    @pytest.mark.parametrize("door", FEW, ids=door_id)
    def test_late_news_of_the_deleted_lets_nobody_in(
        self, local_clerk: LocalClerk, ada: LocalUser, tell: Any, door: Door
    ) -> None:
        """WHK-05, LFC-02: it makes the inactive user that would be there had it come in its turn."""
        token = local_clerk.token(ada)
        late = local_clerk.webhook("user.updated", local_clerk.update_user(ada, first_name="late"))
        tell(delete(local_clerk, ada), ada)
        account = ClerkAccount.objects.get()
        assert (account.user, account.deleted, account.deactivated, str(account)) == (None, True, True, ada.id)
        for _ in range(2):
            assert late.send(Client()).is_taken
            tell("user.deleted", ada)
            user = User.objects.get()
            assert (user.first_name, user.is_active, user.has_usable_password()) == ("late", False, False)
            assert door.verdict(door.send(f"Bearer {token}")) == "403"

    def test_late_news_locks_nobody_in_who_has_privileges(
        self, local_clerk: LocalClerk, ada: LocalUser, tell: Any
    ) -> None:
        """USR-05, LFC-02: neither linked nor deactivated, as in any other order."""
        root = User.objects.create_superuser("root", "ada@example.com", "old")
        late = local_clerk.webhook("user.created", ada)
        tell("user.deleted", ada)
        assert late.send(Client()).is_taken
        root.refresh_from_db()
        assert (root.is_active, root.check_password("old"), User.objects.count()) == (True, True, 1)
        assert ClerkAccount.objects.get().user is None

    def test_a_404_is_no_deletion(self, ada: LocalUser) -> None:
        """F-09: with the key of another instance everybody is unknown, and may come once the right key is there."""
        with pytest.raises(UserNotFound):
            write_profile(absent(ada.id), config())
        assert not ClerkAccount.objects.exists()
        assert sync_django_user(ada.data).is_active

    def test_what_is_known_of_the_deleted_is_said(self, ada: LocalUser) -> None:
        gone = {"id": ada.id, "deleted": True}
        for _ in range(2):
            with pytest.raises(UserNotFound):
                sync_django_user(gone)
        for news in (ada.data, gone):
            assert not sync_django_user(news).is_active


def still_a_member(auth: ClerkAuth) -> bool:
    """Ask Clerk itself: what SECURITY.md says of views that cannot wait for a token to expire."""
    try:
        found: Any = clerk_client.sdk.users.get_organization_memberships(user_id=auth.user_id or "", limit=100)
    except (ClerkBaseError, httpx.HTTPError) as error:
        raise ClerkUnavailable("upstream-unavailable") from error
    return any(membership.organization.id == auth.org_id for membership in found.data)


@pytest.mark.parametrize("door", FEW_DOORWAYS, ids=doorway_id)
class TestMembership:
    """LFC-05: rights come from the current token alone."""

    @pytest.fixture
    def acme(self, local_clerk: LocalClerk, ada: LocalUser) -> LocalOrganization:
        acme = local_clerk.add_organization(name="Acme")
        local_clerk.add_member(acme, ada, "org:admin")
        return acme

    def test_its_end_counts_with_the_next_token(
        self, local_clerk: LocalClerk, ada: LocalUser, acme: LocalOrganization, door: Doorway
    ) -> None:
        session = local_clerk.open_session(ada, organization=acme)
        now = time.time()
        with served({"role": "org:admin"}) as visit, time_machine.travel(now, tick=False) as clock:
            token = f"Bearer {local_clerk.session_token(session, issued_at=now)}"
            assert visit(door, token).status_code == 200
            local_clerk.remove_member(acme, ada)
            clock.move_to(now + 59)
            assert visit(door, token).status_code == 200
            renewed = f"Bearer {local_clerk.session_token(session, issued_at=now + 59)}"
            assert visit(door, renewed).status_code == 403
            clock.move_to(now + 66)  # the leeway is over, too
            assert visit(door, token).status_code == 401

    def test_a_view_may_ask_clerk_each_time(
        self, local_clerk: LocalClerk, ada: LocalUser, acme: LocalOrganization, door: Doorway
    ) -> None:
        token = f"Bearer {local_clerk.token(ada, organization=acme)}"
        with served({"role": "org:admin", "condition": still_a_member}) as visit:
            assert visit(door, token).status_code == 200
            local_clerk.remove_member(acme, ada)
            assert visit(door, token).status_code == 403
            local_clerk.faults.down()
            assert visit(door, token).status_code == 503
