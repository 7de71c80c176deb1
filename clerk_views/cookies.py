"""
Which of Clerk's cookies did the browser send, and which of their two spellings counts?

Pure, and the first look at a request. The raw ``Cookie`` header is read, because frameworks disagree on which of two
equal names counts, on quotes and on percent signs (SRC-06).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from clerk_views.conf import Config

#: Names of cookies that exist twice: plain, and with the instance's suffix.
SESSION, CLIENT_UAT, DEV_BROWSER = "__session", "__client_uat", "__clerk_db_jwt"

#: Read with the suffix only, so that no other application's on the same domain is ever sent to Clerk.
REFRESH = "__refresh"

#: Names that have no suffix. The last is also a query parameter's, like DEV_BROWSER and HANDSHAKE.
REDIRECT_COUNT, HANDSHAKE, NONCE = "__clerk_redirect_count", "__clerk_handshake", "__clerk_handshake_nonce"

_BLANKS = " \t"
# A browser keeps some 4 KiB under one name; what is presented beyond a few values is an attack.
_MAX_LOOKED_AT = 4


class Seen(NamedTuple):
    """What a session token says of itself, its signature not looked at. None where it says nothing of the kind."""

    issuer: Any
    issued: float | None
    expires: float | None
    session_id: Any = None


#: What is seen of a token; None if it cannot be decoded.
Peek = Callable[[str], Seen | None]


class Variant(NamedTuple):
    """
    The cookies of one spelling.

    Attributes:
        sessions: Distinct values in the order they came; not all of them need be tokens.
        client_uat: Empty when there is none, as the other one.
    """

    sessions: tuple[str, ...] = ()
    client_uat: str = ""
    dev_browser: str = ""

    def __repr__(self) -> str:
        return f"<Variant of {len(self.sessions)} sessions>"

    @property
    def last_change(self) -> float:
        """When the browser last signed in or out, in UNIX seconds; 0 when it is signed out. See parse_int()."""
        return parse_int(self.client_uat)


_NO_VARIANT = Variant()


class Cookies(NamedTuple):
    """
    Clerk's cookies in a request, by exact name. What is empty was absent, or empty, which is the same.

    Attributes:
        repeated: Names that came with more than one value: a cookie of this host, say, and one of a domain above.
    """

    plain: Variant = _NO_VARIANT
    suffixed: Variant = _NO_VARIANT
    refresh: str = ""
    handshake: str = ""
    nonce: str = ""
    redirect_count: str = ""
    repeated: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Cookies: {self.plain}, {self.suffixed}>"

    def of(self, suffixed: bool) -> Variant:
        """Return the cookies of one spelling."""
        return self.suffixed if suffixed else self.plain


NO_COOKIES = Cookies()


def is_ours(name: str, suffix: str | None) -> bool:
    """Whether a cookie is one of those that Clerk keeps on an application's host, of our instance or of none."""
    base = name.removesuffix(f"_{suffix}") if suffix else name
    if base in (SESSION, CLIENT_UAT, DEV_BROWSER, REFRESH):
        return True
    return name in (HANDSHAKE, NONCE)


