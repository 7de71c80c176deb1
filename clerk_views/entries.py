"""
What do all processes that share the cache know of one thing, and may it be believed?

One entry of Django's cache. Whoever can write there, a neighbour on the same server say, must not decide anything here,
so entries are sealed. Beside each stands a turn: who is about to find out what the entry shall hold.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import time
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.utils.crypto import constant_time_compare
from django.utils.encoding import force_bytes

from clerk_views.conf import Config

logger = logging.getLogger("clerk_views")

#: Seconds by which the clocks of our own machines may differ.
CLOCKS = 60
#: Seconds. However long a turn is said to be, one that somebody put back later counts no longer.
LONGEST_TURN = 60

_NOTHING = object()


class SharedEntry:
    """
    One entry, under a key that tells nothing. A cache that fails is not asked again by this object.

    Attributes:
        consequence: What happens while the cache is away, for the log.
        broken: Whether the cache failed.
    """

    consequence = ""

    def __init__(self, key: str, config: Config) -> None:
        self.key = key
        self.broken = False
        self.alias = config.cache_alias
        self._turn = math.ceil(config.timeout) + 1  # seconds; somebody who died loses his turn

    def claim(self) -> bool:
        """Take the turn, unless another process has it. Without a cache everybody has it."""
        turn = self.sealed(f"{time.time()!r} turn")
        if self.ask("add", f"{self.key}:turn", turn, self._turn) is not False:
            return True
        held = self.ask("get", f"{self.key}:turn", _NOTHING)
        if self.broken or held is _NOTHING:
            return self.broken  # else it was given back a moment ago, with what came of it
        if self._is_turn(held):
            return False
        # Whoever writes into the cache must not hold up the news of a ban by a turn that nobody took (CAC-04).
        self.ask("set", f"{self.key}:turn", turn, self._turn)
        return True

    def release(self) -> None:
        """Give the turn back."""
        self.ask("delete", f"{self.key}:turn")

    def sealed(self, text: str) -> str:
        """Write a text down, so that nobody without SECRET_KEY can put another in its place (CAC-04)."""
        return f"{text} {self._seal(text)}"

    def opened(self, entry: Any) -> str | None:
        """Return the text that was sealed for this entry; None for anything else."""
        text, _, seal = entry.rpartition(" ") if type(entry) is str else ("", "", "")
        return text if text and constant_time_compare(seal.encode("utf-8", "replace"), self._seal(text)) else None

    def drop_forged(self) -> None:
        """Forget what was not put there by us, and say so."""
        complain(f"entry in {self.alias}", "The cache held something else than was put there; it was dropped.")
        self.ask("delete", self.key)

    def ask(self, operation: str, *arguments: Any) -> Any:
        """Ask the cache; None where it fails."""
        if self.broken:
            return None
        try:
            return getattr(caches[self.alias], operation)(*arguments)
        except Exception as error:  # noqa: BLE001  # every cache backend raises errors of its own
            self.broken = True
            complain(
                f"cache {self.alias}",
                "The cache %r does not work (%s); %s until it does.",
                self.alias,
                type(error).__name__,
                self.consequence,
            )
            return None

    def _seal(self, text: str) -> str:
        return keyed_digest("clerk_views.freshness", f"{self.key} {text}")

    def _is_turn(self, entry: Any) -> bool:
        taken, _, word = (self.opened(entry) or "").partition(" ")
        return word == "turn" and -CLOCKS <= time.time() - float(taken) <= LONGEST_TURN + CLOCKS


def keyed_digest(purpose: str, text: str) -> str:
    """Return an HMAC-SHA256 under SECRET_KEY: what Django's salted_hmac() comes to, which takes 5 µs for it, not 1."""
    return hmac.digest(_key_for(purpose, settings.SECRET_KEY), text.encode(), "sha256").hex()


@lru_cache(maxsize=16)
def _key_for(purpose: str, secret: str | bytes) -> bytes:
    return hashlib.sha256(purpose.encode() + force_bytes(secret)).digest()


_complaints: dict[str, float] = {}


def complain(subject: str, message: str, *details: object) -> None:
    """Log trouble that meets every request, once a minute."""
    now = time.monotonic()
    if now - _complaints.get(subject, -math.inf) >= 60:
        _complaints[subject] = now
        logger.error(message, *details)
