"""Where the stand-in is and may lead: loopback, or a domain that it shares with its applications, as at Clerk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from clerk_views.conf import config
from clerk_views.testing import LocalClerk, LocalUser
from clerk_views.testing.places import Places

APP = "http://app.example.test:8000/required/"


@pytest.mark.parametrize(
    "host",
    [
        "clerk.example.com",
        "clerk.test",
        "example.test",
        "app.example.test",
        "clerk.example.test.",
        "clerk..test",
        "clerk.-a.test",
        "clerk.example.test:80",
        "CLERK.example.test",
        "clerk.example.test.evil.example",
        "127.0.0.2",
        "",
    ],
)
def test_it_goes_by_no_name_that_others_can_have(host: str) -> None:
    with pytest.raises(ValueError, match="this machine only"):
        LocalClerk(production=True, host=host)


def test_a_development_instance_shares_no_domain() -> None:
    with pytest.raises(ValueError, match="development instance"):
        LocalClerk(host="clerk.example.test")


@pytest.mark.parametrize("host", ["clerk.example.test", "clerk.a-b.example.localhost"])
def test_addresses_under_the_domain_are_local_too(host: str) -> None:
    places = Places(host)
    domain = host.removeprefix("clerk.")
    for name in (domain, f"app.{domain}", f"a.b.{domain}", "localhost", "127.0.0.1"):
        assert places.url(f"http://{name}:8000/a") == f"http://{name}:8000/a"
        assert places.is_origin(f"http://{name}:8000")
    for name in (f"evil{domain}", f"{domain}.evil.example", "other.test", f".{domain}", f"a@{domain}"):
        assert places.url(f"http://{name}/") is None
        assert not places.is_origin(f"http://{name}")
    assert [places.shared_domain(name) for name in (domain, f"app.{domain}", "localhost", f"x{domain}", None)] == [
        domain,
        domain,
        None,
        None,
        None,
    ]


def test_on_loopback_no_domain_is_shared() -> None:
    places = Places("localhost")
    assert places.domain is None
    assert places.shared_domain("localhost") is None
    assert places.url("http://app.example.test/") is None


class Visit:
    """A browser's requests, with the host names that it would send; its cookies are looked at, not kept."""

    def __init__(self, clerk: LocalClerk) -> None:
        self.clerk = clerk
        self._port = urlsplit(clerk.url).port
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", trust_env=False)

    def ask(self, method: str, path: str, host: str = "clerk.example.test", **options: Any) -> httpx.Response:
        headers = {"Host": f"{host}:{self._port}", **options.pop("headers", {})}
        self.http.cookies.clear()
        return self.http.request(method, path, headers=headers, **options)

    def sign_in(self, user: LocalUser, target: str = APP) -> httpx.Response:
        return self.ask("POST", "/sign-in", data={"user_id": user.id, "redirect_url": target})


def set_cookies(answer: httpx.Response) -> dict[str, tuple[str, set[str]]]:
    """Return the cookies that an answer sets: name to value and attributes."""
    found = {}
    for header in answer.headers.get_list("set-cookie"):
        pair, *attributes = header.split("; ")
        name, _, value = pair.partition("=")
        found[name] = (value, set(attributes))
    return found


@pytest.fixture
def visit() -> Iterator[Visit]:
    with LocalClerk(production=True, host="clerk.example.test") as clerk:
        there = Visit(clerk)
        with there.http:
            yield there


def test_the_key_and_the_settings_name_the_domain(visit: Visit, settings: Any) -> None:
    """But the application's own calls go to loopback, as only the browser is told where such names are."""
    clerk = visit.clerk
    port = urlsplit(clerk.url).port
    for name, value in clerk.settings().items():
        setattr(settings, name, value)

    assert clerk.url == f"http://clerk.example.test:{port}"
    assert clerk.issuer == "https://clerk.example.test"
    assert config().frontend_api_host == "clerk.example.test"
    assert config().frontend_api("http://app.example.test") == f"{clerk.url}/__clerk"
    assert config().api_url == f"http://127.0.0.1:{port}"
    assert config().sign_in_url == f"{clerk.url}/sign-in"


def test_other_names_are_not_served(visit: Visit) -> None:
    assert visit.ask("GET", "/sign-in").status_code == 200
    for host in ("app.example.test", "clerk.other.test", "clerk.example.com"):
        assert visit.ask("GET", "/sign-in", host).status_code == 421


