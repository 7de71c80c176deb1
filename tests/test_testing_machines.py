"""The machine tokens of the stand-in: made, verified, revoked and expired as at Clerk."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest

from clerk_views import tokens
from clerk_views.exceptions import ClerkUnavailable
from clerk_views.testing import LocalClerk, LocalMachine
from tests.test_machines import asked

PATHS = {
    "ak_": ("/api_keys/verify", "secret"),
    "mt_": ("/m2m_tokens/verify", "token"),
    "oat_": ("/oauth_applications/access_tokens/verify", "access_token"),
}


def verify(
    server: LocalClerk, token: str, *, key: str | None = None, body: dict[str, Any] | None = None
) -> httpx.Response:
    path, member = PATHS[token.partition("_")[0] + "_"]
    return httpx.post(
        f"{server.url}{path}",
        json=body or {member: token},
        headers={"Authorization": f"Bearer {key or server.secret_key}"},
        trust_env=False,
    )


def made(server: LocalClerk) -> dict[str, str]:
    return {
        "api_key": server.create_api_key("user_1", ["a"], claims={"x": 1}),
        "m2m_token": server.m2m_token("mch_1", ["a"], claims={"x": 1}),
        "oauth_token": server.oauth_token("user_1", ["a"], client_id="client_1"),
    }


def test_answers_have_clerks_members(local_clerk: LocalClerk) -> None:
    """Source: Clerk's Backend API, "verify"; times are in milliseconds."""
    common = {
        "object",
        "id",
        "subject",
        "scopes",
        "revoked",
        "revocation_reason",
        "expired",
        "expiration",
        "created_at",
        "updated_at",
    }
    own = {
        "api_key": {"type", "name", "description", "claims", "created_by", "last_used_at"},
        "m2m_token": {"claims", "last_used_at"},
        "oauth_token": {"client_id", "type"},
    }
    names = {
        "api_key": "api_key",
        "m2m_token": "machine_to_machine_token",
        "oauth_token": "clerk_idp_oauth_access_token",
    }
    for kind, token in made(local_clerk).items():
        response = verify(local_clerk, token)
        body = response.json()
        assert response.status_code == 200
        assert set(body) == common | own[kind]
        assert body["object"] == names[kind]
        assert body["scopes"] == ["a"]
        assert (body["revoked"], body["expired"], body["expiration"]) == (False, False, None)
        assert abs(body["created_at"] - time.time() * 1000) < 60_000
        assert tokens.kind(token) == tokens.kind(body["id"]) == kind
        assert tokens.is_opaque_shaped(token)
        assert token not in response.text


def test_who_may_ask(local_clerk: LocalClerk) -> None:
    machine = local_clerk.add_machine("us")
    for kind, token in made(local_clerk).items():
        assert verify(local_clerk, token, key="sk_test_wrong").status_code == 401
        allowed = verify(local_clerk, token, key=machine.secret_key).status_code
        assert allowed == (200 if kind == "m2m_token" else 401)


def test_what_is_asked_wrongly_is_not_answered(local_clerk: LocalClerk) -> None:
    for token in made(local_clerk).values():
        path, member = PATHS[token.partition("_")[0] + "_"]
        assert verify(local_clerk, token, body={"other": token}).status_code == 422
        assert verify(local_clerk, token, body={member: token, "other": 1}).status_code == 422
        assert verify(local_clerk, token, body={member: 5}).status_code == 404
        headers = {"Authorization": f"Bearer {local_clerk.secret_key}"}
        assert httpx.get(f"{local_clerk.url}{path}", headers=headers, trust_env=False).status_code == 405
        below = httpx.post(f"{local_clerk.url}/v1{path}", json={member: token}, headers=headers, trust_env=False)
        assert below.status_code == 405


def test_a_token_is_not_another_kinds(local_clerk: LocalClerk) -> None:
    token = made(local_clerk)["m2m_token"]
    response = httpx.post(
        f"{local_clerk.url}/api_keys/verify",
        json={"secret": token},
        headers={"Authorization": f"Bearer {local_clerk.secret_key}"},
        trust_env=False,
    )
    assert response.status_code == 404
    assert response.json()["errors"][0]["code"] == "resource_not_found"


