"""The benchmark runs, and what the README shows of it is what it found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.benchmarks import report

ROOT = Path(__file__).resolve().parents[1]
FOUND = json.loads((ROOT / "tests/benchmarks/results.json").read_text(encoding="utf-8"))


def test_the_readme_shows_what_was_found() -> None:
    assert report.section(FOUND) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_picture_shows_what_was_found() -> None:
    assert report.bars(FOUND) == (ROOT / "tests/benchmarks/bars.svg").read_text(encoding="utf-8")


def test_the_command_measures_a_door_with_every_kind_of_visitor() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "--rounds=1", "--requests=10", "--only=ClerkOptionalMixin"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    for visitor in ("warm", "new token each 10 requests", "new token each time", "anonymous", "bad token"):
        assert f"ClerkOptionalMixin, user not read, {visitor} " in done.stdout
    assert "\nbare view " in done.stdout
