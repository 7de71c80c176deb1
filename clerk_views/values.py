"""
What may stand in a setting, and what is made of it?

One function for each kind of value: from what a project wrote to what the library works with, or a SettingError that
says what is wrong and how to mend it, and never shows a secret. Which setting is of which kind says conf.py.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

MIN_WEBHOOK_SECRET = 16  # bytes
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})

#: The version of Clerk's APIs that handshakes and session refreshes are written for.
CLERK_API_VERSION = "2026-05-12"

#: The kinds of token, by Clerk's names for them.
TOKEN_TYPES = ("session_token", "api_key", "m2m_token", "oauth_token")

#: Columns that carry privileges or identity. The sync never writes them, whatever CLERK_USER_FIELDS says.
PRIVILEGE_FIELDS = frozenset(
    {"id", "pk", "password", "is_staff", "is_superuser", "is_admin", "groups", "user_permissions", "is_active"}
)

#: Clerk field -> model field, as far as the user model has it.
DEFAULT_USER_FIELDS = MappingProxyType(
    {
        "id": "clerk_user_id",
        "email": "email",
        "username": "username",
        "first_name": "first_name",
        "last_name": "last_name",
        "image_url": "image",
        "last_active_at": "last_active_at",
    }
)

#: Clerk field -> claim, for CLERK_USER_SOURCE = "claims".
DEFAULT_USER_CLAIMS = MappingProxyType(
    {
        "email": "email",
        "email_verified": "email_verified",
        "username": "username",
        "first_name": "first_name",
        "last_name": "last_name",
        "image_url": "image_url",
    }
)


def below(address: str, step: str) -> str:
    """Return the address of a step below a page; its query and fragment stay."""
    parts = urlsplit(address)
    return parts._replace(path=f"{parts.path.rstrip('/')}/{step}").geturl()


class SettingError(ValueError):
    """
    A value that cannot be used.

    Attributes:
        wrong: What is wrong and what was seen, ready to follow the setting's name. Never a secret.
        mend: How to put it right.
    """

    def __init__(self, wrong: str, mend: str) -> None:
        super().__init__(wrong)
        self.wrong = wrong
        self.mend = mend


class PublishableKey(NamedTuple):
    """What a publishable key says. Source: Clerk, "publishable key"; its prefix alone decides production."""

    text: str
    host: str
    is_production: bool

    @property
    def cookie_suffix(self) -> str:
        """The eight characters that end this instance's cookie names; hashed from the key exactly as configured."""
        digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).digest()
        return base64.urlsafe_b64encode(digest).decode()[:8]

    @property
    def accounts_portal(self) -> str:
        """The origin of Clerk's hosted sign-in pages for this instance."""
        for found, instead in (("clerk.accountsstage.", "accountsstage."), ("clerk.accounts.", "accounts.")):
            if found in self.host:
                return "https://" + self.host.replace(found, instead, 1)
        return "https://" + self.host.replace("clerk.", "accounts.", 1)


def shown(value: object) -> str:
    """Describe a value that may be a secret: its prefix if that is Clerk's, else only its type and length."""
    if isinstance(value, str):
        prefix = re.match(r"(?:sk|pk)_(?:test|live)_|whsec_|ak_|-----BEGIN [A-Z ]+-----", value)
        return f"text of {len(value)} characters" + (f" that starts with '{prefix[0]}'" if prefix else "")
    return f"a value of type {type(value).__name__}"


