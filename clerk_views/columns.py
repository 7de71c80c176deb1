"""
Which of Clerk's values go into which columns of the user model, and made to fit.

The user model is the project's own, so nothing is taken for granted: columns may be missing, have other names, other
types, or be too short. What does not fit is cut (text) or left out (addresses); it never stops a sign-in.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

from django.conf import settings
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import models
from django.utils import timezone
from django.utils.module_loading import import_string

from clerk_views.conf import Config
from clerk_views.profiles import MISSING, Profile
from clerk_views.values import PRIVILEGE_FIELDS

logger = logging.getLogger("clerk_views")

Field: TypeAlias = "models.Field[Any, Any]"

#: How many names are tried with one query each: name to name-5, to name-50, to name-200. Then Clerk's id is the name.
_NAME_BATCHES = ((1, 5), (6, 50), (51, 200))

#: From here on a UNIX time is in milliseconds: as seconds it would be the year 5138, as milliseconds it is 1973.
_MILLISECONDS_FROM = 10**11


class Columns:
    """
    The columns of one user model, as one configuration fills them.

    Attributes:
        clerk_id: The model's own column for Clerk's id; None if it has none.
        email: The column for the e-mail address; None if there is none.
        username: The column that follows Clerk's user name; None if there is none.
        login: The column that must have a name, because people sign in with it; None if that is no text.
        has_is_active: Whether the model can tell active users from others.
    """

    def __init__(self, model: type[models.Model], config: Config) -> None:
        self._model = model
        self._mapping = config.user_fields
        self.clerk_id = self._mapped("id")
        self.email = self._mapped("email")
        self.username = self._mapped("username")
        login = self.writable(model.USERNAME_FIELD)  # type: ignore[attr-defined]  # every user model has it
        self.login = login if isinstance(login, (models.CharField, models.TextField)) else None
        self.has_is_active = self._column("is_active") is not None

    def values(self, profile: Profile) -> dict[str, Any]:
        """Return column -> value for all that the profile tells and the model can hold, but for the user name."""
        values: dict[str, Any] = {}
        for name, value in self._offers(profile):
            field = self.writable(name)
            if field is None:
                continue
            fitted = fit(field, value)
            if fitted is not MISSING:
                values[name] = fitted
        if self.clerk_id is not None:
            values[self.clerk_id.name] = profile.id
        return values

    def writable(self, name: str | None) -> Field | None:
        """Return the column of this name if the sync may write it: no key, no relation, no privilege (USR-06)."""
        field = self._column(name)
        if field is None or field.primary_key or field.is_relation or field.name in PRIVILEGE_FIELDS:
            return None
        return field

    def _column(self, name: str | None) -> Field | None:
        try:
            field = self._model._meta.get_field(name or "")
        except FieldDoesNotExist:
            return None
        return field if isinstance(field, models.Field) and field.concrete else None

    def _mapped(self, source: str) -> Field | None:
        return self.writable(self._mapping.get(source))

    def _offers(self, profile: Profile) -> Iterator[tuple[str, Any]]:
        for source, target in self._mapping.items():
            value = profile.value(source)
            if target is None or value is MISSING:
                continue
            if "." in target:
                yield from _computed(target, value, profile).items()
            elif source != "username":
                yield target, value


def _computed(path: str, value: Any, profile: Profile) -> Mapping[str, Any]:
    """Ask the project's own function. What it makes of a value that a user chose must not stop his sign-in."""
    function = import_string(path)
    try:
        return dict(function(value, profile.source))
    except Exception as error:  # noqa: BLE001  # the project's code may raise anything
        logger.error(
            "%s, named in CLERK_USER_FIELDS, failed for Clerk user %.100r with %s; its columns stay as they are. It is "
            "called with Clerk's value and the Clerk user, and returns a dictionary of model fields to values.",
            path,
            profile.id,
            type(error).__name__,
        )
        return {}


