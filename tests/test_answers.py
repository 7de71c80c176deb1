"""What a refused visitor gets: redirects that lead nowhere else, pages, JSON."""

from __future__ import annotations

import time
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import Group
from django.db import connection, connections
from django.http import Http404, HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path

from clerk_views import answers, clerk_required
from clerk_views.accounts import sync_django_user
from clerk_views.auth import ClerkAuth
from clerk_views.states import RequestState
from clerk_views.testing import LocalClerk
from tests.conftest import World
from tests.doors import DOORS, MIDDLEWARE, Door, door_id
from tests.minted import OTHER_KEY
from tests.views import Raised

pytestmark = pytest.mark.django_db

PAGE = {"sec-fetch-dest": "document", "accept": "text/html"}


def browser() -> Client:
    """Return a client as a browser that has been here before, on a development instance."""
    client = Client()
    client.cookies["__clerk_db_jwt"] = "dvb_1"
    return client


PLAIN_DOORS = [door for door in DOORS if door.kind == "required" and not door.path.startswith("/api")]
REST_DOORS = [door for door in DOORS if door.path.startswith("/api")]


def query(response: Any) -> dict[str, list[str]]:
    """Return the parameters of a redirect, but for the one that makes a browser known to a development instance."""
    found = parse_qs(urlsplit(response["Location"]).query)
    return {name: values for name, values in found.items() if name != "__clerk_db_jwt"}


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        ("GET", {"sec-fetch-dest": "document"}, 302),
        ("GET", {"sec-fetch-dest": "iframe"}, 302),
        ("GET", {"accept": "text/html,application/xhtml+xml"}, 302),
        ("GET", {"sec-fetch-dest": "", "accept": "text/html"}, 302),
        ("GET", {"sec-fetch-dest": "empty", "accept": "text/html"}, 401),
        ("GET", {"sec-fetch-dest": "image", "accept": "text/html"}, 401),
        ("GET", {"accept": "application/json, text/html"}, 401),
        ("GET", {"accept": "TEXT/HTML"}, 401),
        ("GET", {"accept": "*/*"}, 401),
        ("GET", {}, 401),
        ("HEAD", {"accept": "text/html"}, 401),
        ("POST", {"sec-fetch-dest": "document", "accept": "text/html"}, 401),
    ],
)
@pytest.mark.parametrize("door", PLAIN_DOORS, ids=door_id)
def test_only_a_browser_that_opens_a_page_is_sent_to_sign_in(
    local_clerk: LocalClerk, door: Door, method: str, headers: dict[str, str], expected: int
) -> None:
    """RED-04."""
    assert door.send(method=method, headers=headers).status_code == expected


@pytest.mark.parametrize("door", REST_DOORS, ids=door_id)
def test_rest_views_never_redirect(local_clerk: LocalClerk, door: Door) -> None:
    """RED-04."""
    assert door.send(headers=PAGE).status_code == 401


@pytest.mark.parametrize("door", PLAIN_DOORS, ids=door_id)
def test_the_redirect_goes_to_sign_in_and_back_and_is_not_stored(local_clerk: LocalClerk, door: Door) -> None:
    """CAC-08, RED-08."""
    response = door.send(headers=PAGE, path=f"{door.path}?page=2&q=a%20b")
    assert response.status_code == 302
    assert response["Location"].startswith(f"{local_clerk.url}/sign-in?")
    assert query(response) == {"redirect_url": [f"http://testserver{door.path}?page=2&q=a%20b"]}
    assert response["Cache-Control"] == "no-store"
    assert {"Cookie", "Authorization"} <= set(response["Vary"].replace(" ", "").split(","))
    assert response["x-clerk-auth-status"] == "signed-out"
    assert response["x-clerk-auth-reason"] == "session-token-and-uat-missing"


@pytest.mark.parametrize("path", ["/required/called/", "/class/elsewhere/"])
def test_a_view_may_have_a_sign_in_page_of_its_own(local_clerk: LocalClerk, path: str) -> None:
    response = browser().get(path + "?a=1", headers=PAGE)
    assert response["Location"] == f"/own-sign-in/?back={path}%3Fa%3D1"


def test_a_login_url_may_be_the_name_of_a_url(local_clerk: LocalClerk) -> None:
    assert browser().get("/required/named/", headers=PAGE)["Location"] == "/named/?next=/required/named/"


def test_the_sign_in_page_follows_from_the_publishable_key(local_clerk: LocalClerk, settings: Any) -> None:
    settings.CLERK_SIGN_IN_URL = None
    settings.CLERK_PUBLISHABLE_KEY = "pk_test_Zm9vLWJhci0xMy5jbGVyay5hY2NvdW50cy5kZXYk"
    response = browser().get("/required/", headers=PAGE)
    assert response["Location"].partition("?")[0] == "https://foo-bar-13.accounts.dev/sign-in"
    assert query(response) == {"redirect_url": ["http://testserver/required/"]}


