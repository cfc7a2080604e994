"""The ledger numbers its fills among the activity."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("journal", "0002_functions")]

    operations = [
        migrations.RunSQL(
            "GRANT USAGE ON SEQUENCE journal_activity_id_seq TO mm_ledger;",
            reverse_sql="REVOKE USAGE ON SEQUENCE journal_activity_id_seq FROM mm_ledger;",
        ),
    ]
