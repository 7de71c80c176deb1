"""Which scripts, attributes, options and properties Clerk's JavaScript gets for a configuration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

import clerk_views
from clerk_views import frontend
from clerk_views.conf import config
from tests.test_conf import publishable_key

DEVELOPMENT = publishable_key("happy-cat-1.clerk.accounts.dev")
PRODUCTION = publishable_key("clerk.example.com", "live")


@pytest.fixture(autouse=True)
def _development(settings: Settings) -> None:
    settings.CLERK_SECRET_KEY = "sk_test_abc"
    settings.CLERK_PUBLISHABLE_KEY = DEVELOPMENT


SATELLITE = {
    "CLERK_IS_SATELLITE": True,
    "CLERK_DOMAIN": "satellite.example",
    "CLERK_SIGN_IN_URL": "https://primary.example/sign-in",
}


@pytest.mark.parametrize(
    ("values", "host"),
    [
        ({}, "https://happy-cat-1.clerk.accounts.dev"),
        ({"CLERK_PUBLISHABLE_KEY": PRODUCTION}, "https://clerk.example.com"),
        ({"CLERK_PROXY_URL": "https://app.example/__clerk/"}, "https://app.example/__clerk"),
        ({"CLERK_PROXY_URL": "http://app.example/__clerk"}, "https://app.example/__clerk"),
        ({"CLERK_PROXY_URL": "http://127.0.0.1:8000/__clerk"}, "http://127.0.0.1:8000/__clerk"),
        ({"CLERK_PROXY_URL": "http://localhost:8000"}, "http://localhost:8000"),
        ({"CLERK_PROXY_URL": "http://[::1]:8000/"}, "http://[::1]:8000"),
        ({"CLERK_PROXY_URL": "http://localhost.evil.example/"}, "https://localhost.evil.example"),
        ({"CLERK_PROXY_URL": "/__clerk//"}, "/__clerk"),
        ({"CLERK_PROXY_URL": "/__clerk", **SATELLITE}, "/__clerk"),
        (SATELLITE, "https://happy-cat-1.clerk.accounts.dev"),
        ({"CLERK_PUBLISHABLE_KEY": PRODUCTION, **SATELLITE}, "https://clerk.satellite.example"),
        (
            {"CLERK_PUBLISHABLE_KEY": PRODUCTION, **SATELLITE, "CLERK_DOMAIN": "clerk.satellite.example"},
            "https://clerk.satellite.example",
        ),
        ({"CLERK_PUBLISHABLE_KEY": PRODUCTION, "CLERK_DOMAIN": "satellite.example"}, "https://clerk.example.com"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_scripts_come_from_the_instances_own_host(settings: Settings, values: dict[str, Any], host: str) -> None:
    for name, value in values.items():
        setattr(settings, name, value)
    assert frontend.script_urls(config()) == (
        f"{host}/npm/@clerk/clerk-js@6/dist/clerk.browser.js",
        f"{host}/npm/@clerk/ui@1/dist/ui.browser.js",
    )


def test_the_version_of_clerk_js_can_be_pinned(settings: Settings) -> None:
    settings.CLERK_JS_VERSION = "6.40.0"
    clerk, components = frontend.script_urls(config())
    assert "/clerk-js@6.40.0/" in clerk
    assert "/ui@1/" in components  # the two are numbered independently


@pytest.mark.parametrize(
    ("values", "attributes"),
    [
        ({}, {}),
        ({"CLERK_PROXY_URL": "/__clerk"}, {"data-clerk-proxy-url": "/__clerk"}),
        (SATELLITE, {"data-clerk-domain": "satellite.example"}),
        ({"CLERK_DOMAIN": "satellite.example"}, {}),
    ],
    ids=["plain", "proxy", "satellite", "domain-of-no-satellite"],
)
def test_attributes_say_whose_script_it_is(
    settings: Settings, values: dict[str, Any], attributes: dict[str, str]
) -> None:
    for name, value in values.items():
        setattr(settings, name, value)
    assert frontend.script_attributes(config()) == {"data-clerk-publishable-key": DEVELOPMENT, **attributes}


def test_without_a_publishable_key_the_developer_is_told(settings: Settings) -> None:
    settings.CLERK_PUBLISHABLE_KEY = ""
    for ask in (
        frontend.script_urls,
        frontend.script_attributes,
        lambda settings: frontend.load_options(settings, None, {}),
    ):
        with pytest.raises(ImproperlyConfigured, match="CLERK_PUBLISHABLE_KEY is not set"):
            ask(config())


def test_options_say_little_by_default() -> None:
    assert frontend.load_options(config(), None, {}) == {
        "telemetry": False,
        "sdkMetadata": {"name": "clerk-views", "version": clerk_views.__version__, "environment": "development"},
    }


def test_options_follow_from_the_settings(settings: Settings) -> None:
    settings.CLERK_PUBLISHABLE_KEY = PRODUCTION
    settings.CLERK_SIGN_IN_URL = "https://primary.example/sign-in/"
    settings.CLERK_SIGN_UP_URL = "/sign-up/"
    settings.CLERK_AFTER_SIGN_OUT_URL = "/bye/"
    settings.CLERK_IS_SATELLITE = True
    settings.CLERK_DOMAIN = "satellite.example"
    options = frontend.load_options(config(), "n0nce", {})
    assert options.pop("sdkMetadata")["environment"] == "production"
    assert options == {
        "telemetry": False,
        "signInUrl": "https://primary.example/sign-in/",
        "signUpUrl": "/sign-up/",
        "afterSignOutUrl": "/bye/",
        "isSatellite": True,
        "nonce": "n0nce",
    }


@pytest.mark.parametrize(
    ("values", "origins"),
    [
        ({}, None),
        ({"CLERK_AUTH_PARTIES": [None]}, None),
        (
            {"CLERK_AUTH_PARTIES": ["https://app.example", None, "https://satellite.example"]},
            [
                "https://happy-cat-1.accounts.dev",
                "https://*.happy-cat-1.accounts.dev",
                "https://happy-cat-1.clerk.accounts.dev",
                "https://app.example",
                "https://satellite.example",
            ],
        ),
        (
            {"CLERK_PUBLISHABLE_KEY": PRODUCTION, "CLERK_AUTH_PARTIES": ["https://example.com", "https://other.test"]},
            ["https://example.com", "https://*.example.com", "https://other.test"],
        ),
        (
            {"CLERK_PUBLISHABLE_KEY": PRODUCTION, "CLERK_AUTH_PARTIES": ["https://app.example"], **SATELLITE},
            ["https://satellite.example", "https://*.satellite.example", "https://app.example"],
        ),
    ],
    ids=["none", "native apps", "development", "production", "satellite"],
)
def test_clerk_js_leads_back_to_origins_of_the_project_s_own(
    settings: Settings, values: dict[str, Any], origins: list[str] | None
) -> None:
    """RED-01: as the sign-in view does. The option replaces what clerk-js admits by itself, so that goes along."""
    for name, value in values.items():
        setattr(settings, name, value)
    assert frontend.load_options(config(), None, {}).get("allowedRedirectOrigins") == origins


@pytest.mark.parametrize(("satellite", "auto", "told"), [(True, True, True), (True, False, None), (False, True, None)])
def test_a_satellite_may_ask_about_every_visitor(settings: Settings, satellite: bool, auto: bool, told: Any) -> None:
    for name, value in SATELLITE.items():
        setattr(settings, name, value)
    settings.CLERK_IS_SATELLITE = satellite
    settings.CLERK_SATELLITE_AUTO_SYNC = auto
    assert frontend.load_options(config(), None, {}).get("satelliteAutoSync") is told


def test_a_derived_page_is_left_to_clerk_js(settings: Settings) -> None:
    """With a sign-in page of its own and no other, clerk-js signs up on that page, and not below it."""
    settings.CLERK_SIGN_IN_URL = "/sign-in/"
    assert "signUpUrl" not in frontend.load_options(config(), None, {})


def test_what_the_template_says_wins(settings: Settings) -> None:
    settings.CLERK_AFTER_SIGN_OUT_URL = "/bye/"
    given = {"after_sign_out_url": "/ciao/", "telemetry": True, "localization": {"locale": "it-IT"}}
    options = frontend.load_options(config(), None, given)
    assert options["afterSignOutUrl"] == "/ciao/"
    assert options["telemetry"] is True
    assert options["localization"] == {"locale": "it-IT"}


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("show_name", "showName"),
        ("showName", "showName"),
        ("for", "for"),
        ("after_select_personal_url", "afterSelectPersonalUrl"),
        ("api_keys_props", "apiKeysProps"),
        ("oauth_client_id", "oauthClientId"),
        ("additional_oauth_scopes", "additionalOAuthScopes"),
        ("unsafe_metadata", "unsafeMetadata"),
        ("unsafe_disable_development_mode_console_warning", "unsafe_disableDevelopmentModeConsoleWarning"),
    ],
)
def test_names_are_spelt_as_clerk_spells_them(name: str, spelling: str) -> None:
    assert frontend.properties({name: "x"}) == {spelling: "x"}


def test_values_keep_their_names() -> None:
    look = {"elements": {"card__main": {"font_size": 1}}}
    assert frontend.properties({"appearance": look}) == {"appearance": look}


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        " java\nscript:alert(1)",
        "\x01javascript:alert(1)",
        "data:text/html,x",
        "vbscript:x",
    ],
)
@pytest.mark.parametrize("name", ["fallback_redirect_url", "userProfileUrl", "url"])
def test_a_program_is_no_address(name: str, address: str) -> None:
    assert frontend.properties({name: address, "show_name": True}) == {"showName": True}


@pytest.mark.parametrize(
    "address", ["/path", "/path:x", "https://a.example/", "HTTP://a.example", "#/x", "org/:slug", "", None]
)
def test_addresses_stay(address: str | None) -> None:
    assert frontend.properties({"after_sign_in_url": address}) == {"afterSignInUrl": address}


def test_what_is_no_address_is_not_looked_at() -> None:
    assert frontend.properties({"title": "javascript:alert(1)"}) == {"title": "javascript:alert(1)"}


def test_components_are_named_by_one_rule() -> None:
    for name, clerk in frontend.COMPONENTS.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
        assert clerk.lower() == name.replace("-", "")


def test_the_script_is_plain_and_external() -> None:
    """It runs in browsers of the last years as it is, and needs nothing that a Content-Security-Policy forbids."""
    source = (Path(clerk_views.__file__).parent / "static/clerk_views/clerk.js").read_text(encoding="utf-8")
    assert '"use strict"' in source
    assert not re.search(r"\beval\b|new Function|innerHTML|outerHTML|insertAdjacentHTML|document\.write", source)
    assert not re.search(r"\?\.|\?\?|catch \{|\.\.\.[a-z{\[]|\bimport\b|https?://", source)
