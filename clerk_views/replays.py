"""
Has the session that a handshake brings been brought before?

What Clerk sends back by a browser has no end of its own, and serves once. It is remembered by the session token in it
until that token cannot count any more: in this process, and in Django's cache for all processes that share it. An
answer without a session is not remembered. It gives nobody anything, and two browsers may well get the same.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
import time

from clerk_views.conf import Config
from clerk_views.entries import SharedEntry, keyed_digest

#: Sessions remembered in a process; the oldest are forgotten first, and are in the cache still.
MAX_KEPT = 4096


class _Entry(SharedEntry):
    """The note that a session has been brought."""

    consequence = "what a handshake brings counts once in each process"

    def __init__(self, session: str, config: Config) -> None:
        digest = keyed_digest("clerk_views.replays", f"{config.api_url} {session}")
        super().__init__(f"clerk_views:1:brought:{digest}", config)


class _Kept:
    """What this process remembers: digests, and UNIX seconds until which they matter."""

    def __init__(self) -> None:
        self.start_anew()

    def start_anew(self) -> None:
        """Forget all. In a forked child, a lock held by another thread would stay held for ever."""
        self._entries: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def has(self, digest: bytes) -> bool:
        return time.time() < self._entries.get(digest, 0)

    def add(self, digest: bytes, until: float) -> bool:
        """Remember a digest; False if it is known already."""
        with self._lock:
            if self.has(digest):
                return False
            self._entries.pop(digest, None)
            if len(self._entries) >= MAX_KEPT:
                del self._entries[next(iter(self._entries))]
            self._entries[digest] = until
            return True


_kept = _Kept()
os.register_at_fork(after_in_child=_kept.start_anew)


def is_known(session: str) -> bool:
    """Say whether this session token was brought to this very process before."""
    return _kept.has(_digest(session))


def take_up(session: str, until: float, config: Config) -> bool:
    """
    Note that this session token was brought; False if it was before, here or in another process.

    Args:
        until: UNIX seconds after which it cannot count any more.
    """
    if not _kept.add(_digest(session), until):
        return False
    entry = _Entry(session, config)
    lifetime = max(1, math.ceil(until - time.time()))
    return entry.ask("add", entry.key, entry.sealed("brought"), lifetime) is not False


def _digest(session: str) -> bytes:
    return hashlib.sha256(session.encode()).digest()
