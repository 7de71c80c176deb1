"""What is measured: the list that everything else here works through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

#: Which credentials a block of requests brings. "tenth": a new token for each ten requests.
Brings = Literal["nothing", "warm", "tenth", "renewed", "bad", "session", "simplejwt"]
#: How requests reach the view. Middleware and session engines stand in worker.py.
Stack = Literal["none", "clerk", "sdk", "sessions db", "sessions cached", "sessions cookie"]
Kind = Literal["sync", "async", "piece"]

BARE = "bare view"
BARE_ASYNC = "bare async view"
BARE_API = "bare APIView"
ASYNC_BY_ORM = "async view, one sync_to_async ORM call"


@dataclass(frozen=True)
class Process:
    """
    One configuration of Django, served by a process of its own.

    Attributes:
        needs: What must be importable.
    """

    name: str
    library: str = "clerk_views"
    redis: bool = False
    needs: tuple[str, ...] = ()


MEMORY = Process("local memory")
REDIS = Process("Redis", redis=True, needs=("redis",))
SDK_MEMORY = Process("django-clerk-sdk, local memory", "django_clerk_sdk", needs=("django_clerk_sdk",))
SDK_REDIS = Process("django-clerk-sdk, Redis", "django_clerk_sdk", redis=True, needs=("django_clerk_sdk", "redis"))
PROCESSES = (MEMORY, REDIS, SDK_MEMORY, SDK_REDIS)


@dataclass(frozen=True)
class Case:
    """
    One row of the table.

    Attributes:
        path: Of the view; of a piece, its name in worker.py.
        base: The row of the same process to which its cost is put in relation.
        status: What must be answered.
    """

    name: str
    path: str
    brings: Brings = "nothing"
    stack: Stack = "none"
    kind: Kind = "sync"
    base: str = BARE
    status: int = 200
    process: Process = MEMORY
    needs: tuple[str, ...] = ()


_VISITORS: dict[str, Brings] = {
    "warm": "warm",
    "new token each 10 requests": "tenth",
    "new token each time": "renewed",
    "anonymous": "nothing",
    "bad token": "bad",
}


@dataclass(frozen=True)
class _Door:
    """A protected view, for every kind of visitor. ``closed``: what the anonymous get; ``bad``: with a bad token."""

    name: str
    path: str
    stack: Stack = "none"
    kind: Kind = "sync"
    closed: int = 401
    bad: int = 401

    def cases(self, process: Process) -> Iterator[Case]:
        api = self.path.startswith("api/")
        for visitor, brings in _VISITORS.items():
            yield Case(
                f"{self.name}, {visitor}" + (f", {process.name}" if process is not MEMORY else ""),
                self.path,
                brings,
                self.stack,
                self.kind,
                BARE_API if api else BARE_ASYNC if self.kind == "async" else BARE,
                {"nothing": self.closed, "bad": self.bad}.get(brings, 200),
                process,
                ("rest_framework",) if api else (),
            )


_DOORS = (
    _Door("@clerk_required, user read", "required"),
    _Door("@clerk_required, user not read", "required/silent"),
    _Door("@clerk_optional, user read", "optional/user", closed=200, bad=200),
    _Door("@clerk_optional, user not read", "optional", closed=200, bad=200),
    _Door("ClerkLoginRequiredMixin, user read", "mixin"),
    _Door("ClerkLoginRequiredMixin, user not read", "mixin/silent"),
    _Door("ClerkOptionalMixin, user read", "mixin/optional/user", closed=200, bad=200),
    _Door("ClerkOptionalMixin, user not read", "mixin/optional", closed=200, bad=200),
    _Door("ClerkMiddleware, nobody asks", "bare", "clerk", closed=200, bad=200),
    _Door("ClerkMiddleware and login_required, user read", "login", "clerk", closed=302, bad=302),
    # REST framework reads the user before the view is asked, in any case.
    _Door("ClerkAuthentication on an APIView, user read", "api/required"),
    _Door("ClerkAuthentication, open APIView", "api/open", closed=200),
    _Door("@clerk_required async, user read", "async/required", kind="async"),
    _Door("@clerk_required async, user not read", "async/required/silent", kind="async"),
    _Door("@clerk_optional async, user read", "async/optional/user", kind="async", closed=200, bad=200),
    _Door("@clerk_optional async, user not read", "async/optional", kind="async", closed=200, bad=200),
    _Door("ClerkLoginRequiredMixin async, user read", "async/mixin", kind="async"),
    _Door("ClerkLoginRequiredMixin async, user not read", "async/mixin/silent", kind="async"),
    _Door("ClerkMiddleware async, nobody asks", "async/bare", "clerk", "async", closed=200, bad=200),
    _Door("ClerkMiddleware async, user read", "async/auser", "clerk", "async", closed=200, bad=200),
)

SDK_NEEDS = ("rest_framework", "django_clerk_sdk")

CASES: tuple[Case, ...] = (
    Case(BARE, "bare"),
    Case("bare view, one User.objects.get", "orm"),
    Case(BARE_API, "api/bare", needs=("rest_framework",)),
    Case(BARE_ASYNC, "async/bare", kind="async", base=BARE_ASYNC),
    Case(ASYNC_BY_ORM, "async/orm", kind="async", base=BARE_ASYNC),
    *(
        Case(f"Django login_required, {engine} sessions", "login", "session", f"sessions {engine}")  # type: ignore[arg-type]  # Stack
        for engine in ("db", "cached", "cookie")
    ),
    Case("simplejwt on an APIView", "api/simplejwt", "simplejwt", needs=("rest_framework", "rest_framework_simplejwt")),
    Case(BARE, "bare", process=REDIS),
    Case(BARE_API, "api/bare", process=REDIS, needs=("rest_framework",)),
    Case(BARE_ASYNC, "async/bare", kind="async", base=BARE_ASYNC, process=REDIS),
    *(case for process in (MEMORY, REDIS) for door in _DOORS for case in door.cases(process)),
    *(
        case
        for process in (SDK_MEMORY, SDK_REDIS)
        for case in (
            Case(BARE, "bare", process=process),
            Case(f"{process.name}: middleware and login_required", "login", "warm", "sdk", process=process),
            Case(f"{process.name}: APIView", "api/required", "warm", process=process, needs=("rest_framework",)),
            Case(f"{process.name}: APIView, new token each time", "api/required", "renewed", process=process),
        )
    ),
    Case("piece: read the settings", "settings", kind="piece"),
    Case("piece: find the token", "find", kind="piece"),
    Case("piece: verify the token", "verify", kind="piece"),
    Case("piece: the verdict from memory", "verdict", kind="piece"),
    Case("piece: the cache, local memory", "cache", kind="piece"),
    Case("piece: the cache, Redis", "cache", kind="piece", process=REDIS),
    Case("piece: the row, prepared", "row", kind="piece"),
    Case("piece: the row by the ORM", "orm", kind="piece"),
)


@dataclass(frozen=True)
class Goal:
    """A cost that is to be kept: of a row, at most so many times that of another of the same process."""

    name: str
    base: str
    at_most: float


GOALS = (
    Goal("@clerk_required, user read, warm", BARE, 3.0),
    Goal("@clerk_required, user read, warm, Redis", BARE, 3.0),
    Goal("ClerkMiddleware, nobody asks, warm", BARE, 1.2),
    Goal("@clerk_optional, user not read, anonymous", BARE, 1.3),
    Goal("@clerk_required, user read, new token each time", BARE, 6.0),
    Goal("ClerkAuthentication on an APIView, user read, warm", BARE_API, 1.9),
    Goal("@clerk_required async, user read, warm", ASYNC_BY_ORM, 1.5),
)

#: The bars of the README's picture, from the cheapest down.
PICTURE = (
    BARE,
    "ClerkMiddleware, nobody asks, warm",
    "@clerk_optional, user not read, anonymous",
    "@clerk_required, user read, warm",
    "@clerk_required, user read, new token each 10 requests",
    "@clerk_required, user read, new token each time",
    "ClerkAuthentication on an APIView, user read, warm",
    "bare view, one User.objects.get",
    "simplejwt on an APIView",
    "Django login_required, db sessions",
    "Django login_required, cached sessions",
    "Django login_required, cookie sessions",
    "django-clerk-sdk, local memory: middleware and login_required",
    "django-clerk-sdk, Redis: middleware and login_required",
)
