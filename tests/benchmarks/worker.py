"""
A process that holds one configuration of Django, as its parent sees it. What it does stands in inside.py.

Told and telling are lines of JSON, on its standard input and output.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Worker:
    """The parent's handle on such a process. ``configuration`` is what settings.py reads."""

    def __init__(self, **configuration: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.inside"],
            cwd=ROOT,
            env=environment(**configuration),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, what: str, **details: Any) -> Any:
        """Have something done and return what came of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"what": what, **details}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"The process that was to do {what!r} ended with {self._process.wait()}.")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()  # type: ignore[union-attr]  # asked for above
        self._process.wait(20)
        self._process.stdout.close()  # type: ignore[union-attr]  # likewise


def environment(**configuration: Any) -> dict[str, str]:
    """Return the environment of a process of this configuration."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("CLERK_")}
    return {
        **own,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        "DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings",
        "CLERK_VIEWS_BENCH": json.dumps(configuration),
    }
