"""From a request to its state: what is remembered, for how long, and what is told to whom."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.test import RequestFactory, override_settings

from clerk_views import aget_clerk, get_clerk, signals
from clerk_views.access import load_user
from clerk_views.authentication import (
    MAX_VERDICTS,
    RequestState,
    _Verdicts,
    aauthenticate,
    authenticate,
    is_foreign,
    memo_of,
)
from clerk_views.conf import config
from clerk_views.exceptions import AccountRefused, ClerkUnavailable
from clerk_views.keys import FetchedKeyRing, get_key_ring
from clerk_views.testing import LocalClerk


def request_with(token: str | None = None, *, cookie: str | None = None, method: str = "GET") -> HttpRequest:
    headers = {}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    if cookie is not None:
        headers["cookie"] = f"__session={cookie}"
    return RequestFactory().generic(method, "/", headers=headers)


def later(seconds: float) -> None:
    """Put forward the clock by which the key ring in use measures ages; it is an argument of the ring's."""
    ring = get_key_ring(config())
    assert isinstance(ring, FetchedKeyRing)
    ring._clock = lambda: time.monotonic() + seconds


class Heard:
    """What a signal sent."""

    def __init__(self, signal: Any) -> None:
        self.signal = signal
        self.sent: list[dict[str, Any]] = []

    def __enter__(self) -> list[dict[str, Any]]:
        self.signal.connect(self.hear)
        return self.sent

    def __exit__(self, *exc: object) -> None:
        self.signal.disconnect(self.hear)

    def hear(self, sender: Any, **values: Any) -> None:
        self.sent.append({"sender": sender, **values})


def test_a_state_says_how_the_request_stands(local_clerk: LocalClerk) -> None:
    token = local_clerk.token("user_a", sid="sess_b")
    state = authenticate(request_with(token))
    assert (state.status, state.reason, state.is_signed_in, state.token_type) == (
        "signed-in",
        None,
        True,
        "session_token",
    )
    assert state.token == token
    assert state.payload is not None
    assert state.payload["sid"] == "sess_b"
    assert state.auth.user_id == "user_a"
    assert state.headers == ()
    assert token not in repr(state)
    nobody = authenticate(request_with())
    assert (nobody.status, nobody.reason) == ("signed-out", "session-token-and-uat-missing")
    assert (nobody.is_signed_in, nobody.token, nobody.token_type, nobody.payload) == (False, None, None, None)
    assert ("x-clerk-auth-status", "signed-out") in nobody.headers


def test_a_pending_session_is_signed_in_here_and_signed_out_for_views(local_clerk: LocalClerk) -> None:
    """TOK-12. Source: Clerk, pending sessions."""
    state = authenticate(request_with(local_clerk.token("user_a", sts="pending")))
    assert state.is_signed_in
    assert state.payload is not None
    assert state.auth.status == "pending"
    assert not state.auth.is_authenticated
    assert state.auth.user_id is None


def test_a_view_that_admits_pending_sessions_sees_them_in_full(local_clerk: LocalClerk) -> None:
    """TOK-12: from the request that is seen as signed out elsewhere, and from a token that is remembered as well."""
    token = local_clerk.token("user_a", sts="pending")
    for _ in range(2):
        state = authenticate(request_with(token))
        assert state.auth.user_id is None
        admitted = state.auth_if_pending_allowed
        assert (admitted.status, admitted.user_id, admitted.token) == ("pending", "user_a", token)
        assert admitted.is_authenticated


def test_admitting_pending_sessions_admits_nobody_else(local_clerk: LocalClerk) -> None:
    """TOK-12, I8."""
    active = authenticate(request_with(local_clerk.token("user_a")))
    assert active.auth_if_pending_allowed is active.auth
    for request in (request_with(), request_with("a.b.c"), request_with(local_clerk.token("user_a", sts="ended"))):
        assert not authenticate(request).auth_if_pending_allowed.is_authenticated


def test_the_payload_of_one_request_is_not_another_s(local_clerk: LocalClerk) -> None:
    """CTX-01: verdicts are shared, what views are handed is not."""
    token = local_clerk.token("user_a", o={"id": "org_1"})
    first, second = authenticate(request_with(token)), authenticate(request_with(token))
    assert first.payload is not None
    first.payload["o"]["id"] = "org_2"
    first.auth.claims["o"]["id"] = "org_2"
    assert second.payload is not None
    assert second.payload["o"]["id"] == "org_1"
    assert second.auth.claims["o"]["id"] == "org_1"


