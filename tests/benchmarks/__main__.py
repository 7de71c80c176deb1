"""The one command: see ``python -m tests.benchmarks --help``."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from clerk_views.testing import LocalClerk
from tests.benchmarks import growth, importing, report, serving
from tests.benchmarks.measuring import Requests
from tests.settings import SCRATCH, SERVICES

HERE = Path(__file__).parent


def main() -> None:
    arguments = _arguments()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with LocalClerk() as clerk, tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        scratch = Path(folder)
        with Requests(clerk, scratch, SERVICES["redis"], arguments.only) as requests:
            found = {
                "where": report.where(),
                "rounds": arguments.rounds,
                "requests": arguments.requests,
                "rows": requests.measure(arguments.rounds, arguments.requests, say),
                "goals": requests.goals(),
                "skipped": requests.skipped,
            }
        if not arguments.only:
            found["import"] = importing.measure(say)
            found["http"] = serving.measure(clerk, scratch, arguments.seconds, say)
            found["growth"] = growth.measure(clerk, scratch, arguments.users, say)
    print(report.table(found))
    arguments.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if not arguments.only:
        arguments.svg.write_text(report.bars(found), encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Measure what a request costs.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--requests", type=int, default=200, help="requests of one case in a row")
    parser.add_argument("--seconds", type=int, default=4, help="of each turn over HTTP")
    parser.add_argument("--users", type=int, default=100_000, help="rows of the large user table")
    parser.add_argument("--only", default="", help="rows whose name contains this, and those that they relate to")
    parser.add_argument("--json", type=Path, default=HERE / "results.json")
    parser.add_argument("--svg", type=Path, default=HERE / "bars.svg")
    return parser.parse_args()


if __name__ == "__main__":
    main()
