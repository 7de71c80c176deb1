"""
Which sessions are over at Clerk, though their tokens have not expired yet?

A list of those to be denied, in Django's cache, kept where CLERK_CHECK_REVOKED_SESSIONS asks for it. Webhooks and our
own sign-out write to it; authentication looks into it once per request, when it has a verdict on the token already.
An entry has to outlive the tokens of its session and no more, so forgetting is no loss.
"""

from __future__ import annotations

from typing import Any

from django.core.cache import caches
from django.utils.crypto import constant_time_compare, salted_hmac

from clerk_views.conf import Config
from clerk_views.entries import complain

#: Seconds, besides the leeway. Clerk's session tokens live one minute, those that its API mints as long as it was told.
LONGEST_TOKEN_LIFE = 86_400


def revoke(session_id: str, config: Config) -> bool:
    """Refuse this session's tokens from now on. False: the cache did not take it, and the log says so."""
    key = _key(session_id, config)
    lifetime = LONGEST_TOKEN_LIFE + 2 * int(config.clock_skew + 1)
    try:
        caches[config.cache_alias].set(key, _seal(key), lifetime)
    except Exception as error:  # noqa: BLE001  # every cache backend raises errors of its own
        _complain(config, error)
        return False
    return True


def is_revoked(session_id: str, config: Config) -> bool:
    """
    Say whether the session is over, by one look into the cache.

    A cache that cannot be read says no, and the log says that: an outage must not sign everybody out (F-11).
    """
    key = _key(session_id, config)
    cache = caches[config.cache_alias]
    try:
        entry: Any = cache.get(key)
        if entry is None:
            return False
        if type(entry) is str and constant_time_compare(entry.encode("utf-8", "replace"), _seal(key)):
            return True
        cache.delete(key)
    except Exception as error:  # noqa: BLE001  # every cache backend raises errors of its own
        _complain(config, error)
        return False
    complain(f"revocation in {config.cache_alias}", "The cache held something else than was put there; it was dropped.")
    return False


def _key(session_id: str, config: Config) -> str:
    digest = salted_hmac("clerk_views.revocation", f"{config.api_url} {session_id}", algorithm="sha256").hexdigest()
    return f"clerk_views:1:revoked:{digest}"


def _seal(key: str) -> str:
    """Return what only we can put there: who sees the keys in a shared cache must not end sessions by them (CAC-04)."""
    return salted_hmac("clerk_views.revocation.seal", key, algorithm="sha256").hexdigest()


def _complain(config: Config, error: Exception) -> None:
    complain(
        f"revocation {config.cache_alias}",
        "The cache %r does not work (%s); revoked sessions count until their tokens expire.",
        config.cache_alias,
        type(error).__name__,
    )
