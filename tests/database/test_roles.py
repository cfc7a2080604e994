"""DESIGN section 2 as a fact: every role tries every verb on every table, and every function; what it may stands here.

Tables and functions are taken from the database, so that a new one has no access until this file says which.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from mmproject import provision
from mmproject.conf import conf
from mmproject.functions import ROLES
from tests.support import Connection, Database, scratch_database

VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE")
DOMAIN = ("journal_", "ledger_", "exchange_", "authority_")
ADD, CHANGE, DELETE = "INSERT", "UPDATE", "DELETE"

# What each role may write, besides reading all of the domain. Nobody deletes; logs only grow.
WRITES: dict[str, dict[str, set[str]]] = {
    "mm_exchange": {
        "exchange_symbol": {ADD, CHANGE},
        "exchange_clock": {ADD, CHANGE},
        "exchange_price": {ADD, CHANGE},
        "exchange_quote": {ADD, CHANGE},
        "exchange_order": {ADD, CHANGE},
        "exchange_quoteversion": {ADD},
        "exchange_trade": {ADD},
        "journal_activity": {ADD},
        "journal_audit": {ADD},
    },
    "mm_ledger": {"ledger_fill": {ADD}, "ledger_position": {ADD, CHANGE}, "journal_activity": {ADD}},
    "mm_authority": {
        "authority_node": {ADD, CHANGE},
        "authority_incarnation": {ADD, CHANGE},
        "authority_lease": {ADD, CHANGE},
        "authority_tenure": {ADD, CHANGE},
        "authority_assignment": {ADD, CHANGE},
        "authority_rebalance": {ADD},
        "authority_refusal": {ADD},
        "journal_activity": {ADD},
        "journal_audit": {ADD},
    },
    "mm_node": {},
    "mm_console": {
        **{
            table: {ADD, CHANGE, DELETE}
            for table in (
                "auth_user", "auth_group", "auth_user_groups", "auth_user_user_permissions", "auth_group_permissions",
                "django_session", "accounts_apitoken", "axes_accessattempt", "axes_accessattemptexpiration",
                "axes_accessfailurelog", "axes_accesslog",
            )
        },
        "django_admin_log": {ADD},
    },
}  # fmt: skip
# Beside the domain's tables.
READS: dict[str, set[str]] = {role: {"django_migrations"} for role in ROLES}
READS["mm_console"] |= {*WRITES["mm_console"], "auth_permission", "django_content_type"}

EXECUTES: dict[str, set[str]] = {
    "mm_exchange": {
        "exchange_add_symbols_v1", "exchange_start_clock_v1", "exchange_advance_clock_v1", "exchange_orders_done_v1",
        "exchange_clock_step_v1", "exchange_submit_order_v3", "exchange_match_order_v2", "exchange_note_book_v1",
        "exchange_order_holds_v1", "exchange_submit_orders_v4", "exchange_place_order_v3", "exchange_place_orders_v3",
        "exchange_cancel_order_v2", "ledger_record_fills_v1", "exchange_keep_partitions_v1",
        "exchange_order_state_v1", "exchange_order_answer_v1", "exchange_withdraw_quotes_v1", "exchange_match_quote_v2",
        "exchange_raise_fence_v1", "exchange_drop_fence_v1", "exchange_replace_quotes_v3", "exchange_set_quoting_v2",
        "exchange_lock_quotes_v1",
        "exchange_set_parameters_v1", "ledger_open_position_v1", "ledger_record_fill_v2", "authority_sweep_v3",
        "journal_lock_v1",
    },
    "mm_ledger": {
        "ledger_open_position_v1", "ledger_record_fill_v2", "ledger_record_fills_v1", "ledger_fill_holds_v1",
        "ledger_cost", "ledger_cost_after_v1", "journal_lock_v1",
    },
    "mm_authority": {
        "authority_register_v3", "authority_renew_v3", "authority_watch_v1", "authority_sweep_v3",
        "authority_acquire_v3", "authority_release_v3", "authority_leave_v3", "authority_apply_assignment_v2",
        "authority_replace_quotes_v3", "authority_session_alive_v1", "authority_end_incarnation_v3",
        "authority_begin_leave_v1", "authority_ring_v2", "authority_set_draining_v1",
        "exchange_raise_fence_v1", "exchange_drop_fence_v1", "exchange_replace_quotes_v3",
        "exchange_lock_quotes_v1", "authority_lock_leases_v1", "journal_lock_v1",
    },
    "mm_node": {
        "authority_register_v3", "authority_renew_v3", "authority_watch_v1", "authority_sweep_v3",
        "authority_acquire_v3", "authority_release_v3", "authority_leave_v3", "authority_apply_assignment_v2",
        "authority_replace_quotes_v3", "authority_session_alive_v1", "authority_begin_leave_v1", "journal_lock_v1",
    },
    "mm_console": {
        "exchange_submit_order_v3", "exchange_submit_orders_v4", "exchange_place_order_v3", "exchange_place_orders_v3",
        "exchange_cancel_order_v2", "exchange_order_state_v1", "exchange_order_answer_v1",
        "exchange_set_quoting_v2", "exchange_set_parameters_v1", "authority_set_draining_v1",
        "authority_session_alive_v1", "journal_lock_v1",
    },
}  # fmt: skip

# By trying: what a verb does to no row at all. The right is judged before anything else is.
TRIES = {
    "SELECT": "SELECT FROM {table} LIMIT 0",
    "INSERT": "INSERT INTO {table} DEFAULT VALUES",
    "UPDATE": "UPDATE {table} SET {column} = DEFAULT WHERE false",
    "DELETE": "DELETE FROM {table} WHERE false",
    "TRUNCATE": "TRUNCATE {table}",
}
LOGINS = {"mm_exchange": "exchange", "mm_console": "console", "mm_node": "node"}


@pytest.fixture(scope="module")
def tried(server: str, template: str) -> Iterator[Database]:
    """One database for them all: what is not refused is rolled back."""
    with scratch_database(server, conf.var, template) as database:
        yield database


@pytest.fixture(params=ROLES)
def role(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def connection(tried: Database, role: str) -> Connection:
    """The role's own login; the two that nobody can log in as are put on by the admin."""
    if role in LOGINS:
        made = tried.connect(LOGINS[role])  # type: ignore[arg-type]
    else:
        made = tried.connect("admin")
        made.execute(f"SET ROLE {role}".encode())
    made.execute("SET statement_timeout = '5s'")
    return made


