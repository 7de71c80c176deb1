"""REST framework: the authentication class among others, the permission among others."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.db import connection, connections
from django.test import Client
from django.urls import path

from clerk_views.testing import LocalClerk

pytest.importorskip("rest_framework")

from rest_framework import permissions
from rest_framework.authentication import BasicAuthentication, SessionAuthentication
from rest_framework.decorators import action, api_view, authentication_classes, permission_classes
from rest_framework.generics import RetrieveAPIView
from rest_framework.permissions import AllowAny, IsAdminUser, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.test import APIClient, APIRequestFactory
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from clerk_views.drf import ClerkAuthentication, IsClerkAuthenticated, clerk_requires
from tests.doors import MIDDLEWARE

pytestmark = pytest.mark.django_db

NAMES = ("", "open/", "then-session/", "session-first/", "then-basic/")


@pytest.fixture(params=[False, True], ids=["alone", "with-middleware"], autouse=True)
def _middleware(request: pytest.FixtureRequest, settings: Any) -> None:
    if request.param:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]


@pytest.fixture
def ada(local_clerk: LocalClerk) -> Any:
    return local_clerk.add_user(email="ada@example.com")


@pytest.fixture
def sam() -> Any:
    return get_user_model().objects.create_user("sam", "sam@example.com", "password")


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.fixture
def visit(settings: Any, local_clerk: LocalClerk) -> Callable[..., Any]:
    """Serve a view and go there: ``visit(view, token)``."""

    def visit(view: Any, token: str | None = None, **options: Any) -> Any:
        class Urls:
            urlpatterns = [path("thing", view)]

        settings.ROOT_URLCONF = Urls
        return (options.pop("client", None) or Client()).get("/thing", headers=bearer(token) if token else {})

    return visit


def api(*asked: Any, **attributes: Any) -> Any:
    """Return a view with these permissions; it answers whom it sees."""

    def get(self: Any, request: Any, **kwargs: Any) -> Response:
        return Response({"clerk": request.auth and request.auth.user_id, "user": request.user.pk})

    members = {"authentication_classes": [ClerkAuthentication], "permission_classes": asked, "get": get, **attributes}
    view_class: Any = type("Api", (APIView,), members)
    return view_class.as_view()


REFUSED = {"detail": "You may not do this.", "code": "not-authorized"}
ADMIN, MEMBER = clerk_requires(role="org:admin"), clerk_requires(role="org:member")
STRICT = clerk_requires(reverification="strict")
NEVER: Any = type("Never", (permissions.BasePermission,), {"has_permission": lambda *args: False})


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("why", ["banned", "deleted"])
@pytest.mark.parametrize("path", ["/api/", "/api/function/", "/plain/", "/required/"])
def test_who_is_refused_stays_deactivated(
    local_clerk: LocalClerk, ada: Any, settings: Any, monkeypatch: pytest.MonkeyPatch, path: str, why: str
) -> None:
    """LFC-01, LFC-02: though the refusal takes back the transaction of the request; and asking again costs no call."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, *([] if MIDDLEWARE in settings.MIDDLEWARE else [MIDDLEWARE])]
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    client = Client()
    assert client.get(path, headers=bearer(local_clerk.token(ada))).status_code == 200
    if why == "banned":
        local_clerk.update_user(ada, banned=True)
    else:
        local_clerk.delete_user(ada)
    cache.clear()
    local_clerk.calls.reset()
    for turn in range(3):
        assert client.get(path, headers=bearer(local_clerk.token(ada.id, jti=f"turn {turn}"))).status_code == 403
        assert not get_user_model().objects.get().is_active
    cache.clear()
    assert client.get(path, headers=bearer(local_clerk.token(ada.id, jti="last"))).status_code == 403
    assert local_clerk.calls.user_fetches <= 2


