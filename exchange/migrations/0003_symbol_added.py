"""Since when a symbol is listed: verify counts its orders and its holders from there (I14, I15)."""

from django.db import migrations, models

import exchange.functions
import mmproject.functions
from mmproject.functions import sql_function


class Migration(migrations.Migration):
    dependencies = [("exchange", "0002_functions")]

    operations = [
        sql_function("exchange_clock_step_v1", owner="mm_exchange"),
        migrations.AddField(
            model_name="symbol",
            name="added_at",
            field=models.DateTimeField(db_default=mmproject.functions.ClockTimestamp(), editable=False),
        ),
        migrations.AddField(
            model_name="symbol",
            name="added_step",
            field=models.BigIntegerField(db_default=exchange.functions.ClockStep(), editable=False),
        ),
    ]
