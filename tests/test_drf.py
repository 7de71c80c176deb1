"""REST framework: the authentication class among others, the permission among others."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.db import connection, connections
from django.test import Client

from clerk_views.testing import LocalClerk

pytest.importorskip("rest_framework")

from rest_framework.test import APIClient, APIRequestFactory

from clerk_views.drf import ClerkAuthentication
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


def test_permissions_compose(local_clerk: LocalClerk, ada: Any) -> None:
    token = bearer(local_clerk.token(ada))
    assert Client().get("/api/composed/", headers=token).status_code == 200
    assert Client().get("/api/composed/").status_code == 401
    assert Client().get("/api/negated/").status_code == 200
    assert Client().get("/api/negated/", headers=token).status_code == 403


def test_viewsets_and_their_actions(local_clerk: LocalClerk, ada: Any) -> None:
    token = bearer(local_clerk.token(ada))
    for path in ("/api/things/", "/api/things/recent/"):
        assert Client().get(path).status_code == 401
        assert Client().get(path, headers=token).json()["clerk"] == ada.id


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