def test_it_gives_the_user_and_the_auth(local_clerk: LocalClerk, ada: Any) -> None:
    seen = Client().get("/api/", headers=bearer(local_clerk.token(ada))).json()
    assert seen["clerk"] == ada.id
    assert seen["auth"] == "ClerkAuth"
    assert get_user_model().objects.get(pk=seen["user"]).email == "ada@example.com"


@pytest.mark.parametrize(
    "authorization",
    ["Basic YTpi", "Token abc", "Bearer opaque", "Bearer a.b", "Digest x=1"],
)
def test_another_scheme_s_credential_is_left_to_the_next_class(local_clerk: LocalClerk, authorization: str) -> None:
    assert Client().get("/api/open/", headers={"authorization": authorization}).status_code == 200
    assert local_clerk.calls.total == 0


def test_a_jwt_of_another_issuer_is_left_to_the_next_class(local_clerk: LocalClerk, ada: Any, settings: Any) -> None:
    foreign = local_clerk.token(ada, iss="https://other.example")
    response = Client().get("/api/open/", headers=bearer(foreign))
    assert (response.status_code, response.json()["clerk"]) == (200, None)
    settings.CLERK_PUBLISHABLE_KEY = None  # now no issuer is known, so it may be ours
    settings.CLERK_ISSUER = None
    settings.CLERK_AUTH_PARTIES = []
    assert Client().get("/api/open/", headers=bearer(foreign)).status_code == 200
    assert Client().get("/api/open/", headers=bearer(foreign)).json()["clerk"] == ada.id


def test_the_next_class_hears_of_an_opaque_bearer(local_clerk: LocalClerk) -> None:
    seen = Client().get("/api/then-bearer/", headers=bearer("opaque")).json()
    assert (seen["user"], seen["auth"], seen["clerk"]) == (-1, "str", None)


@pytest.mark.parametrize("kind", ["forged", "expired", "machine", "malformed"])
@pytest.mark.parametrize("path", [f"/api/{name}" for name in NAMES])
def test_a_bad_clerk_bearer_is_401_whatever_stands_first(
    local_clerk: LocalClerk, ada: Any, path: str, kind: str
) -> None:
    token = {
        "forged": local_clerk.token(ada)[:-8] + "AAAAAAAA",
        "expired": local_clerk.token(ada, expires_in=-60),
        "machine": "ak_" + "0" * 32,
        "malformed": "a b",
    }[kind]
    response = Client().get(path, headers=bearer(token))
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert set(response.json()) == {"detail", "code"}


def test_a_stale_cookie_leaves_open_views_open(local_clerk: LocalClerk, ada: Any) -> None:
    client = Client()
    client.cookies.load(local_clerk.session_cookies(local_clerk.token(ada, expires_in=-60)))
    assert client.get("/api/open/").status_code == 200
    assert client.get("/api/").status_code == 401


@pytest.mark.parametrize("path", ["/api/then-session/", "/api/session-first/"])
def test_session_users_beside_clerk_users(local_clerk: LocalClerk, ada: Any, sam: Any, path: str) -> None:
    client = Client()
    client.force_login(sam)
    assert client.get(path).json()["user"] == sam.pk
    client.logout()
    client.cookies.load(local_clerk.session_cookies(local_clerk.token(ada)))
    assert client.get(path).json()["clerk"] == ada.id


def test_a_stale_cookie_beside_a_session(local_clerk: LocalClerk, ada: Any, sam: Any) -> None:
    client = Client()
    client.force_login(sam)
    client.cookies.load(local_clerk.session_cookies(local_clerk.token(ada, expires_in=-60)))
    assert client.get("/api/then-session/").json()["user"] == sam.pk


def test_basic_authentication_beside(local_clerk: LocalClerk, sam: Any) -> None:
    credentials = base64.b64encode(b"sam:password").decode()
    seen = Client().get("/api/then-basic/", headers={"authorization": f"Basic {credentials}"}).json()
    assert seen["user"] == sam.pk


