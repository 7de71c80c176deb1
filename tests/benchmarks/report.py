"""What was found, as a table for people and as a picture for the README."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "django",
    "djangorestframework",
    "pyjwt",
    "cryptography",
    "djangorestframework-simplejwt",
    "django-clerk-sdk",
)


def where() -> dict[str, str]:
    """Return the class of machine and the versions, and nothing that would tell one machine from its twin."""
    found = {"machine": _machine(), "Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _machine() -> str:
    try:
        cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        kinds = [line.partition(":")[2].strip() for line in cpu.splitlines() if line.startswith("model name")]
    except OSError:
        kinds = []
    return f"{len(kinds) or '?'} cores, {kinds[0] if kinds else platform.machine()}, {platform.system()}"


def _times(ratio: float) -> str:
    return f"{ratio:.2f} ×" if ratio < 10 else f"{ratio:.1f} ×"


def table(found: dict[str, Any]) -> str:
    """Return everything as text."""
    width = max(len(row["name"]) for row in found["rows"])
    lines = ["", ", ".join(f"{name} {value}" for name, value in found["where"].items()), ""]
    lines.append(f"{'':{width}}  {'µs':>8}  {'ratio':>8}  {'quartiles':>17}  {'µs by the clock':>15}")
    base = None
    for row in found["rows"]:
        if row["base"] != base:
            base = row["base"]
            lines += ["", f"in relation to: {base}"]
        low, middle, high = row["ratio"]
        lines.append(
            f"{row['name']:{width}}  {row['cpu'][1]:8.0f}  {_times(middle):>8}  {_times(low):>8} {_times(high):>8}"
            f"  {row['wall'][1]:15.0f}"
        )
    lines += ["", "goals"]
    for goal in found["goals"]:
        kept = "kept" if goal["ratio"][1] <= goal["at_most"] else "MISSED"
        lines.append(f"{goal['name']:{width}}  {_times(goal['ratio'][1]):>8} of {goal['at_most']:.1f}  {kept}")
    lines += [f"skipped: {name}: {why}" for name, why in found["skipped"].items()]
    return "\n".join(lines)
