"""
Clerk's Backend API as servers ask it: which user, which session, which signing keys, which machine's token?

Whoever asks shows the secret key. The directory and its neighbours know the answers; here stands under which address
each is found, and what Clerk says where there is none.

Source: Clerk, "Backend API".
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from clerk_views.testing.directory import Directory, LocalUser
from clerk_views.testing.faults import Refused
from clerk_views.testing.handshakes import Handshakes
from clerk_views.testing.instance import Instance
from clerk_views.testing.listener import Exchange, Routes, routed
from clerk_views.testing.machines import VERIFY_PATHS, Machines
from clerk_views.testing.organizations import Organizations
from clerk_views.testing.sessions import LocalSession, Sessions

_Query = Mapping[str, list[str]]

#: Status, body, content type and further headers.
_Answer = tuple[int, bytes, str, tuple[tuple[str, str], ...]]


class Question(NamedTuple):
    """One request: the parameters of its address, and the members of its body."""

    query: _Query
    fields: Mapping[str, Any]


class BackendApi:
    """
    The Backend API of one LocalClerk. Safe to use from several threads.

    Args:
        instance: Whose secret key is asked for, and whose signing keys are published.
        directory: The users.
        organizations: Where they belong.
        sessions: Their sessions.
        handshakes: What brings a browser's cookies up to date.
        machines: Who verifies tokens of machines.
    """

    def __init__(
        self,
        instance: Instance,
        directory: Directory,
        organizations: Organizations,
        sessions: Sessions,
        handshakes: Handshakes,
        machines: Machines,
    ) -> None:
        self._instance = instance
        self._directory = directory
        self._organizations = organizations
        self._sessions = sessions
        self._handshakes = handshakes
        self._machines = machines
        self._lock = threading.Lock()
        self._prepared: dict[str, _Answer] = {}
        # The first that fits counts, so what may be part of an id comes last.
        self._routes: Routes = (
            ("GET", "jwks", self._get_keys),
            ("GET", "domains", self._get_domains),
            ("GET", "clients/handshake_payload", self._get_handshake),
            ("GET", "users", self._get_users),
            ("GET", "users/count", self._get_count),
            ("GET", "users/(.*)/organization_memberships", self._get_memberships),
            ("GET", "users/(.*)", self._get_user),
            ("GET", "sessions/(.*)", self._get_session),
            ("POST", "sessions/(.*)/revoke", self._revoke_session),
            ("POST", "sessions/(.*)/refresh", self._refresh_session),
        )

    @staticmethod
    def knows(path: str) -> bool:
        """Say whether a path belongs to the Backend API. Those of the Frontend API begin alike: it is asked first."""
        return path in VERIFY_PATHS or path.startswith("/v1/")

    def handle(self, exchange: Exchange, path: str, query: _Query) -> None:
        """Answer one request."""
        try:
            answer = self._verified(exchange, path) if path in VERIFY_PATHS else self._found(exchange, path, query)
        except Refused as refused:
            answer = refused.status, refused.body, "application/json", ()
        exchange.answer(*answer)

    def respond(
        self, path: str, body: bytes, status: int, content_type: str, headers: Iterable[tuple[str, str]]
    ) -> None:
        """Answer requests for exactly this path with these bytes, if they show the secret key."""
        with self._lock:
            self._prepared[path] = (status, body, content_type, tuple(headers))

    def clear(self) -> None:
        """Answer as Clerk does again."""
        with self._lock:
            self._prepared.clear()

    def _answer_to(self, path: str) -> _Answer | None:
        with self._lock:
            return self._prepared.get(path)

    def _verified(self, exchange: Exchange, path: str) -> _Answer:
        if exchange.command != "POST":
            raise Refused(405, "method_not_allowed")
        authorization = exchange.headers["Authorization"] or ""
        asked, key = exchange.json_object(), self._instance.secret_key
        status, body = self._machines.verify(path, asked, authorization, key)
        prepared = self._answer_to(path)
        return prepared if prepared and status != 401 else (status, body, "application/json", ())

    def _found(self, exchange: Exchange, path: str, query: _Query) -> _Answer:
        if exchange.headers["Authorization"] != f"Bearer {self._instance.secret_key}":
            sentence = "The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct."
            raise Refused(401, "clerk_key_invalid", sentence)
        prepared = self._answer_to(path)
        if prepared:
            return prepared
        asked = Question(query, exchange.json_object())
        for find, parts in routed(self._routes, exchange.command, path):
            return 200, json.dumps(find(asked, *parts)).encode(), "application/json", ()
        if exchange.command != "GET":
            raise Refused(405, "method_not_allowed")
        raise _not_found()

    def _get_keys(self, asked: Question) -> dict[str, Any]:
        return {"keys": self._instance.key_set}

    def _get_domains(self, asked: Question) -> dict[str, Any]:
        issuer = self._instance.issuer
        primary = {
            "object": "domain",
            "id": self._instance.instance_id.replace("ins_", "dmn_"),
            "name": issuer.removeprefix("https://clerk.").removeprefix("https://"),
            "is_satellite": False,
            "frontend_api_url": issuer,
            "accounts_portal_url": issuer.replace("clerk.", "accounts.", 1),
            "development_origin": "",
        }
        return {"data": [primary], "total_count": 1}

    def _get_handshake(self, asked: Question) -> dict[str, Any]:
        found = self._handshakes.payload(asked.query.get("nonce", [""])[0])
        if found is None:
            raise Refused(400, "invalid_nonce", "The nonce is unknown, was used before, or is too old.")
        return found

    def _get_users(self, asked: Question) -> list[dict[str, Any]]:
        page = _page(asked.query)
        return self._directory.select(asked.query)[page]

    def _get_count(self, asked: Question) -> dict[str, Any]:
        return {"object": "total_count", "total_count": len(self._directory.select(asked.query))}

    def _get_user(self, asked: Question, user_id: str) -> dict[str, Any]:
        return self._user(user_id).data

    def _get_memberships(self, asked: Question, user_id: str) -> dict[str, Any]:
        page = _page(asked.query)
        bodies = self._organizations.bodies_of(self._user(user_id))
        return {"data": bodies[page], "total_count": len(bodies)}

    def _get_session(self, asked: Question, session_id: str) -> dict[str, Any]:
        return self._session(session_id).data

    def _revoke_session(self, asked: Question, session_id: str) -> dict[str, Any]:
        session = self._session(session_id)
        session.revoke()
        return session.data

    def _refresh_session(self, asked: Question, session_id: str) -> dict[str, Any]:
        suffixed = asked.query.get("suffixed_cookies", [""])[0] == "true"
        found = self._handshakes.refresh(session_id, asked.fields, suffixed=suffixed)
        if found is None:
            raise Refused(401, "authentication_invalid", "The session is over, or these tokens are not its own.")
        return found

    def _user(self, user_id: str) -> LocalUser:
        user = self._directory.find(user_id)
        if user is None:
            raise _not_found()
        return user

    def _session(self, session_id: str) -> LocalSession:
        session = self._sessions.find(session_id)
        if session is None:
            raise _not_found()
        return session


def _not_found() -> Refused:
    return Refused(404, "resource_not_found", "not found")


def _page(query: _Query) -> slice:
    """Return the part of a list that is asked for by ``limit`` and ``offset``."""
    limit, offset = _number(query, "limit", 10), _number(query, "offset", 0)
    if not (1 <= limit <= 500 and offset >= 0):
        raise Refused(422)
    return slice(offset, offset + limit)


def _number(query: _Query, name: str, default: int) -> int:
    text = query.get(name, [str(default)])[0]
    return int(text) if text.isascii() and text.isdigit() else -1
