"""Many users, and sign-ins among them. Of our library, which not every process has."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection
from django.test import RequestFactory
from django.utils import timezone

from clerk_views import clerk_client, clerk_required
from clerk_views.models import ClerkAccount
from tests.benchmarks.urls import with_user

_BATCH = 5_000


def move_in(users: int) -> None:
    """Write so many users, every second of them with a Clerk account, as they stand in a project after some years."""
    model: Any = get_user_model()
    now = timezone.now()
    for start in range(0, users, _BATCH):
        numbers = range(start, min(start + _BATCH, users))
        made = model.objects.bulk_create(
            [model(username=f"user-{n}", email=f"User{n}@Example.com", password="!", last_login=now) for n in numbers]
        )
        ClerkAccount.objects.bulk_create(
            [ClerkAccount(user=user, clerk_id=f"user_{user.pk:027}", synced_at=now) for user in made[::2]]
        )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def _each(calls: list[Callable[[], Any]]) -> float:
    """Return the median milliseconds by the clock: what the database does meanwhile is part of it."""
    costs = []
    for call in calls:
        before = time.perf_counter()
        call()
        costs.append((time.perf_counter() - before) * 1000)
    return statistics.median(costs)


def sign_in(tokens: list[str]) -> float:
    """Bring new users to a protected view, the call to Clerk's API included."""
    view = clerk_required(with_user)

    def visit(token: str) -> None:
        response = view(RequestFactory().get("/", headers={"authorization": f"Bearer {token}"}))
        if response.status_code != 200:
            raise RuntimeError(f"A new user was answered with {response.status_code}.")

    return _each([lambda token=token: visit(token) for token in tokens])  # type: ignore[misc]  # a default, to bind it


def sync(bodies: list[dict[str, Any]]) -> float:
    """Bring known users in step with newer profiles."""
    return _each([lambda body=body: clerk_client.sync_django_user(body) for body in bodies])  # type: ignore[misc]  # as above
