"""
Must the browser make a detour to Clerk first, and what did it bring back from one?

Pure: no network, no key, no clock; authentication.py does what is to be done. A server-rendered page cannot renew the
short-lived session token as clerk-js does, so a doubtful page navigation is sent to Clerk's Frontend API, which answers
with fresh cookies: the handshake. The steps and reasons are those of Clerk's JavaScript backend SDK, and so is their
order; C1 to C16 are their names in the tests. Where ours is stricter, the comment there says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from django.http import HttpRequest
from django.http.request import split_domain_port

from clerk_views import cookies, tokens
from clerk_views.conf import Config
from clerk_views.cookies import Cookies, Variant
from clerk_views.exceptions import TokenRefused
from clerk_views.values import CLERK_API_VERSION

#: Redirects in a row. The counter lives for two seconds; whoever comes back faster than that is in a loop.
LOOP_LIMIT = 3
LOOP_SECONDS = 2

MAX_DIRECTIVES = 20
MAX_DIRECTIVE_LENGTH = 16_384  # characters
# Beyond it, a path is compared with no pattern: two wildcards take time by the square of the length.
MAX_PATTERN_PATH = 2048  # characters

SYNCED, REDIRECT_URL, HELP, LEGACY_DEV_BROWSER = (
    "__clerk_synced",
    "__clerk_redirect_url",
    "__clerk_help",
    "__dev_session",
)

_MISSING = "session-token-and-uat-missing"

#: So begin the names of the headers in which Clerk's tools read how a request was judged.
REPORT = "x-clerk-auth-"

#: Reasons for which a token was refused that may be good in a moment, by the names they have for a whole request.
CLOCK_REASONS = {
    "token-not-active-yet": "session-token-nbf",
    "token-iat-in-the-future": "session-token-iat-in-the-future",
}
STALE = "session-token-iat-before-client-uat"

_NONCE = re.compile(r"[A-Za-z0-9_-]{1,512}")
_PLAIN_PATH = re.compile(r"/(?!/)[!-\[\]-~]*")  # printable ASCII without a backslash: all browsers read it alike
_PLAIN_URL = re.compile(r"https?://[^/?#][!-\[\]-~]*")
_PRINTABLE = re.compile(r"[ -~]*")


@dataclass(eq=False, repr=False)
class Facts:
    """
    What a handshake depends on in a request.

    Host and path come from Django when they are needed, which is seldom; the host is the one that ALLOWED_HOSTS
    admitted, and no forwarded header is looked at (RED-02).

    Attributes:
        suffixed: Whether the suffixed cookies count. See cookies.use_suffixed().
        bearer: The token of the Authorization header; None when there is none, or nobody can read it.
        query_string: As it stands, without the question mark.
        get_path: Returns path and query, escaped.
    """

    method: str
    scheme: str
    destination: str
    accept: str
    referer: str
    query_string: str
    cookies: Cookies
    suffixed: bool
    bearer: str | None
    get_host: Callable[[], str]
    get_path: Callable[[], str]

    @property
    def variant(self) -> Variant:
        """The cookies of the spelling that counts."""
        return self.cookies.of(self.suffixed)

    @cached_property
    def session(self) -> str:
        """The session token that Clerk is told of, good or bad; empty when there is none."""
        sessions = self.variant.sessions
        return next(iter((*tokens.candidates(sessions, 1), *sessions)), self.bearer or "")

    @cached_property
    def is_eligible(self) -> bool:
        """Whether a redirect is of use."""
        return opens_page(self.method, self.destination, self.accept)

    @property
    def is_document(self) -> bool:
        """Whether a page is opened at the top level, as the browser itself says."""
        return self.method == "GET" and self.destination == "document"

    @cached_property
    def query(self) -> dict[str, str]:
        """The query's values; of a repeated name the first."""
        return dict(reversed(parse_qsl(self.query_string, keep_blank_values=True)))

    def asks(self, name: str) -> str:
        """Return one of Clerk's parameters; empty when there is none."""
        return self.query.get(name, "") if "__" in self.query_string else ""

    @cached_property
    def dev_browser(self) -> str:
        """The token that stands for the browser on development instances; empty when there is none."""
        return self.asks(cookies.DEV_BROWSER) or self.variant.dev_browser

    @cached_property
    def origin(self) -> str:
        """Scheme and host of the request, the port if it is not the scheme's own."""
        return _origin(f"{self.scheme}://{self.get_host()}") or ""

    def url(self, *without: str) -> str:
        """
        Return the request's own address, fit to be given away.

        Put together, never resolved: ``//evil.example/`` is a path here and would be a host there. What is not plain
        becomes the site's root.

        Args:
            without: Parameters to leave out; the others are written anew.
        """
        path, _, query = self.get_path().partition("?")
        if not _PLAIN_PATH.fullmatch(path):
            return f"{self.origin}/"
        kept = [(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name not in without]
        return self.origin + path + ("?" + _form(kept) if kept else "")

    @cached_property
    def redirects(self) -> int:
        """How many redirects in a row led here. What is no number is a loop: somebody plays with it (RED-03)."""
        text = self.cookies.redirect_count or "0"
        return int(text) if re.fullmatch(r"[0-9]{1,3}", text) else LOOP_LIMIT


def opens_page(method: str | None, destination: str, accept: str) -> bool:
    """
    Whether a browser is opening a page, so that a redirect or a page is of use (RED-04).

    Args:
        destination: The header ``Sec-Fetch-Dest``, as ``accept`` is ``Accept``; empty without one.

    Source: Clerk's backend SDK, "handshake eligibility". HEAD is not GET here.
    """
    if method != "GET":
        return False
    if destination:
        return destination in ("document", "iframe")
    return accept.startswith("text/html")


def is_page_navigation(request: HttpRequest) -> bool:
    """Whether a browser is opening a page. See opens_page()."""
    meta = request.META
    return opens_page(request.method, meta.get("HTTP_SEC_FETCH_DEST", ""), meta.get("HTTP_ACCEPT", ""))


class Outcome(NamedTuple):
    """
    A request that does not go on as it is.

    Attributes:
        status: ``handshake``: the browser is to be redirected; or ``signed-out``.
        headers: What the response must carry.
    """

    status: str
    reason: str
    headers: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        return f"<Outcome {self.status} {self.reason}>"


def signed_out(reason: str) -> Outcome:
    """Return the outcome of nobody being signed in."""
    return Outcome("signed-out", reason, report("signed-out", reason))


def report(status: str, reason: str) -> tuple[tuple[str, str], ...]:
    """Return the headers that say how a request was judged."""
    return ((f"{REPORT}status", status), (f"{REPORT}reason", reason))


def start(facts: Facts, config: Config) -> Outcome | None:
    """Take the steps before the session token is looked at, C2 to C9. None: it is to be looked at."""
    variant = facts.variant
    changed = variant.last_change
    if config.is_satellite and facts.is_document and facts.asks(SYNCED) != "true":
        wanted = facts.asks(SYNCED) == "false"
        known = bool(variant.sessions or changed)
        if wanted or (config.satellite_auto_sync and not known):
            back = None
            if config.is_development:
                back = _with(config.sign_in_url or "", {REDIRECT_URL: facts.url()})
            return _handshake(facts, config, "satellite-needs-syncing", back)
        if not known:
            return signed_out(_MISSING)
    if config.is_development:
        target = facts.asks(REDIRECT_URL)
        if target and not config.is_satellite and _may_sync(target, facts, config):
            browser = {cookies.DEV_BROWSER: facts.dev_browser} if facts.dev_browser else {}
            return _handshake(facts, config, "primary-responds-to-syncing", _with(target, {**browser, SYNCED: "true"}))
        if facts.asks(cookies.DEV_BROWSER):
            return _handshake(facts, config, "dev-browser-sync")
        if not facts.dev_browser:
            return _handshake(facts, config, "dev-browser-missing")
    if not changed:
        if not variant.sessions:
            return signed_out(_MISSING)
        return _handshake(facts, config, "session-token-but-no-client-uat")
    if not variant.sessions:
        return _handshake(facts, config, "client-uat-but-no-session-token")
    return None


def _may_sync(target: str, facts: Facts, config: Config) -> bool:
    """
    Whether the browser's development token may be handed to this address.

    Clerk's SDK asks nothing and so redirects anywhere. Ours admits the origins that the project names (RED-01).
    """
    origin = _origin(target)
    return origin is not None and (origin in config.auth_parties or origin == facts.origin)


def recover(facts: Facts, config: Config, reason: str) -> Outcome:
    """Say what becomes of a request whose session token was refused: C10 to C13 and ERROR of the state machine."""
    if reason == STALE or reason in CLOCK_REASONS or reason.startswith("session-token-expired"):
        return _handshake(facts, config, CLOCK_REASONS.get(reason, reason))
    return signed_out(reason)


def expired(why: str) -> str:
    """Return the reason for a token that expired and was not renewed."""
    return f"session-token-expired-refresh-{why}"


def why_not_refresh(method: str, refresh: str) -> str | None:
    """Return why an expired token may not be renewed; None if it may."""
    if method != "GET":
        return "non-eligible-non-get"
    return None if refresh else "non-eligible-no-refresh-cookie"


def finish(facts: Facts, config: Config, claims: Callable[[], Mapping[str, Any]]) -> Outcome | None:
    """
    Take the steps after a session cookie has been verified, C14 and C15. None: it stays signed in.

    Args:
        claims: Returns the verified claims; None-like (empty) for a session with tasks to finish, which switches no
            organisation.
    """
    if (
        facts.referer
        and facts.is_document
        and not config.is_satellite
        and facts.redirects == 0
        and _comes_from_elsewhere(facts, config)
    ):
        return _handshake(facts, config, "primary-domain-cross-origin-sync")
    wanted = _wanted_organization(facts, config)
    if wanted is None or not facts.is_eligible or facts.redirects >= LOOP_LIMIT:
        return None
    verified = claims()
    if not verified or wanted == _active_organization(verified, wanted[0]):
        return None
    return _handshake(facts, config, "active-organization-mismatch")


def _comes_from_elsewhere(facts: Facts, config: Config) -> bool:
    """
    Whether a link of another origin led here, which may have signed in or out meanwhile.

    The referrer's host is compared whole, with hosts that the settings give (RED-09). It costs a redirect, never
    more: what a page may do does not depend on it.
    """
    try:
        parts = urlsplit(facts.referer)
    except ValueError:
        return False
    if not parts.scheme:
        return False  # no absolute address, so it says nothing
    origin = _origin(facts.referer)
    known = {facts.origin, config.publishable_key and config.publishable_key.accounts_portal}
    return origin not in known and parts.hostname != urlsplit(config.frontend_api(facts.origin) or "").hostname


def _wanted_organization(facts: Facts, config: Config) -> tuple[str, str] | None:
    """Return which organisation the address names, as ``id``, ``slug`` or ``personal`` and its value."""
    if not (config.organization_patterns or config.personal_account_patterns):
        return None
    path = facts.get_path().partition("?")[0]
    if len(path) > MAX_PATTERN_PATH:
        return None
    for pattern in config.organization_patterns:
        match = pattern.fullmatch(path)
        if match:
            named = match.groupdict()
            return ("id", named["id"]) if "id" in named else ("slug", named["slug"])
    return ("personal", "") if any(pattern.fullmatch(path) for pattern in config.personal_account_patterns) else None


def _active_organization(claims: Mapping[str, Any], kind: str) -> tuple[str, str]:
    """Return the organisation that a session has active, in the words of ``_wanted_organization``."""
    if claims.get("v") == 2 and not isinstance(claims["v"], bool):
        found = claims.get("o")
        organization = found if isinstance(found, dict) else {}
        active_id, slug = organization.get("id"), organization.get("slg")
    else:
        active_id, slug = claims.get("org_id"), claims.get("org_slug")
    if kind == "personal":
        return kind, "" if active_id is None else "an organisation"
    value = active_id if kind == "id" else slug
    return kind, value if isinstance(value, str) else ""


def _handshake(facts: Facts, config: Config, reason: str, location: str | None = None) -> Outcome:
    """
    Send the browser to Clerk, or to ``location``, if that is of use; else nobody is signed in, for the same reason.

    The counter cookie has a path, which Clerk's SDK leaves out: redirects between directories are a loop, too.
    """
    if not facts.is_eligible or facts.redirects >= LOOP_LIMIT:
        return signed_out(reason)
    counter = f"{cookies.REDIRECT_COUNT}={facts.redirects + 1}; Path=/; SameSite=Lax; HttpOnly; Max-Age={LOOP_SECONDS}"
    headers = (
        *_redirect(location or _location(facts, config, reason)),
        ("Set-Cookie", f"{counter}; Secure" if facts.scheme == "https" else counter),
        *report("handshake", reason),
    )
    return Outcome("handshake", reason, headers)


def _redirect(location: str) -> tuple[tuple[str, str], ...]:
    """Return the headers of a redirect whose address may hold tokens: kept nowhere and told to nobody (RED-05)."""
    return (("Location", location), ("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer"))


def _location(facts: Facts, config: Config, reason: str) -> str:
    """
    Return the address at Clerk that a handshake starts from.

    On production Clerk's SDK sends the session token along. Ours does not, for addresses end up in logs, and the
    Frontend API knows the browser by its own cookie there (RED-05). Without a secret key no nonce could be exchanged,
    so none is asked for.
    """
    query = [
        # Nor what an earlier handshake brought: of two nonces on the way back the first would count.
        ("redirect_url", facts.url(cookies.DEV_BROWSER, LEGACY_DEV_BROWSER, cookies.HANDSHAKE, cookies.NONCE)),
        ("__clerk_api_version", CLERK_API_VERSION),
        ("suffixed_cookies", "true" if facts.suffixed else "false"),
        ("__clerk_hs_reason", reason),
    ]
    if config.secret_key is not None:
        query.append(("format", "nonce"))
    if config.is_development:
        if facts.session:
            query.append((cookies.SESSION, facts.session))
        if facts.dev_browser:
            query.append((cookies.DEV_BROWSER, facts.dev_browser))
    wanted = _wanted_organization(facts, config)
    if wanted is not None:
        query.append(("organization_id", wanted[1]))
    return f"{config.frontend_api(facts.origin)}/v1/client/handshake?{_form(query)}"


class Brought(NamedTuple):
    """What a browser brings back from Clerk: a nonce that stands for the answer, or the answer as a signed token."""

    nonce: str = ""
    token: str = ""

    def __repr__(self) -> str:
        return f"<Brought {'a nonce' if self.nonce else 'a token'}>"


def brought(facts: Facts, config: Config) -> Brought | None:
    """
    Return what a handshake brought back; None when nothing did.

    On a development instance it is in the query or in a cookie. On production only the cookies count, which Clerk sets
    there: a query can be put into any link, and with one's own token in it would sign a visitor in as somebody else.
    What cannot be a nonce is none (RED-06).

    Only where a browser opens a page, which is how Clerk sends it back. Clerk's SDK looks at it with any request; so
    the scripts of a page could be signed in by what was meant for nobody any more (RED-04).
    """
    if not facts.is_eligible:
        return None
    if not config.is_development:
        return held(facts)
    return _brought(facts.asks(cookies.NONCE), facts.asks(cookies.HANDSHAKE), facts.cookies)


def held(facts: Facts) -> Brought | None:
    """Return what a handshake brought back in a cookie, whatever the request; None when nothing did."""
    return _brought("", "", facts.cookies)


def _brought(nonce: str, token: str, kept: Cookies) -> Brought | None:
    nonce, token = nonce or kept.nonce, token or kept.handshake
    if nonce and _NONCE.fullmatch(nonce):
        return Brought(nonce=nonce)
    return Brought(token=token) if token else None


def check_directives(directives: Iterable[Any], facts: Facts, config: Config) -> tuple[str, ...]:
    """
    Return the cookies that Clerk wants set, as values of ``Set-Cookie``, unchanged.

    All are looked at before any is used, and one bad one voids them all (RED-07): each sets a cookie of Clerk's, for
    this host or a parent of it, and all session tokens among them are the same one.

    Raises:
        TokenRefused: ``token-invalid``.
    """
    checked = []
    sessions = set()
    host = split_domain_port(facts.get_host())[0].lower()
    for directive in directives:
        if not isinstance(directive, str) or len(directive) > MAX_DIRECTIVE_LENGTH:
            raise TokenRefused("token-invalid", "a directive that is no text, or too long")
        if not _PRINTABLE.fullmatch(directive):
            raise TokenRefused("token-invalid", "a directive with characters that no header holds")
        name, value = _name_and_value(directive)
        if not cookies.is_ours(name, config.cookie_suffix):
            raise TokenRefused("token-invalid", "a directive for a cookie that is not Clerk's")
        if not all(_covers(domain, host) for domain in _domains(directive)):
            raise TokenRefused("token-invalid", "a directive for another domain")
        if name.startswith(cookies.SESSION) and value:
            sessions.add(value)
        checked.append(directive)
    if len(checked) > MAX_DIRECTIVES or len(sessions) > 1:
        raise TokenRefused("token-invalid", "too many directives, or two sessions in them")
    return tuple(checked)


def session_in(directives: Iterable[str]) -> str:
    """Return the session token that the last fitting directive sets; empty when it clears it, or there is none."""
    session = ""
    for directive in directives:
        name, value = _name_and_value(directive)
        if name.startswith(cookies.SESSION):
            session = value
    return session


def cookie_headers(directives: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """
    Return the headers of a response that sets these cookies, each as its own header.

    No shared cache may keep such a response. Clerk's SDK also answers cross-origin requests here; ours lets none read
    the answer (RED-08).
    """
    headers = tuple(("Set-Cookie", directive) for directive in directives)
    return (*headers, ("Cache-Control", "no-store")) if headers else ()


def arrival(facts: Facts, config: Config, directives: Collection[str]) -> tuple[tuple[str, str], ...]:
    """
    Return the headers of the response to a request that came back from Clerk.

    On a development instance the browser is redirected once more, to the same address without what it brought. The
    cookies it was brought in go, unless Clerk sees to that: somebody who signs out would be signed in again by them.
    """
    directives = [*_left_over(facts, directives), *directives, *_taken_up(facts, directives)]
    if config.is_development:
        set_cookies = tuple(("Set-Cookie", directive) for directive in directives)
        clean = facts.url(cookies.HANDSHAKE, cookies.NONCE, cookies.DEV_BROWSER, HELP)
        return (*set_cookies, *_redirect(clean))
    return cookie_headers(directives)


def _left_over(facts: Facts, directives: Collection[str]) -> Iterator[str]:
    """
    Remove a ``__client_uat`` of this very host that hides the one which Clerk now sets on a domain above.

    Clerk's JavaScript does so before it sets its own.
    """
    for name in facts.cookies.repeated:
        theirs = [one for one in directives if _name_and_value(one)[0] == name]
        if name.startswith(cookies.CLIENT_UAT) and theirs and all(map(_domains, theirs)):
            yield f"{name}=; Path=/; Max-Age=0"


def _taken_up(facts: Facts, directives: Collection[str]) -> Iterator[str]:
    """Remove the cookies in which something was brought back, those that Clerk does not set anew itself."""
    host = split_domain_port(facts.get_host())[0]
    named = {_name_and_value(directive)[0] for directive in directives}
    for name, held in ((cookies.HANDSHAKE, facts.cookies.handshake), (cookies.NONCE, facts.cookies.nonce)):
        if held and name not in named:
            yield from cookies.removals(name, host)


def _name_and_value(directive: str) -> tuple[str, str]:
    name, _, value = directive.partition(";")[0].partition("=")
    return name.strip(), value.strip()


def _domains(directive: str) -> list[str]:
    attributes = (attribute.partition("=") for attribute in directive.split(";")[1:])
    return [
        value.strip().lower().removeprefix(".") for name, _, value in attributes if name.strip().lower() == "domain"
    ]


def _covers(domain: str, host: str) -> bool:
    """Whether a cookie for this domain is for our host and maybe its siblings; a top-level domain is everybody's."""
    is_address = host.rpartition(".")[2].isdigit()
    return domain == host or ("." in domain and host.endswith(f".{domain}") and not is_address)


def _origin(url: str) -> str | None:
    """Return scheme and host of an address that all browsers read alike; None for any other."""
    if not _PLAIN_URL.fullmatch(url):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if "@" in parts.netloc or not parts.hostname:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" + ("" if port in (None, default) else f":{port}")


def _with(url: str, values: Mapping[str, str]) -> str:
    """Set parameters of an address."""
    parts = urlsplit(url)
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in values]
    return urlunsplit(parts._replace(query=_form([*kept, *values.items()])))


def _form(pairs: Iterable[tuple[str, str]]) -> str:
    """Write a query as browsers do for forms, so that Clerk reads the same."""
    return urlencode(list(pairs), safe="*").replace("~", "%7E")
