"""
When a browser is sent to Clerk, with what, and what it may bring back.

The ids C2 to C16, 7, 9.2, 9.3, 10 and 12 are those of the steps and tables of Clerk's state machine.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clerk_views import cookies, handshake
from clerk_views.conf import Config
from clerk_views.exceptions import TokenRefused
from clerk_views.handshake import Brought, Facts, Outcome
from tests.minted import CONFIG, KEY, configured

SUFFIX = CONFIG.publishable_key.cookie_suffix  # type: ignore[union-attr]  # there is one
DOCUMENT = {"destination": "document"}


def development(**values: Any) -> Config:
    key = "pk_test_" + base64.b64encode(b"happy-cat-1.clerk.accounts.dev$").decode()
    return configured(**{"CLERK_SECRET_KEY": "sk_test_abc", "CLERK_PUBLISHABLE_KEY": key, **values})


DEVELOPMENT = development()
SATELLITE = {
    "CLERK_IS_SATELLITE": True,
    "CLERK_DOMAIN": "satellite.example",
    "CLERK_SIGN_IN_URL": "https://app.example.com/sign-in?a=1",
}


def facts(
    cookie: str = "",
    *,
    path: str = "/page",
    host: str = "app.example.com",
    config: Config = CONFIG,
    suffixed: bool = False,
    bearer: str | None = None,
    **values: Any,
) -> Facts:
    suffix = config.publishable_key.cookie_suffix if config.publishable_key else None
    base = {"method": "GET", "scheme": "https", "destination": "document", "accept": "", "referer": ""}
    return Facts(
        **{**base, **values},
        query_string=path.partition("?")[2],
        cookies=cookies.read(cookie, suffix),
        suffixed=suffixed,
        bearer=bearer,
        get_host=lambda: host,
        get_path=lambda: path,
    )


def header(outcome: Outcome | None, name: str) -> str:
    assert outcome is not None
    (value,) = [value for key, value in outcome.headers if key == name]
    return value


def query(outcome: Outcome | None) -> dict[str, str]:
    """The parameters of the redirect, each once."""
    pairs = parse_qsl(urlsplit(header(outcome, "Location")).query, keep_blank_values=True)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def said(outcome: Outcome | None) -> tuple[str, str] | None:
    return (outcome.status, outcome.reason) if outcome else None


ELIGIBLE = {
    "7 document": ({"destination": "document"}, True),
    "7 iframe": ({"destination": "iframe"}, True),
    "7 nothing said, text/html": ({"destination": "", "accept": "text/html,*/*"}, True),
    "7 nothing said, html not first": ({"destination": "", "accept": "application/json, text/html"}, False),
    "7 case matters": ({"destination": "", "accept": "Text/HTML"}, False),
    "7 nothing said at all": ({"destination": ""}, False),
    "7 fetch": ({"destination": "empty", "accept": "text/html"}, False),
    "7 image": ({"destination": "image", "accept": "text/html"}, False),
    "7 Document": ({"destination": "Document"}, False),
    "7 HEAD": ({"method": "HEAD"}, False),
    "7 POST": ({"method": "POST"}, False),
    "7 get": ({"method": "get"}, False),
    "7 OPTIONS": ({"method": "OPTIONS"}, False),
}


@pytest.mark.parametrize(("values", "eligible"), ELIGIBLE.values(), ids=ELIGIBLE)
def test_only_a_page_navigation_is_redirected(values: dict[str, Any], eligible: bool) -> None:
    """RED-04."""
    outcome = handshake.start(facts("__client_uat=5", **values), CONFIG)
    assert said(outcome) == ("handshake" if eligible else "signed-out", "client-uat-but-no-session-token")
    assert any(name == "Location" for name, _ in outcome.headers) is eligible  # type: ignore[union-attr]  # said above


STEPS: dict[str, tuple[Config, Facts, tuple[str, str] | None]] = {
    "C5 browser in the address": (
        DEVELOPMENT,
        facts("__session=a; __client_uat=5; __clerk_db_jwt=d", path="/?__clerk_db_jwt=e"),
        ("handshake", "dev-browser-sync"),
    ),
    "C5 not on production": (CONFIG, facts("__session=a; __client_uat=5", path="/?__clerk_db_jwt=e"), None),
    "C6 no browser": (DEVELOPMENT, facts("__session=a; __client_uat=5"), ("handshake", "dev-browser-missing")),
    "C6 no browser, fetch": (
        DEVELOPMENT,
        facts("__session=a; __client_uat=5", destination="empty"),
        ("signed-out", "dev-browser-missing"),
    ),
    "C6 browser of the other spelling": (
        DEVELOPMENT,
        facts("__session=a; __client_uat=5; __clerk_db_jwt=d", suffixed=True),
        ("handshake", "dev-browser-missing"),
    ),
    "C6 not on production": (CONFIG, facts("__session=a; __client_uat=5"), None),
    "C7 nothing": (CONFIG, facts(), ("signed-out", "session-token-and-uat-missing")),
    "C7 signed out": (CONFIG, facts("__client_uat=0"), ("signed-out", "session-token-and-uat-missing")),
    "C7 development": (
        DEVELOPMENT,
        facts("__client_uat=0; __clerk_db_jwt=d"),
        ("signed-out", "session-token-and-uat-missing"),
    ),
    "C8 session alone": (CONFIG, facts("__session=a"), ("handshake", "session-token-but-no-client-uat")),
    "C8 session, signed out": (
        CONFIG,
        facts("__session=a; __client_uat=0"),
        ("handshake", "session-token-but-no-client-uat"),
    ),
    "C8 session, junk": (
        CONFIG,
        facts("__session=a; __client_uat=x", destination="empty"),
        ("signed-out", "session-token-but-no-client-uat"),
    ),
    "C9 client_uat alone": (CONFIG, facts("__client_uat=5"), ("handshake", "client-uat-but-no-session-token")),
    "C9 a negative one is active": (CONFIG, facts("__client_uat=-5"), ("handshake", "client-uat-but-no-session-token")),
    "C9 of the spelling that counts": (
        CONFIG,
        facts(f"__session=a; __client_uat_{SUFFIX}=5", suffixed=True),
        ("handshake", "client-uat-but-no-session-token"),
    ),
    "C10 goes on": (CONFIG, facts("__session=a; __client_uat=5"), None),
}


@pytest.mark.parametrize(("config", "request_facts", "outcome"), STEPS.values(), ids=STEPS)
def test_before_the_token(config: Config, request_facts: Facts, outcome: tuple[str, str] | None) -> None:
    assert said(handshake.start(request_facts, config)) == outcome


RECOVERED = {
    "C10 undecodable": ("token-invalid", "signed-out", "token-invalid"),
    "C11 machine": ("token-type-mismatch", "signed-out", "token-type-mismatch"),
    "C12 older than the last sign-in": (
        "session-token-iat-before-client-uat",
        "handshake",
        "session-token-iat-before-client-uat",
    ),
    "C13 expired": (handshake.expired("fetch-error"), "handshake", "session-token-expired-refresh-fetch-error"),
    "C13 early": ("token-not-active-yet", "handshake", "session-token-nbf"),
    "C13 from the future": ("token-iat-in-the-future", "handshake", "session-token-iat-in-the-future"),
    "C13 forged": ("token-invalid-signature", "signed-out", "token-invalid-signature"),
    "C13 key unknown": ("jwk-kid-mismatch", "signed-out", "jwk-kid-mismatch"),
}


@pytest.mark.parametrize(("reason", "status", "public"), RECOVERED.values(), ids=RECOVERED)
def test_after_a_refused_token(reason: str, status: str, public: str) -> None:
    outcome = handshake.recover(facts("__session=a; __client_uat=5"), CONFIG, reason)
    assert said(outcome) == (status, public)
    assert header(outcome, "x-clerk-auth-status") == status
    assert header(outcome, "x-clerk-auth-reason") == public
    assert said(handshake.recover(facts(method="POST"), CONFIG, reason)) == ("signed-out", public)


SYNC = ("handshake", "satellite-needs-syncing")
OUT = ("signed-out", "session-token-and-uat-missing")
# cookies, __clerk_synced, automatic sync, what becomes of it
SATELLITES = {
    "9.2-row-1": ("", "", False, OUT),
    "9.2-row-2": ("", "", True, SYNC),
    "9.2-row-3 no cookies": ("", "false", False, SYNC),
    "9.2-row-3 cookies": ("__session=a; __client_uat=5", "false", False, SYNC),
    "9.2-row-3 automatic": ("__session=a", "false", True, SYNC),
    "9.2-row-4 session": ("__session=a; __client_uat=5", "", False, None),
    "9.2-row-4 automatic": ("__session=a; __client_uat=5", "", True, None),
    "9.2-row-4 session alone": ("__session=a", "", True, ("handshake", "session-token-but-no-client-uat")),
    "9.2-row-4 client_uat alone": ("__client_uat=5", "", True, ("handshake", "client-uat-but-no-session-token")),
    "9.2 signed out is no cookie": ("__client_uat=0", "", True, SYNC),
    "9.2 done": ("", "true", True, OUT),
    "9.2 done, and the first value counts": ("", "true&__clerk_synced=false", True, OUT),
}


@pytest.mark.parametrize("mode", ["C2", "C3"])
@pytest.mark.parametrize(("cookie", "synced", "auto", "expected"), SATELLITES.values(), ids=SATELLITES)
def test_a_satellite_asks_the_primary(
    mode: str, cookie: str, synced: str, auto: bool, expected: tuple[str, str] | None
) -> None:
    make = configured if mode == "C2" else development
    config = make(**SATELLITE, CLERK_SATELLITE_AUTO_SYNC=auto)
    browser = "__clerk_db_jwt=d; " if mode == "C3" else ""
    path = f"/page?__clerk_synced={synced}" if synced else "/page"
    outcome = handshake.start(facts(browser + cookie, path=path, host="satellite.example", config=config), config)
    assert said(outcome) == expected
    if expected == SYNC:
        target = header(outcome, "Location")
        if mode == "C2":
            assert target.startswith("https://clerk.satellite.example/v1/client/handshake?")
        else:
            assert target.startswith("https://app.example.com/sign-in?")
            assert query(outcome) == {"a": "1", "__clerk_redirect_url": f"https://satellite.example{path}"}


@pytest.mark.parametrize("values", [{"destination": ""}, {"destination": "iframe"}, {"method": "POST"}])
def test_a_satellite_asks_for_documents_alone(values: dict[str, Any]) -> None:
    config = configured(**SATELLITE, CLERK_SATELLITE_AUTO_SYNC=True)
    assert said(handshake.start(facts(**values), config)) == OUT


class TestPrimaryResponds:
    """C4: a development primary hands the browser's token to a satellite."""

    config = development(CLERK_AUTH_PARTIES=["https://app.example.com", "https://satellite.example"])

    @pytest.mark.parametrize(
        ("target", "expected"),
        [
            ("https://satellite.example/a?b=1", {"b": "1", "__clerk_db_jwt": "d", "__clerk_synced": "true"}),
            ("https://satellite.example/?__clerk_synced=false", {"__clerk_db_jwt": "d", "__clerk_synced": "true"}),
            ("https://app.example.com/own", {"__clerk_db_jwt": "d", "__clerk_synced": "true"}),
        ],
    )
    def test_a_known_origin_is_answered(self, target: str, expected: dict[str, str]) -> None:
        outcome = handshake.start(
            facts("__clerk_db_jwt=d", path=f"/?{handshake._form([('__clerk_redirect_url', target)])}"), self.config
        )
        assert said(outcome) == ("handshake", "primary-responds-to-syncing")
        assert header(outcome, "Location").partition("?")[0] == target.partition("?")[0]
        assert query(outcome) == expected

    def test_a_browser_without_a_token_has_none_to_hand_over(self) -> None:
        path = "/?__clerk_redirect_url=https://satellite.example/"
        assert query(handshake.start(facts(path=path), self.config)) == {"__clerk_synced": "true"}

    @pytest.mark.parametrize(
        "target",
        [
            "https://evil.example/",
            "http://satellite.example/",
            "https://satellite.example:8443/",
            "https://satellite.example.evil.example/",
            "https://satellite.example@evil.example/",
            "https://evil.example\\@satellite.example/",
            "https://satellite.example\\.evil.example/",
            "//satellite.example/",
            "/page",
            "javascript:alert(1)",
            "https:satellite.example",
            "https:///satellite.example",
            "https://[",
            "https://satellite.example:x/",
            "https://satell\u0131te.example/",
            " https://satellite.example/",
            "https://satellite.example/\r\nSet-Cookie: a=b",
        ],
    )
    def test_any_other_is_as_if_it_were_not_there(self, target: str) -> None:
        """RED-01: the address gets the browser's token; Clerk's SDK would redirect anywhere."""
        path = f"/?{handshake._form([('__clerk_redirect_url', target)])}"
        assert said(handshake.start(facts("__clerk_db_jwt=d", path=path), self.config)) == OUT

    def test_not_on_production_nor_on_a_satellite(self) -> None:
        path = "/?__clerk_redirect_url=https://app.example.com/&__clerk_synced=true"
        assert said(handshake.start(facts(path=path), CONFIG)) == OUT
        satellite = development(**SATELLITE)
        assert said(handshake.start(facts("__clerk_db_jwt=d", path=path), satellite)) == OUT


