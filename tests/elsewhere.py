"""Run tests in a process of their own, where another database or user model is configured from the start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run_elsewhere(*arguments: str, **environment: str) -> None:
    """Run pytest with these arguments and variables; fail with its output if a test fails there."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=Path(__file__).resolve().parents[1],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
