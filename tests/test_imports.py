"""The shape of the library: imports point down, start-up stays light, and the everyday names are these."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import clerk_views

PACKAGE = Path(clerk_views.__file__).parent

# From the floor up; a module imports from rows below its own only.
ROWS = [
    {"authorization", "exceptions", "payloads", "signals", "strict_json", "transport", "values"},
    {"calls", "conf", "floods"},
    {"cookies", "entries"},
    {"auth", "tokens", "models", "profiles"},
    {"api", "columns", "freshness", "frontend", "http", "requirements", "rows"},
    {"handshake", "keys", "machines", "replays", "revocation", "sync"},
    {"states", "accounts", "full_sync"},
    {"verdicts", "addresses"},
    {"authentication"},
    {"answers", "csrf"},
    {"visitors"},
    {"access"},
    {"backends", "decorators", "mixins", "middleware", "drf", "client", "pages", "templatetags.clerk", "webhooks"},
]
ROW = {module: row for row, modules in enumerate(ROWS) for module in modules}

# Beside the rows: what each may import.
BESIDE = {
    "": {"auth", "client", "decorators", "visitors"},  # the package itself: the everyday names
    "admin": {"api", "calls", "columns", "conf", "exceptions", "models", "profiles", "sync"},
    "apps": {"checks"},
    "checks": {"conf", "keys", "requirements", "values"},
    "diagnosis": {"api", "calls", "checks", "conf", "exceptions", "keys"},
    "management": set(),
    "management.commands": set(),
    "management.commands.clerk_doctor": {"diagnosis"},
    "management.commands.clerk_link": {"api", "calls", "columns", "conf", "exceptions", "models", "profiles", "sync"},
    "management.commands.clerk_sync": {"conf", "exceptions", "full_sync"},
    "templatetags": set(),
    "urls": {"pages", "webhooks"},
    "users.admin": {"admin", "users.models"},
    "users.apps": set(),
    "users.models": {"models"},
}

# An import inside a function is allowed where it saves every project start-up time or keeps an app from loading early.
INSIDE_FUNCTIONS = {
    ("authentication", "clerk_views.machines"): "5 ms, and most projects have no machines",
    ("api", "clerk_backend_api"): "adds 100 modules to start-up, and many processes never call Clerk",
    ("api", "httpx"): "comes with the SDK",
    ("api", "clerk_views.transport"): "built on the SDK and httpx, so the same",
    ("calls", "clerk_backend_api"): "the same three, for the errors that they raise",
    ("calls", "httpx"): "likewise",
    ("calls", "clerk_views.transport"): "likewise",
    ("keys", "cryptography"): "25 ms, and no project's start need wait for them",
    ("machines", "cryptography"): "the same",
    ("tokens", "jwt"): "the same, as it brings cryptography",
    ("visitors", "clerk_views.accounts"): "brings models, which need Django's apps loaded; the everyday names do not",
    ("access", "django"): "contrib.auth.models, likewise",
    ("middleware", "django"): "contrib.admin, which not every project has installed",
    ("visitors", "django"): "the same",
    ("client", "clerk_views.accounts"): "the same",
}


def _modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] != "testing" and "migrations" not in parts:
            name = ".".join(part for part in parts if part != "__init__")
            found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


MODULES = _modules()


def _imported(tree: ast.AST) -> Iterator[str]:
    """Yield dotted names of what is imported; ``from a import b`` as ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that they can be searched for"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _own(tree: ast.AST) -> set[str]:
    """Return the library's own modules that are imported here, without the package's name."""
    own = set()
    for name in _imported(tree):
        if name.startswith("clerk_views."):
            parts = name.split(".")[1:]
            while parts and ".".join(parts) not in MODULES and parts[0] != "testing":
                parts.pop()
            own.add(".".join(parts))
    return own


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    """Never up, never sideways, never to the testing kit; so there are no cycles either."""
    for imported in _own(MODULES[module]):
        if module in ROW:
            assert ROW.get(imported, len(ROWS)) < ROW[module], f"{module} imports {imported}"
        else:
            assert imported in BESIDE.get(module, set()), f"{module} imports {imported}"


