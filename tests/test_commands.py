"""
``manage.py clerk_sync``, ``clerk_link`` and ``clerk_doctor``, against the stand-in.

Threats: WHK-07, USR-04, USR-05, USR-12, LFC-01, LFC-02, F-04, F-05, F-08, F-24, CFG-01, CFG-03, LOG-01.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.db.models.signals import post_save
from django.utils import timezone

from clerk_views import full_sync
from clerk_views.accounts import sync_django_user
from clerk_views.conf import config
from clerk_views.management.commands.clerk_sync import moment
from clerk_views.models import ClerkAccount, ClerkSyncRun
from clerk_views.signals import clerk_user_linked, clerk_user_synced
from clerk_views.testing import LocalClerk, LocalUser
from clerk_views.testing.minting import new_signing_key
from clerk_views.testing.webhooks import new_webhook_secret

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("local_clerk")]

User: Any = get_user_model()

#: Enough to tell a page from all of them; elsewhere the question is the database's own. "tox -e crowd" takes 100 000.
CROWD = int(os.environ.get("CLERK_VIEWS_SYNC_USERS", "2000" if connection.vendor == "sqlite" else "400"))
CROWD_PAGE = min(500, CROWD // 20)  # 500 is the most that Clerk gives


class Terminal(io.StringIO):
    """What a person looks at."""

    def isatty(self) -> bool:
        return True


class Run:
    """What a command wrote, and how it ended."""

    def __init__(self, *arguments: str, stderr: io.StringIO | None = None) -> None:
        out, err = io.StringIO(), stderr or io.StringIO()
        self.error: CommandError | None = None
        try:
            call_command(*arguments, stdout=out, stderr=err, no_color=True)
        except CommandError as error:
            self.error = error
        self.out, self.err = out.getvalue(), err.getvalue()

    @property
    def counts(self) -> dict[str, int]:
        """The summary, without its zeros."""
        found = re.findall(r"^(\w+): (\d+)$", self.out, re.MULTILINE)
        return {word: int(number) for word, number in found if number != "0"}


def sync(*arguments: str, **keywords: Any) -> Run:
    return Run("clerk_sync", *arguments, **keywords)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of three, so that a handful of users is a long way."""
    monkeypatch.setattr(full_sync, "PAGE", 3)


@pytest.fixture
def at_each_user() -> Iterator[Callable[[Callable[[int], None]], None]]:
    """``at_each_user(function)``: it is called with 1, 2, 3, … as users are synced."""
    connected: list[Any] = []

    def start(act: Callable[[int], None]) -> None:
        seen: list[None] = []

        def receiver(**sent: Any) -> None:
            seen.append(None)
            act(len(seen))

        clerk_user_synced.connect(receiver)
        connected.append(receiver)

    yield start
    for receiver in connected:
        clerk_user_synced.disconnect(receiver)


@pytest.fixture
def broken_database() -> Iterator[Callable[[Callable[[str], bool]], None]]:
    """``broken_database(lambda sql: …)``: statements for which it says so fail."""
    wrappers: list[Any] = []

    def start(is_broken: Callable[[str], bool]) -> None:
        def fail(execute: Any, sql: str, *arguments: Any) -> Any:
            if is_broken(sql):
                raise OperationalError("the database is away")
            return execute(sql, *arguments)

        wrapper = connection.execute_wrapper(fail)
        wrapper.__enter__()
        wrappers.append(wrapper)

    yield start
    for wrapper in reversed(wrappers):
        wrapper.__exit__(None, None, None)


def interrupt(number: int) -> Callable[[int], None]:
    def act(seen: int) -> None:
        if seen == number:
            raise KeyboardInterrupt

    return act


def names() -> set[str]:
    return set(User.objects.values_list("first_name", flat=True))


def offsets(clerk: LocalClerk) -> list[int]:
    """The offsets of the pages that were asked for."""
    return [int(found[1]) for call in clerk.calls.paths if (found := re.search(r"[?&]offset=(\d+)", call.path))]


class TestSync:
    def test_everybody_comes_once(self, local_clerk: LocalClerk, quick: None) -> None:
        for number in range(7):
            local_clerk.add_user(email=f"{number}@example.com", first_name=str(number))
        run = sync()
        assert run.error is None
        assert run.counts == {"created": 7}
        assert names() == set("0123456")
        assert ClerkAccount.objects.count() == 7
        assert offsets(local_clerk) == [0, 2, 4, 6]  # each begins with the last one of the page before
        assert sync().counts == {"unchanged": 7}
        assert not ClerkSyncRun.objects.exists()

    def test_nobody_at_clerk_is_no_trouble(self) -> None:
        run = sync()
        assert run.out.splitlines() == ["created: 0", "linked: 0", "updated: 0", "deactivated: 0", "unchanged: 0"]

    def test_the_summary_says_what_came_of_whom(self, local_clerk: LocalClerk) -> None:
        """WHK-07: what no webhook said is made up for."""
        same, changed, banned, gone = (local_clerk.add_user(first_name=name) for name in ("same", "old", "ban", "gone"))
        for user in (same, changed, banned, gone):
            sync_django_user(user.data)
        ClerkAccount.objects.update(synced_at=timezone.now() - timedelta(hours=1))
        local_clerk.update_user(changed, first_name="new")
        local_clerk.update_user(banned, banned=True)
        local_clerk.delete_user(gone)
        User.objects.create_user("linked", "linked@example.com")
        User.objects.create_user("root", "root@example.com", is_staff=True)
        local_clerk.add_user(email="linked@example.com")
        staff = local_clerk.add_user(email="root@example.com")
        local_clerk.add_user(first_name="created")
        run = sync()
        assert run.counts == {"created": 1, "linked": 1, "updated": 1, "deactivated": 2, "unchanged": 1, "refused": 1}
        assert f"refused: {staff.id}: the user of the address is inactive or privileged" in run.out
        assert "root@" not in run.out
        assert set(User.objects.filter(is_active=False).values_list("first_name", flat=True)) == {"ban", "gone"}
        assert {"new", "created"} <= names()

    def test_one_address_makes_no_two_users(self, local_clerk: LocalClerk) -> None:
        """USR-04: on one page, and on two; whatever its case, and though a page is looked up at once."""
        User.objects.create_user("known", "known@Example.com")
        for email in ("twice@example.com", "Twice@example.com", "KNOWN@example.com", "known@example.com"):
            local_clerk.add_user(email=email)
        run = sync()
        assert run.counts == {"created": 1, "linked": 1, "refused": 2}
        assert User.objects.count() == 2

    def test_older_news_overwrites_nothing(self, local_clerk: LocalClerk) -> None:
        """USR-12."""
        user = local_clerk.add_user(first_name="old", updated_at=1000)
        sync_django_user({**user.data, "first_name": "new", "updated_at": 2000})
        assert sync().counts == {"unchanged": 1}
        assert names() == {"new"}

    def test_signals_are_sent(self, local_clerk: LocalClerk, at_each_user: Any) -> None:
        local_clerk.add_user()
        heard: list[int] = []
        at_each_user(heard.append)
        sync()
        assert heard == [1]

    def test_an_odd_user_stops_nobody(self, local_clerk: LocalClerk) -> None:
        """F-24: Clerk's own models cannot read the first; the second has no id."""
        local_clerk.update_user(
            local_clerk.add_user(first_name="odd"), username=5, external_accounts="?", created_at="?"
        )
        local_clerk.add_user(id="../no-id")
        local_clerk.add_user(first_name="plain")
        run = sync()
        assert run.counts == {"created": 2, "refused": 1}
        assert names() == {"odd", "plain"}


