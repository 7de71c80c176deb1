"""
API keys, M2M tokens and OAuth access tokens: at every door, what Clerk is asked about them, and what is remembered.

Threats: MCH-01, MCH-02, MCH-03, MCH-04, CAC-02, CAC-04, CAC-05, CAC-06, CAC-07, CAC-09, CTX-03, DOS-02, LOG-01.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import time_machine
from asgiref.sync import async_to_sync
from cryptography.fernet import Fernet
from django.contrib.auth.models import AnonymousUser
from django.core.cache import caches
from django.http import JsonResponse
from django.test import AsyncClient, Client, RequestFactory
from django.urls import path

from clerk_views import api, calls, clerk_optional, clerk_required, entries, get_clerk, machines
from clerk_views.authentication import authenticate
from clerk_views.calls import Budget
from clerk_views.conf import config
from clerk_views.exceptions import AccountRefused, ClerkUnavailable, TokenRefused
from clerk_views.machines import verify
from clerk_views.mixins import ClerkLoginRequiredMixin
from clerk_views.signals import clerk_auth_failed, clerk_auth_success, clerk_cache_miss
from clerk_views.states import RequestState, memo_of
from clerk_views.testing import LocalClerk, LocalUser
from clerk_views.testing.minting import new_signing_key
from clerk_views.values import TOKEN_TYPES
from clerk_views.visitors import load_user, user_of
from tests.doors import DOORS, MIDDLEWARE, REST_FRAMEWORK, Door, door_id
from tests.probes import CountingCache, GarbageCache, KeepingCache, RaisingCache, heard, one_cache, simultaneously
from tests.requirement_doors import DOORWAYS, FEW_DOORWAYS, Doorway, doorway_id, served
from tests.serving import gunicorn_serving
from tests.test_authentication import request_with

EVERY = pytest.mark.parametrize("door", DOORWAYS, ids=doorway_id)
FEW = pytest.mark.parametrize("door", FEW_DOORWAYS, ids=doorway_id)
JUNK = "ak_" + "0" * 32

#: What can be brought: its kind, and how the stand-in makes it for a user.
Make = Callable[[LocalClerk, LocalUser], str]
TOKENS: dict[str, tuple[str, Make]] = {
    "session": ("session_token", lambda server, user: server.token(user)),
    "api-key": ("api_key", lambda server, user: server.create_api_key(user, ["read"])),
    "m2m": ("m2m_token", lambda server, user: server.m2m_token("mch_1", ["read"])),
    "m2m-jwt": ("m2m_token", lambda server, user: server.m2m_token("mch_1", ["read"], jwt=True)),
    "oauth": ("oauth_token", lambda server, user: server.oauth_token(user, ["read"])),
    "oauth-jwt": ("oauth_token", lambda server, user: server.oauth_token(user, ["read"], jwt=True)),
}
MACHINE_TOKENS = {name: made for name, made in TOKENS.items() if name != "session"}
OPAQUE = {name: made for name, made in MACHINE_TOKENS.items() if not name.endswith("-jwt")}


@pytest.fixture
def ada(local_clerk: LocalClerk) -> LocalUser:
    return local_clerk.add_user(email="ada@example.com")


def state_of(token: str, accepts: tuple[str, ...] = TOKEN_TYPES) -> RequestState:
    return authenticate(request_with(token), accepts=accepts)


def asked(token: str, token_type: str = "api_key") -> Any:
    """Return what Clerk says of a token, or the reason for which it is refused."""
    try:
        return verify(token, token_type, config(), Budget(5))[0]
    except TokenRefused as refused:
        return refused.reason


@pytest.mark.django_db
class TestDoors:
    """MCH-01: what is not accepted is refused before anybody is asked, at every door."""

    @EVERY
    def test_any_lets_every_kind_in(self, local_clerk: LocalClerk, ada: LocalUser, door: Doorway) -> None:
        """MCH-03: only a token that is a user's has a Django user."""
        with served({"accepts_token": "any"}) as visit:
            for kind, make in TOKENS.values():
                response = visit(door, f"Bearer {make(local_clerk, ada)}")
                assert response.status_code == 200, (kind, response.content)
                is_users = kind != "m2m_token"
                assert (response.json()["clerk"], response.json()["user"] is not None) == (
                    ada.id if is_users else None,
                    is_users,
                )
            assert visit(door, "").status_code == 401
        assert local_clerk.calls.machine_verifications == 3

    @EVERY
    def test_what_a_view_does_not_list_is_refused_without_a_call(
        self, local_clerk: LocalClerk, ada: LocalUser, door: Doorway
    ) -> None:
        """Source: Clerk's backend SDK, "acceptsToken"; a list with one entry is that entry."""
        tokens = {name: (kind, make(local_clerk, ada)) for name, (kind, make) in TOKENS.items()}
        for accepts in (["session_token"], "api_key", "m2m_token", "oauth_token", ["api_key", "m2m_token"]):
            with served({"accepts_token": accepts}) as visit:
                for name, (kind, token) in tokens.items():
                    if kind in accepts:
                        continue
                    response = visit(door, f"Bearer {token}")
                    opaque_at_sessions = accepts == ["session_token"] and not name.endswith("-jwt")
                    reason = "token-invalid" if opaque_at_sessions else "token-type-mismatch"
                    assert (response.status_code, response.json()["code"]) == (401, reason), (accepts, name)
                    assert 'error="invalid_token"' in response["WWW-Authenticate"]
        assert local_clerk.calls.machine_verifications == 0

    @EVERY
    def test_by_default_only_sessions_come_in(self, local_clerk: LocalClerk, ada: LocalUser, door: Doorway) -> None:
        with served({"allow_pending": True}) as visit:
            for _, make in MACHINE_TOKENS.values():
                assert visit(door, f"Bearer {make(local_clerk, ada)}").status_code == 401
            assert visit(door, f"Bearer {local_clerk.token(ada)}").status_code == 200
        assert local_clerk.calls.machine_verifications == 0

    @EVERY
    def test_the_setting_is_the_default_and_is_read_live(
        self, local_clerk: LocalClerk, ada: LocalUser, door: Doorway, settings: Any
    ) -> None:
        key = f"Bearer {local_clerk.create_api_key(ada)}"
        with served({"allow_pending": True}) as visit:
            assert visit(door, key).status_code == 401
            settings.CLERK_ACCEPTS_TOKEN = "any"
            assert visit(door, key).status_code == 200
            settings.CLERK_ACCEPTS_TOKEN = ["m2m_token"]
            assert visit(door, key).status_code == 401

    @EVERY
    def test_without_a_bearer_the_cookies_count_only_where_sessions_do(
        self, local_clerk: LocalClerk, ada: LocalUser, door: Doorway
    ) -> None:
        cookies = local_clerk.session_cookies(local_clerk.token(ada))
        cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
        for accepts, outcome in (
            (["session_token", "api_key"], 200),
            ("any", 200),
            ("api_key", "No token in header"),
            (["api_key", "oauth_token"], "token-type-mismatch"),
        ):
            with served({"accepts_token": accepts}) as visit:
                for headers in ({}, {"sec-fetch-dest": "document"}):
                    response = visit(door, "", cookie=cookie, **headers)
                    if outcome == 200:
                        assert response.status_code == 200, accepts
                    else:
                        # Not even a browser is sent to sign in: no session would help it.
                        assert (response.status_code, response.json()["code"]) == (401, outcome), accepts
                        assert "error" not in response["WWW-Authenticate"]

    @EVERY
    def test_cookies_never_carry_a_machine_token(self, local_clerk: LocalClerk, ada: LocalUser, door: Doorway) -> None:
        with served({"accepts_token": "any"}) as visit:
            for _, make in MACHINE_TOKENS.values():
                cookies = local_clerk.session_cookies(make(local_clerk, ada))
                cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
                assert visit(door, "", cookie=cookie).status_code == 401
        assert local_clerk.calls.machine_verifications == 0

    @EVERY
    def test_scopes_are_exact_and_all_of_them_asked(
        self, local_clerk: LocalClerk, ada: LocalUser, door: Doorway
    ) -> None:
        """MCH-03. A session has no scopes, and is not let in for want of them."""
        with served({"accepts_token": "any", "scopes": ["invoices:read", "invoices:write"]}) as visit:
            for scopes, status in (
                (["invoices:write", "other", "invoices:read"], 200),
                (["invoices:read"], 403),
                (["invoices"], 403),
                (["invoices:read invoices:write"], 403),
                (["INVOICES:READ", "invoices:write"], 403),
                (["invoices:*"], 403),
                ([], 403),
            ):
                for token in (
                    local_clerk.create_api_key(ada, scopes),
                    local_clerk.oauth_token(ada, scopes, jwt=True),
                ):
                    response = visit(door, f"Bearer {token}")
                    assert response.status_code == status, scopes
                    if status == 403:
                        assert response.json()["code"] == "not-authorized"
                        assert 'error="insufficient_scope"' in response["WWW-Authenticate"]
                        assert 'scope="invoices:read invoices:write"' in response["WWW-Authenticate"]
            response = visit(door, f"Bearer {local_clerk.token(ada)}")
            assert (response.status_code, response.has_header("WWW-Authenticate")) == (403, False)

    @EVERY
    def test_oauth_views_say_where_tokens_are_to_be_had(
        self, local_clerk: LocalClerk, ada: LocalUser, door: Doorway, settings: Any
    ) -> None:
        metadata = f'https://{local_clerk.frontend_host}/.well-known/oauth-protected-resource"'
        with served({"accepts_token": ["session_token", "oauth_token"]}) as visit:
            told = visit(door, "")["WWW-Authenticate"]
            assert told == f'Bearer resource_metadata="{metadata}'
            refused = visit(door, f"Bearer {local_clerk.create_api_key(ada)}")["WWW-Authenticate"]
            assert refused == f'Bearer resource_metadata="{metadata}, error="invalid_token"'
            settings.CLERK_PUBLISHABLE_KEY = None
            assert visit(door, "")["WWW-Authenticate"] == "Bearer"
        with served({"accepts_token": "api_key"}) as visit:
            assert visit(door, "")["WWW-Authenticate"] == "Bearer"

    @EVERY
    @pytest.mark.parametrize("fault", ["down", "500", "429", "401", "html"])
    def test_an_outage_is_a_503_and_is_forgotten(
        self, local_clerk: LocalClerk, ada: LocalUser, door: Doorway, fault: str, settings: Any
    ) -> None:
        """MCH-04, CAC-07: what could not be found out is neither "invalid" nor remembered."""
        token = f"Bearer {local_clerk.create_api_key('org_1')}"
        with served({"accepts_token": "any"}) as visit:
            if fault == "down":
                local_clerk.faults.down()
            elif fault == "html":
                local_clerk.faults.garbage("html")
            else:
                local_clerk.faults.status(int(fault))
            response = visit(door, token)
            assert (response.status_code, response.json()["code"]) == (503, "unexpected-error")
            assert int(response["Retry-After"]) >= 1
            local_clerk.faults.clear()
            settings.CLERK_TIMEOUT_MS = 4999  # another client, whose breaker is closed
            assert visit(door, token).status_code == 200

    @EVERY
    def test_other_requirements_hold_for_machines_too(
        self, local_clerk: LocalClerk, ada: LocalUser, door: Doorway
    ) -> None:
        with served({"accepts_token": "any", "role": "org:admin"}) as visit:
            for _, make in MACHINE_TOKENS.values():
                assert visit(door, f"Bearer {make(local_clerk, ada)}").status_code == 403
        with served({"accepts_token": "any", "organization": True}) as visit:
            assert visit(door, f"Bearer {local_clerk.create_api_key('org_1')}").status_code == 200
            assert visit(door, f"Bearer {local_clerk.create_api_key(ada)}").status_code == 403
        with served({"accepts_token": "any", "condition": lambda auth: auth.machine_id == "mch_1"}) as visit:
            assert visit(door, f"Bearer {local_clerk.m2m_token('mch_1', jwt=True)}").status_code == 200
            assert visit(door, f"Bearer {local_clerk.m2m_token('mch_2', jwt=True)}").status_code == 403
        with served({"accepts_token": "any", "allow_impersonation": False}) as visit:
            acting = local_clerk.oauth_token(ada, jwt=True, claims={"act": {"sub": "user_agent"}})
            assert visit(door, f"Bearer {acting}").status_code == 403

    @EVERY
    def test_a_user_who_is_barred_is_barred_with_his_keys(
        self, local_clerk: LocalClerk, ada: LocalUser, door: Doorway
    ) -> None:
        local_clerk.update_user(ada, banned=True)
        with served({"accepts_token": "any"}) as visit:
            for name in ("api-key", "oauth", "oauth-jwt"):
                assert visit(door, f"Bearer {TOKENS[name][1](local_clerk, ada)}").status_code == 403


