"""Session tokens: what they tell of users, organisations and plans, read back by decoders that are not ours."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import httpx
import jwt
import pytest
from asgiref.sync import async_to_sync
from clerk_backend_api.security import authenticate_request
from clerk_backend_api.security.types import AuthenticateRequestOptions
from django.http import HttpRequest, JsonResponse
from django.test import AsyncClient, Client
from django.urls import path
from hypothesis import given
from hypothesis import strategies as st

from clerk_views.testing import LocalClerk, LocalUser
from clerk_views.testing.entitlements import ActiveOrganization, Scoped, organization_claims
from clerk_views.testing.fixtures import ClerkFixture
from clerk_views.testing.minting import SESSION_CATEGORY

SLUGS = st.text("abcxyz09_-", min_size=1, max_size=6)


def what_arrived(request: HttpRequest) -> JsonResponse:
    """Answer with the session token that the request carried."""
    bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
    return JsonResponse({"token": bearer or request.COOKIES.get("__session")})


def drf_client() -> Any:
    """Return REST framework's client, where that is installed."""
    return pytest.importorskip("rest_framework.test").APIClient()


urlpatterns = [path("what-arrived", what_arrived)]


@pytest.fixture
def server() -> LocalClerk:
    """A stand-in that does not even listen: minting needs no network."""
    return LocalClerk(port=1)


def claims_of(server: LocalClerk, token: str) -> dict[str, Any]:
    """Verify a token as a third party would, and return its claims."""
    options: Any = {"verify_aud": False, "verify_exp": False}
    claims: dict[str, Any] = jwt.decode(token, server.signing_key.public_pem, algorithms=["RS256"], options=options)
    return claims


def told(server: LocalClerk, token: str) -> dict[str, Any]:
    """Return those claims of a token that not every token has, or has otherwise."""
    usual = claims_of(server, server.token("user_usual", sid="sess_usual"))
    return {
        name: value
        for name, value in claims_of(server, token).items()
        if name not in {"exp", "iat", "jti", "nbf", "sid", "sub"} and usual.get(name) != value
    }


def permissions_told(claims: Mapping[str, Any], *, over_all_features: bool) -> set[str]:
    """Decode the masks by hand: counted over the organisation's features, or over all of them."""
    entries = [entry.split(":", 1) for entry in claims.get("fea", "").split(",") if entry]
    counted = [entry for entry in entries if over_all_features or "o" in entry[0]]
    names = claims["o"]["per"].split(",") if "per" in claims["o"] else []
    masks = claims["o"]["fpm"].split(",") if "fpm" in claims["o"] else []
    return {
        f"org:{feature}:{name}"
        for (scope, feature), mask in zip(counted, masks, strict=False)
        if "o" in scope
        for bit, name in enumerate(names)
        if int(mask) & 1 << bit
    }


def seen_by_the_sdk(server: LocalClerk, token: str) -> Any:
    """Return what Clerk's own SDK makes of a token."""
    request = httpx.Request("GET", "http://testserver/", headers={"Authorization": f"Bearer {token}"})
    options = AuthenticateRequestOptions(jwt_key=server.signing_key.public_pem, accepts_token=["session_token"])
    return authenticate_request(request, options).to_auth()


