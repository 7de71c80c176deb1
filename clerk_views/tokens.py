"""
What token did the request bring, and is it genuine?

Pure: the header values and the key are handed in, nothing is fetched. The order is fixed: length, shape, header,
signature, and only then the claims.
"""

from __future__ import annotations

import re
import time
from binascii import Error as BinasciiError
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from clerk_views import cookies
from clerk_views.conf import Config
from clerk_views.cookies import Cookies, Seen
from clerk_views.exceptions import TokenRefused
from clerk_views.strict_json import parse_object

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from jwt.algorithms import RSAAlgorithm

#: Characters. Servers cut headers at 8 to 64 KiB; Clerk's tokens stay under 4 KiB because a cookie must hold them.
MAX_TOKEN_LENGTH = 16_384
#: Characters of the ``Cookie`` header, more than any server in use lets through. Beyond it nobody takes it apart.
MAX_COOKIES_LENGTH = 65_536
MAX_CANDIDATES = 4
MAX_JSON_DEPTH = 16
LAST_TIME = 253_402_300_799  # the last second of the year 9999, where Python's calendar ends

# Prefixes of Clerk's opaque machine tokens. Source: Clerk, "machine tokens"; ``m2m_`` is the older spelling.
_PREFIXES = {"ak_": "api_key", "oat_": "oauth_token", "mt_": "m2m_token", "m2m_": "m2m_token"}
MACHINE_PREFIXES = tuple(_PREFIXES)

# All classes of token are signed with the same key, so the class must be looked at. Absent: minted before categories;
# the second: the instance opted out of them. Source: Clerk's JavaScript backend SDK, "token categories".
_SESSION_CATEGORIES = ("cl_B7d4PD111AAA", "cl_I7d4PD111III")
_M2M_CATEGORY = "cl_B7d4PD333AAA"
# Clerk's SDKs look at no category of an OAuth access token. One of another class is none, whatever "typ" says.
_OAUTH_CATEGORIES = ("cl_I7d4PD111III",)
_OAUTH_TYPES = ("at+jwt", "application/at+jwt")  # RFC 9068, section 2.1
_REFUSED_HEADER_MEMBERS = frozenset({"crit", "b64", "zip", "enc", "cty", "jwk", "jku", "x5u", "x5c"})

_SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# ASCII: without it, ignoring case would take the Kelvin sign for a k.
# The token's letters are not among what ignores case: that makes each of them five times as dear.
_BEARER = re.compile(r"(?i:bearer) ([A-Za-z0-9._~+/-]+=*)", re.ASCII)
_BEARER_SCHEME = re.compile(r"[\x00-\x20]*bearer(?![!#$%&'*+.^_`|~0-9A-Za-z-])", re.IGNORECASE | re.ASCII)
_SECOND_BEARER = re.compile(r",[\x00-\x20]*bearer(?![!#$%&'*+.^_`|~0-9A-Za-z-])", re.IGNORECASE | re.ASCII)
_USER_ID = re.compile(r"user_[A-Za-z0-9]{1,250}")
_MACHINE_ID = re.compile(r"mch_[A-Za-z0-9]{1,250}")
_ORGANIZATION_ID = re.compile(r"org_[A-Za-z0-9]{1,250}")
# Whose a token of a type can be. What is nobody's of these is refused, not admitted as nobody's.
_SUBJECTS = {
    "api_key": (_USER_ID, _ORGANIZATION_ID),
    "oauth_token": (_USER_ID,),
    "m2m_token": (_MACHINE_ID,),
}
# Ids have 32 hexadecimal digits; the secrets that stand for them come in both alphabets of base64, and in any length.
_OPAQUE = re.compile(r"[A-Za-z0-9+/_-]{16,512}={0,2}")
_SESSION_ID = re.compile(r"[A-Za-z0-9_]{1,255}")
_KEY_ID = re.compile(r"[ -~]{1,256}")
_TO_BASE64, _TO_BASE64URL = bytes.maketrans(b"-_", b"+/"), bytes.maketrans(b"+/", b"-_")


