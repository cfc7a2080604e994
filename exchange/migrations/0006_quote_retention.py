"""Bounded growth: superseded quotes are partitioned by time and dropped after a while; how the hot tables are vacuumed."""

from django.db import migrations, models

from mmproject.conf import ROOT
from mmproject.functions import drop_pattern_indexes, sql_function

SQL = ROOT / "exchange" / "sql"
PARTITIONED = (SQL / "exchange_quoteversion_partitioned_v1.sql").read_text(encoding="utf-8")
HOT_TABLES = (SQL / "exchange_hot_tables_v1.sql").read_text(encoding="utf-8")


class Migration(migrations.Migration):
    dependencies = [
        ("exchange", "0005_order_in_one_statement_per_table"),
        # Whose tables are set up here together with ours.
        ("authority", "0003_renewal_judged_under_its_lock"),
        ("journal", "0003_activity_numbers"),
        ("ledger", "0003_fill_is_its_activity"),
    ]

    operations = [
        migrations.CreateModel(
            name="Retention",
            fields=[
                ("symbol", models.TextField(primary_key=True, serialize=False)),
                ("version", models.BigIntegerField()),
                ("dropped_before", models.DateTimeField()),
            ],
        ),
        drop_pattern_indexes("exchange_retention"),
        migrations.RunSQL(
            "GRANT SELECT ON exchange_retention TO mm_exchange, mm_ledger, mm_authority, mm_node, mm_console",
            reverse_sql=migrations.RunSQL.noop,
        ),
        sql_function("exchange_make_quote_partition_v1"),
        # Django's state stays as it is: there, `id` is the key, and (symbol, version) is unique.
        migrations.SeparateDatabaseAndState(database_operations=[migrations.RunSQL(PARTITIONED)]),
        sql_function("exchange_quote_partitions_v1"),
        sql_function("exchange_holds_current_quote_v1"),
        sql_function("exchange_quote_partition_due_v1"),
        sql_function("exchange_drop_quote_partition_v1"),
        sql_function("exchange_keep_partitions_v1", execute=("mm_exchange",)),
        # The first ones, so that also a market without a worker (a simulation, a test) begins in them.
        migrations.RunSQL(
            "SELECT exchange_keep_partitions_v1(3600000) FROM generate_series(1, 6)",
            reverse_sql=migrations.RunSQL.noop,
        ),
        migrations.RunSQL(HOT_TABLES, reverse_sql=migrations.RunSQL.noop),
    ]
