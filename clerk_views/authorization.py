"""
What does a session token say beyond who: organisation, role, permissions, billing, how recently somebody proved it?

Pure: from verified claims to an Authorization, which auth.py asks. Claims are looked at as if a stranger had written
them; whatever is not exactly of Clerk's form grants nothing, and nothing here raises for the sake of a token. What a
developer writes is checked by the ``check_…`` functions where a view is defined.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

#: As an argument of ``has``: not asked. None is asked, and fails like everything else that is no text.
UNASKED: Final[Any] = object()

LEVELS = ("first_factor", "second_factor", "multi_factor")
MAX_AFTER_MINUTES = 99_999

#: Level and minutes by name. Source: Clerk, "Reverification".
PRESETS: Mapping[str, tuple[str, int]] = {
    "strict_mfa": ("multi_factor", 10),
    "strict": ("second_factor", 10),
    "moderate": ("second_factor", 60),
    "lax": ("second_factor", 1440),
}

# The words for a scope differ: short in a token, several in what is asked. Source: Clerk's JavaScript SDK, "has".
_ORGANIZATION_IN_TOKEN = ("o", "ou", "uo")
_USER_IN_TOKEN = ("u", "ou", "uo")
_ORGANIZATION_ASKED = ("o", "org", "organization")
_USER_ASKED = ("u", "user")

_ROLE_PREFIXES = re.compile(r"(?:org:)*")
# JavaScript and Python trim different characters; these are trimmed by both, and no other one may stand in a name.
_BLANKS = " \t\n\r\f\v"
# The most digits that int() takes whatever the interpreter's limit is set to; for more it raises.
_DIGITS_AT_ONCE = sys.int_info.str_digits_check_threshold
# All who have one role under one plan bring the same lists, and share what is read from them.
_SHARED = 256


class Reverification(NamedTuple):
    """
    How recently the user must have proved who he is.

    Attributes:
        level: One of LEVELS.
        after_minutes: The age at which a proof is too old.
        preset: The name in PRESETS that was asked for; None if level and minutes were.
    """

    level: str
    after_minutes: float
    preset: str | None = None

    @property
    def asked(self) -> str | dict[str, Any]:
        """What was asked for, as Clerk's browser helper expects to hear it back."""
        return self.preset or {"level": self.level, "afterMinutes": self.after_minutes}

    def passes(self, ages: tuple[float, float] | None) -> bool:
        """
        Whether factors of these ages suffice. See Authorization.factor_ages.

        Where one factor is not enrolled the other has to do, but never the second for the first where the first is
        asked for. Source: Clerk's JavaScript SDK, "has".
        """
        if ages is None:
            return False
        first, second = ages
        first_is_fresh = first != -1 and first < self.after_minutes
        second_is_fresh = second != -1 and second < self.after_minutes
        if self.level == "first_factor":
            return first_is_fresh
        if second == -1:
            return first_is_fresh
        return second_is_fresh and (self.level == "second_factor" or first_is_fresh)


