"""Django's handle on the optional app."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ClerkUsersConfig(AppConfig):
    """Bring the ready-made user model into a project."""

    name = "clerk_views.users"
    label = "clerk_users"
    verbose_name = _("Users")
    default_auto_field = "django.db.models.BigAutoField"
