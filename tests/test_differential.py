"""
Four judges over the same tokens: ours, a second one written from the rules alone, PyJWT alone, and Clerk's own SDK.

Ours and the second must agree on everything. PyJWT and the SDK are more lenient and, in places, stricter; each
difference stands in the table with its reason, and one that does not is a bug.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
import time_machine
from clerk_backend_api.security.types import TokenVerificationError, VerifyTokenOptions
from clerk_backend_api.security.verifytoken import verify_token
from hypothesis import given
from hypothesis import strategies as st

from clerk_views import tokens
from clerk_views.conf import Config
from clerk_views.exceptions import TokenRefused
from clerk_views.testing.minting import IGNORE_CATEGORY, MACHINE_CATEGORY, SESSION_CATEGORY, TEMPLATE_CATEGORY, mint
from tests import strict_verifier
from tests.minted import (
    ABSENT,
    CONFIG,
    ISSUER,
    KEY,
    ORIGIN,
    OTHER_KEY,
    claims,
    configured,
    header,
    public_key,
    text_of,
    token,
)

PARTIES_UNSET = configured(CLERK_AUTH_PARTIES=[])
ISSUER_UNKNOWN = configured(CLERK_PUBLISHABLE_KEY=None)
NATIVE = configured(CLERK_AUTH_PARTIES=[ORIGIN, None])
AUDIENCE = configured(CLERK_AUDIENCE=["api", "web"])
NO_LEEWAY = configured(CLERK_CLOCK_SKEW_IN_MS=0)

# How PyJWT before 2.15 says no to some of these, and the SDK with it. From ours it would be a bug.
CRASHES = (TypeError, RecursionError)
PADDING_IS_REFUSED = tuple(int(part) for part in jwt.__version__.split(".")[:2]) >= (2, 14)


def ours(text: str, config: Config) -> Any:
    """Return the claims, or the stage at which the token is refused: "signature", or None for any other."""
    try:
        return tokens.verify(tokens.parse(text), public_key(), config)
    except TokenRefused as refused:
        return "signature" if refused.reason == "token-invalid-signature" else None


def second(text: str, config: Config) -> Any:
    numbers = public_key().public_numbers()
    rules = strict_verifier.Rules(
        numbers.n, numbers.e, config.issuers, config.auth_parties, config.audience, config.clock_skew
    )
    try:
        return strict_verifier.judge(text, rules, time.time())
    except strict_verifier.Refused as refused:
        return "signature" if refused.stage == "signature" else None


def pyjwt_accepts(text: str, config: Config) -> bool:
    try:
        jwt.decode(
            text,
            public_key(),
            algorithms=["RS256"],
            audience=config.audience or None,
            issuer=config.issuers or None,
            leeway=config.clock_skew,
        )
    except (jwt.PyJWTError, *CRASHES):
        return False
    return True


def sdk_accepts(text: str, config: Config) -> bool:
    options = VerifyTokenOptions(
        audience=list(config.audience) or None,
        authorized_parties=[party for party in config.auth_parties if party is not None] or None,
        clock_skew_in_ms=int(config.clock_skew * 1000),
        jwt_key=KEY.public_pem,
    )
    try:
        verify_token(text, options)
    except (TokenVerificationError, *CRASHES):
        return False
    return True


class Case:
    """
    A token, and who says yes to it where that is not everybody or nobody.

    Args:
        text: The token, or how to make it where it must be new.
        yes: The judges that accept it, of "us" (the second verifier included), "pyjwt" and "sdk".
        why: Why they do not agree.
    """

    def __init__(self, text: str | Callable[[], str], yes: str = "", why: str = "", config: Config = CONFIG) -> None:
        self._text, self.yes, self.why, self.config = text, set(yes.split()), why, config

    @property
    def text(self) -> str:
        return self._text if isinstance(self._text, str) else self._text()


def upside_down() -> str:
    """Return a token that ends before it begins, though neither is far from now."""
    now = int(time.time())
    return token(exp=now + 2, iat=now + 4)


def of_header(**members: Any) -> str:
    return token(head=header(**members))


def of_payload(raw: bytes) -> str:
    """Return a good token with one more member, written as it stands."""
    return mint(header(), text_of(claims())[:-1] + b"," + raw + b"}", KEY)


ALL = "us pyjwt sdk"
LENIENT = "pyjwt sdk"

CLASS = "they do not look at the class of a token: all are signed with the same key (TOK-11)"
MEMBERS = "they ignore members that no session token has; we refuse what we do not understand (TOK-02, TOK-03)"
REQUIRED = "they check a claim only where there is one (TOK-06, TOK-10)"
CONVERTED = "they convert with int(): true is 1, and text counts as the number it shows (TOK-06)"
RANGE = "they know no last time; ours must fit Python's calendar (TOK-06)"
IDENTITY = "they take any text for a subject; ours becomes part of a path and of a query (TOK-10)"
JSON = "they read JSON as Python does: the last of two names counts, NaN is a number, depth is free (TOK-05)"
PARTIES = "PyJWT knows nothing of parties (TOK-07)"
ISSUERS = "the SDK never compares the issuer (TOK-09)"
AUD_UNSET = "they refuse any audience when none is configured; Clerk's other SDKs do not, nor do we (TOK-08)"
AUD_FALSY = "they take what is empty or nought for absent; we ask for text or a list of texts (TOK-08)"
LENGTH = "they know no longest token (SRC-07)"

VERY_DEEP = b'"a":' + b"[" * 5000 + b"]" * 5000


def is_parsed(member: bytes) -> bool:
    try:
        json.loads(b"{" + member + b"}")
    except RecursionError:
        return False
    return True


CASES: Mapping[str, Case] = {
    "good": Case(token(), ALL),
    "good without kid": Case(of_header(kid=ABSENT), ALL),
    "good, version 1": Case(token(v=ABSENT, sts=ABSENT, jti=ABSENT), ALL),
    "good, opted out of categories": Case(of_header(cat=IGNORE_CATEGORY), ALL),
    "good, before categories": Case(of_header(cat=ABSENT, typ=ABSENT), ALL),
    "good, pending": Case(token(sts="pending"), ALL),
    "good, impersonated": Case(token(act={"sub": "user_other"}), ALL),
    "good, unknown claims": Case(token(is_staff=True, zzz=[{}]), ALL),
    "good, unknown header": Case(of_header(oiat=1), ALL),
    "good audience": Case(token(aud=["web"]), ALL, config=AUDIENCE),
    "good, no leeway": Case(token(), ALL, config=NO_LEEWAY),
    "good, parties unset": Case(token(azp="https://evil.example"), ALL, config=PARTIES_UNSET),
    "good, within the leeway": Case(token(iat=int(time.time()) + 4), ALL),
    # Shape and spelling
    "padded": Case(token() + "=")
    if PADDING_IS_REFUSED
    else Case(token() + "=", LENIENT, "PyJWT took padding before 2.14 (TOK-04)"),
    "two parts": Case(token().rpartition(".")[0]),
    "four parts": Case(token() + ".a"),
    "blank": Case(" " + token()),
    "empty signature": Case(token().rpartition(".")[0] + "."),
    "too long": Case(token(orgs="o" * 13_000), LENIENT, LENGTH),
    # JSON
    "name twice": Case(of_payload(b'"a":1,"a":2'), LENIENT, JSON),
    "subject twice": Case(of_payload(b'"sub":"user_evil"'), LENIENT, JSON),
    "NaN": Case(of_payload(b'"a":NaN'), LENIENT, JSON),
    "beyond a number": Case(of_payload(b'"a":1e999'), LENIENT, JSON),
    "half a character": Case(of_payload(b'"a":"\\ud800"'), LENIENT, JSON),
    "deep": Case(of_payload(b'"a":' + b"[" * 16 + b"]" * 16), LENIENT, JSON),
    "UTF-16": Case(mint(header(), text_of(claims()).decode().encode("utf-16"), KEY), LENIENT, JSON),
    "mark in front": Case(mint(header(), b"\xef\xbb\xbf" + text_of(claims()), KEY), LENIENT, JSON),
    # How deep the standard library's parser goes differs from one Python to the next.
    "very deep": Case(of_payload(VERY_DEEP), *((LENIENT, JSON) if is_parsed(VERY_DEEP) else ())),
    "not an object": Case(mint(header(), b"[]", KEY)),
    "not JSON": Case(mint(header(), b"{", KEY)),
    "not UTF-8": Case(of_payload(b'"a":"\xff"')),
    "comma at the end": Case(mint(header(), text_of(claims())[:-1] + b",}", KEY)),
    # Header
    "alg none": Case(of_header(alg="none")),
    "alg absent": Case(of_header(alg=ABSENT)),
    "alg HS256": Case(of_header(alg="HS256")),
    "alg RS512": Case(of_header(alg="RS512")),
    "alg small": Case(of_header(alg="rs256")),
    "crit": Case(of_header(crit=["exp"])),
    "crit, but null": Case(of_header(crit=None)),
    "zip": Case(of_header(zip="DEF"), LENIENT, MEMBERS),
    "cty": Case(of_header(cty="JWT"), LENIENT, MEMBERS),
    "enc": Case(of_header(enc="A256GCM"), LENIENT, MEMBERS),
    "b64 true": Case(of_header(b64=True), LENIENT, MEMBERS),
    "b64 false": Case(of_header(b64=False)),
    "jwk": Case(of_header(jwk=OTHER_KEY.jwk), LENIENT, MEMBERS),
    "jku": Case(of_header(jku="https://evil.example"), LENIENT, MEMBERS),
    "kid with control characters": Case(of_header(kid="\x00"), LENIENT, "ours goes to a cache and to the log (KEY-05)"),
    "kid too long": Case(of_header(kid="k" * 257), LENIENT, "as above (KEY-05)"),
    "kid no text": Case(of_header(kid=1)),
    "template": Case(of_header(cat=TEMPLATE_CATEGORY), LENIENT, CLASS),
    "machine": Case(of_header(cat=MACHINE_CATEGORY), LENIENT, CLASS),
    "unknown category": Case(of_header(cat=""), LENIENT, CLASS),
    "oauth": Case(of_header(typ="at+jwt"), LENIENT, CLASS),
    "machine subject": Case(token(sub="mch_2ABC"), LENIENT, CLASS),
    # Signature
    "another key": Case(token(OTHER_KEY)),
    "another key, and more wrong": Case(token(OTHER_KEY, exp=1, azp="x", iss="x", sub="x")),
    "another payload": Case(
        ".".join([*mint(header(), claims(sub="user_evil"), KEY).split(".")[:2], token().split(".")[2]])
    ),
    # Times
    "expired": Case(token(exp=int(time.time()) - 60, iat=int(time.time()) - 120)),
    "not yet": Case(token(nbf=int(time.time()) + 3600)),
    "from the future": Case(token(iat=int(time.time()) + 3600, exp=int(time.time()) + 7200)),
    "no exp": Case(token(exp=ABSENT), LENIENT, REQUIRED),
    "no iat": Case(token(iat=ABSENT), LENIENT, REQUIRED),
    "iat true": Case(token(iat=True), LENIENT, CONVERTED),
    "iat text": Case(token(iat="1"), LENIENT, CONVERTED),
    "exp text": Case(token(exp=str(int(time.time()) + 3600)), LENIENT, CONVERTED),
    "exp word": Case(token(exp="tomorrow")),
    "nbf null": Case(token(nbf=None)),
    "exp in the year 10000": Case(token(exp=253_402_300_800), LENIENT, RANGE),
    "iat before 1970": Case(token(iat=-1), LENIENT, RANGE),
    "exp before iat": Case(upside_down, LENIENT, "they compare each with the clock alone (TOK-06)"),
    # Who
    "no sub": Case(token(sub=ABSENT), LENIENT, REQUIRED),
    "sub null": Case(token(sub=None)),
    "sub number": Case(token(sub=1)),
    "sub path": Case(token(sub="../organizations"), LENIENT, IDENTITY),
    "sub empty": Case(token(sub=""), LENIENT, IDENTITY),
    "no sid": Case(token(sid=ABSENT), LENIENT, REQUIRED),
    "sid path": Case(token(sid="../x"), LENIENT, IDENTITY),
    "sid number": Case(token(sid=1), LENIENT, IDENTITY),
    # Relations
    "other party": Case(token(azp="https://evil.example"), "pyjwt", PARTIES),
    "party with a slash": Case(token(azp=f"{ORIGIN}/"), "pyjwt", PARTIES),
    "party list": Case(token(azp=[ORIGIN]), "pyjwt", PARTIES),
    "no party": Case(token(azp=ABSENT), "pyjwt", PARTIES),
    "no party, and none asked for": Case(
        token(azp=ABSENT), "us pyjwt", "the SDK cannot be told to admit tokens without a party (TOK-07)", NATIVE
    ),
    "other issuer": Case(token(iss="https://clerk.other.example"), "sdk", ISSUERS),
    "issuer with a slash": Case(token(iss=f"{ISSUER}/"), "sdk", ISSUERS),
    "no issuer": Case(token(iss=ABSENT), "sdk", ISSUERS),
    "other issuer, and none known": Case(token(iss="https://clerk.other.example"), ALL, config=ISSUER_UNKNOWN),
    "audience, and none asked for": Case(token(aud="api"), "us", AUD_UNSET),
    "empty audience": Case(token(aud=[]), ALL),
    "audience null": Case(token(aud=None), LENIENT, AUD_FALSY),
    "audience nought": Case(token(aud=0), LENIENT, AUD_FALSY),
    "audience of numbers": Case(token(aud=[1])),
    "audience absent": Case(token(), config=AUDIENCE),
    "audience other": Case(token(aud="other"), config=AUDIENCE),
    "audience of odd company": Case(token(aud=["api", 1]), config=AUDIENCE),
    "jti number": Case(token(jti=1)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_every_difference_is_explained(case: Case) -> None:
    text = case.text
    verdicts = {
        "us": isinstance(ours(text, case.config), dict),
        "pyjwt": pyjwt_accepts(text, case.config),
        "sdk": sdk_accepts(text, case.config),
    }
    assert {judge for judge, accepts in verdicts.items() if accepts} == case.yes
    assert bool(case.why) == (len(set(verdicts.values())) > 1)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_second_verifier_agrees(case: Case) -> None:
    text = case.text
    assert second(text, case.config) == ours(text, case.config)


FROZEN = 1_800_000_000

_odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.none(), max_size=2),
)
_time = st.one_of(
    st.integers(-8, 8).map(lambda offset: FROZEN + offset),
    st.integers(-8, 8).map(lambda offset: float(FROZEN + offset)),
    st.sampled_from([0, -1, 1e300, 10**30, 253_402_300_799, 253_402_300_800, str(FROZEN), str(FROZEN + 100), ABSENT]),
    _odd,
)
_near = FROZEN + 60


def _mostly(good: Any, *others: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw the good value four times in five, so that what is drawn beside it decides."""
    return st.integers(0, 4).flatmap(lambda number: st.one_of(*others) if number == 0 else st.just(good))


