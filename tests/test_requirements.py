"""
Who may pass: one requirement, the same at every door.

Threats: ORG-03, ORG-04, ORG-05, ORG-06, ORG-07, TOK-12, TOK-13.
"""

from __future__ import annotations

import itertools
import operator
from functools import partial
from typing import Any, NamedTuple

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.views import View

from clerk_views import clerk_required, get_clerk
from clerk_views.auth import ClerkAuth
from clerk_views.authentication import authenticate
from clerk_views.authorization import Reverification
from clerk_views.conf import config
from clerk_views.mixins import ClerkLoginRequiredMixin, ClerkOptionalMixin
from clerk_views.requirements import ATTRIBUTES, Refusal, Requirement
from clerk_views.testing import LocalClerk, LocalUser
from tests.requirement_doors import DOORWAYS, FEW_DOORWAYS, Doorway, doorway_id, served
from tests.test_authentication import request_with

pytestmark = pytest.mark.django_db

PASSED, FORBIDDEN, STEP_UP = "passed", "forbidden", "step-up"
PAGE = {"sec-fetch-dest": "document", "accept": "text/html"}
EVERY = pytest.mark.parametrize("door", DOORWAYS, ids=doorway_id)
FEW = pytest.mark.parametrize("door", FEW_DOORWAYS, ids=doorway_id)

#: A visitor who has something of everything, as keywords of the kit's ``token``.
ALL: dict[str, Any] = {
    "org_id": "org_1",
    "org_slug": "acme",
    "org_role": "org:admin",
    "org_permissions": ["org:invoices:create", "org:reports:read"],
    "features": ["org:reports", "user:beta"],
    "plans": ["user:pro", "org:business"],
    "factor_verification_age": (3, 4),
}
_ORGANIZATION = ("org_id", "org_slug", "org_role", "org_permissions")


class Dimension(NamedTuple):
    """
    Attributes:
        passes: Keywords that the visitor with ALL meets.
        fails: Those that he does not.
        told: Without these keywords of the token nothing tells whether he would.
    """

    passes: dict[str, Any]
    fails: dict[str, Any]
    told: tuple[str, ...]
    refused: str = FORBIDDEN


MULTI = {"level": "multi_factor", "afterMinutes": 4}
DIMENSIONS = {
    "role": Dimension({"role": "admin"}, {"role": "org:member"}, _ORGANIZATION),
    "permission": Dimension({"permission": "org:invoices:create"}, {"permission": "invoices:delete"}, _ORGANIZATION),
    # Permissions stand in a token as features with masks, so the ones cannot go without the others.
    "feature": Dimension({"feature": "org:reports"}, {"feature": "user:reports"}, ("features", "org_permissions")),
    "plan": Dimension({"plan": "user:pro"}, {"plan": "org:pro"}, ("plans",)),
    "organization": Dimension({"organization": True}, {"organization": "organization"}, _ORGANIZATION),
    "condition": Dimension(
        {"condition": lambda auth: auth.org_slug == "acme"}, {"condition": lambda auth: auth.is_pending}, _ORGANIZATION
    ),
    "reverification": Dimension(
        {"reverification": "strict"}, {"reverification": MULTI}, ("factor_verification_age",), STEP_UP
    ),
}


def _without(told: tuple[str, ...], base: dict[str, Any] = ALL) -> dict[str, Any]:
    left = {name: value for name, value in base.items() if name not in told}
    # Left unsaid, the kit tells the ages of a session that has just begun.
    return {**left, "fva": None} if "factor_verification_age" in told else left


def _table() -> dict[str, tuple[dict[str, Any], dict[str, Any], str]]:
    """Every dimension × pass, fail, missing: what is asked, what the token tells, what comes of it."""
    table = {}
    for name, dimension in DIMENSIONS.items():
        table[f"{name}-passes"] = (dimension.passes, ALL, PASSED)
        table[f"{name}-fails"] = (dimension.fails, ALL, dimension.refused)
        table[f"{name}-missing"] = (dimension.passes, _without(dimension.told), dimension.refused)
    return table


TABLE = _table()


@pytest.fixture
def ada(local_clerk: LocalClerk) -> LocalUser:
    return local_clerk.add_user(email="ada@example.com")


