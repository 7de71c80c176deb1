"""
Is a user in step with Clerk, and is somebody looking just now?

Two memories that save calls to Clerk, and decide nothing else: Django's cache, shared by all processes, and a table of
the comparisons that this process is making. Either may be empty or wrong; the row in the database says who a user is.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from typing import Any

from django.core.cache import caches
from django.utils.crypto import salted_hmac

from clerk_views.conf import Config
from clerk_views.exceptions import ClerkError
from clerk_views.profiles import Profile

logger = logging.getLogger("clerk_views")

#: Seconds. How long a definite "no such user" counts, and a sync while the cache is away (CAC-07, F-11).
SHORT_MEMORY = 60
#: Seconds by which the clocks of our own machines may differ.
CLOCKS = 60

_CACHE_VERSION = 1


class Memory:
    """
    What all processes that share the cache know of one user: when he was last in sync, and who is at it now.

    Never who he is: that is the row's to say. A cache that fails is not asked again in this request.
    """

    def __init__(self, clerk_id: str, config: Config) -> None:
        # What a sync depends on is in the key: with other settings everybody is out of sync.
        scope = (
            config.api_url,
            config.secret_key,
            config.user_source,
            dict(config.user_fields),
            dict(config.user_claims),
            clerk_id,
        )
        digest = salted_hmac("clerk_views.accounts", repr(scope), algorithm="sha256").hexdigest()
        self.key = f"clerk_views:{_CACHE_VERSION}:user:{digest}"
        self.broken = False
        self._alias = config.cache_alias
        self._timeout = config.cache_timeout
        self._turn = math.ceil(config.timeout) + 1  # seconds; somebody who died loses his turn

    def recall(self) -> tuple[float, bool] | None:
        """Return the UNIX time of the last sync, and whether it found that there is no such user; None if unknown."""
        entry = self._ask("get", self.key)
        if entry is None:
            return None
        if _is_mark(entry):
            return entry[1], entry[2] == "gone"
        complain(f"entry in {self._alias}", "The cache held something else than was put there; it was dropped.")
        self._ask("delete", self.key)
        return None

    def remember(self, at: float, *, gone: bool) -> None:
        lasting = min(SHORT_MEMORY, self._timeout) if gone else self._timeout
        self._ask("set", self.key, [_CACHE_VERSION, at, "gone" if gone else "ok"], lasting)

    def claim(self) -> bool:
        """Take the turn, unless another process has it. Without a cache everybody has it."""
        return self._ask("add", f"{self.key}:turn", 1, self._turn) is not False

    def release(self) -> None:
        self._ask("delete", f"{self.key}:turn")

    def _ask(self, operation: str, *arguments: Any) -> Any:
        if self.broken:
            return None
        try:
            return getattr(caches[self._alias], operation)(*arguments)
        except Exception as error:  # noqa: BLE001  # every cache backend raises errors of its own
            self.broken = True
            complain(
                f"cache {self._alias}",
                "The cache %r does not work (%s); users are compared with Clerk more often until it does.",
                self._alias,
                type(error).__name__,
            )
            return None


def _is_mark(entry: Any) -> bool:
    if type(entry) is not list or len(entry) != 3:
        return False
    version, at, verdict = entry
    latest = time.time() + CLOCKS
    return (
        type(version) is int
        and version == _CACHE_VERSION
        and type(at) is float
        and 0 <= at <= latest
        and (verdict == "ok" or (verdict == "gone" and at > latest - 2 * SHORT_MEMORY))
    )


class Flight:
    """One comparison with Clerk, which others wait for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.landed = threading.Event()
        self.expires = math.inf  # by the monotonic clock
        self.profile: Profile | None = None
        self.error: ClerkError | None = None


class Flights:
    """The comparisons that are under way in this process."""

    def __init__(self) -> None:
        self.start_anew()

    def start_anew(self) -> None:
        """Forget all. A forked child has neither the threads that would land, nor the one that may hold the lock."""
        self._flights: dict[str, Flight] = {}
        self._lock = threading.Lock()

    def board(self, name: str, *, sharing: bool) -> tuple[Flight, bool]:
        """
        Return the flight of this name, and whether it is the caller's to lead.

        Args:
            sharing: Whether what one that has landed brought will do.
        """
        with self._lock:
            flight = self._flights.get(name)
            if flight is None or (flight.landed.is_set() and not (sharing and time.monotonic() < flight.expires)):
                flight = self._flights[name] = Flight(name)
                return flight, True
            return flight, False

    def land(self, flight: Flight, *, linger: float) -> None:
        """End a flight. It is remembered for some seconds if what it wrote cannot be seen by everybody yet."""
        now = time.monotonic()
        flight.expires = now + linger
        flight.landed.set()
        with self._lock:
            self._flights = {name: other for name, other in self._flights.items() if other.expires > now}


flights = Flights()
os.register_at_fork(after_in_child=flights.start_anew)


_complaints: dict[str, float] = {}


def complain(subject: str, message: str, *details: object) -> None:
    """Log trouble that meets every request, once a minute."""
    now = time.monotonic()
    if now - _complaints.get(subject, -math.inf) >= 60:
        _complaints[subject] = now
        logger.error(message, *details)