def test_without_any_sign_in_page_django_s_own_is_used(local_clerk: LocalClerk, settings: Any) -> None:
    settings.CLERK_SIGN_IN_URL = None
    settings.CLERK_PUBLISHABLE_KEY = None
    settings.LOGIN_URL = "/accounts/login/?theme=dark"
    location = Client().get("/required/", headers=PAGE)["Location"]
    assert location == "/accounts/login/?theme=dark&next=/required/"


@pytest.mark.parametrize("path", ["/required/forbidden/", "/class/forbidden/", "/required/async/forbidden/"])
def test_raise_exception_answers_403(local_clerk: LocalClerk, each_world: World, path: str) -> None:
    page = each_world.get(path, headers=PAGE)
    assert page.status_code == 403
    assert page["Content-Type"].startswith("text/html")
    response = each_world.get(path)
    assert response.status_code == 403
    assert response.json() == {  # type: ignore[attr-defined]
        "detail": "You may not do this.",
        "code": "session-token-and-uat-missing",
    }


@pytest.mark.parametrize("header", ["x-forwarded-host", "x-forwarded-server", "x-original-url", "forwarded", "x-host"])
def test_forwarded_headers_do_not_move_the_way_back(local_clerk: LocalClerk, each_world: World, header: str) -> None:
    """RED-02."""
    response = each_world.get("/required/", headers={**PAGE, header: "evil.example"})
    assert query(response) == {"redirect_url": ["http://testserver/required/"]}


def test_a_poisoned_host_is_a_400(local_clerk: LocalClerk, settings: Any) -> None:
    """RED-02."""
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.MIDDLEWARE = []
    response = Client(raise_request_exception=False).get("/required/", headers={**PAGE, "host": "evil.example"})
    assert response.status_code == 400


