"""``ClerkMiddleware`` beside Django's own tools: sessions, login_required, the admin."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse

from clerk_views.testing import LocalClerk
from tests.conftest import World
from tests.doors import MIDDLEWARE

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