def pairs(header: str, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Take a ``Cookie`` header apart into names and values as they stand, in their order, the empty ones left out."""
    for piece in header.split(";"):
        name, _, value = piece.strip(_BLANKS).partition("=")
        if value and name.startswith(prefix):
            yield name.rstrip(_BLANKS), value.lstrip(_BLANKS)  # something is left, as blanks at the end are gone


def read(header: str, suffix: str | None) -> Cookies:
    """
    Read a raw ``Cookie`` header. Exact names only (SRC-05).

    Session tokens are taken as they stand, for no token needs quotes or percent signs, and all of a repeated name are
    kept. Of the other names the first value counts, percent-decoded. Source: Clerk's JavaScript backend SDK.

    That is so for ``__client_uat`` as well, although a stale 0 of this host may come before the true one of a domain
    above: which of the two is the left-over nothing tells, and what is believed too easily undoes a sign-out. Such a
    visitor is sent to Clerk, and what comes back removes the left-over (see handshake.arrival()).

    Args:
        suffix: The instance's; None when there is no publishable key, and then no suffixed name is believed.
    """
    if "__" not in header:
        return NO_COOKIES
    sessions: dict[str, dict[str, None]] = {}  # distinct, in order, without searching a list
    others: dict[str, str] = {}
    repeated = []
    for name, value in pairs(header, "__"):
        if name.startswith(SESSION):
            sessions.setdefault(name, {})[value] = None
        else:
            decoded = _decoded(value) if "%" in value else value
            if others.setdefault(name, decoded) != decoded:
                repeated.append(name)

    def variant(ending: str) -> Variant:
        return Variant(
            tuple(sessions.get(SESSION + ending, ())),
            others.get(CLIENT_UAT + ending, ""),
            others.get(DEV_BROWSER + ending, ""),
        )

    return Cookies(
        plain=variant(""),
        suffixed=variant(f"_{suffix}") if suffix else _NO_VARIANT,
        refresh=others.get(f"{REFRESH}_{suffix}", "") if suffix else "",
        handshake=others.get(HANDSHAKE, ""),
        nonce=others.get(NONCE, ""),
        redirect_count=others.get(REDIRECT_COUNT, ""),
        repeated=tuple(repeated),
    )


def domains(host: str) -> tuple[str, ...]:
    """
    Return the domains whose cookies a host gets besides those of its own: its whole name, and what is above it.

    None for an address or a single word. The one that Clerk uses, the "registrable" domain, is among them; which it is
    only a list of all public suffixes could tell, and browsers, which have it, pass over cookies for these.

    Args:
        host: Without a port.
    """
    labels = host.lower().split(".")
    if ":" in host or labels[-1].isdigit():
        return ()
    return tuple(".".join(labels[start:]) for start in range(len(labels) - 1))


def removals(name: str, host: str) -> list[str]:
    """Return the values of ``Set-Cookie`` that remove a cookie, whether it is the host's own or of a domain above."""
    return [f"{name}=; Path=/; Max-Age=0{of}" for of in ("", *(f"; Domain={domain}" for domain in domains(host)))]


def _decoded(value: str) -> str:
    """Decode percent signs as JavaScript does: all or nothing."""
    if re.search(r"%(?![0-9A-Fa-f]{2})", value):
        return value
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        return value


def parse_int(text: str) -> float:
    """
    Return the number at the beginning of a text, 0 when there is none: what JavaScript's parseInt() makes of it.

    Source: Clerk's JavaScript backend SDK, which reads ``__client_uat`` so.
    """
    if text.isdecimal() and text.isascii() and len(text) <= 20:  # as it always is, and ten times as quick
        return int(text)
    match = re.match(r"\s*([+-]?)(?:0[xX]([0-9a-fA-F]+)|([0-9]+))", text)
    if match is None:
        return 0
    digits, base = (match[2], 16) if match[2] else (match[3], 10)
    # Beyond any time, and Python refuses to read very long numbers.
    number = int(digits, base) if len(digits) <= 300 else float("inf")
    return -number if match[1] == "-" else number


def use_suffixed(cookies: Cookies, config: Config, peek: Peek, now: float) -> bool:
    """
    Say which spelling counts for a request, for all names together, even if nothing of it is there.

    An application of another Clerk instance may run on the same host, and older versions of clerk-js wrote the plain
    names only. The tokens are only routed here, not trusted. Of several values under one name the first that can be
    decoded speaks, so that a tossed cookie of junk decides nothing (SRC-06).

    Args:
        peek: Looks into a token.
        now: UNIX seconds.

    Source: Clerk's JavaScript backend SDK, "suffixed cookies"; the rows are those of its decision, in order.
    """
    plain, suffixed = cookies.plain, cookies.suffixed
    session = _first_seen(plain.sessions, peek)
    if plain.sessions:
        if session is None or not session.issuer:
            return False
        if not isinstance(session.issuer, str) or _host(session.issuer) != config.frontend_api_host:
            return True
    if not suffixed.client_uat and not suffixed.sessions:
        return False
    other = _first_seen(suffixed.sessions, peek)
    if suffixed.client_uat != "0" and plain.client_uat != "0" and _issued(session) > _issued(other):
        return False
    if suffixed.client_uat == "0" and plain.client_uat != "0":
        return False
    if (
        config.is_development
        and suffixed.client_uat != "0"
        and plain.client_uat == "0"
        and other is not None
        and other.expires is not None
        and other.expires <= now
    ):
        return False
    return bool(suffixed.client_uat)


def _first_seen(sessions: tuple[str, ...], peek: Peek) -> Seen | None:
    for token in sessions[:_MAX_LOOKED_AT]:
        seen = peek(token)
        if seen is not None:
            return seen
    return None


def _issued(seen: Seen | None) -> float:
    return seen.issued or 0 if seen else 0


def _host(issuer: str) -> str:
    return issuer.replace("https://", "").replace("http://", "")
