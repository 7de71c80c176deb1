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
from typing import Any, NamedTuple

from django.core.cache import caches
from django.utils.crypto import constant_time_compare, salted_hmac

from clerk_views.conf import Config
from clerk_views.exceptions import ClerkError
from clerk_views.profiles import Profile

logger = logging.getLogger("clerk_views")

#: Seconds. How long a definite "no such user" counts, a sync while the cache is away, and one that the database would
#: not take (CAC-07, F-11, F-16).
SHORT_MEMORY = 60
#: Seconds by which the clocks of our own machines may differ.
CLOCKS = 60

_CACHE_VERSION = 2
_NOTHING = object()


class Mark(NamedTuple):
    """
    What the last comparison of a user with Clerk came to.

    Attributes:
        at: UNIX seconds: of the row's last sync, or of the comparison where no row tells of it.
        verdict: ``ok``, the row is in step; ``barred``, Clerk has banned the user or knows him not; ``unwritten``, the
            database would not take what Clerk said; ``turn``, nothing yet: a process is at it.
    """

    at: float
    verdict: str


#: Seconds that a mark counts at most; the settings may say less.
_LIFETIMES = {"ok": math.inf, "barred": SHORT_MEMORY, "unwritten": SHORT_MEMORY, "turn": SHORT_MEMORY}


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

    def recall(self) -> Mark | None:
        """Return what is known of the last comparison; None if nothing is, or what there is was not put there by us."""
        entry = self._ask("get", self.key)
        if entry is None:
            return None
        mark = self._opened(entry)
        if mark is None:
            complain(f"entry in {self._alias}", "The cache held something else than was put there; it was dropped.")
            self._ask("delete", self.key)
        return mark

    def remember(self, mark: Mark) -> None:
        self._ask("set", self.key, self._sealed(mark), min(_LIFETIMES[mark.verdict], self._timeout))

    def claim(self) -> bool:
        """Take the turn, unless another process has it. Without a cache everybody has it."""
        turn = self._sealed(Mark(time.time(), "turn"))
        if self._ask("add", f"{self.key}:turn", turn, self._turn) is not False:
            return True
        held = self._ask("get", f"{self.key}:turn", _NOTHING)
        if self.broken or held is _NOTHING:
            return self.broken  # else it was given back a moment ago, with what came of it
        mark = self._opened(held)
        if mark is not None and mark.verdict == "turn":
            return False
        # Whoever writes into the cache must not hold up the news of a ban by a turn that nobody took (CAC-04).
        self._ask("set", f"{self.key}:turn", turn, self._turn)
        return True

    def _sealed(self, mark: Mark) -> str:
        """Write a mark down, so that nobody without SECRET_KEY can put another in its place (CAC-04)."""
        return f"{mark.at!r} {mark.verdict} {self._seal(mark)}"

    def _seal(self, mark: Mark) -> str:
        text = f"{self.key} {mark.at!r} {mark.verdict}"
        return salted_hmac("clerk_views.freshness", text, algorithm="sha256").hexdigest()

    def _opened(self, entry: Any) -> Mark | None:
        parts = entry.split(" ") if type(entry) is str else ()
        if len(parts) != 3 or parts[1] not in _LIFETIMES:
            return None
        try:
            mark = Mark(float(parts[0]), parts[1])
        except ValueError:
            return None
        # A genuine one that somebody kept and put back later counts no longer than it would have.
        age = time.time() - mark.at
        if not -CLOCKS <= age <= _LIFETIMES[mark.verdict] + CLOCKS:
            return None
        return mark if constant_time_compare(parts[2].encode("utf-8", "replace"), self._seal(mark)) else None

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
