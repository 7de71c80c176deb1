"""The one command: see ``python -m tests.benchmarks --help``."""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from clerk_views.testing import LocalClerk
from tests.benchmarks import growth, importing, remembering, report, serving
from tests.benchmarks.measuring import Requests
from tests.settings import SCRATCH, SERVICES

HERE = Path(__file__).parent
README = HERE.parents[1] / "README.md"


def main() -> None:
    arguments = _arguments()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with LocalClerk() as clerk, tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        scratch = Path(folder)
        with Requests(clerk, scratch, SERVICES["redis"], arguments.only) as requests:
            found: dict[str, Any] = {
                "where": report.where(),
                "rounds": arguments.rounds,
                "requests": arguments.requests,
                "rows": requests.measure(arguments.rounds, arguments.requests, say),
                "goals": requests.goals(),
                "skipped": requests.skipped,
            }
        if not arguments.only:
            found["import"] = importing.measure()
            say(f"memory for {arguments.tokens} tokens")
            found["memory"] = {kind: remembering.measure(kind, arguments.tokens)[-1] for kind in ("good", "bad")}
            found["tokens"] = arguments.tokens
            found["http"] = serving.measure(clerk, scratch, arguments.seconds, say)
            found["growth"] = growth.measure(clerk, scratch, SERVICES["postgresql"], arguments.users, say)
    print(report.table(found))
    if not arguments.only:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "results.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
        (arguments.out / "bars.svg").write_text(report.bars(found), "utf-8")
    if arguments.readme:
        text = README.read_text("utf-8")
        between = re.compile(r"(<!-- speed -->\n).*?(<!-- /speed -->)", re.DOTALL)
        README.write_text(
            between.sub(lambda match: f"{match[1]}\n{report.section(found)}\n\n{match[2]}", text), "utf-8"
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Measure what a request costs.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--requests", type=int, default=100, help="of one case in a row")
    parser.add_argument("--seconds", type=int, default=3, help="of each turn over HTTP")
    parser.add_argument("--users", type=int, default=100_000, help="rows of the large user table")
    parser.add_argument("--tokens", type=int, default=100_000, help="of each kind, that one process sees")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name has this in it; writes nothing")
    parser.add_argument("--out", type=Path, default=HERE, help="where results.json and bars.svg go")
    parser.add_argument("--readme", action="store_true", help="bring the README's section up to date, too")
    arguments = parser.parse_args()
    if arguments.readme and arguments.only:
        parser.error("the README shows the whole run")
    return arguments


if __name__ == "__main__":
    main()