class Found(NamedTuple):
    """
    The credentials of a request.

    Attributes:
        carrier: ``header``, ``cookie``, or None when the request brought nothing of ours.
        bearer: The token of the Authorization header; None when there is none, or nobody can read it.
        cookies: All of Clerk's cookies.
    """

    carrier: str | None
    bearer: str | None = None
    cookies: Cookies = cookies.NO_COOKIES

    def __repr__(self) -> str:
        return f"<Found in {self.carrier}>"

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """
        Tokens to look at, by where they were found, the suffixed cookie before the plain one; at most four.

        What verifies within a group must agree on who it is; which cookie name counts is decided later. Empty with a
        carrier: a credential nobody can read.
        """
        if self.carrier == "header":
            return ((self.bearer,),) if self.bearer is not None else ()
        left = MAX_CANDIDATES
        groups: list[tuple[str, ...]] = []
        for values in (self.cookies.suffixed.sessions, self.cookies.plain.sessions):
            shaped = candidates(values, left)
            left -= len(shaped)
            if shaped:
                groups.append(shaped)
        return tuple(groups)


def find(meta: Mapping[str, Any], config: Config) -> Found:
    """
    Find the session token in ``request.META``: the ``Authorization`` header, else the cookies.

    A presented bearer credential decides alone, good or bad. Any other scheme is somebody else's, and the cookies are
    considered (SRC-01, SRC-04). Nothing else of the request is read.
    """
    header = meta.get("HTTP_COOKIE") or ""
    readable = len(header) <= MAX_COOKIES_LENGTH
    kept = cookies.read(header, config.cookie_suffix) if header and readable else cookies.NO_COOKIES
    authorization = meta.get("HTTP_AUTHORIZATION") or ""
    if authorization and (_BEARER_SCHEME.match(authorization) or _SECOND_BEARER.search(authorization)):
        # Length first: looking at each character of a megabyte takes longer than all else (DOS-01).
        match = _BEARER.fullmatch(authorization) if len(authorization) <= MAX_TOKEN_LENGTH + len("bearer ") else None
        return Found("header", match[1] if match else None, kept)
    presented = kept.plain.sessions or kept.suffixed.sessions or not readable
    return Found("cookie" if presented else None, None, kept)


def candidates(values: Iterable[str], limit: int = MAX_CANDIDATES) -> tuple[str, ...]:
    """
    Return the first values that have a token's shape.

    A signature check costs, hence the limit; and what is no token by its shape takes nobody's place (DOS-01).
    """
    return tuple(islice(filter(_is_shaped, values), limit))


def _is_shaped(token: str) -> bool:
    return len(token) <= MAX_TOKEN_LENGTH and _SHAPE.fullmatch(token) is not None


class Pieces(NamedTuple):
    """
    A JWT taken apart, and nothing of it verified.

    Attributes:
        text: The claims as they stand: JSON that can be read in one way alone.
        signed: What the signature is over.
        signature: As it stands, not decoded.
    """

    header: Mapping[str, Any]
    claims: dict[str, Any]
    text: str
    signed: str
    signature: str

    def __repr__(self) -> str:
        return "<Pieces of a token>"


#: Takes a token apart. Callers that look at one more than once remember what came of it, see verdicts.apart().
Apart = Callable[[str], Pieces]


def take_apart(token: str) -> Pieces:
    """
    Take a JWT apart.

    Raises:
        TokenRefused: ``token-invalid``.
    """
    if len(token) > MAX_TOKEN_LENGTH:
        raise TokenRefused("token-invalid", f"longer than {MAX_TOKEN_LENGTH} characters")
    if not _SHAPE.fullmatch(token):
        raise TokenRefused("token-invalid", "not three base64url parts")
    header, payload, signature = token.split(".")
    claims = decode(payload)
    signed = token[: len(header) + 1 + len(payload)]
    return Pieces(_read_header(header), _json_object(claims), claims.decode(), signed, signature)


@lru_cache(maxsize=16)
def _read_header(header: str) -> Mapping[str, Any]:
    """Read a header. All that were signed with one key have the same; 9 µs less."""
    return MappingProxyType(_json_object(decode(header)))


def is_foreign(token: str, config: Config, apart: Apart = take_apart) -> bool:
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
        return apart(token).claims.get("iss") not in config.issuers
    except TokenRefused:
        return False