def test_the_end_of_a_token(local_clerk: LocalClerk) -> None:
    revoked, expired, deleted, short, changed = (local_clerk.create_api_key("user_1") for _ in range(5))
    local_clerk.revoke_machine_token(revoked)
    assert verify(local_clerk, revoked).json()["revoked"] is True
    local_clerk.expire_machine_token(expired)
    assert verify(local_clerk, expired).json()["expired"] is True
    local_clerk.delete_machine_token(deleted)
    assert verify(local_clerk, deleted).status_code == 404
    local_clerk.update_machine_token(short, expiration=int(time.time() * 1000) - 1)
    assert verify(local_clerk, short).json()["expired"] is True
    local_clerk.update_machine_token(changed, active=False)
    assert verify(local_clerk, changed).json()["active"] is False
    for token in (revoked, expired, deleted, short, changed):
        assert asked(token) == "token-invalid"
    for forget in (local_clerk.revoke_machine_token, local_clerk.delete_machine_token):
        with pytest.raises(LookupError):
            forget(deleted)


def test_machines(local_clerk: LocalClerk) -> None:
    machine = local_clerk.add_machine("mailer")
    assert isinstance(machine, LocalMachine)
    assert machine.id.startswith("mch_")
    assert machine.secret_key.startswith("ak_")
    assert machine.secret_key not in repr(machine)
    assert machine.name == "mailer"
    with pytest.raises(ValueError, match=machine.id):
        local_clerk.add_machine(id=machine.id)
    local_clerk.reset()
    assert local_clerk.add_machine(id=machine.id).id == machine.id


def test_organisations_and_users_may_be_named_by_themselves(local_clerk: LocalClerk) -> None:
    ada, acme = local_clerk.add_user(), local_clerk.add_organization(name="Acme")
    assert verify(local_clerk, local_clerk.create_api_key(ada)).json()["subject"] == ada.id
    assert verify(local_clerk, local_clerk.create_api_key(acme)).json()["subject"] == acme.id
    assert verify(local_clerk, local_clerk.oauth_token(ada)).json()["subject"] == ada.id


def test_a_reset_forgets_them(local_clerk: LocalClerk) -> None:
    token = local_clerk.create_api_key("user_1")
    local_clerk.reset()
    assert verify(local_clerk, token).status_code == 404


def test_calls_are_counted(local_clerk: LocalClerk) -> None:
    for token in made(local_clerk).values():
        verify(local_clerk, token)
    assert local_clerk.calls.machine_verifications == 3
    assert [local_clerk.calls.count(path) for path, _ in PATHS.values()] == [1, 1, 1]


def test_an_outage_of_the_api_is_theirs_too(local_clerk: LocalClerk) -> None:
    token = local_clerk.create_api_key("user_1")
    local_clerk.faults.status(503, times=1)
    assert verify(local_clerk, token).status_code == 503
    assert verify(local_clerk, token).status_code == 200
    local_clerk.faults.status(500, path="/m2m_tokens")
    assert verify(local_clerk, token).status_code == 200
    local_clerk.faults.status(500)
    assert verify(local_clerk, token).status_code == 500
    with pytest.raises(ClerkUnavailable):
        asked(token)


def test_an_answer_may_be_put_in_their_place(local_clerk: LocalClerk) -> None:
    token = local_clerk.create_api_key("user_1")
    local_clerk.respond("/api_keys/verify", json.dumps({"active": False}).encode())
    assert verify(local_clerk, token).json() == {"active": False}
    assert verify(local_clerk, token, key="sk_test_wrong").status_code == 401


def test_jwts_are_not_kept(local_clerk: LocalClerk) -> None:
    token = local_clerk.m2m_token("mch_1", jwt=True)
    assert token.count(".") == 2
    with pytest.raises(LookupError):
        local_clerk.revoke_machine_token(token)
