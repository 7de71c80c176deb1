"""
What can go wrong, as one tree of errors.

::

    ClerkError
    ├── TokenRefused       401  they are not who they say: the credential is bad
    ├── AccountRefused     403  we know who they are, and they may not come in
    ├── UserNotFound            Clerk says, definitely, that there is no such user
    └── ClerkUnavailable   503  we could not find out: Clerk, cache or database is away

Three answers, three errors: an outage must never look like a sign-out. Every error has a ``reason``,
a fixed kebab-case code that is safe to show; none carries a token, a claim or a setting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.exceptions import PermissionDenied

#: What everybody is told who may not.
FORBIDDEN = "You may not do this."


class ClerkError(Exception):
    """
    The root of the tree.

    Attributes:
        reason: Kebab-case code, Clerk's own where Clerk has one.
        detail: What went wrong, for the log and never for the visitor; the reason where there is no more to say.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason
        self.detail = detail or reason


class TokenRefused(ClerkError):
    """The credential was looked at and is bad. ``detail`` is for the log, never for the visitor."""


class AccountRefused(ClerkError, PermissionDenied):
    """
    The token is good, but its user may not come in: inactive, banned, deleted, or not to be linked.

    A PermissionDenied too, so that Django answers 403 wherever a lazy ``request.user`` happens to raise it. Hence its
    text and its arguments are what may be shown: Django hands the one to the project's 403 page, REST framework makes
    JSON of the others. A traceback shows the detail besides, as a note.

    Attributes:
        rewrite: Writes once more what shut the account, for when the refusal undoes the transaction that holds it
            (``ATOMIC_REQUESTS``). None where nothing can be undone. Call it after that transaction.
    """

    rewrite: Callable[[], object] | None = None

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.args = ({"detail": FORBIDDEN, "code": reason},)
        self.add_note(f"For the log: {self.detail}")

    def __str__(self) -> str:
        return FORBIDDEN

    def __reduce__(self) -> tuple[Any, ...]:  # by the arguments, copies would be made otherwise
        return type(self), (self.reason, self.detail), self.__dict__


class UserNotFound(ClerkError):
    """Clerk answered that it has no such user (HTTP 404)."""

    def __init__(self, detail: str = "") -> None:
        super().__init__("user-not-found", detail)


class ClerkUnavailable(ClerkError):
    """
    It could not be decided, because something we depend on is away.

    Attributes:
        retry_after: Whole seconds until another try makes sense, 1 to 120.
        answered: Whether Clerk was reached, and only its answer is of no use.
        status: The HTTP status of an answer that says it cannot be given; None if there was no such answer.
    """

    def __init__(
        self,
        reason: str,
        detail: str = "",
        *,
        retry_after: float = 5,
        answered: bool = False,
        status: int | None = None,
    ) -> None:
        super().__init__(reason, detail)
        self.answered = answered
        self.status = status
        self.retry_after = max(1, min(120, -int(-retry_after // 1)))


class NotInMemory(Exception):
    """Raised instead of doing I/O when the caller asked for an answer from memory alone."""
