"""A renewal is judged after it has the lock, and quotes are replaced by the exchange's next version."""

from django.db import migrations

from mmproject.functions import drop_function, drop_pattern_indexes, sql_function

NODE = ("mm_node",)


class Migration(migrations.Migration):
    dependencies = [("authority", "0002_functions"), ("exchange", "0005_order_in_one_statement_per_table")]

    operations = [
        drop_pattern_indexes("authority_node", "authority_lease", "authority_assignment"),
        drop_function("authority_renew_v1"),
        sql_function("authority_renew_v2", owner="mm_authority", execute=NODE),
        drop_function("authority_replace_quotes_v1"),
        sql_function("authority_replace_quotes_v2", owner="mm_authority", execute=NODE),
    ]
