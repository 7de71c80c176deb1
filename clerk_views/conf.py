"""
Every setting: its name, default, unit and what makes it wrong.

``config()`` is how the rest of the library reads them: one frozen object, built anew whenever a value differs from the
one it was built from. ``manage.py check`` walks the same table (see checks.py), so a rule stands here once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from django.conf import LazySettings, Settings, UserSettingsHolder, global_settings, settings
from django.core.exceptions import ImproperlyConfigured
from django.views.decorators.debug import sensitive_variables

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


@dataclass(frozen=True)
class Setting:
    """One row of the settings table."""

    name: str
    check_id: str
    default: Any
    parse: Callable[[Any], Any]
    meaning: str
    from_environment: bool = False


@dataclass(frozen=True)
class PublishableKey:
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


def _text(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise SettingError(f"must be text; it is {shown(value)}.", "Set it to a string, or remove it.")
    return value.strip() or None


def _secret_key(value: Any) -> str | None:
    text = _text(value)
    if text is not None and not re.fullmatch(r"(?!pk_|whsec_|ak_|user_|-----|eyJ)[!-~]+", text):
        raise SettingError(
            f"is not a Clerk secret key; it is {shown(text)}.",
            "Copy the secret key (it starts with 'sk_test_' or 'sk_live_') from the API keys page of Clerk's "
            "dashboard.",
        )
    return text


def _machine_secret_key(value: Any) -> str | None:
    text = _text(value)
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


def _accepted_tokens(value: Any) -> tuple[str, ...]:
    try:
        return token_types(value)
    except (TypeError, ValueError) as error:
        raise SettingError(
            str(error), 'Write for example ["session_token", "api_key"], or remove the setting.'
        ) from None


def _publishable_key(value: Any) -> PublishableKey | None:
    text = _text(value)
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


def _pem(value: Any) -> str | None:
    """Bring a PEM public key into one spelling: real newlines, armour on lines of its own."""
    text = _text(value)
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


def _api_url(value: Any) -> str:
    text = _text(value) or "https://api.clerk.com"
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


def _parties(value: Any) -> tuple[str | None, ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise SettingError(
            f"must be a list or a tuple of origins; it is {shown(value)}.",
            'Write a list, for example ["https://app.example.com"].',
        )
    for party in value:
        if party is not None and not (
            isinstance(party, str) and re.fullmatch(r"[a-z][a-z0-9+.\-]*://[^\s/?#@\\]+", party)
        ):
            raise SettingError(
                f"has an entry that is not an origin: {quoted(party) if isinstance(party, str) else shown(party)}.",
                "Each entry is scheme://host or scheme://host:port, without a path or a closing slash, exactly as "
                "browsers send it; or None, to admit tokens without 'azp'.",
            )
    return tuple(value)


def _texts(value: Any) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, (list, tuple)) or not all(isinstance(item, str) and item for item in values):
        raise SettingError(f"must be text or a list of texts; it is {shown(value)}.", "Write a string or a list.")
    return tuple(values)


def _webhook_secrets(value: Any) -> tuple[bytes, ...]:
    """Decode the secrets: one, several with blanks between them (an environment variable is one text), or a list."""
    secrets = []
    for text in _texts(value.split() if isinstance(value, str) else value):
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


def _number(lowest: int, highest: int, unit: str) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            seen = repr(value) if isinstance(value, (int, float)) and abs(value) < 1e15 else shown(value)
            raise SettingError(
                f"must be a whole number of {unit} from {lowest} to {highest}; it is {seen}.",
                "Write a number without quotes inside that range, or remove the setting.",
            )
        return value

    return parse


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise SettingError(f"must be True or False; it is {shown(value)}.", "Write True or False, without quotes.")
    return value


def _choice(*choices: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in choices:
            seen = quoted(value) if isinstance(value, str) else shown(value)
            raise SettingError(f"must be one of {', '.join(choices)}; it is {seen}.", "Write one of these.")
        return str(value)

    return parse


def _user_fields(value: Any) -> Mapping[str, str | None]:
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


def _user_claims(value: Any) -> Mapping[str, str]:
    if value is None:
        return DEFAULT_USER_CLAIMS
    if not isinstance(value, Mapping) or not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        raise SettingError(
            f"must be a dictionary of Clerk fields to claims; it is {shown(value)}.",
            'Write for example {"email": "email", "email_verified": "email_verified"}.',
        )
    return MappingProxyType(dict(value))


def _page_url(value: Any) -> str | None:
    text = _text(value)
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


def _js_version(value: Any) -> str:
    text = _text(value) or "6"
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


def _path_patterns(*names: str) -> Callable[[Any], tuple[re.Pattern[str], ...]]:
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


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "CLERK_SECRET_KEY",
        "E002",
        None,
        _secret_key,
        "Key of Clerk's Backend API. Required unless `CLERK_JWT_KEY` is set and users come from claims.",
        from_environment=True,
    ),
    Setting(
        "CLERK_AUTH_PARTIES",
        "E003",
        (),
        _parties,
        "Origins accepted in `azp`, compared exactly. `None` as an entry admits tokens without `azp`. "
        "Empty: not checked, and a check warns.",
    ),
    Setting("CLERK_AUDIENCE", "E004", None, _texts, "Text or list; when set, `aud` must be present and match."),
    Setting(
        "CLERK_JWT_KEY",
        "E005",
        None,
        _pem,
        "PEM public key: verification without network. Literal `\\n` and one line work too.",
        from_environment=True,
    ),
    Setting(
        "CLERK_API_URL",
        "E006",
        "https://api.clerk.com",
        _api_url,
        "Used for every call to Clerk, the key set included; with or without `/v1`.",
    ),
    Setting(
        "CLERK_TIMEOUT_MS",
        "E007",
        5000,
        _number(100, 60_000, "milliseconds"),
        "Bound on all calls to Clerk within one request, retries included.",
    ),
    Setting("CLERK_CLOCK_SKEW_IN_MS", "E008", 5000, _number(0, 60_000, "milliseconds"), "Leeway on a token's times."),
    Setting(
        "CLERK_CACHE_TIMEOUT",
        "E009",
        300,
        _number(0, 86_400, "seconds"),
        "Seconds a synced user counts as fresh.",
    ),
    Setting("CLERK_CACHE_ALIAS", "E010", "default", _text, "Which of Django's `CACHES` to use."),
    Setting(
        "CLERK_PUBLISHABLE_KEY",
        "E011",
        None,
        _publishable_key,
        "Gives the Frontend API host, issuer, cookie suffix and sign-in page.",
        from_environment=True,
    ),
    Setting(
        "CLERK_ISSUER",
        "E012",
        None,
        _texts,
        "Text or list, compared exactly with `iss`. Derived from the publishable key.",
    ),
    Setting(
        "CLERK_ACCEPTS_TOKEN",
        "E037",
        ["session_token"],
        _accepted_tokens,
        "Kinds of token that views accept which do not say it themselves: `session_token`, `api_key`, `m2m_token`, "
        '`oauth_token`; one, a list, or `"any"`.',
    ),
    Setting(
        "CLERK_MACHINE_SECRET_KEY",
        "E045",
        None,
        _machine_secret_key,
        "Secret key of this application's machine, to verify M2M tokens with. Without it `CLERK_SECRET_KEY` is used.",
        from_environment=True,
    ),
    Setting(
        "CLERK_USER_SOURCE",
        "E013",
        "api",
        _choice("api", "claims"),
        '`"api"`: users come from Clerk\'s API. `"claims"`: from the token\'s claims, without a call.',
    ),
    Setting(
        "CLERK_USER_FIELDS",
        "E014",
        None,
        _user_fields,
        "Clerk field → model field, or dotted path to a callable. Laid over the built-in mapping.",
    ),
    Setting("CLERK_USER_CLAIMS", "E015", None, _user_claims, "Clerk field → claim, when users come from claims."),
    Setting(
        "CLERK_LINK_BY_EMAIL",
        "E016",
        True,
        _boolean,
        "Whether a Django user of the same verified primary e-mail is linked at first sign-in.",
    ),
    Setting("CLERK_SIGN_IN_URL", "E017", None, _page_url, "Sign-in page. Derived from the publishable key."),
    Setting("CLERK_PROXY_URL", "E018", None, _page_url, "Address of a proxy in front of Clerk's Frontend API."),
    Setting("CLERK_DOMAIN", "E019", None, _text, "Domain of a satellite application."),
    Setting("CLERK_IS_SATELLITE", "E020", False, _boolean, "Whether this is a satellite application."),
    Setting(
        "CLERK_SIGN_UP_URL",
        "E038",
        None,
        _page_url,
        "Sign-up page. Derived: `/create` below `CLERK_SIGN_IN_URL`, or else from the publishable key.",
    ),
    Setting("CLERK_AFTER_SIGN_OUT_URL", "E039", None, _page_url, "Where signing out leads; else to the site's root."),
    Setting(
        "CLERK_JS_VERSION",
        "E044",
        "6",
        _js_version,
        "clerk-js that `{% clerk_js %}` loads: a major, an exact version or an npm tag.",
    ),
    Setting(
        "CLERK_SATELLITE_AUTO_SYNC",
        "E040",
        False,
        _boolean,
        "Whether a satellite asks the primary application about every new visitor, not only when told to.",
    ),
    Setting(
        "CLERK_ORGANIZATION_PATTERNS",
        "E041",
        (),
        _path_patterns("id", "slug"),
        "Paths that name the organisation to be active, for example `/orgs/:slug/(.*)`; `:id` works too.",
    ),
    Setting(
        "CLERK_PERSONAL_ACCOUNT_PATTERNS",
        "E042",
        (),
        _path_patterns(),
        "Paths on which no organisation is to be active, for example `/me/(.*)`.",
    ),
    Setting(
        "CLERK_CHECK_REVOKED_SESSIONS",
        "E043",
        False,
        _boolean,
        "Refuse revoked sessions at once, not when their token expires. Needs webhooks and a shared cache.",
    ),
    Setting(
        "CLERK_WEBHOOK_SIGNING_SECRET",
        "E046",
        (),
        _webhook_secrets,
        "Text, or a list while it is being changed: what webhooks are signed with (`whsec_…`).",
        from_environment=True,
    ),
)

_BY_NAME = {setting.name: setting for setting in SETTINGS}


class Config:
    """
    The settings as the library uses them: parsed, validated, in seconds, and with what follows from them.

    Raises:
        ImproperlyConfigured: On the first setting that cannot be used. Nothing is let through meanwhile.
    """

    @sensitive_variables()
    def __init__(self, raw: Mapping[str, Any]) -> None:
        parsed: dict[str, Any] = {}
        for setting in SETTINGS:
            try:
                parsed[setting.name] = setting.parse(raw[setting.name])
            except SettingError as error:
                raise ImproperlyConfigured(f"{setting.name} {error.wrong} {error.mend}") from None
        self.secret_key: str | None = parsed["CLERK_SECRET_KEY"]
        self.auth_parties: tuple[str | None, ...] = parsed["CLERK_AUTH_PARTIES"]
        self.audience: tuple[str, ...] = parsed["CLERK_AUDIENCE"]
        self.jwt_key: str | None = parsed["CLERK_JWT_KEY"]
        self.api_url: str = parsed["CLERK_API_URL"]  # without /v1 and without a closing slash
        self.timeout: float = parsed["CLERK_TIMEOUT_MS"] / 1000  # seconds
        self.clock_skew: float = parsed["CLERK_CLOCK_SKEW_IN_MS"] / 1000  # seconds
        self.cache_timeout: int = parsed["CLERK_CACHE_TIMEOUT"]  # seconds
        self.cache_alias: str = parsed["CLERK_CACHE_ALIAS"] or "default"
        self.accepts_token: tuple[str, ...] = parsed["CLERK_ACCEPTS_TOKEN"]
        self.machine_secret_key: str | None = parsed["CLERK_MACHINE_SECRET_KEY"]
        self.publishable_key: PublishableKey | None = parsed["CLERK_PUBLISHABLE_KEY"]
        self.user_source: str = parsed["CLERK_USER_SOURCE"]
        self.user_fields: Mapping[str, str | None] = parsed["CLERK_USER_FIELDS"]
        self.user_claims: Mapping[str, str] = parsed["CLERK_USER_CLAIMS"]
        self.link_by_email: bool = parsed["CLERK_LINK_BY_EMAIL"]
        self.proxy_url: str | None = parsed["CLERK_PROXY_URL"]
        self.domain: str | None = parsed["CLERK_DOMAIN"]
        self.is_satellite: bool = parsed["CLERK_IS_SATELLITE"]
        self.own_sign_in_url: str | None = parsed["CLERK_SIGN_IN_URL"]  # None: left to Clerk
        self.own_sign_up_url: str | None = parsed["CLERK_SIGN_UP_URL"]  # None: left to Clerk
        self.after_sign_out_url: str | None = parsed["CLERK_AFTER_SIGN_OUT_URL"]
        self.js_version: str = parsed["CLERK_JS_VERSION"]
        self.satellite_auto_sync: bool = parsed["CLERK_SATELLITE_AUTO_SYNC"]
        self.organization_patterns: tuple[re.Pattern[str], ...] = parsed["CLERK_ORGANIZATION_PATTERNS"]
        self.personal_account_patterns: tuple[re.Pattern[str], ...] = parsed["CLERK_PERSONAL_ACCOUNT_PATTERNS"]
        self.check_revoked_sessions: bool = parsed["CLERK_CHECK_REVOKED_SESSIONS"]
        self.webhook_secrets: tuple[bytes, ...] = parsed["CLERK_WEBHOOK_SIGNING_SECRET"]  # decoded; empty for none
        self._issuer: tuple[str, ...] = parsed["CLERK_ISSUER"]
        if self.jwt_key is None and self.secret_key is None:
            raise ImproperlyConfigured(
                "Neither CLERK_SECRET_KEY nor CLERK_JWT_KEY is set, so no token can be verified. Copy the secret key "
                "from the API keys page of Clerk's dashboard into the setting or environment variable CLERK_SECRET_KEY."
            )
        if self.user_source == "api" and self.secret_key is None:
            raise ImproperlyConfigured(
                "CLERK_SECRET_KEY is not set, so users cannot be fetched from Clerk. Set it, or set "
                'CLERK_USER_SOURCE = "claims" to take them from the token.'
            )
        if self.is_satellite and self.is_development and not (self.own_sign_in_url or "").startswith("http"):
            raise ImproperlyConfigured(
                "CLERK_IS_SATELLITE is True on a development instance, but CLERK_SIGN_IN_URL does not say where the "
                "primary application is. Set it to the whole address of the primary's sign-in page."
            )

    def __repr__(self) -> str:
        return f"<Config for {self.api_url}>"

    @cached_property
    def cookie_suffix(self) -> str | None:
        """What ends the names of this instance's cookies; None without a publishable key."""
        return self.publishable_key.cookie_suffix if self.publishable_key else None

    @cached_property
    def is_development(self) -> bool:
        """Whether the publishable key is a development instance's. False without one."""
        return self.publishable_key is not None and not self.publishable_key.is_production

    @cached_property
    def frontend_api_host(self) -> str | None:
        """
        The host of Clerk's Frontend API, a proxy in front of it left aside; None without a publishable key.

        On a production satellite it is below the satellite's own domain. Source: Clerk, "satellite domains".
        """
        if self.publishable_key is None:
            return None
        if self.is_satellite and self.domain and self.publishable_key.is_production:
            return f"clerk.{self.domain}"
        return self.publishable_key.host

    def frontend_api(self, origin: str) -> str | None:
        """
        Return the address below which browsers reach the Frontend API, without a closing slash; None if unknown.

        Args:
            origin: The site's own origin, below which a proxy given as a path stands.
        """
        if self.proxy_url is not None:
            return (origin if self.proxy_url.startswith("/") else "") + self.proxy_url.rstrip("/")
        host = self.frontend_api_host
        # A server on this machine is a stand-in, and has no certificate.
        local = host is not None and (host.rpartition(":")[0] or host) in LOOPBACK_HOSTS
        return host and f"{'http' if local else 'https'}://{host}"

    @cached_property
    def issuers(self) -> tuple[str, ...]:
        """The values of ``iss`` that are ours; empty when none is known, and then ``iss`` is not compared."""
        if self._issuer:
            return self._issuer
        if self.publishable_key is None:
            return ()
        issuers = [f"https://{self.publishable_key.host}"]
        if self.frontend_api_host != self.publishable_key.host:
            issuers.append(f"https://{self.frontend_api_host}")
        if self.proxy_url and self.proxy_url.startswith("http"):
            issuers.append(self.proxy_url.rstrip("/"))
        return tuple(issuers)

    @cached_property
    def sign_in_url(self) -> str | None:
        """Where a visitor signs in: as set, else Clerk's hosted page; None when neither is known."""
        if self.own_sign_in_url or self.publishable_key is None:
            return self.own_sign_in_url
        return f"{self.publishable_key.accounts_portal}/sign-in"

    @cached_property
    def sign_up_url(self) -> str | None:
        """
        Where a visitor signs up: as set, else below the sign-in page that is set, else Clerk's hosted page.

        None when none is known. Source: Clerk's backend SDK, "redirect to sign-up".
        """
        if self.own_sign_up_url:
            return self.own_sign_up_url
        if self.own_sign_in_url:
            return below(self.own_sign_in_url, "create")
        return None if self.publishable_key is None else f"{self.publishable_key.accounts_portal}/sign-up"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 hex over all that decides whether a token is good; verdicts are never shared across it (CAC-02)."""
        parts = (
            self.secret_key,
            self.jwt_key,
            self.api_url,
            self.issuers,
            self.auth_parties,
            self.audience,
            self.clock_skew,
            self.publishable_key and self.publishable_key.text,
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()


def read_raw() -> dict[str, Any]:
    """Read every setting as it stands now: Django's settings, then the environment where allowed, then the default."""
    raw: dict[str, Any] = {}
    for setting in SETTINGS:
        value = getattr(settings, setting.name, None)
        if value is None and setting.from_environment:
            value = os.environ.get(setting.name)
        raw[setting.name] = setting.default if value is None else value
    return raw


