"""
What a session token grants, read twice more: to be compared with clerk_views.authorization, never to be used.

Two readings, each as naive as can be, which share nothing with the library nor with each other:

- ``javascript_…`` follows Clerk's JavaScript SDK: masks are numbered over the organisation's features, and much is lax;
- ``documented_…`` follows Clerk's documentation: masks are numbered over all features, and where Clerk's pages are
  silent the threat table decides, so that what is not exactly of the documented form grants nothing.

What both grant is what the library has to grant; what either denies, it must deny.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

Claims = Mapping[str, Any]

# What String.prototype.trim() removes. Source: ECMA-262, "WhiteSpace" and "LineTerminator".
_JAVASCRIPT_BLANKS = "\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(
    map(chr, range(0x2000, 0x200B))
)


class Thrown(Exception):
    """JavaScript would throw here."""


def javascript_has(claims: Claims, asked: Mapping[str, Any]) -> bool:
    """Whether ``auth.has(asked)`` is true; a member that is not there is JavaScript's undefined."""
    if claims.get("sts") == "pending" or not claims.get("sub"):
        return False
    try:
        organization, role, permissions = _javascript_organization(claims)
    except Thrown:
        return False
    votes = []
    if "role" in asked or "permission" in asked:
        vote = bool(organization)
        if "role" in asked:
            vote = vote and isinstance(asked["role"], str) and isinstance(role, str) and role != ""
            vote = vote and _javascript_prefixed(role) == _javascript_prefixed(asked["role"])
        if "permission" in asked:
            vote = vote and isinstance(asked["permission"], str) and isinstance(permissions, list)
            vote = vote and _javascript_prefixed(asked["permission"]) in permissions
        votes.append(vote)
    for name, claim in (("feature", "fea"), ("plan", "pla")):
        if name in asked:
            votes.append(_javascript_billing(claims.get(claim), asked[name]))
    if "reverification" in asked:
        votes.append(_javascript_reverification(claims.get("fva"), asked["reverification"]))
    return votes != [] and False not in votes


def javascript_permissions(claims: Claims) -> list[Any]:
    """Return what stands in ``auth.orgPermissions``; empty where there is no auth object."""
    try:
        _, _, permissions = _javascript_organization(claims)
    except Thrown:
        return []
    return permissions if isinstance(permissions, list) else []


def _javascript_organization(claims: Claims) -> tuple[Any, Any, Any]:
    version = claims.get("v")
    if isinstance(version, bool) or version != 2:
        return claims.get("org_id"), claims.get("org_role"), claims.get("org_permissions")
    o = claims.get("o")
    # An empty object and an empty array are true in JavaScript.
    if not o and not isinstance(o, (dict, list)):
        return None, None, None
    features, _ = _javascript_split(claims.get("fea"))
    if not isinstance(o, dict):
        return None, None, []
    role = f"org:{o['rol']}" if o.get("rol") else None
    per, fpm = o.get("per"), o.get("fpm")
    if not _javascript_true(per) or not _javascript_true(fpm):
        return o.get("id"), role, []
    if not isinstance(per, str) or not isinstance(fpm, str):
        raise Thrown
    names = [name.strip(_JAVASCRIPT_BLANKS) for name in per.split(",")]
    masks = [mask.strip(_JAVASCRIPT_BLANKS) for mask in fpm.split(",")]
    permissions = []
    for feature, mask in zip(features, masks, strict=False):
        if mask == "" or any(digit not in "0123456789" for digit in mask):
            continue
        number = 0
        for digit in mask:
            number = number * 10 + "0123456789".index(digit)
        for name in names:
            if number % 2 == 1:
                permissions.append("org:" + feature + ":" + name)
            number //= 2
    return o.get("id"), role, permissions


def _javascript_true(value: Any) -> bool:
    if isinstance(value, float) and math.isnan(value):
        return False
    return bool(value) or isinstance(value, (dict, list))


def _javascript_split(claim: Any) -> tuple[list[str], list[str]]:
    organization: list[str] = []
    user: list[str] = []
    if not _javascript_true(claim):
        return organization, user
    if not isinstance(claim, str):
        raise Thrown
    for part in claim.split(","):
        part = part.strip(_JAVASCRIPT_BLANKS)
        colon = part.find(":")
        if colon == -1:
            raise Thrown
        scope, value = part[:colon], part[colon + 1 :]
        if scope == "o":
            organization.append(value)
        elif scope == "u":
            user.append(value)
        elif scope in ("ou", "uo"):
            organization.append(value)
            user.append(value)
    return organization, user


