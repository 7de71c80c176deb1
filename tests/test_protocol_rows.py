"""
Clerk's state machine, row by row, where a row has no case of its number beside the code that decides it.

The ids are those of the protocol: its drawing of the flow (8), the way to Clerk (10.1) and back (10.3), the renewal of
a session (11), and the organisation in an address (12). Requests are judged whole, with real keys. Where ours answers
otherwise than Clerk's SDK, the case shows what comes out instead, and its docstring says why.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.test import RequestFactory

from clerk_views import authentication
from clerk_views.authentication import aauthenticate, authenticate
from clerk_views.conf import config
from clerk_views.states import RequestState
from clerk_views.testing import LocalClerk
from clerk_views.testing.minting import MACHINE_CATEGORY, TEMPLATE_CATEGORY, mint, new_signing_key, session_header
from clerk_views.values import TOKEN_TYPES
from tests import wire
from tests.test_authentication import (
    back,
    be_production,
    cookies_of,
    directives,
    handshake_token,
    held,
    row,
    said,
    suffix,
)
from tests.test_conf import publishable_key

PAGE = {"sec-fetch-dest": "document"}
FETCH = {"sec-fetch-dest": "empty"}
PAYLOAD = "/v1/clients/handshake_payload"
REFRESH = "/v1/sessions/sess_b/refresh"
EXPIRED = "session-token-expired-refresh-non-eligible-no-refresh-cookie"

Judge = Callable[..., RequestState]


@pytest.fixture(params=["sync", "async"])
def judge(request: pytest.FixtureRequest) -> Judge:
    """Judge a request on a thread, and in another run on an event loop."""
    return authenticate if request.param == "sync" else async_to_sync(aauthenticate)


@pytest.fixture(params=["development", "production"])
def instance(request: pytest.FixtureRequest, local_clerk: LocalClerk, settings: Any) -> str:
    """Be a development instance, and in another run a production one."""
    if request.param == "production":
        be_production(local_clerk, settings)
    kind: str = request.param
    return kind


@pytest.fixture
def production(local_clerk: LocalClerk, settings: Any) -> None:
    be_production(local_clerk, settings)


def visit(cookie: str = "", *, path: str = "/page/", method: str = "GET", bearer: str = "", **more: str) -> HttpRequest:
    """Return a browser's request, by default one that opens a page."""
    sent = {**PAGE, **{name.replace("_", "-"): value for name, value in more.items()}}
    sent |= {"cookie": cookie} if cookie else {}
    sent |= {"authorization": f"Bearer {bearer}"} if bearer else {}
    return RequestFactory().generic(method, path, headers=sent)


def query(state: RequestState) -> list[tuple[str, str]]:
    """Return the parameters of a redirect, in their order."""
    return parse_qsl(urlsplit(state.location or "").query, keep_blank_values=True)


def old(local_clerk: LocalClerk, **claims: Any) -> str:
    return local_clerk.token("user_a", issued_at=time.time() - 400, **{"sid": "sess_b", **claims})


