from typing import Any

from django.db import migrations, models

_DELETED = 2**63 - 1


def _tell_deletions_apart(apps: Any, schema_editor: Any) -> None:
    """Until now a deletion stood in place of the time of the last change."""
    accounts = apps.get_model("clerk_views", "ClerkAccount").objects.using(schema_editor.connection.alias)
    accounts.filter(clerk_updated_at=_DELETED).update(deleted=True, clerk_updated_at=None)


class Migration(migrations.Migration):
    dependencies = [
        ("clerk_views", "0003_claims_issued_at"),
    ]

    operations = [
        migrations.AddField(
            model_name="clerkaccount",
            name="deleted",
            field=models.BooleanField(
                default=False, help_text="Clerk has said so. No news takes it back.", verbose_name="deleted at Clerk"
            ),
        ),
        migrations.AddField(
            model_name="clerkaccount",
            name="news_rank",
            field=models.BigIntegerField(editable=False, null=True, verbose_name="order among news of the same change"),
        ),
        migrations.RunPython(_tell_deletions_apart, migrations.RunPython.noop, elidable=True),
    ]