def outcome(response: Any) -> str:
    body = response.json()
    if response.status_code == 200:
        return str(body["seen"])
    assert response.status_code == 403
    if body == {"detail": "You may not do this.", "code": "not-authorized"}:
        return FORBIDDEN
    error = body["clerk_error"]
    assert (list(body), error["type"], error["reason"]) == (["clerk_error"], "forbidden", "reverification-error")
    assert list(error["metadata"]) == ["reverification"]
    return STEP_UP


@EVERY
def test_the_same_table_through_every_door(local_clerk: LocalClerk, ada: LocalUser, door: Doorway) -> None:
    """ORG-04, ORG-05, ORG-07: each dimension that passes, fails, or is not told."""
    seen, expected = {}, {}
    for name, (asked, minted, comes_of_it) in TABLE.items():
        with served(asked) as visit:
            token = local_clerk.token(ada, **minted)
            response = visit(door, f"Bearer {token}", organization="another" if "organization" in name else None)
            assert {"Cookie", "Authorization"} <= set(response["Vary"].replace(" ", "").split(","))
            assert response["Cache-Control"] == "private"
        seen[name], expected[name] = outcome(response), comes_of_it
    assert seen == expected


def _asked_and_told(states: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return keywords of a requirement and of a token, for dimensions that pass, fail or are missing."""
    asked: dict[str, Any] = {}
    told = dict(ALL)
    for name, state in states.items():
        dimension = DIMENSIONS[name]
        asked.update(dimension.fails if state == "fails" else dimension.passes)
        if state == "missing":
            told = _without(dimension.told, told)
    return asked, told


def _expected(states: dict[str, str]) -> str:
    """All that is asked must pass; to prove anew who he is a visitor is told only where that alone is wanting."""
    failing = {name for name, state in states.items() if state != "passes"}
    return STEP_UP if failing == {"reverification"} else FORBIDDEN if failing else PASSED


@pytest.mark.parametrize("pair", [*itertools.combinations(DIMENSIONS, 2)], ids="-".join)
def test_all_pairs_are_required_together_at_every_door(
    local_clerk: LocalClerk, ada: LocalUser, pair: tuple[str, str]
) -> None:
    """ORG-04: one that passes never carries another that does not."""
    seen, expected = {}, {}
    for combination in itertools.product(("passes", "fails", "missing"), repeat=2):
        states = dict(zip(pair, combination, strict=True))
        asked, told = _asked_and_told(states)
        bearer = f"Bearer {local_clerk.token(ada, **told)}"
        with served(asked) as visit:
            for door in DOORWAYS:
                case = (*combination, doorway_id(door))
                seen[case] = outcome(visit(door, bearer, organization="another"))
                expected[case] = _expected(states)
    assert seen == expected


@pytest.mark.parametrize("triple", [*itertools.combinations(DIMENSIONS, 3)], ids="-".join)
def test_all_triples_are_required_together(
    local_clerk: LocalClerk, ada: LocalUser, triple: tuple[str, str, str]
) -> None:
    """ORG-04."""
    for combination in itertools.product(("passes", "fails", "missing"), repeat=3):
        states = dict(zip(triple, combination, strict=True))
        asked, told = _asked_and_told(states)
        auth = get_clerk(request_with(local_clerk.token(ada, **told)))
        refusal = Requirement(**asked).refusal(auth, {"organization": "another"}, config())
        seen = PASSED if refusal is None else FORBIDDEN if refusal.reverification is None else STEP_UP
        assert seen == _expected(states), combination


PRESETS = {"strict_mfa": 10, "strict": 10, "moderate": 60, "lax": 1440}


@EVERY
def test_every_preset_and_its_limit(local_clerk: LocalClerk, ada: LocalUser, door: Doorway) -> None:
    """ORG-05: strictly below the limit, and down to the first factor where no second one is enrolled."""
    seen, expected = {}, {}
    for preset, limit in PRESETS.items():
        second_alone = STEP_UP if preset == "strict_mfa" else PASSED
        ages = {
            (limit - 1, limit - 1): PASSED,
            (limit - 1, limit): STEP_UP,
            (limit, limit - 1): second_alone,
            (limit, limit): STEP_UP,
            (limit - 1, -1): PASSED,
            (limit, -1): STEP_UP,
            (-1, limit - 1): second_alone,
            (-1, limit): STEP_UP,
            (-1, -1): STEP_UP,
        }
        with served({"reverification": preset}) as visit:
            for pair, comes_of_it in ages.items():
                token = local_clerk.token(ada, factor_verification_age=pair)
                seen[preset, pair] = outcome(visit(door, f"Bearer {token}"))
                expected[preset, pair] = comes_of_it
    assert seen == expected


@pytest.mark.parametrize("version", [1, 2], ids=["v1", "v2"])
@EVERY
def test_both_versions_of_the_token_are_understood(
    local_clerk: LocalClerk, ada: LocalUser, door: Doorway, version: int
) -> None:
    asked = {"role": "org:admin", "permission": "org:invoices:create", "organization": "organization"}
    told = {name: ALL[name] for name in _ORGANIZATION}
    with served(asked) as visit:
        for named, expected in (("acme", PASSED), ("org_1", PASSED), ("other", FORBIDDEN), ("ACME", FORBIDDEN)):
            token = local_clerk.token(ada, version=version, **told)
            assert outcome(visit(door, f"Bearer {token}", organization=named)) == expected, named


@EVERY
def test_the_claims_of_the_other_version_do_not_count(local_clerk: LocalClerk, ada: LocalUser, door: Doorway) -> None:
    """ORG-03: whoever writes custom claims writes no roles; and nobody knows what another version means."""
    one = {"org_id": "org_1", "org_role": "org:admin", "org_slug": "acme", "org_permissions": ["org:invoices:create"]}
    two = {"o": {"id": "org_1", "rol": "admin", "slg": "acme", "per": "create", "fpm": "1"}, "fea": "o:invoices"}
    plain = local_clerk.token(ada, version=1)
    with served({"role": "org:admin"}) as visit:
        for base in (1, 2):
            for leftovers in (one, two):
                claims = {**leftovers, "o": leftovers.get("o")}
                token = _minted(local_clerk, ada, base, claims)
                expected = PASSED if (leftovers is one) == (base == 1) else FORBIDDEN
                assert outcome(visit(door, f"Bearer {token}")) == expected
        for version in (3, "2", True, 2.0, [2]):
            token = _minted(local_clerk, ada, 2, {**one, **two, "v": version})
            assert outcome(visit(door, f"Bearer {token}")) == FORBIDDEN
        assert outcome(visit(door, f"Bearer {plain}")) == FORBIDDEN


def _minted(local_clerk: LocalClerk, ada: LocalUser, version: int, claims: dict[str, Any]) -> str:
    """Mint a token with exactly these claims, past the kit's keywords of the same names."""
    from clerk_views.testing.minting import mint, session_claims, session_header

    base = session_claims(
        user_id=ada.id,
        session_id="sess_1",
        issuer=local_clerk.issuer,
        azp=local_clerk.parties[0],
        version=version,
        expires_in=60,
        issued_at=None,
    )
    merged = {**base, **{name: value for name, value in claims.items() if value is not None}}
    key = local_clerk.signing_key
    return mint(session_header(key.kid), merged, key)


class TestSessionsWithTasks:
    """TOK-12: a pending session counts as signed out, unless the view says otherwise."""

    @EVERY
    def test_it_counts_as_signed_out(self, local_clerk: LocalClerk, ada: LocalUser, door: Doorway) -> None:
        with served({"role": "org:admin"}) as visit:
            response = visit(door, f"Bearer {local_clerk.token(ada, pending=True, **ALL)}")
        assert response.status_code == 401
        assert response.json()["code"] == "session-pending"

    @EVERY
    def test_a_view_may_admit_it(self, local_clerk: LocalClerk, ada: LocalUser, door: Doorway) -> None:
        bearer = f"Bearer {local_clerk.token(ada, pending=True, **ALL)}"
        with served({"role": "org:admin", "allow_pending": True}) as visit:
            response = visit(door, bearer)
            assert (response.status_code, response.json()["clerk"]) == (200, ada.id)
        with served({"role": "org:member", "allow_pending": True}) as visit:
            assert outcome(visit(door, bearer)) == FORBIDDEN


@EVERY
def test_somebody_who_acts_for_the_user_may_be_kept_out(local_clerk: LocalClerk, ada: LocalUser, door: Doorway) -> None:
    """TOK-13: also when the claim is odd."""
    for allowed in (True, False):
        with served({"role": "org:admin", "allow_impersonation": allowed}) as visit:
            actors: list[Any] = [{"sub": "user_admin"}, "user_admin", [], 0, {}]
            for actor in actors:
                token = _minted(local_clerk, ada, 2, {"o": {"id": "org_1", "rol": "admin"}, "act": actor})
                assert outcome(visit(door, f"Bearer {token}")) == (PASSED if allowed else FORBIDDEN)
            token = local_clerk.token(ada, **ALL)
            assert outcome(visit(door, f"Bearer {token}")) == PASSED


@FEW
@pytest.mark.parametrize(
    "asked_for",
    ["strict_mfa", "strict", "moderate", "lax", {"level": "first_factor", "afterMinutes": 2.5}],
    ids=str,
)
def test_the_browser_hears_what_to_prove(
    local_clerk: LocalClerk, ada: LocalUser, door: Doorway, asked_for: Any
) -> None:
    """Source: Clerk's useReverification, which shows the dialogue for exactly this and asks again."""
    with served({"reverification": asked_for}) as visit:
        response = visit(door, f"Bearer {local_clerk.token(ada, factor_verification_age=(2000, 2000))}")
        assert response.status_code == 403
        assert response["Content-Type"] == "application/json"
        assert response.json() == {
            "clerk_error": {
                "type": "forbidden",
                "reason": "reverification-error",
                "metadata": {"reverification": asked_for},
            }
        }
        fresh = local_clerk.token(ada, factor_verification_age=(0, 0))
        assert outcome(visit(door, f"Bearer {fresh}")) == PASSED


@EVERY
def test_on_pages_a_refusal_is_the_403_page_and_no_redirect(
    local_clerk: LocalClerk, ada: LocalUser, door: Doorway
) -> None:
    """RED-03: signing in again would lead straight back here."""
    for asked in ({"role": "org:owner"}, {"reverification": "strict"}):
        with served(asked) as visit:
            token = local_clerk.token(ada, factor_verification_age=(2000, 2000))
            response = visit(door, f"Bearer {token}", **PAGE)
            assert response.status_code == 403
            if not door.is_rest:
                assert response["Content-Type"].startswith("text/html")
                assert b"clerk_error" not in response.content
                assert b"owner" not in response.content


@FEW
def test_nobody_is_told_what_is_asked(local_clerk: LocalClerk, door: Doorway) -> None:
    """TOK-15: who is not signed in hears the same, whatever the view asks for."""
    bodies = set()
    for asked in ({"role": "org:admin"}, {"plan": "user:pro"}, {"reverification": "strict"}):
        with served(asked) as visit:
            response = visit(door, "")
            bodies.add((response.status_code, response.content))
    assert len(bodies) == 1


@FEW
def test_the_banned_are_refused_whatever_their_role(local_clerk: LocalClerk, door: Doorway) -> None:
    """LFC-01."""
    bob = local_clerk.add_user(email="bob@example.com", banned=True)
    with served({"role": "org:admin"}) as visit:
        response = visit(door, f"Bearer {local_clerk.token(bob, **ALL)}")
    assert (response.status_code, response.json()["code"]) == (403, "user-inactive")


def test_a_refusal_reads_no_row(local_clerk: LocalClerk, ada: LocalUser, django_assert_num_queries: Any) -> None:
    """ORG-04: the token decides; who fails costs neither a query nor a call."""
    with served({"role": "org:owner"}) as visit, django_assert_num_queries(0):
        visit(DOORWAYS[0], f"Bearer {local_clerk.token(ada, **ALL)}")
    assert local_clerk.calls.user_fetches == 0


def test_what_was_not_met_is_logged(local_clerk: LocalClerk, ada: LocalUser, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "clerk_views")
    with served({"role": "org:owner"}) as visit:
        visit(DOORWAYS[0], f"Bearer {local_clerk.token(ada, **ALL)}")
    assert f"'{ada.id}' does not meet a view's requirement: role='org:owner'" in caplog.text


def test_optional_views_see_a_pending_session_as_signed_out(local_clerk: LocalClerk, ada: LocalUser) -> None:
    state = authenticate(request_with(local_clerk.token(ada, pending=True)))
    assert (state.auth.is_authenticated, state.auth.is_pending) == (False, True)
    full = state.auth_if_pending_allowed
    assert (full.is_authenticated, full.user_id) == (True, ada.id)


#: What nobody can mean: keywords, and a word that the error has to say.
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown keyword": ({"roles": "org:admin"}, "roles"),
    **{
        f"{name} None": ({name: None}, f"{name} is None")
        for name in ("role", "permission", "feature", "plan", "reverification", "accepts_token", "scopes", "condition")
    },
    "role None beside another": ({"role": None, "plan": "user:pro"}, "role is None"),
    "organization None": ({"organization": None}, "organization"),
    "pending None": ({"allow_pending": None}, "allow_pending"),
    "impersonation None": ({"allow_impersonation": None}, "allow_impersonation"),
    "empty role": ({"role": ""}, "role"),
    "role of nothing": ({"role": "org:"}, "role"),
    "role no text": ({"role": 1}, "role"),
    "roles": ({"role": ["org:admin", "org:owner"]}, "role"),
    "empty permission": ({"permission": ""}, "permission"),
    "permissions": ({"permission": ("org:a:b",)}, "permission"),
    "unknown scope": ({"feature": "team:reports"}, "team:reports"),
    "empty scope": ({"plan": ":pro"}, "plan"),
    "scope of nothing": ({"plan": "user:"}, "plan"),
    "unknown preset": ({"reverification": "paranoid"}, "paranoid"),
    "snake case": ({"reverification": {"level": "second_factor", "after_minutes": 10}}, "afterMinutes"),
    "unknown level": ({"reverification": {"level": "third_factor", "afterMinutes": 10}}, "third_factor"),
    "no minutes": ({"reverification": {"level": "second_factor", "afterMinutes": 0}}, "afterMinutes"),
    "minutes true": ({"reverification": {"level": "second_factor", "afterMinutes": True}}, "afterMinutes"),
    "reverification True": ({"reverification": True}, "reverification"),
    "organization no name": ({"organization": "no name"}, "organization"),
    "empty organization": ({"organization": ""}, "organization"),
    "organization number": ({"organization": 1}, "organization"),
    "unknown token": ({"accepts_token": "api-key"}, "api-key"),
    "tokens in another case": ({"accepts_token": "ANY"}, "accepts_token"),
    "any among others": ({"accepts_token": ["any"]}, "accepts_token"),
    "no token at all": ({"accepts_token": []}, "accepts_token"),
    "empty token": ({"accepts_token": ""}, "accepts_token"),
    "token no text": ({"accepts_token": [None]}, "accepts_token"),
    "token a number": ({"accepts_token": 1}, "accepts_token"),
    "scopes one text": ({"scopes": "invoices:read"}, "scopes"),
    "scopes empty": ({"scopes": []}, "scopes"),
    "a scope that is empty": ({"scopes": [""]}, "scopes"),
    "a scope with a blank": ({"scopes": ["a b"]}, "scopes"),
    "a scope with a quote": ({"scopes": ['a"']}, "scopes"),
    "a scope with a line's end": ({"scopes": ["a\n"]}, "scopes"),
    "a scope no text": ({"scopes": [1]}, "scopes"),
    "scopes of sessions": ({"scopes": ["a"], "accepts_token": "session_token"}, "scopes"),
    "roles of machines": ({"role": "org:admin", "accepts_token": ["api_key"]}, "role"),
    "reverification of machines": ({"reverification": "strict", "accepts_token": "m2m_token"}, "reverification"),
    "condition no function": ({"condition": True}, "condition"),
    "condition a coroutine function": ({"condition": "async"}, "condition"),
    "condition of nothing": ({"condition": lambda: True}, "condition"),
    "condition of two": ({"condition": lambda one, other, another: True}, "condition"),
    "condition of a keyword": ({"condition": lambda *, auth: True}, "condition"),
    "condition a class of two": ({"condition": type("Two", (), {"__init__": lambda self, a, b: None})}, "condition"),
    "role with a blank": ({"role": "org:admin "}, "role"),
    "role with a line's end": ({"role": "org:admin\n"}, "role"),
    "roles in a text": ({"role": "org:admin,org:owner"}, "role"),
    "features in a text": ({"feature": "org:a,org:b"}, "feature"),
    "plans in a text": ({"plan": "user:a,user:b"}, "plan"),
    "permission without a name": ({"permission": "org:invoices"}, "permission"),
    "a system permission": ({"permission": "org:sys_memberships:manage"}, "system permission"),
    "reverification made by hand": ({"reverification": Reverification("nonsense", 1e9)}, "reverification"),
    "pending text": ({"allow_pending": "no"}, "allow_pending"),
    "impersonation text": ({"allow_impersonation": "False"}, "allow_impersonation"),
    "raise_exception text": ({"raise_exception": "False"}, "raise_exception"),
}