def test_permissions_that_a_view_chooses_by_its_user(local_clerk: LocalClerk, ada: Any, settings: Any) -> None:
    """What was made of one list of classes does not stand for another one."""

    class Chosen(APIView):
        authentication_classes = [ClerkAuthentication]

        @property
        def permission_classes(self) -> Any:  # type: ignore[override]  # as views of real projects have it
            return [IsAdminUser] if self.request.user.is_authenticated else [IsClerkAuthenticated]

        def get(self, request: Request) -> Response:
            return Response()

    class Urls:
        urlpatterns = [path("", Chosen.as_view())]

    settings.ROOT_URLCONF = Urls
    client = Client()
    assert client.get("/").status_code == 401
    assert client.get("/", headers=bearer(local_clerk.token(ada))).status_code == 403
    get_user_model().objects.update(is_staff=True)
    assert client.get("/", headers=bearer(local_clerk.token(ada))).status_code == 200


@pytest.mark.parametrize("credential", ["none", "good", "bad", "another scheme's"])
def test_no_permissions_at_all_is_a_mistake_and_opens_nothing(
    local_clerk: LocalClerk, ada: Any, settings: Any, credential: str
) -> None:
    class Broken(APIView):
        authentication_classes = [ClerkAuthentication]
        permission_classes = None  # type: ignore[assignment]  # the mistake

        def get(self, request: Request) -> Response:
            return Response()

    class Urls:
        urlpatterns = [path("", Broken.as_view())]

    settings.ROOT_URLCONF = Urls
    headers = {"good": bearer(local_clerk.token(ada)), "bad": bearer("a.b.c"), "another scheme's": bearer("xyz")}
    with pytest.raises(TypeError):
        Client().get("/", headers=headers.get(credential, {}))


def test_permissions_compose(local_clerk: LocalClerk, ada: Any) -> None:
    token = bearer(local_clerk.token(ada))
    assert Client().get("/api/composed/", headers=token).status_code == 200
    assert Client().get("/api/composed/").status_code == 401
    assert Client().get("/api/negated/").status_code == 200
    assert Client().get("/api/negated/", headers=token).status_code == 403


def test_viewsets_and_their_actions(local_clerk: LocalClerk, ada: Any) -> None:
    token = bearer(local_clerk.token(ada))
    for where in ("/api/things/", "/api/things/recent/"):
        assert Client().get(where).status_code == 401
        assert Client().get(where, headers=token).json()["clerk"] == ada.id


def test_a_refused_account_is_403(local_clerk: LocalClerk, ada: Any, sam: Any) -> None:
    sam.is_staff = True
    sam.save()
    local_clerk.update_user(ada, email="sam@example.com")
    response = Client().get("/api/open/", headers=bearer(local_clerk.token(ada)))
    assert response.status_code == 403
    assert response.json() == {"detail": "You may not do this.", "code": "link-refused"}


def test_an_outage_is_503(local_clerk: LocalClerk, ada: Any) -> None:
    local_clerk.faults.down()
    response = Client().get("/api/open/", headers=bearer(local_clerk.token(ada)))
    assert response.status_code == 503
    assert 1 <= int(response["Retry-After"]) <= 120
    assert set(response.json()) == {"detail", "code"}


def test_the_test_client_of_rest_framework_signs_in(clerk: Any) -> None:
    client = APIClient(enforce_csrf_checks=True)
    user = clerk.add_user(email="ada@example.com")
    clerk.sign_in(client, user, via="bearer")
    assert client.post("/api/").json()["clerk"] == user.id
    clerk.sign_in(client, user)
    assert client.get("/api/").json()["clerk"] == user.id
    assert client.post("/api/").status_code == 403
    clerk.sign_out(client)
    assert client.get("/api/").status_code == 401


def test_the_default_classes_of_the_project(local_clerk: LocalClerk, ada: Any, settings: Any) -> None:
    from tests.rest import ByDefault

    view = ByDefault.as_view(authentication_classes=[ClerkAuthentication])
    request = APIRequestFactory().get("/", headers=bearer(local_clerk.token(ada)))
    assert view(request).data["clerk"] == ada.id


