import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("clerk_views", "0004_deletions"),
    ]

    operations = [
        migrations.AddField(
            model_name="clerksyncrun",
            name="kept_at",
            field=models.DateTimeField(default=django.utils.timezone.now, verbose_name="last page"),
        ),
        migrations.AddField(
            model_name="clerksyncrun",
            name="since",
            field=models.DateTimeField(blank=True, null=True, verbose_name="only what changed since"),
        ),
    ]
