"""Who the stand-in is: keys and names as Clerk's, and settings under which the library takes them for its own."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from clerk_views.conf import SETTINGS, config
from clerk_views.frontend import script_urls
from clerk_views.testing import LocalClerk
from clerk_views.testing.minting import SigningKey, base64url

#: What a project decides about its views, its users and its caches, whichever instance of Clerk it belongs to.
LEFT_TO_THE_PROJECT = {
    "CLERK_ACCEPTS_TOKEN",
    "CLERK_CACHE_ALIAS",
    "CLERK_CACHE_TIMEOUT",
    "CLERK_CLOCK_SKEW_IN_MS",
    "CLERK_JS_VERSION",
    "CLERK_LINK_BY_EMAIL",
    "CLERK_ORGANIZATION_PATTERNS",
    "CLERK_PERSONAL_ACCOUNT_PATTERNS",
    "CLERK_TIMEOUT_MS",
    "CLERK_USER_CLAIMS",
    "CLERK_USER_FIELDS",
    "CLERK_USER_SOURCE",
}

#: All the others, as a project in production may have them.
A_SATELLITE = {
    "CLERK_SECRET_KEY": "sk_live_of_the_project",
    "CLERK_MACHINE_SECRET_KEY": "ak_of_the_project",
    "CLERK_PUBLISHABLE_KEY": f"pk_live_{base64url(b'clerk.example.com$')}",
    "CLERK_API_URL": "https://api.example.com",
    "CLERK_SIGN_IN_URL": "https://accounts.example.com/sign-in",
    "CLERK_SIGN_UP_URL": "https://accounts.example.com/sign-up",
    "CLERK_AFTER_SIGN_OUT_URL": "https://accounts.example.com/bye",
    "CLERK_AUTH_PARTIES": ["https://www.example.com"],
    "CLERK_JWT_KEY": "-----BEGIN PUBLIC KEY-----AAAA-----END PUBLIC KEY-----",
    "CLERK_ISSUER": "https://clerk.example.com",
    "CLERK_AUDIENCE": "https://www.example.com",
    "CLERK_PROXY_URL": "https://www.example.com/__clerk",
    "CLERK_DOMAIN": "satellite.example",
    "CLERK_IS_SATELLITE": True,
    "CLERK_SATELLITE_AUTO_SYNC": True,
    "CLERK_CHECK_REVOKED_SESSIONS": True,
    "CLERK_WEBHOOK_SIGNING_SECRET": f"whsec_{'A' * 32}",
}


@pytest.fixture(params=[False, True], ids=["development", "production"])
def clerk(request: pytest.FixtureRequest) -> LocalClerk:
    return LocalClerk(port=1234, production=request.param)


def claims_of(token: str, key: SigningKey) -> dict[str, Any]:
    """Verify a token as a third party would, and return its claims."""
    claims: dict[str, Any] = jwt.decode(token, key.public_pem, algorithms=["RS256"])
    return claims


class TestTheKeys:
    @pytest.mark.django_db  # checks of the addresses build admin forms
    def test_they_are_of_the_kind_asked_for(self, clerk: LocalClerk, settings: Any) -> None:
        kind = "live" if clerk.production else "test"
        for name, value in clerk.settings().items():
            setattr(settings, name, value)

        read = config()

        assert clerk.secret_key.startswith(f"sk_{kind}_")
        assert clerk.publishable_key.startswith(f"pk_{kind}_")
        assert read.publishable_key is not None
        assert read.publishable_key.is_production is clerk.production
        assert read.publishable_key.cookie_suffix == clerk.cookie_suffix
        assert read.proxy_url == f"{clerk.url}/__clerk"
        call_command("check", fail_level="ERROR")

    def test_tokens_are_issued_by_the_host_in_the_key_not_by_the_proxy(self, clerk: LocalClerk) -> None:
        claims = claims_of(clerk.token("user_a"), clerk.signing_key)
        assert claims["iss"] == clerk.issuer == f"https://{clerk.frontend_host}"
        assert clerk.url not in claims["iss"]

    def test_with_a_development_key_that_host_is_one_for_which_clerk_js_keeps_a_development_browser(self) -> None:
        assert LocalClerk(port=1234).frontend_host == "local-1234.clerk.accounts.dev"

    def test_servers_on_other_ports_have_cookies_of_other_names(self) -> None:
        assert LocalClerk(port=1).cookie_suffix != LocalClerk(port=2).cookie_suffix

    def test_it_may_be_called_localhost_and_by_no_other_name(self) -> None:
        assert LocalClerk(port=1234, host="localhost").url == "http://localhost:1234"
        with pytest.raises(ValueError, match="this machine only"):
            LocalClerk(host="clerk.example.com")

    def test_two_servers_have_different_keys_and_ids(self) -> None:
        servers = [LocalClerk() for _ in range(3)]

        assert len({server.signing_key.public_pem for server in servers}) == 3
        assert len({server.instance_id for server in servers}) == 3
        assert len({server.secret_key for server in servers}) == 3


class TestKeyRotation:
    @staticmethod
    def published(over_http: httpx.Client) -> list[str]:
        return [key["n"] for key in over_http.get("/v1/jwks").json()["keys"]]

    def test_a_new_key_replaces_the_old_one(self, server: LocalClerk, over_http: httpx.Client) -> None:
        old = server.signing_key

        new = server.rotate_keys()

        assert new is server.signing_key
        assert new.kid != old.kid
        assert self.published(over_http) == [new.jwk["n"]]
        assert claims_of(server.token("user_1"), new)
        assert jwt.get_unverified_header(server.token("user_1"))["kid"] == new.kid

    def test_the_key_id_may_stay(self, server: LocalClerk, over_http: httpx.Client) -> None:
        old = server.signing_key

        assert server.rotate_keys(same_kid=True).kid == old.kid
        assert old.jwk["n"] not in self.published(over_http)

    def test_the_old_key_may_stay_published(self, server: LocalClerk, over_http: httpx.Client) -> None:
        old = server.signing_key

        new = server.rotate_keys(keep_old=True)

        assert self.published(over_http) == [old.jwk["n"], new.jwk["n"]]
        assert jwt.get_unverified_header(server.token("user_1", key=old))["kid"] == old.kid

    def test_any_key_set_can_be_served(self, server: LocalClerk, over_http: httpx.Client) -> None:
        odd = [None, {"kty": "oct", "k": "AA"}, 5]
        server.key_set_override(odd)
        assert over_http.get("/v1/jwks").json() == {"keys": odd}

        server.key_set_override(None)
        assert self.published(over_http) == [server.signing_key.jwk["n"]]

    def test_keys_are_used_again_but_not_at_once(self, server: LocalClerk) -> None:
        seen = []
        for _ in range(12):
            server.reset()
            seen.append(server.signing_key.public_pem)

        assert len(set(seen)) < 12
        assert all(len(set(seen[start : start + 4])) == 4 for start in range(9))


class TestSettings:
    def test_settings_agree_with_the_library(self, server: LocalClerk, settings: Any) -> None:
        for name, value in server.settings().items():
            setattr(settings, name, value)

        read = config()

        assert (read.secret_key, read.api_url) == (server.secret_key, server.url)
        assert (read.issuers[0], read.proxy_url) == (server.issuer, f"{server.url}/__clerk")
        assert read.sign_in_url == read.sign_up_url == f"{server.url}/sign-in"
        assert "http://testserver" in read.auth_parties
        assert read.publishable_key is not None
        assert read.publishable_key.cookie_suffix == server.cookie_suffix
        assert not read.publishable_key.is_production

    def test_every_setting_is_ours_or_left_to_the_project(self, server: LocalClerk) -> None:
        assert server.settings().keys() & LEFT_TO_THE_PROJECT == set()
        assert server.settings().keys() | LEFT_TO_THE_PROJECT == {setting.name for setting in SETTINGS}

    def test_nothing_is_left_of_what_a_project_has_for_clerk_itself(
        self, clerk: LocalClerk, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert A_SATELLITE.keys() == clerk.settings().keys()
        for name, value in clerk.settings().items():
            setattr(settings, name, value)
        alone = vars(config())
        for name, value in A_SATELLITE.items():
            setattr(settings, name, value)
            monkeypatch.setenv(name, str(value))
        assert sum(vars(config())[name] != value for name, value in alone.items()) == len(A_SATELLITE)

        for name, value in clerk.settings().items():
            setattr(settings, name, value)

        assert vars(config()) == alone

    def test_what_a_project_decides_stays(self, clerk: LocalClerk, settings: Any) -> None:
        settings.CLERK_ORGANIZATION_PATTERNS = ["/orgs/:slug/(.*)"]
        settings.CLERK_USER_SOURCE = "claims"
        for name, value in clerk.settings().items():
            setattr(settings, name, value)

        assert len(config().organization_patterns) == 1
        assert config().user_source == "claims"

    def test_no_address_leads_off_this_machine(self, clerk: LocalClerk, settings: Any) -> None:
        for name, value in clerk.settings().items():
            setattr(settings, name, value)

        read = config()

        addresses = [read.api_url, read.sign_in_url, read.sign_up_url, read.frontend_api("http://testserver")]
        for address in (*addresses, *script_urls(read)):
            assert address is not None
            assert urlsplit(address)[:2] == ("http", "127.0.0.1:1234")
        assert read.after_sign_out_url is None  # the site's own root

    @pytest.mark.urls("tests.page_urls")
    @pytest.mark.parametrize("name", ["sign-in", "sign-up"])
    def test_the_pages_of_a_project_lead_to_one_that_answers(self, local_clerk: LocalClerk, name: str) -> None:
        local_clerk.add_user(first_name="Ada")

        address = Client().get(reverse(f"clerk_views:{name}"))["Location"]

        assert address.startswith(f"{local_clerk.url}/")
        page = httpx.get(address)
        assert (page.status_code, "Ada" in page.text) == (200, True)

    def test_overrides_come_last(self, server: LocalClerk) -> None:
        assert server.settings(CLERK_API_URL="http://127.0.0.1:9", X=1)["CLERK_API_URL"] == "http://127.0.0.1:9"

    def test_the_address_is_known_once_there_is_a_port(self) -> None:
        server = LocalClerk()
        with pytest.raises(RuntimeError, match="start"):
            server.settings()
        assert LocalClerk(port=4321).url == "http://127.0.0.1:4321"
        assert "stopped" in repr(server)
