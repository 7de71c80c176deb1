"""
Everybody at Clerk becomes, or stays, a Django user: page by page, however long it takes and whatever comes between.

Behind ``manage.py clerk_sync``. It asks Clerk for users in the order in which they were created, so new ones come last
and a page stays what it was; only deletions move users up, and that is noticed by asking for the last user again.
What was done is written down after each page, and the next run goes on there. What comes of a single user is sync.py's.
Nothing that one user brings, an error of the project's own code included, keeps those after him from their turn.
"""

from __future__ import annotations

import logging
import math
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal, TypeVar

from django.contrib.auth import get_user_model
from django.db import Error, router, transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

from clerk_views.api import ClerkApi
from clerk_views.calls import Budget
from clerk_views.conf import Config
from clerk_views.exceptions import AccountRefused, ClerkUnavailable, UserNotFound
from clerk_views.freshness import note_told
from clerk_views.models import ClerkAccount, ClerkSyncRun
from clerk_views.profiles import Profile, absent, read_profile
from clerk_views.sync import Outcome, described, find_strangers, tell, write_profile

logger = logging.getLogger("clerk_views")

PAGE = 500  # users; Clerk's most
CALL_TIMEOUT = 30.0  # seconds; nobody waits for an answer to his request here
PATIENCE = 3600.0  # seconds without an answer of use, those that Clerk asks for included, until we give up
#: An interrupted run is gone on with for so long. Later, too much of what it did is out of date.
STALE = timedelta(hours=12)
MAX_FAILURES = 20  # users in a row that the database does not take, until it must be the database
#: So many linked users may be unknown to Clerk, and a tenth of all, before the key must be another instance's.
FEW = 20

T = TypeVar("T")


@dataclass
class Progress:
    """
    How far it has come.

    Attributes:
        position: Users done, those of the runs before included.
        total: Users at Clerk when this run began.
        counts: How many were ``created``, ``linked``, ``updated``, ``deactivated``, ``unchanged``, ``skipped``,
            ``refused`` or ``failed``.
    """

    position: int
    total: int
    counts: Counter[str]


@dataclass
class Trouble:
    """What did not go well with one user: ``refused``, for good, or ``failed``, until the next time."""

    clerk_id: str
    kind: str
    why: str


