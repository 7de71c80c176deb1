"""What Clerk's API says, and what comes of it when it says nothing, nonsense, or no."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from clerk_backend_api.models import User
from django.core.exceptions import ImproperlyConfigured

from clerk_views import api as api_module
from clerk_views.api import MAX_APIS, MAX_REFUSED_NONCES, ClerkApi, get_api
from clerk_views.calls import Budget
from clerk_views.conf import config
from clerk_views.exceptions import ClerkUnavailable, TokenRefused, UserNotFound
from clerk_views.payloads import ClerkObject
from clerk_views.testing import LocalClerk
from clerk_views.testing.faults import GARBAGE, error_body
from tests import wire
from tests.asking import ASK, Ask, fail

# Answers


def test_a_user_is_the_sdks_own_model(local_clerk: LocalClerk, api: ClerkApi) -> None:
    user = local_clerk.add_user(email="ada@example.com")
    found = api.get_user(user.id, Budget(5))
    assert isinstance(found, User)
    assert found.email_addresses[0].email_address == "ada@example.com"


def test_the_key_set_comes_as_it_is(local_clerk: LocalClerk, api: ClerkApi) -> None:
    assert api.get_key_set(Budget(5)) == [local_clerk.signing_key.jwk]
    assert repr(api) == f"<ClerkApi at {local_clerk.url}>"


def test_odd_entries_do_not_cost_the_good_ones(local_clerk: LocalClerk, api: ClerkApi) -> None:
    """KEY-04: the SDK's model refuses the whole set."""
    entries = [{"kid": 7, "n": []}, None, "text", local_clerk.signing_key.jwk]
    local_clerk.key_set_override(entries)
    assert api.get_key_set(Budget(5)) == entries


def test_a_user_unknown_to_clerk_is_not_found(local_clerk: LocalClerk, api: ClerkApi) -> None:
    """F-09: that is an answer, so it neither opens the breaker nor is it asked twice."""
    for _ in range(5):
        with pytest.raises(UserNotFound):
            api.get_user("user_1", Budget(5))
    assert local_clerk.calls.user_fetches == 5
    assert api.retry_after == 0


@pytest.mark.parametrize("body", [b"", b"{}", b'{"errors": 1}'])
def test_a_404_counts_whatever_its_json(local_clerk: LocalClerk, api: ClerkApi, body: bytes) -> None:
    """F-09."""
    local_clerk.faults.status(404, body=body)
    with pytest.raises(UserNotFound):
        api.get_user("user_1", Budget(5))


def test_a_404_in_html_is_not_clerks(local_clerk: LocalClerk, api: ClerkApi) -> None:
    """A gateway that cannot find Clerk must not make users disappear."""
    local_clerk.respond("/v1/users/user_1", b"<h1>No such app", 404, "text/html; charset=utf-8")
    assert fail(api).reason == "upstream-unavailable"


@pytest.mark.parametrize(
    ("user_id", "segment"),
    [
        ("../organizations", "%2E%2E%2Forganizations"),
        ("..", "%2E%2E"),
        ("a/b?c=d#e", "a%2Fb%3Fc%3Dd%23e"),
        ("user_\0", "user_%00"),
        ("user_\ud800", "user_%3F"),
        ("%2e%2e", "%252e%252e"),
    ],
)
def test_an_id_cannot_leave_its_place_in_the_path(
    local_clerk: LocalClerk, api: ClerkApi, user_id: str, segment: str
) -> None:
    """TOK-10: the SDK does not escape it."""
    with pytest.raises(UserNotFound):
        api.get_user(user_id, Budget(5))
    assert [call.path for call in local_clerk.calls.paths] == [f"/v1/users/{segment}"]


@pytest.mark.parametrize("length", [0, 257])
def test_an_id_of_impossible_length_is_not_asked_for(local_clerk: LocalClerk, api: ClerkApi, length: int) -> None:
    with pytest.raises(UserNotFound):
        api.get_user("a" * length, Budget(5))
    assert local_clerk.calls.total == 0


def test_a_user_that_the_sdk_cannot_parse_is_read_leniently(local_clerk: LocalClerk, api: ClerkApi) -> None:
    """F-24: a change of Clerk's API is no outage."""
    user = local_clerk.add_user(
        email="ada@example.com", banned="perhaps", object="member", public_metadata={"plan": "pro"}, tags=["a"]
    )
    found = api.get_user(user.id, Budget(5))
    assert isinstance(found, ClerkObject)
    assert (found.id, found.banned, found.tags) == (user.id, "perhaps", ["a"])
    assert found.email_addresses[0].verification.status == "verified"
    assert found.public_metadata == {"plan": "pro"}
    assert found.no_such_thing is None


