"""
Settings of the demo's site.

They are written for Clerk itself, and know nothing of a stand-in: run.py lays that over them for as long as it runs.
CLERK_SECRET_KEY and CLERK_PUBLISHABLE_KEY are not here because the library takes them from the environment.
"""

import os
from pathlib import Path
from typing import Any

from django.core.management.utils import get_random_secret_key

BASE_DIR = Path(__file__).resolve().parent.parent
PORT = os.environ.get("DEMO_PORT", "8000")

# What clerk_views needs to know.
CLERK_AUTH_PARTIES = [f"http://127.0.0.1:{PORT}", f"http://localhost:{PORT}"]
CLERK_ORGANIZATION_PATTERNS = ["/orgs/:slug/"]

AUTH_USER_MODEL = "clerk_users.ClerkUser"
AUTHENTICATION_BACKENDS = ["clerk_views.backends.ClerkBackend", "django.contrib.auth.backends.ModelBackend"]
LOGIN_URL = "clerk_views:sign-in"
LOGIN_REDIRECT_URL = "home"

INSTALLED_APPS = [
    "mysite",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "clerk_views",
    "clerk_views.users",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "clerk_views.middleware.ClerkMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

# The rest is as in any Django project.
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or get_random_secret_key()
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "mysite.urls"
STATIC_URL = "/static/"
TIME_ZONE = "UTC"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

DATABASES: dict[str, Any] = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DEMO_DATABASE") or BASE_DIR / "db.sqlite3",
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},
    }
}

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "mysite.context.site",
            ]
        },
    }
]

REST_FRAMEWORK = {"DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"]}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {"clerk_views": {"level": "INFO"}},
}
