"""
Arbitrary bytes and bent credentials, through real WSGI and ASGI handlers.

Whatever comes in: no 5xx, and nobody but the owner of a token that we minted and sent.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.test import RequestFactory
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from clerk_views.authentication import authenticate
from clerk_views.testing import LocalClerk
from clerk_views.testing.minting import mint, new_signing_key, session_claims, session_header
from tests.doors import MIDDLEWARE, REST_FRAMEWORK, beside
from tests.serving import Headers, call_asgi, call_wsgi

pytestmark = pytest.mark.django_db

#: Paths whose answer names whom the view saw.
PATHS = [
    b"/required/",
    b"/required/async/",
    b"/optional/",
    b"/class/",
    b"/plain/",
    *([b"/api/", b"/api/open/", b"/api/decorated/"] if REST_FRAMEWORK else []),
]
few = hypothesis_settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


class Site:
    """A site behind both kinds of handler, and two users who are known to it."""

    def __init__(self, clerk: LocalClerk) -> None:
        self.clerk = clerk
        self.ada, self.bob = (clerk.add_user(email=f"{name}@example.com").id for name in ("ada", "bob"))
        self.tokens = {clerk.token(user, expires_in=3600): user for user in (self.ada, self.bob)}
        self.wsgi, self.asgi = WSGIHandler(), ASGIHandler()

    def visit(self, path: bytes, headers: Headers, method: str = "GET", **rest: bytes) -> set[str]:
        """Send it both ways; return whose identity was seen, having made sure that nothing broke."""
        told_headers = list(headers)
        # What is told as cookies stands before those that no browser goes without.
        kept = b"; ".join(value for name, value in told_headers if name == b"cookie")
        whole = b"; ".join(filter(None, [kept, beside("" if kept else None).encode()]))
        sent: Headers = [*(header for header in told_headers if header[0] != b"cookie"), (b"cookie", whole)]
        seen: set[str] = set()
        for answer in (
            call_wsgi(self.wsgi, path, sent, method=method, **rest),
            call_asgi(self.asgi, path, sent, method=method, **rest),
        ):
            assert 200 <= answer.status < 500, (answer.status, path, sent, rest)
            for name, value in answer.headers:
                if name.lower() == "location" and not path.endswith(b"/admin/"):
                    ours = (f"{self.clerk.url}/sign-in?", f"{self.clerk.url}/__clerk/v1/client/handshake?", "/")
                    assert value.startswith(ours), value
                    assert not value.startswith(("//", "/\\")), value
            text = answer.body.decode()
            seen.update(user for user in (self.ada, self.bob) if user in text)
        return seen


@pytest.fixture
def _connection_stays_open() -> Iterator[None]:
    """As in Django's own test client: the test's transaction is on it."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def site(local_clerk: LocalClerk, settings: Any, _connection_stays_open: None) -> Site:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
    settings.ALLOWED_HOSTS = ["*"]
    site = Site(local_clerk)
    for token, user in site.tokens.items():
        assert site.visit(b"/required/", bearer(token)) == {user}
    return site


def bearer(token: str | bytes) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + (token.encode() if isinstance(token, str) else token))]


def cookie(token: str | bytes) -> list[tuple[bytes, bytes]]:
    return [(b"cookie", b"__session=" + (token.encode() if isinstance(token, str) else token))]


paths = st.sampled_from(PATHS)
methods = st.sampled_from(["GET", "HEAD", "POST", "PUT", "OPTIONS", "BREW"])
junk = st.binary(max_size=300)
#: Headers that name no credential, however much they would like to.
neutral = st.lists(
    st.tuples(
        st.sampled_from(
            [
                b"accept",
                b"sec-fetch-dest",
                b"origin",
                b"referer",
                b"forwarded",
                b"x-forwarded-host",
                b"x-forwarded-proto",
                b"x-http-method-override",
                b"x-original-url",
                b"x-authorization",
                b"x-clerk-auth-token",
                b"proxy-authorization",
                b"if-none-match",
            ]
        ),
        junk | st.sampled_from([b"text/html", b"document", b"https://evil.example", b"null"]),
    ),
    max_size=4,
)