PORTAL = "https://accounts.example.com"
REFERRERS = {
    "9.3 another site": ("https://elsewhere.example/", True),
    "9.3 another scheme": ("http://app.example.com/", True),
    "9.3 another port": ("https://app.example.com:8443/", True),
    "9.3 about:blank": ("about:blank", True),
    "9.3 an app": ("android-app://com.example/", True),
    "9.3 ourselves": ("https://app.example.com/other?x=1", False),
    "9.3 ourselves, default port": ("https://APP.example.com:443/", False),
    "9.3 nothing": ("", False),
    "9.3 no address": ("elsewhere", False),
    "9.3 a path": ("/page", False),
    "9.3 broken": ("https://[", False),
    "9.3 Frontend API": ("https://clerk.example.com/v1/x", False),
    "9.3 accounts portal": (f"{PORTAL}/sign-in", False),
    "RED-09 portal's name as a beginning": ("https://accounts.example.com.evil.example/", True),
    "RED-09 somebody's accounts": ("https://accounts.attacker.example/", True),
    "RED-09 user": ("https://accounts.example.com@evil.example/", True),
    "RED-09 portal over http": ("http://accounts.example.com/", True),
    "RED-09 backslash": ("https://evil.example\\@accounts.example.com/", True),
    "RED-09 somebody else's development portal": ("https://other.accounts.dev/", True),
}


