"""Threats that no other file is about: there is nothing to find where they would be. Over real views, at every door."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from clerk_views.testing import LocalClerk
from clerk_views.testing.minting import new_signing_key
from tests.doors import DOORS, FEW, REQUIRED, REST_FRAMEWORK, Door, door_id

pytestmark = pytest.mark.django_db

PAGE = {"accept": "text/html", "sec-fetch-dest": "document"}


def spellings(path: str) -> list[str]:
    """Ways to write a path that proxies, routers and rules are known to read differently."""
    name = path.strip("/")
    return [
        f"/{path}",
        f"/.{path}",
        f"/x/..{path}",
        f"/%2e{path}",
        f"/%{ord(name[0]):x}{name[1:]}/",
        f"/{name.upper()}/",
        f"/{name}",
        f"/{name};/",
        f"{path};x=1",
        f"{path}%00",
        f"{path}%2e%2e{path}",
        f"{path}..%2f",
        f"{path}%ff",
        f"{path}#{path}",
        f"{path}?/login/",
    ]


@pytest.mark.parametrize("door", REQUIRED, ids=door_id)
def test_no_spelling_of_the_path_leads_around_the_door(local_clerk: LocalClerk, door: Door) -> None:
    """MWR-01: the view is what is protected."""
    for path in spellings(door.path):
        # As an address, for the test client would take "//name/" for a host.
        response = door.send(path=f"http://testserver{path}")
        assert response.status_code in (301, 400, 401, 404), path
        assert b'"clerk"' not in response.content, path


@pytest.mark.parametrize("door", REQUIRED, ids=door_id)
def test_nothing_a_caller_may_send_is_an_exemption(local_clerk: LocalClerk, door: Door) -> None:
    """MWR-03."""
    for headers in (
        {"x-original-url": "/login/"},
        {"x-rewrite-url": "/login/"},
        {"x-forwarded-for": "127.0.0.1"},
        {"x-forwarded-host": "localhost", "x-forwarded-proto": "https"},
        {"x-http-method-override": "OPTIONS"},
        {"user-agent": "kube-probe/1.30"},
        {"referer": "http://testserver/login/"},
        {"access-control-request-method": "GET", "origin": "http://testserver"},
    ):
        assert door.send(headers=headers).status_code == 401, headers
    for query in ("?next=/login/", "?format=json", "?.css", "?public=1", "?_method=OPTIONS"):
        assert door.send(path=door.path + query).status_code == 401, query


@pytest.mark.parametrize("door", DOORS, ids=door_id)
def test_a_get_changes_nothing(local_clerk: LocalClerk, door: Door) -> None:
    """CSR-04: another site can make a browser send one, cookies and all."""
    user = local_clerk.add_user(email="ada@example.com")
    cookie = f"__session={local_clerk.token(user)}"
    assert door.verdict(door.send(None, cookie)) == user.id
    rows = get_user_model().objects.order_by("pk").values()
    before = list(rows)
    foreign = {"origin": "https://evil.example", "sec-fetch-site": "cross-site", **PAGE}
    response = door.send(None, cookie, headers=foreign)
    assert response.status_code == 200
    assert set(response.cookies) <= {"csrftoken"}  # which REST framework's own pages set
    assert list(rows) == before
    assert not Session.objects.exists()
    # The one cookie of ours that a GET may set counts turns, and decides about nobody.
    refused = door.send(None, f"__session={local_clerk.token(user, expires_in=-60)}", headers=foreign)
    names = {cookie.OutputString().partition("=")[0] for cookie in refused.cookies.values()}
    assert names <= {"__clerk_redirect_count", "csrftoken"}
    assert list(rows) == before


@pytest.mark.parametrize("door", [door for door in FEW if door.kind == "required"], ids=door_id)
def test_answers_do_not_tell_who_has_an_account(
    local_clerk: LocalClerk, door: Door, django_assert_num_queries: Any
) -> None:
    """USR-13: before the token is verified."""
    known = local_clerk.add_user(email="ada@example.com").id
    assert door.verdict(door.send(f"Bearer {local_clerk.token(known)}")) == known
    local_clerk.calls.reset()
    key = new_signing_key(local_clerk.signing_key.kid)
    for minted in (
        {"key": key},
        {"issued_at": time.time() - 600},
        {"azp": "http://evil.example"},
        {"header": {"alg": "none"}},
    ):
        with django_assert_num_queries(0):
            answers = [door.send(f"Bearer {local_clerk.token(user, **minted)}") for user in (known, "user_2unknown")]
        assert len({(answer.status_code, answer.content) for answer in answers}) == 1
    assert local_clerk.calls.user_fetches == 0


# REST framework's own session authentication, which asks for the user that ClerkMiddleware has left there.
BY_SESSION = [Door("/api/by-default/", "site", "sync", True)] if REST_FRAMEWORK else []


@pytest.mark.parametrize("door", [*(door for door in FEW if door.path != "/optional/"), *BY_SESSION], ids=door_id)
def test_every_refused_link_reads_the_same(local_clerk: LocalClerk, door: Door) -> None:
    """USR-13, LOG-02: whoever owns an address learns no more than that there is something."""
    users = get_user_model().objects
    why = {"staff": {"is_staff": True}, "root": {"is_superuser": True}, "gone": {"is_active": False}}
    seen = set()
    for name, flags in why.items():
        users.create_user(name, f"{name}@example.com")
        users.filter(username=name).update(**flags)
        stranger = local_clerk.add_user(email=f"{name}@example.com")
        response = door.send(f"Bearer {local_clerk.token(stranger)}")
        seen.add((response.status_code, response.content))
    [(status, body)] = seen
    assert status == 403
    assert json.loads(body) == {"detail": "You may not do this.", "code": "link-refused"}


@pytest.mark.parametrize("door", FEW, ids=door_id)
def test_metadata_grant_nothing(local_clerk: LocalClerk, door: Door) -> None:
    """USR-14."""
    boast: dict[str, Any] = {
        "is_staff": True,
        "is_superuser": True,
        "role": "admin",
        "groups": ["admin"],
        "is_active": True,
    }
    user = local_clerk.add_user(
        email="ada@example.com", public_metadata=boast, unsafe_metadata=boast, private_metadata=boast
    )
    token = local_clerk.token(user, metadata=boast, public_metadata=boast, unsafe_metadata=boast, **boast)
    assert door.verdict(door.send(f"Bearer {token}")) == user.id
    row = get_user_model().objects.get()
    assert (row.is_staff, row.is_superuser, row.groups.count(), row.user_permissions.count()) == (False, False, 0, 0)
    get_user_model().objects.update(is_active=False)
    assert door.verdict(door.send(f"Bearer {token}")) == "403"


@pytest.mark.parametrize("name", ["CLERK_CLOCK_SKEW_IN_MS", "CLERK_CACHE_TIMEOUT", "CLERK_TIMEOUT_MS"])
@pytest.mark.parametrize("value", [-1, 10**9, "5000", True, 0.5, float("nan")], ids=str)
def test_a_number_out_of_range_lets_nobody_in(local_clerk: LocalClerk, settings: Any, name: str, value: Any) -> None:
    """CFG-04: neither with the value nor with another in its stead."""
    token = local_clerk.token(local_clerk.add_user(email="ada@example.com"))
    setattr(settings, name, value)
    for door in FEW:
        assert door.send(f"Bearer {token}").status_code == 500
    with pytest.raises(SystemCheckError, match=name):
        call_command("check")


def test_a_misspelt_setting_is_found_before_the_start(local_clerk: LocalClerk, settings: Any) -> None:
    """CFG-06."""
    settings.CLERK_AUTH_PARTYS = ["https://app.example.com"]
    with pytest.raises(SystemCheckError, match="Did you mean CLERK_AUTH_PARTIES"):
        call_command("check")