def kind(token: str, apart: Apart = take_apart) -> str:
    """
    Return which kind of token this claims to be: one of ``conf.TOKEN_TYPES``. Nothing of it is verified.

    By its exact prefix or, of a JWT, by what it says of itself; what is neither is a session token, if anything.
    Source: Clerk's backend SDK, "token types"; machines are looked for before OAuth clients.
    """
    for prefix, name in _PREFIXES.items():
        if token.startswith(prefix):
            return name
    try:
        pieces = apart(token)
    except TokenRefused:
        return "session_token"
    if str(pieces.claims.get("sub")).startswith("mch_"):
        return "m2m_token"
    return "oauth_token" if pieces.header.get("typ") in _OAUTH_TYPES else "session_token"


def is_opaque(token: str) -> bool:
    """Whether this is, by its prefix, a machine token that only Clerk can look into."""
    return token.startswith(MACHINE_PREFIXES)


def is_opaque_shaped(token: str) -> bool:
    """Whether an opaque token looks like one of Clerk's behind its prefix, so that asking costs no call in vain."""
    return _OPAQUE.fullmatch(token.partition("_")[2]) is not None


def is_subject(value: Any, token_type: str) -> TypeGuard[str]:
    """Whether this can be whose machine token of this type it is."""
    return isinstance(value, str) and any(pattern.fullmatch(value) for pattern in _SUBJECTS[token_type])


class Parsed(NamedTuple):
    """A token of the right shape and class, its signature not looked at yet."""

    pieces: Pieces
    signature: bytes
    key_id: str | None

    def __repr__(self) -> str:
        return f"<Parsed for key {self.key_id!r}>"

    @property
    def seen(self) -> Seen:
        """What it says of itself."""
        return _seen(self.pieces.claims)


def peek(token: str, apart: Apart = take_apart) -> Seen | None:
    """Return what a token says of itself, for routing alone; None if it is no token. Nothing of it is verified."""
    try:
        pieces = apart(token)
        decode(pieces.signature)
    except TokenRefused:
        return None
    return _seen(pieces.claims)


def _seen(claims: Mapping[str, Any]) -> Seen:
    return Seen(claims.get("iss"), _number(claims.get("iat")), _number(claims.get("exp")), claims.get("sid"))


def _number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def parse(token: str, apart: Apart = take_apart) -> Parsed:
    """
    Take a session token apart and check its shape and header.

    Raises:
        TokenRefused: ``token-invalid``, ``token-invalid-algorithm`` or ``token-type-mismatch``.
    """
    return _parse(apart(token), _SESSION_CATEGORIES, ("JWT",))


def parse_machine(token: str, token_type: str, apart: Apart = take_apart) -> Parsed:
    """
    Take a machine token apart that is a JWT, and check its shape and header.

    Raises:
        TokenRefused: ``token-invalid`` for a category that is not a machine's, else ``token-verification-failed``.

    Source: Clerk's backend SDK, "machine tokens"; stricter about what an OAuth access token's header says.
    """
    try:
        if token_type == "m2m_token":
            return _parse(apart(token), (_M2M_CATEGORY,), ("JWT",), must_have_category=True)
        return _parse(apart(token), _OAUTH_CATEGORIES, _OAUTH_TYPES)
    except TokenRefused as refused:
        is_category = token_type == "m2m_token" and str(refused).startswith("cat ")
        raise TokenRefused("token-invalid" if is_category else "token-verification-failed", str(refused)) from None


def _parse(
    pieces: Pieces, categories: tuple[str, ...], types: tuple[str, ...], *, must_have_category: bool = False
) -> Parsed:
    """
    Check the header of a JWT.

    Raises:
        TokenRefused: ``token-invalid``, ``token-invalid-algorithm`` or ``token-type-mismatch``.
    """
    signature, header = decode(pieces.signature), pieces.header
    if header.get("alg") != "RS256":
        raise TokenRefused("token-invalid-algorithm", f"alg is {header.get('alg')!r:.100}")
    if not header.keys().isdisjoint(_REFUSED_HEADER_MEMBERS):
        raise TokenRefused("token-invalid", "a header member that no session token has")
    if ("cat" in header or must_have_category) and header.get("cat") not in categories:
        raise TokenRefused("token-type-mismatch", f"cat is {header.get('cat')!r:.100}")
    if header.get("typ", "JWT") not in types:
        raise TokenRefused("token-type-mismatch", f"typ is {header.get('typ')!r:.100}")
    key_id = header.get("kid")
    if "kid" in header and not (isinstance(key_id, str) and _KEY_ID.fullmatch(key_id)):
        raise TokenRefused("token-invalid", "kid is not 1 to 256 printable characters")
    return Parsed(pieces, signature, key_id)