@pytest.mark.parametrize(("referer", "crosses"), REFERRERS.values(), ids=REFERRERS)
def test_a_visitor_from_elsewhere_asks_once(referer: str, crosses: bool) -> None:
    """C14, RED-09: whole hosts are compared, and all that follows is a question to Clerk."""
    signed_in = facts("__session=a; __client_uat=5", referer=referer)
    expected = ("handshake", "primary-domain-cross-origin-sync") if crosses else None
    assert said(handshake.finish(signed_in, CONFIG, dict)) == expected


@pytest.mark.parametrize(
    ("values", "config"),
    [
        ({"destination": "iframe"}, CONFIG),
        ({"destination": "", "accept": "text/html"}, CONFIG),
        ({"method": "POST"}, CONFIG),
        ({"cookie": "__clerk_redirect_count=1"}, CONFIG),
        ({"cookie": "__clerk_redirect_count=x"}, CONFIG),
        ({}, configured(**SATELLITE)),
    ],
    ids=["iframe", "no destination", "POST", "second time", "odd counter", "satellite"],
)
def test_9_3_not_then(values: dict[str, Any], config: Config) -> None:
    assert handshake.finish(facts(referer="https://elsewhere.example/", **values), config, dict) is None


PATTERNS = {
    "CLERK_ORGANIZATION_PATTERNS": ["/orgs/:slug", "/orgs/:slug/(.*)", "/by-id/:id/(.*)", "/both/:slug/:id", "/x/:id/"],
    "CLERK_PERSONAL_ACCOUNT_PATTERNS": ["/me", "/me/(.*)", "/orgs/personal"],
}
WITH_PATTERNS = configured(**PATTERNS)
ACME = {"v": 2, "o": {"id": "org_1", "slg": "acme"}}
ACME_V1 = {"org_id": "org_1", "org_slug": "acme"}
PERSONAL: Mapping[str, Any] = {"v": 2, "sub": "user_a"}