def test_it_works_without_a_view(local_clerk: LocalClerk, ada: Any) -> None:
    """As schema generators and tests use it."""
    from rest_framework.request import Request

    request = Request(APIRequestFactory().get("/", headers=bearer(local_clerk.token(ada))))
    result = ClerkAuthentication().authenticate(request)
    assert result is not None
    assert result[1].user_id == ada.id
    assert ClerkAuthentication().authenticate_header(Request(APIRequestFactory().get("/"))) == "Bearer"


@pytest.fixture
def admin(local_clerk: LocalClerk, ada: Any) -> str:
    return local_clerk.token(ada, org_id="org_1", org_role="org:admin", factor_verification_age=(2000, 2000))


@pytest.fixture
def member(local_clerk: LocalClerk) -> str:
    bob = local_clerk.add_user(email="bob@example.com")
    return local_clerk.token(bob, org_id="org_1", org_role="org:member", factor_verification_age=(2000, 2000))


class TestNegations:
    """I8: what is undecided is denied, under ``~`` as well."""

    @pytest.mark.parametrize(
        "asked",
        [
            ~ADMIN,
            ~~MEMBER,
            ~(ADMIN & IsAuthenticated),
            ~(IsAuthenticated & ADMIN),
            ~(ADMIN | IsAdminUser),
            ~(IsAdminUser | ADMIN),
            ~((IsAdminUser & IsAdminUser) | (ADMIN & IsAuthenticated)),
            ~((IsAdminUser & IsAdminUser) | ADMIN),
            ~((IsAdminUser & IsAdminUser) | ADMIN) & ~NEVER,
        ],
    )
    def test_they_let_in_who_is_signed_in_and_has_it_not(
        self, local_clerk: LocalClerk, visit: Any, ada: Any, admin: str, member: str, asked: Any
    ) -> None:
        view = api(asked)
        assert visit(view, member).status_code == 200
        refused = visit(view, admin)
        assert (refused.status_code, refused.json()) == (403, REFUSED)
        assert visit(view).status_code == 401
        pending = visit(view, local_clerk.token(ada, pending=True, org_role="org:member", org_id="org_1"))
        assert (pending.status_code, pending.json()["code"]) == (401, "session-pending")

    def test_of_somebody_another_class_has_signed_in_nothing_is_known(self, visit: Any, sam: Any) -> None:
        client = Client()
        client.force_login(sam)
        both = [SessionAuthentication, ClerkAuthentication]
        refused = visit(api(~ADMIN, authentication_classes=both), client=client)
        assert (refused.status_code, refused.json()) == (403, REFUSED)
        assert visit(api(~IsClerkAuthenticated, authentication_classes=both), client=client).status_code == 200

    def test_of_what_the_visitor_may_not_be_asked_nothing_is_known(
        self, local_clerk: LocalClerk, visit: Any, ada: Any
    ) -> None:
        """TOK-12, MCH-01: a session that one half admits is not the other's to judge, nor is a key."""
        pending = local_clerk.token(ada, pending=True, org_role="org:member", org_id="org_1")
        opened = clerk_requires(allow_pending=True)
        assert visit(api(opened), pending).status_code == 200
        assert visit(api(opened & ~ADMIN), pending).status_code == 403
        assert visit(api(opened & ~clerk_requires(role="org:admin", allow_pending=True)), pending).status_code == 200
        key = local_clerk.create_api_key(ada, ["read"])
        by_key = clerk_requires(accepts_token="api_key")
        assert visit(api(by_key), key).status_code == 200
        assert visit(api(by_key & ~clerk_requires(plan="user:pro")), key).status_code == 403

    def test_who_is_not_signed_in_is_a_question_that_can_be_answered(self, visit: Any, admin: str) -> None:
        assert visit(api(~IsClerkAuthenticated)).status_code == 200
        assert visit(api(~IsClerkAuthenticated), admin).status_code == 403
        assert visit(api(~IsClerkAuthenticated, clerk_role="org:member")).status_code == 401
        assert visit(api(~IsClerkAuthenticated, clerk_role="org:member"), admin).status_code == 200

    @pytest.mark.parametrize(
        ("asked", "who", "status"),
        [
            ([~ADMIN], "member", 200),
            ([~ADMIN], "admin", 403),
            ([ADMIN], "admin", 200),
            ([ADMIN], "member", 403),
            ([ADMIN | MEMBER], "member", 200),
            ([ADMIN & ~MEMBER], "admin", 200),
            ([~IsClerkAuthenticated], "nobody", 200),
            ([~ADMIN], "nobody", 401),
        ],
    )
    def test_of_one_object_the_same_holds(
        self, visit: Any, admin: str, member: str, sam: Any, asked: Any, who: str, status: int
    ) -> None:
        """The object's own question must be answered like the view's, or ``~`` would turn it round for everybody."""

        class Detail(RetrieveAPIView[Any]):
            authentication_classes = [ClerkAuthentication]
            permission_classes = asked
            queryset = get_user_model().objects.filter(username="sam")

            def get_object(self) -> Any:
                self.kwargs["pk"] = sam.pk
                return super().get_object()

            def get_serializer(self, *args: Any, **kwargs: Any) -> BaseSerializer[Any]:
                class Serializer(BaseSerializer[Any]):
                    def to_representation(self, instance: Any) -> Any:
                        return {"name": instance.username}

                return Serializer(*args, **kwargs)

        response = visit(Detail.as_view(), {"admin": admin, "member": member, "nobody": None}[who])
        assert response.status_code == status
        if status == 200:
            assert response.json() == {"name": "sam"}


