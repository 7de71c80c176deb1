"""
JSON that every parser reads alike, or none: what was signed is then what is read.

Of two members of one name, one parser takes the first and another the last; NaN is no JSON, though Python reads it.
Tokens and webhooks come through here before anything in them counts.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

# A string, ended or not, is passed over as a whole: looking for its end again from within would be quadratic.
_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|([\[\]{}])', re.DOTALL)


def parse_object(raw: bytes, *, max_depth: int) -> dict[str, Any]:
    """
    Return the one object that the bytes are: UTF-8, unique names, finite numbers, whole characters.

    Args:
        max_depth: How many brackets may be open at a time. Python's own parser gives up where its stack does.

    Raises:
        ValueError: It is not such an object. The text says why, and quotes nothing of it.
    """
    if raw.count(b"[") + raw.count(b"{") > max_depth and _depth(raw) > max_depth:
        raise ValueError(f"JSON deeper than {max_depth}")
    try:
        value = _DECODER.decode(raw.decode("utf-8"))
        if b"\\u" in raw:
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except ValueError:
        raise ValueError("not unambiguous JSON") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _depth(raw: bytes) -> int:
    depth = deepest = 0
    for bracket in filter(None, _BRACKET.findall(raw)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name stands twice")
    return result


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("beyond what a number can hold")
    return number


# One for all: json.loads() would make one for each text, 2 µs.
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