# path, claims, the organisation asked for; None: stays as it is
ORGANIZATIONS: dict[str, tuple[str, Mapping[str, Any], str | None]] = {
    "12 slug, the same": ("/orgs/acme", ACME, None),
    "12 slug, the same below": ("/orgs/acme/a/b", ACME, None),
    "12 slug, another": ("/orgs/other/a", ACME, "other"),
    "12 slug, none active": ("/orgs/acme", PERSONAL, "acme"),
    "12 slug, version 1": ("/orgs/acme", ACME_V1, None),
    "12 slug, version 1, another": ("/orgs/other", ACME_V1, "other"),
    "12 version 2 ignores version 1": ("/orgs/acme", {**PERSONAL, **ACME_V1}, "acme"),
    "12 version by number": ("/orgs/acme", {**ACME, "v": "2"}, "acme"),
    "12 odd claim": ("/orgs/acme", {"v": 2, "o": "acme"}, "acme"),
    "12 odd slug": ("/orgs/acme", {"v": 2, "o": {"id": "org_1", "slg": 5}}, "acme"),
    "12 id, the same": ("/by-id/org_1/x", ACME, None),
    "12 id, another": ("/by-id/org_2/x", ACME, "org_2"),
    "12 id wins over slug": ("/both/acme/org_2", ACME, "org_2"),
    "12 personal": ("/me", ACME, ""),
    "12 personal below": ("/me/settings", ACME, ""),
    "12 personal already": ("/me", PERSONAL, None),
    "12 personal, version 1": ("/me", ACME_V1, ""),
    "12 organisation wins over personal": ("/orgs/personal", ACME, "personal"),
    "12 case of the path": ("/ORGS/other", ACME, "other"),
    "12 case of the slug counts": ("/orgs/ACME", ACME, "ACME"),
    "12 slash at the end": ("/orgs/other/", ACME, "other"),
    "12 a slash in the pattern is required": ("/x/org_2", ACME, None),
    "12 and one more is allowed": ("/x/org_2//", ACME, "org_2"),
    "12 not decoded": ("/orgs/a%20b", ACME, "a%20b"),
    "12 whole path": ("/a/orgs/other", ACME, None),
    "12 query is no path": ("/page?/orgs/other", ACME, None),
    "12 pending": ("/orgs/other", {}, None),
    "12 very long": ("/orgs/" + "x" * 3000, ACME, None),
}