def refused(connection: Connection, statement: str) -> bool:
    """Whether the role may not do this at all. Whatever it does is rolled back."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement.encode())
    except psycopg.errors.InsufficientPrivilege as error:
        # A function that is allowed may still run into something that its owner may not: that is no refusal of it.
        return error.diag.context is None
    except psycopg.Error:
        pass  # allowed, and wrong for another reason: a value missing, say
    return False


def relations(connection: Connection, kinds: str) -> list[tuple[str, str]]:
    """Every table ('rp') or view ('v') of ours, with one column that can be written."""
    rows = connection.execute(
        "SELECT c.relname, (SELECT attname FROM pg_attribute a WHERE a.attrelid = c.oid AND attnum > 0"
        "                      AND attgenerated = '' ORDER BY attnum LIMIT 1)"
        "  FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind = ANY (%s) ORDER BY 1",
        [list(kinds)],
    )
    return [(str(name), str(column)) for name, column in rows]


def test_each_role_has_exactly_its_rights_on_every_table(connection: Connection, role: str) -> None:
    tables = relations(connection, "rp")
    assert len(tables) >= 30
    wrong = []
    for table, column in tables:
        expected = set(WRITES[role].get(table, ()))
        # A partition is read and written through its table, where the rights are.
        is_partition = table.startswith("exchange_quoteversion_")
        if (table.startswith(DOMAIN) and not is_partition) or table in READS[role]:
            expected.add("SELECT")
        for verb in VERBS:
            allowed = not refused(connection, TRIES[verb].format(table=table, column=column))
            if allowed != (verb in expected):
                wrong.append(f"{verb} {table}: {'allowed' if allowed else 'refused'}")
    assert wrong == []


def test_views_are_for_reading(connection: Connection, role: str) -> None:
    views = relations(connection, "v")
    assert views
    for view, column in views:
        assert not refused(connection, f"SELECT FROM {view} LIMIT 0")
        for verb in ("INSERT", "UPDATE", "DELETE"):
            with pytest.raises(psycopg.Error), connection.transaction(force_rollback=True):
                connection.execute(TRIES[verb].format(table=view, column=column).encode())


def test_each_role_may_call_exactly_its_functions(connection: Connection, role: str) -> None:
    functions = connection.execute(
        "SELECT CASE prokind WHEN 'p' THEN 'CALL' WHEN 'a' THEN 'SELECT' ELSE 'SELECT * FROM' END, proname,"
        "       coalesce((SELECT string_agg(CASE WHEN proisstrict THEN '''x''' ELSE 'NULL' END || '::'"
        "                                     || format_type(t, NULL), ', ' ORDER BY position)"
        "                    FROM unnest(proargtypes) WITH ORDINALITY AS a (t, position)), '')"
        "  FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        "   AND prorettype <> 'trigger'::regtype"  # these nobody can call
        "   AND proname ~ '^(journal|ledger|exchange|authority|accounts|console)_' ORDER BY proname"
    ).fetchall()
    assert len(functions) >= 30
    allowed = {name for call, name, given in functions if not refused(connection, f"{call} {name}({given})")}

    assert allowed == EXECUTES[role]


def test_every_function_that_runs_with_its_owners_rights_pins_its_search_path(tried: Database) -> None:
    """Else a caller could put a table of its own in front of ours."""
    rows = tried.connect().execute(
        "SELECT proname, pg_get_userbyid(proowner), proconfig FROM pg_proc"
        " WHERE prosecdef AND pronamespace = 'public'::regnamespace"
    ).fetchall()  # fmt: skip
    assert len(rows) >= 25
    admin = tried.connect().info.user
    for name, owner, settings in rows:
        assert "search_path=public, pg_temp" in (settings or []), name
        # Tables are made and dropped by who owns the others.
        expected = admin if name == "exchange_keep_partitions_v1" else f"mm_{name.split('_')[0]}"
        assert owner == expected, f"{name} has the rights of {owner}"


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE public.mine (x int)",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE ROLE mine",
        "ALTER TABLE ledger_position DISABLE TRIGGER ALL",
        "ALTER TABLE ledger_fill DISABLE TRIGGER append_only_row",
        "ALTER TABLE authority_tenure DROP CONSTRAINT i3_no_overlap",
        "DROP TABLE ledger_fill",
        "CREATE OR REPLACE FUNCTION ledger_open_position_v1(text[]) RETURNS void LANGUAGE sql AS 'SELECT NULL'",
        "ALTER FUNCTION authority_sweep_v3 OWNER TO CURRENT_USER",
        "SET session_replication_role = replica",
        "SET ROLE mm_ledger",
        "SET ROLE mm_authority",
        "ALTER SYSTEM SET fsync = off",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT pg_read_file('postgresql.conf')",
        "SELECT rolpassword FROM pg_authid",
    ],
)
@pytest.mark.parametrize("login", ["exchange", "console", "node"])
def test_no_process_can_change_the_rules(rules_connections: dict[str, Connection], login: str, statement: str) -> None:
    with pytest.raises(psycopg.Error) as refusal:
        rules_connections[login].execute(statement.encode())
    assert refusal.value.sqlstate in ("42501", "42P13"), refusal.value


def test_no_process_can_make_temporary_tables(server: str, template: str) -> None:
    """Asked of the database that was set up: a copy of it loses the database's own rights."""
    with provision.connect(server) as admin:
        for role in ROLES:
            row = admin.execute("SELECT has_database_privilege(%s, %s, 'TEMPORARY')", [role, template]).fetchone()
            assert row == (False,), role