@pytest.mark.django_db
@pytest.mark.django_db
class TestEveryDoor:
    """MCH-01 to MCH-04 at the doors of sessions, optional ones and plain views behind the middleware included."""

    @pytest.fixture(params=DOORS, ids=door_id)
    def door(self, request: pytest.FixtureRequest) -> Door:
        found: Door = request.param
        return found

    def test_by_default_machines_are_nobody_and_clerk_is_not_asked(
        self, local_clerk: LocalClerk, ada: LocalUser, door: Door
    ) -> None:
        """MCH-01, also for what stands in a cookie."""
        for kind, make in OPAQUE.values():
            token = make(local_clerk, ada)
            for response in (door.send(f"Bearer {token}"), door.send(cookie=f"__session={token}")):
                assert door.verdict(response) == "nobody", kind
        assert local_clerk.calls.machine_verifications == 0

    def test_what_is_accepted_comes_in(
        self, local_clerk: LocalClerk, ada: LocalUser, door: Door, settings: Any
    ) -> None:
        """MCH-03: a user's key is his, a machine is nobody's row; and one call for each token."""
        settings.CLERK_ACCEPTS_TOKEN = "any"
        tokens = {name: make(local_clerk, ada) for name, (_, make) in MACHINE_TOKENS.items()}
        for _ in range(2):
            for name, token in tokens.items():
                response: Any = door.send(f"Bearer {token}")
                if "m2m" in name and door.path == "/api/decorated-outside/":
                    assert response.status_code == 403  # REST framework's own IsAuthenticated wants a user
                    continue
                body = response.json()
                assert (body["status"], body["clerk"]) == ("signed-in", None if "m2m" in name else ada.id)
        assert local_clerk.calls.machine_verifications == len(OPAQUE)

    def test_refusals_and_outages_are_told_apart(
        self, local_clerk: LocalClerk, ada: LocalUser, door: Door, settings: Any
    ) -> None:
        """MCH-02, MCH-04: what is no token any more is nobody, at one call; what cannot be found out is a 503."""
        settings.CLERK_ACCEPTS_TOKEN = ["session_token", "api_key"]
        revoked, unknown = local_clerk.create_api_key(ada), local_clerk.create_api_key(ada)
        local_clerk.revoke_machine_token(revoked)
        for token in (revoked, f"ak_{uuid.uuid4().hex}"):
            assert [door.verdict(door.send(f"Bearer {token}")) for _ in range(2)] == ["nobody"] * 2
        assert local_clerk.calls.machine_verifications == 2
        local_clerk.faults.down()
        response = door.send(f"Bearer {unknown}")
        assert (response.status_code, "Retry-After" in response) == (503, True)
        local_clerk.faults.clear()
        api.get_api(config())._calls = calls.Calls(local_clerk.url, "CLERK_SECRET_KEY")  # the pause is over
        assert door.verdict(door.send(f"Bearer {unknown}")) == ada.id

    def test_junk_costs_what_it_must(self, local_clerk: LocalClerk) -> None:
        """MCH-02: ten thousand of bad shape no call at all, ten thousand times the same one call."""
        view = clerk_required(accepts_token="api_key")(_whose)

        def status(token: str) -> int:
            return int(view(RequestFactory().get("/", headers={"authorization": f"Bearer {token}"})).status_code)

        assert {status(f"ak_{number}.junk") for number in range(10_000)} == {401}
        assert local_clerk.calls.total == 0
        assert {status(JUNK) for _ in range(10_000)} == {401}
        assert local_clerk.calls.machine_verifications == local_clerk.calls.total == 1


class TestAcceptsToken:
    """Protocol, section 14, "acceptsToken"; its rows by number. MCH-01."""

    #: What is accepted, what is brought (see TOKENS; "junk" is an opaque token that Clerk does not know, "broken" a JWT
    #: whose signature does not hold), and what comes of it: the reason, None for signed in, and the token's kind. Where
    #: nothing is brought and sessions count, the cookies have the word, and here there are none.
    ROWS: dict[str, tuple[tuple[str, ...], str | None, str | None, str | None]] = {
        "14-row-1 session": (("session_token",), "session", None, "session_token"),
        "14-row-1 opaque": (("session_token",), "api-key", "token-invalid", None),
        "14-row-1 opaque m2m": (("session_token",), "m2m", "token-invalid", None),
        "14-row-1 opaque oauth": (("session_token",), "oauth", "token-invalid", None),
        "14-row-1 jwt": (("session_token",), "m2m-jwt", "token-type-mismatch", None),
        "14-row-1 oauth jwt": (("session_token",), "oauth-jwt", "token-type-mismatch", None),
        "14-row-1 nothing": (("session_token",), None, "dev-browser-missing", None),
        "14-row-2 session": (("api_key",), "session", "token-type-mismatch", "api_key"),
        "14-row-2 session for m2m": (("m2m_token",), "session", "token-type-mismatch", "m2m_token"),
        "14-row-2 another": (("api_key",), "m2m", "token-type-mismatch", "api_key"),
        "14-row-2 another jwt": (("m2m_token",), "oauth-jwt", "token-type-mismatch", "m2m_token"),
        "14-row-2 another for oauth": (("oauth_token",), "api-key", "token-type-mismatch", "oauth_token"),
        "14-row-2 nothing": (("api_key",), None, "No token in header", "api_key"),
        "14-row-2 nothing for oauth": (("oauth_token",), None, "No token in header", "oauth_token"),
        "14-row-2 its own": (("api_key",), "api-key", None, "api_key"),
        "14-row-2 its own jwt": (("m2m_token",), "m2m-jwt", None, "m2m_token"),
        "14-row-2 its own, bad": (("api_key",), "junk", "token-invalid", "api_key"),
        "14-row-2 its own jwt, bad": (("m2m_token",), "broken", "token-verification-failed", "m2m_token"),
        "14-row-3 session": (("session_token", "api_key"), "session", None, "session_token"),
        "14-row-3 session not listed": (("m2m_token", "api_key"), "session", "token-type-mismatch", None),
        "14-row-3 machine": (("session_token", "api_key"), "api-key", None, "api_key"),
        "14-row-3 machine not listed": (("session_token", "api_key"), "oauth", "token-type-mismatch", None),
        "14-row-3 machine not listed, jwt": (("m2m_token", "api_key"), "oauth-jwt", "token-type-mismatch", None),
        "14-row-3 nothing": (("session_token", "api_key"), None, "dev-browser-missing", None),
        "14-row-3 nothing, no session": (("m2m_token", "api_key"), None, "token-type-mismatch", None),
        "14-row-3 listed, bad": (("m2m_token", "api_key"), "junk", "token-invalid", None),
        "14-row-4 session": (TOKEN_TYPES, "session", None, "session_token"),
        **{
            f"14-row-4 {name}": (TOKEN_TYPES, name, None, kind)
            for name, (kind, _) in TOKENS.items()
            if name != "session"
        },
        "14-row-4 nothing": (TOKEN_TYPES, None, "dev-browser-missing", None),
    }

    @pytest.mark.parametrize(("accepts", "brought", "reason", "kind"), ROWS.values(), ids=list(ROWS))
    def test_row(
        self,
        local_clerk: LocalClerk,
        ada: LocalUser,
        accepts: tuple[str, ...],
        brought: str | None,
        reason: str | None,
        kind: str | None,
    ) -> None:
        token = {None: None, "junk": JUNK}.get(brought, "")
        if token == "":
            name = "m2m-jwt" if brought == "broken" else str(brought)
            token = TOKENS[name][1](local_clerk, ada) + ("x" * 4 if brought == "broken" else "")
        request = RequestFactory().get("/") if token is None else request_with(token)
        for early in (True, False):
            state = authenticate(request, accepts=accepts, early=early)
            assert (state.reason, state.token_type, state.is_signed_in) == (reason, kind, reason is None)
            assert state.auth.token_type == (kind if reason is None else None)
        if reason in ("token-type-mismatch", "No token in header"):
            assert local_clerk.calls.machine_verifications == 0

    def test_each_door_hears_of_its_own_kind(self, local_clerk: LocalClerk) -> None:
        request = request_with(JUNK)
        kinds = [authenticate(request, accepts=(kind,)).token_type for kind in ("api_key", "m2m_token", "api_key")]
        assert kinds == ["api_key", "m2m_token", "api_key"]


