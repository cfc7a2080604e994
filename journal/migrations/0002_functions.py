"""The components' roles, who may read and write the journal, and what keeps its audit append-only."""

from django.db import migrations

from mmproject.conf import ROOT
from mmproject.functions import append_only, sql_function

ROLES = (ROOT / "journal" / "sql" / "journal_roles_v1.sql").read_text(encoding="utf-8")


class Migration(migrations.Migration):
    dependencies = [("journal", "0001_initial")]

    operations = [
        migrations.RunSQL(ROLES, reverse_sql=migrations.RunSQL.noop),
        sql_function("journal_lock_v1", execute=("mm_exchange", "mm_ledger", "mm_authority", "mm_node", "mm_console")),
        sql_function("journal_append_only_v1"),
        append_only("journal_audit"),
        migrations.RunSQL(
            """
            GRANT SELECT ON journal_activity, journal_audit
                TO mm_exchange, mm_ledger, mm_authority, mm_node, mm_console;
            GRANT INSERT ON journal_activity TO mm_exchange, mm_ledger, mm_authority;
            GRANT INSERT ON journal_audit TO mm_exchange, mm_authority;
            """,
            reverse_sql=migrations.RunSQL.noop,
        ),
    ]
