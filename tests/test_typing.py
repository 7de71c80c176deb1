"""A user's typed project: what mypy, as strict as it can be, says of views behind every door."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.http import HttpRequest

import clerk_views
from clerk_views.auth import ClerkAuth
from clerk_views.http import ClerkHttpRequest
from tests.settings import SCRATCH

SETTINGS = """
SECRET_KEY = "x"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "clerk_views"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
CLERK_SECRET_KEY = "sk_test_x"
CLERK_AUTH_PARTIES = ["https://shop.example"]
"""

MYPY = """
[mypy]
strict = True
warn_unreachable = True
plugins = mypy_django_plugin.main, mypy_drf_plugin.main
[mypy.plugins.django-stubs]
django_settings_module = shop.settings
"""


def test_strictly_typed_views_have_no_errors(tmp_path: Path) -> None:
    """Contract: mypy strict for a user's typed project."""
    for name in ("mypy", "mypy_django_plugin", "mypy_drf_plugin"):
        pytest.importorskip(name)
    shop = tmp_path / "shop"
    shop.mkdir()
    (tmp_path / "mypy.ini").write_text(MYPY)
    (shop / "__init__.py").write_text("")
    (shop / "settings.py").write_text(SETTINGS)
    shutil.copy(Path(__file__).with_name("typed_views.py"), shop / "views.py")
    where = str(Path(clerk_views.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), where])}
    if not where.endswith("site-packages"):
        environment["MYPYPATH"] = where
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(SCRATCH / "mypy"), "shop"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_annotation_is_a_django_request() -> None:
    assert issubclass(ClerkHttpRequest, HttpRequest)
    assert ClerkHttpRequest.__annotations__ == {"clerk": ClerkAuth.__name__}