@pytest.mark.parametrize(("asked", "said"), MISTAKES.values(), ids=MISTAKES)
@pytest.mark.parametrize("where", ["decorator", "mixin", "as_view", "drf"])
def test_a_mistake_is_an_error_where_the_view_is_defined(asked: dict[str, Any], said: str, where: str) -> None:
    """ORG-04, ORG-07: a view that asks for nothing sensible never comes into being."""

    async def condition(auth: ClerkAuth) -> bool:
        return False

    if asked.get("condition") == "async":
        asked = {"condition": condition}
    with pytest.raises((TypeError, ValueError), match=said):
        _define(where, asked)


def _define(where: str, asked: dict[str, Any]) -> None:
    own = {"raise_exception"}
    named = {name if name in own else f"clerk_{name}": value for name, value in asked.items()}
    if where == "decorator":
        clerk_required(**asked)
    elif where == "mixin":
        type("Mixed", (ClerkLoginRequiredMixin, View), named)
    elif where == "as_view":
        type("Mixed", (ClerkLoginRequiredMixin, View), {}).as_view(**named)  # type: ignore[attr-defined]
    else:
        pytest.importorskip("rest_framework")
        from clerk_views.drf import clerk_requires

        clerk_requires(
            **{name: value for name, value in asked.items() if name not in own} or {"raise_exception": asked}
        )


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"organization": False},
        {"allow_impersonation": True},
        {"allow_pending": False},
        {"organization": False, "allow_impersonation": True, "allow_pending": False},
    ],
    ids=str,
)
def test_a_permission_that_asks_for_nothing_is_a_mistake(asked: dict[str, Any]) -> None:
    """ORG-04."""
    pytest.importorskip("rest_framework")
    from clerk_views.drf import clerk_requires

    with pytest.raises(TypeError, match="IsClerkAuthenticated"):
        clerk_requires(**asked)