def quoted(text: str) -> str:
    """Quote a value that is no secret, unless one stands in it all the same: pasted into the wrong setting, say."""
    if re.search(r"sk_|pk_|whsec_|ak_|mt_|oat_|eyJ|-----BEGIN|@", text):
        return shown(text)
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def plain_text(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise SettingError(f"must be text; it is {shown(value)}.", "Set it to a string, or remove it.")
    return value.strip() or None


def secret_key(value: Any) -> str | None:
    text = plain_text(value)
    if text is not None and not re.fullmatch(r"(?!pk_|whsec_|ak_|user_|-----|eyJ)[!-~]+", text):
        raise SettingError(
            f"is not a Clerk secret key; it is {shown(text)}.",
            "Copy the secret key (it starts with 'sk_test_' or 'sk_live_') from the API keys page of Clerk's "
            "dashboard.",
        )
    return text


def machine_secret_key(value: Any) -> str | None:
    text = plain_text(value)
    if text is not None and not re.fullmatch(r"ak_[!-~]+", text):
        raise SettingError(
            f"is not a machine's secret key; it is {shown(text)}.",
            "Copy the secret key of this application's machine (it starts with 'ak_') from the machines page of "
            "Clerk's dashboard, or remove the setting to ask with CLERK_SECRET_KEY.",
        )
    return text


def token_types(value: Any) -> tuple[str, ...]:
    """
    Return the kinds of token that "any", one name or several stand for, in a fixed order.

    Raises:
        TypeError: It is neither text nor a list, tuple or set.
        ValueError: There is none, or one that nobody knows.
    """
    if not isinstance(value, (str, list, tuple, set, frozenset)):
        raise TypeError(f"must be one of {', '.join(TOKEN_TYPES)}, a list of them, or any; it is {shown(value)}.")
    if value == "any":
        return TOKEN_TYPES
    names = [value] if isinstance(value, str) else list(value)
    for name in names:
        if name not in TOKEN_TYPES:
            seen = quoted(name) if isinstance(name, str) else shown(name)
            raise ValueError(f"has {seen}, which is none of {', '.join(TOKEN_TYPES)}; or any, alone, for all of them.")
    if not names:
        raise ValueError("is empty, so nobody could ever come in.")
    return tuple(name for name in TOKEN_TYPES if name in names)


def accepted_tokens(value: Any) -> tuple[str, ...]:
    try:
        return token_types(value)
    except (TypeError, ValueError) as error:
        raise SettingError(
            str(error), 'Write for example ["session_token", "api_key"], or remove the setting.'
        ) from None


def publishable_key(value: Any) -> PublishableKey | None:
    text = plain_text(value)
    if text is None:
        return None
    try:
        kind, mode, body = text.split("_")
        if kind != "pk" or mode not in ("test", "live"):
            raise ValueError
        decoded = base64.b64decode(body + "=" * (-len(body) % 4), validate=True).decode("ascii")
        host = decoded.removesuffix("$")
        if decoded.count("$") != 1 or host == decoded or "." not in host:
            raise ValueError
        if not re.fullmatch(r"[A-Za-z0-9.\-]+(?::[0-9]+)?", host):
            raise ValueError
    except (ValueError, binascii.Error):
        raise SettingError(
            f"is not a Clerk publishable key; it is {shown(text)}.",
            "Copy the publishable key (it starts with 'pk_test_' or 'pk_live_') from the API keys page of Clerk's "
            "dashboard, whole and unchanged.",
        ) from None
    return PublishableKey(text, host.lower(), mode == "live")


def pem(value: Any) -> str | None:
    """Bring a PEM public key into one spelling: real newlines, armour on lines of its own."""
    text = plain_text(value)
    if text is None:
        return None
    text = text.replace("\\r", "").replace("\\n", "\n").replace("\r", "")
    match = re.fullmatch(r"-----BEGIN PUBLIC KEY-----(.*)-----END PUBLIC KEY-----\s*", text, re.DOTALL)
    body = re.sub(r"\s+", "", match[1]) if match else ""
    if not body or not re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", body):
        raise SettingError(
            f"is not a PEM public key; it is {shown(text)}.",
            "Copy 'JWKS public key' (PEM) from the API keys page of Clerk's dashboard, or remove the setting to fetch "
            "the keys from Clerk's API.",
        )
    lines = "\n".join(body[i : i + 64] for i in range(0, len(body), 64))
    return f"-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n"


def api_url(value: Any) -> str:
    text = plain_text(value) or "https://api.clerk.com"
    try:
        parts = urlsplit(text)
        scheme, host = parts.scheme, parts.hostname if parts.port != 0 else None
    except ValueError:  # a port that is no number, brackets without an address between them
        scheme, host = "", None
    local = scheme == "http" and host in LOOPBACK_HOSTS
    if not host or not (scheme == "https" or local) or not re.fullmatch(r"[!-~]+", text) or re.search(r"[@?#\\]", text):
        raise SettingError(
            f"must be an https:// address; it is {quoted(text)}.",
            "Remove it to use https://api.clerk.com. Plain http:// is allowed for this machine alone.",
        )
    return text.rstrip("/").removesuffix("/v1").rstrip("/")


_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_\-]*[A-Za-z0-9_])?"


