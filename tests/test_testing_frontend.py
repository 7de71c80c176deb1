"""
The stand-in's Frontend API and its handshake, asked as a program asks; with keys of both kinds.

That Clerk's own scripts get along with it is shown in test_testing_browser.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Self
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import jwt
import pytest
import time_machine

from clerk_views.testing import LocalClerk, LocalSession, LocalUser

KINDS = [pytest.param(False, id="development"), pytest.param(True, id="production")]

#: Where the application under test would be.
ORIGIN = "http://127.0.0.1:8000"

NOT_LOCAL = [
    "https://evil.example",
    "http://127.0.0.1.evil.example",
    "http://localhost.evil.example:80",
    "http://localhost@evil.example",
    "http://evil.example#http://localhost",
    "http://127.0.0.2",
    "http://localhost:port",
    "null",
    "*",
    "",
]


@pytest.fixture(scope="module", params=KINDS)
def _clerk(request: pytest.FixtureRequest) -> Iterator[LocalClerk]:
    with LocalClerk(production=request.param) as started:
        yield started


@pytest.fixture
def clerk(_clerk: LocalClerk) -> LocalClerk:
    _clerk.reset()
    return _clerk


@pytest.fixture(scope="module")
def _development() -> Iterator[LocalClerk]:
    with LocalClerk() as started:
        yield started


@pytest.fixture
def development(_development: LocalClerk) -> LocalClerk:
    _development.reset()
    return _development


class Visit:
    """An HTTP client as a context manager, whether or not it has been used before."""

    http: httpx.Client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()


class Script(Visit):
    """What clerk-js does on a page of the application, in a browser of its own."""

    def __init__(self, clerk: LocalClerk, origin: str = ORIGIN) -> None:
        self.clerk = clerk
        self.http = httpx.Client(base_url=clerk.url, headers={"Origin": origin}, timeout=5, trust_env=False)
        self.query = {"__clerk_api_version": "2026-08-20", "_clerk_js_version": "6.40.0"}
        if not clerk.production:
            self.query["__clerk_db_jwt"] = self.http.post("/v1/dev_browser").json()["id"]

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self.http.get(f"/v1{path}", params={**self.query, **query})

    def post(self, path: str, method: str = "POST", /, **fields: Any) -> httpx.Response:
        query = {**self.query, **({} if method == "POST" else {"_method": method})}
        return self.http.post(f"/v1{path}", params=query, data=fields)

    def sign_in(self, identifier: str) -> str:
        """Sign in with a password, and return the id of the session."""
        begun = self.post("/client/sign_ins", identifier=identifier, locale="en-US").json()["response"]
        assert begun["status"] == "needs_first_factor"
        assert begun["supported_first_factors"] == [{"strategy": "password"}]
        path = f"/client/sign_ins/{begun['id']}/attempt_first_factor"
        done = self.post(path, strategy="password", password="whatever").json()["response"]
        assert done["status"] == "complete"
        session_id: str = done["created_session_id"]
        return session_id

    @property
    def client(self) -> Any:
        return self.get("/client").json()["response"]

    @property
    def session_ids(self) -> list[str]:
        return [session["id"] for session in self.client["sessions"]]


@pytest.fixture
def script(clerk: LocalClerk) -> Iterator[Script]:
    with Script(clerk) as script:
        yield script


@pytest.fixture
def ada(clerk: LocalClerk) -> LocalUser:
    return clerk.add_user(email="ada@example.com", username="ada", first_name="Ada", private_metadata={"a": 1})


@pytest.fixture
def session_id(script: Script, ada: LocalUser) -> str:
    return script.sign_in("ada@example.com")


def claims_of(token: str, clerk: LocalClerk) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(
        token, clerk.signing_key.public_pem, algorithms=["RS256"], options={"verify_aud": False}, leeway=5
    )
    return claims


def error_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["errors"][0]["code"]


def set_cookies(answer: httpx.Response) -> dict[str, str]:
    """Return the cookies that an answer sets: name to value and attributes."""
    return dict(header.split("=", 1) for header in answer.headers.get_list("set-cookie"))


def test_the_frontend_api_stands_below_a_path_of_its_own(clerk: LocalClerk) -> None:
    """And beside it, for programs that look at what was asked."""
    below = httpx.get(f"{clerk.url}/__clerk/v1/environment")
    assert below.json() == httpx.get(f"{clerk.url}/v1/environment").json()
    assert [call.path for call in clerk.calls.paths] == ["/v1/environment"] * 2
    assert httpx.get(f"{clerk.url}/__clerk/__clerk/v1/environment").status_code == 404
    assert httpx.get(f"{clerk.url}/__clerkv1/environment").status_code == 404


class TestBrowsers:
    def test_a_new_one_is_signed_out(self, script: Script) -> None:
        client = script.client
        assert (client["sessions"], client["last_active_session_id"]) == ([], None)

    @pytest.mark.parametrize("method", ["GET", "PATCH"])
    def test_the_instance_tells_of_itself(self, clerk: LocalClerk, script: Script, method: str) -> None:
        answer = script.get("/environment") if method == "GET" else script.post("/environment", method)

        environment = answer.json()
        assert environment["auth_config"] == {"single_session_mode": True}
        assert environment["organization_settings"] == {"enabled": True}
        assert environment["display_config"]["sign_in_url"] == f"{clerk.url}/sign-in"
        kind = "production" if clerk.production else "development"
        assert environment["display_config"]["instance_environment_type"] == kind

    @pytest.mark.parametrize("name", [None, "", "dvb_unknown"])
    def test_an_unknown_development_browser_has_to_ask_for_another(
        self, development: LocalClerk, name: str | None
    ) -> None:
        with Script(development) as script:
            del script.query["__clerk_db_jwt"]
            if name is not None:
                script.query["__clerk_db_jwt"] = name
            assert error_of(script.get("/client")) == (401, "dev_browser_unauthenticated")

    def test_with_a_production_key_there_are_no_development_browsers(self, clerk: LocalClerk, script: Script) -> None:
        answer = script.http.post("/v1/dev_browser")
        if clerk.production:
            assert error_of(answer) == (404, "resource_not_found")
        else:
            assert answer.json()["id"] != script.query["__clerk_db_jwt"]

    def test_each_has_its_own_session(self, clerk: LocalClerk, script: Script, session_id: str) -> None:
        with Script(clerk) as other:
            assert other.session_ids == []
            assert error_of(other.post(f"/client/sessions/{session_id}/tokens")) == (401, "authentication_invalid")
        assert script.session_ids == [session_id]

    def test_with_a_production_key_cookies_tell_who_it_is_and_when_that_changed(
        self, clerk: LocalClerk, script: Script, ada: LocalUser
    ) -> None:
        before = set_cookies(script.get("/client"))
        script.sign_in("ada")
        after = set_cookies(script.get("/client"))

        if clerk.production:
            for suffix in ("", f"_{clerk.cookie_suffix}"):
                assert before[f"__client_uat{suffix}"] == "0; Path=/; Max-Age=31536000; SameSite=Lax"
                assert abs(int(after[f"__client_uat{suffix}"].partition(";")[0]) - time.time()) < 5
            assert before["__client"].endswith("; HttpOnly")
            assert after["__client"] == before["__client"]
        else:
            assert not before.keys() & {"__client", "__client_uat"}
            assert not after

    def test_addresses_that_it_does_not_know_answer_in_clerks_form(self, script: Script) -> None:
        for answer in (
            script.get("/client/nowhere"),
            script.get("/me/nowhere"),
            script.post("/client"),
            script.get("/client/sessions", _method="DELETE"),  # a GET stays a GET
        ):
            assert error_of(answer) == (404, "resource_not_found")


class TestSigningIn:
    @pytest.mark.parametrize("identifier", ["ada@example.com", "ADA@Example.com ", "ada"])
    def test_whoever_is_named_is_signed_in(
        self, clerk: LocalClerk, script: Script, ada: LocalUser, identifier: str
    ) -> None:
        session_id = script.sign_in(identifier)

        (session,) = script.client["sessions"]
        assert script.client["last_active_session_id"] == session["id"] == session_id
        assert (session["status"], session["user"]["id"]) == ("active", ada.id)
        assert ada.data["last_sign_in_at"] is not None

    def test_name_and_password_may_come_together(self, script: Script, ada: LocalUser) -> None:
        answer = script.post("/client/sign_ins", identifier="ada", strategy="password", password="x").json()
        assert answer["response"]["status"] == "complete"
        assert [session["user"]["id"] for session in answer["client"]["sessions"]] == [ada.id]

    @pytest.mark.parametrize("identifier", ["", " ", "nobody@example.com", "None"])
    def test_somebody_unknown_is_not(self, script: Script, ada: LocalUser, identifier: str) -> None:
        answer = script.post("/client/sign_ins", identifier=identifier)
        assert error_of(answer) == (422, "form_identifier_not_found")

    def test_an_empty_password_will_not_do(self, script: Script, ada: LocalUser) -> None:
        begun = script.post("/client/sign_ins", identifier="ada").json()["response"]["id"]
        answer = script.post(f"/client/sign_ins/{begun}/attempt_first_factor", strategy="password", password="")
        assert error_of(answer) == (422, "form_password_incorrect")
        assert script.session_ids == []

    def test_a_sign_in_is_known_in_its_browser_only_and_works_once(
        self, clerk: LocalClerk, script: Script, ada: LocalUser
    ) -> None:
        begun = script.post("/client/sign_ins", identifier="ada").json()["response"]["id"]
        path = f"/client/sign_ins/{begun}/attempt_first_factor"
        with Script(clerk) as other:
            assert error_of(other.post(path, password="x")) == (404, "resource_not_found")
        assert script.post(path, password="x").status_code == 200
        assert error_of(script.post(path, password="x")) == (404, "resource_not_found")

    @pytest.mark.parametrize("state", ["banned", "locked"])
    def test_banned_and_locked_users_stay_out(self, clerk: LocalClerk, script: Script, state: str) -> None:
        clerk.update_user(clerk.add_user(username="eve"), **{state: True})
        answer = script.post("/client/sign_ins", identifier="eve", password="x")
        assert error_of(answer) == (403, f"user_{state}")
        assert script.session_ids == []

    def test_there_is_one_account_at_a_time(self, clerk: LocalClerk, script: Script, session_id: str) -> None:
        clerk.add_user(username="grace")
        second = script.sign_in("grace")
        assert script.session_ids == [second]
        assert error_of(script.post(f"/client/sessions/{session_id}/tokens")) == (401, "authentication_invalid")

    def test_the_page_and_the_scripts_share_the_browser(
        self, clerk: LocalClerk, script: Script, ada: LocalUser
    ) -> None:
        if not clerk.production:
            script.http.cookies.set("__clerk_db_jwt", script.query["__clerk_db_jwt"], domain="127.0.0.1")
        assert script.client["sessions"] == []

        script.http.post("/sign-in", data={"user_id": ada.id})
        assert [session["user"]["id"] for session in script.client["sessions"]] == [ada.id]

        script.http.post("/sign-out")
        assert script.client["sessions"] == []

    def test_scripts_that_come_later_find_the_browser_of_the_page(self, clerk: LocalClerk, ada: LocalUser) -> None:
        """A page without clerk-js leads to the sign-in page, and then to a page with it."""
        with httpx.Client(base_url=clerk.url, trust_env=False) as browser:
            browser.post("/sign-in", data={"user_id": ada.id})
            query = {} if clerk.production else {"__clerk_db_jwt": browser.cookies["__clerk_db_jwt"]}
            client = browser.get("/v1/client", params=query).json()["response"]
        assert [session["user"]["id"] for session in client["sessions"]] == [ada.id]

    def test_the_session_s_own_cookies_are_enough_to_sign_out_on_the_page(
        self, clerk: LocalClerk, ada: LocalUser
    ) -> None:
        token = clerk.session_token(clerk.open_session(ada), expires_in=-60)
        httpx.post(f"{clerk.url}/sign-out", cookies={f"__session_{clerk.cookie_suffix}": token}, trust_env=False)
        assert clerk.sessions(ada) == []

    def test_signing_out_on_the_page_without_having_signed_in_is_harmless(self, clerk: LocalClerk) -> None:
        answer = httpx.post(f"{clerk.url}/sign-out", trust_env=False)
        assert "You are signed out" in answer.text
        assert set_cookies(answer)["__client_uat"].startswith("0;")


class TestTheClient:
    def test_it_shows_the_user_and_nothing_private(
        self, clerk: LocalClerk, script: Script, ada: LocalUser, session_id: str
    ) -> None:
        acme = clerk.add_organization(name="Acme", roles={"org:admin": ["org:invoices:create"]})
        clerk.add_member(acme, ada, "org:admin")

        answer = script.get("/client")

        user = answer.json()["response"]["sessions"][0]["user"]
        assert (user["id"], user["first_name"]) == (ada.id, "Ada")
        assert user["email_addresses"][0]["id"] == user["primary_email_address_id"]
        (membership,) = user["organization_memberships"]
        assert (membership["role"], membership["permissions"]) == ("org:admin", ["org:invoices:create"])
        assert membership["organization"]["id"] == acme.id
        assert "private_metadata" not in answer.text

    def test_tokens_are_not_older_than_the_client(self, clerk: LocalClerk, script: Script, session_id: str) -> None:
        """clerk-js copies ``updated_at`` to __client_uat: an older token would lead to a handshake, again and again."""
        client = script.client
        claims = claims_of(client["sessions"][0]["last_active_token"]["jwt"], clerk)
        assert client["updated_at"] <= claims["iat"] * 1000
        assert abs(client["updated_at"] / 1000 - time.time()) < 5
        assert (claims["sid"], claims["azp"]) == (session_id, ORIGIN)
        time.sleep(1.1)
        assert script.client["updated_at"] == client["updated_at"]

    def test_a_user_whom_the_directory_does_not_know_has_an_id_at_least(self, development: LocalClerk) -> None:
        cookies = development.session_cookies(development.token("user_unknown"))
        query = {"__clerk_db_jwt": cookies["__clerk_db_jwt"]}
        with httpx.Client(base_url=development.url, params=query, trust_env=False) as browser:
            (session,) = browser.get("/v1/client").json()["response"]["sessions"]
            assert session["user"] == {"object": "user", "id": "user_unknown"}
            assert error_of(browser.get("/v1/me")) == (404, "resource_not_found")

    def test_the_cookies_of_a_session_lead_to_its_browser_with_a_development_key(self, clerk: LocalClerk) -> None:
        ada = clerk.add_user(username="ada")
        cookies = clerk.session_cookies(clerk.session_token(clerk.open_session(ada)))
        assert ("__clerk_db_jwt" in cookies) is not clerk.production
        if not clerk.production:
            assert cookies["__clerk_db_jwt"] == cookies[f"__clerk_db_jwt_{clerk.cookie_suffix}"]
            answer = httpx.get(f"{clerk.url}/v1/client", params={"__clerk_db_jwt": cookies["__clerk_db_jwt"]})
            assert [session["user"]["id"] for session in answer.json()["response"]["sessions"]] == [ada.id]

    def test_cookies_of_no_session_come_from_a_browser_of_their_own(self, development: LocalClerk) -> None:
        browsers = {development.session_cookies(token)["__clerk_db_jwt"] for token in ("", "not.a.token", "a" * 9)}
        browsers.add(development.session_cookies(development.token("user_a", sid=7))["__clerk_db_jwt"])
        assert len(browsers) == 4

    def test_details_can_be_asked_for(self, clerk: LocalClerk, script: Script, ada: LocalUser, session_id: str) -> None:
        for name in ("Acme", "Globex", "Initech"):
            clerk.add_member(clerk.add_organization(name=name), ada)

        assert script.get(f"/client/sessions/{session_id}").json()["response"]["id"] == session_id
        assert script.get("/me").json()["response"]["id"] == ada.id
        assert [each["id"] for each in script.get("/me/sessions/active").json()["response"]] == [session_id]
        page = script.get("/me/organization_memberships", paginated="true", limit=2, offset=1).json()["response"]
        assert [each["organization"]["name"] for each in page["data"]] == ["Globex", "Initech"]
        assert page["total_count"] == 3
        everything = script.get("/me/organization_memberships", limit="many").json()["response"]
        assert len(everything["data"]) == 3
        for kind in ("invitations", "suggestions"):
            answer = script.get(f"/me/organization_{kind}", status="pending")
            assert answer.json()["response"] == {"data": [], "total_count": 0}

    @pytest.mark.parametrize("path", ["/me", "/me/sessions/active", "/me/organization_memberships"])
    def test_nobody_has_no_details(self, script: Script, path: str) -> None:
        assert error_of(script.get(path)) == (401, "authentication_invalid")
        assert error_of(script.get("/me/organization_invitations")) == (401, "authentication_invalid")


class TestTokens:
    def test_each_is_another_for_the_page_that_asks(self, clerk: LocalClerk, script: Script, session_id: str) -> None:
        path = f"/client/sessions/{session_id}/tokens"
        first, second = [script.post(path, organization_id="", tab_state="focused").json() for _ in range(2)]
        assert first["jwt"] != second["jwt"]
        claims = claims_of(first["jwt"], clerk)
        assert (claims["sid"], claims["azp"], claims["exp"] - claims["iat"]) == (session_id, ORIGIN, 60)

    def test_programs_get_one_for_the_origin_of_the_session(
        self, clerk: LocalClerk, script: Script, session_id: str
    ) -> None:
        del script.http.headers["Origin"]
        token = script.post(f"/client/sessions/{session_id}/tokens").json()["jwt"]
        assert claims_of(token, clerk)["azp"] == ORIGIN

    def test_they_are_for_the_organisation_asked_for(
        self, clerk: LocalClerk, script: Script, ada: LocalUser, session_id: str
    ) -> None:
        acme, globex = clerk.add_organization(name="Acme"), clerk.add_organization(name="Globex")
        clerk.add_member(acme, ada, "org:admin")
        path = f"/client/sessions/{session_id}/tokens"

        answer = script.post(path, organization_id=acme.id)
        personal = script.post(path, organization_id="")

        assert claims_of(answer.json()["jwt"], clerk)["o"] == {"id": acme.id, "slg": "acme", "rol": "admin"}
        assert "o" not in claims_of(personal.json()["jwt"], clerk)
        assert error_of(script.post(path, organization_id=globex.id)) == (404, "resource_not_found")
        assert error_of(script.post(path, organization_id="org_unknown")) == (404, "resource_not_found")

    def test_an_organisation_becomes_active(
        self, clerk: LocalClerk, script: Script, ada: LocalUser, session_id: str
    ) -> None:
        acme, globex = clerk.add_organization(name="Acme"), clerk.add_organization(name="Globex")
        clerk.add_member(acme, ada)
        path = f"/client/sessions/{session_id}/touch"

        chosen = script.post(path, active_organization_id="acme", intent="select_org").json()
        untouched = script.post(path, intent="focus").json()
        refused = script.post(path, active_organization_id=globex.id)

        assert chosen["response"]["last_active_organization_id"] == acme.id
        assert chosen["client"]["sessions"][0]["last_active_organization_id"] == acme.id
        assert claims_of(chosen["response"]["last_active_token"]["jwt"], clerk)["o"]["id"] == acme.id
        assert untouched["response"]["last_active_organization_id"] == acme.id
        assert error_of(refused) == (404, "resource_not_found")
        personal = script.post(path, active_organization_id="").json()
        assert personal["response"]["last_active_organization_id"] is None

    def test_the_components_for_billing_consent_and_tasks_find_what_they_ask_for(
        self, script: Script, ada: LocalUser, session_id: str
    ) -> None:
        """That they are content with it is shown in test_browser_components.py."""
        assert script.get("/billing/plans", payer_type="user").json() == {"data": [], "total_count": 0}
        for name in ("payment_methods", "statements"):
            assert script.get(f"/me/billing/{name}").json() == {"response": {"data": [], "total_count": 0}}
        subscription = script.get("/me/billing/subscription").json()["response"]
        assert (subscription["status"], subscription["subscription_items"]) == ("active", [])
        query = {"scope": "profile email", "redirect_uri": "https://client.example/back"}
        consent = script.get("/me/oauth/consent/client_1", **query).json()["response"]
        assert (consent["client_id"], consent["redirect_domain"]) == ("client_1", "client.example")
        assert [each["scope"] for each in consent["scopes"]] == ["profile", "email"]
        totp = script.post("/me/totp").json()["response"]
        assert f"secret={totp['secret']}" in totp["uri"]

    def test_they_live_as_long_as_asked_for(self, ada_on_a_short_one: tuple[Script, str]) -> None:
        script, session_id = ada_on_a_short_one
        token = script.post(f"/client/sessions/{session_id}/tokens").json()["jwt"]
        claims = claims_of(token, script.clerk)
        assert claims["exp"] - claims["iat"] == 4

    @pytest.fixture
    def ada_on_a_short_one(self) -> Iterator[tuple[Script, str]]:
        with LocalClerk(session_lifetime=4) as clerk:
            clerk.add_user(username="ada")
            with Script(clerk) as script:
                yield script, script.sign_in("ada")

    def test_a_session_revoked_from_outside_gives_no_more(
        self, clerk: LocalClerk, script: Script, ada: LocalUser, session_id: str
    ) -> None:
        clerk.update_user(ada, banned=True)
        assert error_of(script.post(f"/client/sessions/{session_id}/tokens")) == (401, "authentication_invalid")
        assert script.session_ids == []


class TestSigningOut:
    def test_all_sessions_end(self, clerk: LocalClerk, script: Script, session_id: str) -> None:
        answer = script.post("/client/sessions", "DELETE")

        assert answer.json()["response"]["sessions"] == []
        assert answer.json()["client"] is None
        assert set_cookies(answer)[f"__refresh_{clerk.cookie_suffix}"].startswith("; Path=/; Max-Age=0;")
        if clerk.production:
            assert set_cookies(answer)["__client_uat"].startswith("0;")
        assert script.session_ids == []
        assert error_of(script.post(f"/client/sessions/{session_id}/tokens")) == (401, "authentication_invalid")

    @pytest.mark.parametrize(("path", "status"), [("end", "ended"), ("remove", "removed")])
    def test_one_session_ends(self, script: Script, session_id: str, path: str, status: str) -> None:
        answer = script.post(f"/client/sessions/{session_id}/{path}").json()

        assert (answer["response"]["id"], answer["response"]["status"]) == (session_id, status)
        assert answer["client"]["sessions"] == []
        assert error_of(script.post(f"/client/sessions/{session_id}/{path}")) == (401, "authentication_invalid")

    def test_the_browser_is_forgotten_if_it_wishes(self, clerk: LocalClerk, script: Script, session_id: str) -> None:
        assert script.post("/client", "DELETE").json()["response"]["sessions"] == []
        if clerk.production:
            assert script.session_ids == []
        else:
            assert error_of(script.get("/client")) == (401, "dev_browser_unauthenticated")


class TestOtherSites:
    """Pages of other sites get at nothing, though the stand-in asks for no password (RED-08)."""

    @pytest.mark.parametrize("origin", ["http://127.0.0.1:8000", "http://localhost", "https://localhost:8443"])
    def test_pages_of_this_machine_may_read_every_answer(self, clerk: LocalClerk, script: Script, origin: str) -> None:
        clerk.faults.status(500, path="/v1/client/sessions/sess_1/tokens")
        script.http.headers["Origin"] = origin
        for answer in (
            script.get("/client"),
            script.get("/client/nowhere"),
            script.post("/client/sessions/sess_1/tokens"),
            script.http.get("/npm/@clerk/clerk-js@6/dist/clerk.browser.js"),
        ):
            assert answer.headers["Access-Control-Allow-Origin"] == origin
            assert answer.headers["Access-Control-Allow-Credentials"] == "true"
            assert "Clerk-Db-Jwt" in answer.headers["Access-Control-Expose-Headers"]
            assert answer.headers["Vary"] == "Origin"

    @pytest.mark.parametrize("origin", NOT_LOCAL)
    def test_other_pages_may_read_and_do_nothing(
        self, clerk: LocalClerk, script: Script, ada: LocalUser, origin: str
    ) -> None:
        script.http.headers["Origin"] = origin
        for answer in (
            script.get("/client"),
            script.get("/environment"),
            script.http.post("/v1/dev_browser"),
            script.post("/client/sign_ins", identifier="ada", password="x"),
        ):
            assert error_of(answer) == (400, "origin_invalid")
            assert not [name for name in answer.headers if name.startswith("access-control-")]
            assert not answer.headers.get_list("set-cookie")
        script.http.headers["Origin"] = ORIGIN
        assert script.session_ids == []

    def test_the_backend_api_is_for_no_page_at_all(self, clerk: LocalClerk, script: Script) -> None:
        answer = script.http.get("/v1/users", headers={"Authorization": f"Bearer {clerk.secret_key}"})
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("access-control-")]

    def test_the_frontend_api_is_not_the_backend_api(self, clerk: LocalClerk, script: Script) -> None:
        for path in ("/v1/clients/handshake_payload", "/v1/jwks", "/v1/menu", "/v1/users"):
            assert error_of(script.http.get(path)) == (401, "clerk_key_invalid")

    def test_calls_remember_no_secret(self, clerk: LocalClerk, script: Script, session_id: str) -> None:
        token = script.post(f"/client/sessions/{session_id}/tokens").json()["jwt"]
        script.get("/client/handshake", redirect_url=ORIGIN, __session=token, organization_id="org_1")
        script.http.get("/v1/clients/handshake_payload?nonce=abc")

        shown = repr(clerk.calls.paths)

        assert token not in shown
        assert "nonce=abc" not in shown
        assert script.query.get("__clerk_db_jwt", token) not in shown
        assert "organization_id=org_1" in shown
        assert clerk.calls.count("/v1/client/handshake") == 1


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalClerk]:
    """A stand-in with a folder of scripts, and with files around them that nobody shall get."""
    folder = tmp_path_factory.mktemp("packages")
    for package in ("clerk-js", "ui", "other"):
        dist = folder / "node_modules" / "@clerk" / package / "dist"
        (dist / "folder.js").mkdir(parents=True)
        (dist / "main.browser_6.40.0.js").write_text(f"/* {package} */")
        for name in ("../secret.js", ".hidden.js", "page.html"):
            (dist / name).write_text("secret")
    with LocalClerk(packages=str(folder)) as clerk:
        yield clerk


class TestTheScripts:
    @pytest.mark.parametrize("selector", ["6", "6.40.0", "latest", "1"])
    @pytest.mark.parametrize("package", ["clerk-js", "ui"])
    def test_any_selector_leads_to_the_folder(self, serving: LocalClerk, package: str, selector: str) -> None:
        answer = httpx.get(f"{serving.url}/npm/@clerk/{package}@{selector}/dist/main.browser_6.40.0.js")
        assert (answer.status_code, answer.text) == (200, f"/* {package} */")
        assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"

    @pytest.mark.parametrize(
        "path",
        [
            "/npm/@clerk/clerk-js@6/dist/missing.js",
            "/npm/@clerk/clerk-js@6/dist/folder.js",
            "/npm/@clerk/clerk-js@6/dist/page.html",
            "/npm/@clerk/clerk-js@6/dist/.hidden.js",
            "/npm/@clerk/clerk-js@6/dist/../secret.js",
            "/npm/@clerk/clerk-js@6/dist/%2e%2e/secret.js",
            "/npm/@clerk/clerk-js@6/dist/..%2fsecret.js",
            "/npm/@clerk/clerk-js@6/dist/..\\secret.js",
            "/npm/@clerk/clerk-js@6/secret.js",
            "/npm/@clerk/clerk-js@../../other@1/dist/main.browser_6.40.0.js",
            "/npm/@clerk/other@1/dist/main.browser_6.40.0.js",
            "/npm/@clerk/clerk-js/dist/main.browser_6.40.0.js",
            "/npm/",
        ],
    )
    def test_nothing_else_does(self, serving: LocalClerk, path: str) -> None:
        # As it stands: httpx's own URLs would be tidied up.
        url = httpx.URL(serving.url).copy_with(raw_path=path.encode())
        answer = httpx.get(url)
        assert (answer.status_code, answer.text) == (404, "")

    def test_without_a_folder_there_are_none(self, clerk: LocalClerk) -> None:
        answer = httpx.get(f"{clerk.url}/npm/@clerk/clerk-js@6/dist/main.browser_6.40.0.js")
        assert answer.status_code == 404


class Browser(Visit):
    """A browser that the application sends to the handshake, with the application's cookies or without."""

    def __init__(self, clerk: LocalClerk) -> None:
        self.clerk = clerk
        self.http = httpx.Client(base_url=clerk.url, timeout=5, trust_env=False)

    def sign_in(self, user: LocalUser) -> None:
        self.http.post("/sign-in", data={"user_id": user.id})

    def handshake(self, redirect_url: str = f"{ORIGIN}/invoices?page=2#end", **query: Any) -> httpx.Response:
        parameters = {"redirect_url": redirect_url, "suffixed_cookies": "true", "format": "nonce", **query}
        if not self.clerk.production and "__clerk_db_jwt" in self.http.cookies:
            parameters.setdefault("__clerk_db_jwt", self.http.cookies["__clerk_db_jwt"])
        return self.http.get("/v1/client/handshake", params=parameters)

    def brought_back(self, answer: httpx.Response) -> tuple[str, str]:
        """Return the name and the value with which the browser comes back, from where its kind of key puts them."""
        assert answer.status_code == 307
        if self.clerk.production:
            cookies = set_cookies(answer)
            (name,) = [name for name in cookies if name.startswith("__clerk_handshake")]
            value, _, attributes = cookies[name].partition(";")
            assert attributes == " Path=/; Max-Age=60; SameSite=Lax; HttpOnly"
            assert answer.headers["Location"] == f"{ORIGIN}/invoices?page=2#end"
            return name, value
        back = urlsplit(answer.headers["Location"])
        assert f"{back.scheme}://{back.netloc}{back.path}#{back.fragment}" == f"{ORIGIN}/invoices#end"
        (page, found) = parse_qsl(back.query)
        assert page == ("page", "2")
        return found

    def directives(self, answer: httpx.Response) -> list[str]:
        """Take up a handshake as the application does, and return what it shall set."""
        name, value = self.brought_back(answer)
        if name == "__clerk_handshake":
            claims = claims_of(value, self.clerk)
            assert jwt.get_unverified_header(value)["cat"] == "cl_B7d4PD111AAA"
            handshake: list[str] = claims["handshake"]
            return handshake
        assert name == "__clerk_handshake_nonce"
        taken = payload(self.clerk, value)
        assert taken.status_code == 200
        directives: list[str] = taken.json()["directives"]
        return directives

    def outcome(self, answer: httpx.Response) -> dict[str, str]:
        """Return the values of the cookies that the application shall set."""
        return {name: rest.partition(";")[0] for name, _, rest in (d.partition("=") for d in self.directives(answer))}


