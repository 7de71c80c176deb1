"""``ClerkMiddleware`` beside Django's own tools: sessions, login_required, the admin."""

from __future__ import annotations

import time
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.db import connection, connections
from django.http import HttpRequest, HttpResponse
from django.urls import path as url
from django.utils.decorators import sync_and_async_middleware

from clerk_views.exceptions import AccountRefused, ClerkUnavailable
from clerk_views.signals import clerk_user_synced
from clerk_views.testing import LocalClerk
from tests.conftest import World
from tests.doors import MIDDLEWARE, REST_FRAMEWORK

pytestmark = pytest.mark.django_db

PAGE = {"sec-fetch-dest": "document", "accept": "text/html"}
LOGIN_REQUIRED = "django.contrib.auth.middleware.LoginRequiredMiddleware"


@pytest.fixture(autouse=True)
def _middleware(settings: Any, local_clerk: LocalClerk) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
    settings.LOGIN_URL = "/sign-in-here/"


@pytest.fixture
def session_user(each_world: World) -> Any:
    """A user whom Django's own session has signed in."""
    user = get_user_model().objects.create_user("sam", "sam@example.com", "password")
    if each_world.is_async:
        from asgiref.sync import async_to_sync

        async_to_sync(each_world.client.aforce_login)(user)
    else:
        each_world.client.force_login(user)
    return user


@pytest.fixture
def ada(local_clerk: LocalClerk) -> Any:
    return local_clerk.add_user(email="ada@example.com")


