"""
What token did the request bring, and is it genuine? One table for each threat; every token is really signed.

The ids (SRC-01, TOK-04, …) are those of the threat model, which SECURITY.md explains.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
import time_machine
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from django.core.exceptions import ImproperlyConfigured

from clerk_views import tokens
from clerk_views.conf import Config
from clerk_views.exceptions import TokenRefused
from clerk_views.keys import parse_pem
from clerk_views.testing.minting import (
    IGNORE_CATEGORY,
    MACHINE_CATEGORY,
    SESSION_CATEGORY,
    TEMPLATE_CATEGORY,
    base64url,
    mint,
)
from clerk_views.tokens import MAX_CANDIDATES, MAX_TOKEN_LENGTH, find
from tests.minted import (
    ABSENT,
    CONFIG,
    ISSUER,
    KEY,
    ORIGIN,
    OTHER_KEY,
    PUBLISHABLE_KEY,
    SESSION_ID,
    USER_ID,
    claims,
    configured,
    header,
    judged,
    public_key,
    text_of,
    token,
)

GOOD = token()
OTHER = token(sub="user_other", sid="sess_other")
SUFFIXED = f"__session_{CONFIG.publishable_key.cookie_suffix}" if CONFIG.publishable_key else ""


class Found(NamedTuple):
    """What is found, for comparison."""

    carrier: str | None
    groups: tuple[tuple[str, ...], ...] = ()


NOTHING = Found(None)
UNREADABLE = Found("header")

Table = list[tuple[str, Any]]


def cases(table: Mapping[str, Any]) -> pytest.MarkDecorator:
    """Parametrize ``case`` over a mapping of ids to values."""
    return pytest.mark.parametrize("case", table.values(), ids=table.keys())


def in_header(value: str, cookie: str = f"__session={OTHER}") -> Found:
    return looked({"HTTP_AUTHORIZATION": value, "HTTP_COOKIE": cookie}, CONFIG)


def in_cookies(value: str, config: Config = CONFIG) -> Found:
    return looked({"HTTP_COOKIE": value}, config)


def looked(meta: Mapping[str, Any], config: Config) -> Found:
    found = find(meta, config)
    return Found(found.carrier, found.groups)


def seconds(call: Callable[[], object]) -> float:
    """Return how long it takes, of three tries the shortest, so that a busy machine does not count."""
    tries = []
    for _ in range(3):
        started = time.perf_counter()
        call()
        tries.append(time.perf_counter() - started)
    return min(tries)


class TestHeader:
    @cases({name: f"{name} {GOOD}" for name in ("Bearer", "bearer", "BEARER", "bEaReR")})
    def test_bearer_decides_alone(self, case: str) -> None:
        """SRC-02, SRC-04: the scheme in any case; the cookie of somebody else is not looked at."""
        assert in_header(case) == Found("header", ((GOOD,),))

    @cases(
        {
            "empty": "",
            "basic": "Basic dXNlcjpwYXNz",
            "basic alone": "Basic",
            "negotiate": "Negotiate YIIJvwYGKwYBBQUC",
            "ntlm": "NTLM TlRMTVNTUAAB",
            "digest": 'Digest username="Mufasa", realm="bearer", nonce="x", uri="/dir"',
            "dpop": f"DPoP {GOOD}",
            "token": f"Token {GOOD}",
            "api key": f"ApiKey {GOOD}",
            "aws": "AWS4-HMAC-SHA256 Credential=AKID/20261123/eu/s3/aws4_request, SignedHeaders=host, Signature=fe5f",
            "no scheme": GOOD,
            "run together": f"Bearer{GOOD}",
            "longer scheme": f"Bearers {GOOD}",
            "scheme with hyphen": f"Bearer-Token {GOOD}",
            "scheme with underscore": f"Bearer_ {GOOD}",
            "scheme with dot": f"Bearer.x {GOOD}",
            "scheme with tick": f"Bearer' {GOOD}",
            "scheme before": f"X-Bearer {GOOD}",
            "bearer inside another": f"Token Bearer {GOOD}",
            "bearer inside a list": "Basic a,bearers b",
        }
    )
    def test_another_scheme_leaves_the_cookie(self, case: str) -> None:
        """SRC-01: a proxy's own header hides nobody's session."""
        assert in_header(case) == Found("cookie", ((OTHER,),))
        assert in_header(case, "theme=dark") == NOTHING

    @cases(
        {
            "nothing": "Bearer",
            "blank": "Bearer ",
            "two spaces": f"Bearer  {GOOD}",
            "tab": f"Bearer\t{GOOD}",
            "no-break space": f"Bearer\xa0{GOOD}",
            "space before": f" Bearer {GOOD}",
            "tab before": f"\tBearer {GOOD}",
            "space after": f"Bearer {GOOD} ",
            "newline after": f"Bearer {GOOD}\n",
            "trailing word": f"Bearer {GOOD} extra",
            "trailing token": f"Bearer {GOOD} {OTHER}",
            "trailing tab": f"Bearer {GOOD}\t{OTHER}",
            "repeated scheme": f"Bearer Bearer {GOOD}",
            "embedded scheme": f"Bearer x Bearer {GOOD}",
            "double quotes": f'Bearer "{GOOD}"',
            "single quotes": f"Bearer '{GOOD}'",
            "equals": f"Bearer={GOOD}",
            "equals and token": f"Bearer token={GOOD}",
            "colon": f"Bearer:{GOOD}",
            "comma": f"Bearer,{GOOD}",
            "semicolon": f"Bearer;{GOOD}",
            "slash": f"Bearer/{GOOD}",
            "nul between": f"Bearer\x00{GOOD}",
            "nul in the token": f"Bearer {GOOD[:9]}\x00{GOOD[9:]}",
            "nul after": f"Bearer {GOOD}\x00",
            "delete": f"Bearer {GOOD}\x7f",
            "latin-1": f"Bearer {GOOD}é",
            "beyond latin-1": f"Bearer {GOOD}\u20ac",
            "half a surrogate pair": f"Bearer {GOOD}\ud800",
            "padding alone": "Bearer =",
            "padding inside": f"Bearer a={GOOD}",
            "folded": f"Bearer {GOOD}\r\n X: y",
            "json": f'Bearer {{"token":"{GOOD}"}}',
        }
    )
    def test_what_cannot_be_read_is_refused(self, case: str) -> None:
        """SRC-02, SRC-07, F-22: a bearer credential that nobody can read is one all the same, and a bad one."""
        assert in_header(case) == UNREADABLE

    @cases({"kelvin sign": "\u212a", "long s": "\u017f", "dotless i": "\u0131", "capital i with dot": "\u0130"})
    def test_letters_that_fold_to_ascii_are_none(self, case: str) -> None:
        """SRC-02, SRC-07: only the scheme may be in any case; the token is ASCII."""
        assert in_header(f"Bearer {case}") == UNREADABLE
        assert in_header(f"Bearer {GOOD}{case}") == UNREADABLE

    @cases(
        {
            "both good": f"Bearer {GOOD},Bearer {GOOD}",
            "two people": f"Bearer {GOOD},Bearer {OTHER}",
            "good and bad": f"Bearer {GOOD}, Bearer junk",
            "bad and good": f"Bearer junk, Bearer {GOOD}",
            "bare second": f"Bearer {GOOD},{OTHER}",
            "another scheme first": f"Basic dXNlcjpwYXNz,Bearer {GOOD}",
            "another scheme first, spaced": f"Basic dXNlcjpwYXNz, \tBEARER {GOOD}",
            "another scheme second": f"Bearer {GOOD},Basic dXNlcjpwYXNz",
            "empty second": f"Bearer {GOOD},",
            "empty first": f",Bearer {GOOD}",
        }
    )
    def test_two_headers_are_refused(self, case: str) -> None:
        """SRC-03, F-23: servers join two headers with a comma, in the order they came."""
        assert in_header(case) == UNREADABLE

    @cases({"scheme in front": f"Bearer{GOOD}", "scheme twice": f"BearerBearer{GOOD}", "padded": f"{GOOD}=="})
    def test_the_token_is_taken_as_it_stands(self, case: str) -> None:
        """SRC-02: nothing is cut out of a token, so it has no second spelling."""
        assert in_header(f"Bearer {case}") == Found("header", ((case,),))
        assert judged(case) != "good"

    def test_nothing_else_is_read(self) -> None:
        """SRC-08, SRC-09: not the query, not a look-alike header, not a proxy's word."""
        names = (
            "HTTP_X_AUTHORIZATION",
            "HTTP_PROXY_AUTHORIZATION",
            "HTTP_X_FORWARDED_AUTHORIZATION",
            "HTTP_X_AUTH",
            "HTTP_X_AUTH_TOKEN",
            "HTTP_AUTHENTICATION",
            "HTTP_X_CLERK_AUTH_TOKEN",
            "HTTP_X_HTTP_METHOD_OVERRIDE",
            "HTTP_X_REMOTE_USER",
            "HTTP_X_COOKIE",
            "HTTP_COOKIE2",
            "AUTHORIZATION",
            "REMOTE_USER",
            "AUTH_USER",
        )
        meta = dict.fromkeys(names, f"Bearer {GOOD}")
        meta |= {"COOKIE": f"__session={GOOD}", "QUERY_STRING": f"__session={GOOD}&token={GOOD}&access_token={GOOD}"}
        assert looked(meta, CONFIG) == looked({}, CONFIG) == NOTHING

    def test_repr_shows_no_token(self) -> None:
        """LOG-01: neither of what was found nor of what was taken apart."""
        assert GOOD not in repr(
            find({"HTTP_AUTHORIZATION": f"Bearer {GOOD}", "HTTP_COOKIE": f"__session={GOOD}"}, CONFIG)
        )
        for shown in (repr(tokens.parse(GOOD)), repr(tokens.take_apart(GOOD))):
            assert not any(part in shown for part in GOOD.split("."))
            assert USER_ID not in shown


