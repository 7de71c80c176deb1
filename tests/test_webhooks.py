"""
What Clerk tells by webhooks: believed only if signed, taken once, in any order, and sent again if it could not be kept.

Threats: WHK-01 to WHK-08, USR-12, LFC-02, F-22, F-24, F-27, F-28, LOG-02 to LOG-04, CFG-01.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection, connections
from django.db.models.signals import post_save, pre_save
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from clerk_views import webhooks
from clerk_views.accounts import sync_django_user
from clerk_views.conf import config
from clerk_views.models import ClerkAccount, ClerkWebhookMessage
from clerk_views.revocation import is_revoked
from clerk_views.signals import clerk_user_synced, clerk_webhook_received
from clerk_views.sync import rank_of
from clerk_views.testing import LocalClerk, LocalUser
from clerk_views.testing.webhooks import LocalWebhook, new_webhook_secret
from tests.conftest import World
from tests.elsewhere import run_elsewhere

pytestmark = pytest.mark.django_db

User: Any = get_user_model()
PATH = "/clerk/webhook/"


@pytest.fixture
def ada(local_clerk: LocalClerk) -> LocalUser:
    return local_clerk.add_user(email="ada@example.com", username="ada", first_name="Ada")


@pytest.fixture
def created(local_clerk: LocalClerk, ada: LocalUser) -> LocalWebhook:
    """The news that Ada was created."""
    return local_clerk.webhook("user.created", ada)


@pytest.fixture
def heard() -> Iterator[list[dict[str, Any]]]:
    """What receivers of ``clerk_webhook_received`` were told."""
    heard: list[dict[str, Any]] = []

    def receiver(signal: Any, **sent: Any) -> None:
        heard.append(sent)

    clerk_webhook_received.connect(receiver)
    yield heard
    clerk_webhook_received.disconnect(receiver)


@pytest.fixture
def broken_database() -> Iterator[Callable[..., Callable[[], None]]]:
    """``mend = broken_database("UPDATE", …)``: statements that start so fail until ``mend()``."""
    wrappers: list[Any] = []

    def start(*starts: str) -> Callable[[], None]:
        broken = [True]

        def fail(execute: Any, sql: str, *arguments: Any) -> Any:
            if broken and sql.startswith(starts):
                raise OperationalError("the database is away")
            return execute(sql, *arguments)

        wrapper = connection.execute_wrapper(fail)
        wrapper.__enter__()
        wrappers.append(wrapper)
        return broken.clear

    yield start
    for wrapper in reversed(wrappers):
        wrapper.__exit__(None, None, None)


def signed(message: LocalWebhook, body: bytes) -> LocalWebhook:
    """Return the message with another body, and the right signature for it."""
    return replace(message, body=body)


def send(world: World, method: str, body: bytes = b"", **headers: str) -> HttpResponse:
    """Send any bytes by any method."""

    async def asynchronously() -> HttpResponse:
        response: HttpResponse = await world.client.generic(method, PATH, body, "application/json", headers=headers)
        return response

    if world.is_async:
        return async_to_sync(asynchronously)()
    response: HttpResponse = world.client.generic(method, PATH, body, "application/json", headers=headers)
    return response


def everything() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return all columns of all users and accounts, but for keys and what says when something was done."""
    passing = {"id", "date_joined", "synced_at", "password"}
    users, accounts = (
        [{name: value for name, value in row.items() if name not in passing} for row in model.objects.values()]
        for model in (User, ClerkAccount)
    )
    for account in accounts:
        account["user_id"] = account["user_id"] and User.objects.get().pk == account["user_id"]
    return users, accounts


def nobody_noticed() -> bool:
    return not User.objects.exists() and not ClerkWebhookMessage.objects.exists()


