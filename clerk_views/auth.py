"""
Who is calling, as a view sees it: ``request.clerk``.

Built from verified claims by authentication.py, and shared by all requests that bring the same token; so it is frozen
through and through.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Self

Claims = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ClerkAuth:
    """
    The outcome of authenticating a request. Always an object, signed in or not.

    Attributes:
        status: ``signed-in``, ``signed-out`` or ``pending`` (signed in, but with a task to finish at Clerk first;
            treated as signed out).
        reason: Why nobody is signed in, as Clerk's kebab-case code; None when somebody is.
        token_type: ``session_token``, or None when no token was accepted.
        user_id: Clerk's id of the user (``user_…``); None when signed out.
        session_id: Clerk's id of the session (``sess_…``); None when signed out.
        actor: The ``act`` claim when somebody impersonates the user, else None.
        expires_at: When the token expires, aware, in UTC; None when signed out.
        token: The token itself, None when signed out. Left out of ``repr``, comparison and pickles.
    """

    status: str
    reason: str | None = None
    token_type: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    expires_at: datetime | None = None
    token: str | None = field(default=None, repr=False, compare=False)
    # JSON text, and not the dictionary: it cannot be changed by one request under the hands of another, and it takes a
    # third of the memory.
    _claims: str = field(default="{}", repr=False)
    _actor: str | None = field(default=None, repr=False)

    @property
    def is_authenticated(self) -> bool:
        """Whether somebody is signed in. A pending session counts as signed out."""
        return self.status == "signed-in"

    @property
    def claims(self) -> Claims:
        """The verified claims, read-only; empty when signed out. A fresh copy at each access."""
        return MappingProxyType(json.loads(self._claims))

    @property
    def actor(self) -> Claims | None:
        """Who impersonates the user (Clerk's ``act`` claim), read-only; None when nobody does."""
        if self._actor is None:
            return None
        actor = json.loads(self._actor)
        # An odd claim is still an impersonation, and must not read as none.
        return MappingProxyType(actor if isinstance(actor, dict) else {"sub": actor})

    def __reduce__(self) -> tuple[Any, ...]:
        return (
            type(self),
            (
                self.status,
                self.reason,
                self.token_type,
                self.user_id,
                self.session_id,
                self.expires_at,
                None,
                self._claims,
                self._actor,
            ),
        )

    @classmethod
    def signed_out(cls, reason: str | None) -> Self:
        """Nobody, and why."""
        return cls("signed-out", reason)

    @classmethod
    def from_session(cls, token: str, claims: Claims, text: str) -> Self:
        """Somebody: from a session token's verified claims, and the same as JSON text."""
        if claims.get("sts", "active") != "active":
            # Whoever asks "is there a user?" must hear no, so nothing of the session shows (Clerk, "pending sessions").
            return cls("pending", "session-pending")
        actor = claims.get("act")
        return cls(
            status="signed-in",
            token_type="session_token",
            user_id=claims["sub"],
            session_id=claims["sid"],
            expires_at=datetime.fromtimestamp(claims["exp"], UTC),
            token=token,
            _claims=text,
            _actor=None if actor is None else json.dumps(actor),
        )
