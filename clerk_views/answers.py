"""
What a refused visitor gets: a redirect, a page or JSON.

The texts are fixed for each reason; nothing that was seen in a credential, a setting or an error goes into them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import lru_cache
from http.cookies import Morsel
from typing import Any

from django.conf import settings
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.core.handlers.exception import response_for_exception
from django.db import connections
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.http.response import HttpResponseBase
from django.template import TemplateDoesNotExist, loader
from django.urls import get_resolver, get_urlconf
from django.utils.cache import patch_cache_control, patch_vary_headers
from django.utils.module_loading import import_string

from clerk_views import addresses, handshake
from clerk_views.exceptions import FORBIDDEN as FORBIDDEN  # with the other texts below
from clerk_views.exceptions import ClerkError, ClerkUnavailable
from clerk_views.requirements import Refusal
from clerk_views.states import RequestState, memo_of

NO_CREDENTIAL = "Sign in to continue."
BAD_CREDENTIAL = "The credential is not valid."
UNAVAILABLE = "This cannot be decided right now. Try again shortly."

#: What a view raises for Django to answer with 404, 403 or 400.
CLIENT_ERRORS = (Http404, PermissionDenied, BadRequest, SuspiciousOperation)

# Who is sent to sign in may come straight back, and no better: with the same bad cookie, or with none, as the browser
# would not keep it. Counted in a cookie of its own beside that of the handshake, which forgets faster than a sign-in
# page answers; for one address at a time, so that a browser may open its tabs of yesterday all at once (RED-03).
LOOP_COOKIE = "__clerk_sign_in_count"
LOOP_LIMIT = 3
LOOP_SECONDS = 10

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;color:#1f2330;background:#f6f7f9;display:grid;place-items:center;
min-height:100vh;margin:0}}main{{max-width:28rem;padding:2rem}}h1{{font-size:1.4rem;margin:0 0 .5rem}}</style></head>
<body><main><h1>{title}</h1><p>{text}</p></main></body></html>
"""


def challenge(request: HttpRequest, state: RequestState) -> str:
    """Return the value of ``WWW-Authenticate`` (RFC 6750, section 3), with an error only if a token was refused."""
    refused = state.carrier and not state.is_signed_in
    return _challenge(request, error="invalid_token" if refused else None)


def scope_challenge(request: HttpRequest, refusal: Refusal) -> str | None:
    """Return what a machine token of too few scopes is told (RFC 6750, section 3.1); None for other refusals."""
    return _challenge(request, error="insufficient_scope", scope=" ".join(refusal.scopes)) if refusal.scopes else None


def _challenge(request: HttpRequest, **parameters: str | None) -> str:
    """
    Put a challenge together. A view that accepts OAuth tokens says besides where clients learn to get one.

    Source: RFC 9728, section 5.1; Clerk's JavaScript SDKs, "protect".
    """
    memo = memo_of(request)
    host = memo.config.frontend_api_host if "oauth_token" in memo.accepts else None
    metadata = None if host is None else f"https://{host}/.well-known/oauth-protected-resource"
    parameters = {"resource_metadata": metadata, **parameters}
    told = ", ".join(f'{name}="{value}"' for name, value in parameters.items() if value is not None)
    return f"Bearer {told}".rstrip()


def detail(state: RequestState) -> str:
    """Return the sentence for somebody who is not signed in."""
    return BAD_CREDENTIAL if state.carrier and not state.is_signed_in else NO_CREDENTIAL


def unauthenticated(
    request: HttpRequest,
    state: RequestState,
    *,
    page: bool,
    login_url: str | None = None,
    redirect_field_name: str | None = None,
) -> HttpResponseBase:
    """Answer a visitor who is not signed in: send a browser to sign in, tell everyone else 401."""
    if page:
        response = _to_sign_in(request, state, login_url, redirect_field_name)
    else:
        response = JsonResponse({"detail": detail(state), "code": state.auth.reason}, status=401)
        response["WWW-Authenticate"] = challenge(request, state)
    return response


class Handshake(HttpResponse):
    """Sends a browser to Clerk, or on to the page it wanted when it comes from there. See _carry() for its headers."""

    status_code = 307


class _Directive(Morsel[str]):
    """A cookie exactly as Clerk wants it set: Django would write it anew, and one of two of a name."""

    def __init__(self, directive: str) -> None:
        super().__init__()
        name, _, value = directive.partition(";")[0].partition("=")
        self.set(name.strip(), value.strip(), value.strip())
        self._directive = directive

    def OutputString(self, attrs: Any = None) -> str:  # the standard library's name
        return self._directive

    def output(self, attrs: Any = None, header: str = "Set-Cookie:") -> str:
        return f"{header} {self._directive}".lstrip()  # Django before 6.0 asks here, with no header