_claims = st.fixed_dictionaries(
    {
        "exp": _mostly(_near, _time),
        "iat": _mostly(FROZEN, _time),
        "nbf": _mostly(FROZEN - 10, _time),
        "iss": _mostly(ISSUER, st.sampled_from([ABSENT, f"{ISSUER}/", "https://two.example", [ISSUER]]), _odd),
        "azp": _mostly(ORIGIN, st.sampled_from([ABSENT, f"{ORIGIN}/", "http://localhost", [ORIGIN], ""]), _odd),
        "aud": _mostly(ABSENT, st.sampled_from(["api", ["api"], ["x", "web"], [1, "api"], ""]), _odd),
        "sub": _mostly(
            "user_a", st.from_regex(r"user_[A-Za-z0-9_.\x00é]{0,4}", fullmatch=True), st.just("user_" + "a" * 251), _odd
        ),
        "jti": _mostly("a", st.just(ABSENT), _odd),
        "sid": _mostly("sess_a", st.from_regex(r"[A-Za-z0-9_.\x00é]{0,4}", fullmatch=True), st.just("s" * 256), _odd),
    }
)
_header = st.fixed_dictionaries(
    {
        "alg": _mostly("RS256", st.sampled_from(["none", "HS256", "rs256", ABSENT]), _odd),
        "typ": _mostly("JWT", st.sampled_from(["jwt", "at+jwt", ABSENT]), _odd),
        "cat": _mostly(
            SESSION_CATEGORY, st.sampled_from([IGNORE_CATEGORY, TEMPLATE_CATEGORY, MACHINE_CATEGORY, ABSENT]), _odd
        ),
        "kid": _mostly("ins_1", st.sampled_from([ABSENT, "k" * 257, "\x7f", "\n"]), _odd),
        "crit": _mostly(ABSENT, st.just(["exp"]), _odd),
    }
)
_configs = st.sampled_from([CONFIG, PARTIES_UNSET, ISSUER_UNKNOWN, NATIVE, AUDIENCE, NO_LEEWAY])