class TestItsShape:
    def test_a_token_has_clerks_shape(self, server: LocalClerk) -> None:
        user = server.add_user()
        before = int(time.time())

        token = server.token(user)
        claims = claims_of(server, token)

        assert jwt.get_unverified_header(token) == {
            "alg": "RS256",
            "typ": "JWT",
            "kid": server.instance_id,
            "cat": SESSION_CATEGORY,
        }
        assert set(claims) == {"azp", "exp", "fva", "iat", "iss", "jti", "nbf", "sid", "sts", "sub", "v"}
        assert (claims["sub"], claims["iss"], claims["v"], claims["sts"]) == (user.id, server.issuer, 2, "active")
        assert before <= claims["iat"] <= time.time()
        assert (claims["exp"] - claims["iat"], claims["iat"] - claims["nbf"]) == (60, 10)
        assert claims["azp"] == "http://testserver"
        assert re.fullmatch(r"sess_[A-Za-z0-9]{27}", claims["sid"])
        assert re.fullmatch(r"ins_[A-Za-z0-9]{27}", server.instance_id)

    def test_version_one_lacks_what_came_with_version_two(self, server: LocalClerk) -> None:
        claims = claims_of(server, server.token("user_1", version=1))

        assert set(claims) == {"azp", "exp", "fva", "iat", "iss", "nbf", "sid", "sub"}

    def test_claims_and_header_are_overridden_and_removed(self, server: LocalClerk) -> None:
        token = server.token(
            "user_1", header={"cat": None, "zip": "DEF"}, azp=None, sub=7, user="me", expires_in=-1, issued_at=1000
        )
        claims = jwt.decode(token, options={"verify_signature": False})

        assert jwt.get_unverified_header(token) == {
            "alg": "RS256",
            "typ": "JWT",
            "kid": server.instance_id,
            "zip": "DEF",
        }
        assert "azp" not in claims
        assert (claims["sub"], claims["user"]) == (7, "me")
        assert (claims["iat"], claims["exp"], claims["nbf"]) == (1000, 999, 990)

    def test_tokens_of_one_user_share_a_session(self, server: LocalClerk) -> None:
        ada, bob = server.add_user(), server.add_user()
        sessions = [claims_of(server, server.token(user))["sid"] for user in (ada, ada.id, bob)]

        assert sessions[0] == sessions[1] != sessions[2]

    def test_the_first_party_is_the_default(self) -> None:
        server, nobodys = LocalClerk(port=1, parties=["https://app.example.com"]), LocalClerk(port=1, parties=[])

        assert claims_of(server, server.token("user_1"))["azp"] == "https://app.example.com"
        assert claims_of(nobodys, nobodys.token("user_1"))["azp"] == "http://testserver"
        assert nobodys.settings()["CLERK_AUTH_PARTIES"] == []