class TestResuming:
    def test_it_goes_on_where_it_was(self, local_clerk: LocalClerk, quick: None, at_each_user: Any) -> None:
        for number in range(8):
            local_clerk.add_user(first_name=str(number))
        at_each_user(interrupt(5))
        first = sync()
        assert (str(first.error), first.error and first.error.returncode) == (
            "Interrupted. Run it again to go on from here.",
            130,
        )
        assert names() == set("01234")  # the fifth is stored, the signal came after that
        assert str(ClerkSyncRun.objects.get()).startswith("3 users since ")
        local_clerk.calls.reset()
        second = sync()
        assert "Going on where the last run stopped" in second.err
        # Whom the interrupted page had done already is looked at again: five of eight were new each time.
        assert second.counts == {"created": 6, "unchanged": 2}
        assert offsets(local_clerk) == [2, 4, 6]
        assert names() == set("01234567")
        assert not ClerkSyncRun.objects.exists()

    def test_it_can_begin_anew(self, local_clerk: LocalClerk, quick: None, at_each_user: Any) -> None:
        for _ in range(5):
            local_clerk.add_user()
        at_each_user(interrupt(4))
        sync()
        local_clerk.calls.reset()
        assert sync("--restart").counts == {"created": 1, "unchanged": 4}
        assert offsets(local_clerk)[0] == 0

    def test_other_words_are_another_run(self, local_clerk: LocalClerk, quick: None, at_each_user: Any) -> None:
        """Nor is a run with another key gone on with: positions there are other users."""
        for _ in range(5):
            local_clerk.add_user()
        at_each_user(interrupt(4))
        sync()
        local_clerk.calls.reset()
        assert "Going on" not in sync("--since", "1d").err
        assert offsets(local_clerk)[0] == 0
        assert ClerkSyncRun.objects.count() == 1

    def test_it_goes_on_with_what_was_asked_then(
        self, local_clerk: LocalClerk, quick: None, at_each_user: Any, time_machine: Any
    ) -> None:
        """What had changed half an hour before the interruption is not too old for it an hour later."""
        start = time.time()
        for number in range(8):
            local_clerk.add_user(first_name=str(number), created_at=1000, updated_at=int((start - 1800) * 1000))
        at_each_user(interrupt(5))
        assert sync("--since", "1h").error is not None
        time_machine.move_to(start + 3600)
        run = sync("--since", "1h")
        assert "Going on where the last run stopped" in run.err
        assert "skipped" not in run.counts
        assert names() == set("01234567")

    @pytest.mark.parametrize("since", [(), ("--since", "2d")], ids=["everybody", "since"])
    def test_a_run_of_long_ago_is_not_gone_on_with(
        self, local_clerk: LocalClerk, quick: None, at_each_user: Any, time_machine: Any, since: tuple[str, ...]
    ) -> None:
        """Users whom it had done have changed since, or went."""
        start = time.time()
        users = [local_clerk.add_user(first_name=str(number)) for number in range(8)]
        at_each_user(interrupt(5))
        assert sync(*since).error is not None
        time_machine.move_to(start + 9 * 86_400)
        local_clerk.update_user(users[0], first_name="new")
        local_clerk.delete_user(users[1])
        time_machine.move_to(start + 10 * 86_400)
        run = sync(*since)
        assert "The last run stopped too long ago to go on with it; beginning anew." in run.err
        assert "new" in names()
        assert not User.objects.get(first_name="1").is_active
        assert not ClerkSyncRun.objects.exists()

    def test_it_may_take_days(self, local_clerk: LocalClerk, quick: None, at_each_user: Any, time_machine: Any) -> None:
        """It is the last page that must not be long ago, not the first."""
        start = time.time()
        for number in range(8):
            local_clerk.add_user(first_name=str(number))

        def act(seen: int) -> None:
            time_machine.move_to(start + seen * 7 * 3600)
            if seen in (5, 8):
                raise KeyboardInterrupt

        at_each_user(act)
        assert [sync().error is None for _ in range(3)] == [False, False, True]
        assert names() == set("01234567")

    @pytest.mark.parametrize("deleted", [1, 2, 3, 5], ids=lambda number: f"{number} deleted")
    @pytest.mark.parametrize("same_time", [False, True], ids=["", "created at once"])
    def test_users_who_are_deleted_meanwhile_hide_nobody(
        self, local_clerk: LocalClerk, quick: None, at_each_user: Any, deleted: int, same_time: bool
    ) -> None:
        """Those after them move up, over the edge of a page that was done already."""
        users = [
            local_clerk.add_user(first_name=f"{number:02}", created_at=1000 if same_time else 1000 + number)
            for number in range(12)
        ]

        def act(seen: int) -> None:
            if seen == 6:
                for user in users[6 - deleted : 6]:
                    local_clerk.delete_user(user)

        at_each_user(act)
        assert sync().error is None
        assert names() == {f"{number:02}" for number in range(12)}

    def test_users_who_all_go_meanwhile_are_no_trouble(
        self, local_clerk: LocalClerk, quick: None, at_each_user: Any
    ) -> None:
        users = [local_clerk.add_user() for _ in range(7)]

        def act(seen: int) -> None:
            if seen == 5:
                for user in users:
                    local_clerk.delete_user(user)

        at_each_user(act)
        assert sync().error is None
        assert User.objects.count() == 5