@pytest.fixture(scope="module")
def rules_connections(tried: Database) -> dict[str, Connection]:
    """A connection for each of the logins."""
    return {
        "exchange": tried.connect("exchange"),
        "console": tried.connect("console"),
        "node": tried.connect("node"),
    }


def test_the_owner_of_the_tables_cannot_change_the_logs_either(tried: Database) -> None:
    admin = tried.connect()
    for table in ("ledger_fill", "journal_audit", "exchange_quoteversion", "exchange_trade"):
        with pytest.raises(psycopg.Error, match="append"):
            admin.execute(f"TRUNCATE {table}".encode())


@pytest.mark.parametrize("login", ["console", "node"])
def test_the_tasks_queue_is_the_workers_alone(rules_connections: dict[str, Connection], login: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        rules_connections[login].execute("SELECT pgmq.create('mine')")


def test_a_node_cannot_touch_a_position_even_from_psql(rules_connections: dict[str, Connection]) -> None:
    node = rules_connections["node"]
    for statement in (
        "UPDATE ledger_position SET quantity = 0",
        "INSERT INTO ledger_fill DEFAULT VALUES",
        "SELECT ledger_record_fill_v2(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        "UPDATE exchange_quote SET bid_price = 1",
        "UPDATE authority_lease SET epoch = epoch + 1",
        "INSERT INTO authority_tenure DEFAULT VALUES",
        "DELETE FROM journal_activity",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            node.execute(statement.encode())


@pytest.mark.parametrize(
    ("table", "row", "change"),
    [
        ("journal_audit", "(actor, action, target, before, after) VALUES ('ada', 'drain', 'n', 'false', 'true')",
         "SET actor = 'bob'"),
        ("authority_tenure", "(symbol, epoch, incarnation, node, granted_at, ended_at, reason) VALUES"
         " ('S', 1, gen_random_uuid(), 'n', '2026-01-01', '2026-01-02', 'released')", "SET ended_at = '2026-01-03'"),
        ("authority_tenure", "(symbol, epoch, incarnation, node, granted_at) VALUES"
         " ('S', 1, gen_random_uuid(), 'n', '2026-01-01')",
         "SET ended_at = '2026-01-02', reason = 'released', epoch = 2"),
        ("exchange_trade", "(trade_id, symbol, sequence, price, quantity, maker_order_id, taker_order_id) VALUES"
         " ('S-X1', 'S', 1, 1, 1, 'm', 't')", "SET price = 2"),
        ("exchange_quoteversion", "(symbol, version, epoch, incarnation, node, published_at, after_sequence,"
         " withdrawn_reason, tick_size, lot_size) VALUES ('S', 1, 1, gen_random_uuid(), 'n', '2026-01-01', 0, 'test',"
         " 1, 1)", "SET version = 2"),
        ("ledger_fill", "(fill_id, symbol, sequence, side, price, quantity, client_order_id, quote_version, epoch,"
         " incarnation, node, filled_at, tick_size, lot_size, quantity_after, cost_after, cash_after) VALUES"
         " ('S-000000000001', 'S', 1, 'buy', 1, 1, 'o', 1, 1, gen_random_uuid(), 'n', '2026-01-01', 1, 1, 1, 1, -1)",
         "SET price = 2"),
    ],
    ids=["an audit row", "a tenure's end", "an open tenure's epoch", "a trade", "a quote version", "a fill"],
)  # fmt: skip
def test_what_was_recorded_cannot_be_changed_by_the_tables_owner_either(
    tried: Database, table: str, row: str, change: str
) -> None:
    admin = tried.connect()
    with admin.transaction(force_rollback=True):
        admin.execute(f"INSERT INTO {table} {row}".encode())
        for verb in (f"UPDATE {table} {change}", f"DELETE FROM {table}"):
            with pytest.raises(psycopg.errors.RestrictViolation), admin.transaction():
                admin.execute(verb.encode())


def test_a_node_that_is_stopped_inside_a_transaction_frees_its_locks_well_before_a_lease_is_over(
    tried: Database,
) -> None:
    """The server ends it: a node that hangs can't block its successor for longer (DESIGN, section 6)."""
    settings = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"]
    if tried.connect().info.server_version < 170_000:
        settings.remove("transaction_timeout")
    rows = tried.connect("node").execute(
        "SELECT name, setting::integer FROM pg_settings WHERE name = ANY (%s)", [settings]
    )
    limits_ms: dict[str, int] = dict(rows.fetchall())
    assert set(limits_ms) == set(settings)
    assert all(0 < limit_ms < conf.lease_ttl_ms for limit_ms in limits_ms.values()), (
        f"no limit below {conf.lease_ttl_ms}: {limits_ms}"
    )
