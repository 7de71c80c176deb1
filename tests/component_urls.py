"""
A site with Clerk's components on its own pages, under a Content-Security-Policy that admits what these need.

Clerk's styles draw a few marks, as that in a checkbox, as ``data:`` images.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template import RequestContext, Template
from django.urls import include, path
from django.views.static import serve

import clerk_views
from clerk_views import clerk_required
from clerk_views.conf import config

#: Keeps what the browser blocks until the test asks, also over page loads.
_WATCH = """
document.addEventListener("securitypolicyviolation", (event) => {
  const seen = JSON.parse(sessionStorage.getItem("violations") || "[]");
  sessionStorage.setItem("violations", JSON.stringify([...seen, event.violatedDirective + " " + event.blockedURI]));
});
"""

_PAGE = """{% load clerk %}<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<script nonce="{{ request.csp_nonce }}">{{ watch|safe }}</script>
{% clerk_js %}</head>
<body><h1>{{ title }}</h1>{% block content %}<content>{% endblock %}</body></html>"""

Get = Callable[[HttpRequest], HttpResponse]


def policy(get_response: Get) -> Get:
    """Middleware as django-csp and Django 6 bring it: a nonce for each request, and nothing without it."""

    def middleware(request: HttpRequest) -> HttpResponse:
        request.csp_nonce = secrets.token_urlsafe()  # type: ignore[attr-defined]  # as django-csp does
        response = get_response(request)
        clerk = "/".join((config().proxy_url or "").split("/")[:3])
        response["Content-Security-Policy"] = (
            f"default-src 'none'; script-src 'nonce-{request.csp_nonce}' {clerk}; connect-src {clerk} 'self'; "  # type: ignore[attr-defined]
            f"worker-src blob:; style-src 'nonce-{request.csp_nonce}'; img-src {clerk} data:; "  # type: ignore[attr-defined]
            "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
        )
        return response

    return middleware


def _shown(request: HttpRequest, title: str, content: str, **context: Any) -> HttpResponse:
    page = Template(_PAGE.replace("<content>", content))
    return HttpResponse(page.render(RequestContext(request, {"title": title, "watch": _WATCH, **context})))


def sign_in(request: HttpRequest) -> HttpResponse:
    return _shown(request, "Come in", '{% clerk_component "sign-in" %}')


def home(request: HttpRequest) -> HttpResponse:
    return _shown(request, "Home", '<div id="place"></div>')


@clerk_required
def members(request: HttpRequest) -> HttpResponse:
    return _shown(request, f"Hello, {request.clerk.user_id}", '{% clerk_component "user-button" %}')  # type: ignore[attr-defined]


def fragment(request: HttpRequest) -> HttpResponse:
    part = Template('{% load clerk %}<p>{% clerk_component "user-button" %}</p>')
    return HttpResponse(part.render(RequestContext(request)))


def component(request: HttpRequest, name: str) -> HttpResponse:
    given = {
        "pricing-table": 'for="user"',
        "oauth-consent": 'oauth_client_id="client_1" scope="profile" redirect_url="http://127.0.0.1:9/back"',
    }.get(name, "")
    if name.startswith("task-"):
        given = 'redirect_url_complete="/done/"'
    return _shown(request, name, f'{{% clerk_component "{name}" {given} %}}<i>not yet</i>{{% endclerk_component %}}')


urlpatterns = [
    path("", home),
    path("done/", home),
    path("sign-in/", sign_in),
    path("members/", members),
    path("fragment/", fragment),
    path("components/<name>/", component),
    path("clerk/", include("clerk_views.urls")),
    path("static/<path:path>", serve, {"document_root": f"{clerk_views.__path__[0]}/static"}),
    path("favicon.ico", lambda request: HttpResponse(status=204)),
]
