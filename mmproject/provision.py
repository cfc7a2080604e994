"""Set a database up: server checked, database made, migrations applied, roles given their logins, broker, market.

Every step looks first and does only what is missing, so that a warm start is quick, and two set-ups at once on one
server do no harm.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

from mmproject import primary
from mmproject.db import PSYCOPG_OPTIONS, described
from mmproject.errors import UsageError, UserError
from mmproject.secrets import role_password

LOGINS = {"console": "mm_console", "exchange": "mm_exchange", "node": "mm_node"}
MINIMUM_VERSION = 15
RESERVED_SINCE = 160_000
RESERVED_ROLE = "pg_use_reserved_connections"
DEFAULT_SEED = 1
SETUP_LOCK = (7000, 0)  # class and key; the other classes are in journal_lock_v1, which a new database has yet to get
SETUP_LOCK_TIMEOUT = "120s"  # a first set-up of 10,000 symbols by another process is done by then
SERVER_TIMEOUT_S = 60
REFUSALS = ("password authentication failed", "no password supplied", "no pg_hba.conf entry", "role ")
DROP_TIMEOUT_S = 10
POLL_S = 0.02
ALTER_ATTEMPTS = 10  # roles belong to the server: another set-up may be altering the same one

# What the server itself stops when one of ours cannot: a stopped node inside a statement frees its locks well before
# the lease's time to live is over. transaction_timeout is PostgreSQL 17's.
_SERVICE_LIMITS = {
    "statement_timeout": "15s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "10s",
}
ROLE_LIMITS = {
    "mm_console": _SERVICE_LIMITS,
    "mm_exchange": _SERVICE_LIMITS,
    "mm_node": {
        "statement_timeout": "1800ms",  # below transaction_timeout, which would end the session instead
        "lock_timeout": "1s",
        "idle_in_transaction_session_timeout": "1s",
        "transaction_timeout": "2s",
    },
}


class SetupError(UserError):
    """The server cannot be used as it is. The text says what to change."""


@dataclass(frozen=True)
class Market:
    """What the market is made with the first time."""

    symbols: int
    seed: int | None  # None: the one that the data has, or else DEFAULT_SEED
    tick_ms: int


def connect(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection in autocommit, with our options; those in the URL win."""
    given = {key: value for key, value in PSYCOPG_OPTIONS.items() if f"{key}=" not in urlsplit(url).query}
    return primary.Connection.connect(url, autocommit=True, **given)


def with_database(url: str, name: str) -> str:
    """The same URL for another database of the server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def with_login(url: str, role: str, password: str) -> str:
    """The same URL for another role."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{role}:{quote(password, safe='')}@{place}"))


def database_name(url: str) -> str:
    return urlsplit(url).path.lstrip("/")


def wait_for_server(url: str, timeout_s: float = SERVER_TIMEOUT_S) -> None:
    """Return once the server takes connections to its `postgres` database.

    Raises SetupError after `timeout_s`, and at once when it is there and refuses the login.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            connect(with_database(url, "postgres")).close()
            return
        except psycopg.OperationalError as error:
            # A failed connection has no SQLSTATE to go by, only the server's words.
            refused = any(words in str(error) for words in REFUSALS)
            if time.monotonic() > deadline or refused:
                raise SetupError(f"cannot connect to {described(url)}: {str(error).strip()}") from error
        time.sleep(POLL_S)


def check_server(connection: psycopg.Connection[Any]) -> None:
    """Raises SetupError when the server is too old or lacks a setting that the checks rest on."""
    version = connection.info.server_version // 10_000
    if version < MINIMUM_VERSION:
        raise SetupError(f"PostgreSQL {MINIMUM_VERSION} or newer is needed; the server is {version}")
    row = connection.execute("SHOW track_commit_timestamp").fetchone()
    if row != ("on",):
        raise SetupError(
            "the server needs track_commit_timestamp = on (verify compares commit times):"
            " ALTER SYSTEM SET track_commit_timestamp = on, then restart the server"
        )


def check_rights(connection: psycopg.Connection[Any]) -> None:
    """Raises SetupError, which says what to grant, when the user may not make the roles and the tables."""
    from mmproject.functions import ROLES  # Django's models, which a node does without

    row = connection.execute(
        "SELECT r.rolname, r.rolsuper, r.rolcreaterole, d.datname, pg_has_role(d.datdba, 'USAGE')"
        " FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = current_database()"
    ).fetchone()
    assert row is not None
    user, is_super, creates_roles, database, owns = row
    if is_super:
        return
    if not owns:
        raise SetupError(f"{user} must own the database {database}: ALTER DATABASE {database} OWNER TO {user}")
    if not creates_roles:
        raise SetupError(f"{user} may not create the components' roles: ALTER ROLE {user} CREATEROLE")
    if connection.info.server_version < 160_000:
        return  # CREATEROLE is for all roles there
    others = connection.execute(
        "SELECT string_agg(rolname, ', ' ORDER BY rolname) FROM pg_roles"
        " WHERE rolname = ANY (%s) AND NOT pg_has_role(oid, 'MEMBER WITH ADMIN OPTION')",
        [list(ROLES)],
    ).fetchone()
    if others and others[0]:
        raise SetupError(
            f"the roles {others[0]} are there already and {user} may not alter them: use the user that first set this"
            f" server up, or GRANT {others[0]} TO {user} WITH ADMIN OPTION"
        )


def ensure_database(url: str) -> None:
    """Make the URL's database if the server has none of that name. Raises SetupError."""
    name = database_name(url)
    try:
        connect(url).close()
        return
    except psycopg.OperationalError as error:
        missing = f'database "{name}" does not exist' in str(error)
        if not missing:
            raise SetupError(f"cannot connect to {described(url)}: {str(error).strip()}") from error
    with connect(with_database(url, "postgres")) as connection:
        try:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(sql.Identifier(name))
            )
        except psycopg.errors.DuplicateDatabase:
            pass  # another set-up made it just now
        except psycopg.errors.InsufficientPrivilege as error:
            raise SetupError(f"may not create the database {name}: create it, or use a role that may") from error