@pytest.mark.parametrize(
    ("claims", "method", "reason"),
    [
        ({"exp": 1_700_000_000}, "GET", "session-token-expired-refresh-non-eligible-no-refresh-cookie"),
        ({"exp": 1_700_000_000}, "POST", "session-token-expired-refresh-non-eligible-non-get"),
        ({"nbf": 4_000_000_000}, "GET", "session-token-nbf"),
        ({"iat": 4_000_000_000, "exp": 4_000_000_060}, "GET", "session-token-iat-in-the-future"),
        ({"azp": "http://evil.example"}, "GET", "token-invalid-authorized-parties"),
        ({"iss": "https://evil.example"}, "GET", "token-invalid-issuer"),
        ({"sid": None}, "GET", "token-verification-failed"),
    ],
)
def test_reasons_are_clerk_s(local_clerk: LocalClerk, claims: dict[str, Any], method: str, reason: str) -> None:
    state = authenticate(request_with(local_clerk.token("user_a", **claims), method=method))
    assert (state.status, state.reason, state.auth.reason) == ("signed-out", reason, reason)
    assert ("x-clerk-auth-reason", reason) in state.headers


def test_it_is_worked_out_once_per_request(local_clerk: LocalClerk) -> None:
    request = request_with(local_clerk.token("user_a"))
    assert authenticate(request) is authenticate(request)
    assert async_to_sync(aauthenticate)(request) is authenticate(request)
    assert get_clerk(request) is async_to_sync(aget_clerk)(request)


def test_an_outage_is_found_once_per_request(local_clerk: LocalClerk) -> None:
    """DOS-02: no second try, which would spend the time twice."""
    local_clerk.faults.status(500)
    request = request_with(local_clerk.token("user_a"))
    with pytest.raises(ClerkUnavailable):
        authenticate(request)
    calls = local_clerk.calls.total
    with pytest.raises(ClerkUnavailable):
        authenticate(request)
    assert local_clerk.calls.total == calls


def test_a_verdict_is_remembered_and_dies_with_its_token(local_clerk: LocalClerk, time_machine: Any) -> None:
    """CAC-01."""
    token = local_clerk.token("user_a", expires_in=60)
    with Heard(signals.clerk_cache_miss) as missed:
        first = authenticate(request_with(token))
        assert authenticate(request_with(token)).verdict is first.verdict
        assert len(missed) == 1
        time_machine.move_to(time.time() + 62)  # expired, within the leeway: good, and looked at each time
        assert authenticate(request_with(token)).is_signed_in
        assert authenticate(request_with(token)).verdict is not first.verdict
        time_machine.move_to(time.time() + 10)
        assert not authenticate(request_with(token)).is_signed_in


def test_a_verdict_dies_with_its_key(local_clerk: LocalClerk) -> None:
    """F-19: a token signed by a withdrawn key ends when the new set is fetched, however long it lives."""
    token = local_clerk.token("user_a", expires_in=86_400)
    assert authenticate(request_with(token)).is_signed_in
    local_clerk.rotate_keys()
    assert authenticate(request_with(token)).is_signed_in
    later(40)
    assert authenticate(request_with(local_clerk.token("user_b"))).is_signed_in  # its key id leads to a refresh
    assert authenticate(request_with(token)).reason == "jwk-kid-mismatch"


def test_a_key_rotated_under_the_same_id_is_found(local_clerk: LocalClerk) -> None:
    """F-19, KEY-02."""
    assert authenticate(request_with(local_clerk.token("user_a"))).is_signed_in
    local_clerk.rotate_keys(same_kid=True)
    later(40)
    renewed = local_clerk.token("user_a")
    for judge in (authenticate, async_to_sync(aauthenticate)):
        assert judge(request_with(renewed)).is_signed_in
    assert local_clerk.calls.key_fetches == 2


def test_two_configurations_share_nothing(local_clerk: LocalClerk) -> None:
    """CAC-02, TOK-16: one token, two audiences; one key id, two instances."""
    token = local_clerk.token("user_a", aud="https://one.example")
    with override_settings(CLERK_AUDIENCE="https://one.example"):
        assert authenticate(request_with(token)).is_signed_in
    with override_settings(CLERK_AUDIENCE="https://two.example"):
        assert authenticate(request_with(token)).reason == "token-verification-failed"
    with LocalClerk() as other, override_settings(**other.settings()):
        foreign = other.token("user_a", header={"kid": local_clerk.signing_key.kid}, iss=local_clerk.issuer)
        assert not authenticate(request_with(token)).is_signed_in
    assert authenticate(request_with(foreign)).reason == "token-invalid-signature"


def test_memory_is_bounded_and_forgets_the_oldest() -> None:
    verdicts = _Verdicts()
    for number in range(MAX_VERDICTS + 10):
        verdicts.put(str(number).encode(), number)  # type: ignore[arg-type]
    assert verdicts.get(b"9") is None
    assert verdicts.get(b"10") == 10  # type: ignore[comparison-overlap]
    assert len(verdicts._entries) == MAX_VERDICTS