@pytest.fixture(params=["/plain/", "/plain/async/", "/optional/", "/optional/async/", "/class/optional/"])
def path(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_session_user_stays_without_clerk_credentials(each_world: World, session_user: Any, path: str) -> None:
    seen = each_world.get(path).json()  # type: ignore[attr-defined]
    assert seen == {"clerk": None, "session": None, "status": "signed-out", "user": session_user.pk}


def test_a_clerk_user_goes_before_a_session_user(
    each_world: World, session_user: Any, ada: Any, local_clerk: LocalClerk, path: str
) -> None:
    """LFC-04: one credential decides, and no session is made or adopted."""
    each_world.client.cookies.load(local_clerk.session_cookies(local_clerk.token(ada)))
    seen = each_world.get(path).json()  # type: ignore[attr-defined]
    assert seen["clerk"] == ada.id
    assert seen["user"] not in (None, session_user.pk)


def test_a_bad_bearer_makes_the_request_anonymous(each_world: World, session_user: Any, path: str) -> None:
    seen = each_world.get(path, headers={"authorization": "Bearer a.b.c"}).json()  # type: ignore[attr-defined]
    assert seen["user"] is None


def test_a_stale_cookie_does_not_throw_out_a_session_user(
    each_world: World, session_user: Any, ada: Any, local_clerk: LocalClerk, path: str
) -> None:
    each_world.client.cookies.load(local_clerk.session_cookies(local_clerk.token(ada, expires_in=-60)))
    assert each_world.get(path).json()["user"] == session_user.pk  # type: ignore[attr-defined]


def test_login_required_works_unchanged(each_world: World, ada: Any, local_clerk: LocalClerk) -> None:
    assert each_world.get("/login/")["Location"] == "/sign-in-here/?next=/login/"
    each_world.client.cookies.load(local_clerk.session_cookies(local_clerk.token(ada)))
    assert each_world.get("/login/").json()["clerk"] == ada.id  # type: ignore[attr-defined]


def test_login_required_middleware_works_unchanged(
    each_world: World, ada: Any, local_clerk: LocalClerk, settings: Any
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, LOGIN_REQUIRED]
    assert each_world.get("/plain/")["Location"] == "/sign-in-here/?next=/plain/"
    # Our own doors answer for themselves.
    assert each_world.get("/required/").status_code == 401
    assert each_world.get("/class/").status_code == 401
    assert each_world.get("/optional/").status_code == 200
    assert each_world.get("/class/optional/").status_code == 200
    each_world.client.cookies.load(local_clerk.session_cookies(local_clerk.token(ada)))
    for path in ("/plain/", "/required/", "/class/", "/optional/", "/plain/async/"):
        assert each_world.get(path).json()["clerk"] == ada.id  # type: ignore[attr-defined]


def test_login_required_middleware_meets_an_outage_with_503(
    each_world: World, ada: Any, local_clerk: LocalClerk, settings: Any
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, LOGIN_REQUIRED]
    local_clerk.faults.down()
    each_world.client.cookies.load(local_clerk.session_cookies(local_clerk.token(ada)))
    assert each_world.get("/plain/").status_code == 503


def test_our_doors_stand_under_login_required_middleware_without_ours(
    each_world: World, ada: Any, local_clerk: LocalClerk, settings: Any
) -> None:
    settings.MIDDLEWARE = [*[item for item in settings.MIDDLEWARE if item != MIDDLEWARE], LOGIN_REQUIRED]
    each_world.client.cookies.load(local_clerk.session_cookies(local_clerk.token(ada)))
    for path in ("/required/", "/required/async/", "/class/", "/class/async/"):
        assert each_world.get(path).json()["clerk"] == ada.id  # type: ignore[attr-defined]


def test_the_admin_lets_a_clerk_user_in_who_is_staff(
    each_world: World, ada: Any, local_clerk: LocalClerk, django_user_model: Any
) -> None:
    each_world.client.cookies.load(local_clerk.session_cookies(local_clerk.token(ada)))
    assert each_world.get("/admin/").status_code == 302
    django_user_model.objects.update(is_staff=True, is_superuser=True)
    assert each_world.get("/admin/").status_code == 200


def test_nothing_is_done_for_a_view_that_never_asks(
    each_world: World, ada: Any, local_clerk: LocalClerk, django_assert_num_queries: Any
) -> None:
    local_clerk.calls.reset()
    if not each_world.is_async:  # an async site looks at the token at once, lest a view's look block the loop
        each_world.client.cookies.load(local_clerk.session_cookies(local_clerk.token(ada)))
    with django_assert_num_queries(0):
        response = each_world.get("/plain/untouched/")
    assert local_clerk.calls.total == 0
    assert not response.has_header("Vary") or "Authorization" not in response["Vary"]


@pytest.mark.parametrize("path", ["/plain/untouched/", "/optional/silent/", "/plain/async/"])
def test_what_a_slow_clerk_costs_a_view_that_never_asks(
    each_world: World, ada: Any, local_clerk: LocalClerk, settings: Any, path: str
) -> None:
    """
    CTX-02, F-03: of a view on an event loop nobody knows beforehand whether it will look, so its token is looked at.

    In a thread of its own, for no longer than a request may wait at all; and what comes of it is kept for who asks.
    """
    settings.CLERK_TIMEOUT_MS = 300
    local_clerk.faults.slow(5)
    each_world.client.cookies.load(local_clerk.session_cookies(local_clerk.token(ada)))
    began = time.monotonic()
    response = each_world.get(path)
    assert time.monotonic() - began < 2
    if path == "/plain/untouched/":
        assert response.status_code == 200
        assert local_clerk.calls.total == (1 if each_world.is_async else 0)
    else:
        assert response.status_code == 503
        assert local_clerk.calls.total == 1


@pytest.mark.parametrize("path", ["/plain/asks/", "/plain/asks/async/"])
def test_get_clerk_answers_anywhere(each_world: World, ada: Any, local_clerk: LocalClerk, path: str) -> None:
    assert each_world.get(path).json() == {"clerk": None}  # type: ignore[attr-defined]
    each_world.client.cookies.load(local_clerk.session_cookies(local_clerk.token(ada)))
    response = each_world.get(path)
    assert response.json() == {"clerk": ada.id}  # type: ignore[attr-defined]
    assert response["Cache-Control"] == "private"


@pytest.mark.parametrize("path", ["/plain/", "/plain/asks/", "/plain/asks/async/", "/optional/silent/"])
def test_an_outage_is_503_wherever_it_comes_up(each_world: World, ada: Any, local_clerk: LocalClerk, path: str) -> None:
    local_clerk.faults.down()
    each_world.client.cookies.load(local_clerk.session_cookies(local_clerk.token(ada)))
    response = each_world.get(path)
    assert response.status_code == 503
    assert response.has_header("Retry-After")
    page = each_world.get(path, headers=PAGE)
    assert page.status_code == 503
    assert page["Content-Type"].startswith("text/html")


@sync_and_async_middleware
def looking(get_response: Any) -> Any:
    """Look at the user before the view does, as a middleware that sets the time zone may."""
    if iscoroutinefunction(get_response):

        async def alooking(request: HttpRequest) -> HttpResponse:
            await request.auser()
            return await get_response(request)  # type: ignore[no-any-return]

        return alooking

    def looking(request: HttpRequest) -> HttpResponse:
        request.user.is_authenticated  # noqa: B018  # the look is what it is about
        return get_response(request)  # type: ignore[no-any-return]

    return looking


def between(get_response: Any) -> Any:
    """Stand between ours and the one that looks, and see what Django has made of the error."""

    def between(request: HttpRequest) -> HttpResponse:
        response: HttpResponse = get_response(request)
        if "own" in request.GET:
            return HttpResponse("our own words", status=response.status_code)
        return response

    return between


LOOKING = ["tests.test_middleware.between", "tests.test_middleware.looking"]


@pytest.mark.parametrize("path", ["/plain/", "/plain/async/", "/plain/untouched/", "/required/", "/class/async/"])
def test_an_outage_is_503_where_another_middleware_meets_it(
    each_world: World, ada: Any, local_clerk: LocalClerk, settings: Any, path: str
) -> None:
    """I2, F-01: Django makes a 500 of it there, which nobody's bug has earned."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, *LOOKING]
    each_world.client.raise_request_exception = False  # which would raise what the answer is about
    local_clerk.faults.down()
    token = {"authorization": f"Bearer {local_clerk.token(ada)}"}
    response = each_world.get(path, headers=token)
    assert response.status_code == 503
    assert 1 <= int(response["Retry-After"]) <= 120
    assert response["Cache-Control"] == "no-store"
    assert {"Cookie", "Authorization"} <= set(response["Vary"].split(", "))
    assert response.json()["code"] == "jwk-remote-failed-to-load"  # type: ignore[attr-defined]
    page = each_world.get(path, headers={**token, **PAGE})
    assert page.status_code == 503
    assert page["Content-Type"].startswith("text/html")


def test_a_refused_account_is_told_so_where_another_middleware_meets_it(
    each_world: World, ada: Any, local_clerk: LocalClerk, settings: Any
) -> None:
    """LFC-01: a script gets JSON, a browser the project's own page."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, *LOOKING]
    local_clerk.update_user(ada, banned=True)
    token = {"authorization": f"Bearer {local_clerk.token(ada)}"}
    response = each_world.get("/plain/", headers=token)
    assert response.status_code == 403
    assert response.json() == {"detail": "You may not do this.", "code": "user-inactive"}  # type: ignore[attr-defined]
    assert response["Cache-Control"] == "private"
    page = each_world.get("/plain/?own", headers={**token, **PAGE})
    assert (page.status_code, page.content) == (403, b"our own words")
    assert page["Cache-Control"] == "private"


@pytest.mark.parametrize("path", ["/fails/", "/fails/refused/"])
def test_a_project_s_own_failure_stays_its_own(
    each_world: World, ada: Any, local_clerk: LocalClerk, settings: Any, path: str
) -> None:
    """Though an error of ours came up before, and was caught."""
    settings.ROOT_URLCONF = "tests.test_middleware"
    if "refused" in path:
        local_clerk.update_user(ada, banned=True)
    else:
        local_clerk.faults.down()
    response = each_world.get(path, headers={"authorization": f"Bearer {local_clerk.token(ada)}"})
    assert response.content == b"our own words"
    assert response.status_code == (403 if "refused" in path else 500)


def fails(request: HttpRequest, status: int) -> HttpResponse:
    try:
        request.user.is_authenticated  # noqa: B018  # the look is what it is about
    except (AccountRefused, ClerkUnavailable):
        return HttpResponse("our own words", status=status)
    raise AssertionError


urlpatterns = [url("fails/", fails, {"status": 500}), url("fails/refused/", fails, {"status": 403})]


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(not REST_FRAMEWORK, reason="REST framework is not installed")
@pytest.mark.parametrize("path", ["/api/by-default/", "/api/then-session/", "/plain/"])
def test_a_ban_outlasts_the_request_that_found_it(
    each_world: World, ada: Any, local_clerk: LocalClerk, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """LFC-01: REST framework takes the transaction back, and swallows the error that says why."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    token = {"authorization": f"Bearer {local_clerk.token(ada)}"}
    assert each_world.get(path, headers=token).status_code == 200
    local_clerk.update_user(ada, banned=True)
    cache.clear()
    told: list[Any] = []

    def receive(**kwargs: Any) -> None:
        told.append(kwargs["user"])

    clerk_user_synced.connect(receive)
    try:
        assert each_world.get(path, headers={"authorization": f"Bearer {local_clerk.token(ada)}"}).status_code == 403
    finally:
        clerk_user_synced.disconnect(receive)
    assert not get_user_model().objects.get(email="ada@example.com").is_active
    assert len(told) <= 2  # the one that was taken back, and the one that stays


def test_an_outage_is_503_for_a_bearer_that_posts(each_world: World, ada: Any, local_clerk: LocalClerk) -> None:
    """Not the 403 of the CSRF check, which cannot be spared it as long as it is not verified."""
    local_clerk.faults.down()
    each_world.client.handler.enforce_csrf_checks = True
    token = local_clerk.token(ada)
    assert each_world.post("/plain/", headers={"authorization": f"Bearer {token}"}).status_code == 503


def test_another_scheme_s_bearer_is_not_our_business(each_world: World, local_clerk: LocalClerk) -> None:
    local_clerk.faults.down()
    each_world.client.handler.enforce_csrf_checks = True
    assert each_world.post("/plain/", headers={"authorization": "Bearer opaque"}).status_code == 403


def test_other_components_do_not_decide(each_world: World, settings: Any) -> None:
    """MWR-02: what another middleware leaves under our names is not looked at."""
    settings.MIDDLEWARE = ["tests.test_middleware.planting", *settings.MIDDLEWARE]
    for path in ("/required/", "/class/", "/api/"):
        assert each_world.get(path).status_code == 401
    assert each_world.get("/plain/").json()["clerk"] is None  # type: ignore[attr-defined]


def planting(get_response: Any) -> Any:
    """Plant what a trusting library would believe."""

    def middleware(request: HttpRequest) -> HttpResponse:
        request.clerk = request.clerk_auth = "user_planted"  # type: ignore[attr-defined]
        request._clerk_views_memo = {"user": "planted"}  # type: ignore[attr-defined]
        request._clerk_auth_result = "planted"  # type: ignore[attr-defined]
        return get_response(request)  # type: ignore[no-any-return]

    return middleware


def test_hidden_users_of_templates_are_there_after_auser(each_world: World, ada: Any, local_clerk: LocalClerk) -> None:
    """CTX-04."""
    each_world.client.cookies.load(local_clerk.session_cookies(local_clerk.token(ada)))
    assert each_world.get("/optional/async/lazy/").json()["user"] is not None  # type: ignore[attr-defined]
