"""
The handshake at every door: which answer it becomes there, and whole journeys between a site and Clerk.

What is decided, and why, is in test_handshake.py and test_authentication.py.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest
from django.contrib.auth import get_user_model
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.urls import re_path

from clerk_views import replays
from clerk_views.conf import config
from clerk_views.cookies import domains
from clerk_views.handshake import LOOP_LIMIT
from clerk_views.testing import LocalClerk
from clerk_views.testing.minting import TEMPLATE_CATEGORY, base64url, mint, session_header
from tests import views
from tests.doors import DOORS, MIDDLEWARE, REST_FRAMEWORK, WORLDS, Door, door_id
from tests.minted import OTHER_KEY
from tests.serving import Answer, call_asgi, call_wsgi, uvicorn_serving, wsgi_serving
from tests.test_conf import publishable_key

PAGE = {"sec-fetch-dest": "document", "accept": "text/html"}
#: The same, but for a REST framework view, which would answer with a page of its own.
JSON_PAGE = {"sec-fetch-dest": "document", "accept": "application/json"}
PAYLOAD = "/v1/clients/handshake_payload"
REFRESH = "/v1/sessions/{id}/refresh"
COUNTER = "__clerk_redirect_count"
LOGIN_REQUIRED = "django.contrib.auth.middleware.LoginRequiredMiddleware"

REST_DOORS = [door for door in DOORS if door.path.startswith("/api")]
PAGE_DOORS = [door for door in DOORS if door not in REST_DOORS]
FEW_PAGE_DOORS = [
    door
    for door in PAGE_DOORS
    if (door.path, door.world, door.middleware)
    in {
        ("/required/", "sync", False),
        ("/required/async/", "async", False),
        ("/class/", "sync", True),
        ("/class/optional/async/", "async", False),
        ("/plain/", "sync", True),
        ("/plain/async/", "async", True),
    }
]


@pytest.fixture(scope="module")
def production_clerk() -> Iterator[LocalClerk]:
    with LocalClerk(production=True) as started:
        yield started


@pytest.fixture
def production(settings: Any, production_clerk: LocalClerk) -> LocalClerk:
    """Be an instance of Clerk's with production keys."""
    production_clerk.reset()
    for name, value in production_clerk.settings().items():
        setattr(settings, name, value)
    return production_clerk


@pytest.fixture(params=["local_clerk", "production"], ids=["development", "production"])
def server(request: pytest.FixtureRequest) -> LocalClerk:
    """Be an instance with development keys, and in another run one with production keys."""
    started: LocalClerk = request.getfixturevalue(request.param)
    return started


class Kept:
    """The cookies of one browser, as they stand in its header."""

    def __init__(self, server: LocalClerk, token: str = "", **more: str) -> None:
        held = server.session_cookies(token) if token else {}
        if not (token or server.production):
            held = {"__clerk_db_jwt": "dvb_1", f"__clerk_db_jwt_{server.cookie_suffix}": "dvb_1"}
        self.values = {**held, **more}

    def __str__(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.values.items())


@contextmanager
def the_test_s_connection() -> Iterator[None]:
    """Keep handlers from closing the connection to the database that the test's transaction is in."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    try:
        yield
    finally:
        for signal in (request_started, request_finished):
            signal.connect(close_old_connections)


def ask(
    door: Door,
    cookies: Kept | str = "",
    *,
    headers: dict[str, str] | None = None,
    query: str = "",
    method: str = "GET",
    path: str | None = None,
) -> Answer:
    """Send a browser's request to a door, and return the answer with its headers as they go over the wire."""
    sent = {**(PAGE if headers is None else headers), "cookie": str(cookies)}
    raw = [(name.encode(), value.encode("latin-1")) for name, value in sent.items() if value]
    target, rest = (path or door.path).encode(), {"method": method, "query": query.encode()}
    with door.open(), the_test_s_connection():
        if door.world == "async":
            return call_asgi(ASGIHandler(), target, raw, **rest)  # type: ignore[arg-type]  # of its own kind each
        return call_wsgi(WSGIHandler(), target, raw, **rest)  # type: ignore[arg-type]


def header(answer: Answer, name: str) -> str | None:
    """Return the value of a header that may be there once."""
    found = [value for key, value in answer.headers if key.lower() == name.lower()]
    assert len(found) < 2
    return found[0] if found else None


def cookies_set(answer: Answer) -> list[str]:
    # Django before 6.0 writes a blank in front of its own.
    values = [value.lstrip() for key, value in answer.headers if key.lower() == "set-cookie"]
    return [value for value in values if not value.startswith("csrftoken")]


def parameters(location: str | None) -> dict[str, list[str]]:
    return parse_qs(urlsplit(location or "").query, keep_blank_values=True)


def expired(server: LocalClerk, user: Any, **claims: Any) -> str:
    return server.token(user, issued_at=time.time() - 600, **claims)


def packed(server: LocalClerk, *directives: str, key: Any = None, head: Any = None, **claims: Any) -> str:
    """Return what Clerk sends back by a browser: cookies in a signed token."""
    signing = key or server.signing_key
    return mint({**session_header(signing.kid), **(head or {})}, {"handshake": list(directives), **claims}, signing)


def back(server: LocalClerk, name: str, value: str, cookies: Kept | None = None) -> dict[str, Any]:
    """Return the arguments of ask() for a browser that comes from Clerk, in the way of its instance."""
    kept = cookies or Kept(server)
    if server.production:
        kept.values[name] = value
        return {"cookies": kept, "query": "page=2"}
    return {"cookies": kept, "query": f"page=2&{name}={value}"}


def refusal(door: Door, answer: Answer) -> bool:
    """Whether a door says that nobody is signed in, in its own way."""
    if door.kind == "required":
        return answer.status in (302, 401)
    return answer.status == 200 and answer.clerk is None


@pytest.fixture
def ada(server: LocalClerk) -> Any:
    return server.add_user(email="ada@example.com")


NO_NAVIGATION: list[tuple[str, dict[str, str], str]] = [
    ("GET", {"sec-fetch-dest": "empty", "accept": "text/html"}, "no-refresh-cookie"),
    ("GET", {"sec-fetch-dest": "image"}, "no-refresh-cookie"),
    ("GET", {"accept": "application/json, text/html"}, "no-refresh-cookie"),
    ("HEAD", PAGE, "non-get"),
    ("POST", PAGE, "non-get"),
]