def parse_reverification(value: object) -> Reverification:
    """
    Return what a preset's name, or ``{"level": …, "afterMinutes": …}``, asks for.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(value, Reverification):
        known = PRESETS.get(value.preset) if isinstance(value.preset, str) else None
        if value.preset is None:
            parse_reverification(value.asked)
        elif known != (value.level, value.after_minutes):
            raise ValueError(f"There is no reverification preset of this kind: {value!r:.200}.")
        return value
    if isinstance(value, str):
        if value not in PRESETS:
            raise ValueError(f"There is no reverification preset {value!r:.100}; there are {', '.join(PRESETS)}.")
        return Reverification(*PRESETS[value], preset=value)
    if not isinstance(value, Mapping) or set(value) != {"level", "afterMinutes"}:
        raise ValueError(
            f"reverification must be one of {', '.join(PRESETS)}, or a dictionary with just the keys 'level' and "
            f"'afterMinutes'; it is {_shown(value)}."
        )
    level, minutes = value["level"], value["afterMinutes"]
    if not isinstance(level, str) or level not in LEVELS:
        raise ValueError(f"'level' of a reverification must be one of {', '.join(LEVELS)}; it is {_shown(level)}.")
    if not _is_number(minutes) or not 0 < minutes <= MAX_AFTER_MINUTES:
        raise ValueError(
            "'afterMinutes' of a reverification must be a number above 0, and at most "
            f"{MAX_AFTER_MINUTES}; it is {_shown(minutes)}."
        )
    return Reverification(level, minutes)


def check_role(value: object) -> str:
    """
    Return a role that a view asks for, with or without ``org:``, as it was given.

    Raises:
        TypeError: It is no text.
        ValueError: It names no role.
    """
    return _check_named("role", value, "org:admin")


def check_permission(value: object) -> str:
    """
    Return a permission that a view asks for, with or without ``org:``, as it was given.

    Raises:
        TypeError: It is no text.
        ValueError: It names no permission, or one of Clerk's system permissions, which are in no token.
    """
    text = _check_named("permission", value, "org:invoices:create")
    feature, _, name = _without_prefix(text).partition(":")
    if feature.startswith("sys_"):
        raise ValueError(
            f"permission={text!r:.200} is a system permission of Clerk's. Those are in no session token, so nobody "
            "could ever come in. Ask for the role, or for a permission of your own."
        )
    if not feature or not name or ":" in name:
        raise ValueError(
            f"permission={text!r:.200} names no permission. It has a feature and a name, as in 'org:invoices:create'."
        )
    return text


def check_feature(value: object) -> str:
    """
    Return a feature that a view asks for, with or without a scope, as it was given.

    Raises:
        TypeError: It is no text.
        ValueError: It names no feature, or its scope is none of Clerk's.
    """
    return _check_scoped("feature", value, "org:reports")


def check_plan(value: object) -> str:
    """See check_feature()."""
    return _check_scoped("plan", value, "user:pro")


def _check_named(what: str, value: object, example: str) -> str:
    text = _check_text(what, value, example)
    if _asked_name(text) is None or not _is_writable(text):
        raise ValueError(
            f"{what}={text!r:.200} names no {what}. Write one as in Clerk's dashboard, for example {example!r}."
        )
    return text


def _is_writable(text: str) -> bool:
    """Whether a key in Clerk's dashboard may look so: no blanks, nothing invisible, no list of several."""
    return text.isprintable() and not set(text) & set(" ,")


def _check_scoped(what: str, value: object, example: str) -> str:
    text = _check_text(what, value, example)
    if _asked_scoped(text) is None or text.endswith(":") or not _is_writable(text):
        scopes = ", ".join(_ORGANIZATION_ASKED + _USER_ASKED)
        raise ValueError(
            f"{what}={text!r:.200} names no {what}: before the colon stands one of {scopes}, or no scope and no colon, "
            f"and the name must not be empty. For example {example!r}."
        )
    if text.count(":") > 1:
        # Clerk would look at the first name alone, and so ask for less than is written here.
        raise ValueError(f"{what}={text!r:.200} has more than one colon. If it is a permission, ask for that instead.")
    return text


