"""Users, sessions and tokens are the console's business alone: no other component's role reads or writes them."""

from django.db import migrations

GRANTS = """
GRANT SELECT ON django_migrations TO mm_exchange, mm_ledger, mm_authority, mm_node, mm_console;
GRANT SELECT ON django_content_type, auth_permission TO mm_console;
GRANT SELECT, INSERT ON django_admin_log TO mm_console;
GRANT SELECT, INSERT, UPDATE, DELETE ON
    auth_user, auth_group, auth_user_groups, auth_user_user_permissions, auth_group_permissions,
    django_session, accounts_apitoken,
    axes_accessattempt, axes_accessattemptexpiration, axes_accessfailurelog, axes_accesslog
    TO mm_console;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
        ("admin", "0003_logentry_add_action_flag_choices"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("axes", "0010_accessattemptexpiration"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("journal", "0002_functions"),
        ("sessions", "0001_initial"),
    ]

    operations = [migrations.RunSQL(GRANTS, reverse_sql=migrations.RunSQL.noop)]
