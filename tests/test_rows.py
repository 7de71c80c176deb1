"""
The prepared row: the same user as the ORM's, by a query that is built once; and by the ORM where that might not hold.

User models of other projects: tests/custom_users. What it saves: tests/benchmarks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import UserManager
from django.db import IntegrityError, OperationalError, connection, connections, models, transaction
from django.db.models import F, Value
from django.db.models.functions import Concat
from django.db.models.manager import BaseManager
from django.db.models.query import ModelIterable
from django.db.models.signals import post_init
from django.db.models.sql.compiler import SQLCompiler
from django.db.transaction import TransactionManagementError
from django.test.utils import CaptureQueriesContext

from clerk_views.accounts import read_user
from clerk_views.models import ClerkAccount

pytestmark = pytest.mark.django_db

User: Any = get_user_model()

ADA = "user_2ABCdefGHIjklMNOpqrSTUvwxyz"

FOR_SYNCING = {"clerk_updated_at", "news_rank", "claims_issued_at", "linked", "deleted"}

Counter = Callable[[int], AbstractContextManager[Any]]


@pytest.fixture
def ada() -> Any:
    user = User.objects.create(username="ada", email="ada@example.com", last_login=datetime(2026, 1, 2, tzinfo=UTC))
    ClerkAccount.objects.create(user=user, clerk_id=ADA, synced_at=datetime(2026, 1, 3, tzinfo=UTC), linked=True)
    return user


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The queries that Django's compiler has put into words."""
    texts: list[str] = []
    as_sql = SQLCompiler.as_sql

    def noted(self: SQLCompiler, *args: Any, **kwargs: Any) -> Any:
        answer = as_sql(self, *args, **kwargs)
        texts.append(answer[0])
        return answer

    monkeypatch.setattr(SQLCompiler, "as_sql", noted)
    return texts


@pytest.fixture
def managed_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseManager[Any]], None]:
    """Give the user model another default manager."""

    def put(manager: BaseManager[Any]) -> None:
        manager.model, manager.name = User, "objects"
        monkeypatch.setitem(User._meta.__dict__, "default_manager", manager)

    return put


def columns(row: models.Model) -> dict[str, Any]:
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


def test_it_is_the_row_that_the_orm_reads(ada: Any, django_assert_num_queries: Counter) -> None:
    expected = User.objects.select_related("clerk_account").get(pk=ada.pk)
    for _ in range(2):  # the first time the query is built
        with django_assert_num_queries(1):
            user: Any = read_user(ADA)
            account = user.clerk_account
            assert account.user is user
        for row, deferred in ((user, set()), (account, FOR_SYNCING)):
            assert (row._state.adding, row._state.db, row.get_deferred_fields()) == (False, "default", deferred)
        assert columns(user) == columns(expected)
        assert columns(account) == columns(expected.clerk_account)  # what was deferred is read now


def test_what_was_read_can_be_written(ada: Any) -> None:
    user: Any = read_user(ADA)
    user.first_name = "Ada"
    user.save()
    ada.refresh_from_db()
    assert ada.first_name == "Ada"


def test_nobody_is_nobody(ada: Any) -> None:
    assert [read_user(other) for other in ("user_other", "", ADA.lower(), f"{ADA} ")] == [None] * 4


def test_the_query_is_built_once_and_is_the_orms_own(ada: Any, built: list[str]) -> None:
    read_user(ADA)
    built.clear()
    with CaptureQueriesContext(connection) as prepared:
        read_user(ADA)
    assert built == []
    with CaptureQueriesContext(connection) as by_orm:
        deferred = (f"clerk_account__{name}" for name in FOR_SYNCING)
        User.objects.select_related("clerk_account").defer(*deferred).get(clerk_account__clerk_id=ADA)
    assert prepared[0]["sql"] == by_orm[0]["sql"].partition(" LIMIT ")[0]


