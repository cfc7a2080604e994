"""A row that somebody keeps locked holds up nothing but itself: not the end of a lost node, not its other symbols."""

from django.db import migrations

from mmproject.functions import drop_function, sql_function

NODE = ("mm_node",)
SWEEPERS = ("mm_node", "mm_exchange")


class Migration(migrations.Migration):
    dependencies = [
        ("authority", "0005_quotes_answered_as_arrays"),
        ("exchange", "0010_rows_that_somebody_keeps_locked"),
    ]

    operations = [
        drop_function("authority_register_v2"),
        drop_function("authority_sweep_v2"),
        drop_function("authority_leave_v2"),
        drop_function("authority_end_incarnation_v2"),
        drop_function("authority_acquire_v2"),
        drop_function("authority_release_v2"),
        sql_function("authority_lock_leases_v1", owner="mm_authority"),
        sql_function("authority_end_incarnation_v3", owner="mm_authority"),
        sql_function("authority_register_v3", owner="mm_authority", execute=NODE),
        sql_function("authority_sweep_v3", owner="mm_authority", execute=SWEEPERS),
        sql_function("authority_leave_v3", owner="mm_authority", execute=NODE),
        sql_function("authority_acquire_v3", owner="mm_authority", execute=NODE),
        sql_function("authority_release_v3", owner="mm_authority", execute=NODE),
    ]
