"""The middleware through which requests go, and where Django's sessions are kept meanwhile."""

from __future__ import annotations

ENGINE = "django.contrib.sessions.backends."
SESSIONS = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]

#: Middleware, and the last part of the session engine's name.
STACKS: dict[str, tuple[list[str], str]] = {
    "none": ([], "db"),
    "clerk": (["clerk_views.middleware.ClerkMiddleware"], "db"),
    "sdk": (["django_clerk_sdk.core.auth.clerk.middleware.ClerkMiddleware"], "db"),
    "sessions db": (SESSIONS, "db"),
    "sessions cached": (SESSIONS, "cached_db"),
    "sessions cookie": (SESSIONS, "signed_cookies"),
}
