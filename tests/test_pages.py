"""``clerk_views.urls``: where sign-in, sign-up and sign-out lead, and that they lead nowhere else."""

from __future__ import annotations

import logging
import re
import time
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, quote, urljoin, urlsplit

import pytest
from asgiref.sync import async_to_sync
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.middleware.csrf import get_token
from django.test import Client, RequestFactory
from django.urls import include
from django.urls import path as route
from django.views.decorators.cache import never_cache

from clerk_views import answers
from clerk_views.testing import LocalClerk
from clerk_views.testing.minting import mint, session_header
from tests.conftest import World
from tests.doors import MIDDLEWARE
from tests.test_conf import publishable_key

pytestmark = pytest.mark.django_db

PAGE = {"sec-fetch-dest": "document", "accept": "text/html"}
SIGN_IN, SIGN_UP, SIGN_OUT = "/clerk/sign-in/", "/clerk/sign-up/", "/clerk/sign-out/"
DEVELOPMENT = publishable_key("happy-cat-1.clerk.accounts.dev")
PRODUCTION = publishable_key("clerk.example.com", "live")
PORTAL = "https://happy-cat-1.accounts.dev"

#: What attackers have put into return URLs. None may lead a browser to another host, or make it run something.
HOSTILE = [
    "https://evil.example",
    "https://evil.example/",
    "http://evil.example/",
    "HTTPS://EVIL.EXAMPLE/",
    "//evil.example",
    "//evil.example/%2f..",
    "///evil.example",
    "////evil.example",
    "/\\evil.example",
    "\\/evil.example",
    "\\\\evil.example",
    "/\\/evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "\t//evil.example",
    " //evil.example",
    "\x00//evil.example",
    "\x08//evil.example",
    "https:evil.example",
    "https:/evil.example",
    "https:///evil.example",
    "https:\\\\evil.example",
    "http:///evil.example",
    "http://testserver@evil.example/",
    "http://testserver:80@evil.example/",
    "http://testserver%40evil.example/",
    "http://testserver.evil.example/",
    "http://testserver\\.evil.example/",
    "http://testserver\\@evil.example/",
    "http://evil.example#testserver",
    "http://evil.example?testserver",
    "http://evil.example/http://testserver/",
    "http://testserver:8443/",
    "http://[::ffff:1.2.3.4]/",
    "http://[testserver]/",
    "http://1249763844/",
    "http://evil\u3002example/",
    "http://evil\uff0eexample/",
    "//evil\u3002example",
    "/\u2215evil.example",
    "\uff0f\uff0fevil.example",
    "http://testserver\u2044@evil.example/",
    "http://testserver\x00.evil.example/",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\nscript:alert(1)",
    "\x01javascript:alert(1)",
    "javascript://testserver/%0aalert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:msgbox(1)",
    "blob:http://testserver/1",
    "ftp://testserver/",
    "file:///etc/passwd",
    "app.native://testserver/",
    "about:blank",
    "view-source:http://testserver/",
    "plain",
    "../up",
    "?next=/",
    "#top",
    "",
    " ",
    "/a b",
    "/\u202egpj.exe",
    "/caf\xe9",
    "/x\r\nSet-Cookie: a=b",
    "/x\r\n\r\n<script>",
]


@pytest.fixture(autouse=True)
def _site(settings: Any, local_clerk: LocalClerk) -> None:
    settings.ROOT_URLCONF = "tests.page_urls"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
    settings.LOGIN_URL = "clerk_views:sign-in"
    settings.LOGIN_REDIRECT_URL = "/home/"


@pytest.fixture
def ada(local_clerk: LocalClerk) -> Any:
    return local_clerk.add_user(email="ada@example.com")


def query(response: Any) -> dict[str, list[str]]:
    return parse_qs(urlsplit(response["Location"]).query)


def way_back(response: Any) -> str:
    [address] = query(response)["redirect_url"]
    return address


def in_a_browser(base: str, address: str) -> str:
    """Resolve an address as browsers do, who take backslashes for slashes and pass over tabs and line breaks."""
    return urljoin(base, re.sub(r"[\t\r\n]", "", address).strip("\x00\x01\x08 ").replace("\\", "/"))


def hold(client: Any, local_clerk: LocalClerk, token: str) -> None:
    """Give a client the cookies with which a browser keeps a session, the token being good or not."""
    client.cookies.load(local_clerk.session_cookies(token))


def sign_in_as(world: World, local_clerk: LocalClerk, user: Any, **claims: Any) -> None:
    hold(world.client, local_clerk, local_clerk.token(user, **claims))


