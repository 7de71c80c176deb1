"""The stand-in's Backend API, as Clerk's own SDK reads it, and as one asks who does it wrongly."""

from __future__ import annotations

import re
import time
from typing import Any

import clerk_backend_api
import httpx
import pytest
from clerk_backend_api.models import ClerkErrors

from clerk_views.testing import LocalClerk

#: The SDK warns about parameters of its own making whenever it lists users.
reading_lists = pytest.mark.filterwarnings("ignore:.*DEPRECATED:DeprecationWarning")


def test_the_sdk_reads_a_user(server: LocalClerk, sdk: clerk_backend_api.Clerk) -> None:
    user = server.add_user(email="ada@example.com", username="ada", first_name="Ada", last_name="Lovelace")

    answer = sdk.users.get(user_id=user.id)

    assert (answer.id, answer.username, answer.first_name, answer.last_name) == (user.id, "ada", "Ada", "Lovelace")
    assert answer.email_addresses[0].id == answer.primary_email_address_id
    assert answer.email_addresses[0].email_address == user.email == "ada@example.com"
    assert (answer.banned, answer.locked) == (False, False)
    assert re.fullmatch(r"user_[A-Za-z0-9]{27}", user.id)
    assert abs(answer.updated_at / 1000 - time.time()) < 60


def test_the_sdk_reads_the_key_set(server: LocalClerk, sdk: clerk_backend_api.Clerk) -> None:
    keys = sdk.jwks.get_jwks().keys

    assert keys is not None
    assert [key.kid for key in keys] == [server.signing_key.kid] == [server.instance_id]
    assert (keys[0].kty, keys[0].alg, keys[0].use) == ("RSA", "RS256", "sig")


def test_the_sdk_verifies_a_token(server: LocalClerk) -> None:
    token = server.token(server.add_user())
    options = clerk_backend_api.security.VerifyTokenOptions(secret_key=server.secret_key, api_url=server.url)

    assert clerk_backend_api.security.verify_token(token, options)["iss"] == server.issuer


@reading_lists
def test_the_sdk_lists_users_newest_first_and_counts_them(server: LocalClerk, sdk: clerk_backend_api.Clerk) -> None:
    ids = [server.add_user(email=f"{number}@example.com").id for number in range(12)]

    assert [user.id for user in sdk.users.list(request={})] == ids[:1:-1]
    assert [user.id for user in sdk.users.list(request={"limit": 5, "offset": 10})] == ids[1::-1]
    assert sdk.users.count(request={}).total_count == 12


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"email_address": ["ADA@example.com", "nobody@example.com"]}, ["ada"]),
        ({"email_address": ["second@example.com"]}, ["bob"]),
        ({"user_id": ["user_bob"]}, ["bob"]),
        ({"username": ["ada", "cy"]}, ["cy", "ada"]),
        ({"external_id": ["7"]}, ["cy"]),
        ({"query": "LOVE"}, ["ada"]),
        ({"query": "example"}, ["bob", "ada"]),
        ({"banned": True}, ["cy"]),
        ({"banned": False}, ["bob", "ada"]),
        ({"order_by": "username"}, ["ada", "bob", "cy"]),
        ({"order_by": "-username"}, ["cy", "bob", "ada"]),
        ({"order_by": "+created_at"}, ["ada", "bob", "cy"]),
        ({"order_by": "-last_active_at"}, ["ada", "cy", "bob"]),
    ],
    ids=str,
)
@reading_lists
def test_lists_are_filtered_and_ordered(
    server: LocalClerk, sdk: clerk_backend_api.Clerk, query: Any, found: list[str]
) -> None:
    server.add_user(email="ada@example.com", username="ada", last_name="Lovelace", last_active_at=10**12)
    server.add_user(
        id="user_bob",
        email="bob@example.com",
        username="bob",
        email_addresses=["second@example.com"],
        last_active_at=None,
    )
    server.add_user(username="cy", external_id="7", banned=True, last_active_at=999)

    assert [user.username for user in sdk.users.list(request=query)] == found


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "offset=-1"])
def test_limits_out_of_range_are_refused(over_http: httpx.Client, query: str) -> None:
    assert over_http.get(f"/v1/users?{query}").status_code == 422


