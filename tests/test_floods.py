"""What was refused is not asked about again and again, nor is what anybody can make up."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from clerk_views.exceptions import ClerkUnavailable, TokenRefused
from clerk_views.floods import Flood, Refused


class Clerk:
    """Refuses all that is asked for, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def refuse(self, reason: str = "no") -> None:
        self.calls += 1
        raise TokenRefused(reason, "by Clerk")


@pytest.fixture
def clerk() -> Clerk:
    return Clerk()


def ask_again(refused: Refused, clerk: Clerk, *names: str) -> int:
    """Ask about each, in vain, and return how many calls that took."""
    before = clerk.calls
    for name in names:
        with pytest.raises(TokenRefused, match="by Clerk|refused before"), refused.asking(name):
            clerk.refuse()
    return clerk.calls - before


def ask(flood: Flood, clerk: Clerk, *, known: bool = False) -> None:
    with flood.asking(known=known):
        clerk.refuse()


def test_what_was_refused_is_refused_for_the_same_reason(clerk: Clerk) -> None:
    refused = Refused(10)
    with pytest.raises(TokenRefused, match="by Clerk"), refused.asking("a"):
        clerk.refuse("expired")
    for _ in range(3):
        with pytest.raises(TokenRefused, match="refused before") as caught, refused.asking("a"):
            clerk.refuse()
        assert caught.value.reason == "expired"
    assert clerk.calls == 1
    assert ask_again(refused, clerk, "b") == 1


def test_what_is_good_may_be_asked_about_again() -> None:
    refused = Refused(10)
    for _ in range(3):
        with refused.asking("a"):
            pass


def test_an_outage_is_no_refusal(clerk: Clerk) -> None:
    refused, flood = Refused(10), Flood("nonces", 1, 60)
    for _ in range(3):
        with pytest.raises(ClerkUnavailable, match="away"), refused.asking("a"), flood.asking():
            raise ClerkUnavailable("upstream-unavailable", "away")


def test_a_refusal_counts_for_its_lifetime(clerk: Clerk) -> None:
    refused = Refused(10, lifetime=60)
    assert ask_again(refused, clerk, "a", "a") == 1
    refused = Refused(10, lifetime=0.01)
    assert ask_again(refused, clerk, "a") == 1
    time.sleep(0.02)
    assert ask_again(refused, clerk, "a") == 1


def test_the_latest_are_kept(clerk: Clerk) -> None:
    refused = Refused(2)
    assert ask_again(refused, clerk, "a", "b", "c") == 3
    assert ask_again(refused, clerk, "b", "c") == 0
    assert ask_again(refused, clerk, "a") == 1
    assert ask_again(refused, clerk, "c", "a") == 0


def test_what_is_refused_once_more_is_late_again(clerk: Clerk) -> None:
    refused = Refused(2, lifetime=0.0)
    ask_again(refused, clerk, "a", "b", "a", "c")
    refused.lifetime = 60
    assert ask_again(refused, clerk, "a", "c") == 0


def test_many_threads_may_be_refused_at_once(clerk: Clerk) -> None:
    """CTX-03."""
    refused = Refused(5, lifetime=0.0)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: ask_again(refused, clerk, str(number % 7)), range(400)))
    refused.lifetime = 60
    assert ask_again(refused, clerk, *(str(number) for number in range(7))) >= 2


def test_too_much_of_a_kind_is_not_asked_about_for_a_while(clerk: Clerk) -> None:
    """MCH-02: and it is said when that is over."""
    flood = Flood("nonces", 3, window=30)
    for _ in range(3):
        with pytest.raises(TokenRefused):
            ask(flood, clerk)
    for _ in range(5):
        with pytest.raises(ClerkUnavailable, match="too many nonces were refused") as caught:
            ask(flood, clerk)
        assert (caught.value.reason, caught.value.answered) == ("upstream-unavailable", False)
        assert 29 <= caught.value.retry_after <= 30
    assert clerk.calls == 3


def test_what_is_known_is_asked_about_in_any_case_and_counts(clerk: Clerk) -> None:
    flood = Flood("tokens", 2, window=30)
    for _ in range(4):
        with pytest.raises(TokenRefused):
            ask(flood, clerk, known=True)
    with pytest.raises(ClerkUnavailable):
        ask(flood, clerk)


def test_what_is_good_is_no_flood(clerk: Clerk) -> None:
    flood = Flood("tokens", 2, window=30)
    for _ in range(5):
        with flood.asking():
            pass
    with pytest.raises(TokenRefused):
        ask(flood, clerk)


def test_a_flood_is_over_when_the_first_of_it_is_a_window_ago(clerk: Clerk) -> None:
    flood = Flood("tokens", 2, window=30)
    for _ in range(2):
        with pytest.raises(TokenRefused):
            ask(flood, clerk)
        time.sleep(1.1)
    with pytest.raises(ClerkUnavailable) as caught:
        ask(flood, clerk)
    assert caught.value.retry_after <= 28
    flood.window = 2.1  # which is over for the first, and not for the second
    with pytest.raises(TokenRefused):
        ask(flood, clerk)
    flood.window = 30
    with pytest.raises(ClerkUnavailable):
        ask(flood, clerk)
    assert clerk.calls == 3