def _javascript_billing(claim: Any, asked: Any) -> bool:
    if not isinstance(asked, str) or not isinstance(claim, str) or claim == "":
        return False
    try:
        organization, user = _javascript_split(claim)
    except Thrown:
        return False
    pieces = asked.split(":")
    if len(pieces) == 1:
        return asked in organization + user
    name = pieces[1] or pieces[0]
    if pieces[0] in ("o", "org", "organization"):
        return name in organization
    return pieces[0] in ("u", "user") and name in user


def _javascript_prefixed(text: str) -> str:
    while text.startswith("org:"):
        text = text[4:]
    return "org:" + text


def _javascript_reverification(fva: Any, asked: Any) -> bool:
    minutes: Any
    level: Any
    if isinstance(asked, str):
        known = {
            "strict_mfa": (10, "multi"),
            "strict": (10, "second"),
            "moderate": (60, "second"),
            "lax": (1440, "second"),
        }
        if asked not in known:
            return False
        minutes, level = known[asked]
    elif isinstance(asked, dict):
        level, minutes = asked.get("level"), asked.get("afterMinutes")
        if (
            level not in ("first_factor", "second_factor", "multi_factor")
            or not _javascript_finite(minutes)
            or minutes <= 0
        ):
            return False
        level = level.split("_")[0]
    else:
        return False
    if not isinstance(fva, list) or len(fva) != 2:
        return False
    for age in fva:
        if not _javascript_finite(age) or (age != -1 and age < 0):
            return False
    first, second = fva
    if first == -1 and second == -1:
        return False
    fresh_1 = minutes > first if first != -1 else None
    fresh_2 = minutes > second if second != -1 else None
    if level == "first":
        return fresh_1 is True
    if level == "second":
        return (fresh_1 if fresh_2 is None else fresh_2) is True
    return fresh_1 is True if fresh_2 is None else fresh_1 is True and fresh_2


def _javascript_finite(value: Any) -> bool:
    """Whether it is a number and finite, once it is a double as all numbers there are."""
    try:
        return type(value) in (int, float) and math.isfinite(float(value))
    except OverflowError:
        return False


_NAME = r"[^:,]+"
_ROLE_OR_PERMISSION_ASKED = re.compile(r"(?:org:)*(?!org:)(.+)", re.DOTALL)
_BILLING_ASKED = re.compile(
    r"(?:(?P<org>o|org|organization)|(?P<user>u|user)):(?P<name>[^:]*)(?::.*)?|(?P<any>[^:]+)", re.DOTALL
)


def documented_has(claims: Claims, asked: Mapping[str, Any]) -> bool:
    """Whether every dimension that is asked is granted, and one is."""
    if claims.get("sts", "active") != "active" or type(claims.get("sub")) is not str or not claims["sub"]:
        return False
    if len(asked) == 0:
        return False
    return all(_DOCUMENTED[dimension](claims, value) for dimension, value in asked.items())


def documented_permissions(claims: Claims) -> set[str]:
    """Return every permission that the token grants, written out."""
    if _documented_version(claims) == 1 and _documented_text(claims.get("org_id")):
        listed = claims.get("org_permissions")
        return set(listed) if type(listed) is list and all(_documented_text(entry) for entry in listed) else set()
    if _documented_version(claims) != 2 or _is_broken(claims) or _documented_organization(claims) is None:
        return set()
    o = claims["o"]
    elements, names, masks = (_documented_list(text) for text in (claims.get("fea"), o.get("per"), o.get("fpm")))
    found = set()
    for place, element in enumerate(elements):
        scope, feature = element.split(":", 1)
        if scope not in {"o", "ou", "uo"} or place >= len(masks) or not re.fullmatch("[0-9]+", masks[place]):
            continue
        for bit, name in enumerate(names):
            # Dividing by a power of two, since int() refuses thousands of digits.
            granted = _decimal(masks[place]) // 2**bit % 2 == 1
            if (
                granted
                and re.fullmatch(_NAME, feature)
                and re.fullmatch(_NAME, name)
                and (feature + name).isprintable()
            ):
                found.add(f"org:{feature}:{name}")
    return found


def _decimal(digits: str) -> int:
    if len(digits) <= 500:
        return int(digits)
    half = len(digits) // 2
    power: int = 10 ** (len(digits) - half)
    return _decimal(digits[:half]) * power + _decimal(digits[half:])


def _documented_version(claims: Claims) -> int | None:
    if "v" not in claims:
        return 1
    return claims["v"] if type(claims["v"]) is int and claims["v"] in (1, 2) else None


def _documented_text(value: Any) -> bool:
    return type(value) is str and value != "" and value.isprintable()


