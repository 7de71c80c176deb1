"""
Did the visitor mean to send this? Django's own CSRF check, where a cookie decides who is calling.

A guarded view is exempt from Django's CSRF middleware, because that runs before anybody knows whether a verified bearer
token made the request, which no other site can send. The guard then runs the very same check itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.module_loading import import_string

SAFE_METHODS = ("GET", "HEAD", "OPTIONS", "TRACE")


class _Check(CsrfViewMiddleware):
    def _reject(self, request: HttpRequest, reason: str) -> Any:
        return reason  # the caller knows how to answer; Django's answer is a page


def failure(request: HttpRequest) -> str | None:
    """Run Django's CSRF check and return what it found wrong; None when all is well."""
    check = _Check(HttpResponse)
    check.process_request(request)
    found: Any = check.process_view(request, HttpResponse, (), {})  # for a view that is not exempt
    return None if found is None else str(found)


def must_check(request: HttpRequest) -> bool:
    """Whether the method is one that may change something."""
    return request.method not in SAFE_METHODS


def exempt(request: HttpRequest) -> None:
    """Let the checks that come later pass, as Django's test client does: a verified bearer token made this request."""
    request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]  # Django's own switch


def site_enforces() -> bool:
    """Whether the project runs Django's CSRF middleware, so that our exemption must not weaken it."""
    return _any_csrf_middleware(tuple(settings.MIDDLEWARE))


@lru_cache(maxsize=8)
def _any_csrf_middleware(paths: tuple[str, ...]) -> bool:
    classes: list[Callable[..., Any]] = [import_string(path) for path in paths]
    return any(isinstance(item, type) and issubclass(item, CsrfViewMiddleware) for item in classes)
