"""A row that somebody keeps locked holds up nothing but itself; and since when a node has renewed without a pause."""

from django.db import migrations, models

from mmproject.functions import ClockTimestamp, drop_function, sql_function

NODE = ("mm_node",)
SWEEPERS = ("mm_node", "mm_exchange")


class Migration(migrations.Migration):
    dependencies = [
        ("authority", "0005_quotes_answered_as_arrays"),
        ("exchange", "0010_rows_that_somebody_keeps_locked"),
    ]

    operations = [
        migrations.AddField("incarnation", "steady_since", models.DateTimeField(db_default=ClockTimestamp())),
        drop_function("authority_renew_v2"),
        sql_function("authority_renew_v3", owner="mm_authority", execute=NODE),
        drop_function("authority_register_v2"),
        drop_function("authority_sweep_v2"),
        drop_function("authority_leave_v2"),
        drop_function("authority_end_incarnation_v2"),
        drop_function("authority_acquire_v2"),
        drop_function("authority_release_v2"),
        drop_function("authority_ring_v1"),
        sql_function("authority_ring_v2", owner="mm_authority"),
        sql_function("authority_lock_leases_v1", owner="mm_authority"),
        sql_function("authority_end_incarnation_v3", owner="mm_authority"),
        sql_function("authority_register_v3", owner="mm_authority", execute=NODE),
        sql_function("authority_sweep_v3", owner="mm_authority", execute=SWEEPERS),
        sql_function("authority_leave_v3", owner="mm_authority", execute=NODE),
        sql_function("authority_acquire_v3", owner="mm_authority", execute=NODE),
        sql_function("authority_release_v3", owner="mm_authority", execute=NODE),
    ]
