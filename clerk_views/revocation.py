"""
Which sessions are over at Clerk, though their tokens have not expired yet?

A list of those to be denied, in Django's cache, kept where CLERK_CHECK_REVOKED_SESSIONS asks for it. Webhooks and our
own sign-out write to it; authentication looks into it once per request, when it has a verdict on the token already.
An entry has to outlive the tokens of its session and no more, so forgetting is no loss. Tokens that could outlive it
are refused: Clerk's API mints tokens for ten years on request, and no cache remembers for so long.
"""

from __future__ import annotations

from clerk_views.conf import Config
from clerk_views.entries import SharedEntry, keyed_digest

#: Seconds, besides the leeway. Clerk's session tokens live one minute, those that its API mints as long as it was told.
LONGEST_TOKEN_LIFE = 86_400

TOO_LONG_LIVED = "session-token-too-long-lived"


class _Entry(SharedEntry):
    """The note that a session is over."""

    consequence = "revoked sessions count until their tokens expire"

    def __init__(self, session_id: str, config: Config) -> None:
        digest = keyed_digest("clerk_views.revocation", f"{config.api_url} {session_id}")
        super().__init__(f"clerk_views:1:revoked:{digest}", config)


def revoke(session_id: str, config: Config) -> bool:
    """Refuse this session's tokens from now on. False: the cache did not take it, and the log says so."""
    entry = _Entry(session_id, config)
    entry.ask("set", entry.key, entry.sealed("revoked"), LONGEST_TOKEN_LIFE + 2 * int(config.clock_skew + 1))
    return not entry.broken


def outlives_notes(issued: float, expires: float) -> bool:
    """Say whether a token lives so long that the note of its session's end may be gone before. In UNIX seconds."""
    return expires - issued > LONGEST_TOKEN_LIFE


def is_revoked(session_id: str, config: Config) -> bool:
    """
    Say whether the session is over, by one look into the cache.

    A cache that cannot be read says no, and the log says that: an outage must not sign everybody out (F-11).
    """
    entry = _Entry(session_id, config)
    noted = entry.ask("get", entry.key)
    if noted is None:
        return False
    if entry.opened(noted) == "revoked":
        return True
    entry.drop_forged()
    return False
