"""The ready-made user model, in a process of its own where it is the user model."""

from __future__ import annotations

from tests.elsewhere import run_elsewhere


def test_the_ready_made_user_model() -> None:
    """Its own tests, and some of the sync's."""
    run_elsewhere(
        "tests/ready_made_user.py", "tests/test_sync.py::TestLinking", CLERK_VIEWS_TEST_USER="clerk_users.ClerkUser"
    )