@pytest.mark.parametrize(("kind", "to_clerk"), [("stale", 3), ("forged", 0)])
def test_a_bad_cookie_is_sent_to_sign_in_three_times_and_then_told(
    local_clerk: LocalClerk, each_world: World, kind: str, to_clerk: int
) -> None:
    """RED-03: a browser that follows every redirect comes to rest, also where Clerk could help and does not."""
    made = {"issued_at": time.time() - 600} if kind == "stale" else {"key": OTHER_KEY}
    client = each_world.client
    client.cookies.load(local_clerk.session_cookies(local_clerk.token("user_nobody", **made)))
    seen = [each_world.get("/required/", headers=PAGE).status_code for _ in range(to_clerk + 5)]
    assert seen == [*[307] * to_clerk, 302, 302, 302, 401, 401]
    cookie = client.cookies[answers.LOOP_COOKIE]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert cookie["max-age"] == answers.LOOP_SECONDS
    page = each_world.get("/required/", headers=PAGE)
    assert page["Content-Type"].startswith("text/html")
    assert page["Cache-Control"] == "no-store"
    assert page["WWW-Authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize("value", ["x", "-1", "9" * 50, "1.0", "", "1", "1.ABCDEFABCDEF"])
def test_a_counter_of_another_form_counts_as_a_loop(local_clerk: LocalClerk, each_world: World, value: str) -> None:
    """RED-03."""
    each_world.client.cookies[answers.LOOP_COOKIE] = value
    assert each_world.get("/required/", headers=PAGE).status_code == 401


def test_a_browser_that_keeps_no_session_comes_to_rest_as_well(local_clerk: LocalClerk, each_world: World) -> None:
    """RED-03: it is sent to sign in, comes back as nobody, and so on."""
    seen = [each_world.get("/required/", headers=PAGE).status_code for _ in range(5)]
    assert seen == [302, 302, 302, 401, 401]


def test_tabs_that_are_opened_together_are_no_loop(local_clerk: LocalClerk, each_world: World) -> None:
    """RED-03: nor is another page."""
    for _ in range(3):
        for tab in ("/required/", "/required/one", "/required/two", "/class/"):
            assert each_world.get(tab, headers=PAGE).status_code == 302


RAISERS = ("function", "afunction", "class", "aclass")


@pytest.mark.parametrize("middleware", [False, True], ids=["alone", "with-middleware"])
@pytest.mark.parametrize("kind", ["404", "403", "400", "suspicious"])
@pytest.mark.parametrize("view", RAISERS)
def test_error_pages_of_a_protected_view_are_private_too(
    local_clerk: LocalClerk, settings: Any, each_world: World, view: str, kind: str, middleware: bool
) -> None:
    """CAC-08: a shared cache may keep a 404 unless it is told not to."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, *([MIDDLEWARE] if middleware else [])]
    token = local_clerk.token(local_clerk.add_user(email="ada@example.com"))
    response = each_world.get(f"/raises/{view}/{kind}/", headers={"authorization": f"Bearer {token}"})
    assert response.status_code == (400 if kind == "suspicious" else int(kind))
    assert {"Cookie", "Authorization"} <= set(response["Vary"].replace(" ", "").split(","))
    assert response["Cache-Control"] == "private"


@pytest.mark.parametrize("view", RAISERS)
def test_other_errors_are_django_s_alone(local_clerk: LocalClerk, each_world: World, view: str) -> None:
    token = local_clerk.token(local_clerk.add_user(email="ada@example.com"))
    with pytest.raises(Raised):
        each_world.get(f"/raises/{view}/500/", headers={"authorization": f"Bearer {token}"})


@pytest.mark.parametrize("view", ["inside", "class-inside"])
def test_a_decorator_around_the_guard_hears_what_the_view_raises(local_clerk: LocalClerk, view: str) -> None:
    token = local_clerk.token(local_clerk.add_user(email="ada@example.com"))
    response = Client().get(f"/raises/{view}/404/", headers={"authorization": f"Bearer {token}"})
    assert (response.status_code, response.content) == (410, b"not here")


class Listening:
    """A middleware that wants to hear of exceptions."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse:
        return HttpResponse(type(exception).__name__, status=418)


@pytest.mark.parametrize("view", ["function", "class"])
def test_a_middleware_hears_what_a_view_raises(local_clerk: LocalClerk, settings: Any, view: str) -> None:
    settings.MIDDLEWARE = [f"{__name__}.Listening"]
    token = local_clerk.token(local_clerk.add_user(email="ada@example.com"))
    response = Client().get(f"/raises/{view}/404/", headers={"authorization": f"Bearer {token}"})
    assert (response.status_code, response.content) == (418, b"Http404")


@clerk_required
def writes_and_raises(request: HttpRequest) -> HttpResponse:
    Group.objects.create(name="written")
    raise Http404


@pytest.mark.django_db(transaction=True)
def test_what_such_a_view_wrote_is_taken_back(
    local_clerk: LocalClerk, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ATOMIC_REQUESTS promises."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    urls = ModuleType("urls_of_a_test")
    urls.urlpatterns = [path("", writes_and_raises)]  # type: ignore[attr-defined]  # a module takes any
    settings.ROOT_URLCONF = urls
    ada = local_clerk.add_user(email="ada@example.com")
    sync_django_user(ada.data)
    token = local_clerk.token(ada)
    response = Client().get("/", headers={"authorization": f"Bearer {token}"})
    assert (response.status_code, response["Cache-Control"]) == (404, "private")
    assert not Group.objects.exists()


def test_an_outage_shows_a_page_to_browsers(local_clerk: LocalClerk, each_world: World, tmp_path: Any) -> None:
    """Threats, section 2: 503 page, cookies untouched, no redirect, no sign-out."""
    token = local_clerk.token(local_clerk.add_user(email="ada@example.com"))
    local_clerk.faults.down()
    each_world.client.cookies.load(local_clerk.session_cookies(token))
    response = each_world.get("/required/", headers=PAGE)
    assert response.status_code == 503
    assert response["Content-Type"].startswith("text/html")
    assert response["Cache-Control"] == "no-store"
    assert 1 <= int(response["Retry-After"]) <= 120
    assert not response.cookies
    assert b"user_" not in response.content


def test_a_project_may_bring_its_own_page_for_an_outage(local_clerk: LocalClerk, settings: Any) -> None:
    settings.TEMPLATES = [
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {"loaders": [("django.template.loaders.locmem.Loader", {"503.html": "our own page"})]},
        }
    ]
    local_clerk.faults.down()
    client = Client(headers={"authorization": f"Bearer {local_clerk.token('user_a')}"})
    assert client.get("/required/", headers=PAGE).content == b"our own page"


@pytest.mark.parametrize("path", ["/required/", "/required/async/", "/class/", "/optional/", "/plain/"])
def test_error_pages_may_show_who_is_signed_in(
    local_clerk: LocalClerk, each_world: World, path: str, settings: Any, django_user_model: Any
) -> None:
    """Many a site's pages ask for the user in their frame, and must not meet the error again that they are about."""
    page = "{{ user.is_authenticated }} {{ request.clerk.is_authenticated }}"
    settings.TEMPLATES = [
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                "loaders": [("django.template.loaders.locmem.Loader", {"403.html": page, "503.html": page})],
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                ],
            },
        }
    ]
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
    user = local_clerk.add_user(email="ada@example.com")
    each_world.client.cookies.load(local_clerk.session_cookies(local_clerk.token(user)))
    assert each_world.get(path).status_code == 200
    django_user_model.objects.update(is_active=False)
    response = each_world.get(path, headers=PAGE)
    assert (response.status_code, response.content) == (403, b"False True")
    each_world.client.cookies.load(local_clerk.session_cookies(local_clerk.token(user, header={"kid": "ins_unknown"})))
    local_clerk.faults.down()
    settings.CLERK_SECRET_KEY = "sk_test_another"  # whose keys were never seen
    response = each_world.get(path, headers=PAGE)
    assert (response.status_code, response.content) == (503, b"False False")


