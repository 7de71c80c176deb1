"""
The handshake: a browser comes with stale cookies, and is sent back with good ones.

An application on another domain, a satellite, asks in the same way who is signed in at the primary one. With a
development key the cookies travel in the query of the way back: as a signed token, or as a nonce that the
application exchanges. With a production key that token or nonce is a cookie of the application's host, which works
here because cookies belong to a host name and not to a port; or of the domain that it shares with us. Beside the
handshake stands the other way to a fresh token: the application renews one by a refresh token, without the browser.

Source: Clerk's JavaScript backend SDK, "handshake", "refresh" and "satellite domains".
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from clerk_views.testing.clients import Clients, LocalClient, cookie
from clerk_views.testing.faults import error_body
from clerk_views.testing.instance import Instance
from clerk_views.testing.listener import Exchange
from clerk_views.testing.minting import mint, session_header
from clerk_views.testing.organizations import Organizations
from clerk_views.testing.sessions import LocalSession, session_id_of

#: Seconds for which the outcome of a handshake can be taken up.
_LIFETIME = 60

#: Parameter in which a browser that moves to another host name says who it is.
_TICKET = "__local_clerk_ticket"


class Handshakes:
    """
    The handshakes of one LocalClerk. Safe to use from several threads.

    Args:
        instance: Who signs what an application takes up.
        clients: The browsers.
        organizations: Where their users belong, and may be active in.
        mint: Returns the next token of a session, for an origin; None for the session's own.
    """

    def __init__(
        self,
        instance: Instance,
        clients: Clients,
        organizations: Organizations,
        mint: Callable[[LocalSession, str | None], str],
    ) -> None:
        self._instance = instance
        self._clients = clients
        self._organizations = organizations
        self._mint = mint
        self._lock = threading.Lock()
        self._outcomes: dict[str, tuple[float, list[str]]] = {}
        self._tickets: dict[str, LocalClient] = {}

    def begin(self, exchange: Exchange, query: Mapping[str, Sequence[str]], *, synced: bool = False) -> None:
        """
        Answer a browser that an application has sent here.

        Args:
            synced: Whether it was clerk-js on a satellite, which wants to read in the address that it was done.
        """
        target = self._instance.places.url(query.get("redirect_url", [""])[0])
        if target is None:
            sentence = "redirect_url must be an http address of this machine."
            exchange.answer(400, error_body(400, "form_param_value_invalid", sentence))
            return
        host = self._instance.places.host_for(urlsplit(target).hostname)
        if host != exchange.host:
            # The browser comes again under the application's host name, where its cookies are and shall be.
            again = _under(host, exchange)
            exchange.answer(307, b"", "text/html", _leading_to(self._with_ticket(again, exchange)))
            return
        if self._may_be_known_elsewhere(exchange, query):
            # A satellite has a Frontend API on its own domain, which asks that of the primary one.
            there = _under(self._instance.places.host, exchange)
            exchange.answer(307, b"", "text/html", _leading_to(there))
            return
        client = self._find(exchange, query)
        session = self._clients.current(client)
        if session and "organization_id" in query:
            self._switch(session, query["organization_id"][0])
        suffixed = synced or query.get("suffixed_cookies", [""])[0] == "true"  # clerk-js says nothing, and uses both
        directives = self._clients.directives(client, _origin(target), suffixed=suffixed)
        if synced:
            target = _with_parameter(target, "__clerk_synced", "true")
        domain = self._instance.places.shared_domain(urlsplit(target).hostname)
        name, value = self._packed(directives, query.get("format", [""])[0], domain)
        cookies = [self._clients.own_cookie(client)]
        if self._clients.is_production:
            cookies.append(cookie(name, value, _LIFETIME, hidden=True, domain=domain))
        else:
            target = _with_parameter(target, name, value)
        exchange.answer(307, b"", "text/html", [*_leading_to(target), *(("Set-Cookie", each) for each in cookies)])

    def present(self, exchange: Exchange, query: Mapping[str, Sequence[str]]) -> None:
        """
        Tell a satellite with a development key which browser has come, as the sign-in page of the primary site does.

        The satellite then asks who is signed in there, by a handshake.
        """
        target = self._instance.places.url(query.get("__clerk_redirect_url", [""])[0])
        if target is None or self._clients.is_production:
            sentence = "__clerk_redirect_url is for development, and must be an http address of this machine."
            exchange.answer(400, error_body(400, "form_param_value_invalid", sentence))
            return
        client = self._clients.find(exchange, query) or self._clients.get()
        browser = self._clients.development_browser(client)
        there = _with_parameter(_with_parameter(target, "__clerk_db_jwt", browser), "__clerk_synced", "true")
        cookies = [("Set-Cookie", self._clients.own_cookie(client))]
        exchange.answer(307, b"", "text/html", [*_leading_to(there), *cookies])

    def payload(self, nonce: str) -> dict[str, Any] | None:
        """Return what a nonce stands for, once; None for one that is unknown, used or too old."""
        with self._lock:
            expires_at, directives = self._outcomes.pop(nonce, (0.0, []))
        return {"directives": directives} if time.time() < expires_at else None

    def refresh(self, session_id: str, fields: Mapping[str, Any], *, suffixed: bool) -> dict[str, Any] | None:
        """
        Renew a session's token for an application that shows the expired one and the refresh token.

        Args:
            fields: ``expired_token``, ``refresh_token``, ``request_origin``, and ``format``: "cookie", or "token" for
                the token alone.

        Returns:
            None if the session is over, or the two are not its own.
        """
        session = self._clients.session_to_refresh(fields.get("refresh_token"))
        if session is None or session.id != session_id or session_id_of(fields.get("expired_token")) != session_id:
            return None
        origin = fields.get("request_origin")
        origin = origin if isinstance(origin, str) else None
        if fields.get("format") == "cookie":
            return {"object": "cookies", "cookies": self._clients.session_cookies(session, origin, suffixed=suffixed)}
        return {"object": "token", "jwt": self._mint(session, origin)}

    def clear(self) -> None:
        """Forget all outcomes."""
        with self._lock:
            self._outcomes.clear()
            self._tickets.clear()

    def _with_ticket(self, url: str, exchange: Exchange) -> str:
        """
        Let a browser in which somebody is signed in be known again under another host name.

        Clerk's Frontend API has one host name, by whose cookie it knows the browser whichever application asks. With a
        development key the development browser does that.
        """
        if not self._clients.is_production:
            return url
        client = self._clients.of_cookie(exchange)
        if client is None or self._clients.current(client) is None:
            return _with_parameter(url, _TICKET, "")  # says that nobody is known here
        ticket = secrets.token_urlsafe(24)
        with self._lock:
            self._tickets[ticket] = client
        return _with_parameter(url, _TICKET, ticket)

    def _may_be_known_elsewhere(self, exchange: Exchange, query: Mapping[str, Sequence[str]]) -> bool:
        """Say whether a browser without a session under this host name may have one under our own, not asked yet."""
        if not self._clients.is_production or _TICKET in query or exchange.host == self._instance.places.host:
            return False
        client = self._clients.of_cookie(exchange)
        return client is None or self._clients.current(client) is None

    def _find(self, exchange: Exchange, query: Mapping[str, Sequence[str]]) -> LocalClient:
        with self._lock:
            known = self._tickets.pop(query.get(_TICKET, [""])[0], None)
        client = self._clients.find(exchange, query)
        # Who has signed in under this host name stays who he is.
        return client if client and self._clients.current(client) else known or client or self._clients.get()

    def _switch(self, session: LocalSession, wanted: str) -> None:
        """Activate the organisation of this id or slug if the user is a member, "" for the personal account."""
        if not wanted:
            session.activate(None)
        for membership in self._organizations.of_user(session.user_id):
            if wanted in (membership.organization.id, membership.organization.slug):
                session.activate(membership.organization.id)

    def _packed(self, directives: list[str], format: str, domain: str | None) -> tuple[str, str]:
        """Return the name and the value by which an application gets directives."""
        name = "__clerk_handshake_nonce" if format == "nonce" else "__clerk_handshake"
        if self._clients.is_production:
            # Nothing else removes this cookie, and the application would try to take it up at each request.
            directives = [*directives, cookie(name, "", 0, hidden=True, domain=domain)]
        if format != "nonce":
            now = int(time.time())
            claims = {"handshake": directives, "iat": now, "exp": now + _LIFETIME}
            key = self._instance.signing_key
            return name, mint(session_header(key.kid), claims, key)
        nonce = secrets.token_urlsafe(24)
        with self._lock:
            self._outcomes[nonce] = (time.time() + _LIFETIME, directives)
        return name, nonce


def _under(host: str, exchange: Exchange) -> str:
    """Return the address that was asked for, under another host name."""
    return urlsplit(exchange.path)._replace(scheme="http", netloc=f"{host}:{exchange.port}").geturl()


def _leading_to(url: str) -> list[tuple[str, str]]:
    # The address that is being left holds a session token.
    return [("Location", url), ("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer")]


def _origin(url: str) -> str:
    return "://".join(urlsplit(url)[:2])


def _with_parameter(url: str, name: str, value: str) -> str:
    """Set a parameter of an address, and leave the others as they are written."""
    parts = urlsplit(url)
    others = [pair for pair in parts.query.split("&") if pair and pair.partition("=")[0] != name]
    return parts._replace(query="&".join([*others, f"{name}={value}"])).geturl()