@few
@given(path=paths, method=methods, authorization=junk, cookies=junk, headers=neutral)
def test_arbitrary_headers(
    site: Site, path: bytes, method: str, authorization: bytes, cookies: bytes, headers: Headers
) -> None:
    """I2, SRC-07, F-22."""
    assert site.visit(path, [(b"authorization", authorization), (b"cookie", cookies), *headers], method) == set()
    assert site.visit(path, [*bearer(authorization), *headers], method) == set()
    assert site.visit(path, [*cookie(cookies), *headers], method) == set()


@few
@given(path=paths, method=methods, rest=junk, query=junk, body=junk, headers=neutral, data=st.data())
def test_arbitrary_addresses_and_bodies(
    site: Site, path: bytes, method: str, rest: bytes, query: bytes, body: bytes, headers: Headers, data: st.DataObject
) -> None:
    """I2, I4, F-22, RED-01: and where somebody is sent to sign in, it is there and nowhere else."""
    host = data.draw(st.sampled_from([[], [(b"host", rest)]]))
    page = [(b"accept", b"text/html"), (b"sec-fetch-dest", b"document")]
    token = data.draw(st.sampled_from(sorted(site.tokens)))
    assert site.visit(path + rest, [*headers, *host], method, query=query, body=body) == set()
    assert site.visit(path + rest, [*page, *host], query=query) == set()
    assert site.visit(path + rest, [*page, *cookie("x.y.z")], query=query) == set()
    assert site.visit(path + rest, [*bearer(token), *headers], method, query=query, body=body) <= {site.tokens[token]}
    if not path.startswith(b"/api"):  # REST framework answers 404 and 406 to formats that it does not have
        assert site.visit(path, [*bearer(token), *headers], query=query, body=body) == {site.tokens[token]}


@few
@given(data=st.data(), path=paths)
def test_a_changed_byte_makes_a_token_nobodys(site: Site, data: st.DataObject, path: bytes) -> None:
    """I3: never somebody else's."""
    token = data.draw(st.sampled_from(sorted(site.tokens)))
    position = data.draw(st.integers(0, len(token) - 1))
    replacement = data.draw(st.binary(max_size=3))
    raw = token.encode()[:position] + replacement + token.encode()[position + 1 :]
    expected = {site.tokens[token]} if raw == token.encode() else set()
    assert site.visit(path, bearer(raw)) == expected
    # In a cookie a separator may cut the value off; what is left is judged by itself.
    assert site.visit(path, cookie(raw)) <= {site.tokens[token]}


@few
@given(data=st.data(), path=paths)
def test_parts_of_two_tokens_make_no_third(site: Site, data: st.DataObject, path: bytes) -> None:
    """I3."""
    parts = [token.split(".") for token in sorted(site.tokens)]
    pick = [data.draw(st.integers(0, 1)) for _ in range(3)]
    assume(len(set(pick[1:])) == 2)  # the headers are equal; payload and signature must not be of one token
    mixed = ".".join(parts[owner][index] for index, owner in enumerate(pick))
    assert site.visit(path, bearer(mixed)) == site.visit(path, cookie(mixed)) == set()


odd = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@few
@given(data=st.data(), path=paths)
def test_odd_claims_under_a_genuine_signature(site: Site, data: st.DataObject, path: bytes) -> None:
    """I2, I3, I8: whatever Clerk would sign, the view sees its ``sub`` or nobody."""
    names = [
        "sub",
        "sid",
        "iss",
        "azp",
        "aud",
        "exp",
        "iat",
        "nbf",
        "sts",
        "act",
        "v",
        "o",
        "fva",
        "jti",
        "pla",
        "email",
    ]
    members = ["alg", "typ", "cat", "kid", "crit", "jku", "x5c", "zip", "b64"]
    subject = data.draw(st.sampled_from([site.ada, site.bob]))
    claims = session_claims(user_id=subject, session_id="sess_1", issuer=site.clerk.issuer, azp="http://testserver")
    claims |= data.draw(st.dictionaries(st.sampled_from(names), odd, max_size=2))
    header = session_header(site.clerk.signing_key.kid)
    header |= data.draw(st.dictionaries(st.sampled_from(members), odd, max_size=1))
    token = mint(header, claims, site.clerk.signing_key)
    owner = {user for user in (site.ada, site.bob) if user == claims["sub"]}
    assert site.visit(path, bearer(token)) <= owner
    assert site.visit(path, cookie(token)) <= owner


