"""The users that the stand-in knows, and Clerk's answers about them: one body, a filtered list, a count."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from clerk_views.testing.minting import new_id


class LocalUser:
    """
    A user of the stand-in. A handle: it always shows the user as the server has it now.

    Attributes:
        id: Clerk's id, ``user_…``.
    """

    def __init__(self, body: dict[str, Any]) -> None:
        self._body = body
        self.id: str = body["id"]

    def __repr__(self) -> str:
        return f"<LocalUser {self.id}>"

    @property
    def email(self) -> str | None:
        """The primary e-mail address, verified or not; None if there is none."""
        primary_id = self._body["primary_email_address_id"]
        return next((entry["email_address"] for entry in self._addresses() if entry.get("id") == primary_id), None)

    @property
    def name(self) -> str:
        """What to call this user on a page: first and last name, else user name, else e-mail address, else id."""
        names = [str(self._body[part]) for part in ("first_name", "last_name") if self._body[part]]
        return " ".join(names) or str(self._body["username"] or self.email or self.id)

    @property
    def data(self) -> dict[str, Any]:
        """The body with which Clerk's API answers for this user; a copy."""
        return copy.deepcopy(self._body)

    def _addresses(self) -> list[dict[str, Any]]:
        return [entry for entry in self._body["email_addresses"] if isinstance(entry, dict)]


def now_ms() -> int:
    """Return the time in milliseconds, the unit of all of Clerk's timestamps."""
    return int(time.time() * 1000)


def email_body(address: str, verified: bool | str | None = True) -> dict[str, Any]:
    """
    Return an entry of ``email_addresses``.

    Args:
        verified: True or False; or a status such as "expired" or "failed"; or None for an entry that carries no
            verification at all.
    """
    if isinstance(verified, bool):
        verified = "verified" if verified else "unverified"
    verification = verified and {
        "object": "verification_otp",
        "status": verified,
        "strategy": "email_code",
        "attempts": 1,
        "expire_at": now_ms() + 600_000,
    }
    return {
        "id": new_id("idn"),
        "object": "email_address",
        "email_address": address,
        "reserved": False,
        "verification": verification,
        "linked_to": [],
        "matches_sso_connection": False,
        "created_at": now_ms(),
        "updated_at": now_ms(),
    }


def user_body(
    *,
    id: str | None = None,
    email: str | None = None,
    verified: bool | str | None = True,
    email_addresses: Iterable[str | Mapping[str, Any]] = (),
    **fields: Any,
) -> dict[str, Any]:
    """
    Return a complete User as Clerk's API sends it.

    Args:
        id: None for a fresh one.
        email: The primary address; None for a user without one.
        verified: Of the primary address; see email_body().
        email_addresses: Further addresses: text for a verified one, or an entry's body as it should stand there.
        fields: Any other member of the body, known to Clerk or not, of any type.
    """
    id = id or new_id("user")
    now = now_ms()
    addresses: list[Any] = [email_body(email, verified)] if email is not None else []
    primary_id = addresses[0]["id"] if addresses else None
    addresses += [email_body(entry) if isinstance(entry, str) else dict(entry) for entry in email_addresses]
    body: dict[str, Any] = {
        "id": id,
        "object": "user",
        "external_id": None,
        "username": None,
        "first_name": None,
        "last_name": None,
        "locale": None,
        "image_url": f"https://img.clerk.com/{id}",
        "has_image": False,
        "profile_image_url": f"https://img.clerk.com/{id}",
        "primary_email_address_id": primary_id,
        "primary_phone_number_id": None,
        "primary_web3_wallet_id": None,
        "email_addresses": addresses,
        "phone_numbers": [],
        "web3_wallets": [],
        "passkeys": [],
        "external_accounts": [],
        "saml_accounts": [],
        "enterprise_accounts": [],
        "public_metadata": {},
        "private_metadata": {},
        "unsafe_metadata": {},
        "password_enabled": True,
        "two_factor_enabled": False,
        "totp_enabled": False,
        "backup_code_enabled": False,
        "mfa_enabled_at": None,
        "mfa_disabled_at": None,
        "password_last_updated_at": now,
        "banned": False,
        "locked": False,
        "lockout_expires_in_seconds": None,
        "verification_attempts_remaining": 100,
        "deprovisioned": False,
        "delete_self_enabled": True,
        "create_organization_enabled": True,
        "create_organizations_limit": None,
        "bypass_client_trust": False,
        "last_sign_in_at": None,
        "last_active_at": now - now % 86_400_000,  # Clerk keeps the day alone
        "legal_accepted_at": None,
        "created_at": now,
        "updated_at": now,
    }
    return {**body, **fields}