class TestWhatAViewSees:
    def test_an_api_key_of_a_user(self, local_clerk: LocalClerk, ada: LocalUser) -> None:
        """14-kinds-row-1."""
        token = local_clerk.create_api_key(ada, ["a", "b"], claims={"tenant": "x", "sub": "user_z"}, expires_in=3600)
        auth = state_of(token).auth
        assert (auth.is_authenticated, auth.status, auth.reason) == (True, "signed-in", None)
        assert (auth.token_type, auth.user_id, auth.machine_id, auth.org_id) == ("api_key", ada.id, None, None)
        assert (auth.scopes, auth.session_id, auth.actor) == (("a", "b"), None, None)
        assert auth.token == token
        assert token not in repr(auth)
        assert auth.expires_at is not None
        assert 3590 < auth.expires_at.timestamp() - time.time() <= 3600
        assert auth.claims["tenant"] == "x"
        assert auth.claims["sub"] == ada.id  # a key's own claims cannot say whose it is
        assert auth.claims["jti"].startswith("ak_")

    def test_an_api_key_of_an_organisation(self, local_clerk: LocalClerk) -> None:
        auth = state_of(local_clerk.create_api_key("org_1")).auth
        assert (auth.org_id, auth.user_id, auth.machine_id, auth.expires_at) == ("org_1", None, None, None)
        assert (auth.org_role, auth.org_slug, auth.org_permissions) == (None, None, ())

    @pytest.mark.parametrize("jwt", [False, True])
    def test_an_m2m_token(self, local_clerk: LocalClerk, jwt: bool) -> None:
        """14-kinds-row-3."""
        machine = local_clerk.add_machine("mailer")
        auth = state_of(local_clerk.m2m_token(machine, ["a"], claims={"x": 1}, jwt=jwt)).auth
        assert (auth.token_type, auth.machine_id, auth.user_id) == ("m2m_token", machine.id, None)
        assert (auth.scopes, auth.claims["x"], auth.claims["sub"]) == (("a",), 1, machine.id)
        assert (auth.expires_at is not None) is jwt

    @pytest.mark.parametrize("jwt", [False, True])
    def test_an_oauth_token(self, local_clerk: LocalClerk, ada: LocalUser, jwt: bool) -> None:
        """14-kinds-row-2."""
        auth = state_of(local_clerk.oauth_token(ada, ["email", "a"], client_id="client_1", jwt=jwt)).auth
        assert (auth.token_type, auth.user_id, auth.machine_id) == ("oauth_token", ada.id, None)
        assert (auth.scopes, auth.claims["client_id"]) == (("email", "a"), "client_1")

    @pytest.mark.parametrize("make", [make for _, make in MACHINE_TOKENS.values()], ids=list(MACHINE_TOKENS))
    def test_it_has_nothing_that_sessions_have(self, local_clerk: LocalClerk, ada: LocalUser, make: Make) -> None:
        auth = state_of(make(local_clerk, ada)).auth
        assert not auth.has(role="org:admin")
        assert not auth.has(permission="org:invoices:read")
        assert not auth.has(feature="reports")
        assert not auth.has(plan="user:pro")
        assert not auth.has(reverification="lax")
        assert not auth.has()
        assert auth.factor_verification_age is None

    @pytest.mark.parametrize("token_type", ["m2m_token", "oauth_token"])
    def test_claims_of_a_session_in_a_machine_token_mean_nothing(
        self, local_clerk: LocalClerk, ada: LocalUser, token_type: str
    ) -> None:
        """I8: an organisation's role is a session's to have."""
        claims = {"v": 2, "o": {"id": "org_1", "rol": "admin"}, "pla": "u:pro", "fva": [0, 0]}
        if token_type == "m2m_token":
            token = local_clerk.m2m_token("mch_1", claims=claims, jwt=True)
        else:
            token = local_clerk.oauth_token(ada, claims=claims, jwt=True)
        auth = state_of(token).auth
        assert (auth.is_authenticated, auth.org_id, auth.org_role) == (True, None, None)
        assert not auth.has(role="admin")
        assert not auth.has(plan="user:pro")
        assert not auth.has(reverification="lax")

    @pytest.mark.parametrize(("kind", "make"), TOKENS.values(), ids=list(TOKENS))
    def test_the_state_tells_the_same(self, local_clerk: LocalClerk, ada: LocalUser, kind: str, make: Make) -> None:
        token = make(local_clerk, ada)
        state = state_of(token)
        assert (state.is_signed_in, state.token, state.token_type, state.carrier) == (True, token, kind, "header")
        assert state.payload == state.auth.claims
        assert token not in repr(state)

    def test_nobody_is_the_user_of_a_machine(self, local_clerk: LocalClerk, django_user_model: Any) -> None:
        """MCH-03: it never becomes a row."""
        request = request_with(local_clerk.m2m_token("mch_1"))
        authenticate(request, accepts=TOKEN_TYPES)
        assert isinstance(load_user(memo_of(request)), AnonymousUser)
        assert isinstance(user_of(request), AnonymousUser)
        assert load_user(memo_of(request)) is load_user(memo_of(request))
        assert django_user_model.objects.count() == 0

    def test_claims_of_a_token_do_not_describe_its_user(
        self, local_clerk: LocalClerk, ada: LocalUser, django_user_model: Any, settings: Any
    ) -> None:
        """MCH-03, CLERK_USER_SOURCE = "claims": whoever makes a key may write into its claims what he likes."""
        settings.CLERK_USER_SOURCE = "claims"
        boss = django_user_model.objects.create_user(username="boss", email="boss@example.com")
        forged = {"email": "boss@example.com", "email_verified": True, "first_name": "Boss"}
        for token in (
            local_clerk.create_api_key(ada, claims=forged),
            local_clerk.oauth_token(ada, claims=forged, jwt=True),
        ):
            request = request_with(token)
            authenticate(request, accepts=TOKEN_TYPES)
            user = load_user(memo_of(request))
            assert user.pk != boss.pk
            assert (user.email, user.first_name) == ("", "")
            request = request_with(local_clerk.token(ada, email="ada@example.com", email_verified=True))
            assert load_user(memo_of(request)).pk == user.pk
        request = request_with(local_clerk.create_api_key(ada, claims=forged))
        authenticate(request, accepts=TOKEN_TYPES)
        assert load_user(memo_of(request)).email in ("", "ada@example.com")

    def test_who_was_refused_has_no_user(self, local_clerk: LocalClerk) -> None:
        request = request_with(JUNK)
        authenticate(request, accepts=TOKEN_TYPES)
        with pytest.raises(AccountRefused):
            load_user(memo_of(request))


