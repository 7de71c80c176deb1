"""Clerk's values, made to fit into columns of any type. Threats: USR-06, USR-09, F-22, F-24."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth import get_user_model
from django.db import models

from clerk_views.columns import Columns, fit, stand_in, stand_in_email, unique_name, wanted_name
from clerk_views.conf import Config, read_raw
from clerk_views.profiles import MISSING, read_claims, read_profile
from clerk_views.testing.directory import user_body

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("field", "value", "fitted"),
    [
        (models.CharField(max_length=3), "Adam", "Ada"),
        (models.CharField(), "Adam", "Adam"),
        (models.CharField(max_length=3), 7, MISSING),
        (models.CharField(max_length=3), {"a": 1}, MISSING),
        (models.CharField(max_length=3), None, ""),
        (models.CharField(max_length=3, null=True), None, None),
        (models.CharField(max_length=3, unique=True), None, MISSING),
        (models.TextField(), "Adam", "Adam"),
        (models.SlugField(), "a b", MISSING),
        (models.URLField(max_length=30), "https://img.clerk.com/1", "https://img.clerk.com/1"),
        (models.URLField(max_length=20), "https://img.clerk.com/1", MISSING),
        (models.URLField(), "javascript:alert(1)", MISSING),
        (models.EmailField(), "mıke@exämple.com", "mıke@exämple.com"),
        (models.EmailField(max_length=5), "ada@example.com", MISSING),
        (models.IntegerField(), None, MISSING),
        (models.IntegerField(null=True), None, None),
        (models.IntegerField(), "7", 7),
        (models.IntegerField(), "seven", MISSING),
        (models.PositiveSmallIntegerField(), -1, MISSING),
        (models.IntegerField(), float("inf"), MISSING),
        (models.DecimalField(max_digits=3, decimal_places=1), "1.5", Decimal("1.5")),
        (models.BooleanField(), "perhaps", MISSING),
        (models.UUIDField(), "00000000-0000-0000-0000-000000000001", UUID(int=1)),
        (models.UUIDField(), ["a"], MISSING),
        (models.DateField(), "2026-01-02", date(2026, 1, 2)),
        (models.DateField(), 7, MISSING),
        (models.JSONField(), {"a": [1]}, {"a": [1]}),
        (models.JSONField(), float("nan"), MISSING),
        (models.JSONField(), object(), MISSING),
        (models.DateTimeField(), NOON.timestamp(), NOON),
        (models.DateTimeField(), int(NOON.timestamp() * 1000), NOON),
        (models.DateTimeField(), "2026-01-02T12:00:00Z", NOON),
        (models.DateTimeField(), "2026-01-02T12:00:00", NOON),
        (models.DateTimeField(), "", MISSING),
        (models.DateTimeField(), True, MISSING),
        (models.DateTimeField(), 10**30, MISSING),
        (models.DateTimeField(), float("nan"), MISSING),
    ],
    ids=lambda value: (
        type(value).__name__ if isinstance(value, models.Field) else repr(value).partition(" at 0x")[0][:30]
    ),
)
def test_values_fit_or_are_left_out(field: Any, value: Any, fitted: Any) -> None:
    """F-22, F-24: nothing that Clerk or a user may write is fatal."""
    assert fit(field, value) == fitted


def test_times_are_naive_where_django_keeps_them_so(settings: Any) -> None:
    settings.USE_TZ = False
    settings.TIME_ZONE = "Europe/Berlin"
    assert fit(models.DateTimeField(), NOON.timestamp()) == datetime(2026, 1, 2, 13)


@pytest.mark.parametrize(
    ("fields", "name", "explicit"),
    [
        ({"username": " ada ", "email": "x@example.com"}, "ada", True),
        ({"username": "a\x00da"}, "ada", True),
        ({"username": " ", "email": "a'd <a>+1@example.com"}, "", False),
        ({"username": None, "email": "a'd+1@example.com"}, "ad+1", False),
        ({"username": 7, "email": "x@example.com", "verified": False}, "", False),
    ],
)
def test_the_wanted_name_is_clerks_or_made_from_the_verified_address(
    fields: dict[str, Any], name: str, explicit: bool
) -> None:
    assert wanted_name(read_profile(user_body(**fields))) == (name, explicit)


def test_stand_ins_are_unique_and_fit() -> None:
    assert stand_in("user_1", 150) == "clerk_user_1"
    assert stand_in("user_1", None) == "clerk_user_1"
    assert len(stand_in("user_1" * 30, 30)) == 30
    assert stand_in("user_1" * 30, 30) != stand_in("user_1" * 31, 30)
    assert stand_in_email("user_1") == "clerk_user_1@clerk.invalid"


@pytest.mark.django_db
class TestUniqueNames:
    """USR-09."""

    def name(self, wanted: str, *, taken: list[str], current: str | None = None, length: int = 150) -> str:
        model: Any = get_user_model()
        field: models.Field[Any, Any] = models.CharField(max_length=length, name=model.USERNAME_FIELD)
        if taken:
            model.objects.bulk_create(model(username=name) for name in taken)
        return unique_name(field, wanted, "user_1", model.objects.all(), current=current)

    @pytest.mark.parametrize(
        ("taken", "name"),
        [
            ([], "alex"),
            (["alex"], "alex-2"),
            (["alex", "alex-2", "alex-3"], "alex-4"),
            (["alex", "alex-3"], "alex-2"),
            (["Alex"], "alex-2"),
            (["ALEX", "ALEX-2"], "alex-3"),
            (["alexa", "alex2"], "alex"),
        ],
    )
    def test_the_first_free_number_is_taken(self, taken: list[str], name: str) -> None:
        assert self.name("alex", taken=taken) == name

    def test_a_name_that_differs_by_case_alone_is_taken(self) -> None:
        assert self.name("Alex", taken=["alex"]) == "Alex-2"

    def test_long_names_are_cut_number_and_all(self) -> None:
        assert self.name("a" * 300, taken=["a" * 150]) == "a" * 148 + "-2"

    def test_in_the_end_clerks_id_is_the_name(self, django_assert_max_num_queries: Any) -> None:
        model: Any = get_user_model()
        model.objects.bulk_create(model(username=f"alex-{number}") for number in range(2, 1001))
        model.objects.create(username="alex")
        with django_assert_max_num_queries(3):
            assert self.name("alex", taken=[]) == "clerk_user_1"
        model.objects.create(username="clerk_user_1")
        digest_name = self.name("alex", taken=[])
        assert digest_name.startswith("clerk_")
        model.objects.create(username=digest_name)
        assert self.name("alex", taken=[]) == digest_name

    def test_no_name_at_all_becomes_clerks_id(self) -> None:
        assert self.name("", taken=[]) == "clerk_user_1"

    @pytest.mark.parametrize(
        ("taken", "current", "name"),
        [
            (["alex"], "alex-3", "alex-3"),
            (["alex"], "clerk_user_1", "clerk_user_1"),
            (["alex"], "bob", "alex-2"),
            ([], "alex-3", "alex"),
        ],
    )
    def test_a_number_is_kept_while_the_name_is_taken(self, taken: list[str], current: str, name: str) -> None:
        assert self.name("alex", taken=taken, current=current) == name


def columns(**fields: str | None) -> Columns:
    raw = read_raw() | {"CLERK_SECRET_KEY": "sk_test_columns", "CLERK_USER_FIELDS": fields}
    return Columns(get_user_model(), Config(raw))


def computed(value: Any, clerk_user: Any) -> dict[str, Any]:
    return {"first_name": value["nick"], "is_superuser": True, "pk": 7, "id": 7, "groups": [1], "password": "x"}


def broken(value: Any, clerk_user: Any) -> Any:
    raise LookupError("ada@example.com")


HERE = "tests.test_columns."


def test_a_function_of_the_project_fills_columns_but_no_privileges() -> None:
    """USR-06."""
    profile = read_profile(user_body(id="user_1", public_metadata={"nick": "Countess"}))
    values = columns(first_name=None, public_metadata=HERE + "computed").values(profile)
    assert values["first_name"] == "Countess"
    assert not {"is_superuser", "pk", "id", "groups", "password"} & values.keys()


def test_a_function_that_fails_leaves_its_columns_alone(caplog: pytest.LogCaptureFixture) -> None:
    values = columns(username=HERE + "broken").values(read_profile(user_body(username="ada", first_name="Ada")))
    assert values["first_name"] == "Ada"
    assert "tests.test_columns.broken" in caplog.text
    assert "LookupError" in caplog.text
    assert "ada@example.com" not in caplog.text


@pytest.mark.parametrize("target", ["logentry", "clerk_account", "date_of_no_such_thing"])
def test_relations_and_unknown_columns_are_not_written(target: str) -> None:
    """USR-06."""
    assert target not in columns(public_metadata=target).values(read_profile(user_body()))


def test_what_is_not_told_is_not_written() -> None:
    values = columns().values(
        read_claims(
            "user_1",
            {"iat": 1, "last_name": None, "first_name": 5},
            {"last_name": "last_name", "first_name": "first_name"},
        )
    )
    assert values == {"last_name": ""}
