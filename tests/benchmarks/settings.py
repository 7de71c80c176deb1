"""Django's settings of one configuration. The environment says which, as JSON: see worker.py."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from typing import Any

_given: dict[str, Any] = json.loads(os.environ["CLERK_VIEWS_BENCH"])

#: The path of the one view that a process over HTTP is asked for.
SERVED: str | None = _given.get("served")
#: Which library protects the views: ours, or django-clerk-sdk.
LIBRARY: str = _given["library"]

_apps = {
    "clerk_views": ["clerk_views", "clerk_views.users"],
    "django_clerk_sdk": ["guardian", "django_clerk_sdk", "django_clerk_sdk.users"],
}
_users = {"clerk_views": _given.get("user", "auth.User"), "django_clerk_sdk": "users.ClerkUser"}

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    *(["rest_framework"] if find_spec("rest_framework") else []),
    *_apps[LIBRARY],
]
AUTH_USER_MODEL = _users[LIBRARY]
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]

# Connections stay open, as in any project that minds its speed; for everybody here.
DATABASES = {"default": {**_given["database"], "CONN_MAX_AGE": None}}
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": _given["redis"]}
    if _given.get("redis")
    else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
}
MIDDLEWARE: list[str] = _given.get("middleware", [])
SESSION_ENGINE = _given.get("session_engine", "django.contrib.sessions.backends.db")

ALLOWED_HOSTS = ["testserver"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGGING = {  # refusals are logged, and nobody listens
    "version": 1,
    "handlers": {"nowhere": {"class": "logging.NullHandler"}},
    "loggers": {name: {"handlers": ["nowhere"], "propagate": False} for name in ("clerk_views", "django")},
}
ROOT_URLCONF = "tests.benchmarks.urls"
WSGI_APPLICATION = "tests.benchmarks.wsgi.application"
SECRET_KEY = "a key for benchmarks only, known to everybody, long enough for Django"
SILENCED_SYSTEM_CHECKS = ["guardian.W001"]
USE_TZ = True

# The stand-in's; a project that comes from django-clerk-sdk has the same names.
globals().update(_given["clerk"])
