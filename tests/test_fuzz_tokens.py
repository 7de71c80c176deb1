"""
Whatever bytes come: no crash, no identity that we did not mint, and none changed by what stands beside it.

Properties of tokens.find(), parse(), verify() and is_foreign(); the invariants I2 and I4 of the threat model.
"""

from __future__ import annotations

import base64
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from clerk_views import tokens
from clerk_views.testing.minting import base64url, mint
from clerk_views.tokens import MAX_CANDIDATES, MAX_TOKEN_LENGTH, find
from tests.minted import CONFIG, KEY, OTHER_KEY, USER_ID, claims, configured, header, judged, public_key, text_of, token

GOOD = token()
CONFIGS = st.sampled_from([CONFIG, configured(CLERK_PUBLISHABLE_KEY=None, CLERK_AUTH_PARTIES=[None])])
SUFFIX = CONFIG.publishable_key.cookie_suffix if CONFIG.publishable_key else ""
REASONS = {
    "good",
    "token-expired",
    "token-iat-in-the-future",
    "token-invalid",
    "token-invalid-algorithm",
    "token-invalid-authorized-parties",
    "token-invalid-issuer",
    "token-invalid-signature",
    "token-not-active-yet",
    "token-type-mismatch",
    "token-verification-failed",
}

# Text of any kind, half characters included, with what parsers trip over more often than chance would have it.
_bits = st.sampled_from(
    [
        *(
            "Bearer",
            "bearer ",
            "Basic ",
            ",",
            ", Bearer ",
            "__session",
            "__session=",
            f"__session_{SUFFIX}=",
            ";",
            "; ",
        ),
        *("=", ".", "..", "_", "-", '"', "\x00", "\t", "\r\n", "é", "\u212a", "\ud800", "%2E", "ak_", "a.b.c", GOOD),
    ]
)
_anything = st.lists(st.one_of(_bits, st.text(st.characters(), max_size=6)), max_size=8).map("".join)


@given(authorization=st.none() | _anything, cookie=st.none() | _anything, config=CONFIGS)
def test_any_headers(authorization: str | None, cookie: str | None, config: Any) -> None:
    """SRC-07, I2: found or not, at most four, and each is judged without a crash."""
    meta = {"HTTP_AUTHORIZATION": authorization, "HTTP_COOKIE": cookie}
    found = find({name: value for name, value in meta.items() if value is not None}, config)
    assert find(meta, config) == found
    assert found.carrier in {None, "header", "cookie"}
    candidates = [text for group in found.groups for text in group]
    assert len(candidates) <= MAX_CANDIDATES
    assert found.carrier is not None or not candidates
    for text in candidates:
        assert text in (authorization or "" if found.carrier == "header" else cookie or "")
        assert isinstance(tokens.is_foreign(text, config), bool)
        assert judged(text, config) == "good" if text == GOOD else judged(text, config) in REASONS - {"good"}


@given(text=_anything, config=CONFIGS)
def test_any_token(text: str, config: Any) -> None:
    """SRC-07, F-22, I2: refused, and no more than refused."""
    assert isinstance(tokens.is_foreign(text, config), bool)
    assert judged(text, config) in (REASONS if text == GOOD else REASONS - {"good"})


@given(
    junk=st.lists(_anything.map(lambda text: text.replace(";", "")), max_size=6),
    at=st.integers(0, 6),
    plain=st.booleans(),
)
def test_cookies_beside_a_good_one(junk: list[str], at: int, plain: bool) -> None:
    """I4, SRC-05: among any other cookies the good one is found, as long as no three tokens stand beside it."""
    name = "__session" if plain else f"__session_{SUFFIX}"
    pieces = [*junk[:at], f"{name}={GOOD}", *junk[at:]]
    found = find({"HTTP_COOKIE": "; ".join(pieces)}, CONFIG)
    assert found.carrier == "cookie"
    candidates = [text for group in found.groups for text in group]
    assert GOOD in candidates or len(candidates) == MAX_CANDIDATES
    assert {text for text in candidates if judged(text) == "good"} <= {GOOD}


@given(scheme=_anything.filter(lambda text: "bearer" not in text.lower()))
def test_other_schemes_beside_a_good_cookie(scheme: str) -> None:
    """I4, SRC-01: no Authorization header but a bearer one hides the cookie."""
    found = find({"HTTP_AUTHORIZATION": scheme, "HTTP_COOKIE": f"__session={GOOD}"}, CONFIG)
    assert (found.carrier, found.groups) == ("cookie", ((GOOD,),))