def _is_place(text: str) -> bool:
    """Whether a text is ``host`` or ``host:port``, the host a name in ASCII or an address, as browsers send them."""
    match = re.fullmatch(
        rf"(?:{_LABEL}(?:\.{_LABEL})*|\[(?P<address>[0-9A-Fa-f:.]+)\])(?::(?P<port>[1-9][0-9]*))?", text
    )
    if match is None or int(match["port"] or 1) > 65_535:
        return False
    try:
        ipaddress.IPv6Address(match["address"] or "::1")
    except ValueError:
        return False
    return True


def _is_origin(text: str) -> bool:
    """Whether a text is an origin: a site's, or an extension's or app's of a scheme of its own, which names no host."""
    scheme, separator, place = text.partition("://")
    if not separator or not re.fullmatch(r"[a-z][a-z0-9+.\-]*", scheme):
        return False
    return _is_place(place) or (scheme not in ("http", "https") and bool(re.fullmatch(r"[A-Za-z0-9._~\-]+", place)))


def parties(value: Any) -> tuple[str | None, ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise SettingError(
            f"must be a list or a tuple of origins; it is {shown(value)}.",
            'Write a list, for example ["https://app.example.com"].',
        )
    for party in value:
        if party is not None and not (isinstance(party, str) and _is_origin(party)):
            raise SettingError(
                f"has an entry that is not an origin: {quoted(party) if isinstance(party, str) else shown(party)}.",
                "Each entry is scheme://host or scheme://host:port, without a path or a closing slash, exactly as "
                "browsers send it; or None, to admit tokens without 'azp'.",
            )
    return tuple(value)


def texts(value: Any) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, (list, tuple)) or not all(isinstance(item, str) and item for item in values):
        raise SettingError(f"must be text or a list of texts; it is {shown(value)}.", "Write a string or a list.")
    return tuple(values)


def webhook_secrets(value: Any) -> tuple[bytes, ...]:
    """Decode the secrets: one, several with blanks between them (an environment variable is one text), or a list."""
    secrets = []
    for text in texts(value.split() if isinstance(value, str) else value):
        match = re.fullmatch(r"whsec_([A-Za-z0-9+/]+={0,2})", text.strip())
        try:
            secret = base64.b64decode(match[1] + "=" * (-len(match[1]) % 4), validate=True) if match else b""
        except binascii.Error:
            secret = b""
        if len(secret) < MIN_WEBHOOK_SECRET:
            raise SettingError(
                f"has an entry that is no signing secret of {MIN_WEBHOOK_SECRET} bytes or more; it is {shown(text)}.",
                "Copy the signing secret (it starts with 'whsec_') of the endpoint from the webhooks page of Clerk's "
                "dashboard, whole. To change it without a gap, list the new and the old one.",
            )
        secrets.append(secret)
    return tuple(secrets)


def number(lowest: int, highest: int, unit: str) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            seen = repr(value) if isinstance(value, (int, float)) and abs(value) < 1e15 else shown(value)
            raise SettingError(
                f"must be a whole number of {unit} from {lowest} to {highest}; it is {seen}.",
                "Write a number without quotes inside that range, or remove the setting.",
            )
        return value

    return parse


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise SettingError(f"must be True or False; it is {shown(value)}.", "Write True or False, without quotes.")
    return value