@pytest.mark.django_db
class TestBetweenDoors:
    """One request, and doors that accept different things."""

    def test_each_door_decides_for_itself_and_clerk_is_asked_once(
        self, local_clerk: LocalClerk, ada: LocalUser
    ) -> None:
        request = request_with(local_clerk.create_api_key(ada))
        assert authenticate(request).reason == "token-invalid"
        assert not get_clerk(request).is_authenticated
        assert authenticate(request, accepts=("api_key",)).is_signed_in
        assert authenticate(request).is_signed_in  # as the last one had it
        assert get_clerk(request).user_id == ada.id
        assert authenticate(request, accepts=("m2m_token", "oauth_token")).reason == "token-type-mismatch"
        assert not get_clerk(request).is_authenticated
        assert authenticate(request, accepts=TOKEN_TYPES).is_signed_in
        assert local_clerk.calls.machine_verifications == 1

    def test_an_outage_lasts_as_long_as_the_request(self, local_clerk: LocalClerk, ada: LocalUser) -> None:
        request = request_with(local_clerk.create_api_key(ada))
        local_clerk.faults.status(429)
        for _ in range(2):
            with pytest.raises(ClerkUnavailable):
                authenticate(request, accepts=("api_key",))
        assert local_clerk.calls.machine_verifications == 1
        assert authenticate(request, accepts=("m2m_token",)).reason == "token-type-mismatch"

    @pytest.mark.parametrize("value", ["Bearer a b", "Bearer", "bearer é"])
    def test_a_header_that_nobody_can_read_is_no_machines(self, local_clerk: LocalClerk, value: str) -> None:
        for accepts, reason in ((("api_key",), "token-type-mismatch"), (TOKEN_TYPES, "token-invalid")):
            request = RequestFactory().get("/", headers={"authorization": value})
            state = authenticate(request, accepts=accepts)
            assert (state.reason, state.carrier) == (reason, "header")

    @pytest.mark.parametrize("world", ["sync", "async"])
    def test_the_middleware_waits_for_the_view_to_say_what_it_accepts(
        self, local_clerk: LocalClerk, ada: LocalUser, settings: Any, world: str
    ) -> None:
        """With an unsafe method, where the middleware looks first; and no failure is reported that is none."""
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
        client: Any = AsyncClient(enforce_csrf_checks=True) if world == "async" else Client(enforce_csrf_checks=True)
        post = async_to_sync(client.post) if world == "async" else client.post
        key = {"authorization": f"Bearer {local_clerk.create_api_key(ada)}"}
        with served({"accepts_token": "api_key"}), heard(clerk_auth_failed) as failed:
            assert post("/class", headers=key).status_code == 200
            assert post("/aclass", headers=key).status_code == 200
            assert not failed
            assert post("/class", headers={"authorization": f"Bearer {local_clerk.token(ada)}"}).status_code == 401
            assert [sent["reason"] for sent in failed] == ["token-type-mismatch"]

    def test_a_plain_view_hears_of_a_token_that_does_not_count(self, local_clerk: LocalClerk, ada: LocalUser) -> None:
        with heard(clerk_auth_failed) as failed:
            request = request_with(local_clerk.oauth_token(ada, jwt=True))
            assert authenticate(request, early=True).reason == "token-type-mismatch"
            assert not failed
            assert get_clerk(request).reason == "token-type-mismatch"
            assert len(failed) == 1

    @pytest.mark.parametrize("world", ["sync", "async"])
    def test_optional_views_see_what_the_setting_accepts(
        self, local_clerk: LocalClerk, ada: LocalUser, settings: Any, world: str
    ) -> None:
        class Urls:
            urlpatterns = [path("", clerk_optional(_whose)), path("a", clerk_optional(_awhose))]

        settings.ROOT_URLCONF = Urls
        client: Any = AsyncClient() if world == "async" else Client()
        get = async_to_sync(client.get) if world == "async" else client.get
        key = {"authorization": f"Bearer {local_clerk.create_api_key(ada)}"}
        for where in ("/", "/a"):
            settings.CLERK_ACCEPTS_TOKEN = ["session_token"]
            assert get(where, headers=key).json() == [None, None]
            settings.CLERK_ACCEPTS_TOKEN = ["session_token", "api_key"]
            assert get(where, headers=key).json() == ["api_key", ada.id]


def _whose(request: Any) -> JsonResponse:
    return JsonResponse([request.clerk.token_type, request.clerk.user_id], safe=False)


async def _awhose(request: Any) -> JsonResponse:
    return _whose(request)


@pytest.mark.django_db
class TestSignals:
    def test_a_machine_token_tells_once_what_it_cost(self, local_clerk: LocalClerk) -> None:
        token = local_clerk.m2m_token("mch_1")
        with heard(clerk_auth_success) as good, heard(clerk_cache_miss) as missed, heard(clerk_auth_failed) as failed:
            for _ in range(2):
                request = request_with(token)
                authenticate(request, accepts=TOKEN_TYPES)
                load_user(memo_of(request))
                load_user(memo_of(request))
        assert [(sent["source"], sent["auth"].machine_id, sent["user"].is_anonymous) for sent in good] == [
            ("api", "mch_1", True),
            ("cache", "mch_1", True),
        ]
        assert len(missed) == 1
        assert re.fullmatch(r"[0-9a-f]{64}", missed[0]["token_hash"])
        assert not failed
        assert token not in str([*good, *missed])

    def test_a_users_key_tells_likewise(self, local_clerk: LocalClerk, ada: LocalUser) -> None:
        request = request_with(local_clerk.token(ada))
        load_user(memo_of(request))
        token = local_clerk.create_api_key(ada)
        with heard(clerk_auth_success) as good:
            for _ in range(2):
                request = request_with(token)
                authenticate(request, accepts=TOKEN_TYPES)
                load_user(memo_of(request))
        assert [sent["source"] for sent in good] == ["api", "cache"]

    def test_a_refused_one_tells_why(self, local_clerk: LocalClerk) -> None:
        with heard(clerk_auth_failed) as failed:
            for _ in range(2):
                assert state_of(JUNK).reason == "token-invalid"
        assert [sent["reason"] for sent in failed] == ["token-invalid"] * 2
        assert all(JUNK not in str(sent) for sent in failed)

    @pytest.mark.parametrize("make", [make for _, make in MACHINE_TOKENS.values()], ids=list(MACHINE_TOKENS))
    def test_a_receiver_may_use_the_database_in_async_views(
        self, local_clerk: LocalClerk, ada: LocalUser, make: Make, django_user_model: Any
    ) -> None:
        counted: list[int] = []

        def receiver(**values: Any) -> None:
            counted.append(django_user_model.objects.count())

        door = next(door for door in DOORWAYS if (door.name, door.world) == ("afunction", "async"))
        token = f"Bearer {make(local_clerk, ada)}"
        clerk_auth_success.connect(receiver)
        try:
            with served({"accepts_token": "any"}) as visit:
                assert [visit(door, token).status_code for _ in range(2)] == [200, 200]
        finally:
            clerk_auth_success.disconnect(receiver)
        assert len(counted) == 2


class TestShape:
    """MCH-02: what Clerk cannot have given out costs no call."""

    BAD = (
        "",
        "short",
        "0" * 15,
        "0" * 513,
        "0" * 20_000,
        "0" * 31 + ".",
        "0" * 31 + "~",
        "0" * 30 + "===",
        "0" * 16 + "=" + "0" * 15,
        "0" * 31 + "é",
        "0" * 31 + "\n",
        "0" * 31 + "\x00",
        " " + "0" * 31,
        "0" * 16 + "%" + "0" * 15,
    )

    @pytest.mark.parametrize("prefix", ["ak_", "oat_", "mt_", "m2m_"])
    @pytest.mark.parametrize("body", BAD, ids=[ascii(body)[:24] for body in BAD])
    def test_bad_shapes_are_refused_unasked(self, local_clerk: LocalClerk, prefix: str, body: str) -> None:
        token_type = {"ak_": "api_key", "oat_": "oauth_token"}.get(prefix, "m2m_token")
        assert asked(prefix + body, token_type) == "token-invalid"
        assert local_clerk.calls.total == 0

    def test_ten_thousand_of_them_cost_nothing(self, local_clerk: LocalClerk) -> None:
        junk = [
            f"{prefix}{index:x}.{body[:64]}"
            for index in range(179)
            for prefix in ("ak_", "oat_", "mt_", "m2m_")
            for body in self.BAD
        ]
        assert len(junk) > 10_000
        settings = config()
        for token in junk:
            with pytest.raises(TokenRefused):
                verify(token, "api_key", settings, Budget(5))
        assert local_clerk.calls.total == 0

    @pytest.mark.parametrize("token", ["AK_" + "0" * 32, "ak" + "0" * 32, "xak_" + "0" * 32, "Oat_" + "0" * 32])
    def test_a_prefix_is_exact(self, local_clerk: LocalClerk, token: str) -> None:
        assert state_of(token, ("api_key", "oauth_token")).reason == "token-type-mismatch"
        assert state_of(token).reason == "token-invalid"
        assert local_clerk.calls.machine_verifications == 0

    def test_the_older_prefix_of_m2m_tokens_is_known(self, local_clerk: LocalClerk) -> None:
        assert state_of("m2m_" + "0" * 32, ("m2m_token",)).reason == "token-invalid"
        assert local_clerk.calls.count("/m2m_tokens/verify") == 1

    @pytest.mark.parametrize("body", ["0" * 16, "0" * 512, "aZ0-_+/" * 5 + "==", "f" * 32])
    def test_what_may_be_one_is_asked_about(self, local_clerk: LocalClerk, body: str) -> None:
        assert asked(f"ak_{body}") == "token-invalid"
        assert local_clerk.calls.machine_verifications == 1


def answer(**members: Any) -> bytes:
    """Return what Clerk says of a good API key, with members changed; ... leaves one out."""
    body = {
        "object": "api_key",
        "id": "ak_id",
        "subject": "user_1",
        "scopes": ["a"],
        "revoked": False,
        "expired": False,
        "expiration": None,
        "claims": None,
    } | members
    return json.dumps({name: value for name, value in body.items() if value is not ...}).encode()


FUTURE = 4_000_000_000_000  # milliseconds: the year 2096


