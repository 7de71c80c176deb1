"""
Where does a visitor sign in, and where may he be led back to?

Whoever can choose the way back can lead visitors elsewhere, to a page that looks like the sign-in page they expect. So
each address that a request brings is looked at here before anybody is sent to it (RED-01, RED-02).
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from django.conf import settings
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.http import HttpRequest, QueryDict
from django.shortcuts import resolve_url
from django.utils.http import url_has_allowed_host_and_scheme

from clerk_views.states import RequestState, memo_of
from clerk_views.values import below

#: Clerk's own name for the parameter that says where to go after signing in.
CLERK_REDIRECT_FIELD_NAME = "redirect_url"


def sign_in_address(
    request: HttpRequest, state: RequestState, login_url: str | None, redirect_field_name: str | None
) -> str:
    """
    Return where a visitor signs in, with the way back to this very request.

    Args:
        state: How the visitor stands with Clerk.
        login_url: The view's own: an address, a path or a URL name; None for the configured page.
        redirect_field_name: The parameter for the way back; None for the usual one of that page.
    """
    clerk_url = memo_of(request).config.sign_in_url
    if login_url is None and clerk_url is not None:
        back = return_url(request, absolute=_is_elsewhere(request, clerk_url))
        return clerk_address(request, clerk_url, back, state=state, field_name=redirect_field_name)
    parts = urlsplit(resolve_url(login_url or settings.LOGIN_URL))
    query = QueryDict(parts.query, mutable=True)
    query[redirect_field_name or REDIRECT_FIELD_NAME] = return_url(request, absolute=bool(parts.netloc))
    return urlunsplit(parts._replace(query=query.urlencode(safe="/")))


def clerk_address(
    request: HttpRequest,
    page: str,
    back: str,
    *,
    state: RequestState | None = None,
    field_name: str | None = None,
) -> str:
    """
    Return the address of a sign-in or sign-up page that leads back to ``back`` afterwards.

    Args:
        page: Clerk's hosted page or the project's own: an absolute address or a path.
        back: An absolute address or a path that is safe to go to; made absolute for pages of another host.
        state: How the visitor stands with Clerk. One with a task to finish is led to the hosted page for that; a page
            of the project's own finds out by itself.
        field_name: The parameter for ``back``; None: Clerk's ``redirect_url``.

    Source: Clerk's backend SDK, "redirect to sign-in".
    """
    config = memo_of(request).config
    parts = urlsplit(page)
    query = QueryDict(parts.query, mutable=True)
    if _is_elsewhere(request, page):
        back = urljoin(f"{request.scheme}://{request.get_host()}", back)
        if config.is_satellite:
            # Tells us on the way back that the primary domain has somebody to share with us.
            back = _with_parameter(back, "__clerk_synced", "false")
        if state is not None and state.auth.status == "pending":
            parts = urlsplit(below(page, "tasks"))
        browser = _development_browser(request)
        if browser is not None:
            query["__clerk_db_jwt"] = browser
    query[field_name or CLERK_REDIRECT_FIELD_NAME] = back
    return urlunsplit(parts._replace(query=query.urlencode(safe="/")))


def _is_elsewhere(request: HttpRequest, address: str) -> bool:
    """Whether an address is of another host or port than the request."""
    return urlsplit(address).netloc not in ("", request.get_host())


def _with_parameter(address: str, name: str, value: str) -> str:
    parts = urlsplit(address)
    query = QueryDict(parts.query, mutable=True)
    query[name] = value
    return urlunsplit(parts._replace(query=query.urlencode(safe="/")))


def _development_browser(request: HttpRequest) -> str | None:
    """
    Return what makes this browser known to a development instance, whose pages are on another site and see no cookie.

    Never anything in production (RED-05). Source: Clerk, "development browser".
    """
    key = memo_of(request).config.publishable_key
    if key is None or key.is_production:
        return None
    for name in (f"__clerk_db_jwt_{key.cookie_suffix}", "__clerk_db_jwt"):
        value = request.COOKIES.get(name, "")
        if re.fullmatch(r"[A-Za-z0-9._-]{1,4096}", value):
            return value
    return None


def asked_return_url(request: HttpRequest) -> str | None:
    """
    Return where the visitor asks to be taken, by Django's parameter or Clerk's; None unless that is one safe address.

    Of two addresses, one could be checked and the other be followed (RED-01).
    """
    asked = [
        address
        for name in (REDIRECT_FIELD_NAME, CLERK_REDIRECT_FIELD_NAME)
        for source in (request.GET, request.POST)
        for address in source.getlist(name)
    ]
    if len(asked) != 1:
        return None
    return asked[0] if is_safe_return_url(request, asked[0]) or _is_of_a_party(request, asked[0]) else None


def _is_of_a_party(request: HttpRequest, url: str) -> bool:
    """Whether an address is of an origin that the project calls its own: a satellite sends its visitors here, say."""
    scheme = "https" if request.is_secure() else "https?"
    match = re.fullmatch(rf"({scheme}://[A-Za-z0-9.:\[\]-]+)(?:[/?#][!-\[\]-~]*)?", url)
    return match is not None and match[1] in memo_of(request).config.auth_parties


def after_sign_in(request: HttpRequest) -> str:
    """Return where a visitor goes once signed in: where he asks to, if that is safe, else LOGIN_REDIRECT_URL."""
    asked = asked_return_url(request)
    # Not to this very view: it would send him on to itself.
    if asked is not None and urlsplit(asked).path != request.path:
        return asked
    return resolve_url(settings.LOGIN_REDIRECT_URL)


def return_url(request: HttpRequest, *, absolute: bool) -> str:
    """
    Return the address of this very request, to come back to after signing in.

    The host is Django's validated one, the path is escaped by Django, and what is still not plain falls back to the
    site's root, so that nobody can be led elsewhere (RED-01, RED-02).
    """
    origin = f"{request.scheme}://{request.get_host()}"
    path = request.get_full_path()
    if not is_safe_return_url(request, origin + path) or not is_safe_return_url(request, path):
        path = "/"
    return origin + path if absolute else path


def is_safe_return_url(request: HttpRequest, url: Any) -> bool:
    """
    Whether a visitor may be sent to ``url``: a path starting with one ``/``, or an address of this very host.

    Django's own check, and stricter: printable ASCII only and no backslash, because browsers read what lies beyond in
    ways of their own.
    """
    if not isinstance(url, str) or not re.fullmatch(r"[!-\[\]-~]+", url):
        return False
    if not url.startswith("/") and not re.match(r"https?://[^/]", url):
        return False
    return url_has_allowed_host_and_scheme(url, allowed_hosts={request.get_host()}, require_https=request.is_secure())