class Crowd:
    """``clerk_sync`` in a process of its own. See tests/crowd.py."""

    def __init__(self, clerk: LocalClerk, *, interrupt_at: int | None = None) -> None:
        asked = {"settings": clerk.settings(), "database": connection.settings_dict["NAME"], "page": CROWD_PAGE}
        clerk.calls.reset()
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.crowd"],
            cwd=Path(__file__).resolve().parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdin is not None
            process.stdin.write(json.dumps(asked))
            process.stdin.close()
            process.stdin = None
            while interrupt_at is not None and process.poll() is None:
                time.sleep(0.05)
                if max(offsets(clerk), default=0) >= interrupt_at:
                    process.send_signal(signal.SIGINT)
                    # As a person would press again: Python drops what comes up in a finaliser.
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(5)
            self.out, self.err = process.communicate()
        self.seconds = time.monotonic() - began
        self.returncode = process.returncode
        self.calls = clerk.calls.total
        memory = json.loads(self.out.splitlines()[-1])
        self.first: float | None = memory["first"]
        self.most: float | None = memory["most"]
        self.held: int = memory["held"]
        self.counts = {word: int(number) for word, number in re.findall(r"^(\w+): (\d+)$", self.out, re.MULTILINE)}

    def __str__(self) -> str:
        memory = "unknown" if self.most is None else f"{self.most:.0f} MB"
        return f"{self.seconds:.0f} s, {self.calls} calls, at most {memory} of memory"


@pytest.mark.django_db(transaction=True)
def test_a_crowd_in_little_memory_with_an_interruption(local_clerk: LocalClerk) -> None:
    """Halfway a Ctrl-C, then once more: nobody is lost, nobody comes twice, and memory does not grow with the crowd."""
    everybody = {
        local_clerk.add_user(email=f"{number}@example.com", username=f"user{number}", created_at=1000 + number).id
        for number in range(CROWD)
    }
    first = Crowd(local_clerk, interrupt_at=CROWD // 2)
    assert (first.returncode, "Interrupted. Run it again" in first.err) == (130, True), first.out + first.err
    rows = ClerkAccount.objects.count()
    assert CROWD // 2 - CROWD_PAGE <= rows < CROWD
    second = Crowd(local_clerk)
    assert second.returncode == 0, second.out + second.err
    print(f"clerk_sync of {CROWD} users, {CROWD_PAGE} a page, on {connection.vendor}")
    print(f"interrupted: {first}; {rows} rows")
    print(f"resumed:     {second}; {ClerkAccount.objects.count()} rows; {second.counts}")
    # Those of the interrupted page were new when nobody counted them.
    assert second.counts["created"] + second.counts["unchanged"] == CROWD
    assert second.counts["unchanged"] < CROWD_PAGE
    assert set(ClerkAccount.objects.values_list("clerk_id", flat=True)) == everybody
    assert User.objects.count() == ClerkAccount.objects.count() == CROWD
    # A page each, the count, and the one that was interrupted again; nobody is asked for alone.
    assert first.calls + second.calls <= CROWD // CROWD_PAGE * 1.05 + 5
    for run in (first, second):
        assert 0 < run.held < 5 * CROWD_PAGE  # one page and the next, each as Clerk's answer and as what is made of it
        if run.most is not None and run.first is not None:
            assert run.most - run.first < 8  # MB


class TestSince:
    def test_unchanged_users_are_passed_over(self, local_clerk: LocalClerk) -> None:
        hour = 3_600_000
        now = int(timezone.now().timestamp() * 1000)
        for age, name in ((30, "old"), (1, "young")):
            local_clerk.add_user(first_name=name, created_at=now - 90 * hour, updated_at=now - age * hour)
        assert sync("--since", "1d").counts == {"created": 1, "skipped": 1}
        assert names() == {"young"}
        assert not ClerkSyncRun.objects.exists()

    @pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["", "dry run"])
    def test_nobody_is_missing_who_was_passed_over(self, local_clerk: LocalClerk, dry: tuple[str, ...]) -> None:
        """WHK-07: the message of a deletion that was lost is made up for, and costs no call for those who are there."""
        there, gone = (local_clerk.add_user(first_name=name, updated_at=1000) for name in ("there", "gone"))
        for user in (there, gone):
            sync_django_user(user.data)
        ClerkAccount.objects.update(synced_at=timezone.now() - timedelta(hours=1))
        local_clerk.delete_user(gone)
        assert sync("--since", "1d", *dry).counts == {"skipped": 1, "deactivated": 1}
        assert User.objects.get(first_name="there").is_active
        assert User.objects.get(first_name="gone").is_active is bool(dry)
        assert local_clerk.calls.user_fetches == 1

    @pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["", "dry run"])
    def test_a_row_that_has_not_followed_is_not_passed_over(
        self, local_clerk: LocalClerk, dry: tuple[str, ...]
    ) -> None:
        """WHK-07: a change from before that a webhook has lost."""
        user = local_clerk.add_user(first_name="old", updated_at=1000)
        sync_django_user(user.data)
        local_clerk.update_user(user, first_name="new", updated_at=2000)
        assert sync("--since", "1d", *dry).counts == {"updated": 1}
        assert names() == ({"old"} if dry else {"new"})

    def test_a_database_that_cannot_tell_ends_it(self, local_clerk: LocalClerk, broken_database: Any) -> None:
        local_clerk.add_user(updated_at=1000)
        broken_database(lambda sql: ClerkAccount._meta.db_table in sql)
        assert "the database: OperationalError: the database is away" in str(sync("--since", "1d").error)
        assert ClerkSyncRun.objects.get().position == 0

    @pytest.mark.parametrize(
        ("text", "age"),
        [("30m", timedelta(minutes=30)), ("12h", timedelta(hours=12)), ("2d", timedelta(2)), ("1w", timedelta(7))],
    )
    def test_durations(self, text: str, age: timedelta) -> None:
        assert abs(timezone.now() - age - moment(text)) < timedelta(minutes=1)

    @pytest.mark.parametrize(
        ("text", "iso"),
        [
            ("2026-01-02", "2026-01-01T23:00:00+00:00"),
            ("2026-01-02 12:00", "2026-01-02T11:00:00+00:00"),
            ("2026-01-02T12:00:00Z", "2026-01-02T12:00:00+00:00"),
            ("2026-01-02T12:00:00+05:00", "2026-01-02T07:00:00+00:00"),
        ],
    )
    def test_moments(self, text: str, iso: str, settings: Any) -> None:
        settings.TIME_ZONE = "Europe/Berlin"
        assert moment(text).astimezone(timezone.get_fixed_timezone(0)).isoformat() == iso

    @pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "2026-01-02T25:00", "5", "5y", "-1d", "٣d", "0"])
    def test_what_is_neither_is_refused(self, text: str) -> None:
        run = sync(f"--since={text}")
        assert "neither an ISO date" in str(run.error)


