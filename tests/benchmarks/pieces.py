"""The steps of a request one by one, so that whoever finds requests slower can find out which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.auth import get_user_model
from django.test import RequestFactory

from clerk_views import authentication, freshness, keys, rows, states, tokens
from clerk_views.calls import Budget
from clerk_views.conf import config


def repeated(name: str, token: str, times: int) -> Callable[[], None]:
    """Return a function that takes the step of this name so many times."""
    settings = config()
    request = RequestFactory().get("/", headers={"authorization": f"Bearer {token}"})
    verdict = authentication.authenticate(request).verdict
    assert isinstance(verdict, states.Verdict)
    clerk_id = verdict.session[0]
    key = keys.get_key_ring(settings).get(verdict.key_id, Budget(5))
    memory = freshness.Memory(clerk_id, settings)
    users = get_user_model()._default_manager
    memo = states.memo_of(request)

    def verdict_again() -> None:
        memo.state = None
        authentication.authenticate(request)

    steps: dict[str, Callable[[], Any]] = {
        "settings": config,
        "find": lambda: tokens.find(request.META, settings),
        "verify": lambda: tokens.verify(tokens.parse(token), key, settings),
        "verdict": verdict_again,
        "cache": memory.recall,
        "row": lambda: rows.read(clerk_id),
        "orm": lambda: list(users.select_related("clerk_account").filter(clerk_account__clerk_id=clerk_id)),
    }
    step = steps[name]

    def run() -> None:
        for _ in range(times):
            step()

    return run
