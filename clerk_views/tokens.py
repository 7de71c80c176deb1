"""
What token did the request bring, and is it genuine?

Pure: the header values and the key are handed in, nothing is fetched. The order is fixed: length, shape, header,
signature, and only then the claims.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from clerk_views.conf import Config
from clerk_views.exceptions import TokenRefused
from clerk_views.strict_json import parse_object

#: Characters. Servers cut headers at 8 to 64 KiB; Clerk's tokens stay under 4 KiB because a cookie must hold them.
MAX_TOKEN_LENGTH = 16_384
MAX_CANDIDATES = 4
MAX_JSON_DEPTH = 16
LAST_TIME = 253_402_300_799  # the last second of the year 9999, where Python's calendar ends

#: Prefixes of Clerk's opaque machine tokens. Source: Clerk, "machine tokens"; ``m2m_`` is the older spelling.
MACHINE_PREFIXES = ("ak_", "oat_", "mt_", "m2m_")

# All classes of token are signed with the same key, so the class must be looked at. Absent: minted before categories;
# the second: the instance opted out of them. Source: Clerk's JavaScript backend SDK, "token categories".
_SESSION_CATEGORIES = ("cl_B7d4PD111AAA", "cl_I7d4PD111III")
_REFUSED_HEADER_MEMBERS = ("crit", "b64", "zip", "enc", "cty", "jwk", "jku", "x5u", "x5c")

_SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# ASCII: without it, ignoring case would take the Kelvin sign for a k.
_BEARER = re.compile(r"bearer ([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE | re.ASCII)
_BEARER_SCHEME = re.compile(r"[\x00-\x20]*bearer(?![!#$%&'*+.^_`|~0-9A-Za-z-])", re.IGNORECASE | re.ASCII)
_SECOND_BEARER = re.compile(r",[\x00-\x20]*bearer(?![!#$%&'*+.^_`|~0-9A-Za-z-])", re.IGNORECASE | re.ASCII)
_USER_ID = re.compile(r"user_[A-Za-z0-9]{1,250}")
_SESSION_ID = re.compile(r"[A-Za-z0-9_]{1,255}")
_KEY_ID = re.compile(r"[ -~]{1,256}")


@dataclass(frozen=True, slots=True)
class Found:
    """
    The credentials of a request.

    Attributes:
        carrier: ``header``, ``cookie``, or None when the request brought nothing of ours.
        groups: Tokens to look at, most specific cookie name first. What verifies within a group must agree on who it
            is; between groups the newer token counts. Empty with a carrier: a credential nobody can read.
    """

    carrier: str | None
    groups: tuple[tuple[str, ...], ...] = field(default=(), repr=False)


NOTHING = Found(None)


def find(meta: Mapping[str, Any], config: Config) -> Found:
    """
    Find the session token in ``request.META``: the ``Authorization`` header, else the cookies.

    A presented bearer credential decides alone, good or bad. Any other scheme is somebody else's, and the cookies are
    considered (SRC-01, SRC-04). Nothing else of the request is read.
    """
    authorization = meta.get("HTTP_AUTHORIZATION") or ""
    if authorization and (_BEARER_SCHEME.match(authorization) or _SECOND_BEARER.search(authorization)):
        match = _BEARER.fullmatch(authorization)
        return Found("header", ((match[1],),) if match else ())
    cookies = meta.get("HTTP_COOKIE")
    return _find_cookies(cookies, config) if cookies and "__session" in cookies else NOTHING


def _find_cookies(header: str, config: Config) -> Found:
    """
    Read the raw ``Cookie`` header: frameworks disagree on which of two equal names counts, so we look at all (SRC-06).

    Exact names only. Values are taken as they stand: no token needs quotes or percent signs.
    """
    names = ["__session"]
    if config.publishable_key is not None:
        names.insert(0, f"__session_{config.publishable_key.cookie_suffix}")
    values: dict[str, dict[str, None]] = {name: {} for name in names}  # distinct, in order, without searching a list
    for piece in header.split(";"):
        name, _, value = piece.partition("=")
        found = values.get(name.strip(" \t"))
        value = value.strip(" \t")
        if found is not None and value:
            found[value] = None
    presented = [group for group in values.values() if group]
    # A signature check costs; what is no token by its shape takes nobody's place (DOS-01).
    left = MAX_CANDIDATES
    groups: list[tuple[str, ...]] = []
    for group in presented:
        shaped = tuple(value for value in group if _is_shaped(value))[:left]
        left -= len(shaped)
        if shaped:
            groups.append(shaped)
    return Found("cookie", tuple(groups)) if presented else NOTHING


def _is_shaped(token: str) -> bool:
    return len(token) <= MAX_TOKEN_LENGTH and _SHAPE.fullmatch(token) is not None


def is_foreign(token: str, config: Config) -> bool:
    """
    Whether a bearer token is plainly another scheme's, so that another authentication class should be asked.

    It is when it is neither a JWT nor has a Clerk prefix, or is a JWT of another issuer where ours is known. The issuer
    is read unverified: it only ever sends the token away.
    """
    if len(token) > MAX_TOKEN_LENGTH or token.startswith(MACHINE_PREFIXES):
        return False
    if not _SHAPE.fullmatch(token):
        return True
    if not config.issuers:
        return False
    try:
        return _json_object(_decode(token.split(".")[1])).get("iss") not in config.issuers
    except TokenRefused:
        return False


@dataclass(frozen=True, slots=True)
class Parsed:
    """A token of the right shape and class, its signature not looked at yet."""

    token: str = field(repr=False)
    key_id: str | None


def parse(token: str) -> Parsed:
    """
    Take a session token apart and check its shape and header.

    Raises:
        TokenRefused: ``token-invalid``, ``token-invalid-algorithm`` or ``token-type-mismatch``.
    """
    if len(token) > MAX_TOKEN_LENGTH:
        raise TokenRefused("token-invalid", f"longer than {MAX_TOKEN_LENGTH} characters")
    if not _SHAPE.fullmatch(token):
        raise TokenRefused("token-invalid", "not three base64url parts")
    header_part, payload_part, signature_part = token.split(".")
    _decode(signature_part)
    header = _json_object(_decode(header_part))
    _json_object(_decode(payload_part))  # unambiguous JSON, or no further: PyJWT would take duplicate members and NaN
    if header.get("alg") != "RS256":
        raise TokenRefused("token-invalid-algorithm", f"alg is {header.get('alg')!r:.100}")
    if any(name in header for name in _REFUSED_HEADER_MEMBERS):
        raise TokenRefused("token-invalid", "a header member that no session token has")
    if "cat" in header and header["cat"] not in _SESSION_CATEGORIES:
        raise TokenRefused("token-type-mismatch", f"cat is {header['cat']!r:.100}")
    if header.get("typ", "JWT") != "JWT":
        raise TokenRefused("token-type-mismatch", f"typ is {header['typ']!r:.100}")
    key_id = header.get("kid")
    if "kid" in header and not (isinstance(key_id, str) and _KEY_ID.fullmatch(key_id)):
        raise TokenRefused("token-invalid", "kid is not 1 to 256 printable characters")
    return Parsed(token, key_id)


def verify(parsed: Parsed, key: RSAPublicKey, config: Config, *, even_if_expired: bool = False) -> dict[str, Any]:
    """
    Return the claims of a session token whose signature, times, parties, issuer and subject hold.

    Args:
        even_if_expired: Say whose token it was; such a token signs nobody in.

    Raises:
        TokenRefused: With the reason, for example ``token-expired`` or ``token-invalid-signature``.

    Source: Clerk, "Manual JWT verification"; RFC 7519, section 4.1. Stricter where the threat table says so.
    """
    try:
        claims: dict[str, Any] = jwt.decode(
            parsed.token,
            key,
            algorithms=["RS256"],
            leeway=config.clock_skew,
            audience=config.audience or None,
            issuer=config.issuers or None,
            options={
                "require": ["exp", "iat", "sub", "sid"],
                "verify_aud": bool(config.audience),
                "verify_exp": not even_if_expired,
            },
        )
    except jwt.InvalidSignatureError:
        raise TokenRefused("token-invalid-signature") from None
    except jwt.ExpiredSignatureError:
        raise TokenRefused("token-expired") from None
    except jwt.ImmatureSignatureError as error:
        reason = "token-iat-in-the-future" if "(iat)" in str(error) else "token-not-active-yet"
        raise TokenRefused(reason) from None
    except jwt.InvalidIssuerError:
        raise TokenRefused("token-invalid-issuer") from None
    except (jwt.PyJWTError, TypeError) as error:  # TypeError: PyJWT before 2.15, for times of odd types
        raise TokenRefused("token-verification-failed", type(error).__name__) from None
    _check_claims(claims, config)
    return claims


def _check_claims(claims: Mapping[str, Any], config: Config) -> None:
    """Check what PyJWT leaves open: exact types and ranges, and Clerk's own claims."""
    exp, iat = _time(claims, "exp"), _time(claims, "iat")
    latest = now() + config.clock_skew  # PyJWT cuts fractions of a second off
    if iat > latest:
        raise TokenRefused("token-iat-in-the-future")
    if "nbf" in claims and _time(claims, "nbf") > latest:
        raise TokenRefused("token-not-active-yet")
    if exp < iat:
        raise TokenRefused("token-verification-failed", "exp is before iat")
    subject, session = claims["sub"], claims["sid"]
    if subject.startswith("mch_"):
        raise TokenRefused("token-type-mismatch", "the subject is a machine")
    if not _USER_ID.fullmatch(subject):
        raise TokenRefused("token-verification-failed", "sub is not a user id")
    if not (isinstance(session, str) and _SESSION_ID.fullmatch(session)):
        raise TokenRefused("token-verification-failed", "sid is not a session id")
    audience = claims.get("aud", [])
    if not isinstance(audience, str) and not (
        isinstance(audience, list) and all(isinstance(item, str) for item in audience)
    ):
        raise TokenRefused("token-verification-failed", "aud is neither text nor a list of texts")
    if config.auth_parties:
        party = claims.get("azp")
        if party == "":
            party = None  # empty is absent
        if not (party is None or isinstance(party, str)) or party not in config.auth_parties:
            raise TokenRefused("token-invalid-authorized-parties")


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= LAST_TIME:
        raise TokenRefused("token-verification-failed", f"{name} is not a time")
    return value


def _decode(part: str) -> bytes:
    """Decode canonical base64url: one token has one spelling (TOK-04)."""
    try:
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        raise TokenRefused("token-invalid", "not base64url") from None
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != part.encode():
        raise TokenRefused("token-invalid", "not canonical base64url")
    return raw


def _json_object(raw: bytes) -> dict[str, Any]:
    """Parse JSON that every parser reads alike (TOK-05)."""
    try:
        return parse_object(raw, max_depth=MAX_JSON_DEPTH)
    except ValueError as error:
        raise TokenRefused("token-invalid", str(error)) from None


def now() -> float:
    """Return the time, in UNIX seconds. Every comparison with a claim asks here."""
    return time.time()
