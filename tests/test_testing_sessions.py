"""The stand-in's sessions: what is remembered between two tokens, and how a session ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import clerk_backend_api
import httpx
import jwt
import pytest
from clerk_backend_api.models import ClerkErrors

from clerk_views.testing import LocalClerk, LocalSession


@pytest.fixture
def server() -> LocalClerk:
    """A stand-in that does not even listen."""
    return LocalClerk(port=1)


@pytest.fixture
def sdk(local_clerk: LocalClerk) -> Iterator[clerk_backend_api.Clerk]:
    with clerk_backend_api.Clerk(
        bearer_auth=local_clerk.secret_key, server_url=f"{local_clerk.url}/v1", retry_config=None
    ) as sdk:
        yield sdk


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


class TestItsTokens:
    def test_a_session_says_who_and_where(self, server: LocalClerk) -> None:
        ada, acme = server.add_user(), server.add_organization(name="Acme", features=["reports"])
        server.add_member(acme, ada, "org:admin")

        session = server.open_session(ada, acme, "https://app.example.com", actor="user_admin")
        claims = claims_of(server.session_token(session))

        assert isinstance(session, LocalSession)
        assert (claims["sub"], claims["sid"], claims["azp"]) == (ada.id, session.id, "https://app.example.com")
        assert (claims["o"]["id"], claims["o"]["rol"], claims["fea"]) == (acme.id, "admin", "o:reports")
        assert (claims["act"], claims["sts"], claims["fva"]) == ({"sub": "user_admin"}, "active", [0, -1])
        assert repr(session) == f"<LocalSession {session.id}, active>"

    def test_without_more_it_is_a_plain_session(self, server: LocalClerk) -> None:
        claims = claims_of(server.session_token(server.open_session(server.add_user().id)))

        assert claims["azp"] == server.parties[0]
        assert not {"o", "act", "fea"} & set(claims)

    def test_each_token_tells_the_rights_of_its_own_time(self, server: LocalClerk) -> None:
        ada, acme = server.add_user(), server.add_organization(name="Acme")
        server.add_member(acme, ada, "org:admin")
        session = server.open_session(ada, acme)

        server.add_member(acme, ada, "org:member")
        demoted = claims_of(server.session_token(session))
        server.remove_member(acme, ada)
        gone = claims_of(server.session_token(session))

        assert demoted["o"]["rol"] == "member"
        assert "o" not in gone

    def test_factors_age(self, server: LocalClerk) -> None:
        session = server.open_session(server.add_user(), second_factor=True)
        born = session.created_at

        def told(now: float) -> Any:
            return claims_of(server.session_token(session, issued_at=now))["fva"]

        assert [told(born + seconds) for seconds in (0, 59, 61, 3601)] == [[0, 0], [0, 0], [1, 1], [60, 60]]
        assert told(born - 100) == [0, 0]
        session.first_factor_at, session.second_factor_at = None, time.time() - 125
        assert session.factor_ages() == (-1, 2)

    @pytest.mark.parametrize(
        ("proved", "ages"),
        [({}, (0, 10)), ({"second": True}, (0, 0)), ({"first": False, "second": True}, (10, 0))],
        ids=["first", "both", "second"],
    )
    def test_a_factor_proved_again_is_young(
        self, server: LocalClerk, proved: dict[str, bool], ages: tuple[int, int]
    ) -> None:
        session = server.open_session(server.add_user())
        session.first_factor_at = session.second_factor_at = session.created_at - 600

        session.prove_factors(**proved)

        assert session.factor_ages() == ages

    def test_what_is_named_wins_over_what_the_session_says(self, server: LocalClerk) -> None:
        ada, acme = server.add_user(), server.add_organization(name="Acme")
        server.add_member(acme, ada)
        session = server.open_session(ada, acme, "https://app.example.com", pending=True)

        token = server.session_token(
            session, org_id="org_other", factor_verification_age=(5, 6), pending=False, azp=None, expires_in=5
        )

        claims = claims_of(token)
        assert (claims["o"]["id"], claims["fva"], claims["sts"]) == ("org_other", [5, 6], "active")
        assert "azp" not in claims
        assert claims["exp"] - claims["iat"] == 5

    def test_tokens_without_more_belong_to_the_session_opened_last(self, server: LocalClerk) -> None:
        ada = server.add_user()
        first, second = server.open_session(ada), server.open_session(ada)

        assert claims_of(server.token(ada))["sid"] == second.id
        second.end()
        assert claims_of(server.token(ada))["sid"] not in {first.id, second.id}

    def test_only_users_and_members_have_sessions(self, server: LocalClerk) -> None:
        acme = server.add_organization(name="Acme")

        with pytest.raises(LookupError, match="no user"):
            server.open_session("user_x")
        with pytest.raises(LookupError, match="no member"):
            server.open_session(server.add_user(), acme)


class TestItsStatus:
    @pytest.mark.parametrize(
        ("how", "status"), [("end", "ended"), ("remove", "removed"), ("revoke", "revoked")], ids=str
    )
    def test_it_ends_once(self, server: LocalClerk, how: str, status: str) -> None:
        session = server.open_session(server.add_user())
        assert session.is_open

        getattr(session, how)()
        for later in (session.end, session.revoke, session.remove):
            later()
        session.activate("org_1")

        assert (session.status, session.is_open, session.organization_id) == (status, False, None)
        assert session.updated_at >= session.created_at

    @pytest.mark.parametrize("task", ["reset-password", "setup-mfa"])
    def test_a_pending_session_may_wait_for_something_else(self, server: LocalClerk, task: str) -> None:
        session = server.open_session(server.add_user(), pending=task)
        token = claims_of(server.session_token(session))
        session.activate("org_1")
        assert token["sts"] == "pending"
        assert session.data["tasks"] == [{"key": task}]
        assert (session.status, session.organization_id) == ("pending", "org_1")

    def test_a_pending_session_waits_for_an_organisation(self, server: LocalClerk) -> None:
        session = server.open_session(server.add_user(), pending=True)
        tasks, pending = session.data["tasks"], claims_of(server.session_token(session))

        session.activate(None)
        still = session.status
        session.activate("org_1")

        assert (tasks, pending["sts"]) == ([{"key": "choose-organization"}], "pending")
        assert (still, session.status, session.organization_id) == ("pending", "active", "org_1")
        assert session.data["tasks"] is None

    def test_tokens_outlive_their_session(self, server: LocalClerk) -> None:
        session = server.open_session(server.add_user())
        session.revoke()

        assert claims_of(server.session_token(session))["sid"] == session.id

    def test_banning_revokes_and_deleting_removes_all_sessions_of_a_user(self, server: LocalClerk) -> None:
        ada, bob, eve = (server.add_user() for _ in range(3))
        sessions = [server.open_session(user) for user in (ada, ada, bob, eve)]
        sessions[0].end()

        server.update_user(ada, banned=True)
        server.delete_user(bob)
        server.update_user(eve, banned=False)

        assert [session.status for session in sessions] == ["ended", "revoked", "removed", "active"]


class TestTheSignInPage:
    def test_signing_out_ends_the_session_of_the_browser_and_no_other(self, local_clerk: LocalClerk) -> None:
        ada = local_clerk.add_user()
        other = local_clerk.open_session(ada)
        with httpx.Client(base_url=local_clerk.url) as browser:
            token = browser.post("/sign-in", data={"user_id": ada.id}).cookies["__session"]
            browser.post("/sign-out")

        headers = {"Authorization": f"Bearer {local_clerk.secret_key}"}
        answer = httpx.get(f"{local_clerk.url}/v1/sessions/{claims_of(token)['sid']}", headers=headers)
        assert answer.json()["status"] == "ended"
        assert other.status == "active"

    @pytest.mark.parametrize("cookie", ["garbage", "a.b.c", "", "minted"])
    def test_odd_cookies_sign_out_as_well(self, local_clerk: LocalClerk, cookie: str) -> None:
        value = local_clerk.token("user_1", sid=["odd"]) if cookie == "minted" else cookie

        answer = httpx.post(f"{local_clerk.url}/sign-out", headers={"Cookie": f"theme; __session={value}"})

        assert answer.status_code == 200


class TestTheVerificationPage:
    @pytest.fixture
    def browser(self, local_clerk: LocalClerk) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=local_clerk.url, trust_env=False) as browser:
            yield browser

    def test_whoever_is_not_signed_in_is_asked_to(self, local_clerk: LocalClerk, browser: httpx.Client) -> None:
        ada = local_clerk.add_user(first_name="Ada")
        back = "http://127.0.0.1:8000/transfer"
        for _ in range(2):
            page = browser.get("/verify", params={"redirect_url": back})
            assert (page.status_code, "Nobody is signed in here" in page.text) == (401, True)
            assert f'value="{ada.id}"' in page.text
            assert f'value="{back}"' in page.text
            browser.post("/sign-in", data={"user_id": ada.id})  # and out again: the browser is known, and nobody there
            browser.post("/sign-out")

    @pytest.mark.parametrize(
        ("second_factor", "proofs", "ages"),
        [
            (False, ["old"], [60, -1]),
            (False, ["old", "old", "now"], [0, -1]),
            (True, ["old"], [60, 60]),
            (True, ["old", "now"], [0, 0]),
        ],
        ids=str,
    )
    def test_the_next_token_says_when_a_factor_was_proved(
        self, local_clerk: LocalClerk, browser: httpx.Client, second_factor: bool, proofs: list[str], ages: list[int]
    ) -> None:
        ada = local_clerk.add_user(first_name="Ada")
        browser.post("/sign-in", data={"user_id": ada.id})
        (session,) = local_clerk.sessions(ada)
        session.prove_factors(second=second_factor)
        page = browser.get("/verify").text
        assert ("proved 0 minutes ago, second factor" in page) is second_factor

        for proof in proofs:
            target = "http://127.0.0.1:8000/transfer"
            answer = browser.post("/verify", data={"proof": proof, "redirect_url": target})

        assert (answer.status_code, answer.headers["Location"]) == (303, target)
        claims = claims_of(answer.cookies["__session"])
        assert (claims["sub"], claims["sid"], claims["azp"]) == (ada.id, session.id, "http://127.0.0.1:8000")
        assert claims["fva"] == ages

    def test_without_an_address_or_a_proof_it_shows_itself(
        self, local_clerk: LocalClerk, browser: httpx.Client
    ) -> None:
        ada = local_clerk.add_user(first_name="Ada <b>")
        browser.post("/sign-in", data={"user_id": ada.id})
        (session,) = local_clerk.sessions(ada)
        session.first_factor_at = None
        session.age_factors(60)

        assert "Ada &lt;b&gt;. First factor never proved." in browser.get("/verify").text
        assert "never proved" in browser.post("/verify", data={"proof": "odd"}).text
        assert "proved 0 minutes ago." in browser.post("/verify", data={"proof": "now"}).text
        session.age_factors(1)
        assert "proved 1 minute ago." in browser.get("/verify").text


class TestTheApi:
    def test_the_sdk_reads_a_session(self, local_clerk: LocalClerk, sdk: clerk_backend_api.Clerk) -> None:
        ada, acme = local_clerk.add_user(), local_clerk.add_organization(name="Acme")
        local_clerk.add_member(acme, ada)
        session = local_clerk.open_session(ada, acme, actor={"sub": "user_admin"}, client_id="client_1")

        found = sdk.sessions.get(session_id=session.id)

        assert (found.id, found.user_id, found.client_id) == (session.id, ada.id, "client_1")
        assert (found.status.value, found.last_active_organization_id) == ("active", acme.id)
        assert found.created_at == int(session.created_at * 1000) < found.expire_at < found.abandon_at
        assert session.data["actor"] == {"sub": "user_admin"}

    def test_the_sdk_revokes_a_session(self, local_clerk: LocalClerk, sdk: clerk_backend_api.Clerk) -> None:
        session = local_clerk.open_session(local_clerk.add_user())

        answers = [sdk.sessions.revoke(session_id=session.id) for _ in range(2)]

        assert [answer.status.value for answer in answers] == ["revoked", "revoked"]
        assert session.status == "revoked"
        assert sdk.sessions.get(session_id=session.id).status.value == "revoked"

    def test_the_session_of_a_minted_token_can_be_revoked(
        self, local_clerk: LocalClerk, sdk: clerk_backend_api.Clerk
    ) -> None:
        sid = claims_of(local_clerk.token("user_unknown_here"))["sid"]

        assert sdk.sessions.revoke(session_id=sid).user_id == "user_unknown_here"
        assert claims_of(local_clerk.token("user_unknown_here"))["sid"] != sid

    def test_other_sessions_are_not_found(self, local_clerk: LocalClerk, sdk: clerk_backend_api.Clerk) -> None:
        with pytest.raises(ClerkErrors) as unknown:
            sdk.sessions.get(session_id="sess_x")
        with pytest.raises(ClerkErrors):
            sdk.sessions.revoke(session_id="sess_x")

        assert unknown.value.status_code == 404

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [("POST", "", 405), ("DELETE", "/revoke", 405), ("GET", "/revoke", 404)],
        ids=["post", "delete", "get"],
    )
    def test_revoking_takes_a_post_there(self, local_clerk: LocalClerk, method: str, path: str, status: int) -> None:
        session = local_clerk.open_session(local_clerk.add_user())

        answer = httpx.request(
            method,
            f"{local_clerk.url}/v1/sessions/{session.id}{path}",
            headers={"Authorization": f"Bearer {local_clerk.secret_key}"},
        )

        assert (answer.status_code, session.status) == (status, "active")

    def test_a_reset_forgets_them(self, local_clerk: LocalClerk) -> None:
        session = local_clerk.open_session(local_clerk.add_user())

        local_clerk.reset()

        headers = {"Authorization": f"Bearer {local_clerk.secret_key}"}
        assert httpx.get(f"{local_clerk.url}/v1/sessions/{session.id}", headers=headers).status_code == 404