class TestSignIn:
    @pytest.mark.parametrize("parameter", ["next", "redirect_url"])
    def test_it_leads_to_clerk_and_back(self, local_clerk: LocalClerk, each_world: World, parameter: str) -> None:
        response = each_world.get(SIGN_IN, {parameter: "/invoices/?page=2&q=a%20b"})
        assert response.status_code == 302
        assert response["Location"].startswith(f"{local_clerk.url}/sign-in?")
        assert query(response) == {
            "redirect_url": ["http://testserver/invoices/?page=2&q=a%20b"],
            "__clerk_db_jwt": [each_world.client.cookies["__clerk_db_jwt"].value],
        }

    @pytest.mark.parametrize(
        ("address", "admitted"),
        [
            ("https://satellite.example/page/?a=1", True),
            ("https://satellite.example", True),
            ("http://satellite.example/page/", False),
            ("https://satellite.example:8443/page/", False),
            ("https://satellite.example.evil.example/", False),
            ("https://satellite.example@evil.example/", False),
            ("https://evil.example/https://satellite.example/", False),
            ("https://satellite.example\\@evil.example/", False),
            ("https://SATELLITE.example/", False),
            ("//satellite.example/", False),
            ("https://satellite.example/\u00e9", False),
        ],
    )
    def test_it_leads_back_to_origins_of_the_project_s_own(
        self, local_clerk: LocalClerk, each_world: World, settings: Any, address: str, admitted: bool
    ) -> None:
        """RED-01: a satellite's visitors sign in here; its origin is named in the settings, and compared whole."""
        settings.CLERK_AUTH_PARTIES = [*settings.CLERK_AUTH_PARTIES, "https://satellite.example"]
        response = each_world.get(SIGN_IN, {"redirect_url": address})
        assert (query(response)["redirect_url"] == [address]) is admitted

    def test_the_answer_is_not_stored(self, each_world: World) -> None:
        """RED-08."""
        response = each_world.get(SIGN_IN)
        assert response["Cache-Control"] == "no-store"
        assert not response.has_header("Access-Control-Allow-Credentials")
        assert {"Cookie", "Authorization"} <= set(response["Vary"].replace(" ", "").split(","))

    def test_an_absolute_address_of_this_host_will_do(self) -> None:
        assert way_back(Client().get(SIGN_IN, {"next": "http://testserver/x"})) == "http://testserver/x"

    def test_without_a_way_back_it_is_djangos_default(self, settings: Any) -> None:
        assert way_back(Client().get(SIGN_IN)) == "http://testserver/home/"
        settings.LOGIN_REDIRECT_URL = "clerk_views:sign-up"
        assert way_back(Client().get(SIGN_IN)) == f"http://testserver{SIGN_UP}"
        settings.LOGIN_REDIRECT_URL = "https://www.example/start"
        assert way_back(Client().get(SIGN_IN)) == "https://www.example/start"

    @pytest.mark.parametrize("parameter", ["next", "redirect_url"])
    @pytest.mark.parametrize("address", HOSTILE)
    def test_no_way_back_leads_elsewhere(self, address: str, parameter: str) -> None:
        """RED-01."""
        response = Client().get(SIGN_IN, {parameter: address})
        assert way_back(response) == "http://testserver/home/"
        landed = urlsplit(in_a_browser("http://testserver/clerk/sign-in/", way_back(response)))
        assert (landed.scheme, landed.netloc) == ("http", "testserver")

    @pytest.mark.parametrize(
        "asked",
        [
            "next=/a/&next=/a/",
            "next=/a/&next=//evil.example",
            "redirect_url=/a/&redirect_url=//evil.example",
            "next=/a/&redirect_url=/a/",
            "next=//evil.example&redirect_url=/a/",
            "next=&redirect_url=/a/",
        ],
    )
    def test_two_ways_back_are_none(self, asked: str) -> None:
        """RED-01: else one might be checked and the other followed."""
        assert way_back(Client().get(f"{SIGN_IN}?{asked}")) == "http://testserver/home/"

    @pytest.mark.parametrize("parameter", ["Next", "return_to", "url", "next[]", "sign_in_force_redirect_url"])
    def test_other_parameters_say_nothing(self, parameter: str) -> None:
        assert query(Client().get(SIGN_IN, {parameter: "/x/"})) == {"redirect_url": ["http://testserver/home/"]}

    @pytest.mark.parametrize("header", ["x-forwarded-host", "x-forwarded-server", "x-original-url", "forwarded"])
    def test_forwarded_headers_do_not_move_the_way_back(self, header: str) -> None:
        """RED-02."""
        assert way_back(Client().get(SIGN_IN, {"next": "/x"}, headers={header: "evil.example"})) == (
            "http://testserver/x"
        )
        response = Client().get(SIGN_IN, {"next": "http://evil.example/"}, headers={header: "evil.example"})
        assert way_back(response) == "http://testserver/home/"

    @pytest.mark.parametrize("host", ["evil.example", "testserver@evil.example", "testserver:80:80", "testserver/x"])
    def test_a_poisoned_host_is_a_400(self, settings: Any, host: str) -> None:
        """RED-02."""
        settings.ALLOWED_HOSTS = ["testserver"]
        client = Client(raise_request_exception=False)
        for path in (SIGN_IN, SIGN_UP):
            assert client.get(path, headers={"host": host}).status_code == 400

    def test_over_https_the_way_back_is_https(self) -> None:
        """RED-02."""
        client = Client()
        assert way_back(client.get(SIGN_IN, {"next": "/x"}, secure=True)) == "https://testserver/x"
        response = client.get(SIGN_IN, {"next": "http://testserver/x"}, secure=True)
        assert way_back(response) == "https://testserver/home/"

    def test_an_own_page_gets_a_path(self, settings: Any) -> None:
        settings.CLERK_SIGN_IN_URL = "/our/sign-in/?theme=dark"
        response = Client().get(SIGN_IN, {"next": "/x?a=1"})
        assert response["Location"] == "/our/sign-in/?theme=dark&redirect_url=/x%3Fa%3D1"
        settings.CLERK_SIGN_IN_URL = "http://testserver/our/sign-in/"
        assert Client().get(SIGN_IN)["Location"] == "http://testserver/our/sign-in/?redirect_url=/home/"

    @pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
    def test_only_get_and_head_are_answered(self, each_world: World, method: str) -> None:
        for path in (SIGN_IN, SIGN_UP):
            assert getattr(each_world, method)(path).status_code == 405
            assert each_world.head(path).status_code == 302

    def test_clerk_need_not_answer(self, local_clerk: LocalClerk) -> None:
        local_clerk.faults.down()
        assert Client().get(SIGN_IN).status_code == 302

    def test_who_cannot_be_judged_now_is_told_so(self, local_clerk: LocalClerk, each_world: World, ada: Any) -> None:
        """Threats, section 2: an outage is a 503, and no cookie is touched."""
        sign_in_as(each_world, local_clerk, ada)
        local_clerk.faults.down()
        response = each_world.get(SIGN_IN, headers=PAGE)
        assert response.status_code == 503
        assert not response.cookies


