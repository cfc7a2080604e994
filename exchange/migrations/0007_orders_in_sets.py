"""Batches of orders are matched in sets; an order frees its symbol before it waits for the disk."""

from django.db import migrations

from mmproject.functions import drop_function, sql_function

GATEWAY = ("mm_exchange", "mm_console")


class Migration(migrations.Migration):
    dependencies = [
        ("exchange", "0006_quote_retention"),
        ("ledger", "0004_fills_in_sets"),
    ]

    operations = [
        drop_function("exchange_submit_orders_v2"),
        sql_function("exchange_submit_orders_v3", owner="mm_exchange", execute=GATEWAY),
        sql_function("exchange_place_order_v1", execute=GATEWAY),
        sql_function("exchange_place_orders_v1", execute=GATEWAY),
    ]