class TestRefusals:
    """Contract 4: fixed bodies, however permissions are composed."""

    @pytest.mark.parametrize(
        "asked",
        [
            [ADMIN & NEVER],
            [NEVER & ADMIN],
            [~ADMIN | NEVER],
            [(IsAuthenticated & NEVER) | MEMBER],
            [NEVER | (IsAuthenticated & MEMBER)],
            [ADMIN, ~ADMIN],
        ],
    )
    @pytest.mark.parametrize("language", ["en", "de"])
    def test_the_body_is_ours_when_one_half_is(
        self, visit: Any, admin: str, settings: Any, asked: Any, language: str
    ) -> None:
        settings.LANGUAGE_CODE = language
        response = visit(api(*asked), admin)
        assert (response.status_code, response.json()) == (403, REFUSED)

    @pytest.mark.parametrize("asked", [ADMIN & NEVER, ~ADMIN, ADMIN | NEVER])
    def test_also_where_another_class_has_signed_in(self, visit: Any, sam: Any, asked: Any) -> None:
        client = Client()
        client.force_login(sam)
        response = visit(api(asked, authentication_classes=[SessionAuthentication]), client=client)
        assert (response.status_code, response.json()) == (403, REFUSED)

    def test_what_others_say_stays(self, visit: Any, admin: str) -> None:
        """The words of a permission that has none of ours in it, of a message of the project's, of the view itself."""
        worded = type("Worded", (ADMIN,), {"message": "For admins."})
        negative = type("Negative", (MEMBER,), {"message": "For members."})
        assert visit(api(worded, NEVER), admin).json() == {
            "detail": "You do not have permission to perform this action."
        }
        assert visit(api(negative), admin).json() == {"detail": "For members."}

        def get(self: Any, request: Any) -> None:
            self.permission_denied(request, message="Not today.")

        assert visit(api(ADMIN, get=get), admin).json() == {"detail": "Not today."}

    STEP_UP = {
        "clerk_error": {
            "type": "forbidden",
            "reason": "reverification-error",
            "metadata": {"reverification": "strict"},
        }
    }

    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            ([STRICT], STEP_UP),
            ([STRICT | MEMBER], STEP_UP),
            ([MEMBER | STRICT], STEP_UP),
            ([(ADMIN & STRICT) | MEMBER], STEP_UP),
            ([MEMBER | (STRICT & ADMIN)], STEP_UP),
            ([STRICT | NEVER], STEP_UP),
            ([NEVER | STRICT], STEP_UP),
            ([STRICT & IsAuthenticated], STEP_UP),
            ([STRICT, ADMIN], STEP_UP),
            ([ADMIN, STRICT], STEP_UP),
            ([STRICT & ~MEMBER], STEP_UP),
            # Here it would be in vain.
            ([STRICT & MEMBER], REFUSED),
            ([MEMBER & STRICT], REFUSED),
            ([STRICT & NEVER], REFUSED),
            ([(STRICT | MEMBER) & NEVER], REFUSED),
            ([(MEMBER & STRICT) | (STRICT & NEVER)], REFUSED),
            ([STRICT, MEMBER], REFUSED),
            ([STRICT, NEVER], REFUSED),
            ([STRICT & ~ADMIN], REFUSED),
        ],
    )
    def test_to_prove_anew_who_he_is_a_visitor_is_told_where_it_helps(
        self, visit: Any, admin: str, asked: Any, expected: Any
    ) -> None:
        """Contract 4: whatever the order of the operands."""
        response = visit(api(*asked), admin)
        assert (response.status_code, response.json()) == (403, expected)

    def test_a_permission_that_cannot_be_asked_on_trial_is_no_error(self, visit: Any, admin: str) -> None:
        """I2."""

        def has_permission(self: Any, request: Any, view: Any) -> bool:
            raise RuntimeError

        broken = type("Broken", (permissions.BasePermission,), {"has_permission": has_permission})
        assert visit(api(STRICT & broken), admin).json() == REFUSED

    def test_scopes_are_told_whatever_else_was_refused(self, local_clerk: LocalClerk, ada: Any, visit: Any) -> None:
        key = local_clerk.create_api_key(ada, ["read"])
        write = clerk_requires(accepts_token="api_key", scopes=["write"])
        for asked in (write | ADMIN, ADMIN | write):
            response = visit(api(asked), key)
            assert (response.status_code, response.json()) == (403, REFUSED)
            assert response["WWW-Authenticate"] == 'Bearer error="insufficient_scope", scope="write"'


