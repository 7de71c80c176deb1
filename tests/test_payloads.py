"""What is read from answers that no model of the SDK's fits."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from clerk_views.payloads import ClerkObject, error_code, list_of, readable
from clerk_views.testing.faults import error_body


def test_an_object_is_read_as_the_sdks_models_are() -> None:
    """F-24: by attribute, at every depth."""
    found = readable({"id": "user_a", "tags": ["a"], "addresses": [{"verification": {"status": "verified"}}], "n": 1})
    assert (found.id, found.tags, found.n) == ("user_a", ["a"], 1)
    assert found.addresses[0].verification.status == "verified"
    assert found.no_such_thing is None
    assert repr(found) == "<ClerkObject 'user_a'>"


def test_a_lenient_object_says_what_it_was_told() -> None:
    """As the SDK's models do, so that what Clerk left out is not taken for empty."""
    assert ClerkObject({"id": "user_a", "first_name": None}).model_fields_set == {"id", "first_name"}


def test_metadata_stay_plain_dictionaries() -> None:
    metadata = {"plan": {"name": "pro"}, "seats": [{"id": 1}]}
    found = readable({"public_metadata": metadata, "private_metadata": metadata})
    assert found.public_metadata == found.private_metadata == metadata


def test_an_object_can_be_copied_and_pickled_but_not_changed() -> None:
    found = readable({"id": "user_a"})
    for twin in (copy.copy(found), copy.deepcopy(found), pickle.loads(pickle.dumps(found))):  # noqa: S301  # our own
        assert isinstance(twin, ClerkObject)
        assert twin.id == "user_a"
    with pytest.raises(AttributeError, match="cannot be set"):
        found.id = "user_b"
    assert found.id == "user_a"


def test_names_that_python_and_its_tools_look_for_are_not_there() -> None:
    """Or they would take the object for something that it is not."""
    found = readable({"_private": 1, "__html__": 2})
    assert not hasattr(found, "_private")
    assert not hasattr(found, "__html__")


@pytest.mark.parametrize("value", [None, True, 1, "text", ["a", None]])
def test_what_is_no_object_is_itself(value: Any) -> None:
    assert readable(value) == value


def test_the_sdks_models_are_readable_already() -> None:
    model = object()
    assert readable(model) is model


def test_a_list_is_found_under_its_name() -> None:
    assert list_of("keys", {"keys": [1, None]}) == [1, None]
    assert list_of("keys", {"keys": []}) == []


@pytest.mark.parametrize("found", [None, [], [1], "keys", 1, {}, {"keys": None}, {"keys": {}}, {"keys": "abc"}])
def test_where_no_list_is_none_is_read(found: Any) -> None:
    """F-06."""
    with pytest.raises(ValueError, match="no list of keys"):
        list_of("keys", found)


@pytest.mark.parametrize("code", ["a", "resource_not_found", "jwk-kid-mismatch", "a" * 64])
def test_the_code_is_that_of_the_first_error(code: str) -> None:
    assert error_code(json.dumps({"errors": [{"code": code}, {"code": "another"}]})) == code
    assert error_code(error_body(404, code).decode()) == code


@pytest.mark.parametrize("code", [None, 5, ["a"], "", "Not A Code", "a\r\nb", "a\n", "é", "a" * 65])
def test_what_does_not_look_like_a_code_is_not_passed_on(code: Any) -> None:
    """LOG-03: it goes into a header and into the log."""
    assert error_code(json.dumps({"errors": [{"code": code}]})) == "unexpected-bapi-error"
    assert error_code('{"errors": [{}]}') == "unexpected-bapi-error"


@pytest.mark.parametrize(
    "text", ["", "<h1>No", "[]", "null", "{}", '{"errors": 1}', '{"errors": []}', '{"errors": ["no"]}', "[" * 100_000]
)
def test_what_is_not_of_clerks_form_has_no_code(text: str) -> None:
    """It may be the answer of something in front of Clerk, which says nothing about what was asked."""
    assert error_code(text) is None
