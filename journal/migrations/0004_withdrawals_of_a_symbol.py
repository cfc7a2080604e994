"""A symbol's withdrawals are found in the activity, which is kept for ever."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("journal", "0003_activity_numbers")]

    operations = [
        migrations.AddIndex(
            model_name="activity",
            index=models.Index(
                fields=["symbol", "id"],
                condition=models.Q(("kind", "quote_withdrawn")),
                name="activity_withdrawals",
            ),
        ),
    ]
