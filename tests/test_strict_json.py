"""JSON that every parser reads alike, at the depth that its reader allows. Threats: TOK-05, WHK-04, DOS-01."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clerk_views.strict_json import parse_object

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), values))
def test_good_json_is_read_as_it_is(value: dict[str, object]) -> None:
    assert parse_object(json.dumps(value, ensure_ascii=False).encode(), max_depth=64) == value


@given(st.binary() | st.text().map(str.encode))
def test_bytes_are_an_object_or_refused(raw: bytes) -> None:
    try:
        found = parse_object(raw, max_depth=16)
    except ValueError as error:
        assert str(error) in ("not unambiguous JSON", "not a JSON object", "JSON deeper than 16")  # noqa: PT017  # or an object
    else:
        assert found == json.loads(raw)


@pytest.mark.parametrize("depth", [1, 16, 64])
def test_depth_is_the_readers_to_say(depth: int) -> None:
    nested = b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)
    assert isinstance(parse_object(nested, max_depth=depth), dict)
    with pytest.raises(ValueError, match=f"JSON deeper than {depth}"):
        parse_object(b'{"a":' + nested + b"}", max_depth=depth)


def test_brackets_in_strings_are_no_depth() -> None:
    text = "[{" * 50 + '\\"'
    assert parse_object(json.dumps({"a": text}).encode(), max_depth=2) == {"a": text}


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": 1, "a": 1}',
        b'{"a": {"b": 1, "b": 2}}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": "\\udc00"}',
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": "\xff"}',
        b"{'a': 1}",
        b'{"a": 1}{}',
        b'{"a": ' + b"1" * 5000 + b"}",
    ],
    ids=lambda raw: ascii(raw[:24]),
)
def test_what_parsers_differ_about_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="not unambiguous JSON"):
        parse_object(raw, max_depth=16)


@pytest.mark.parametrize("raw", [b"[" * 1_000_000, b'{"a":' * 200_000, b'"' + b'\\"' * 500_000, b'"\\' * 400_000])
def test_a_megabyte_of_it_takes_no_time(raw: bytes) -> None:
    """DOS-01."""
    began = time.process_time()
    with pytest.raises(ValueError, match="JSON"):
        parse_object(raw, max_depth=64)
    assert time.process_time() - began < 2