class TestWhatIsNamed:
    def test_a_role_alone_stands_for_an_organisation_that_stays_the_same(self, server: LocalClerk) -> None:
        tokens = [server.token("user_1", org_role=role) for role in ("org:admin", "admin")]

        assert told(server, tokens[0]) == told(server, tokens[1])
        assert told(server, tokens[0])["o"] == {"id": server.instance_id.replace("ins_", "org_"), "rol": "admin"}

    def test_version_two_says_it_in_its_own_way(self, server: LocalClerk) -> None:
        token = server.token(
            "user_1",
            org_id="org_1",
            org_slug="acme",
            org_role="org:admin",
            org_permissions=["org:invoices:read", "org:invoices:manage", "org:reports:read"],
            features=["user:beta", "org:reports", "uo:chat"],
            plans=["user:pro", "org:business"],
            factor_verification_age=(3, 7),
            actor="user_admin",
            pending=True,
        )

        assert told(server, token) == {
            "o": {"id": "org_1", "slg": "acme", "rol": "admin", "per": "read,manage", "fpm": "1,0,3"},
            "fea": "o:reports,uo:chat,o:invoices,u:beta",
            "pla": "o:business,u:pro",
            "fva": [3, 7],
            "act": {"sub": "user_admin"},
            "sts": "pending",
        }

    def test_version_one_says_it_in_its_own_way(self, server: LocalClerk) -> None:
        token = server.token(
            "user_1",
            version=1,
            org_id="org_1",
            org_slug="acme",
            org_role="admin",
            org_permissions=["invoices:read"],
            factor_verification_age=[3, -1],
        )

        claims = claims_of(server, token)
        assert {name: claims[name] for name in claims if name.startswith("org_")} == {
            "org_id": "org_1",
            "org_slug": "acme",
            "org_role": "org:admin",
            "org_permissions": ["org:invoices:read"],
        }
        assert claims["fva"] == [3, -1]
        assert not {"o", "v", "fea"} & set(claims)

    @pytest.mark.parametrize(
        ("named", "slug", "rights"),
        [
            ({"org_id": "org_1"}, None, ()),
            ({"org_slug": "acme"}, "acme", ()),
            ({"org_permissions": ["a:b"]}, None, ("org:a:b",)),
            ({"org_permissions": []}, None, ()),
        ],
        ids=["id", "slug", "permissions", "no permission"],
    )
    def test_whatever_is_said_of_an_organisation_there_is_one(
        self, server: LocalClerk, named: Any, slug: str | None, rights: tuple[str, ...]
    ) -> None:
        claims = claims_of(server, server.token("user_1", **named))

        assert (claims["o"]["rol"], claims["o"].get("slg")) == ("member", slug)
        assert permissions_told(claims, over_all_features=False) == set(rights)

    def test_without_a_scope_a_slug_is_the_organisations_where_one_is_active(self, server: LocalClerk) -> None:
        alone = told(server, server.token("user_1", features=["docs"], plans=["pro"]))
        within = told(server, server.token("user_1", features=["docs"], plans=["pro"], org_id="org_1"))

        assert (alone["fea"], alone["pla"]) == ("u:docs", "u:pro")
        assert (within["fea"], within["pla"]) == ("o:docs", "o:pro")

    @pytest.mark.parametrize("scope", ["o", "org", "organization", "u", "user", "uo", "ou"])
    def test_all_of_clerks_words_for_a_scope_are_understood(self, server: LocalClerk, scope: str) -> None:
        written = told(server, server.token("user_1", features=[f"{scope}:docs"]))["fea"]

        assert written == {"ou": "uo"}.get(scope, scope[0] if scope != "uo" else "uo") + ":docs"

    @pytest.mark.parametrize(
        "actor",
        ["user_admin", LocalUser({"id": "user_admin"}), {"sub": "user_admin"}],
        ids=["id", "user", "claim"],
    )
    def test_an_actor_is_a_user_an_id_or_a_claim(self, server: LocalClerk, actor: Any) -> None:
        assert told(server, server.token("user_1", actor=actor)) == {"act": {"sub": "user_admin"}}

    @pytest.mark.parametrize("version", [1, 2])
    def test_system_permissions_are_never_in_a_token(self, server: LocalClerk, version: int) -> None:
        token = server.token("user_1", version=version, org_permissions=["org:sys_memberships:read", "org:a:b"])

        assert "sys_" not in str(claims_of(server, token))

    def test_a_claim_wins_over_what_is_named_and_none_removes_it(self, server: LocalClerk) -> None:
        token = server.token("user_1", org_role="admin", o={"id": 7}, pending=True, sts="odd", features=["a"], fea=None)

        assert told(server, token) == {"o": {"id": 7}, "sts": "odd"}
        assert "o" not in claims_of(server, server.token("user_1", org_role="admin", o=None))

    def test_claims_of_both_versions_can_stand_in_one_token(self, server: LocalClerk) -> None:
        """ORG-03: what a custom claim can do to a token must be possible to mint."""
        claims = claims_of(server, server.token("user_1", version=1, org_id="org_1", v=2, o={"id": "org_2"}))

        assert (claims["v"], claims["o"], claims["org_id"]) == (2, {"id": "org_2"}, "org_1")

    @pytest.mark.parametrize(
        ("named", "error"),
        [
            ({"org_permissions": ["org:invoices"]}, "no permission"),
            ({"org_permissions": ["org:invoices:"]}, "cannot be a permission"),
            ({"org_permissions": [":read"]}, "cannot be a permission"),
            ({"org_permissions": ["a:read,write"]}, "cannot be a permission"),
            ({"org_role": "org:"}, "cannot be a role"),
            ({"org_role": " admin"}, "cannot be a role"),
            ({"features": ["team:docs"]}, "unknown scope"),
            ({"features": ["org:"]}, "cannot be a slug"),
            ({"plans": ["pro,business"]}, "cannot be a slug"),
        ],
    )
    def test_what_clerks_claims_cannot_carry_is_an_error(
        self, server: LocalClerk, named: dict[str, Any], error: str
    ) -> None:
        with pytest.raises(ValueError, match=error):
            server.token("user_1", **named)

    @pytest.mark.parametrize("name", ["org_permissions", "features", "plans"])
    def test_a_text_is_no_list_of_texts(self, server: LocalClerk, name: str) -> None:
        named: dict[str, Any] = {name: "org:a:b"}
        with pytest.raises(TypeError, match="Write a list"):
            server.token("user_1", **named)

    @pytest.mark.parametrize(
        ("slip", "meant"),
        [
            ("org_permission", "org_permissions"),
            ("org_roles", "org_role"),
            ("factor_verification_ages", "factor_verification_age"),
            ("expire_in", "expires_in"),
        ],
    )
    def test_a_slip_does_not_become_a_claim(self, server: LocalClerk, slip: str, meant: str) -> None:
        slips: dict[str, Any] = {slip: 1}
        with pytest.raises(TypeError, match=f"'{slip}' looks like '{meant}'"):
            server.token("user_1", **slips)

    @pytest.mark.parametrize(
        "name", ["role", "plan", "org_name", "organization_id", "organizations", "permissions", "email", "metadata"]
    )
    def test_names_that_claims_do_have_are_no_slips(self, server: LocalClerk, name: str) -> None:
        claim: dict[str, Any] = {name: "mine"}
        assert told(server, server.token("user_1", **claim)) == claim


