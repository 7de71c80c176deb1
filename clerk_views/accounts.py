"""
Clerk's id of a user becomes the Django user: the row, and whether it is fresh enough to be served as it is.

Where it stands in the flow: after the token is verified, before any requirement is looked at. Mostly it reads one row.
Now and then the row is brought in step with Clerk first (profiles.py, sync.py), once for everybody who asks meanwhile.
What is away is done without: without Clerk or a writable database the known row is served, without the cache more
rows are compared with Clerk. Who is known nowhere is told to come back later, which is not the same as a refusal.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any, Literal, NamedTuple

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import Error, connections, router

from clerk_views import rows
from clerk_views.api import get_api
from clerk_views.calls import Budget
from clerk_views.conf import Config
from clerk_views.conf import config as current_config
from clerk_views.entries import CLOCKS, complain
from clerk_views.exceptions import AccountRefused, ClerkUnavailable, UserNotFound
from clerk_views.freshness import SHORT_MEMORY, Flight, Mark, Memory, flights
from clerk_views.profiles import Profile, absent, read_claims, read_profile
from clerk_views.sync import described, sync_profile

Source = Literal["cache", "api"]

#: Seconds during which a payload is shared with those who cannot see the new row, as its transaction is still open.
OPEN_TRANSACTION = 5


class Resolved(NamedTuple):
    """
    The Django user behind a token.

    Attributes:
        source: "api" when Clerk was asked for it, else "cache".
        fresh_until: UNIX seconds. Until then the row may be served without a look into the cache.
    """

    user: AbstractBaseUser
    source: Source
    fresh_until: float


def resolve(
    clerk_id: str,
    claims: Mapping[str, Any],
    *,
    config: Config,
    budget: Budget,
    sender: type | None = None,
    fresh_until: float = 0.0,
) -> Resolved:
    """
    Return the Django user of a verified Clerk id.

    Args:
        claims: Of the verified token; read only where CLERK_USER_SOURCE is "claims".
        budget: Bounds what is asked of Clerk, and waiting for others who ask.
        sender: The sender of signals; None for the user model.
        fresh_until: From the last Resolved for the same token.

    Raises:
        AccountRefused: The account is inactive, gone, or may not be linked.
        ClerkUnavailable: Clerk or the database is away, and the user is not known here.
    """
    user = _read(clerk_id)
    # A clock that was set back, or a shorter CLERK_CACHE_TIMEOUT, must not leave anybody fresh for long.
    if user is not None and 0 < fresh_until - time.time() <= max(config.cache_timeout, 2 * SHORT_MEMORY):
        return _admit(user, "cache", fresh_until)
    return _Resolution(clerk_id, claims, config, budget, sender).run(user)


def read_user(clerk_id: str) -> AbstractBaseUser | None:
    """
    Read the Django user of a Clerk id, with ``user.clerk_account`` beside it, in one query.

    This is the query of the steady state, and the one place where it is made.
    """
    # The row must say itself whose it is, whatever the database takes for equal (CAC-04).
    found = [user for user in rows.read(clerk_id) if user.clerk_account.clerk_id == clerk_id]
    return found[0] if found else None


def sync_django_user(clerk_user: Any, *, sender: type | None = None) -> Any:
    """
    Bring a Django user in step with what Clerk says; find, link or create him first.

    Args:
        clerk_user: A user as the SDK or a webhook gives it, an object or a dictionary. Older data than the last
            applied changes nothing. A webhook's ``deleted`` user is deactivated, and stays so whatever arrives later.
        sender: The sender of signals; None for the user model.

    Raises:
        AccountRefused: A Django user of this e-mail address exists and must not be linked.
        UserNotFound: The user was deleted, and was never known here.
        ClerkUnavailable: The database does not write.
        ValueError: There is no Clerk id in it.
    """
    return sync_profile(read_profile(clerk_user), current_config(), sender=sender)


def _read(clerk_id: str) -> AbstractBaseUser | None:
    try:
        return read_user(clerk_id)
    except Error as error:
        complain(
            "database",
            "Users cannot be read: %s. If a table is missing, run 'manage.py migrate'.",
            described(error),
        )
        raise ClerkUnavailable("database-unavailable") from error


def _admit(user: Any, source: Source, fresh_until: float) -> Resolved:
    if not _is_active(user):
        raise AccountRefused("user-inactive")
    return Resolved(user, source, fresh_until)


def _is_active(user: Any) -> bool:
    return bool(user.is_active and not user.clerk_account.deactivated)


def _synced_at(user: Any) -> float:
    synced_at: datetime | None = user.clerk_account.synced_at
    return 0.0 if synced_at is None else synced_at.timestamp()


class _Resolution:
    """The way to a user whose row is unknown, or not known to be fresh."""

    def __init__(
        self, clerk_id: str, claims: Mapping[str, Any], config: Config, budget: Budget, sender: type | None
    ) -> None:
        self.clerk_id = clerk_id
        self.claims = claims
        self.config = config
        self.budget = budget
        self.sender = sender
        self.memory = Memory(clerk_id, config)

    def run(self, user: AbstractBaseUser | None) -> Resolved:
        fresh_until = self.fresh_until(user)
        if user is not None and fresh_until:
            return _admit(user, "cache", fresh_until)
        while True:
            flight, leading = flights.board(self.memory.key, sharing=user is None)
            if leading:
                return self.lead(user, flight)
            if user is not None:
                return _admit(user, "cache", 0.0)
            with self.budget.spending():
                landed = flight.landed.wait(max(self.budget.remaining, 0))
            if not landed:
                raise ClerkUnavailable("upstream-timeout", "somebody else was asking Clerk and took too long")
            if flight.error is not None:
                raise copy.copy(flight.error)
            user = _read(self.clerk_id)
            if user is None and flight.brought is not None:
                user = sync_profile(flight.brought, self.config, sender=self.sender)
            if user is not None:
                return _admit(user, "cache", 0.0)

    def fresh_until(self, user: AbstractBaseUser | None) -> float:
        """Say until when the row may be served as it is, 0 for not at all. Raises AccountRefused if Clerk bars him."""
        mark = self.memory.recall()
        written = _synced_at(user) if user is not None else 0.0
        lasting = self.config.cache_timeout
        if self.memory.broken:
            at, lasting = written, min(SHORT_MEMORY, lasting)
        elif mark is None:
            return 0.0
        elif mark.verdict == "barred":
            if user is not None and _is_active(user) and written > mark.at:
                return 0.0  # a webhook, say, has brought better news since
            raise AccountRefused("user-not-found" if user is None else "user-inactive")
        elif user is None or (mark.verdict == "ok" and written < mark.at - 0.001):
            return 0.0  # written in a transaction that is still open, or was taken back
        else:
            at = mark.at
            if mark.verdict == "unwritten":
                lasting = min(SHORT_MEMORY, lasting)
        until = at + lasting
        return until if at - CLOCKS <= time.time() < until else 0.0

    def lead(self, user: AbstractBaseUser | None, flight: Flight[Profile]) -> Resolved:
        """Compare the user with Clerk for everybody who asks meanwhile, in this process and the others."""
        claimed = False
        try:
            claimed = self.memory.claim()
            if not claimed:
                if user is not None:
                    return _admit(user, "cache", 0.0)
                claimed = self.wait_for_other_process()
            # Somebody else may have done it between our look and our turn.
            user = _read(self.clerk_id)
            fresh_until = self.fresh_until(user)
            if user is not None and fresh_until:
                return _admit(user, "cache", fresh_until)
            return self.refresh(user, flight)
        except (AccountRefused, ClerkUnavailable) as error:
            flight.error = error
            raise
        finally:
            if claimed:
                self.memory.release()
            flights.land(flight, linger=OPEN_TRANSACTION if self.is_unseen(user, flight) else 0)

    def is_unseen(self, user: AbstractBaseUser | None, flight: Flight[Profile]) -> bool:
        """Say whether there is a new row that others cannot see until our caller's transaction ends."""
        database = connections[router.db_for_write(get_user_model())]
        return user is None and flight.brought is not None and flight.error is None and database.in_atomic_block

    def wait_for_other_process(self) -> bool:
        """Wait for at most half of the budget, and say whether the turn is ours then; it is taken in any case."""
        enough = self.budget.remaining / 2
        claimed = False
        with self.budget.spending():
            while not claimed and self.budget.remaining > enough:
                time.sleep(0.05)
                claimed = self.memory.claim()
        return claimed

    def refresh(self, user: AbstractBaseUser | None, flight: Flight[Profile]) -> Resolved:
        source: Source = "api" if self.config.user_source == "api" else "cache"
        try:
            profile = self.fetch()
        except UserNotFound:
            profile = absent(self.clerk_id)
        except ClerkUnavailable as error:
            if user is None:
                raise
            # Nothing is remembered, so the next request after the pause tries again (F-02).
            return _admit(user, "cache", time.time() + error.retry_after)
        try:
            synced = sync_profile(profile, self.config, sender=self.sender)
        except UserNotFound:
            raise self.refuse(profile, "user-not-found") from None
        except ClerkUnavailable:
            if profile.barred:
                raise self.refuse(profile, "user-not-found" if user is None else "user-inactive") from None
            if user is None:
                raise
            now = time.time()
            self.memory.remember(Mark(now, "unwritten"))
            return _admit(user, source, now + min(SHORT_MEMORY, self.config.cache_timeout))
        if profile.deleted:
            raise self.refuse(profile, "user-inactive")
        flight.brought = profile
        self.memory.remember(Mark(_synced_at(synced), "ok"))
        try:
            return _admit(synced, source, _synced_at(synced) + self.config.cache_timeout)
        except AccountRefused as error:
            raise self.refuse(profile, error.reason) if profile.barred else error from None

    def fetch(self) -> Profile:
        if self.config.user_source == "claims":
            return read_claims(self.clerk_id, self.claims, self.config.user_claims)
        return read_profile(get_api(self.config).get_user(self.clerk_id, self.budget))

    def refuse(self, profile: Profile, reason: str) -> AccountRefused:
        """Return the refusal of somebody whom Clerk bars (LFC-01, LFC-02), and remember it for a while (F-09)."""
        self.memory.remember(Mark(time.time(), "barred"))
        refused = AccountRefused(reason)
        if connections[router.db_for_write(get_user_model())].in_atomic_block:
            refused.rewrite = partial(sync_profile, profile, self.config, sender=self.sender)
        return refused
