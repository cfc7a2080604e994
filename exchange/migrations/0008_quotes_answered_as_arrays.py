"""Quotes are replaced with fewer statements to start."""

from django.db import migrations

from mmproject.functions import drop_function, sql_function

AUTHORITY = ("mm_authority",)


class Migration(migrations.Migration):
    dependencies = [("exchange", "0007_orders_in_sets")]

    operations = [
        drop_function("exchange_replace_quotes_v2"),
        sql_function("exchange_replace_quotes_v3", owner="mm_exchange", execute=AUTHORITY),
    ]