@pytest.mark.parametrize("module", MODULES)
def test_imports_stand_at_the_top(module: str) -> None:
    functions = [node for node in ast.walk(MODULES[module]) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    names = {name for function in functions for name in _imported(function)}
    inside = {(module, ".".join(name.split(".")[: 2 if name.startswith("clerk_views.") else 1])) for name in names}
    assert inside <= INSIDE_FUNCTIONS.keys()


def test_only_drf_imports_rest_framework() -> None:
    importing = {name for name, tree in MODULES.items() if any(i.startswith("rest_framework") for i in _imported(tree))}
    assert importing == {"drf"}


def test_only_api_speaks_http() -> None:
    """One place talks to Clerk, so there is one place for time limits, retries and the breaker."""
    speaking = ("clerk_backend_api", "httpx", "httpcore", "requests", "urllib.request", "http.client", "socket")
    importing = {name for name, tree in MODULES.items() if any(i.startswith(speaking) for i in _imported(tree))}
    assert importing == {"api", "calls", "transport", "client"}
    assert not any(i.startswith(speaking[1:]) for i in _imported(MODULES["client"]))  # it names the SDK's type only
    # What goes wrong, and nothing to ask with.
    named = {i for i in _imported(MODULES["calls"]) if i.startswith(speaking)}
    assert named == {"httpx", *(f"clerk_backend_api.models.{error}" for error in ("ClerkBaseError", "NoResponseError"))}


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that can import what this one can, tests included."""
    paths = [str(PACKAGE.parent), str(Path(__file__).parents[1])]
    inherited = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**inherited, "PYTHONPATH": os.pathsep.join(paths), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_package_can_be_imported_before_django_is_set_up_and_without_drf() -> None:
    code = """
import sys
sys.modules["rest_framework"] = None
from clerk_views import *
import clerk_views
assert all(hasattr(clerk_views, name) for name in clerk_views.__all__)
heavy = {"clerk_backend_api", "httpx", "cryptography", "jwt"}  # 130, 25 and 25 ms of every project's start
heavy |= {"django.contrib.auth.models", "django.contrib.contenttypes.models"}
print(sorted(heavy & sys.modules.keys()))
"""
    done = _python(code)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_a_project_starts_without_drf_and_without_the_sdk() -> None:
    code = """
import sys
sys.modules["rest_framework"] = None
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "clerk_views"],
    CLERK_SECRET_KEY="sk_test_x",
    CLERK_AUTH_PARTIES=["https://app.example.com"],
)
django.setup()
import clerk_views.decorators, clerk_views.middleware, clerk_views.mixins
from django.core.management import call_command
call_command("check")
print(sorted({"clerk_backend_api", "rest_framework"} & sys.modules.keys() - {"rest_framework"}))
"""
    done = _python(code)
    assert (done.stdout.splitlines()[-1:], done.stderr) == (["[]"], "")


def test_everyday_names() -> None:
    assert sorted({*clerk_views.__all__, "__version__"}) == [
        "ClerkAuth",
        "ClerkClient",
        "__version__",
        "aget_clerk",
        "clerk_client",
        "clerk_optional",
        "clerk_required",
        "get_clerk",
    ]
    assert all(hasattr(clerk_views, name) for name in clerk_views.__all__)
    assert re.fullmatch(r"\d+\.\d+\.\d+", clerk_views.__version__)


@pytest.mark.parametrize("user_model", ["auth.User", "clerk_users.ClerkUser"])
def test_migrations_are_up_to_date(user_model: str) -> None:
    code = "from django.core.management import execute_from_command_line as run; run(['', 'makemigrations', '--check'])"
    done = _python(
        code,
        DJANGO_SETTINGS_MODULE="tests.settings",
        CLERK_VIEWS_TEST_DATABASE="sqlite",
        CLERK_VIEWS_TEST_USER=user_model,
        CLERK_SECRET_KEY="sk_test_x",
    )
    assert "No changes detected" in done.stdout, done.stdout + done.stderr
