"""A fill is its own entry in the activity, and its rules are checked by one function."""

import django.db.models.expressions
from django.db import migrations, models

import journal.functions
from mmproject.conf import ROOT
from mmproject.functions import drop_function, drop_pattern_indexes, sql_function

ACTIVITY = (ROOT / "ledger" / "sql" / "ledger_activity_v1.sql").read_text(encoding="utf-8")


class Migration(migrations.Migration):
    dependencies = [("ledger", "0002_functions"), ("journal", "0003_activity_numbers")]

    operations = [
        drop_pattern_indexes("ledger_fill", "ledger_position"),
        migrations.RemoveConstraint(model_name="fill", name="i7_fills_once"),
        migrations.RemoveConstraint(model_name="fill", name="i9_fair_fills"),
        migrations.RemoveConstraint(model_name="position", name="i6_positions_add_up"),
        migrations.RemoveIndex(model_name="fill", name="fill_commit_order"),
        migrations.AddField(
            model_name="fill",
            name="activity_id",
            field=models.BigIntegerField(db_default=journal.functions.NextActivityId(), editable=False),
        ),
        # What has been recorded keeps its place in the activity, by which readers resume. In GET fills the fills of one
        # transaction now stand as they happened, and no longer by their ids.
        migrations.RunSQL(
            """
            ALTER TABLE ledger_fill DISABLE TRIGGER append_only_row;
            UPDATE ledger_fill f SET activity_id = a.id
              FROM journal_activity a WHERE a.kind = 'fill' AND a.data ->> 'fill_id' = f.fill_id;
            ALTER TABLE ledger_fill ENABLE TRIGGER append_only_row;
            DELETE FROM journal_activity WHERE kind = 'fill';
            """,
            reverse_sql=migrations.RunSQL.noop,
        ),
        migrations.AddIndex(
            model_name="fill",
            index=models.Index(fields=["xid", "activity_id"], name="fill_commit_order"),
        ),
        sql_function("ledger_fill_holds_v1", execute=("mm_ledger",)),
        migrations.AddConstraint(
            model_name="fill",
            constraint=models.CheckConstraint(
                condition=django.db.models.expressions.RawSQL(
                    "ledger_fill_holds_v1(ledger_fill)", (), output_field=models.BooleanField()
                ),
                name="fill_holds",
            ),
        ),
        migrations.RunSQL(ACTIVITY, reverse_sql="DROP VIEW ledger_activity"),
        drop_function("ledger_record_fill_v1"),
        sql_function("ledger_record_fill_v2", owner="mm_ledger", execute=("mm_exchange",)),
    ]
