"""
Every setting: its name, default and unit, and of which kind of values.py it is.

``config()`` is how the rest of the library reads them: one frozen object, built anew whenever a value differs from the
one it was built from. ``manage.py check`` walks the same table (see checks.py), so a rule stands here once.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from operator import itemgetter
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.conf import LazySettings, Settings, UserSettingsHolder, global_settings, settings
from django.core.exceptions import ImproperlyConfigured
from django.views.decorators.debug import sensitive_variables

from clerk_views import values
from clerk_views.values import LOOPBACK_HOSTS, PublishableKey, SettingError, below


class Setting(NamedTuple):
    """One row of the settings table."""

    name: str
    check_id: str
    default: Any
    parse: Callable[[Any], Any]
    meaning: str
    from_environment: bool = False


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "CLERK_SECRET_KEY",
        "E002",
        None,
        values.secret_key,
        "Key of Clerk's Backend API. Required unless `CLERK_JWT_KEY` is set and users come from claims.",
        from_environment=True,
    ),
    Setting(
        "CLERK_AUTH_PARTIES",
        "E003",
        (),
        values.parties,
        "Origins accepted in `azp`, compared exactly, without wildcards. `None` as an entry admits tokens without "
        "`azp`. Empty: not checked, and a check warns.",
    ),
    Setting("CLERK_AUDIENCE", "E004", None, values.texts, "Text or list; when set, `aud` must be present and match."),
    Setting(
        "CLERK_JWT_KEY",
        "E005",
        None,
        values.pem,
        "PEM public key: verification without network. Literal `\\n` and one line work too.",
        from_environment=True,
    ),
    Setting(
        "CLERK_API_URL",
        "E006",
        "https://api.clerk.com",
        values.api_url,
        "Used for every call to Clerk, the key set included; with or without `/v1`.",
    ),
    Setting(
        "CLERK_TIMEOUT_MS",
        "E007",
        5000,
        values.number(100, 60_000, "milliseconds"),
        "Bound on all calls to Clerk within one request, retries included.",
    ),
    Setting(
        "CLERK_CLOCK_SKEW_IN_MS", "E008", 5000, values.number(0, 60_000, "milliseconds"), "Leeway on a token's times."
    ),
    Setting(
        "CLERK_CACHE_TIMEOUT",
        "E009",
        300,
        values.number(0, 86_400, "seconds"),
        "Seconds a synced user counts as fresh.",
    ),
    Setting("CLERK_CACHE_ALIAS", "E010", "default", values.plain_text, "Which of Django's `CACHES` to use."),
    Setting(
        "CLERK_PUBLISHABLE_KEY",
        "E011",
        None,
        values.publishable_key,
        "Gives the Frontend API host, issuer, cookie suffix and sign-in page.",
        from_environment=True,
    ),
    Setting(
        "CLERK_ISSUER",
        "E012",
        None,
        values.texts,
        "Text or list, compared exactly with `iss`. Derived from the publishable key.",
    ),
    Setting(
        "CLERK_ACCEPTS_TOKEN",
        "E037",
        ["session_token"],
        values.accepted_tokens,
        "Kinds of token that views accept which do not say it themselves: `session_token`, `api_key`, `m2m_token`, "
        '`oauth_token`; one, a list, or `"any"`.',
    ),
    Setting(
        "CLERK_MACHINE_SECRET_KEY",
        "E045",
        None,
        values.machine_secret_key,
        "Secret key of this application's machine, to verify M2M tokens with. Without it `CLERK_SECRET_KEY` is used.",
        from_environment=True,
    ),
    Setting(
        "CLERK_USER_SOURCE",
        "E013",
        "api",
        values.choice("api", "claims"),
        '`"api"`: users come from Clerk\'s API. `"claims"`: from the token\'s claims, without a call.',
    ),
    Setting(
        "CLERK_USER_FIELDS",
        "E014",
        None,
        values.user_fields,
        "Clerk field → model field, or dotted path to a callable. Laid over the built-in mapping.",
    ),
    Setting("CLERK_USER_CLAIMS", "E015", None, values.user_claims, "Clerk field → claim, when users come from claims."),
    Setting(
        "CLERK_LINK_BY_EMAIL",
        "E016",
        True,
        values.boolean,
        "Whether a Django user of the same verified primary e-mail is linked at first sign-in.",
    ),
    Setting("CLERK_SIGN_IN_URL", "E017", None, values.page_url, "Sign-in page. Derived from the publishable key."),
    Setting("CLERK_PROXY_URL", "E018", None, values.page_url, "Address of a proxy in front of Clerk's Frontend API."),
    Setting("CLERK_DOMAIN", "E019", None, values.domain, "Domain of a satellite application, without scheme and path."),
    Setting("CLERK_IS_SATELLITE", "E020", False, values.boolean, "Whether this is a satellite application."),
    Setting(
        "CLERK_SIGN_UP_URL",
        "E038",
        None,
        values.page_url,
        "Sign-up page. Derived: `/create` below `CLERK_SIGN_IN_URL`, or else from the publishable key.",
    ),
    Setting(
        "CLERK_AFTER_SIGN_OUT_URL", "E039", None, values.page_url, "Where signing out leads; else to the site's root."
    ),
    Setting(
        "CLERK_JS_VERSION",
        "E044",
        "6",
        values.js_version,
        "clerk-js that `{% clerk_js %}` loads: a major, an exact version or an npm tag.",
    ),
    Setting(
        "CLERK_SATELLITE_AUTO_SYNC",
        "E040",
        False,
        values.boolean,
        "Whether a satellite asks the primary application about every new visitor, not only when told to.",
    ),
    Setting(
        "CLERK_ORGANIZATION_PATTERNS",
        "E041",
        (),
        values.path_patterns("id", "slug"),
        "Paths that name the organisation to be active, for example `/orgs/:slug/(.*)`; `:id` works too.",
    ),
    Setting(
        "CLERK_PERSONAL_ACCOUNT_PATTERNS",
        "E042",
        (),
        values.path_patterns(),
        "Paths on which no organisation is to be active, for example `/me/(.*)`.",
    ),
    Setting(
        "CLERK_CHECK_REVOKED_SESSIONS",
        "E043",
        False,
        values.boolean,
        "Refuse revoked sessions at once, not when their token expires. Needs webhooks and a shared cache.",
    ),
    Setting(
        "CLERK_WEBHOOK_SIGNING_SECRET",
        "E046",
        (),
        values.webhook_secrets,
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
        if self.is_satellite:
            self._check_satellite()

    def _check_satellite(self) -> None:
        """
        Refuse a satellite that leads nowhere. Source: Clerk's backend SDK, which finds the last two of these out when a
        request has an ``Origin``; here no header of a caller's makes a setting wrong.
        """
        if self.is_development and self.own_sign_in_url is None:
            raise ImproperlyConfigured(
                "CLERK_IS_SATELLITE is True on a development instance, but CLERK_SIGN_IN_URL does not say where the "
                "primary application is. Set it to the whole address of the primary's sign-in page."
            )
        if not self.domain and self.proxy_url is None:
            raise ImproperlyConfigured(
                "CLERK_IS_SATELLITE is True, but neither CLERK_DOMAIN nor CLERK_PROXY_URL says where the satellite is. "
                "Set CLERK_DOMAIN to the satellite's domain, or CLERK_PROXY_URL."
            )
        address = urlsplit(self.own_sign_in_url or "https://elsewhere")
        if address.netloc in ("", self.domain):
            raise ImproperlyConfigured(
                "CLERK_IS_SATELLITE is True, but CLERK_SIGN_IN_URL is a page of the satellite itself, where nobody can "
                "sign in. Set it to the whole address of the primary's sign-in page."
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


def _values(holder: Any) -> list[Any]:
    """Return the values of all names as they stand now; None where nothing is set. Overrides (tests) stack layers."""
    layers: list[dict[str, Any]] = []
    while type(holder) is UserSettingsHolder:
        layers.append(vars(holder))
        holder = holder.default_settings
    if not (type(holder) is Settings or holder is global_settings):
        return list(read_raw().values())  # another project's own settings object: slower, and right
    layers.append(vars(holder))
    values: list[Any] = []
    for name in _NAMES:
        value = None
        for layer in layers:
            if name in layer:
                value = layer[name]
                break
            if name in layer.get("_deleted", ()):
                break
        values.append(value)
    return values


def _holder() -> Any:
    """Return the object behind Django's lazy settings; None where there are other settings than Django's."""
    return object.__getattribute__(settings, "_wrapped") if type(settings) is LazySettings else None


_NAMES = [setting.name for setting in SETTINGS]
_FROM_ENVIRONMENT = [setting.name for setting in SETTINGS if setting.from_environment]
_ENCODED = {name: name.encode() for name in _FROM_ENVIRONMENT}


class _Latest:
    """
    The settings as they last stood, and whether they still do: quickly enough to ask for every request.

    Measured: getattr() of a name that is not set costs 3 µs through Django's lazy settings, so a look at each of our
    names 40 µs; a look into the plain dictionary behind them 3 µs in the midst of a request. So only what was set is
    looked at, and besides whether any name came or went: how many there are, and which came last. Overrides (tests)
    stack such dictionaries, and go the long way.
    """

    def __init__(self) -> None:
        self._holder = _holder()
        self._values: list[Any] = _values(self._holder)
        named = dict(zip(_NAMES, self._values, strict=True))
        self._plain = vars(self._holder) if type(self._holder) is Settings else {"SETTINGS_MODULE": None}
        # Django notes there where they come from; so there is something to look at, even if all is in the environment.
        self._look = itemgetter("SETTINGS_MODULE", *(name for name in _NAMES if name in self._plain))
        self._set, self._count, self._last = self._look(self._plain), len(self._plain), next(reversed(self._plain))
        self._asked = [name for name in _FROM_ENVIRONMENT if named[name] is None]
        self._told = _from_environment(self._asked)
        # A list that was changed in place equals itself, so of lists there are copies.
        self._copies = [(value, value.copy()) for value in self._values if isinstance(value, (list, dict))]
        self.config = Config(read_raw())

    def stand(self) -> bool:
        """Whether they still stand so."""
        holder = _holder()
        if holder is self._holder and type(holder) is Settings:
            found = self._plain
            try:
                if self._look(found) != self._set:
                    return False
            except KeyError:
                return False
            if len(found) != self._count or next(reversed(found)) != self._last:
                return False
        elif _values(holder) != self._values:
            return False
        if self._asked and _from_environment(self._asked) != self._told:
            return False
        for value, copy in self._copies:  # noqa: SIM110  # all() of a generator costs 1 µs more
            if value != copy:
                return False
        return True


def _from_environment(names: list[str]) -> list[str | bytes | None]:
    """
    Return what the environment has under names, encoded or not, to see whether it is still the same.

    os.environ takes 2 µs to say that it has nothing, in exceptions; the dictionary behind it, on POSIX systems, 0.1.
    """
    kept = getattr(os.environ, "_data", None) if os.name == "posix" else None
    return [os.environ.get(name) if kept is None else kept.get(_ENCODED[name]) for name in names]


_latest: _Latest | None = None


def config() -> Config:
    """
    Return the settings as they stand now.

    The same object comes back as long as no value has changed, so what belongs to one configuration (keys, verdicts,
    connections) can be held by it. ``override_settings`` needs no help: values are compared at each call.
    """
    latest = _latest
    return latest.config if latest is not None and latest.stand() else _read_anew()


@sensitive_variables()
def _read_anew() -> Config:
    global _latest
    _latest = latest = _Latest()
    return latest.config