class TestSignUp:
    @pytest.mark.parametrize(
        ("values", "page"),
        [
            ({}, f"{PORTAL}/sign-up"),
            ({"CLERK_PUBLISHABLE_KEY": PRODUCTION}, "https://accounts.example.com/sign-up"),
            ({"CLERK_SIGN_IN_URL": "https://login.example.com/in"}, "https://login.example.com/in/create"),
            ({"CLERK_SIGN_UP_URL": "https://join.example.com/"}, "https://join.example.com/"),
        ],
        ids=["development", "production", "combined", "own"],
    )
    def test_it_leads_to_the_sign_up_page(self, settings: Any, values: dict[str, str], page: str) -> None:
        settings.CLERK_PUBLISHABLE_KEY = DEVELOPMENT
        settings.CLERK_SIGN_IN_URL = settings.CLERK_SIGN_UP_URL = None
        for name, value in values.items():
            setattr(settings, name, value)
        response = Client().get(SIGN_UP, {"next": "/welcome/"})
        assert response["Location"].partition("?")[0] == page
        assert query(response) == {"redirect_url": ["http://testserver/welcome/"]}

    def test_an_own_page_gets_a_path(self, settings: Any) -> None:
        settings.CLERK_SIGN_UP_URL = "/join/"
        assert Client().get(SIGN_UP, {"next": "/x"})["Location"] == "/join/?redirect_url=/x"

    def test_a_hostile_way_back_is_refused_here_as_well(self) -> None:
        """RED-01."""
        assert way_back(Client().get(SIGN_UP, {"next": "//evil.example"})) == "http://testserver/home/"


class TestOtherSites:
    """What goes along to pages of another host. Source: Clerk's backend SDK, "redirect to sign-in"."""

    @pytest.fixture(autouse=True)
    def _hosted(self, settings: Any) -> None:
        settings.CLERK_PUBLISHABLE_KEY = DEVELOPMENT
        settings.CLERK_SIGN_IN_URL = settings.CLERK_SIGN_UP_URL = None

    @pytest.mark.parametrize("path", [SIGN_IN, SIGN_UP, "/required/"])
    def test_a_development_browser_is_made_known(self, path: str) -> None:
        client = Client()
        client.cookies["__clerk_db_jwt"] = "dvb_2abc"
        response = client.get(path, headers=PAGE)
        assert query(response)["__clerk_db_jwt"] == ["dvb_2abc"]
        assert "__clerk_db_jwt" not in way_back(response)

    def test_this_instances_browser_goes_before_any_other(self, settings: Any) -> None:
        client = Client()
        client.cookies["__clerk_db_jwt"] = "dvb_other"
        client.cookies[f"__clerk_db_jwt_{suffix()}"] = "dvb_ours"
        assert query(client.get(SIGN_IN))["__clerk_db_jwt"] == ["dvb_ours"]

    @pytest.mark.parametrize("value", ["", "a b", "a&x=1", "x" * 5000, "\xe9"])
    def test_what_is_no_name_of_a_browser_stays_here(self, value: str) -> None:
        client = Client()
        client.cookies["__clerk_db_jwt"] = value
        assert "__clerk_db_jwt" not in query(client.get(SIGN_IN))

    def test_nothing_goes_along_in_production(self, settings: Any) -> None:
        """RED-05."""
        settings.CLERK_PUBLISHABLE_KEY = PRODUCTION
        client = Client()
        client.cookies["__clerk_db_jwt"] = client.cookies["__session"] = "dvb_2abc"
        assert query(client.get(SIGN_IN)).keys() == {"redirect_url"}

    def test_nothing_goes_along_to_own_pages(self, settings: Any) -> None:
        settings.CLERK_SIGN_IN_URL = "/our/sign-in/"
        client = Client()
        client.cookies["__clerk_db_jwt"] = "dvb_2abc"
        assert query(client.get(SIGN_IN)).keys() == {"redirect_url"}

    def test_without_a_publishable_key_the_browser_is_unknown(self, settings: Any) -> None:
        settings.CLERK_PUBLISHABLE_KEY = ""
        settings.CLERK_SIGN_IN_URL = "https://login.example.com/"
        client = Client()
        client.cookies["__clerk_db_jwt"] = "dvb_2abc"
        assert query(client.get(SIGN_IN)).keys() == {"redirect_url"}

    @pytest.mark.parametrize("path", [SIGN_IN, SIGN_UP, "/required/"])
    def test_a_satellite_asks_for_the_primary_session(self, settings: Any, path: str) -> None:
        settings.CLERK_IS_SATELLITE = True
        settings.CLERK_DOMAIN = "satellite.example"
        settings.CLERK_AUTH_PARTIES = ["https://primary.example", "https://satellite.example"]
        settings.CLERK_SIGN_IN_URL = f"https://primary.example{SIGN_IN}"
        settings.CLERK_SIGN_UP_URL = f"https://primary.example{SIGN_UP}"
        assert run_checks(tags=["clerk_views"]) == []
        response = Client().get(path, {"next": "/x?a=1"}, headers=PAGE)
        back = urlsplit(way_back(response))
        assert (back.scheme, back.netloc) == ("http", "testserver")
        assert parse_qs(back.query)["__clerk_synced"] == ["false"]

    @pytest.mark.parametrize("path", [SIGN_IN, "/required/"])
    def test_a_pending_session_goes_to_its_tasks(
        self, settings: Any, local_clerk: LocalClerk, each_world: World, ada: Any, path: str
    ) -> None:
        sign_in_as(each_world, local_clerk, ada, sts="pending", iss="https://happy-cat-1.clerk.accounts.dev")
        response = each_world.get(path, headers=PAGE)
        assert response["Location"].startswith(f"{PORTAL}/sign-in/tasks?")
        settings.CLERK_SIGN_IN_URL = "/our/sign-in/"
        assert each_world.get(path, headers=PAGE)["Location"].startswith("/our/sign-in/?")


