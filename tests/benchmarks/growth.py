"""Signing in with few users in the table, and with many: the same, if every search has its index."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from contextlib import ExitStack, closing
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from clerk_views.testing import LocalClerk
from tests.benchmarks.measuring import missing, quartiles, sqlite
from tests.benchmarks.worker import Worker

FEW = 1_000
ROUNDS = 9
SIGN_INS = 15  # of each kind in a round
MODELS = ("clerk_users.ClerkUser", "auth.User")
AT_MOST = 1.5


def measure(
    clerk: LocalClerk, scratch: Path, postgresql: str, many: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Return for each database and user model what a first sign-in and a sync cost with few users and with many."""
    found = []
    for kind in ("SQLite", "PostgreSQL"):
        why = missing(("psycopg",)) if kind == "PostgreSQL" else None
        for model in MODELS:
            name = f"{kind}, {model}"
            if why:
                found.append({"name": name, "skipped": why})
                continue
            say(f"signing in on {name}")
            with ExitStack() as stack:
                workers = {
                    users: stack.enter_context(
                        _Peopled(clerk, scratch, postgresql if kind == "PostgreSQL" else None, model, users)
                    )
                    for users in (FEW, many)
                }
                found += _compared(clerk, workers, name)
    return found


def _compared(clerk: LocalClerk, workers: dict[int, _Peopled], name: str) -> list[dict[str, Any]]:
    kinds = ("a new user signs in", "a known user is synced")
    costs: dict[tuple[str, int], list[float]] = {(kind, users): [] for kind in kinds for users in workers}
    order = random.Random(1)  # noqa: S311  # an order, not a secret
    for number in range(ROUNDS + 1):
        for users in order.sample(list(workers), len(workers)):
            for kind, cost in zip(kinds, workers[users].sign_ins(clerk), strict=True):
                if number:
                    costs[kind, users].append(cost)
    few, many = workers
    return [
        {
            "name": f"{name}: {kind}",
            "users": [few, many],
            "ms": [quartiles(costs[kind, few]), quartiles(costs[kind, many])],
            "ratio": quartiles([more / less for less, more in zip(costs[kind, few], costs[kind, many], strict=True)]),
            "at_most": AT_MOST,
        }
        for kind in kinds
    ]


class _Peopled:
    """A process with a database of its own, that has so many users."""

    def __init__(self, clerk: LocalClerk, scratch: Path, postgresql: str | None, model: str, users: int) -> None:
        self._name = f"clerk_views_{uuid.uuid4().hex[:8]}"
        self._url = postgresql
        self._worker = Worker(
            library="clerk_views",
            user=model,
            database=sqlite(scratch / f"{self._name}.sqlite3")
            if postgresql is None
            else self._made(urlsplit(postgresql)),
            clerk=clerk.settings(CLERK_JWT_KEY=clerk.signing_key.public_pem),
        )
        self._worker.ask("migrate")
        self._worker.ask("people", users=users)

    def __enter__(self) -> _Peopled:
        return self

    def __exit__(self, *raised: object) -> None:
        self._worker.close()
        if self._url is not None:
            self._on_server(f'DROP DATABASE "{self._name}"')

    def sign_ins(self, clerk: LocalClerk) -> tuple[float, float]:
        """Return the median milliseconds of a first sign-in, the token's check included, and of a sync."""
        bodies = [clerk.add_user(email=f"{uuid.uuid4().hex}@example.com", username=None) for _ in range(SIGN_INS)]
        first: float = self._worker.ask("sign_in", tokens=[clerk.token(user, expires_in=86_400) for user in bodies])
        changed = [{**user.data, "first_name": "Ada", "updated_at": user.data["updated_at"] + 1} for user in bodies]
        again: float = self._worker.ask("sync", bodies=changed)
        return first, again

    def _made(self, url: Any) -> dict[str, Any]:
        self._on_server(f'CREATE DATABASE "{self._name}"')
        return {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": url.hostname,
            "PORT": url.port,
            "USER": url.username,
            "PASSWORD": url.password or "",
            "NAME": self._name,
        }

    def _on_server(self, statement: str) -> None:
        psycopg = import_module("psycopg")  # not there in every environment
        with closing(psycopg.connect(f"{self._url}/postgres", autocommit=True)) as connection:
            connection.execute(statement)