@given(head=st.binary(max_size=200), body=st.binary(max_size=200))
def test_any_bytes_genuinely_signed(head: bytes, body: bytes) -> None:
    """TOK-05: as header, as payload, and as both."""
    for text in (mint(head, claims(), KEY), mint(header(), body, KEY), mint(head, body, KEY)):
        assert judged(text) in REASONS - {"good"}
        assert isinstance(tokens.is_foreign(text, CONFIG), bool)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_CLAIMS = st.sampled_from([*claims(), "aud", "act", "o", "v", "org_id", "is_staff", "zzz"])
_HEADER = st.sampled_from([*header(), "crit", "b64", "jwk", "oiat"])


@given(
    changes=st.dictionaries(_CLAIMS, _json, max_size=3),
    head=st.dictionaries(_HEADER, _json, max_size=2),
    config=CONFIGS,
)
def test_any_members(changes: dict[str, Any], head: dict[str, Any], config: Any) -> None:
    """TOK-06 to TOK-14, I8: what comes through has the shape that the rest of the library relies on."""
    minted = claims(**changes)
    text = mint(header(**head), minted, KEY)
    reason = judged(text, config)
    assert reason in REASONS
    if reason != "good":
        return
    verified = tokens.verify(tokens.parse(text), public_key(), config)
    assert verified == minted
    assert verified["sub"].startswith("user_")
    assert verified["sub"].isalnum() or verified["sub"].replace("_", "a").isalnum()
    assert isinstance(verified["sid"], str)
    for name in ("exp", "iat", "nbf"):
        assert type(verified.get(name, 0)) in (int, float)
        assert 0 <= verified.get(name, 0) <= tokens.LAST_TIME
    assert verified["exp"] >= verified["iat"]


_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_places = st.integers(0, len(GOOD) - 1)
_letters = st.sampled_from([*_LETTERS, ".", "=", "+", "/", " ", "\n", "\x00", "é"])


@given(
    edits=st.lists(
        st.one_of(
            st.tuples(st.just("put"), _places, _letters),
            st.tuples(st.just("change"), _places, _letters),
            st.tuples(st.just("cut"), _places, st.just("")),
            st.tuples(st.just("end"), _places, st.just("")),
            st.tuples(st.just("double"), _places, st.just("")),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_any_edit_of_a_good_token(edits: list[tuple[str, int, str]]) -> None:
    """TOK-04: no other text is the same token."""
    text = GOOD
    for kind, place, letter in edits:
        if kind == "put":
            text = text[:place] + letter + text[place:]
        elif kind in ("change", "cut"):
            text = text[:place] + letter + text[place + 1 :]
        elif kind == "end":
            text = text[:place]
        else:
            text = text[:place] + text[max(0, place - 1) :]
    assert (judged(text) == "good") == (text == GOOD)


@given(
    order=st.permutations(range(6)),
    genuine=st.booleans(),
)
def test_parts_of_two_tokens(order: list[int], genuine: bool) -> None:
    """TOK-15, I3: parts of two people's tokens never make a third."""
    other = token(KEY if genuine else OTHER_KEY, sub="user_other", head=header(oiat=1))
    parts = [*GOOD.split("."), *other.split(".")]
    text = ".".join(parts[number] for number in order[:3])
    assert (judged(text) == "good") == (text == GOOD or (genuine and text == other))


@given(padding=st.integers(0, 3000))
def test_length_decides_before_anything_else(padding: int) -> None:
    """SRC-07, F-25: claims may be as long as they like, up to the limit of the whole."""
    text = token(orgs="o" * (11_000 + padding))
    assert judged(text) == ("good" if len(text) <= MAX_TOKEN_LENGTH else "token-invalid")


@given(data=st.binary(min_size=1, max_size=60), cut=st.integers(0, 9))
def test_canonical_is_what_encoding_gives(data: bytes, cut: int) -> None:
    """TOK-04: of all texts that decode to the same bytes, exactly one is read."""
    payload = text_of(claims())
    head = text_of(header())[:-1] + b',"x":"' + data.hex().encode() + b'"}'
    text = base64url(head)
    last = _LETTERS.index(text[-1])
    other = text[:-1] + _LETTERS[last ^ (1 + cut % 3)]
    same = base64.urlsafe_b64decode(other + "==") == head
    signed = mint(head, payload, KEY)
    assert judged(signed) == "good"
    if same:
        assert judged(".".join([other, *signed.split(".")[1:]])) == "token-invalid"
    assert tokens.verify(tokens.parse(signed), public_key(), CONFIG)["sub"] == USER_ID
