"""``clerk_client``: the steps from a request to a Django user, one by one."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from clerk_backend_api import Clerk
from django.test import RequestFactory

from clerk_views import ClerkClient, clerk_client
from clerk_views.exceptions import UserNotFound
from clerk_views.testing import LocalClerk

pytestmark = pytest.mark.django_db


@pytest.fixture(params=["sync", "async"])
def step(request: pytest.FixtureRequest) -> Any:
    """Call a step of the client, or its async twin."""

    def call(name: str, *arguments: Any) -> Any:
        if request.param == "async":
            return async_to_sync(getattr(clerk_client, f"a{name}"))(*arguments)
        return getattr(clerk_client, name)(*arguments)

    return call


def test_the_steps_lead_to_the_django_user(local_clerk: LocalClerk, step: Any) -> None:
    ada = local_clerk.add_user(email="ada@example.com", first_name="Ada")
    request = RequestFactory().get("/", headers={"authorization": f"Bearer {local_clerk.token(ada)}"})
    state = step("authenticate_request", request)
    assert step("get_user_id", state) == ada.id
    clerk_user = step("get_user_details", ada.id)
    assert clerk_user.first_name == "Ada"
    user = step("sync_django_user", clerk_user)
    assert (user.email, user.first_name) == ("ada@example.com", "Ada")
    assert not user.has_usable_password()


def test_nobody_has_no_id(local_clerk: LocalClerk, step: Any) -> None:
    with pytest.raises(ValueError, match="session-token-and-uat-missing"):
        step(
            "get_user_id",
            step("authenticate_request", RequestFactory().get("/", headers={"cookie": "__clerk_db_jwt=1"})),
        )


def test_an_unknown_user_is_not_found(local_clerk: LocalClerk, step: Any) -> None:
    with pytest.raises(UserNotFound):
        step("get_user_details", "user_unknown")


def test_the_sdk_is_configured_from_the_settings(local_clerk: LocalClerk, settings: Any) -> None:
    ada = local_clerk.add_user(email="ada@example.com")
    sdk = clerk_client.sdk
    assert isinstance(sdk, Clerk)
    assert sdk is ClerkClient().sdk
    assert sdk.users.get(user_id=ada.id).id == ada.id
    settings.CLERK_TIMEOUT_MS = 1000
    assert clerk_client.sdk is not sdk
    assert local_clerk.secret_key not in repr(clerk_client)
