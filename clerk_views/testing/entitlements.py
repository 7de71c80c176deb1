"""
What a token says about an organisation, a role, permissions, features and plans: plain words in, Clerk's claims out.

Pure: it knows neither server nor key. LocalClerk.token() collects the words, from its keywords and from the directory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# Clerk's words for a scope, and where each counts: for the organisation, for the user. Source: Clerk, "has()", and for
# "ou" and "uo" its session tokens.
_SCOPES = {
    "o": (True, False),
    "org": (True, False),
    "organization": (True, False),
    "u": (False, True),
    "user": (False, True),
    "ou": (True, True),
    "uo": (True, True),
}


def scoped_role(role: str) -> str:
    """Return a role with its ``org:``, which may have been left out. Raises ValueError if nothing is left."""
    return f"org:{_word(role.removeprefix('org:'), 'role')}"


def scoped_permission(permission: str) -> str:
    """Return ``org:<feature>:<name>``; ``org:`` may have been left out. Raises ValueError for any other form."""
    feature, colon, name = permission.removeprefix("org:").partition(":")
    if not colon:
        raise ValueError(f"{permission!r} is no permission: write org:<feature>:<name>, as in org:invoices:create.")
    return f"org:{_word(feature, 'permission')}:{_word(name, 'permission')}"


def permissions_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Return permissions as scoped_permission() does, each once. Raises ValueError likewise."""
    return tuple(dict.fromkeys(map(scoped_permission, _several(texts))))


def slugs_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Return slugs of plans or features. Raises ValueError for one that no list could carry, or that has a scope."""
    slugs = tuple(_word(text, "slug") for text in _several(texts))
    for slug in slugs:
        if ":" in slug:
            raise ValueError(f"{slug!r} has a scope, which follows from whose plan it is: leave it out here.")
    return slugs


@dataclass(frozen=True)
class ActiveOrganization:
    """
    The organisation that a token is for.

    ``role`` and ``permissions`` are written with ``org:``; ``slug`` is None where the token names none.
    """

    id: str
    role: str
    slug: str | None = None
    permissions: tuple[str, ...] = ()


class Scoped:
    """
    Slugs of features or of plans, each for the organisation, for the user, or for both.

    Each text is ``scope:slug`` with any of Clerk's scopes (``o``, ``org``, ``organization``, ``u``, ``user``, ``uo``,
    ``ou``), or a slug alone, which belongs to the organisation where one is active, else to the user. Raises ValueError
    for an unknown scope, or for what a comma list cannot carry.
    """

    def __init__(self, texts: Iterable[str] = (), *, in_organization: bool) -> None:
        self._found: dict[str, tuple[bool, bool]] = {}
        for text in _several(texts):
            scope, colon, slug = text.partition(":")
            if not colon:
                scope, slug = ("o" if in_organization else "u"), text
            if scope not in _SCOPES:
                raise ValueError(f"{text!r} has an unknown scope: write org:<slug>, user:<slug> or uo:<slug>.")
            self.add(slug, *_SCOPES[scope])

    def add(self, slug: str, organization: bool, user: bool) -> None:
        """Add a slug, or add scopes to one that is there."""
        before = self._found.get(_word(slug, "slug"), (False, False))
        self._found[slug] = (before[0] or organization, before[1] or user)

    @property
    def of_organization(self) -> list[str]:
        """The slugs that count for the organisation, in the order of the claim."""
        return [slug for slug, (organization, _) in self._found.items() if organization]

    @property
    def claim(self) -> str | None:
        """
        The comma list as ``fea`` and ``pla`` carry it; None for an empty one.

        What counts for the organisation comes first. Clerk's documentation numbers permission masks over the whole
        list, its JavaScript over the organisation's part; in this order the two agree.
        """
        ordered = sorted(self._found.items(), key=lambda entry: not entry[1][0])
        names = {(True, False): "o", (False, True): "u", (True, True): "uo"}
        return ",".join(f"{names[scopes]}:{slug}" for slug, scopes in ordered) or None


def organization_claims(
    version: int, organization: ActiveOrganization | None, features: Scoped, plans: Scoped
) -> dict[str, Any]:
    """
    Return the claims about organisation, features and plans as Clerk writes them; None as a value means no claim.

    In version 2 a permission belongs to a feature and can only be told through it. So the feature of each permission
    joins the organisation's features. Permissions that begin with ``org:sys_`` are never in a token.

    Source: Clerk, "session token claims": ``o``, ``fea``, ``pla``; in version 1 ``org_id``, ``org_role``, ….
    """
    claims: dict[str, Any] = {}
    if organization is not None:
        permissions = [text for text in organization.permissions if not text.startswith("org:sys_")]
        if version == 2:
            claims["o"] = {
                "id": organization.id,
                "rol": organization.role.removeprefix("org:"),
                **({} if organization.slug is None else {"slg": organization.slug}),
                **_masks(permissions, features),
            }
        else:
            claims |= {
                "org_id": organization.id,
                "org_permissions": permissions,
                "org_role": organization.role,
                "org_slug": organization.slug,
            }
    return {**claims, "fea": features.claim, "pla": plans.claim}


def _masks(permissions: Iterable[str], features: Scoped) -> dict[str, str]:
    """
    Return ``per`` and ``fpm``: the names of all permissions, and for each feature which of them it has.

    Bit 0 stands for the first name. The features of the permissions are added to the others.
    """
    pairs = [text.removeprefix("org:").split(":", 1) for text in permissions]
    if not pairs:
        return {}
    for feature, _ in pairs:
        features.add(feature, organization=True, user=False)
    names = list(dict.fromkeys(name for _, name in pairs))
    masks = [
        sum(1 << bit for bit, name in enumerate(names) if [feature, name] in pairs)
        for feature in features.of_organization
    ]
    return {"per": ",".join(names), "fpm": ",".join(map(str, masks))}


def _several(texts: Iterable[str]) -> Iterable[str]:
    # A text is an iterable of texts as well, so this mistake would pass for a list of one-letter slugs.
    if isinstance(texts, str):
        raise TypeError(f"Write a list: [{texts!r}].")
    return texts


def _word(text: str, kind: str) -> str:
    # The claims are comma lists whose entries are trimmed by their readers.
    if not text or "," in text or text != text.strip():
        raise ValueError(
            f"{text!r} cannot be a {kind} in Clerk's claims: it is empty or holds a comma or outer blanks."
        )
    return text
