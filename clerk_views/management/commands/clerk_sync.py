"""``manage.py clerk_sync``: bring all users in step with Clerk."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from datetime import date, datetime, time, timedelta
from time import monotonic
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from clerk_views.conf import config
from clerk_views.exceptions import ClerkUnavailable
from clerk_views.full_sync import FullSync, Progress, Trouble, is_definite

WORDS = ("created", "linked", "updated", "deactivated", "unchanged", "skipped", "refused", "failed")

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Command(BaseCommand):
    """Run a FullSync, and show what comes of it."""

    help = (
        "Creates, links, updates and deactivates Django users, so that all of Clerk's users are as Clerk has them. "
        "Interrupted, it goes on where it was when it is run again within twelve hours. Where Clerk limits the rate or "
        "is away it waits, as long as Clerk says, and gives up when an hour would pass without an answer. "
        "A user who cannot be written is named and counted, and makes the exit code 1 when all the others are done."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Say what would come of it, and store nothing. Each user is written and taken back, so receivers of "
            "Django's own model signals are called. Users whom Clerk does not know any more are counted, too: for that "
            "the ids of all are held in memory, about 10 MB for 100 000.",
        )
        parser.add_argument(
            "--since",
            metavar="WHEN",
            help="Pass over users that have not changed at Clerk since, if they are unknown here or their rows are in "
            "step: an ISO date or time, or '30m', '12h', '2d', '1w'. They are listed all the same, as Clerk cannot be "
            "asked for changes; so users whom Clerk does not know any more are found as ever.",
        )
        parser.add_argument("--restart", action="store_true", help="Begin anew, not where an earlier run stopped.")
        parser.add_argument(
            "--deactivate-missing",
            action="store_true",
            help="Even if more than a tenth of the linked users are not at Clerk now. Fewer are deactivated anyway.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.shown = 0.0
        self.drawn = False
        since = moment(options["since"]) if options["since"] else None
        settings = config()
        if settings.secret_key is None:
            raise CommandError("CLERK_SECRET_KEY is not set, so Clerk cannot be asked for its users.")
        sync = FullSync(
            settings,
            dry_run=options["dry_run"],
            since=since,
            since_text=options["since"] or "",
            trouble=self.tell_trouble,
            waiting=self.tell_waiting,
        )
        begun = sync.start(anew=options["restart"])
        if begun == "resumed":
            self.say("Going on where the last run stopped; --restart begins anew.")
        elif begun == "stale":
            self.say("The last run stopped too long ago to go on with it; beginning anew.")
        try:
            progress = self.go(sync, **options)
        except KeyboardInterrupt:
            self.end_bar()
            raise CommandError("Interrupted. Run it again to go on from here.", returncode=130) from None
        except ClerkUnavailable as error:
            self.end_bar()
            raise CommandError(f"Stopped: {error}. {_advice(error)}") from error
        self.end_bar()
        for word in WORDS:
            if progress.counts[word] or word in WORDS[:5]:
                self.stdout.write(f"{word}: {progress.counts[word]}")
        if options["dry_run"]:
            self.stdout.write("Nothing was stored.")
        if progress.counts["failed"]:
            raise CommandError(f"{progress.counts['failed']} users could not be written; the log says why.")

    def go(self, sync: FullSync, **options: Any) -> Progress:
        progress = None
        for progress in sync.steps():
            self.show(progress, "users")
        assert progress is not None  # noqa: S101  # there is a page always, if an empty one
        missing = sync.missing()
        if missing and not options["deactivate_missing"] and not sync.is_few(missing):
            self.end_bar()
            self.stdout.write(
                self.style.WARNING(
                    f"{missing} linked users are not at Clerk. So many look like the secret key of another instance, "
                    "and nothing was done about them. If they were deleted, add --deactivate-missing."
                )
            )
        elif missing:
            for after in sync.deactivate_missing():
                progress = Progress(progress.position, progress.total, after.counts)
                self.show(after, "linked users not at Clerk any more")
        sync.finish()
        return progress

    def show(self, progress: Progress, what: str) -> None:
        """Draw the bar on a terminal; elsewhere write a line now and then."""
        done, total = progress.position, progress.total
        if self.stderr.isatty():
            filled = 30 * done // total if total else 30
            self.raw(f"\r[{'#' * filled}{'.' * (30 - filled)}] {done} of {total} {what} ")
            self.drawn = True
        elif done >= total or monotonic() - self.shown >= 5:  # seconds
            self.shown = monotonic()
            self.say(f"{done} of {total} {what}")

    def end_bar(self) -> None:
        if self.drawn:
            self.drawn = False
            self.raw("\n")

    def say(self, line: str) -> None:
        self.end_bar()
        self.raw(f"{line}\n")

    def raw(self, text: str) -> None:
        self.stderr.write(text, style_func=str, ending="")
        self.stderr.flush()

    def tell_trouble(self, trouble: Trouble) -> None:
        self.end_bar()
        self.stdout.write(f"{trouble.kind}: {trouble.clerk_id}: {trouble.why}")

    def tell_waiting(self, why: str, seconds: float) -> None:
        self.say(f"Waiting {seconds:.0f} s: {why}")


def moment(text: str) -> datetime:
    """Read what --since says, in the project's own time zone unless it names one. Raises CommandError."""
    match = re.fullmatch(r"([0-9]{1,5})([mhdw])", text)
    if match:
        return timezone.now() - timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        when = parse_datetime(text) or datetime.combine(parse_date(text) or date.min, time())
    except ValueError:
        when = datetime.min
    if when.date() == date.min:
        raise CommandError("--since is neither an ISO date or time nor one of the kind '30m', '12h', '2d', '1w'.")
    return when if timezone.is_aware(when) else timezone.make_aware(when, timezone.get_default_timezone())


def _advice(error: ClerkUnavailable) -> str:
    if error.reason == "secret-key-invalid":
        return "Compare CLERK_SECRET_KEY with the API keys page of Clerk's dashboard."
    if is_definite(error):
        return (
            "Asked again it would say the same. Look at CLERK_API_URL, which must be the address of Clerk's Backend "
            "API, and for a newer version of clerk-views."
        )
    return "Run it again to go on from here."
