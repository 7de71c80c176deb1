"""
What a large site costs at Clerk: an hour of it in small, counted, and the README's table held against the counts.

Twenty people, each with a page a minute and so with a renewed token each time, in one process with a moved clock. Calls
about users grow with the people and not with the processes, which share the cache (tests/test_counts.py); so the counts
per person are those of any number. Calls for signing keys do not grow at all.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from clerk_views import clerk_client
from clerk_views.testing import LocalClerk, LocalUser

pytestmark = pytest.mark.django_db

PEOPLE = 20
MINUTES = 60
README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")

#: Clerk's published limit for a production instance.
LIMIT = 1000  # calls in ten seconds


def an_hour(local_clerk: LocalClerk, time_machine: Any, visit: Callable[[LocalUser], None]) -> float:
    """Let everybody open a page a minute for an hour; return the calls about users, per person."""
    people = [local_clerk.add_user(email=f"{number}@example.com") for number in range(PEOPLE)]
    start = time.time()
    time_machine.move_to(start, tick=False)
    for person in people:
        visit(person)  # the first sign-in of all is the day's, not the hour's
    local_clerk.calls.reset()
    for minute in range(1, MINUTES + 1):
        time_machine.move_to(start + 60 * minute, tick=False)
        for person in people:
            visit(person)
    assert local_clerk.calls.key_fetches <= 2
    return local_clerk.calls.user_fetches / PEOPLE


@pytest.fixture
def view(local_clerk: LocalClerk) -> Callable[[LocalUser], None]:
    """Open a protected page with a token that was never seen before."""
    client = Client()

    def visit(person: LocalUser) -> None:
        answer: Any = client.get("/required/", headers={"authorization": f"Bearer {local_clerk.token(person)}"})
        assert answer.json()["clerk"] == person.id

    return visit


def per_hour(row: str) -> tuple[int, dict[int, int]]:
    """Return what the README's table says of a design: calls an hour for one person, and for so many."""
    cells = re.search(rf"^\| {re.escape(row)} \|(.*)\|$", README, re.MULTILINE)
    assert cells is not None, row
    one, *many = (int(re.sub(r"[^0-9]", "", cell)) for cell in cells[1].split("|"))
    return one, dict(zip((1_000, 10_000, 100_000), many, strict=True))


def holds(row: str, counted: float) -> None:
    one, many = per_hour(row)
    assert one == counted
    assert many == {people: people * one for people in many}


def test_as_it_comes(local_clerk: LocalClerk, time_machine: Any, view: Callable[[LocalUser], None]) -> None:
    """Contract, section 6: at most one fetch per person and CLERK_CACHE_TIMEOUT, however often a token is renewed."""
    holds("as it comes, `CLERK_CACHE_TIMEOUT = 300`", an_hour(local_clerk, time_machine, view))


def test_with_webhooks(
    local_clerk: LocalClerk, time_machine: Any, view: Callable[[LocalUser], None], settings: Any
) -> None:
    """Changes come by themselves, so a synced user may count as fresh for a day."""
    settings.CLERK_CACHE_TIMEOUT = 86_400
    holds("with webhooks, `CLERK_CACHE_TIMEOUT = 86_400`", an_hour(local_clerk, time_machine, view))


def test_a_call_per_token(local_clerk: LocalClerk, time_machine: Any) -> None:
    """The design that this library replaces: each renewed token has its user fetched."""

    def visit(person: LocalUser) -> None:
        assert clerk_client.get_user_details(person.id).id == person.id

    holds("a call per renewed token", an_hour(local_clerk, time_machine, visit))


def test_the_limit_is_met_where_the_readme_says() -> None:
    allowed = LIMIT * 360  # an hour has as many times ten seconds
    assert f"{allowed:,}".replace(",", " ") in README
    over = {
        row: [people for people, calls in per_hour(row)[1].items() if calls > allowed]
        for row in ("as it comes, `CLERK_CACHE_TIMEOUT = 300`", "a call per renewed token")
    }
    assert over == {
        "as it comes, `CLERK_CACHE_TIMEOUT = 300`": [100_000],
        "a call per renewed token": [10_000, 100_000],
    }