class TestWhoeverIsSignedIn:
    @pytest.mark.parametrize("path", [SIGN_IN, SIGN_UP])
    def test_he_goes_straight_on(self, local_clerk: LocalClerk, each_world: World, ada: Any, path: str) -> None:
        sign_in_as(each_world, local_clerk, ada)
        response = each_world.get(path, {"next": "/invoices/"})
        assert (response.status_code, response["Location"]) == (302, "/invoices/")
        assert response["Cache-Control"] == "no-store"

    @pytest.mark.parametrize("address", ["//evil.example", SIGN_IN, f"http://testserver{SIGN_IN}?next=/x"])
    def test_not_elsewhere_and_not_in_circles(self, local_clerk: LocalClerk, ada: Any, address: str) -> None:
        """RED-01, RED-03."""
        client = Client(headers={"authorization": f"Bearer {local_clerk.token(ada)}"})
        assert client.get(SIGN_IN, {"next": address})["Location"] == "/home/"

    def test_a_stale_token_is_no_sign_in(self, local_clerk: LocalClerk, each_world: World, ada: Any) -> None:
        sign_in_as(each_world, local_clerk, ada, issued_at=time.time() - 600)
        assert each_world.get(SIGN_IN)["Location"].startswith(f"{local_clerk.url}/sign-in?")

    def test_a_session_of_djangos_own_is_none_of_clerks(self, local_clerk: LocalClerk) -> None:
        client = Client()
        client.force_login(get_user_model().objects.create_user("sam"))
        assert client.get(SIGN_IN)["Location"].startswith(f"{local_clerk.url}/sign-in?")

    @pytest.mark.parametrize("path", ["/permission/", "/admin/"])
    def test_a_view_that_still_refuses_him_ends_in_a_403(
        self, local_clerk: LocalClerk, each_world: World, ada: Any, path: str
    ) -> None:
        """RED-03: Django sends those without a permission to sign in, too."""
        sign_in_as(each_world, local_clerk, ada)
        statuses = travel(each_world, path)
        assert statuses[-1] == 403
        assert statuses.count(302) <= 7  # three rounds of two, and the last on which he is told

    def test_without_the_middleware_djangos_decorator_does_not_turn_for_ever(
        self, settings: Any, local_clerk: LocalClerk, each_world: World, ada: Any
    ) -> None:
        """RED-03."""
        settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if name != MIDDLEWARE]
        sign_in_as(each_world, local_clerk, ada)
        assert travel(each_world, "/login/")[-1] == 403

    def test_a_token_that_nobody_accepts_comes_to_rest(self, local_clerk: LocalClerk, each_world: World) -> None:
        """RED-03: the sign-in page believes in it and sends the visitor straight back each time."""
        hold(each_world.client, local_clerk, local_clerk.token("user_x", iss="https://other.example"))
        statuses = [each_world.get(SIGN_IN, headers=PAGE).status_code for _ in range(4)]
        assert statuses == [302, 302, 302, 401]


def travel(world: World, path: str) -> list[int]:
    """Follow redirects within the site as a browser does, and return the statuses on the way."""
    statuses = []
    for _ in range(12):
        response = world.get(path, headers=PAGE)
        statuses.append(response.status_code)
        if response.status_code != 302:
            break
        path = response["Location"]
        assert path.startswith("/")
    return statuses