def _documented_list(text: Any) -> list[str]:
    return [re.sub(r"\A[ \t\n\r\f\v]+|[ \t\n\r\f\v]+\Z", "", piece) for piece in text.split(",")] if text else []


def _is_list(value: Any) -> bool:
    return value is None or type(value) is str


def _is_element(element: str) -> bool:
    return ":" in element and element.split(":")[0].isprintable()


def _is_broken(claims: Claims) -> bool:
    """Whether there is an organisation, or what should be one, with lists that are none."""
    o, fea = claims.get("o"), claims.get("fea")
    if o is None:
        return False
    if not _is_list(fea) or not all(map(_is_element, _documented_list(fea))):
        return True
    return type(o) is dict and not (_is_list(o.get("per")) and _is_list(o.get("fpm")))


def _documented_organization(claims: Claims) -> dict[str, Any] | None:
    o = claims.get("o")
    return o if type(o) is dict and _documented_text(o.get("id")) else None


def _documented_role(claims: Claims, asked: Any) -> bool:
    role: Any
    version = _documented_version(claims)
    if version == 1 and _documented_text(claims.get("org_id")):
        role = claims.get("org_role")
    elif version == 2 and not _is_broken(claims):
        role = (_documented_organization(claims) or {}).get("rol")
    else:
        return False
    if not _documented_text(role) or type(asked) is not str:
        return False
    ours, theirs = _ROLE_OR_PERMISSION_ASKED.fullmatch(role), _ROLE_OR_PERMISSION_ASKED.fullmatch(asked)
    return ours is not None and theirs is not None and ours[1] == theirs[1]


def _documented_permission(claims: Claims, asked: Any) -> bool:
    match = _ROLE_OR_PERMISSION_ASKED.fullmatch(asked) if type(asked) is str else None
    return match is not None and "org:" + match[1] in documented_permissions(claims)


def _documented_billing(claims: Claims, claim: str, asked: Any) -> bool:
    if _documented_version(claims) != 2 or _is_broken(claims):
        return False
    listed = claims.get(claim)
    match = _BILLING_ASKED.fullmatch(asked) if type(asked) is str else None
    if match is None or type(listed) is not str:
        return False
    elements = _documented_list(listed)
    if not all(map(_is_element, elements)):
        return False
    scopes = {"o", "u"} if match["any"] else {"o"} if match["org"] else {"u"}
    name = match["any"] or match["name"] or match["org"] or match["user"]
    wanted = {f"{scope}:{name}" for scope in ("o", "u", "ou", "uo") if scopes & set(scope)}
    return name.isprintable() and not wanted.isdisjoint(elements)


def _documented_feature(claims: Claims, asked: Any) -> bool:
    return _documented_billing(claims, "fea", asked)


def _documented_plan(claims: Claims, asked: Any) -> bool:
    return _documented_billing(claims, "pla", asked)


def _documented_reverification(claims: Claims, asked: Any) -> bool:
    presets: dict[str, dict[str, Any]] = {
        "strict_mfa": {"level": "multi_factor", "afterMinutes": 10},
        "strict": {"level": "second_factor", "afterMinutes": 10},
        "moderate": {"level": "second_factor", "afterMinutes": 60},
        "lax": {"level": "second_factor", "afterMinutes": 1440},
    }
    if _documented_version(claims) is None or (_documented_version(claims) == 2 and _is_broken(claims)):
        return False
    config = presets.get(asked) if type(asked) is str else asked
    if type(config) is not dict or sorted(config) != ["afterMinutes", "level"]:
        return False
    ages, limit = claims.get("fva"), config["afterMinutes"]
    if type(limit) not in (int, float) or not 0 < limit < 100_000 or limit > 99_999:
        return False
    if type(ages) is not list or len(ages) != 2:
        return False
    for age in ages:
        if type(age) not in (int, float) or age != age or age in (math.inf, -math.inf) or (age < 0 and age != -1):
            return False
    table = {
        # level: (both enrolled, no second factor, no first factor); the digits are the factors that have to be fresh
        "first_factor": ("1", "1", "no"),
        "second_factor": ("2", "1", "2"),
        "multi_factor": ("12", "1", "no"),
    }
    if config["level"] not in table:
        return False
    column = {(True, True): 0, (True, False): 1, (False, True): 2}.get((ages[0] != -1, ages[1] != -1))
    if column is None:
        return False
    needed = table[config["level"]][column]
    return needed != "no" and all(ages[int(factor) - 1] < limit for factor in needed)


_DOCUMENTED = {
    "role": _documented_role,
    "permission": _documented_permission,
    "feature": _documented_feature,
    "plan": _documented_plan,
    "reverification": _documented_reverification,
}
