"""
The addresses behind ``clerk_views.urls``: sign-in, sign-up, sign-out. Where does each lead?

The first two send the visitor on to Clerk's hosted page or the project's own; they show nothing themselves. All three
are plain sync views: signing out asks Clerk's API, and Django runs sync views in a thread where there is an event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

from django.contrib.auth import logout
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.request import split_domain_port
from django.http.response import HttpResponseBase
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_POST, require_safe

from clerk_views import addresses, answers, cookies, csrf, keys, revocation, tokens
from clerk_views.access import guard
from clerk_views.api import get_api
from clerk_views.authentication import authenticate, pending_session
from clerk_views.conf import Config
from clerk_views.exceptions import ClerkUnavailable, TokenRefused
from clerk_views.requirements import OPTIONAL
from clerk_views.states import Memo, memo_of
from clerk_views.visitors import replaced

logger = logging.getLogger("clerk_views")

_YEAR = 365 * 24 * 3600  # seconds; what Clerk gives these cookies


def _sign_in(request: HttpRequest) -> HttpResponseBase:
    """Send a visitor to the sign-in page, or straight on if somebody is signed in."""
    return _enter(request, memo_of(request).config.sign_in_url, "CLERK_SIGN_IN_URL")


def _sign_up(request: HttpRequest) -> HttpResponseBase:
    """Send a visitor to the sign-up page, or straight on if somebody is signed in."""
    return _enter(request, memo_of(request).config.sign_up_url, "CLERK_SIGN_UP_URL")


def _enter(request: HttpRequest, page: str | None, setting: str) -> HttpResponseBase:
    if page is None:
        raise ImproperlyConfigured(
            f"Neither CLERK_PUBLISHABLE_KEY nor {setting} is set, so there is no page to send visitors to. Copy the "
            "publishable key from the API keys page of Clerk's dashboard."
        )
    if urlsplit(page)[1:3] in (("", request.path), (request.get_host(), request.path)):
        raise ImproperlyConfigured(
            f"{setting} leads to the very view that sends visitors there. Set it to the page that shows the form, or "
            "remove it for Clerk's hosted page."
        )
    state = authenticate(request)
    back = addresses.after_sign_in(request)
    address = back if state.auth.is_authenticated else addresses.clerk_address(request, page, back, state=state)
    # As the doors count it, who know the place by its path as it was before it went into an address.
    return answers.send_on(request, state, address, place=unquote(urlsplit(back).path))


# The guard answers what goes wrong on the way, an outage by 503; it refuses nobody.
sign_in = require_safe(guard(_sign_in, OPTIONAL))
sign_up = require_safe(guard(_sign_up, OPTIONAL))
sign_in.leads_to_clerk = True  # type: ignore[attr-defined]  # by which ClerkMiddleware knows LOGIN_URL for ours


@login_not_required
@require_POST
def sign_out(request: HttpRequest) -> HttpResponseBase:
    """
    End the visitor's session at Clerk, here in his cookies, and in Django's own sessions; then send him on.

    If Clerk cannot be asked, the rest is done all the same, and the log says so.
    """
    response: HttpResponseBase
    # By cookie alone, so the check is ours to make wherever the project's middleware does not (CSR-04).
    if csrf.failure(request) is not None:
        response = answers.forbidden(request, "csrf-failed", page=False)
    else:
        _end_clerk_session(request)
        _end_django_session(request)
        address = addresses.asked_return_url(request) or memo_of(request).config.after_sign_out_url or "/"
        response = HttpResponseRedirect(address, status=303)
        _expire_cookies(request, response)
    response["Cache-Control"] = "no-store"
    return response


def _end_clerk_session(request: HttpRequest) -> None:
    """End the session at Clerk, and another one that a handshake has brought and no page has taken up yet."""
    ended: set[str | None] = {None}
    for find in (_session_id, _pending_session_id):
        session_id: str | None = None
        try:
            session_id = find(request)
            if session_id not in ended:
                ended.add(session_id)
                _revoke(session_id or "", memo_of(request))
        except ClerkUnavailable as error:
            logger.warning(
                "Somebody signed out here, but session %s lives on at Clerk: %s",
                session_id or "(unknown)",
                error.reason,
            )


def _revoke(session_id: str, memo: Memo) -> None:
    if memo.config.check_revoked_sessions:
        revocation.revoke(session_id, memo.config)  # if the cache does not take it, the webhook will say so again
    if memo.config.secret_key is None:
        logger.warning("Without CLERK_SECRET_KEY session %s cannot be ended at Clerk; it lives on there", session_id)
    elif not get_api(memo.config).revoke_session(session_id, memo.budget):
        logger.info("Session %s had ended at Clerk before its user signed out", session_id)


@sensitive_variables()
def _session_id(request: HttpRequest) -> str | None:
    """
    Return the id of the newest session that the request proves to be its own, its token expired or not.

    A token lives a minute and a page stays open for longer. Whoever signs out then means the session at Clerk as well,
    which would else sign him in again at the next page.

    Raises:
        ClerkUnavailable: The signing keys cannot be had.
    """
    groups = tokens.find(request.META, memo_of(request).config).groups
    return _newest_session_id((token for group in groups for token in group), memo_of(request))


@sensitive_variables()
def _pending_session_id(request: HttpRequest) -> str | None:
    """
    Return the id of the session that Clerk has sent back with the browser, and no page has taken up yet.

    Raises:
        ClerkUnavailable: The signing keys cannot be had, or Clerk cannot be asked what it was.
    """
    token = pending_session(request)
    return _newest_session_id([token] if token else [], memo_of(request))


@sensitive_variables()
def _newest_session_id(candidates: Iterable[str], memo: Memo) -> str | None:
    ring = keys.get_key_ring(memo.config)
    newest: tuple[float, str] | None = None
    for token in candidates:
        try:
            parsed = tokens.parse(token)
            key = ring.get(parsed.key_id, memo.budget)
            claims = tokens.verify(parsed, key, memo.config, even_if_expired=True)
        except TokenRefused:
            continue
        newest = max(newest or (0.0, ""), (claims["iat"], claims["sid"]))
    return None if newest is None else newest[1]


def _end_django_session(request: HttpRequest) -> None:
    if not hasattr(request, "session"):
        return
    before = replaced(request)
    if before is not None:
        # Who logs out is the session's own user. Clerk's would have to be looked up first, and may be refused.
        request.user = before.user or AnonymousUser()
    logout(request)


def _expire_cookies(request: HttpRequest, response: HttpResponseBase) -> None:
    """
    Remove Clerk's cookies, and say by a zero that nobody is signed in, as Clerk's JavaScript does.

    On production Clerk sets ``__client_uat``, and what it brings back, on a domain above this host. A zero of this host
    alone would stay beside what the next sign-in sets there, and hide it. So all of a name go, and the zero stands
    where Clerk's stands; where that cannot be told, their absence says the same.
    """
    memo = memo_of(request)
    key = memo.config.publishable_key
    host = split_domain_port(request.get_host())[0]
    above = cookies.domains(host)
    sent = {name for name, _ in cookies.pairs(request.META.get("HTTP_COOKIE", ""), "__c")}
    endings = ["", *([f"_{key.cookie_suffix}"] if key is not None else [])]
    clocks = [cookies.CLIENT_UAT + ending for ending in endings]
    brought = [] if key is None else [cookies.HANDSHAKE, cookies.NONCE]
    for name in (*(cookies.SESSION + ending for ending in endings), cookies.REFRESH + endings[-1], *clocks, *brought):
        response.delete_cookie(name, samesite="Lax")
        for domain in above if name in sent else ():
            _set_beside(response, name, "", domain, max_age=0)
    shared = _clerk_s_domain(memo.config)
    for name in clocks:
        if not above:
            response.set_cookie(name, "0", max_age=_YEAR, secure=request.is_secure(), samesite="Lax")
        elif shared in above:
            _set_beside(response, name, "0", shared, max_age=_YEAR, secure=request.is_secure(), samesite="Lax")


def _clerk_s_domain(config: Config) -> str | None:
    """
    Return the domain that a production instance is for; None where it cannot be told.

    A name of two words is nobody's but its owner's. Of longer ones the first may be one host among others, with
    Clerk's cookies on what is above it: ``app.example.com``, but ``example.co.uk``.
    """
    prefix, _, domain = (config.frontend_api_host or "").partition(".")
    production = config.publishable_key is not None and config.publishable_key.is_production
    return domain if production and prefix == "clerk" and domain.count(".") == 1 else None


def _set_beside(response: HttpResponseBase, name: str, value: str, domain: str, **attributes: Any) -> None:
    """Set a cookie of a domain above this host, beside the host's own: of two of a name, Django keeps one."""
    other = HttpResponse()
    other.set_cookie(name, value, domain=domain, **attributes)
    response.cookies[f"{name} {domain}"] = other.cookies[name]
