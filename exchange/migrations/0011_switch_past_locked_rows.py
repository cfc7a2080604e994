"""A row that somebody keeps locked keeps neither the kill switch from stopping the others, nor a batch them for long."""

from django.db import migrations

from mmproject.functions import drop_function, sql_function


class Migration(migrations.Migration):
    dependencies = [("exchange", "0010_rows_that_somebody_keeps_locked")]

    operations = [
        drop_function("exchange_set_quoting_v1"),
        sql_function("exchange_set_quoting_v2", owner="mm_exchange", execute=("mm_console",)),
        drop_function("exchange_place_orders_v1"),
        sql_function("exchange_place_orders_v2", execute=("mm_exchange", "mm_console")),
    ]
