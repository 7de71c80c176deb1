"""
What a large site costs at Clerk: an hour of it in small, counted, and the README's table held against the counts.

Some people, each with a page a minute and so with a renewed token each time, in one process with a moved clock. They
have come one after the other, evenly spread over the time that a synced user counts as fresh, so that the hour is like
any other. Each stands for all who come between him and the next one: so the calls of a thousand, or a hundred thousand,
follow from theirs, in the hour and in its worst ten seconds. Calls do not grow with the processes, which share the
cache (tests/test_counts.py), and calls for signing keys not even with the people.

    CLERK_VIEWS_SCALING_PEOPLE=240 python -m pytest -s tests/test_scaling.py

prints the table as more of them make it.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from clerk_views import clerk_client
from clerk_views.testing import LocalClerk, LocalUser

pytestmark = pytest.mark.django_db

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
#: Of whom the README's table is made: one for each hour of a day.
STANDARD = 24
PEOPLE = int(os.environ.get("CLERK_VIEWS_SCALING_PEOPLE", STANDARD))
CROWDS = (1_000, 10_000, 100_000)
HOUR = 3600  # seconds
WINDOW = 10  # seconds

#: Clerk's published limit for a production instance.
LIMIT = 1000  # calls in WINDOW

Visit = Callable[[LocalUser], None]


@dataclass
class Hour:
    """
    What was counted.

    Attributes:
        calls: When each call about a user was made, in seconds of the hour.
        gap: Seconds between one person and the next.
    """

    calls: list[float]
    gap: float

    def most(self, crowd: int) -> float:
        """Return the calls of so many people in the worst ten seconds."""
        each = crowd / PEOPLE
        windows: Counter[int] = Counter()
        for call in self.calls:
            first, last = int(call // WINDOW), math.ceil((call + self.gap) / WINDOW)
            for window in range(first, last):
                start, end = max(call, window * WINDOW), min(call + self.gap, (window + 1) * WINDOW)
                windows[window] += each * (end - start) / self.gap  # type: ignore[assignment]  # a Counter of fractions
        return max(windows.values(), default=0)

    def row(self, design: str) -> str:
        """Return what the README's table has to say of it."""
        cells = [design, f"{len(self.calls) / PEOPLE:.2g}"]
        for crowd in CROWDS:
            most = math.ceil(self.most(crowd) - 1e-6)
            cell = f"{spaced(round(len(self.calls) / PEOPLE * crowd))} ({spaced(most)})"
            cells.append(f"**{cell}**" if most > LIMIT else cell)
        return f"| {' | '.join(cells)} |"


def spaced(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def an_hour(
    local_clerk: LocalClerk,
    time_machine: Any,
    visit: Visit,
    *,
    period: float,
    spread: float | None = None,
    change: Callable[[LocalUser], None] | None = None,
) -> Hour:
    """
    Let everybody open a page a minute for an hour.

    Args:
        period: Seconds for which a synced user counts as fresh. So long before the hour the first of them has come.
        spread: Seconds within which they all came; None: within the period, one as likely as the other.
        change: Called once a minute with somebody whose hour it is not to be compared with Clerk.
    """
    people = [local_clerk.add_user(email=f"{number}@example.com") for number in range(PEOPLE)]
    start = int(time.time()) + 2 * 86_400
    gap = (spread or period) / PEOPLE
    events: list[tuple[float, int, Callable[[LocalUser], None], LocalUser]] = []
    for number, person in enumerate(people):
        came = number * gap - period
        events.append((came, number, visit, person))
        first = came % 60  # his page of every minute; those before the hour are left out, as nobody's is due in them
        events += [(first + minute, number, visit, person) for minute in range(0, HOUR, 60)]
    if change is not None:
        others = [person for number, person in enumerate(people) if number * gap >= HOUR]
        events += [(60 * n + 30.0, PEOPLE, change, others[n % len(others)]) for n in range(60)]
    calls: list[float] = []
    keys = 0
    for at, _, act, person in sorted(events, key=lambda event: event[:2]):
        time_machine.move_to(start + at, tick=False)
        local_clerk.calls.reset()
        act(person)
        keys += local_clerk.calls.key_fetches if at >= 0 else 0
        calls += [at] * local_clerk.calls.user_fetches if at >= 0 else []
        assert act is visit or local_clerk.calls.total == 0
    assert keys <= 2
    return Hour(calls, gap)


@pytest.fixture
def page(local_clerk: LocalClerk) -> Visit:
    """Open a protected page with a token that was never seen before."""
    client = Client()

    def visit(person: LocalUser) -> None:
        answer: Any = client.get("/required/", headers={"authorization": f"Bearer {local_clerk.token(person)}"})
        assert answer.json()["clerk"] == person.id

    return visit


def holds(design: str, hour: Hour, each: float) -> None:
    """
    Print the table's row, and hold it against the README and against what was to be expected.

    Args:
        each: Calls an hour for one person. Of few people one more or less is due within the hour.
    """
    print(hour.row(design))
    assert abs(len(hour.calls) - each * PEOPLE) <= (0 if each >= 1 else 1)
    if PEOPLE == STANDARD:
        assert hour.row(design) in README.splitlines()


def test_a_call_per_token(local_clerk: LocalClerk, time_machine: Any) -> None:
    """The design that this library replaces: each renewed token has its user fetched."""

    def visit(person: LocalUser) -> None:
        assert clerk_client.get_user_details(person.id).id == person.id

    holds("a call per renewed token", an_hour(local_clerk, time_machine, visit, period=60), 60)


def test_as_it_comes(local_clerk: LocalClerk, time_machine: Any, page: Visit) -> None:
    """Contract, section 6: at most one fetch per person and CLERK_CACHE_TIMEOUT, however often a token is renewed."""
    holds("as it comes, `CLERK_CACHE_TIMEOUT = 300`", an_hour(local_clerk, time_machine, page, period=300), 12)


def test_when_all_came_at_once(local_clerk: LocalClerk, time_machine: Any, page: Visit) -> None:
    """As many calls, but together: the hour's sum would hide it."""
    hour = an_hour(local_clerk, time_machine, page, period=300, spread=60)
    holds("the same, if all came within one minute", hour, 12)


def test_with_webhooks(local_clerk: LocalClerk, time_machine: Any, page: Visit, settings: Any) -> None:
    """Changes come by themselves, so a synced user may count as fresh for a day; a day later he is asked for."""
    settings.CLERK_CACHE_TIMEOUT = 86_400
    client = Client()
    changed: list[str] = []

    def change(person: LocalUser) -> None:
        changed.append(str(len(changed)))
        local_clerk.update_user(person, first_name=changed[-1])
        assert local_clerk.send_webhook(client, "user.updated", person).status_code == 204
        row: Any = get_user_model().objects.get(clerk_account__clerk_id=person.id)
        assert row.first_name == changed[-1]

    hour = an_hour(local_clerk, time_machine, page, period=86_400, change=change)
    assert len(changed) == 60
    holds("with webhooks, `CLERK_CACHE_TIMEOUT = 86_400`", hour, 1 / 24)


def test_the_limit_is_the_one_the_readme_names() -> None:
    assert f"{LIMIT} calls in ten seconds" in README