def _check_text(what: str, value: object, example: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{what} must be text, for example {example!r}; it is {_shown(value)}.")
    return value


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return f"a dictionary with the keys {', '.join(_shown(key) for key in list(value)[:5])}"
    # What is written out must not raise, as a number of more than some thousand digits does.
    return f"{value!r:.100}" if value is None or isinstance(value, (str, float)) else f"of type {type(value).__name__}"


def _asked_name(value: object) -> str | None:
    """Return the name of a role or permission that is asked for, without ``org:``; None if it is none."""
    return _without_prefix(value) or None if isinstance(value, str) else None


def _without_prefix(text: str) -> str:
    """Remove ``org:`` from the front, however often it stands there."""
    match = _ROLE_PREFIXES.match(text)
    return text[match.end() :] if match else text


def _asked_scoped(value: object) -> tuple[bool, bool, str] | None:
    """Return whether a feature may be an organisation's, may be a user's, and its name; None if it is none."""
    if not isinstance(value, str):
        return None
    scope, *names = value.split(":")
    if not names:
        return (True, True, value) if value else None
    for_organization, for_user = scope in _ORGANIZATION_ASKED, scope in _USER_ASKED
    # With nothing after the colon, Clerk looks for one that is named like the scope.
    return (for_organization, for_user, names[0] or scope) if for_organization or for_user else None


class Scoped(NamedTuple):
    """The names of features or plans: those of the active organisation, and those of the user."""

    organization: tuple[str, ...] = ()
    user: tuple[str, ...] = ()

    def has(self, value: object) -> bool:
        """Whether what is asked for is among them; not if it is no text, or of a scope nobody knows."""
        asked = _asked_scoped(value)
        if asked is None:
            return False
        for_organization, for_user, name = asked
        return (for_organization and name in self.organization) or (for_user and name in self.user)


class PackedPermissions:
    """
    Permissions as version 2 writes them: feature by feature a mask over one list of names.

    They stay packed, because few features and few names can make very many permissions.

    Attributes:
        readings: By feature the mask, whose bit 0 stands for the first name; twice, as Clerk's SDKs disagree on which
            mask is which feature's. Only what both grant is granted (ORG-01).
        names: "" for one that cannot be a permission's.
    """

    __slots__ = ("names", "readings")

    def __init__(self, readings: tuple[Mapping[str, int], Mapping[str, int]], names: tuple[str, ...]) -> None:
        self.readings = readings
        self.names = names

    def __contains__(self, permission: str) -> bool:
        if not permission.startswith("org:"):
            return False
        feature, _, name = permission.removeprefix("org:").partition(":")
        return all(name in self._unpack(masks.get(feature, 0)) for masks in self.readings)

    def __iter__(self) -> Iterator[str]:
        first, second = self.readings
        for feature, mask in first.items():
            others = self._unpack(second[feature])
            yield from (f"org:{feature}:{name}" for name in self._unpack(mask) if name in others)

    def _unpack(self, mask: int) -> dict[str, None]:
        """Return the names, in order, for which a bit is set."""
        bits = reversed(f"{mask:b}")
        return {name: None for name, bit in zip(self.names, bits, strict=False) if bit == "1" and name}


class Authorization(NamedTuple):
    """
    What a session may do, as far as its token says.

    Attributes:
        org_id: The active organisation; None without one, and then there is no slug, role or permission either.
        org_role: With ``org:``.
        permissions: Each as ``org:<feature>:<name>``.
        factor_ages: Minutes since the first and the second factor were proved, -1 for one that never was; None if not
            told.
    """

    org_id: str | None = None
    org_slug: str | None = None
    org_role: str | None = None
    permissions: tuple[str, ...] | PackedPermissions = ()
    features: Scoped = Scoped()
    plans: Scoped = Scoped()
    factor_ages: tuple[float, float] | None = None

    def has(
        self,
        *,
        role: object = UNASKED,
        permission: object = UNASKED,
        feature: object = UNASKED,
        plan: object = UNASKED,
        reverification: object = UNASKED,
    ) -> bool:
        """
        Whether everything that is asked holds, and something is asked. Never raises.

        Source: Clerk's JavaScript SDK, "has"; where it is lax, undecided means no.
        """
        asked: tuple[tuple[Callable[[object], bool], object], ...] = (
            (self._has_role, role),
            (self._has_permission, permission),
            (self.features.has, feature),
            (self.plans.has, plan),
            (self._has_reverification, reverification),
        )
        answers = [holds(value) for holds, value in asked if value is not UNASKED]
        return bool(answers) and all(answers)

    def _has_role(self, value: object) -> bool:
        name = _asked_name(value)
        return name is not None and self.org_role is not None and name == _without_prefix(self.org_role)

    def _has_permission(self, value: object) -> bool:
        name = _asked_name(value)
        return name is not None and f"org:{name}" in self.permissions

    def _has_reverification(self, value: object) -> bool:
        try:
            return parse_reverification(value).passes(self.factor_ages)
        except ValueError:
            return False


NOTHING = Authorization()


def decode(claims: Mapping[str, Any]) -> Authorization:
    """
    Read verified claims of version 1 or 2. Another version's say nothing (I8): its words may mean something else.

    The version decides; claims in the manner of the other one are not looked at, since an application's author may put
    them there (ORG-03).

    Source: Clerk, "Session tokens", versions 1 and 2.
    """
    version = claims.get("v", 1)
    if type(version) is not int:  # neither True, which equals 1, nor 2.0
        return NOTHING
    if version == 1:
        return _decode_1(claims)
    return _decode_2(claims) if version == 2 else NOTHING


def _decode_1(claims: Mapping[str, Any]) -> Authorization:
    ages = _factor_ages(claims.get("fva"))
    org_id = _name(claims.get("org_id"))
    if org_id is None:
        return Authorization(factor_ages=ages)
    role, permissions = _name(claims.get("org_role")), claims.get("org_permissions")
    if role is not None and not role.startswith("org:"):
        role = f"org:{role}"  # very old tokens leave it out
    return Authorization(
        org_id=org_id,
        org_slug=_name(claims.get("org_slug")),
        org_role=role,
        permissions=tuple(permissions) if isinstance(permissions, list) and all(map(_name, permissions)) else (),
        factor_ages=ages,
    )


def _decode_2(claims: Mapping[str, Any]) -> Authorization:
    """
    See decode(). An organisation whose lists cannot be taken apart says nothing at all, the plans included.

    Source: Clerk's JavaScript SDK, which has then no auth object and so grants nothing.
    """
    features, plans = _list_text(claims.get("fea")), _list_text(claims.get("pla"))
    without_organization = Authorization(
        features=_scoped(features or ""),
        plans=_scoped(plans or ""),
        factor_ages=_factor_ages(claims.get("fva")),
    )
    organization = claims.get("o")
    if organization is None:
        return without_organization
    members = organization if isinstance(organization, dict) else {}
    names, masks = _list_text(members.get("per")), _list_text(members.get("fpm"))
    if features is None or names is None or masks is None:
        return NOTHING
    permissions = _permissions(features, names, masks)
    if permissions is None:
        return NOTHING
    org_id, role = _name(members.get("id")), _name(members.get("rol"))
    if org_id is None:
        return without_organization
    return without_organization._replace(
        org_id=org_id,
        org_slug=_name(members.get("slg")),
        org_role=None if role is None else f"org:{role}",
        permissions=permissions,
    )


def _name(value: object) -> str | None:
    """Return a name or an id; None if it is no text, empty, or has characters that nobody can see."""
    return value if isinstance(value, str) and value and value.isprintable() else None


def _list_text(value: object) -> str | None:
    """Return a list as it stands in a claim, with commas: empty if it is not there; None if it is no text."""
    return "" if value is None else value if isinstance(value, str) else None


def _pieces(text: str) -> list[str]:
    return [piece.strip(_BLANKS) for piece in text.split(",")] if text else []


def _part_name(text: str) -> str:
    """Return the name of a feature, a plan or a permission; "" if it cannot be one, though it keeps its place."""
    # With a colon, two permissions could be written alike.
    return text if text.isprintable() and ":" not in text else ""


def _elements(text: str) -> list[tuple[str, str]] | None:
    """Split ``fea`` or ``pla`` into scopes and names. None: it cannot be read."""
    elements = []
    for piece in _pieces(text):
        scope, colon, name = piece.partition(":")
        if not colon or not scope.isprintable():  # with a blank that only JavaScript trims, it might be a scope there
            return None
        elements.append((scope, _part_name(name)))
    return elements


@lru_cache(maxsize=_SHARED)
def _scoped(text: str) -> Scoped:
    elements = [(scope, name) for scope, name in _elements(text) or () if name]
    return Scoped(
        organization=tuple(name for scope, name in elements if scope in _ORGANIZATION_IN_TOKEN),
        user=tuple(name for scope, name in elements if scope in _USER_IN_TOKEN),
    )


@lru_cache(maxsize=_SHARED)
def _permissions(fea: str, per: str, fpm: str) -> PackedPermissions | None:
    """
    Number the masks in both ways: over the organisation's features, and over all.

    The first is how Clerk's JavaScript SDK counts, the second how its documentation and its Python SDK do. They differ
    where a feature of users stands before one of the organisation.

    None: the features cannot be read.
    """
    features = _elements(fea)
    if features is None:
        return None
    names = _pieces(per)
    masks = [_number(mask, len(names)) for mask in _pieces(fpm)]
    by_own: dict[str, int] = {}
    by_all: dict[str, int] = {}
    own = [(place, name) for place, (scope, name) in enumerate(features) if scope in _ORGANIZATION_IN_TOKEN]
    for own_place, (place, name) in enumerate(own):
        if name:
            # It may stand twice, and has then what either place grants.
            by_own[name] = by_own.get(name, 0) | _at(masks, own_place)
            by_all[name] = by_all.get(name, 0) | _at(masks, place)
    return PackedPermissions((by_own, by_all), tuple(map(_part_name, names)))


def _at(masks: list[int], place: int) -> int:
    return masks[place] if place < len(masks) else 0


def _number(digits: str, bits: int) -> int:
    """Return the lowest bits of a decimal number of any length; 0 if it is none. Bits beyond name nothing."""
    if not (digits.isascii() and digits.isdigit()):
        return 0
    number, kept = 0, (1 << bits) - 1
    for start in range(0, len(digits), _DIGITS_AT_ONCE):
        piece = digits[start : start + _DIGITS_AT_ONCE]
        number = (number * 10 ** len(piece) + int(piece)) & kept
    return number


def _factor_ages(value: object) -> tuple[float, float] | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    # The bound is JavaScript's: a longer integer is infinite there.
    if not all(_is_number(age) and (age == -1 or 0 <= age <= sys.float_info.max) for age in value):
        return None
    return (value[0], value[1])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
