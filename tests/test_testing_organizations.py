"""The stand-in's organisations: who belongs where, Clerk's answers about it, and signing in to one in a browser."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

import clerk_backend_api
import httpx
import jwt
import pytest
from clerk_backend_api.models import ClerkBaseError

from clerk_views.testing import LocalClerk, LocalMembership, LocalOrganization


@pytest.fixture
def sdk(local_clerk: LocalClerk) -> Iterator[clerk_backend_api.Clerk]:
    with clerk_backend_api.Clerk(
        bearer_auth=local_clerk.secret_key, server_url=f"{local_clerk.url}/v1", retry_config=None
    ) as sdk:
        yield sdk


@pytest.fixture
def browser(local_clerk: LocalClerk) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=local_clerk.url, timeout=5) as client:
        yield client


def session_claims(answer: httpx.Response) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(answer.cookies["__session"], options={"verify_signature": False})
    return claims


class TestOrganizations:
    @pytest.mark.parametrize(
        ("name", "slug"),
        [("Acme & Sons", "acme-sons"), ("Café Zürich", "cafe-zurich"), ("株式会社", None)],
        ids=["plain", "accents", "nothing left"],
    )
    def test_a_slug_follows_from_the_name(self, local_clerk: LocalClerk, name: str, slug: str | None) -> None:
        organization = local_clerk.add_organization(name=name)

        assert re.fullmatch(r"org_[A-Za-z0-9]{27}", organization.id)
        assert organization.slug == (slug or organization.id.lower())
        assert repr(organization) == f"<LocalOrganization {organization.id}, {organization.slug}>"

    def test_id_and_slug_are_taken_once(self, local_clerk: LocalClerk) -> None:
        local_clerk.add_organization(name="Acme", slug="acme", id="org_1")

        for taken in ({"id": "org_1"}, {"slug": "acme"}):
            with pytest.raises(ValueError, match="already"):
                local_clerk.add_organization(name="Other", **taken)  # type: ignore[arg-type]  # mypy takes it for any argument

    def test_plans_of_an_organisation_have_no_scope(self, local_clerk: LocalClerk) -> None:
        with pytest.raises(ValueError, match="leave it out"):
            local_clerk.add_organization(name="Acme", plans=["user:pro"])

        assert local_clerk.add_organization(name="Acme").slug == "acme"

    def test_a_reset_forgets_them(self, local_clerk: LocalClerk) -> None:
        acme, ada = local_clerk.add_organization(name="Acme"), local_clerk.add_user()
        local_clerk.set_plan(ada, "pro")

        local_clerk.reset()

        with pytest.raises(LookupError, match="no organisation"):
            local_clerk.token(ada, organization=acme)
        assert "pla" not in jwt.decode(local_clerk.token(ada), options={"verify_signature": False})


class TestMembers:
    def test_a_member_may_get_another_role(self, local_clerk: LocalClerk) -> None:
        acme = local_clerk.add_organization(name="Acme", roles={"billing_clerk": ["invoices:read"]})
        ada = local_clerk.add_user()

        before = local_clerk.add_member(acme, ada)
        after = local_clerk.add_member(acme.id, ada.id, "billing_clerk")

        assert isinstance(before, LocalMembership)
        assert (before.role, before.role_name, before.permissions) == ("org:member", "Member", ())
        assert (after.role, after.role_name, after.permissions) == (
            "org:billing_clerk",
            "Billing Clerk",
            ("org:invoices:read",),
        )
        assert (after.id, after.created_at) == (before.id, before.created_at)
        assert after.updated_at > before.updated_at

    def test_both_must_be_there(self, local_clerk: LocalClerk) -> None:
        acme, ada = local_clerk.add_organization(name="Acme"), local_clerk.add_user()

        with pytest.raises(LookupError, match="no user"):
            local_clerk.add_member(acme, "user_x")
        with pytest.raises(LookupError, match="no organisation"):
            local_clerk.add_member("org_x", ada)
        with pytest.raises(LookupError, match="no member"):
            local_clerk.remove_member(acme, ada)

    def test_who_leaves_loses_the_organisation_and_nothing_else(self, local_clerk: LocalClerk) -> None:
        acme, other = (local_clerk.add_organization(name=name) for name in ("Acme", "Other"))
        ada = local_clerk.add_user()
        for organization in (acme, other):
            local_clerk.add_member(organization, ada)
        here, there = local_clerk.open_session(ada, acme), local_clerk.open_session(ada, other)

        local_clerk.remove_member(acme, ada)

        with pytest.raises(LookupError, match="no member"):
            local_clerk.open_session(ada, acme)
        assert (here.organization_id, here.status) == (None, "active")
        assert there.organization_id == other.id


class TestTheApi:
    def test_the_sdk_reads_a_users_memberships(self, local_clerk: LocalClerk, sdk: clerk_backend_api.Clerk) -> None:
        acme, other = local_clerk.add_organization(name="Acme"), local_clerk.add_organization(name="Other")
        ada = local_clerk.add_user(email="ada@example.com", first_name="Ada")
        bob = local_clerk.add_user(username="bob")
        member = local_clerk.add_member(acme, ada, "org:admin", ["org:invoices:create"])
        local_clerk.add_member(acme, bob)
        local_clerk.add_member(other, ada)

        found = sdk.users.get_organization_memberships(user_id=ada.id)
        bobs = sdk.users.get_organization_memberships(user_id=bob.id)

        assert found.total_count == 2
        first, second = found.data
        assert (first.id, first.role, first.role_name) == (member.id, "org:admin", "Admin")
        assert first.permissions == ["org:invoices:create"]
        assert (first.organization.id, first.organization.name, first.organization.slug) == (acme.id, "Acme", "acme")
        assert (first.organization.members_count, second.organization.members_count) == (2, 1)
        assert first.created_at == member.created_at
        assert first.public_user_data is not None
        assert (first.public_user_data.user_id, first.public_user_data.first_name) == (ada.id, "Ada")
        assert first.public_user_data.identifier == "ada@example.com"
        assert bobs.data[0].public_user_data is not None
        assert bobs.data[0].public_user_data.identifier == "bob"

    def test_memberships_come_in_pages(self, local_clerk: LocalClerk, sdk: clerk_backend_api.Clerk) -> None:
        ada = local_clerk.add_user()
        for number in range(3):
            local_clerk.add_member(local_clerk.add_organization(name=f"Number {number}"), ada)

        page = sdk.users.get_organization_memberships(user_id=ada.id, limit=1, offset=1)

        assert ([entry.organization.name for entry in page.data], page.total_count) == (["Number 1"], 3)
        with pytest.raises(ClerkBaseError):
            sdk.users.get_organization_memberships(user_id=ada.id, limit=501)

    def test_the_memberships_of_nobody_are_not_found(self, local_clerk: LocalClerk) -> None:
        ada = local_clerk.add_user()
        local_clerk.add_member(local_clerk.add_organization(name="Acme"), ada)
        local_clerk.delete_user(ada)

        headers = {"Authorization": f"Bearer {local_clerk.secret_key}"}
        for user_id in (ada.id, "user_x", "", f"{ada.id}/x"):
            answer = httpx.get(f"{local_clerk.url}/v1/users/{user_id}/organization_memberships", headers=headers)
            assert answer.status_code == 404


class TestTheSignInPage:
    @pytest.fixture
    def acme(self, local_clerk: LocalClerk) -> LocalOrganization:
        return local_clerk.add_organization(name="Acme <b>", slug="acme")

    def test_organisations_stand_below_their_members(
        self, local_clerk: LocalClerk, browser: httpx.Client, acme: LocalOrganization
    ) -> None:
        local_clerk.add_member(acme, local_clerk.add_user(first_name="Ada"), "org:admin")
        local_clerk.add_member(acme, local_clerk.add_user(first_name="Eve", banned=True))
        local_clerk.add_user(first_name="Loner")

        page = browser.get("/sign-in").text

        buttons = re.findall(r"<button .*?</button>", page)
        assert [name for button in buttons for name in re.findall(r'name="(\w+)"', button)] == [
            *["user_id", "membership_id"] * 2,
            "user_id",
        ]
        assert "Ada · Acme <b> (admin)" in html.unescape(buttons[1])
        assert "Ada · Acme <b>" not in page
        assert ["disabled" in button for button in buttons] == [False, False, True, True, False]

    def test_choosing_one_opens_a_session_there(
        self, local_clerk: LocalClerk, browser: httpx.Client, acme: LocalOrganization
    ) -> None:
        ada = local_clerk.add_user(first_name="Ada")
        membership = local_clerk.add_member(acme, ada, "org:admin", ["org:invoices:create"])

        within = session_claims(browser.post("/sign-in", data={"membership_id": membership.id}))
        alone = session_claims(browser.post("/sign-in", data={"user_id": ada.id}))

        assert (within["sub"], alone["sub"]) == (ada.id, ada.id)
        assert within["o"] == {"id": acme.id, "slg": "acme", "rol": "admin", "per": "create", "fpm": "1"}
        assert "o" not in alone
        assert within["sid"] != alone["sid"]

    @pytest.mark.parametrize(("banned", "status"), [(True, 403), (None, 404)], ids=["banned", "no member any more"])
    def test_who_may_not_does_not_get_in(
        self,
        local_clerk: LocalClerk,
        browser: httpx.Client,
        acme: LocalOrganization,
        banned: bool | None,
        status: int,
    ) -> None:
        ada = local_clerk.add_user()
        membership = local_clerk.add_member(acme, ada)
        if banned:
            local_clerk.update_user(ada, banned=True)
        else:
            local_clerk.remove_member(acme, ada)

        answer = browser.post("/sign-in", data={"membership_id": membership.id})

        assert answer.status_code == status
        assert not answer.cookies
