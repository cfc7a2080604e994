"""Many fills are recorded by one statement."""

from django.db import migrations

from mmproject.functions import sql_function


class Migration(migrations.Migration):
    dependencies = [("ledger", "0003_fill_is_its_activity")]

    operations = [
        sql_function("ledger_cost_after_v1", execute=("mm_ledger",)),
        migrations.RunSQL(
            """
            CREATE AGGREGATE ledger_cost(p_quantity numeric, p_cost numeric, p_signed numeric, p_price numeric)
                (SFUNC = ledger_cost_after_v1, STYPE = numeric[]);
            REVOKE ALL ON ROUTINE ledger_cost FROM PUBLIC;
            GRANT EXECUTE ON ROUTINE ledger_cost TO mm_ledger;
            """,
            reverse_sql="DROP ROUTINE ledger_cost",
        ),
        sql_function("ledger_record_fills_v1", owner="mm_ledger", execute=("mm_exchange",)),
    ]
