"""
The links between Django users and Clerk users, in Django's admin: by themselves, and beside a user.

What Clerk owns is only looked at; the next sync would put it back. "Sync now" is that sync, for the rows picked. The
columns of ClerkColumns and the action ``sync_now`` suit any user admin as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import localize
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from clerk_views.api import get_api
from clerk_views.calls import Budget
from clerk_views.columns import Columns
from clerk_views.conf import config
from clerk_views.exceptions import AccountRefused, ClerkUnavailable, UserNotFound
from clerk_views.models import ClerkAccount
from clerk_views.profiles import absent, read_profile
from clerk_views.sync import sync_profile

#: Leads to the instance that was looked at last: the address of an instance has ids in it that no key tells.
#: Source: Clerk's dashboard, "last active" links.
_DASHBOARD = "https://dashboard.clerk.com/last-active?path=users/{}"

_SYNCED = ("synced_at", "clerk_updated_at", "claims_issued_at", "linked", "deactivated", "deleted")


class ClerkColumns:
    """
    For a user admin: ``clerk_user`` and ``last_sync``, to be named in its lists and read-only fields.

    To stand before ``UserAdmin`` among the bases. Of a user who is linked, the columns that Clerk fills are shown and
    not edited: the next sync would put them back. ``is_active`` is the operator's own, as a user who was locked here
    stays so whatever Clerk says, but where the sync has cleared it.
    """

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Add to the admin's own what Clerk fills, see CLERK_USER_FIELDS. Columns of dotted paths nobody can know."""
        names = super().get_readonly_fields(request, obj)  # type: ignore[misc]  # of the admin that stands behind
        return (*names, *(name for name in _filled_by_clerk(obj) if name not in names))

    @admin.display(description=_("Clerk user"))
    def clerk_user(self, row: Any) -> str:
        """Link to Clerk's dashboard, to the user of this account or to the Clerk user of this Django user."""
        account = _account_of(row)
        if account is None:
            return "-"
        address = _DASHBOARD.format(account.clerk_id)
        return format_html('<a href="{}" target="_blank" rel="noopener noreferrer">{}</a>', address, account.clerk_id)

    @admin.display(description=_("last sync"))
    def last_sync(self, row: Any) -> str:
        """Say when an account, or a Django user, was last compared with Clerk."""
        account = _account_of(row)
        when = None if account is None else account.synced_at
        if when is None:
            return "-"
        return localize(timezone.localtime(when) if timezone.is_aware(when) else when)


def _account_of(row: Any) -> ClerkAccount | None:
    return row if isinstance(row, ClerkAccount) else getattr(row, "clerk_account", None)


def _filled_by_clerk(user: Any) -> Iterator[str]:
    account = _account_of(user)
    if account is None:
        return
    settings = config()
    columns = Columns(type(user), settings)
    for source, target in settings.user_fields.items():
        if source == "username" and account.linked:
            continue  # he was here first, and keeps his name
        field = columns.writable(target)
        if field is not None:
            yield field.name
    if account.deactivated:
        yield "is_active"


@admin.action(description=_("Sync now with Clerk"), permissions=["change"])
def sync_now(modeladmin: Any, request: HttpRequest, queryset: models.QuerySet[Any]) -> None:
    """Compare the picked accounts, or the picked users', with Clerk, and say for each what came of it."""
    linked = queryset if queryset.model is ClerkAccount else queryset.filter(clerk_account__isnull=False)
    ids = list(
        linked.values_list("clerk_id" if queryset.model is ClerkAccount else "clerk_account__clerk_id", flat=True)
    )
    for clerk_id in ids:
        level, outcome = _sync(clerk_id)
        messages.add_message(request, level, f"{clerk_id}: {outcome}")
    unlinked = queryset.count() - len(ids)
    if unlinked:
        messages.info(request, _("%d without a Clerk user.") % unlinked)


def _sync(clerk_id: str) -> tuple[int, Any]:
    settings = config()
    try:
        try:
            profile = read_profile(get_api(settings).get_user(clerk_id, Budget(settings.timeout)))
        except UserNotFound:
            profile = absent(clerk_id)
        user = sync_profile(profile, settings)
    except (AccountRefused, UserNotFound):
        return messages.WARNING, _("this Clerk user was deleted.")
    except ClerkUnavailable as error:
        return messages.ERROR, _("not compared (%s); try again later.") % error.reason
    except ImproperlyConfigured:
        return messages.ERROR, _("not compared, as there is no CLERK_SECRET_KEY.")
    if profile.deleted:
        return messages.WARNING, _("Clerk has no such user. %s is inactive.") % user
    if profile.barred:
        return messages.WARNING, _("banned at Clerk. %s is inactive.") % user
    return messages.SUCCESS, _("%s is in step.") % user


@admin.register(ClerkAccount)
class ClerkAccountAdmin(ClerkColumns, admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs alone
    """
    Look links up, sync them, make one by hand, or delete one.

    The rest is Clerk's to say. A link by hand is the way for staff, who are never linked by e-mail address.
    """

    list_display = ("clerk_id", "user", "synced_at", "linked", "deactivated")
    list_filter = ("deactivated", "deleted", "linked", "synced_at")
    list_select_related = ("user",)
    fields = ("user", "clerk_id", *_SYNCED)
    raw_id_fields = ("user",)
    actions = (sync_now,)

    def get_fields(self, request: HttpRequest, obj: ClerkAccount | None = None) -> Any:
        """Add the way to Clerk's dashboard where there is somebody to be shown."""
        return self.fields if obj is None else (*self.fields, "clerk_user")

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        """Search by Clerk id and by the user's name, whatever the user model calls it."""
        return ("clerk_id", f"user__{get_user_model().USERNAME_FIELD}")

    def get_readonly_fields(self, request: HttpRequest, obj: ClerkAccount | None = None) -> Any:
        """Let a new link be entered, and an existing one only be looked at."""
        return (*self.fields, "clerk_user") if obj is not None else self.fields[2:]

    def save_model(self, request: HttpRequest, obj: ClerkAccount, form: object, change: bool) -> None:
        """Note of a link made by hand that the user was there first."""
        obj.linked = obj.linked or not change
        super().save_model(request, obj, form, change)
