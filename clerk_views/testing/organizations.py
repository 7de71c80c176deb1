"""
The organisations of the stand-in: who belongs to which, in what role, and what may be done there.

Also what organisations and users have subscribed to, since both hold plans and features alike. What of this goes into
a token, and how, is in entitlements.py.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from clerk_views.testing.directory import LocalUser, now_ms
from clerk_views.testing.entitlements import (
    ActiveOrganization,
    Scoped,
    organization_claims,
    permissions_of,
    scoped_role,
)
from clerk_views.testing.minting import new_id


class Subscription(NamedTuple):
    """What a user or an organisation has: slugs of plans and of features, without a scope."""

    plans: tuple[str, ...] = ()
    features: tuple[str, ...] = ()


class LocalOrganization:
    """
    An organisation of the stand-in. A handle: it always shows the organisation as the server has it now.

    Attributes:
        id: Clerk's id, ``org_…``.
        name: What people call it.
        slug: What URLs call it.
    """

    def __init__(self, name: str, slug: str, id: str, roles: Mapping[str, Iterable[str]], image_url: str = "") -> None:
        self.id = id
        self.name = name
        self.slug = slug
        self._image_url = image_url
        self._created_at = now_ms()
        self._roles = {scoped_role(role): permissions_of(permissions) for role, permissions in roles.items()}

    def __repr__(self) -> str:
        return f"<LocalOrganization {self.id}, {self.slug}>"

    @property
    def data(self) -> dict[str, Any]:
        """The body with which Clerk's API answers for this organisation, without its count of members."""
        return {
            "object": "organization",
            "id": self.id,
            "name": self.name,
            "slug": self.slug,
            "image_url": self._image_url,
            "has_image": False,
            "max_allowed_memberships": 5,
            "admin_delete_enabled": True,
            "public_metadata": {},
            "private_metadata": {},
            "created_at": self._created_at,
            "updated_at": self._created_at,
        }

    def permissions_of(self, role: str) -> tuple[str, ...]:
        """Return what a role may do here unless a membership says otherwise; nothing for a role without a list."""
        return self._roles.get(role, ())


class LocalMembership(NamedTuple):
    """
    That a user belongs to an organisation.

    ``role`` and ``permissions`` are written with ``org:``. ``created_at`` and ``updated_at`` are in milliseconds.
    """

    id: str
    organization: LocalOrganization
    user_id: str
    role: str
    permissions: tuple[str, ...]
    created_at: int
    updated_at: int

    @property
    def role_name(self) -> str:
        """The role as pages show it: "Billing Clerk" for ``org:billing_clerk``."""
        return self.role.removeprefix("org:").replace("_", " ").title()

    def data(self, user: LocalUser, members_count: int) -> dict[str, Any]:
        """Return the body with which Clerk's API answers for this membership of the user."""
        body = user.data
        shown = {
            name: body[name]
            for name in ("first_name", "last_name", "username", "image_url", "profile_image_url", "has_image", "banned")
        }
        return {
            "object": "organization_membership",
            "id": self.id,
            "role": self.role,
            "role_name": self.role_name,
            "permissions": list(self.permissions),
            "public_metadata": {},
            "private_metadata": {},
            "organization": {**self.organization.data, "members_count": members_count},
            "public_user_data": {"user_id": user.id, "identifier": user.email or user.data["username"], **shown},
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }


class Organizations:
    """All organisations, memberships and subscriptions. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._organizations: dict[str, LocalOrganization] = {}
        self._memberships: dict[tuple[str, str], LocalMembership] = {}
        self._subscriptions: dict[str, Subscription] = {}

    def add(self, organization: LocalOrganization) -> LocalOrganization:
        """Add an organisation. Raises ValueError if its id or its slug is taken."""
        with self._lock:
            if any(organization.id == other.id or organization.slug == other.slug for other in self.all()):
                raise ValueError(f"There is an organisation {organization.id} or {organization.slug} already.")
            self._organizations[organization.id] = organization
        return organization

    def all(self) -> list[LocalOrganization]:
        """Return all organisations, oldest first."""
        with self._lock:
            return list(self._organizations.values())

    def get(self, organization: LocalOrganization | str) -> LocalOrganization:
        """Return the organisation, by its handle or its id. Raises LookupError if there is none."""
        wanted = organization if isinstance(organization, str) else organization.id
        with self._lock:
            if wanted not in self._organizations:
                raise LookupError(f"There is no organisation {wanted}.")
            return self._organizations[wanted]

    def join(
        self,
        organization: LocalOrganization | str,
        user_id: str,
        role: str,
        permissions: Iterable[str] | None,
    ) -> LocalMembership:
        """
        Make a user a member, or give a member another role and other permissions.

        Args:
            permissions: None for those that the role has in this organisation.

        Raises:
            LookupError: If there is no such organisation.
        """
        role = scoped_role(role)
        now = now_ms()
        with self._lock:
            place = self.get(organization)
            so_far = self._memberships.get((place.id, user_id))
            membership = LocalMembership(
                id=so_far.id if so_far else new_id("orgmem"),
                organization=place,
                user_id=user_id,
                role=role,
                permissions=place.permissions_of(role) if permissions is None else permissions_of(permissions),
                created_at=so_far.created_at if so_far else now,
                updated_at=max(now, so_far.updated_at + 1) if so_far else now,
            )
            self._memberships[place.id, user_id] = membership
        return membership

    def leave(self, organization: LocalOrganization | str, user_id: str) -> None:
        """End a membership. Raises LookupError if there is none."""
        with self._lock:
            membership = self.membership(organization, user_id)
            del self._memberships[membership.organization.id, user_id]

    def membership(self, organization: LocalOrganization | str, user_id: str) -> LocalMembership:
        """Return a user's membership. Raises LookupError if there is no such organisation, or no membership in it."""
        with self._lock:
            place = self.get(organization)
            if (place.id, user_id) not in self._memberships:
                raise LookupError(f"{user_id} is no member of {place.id}: add_member() first.")
            return self._memberships[place.id, user_id]

    def find_membership(self, membership_id: str) -> LocalMembership | None:
        """Return a membership by its own id; or None."""
        with self._lock:
            return next((entry for entry in self._memberships.values() if entry.id == membership_id), None)

    def of_user(self, user_id: str) -> list[LocalMembership]:
        """Return a user's memberships, oldest first."""
        with self._lock:
            return [membership for membership in self._memberships.values() if membership.user_id == user_id]

    def bodies_of(self, user: LocalUser) -> list[dict[str, Any]]:
        """Return the bodies with which Clerk's API answers for a user's memberships, oldest first."""
        with self._lock:
            sizes: dict[str, int] = {}
            for organization_id, _ in self._memberships:
                sizes[organization_id] = sizes.get(organization_id, 0) + 1
            return [entry.data(user, sizes[entry.organization.id]) for entry in self.of_user(user.id)]

    def subscribe(self, holder_id: str, subscription: Subscription) -> None:
        """Set what a user or an organisation has subscribed to, in place of what it had."""
        with self._lock:
            self._subscriptions[holder_id] = subscription

    def subscription(self, holder_id: str | None) -> Subscription:
        """Return what a user or an organisation has subscribed to; nothing for None and for others."""
        with self._lock:
            return self._subscriptions.get(holder_id or "", Subscription())

    def claims(
        self,
        version: int,
        user_id: str,
        *,
        organization: LocalOrganization | str | None,
        org_id: str | None,
        org_slug: str | None,
        org_role: str | None,
        org_permissions: Iterable[str] | None,
        features: Iterable[str] | None,
        plans: Iterable[str] | None,
        default_id: str,
    ) -> dict[str, Any]:
        """
        Return the claims about organisation, features and plans for what LocalClerk.token() was given.

        What is None comes from here; see token(). A value of None in the answer means no claim.

        Args:
            default_id: The organisation's id where something is said of one, but not which it is.
        """
        permissions = None if org_permissions is None else permissions_of(org_permissions)
        role = None if org_role is None else scoped_role(org_role)
        active: ActiveOrganization | None = None
        with self._lock:
            if organization is not None:
                if org_id is not None:
                    raise ValueError("Give either organization or org_id: each says which organisation is active.")
                place = self.get(organization)
                if role is None:
                    membership = self.membership(place, user_id)
                    role, allowed = membership.role, membership.permissions
                else:
                    allowed = place.permissions_of(role)
                permissions = allowed if permissions is None else permissions
                active = ActiveOrganization(place.id, role, org_slug or place.slug, permissions)
            elif any(part is not None for part in (org_id, org_slug, role, permissions)):
                active = ActiveOrganization(org_id or default_id, role or "org:member", org_slug, permissions or ())
            of_organization = self.subscription(active.id if active else None)
            of_user = self.subscription(user_id)
        return organization_claims(
            version,
            active,
            _scoped(features, of_organization.features, of_user.features, active),
            _scoped(plans, of_organization.plans, of_user.plans, active),
        )

    def forget_user(self, user_id: str) -> None:
        """End all memberships of a user, and the subscription."""
        with self._lock:
            self._subscriptions.pop(user_id, None)
            for membership in self.of_user(user_id):
                self.leave(membership.organization, user_id)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._organizations.clear()
            self._memberships.clear()
            self._subscriptions.clear()


def _scoped(
    given: Iterable[str] | None, of_organization: Iterable[str], of_user: Iterable[str], active: object
) -> Scoped:
    if given is None:
        given = [*(f"o:{slug}" for slug in of_organization), *(f"u:{slug}" for slug in of_user)]
    return Scoped(given, in_organization=active is not None)