def test_another_user_than_asked_for_is_refused(local_clerk: LocalClerk, api: ClerkApi) -> None:
    """F-06: in the SDK's model or read leniently."""
    other = local_clerk.add_user()
    for body in (other.data, {"id": other.id}, {"id": ["user_1"]}, {}):
        local_clerk.respond("/v1/users/user_1", json.dumps(body).encode())
        assert fail(get_api(config())).reason == "upstream-unavailable"
        local_clerk.respond("/v1/users/user_1", json.dumps({"id": "user_1"}).encode())
        assert api.get_user("user_1", Budget(5)).id == "user_1"


def test_a_session_ends_once(local_clerk: LocalClerk, api: ClerkApi) -> None:
    """LFC-03: a session that Clerk does not have is an answer as well."""
    session = local_clerk.open_session(local_clerk.add_user(email="ada@example.com"))
    assert api.revoke_session(session.id, Budget(5)) is True
    assert session.status == "revoked"
    assert api.revoke_session("sess_unknown", Budget(5)) is False


@pytest.mark.parametrize("status", [400, 404, 410, 422])
def test_trouble_with_one_session_is_no_reason_to_leave_the_api_alone(
    local_clerk: LocalClerk, api: ClerkApi, status: int
) -> None:
    local_clerk.faults.status(status)
    for _ in range(5):
        assert api.revoke_session("sess_1", Budget(5)) is False
    assert local_clerk.calls.count("/v1/sessions/{id}/revoke") == 5
    assert api.retry_after == 0


def test_a_revoked_session_that_the_sdk_cannot_read_is_revoked(local_clerk: LocalClerk, api: ClerkApi) -> None:
    path = "/v1/sessions/sess_1/revoke"
    local_clerk.respond(path, b'{"id": "sess_1", "status": "a new one"}')
    assert api.revoke_session("sess_1", Budget(5)) is True
    local_clerk.respond(path, b'{"id": "sess_2", "status": "revoked"}')
    with pytest.raises(ClerkUnavailable):
        api.revoke_session("sess_1", Budget(5))


@pytest.mark.parametrize(
    "session_id", ["../users/user_1", "..", "a/b", "a?b", "a#b", "a b", "%2e%2e", "\u00e9", "\ud800"]
)
def test_an_odd_session_id_stays_one_segment(local_clerk: LocalClerk, api: ClerkApi, session_id: str) -> None:
    """TOK-10."""
    assert api.revoke_session(session_id, Budget(5)) is False
    assert local_clerk.calls.count("/v1/sessions/{id}/revoke") == local_clerk.calls.total == 1


# What the SDK has no method for

PAYLOAD = "/v1/clients/handshake_payload"
REFRESH = "/v1/sessions/sess_1/refresh"
NONCE = "n0nce"  # by name, as tracebacks quote lines of code

ASK_ONCE: dict[str, Ask] = {
    "nonce": lambda api, budget: api.get_handshake_payload(NONCE, budget),
    "refresh": lambda api, budget: api.refresh_session("sess_1", {"format": "cookie"}, True, budget),
}


@pytest.fixture(params=ASK_ONCE)
def ask_once(request: pytest.FixtureRequest) -> Ask:
    """Ask what may be asked once only: what a nonce stands for, and in another run for a renewed session."""
    return ASK_ONCE[request.param]


def test_a_nonce_is_exchanged_for_directives(local_clerk: LocalClerk, api: ClerkApi) -> None:
    """They come as they are; what to think of them is decided elsewhere."""
    local_clerk.respond(PAYLOAD, b'{"directives": ["__session=a.b.c; Path=/", 7]}')
    assert api.get_handshake_payload(NONCE, Budget(5)) == ["__session=a.b.c; Path=/", 7]
    (call,) = local_clerk.calls.paths
    assert (call.method, call.path) == ("GET", f"{PAYLOAD}?nonce=[hidden]")
    assert call.headers["authorization"] == "Bearer [hidden]"
    assert call.headers["clerk-api-version"] == "2026-05-12"