@pytest.mark.django_db
class TestOnTheWayToClerk:
    @pytest.mark.parametrize("door", PAGE_DOORS, ids=door_id)
    def test_a_browser_that_opens_a_page_is_sent_there(self, server: LocalClerk, ada: Any, door: Door) -> None:
        """RED-03, RED-05, RED-08."""
        token = expired(server, ada)
        answer = ask(door, Kept(server, token), query="page=2&q=a%20b")
        reason = "session-token-expired-refresh-non-eligible-no-refresh-cookie"
        assert (answer.status, answer.body) == (307, b"")
        location = header(answer, "Location") or ""
        assert location.startswith(f"{server.url}/__clerk/v1/client/handshake?")
        found = parameters(location)
        assert found.pop("redirect_url") == [f"http://testserver{door.path}?page=2&q=a+b"]
        assert found.pop("__clerk_hs_reason") == [reason]
        assert found.pop("format") == ["nonce"]
        assert found.pop("suffixed_cookies") == ["true"]
        assert found.pop("__clerk_api_version")
        assert found.pop("__session", None) == (None if server.production else [token])
        assert len(found.pop("__clerk_db_jwt", [])) == (0 if server.production else 1)
        assert not found
        assert cookies_set(answer) == [f"{COUNTER}=1; Path=/; SameSite=Lax; HttpOnly; Max-Age=2"]
        assert header(answer, "Cache-Control") == "no-store"
        assert header(answer, "Referrer-Policy") == "no-referrer"
        assert header(answer, "x-clerk-auth-status") == "handshake"
        assert header(answer, "x-clerk-auth-reason") == reason
        assert {"Cookie", "Authorization"} <= set((header(answer, "Vary") or "").replace(" ", "").split(","))
        assert header(answer, "WWW-Authenticate") is None
        assert server.calls.user_fetches == 0

    @pytest.mark.parametrize("door", PAGE_DOORS, ids=door_id)
    def test_any_other_request_is_answered(self, server: LocalClerk, ada: Any, door: Door) -> None:
        """RED-04."""
        cookie = str(Kept(server, expired(server, ada)))
        for method, headers, why in NO_NAVIGATION:
            response = door.send(cookie=cookie, method=method, headers=headers)
            assert response.status_code == (401 if door.kind == "required" else 200), (method, headers)
            assert not response.has_header("Location")
            assert COUNTER not in response.cookies
            assert response["x-clerk-auth-status"] == "signed-out"
            assert response["x-clerk-auth-reason"] == f"session-token-expired-refresh-non-eligible-{why}"
            if door.kind == "required":
                assert response["WWW-Authenticate"] == 'Bearer error="invalid_token"'
            elif method != "HEAD":
                assert response.json()["clerk"] is None  # type: ignore[attr-defined]

    @pytest.mark.parametrize("door", REST_DOORS, ids=door_id)
    def test_rest_views_never_redirect(self, server: LocalClerk, ada: Any, door: Door) -> None:
        """RED-04: not even a browser that looks at one, nor by the middleware in front of it."""
        kept = Kept(server, expired(server, ada))
        for headers in (PAGE, JSON_PAGE):
            answer = ask(door, kept, headers=headers)
            assert answer.status == 401
            assert header(answer, "Location") is None
            assert cookies_set(answer) == []
        assert header(answer, "x-clerk-auth-status") == "signed-out"
        reason = "session-token-expired-refresh-non-eligible-no-refresh-cookie"
        assert header(answer, "x-clerk-auth-reason") == reason
        assert json.loads(answer.body)["code"] == reason

    @pytest.mark.parametrize("door", REST_DOORS, ids=door_id)
    def test_nor_do_they_for_an_expired_bearer_token(self, server: LocalClerk, ada: Any, door: Door) -> None:
        """RED-04: which a page view would send to Clerk."""
        bearer = {**JSON_PAGE, "authorization": f"Bearer {expired(server, ada)}"}
        answer = ask(door, headers=bearer)
        assert (answer.status, header(answer, "Location"), cookies_set(answer)) == (401, None, [])
        assert header(answer, "WWW-Authenticate") == 'Bearer error="invalid_token"'

    @pytest.mark.parametrize("middleware", [False, True], ids=["alone", "middleware"])
    @pytest.mark.parametrize("world", WORLDS)
    @pytest.mark.skipif(not REST_FRAMEWORK, reason="it is about REST framework")
    def test_a_rest_view_for_everybody_stays_open(
        self, server: LocalClerk, ada: Any, world: str, middleware: bool
    ) -> None:
        answer = ask(
            Door("/api/open/", "optional", world, middleware), Kept(server, expired(server, ada)), headers=JSON_PAGE
        )
        assert (answer.status, answer.clerk, cookies_set(answer)) == (200, None, [])

    @pytest.mark.parametrize("world", WORLDS)
    def test_an_address_that_leads_nowhere_is_not_worth_a_detour(
        self, server: LocalClerk, ada: Any, world: str
    ) -> None:
        """MWR-01: the view decides, and there is none."""
        door = Door("/nowhere/", "site", world, True)
        answer = ask(door, Kept(server, expired(server, ada)))
        assert (answer.status, header(answer, "Location"), cookies_set(answer)) == (404, None, [])

    @pytest.mark.parametrize("door", FEW_PAGE_DOORS, ids=door_id)
    def test_it_counts_and_gives_up(self, server: LocalClerk, ada: Any, door: Door) -> None:
        """RED-03."""
        kept = Kept(server, expired(server, ada))
        for turn in range(1, LOOP_LIMIT + 1):
            answer = ask(door, kept)
            assert answer.status == 307
            [counter] = cookies_set(answer)
            assert counter.startswith(f"{COUNTER}={turn};")
            kept.values[COUNTER] = str(turn)
        answer = ask(door, kept)
        assert refusal(door, answer)
        assert not any(cookie.startswith(COUNTER) for cookie in cookies_set(answer))

    @pytest.mark.parametrize("door", FEW_PAGE_DOORS, ids=door_id)
    def test_an_outage_at_clerk_keeps_nobody_from_going(self, server: LocalClerk, ada: Any, door: Door) -> None:
        """Who is not judged by a key needs none."""
        server.faults.down()
        kept = Kept(server, server.token(ada))
        kept.values = {name: value for name, value in kept.values.items() if not name.startswith("__client_uat")}
        answer = ask(door, kept)
        assert answer.status == 307
        assert header(answer, "x-clerk-auth-reason") == "session-token-but-no-client-uat"


def odd(server: LocalClerk, token: str) -> list[str]:
    """Return cookies that no library of ours would write so."""
    return [
        f"__session={token}; path=/; Expires=Tue, 01 Jan 2030 00:00:00 GMT; samesite=None; Partitioned; Secure",
        f"__session_{server.cookie_suffix}={token};Path=/;Priority=High",
        "__client_uat=7; Path=/; Domain=testserver",
        "__client_uat=7; Path=/",
        f"__refresh_{server.cookie_suffix}=rt%20/+=; HttpOnly; Path=/",
    ]