@given(head=_header, body=_claims, config=_configs, key=_mostly(KEY, st.just(OTHER_KEY)))
def test_second_verifier_agrees_on_whatever_is_drawn(
    head: dict[str, Any], body: dict[str, Any], config: Config, key: Any
) -> None:
    """Same verdict, same claims, and the same silence about what lies behind a bad signature (TOK-15)."""
    text = mint(header(**head), claims(**body), key)
    with time_machine.travel(datetime.fromtimestamp(FROZEN, UTC), tick=False):
        assert ours(text, config) == second(text, config)


_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=12,
)


def _as_it_stands(raw: bytes) -> bytes:
    return raw


@given(
    value=_json,
    ascii_only=st.booleans(),
    spaced=st.booleans(),
    cut=st.integers(0, 400),
    put=st.sampled_from(
        [b"", b",", b'"', b"\\", b"[", b"}", b"\x00", b"\xff", b"NaN", b"1e999", b'"a":0,"a":0,', b" "]
    ),
    whole=st.sampled_from([_as_it_stands, lambda raw: b"[" + raw + b"]", lambda raw: b"\xef\xbb\xbf" + raw]),
)
def test_second_verifier_agrees_on_json(
    value: Any, ascii_only: bool, spaced: bool, cut: int, put: bytes, whole: Callable[[bytes], bytes]
) -> None:
    """TOK-05: JSON of any kind beside good claims, spelt in several ways, and with something put where it hurts."""
    separators = (" , ", " : ") if spaced else (",", ":")
    written = json.dumps(claims(zzz=value), ensure_ascii=ascii_only, separators=separators)
    raw = whole(written.encode("utf-8", "surrogatepass"))
    text = mint(header(), raw[:cut] + put + raw[cut:], KEY)
    assert ours(text, CONFIG) == second(text, CONFIG)