class TestCookies:
    @cases(
        {
            "plain": (f"__session={GOOD}", ((GOOD,),)),
            "suffixed": (f"{SUFFIXED}={GOOD}", ((GOOD,),)),
            "suffixed first": (f"{SUFFIXED}={GOOD}; __session={OTHER}", ((GOOD,), (OTHER,))),
            "suffixed last": (f"__session={OTHER}; {SUFFIXED}={GOOD}", ((GOOD,), (OTHER,))),
            "the same in both": (f"__session={GOOD}; {SUFFIXED}={GOOD}", ((GOOD,), (GOOD,))),
            "among others": (f"a=b; __session={GOOD}; csrftoken=c", ((GOOD,),)),
            "no space": (f"a=b;__session={GOOD};c=d", ((GOOD,),)),
            "blanks": (f" \t__session \t= \t{GOOD}\t ", ((GOOD,),)),
            "equals in a neighbour": (f"a==b=c; __session={GOOD}; d", ((GOOD,),)),
            "empty and good": (f"__session=; __session={GOOD}; __session=", ((GOOD,),)),
            "quoted neighbour": (f'a="b; __session={GOOD}; c"', ((GOOD,),)),
            "twice the same": (f"__session={GOOD}; __session={GOOD}", ((GOOD,),)),
            "two people": (f"__session={GOOD}; __session={OTHER}", ((GOOD, OTHER),)),
            "two people, other order": (f"__session={OTHER}; __session={GOOD}", ((OTHER, GOOD),)),
            "two people, suffixed": (f"{SUFFIXED}={GOOD}; {SUFFIXED}={OTHER}", ((GOOD, OTHER),)),
        }
    )
    def test_exact_names_are_read(self, case: tuple[str, tuple[tuple[str, ...], ...]]) -> None:
        """SRC-05, SRC-06, F-23: every distinct value of our two names, the suffixed name first."""
        cookies, groups = case
        assert in_cookies(cookies) == Found("cookie", groups)

    @cases(
        {
            name: name
            for name in (
                "__session_evil",
                "__session_",
                "__sessions",
                "__session__",
                "__session2",
                "__Session",
                "__SESSION",
                "_session",
                "session",
                "x__session",
                "__Host-__session",
                "__Secure-__session",
                "__session.",
                "__session[0]",
                "__session%20",
                "%5F_session",
                '"__session"',
                "__session\x0b",
                "__session\xa0",
                "\ufeff__session",
                "__session\x00",
                "__client_uat",
                f"{SUFFIXED}x",
                SUFFIXED[:-1],
                SUFFIXED.swapcase(),
            )
        }
    )
    def test_other_names_are_nothing(self, case: str) -> None:
        """SRC-05: a sibling's cookie is not ours, and tossed before or after it does not change what is."""
        assert in_cookies(f"{case}={OTHER}") == NOTHING
        assert in_cookies(f"{case}={OTHER}; __session={GOOD}") == Found("cookie", ((GOOD,),))
        assert in_cookies(f"__session={GOOD}; {case}={OTHER}") == Found("cookie", ((GOOD,),))

    def test_without_a_publishable_key_only_the_plain_name_counts(self) -> None:
        """SRC-05: no suffix is known, so none is believed."""
        config = configured(CLERK_PUBLISHABLE_KEY=None)
        assert in_cookies(f"{SUFFIXED}={GOOD}; __session={OTHER}", config) == Found("cookie", ((OTHER,),))
        assert in_cookies(f"{SUFFIXED}={GOOD}", config) == NOTHING

    def test_suffix_is_clerks(self) -> None:
        """SRC-05: known answers, from Clerk's JavaScript backend SDK."""
        key = "pk_test_Y2xlcmsuY2xlcmsuZGV2JA"
        config = configured(CLERK_PUBLISHABLE_KEY=key)
        assert in_cookies(f"__session_QvfNY2dr={GOOD}", config) == Found("cookie", ((GOOD,),))
        assert in_cookies(f"__session_1Z8AzTQD={GOOD}", config) == NOTHING

    @cases(
        {"empty": "__session=", "no value": "__session", "blank": "__session= \t", "none at all": "", "others": "a=b"}
    )
    def test_empty_is_absent(self, case: str) -> None:
        """SRC-06: a browser keeps an emptied cookie until it expires; nobody presents anything with it."""
        assert in_cookies(case) == NOTHING

    JUNK: Mapping[str, str] = {
        "word": "junk",
        "two parts": "a.b",
        "four parts": "a.b.c.d",
        "empty part": "a..c",
        "quoted": f'"{OTHER}"',
        "percent": OTHER.replace(".", "%2E"),
        "blank inside": OTHER.replace(".", ". "),
        "padded": f"{OTHER}=",
        "comma": f"{OTHER},{OTHER}",
        "nul": f"{OTHER}\x00",
        "latin-1": f"{OTHER}é",
        "beyond latin-1": f"{OTHER}\u20ac",
        "half a surrogate pair": f"{OTHER}\ud800",
        "kelvin sign": f"{OTHER}\u212a",
        "too long": f"{'a' * (MAX_TOKEN_LENGTH - 3)}.b.c",
    }

    @cases(JUNK)
    def test_junk_takes_nobodys_place(self, case: str) -> None:
        """SRC-06, SRC-07, F-21, F-22: junk alone is a credential nobody can read; beside a token it is nothing."""
        assert in_cookies(f"__session={case}") == Found("cookie")
        copies = min(9, tokens.MAX_COOKIES_LENGTH // len(case) - 1)
        many = "; ".join(f"__session={case[:1]}{number}{case[1:]}" for number in range(copies))
        assert in_cookies(f"{many}; __session={GOOD}; {SUFFIXED}={case}") == Found("cookie", ((GOOD,),))

    def test_a_header_that_no_server_lets_through_is_not_taken_apart(self) -> None:
        """DOS-01, F-21: a credential nobody can read, whatever is in it."""
        blanks = " " * (tokens.MAX_COOKIES_LENGTH - len(f"__session={GOOD};"))
        assert in_cookies(f"__session={GOOD};{blanks}") == Found("cookie", ((GOOD,),))
        assert in_cookies(f"__session={GOOD};{blanks} ") == Found("cookie")

    def test_longest_token_is_read(self) -> None:
        """SRC-07: the limit itself is still within."""
        longest = f"{'a' * (MAX_TOKEN_LENGTH - 4)}.b.c"
        assert len(longest) == MAX_TOKEN_LENGTH
        assert in_cookies(f"__session={longest}") == Found("cookie", ((longest,),))

    @pytest.mark.parametrize("plain", range(6))
    @pytest.mark.parametrize("suffixed", range(6))
    def test_at_most_four_are_looked_at(self, suffixed: int, plain: int) -> None:
        """SRC-06, DOS-01: of both names together, the suffixed one first, each in the order they came."""
        ours, theirs = [f"a.{n}.s" for n in range(suffixed)], [f"a.{n}.p" for n in range(plain)]
        cookies = "; ".join([f"__session={value}" for value in theirs] + [f"{SUFFIXED}={value}" for value in ours])
        groups = (tuple(ours[:MAX_CANDIDATES]), tuple(theirs[: max(0, MAX_CANDIDATES - suffixed)]))
        expected = tuple(group for group in groups if group)
        assert MAX_CANDIDATES == 4
        assert in_cookies(cookies) == (Found("cookie", expected) if expected else NOTHING)


MEBIBYTE = 1 << 20


@cases(
    {
        "bearer": {"HTTP_AUTHORIZATION": "Bearer " + "a" * MEBIBYTE},
        "bearer of parts": {"HTTP_AUTHORIZATION": "Bearer " + "a." * (MEBIBYTE // 2)},
        "bearer words": {"HTTP_AUTHORIZATION": "Bearer " * (MEBIBYTE // 7)},
        "bearer and padding": {"HTTP_AUTHORIZATION": "Bearer a" + "=" * MEBIBYTE + "a"},
        "blanks": {"HTTP_AUTHORIZATION": " " * MEBIBYTE},
        "commas": {"HTTP_AUTHORIZATION": "," * MEBIBYTE},
        "commas and blanks": {"HTTP_AUTHORIZATION": ("," + " " * 99) * (MEBIBYTE // 100)},
        "a comma and blanks": {"HTTP_AUTHORIZATION": "," + " " * MEBIBYTE},
        "nearly second bearers": {"HTTP_AUTHORIZATION": ",bearer-" * (MEBIBYTE // 8)},
        "a cookie": {"HTTP_COOKIE": "__session=" + "a" * MEBIBYTE},
        "cookies": {"HTTP_COOKIE": "".join(f"__session=a.{n}.c;" for n in range(MEBIBYTE // 20))},
        "junk cookies": {"HTTP_COOKIE": "".join(f"__session={n};" for n in range(MEBIBYTE // 17))},
        "the same cookie": {"HTTP_COOKIE": "__session=a.b.c;" * (MEBIBYTE // 16)},
        "names": {"HTTP_COOKIE": "__session" * (MEBIBYTE // 9)},
        "semicolons": {"HTTP_COOKIE": "__session" + ";" * MEBIBYTE},
        "equals": {"HTTP_COOKIE": "__session" + "=" * MEBIBYTE},
        "blanks in a cookie": {"HTTP_COOKIE": "__session=a" + " " * MEBIBYTE + "b"},
    }
)
def test_a_mebibyte_is_read_in_one_pass(case: dict[str, str]) -> None:
    """DOS-01, F-21: nothing quadratic, which would take minutes here."""

    def judge() -> None:
        for group in find(case, CONFIG).groups:
            for text in group:
                judged(text)
                tokens.is_foreign(text, CONFIG)

    assert seconds(judge) < 5


def as_payload(raw: bytes) -> str:
    """Return a token with such a payload, and a signature that does not hold."""
    return f"{base64url(text_of(header()))}.{base64url(raw)}.{'A' * 342}"


@cases(
    {
        "open brackets": b"[" * 11_000,
        "brackets": b"[]" * 5_500,
        "nested": b"[" * 5_500 + b"]" * 5_500,
        "quotes": b"[" * 17 + b'"' * 11_000,
        "an open text": b"[" * 17 + b'"' + b"a" * 11_000,
        "an open text of escaped quotes": b"[" * 17 + b'"' + b'\\"' * 5_500,
        "an open text of escaped quotes, cut off": b"[" * 17 + b'"' + b'\\"' * 5_500 + b"\\",
        "an open text of escaped quotes and a newline": b"[" * 17 + b'"' + b'\\"' * 5_500 + b"\\\na",
        "an open text of escapes": b"[" * 17 + b'"' + b"\\" * 11_001,
        "escaped quotes": b"[" * 17 + b'\\"' * 5_500,
        "digits": b'{"a":' + b"1" * 11_000 + b"}",
        "numbers": b'{"a":[' + b",".join([b"1" * 4_300] * 2) + b"]}",
        "fraction": b'{"a":0.' + b"1" * 11_000 + b"}",
        "names": b"{" + b",".join(b'"%d":0' % number for number in range(1_200)) + b"}",
        "halves": b'{"a":"' + b"\\ud800" * 1_800 + b'"}',
        "blanks": b" " * 11_000,
    }
)
def test_the_longest_payloads_are_judged_quickly(case: bytes) -> None:
    """DOS-01, TOK-05: a payload is read before its signature, so anybody can send this."""
    text = as_payload(case)
    assert len(text) <= MAX_TOKEN_LENGTH
    assert seconds(lambda: judged(text)) < 0.1


def test_length_is_looked_at_first() -> None:
    """SRC-07, F-21, F-25: up to the limit fine, one character more refused, though both are genuine."""

    def of_length(length: int) -> str:
        for extra in range(9):
            head = header(oiat="x" * extra)
            filled = length - len(mint(head, claims(orgs=""), KEY))
            for size in range(filled * 3 // 4 - 3, filled * 3 // 4 + 3):
                text = mint(head, claims(orgs="o" * size), KEY)
                if len(text) == length:
                    return text
        raise AssertionError("no such length")

    assert judged(of_length(MAX_TOKEN_LENGTH)) == "good"
    for beyond in (of_length(MAX_TOKEN_LENGTH + 1), "a" * MEBIBYTE):
        with pytest.raises(TokenRefused, match="longer than 16384") as caught:
            tokens.parse(beyond)
        assert caught.value.reason == "token-invalid"
    assert MAX_TOKEN_LENGTH == 16_384


def test_good_token() -> None:
    parsed = tokens.parse(GOOD)
    assert parsed.key_id == KEY.kid
    verified = tokens.verify(parsed, public_key(), CONFIG)
    assert (verified["sub"], verified["sid"], verified["iss"]) == (USER_ID, SESSION_ID, ISSUER)


@cases({"found in a header": f"Bearer {GOOD}", "found in a header in small letters": f"bearer {GOOD}"})
def test_what_is_found_can_be_verified(case: str) -> None:
    ((found,),) = in_header(case).groups
    assert judged(found) == "good"


class TestAlgorithm:
    SPELLINGS: Table = [
        *((name or "empty", name) for name in ("", "none", "None", "NONE", "nOnE", "null")),
        *((name, name) for name in ("HS256", "HS384", "HS512", "RS384", "RS512", "RS1", "PS256", "PS384", "PS512")),
        *(
            (name, name)
            for name in ("ES256", "ES256K", "ES512", "EdDSA", "Ed25519", "RSA", "RSA-OAEP", "dir", "A256GCM")
        ),
        *((repr(name), name) for name in ("rs256", "Rs256", "RS256 ", " RS256", "RS256\n", "RS256\x00", "RS256,none")),
        ("full width", "ＲＳ２５６"),
        ("cyrillic", "RЅ256"),
        ("absent", ABSENT),
        *(
            (f"as {value!r}", value)
            for value in (None, True, False, 0, 256, ["RS256"], {"RS256": 1}, {"alg": "RS256"}, [])
        ),
    ]

    @pytest.mark.parametrize("alg", [value for _, value in SPELLINGS], ids=[name for name, _ in SPELLINGS])
    def test_nothing_but_rs256(self, alg: Any) -> None:
        """TOK-01: refused by the header alone, before there is a key; whatever the signature is."""
        genuine = token(head=header(alg=alg))
        signed = genuine.rpartition(".")[0]
        keyed = hmac.digest(KEY.public_pem.encode(), signed.encode(), "sha256")
        for text in (genuine, f"{signed}.AAAA", f"{signed}.{base64url(keyed)}", f"{signed}."):
            with pytest.raises(TokenRefused) as refused:
                tokens.parse(text)
            assert refused.value.reason == ("token-invalid" if text.endswith(".") else "token-invalid-algorithm")

    @staticmethod
    def secrets() -> dict[str, bytes]:
        key, pem = public_key(), KEY.public_pem
        modulus = key.public_numbers().n
        formats = serialization.PublicFormat
        return {
            "pem": pem.encode(),
            "pem without last newline": pem.rstrip().encode(),
            "pem on one line": pem.replace("\n", "").encode(),
            "pem with literal newlines": pem.replace("\n", "\\n").encode(),
            "pem with other newlines": pem.replace("\n", "\r\n").encode(),
            "body of the pem": "".join(pem.splitlines()[1:-1]).encode(),
            "pkcs1 pem": key.public_bytes(serialization.Encoding.PEM, formats.PKCS1),
            "der": key.public_bytes(serialization.Encoding.DER, formats.SubjectPublicKeyInfo),
            "pkcs1 der": key.public_bytes(serialization.Encoding.DER, formats.PKCS1),
            "openssh": key.public_bytes(serialization.Encoding.OpenSSH, formats.OpenSSH),
            "modulus": modulus.to_bytes(256, "big"),
            "modulus in base64url": KEY.jwk["n"].encode(),
            "modulus in hex": f"{modulus:x}".encode(),
            "modulus in decimal": str(modulus).encode(),
            "jwk": json.dumps(KEY.jwk).encode(),
            "compact jwk": text_of(KEY.jwk),
            "key id": KEY.kid.encode(),
            "nothing": b"",
        }

    @pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512", "RS256"])
    @pytest.mark.parametrize("secret", secrets().keys())
    def test_hmac_with_something_public(self, secret: str, alg: str) -> None:
        """TOK-01: the public key is no secret, in none of its forms."""
        signed = f"{base64url(text_of(header(alg=alg)))}.{base64url(text_of(claims()))}"
        digest = hashlib.new(f"sha{alg[2:]}", usedforsecurity=False).name
        text = f"{signed}.{base64url(hmac.digest(self.secrets()[secret], signed.encode(), digest))}"
        assert judged(text) == ("token-invalid-signature" if alg == "RS256" else "token-invalid-algorithm")

    @cases(
        {
            "RS384": (padding.PKCS1v15(), hashes.SHA384()),
            "RS512": (padding.PKCS1v15(), hashes.SHA512()),
            "RS1": (padding.PKCS1v15(), hashes.SHA1()),  # noqa: S303 - the broken hash is the test
            "PS256": (padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()),
            "PS512": (padding.PSS(padding.MGF1(hashes.SHA512()), 64), hashes.SHA512()),
        }
    )
    def test_another_scheme_under_the_name_of_rs256(self, case: tuple[Any, hashes.HashAlgorithm]) -> None:
        """TOK-01: our own key, and a signature of another kind."""
        signed = GOOD.rpartition(".")[0]
        assert (
            judged(f"{signed}.{base64url(KEY.private_key.sign(signed.encode(), *case))}") == "token-invalid-signature"
        )

    @cases(
        {
            "another key": token(OTHER_KEY),
            "another key under our id": mint(header(kid=KEY.kid), claims(), OTHER_KEY),
            "another token's signature": ".".join([*GOOD.split(".")[:2], OTHER.split(".")[2]]),
            "another token's payload": ".".join([GOOD.split(".")[0], OTHER.split(".")[1], GOOD.split(".")[2]]),
            "nought": f"{GOOD.rpartition('.')[0]}.{base64url(bytes(256))}",
            "one": f"{GOOD.rpartition('.')[0]}.{base64url(bytes(255) + bytes([1]))}",
            "modulus": f"{GOOD.rpartition('.')[0]}.{KEY.jwk['n']}",
            "short": f"{GOOD.rpartition('.')[0]}.{base64url(b'short')}",
            "a byte more": f"{GOOD}AA",
            "a zero byte in front": f"{GOOD.rpartition('.')[0]}."
            + base64url(b"\0" + base64.urlsafe_b64decode(GOOD.rpartition(".")[2] + "==")),
        }
    )
    def test_forged(self, case: str) -> None:
        """TOK-15, TOK-16: the signature is that of our key over these very bytes, or it is none."""
        assert judged(case) == "token-invalid-signature"


class TestHeaderMembers:
    @pytest.mark.parametrize("value", [None, True, False, "", "x", [], ["exp"], {}, 0], ids=repr)
    @pytest.mark.parametrize("name", ["crit", "b64", "zip", "enc", "cty"])
    def test_other_forms_are_refused(self, name: str, value: Any) -> None:
        """TOK-03: signed genuinely, so only this rule can refuse."""
        assert judged(token(head=header(**{name: value}))) == "token-invalid"

    @cases(
        {
            "b64 as critical": {"crit": ["b64"], "b64": False},
            "b64 as usual": {"crit": ["b64"], "b64": True},
            "exp as critical": {"crit": ["exp"], "exp": 0},
            "deflated": {"zip": "DEF"},
            "nested": {"cty": "JWT"},
            "encrypted": {"enc": "A256GCM"},
        }
    )
    def test_usual_values_of_other_forms(self, case: dict[str, Any]) -> None:
        """TOK-03"""
        assert judged(token(head=header(**case))) == "token-invalid"

    def test_nested_token(self) -> None:
        """TOK-03: a token within a token."""
        assert judged(mint(header(), GOOD.encode(), KEY)) == "token-invalid"

    @cases(
        {
            "flattened json": json.dumps(
                dict(zip(("protected", "payload", "signature"), GOOD.split("."), strict=True))
            ),
            "general json": json.dumps({"payload": GOOD.split(".")[1], "signatures": []}),
            "encrypted": "a.b.c.d.e",
            "unsecured": f"{GOOD.rpartition('.')[0]}.",
            "detached": f"{GOOD.split('.')[0]}..{GOOD.split('.')[2]}",
            "opaque key": "ak_" + "1" * 32,
            "opaque oauth": "oat_" + "1" * 32,
            "opaque machine": "mt_" + "1" * 32,
            "empty": "",
            "dots": "..",
            "one part": "a",
            "two parts": "a.b",
            "four parts": f"{GOOD}.a",
        }
    )
    def test_not_three_parts(self, case: str) -> None:
        """TOK-03, TOK-04, MCH-01: exactly three parts, none of them empty."""
        assert judged(case) == "token-invalid"

    @pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
    def test_no_key_is_taken_from_the_token(self, name: str) -> None:
        """TOK-02, KEY-08: refused, and nobody is asked for anything."""
        with socket.create_server(("127.0.0.1", 0)) as trap:
            trap.setblocking(False)
            url = f"http://127.0.0.1:{trap.getsockname()[1]}/jwks.json"
            values = {"jwk": OTHER_KEY.jwk, "jku": url, "x5u": url, "x5c": ["MIIB"]}
            for key in (KEY, OTHER_KEY):
                assert judged(token(key, header(**{"kid": url, name: values[name]}))) == "token-invalid"
            with pytest.raises(BlockingIOError):
                trap.accept()

    @cases(
        {
            "url": "https://evil.example/jwks.json",
            "path": "../../../../dev/null",
            "sql": "x' UNION SELECT 'key",
            "shell": "| sleep 9",
            "blanks": " ",
            "longest": "k" * 256,
            "quote": '"',
        }
    )
    def test_odd_key_ids_are_only_looked_up(self, case: str) -> None:
        """TOK-02, KEY-05: a key id is text to look for among ours, and means nothing else."""
        parsed = tokens.parse(token(head=header(kid=case)))
        assert parsed.key_id == case

    def test_key_id_may_be_absent(self) -> None:
        assert tokens.parse(token(head=header(kid=ABSENT))).key_id is None

    @cases(
        {
            "empty": "",
            "too long": "k" * 257,
            "8 KB": "k" * 8192,
            "nul": "ins_\x00",
            "newline": "ins_1\n",
            "newline in front": "\nins_1",
            "escape": "\x1b[31mred",
            "delete": "\x7f",
            "latin-1": "é",
            "look-alike": "inѕ_1",
            "separator": "\u2028",
            "right to left": "\u202e",
            "null": None,
            "number": 1,
            "boolean": True,
            "list": ["ins_1"],
            "object": {"ins_1": 1},
        }
    )
    def test_key_id_is_printable_text(self, case: Any) -> None:
        """KEY-05: control bytes, other types and 8 KB are refused before anybody looks for a key."""
        with pytest.raises(TokenRefused) as refused:
            tokens.parse(token(head=header(kid=case)))
        assert refused.value.reason == "token-invalid"

    @cases({"oiat": {"oiat": 1}, "x5t": {"x5t": "abc"}, "iss": {"iss": "x"}, "others": {"": None, "a": {"b": [1, 2]}}})
    def test_unknown_members_are_ignored(self, case: dict[str, Any]) -> None:
        """TOK-14, F-24: newer Clerk does not break us."""
        assert judged(token(head=header(**case))) == "good"


class TestSpelling:
    """TOK-04: one token has one spelling."""

    # Every part ends in bits to spare, and has both letters in which the alphabets differ.
    HEAD = {**header(), "x": ">>>>>?????", "pad": ""}
    BODY = {"x": ">>>>>?????", "pad": ""}

    @classmethod
    def parts(cls, spare: int) -> list[str]:
        """Return a good token whose parts all leave this many characters open at the end: 1 or 2."""
        for number in range(200):
            head = {**cls.HEAD, "pad": "p" * (number % 3)}
            body = claims(**cls.BODY | {"pad": "p" * (number // 3 % 3), "n": number})
            parts = mint(head, body, KEY).split(".")
            fits = all(-len(part) % 4 == spare for part in parts[:2])
            if fits and all("-" in part and "_" in part for part in parts):
                return parts
        raise AssertionError("no such token")

    @pytest.mark.parametrize("part", range(3), ids=["header", "payload", "signature"])
    @pytest.mark.parametrize("spare", [1, 2])
    @cases(
        {
            "padding": lambda text: text + "=" * (-len(text) % 4),
            "one equals sign": lambda text: text + "=",
            "percent padding": lambda text: text + "%3D",
            "plus": lambda text: text.replace("-", "+"),
            "slash": lambda text: text.replace("_", "/"),
            "space in front": lambda text: " " + text,
            "space after": lambda text: text + " ",
            "space inside": lambda text: text[:5] + " " + text[5:],
            "newline after": lambda text: text + "\n",
            "newline inside": lambda text: text[:4] + "\n" + text[4:],
            "tab": lambda text: text + "\t",
            "nul": lambda text: text + "\x00",
            "no-break space": lambda text: text + "\xa0",
            "full width": lambda text: text[:-1] + chr(ord(text[-1]) + 0xFEE0),
            "a letter more": lambda text: text + "A" * (1 + (-len(text) % 4 - 1)) + "A",
            "cut to one letter": lambda text: text[: len(text) // 4 * 4 + 1],
            "comma": lambda text: text + ",",
            "quotes": lambda text: f'"{text}"',
            "percent": lambda text: f"%{ord(text[0]):x}{text[1:]}",
            "empty": lambda text: "",
        }
    )
    def test_other_spellings_are_refused(self, case: Callable[[str], str], spare: int, part: int) -> None:
        parts = self.parts(spare)
        assert judged(".".join(parts)) == "good"
        parts[part] = case(parts[part])
        assert judged(".".join(parts)) == "token-invalid"

    @pytest.mark.parametrize("part", range(3), ids=["header", "payload", "signature"])
    @pytest.mark.parametrize("spare", [1, 2])
    def test_spare_bits_are_noughts(self, spare: int, part: int) -> None:
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        parts = self.parts(spare)
        text = parts[part]
        free = 4 ** (-len(text) % 4)
        at = alphabet.index(text[-1])
        assert at % free == 0
        for other in range(at + 1, at + free):
            parts[part] = text[:-1] + alphabet[other]
            same = base64.urlsafe_b64decode(parts[part] + "==") == base64.urlsafe_b64decode(text + "==")
            assert same
            assert judged(".".join(parts)) == "token-invalid"

    @cases(
        {
            "space in front": f" {GOOD}",
            "newline after": f"{GOOD}\n",
            "mark in front": f"\ufeff{GOOD}",
            "fourth part": f"{GOOD}.",
            "dot in front": f".{GOOD}",
            "other dots": GOOD.replace(".", "\u2024"),
            "percent dots": GOOD.replace(".", "%2E"),
            "two dots": GOOD.replace(".", ".."),
        }
    )
    def test_the_whole(self, case: str) -> None:
        assert judged(case) == "token-invalid"


def with_member(raw: bytes, base: Callable[[], Mapping[str, Any]] = claims) -> bytes:
    """Return good members with one more, written as it stands."""
    return text_of(base())[:-1] + b"," + raw + b"}"


class TestJson:
    AMBIGUOUS: Mapping[str, bytes] = {
        "name twice": b'"a":1,"a":1',
        "name twice in an object": b'"a":{"b":1,"b":2}',
        "name twice in a list": b'"a":[{"b":1,"b":2}]',
        "name twice, once escaped": b'"ab":1,"\\u0061b":2',
        "empty name twice": b'"":1,"":2',
        "NaN": b'"a":NaN',
        "Infinity": b'"a":Infinity',
        "-Infinity": b'"a":-Infinity',
        "constant in a list": b'"a":[[NaN]]',
        "beyond a number": b'"a":1e999',
        "below a number": b'"a":-1e999',
        "digits without end": b'"a":' + b"9" * 5000,
        "half of a pair": b'"a":"\\ud800"',
        "other half of a pair": b'"a":"\\udc00"',
        "pair the wrong way": b'"a":"\\udc00\\ud800"',
        "half in a name": b'"\\ud800":1',
        "half, deep": b'"a":[{"b":"x\\uD83D"}]',
        "half as bytes": b'"a":"\xed\xa0\x80"',
        "pair as bytes": b'"a":"\xed\xa0\xbd\xed\xb8\x80"',
        "latin-1": b'"a":"\xe9"',
        "overlong": b'"a":"\xc0\xaf"',
        "beyond Unicode": b'"a":"\xf4\x90\x80\x80"',
        "cut off": b'"a":"\xe2\x82"',
        "control character": b'"a":"\x01"',
        "newline in text": b'"a":"\n"',
        "nul in text": b'"a":"\x00"',
        "no such escape": b'"a":"\\x41"',
        "comma at the end": b'"a":1,',
        "comma in a list": b'"a":[1,]',
        "single quotes": b"'a':1",
        "no quotes": b"a:1",
        "comment": b'"a":1/**/',
        "nought in front": b'"a":01',
        "plus": b'"a":+1',
        "hexadecimal": b'"a":0x10',
        "point without digits": b'"a":1.',
        "underscore": b'"a":1_0',
        "Python's constants": b'"a":None',
        "no value": b'"a":',
        "deeper": b'"a":' + b"[" * 16 + b"]" * 16,
        "deeper objects": b'"a":' + b'{"a":' * 16 + b"0" + b"}" * 16,
        "hidden depth": b'"a":"\\"]]]]",' + b'"b":' + b"[" * 16 + b"]" * 16,
        "far deeper": b'"a":' + b"[" * 5000 + b"]" * 5000,
    }

    @cases(AMBIGUOUS)
    def test_ambiguous_payload(self, case: bytes) -> None:
        """TOK-05: genuinely signed, so only this rule can refuse; RecursionError included."""
        assert judged(mint(header(), with_member(case), KEY)) == "token-invalid"

    @cases(AMBIGUOUS)
    def test_ambiguous_header(self, case: bytes) -> None:
        """TOK-05"""
        assert judged(mint(with_member(case, header), claims(), KEY)) == "token-invalid"

    @cases(
        {
            "sub": b'{"sub":"user_evil",' + text_of(claims())[1:],
            "exp": with_member(b'"exp":9999999999'),
            "sub, escaped": with_member(b'"s\\u0075b":"user_evil"'),
        }
    )
    def test_a_claim_twice(self, case: bytes) -> None:
        """TOK-05: parsers disagree on which of two counts, so neither does."""
        assert judged(mint(header(), case, KEY)) == "token-invalid"

    WHOLE: Mapping[str, Callable[[bytes], bytes]] = {
        "mark in front": lambda raw: b"\xef\xbb\xbf" + raw,
        "UTF-16": lambda raw: raw.decode().encode("utf-16"),
        "UTF-16 without a mark": lambda raw: raw.decode().encode("utf-16-le"),
        "UTF-32": lambda raw: raw.decode().encode("utf-32"),
        "UTF-7 mark": lambda raw: b"+/v8-" + raw,
        "list": lambda raw: b"[" + raw + b"]",
        "text": lambda raw: json.dumps(raw.decode()).encode(),
        "number": lambda raw: b"1",
        "null": lambda raw: b"null",
        "true": lambda raw: b"true",
        "pairs": lambda raw: json.dumps(list(json.loads(raw).items())).encode(),
        "blank": lambda raw: b" ",
        "two objects": lambda raw: raw + raw,
        "nul after": lambda raw: raw + b"\x00",
        "letter after": lambda raw: raw + b"x",
        "no-break space after": lambda raw: raw + b"\xc2\xa0",
        "form feed in front": lambda raw: b"\x0c" + raw,
        "cut off": lambda raw: raw[:-1],
        "brackets only": lambda raw: b"[" * 9000,
        "braces only": lambda raw: b"{" * 9000,
    }

    @cases(WHOLE)
    def test_odd_payload(self, case: Callable[[bytes], bytes]) -> None:
        """TOK-05, F-22: one object in UTF-8, and nothing around it."""
        assert judged(mint(header(), case(text_of(claims())), KEY)) == "token-invalid"

    @cases(WHOLE)
    def test_odd_header(self, case: Callable[[bytes], bytes]) -> None:
        """TOK-05, F-22"""
        assert judged(mint(case(text_of(header())), claims(), KEY)) == "token-invalid"

    @cases(
        {
            "as deep as may be": b'"a":' + b"[" * 15 + b"]" * 15,
            "objects as deep as may be": b'"a":' + b'{"a":' * 15 + b"0" + b"}" * 15,
            "wide": b'"a":[' + b",".join([b"[[]]"] * 300) + b"]",
            "brackets in text": b'"a":"' + b"[{" * 300 + b'"',
            "brackets in text after a quote": b'"a":"\\"' + b"[{" * 300 + b'"',
            "brackets in text after a backslash": b'"a":"\\\\","b":"' + b"[{" * 300 + b'"',
            "brackets in a name": b'"' + b"[{" * 300 + b'":0',
            "pair, escaped": b'"a":"\\ud83d\\ude00"',
            "pair, as bytes": '"a":"😀"'.encode(),
            "nul, escaped": b'"a":"\\u0000"',
            "escapes": b'"a":"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9"',
            "numbers": b'"a":[0,-0,0.0,-1.5,1e9,1E-9,1e308]',
            "many digits": b'"a":' + b"9" * 4000,
            "same name in two objects": b'"a":{"x":1},"b":{"x":1}',
            "blanks": b' "a" : [ 1 ,\n2 ]\r\n\t',
        }
    )
    def test_unambiguous_members(self, case: bytes) -> None:
        """TOK-05, F-25: what every parser reads alike is fine, however odd."""
        assert judged(mint(header(), with_member(case), KEY)) == "good"
        assert judged(mint(with_member(case, header), claims(), KEY)) == "good"


# A whole second, far from anything: where the leeway ends is then exact.
FROZEN = 1_800_000_000


class TestTimes:
    REFUSALS: Mapping[str, str] = {
        "exp": "token-expired",
        "iat": "token-iat-in-the-future",
        "nbf": "token-not-active-yet",
    }

    @staticmethod
    def at(fraction: float, leeway: int, **offsets: float) -> str:
        """Judge, this long after a whole second, a token whose times are this far from that second."""
        times: dict[str, Any] = {"iat": -100, "exp": 100, "nbf": -110} | offsets
        times = {name: FROZEN + offset for name, offset in times.items()}
        with time_machine.travel(datetime.fromtimestamp(FROZEN + fraction, UTC), tick=False):
            return judged(token(**times), configured(CLERK_CLOCK_SKEW_IN_MS=leeway * 1000))

    @pytest.mark.parametrize("leeway", [0, 5, 60])
    @pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
    def test_edges(self, name: str, leeway: int) -> None:
        """TOK-06, F-20: exp > now − leeway; iat and nbf ≤ now + leeway; on a clock that stands still."""
        edge = -leeway if name == "exp" else leeway
        for fraction in (0.0, 0.25):
            for offset in range(edge - 6, edge + 7):
                is_good = offset > fraction + edge if name == "exp" else offset <= fraction + edge
                reason = self.at(fraction, leeway, **{name: offset})
                assert reason == ("good" if is_good else self.REFUSALS[name]), (fraction, offset)

    @pytest.mark.parametrize("leeway", [0, 5])
    @pytest.mark.parametrize("name", ["iat", "nbf"])
    def test_edges_hold_for_fractions(self, name: str, leeway: int) -> None:
        """TOK-06: half a second beyond the leeway is beyond it; 0 means 0."""
        assert self.at(0, leeway, **{name: leeway + 0.5}) == self.REFUSALS[name]
        assert self.at(0, leeway, **{name: leeway - 0.5}) == "good"

    @cases(
        {
            "expired": ({"exp": -6}, "token-expired"),
            "expired long ago": ({"exp": -3600, "iat": -3660}, "token-expired"),
            "expires within the leeway": ({"exp": -1, "iat": -60}, "good"),
            "expires now": ({"exp": 0, "iat": -60}, "good"),
            "iat within the leeway": ({"iat": 4}, "good"),
            "iat beyond the leeway": ({"iat": 30}, "token-iat-in-the-future"),
            "nbf within the leeway": ({"nbf": 4}, "good"),
            "nbf beyond the leeway": ({"nbf": 30}, "token-not-active-yet"),
            "no nbf": ({"nbf": None}, "good"),
            "born a year ago": ({"iat": -31_536_000}, "good"),
            "expires as it is born": ({"exp": 1, "iat": 1}, "good"),
            "expires before it is born": ({"exp": 2, "iat": 3}, "token-verification-failed"),
        }
    )
    def test_by_the_real_clock(self, case: tuple[dict[str, int | None], str]) -> None:
        """TOK-06, F-20: the same on a clock that runs, far enough from the edges."""
        offsets, expected = case
        now = int(time.time())
        times: dict[str, Any] = {name: ABSENT if offset is None else now + offset for name, offset in offsets.items()}
        assert judged(token(**times)) == expected

    @pytest.mark.parametrize("name", ["exp", "iat"])
    def test_required(self, name: str) -> None:
        """TOK-06: without exp a token would be good for ever."""
        missing: dict[str, Any] = {name: ABSENT}
        assert judged(token(**missing)) == "token-verification-failed"

    @pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
    @cases(
        {
            "null": None,
            "list": [],
            "list of a time": [FROZEN],
            "object": {},
            "empty": "",
            "word": "tomorrow",
            "date": "2030-01-01T00:00:00Z",
        }
    )
    def test_no_number(self, case: Any, name: str) -> None:
        """TOK-06"""
        assert judged(token(**{name: case})) == "token-verification-failed"

    @pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
    @cases(
        {
            "true": True,
            "false": False,
            "text of a time ahead": str(int(time.time()) + 3600),
            "text of a time ago": str(int(time.time()) - 3600),
            "text with an underscore": "2_000_000_000",
            "before 1970": -1,
            "half a second before 1970": -0.5,
            "year 10000": tokens.LAST_TIME + 1,
            "milliseconds": int(time.time()) * 1000,
            "year 30000": 884_541_340_800,
            "largest float": 1.7e308,
            "more than a float holds": 10**400,
        }
    )
    def test_odd_number(self, case: Any, name: str) -> None:
        """TOK-06: which reason it is depends on which check comes first; good it is not."""
        assert judged(token(**{name: case})) in {
            "token-expired",
            "token-iat-in-the-future",
            "token-not-active-yet",
            "token-verification-failed",
        }

    @cases(
        {
            "iat true": {"iat": True},
            "iat text": {"iat": str(int(time.time()))},
            "iat before 1970": {"iat": -1},
            "nbf true": {"nbf": True},
            "nbf text": {"nbf": "0"},
            "nbf before 1970": {"nbf": -1},
            "exp text": {"exp": str(int(time.time()) + 3600)},
            "exp in the year 10000": {"exp": tokens.LAST_TIME + 1},
            "exp beyond any calendar": {"exp": 1.7e308},
        }
    )
    def test_only_its_type_or_range_is_wrong(self, case: dict[str, Any]) -> None:
        """TOK-06: no other check would refuse these."""
        assert judged(token(**case)) == "token-verification-failed"

    @cases(
        {
            "fraction": {"exp": time.time() + 3600.5, "iat": time.time() - 1.5, "nbf": 0.5},
            "exponent": {"exp": 2e9, "iat": 1e9},
            "earliest": {"iat": 0, "nbf": 0},
            "latest": {"exp": tokens.LAST_TIME},
        }
    )
    def test_numbers_as_json_has_them(self, case: dict[str, Any]) -> None:
        """TOK-06: 0 to the end of year 9999, fractions allowed."""
        assert judged(token(**case)) == "good"

    def test_now_is_the_clock(self) -> None:
        with time_machine.travel(datetime.fromtimestamp(FROZEN + 0.5, UTC), tick=False):
            assert tokens.now() == FROZEN + 0.5


class TestParty:
    """TOK-07: the page that obtained the token, compared byte for byte."""

    ORIGINS = (ORIGIN, "http://localhost:3000")
    NOBODY: Mapping[str, Any] = {"absent": ABSENT, "null": None, "empty": ""}
    LOOK_ALIKES: Mapping[str, Any] = {
        "slash": f"{ORIGIN}/",
        "path": f"{ORIGIN}/app",
        "default port": f"{ORIGIN}:443",
        "no port": "http://localhost",
        "other port": "http://localhost:3001",
        "longer port": "http://localhost:30000",
        "other scheme": "http://app.example.com",
        "capital scheme": "HTTPS://app.example.com",
        "capital host": "https://App.example.com",
        "no scheme": "app.example.com",
        "scheme-relative": "//app.example.com",
        "user": "https://a@app.example.com",
        "dot": f"{ORIGIN}.",
        "longer host": f"{ORIGIN}.evil.example",
        "longer name": "https://evilapp.example.com",
        "below": "https://evil.app.example.com",
        "above": "https://example.com",
        "shorter": ORIGIN[:-1],
        "start": "https://",
        "blank after": f"{ORIGIN} ",
        "blank in front": f" {ORIGIN}",
        "newline": f"{ORIGIN}\n",
        "nul": f"{ORIGIN}\x00",
        "cyrillic": "https://аpp.example.com",
        "two": f"{ORIGIN},http://localhost:3000",
        "wildcard": "*",
        "null as text": "null",
        "None as text": "None",
        "list": [ORIGIN],
        "empty list": [],
        "object": {ORIGIN: True},
        "true": True,
        "false": False,
        "nought": 0,
    }

    @cases({origin: origin for origin in ORIGINS})
    def test_configured_party(self, case: str) -> None:
        for parties in (self.ORIGINS, list(self.ORIGINS), [None, *self.ORIGINS]):
            assert judged(token(azp=case), configured(CLERK_AUTH_PARTIES=parties)) == "good"

    @cases(LOOK_ALIKES)
    def test_look_alike(self, case: Any) -> None:
        for parties in (self.ORIGINS, [*self.ORIGINS, None]):
            reason = judged(token(azp=case), configured(CLERK_AUTH_PARTIES=parties))
            assert reason == "token-invalid-authorized-parties"

    @cases(NOBODY)
    def test_nobody_is_a_party_only_when_listed(self, case: Any) -> None:
        absent = token(azp=case)
        refused = "token-invalid-authorized-parties"
        assert judged(absent, configured(CLERK_AUTH_PARTIES=self.ORIGINS)) == refused
        assert judged(absent, configured(CLERK_AUTH_PARTIES=[ORIGIN, None])) == "good"
        assert judged(absent, configured(CLERK_AUTH_PARTIES=[None])) == "good"

    @cases({**NOBODY, **LOOK_ALIKES})
    def test_without_parties_it_is_not_compared(self, case: Any) -> None:
        """A check warns about that configuration."""
        assert judged(token(azp=case), configured(CLERK_AUTH_PARTIES=[])) == "good"

    def test_text_is_no_list(self) -> None:
        """TOK-07, CFG-02: or "https://app.example.com" would admit "https://app"."""
        with pytest.raises(ImproperlyConfigured, match="CLERK_AUTH_PARTIES"):
            configured(CLERK_AUTH_PARTIES=ORIGIN)


class TestAudience:
    """TOK-08"""

    MALFORMED: Mapping[str, Any] = {
        "null": None,
        "number": 1,
        "true": True,
        "object": {"api": 1},
        "list of a number": [1],
        "list with a number": ["api", 1],
        "list of null": [None],
        "list of a list": [["api"]],
    }
    OTHERS: Mapping[str, Any] = {
        "absent": ABSENT,
        "empty": "",
        "empty list": [],
        "list of empty": [""],
        "capital": "API",
        "blank": "api ",
        "shorter": "ap",
        "longer": "apis",
        "comma": "api,web",
        "list of others": ["ap", "i"],
    }

    @cases({"text": "api", "list": ["api"], "list with others": ["x", "api", "y"]})
    @pytest.mark.parametrize("setting", ["api", ["api"], ("api", "web"), ["web", "api"]], ids=repr)
    def test_match(self, setting: Any, case: Any) -> None:
        assert judged(token(aud=case), configured(CLERK_AUDIENCE=setting)) == "good"

    @cases({**OTHERS, **MALFORMED})
    @pytest.mark.parametrize("setting", ["api", ["api", "web"]], ids=repr)
    def test_no_match(self, setting: Any, case: Any) -> None:
        assert judged(token(aud=case), configured(CLERK_AUDIENCE=setting)) == "token-verification-failed"

    @cases(OTHERS)
    def test_well_formed_is_allowed_without_the_setting(self, case: Any) -> None:
        assert judged(token(aud=case)) == "good"

    @cases(MALFORMED)
    def test_malformed_is_refused_without_the_setting(self, case: Any) -> None:
        assert judged(token(aud=case)) == "token-verification-failed"


class TestIssuer:
    """TOK-09, TOK-16: whoever else has an instance at Clerk has tokens of the same shape."""

    OTHERS: Mapping[str, Any] = {
        "another instance": "https://clerk.other.example",
        "slash": f"{ISSUER}/",
        "other scheme": "http://clerk.example.com",
        "no scheme": "clerk.example.com",
        "port": f"{ISSUER}:443",
        "capital": ISSUER.upper(),
        "longer": f"{ISSUER}.evil.example",
        "shorter": ISSUER[:-1],
        "blank": f"{ISSUER} ",
        "empty": "",
        "null": None,
        "list": [ISSUER],
        "object": {ISSUER: 1},
        "number": 1,
        "true": True,
    }

    @cases(OTHERS)
    def test_another_issuer(self, case: Any) -> None:
        reason = judged(token(iss=case))
        assert reason == "token-invalid-issuer"
        assert judged(token(iss=case), configured(CLERK_ISSUER=[ISSUER, "https://two.example"])) == reason

    def test_absent(self) -> None:
        assert judged(token(iss=ABSENT)) == "token-verification-failed"

    @cases({**OTHERS, "absent": ABSENT, "ours": ISSUER})
    def test_unknown_is_not_compared(self, case: Any) -> None:
        assert judged(token(iss=case), configured(CLERK_PUBLISHABLE_KEY=None)) == "good"

    @cases({"text": "https://two.example", "list": [ISSUER, "https://two.example"], "tuple": ("https://two.example",)})
    def test_setting_decides(self, case: Any) -> None:
        config = configured(CLERK_ISSUER=case)
        assert judged(token(iss="https://two.example"), config) == "good"
        assert judged(token(), config) == ("good" if ISSUER in case else "token-invalid-issuer")


class TestIdentity:
    """TOK-10: what is not exactly an id never gets near a path or a query."""

    @cases({"shortest": "user_a", "usual": USER_ID, "digits": "user_1", "longest": "user_" + "a" * 250})
    def test_user_id(self, case: str) -> None:
        assert judged(token(sub=case)) == "good"

    @cases(
        {
            "absent": ABSENT,
            "null": None,
            "empty": "",
            "number": 1,
            "true": True,
            "list": [USER_ID],
            "object": {"id": USER_ID},
            "prefix alone": "user_",
            "no prefix": "2ABC",
            "capital prefix": "User_2ABC",
            "blank in front": f" {USER_ID}",
            "too long": "user_" + "a" * 251,
            "path": "../organizations",
            "path in an id": "user_../organizations",
            "slash": "user_a/b",
            "query": "user_a?limit=1",
            "fragment": "user_a#b",
            "percent": "user_%2e%2e",
            "underscore": "user_a_b",
            "hyphen": "user_a-b",
            "dot": "user_a.b",
            "blank": "user_a b",
            "nul": "user_a\x00",
            "newline": "user_a\n",
            "quote": "user_a'",
            "letter beyond ASCII": "user_é",
            "digit beyond ASCII": "user_١",
            "another class": "org_2ABC",
            "actor": "dash_2ABC",
        }
    )
    def test_no_user_id(self, case: Any) -> None:
        assert judged(token(sub=case)) == "token-verification-failed"

    @cases({"shortest": "s", "usual": SESSION_ID, "underscores": "_a_1_", "longest": "s" * 255})
    def test_session_id(self, case: str) -> None:
        assert judged(token(sid=case)) == "good"

    @cases(
        {
            "absent": ABSENT,
            "null": None,
            "empty": "",
            "number": 1,
            "true": True,
            "list": [SESSION_ID],
            "object": {},
            "too long": "s" * 256,
            "path": "../users",
            "slash": "a/b",
            "hyphen": "a-b",
            "dot": "a.b",
            "blank": "a b",
            "nul": "a\x00",
            "newline": "a\n",
            "letter beyond ASCII": "é",
        }
    )
    def test_no_session_id(self, case: Any) -> None:
        assert judged(token(sid=case)) == "token-verification-failed"


class TestClass:
    """TOK-11: all classes are signed with the same key, so the class is looked at."""

    @cases({"session": SESSION_CATEGORY, "opted out": IGNORE_CATEGORY, "before categories": ABSENT})
    def test_session_categories(self, case: Any) -> None:
        assert judged(token(head=header(cat=case))) == "good"

    @cases(
        {
            "template": TEMPLATE_CATEGORY,
            "machine": MACHINE_CATEGORY,
            "unknown": "cl_B7d4PD444AAA",
            "empty": "",
            "small letters": SESSION_CATEGORY.lower(),
            "blank": f"{SESSION_CATEGORY} ",
            "start": SESSION_CATEGORY[:-1],
            "null": None,
            "list": [SESSION_CATEGORY],
            "object": {},
            "false": False,
            "number": 0,
        }
    )
    def test_other_categories(self, case: Any) -> None:
        with pytest.raises(TokenRefused) as refused:
            tokens.parse(token(head=header(cat=case)))
        assert refused.value.reason == "token-type-mismatch"

    @cases({"JWT": "JWT", "absent": ABSENT})
    def test_type(self, case: Any) -> None:
        assert judged(token(head=header(typ=case))) == "good"

    @cases(
        {
            "oauth": "at+jwt",
            "oauth, long": "application/at+jwt",
            "small letters": "jwt",
            "long": "application/jwt",
            "security event": "secevent+jwt",
            "logout": "logout+jwt",
            "blank": "JWT ",
            "empty": "",
            "null": None,
            "list": ["JWT"],
            "true": True,
        }
    )
    def test_other_types(self, case: Any) -> None:
        with pytest.raises(TokenRefused) as refused:
            tokens.parse(token(head=header(typ=case)))
        assert refused.value.reason == "token-type-mismatch"

    CLASSES: Mapping[str, tuple[dict[str, Any], dict[str, Any], str]] = {
        "template without session": ({"cat": TEMPLATE_CATEGORY}, {"sid": ABSENT}, "token-type-mismatch"),
        "template of old": ({"cat": ABSENT}, {"sid": ABSENT}, "token-verification-failed"),
        "machine": ({"cat": MACHINE_CATEGORY}, {"sub": "mch_2ABC", "sid": ABSENT}, "token-type-mismatch"),
        "machine of old": ({"cat": ABSENT}, {"sub": "mch_2ABC"}, "token-type-mismatch"),
        "machine as a session": ({}, {"sub": "mch_2ABC"}, "token-type-mismatch"),
        "oauth": ({"typ": "at+jwt", "cat": ABSENT}, {"client_id": "c", "sid": ABSENT}, "token-type-mismatch"),
        "oauth with a session": ({"typ": "at+jwt"}, {}, "token-type-mismatch"),
        "ticket": ({"cat": ABSENT}, {"st": "sign_in_token", "sid": ABSENT, "iat": ABSENT}, "token-verification-failed"),
        "handshake": (
            {},
            {"handshake": ["__session=x"], "sub": ABSENT, "sid": ABSENT, "exp": ABSENT, "iat": ABSENT},
            "token-verification-failed",
        ),
        "handshake with times": ({}, {"handshake": [], "sub": ABSENT, "sid": ABSENT}, "token-verification-failed"),
    }

    @cases(CLASSES)
    def test_class(self, case: tuple[dict[str, Any], dict[str, Any], str]) -> None:
        """In the header and in a cookie alike: both come here."""
        head, changes, expected = case
        assert judged(token(head=header(**head), **changes)) == expected


class TestOtherClaims:
    @cases(
        {
            "model fields": {"is_staff": True, "is_superuser": True, "id": 1, "pk": 1, "password": "x", "groups": [1]},
            "unknown": {"zzz": {"deep": [1, {"er": None}]}, "": "", "\u0000": "\u0000", "__class__": "x"},
            "version 2": {"v": 2, "o": {"id": "org_1", "rol": "admin", "slg": "acme"}, "fea": "o:docs", "pla": "u:pro"},
            "version 1": {"v": ABSENT, "sts": ABSENT, "jti": ABSENT, "org_id": "org_1", "org_role": "admin"},
            "unknown version": {"v": 99, "o": "?"},
            "pending": {"sts": "pending"},
            "actor": {"act": {"sub": "user_other"}},
            "odd actor": {"act": []},
            "odd factor age": {"fva": "?"},
            "many organisations": {"orgs": {f"org_{number}": "org:admin" for number in range(300)}},
        }
    )
    def test_come_through_as_they_are(self, case: dict[str, Any]) -> None:
        """TOK-12, TOK-13, TOK-14, F-24, F-25: ignored here; status and actor are ClerkAuth's business."""
        minted = claims(**case)
        assert tokens.verify(tokens.parse(mint(header(), minted, KEY)), public_key(), CONFIG) == minted


class TestOrder:
    """TOK-15: length, shape, header, signature, claims. What is wrong later does not show."""

    HEADERS: Mapping[str, tuple[dict[str, Any], str]] = {
        "alg": ({"alg": "none"}, "token-invalid-algorithm"),
        "crit": ({"crit": ["exp"]}, "token-invalid"),
        "kid": ({"kid": "\x00"}, "token-invalid"),
        "cat": ({"cat": TEMPLATE_CATEGORY}, "token-type-mismatch"),
        "typ": ({"typ": "at+jwt"}, "token-type-mismatch"),
    }
    CLAIMS: Mapping[str, tuple[dict[str, Any], str]] = {
        "expired": ({"exp": 1000, "iat": 900}, "token-expired"),
        "not yet": ({"nbf": 9_999_999_999}, "token-not-active-yet"),
        "from the future": ({"iat": 9_999_999_998, "exp": 9_999_999_999}, "token-iat-in-the-future"),
        "upside down": ({"iat": 1000, "exp": 900}, "token-expired"),
        "odd time": ({"iat": True}, "token-verification-failed"),
        "no exp": ({"exp": ABSENT}, "token-verification-failed"),
        "issuer": ({"iss": "https://clerk.other.example"}, "token-invalid-issuer"),
        "no issuer": ({"iss": ABSENT}, "token-verification-failed"),
        "party": ({"azp": "https://evil.example"}, "token-invalid-authorized-parties"),
        "audience": ({"aud": 1}, "token-verification-failed"),
        "subject": ({"sub": "../x"}, "token-verification-failed"),
        "machine": ({"sub": "mch_1"}, "token-type-mismatch"),
        "session": ({"sid": ABSENT}, "token-verification-failed"),
    }

    @pytest.mark.parametrize("head", [*HEADERS.values(), ({}, "good")], ids=[*HEADERS, "good"])
    @pytest.mark.parametrize("shape", ["too long", "padded", "good"])
    def test_earliest_fault_is_told(self, shape: str, head: tuple[dict[str, Any], str]) -> None:
        for key in (KEY, OTHER_KEY):
            for changes, reason in [*self.CLAIMS.values(), ({}, "good")]:
                text = token(key, header(**head[0]), **changes)
                if shape == "too long":
                    text += "A" * MAX_TOKEN_LENGTH
                elif shape == "padded":
                    text += "="
                stages = (
                    "good" if shape == "good" else "token-invalid",
                    head[1],
                    "good" if key is KEY else "token-invalid-signature",
                    reason,
                )
                assert judged(text) == next((told for told in stages if told != "good"), "good")

    def test_a_forged_signature_hides_the_claims(self) -> None:
        """To whom the signature is not genuine, every token is refused in the same words."""
        words = set()
        for changes, _ in [*self.CLAIMS.values(), ({}, "good")]:
            with pytest.raises(TokenRefused) as refused:
                tokens.verify(tokens.parse(token(OTHER_KEY, **changes)), public_key(), CONFIG)
            words.add((refused.value.reason, str(refused.value), refused.value.__cause__))
        assert words == {("token-invalid-signature", "token-invalid-signature", None)}

    @cases({name: changes for name, (changes, _) in CLAIMS.items()})
    def test_a_refusal_quotes_no_claim(self, case: dict[str, Any]) -> None:
        """LOG-01, LOG-02: nor the token, nor what is configured."""
        canary = "https://canary.example"
        text = token(**{"jti": "canary", "email": "canary@example.com", **case})
        with pytest.raises(TokenRefused) as refused:
            tokens.verify(tokens.parse(text), public_key(), configured(CLERK_AUTH_PARTIES=[ORIGIN, canary]))
        for hidden in ("canary", text, ORIGIN, ISSUER, USER_ID, "evil", "other.example", "../x"):
            assert hidden not in f"{refused.value!r} {refused.value}"

    @cases({"alg": {"alg": "x" * 5000}, "cat": {"cat": ["y" * 5000]}, "typ": {"typ": "\x1b[31m\n" * 99}})
    def test_details_are_safe_to_log(self, case: dict[str, Any]) -> None:
        """LOG-03: short, on one line, without control characters."""
        with pytest.raises(TokenRefused) as refused:
            tokens.parse(token(head=header(**case)))
        assert "is " in str(refused.value)
        assert len(str(refused.value)) <= 120
        assert str(refused.value).isprintable()


class TestForeign:
    """Whether a bearer token is another authentication class's business."""

    UNREADABLE: Mapping[str, str] = {
        "not base64url": "a.b.c",
        "not canonical": ".".join((GOOD.split(".")[0], "eyJ9", "AAAA")),
        "not an object": as_payload(b"[]"),
        "not JSON": as_payload(b"{"),
        "issuer twice": as_payload(b'{"iss":"a","iss":"b"}'),
    }

    @cases({"ours": GOOD, "forged": token(OTHER_KEY), "expired": token(exp=1000, iat=900)})
    def test_our_issuer(self, case: str) -> None:
        assert not tokens.is_foreign(case, CONFIG)

    @cases(
        {
            "another issuer": "https://login.example",
            "slash": f"{ISSUER}/",
            "absent": ABSENT,
            "null": None,
            "list": [ISSUER],
            "object": {},
        }
    )
    def test_another_issuer(self, case: Any) -> None:
        assert tokens.is_foreign(token(iss=case), CONFIG)
        assert not tokens.is_foreign(token(iss=case), configured(CLERK_PUBLISHABLE_KEY=None))

    @cases({"one of two": [ISSUER, "https://two.example"], "the other of two": ["https://two.example", ISSUER]})
    def test_one_of_our_issuers(self, case: list[str]) -> None:
        assert not tokens.is_foreign(GOOD, configured(CLERK_ISSUER=case))

    @cases(
        {"word": "abc", "two parts": "a.b", "five parts": "a.b.c.d.e", "hexadecimal": "0123abcd", "padded": "YWJj=="}
    )
    def test_no_jwt(self, case: str) -> None:
        assert tokens.is_foreign(case, CONFIG)
        assert tokens.is_foreign(case, configured(CLERK_PUBLISHABLE_KEY=None))

    @cases({prefix: f"{prefix}0123456789" for prefix in ("ak_", "oat_", "mt_", "m2m_")})
    def test_clerks_machine_tokens_are_ours(self, case: str) -> None:
        """MCH-01: refused by us, and not handed on."""
        assert not tokens.is_foreign(case, CONFIG)
        assert tokens.is_foreign(case.upper(), CONFIG)
        assert judged(case) == "token-invalid"

    @cases({**UNREADABLE, "too long": "a" * (MAX_TOKEN_LENGTH + 1)})
    def test_what_cannot_be_read_is_not_plainly_foreign(self, case: str) -> None:
        assert not tokens.is_foreign(case, CONFIG)
        assert judged(case) == "token-invalid"

    def test_longest_is_looked_at(self) -> None:
        assert tokens.is_foreign("a" * MAX_TOKEN_LENGTH, CONFIG)


class TestConfiguredKey:
    """KEY-06: CLERK_JWT_KEY in the spellings that dashboards, shells and .env files leave it in."""

    @cases(
        {
            "as copied": lambda pem: pem,
            "literal newlines": lambda pem: pem.replace("\n", "\\n"),
            "one line": lambda pem: pem.replace("\n", ""),
            "one line with blanks": lambda pem: pem.replace("\n", " "),
            "other newlines": lambda pem: pem.replace("\n", "\r\n"),
            "blank lines around": lambda pem: f"\n\n {pem} \n",
            "indented": lambda pem: pem.replace("\n", "\n    "),
        }
    )
    def test_verifies_in_every_spelling(self, case: Callable[[str], str]) -> None:
        pem = configured(CLERK_JWT_KEY=case(KEY.public_pem)).jwt_key
        assert pem is not None
        assert tokens.verify(tokens.parse(GOOD), parse_pem(pem), CONFIG)["sub"] == USER_ID

    def test_a_private_key_is_refused_and_not_shown(self) -> None:
        private = KEY.private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        with pytest.raises(ImproperlyConfigured) as refused:
            configured(CLERK_JWT_KEY=private)
        assert private.splitlines()[1][:16] not in str(refused.value)


def test_two_configurations_with_the_same_key_id() -> None:
    """TOK-16: a token of another instance that happens to have our key id, judged by both configurations."""
    theirs = configured(CLERK_PUBLISHABLE_KEY=None, CLERK_ISSUER="https://clerk.other.example")
    foreign = mint(header(kid=KEY.kid), claims(iss="https://clerk.other.example"), OTHER_KEY)
    assert judged(foreign, theirs, OTHER_KEY) == "good"
    assert judged(foreign, CONFIG, KEY) == "token-invalid-signature"
    assert judged(foreign, CONFIG, OTHER_KEY) == "token-invalid-issuer"
    assert judged(GOOD, theirs, KEY) == "token-invalid-issuer"


def test_publishable_key_of_these_tests() -> None:
    assert CONFIG.issuers == (ISSUER,)
    assert CONFIG.publishable_key is not None
    assert CONFIG.publishable_key.text == PUBLISHABLE_KEY


class TestHandshakeTokens:
    """RED-06: signed as session tokens are, by the same rules of signature and header, and of no times."""

    def directives(self, text: str, key: Any = KEY) -> Any:
        return tokens.verify_handshake(tokens.parse(text), public_key(key))

    @cases(
        {
            "as Clerk writes it": {},
            "expired": {"exp": 1},
            "from the future": {"iat": 4_000_000_000, "nbf": 4_000_000_000},
            "odd times": {"exp": "x", "iat": None, "nbf": []},
            "other parties": {"azp": "https://evil.example", "aud": "x", "iss": "https://elsewhere.example"},
            "odd parties": {"azp": 5, "aud": 5, "iss": 5},
            "no subject": {"sub": 5, "jti": 5, "sid": None},
        }
    )
    def test_only_the_signature_counts(self, case: dict[str, Any]) -> None:
        assert self.directives(mint(header(), {"handshake": ["a=b", 5], **case}, KEY)) == ["a=b", 5]

    @cases({"absent": {}, "text": {"handshake": "a=b"}, "object": {"handshake": {"0": "a=b"}}})
    def test_without_a_list_it_is_none(self, case: dict[str, Any]) -> None:
        with pytest.raises(TokenRefused) as caught:
            self.directives(mint(header(), case, KEY))
        assert caught.value.reason == "token-invalid"

    def test_a_foreign_signature(self) -> None:
        with pytest.raises(TokenRefused) as caught:
            self.directives(mint(header(), {"handshake": []}, OTHER_KEY))
        assert caught.value.reason == "token-invalid-signature"

    @cases(
        {
            "template": {"cat": TEMPLATE_CATEGORY},
            "machine": {"cat": MACHINE_CATEGORY},
            "alg none": {"alg": "none"},
            "another alg": {"alg": "RS384"},
            "another typ": {"typ": "at+jwt"},
            "crit": {"crit": ["exp"]},
            "address of a key": {"jku": "https://evil.example/jwks"},
        }
    )
    def test_the_header_obeys_the_rules_of_session_tokens(self, case: dict[str, Any]) -> None:
        with pytest.raises(TokenRefused):
            self.directives(mint(header(**case), {"handshake": []}, KEY))

    @cases({"session": SESSION_CATEGORY, "opted out": IGNORE_CATEGORY, "before categories": ABSENT})
    def test_its_categories(self, case: Any) -> None:
        assert self.directives(mint(header(cat=case), {"handshake": []}, KEY)) == []


@pytest.mark.parametrize(
    ("seconds_off", "verdict"),
    [(-80_000, "good"), (-90_000, "token-expired"), (80_000, "good"), (90_000, "token-iat-in-the-future")],
)
def test_another_leeway_counts_for_all_times(seconds_off: int, verdict: str) -> None:
    """For sessions that come back from Clerk to a machine with a wrong clock, on development instances."""
    then: Any = int(time.time()) + seconds_off
    parsed = tokens.parse(token(nbf=ABSENT, iat=then, exp=then + 1))
    if verdict == "good":
        assert tokens.verify(parsed, public_key(), CONFIG, leeway=86_400)["iat"] == then
    else:
        with pytest.raises(TokenRefused) as caught:
            tokens.verify(parsed, public_key(), CONFIG, leeway=86_400)
        assert caught.value.reason == verdict
