"""
The browsers that the stand-in knows: which of them is asking, who is signed in there, and which cookies it shall keep.

Clerk calls a browser a client. It is known by the cookie ``__client`` on the stand-in's own host name; with a
development key also by a "development browser", a name that travels in the query and in a cookie of the application,
since there application and Frontend API are different sites. The sign-in page, the handshake and the Frontend API all
ask here, so whoever signs in by one of them is signed in for the others.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from clerk_views.testing.directory import Directory, LocalUser, now_ms
from clerk_views.testing.instance import Instance
from clerk_views.testing.listener import Exchange
from clerk_views.testing.minting import new_id
from clerk_views.testing.sessions import LocalSession, Sessions, session_id_of

_YEAR = 365 * 24 * 3600  # seconds; what clerk-js gives its cookies


class LocalClient:
    """
    One browser.

    Attributes:
        id: Clerk's id, ``client_…``.
        secret: What its ``__client`` cookie holds.
        changed_at: When somebody last signed in or out there, in whole Unix seconds. Tokens that are minted later are
            not older than this, which is what ``__client_uat`` promises.
        sign_ins: Sign-ins that were begun by naming a user: their ids, and whom they named.
    """

    def __init__(self, id: str) -> None:
        self.id = id
        self.secret = secrets.token_urlsafe(24)
        self.changed_at = int(time.time())
        self.sign_ins: dict[str, str] = {}


class Clients:
    """
    All browsers, and the secrets by which they and their sessions are known. Safe to use from several threads.

    Args:
        instance: Whose cookies they keep; with production keys there are no development browsers.
        directory: Who may sign in there.
        sessions: Where the sessions are; each names its browser.
        mint: Returns the next token of a session, for the origin of the page that asks; None for the session's own.
    """

    def __init__(
        self,
        instance: Instance,
        directory: Directory,
        sessions: Sessions,
        mint: Callable[[LocalSession, str | None], str],
    ) -> None:
        self.is_production = instance.production
        self._instance = instance
        self._directory = directory
        self._sessions = sessions
        self._mint = mint
        self._lock = threading.RLock()
        self._clients: dict[str, LocalClient] = {}
        self._development_browsers: dict[str, LocalClient] = {}
        self._refresh_tokens: dict[str, str] = {}

    def get(self, client_id: str | None = None) -> LocalClient:
        """Return the browser of this id, as sessions name it, known before or not; for None a new one."""
        client_id = client_id or new_id("client")
        with self._lock:
            return self._clients.setdefault(client_id, LocalClient(client_id))

    def of_development_browser(self, name: str) -> LocalClient | None:
        """Return the browser that goes by this name, ``dvb_…``; None if none does, or with a production key."""
        with self._lock:
            return self._development_browsers.get(name)

    def of_cookie(self, exchange: Exchange) -> LocalClient | None:
        """Return the browser whose ``__client`` cookie came with a request, or None."""
        secret = exchange.cookies.get("__client")
        with self._lock:
            return next((client for client in self._clients.values() if client.secret == secret), None)

    def find(self, exchange: Exchange, query: Mapping[str, Sequence[str]]) -> LocalClient | None:
        """Return the browser that is asking, by whatever it shows: a development browser before its own cookie."""
        shown = [
            *query.get("__clerk_db_jwt", []),
            *(exchange.cookies.get(name, "") for name in self._names("__clerk_db_jwt")[::-1]),
        ]
        found = filter(None, map(self.of_development_browser, shown))
        return next(found, None) or self.of_cookie(exchange)

    def development_browser(self, client: LocalClient) -> str:
        """Return the name by which a browser may be known with a development key, the same each time."""
        with self._lock:
            for name, owner in self._development_browsers.items():
                if owner is client:
                    return name
            name = new_id("dvb")
            self._development_browsers[name] = client
            return name

    def sessions_of(self, client: LocalClient) -> list[LocalSession]:
        """Return the open sessions of a browser, oldest first."""
        return self._sessions.select(lambda session: session.client_id == client.id and session.is_open)

    def current(self, client: LocalClient) -> LocalSession | None:
        """Return the open session of a browser, the latest one if there should be several; None if signed out."""
        return next(reversed(self.sessions_of(client)), None)

    def updated_at(self, client: LocalClient) -> int:
        """Return when somebody last signed in or out in a browser, in whole Unix seconds."""
        return max([client.changed_at, *(int(session.created_at) for session in self.sessions_of(client))])

    def sign_in(
        self, client: LocalClient, user: LocalUser, organization_id: str | None, origin: str | None
    ) -> LocalSession:
        """
        Open a session in a browser, in place of any other: one account at a time, as in most instances of Clerk.

        Args:
            organization_id: Of the active organisation; None for the personal account.
            origin: Of the page that asks; None for one that the stand-in itself has served, and for programs.
        """
        self.sign_out(client)
        self._directory.update(user, {"last_sign_in_at": now_ms(), "updated_at": user.data["updated_at"]})
        return self._sessions.open(user.id, organization_id=organization_id, origin=origin, client_id=client.id)

    def sign_out(self, client: LocalClient) -> None:
        """End all sessions of a browser."""
        for session in self.sessions_of(client):
            session.end()
        client.changed_at = int(time.time())

    def sign_out_of(self, exchange: Exchange) -> None:
        """End what a request shows: the sessions of its browser, and that of a token in its cookies, expired or not."""
        client = self.find(exchange, {})
        if client:
            self.sign_out(client)
        # A test may have given a browser nothing but the session's own cookies.
        for name in self._names("__session"):
            session = self._sessions.find(session_id_of(exchange.cookies.get(name)) or "")
            if session:
                session.end()

    def forget(self, client: LocalClient) -> None:
        """End all sessions of a browser, and know it no more."""
        self.sign_out(client)
        with self._lock:
            self._clients.pop(client.id, None)
            for name in [name for name, owner in self._development_browsers.items() if owner is client]:
                del self._development_browsers[name]

    def refresh_token(self, session: LocalSession) -> str:
        """Return the secret that renews the tokens of a session, the same each time."""
        with self._lock:
            for token, session_id in self._refresh_tokens.items():
                if session_id == session.id:
                    return token
            token = secrets.token_urlsafe(24)
            self._refresh_tokens[token] = session.id
            return token

    def session_to_refresh(self, token: object) -> LocalSession | None:
        """Return the open session that a refresh token belongs to, or None."""
        with self._lock:
            session = self._sessions.find(self._refresh_tokens.get(str(token), ""))
        return session if session and session.is_open else None

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._clients.clear()
            self._development_browsers.clear()
            self._refresh_tokens.clear()

    def own_cookie(self, client: LocalClient) -> str:
        """Return the ``Set-Cookie`` value by which the browser will be known here."""
        return cookie("__client", client.secret, _YEAR, hidden=True)

    def script_cookies(self, client: LocalClient, host: str) -> list[str]:
        """
        Return the ``Set-Cookie`` values that go with an answer to clerk-js, which keeps the session's own cookies.

        With a production key it leaves it to the Frontend API to say when the browser changed. In neither case can it
        remove the refresh token.

        Args:
            host: That was asked.
        """
        cookies = [self.own_cookie(client), *self.clock_cookies(client, host)] if self.is_production else []
        return cookies if self.current(client) else [*cookies, self._no_refresh_token()]

    def clock_cookies(self, client: LocalClient | None, host: str | None, *, suffixed: bool = True) -> list[str]:
        """
        Return ``Set-Cookie`` values that tell applications when the browser changed, 0 if nobody is signed in.

        Args:
            host: Of the application; where it shares a domain with others, all of them are told, as by Clerk.
        """
        changed = self.updated_at(client) if client and self.sessions_of(client) else 0
        domain = self._instance.places.shared_domain(host)
        return [cookie(name, str(changed), _YEAR, domain=domain) for name in self._names("__client_uat", suffixed)]

    def session_cookies(self, session: LocalSession | None, origin: str | None, *, suffixed: bool = True) -> list[str]:
        """
        Return ``Set-Cookie`` values for a fresh token of a session, and the secret that renews it; None removes them.

        Args:
            origin: Of the page that asks, for ``azp``; None for that of the session.
            suffixed: Whether the names with this instance's suffix are wanted too. The refresh token has no other.
        """
        names = self._names("__session", suffixed)
        if session is None:
            return [*(cookie(name, "", 0) for name in names), self._no_refresh_token()]
        token = self._mint(session, origin)
        return [
            *(cookie(name, token, _YEAR) for name in names),
            cookie(self._names("__refresh")[1], self.refresh_token(session), _YEAR, hidden=True),
        ]

    def directives(self, client: LocalClient, origin: str, *, suffixed: bool = True) -> list[str]:
        """Return ``Set-Cookie`` values that bring an application's cookies in step with a browser."""
        names = () if self.is_production else self._names("__clerk_db_jwt", suffixed)
        return [
            *self.session_cookies(self.current(client), origin, suffixed=suffixed),
            *self.clock_cookies(client, urlsplit(origin).hostname, suffixed=suffixed),
            *(cookie(name, self.development_browser(client), _YEAR) for name in names),
        ]

    def page_cookies(self, client: LocalClient | None, origin: str) -> list[str]:
        """
        Return ``Set-Cookie`` values with which a page of ours signs in at an application; out, with None for a client.

        The session's own cookies are the application's where it shares a domain: it gets them by a handshake.
        """
        host = urlsplit(origin).hostname
        own = [self.own_cookie(client)] if client else []
        if self._instance.places.shared_domain(host):
            return [*own, *self.clock_cookies(client, host)]
        if client:
            return [*own, *self.directives(client, origin)]
        # A zero in __client_uat says "signed out", which is more than the absence of that cookie would.
        return [*self.session_cookies(None, None), *self.clock_cookies(None, host)]

    def cookies_for(self, token: str, signed_in_at: float) -> dict[str, str]:
        """Return the cookies that an application keeps for a token, by name. See LocalClerk.session_cookies()."""
        cookies = {"__session": token, "__client_uat": str(int(signed_in_at))}
        if not self.is_production:
            session = self._sessions.find(session_id_of(token) or "")
            client = self.get(session.client_id if session else None)
            cookies["__clerk_db_jwt"] = self.development_browser(client)
        return cookies | {self._names(name)[1]: value for name, value in cookies.items()}

    def _no_refresh_token(self) -> str:
        return cookie(self._names("__refresh")[1], "", 0, hidden=True)

    def _names(self, name: str, suffixed: bool = True) -> tuple[str, ...]:
        return (name, f"{name}_{self._instance.cookie_suffix}") if suffixed else (name,)


def cookie(name: str, value: str, lifetime: int, *, hidden: bool = False, domain: str | None = None) -> str:
    """
    Return the value of a ``Set-Cookie`` header for a whole host, or a whole domain.

    Args:
        lifetime: Seconds; 0 removes the cookie.
        hidden: From scripts.
        domain: None for the very host that sets it.
    """
    where = f"; Domain={domain}" if domain else ""
    return f"{name}={value}; Path=/; Max-Age={lifetime}; SameSite=Lax{where}" + ("; HttpOnly" if hidden else "")
