import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import clerk_views.models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="ClerkAccount",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("clerk_id", clerk_views.models.ClerkIdField(max_length=255, unique=True, verbose_name="Clerk id")),
                ("synced_at", models.DateTimeField(blank=True, null=True, verbose_name="last sync")),
                (
                    "clerk_updated_at",
                    models.BigIntegerField(
                        blank=True,
                        help_text="Clerk's own time in milliseconds. Older data is never applied.",
                        null=True,
                        verbose_name="last change at Clerk",
                    ),
                ),
                (
                    "linked",
                    models.BooleanField(
                        default=False,
                        help_text="The user was there first, and keeps the user name.",
                        verbose_name="linked",
                    ),
                ),
                (
                    "deactivated",
                    models.BooleanField(
                        default=False,
                        help_text="The user is banned or deleted at Clerk. Taken back when Clerk takes it back.",
                        verbose_name="deactivated by sync",
                    ),
                ),
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="clerk_account",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
            ],
            options={
                "verbose_name": "Clerk account",
                "verbose_name_plural": "Clerk accounts",
            },
        ),
    ]
