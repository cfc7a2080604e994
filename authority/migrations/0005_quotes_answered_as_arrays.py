"""Quotes are replaced with fewer statements to start, by the exchange's next version."""

from django.db import migrations

from mmproject.functions import drop_function, sql_function

NODE = ("mm_node",)


class Migration(migrations.Migration):
    dependencies = [("authority", "0004_an_end_in_parts"), ("exchange", "0008_quotes_answered_as_arrays")]

    operations = [
        drop_function("authority_replace_quotes_v2"),
        sql_function("authority_replace_quotes_v3", owner="mm_authority", execute=NODE),
    ]
