"""Canaries: tokens, secrets and addresses go through every door, and must turn up nowhere but where they belong."""

from __future__ import annotations

import copy
import hashlib
import logging
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache
from django.test import RequestFactory
from django.views.debug import ExceptionReporter

from clerk_views import clerk_client, clerk_required, signals
from clerk_views.api import get_api
from clerk_views.authentication import authenticate
from clerk_views.conf import config
from clerk_views.exceptions import ClerkUnavailable
from clerk_views.keys import get_key_ring
from clerk_views.states import memo_of
from clerk_views.testing import LocalClerk
from tests.doors import DOORS, FEW, Door, door_id

pytestmark = pytest.mark.django_db

EMAIL = "canary@example.com"
NAME = "Canaria"
ALL = [
    signals.clerk_auth_success,
    signals.clerk_auth_failed,
    signals.clerk_cache_miss,
    signals.clerk_user_synced,
    signals.clerk_user_linked,
]


class Canaries:
    """Texts that must not turn up. Of a token each part counts, but for the header, which says nothing."""

    def __init__(self, server: LocalClerk) -> None:
        self.server = server
        self.user = server.add_user(email=EMAIL, first_name=NAME)
        self.good = server.token(self.user)
        self.bad = [
            self.good[:-8] + "AAAAAAAA",
            server.token(self.user, azp="http://canary-party.example"),
            server.token(self.user, expires_in=-60),
            server.token(self.user, header={"kid": "ins_canarykid"}),
            "ak_canary0123456789",
            "canary-junk",
            "x" * 20_000,
        ]

    def found_in(self, text: str) -> list[str]:
        tokens = [self.good, *self.bad]
        parts = {part for token in tokens for part in token.split(".")[1:] if len(part) > 12}
        secrets = {self.server.secret_key, EMAIL, NAME, "canary-junk", "ak_canary0123456789", "canary-party"}
        return [canary for canary in parts | secrets if canary in text]

    def visit(self, door: Door) -> None:
        """Go through a door in good days and in bad ones."""
        for token in (self.good, *self.bad):
            door.send(f"Bearer {token}")
            door.send(None, f"__session={token}")
            door.send(f"Bearer {token}", f"__session={token}", method="POST")
        self.server.faults.status(500)
        cache.clear()
        door.send(f"Bearer {self.server.token(self.user)}")
        self.server.faults.clear()


@pytest.mark.parametrize("door", DOORS, ids=door_id)
def test_no_credential_reaches_the_log(local_clerk: LocalClerk, door: Door, caplog: pytest.LogCaptureFixture) -> None:
    """LOG-01, LOG-02: at DEBUG, every library's log included."""
    canaries = Canaries(local_clerk)
    with caplog.at_level(logging.DEBUG):
        canaries.visit(door)
    texts = [caplog.text, *(repr(record.__dict__) for record in caplog.records)]
    texts += ["".join(traceback.format_exception(*record.exc_info)) for record in caplog.records if record.exc_info]
    assert any("clerk_views" in record.name for record in caplog.records)
    assert canaries.found_in("\n".join(texts)) == []


def test_the_cache_holds_no_personal_data(local_clerk: LocalClerk) -> None:
    """CAC-05."""
    canaries = Canaries(local_clerk)
    FEW[0].send(f"Bearer {canaries.good}")
    dump = repr([(key, pickle.loads(value)) for key, value in cache._cache.items()])  # type: ignore[attr-defined]  # noqa: S301  # our own
    assert "clerk_views" in dump
    assert canaries.found_in(dump) == []
    assert canaries.user.id not in dump
    assert hashlib.sha256(canaries.good.encode()).hexdigest() not in dump


def test_nothing_shows_its_secrets(local_clerk: LocalClerk) -> None:
    """LOG-01: repr, str, copies and pickles."""
    canaries = Canaries(local_clerk)
    request = RequestFactory().get("/", headers={"authorization": f"Bearer {canaries.good}"})
    state = authenticate(request)
    shown = [state, state.auth, state.verdict, memo_of(request), config(), clerk_client, get_api(config())]
    shown += [get_key_ring(config()), clerk_client.sdk, clerk_client.get_user_details(canaries.user.id)]
    token_parts = canaries.good.split(".")[1:]
    for item in shown[:-1]:
        assert canaries.found_in(f"{item!r} {item!s}") == [], type(item)
    assert local_clerk.secret_key not in repr(shown[-1])
    for auth in (copy.copy(state.auth), copy.deepcopy(state.auth), pickle.loads(pickle.dumps(state.auth))):  # noqa: S301  # our own
        assert auth.token is None
        assert auth == state.auth
    assert not any(part.encode() in pickle.dumps(state.auth) for part in token_parts)


def test_errors_carry_no_secrets(local_clerk: LocalClerk) -> None:
    """LOG-01: what is raised, with all its causes."""
    canaries = Canaries(local_clerk)
    breaks: list[Callable[[], None]] = [
        lambda: local_clerk.faults.status(401),
        local_clerk.faults.down,
        lambda: local_clerk.faults.garbage("html"),
        lambda: local_clerk.respond(f"/v1/users/{canaries.user.id}", f'{{"email": "{EMAIL}"}}'.encode()),
    ]
    for break_it in breaks:
        local_clerk.faults.clear()
        break_it()
        with pytest.raises(ClerkUnavailable) as caught:
            clerk_client.get_user_details(canaries.user.id)
        assert canaries.found_in("".join(traceback.format_exception(caught.value))) == []