class TestWhatClerkSays:
    """MCH-04: a definite answer is a verdict, everything else is an outage."""

    @pytest.mark.parametrize(
        ("token_type", "path", "member"),
        [
            ("api_key", "/api_keys/verify", "secret"),
            ("m2m_token", "/m2m_tokens/verify", "token"),
            ("oauth_token", "/oauth_applications/access_tokens/verify", "access_token"),
        ],
        ids=["14-verify-row-1", "14-verify-row-2", "14-verify-row-3"],
    )
    def test_it_is_asked_as_clerk_wants_it(
        self, local_clerk: LocalClerk, token_type: str, path: str, member: str
    ) -> None:
        """Source: Clerk's Backend API; these paths are not below /v1. The stand-in refuses every other body."""
        make: Any = {
            "api_key": lambda: local_clerk.create_api_key("user_1"),
            "m2m_token": lambda: local_clerk.m2m_token("mch_1"),
            "oauth_token": lambda: local_clerk.oauth_token("user_1"),
        }[token_type]
        assert asked(make(), token_type).subject
        [call] = local_clerk.calls.paths
        assert (call.method, call.path) == ("POST", path)
        assert call.headers["clerk-api-version"] == "2026-05-12"
        assert call.headers["content-type"] == "application/json"
        assert call.headers["authorization"] == "Bearer [hidden]"

    GOOD = {
        "plain": {},
        "with a time": {"expiration": FUTURE},
        "beyond the calendar": {"expiration": 10**17},
        "a fraction": {"expiration": FUTURE + 0.5},
        "active": {"active": True},
        "flags left out": {"revoked": ..., "expired": ..., "expiration": ...},
        "an organisation's": {"subject": "org_1"},
        "without scopes": {"scopes": ...},
        "with claims": {"claims": {"a": [1]}},
        "unknown members": {"new": {"x": 1}, "object": "something"},
    }

    @pytest.mark.parametrize("members", GOOD.values(), ids=list(GOOD))
    def test_good(self, local_clerk: LocalClerk, members: dict[str, Any]) -> None:
        local_clerk.respond("/api_keys/verify", answer(**members))
        found = asked(JUNK)
        assert found.subject == members.get("subject", "user_1")
        assert asked(JUNK) == found

    REFUSED = {
        "revoked": {"revoked": True},
        "expired": {"expired": True},
        "not active": {"active": False},
        "not active, nothing else": dict.fromkeys(json.loads(answer()), ...) | {"active": False},
        "over": {"expiration": 1_000_000_000_000},
        "over by a minus": {"expiration": -5},
        "no subject": {"subject": ...},
        "empty subject": {"subject": ""},
        "subject of another type": {"subject": 5},
        "a machine's": {"subject": "mch_1"},
        "nobody's": {"subject": "user_"},
        "odd subject": {"subject": "user_1\n"},
        "no id": {"id": ...},
        "empty id": {"id": ""},
        "id of another type": {"id": 7},
        "nothing": dict.fromkeys(json.loads(answer()), ...),
    }

    @pytest.mark.parametrize("members", REFUSED.values(), ids=list(REFUSED))
    def test_refused(self, local_clerk: LocalClerk, members: dict[str, Any]) -> None:
        """14-answers-row-1: unlike Clerk's JavaScript SDK, which looks at no flag."""
        local_clerk.respond("/api_keys/verify", answer(**members))
        assert asked(JUNK) == "token-invalid"
        assert asked(JUNK) == "token-invalid"
        assert local_clerk.calls.machine_verifications == 1

    UNUSABLE = {
        "revoked perhaps": answer(revoked="perhaps"),
        "expired perhaps": answer(expired=1),
        "active perhaps": answer(active="yes"),
        "active null": answer(active=None),
        "a time in words": answer(expiration="tomorrow"),
        "a time that is a flag": answer(expiration=True),
        "a time beyond numbers": answer(expiration=10**400),
        "a list": b"[]",
        "null": b"null",
        "text": b'"good"',
        "no JSON": b"<html>",
        "empty": b"",
        "deep": b"[" * 200_000,
    }

    @pytest.mark.parametrize("body", UNUSABLE.values(), ids=list(UNUSABLE))
    def test_of_no_use(self, local_clerk: LocalClerk, body: bytes) -> None:
        local_clerk.respond("/api_keys/verify", body)
        with pytest.raises(ClerkUnavailable):
            asked(JUNK)
        local_clerk.respond("/api_keys/verify", answer())
        assert asked(JUNK).subject == "user_1"

    @pytest.mark.parametrize("status", [400, 404, 410, 422])
    def test_definite_refusals(self, local_clerk: LocalClerk, status: int) -> None:
        """14-answers-row-3."""
        local_clerk.faults.status(status)
        assert asked(JUNK) == "token-invalid"
        local_clerk.faults.clear()
        assert asked(JUNK) == "token-invalid"
        assert local_clerk.calls.machine_verifications == 1

    @pytest.mark.parametrize("status", [204, 301, 401, 402, 403, 405, 408, 409, 413, 418, 429, 500, 502, 503, 504])
    def test_refusals_that_say_nothing_of_the_token(self, local_clerk: LocalClerk, status: int) -> None:
        """MCH-04, 14-answers-row-2 (about our key) and 14-answers-row-4."""
        local_clerk.faults.status(status)
        with pytest.raises(ClerkUnavailable) as caught:
            asked(JUNK)
        assert caught.value.retry_after >= 1
        assert (caught.value.reason == "secret-key-invalid") == (status in (401, 403))

    @pytest.mark.parametrize("body", [b"", b"<html>not found</html>", b"{}", b'{"message": "no Route matched"}'])
    def test_a_404_that_is_not_clerks(self, local_clerk: LocalClerk, body: bytes) -> None:
        """What stands in front of Clerk may not find Clerk, which makes no key invalid."""
        local_clerk.faults.status(404, body=body)
        with pytest.raises(ClerkUnavailable):
            asked(JUNK)

    @pytest.mark.parametrize("kind", ["truncated", "bad-chunk", "gzip", "charset", "huge"])
    def test_garbage_on_the_wire(self, local_clerk: LocalClerk, kind: str) -> None:
        local_clerk.faults.garbage(kind)
        with pytest.raises(ClerkUnavailable):
            asked(JUNK)

    def test_a_hanging_api_costs_no_more_than_the_budget(self, local_clerk: LocalClerk, settings: Any) -> None:
        """DOS-02."""
        settings.CLERK_TIMEOUT_MS = 300
        local_clerk.faults.slow(5)
        started = time.monotonic()
        with pytest.raises(ClerkUnavailable):
            verify(JUNK, "api_key", config(), Budget(0.3))
        assert time.monotonic() - started < 2

    def test_one_failure_on_the_wire_is_tried_again(self, local_clerk: LocalClerk) -> None:
        token = local_clerk.create_api_key("user_1")
        local_clerk.faults.down(times=1)
        assert asked(token).subject == "user_1"

    def test_scopes_and_claims_of_other_types_are_none(self, local_clerk: LocalClerk) -> None:
        for scopes in ("a b", ["a", 1], {"a": 1}, None, 5):
            token = local_clerk.create_api_key("user_1")
            local_clerk.update_machine_token(token, scopes=scopes, claims=[1], client_id=5)
            found = asked(token)
            assert (found.scopes, sorted(found.claims)) == ((), ["jti", "sub"])

    def test_what_is_kept_stays_small(self, local_clerk: LocalClerk, caplog: pytest.LogCaptureFixture) -> None:
        token = local_clerk.create_api_key("user_1", [str(n) for n in range(1000)], claims={"a": "x" * 5000})
        found = asked(token)
        assert len(found.scopes) == machines.MAX_SCOPES
        assert sorted(found.claims) == ["jti", "sub"]
        assert "too long" in caplog.text

    def test_m2m_tokens_are_asked_about_with_the_machines_key(self, local_clerk: LocalClerk, settings: Any) -> None:
        machine = local_clerk.add_machine("us")
        token, key = local_clerk.m2m_token("mch_1"), local_clerk.create_api_key("user_1")
        settings.CLERK_MACHINE_SECRET_KEY = machine.secret_key
        settings.CLERK_SECRET_KEY = "sk_test_another"
        assert asked(token, "m2m_token").subject == "mch_1"
        with pytest.raises(ClerkUnavailable):
            asked(key)

    def test_a_description_shows_no_claims(self, local_clerk: LocalClerk) -> None:
        verdict = asked(local_clerk.create_api_key("user_1", claims={"plan": "canary"}))
        assert verdict.claims["plan"] == "canary"
        assert "canary" not in repr(verdict)

    def test_a_wrong_machine_key_is_named_and_harms_nothing_else(
        self, local_clerk: LocalClerk, settings: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings.CLERK_MACHINE_SECRET_KEY = "ak_wrong_and_named"
        for _ in range(5):
            with pytest.raises(ClerkUnavailable):
                asked(local_clerk.m2m_token("mch_1"), "m2m_token")
        assert "refuses CLERK_MACHINE_SECRET_KEY" in caplog.text
        assert "ak_wrong_and_named" not in caplog.text
        assert asked(local_clerk.create_api_key("user_1")).subject == "user_1"

    def test_without_any_key_what_only_clerk_can_tell_is_refused(
        self, local_clerk: LocalClerk, settings: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """I2: whoever sends one must not get a 500."""
        monkeypatch.setattr(entries, "_complaints", {})
        token, jwt = local_clerk.create_api_key("user_1"), local_clerk.m2m_token("mch_1", jwt=True)
        settings.CLERK_SECRET_KEY = ""
        settings.CLERK_JWT_KEY = local_clerk.signing_key.public_pem
        settings.CLERK_USER_SOURCE = "claims"
        assert state_of(token).reason == "token-invalid"
        assert "CLERK_SECRET_KEY" in caplog.text
        assert state_of(jwt).is_signed_in


class TestMemory:
    """Contract, cost: the verdict on a machine token, in Django's cache."""

    def test_one_token_costs_one_call_per_lifetime(self, local_clerk: LocalClerk) -> None:
        token = local_clerk.create_api_key("user_1")
        with time_machine.travel(time.time(), tick=False) as clock:
            for _ in range(5):
                assert asked(token).subject == "user_1"
            assert local_clerk.calls.machine_verifications == 1
            local_clerk.revoke_machine_token(token)
            clock.shift(machines.VERDICT_LIFETIME - 1)
            assert asked(token).subject == "user_1"
            clock.shift(2)
            assert asked(token) == "token-invalid"
        assert local_clerk.calls.machine_verifications == 2

    def test_ten_thousand_times_the_same_junk_costs_one_call(self, local_clerk: LocalClerk) -> None:
        """MCH-02."""
        settings = config()
        for _ in range(10_000):
            with pytest.raises(TokenRefused):
                verify(JUNK, "api_key", settings, Budget(5))
        assert local_clerk.calls.machine_verifications == 1

    def test_a_refusal_is_forgotten_after_a_minute(self, local_clerk: LocalClerk, settings: Any) -> None:
        """CAC-07: also where the cache never forgets."""
        settings.CACHES = one_cache(KeepingCache, LOCATION=uuid.uuid4().hex)
        token = local_clerk.create_api_key("user_1")
        local_clerk.faults.status(404)
        assert asked(token) == "token-invalid"
        local_clerk.faults.clear()
        assert asked(token) == "token-invalid"
        with time_machine.travel(time.time() + 61, tick=True):
            assert asked(token).subject == "user_1"

    def test_a_verdict_does_not_outlive_its_token(self, local_clerk: LocalClerk, settings: Any) -> None:
        settings.CACHES = one_cache(KeepingCache, LOCATION=uuid.uuid4().hex)
        now = time.time()
        with time_machine.travel(now, tick=False) as clock:
            token = local_clerk.create_api_key("user_1", expires_in=20)
            assert asked(token).subject == "user_1"
            clock.move_to(now + 19)
            assert asked(token).subject == "user_1"
            clock.move_to(now + 21)
            assert asked(token) == "token-invalid"

    @pytest.mark.parametrize("make", [make for _, make in OPAQUE.values()], ids=list(OPAQUE))
    def test_nothing_in_the_cache_tells_anything(
        self, local_clerk: LocalClerk, ada: LocalUser, settings: Any, make: Make
    ) -> None:
        """CAC-05, CAC-09: neither token, nor subject, nor claims; and keys that every cache takes."""
        settings.CACHES = one_cache(CountingCache, LOCATION=uuid.uuid4().hex)
        CountingCache.forget()
        token = make(local_clerk, ada)
        local_clerk.update_machine_token(token, claims={"email": "canary@example.com"}, name="canary")
        assert state_of(token).is_signed_in
        stored = repr(CountingCache.stored)
        assert len(CountingCache.stored) == 3
        for secret in (token, ada.id, "mch_1", "canary", "read", local_clerk.secret_key):
            assert secret not in stored
        assert all(re.fullmatch(r"[A-Za-z0-9:._-]{1,200}", key) for _, key in CountingCache.operations)
        assert all(type(value) is str and len(value) < 1500 for _, value in CountingCache.stored)

    def test_a_known_token_costs_one_round_trip(self, local_clerk: LocalClerk, settings: Any) -> None:
        settings.CACHES = one_cache(CountingCache, LOCATION=uuid.uuid4().hex)
        token = local_clerk.create_api_key("user_1")
        asked(token)
        CountingCache.forget()
        asked(token)
        assert [operation for operation, _ in CountingCache.operations] == ["get"]

    def test_verdicts_are_not_shared_between_configurations(self, local_clerk: LocalClerk, settings: Any) -> None:
        """CAC-02: with another key it may be another instance's."""
        token = local_clerk.m2m_token("mch_1")
        assert asked(token, "m2m_token").subject == "mch_1"
        settings.CLERK_MACHINE_SECRET_KEY = "ak_wrong"
        with pytest.raises(ClerkUnavailable):
            asked(token, "m2m_token")

    @pytest.mark.parametrize("forged", ["", "x", 5, None, ["a"], b"\x80", {"subject": "user_1"}, "gAAAAAB" + "x" * 90])
    def test_what_somebody_else_put_there_counts_for_nothing(self, local_clerk: LocalClerk, forged: Any) -> None:
        """CAC-04."""
        token = local_clerk.create_api_key("user_1")
        question = machines._Question(token, "api_key", config(), Budget(5))
        caches["default"].set(question.entry.key, forged, 60)
        assert asked(token).subject == "user_1"
        assert local_clerk.calls.machine_verifications == 1

    def test_nor_does_another_tokens_entry_nor_an_old_one(self, local_clerk: LocalClerk) -> None:
        """CAC-04: entries are bound to their token, and to their time."""
        good, other = local_clerk.create_api_key("user_1"), local_clerk.create_api_key("user_2")
        keys = [machines._Question(token, "api_key", config(), Budget(5)).entry.key for token in (good, other)]
        assert asked(good).subject == "user_1"
        entry = caches["default"].get(keys[0])
        caches["default"].set(keys[1], entry, 60)
        assert asked(other).subject == "user_2"
        caches["default"].set(keys[1], Fernet(Fernet.generate_key()).encrypt(b"{}").decode(), 60)
        assert asked(other).subject == "user_2"
        local_clerk.revoke_machine_token(good)
        with time_machine.travel(time.time() + 200, tick=True):
            caches["default"].set(keys[0], entry, 600)
            assert asked(good) == "token-invalid"
        with time_machine.travel(time.time() - 500, tick=True):
            caches["default"].set(keys[0], entry, 600)
            assert asked(good) == "token-invalid"

    @pytest.mark.parametrize("cache", [RaisingCache, GarbageCache])
    def test_a_cache_that_is_away_or_mad_changes_no_answer(
        self, local_clerk: LocalClerk, settings: Any, cache: Any
    ) -> None:
        """F-11, F-14."""
        settings.CACHES = one_cache(cache, LOCATION=uuid.uuid4().hex)
        settings.CLERK_TIMEOUT_MS = 1000
        GarbageCache.garbage = "nonsense"
        token = local_clerk.create_api_key("user_1")
        assert asked(token).subject == "user_1"
        assert asked(JUNK) == "token-invalid"
        assert asked(token).subject == "user_1"

    def test_while_the_cache_is_away_this_process_asks_once_a_minute(
        self, local_clerk: LocalClerk, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """F-11."""
        monkeypatch.setattr(entries, "_complaints", {})
        settings.CACHES = one_cache(RaisingCache, LOCATION=uuid.uuid4().hex)
        token, junk = local_clerk.create_api_key("user_1"), f"ak_{uuid.uuid4().hex}"
        for _ in range(5):
            assert asked(token).subject == "user_1"
            assert asked(junk) == "token-invalid"
        assert local_clerk.calls.machine_verifications == 2
        assert "asks Clerk about machine tokens itself" in caplog.text
        with time_machine.travel(time.time() + 61, tick=True):
            assert asked(token).subject == "user_1"
        assert local_clerk.calls.machine_verifications == 3

    def test_what_this_process_keeps_is_bounded(self) -> None:
        table = machines._Kept()
        for index in range(machines.MAX_KEPT + 5):
            table.put(str(index), index)
        assert (len(table._entries), "0" in table, table.get("4"), table.get("5")) == (
            machines.MAX_KEPT,
            False,
            None,
            5,
        )

    def test_a_flood_of_well_shaped_junk_is_cut_off_and_known_tokens_are_spared(
        self, local_clerk: LocalClerk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """I6: what anybody can make up must not use up what Clerk allows us."""
        good = local_clerk.create_api_key("user_1")
        assert asked(good).subject == "user_1"
        for _ in range(api.MAX_REFUSED_TOKENS):
            assert asked(f"ak_{uuid.uuid4().hex}") == "token-invalid"
        calls = local_clerk.calls.machine_verifications
        for _ in range(3):
            with pytest.raises(ClerkUnavailable) as caught:
                asked(f"ak_{uuid.uuid4().hex}")
        assert 1 <= caught.value.retry_after <= api.REFUSED_TOKENS_WINDOW
        assert local_clerk.calls.machine_verifications == calls
        caches["default"].clear()
        assert asked(good).subject == "user_1"
        monkeypatch.setattr(api.get_api(config())._token_flood, "window", 0.0)  # as if it were over
        assert asked(f"ak_{uuid.uuid4().hex}") == "token-invalid"

    @pytest.mark.parametrize("heard_from", ["the verdict", "the note"])
    def test_what_was_good_in_another_process_is_spared_too(self, local_clerk: LocalClerk, heard_from: str) -> None:
        """I6: a process that has never asked Clerk itself about the token must not shut it out."""
        good = local_clerk.create_api_key("user_1")
        key = machines._Question(good, "api_key", config(), Budget(5)).entry.key
        assert asked(good).subject == "user_1"
        machines._good.start_anew()  # as in a process of its own
        if heard_from == "the verdict":
            assert asked(good).subject == "user_1"
            caches["default"].delete(f"{key}:good")
        for _ in range(api.MAX_REFUSED_TOKENS):
            asked(f"ak_{uuid.uuid4().hex}")
        with time_machine.travel(time.time() + machines.VERDICT_LIFETIME + 1, tick=True):
            assert asked(good).subject == "user_1"
        assert local_clerk.calls.machine_verifications == 2 + api.MAX_REFUSED_TOKENS

    def test_that_it_was_good_is_kept_as_long_as_it_can_be(self, local_clerk: LocalClerk, settings: Any) -> None:
        settings.CACHES = one_cache(CountingCache, LOCATION=uuid.uuid4().hex)
        lasting, brief = local_clerk.create_api_key("user_1"), local_clerk.create_api_key("user_2", expires_in=100)
        now = time.time()
        with time_machine.travel(now, tick=False) as clock:
            questions = [machines._Question(token, "api_key", config(), Budget(5)) for token in (lasting, brief)]
            for token in (lasting, brief):
                asked(token)
            machines._good.start_anew()
            assert [question.was_good() for question in questions] == [True, True]
            clock.move_to(now + 102)
            assert [question.was_good() for question in questions] == [True, False]
            clock.move_to(now + machines.GOOD_LIFETIME + 1)
            assert [question.was_good() for question in questions] == [False, False]

    def test_what_was_good_and_is_refused_is_spared_no_more(self, local_clerk: LocalClerk) -> None:
        """I6: nor does anybody make his junk known by writing into the cache (CAC-04)."""
        token = local_clerk.create_api_key("user_1")
        question = machines._Question(token, "api_key", config(), Budget(5))
        assert asked(token).subject == "user_1"
        assert question.was_good()
        local_clerk.revoke_machine_token(token)
        with time_machine.travel(time.time() + machines.VERDICT_LIFETIME + 1, tick=True):
            assert asked(token) == "token-invalid"
        assert not question.was_good()
        for forged in ("good", "good x", 5, question.entry.sealed("bad")):
            caches["default"].set(f"{question.entry.key}:good", forged)
            assert not question.was_good()


class ForgetfulCache(GarbageCache):
    """Says that somebody else was first, and then does not know who."""

    def get(self, key: Any, default: Any = None, version: Any = None) -> Any:
        return default

    def add(self, *args: Any, **kwargs: Any) -> bool:
        return False


class TestManyAtOnce:
    def test_sixty_four_threads_make_one_call(self, local_clerk: LocalClerk) -> None:
        """CAC-06, MCH-02."""
        good = local_clerk.create_api_key("user_1")
        local_clerk.faults.slow(0.3)
        for token, outcome in ((good, "user_1"), (f"ak_{uuid.uuid4().hex}", "token-invalid")):
            local_clerk.calls.reset()
            found = simultaneously(64, lambda _, token=token: asked(token))  # type: ignore[misc]  # mypy knows no such lambdas
            assert {getattr(item, "subject", item) for item in found} == {outcome}
            assert local_clerk.calls.machine_verifications == 1

    def test_all_of_them_hear_of_an_outage(self, local_clerk: LocalClerk) -> None:
        local_clerk.faults.slow(0.3)
        local_clerk.respond("/api_keys/verify", b"", 500)

        def ask(_: int) -> str:
            try:
                return str(asked(JUNK))
            except ClerkUnavailable as error:
                return error.reason

        assert set(simultaneously(16, ask)) == {"upstream-unavailable"}
        assert local_clerk.calls.machine_verifications <= 4

    def test_who_waits_too_long_is_told_so(self, local_clerk: LocalClerk) -> None:
        question = machines._Question(JUNK, "api_key", config(), Budget(0.1))
        flight, leading = machines.flights.board(question.entry.key, sharing=True)
        assert leading
        with pytest.raises(ClerkUnavailable):
            question.ask()
        machines.flights.land(flight, linger=0)

    def test_who_waits_for_one_that_was_broken_off_asks_himself(self, local_clerk: LocalClerk) -> None:
        token = local_clerk.create_api_key("user_1")
        question = machines._Question(token, "api_key", config(), Budget(5))
        flight, _ = machines.flights.board(question.entry.key, sharing=True)
        threading.Timer(0.1, machines.flights.land, [flight], {"linger": 0}).start()
        assert question.ask().subject == "user_1"

    def test_another_process_is_waited_for_and_not_for_ever(self, local_clerk: LocalClerk) -> None:
        token = local_clerk.create_api_key("user_1")
        settings = config()
        other = machines._Question(token, "api_key", settings, Budget(5))
        assert other.entry.claim()
        started = time.monotonic()
        assert verify(token, "api_key", settings, Budget(0.6))[0].subject == "user_1"
        assert 0.25 < time.monotonic() - started < 2
        caches["default"].delete(other.entry.key)

        def finish() -> None:
            other._fetch()
            other.entry.release()

        threading.Timer(0.1, finish).start()
        local_clerk.calls.reset()
        assert verify(token, "api_key", settings, Budget(5))[0].subject == "user_1"
        assert local_clerk.calls.machine_verifications == 1

    def test_a_turn_that_is_gone_when_looked_at_is_waited_for_no_longer(
        self, local_clerk: LocalClerk, settings: Any
    ) -> None:
        """CAC-06: a cache may forget between two questions, or say one thing and do another."""
        settings.CACHES = one_cache(ForgetfulCache, LOCATION=uuid.uuid4().hex)
        token = local_clerk.create_api_key("user_1")
        assert verify(token, "api_key", config(), Budget(0.4))[0].subject == "user_1"

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("kind", ["file", "redis"])
    def test_processes_that_share_a_cache_ask_once_among_them(
        self, local_clerk: LocalClerk, request: pytest.FixtureRequest, tmp_path: Path, kind: str
    ) -> None:
        """Contract, cost; over real processes."""
        if kind == "redis":
            backend = "django.core.cache.backends.redis.RedisCache"
            shared = one_cache(backend, LOCATION=request.getfixturevalue("redis"), KEY_PREFIX=uuid.uuid4().hex)
        else:
            shared = one_cache("django.core.cache.backends.filebased.FileBasedCache", LOCATION=str(tmp_path / "cache"))
        configured = local_clerk.settings(CACHES=shared, CLERK_ACCEPTS_TOKEN=["session_token", "m2m_token"])
        tokens = [(local_clerk.m2m_token("mch_1"), 200), ("mt_" + "0" * 32, 401)]
        with ExitStack() as stack:
            clients = [
                stack.enter_context(stack.enter_context(gunicorn_serving(**configured)).client()) for _ in range(2)
            ]
            for token, status in tokens:
                for client in clients * 3:
                    response = client.get("/required/", headers={"Authorization": f"Bearer {token}"})
                    assert response.status_code == status, response.text
        assert local_clerk.calls.machine_verifications == 2

    @pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux")
    def test_file_descriptors_stay_flat(self, local_clerk: LocalClerk) -> None:
        """CTX-03: over ten thousand calls, good and bad."""
        asked(JUNK)
        before = len(os.listdir("/proc/self/fd"))
        settings, tokens = config(), [local_clerk.create_api_key("user_1"), JUNK]
        local_clerk.calls.reset()
        for number in range(10_000):
            question = machines._Question(tokens[number % 2], "api_key", settings, Budget(5))
            machines._good.put(question.entry.key, True)  # else a flood of junk would be cut off
            assert question._fetch().subject == (None if number % 2 else "user_1")
        assert local_clerk.calls.machine_verifications == 10_000
        assert len(os.listdir("/proc/self/fd")) <= before + 1


class TestJwts:
    """Machine tokens that need no call: which are good, which are another's, which are nobody's."""

    @pytest.mark.parametrize("jwt_type", ["at+jwt", "application/at+jwt"])
    def test_oauth_by_its_type(self, local_clerk: LocalClerk, jwt_type: str) -> None:
        token = local_clerk.oauth_token("user_1", jwt=True, header={"typ": jwt_type})
        assert state_of(token, ("oauth_token",)).is_signed_in
        assert local_clerk.calls.machine_verifications == 0

    def test_the_key_may_be_a_pem(self, local_clerk: LocalClerk, settings: Any) -> None:
        settings.CLERK_JWT_KEY = local_clerk.signing_key.public_pem
        assert state_of(local_clerk.m2m_token("mch_1", jwt=True)).is_signed_in
        assert local_clerk.calls.total == 0

    def test_parties_are_for_pages(self, local_clerk: LocalClerk, settings: Any) -> None:
        settings.CLERK_AUTH_PARTIES = ["https://app.example.com"]
        assert state_of(local_clerk.m2m_token("mch_1", jwt=True)).is_signed_in
        assert state_of(local_clerk.oauth_token("user_1", jwt=True)).is_signed_in

    def test_a_verdict_is_kept_until_the_token_expires(self, local_clerk: LocalClerk) -> None:
        token = local_clerk.m2m_token("mch_1", jwt=True, expires_in=60)
        first = state_of(token)
        assert state_of(token).verdict is first.verdict
        with time_machine.travel(time.time() + 70, tick=True):
            assert state_of(token).reason == "token-verification-failed"

    def test_a_verdict_is_never_taken_for_another_kind(self, local_clerk: LocalClerk) -> None:
        """MCH-01: not even with the verdict in memory."""
        for token in (
            local_clerk.m2m_token("mch_1", jwt=True),
            local_clerk.oauth_token("user_1", jwt=True),
            local_clerk.token("user_1"),
        ):
            kind = state_of(token).token_type
            for other in TOKEN_TYPES:
                assert state_of(token, (other,)).is_signed_in == (other == kind)

    BAD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "alg none": ({"alg": "none"}, {}),
        "alg HS256": ({"alg": "HS256"}, {}),
        "crit": ({"crit": ["x"]}, {}),
        "kid of another": ({"kid": "ins_other"}, {}),
        "odd kid": ({"kid": 5}, {}),
        "no sub but a class": ({}, {"sub": None}),
        "expired": ({}, {"exp": 1_000_000_000}),
        "no exp": ({}, {"exp": None}),
        "exp in words": ({}, {"exp": "tomorrow"}),
        "exp beyond the calendar": ({}, {"exp": 10**15}),
        "not yet": ({}, {"nbf": 4_000_000_000}),
        "issued later": ({}, {"iat": 4_000_000_000}),
        "exp before iat": ({}, {"iat": None, "exp": 0}),
        "another issuer": ({}, {"iss": "https://clerk.evil.example"}),
        "no issuer": ({}, {"iss": None}),
        "odd audience": ({}, {"aud": 5}),
        "odd audiences": ({}, {"aud": ["a", 5]}),
        "odd jti": ({}, {"jti": 5}),
    }

    @pytest.mark.parametrize("kind", ["m2m_token", "oauth_token"])
    @pytest.mark.parametrize(("header", "claims"), BAD.values(), ids=list(BAD))
    def test_bad_ones(self, local_clerk: LocalClerk, kind: str, header: Any, claims: Any) -> None:
        """Source: Clerk's backend SDK: whatever is wrong, the reason is the same."""
        make: Any = local_clerk.m2m_token if kind == "m2m_token" else local_clerk.oauth_token
        token = make("mch_1" if kind == "m2m_token" else "user_1", jwt=True, header=header, claims=claims)
        without_class = kind == "m2m_token" and "sub" in claims  # then nothing says that it is a machine's
        state = state_of(token)
        assert state.reason == ("token-type-mismatch" if without_class else "token-verification-failed")
        assert not state_of(token).is_signed_in

    @pytest.mark.parametrize("kind", ["m2m_token", "oauth_token"])
    def test_signed_by_somebody_else(self, local_clerk: LocalClerk, kind: str) -> None:
        key = new_signing_key(local_clerk.signing_key.kid)
        make: Any = local_clerk.m2m_token if kind == "m2m_token" else local_clerk.oauth_token
        token = make("mch_1" if kind == "m2m_token" else "user_1", jwt=True, key=key)
        assert state_of(token).reason == "token-verification-failed"

    @pytest.mark.parametrize("cat", ["cl_B7d4PD111AAA", "cl_B7d4PD222AAA", "cl_I7d4PD111III", "", None, 5])
    def test_a_machines_token_must_be_of_its_category(self, local_clerk: LocalClerk, cat: Any) -> None:
        """Looked at before the signature."""
        token = local_clerk.m2m_token("mch_1", jwt=True, header={"cat": cat})
        assert state_of(token).reason == "token-invalid"
        assert local_clerk.calls.total == 0

    @pytest.mark.parametrize("cat", ["cl_B7d4PD111AAA", "cl_B7d4PD222AAA", "cl_B7d4PD333AAA", "", 5])
    def test_an_oauth_token_must_not_be_of_another(self, local_clerk: LocalClerk, cat: Any) -> None:
        token = local_clerk.oauth_token("user_1", jwt=True, header={"cat": cat})
        assert state_of(token).reason == "token-verification-failed"
        assert state_of(local_clerk.oauth_token("user_1", jwt=True, header={"cat": "cl_I7d4PD111III"})).is_signed_in

    @pytest.mark.parametrize("subject", ["user_", "org_1", "machine", "", "user_1\n"])
    def test_an_oauth_token_is_a_users(self, local_clerk: LocalClerk, subject: str) -> None:
        assert state_of(local_clerk.oauth_token(subject, jwt=True)).reason == "token-verification-failed"

    def test_a_machine_comes_before_a_client(self, local_clerk: LocalClerk) -> None:
        """Source: Clerk's backend SDK. Then its type is wrong, whichever is asked for."""
        token = local_clerk.m2m_token("mch_1", jwt=True, header={"typ": "at+jwt"})
        assert state_of(token, ("oauth_token",)).reason == "token-type-mismatch"
        assert state_of(token, ("m2m_token",)).reason == "token-verification-failed"

    def test_a_machine_that_claims_nothing_is_no_session(self, local_clerk: LocalClerk) -> None:
        token = local_clerk.m2m_token("machine", jwt=True)
        assert state_of(token).reason == "token-type-mismatch"

    def test_an_oauth_token_names_the_audience_and_a_machines_does_not_name_another(
        self, local_clerk: LocalClerk, settings: Any
    ) -> None:
        settings.CLERK_AUDIENCE = ["us", "also-us"]
        oauth: Callable[[Any], str] = lambda aud: local_clerk.oauth_token("user_1", jwt=True, claims={"aud": aud})  # noqa: E731  # a table
        m2m: Callable[[Any], str] = lambda aud: local_clerk.m2m_token("mch_1", jwt=True, claims={"aud": aud})  # noqa: E731  # likewise
        for make, good, bad in (
            (oauth, ("us", ["x", "also-us"]), ("them", None, [], "", ["US"])),
            (m2m, ("us", ["x", "us"], None, []), ("them", ["x"])),
        ):
            assert all(state_of(make(aud)).is_signed_in for aud in good)
            assert {state_of(make(aud)).reason for aud in bad} == {"token-verification-failed"}

    @pytest.mark.parametrize(
        ("claims", "scopes"),
        [
            ({"scopes": "a b  c"}, ("a", "b", "c")),
            ({"scopes": ""}, ()),
            ({"scopes": "", "aud": ["x"]}, ()),
            ({"scopes": None, "aud": ["x", "y"]}, ("x", "y")),
            ({"scopes": None, "aud": "x"}, ("x",)),
            ({"scopes": None}, ()),
            ({"scopes": 5}, ()),
        ],
    )
    def test_scopes_of_machines(self, local_clerk: LocalClerk, claims: Any, scopes: tuple[str, ...]) -> None:
        assert state_of(local_clerk.m2m_token("mch_1", jwt=True, claims=claims)).auth.scopes == scopes

    @pytest.mark.parametrize(
        ("claims", "scopes"),
        [
            ({"scp": ["a", "b"]}, ("a", "b")),
            ({"scp": [], "scope": "x"}, ()),
            ({"scp": None, "scope": "a b"}, ("a", "b")),
            ({"scp": None}, ()),
            ({"scp": [1]}, ()),
        ],
    )
    def test_scopes_of_clients(self, local_clerk: LocalClerk, claims: Any, scopes: tuple[str, ...]) -> None:
        assert state_of(local_clerk.oauth_token("user_1", jwt=True, claims=claims)).auth.scopes == scopes

    def test_keys_that_cannot_be_had_are_an_outage(self, local_clerk: LocalClerk) -> None:
        local_clerk.faults.down()
        with pytest.raises(ClerkUnavailable):
            state_of(local_clerk.m2m_token("mch_1", jwt=True))

    def test_what_is_no_jwt_is_a_session_token_if_anything(self, local_clerk: LocalClerk) -> None:
        """14-kinds-row-4."""
        for token in ("e30.e30.x", "a.b.c", "x" * 40, "e30.W10.AAAA", "W10.e30.AAAA"):
            assert state_of(token, ("m2m_token", "oauth_token")).reason == "token-type-mismatch"


def test_no_log_line_holds_a_token(local_clerk: LocalClerk, caplog: pytest.LogCaptureFixture) -> None:
    """LOG-01."""
    caplog.set_level(logging.DEBUG)
    tokens = [make(local_clerk, LocalUser({"id": "user_1"})) for _, make in MACHINE_TOKENS.values()]
    refused = [f"{prefix}{uuid.uuid4().hex}" for prefix in ("ak_", "mt_", "oat_")]
    for token in [*tokens, *refused]:
        state_of(token)
        state_of(token, ("session_token",))
    local_clerk.faults.status(500)
    with pytest.raises(ClerkUnavailable):
        state_of("ak_" + "1" * 32)
    assert not [token for token in [*tokens, *refused, "ak_" + "1" * 32] if token in caplog.text]


@pytest.mark.skipif(not REST_FRAMEWORK, reason="needs REST framework")
@pytest.mark.django_db
class TestRestFramework:
    @pytest.fixture
    def view(self) -> Callable[..., Any]:
        from rest_framework.views import APIView

        from clerk_views.drf import ClerkAuthentication

        def visit(token: str, **attributes: Any) -> Any:
            def get(self: Any, request: Any) -> JsonResponse:
                return JsonResponse({"type": request.auth and request.auth.token_type, "user": request.user.pk})

            alone = {"authentication_classes": [ClerkAuthentication], "get": get}
            view = type("Api", (APIView,), {**alone, **attributes}).as_view()  # type: ignore[attr-defined]
            response = view(RequestFactory().get("/", headers={"authorization": f"Bearer {token}"}))
            return response if isinstance(response, JsonResponse) else response.render()

        return visit

    def test_alternatives_each_look_at_their_own(
        self, local_clerk: LocalClerk, ada: LocalUser, view: Callable[..., Any]
    ) -> None:
        from clerk_views.drf import clerk_requires

        either = clerk_requires(accepts_token="api_key", scopes=["a"]) | clerk_requires(role="org:admin")
        assert view(local_clerk.create_api_key(ada, ["a"]), permission_classes=[either]).status_code == 200
        assert view(local_clerk.token(ada, org_role="admin"), permission_classes=[either]).status_code == 200
        assert view(local_clerk.create_api_key(ada, ["b"]), permission_classes=[either]).status_code == 403
        assert view(local_clerk.token(ada), permission_classes=[either]).status_code == 403
        assert view(local_clerk.m2m_token("mch_1"), permission_classes=[either]).status_code == 401
        both = [clerk_requires(accepts_token="api_key"), clerk_requires(accepts_token="any", scopes=["a"])]
        refused = view(local_clerk.m2m_token("mch_1", ["a"]), permission_classes=both)
        assert (refused.status_code, json.loads(refused.content)["code"]) == (403, "token-type-mismatch")

    def test_open_views_take_what_the_setting_accepts(
        self, local_clerk: LocalClerk, view: Callable[..., Any], settings: Any
    ) -> None:
        token = local_clerk.m2m_token("mch_1")
        assert view(token, permission_classes=[]).status_code == 401
        settings.CLERK_ACCEPTS_TOKEN = "any"
        response = view(token, permission_classes=[])
        assert json.loads(response.content) == {"type": "m2m_token", "user": None}

    def test_permissions_may_be_chosen_by_user(
        self, local_clerk: LocalClerk, ada: LocalUser, view: Callable[..., Any]
    ) -> None:
        """The view is asked what it accepts while nobody is authenticated yet."""
        from clerk_views.drf import clerk_requires

        def get_permissions(self: Any) -> list[Any]:
            kinds = "any" if self.request.user.is_anonymous else ["api_key"]
            return [clerk_requires(accepts_token=kinds)()]

        assert view(local_clerk.create_api_key(ada), get_permissions=get_permissions).status_code == 200
        assert view(local_clerk.token(ada), get_permissions=get_permissions).status_code == 401

    def test_outside_a_view_the_setting_counts(self, local_clerk: LocalClerk, ada: LocalUser, settings: Any) -> None:
        from rest_framework.exceptions import AuthenticationFailed
        from rest_framework.request import Request

        from clerk_views.drf import ClerkAuthentication

        def found() -> Any:
            return ClerkAuthentication().authenticate(Request(request_with(local_clerk.create_api_key(ada))))

        with pytest.raises(AuthenticationFailed):
            found()
        settings.CLERK_ACCEPTS_TOKEN = ["api_key"]
        user, auth = found()
        assert (user.clerk_account.clerk_id, auth.user_id) == (ada.id, ada.id)


@pytest.mark.django_db
def test_a_page_that_takes_sessions_too_still_leads_to_sign_in(local_clerk: LocalClerk, settings: Any) -> None:
    class Urls:
        urlpatterns = [path("", clerk_required(accepts_token="any")(_whose))]

    settings.ROOT_URLCONF = Urls
    client = Client()
    client.cookies["__clerk_db_jwt"] = "dvb_1"
    assert client.get("/", headers={"accept": "text/html"}).status_code == 302


@pytest.mark.usefixtures("local_clerk")
def test_the_mixin_takes_a_property() -> None:
    class View(ClerkLoginRequiredMixin):
        @property
        def clerk_accepts_token(self) -> str:
            return "api_key"

        clerk_scopes = ("a",)

    requirement = View().get_clerk_requirement()
    assert (requirement.accepted(config()), requirement.scopes) == (("api_key",), ("a",))