def _carry(response: HttpResponseBase, state: RequestState) -> None:
    """
    Put the headers of a request's state on its response. Doing it twice changes nothing.

    A cookie that the view has set itself stays: it may just have signed the visitor out.
    """
    if not isinstance(response, Handshake):
        state = state.without_redirect()
    directives = []
    for name, value in state.headers:
        if name == "Set-Cookie":
            directives.append(_Directive(value))
        else:
            response.headers[name] = value
    if directives:
        _set_cookies(response, directives)


def _set_cookies(response: HttpResponseBase, directives: list[_Directive]) -> None:
    own = {cookie.key for cookie in response.cookies.values() if not isinstance(cookie, _Directive)}
    names: list[str] = []
    for directive in directives:
        # Two of a name may be for two domains, and Django keeps one per key.
        again = names.count(directive.key)
        names.append(directive.key)
        if directive.key not in own:
            response.cookies[f"{directive.key} {again}" if again else directive.key] = directive
    if not isinstance(response, Handshake):
        # The cache of older Djangos goes by this word alone, and would keep the cookies (CAC-05).
        patch_cache_control(response, private=True)


def forbidden(request: HttpRequest, reason: str, *, page: bool) -> HttpResponseBase:
    """Answer somebody who may not: the project's own 403 page, or JSON."""
    if page:
        handler: Callable[..., HttpResponseBase] = get_resolver(get_urlconf()).resolve_error_handler(403)
        return handler(request, exception=PermissionDenied(FORBIDDEN))
    return JsonResponse({"detail": FORBIDDEN, "code": reason}, status=403)


def refused(request: HttpRequest, refusal: Refusal, *, page: bool) -> HttpResponseBase:
    """Answer somebody who does not meet a requirement."""
    if page:
        return forbidden(request, refusal.reason, page=True)
    response = JsonResponse(refusal_body(refusal), status=403)
    told = scope_challenge(request, refusal)
    if told is not None:
        response["WWW-Authenticate"] = told
    return response


def refusal_body(refusal: Refusal) -> dict[str, Any]:
    """
    Return the JSON of a 403 for a requirement.

    Source: for reverification Clerk's ``useReverification``, which looks at nothing but this.
    """
    if refusal.reverification is None:
        return {"detail": FORBIDDEN, "code": refusal.reason}
    metadata = {"reverification": refusal.reverification}
    return {"clerk_error": {"type": "forbidden", "reason": refusal.reason, "metadata": metadata}}


def unavailable(request: HttpRequest, error: ClerkUnavailable, *, page: bool) -> HttpResponseBase:
    """Answer that it cannot be decided now: 503, with the cookies left alone. An outage is no sign-out."""
    response: HttpResponse
    if page:
        try:
            text: str = loader.render_to_string("503.html", {}, request)
        except TemplateDoesNotExist:
            text = _PAGE.format(title="Back in a moment", text=UNAVAILABLE)
        response = HttpResponse(text, status=503)
    else:
        response = JsonResponse(unavailable_body(error), status=503)
    response["Retry-After"] = str(error.retry_after)
    response["Cache-Control"] = "no-store"
    return response


def unavailable_body(error: ClerkUnavailable) -> dict[str, str]:
    """Return the JSON of a 503. Of the reasons only Clerk's own are told; the others speak of our inside."""
    return {"detail": UNAVAILABLE, "code": error.reason if error.reason.startswith("jwk-") else "unexpected-error"}


def error(request: HttpRequest, problem: ClerkError, *, page: bool) -> HttpResponseBase:
    """Answer an error of ours that came up on the way: 503 for what could not be found out, 403 for the account."""
    if isinstance(problem, ClerkUnavailable):
        return unavailable(request, problem, page=page)
    return forbidden(request, problem.reason, page=page)


def client_error(request: HttpRequest, raised: Exception) -> HttpResponseBase | None:
    """
    Answer what a view raised as Django would, a little earlier, so that the answer can be marked as private (CAC-08).

    None where the difference would be seen: some middleware wants to hear of exceptions. Only for a view that nothing
    but Django itself has wrapped.
    """
    if _exceptions_are_awaited(tuple(settings.MIDDLEWARE)):
        return None
    for connection in connections.all(initialized_only=True):
        if connection.settings_dict["ATOMIC_REQUESTS"] and connection.in_atomic_block:
            connection.set_rollback(True)  # as the exception would have done on its way out
    return response_for_exception(request, raised)


