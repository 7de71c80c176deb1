"""Every setting: what is read, from where, what is refused, and that no refusal shows a secret."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from django.conf import LazySettings, UserSettingsHolder
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from clerk_views import conf, values
from clerk_views.conf import SETTINGS, config
from clerk_views.values import DEFAULT_USER_CLAIMS, DEFAULT_USER_FIELDS, SettingError

KEY_BODY = base64.b64encode(bytes(range(90))).decode()  # armour is conf's business, what is inside is keys'
PEM = f"-----BEGIN PUBLIC KEY-----\n{KEY_BODY[:64]}\n{KEY_BODY[64:]}\n-----END PUBLIC KEY-----\n"
WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef").decode()
PARSERS = {setting.name.removeprefix("CLERK_"): setting.parse for setting in SETTINGS}


def publishable_key(host: str, mode: str = "test") -> str:
    return f"pk_{mode}_{base64.b64encode(f'{host}$'.encode()).decode()}"


@pytest.fixture(autouse=True)
def _usable(settings: Settings) -> None:
    settings.CLERK_SECRET_KEY = "sk_test_abc"


def test_names_and_ids_are_unique() -> None:
    assert len({setting.name for setting in SETTINGS}) == len(SETTINGS)
    assert len({setting.check_id for setting in SETTINGS}) == len(SETTINGS)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_default_is_usable(setting: conf.Setting) -> None:
    setting.parse(setting.default)


GOOD: list[tuple[str, Any, Any]] = [
    ("SECRET_KEY", "sk_live_abc", "sk_live_abc"),
    ("SECRET_KEY", " sk_test_abc\n", "sk_test_abc"),
    ("SECRET_KEY", "test_secret", "test_secret"),
    ("SECRET_KEY", "", None),
    ("SECRET_KEY", "  ", None),
    ("SECRET_KEY", None, None),
    ("AUTH_PARTIES", None, ()),
    ("AUTH_PARTIES", [], ()),
    (
        "AUTH_PARTIES",
        ["https://a.example", "http://localhost:3000", None],
        ("https://a.example", "http://localhost:3000", None),
    ),
    *(
        ("AUTH_PARTIES", (origin,), (origin,))
        for origin in (
            "chrome-extension://abcdef",
            "capacitor://localhost",
            "com.example.app://-",
            "http://127.0.0.1:8000",
            "http://[::1]:8000",
            "https://[2001:db8::1]",
            "https://my_app.example.com:65535",
            "https://xn--bcher-kva.example",
            "https://localhost",
        )
    ),
    ("AUDIENCE", None, ()),
    ("AUDIENCE", "", ()),
    ("AUDIENCE", "api", ("api",)),
    ("AUDIENCE", ["api", "web"], ("api", "web")),
    ("JWT_KEY", PEM, PEM),
    ("JWT_KEY", PEM.replace("\n", "\\n"), PEM),
    ("JWT_KEY", PEM.replace("\n", "\r\n"), PEM),
    ("JWT_KEY", PEM.replace("\n", "\\r\\n"), PEM),
    ("JWT_KEY", PEM.replace("\n", " "), PEM),
    ("JWT_KEY", PEM.replace("\n", ""), PEM),
    ("JWT_KEY", f"\n\n  {PEM}  \n", PEM),
    ("JWT_KEY", "", None),
    ("API_URL", "https://api.clerk.com", "https://api.clerk.com"),
    ("API_URL", "https://api.clerk.com/", "https://api.clerk.com"),
    ("API_URL", "https://api.clerk.com/v1", "https://api.clerk.com"),
    ("API_URL", "https://api.clerk.com/v1/", "https://api.clerk.com"),
    ("API_URL", "https://proxy.example/clerk/v1", "https://proxy.example/clerk"),
    ("API_URL", "http://127.0.0.1:8123", "http://127.0.0.1:8123"),
    ("API_URL", "http://localhost:8123/v1", "http://localhost:8123"),
    ("API_URL", "http://[::1]:8123", "http://[::1]:8123"),
    ("API_URL", "", "https://api.clerk.com"),
    ("TIMEOUT_MS", 100, 100),
    ("TIMEOUT_MS", 60_000, 60_000),
    ("CLOCK_SKEW_IN_MS", 0, 0),
    ("CLOCK_SKEW_IN_MS", 60_000, 60_000),
    ("CACHE_TIMEOUT", 0, 0),
    ("CACHE_TIMEOUT", 86_400, 86_400),
    ("CACHE_ALIAS", "clerk", "clerk"),
    ("PUBLISHABLE_KEY", None, None),
    ("ACCEPTS_TOKEN", "any", ("session_token", "api_key", "m2m_token", "oauth_token")),
    ("ACCEPTS_TOKEN", "api_key", ("api_key",)),
    ("ACCEPTS_TOKEN", ["oauth_token", "session_token"], ("session_token", "oauth_token")),
    ("MACHINE_SECRET_KEY", "ak_abc", "ak_abc"),
    ("MACHINE_SECRET_KEY", "", None),
    ("ISSUER", ["https://clerk.example"], ("https://clerk.example",)),
    ("USER_SOURCE", "claims", "claims"),
    ("USER_FIELDS", None, DEFAULT_USER_FIELDS),
    ("USER_FIELDS", {"image_url": "avatar"}, {**DEFAULT_USER_FIELDS, "image_url": "avatar"}),
    ("USER_FIELDS", {"username": None}, {**DEFAULT_USER_FIELDS, "username": None}),
    ("USER_CLAIMS", None, DEFAULT_USER_CLAIMS),
    ("USER_CLAIMS", {"email": "mail"}, {"email": "mail"}),
    ("LINK_BY_EMAIL", False, False),
    ("SIGN_IN_URL", "/sign-in", "/sign-in"),
    ("SIGN_IN_URL", "https://accounts.example/sign-in", "https://accounts.example/sign-in"),
    ("SIGN_IN_URL", "", None),
    ("PROXY_URL", "/__clerk", "/__clerk"),
    ("DOMAIN", "satellite.example", "satellite.example"),
    ("DOMAIN", " localhost:3001\n", "localhost:3001"),
    ("DOMAIN", "", None),
    ("IS_SATELLITE", True, True),
    ("CHECK_REVOKED_SESSIONS", True, True),
    ("WEBHOOK_SIGNING_SECRET", None, ()),
    ("WEBHOOK_SIGNING_SECRET", "", ()),
    ("WEBHOOK_SIGNING_SECRET", [], ()),
    ("WEBHOOK_SIGNING_SECRET", WEBHOOK_SECRET, (b"0123456789abcdef",)),
    ("WEBHOOK_SIGNING_SECRET", WEBHOOK_SECRET.rstrip("="), (b"0123456789abcdef",)),
    ("WEBHOOK_SIGNING_SECRET", f" {WEBHOOK_SECRET}\n", (b"0123456789abcdef",)),
    ("WEBHOOK_SIGNING_SECRET", [WEBHOOK_SECRET], (b"0123456789abcdef",)),
    ("WEBHOOK_SIGNING_SECRET", f"whsec_{'/+' * 16} {WEBHOOK_SECRET}", (b"\xff\xef\xfe" * 8, b"0123456789abcdef")),
    ("SIGN_UP_URL", "/sign-up/", "/sign-up/"),
    ("SIGN_UP_URL", "", None),
    ("AFTER_SIGN_OUT_URL", "https://www.example/bye", "https://www.example/bye"),
    ("JS_VERSION", "", "6"),
    ("JS_VERSION", "5", "5"),
    ("JS_VERSION", "6.40.0", "6.40.0"),
    ("JS_VERSION", "7.0.0-canary.v20261101", "7.0.0-canary.v20261101"),
    ("JS_VERSION", "latest", "latest"),
    ("JS_VERSION", "latest-v6", "latest-v6"),
    ("SATELLITE_AUTO_SYNC", True, True),
    ("ORGANIZATION_PATTERNS", None, ()),
    ("ORGANIZATION_PATTERNS", [], ()),
    ("PERSONAL_ACCOUNT_PATTERNS", (), ()),
]


@pytest.mark.parametrize(("name", "value", "parsed"), GOOD)
def test_value_is_taken(name: str, value: Any, parsed: Any) -> None:
    assert PARSERS[name](value) == parsed


BAD: list[tuple[str, Any]] = [
    ("SECRET_KEY", 5),
    ("SECRET_KEY", b"sk_test_abc"),
    ("SECRET_KEY", "pk_test_abc"),  # the publishable key in its place (CFG-03)
    ("SECRET_KEY", "whsec_abc"),
    ("SECRET_KEY", "ak_abc"),
    ("SECRET_KEY", "user_abc"),
    ("SECRET_KEY", "eyJhbGciOiJSUzI1NiJ9.e30.x"),
    ("SECRET_KEY", PEM),
    ("SECRET_KEY", "sk_test_abc def"),
    ("SECRET_KEY", "sk_test_abc\u00e9"),
    ("SECRET_KEY", "sk_test_abc\x00"),
    ("ACCEPTS_TOKEN", "session"),
    ("ACCEPTS_TOKEN", []),
    ("ACCEPTS_TOKEN", ["any"]),
    ("ACCEPTS_TOKEN", ["session_token", 5]),
    ("ACCEPTS_TOKEN", True),
    ("ACCEPTS_TOKEN", "eyJhbGciOiJSUzI1NiJ9.e30.x"),
    ("MACHINE_SECRET_KEY", "sk_test_abc"),  # the other key in its place (CFG-03)
    ("MACHINE_SECRET_KEY", "mt_abc"),
    ("MACHINE_SECRET_KEY", "ak_abc def"),
    ("MACHINE_SECRET_KEY", 5),
    ("AUTH_PARTIES", "https://a.example"),  # not a substring match by mistake (CFG-02)
    ("AUTH_PARTIES", {"https://a.example"}),
    ("AUTH_PARTIES", 5),
    ("AUTH_PARTIES", ["https://a.example/"]),
    ("AUTH_PARTIES", ["https://a.example/app"]),
    ("AUTH_PARTIES", ["https://a.example?x"]),
    ("AUTH_PARTIES", ["https://user@a.example"]),
    ("AUTH_PARTIES", ["HTTPS://a.example"]),
    ("AUTH_PARTIES", ["a.example"]),
    ("AUTH_PARTIES", ["https://"]),
    ("AUTH_PARTIES", ["https://a.example\n"]),
    ("AUTH_PARTIES", [""]),
    *(
        ("AUTH_PARTIES", [origin])  # no token's azp could ever be equal to it (CFG-02)
        for origin in (
            "https://app.example.com:port",
            "https://app.example.com:99999",
            "https://app.example.com:0",
            "https://app.example.com:",
            "https://:443",
            "https://*.example.com",
            "https://[::1",
            "https://[]",
            "https://[1:2:3]",
            "https://::1",
            "https://app.example.com;x",
            'https://exa"mple.com',
            "https://app..example.com",
            "https://.example.com",
            "https://-app.example.com",
            "https://b\u00fccher.example",
            "https://https://app.example.com",
            "https:app.example.com",
            "1app://localhost",
            "myapp://",
            "myapp://a b",
            "myapp://*",
        )
    ),
    ("AUTH_PARTIES", ["*"]),
    ("AUTH_PARTIES", [5]),
    ("AUDIENCE", 5),
    ("AUDIENCE", [""]),
    ("AUDIENCE", [None]),
    ("AUDIENCE", {"api"}),
    ("JWT_KEY", 5),
    ("JWT_KEY", "pk_test_abc"),
    ("JWT_KEY", PEM.replace("PUBLIC", "PRIVATE")),
    ("JWT_KEY", PEM.replace("PUBLIC KEY", "CERTIFICATE")),
    ("JWT_KEY", PEM.replace("PUBLIC KEY", "RSA PUBLIC KEY")),
    ("JWT_KEY", PEM.partition("-----END")[0]),
    ("JWT_KEY", PEM + PEM),
    ("JWT_KEY", "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----"),
    ("JWT_KEY", PEM.replace(KEY_BODY[:4], "****")),
    ("API_URL", 5),
    ("API_URL", "http://api.clerk.com"),
    ("API_URL", "http://10.0.0.1"),
    ("API_URL", "http://127.0.0.1.evil.example"),
    ("API_URL", "http://127.0.0.1@evil.example"),
    ("API_URL", "https://user:password@api.clerk.com"),
    ("API_URL", "https://api.clerk.com?key=1"),
    ("API_URL", "https://api.clerk.com#v1"),
    ("API_URL", "https://"),
    ("API_URL", "https://api.clerk.com:port"),
    ("API_URL", "https://api.clerk.com:0"),
    ("API_URL", "https://[::1"),
    ("API_URL", "https://api clerk.com"),
    ("API_URL", "https://api.clerk.com\\@evil.example"),
    ("API_URL", "ftp://api.clerk.com"),
    ("API_URL", "api.clerk.com"),
    ("TIMEOUT_MS", 0),
    ("TIMEOUT_MS", 99),
    ("TIMEOUT_MS", 60_001),
    ("TIMEOUT_MS", 5000.0),
    ("TIMEOUT_MS", "5000"),
    ("TIMEOUT_MS", True),
    ("TIMEOUT_MS", float("nan")),
    ("TIMEOUT_MS", float("inf")),
    ("CLOCK_SKEW_IN_MS", -1),
    ("CLOCK_SKEW_IN_MS", 60_001),
    ("CACHE_TIMEOUT", -1),
    ("CACHE_TIMEOUT", 86_401),
    ("CACHE_TIMEOUT", None),
    ("CACHE_ALIAS", ["default"]),
    ("PUBLISHABLE_KEY", 5),
    ("PUBLISHABLE_KEY", "sk_test_abc"),
    ("PUBLISHABLE_KEY", "pk_prod_" + publishable_key("clerk.example.com")[8:]),
    ("PUBLISHABLE_KEY", "pk_test_"),
    ("PUBLISHABLE_KEY", "pk_test_!!!!"),
    ("PUBLISHABLE_KEY", "pk_test_" + base64.b64encode(b"clerk.example.com").decode()),  # no $ at the end
    ("PUBLISHABLE_KEY", "pk_test_" + base64.b64encode(b"clerk.example.com$$").decode()),
    ("PUBLISHABLE_KEY", "pk_test_" + base64.b64encode(b"clerk$.example.com").decode()),
    ("PUBLISHABLE_KEY", publishable_key("localhost")),
    ("PUBLISHABLE_KEY", publishable_key("clerk.example.com/path")),
    ("PUBLISHABLE_KEY", publishable_key("clerk.example.com:port")),
    ("PUBLISHABLE_KEY", "pk_test_" + base64.b64encode("clerk.éxample.com$".encode()).decode()),
    ("PUBLISHABLE_KEY", publishable_key("clerk.example.com") + "_x"),
    ("ISSUER", 5),
    ("ISSUER", [5]),
    ("USER_SOURCE", "API"),
    ("USER_SOURCE", None),
    ("USER_SOURCE", ["api"]),
    ("USER_FIELDS", "email"),
    ("USER_FIELDS", {5: "email"}),
    ("USER_FIELDS", {"email": 5}),
    ("USER_FIELDS", {"email": ""}),
    *[("USER_FIELDS", {"public_metadata": field}) for field in sorted(values.PRIVILEGE_FIELDS)],
    ("USER_CLAIMS", "email"),
    ("USER_CLAIMS", {"email": None}),
    ("LINK_BY_EMAIL", "False"),
    ("LINK_BY_EMAIL", 0),
    ("LINK_BY_EMAIL", None),
    ("SIGN_IN_URL", "sign-in"),
    ("SIGN_IN_URL", "//evil.example"),
    ("SIGN_IN_URL", "/\\evil.example"),
    ("SIGN_IN_URL", "javascript:alert(1)"),
    ("SIGN_IN_URL", "https://accounts.example/sign in"),
    ("SIGN_IN_URL", 5),
    ("PROXY_URL", "proxy"),
    ("DOMAIN", 5),
    ("DOMAIN", "https://satellite.example"),
    ("DOMAIN", "satellite.example/app"),
    ("DOMAIN", "satellite.example:port"),
    ("DOMAIN", "*.satellite.example"),
    ("DOMAIN", "satellite example"),
    ("DOMAIN", "evil.example@satellite.example"),
    ("DOMAIN", 'satellite.example" onload="x'),
    ("IS_SATELLITE", "yes"),
    ("CHECK_REVOKED_SESSIONS", "yes"),
    ("CHECK_REVOKED_SESSIONS", 1),
    # Missing, empty or short: nothing of it may verify anything (WHK-06).
    ("WEBHOOK_SIGNING_SECRET", 5),
    ("WEBHOOK_SIGNING_SECRET", [""]),
    ("WEBHOOK_SIGNING_SECRET", [None]),
    ("WEBHOOK_SIGNING_SECRET", [WEBHOOK_SECRET, ""]),
    ("WEBHOOK_SIGNING_SECRET", "whsec_"),
    ("WEBHOOK_SIGNING_SECRET", WEBHOOK_SECRET.removeprefix("whsec_")),
    ("WEBHOOK_SIGNING_SECRET", "whsec_" + base64.b64encode(b"fifteen bytes !").decode()),
    ("WEBHOOK_SIGNING_SECRET", WEBHOOK_SECRET + "="),
    ("WEBHOOK_SIGNING_SECRET", WEBHOOK_SECRET.replace("M", "-")),
    ("WEBHOOK_SIGNING_SECRET", WEBHOOK_SECRET + "é"),
    ("WEBHOOK_SIGNING_SECRET", f"{WEBHOOK_SECRET},{WEBHOOK_SECRET}"),
    ("WEBHOOK_SIGNING_SECRET", "whsec_" + "A" * 25),
    ("WEBHOOK_SIGNING_SECRET", "sk_test_abc"),
    ("WEBHOOK_SIGNING_SECRET", {WEBHOOK_SECRET}),
    ("SIGN_IN_URL", "https://[accounts.example/sign-in"),
    ("SIGN_UP_URL", "sign-up"),
    ("SIGN_UP_URL", "javascript:alert(1)"),
    ("AFTER_SIGN_OUT_URL", "//evil.example"),
    ("AFTER_SIGN_OUT_URL", "data:text/html,x"),
    ("JS_VERSION", 6),
    ("JS_VERSION", "6.40"),
    ("JS_VERSION", "^6"),
    ("JS_VERSION", "v6"),
    ("JS_VERSION", "*"),
    ("JS_VERSION", "x"),
    ("JS_VERSION", "6/../../evil"),
    ("JS_VERSION", "6.40.0/../evil"),
    ("JS_VERSION", "../evil"),
    ("JS_VERSION", "latest?x"),
    ("JS_VERSION", '6" onerror="alert(1)'),
    ("JS_VERSION", "6\u0666"),
    ("SATELLITE_AUTO_SYNC", 1),
    ("ORGANIZATION_PATTERNS", "/orgs/:slug"),
    ("ORGANIZATION_PATTERNS", {"/orgs/:slug"}),
    ("ORGANIZATION_PATTERNS", [5]),
    ("ORGANIZATION_PATTERNS", ["/orgs/:name"]),
    ("ORGANIZATION_PATTERNS", ["/orgs/(.*)"]),
    ("ORGANIZATION_PATTERNS", ["orgs/:slug"]),
    ("ORGANIZATION_PATTERNS", ["/orgs/:slug/:slug"]),
    ("ORGANIZATION_PATTERNS", ["/orgs/:slug/:"]),
    ("ORGANIZATION_PATTERNS", ["/orgs/:slug?"]),
    ("ORGANIZATION_PATTERNS", ["/orgs/:slug/*"]),
    ("ORGANIZATION_PATTERNS", ["/orgs/:slug(\\d+)"]),
    ("ORGANIZATION_PATTERNS", ["/orgs{/:slug}"]),
    ("PERSONAL_ACCOUNT_PATTERNS", ["/me", ""]),
    ("PERSONAL_ACCOUNT_PATTERNS", ["/me/(.*"]),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_value_is_refused(name: str, value: Any) -> None:
    with pytest.raises(SettingError) as refused:
        PARSERS[name](value)
    assert refused.value.wrong
    assert refused.value.mend


def test_number_that_python_refuses_to_print_is_refused() -> None:
    with pytest.raises(SettingError, match="a value of type int"):
        PARSERS["TIMEOUT_MS"](10**5000)


def refusal(setting: conf.Setting, value: Any) -> SettingError | None:
    try:
        setting.parse(value)
    except SettingError as error:
        return error
    return None


# Whatever a careless hand pastes, in whichever setting: nothing of it is ever shown (CFG-03).
SECRETS = [
    "sk_live_CANARYCANARYCANARY",
    "whsec_CANARYCANARYCANARY",
    "ak_CANARYCANARYCANARY",
    "pk_test_CANARYCANARYCANARY",
    "eyJhbGciOiJSUzI1NiJ9.CANARYCANARYCANARY.CANARY",
    "-----BEGIN RSA PRIVATE KEY-----\nCANARYCANARYCANARY\n-----END RSA PRIVATE KEY-----",
    "https://user:CANARY@example.com/",
    "prefix sk_test_CANARYCANARYCANARY",
]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: [s], lambda s: {"email": s}, lambda s: s.encode()])
def test_no_error_shows_a_secret(setting: conf.Setting, secret: str, wrap: Any) -> None:
    error = refusal(setting, wrap(secret))
    assert error is None or "CANARY" not in f"{error} {error!r} {error.wrong} {error.mend}"


@pytest.mark.parametrize("secret", SECRETS)
def test_description_of_a_secret_is_its_prefix_and_length(secret: str) -> None:
    assert values.shown(secret).startswith(f"text of {len(secret)} characters")
    assert "CANARY" not in values.shown(secret)
    assert "CANARY" not in values.quoted(secret)


def test_description_of_other_values_is_short() -> None:
    assert values.shown("sk_test_abc") == "text of 11 characters that starts with 'sk_test_'"
    assert values.shown({"sk_test_abc"}) == "a value of type set"
    assert values.quoted("api.example") == "'api.example'"
    assert len(values.quoted("x" * 500)) < 100


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=5,
)
spellings = st.builds(
    "".join,
    st.lists(
        st.sampled_from(
            ["https://", "http://", "127.0.0.1", "[::1]", "[", "]", ":", "@", "/", "//", "\\", "a.b", "?", "#", "\n"]
            + ["pk_test_", "sk_live_", "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----", "QUFB", "=", "%", "é"]
        )
    ),
)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
@given(value=anything | spellings)
def test_any_value_is_taken_or_refused(setting: conf.Setting, value: Any) -> None:
    error = refusal(setting, value)
    assert error is None or error.wrong


@given(name=st.sampled_from([setting.name for setting in SETTINGS]), value=anything | spellings)
def test_any_setting_gives_a_config_or_improperly_configured(name: str, value: Any) -> None:
    with override_settings(**{name: value}), suppress(ImproperlyConfigured):
        assert config().fingerprint


class TestPublishableKey:
    @pytest.mark.parametrize(
        ("host", "mode", "portal"),
        [
            ("happy-cat-1.clerk.accounts.dev", "test", "https://happy-cat-1.accounts.dev"),
            ("happy-cat-1.clerk.accountsstage.dev", "test", "https://happy-cat-1.accountsstage.dev"),
            ("clerk.example.com", "live", "https://accounts.example.com"),
            ("Clerk.Example.com", "live", "https://accounts.example.com"),
            ("127.0.0.1:8123", "test", "https://127.0.0.1:8123"),
        ],
    )
    def test_what_it_says(self, host: str, mode: str, portal: str) -> None:
        key = PARSERS["PUBLISHABLE_KEY"](publishable_key(host, mode))
        assert key.host == host.lower()
        assert key.is_production is (mode == "live")
        assert key.accounts_portal == portal

    def test_padding_may_be_missing(self) -> None:
        text = publishable_key("clerk.example.io")
        assert text.endswith("=")
        assert PARSERS["PUBLISHABLE_KEY"](text.rstrip("=")).host == "clerk.example.io"

    def test_cookie_suffix_is_hashed_from_the_key_as_configured(self) -> None:
        text = publishable_key("clerk.example.io")
        key = PARSERS["PUBLISHABLE_KEY"](text)
        expected = base64.urlsafe_b64encode(hashlib.sha1(text.encode()).digest()).decode()[:8]  # noqa: S324 - Clerk's choice
        assert key.cookie_suffix == expected
        assert PARSERS["PUBLISHABLE_KEY"](text.rstrip("=")).cookie_suffix != expected


class TestConfig:
    def test_defaults(self) -> None:
        seen = config()
        assert seen.secret_key == "sk_test_abc"
        assert (seen.auth_parties, seen.audience, seen.issuers) == ((), (), ())
        assert (seen.jwt_key, seen.publishable_key, seen.sign_in_url) == (None, None, None)
        assert (seen.proxy_url, seen.domain, seen.is_satellite) == (None, None, False)
        assert seen.api_url == "https://api.clerk.com"
        assert (seen.timeout, seen.clock_skew, seen.cache_timeout) == (5.0, 5.0, 300)
        assert (seen.cache_alias, seen.user_source, seen.link_by_email) == ("default", "api", True)
        assert seen.user_fields == DEFAULT_USER_FIELDS
        assert seen.user_claims == DEFAULT_USER_CLAIMS

    def test_same_settings_give_the_same_object(self) -> None:
        assert config() is config()

    def test_settings_are_read_live(self, settings: Settings) -> None:
        before = config()
        settings.CLERK_TIMEOUT_MS = 700
        during = config()
        del settings.CLERK_TIMEOUT_MS
        assert (before.timeout, during.timeout, config().timeout) == (5.0, 0.7, 5.0)

    def test_overrides_stack(self) -> None:
        with override_settings(CLERK_TIMEOUT_MS=700), override_settings(CLERK_CACHE_TIMEOUT=7):
            assert (config().timeout, config().cache_timeout) == (0.7, 7)
            with override_settings():
                delattr(django_settings, "CLERK_TIMEOUT_MS")
                assert (config().timeout, config().cache_timeout) == (5.0, 7)
            assert config().timeout == 0.7

    @pytest.mark.parametrize("value", [None, ...])
    def test_environment_stands_in(self, value: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        if value is None:
            settings.CLERK_SECRET_KEY = None
        else:
            del settings.CLERK_SECRET_KEY
        monkeypatch.setenv("CLERK_SECRET_KEY", "sk_test_environment")
        monkeypatch.setenv("CLERK_JWT_KEY", PEM.replace("\n", "\\n"))
        monkeypatch.setenv("CLERK_PUBLISHABLE_KEY", publishable_key("clerk.example.com"))
        monkeypatch.setenv("CLERK_TIMEOUT_MS", "700")
        seen = config()
        assert (seen.secret_key, seen.jwt_key) == ("sk_test_environment", PEM)
        assert seen.issuers == ("https://clerk.example.com",)
        assert seen.timeout == 5.0  # secrets and keys only: as documented

    def test_setting_goes_before_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CLERK_SECRET_KEY", "sk_test_environment")
        assert config().secret_key == "sk_test_abc"

    def test_change_of_environment_is_seen(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.CLERK_SECRET_KEY = None
        monkeypatch.setenv("CLERK_SECRET_KEY", "sk_test_one")
        assert config().secret_key == "sk_test_one"
        monkeypatch.setenv("CLERK_SECRET_KEY", "sk_test_two")
        assert config().secret_key == "sk_test_two"

    def test_settings_object_of_another_kind_is_read_as_well(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Projects may put their own object behind django.conf.settings; then the quick way is not taken."""

        class Own(LazySettings):
            pass

        own = Own()
        own.configure(CLERK_SECRET_KEY="sk_test_own")
        monkeypatch.setattr(conf, "settings", own)
        assert config().secret_key == "sk_test_own"

    @pytest.mark.parametrize(("name", "value"), [("CLERK_TIMEOUT_MS", "5000"), ("CLERK_SECRET_KEY", "pk_test_CANARY")])
    def test_unusable_setting_closes(self, name: str, value: Any, settings: Settings) -> None:
        setattr(settings, name, value)
        for _ in range(2):  # not only the first time (CFG-01)
            with pytest.raises(ImproperlyConfigured, match=name) as refused:
                config()
        assert "CANARY" not in str(refused.value)

    def test_some_key_source_is_required(self, settings: Settings) -> None:
        settings.CLERK_SECRET_KEY = None
        with pytest.raises(ImproperlyConfigured, match="CLERK_SECRET_KEY nor CLERK_JWT_KEY"):
            config()

    def test_users_from_the_api_require_the_secret_key(self, settings: Settings) -> None:
        settings.CLERK_SECRET_KEY = None
        settings.CLERK_JWT_KEY = PEM
        with pytest.raises(ImproperlyConfigured, match="users cannot be fetched"):
            config()
        settings.CLERK_USER_SOURCE = "claims"
        assert config().secret_key is None

    def test_repr_shows_no_key(self, settings: Settings) -> None:
        settings.CLERK_SECRET_KEY = "sk_test_CANARY"
        assert repr(config()) == "<Config for https://api.clerk.com>"

    def test_alias_falls_back(self, settings: Settings) -> None:
        settings.CLERK_CACHE_ALIAS = ""
        assert config().cache_alias == "default"

    @pytest.mark.parametrize(
        ("values", "issuers"),
        [
            ({}, ("https://clerk.example.com",)),
            ({"CLERK_ISSUER": "https://other.example"}, ("https://other.example",)),
            (
                {"CLERK_PROXY_URL": "https://app.example/__clerk/"},
                ("https://clerk.example.com", "https://app.example/__clerk"),
            ),
            ({"CLERK_PROXY_URL": "/__clerk"}, ("https://clerk.example.com",)),
            ({"CLERK_DOMAIN": "sat.example"}, ("https://clerk.example.com",)),
            (
                {"CLERK_DOMAIN": "sat.example", "CLERK_IS_SATELLITE": True},
                ("https://clerk.example.com", "https://clerk.sat.example"),
            ),
        ],
    )
    def test_issuers(self, values: Mapping[str, Any], issuers: tuple[str, ...]) -> None:
        with override_settings(CLERK_PUBLISHABLE_KEY=publishable_key("clerk.example.com", "live"), **values):
            assert config().issuers == issuers

    def test_satellite_of_a_development_instance_has_its_issuer(self) -> None:
        key = publishable_key("happy-cat-1.clerk.accounts.dev")
        with override_settings(CLERK_PUBLISHABLE_KEY=key, CLERK_DOMAIN="sat.example", CLERK_IS_SATELLITE=True):
            with pytest.raises(ImproperlyConfigured, match="CLERK_SIGN_IN_URL"):
                config()
            with override_settings(CLERK_SIGN_IN_URL="/sign-in"), pytest.raises(ImproperlyConfigured):
                config()
            with override_settings(CLERK_SIGN_IN_URL="https://primary.example/sign-in"):
                assert config().issuers == ("https://happy-cat-1.clerk.accounts.dev",)

    @pytest.mark.parametrize(
        ("key", "values", "host", "address", "development"),
        [
            (None, {}, None, None, False),
            ("live", {}, "clerk.example.com", "https://clerk.example.com", False),
            ("test", {}, "clerk.example.com", "https://clerk.example.com", True),
            ("live", {"CLERK_DOMAIN": "sat.example"}, "clerk.example.com", "https://clerk.example.com", False),
            (
                "live",
                {"CLERK_DOMAIN": "sat.example", "CLERK_IS_SATELLITE": True},
                "clerk.sat.example",
                "https://clerk.sat.example",
                False,
            ),
            ("live", {"CLERK_PROXY_URL": "/__clerk/"}, "clerk.example.com", "https://own.example/__clerk", False),
            (
                "live",
                {"CLERK_PROXY_URL": "https://other.example/x"},
                "clerk.example.com",
                "https://other.example/x",
                False,
            ),
        ],
    )
    def test_the_frontend_api(
        self, key: str | None, values: Mapping[str, Any], host: str, address: str, development: bool
    ) -> None:
        """Source: Clerk, publishable key and hosts."""
        whole = key and publishable_key("clerk.example.com", key)
        with override_settings(CLERK_PUBLISHABLE_KEY=whole, **values):
            assert config().frontend_api_host == host
            assert config().frontend_api("https://own.example") == address
            assert config().is_development is development

    @pytest.mark.parametrize("host", ["127.0.0.1:8123", "127.0.0.1"])
    def test_a_stand_in_on_this_machine_speaks_plain_http(self, host: str) -> None:
        with override_settings(CLERK_PUBLISHABLE_KEY=publishable_key(host)):
            assert config().frontend_api("https://own.example") == f"http://{host}"

    @pytest.mark.parametrize(
        ("pattern", "path", "names"),
        [
            ("/orgs/:slug", "/orgs/acme", {"slug": "acme"}),
            ("/orgs/:slug", "/orgs/acme/", {"slug": "acme"}),
            ("/orgs/:slug", "/Orgs/Acme", {"slug": "Acme"}),
            ("/orgs/:slug", "/orgs/", None),
            ("/orgs/:slug", "/orgs/a/b", None),
            ("/orgs/:slug", "/orgs/a//", None),
            ("/orgs/:slug", "/x/orgs/a", None),
            ("/orgs/:slug/(.*)", "/orgs/a/b/c", {"slug": "a"}),
            ("/orgs/:slug/(.*)", "/orgs/a/", {"slug": "a"}),
            ("/orgs/:slug/(.*)", "/orgs/a", None),
            ("/orgs/:id/", "/orgs/a", None),
            ("/orgs/:id-of-:slug", "/orgs/1-of-a", {"id": "1", "slug": "a"}),
            ("/orgs/:slug(.*)", "/orgs/a/b", {"slug": "a/b"}),
            ("(.*)/orgs/:slug", "/en/orgs/a", {"slug": "a"}),
            ("/a.b/:slug", "/axb/a", None),
            ("/a.b/:slug", "/a.b/a", {"slug": "a"}),
            (":slug", "acme", {"slug": "acme"}),
        ],
    )
    def test_path_patterns(self, pattern: str, path: str, names: Mapping[str, str] | None) -> None:
        """12. Source: path-to-regexp."""
        with override_settings(CLERK_ORGANIZATION_PATTERNS=[pattern]):
            [expression] = config().organization_patterns
            match = expression.fullmatch(path)
            assert (match and match.groupdict()) == names

    def test_sign_in_url(self, settings: Settings) -> None:
        settings.CLERK_PUBLISHABLE_KEY = publishable_key("clerk.example.com", "live")
        assert config().sign_in_url == "https://accounts.example.com/sign-in"
        settings.CLERK_SIGN_IN_URL = "/sign-in"
        assert config().sign_in_url == "/sign-in"

    @pytest.mark.parametrize(
        ("values", "address"),
        [
            ({"CLERK_PUBLISHABLE_KEY": ""}, None),
            ({}, "https://accounts.example.com/sign-up"),
            ({"CLERK_SIGN_IN_URL": "/sign-in/"}, "/sign-in/create"),
            ({"CLERK_SIGN_IN_URL": "/sign-in?theme=dark"}, "/sign-in/create?theme=dark"),
            ({"CLERK_SIGN_IN_URL": "https://login.example.com"}, "https://login.example.com/create"),
            ({"CLERK_SIGN_IN_URL": "/sign-in", "CLERK_SIGN_UP_URL": "/join/"}, "/join/"),
            ({"CLERK_SIGN_UP_URL": "https://join.example.com/"}, "https://join.example.com/"),
        ],
    )
    def test_sign_up_url(self, values: Mapping[str, Any], address: str | None) -> None:
        with override_settings(**{"CLERK_PUBLISHABLE_KEY": publishable_key("clerk.example.com", "live"), **values}):
            assert config().sign_up_url == address

    @pytest.mark.parametrize(
        ("name", "value", "changes"),
        [
            ("CLERK_SECRET_KEY", "sk_test_other", True),
            ("CLERK_JWT_KEY", PEM, True),
            ("CLERK_API_URL", "https://other.example", True),
            ("CLERK_ISSUER", "https://other.example", True),
            ("CLERK_AUTH_PARTIES", ["https://other.example"], True),
            ("CLERK_AUDIENCE", "other", True),
            ("CLERK_CLOCK_SKEW_IN_MS", 0, True),
            ("CLERK_PUBLISHABLE_KEY", publishable_key("clerk.example.com"), True),
            ("CLERK_CACHE_TIMEOUT", 5, False),
            ("CLERK_SIGN_IN_URL", "/sign-in", False),
        ],
    )
    def test_fingerprint_changes_with_what_decides_about_tokens(self, name: str, value: Any, changes: bool) -> None:
        before = config().fingerprint
        with override_settings(**{name: value}):
            assert (config().fingerprint != before) is changes
        assert config().fingerprint == before


