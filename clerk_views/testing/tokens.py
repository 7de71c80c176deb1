"""
Session tokens of the stand-in: what does the next one say, given what is known and what a test wants to be in it?

Three layers, each laid over the one before: what the directory knows, what LocalClerk.token() was told by the names of
its arguments, and claims by their own names. The signing is minting.py's, the claims about organisations are
entitlements.py's; machine tokens are in machines.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from clerk_views.testing.instance import DEFAULT_PARTIES, Instance
from clerk_views.testing.minting import SigningKey, actor_claim, mint, overridden, session_claims, session_header
from clerk_views.testing.organizations import Organizations
from clerk_views.testing.sessions import LocalSession, Sessions

#: Arguments of LocalClerk.token() for which a slip of the pen would pass for a claim.
_DISTINCTIVE = ("org_slug", "org_role", "org_permissions", "factor_verification_age", "expires_in", "issued_at")


class SessionTokens:
    """
    The session tokens of one LocalClerk.

    Args:
        instance: Who issues and signs them.
        organizations: Where users belong, and what they have subscribed to.
        sessions: Which of them a token is of that names none.
    """

    def __init__(self, instance: Instance, organizations: Organizations, sessions: Sessions) -> None:
        self._instance = instance
        self._organizations = organizations
        self._sessions = sessions

    def mint(
        self,
        user_id: str,
        claims: Mapping[str, Any],
        *,
        version: int,
        header: Mapping[str, Any] | None,
        expires_in: float,
        issued_at: float | None,
        key: SigningKey | None,
        factor_verification_age: Iterable[float] | None,
        actor: str | Mapping[str, Any] | None,
        pending: bool,
        **entitled: Any,
    ) -> str:
        """
        Mint a session token. The arguments and errors are those of LocalClerk.token().

        Args:
            entitled: What Organizations.claims() takes about organisation, features and plans.
        """
        for name in claims:
            if meant := get_close_matches(name, _DISTINCTIVE, 1, 0.93):
                raise TypeError(f"{name!r} looks like {meant[0]!r}. For a claim of that very name, use minting.mint().")
        parties = self._instance.parties or DEFAULT_PARTIES
        known = session_claims(
            user_id=user_id,
            session_id=claims["sid"] if "sid" in claims else self._sessions.current(user_id).id,
            issuer=self._instance.issuer,
            azp=parties[0],
            version=version,
            expires_in=expires_in,
            issued_at=issued_at,
        )
        default_id = self._instance.instance_id.replace("ins_", "org_")
        named = self._organizations.claims(version, user_id, default_id=default_id, **entitled)
        named["act"] = actor_claim(actor)
        if factor_verification_age is not None:
            named["fva"] = list(factor_verification_age)
        if pending:
            named["sts"] = "pending"
        key = key or self._instance.signing_key
        payload = overridden({**known, **overridden(named, {})}, claims)
        return mint(overridden(session_header(key.kid), header or {}), payload, key)


def words_of(session: LocalSession, given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the arguments of LocalClerk.token() for the next token of a session.

    Args:
        given: Others, laid over what the session says.
    """
    own = {
        "sid": session.id,
        "organization": None if "org_id" in given else session.organization_id,
        "factor_verification_age": session.factor_ages(given.get("issued_at")),
        "actor": session.actor,
        "pending": session.status == "pending",
        **({} if session.origin is None else {"azp": session.origin}),
    }
    return {**own, **given}
