"""SQL functions as migration operations.

A function lives in `<app>/sql/<name>.sql`, is owned by its component's role, and may be executed by the
roles named here and nobody else. An applied file is never edited: add the next version beside it.
"""

from __future__ import annotations

from django.db.migrations import RunSQL
from django.db.models import BooleanField, CheckConstraint, Func, TextField
from django.db.models.expressions import RawSQL

from mmproject.conf import ROOT

ROLES = ("mm_exchange", "mm_ledger", "mm_authority", "mm_node", "mm_console")


def sql_function(name: str, *, owner: str | None = None, execute: tuple[str, ...] = ()) -> RunSQL:
    """The operation that creates `<app>/sql/<name>.sql`, where `name` starts with the app's label.

    `owner` is the role whose rights a SECURITY DEFINER function has; without one the migrating role owns it
    (trigger functions and constants, which need no rights). `execute` lists the roles that may call it.
    """
    app = name.split("_", 1)[0]
    body = (ROOT / app / "sql" / f"{name}.sql").read_text(encoding="utf-8")
    statements = [body, f"REVOKE ALL ON ROUTINE {name} FROM PUBLIC;"]
    if execute:
        statements.append(f"GRANT EXECUTE ON ROUTINE {name} TO {', '.join(execute)};")
    if owner:
        # Taking ownership needs CREATE on the schema for that moment only.
        statements += [
            f"GRANT CREATE ON SCHEMA public TO {owner};",
            f"ALTER ROUTINE {name} OWNER TO {owner};",
            f"REVOKE CREATE ON SCHEMA public FROM {owner};",
        ]
    return RunSQL("\n".join(statements), reverse_sql=f"DROP ROUTINE IF EXISTS {name};")


def drop_function(name: str) -> RunSQL:
    """The operation that drops a function which the next version has replaced. It can't be undone."""
    return RunSQL(f"DROP ROUTINE {name};")


def drop_pattern_indexes(*tables: str) -> RunSQL:
    """The operation that drops the second index which Django gives each unique text column, for LIKE.

    No query of ours uses one, and each would be written by every insert.
    """
    names = ", ".join(f"'{table}'" for table in tables)
    return RunSQL(
        f"""
        DO $$
        DECLARE v_index regclass;
        BEGIN
            FOR v_index IN SELECT i.indexrelid FROM pg_index i JOIN pg_opclass c ON c.oid = ANY (i.indclass)
                            WHERE i.indrelid IN (SELECT n::regclass FROM unnest(ARRAY[{names}]) n)
                              AND c.opcname IN ('text_pattern_ops', 'varchar_pattern_ops') LOOP
                EXECUTE format('DROP INDEX %s', v_index);
            END LOOP;
        END
        $$;
        """,  # noqa: S608 - table names of ours
        reverse_sql=RunSQL.noop,
    )


def append_only(table: str) -> RunSQL:
    """The operation that makes every UPDATE, DELETE and TRUNCATE of `table` fail, whoever tries."""
    return RunSQL(
        f"""
        CREATE TRIGGER append_only_row BEFORE UPDATE OR DELETE ON {table}
            FOR EACH ROW EXECUTE FUNCTION journal_append_only_v1();
        CREATE TRIGGER append_only_table BEFORE TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION journal_append_only_v1();
        """,
        reverse_sql=f"DROP TRIGGER append_only_row ON {table}; DROP TRIGGER append_only_table ON {table};",
    )


class ClockTimestamp(Func):
    """`clock_timestamp()`: the moment itself, where `now()` would be the transaction's start."""

    function = "clock_timestamp"


class CurrentXid(Func):
    """`pg_current_xact_id()`: the transaction that writes the row."""

    function = "pg_current_xact_id"
    output_field = TextField()


def check(name: str, sql: str) -> CheckConstraint:
    """A CHECK constraint in SQL's own words. Null passes, as ever; `mod` stands for the percent sign."""
    # The SQL is a constant of a model's definition; nothing of a user's comes near it.
    return CheckConstraint(condition=RawSQL(sql, (), output_field=BooleanField()), name=name)  # noqa: S611