class TestRoundTrip:
    @given(
        rights=st.lists(st.tuples(SLUGS, SLUGS), max_size=8),
        features=st.lists(st.tuples(st.sampled_from(["o", "u", "uo"]), SLUGS), max_size=8),
    )
    def test_both_published_readings_find_exactly_the_permissions(
        self, rights: list[tuple[str, str]], features: list[tuple[str, str]]
    ) -> None:
        """ORG-01: where the readings differ, a library may grant less than was meant; here they never do."""
        permissions = tuple(f"org:{feature}:{name}" for feature, name in rights)
        scoped = Scoped([f"{scope}:{slug}" for scope, slug in features], in_organization=True)
        active = ActiveOrganization("org_1", "org:admin", None, permissions)

        claims = organization_claims(2, active, scoped, Scoped(in_organization=True))

        claims = {name: value for name, value in claims.items() if value is not None}
        meant = {permission for permission in permissions if not permission.startswith("org:sys_")}
        assert permissions_told(claims, over_all_features=False) == meant
        assert permissions_told(claims, over_all_features=True) == meant
        written = {tuple(entry.split(":")) for entry in claims.get("fea", "").split(",") if entry}
        for scope, slug in features:
            assert any(slug == found and set(scope) <= set(wide) for wide, found in written)

    def test_more_names_than_a_machine_word_has_bits(self, server: LocalClerk) -> None:
        permissions = [f"org:a:p{number}" for number in range(70)]

        claims = claims_of(server, server.token("user_1", org_permissions=permissions))

        assert claims["o"]["fpm"] == str(2**70 - 1)
        assert permissions_told(claims, over_all_features=False) == set(permissions)

    def test_clerks_own_sdk_reads_version_two(self, server: LocalClerk) -> None:
        permissions = ["org:invoices:read", "org:reports:read", "org:reports:share"]
        token = server.token(
            "user_1",
            org_id="org_1",
            org_slug="acme",
            org_role="admin",
            org_permissions=permissions,
            features=["user:beta"],
            factor_verification_age=(1, 2),
        )

        auth = seen_by_the_sdk(server, token)

        assert (auth.sub, auth.org_id, auth.org_slug, auth.org_role) == ("user_1", "org_1", "acme", "admin")
        assert sorted(auth.org_permissions) == permissions
        assert auth.fva == [1, 2]

    def test_clerks_own_sdk_reads_version_one(self, server: LocalClerk) -> None:
        token = server.token("user_1", version=1, org_id="org_1", org_role="admin", org_permissions=["a:b"])

        auth = seen_by_the_sdk(server, token)

        assert (auth.user_id, auth.org_id, auth.org_role) == ("user_1", "org_1", "org:admin")
        assert auth.org_permissions == ["org:a:b"]