NAMES = {"nonce": "__clerk_handshake_nonce", "token": "__clerk_handshake"}


def taken_up(server: LocalClerk, how: str) -> list[str]:
    """Return what removes the cookie in which something was brought back: on production, where there is one."""
    return [f"{NAMES[how]}=; Path=/; Max-Age=0"] if server.production else []


@pytest.mark.django_db
class TestOnTheWayBack:
    @pytest.mark.parametrize("how", ["nonce", "token"])
    @pytest.mark.parametrize("door", PAGE_DOORS, ids=door_id)
    def test_a_browser_comes_back_signed_in(self, server: LocalClerk, ada: Any, door: Door, how: str) -> None:
        """RED-05, RED-08: on development by one more redirect, which strips the address; on production at once."""
        brought = odd(server, server.token(ada))
        server.respond(PAYLOAD, json.dumps({"directives": brought}).encode())
        if how == "nonce":
            answer = ask(door, **back(server, "__clerk_handshake_nonce", "n0nce"))
        else:
            answer = ask(door, **back(server, "__clerk_handshake", packed(server, *brought)))
        assert cookies_set(answer) == [*brought, *taken_up(server, how)]
        assert "no-store" in (header(answer, "Cache-Control") or "")
        assert header(answer, "x-clerk-auth-status") is None
        assert not any(name.lower().startswith("access-control") for name, _ in answer.headers)
        assert server.calls.count(PAYLOAD) == (how == "nonce")
        if server.production:
            assert header(answer, "Location") is None
            assert (answer.status, answer.clerk) == (200, ada.id)
        else:
            assert (answer.status, header(answer, "Location")) == (307, f"http://testserver{door.path}?page=2")
            assert header(answer, "Referrer-Policy") == "no-referrer"
            assert server.calls.user_fetches == 0

    @pytest.mark.parametrize("how", ["nonce", "token"])
    @pytest.mark.parametrize("door", REST_DOORS, ids=door_id)
    def test_a_rest_view_takes_no_part(self, server: LocalClerk, ada: Any, door: Door, how: str) -> None:
        """RED-04, RED-06: not even in a browser's window, nor by the middleware in front of it."""
        brought = odd(server, server.token(ada))
        server.respond(PAYLOAD, json.dumps({"directives": brought}).encode())
        name, value = NAMES[how], "n0nce" if how == "nonce" else packed(server, *brought)
        answer = ask(door, **back(server, name, value), headers=JSON_PAGE)
        assert (answer.status, cookies_set(answer), header(answer, "Location")) == (401, [], None)
        bob = server.add_user(email="bob@example.com")
        answer = ask(door, **back(server, name, value, Kept(server, server.token(bob))), headers=JSON_PAGE)
        assert (answer.status, answer.clerk, cookies_set(answer)) == (200, bob.id, [])

    @pytest.mark.parametrize("how", ["nonce", "token"])
    @pytest.mark.parametrize("door", FEW_PAGE_DOORS, ids=door_id)
    def test_nor_does_what_is_no_page_navigation(self, server: LocalClerk, ada: Any, door: Door, how: str) -> None:
        """RED-04, RED-06: a script, an image or a form is not what Clerk has sent back."""
        brought = odd(server, server.token(ada))
        server.respond(PAYLOAD, json.dumps({"directives": brought}).encode())
        given = back(server, NAMES[how], "n0nce" if how == "nonce" else packed(server, *brought))
        for method, headers, _ in NO_NAVIGATION:
            if method != "POST":  # which wants Django's CSRF token first
                answer = ask(door, **given, headers=headers, method=method)
                assert answer.status == (401 if door.kind == "required" else 200)
                assert (cookies_set(answer), header(answer, "Location")) == ([], None)
        assert server.calls.count(PAYLOAD) == 0
        assert cookies_set(ask(door, **given))[: len(brought)] == brought  # it is still there for the page

    @pytest.mark.parametrize("door", FEW_PAGE_DOORS, ids=door_id)
    def test_a_browser_comes_back_signed_out(self, server: LocalClerk, ada: Any, door: Door) -> None:
        gone = ["__session=; Path=/; Max-Age=0", "__client_uat=0; Path=/"]
        kept = Kept(server, expired(server, ada))
        answer = ask(door, **back(server, "__clerk_handshake", packed(server, *gone), kept))
        found = [cookie for cookie in cookies_set(answer) if not cookie.startswith("__clerk_sign_in")]
        assert found == [*gone, *taken_up(server, "token")]
        assert header(answer, "x-clerk-auth-reason") == "session-token-missing"
        assert refusal(door, answer) if server.production else answer.status == 307

    @pytest.mark.parametrize("door", FEW_PAGE_DOORS, ids=door_id)
    def test_what_a_nonce_stands_for_is_not_guessed(self, server: LocalClerk, ada: Any, door: Door) -> None:
        """Threats, section 2: an outage is a 503 wherever the view has to know, and no cookie is touched."""
        server.faults.down(path=PAYLOAD)
        answer = ask(door, **back(server, "__clerk_handshake_nonce", "n0nce"))
        assert answer.status == 503
        assert int(header(answer, "Retry-After") or 0) >= 1
        assert cookies_set(answer) == []


@pytest.mark.django_db
class TestRenewed:
    """A session that the server itself renews: no detour, for whatever kind of request."""

    @pytest.mark.parametrize("headers", [JSON_PAGE, {"accept": "*/*"}], ids=["page", "fetch"])
    @pytest.mark.parametrize("door", DOORS, ids=door_id)
    def test_its_cookies_go_out_as_they_came(
        self, server: LocalClerk, ada: Any, door: Door, headers: dict[str, str]
    ) -> None:
        """RED-07: each as its own header, twice carried and once sent."""
        session = server.open_session(ada)
        kept = Kept(server, server.session_token(session, issued_at=time.time() - 600))
        kept.values[f"__refresh_{server.cookie_suffix}"] = "rt"
        brought = odd(server, server.session_token(session))
        server.respond(f"/v1/sessions/{session.id}/refresh", json.dumps({"cookies": brought}).encode())
        answer = ask(door, kept, headers=headers)
        assert (answer.status, answer.clerk) == (200, ada.id)
        assert cookies_set(answer) == brought
        assert header(answer, "Location") is None
        caching = set((header(answer, "Cache-Control") or "").split(", "))
        assert caching == {"no-store", "private"}
        assert server.calls.count(REFRESH) == 1

    @pytest.mark.parametrize("door", FEW_PAGE_DOORS, ids=door_id)
    def test_without_a_view_s_consent_nothing_is_renewed(self, server: LocalClerk, ada: Any, door: Door) -> None:
        """An expired token with an unsafe method is refused, and Clerk is not asked (RED-04)."""
        session = server.open_session(ada)
        kept = Kept(server, server.session_token(session, issued_at=time.time() - 600))
        kept.values[f"__refresh_{server.cookie_suffix}"] = "rt"
        response = door.send(cookie=str(kept), method="POST")
        assert response.status_code == (401 if door.kind == "required" else 200)
        assert server.calls.count(REFRESH) == 0
        assert not response.cookies

    def test_a_view_s_own_cookie_has_the_last_word(self, server: LocalClerk, ada: Any, settings: Any) -> None:
        """LFC-03: else signing out would be undone by what came back from Clerk with the same request."""
        settings.ROOT_URLCONF = "tests.page_urls"
        door = Door("/clerk/sign-out/", "site", "async", True)
        brought = odd(server, server.token(ada))
        kept = Kept(server, server.token(ada), __clerk_handshake=packed(server, *brought))
        settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "csrf" not in name]
        kept.values["csrftoken"] = "x" * 32
        answer = ask(door, kept, headers={"x-csrftoken": "x" * 32}, method="POST")
        assert answer.status == 303
        names = [cookie.partition("=")[0] for cookie in cookies_set(answer)]
        assert len(names) == len(set(names))
        assert not [cookie for cookie in cookies_set(answer) if cookie in brought]