@few
@given(data=st.data(), path=paths)
def test_odd_json_under_a_genuine_signature(site: Site, data: st.DataObject, path: bytes) -> None:
    """TOK-05: bytes that are nearly JSON, or JSON that parsers read differently."""
    texts = []
    for part in next(iter(site.tokens)).split(".")[:2]:
        raw = bytearray(base64.urlsafe_b64decode(part + "=="))
        for _ in range(data.draw(st.integers(0, 2))):
            position = data.draw(st.integers(0, len(raw) - 1))
            raw[position : position + data.draw(st.integers(0, 3))] = data.draw(
                st.sampled_from(
                    [b'"', b"\\", b"{", b"}", b"[", b",", b":", b"NaN", b"\xef\xbb\xbf", b"\x00", b"\xff", b"1"]
                )
                | st.binary(max_size=3)
            )
        texts.append(bytes(raw))
    token = mint(texts[0], texts[1], site.clerk.signing_key)
    assert site.visit(path, bearer(token)) <= {user for user in (site.ada, site.bob) if user.encode() in texts[1]}


@few
@given(data=st.data(), path=paths, extra=st.lists(junk, max_size=3), name=st.binary(min_size=1, max_size=20))
def test_junk_beside_a_good_credential_changes_nothing(
    site: Site, data: st.DataObject, path: bytes, extra: list[bytes], name: bytes
) -> None:
    """I4, SRC-05, SRC-06."""
    token = data.draw(st.sampled_from(sorted(site.tokens)))
    # Junk that holds a separator followed by the very name of a session cookie could be another credential.
    pieces = [piece for piece in (*extra, name + b"=x") if b"__session" not in piece]
    good = f"__session={token}".encode()
    where = data.draw(st.integers(0, len(pieces)))
    cookies = b"; ".join([*pieces[:where], good, *pieces[where:]])
    assert site.visit(path, [(b"cookie", cookies)]) == {site.tokens[token]}
    assert site.visit(path, [*bearer(token), (b"cookie", b"; ".join(pieces)), (b"x-junk", name)]) == {
        site.tokens[token]
    }


class Credential(NamedTuple):
    """A token and what a strict reader makes of it: whose it is, which session, how new; or no good at all."""

    token: str
    user: str | None = None
    session: str = ""
    issued: int = 0


@pytest.fixture
def pool(site: Site) -> list[Credential]:
    now = int(time.time())
    found = []
    for user, session, age in (
        (site.ada, "sess_a", 0),
        (site.ada, "sess_a", 9),
        (site.ada, "sess_b", 0),
        (site.bob, "sess_c", 0),
        (site.bob, "sess_c", 5),
    ):
        token = site.clerk.token(user, sid=session, issued_at=now - age, expires_in=3600)
        found.append(Credential(token, user, session, now - age))
    bad = [
        site.clerk.token(site.ada, issued_at=now - 600),
        site.clerk.token(site.bob, key=new_signing_key(site.clerk.signing_key.kid)),
        site.clerk.token(site.bob, iss="https://clerk.elsewhere.example"),
        "x.y.z",
        "two words",
        '"quoted"',
        "",
    ]
    return found + [Credential(token) for token in bad]


def expected(
    site: Site, authorization: list[tuple[bytes, Credential]], cookies: list[tuple[str, Credential]]
) -> set[str]:
    """Say who it is, by the rules as the contract and the threat table put them; a second opinion."""
    bearers = [credential for scheme, credential in authorization if scheme == b"Bearer"]
    if bearers:
        alone = len(authorization) == 1
        return {bearers[0].user} if alone and bearers[0].user else set()
    plain, suffixed = (
        [credential for held, credential in cookies if held == name and credential.token]
        for name in ("__session", f"__session_{site.clerk.cookie_suffix}")
    )
    first: Any
    other: Any
    first, other = (next(filter(None, (told(one.token) for one in held)), {}) for held in (plain, suffixed))
    if plain and not first:
        chosen = plain
    elif plain and first["iss"] != site.clerk.issuer:
        chosen = suffixed
    else:
        chosen = plain if first.get("iat", 0) > other.get("iat", 0) else suffixed
    good = {(credential.user, credential.session) for credential in chosen if credential.user}
    return {user for user, _ in good if user} if len(good) == 1 else set()


def told(token: str) -> Any:
    """Return what a token says of itself, verified or not; None if it is none."""
    try:
        return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    except (ValueError, IndexError):
        return None