@pytest.mark.parametrize(
    "asked",
    [{"allow_pending": True}, {"allow_impersonation": False}, {"accepts_token": "any"}, {"organization": True}],
    ids=str,
)
def test_what_changes_who_may_pass_is_asked(asked: dict[str, Any]) -> None:
    pytest.importorskip("rest_framework")
    from clerk_views.drf import clerk_requires

    assert clerk_requires(**asked)


@pytest.mark.parametrize("name", ["login_url", "redirect_field_name", "raise_exception"])
@pytest.mark.parametrize("value", ["/sign-in/", None, True])
def test_rest_views_take_nothing_that_is_about_redirects(name: str, value: Any) -> None:
    """ORG-04: it would do nothing there."""
    pytest.importorskip("rest_framework")
    from clerk_views.drf import clerk_requires

    given: Any = {"role": "org:admin", name: value}
    with pytest.raises(TypeError, match=f"takes no {name}"):
        clerk_requires(**given)


def test_the_defaults_may_be_written_out() -> None:
    """As the contract's table shows them."""
    defaults: Any = {
        "organization": False,
        "allow_pending": False,
        "allow_impersonation": True,
        "login_url": None,
        "redirect_field_name": None,
        "raise_exception": False,
    }
    clerk_required(**defaults)(lambda request: None)
    named = {name if "clerk_" + name not in ATTRIBUTES else "clerk_" + name: value for name, value in defaults.items()}
    type("Mixed", (ClerkLoginRequiredMixin, View), named)


