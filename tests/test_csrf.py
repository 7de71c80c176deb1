"""Did the visitor mean to send this? (CSR-01 to CSR-03), at every door, with and without Django's own middleware."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.test import Client
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from clerk_views import aget_clerk, csrf, get_clerk
from clerk_views.testing import LocalClerk
from tests.conftest import World
from tests.doors import DOORS, MIDDLEWARE, Door, RawAsyncClient, door_id

pytestmark = pytest.mark.django_db

SECRET = "a" * 32
CSRF_MIDDLEWARE = "django.middleware.csrf.CsrfViewMiddleware"
WRITABLE = [door for door in DOORS if door.path != "/api/things/recent/"]


def client_of(door: Door) -> Any:
    if door.world == "async":
        return RawAsyncClient(enforce_csrf_checks=True, raise_request_exception=False)
    return Client(enforce_csrf_checks=True, raise_request_exception=False)


def post(door: Door, *, authorization: str | None = None, session: str = "", **headers: str) -> Any:
    cookie = "; ".join(filter(None, [f"csrftoken={SECRET}", session and f"__session={session}"]))
    return door.send(authorization, cookie, method="POST", headers=headers, client=client_of(door))


@pytest.mark.parametrize("middleware", [True, False], ids=["with-csrf-middleware", "without"])
@pytest.mark.parametrize("door", WRITABLE, ids=door_id)
def test_a_cookie_needs_proof_of_intent_at_every_door(
    local_clerk: LocalClerk, door: Door, middleware: bool, settings: Any
) -> None:
    """CSR-01, CSR-03."""
    if not middleware:
        settings.MIDDLEWARE = [item for item in settings.MIDDLEWARE if item != CSRF_MIDDLEWARE]
    user = local_clerk.add_user(email="ada@example.com")
    token = local_clerk.token(user)
    good = post(door, session=token, **{"x-csrftoken": SECRET})
    assert good.status_code == 200
    assert good.json()["clerk"] == user.id
    assert good.json()["user"] is not None
    for headers in (
        {},
        {"x-csrftoken": "b" * 32},
        {"x-csrftoken": SECRET, "origin": "https://evil.example"},
    ):
        response = post(door, session=token, **headers)
        if door.kind == "site" and not middleware:
            # The middleware refuses nobody; but nobody stands behind what another site may have sent.
            assert response.json()["user"] is None
        else:
            assert response.status_code == 403, headers


@pytest.mark.parametrize("door", WRITABLE, ids=door_id)
def test_a_verified_bearer_needs_none(local_clerk: LocalClerk, door: Door) -> None:
    """CSR-02."""
    user = local_clerk.add_user(email="ada@example.com")
    response = post(door, authorization=f"Bearer {local_clerk.token(user)}")
    assert response.status_code == 200, response.content
    assert response.json()["user"] is not None


@pytest.mark.parametrize("authorization", ["Basic YTpi", "", "Bearer", "Bearer x", "Bearer a.b.c"])
@pytest.mark.parametrize("door", WRITABLE, ids=door_id)
def test_no_other_header_switches_the_check_off(local_clerk: LocalClerk, door: Door, authorization: str) -> None:
    """CSR-02: what is no verified bearer does not exempt a cookie."""
    token = local_clerk.token(local_clerk.add_user(email="ada@example.com"))
    response = post(door, authorization=authorization, session=token)
    assert response.status_code in (401, 403)


def test_a_project_s_exemption_holds_where_no_cookie_of_clerk_s_decides(local_clerk: LocalClerk) -> None:
    client = Client(enforce_csrf_checks=True)
    assert client.post("/optional/").status_code == 403
    assert client.post("/optional/exempt/").status_code == 200
    token = local_clerk.token(local_clerk.add_user(email="ada@example.com"))
    client.cookies.load(local_clerk.session_cookies(token))
    assert client.post("/optional/exempt/").status_code == 403
    assert client.post("/required/exempt/").status_code == 403


def test_a_project_without_the_middleware_gets_no_check_it_did_not_ask_for(
    local_clerk: LocalClerk, settings: Any
) -> None:
    settings.MIDDLEWARE = [item for item in settings.MIDDLEWARE if item != CSRF_MIDDLEWARE]
    assert Client(enforce_csrf_checks=True).post("/optional/").status_code == 200


def test_a_subclass_of_the_middleware_counts(settings: Any) -> None:
    assert csrf.site_enforces()
    settings.MIDDLEWARE = ["tests.test_csrf.Own"]
    assert csrf.site_enforces()
    settings.MIDDLEWARE = ["tests.test_csrf.own_function"]
    assert not csrf.site_enforces()


class Own(CsrfViewMiddleware):
    pass


def own_function(get_response: Any) -> Any:
    return get_response


@csrf_exempt
def says(request: HttpRequest) -> HttpResponse:
    asked = get_clerk(request)
    user: Any = request.user
    return JsonResponse(
        {
            "clerk": request.clerk.user_id,  # type: ignore[attr-defined]  # ours to add
            "asked": asked.user_id,
            "reason": asked.reason,
            "user": user.pk,
        }
    )


@csrf_exempt
async def asays(request: HttpRequest) -> HttpResponse:
    asked = await aget_clerk(request)
    user: Any = await request.auser()
    clerk = request.clerk.user_id  # type: ignore[attr-defined]  # likewise
    return JsonResponse({"clerk": clerk, "asked": asked.user_id, "reason": asked.reason, "user": user.pk})


@pytest.mark.parametrize("in_sessions", [False, True], ids=["cookie", "session"])
@pytest.mark.parametrize("view", [says, asays])
def test_behind_a_forged_request_nobody_stands(
    local_clerk: LocalClerk, settings: Any, each_world: World, view: Any, in_sessions: bool
) -> None:
    """CSR-03: whoever is asked, in a view that the project has exempted, wherever the secret is kept."""
    settings.CSRF_USE_SESSIONS = in_sessions
    urls = ModuleType("urls_of_a_test")
    urls.urlpatterns = [path("", view)]  # type: ignore[attr-defined]  # a module takes any
    settings.ROOT_URLCONF = urls
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
    client = each_world.client
    client.handler.enforce_csrf_checks = True
    token = local_clerk.token(local_clerk.add_user(email="ada@example.com"))
    answer: Any = each_world.post("/", headers={"authorization": f"Bearer {token}"})
    signed_in = answer.json()
    assert signed_in["clerk"] == signed_in["asked"] is not None
    assert signed_in["user"] is not None
    client.cookies.load(local_clerk.session_cookies(token))
    answer = each_world.get("/")
    assert answer.json() == signed_in
    answer = each_world.post("/")
    assert answer.json() == {"clerk": None, "asked": None, "reason": "csrf-failed", "user": None}