@pytest.mark.parametrize(("path", "claims", "wanted"), ORGANIZATIONS.values(), ids=ORGANIZATIONS)
def test_the_organisation_in_the_address_becomes_active(
    path: str, claims: Mapping[str, Any], wanted: str | None
) -> None:
    """C15."""
    outcome = handshake.finish(facts(path=path), WITH_PATTERNS, lambda: claims)
    assert said(outcome) == (None if wanted is None else ("handshake", "active-organization-mismatch"))
    if wanted is not None:
        assert query(outcome)["organization_id"] == wanted


@pytest.mark.parametrize(
    "values", [{"destination": "empty"}, {"method": "POST"}, {"cookie": "__clerk_redirect_count=3"}]
)
def test_12_not_to_be_redirected_it_stays_signed_in(values: dict[str, Any]) -> None:
    assert handshake.finish(facts(path="/orgs/other", **values), WITH_PATTERNS, lambda: ACME) is None


def test_12_an_organisation_is_named_whatever_the_reason() -> None:
    outcome = handshake.start(facts("__client_uat=5", path="/orgs/other"), WITH_PATTERNS)
    assert said(outcome) == ("handshake", "client-uat-but-no-session-token")
    assert query(outcome)["organization_id"] == "other"


class TestRedirect:
    """10.1: the way to Clerk."""

    def test_production(self) -> None:
        """RED-05: no session token in it. RED-08: nobody keeps it."""
        outcome = handshake.start(
            facts("__session=secret; __clerk_db_jwt=d", path="/a/b?x=1&__dev_session=2&y"), CONFIG
        )
        target = header(outcome, "Location")
        assert target.partition("?")[0] == "https://clerk.example.com/v1/client/handshake"
        assert query(outcome) == {
            "redirect_url": "https://app.example.com/a/b?x=1&y=",
            "__clerk_api_version": "2026-05-12",
            "suffixed_cookies": "false",
            "__clerk_hs_reason": "session-token-but-no-client-uat",
            "format": "nonce",
        }
        assert header(outcome, "Cache-Control") == "no-store"
        assert header(outcome, "Referrer-Policy") == "no-referrer"
        assert not any(name.startswith("Access-Control") for name, _ in outcome.headers)  # type: ignore[union-attr]
        assert "secret" not in repr(outcome)

    def test_development(self) -> None:
        outcome = handshake.start(
            facts("__session=a.b.c; __clerk_db_jwt=d", path="/?__clerk_db_jwt=e&x=1", suffixed=False), DEVELOPMENT
        )
        assert header(outcome, "Location").startswith("https://happy-cat-1.clerk.accounts.dev/v1/client/handshake?")
        assert query(outcome) == {
            "redirect_url": "https://app.example.com/?x=1",
            "__clerk_api_version": "2026-05-12",
            "suffixed_cookies": "false",
            "__clerk_hs_reason": "dev-browser-sync",
            "format": "nonce",
            "__session": "a.b.c",
            "__clerk_db_jwt": "e",
        }

    def test_the_cookies_that_count(self) -> None:
        suffix = DEVELOPMENT.publishable_key.cookie_suffix  # type: ignore[union-attr]  # there is one
        text = f"__session=a.b.c; __session_{suffix}=junk; __session_{suffix}=d.e.f; __clerk_db_jwt_{suffix}=g"
        outcome = handshake.start(facts(text, suffixed=True, config=DEVELOPMENT), DEVELOPMENT)
        found = query(outcome)
        assert (found["suffixed_cookies"], found["__session"], found["__clerk_db_jwt"]) == ("true", "d.e.f", "g")

    def test_a_bearer_token_where_no_cookie_is(self) -> None:
        outcome = handshake.recover(facts(bearer="h.h.h"), DEVELOPMENT, handshake.STALE)
        assert query(outcome)["__session"] == "h.h.h"
        outcome = handshake.recover(facts("__session=a.b.c", bearer="h.h.h"), DEVELOPMENT, handshake.STALE)
        assert query(outcome)["__session"] == "a.b.c"

    def test_no_secret_key_no_nonce(self) -> None:
        config = configured(CLERK_SECRET_KEY=None, CLERK_JWT_KEY=KEY.public_pem, CLERK_USER_SOURCE="claims")
        assert "format" not in query(handshake.start(facts("__client_uat=5"), config))

    @pytest.mark.parametrize(
        ("values", "base"),
        [
            ({"CLERK_PROXY_URL": "https://app.example.com/__clerk/"}, "https://app.example.com/__clerk"),
            ({"CLERK_PROXY_URL": "/__clerk"}, "https://app.example.com/__clerk"),
            ({"CLERK_DOMAIN": "satellite.example"}, "https://clerk.example.com"),
            (SATELLITE, "https://clerk.satellite.example"),
        ],
    )
    def test_where_the_frontend_api_is(self, values: dict[str, Any], base: str) -> None:
        outcome = handshake.start(facts("__client_uat=5"), configured(**values))
        assert header(outcome, "Location").partition("?")[0] == f"{base}/v1/client/handshake"

    @pytest.mark.parametrize(
        ("path", "back"),
        [
            ("//evil.example/p", "/"),
            ("///evil.example/p?x=1", "/"),
            ("/\\evil.example/p", "/"),
            ("\\\\evil.example/p", "/"),
            ("/caf\u00e9", "/"),
            ("/a b", "/"),
            ("/a\r\nX: y", "/"),
            ("", "/"),
            ("@evil.example/", "/"),
            (".evil.example/", "/"),
            ("/@evil.example/", "/@evil.example/"),
            ("/%2F%2Fevil.example", "/%2F%2Fevil.example"),
            ("/?next=//evil.example", "/?next=%2F%2Fevil.example"),
            ("/?a=b%20c+d~*&a=2", "/?a=b+c+d%7E*&a=2"),
        ],
    )
    def test_the_way_back_is_ours(self, path: str, back: str) -> None:
        """RED-02: put together, never resolved; what is not plain is the site's root."""
        assert query(handshake.start(facts("__client_uat=5", path=path), CONFIG))["redirect_url"] == (
            f"https://app.example.com{back}"
        )

    @pytest.mark.parametrize(
        ("scheme", "host", "origin"),
        [
            ("https", "App.Example.com:443", "https://app.example.com"),
            ("http", "localhost:8000", "http://localhost:8000"),
            ("http", "[::1]:80", "http://[::1]"),
        ],
    )
    def test_the_origin_is_written_as_browsers_do(self, scheme: str, host: str, origin: str) -> None:
        assert facts(scheme=scheme, host=host).origin == origin

    @given(st.text(max_size=40), st.text(max_size=40))
    def test_no_path_leads_elsewhere(self, path: str, parameters: str) -> None:
        """RED-02, I2."""
        location = header(handshake.start(facts("__client_uat=5", path=f"{path}?{parameters}"), CONFIG), "Location")
        assert location.isascii()
        assert location.isprintable()
        back = dict(parse_qsl(urlsplit(location).query))["redirect_url"]
        assert back.startswith("https://app.example.com/")
        assert not back.startswith("https://app.example.com//")


