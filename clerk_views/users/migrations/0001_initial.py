import django.utils.timezone
from django.db import migrations, models

import clerk_views.models
import clerk_views.users.models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
    ]

    operations = [
        migrations.CreateModel(
            name="ClerkUser",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("password", models.CharField(max_length=128, verbose_name="password")),
                ("last_login", models.DateTimeField(blank=True, null=True, verbose_name="last login")),
                (
                    "is_superuser",
                    models.BooleanField(
                        default=False,
                        help_text="Designates that this user has all permissions without explicitly assigning them.",
                        verbose_name="superuser status",
                    ),
                ),
                (
                    "clerk_user_id",
                    clerk_views.models.ClerkIdField(
                        blank=True, max_length=255, null=True, unique=True, verbose_name="Clerk id"
                    ),
                ),
                (
                    "username",
                    models.CharField(
                        error_messages={"unique": "A user of this name exists already."},
                        max_length=255,
                        unique=True,
                        verbose_name="username",
                    ),
                ),
                ("email", models.EmailField(blank=True, db_index=True, max_length=254, verbose_name="email address")),
                ("first_name", models.CharField(blank=True, max_length=255, verbose_name="first name")),
                ("last_name", models.CharField(blank=True, max_length=255, verbose_name="last name")),
                ("image", models.URLField(blank=True, max_length=2048, verbose_name="image")),
                ("last_active_at", models.DateTimeField(blank=True, null=True, verbose_name="last active")),
                (
                    "is_staff",
                    models.BooleanField(
                        default=False,
                        help_text="Whether the user may enter this admin site.",
                        verbose_name="staff status",
                    ),
                ),
                (
                    "is_active",
                    models.BooleanField(
                        default=True,
                        help_text="Whether the user may come in. Clear this instead of deleting users.",
                        verbose_name="active",
                    ),
                ),
                ("date_joined", models.DateTimeField(default=django.utils.timezone.now, verbose_name="date joined")),
                (
                    "groups",
                    models.ManyToManyField(
                        blank=True,
                        help_text="The groups this user belongs to. A user will get all permissions granted to each of "
                        "their groups.",
                        related_name="user_set",
                        related_query_name="user",
                        to="auth.group",
                        verbose_name="groups",
                    ),
                ),
                (
                    "user_permissions",
                    models.ManyToManyField(
                        blank=True,
                        help_text="Specific permissions for this user.",
                        related_name="user_set",
                        related_query_name="user",
                        to="auth.permission",
                        verbose_name="user permissions",
                    ),
                ),
            ],
            options={
                "verbose_name": "user",
                "verbose_name_plural": "users",
            },
            managers=[
                ("objects", clerk_views.users.models.ClerkUserManager()),
            ],
        ),
    ]
