"""The links between Django users and Clerk users, in Django's admin."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.http import HttpRequest

from clerk_views.models import ClerkAccount


@admin.register(ClerkAccount)
class ClerkAccountAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs alone
    """
    Look links up, make one by hand, or delete one.

    The rest is Clerk's to say. A link by hand is the way for staff, who are never linked by e-mail address.
    """

    list_display = ("clerk_id", "user", "synced_at", "linked", "deactivated")
    list_filter = ("deactivated", "linked", "synced_at")
    list_select_related = ("user",)
    fields = ("user", "clerk_id", "synced_at", "clerk_updated_at", "linked", "deactivated")
    raw_id_fields = ("user",)

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        """Search by Clerk id and by the user's name, whatever the user model calls it."""
        return ("clerk_id", f"user__{get_user_model().USERNAME_FIELD}")

    def get_readonly_fields(self, request: HttpRequest, obj: ClerkAccount | None = None) -> tuple[str, ...]:
        """Let a new link be entered, and an existing one only be looked at."""
        return self.fields if obj is not None else self.fields[2:]

    def save_model(self, request: HttpRequest, obj: ClerkAccount, form: object, change: bool) -> None:
        """Note of a link made by hand that the user was there first."""
        obj.linked = obj.linked or not change
        super().save_model(request, obj, form, change)