def test_a_class_may_lift_what_its_base_asks() -> None:
    """ORG-04: None over nothing is a value that is missing, as from the environment; over something it is meant."""
    base: Any = type("Base", (ClerkLoginRequiredMixin, View), {"clerk_role": "org:admin", "clerk_plan": property(str)})
    lifted = type("Lifted", (base,), {"clerk_role": None, "clerk_plan": None})
    assert lifted().get_clerk_requirement() == Requirement()
    assert base.as_view(clerk_role=None)
    with pytest.raises(TypeError, match="again.clerk_role is None"):
        type("again", (lifted,), {"clerk_role": None})
    silent: Any = type("Silent", (ClerkLoginRequiredMixin, View), {"clerk_role": property(lambda self: None)})
    assert silent().get_clerk_requirement() == Requirement()


def test_a_misspelt_attribute_is_named() -> None:
    with pytest.raises(TypeError, match="Did you mean clerk_role"):
        type("Misspelt", (ClerkLoginRequiredMixin, View), {"clerk_rol": "org:admin"})
    with pytest.raises(TypeError, match="clerk_zebra is no requirement"):
        type("Misspelt", (ClerkLoginRequiredMixin, View), {"clerk_zebra": True})


def test_the_optional_mixin_takes_no_requirements() -> None:
    """Which it would not keep."""
    with pytest.raises(TypeError, match="clerk_role"):
        type("Mixed", (ClerkOptionalMixin, View), {"clerk_role": "org:admin"})


