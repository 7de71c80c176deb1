"""What was found: a table for people, the README's section, and its picture."""

from __future__ import annotations

import math
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from tests.benchmarks.cases import PICTURE
from tests.benchmarks.remembering import AT_MOST

_PACKAGES = (
    "django",
    "djangorestframework",
    "pyjwt",
    "cryptography",
    "djangorestframework-simplejwt",
    "django-clerk-sdk",
    "gunicorn",
)
_OURS = ("@clerk", "Clerk")  # so begin the rows of this library


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
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    kinds = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(kinds) or 'some'} cores, {kinds[0] if kinds else platform.machine()}, {platform.system()}"


def times(ratio: float) -> str:
    """Write a relation down."""
    return f"{ratio:.2f} ×" if ratio < 10 else f"{ratio:.1f} ×"


def verdicts(found: dict[str, Any]) -> list[tuple[str, str, str, bool]]:
    """Return of each goal its name, what was measured, what was to be reached, and whether it was."""
    rows = [
        (
            f"{goal['name']} / {goal['base']}",
            times(goal["ratio"][1]),
            f"≤ {goal['at_most']:g} ×",
            goal["ratio"][1] <= goal["at_most"],
        )
        for goal in found["goals"]
    ]
    http = found.get("http", {})
    for row in http.get("rows", ()):
        if row["name"] == http["goal"]["name"]:
            rows.append(
                (
                    f"over HTTP: {row['name']} / bare view, requests per second",
                    f"{row['ratio'][1]:.2f}",
                    f"≥ {http['goal']['at_least']}",
                    row["ratio"][1] >= http["goal"]["at_least"],
                )
            )
    for row in found.get("growth", ()):
        if "skipped" not in row:
            name = f"{row['name']}, {row['users'][1]} users / {row['users'][0]}"
            rows.append((name, times(row["ratio"][1]), f"≤ {row['at_most']} ×", row["ratio"][1] <= row["at_most"]))
    for kind, grown in found.get("memory", {}).items():
        name = f"memory for {found['tokens']} {kind} tokens"
        rows.append((name, f"{grown:.1f} MB", f"≤ {AT_MOST} MB", grown <= AT_MOST))
    if "import" in found:
        cost = found["import"]
        rows.append(
            (cost["name"], f"{cost['ms'][1]:.0f} ms", f"≤ {cost['at_most']} ms", cost["ms"][1] <= cost["at_most"])
        )
    return rows


def table(found: dict[str, Any]) -> str:
    """Return everything as text."""
    width = max(len(name) for name in [*(row["name"] for row in found["rows"]), *(row[0] for row in verdicts(found))])
    lines = ["", ", ".join(f"{name} {value}" for name, value in found["where"].items())]
    lines.append(f"{found['rounds']} rounds of {found['requests']} requests; µs of CPU time, and by the clock")
    base = None
    for row in found["rows"]:
        if row["base"] != base:
            base = row["base"]
            lines += [
                "",
                f"{f'in relation to: {base}':{width}}  {'µs':>7}  {'ratio':>7}  {'quartiles':>16}  {'clock':>6}",
            ]
        low, middle, high = map(times, row["ratio"])
        lines.append(
            f"{row['name']:{width}}  {row['cpu'][1]:7.0f}  {middle:>7}  {low:>7}  {high:>7}  {row['wall'][1]:6.0f}"
        )
    if found.get("http", {}).get("rows"):
        lines += ["", "over HTTP, gunicorn with two sync workers: requests per second, in relation to the bare view"]
        lines += [
            f"{row['name']:{width}}  {row['rate'][1]:7.0f}  {row['ratio'][1]:7.2f}" for row in found["http"]["rows"]
        ]
    if found.get("growth"):
        lines += ["", "signing in, milliseconds by the clock: with few users, with many"]
        lines += [
            f"{row['name']:{width}}  {row['ms'][0][1]:7.1f}  {row['ms'][1][1]:7.1f}  {times(row['ratio'][1]):>7}"
            for row in found["growth"]
            if "skipped" not in row
        ]
    lines += ["", "to be reached"]
    for name, measured, wanted, reached in verdicts(found):
        lines.append(f"{name:{width}}  {measured:>9}  {wanted:>8}  {'reached' if reached else 'NOT REACHED'}")
    skipped = {
        **found["skipped"],
        **{row["name"]: row["skipped"] for row in found.get("growth", ()) if "skipped" in row},
    }
    if "skipped" in found.get("http", {}):
        skipped["over HTTP"] = found["http"]["skipped"]
    lines += ["", *(f"skipped: {name}: {why}" for name, why in skipped.items())]
    return "\n".join(lines)


def _chosen(found: dict[str, Any]) -> list[tuple[str, float]]:
    rows = {row["name"]: row for row in found["rows"]}
    bare = rows[PICTURE[0]]["cpu"][1]
    return [
        (name, rows[name]["ratio"][1] if rows[name]["base"] == PICTURE[0] else rows[name]["cpu"][1] / bare)
        for name in PICTURE
        if name in rows
    ]


def section(found: dict[str, Any]) -> str:
    """Return the README's table: the rows of the picture with their quartiles, and what was to be reached."""
    rows = {row["name"]: row for row in found["rows"]}
    lines = ["| one request, warm where nothing else is said | µs | of the bare view |", "| --- | --: | --: |"]
    lines += [f"| {name} | {rows[name]['cpu'][1]:.0f} | {times(ratio)} |" for name, ratio in _chosen(found)]
    lines += ["", "| to be reached | measured | |", "| --- | --: | --: |"]
    lines += [
        f"| {name} | {measured} | {wanted}{'' if reached else ', **not reached**'} |"
        for name, measured, wanted, reached in verdicts(found)
    ]
    versions = ", ".join(f"{name} {value}" for name, value in found["where"].items() if name != "machine")
    away = sorted({why for name, why in found["skipped"].items() if name.startswith("django-clerk-sdk")})
    lines += ["", f"{found['where']['machine']}; {versions}. {found['rounds']} rounds of {found['requests']} requests."]
    if away:
        lines[-1] += f" django-clerk-sdk is not in this run ({'; '.join(away)}): it needs Python 3.14."
    return "\n".join(lines)


def bars(found: dict[str, Any]) -> str:
    """Return the picture, as SVG that reads in light and in dark."""
    chosen = _chosen(found)
    left, wide, row, top = 450, 380, 26, 40
    longest = max(ratio for _, ratio in chosen)
    height = top + row * len(chosen) + 12
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + wide + 80} {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="13">',
        "<title>What one request costs, in relation to a bare view</title>",
        "<style>text{fill:#1f2330}.ours{fill:#6c47ff}.other{fill:#9aa0ac}"
        "@media (prefers-color-scheme: dark){text{fill:#e6e8ee}}</style>",
        '<text x="12" y="22" font-weight="600">CPU time of one request, in relation to a bare view</text>',
    ]
    for number, (name, ratio) in enumerate(chosen):
        y = top + row * number
        length = max(1, math.ceil(wide * ratio / longest))
        kind = "ours" if name.startswith(_OURS) else "other"
        lines += [
            f'<text x="{left - 10}" y="{y + 14}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{kind}" x="{left}" y="{y}" width="{length}" height="18"/>',
            f'<text x="{left + length + 8}" y="{y + 14}">{times(ratio)}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])