class Directory:
    """All users, in the order in which they were added. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._users: dict[str, LocalUser] = {}

    def add(self, body: dict[str, Any]) -> LocalUser:
        """Add a user. Raises ValueError if the id is taken."""
        user = LocalUser(body)
        with self._lock:
            if user.id in self._users:
                raise ValueError(f"There is a user {user.id} already.")
            self._users[user.id] = user
        return user

    def find(self, user_id: str) -> LocalUser | None:
        """Return the user, or None."""
        with self._lock:
            return self._users.get(user_id)

    def identified_by(self, text: str) -> LocalUser | None:
        """Return the user who has this e-mail address or user name, in whatever case; or None."""
        wanted = text.strip().lower()
        for user in self.users():
            names = [user.data["username"], *(entry.get("email_address") for entry in user._addresses())]
            if wanted and wanted in [str(name).lower() for name in names if name]:
                return user
        return None

    def get(self, user: LocalUser | str) -> LocalUser:
        """Return the user. Raises LookupError if there is none."""
        user_id = id_of(user)
        found = self.find(user_id)
        if found is None:
            raise LookupError(f"There is no user {user_id}.")
        return found

    def update(self, user: LocalUser | str, fields: Mapping[str, Any]) -> LocalUser:
        """
        Change members of a user's body, and with them ``updated_at``, which always rises unless it is given.

        ``email`` and ``verified`` stand for a new primary address in place of the old one.
        Raises LookupError if there is no such user.
        """
        changes = dict(fields)
        with self._lock:
            found = self.get(user)
            body = found._body
            if "email" in changes or "verified" in changes:
                email = changes.pop("email", found.email)
                entry = email_body(email, changes.pop("verified", True))
                others = [other for other in found._addresses() if other.get("id") != body["primary_email_address_id"]]
                changes = {"email_addresses": [entry, *others], "primary_email_address_id": entry["id"], **changes}
            if "updated_at" not in changes:
                changes["updated_at"] = max(now_ms(), body["updated_at"] + 1)
            found._body = {**body, **changes}  # a new one, since other threads may be reading the old
        return found

    def remove(self, user: LocalUser | str) -> None:
        """Forget a user. Raises LookupError if there is no such user."""
        with self._lock:
            del self._users[self.get(user).id]

    def clear(self) -> None:
        """Forget everybody."""
        with self._lock:
            self._users.clear()

    def users(self) -> list[LocalUser]:
        """Return all users, oldest first."""
        with self._lock:
            return list(self._users.values())

    def select(self, query: Mapping[str, list[str]]) -> list[dict[str, Any]]:
        """
        Return the bodies that Clerk's filters leave over, in the order asked for, without limit and offset.

        Source: Clerk, ``GET /v1/users``. Known here: email_address, user_id, username, external_id (each may repeat),
        query, banned and order_by; other filters are ignored.
        """
        with self._lock:
            # As they are, since a changed user gets a new body; copies of a hundred thousand would take long.
            bodies = [user._body for user in self._users.values() if _fits(user, query)]
        order = query.get("order_by", ["-created_at"])[0]
        name = order.lstrip("+-")
        # Stable sorting and the order of adding settle what was created within the same millisecond. Numbers are
        # compared as text of equal length, so that members of odd types sort somewhere instead of failing.
        width = 20 if name.endswith("_at") else 0
        bodies.sort(key=lambda body: str(body.get(name) or "").rjust(width, "0"))
        return bodies[::-1] if order.startswith("-") else bodies


_FILTERS = frozenset({"email_address", "user_id", "username", "external_id", "banned", "query"})


def _fits(user: LocalUser, query: Mapping[str, list[str]]) -> bool:
    if not _FILTERS & query.keys():
        return True
    body = user._body
    addresses = {str(entry.get("email_address")).lower() for entry in user._addresses()}
    text = query.get("query", [""])[0].lower()
    searched = {*addresses, *(str(body[name] or "").lower() for name in ("id", "username", "first_name", "last_name"))}
    return (
        ("email_address" not in query or bool(addresses & {value.lower() for value in query["email_address"]}))
        and ("user_id" not in query or user.id in query["user_id"])
        and ("username" not in query or body["username"] in query["username"])
        and ("external_id" not in query or body["external_id"] in query["external_id"])
        and ("banned" not in query or body["banned"] is (query["banned"][0] == "true"))
        and any(text in value for value in searched)
    )


class Known(Protocol):
    """What Clerk has an id for: a user, an organisation, a machine."""

    id: str


def id_of(known: Known | str) -> str:
    """Return the Clerk id of what has one, or of an id."""
    return known if isinstance(known, str) else known.id