def test_own_headers_of_a_view_stay(local_clerk: LocalClerk, each_world: World) -> None:
    """CAC-08."""
    token = local_clerk.token(local_clerk.add_user(email="ada@example.com"))
    response = each_world.get("/required/own-headers/", headers={"authorization": f"Bearer {token}"})
    assert response["Cache-Control"] == "max-age=60"
    assert response["Vary"].startswith("Accept-Language, Cookie, Authorization")


def test_an_optional_answer_to_nobody_may_be_stored_by_anybody(local_clerk: LocalClerk, each_world: World) -> None:
    """CAC-08: it varies with who asks, and is about nobody."""
    response = each_world.get("/optional/silent/")
    assert not response.has_header("Cache-Control")
    assert "Cookie" in response["Vary"]


@pytest.mark.parametrize("path", ["/required/", "/required/async/", "/class/", "/api/"])
@override_settings(CLERK_SECRET_KEY="", CLERK_JWT_KEY="", CLERK_PUBLISHABLE_KEY="", CLERK_AUTH_PARTIES=[])
def test_without_settings_nobody_is_let_through(each_world: World, path: str) -> None:
    """CFG-01, F-26: an operator's mistake is a 500, never an open door."""
    each_world.client.raise_request_exception = False
    assert each_world.get(path).status_code == 500


def test_a_view_that_returns_nothing_gets_django_s_own_message(local_clerk: LocalClerk) -> None:
    token = local_clerk.token(local_clerk.add_user(email="ada@example.com"))
    with pytest.raises(ValueError, match="didn't return an HttpResponse"):
        Client().get("/required/no-response/", headers={"authorization": f"Bearer {token}"})


def test_a_cookie_that_the_view_has_set_stays() -> None:
    """It may just have signed the visitor out, while the request still brought a session."""
    response = HttpResponse()
    response.set_cookie("__session", "", max_age=0)
    brought = (("Set-Cookie", "__session=token; Path=/"), ("Set-Cookie", "__client_uat=1; Path=/"))
    state = RequestState("signed-in", None, ClerkAuth("signed-in"), "cookie", brought)
    for _ in range(2):
        answers.finish(response, state, personal=True)
    assert response.cookies["__session"].value == ""
    assert response.cookies["__client_uat"].OutputString() == "__client_uat=1; Path=/"
    assert len(response.cookies) == 2


def test_a_response_that_keeps_its_headers_in_another_way_gets_the_same() -> None:
    """Ours are copied as Django keeps them, where it keeps them so; every other mapping is asked to set them."""

    class Own(dict[str, str]):
        pass

    state = RequestState("signed-out", "session-token-missing", ClerkAuth.signed_out("session-token-missing"))
    state = state._replace(headers=(("x-clerk-auth-status", "signed-out"), ("x-clerk-auth-reason", "why")))
    ours = {"Vary": "Cookie, Authorization", "Cache-Control": "private"}
    for judged, told in ((state, dict(state.headers)), (None, {})):
        for headers in (None, Own()):
            response = HttpResponse("here")
            if headers is not None:
                response.headers = headers  # type: ignore[assignment]  # as a response class of a project's own may
            answers.finish(response, judged, personal=True)
            answered = {name: value for name, value in response.headers.items() if name != "Content-Type"}
            assert answered == {**ours, **told}


def test_what_is_kept_of_headers_stays_small() -> None:
    """Whoever makes up what a page varies by must not fill the process with it."""
    for number in range(600):
        response = HttpResponse(headers={"Vary": f"X-Made-Up-{number}"})
        answers.finish(response, None, personal=True)
        assert response["Vary"] == f"X-Made-Up-{number}, Cookie, Authorization"
    assert len(answers._KEPT) <= 256


def test_what_is_kept_of_headers_holds_no_credential() -> None:
    state = RequestState(
        "signed-in", None, ClerkAuth("signed-in"), "cookie", (("Set-Cookie", "__session=canary; Path=/"),)
    )
    response = HttpResponse()
    answers.finish(response, state, personal=True)
    assert response.cookies["__session"].value == "canary"
    assert "canary" not in repr(answers._KEPT)
