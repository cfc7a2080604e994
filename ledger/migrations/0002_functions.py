"""The ledger's functions and who may call them; fills that nobody can change."""

from django.db import migrations

from mmproject.functions import append_only, sql_function


class Migration(migrations.Migration):
    dependencies = [("ledger", "0001_initial"), ("journal", "0002_functions")]

    operations = [
        migrations.RunSQL(
            """
            ALTER TABLE ledger_position SET (fillfactor = 50);
            GRANT SELECT ON ledger_fill, ledger_position
                TO mm_exchange, mm_ledger, mm_authority, mm_node, mm_console;
            GRANT INSERT ON ledger_fill TO mm_ledger;
            GRANT INSERT, UPDATE ON ledger_position TO mm_ledger;
            """,
            reverse_sql=migrations.RunSQL.noop,
        ),
        append_only("ledger_fill"),
        sql_function("ledger_open_position_v1", owner="mm_ledger", execute=("mm_exchange",)),
        sql_function("ledger_record_fill_v1", owner="mm_ledger", execute=("mm_exchange",)),
    ]