@dataclass
class FullSync:
    """
    One run of it.

    Args:
        dry_run: Do everything and take it back, user by user. Signals of ours are not sent.
        since: Pass over users whose last change at Clerk is older, but those whose row is older still. All are listed:
            Clerk cannot be asked for changes. An earlier run that is gone on with goes on with its own.
        since_text: How the operator said that; a run is taken up again only by the same words.
        trouble: Is told of each user who was refused.
        waiting: Is told why we wait, and for how many seconds.
    """

    config: Config
    dry_run: bool = False
    since: datetime | None = None
    since_text: str = ""
    trouble: Callable[[Trouble], None] = field(default=lambda trouble: None)
    waiting: Callable[[str, float], None] = field(default=lambda why, seconds: None)

    def __post_init__(self) -> None:
        if self.config.secret_key is None:
            raise ValueError("there is no CLERK_SECRET_KEY")
        # Apart from the API of requests, so that neither's failures make the other one wait.
        self._api = ClerkApi(self.config.secret_key, self.config.api_url, CALL_TIMEOUT, longest_pause=math.inf)
        self._database = router.db_for_write(get_user_model())
        self._runs = ClerkSyncRun.objects.using(router.db_for_write(ClerkSyncRun))
        self._failures = 0
        self._asked_at = 0.0
        # Whom Clerk listed though his row does not tell: with dry_run everybody, else those who could not be written.
        self._listed: set[str] = set()

    def start(self, *, anew: bool = False) -> Literal["new", "resumed", "stale"]:
        """
        Begin, or go on where an earlier run was interrupted; return which of the two it is.

        "stale": it begins, as the earlier run was interrupted longer than STALE ago.

        Args:
            anew: Forget the earlier run.
        """
        scope = repr((self.config.api_url, self.config.secret_key, self.since_text))
        digest = salted_hmac("clerk_views.full_sync", scope, algorithm="sha256").hexdigest()
        earlier = self._runs.filter(scope=digest)
        if anew and not self.dry_run:
            earlier.delete()
        self._run = ClerkSyncRun(scope=digest, since=self.since)
        if self.dry_run:
            return "new"
        interrupted = earlier.first()
        stale = interrupted is not None and timezone.now() - interrupted.kept_at > STALE
        if interrupted is not None and not stale:
            self._run, self.since = interrupted, interrupted.since
            return "resumed"
        earlier.delete()
        self._run.save(using=self._runs.db)
        return "stale" if stale else "new"

    def steps(self) -> Iterator[Progress]:
        """
        Do it, and say after each page how far it has come.

        Raises:
            ClerkUnavailable: Clerk refuses the secret key or the question, has not answered for PATIENCE seconds, or
                the database takes nobody any more.
        """
        run = self._run
        counts = Counter(run.counts)
        try:
            total = self._patiently(lambda: self._api.count_users(Budget(CALL_TIMEOUT)))
            while True:
                offset = max(0, run.position - 1)
                page = self._page(offset)
                news = self._after_last(page, offset)
                if news is None:
                    run.position = max(0, offset - PAGE + 1)
                    continue
                counts.update(self._take_all(news))
                run.position = offset + len(page)
                if page:
                    run.last_id, run.last_created_at = _id(page[-1]), _created_at(page[-1])
                run.counts = dict(counts)
                self._keep()
                yield Progress(run.position, max(total, run.position), counts)
                if len(page) < PAGE:
                    break
        finally:
            self._api.close()

    def missing(self) -> int:
        """Count the linked users whom Clerk did not list since start(); to be asked after the last step."""
        return sum(1 for _ in self._unlisted())

    def is_few(self, missing: int) -> bool:
        """Say whether so many may well have been deleted at Clerk without our hearing of it."""
        return missing <= max(FEW, ClerkAccount.objects.using(self._database).filter(deactivated=False).count() // 10)

    def deactivate_missing(self) -> Iterator[Progress]:
        """Ask Clerk for each of the missing, deactivate whom it does not know, and say after each how far it is."""
        counts = Counter(self._run.counts)
        ids = list(self._unlisted())
        try:
            for number, clerk_id in enumerate(ids, 1):
                counts[self._look_for(clerk_id)] += 1
                self._run.counts = dict(counts)
                self._keep()
                yield Progress(number, len(ids), counts)
        finally:
            self._api.close()

    def finish(self) -> None:
        """Note that all is done, so that the next run begins anew."""
        self._runs.filter(pk=self._run.pk).delete()

    def _keep(self) -> None:
        run = self._run
        self._runs.filter(pk=run.pk).update(
            position=run.position,
            last_id=run.last_id,
            last_created_at=run.last_created_at,
            counts=run.counts,
            kept_at=timezone.now(),
        )

    def _unlisted(self) -> Iterator[str]:
        accounts = ClerkAccount.objects.using(self._database).filter(deactivated=False, user__isnull=False)
        ids = accounts.filter(synced_at__lt=self._run.started_at).order_by("pk").values_list("clerk_id", flat=True)
        return (clerk_id for clerk_id in ids.iterator() if clerk_id not in self._listed)

    def _look_for(self, clerk_id: str) -> str:
        try:
            return self._take(self._patiently(partial(self._ask, clerk_id)))
        except ClerkUnavailable as error:
            if not is_definite(error):
                raise
            return self._failed(clerk_id, str(error))

    def _page(self, offset: int) -> list[Any]:
        return self._patiently(lambda: self._api.list_users(Budget(CALL_TIMEOUT), limit=PAGE, offset=offset))

    def _ask(self, clerk_id: str) -> Profile:
        try:
            return read_profile(self._api.get_user(clerk_id, Budget(CALL_TIMEOUT)))
        except UserNotFound:
            return absent(clerk_id)

    def _after_last(self, page: list[Any], offset: int) -> list[Any] | None:
        """Return who comes after the last one done; None if there may be somebody before this page, too."""
        run = self._run
        if not run.last_id:
            return page
        ids = [_id(clerk_user) for clerk_user in page]
        if run.last_id in ids:
            return page[ids.index(run.last_id) + 1 :]
        # He was deleted, perhaps others with him. Those of his very millisecond may be new to us.
        if offset == 0 or (page and _created_at(page[0]) < run.last_created_at):
            return [clerk_user for clerk_user in page if _created_at(clerk_user) >= run.last_created_at]
        return None

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Return Clerk's answer, however often it has to be asked (F-04: no sooner than it wants to be)."""
        began = time.monotonic()
        while True:
            try:
                self._asked_at = time.time()
                return ask()
            except ClerkUnavailable as error:
                if error.reason == "secret-key-invalid" or is_definite(error):
                    raise
                pause = max(error.retry_after, self._api.retry_after)
                if time.monotonic() - began + pause > PATIENCE:
                    raise ClerkUnavailable(error.reason, f"{error}; the next try would be in {pause:.0f} s") from error
                self.waiting(str(error), pause)
                time.sleep(pause)

    def _take_all(self, page: list[Any]) -> Iterator[str]:
        """Bring a page of users in step, and yield under which words to count that."""
        profiles = []
        for clerk_user in page:
            try:
                profiles.append(read_profile(clerk_user))
            except ValueError as error:
                self.trouble(Trouble(_id(clerk_user) or "(no id)", "refused", str(error)))
                yield "refused"
        if self.dry_run:
            self._listed.update(profile.id for profile in profiles)
        due = self._due(profiles)
        for _ in range(len(profiles) - len(due)):
            yield "skipped"
        try:
            strangers = find_strangers(due, self.config)
        except Error:
            strangers = set()  # whether it is the database will be seen with each user
        for profile in due:
            yield self._take(profile, stranger=profile.id in strangers)

    def _due(self, profiles: list[Profile]) -> list[Profile]:
        """
        Return who is not passed over: who changed at Clerk since, or before but his row has not followed.

        That the others' rows are in step is seen here, and so noted: whoever is not noted is looked for as missing.
        """
        if self.since is None:
            return profiles
        since = self.since.timestamp() * 1000
        old = {profile.id: profile.updated_at or 0 for profile in profiles if (profile.updated_at or 0) < since}
        accounts = ClerkAccount.objects.using(self._database)
        try:
            rows = list(accounts.filter(clerk_id__in=old).values_list("pk", "clerk_id", "clerk_updated_at"))
            in_step = {pk: clerk_id for pk, clerk_id, at in rows if at is not None and at >= old[clerk_id]}
            if not self.dry_run:
                accounts.filter(pk__in=in_step).update(synced_at=timezone.now())
        except Error as error:
            raise ClerkUnavailable("database-unavailable", f"the database: {described(error)}") from None
        behind = {clerk_id for _, clerk_id, _ in rows} - set(in_step.values())
        return [profile for profile in profiles if profile.id not in old or profile.id in behind]

    def _take(self, profile: Profile, *, stranger: bool = False) -> str:
        try:
            outcome = self._write(profile, stranger)
        except (AccountRefused, UserNotFound) as error:
            self._listed.add(profile.id)
            self.trouble(Trouble(profile.id, "refused", error.detail))
            return "refused"
        except ClerkUnavailable as error:
            self._failures += 1
            word = self._failed(profile.id, error.reason)
            if self._failures >= MAX_FAILURES:
                raise
            return word
        except Exception as error:  # noqa: BLE001  # receivers, managers and columns are the project's, and raise anything
            why = _kind(error)
            logger.error("Clerk user %.100r could not be written: %s.", profile.id, why)
            return self._failed(profile.id, why)
        self._failures = 0
        return _word(outcome)

    def _failed(self, clerk_id: str, why: str) -> str:
        self._listed.add(clerk_id)
        self.trouble(Trouble(clerk_id, "failed", why))
        return "failed"

    def _write(self, profile: Profile, stranger: bool) -> Outcome:
        if not self.dry_run:
            outcome = write_profile(profile, self.config, stranger=stranger)
            if outcome.applied:
                note_told(outcome.user, profile.id, self._asked_at, self.config)
            tell(outcome, profile)
            return outcome
        with transaction.atomic(using=self._database):
            outcome = write_profile(profile, self.config, stranger=stranger)
            transaction.set_rollback(True, using=self._database)
        return outcome


def is_definite(error: ClerkUnavailable) -> bool:
    """Say whether Clerk, or whatever is at its address, would answer the same question the same way again."""
    return error.status is not None and 300 <= error.status < 500 and error.status not in (408, 425, 429)


def _kind(error: Exception) -> str:
    """Say what was raised and where, but not in its own words: they may quote the user's data."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.filename}, line {frame.lineno}"


def _word(outcome: Outcome) -> str:
    if outcome.created:
        return "created"
    if outcome.linked:
        return "linked"
    if outcome.deactivated:
        return "deactivated"
    return "updated" if outcome.changed else "unchanged"


def _id(clerk_user: Any) -> str:
    found = getattr(clerk_user, "id", None)
    return found if isinstance(found, str) else ""


def _created_at(clerk_user: Any) -> int:
    found = getattr(clerk_user, "created_at", None)
    return found if isinstance(found, int) else 0
