"""
What does Clerk's API say, where no model of the SDK's fits it?

The SDK refuses an answer as a whole for one odd member in it, as after a change of Clerk's API, and for some calls it
has no model. Here what is there is read, and what is not there is missed where somebody needs it.
"""

from __future__ import annotations

import json
import re
from typing import Any


class ClerkObject:
    """
    A JSON object read as the SDK's models are: by attribute, missing ones None. Read-only.

    Metadata stay plain dictionaries, as they are in the SDK's models.
    """

    __slots__ = ("_data",)

    def __init__(self, data: dict[str, Any]) -> None:
        object.__setattr__(self, "_data", data)

    @property
    def model_fields_set(self) -> set[str]:
        """What the answer told, under the name that the SDK's models have for it."""
        return set(self._data)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        value = self._data.get(name)
        return value if name.endswith("_metadata") else readable(value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} cannot be set: this is what Clerk's API answered.")

    def __reduce__(self) -> tuple[type[ClerkObject], tuple[dict[str, Any]]]:
        return ClerkObject, (self._data,)  # receivers of our signals copy and pickle it

    def __repr__(self) -> str:
        return f"<ClerkObject {self.id!r}>"


def readable(value: Any) -> Any:
    """Return a value of JSON with ClerkObjects for its objects; anything else as it is, the SDK's models included."""
    if isinstance(value, dict):
        return ClerkObject(value)
    if isinstance(value, list):
        return [readable(item) for item in value]
    return value


def list_of(member: str, found: Any) -> list[Any]:
    """Return the list that a JSON object has under this name. Raises ValueError if there is none."""
    items = found.get(member) if isinstance(found, dict) else None
    if not isinstance(items, list):
        raise ValueError(f"no list of {member}")
    return items


def error_code(text: str) -> str | None:
    """
    Return the code of the first error in a refusal; None where the body is not of Clerk's error form.

    It ends up in a header and in our log, so what does not look like a code is called "unexpected-bapi-error".
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None  # not Clerk's answer, but that of something in front of it
    errors = found.get("errors") if isinstance(found, dict) else None
    if not isinstance(errors, list) or not errors or not isinstance(errors[0], dict):
        return None
    code = errors[0].get("code")
    return code if isinstance(code, str) and re.fullmatch(r"[a-z0-9_-]{1,64}", code) else "unexpected-bapi-error"