class TestConfiguration:
    """8: what raises before anything is judged."""

    @pytest.fixture(autouse=True)
    def _satellite(self, local_clerk: LocalClerk, settings: Any) -> None:
        settings.CLERK_SIGN_IN_URL = "https://primary.example/sign-in"
        settings.CLERK_PROXY_URL = None
        settings.CLERK_DOMAIN = "satellite.example"
        settings.CLERK_IS_SATELLITE = True

    CASES: dict[str, tuple[dict[str, Any], str]] = {
        "8-config-1 no secret key": ({"CLERK_SECRET_KEY": ""}, "Neither CLERK_SECRET_KEY nor CLERK_JWT_KEY"),
        "8-config-1 none for users": (
            {"CLERK_SECRET_KEY": "", "CLERK_JWT_KEY": "-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----"},
            "users cannot be fetched",
        ),
        "8-config-2 publishable key malformed": ({"CLERK_PUBLISHABLE_KEY": "pk_test_x"}, "CLERK_PUBLISHABLE_KEY"),
        "8-config-3 development satellite without sign-in page": ({"CLERK_SIGN_IN_URL": None}, "where the primary"),
        "8-config-4 satellite without an address": ({"CLERK_DOMAIN": None}, "where the satellite is"),
        "8-config-5 sign-in page not absolute": ({"CLERK_SIGN_IN_URL": "/sign-in"}, "a page of the satellite itself"),
        "8-config-5 sign-in page of its own": (
            {"CLERK_SIGN_IN_URL": "https://satellite.example/sign-in"},
            "a page of the satellite itself",
        ),
    }

    @pytest.mark.parametrize("kind", ["test", "live"], ids=["development", "production"])
    @pytest.mark.parametrize(("values", "words"), CASES.values(), ids=CASES)
    def test_it_is_an_error_when_asked(
        self, settings: Any, judge: Judge, kind: str, values: dict[str, Any], words: str
    ) -> None:
        """CFG-01: never open. With an ``Origin`` or without one; no header of a caller's decides it (I2)."""
        if kind == "live":
            settings.CLERK_PUBLISHABLE_KEY = publishable_key("clerk.example.com", "live")
        for name, value in values.items():
            setattr(settings, name, value)
        if kind == "live" and values == {"CLERK_SIGN_IN_URL": None}:
            assert said(judge(visit())) == ("signed-out", "session-token-and-uat-missing")  # Clerk knows it there
            return
        with pytest.raises(ImproperlyConfigured, match=words):
            judge(visit())

    @row("8-config-2")
    def test_without_a_publishable_key_the_token_is_verified_alone(
        self, local_clerk: LocalClerk, settings: Any, judge: Judge
    ) -> None:
        """Clerk's SDK raises. Here a project may do without browsers' cookies, and then has no handshake."""
        settings.CLERK_PUBLISHABLE_KEY = ""
        settings.CLERK_IS_SATELLITE = False
        assert judge(visit(bearer=local_clerk.token("user_a"))).is_signed_in
        assert said(judge(visit("__client_uat=5"))) == ("signed-out", "session-token-and-uat-missing")

    @pytest.mark.parametrize("origin", ["https://primary.example", "https://evil.example", "null", "https://["])
    @row("8-config-5")
    def test_no_header_makes_a_good_setting_wrong(self, local_clerk: LocalClerk, judge: Judge, origin: str) -> None:
        """I2: Clerk's SDK raises for a request that comes from the primary's own page; anybody can send that."""
        assert judge(visit(bearer=local_clerk.token("user_a"), origin=origin)).is_signed_in


class TestAccepts:
    """8: which kinds of token count. The first line is the list's, the last where only a machine's does."""

    CASES: dict[str, tuple[tuple[str, ...], str, str, str]] = {
        "8-accepts-1 a list without sessions": (
            ("api_key", "m2m_token"),
            "session",
            "signed-out",
            "token-type-mismatch",
        ),
        "8-accepts-1 a list without API keys": (
            ("session_token", "m2m_token"),
            "key",
            "signed-out",
            "token-type-mismatch",
        ),
        "8-accepts-1 a list without sessions, cookies": (
            ("api_key", "m2m_token"),
            "cookies",
            "signed-out",
            "token-type-mismatch",
        ),
        "8-accepts-2 a list with sessions": (("session_token", "api_key"), "session", "signed-in", ""),
        "8-accepts-2 a list with sessions, cookies": (("session_token", "api_key"), "cookies", "signed-in", ""),
        "8-accepts-3 any, a session": (TOKEN_TYPES, "session", "signed-in", ""),
        "8-accepts-3 any, cookies": (TOKEN_TYPES, "cookies", "signed-in", ""),
        "8-accepts-3 any, an API key": (TOKEN_TYPES, "key", "signed-in", ""),
        "8-accepts-3 any, a token of a template": (TOKEN_TYPES, "template", "signed-out", "token-type-mismatch"),
        "8-accepts-4 sessions alone, an API key": (("session_token",), "key", "signed-out", "token-invalid"),
        "8-accepts-4 sessions alone, a machine's JWT": (
            ("session_token",),
            "machine",
            "signed-out",
            "token-type-mismatch",
        ),
        "8-accepts-5 one machine type, a session": (("api_key",), "session", "signed-out", "token-type-mismatch"),
        "8-accepts-5 one machine type, its own": (("api_key",), "key", "signed-in", ""),
        "8-accepts-6 one machine type, no header": (("api_key",), "nothing", "signed-out", "No token in header"),
        "8-accepts-6 one machine type, cookies": (("api_key",), "cookies", "signed-out", "No token in header"),
    }

    @pytest.mark.parametrize(("accepts", "brought", "status", "reason"), CASES.values(), ids=CASES)
    def test_row(
        self,
        local_clerk: LocalClerk,
        judge: Judge,
        accepts: tuple[str, ...],
        brought: str,
        status: str,
        reason: str,
    ) -> None:
        """MCH-01."""
        request = {
            "session": lambda: visit(bearer=local_clerk.token("user_a")),
            "cookies": lambda: visit(held(local_clerk.token("user_a"))),
            "key": lambda: visit(bearer=local_clerk.create_api_key("user_a")),
            "template": lambda: visit(bearer=local_clerk.token("user_a", header={"cat": TEMPLATE_CATEGORY})),
            "machine": lambda: visit(bearer=local_clerk.token("user_a", header={"cat": MACHINE_CATEGORY}, sub="mch_a")),
            "nothing": lambda: visit(),
        }[brought]()
        state = judge(request, accepts=accepts)
        assert said(state) == (status, reason or None)
        assert not state.is_handshake