def test_the_mixin_s_attributes_may_be_properties() -> None:
    class Report(ClerkLoginRequiredMixin, View):
        @property
        def clerk_role(self) -> str:
            return "org:" + self.request.GET["role"]

    view = Report()
    view.request = request_with(None)
    view.request.GET = {"role": "owner"}  # type: ignore[assignment]
    assert view.get_clerk_requirement() == Requirement(role="org:owner")


def test_a_condition_may_be_whatever_can_be_called_with_one_thing(local_clerk: LocalClerk, ada: LocalUser) -> None:
    class Called:
        def __call__(self, auth: ClerkAuth, more: int = 1) -> bool:
            return auth.is_authenticated

    auth = get_clerk(request_with(local_clerk.token(ada)))
    conditions: list[Any] = [bool, Called(), lambda *auth: True, {auth: True}.get, partial(operator.eq, auth)]
    for condition in [*conditions, operator.attrgetter("is_authenticated"), type]:  # type does not tell what it takes
        assert Requirement(condition=condition).refusal(auth, {}, config()) is None


@pytest.mark.parametrize("given", [{"level": "second_factor", "afterMinutes": 10}, Reverification("second_factor", 10)])
def test_what_to_prove_cannot_be_changed_later(local_clerk: LocalClerk, ada: LocalUser, given: Any) -> None:
    """ORG-05: not by a dictionary that is shared with others, nor by what a visitor was told."""
    requirement = Requirement(reverification=given)
    auth = get_clerk(request_with(local_clerk.token(ada, factor_verification_age=(20, 20))))
    for _ in range(2):
        refusal = requirement.refusal(auth, {}, config())
        assert refusal is not None
        assert refusal.reverification == {"level": "second_factor", "afterMinutes": 10}
        told: Any = refusal.reverification
        kept: Any = requirement.reverification
        for changed in (told, kept, *([given] if isinstance(given, dict) else [])):
            changed["afterMinutes"] = 60


