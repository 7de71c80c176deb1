"""
Requests through Django's handlers, in rounds that take all cases in turn, so that all meet the same machine.

A machine that others use as well has two speeds, and changes between them within a second. So what a case is put in
relation to is measured right beside it, each time anew: before it in one turn, after it in the next. What is to be
reached gets several turns a round.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from clerk_views.testing import LocalClerk
from tests.benchmarks.cases import BARE, BARE_API, BARE_ASYNC, CASES, GOALS, MEMORY, PROCESSES, Case, Process
from tests.benchmarks.worker import Worker

#: In each round, of what is to be reached.
GOAL_TURNS = 5


def missing(names: tuple[str, ...]) -> str | None:
    """Say what is not there, None if all is."""
    away = [name for name in names if find_spec(name) is None]
    return f"{' and '.join(away)} cannot be imported" if away else None


def no_answer(redis: str) -> str | None:
    """Say that the Redis of a URL does not answer, None if it does."""
    if find_spec("redis") is None:
        return None  # missing() says that
    from redis import Redis, RedisError

    try:
        Redis.from_url(redis, socket_connect_timeout=2).ping()
    except RedisError:
        return "Redis does not answer"
    return None


def quartiles(values: Sequence[float]) -> list[float]:
    """Return the lower quartile, the median and the upper quartile."""
    if len(values) < 2:
        return [values[0]] * 3
    return [round(value, 3) for value in statistics.quantiles(values, n=4, method="inclusive")]


def sqlite(path: Path) -> dict[str, Any]:
    """Return the settings of a database in a file, set up as for a site that is in earnest."""
    options = {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"}
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path), "OPTIONS": options}


class Requests:
    """The processes of all configurations, and what their blocks of requests have cost."""

    def __init__(self, clerk: LocalClerk, scratch: Path, redis: str, only: str = "") -> None:
        self._clerk = clerk
        self._ada = clerk.add_user(email="ada@example.com", username="ada", first_name="Ada", last_name="Lovelace")
        self._warm = self._token()
        head, payload, signature = self._warm.split(".")
        # One letter in the midst, so that it is well-formed and only the signature's check finds it out.
        self._bad = f"{head}.{payload}.{signature[:9]}{'B' if signature[9] == 'A' else 'A'}{signature[10:]}"
        self._costs: dict[Case, list[dict[str, float]]] = {}
        self._ratios: dict[tuple[Case, str], list[float]] = {}
        self._workers: dict[Process, Worker] = {}
        self.skipped: dict[str, str] = {}
        silent = no_answer(redis)
        for case in CASES:
            why = missing((*case.process.needs, *case.needs)) or (silent if case.process.redis else None)
            if why:
                self.skipped[case.name] = why
            elif only in case.name or any(only in other.name and other.base == case.name for other in CASES):
                self._costs[case] = []
        for process in PROCESSES:
            if any(case.process is process for case in self._costs):
                self._workers[process] = self._start(process, scratch, redis)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        for worker in self._workers.values():
            worker.close()

    def _token(self) -> str:
        return self._clerk.token(self._ada, expires_in=86_400)

    def _start(self, process: Process, scratch: Path, redis: str) -> Worker:
        url = self._clerk.url
        worker = Worker(
            library=process.library,
            redis=redis if process.redis else None,
            database=sqlite(scratch / f"{process.name}.sqlite3"),
            clerk=self._clerk.settings(
                CLERK_JWT_KEY=self._clerk.signing_key.public_pem,
                CLERK_API_URL=url if process.library == "clerk_views" else f"{url}/v1",
            ),
        )
        worker.ask("migrate")
        # The first visit makes the user, the only one.
        path, stack = ("required", "none") if process.library == "clerk_views" else ("login", "sdk")
        worker.ask(
            "block", kind="sync", path=path, stack=stack, brings="warm", status=200, tokens=[self._warm], requests=1
        )
        return worker

    def measure(self, rounds: int, requests: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
        """
        Return one entry for each row.

        ``cpu`` and ``wall``: µs that a request costs; ``ratio``: its CPU time over that of ``base`` right beside it.
        Each is lower quartile, median and upper quartile over the rounds.
        """
        order = random.Random(1)  # noqa: S311  # an order, not a secret
        for number in range(rounds + 1):
            say(f"round {number} of {rounds}" if number else "a round that does not count, as everything is new in it")
            for case in order.sample(list(self._costs), len(self._costs)):
                turns = GOAL_TURNS if any(goal.name == case.name for goal in GOALS) else 1
                for turn in range(number * turns, (number + 1) * turns):
                    for base in self._bases(case):
                        cost, other = self._beside(case, base, requests, turn)
                        if number:
                            self._costs[case].append(cost)
                            self._ratios.setdefault((case, base.name), []).append(cost["cpu"] / other["cpu"])
        return [
            {
                "name": case.name,
                "base": case.base,
                "cpu": quartiles([cost["cpu"] for cost in costs]),
                "wall": quartiles([cost["wall"] for cost in costs]),
                "ratio": quartiles(self._ratios[case, case.base]),
            }
            for case, costs in self._costs.items()
            if case.process is MEMORY or case.name not in (BARE, BARE_API, BARE_ASYNC)
        ]

    def goals(self) -> list[dict[str, Any]]:
        """Return what came of each goal."""
        return [
            {
                "name": goal.name,
                "base": goal.base,
                "at_most": goal.at_most,
                "ratio": quartiles(self._ratios[case, goal.base]),
            }
            for goal in GOALS
            for case in self._costs
            if case.name == goal.name
        ]

    def _bases(self, case: Case) -> list[Case]:
        """Return what a case is put in relation to: in its row, and where something is to be reached."""
        names = {case.base, *(goal.base for goal in GOALS if goal.name == case.name)}
        return [other for other in CASES if other.process is case.process and other.name in names]

    def _beside(self, case: Case, base: Case, requests: int, turn: int) -> tuple[dict[str, float], dict[str, float]]:
        if case is base:
            cost = self._block(case, requests)
            return cost, cost
        if turn % 2:
            return self._block(case, requests), self._block(base, requests)
        other = self._block(base, requests)
        return self._block(case, requests), other

    def _block(self, case: Case, requests: int) -> dict[str, float]:
        tokens = {"tenth": requests // 10, "renewed": requests}.get(case.brings, 0)
        cost: dict[str, float] = self._workers[case.process].ask(
            "block",
            kind=case.kind,
            path=case.path,
            stack=case.stack,
            brings=case.brings,
            status=case.status,
            tokens=[self._token() for _ in range(tokens)] or [self._bad if case.brings == "bad" else self._warm],
            requests=requests,
        )
        return cost
