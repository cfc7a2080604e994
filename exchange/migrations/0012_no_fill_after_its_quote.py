"""No order is filled by a quote that lapses before all is done."""

from django.db import migrations

from mmproject.functions import drop_function, sql_function

GATEWAY = ("mm_exchange", "mm_console")


class Migration(migrations.Migration):
    dependencies = [("exchange", "0011_switch_past_locked_rows")]

    operations = [
        drop_function("exchange_place_order_v2"),
        drop_function("exchange_place_orders_v2"),
        drop_function("exchange_submit_orders_v3"),
        drop_function("exchange_submit_order_v2"),
        drop_function("exchange_match_order_v1"),
        sql_function("exchange_match_order_v2", owner="mm_exchange"),
        sql_function("exchange_submit_order_v3", owner="mm_exchange", execute=GATEWAY),
        sql_function("exchange_submit_orders_v4", owner="mm_exchange", execute=GATEWAY),
        sql_function("exchange_place_order_v3", execute=GATEWAY),
        sql_function("exchange_place_orders_v3", execute=GATEWAY),
    ]
