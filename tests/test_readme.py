"""What the README says is so: its snippets run, its table of settings is the code's, its links lead somewhere."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.contrib.admin import AdminSite
from django.contrib.auth import get_user_model
from django.http import HttpRequest, JsonResponse
from django.template import engines
from django.test import Client, RequestFactory, override_settings
from django.urls import include, path

from clerk_views import conf
from clerk_views.testing import LocalClerk
from clerk_views.testing.fixtures import ClerkFixture

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS: list[str] = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
SETTINGS = [block for block in BLOCKS if block.startswith("# settings.py")]
VIEWS = [block for block in BLOCKS if not block.startswith("# ") and "LocalClerk" not in block]


def block(start: str) -> str:
    """Return the snippet that begins with this comment."""
    return next(source for source in BLOCKS if source.startswith(start))


def section(heading: str) -> str:
    """Return the text between a heading and the next one, of whatever level."""
    return re.split(r"^##+ ", README.partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


class Project:
    """
    A project as ``django-admin startproject`` makes it, and what sections of the README say to add.

    Only Clerk itself is another: the settings in force are the project's, and over them the keys and the address of the
    stand-in, and the origin by which this machine reaches the project.
    """

    def __init__(self, folder: Path, clerk: LocalClerk) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CLERK_")},
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PYTHONUNBUFFERED": "1",
        }
        self.environment.pop("DJANGO_SETTINGS_MODULE", None)
        self.run("-m", "django", "startproject", "mysite", ".")
        self.environment["DJANGO_SETTINGS_MODULE"] = "standing_in"
        (folder / "standing_in.py").write_text(
            "from mysite import settings\n"
            "from mysite.settings import *\n"
            f"stand_in = {clerk.settings(CLERK_AUTH_PARTIES=[self.url])!r}\n"
            "for name in ('CLERK_SIGN_IN_URL', 'CLERK_SIGN_UP_URL'):\n"
            "    if hasattr(settings, name): del stand_in[name]\n"
            "globals().update(stand_in)\n"
        )

    def run(self, *command: str) -> str:
        """Run a program in the project's folder, and return what it says."""
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def manage(self, *command: str) -> str:
        """Run ``manage.py``."""
        return self.run("manage.py", *command)

    def follow(self, heading: str) -> None:
        """Do what a section says: the first line of a snippet is the file it is for, and whether it is added there."""
        for source in re.findall(r"^```(?:python|html)\n(.*?)^```$", section(heading), re.DOTALL | re.MULTILINE):
            label = re.match(r"(?:# |<!-- )([\w/]+\.(?:py|html))(, added at its end)?", source)
            assert label, source
            file = self.folder / ("mysite" if label[1].endswith(".py") else "") / label[1]
            file.parent.mkdir(exist_ok=True)
            file.write_text((f"{file.read_text()}\n" if label[2] else "") + source)

    @contextmanager
    def serve(self) -> Iterator[None]:
        """Run Django's own server, as everybody does to have a look."""
        server = subprocess.Popen(
            [sys.executable, "manage.py", "runserver", "--noreload", f"127.0.0.1:{self.port}"],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert server.stdout
            while "Quit the server" not in (line := server.stdout.readline()):
                assert line, "The server has ended."
            yield
        finally:
            server.terminate()
            output, _ = server.communicate(timeout=20)
        assert "Traceback" not in output, output


@contextmanager
def browsing(url: str) -> Iterator[httpx.Client]:
    """Open what follows redirects and keeps cookies as browsers do."""
    headers = {"Accept": "text/html,*/*;q=0.8", "Sec-Fetch-Dest": "document"}
    with httpx.Client(base_url=url, headers=headers, follow_redirects=True, timeout=20, trust_env=False) as browser:
        yield browser


def links(page: httpx.Response) -> dict[str, str]:
    """Return where the links of a page lead, by their words."""
    found = re.findall(r'<a href="([^"]*)">([^<]*)</a>', page.text)
    return {words: html.unescape(address) for address, words in found}


def token_of(page: httpx.Response) -> str:
    """Return the CSRF token in a page."""
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert found, page.text
    return found[1]


def run_settings(source: str) -> dict[str, Any]:
    """Run a snippet at the end of what ``startproject`` writes into settings.py; return what comes of it."""
    values: dict[str, Any] = {"INSTALLED_APPS": [], "MIDDLEWARE": [], "TEMPLATES": [{"DIRS": []}], "BASE_DIR": ROOT}
    exec(compile(source, "README.md", "exec"), values)  # noqa: S102  # running it is the test
    return values


def clerks_settings(first_line: str) -> dict[str, Any]:
    """Return the CLERK_... settings of the snippet whose first line says this."""
    source = next(source for source in SETTINGS if first_line in source.partition("\n")[0])
    return {name: value for name, value in run_settings(source).items() if name.startswith("CLERK_")}


@pytest.fixture
def views() -> types.ModuleType:
    """All snippets of views, one after the other in one module, as a reader would paste them."""
    pytest.importorskip("rest_framework")
    module = types.ModuleType("readme_views")
    for source in VIEWS:
        exec(compile(source, "README.md", "exec"), module.__dict__)  # noqa: S102  # running them is the test
    return module


@pytest.fixture
def site(views: Any, settings: Any) -> Any:
    from rest_framework.routers import SimpleRouter

    router = SimpleRouter()
    router.register("invoices", views.Invoices, basename="invoices")
    urls = types.ModuleType("readme_urls")
    urls.urlpatterns = [  # type: ignore[attr-defined]
        path("invoices/", views.invoices),
        path("profile/", views.profile),
        path("home/", views.home),
        path("report/", views.Report.as_view()),
        path("greeting/", views.Greeting.as_view()),
        path("by-hand/", views.by_hand),
        path("orgs/<slug:slug>/members/", views.members),
        path("transfer/", views.Transfer.as_view()),
        path("orgs/", include(router.urls)),
        path("new-invoice/", views.new_invoice),
        path("clerk/", include("clerk_views.urls")),
        path("may-create/", may_create),
        path("perms/", perms),
        path("offer/", offer(views)),
        path("prices/", views.prices),
        path("usage/", views.usage),
        path("import/", views.import_invoices),
        path("orders/", views.Orders.as_view()),
        path("sync/", views.Sync.as_view()),
    ]
    settings.ROOT_URLCONF = urls
    backends = next(source for source in SETTINGS if "AUTHENTICATION_BACKENDS" in source)
    settings.AUTHENTICATION_BACKENDS = run_settings(backends)["AUTHENTICATION_BACKENDS"]
    return views


def perms(request: HttpRequest) -> JsonResponse:
    """Ask for permissions in a template, as the text says, and as it says that nobody should."""
    asked = re.search(r"{% if .* in perms %}", README)
    never = re.search(r"`(perms\.[\w.]+)` is always false", README)
    assert asked
    assert never
    source = f"{asked[0]}yes{{% endif %}}{{% if {never[1]} %}}never{{% endif %}}"
    return JsonResponse({"shown": engines["django"].from_string(source).render({}, request)})


def offer(views: Any) -> Any:
    """Return a view with the composed permission of the text."""
    from rest_framework.response import Response

    composed = re.search(r"`\[(~clerk_requires.*)\]`", README)
    assert composed
    permission = eval(composed[1], vars(views))  # noqa: S307  # running it is the test

    class Offer(views.APIView):  # type: ignore[misc]
        authentication_classes = (views.ClerkAuthentication,)
        permission_classes = (permission,)

        def get(self, request: Any) -> Response:
            return Response({})

    return Offer.as_view()


async def may_create(request: HttpRequest) -> JsonResponse:
    """Ask for a permission on an event loop, as the text says."""
    user = await request.auser()
    return JsonResponse({"ok": await user.ahas_perm(CREATE)})


def test_the_first_protected_view_stands_by_line_15() -> None:
    lines = README.splitlines()
    assert any("@clerk_required" in line for line in lines[:15])


@pytest.mark.django_db
def test_the_views_of_the_readme_work(site: Any, local_clerk: LocalClerk) -> None:
    ada = local_clerk.add_user(email="ada@example.com", username="ada")
    token = {"authorization": f"Bearer {local_clerk.token(ada)}"}
    client = Client()
    client.cookies["__clerk_db_jwt"] = "1"  # a browser that has been here before
    assert client.get("/invoices/").status_code == 401
    assert client.get("/invoices/", headers=token).json()["clerk"] == ada.id
    assert client.get("/profile/", headers=token).json() == {"name": "ada"}
    assert client.get("/profile/", headers={"accept": "text/html"})["Location"].startswith("/welcome/?next=")
    assert client.get("/home/").json() == {"hello": "stranger"}
    assert client.get("/home/", headers=token).json() == {"hello": "ada"}
    assert client.get("/report/", headers=token).json() == {"for": ada.id}
    assert client.get("/report/").status_code == 403
    assert client.get("/greeting/").json() == {"signed_in": False}
    assert client.get("/orders/", headers=token).json()["clerk"] == ada.id
    request = RequestFactory().get("/", headers=token)
    assert site.audit(request) == ada.id


@pytest.fixture
def ask(site: Any, local_clerk: LocalClerk, settings: Any) -> Callable[..., Any]:
    """Ask as Ada, whose token says what is given; return the answer's JSON, or its status if that is not 200."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "clerk_views.middleware.ClerkMiddleware"]
    ada = local_clerk.add_user(id=ADA, email="ada@example.com", username="ada")

    def ask(where: str, method: str = "GET", **claims: Any) -> Any:
        token = local_clerk.token(ada, **claims)
        response = Client().generic(method, where, headers={"authorization": f"Bearer {token}"})
        return response.json() if response.status_code == 200 else response.status_code

    return ask


ADA, CREATE = "user_ada", "org:invoices:create"
MEMBER = {"org_id": "org_acme", "org_slug": "acme", "org_role": "org:member"}
ADMIN = {**MEMBER, "org_role": "org:admin"}


def granted(*permissions: str) -> dict[str, Any]:
    """Return the claims of a member who may do this."""
    return {**MEMBER, "org_permissions": permissions}


@pytest.mark.django_db
def test_members_are_for_admins_of_the_organisation_in_the_address(ask: Callable[..., Any]) -> None:
    """ORG-01."""
    assert ask("/orgs/acme/members/", **ADMIN) == {"organisation": "acme"}
    assert ask("/orgs/other/members/", **ADMIN) == 403
    assert ask("/orgs/acme/members/", **MEMBER) == 403
    assert ask("/orgs/acme/members/") == 403


@pytest.mark.django_db
def test_a_transfer_wants_permission_a_fresh_proof_and_the_user_himself(
    ask: Callable[..., Any], local_clerk: LocalClerk
) -> None:
    paying = {**granted("org:payments:create"), "factor_verification_age": [9, 9]}
    assert ask("/transfer/", "POST", **paying) == {"by": ADA}
    assert ask("/transfer/", "POST", **paying | granted("org:payments:delete", CREATE)) == 403
    assert ask("/transfer/", "POST", **paying, actor="user_eve") == 403
    stale = local_clerk.token(ADA, **paying | {"factor_verification_age": [9, 11]})
    response = Client().post("/transfer/", headers={"authorization": f"Bearer {stale}"})
    assert response.status_code == 403
    error = response.json()["clerk_error"]
    assert (error["reason"], error["metadata"]) == ("reverification-error", {"reverification": "strict"})


@pytest.mark.django_db
def test_invoices_are_for_organisations_and_exports_for_whom_may_or_is_staff(ask: Callable[..., Any]) -> None:
    """ORG-01. Step-up as everywhere; what REST framework composes is asked in turn."""
    assert ask("/orgs/invoices/", **MEMBER) == {"organisation": "org_acme"}
    assert ask("/orgs/invoices/") == 403
    assert ask("/orgs/invoices/export/", **granted("org:invoices:export")) == {"exported_by": ADA}
    assert ask("/orgs/invoices/export/", **granted(CREATE)) == 403
    assert ask("/orgs/invoices/export/") == 403
    get_user_model()._default_manager.update(is_staff=True)
    assert ask("/orgs/invoices/export/") == {"exported_by": ADA}


@pytest.mark.django_db
def test_prices_depend_on_the_plan(ask: Callable[..., Any]) -> None:
    assert ask("/prices/", plans=["user:pro"]) == {"pro": True}
    assert ask("/prices/", plans=["user:free"]) == {"pro": False}
    assert ask("/prices/", **MEMBER, plans=["org:pro"]) == {"pro": False}
    assert Client().get("/prices/").json() == {"pro": False}


@pytest.mark.django_db
def test_django_asks_clerk_for_permissions_first(
    ask: Callable[..., Any], local_clerk: LocalClerk, django_assert_num_queries: Any
) -> None:
    """With the backends in the order of the text: a granted permission costs no query beside the user's row."""
    assert ask("/new-invoice/", **granted(CREATE)) == {"ok": True}
    assert ask("/new-invoice/", **granted("org:invoices:delete")) == 403
    token = {"authorization": f"Bearer {local_clerk.token(ADA, **granted(CREATE))}"}
    assert Client().get("/new-invoice/", headers=token).status_code == 200
    with django_assert_num_queries(1):
        assert Client().get("/new-invoice/", headers=token).status_code == 200
    assert ask("/may-create/", **granted(CREATE)) == {"ok": True}
    assert ask("/may-create/", **MEMBER) == {"ok": False}


@pytest.mark.django_db
def test_users_of_django_itself_are_asked_about_as_ever(ask: Callable[..., Any]) -> None:
    root = get_user_model()._default_manager.create(username="root", is_superuser=True)
    assert "`client.force_login(user)`" in README
    client = Client()
    client.force_login(root)
    assert client.get("/may-create/").json() == {"ok": True}
    assert Client().get("/may-create/").json() == {"ok": False}


@pytest.mark.django_db
def test_templates_ask_for_permissions_as_the_text_says(ask: Callable[..., Any]) -> None:
    assert ask("/perms/", **granted(CREATE)) == {"shown": "yes"}
    assert ask("/perms/", **granted("org:invoices:delete")) == {"shown": ""}


@pytest.mark.django_db
def test_the_composed_permission_of_the_text_is_for_clerk_users_alone(ask: Callable[..., Any]) -> None:
    assert ask("/offer/", plans=["user:free"]) == {}
    assert ask("/offer/") == {}
    assert ask("/offer/", plans=["user:pro"]) == 403
    assert Client().get("/offer/").status_code == 401


@pytest.mark.django_db
def test_by_hand_it_is_as_at_the_doors(ask: Callable[..., Any], local_clerk: LocalClerk) -> None:
    assert ask("/by-hand/") == {"django": get_user_model()._default_manager.get().pk}
    assert Client().get("/by-hand/").status_code == 401
    pending = {"authorization": f"Bearer {local_clerk.token(ADA, sts='pending')}"}
    response = Client().get("/by-hand/", headers=pending)
    assert (response.status_code, response.json()) == (401, {"code": "session-pending"})
    get_user_model()._default_manager.update(is_active=False)
    assert ask("/by-hand/") == 403


@pytest.mark.django_db
def test_a_sync_is_for_clients_or_admins(ask: Callable[..., Any]) -> None:
    assert ask("/sync/", **ADMIN) == {"client": None, "user": ADA}
    assert ask("/sync/", **MEMBER) == 403


@pytest.mark.django_db
def test_the_views_for_machines_work(site: Any, local_clerk: LocalClerk) -> None:
    ada, machine = local_clerk.add_user(email="ada@example.com"), local_clerk.add_machine()

    def get(where: str, token: str) -> Any:
        response = Client().get(where, headers={"authorization": f"Bearer {token}"})
        return response.json() if response.status_code == 200 else response.status_code

    key = local_clerk.create_api_key(ada, ["read"])
    assert get("/usage/", key) == {"by": "api_key", "user": ada.id, "org": None}
    assert get("/usage/", local_clerk.create_api_key("org_1")) == {"by": "api_key", "user": None, "org": "org_1"}
    assert get("/usage/", local_clerk.token(ada))["by"] == "session_token"
    assert get("/import/", key) == 401
    assert get("/import/", local_clerk.m2m_token(machine)) == 403
    scopes = ["invoices:write"]
    assert get("/import/", local_clerk.m2m_token(machine, scopes)) == {"machine": machine.id, "scopes": scopes}
    token = local_clerk.oauth_token(ada, ["sync"], client_id="client_1", jwt=True)
    assert get("/sync/", token) == {"client": "client_1", "user": ada.id}
    local_clerk.revoke_machine_token(key)


def test_the_settings_of_the_readme_are_valid(settings: Any) -> None:
    for source in SETTINGS:
        values = run_settings(source)
        for setting in conf.SETTINGS:
            value = values.get(setting.name, setting.default)
            if not (isinstance(value, str) and value.endswith("_...")):  # a key with its body left out
                setting.parse(value)


def test_the_mapping_callable_of_the_readme_works() -> None:
    values: dict[str, Any] = {}
    exec(compile(block("# myapp/sync.py"), "README.md", "exec"), values)  # noqa: S102  # running it is the test
    assert values["plan"]({"plan": "pro"}, None) == {"plan": "pro"}
    assert values["plan"](None, None) == {"plan": "free"}


def test_the_server_rendered_site_of_the_readme_works(tmp_path: Path, local_clerk: LocalClerk) -> None:
    """From ``startproject`` to a sign-in button, by Clerk's hosted pages; then by pages of the site's own."""
    project = Project(tmp_path, local_clerk)
    project.follow("Install")
    project.follow("Server-rendered sites")
    assert "no issues" in project.manage("check")
    project.manage("migrate")
    ada = local_clerk.add_user(email="ada@example.com", username="ada")
    with project.serve(), browsing(project.url) as browser:
        page = browser.get("/?a=1")
        assert (page.status_code, page.url.path) == (200, "/")
        assert "data-clerk-component" not in page.text
        assert links(page) == {"Sign in": "/clerk/sign-in/?next=/%3Fa%3D1", "Sign up": "/clerk/sign-up/"}
        scripts = re.findall(r'src="(/[^"]*)"', page.text)
        assert scripts
        assert [browser.get(script).status_code for script in scripts] == [200] * len(scripts)

        hosted = browser.get(links(page)["Sign in"])
        assert str(hosted.url).startswith(f"{local_clerk.url}/sign-in?")
        page = browser.post(
            f"{local_clerk.url}/sign-in",
            data={"user_id": ada.id, "redirect_url": hosted.url.params["redirect_url"]},
        )
        assert (page.status_code, str(page.url)) == (200, f"{project.url}/?a=1")
        assert 'data-clerk-component="UserButton"' in page.text
        assert browser.get("/members/").url.path == "/members/"
        page = browser.get("/admin/")  # she is no staff, and signing in anew would not help
        assert (page.status_code, page.url.path) == (200, "/admin/login/")
        assert "not authorized to access this page" in page.text
        page = browser.get("/members/")

        page = browser.post("/clerk/sign-out/", data={"csrfmiddlewaretoken": token_of(page)})
        assert (page.status_code, page.url.path) == (200, "/")
        assert "Sign in" in links(page)
        assert str(browser.get("/members/").url).startswith(f"{local_clerk.url}/sign-in?")
        assert str(browser.get("/admin/").url).startswith(f"{local_clerk.url}/sign-in?")

    project.follow("Sign-in pages of your own")
    assert "no issues" in project.manage("check")
    with project.serve(), browsing(project.url) as browser:
        for where, component in (("/members/", "SignIn"), ("/clerk/sign-up/?next=/members/", "SignUp")):
            page = browser.get(where)
            assert page.status_code == 200
            assert page.url.path == ("/sign-in/" if component == "SignIn" else "/sign-up/")
            assert f'data-clerk-component="{component}"' in page.text
            assert re.search(r"&quot;fallbackRedirectUrl&quot;: &quot;[^&]*/members/&quot;", page.text)
        token = local_clerk.token(ada, azp=project.url)
        browser.cookies.update(local_clerk.session_cookies(token))
        assert browser.get("/clerk/sign-in/?next=/members/").url.path == "/members/"


@pytest.mark.django_db
def test_the_satellite_of_the_readme_asks_its_primary(site: Any, settings: Any, local_clerk: LocalClerk) -> None:
    """Both as the text sets them up, with a development key: there, and back where the primary says so."""
    settings.ALLOWED_HOSTS = ["satellite.example", "primary.example"]
    headers = {"accept": "text/html", "sec-fetch-dest": "document"}
    with override_settings(**clerks_settings("of the satellite")):
        response = Client().get("/home/", headers={**headers, "host": "satellite.example"}, secure=True)
    there = response["Location"]
    back = "https%3A%2F%2Fsatellite.example%2Fhome%2F"
    assert there == f"https://primary.example/clerk/sign-in/?__clerk_redirect_url={back}"
    browser = Client()
    browser.cookies["__clerk_db_jwt"] = "dvb_1"
    with override_settings(**clerks_settings("of the primary")):
        response = browser.get(there, headers={**headers, "host": "primary.example"}, secure=True)
    assert response["Location"] == "https://satellite.example/home/?__clerk_db_jwt=dvb_1&__clerk_synced=true"
    with override_settings(CLERK_AUTH_PARTIES=["https://primary.example"]):
        response = browser.get(there, headers={**headers, "host": "primary.example"}, secure=True)
    assert not response["Location"].startswith("https://satellite.example/")


#: The ready-made users of django-clerk-sdk 1.0.0, as far as they are a table and an app; for where that cannot be had.
NEIGHBOUR = {
    "__init__.py": "",
    "apps.py": "from django.apps import AppConfig\nclass Config(AppConfig):\n    name = 'django_clerk_sdk'\n",
    "core/__init__.py": "",
    "core/compat.py": "from django.contrib.auth import get_user_model\n",
    "users/__init__.py": "",
    "users/apps.py": """
from django.apps import AppConfig
class UserConfig(AppConfig):
    default_auto_field = "django.db.models.BigAutoField"
    label = "users"
    name = "django_clerk_sdk.users"
""",
    "users/admin.py": """
from django.contrib import admin
from django_clerk_sdk.core.compat import get_user_model
admin.site.register(get_user_model())
""",
    "users/models.py": """
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models
from django.utils import timezone
class ClerkUser(AbstractBaseUser, PermissionsMixin):
    clerk_user_id = models.CharField(max_length=255, unique=True, null=True, blank=True, db_index=True)
    email = models.EmailField(unique=True, null=True, blank=True)
    username = models.CharField(max_length=255, unique=True)
    first_name = models.CharField(max_length=255, blank=True)
    last_name = models.CharField(max_length=255, blank=True)
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    image = models.URLField(null=True, blank=True)
    date_joined = models.DateTimeField(default=timezone.now)
    last_active_at = models.DateTimeField(null=True, blank=True)
    objects = BaseUserManager()
    USERNAME_FIELD = "username"
    REQUIRED_FIELDS = ["email"]
""",
    "users/migrations/__init__.py": "",
}


def test_the_users_of_the_neighbours_model_come_along(tmp_path: Path, local_clerk: LocalClerk) -> None:
    """What the text says, done in a project that has users and rows which refer to them."""
    project = Project(tmp_path, local_clerk)
    settings = tmp_path / "mysite" / "settings.py"
    before = settings.read_text()
    apps = 'INSTALLED_APPS += ["django_clerk_sdk", "django_clerk_sdk.users"]'
    settings.write_text(f'{before}\n{apps}\nAUTH_USER_MODEL = "users.ClerkUser"\n')
    if find_spec("django_clerk_sdk") is None:
        for name, source in NEIGHBOUR.items():
            (tmp_path / "django_clerk_sdk" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "django_clerk_sdk" / name).write_text(source)
        project.manage("makemigrations", "users")
    project.manage("migrate")
    ada = local_clerk.add_user(email="ada@example.com", username="ada", first_name="Ada")
    nobody = [local_clerk.add_user() for _ in range(2)]  # without an address, which this table keeps unique
    project.manage(
        "shell",
        "--no-imports",
        "-c",
        "from django.contrib.auth import get_user_model as model\n"
        "users = model().objects\n"
        "root = users.create(username='root', email='root@example.com', is_staff=True, is_superuser=True)\n"
        f"ada = users.create(username='ada', email='old@example.com', clerk_user_id='{ada.id}')\n"
        "ada.groups.create(name='writers')",
    )

    command = re.search(r'^python (-c) "(import shutil, .*)"$', README, re.MULTILINE)
    assert command
    project.run(*command.groups())
    replace(tmp_path / "users" / "apps.py", '"django_clerk_sdk.users"', '"users"')
    replace(tmp_path / "users" / "admin.py", "django_clerk_sdk.core.compat", "django.contrib.auth")
    replace(settings, apps, 'INSTALLED_APPS += ["clerk_views", "users"]')
    shutil.rmtree(tmp_path / "django_clerk_sdk", ignore_errors=True)  # uninstalled

    assert "no issues" in project.manage("check")
    assert "No changes detected" in project.manage("makemigrations", "--check", "--dry-run")
    project.manage("migrate")
    seen = project.manage(
        "shell",
        "--no-imports",
        "-c",
        "import json\n"
        "from django.contrib.auth import get_user_model as model\n"
        "from clerk_views import clerk_client\n"
        f"for each in {[each.id for each in (ada, *nobody)]!r}:\n"
        "    clerk_client.sync_django_user(clerk_client.get_user_details(each))\n"
        "print(json.dumps(list(model().objects.order_by('pk').values_list('email', 'first_name', 'groups__name'))))",
    )
    assert json.loads(seen) == [
        ["root@example.com", "", None],
        ["ada@example.com", "Ada", "writers"],
        [None, "", None],
        [None, "", None],
    ]


def replace(file: Path, old: str, new: str) -> None:
    """Change what a reader is told to change."""
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


@pytest.mark.django_db
def test_the_stand_in_without_pytest_works(site: Any) -> None:
    source = next(block for block in BLOCKS if "LocalClerk() as server" in block)
    exec(compile(source, "README.md", "exec"), {})  # noqa: S102  # running it is the test


def test_the_pytest_example_runs_in_a_project_of_its_own(tmp_path: Path) -> None:
    """As a user's project would: its own settings, the fixtures by entry point or plugin option, another process."""
    (tmp_path / "test_invoices.py").write_text(block("# test_invoices.py"))
    (tmp_path / "project.py").write_text(
        "SECRET_KEY = 'for this test'\n"
        "INSTALLED_APPS = ['django.contrib.auth', 'django.contrib.contenttypes', 'clerk_views']\n"
        "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}}\n"
        "MIDDLEWARE = []\n"
        "USE_TZ = True\n"
        "ROOT_URLCONF = 'urls'\n"
    )
    (tmp_path / "urls.py").write_text(
        VIEWS[0] + "\nfrom django.urls import path\nurlpatterns = [path('invoices/', invoices)]\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nDJANGO_SETTINGS_MODULE = project\npythonpath = .\n")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 passed" in run.stdout


@pytest.mark.django_db
def test_the_webhook_example_works(client: Client, clerk: ClerkFixture) -> None:
    values: dict[str, Any] = {}
    exec(compile(block("# test_webhooks.py"), "README.md", "exec"), values)  # noqa: S102  # running it is the test
    values["test_a_banned_user_is_out"](client, clerk)


def test_the_admin_example_works() -> None:
    values: dict[str, Any] = {}
    exec(compile(block("# admin.py"), "README.md", "exec"), values)  # noqa: S102  # running it is the test
    assert values["MyUserAdmin"](get_user_model(), AdminSite()).check() == []


def settings_table() -> str:
    rows = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for setting in conf.SETTINGS:
        default = "–" if setting.default in (None, ()) else f"`{setting.default!r}`".replace("'", '"')
        environment = " Also an environment variable." if setting.from_environment else ""
        rows.append(f"| `{setting.name}` | {default} | {setting.meaning}{environment} |")
    return "\n".join(rows)


def test_the_table_of_settings_is_the_codes() -> None:
    assert settings_table() in README, settings_table()


def test_local_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    headings = re.findall(r"^##+ (.*)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    assert anchors.issuperset(re.findall(r"\]\(#([^)]+)\)", README))


def test_the_import_table_names_what_exists() -> None:
    pytest.importorskip("rest_framework")
    rows = re.findall(r"^\| (.*) \| (.*) \|$", section("Coming from django-clerk-sdk"), re.MULTILINE)
    named = [name for _, here in rows for name in re.findall(r"`\"?(clerk_views[\w.]*)\"?`", here)]
    for _, here in rows:
        for module, names in re.findall(r"from (\S+) import ([\w, ]+)", here):
            named += [f"{module}.{name}" for name in names.split(", ")]
    assert len(named) > 8
    for name in named:
        module, _, attribute = name.rpartition(".")
        assert (hasattr(import_module(module), attribute) if module else False) or find_spec(name), name