class TestHeader:
    """8, header flow: cookies are never consulted."""

    CASES: dict[str, tuple[dict[str, Any], str, str]] = {
        "8-header-1 a machine's JWT": ({"sub": "mch_a"}, "signed-out", "token-type-mismatch"),
        "8-header-1 of the machine category": (
            {"header": {"cat": MACHINE_CATEGORY}},
            "signed-out",
            "token-type-mismatch",
        ),
        "8-header-2 of a template": ({"header": {"cat": TEMPLATE_CATEGORY}}, "signed-out", "token-type-mismatch"),
        "8-header-2 of an unknown category": ({"header": {"cat": ""}}, "signed-out", "token-type-mismatch"),
        "8-header-3 good": ({}, "signed-in", ""),
        "8-header-3 for another site": (
            {"azp": "https://evil.example"},
            "signed-out",
            "token-invalid-authorized-parties",
        ),
        "8-header-4 expired": ({"issued_at": -400}, "handshake", EXPIRED),
        "8-header-4 not active yet": ({"nbf": 400}, "handshake", "session-token-nbf"),
        "8-header-4 from the future": ({"issued_at": 400, "nbf": None}, "handshake", "session-token-iat-in-the-future"),
    }

    @pytest.mark.parametrize(("claims", "status", "reason"), CASES.values(), ids=CASES)
    def test_row(
        self, local_clerk: LocalClerk, instance: str, judge: Judge, claims: dict[str, Any], status: str, reason: str
    ) -> None:
        """SRC-04: beside good cookies, too. A browser that opens a page is sent to Clerk, a program never (RED-04)."""
        now = time.time()
        given = {
            name: now + value if name in ("issued_at", "nbf") and value else value for name, value in claims.items()
        }
        token = local_clerk.token("user_a", **given)
        cookie = held(local_clerk.token("user_b"))
        for kept in ("", cookie):
            state = judge(visit(kept, bearer=token))
            assert (*said(state), state.carrier) == (status, reason or None, "header")
            assert (state.location is not None) is (status == "handshake")
            state = judge(visit(kept, bearer=token, **FETCH))
            assert said(state) == ("signed-in" if status == "signed-in" else "signed-out", reason or None)

    @row("8-header-5")
    def test_a_development_browser_is_not_asked_for(self, local_clerk: LocalClerk, judge: Judge) -> None:
        assert judge(visit(bearer=local_clerk.token("user_a"))).is_signed_in

    @row("8-header-6")
    def test_what_a_handshake_brought_is_not_looked_at(
        self, local_clerk: LocalClerk, instance: str, judge: Judge
    ) -> None:
        outer = handshake_token(local_clerk, *directives(local_clerk.token("user_a")))
        request = back(outer, authorization=f"Bearer {local_clerk.token('user_b')}")
        state = judge(request)
        assert (state.auth.user_id, cookies_of(state), state.location) == ("user_b", [], None)
        assert judge(back(outer)).auth.user_id == "user_a"  # nor is it used up


