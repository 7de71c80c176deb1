"""What the tests measure with: caches that count or misbehave, ears for signals, one start for many threads."""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.db import connection, connections
from django.dispatch import Signal

from tests.settings import SCRATCH

T = TypeVar("T")


class CountingCache(LocMemCache):
    """Django's cache in this process's memory, noting what is asked of it."""

    operations: ClassVar[list[tuple[str, str]]] = []
    stored: ClassVar[list[tuple[str, Any]]] = []

    @classmethod
    def forget(cls) -> None:
        """Start counting from zero."""
        cls.operations.clear()
        cls.stored.clear()

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        self.operations.append(("get", key))
        return super().get(key, default, version)

    def set(self, key: Any, value: Any, timeout: Any = 300, version: int | None = None) -> None:
        self.operations.append(("set", key))
        self.stored.append((key, value))
        super().set(key, value, timeout, version)

    def add(self, key: Any, value: Any, timeout: Any = 300, version: int | None = None) -> bool:
        self.operations.append(("add", key))
        self.stored.append((key, value))
        return super().add(key, value, timeout, version)

    def delete(self, key: Any, version: int | None = None) -> bool:
        self.operations.append(("delete", key))
        return super().delete(key, version)


class KeepingCache(LocMemCache):
    """Keeps everything for ever, whatever lifetime is asked for."""

    def _has_expired(self, key: str) -> bool:
        return key not in self._expire_info  # type: ignore[attr-defined]  # the backend's own, not in the stubs


class RaisingCache(BaseCache):
    """A cache that is down: every operation raises."""

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def _fail(self, *args: Any, **kwargs: Any) -> Any:
        raise ConnectionRefusedError("the cache is down")

    get = set = add = delete = touch = has_key = incr = get_many = set_many = delete_many = clear = _fail


class GarbageCache(RaisingCache):
    """Takes everything, and gives back ``GarbageCache.garbage`` for whatever is asked."""

    garbage: ClassVar[Any] = None

    def get(self, *args: Any, **kwargs: Any) -> Any:
        return self.garbage

    def add(self, *args: Any, **kwargs: Any) -> bool:
        return True

    def _take(self, *args: Any, **kwargs: Any) -> None:
        pass

    set = delete = _take


def one_cache(backend: type[BaseCache] | str, **options: Any) -> dict[str, Any]:
    """Return CACHES with this one."""
    path = backend if isinstance(backend, str) else f"{backend.__module__}.{backend.__qualname__}"
    return {"default": {"BACKEND": path, **options}}


@contextmanager
def heard(signal: Signal) -> Iterator[list[dict[str, Any]]]:
    """Collect what a signal sends meanwhile."""
    sent: list[dict[str, Any]] = []

    def receiver(**values: Any) -> None:
        sent.append(values)

    signal.connect(receiver)
    try:
        yield sent
    finally:
        signal.disconnect(receiver)


def simultaneously(number: int, call: Callable[[int], T]) -> list[T]:
    """Call with 0, 1, … in as many threads, all starting at the same moment, and return the results in that order."""
    start = threading.Barrier(number)

    def run(index: int) -> T:
        try:
            start.wait(30)
            return call(index)
        finally:
            connections.close_all()

    with _places(number), ThreadPoolExecutor(number) as pool:
        return list(pool.map(run, range(number)))


@contextmanager
def _places(number: int) -> Iterator[None]:
    """
    Wait until PostgreSQL has room for a crowd: it serves 100 connections at most, those of all tests' processes.

    One crowd at a time, and each when the connections of the one before are gone, which takes the server a moment.
    """
    if connection.vendor != "postgresql" or number < 10:
        yield
        return
    with (SCRATCH / "crowd").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
                if cursor.fetchone()[0] + number <= 90:
                    break
            time.sleep(0.05)
        yield
