"""
May Clerk be asked now, and what does it mean when it fails to answer?

Whoever asks spends the Budget of a request, waits for one of few places, and has an answer in time or a
ClerkUnavailable. While an API keeps failing it is left alone for some seconds, and nobody waits for it.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from clerk_views.exceptions import ClerkUnavailable, TokenRefused, UserNotFound
from clerk_views.payloads import error_code

if TYPE_CHECKING:  # the SDK is imported on the first call
    from clerk_backend_api.models import ClerkBaseError

logger = logging.getLogger("clerk_views")

CALL_LIMIT = 3.0  # seconds for one call, its retry included
FAILURES_TO_OPEN = 3
PAUSE = 5.0  # seconds
LONGEST_PAUSE = 60.0  # seconds
MAX_CALLS = 10  # at the same time in this process
LOG_INTERVAL = 60.0  # seconds

T = TypeVar("T")


class Budget:
    """
    The seconds one request may spend waiting for Clerk. What it does besides costs nothing.

    Belongs to one request, hence to one thread at a time.
    """

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._since: float | None = None

    @property
    def remaining(self) -> float:
        """Seconds left; zero or less when there are none."""
        return self._left if self._since is None else self._left - (time.monotonic() - self._since)

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Count the time that the block takes."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._left, self._since = self.remaining, None


class _Breaker:
    """
    Leaves an API that keeps failing alone for a while; then one call at a time finds out whether it is back.

    ``enter`` says whether a call is such a probe, and exactly one of ``succeeded`` and ``failed`` follows it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._open_until: float | None = None  # on the monotonic clock
        self._probing = False

    @property
    def time_left(self) -> float:
        until = self._open_until
        return 0.0 if until is None else max(0.0, until - time.monotonic())

    def check(self) -> None:
        """Refuse at once while the API is left alone."""
        if self._open_until is not None and (self._probing or self.time_left > 0):
            raise ClerkUnavailable(
                "upstream-unavailable", "Clerk's API keeps failing and is left alone", retry_after=self.time_left or 1
            )

    def enter(self) -> bool:
        with self._lock:
            self.check()
            self._probing = self._open_until is not None
            return self._probing

    def succeeded(self, probe: bool) -> None:
        with self._lock:
            # A call from before the trouble proves nothing about now, nor does it end a pause Clerk asked for.
            if probe or self._open_until is None:
                self._failures, self._open_until, self._probing = 0, None, False

    def failed(self, probe: bool, *, pause: float = PAUSE, at_once: bool = False) -> None:
        with self._lock:
            self._failures += FAILURES_TO_OPEN if at_once else 1
            if probe:
                self._probing = False
            if self._failures >= FAILURES_TO_OPEN:
                self._open_until = max(self._open_until or 0.0, time.monotonic() + pause)