DIRECTIVES = {
    "another cookie": "sessionid=abc; Path=/",
    "another instance's": "__session_AAAAAAAA=abc; Path=/",
    "look-alike": "__sessionx=abc; Path=/",
    "host prefix": "__Host-session=abc; Path=/; Secure",
    "another domain": "__client_uat=7; Path=/; Domain=evil.example",
    "top-level domain": "__client_uat=7; Path=/; Domain=test",
    "line break": "__client_uat=7\r\nX-Evil: 1; Path=/",
    "line break after": "__client_uat=7; Path=/\nSet-Cookie: sessionid=abc",
    "not ASCII": "__client_uat=7; Path=/; X=\xe9",
}


FORGED = (
    "of another instance",
    "by another key under our key id",
    "of a template's category",
    "alg none",
    "alg HS256",
    "holding another instance's session",
    "holding a forged session",
    "a session token",
)


def forged(server: LocalClerk, user: Any, kind: str) -> str:
    """Return what passes for an answer of Clerk's with a session in it, and is none."""
    token = server.token(user)
    if kind == "holding another instance's session":
        token = server.token(user, iss="https://clerk.evil.example")
    elif kind == "holding a forged session":
        token = server.token(user, key=OTHER_KEY, header={"kid": server.signing_key.kid})
    elif kind == "a session token":
        return token
    directives = (f"__session={token}; Path=/", "__client_uat=1; Path=/")
    if kind == "of another instance":
        return packed(server, *directives, key=OTHER_KEY)
    if kind == "by another key under our key id":
        return packed(server, *directives, key=OTHER_KEY, head={"kid": server.signing_key.kid})
    head = {"of a template's category": {"cat": TEMPLATE_CATEGORY}, "alg HS256": {"alg": "HS256"}}.get(kind)
    whole = packed(server, *directives, head=head)
    if kind == "alg none":
        return ".".join((base64url(b'{"alg":"none","typ":"JWT"}'), whole.split(".")[1], ""))
    return whole