def drop_database(connection: psycopg.Connection[Any], name: str) -> None:
    """Drop a database whoever is connected to it. Must not be called for one that is in use by others than us."""
    statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    deadline = time.monotonic() + DROP_TIMEOUT_S
    while True:
        try:
            connection.execute(statement)
            return
        except psycopg.errors.InsufficientPrivilege:
            # Who is no superuser may not end an autovacuum worker that happens to be there: it soon ends by itself.
            if time.monotonic() > deadline:
                raise
        time.sleep(POLL_S)


def role_urls(admin_url: str, var: Path) -> dict[str, str]:
    """The URL of each role that processes connect as, and the admin's."""
    urls = {name: with_login(admin_url, role, role_password(var, admin_url, role)) for name, role in LOGINS.items()}
    return {"admin": admin_url, **urls}


def _alter_role(connection: psycopg.Connection[Any], role: str, change: sql.Composable) -> None:
    _change_role(connection, sql.SQL("ALTER ROLE {} {}").format(sql.Identifier(role), change))


def _change_role(connection: psycopg.Connection[Any], statement: sql.Composed) -> None:
    for attempt in range(ALTER_ATTEMPTS):
        try:
            connection.execute(statement)
            return
        except psycopg.errors.InternalError_ as error:
            # "tuple concurrently updated": catalogues are not versioned for their writers
            if attempt == ALTER_ATTEMPTS - 1 or "concurrently" not in str(error):
                raise
        time.sleep(POLL_S)


def _logs_in(connection: psycopg.Connection[Any], role: str, url: str) -> bool:
    row = connection.execute("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", [role]).fetchone()
    if row != (True,):
        return False
    try:
        connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def ensure_logins(connection: psycopg.Connection[Any], urls: dict[str, str]) -> None:
    """Give the roles their passwords and limits. The server never sees a password, only its SCRAM verifier."""
    for name, role in LOGINS.items():
        if not _logs_in(connection, role, urls[name]):
            password = urlsplit(urls[name]).password or ""
            verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
            _alter_role(connection, role, sql.SQL("LOGIN PASSWORD {}").format(verifier.decode()))
        if name == "node" and connection.info.server_version >= RESERVED_SINCE:
            _let_use_reserved(connection, role)
        row = connection.execute("SELECT rolconfig FROM pg_roles WHERE rolname = %s", [role]).fetchone()
        have = set((row and row[0]) or [])
        for setting, value in ROLE_LIMITS[role].items():
            known = setting != "transaction_timeout" or connection.info.server_version >= 170_000
            if known and f"{setting}={value}" not in have:
                _alter_role(connection, role, sql.SQL("SET {} = {}").format(sql.Identifier(setting), value))


