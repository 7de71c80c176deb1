"""
The sessions of the stand-in: who is signed in, to which organisation, and when a factor was last proved.

A session outlives its tokens: each renewal mints another token from what is kept here. LocalClerk.open_session() starts
one, LocalClerk.session_token() mints for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import jwt

from clerk_views.testing.minting import actor_claim, new_id

#: Statuses of a session that still renews its tokens.
_OPEN = ("active", "pending")

_DAY = 24 * 3600  # seconds


class LocalSession:
    """
    A session of the stand-in. A handle: it always shows the session as the server has it now.

    Attributes:
        id: Clerk's id, ``sess_…``.
        client_id: Of the browser that it belongs to, ``client_…``.
        user_id: Whose it is.
        organization_id: The active organisation; None for the personal account.
        status: "active", "pending" (signed in, with a task to finish first), or how it ended: "ended", "removed" or
            "revoked".
        task: What a pending session has to finish first: "choose-organization", "reset-password" or "setup-mfa".
        origin: Of the page that it was opened on, for ``azp``; None for the server's first party.
        actor: The ``act`` claim where somebody impersonates the user, else None.
        created_at: Unix seconds.
        updated_at: Unix seconds.
        first_factor_at: When the first factor was last proved, in Unix seconds; None for never.
        second_factor_at: Likewise; None also for a user who has none.
    """

    def __init__(
        self,
        user_id: str,
        *,
        organization_id: str | None = None,
        origin: str | None = None,
        pending: bool | str = False,
        actor: str | Mapping[str, Any] | None = None,
        second_factor: bool = False,
        client_id: str | None = None,
    ) -> None:
        self.id = new_id("sess")
        self.client_id = client_id or new_id("client")
        self.user_id = user_id
        self.organization_id = organization_id
        self.status = "pending" if pending else "active"
        self.task = "choose-organization" if pending is True else pending or None
        self.origin = origin
        self.actor = actor_claim(actor)
        self.created_at = self.updated_at = time.time()
        self.first_factor_at: float | None = self.created_at
        self.second_factor_at: float | None = self.created_at if second_factor else None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<LocalSession {self.id}, {self.status}>"

    @property
    def is_open(self) -> bool:
        """Whether it still renews its tokens: active or pending."""
        return self.status in _OPEN

    @property
    def data(self) -> dict[str, Any]:
        """The body with which Clerk's Backend API answers for this session."""
        return {
            "object": "session",
            "id": self.id,
            "client_id": self.client_id,
            "user_id": self.user_id,
            "status": self.status,
            "actor": self.actor,
            "last_active_organization_id": self.organization_id,
            "last_active_at": _ms(self.updated_at),
            "latest_activity": None,
            "expire_at": _ms(self.created_at + 7 * _DAY),
            "abandon_at": _ms(self.created_at + 30 * _DAY),
            "tasks": [{"key": self.task}] if self.status == "pending" else None,
            "created_at": _ms(self.created_at),
            "updated_at": _ms(self.updated_at),
        }

    def factor_ages(self, now: float | None = None) -> tuple[int, int]:
        """
        Return how many whole minutes ago the first and the second factor were proved, as in ``fva``; -1 for never.

        Args:
            now: Unix seconds; None for now.
        """
        now = time.time() if now is None else now
        first, second = (
            -1 if proved is None else max(0, int(now - proved) // 60)
            for proved in (self.first_factor_at, self.second_factor_at)
        )
        return first, second

    def prove_factors(self, *, first: bool = True, second: bool = False) -> None:
        """Note that the user has just proved factors again, as after a reverification."""
        with self._lock:
            self.updated_at = time.time()
            if first:
                self.first_factor_at = self.updated_at
            if second:
                self.second_factor_at = self.updated_at

    def age_factors(self, minutes: float) -> None:
        """Let the proofs of the factors so far count as given so many minutes earlier."""
        with self._lock:
            self.updated_at = time.time()
            if self.first_factor_at is not None:
                self.first_factor_at -= minutes * 60
            if self.second_factor_at is not None:
                self.second_factor_at -= minutes * 60

    def activate(self, organization_id: str | None) -> None:
        """
        Make an organisation the active one, or with None the personal account.

        If choosing one is the task of a pending session, it becomes active by it. A session that is over stays as it
        is. Whether the user is a member is the caller's to see to.
        """
        with self._lock:
            if self.is_open:
                self.organization_id = organization_id
                self.updated_at = time.time()
                if organization_id and self.task == "choose-organization":
                    self.status = "active"

    def end(self) -> None:
        """End it, as by signing out. A session that is over stays as it is; so with the next two."""
        self._finish("ended")

    def remove(self) -> None:
        """Remove it from its browser, as by signing out of one of several accounts."""
        self._finish("removed")

    def revoke(self) -> None:
        """Revoke it, as by the Backend API: tokens already minted stay good until they expire."""
        self._finish("revoked")

    def _finish(self, status: str) -> None:
        with self._lock:
            if self.is_open:
                self.status = status
                self.updated_at = time.time()


class Sessions:
    """All sessions, in the order in which they were opened. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._sessions: dict[str, LocalSession] = {}
        self._current: dict[str, LocalSession] = {}

    def open(self, user_id: str, **fields: Any) -> LocalSession:
        """Open a session, with fields as LocalSession takes them. It is the user's current one from now on."""
        session = LocalSession(user_id, **fields)
        with self._lock:
            self._sessions[session.id] = session
            self._current[user_id] = session
        return session

    def current(self, user_id: str) -> LocalSession:
        """Return the session that was opened last for a user if it is still open, else a new one."""
        with self._lock:
            session = self._current.get(user_id)
            return session if session and session.is_open else self.open(user_id)

    def find(self, session_id: str) -> LocalSession | None:
        """Return the session, over or not; or None."""
        with self._lock:
            return self._sessions.get(session_id)

    def select(self, wanted: Callable[[LocalSession], bool]) -> list[LocalSession]:
        """Return the sessions that a condition holds for, oldest first."""
        with self._lock:
            return [session for session in self._sessions.values() if wanted(session)]

    def of_user(self, user_id: str) -> list[LocalSession]:
        """Return the open sessions of a user, oldest first."""
        return self.select(lambda session: session.user_id == user_id and session.is_open)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._sessions.clear()
            self._current.clear()


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def session_id_of(token: object) -> str | None:
    """Return the id of the session that a token was minted for, expired or not; None if it tells none."""
    try:
        session_id = jwt.decode(str(token), options={"verify_signature": False}).get("sid")
    except jwt.PyJWTError:
        return None
    return session_id if isinstance(session_id, str) else None