class TestCounter:
    """10.2, RED-03: three redirects in a row, and no more."""

    @pytest.mark.parametrize(
        ("text", "following"),
        [("", "1"), ("0", "1"), ("1", "2"), ("2", "3"), ("3", None), ("4", None), ("999", None)]
        + [(odd, None) for odd in ("x", "-1", "1.5", "3.0", "1e0", "0x1", "\u0661", "9999", "9" * 5000, '"1"')],
    )
    def test_it_counts_to_three(self, text: str, following: str | None) -> None:
        cookie = "__client_uat=5" + (f"; __clerk_redirect_count={text}" if text else "")
        outcome = handshake.start(facts(cookie), CONFIG)
        assert said(outcome) == ("handshake" if following else "signed-out", "client-uat-but-no-session-token")
        if following:
            assert header(outcome, "Set-Cookie") == (
                f"__clerk_redirect_count={following}; Path=/; SameSite=Lax; HttpOnly; Max-Age=2; Secure"
            )
        else:
            assert not any(name == "Set-Cookie" for name, _ in outcome.headers)  # type: ignore[union-attr]  # said above

    def test_over_plain_http_it_is_not_secure(self) -> None:
        outcome = handshake.start(facts("__client_uat=5", scheme="http"), CONFIG)
        assert header(outcome, "Set-Cookie").endswith("Max-Age=2")


