"""Authority's functions and who may call them."""

from django.db import migrations

from mmproject.functions import sql_function

NODE = ("mm_node",)
SWEEPERS = ("mm_node", "mm_exchange")  # a node that sees a loss, and the beat's task as second sweeper


class Migration(migrations.Migration):
    dependencies = [("authority", "0001_initial"), ("exchange", "0002_functions")]

    operations = [
        migrations.RunSQL(
            """
            ALTER TABLE authority_incarnation ALTER COLUMN serial ADD GENERATED ALWAYS AS IDENTITY;
            ALTER TABLE authority_incarnation SET (fillfactor = 50);
            ALTER TABLE authority_lease SET (fillfactor = 70);
            CREATE VIEW authority_lease_in_force AS
                SELECT l.symbol, l.node, l.incarnation, l.epoch, l.granted_at, i.expires_at
                  FROM authority_lease l JOIN authority_incarnation i ON i.id = l.incarnation
                 WHERE i.ended_at IS NULL AND i.expires_at > clock_timestamp();
            CREATE VIEW authority_member AS
                SELECT i.node, i.id AS incarnation, i.serial, i.registered_at, i.expires_at
                  FROM authority_incarnation i JOIN authority_node n ON n.name = i.node
                 WHERE i.ended_at IS NULL AND i.expires_at > clock_timestamp() AND NOT n.draining;
            GRANT SELECT ON authority_node, authority_incarnation, authority_lease, authority_tenure,
                            authority_assignment, authority_rebalance, authority_refusal,
                            authority_lease_in_force, authority_member
                TO mm_exchange, mm_ledger, mm_authority, mm_node, mm_console;
            GRANT INSERT, UPDATE ON authority_node, authority_incarnation, authority_lease, authority_tenure,
                                    authority_assignment
                TO mm_authority;
            GRANT INSERT ON authority_rebalance, authority_refusal TO mm_authority;
            """,
            reverse_sql="DROP VIEW authority_member; DROP VIEW authority_lease_in_force;",
        ),
        sql_function("authority_tenure_history_v1"),
        migrations.RunSQL(
            """
            CREATE TRIGGER history_row BEFORE UPDATE OR DELETE ON authority_tenure
                FOR EACH ROW EXECUTE FUNCTION authority_tenure_history_v1();
            CREATE TRIGGER history_table BEFORE TRUNCATE ON authority_tenure
                FOR EACH STATEMENT EXECUTE FUNCTION authority_tenure_history_v1();
            """,
            reverse_sql="DROP TRIGGER history_row ON authority_tenure; DROP TRIGGER history_table ON authority_tenure;",
        ),
        sql_function("authority_session_alive_v1", owner="mm_authority", execute=("mm_node", "mm_console")),
        sql_function("authority_end_incarnation_v1", owner="mm_authority"),
        sql_function("authority_register_v1", owner="mm_authority", execute=NODE),
        sql_function("authority_renew_v1", owner="mm_authority", execute=NODE),
        sql_function("authority_watch_v1", owner="mm_authority", execute=NODE),
        sql_function("authority_sweep_v1", owner="mm_authority", execute=SWEEPERS),
        sql_function("authority_acquire_v1", owner="mm_authority", execute=NODE),
        sql_function("authority_release_v1", owner="mm_authority", execute=NODE),
        sql_function("authority_leave_v1", owner="mm_authority", execute=NODE),
        sql_function("authority_apply_assignment_v1", owner="mm_authority", execute=NODE),
        sql_function("authority_replace_quotes_v1", owner="mm_authority", execute=NODE),
        sql_function("authority_set_draining_v1", owner="mm_authority", execute=("mm_console",)),
    ]
