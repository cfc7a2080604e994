"""An order's client hears of its fills before the wait for the disk."""

from django.db import migrations

from mmproject.functions import drop_function, sql_function

GATEWAY = ("mm_exchange", "mm_console")


class Migration(migrations.Migration):
    dependencies = [("exchange", "0008_quotes_answered_as_arrays")]

    operations = [
        drop_function("exchange_place_order_v1"),
        sql_function("exchange_place_order_v2", execute=GATEWAY),
    ]
