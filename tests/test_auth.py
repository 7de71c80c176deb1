"""Who is calling, as a view sees it: what shows of a token, and that nobody can change it."""

from __future__ import annotations

import copy
import dataclasses
import gc
import json
import pickle
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from clerk_views import tokens
from clerk_views.auth import ClerkAuth
from tests.minted import ABSENT, CONFIG, SESSION_ID, USER_ID, claims, public_key, token

ORGANIZATION: dict[str, Any] = {
    "v": 2,
    "o": {"id": "org_2", "slg": "acme", "rol": "admin", "per": "read,manage", "fpm": "3,2"},
    "fea": "o:docs,o:chat,u:beta",
    "pla": "u:pro",
    "fva": [5, -1],
}
EVERYTHING: dict[str, Any] = {
    "role": "org:admin",
    "permission": "org:docs:read",
    "feature": "user:beta",
    "plan": "pro",
    "reverification": "strict",
}


def signed_in(*, allow_pending: bool = False, **changes: Any) -> ClerkAuth:
    """Return what comes of a genuine token with these claims changed."""
    text = token(**changes)
    verified = tokens.verify(tokens.parse(text), public_key(), CONFIG)
    return ClerkAuth.from_session(text, verified, json.dumps(verified), allow_pending=allow_pending)


def beyond_who(auth: ClerkAuth) -> list[Any]:
    """Return all that hangs on claims other than the user and the session."""
    return [
        auth.org_id,
        auth.org_slug,
        auth.org_role,
        auth.org_permissions,
        auth.factor_verification_age,
        auth.scopes,
        auth.machine_id,
    ]


NOTHING = [None, None, None, (), None, (), None]


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
        assert auth.is_pending
        assert not auth.is_authenticated
        assert not auth.is_impersonated
        assert [auth.token_type, auth.user_id, auth.session_id, auth.actor, auth.expires_at, auth.token] == [None] * 6
        assert auth.claims == {}

    def test_nothing_is_granted(self) -> None:
        auth = signed_in(sts="pending", **ORGANIZATION)
        assert beyond_who(auth) == NOTHING
        for name, value in EVERYTHING.items():
            assert not auth.has(**{name: value})

    def test_view_may_admit_it(self) -> None:
        """TOK-12: it then shows in full, and may do what an active session may."""
        auth = signed_in(sts="pending", allow_pending=True, act={"sub": "user_other"}, **ORGANIZATION)
        active = signed_in(sts="active", act={"sub": "user_other"}, **ORGANIZATION)
        assert (auth.status, auth.reason) == ("pending", None)
        assert auth.is_authenticated
        assert auth.is_pending
        assert (auth.user_id, auth.session_id, auth.token_type) == (USER_ID, SESSION_ID, "session_token")
        assert auth.token is not None
        assert auth.expires_at is not None
        assert auth.actor == {"sub": "user_other"}
        assert beyond_who(auth) == beyond_who(active)
        assert auth.has(**EVERYTHING)
        assert not auth.has(role="org:member")

    @pytest.mark.parametrize("status", ["Pending", "pending ", "ended", "", None, 1, True, ["pending"]], ids=repr)
    def test_admitting_it_admits_no_other_status(self, status: Any) -> None:
        """I8: what nobody knows is not what the view meant."""
        auth = signed_in(sts=status, allow_pending=True)
        assert auth == ClerkAuth("pending", "session-pending")
        assert not auth.is_authenticated

    def test_admitting_it_changes_nothing_for_others(self) -> None:
        assert not signed_in(allow_pending=True).is_pending
        minted = claims()
        one, two = (ClerkAuth.from_session("a.b.c", minted, json.dumps(minted), allow_pending=a) for a in (True, False))
        assert one == two