def choice(*choices: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in choices:
            seen = quoted(value) if isinstance(value, str) else shown(value)
            raise SettingError(f"must be one of {', '.join(choices)}; it is {seen}.", "Write one of these.")
        return str(value)

    return parse


def user_fields(value: Any) -> Mapping[str, str | None]:
    if value is None:
        return DEFAULT_USER_FIELDS
    if not isinstance(value, Mapping) or not all(
        isinstance(source, str) and (target is None or (isinstance(target, str) and target))
        for source, target in value.items()
    ):
        raise SettingError(
            f"must be a dictionary of Clerk fields to model fields; it is {shown(value)}.",
            'Write for example {"first_name": "given_name", "public_metadata": "myapp.sync.plan_from_metadata"}; '
            "None leaves a field out.",
        )
    for target in value.values():
        if target in PRIVILEGE_FIELDS:
            raise SettingError(
                f"maps to {target!r}, a column that carries privileges.",
                "The sync never writes it. Grant privileges in Django, or check Clerk's roles on the view.",
            )
    return MappingProxyType({**DEFAULT_USER_FIELDS, **value})


def user_claims(value: Any) -> Mapping[str, str]:
    if value is None:
        return DEFAULT_USER_CLAIMS
    if not isinstance(value, Mapping) or not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        raise SettingError(
            f"must be a dictionary of Clerk fields to claims; it is {shown(value)}.",
            'Write for example {"email": "email", "email_verified": "email_verified"}.',
        )
    return MappingProxyType(dict(value))


def page_url(value: Any) -> str | None:
    text = plain_text(value)
    if text is None:
        return None
    try:
        urlsplit(text)
        usable = re.fullmatch(r"(?:https?://[^\s\\]+|/(?![/\\])[^\s\\]*)", text) is not None
    except ValueError:  # brackets without an address between them
        usable = False
    if not usable:
        raise SettingError(
            f"must be an absolute http(s) address or a path that starts with one '/'; it is {quoted(text)}.",
            "Write for example https://accounts.example.com/sign-in or /sign-in.",
        )
    return text


def domain(value: Any) -> str | None:
    text = plain_text(value)
    if text is not None and not _is_place(text):
        raise SettingError(
            f"must be a host name; it is {quoted(text)}.",
            "Write for example satellite.example.com, without a scheme and without a path; in development perhaps with "
            "a port.",
        )
    return text


def js_version(value: Any) -> str:
    text = plain_text(value) or "6"
    # What a content delivery network takes for a version of an npm package, and nothing that would lead elsewhere.
    if not re.fullmatch(r"[0-9]{1,4}|[0-9]+\.[0-9]+\.[0-9]+(?:-[0-9A-Za-z.\-]+)?|(?!v[0-9])[a-z][a-z0-9\-]+", text):
        raise SettingError(
            f"must be a major, an exact version or an npm tag of @clerk/clerk-js; it is {quoted(text)}.",
            'Write for example "6", "6.40.0" or "latest", or remove the setting.',
        )
    return text


_PATTERN_PIECE = re.compile(
    r":(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<rest>\(\.\*\))?|(?P<any>\(\.\*\))|(?P<text>[^:(){}*+?\\]+)"
)


def _path_pattern(pattern: str) -> re.Pattern[str] | None:
    """
    Return a path pattern as a regular expression for whole paths; None if it is none.

    Source: path-to-regexp, of whose language these are the parts that Clerk documents: ``:name`` is one segment, or
    what follows it as ``(.*)``; a bare ``(.*)`` is anything. Case does not matter, nor does a slash after the end.
    """
    expression, at, names = "", 0, set()
    while at < len(pattern):
        piece = _PATTERN_PIECE.match(pattern, at)
        if piece is None or piece["name"] in names:
            return None
        if piece["text"]:
            expression += re.escape(piece["text"])
        elif piece["name"]:
            names.add(piece["name"])
            expression += f"(?P<{piece['name']}>{'.*' if piece['rest'] else '[^/#?]+?'})"
        else:
            expression += ".*"
        at = piece.end()
    return re.compile(f"{expression}/?", re.IGNORECASE) if pattern.startswith(("/", "(", ":")) else None


def path_patterns(*names: str) -> Callable[[Any], tuple[re.Pattern[str], ...]]:
    """Return the parser of a list of path patterns, each of which must hold one of the names, if any are given."""

    def parse(value: Any) -> tuple[re.Pattern[str], ...]:
        if value is None:
            return ()
        if not isinstance(value, (list, tuple)):
            raise SettingError(
                f"must be a list or a tuple of path patterns; it is {shown(value)}.", 'Write for example ["/me/(.*)"].'
            )
        patterns = []
        for item in value:
            pattern = _path_pattern(item) if isinstance(item, str) else None
            if pattern is None:
                raise SettingError(
                    f"has an entry that is no path pattern: {quoted(item) if isinstance(item, str) else shown(item)}.",
                    "A pattern starts with '/'; ':name' stands for one segment of the path and '(.*)' for anything; no "
                    "name stands twice.",
                )
            if names and not any(name in pattern.groupindex for name in names):
                raise SettingError(
                    f"has an entry that names no organisation: {quoted(item)}.",
                    "Write ':id' or ':slug' where the organisation stands, for example \"/orgs/:slug/(.*)\".",
                )
            patterns.append(pattern)
        return tuple(patterns)

    return parse
