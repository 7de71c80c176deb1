"""The guard itself: what comes up inside a view, and who is asked twice."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from django.test import AsyncClient, Client, RequestFactory
from django.views.debug import ExceptionReporter

from clerk_views import clerk_optional, clerk_required
from clerk_views.exceptions import AccountRefused, ClerkUnavailable
from clerk_views.states import memo_of
from clerk_views.testing import LocalClerk
from clerk_views.visitors import load_user
from tests import views
from tests.conftest import World

pytestmark = pytest.mark.django_db


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize("path", ["/optional/", "/optional/async/"])
def test_a_user_asked_for_inside_a_view_is_answered_like_at_its_door(
    local_clerk: LocalClerk, each_world: World, path: str
) -> None:
    user = local_clerk.add_user(email="ada@example.com")
    token = bearer(local_clerk.token(user))
    assert each_world.get(path, headers=token).status_code == 200
    get_user_model().objects.update(is_active=False)
    response = each_world.get(path, headers=token)
    assert response.status_code == 403
    assert response.json() == {"detail": "You may not do this.", "code": "user-inactive"}  # type: ignore[attr-defined]
    assert response["Cache-Control"] == "private"
    assert each_world.get("/optional/silent/", headers=token).status_code == 200
    local_clerk.faults.down()
    unknown = bearer(local_clerk.token(local_clerk.add_user(email="bob@example.com")))
    assert each_world.get(path, headers=unknown).status_code == 503
    assert each_world.get("/optional/silent/", headers=unknown).status_code == 200


def test_a_refusal_is_found_once_per_request(local_clerk: LocalClerk) -> None:
    request = RequestFactory().get("/", headers=bearer(local_clerk.token("user_unknown")))
    for _ in range(2):
        with pytest.raises(AccountRefused):
            load_user(memo_of(request))
    assert local_clerk.calls.user_fetches == 1
    local_clerk.faults.down()
    request = RequestFactory().get("/", headers=bearer(local_clerk.token("user_other")))
    for _ in range(2):
        with pytest.raises(ClerkUnavailable):
            load_user(memo_of(request))


def test_a_raising_view_raises(local_clerk: LocalClerk) -> None:
    @clerk_optional
    def broken(request: Any) -> None:
        raise LookupError

    @clerk_optional
    async def abroken(request: Any) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        broken(RequestFactory().get("/"))
    with pytest.raises(LookupError):
        async_to_sync(abroken)(RequestFactory().get("/"))


@pytest.mark.parametrize("name", ["403/function", "403/afunction", "403/class"])
def test_a_condition_may_say_no_by_permission_denied(local_clerk: LocalClerk, each_world: World, name: str) -> None:
    """CAC-08, LOG-02: it is a requirement that was not met."""
    token = bearer(local_clerk.token(local_clerk.add_user(email="ada@example.com")))
    response = each_world.get(f"/condition/{name}/", headers=token)
    assert response.status_code == 403
    assert response.json() == {"detail": "You may not do this.", "code": "not-authorized"}  # type: ignore[attr-defined]
    page = each_world.get(f"/condition/{name}/", headers={**token, "accept": "text/html"})
    assert page.status_code == 403
    assert page["Content-Type"].startswith("text/html")
    for answered in (response, page):
        assert {"Cookie", "Authorization"} <= set(answered["Vary"].split(", "))
        assert answered["Cache-Control"] == "private"
        assert b"about this visitor" not in answered.content


@pytest.mark.parametrize("name", ["404/function", "404/afunction"])
def test_a_condition_may_say_that_there_is_nothing(local_clerk: LocalClerk, each_world: World, name: str) -> None:
    """CAC-08."""
    token = bearer(local_clerk.token(local_clerk.add_user(email="ada@example.com")))
    response = each_world.get(f"/condition/{name}/", headers=token)
    assert response.status_code == 404
    assert {"Cookie", "Authorization"} <= set(response["Vary"].split(", "))
    assert response["Cache-Control"] == "private"


def test_a_condition_that_meets_a_refused_account_says_so(local_clerk: LocalClerk) -> None:
    def refuses(auth: Any) -> bool:
        raise AccountRefused("link-refused", "of somebody else")

    token = bearer(local_clerk.token(local_clerk.add_user(email="ada@example.com")))
    response: Any = clerk_required(condition=refuses)(views.answer)(RequestFactory().get("/", headers=token))
    assert json.loads(response.content) == {"detail": "You may not do this.", "code": "link-refused"}


def test_requests_made_by_hand_work(local_clerk: LocalClerk) -> None:
    """Without a handler and without middleware, as unit tests of views call them."""
    token = bearer(local_clerk.token(local_clerk.add_user(email="ada@example.com")))
    request: Any = RequestFactory().get("/", headers=token)
    assert views.required(request).status_code == 200
    assert request.user.email == "ada@example.com"
    assert async_to_sync(request.auser)() is request.user
    assert request.clerk.is_authenticated


def test_a_forged_mark_shuts_nobody_out(local_clerk: LocalClerk) -> None:
    """CAC-04: a neighbour in the cache can cost a call, not an account."""
    user = local_clerk.add_user(email="ada@example.com")
    assert Client().get("/required/", headers=bearer(local_clerk.token(user))).status_code == 200
    [key] = [key for key in cache._cache if "clerk_views" in key]  # type: ignore[attr-defined]
    cache.set(key.removeprefix(":1:"), f"{time.time()!r} barred {'0' * 64}")
    assert Client().get("/required/", headers=bearer(local_clerk.token(user, jti="renewed"))).status_code == 200
    assert local_clerk.calls.user_fetches == 2


def test_the_check_of_intent_never_waits_on_an_event_loop(local_clerk: LocalClerk, settings: Any) -> None:
    """I2, CSR-03: with the secret in the session it has to read the database."""
    settings.CSRF_USE_SESSIONS = True
    settings.MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware"]
    client = AsyncClient(enforce_csrf_checks=True)
    client.cookies.load(local_clerk.session_cookies(local_clerk.token(local_clerk.add_user(email="ada@example.com"))))
    client.cookies["sessionid"] = "anything"
    assert async_to_sync(client.post)("/required/async/").status_code == 403


def test_error_reports_show_no_settings(settings: Any) -> None:
    """LOG-01: with DEBUG off, the frames in which secrets are read show none of them."""
    settings.CLERK_SECRET_KEY = "sk_test_canary"
    settings.CLERK_TIMEOUT_MS = "wrong"
    try:
        load_user(memo_of(RequestFactory().get("/")))
    except ImproperlyConfigured as error:
        reporter: Any = ExceptionReporter(RequestFactory().get("/"), ImproperlyConfigured, error, error.__traceback__)
        frames = [str(value) for frame in reporter.get_traceback_frames() for _, value in frame["vars"]]
    assert frames
    assert "sk_test_canary" not in "".join(frames)