class TestAuthorization:
    """What the claims grant is the subject of test_authorization.py; here, that it shows."""

    def test_organization(self) -> None:
        auth = signed_in(**ORGANIZATION)
        assert (auth.org_id, auth.org_slug, auth.org_role) == ("org_2", "acme", "org:admin")
        assert auth.org_permissions == ("org:docs:read", "org:docs:manage", "org:chat:manage")
        assert beyond_who(auth)[-3:] == [(5, -1), (), None]

    def test_token_of_version_1(self) -> None:
        auth = signed_in(v=ABSENT, org_id="org_1", org_slug="a", org_role="admin", org_permissions=["org:docs:read"])
        assert (auth.org_id, auth.org_slug, auth.org_role) == ("org_1", "a", "org:admin")
        assert auth.org_permissions == ("org:docs:read",)
        assert auth.has(role="admin", permission="docs:read")

    def test_without_an_organization(self) -> None:
        auth = signed_in(fva=ABSENT)
        assert beyond_who(auth) == NOTHING
        assert not auth.has(role="admin")

    def test_all_that_is_asked_must_hold(self) -> None:
        """ORG-04."""
        auth = signed_in(**ORGANIZATION)
        assert auth.has(**EVERYTHING)
        for name in EVERYTHING:
            assert not auth.has(**{**EVERYTHING, name: "other"})
            assert not auth.has(**{**EVERYTHING, name: None})
        assert not auth.has()

    def test_unknown_word_is_an_error(self) -> None:
        """ORG-04: a misspelt requirement must not be one that is not there."""
        with pytest.raises(TypeError):
            signed_in(**ORGANIZATION).has(role="admin", permision="org:docs:read")  # type: ignore[call-arg]

    def test_claims_become_no_attributes(self) -> None:
        """TOK-14: of version 2, whatever else stands in the token under our names."""
        named: dict[str, Any] = {
            "org_role": "org:owner",
            "org_permissions": ["org:all:all"],
            "scopes": ["all"],
            "machine_id": "mch_1",
        }
        auth = signed_in(**ORGANIZATION, **named)
        assert beyond_who(auth) == beyond_who(signed_in(**ORGANIZATION))
        assert not auth.has(role="owner")

    def test_without_a_user_nothing_is_granted(self) -> None:
        text = json.dumps(ORGANIZATION)
        auth = ClerkAuth("signed-in", token_type="session_token", _claims=text)
        assert auth.org_role == "org:admin"
        assert not auth.has(role="admin")

    def test_claims_of_another_kind_of_token_are_not_read(self) -> None:
        """I8: they may mean something else there."""
        auth = ClerkAuth("signed-in", token_type="api_key", user_id=USER_ID, _claims=json.dumps(ORGANIZATION))
        assert beyond_who(auth) == NOTHING
        assert not auth.has(role="admin")

    def test_what_one_request_does_reaches_no_other(self) -> None:
        """CTX-01: nothing of it can be changed."""
        auth = signed_in(**ORGANIZATION)
        assert isinstance(auth.org_permissions, tuple)
        assert isinstance(auth.factor_verification_age, tuple)
        auth.claims["o"]["rol"] = "owner"
        assert not auth.has(role="owner")

    @pytest.mark.parametrize("asked_before", [True, False], ids=["asked before", "not asked"])
    @pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES.keys())
    def test_copies_grant_the_same(self, duplicate: Callable[[ClerkAuth], ClerkAuth], asked_before: bool) -> None:
        auth = signed_in(**ORGANIZATION)
        if asked_before:
            assert auth.has(**EVERYTHING)
        again = duplicate(auth)
        assert again.has(**EVERYTHING)
        assert beyond_who(again) == beyond_who(auth)
        assert again == auth
        assert hash(again) == hash(auth)

    def test_scopes_and_machine_survive_copies(self) -> None:
        auth = ClerkAuth("signed-in", token_type="m2m_token", scopes=("a", "b"), machine_id="mch_1")
        for duplicate in COPIES.values():
            assert duplicate(auth) == auth

    def test_asking_does_not_change_equality_nor_repr(self) -> None:
        one, two = (signed_in(**ORGANIZATION) for _ in range(2))
        assert one.has(role="admin")
        assert one.user_id == two.user_id
        assert repr(one).count("org_2") == repr(two).count("org_2") == 0
        assert "acme" not in repr(one)

    def test_memory_of_many_tokens(self) -> None:
        """Members of one role share what their tokens' lists say; 4096 of them are remembered per configuration."""
        minted = claims(**ORGANIZATION)
        texts = [json.dumps(minted | {"jti": str(number)}) for number in range(1000)]
        auths = [ClerkAuth.from_session("a.b.c", json.loads(text), text) for text in texts]
        tracemalloc.start()
        try:
            assert all(auth.has(permission="org:docs:read") for auth in auths)
            gc.collect()
            used, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert used / len(auths) < 700  # bytes; measured: 320

    def test_many_threads_may_ask_first(self) -> None:
        auth = signed_in(**ORGANIZATION)
        barrier = threading.Barrier(8)

        def ask(_: int) -> bool:
            barrier.wait()
            return auth.has(**EVERYTHING)

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(ask, range(8)))


class TestSignedOut:
    def test_may_do_nothing(self) -> None:
        auth = ClerkAuth.signed_out("token-expired")
        assert beyond_who(auth) == NOTHING
        assert not auth.has(**EVERYTHING)
        assert (auth.is_pending, auth.is_impersonated) == (False, False)

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
        auth = signed_in(act=value)
        assert auth.actor is None
        assert not auth.is_impersonated

    @pytest.mark.parametrize(
        "value",
        [{"sub": "user_other"}, {"sub": "user_other", "iss": "https://dashboard.clerk.com", "type": "agent"}, {}],
        ids=repr,
    )
    def test_actor_is_exposed(self, value: dict[str, Any]) -> None:
        auth = signed_in(act=value)
        assert auth.actor is not None
        assert dict(auth.actor) == value
        assert auth.is_impersonated
        assert auth.user_id == USER_ID

    @pytest.mark.parametrize("value", ["user_other", "", [], ["user_other"], 0, False, True, 1.5], ids=repr)
    def test_odd_actor_does_not_read_as_none(self, value: Any) -> None:
        auth = signed_in(act=value)
        assert auth.actor is not None
        assert dict(auth.actor) == {"sub": value}
        assert auth.is_impersonated
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
