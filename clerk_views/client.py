"""
``clerk_client``: the doors' own way, step by step, for code that wants to go it alone.

It holds nothing. Connections belong to api.py, which makes them on first use, anew when the settings change or the
process forks, and closes them at exit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from clerk_views.api import get_api
from clerk_views.authentication import aauthenticate, authenticate
from clerk_views.calls import Budget
from clerk_views.conf import config
from clerk_views.states import RequestState

if TYPE_CHECKING:
    from clerk_backend_api import Clerk  # 127 ms to import, so only when somebody asks for it


class ClerkClient:
    """Clerk's Backend API and the steps from a request to a Django user, as configured by the settings."""

    @property
    def sdk(self) -> Clerk:
        """The underlying ``clerk_backend_api.Clerk``: pooled, bounded in time, without its hour-long retries."""
        return get_api(config()).sdk

    def authenticate_request(self, request: Any) -> RequestState:
        """
        Say how a request stands with Clerk.

        Raises:
            ClerkUnavailable: It cannot be decided, because the signing keys cannot be had.
        """
        return authenticate(request)

    async def aauthenticate_request(self, request: Any) -> RequestState:
        """See authenticate_request()."""
        return await aauthenticate(request)

    def get_user_id(self, state: RequestState) -> str:
        """
        Return Clerk's id (``user_…``) of the signed-in user.

        Raises:
            ValueError: Nobody is signed in.
        """
        if state.auth.user_id is None:
            raise ValueError(f"Nobody is signed in ({state.auth.reason}), so there is no user id.")
        return state.auth.user_id

    async def aget_user_id(self, state: RequestState) -> str:
        """See get_user_id()."""
        return self.get_user_id(state)

    def get_user_details(self, user_id: str) -> Any:
        """
        Fetch a user from Clerk's API: the SDK's ``User``, or where that refuses the payload an object that reads alike.

        Raises:
            UserNotFound: Clerk has no such user.
            ClerkUnavailable: Clerk did not answer, or not sensibly.
        """
        settings = config()
        return get_api(settings).get_user(user_id, Budget(settings.timeout))

    async def aget_user_details(self, user_id: str) -> Any:
        """See get_user_details()."""
        return await sync_to_async(self.get_user_details, thread_sensitive=False)(user_id)

    def sync_django_user(self, clerk_user: Any) -> Any:
        """
        Bring the Django user of a Clerk user up to date, linking or creating it, and return it.

        Args:
            clerk_user: What ``get_user_details`` returned, or a dictionary of the same shape.

        Raises:
            AccountRefused: The user may not be linked.
        """
        # It loads models, which are not there yet when an app's modules import clerk_client.
        from clerk_views import accounts

        return accounts.sync_django_user(clerk_user)

    async def async_django_user(self, clerk_user: Any) -> Any:
        """See sync_django_user(). Its name is that one's with the prefix ``a``, like the others."""
        return await sync_to_async(self.sync_django_user)(clerk_user)


clerk_client = ClerkClient()
