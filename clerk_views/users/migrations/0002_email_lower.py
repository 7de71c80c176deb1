from django.db import migrations, models
from django.db.models.functions import Lower


class Migration(migrations.Migration):
    dependencies = [("clerk_users", "0001_initial")]

    operations = [
        migrations.AddIndex("clerkuser", models.Index(Lower("email"), name="clerk_users_email_lower")),
    ]