class TestError:
    """8, ERROR(r): what becomes of a refused session."""

    CASES: dict[str, tuple[dict[str, Any], str, str]] = {
        "8-error-2 expired": ({"issued_at": -400}, "handshake", EXPIRED),
        "8-error-2 not active yet": ({"nbf": 400}, "handshake", "session-token-nbf"),
        "8-error-2 from the future": ({"issued_at": 400, "nbf": None}, "handshake", "session-token-iat-in-the-future"),
        "8-error-3 undecodable": ({"token": "a.b"}, "signed-out", "token-invalid"),
        "8-error-3 forged": ({"key": "another"}, "signed-out", "token-invalid-signature"),
        "8-error-3 of another site": (
            {"azp": "https://evil.example"},
            "signed-out",
            "token-invalid-authorized-parties",
        ),
        "8-error-3 no user": ({"sub": "x"}, "signed-out", "token-verification-failed"),
    }

    @pytest.mark.parametrize(("claims", "status", "reason"), CASES.values(), ids=CASES)
    def test_row(
        self, local_clerk: LocalClerk, instance: str, judge: Judge, claims: dict[str, Any], status: str, reason: str
    ) -> None:
        now = time.time()
        given = {
            name: now + value if name in ("issued_at", "nbf") and value else value for name, value in claims.items()
        }
        if "key" in given:
            given["key"] = new_signing_key(local_clerk.signing_key.kid)
        token = given.pop("token", None) or local_clerk.token("user_a", **given)
        assert said(judge(visit(held(token)))) == (status, reason)
        assert said(judge(visit(held(token), **FETCH))) == ("signed-out", reason)

    @row("8-error-1")
    def test_expired_and_renewed(self, local_clerk: LocalClerk, instance: str, judge: Judge) -> None:
        new = local_clerk.token("user_a", sid="sess_b")
        local_clerk.respond(REFRESH, json.dumps({"cookies": directives(new)}).encode())
        state = judge(visit(held(old(local_clerk), 1, f"__refresh_{suffix()}=r")))
        assert (state.status, state.token, cookies_of(state)) == ("signed-in", new, directives(new))


class TestHandshake:
    """8, handshake*."""

    @pytest.mark.parametrize("headers", [FETCH, {"sec-fetch-dest": "", "accept": "application/json"}])
    @row("8-handshake-1")
    def test_not_eligible(self, instance: str, judge: Judge, headers: dict[str, str]) -> None:
        """RED-04."""
        state = judge(visit("__client_uat=5; __clerk_db_jwt=dvb_1", **headers))
        assert (*said(state), state.location) == ("signed-out", "client-uat-but-no-session-token", None)
        assert cookies_of(state) == []

    @pytest.mark.parametrize("count", ["3", "4", "junk"])
    @row("8-handshake-2")
    def test_counted_out(self, instance: str, judge: Judge, count: str) -> None:
        """RED-03: from three on, where Clerk's SDK stops at three exactly."""
        state = judge(visit(f"__client_uat=5; __clerk_db_jwt=dvb_1; __clerk_redirect_count={count}"))
        assert (*said(state), state.location) == ("signed-out", "client-uat-but-no-session-token", None)
        assert cookies_of(state) == []

    @pytest.mark.parametrize("count", ["", "1", "2"])
    @row("8-handshake-3")
    def test_sent_and_counted(self, instance: str, judge: Judge, count: str) -> None:
        """RED-08."""
        counter = f"; __clerk_redirect_count={count}" if count else ""
        state = judge(visit(f"__client_uat=5; __clerk_db_jwt=dvb_1{counter}"))
        assert said(state) == ("handshake", "client-uat-but-no-session-token")
        [cookie] = cookies_of(state)
        assert cookie.startswith(f"__clerk_redirect_count={int(count or 0) + 1};")
        assert ("Cache-Control", "no-store") in state.headers
        assert not state.auth.is_authenticated


class TestC16:
    @pytest.fixture(autouse=True)
    def _not_told(self, local_clerk: LocalClerk, settings: Any) -> Iterator[None]:
        settings.CLERK_AUTH_PARTIES = [*settings.CLERK_AUTH_PARTIES, None]
        authentication._party_watch.told = False
        yield
        authentication._party_watch.told = False

    @pytest.mark.parametrize("party", [None, ""])
    @row("C16")
    def test_a_cookie_without_a_party_is_warned_about_once(
        self, local_clerk: LocalClerk, instance: str, judge: Judge, caplog: pytest.LogCaptureFixture, party: Any
    ) -> None:
        """LOG-01: once in a process, and without anything of the token."""
        tokens = [local_clerk.token(f"user_{name}", azp=party) for name in "abc"]
        with caplog.at_level(logging.WARNING, "clerk_views"):
            for token in (*tokens, *tokens):
                assert judge(visit(held(token))).is_signed_in
        [record] = [record for record in caplog.records if "'azp'" in record.getMessage()]
        assert not any(part in record.getMessage() for part in ("user_", "sess_", *tokens))

    @row("C16")
    def test_nor_about_others(self, local_clerk: LocalClerk, judge: Judge, caplog: pytest.LogCaptureFixture) -> None:
        """Not about a header, what a handshake brings, or a token that has one."""
        bare = local_clerk.token("user_a", azp=None)
        assert judge(visit(bearer=bare)).is_signed_in
        assert judge(back(handshake_token(local_clerk, *directives(bare)))).is_signed_in
        assert judge(visit(held(local_clerk.token("user_a")))).is_signed_in
        assert "'azp'" not in caplog.text