def fit(field: Field, value: Any) -> Any:
    """Return the value as this column can hold it, or MISSING when it cannot."""
    try:
        if value is None:
            return _empty(field)
        if isinstance(field, (models.CharField, models.TextField)):
            return _fit_text(field, value)
        if isinstance(field, models.DateTimeField):
            value = _moment(field, value)
        elif isinstance(field, models.JSONField):
            json.dumps(value, cls=field.encoder, allow_nan=False)
        fitted = field.to_python(value)
        field.run_validators(fitted)
    except (ValidationError, TypeError, ValueError, OverflowError, OSError):
        return MISSING
    return fitted


def _empty(field: Field) -> Any:
    if field.null:
        return None
    is_text = isinstance(field, (models.CharField, models.TextField))
    return "" if is_text and not field.unique else MISSING  # two empty texts are not unique


def _fit_text(field: Field, value: Any) -> Any:
    if not isinstance(value, str):
        return MISSING
    address = isinstance(field, (models.EmailField, models.URLField))
    if field.max_length is not None and len(value) > field.max_length:
        if address:
            return MISSING  # half an address leads nowhere, or to somebody else
        value = value[: field.max_length]
    if not isinstance(field, models.EmailField):  # Clerk has verified it, and knows more kinds of addresses than Django
        field.run_validators(value)
    return value


def _moment(field: models.DateTimeField[Any, Any], value: Any) -> datetime | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = datetime.fromtimestamp(value / 1000 if abs(value) >= _MILLISECONDS_FROM else value, UTC)
    moment: datetime | None = field.to_python(value)
    if moment is not None and timezone.is_naive(moment):
        moment = moment.replace(tzinfo=UTC)
    if moment is not None and not settings.USE_TZ:
        return timezone.make_naive(moment, timezone.get_default_timezone())
    return moment


def stand_in(clerk_id: str, length: int | None) -> str:
    """Return a name made of Clerk's id: unique, and nobody's data."""
    name = f"clerk_{clerk_id}"
    return name if length is None or len(name) <= length else _digest_name(clerk_id, length)


def _digest_name(clerk_id: str, length: int | None) -> str:
    return f"clerk_{hashlib.sha256(clerk_id.encode()).hexdigest()}"[:length]


def stand_in_email(clerk_id: str) -> str:
    """Return an address for a column that must have one of its own. Nothing is ever delivered there (RFC 2606)."""
    return f"{stand_in(clerk_id, 64)}@clerk.invalid"


def wanted_name(profile: Profile) -> tuple[str, bool]:
    """Return the user name that suits the profile, and whether it is Clerk's own rather than made from the address."""
    explicit = profile.value("username")
    if isinstance(explicit, str) and explicit.strip():
        return explicit.strip(), True
    local_part = (profile.verified_email or "").partition("@")[0]
    return re.sub(r"[^\w.+-]", "", local_part), False


def unique_name(
    field: Field, wanted: str, clerk_id: str, others: models.QuerySet[Any], *, current: str | None = None
) -> str:
    """
    Return a free user name near the wanted one: name, name-2, name-3, …; in the end one made of Clerk's id (USR-09).

    At most three queries, each over an index. A name that differs from another user's by case alone counts as taken:
    as written, in lower or upper case, or capitalised, as those are what an index finds.

    Args:
        others: The rows whose names are taken.
        current: The user's name until now. It stays if it was found this way and the wanted one is still taken.
    """
    length = field.max_length
    last_resort = [stand_in(clerk_id, length), _digest_name(clerk_id, length)]

    def numbered(number: int) -> str:
        suffix = f"-{number}" if number > 1 else ""
        return wanted[: None if length is None else length - len(suffix)] + suffix

    batches = [[numbered(number) for number in range(first, last + 1)] for first, last in _NAME_BATCHES if wanted]
    batches = batches or [[]]
    batches[-1] += last_resort
    for batch in batches:
        spellings = {form for name in batch for form in (name, name.lower(), name.upper(), name.capitalize())}
        found = others.filter(**{f"{field.name}__in": spellings}).values_list(field.name, flat=True)
        taken = {name.casefold() for name in found}
        if current is not None and batch[0].casefold() in taken and any(current in names for names in batches):
            return current
        free = next((name for name in batch if name.casefold() not in taken), None)
        if free is not None:
            return free
    return last_resort[-1]