class TestByException:
    """TOK-12, MCH-01: what one permission admits is no user for the others."""

    @pytest.mark.parametrize("first", [True, False])
    def test_a_session_with_tasks(
        self, local_clerk: LocalClerk, ada: Any, visit: Any, member: str, first: bool
    ) -> None:
        opened = clerk_requires(role="org:admin", allow_pending=True)
        view = api(opened | IsAuthenticated if first else IsAuthenticated | opened)
        pending = {role: local_clerk.token(ada, pending=True, org_id="org_1", org_role=role) for role in ("admin", "x")}
        assert visit(view, pending["admin"]).json()["clerk"] == ada.id
        refused = visit(view, pending["x"])
        assert (refused.status_code, refused.json()["code"]) == (401, "session-pending")
        assert visit(view, member).status_code == 200

    @pytest.mark.parametrize(
        ("asked", "status"),
        [
            ([clerk_requires(role="org:member", allow_pending=True)], 403),
            ([clerk_requires(role="org:admin", allow_pending=True), IsAuthenticated], 200),
            ([clerk_requires(role="org:admin", allow_pending=True) & IsAuthenticated], 200),
            ([clerk_requires(role="org:member", allow_pending=True) & IsAuthenticated], 403),
            ([clerk_requires(role="org:member", allow_pending=True) | ADMIN], 403),
            ([clerk_requires(role="org:member", allow_pending=True) | ~MEMBER], 401),
            # Whether the first half lets him in cannot be known beforehand, and the second must not.
            ([(clerk_requires(role="org:admin", allow_pending=True) & AllowAny) | IsAuthenticated], 401),
        ],
    )
    def test_where_it_counts(self, local_clerk: LocalClerk, ada: Any, visit: Any, asked: Any, status: int) -> None:
        pending = local_clerk.token(ada, pending=True, org_id="org_1", org_role="org:admin")
        assert visit(api(*asked), pending).status_code == status

    def test_an_open_view_sees_nobody(self, local_clerk: LocalClerk, ada: Any, visit: Any) -> None:
        pending = local_clerk.token(ada, pending=True, org_id="org_1", org_role="org:admin")
        opened = clerk_requires(role="org:member", allow_pending=True)
        assert visit(api(opened | AllowAny), pending).json() == {"clerk": None, "user": None}

    @pytest.mark.parametrize("first", [True, False])
    def test_a_key_with_too_few_scopes(
        self, local_clerk: LocalClerk, ada: Any, visit: Any, first: bool, settings: Any
    ) -> None:
        write = clerk_requires(accepts_token="api_key", scopes=["write"])
        view = api(write | IsAuthenticated if first else IsAuthenticated | write)
        assert visit(view, local_clerk.create_api_key(ada, ["write"])).json()["clerk"] == ada.id
        reads = local_clerk.create_api_key(ada, ["read"])
        refused = visit(view, reads)
        assert (refused.status_code, refused.json()) == (403, REFUSED)
        assert refused["WWW-Authenticate"] == 'Bearer error="insufficient_scope", scope="write"'
        settings.CLERK_ACCEPTS_TOKEN = ["session_token", "api_key"]  # now it is no exception
        assert visit(view, reads).status_code == 200

    def test_a_key_where_nothing_is_refused_but_it_is_not_let_in(
        self, local_clerk: LocalClerk, ada: Any, visit: Any
    ) -> None:
        view = api((clerk_requires(accepts_token="api_key") & NEVER) | IsAuthenticated)
        refused = visit(view, local_clerk.create_api_key(ada))
        assert (refused.status_code, refused.json()) == (403, REFUSED)


