"""
What a process keeps of the tokens that it has seen: little, and from some number on nothing more. Threat: DOS-01.

The benchmark sees 100 000 of them; here as many as show that it ends.
"""

from __future__ import annotations

import sys

import pytest

from clerk_views.verdicts import MAX_VERDICTS
from tests.benchmarks.remembering import AT_MOST, measure

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems tell a process's memory otherwise")


def test_good_tokens_fill_a_bounded_memory() -> None:
    first, then = measure("good", 2 * MAX_VERDICTS)
    assert first <= AT_MOST
    assert then - first <= 2  # MB: the memory is full, and an old verdict goes for each new one


def test_bad_tokens_leave_nothing_behind() -> None:
    first, then = measure("bad", 4000)
    assert then <= 3  # MB
    assert then - first <= 1
