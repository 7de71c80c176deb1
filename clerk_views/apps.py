"""Django's handle on the library: one entry in INSTALLED_APPS."""

from django.apps import AppConfig

from clerk_views import checks


class ClerkViewsConfig(AppConfig):
    """Bring the table of links and the system checks into a project."""

    name = "clerk_views"
    verbose_name = "Clerk"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks."""
        checks.register()