def _now() -> list[Any]:
    """
    Take the values a Config depends on, quickly enough to do it for every request.

    Measured: getattr() of a name that is not set costs 3 µs through Django's lazy settings, so a look at each of our
    names 40 µs; a look into the plain dictionaries behind them 2 µs. Overrides (tests) stack such dictionaries.
    """
    layers: list[dict[str, Any]] = []
    holder: Any = getattr(settings, "_wrapped", None)
    while type(holder) is UserSettingsHolder:
        layers.append(vars(holder))
        holder = holder.default_settings
    if type(settings) is not LazySettings or not (type(holder) is Settings or holder is global_settings):
        return list(read_raw().values())  # another project's own settings object: slower, and right
    layers.append(vars(holder))
    values: list[Any] = []
    for name, from_environment in _NAMES:
        value = None
        for layer in layers:
            if name in layer:
                value = layer[name]
                break
            if name in layer.get("_deleted", ()):
                break
        if value is None and from_environment:
            value = os.environ.get(name)
        # A copy, as a list that is changed in place would always equal itself.
        values.append(value.copy() if isinstance(value, (list, dict)) else value)
    return values


_NAMES = [(setting.name, setting.from_environment) for setting in SETTINGS]
_latest: tuple[list[Any], Config] | None = None


@sensitive_variables()
def config() -> Config:
    """
    Return the settings as they stand now.

    The same object comes back as long as no value has changed, so what belongs to one configuration (keys, verdicts,
    connections) can be held by it. ``override_settings`` needs no help: values are compared at each call.
    """
    global _latest
    now = _now()
    latest = _latest
    if latest is None or latest[0] != now:
        latest = _latest = (now, Config(read_raw()))
    return latest[1]
