"""SECURITY.md and the tests speak of the same threats: each id of its table is cited, and nothing else is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")

# Any family, so that a slip of the pen is found as well; encodings look like ids and are none.
ID = re.compile(r"\b(?!UTF-)[A-Z]{1,3}-[0-9]{2}\b")
ROWS = re.findall(rf"^\| ({ID.pattern}) \|", SECURITY, re.MULTILINE)


def sources(*folders: str) -> Iterator[Path]:
    """Every Python file but this one, which is about the ids and tests none of them."""
    for folder in folders:
        yield from (path for path in sorted((ROOT / folder).rglob("*.py")) if path != Path(__file__).resolve())


def cited(paths: Iterable[Path]) -> dict[str, set[str]]:
    """Return each id with the names of the files that cite it."""
    found: dict[str, set[str]] = {}
    for path in paths:
        for name in ID.findall(path.read_text(encoding="utf-8")):
            found.setdefault(name, set()).add(path.name)
    return found


def anchors(text: str) -> set[str]:
    """Return what the headings of a page are called in links to them, as hosting pages do it."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_each_threat_has_one_row() -> None:
    assert len(ROWS) > 100
    assert len(set(ROWS)) == len(ROWS)


def test_every_row_has_three_cells() -> None:
    rows = re.findall(rf"^\| {ID.pattern} \|.*$", SECURITY, re.MULTILINE)
    assert [row for row in rows if len(row.strip("|").split(" | ")) != 3] == []


def test_every_threat_is_tested() -> None:
    missing = set(ROWS) - cited(sources("tests")).keys()
    assert not missing, f"no test cites {', '.join(sorted(missing))}"


def test_every_citation_leads_to_the_table() -> None:
    known = set(ROWS)
    unknown = {name: files for name, files in cited(sources("tests", "clerk_views")).items() if name not in known}
    assert not unknown, f"SECURITY.md says nothing of {unknown}"


def test_local_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", SECURITY)
    assert links
    for target, anchor in links:
        path = ROOT / (target or "SECURITY.md")
        assert path.exists(), target
        assert not anchor or anchor in anchors(path.read_text(encoding="utf-8")), f"{target}#{anchor}"