@lru_cache(maxsize=8)
def _exceptions_are_awaited(paths: tuple[str, ...]) -> bool:
    return any(hasattr(import_string(path), "process_exception") for path in paths)


def finish(response: HttpResponseBase, state: RequestState | None, *, personal: bool) -> None:
    """
    Set the headers of a response that depends on who is calling: those of caches, and what the state has to say.

    What the view set itself stays. Measured: Django looks at every letter of each header that is set, and takes what
    varies apart, 3 to 8 µs in the midst of a request; so what most responses get is copied as Django keeps it.

    Args:
        personal: Whether this response may be about somebody; else it only varies with who asks.
    """
    headers = response.headers
    into: Any = getattr(headers, "_store", None)
    kept = None
    if type(into) is dict:
        vary, control = into["vary"][1] if "vary" in into else None, into.get("cache-control")
        kept = _as_kept(state, personal, vary)
    if kept is None:
        _set(response, state, personal)
    else:
        into.update(kept)
        if control is not None:
            into["cache-control"] = control


def _as_kept(state: RequestState | None, personal: bool, vary: str | None) -> dict[str, Any] | None:
    """
    Return what finish() sets, as Django keeps it; None for more than a report, as that may hold credentials.

    Args:
        vary: What the view has set.
    """
    told = () if state is None else state.headers
    asked = (told, personal, vary)
    kept = _KEPT.get(asked)
    if kept is None and all(name.startswith(handshake.REPORT) for name, _ in told):
        response = HttpResponse(headers=None if vary is None else {"Vary": vary})
        _set(response, state, personal)
        del response.headers["Content-Type"]
        if len(_KEPT) >= 256:  # there are as many as reasons; but a view may make up what it varies by
            _KEPT.clear()
        kept = _KEPT[asked] = getattr(response.headers, "_store", None)
    return kept


_KEPT: dict[tuple[tuple[tuple[str, str], ...], bool, str | None], Any] = {}


def _set(response: HttpResponseBase, state: RequestState | None, personal: bool) -> None:
    """Do what finish() does, by Django's own means."""
    patch_vary_headers(response, ("Cookie", "Authorization"))  # no visitor's page for another (CAC-08)
    if personal and not response.has_header("Cache-Control"):
        response.headers["Cache-Control"] = "private"
    if state is not None:
        _carry(response, state)  # its headers count for more


def _to_sign_in(
    request: HttpRequest, state: RequestState, login_url: str | None, redirect_field_name: str | None
) -> HttpResponseBase:
    address = addresses.sign_in_address(request, state, login_url, redirect_field_name)
    return send_on(request, state, address, place=request.path)


def send_on(request: HttpRequest, state: RequestState, address: str, *, place: str) -> HttpResponseBase:
    """
    Redirect a visitor to ``address``, but only a few times in a row for the same place that he wants to reach (RED-03).

    Afterwards he is told what is wrong: that he is not signed in, or, if he is, that he may not go there.
    """
    response: HttpResponseBase
    turn = next_turn(request, place)
    if turn is None and state.auth.is_authenticated:
        response = forbidden(request, "redirect-loop", page=True)
    elif turn is None:
        response = HttpResponse(
            _PAGE.format(title="You are not signed in", text="Signing in did not work. Try again in a moment."),
            status=401,
        )
        response["WWW-Authenticate"] = challenge(request, state)
    else:
        response = HttpResponseRedirect(address)
        count_turn(request, response, turn)
    response["Cache-Control"] = "no-store"
    return response


def next_turn(request: HttpRequest, path: str) -> str | None:
    """
    Say how the next trip to a sign-in page is to be counted, None if there were enough for the same address.

    What is not of our form counts as enough: somebody plays with it.
    """
    place = hashlib.sha256(path.encode("utf-8", "replace")).hexdigest()[:12]
    match = re.fullmatch(r"([0-9]{1,3})\.([0-9a-f]{12})", request.COOKIES.get(LOOP_COOKIE, f"0.{place}"))
    turns = LOOP_LIMIT if match is None else int(match[1]) if match[2] == place else 0
    return None if turns >= LOOP_LIMIT else f"{turns + 1}.{place}"


def count_turn(request: HttpRequest, response: HttpResponseBase, turn: str) -> None:
    """Count a trip to a sign-in page. See next_turn()."""
    response.set_cookie(
        LOOP_COOKIE, turn, max_age=LOOP_SECONDS, httponly=True, samesite="Lax", secure=request.is_secure()
    )