class TestDjangosOwnTools:
    @pytest.mark.parametrize("path", ["/login/", "/login/class/", "/permission/", "/admin/", "/admin/auth/"])
    def test_they_lead_to_clerk_and_back(self, local_clerk: LocalClerk, each_world: World, path: str) -> None:
        first = each_world.get(f"{path}?page=2", headers=PAGE)
        assert first.status_code == 302
        second = each_world.get(first["Location"], headers=PAGE)
        assert second["Location"].startswith(f"{local_clerk.url}/sign-in?")
        assert way_back(second) == f"http://testserver{path}?page=2"

    def test_the_whole_site_may_want_a_sign_in(
        self, settings: Any, local_clerk: LocalClerk, each_world: World, ada: Any
    ) -> None:
        """LoginRequiredMiddleware lets the views through that lead to signing in."""
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
        first = each_world.get("/plain/", headers=PAGE)
        assert first["Location"] == f"{SIGN_IN}?next=/plain/"
        for path in (first["Location"], SIGN_UP, "/admin/login/?next=/admin/"):
            assert each_world.get(path, headers=PAGE)["Location"].startswith(f"{local_clerk.url}/sign-in")
        assert each_world.post(SIGN_OUT).status_code == 303
        sign_in_as(each_world, local_clerk, ada)
        assert each_world.get("/plain/").json()["clerk"] == ada.id  # type: ignore[attr-defined]

    def test_the_admin_is_entered_and_left_through_clerk(
        self, local_clerk: LocalClerk, each_world: World, ada: Any
    ) -> None:
        sign_in_as(each_world, local_clerk, ada)
        each_world.get("/required/")
        get_user_model().objects.update(is_staff=True, is_superuser=True)
        page = each_world.get("/admin/")
        assert page.status_code == 200
        assert b'action="/admin/logout/"' in page.content
        assert each_world.get("/admin/login/?next=/admin/auth/")["Location"] == "/admin/auth/"
        assert each_world.post("/admin/logout/").status_code == 303
        assert each_world.get("/admin/").status_code == 302


class OwnAdmin(admin.AdminSite):
    """An admin site that a project made."""


class OwnLogin(admin.AdminSite):
    """One with a sign-in of its own."""

    def login(self, request: Any, extra_context: Any = None) -> HttpResponse:
        return HttpResponse("our own form")


def admin_urls(site: admin.AdminSite, *before: Any) -> ModuleType:
    """Return the addresses of a project with an admin site, and nothing besides what the documentation says."""
    urls = ModuleType("urls_of_a_test")
    urls.urlpatterns = [  # type: ignore[attr-defined]  # a module takes any
        route("clerk/", include("clerk_views.urls")),
        *before,
        route("staff/", site.urls),
    ]
    return urls


class TestPlainAdmin:
    """``LOGIN_URL = "clerk_views:sign-in"`` and ClerkMiddleware make the admin lead to Clerk, by themselves."""

    SITES = {
        "Django's": lambda: admin_urls(admin.site),
        "another": lambda: admin_urls(OwnAdmin(name="staff")),
        "decorated": lambda: admin_urls(admin.site, route("staff/login/", never_cache(admin.site.login))),
    }

    @pytest.fixture(params=SITES)
    def site(self, request: pytest.FixtureRequest, settings: Any) -> None:
        settings.ROOT_URLCONF = self.SITES[request.param]()

    @pytest.mark.parametrize("address", ["/staff/", "/staff/password_change/?q=a%20b"])
    @pytest.mark.parametrize("login_url", ["clerk_views:sign-in", SIGN_IN, f"{SIGN_IN}?theme=dark"])
    def test_it_leads_to_clerk_and_back(
        self, site: None, settings: Any, local_clerk: LocalClerk, each_world: World, address: str, login_url: str
    ) -> None:
        settings.LOGIN_URL = login_url
        response = each_world.get(address, headers=PAGE)
        for path_of in ("/staff/login/", SIGN_IN):
            assert (response.status_code, urlsplit(response["Location"]).path) == (302, path_of)
            response = each_world.get(response["Location"], headers=PAGE)
        assert response["Location"].startswith(f"{local_clerk.url}/sign-in?")
        assert way_back(response) == f"http://testserver{address}"

    @pytest.mark.parametrize("method", ["get", "head"])
    @pytest.mark.parametrize("asked", ["", *(f"?next={quote(address)}" for address in HOSTILE)])
    def test_no_parameter_leads_elsewhere(self, settings: Any, asked: str, method: str) -> None:
        """RED-01, RED-08: then it is the admin's own first page."""
        settings.ROOT_URLCONF = admin_urls(admin.site)
        response = getattr(Client(), method)(f"/staff/login/{asked}")
        assert (response.status_code, response["Location"]) == (302, f"{SIGN_IN}?next=/staff/")
        assert response["Cache-Control"] == "no-store"

    def test_staff_come_in(self, site: None, local_clerk: LocalClerk, each_world: World, ada: Any) -> None:
        sign_in_as(each_world, local_clerk, ada)
        assert each_world.get("/staff/", headers=PAGE).status_code == 302  # whereby she is known
        assert each_world.get("/staff/login/", headers=PAGE).status_code == 200
        get_user_model().objects.update(is_staff=True, is_superuser=True)
        assert each_world.get("/staff/", headers=PAGE).status_code == 200
        assert each_world.get("/staff/login/?next=/staff/", headers=PAGE)["Location"] == "/staff/"

    def test_whoever_is_no_staff_is_told_so(
        self, site: None, local_clerk: LocalClerk, each_world: World, ada: Any
    ) -> None:
        """RED-03: by the admin, and without a loop."""
        sign_in_as(each_world, local_clerk, ada)
        assert travel(each_world, "/staff/") == [302, 200]
        response = each_world.get("/staff/login/?next=/staff/", headers=PAGE)
        assert b"not authorized to access this page" in response.content

    def test_a_refused_account_is_told_so(
        self, site: None, local_clerk: LocalClerk, each_world: World, ada: Any
    ) -> None:
        """RED-03."""
        sign_in_as(each_world, local_clerk, ada)
        each_world.get("/staff/", headers=PAGE)
        get_user_model().objects.update(is_active=False)
        assert each_world.get("/staff/login/?next=/staff/", headers=PAGE).status_code == 403

    def test_an_outage_is_a_503(self, site: None, local_clerk: LocalClerk, each_world: World, ada: Any) -> None:
        sign_in_as(each_world, local_clerk, ada)
        local_clerk.faults.down()
        assert each_world.get("/staff/login/?next=/staff/", headers=PAGE).status_code == 503

    def test_an_expired_session_makes_the_detour(
        self, site: None, local_clerk: LocalClerk, each_world: World, ada: Any
    ) -> None:
        sign_in_as(each_world, local_clerk, ada, issued_at=time.time() - 600)
        assert each_world.get("/staff/login/?next=/staff/", headers=PAGE).status_code == 307

    def test_a_password_is_still_taken(self, site: None, each_world: World) -> None:
        """For whoever posts one: a way in when Clerk is away."""
        get_user_model().objects.create_superuser("root", password="break the glass")
        form = {"username": "root", "password": "break the glass", "next": "/staff/"}
        assert each_world.post("/staff/login/", form)["Location"] == "/staff/"

    @pytest.mark.parametrize(
        "login_url",
        [
            "/accounts/login/",
            "https://other.example/clerk/sign-in/",
            "no-such-view",
            "clerk_views:sign-up",
            "/staff/login/",
        ],
    )
    def test_with_another_login_url_it_is_djangos_form(self, settings: Any, each_world: World, login_url: str) -> None:
        settings.ROOT_URLCONF = admin_urls(admin.site)
        settings.LOGIN_URL = login_url
        response = each_world.get("/staff/login/", headers=PAGE)
        assert (response.status_code, b'type="password"' in response.content) == (200, True)

    def test_a_sign_in_of_the_project_s_own_stays(self, settings: Any, each_world: World) -> None:
        settings.ROOT_URLCONF = admin_urls(OwnLogin(name="staff"))
        assert each_world.get("/staff/login/", headers=PAGE).content == b"our own form"

    @pytest.mark.parametrize("installed", [True, False])
    def test_a_view_that_is_merely_called_so_stays(self, settings: Any, each_world: World, installed: bool) -> None:
        def login(request: Any) -> HttpResponse:
            return HttpResponse("our own form")

        urls = admin_urls(admin.site, route("login/", login))
        if not installed:
            urls.urlpatterns.pop()  # the admin's
            settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "django.contrib.admin"]
        settings.ROOT_URLCONF = urls
        assert each_world.get("/login/", headers=PAGE).content == b"our own form"


