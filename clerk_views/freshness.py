"""
Is a user in step with Clerk, and is somebody looking just now?

Two memories that save calls to Clerk, and decide nothing else: Django's cache, shared by all processes, and a table of
the comparisons that this process is making. Either may be empty or wrong; the row in the database says who a user is.
"""

from __future__ import annotations

import math
import os
import threading
import time
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

from django.conf import settings

from clerk_views.conf import Config
from clerk_views.entries import CLOCKS, SharedEntry, keyed_digest
from clerk_views.exceptions import ClerkError
from clerk_views.profiles import Profile

T = TypeVar("T")

#: Seconds. How long a definite "no such user" counts, a sync while the cache is away, and one that the database would
#: not take (CAC-07, F-11, F-16).
SHORT_MEMORY = 60

_CACHE_VERSION = 2


class Mark(NamedTuple):
    """
    What the last comparison of a user with Clerk came to.

    Attributes:
        at: UNIX seconds: of the row's last sync, or of the comparison where no row tells of it.
        verdict: ``ok``, the row is in step; ``barred``, Clerk has banned the user or knows him not; ``unwritten``, the
            database would not take what Clerk said.
    """

    at: float
    verdict: str


#: Seconds that a mark counts at most; the settings may say less.
_LIFETIMES = {"ok": math.inf, "barred": SHORT_MEMORY, "unwritten": SHORT_MEMORY}


class Memory(SharedEntry):
    """
    What all processes that share the cache know of one user: when he was last in sync, and who is at it now.

    Never who he is: that is the row's to say.
    """

    consequence = "users are compared with Clerk more often"

    def __init__(self, clerk_id: str, config: Config) -> None:
        super().__init__(_key(clerk_id, config, settings.SECRET_KEY), config)
        self._timeout = config.cache_timeout

    def recall(self) -> Mark | None:
        """Return what is known of the last comparison; None if nothing is, or what there is was not put there by us."""
        entry = self.ask("get", self.key)
        if entry is None:
            return None
        mark = self._opened(entry)
        if mark is None:
            self.drop_forged()
        return mark

    def remember(self, mark: Mark) -> None:
        entry = self.sealed(f"{mark.at!r} {mark.verdict}")
        self.ask("set", self.key, entry, min(_LIFETIMES[mark.verdict], self._timeout))

    def remember_told(self, at: float) -> None:
        """
        Remember that the row was brought in step without being asked for, with what was so at Clerk at that time.

        Never in place of another mark: what stands there may be newer, or say that Clerk bars the user.
        """
        left = math.ceil(at + self._timeout - time.time())
        if left > 0:
            self.ask("add", self.key, self.sealed(f"{at!r} ok"), left)

    def _opened(self, entry: Any) -> Mark | None:
        at, _, verdict = (self.opened(entry) or "").partition(" ")
        if verdict not in _LIFETIMES:
            return None
        mark = Mark(float(at), verdict)
        # A genuine one that somebody kept and put back later counts no longer than it would have.
        return mark if -CLOCKS <= time.time() - mark.at <= _LIFETIMES[verdict] + CLOCKS else None


@lru_cache(maxsize=1024)
def _key(clerk_id: str, config: Config, secret: str | bytes) -> str:
    """
    Return the key of a user's entry. Whoever comes with a token each minute has the same: 7 µs less.

    Args:
        secret: SECRET_KEY, under which the digest is made; with another one it is another.
    """
    digest = keyed_digest("clerk_views.accounts", f"{_scope(config)} {clerk_id}")
    return f"clerk_views:{_CACHE_VERSION}:user:{digest}"


@lru_cache(maxsize=8)
def _scope(config: Config) -> str:
    """Return what a sync depends on: with other settings everybody is out of sync."""
    parts = (
        config.api_url,
        config.secret_key,
        config.user_source,
        dict(config.user_fields),
        dict(config.user_claims),
    )
    return repr(parts)


def note_told(user: Any, clerk_id: str, at: float, config: Config) -> None:
    """
    Count a user as fresh whom a webhook or a full sync has just written, so that his next request costs no call.

    The mark, and not the row's time of the last sync, says so: that is the time of writing, which a message that was
    tried again is hours behind, and knows nothing of the settings that the row was written by. To be called when the
    row is stored; if it is taken back after all, its time is older than the mark, which then counts for nothing.

    Args:
        at: UNIX seconds: when it was so at Clerk. News of before that may still be under way; what came later is
            asked for when the mark is over.
    """
    active = user.is_active and not user.clerk_account.deactivated
    if active and config.user_source == "api":  # claims cost no call, and may tell what Clerk's user object does not
        Memory(clerk_id, config).remember_told(min(at, time.time()))


class Flight(Generic[T]):
    """
    One question to Clerk, which others wait for.

    Attributes:
        brought: The answer; None before it has landed, and where it failed.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.landed = threading.Event()
        self.expires = math.inf  # by the monotonic clock
        self.brought: T | None = None
        self.error: ClerkError | None = None


class Flights(Generic[T]):
    """The questions of one sort that are under way in this process."""

    def __init__(self) -> None:
        self.start_anew()

    def start_anew(self) -> None:
        """Forget all. A forked child has neither the threads that would land, nor the one that may hold the lock."""
        self._flights: dict[str, Flight[T]] = {}
        self._lock = threading.Lock()

    def board(self, name: str, *, sharing: bool) -> tuple[Flight[T], bool]:
        """
        Return the flight of this name, and whether it is the caller's to lead.

        Args:
            sharing: Whether what one that has landed brought will do.
        """
        with self._lock:
            flight = self._flights.get(name)
            if flight is None or (flight.landed.is_set() and not (sharing and time.monotonic() < flight.expires)):
                flight = self._flights[name] = Flight[T](name)
                return flight, True
            return flight, False

    def land(self, flight: Flight[T], *, linger: float) -> None:
        """End a flight. It is remembered for some seconds if what it wrote cannot be seen by everybody yet."""
        now = time.monotonic()
        flight.expires = now + linger
        flight.landed.set()
        with self._lock:
            self._flights = {name: other for name, other in self._flights.items() if other.expires > now}


flights = Flights[Profile]()
os.register_at_fork(after_in_child=flights.start_anew)