class TestWhatTheDirectoryKnows:
    @pytest.fixture
    def people(self, server: LocalClerk) -> Any:
        """Ada is an admin of Acme and Bob a member; Acme pays, and so does Ada for herself."""
        acme = server.add_organization(
            name="Acme",
            roles={"org:admin": ["org:invoices:create", "org:invoices:read"], "member": ["invoices:read"]},
            features=["reports"],
            plans=["business"],
        )
        ada, bob = server.add_user(), server.add_user()
        server.add_member(acme, ada, "org:admin")
        server.add_member(acme, bob)
        server.set_plan(ada, "pro", features=["beta", "reports"])
        return SimpleNamespace(acme=acme, ada=ada, bob=bob)

    @staticmethod
    def rights(server: LocalClerk, *arguments: Any, **named: Any) -> tuple[str, set[str]]:
        claims = claims_of(server, server.token(*arguments, **named))
        return claims["o"]["rol"], permissions_told(claims, over_all_features=False)

    def test_a_member_has_the_rights_of_the_role(self, server: LocalClerk, people: Any) -> None:
        create, read = "org:invoices:create", "org:invoices:read"

        assert self.rights(server, people.ada, organization=people.acme) == ("admin", {create, read})
        assert self.rights(server, people.bob, organization=people.acme.id) == ("member", {read})

    def test_plans_and_features_are_those_of_organisation_and_user(self, server: LocalClerk, people: Any) -> None:
        within = told(server, server.token(people.ada, organization=people.acme))
        alone = told(server, server.token(people.ada))

        assert (within["fea"], within["pla"]) == ("uo:reports,o:invoices,u:beta", "o:business,u:pro")
        assert within["o"]["slg"] == "acme"
        assert alone == {"fea": "u:beta,u:reports", "pla": "u:pro"}
        assert told(server, server.token(people.bob)) == {}

    def test_what_is_named_wins(self, server: LocalClerk, people: Any) -> None:
        token = server.token(
            people.bob,
            organization=people.acme,
            org_permissions=["a:b"],
            org_slug="other",
            features=[],
            plans=["user:x"],
        )

        claims = told(server, token)
        assert claims["o"] == {"id": people.acme.id, "rol": "member", "slg": "other", "per": "b", "fpm": "1"}
        assert (claims["fea"], claims["pla"]) == ("o:a", "u:x")

    def test_a_role_that_is_named_brings_its_rights_and_needs_no_membership(
        self, server: LocalClerk, people: Any
    ) -> None:
        read = "org:invoices:read"

        assert self.rights(server, people.ada, organization=people.acme, org_role="member") == ("member", {read})
        assert self.rights(server, "user_x", organization=people.acme, org_role="org:member") == ("member", {read})
        assert self.rights(server, "user_x", organization=people.acme, org_role="guest") == ("guest", set())

    def test_who_is_no_member_gets_no_token_there(self, server: LocalClerk, people: Any) -> None:
        with pytest.raises(LookupError, match="no member"):
            server.token("user_x", organization=people.acme)
        with pytest.raises(LookupError, match="no organisation"):
            server.token(people.ada, organization="org_x")

    def test_two_active_organisations_are_an_error(self, server: LocalClerk, people: Any) -> None:
        with pytest.raises(ValueError, match="either organization or org_id"):
            server.token(people.ada, organization=people.acme, org_id="org_1")

    def test_plans_end(self, server: LocalClerk, people: Any) -> None:
        server.set_plan(people.ada)
        server.set_plan(people.acme, features=["chat"])

        token = told(server, server.token(people.ada, organization=people.acme, org_permissions=()))

        assert token["fea"] == "o:chat"
        assert "pla" not in token


@pytest.mark.urls(__name__)
class TestSigningIn:
    @pytest.mark.parametrize("kind", [Client, AsyncClient, drf_client], ids=["sync", "async", "drf"])
    @pytest.mark.parametrize("via", ["cookie", "bearer"])
    def test_a_client_signs_in_with_all_of_it(self, clerk: ClerkFixture, kind: Any, via: Any) -> None:
        client = kind()
        clerk.sign_in(
            client,
            clerk.add_user(),
            via=via,
            org_role="org:admin",
            org_id="org_1",
            org_slug="acme",
            org_permissions=["org:invoices:create"],
            features=["org:reports"],
            plans=["user:pro"],
            factor_verification_age=(0, 5),
            actor="user_admin",
            pending=True,
        )

        get = async_to_sync(client.get) if isinstance(client, AsyncClient) else client.get
        assert told(clerk.server, get("/what-arrived").json()["token"]) == {
            "o": {"id": "org_1", "slg": "acme", "rol": "admin", "per": "create", "fpm": "0,1"},
            "fea": "o:reports,o:invoices",
            "pla": "u:pro",
            "fva": [0, 5],
            "act": {"sub": "user_admin"},
            "sts": "pending",
        }

    def test_a_member_signs_in_to_an_organisation(self, clerk: ClerkFixture) -> None:
        client, ada = Client(), clerk.add_user()
        acme = clerk.add_organization(name="Acme")
        clerk.add_member(acme, ada, "admin", ["invoices:create"])

        clerk.sign_in(client, ada, organization=acme)

        token = client.get("/what-arrived").json()["token"]
        assert told(clerk.server, token)["o"] == {
            "id": acme.id,
            "slg": "acme",
            "rol": "admin",
            "per": "create",
            "fpm": "1",
        }


def test_a_list_of_features_may_be_any_iterable(server: LocalClerk) -> None:
    features: Iterable[str] = (slug for slug in ("a", "b"))

    assert told(server, server.token("user_1", features=features))["fea"] == "u:a,u:b"