@pytest.mark.parametrize("fault", ["down", "html", "status"])
def test_error_reports_show_no_secrets_in_our_frames(local_clerk: LocalClerk, fault: str) -> None:
    """LOG-01: Django's error reports show the variables of every frame of the traceback."""
    canaries = Canaries(local_clerk)
    faults: dict[str, Callable[[], None]] = {
        "down": local_clerk.faults.down,
        "html": lambda: local_clerk.faults.garbage("html"),
        "status": lambda: local_clerk.faults.status(403),
    }
    faults[fault]()
    try:
        clerk_client.get_user_details(canaries.user.id)
    except ClerkUnavailable as error:
        reporter: Any = ExceptionReporter(None, type(error), error, error.__traceback__)
        text = reporter.get_traceback_html() + reporter.get_traceback_text()
    assert local_clerk.secret_key not in text


def test_a_view_that_raises_reports_no_token(local_clerk: LocalClerk) -> None:
    """LOG-01: our guard's frames stand in the traceback of every view."""

    @clerk_required
    def broken(request: Any) -> None:
        raise LookupError("oops")

    def report(request: Any) -> str:
        try:
            broken(request)
        except LookupError as error:
            # Without the request, whose headers Django shows and hides by rules of its own.
            reporter: Any = ExceptionReporter(None, LookupError, error, error.__traceback__)
            return str(reporter.get_traceback_html())
        raise AssertionError("it did not raise")

    token = local_clerk.token(local_clerk.add_user(email="ada@example.com"))
    text = report(RequestFactory().get("/", headers={"authorization": f"Bearer {token}"}))
    assert "oops" in text
    assert token.split(".")[1] not in text
    assert local_clerk.secret_key not in text


@pytest.mark.parametrize("door", FEW, ids=door_id)
def test_control_characters_do_not_reach_the_log(
    local_clerk: LocalClerk, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    """LOG-03: a line of the log is one line."""
    user = local_clerk.add_user(email="ada@example.com")
    evil = "x\r\nCRITICAL forged line\x1b[31m\x00"
    tokens = [
        local_clerk.token(user, header={"kid": evil}),
        local_clerk.token(user, header={"alg": evil}),
        local_clerk.token(user, header={"cat": evil}),
        local_clerk.token(user, header={"typ": evil}),
        local_clerk.token(user, sub=evil),
        local_clerk.token(user, azp=evil),
    ]
    with caplog.at_level(logging.DEBUG, "clerk_views"):
        for token in tokens:
            door.send(f"Bearer {token}")
        door.send(f"Bearer {evil}", f"__session={evil}")
    for record in caplog.records:
        if record.name == "clerk_views":
            assert record.getMessage().isprintable()


class Raising:
    """A receiver that raises, whatever it hears, and remembers it."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, dict[str, Any]]] = []

    def hear(self, sender: Any, **values: Any) -> None:
        del values["signal"]
        self.heard.append((sender, values))
        raise RuntimeError("a receiver's own trouble")


@pytest.mark.parametrize("door", FEW, ids=door_id)
def test_raising_receivers_change_nothing_and_hear_what_is_promised(local_clerk: LocalClerk, door: Door) -> None:
    """LOG-04, F-27."""
    receivers = {signal: Raising() for signal in ALL}
    for signal, receiver in receivers.items():
        signal.connect(receiver.hear)
    try:
        user = local_clerk.add_user(email="ada@example.com")
        token = local_clerk.token(user)
        token_hash = hashlib.sha256(token.encode()).hexdigest()
        assert door.verdict(door.send(f"Bearer {token}")) == user.id
        assert door.verdict(door.send(f"Bearer {token}")) == user.id
        bad = local_clerk.token(user, azp="http://evil.example")
        assert door.verdict(door.send(f"Bearer {bad}")) == "nobody"
    finally:
        for signal, receiver in receivers.items():
            signal.disconnect(receiver.hear)
    success, failed, missed, synced, linked = (receivers[signal].heard for signal in ALL)
    assert [set(values) for _, values in success] == [{"user", "source", "auth", "request"}] * 2
    assert [values["source"] for _, values in success] == ["api", "cache"]
    assert [values["auth"].user_id for _, values in success] == [user.id] * 2
    assert [set(values) for _, values in missed] == [{"token_hash", "request"}] * 2
    assert missed[0][1]["token_hash"] == token_hash
    assert [(values["reason"], set(values)) for _, values in failed] == [
        ("token-invalid-authorized-parties", {"reason", "token_hash", "request"})
    ]
    assert [(values["created"], set(values)) for _, values in synced] == [(True, {"user", "clerk_user", "created"})]
    assert linked == []
    for heard in (success, failed, missed, synced):
        assert all(sender.__name__ in ("WSGIRequest", "ASGIRequest") for sender, _ in heard)
    assert all(type(values["request"]) is sender for sender, values in success + failed + missed)
