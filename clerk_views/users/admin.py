"""The ready-made user model in Django's admin."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import AdminUserCreationForm, UserChangeForm
from django.utils.translation import gettext_lazy as _

from clerk_views.admin import ClerkColumns, sync_now
from clerk_views.users.models import ClerkUser


class ClerkUserCreationForm(AdminUserCreationForm):  # type: ignore[type-arg]  # generic in the stubs alone
    """Asks for a name, and for a password or none."""

    class Meta:
        model = ClerkUser
        fields = ("username",)


class ClerkUserChangeForm(UserChangeForm):  # type: ignore[type-arg]  # generic in the stubs alone
    """Shows that there is a password, never its hash as something to edit."""

    class Meta:
        model = ClerkUser
        # Without the read-only ones: Django 5.2 warns of the scheme that a form's URL field would assume.
        fields = (
            "username",
            "password",
            "first_name",
            "last_name",
            "email",
            "is_active",
            "is_staff",
            "is_superuser",
            "groups",
            "user_permissions",
            "last_login",
            "date_joined",
        )


@admin.register(ClerkUser)
class ClerkUserAdmin(ClerkColumns, UserAdmin):  # type: ignore[type-arg]  # generic in the stubs alone
    """Django's own user admin; what Clerk says is only looked at, as ClerkColumns has it."""

    form = ClerkUserChangeForm
    add_form = ClerkUserCreationForm
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (_("Personal info"), {"fields": ("first_name", "last_name", "email")}),
        (_("Clerk"), {"fields": ("clerk_user_id", "clerk_user", "last_sync", "image", "last_active_at")}),
        (_("Permissions"), {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")}),
        (_("Important dates"), {"fields": ("last_login", "date_joined")}),
    )
    actions = (sync_now,)
    readonly_fields = ("clerk_user", "last_sync", "clerk_user_id", "image", "last_active_at")
    list_display = ("username", "email", "first_name", "last_name", "is_staff", "last_active_at")
    search_fields = ("username", "first_name", "last_name", "email", "=clerk_user_id")