@pytest.mark.django_db
class TestAttacks:
    @pytest.mark.parametrize("how", ["nonce", "token"])
    @pytest.mark.parametrize("memory", ["process", "cache"])
    @pytest.mark.parametrize("door", FEW_PAGE_DOORS, ids=door_id)
    def test_a_replayed_answer_changes_nothing(
        self, server: LocalClerk, ada: Any, door: Door, how: str, memory: str
    ) -> None:
        """RED-06, I4: it serves one browser, once; even where Clerk would say twice what a nonce stands for."""
        brought = odd(server, server.token(ada))
        server.respond(PAYLOAD, json.dumps({"directives": brought}).encode())
        value = "n0nce" if how == "nonce" else packed(server, *brought)
        first = ask(door, **back(server, NAMES[how], value))
        assert cookies_set(first)[: len(brought)] == brought
        if memory == "cache":
            replays._kept.start_anew()  # as in another process
        for _ in range(2):
            answer = ask(door, **back(server, NAMES[how], value))
            assert refusal(door, answer)
            assert not any(cookie.startswith(("__session", "__client_uat")) for cookie in cookies_set(answer))
        bob = server.add_user(email="bob@example.com")
        answer = ask(door, **back(server, NAMES[how], value, Kept(server, server.token(bob))))
        assert (answer.status, answer.clerk, cookies_set(answer)) == (200, bob.id, [])

    @pytest.mark.parametrize("kind", FORGED)
    @pytest.mark.parametrize("door", FEW_PAGE_DOORS, ids=door_id)
    def test_a_forged_handshake_changes_nothing(self, server: LocalClerk, ada: Any, door: Door, kind: str) -> None:
        """RED-06, I4: it signs nobody in, sets no cookie, and does no harm to who is signed in."""
        token = forged(server, ada, kind)
        nobody = ask(door, **back(server, "__clerk_handshake", token))
        assert refusal(door, nobody)
        assert not any(cookie.startswith(("__session", "__client_uat")) for cookie in cookies_set(nobody))
        bob = server.add_user(email="bob@example.com")
        answer = ask(door, **back(server, "__clerk_handshake", token, Kept(server, server.token(bob))))
        assert (answer.status, answer.clerk, cookies_set(answer)) == (200, bob.id, [])

    @pytest.mark.parametrize("kind", DIRECTIVES)
    @pytest.mark.parametrize("how", ["handshake", "refresh"])
    @pytest.mark.parametrize("door", FEW_PAGE_DOORS[:2], ids=door_id)
    def test_one_bad_directive_voids_them_all(
        self, server: LocalClerk, ada: Any, door: Door, how: str, kind: str
    ) -> None:
        """RED-07."""
        session = server.open_session(ada)
        bad = [f"__session={server.session_token(session)}; Path=/", DIRECTIVES[kind]]
        if how == "handshake":
            answer = ask(door, **back(server, "__clerk_handshake", packed(server, *bad)))
            assert refusal(door, answer)
        else:
            server.respond(f"/v1/sessions/{session.id}/refresh", json.dumps({"cookies": bad}).encode())
            kept = Kept(server, server.session_token(session, issued_at=time.time() - 600))
            kept.values[f"__refresh_{server.cookie_suffix}"] = "rt"
            answer = ask(door, kept)
            assert answer.status == 307
            assert header(answer, "x-clerk-auth-reason") == "session-token-expired-refresh-unexpected-sdk-error"
        ours = (COUNTER, "__clerk_sign_in_count")
        assert all(cookie.startswith(ours) for cookie in cookies_set(answer))
        assert "x-evil" not in {name.lower() for name, _ in answer.headers}

    @pytest.mark.parametrize("name", ["__clerk_handshake", "__clerk_handshake_nonce"])
    @pytest.mark.parametrize("door", FEW_PAGE_DOORS, ids=door_id)
    def test_a_link_signs_nobody_in_on_production(self, production: LocalClerk, door: Door, name: str) -> None:
        """RED-06: login fixation by one's own nonce or token in a link that somebody else follows."""
        eve, ada = (production.add_user(email=f"{who}@example.com") for who in ("eve", "ada"))
        gift = [f"__session={production.token(eve)}; Path=/", "__client_uat=1; Path=/"]
        production.respond(PAYLOAD, json.dumps({"directives": gift}).encode())
        value = packed(production, *gift) if name == "__clerk_handshake" else "n0nce"
        visitor = ask(door, query=f"{name}={value}")
        assert refusal(door, visitor)
        assert not any(cookie.startswith(("__session", "__client_uat")) for cookie in cookies_set(visitor))
        answer = ask(door, Kept(production, production.token(ada)), query=f"{name}={value}")
        assert (answer.status, answer.clerk, cookies_set(answer)) == (200, ada.id, [])
        assert production.calls.count(PAYLOAD) == 0

    @pytest.mark.parametrize("door", FEW_PAGE_DOORS, ids=door_id)
    def test_tossed_cookies_do_not_travel(self, server: LocalClerk, ada: Any, door: Door) -> None:
        """SRC-05: those of another application on this host, before and after ours, go to nobody and decide nothing."""
        session = server.open_session(ada)
        tossed = {
            "__session_AAAAAAAA": server.token("user_eve"),
            "__client_uat_AAAAAAAA": "0",
            "__clerk_db_jwt_AAAAAAAA": "dvb_eve",
            "__refresh_AAAAAAAA": "rt_eve",
            "__refresh": "rt_plain",
        }
        token = server.session_token(session, issued_at=time.time() - 600)
        for kept in (Kept(server, token, **tossed), Kept(server, **tossed)):
            if "__session" not in kept.values:
                kept.values.update(server.session_cookies(token))
            answer = ask(door, kept)
            assert answer.status == 307
            location = header(answer, "Location") or ""
            assert not any(
                value in location for value in ("dvb_eve", "rt_eve", "rt_plain", tossed["__session_AAAAAAAA"])
            )
            browser = server.session_cookies(token).get("__clerk_db_jwt")
            assert parameters(location).get("__clerk_db_jwt") == (browser and [browser])
        good = ask(door, Kept(server, server.session_token(session), **tossed))
        assert (good.status, good.clerk) == (200, ada.id)
        assert server.calls.count(REFRESH) == 0

    @pytest.mark.parametrize("door", FEW_PAGE_DOORS, ids=door_id)
    def test_the_plain_cookies_of_another_application_are_passed_over(
        self, server: LocalClerk, ada: Any, door: Door
    ) -> None:
        """SRC-05: signed in there as somebody else, or signed out there."""
        theirs = server.token("user_eve", iss="https://clerk.elsewhere.example")
        beside = {"__session": theirs, "__client_uat": "0", "__clerk_db_jwt": "dvb_eve"}
        kept = Kept(server, server.token(ada))
        kept.values |= beside
        answer = ask(door, kept)
        assert (answer.status, answer.clerk) == (200, ada.id)
        kept = Kept(server, expired(server, ada))
        kept.values |= beside
        answer = ask(door, kept)
        location = header(answer, "Location") or ""
        assert answer.status == 307
        assert parameters(location)["suffixed_cookies"] == ["true"]
        assert theirs not in location
        assert "eve" not in location

    @pytest.mark.parametrize(
        "name", ["x-forwarded-host", "x-forwarded-server", "x-forwarded-proto", "forwarded", "x-original-url", "x-host"]
    )
    @pytest.mark.parametrize("door", FEW_PAGE_DOORS, ids=door_id)
    def test_forwarded_headers_do_not_move_the_way_back(
        self, server: LocalClerk, ada: Any, door: Door, name: str
    ) -> None:
        """RED-02."""
        poison = {**PAGE, name: "https" if name.endswith("proto") else "evil.example"}
        answer = ask(door, Kept(server, expired(server, ada)), headers=poison)
        assert parameters(header(answer, "Location"))["redirect_url"] == [f"http://testserver{door.path}"]
        brought = odd(server, server.token(ada))
        answer = ask(door, **back(server, "__clerk_handshake", packed(server, *brought)), headers=poison)
        expected = None if server.production else f"http://testserver{door.path}?page=2"
        assert header(answer, "Location") == expected

    @pytest.mark.parametrize("door", FEW_PAGE_DOORS, ids=door_id)
    def test_a_poisoned_host_is_a_400(self, server: LocalClerk, ada: Any, settings: Any, door: Door) -> None:
        """RED-02."""
        settings.ALLOWED_HOSTS = ["testserver"]
        response = door.send(cookie=str(Kept(server, expired(server, ada))), headers={**PAGE, "host": "evil.example"})
        assert response.status_code == 400
        assert not response.has_header("Location")

    @pytest.mark.parametrize("path", ["//evil.example/x", "///evil.example", "/\\evil.example/", "/a\\..\\b"])
    @pytest.mark.parametrize("door", FEW_PAGE_DOORS, ids=door_id)
    def test_no_path_leads_elsewhere(self, server: LocalClerk, ada: Any, settings: Any, door: Door, path: str) -> None:
        """RED-01: neither on the way to Clerk nor on the way back."""
        urls = ModuleType("urls_of_a_test")
        view: Any = {"required": views.required, "optional": views.optional_async, "site": views.plain}[door.kind]
        urls.urlpatterns = [re_path("", view)]  # type: ignore[attr-defined]  # a module takes any
        settings.ROOT_URLCONF = urls
        answer = ask(door, Kept(server, expired(server, ada)), path=path)
        [way_back] = parameters(header(answer, "Location"))["redirect_url"]
        assert urlsplit(urljoin("http://testserver/", way_back))[:2] == ("http", "testserver")
        assert "\\" not in way_back
        brought = odd(server, server.token(ada))
        answer = ask(door, **back(server, "__clerk_handshake", packed(server, *brought)), path=path)
        location = header(answer, "Location")
        assert (location is None) is server.production
        if location is not None:
            assert urlsplit(urljoin("http://testserver/", location))[:2] == ("http", "testserver")
            assert "\\" not in location