def payload(clerk: LocalClerk, nonce: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {clerk.secret_key}"}
    return httpx.get(f"{clerk.url}/v1/clients/handshake_payload", params={"nonce": nonce}, headers=headers)


@pytest.fixture
def browser(clerk: LocalClerk) -> Iterator[Browser]:
    with Browser(clerk) as browser:
        yield browser


class TestTheHandshake:
    @pytest.mark.parametrize("format", ["nonce", "token", ""])
    def test_it_brings_fresh_cookies(self, clerk: LocalClerk, browser: Browser, ada: LocalUser, format: str) -> None:
        browser.sign_in(ada)

        answer = browser.handshake(format=format)

        assert browser.brought_back(answer)[0] == f"__clerk_handshake{'_nonce' if format == 'nonce' else ''}"
        assert (answer.headers["Cache-Control"], answer.headers["Referrer-Policy"]) == ("no-store", "no-referrer")
        cookies = browser.outcome(answer) if format != "nonce" else browser.outcome(browser.handshake())
        suffix = clerk.cookie_suffix
        claims = claims_of(cookies["__session"], clerk)
        assert (claims["sub"], claims["azp"]) == (ada.id, ORIGIN)
        assert int(cookies["__client_uat"]) <= claims["iat"]
        assert cookies[f"__session_{suffix}"] == cookies["__session"]
        assert cookies[f"__client_uat_{suffix}"] == cookies["__client_uat"]
        assert cookies[f"__refresh_{suffix}"]
        if clerk.production:
            assert cookies[f"__clerk_handshake{'_nonce' if format == 'nonce' else ''}"] == ""
            assert "__clerk_db_jwt" not in cookies
        else:
            assert cookies["__clerk_db_jwt"] == browser.http.cookies["__clerk_db_jwt"]

    def test_directives_are_cookies_for_the_whole_host(self, browser: Browser, ada: LocalUser) -> None:
        browser.sign_in(ada)
        for directive in browser.directives(browser.handshake()):
            pair, path, lifetime, same_site, *hidden = directive.split("; ")
            assert (path, same_site) == ("Path=/", "SameSite=Lax")
            assert lifetime == ("Max-Age=0" if pair.endswith("=") else "Max-Age=31536000")
            assert hidden == (["HttpOnly"] if pair.startswith(("__refresh", "__clerk_handshake")) else [])

    def test_names_are_plain_where_the_application_uses_those(
        self, clerk: LocalClerk, browser: Browser, ada: LocalUser
    ) -> None:
        browser.sign_in(ada)
        cookies = browser.outcome(browser.handshake(suffixed_cookies="false"))
        suffixed = [name for name in cookies if name.endswith(clerk.cookie_suffix)]
        assert suffixed == [f"__refresh_{clerk.cookie_suffix}"]
        assert {"__session", "__client_uat"} <= cookies.keys()

    def test_nobody_comes_back_signed_out(self, clerk: LocalClerk, browser: Browser) -> None:
        answer = browser.handshake()
        cookies = browser.outcome(answer)
        assert cookies["__session"] == cookies[f"__session_{clerk.cookie_suffix}"] == ""
        assert cookies["__client_uat"] == cookies[f"__client_uat_{clerk.cookie_suffix}"] == "0"
        assert set_cookies(answer)["__client"].endswith("HttpOnly")

    def test_a_browser_that_is_new_with_a_development_key_gets_a_name_that_the_scripts_can_use(
        self, development: LocalClerk
    ) -> None:
        ada = development.add_user(username="ada")
        with Browser(development) as browser, Script(development) as script:
            script.query["__clerk_db_jwt"] = browser.outcome(browser.handshake())["__clerk_db_jwt"]
            script.sign_in("ada")
            again = browser.outcome(browser.handshake(__clerk_db_jwt=script.query["__clerk_db_jwt"]))
        assert claims_of(again["__session"], development)["sub"] == ada.id

    @pytest.mark.parametrize("wanted", ["id", "slug"])
    def test_it_switches_to_the_organisation_asked_for(
        self, clerk: LocalClerk, browser: Browser, ada: LocalUser, wanted: str
    ) -> None:
        acme, other = clerk.add_organization(name="Acme"), clerk.add_organization(name="Other")
        clerk.add_member(acme, ada)
        browser.sign_in(ada)

        def active(**query: str) -> Any:
            token = browser.outcome(browser.handshake(**query))["__session"]
            return claims_of(token, clerk).get("o", {}).get("id")

        assert active() is None
        assert active(organization_id=getattr(acme, wanted)) == acme.id
        assert active() == acme.id
        assert active(organization_id=getattr(other, wanted)) == acme.id  # no member there
        assert active(organization_id="") is None

    def test_asking_for_an_organisation_signs_nobody_in(self, browser: Browser) -> None:
        assert browser.outcome(browser.handshake(organization_id="org_1"))["__session"] == ""

    @pytest.mark.parametrize(
        "target",
        [
            "",
            "/invoices",
            "https://evil.example/",
            "//evil.example/",
            "http://127.0.0.1.evil.example/",
            "http://localhost@evil.example/",
            "http://localhost\\@evil.example/",
            "http://testserver/",
            "javascript:alert(1)",
        ],
    )
    def test_it_leads_to_no_other_place_than_this_machine(self, browser: Browser, ada: LocalUser, target: str) -> None:
        """RED-01."""
        browser.sign_in(ada)
        answer = browser.handshake(target)
        assert error_of(answer) == (400, "form_param_value_invalid")
        assert "Location" not in answer.headers
        assert not set_cookies(answer)

    def test_it_moves_to_the_host_name_of_the_application(self, clerk: LocalClerk, browser: Browser) -> None:
        answer = browser.handshake("http://localhost:8000/a?b=c&d=e", organization_id="")

        there = urlsplit(answer.headers["Location"])
        port = urlsplit(clerk.url).port
        assert (answer.status_code, there.netloc, there.path) == (307, f"localhost:{port}", "/v1/client/handshake")
        query = parse_qs(there.query, keep_blank_values=True)
        assert query["redirect_url"] == ["http://localhost:8000/a?b=c&d=e"]
        assert query["organization_id"] == [""]
        arrived = httpx.get(answer.headers["Location"], trust_env=False)
        assert arrived.headers["Location"].startswith("http://localhost:8000/a?b=c&d=e")
        assert not set_cookies(answer)

    def test_with_a_production_key_another_host_name_finds_the_same_browser(self) -> None:
        """As Clerk's Frontend API does, which all of an instance's domains ask under one name."""
        with LocalClerk(production=True) as clerk, Browser(clerk) as browser:
            target = "http://localhost:8000/"
            user = clerk.add_user()

            def there() -> str:
                moved = browser.handshake(redirect_url=target)
                assert urlsplit(moved.headers["Location"]).hostname == "localhost"
                answer = browser.http.get(moved.headers["Location"])
                assert answer.headers["Location"] == target
                directives = payload(clerk, set_cookies(answer)["__clerk_handshake_nonce"].partition(";")[0]).json()
                found = dict(d.partition(";")[0].split("=", 1) for d in directives["directives"])
                return found["__session"] and str(claims_of(found["__session"], clerk)["sub"])

            assert there() == ""
            browser.sign_in(user)
            assert there() == user.id
            other = clerk.add_user()
            browser.http.post(f"http://localhost:{urlsplit(clerk.url).port}/sign-in", data={"user_id": other.id})
            assert there() == other.id

    def test_under_another_name_it_asks_itself_under_its_own(self) -> None:
        """As a satellite's Frontend API asks that of the primary domain; once, and only where nobody is signed in."""
        with LocalClerk(production=True) as clerk, Browser(clerk) as browser:
            there = f"http://localhost:{urlsplit(clerk.url).port}/__clerk/v1/client/handshake"
            asked = {"redirect_url": "http://localhost:8000/"}

            def hosts() -> list[str | None]:
                answer = browser.http.get(there, params=asked, follow_redirects=False)
                seen = []
                while answer.headers["Location"] != "http://localhost:8000/":
                    seen.append(urlsplit(answer.headers["Location"]).hostname)
                    answer = browser.http.get(answer.headers["Location"])
                return seen

            assert hosts() == ["127.0.0.1", "localhost"]
            browser.sign_in(clerk.add_user())
            assert hosts() == ["127.0.0.1", "localhost"]
            assert hosts() == []

    def test_a_satellite_s_script_comes_back_with_word_that_it_was_done(
        self, clerk: LocalClerk, browser: Browser, ada: LocalUser
    ) -> None:
        browser.sign_in(ada)
        target = f"{ORIGIN}/?a=1&__clerk_synced=false&b"
        answer = browser.http.get("/v1/client/sync", params={"redirect_url": target})
        assert answer.status_code == 307
        assert answer.headers["Location"].startswith(f"{ORIGIN}/?a=1&b&__clerk_synced=true")
        assert ("&__clerk_handshake=" in answer.headers["Location"]) is not clerk.production
        assert ("__clerk_handshake" in set_cookies(answer)) is clerk.production

    def test_a_satellite_is_told_which_browser_has_come(self, development: LocalClerk) -> None:
        with Browser(development) as browser:
            browser.sign_in(development.add_user())
            target = "http://localhost:8000/?a=1&__clerk_synced=false"
            answer = browser.http.get("/sign-in", params={"__clerk_redirect_url": target})

            back = urlsplit(answer.headers["Location"])
            assert (answer.status_code, back.netloc) == (307, "localhost:8000")
            name = browser.http.cookies["__clerk_db_jwt"]
            assert parse_qs(back.query) == {"a": ["1"], "__clerk_db_jwt": [name], "__clerk_synced": ["true"]}

    def test_a_browser_that_nobody_knew_gets_a_name_for_the_satellite(self, development: LocalClerk) -> None:
        with Browser(development) as browser:
            target = {"__clerk_redirect_url": "http://localhost:8000/"}
            found = [urlsplit(browser.http.get("/sign-in", params=target).headers["Location"]).query for _ in range(2)]
            assert found[0] == found[1]
            assert "__clerk_db_jwt=dvb_" in found[0]

    @pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example/", ""])
    def test_no_other_place_is_told_of_the_browser(self, development: LocalClerk, target: str) -> None:
        """RED-01."""
        with Browser(development) as browser:
            answer = browser.http.get("/sign-in", params={"__clerk_redirect_url": target})
            assert error_of(answer) == (400, "form_param_value_invalid")

    def test_with_a_production_key_no_satellite_is_told_of_the_browser(self) -> None:
        with LocalClerk(production=True) as clerk, Browser(clerk) as browser:
            answer = browser.http.get("/sign-in", params={"__clerk_redirect_url": "http://localhost:8000/"})
            assert error_of(answer) == (400, "form_param_value_invalid")

    def test_a_nonce_works_once_and_with_the_secret_key(
        self, clerk: LocalClerk, browser: Browser, ada: LocalUser
    ) -> None:
        browser.sign_in(ada)
        _, nonce = browser.brought_back(browser.handshake())

        refused = httpx.get(f"{clerk.url}/v1/clients/handshake_payload", params={"nonce": nonce})
        assert error_of(refused) == (401, "clerk_key_invalid")
        assert payload(clerk, nonce).status_code == 200
        assert error_of(payload(clerk, nonce)) == (400, "invalid_nonce")

    @pytest.mark.parametrize("nonce", ["", "unknown", "x" * 4000])
    def test_an_unknown_nonce_is_refused(self, clerk: LocalClerk, nonce: str) -> None:
        assert error_of(payload(clerk, nonce)) == (400, "invalid_nonce")

    def test_a_nonce_grows_old(self, clerk: LocalClerk, browser: Browser) -> None:
        _, nonce = browser.brought_back(browser.handshake())
        with time_machine.travel(time.time() + 61):
            assert error_of(payload(clerk, nonce)) == (400, "invalid_nonce")

    def test_a_reset_forgets_browsers_and_handshakes(self, clerk: LocalClerk, browser: Browser, ada: LocalUser) -> None:
        browser.sign_in(ada)
        _, nonce = browser.brought_back(browser.handshake())
        clerk.reset()
        assert error_of(payload(clerk, nonce)) == (400, "invalid_nonce")
        assert browser.outcome(browser.handshake())["__session"] == ""


class TestRefreshing:
    @pytest.fixture
    def cookies(self, browser: Browser, ada: LocalUser) -> dict[str, str]:
        browser.sign_in(ada)
        return browser.outcome(browser.handshake())

    def refresh(
        self, clerk: LocalClerk, cookies: dict[str, str], session_id: str | None = None, query: str = "", **fields: Any
    ) -> httpx.Response:
        session_id = session_id or claims_of(cookies["__session"], clerk)["sid"]
        body = {
            "format": "cookie",
            "expired_token": cookies["__session"],
            "refresh_token": cookies[f"__refresh_{clerk.cookie_suffix}"],
            "request_origin": "http://localhost:3000",
            "request_headers": {},
            **fields,
        }
        return httpx.post(
            f"{clerk.url}/v1/sessions/{session_id}/refresh{query}",
            headers={"Authorization": f"Bearer {clerk.secret_key}"},
            json=body,
        )

    def test_it_brings_a_fresh_token_as_a_cookie(
        self, clerk: LocalClerk, ada: LocalUser, cookies: dict[str, str]
    ) -> None:
        plain = self.refresh(clerk, cookies).json()
        suffixed = self.refresh(clerk, cookies, query="?suffixed_cookies=true").json()

        assert plain["object"] == suffixed["object"] == "cookies"
        names = [directive.partition("=")[0] for directive in suffixed["cookies"]]
        suffix = clerk.cookie_suffix
        assert names == ["__session", f"__session_{suffix}", f"__refresh_{suffix}"]
        assert [directive.partition("=")[0] for directive in plain["cookies"]] == ["__session", f"__refresh_{suffix}"]
        token = plain["cookies"][0].partition("=")[2].partition(";")[0]
        assert token != cookies["__session"]
        claims = claims_of(token, clerk)
        assert (claims["sub"], claims["azp"]) == (ada.id, "http://localhost:3000")

    @pytest.mark.parametrize("fields", [{"format": "token"}, {"format": None}], ids=["token", "default"])
    def test_or_as_the_token_alone(self, clerk: LocalClerk, cookies: dict[str, str], fields: Any) -> None:
        answer = self.refresh(clerk, cookies, request_origin=None, **fields).json()
        assert answer["object"] == "token"
        assert claims_of(answer["jwt"], clerk)["azp"] == clerk.url  # where the page was on which ada signed in

    @pytest.mark.parametrize(
        "fields",
        [
            {"refresh_token": "unknown"},
            {"refresh_token": ""},
            {"refresh_token": None},
            {"refresh_token": ["a"]},
            {"expired_token": "garbage"},
            {"expired_token": None},
            {"session_id": "sess_other"},
        ],
        ids=str,
    )
    def test_it_takes_what_belongs_together(
        self, clerk: LocalClerk, cookies: dict[str, str], fields: dict[str, Any]
    ) -> None:
        assert error_of(self.refresh(clerk, cookies, **fields)) == (401, "authentication_invalid")

    def test_a_token_of_another_session_will_not_do(
        self, clerk: LocalClerk, ada: LocalUser, cookies: dict[str, str]
    ) -> None:
        other = clerk.session_token(clerk.open_session(ada))
        assert error_of(self.refresh(clerk, cookies, expired_token=other)) == (401, "authentication_invalid")

    @pytest.mark.parametrize("end", [LocalSession.end, LocalSession.remove, LocalSession.revoke])
    def test_a_session_that_is_over_is_not_renewed(
        self, clerk: LocalClerk, ada: LocalUser, cookies: dict[str, str], end: Any
    ) -> None:
        for session in clerk.sessions(ada):
            end(session)
        assert error_of(self.refresh(clerk, cookies)) == (401, "authentication_invalid")

    @pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"[" * 200_000, b"\xff"], ids=repr)
    def test_nonsense_is_refused_like_the_rest(self, clerk: LocalClerk, body: bytes) -> None:
        headers = {"Authorization": f"Bearer {clerk.secret_key}"}
        answer = httpx.post(f"{clerk.url}/v1/sessions/sess_1/refresh", headers=headers, content=body)
        assert error_of(answer) == (401, "authentication_invalid")
