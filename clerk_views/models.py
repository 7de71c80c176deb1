"""
Which Clerk user a Django user is, and when the two were last in step; and what was dealt with already.

Messages and runs are kept here and not in a cache: a cache forgets when it likes, and with these it would be wrong.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class ClerkIdField(models.CharField):  # type: ignore[type-arg]  # generic in the stubs alone
    """
    A column for Clerk's ids, which differ by case.

    MySQL and MariaDB compare text without regard to case unless told otherwise, and would take ``user_2aB`` and
    ``user_2Ab`` for one; other databases compare exactly, and do not know this collation's name.
    """

    def db_parameters(self, connection: Any) -> Any:
        """Return the column's type and collation on this database."""
        parameters: dict[str, Any] = dict(super().db_parameters(connection))
        if connection.vendor == "mysql":
            parameters["collation"] = "utf8mb4_bin"
        return parameters


class ClerkAccount(models.Model):
    """
    The link between a Django user and a Clerk user.

    The row stays when the Clerk user is gone: it keeps the Django user from being linked to somebody else who comes
    along with the same e-mail address. To set a user free on purpose, delete the row.

    A row without a user says that a Clerk user was deleted before it was ever seen here. It is in this table because
    of the unique id: news of the user that arrives late, or at the same moment, cannot be written beside it. What
    arrives late makes an inactive user of it, as it would have done in its turn.
    """

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="clerk_account", verbose_name=_("user"), null=True
    )
    clerk_id = ClerkIdField(_("Clerk id"), max_length=255, unique=True)
    synced_at = models.DateTimeField(_("last sync"), null=True, blank=True)
    clerk_updated_at = models.BigIntegerField(
        _("last change at Clerk"),
        null=True,
        blank=True,
        help_text=_("Clerk's own time in milliseconds. Older data is never applied."),
    )
    news_rank = models.BigIntegerField(_("order among news of the same change"), null=True, editable=False)
    claims_issued_at = models.BigIntegerField(
        _("last claims"),
        null=True,
        blank=True,
        help_text=_("When the token of the last applied claims was issued, in milliseconds. Older ones are not."),
    )
    linked = models.BooleanField(
        _("linked"), default=False, help_text=_("The user was there first, and keeps the user name.")
    )
    deactivated = models.BooleanField(
        _("deactivated by sync"),
        default=False,
        help_text=_("The user is banned or deleted at Clerk. Taken back when Clerk takes it back."),
    )
    deleted = models.BooleanField(
        _("deleted at Clerk"), default=False, help_text=_("Clerk has said so. No news takes it back.")
    )

    class Meta:
        verbose_name = _("Clerk account")
        verbose_name_plural = _("Clerk accounts")

    def __str__(self) -> str:
        return str(self.clerk_id)


class ClerkWebhookMessage(models.Model):
    """A webhook message that was dealt with; kept for some days, while Clerk may send it once more."""

    message_id = ClerkIdField(_("message id"), max_length=255, unique=True)
    received_at = models.DateTimeField(_("received"), default=timezone.now, db_index=True)

    class Meta:
        verbose_name = _("Clerk webhook message")
        verbose_name_plural = _("Clerk webhook messages")

    def __str__(self) -> str:
        return str(self.message_id)


class ClerkSyncRun(models.Model):
    """How far ``manage.py clerk_sync`` has come, for the next one to go on there. Deleted when it is through."""

    scope = models.CharField(_("scope"), max_length=64, unique=True)
    started_at = models.DateTimeField(_("started"), default=timezone.now)
    kept_at = models.DateTimeField(_("last page"), default=timezone.now)
    since = models.DateTimeField(_("only what changed since"), null=True, blank=True)
    position = models.PositiveIntegerField(_("users done"), default=0)
    last_id = ClerkIdField(_("last Clerk id"), max_length=255, blank=True, default="")
    last_created_at = models.BigIntegerField(_("created at Clerk"), default=0)
    counts = models.JSONField(_("outcome so far"), default=dict)

    class Meta:
        verbose_name = _("Clerk sync run")
        verbose_name_plural = _("Clerk sync runs")

    def __str__(self) -> str:
        return f"{self.position} users since {self.started_at:%Y-%m-%d %H:%M}"