class Jar:
    """The cookies of a browser, which knows what a domain is; for one host of the instance's domain."""

    def __init__(self, server: LocalClerk) -> None:
        self.domain = server.frontend_host.removeprefix("clerk.")
        self.host = f"app.{self.domain}"
        self.cookies = httpx.Cookies()
        self.headers: dict[str, str] = {"host": self.host}

    def hold(self, *directives: str) -> None:
        """Take cookies as this host and Clerk's set them."""
        sent = [("set-cookie", directive) for directive in directives]
        self.cookies.extract_cookies(httpx.Response(200, headers=sent, request=self._request()))

    def sent(self) -> str:
        request = self._request()
        self.cookies.set_cookie_header(request)
        return str(request.headers.get("cookie", ""))

    def names(self) -> list[str]:
        return [pair.partition("=")[0] for pair in self.sent().split("; ")]

    def visit(self, door: Door, headers: dict[str, str] | None = None, **given: Any) -> Answer:
        answer = ask(door, self.sent(), headers={**(headers or PAGE), **self.headers}, **given)
        self.hold(*cookies_set(answer))
        return answer

    def sign_out(self, world: str) -> Answer:
        self.hold(f"csrftoken={'x' * 32}; Path=/")
        return self.visit(Door("/clerk/sign-out/", "site", world, True), {"x-csrftoken": "x" * 32}, method="POST")

    def _request(self) -> httpx.Request:
        return httpx.Request("GET", f"http://{self.host}/")


@pytest.mark.django_db
@pytest.mark.parametrize("world", WORLDS)
class TestSignedOut:
    """LFC-03: whoever has signed out stays so until he signs in, and is signed in then; on a domain of one's own."""

    @pytest.fixture(autouse=True)
    def _site(self, settings: Any, production: LocalClerk) -> None:
        settings.ROOT_URLCONF = "tests.page_urls"
        settings.ALLOWED_HOSTS = ["*"]

    @pytest.fixture
    def ada(self, production: LocalClerk) -> Any:
        return production.add_user(email="ada@example.com")

    @pytest.fixture
    def jar(self, production: LocalClerk) -> Jar:
        return Jar(production)

    def signed_in(self, jar: Jar, server: LocalClerk, session: Any, uat: float = 1) -> list[str]:
        """Return the cookies that keep a session, each where Clerk sets it."""
        token = server.session_token(session)
        endings = ("", f"_{server.cookie_suffix}")
        return [
            *(f"__session{ending}={token}; Path=/" for ending in endings),
            *(f"__client_uat{ending}={int(uat)}; Path=/; Domain={jar.domain}" for ending in endings),
        ]

    def test_signing_in_again_works(self, production: LocalClerk, ada: Any, jar: Jar, world: str) -> None:
        """A zero that stood beside the next client_uat would hide it for a year."""
        required = Door("/required/", "required", world, True)
        jar.hold(*self.signed_in(jar, production, production.open_session(ada)))
        assert jar.visit(required).clerk == ada.id
        answer = jar.sign_out(world)
        ending = f"_{production.cookie_suffix}"
        assert answer.status == 303
        assert sorted(jar.names()) == ["__client_uat", f"__client_uat{ending}", "csrftoken"]
        zeros = [cookie for cookie in cookies_set(answer) if cookie.partition(";")[0].endswith("=0")]
        assert len(zeros) == 2
        assert all(f"Domain={jar.domain};" in zero and "SameSite=Lax" in zero for zero in zeros)
        assert jar.visit(required).status == 302
        jar.hold(*self.signed_in(jar, production, production.open_session(ada), time.time()))
        assert sorted(set(jar.names())) == sorted(jar.names())
        answer = jar.visit(required)
        assert (answer.status, answer.clerk) == (200, ada.id)

    @pytest.mark.parametrize(
        "domain",
        ["clerk.app.local.test", "clerk.local.co.test", "clerk.elsewhere.test", "accounts.local.test"],
        ids=["deeper", "two-word suffix", "another domain, by a proxy", "no clerk"],
    )
    def test_nor_does_anything_else_hide_it(
        self, production: LocalClerk, ada: Any, jar: Jar, settings: Any, world: str, domain: str
    ) -> None:
        """Where Clerk's own domain cannot be told, no zero is left behind, wherever Clerk's cookie stood."""
        jar.host = jar.headers["host"] = {"clerk.local.co.test": "app.local.co.test"}.get(domain, "www.app.local.test")
        settings.CLERK_PUBLISHABLE_KEY = publishable_key(domain, "live")
        settings.CLERK_ISSUER = f"https://{production.frontend_host}"
        for name in ("__client_uat", f"__client_uat_{config().cookie_suffix}"):
            jar.hold(f"{name}=5; Path=/", *(f"{name}=5; Path=/; Domain={parent}" for parent in domains(jar.host)))
        assert jar.sign_out(world).status == 303
        assert jar.names() == ["csrftoken"]

    @pytest.mark.parametrize("how", ["nonce", "token"])
    def test_what_is_under_way_signs_nobody_in(
        self, production: LocalClerk, ada: Any, jar: Jar, world: str, how: str
    ) -> None:
        """What Clerk has brought back and no page has taken up is removed, and its session ended with the other."""
        mine, brought = production.open_session(ada), production.open_session(ada)
        gift = self.signed_in(jar, production, brought)
        production.respond(PAYLOAD, json.dumps({"directives": gift}).encode())
        value = "n0nce" if how == "nonce" else packed(production, *gift)
        jar.hold(*self.signed_in(jar, production, mine), f"{NAMES[how]}={value}; Path=/; Domain={jar.domain}")
        assert jar.sign_out(world).status == 303
        assert (mine.status, brought.status) == ("revoked", "revoked")
        assert not [name for name in jar.names() if "handshake" in name or "session" in name]
        assert jar.visit(Door("/required/", "required", world, True)).status == 302
        assert jar.visit(Door("/plain/", "site", world, True)).clerk is None

    @pytest.mark.parametrize("how", ["nonce", "token"])
    def test_a_page_that_takes_it_up_removes_it(
        self, production: LocalClerk, ada: Any, jar: Jar, world: str, how: str
    ) -> None:
        gift = self.signed_in(jar, production, production.open_session(ada))
        production.respond(PAYLOAD, json.dumps({"directives": gift}).encode())
        values = {"nonce": "n0nce", "token": packed(production, *gift)}
        both = values if how == "nonce" else {how: values[how]}
        jar.hold(*(f"{NAMES[kind]}={value}; Path=/; Domain={jar.domain}" for kind, value in both.items()))
        assert jar.visit(Door("/required/", "required", world, True)).clerk == ada.id
        assert not [name for name in jar.names() if "handshake" in name]
        assert jar.visit(Door("/required/", "required", world, True)).clerk == ada.id
        assert jar.sign_out(world).status == 303
        assert jar.visit(Door("/required/", "required", world, True)).status == 302

    @pytest.mark.parametrize("kind", ["forged", "refused", "of nobody", "down"])
    def test_nobody_else_s_ends(
        self, production: LocalClerk, ada: Any, jar: Jar, world: str, kind: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """RED-06: what does not verify ends nothing, and keeps nobody from signing out."""
        mine, other = production.open_session(ada), production.open_session(ada)
        gift = self.signed_in(jar, production, other)
        if kind == "forged":
            cookie = f"__clerk_handshake={packed(production, *gift, key=OTHER_KEY)}"
        elif kind == "of nobody":
            cookie = f"__clerk_handshake={packed(production, '__session=; Path=/')}"
        else:
            cookie = "__clerk_handshake_nonce=n0nce"
            production.faults.status(400 if kind == "refused" else 503, path=PAYLOAD)
        jar.hold(*self.signed_in(jar, production, mine), f"{cookie}; Path=/; Domain={jar.domain}")
        answer = jar.sign_out(world)
        assert (answer.status, mine.status, other.status) == (303, "revoked", "active")
        assert not [name for name in jar.names() if "handshake" in name]
        assert ("session (unknown) lives on at Clerk" in caplog.text) is (kind == "down")


class Trip(NamedTuple):
    """
    Attributes:
        steps: Who answered, and with what status: ``app 307``, ``clerk 307``, …
        end: The last answer.
    """

    steps: list[str]
    end: httpx.Response

    @property
    def clerk(self) -> Any:
        """Whom the page saw at last; None for nobody."""
        return self.end.json()["clerk"]


class Visitor:
    """A browser: it keeps cookies by host name, and follows redirects of the site and of Clerk."""

    def __init__(self, client: httpx.Client, site: str, server: LocalClerk) -> None:
        self.client = client
        self.site = site
        self.server = server

    def open(self, path: str) -> Trip:
        return self._follow(self.client.get(urljoin(self.site, path), headers=PAGE))

    def post(self, path: str) -> Trip:
        self.client.cookies.set("csrftoken", "x" * 32, domain="127.0.0.1", path="/")
        return self._follow(self.client.post(urljoin(self.site, path), headers={**PAGE, "x-csrftoken": "x" * 32}))

    def sign_in(self, user: Any) -> None:
        """Sign in on Clerk's page, and come from there."""
        form = {"user_id": user.id, "redirect_url": f"{self.site}/plain/"}
        assert self.client.post(f"{self.server.url}/sign-in", data=form).status_code == 303

    def lose(self, *names: str) -> None:
        """Forget cookies, under both spellings of their names."""
        for name in names:
            for spelling in (name, f"{name}_{self.server.cookie_suffix}"):
                if spelling in self.client.cookies:
                    self.client.cookies.delete(spelling)

    def _follow(self, response: httpx.Response) -> Trip:
        steps: list[str] = []
        while True:
            where = "app" if str(response.url).startswith(self.site) else "clerk"
            steps.append(f"{where} {response.status_code}")
            if not response.is_redirect:
                return Trip(steps, response)
            assert len(steps) < 16, steps
            target = urljoin(str(response.url), response.headers["Location"])
            assert target.startswith((self.site, self.server.url)), target
            response = self.client.get(target, headers=PAGE)


@pytest.fixture
def in_front() -> list[str]:
    """Say which middleware the site has besides Django's usual."""
    return [MIDDLEWARE]


@pytest.fixture(params=["sync", "async"])
def site(request: pytest.FixtureRequest, settings: Any, server: LocalClerk, in_front: list[str]) -> Iterator[str]:
    """Serve the project under its own port, by WSGI and in another run by ASGI; return its address."""
    settings.ROOT_URLCONF = "tests.page_urls"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, *in_front]
    settings.LOGIN_URL = "clerk_views:sign-in"
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    settings.CLERK_CLOCK_SKEW_IN_MS = 0  # a token may be expired as soon as it is issued
    with (uvicorn_serving if request.param == "async" else wsgi_serving)() as served:
        address = f"http://127.0.0.1:{served.port}"
        settings.CLERK_AUTH_PARTIES = [address, *server.parties]
        yield address