def _let_use_reserved(connection: psycopg.Connection[Any], role: str) -> None:
    """Nodes may use the connections that the server reserves: when all others are taken, they still get in and renew.

    A server where we may not grant that goes without.
    """
    row = connection.execute("SELECT pg_has_role(%s, %s, 'USAGE')", [role, RESERVED_ROLE]).fetchone()
    if row == (False,):
        # Our roles inherit nothing by themselves (journal_roles_v1).
        grant = sql.SQL("GRANT {} TO {} WITH INHERIT TRUE")
        with suppress(psycopg.errors.InsufficientPrivilege):
            _change_role(connection, grant.format(sql.Identifier(RESERVED_ROLE), sql.Identifier(role)))


def ensure_broker(connection: psycopg.Connection[Any]) -> None:
    """Install pgmq, owned by the one role that uses it (kombu makes its queues as that role)."""
    row = connection.execute("SELECT to_regnamespace('pgmq') IS NOT NULL").fetchone()
    if row == (True,):
        return
    from pgmq.install import get_embedded_install_sql

    database = sql.Identifier(connection.info.dbname)
    with connection.transaction():
        connection.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO mm_exchange").format(database))
        connection.execute("SET LOCAL ROLE mm_exchange")
        connection.execute(cast(Any, get_embedded_install_sql()))
        connection.execute("RESET ROLE")
        connection.execute(sql.SQL("REVOKE CREATE ON DATABASE {} FROM mm_exchange").format(database))


def checked_seed(connection: psycopg.Connection[Any], wanted: int | None) -> int:
    """The seed to go on with. Raises UsageError when the data was made with another: a market has one for life."""
    row = connection.execute("SELECT seed FROM exchange_clock").fetchone()
    if row is None:
        return DEFAULT_SEED if wanted is None else wanted
    seed: int = row[0]
    if wanted not in (None, seed):
        raise UsageError(
            f"the data was made with seed {seed}, and {wanted} is asked for: leave --seed out to go on with it,"
            " or remove the data with `make clean-data`"
        )
    return seed


def point_django_at(url: str) -> dict[str, Any]:
    """Make Django's default connection, in every thread of this process, go to `url`; returns what it was."""
    from django.db import connections

    from mmproject.settings import database

    current = connections.settings["default"]
    before = dict(current)
    connections["default"].close()
    # In place: each thread's connection object holds this very dictionary.
    current.update(connections.configure_settings({"default": database(url)})["default"])
    return before


def migrate(progress: Any = None) -> int:
    """Apply the migrations that Django's default database lacks; returns how many there were."""
    from django.core.management import call_command
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if plan:
        if progress:
            progress(f"applying {len(plan)} migrations")
        call_command("migrate", verbosity=0, interactive=False)
        with connection.cursor() as cursor:
            # Django makes this table by itself, so no migration can say who may read it; /readyz does.
            cursor.execute("GRANT SELECT ON django_migrations TO mm_console")
    return len(plan)


@contextmanager
def _alone(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """One set-up of this database at a time; the others wait."""
    connection.execute("SELECT set_config('lock_timeout', %s, false)", [SETUP_LOCK_TIMEOUT])
    connection.execute("SELECT pg_advisory_lock(%s, %s)", SETUP_LOCK)
    try:
        yield
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s, %s)", SETUP_LOCK)


def set_up(
    admin_url: str,
    var: Path,
    *,
    market: Market | None,
    broker: bool,
    progress: Any = None,
    wait_s: float = SERVER_TIMEOUT_S,
) -> dict[str, str]:
    """All of it; returns the roles' URLs. Leaves Django's default connection pointing at `admin_url`.

    Without `market` the tables stay empty. Raises SetupError, and what ensure_market raises.
    """
    if not database_name(admin_url):
        raise SetupError("DATABASE_URL names no database: add one, as in postgresql://user@host/market")
    wait_for_server(admin_url, wait_s)
    ensure_database(admin_url)
    urls = role_urls(admin_url, var)
    with connect(admin_url) as connection:
        check_server(connection)
        check_rights(connection)
        with _alone(connection):
            point_django_at(admin_url)
            migrate(progress)
            ensure_logins(connection, urls)
            if broker:
                ensure_broker(connection)
            if market:
                from exchange.services import ensure_market

                seed = checked_seed(connection, market.seed)
                ensure_market(symbols=market.symbols, seed=seed, tick_ms=market.tick_ms)
    return urls


def write_urls(urls: dict[str, str], var: Path) -> Path:
    """Keep the URLs in var/run/urls.json (0600) for commands run by hand; replaced whole."""
    folder = var / "run"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f"urls.json.{os.getpid()}"
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(urls, file, indent=1)
    return draft.replace(folder / "urls.json")