@override_settings(CLERK_SECRET_KEY="sk_test_x", CLERK_AUTH_PARTIES=["https://one.example"])
def test_a_list_that_is_changed_in_place_counts() -> None:
    assert config().auth_parties == ("https://one.example",)
    parties: list[str] = django_settings.CLERK_AUTH_PARTIES  # type: ignore[misc]  # as it stands in the settings now
    parties.append("https://two.example")
    assert config().auth_parties == ("https://one.example", "https://two.example")


def test_what_is_not_overridden_is_looked_at_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in production, where nothing is stacked on the settings file."""
    plain: Any = object.__getattribute__(django_settings, "_wrapped")
    while isinstance(plain, UserSettingsHolder):
        plain = plain.default_settings
    monkeypatch.setattr(django_settings, "_wrapped", plain)
    monkeypatch.setenv("CLERK_SECRET_KEY", "sk_test_environment")
    first = config()
    assert first is config()
    assert first.secret_key == "sk_test_environment"
    monkeypatch.setattr(django_settings, "CLERK_TIMEOUT_MS", 1234, raising=False)
    assert config().timeout == 1.234
    assert config() is config()
    monkeypatch.setattr(django_settings, "CLERK_TIMEOUT_MS", 4321)
    assert config().timeout == 4.321
    monkeypatch.delattr(django_settings, "CLERK_TIMEOUT_MS")
    assert config().timeout == first.timeout
    monkeypatch.setattr(django_settings, "ANOTHER", 1, raising=False)
    assert config().cache_timeout == first.cache_timeout
    monkeypatch.delattr(django_settings, "ANOTHER")  # one name goes and one comes
    monkeypatch.setattr(django_settings, "CLERK_CACHE_TIMEOUT", 5, raising=False)
    assert config().cache_timeout == 5
    assert config().webhook_secrets == ()
    monkeypatch.setenv("CLERK_WEBHOOK_SIGNING_SECRET", WEBHOOK_SECRET)
    assert len(config().webhook_secrets) == 1
    monkeypatch.setenv("CLERK_SECRET_KEY", "sk_test_another")
    assert config().secret_key == "sk_test_another"