def test_receivers_and_from_db_of_the_model_are_heard(ada: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read_user(ADA)
    made: list[str] = []
    from_db = User.from_db.__func__

    def noted(model: type[models.Model], db: str, *args: Any, **kwargs: Any) -> Any:
        made.append(f"from {db}")
        return from_db(model, db, *args, **kwargs)

    def heard(instance: Any, **kwargs: Any) -> None:
        made.append(instance.username)

    monkeypatch.setattr(User, "from_db", classmethod(noted))
    post_init.connect(heard, sender=User)
    try:
        read_user(ADA)
    finally:
        post_init.disconnect(heard, sender=User)
    assert made == ["from default", "ada"]


def test_wrappers_around_the_database_see_the_query(ada: Any) -> None:
    seen: list[Any] = []

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append((params, context["connection"].alias))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(wrapper):
        read_user(ADA)
    assert seen == [({"clerk_id": ADA}, "default")]


def test_a_transaction_that_failed_is_not_read_in(ada: Any) -> None:
    with transaction.atomic():
        with pytest.raises(IntegrityError), transaction.atomic():
            ClerkAccount.objects.create(user=ada, clerk_id=ADA)
        connection.set_rollback(True)
        with pytest.raises(TransactionManagementError):
            read_user(ADA)
        connection.set_rollback(False)


def test_the_cursor_is_closed_whatever_comes(ada: Any) -> None:
    cursors: list[Any] = []

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        cursors.append(context["cursor"])
        if len(cursors) == 2:
            raise OperationalError("gone")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(wrapper):
        assert read_user(ADA) == ada
        with pytest.raises(OperationalError, match="gone"):
            read_user(ADA)
    assert len(cursors) == 2
    for cursor in cursors:
        with pytest.raises(Exception, match=r"(?i)closed|cannot operate"):
            cursor.execute("SELECT 1")


def test_times_are_as_the_settings_have_them(ada: Any, settings: Any) -> None:
    """Also after a change: on some databases the setting decides what is built."""
    for use_tz in (True, False, True):
        settings.USE_TZ = use_tz
        user: Any = read_user(ADA)
        expected = User.objects.select_related("clerk_account").get(pk=ada.pk)
        assert (user.last_login, user.clerk_account.synced_at) == (
            expected.last_login,
            expected.clerk_account.synced_at,
        )
        assert (user.last_login.tzinfo is not None) is use_tz


class Helpful(models.QuerySet[Any]):
    def named(self, name: str) -> models.QuerySet[Any]:
        return self.filter(username=name)


class HelpfulManager(UserManager.from_queryset(Helpful)):  # type: ignore[misc]  # made at runtime
    """It can do more than Django's own, and reads as that does."""

    use_in_migrations = True

    def ada(self) -> Any:
        return self.named("ada").get()


def test_a_manager_that_only_adds_is_served_from_the_prepared_query(
    ada: Any, managed_by: Callable[[Any], None], built: list[str]
) -> None:
    managed_by(copy.deepcopy(HelpfulManager()))  # copying leaves marks of Python's own on the class
    assert read_user(ADA) == ada
    built.clear()
    assert read_user(ADA) == ada
    assert built == []


class Tenants(UserManager[Any]):
    """Shows the users of one tenant: whose turn it is, the query does not know beforehand."""

    current = "ada"

    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().filter(username=self.current)


def test_a_manager_that_changes_its_mind_is_asked_every_time(ada: Any, managed_by: Callable[[Any], None]) -> None:
    manager = Tenants()
    managed_by(manager)
    assert read_user(ADA) == ada
    manager.current = "bob"
    assert read_user(ADA) is None
    manager.current = "ada"
    assert read_user(ADA) == ada


class Named(ModelIterable):  # type: ignore[type-arg]  # generic in the stubs alone
    def __iter__(self) -> Iterator[Any]:
        for user in super().__iter__():
            user.named = True
            yield user


class OtherRows(models.QuerySet[Any]):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._iterable_class = Named


class OtherColumns(UserManager[Any]):
    def get_queryset(self) -> Any:
        return super().get_queryset().defer("first_name").annotate(named=F("username"))


class OtherRelations(UserManager[Any]):
    def select_related(self, *fields: Any) -> Any:
        return super().select_related(*fields).annotate(named=Value(1))


@pytest.mark.parametrize(
    "manager",
    [
        UserManager.from_queryset(OtherRows),
        OtherColumns,
        OtherRelations,
        BaseManager.from_queryset(OtherRows),
    ],
    ids=["rows of its own", "columns of its own", "relations of its own", "not a Manager"],
)
def test_a_manager_that_reads_otherwise_goes_by_the_orm(
    ada: Any, managed_by: Callable[[Any], None], manager: Callable[[], Any]
) -> None:
    managed_by(manager())
    for _ in range(2):
        user: Any = read_user(ADA)
        assert user == ada
        assert user.named
        assert user.clerk_account.clerk_id == ADA


def test_an_order_with_values_of_its_own_goes_by_the_orm(
    ada: Any, managed_by: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place among the query's parameters would be taken for the Clerk id's."""
    monkeypatch.setattr(User._meta, "ordering", [Concat("username", Value("user_"))])
    managed_by(UserManager())
    assert read_user(ADA) == ada
    assert read_user("user_") is None


class ToSecond:
    """Sends those who read to the second database."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "second"


@pytest.fixture
def twin(second_database: str) -> Any:
    """Another user behind Ada's Clerk id, in another database."""
    with connections[second_database].schema_editor() as editor:
        editor.create_model(User)
        editor.create_model(ClerkAccount)
    twin = User(username="twin")
    twin.save(using=second_database)
    ClerkAccount(user=twin, clerk_id=ADA).save(using=second_database)
    return twin


def test_each_database_is_asked_in_its_own_words(ada: Any, twin: Any, settings: Any) -> None:
    """The router says which."""
    for router, name in (([], "ada"), (["tests.test_rows.ToSecond"], "twin"), ([], "ada")):
        settings.DATABASE_ROUTERS = router
        user: Any = read_user(ADA)
        assert user.username == name
        assert user._state.db == user.clerk_account._state.db == ("second" if router else "default")


@pytest.mark.skipif(connection.features.supports_timezones, reason="this database tells the zone itself")
def test_times_that_are_remembered_are_of_the_zone_they_are_kept_in(ada: Any) -> None:
    """As the ORM has them, also where the connection's zone has changed since."""
    database: Any = connections["default"]  # the connection itself, not what stands for it

    def keep_in(zone: str | None) -> None:
        database.settings_dict["TIME_ZONE"] = zone
        database.__dict__.pop("timezone", None)

    found = []
    try:
        for zone in (None, "Asia/Tokyo", None):
            keep_in(zone)
            ours: Any = read_user(ADA)
            found.append((ours.last_login, User.objects.get().last_login))
    finally:
        keep_in(None)
    assert all(ours == django for ours, django in found)
    assert found[0] == found[2] != found[1]
