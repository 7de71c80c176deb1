"""What the stand-in was asked: every request counted and kept, without its secrets."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from typing import NamedTuple

from clerk_views.testing.machines import VERIFY_PATHS

#: Headers whose value is a secret, or may be one.
_HIDDEN = frozenset({"authorization", "cookie", "proxy-authorization"})

#: The same of query parameters, as handshakes and clerk-js send them.
_HIDDEN_PARAMETER = re.compile(r"(?<=[?&])(__session|__clerk_db_jwt|__clerk_handshake|nonce)=[^&#]+")


class Call(NamedTuple):
    """
    One request.

    ``path`` is what stood on the request line, query included. ``headers`` have lower-case names. Of a secret only the
    presence is kept, and the scheme, as in "Bearer [hidden]" or "?nonce=[hidden]".
    """

    method: str
    path: str
    headers: dict[str, str]


class Calls:
    """The requests to one LocalClerk since it started or since ``reset()``. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way = 0
        self.reset()

    def reset(self) -> None:
        """Start again from zero."""
        with self._lock:
            self._calls: list[Call] = []
            self._connections = 0
            self._most_at_once = self._under_way

    def count(self, path: str) -> int:
        """
        Count the requests to a path, whatever their method and query.

        A part in braces stands for any one segment: ``count("/v1/users/{id}")``.
        """
        segments = [re.escape(part) for part in re.split(r"\{[^}]*\}", path)]
        wanted = re.compile("[^/]+".join(segments))
        return sum(1 for call in self.paths if wanted.fullmatch(call.path.partition("?")[0]))

    @property
    def key_fetches(self) -> int:
        """How often the key set was asked for."""
        return self.count("/v1/jwks")

    @property
    def user_fetches(self) -> int:
        """How often a single user was asked for."""
        return self.count("/v1/users/{id}") - self.count("/v1/users/count")

    @property
    def machine_verifications(self) -> int:
        """How often Clerk was asked about a machine token, whatever its kind."""
        return sum(self.count(path) for path in VERIFY_PATHS)

    @property
    def total(self) -> int:
        """All requests, the sign-in page included."""
        return len(self.paths)

    @property
    def paths(self) -> list[Call]:
        """The requests themselves, in the order of their arrival."""
        with self._lock:
            return list(self._calls)

    @property
    def connections(self) -> int:
        """How many connections were opened."""
        with self._lock:
            return self._connections

    @property
    def most_at_once(self) -> int:
        """The largest number of requests that were being answered at the same time."""
        with self._lock:
            return self._most_at_once

    def connected(self) -> None:
        """Note a new connection."""
        with self._lock:
            self._connections += 1

    def began(self, method: str, path: str, headers: Iterable[tuple[str, str]]) -> None:
        """Note a request."""
        shown = {name.lower(): _shown(name.lower(), value) for name, value in headers}
        with self._lock:
            self._calls.append(Call(method, _HIDDEN_PARAMETER.sub(r"\1=[hidden]", path), shown))
            self._under_way += 1
            self._most_at_once = max(self._most_at_once, self._under_way)

    def ended(self) -> None:
        """Note that a request has been answered."""
        with self._lock:
            self._under_way -= 1


def _shown(name: str, value: str) -> str:
    if name not in _HIDDEN:
        return value
    scheme, space, _ = value.partition(" ")
    return f"{scheme} [hidden]" if name == "authorization" and space else "[hidden]"
