"""Who is calling, as a view sees it: what shows of a token, and that nobody can change it."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from clerk_views import tokens
from clerk_views.auth import ClerkAuth
from tests.minted import ABSENT, CONFIG, SESSION_ID, USER_ID, claims, public_key, token


def signed_in(**changes: Any) -> ClerkAuth:
    """Return what comes of a genuine token with these claims changed."""
    text = token(**changes)
    verified = tokens.verify(tokens.parse(text), public_key(), CONFIG)
    return ClerkAuth.from_session(text, verified, json.dumps(verified))


COPIES: dict[str, Callable[[ClerkAuth], ClerkAuth]] = {
    "pickle": lambda auth: pickle.loads(pickle.dumps(auth)),  # noqa: S301 - our own, just made
    "oldest pickle": lambda auth: pickle.loads(pickle.dumps(auth, 0)),  # noqa: S301 - likewise
    "copy": copy.copy,
    "deep copy": copy.deepcopy,
}


class TestSignedIn:
    def test_says_who(self) -> None:
        auth = signed_in()
        assert auth.is_authenticated
        assert (auth.status, auth.reason, auth.token_type) == ("signed-in", None, "session_token")
        assert (auth.user_id, auth.session_id, auth.actor) == (USER_ID, SESSION_ID, None)
        assert auth.token is not None
        assert auth.token.count(".") == 2

    @pytest.mark.parametrize("extra", [0, 0.5])
    def test_expires_at_is_aware(self, extra: float) -> None:
        minted = claims()
        expires_at = signed_in(exp=minted["exp"] + extra).expires_at
        assert expires_at is not None
        assert expires_at.tzinfo is UTC
        assert expires_at.utcoffset() == timedelta(0)
        assert expires_at.timestamp() == minted["exp"] + extra

    def test_latest_time_a_token_may_name_is_a_date(self) -> None:
        """TOK-06: the last second of Python's calendar does not overflow."""
        assert signed_in(exp=tokens.LAST_TIME).expires_at == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)

    def test_claims_are_the_verified_ones(self) -> None:
        minted = claims(plan={"seats": [1, 2]}, v=2)
        assert signed_in(**minted).claims == minted

    @pytest.mark.parametrize("status", [ABSENT, "active"], ids=["absent", "active"])
    def test_status_of_an_active_session(self, status: Any) -> None:
        """TOK-12: absent means not pending, as tokens of version 1 have it."""
        assert signed_in(sts=status).is_authenticated


class TestPending:
    @pytest.mark.parametrize(
        "status", ["pending", "Active", "active ", "ended", "", None, 1, True, [], ["active"]], ids=repr
    )
    def test_nothing_of_the_session_shows(self, status: Any) -> None:
        """TOK-12, I8: a session with open tasks counts as signed out, and so does one of a status nobody knows."""
        auth = signed_in(sts=status, act={"sub": "user_other"})
        assert auth == ClerkAuth("pending", "session-pending")
        assert not auth.is_authenticated
        assert [auth.token_type, auth.user_id, auth.session_id, auth.actor, auth.expires_at, auth.token] == [None] * 6
        assert auth.claims == {}


class TestSignedOut:
    @pytest.mark.parametrize("reason", ["token-expired", "session-token-and-uat-missing", None])
    def test_is_an_object_all_the_same(self, reason: str | None) -> None:
        auth = ClerkAuth.signed_out(reason)
        assert not auth.is_authenticated
        assert (auth.status, auth.reason) == ("signed-out", reason)
        assert [auth.token_type, auth.user_id, auth.session_id, auth.actor, auth.expires_at, auth.token] == [None] * 6
        assert auth.claims == {}


class TestActor:
    """TOK-13: impersonation shows, however oddly it is written."""

    @pytest.mark.parametrize("value", [ABSENT, None], ids=["absent", "null"])
    def test_nobody_impersonates(self, value: Any) -> None:
        assert signed_in(act=value).actor is None

    @pytest.mark.parametrize(
        "value",
        [{"sub": "user_other"}, {"sub": "user_other", "iss": "https://dashboard.clerk.com", "type": "agent"}, {}],
        ids=repr,
    )
    def test_actor_is_exposed(self, value: dict[str, Any]) -> None:
        auth = signed_in(act=value)
        assert auth.actor is not None
        assert dict(auth.actor) == value
        assert auth.user_id == USER_ID

    @pytest.mark.parametrize("value", ["user_other", "", [], ["user_other"], 0, False, True, 1.5], ids=repr)
    def test_odd_actor_does_not_read_as_none(self, value: Any) -> None:
        auth = signed_in(act=value)
        assert auth.actor is not None
        assert dict(auth.actor) == {"sub": value}
        assert auth.is_authenticated