def test_a_pem_verifies_without_network(local_clerk: LocalClerk, settings: Any) -> None:
    settings.CLERK_JWT_KEY = local_clerk.signing_key.public_pem.replace("\n", "\\n")
    for judge in (authenticate, async_to_sync(aauthenticate)):
        assert judge(request_with(local_clerk.token("user_a"))).is_signed_in
        assert judge(request_with(local_clerk.token("user_a")[:-4] + "AAAA")).reason == "token-invalid-signature"
    assert local_clerk.calls.total == 0


def test_one_token_unavailable_beside_a_good_one_does_not_matter(local_clerk: LocalClerk) -> None:
    """I4: junk beside a good credential changes nothing, not even during an outage."""
    good = local_clerk.token("user_a")
    assert authenticate(request_with(good)).is_signed_in
    local_clerk.faults.down()
    unknown = local_clerk.token("user_b", header={"kid": "ins_other"})
    request = RequestFactory().get("/", headers={"cookie": f"__session={unknown}; __session={good}"})
    assert authenticate(request).auth.user_id == "user_a"


def test_only_requests_of_django_are_authenticated() -> None:
    """MWR-05: another protocol is an error, never nobody."""
    for other in ({"type": "websocket"}, None, "request"):
        with pytest.raises(TypeError, match="Django HttpRequest"):
            get_clerk(other)


def test_a_memo_of_another_request_is_not_believed(local_clerk: LocalClerk) -> None:
    """MWR-02, CTX-01."""
    ada = request_with(local_clerk.token("user_a"))
    assert get_clerk(ada).user_id == "user_a"
    nobody = request_with()
    nobody.__dict__.update({name: value for name, value in ada.__dict__.items() if name.startswith("_clerk")})
    assert get_clerk(nobody).user_id is None


def test_a_failure_is_told_once_and_names_no_token(local_clerk: LocalClerk) -> None:
    import hashlib

    token = local_clerk.token("user_a", azp="http://evil.example")
    request = request_with(token)
    authenticate(request_with(local_clerk.token("user_a")))  # the keys are in memory now
    with Heard(signals.clerk_auth_failed) as failed:
        async_to_sync(aauthenticate)(request)
        authenticate(request)
    assert len(failed) == 1
    assert failed[0]["sender"] is type(request)
    assert failed[0]["reason"] == "token-invalid-authorized-parties"
    assert failed[0]["token_hash"] == hashlib.sha256(token.encode()).hexdigest()
    assert failed[0]["request"] is request
    with Heard(signals.clerk_auth_failed) as failed:
        authenticate(request_with())
        assert failed == []
        authenticate(request_with("a b"))
    assert failed[0]["token_hash"] is None


def test_who_is_not_signed_in_has_no_user(local_clerk: LocalClerk) -> None:
    with pytest.raises(AccountRefused):
        load_user(request_with())


@pytest.mark.parametrize(
    ("token", "foreign"),
    [("opaque", True), ("ak_" + "0" * 32, False), ("a.b.c", False), ("x" * 20_000, False), ("a b", False)],
)
def test_what_is_plainly_another_scheme_s(local_clerk: LocalClerk, token: str, foreign: bool) -> None:
    assert is_foreign(memo_of(request_with(token))) is foreign
    assert not is_foreign(memo_of(request_with(cookie=token)))


@override_settings(CLERK_SECRET_KEY="", CLERK_JWT_KEY="")
def test_without_a_key_source_nothing_is_decided() -> None:
    """CFG-01."""
    with pytest.raises(ImproperlyConfigured, match="CLERK_SECRET_KEY"):
        get_clerk(request_with())


def test_a_state_travels_without_its_token(local_clerk: LocalClerk) -> None:
    """LOG-01."""
    token = local_clerk.token("user_a")
    auth = authenticate(request_with(token)).auth
    assert token.encode() not in pickle.dumps(auth)
    assert isinstance(authenticate(request_with(token)), RequestState)


def test_a_child_process_starts_without_locks_held(tmp_path: Any) -> None:
    """F-29."""
    code = """
import os, threading
from django.conf import settings
settings.configure(CLERK_SECRET_KEY="sk_test_x")
from clerk_views import authentication
verdicts = authentication._verdicts("x")
verdicts._lock.acquire()
child = os.fork()
if child == 0:
    authentication._verdicts("x").put(b"1", None)
    os._exit(0)
import signal, time
for _ in range(100):
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        raise SystemExit(status)
    time.sleep(0.1)
os.kill(child, signal.SIGKILL)
raise SystemExit("the child hangs")
"""
    run = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True, text=True, env={**os.environ})
    assert run.returncode == 0, run.stderr


def test_claims_are_json(local_clerk: LocalClerk) -> None:
    auth = authenticate(request_with(local_clerk.token("user_a", name="\u00fc"))).auth
    assert json.loads(json.dumps(dict(auth.claims)))["name"] == "\u00fc"