@hypothesis_settings(few, max_examples=150)
@given(data=st.data(), path=paths)
def test_of_many_credentials_one_counts(site: Site, pool: list[Credential], data: st.DataObject, path: bytes) -> None:
    """I3, SRC-01, SRC-03 to SRC-06: the identity is that of one token, and of the one that should count."""
    good, bad = (st.sampled_from([one for one in pool if bool(one.user) is wanted]) for wanted in (True, False))
    schemes = st.sampled_from([b"Bearer", b"Basic", b"Negotiate"])
    ours = st.sampled_from(["__session", f"__session_{site.clerk.cookie_suffix}"])
    others = st.sampled_from(["__session_evil", "__client", "session"])
    cookie_pairs = st.tuples(ours, good) | st.tuples(ours, good) | st.tuples(ours, bad) | st.tuples(others, good)
    cookies = data.draw(st.lists(cookie_pairs, min_size=1, max_size=4))
    authorization = data.draw(st.just([]) | st.lists(st.tuples(schemes, good | bad), max_size=2))
    headers = [(b"authorization", scheme + b" " + credential.token.encode()) for scheme, credential in authorization]
    text = "; ".join(f"{name}={credential.token}" for name, credential in cookies)
    assert site.visit(path, [*headers, (b"cookie", text.encode())]) == expected(site, authorization, cookies)


MEGABYTES = pytest.mark.parametrize(
    "headers",
    [
        [(b"authorization", b"Bearer " + b"a" * 2**20)],
        [(b"authorization", b"Bearer " + b"a.b." * 2**18)],
        [(b"authorization", b"Bearer" + b" " * 2**20)],
        [(b"authorization", b"Basic " + b",Bearer" * 2**17)],
        [(b"cookie", b"__session=" + b"a" * 2**20)],
        [(b"cookie", b"__session=a.b.c;" * 2**16)],
        [(b"cookie", b";".join(b"__session=a.b.%d" % number for number in range(2**16)))],
        [(b"cookie", b"__session=;" * 2**16)],
        [(b"cookie", b"__session" * 2**16)],
        [(b"cookie", b"=" * 2**20)],
        [(b"cookie", b";" * 2**20)],
    ],
    ids=[
        "long", "dots", "blanks", "schemes", "long-cookie", "same-cookie", "many-cookies", "empty-cookies", "names",
        "equals", "semicolons",
    ],
)  # fmt: skip


@MEGABYTES
def test_a_megabyte_is_judged_within_5_ms(local_clerk: LocalClerk, headers: Headers) -> None:
    """DOS-01, F-21: of our own time, measured by the processor's clock and without what traces the tests."""
    times = []
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        for _ in range(5):
            request = RequestFactory().get("/")
            request.META.update({f"HTTP_{name.decode().upper()}": value.decode() for name, value in headers})
            started = time.thread_time()
            state = authenticate(request)
            times.append(time.thread_time() - started)
            assert not state.is_signed_in
    finally:
        sys.settrace(tracer)
    assert min(times) < 0.005


@MEGABYTES
def test_a_megabyte_breaks_nothing(site: Site, headers: Headers, settings: Any) -> None:
    """DOS-01, F-21: linear work. Measured without Django's own middleware, which parses the cookies once more."""
    settings.MIDDLEWARE = [MIDDLEWARE]
    site.wsgi, site.asgi = WSGIHandler(), ASGIHandler()
    times = []
    for _ in range(3):
        started = time.perf_counter()
        assert site.visit(b"/required/", headers) == set()
        times.append(time.perf_counter() - started)
    assert min(times) < 5  # a quadratic step would take minutes; tracing makes ours ten times slower


@pytest.mark.parametrize(
    "payload",
    [b"[" * 11_000, b'{"a":' * 2_200, b'"' * 11_000, b"\\" * 11_000, b"9" * 11_000],
    ids=["lists", "objects", "quotes", "backslashes", "digits"],
)
def test_a_full_token_is_judged_quickly(site: Site, payload: bytes) -> None:
    """DOS-01, TOK-05: what is short enough to be looked at, genuinely signed, and made to be parsed for long."""
    token = mint(session_header(site.clerk.signing_key.kid), b'{"sub":' + payload, site.clerk.signing_key)
    assert len(token) < 16_384
    times = []
    for _ in range(3):
        started = time.process_time()
        for headers in (bearer(token), cookie(token)):
            assert site.visit(b"/required/", headers) == set()
        times.append(time.process_time() - started)
    assert min(times) < 0.5  # the others may have met Python's garbage collection, which is long in so old a process