class TestFrozen:
    @pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(ClerkAuth)])
    def test_no_attribute_can_be_set_or_removed(self, name: str) -> None:
        auth = signed_in()
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(auth, name, "user_other")
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(auth, name)

    def test_no_attribute_can_be_added(self) -> None:
        """TOK-14: nor does a claim become one by its name."""
        auth = signed_in(is_staff=True, is_superuser=True, is_authenticated=False)
        with pytest.raises((AttributeError, TypeError)):
            auth.is_staff = True  # type: ignore[attr-defined]  # there is none, and that is the test
        assert not hasattr(auth, "is_staff")
        assert not hasattr(auth, "is_superuser")
        assert not hasattr(auth, "__dict__")
        assert auth.is_authenticated

    def test_claims_are_read_only(self) -> None:
        auth = signed_in()
        with pytest.raises(TypeError):
            auth.claims["sub"] = "user_other"  # type: ignore[index]  # read-only, and that is the test
        with pytest.raises(AttributeError):
            auth.claims.clear()  # type: ignore[attr-defined]  # likewise
        assert auth.claims["sub"] == auth.user_id == USER_ID

    def test_what_one_request_does_reaches_no_other(self) -> None:
        """CTX-01: the object is shared by all requests of a token; each access to what is inside is a fresh copy."""
        auth = signed_in(orgs={"roles": ["member"]}, act={"sub": "user_other", "more": ["a"]})
        auth.claims["orgs"]["roles"].append("admin")
        auth.claims["act"]["sub"] = "user_third"
        assert auth.actor is not None
        auth.actor["more"].append("b")
        assert auth.claims["orgs"] == {"roles": ["member"]}
        assert auth.claims["act"]["sub"] == "user_other"
        assert dict(auth.actor) == {"sub": "user_other", "more": ["a"]}
        with pytest.raises(TypeError):
            auth.actor["sub"] = "user_third"  # type: ignore[index]  # read-only, and that is the test

    def test_changing_the_claims_it_was_made_of_changes_nothing(self) -> None:
        minted = claims(orgs={"roles": ["member"]}, act={"sub": "user_other"})
        auth = ClerkAuth.from_session("a.b.c", minted, json.dumps(minted))
        minted["act"]["sub"] = "user_third"
        minted["orgs"]["roles"].append("admin")
        assert auth.actor == {"sub": "user_other"}
        assert auth.claims["orgs"] == {"roles": ["member"]}


class TestToken:
    """LOG-01: the token is there for who asks for it by name, and shows nowhere else."""

    def test_not_in_repr(self) -> None:
        auth = signed_in(email="canary@example.com", act={"sub": "user_canary"})
        assert auth.token is not None
        for text in (repr(auth), str(auth), f"{auth}"):
            assert auth.token not in text
            assert auth.token.rpartition(".")[2] not in text
            assert "canary" not in text
            assert USER_ID in text

    @pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES.keys())
    def test_not_in_copies(self, duplicate: Callable[[ClerkAuth], ClerkAuth]) -> None:
        auth = signed_in(act={"sub": "user_other"}, orgs=[1])
        again = duplicate(auth)
        assert again.token is None
        assert auth.token is not None
        for field in dataclasses.fields(ClerkAuth):
            if field.name != "token":
                assert getattr(again, field.name) == getattr(auth, field.name)
        assert (again.claims, again.actor) == (auth.claims, auth.actor)

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_not_in_pickles(self, protocol: int) -> None:
        auth = signed_in()
        assert auth.token is not None
        assert auth.token.rpartition(".")[2].encode() not in pickle.dumps(auth, protocol)

    @pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES.keys())
    @pytest.mark.parametrize("auth", [ClerkAuth.signed_out("token-expired"), ClerkAuth("pending", "session-pending")])
    def test_copies_of_nobody(self, auth: ClerkAuth, duplicate: Callable[[ClerkAuth], ClerkAuth]) -> None:
        assert duplicate(auth) == auth

    def test_not_compared(self) -> None:
        """The same claims under another signature are the same caller, in sets and dictionaries too."""
        minted = claims()
        text = json.dumps(minted)
        one, two = (ClerkAuth.from_session(name, minted, text) for name in ("a.b.c", "d.e.f"))
        assert one == two
        assert hash(one) == hash(two)
        assert one != ClerkAuth.signed_out(None)
        assert one != signed_in(sid="sess_other")