@contextmanager
def browser() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=20, trust_env=False) as client:
        yield client


@pytest.fixture
def visitor(site: str, server: LocalClerk) -> Iterator[Visitor]:
    with browser() as client:
        yield Visitor(client, site, server)


@contextmanager
def short_sessions(server: LocalClerk) -> Iterator[None]:
    """Let Clerk issue tokens that have expired already."""
    before, server.session_lifetime = server.session_lifetime, 0
    try:
        yield
    finally:
        server.session_lifetime = before


def detour(server: LocalClerk) -> list[str]:
    """Return the steps of one detour, before the page itself."""
    return ["app 307", "clerk 307", *([] if server.production else ["app 307"])]


@pytest.mark.django_db(transaction=True)
class TestJourneys:
    """Over real HTTP, from redirect to redirect."""

    @pytest.fixture
    def known(self, visitor: Visitor, server: LocalClerk, ada: Any) -> Visitor:
        """Return a visitor who was here a while ago, and whose token has expired."""
        with short_sessions(server):
            visitor.sign_in(ada)
        visitor.open("/required/")  # by its refresh token
        with short_sessions(server):
            visitor.sign_in(ada)
        server.calls.reset()
        return visitor

    def test_a_signed_in_page_view_costs_nothing(self, visitor: Visitor, server: LocalClerk, ada: Any) -> None:
        visitor.sign_in(ada)
        assert visitor.open("/required/").clerk == ada.id
        server.calls.reset()
        for path in ("/required/", "/plain/", "/login/"):
            trip = visitor.open(path)
            assert (trip.steps, trip.clerk) == (["app 200"], ada.id)
            assert "set-cookie" not in trip.end.headers
        assert server.calls.total == 0

    def test_an_expired_session_is_renewed_on_the_spot(self, known: Visitor, server: LocalClerk, ada: Any) -> None:
        trip = known.open("/required/")
        assert (trip.steps, trip.clerk) == (["app 200"], ada.id)
        assert [call.path.partition("?")[0].rpartition("/")[2] for call in server.calls.paths] == ["refresh"]
        assert known.open("/required/").steps == ["app 200"]
        assert server.calls.total == 1

    @pytest.mark.parametrize("path", ["/required/", "/plain/", "/clerk/sign-in/?next=/plain/"])
    def test_without_a_refresh_token_it_costs_one_detour(
        self, known: Visitor, server: LocalClerk, ada: Any, path: str
    ) -> None:
        """The user is known, so nobody is fetched: one handshake and one nonce, and the next page is free."""
        known.lose("__refresh")
        trip = known.open(path)
        onwards = ["app 302"] if "sign-in" in path else []
        assert (trip.steps, trip.clerk) == ([*detour(server), *onwards, "app 200"], ada.id)
        assert trip.end.url.query == b""
        assert server.calls.count("/v1/client/handshake") == 1
        assert server.calls.count(PAYLOAD) == 1
        assert server.calls.total == 2
        assert not {name for name in known.client.cookies if name.startswith("__clerk_handshake")}
        assert known.open(path).steps == [*onwards, "app 200"]
        assert server.calls.total == 2

    def test_the_address_survives_the_detour(self, known: Visitor, server: LocalClerk, ada: Any) -> None:
        known.lose("__refresh")
        trip = known.open("/required/caf%C3%A9/?q=a+b&q=2&empty=")
        assert (trip.steps, trip.clerk) == ([*detour(server), "app 200"], ada.id)
        assert str(trip.end.url) == f"{known.site}/required/caf%C3%A9/?q=a+b&q=2&empty="

    def test_lost_cookies_come_back(self, visitor: Visitor, server: LocalClerk, ada: Any) -> None:
        """Whoever is signed in at Clerk is signed in here, even if this host has forgotten the session."""
        visitor.sign_in(ada)
        visitor.lose("__session", "__refresh")
        trip = visitor.open("/required/")
        assert (trip.steps, trip.clerk) == ([*detour(server), "app 200"], ada.id)
        assert server.calls.user_fetches == 1

    def test_a_new_visitor_comes_to_sign_in(self, visitor: Visitor, server: LocalClerk, ada: Any) -> None:
        """On development a browser is made known first, once."""
        first = [] if server.production else detour(server)
        assert visitor.open("/required/").steps == [*first, "app 302", "clerk 200"]
        assert visitor.open("/required/").steps == ["app 302", "clerk 200"]
        trip = visitor.open("/plain/")
        assert (trip.steps, trip.clerk) == (["app 200"], None)
        visitor.sign_in(ada)
        assert visitor.open("/required/").steps == ["app 200"]

    def test_who_has_signed_out_at_clerk_is_signed_out_here(self, known: Visitor, server: LocalClerk, ada: Any) -> None:
        for session in server.sessions(ada):
            session.end()
        trip = known.open("/required/")
        assert trip.steps == [*detour(server), "app 302", "clerk 200"]
        assert server.calls.count(REFRESH) == 1
        assert known.open("/plain/").clerk is None

    def test_who_signs_out_here_is_signed_out_at_clerk(self, visitor: Visitor, server: LocalClerk, ada: Any) -> None:
        """LFC-03: no handshake signs him in again."""
        visitor.sign_in(ada)
        [session] = server.sessions(ada)
        assert visitor.open("/required/").clerk == ada.id
        assert visitor.post("/clerk/sign-out/?next=/plain/").clerk is None
        assert session.status == "revoked"
        assert visitor.open("/required/").steps == ["app 302", "clerk 200"]
        visitor.client.cookies.set("__client_uat", "1", domain="127.0.0.1", path="/")
        visitor.client.cookies.set(f"__client_uat_{server.cookie_suffix}", "1", domain="127.0.0.1", path="/")
        trip = visitor.open("/required/")
        assert trip.steps == [*detour(server), "app 302", "clerk 200"]

    @pytest.mark.parametrize(("path", "rest"), [("/required/", ["app 302", "clerk 200"]), ("/plain/", ["app 200"])])
    def test_a_loop_comes_to_rest(self, known: Visitor, server: LocalClerk, path: str, rest: list[str]) -> None:
        """RED-03: here Clerk's tokens have expired when they arrive, as they do where a clock is wrong."""
        known.lose("__refresh")
        server.faults.status(401, path="/v1/sessions")
        with short_sessions(server):
            trip = known.open(path)
        assert trip.steps == [*detour(server) * LOOP_LIMIT, *rest]
        if path == "/plain/":
            assert trip.clerk is None

    def test_a_nonce_serves_once(self, known: Visitor, server: LocalClerk, ada: Any) -> None:
        """RED-06: whoever finds the address of the way back, or the cookie, gets nothing for it."""
        known.lose("__refresh")
        to_clerk = known.client.get(f"{known.site}/plain/", headers=PAGE)
        way_back = known.client.get(to_clerk.headers["Location"], headers=PAGE).headers["Location"]
        nonce = known.client.cookies.get("__clerk_handshake_nonce")
        assert (nonce is not None) is server.production
        first = known.client.get(way_back, headers=PAGE)
        assert first.status_code == (200 if server.production else 307)
        with browser() as client:
            thief = Visitor(client, known.site, server)
            thief.open("/plain/")
            if nonce is not None:
                client.cookies.set("__clerk_handshake_nonce", nonce, domain="127.0.0.1", path="/")
            trip = thief.open(way_back)
            assert trip.clerk is None
            assert "__session" not in client.cookies
        assert known.open("/plain/").clerk == ada.id

    def test_a_refused_account_is_told_so(self, known: Visitor, server: LocalClerk) -> None:
        """RED-03: 403 after the detour, and no second one."""
        known.lose("__refresh")
        get_user_model().objects.update(is_active=False)
        assert known.open("/required/").steps == [*detour(server), "app 403"]
        assert known.open("/required/").steps == ["app 403"]


@pytest.mark.django_db(transaction=True)
class TestDjangosOwnTools:
    @pytest.fixture(params=[[MIDDLEWARE], [MIDDLEWARE, LOGIN_REQUIRED]], ids=["alone", "login-required"])
    def in_front(self, request: pytest.FixtureRequest) -> list[str]:
        chosen: list[str] = request.param
        return chosen

    def test_an_expired_session_costs_one_detour(self, visitor: Visitor, server: LocalClerk, ada: Any) -> None:
        """With ``LOGIN_URL = "clerk_views:sign-in"``: no visit to a sign-in page on the way."""
        visitor.sign_in(ada)
        assert visitor.open("/required/").end.status_code == 200
        get_user_model().objects.update(is_staff=True, is_superuser=True)
        for path in (
            "/plain/",
            "/login/",
            "/login/class/",
            "/permission/",
            "/required/",
            "/admin/",
            "/admin/auth/group/",
        ):
            with short_sessions(server):
                visitor.sign_in(ada)
            visitor.lose("__refresh", COUNTER)  # which is forgotten in two seconds, as between a visitor's clicks
            assert visitor.open(path).steps == [*detour(server), "app 200"], path
            assert visitor.open(path).steps == ["app 200"], path
