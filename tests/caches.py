"""Caches that count, or fail, for tests. Django's CACHES setting names them."""

from __future__ import annotations

from typing import Any, NoReturn

from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache


class CountingCache(LocMemCache):
    """Works, and writes down each operation."""

    operations: list[tuple[Any, ...]] = []

    def get(self, key: Any, *arguments: Any, **keywords: Any) -> Any:
        self.operations.append(("get", key))
        return super().get(key, *arguments, **keywords)

    def set(self, key: Any, value: Any, *arguments: Any, **keywords: Any) -> Any:
        self.operations.append(("set", key, value))
        return super().set(key, value, *arguments, **keywords)

    def add(self, key: Any, value: Any, *arguments: Any, **keywords: Any) -> Any:
        self.operations.append(("add", key, value))
        return super().add(key, value, *arguments, **keywords)

    def delete(self, key: Any, *arguments: Any, **keywords: Any) -> Any:
        self.operations.append(("delete", key))
        return super().delete(key, *arguments, **keywords)


class BrokenCache(BaseCache):
    """Raises whatever it is asked, as a cache server does that is away."""

    operations: list[str] = []

    def __init__(self, name: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def _fail(self, operation: str) -> NoReturn:
        self.operations.append(operation)
        raise ConnectionError("the cache is away")

    def get(self, *arguments: Any, **keywords: Any) -> NoReturn:
        self._fail("get")

    def set(self, *arguments: Any, **keywords: Any) -> NoReturn:
        self._fail("set")

    def add(self, *arguments: Any, **keywords: Any) -> NoReturn:
        self._fail("add")

    def delete(self, *arguments: Any, **keywords: Any) -> NoReturn:
        self._fail("delete")

    def clear(self) -> None:
        """Do nothing: there is nothing in it."""


class StickyCache(LocMemCache):
    """Keeps what it was told to delete."""

    def delete(self, key: Any, *arguments: Any, **keywords: Any) -> Any:
        return False
