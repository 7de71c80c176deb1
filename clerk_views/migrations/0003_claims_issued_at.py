from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("clerk_views", "0002_webhooks_and_sync_runs"),
    ]

    operations = [
        migrations.AddField(
            model_name="clerkaccount",
            name="claims_issued_at",
            field=models.BigIntegerField(
                blank=True,
                help_text="When the token of the last applied claims was issued, in milliseconds. Older ones are not.",
                null=True,
                verbose_name="last claims",
            ),
        ),
    ]