class TestDryRun:
    def test_nothing_is_stored(self, local_clerk: LocalClerk, quick: None, at_each_user: Any) -> None:
        changed, gone = local_clerk.add_user(first_name="old"), local_clerk.add_user()
        for user in (changed, gone):
            sync_django_user(user.data)
        ClerkAccount.objects.update(synced_at=timezone.now() - timedelta(hours=1))
        local_clerk.update_user(changed, first_name="new", banned=True)
        local_clerk.delete_user(gone)
        User.objects.create_user("linked", "linked@example.com", "old")
        local_clerk.add_user(email="linked@example.com")
        for _ in range(4):
            local_clerk.add_user()
        tables = (User, ClerkAccount, ClerkSyncRun)
        before = [list(model.objects.order_by("pk").values()) for model in tables]
        heard: list[int] = []
        at_each_user(heard.append)
        run = sync("--dry-run", "--restart")
        assert run.counts == {"created": 4, "linked": 1, "deactivated": 2}
        assert "Nothing was stored." in run.out
        assert [list(model.objects.order_by("pk").values()) for model in tables] == before
        assert heard == []

    def test_it_finds_as_many_missing_as_the_run_itself(self, local_clerk: LocalClerk, quick: None) -> None:
        """LFC-02: none of those whom Clerk lists, and of the others none too few."""
        users = [local_clerk.add_user() for _ in range(30)]
        for user in users:
            sync_django_user(user.data)
        ClerkAccount.objects.update(synced_at=timezone.now() - timedelta(hours=1))
        for user in users[:3]:
            local_clerk.delete_user(user)
        assert sync("--dry-run").counts == {"unchanged": 27, "deactivated": 3}
        assert sync().counts == {"unchanged": 27, "deactivated": 3}

    def test_it_warns_of_another_instances_key_too(self, local_clerk: LocalClerk) -> None:
        """CFG-03."""
        for _ in range(21):
            local_clerk.delete_user(user := local_clerk.add_user())
            sync_django_user(user.data)
        ClerkAccount.objects.update(synced_at=timezone.now() - timedelta(hours=1))
        run = sync("--dry-run")
        assert run.counts == {}
        assert "21 linked users are not at Clerk. So many look like the secret key of another instance" in run.out

    def test_an_interrupted_run_stays_where_it_is(
        self, local_clerk: LocalClerk, quick: None, at_each_user: Any
    ) -> None:
        for _ in range(5):
            local_clerk.add_user()
        at_each_user(interrupt(4))
        sync()
        local_clerk.calls.reset()
        assert "Going on" not in sync("--dry-run").err
        assert offsets(local_clerk)[0] == 0
        assert ClerkSyncRun.objects.get().position == 3


class TestMissing:
    """LFC-02, WHK-07."""

    @pytest.fixture
    def linked(self, local_clerk: LocalClerk) -> list[LocalUser]:
        users = [local_clerk.add_user(first_name=str(number)) for number in range(30)]
        for user in users:
            sync_django_user(user.data)
        ClerkAccount.objects.update(synced_at=timezone.now() - timedelta(hours=1))
        return users

    def test_a_few_are_deactivated(self, local_clerk: LocalClerk, linked: list[LocalUser]) -> None:
        for user in linked[:20]:
            local_clerk.delete_user(user)
        run = sync()
        assert run.counts == {"unchanged": 10, "deactivated": 20}
        assert "20 of 20 linked users not at Clerk any more" in run.err
        assert User.objects.filter(is_active=True).count() == 10
        assert sync().counts == {"unchanged": 10}

    def test_many_are_not_unless_it_is_said(self, local_clerk: LocalClerk, linked: list[LocalUser]) -> None:
        """CFG-03: with the key of another instance everybody is missing, and that must not cost the accounts."""
        for user in linked[:21]:
            local_clerk.delete_user(user)
        run = sync()
        assert (run.error, run.counts) == (None, {"unchanged": 9})
        assert "21 linked users are not at Clerk. So many look like the secret key of another instance" in run.out
        assert User.objects.filter(is_active=True).count() == 30
        assert sync("--deactivate-missing").counts == {"unchanged": 9, "deactivated": 21}
        assert User.objects.filter(is_active=True).count() == 9

    def test_whoever_comes_back_is_let_in_again(self, local_clerk: LocalClerk, linked: list[LocalUser]) -> None:
        secret_key = local_clerk.secret_key
        for user in linked[:3]:
            local_clerk.delete_user(user)
        sync()
        sync_django_user({**linked[0].data, "updated_at": linked[0].data["updated_at"] + 1})
        assert User.objects.get(first_name="0").is_active
        assert local_clerk.secret_key == secret_key

    def test_an_interruption_loses_nobody(
        self, local_clerk: LocalClerk, linked: list[LocalUser], at_each_user: Any
    ) -> None:
        for user in linked[:5]:
            local_clerk.delete_user(user)
        at_each_user(interrupt(27))
        assert sync().error is not None
        assert sync().error is None
        assert User.objects.filter(is_active=True).count() == 25


