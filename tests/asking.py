"""Ways to ask Clerk's API, of which each has to be as patient, and as careful, as the others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clerk_views.api import ClerkApi
from clerk_views.calls import Budget
from clerk_views.exceptions import ClerkUnavailable

Ask = Callable[[ClerkApi, Budget], object]

ASK: dict[str, Ask] = {
    "key set": lambda api, budget: api.get_key_set(budget),
    "user": lambda api, budget: api.get_user("user_1", budget),
    "count": lambda api, budget: api.count_users(budget),
    "revocation": lambda api, budget: api.revoke_session("sess_1", budget),
}


def fail(api: ClerkApi, ask: Ask = ASK["user"], seconds: float = 5) -> ClerkUnavailable:
    """Ask in vain, and return the error."""
    with pytest.raises(ClerkUnavailable) as caught:
        ask(api, Budget(seconds))
    return caught.value