@cache
def rs256() -> RSAAlgorithm:
    """Return RS256, the one algorithm that counts, as PyJWT has it (RFC 7518, section 3.3)."""
    from jwt.algorithms import RSAAlgorithm  # with cryptography 25 ms, which no project's start need wait for

    return RSAAlgorithm(RSAAlgorithm.SHA256)


def _check_signature(parsed: Parsed, key: RSAPublicKey) -> None:
    """
    Check the signature, and only that: the rest of the token has been read by then, more strictly than by PyJWT.

    Measured: jwt.decode() would read all of it once more, letter by letter, in 60 µs; the signature takes 20.
    """
    if not rs256().verify(parsed.pieces.signed.encode(), key, parsed.signature):
        raise TokenRefused("token-invalid-signature")


def verify_handshake(parsed: Parsed, key: RSAPublicKey) -> list[Any]:
    """
    Return the directives of a handshake token: whatever its list holds, unchecked.

    It is signed as session tokens are, and its header obeys the same rules. Its times, parties and subject are not
    looked at: it may arrive late, and the session token inside is verified on its own (RED-06).

    Raises:
        TokenRefused: ``token-invalid-signature``, or ``token-invalid`` when there is no list in it.
    """
    _check_signature(parsed, key)
    directives = parsed.pieces.claims.get("handshake")
    if not isinstance(directives, list):
        raise TokenRefused("token-invalid", "no list of directives")
    return directives


def verify(
    parsed: Parsed,
    key: RSAPublicKey,
    config: Config,
    *,
    leeway: float | None = None,
    even_if_expired: bool = False,
) -> dict[str, Any]:
    """
    Return the claims of a session token whose signature, times, parties, issuer and subject hold.

    Args:
        leeway: Clock difference allowed, in seconds; None for the configured one.
        even_if_expired: Say whose token it was; such a token signs nobody in.

    Raises:
        TokenRefused: With the reason, for example ``token-expired`` or ``token-invalid-signature``.

    Source: Clerk, "Manual JWT verification"; RFC 7519, section 4.1. Stricter where the threat table says so.
    """
    leeway = config.clock_skew if leeway is None else leeway
    _check_signature(parsed, key)
    claims = parsed.pieces.claims
    _check_registered(claims, ("exp", "iat", "sub", "sid"), config, leeway, even_if_expired=even_if_expired)
    _check_claims(claims, config)
    return claims


def verify_machine(parsed: Parsed, key: RSAPublicKey, config: Config, token_type: str) -> dict[str, Any]:
    """
    Return the claims of a machine token, a JWT, whose signature, times, issuer, audience and subject hold.

    An OAuth access token must name the audience where one is configured; an M2M token, whose audience is other
    machines, only must not name another. No page obtained it, so there is no party to compare.

    Raises:
        TokenRefused: ``token-invalid-signature`` or ``token-verification-failed``.

    Source: Clerk's backend SDK, "machine tokens"; the issuer is compared besides.
    """
    _check_signature(parsed, key)
    claims = parsed.pieces.claims
    try:
        _check_registered(claims, ("exp", "sub"), config, config.clock_skew)
        audience = _audience(claims)
    except TokenRefused as refused:
        raise TokenRefused("token-verification-failed", str(refused)) from None
    if not is_subject(claims["sub"], token_type):
        raise TokenRefused("token-verification-failed", "sub is nobody who has such a token")
    if config.audience and (audience or token_type == "oauth_token") and not set(audience) & set(config.audience):
        raise TokenRefused("token-verification-failed", "aud is another")
    return claims


