"""An incarnation's end comes in parts, and a node that leaves hands over while it still quotes."""

from django.db import migrations, models
from django.db.models import Q

from mmproject.functions import drop_function, sql_function

NODE = ("mm_node",)
SWEEPERS = ("mm_node", "mm_exchange")

MEMBERS = """
    CREATE OR REPLACE VIEW authority_member AS
        SELECT i.node, i.id AS incarnation, i.serial, i.registered_at, i.expires_at
          FROM authority_incarnation i JOIN authority_node n ON n.name = i.node
         WHERE i.ended_at IS NULL AND {} i.expires_at > clock_timestamp() AND NOT n.draining;
"""


class Migration(migrations.Migration):
    dependencies = [("authority", "0003_renewal_judged_under_its_lock")]

    operations = [
        migrations.AddField("incarnation", "ending", models.TextField(null=True)),
        migrations.AddField("incarnation", "ending_at", models.DateTimeField(null=True)),
        migrations.AddConstraint(
            "incarnation",
            models.CheckConstraint(
                condition=Q(ending__isnull=True, ending_at__isnull=True)
                | Q(ending__in=["released", "expired", "session_lost"], ending_at__isnull=False),
                name="incarnation_ending",
            ),
        ),
        # A tenure is ended by its symbol; only open ones are in this index.
        migrations.RemoveIndex("tenure", "tenure_open"),
        migrations.AddIndex(
            "tenure", models.Index(fields=["symbol"], condition=Q(ended_at__isnull=True), name="tenure_open")
        ),
        migrations.RunSQL(MEMBERS.format("i.ending IS NULL AND"), reverse_sql=MEMBERS.format("")),
        migrations.RunSQL(
            """
            INSERT INTO authority_lease (symbol)
            SELECT symbol FROM authority_assignment a
             WHERE NOT EXISTS (SELECT FROM authority_lease l WHERE l.symbol = a.symbol) ORDER BY symbol;
            """,
            reverse_sql=migrations.RunSQL.noop,
        ),
        drop_function("authority_register_v1"),
        drop_function("authority_sweep_v1"),
        drop_function("authority_leave_v1"),
        drop_function("authority_end_incarnation_v1"),
        drop_function("authority_acquire_v1"),
        drop_function("authority_release_v1"),
        drop_function("authority_apply_assignment_v1"),
        sql_function("authority_ring_v1", owner="mm_authority"),
        sql_function("authority_end_incarnation_v2", owner="mm_authority"),
        sql_function("authority_register_v2", owner="mm_authority", execute=NODE),
        sql_function("authority_sweep_v2", owner="mm_authority", execute=SWEEPERS),
        sql_function("authority_begin_leave_v1", owner="mm_authority", execute=NODE),
        sql_function("authority_leave_v2", owner="mm_authority", execute=NODE),
        sql_function("authority_acquire_v2", owner="mm_authority", execute=NODE),
        sql_function("authority_release_v2", owner="mm_authority", execute=NODE),
        sql_function("authority_apply_assignment_v2", owner="mm_authority", execute=NODE),
    ]