def test_an_unknown_user_is_404_in_clerks_form(server: LocalClerk, sdk: clerk_backend_api.Clerk) -> None:
    user = server.add_user()
    server.delete_user(user)

    with pytest.raises(ClerkErrors) as caught:
        sdk.users.get(user_id=user.id)

    assert caught.value.status_code == 404
    assert caught.value.data.errors[0].code == "resource_not_found"


@pytest.mark.parametrize("header", [None, "Bearer sk_test_other", "bearer", "{secret}", "Basic {secret}"])
def test_a_wrong_secret_key_is_401_in_clerks_form(server: LocalClerk, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header.format(secret=server.secret_key)}

    answer = httpx.get(f"{server.url}/v1/jwks", headers=headers)

    assert answer.status_code == 401
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json()["errors"][0]["code"] == "clerk_key_invalid"
    assert set(answer.json()) == {"errors", "clerk_trace_id"}


def test_other_paths_and_methods_have_answers_too(over_http: httpx.Client) -> None:
    assert over_http.get("/v1/organizations").status_code == 404
    assert over_http.post("/v1/users", json={}).status_code == 405
    assert over_http.get("/elsewhere").status_code == 404


def test_any_bytes_can_be_the_answer_to_a_path(server: LocalClerk, over_http: httpx.Client) -> None:
    server.respond("/v1/jwks", b"\x00\x01", 418, "text/x-odd", [("X-Odd", "yes")])

    answer = over_http.get("/v1/jwks?a=b")

    assert (answer.status_code, answer.content) == (418, b"\x00\x01")
    assert (answer.headers["Content-Type"], answer.headers["X-Odd"]) == ("text/x-odd", "yes")
    assert over_http.get("/v1/users").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/users/{user}", 200),
        ("GET", "/v1/users/{user}/organization_memberships", 200),
        ("GET", "/v1/users/nobody/organization_memberships", 404),
        ("GET", "/v1/users/{user}/organization_memberships?limit=0", 422),
        ("GET", "/v1/sessions/{session}", 200),
        ("GET", "/v1/sessions/{session}/revoke", 404),
        ("POST", "/v1/sessions/{session}/revoke", 200),
        ("POST", "/v1/sessions/nobodys/revoke", 404),
        ("POST", "/v1/sessions/{session}/refresh", 401),
        ("DELETE", "/v1/users/{user}", 405),
        ("GET", "/api_keys/verify", 405),
        ("GET", "/v1/clients/handshake_payload?nonce=unknown", 400),
    ],
)
def test_each_address_takes_its_own_method(
    server: LocalClerk, over_http: httpx.Client, method: str, path: str, status: int
) -> None:
    user = server.add_user()
    session = server.open_session(user)

    assert over_http.request(method, path.format(user=user.id, session=session.id)).status_code == status


def test_an_id_may_need_quoting(server: LocalClerk, over_http: httpx.Client) -> None:
    server.add_user(id="user/ü?")

    assert over_http.get("/v1/users/user%2F%C3%BC%3F").json()["id"] == "user/ü?"


def test_the_domains_are_the_primary_one(server: LocalClerk, over_http: httpx.Client) -> None:
    body = over_http.get("/v1/domains").json()

    assert body["total_count"] == 1
    assert body["data"][0]["frontend_api_url"] == server.issuer
    assert body["data"][0]["is_satellite"] is False


def test_a_prepared_answer_asks_for_the_secret_key_too_and_ends_with_a_reset(
    server: LocalClerk, over_http: httpx.Client
) -> None:
    for path in ("/v1/users/user_1", "/api_keys/verify"):
        server.respond(path, b"{}")
        assert over_http.post(path).status_code == 200
        assert httpx.post(f"{server.url}{path}").status_code == 401

    server.reset()

    headers = {"Authorization": f"Bearer {server.secret_key}"}
    assert over_http.get("/v1/users/user_1", headers=headers).status_code == 404
