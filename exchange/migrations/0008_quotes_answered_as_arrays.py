"""Quotes are replaced with fewer statements to start."""

from django.db import migrations

from mmproject.functions import drop_function, sql_function

AUTHORITY = ("mm_authority",)


class Migration(migrations.Migration):
    dependencies = [("exchange", "0005_order_in_one_statement_per_table")]

    operations = [
        drop_function("exchange_replace_quotes_v2"),
        sql_function("exchange_replace_quotes_v3", owner="mm_exchange", execute=AUTHORITY),
    ]