class Calls:
    """
    The calls to one API with one secret key. Safe to use from several threads.

    Args:
        api_url: For the log.
        key_setting: The setting that the key is from, for the log.
        longest_pause: Seconds for which a ``Retry-After`` is followed at most.
    """

    def __init__(self, api_url: str, key_setting: str, longest_pause: float = LONGEST_PAUSE) -> None:
        self._api_url = api_url
        self._key_setting = key_setting
        self._longest_pause = longest_pause
        self._breaker = _Breaker()
        self._logged: dict[int, float] = {}

    @property
    def retry_after(self) -> float:
        """Seconds for which the API is left alone; 0 when it may be asked."""
        return self._breaker.time_left

    def make(self, fetch: Callable[[], T], budget: Budget, *, retry: bool = True, limit: float = CALL_LIMIT) -> T:
        """
        Ask Clerk, and return what came of it.

        Args:
            fetch: Asks, and returns what is of use. What the SDK and httpx raise passes through it; it raises
                UserNotFound or TokenRefused where Clerk clearly says no, ValueError where it says nothing of use.
            retry: Whether to ask once more where the first try failed in passing.
            limit: Seconds for the call, however much is left of the budget.

        Raises:
            ClerkUnavailable: There is no answer, or none of use.
            UserNotFound, TokenRefused: As ``fetch`` says.
        """
        with budget.spending():
            self._breaker.check()
            if budget.remaining <= 0 or not _slots.acquire(timeout=budget.remaining):
                raise ClerkUnavailable(
                    "upstream-timeout", "no time left to ask Clerk", retry_after=self.retry_after or 1
                )
            try:
                return self._visit(fetch, min(limit, budget.remaining), retry)
            finally:
                _slots.release()

    def _visit(self, fetch: Callable[[], T], seconds: float, retry: bool) -> T:
        import httpx
        from clerk_backend_api.models import ClerkBaseError, NoResponseError

        probe = self._breaker.enter()
        # Nothing but httpx's own errors is named as a cause: the SDK's carry the answer's body in their text.
        try:
            answer = _in_time(fetch, seconds, retry)
        except (UserNotFound, TokenRefused):  # a definite answer
            self._breaker.succeeded(probe)
            raise
        except ClerkBaseError as error:
            raise self._refused(error, probe) from None
        except httpx.HTTPError as error:
            raise self._unreachable(error, probe) from error
        except (httpx.InvalidURL, NoResponseError, ValueError, RuntimeError) as error:
            # RuntimeError: JSON nested too deeply, or no thread to be had.
            raise self._unavailable(probe, f"an answer of no use ({type(error).__name__})", answered=True) from None
        except BaseException:
            self._breaker.failed(probe)  # interrupted; whoever probes must say that it is over
            raise
        self._breaker.succeeded(probe)
        return answer

    def _refused(self, error: ClerkBaseError, probe: bool) -> ClerkUnavailable:
        status = error.status_code
        code = error_code(error.body) if status < 500 else None
        detail = f"status {status}" if code is None else f"status {status}, {code}"
        pause = min(self._longest_pause, _pause(error.headers.get("retry-after")))
        if status in (401, 403):
            self._log_rarely(
                logging.CRITICAL,
                "Clerk's API refuses %s (status %d). What is known here still serves, nothing new can be fetched. "
                "Compare the key with Clerk's dashboard.",
                self._key_setting,
                status,
            )
            return self._unavailable(probe, detail, reason="secret-key-invalid", status=status)
        return self._unavailable(probe, detail, pause=pause, at_once=status == 429, status=status)

    def _unreachable(self, error: Exception, probe: bool) -> ClerkUnavailable:
        import httpx

        from clerk_views.transport import TLSError

        if isinstance(error, TLSError):
            self._log_rarely(logging.ERROR, "Clerk's API at %s fails to prove its identity: %s", self._api_url, error)
        reason = "upstream-timeout" if isinstance(error, httpx.TimeoutException) else "upstream-unavailable"
        return self._unavailable(probe, f"{type(error).__name__}: {error}", reason=reason)

    def _unavailable(
        self,
        probe: bool,
        detail: str,
        *,
        reason: str = "upstream-unavailable",
        pause: float = PAUSE,
        at_once: bool = False,
        answered: bool = False,
        status: int | None = None,
    ) -> ClerkUnavailable:
        """Note a failed call, and return the error that says so."""
        self._breaker.failed(probe, pause=pause, at_once=at_once)
        logger.warning("A call to Clerk's API failed: %.200s", detail)
        return ClerkUnavailable(
            reason,
            f"Clerk's API: {detail}",
            retry_after=self.retry_after or 1,
            answered=answered or status is not None,
            status=status,
        )

    def _log_rarely(self, level: int, message: str, *args: object) -> None:
        now = time.monotonic()
        if now - self._logged.get(level, -LOG_INTERVAL) >= LOG_INTERVAL:
            self._logged[level] = now
            logger.log(level, message, *args)


def _in_time(fetch: Callable[[], T], seconds: float, retry: bool) -> T:
    """Ask, and at once a second time where what failed may have been no more than an accident."""
    import httpx
    from clerk_backend_api.models import ClerkBaseError

    from clerk_views.transport import TLSError, within

    with within(seconds):
        if retry:
            try:
                return fetch()
            except ClerkBaseError as error:
                if error.status_code != 408 and error.status_code < 500:
                    raise
            except TLSError:
                raise
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                pass  # a connection that was closed meanwhile, say
        return fetch()


def _pause(header: str | None) -> float:
    """Return the seconds that a ``Retry-After`` asks for, one at least. Source: RFC 9110, section 10.2.3."""
    if header is None:
        return PAUSE
    try:
        if re.fullmatch(r"[0-9]+", header):
            seconds = float(header)
        else:
            seconds = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return PAUSE
    return max(1.0, seconds)


_slots = threading.BoundedSemaphore(MAX_CALLS)


def _start_anew() -> None:
    """In a forked child: those who hold the places are threads that are no more."""
    global _slots
    _slots = threading.BoundedSemaphore(MAX_CALLS)


os.register_at_fork(after_in_child=_start_anew)