def scopes_of(claims: Mapping[str, Any], token_type: str) -> tuple[str, ...]:
    """
    Return the scopes of a machine token that is a JWT; none where they are not told.

    Source: Clerk's backend SDK, "machine tokens".
    """
    first, second = ("scopes", "aud") if token_type == "m2m_token" else ("scp", "scope")
    value = claims[first] if first in claims else claims.get(second)  # told to be none, it is none
    if isinstance(value, str):
        return tuple(value.split())
    return scopes_in(value)


def scopes_in(value: Any) -> tuple[str, ...]:
    """Return a list of scopes as it came; none where it is anything else."""
    return tuple(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else ()


def _check_registered(
    claims: Mapping[str, Any],
    required: Iterable[str],
    config: Config,
    leeway: float,
    *,
    even_if_expired: bool = False,
) -> None:
    """
    Check the registered claims but for the audience: exact types and ranges, and what they say.

    A required one that is null is absent. Expired is a token by the whole second, as PyJWT has it.

    Source: RFC 7519, section 4.1.
    """
    for name in required:
        if claims.get(name) is None:
            raise TokenRefused("token-verification-failed", f"there is no {name}")
    exp, time_now = _time(claims, "exp"), now()
    latest = time_now + leeway
    if "iat" in claims and _time(claims, "iat") > latest:
        raise TokenRefused("token-iat-in-the-future")
    if "nbf" in claims and _time(claims, "nbf") > latest:
        raise TokenRefused("token-not-active-yet")
    if not even_if_expired and int(exp) <= time_now - leeway:
        raise TokenRefused("token-expired")
    if "iat" in claims and exp < claims["iat"]:
        raise TokenRefused("token-verification-failed", "exp is before iat")
    if config.issuers and "iss" not in claims:
        raise TokenRefused("token-verification-failed", "there is no iss")
    if config.issuers and claims["iss"] not in config.issuers:
        raise TokenRefused("token-invalid-issuer")
    if not all(isinstance(claims[name], str) for name in ("sub", "jti") if name in claims):
        raise TokenRefused("token-verification-failed", "sub or jti is no text")


def _audience(claims: Mapping[str, Any]) -> list[str]:
    audience = claims.get("aud", [])
    if isinstance(audience, str):
        return [audience]
    if not (isinstance(audience, list) and all(isinstance(item, str) for item in audience)):
        raise TokenRefused("token-verification-failed", "aud is neither text nor a list of texts")
    return audience


def _check_claims(claims: Mapping[str, Any], config: Config) -> None:
    """Check the audience, and Clerk's own claims."""
    audience = _audience(claims)
    if config.audience and not set(audience) & set(config.audience):
        raise TokenRefused("token-verification-failed", "aud is another, or there is none")
    subject, session = claims["sub"], claims["sid"]
    if subject.startswith("mch_"):
        raise TokenRefused("token-type-mismatch", "the subject is a machine")
    if not _USER_ID.fullmatch(subject):
        raise TokenRefused("token-verification-failed", "sub is not a user id")
    if not is_session_id(session):
        raise TokenRefused("token-verification-failed", "sid is not a session id")
    if config.auth_parties:
        party = claims.get("azp")
        if party == "":
            party = None  # empty is absent
        if not (party is None or isinstance(party, str)) or party not in config.auth_parties:
            raise TokenRefused("token-invalid-authorized-parties")


def is_session_id(value: Any) -> TypeGuard[str]:
    """Whether this can be a session's id, and so part of a path (TOK-10)."""
    return isinstance(value, str) and _SESSION_ID.fullmatch(value) is not None


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= LAST_TIME:
        raise TokenRefused("token-verification-failed", f"{name} is not a time")
    return value


def decode(part: str) -> bytes:
    """Decode canonical base64url: one token has one spelling (TOK-04)."""
    text = part.encode()
    try:  # what the functions of base64 come to, which take 2 µs more for it
        raw = a2b_base64(text.translate(_TO_BASE64) + b"=" * (-len(text) % 4))
    except BinasciiError:
        raise TokenRefused("token-invalid", "not base64url") from None
    if b2a_base64(raw, newline=False).rstrip(b"=").translate(_TO_BASE64URL) != text:
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
