"""
Django settings of the test-suite.

``CLERK_VIEWS_TEST_DATABASE`` chooses the database (``sqlite``, ``postgresql``, ``mariadb``), ``CLERK_VIEWS_TEST_USER``
the user model (``auth.User``, ``clerk_users.ClerkUser``, or a model of an app beside this file). No CLERK_* setting is
set here: the ``local_clerk`` fixture does that.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

#: What is written while testing goes here: inside the clone, and ignored by git.
SCRATCH = Path(__file__).resolve().parents[1] / ".pytest_cache" / "scratch"
SCRATCH.mkdir(parents=True, exist_ok=True)

#: Of several processes that run the tests together each has a Redis database of its own, which it may empty.
_REDIS_DATABASE = 9 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 7

#: Services that some tests want, as on a developer's machine. The environment says where they are elsewhere.
SERVICES = {
    "postgresql": os.environ.get("CLERK_VIEWS_POSTGRESQL_URL", "postgresql://postgres@127.0.0.1:5432"),
    "mariadb": os.environ.get("CLERK_VIEWS_MARIADB_URL", "mysql://root@127.0.0.1:3306"),
    "redis": os.environ.get("CLERK_VIEWS_REDIS_URL", f"redis://127.0.0.1:6379/{_REDIS_DATABASE}"),
}


def database(kind: str) -> dict[str, Any]:
    """Return Django's settings for a database of this kind; its name ends in our process id, so runs do not collide."""
    if kind.startswith("sqlite"):
        # A file, unlike ":memory:", can be shared by threads and processes as a real database is.
        name = str(SCRATCH / f"{os.getpid()}.sqlite3")
        settings: dict[str, Any] = {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "TEST": {"NAME": name}}
        if kind == "sqlite":  # and not "sqlite-as-it-comes", which most projects begin with
            settings["OPTIONS"] = {"timeout": 20, "transaction_mode": "IMMEDIATE"}
        return settings
    url = urlsplit(SERVICES[kind])
    name = f"clerk_views_{os.getpid()}"
    options = {"charset": "utf8mb4"} if kind == "mariadb" else {"connect_timeout": 5}
    return {
        "ENGINE": "django.db.backends.mysql" if kind == "mariadb" else "django.db.backends.postgresql",
        "HOST": url.hostname,
        "PORT": url.port,
        "USER": url.username,
        "PASSWORD": url.password or "",
        "NAME": name,
        "TEST": {"NAME": f"test_{name}", **({"CHARSET": "utf8mb4"} if kind == "mariadb" else {})},
        "OPTIONS": options,
    }


if os.environ.get("CLERK_VIEWS_TEST_DATABASE") == "mariadb":
    import pymysql

    pymysql.install_as_MySQLdb()  # stands in for mysqlclient, and installs without a compiler

DATABASES = {"default": database(os.environ.get("CLERK_VIEWS_TEST_DATABASE", "sqlite"))}

AUTH_USER_MODEL = os.environ.get("CLERK_VIEWS_TEST_USER", "auth.User")
_user_app = AUTH_USER_MODEL.partition(".")[0]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    *(["rest_framework"] if find_spec("rest_framework") else []),
    "clerk_views",
    *{"auth": [], "clerk_users": ["clerk_views.users"]}.get(_user_app, [f"tests.{_user_app}"]),
]

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast, for tests only
ROOT_URLCONF = "tests.urls"
SECRET_KEY = "a key for tests only, known to everybody, long enough for Django"
STATIC_URL = "static/"
USE_TZ = True
