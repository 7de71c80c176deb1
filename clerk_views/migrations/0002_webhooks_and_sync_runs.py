import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import clerk_views.models


class Migration(migrations.Migration):
    dependencies = [
        ("clerk_views", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="ClerkSyncRun",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("scope", models.CharField(max_length=64, unique=True, verbose_name="scope")),
                ("started_at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="started")),
                ("position", models.PositiveIntegerField(default=0, verbose_name="users done")),
                (
                    "last_id",
                    clerk_views.models.ClerkIdField(
                        blank=True, default="", max_length=255, verbose_name="last Clerk id"
                    ),
                ),
                ("last_created_at", models.BigIntegerField(default=0, verbose_name="created at Clerk")),
                ("counts", models.JSONField(default=dict, verbose_name="outcome so far")),
            ],
            options={
                "verbose_name": "Clerk sync run",
                "verbose_name_plural": "Clerk sync runs",
            },
        ),
        migrations.CreateModel(
            name="ClerkWebhookMessage",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("message_id", clerk_views.models.ClerkIdField(max_length=255, unique=True, verbose_name="message id")),
                (
                    "received_at",
                    models.DateTimeField(db_index=True, default=django.utils.timezone.now, verbose_name="received"),
                ),
            ],
            options={
                "verbose_name": "Clerk webhook message",
                "verbose_name_plural": "Clerk webhook messages",
            },
        ),
        migrations.AlterField(
            model_name="clerkaccount",
            name="user",
            field=models.OneToOneField(
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="clerk_account",
                to=settings.AUTH_USER_MODEL,
                verbose_name="user",
            ),
        ),
    ]