@pytest.mark.usefixtures("local_clerk")
def test_a_program_is_not_told_to_prove_who_it_is() -> None:
    auth = ClerkAuth("signed-in", token_type="api_key", user_id="user_1")
    refusal = Requirement(accepts_token="any", reverification="strict").refusal(auth, {}, config())
    assert refusal == Refusal(detail="reverification")


@EVERY
def test_a_slug_does_not_pass_for_an_id(local_clerk: LocalClerk, ada: LocalUser, door: Doorway) -> None:
    """ORG-06: people choose slugs, Clerk the ids."""
    with served({"organization": "organization"}) as visit:
        for org_id, slug, named, expected in (
            ("org_2", "org_1", "org_1", FORBIDDEN),
            ("org_2", "org_1", "org_2", PASSED),
            ("org_1", "acme", "acme", PASSED),
            ("org_1", "acme", "org_", FORBIDDEN),
        ):
            token = local_clerk.token(ada, org_id=org_id, org_slug=slug)
            assert outcome(visit(door, f"Bearer {token}", organization=named)) == expected


@pytest.mark.parametrize("kind", ["method", "lambda", "static method", "class method", "partial", "property"])
def test_the_mixin_s_condition_may_be_any_callable(local_clerk: LocalClerk, ada: LocalUser, kind: str) -> None:
    conditions: dict[str, Any] = {
        "method": lambda self, auth: (type(self).__name__, auth.org_slug) == ("Conditional", "acme"),
        "lambda": lambda auth: auth.org_slug == "acme",
        "static method": staticmethod(lambda auth: auth.org_slug == "acme"),
        "class method": classmethod(lambda cls, auth: (cls.__name__, auth.org_slug) == ("Conditional", "acme")),
        "property": property(lambda self: lambda auth: auth.org_slug == "acme"),
        "partial": partial(lambda slug, auth: auth.org_slug == slug, "acme"),
    }
    conditional = type("Conditional", (ClerkLoginRequiredMixin, View), {"clerk_condition": conditions[kind]})
    requirement = conditional().get_clerk_requirement()
    assert requirement.refusal(get_clerk(request_with(local_clerk.token(ada, **ALL))), {}, config()) is None
    assert requirement.refusal(get_clerk(request_with(local_clerk.token(ada))), {}, config()) == Refusal(
        detail="condition"
    )