class TestTheWayToClerk:
    """10.1: the query, in its order."""

    def sent(self, local_clerk: LocalClerk, judge: Judge, **more: str) -> list[tuple[str, str]]:
        cookie = more.pop("cookie", f"__session={old(local_clerk)}; __client_uat=1; __clerk_db_jwt=dvb_1")
        return query(judge(visit(cookie, **more)))

    @row("10.1-order")
    def test_order(self, local_clerk: LocalClerk, settings: Any, judge: Judge) -> None:
        settings.CLERK_ORGANIZATION_PATTERNS = ["/orgs/:slug"]
        names = [name for name, _ in self.sent(local_clerk, judge, path="/orgs/acme")]
        assert names == [
            "redirect_url",
            "__clerk_api_version",
            "suffixed_cookies",
            "__clerk_hs_reason",
            "format",
            "__session",
            "__clerk_db_jwt",
            "organization_id",
        ]

    @pytest.mark.parametrize(
        ("path", "back"),
        [
            pytest.param("/a/?x=1&y", "http://testserver/a/?x=1&y=", id="10.1-row-1"),
            pytest.param("/?__dev_session=1&x=a%20b~", "http://testserver/?x=a+b%7E", id="10.1-row-1 form"),
        ],
    )
    def test_redirect_url(self, local_clerk: LocalClerk, instance: str, judge: Judge, path: str, back: str) -> None:
        assert dict(self.sent(local_clerk, judge, path=path))["redirect_url"] == back

    @row("10.1-row-2")
    def test_version(self, local_clerk: LocalClerk, instance: str, judge: Judge) -> None:
        assert dict(self.sent(local_clerk, judge))["__clerk_api_version"] == "2026-05-12"

    @pytest.mark.parametrize("kind", [True, False], ids=["10.1-row-3 suffixed", "10.1-row-3 plain"])
    def test_suffixed_cookies(self, local_clerk: LocalClerk, instance: str, judge: Judge, kind: bool) -> None:
        ending = f"_{suffix()}" if kind else ""
        names = (f"{name}{ending}={value}" for name, value in (("__client_uat", 5), ("__clerk_db_jwt", "dvb_1")))
        assert dict(self.sent(local_clerk, judge, cookie="; ".join(names)))["suffixed_cookies"] == str(kind).lower()

    @row("10.1-row-4")
    def test_reason(self, local_clerk: LocalClerk, instance: str, judge: Judge) -> None:
        assert dict(self.sent(local_clerk, judge))["__clerk_hs_reason"] == EXPIRED

    @row("10.1-row-5")
    def test_format(self, local_clerk: LocalClerk, instance: str, judge: Judge) -> None:
        """But for projects without a secret key, who could exchange no nonce: see test_handshake.py."""
        assert dict(self.sent(local_clerk, judge))["format"] == "nonce"

    @row("10.1-row-6")
    def test_session(self, local_clerk: LocalClerk, instance: str, judge: Judge) -> None:
        """RED-05: on production Clerk knows the browser by its own cookie, and no address holds a session."""
        token = old(local_clerk)
        cookies = held(token)
        told = dict(self.sent(local_clerk, judge, cookie=cookies)).get("__session")
        assert told == (token if instance == "development" else None)
        told = dict(self.sent(local_clerk, judge, cookie="", bearer=token)).get("__session")
        assert told == (token if instance == "development" else None)

    @row("10.1-row-7")
    def test_development_browser(self, local_clerk: LocalClerk, instance: str, judge: Judge) -> None:
        told = dict(self.sent(local_clerk, judge)).get("__clerk_db_jwt")
        assert told == ("dvb_1" if instance == "development" else None)

    @pytest.mark.parametrize(
        ("path", "named"),
        [
            pytest.param("/by-id/org_1", "org_1", id="10.1-row-8 id"),
            pytest.param("/orgs/acme", "acme", id="10.1-row-8 slug"),
            pytest.param("/me", "", id="10.1-row-8 personal"),
            pytest.param("/elsewhere", None, id="10.1-row-8 none"),
        ],
    )
    def test_organization(
        self, local_clerk: LocalClerk, settings: Any, instance: str, judge: Judge, path: str, named: str | None
    ) -> None:
        settings.CLERK_ORGANIZATION_PATTERNS = ["/by-id/:id", "/orgs/:slug"]
        settings.CLERK_PERSONAL_ACCOUNT_PATTERNS = ["/me"]
        assert dict(self.sent(local_clerk, judge, path=path)).get("organization_id") == named


