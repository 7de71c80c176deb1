"""
Webhooks from the stand-in: signed messages, posted to a running server or through Django's test clients.

A message is made once and may be sent as often as a test likes: twice for a repeated delivery, after a later one for a
change of order, with another secret or signature for a forgery. LocalClerk.webhook() makes one,
LocalClerk.send_webhook() makes and sends it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from asgiref.sync import async_to_sync
from django.test import AsyncClient
from django.urls import reverse

from clerk_views.testing.directory import LocalUser, now_ms
from clerk_views.testing.minting import new_id
from clerk_views.testing.sessions import LocalSession

if TYPE_CHECKING:
    from django.test import Client


class WebhookAnswer(NamedTuple):
    """What the receiver answered. ``headers`` have lower-case names."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def is_taken(self) -> bool:
        """Whether the sender would be content; else it would send the message again."""
        return 200 <= self.status_code < 300


@dataclass(frozen=True)
class LocalWebhook:
    """
    One message. ``dataclasses.replace`` makes another of it, with a wrong part for example.

    Attributes:
        id: The message's id, ``msg_…``; the same at every delivery.
        timestamp: Unix seconds, as text.
        body: What is posted, as bytes.
        secret: What it is signed with, ``whsec_…``.
        signature: The whole value of ``svix-signature``; None for the right one.
        prefix: Of the header names; the standard's own is ``webhook-``.
    """

    id: str
    timestamp: str
    body: bytes
    secret: str = field(repr=False)
    signature: str | None = None
    prefix: str = "svix-"

    @property
    def headers(self) -> dict[str, str]:
        """The three headers. Source: Svix, "verifying webhooks manually"."""
        signature = self.signature
        if signature is None:
            signed = f"{self.id}.{self.timestamp}.".encode() + self.body
            key = base64.b64decode(self.secret.removeprefix("whsec_"))
            signature = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        values = {"id": self.id, "timestamp": self.timestamp, "signature": signature}
        return {self.prefix + name: value for name, value in values.items()}

    def send(self, target: str | Client | AsyncClient, path: str | None = None) -> WebhookAnswer:
        """
        Deliver the message once.

        Args:
            target: The address of a running server, over real HTTP; or a test client of Django's.
            path: Where a test client posts to; None for ``clerk_views:webhook``.
        """
        if isinstance(target, str):
            return self._post(target)
        post: Any = async_to_sync(target.post) if isinstance(target, AsyncClient) else target.post
        response = post(
            path or reverse("clerk_views:webhook"),
            data=self.body,
            content_type="application/json",
            headers=self.headers,
        )
        return WebhookAnswer(
            response.status_code, {name.lower(): value for name, value in response.headers.items()}, response.content
        )

    def _post(self, url: str) -> WebhookAnswer:
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.netloc, timeout=15)  # seconds; what Clerk's sender waits
        try:
            connection.request(
                "POST", parts.path or "/", self.body, {"Content-Type": "application/json", **self.headers}
            )
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return WebhookAnswer(response.status, headers, response.read())
        finally:
            connection.close()


_last_moment = [0]


def _next_moment() -> int:
    """Return the time in milliseconds, later than that of the event before: what came first must be told from it."""
    moment = now_ms()
    if moment <= _last_moment[0] < moment + 1000:  # one further ahead is of a clock that a test has set back since
        moment = _last_moment[0] + 1
    _last_moment[0] = moment
    return moment


def new_webhook_secret() -> str:
    """Return a signing secret of the length of Clerk's."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()


def webhook_message(
    event_type: str,
    data: LocalUser | LocalSession | Any,
    *,
    secret: str,
    instance_id: str,
    id: str | None = None,
    timestamp: float | str | None = None,
    **fields: Any,
) -> LocalWebhook:
    """
    Return the message of an event. See LocalClerk.webhook().

    Source: Clerk, "webhooks", the payload's structure.
    """
    if isinstance(data, LocalUser):
        gone = {"id": data.id, "object": "user", "deleted": True}
        data = gone if event_type == "user.deleted" else data.data
    elif isinstance(data, LocalSession):
        data = {**data.data, "user": None}
    event = {
        "data": data,
        "event_attributes": {"http_request": {"client_ip": "", "user_agent": ""}},
        "instance_id": instance_id,
        "object": "event",
        "timestamp": _next_moment(),
        "type": event_type,
    }
    now = time.time() if timestamp is None else timestamp
    return LocalWebhook(
        id=new_id("msg") if id is None else id,
        timestamp=now if isinstance(now, str) else str(int(now)),
        body=json.dumps({**event, **fields}).encode(),
        secret=secret,
    )
