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
                help_text="Issue time of the token whose claims were applied last, in milliseconds. Older claims never are.",
                null=True,
                verbose_name="last claims",
            ),
        ),
    ]
