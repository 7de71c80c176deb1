"""
What has happened at Clerk? The address that Clerk tells, message by message.

A message is looked at in this order: its method and size, its headers, its signature over the very bytes that arrived,
whether it was dealt with before, and only then what it says. Users are brought in step as by a sign-in (sync.py), ended
sessions are noted (revocation.py), and whoever listens hears of every message once.

The signature is checked here, by the standard library: it is one HMAC. The helpers on the package index want the same
bytes and headers, raise on malformed headers in a dozen ways that would have to be caught one by one, and judge the
time and the number of signatures otherwise than this module must.

It is a plain sync view; Django runs such views in a thread where there is an event loop.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, IntegrityError, connections, router, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_POST

from clerk_views import revocation, signals, tokens
from clerk_views.answers import unavailable
from clerk_views.conf import Config
from clerk_views.conf import config as current_config
from clerk_views.exceptions import AccountRefused, ClerkUnavailable, UserNotFound
from clerk_views.freshness import note_told
from clerk_views.models import ClerkWebhookMessage
from clerk_views.profiles import Profile, read_profile
from clerk_views.strict_json import parse_object
from clerk_views.sync import Outcome, described, rank_of, tell, write_profile

logger = logging.getLogger("clerk_views")

MAX_BODY = 1024 * 1024  # bytes
MAX_SIGNATURES = 16
TOLERANCE = 300  # seconds, each way

#: Deeper than in tokens, as users write some of it: who nests his own metadata must not thereby keep us from hearing
#: that he was banned. Clerk bounds metadata by size.
MAX_JSON_DEPTH = 64

#: Clerk's sender tries again for 28 hours; who sends by hand from the dashboard may come later.
MESSAGES_KEPT = timedelta(days=7)
#: After how many messages old ones are removed, and how many at most. A prime: keys of a cluster skip numbers.
_PRUNE_EVERY = 101
_PRUNE_AT_MOST = 500

_MESSAGE_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")  # no dot, so that the signed text can be taken apart in one way only
_LAST_MOMENT = 2**42  # milliseconds; the year 2109, and as much as a rank has room for
_TIMESTAMP = re.compile(r"[0-9]{1,12}")

#: Header names: those of Clerk's sender, else those of the standard that grew from it, never a mixture.
#: Source: Svix, "verifying webhooks manually"; Standard Webhooks, "webhook headers".
_PREFIXES = ("svix-", "webhook-")

_USER_EVENTS = ("user.created", "user.updated", "user.deleted")
_SESSION_EVENTS = ("session.ended", "session.removed", "session.revoked")


class _Malformed(Exception):
    """Not a message from our Clerk instance. The text is for the log."""


@dataclass(frozen=True, slots=True)
class _Envelope:
    """What the headers say. ``signatures`` are of the kind that we can check."""

    message_id: str
    timestamp: str
    signatures: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Event:
    """
    What a message says.

    Attributes:
        moment: When it happened, in milliseconds by Clerk's clock; 0 where that is not told.
        rank: By sync.rank_of(), its place among those about the same change.
    """

    message_id: str
    type: str
    moment: int
    rank: int
    data: Any = field(repr=False)


@csrf_exempt
@login_not_required
@never_cache
@require_POST
@sensitive_variables()
def webhook(request: HttpRequest) -> HttpResponseBase:
    """
    Take one message: 204 when it is dealt with, now or before; 400 or 413 for what is none; 503 for "send it again".

    An error of the project's own code, in the ``save()`` of its users say, is not caught: it takes the message back,
    too, and is a 500 to Clerk.

    Raises:
        ImproperlyConfigured: There is no CLERK_WEBHOOK_SIGNING_SECRET, so nothing could be believed.
    """
    config = current_config()
    if not config.webhook_secrets:
        raise ImproperlyConfigured(
            "CLERK_WEBHOOK_SIGNING_SECRET is not set, so no webhook can be believed. Copy the endpoint's signing "
            "secret (it starts with 'whsec_') from the webhooks page of Clerk's dashboard."
        )
    try:
        envelope = _envelope(request.headers)
        body = _body(request)
        if body is None:
            return JsonResponse({"detail": "The message is too large.", "code": "webhook-too-large"}, status=413)
        event = _open(envelope, body, config)
    except _Malformed as error:
        logger.warning("A webhook was refused: %s.", error)
        return JsonResponse({"detail": "This is no webhook from Clerk.", "code": "webhook-invalid"}, status=400)
    try:
        news = _take(event, config, type(request))
    except Error as error:
        logger.error("Webhook %s was put off, as the database does not work: %s", event.message_id, described(error))
        return unavailable(request, ClerkUnavailable("database-unavailable"), page=False)
    except ClerkUnavailable as error:
        logger.error("Webhook %s was put off: %s", event.message_id, error.reason)
        return unavailable(request, error, page=False)
    if news is not None:
        news()
        signals.clerk_webhook_received.send_robust(
            type(request), event_type=event.type, data=event.data, event_id=event.message_id
        )
    return HttpResponse(status=204)


# Under ATOMIC_REQUESTS, too, the message is stored before its answer is given: else the answer could be a lie.
for _alias in connections:
    webhook = transaction.non_atomic_requests(using=_alias)(webhook)


def _envelope(headers: Mapping[str, str]) -> _Envelope:
    for prefix in _PREFIXES:
        message_id, timestamp, signature = (
            headers.get(prefix + name, "").strip(" \t") for name in ("id", "timestamp", "signature")
        )
        if message_id or timestamp or signature:
            break
    if not _MESSAGE_ID.fullmatch(message_id):
        raise _Malformed("no message id")
    if not _TIMESTAMP.fullmatch(timestamp) or abs(tokens.now() - int(timestamp)) > TOLERANCE:
        raise _Malformed(f"no timestamp within {TOLERANCE} seconds of this machine's clock")
    entries = signature.split(" ", MAX_SIGNATURES)[:MAX_SIGNATURES]
    # Other versions are other algorithms; whoever sends several lets each receiver pick.
    signatures = tuple(entry[3:].encode("utf-8", "replace") for entry in entries if entry.startswith("v1,"))
    if not signatures:
        raise _Malformed("no signature of version 1")
    return _Envelope(message_id, timestamp, signatures)


def _body(request: HttpRequest) -> bytes | None:
    """Read the body as it is; None if it is too large, which is known before it is read where its length is told."""
    length = request.META.get("CONTENT_LENGTH") or ""
    if re.fullmatch(r"[0-9]+", length) and (len(length) > 15 or int(length) > MAX_BODY):
        return None
    try:
        # Not request.body: DATA_UPLOAD_MAX_MEMORY_SIZE is the project's word on forms, and may be less or much more.
        body = request.read(MAX_BODY + 1)
    except (UnreadablePostError, ValueError):  # the sender is gone; or something before us has read and closed it
        raise _Malformed("the body cannot be read") from None
    return body if len(body) <= MAX_BODY else None


@sensitive_variables()
def _open(envelope: _Envelope, body: bytes, config: Config) -> _Event:
    signed = f"{envelope.message_id}.{envelope.timestamp}.".encode() + body
    expected = [base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)) for secret in config.webhook_secrets]
    matches = [hmac.compare_digest(one, other) for one in expected for other in envelope.signatures]
    if not any(matches):
        raise _Malformed("the signature is not by CLERK_WEBHOOK_SIGNING_SECRET")
    try:
        message = parse_object(body, max_depth=MAX_JSON_DEPTH)
    except ValueError as error:
        raise _Malformed(f"signed, but {error}; 'manage.py clerk_sync' repairs what it may have said") from None
    event_type = message.get("type")
    if not isinstance(event_type, str) or not event_type:
        raise _Malformed("signed, but of no type")
    moment = message.get("timestamp")
    if type(moment) is not int or not 0 <= moment < _LAST_MOMENT:
        moment = 0
    return _Event(envelope.message_id, event_type, moment, rank_of(moment, body), message.get("data"))


def _take(event: _Event, config: Config, sender: type) -> Callable[[], None] | None:
    """
    Note the message and let it have its effect, both or neither.

    Of many deliveries at the same moment one writes the row, and the others wait for what comes of it.

    Returns:
        What tells receivers of signals, to be called when all is stored; None if the message was dealt with before.
    """
    database = router.db_for_write(get_user_model())
    news: Callable[[], None] = _nothing
    with transaction.atomic(using=database):
        try:
            with transaction.atomic(using=database):
                message = ClerkWebhookMessage.objects.using(database).create(message_id=event.message_id)
        except IntegrityError:
            return None
        if event.type in _USER_EVENTS:
            news = _sync_user(event, config, sender)
        elif event.type in _SESSION_EVENTS and config.check_revoked_sessions:
            _revoke_session(event, config)
    if message.pk % _PRUNE_EVERY == 0:
        _prune(database)
    return news


def _nothing() -> None:
    """Tell nothing but what every message tells."""


def _sync_user(event: _Event, config: Config, sender: type) -> Callable[[], None]:
    """Bring the user in step. What would fail the same way next time is logged, not asked for again."""
    data = event.data
    if isinstance(data, Mapping) and event.type == "user.deleted":
        data = {**data, "deleted": True}
    try:
        profile = read_profile(data)._replace(rank=event.rank)
    except ValueError:
        logger.warning("Webhook %s says that a user changed, but not which", event.message_id)
        return _nothing
    # What else goes wrong, in a receiver or field of the project's own above all, is left to rise: all is taken back
    # with it, the answer is a 500 that error reports tell of, and Clerk sends the message again.
    try:
        outcome = write_profile(profile, config)
    except AccountRefused as error:
        logger.warning("Webhook %s changed nobody: %s", event.message_id, error.detail)
    except UserNotFound:
        logger.info("Webhook %s is about a user who is not known here", event.message_id)
    else:
        return partial(_tell_of_user, outcome, profile, event, config, sender)
    return _nothing


def _tell_of_user(outcome: Outcome, profile: Profile, event: _Event, config: Config, sender: type) -> None:
    if outcome.applied:
        note_told(outcome.user, profile.id, event.moment / 1000, config)
    tell(outcome, profile, sender)


def _revoke_session(event: _Event, config: Config) -> None:
    session_id = event.data.get("id") if isinstance(event.data, Mapping) else None
    if not isinstance(session_id, str) or not session_id:
        logger.warning("Webhook %s says that a session ended, but not which", event.message_id)
    elif not revocation.revoke(session_id, config):
        raise ClerkUnavailable("cache-unavailable")  # a session that someone ended must not be forgotten


def _prune(database: str) -> None:
    """Remove some of the messages that nobody will send again. If that fails, the next time will do."""
    old = ClerkWebhookMessage.objects.using(database).filter(received_at__lt=timezone.now() - MESSAGES_KEPT)
    try:
        with transaction.atomic(using=database):
            keys = list(old.order_by("received_at").values_list("pk", flat=True)[:_PRUNE_AT_MOST])
            old.filter(pk__in=keys).delete()
    except Error as error:
        logger.warning("Old webhook messages were not removed: %s", described(error))
