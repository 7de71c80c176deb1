"""
What Clerk says about a user, read once and cleaned: from the API, a webhook, or the claims of a token.

Nothing here touches the database. All of it was written by somebody else, often by the user himself, so every value
is looked at before it counts: a Profile holds what may be stored, and the one e-mail address that may link accounts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

#: As ``updated_at`` of a profile: Clerk reports that the user was deleted. No news is newer, so none brings him back.
DELETED = 2**63 - 1

#: Control characters (NUL ends text in C and is refused by PostgreSQL) and halves of surrogate pairs (no UTF-8).
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_CLERK_ID = re.compile(r"[A-Za-z0-9_]{1,255}")
_EMAIL = re.compile(r"[^\s@]+@[^\s@]+")


class _Missing(Enum):
    MISSING = "missing"


#: Not said at all, unlike None, which says: empty.
MISSING = _Missing.MISSING


class Profile(NamedTuple):
    """
    One user, as Clerk describes it at one time.

    Attributes:
        id: Clerk's id.
        updated_at: Clerk's time of the last change, in milliseconds; decides which of two profiles is older. None:
            as things are at this moment, with no word on when they became so.
        issued_at: When the token was issued whose claims these are, in milliseconds: a later time than that of the
            change that they tell of, so never to be taken for ``updated_at``. None for what is no claim.
        email: The primary address, if it is verified; None if there is none; MISSING if it is not verified or not
            told, so that what is known may stay.
        banned: MISSING if not told.
        deleted: The user is no more, and nothing else is told.
        source: The object that this was read from, for callables of CLERK_USER_FIELDS and for signals.
        told: The token's claims by Clerk's names for them, if it was read from these.
        rank: Says of two profiles of the same ``updated_at`` which is the later, by sync.rank_of(); None: it was asked
            for just now.
    """

    id: str
    updated_at: int | None
    email: str | None | _Missing
    banned: bool | _Missing
    deleted: bool
    source: Any
    told: Mapping[str, Any] | None = None  # where the values are, if not in ``source``
    issued_at: int | None = None
    rank: int | None = None

    @property
    def verified_email(self) -> str | None:
        """The verified primary e-mail address, or None."""
        return self.email if isinstance(self.email, str) else None

    @property
    def barred(self) -> bool:
        """Whether Clerk lets this user in no more: banned or deleted."""
        return self.banned is True or self.deleted

    def value(self, name: str) -> Any:
        """Return a field under Clerk's name for it, cleaned of characters that no column can hold; or MISSING."""
        if name == "id":
            return self.id
        if name == "email":
            return self.email
        return cleaned(_member(self.source if self.told is None else self.told, name))


def read_profile(clerk_user: Any) -> Profile:
    """
    Read a user as Clerk's API or a webhook describes it: an object with attributes, or a mapping.

    Raises:
        ValueError: It has no id of Clerk's shape, so there is nobody to speak of.
    """
    deleted = _member(clerk_user, "deleted") is True
    return Profile(
        id=_id(_member(clerk_user, "id")),
        updated_at=DELETED if deleted else _milliseconds(_member(clerk_user, "updated_at")),
        email=MISSING if deleted else _primary_email(clerk_user),
        banned=MISSING if deleted else _flag(_member(clerk_user, "banned")),
        deleted=deleted,
        source=clerk_user,
    )


def absent(clerk_id: str) -> Profile:
    """
    Describe a user of whom Clerk said just now that there is none (404).

    Unlike a deletion that Clerk reports, it does not outlive better news: the key of another Clerk instance in the
    settings makes everybody unknown, and must not cost everybody the account.
    """
    return read_profile({"id": clerk_id, "object": "user", "deleted": True})._replace(updated_at=None)


def read_claims(clerk_id: str, claims: Mapping[str, Any], names: Mapping[str, str]) -> Profile:
    """
    Read a user from the claims of a verified token.

    Args:
        names: Clerk field -> claim. The address counts only if the claim for ``email_verified`` is True itself.

    Raises:
        ValueError: See read_profile().
    """
    told = {field: claims[claim] for field, claim in names.items() if claim in claims}
    return Profile(
        id=_id(clerk_id),
        updated_at=None,
        email=_email(told.get("email")) if told.get("email_verified") is True else MISSING,
        banned=MISSING,
        deleted=False,
        source=claims,
        told=told,
        issued_at=_milliseconds(claims.get("iat")) * 1000,
    )


def cleaned(value: Any) -> Any:
    """Return a value without the characters that databases refuse, however deep they are in it."""
    if isinstance(value, str):
        return _UNFIT.sub("", value.value if isinstance(value, Enum) else value)
    if isinstance(value, Mapping):
        return {cleaned(key): cleaned(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [cleaned(item) for item in value]
    return value


def _member(holder: Any, name: str) -> Any:
    if isinstance(holder, Mapping):
        return holder.get(name, MISSING)
    # Clerk's models give None for what the answer left out; this is what it did not leave out.
    told = getattr(holder, "model_fields_set", None)
    if isinstance(told, set) and name not in told:
        return MISSING
    return getattr(holder, name, MISSING)


def _id(value: Any) -> str:
    if not isinstance(value, str) or not _CLERK_ID.fullmatch(value):
        raise ValueError("This is no Clerk user: it has no id such as 'user_2abc'.")
    return value


def _milliseconds(value: Any) -> int:
    """Take an unknown time for the oldest there is: it overwrites nothing that has one."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < DELETED // 1000:
        return int(value)
    return 0


def _flag(value: Any) -> bool | _Missing:
    return value if isinstance(value, bool) else MISSING


def _primary_email(clerk_user: Any) -> str | None | _Missing:
    """
    Find the address that Clerk has verified and calls primary (USR-01).

    Never "the first in the list": a user may add any address there, and need not own it.
    """
    primary_id = _member(clerk_user, "primary_email_address_id")
    entries = _member(clerk_user, "email_addresses")
    if primary_id is None and isinstance(entries, (list, tuple)):
        return None
    if not isinstance(primary_id, str) or not isinstance(entries, (list, tuple)):
        return MISSING
    primary = [entry for entry in entries if _member(entry, "id") == primary_id]
    if len(primary) != 1 or _member(_member(primary[0], "verification"), "status") != "verified":
        return MISSING
    return _email(_member(primary[0], "email_address"))


def _email(value: Any) -> str | _Missing:
    """Take an address as it is or not at all: mending it could turn it into somebody else's."""
    if not isinstance(value, str) or len(value) > 254 or _UNFIT.search(value) or not _EMAIL.fullmatch(value):
        return MISSING
    return value