class TestBrought:
    """C1: what comes back, and from where."""

    @pytest.mark.parametrize(
        ("config", "cookie", "path", "expected"),
        [
            (CONFIG, "", "/", None),
            (CONFIG, "__clerk_handshake=t", "/", Brought(token="t")),
            (CONFIG, "__clerk_handshake=t; __clerk_handshake_nonce=n", "/", Brought(nonce="n")),
            # Login fixation: with one's own token in a link, a visitor would be somebody else.
            (CONFIG, "", "/?__clerk_handshake=t&__clerk_handshake_nonce=n", None),
            (CONFIG, "__clerk_handshake=t", "/?__clerk_handshake=u", Brought(token="t")),
            (DEVELOPMENT, "", "/?__clerk_handshake=t", Brought(token="t")),
            (DEVELOPMENT, "", "/?__clerk_handshake_nonce=n&__clerk_handshake=t", Brought(nonce="n")),
            (DEVELOPMENT, "__clerk_handshake=t", "/?__clerk_handshake=u", Brought(token="u")),
            (DEVELOPMENT, "__clerk_handshake_nonce=n", "/", Brought(nonce="n")),
            (DEVELOPMENT, "", "/?__clerk_handshake_nonce=n&__clerk_handshake_nonce=m", Brought(nonce="n")),
            *(
                (CONFIG, f"__clerk_handshake_nonce={nonce}", "/", None)
                for nonce in ("../users", "a%2Fb", "a.b", "a?b", "\u00e9", "x" * 513)
            ),
            (CONFIG, "__clerk_handshake_nonce=a/b; __clerk_handshake=t", "/", Brought(token="t")),
            (CONFIG, "__clerk_handshake_nonce=" + "x" * 512, "/", Brought(nonce="x" * 512)),
        ],
    )
    def test_what_counts(self, config: Config, cookie: str, path: str, expected: Brought | None) -> None:
        """RED-06."""
        assert handshake.brought(facts(cookie, path=path), config) == expected

    @pytest.mark.parametrize("config", [CONFIG, DEVELOPMENT], ids=["production", "development"])
    @pytest.mark.parametrize(("values", "eligible"), ELIGIBLE.values(), ids=ELIGIBLE)
    def test_only_with_a_page_navigation(self, config: Config, values: dict[str, Any], eligible: bool) -> None:
        """RED-04: Clerk's SDK would take it with any request."""
        request = facts("__clerk_handshake=t", path="/?__clerk_handshake=t", **values)
        assert handshake.brought(request, config) == (Brought(token="t") if eligible else None)
        assert handshake.held(request) == Brought(token="t")  # for whoever signs out

    def test_it_shows_nowhere(self) -> None:
        """LOG-01."""
        assert "secret" not in repr(Brought("secret", "secret"))


GOOD = [
    "__session=a.b.c; Path=/; Secure; SameSite=Lax",
    f"__session_{SUFFIX}=a.b.c; Path=/; Secure; SameSite=Lax",
    "__client_uat=5; Path=/; Domain=example.com; Max-Age=31536000",
    f"__refresh_{SUFFIX}=r; Path=/; HttpOnly",
    "__clerk_handshake_nonce=; Path=/; Max-Age=0",
]


