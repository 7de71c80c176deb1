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

from clerk_views.authorization import NOTHING, UNASKED, Authorization, Reverification, decode

Claims = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ClerkAuth:
    """
    The outcome of authenticating a request. Always an object, signed in or not.

    Attributes:
        status: ``signed-in``, ``signed-out`` or ``pending`` (signed in, but with a task to finish at Clerk first;
            treated as signed out, except where a view admits such sessions).
        reason: Why nobody is signed in, as Clerk's kebab-case code; None when somebody is.
        token_type: ``session_token``, ``api_key``, ``m2m_token`` or ``oauth_token``; None when no token was accepted.
        user_id: Clerk's id of the user (``user_…``); None when signed out, and for a token that is no user's.
        session_id: Clerk's id of the session (``sess_…``); None when signed out, and for machine tokens.
        expires_at: When the token expires, aware, in UTC; None when signed out, and for one that never does.
        token: The token itself, None when signed out. Left out of ``repr``, comparison and pickles.
        scopes: What a machine token may do; empty for sessions.
        machine_id: Clerk's id of the machine (``mch_…``); None for all but M2M tokens.
    """

    status: str
    reason: str | None = None
    token_type: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    expires_at: datetime | None = None
    token: str | None = field(default=None, repr=False, compare=False)
    scopes: tuple[str, ...] = ()
    machine_id: str | None = None
    # JSON text, and not the dictionary: it cannot be changed by one request under the hands of another, and it takes a
    # third of the memory.
    _claims: str = field(default="{}", repr=False)
    _actor: str | None = field(default=None, repr=False)
    _owner: str | None = field(default=None, repr=False)  # the organisation whose machine token it is
    # Decoded when first asked for, which most requests never do, and kept for all requests that share this object.
    _decoded: Authorization | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def is_authenticated(self) -> bool:
        """Whether somebody is signed in. A pending session counts as signed out, except where a view admits it."""
        return self.status == "signed-in" or (self.status == "pending" and self.user_id is not None)

    @property
    def is_pending(self) -> bool:
        """Whether the session has a task to finish at Clerk first."""
        return self.status == "pending"

    @property
    def is_impersonated(self) -> bool:
        """Whether somebody else acts as the user. See ``actor``."""
        return self._actor is not None

    @property
    def claims(self) -> Claims:
        """
        The verified claims, read-only; empty when signed out. A fresh copy at each access.

        Of an opaque machine token: its custom claims, with its subject as ``sub`` and its id as ``jti``.
        """
        return MappingProxyType(json.loads(self._claims))

    @property
    def actor(self) -> Claims | None:
        """Who impersonates the user (Clerk's ``act`` claim), read-only; None when nobody does."""
        if self._actor is None:
            return None
        actor = json.loads(self._actor)
        # An odd claim is still an impersonation, and must not read as none.
        return MappingProxyType(actor if isinstance(actor, dict) else {"sub": actor})

    @property
    def org_id(self) -> str | None:
        """Clerk's id of the active organisation, or of the one whose API key it is (``org_…``); None without one."""
        return self._owner or self._authorization.org_id

    @property
    def org_slug(self) -> str | None:
        """The active organisation's slug; None without one."""
        return self._authorization.org_slug

    @property
    def org_role(self) -> str | None:
        """The user's role in the active organisation, with ``org:``; None without one."""
        return self._authorization.org_role

    @property
    def org_permissions(self) -> tuple[str, ...]:
        """
        The user's permissions in the active organisation, each as ``org:<feature>:<name>``.

        To ask for one, ``has`` is quicker. Clerk's system permissions (``org:sys_…``) are in no token.
        """
        return tuple(self._authorization.permissions)

    @property
    def factor_verification_age(self) -> tuple[float, float] | None:
        """
        Minutes since the first and the second factor were verified, -1 for one that never was.

        None when the token does not tell. As of the token's issue: Clerk renews a session's token every minute.
        """
        return self._authorization.factor_ages

    def has(
        self,
        *,
        role: str = UNASKED,
        permission: str = UNASKED,
        feature: str = UNASKED,
        plan: str = UNASKED,
        reverification: str | Mapping[str, Any] | Reverification = UNASKED,
    ) -> bool:
        """
        Whether the user has all that is asked, as Clerk's ``auth.has()`` decides it. Never raises.

        Nothing asked is False; so is a value of the wrong type, None included, and everything that the token does not
        tell. Of a machine token everything is: it has ``scopes``.

        Args:
            role: In the active organisation; ``org:`` may be left out.
            permission: In the active organisation; ``org:`` may be left out.
            feature: Of the active organisation's plan (``org:reports``), of the user's (``user:reports``), or of either
                (``reports``).
            plan: Likewise.
            reverification: ``strict_mfa``, ``strict``, ``moderate``, ``lax``, or
                ``{"level": "second_factor", "afterMinutes": 10}``.
        """
        return (
            self.user_id is not None
            and self.is_authenticated
            and self._authorization.has(
                role=role, permission=permission, feature=feature, plan=plan, reverification=reverification
            )
        )

    @property
    def _authorization(self) -> Authorization:
        decoded = self._decoded
        if decoded is None:
            decoded = decode(json.loads(self._claims)) if self.token_type == "session_token" else NOTHING
            # Two threads may both come here, and then find the same.
            object.__setattr__(self, "_decoded", decoded)
        return decoded

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
                self.scopes,
                self.machine_id,
                self._claims,
                self._actor,
                self._owner,
            ),
        )

    @classmethod
    def signed_out(cls, reason: str | None) -> Self:
        """Nobody, and why."""
        return cls("signed-out", reason)

    @classmethod
    def from_session(cls, token: str, claims: Claims, text: str, *, allow_pending: bool = False) -> Self:
        """
        Somebody: from a session token's verified claims, and the same as JSON text.

        Args:
            allow_pending: Show a session with open tasks like any other, but for its ``status``. Source: Clerk's
                JavaScript SDK, "treatPendingAsSignedOut". One of a status nobody knows stays signed out.
        """
        status = claims.get("sts", "active")
        if status != "active" and not (allow_pending and status == "pending"):
            # Whoever asks "is there a user?" must hear no, so nothing of the session shows (Clerk, "pending sessions").
            return cls("pending", "session-pending")
        actor = claims.get("act")
        return cls(
            status="signed-in" if status == "active" else "pending",
            token_type="session_token",
            user_id=claims["sub"],
            session_id=claims["sid"],
            expires_at=datetime.fromtimestamp(claims["exp"], UTC),
            token=token,
            _claims=text,
            _actor=None if actor is None else json.dumps(actor),
        )

    @classmethod
    def from_machine(
        cls,
        token: str,
        token_type: str,
        claims: Claims,
        text: str,
        *,
        scopes: tuple[str, ...],
        expires: float | None,
        actor: Any = None,
    ) -> Self:
        """
        Whose machine token it is: a user's, an organisation's or a machine's, by the subject in its claims.

        Args:
            text: The claims as JSON text.
            expires: UNIX seconds; None for never.
            actor: Who acts for the subject; None for nobody.
        """
        subject = claims["sub"]
        return cls(
            status="signed-in",
            token_type=token_type,
            user_id=subject if subject.startswith("user_") else None,
            expires_at=None if expires is None else datetime.fromtimestamp(expires, UTC),
            token=token,
            scopes=scopes,
            machine_id=subject if subject.startswith("mch_") else None,
            _claims=text,
            _actor=None if actor is None else json.dumps(actor),
            _owner=subject if subject.startswith("org_") else None,
        )