class TestSettings:
    @pytest.mark.parametrize("path", [SIGN_IN, SIGN_UP])
    def test_without_any_page_the_developer_is_told(self, settings: Any, path: str) -> None:
        settings.CLERK_SIGN_IN_URL = settings.CLERK_SIGN_UP_URL = settings.CLERK_PUBLISHABLE_KEY = ""
        with pytest.raises(ImproperlyConfigured, match="no page to send visitors to"):
            Client().get(path)

    @pytest.mark.parametrize("address", ["", "http://testserver"])
    @pytest.mark.parametrize(
        ("name", "path"), [("CLERK_SIGN_IN_URL", SIGN_IN), ("CLERK_SIGN_UP_URL", SIGN_UP)], ids=["in", "up"]
    )
    def test_a_page_that_is_the_view_itself_is_refused(self, settings: Any, name: str, path: str, address: str) -> None:
        """RED-03."""
        setattr(settings, name, address + path)
        with pytest.raises(ImproperlyConfigured, match=f"{name} leads to the very view"):
            Client().get(path)


def suffix() -> str:
    from clerk_views.conf import config

    key = config().publishable_key
    assert key is not None
    return key.cookie_suffix


class TestSignOut:
    @pytest.fixture
    def session(self, local_clerk: LocalClerk, ada: Any) -> Any:
        return local_clerk.open_session(ada)

    def test_the_session_ends_at_clerk_and_here(self, local_clerk: LocalClerk, each_world: World, session: Any) -> None:
        """LFC-03."""
        hold(each_world.client, local_clerk, local_clerk.session_token(session))
        response = each_world.post(SIGN_OUT)
        assert (response.status_code, response["Location"]) == (303, "/")
        assert response["Cache-Control"] == "no-store"
        assert session.status == "revoked"
        cookies = each_world.client.cookies
        ending = local_clerk.cookie_suffix
        for name in ("__session", f"__session_{ending}", f"__refresh_{ending}"):
            assert response.cookies[name].value == ""
            assert response.cookies[name]["max-age"] == 0
        for name in ("__client_uat", f"__client_uat_{ending}"):
            assert cookies[name].value == "0"
            assert cookies[name]["samesite"] == "Lax"
            assert cookies[name]["path"] == "/"
            assert not cookies[name]["secure"]
        assert each_world.get("/plain/").json()["clerk"] is None  # type: ignore[attr-defined]

    @pytest.mark.parametrize("age", [120, 24 * 3600], ids=["minutes", "a-day"])
    def test_a_page_left_open_ends_the_session_as_well(
        self, local_clerk: LocalClerk, each_world: World, session: Any, age: int
    ) -> None:
        """LFC-03: the token on it has long expired, yet the session at Clerk lives on."""
        token = local_clerk.session_token(session, issued_at=time.time() - age)
        hold(each_world.client, local_clerk, token)
        assert each_world.post(SIGN_OUT).status_code == 303
        assert session.status == "revoked"
        assert each_world.get("/required/").status_code == 401

    def test_a_pending_session_can_be_left(self, local_clerk: LocalClerk, each_world: World, ada: Any) -> None:
        session = local_clerk.open_session(ada, pending=True)
        hold(each_world.client, local_clerk, local_clerk.session_token(session))
        each_world.post(SIGN_OUT)
        assert session.status == "revoked"

    @pytest.mark.parametrize(
        "forge",
        [
            lambda server, token: token[:-8] + "AAAAAAAA",
            lambda server, token: "a.b.c",
            lambda server, token: token.replace(".", "", 1),
            lambda server, token: server.token("user_x", iss="https://other.example"),
            lambda server, token: "",
        ],
        ids=["signature", "garbage", "shape", "foreign", "none"],
    )
    def test_nobody_elses_session_ends(
        self, local_clerk: LocalClerk, each_world: World, session: Any, forge: Any
    ) -> None:
        hold(each_world.client, local_clerk, forge(local_clerk, local_clerk.session_token(session)))
        assert each_world.post(SIGN_OUT).status_code == 303
        assert session.status == "active"
        assert local_clerk.calls.count("/v1/sessions/{id}/revoke") == 0

    def test_of_two_sessions_the_newer_ends(self, local_clerk: LocalClerk, ada: Any) -> None:
        older, newer = local_clerk.open_session(ada), local_clerk.open_session(ada)
        now = time.time()
        client = Client()
        client.cookies["__session"] = local_clerk.session_token(newer, issued_at=now)
        client.cookies[f"__session_{local_clerk.cookie_suffix}"] = local_clerk.session_token(older, issued_at=now - 30)
        client.post(SIGN_OUT)
        assert (older.status, newer.status) == ("active", "revoked")

    def test_whoever_is_not_signed_in_may_sign_out(self, local_clerk: LocalClerk, each_world: World) -> None:
        assert each_world.post(SIGN_OUT).status_code == 303
        assert local_clerk.calls.total == 0

    @pytest.mark.parametrize("method", ["get", "head", "options", "put", "patch", "delete"])
    def test_nothing_but_post_signs_out(
        self, local_clerk: LocalClerk, each_world: World, session: Any, method: str
    ) -> None:
        """CSR-04."""
        hold(each_world.client, local_clerk, local_clerk.session_token(session))
        response = getattr(each_world, method)(SIGN_OUT)
        assert (response.status_code, response["Allow"]) == (405, "POST")
        assert not response.cookies
        assert session.status == "active"

    @pytest.mark.parametrize("middleware", ["with", "without", "none"])
    def test_another_site_cannot_sign_anybody_out(
        self, settings: Any, local_clerk: LocalClerk, session: Any, middleware: str
    ) -> None:
        """CSR-04: whether or not the project runs Django's own check."""
        csrf = "django.middleware.csrf.CsrfViewMiddleware"
        if middleware != "with":
            settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if name != csrf] * (middleware == "without")
        client = Client(enforce_csrf_checks=True)
        hold(client, local_clerk, local_clerk.session_token(session))
        response = client.post(SIGN_OUT)
        assert response.status_code == 403
        assert not response.cookies
        assert session.status == "active"

    @pytest.mark.parametrize("middleware", ["with", "none"])
    def test_the_form_of_the_site_signs_out(
        self, settings: Any, local_clerk: LocalClerk, session: Any, middleware: str
    ) -> None:
        if middleware == "none":
            settings.MIDDLEWARE = []
        request = RequestFactory().get("/")
        token = get_token(request)
        client = Client(enforce_csrf_checks=True)
        client.cookies["csrftoken"] = request.META["CSRF_COOKIE"]
        hold(client, local_clerk, local_clerk.session_token(session))
        assert client.post(SIGN_OUT, {"csrfmiddlewaretoken": token}).status_code == 303
        assert session.status == "revoked"

    @pytest.mark.parametrize(
        "break_it",
        [
            lambda server: server.faults.down(path="/v1/sessions"),
            lambda server: server.faults.status(500, path="/v1/sessions"),
            lambda server: server.faults.garbage("html", path="/v1/sessions"),
            lambda server: server.faults.down(),
        ],
        ids=["dropped", "500", "garbage", "all"],
    )
    def test_if_clerk_is_away_the_cookies_go_all_the_same(
        self,
        local_clerk: LocalClerk,
        each_world: World,
        session: Any,
        break_it: Any,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        token = local_clerk.session_token(session)
        hold(each_world.client, local_clerk, token)
        break_it(local_clerk)
        with caplog.at_level(logging.WARNING, "clerk_views"):
            response = each_world.post(SIGN_OUT)
        assert response.status_code == 303
        assert response.cookies["__session"]["max-age"] == 0
        assert "lives on at Clerk" in caplog.text
        assert token not in caplog.text
        assert session.status == "active"

    def test_if_clerk_is_slow_the_visitor_does_not_wait_for_long(
        self, settings: Any, local_clerk: LocalClerk, session: Any
    ) -> None:
        settings.CLERK_TIMEOUT_MS = 200
        client = Client()
        hold(client, local_clerk, local_clerk.session_token(session))
        client.get("/plain/")
        local_clerk.faults.slow(2, path="/v1/sessions")
        began = time.monotonic()
        assert client.post(SIGN_OUT).status_code == 303
        assert time.monotonic() - began < 1.9

    def test_a_session_that_is_over_is_no_failure(
        self, local_clerk: LocalClerk, ada: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = Client()
        hold(client, local_clerk, local_clerk.token(ada, sid="sess_unknown"))
        with caplog.at_level(logging.INFO, "clerk_views"):
            assert client.post(SIGN_OUT).status_code == 303
        assert "had ended at Clerk before" in caplog.text
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]

    def test_without_a_secret_key_the_log_says_what_is_left(
        self, settings: Any, local_clerk: LocalClerk, session: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings.CLERK_JWT_KEY = local_clerk.signing_key.public_pem
        settings.CLERK_SECRET_KEY = ""
        settings.CLERK_USER_SOURCE = "claims"
        client = Client()
        hold(client, local_clerk, local_clerk.session_token(session))
        assert client.post(SIGN_OUT).status_code == 303
        assert "Without CLERK_SECRET_KEY" in caplog.text
        assert local_clerk.calls.total == 0

    def test_without_a_publishable_key_the_plain_cookies_go(self, settings: Any) -> None:
        settings.CLERK_PUBLISHABLE_KEY = ""
        assert {*Client().post(SIGN_OUT).cookies} == {"__session", "__client_uat", "__refresh"}

    def test_a_session_that_is_under_way_twice_ends_once(
        self, local_clerk: LocalClerk, each_world: World, session: Any
    ) -> None:
        token = local_clerk.session_token(session)
        hold(each_world.client, local_clerk, token)
        directives = [f"__session={local_clerk.session_token(session)}; Path=/"]
        header = session_header(local_clerk.signing_key.kid)
        brought = mint(header, {"handshake": directives}, local_clerk.signing_key)
        each_world.client.cookies["__clerk_handshake"] = brought
        assert each_world.post(SIGN_OUT).status_code == 303
        assert session.status == "revoked"
        assert local_clerk.calls.count("/v1/sessions/{id}/revoke") == 1

    def test_over_https_cookies_are_secure(self) -> None:
        assert Client().post(SIGN_OUT, secure=True).cookies["__client_uat"]["secure"]

    @pytest.mark.parametrize("middleware", [True, False], ids=["clerk", "django"])
    def test_a_session_of_djangos_own_ends_too(
        self, settings: Any, local_clerk: LocalClerk, each_world: World, session: Any, middleware: bool
    ) -> None:
        if not middleware:
            settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if name != MIDDLEWARE]
        sam = get_user_model().objects.create_user("sam")
        log_in: Any = each_world.client.aforce_login if each_world.is_async else each_world.client.force_login
        (async_to_sync(log_in) if each_world.is_async else log_in)(sam)
        hold(each_world.client, local_clerk, local_clerk.session_token(session))
        seen = []

        def receive(sender: Any, user: Any, **kwargs: Any) -> None:
            seen.append(user)

        user_logged_out.connect(receive)
        try:
            each_world.post(SIGN_OUT)
        finally:
            user_logged_out.disconnect(receive)
        assert seen == [sam]
        assert each_world.get("/login/").status_code == 302
        assert local_clerk.calls.user_fetches == 0  # nobody is looked up, let alone created, to be signed out

    def test_a_refused_account_can_sign_out(self, local_clerk: LocalClerk, each_world: World, session: Any) -> None:
        hold(each_world.client, local_clerk, local_clerk.session_token(session))
        each_world.get("/required/")
        get_user_model().objects.update(is_active=False)
        assert each_world.get("/required/").status_code == 403
        assert each_world.post(SIGN_OUT).status_code == 303
        assert session.status == "revoked"

    @pytest.mark.parametrize("where", ["form", "query"])
    @pytest.mark.parametrize("parameter", ["next", "redirect_url"])
    def test_it_leads_where_the_form_says(self, where: str, parameter: str) -> None:
        if where == "form":
            response: Any = Client().post(SIGN_OUT, {parameter: "/bye/?a=1"})
        else:
            response = Client().post(f"{SIGN_OUT}?{parameter}=/bye/%3Fa=1")
        assert (response.status_code, response["Location"]) == (303, "/bye/?a=1")

    @pytest.mark.parametrize("address", HOSTILE)
    def test_no_form_leads_elsewhere(self, settings: Any, address: str) -> None:
        """RED-01."""
        settings.CLERK_AFTER_SIGN_OUT_URL = "/bye/"
        assert Client().post(SIGN_OUT, {"next": address})["Location"] == "/bye/"
        assert Client().post(f"{SIGN_OUT}?next=/a/", {"next": address})["Location"] == "/bye/"

    def test_the_setting_may_lead_to_another_site(self, settings: Any) -> None:
        settings.CLERK_AFTER_SIGN_OUT_URL = "https://www.example/b\xfce"
        assert Client().post(SIGN_OUT)["Location"] == "https://www.example/b%C3%BCe"


@pytest.mark.parametrize("place", ["/required/", "/required/caf%C3%A9/", "/required/50%25/", "/required/a%20b/"])
def test_loop_protection_is_shared_with_the_doors(local_clerk: LocalClerk, place: str) -> None:
    """RED-03: one counter for one place, whichever of them sends the visitor round."""
    client = Client()
    hold(client, local_clerk, "a.b.c")
    assert client.get(place, headers=PAGE).status_code == 302
    client.get(SIGN_IN, {"next": place}, headers=PAGE)
    assert client.cookies[answers.LOOP_COOKIE].value.startswith("2.")
