"""A quote row that somebody keeps locked holds up nothing but itself."""

from django.db import migrations

from mmproject.functions import sql_function


class Migration(migrations.Migration):
    dependencies = [("exchange", "0009_fills_told_before_the_disk")]

    operations = [sql_function("exchange_lock_quotes_v1", owner="mm_exchange", execute=("mm_authority",))]