class TestTheWayBack:
    """10.3, steps 1 to 4 and 7; 5 and 6 are in test_authentication.py."""

    @row("10.3-step-1")
    def test_a_nonce_goes_before_a_token(self, local_clerk: LocalClerk, production: None, judge: Judge) -> None:
        a, b = (local_clerk.token(f"user_{name}") for name in "ab")
        local_clerk.respond(PAYLOAD, json.dumps({"directives": directives(a)}).encode())
        cookie = f"__clerk_handshake_nonce=n0nce; __clerk_handshake={handshake_token(local_clerk, *directives(b))}"
        assert judge(visit(cookie)).auth.user_id == "user_a"

    @row("10.3-step-1")
    def test_the_token_makes_up_for_no_nonce(self, local_clerk: LocalClerk, production: None, judge: Judge) -> None:
        local_clerk.faults.status(400, path=PAYLOAD)
        outer = handshake_token(local_clerk, *directives(local_clerk.token("user_a")))
        state = judge(visit(f"__clerk_handshake_nonce=n0nce; __clerk_handshake={outer}"))
        assert (state.is_signed_in, cookies_of(state)) == (False, [])

    @pytest.mark.parametrize("category", ["cl_B7d4PD111AAA", "cl_I7d4PD111III", None])
    @row("10.3-step-1")
    def test_categories(self, local_clerk: LocalClerk, instance: str, judge: Judge, category: str | None) -> None:
        head = session_header(local_clerk.signing_key.kid) | {"cat": category}
        if category is None:
            del head["cat"]
        claims = {"handshake": directives(local_clerk.token("user_a")), "exp": 1, "iat": 2e9, "azp": "x", "sub": 5}
        assert judge(back(mint(head, claims, local_clerk.signing_key))).is_signed_in

    @pytest.mark.parametrize("claims", [{}, {"handshake": "__session=a"}, {"handshake": None}])
    @row("10.3-step-1")
    def test_no_list_is_no_answer(
        self, local_clerk: LocalClerk, instance: str, judge: Judge, claims: dict[str, Any]
    ) -> None:
        """I4: Clerk's SDK takes it for an empty list, and signs the visitor out."""
        outer = mint(session_header(local_clerk.signing_key.kid), claims, local_clerk.signing_key)
        state = judge(back(outer, cookie=held(local_clerk.token("user_b"))))
        assert (state.auth.user_id, cookies_of(state)) == ("user_b", [])

    @row("10.3-step-2")
    def test_each_directive_is_a_header(self, local_clerk: LocalClerk, instance: str, judge: Judge) -> None:
        """RED-08: verbatim, and without Clerk's two CORS headers, by which other sites could read the answer."""
        brought = [*directives(local_clerk.token("user_a")), "__client_uat=7;path=/ ;  priority=HIGH"]
        state = judge(back(handshake_token(local_clerk, *brought)))
        assert cookies_of(state)[:4] == brought
        assert not any(name.lower().startswith("access-control") for name, _ in state.headers)

    @row("10.3-step-3")
    def test_the_last_session_counts(self, local_clerk: LocalClerk, instance: str, judge: Judge) -> None:
        """RED-07: two different ones void the answer; one that is cleared first and then set is good."""
        token = local_clerk.token("user_a")
        brought = ["__session=; Path=/; Max-Age=0", f"__session_{suffix()}={token}; Path=/", "__client_uat=7; Path=/"]
        assert judge(back(handshake_token(local_clerk, *brought))).token == token
        cleared = judge(back(handshake_token(local_clerk, *reversed(brought))))
        assert said(cleared) == ("signed-out", "session-token-missing")
        two = handshake_token(local_clerk, *directives(local_clerk.token("user_a")), *directives(old(local_clerk)))
        assert cookies_of(judge(back(two))) == []

    @pytest.mark.parametrize("signed_in", [True, False])
    @row("10.3-step-4")
    def test_the_address_is_cleaned(
        self, local_clerk: LocalClerk, instance: str, judge: Judge, signed_in: bool
    ) -> None:
        """On development, by one more redirect, whatever the status; on production the page is served."""
        brought = directives(local_clerk.token("user_a")) if signed_in else ["__session=; Path=/; Max-Age=0"]
        path = "/page/?x=1&__clerk_help=h&__clerk_db_jwt=d&__clerk_synced=true&__clerk_handshake_nonce="
        outer = handshake_token(local_clerk, *brought)
        if instance == "development":
            state = judge(visit("__clerk_db_jwt=dvb_1", path=f"{path}&__clerk_handshake={outer}"))
            assert state.location == "http://testserver/page/?x=1&__clerk_synced=true"
        else:
            state = judge(visit(f"__clerk_handshake={outer}", path=path))
            assert state.location is None
        assert ("Cache-Control", "no-store") in state.headers
        assert state.is_signed_in is signed_in

    @row("10.3-step-7-row-1")
    def test_an_invalid_answer_on_development(self, local_clerk: LocalClerk, judge: Judge) -> None:
        """I2: no hard error as with Clerk's SDK, since anybody can write one; it is as if it were not there."""
        outer = handshake_token(local_clerk, *directives(local_clerk.token("user_a")), key=new_signing_key())
        state = judge(back(outer, cookie=held(local_clerk.token("user_b"))))
        assert (state.auth.user_id, state.headers) == ("user_b", ())
        assert said(judge(back("junk", cookie="__clerk_db_jwt=d"))) == ("signed-out", "session-token-and-uat-missing")

    @row("10.3-step-7-row-2")
    def test_an_invalid_session_on_development(
        self, local_clerk: LocalClerk, judge: Judge, caplog: pytest.LogCaptureFixture
    ) -> None:
        bad = local_clerk.token("user_a", azp="https://evil.example")
        with caplog.at_level(logging.INFO, "clerk_views"):
            state = judge(
                back(handshake_token(local_clerk, *directives(bad)), cookie=held(local_clerk.token("user_b")))
            )
        assert (state.auth.user_id, state.headers) == ("user_b", ())
        assert "was refused: token-invalid-authorized-parties" in caplog.text

    @pytest.mark.parametrize("kind", ["answer", "session"])
    @row("10.3-step-7-row-3")
    def test_anything_invalid_on_production(
        self, local_clerk: LocalClerk, production: None, judge: Judge, kind: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Another application's on a shared domain is nothing unusual; it is left to that."""
        token = local_clerk.token("user_a", issued_at=time.time() - (400 if kind == "session" else 0))
        key = new_signing_key() if kind == "answer" else None
        outer = handshake_token(local_clerk, *directives(token), key=key)
        with caplog.at_level(logging.INFO, "clerk_views"):
            state = judge(visit(f"{held(local_clerk.token('user_b'))}; __clerk_handshake={outer}"))
        assert (state.auth.user_id, state.headers) == ("user_b", ())
        assert "What a handshake brought back was refused" in caplog.text


class TestRenewal:
    """11: the body, and the reasons that are not in test_authentication.py."""

    @pytest.fixture
    def told(self, local_clerk: LocalClerk, settings: Any) -> Callable[..., tuple[str, dict[str, Any]]]:
        """Return what asks Clerk to renew a session, and returns the query and the body that Clerk got."""
        settings.CLERK_JWT_KEY = local_clerk.signing_key.public_pem

        def ask(request: HttpRequest) -> tuple[str, dict[str, Any]]:
            with wire.serving(wire.recording(wire.whole(b'{"cookies": []}'))) as server:
                settings.CLERK_API_URL = server.url
                authenticate(request)
            head, _, body = server.received[0].partition(b"\r\n\r\n")
            return head.split()[1].decode(), json.loads(body)

        return ask

    def cookie(self, token: str, ending: str = "") -> str:
        pairs = (f"__session{ending}={token}", f"__client_uat{ending}=1", f"__clerk_db_jwt{ending}=dvb_1")
        return "; ".join((*pairs, f"__refresh_{suffix()}=refresh1"))

    @row("11-body-row-1")
    def test_format(self, local_clerk: LocalClerk, instance: str, told: Any) -> None:
        assert told(visit(self.cookie(old(local_clerk))))[1]["format"] == "cookie"

    @row("11-body-row-2")
    def test_the_two_tokens(self, local_clerk: LocalClerk, instance: str, told: Any) -> None:
        token = old(local_clerk)
        body = told(visit(self.cookie(token)))[1]
        assert (body["expired_token"], body["refresh_token"]) == (token, "refresh1")

    @row("11-body-row-3")
    def test_origin(self, local_clerk: LocalClerk, instance: str, told: Any) -> None:
        """RED-02: of Django's validated host, whatever else is sent."""
        request = visit(self.cookie(old(local_clerk)), x_forwarded_host="evil.example", origin="https://evil.example")
        assert told(request)[1]["request_origin"] == "http://testserver"

    @row("11-body-row-4")
    def test_headers(self, local_clerk: LocalClerk, instance: str, told: Any) -> None:
        """LOG-01: by lower-case names, each a list; of cookies and credentials Clerk's own alone."""
        cookie = self.cookie(old(local_clerk))
        headers = told(visit(f"{cookie}; sessionid=django", user_agent="Tests/1", authorization="Basic YTpi"))[1][
            "request_headers"
        ]
        assert headers["user-agent"] == ["Tests/1"]
        assert headers["cookie"] == [cookie]
        assert "authorization" not in headers

    @pytest.mark.parametrize("suffixed", [True, False])
    @row("11-query")
    def test_suffixed_cookies(self, local_clerk: LocalClerk, instance: str, told: Any, suffixed: bool) -> None:
        """Only when true."""
        token = old(local_clerk, iss=f"https://{config().frontend_api_host}")
        address, _ = told(visit(self.cookie(token, f"_{suffix()}" if suffixed else "")))
        assert address == REFRESH + ("?suffixed_cookies=true" if suffixed else "")

    @row("11-row-2")
    def test_missing_session_token(self, local_clerk: LocalClerk, instance: str, judge: Judge) -> None:
        """It cannot come up: without a session token nothing has expired, and Clerk is asked by a handshake."""
        state = judge(visit(f"__client_uat=5; __clerk_db_jwt=dvb_1; __refresh_{suffix()}=r"))
        assert said(state) == ("handshake", "client-uat-but-no-session-token")
        assert local_clerk.calls.count("/v1/sessions/{id}/refresh") == 0

    @pytest.mark.parametrize("cookie", ["", "; __refresh=r", "; __refresh_evil=r", "; __refresh_{suffix}="])
    @row("11-row-2")
    def test_missing_refresh_token(self, local_clerk: LocalClerk, instance: str, judge: Judge, cookie: str) -> None:
        """Nor can that: Clerk's SDK as well has asked for the cookie before, and this is what it then says."""
        state = judge(visit(held(old(local_clerk)) + cookie.format(suffix=suffix())))
        assert said(state) == ("handshake", EXPIRED)

    @pytest.mark.parametrize("token", ["a.b.c", "eyJ.eyJ.x", "junk"])
    @row("11-row-3")
    def test_expired_session_token_decode_failed(
        self, local_clerk: LocalClerk, instance: str, judge: Judge, token: str
    ) -> None:
        """Nor that: who cannot decode a token cannot say that it has expired; C10 comes first."""
        state = judge(visit(f"{held(token)}; __refresh_{suffix()}=r"))
        assert said(state) == ("signed-out", "token-invalid")
        assert local_clerk.calls.count("/v1/sessions/{id}/refresh") == 0

    @row("11-row-3")
    def test_missing_sid_claim(self, local_clerk: LocalClerk, instance: str, judge: Judge) -> None:
        """TOK-10: a token without one is no session's, but that it has expired comes first, as at Clerk."""
        state = judge(visit(f"{held(old(local_clerk, sid=5))}; __refresh_{suffix()}=r"))
        assert said(state) == ("handshake", "session-token-expired-refresh-expired-session-token-missing-sid-claim")


class TestOrganization:
    """12: whom an address makes no difference to."""

    @pytest.fixture(autouse=True)
    def _patterns(self, local_clerk: LocalClerk, settings: Any) -> None:
        settings.CLERK_ORGANIZATION_PATTERNS = ["/orgs/:slug"]

    @row("12")
    def test_bearer_requests_never_switch(self, local_clerk: LocalClerk, instance: str, judge: Judge) -> None:
        token = local_clerk.token("user_a", v=2, o={"id": "org_1", "slg": "acme", "rol": "admin"})
        state = judge(visit(bearer=token, path="/orgs/other"))
        assert (said(state), state.auth.org_slug, state.headers) == (("signed-in", None), "acme", ())
        state = judge(visit(held(token), path="/orgs/other"))
        assert said(state) == ("handshake", "active-organization-mismatch")

    @row("12")
    def test_not_to_be_redirected_it_stays_signed_in(
        self, local_clerk: LocalClerk, instance: str, judge: Judge
    ) -> None:
        token = local_clerk.token("user_a", v=2, o={"id": "org_1", "slg": "acme", "rol": "admin"})
        state = judge(visit(held(token), path="/orgs/other", **FETCH))
        assert (said(state), state.auth.org_slug, state.headers) == (("signed-in", None), "acme", ())
