"""The stand-in's webhooks: what is in a message, that it is signed as Clerk signs, and how it is sent."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from django.test import AsyncClient, Client

from clerk_views.conf import config
from clerk_views.testing import LocalClerk
from clerk_views.testing.fixtures import ClerkFixture
from clerk_views.testing.webhooks import WebhookAnswer, new_webhook_secret


@pytest.fixture
def server() -> LocalClerk:
    """A stand-in that does not even listen."""
    return LocalClerk(port=1)


class Receiver:
    """A server that answers as told, and keeps what it got."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(outer.answers.pop(0))
                self.send_header("Retry-After", "5")
                self.end_headers()
                self.wfile.write(b"answer")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield receiver
    receiver.server.shutdown()
    thread.join()
    receiver.server.server_close()


def test_a_message_has_clerks_envelope(server: LocalClerk) -> None:
    ada = server.add_user(email="ada@example.com")
    message = server.webhook("user.created", ada, more=[1])
    event = json.loads(message.body)
    assert (event["type"], event["object"], event["data"]) == ("user.created", "event", ada.data)
    assert (event["instance_id"], event["more"]) == (server.instance_id, [1])
    assert abs(event["timestamp"] / 1000 - time.time()) < 60
    assert re.fullmatch(r"msg_[A-Za-z0-9]{27}", message.id)
    assert abs(int(message.timestamp) - time.time()) < 60


def test_what_it_is_about(server: LocalClerk) -> None:
    ada = server.add_user()
    session = server.open_session(ada)

    def data(*arguments: Any) -> Any:
        return json.loads(server.webhook(*arguments).body)["data"]

    assert data("user.deleted", ada) == {"id": ada.id, "object": "user", "deleted": True}
    assert data("session.ended", session) == {**session.data, "user": None}
    assert data("role.created", {"id": "role_1"}) == {"id": "role_1"}


def test_it_is_signed_as_the_standard_says(server: LocalClerk) -> None:
    """Computed anew, from the standard's own words."""
    message = server.webhook("x", {}, id="msg_1", timestamp=1_700_000_000.9)
    key = base64.b64decode(server.webhook_secret[len("whsec_") :])
    digest = hmac.new(key, b"msg_1.1700000000." + message.body, hashlib.sha256).digest()
    assert message.headers == {
        "svix-id": "msg_1",
        "svix-timestamp": "1700000000",
        "svix-signature": "v1," + base64.b64encode(digest).decode(),
    }


def test_any_part_may_be_wrong(server: LocalClerk) -> None:
    good = server.webhook("x", {}, timestamp="yesterday")
    assert good.headers["svix-timestamp"] == "yesterday"
    assert replace(good, signature="v1,forged").headers["svix-signature"] == "v1,forged"
    other = server.webhook("x", {}, id=good.id, secret=new_webhook_secret())
    assert other.headers["svix-signature"] != good.headers["svix-signature"]
    assert "secret" not in repr(good)


def test_settings_have_the_secret_and_reset_changes_it(local_clerk: LocalClerk, settings: Any) -> None:
    before = local_clerk.webhook_secret
    assert before == settings.CLERK_WEBHOOK_SIGNING_SECRET
    assert config().webhook_secrets == (base64.b64decode(before[6:]),)
    local_clerk.reset()
    assert local_clerk.webhook_secret != before


def test_it_is_sent_again_until_it_is_taken(server: LocalClerk, receiver: Receiver) -> None:
    receiver.answers = [503, 500, 204, 503]
    answer = server.send_webhook(receiver.url, "x", {"a": 1}, attempts=5)
    assert (answer.status_code, answer.is_taken, len(receiver.got)) == (204, True, 3)
    assert len({headers["svix-id"] for headers, _ in receiver.got}) == 1
    assert {json.loads(body)["data"]["a"] for _, body in receiver.got} == {1}
    last = server.send_webhook(receiver.url, "x", {})
    assert (last.status_code, last.headers["retry-after"], last.content) == (503, "5", b"answer")
    assert not last.is_taken


def test_nobody_listens(server: LocalClerk) -> None:
    for scheme in ("http", "https"):
        with pytest.raises(OSError):  # noqa: PT011  # refused, or unreachable, as the system calls it
            server.send_webhook(f"{scheme}://127.0.0.1:1/", "x", {})


@pytest.mark.django_db
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_the_fixture_sends_through_test_clients(clerk: ClerkFixture, kind: Any) -> None:
    ada = clerk.add_user(email="ada@example.com")
    for path in (None, "/clerk/webhook/"):
        answer = clerk.send_webhook(kind(), "user.created", ada, path=path)
        assert isinstance(answer, WebhookAnswer)
        assert (answer.status_code, answer.content) == (204, b"")