class TestTaking:
    def test_a_new_user_is_there_at_once(
        self, each_world: World, created: LocalWebhook, ada: LocalUser, heard: list[dict[str, Any]]
    ) -> None:
        answer = created.send(each_world.client)
        assert (answer.status_code, answer.content) == (204, b"")
        user = User.objects.get()
        assert (user.clerk_account.clerk_id, user.email, user.first_name) == (ada.id, "ada@example.com", "Ada")
        assert [(sent["event_type"], sent["data"], sent["event_id"]) for sent in heard] == [
            ("user.created", ada.data, created.id)
        ]
        assert heard[0]["sender"].__name__ == ("ASGIRequest" if each_world.is_async else "WSGIRequest")

    def test_a_changed_user_follows(self, client: Client, local_clerk: LocalClerk, created: LocalWebhook) -> None:
        created.send(client)
        [ada] = [local_clerk.update_user(user, first_name="Augusta") for user in local_clerk._directory.users()]
        assert local_clerk.send_webhook(client, "user.updated", ada).is_taken
        assert User.objects.get().first_name == "Augusta"

    def test_a_deleted_user_is_locked_out(
        self, client: Client, local_clerk: LocalClerk, created: LocalWebhook, ada: LocalUser
    ) -> None:
        """LFC-02."""
        created.send(client)
        assert local_clerk.send_webhook(client, "user.deleted", {"id": ada.id}).is_taken
        user = User.objects.get()
        assert (user.is_active, user.clerk_account.deactivated) == (False, True)

    @pytest.mark.parametrize("event_type", ["organization.created", "session.created", "of.the.future", "user.", "U"])
    @pytest.mark.parametrize("data", [{"id": "x", "more": [1]}, None, [], "text", 5], ids=repr)
    def test_other_events_are_taken_and_told(
        self, client: Client, local_clerk: LocalClerk, heard: list[dict[str, Any]], event_type: str, data: Any
    ) -> None:
        """WHK-08, F-24."""
        assert local_clerk.send_webhook(client, event_type, data, unheard_of={"a": [1]}).status_code == 204
        assert [(sent["event_type"], sent["data"]) for sent in heard] == [(event_type, data)]
        assert not User.objects.exists()

    #: Protocol, section 16: the families that change nobody here, with what such an event looks like.
    FAMILIES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
        "16-session": (
            ("session.created", "session.ended", "session.removed", "session.revoked"),
            {"id": "sess_1", "object": "session", "user_id": "user_1", "status": "ended", "user": None},
        ),
        "16-organization": (
            ("organization.created", "organization.updated"),
            {"id": "org_1", "object": "organization", "name": "Acme", "slug": "acme", "created_by": "user_1"},
        ),
        "16-organization, deleted": (
            ("organization.deleted",),
            {"id": "org_1", "object": "organization", "slug": "acme", "deleted": True},
        ),
        "16-organizationMembership": (
            tuple(f"organizationMembership.{what}" for what in ("created", "updated", "deleted")),
            {
                "id": "orgmem_1",
                "object": "organization_membership",
                "role": "org:admin",
                "permissions": ["org:sys_profile:manage"],
                "public_metadata": {},
                "organization": {"id": "org_1", "slug": "acme"},
                "public_user_data": {"user_id": "user_1", "identifier": "ada@example.com", "first_name": "Ada"},
            },
        ),
        "16-organizationInvitation": (
            tuple(f"organizationInvitation.{what}" for what in ("created", "revoked", "accepted")),
            {
                "id": "orginv_1",
                "object": "organization_invitation",
                "email_address": "a@b.example",
                "user_id": "user_1",
            },
        ),
        "16-organizationDomain": (
            tuple(f"organizationDomain.{what}" for what in ("created", "updated", "deleted")),
            {"id": "orgdmn_1", "object": "organization_domain", "name": "example.com", "organization_id": "org_1"},
        ),
        "16-role": (
            tuple(f"role.{what}" for what in ("created", "updated", "deleted")),
            {"id": "role_1", "object": "role", "key": "org:admin", "permissions": []},
        ),
        "16-permission": (
            tuple(f"permission.{what}" for what in ("created", "updated", "deleted")),
            {"id": "perm_1", "object": "permission", "key": "org:invoices:create"},
        ),
        "16-email": (("email.created",), {"id": "ema_1", "object": "email", "to_email_address": "ada@example.com"}),
        "16-sms": (("sms.created",), {"id": "sms_1", "object": "sms_message", "to_phone_number": "+15550100"}),
        "16-waitlistEntry": (
            ("waitlistEntry.created", "waitlistEntry.updated"),
            {"id": "wle_1", "object": "waitlist_entry", "email_address": "ada@example.com", "status": "pending"},
        ),
        "16-paymentAttempt": (
            ("paymentAttempt.created", "paymentAttempt.updated"),
            {"id": "cpay_1", "object": "commerce_payment_attempt", "payer": {"user_id": "user_1"}, "status": "paid"},
        ),
        "16-subscription": (
            tuple(f"subscription.{what}" for what in ("created", "updated", "active", "pastDue")),
            {"id": "csub_1", "object": "commerce_subscription", "payer": {"user_id": "user_1"}, "status": "active"},
        ),
        "16-subscriptionItem": (
            tuple(f"subscriptionItem.{what}" for what in ("updated", "active", "canceled", "upcoming", "ended")),
            {"id": "csub_item_1", "object": "commerce_subscription_item", "plan": {"slug": "pro"}},
        ),
    }

    @pytest.mark.parametrize(("types", "data"), FAMILIES.values(), ids=list(FAMILIES))
    def test_every_family_is_taken_told_once_and_changes_nobody(
        self, each_world: World, local_clerk: LocalClerk, heard: list[Any], types: tuple[str, ...], data: dict[str, Any]
    ) -> None:
        """WHK-08, WHK-03."""
        sync_django_user(local_clerk.add_user(id="user_1", email="ada@example.com", first_name="Ada").data)
        before = everything()
        for event_type in types:
            message = local_clerk.webhook(event_type, data)
            assert [message.send(each_world.client).status_code for _ in range(2)] == [204, 204]
        assert [(sent["event_type"], sent["data"]) for sent in heard] == [(event_type, data) for event_type in types]
        assert everything() == before

    @pytest.mark.parametrize("event_type", ["user.created", "user.updated", "user.deleted"], ids="16-{}".format)
    def test_the_family_of_users_changes_one(
        self, client: Client, local_clerk: LocalClerk, ada: LocalUser, heard: list[Any], event_type: str
    ) -> None:
        sync_django_user(ada.data)
        local_clerk.update_user(ada, first_name="Augusta")
        assert local_clerk.send_webhook(client, event_type, ada).is_taken
        [user] = User.objects.all()
        is_deleted = event_type == "user.deleted"
        assert (user.first_name, user.is_active) == ("Ada" if is_deleted else "Augusta", not is_deleted)
        assert [sent["event_type"] for sent in heard] == [event_type]

    @pytest.mark.parametrize("event_type", ["user.created", "user.updated", "user.deleted", "session.revoked"])
    @pytest.mark.parametrize("data", [{}, None, [], "text", {"id": 5}, {"id": "../x"}, {"id": ""}], ids=repr)
    def test_an_event_about_nobody_changes_nothing(
        self, client: Client, local_clerk: LocalClerk, settings: Any, event_type: str, data: Any
    ) -> None:
        """WHK-08: it would not be better next time, so it is not asked for again."""
        settings.CLERK_CHECK_REVOKED_SESSIONS = True
        assert local_clerk.send_webhook(client, event_type, data).status_code == 204
        assert not User.objects.exists()
        assert not ClerkAccount.objects.exists()

    def test_nobody_is_linked_who_must_not_be(
        self, client: Client, created: LocalWebhook, caplog: pytest.LogCaptureFixture, heard: list[Any]
    ) -> None:
        """USR-05: and Clerk need not send it again."""
        staff = User.objects.create_user("root", "ada@example.com", "old", is_staff=True)
        assert created.send(client).status_code == 204
        assert not ClerkAccount.objects.exists()
        staff.refresh_from_db()
        assert staff.check_password("old")
        assert f"{created.id} changed nobody: the user of the address is inactive or privileged" in caplog.text
        assert "ada@" not in caplog.text
        assert len(heard) == 1

    def test_an_unknown_user_may_be_deleted(self, client: Client, local_clerk: LocalClerk, ada: LocalUser) -> None:
        assert local_clerk.send_webhook(client, "user.deleted", ada).status_code == 204
        assert not User.objects.exists()

    def test_users_from_claims_follow_webhooks_too(
        self, client: Client, settings: Any, created: LocalWebhook, local_clerk: LocalClerk
    ) -> None:
        settings.CLERK_USER_SOURCE = "claims"
        settings.CLERK_SECRET_KEY = None
        settings.CLERK_JWT_KEY = local_clerk.signing_key.public_pem
        assert created.send(client).status_code == 204
        assert User.objects.get().first_name == "Ada"

    def test_over_a_real_socket(
        self, live_server: Any, local_clerk: LocalClerk, ada: LocalUser, heard: list[dict[str, Any]]
    ) -> None:
        answer = local_clerk.send_webhook(live_server.url + PATH, "user.created", ada)
        assert (answer.status_code, answer.headers["cache-control"]) == (
            204,
            "max-age=0, no-cache, no-store, must-revalidate, private",
        )
        assert User.objects.get().clerk_account.clerk_id == ada.id
        refused = replace(local_clerk.webhook("user.created", ada), signature="v1,x").send(live_server.url + PATH)
        assert refused.status_code == 400

    def test_the_standards_own_header_names_are_good(self, client: Client, created: LocalWebhook) -> None:
        assert replace(created, prefix="webhook-").send(client).status_code == 204
        assert User.objects.exists()

    def test_blanks_around_headers_do_not_count(self, client: Client, created: LocalWebhook) -> None:
        headers = {name: f" {value}\t" for name, value in created.headers.items()}
        assert client.post(PATH, created.body, "application/json", headers=headers).status_code == 204


