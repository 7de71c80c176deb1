"""
The Frontend API, as far as clerk-js needs it: what does a browser's script get to know, and what may it do?

clerk-js sends forms, and only by GET and POST: ``_method`` in the query names the method that is meant. An answer to
anything but GET carries the whole client along wherever sessions changed. Passwords are not looked at, for this is a
stand-in on loopback: whoever names a user signs in as that user.

Source: Clerk's clerk-js, seen running; "Frontend API errors".
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from clerk_views.testing.clients import Clients, LocalClient
from clerk_views.testing.directory import Directory, LocalUser
from clerk_views.testing.faults import Refused
from clerk_views.testing.instance import Instance
from clerk_views.testing.listener import Exchange, Routes, routed
from clerk_views.testing.minting import new_id
from clerk_views.testing.organizations import Organizations
from clerk_views.testing.pages import can_sign_in
from clerk_views.testing.sessions import LocalSession, Sessions

_PATHS = re.compile(r"/v1/(?:client|me)(?:/.*)?|/v1/(?:environment|dev_browser|billing/plans)")


class Question(NamedTuple):
    """
    One request.

    ``fields`` are those of the form and of the query. ``origin`` is that of the page that asks, None for one that the
    stand-in itself has served, and for programs.
    """

    client: LocalClient
    fields: Mapping[str, str]
    origin: str | None


class FrontendApi:
    """
    The Frontend API of one LocalClerk.

    Args:
        instance: What tells of itself where clerk-js asks.
        directory: The users.
        organizations: Where they belong.
        sessions: Their sessions.
        clients: Their browsers.
        mint: Returns the next token of a session for an origin, with another organisation than the active one if
            ``organization_id`` is given: None for the personal account.
    """

    def __init__(
        self,
        instance: Instance,
        directory: Directory,
        organizations: Organizations,
        sessions: Sessions,
        clients: Clients,
        mint: Callable[..., str],
    ) -> None:
        self._instance = instance
        self._directory = directory
        self._organizations = organizations
        self._sessions = sessions
        self._clients = clients
        self._mint = mint
        self._routes: Routes = (
            ("GET", "client", self._get_client),
            ("DELETE", "client", self._delete_client),
            ("DELETE", "client/sessions", self._delete_sessions),
            ("GET", "client/sessions/([^/]+)", self._get_session),
            ("POST", "client/sessions/([^/]+)/tokens", self._get_token),
            ("POST", "client/sessions/([^/]+)/touch", self._touch),
            ("POST", "client/sessions/([^/]+)/(end|remove)", self._end_session),
            ("POST", "client/sign_ins", self._begin_sign_in),
            ("POST", "client/sign_ins/([^/]+)/attempt_first_factor", self._finish_sign_in),
            ("GET", "me", self._get_user),
            ("GET", "me/sessions/active", self._get_active_sessions),
            ("GET", "me/organization_memberships", self._get_memberships),
            ("GET", "me/organization_(?:invitations|suggestions)", self._get_nothing),
            ("GET", "me/billing/(?:payment_methods|statements)", self._get_nothing),
            ("GET", "me/billing/subscription", self._get_subscription),
            ("GET", "me/oauth/consent/([^/]+)", self._get_consent),
            ("POST", "me/totp", self._new_totp),
            ("GET", "billing/plans", self._get_plans),
        )

    @staticmethod
    def knows(path: str) -> bool:
        """Say whether a path belongs to the Frontend API."""
        return _PATHS.fullmatch(path) is not None

    def cors_headers(self, origin: str | None) -> list[tuple[str, str]]:
        """Return the headers that let a page of this machine read an answer; of other pages none may."""
        vary = [("Vary", "Origin")]
        if origin is None or not self._instance.places.is_origin(origin):
            return vary
        return [
            *vary,
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Expose-Headers", "Clerk-Db-Jwt, X-Country, Retry-After"),
        ]

    def handle(self, exchange: Exchange, path: str, query: Mapping[str, Sequence[str]]) -> None:
        """Answer one request."""
        try:
            found, client = self._answer(exchange, path, query)
        except Refused as refused:
            exchange.answer(refused.status, refused.body)
            return
        cookies = self._clients.script_cookies(client, exchange.host) if client else []
        headers = [("Cache-Control", "no-store"), *(("Set-Cookie", each) for each in cookies)]
        exchange.answer(200, json.dumps(found).encode(), headers=headers)

    def _answer(
        self, exchange: Exchange, path: str, query: Mapping[str, Sequence[str]]
    ) -> tuple[dict[str, Any], LocalClient | None]:
        origin = exchange.headers["Origin"]
        if origin is not None and not self._instance.places.is_origin(origin):
            # Browsers would not show the answer to such a page, but have sent its request all the same.
            raise Refused(400, "origin_invalid", "Pages of this machine alone may use the stand-in.")
        method = query.get("_method", [""])[0] if exchange.command == "POST" else ""
        method = method.upper() or exchange.command
        if path == "/v1/environment" and method in ("GET", "PATCH"):
            return self._environment(), None
        if path == "/v1/dev_browser" and method == "POST" and not self._clients.is_production:
            return {"id": self._clients.development_browser(self._clients.get())}, None
        for find, parts in routed(self._routes, method, path):
            client = self._client(exchange, query)
            fields = {name: values[0] for name, values in {**query, **exchange.form(blank=True)}.items()}
            return find(Question(client, fields, origin), *parts), client
        raise Refused(404, "resource_not_found", "The stand-in does not know this address.")

    def _environment(self) -> dict[str, Any]:
        """Return what clerk-js reads of the instance; what is left out has its defaults there."""
        page = f"{self._instance.url}/sign-in"
        billing = {"enabled": True, "has_paid_plans": False}
        return {
            "auth_config": {"single_session_mode": True},
            "display_config": {
                "application_name": "LocalClerk",
                "instance_environment_type": "production" if self._instance.production else "development",
                "sign_in_url": page,
                "sign_up_url": page,
                "after_sign_out_one_url": page,
            },
            "organization_settings": {"enabled": True},
            "commerce_settings": {"billing": {"user": billing, "organization": billing}},
            "api_keys_settings": {"user_api_keys_enabled": True, "orgs_api_keys_enabled": True},
        }

    def _client(self, exchange: Exchange, query: Mapping[str, Sequence[str]]) -> LocalClient:
        if self._clients.is_production:
            return self._clients.of_cookie(exchange) or self._clients.get()
        client = self._clients.of_development_browser(query.get("__clerk_db_jwt", [""])[0])
        if client is None:
            raise Refused(401, "dev_browser_unauthenticated", "The development browser is unknown.")
        return client

    def _session(self, asked: Question, session_id: str) -> LocalSession:
        for session in self._clients.sessions_of(asked.client):
            if session.id == session_id:
                return session
        raise Refused(401, "authentication_invalid", "There is no such session in this browser, or it is over.")

    def _user(self, asked: Question) -> LocalUser:
        session = self._clients.current(asked.client)
        if session is None:
            raise Refused(401, "authentication_invalid", "Nobody is signed in.")
        user = self._directory.find(session.user_id)
        if user is None:
            raise Refused(404, "resource_not_found", "The directory does not know the user of this session.")
        return user

    def _get_client(self, asked: Question) -> dict[str, Any]:
        return {"response": self._client_body(asked)}

    def _delete_client(self, asked: Question) -> dict[str, Any]:
        self._clients.forget(asked.client)
        return {"response": self._client_body(asked), "client": None}

    def _delete_sessions(self, asked: Question) -> dict[str, Any]:
        self._clients.sign_out(asked.client)
        return {"response": self._client_body(asked), "client": None}

    def _get_session(self, asked: Question, session_id: str) -> dict[str, Any]:
        return {"response": self._session_body(self._session(asked, session_id), asked.origin)}

    def _get_token(self, asked: Question, session_id: str) -> dict[str, Any]:
        session = self._session(asked, session_id)
        chosen = {"organization_id": self._organization(asked, session, "organization_id")}
        wanted = chosen if "organization_id" in asked.fields else {}
        return {"object": "token", "jwt": self._mint(session, asked.origin, **wanted)}

    def _touch(self, asked: Question, session_id: str) -> dict[str, Any]:
        session = self._session(asked, session_id)
        if "active_organization_id" in asked.fields:
            session.activate(self._organization(asked, session, "active_organization_id"))
        return {"response": self._session_body(session, asked.origin), "client": self._client_body(asked)}

    def _end_session(self, asked: Question, session_id: str, how: str) -> dict[str, Any]:
        session = self._session(asked, session_id)
        if how == "end":
            session.end()
        else:
            session.remove()
        asked.client.changed_at = int(time.time())
        return {"response": {**session.data, "user": None}, "client": self._client_body(asked)}

    def _organization(self, asked: Question, session: LocalSession, field: str) -> str | None:
        """Return the id of the organisation named in a field, by id or slug; None for the personal account."""
        wanted = asked.fields.get(field)
        if not wanted:
            return None
        for membership in self._organizations.of_user(session.user_id):
            if wanted in (membership.organization.id, membership.organization.slug):
                return membership.organization.id
        raise Refused(404, "resource_not_found", "The user is no member of that organisation.")

    def _begin_sign_in(self, asked: Question) -> dict[str, Any]:
        user = self._directory.identified_by(asked.fields.get("identifier", ""))
        if user is None:
            raise Refused(422, "form_identifier_not_found", "Couldn't find your account.")
        sign_in_id = new_id("sia")
        asked.client.sign_ins[sign_in_id] = user.id
        if asked.fields.get("password"):
            return self._finish_sign_in(asked, sign_in_id)
        factors = [{"strategy": "password"}]
        body = {"status": "needs_first_factor", "supported_first_factors": factors, "created_session_id": None}
        # No client beside it: nothing has changed there, and one without this sign-in would let clerk-js drop it.
        return {"response": self._sign_in_body(asked, sign_in_id, body)}

    def _finish_sign_in(self, asked: Question, sign_in_id: str) -> dict[str, Any]:
        user = self._directory.find(asked.client.sign_ins.get(sign_in_id, ""))
        if user is None:
            raise Refused(404, "resource_not_found", "There is no such sign-in.")
        if not asked.fields.get("password"):
            raise Refused(422, "form_password_incorrect", "Password is incorrect. Any other than an empty one will do.")
        if not can_sign_in(user):
            code = "user_banned" if user.data["banned"] else "user_locked"
            raise Refused(403, code, "This user cannot sign in.")
        session = self._clients.sign_in(asked.client, user, None, asked.origin)
        del asked.client.sign_ins[sign_in_id]
        body = {"status": "complete", "supported_first_factors": [], "created_session_id": session.id}
        return {"response": self._sign_in_body(asked, sign_in_id, body), "client": self._client_body(asked)}

    @staticmethod
    def _sign_in_body(asked: Question, sign_in_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "object": "sign_in_attempt",
            "id": sign_in_id,
            "identifier": asked.fields.get("identifier"),
            "supported_identifiers": ["email_address", "username"],
            **body,
        }

    def _get_user(self, asked: Question) -> dict[str, Any]:
        return {"response": self._user_body(self._user(asked))}

    def _get_active_sessions(self, asked: Question) -> dict[str, Any]:
        return {"response": [session.data for session in self._sessions.of_user(self._user(asked).id)]}

    def _get_memberships(self, asked: Question) -> dict[str, Any]:
        bodies = self._membership_bodies(self._user(asked))
        first = _number(asked.fields.get("offset"), 0)
        page = bodies[first : first + _number(asked.fields.get("limit"), 10)]
        return {"response": {"data": page, "total_count": len(bodies)}}

    def _get_nothing(self, asked: Question) -> dict[str, Any]:
        self._user(asked)
        return {"response": {"data": [], "total_count": 0}}

    def _get_plans(self, asked: Question) -> dict[str, Any]:
        return {"data": [], "total_count": 0}

    def _get_subscription(self, asked: Question) -> dict[str, Any]:
        user = self._user(asked)
        now = user.data["created_at"]
        body = {"object": "commerce_subscription", "id": user.id.replace("user_", "csub_"), "status": "active"}
        return {"response": {**body, "created_at": now, "active_at": now, "subscription_items": []}}

    def _get_consent(self, asked: Question, oauth_client_id: str) -> dict[str, Any]:
        """Return what a user is asked before an OAuth client may act for him: any client, for whatever it wants."""
        self._user(asked)
        wanted = asked.fields.get("scope", "").split()
        back = urlsplit(asked.fields.get("redirect_uri", "")).hostname
        return {
            "response": {
                "object": "oauth_consent",
                "oauth_application_name": oauth_client_id,
                "client_id": oauth_client_id,
                "redirect_domain": back,
                "scopes": [{"scope": each, "description": each, "requires_consent": True} for each in wanted],
            }
        }

    def _new_totp(self, asked: Question) -> dict[str, Any]:
        """Return what an authenticator application is fed with. Nothing asks for its codes here."""
        secret = base64.b32encode(secrets.token_bytes(20)).decode()
        uri = f"otpauth://totp/LocalClerk:{quote(self._user(asked).name)}?secret={secret}&issuer=LocalClerk"
        return {"response": {"object": "totp", "id": new_id("totp"), "secret": secret, "uri": uri, "verified": False}}

    def _client_body(self, asked: Question) -> dict[str, Any]:
        open_sessions = self._clients.sessions_of(asked.client)
        return {
            "object": "client",
            "id": asked.client.id,
            "sessions": [self._session_body(session, asked.origin) for session in open_sessions],
            "last_active_session_id": open_sessions[-1].id if open_sessions else None,
            "sign_in": None,
            "sign_up": None,
            # Not the present: clerk-js copies it to __client_uat, and tokens older than that count as left-overs.
            "updated_at": self._clients.updated_at(asked.client) * 1000,
        }

    def _session_body(self, session: LocalSession, origin: str | None) -> dict[str, Any]:
        # Tokens, and so sessions, can be had for users whom the directory does not know.
        user = self._directory.find(session.user_id)
        return {
            **session.data,
            "factor_verification_age": list(session.factor_ages()),
            "last_active_token": {"object": "token", "jwt": self._mint(session, origin)},
            "user": self._user_body(user) if user else {"object": "user", "id": session.user_id},
        }

    def _user_body(self, user: LocalUser) -> dict[str, Any]:
        return {**_shown(user.data), "organization_memberships": self._membership_bodies(user)}

    def _membership_bodies(self, user: LocalUser) -> list[dict[str, Any]]:
        return [
            {**_shown(body), "organization": _shown(body["organization"])}
            for body in self._organizations.bodies_of(user)
        ]


def _shown(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body of the Backend API without what only that shows."""
    return {name: value for name, value in body.items() if name != "private_metadata"}


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else default
