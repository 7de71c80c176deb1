"""
Was this refused before, or too much like it of late, so that Clerk need not be asked?

Anybody can make up a nonce or a token, and each costs a call. Clerk's rate limit is for those who mean it (I6). Both
classes are put around a question: ``with refused.asking(nonce), flood.asking():``.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from clerk_views.exceptions import ClerkUnavailable, TokenRefused


class Refused:
    """
    What Clerk refused, and why. Whoever brings it again hears the same. Safe to use from several threads.

    Args:
        most: How many are kept; the latest.
        lifetime: Seconds for which a refusal counts.
    """

    def __init__(self, most: int, lifetime: float = math.inf) -> None:
        self.most = most
        self.lifetime = lifetime
        self._lock = threading.Lock()
        self._refusals: dict[str, tuple[float, str]] = {}  # when and why; the oldest first

    @contextmanager
    def asking(self, name: str) -> Iterator[None]:
        """
        Ask Clerk about it inside the block, which raises TokenRefused where Clerk does.

        Raises:
            TokenRefused: It was refused before.
        """
        since, reason = self._refusals.get(name, (-math.inf, ""))
        if time.monotonic() - since < self.lifetime:
            raise TokenRefused(reason, "refused before")
        try:
            yield
        except TokenRefused as refused:
            with self._lock:
                self._refusals.pop(name, None)
                while len(self._refusals) >= self.most:
                    del self._refusals[next(iter(self._refusals))]
                self._refusals[name] = (time.monotonic(), refused.reason)
            raise


class Flood:
    """
    What of one kind Clerk refused of late. Once it is too much, no more is asked for a while. For several threads, too.

    Args:
        kind: In the plural, for the log.
        most: How many may be refused within the window.
        window: Seconds.
    """

    def __init__(self, kind: str, most: int, window: float) -> None:
        self.kind = kind
        self.window = window
        self._asked: deque[float] = deque(maxlen=most)  # when, of those that were refused

    @contextmanager
    def asking(self, *, known: bool = False) -> Iterator[None]:
        """
        Ask Clerk about one of the kind inside the block, which raises TokenRefused where Clerk does.

        Args:
            known: It was good a while ago, so it is not made up. It is asked about in any case.

        Raises:
            ClerkUnavailable: Too many were refused.
        """
        now = time.monotonic()
        if len(self._asked) == self._asked.maxlen and not known:
            left = self._asked[0] + self.window - now
            if left > 0:
                raise ClerkUnavailable("upstream-unavailable", f"too many {self.kind} were refused", retry_after=left)
        try:
            yield
        except TokenRefused:
            self._asked.append(now)
            raise