@pytest.mark.parametrize(("suffixed", "query"), [(True, "?suffixed_cookies=true"), (False, "")])
def test_a_session_is_renewed(suffixed: bool, query: str, settings: Any, local_clerk: LocalClerk) -> None:
    """Protocol, 11."""
    body = {"format": "cookie", "expired_token": "a.b.c", "request_headers": {"user-agent": ["x"]}}
    answer = wire.whole(b'{"object": "cookies", "cookies": ["__session=d.e.f"]}')
    with wire.serving(wire.recording(answer)) as server:
        settings.CLERK_API_URL = server.url
        found = get_api(config()).refresh_session("sess_1", body, suffixed, Budget(5))
    assert found == ["__session=d.e.f"]
    head, _, sent = server.received[0].partition(b"\r\n\r\n")
    assert head.startswith(f"POST {REFRESH}{query} HTTP/1.1\r\n".encode())
    assert f"Bearer {local_clerk.secret_key}".encode() in head
    assert json.loads(sent) == body


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (401, error_body(401, "authentication_invalid"), "authentication_invalid"),
        (404, error_body(404, "resource_not_found"), "resource_not_found"),
        (400, error_body(400, "invalid_nonce"), "invalid_nonce"),
        (422, error_body(422, "Not A Code\r\n"), "unexpected-bapi-error"),
        (400, b'{"errors": [{"code": 5}]}', "unexpected-bapi-error"),
    ],
)
def test_a_clear_no_is_an_answer(
    local_clerk: LocalClerk, api: ClerkApi, ask_once: Ask, status: int, body: bytes, code: str
) -> None:
    """MCH-04, DOS-02: whoever sends bad ones does not shut out the others."""
    for path in (PAYLOAD, REFRESH):
        local_clerk.respond(path, body, status)
    for _ in range(5):
        with pytest.raises(TokenRefused) as caught:
            ask_once(api, Budget(5))
        assert caught.value.reason == code
    assert api.retry_after == 0
    assert api.get_key_set(Budget(5))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, error_body(401, "clerk_key_invalid")),
        (404, b"<!doctype html><title>Welcome</title>"),
        (404, b"[]"),
        (404, b"{}"),
        (400, b'{"errors": []}'),
        (400, b'{"errors": ["no"]}'),
        (400, b"[" * 100_000),
        (408, error_body(408)),
        (429, error_body(429)),
        (500, error_body(500)),
        (502, b""),
        (302, b""),
        (200, b"[]"),
        (200, b'{"directives": null, "cookies": {}}'),
        (200, b"no json"),
        (200, b"[" * 100_000),
    ],
)
def test_what_is_no_answer_is_an_outage(
    local_clerk: LocalClerk, api: ClerkApi, ask_once: Ask, status: int, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """F-04 to F-10: nobody is signed out for it, and it is not tried again, for a nonce serves once."""
    for path in (PAYLOAD, REFRESH):
        local_clerk.respond(path, body, status)
    caplog.set_level(logging.DEBUG)
    error = fail(api, ask_once)
    assert error.answered
    assert local_clerk.calls.total == 1
    text = "".join(traceback.format_exception(error)) + caplog.text
    assert "Welcome" not in text
    assert NONCE not in text
    assert local_clerk.secret_key not in text


@pytest.mark.parametrize("fault", ["down", "slow", "truncated"])
def test_without_an_answer_it_is_not_asked_again(
    local_clerk: LocalClerk, api: ClerkApi, ask_once: Ask, fault: str
) -> None:
    """F-01, F-03, F-05."""
    if fault == "down":
        local_clerk.faults.down()
    elif fault == "slow":
        local_clerk.faults.slow(5)
    else:
        local_clerk.faults.garbage("truncated")
    started = time.monotonic()
    assert not fail(api, ask_once, 0.5).answered
    assert time.monotonic() - started < 2
    assert local_clerk.calls.total == 1


def test_a_nonce_is_in_no_log(local_clerk: LocalClerk, api: ClerkApi, caplog: pytest.LogCaptureFixture) -> None:
    """LOG-01: HTTP clients like to log the addresses they ask."""
    caplog.set_level(logging.DEBUG)
    local_clerk.respond(PAYLOAD, b'{"directives": []}')
    api.get_handshake_payload(NONCE, Budget(5))
    assert NONCE not in caplog.text


def test_made_up_nonces_do_not_use_up_the_rate_limit(
    local_clerk: LocalClerk, api: ClerkApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I6, MCH-02: the number of calls does not grow with the number of bad requests."""
    local_clerk.respond(PAYLOAD, error_body(400, "invalid_nonce"), 400)
    for number in range(MAX_REFUSED_NONCES):
        with pytest.raises(TokenRefused):
            api.get_handshake_payload(f"{number}", Budget(5))
    for _ in range(3):
        error = fail(api, ASK_ONCE["nonce"])
        assert 1 <= error.retry_after <= 10
    assert local_clerk.calls.total == MAX_REFUSED_NONCES
    monkeypatch.setattr(api._nonce_flood, "window", 0.0)  # the time that would have to pass
    with pytest.raises(TokenRefused, match="status 400"):
        api.get_handshake_payload("another", Budget(5))
    for known in ("another", "1"):
        with pytest.raises(TokenRefused, match="refused before"):
            api.get_handshake_payload(known, Budget(5))
    with pytest.raises(TokenRefused, match="status 400"):
        api.get_handshake_payload("0", Budget(5))  # forgotten: no more are kept
    assert local_clerk.calls.total == MAX_REFUSED_NONCES + 2
    local_clerk.respond(PAYLOAD, b'{"directives": []}')
    assert api.get_handshake_payload("good", Budget(5)) == []


def test_a_session_is_not_asked_about_again_at_once(
    local_clerk: LocalClerk, api: ClerkApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I6: whatever refresh tokens somebody makes up for one expired session."""
    local_clerk.respond(REFRESH, error_body(401, "authentication_invalid"), 401)
    for _ in range(3):
        with pytest.raises(TokenRefused, match=r"status 401|refused before") as caught:
            ASK_ONCE["refresh"](api, Budget(5))
        assert caught.value.reason == "authentication_invalid"
    assert local_clerk.calls.total == 1
    with pytest.raises(TokenRefused):
        api.refresh_session("sess_2", {}, False, Budget(5))
    assert local_clerk.calls.total == 2
    assert api._refused_refreshes.most >= 1024
    monkeypatch.setattr(api._refused_refreshes, "most", 2)
    with pytest.raises(TokenRefused, match="status 401"):
        api.refresh_session("sess_3", {}, False, Budget(5))
    for session in ("sess_2", "sess_3"):
        with pytest.raises(TokenRefused, match="refused before"):
            api.refresh_session(session, {}, False, Budget(5))
    local_clerk.respond(REFRESH, b'{"cookies": []}')
    assert api.refresh_session("sess_1", {}, False, Budget(5)) == []


# One object per configuration


def test_the_same_settings_have_the_same_api(local_clerk: LocalClerk, settings: Any) -> None:
    """CFG-05."""
    api = get_api(config())
    assert get_api(config()) is api
    settings.CLERK_CLOCK_SKEW_IN_MS = 1
    assert get_api(config()) is api
    settings.CLERK_TIMEOUT_MS = 1234
    assert get_api(config()) is not api
    settings.CLERK_TIMEOUT_MS = 5000
    assert get_api(config()) is api
    settings.CLERK_SECRET_KEY = "sk_test_other"
    assert get_api(config()) is not api


def test_without_a_secret_key_there_is_nobody_to_ask(local_clerk: LocalClerk, settings: Any) -> None:
    """CFG-01."""
    settings.CLERK_JWT_KEY = local_clerk.signing_key.public_pem
    settings.CLERK_USER_SOURCE = "claims"
    settings.CLERK_SECRET_KEY = None
    with pytest.raises(ImproperlyConfigured, match="CLERK_SECRET_KEY is not set"):
        get_api(config())


def test_superseded_apis_are_closed_and_forgotten(local_clerk: LocalClerk, settings: Any, api: ClerkApi) -> None:
    """CTX-03: and whoever still uses one is served."""
    user = local_clerk.add_user()
    unused = get_api(config())
    for number in range(MAX_APIS):
        settings.CLERK_TIMEOUT_MS = 1000 + number
        assert get_api(config()) is not unused
    settings.CLERK_TIMEOUT_MS = 5000
    assert get_api(config()) is not api
    connections = local_clerk.calls.connections
    assert api.get_user(user.id, Budget(5)).id == user.id
    assert local_clerk.calls.connections == connections + 1  # the old one was closed
    api.close()


def test_an_api_never_used_can_be_closed(local_clerk: LocalClerk) -> None:
    ClerkApi(local_clerk.secret_key, local_clerk.url, 5).close()


PROGRAM = """
import sys, threading
from django.conf import settings
settings.configure(CLERK_SECRET_KEY=sys.argv[1], CLERK_API_URL=sys.argv[2])
from clerk_views.api import get_api
from clerk_views.calls import Budget
from clerk_views.conf import config
api = get_api(config())
assert not {"httpx", "httpcore", "clerk_backend_api"} & set(sys.modules), "imported too early"
api.get_key_set(Budget(5))
threading.Thread(target=api.get_user, args=("user_1", Budget(60)), daemon=True).start()
"""


def test_the_sdk_is_imported_on_the_first_call_and_the_end_is_not_waited_for(local_clerk: LocalClerk) -> None:
    """F-29: a call under way does not hold up the end of the process."""
    local_clerk.faults.slow(20, path="/v1/users")
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", PROGRAM, local_clerk.secret_key, local_clerk.url], check=True, timeout=30)
    assert time.monotonic() - began < 15


def test_many_threads_share_one_sdk(local_clerk: LocalClerk) -> None:
    """CTX-03."""
    api = ClerkApi(local_clerk.secret_key, local_clerk.url, 5)
    barrier = threading.Barrier(16)

    def sdk(_: int) -> Any:
        barrier.wait()
        return api.sdk

    with ThreadPoolExecutor(16) as pool:
        assert len({id(sdk) for sdk in pool.map(sdk, range(16))}) == 1


# Everybody


def test_users_come_in_pages_by_age(local_clerk: LocalClerk, api: ClerkApi) -> None:
    users = [local_clerk.add_user(email=f"{number}@example.com", created_at=9 - number) for number in range(5)]
    by_age = [user.id for user in reversed(users)]
    pages = [api.list_users(Budget(5), limit=2, offset=offset) for offset in (0, 2, 4, 6)]
    assert [[user.id for user in page] for page in pages] == [by_age[:2], by_age[2:4], by_age[4:], []]
    assert pages[0][0].email_addresses[0].email_address == "4@example.com"
    assert isinstance(pages[0][0], ClerkObject)
    assert api.count_users(Budget(5)) == 5
    headers = [call.headers for call in local_clerk.calls.paths]
    assert {found["clerk-api-version"] for found in headers} == {"2025-11-10"}


def test_a_page_may_be_large_and_slow(local_clerk: LocalClerk, api: ClerkApi) -> None:
    """F-06 bounds what a request waits for; nobody waits here."""
    for _ in range(150):
        local_clerk.add_user(public_metadata={"note": "x" * 8000})
    local_clerk.faults.slow(3.2, times=1)
    assert len(api.list_users(Budget(20), limit=500, offset=0)) == 150
    assert api.retry_after == 0


def test_a_page_has_its_limits_too(local_clerk: LocalClerk, api: ClerkApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """F-06, F-03."""
    local_clerk.add_user(public_metadata={"note": "x" * 8000})
    monkeypatch.setattr(api_module, "MAX_PAGE", 8000)
    assert fail(api, lambda api, budget: api.list_users(budget, limit=500, offset=0)).reason == "upstream-unavailable"
    local_clerk.faults.slow(3)
    started = time.monotonic()
    assert fail(api, lambda api, budget: api.list_users(budget, limit=1, offset=0), 0.3).reason == "upstream-timeout"
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("kind", [kind for kind in GARBAGE if kind not in ("list", "endless", "huge", "gzip-bomb")])
def test_what_is_no_list_of_users_is_no_answer(local_clerk: LocalClerk, api: ClerkApi, kind: str) -> None:
    """F-06."""
    local_clerk.faults.garbage(kind)
    assert fail(api, lambda api, budget: api.list_users(budget, limit=1, offset=0)).reason == "upstream-unavailable"


@pytest.mark.parametrize("body", [b"[]", b'{"total_count": "5"}', b'{"total_count": true}', b"{}", b"null"])
def test_what_is_no_number_of_users_is_no_answer(local_clerk: LocalClerk, api: ClerkApi, body: bytes) -> None:
    """F-06."""
    local_clerk.respond("/v1/users/count", body)
    assert fail(api, ASK["count"]).reason == "upstream-unavailable"


# The instance


def test_the_instances_addresses(local_clerk: LocalClerk, api: ClerkApi) -> None:
    assert api.list_domains(Budget(5)) == [local_clerk.issuer]
    local_clerk.respond("/v1/domains", b"[]")
    assert fail(api, lambda api, budget: api.list_domains(budget)).reason == "upstream-unavailable"


@pytest.mark.parametrize(
    ("date", "differs"),
    [("Thu, 01 Jan 1970 00:00:10 GMT", True), ("yesterday", False), ("", False), ("Mon, 99 Jan 2026", False)],
)
def test_the_clock_is_that_of_the_last_answer(local_clerk: LocalClerk, api: ClerkApi, date: str, differs: bool) -> None:
    """F-20."""
    fresh = ClerkApi(local_clerk.secret_key, local_clerk.url, 5)
    assert fresh.clock_difference is None
    fresh.count_users(Budget(5))
    assert abs(fresh.clock_difference or 0) <= 1
    local_clerk.respond("/v1/users/count", b'{"total_count": 1}', headers=[("Date", date)])
    fresh.count_users(Budget(5))
    difference = fresh.clock_difference
    assert abs(difference + time.time() - 10) < 5 if differs and difference is not None else difference is None
    fresh.close()