def test_a_condition_s_own_error_lets_nobody_in(local_clerk: LocalClerk, ada: LocalUser) -> None:
    """I8: it is the developer's to mend, so he sees it."""
    with served({"condition": lambda auth: auth.claims["team"] == "red"}) as visit, pytest.raises(KeyError):
        visit(DOORWAYS[0], f"Bearer {local_clerk.token(ada)}")


def test_a_condition_that_has_not_run_lets_nobody_in(local_clerk: LocalClerk, ada: LocalUser) -> None:
    """I8: a coroutine is true whatever would come of it."""

    async def later(auth: ClerkAuth) -> bool:
        return False

    with served({"condition": lambda auth: later(auth)}) as visit, pytest.raises(TypeError, match="awaitable"):
        visit(DOORWAYS[0], f"Bearer {local_clerk.token(ada)}")


def test_nothing_that_is_still_to_come_lets_anybody_in(local_clerk: LocalClerk, ada: LocalUser) -> None:
    """I8."""

    class Coming:
        def __await__(self) -> Any:
            return iter(())

    auth = get_clerk(request_with(local_clerk.token(ada)))
    with pytest.raises(TypeError, match="awaitable"):
        Requirement(condition=lambda auth: Coming()).refusal(auth, {}, config())


def test_a_session_with_tasks_that_another_permission_admits_is_not_admitted_here(
    local_clerk: LocalClerk, ada: LocalUser
) -> None:
    """TOK-12: composed permissions share one visitor, and each looks for itself."""
    full = authenticate(request_with(local_clerk.token(ada, pending=True, **ALL))).auth_if_pending_allowed
    assert Requirement(role="org:admin", allow_pending=True).refusal(full, {}, config()) is None
    assert Requirement(role="org:admin").refusal(full, {}, config()) == Refusal(detail="pending session")


@EVERY
def test_a_condition_may_read_the_database(local_clerk: LocalClerk, ada: LocalUser, door: Doorway) -> None:
    """CTX-02, CTX-04: on no event loop."""
    from clerk_views.models import ClerkAccount

    with served({"condition": lambda auth: ClerkAccount.objects.filter(clerk_id="user_none").exists()}) as visit:
        assert outcome(visit(door, f"Bearer {local_clerk.token(ada)}")) == FORBIDDEN


@EVERY
def test_an_organization_that_the_url_does_not_name_is_a_mistake(
    local_clerk: LocalClerk, ada: LocalUser, door: Doorway
) -> None:
    """ORG-06: and lets nobody in."""
    token = local_clerk.token(ada, **ALL)
    with served({"organization": "organization"}) as visit, pytest.raises(ImproperlyConfigured, match="no argument"):
        visit(door, f"Bearer {token}")


def test_raise_exception_is_django_s(local_clerk: LocalClerk) -> None:
    with served({"role": "org:admin", "raise_exception": True}) as visit:
        assert visit(DOORWAYS[0], "", **PAGE).status_code == 403
        assert visit(DOORWAYS[0], "").status_code == 403


@pytest.mark.parametrize(
    ("given", "accepted"),
    [
        ("any", ("session_token", "api_key", "m2m_token", "oauth_token")),
        ("m2m_token", ("m2m_token",)),
        (["oauth_token", "session_token", "oauth_token"], ("session_token", "oauth_token")),
        (("api_key",), ("api_key",)),
        ({"api_key"}, ("api_key",)),
    ],
)
@pytest.mark.usefixtures("local_clerk")
def test_kinds_of_token_are_named_in_any_form(given: Any, accepted: tuple[str, ...]) -> None:
    assert Requirement(accepts_token=given).accepted(config()) == accepted


@pytest.mark.usefixtures("local_clerk")
def test_what_one_permission_accepts_is_not_what_another_does() -> None:
    """MCH-01, I8: REST framework authenticates once for permissions that are composed."""
    auth = ClerkAuth("signed-in", token_type="api_key", user_id="user_1", scopes=("a",))
    assert Requirement(accepts_token=["session_token", "api_key"], scopes=["a"]).refusal(auth, {}, config()) is None
    refusal = Requirement(accepts_token="oauth_token").refusal(auth, {}, config())
    assert refusal is not None
    assert refusal.reason == "token-type-mismatch"
