"""What the README says is so: its snippets run, its table of settings is the code's, its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin import AdminSite
from django.contrib.auth import get_user_model
from django.test import Client, RequestFactory, override_settings
from django.urls import path
from django.views.generic import TemplateView

from clerk_views import conf
from clerk_views.testing import LocalClerk
from clerk_views.testing.fixtures import ClerkFixture

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS: list[str] = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
VIEWS = [block for block in BLOCKS if not block.startswith("# ") and "LocalClerk" not in block]


PAGES: dict[str, str] = dict(re.findall(r"^```html\n<!-- (\S+) -->\n(.*?)^```$", README, re.DOTALL | re.MULTILINE))


def block(start: str) -> str:
    """Return the snippet that begins with this comment."""
    return next(source for source in BLOCKS if source.startswith(start))


@pytest.fixture
def views() -> types.ModuleType:
    """All snippets of views, one after the other in one module, as a reader would paste them."""
    module = types.ModuleType("readme_views")
    for source in VIEWS:
        exec(compile(source, "README.md", "exec"), module.__dict__)  # noqa: S102  # running them is the test
    return module


@pytest.fixture
def site(views: Any, settings: Any) -> Any:
    urls = types.ModuleType("readme_urls")
    urls.urlpatterns = [  # type: ignore[attr-defined]
        path("invoices/", views.invoices),
        path("profile/", views.profile),
        path("home/", views.home),
        path("report/", views.Report.as_view()),
        path("greeting/", views.Greeting.as_view()),
        path("by-hand/", views.by_hand),
        path("usage/", views.usage),
        path("import/", views.import_invoices),
        *([path("orders/", views.Orders.as_view())] if hasattr(views, "Orders") else []),
        *([path("sync/", views.Sync.as_view())] if hasattr(views, "Sync") else []),
    ]
    settings.ROOT_URLCONF = urls
    return views


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
    assert client.get("/by-hand/").status_code == 401
    assert client.get("/by-hand/", headers=token).status_code == 200
    assert client.get("/orders/", headers=token).json()["clerk"] == ada.id
    request = RequestFactory().get("/", headers=token)
    assert site.audit(request) == ada.id


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
    for source in BLOCKS:
        if source.startswith("# settings.py"):
            values: dict[str, Any] = {}
            exec(compile(source, "README.md", "exec"), values)  # noqa: S102  # running them is the test
            for setting in conf.SETTINGS:
                value = values.get(setting.name, setting.default)
                if not (isinstance(value, str) and value.endswith("_...")):  # a key with its body left out
                    setting.parse(value)


def test_the_mapping_callable_of_the_readme_works() -> None:
    values: dict[str, Any] = {}
    exec(compile(block("# myapp/sync.py"), "README.md", "exec"), values)  # noqa: S102  # running it is the test
    assert values["plan"]({"plan": "pro"}, None) == {"plan": "pro"}
    assert values["plan"](None, None) == {"plan": "free"}


@pytest.fixture
def pages(local_clerk: LocalClerk, settings: Any) -> None:
    """The server-rendered site: its URLs, its templates, and the settings for both."""
    urls: Any = types.ModuleType("readme_page_urls")
    exec(compile(block("# urls.py"), "README.md", "exec"), urls.__dict__)  # noqa: S102  # running it is the test
    names = {"": "base.html", "sign-in/": "sign_in.html", "sign-up/": "sign_up.html"}
    urls.urlpatterns += [path(where, TemplateView.as_view(template_name=name)) for where, name in names.items()]
    settings.ROOT_URLCONF = urls
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "clerk_views.middleware.ClerkMiddleware"]
    source = next(block for block in BLOCKS if block.startswith("# settings.py\nLOGIN_URL"))
    values: dict[str, Any] = {}
    exec(compile(source, "README.md", "exec"), values)  # noqa: S102  # running it is the test
    settings.LOGIN_URL, settings.LOGIN_REDIRECT_URL = values["LOGIN_URL"], values["LOGIN_REDIRECT_URL"]
    settings.TEMPLATES = [
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                "loaders": [("django.template.loaders.locmem.Loader", PAGES)],
                "context_processors": ["django.template.context_processors.request"],
            },
        }
    ]


@pytest.mark.django_db
def test_the_server_rendered_site_of_the_readme_works(pages: None, local_clerk: LocalClerk) -> None:
    ada = local_clerk.add_user(email="ada@example.com")
    client = Client()
    page = client.get("/?a=1").content.decode()
    assert "/clerk/sign-in/?next=/%3Fa%3D1" in page
    assert "data-clerk-component" not in page
    assert client.get("/clerk/sign-in/?next=/%3Fa%3D1")["Location"] == (
        f"{local_clerk.url}/sign-in?redirect_url=http%3A//testserver/%3Fa%3D1"
    )
    assert client.get("/admin/")["Location"] == "/admin/login/?next=/admin/"
    assert client.get("/admin/login/?next=/admin/")["Location"].startswith(f"{local_clerk.url}/sign-in?")
    client.cookies.load(local_clerk.session_cookies(local_clerk.token(ada)))
    page = client.get("/").content.decode()
    assert 'data-clerk-component="UserButton"' in page
    assert 'action="/clerk/sign-out/"' in page
    assert client.post("/clerk/sign-out/")["Location"] == "/"
    assert "data-clerk-component" not in client.get("/").content.decode()


@pytest.mark.django_db
def test_the_own_pages_of_the_readme_work(pages: None, settings: Any) -> None:
    source = next(block for block in BLOCKS if block.startswith("# settings.py\nCLERK_SIGN_IN_URL"))
    values: dict[str, Any] = {}
    exec(compile(source, "README.md", "exec"), values)  # noqa: S102  # running it is the test
    settings.CLERK_SIGN_IN_URL, settings.CLERK_SIGN_UP_URL = values["CLERK_SIGN_IN_URL"], values["CLERK_SIGN_UP_URL"]
    client = Client()
    for name, component in (("sign-in", "SignIn"), ("sign-up", "SignUp")):
        address = client.get(f"/clerk/{name}/?next=/invoices/")["Location"]
        assert address == f"/{name}/?redirect_url=/invoices/"
        page = client.get(address).content.decode()
        assert f'data-clerk-component="{component}"' in page
        assert "&quot;fallbackRedirectUrl&quot;: &quot;/invoices/&quot;" in page


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


@override_settings()
def test_the_import_table_names_what_exists() -> None:
    from importlib import import_module

    for name in ("clerk_views.middleware.ClerkMiddleware", "clerk_views.clerk_client", "clerk_views.signals"):
        module, _, attribute = name.rpartition(".")
        assert hasattr(import_module(module), attribute)
