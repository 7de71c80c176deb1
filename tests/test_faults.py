"""
What fails, at one door of each kind, sync and async: the known go on, the unknown get 503, and nothing is lost.

What the parts themselves make of the same faults is in test_keys.py, test_api.py, test_accounts.py and test_sync.py;
here whole requests meet them (I5).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.db import OperationalError, connection
from django.test import Client

from clerk_views import clerk_client
from clerk_views.conf import config
from clerk_views.models import ClerkAccount
from clerk_views.testing import LocalClerk
from clerk_views.testing.minting import new_signing_key
from tests.doors import FEW, Door, door_id
from tests.probes import simultaneously

pytestmark = pytest.mark.django_db
at_every_door = pytest.mark.parametrize("door", FEW, ids=door_id)

#: Each: what is wrong with Clerk, by the threat's id.
UPSTREAM: dict[str, Callable[[LocalClerk], None]] = {
    "F-03 never answers": lambda server: server.faults.slow(30),
    "F-03 drips": lambda server: server.faults.drip(),
    "F-04 too many requests": lambda server: server.faults.status(429),
    "F-04 absurd pause": lambda server: server.faults.status(429, headers={"Retry-After": "999999999"}),
    "F-04 no pause": lambda server: server.faults.status(429, headers={"Retry-After": "-1"}),
    "F-05 500": lambda server: server.faults.status(500),
    "F-05 408": lambda server: server.faults.status(408),
    "F-05 drops the connection": lambda server: server.faults.down(),
    "F-05 bad chunk": lambda server: server.faults.garbage("bad-chunk"),
    "F-06 a page": lambda server: server.faults.garbage("html"),
    "F-06 null": lambda server: server.faults.garbage("null"),
    "F-06 a list": lambda server: server.faults.garbage("list"),
    "F-06 wrong types": lambda server: server.faults.garbage("wrong-types"),
    "F-06 without end": lambda server: server.faults.garbage("endless"),
    "F-06 another charset": lambda server: server.faults.garbage("charset"),
    "F-08 401 about our key": lambda server: server.faults.status(401),
    "F-08 403 about our key": lambda server: server.faults.status(403),
    "F-10 redirects": lambda server: server.faults.redirect(f"{server.url}/v1/elsewhere"),
}


def unavailable(response: Any) -> None:
    """Assert that an answer is the 503 of the contract, and tells nothing."""
    assert response.status_code == 503
    assert 1 <= int(response["Retry-After"]) <= 120
    assert "no-store" in response["Cache-Control"]
    assert not response.cookies
    assert response.json()["detail"] == "This cannot be decided right now. Try again shortly."
    assert set(response.json()) == {"detail", "code"}
    assert "user_" not in response.content.decode()


@at_every_door
@pytest.mark.parametrize("fault", UPSTREAM)
def test_clerk_fails(local_clerk: LocalClerk, settings: Any, door: Door, fault: str) -> None:
    """F-03 to F-06, F-08, F-10: with the keys at hand, but not the user."""
    settings.CLERK_TIMEOUT_MS = 1000
    ada = local_clerk.add_user(email="ada@example.com", first_name="Ada")
    stranger = local_clerk.add_user(email="bob@example.com")
    assert door.verdict(door.send(f"Bearer {local_clerk.token(ada)}")) == ada.id
    local_clerk.update_user(ada, first_name="Augusta")
    UPSTREAM[fault](local_clerk)
    cache.clear()
    began = time.monotonic()
    assert door.verdict(door.send(f"Bearer {local_clerk.token(ada, jti='renewed')}")) == ada.id
    for _ in range(2):
        unavailable(door.send(f"Bearer {local_clerk.token(stranger)}"))
    assert time.monotonic() - began < 5
    user = get_user_model().objects.get()  # the stranger has no row
    assert (user.first_name, user.is_active) == ("Ada", True)
    assert local_clerk.calls.count("/v1/elsewhere") == 0


@at_every_door
@pytest.mark.parametrize("fault", [name for name in UPSTREAM if name[:4] in ("F-03", "F-04", "F-06", "F-10")])
def test_there_are_no_keys(local_clerk: LocalClerk, settings: Any, door: Door, fault: str) -> None:
    """F-03, F-04, F-06, F-10, KEY-08: nobody can be told from anybody, and a redirect leads the secret key nowhere."""
    settings.CLERK_TIMEOUT_MS = 500
    UPSTREAM[fault](local_clerk)
    token = local_clerk.token(local_clerk.add_user(email="ada@example.com"))
    for _ in range(2):
        unavailable(door.send(f"Bearer {token}"))
    assert door.verdict(door.send()) == "nobody"
    assert local_clerk.calls.count("/v1/elsewhere") == 0


@at_every_door
def test_clerk_knows_no_such_user(local_clerk: LocalClerk, door: Door) -> None:
    """F-09: that is an answer. The row stays, and a browser is not sent round in circles."""
    ada = local_clerk.add_user(email="ada@example.com")
    assert door.verdict(door.send(f"Bearer {local_clerk.token(ada)}")) == ada.id
    local_clerk.delete_user(ada)
    cache.clear()
    local_clerk.calls.reset()
    for who in (ada.id, "user_2nobodyHasThisId"):
        for turn in range(2):
            response = door.send(f"Bearer {local_clerk.token(who, jti=str(turn))}")
            assert response.status_code == 403
            assert response.json()["detail"] == "You may not do this."  # type: ignore[attr-defined]
            page = door.send(f"Bearer {local_clerk.token(who)}", headers={"accept": "text/html"})
            assert page.status_code == 403
    assert local_clerk.calls.user_fetches == 2
    assert not get_user_model().objects.get().is_active


@pytest.fixture
def broken_database() -> Iterator[Callable[..., list[str]]]:
    """``broken_database("INSERT", times=2)``: so many of such statements fail; returns those that did."""
    wrappers = []

    def start(*starts: str, times: int = 10**6) -> list[str]:
        failed: list[str] = []

        def fail(execute: Any, sql: str, *arguments: Any) -> Any:
            if sql.startswith(starts) and len(failed) < times:
                failed.append(sql)
                raise OperationalError("database is locked")
            return execute(sql, *arguments)

        wrapper = connection.execute_wrapper(fail)
        wrapper.__enter__()
        wrappers.append(wrapper)
        return failed

    yield start
    while wrappers:
        wrappers.pop().__exit__(None, None, None)


@at_every_door
def test_the_database_does_not_read(local_clerk: LocalClerk, door: Door, broken_database: Any) -> None:
    """F-15, CAC-07: and nothing of it is remembered."""
    token = local_clerk.token(local_clerk.add_user(email="ada@example.com"))
    assert door.send(f"Bearer {token}").status_code == 200
    failed = broken_database("SELECT", times=1)
    unavailable(door.send(f"Bearer {token}"))
    assert failed
    assert door.send(f"Bearer {token}").status_code == 200


@at_every_door
def test_the_database_does_not_write(local_clerk: LocalClerk, door: Door, broken_database: Any) -> None:
    """F-16: who is known is served as stored, and who is new may come back."""
    ada = local_clerk.add_user(email="ada@example.com", first_name="Ada")
    assert door.verdict(door.send(f"Bearer {local_clerk.token(ada)}")) == ada.id
    local_clerk.update_user(ada, first_name="Augusta")
    cache.clear()
    broken_database("INSERT", "UPDATE", "DELETE")
    assert door.verdict(door.send(f"Bearer {local_clerk.token(ada, jti='renewed')}")) == ada.id
    unavailable(door.send(f"Bearer {local_clerk.token(local_clerk.add_user(email='bob@example.com'))}"))
    assert get_user_model().objects.get().first_name == "Ada"


@at_every_door
@pytest.mark.parametrize(("times", "expected"), [(1, 200), (2, 200), (3, 503)])
def test_somebody_holds_a_lock(
    local_clerk: LocalClerk, door: Door, broken_database: Any, times: int, expected: int
) -> None:
    """F-17: two more tries, within a second."""
    failed = broken_database("INSERT", times=times)
    token = local_clerk.token(local_clerk.add_user(email="ada@example.com"))
    began = time.monotonic()
    assert door.send(f"Bearer {token}").status_code == expected
    assert time.monotonic() - began < 2
    assert len(failed) == times
    assert get_user_model().objects.count() == (1 if expected == 200 else 0)


@at_every_door
def test_somebody_else_is_first(local_clerk: LocalClerk, door: Door) -> None:
    """F-18, USR-08: the same user is created between our look and our write."""
    ada = local_clerk.add_user(email="ada@example.com")
    rivals: list[Any] = []

    def rival(execute: Any, sql: str, *arguments: Any) -> Any:
        if sql.startswith("SAVEPOINT") and not rivals:
            rivals.append(None)
            rivals.append(clerk_client.sync_django_user(ada.data))
        return execute(sql, *arguments)

    with connection.execute_wrapper(rival):
        assert door.verdict(door.send(f"Bearer {local_clerk.token(ada)}")) == ada.id
    assert rivals[1:] == [get_user_model().objects.get()]
    assert ClerkAccount.objects.get().user == rivals[1]


def user_of(name: str, email: str = "ada@example.com", **flags: Any) -> Any:
    user = get_user_model().objects.create_user(name, email, "password")
    get_user_model().objects.filter(pk=user.pk).update(email=email, **flags)  # untidied
    return user


#: Each: the threat, what stands here, what Clerk says, and what becomes of it: a refusal, a new user, or the old one.
LINKS: dict[str, tuple[list[dict[str, Any]], dict[str, Any], str]] = {
    "USR-01 unverified": ([{"name": "ada"}], {"email": "ada@example.com", "verified": False}, "new"),
    "USR-01 expired": ([{"name": "ada"}], {"email": "ada@example.com", "verified": "expired"}, "new"),
    "USR-01 another verified address": (
        [{"name": "ada"}],
        {"email": "eve@example.com", "email_addresses": ["ada@example.com"]},
        "new",
    ),
    "USR-01 dangling primary": (
        [{"name": "ada"}],
        {"email": "ada@example.com", "primary_email_address_id": "idn_dangling"},
        "new",
    ),
    "USR-02 dotless i": ([{"name": "mike", "email": "mike@example.com"}], {"email": "m\u0131ke@example.com"}, "new"),
    "USR-02 Kelvin sign": ([{"name": "kim", "email": "kim@example.com"}], {"email": "\u212aim@example.com"}, "new"),
    "USR-02 plus": ([{"name": "ada"}], {"email": "ada+x@example.com"}, "new"),
    "USR-02 ASCII case": ([{"name": "ada"}], {"email": "ADA@Example.com"}, "old"),
    "USR-03 several": ([{"name": "ada"}, {"name": "ada2", "email": "ADA@example.com"}], {}, "refused"),
    "USR-04 linked to another": ([{"name": "ada", "clerk_id": "user_2other"}], {}, "refused"),
    "USR-05 staff": ([{"name": "ada", "is_staff": True}], {}, "refused"),
    "USR-05 superuser": ([{"name": "ada", "is_superuser": True}], {}, "refused"),
    "USR-05 inactive": ([{"name": "ada", "is_active": False}], {}, "refused"),
}


@at_every_door
@pytest.mark.parametrize("case", LINKS)
def test_who_is_linked_at_the_first_sign_in(local_clerk: LocalClerk, door: Door, case: str) -> None:
    """USR-01 to USR-05, USR-10."""
    here, said, expected = LINKS[case]
    users = []
    for fields in here:
        clerk_id = {**fields}.get("clerk_id")
        users.append(user_of(**{name: value for name, value in fields.items() if name != "clerk_id"}))
        if clerk_id:
            ClerkAccount.objects.create(user=users[-1], clerk_id=clerk_id)
    ada = local_clerk.add_user(**{"email": "ada@example.com", **said})
    session = Client()
    session.force_login(users[0])
    rows = get_user_model().objects.order_by("pk")
    before = list(rows.values())
    response: Any = door.send(f"Bearer {local_clerk.token(ada)}")
    if expected == "refused":
        assert response.status_code == 403
        assert response.json() == {"detail": "You may not do this.", "code": "link-refused"}
        assert list(rows.values()) == before
        return
    assert door.verdict(response) == ada.id
    if expected == "new":
        assert response.json()["user"] not in [user.pk for user in users]
        assert list(rows.values())[:-1] == before
    else:
        assert response.json()["user"] == users[0].pk
        user = rows.get()
        assert not user.has_usable_password()
        with door.open():
            assert session.get("/login/").status_code == 302  # the session of before has ended


@at_every_door
def test_only_what_may_change_changes(local_clerk: LocalClerk, door: Door) -> None:
    """USR-06, I7: every column of the row before and after, while Clerk claims to know of all of them."""
    model = get_user_model()
    columns = [field.name for field in model._meta.get_fields()]
    hostile: dict[str, Any] = dict.fromkeys(columns, True) | {"is_admin": True, "public_metadata": {"is_staff": True}}
    own = {"id", "email", "username", "first_name", "last_name"}
    hostile = {name: value for name, value in hostile.items() if name not in own}
    ada = local_clerk.add_user(email="ada@example.com", username="ada", first_name="Ada", last_name="King", **hostile)
    token = local_clerk.token(ada, **{name: value for name, value in hostile.items() if name != "public_metadata"})
    assert door.verdict(door.send(f"Bearer {token}")) == ada.id
    created = model.objects.get()
    assert (created.is_staff, created.is_superuser, created.has_usable_password()) == (False, False, False)
    assert (created.groups.count(), created.user_permissions.count()) == (0, 0)
    before: dict[str, Any] = {**model.objects.values().get()}
    local_clerk.update_user(ada, email="a@example.com", username="countess", first_name="A", last_name="Lovelace")
    cache.clear()
    assert door.verdict(door.send(f"Bearer {local_clerk.token(ada, jti='renewed')}")) == ada.id
    after: dict[str, Any] = {**model.objects.values().get()}
    assert {name for name in after if after[name] != before[name]} == {"email", "username", "first_name", "last_name"}


@at_every_door
def test_names_and_addresses_of_others(local_clerk: LocalClerk, door: Door) -> None:
    """USR-09, USR-11, USR-12: a taken name is numbered, and late news is none."""
    user_of("alex", "somebody@example.com")
    alex = local_clerk.add_user(email="alex@example.com", username="alex", first_name="Alex")
    assert door.verdict(door.send(f"Bearer {local_clerk.token(alex)}")) == alex.id
    row: Any = ClerkAccount.objects.get().user
    assert row.username == "alex-2"
    late = {**alex.data, "first_name": "Older"}
    newer = local_clerk.update_user(alex, email="new@example.com", first_name="Newer").data
    clerk_client.sync_django_user(newer)
    clerk_client.sync_django_user(late)
    local_clerk.update_user(alex, first_name="Older", updated_at=newer["updated_at"] - 1)
    cache.clear()
    assert door.verdict(door.send(f"Bearer {local_clerk.token(alex, jti='renewed')}")) == alex.id
    row.refresh_from_db()
    assert (row.first_name, row.email) == ("Newer", "new@example.com")
    # The address that has become free is somebody else's now, and he does not come into the old row by it.
    heir = local_clerk.add_user(email="alex@example.com")
    assert door.verdict(door.send(f"Bearer {local_clerk.token(heir)}")) == heir.id
    assert ClerkAccount.objects.get(clerk_id=heir.id).user != row


@at_every_door
@pytest.mark.django_db(transaction=True)
def test_many_first_sign_ins_of_one_user(local_clerk: LocalClerk, settings: Any, door: Door) -> None:
    """USR-08, KEY-07, CAC-06: one fetch of the keys, one of the user, one row; and once more when that is stale."""
    settings.CLERK_TIMEOUT_MS = 20_000
    ada = local_clerk.add_user(email="ada@example.com")
    tokens = [local_clerk.token(ada, jti=str(number)) for number in range(16)]
    with door.open():  # once for all threads, as settings are everybody's
        still = Door(door.path, door.kind, door.world, False)
        for _ in range(2):
            local_clerk.calls.reset()
            seen = simultaneously(8, lambda index: still.verdict(still.send(f"Bearer {tokens.pop()}")))
            assert seen == [ada.id] * 8
            assert local_clerk.calls.user_fetches == 1
            assert local_clerk.calls.key_fetches <= 1
            cache.clear()
    assert get_user_model().objects.count() == ClerkAccount.objects.count() == 1


@at_every_door
def test_bad_tokens_neither_cost_calls_nor_keys(local_clerk: LocalClerk, door: Door) -> None:
    """KEY-01, KEY-02, KEY-04: whatever the key id; and a set without a good key replaces nothing."""
    ada = local_clerk.add_user(email="ada@example.com")
    good = local_clerk.token(ada)
    assert door.verdict(door.send(f"Bearer {good}")) == ada.id
    local_clerk.calls.reset()
    local_clerk.key_set_override([{**local_clerk.signing_key.jwk, "use": "enc"}])
    forged = new_signing_key(local_clerk.signing_key.kid)
    stranger = new_signing_key("ins_unknown")
    for number in range(10):
        for key in (forged, stranger):
            assert door.verdict(door.send(f"Bearer {local_clerk.token(ada, key=key, jti=str(number))}")) == "nobody"
    assert local_clerk.calls.total <= 1
    assert door.verdict(door.send(f"Bearer {local_clerk.token(ada, jti='renewed')}")) == ada.id


@at_every_door
def test_a_verdict_is_of_one_configuration(local_clerk: LocalClerk, settings: Any, door: Door) -> None:
    """CAC-02, CFG-05: one process, one cache, two configurations."""
    ada = local_clerk.add_user(email="ada@example.com")
    good = f"Bearer {local_clerk.token(ada, azp='http://testserver')}"
    assert door.verdict(door.send(good)) == ada.id
    for name, value in (
        ("CLERK_AUTH_PARTIES", ["https://other.example"]),
        ("CLERK_AUDIENCE", "another"),
        ("CLERK_JWT_KEY", new_signing_key("ins_other").public_pem),
    ):
        kept = getattr(settings, name, None)
        first = config().fingerprint
        setattr(settings, name, value)
        assert config().fingerprint != first
        assert door.verdict(door.send(good)) == "nobody", name
        setattr(settings, name, kept)
        assert door.verdict(door.send(good)) == ada.id, name