class TestAttributes:
    """ORG-04: what stands on a view is asked, whichever permission of ours it has."""

    def test_a_permission_asks_for_the_view_s_attributes_as_well(
        self, local_clerk: LocalClerk, ada: Any, visit: Any
    ) -> None:
        view = api(clerk_requires(plan="user:pro"), clerk_role="org:admin")
        for plans, role, status in (
            (["user:pro"], "org:admin", 200),
            (["user:pro"], "org:member", 403),
            ([], "org:admin", 403),
        ):
            token = local_clerk.token(ada, org_id="org_1", org_role=role, plans=plans)
            assert visit(view, token).status_code == status
        assert (
            visit(api(MEMBER, clerk_role="org:admin"), local_clerk.token(ada, org_role="org:admin")).status_code == 403
        )

    def test_one_that_is_misspelt_is_an_error(self, visit: Any, admin: str) -> None:
        for permission in (IsClerkAuthenticated, ADMIN):
            with pytest.raises(TypeError, match="Did you mean clerk_role"):
                visit(api(permission, clerk_rol="org:admin"), admin)

    def test_what_widens_is_meant_for_both(self, local_clerk: LocalClerk, ada: Any, visit: Any) -> None:
        pending = local_clerk.token(ada, pending=True, org_id="org_1", org_role="org:admin")
        assert visit(api(ADMIN, clerk_allow_pending=True), pending).status_code == 200
        assert visit(api(ADMIN, clerk_organization=True), pending).status_code == 401
        opened = clerk_requires(role="org:admin", allow_pending=True)
        assert visit(api(opened, clerk_organization=True), pending).status_code == 200
        assert visit(api(opened, clerk_organization=True, clerk_allow_pending=False), pending).status_code == 403
        key = local_clerk.create_api_key("org_1", ["read"])
        by_key = clerk_requires(accepts_token="api_key", scopes=["read"])
        assert visit(api(by_key, clerk_organization=True), key).status_code == 200
        assert visit(api(by_key, clerk_organization=True), local_clerk.create_api_key(ada, ["read"])).status_code == 403

    def test_step_up_is_told_last(self, local_clerk: LocalClerk, ada: Any, visit: Any) -> None:
        token = local_clerk.token(ada, org_role="org:member", factor_verification_age=(2000, 2000))
        for view in (api(STRICT, clerk_role="org:admin"), api(ADMIN, clerk_reverification="strict")):
            assert visit(view, token).json() == REFUSED

    @pytest.mark.parametrize("where", ["view", "function", "wrapped view", "module"])
    def test_with_api_view_they_stand_on_the_function(
        self, visit: Any, admin: str, member: str, where: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def inner(request: Any) -> Response:
            return Response({"seen": True})

        inner.__name__ = "inner_of_a_test"
        if where == "function":
            inner.clerk_role = "org:admin"  # type: ignore[attr-defined]
        chosen = permission_classes([IsClerkAuthenticated])(authentication_classes([ClerkAuthentication])(inner))
        view: Any = api_view(["GET"])(chosen)
        if where in ("view", "module"):
            view.clerk_role = "org:admin"
        served: Any = view
        if where == "wrapped view":
            served = wraps(view)(lambda request: view(request))
            served.clerk_role = "org:admin"
        if where == "module":
            # Called by another view, it is found under its name.
            monkeypatch.setattr(sys.modules[__name__], "inner_of_a_test", view, raising=False)

            def served(request: Any) -> Any:
                return view(request)

        assert visit(served, admin).json() == {"seen": True}
        assert visit(served, member).json() == REFUSED
        if where != "module":
            served.clerk_rol = "org:admin"
            with pytest.raises(TypeError, match="Did you mean clerk_role"):
                visit(served, admin)

    def test_with_api_view_there_may_be_none(self, visit: Any, admin: str) -> None:
        def inner(request: Any) -> Response:
            return Response({"seen": True})

        chosen = permission_classes([ADMIN])(authentication_classes([ClerkAuthentication])(inner))
        view: Any = api_view(["GET"])(chosen)
        view.clerk_plan = None
        assert visit(view, admin).json() == {"seen": True}

    def test_an_action_may_have_its_own(self, visit: Any, admin: str, member: str) -> None:
        """By REST framework's own means: what @action() is given is set on the view; None there asks nothing."""

        class Things(ViewSet):
            authentication_classes = [ClerkAuthentication]
            permission_classes = [IsClerkAuthenticated]
            clerk_role: str | None = None

            @action(detail=False, clerk_role="org:admin")
            def closed(self, request: Request) -> Response:
                return Response({"seen": True})

            def list(self, request: Request) -> Response:
                return Response({"seen": True})

        closed = Things.as_view({"get": "closed"}, **Things.closed.kwargs)
        assert visit(closed, admin).status_code == 200
        assert visit(closed, member).status_code == 403
        assert visit(Things.as_view({"get": "list"}), member).status_code == 200


@pytest.mark.parametrize("first", [BasicAuthentication, SessionAuthentication])
def test_a_bad_bearer_has_a_bearer_s_challenge(local_clerk: LocalClerk, ada: Any, visit: Any, first: Any) -> None:
    """RFC 9110, section 11.6.1: the challenge is that of the scheme that was tried."""
    view = api(IsAuthenticated, authentication_classes=[first, ClerkAuthentication])
    response = visit(view, local_clerk.token(ada, expires_in=-60))
    assert (response.status_code, response["WWW-Authenticate"]) == (401, 'Bearer error="invalid_token"')


def test_without_a_credential_the_first_class_has_its_say(local_clerk: LocalClerk, visit: Any) -> None:
    """REST framework's own rule."""
    for classes, expected in (
        ([ClerkAuthentication, SessionAuthentication], (401, "Bearer")),
        ([BasicAuthentication, ClerkAuthentication], (401, 'Basic realm="api"')),
        ([SessionAuthentication, ClerkAuthentication], (403, None)),
    ):
        response = visit(api(IsClerkAuthenticated, authentication_classes=classes))
        assert (response.status_code, response.get("WWW-Authenticate")) == expected