class TestTrouble:
    def test_it_waits_as_long_as_clerk_wants(self, local_clerk: LocalClerk) -> None:
        """F-04."""
        local_clerk.add_user()
        local_clerk.faults.status(429, headers={"Retry-After": "2"}, times=1, path="/v1/users")
        run = sync()
        assert run.counts == {"created": 1}
        assert "Waiting 2 s: Clerk's API: status 429" in run.err

    def test_it_waits_longer_than_a_request_would(
        self, local_clerk: LocalClerk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """F-04: nothing of what Clerk wants is cut off. What would be too much ends it at once, and is said."""
        monkeypatch.setattr(full_sync, "PATIENCE", 150)
        local_clerk.faults.status(429, headers={"Retry-After": "151"}, path="/v1/users")
        began = time.monotonic()
        run = sync()
        assert str(run.error) == (
            "Stopped: Clerk's API: status 429, too_many_requests; the next try would be in 151 s. "
            "Run it again to go on from here."
        )
        assert time.monotonic() - began < 30
        local_clerk.faults.clear()
        local_clerk.faults.status(429, headers={"Retry-After": "149"}, path="/v1/users")
        waits: list[float] = []

        class Waited(Exception):
            pass

        def waiting(why: str, seconds: float) -> None:
            waits.append(seconds)
            raise Waited

        going = full_sync.FullSync(config(), waiting=waiting)
        going.start()
        with pytest.raises(Waited):
            next(going.steps())
        assert waits == [pytest.approx(149, abs=1)]

    @pytest.mark.parametrize(
        ("status", "body", "seen"),
        [
            (
                422,
                b'{"errors": [{"code": "form_param_value_invalid", "message": "secret"}]}',
                ", form_param_value_invalid",
            ),
            (404, b"<html>secret</html>", ""),
            (302, b"", ""),
        ],
    )
    def test_a_definite_refusal_ends_it_at_once(
        self, local_clerk: LocalClerk, status: int, body: bytes, seen: str
    ) -> None:
        """F-04: the same question would get the same answer for as long as we would ask."""
        local_clerk.respond("/v1/users", body, status=status)
        run = sync()
        assert str(run.error).startswith(f"Stopped: Clerk's API: status {status}{seen}. Asked again it would say the")
        assert "Look at CLERK_API_URL" in str(run.error)
        assert "secret" not in f"{run.error} {run.out} {run.err}"
        assert "Waiting" not in run.err
        assert local_clerk.calls.count("/v1/users") == 1

    def test_a_missing_user_about_whom_clerk_says_nothing_stops_nobody(self, local_clerk: LocalClerk) -> None:
        """And costs nobody his account."""
        odd, gone = (local_clerk.add_user(first_name=name) for name in ("odd", "gone"))
        for user in (odd, gone):
            sync_django_user(user.data)
            local_clerk.delete_user(user)
        ClerkAccount.objects.update(synced_at=timezone.now() - timedelta(hours=1))
        local_clerk.faults.status(422, path=f"/v1/users/{odd.id}")
        run = sync()
        assert run.counts == {"deactivated": 1, "failed": 1}
        assert f"failed: {odd.id}: Clerk's API: status 422" in run.out
        assert run.error is not None
        assert set(User.objects.filter(is_active=True).values_list("first_name", flat=True)) == {"odd"}

    def test_clerk_may_go_away_when_the_missing_are_looked_for(
        self, local_clerk: LocalClerk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(full_sync, "PATIENCE", 0)
        local_clerk.delete_user(user := local_clerk.add_user())
        sync_django_user(user.data)
        ClerkAccount.objects.update(synced_at=timezone.now() - timedelta(hours=1))
        local_clerk.faults.status(503, path=f"/v1/users/{user.id}")
        assert str(sync().error).endswith("Run it again to go on from here.")
        assert User.objects.get().is_active

    @pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["", "dry run"])
    def test_a_user_on_whom_the_projects_code_fails_stops_nobody(
        self, local_clerk: LocalClerk, caplog: pytest.LogCaptureFixture, dry: tuple[str, ...]
    ) -> None:
        """LOG-01: what was raised may quote the user's data, so its kind and its place must do."""
        for number in range(30):
            local_clerk.add_user(first_name=str(number), email=f"{number}@example.com")

        def receiver(instance: Any, **sent: Any) -> None:
            if instance.first_name != "7":
                raise ValueError(f"canary {instance.email}")

        post_save.connect(receiver, sender=User)
        try:
            run = sync(*dry)
        finally:
            post_save.disconnect(receiver, sender=User)
        assert run.counts == {"created": 1, "failed": 29}
        assert str(run.error) == "29 users could not be written; the log says why."
        assert run.error is not None
        assert run.error.returncode == 1
        assert re.search(r"^failed: user_\w+: ValueError in .*test_commands\.py, line \d+$", run.out, re.MULTILINE)
        assert "could not be written: ValueError in" in caplog.text
        for told in (run.out, run.err, caplog.text):
            assert "canary" not in told
            assert "@example.com" not in told
        assert names() == (set() if dry else {"7"})

    def test_who_could_not_be_written_is_not_missing(self, local_clerk: LocalClerk) -> None:
        """Clerk has listed him, though his row does not show it."""
        sync_django_user((user := local_clerk.add_user(first_name="old")).data)
        ClerkAccount.objects.update(synced_at=timezone.now() - timedelta(hours=1))
        local_clerk.update_user(user, first_name="new")

        def receiver(**sent: Any) -> None:
            raise ValueError

        post_save.connect(receiver, sender=User)
        try:
            assert sync().counts == {"failed": 1}
        finally:
            post_save.disconnect(receiver, sender=User)
        assert local_clerk.calls.user_fetches == 0
        assert sync().counts == {"updated": 1}

    def test_trouble_that_passes_is_waited_out(self, local_clerk: LocalClerk) -> None:
        """F-05."""
        local_clerk.add_user()
        local_clerk.faults.status(503, times=2, path="/v1/users/count")
        local_clerk.faults.down(times=2, path="/v1/users")
        assert sync().counts == {"created": 1}

    def test_trouble_that_stays_ends_it(self, local_clerk: LocalClerk, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(full_sync, "PATIENCE", 0)
        local_clerk.faults.garbage("html")
        run = sync()
        assert str(run.error).endswith("Run it again to go on from here.")

    def test_a_bad_key_ends_it_at_once(self, local_clerk: LocalClerk, settings: Any) -> None:
        """F-08."""
        settings.CLERK_SECRET_KEY = "sk_test_canary"
        run = sync()
        assert "Compare CLERK_SECRET_KEY with the API keys page" in str(run.error)
        assert "canary" not in f"{run.error} {run.out} {run.err}"

    def test_without_a_key_there_is_nothing_to_do(self, local_clerk: LocalClerk, settings: Any) -> None:
        """CFG-01."""
        settings.CLERK_SECRET_KEY = None
        settings.CLERK_USER_SOURCE = "claims"
        settings.CLERK_JWT_KEY = local_clerk.signing_key.public_pem
        assert "CLERK_SECRET_KEY is not set" in str(sync().error)
        with pytest.raises(ValueError, match="CLERK_SECRET_KEY"):
            full_sync.FullSync(config())

    def test_a_user_whom_the_database_refuses_stops_nobody(self, local_clerk: LocalClerk, broken_database: Any) -> None:
        for number in range(3):
            local_clerk.add_user(first_name=str(number))
        inserts: list[str] = []

        def second(sql: str) -> bool:
            if sql.startswith("INSERT") and User._meta.db_table in sql:
                inserts.append(sql)
                return 2 <= len(inserts) <= 4  # the second user's: once, and twice again
            return False

        broken_database(second)
        run = sync()
        assert run.counts == {"created": 2, "failed": 1}
        assert "1 users could not be written" in str(run.error)
        assert names() == {"0", "2"}

    def test_a_page_that_cannot_be_looked_up_is_looked_up_user_by_user(
        self, local_clerk: LocalClerk, broken_database: Any
    ) -> None:
        User.objects.create_user("linked", "ada@example.com")
        local_clerk.add_user(email="ada@example.com")
        once = iter([True])  # the page's; the user's own look-up comes after
        broken_database(lambda sql: "LOWER(" in sql and next(once, False))
        assert sync().counts == {"linked": 1}
        assert next(once, None) is None

    def test_a_database_that_takes_nobody_ends_it(
        self, local_clerk: LocalClerk, broken_database: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(full_sync, "MAX_FAILURES", 2)
        for _ in range(3):
            local_clerk.add_user()
        broken_database(lambda sql: sql.startswith("INSERT") and User._meta.db_table in sql)
        run = sync()
        assert str(run.error) == "Stopped: database-unavailable. Run it again to go on from here."


class TestProgress:
    def test_a_terminal_gets_a_bar(self, local_clerk: LocalClerk, quick: None) -> None:
        for _ in range(6):
            local_clerk.add_user()
        local_clerk.add_user(id="../no-id")
        run = sync(stderr=Terminal())
        assert "\r[############..................] 3 of 7 users " in run.err
        assert "\r[##############################] 7 of 7 users \n" in run.err
        assert "#" not in run.out

    def test_a_file_gets_lines(self, local_clerk: LocalClerk, quick: None) -> None:
        for _ in range(4):
            local_clerk.add_user()
        run = sync()
        assert run.err.splitlines()[-1] == "4 of 4 users"
        assert "\r" not in run.err

    def test_nobody_is_a_full_bar(self) -> None:
        assert "\r[##############################] 0 of 0 users \n" in sync(stderr=Terminal()).err


class TestLink:
    """USR-05: the way for staff."""

    @pytest.fixture
    def ada(self, local_clerk: LocalClerk) -> LocalUser:
        return local_clerk.add_user(email="ada@example.com", username="ada", first_name="Ada")

    @pytest.fixture
    def root(self) -> Any:
        return User.objects.create_superuser("root", "ada@example.com", "old")

    @pytest.mark.parametrize("by", ["name", "primary key"])
    def test_a_user_is_linked_and_brought_in_step(self, ada: LocalUser, root: Any, by: str) -> None:
        linked: list[Any] = []

        def receiver(**sent: Any) -> None:
            linked.append(sent)

        clerk_user_linked.connect(receiver)
        run = Run("clerk_link", "root" if by == "name" else str(root.pk), ada.id)
        clerk_user_linked.disconnect(receiver)
        assert (run.error, run.out) == (None, f"'root' (superuser) is {ada.id} from now on.\n")
        root.refresh_from_db()
        account = root.clerk_account
        assert (account.clerk_id, account.linked, account.deactivated) == (ada.id, True, False)
        assert (root.username, root.first_name, root.is_superuser) == ("root", "Ada", True)
        assert root.check_password("old")
        assert linked == []  # the signal tells of links that nobody made on purpose

    def test_once_more_changes_nothing(self, ada: LocalUser, root: Any) -> None:
        assert [Run("clerk_link", "root", ada.id).error for _ in range(2)] == [None, None]
        assert ClerkAccount.objects.count() == 1

    def test_an_unknown_user_is_refused(self, local_clerk: LocalClerk, ada: LocalUser, root: Any) -> None:
        assert "no user 'user_none' at Clerk" in str(Run("clerk_link", "root", "user_none").error)
        assert "no Django user" in str(Run("clerk_link", "nobody", ada.id).error)
        assert "no Django user" in str(Run("clerk_link", "999999", ada.id).error)
        assert not ClerkAccount.objects.exists()

    def test_a_name_that_is_another_users_key_is_refused(self, ada: LocalUser, root: Any) -> None:
        User.objects.create_user(str(root.pk))
        assert "is the name of one Django user and the primary key of another" in str(
            Run("clerk_link", str(root.pk), ada.id).error
        )

    def test_a_banned_user_is_refused(self, local_clerk: LocalClerk, ada: LocalUser, root: Any) -> None:
        local_clerk.update_user(ada, banned=True)
        assert "banned at Clerk" in str(Run("clerk_link", "root", ada.id).error)
        root.refresh_from_db()
        assert root.is_active

    def test_an_outage_links_nobody(
        self, local_clerk: LocalClerk, ada: LocalUser, root: Any, settings: Any, broken_database: Any
    ) -> None:
        local_clerk.faults.status(500)
        assert "Clerk cannot be asked" in str(Run("clerk_link", "root", ada.id).error)
        local_clerk.faults.clear()
        broken_database(lambda sql: sql.startswith("UPDATE"))
        assert "Not linked: database-unavailable" in str(Run("clerk_link", "root", ada.id).error)
        assert not ClerkAccount.objects.exists()

    def test_without_a_key_nobody_is_linked(self, local_clerk: LocalClerk, root: Any, settings: Any) -> None:
        settings.CLERK_SECRET_KEY = None
        settings.CLERK_USER_SOURCE = "claims"
        settings.CLERK_JWT_KEY = local_clerk.signing_key.public_pem
        assert "CLERK_SECRET_KEY is not set" in str(Run("clerk_link", "root", "user_1").error)

    def test_links_that_are_in_the_way_end_only_by_force(
        self, local_clerk: LocalClerk, ada: LocalUser, root: Any
    ) -> None:
        """USR-04."""
        other = local_clerk.add_user()
        doppelganger = sync_django_user(local_clerk.add_user(id="user_ada2", first_name="Double").data)
        ClerkAccount.objects.filter(user=doppelganger).delete()
        if hasattr(doppelganger, "clerk_user_id"):
            User.objects.filter(pk=doppelganger.pk).update(clerk_user_id=None)
        ClerkAccount.objects.create(user=doppelganger, clerk_id=ada.id)
        ClerkAccount.objects.create(user=root, clerk_id=other.id)
        run = Run("clerk_link", "root", ada.id)
        assert f"'root' (superuser) is linked to {other.id} already. With --force" in str(run.error)
        ClerkAccount.objects.filter(user=root).delete()
        run = Run("clerk_link", "root", ada.id)
        assert f"{ada.id} is linked to {doppelganger.username!r} already. With --force" in str(run.error)
        ClerkAccount.objects.create(user=root, clerk_id=other.id)
        run = Run("clerk_link", "root", ada.id, "--force")
        assert run.error is None
        assert run.out.count("that link ends.") == 2
        assert ClerkAccount.objects.get().user == root
        assert User.objects.filter(pk=doppelganger.pk, is_active=True).exists()

    def test_a_user_who_was_deleted_unseen_may_be_linked_by_force(
        self, local_clerk: LocalClerk, ada: LocalUser, root: Any
    ) -> None:
        ClerkAccount.objects.create(clerk_id=ada.id, deactivated=True)
        assert "a user who was deleted already" in str(Run("clerk_link", "root", ada.id).error)
        assert Run("clerk_link", "root", ada.id, "--force").error is None
        root.refresh_from_db()
        assert (root.clerk_account.clerk_id, root.is_active) == (ada.id, True)


class TestDoctor:
    @pytest.fixture(autouse=True)
    def _well(self, local_clerk: LocalClerk, settings: Any, tmp_path: Any) -> None:
        settings.CACHES = {
            "default": {
                "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
                "LOCATION": str(tmp_path),
                "OPTIONS": {"MAX_ENTRIES": 10_000},
            }
        }
        settings.CLERK_MACHINE_SECRET_KEY = local_clerk.add_machine().secret_key

    def examine(self, *names: str) -> dict[str, tuple[str, str]]:
        """Return the findings of these names, or all: verdict and all that is said. The exit says the same."""
        run = Run("clerk_doctor", "--json")
        found = json.loads(run.out)
        assert (run.error is None) == all(finding["verdict"] != "error" for finding in found)
        return {
            finding["name"]: (finding["verdict"], f"{finding['detail']} {finding['advice']}")
            for finding in found
            if not names or finding["name"] in names
        }

    def verdicts(self) -> dict[str, str]:
        return {name: verdict for name, (verdict, _) in self.examine().items()}

    def test_all_is_well(self) -> None:
        names = ("settings", "api", "keys", "clock", "instance", "machines", "cache", "webhooks", "migrations")
        assert self.verdicts() == dict.fromkeys(names, "ok")

    def test_people_get_lines(self, local_clerk: LocalClerk, settings: Any) -> None:
        local_clerk.add_user()
        settings.CLERK_WEBHOOK_SIGNING_SECRET = ""
        run = Run("clerk_doctor")
        assert f"ok       api: {local_clerk.url} answers and takes the secret key. It has 1 users.\n" in run.out
        assert "warning  webhooks: CLERK_WEBHOOK_SIGNING_SECRET is not set" in run.out
        assert "         → Add a webhook in Clerk's dashboard" in run.out
        assert run.error is None

    def test_colours_are_used_where_they_are_seen(self) -> None:
        out = io.StringIO()
        call_command("clerk_doctor", stdout=out, force_color=True)
        assert "\x1b[" in out.getvalue()

    def test_a_refused_key(self, settings: Any) -> None:
        """F-08."""
        settings.CLERK_SECRET_KEY = "sk_test_canary"
        found = self.examine()
        assert [found[name][0] for name in ("api", "keys", "instance")] == ["error"] * 3
        assert "Clerk refuses CLERK_SECRET_KEY" in found["api"][1]
        assert "canary" not in repr(found)

    def test_an_api_that_is_away(self, local_clerk: LocalClerk) -> None:
        local_clerk.faults.down()
        found = self.examine()
        assert [found[name][0] for name in ("api", "keys", "clock", "instance")] == [
            "error",
            "error",
            "skipped",
            "error",
        ]
        assert "Look at CLERK_API_URL" in found["api"][1]
        assert found["migrations"][0] == "ok"

    def test_a_key_set_of_no_use(self, local_clerk: LocalClerk) -> None:
        """KEY-04."""
        local_clerk.key_set_override([{"kty": "oct", "kid": "x", "k": "x"}])
        assert self.examine("keys")["keys"][0] == "error"

    def test_the_pem_of_another_instance(self, local_clerk: LocalClerk, settings: Any) -> None:
        """CFG-03."""
        settings.CLERK_JWT_KEY = new_signing_key().public_pem
        verdict, text = self.examine("keys")["keys"]
        assert (verdict, "it is another instance's, or was replaced" in text) == ("error", True)
        settings.CLERK_JWT_KEY = local_clerk.signing_key.public_pem
        assert self.examine("keys")["keys"] == ("ok", "CLERK_JWT_KEY is the instance's key. ")

    @pytest.mark.parametrize(
        ("date", "verdict"),
        [
            ("Thu, 01 Jan 2026 00:00:00 GMT", "error"),
            ("the day after", "skipped"),
            ("", "skipped"),
            ("Fri, 99 Jan 9999 00:00:00 GMT", "skipped"),
        ],
        ids=ascii,
    )
    def test_clocks_that_differ(self, local_clerk: LocalClerk, date: str, verdict: str) -> None:
        """F-20."""
        key_set = json.dumps({"keys": [local_clerk.signing_key.jwk]}).encode()
        local_clerk.respond("/v1/jwks", key_set, headers=[("Date", date)])
        assert self.examine("clock")["clock"][0] == verdict

    def test_keys_of_two_instances(self, settings: Any) -> None:
        """CFG-03."""
        with LocalClerk() as other:
            settings.CLERK_PUBLISHABLE_KEY = other.publishable_key
            verdict, text = self.examine("instance")["instance"]
        assert verdict == "error"
        assert "Copy both from the same instance's API keys page." in text

    def test_an_instance_without_an_address(self, local_clerk: LocalClerk) -> None:
        local_clerk.respond("/v1/domains", b'{"data": [], "total_count": 0}')
        assert "of that at no address" in self.examine("instance")["instance"][1]

    def test_without_a_publishable_key_there_is_nothing_to_compare(self, settings: Any) -> None:
        settings.CLERK_PUBLISHABLE_KEY = ""
        assert self.examine("instance")["instance"][0] == "skipped"

    def test_without_a_secret_key_clerk_is_not_asked(self, local_clerk: LocalClerk, settings: Any) -> None:
        settings.CLERK_SECRET_KEY = None
        settings.CLERK_USER_SOURCE = "claims"
        settings.CLERK_JWT_KEY = local_clerk.signing_key.public_pem
        settings.CLERK_MACHINE_SECRET_KEY = ""
        found = self.verdicts()
        assert [found[name] for name in ("api", "keys", "clock", "instance")] == ["skipped"] * 4
        assert local_clerk.calls.total == 0

    @pytest.mark.parametrize(
        ("backend", "verdict", "with_revocation"),
        [
            ("tests.caches.BrokenCache", "error", "error"),
            ("django.core.cache.backends.locmem.LocMemCache", "warning", "error"),
            ("django.core.cache.backends.dummy.DummyCache", "warning", "error"),
            ("tests.caches.StickyCache", "error", "error"),
        ],
    )
    def test_caches(self, settings: Any, backend: str, verdict: str, with_revocation: str) -> None:
        settings.CACHES = {"default": {"BACKEND": backend}}
        assert self.examine("cache")["cache"][0] == verdict
        settings.CLERK_CHECK_REVOKED_SESSIONS = True
        assert self.examine("cache")["cache"][0] == with_revocation

    @pytest.mark.parametrize(
        "backend",
        [
            "django.core.cache.backends.filebased.FileBasedCache",
            "django.core.cache.backends.db.DatabaseCache",
        ],
    )
    def test_caches_that_drop_what_still_counts(self, settings: Any, tmp_path: Any, backend: str) -> None:
        """Django's own have room for 300 entries unless they are told otherwise."""
        cache: dict[str, Any] = {"BACKEND": backend, "LOCATION": str(tmp_path)}
        if "db" in backend:
            cache["LOCATION"] = "doctor_cache"
            settings.CACHES = {"default": cache}
            call_command("createcachetable")
        settings.CACHES = {"default": cache}
        verdict, text = self.examine("cache")["cache"]
        assert (verdict, "more than 300 entries it drops some" in text) == ("warning", True)
        assert "Set 'MAX_ENTRIES' in its OPTIONS to 10000 or more" in text
        settings.CLERK_CHECK_REVOKED_SESSIONS = True
        assert self.examine("cache")["cache"][0] == "error"
        settings.CACHES = {"default": {**cache, "OPTIONS": {"MAX_ENTRIES": 10_000}}}
        assert self.examine("cache")["cache"][0] == "ok"

    def test_a_server_knows_its_own_room(self, settings: Any, redis: str) -> None:
        settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": redis}}
        assert self.examine("cache")["cache"][0] == "ok"

    def test_a_machine_secret_key_that_is_refused(self, local_clerk: LocalClerk, settings: Any) -> None:
        """CFG-03, LOG-01: it is asked with a token that nobody has."""
        settings.CLERK_MACHINE_SECRET_KEY = "ak_canary"
        found = self.examine()
        assert found["machines"][0] == "error"
        assert "Clerk refuses CLERK_MACHINE_SECRET_KEY (Clerk's API: status 401" in found["machines"][1]
        assert "from the Machines page" in found["machines"][1]
        assert "canary" not in repr(found)
        assert local_clerk.calls.machine_verifications == 1
        assert found["api"][0] == "ok"

    def test_a_machine_api_that_is_away_or_odd(self, local_clerk: LocalClerk) -> None:
        local_clerk.faults.down(path="/m2m_tokens/verify")
        assert self.examine("machines")["machines"][0] == "error"
        local_clerk.faults.clear()
        local_clerk.respond("/m2m_tokens/verify", b'{"id": "mt_0"}')
        verdict, text = self.examine("machines")["machines"]
        assert (verdict, "an answer of no use" in text) == ("error", True)

    def test_without_a_machine_secret_key_nothing_is_asked(self, local_clerk: LocalClerk, settings: Any) -> None:
        settings.CLERK_MACHINE_SECRET_KEY = ""
        assert self.examine("machines")["machines"][0] == "skipped"
        assert local_clerk.calls.machine_verifications == 0

    def test_without_a_webhook_secret(self, settings: Any) -> None:
        settings.CLERK_WEBHOOK_SIGNING_SECRET = ""
        assert self.examine("webhooks")["webhooks"][0] == "warning"
        settings.CLERK_CHECK_REVOKED_SESSIONS = True
        assert self.examine("webhooks")["webhooks"][0] == "error"

    def test_migrations_that_wait(self) -> None:
        from django.db.migrations.recorder import MigrationRecorder

        MigrationRecorder(connection).record_unapplied("clerk_views", "0006_auth_user_email_lower")
        verdict, text = self.examine("migrations")["migrations"]
        assert (verdict, "clerk_views.0006_auth_user_email_lower" in text) == ("error", True)

    def test_a_database_that_is_away(self, broken_database: Any) -> None:
        broken_database(lambda sql: True)
        assert self.examine("migrations")["migrations"][0] == "error"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("CLERK_SECRET_KEY", "pk_test_canary"),
            ("CLERK_WEBHOOK_SIGNING_SECRET", "whsec_canary"),
            ("CLERK_API_URL", 5),
        ],
    )
    def test_settings_that_cannot_be_used_are_all_that_is_found(self, settings: Any, name: str, value: Any) -> None:
        setattr(settings, name, value)
        run = Run("clerk_doctor")
        assert "canary" not in f"{run.out} {run.error}"
        assert f": {name} " in run.out
        assert str(run.error) == "Not well: settings."

    def test_silenced_checks_are_not_found_but_the_truth_is(self, settings: Any) -> None:
        settings.SILENCED_SYSTEM_CHECKS = ["clerk_views.E007", "clerk_views.E001"]
        settings.CLERK_TIMEOUT_MS = 1
        verdict, text = self.examine()["settings"]
        assert (verdict, "CLERK_TIMEOUT_MS must be" in text) == ("error", True)

    def test_warnings_of_the_checks_are_found(self, settings: Any) -> None:
        settings.CLERK_AUTH_PARTIES = []
        verdict, text = self.examine()["settings"]
        assert (verdict, text.startswith("clerk_views.W032")) == ("warning", True)

    def test_no_finding_holds_a_secret(self, local_clerk: LocalClerk, settings: Any) -> None:
        """LOG-01."""
        settings.CLERK_WEBHOOK_SIGNING_SECRET = [new_webhook_secret(), local_clerk.webhook_secret]
        run = Run("clerk_doctor")
        for secret in (local_clerk.secret_key, *settings.CLERK_WEBHOOK_SIGNING_SECRET):
            assert secret.partition("_")[2] not in run.out + run.err
        assert "2 signing secret(s)" in run.out
