"""What counts of what Clerk says about a user, and what is cleaned away. Threats: USR-01, USR-12, F-24."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from clerk_backend_api.models import User as SDKUser

from clerk_views.profiles import DELETED, MISSING, Profile, absent, cleaned, read_claims, read_profile
from clerk_views.testing.directory import email_body, user_body
from clerk_views.values import DEFAULT_USER_CLAIMS


def as_dict(body: dict[str, Any]) -> Any:
    return body


def as_sdk_model(body: dict[str, Any]) -> Any:
    return SDKUser.model_validate(body)


def as_object(body: dict[str, Any]) -> Any:
    def deep(value: Any) -> Any:
        if isinstance(value, dict):
            return SimpleNamespace(**{key: deep(item) for key, item in value.items()})
        return [deep(item) for item in value] if isinstance(value, list) else value

    return deep(body)


@pytest.fixture(params=[as_dict, as_sdk_model, as_object])
def shape(request: pytest.FixtureRequest) -> Any:
    """A payload as a webhook, the SDK, or any object gives it."""
    return request.param


def test_every_shape_reads_alike(shape: Any) -> None:
    source = shape(user_body(id="user_1", email="Ada@example.com", username="ada", first_name="Ada", updated_at=7))
    profile = read_profile(source)
    assert profile == Profile("user_1", 7, "Ada@example.com", banned=False, deleted=False, source=source)
    assert profile.verified_email == "Ada@example.com"
    assert [profile.value(name) for name in ("id", "email", "username", "first_name", "last_name")] == [
        "user_1",
        "Ada@example.com",
        "ada",
        "Ada",
        None,
    ]
    assert profile.value("no_such_field") is MISSING


def test_what_the_sdk_makes_up_is_not_told() -> None:
    body = user_body(first_name="Ada")
    del body["image_url"]
    assert read_profile(SDKUser.model_validate(body)).value("image_url") is MISSING


VERIFIED = email_body("ada@example.com")


@pytest.mark.parametrize(
    ("fields", "email"),
    [
        pytest.param({"email": "ada@example.com", "verified": False}, MISSING, id="unverified"),
        pytest.param({"email": "ada@example.com", "verified": "expired"}, MISSING, id="expired"),
        pytest.param({"email": "ada@example.com", "verified": "transferable"}, MISSING, id="transferable"),
        pytest.param({"email": "ada@example.com", "verified": None}, MISSING, id="no verification"),
        pytest.param(
            {"email": "a@b.c", "verified": False, "email_addresses": [VERIFIED]}, MISSING, id="other verified"
        ),
        pytest.param({"email_addresses": [VERIFIED]}, None, id="no primary"),
        pytest.param({"email_addresses": [VERIFIED], "primary_email_address_id": "idn_gone"}, MISSING, id="dangling"),
        pytest.param({"email_addresses": [{**VERIFIED, "id": None}]}, None, id="no primary, entry without id"),
        pytest.param(
            {"email_addresses": [VERIFIED, VERIFIED], "primary_email_address_id": VERIFIED["id"]}, MISSING, id="twice"
        ),
        pytest.param({"email_addresses": "x", "primary_email_address_id": "x"}, MISSING, id="no list"),
        pytest.param({"email_addresses": [{"id": 1}], "primary_email_address_id": 1}, MISSING, id="id of another type"),
        pytest.param({"email": "a\x00da@example.com"}, MISSING, id="NUL is not mended away"),
        pytest.param({"email": "a da@example.com"}, MISSING, id="blank"),
        pytest.param({"email": "ada"}, MISSING, id="no address"),
        pytest.param({"email": "a@b@example.com"}, MISSING, id="two signs"),
        pytest.param({"email": "a" * 250 + "@b.c"}, "a" * 250 + "@b.c", id="254 characters"),
        pytest.param({"email": "a" * 251 + "@b.c"}, MISSING, id="255 characters"),
    ],
)
def test_only_the_verified_primary_address_counts(fields: dict[str, Any], email: Any) -> None:
    """USR-01."""
    profile = read_profile(user_body(**fields))
    assert profile.email is email or profile.email == email
    assert profile.verified_email == (email if isinstance(email, str) else None)


def test_an_entry_without_id_is_not_the_primary_one_of_a_payload_without_primary() -> None:
    """USR-01: two things that are missing are not equal."""
    body = user_body(email_addresses=[{key: value for key, value in VERIFIED.items() if key != "id"}])
    del body["primary_email_address_id"]
    assert read_profile(body).email is MISSING


def test_a_payload_without_any_addresses_does_not_say_that_there_are_none() -> None:
    """A leniently read answer gives None for what was left out, and what is known must stay."""
    assert read_profile(user_body() | {"email_addresses": None}).email is MISSING


@pytest.mark.parametrize("clerk_id", [None, "", 7, "user 1", "user_\x00", "../user", "u" * 256, "user_ä"])
def test_nobody_without_an_id(clerk_id: Any) -> None:
    with pytest.raises(ValueError, match="no Clerk user"):
        read_profile(user_body() | {"id": clerk_id})


@pytest.mark.parametrize("updated_at", [None, "1", True, -1, 2**63, float("nan"), float("inf")])
def test_an_unknown_time_is_the_oldest(updated_at: Any) -> None:
    """USR-12."""
    assert read_profile(user_body(updated_at=updated_at)).updated_at == 0


@pytest.mark.parametrize("banned", [None, 1, "true"])
def test_an_unknown_ban_says_nothing(banned: Any) -> None:
    assert read_profile(user_body(banned=banned)).banned is MISSING


def test_a_lock_at_sign_in_is_no_ban() -> None:
    """Or anybody could lock a user out by guessing passwords."""
    assert read_profile(user_body(locked=True, lockout_expires_in_seconds=None)).banned is False


def test_a_deleted_user_is_nothing_but_deleted() -> None:
    profile = read_profile({"id": "user_1", "object": "user", "deleted": True})
    assert (profile.deleted, profile.updated_at, profile.email, profile.banned) == (True, DELETED, MISSING, MISSING)
    assert read_profile(user_body(deleted="yes")).deleted is False


def test_an_absent_user_is_deleted_as_of_now() -> None:
    profile = absent("user_1")
    assert (profile.deleted, profile.updated_at) == (True, None)


def test_claims_that_are_not_there_are_not_told() -> None:
    profile = read_claims("user_1", {"iat": 7, "first_name": "Ada", "is_staff": True}, DEFAULT_USER_CLAIMS)
    assert (profile.updated_at, profile.issued_at) == (None, 7000)
    assert (profile.email, profile.banned) == (MISSING, MISSING)
    assert profile.value("first_name") == "Ada"
    assert profile.value("last_name") is MISSING
    assert profile.value("is_staff") is MISSING


@pytest.mark.parametrize("verified", [True, "true", 1, False, None])
def test_an_address_in_claims_counts_if_verified_is_true_itself(verified: Any) -> None:
    """USR-01."""
    claims = {"iat": 7, "email": "ada@example.com", "email_verified": verified}
    profile = read_claims("user_1", claims, DEFAULT_USER_CLAIMS)
    assert profile.email == ("ada@example.com" if verified is True else MISSING)


def test_characters_that_databases_refuse_are_removed() -> None:
    status = read_profile(as_sdk_model(user_body(email="a@b.c"))).source.email_addresses[0].verification.status
    assert cleaned({"a\x00": ["b\x1f", ("c\ud800", 1, None)], "d": status}) == {
        "a": ["b", ["c", 1, None]],
        "d": "verified",
    }
    assert type(cleaned(status)) is str