class TestDirectives:
    """RED-07: all are looked at before any is used."""

    def test_good_ones_stay_as_they_are(self) -> None:
        assert handshake.check_directives(GOOD, facts(), CONFIG) == tuple(GOOD)
        assert handshake.session_in(GOOD) == "a.b.c"
        headers = handshake.arrival(facts(), CONFIG, GOOD)
        assert headers == (*(("Set-Cookie", one) for one in GOOD), ("Cache-Control", "no-store"))
        assert handshake.arrival(facts(), CONFIG, []) == ()

    @pytest.mark.parametrize(
        "bad",
        [
            "sessionid=1; Path=/",
            "csrftoken=1",
            "__session_evil=a.b.c",
            "__refresh_evil=r",
            "__client=c",
            "__Host-session=1",
            "",
            "; __session=a.b.c",
            "=__session",
            "__session=a.b.c\r\nSet-Cookie: sessionid=1",
            "__session=a.b.c\nLocation: https://evil.example",
            "__session=a.b.c\x00",
            "__session=a.b.c\x7f",
            "__session=caf\u00e9",
            "__session=a.b.c\u2028",
            "__session=other.b.c",
            "__client_uat=5; Domain=evil.example",
            "__client_uat=5; Domain=com",
            "__client_uat=5; Domain=.com",
            "__client_uat=5; Domain=",
            "__client_uat=5; Domain",
            "__client_uat=5; Domain=sub.app.example.com",
            "__client_uat=5; Domain=xample.com",
            "__client_uat=5; domain=example.com; DOMAIN = evil.example",
            "__client_uat=" + "5" * 20_000,
            5,
            None,
            ["__session=a.b.c"],
            {"__session": "a.b.c"},
        ],
    )
    def test_one_bad_one_voids_all(self, bad: Any) -> None:
        for directives in ([*GOOD, bad], [bad, *GOOD]):
            with pytest.raises(TokenRefused):
                handshake.check_directives(directives, facts(), CONFIG)

    def test_no_more_than_twenty(self) -> None:
        assert len(handshake.check_directives(["__client_uat=5"] * 20, facts(), CONFIG)) == 20
        with pytest.raises(TokenRefused):
            handshake.check_directives(["__client_uat=5"] * 21, facts(), CONFIG)

    @pytest.mark.parametrize(
        ("host", "domain", "good"),
        [
            ("app.example.com:8443", "example.com", True),
            ("APP.example.com", ".Example.com", True),
            ("app.example.com", "app.example.com", True),
            ("localhost:8000", "localhost", True),
            ("127.0.0.1:8000", "127.0.0.1", True),
            ("127.0.0.1", "0.1", False),
            ("evilexample.com", "example.com", False),
        ],
    )
    def test_domains(self, host: str, domain: str, good: bool) -> None:
        directive = f"__client_uat=5; Domain={domain}"
        if good:
            assert handshake.check_directives([directive], facts(host=host), CONFIG) == (directive,)
        else:
            with pytest.raises(TokenRefused):
                handshake.check_directives([directive], facts(host=host), CONFIG)

    @pytest.mark.parametrize(
        ("directives", "session"),
        [
            ([], ""),
            (["__client_uat=0"], ""),
            (["__session=; Max-Age=0"], ""),
            (["__session=a.b.c", "__session=; Max-Age=0"], ""),
            (["__session=; Max-Age=0", f"__session_{SUFFIX} = a.b.c ;Path=/"], "a.b.c"),
        ],
    )
    def test_the_last_session_counts(self, directives: list[str], session: str) -> None:
        """10.3."""
        assert handshake.session_in(directives) == session

    def test_development_goes_back_without_what_it_brought(self) -> None:
        path = (
            "/a?x=1&__clerk_handshake=t&__clerk_handshake_nonce=n&__clerk_db_jwt=d&__clerk_help=h&__clerk_synced=true"
        )
        headers = handshake.arrival(facts(path=path), DEVELOPMENT, GOOD[:1])
        assert dict(headers) == {
            "Set-Cookie": GOOD[0],
            "Location": "https://app.example.com/a?x=1&__clerk_synced=true",
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
        }


@pytest.mark.parametrize(
    ("method", "refresh", "why"),
    [
        ("GET", "r", None),
        ("GET", "", "non-eligible-no-refresh-cookie"),
        ("POST", "r", "non-eligible-non-get"),
        ("HEAD", "", "non-eligible-non-get"),
    ],
)
def test_11_when_a_session_is_not_renewed(method: str, refresh: str, why: str | None) -> None:
    assert handshake.why_not_refresh(method, refresh) == why


def test_nothing_shows_in_the_facts() -> None:
    """LOG-01."""
    assert "secret" not in repr(facts("__session=secret; __clerk_db_jwt=secret", bearer="secret"))
