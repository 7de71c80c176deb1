"""What our errors show, and to whom."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path

from clerk_views.exceptions import AccountRefused, ClerkUnavailable, TokenRefused, UserNotFound

CANARY = "the user of the address is somebody's boss"


def test_a_refused_account_shows_only_fixed_texts() -> None:
    """LOG-02, USR-13: Django shows an error's text, REST framework its arguments."""
    error = AccountRefused("link-refused", CANARY)
    assert str(error) == "You may not do this."
    assert error.args == ({"detail": "You may not do this.", "code": "link-refused"},)
    assert (error.reason, error.detail) == ("link-refused", CANARY)
    assert CANARY in "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    "error",
    [
        AccountRefused("link-refused", CANARY),
        AccountRefused("user-inactive"),
        TokenRefused("token-invalid", "why"),
        UserNotFound(),
        ClerkUnavailable("upstream-timeout", "slow", retry_after=7, answered=True),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_copies_and_pickles(error: Exception) -> None:
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301  # our own, just made
        assert type(twin) is type(error)
        assert (twin.args, str(twin), vars(twin)) == (error.args, str(error), vars(error))


def refusing(request: HttpRequest) -> HttpResponse:
    raise AccountRefused("link-refused", CANARY)


urlpatterns = [path("", refusing)]


def test_django_s_own_page_shows_no_detail(caplog: pytest.LogCaptureFixture) -> None:
    """LOG-02: without any of our doors around; the log has it."""
    page = [("django.template.loaders.locmem.Loader", {"403.html": "<p>{{ exception }}</p>"})]
    engine = {"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": {"loaders": page}}
    with (
        override_settings(ROOT_URLCONF="tests.test_exceptions", TEMPLATES=[engine]),
        caplog.at_level(logging.WARNING, "django.request"),
    ):
        response = Client().get("/")
    assert response.status_code == 403
    assert response.content == b"<p>You may not do this.</p>"
    assert CANARY in caplog.text