class TestForgery:
    """WHK-01."""

    @pytest.fixture(autouse=True)
    def _nothing_happens(self, local_clerk: LocalClerk, heard: list[dict[str, Any]]) -> Iterator[None]:
        yield
        assert heard == []
        assert nobody_noticed()

    def refused(self, client: Client, message: LocalWebhook, **headers: str) -> None:
        response = client.post(PATH, message.body, "application/json", headers={**message.headers, **headers})
        assert response.status_code == 400
        assert response.json() == {"detail": "This is no webhook from Clerk.", "code": "webhook-invalid"}

    def test_another_secret(self, client: Client, created: LocalWebhook) -> None:
        self.refused(client, replace(created, secret=new_webhook_secret()))

    @pytest.mark.parametrize("part", ["id", "timestamp", "body"])
    def test_another_message_than_was_signed(self, client: Client, created: LocalWebhook, part: str) -> None:
        other: dict[str, Any] = {
            "id": "msg_other",
            "timestamp": str(int(created.timestamp) + 1),
            "body": created.body + b" ",
        }
        signature = created.headers["svix-signature"]
        self.refused(client, replace(created, signature=signature, **{part: other[part]}))

    @pytest.mark.parametrize("name", ["id", "timestamp", "signature"])
    @pytest.mark.parametrize("value", [None, "", " \t "], ids=["missing", "empty", "blank"])
    def test_a_header_that_is_not_there(
        self, client: Client, created: LocalWebhook, name: str, value: str | None
    ) -> None:
        headers = {**created.headers, f"svix-{name}": value}
        present = {name: value for name, value in headers.items() if value is not None}
        response = client.post(PATH, created.body, "application/json", headers=present)
        assert response.status_code == 400

    def test_no_header_at_all(self, client: Client, created: LocalWebhook) -> None:
        assert client.post(PATH, created.body, "application/json").status_code == 400

    def test_headers_of_two_families_are_not_mixed(self, client: Client, created: LocalWebhook) -> None:
        standard = replace(created, prefix="webhook-")
        self.refused(client, standard, **{"svix-id": created.id})
        self.refused(client, replace(standard, signature="v1,x"), **{"svix-timestamp": created.timestamp})

    @pytest.mark.parametrize(
        "message_id", ["a.b", "msg 1", "é", "msg\x001", "x" * 256, "../x", "msg_1\r\nx: y"], ids=ascii
    )
    def test_an_id_that_is_none(self, client: Client, created: LocalWebhook, message_id: str) -> None:
        self.refused(client, created, **{"svix-id": message_id})

    @pytest.mark.parametrize(
        "signature",
        [
            "{right}",
            "v1 {right}",
            "v1,",
            "v1,,{right}",
            "v1,{right},",
            "v2,{right}",
            "v1a,{right}",
            "V1,{right}",
            " v1a,x v2,{right} V1,{right}",
            "v1,{right}=",
            "v1,={right}",
            "v1,{hex}",
            "v1,{url}",
            "v1,é",
            "v1,\x00",
            "v1,{right}\x00",
            ",",
            "v1",
            ("v1,x " * 16) + "v1,{right}",
            "v1,x " * 1000,
        ],
        ids=lambda text: text[:24],
    )
    def test_a_signature_that_is_none(self, client: Client, created: LocalWebhook, signature: str) -> None:
        """Malformed entries are passed over, also by the hundred; none makes trouble."""
        right = created.headers["svix-signature"].removeprefix("v1,")
        raw = base64.b64decode(right)
        url = base64.urlsafe_b64encode(raw).decode().rstrip("=")
        self.refused(client, replace(created, signature=signature.format(right=right, hex=raw.hex(), url=url)))

    def test_a_signature_by_another_algorithm(self, client: Client, created: LocalWebhook) -> None:
        text = f"{created.id}.{created.timestamp}.".encode() + created.body
        secret = base64.b64decode(created.secret.removeprefix("whsec_"))
        for key, algorithm in ((secret, hashlib.sha1), (secret, hashlib.sha512), (b"", hashlib.sha256)):
            signature = base64.b64encode(hmac.digest(key, text, algorithm)).decode()
            self.refused(client, replace(created, signature=f"v1,{signature}"))
        bare = base64.b64encode(hashlib.sha256(text).digest()).decode()
        self.refused(client, replace(created, signature=f"v1,{bare}"))

    @pytest.mark.parametrize("offset", [-3600, -302, 302, 3600])
    def test_a_message_of_another_time(self, client: Client, local_clerk: LocalClerk, offset: int) -> None:
        """WHK-02."""
        self.refused(client, local_clerk.webhook("user.created", {}, timestamp=time.time() + offset))

    @pytest.mark.parametrize(
        "write",
        [
            lambda now: f"{now}.5",
            lambda now: f"+{now}",
            lambda now: f"-{now}",
            lambda now: f"{now}e0",
            lambda now: f"0x{now:x}",
            lambda now: f"{now // 1000}_{now % 1000:03}",
            lambda now: f"{now} {now}",
            lambda now: str(now).translate({48 + digit: 0x660 + digit for digit in range(10)}),
            lambda now: "9" * 5000,
            lambda now: "nan",
            lambda now: "now",
        ],
        ids=["fraction", "plus", "minus", "exponent", "hex", "underscore", "two", "arabic", "long", "nan", "word"],
    )
    def test_a_timestamp_that_is_none(
        self, client: Client, local_clerk: LocalClerk, write: Callable[[int], str]
    ) -> None:
        """WHK-02: whatever it was signed with."""
        self.refused(client, local_clerk.webhook("user.created", {}, timestamp=write(int(time.time()))))

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"[]",
            b"{",
            b'{"type": "user.created"} {}',
            b'{"type": "user.created", "type": "user.deleted"}',
            b'{"type": "user.created", "data": {"id": "a", "id": "b"}}',
            b'{"type": "user.created", "data": {"updated_at": NaN}}',
            b'{"type": "user.created", "data": {"updated_at": 1e999}}',
            b'\xef\xbb\xbf{"type": "user.created"}',
            b'{"type": "\xff"}',
            '{"type": "user.created"}'.encode("utf-16"),
            b'{"type": "\\ud800"}',
            b'{"a":' * 100_000,
            b'{"type": "x", "data":' + b"[" * 64 + b"]" * 64 + b"}",
            b"{}",
            b'{"type": null}',
            b'{"type": ""}',
            b'{"type": ["user.created"]}',
        ],
        ids=lambda body: ascii(body[:40]),
    )
    def test_signed_but_no_message(
        self, client: Client, created: LocalWebhook, body: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        """WHK-04, F-22."""
        self.refused(client, signed(created, body))
        assert "signed, but" in caplog.text


class TestGoodSignatures:
    def test_one_of_several_is_enough(self, client: Client, created: LocalWebhook) -> None:
        """WHK-01: the sender signs with each secret while it changes them, and may speak newer versions as well."""
        right = created.headers["svix-signature"]
        message = replace(created, signature=f"v1a,{right[3:]} v1,x nonsense  {'v1,x ' * 11}{right}")
        assert message.send(client).status_code == 204

    def test_secrets_are_changed_without_a_gap(
        self, client: Client, local_clerk: LocalClerk, ada: LocalUser, settings: Any
    ) -> None:
        """WHK-06."""
        settings.CLERK_WEBHOOK_SIGNING_SECRET = [new := new_webhook_secret(), local_clerk.webhook_secret]
        assert local_clerk.send_webhook(client, "user.updated", ada).status_code == 204
        assert local_clerk.send_webhook(client, "user.updated", ada, secret=new).status_code == 204
        settings.CLERK_WEBHOOK_SIGNING_SECRET = new
        assert local_clerk.send_webhook(client, "user.updated", ada).status_code == 400
        assert local_clerk.send_webhook(client, "user.updated", ada, secret=new).status_code == 204

    @pytest.mark.parametrize("offset", [-298, 298])
    def test_clocks_may_differ(self, client: Client, local_clerk: LocalClerk, offset: int) -> None:
        """WHK-02."""
        assert local_clerk.send_webhook(client, "x", {}, timestamp=time.time() + offset).status_code == 204

    def test_the_bytes_are_verified_as_they_are(self, client: Client, created: LocalWebhook, ada: LocalUser) -> None:
        """WHK-04: nothing is written anew before the signature is checked."""
        odd = json.dumps({"data": ada.data, "type": "user.created"}, indent=3).encode() + b"\n\n"
        assert signed(created, odd).send(client).status_code == 204
        assert User.objects.get().clerk_account.clerk_id == ada.id

    def test_a_user_cannot_hide_his_ban_in_metadata_of_his_own(
        self, client: Client, local_clerk: LocalClerk, created: LocalWebhook, ada: LocalUser
    ) -> None:
        """WHK-04: what a token must not have, unsafe_metadata may."""
        created.send(client)
        nested: Any = {}
        for _ in range(50):
            nested = {"a": nested}
        local_clerk.update_user(ada, banned=True, unsafe_metadata=nested)
        assert local_clerk.send_webhook(client, "user.updated", ada).status_code == 204
        assert not User.objects.get().is_active


class TestOnce:
    """WHK-03."""

    def test_a_message_has_its_effect_once(
        self, client: Client, created: LocalWebhook, heard: list[dict[str, Any]]
    ) -> None:
        assert [created.send(client).status_code for _ in range(3)] == [204, 204, 204]
        assert len(heard) == User.objects.count() == 1
        assert str(ClerkWebhookMessage.objects.get()) == created.id

    def test_a_repeated_message_does_not_undo_what_came_between(
        self, client: Client, local_clerk: LocalClerk, created: LocalWebhook
    ) -> None:
        created.send(client)
        User.objects.update(first_name="by hand")
        created.send(client)
        assert User.objects.get().first_name == "by hand"

    def test_ids_differ_by_case(self, client: Client, local_clerk: LocalClerk, heard: list[dict[str, Any]]) -> None:
        for message_id in ("msg_aB", "msg_Ab"):
            assert local_clerk.send_webhook(client, "x", {}, id=message_id).status_code == 204
        assert len(heard) == 2

    @pytest.mark.django_db(transaction=True)
    def test_sixteen_deliveries_at_once_have_one_effect(self, created: LocalWebhook, heard: list[Any]) -> None:
        barrier = threading.Barrier(16)
        answers: list[int] = []

        def deliver() -> None:
            try:
                barrier.wait(20)
                answers.append(created.send(Client()).status_code)
            finally:
                connections.close_all()

        threads = [threading.Thread(target=deliver) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        # A busy database may put some off; Clerk sends those again.
        assert set(answers) <= {204, 503}
        assert len(answers) == 16
        assert 204 in answers
        assert created.send(Client()).status_code == 204
        assert len(heard) == User.objects.count() == ClerkWebhookMessage.objects.count() == 1

    def test_old_messages_go_a_few_at_a_time(
        self, client: Client, local_clerk: LocalClerk, monkeypatch: pytest.MonkeyPatch, broken_database: Any
    ) -> None:
        old = timezone.now() - webhooks.MESSAGES_KEPT - timedelta(minutes=1)
        young = timezone.now() - webhooks.MESSAGES_KEPT + timedelta(minutes=1)
        for number in range(3):
            ClerkWebhookMessage.objects.create(message_id=f"old_{number}", received_at=old + timedelta(seconds=number))
        ClerkWebhookMessage.objects.create(message_id="young", received_at=young)
        assert timedelta(hours=28) < webhooks.MESSAGES_KEPT
        monkeypatch.setattr(webhooks, "_PRUNE_AT_MOST", 2)

        def send(every: int) -> set[str]:
            monkeypatch.setattr(webhooks, "_PRUNE_EVERY", every)
            assert local_clerk.send_webhook(client, "x", {}).status_code == 204
            kept = ClerkWebhookMessage.objects.exclude(message_id__startswith="msg_")
            return set(kept.values_list("message_id", flat=True))

        assert send(every=10**9) == {"old_0", "old_1", "old_2", "young"}
        mend = broken_database("DELETE")
        assert send(every=1) == {"old_0", "old_1", "old_2", "young"}
        mend()
        assert send(every=1) == {"old_2", "young"}
        assert send(every=1) == {"young"}


class TestOrder:
    """WHK-05, USR-12."""

    @pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
    def test_the_last_word_counts_in_whatever_order_it_comes(
        self, client: Client, local_clerk: LocalClerk, ada: LocalUser, order: tuple[int, ...]
    ) -> None:
        messages = [local_clerk.webhook("user.created", ada)]
        for name in ("Augusta", "Countess"):
            messages.append(local_clerk.webhook("user.updated", local_clerk.update_user(ada, first_name=name)))
        messages.append(local_clerk.webhook("user.updated", local_clerk.update_user(ada, banned=True)))
        assert {messages[number].send(client).status_code for number in order} == {204}
        user = User.objects.get()
        assert (user.first_name, user.is_active) == ("Countess", False)

    @pytest.mark.parametrize("before", ["unknown", "known", "known and locked", "linked by address", "staff"])
    def test_every_order_of_a_whole_life_ends_alike(
        self, client: Client, local_clerk: LocalClerk, ada: LocalUser, before: str
    ) -> None:
        """LFC-02: also where the deletion is the first that is heard of a user, who stays out whatever comes later."""
        known = dict(ada.data)
        messages = [local_clerk.webhook("user.created", ada)]
        for change in ({"first_name": "Augusta", "username": "augusta"}, {"first_name": "Countess", "last_name": "L"}):
            messages.append(local_clerk.webhook("user.updated", local_clerk.update_user(ada, **change)))
        local_clerk.delete_user(ada)
        messages.append(local_clerk.webhook("user.deleted", ada))
        ends = []
        for order in itertools.permutations(messages):
            if before.startswith("known"):
                sync_django_user(known)
                User.objects.update(is_active=before == "known")
            elif before != "unknown":
                User.objects.create_user("local", "ada@example.com", "old", is_staff=before == "staff")
            assert {message.send(client).status_code for message in order} == {204}
            ends.append(everything())
            User.objects.all().delete()
            ClerkAccount.objects.all().delete()
            ClerkWebhookMessage.objects.all().delete()
        assert len(ends) == 24
        assert all(end == ends[0] for end in ends)
        [user], [account] = ends[0]
        assert (account["clerk_id"], account["deleted"]) == (ada.id, True)
        if before == "staff":
            assert (user["first_name"], user["is_active"], account["user_id"]) == ("", True, None)
        else:
            assert (user["first_name"], user["last_name"], user["is_active"]) == ("Countess", "L", False)
            assert user["username"] == ("local" if before == "linked by address" else "augusta")

    @pytest.mark.parametrize("timestamp", ["its own", 5, None, "5", True, -1, 2**42, 1.5], ids=repr)
    @pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=str)
    def test_of_two_changes_of_the_same_time_the_later_message_counts(
        self, client: Client, local_clerk: LocalClerk, ada: LocalUser, timestamp: Any, order: tuple[int, ...]
    ) -> None:
        """USR-12: the message's own time decides, and its text where that is the same or not told."""
        messages = [
            local_clerk.webhook("user.updated", local_clerk.update_user(ada, first_name=name, updated_at=6000))
            for name in ("first", "second")
        ]
        if timestamp != "its own":
            messages = [
                signed(message, json.dumps({**json.loads(message.body), "timestamp": timestamp}).encode())
                for message in messages
            ]
        for number in order:
            assert messages[number].send(client).is_taken
        ranks = [rank_of(5 if timestamp == 5 else 0, message.body) for message in messages]
        expected = "second" if timestamp == "its own" or ranks[1] > ranks[0] else "first"
        assert User.objects.get().first_name == expected

    def test_what_clerk_says_when_asked_is_newer_than_a_message_of_the_same_change(
        self, client: Client, local_clerk: LocalClerk, ada: LocalUser, time_machine: Any
    ) -> None:
        """USR-12. Also in the same millisecond, whatever the message's text."""
        now = time.time()
        for number in range(40):
            time_machine.move_to(now + number, tick=False)
            told = local_clerk.update_user(ada, first_name=f"first {number}", updated_at=6000)
            late = local_clerk.webhook("user.updated", told)
            sync_django_user(local_clerk.update_user(ada, first_name="second", updated_at=6000).data)
            assert late.send(client).is_taken
            assert User.objects.get().first_name == "second"
        sync_django_user(local_clerk.update_user(ada, first_name="third", updated_at=6000).data)
        assert User.objects.get().first_name == "third"

    @pytest.mark.django_db(transaction=True)
    def test_late_news_at_the_same_moment_makes_one_user(self, local_clerk: LocalClerk, ada: LocalUser) -> None:
        """LFC-02: of somebody who was deleted unseen, there is a row to take, and one takes it."""
        messages = [
            local_clerk.webhook("user.updated", local_clerk.update_user(ada, first_name=name)) for name in "abcd"
        ]
        assert local_clerk.send_webhook(Client(), "user.deleted", ada).is_taken
        barrier = threading.Barrier(len(messages))

        def deliver(message: LocalWebhook) -> None:
            try:
                barrier.wait(20)
                while not message.send(Client()).is_taken:
                    pass
            finally:
                connections.close_all()

        threads = [threading.Thread(target=deliver, args=[message]) for message in messages]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        user = User.objects.get()
        assert (user.first_name, user.is_active, ClerkAccount.objects.get().user) == ("d", False, user)

    @pytest.mark.django_db(transaction=True)
    def test_a_user_created_and_deleted_at_the_same_moment_is_deleted(
        self, local_clerk: LocalClerk, ada: LocalUser
    ) -> None:
        messages = [local_clerk.webhook("user.created", ada), local_clerk.webhook("user.deleted", ada)]
        barrier = threading.Barrier(2)

        def deliver(message: LocalWebhook) -> None:
            try:
                barrier.wait(20)
                while not message.send(Client()).is_taken:
                    pass
            finally:
                connections.close_all()

        for _ in range(5):
            threads = [threading.Thread(target=deliver, args=[message]) for message in messages]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert ClerkAccount.objects.get().deactivated
            assert not User.objects.filter(is_active=True).exists()
            User.objects.all().delete()
            ClerkAccount.objects.all().delete()
            ClerkWebhookMessage.objects.all().delete()


class TestOutage:
    """WHK-07, F-28."""

    @pytest.mark.parametrize("where", ["INSERT INTO", "SAVEPOINT", 'INSERT INTO "auth', "UPDATE", "SELECT"])
    def test_a_database_that_fails_loses_nothing(
        self,
        each_world: World,
        created: LocalWebhook,
        broken_database: Any,
        heard: list[dict[str, Any]],
        where: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        synced: list[Any] = []

        def receiver(**sent: Any) -> None:
            synced.append(sent["user"])

        if where == "UPDATE":  # of a user who is there; the message is written by then
            created.send(each_world.client)
            created = replace(created, id="msg_again")
            heard.clear()
        if connection.vendor == "mysql":
            where = where.replace('"', "`")
        clerk_user_synced.connect(receiver)
        try:
            mend = broken_database(where)
            answer = created.send(each_world.client)
            mend()
            assert (answer.status_code, json.loads(answer.content)["code"]) == (503, "unexpected-error")
            assert 1 <= int(answer.headers["retry-after"]) <= 120
            assert not ClerkWebhookMessage.objects.filter(message_id=created.id).exists()
            assert (heard, synced) == ([], [])
            assert created.send(each_world.client).status_code == 204
        finally:
            clerk_user_synced.disconnect(receiver)
        assert len(heard) == len(synced) == User.objects.count() == 1
        assert created.id in caplog.text

    def test_the_sender_tries_again(self, client: Client, local_clerk: LocalClerk, broken_database: Any) -> None:
        broken_database("INSERT INTO")
        assert local_clerk.send_webhook(client, "x", {}, attempts=3).status_code == 503

    def test_a_receiver_that_raises_changes_nothing(self, client: Client, created: LocalWebhook) -> None:
        """F-27, LOG-04."""

        def receiver(**sent: Any) -> None:
            raise RuntimeError

        clerk_webhook_received.connect(receiver)
        try:
            assert created.send(client).status_code == 204
        finally:
            clerk_webhook_received.disconnect(receiver)
        assert ClerkWebhookMessage.objects.count() == 1

    @pytest.mark.parametrize(
        "raised", [ValueError, UnicodeError, KeyError, RuntimeError], ids=lambda kind: kind.__name__
    )
    @pytest.mark.parametrize("signal", [pre_save, post_save], ids=["pre_save", "post_save"])
    @pytest.mark.parametrize("end", ["created", "banned", "deleted"])
    def test_what_fails_in_the_projects_own_code_is_taken_back_and_sent_again(
        self,
        local_clerk: LocalClerk,
        ada: LocalUser,
        heard: list[Any],
        raised: type[Exception],
        signal: Any,
        end: str,
    ) -> None:
        """WHK-07: whatever it raises. A message that is noted without its effect would be lost, a ban with it."""
        client = Client(raise_request_exception=False)
        message = local_clerk.webhook("user.created", ada)
        if end != "created":
            message.send(client)
        if end == "banned":
            message = local_clerk.webhook("user.updated", local_clerk.update_user(ada, banned=True))
        elif end == "deleted":
            message = local_clerk.webhook("user.deleted", ada)
        heard.clear()

        def broken(**sent: Any) -> None:
            raise raised("the project's own mistake")

        signal.connect(broken, sender=User)
        try:
            assert message.send(client).status_code == 500
        finally:
            signal.disconnect(broken, sender=User)
        assert heard == []
        assert not ClerkWebhookMessage.objects.filter(message_id=message.id).exists()
        assert User.objects.filter(is_active=True).count() == (0 if end == "created" else 1)
        assert [message.send(client).status_code for _ in range(2)] == [204, 204]
        assert User.objects.get().is_active == (end == "created")
        assert len(heard) == 1

    def test_receivers_are_called_when_all_is_stored(
        self, client: Client, created: LocalWebhook, settings: Any, transactional_db: None
    ) -> None:
        """Under ATOMIC_REQUESTS as well: an answer that a later commit takes back would be a lie."""
        open_transactions: list[bool] = []

        def receiver(**sent: Any) -> None:
            open_transactions.append(connection.in_atomic_block)

        connection.settings_dict["ATOMIC_REQUESTS"] = True
        clerk_webhook_received.connect(receiver)
        clerk_user_synced.connect(receiver)
        try:
            assert created.send(client).status_code == 204
        finally:
            connection.settings_dict["ATOMIC_REQUESTS"] = False
            clerk_webhook_received.disconnect(receiver)
            clerk_user_synced.disconnect(receiver)
        assert open_transactions == [False, False]


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="needs a database whose connections can be ended")
@pytest.mark.parametrize("event", ["created", "updated", "deleted"])
class TestKilled:
    """WHK-07, F-28: PostgreSQL ends the connection in the midst of a message, once; one effect after the retry."""

    @pytest.fixture
    def kill(self) -> Iterator[Callable[[], None]]:
        """``kill()``: end the connection that the test works on, as an administrator or a crash does."""
        other = connection.copy()

        def end() -> None:
            with other.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.connection.info.backend_pid])
                assert cursor.fetchone() == (True,)

        yield end
        other.close()

    @pytest.fixture
    def synced(self) -> Iterator[list[Any]]:
        """What receivers of ``clerk_user_synced`` were told."""
        synced: list[Any] = []

        def receiver(**sent: Any) -> None:
            synced.append(sent)

        clerk_user_synced.connect(receiver)
        yield synced
        clerk_user_synced.disconnect(receiver)

    @pytest.fixture
    def deliver(self, event: str, local_clerk: LocalClerk, heard: list[Any], synced: list[Any]) -> Callable[[Any], int]:
        """
        ``deliver(around)``: send news of a user inside this context, then again; return how the first time ended.

        The user is known, unless the news is that he was created.
        """

        def deliver(around: AbstractContextManager[Any]) -> int:
            ada = local_clerk.add_user(first_name="Ada")
            if event != "created":
                assert local_clerk.send_webhook(Client(), "user.created", ada).is_taken
                local_clerk.update_user(ada, banned=True, first_name="Augusta")
            message = local_clerk.webhook(f"user.{event}", ada)
            for told in (heard, synced):
                told.clear()
            with around:
                status = message.send(Client()).status_code
            connection.close()  # as Django does when a request ends
            if status != 204:
                assert not ClerkWebhookMessage.objects.filter(message_id=message.id).exists()
                assert (heard, synced) == ([], [])
            assert [message.send(Client()).status_code for _ in range(2)] == [204, 204]
            user = User.objects.select_related("clerk_account").get(clerk_account__clerk_id=ada.id)
            assert user.is_active == (event == "created")
            assert (user.first_name == "Augusta") == (event == "updated")
            assert user.clerk_account.deleted == (event == "deleted")
            assert ClerkWebhookMessage.objects.filter(message_id=message.id).count() == 1
            assert (len(heard), len(synced)) == (1, 1)
            return status

        return deliver

    def test_at_each_statement(self, deliver: Callable[[Any], int], kill: Callable[[], None]) -> None:
        for last in itertools.count(1):
            seen: list[str] = []

            def wrapper(execute: Any, sql: str, *arguments: Any, seen: list[str] = seen, last: int = last) -> Any:
                seen.append(sql)
                if len(seen) == last:
                    kill()
                return execute(sql, *arguments)

            status = deliver(connection.execute_wrapper(wrapper))
            if len(seen) < last:
                break
            # With every so many messages old ones are removed, when all is stored; if that fails, nothing else does.
            removes = seen[-1].startswith("SELECT") and ClerkWebhookMessage._meta.db_table in seen[-1]
            assert status == (204 if removes else 503), seen
        assert status == 204
        assert last > 5

    def test_at_the_commit(
        self, deliver: Callable[[Any], int], kill: Callable[[], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        database: Any = connections["default"]
        commit = database._commit

        def killed() -> None:
            kill()
            commit()

        @contextmanager
        def around() -> Iterator[None]:
            with monkeypatch.context() as patch:
                patch.setattr(database, "_commit", killed)
                yield

        assert deliver(around()) == 503


@pytest.mark.skipif(connection.vendor != "sqlite", reason="is itself on another database")
def test_on_postgresql(postgresql: str) -> None:
    """WHK-03, WHK-05, WHK-07: with real kills, and real rivals."""
    classes = (f"tests/test_webhooks.py::{name}" for name in ("TestKilled", "TestOnce", "TestOrder"))
    run_elsewhere(*classes, CLERK_VIEWS_TEST_DATABASE="postgresql")


class TestRequests:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
    def test_only_posts(self, each_world: World, local_clerk: LocalClerk, method: str) -> None:
        response = send(each_world, method)
        assert (response.status_code, response["Allow"]) == (405, "POST")

    def test_no_csrf_token_and_no_login_are_wanted(self, created: LocalWebhook, settings: Any) -> None:
        settings.MIDDLEWARE = [
            *settings.MIDDLEWARE,
            "django.contrib.auth.middleware.LoginRequiredMiddleware",
            "clerk_views.middleware.ClerkMiddleware",
        ]
        assert created.send(Client(enforce_csrf_checks=True)).status_code == 204

    def test_no_answer_may_be_cached(self, client: Client, created: LocalWebhook) -> None:
        for answer in (created.send(client), replace(created, signature="").send(client)):
            assert "no-store" in answer.headers["cache-control"]

    @pytest.mark.parametrize("size", [webhooks.MAX_BODY + 1, 10**18])
    def test_a_length_that_is_too_large_is_refused_before_reading(
        self, client: Client, created: LocalWebhook, size: int
    ) -> None:
        """WHK-04."""
        response = client.post(
            PATH, created.body, "application/json", headers=created.headers, CONTENT_LENGTH=str(size)
        )
        assert (response.status_code, response.json()["code"]) == (413, "webhook-too-large")
        assert nobody_noticed()

    def test_the_largest_message_is_taken(self, client: Client, created: LocalWebhook, settings: Any) -> None:
        """WHK-04: whatever the project says of forms."""
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
        assert signed(created, created.body.ljust(webhooks.MAX_BODY)).send(client).status_code == 204

    @pytest.mark.parametrize("length", [None, "", "-5", "1e3", "abc", "10"], ids=repr)
    def test_a_length_that_is_missing_or_a_lie_makes_no_trouble(
        self, created: LocalWebhook, each_world: World, length: str | None
    ) -> None:
        """WHK-04. What the server hands over without one is bounded all the same."""
        body = signed(created, created.body.ljust(webhooks.MAX_BODY + 1))
        headers = {**body.headers, **({} if length is None else {"content-length": length})}
        response = send(each_world, "POST", body.body, **headers)
        assert response.status_code in (400, 413)
        assert nobody_noticed()

    def test_a_body_that_was_read_before_us_is_refused_or_taken_whole(self, rf: Any, created: LocalWebhook) -> None:
        def request() -> Any:
            return rf.post(PATH, created.body, "application/json", headers=created.headers)

        read = request()
        assert read.body
        assert webhooks.webhook(read).status_code == 204
        half = request()
        half.read(10)
        assert webhooks.webhook(half).status_code == 400

    def test_a_sender_who_leaves_gets_no_error(self, rf: Any, created: LocalWebhook) -> None:
        class Gone:
            def read(self, *sizes: int) -> bytes:
                raise OSError("the client is gone")

        request = rf.post(PATH, created.body, "application/json", headers=created.headers)
        request._stream = Gone()
        assert webhooks.webhook(request).status_code == 400

    @pytest.mark.parametrize("secret", [None, "", []], ids=repr)
    def test_without_a_secret_nothing_is_believed(
        self, client: Client, created: LocalWebhook, settings: Any, secret: Any
    ) -> None:
        """WHK-06, CFG-01."""
        settings.CLERK_WEBHOOK_SIGNING_SECRET = secret
        with pytest.raises(ImproperlyConfigured, match="CLERK_WEBHOOK_SIGNING_SECRET is not set"):
            created.send(client)
        assert nobody_noticed()

    def test_logs_tell_nothing_that_is_a_secret_or_somebodys(
        self, client: Client, local_clerk: LocalClerk, created: LocalWebhook, caplog: pytest.LogCaptureFixture
    ) -> None:
        """LOG-01, LOG-02."""
        caplog.set_level("DEBUG")
        created.send(client)
        replace(created, signature="v1,canary").send(client)
        signed(created, created.body + b"canary").send(client)
        assert "canary" not in caplog.text
        assert "ada@" not in caplog.text
        assert local_clerk.webhook_secret[6:] not in caplog.text
        assert local_clerk.webhook_secret not in repr(config())
        assert local_clerk.webhook_secret not in repr(created)


class TestSessions:
    """LFC-03."""

    @pytest.mark.parametrize("event_type", ["session.ended", "session.removed", "session.revoked"])
    def test_a_session_that_is_over_is_noted(
        self, client: Client, local_clerk: LocalClerk, ada: LocalUser, settings: Any, event_type: str
    ) -> None:
        settings.CLERK_CHECK_REVOKED_SESSIONS = True
        session, other = local_clerk.open_session(ada), local_clerk.open_session(ada)
        assert local_clerk.send_webhook(client, event_type, session).status_code == 204
        assert is_revoked(session.id, config())
        assert not is_revoked(other.id, config())

    def test_nothing_is_noted_where_nobody_asks(self, client: Client, local_clerk: LocalClerk, ada: LocalUser) -> None:
        session = local_clerk.open_session(ada)
        assert local_clerk.send_webhook(client, "session.revoked", session).status_code == 204
        assert not is_revoked(session.id, config())

    def test_what_the_cache_does_not_take_is_sent_again(
        self, client: Client, local_clerk: LocalClerk, ada: LocalUser, settings: Any
    ) -> None:
        settings.CLERK_CHECK_REVOKED_SESSIONS = True
        message = local_clerk.webhook("session.revoked", session := local_clerk.open_session(ada))
        working = settings.CACHES
        settings.CACHES = {"default": {"BACKEND": "tests.caches.BrokenCache"}}
        assert message.send(client).status_code == 503
        settings.CACHES = working
        assert message.send(client).status_code == 204
        assert is_revoked(session.id, config())
