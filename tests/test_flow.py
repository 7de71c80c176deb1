"""
The same bytes at every door, sync and async, give the same answer.

One table of credentials, cited by the threat they stand for, goes through every door of tests/doors.py. What the pure
functions make of finer differences is in test_tokens.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from django.core.cache import cache

from clerk_views.testing import LocalClerk
from clerk_views.testing.minting import mint, new_signing_key
from tests.doors import DOORS, FEW, REQUIRED, Door, door_id

pytestmark = pytest.mark.django_db


class Sent(NamedTuple):
    authorization: str | None = None
    cookie: str | None = None


class Cast:
    """The tokens that the table plays with: Ada's and Bob's, good and bad."""

    def __init__(self, server: LocalClerk) -> None:
        self.server = server
        self.ada = server.add_user(email="ada@example.com").id
        self.bob = server.add_user(email="bob@example.com").id
        self.good = server.token(self.ada)
        self.other = server.token(self.bob)
        self.expired = server.token(self.ada, issued_at=time.time() - 600)
        self.forged = server.token(self.ada, key=new_signing_key(server.signing_key.kid))
        self.foreign = server.token(self.ada, iss="https://clerk.elsewhere.example")

    def with_header(self, **header: Any) -> str:
        return self.server.token(self.ada, header=header)

    def with_claims(self, **claims: Any) -> str:
        return self.server.token(self.ada, **claims)

    def raw(self, header: bytes | None = None, payload: bytes | None = None) -> str:
        genuine = {"alg": "RS256", "typ": "JWT", "kid": self.server.signing_key.kid}
        return mint(header or genuine, payload or b"{}", self.server.signing_key)

    @property
    def suffixed(self) -> str:
        return f"__session_{self.server.cookie_suffix}"


def bearer(token: str) -> Sent:
    return Sent(f"Bearer {token}")


def in_cookie(token: str) -> Sent:
    return Sent(None, f"__session={token}")


# Each: the threat, what is sent, and whose request it is: "ada", "bob" or "nobody".
CASES: list[tuple[str, Callable[[Cast], Sent], str]] = [
    ("nothing at all", lambda c: Sent(), "nobody"),
    ("good bearer", lambda c: bearer(c.good), "ada"),
    ("good cookie", lambda c: in_cookie(c.good), "ada"),
    ("good bearer, version 1", lambda c: bearer(c.server.token(c.ada, version=1)), "ada"),
    ("SRC-01 other scheme, good cookie", lambda c: Sent("Basic YTpi", f"__session={c.good}"), "ada"),
    ("SRC-01 other scheme, bad cookie", lambda c: Sent("Negotiate abc", f"__session={c.forged}"), "nobody"),
    ("SRC-02 any case of the scheme", lambda c: Sent(f"bEARER {c.good}"), "ada"),
    ("SRC-02 scheme twice", lambda c: Sent(f"Bearer Bearer {c.good}"), "nobody"),
    ("SRC-02 scheme inside the token", lambda c: Sent(f"Bearer {c.good[:20]}Bearer {c.good[20:]}"), "nobody"),
    ("SRC-02 empty", lambda c: Sent("Bearer ", f"__session={c.good}"), "nobody"),
    ("SRC-02 tab", lambda c: Sent(f"Bearer\t{c.good}", f"__session={c.good}"), "nobody"),
    ("SRC-02 quoted", lambda c: Sent(f'Bearer "{c.good}"'), "nobody"),
    ("SRC-02 trailing word", lambda c: Sent(f"Bearer {c.good} x"), "nobody"),
    ("SRC-03 two headers, good first", lambda c: Sent(f"Bearer {c.good}, Basic YTpi"), "nobody"),
    ("SRC-03 two headers, good last", lambda c: Sent(f"Basic YTpi,Bearer {c.good}", f"__session={c.good}"), "nobody"),
    ("SRC-04 two people", lambda c: Sent(f"Bearer {c.good}", f"__session={c.other}"), "ada"),
    ("SRC-04 bad bearer, good cookie", lambda c: Sent(f"Bearer {c.forged}", f"__session={c.good}"), "nobody"),
    ("SRC-04 expired bearer, good cookie", lambda c: Sent(f"Bearer {c.expired}", f"__session={c.good}"), "nobody"),
    ("SRC-05 tossed name before", lambda c: Sent(None, f"__session_evil={c.other}; __session={c.good}"), "ada"),
    ("SRC-05 tossed name after", lambda c: Sent(None, f"__session={c.good}; __session_evil={c.other}"), "ada"),
    ("SRC-05 tossed name alone", lambda c: Sent(None, f"__session_evil={c.good}"), "nobody"),
    ("SRC-05 suffixed", lambda c: Sent(None, f"{c.suffixed}={c.good}"), "ada"),
    ("SRC-05 plain of another app", lambda c: Sent(None, f"__session={c.foreign}; {c.suffixed}={c.good}"), "ada"),
    ("SRC-05 junk under the suffixed name", lambda c: Sent(None, f"{c.suffixed}=x.y.z; __session={c.good}"), "ada"),
    (
        "SRC-05 the newer of two names counts",
        lambda c: Sent(None, f"{c.suffixed}={c.server.token(c.bob, issued_at=time.time() - 30)}; __session={c.good}"),
        "ada",
    ),
    ("SRC-06 equal twice", lambda c: Sent(None, f"__session={c.good}; __session={c.good}"), "ada"),
    ("SRC-06 junk first", lambda c: Sent(None, f"__session=junk; __session={c.good}"), "ada"),
    ("SRC-06 junk last", lambda c: Sent(None, f"__session={c.good}; __session=junk"), "ada"),
    ("SRC-06 forged first", lambda c: Sent(None, f"__session={c.forged}; __session={c.good}"), "ada"),
    ("SRC-06 expired last", lambda c: Sent(None, f"__session={c.good}; __session={c.expired}"), "ada"),
    ("SRC-06 two people", lambda c: Sent(None, f"__session={c.good}; __session={c.other}"), "nobody"),
    ("SRC-06 two people, other order", lambda c: Sent(None, f"__session={c.other}; __session={c.good}"), "nobody"),
    ("SRC-07 too long", lambda c: bearer(c.with_claims(filler="x" * 17000)), "nobody"),
    ("SRC-07 not ASCII", lambda c: Sent("Bearer caf\xe9.\xff.\x80"), "nobody"),
    ("SRC-07 not ASCII in the cookie", lambda c: Sent(None, "__session=caf\xe9.\xff.\x80"), "nobody"),
    ("SRC-07 NUL", lambda c: Sent("Bearer a.\x00.c"), "nobody"),
    ("TOK-01 alg none", lambda c: bearer(c.with_header(alg="none")), "nobody"),
    ("TOK-01 alg HS256", lambda c: bearer(c.with_header(alg="HS256")), "nobody"),
    ("TOK-01 alg in lower case", lambda c: bearer(c.with_header(alg="rs256")), "nobody"),
    ("TOK-01 alg RS512", lambda c: bearer(c.with_header(alg="RS512")), "nobody"),
    ("TOK-02 key in the header", lambda c: bearer(c.with_header(jku=c.server.url + "/v1/jwks")), "nobody"),
    ("TOK-03 crit", lambda c: bearer(c.with_header(crit=["b64"], b64=False)), "nobody"),
    ("TOK-03 zip", lambda c: bearer(c.with_header(zip="DEF")), "nobody"),
    ("TOK-04 padding", lambda c: bearer(c.good + "="), "nobody"),
    ("TOK-04 fourth part", lambda c: bearer(c.good + ".x"), "nobody"),
    ("TOK-05 a name twice", lambda c: bearer(c.raw(payload=b'{"sub":"user_a","sub":"user_b"}')), "nobody"),
    ("TOK-05 no object", lambda c: bearer(c.raw(payload=b'["sub"]')), "nobody"),
    ("TOK-05 deep", lambda c: bearer(c.raw(payload=b"[" * 5000)), "nobody"),
    ("TOK-05 not UTF-8", lambda c: bearer(c.raw(payload=b'{"a":"\xff"}')), "nobody"),
    ("TOK-06 no exp", lambda c: bearer(c.with_claims(exp=None)), "nobody"),
    ("TOK-06 exp as text", lambda c: bearer(c.with_claims(exp="9999999999")), "nobody"),
    ("TOK-06 exp in the year 30000", lambda c: bearer(c.with_claims(exp=884541168000)), "nobody"),
    ("TOK-06 exp true", lambda c: bearer(c.with_claims(exp=True)), "nobody"),
    ("TOK-06 expired", lambda c: bearer(c.expired), "nobody"),
    ("TOK-06 expired, in the cookie", lambda c: in_cookie(c.expired), "nobody"),
    ("TOK-06 not yet", lambda c: bearer(c.with_claims(nbf=int(time.time()) + 60)), "nobody"),
    ("TOK-06 from the future", lambda c: bearer(c.with_claims(iat=int(time.time()) + 60)), "nobody"),
    ("TOK-07 another origin", lambda c: bearer(c.with_claims(azp="http://testserver.example")), "nobody"),
    ("TOK-07 no origin", lambda c: bearer(c.with_claims(azp=None)), "nobody"),
    ("TOK-08 odd aud", lambda c: bearer(c.with_claims(aud={"a": 1})), "nobody"),
    ("TOK-08 unasked aud", lambda c: bearer(c.with_claims(aud="https://api.example.com")), "ada"),
    ("TOK-09 another issuer", lambda c: bearer(c.foreign), "nobody"),
    ("TOK-09 issuer with a slash", lambda c: bearer(c.with_claims(iss=c.server.issuer + "/")), "nobody"),
    ("TOK-10 sub is a path", lambda c: bearer(c.with_claims(sub="user_../organizations")), "nobody"),
    ("TOK-10 sub with NUL", lambda c: bearer(c.with_claims(sub="user_a\x00")), "nobody"),
    ("TOK-10 no sid", lambda c: bearer(c.with_claims(sid=None)), "nobody"),
    ("TOK-11 template token", lambda c: bearer(c.with_header(cat="cl_B7d4PD222AAA")), "nobody"),
    ("TOK-11 template token in the cookie", lambda c: in_cookie(c.with_header(cat="cl_B7d4PD222AAA")), "nobody"),
    ("TOK-11 machine token", lambda c: bearer(c.with_header(cat="cl_B7d4PD333AAA")), "nobody"),
    ("TOK-11 machine subject", lambda c: bearer(c.with_claims(sub="mch_2abc")), "nobody"),
    ("TOK-11 OAuth token", lambda c: bearer(c.with_header(typ="at+jwt")), "nobody"),
    ("TOK-11 ignored category", lambda c: bearer(c.with_header(cat="cl_I7d4PD111III")), "ada"),
    ("TOK-11 no category", lambda c: bearer(c.with_header(cat=None)), "ada"),
    ("TOK-11 opaque key", lambda c: bearer("ak_" + "0" * 32), "nobody"),
    ("TOK-12 pending", lambda c: bearer(c.with_claims(sts="pending")), "nobody"),
    ("TOK-12 pending, in the cookie", lambda c: in_cookie(c.with_claims(sts="pending")), "nobody"),
    ("TOK-13 impersonated", lambda c: bearer(c.with_claims(act={"sub": "user_staff"})), "ada"),
    ("TOK-14 claims named like columns", lambda c: bearer(c.with_claims(is_staff=True, id=1, pk=1)), "ada"),
    ("TOK-15 forged", lambda c: bearer(c.forged), "nobody"),
    ("TOK-15 forged, in the cookie", lambda c: in_cookie(c.forged), "nobody"),
    ("TOK-16 of an unknown key", lambda c: bearer(c.server.token(c.ada, key=new_signing_key())), "nobody"),
    ("KEY-05 kid of 8 KB", lambda c: bearer(c.with_header(kid="k" * 8192)), "nobody"),
    ("KEY-05 kid with control bytes", lambda c: bearer(c.with_header(kid="ins_\r\n")), "nobody"),
    ("KEY-05 kid is no text", lambda c: bearer(c.with_header(kid=["ins"])), "nobody"),
    ("KEY-05 no kid", lambda c: bearer(c.with_header(kid=None)), "nobody"),
    ("F-25 huge claims within the limit", lambda c: bearer(c.with_claims(filler="x" * 8000)), "ada"),
]


@pytest.mark.parametrize("door", DOORS, ids=door_id)
def test_the_same_bytes_give_the_same_answer_at_every_door(local_clerk: LocalClerk, door: Door) -> None:
    cast = Cast(local_clerk)
    wrong = []
    for name, sent, expected in CASES:
        response = door.send(*sent(cast))
        seen = door.verdict(response)
        want = {"ada": cast.ada, "bob": cast.bob}.get(expected, expected)
        if seen != want:
            wrong.append(f"{name}: expected {want}, saw {seen} {response.content[:120]!r}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("door", DOORS, ids=door_id)
def test_every_method_is_guarded(local_clerk: LocalClerk, door: Door) -> None:
    """MWR-04."""
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"):
        response = door.send(method=method)
        if door.path == "/api/decorated/" and method == "OPTIONS":
            continue  # REST framework's own description of the view, which stands outside the decorator
        if door.kind == "required":
            assert response.status_code in (401, 403, 405), method
            assert b"user_" not in response.content
        if door.kind == "required" and not door.path.startswith("/api"):
            assert response.status_code == 401, method


@pytest.mark.parametrize("door", REQUIRED, ids=door_id)
def test_refusals_are_fixed_texts_with_a_challenge_and_private(local_clerk: LocalClerk, door: Door) -> None:
    """TOK-15, LOG-02, CAC-08."""
    cast = Cast(local_clerk)
    bare = door.send()
    assert bare.status_code == 401
    assert bare["WWW-Authenticate"] == "Bearer"
    assert bare.json() == {  # type: ignore[attr-defined]
        "detail": "Sign in to continue.",
        "code": "session-token-and-uat-missing",
    }
    for token in (cast.forged, cast.with_header(alg="none"), cast.with_claims(azp="http://evil.example")):
        response = door.send(f"Bearer {token}")
        assert response.status_code == 401
        assert response["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        body = response.json()  # type: ignore[attr-defined]
        assert set(body) == {"detail", "code"}
        assert body["detail"] == "The credential is not valid."
        assert "evil" not in response.content.decode()
        assert {"Cookie", "Authorization"} <= set(response["Vary"].replace(" ", "").split(","))
        assert response["Cache-Control"] == "private"


@pytest.mark.parametrize("door", REQUIRED, ids=door_id)
def test_answers_about_somebody_are_private(local_clerk: LocalClerk, door: Door) -> None:
    """CAC-08."""
    response = door.send(f"Bearer {Cast(local_clerk).good}")
    assert response.status_code == 200
    assert {"Cookie", "Authorization"} <= set(response["Vary"].replace(" ", "").split(","))
    assert response["Cache-Control"] == "private"


@pytest.mark.parametrize("door", FEW, ids=door_id)
def test_tokens_are_read_nowhere_else(local_clerk: LocalClerk, door: Door) -> None:
    """SRC-08, SRC-09."""
    token = Cast(local_clerk).good
    names = ("token", "access_token", "__session", "jwt", "id_token")
    for name in names:
        assert door.verdict(door.send(path=f"{door.path}?{name}={token}")) == "nobody"
    for header in ("x-authorization", "x-auth", "x-clerk-auth-token", "x-forwarded-user", "x-http-method-override"):
        assert door.verdict(door.send(headers={header: f"Bearer {token}"})) == "nobody"
    assert local_clerk.calls.total == 0
    # The one parameter that may hold a token is verified, hence the key; a session token is none of its kind.
    assert door.verdict(door.send(path=f"{door.path}?__clerk_handshake={token}")) == "nobody"
    assert local_clerk.calls.total == local_clerk.calls.key_fetches <= 1


@pytest.mark.parametrize("door", FEW, ids=door_id)
def test_an_inactive_account_is_403_without_a_redirect(
    local_clerk: LocalClerk, door: Door, django_user_model: Any
) -> None:
    """CAC-03: read per request, also when everything else is remembered."""
    cast = Cast(local_clerk)
    assert door.verdict(door.send(f"Bearer {cast.good}")) == cast.ada
    django_user_model.objects.update(is_active=False)
    response = door.send(f"Bearer {cast.good}")
    assert response.status_code == 403
    page = door.send(f"Bearer {cast.good}", headers={"accept": "text/html"})
    assert page.status_code == 403


@pytest.mark.parametrize("door", FEW, ids=door_id)
def test_an_outage_is_503_and_a_known_user_does_not_notice(local_clerk: LocalClerk, door: Door) -> None:
    """F-01, F-02, CAC-07: 503 for what cannot be known, 200 for who is known, and nothing of it is remembered."""
    cast = Cast(local_clerk)
    assert door.verdict(door.send(f"Bearer {cast.good}")) == cast.ada
    local_clerk.faults.down()
    cache.clear()
    renewed = cast.with_claims(jti="another")
    assert door.verdict(door.send(f"Bearer {renewed}")) == cast.ada
    response = door.send(f"Bearer {cast.other}")
    assert response.status_code == 503
    assert 1 <= int(response["Retry-After"]) <= 120
    assert "no-store" in response["Cache-Control"]
    assert not response.cookies
    local_clerk.faults.clear()


@pytest.mark.parametrize("door", FEW, ids=door_id)
def test_no_keys_at_all_is_503(local_clerk: LocalClerk, door: Door) -> None:
    """F-01, without anything known."""
    cast = Cast(local_clerk)
    local_clerk.faults.status(500)
    response = door.send(f"Bearer {cast.good}")
    assert response.status_code == 503
    assert "user_" not in response.content.decode()
    # Whoever brings nothing is nobody, outage or not.
    assert door.verdict(door.send()) == "nobody"


@pytest.mark.parametrize("door", DOORS, ids=door_id)
def test_one_request_is_judged_once(
    local_clerk: LocalClerk, door: Door, django_assert_num_queries: Any, django_user_model: Any
) -> None:
    """Contract, cost: warm, one query for the row, and no call."""
    cast = Cast(local_clerk)
    door.send(f"Bearer {cast.good}")
    local_clerk.calls.reset()
    with django_assert_num_queries(1):
        assert door.verdict(door.send(f"Bearer {cast.good}")) == cast.ada
    assert local_clerk.calls.total == 0
