"""The testing kit itself, over real HTTP: others can only rely on it if it does what it says."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import clerk_backend_api
import httpx
import jwt
import pytest
from asgiref.sync import async_to_sync
from clerk_backend_api.models import ClerkBaseError
from django.core.cache import caches
from django.http import HttpRequest, JsonResponse
from django.test import AsyncClient, Client
from django.urls import path

import clerk_views.testing
from clerk_views.conf import config
from clerk_views.testing import LocalClerk
from clerk_views.testing.directory import LocalUser, email_body
from clerk_views.testing.faults import GARBAGE
from clerk_views.testing.fixtures import ClerkFixture
from clerk_views.testing.minting import SigningKey
from clerk_views.values import PublishableKey


def what_arrived(request: HttpRequest) -> JsonResponse:
    """Answer with the credentials that the request carried."""
    return JsonResponse({"authorization": request.headers.get("Authorization"), "cookies": dict(request.COOKIES)})


urlpatterns = [path("what-arrived", what_arrived)]


@pytest.fixture
def browser(server: LocalClerk) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=5) as client:
        yield client


def connected(server: LocalClerk) -> socket.socket:
    """Open a connection by hand, and ask for the key set on it."""
    connection = socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0), timeout=5)
    connection.sendall(b"GET /v1/jwks HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connection


def claims_of(token: str, key: SigningKey) -> dict[str, Any]:
    """Verify a token as a third party would, and return its claims."""
    claims: dict[str, Any] = jwt.decode(
        token, key.public_pem, algorithms=["RS256"], options={"verify_aud": False, "verify_exp": False}
    )
    return claims


class TestConnections:
    def test_other_host_names_are_refused(self, over_http: httpx.Client) -> None:
        assert over_http.get("/v1/jwks", headers={"Host": "rebound.example"}).status_code == 421

    def test_one_connection_serves_many_requests(self, server: LocalClerk, over_http: httpx.Client) -> None:
        for _ in range(5):
            over_http.get("/v1/jwks")

        assert (server.calls.total, server.calls.connections) == (5, 1)

    def test_sixty_four_clients_at_once_are_all_answered(self, server: LocalClerk) -> None:
        server.faults.slow(0.2)
        together = threading.Barrier(64)

        def ask(_: int) -> int:
            together.wait()
            headers = {"Authorization": f"Bearer {server.secret_key}"}
            with httpx.Client(trust_env=False, verify=False) as client:  # noqa: S501 - there is no TLS here; saves time
                return client.get(f"{server.url}/v1/jwks", headers=headers, timeout=20).status_code

        with ThreadPoolExecutor(64) as pool:
            assert list(pool.map(ask, range(64))) == [200] * 64

        assert server.calls.key_fetches == 64
        assert server.calls.most_at_once > 10


class TestUsers:
    def test_a_user_can_lack_everything(self, server: LocalClerk, sdk: clerk_backend_api.Clerk) -> None:
        user = server.add_user()

        assert user.email is None
        assert user.name == user.id
        assert user.id in repr(user)
        assert sdk.users.get(user_id=user.id).email_addresses == []

    @pytest.mark.parametrize(
        ("verified", "status"),
        [(True, "verified"), (False, "unverified"), ("expired", "expired"), ("failed", "failed"), (None, None)],
    )
    def test_an_address_is_verified_or_not(
        self, server: LocalClerk, sdk: clerk_backend_api.Clerk, verified: Any, status: str | None
    ) -> None:
        user = server.add_user(email="ada@example.com", verified=verified)

        verification = sdk.users.get(user_id=user.id).email_addresses[0].verification

        assert (verification and verification.status) == status

    def test_further_addresses_may_be_text_or_bodies(self, server: LocalClerk) -> None:
        odd = {"email_address": 5}
        user = server.add_user(email="a@example.com", email_addresses=["b@example.com", email_body("c@x.org"), odd])

        assert [entry["email_address"] for entry in user.data["email_addresses"]] == [
            "a@example.com",
            "b@example.com",
            "c@x.org",
            5,
        ]
        assert user.email == "a@example.com"

    def test_any_member_of_the_body_can_be_set_to_anything(self, server: LocalClerk, over_http: httpx.Client) -> None:
        user = server.add_user(banned="perhaps", brand_new={"a": [1]}, email_addresses=["a@example.com"])

        body = over_http.get(f"/v1/users/{user.id}").json()

        assert (body["banned"], body["brand_new"]) == ("perhaps", {"a": [1]})
        assert body["primary_email_address_id"] is None

    def test_an_update_shows_at_once_and_raises_updated_at(self, server: LocalClerk, over_http: httpx.Client) -> None:
        user = server.add_user(email="old@example.com", email_addresses=["kept@example.com"], updated_at=2**45)

        assert server.update_user(user, email="new@example.com", first_name="Ada") is user

        body = over_http.get(f"/v1/users/{user.id}").json()
        assert [entry["email_address"] for entry in body["email_addresses"]] == ["new@example.com", "kept@example.com"]
        assert (user.email, user.name) == ("new@example.com", "Ada")
        assert body["updated_at"] == 2**45 + 1

    def test_an_update_may_set_updated_at_back(self, server: LocalClerk) -> None:
        user = server.add_user()

        assert server.update_user(user.id, updated_at=5, verified=False).data["updated_at"] == 5

    def test_an_address_can_lose_its_verification(self, server: LocalClerk) -> None:
        user = server.add_user(email="ada@example.com")

        server.update_user(user, verified=False)

        assert user.email == "ada@example.com"
        assert user.data["email_addresses"][0]["verification"]["status"] == "unverified"

    def test_an_id_is_taken_once(self, server: LocalClerk) -> None:
        server.add_user(id="user_1")

        with pytest.raises(ValueError, match="user_1"):
            server.add_user(id="user_1")

    def test_nobody_is_updated_or_deleted_by_mistake(self, server: LocalClerk) -> None:
        with pytest.raises(LookupError, match="user_x"):
            server.update_user("user_x", first_name="X")
        with pytest.raises(LookupError, match="user_x"):
            server.delete_user("user_x")

    def test_the_body_that_is_handed_out_is_a_copy(self, server: LocalClerk) -> None:
        user = server.add_user()
        user.data["public_metadata"]["role"] = "admin"

        assert user.data["public_metadata"] == {}


class TestFaults:
    def test_down_drops_the_connection(self, server: LocalClerk, over_http: httpx.Client) -> None:
        server.faults.down()
        with pytest.raises(httpx.RemoteProtocolError, match="disconnected"):
            over_http.get("/v1/jwks")

        server.faults.clear()
        assert over_http.get("/v1/jwks").status_code == 200

    def test_a_stopped_server_refuses_connections_and_comes_back_on_its_port(self) -> None:
        server = LocalClerk()
        with server:
            url = server.url
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/v1/jwks")
        with server.start():  # a second start changes nothing
            assert server.url == url
            assert httpx.get(f"{url}/v1/jwks").status_code == 401

    def test_slow_answers_as_usual_but_late(self, server: LocalClerk, over_http: httpx.Client) -> None:
        server.faults.slow(0.3)
        started = time.monotonic()

        assert over_http.get("/v1/jwks").status_code == 200
        assert time.monotonic() - started >= 0.3

    def test_drip_sends_byte_after_byte_without_end(self, server: LocalClerk, over_http: httpx.Client) -> None:
        server.faults.drip(0.001)
        arrived = b""

        with over_http.stream("GET", "/v1/jwks") as answer:
            for piece in answer.iter_bytes():
                arrived += piece
                if len(arrived) >= 20:
                    break

        assert answer.status_code == 200
        assert arrived.strip() == b""

    def test_drip_drips_the_headers_too(self, server: LocalClerk) -> None:
        server.faults.drip(0.05)

        with connected(server) as connection:
            assert [connection.recv(100) for _ in range(4)] == [b"H", b"T", b"T", b"P"]

    def test_a_status_comes_with_headers_and_clerks_error_body(
        self, server: LocalClerk, over_http: httpx.Client
    ) -> None:
        server.faults.status(429, headers={"Retry-After": "7"})

        answer = over_http.get("/v1/users/user_1")

        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
        assert answer.json()["errors"][0]["code"] == "too_many_requests"

    def test_a_status_may_have_any_body_and_any_number(self, server: LocalClerk, over_http: httpx.Client) -> None:
        server.faults.status(599, body=b"<html>")

        answer = over_http.get("/v1/jwks")

        assert (answer.status_code, answer.content) == (599, b"<html>")

    def test_a_redirect_names_its_target_and_secrets_are_seen_to_follow(
        self, server: LocalClerk, over_http: httpx.Client
    ) -> None:
        server.faults.redirect(f"{server.url}/trap")

        assert over_http.get("/v1/jwks").headers["Location"] == f"{server.url}/trap"
        over_http.get("/v1/jwks", follow_redirects=True)

        assert server.calls.paths[-1].path == "/trap"
        assert server.calls.paths[-1].headers["authorization"] == "Bearer [hidden]"

    def test_a_fault_can_be_limited_to_a_path(self, server: LocalClerk, over_http: httpx.Client) -> None:
        server.faults.status(500)
        server.faults.status(503, path="/v1/users")

        assert over_http.get("/v1/users").status_code == 503
        assert over_http.get("/v1/users/user_1").status_code == 503
        assert over_http.get("/v1/jwks").status_code == 500
        assert over_http.get("/sign-in").status_code == 200

    def test_a_fault_can_be_limited_to_a_number_of_times(self, server: LocalClerk, over_http: httpx.Client) -> None:
        server.faults.status(500, times=2)
        server.faults.status(429, times=1, path="/v1/jwks")

        assert [over_http.get("/v1/jwks").status_code for _ in range(4)] == [500, 500, 429, 200]

    def test_a_later_fault_takes_the_place_of_an_earlier_one(self, server: LocalClerk, over_http: httpx.Client) -> None:
        server.faults.down()
        server.faults.status(500)

        assert over_http.get("/v1/jwks").status_code == 500

    def test_unknown_garbage_is_refused(self, server: LocalClerk) -> None:
        with pytest.raises(ValueError, match="wrong-types"):
            server.faults.garbage("nonsense")

    @pytest.mark.parametrize("kind", sorted(set(GARBAGE) - {"endless", "huge", "gzip-bomb"}))
    def test_garbage_is_of_no_use_to_the_sdk(self, server: LocalClerk, sdk: clerk_backend_api.Clerk, kind: str) -> None:
        server.faults.garbage(kind)

        with pytest.raises((ClerkBaseError, httpx.HTTPError, RecursionError, ValueError)):
            sdk.users.get(user_id="user_1")

    @pytest.mark.parametrize("kind", ["huge", "gzip-bomb"])
    def test_huge_garbage_is_fifty_megabytes_of_good_json(
        self, server: LocalClerk, over_http: httpx.Client, kind: str
    ) -> None:
        server.faults.garbage(kind)

        body = over_http.get("/v1/jwks").content

        assert len(body) >= 50 * 1024 * 1024
        assert set(json.loads(body)) == {"pad"}

    def test_endless_garbage_does_not_end(self, server: LocalClerk, over_http: httpx.Client) -> None:
        server.faults.garbage("endless")
        arrived = 0

        with over_http.stream("GET", "/v1/jwks") as answer:
            for piece in answer.iter_raw():
                arrived += len(piece)
                if arrived > 1_000_000:
                    break

        assert arrived > 1_000_000


class TestStopping:
    @pytest.mark.parametrize("fault", ["slow", "drip", "endless", "huge", "none"])
    def test_stop_does_not_wait_for_clients(self, fault: str) -> None:
        server = LocalClerk().start()
        faults = server.faults
        {
            "slow": lambda: faults.slow(60),
            "drip": lambda: faults.drip(60),
            "endless": lambda: faults.garbage("endless"),
            "huge": lambda: faults.garbage("huge"),
            "none": lambda: None,
        }[fault]()
        with connected(server):
            while not server.calls.total:
                time.sleep(0.01)
            started = time.monotonic()
            server.stop()
            assert time.monotonic() - started < 2
        server.stop()  # twice does no harm

    def test_stop_does_not_wait_for_clients_that_say_nothing(self) -> None:
        server = LocalClerk().start()
        with socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0)):
            while not server.calls.connections:
                time.sleep(0.01)
            server.stop()

    def test_a_client_that_leaves_early_is_no_error(
        self, server: LocalClerk, capfd: pytest.CaptureFixture[str]
    ) -> None:
        server.faults.drip(0.001)
        with connected(server) as connection:
            connection.recv(1)
        time.sleep(0.1)
        server.reset()

        assert capfd.readouterr().err == ""

    def test_a_mistake_in_the_answer_is_shown(
        self, server: LocalClerk, over_http: httpx.Client, capfd: pytest.CaptureFixture[str]
    ) -> None:
        server.respond("/v1/jwks", "text, where bytes belong")  # type: ignore[arg-type]  # the mistake

        with pytest.raises(httpx.TransportError):
            over_http.get("/v1/jwks")

        assert "TypeError" in capfd.readouterr().err


class TestCalls:
    def test_requests_are_counted_by_path(self, server: LocalClerk, over_http: httpx.Client) -> None:
        over_http.get("/v1/jwks")
        over_http.get("/v1/users/user_1")
        over_http.get("/v1/users/user_2?x=y")
        over_http.get("/v1/users/count")
        over_http.get("/v1/users?limit=3")
        over_http.get("/sign-in")

        calls = server.calls
        assert (calls.key_fetches, calls.user_fetches, calls.total) == (1, 2, 6)
        assert calls.count("/v1/users/{id}") == 3
        assert calls.count("/v1/users") == 1
        assert calls.count("/v1/users/user_2") == 1
        assert calls.paths[4][:2] == ("GET", "/v1/users?limit=3")

        calls.reset()
        assert (calls.total, calls.connections, calls.most_at_once) == (0, 0, 0)

    def test_requests_are_kept_without_their_secrets(self, server: LocalClerk, over_http: httpx.Client) -> None:
        over_http.get("/v1/jwks", headers={"Cookie": "__session=secret-cookie", "X-Odd": "kept"})
        over_http.get("/v1/jwks", headers={"Authorization": "secret-without-scheme"})

        shown = repr(server.calls.paths)
        assert server.secret_key not in shown
        assert "secret-" not in shown
        assert server.calls.paths[0].headers["x-odd"] == "kept"
        assert server.calls.paths[0].headers["authorization"] == "Bearer [hidden]"
        assert server.calls.paths[1].headers["authorization"] == "[hidden]"


class TestBeginningAgain:
    def test_a_reset_makes_another_instance(self, server: LocalClerk, over_http: httpx.Client) -> None:
        user = server.add_user()
        before = (server.secret_key, server.instance_id, server.url)
        server.faults.down()
        server.respond("/v1/jwks", b"")
        server.key_set_override([])

        server.reset()

        assert server.secret_key != before[0]
        assert server.instance_id != before[1]
        assert server.url == before[2]
        assert server.calls.total == 0
        headers = {"Authorization": f"Bearer {server.secret_key}"}
        assert over_http.get("/v1/jwks", headers=headers).json() == {"keys": [server.signing_key.jwk]}
        assert over_http.get(f"/v1/users/{user.id}", headers=headers).status_code == 404

    def test_a_server_that_never_started_can_be_reset_and_stopped(self) -> None:
        server = LocalClerk(secret_key="sk_test_mine")
        assert server.secret_key == "sk_test_mine"
        server.reset()
        server.stop()
        assert server.secret_key != "sk_test_mine"

    def test_it_listens_on_loopback_alone(self, server: LocalClerk) -> None:
        # On Linux all of 127.0.0.0/8 is this machine, so 127.0.0.2 answers to whoever listens on every address.
        with pytest.raises(OSError):  # noqa: PT011 - refused here, unreachable on other systems
            socket.create_connection(("127.0.0.2", urlsplit(server.url).port or 0), timeout=0.5)


def set_cookies(answer: httpx.Response) -> dict[str, tuple[str, set[str]]]:
    """Return the cookies that an answer sets: name to value and attributes."""
    cookies = {}
    for header in answer.headers.get_list("set-cookie"):
        pair, *attributes = header.split("; ")
        name, _, value = pair.partition("=")
        cookies[name] = (value, set(attributes))
    return cookies


class TestTheSignInPage:
    def test_it_lists_everybody_with_everything_escaped(self, server: LocalClerk, browser: httpx.Client) -> None:
        evil = "<script>alert('x')</script>\"&"
        server.add_user(email="ada@example.com", first_name="Ada", last_name="Lovelace")
        server.add_user(id='user_"><b>', email=f"{evil}@example.com", first_name=evil)

        page = browser.get("/sign-in", params={"redirect_url": f"http://127.0.0.1/?{evil}"})

        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert page.headers["Cache-Control"] == "no-store"
        assert "Ada Lovelace" in page.text
        assert "ada@example.com" in page.text
        assert "<script" not in page.text
        assert "<b>" not in page.text
        assert "&lt;script&gt;" in page.text

    def test_it_says_so_when_there_is_nobody(self, browser: httpx.Client) -> None:
        assert "add_user()" in browser.get("/sign-in").text

    def test_choosing_a_user_signs_in_and_goes_back(self, server: LocalClerk, browser: httpx.Client) -> None:
        user = server.add_user(email="ada@example.com")
        target = "http://127.0.0.1:8000/invoices?page=2&a=%2F#end"

        answer = browser.post("/sign-in", data={"user_id": user.id, "redirect_url": target})

        assert (answer.status_code, answer.headers["Location"]) == (303, target)
        cookies = set_cookies(answer)
        suffix = PublishableKey(server.publishable_key, "unused", False).cookie_suffix
        attributes = {"Path=/", "SameSite=Lax", "Max-Age=31536000"}
        for name in ("__session", "__client_uat", "__clerk_db_jwt"):
            assert cookies.pop(f"{name}_{suffix}") == cookies[name]
            assert cookies[name][1] == attributes
        assert cookies["__client"][1] == cookies[f"__refresh_{suffix}"][1] == {*attributes, "HttpOnly"}
        claims = claims_of(cookies["__session"][0], server.signing_key)
        assert (claims["sub"], claims["azp"]) == (user.id, "http://127.0.0.1:8000")
        assert claims["exp"] - claims["iat"] == 60
        assert claims["iat"] - int(cookies["__client_uat"][0]) in (0, 1)
        assert user.data["last_sign_in_at"] is not None

    def test_each_sign_in_is_a_session_of_its_own_with_the_lifetime_asked_for(self) -> None:
        with LocalClerk(session_lifetime=3600) as server, httpx.Client(base_url=server.url) as browser:
            user = server.add_user()
            tokens = [
                set_cookies(browser.post("/sign-in", data={"user_id": user.id}))["__session"][0] for _ in range(2)
            ]
            first, second = [claims_of(token, server.signing_key) for token in tokens]
            assert first["sid"] != second["sid"]
            assert first["exp"] - first["iat"] == 3600
            assert claims_of(server.token(user), server.signing_key)["sid"] == second["sid"]

    @pytest.mark.parametrize(
        "target",
        [
            "https://evil.example/",
            "http://evil.example/",
            "//evil.example/",
            "/invoices",
            "javascript:alert(1)",
            "http://localhost.evil.example/",
            "http://127.0.0.1.evil.example/",
            "http://localhost@evil.example/",
            "http://localhost:80@evil.example/",
            "http://user@localhost/",
            "http://localhost\\@evil.example/",
            "http://evil.example\\@localhost/",
            "http:\\\\evil.example/",
            " http://localhost/",
            "http://localhost\t.evil.example/",
            "http://[::1]/",
            "http://2130706433/",
            "https://localhost/",
            "HTTP://localhost/",
            "http://localhost:port/",
            "",
        ],
    )
    def test_it_leads_to_no_other_place_than_this_machine(
        self, server: LocalClerk, browser: httpx.Client, target: str
    ) -> None:
        user = server.add_user(email="ada@example.com")

        page = browser.get("/sign-in", params={"redirect_url": target})
        answer = browser.post("/sign-in", data={"user_id": user.id, "redirect_url": target})
        farewell = browser.post("/sign-out", data={"redirect_url": target})

        assert page.status_code == answer.status_code == farewell.status_code == 200
        assert "evil" not in page.text
        assert "You are signed in" in answer.text
        assert "__session" in set_cookies(answer)
        assert claims_of(set_cookies(answer)["__session"][0], server.signing_key)["azp"] == server.url
        assert "You are signed out" in farewell.text

    def test_line_breaks_do_not_get_into_the_headers(self, server: LocalClerk, browser: httpx.Client) -> None:
        user = server.add_user()
        target = "http://127.0.0.1/\r\nSet-Cookie: evil=1"

        answer = browser.post("/sign-in", data={"user_id": user.id, "redirect_url": target})

        assert answer.headers["Location"] == "http://127.0.0.1/%0D%0ASet-Cookie:%20evil=1"
        assert "evil" not in set_cookies(answer)

    def test_the_page_moves_to_the_host_name_of_the_application(
        self, server: LocalClerk, browser: httpx.Client
    ) -> None:
        user = server.add_user()
        target = "http://localhost:8000/a?b=c&d"

        page = browser.get("/sign-in", params={"redirect_url": target})
        there = urlsplit(page.headers["Location"])
        posted = browser.post("/sign-in", data={"user_id": user.id, "redirect_url": target})

        assert page.status_code == posted.status_code == 307
        assert (there.netloc, there.path) == (
            server.url.removeprefix("http://").replace("127.0.0.1", "localhost"),
            "/sign-in",
        )
        assert parse_qs(there.query) == {"redirect_url": [target]}
        assert posted.headers["Location"] == page.headers["Location"]
        assert not set_cookies(posted)
        host = {"Host": there.netloc}
        assert browser.get(f"/sign-in?{there.query}", headers=host).status_code == 200
        done = browser.post(f"/sign-in?{there.query}", data={"user_id": user.id}, headers=host)
        assert (done.status_code, done.headers["Location"]) == (303, target)

    def test_the_browser_that_an_application_names_is_the_one_that_signs_in(
        self, server: LocalClerk, browser: httpx.Client
    ) -> None:
        """Also where the page moves to another host name, which sees none of the cookies so far."""
        user = server.add_user()
        name = server.session_cookies(server.token(user))["__clerk_db_jwt"]

        moved = browser.get("/sign-in", params={"redirect_url": "http://localhost:8000/", "__clerk_db_jwt": name})
        page = browser.get(moved.headers["Location"])
        shown = browser.get("/sign-in", params={"__clerk_db_jwt": '"><b>'})
        done = browser.post(
            moved.headers["Location"].partition("?")[0], data={"user_id": user.id, "__clerk_db_jwt": name}
        )

        assert f'name="__clerk_db_jwt" value="{name}"' in page.text
        assert "<b>" not in shown.text
        assert set_cookies(done)["__clerk_db_jwt"][0] == name

    def test_a_satellite_s_visitors_sign_in_under_the_name_of_the_primary_site(
        self, server: LocalClerk, browser: httpx.Client
    ) -> None:
        user = server.add_user()
        target = "http://localhost:8000/a?b&__clerk_synced=false"

        page = browser.get("/sign-in", params={"redirect_url": target})
        answer = browser.post("/sign-in", data={"user_id": user.id, "redirect_url": target})

        assert page.status_code == 200
        assert (answer.status_code, answer.headers["Location"]) == (303, target)
        assert "__session" in set_cookies(answer)

    def test_signing_out_clears_the_cookies_and_goes_back(self, server: LocalClerk, browser: httpx.Client) -> None:
        answer = browser.post("/sign-out", data={"redirect_url": "http://127.0.0.1:8000/"})

        cookies = set_cookies(answer)
        assert (answer.status_code, answer.headers["Location"]) == (303, "http://127.0.0.1:8000/")
        assert cookies["__session"] == ("", {"Path=/", "Max-Age=0", "SameSite=Lax"})
        assert cookies[f"__session_{server.cookie_suffix}"] == cookies["__session"]
        assert cookies["__client_uat"][0] == cookies[f"__client_uat_{server.cookie_suffix}"][0] == "0"

    def test_signing_out_takes_a_post(self, browser: httpx.Client) -> None:
        answer = browser.get("/sign-out")

        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
        assert not set_cookies(answer)

    def test_an_unknown_user_does_not_get_in(self, browser: httpx.Client) -> None:
        answer = browser.post("/sign-in", data={"user_id": "user_x"})

        assert answer.status_code == 404
        assert "There is no such user" in answer.text
        assert not set_cookies(answer)

    @pytest.mark.parametrize("state", ["banned", "locked"])
    def test_a_banned_or_locked_user_does_not_get_in(
        self, server: LocalClerk, browser: httpx.Client, state: str
    ) -> None:
        user = server.add_user(email="ada@example.com", banned=state == "banned", locked=state == "locked")

        page = browser.get("/sign-in").text
        answer = browser.post("/sign-in", data={"user_id": user.id})

        assert re.search(rf"disabled>.*{state}", page)
        assert answer.status_code == 403
        assert not set_cookies(answer)


def drf_client() -> Any:
    """Return REST framework's client, where that is installed."""
    return pytest.importorskip("rest_framework.test").APIClient()