def test_signing_in_tells_the_domain_and_leaves_the_rest_to_a_handshake(visit: Visit) -> None:
    ada = visit.clerk.add_user()

    answer = visit.sign_in(ada)

    cookies = set_cookies(answer)
    suffix = visit.clerk.cookie_suffix
    assert (answer.status_code, answer.headers["Location"]) == (303, APP)
    assert cookies.keys() == {"__client", "__client_uat", f"__client_uat_{suffix}"}
    assert cookies["__client_uat"] == cookies[f"__client_uat_{suffix}"]
    assert "Domain=example.test" in cookies["__client_uat"][1]
    assert not any(each.startswith("Domain") for each in cookies["__client"][1])
    page = visit.ask("GET", "/sign-in", params={"redirect_url": APP})
    assert "http://*.example.test:*" in page.headers["Content-Security-Policy"]


def test_a_handshake_brings_what_the_application_shall_set(visit: Visit) -> None:
    client = set_cookies(visit.sign_in(visit.clerk.add_user()))["__client"][0]
    asked = {"redirect_url": APP, "suffixed_cookies": "true", "format": "nonce"}

    answer = visit.ask("GET", "/v1/client/handshake", params=asked, headers={"Cookie": f"__client={client}"})

    cookies = set_cookies(answer)
    assert (answer.status_code, answer.headers["Location"]) == (307, APP)
    assert {"Domain=example.test", "HttpOnly"} <= cookies["__clerk_handshake_nonce"][1]
    secret = {"Authorization": f"Bearer {visit.clerk.secret_key}"}
    nonce = {"nonce": cookies["__clerk_handshake_nonce"][0]}
    told = visit.ask("GET", "/v1/clients/handshake_payload", params=nonce, headers=secret).json()["directives"]
    on_domain = {each.partition("=")[0] for each in told if "; Domain=example.test" in each}
    suffix = visit.clerk.cookie_suffix
    assert on_domain == {"__client_uat", f"__client_uat_{suffix}", "__clerk_handshake_nonce"}
    own = {each.partition("=")[0] for each in told} - on_domain
    assert own == {"__session", f"__session_{suffix}", f"__refresh_{suffix}"}


def test_it_comes_under_its_own_name_from_loopback(visit: Visit) -> None:
    """There alone may it set the domain's cookies; a satellite elsewhere has its own."""
    for path in ("/sign-in", "/v1/client/handshake"):
        moved = visit.ask("GET", path, "127.0.0.1", params={"redirect_url": APP})
        there = urlsplit(moved.headers["Location"])
        assert (moved.status_code, there.hostname, there.path) == (307, "clerk.example.test", path)
        assert parse_qs(there.query)["redirect_url"] == [APP]
        away = visit.ask("GET", path, params={"redirect_url": "http://localhost:8000/"})
        assert urlsplit(away.headers["Location"]).hostname == "localhost"
    here = visit.ask("POST", "/sign-in", "localhost", data={"user_id": visit.clerk.add_user().id})
    assert "__session" in set_cookies(here)
    assert not any(each.startswith("Domain") for _, attributes in set_cookies(here).values() for each in attributes)


def test_signing_out_tells_the_domain(visit: Visit) -> None:
    ada = visit.clerk.add_user()
    client = set_cookies(visit.sign_in(ada))["__client"][0]

    answer = visit.ask("POST", "/sign-out", data={"redirect_url": APP}, headers={"Cookie": f"__client={client}"})

    cookies = set_cookies(answer)
    assert cookies.keys() == {"__client_uat", f"__client_uat_{visit.clerk.cookie_suffix}"}
    assert cookies["__client_uat"][0] == "0"
    assert "Domain=example.test" in cookies["__client_uat"][1]
    assert visit.clerk.sessions(ada) == []


def test_after_verifying_a_handshake_brings_the_token_that_says_so(visit: Visit) -> None:
    client = set_cookies(visit.sign_in(visit.clerk.add_user()))["__client"][0]
    form = {"proof": "old", "redirect_url": APP}

    answer = visit.ask("POST", "/verify", data=form, headers={"Cookie": f"__client={client}"})

    there = urlsplit(answer.headers["Location"])
    assert (answer.status_code, there.netloc, there.path) == (303, "", "/v1/client/handshake")
    assert parse_qs(there.query)["redirect_url"] == [APP]


def test_scripts_under_the_domain_are_answered_and_tell_it(visit: Visit) -> None:
    client = set_cookies(visit.sign_in(visit.clerk.add_user()))["__client"][0]
    headers = {"Origin": "http://app.example.test:8000", "Cookie": f"__client={client}"}

    answer = visit.ask("GET", "/v1/client", headers=headers)

    assert answer.headers["Access-Control-Allow-Origin"] == "http://app.example.test:8000"
    assert len(answer.json()["response"]["sessions"]) == 1
    assert "Domain=example.test" in set_cookies(answer)["__client_uat"][1]
    refused = visit.ask("GET", "/v1/client", headers={"Origin": "http://app.other.test"})
    assert (refused.status_code, "Access-Control-Allow-Origin" in refused.headers) == (400, False)
