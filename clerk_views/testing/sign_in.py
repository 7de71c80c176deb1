"""
Signing in, verifying and signing out in a browser: which page or redirect is due, and which cookies go with it.

Cookies belong to a host and not to a port. So a session cookie that this server sets on 127.0.0.1 reaches the
application on another port of 127.0.0.1, as if clerk-js had set it there. For an application under another name the
pages move there, but not for a satellite: its visitors sign in at the primary site, of which it asks who they are.
Nor do they for applications under the stand-in's own domain: these learn by a cookie of that domain that a handshake
is due.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import parse_qs, quote, urlsplit

from clerk_views.testing import pages
from clerk_views.testing.clients import Clients
from clerk_views.testing.directory import Directory
from clerk_views.testing.instance import Instance
from clerk_views.testing.listener import Exchange
from clerk_views.testing.organizations import Organizations


class SignInPages:
    """
    The pages below /sign-in, /verify and /sign-out.

    Args:
        instance: Which names this machine goes by.
        clients: The browsers.
        directory: Who can be chosen.
        organizations: Where they belong, and may be active in.
    """

    def __init__(
        self, instance: Instance, clients: Clients, directory: Directory, organizations: Organizations
    ) -> None:
        self._places = instance.places
        self._clients = clients
        self._directory = directory
        self._organizations = organizations

    def handle(self, exchange: Exchange, path: str, query: Mapping[str, Sequence[str]]) -> None:
        """Answer one request."""
        fields = {**query, **exchange.form()}
        target = self._places.url(fields.get("redirect_url", [""])[0])
        here = self._places.host_for(urlsplit(target).hostname) if target else exchange.host
        browser = fields.get("__clerk_db_jwt", [""])[0]
        if path not in ("/sign-in", "/verify", "/sign-out"):
            exchange.answer(404, b"Not found.\n", "text/plain")
        elif target and here != exchange.host and not _is_of_a_satellite(target):
            # The page moves to the application's host name, so that the cookies will be sent there; 307 keeps the
            # method and the form.
            there = f"http://{here}:{exchange.port}{path}?redirect_url={quote(target, safe='')}"
            if browser:
                there += f"&__clerk_db_jwt={quote(browser, safe='')}"
            exchange.answer(307, b"", "text/html", [("Location", there)])
        elif path == "/sign-out":
            self._sign_out(exchange, target)
        elif path == "/verify":
            self._verify(exchange, fields.get("proof", [""])[0], target)
        elif exchange.command == "POST":
            membership = self._organizations.find_membership(fields.get("membership_id", [""])[0])
            chosen = membership.user_id if membership else fields.get("user_id", [""])[0]
            self._sign_in(exchange, chosen, membership and membership.organization.id, target, browser)
        else:
            self._show(exchange, 200, self._page(target, browser))

    def _page(self, target: str | None, browser: str = "", problem: str = "") -> str:
        choices = [(user, self._organizations.of_user(user.id)) for user in self._directory.users()]
        return pages.sign_in_page(choices, target, browser, problem)

    def _sign_in(
        self, exchange: Exchange, user_id: str, organization_id: str | None, target: str | None, browser: str
    ) -> None:
        user = self._directory.find(user_id)
        if user is None or not pages.can_sign_in(user):
            status, problem = (403, "This user cannot sign in.") if user else (404, "There is no such user.")
            self._show(exchange, status, self._page(target, browser, problem))
            return
        client = self._clients.find(exchange, {"__clerk_db_jwt": [browser]}) or self._clients.get()
        origin = _origin(exchange, target)
        self._clients.sign_in(client, user, organization_id, origin)
        self._leave(exchange, target, pages.signed_in_page(user), self._clients.page_cookies(client, origin))

    def _verify(self, exchange: Exchange, proof: str, target: str | None) -> None:
        """Note that the visitor proves anew who he is, or that it is an hour since he did; his next token says so."""
        client = self._clients.find(exchange, {})
        session = self._clients.current(client) if client else None
        user = self._directory.find(session.user_id) if session else None
        if client is None or session is None or user is None:
            problem = "Nobody is signed in here. Choose who you want to be."
            self._show(exchange, 401, self._page(target, problem=problem))
        elif exchange.command != "POST" or proof not in ("now", "old"):
            self._show(exchange, 200, pages.verification_page(user, session, target))
        else:
            if proof == "now":
                session.prove_factors(second=session.second_factor_at is not None)
            else:
                session.age_factors(60)
            cookies = self._clients.page_cookies(client, _origin(exchange, target))
            page = pages.verification_page(user, session, target)
            if target and self._places.shared_domain(urlsplit(target).hostname):
                # The application's token is good for a while yet, and only a handshake replaces it.
                target = f"/v1/client/handshake?suffixed_cookies=true&redirect_url={quote(target, safe='')}"
            self._leave(exchange, target, page, cookies)

    def _sign_out(self, exchange: Exchange, target: str | None) -> None:
        if exchange.command != "POST":
            exchange.answer(405, b"Signing out takes a POST request.\n", "text/plain", [("Allow", "POST")])
            return
        self._clients.sign_out_of(exchange)
        cookies = self._clients.page_cookies(None, _origin(exchange, target))
        self._leave(exchange, target, pages.signed_out_page(), cookies)

    def _leave(self, exchange: Exchange, target: str | None, page: str, cookies: Iterable[str]) -> None:
        """Go back to the application, or show the page if the visitor did not come from one."""
        headers = [("Set-Cookie", each) for each in cookies]
        if target:
            exchange.answer(303, b"", "text/html", [("Location", target), *headers])
        else:
            self._show(exchange, 200, page, headers)

    def _show(self, exchange: Exchange, status: int, page: str, headers: Iterable[tuple[str, str]] = ()) -> None:
        safety = [("Cache-Control", "no-store"), ("Content-Security-Policy", self._places.content_security_policy)]
        exchange.answer(status, page.encode(), "text/html; charset=utf-8", [*safety, *headers])


def _is_of_a_satellite(target: str) -> bool:
    """Say whether an application asks for itself who is signed in, once it is told that there is somebody."""
    return parse_qs(urlsplit(target).query).get("__clerk_synced") == ["false"]


def _origin(exchange: Exchange, target: str | None) -> str:
    """Return the origin that a token is issued to: as with clerk-js, that of the page that asks for it."""
    return "://".join(urlsplit(target or f"http://{exchange.host}:{exchange.port}")[:2])