@pytest.fixture(scope="module")
def seen() -> list[tuple[str, str]]:
    """What earlier tests found."""
    return []


@pytest.mark.urls(__name__)
class TestTheFixtures:
    @staticmethod
    def ask(client: Any) -> Any:
        get = async_to_sync(client.get) if isinstance(client, AsyncClient) else client.get
        return get("/what-arrived").json()

    @pytest.fixture(params=[Client, AsyncClient, drf_client], ids=["sync", "async", "drf"])
    def any_client(self, request: pytest.FixtureRequest) -> Any:
        return request.param()

    def test_settings_point_at_the_server(self, local_clerk: LocalClerk) -> None:
        assert config().api_url == local_clerk.url
        assert config().secret_key == local_clerk.secret_key

    def test_each_test_finds_an_empty_server(self, local_clerk: LocalClerk, seen: list[tuple[str, str]]) -> None:
        assert not local_clerk.calls.total
        assert (local_clerk.secret_key, local_clerk.instance_id) not in seen
        seen.append((local_clerk.secret_key, local_clerk.instance_id))
        local_clerk.add_user(id="user_always_the_same")
        local_clerk.faults.down()
        caches["default"].set("left-over", 1)

    test_and_so_does_the_next = test_each_test_finds_an_empty_server

    def test_caches_in_this_process_are_emptied_and_others_are_not(
        self, settings: Any, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        settings.CACHES = {
            "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
            "shared": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": str(tmp_path)},
        }
        caches["default"].set("key", 1)
        caches["shared"].set("key", 1)

        request.getfixturevalue("local_clerk")

        assert (caches["default"].get("key"), caches["shared"].get("key")) == (None, 1)

    def test_a_client_signs_in_with_a_cookie(self, clerk: ClerkFixture, any_client: Any) -> None:
        user = clerk.add_user(email="ada@example.com")

        token = clerk.sign_in(any_client, user, sts="pending")

        arrived = self.ask(any_client)
        assert arrived["authorization"] is None
        assert arrived["cookies"]["__session"] == token
        names = {"__session", "__client_uat", "__clerk_db_jwt"}
        assert set(arrived["cookies"]) == names | {f"{name}_{clerk.server.cookie_suffix}" for name in names}
        assert claims_of(token, clerk.server.signing_key)["sts"] == "pending"
        assert int(arrived["cookies"]["__client_uat"]) <= time.time()

    def test_a_client_signs_in_with_a_bearer_token(self, clerk: ClerkFixture, any_client: Any) -> None:
        clerk.sign_in(any_client, "user_before")

        token = clerk.sign_in(any_client, "user_now", via="bearer")

        arrived = self.ask(any_client)
        assert arrived["authorization"] == f"Bearer {token}"
        assert arrived["cookies"] == {}

    @pytest.mark.parametrize("via", ["cookie", "bearer"])
    def test_a_client_signs_out(self, clerk: ClerkFixture, any_client: Any, via: Any) -> None:
        any_client.cookies["theme"] = "dark"
        clerk.sign_in(any_client, "user_1", via=via)

        clerk.sign_out(any_client)

        assert self.ask(any_client) == {"authorization": None, "cookies": {"theme": "dark"}}

    def test_another_scheme_in_the_authorization_header_stays(self, clerk: ClerkFixture) -> None:
        client = Client(headers={"Authorization": "Basic eDp5"})

        clerk.sign_in(client, "user_1")
        clerk.sign_out(client)

        assert self.ask(client)["authorization"] == "Basic eDp5"

    def test_the_sign_in_is_no_later_than_its_token(self, clerk: ClerkFixture) -> None:
        client = Client()

        clerk.sign_in(client, "user_1", issued_at=1000.5)

        assert client.cookies["__client_uat"].value == "1000"

    def test_tokens_are_those_of_the_server(self, clerk: ClerkFixture, local_clerk: LocalClerk) -> None:
        user = clerk.add_user(email="ada@example.com")

        assert clerk.server is local_clerk
        assert isinstance(user, LocalUser)
        assert claims_of(clerk.token(user, extra=1), local_clerk.signing_key)["extra"] == 1


def run_pytest(tmp_path: Path, *arguments: str, **files: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a small project that has nothing of ours but the plugin."""
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")  # or that of our own project would be found above
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    environment |= {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    return subprocess.run(
        [*command, "-p", "clerk_views.testing.fixtures", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


class TestOtherProjects:
    def test_a_project_without_django_settings_is_not_disturbed(self, tmp_path: Path) -> None:
        result = run_pytest(
            tmp_path,
            test_it="""
import sys
def test_nothing_heavy_is_loaded():
    assert not {"clerk_views.testing.server", "clerk_backend_api", "rest_framework"} & set(sys.modules)
""",
        )

        assert result.returncode == 0, result.stdout + result.stderr

    @pytest.mark.parametrize("plugins", [[], ["-p", "pytest_django.plugin"]], ids=["alone", "with pytest-django"])
    def test_the_fixtures_put_settings_back(self, tmp_path: Path, plugins: list[str]) -> None:
        with_its_fixture = """
def test_3(clerk, settings):
    inside(clerk)
    settings.CLERK_TIMEOUT_MS = 777

def test_4():
    afterwards()

def test_5(settings, clerk):
    inside(clerk)
    settings.CLERK_TIMEOUT_MS = 777

def test_6():
    afterwards()
"""
        result = run_pytest(
            tmp_path,
            *plugins,
            conftest="""
import django
from django.conf import settings
settings.configure(CLERK_SECRET_KEY="sk_test_before")
django.setup()
""",
            test_it="""
from django.conf import settings as now

def inside(clerk):
    assert now.CLERK_SECRET_KEY == clerk.server.secret_key
    assert now.CLERK_API_URL == clerk.server.url

def afterwards():
    assert now.CLERK_SECRET_KEY == "sk_test_before"
    assert not hasattr(now, "CLERK_API_URL")
    assert not hasattr(now, "CLERK_TIMEOUT_MS")

def test_1(clerk):
    inside(clerk)

def test_2():
    afterwards()
"""
            + (with_its_fixture if plugins else ""),
        )

        assert result.returncode == 0, result.stdout + result.stderr


class TestThePackage:
    def test_its_names_are_there(self) -> None:
        assert all(hasattr(clerk_views.testing, name) for name in clerk_views.testing.__all__)
        with pytest.raises(AttributeError, match="NoSuchName"):
            clerk_views.testing.NoSuchName  # noqa: B018 - the access is the test

    def test_nothing_in_the_library_imports_it(self) -> None:
        package = Path(clerk_views.testing.__file__).parents[1]
        others = [file for file in package.rglob("*.py") if "testing" not in file.relative_to(package).parts]

        assert others
        for file in others:
            assert not re.search(r"^\s*(?:from|import)\s.*\btesting\b", file.read_text(), re.MULTILINE), file
