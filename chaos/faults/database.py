"""The database killed, stopped, replaced, full, crowded, hurried, and deadlocked."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, Final

import httpx
import psycopg
from psycopg import sql

from chaos.occasion import POLL_S, Broken, Occasion
from chaos.servers import Server
from mmproject.primary import is_unreplicated
from mmproject.provision import LOGINS, ROLE_LIMITS

GIVE_UP_S: Final = 1.0
FULL_S: Final = 15.0
DEADLOCK_TRIES: Final = 3


def postgres_kill(it: Occasion) -> None:
    with it.database_lost():
        it.arena.servers.kill(it.arena.servers.primary)
        it.arena.supervisor.ended(it.arena.servers.primary.process.name)
        it.eventually(it.arena.servers.primary.answers, "the server answers again")


def postgres_restart(it: Occasion) -> None:
    servers = it.arena.servers
    with it.database_lost():
        servers.stop(servers.primary)
        it.wait()
        servers.start(servers.primary)


def failover(it: Occasion) -> None:
    """The primary is killed and the standby promoted; then the old one's data is thrown away and follows anew."""
    servers = it.arena.servers
    it.eventually(servers.is_followed, "the standby follows")
    with it.database_lost():
        servers.kill(servers.primary, again=False)
        servers.promote()
    it.details["primary"] = servers.primary.name
    it.wait()
    servers.follow()


def old_primary_returns(it: Occasion) -> None:
    """As a failover, and then the old primary is started as it was: it takes connections, and can make nothing last."""
    servers = it.arena.servers
    it.eventually(servers.is_followed, "the standby follows")
    with it.database_lost():
        servers.kill(servers.primary, again=False)
        old = servers.promote()
    reason = f"chaos {it.seed}: written on an old primary"
    try:
        servers.start(old)
        it.details["write_there"] = _write_in_vain(it, old, reason)
        it.wait()
    finally:
        it.arena.supervisor.stop(old.process.name, signal.SIGQUIT)
        servers.follow()
    kept = it.rows("SELECT count(*) FROM journal_audit WHERE reason = %s", reason)[0][0]
    it.expect(not kept, "nothing of an old primary's is kept")


def _write_in_vain(it: Occasion, old: Server, reason: str) -> str:
    """What becomes of a commit there, as a driver tells it that gives up after a while. Raises Broken."""
    told: list[bool] = []
    with psycopg.connect(old.url, autocommit=True, connect_timeout=3) as connection:
        connection.add_notice_handler(
            lambda one: told.append(
                is_unreplicated(one.severity_nonlocalized, one.source_function, one.message_primary)
            )
        )
        giving_up = threading.Timer(GIVE_UP_S, connection.cancel)
        giving_up.start()
        try:
            connection.execute(
                "INSERT INTO journal_audit (at, actor, action, target, before, after, reason)"
                " VALUES (clock_timestamp(), 'chaos', 'drain', 'nobody', 'false', 'true', %s)",
                [reason],
            )
        finally:
            giving_up.cancel()
    it.expect(any(told), "a commit on an old primary was acknowledged")
    return "committed there, waited for its standby in vain, and was not acknowledged"


def disk_full(it: Occasion) -> None:
    """No space for the data or the log, until something was refused for it and for a while after; then some again."""
    primary = it.arena.servers.primary
    disk, log = it.arena.disks[primary.name], it.arena.folder / "log" / f"{primary.name}.log"
    already = log.stat().st_size

    def refused() -> int:
        with log.open("rb") as written:
            written.seek(already)
            return written.read().count(b"No space left on device")

    def is_hit() -> bool:
        if not it.hit_at and refused():
            it.hit_at = time.time()
        return bool(it.hit_at)

    with it.database_lost():  # it may end of it
        primary.process.may_end = True
        disk.fill()
        try:
            with suppress(Broken):  # what is there already may do for a while: the log's files are used again
                it.eventually(lambda: is_hit() or it.stop.is_set(), "something is refused", FULL_S)
            end = time.monotonic() + it.seconds
            while time.monotonic() < end and not it.stop.wait(POLL_S):
                is_hit()
        finally:
            disk.free()
        it.eventually(primary.answers, "the server answers again")
        primary.process.may_end = False
    it.details |= {"server": primary.name, "refused": refused()}
    it.cut_short = not it.hit_at


def connections_taken(it: Occasion) -> None:
    """Every ordinary connection is taken. A node is killed meanwhile: its successor gets in on a reserved one."""
    taken: list[psycopg.Connection[Any]] = []
    with it.arena.connect() as admin, ExitStack() as stack:

        @stack.callback
        def _free() -> None:
            for connection in taken:
                connection.close()

        url = it.arena.primary_url("console")

        def take() -> None:
            try:
                while not it.stop.is_set():
                    taken.append(psycopg.connect(url))
            except psycopg.OperationalError as error:
                if "connection slots" not in str(error) and "too many" not in str(error):
                    raise

        take()
        before, end, it.hit_at = it.process.starts, time.monotonic() + it.seconds, time.time()
        it.process.signal(signal.SIGKILL)
        registered = (
            "SELECT count(*) FROM authority_incarnation WHERE node = %s AND ended_at IS NULL"
            " AND registered_at > to_timestamp(%s) AND expires_at > clock_timestamp()"
        )

        def is_back() -> bool:
            take()  # what others gave up meanwhile
            row = admin.execute(registered, [it.node, it.hit_at]).fetchone()
            return bool(row and row[0]) and time.monotonic() > end

        it.eventually(is_back, f"{it.node} registered while all ordinary connections were taken")
        it.details |= {"taken": len(taken), "restarts": it.process.starts - before}
        it.expect(len(taken) > 50, f"only {len(taken)} connections were there to be taken")


def short_statements(it: Occasion) -> None:
    """Statements of all roles may take no longer than 50 ms."""
    try:
        with it.arena.connect() as connection:
            for role in LOGINS.values():
                connection.execute(sql.SQL("ALTER ROLE {} SET statement_timeout = '50ms'").format(sql.Identifier(role)))
            _end_sessions(connection)
        # As an error that says so, or already while it connects.
        with suppress(psycopg.OperationalError), it.arena.connect("console") as connection:
            connection.execute("SELECT pg_sleep(1)")
            it.expect(False, "a statement of a second, and its role's limit is 50 ms")
        it.wait()
    finally:
        it.eventually(lambda: _restore_limits(it), "the roles' limits are restored")


def _restore_limits(it: Occasion) -> bool:
    with it.arena.connect() as connection:
        for role in LOGINS.values():
            value = ROLE_LIMITS[role]["statement_timeout"]
            connection.execute(sql.SQL("ALTER ROLE {} SET statement_timeout = {}").format(sql.Identifier(role), value))
        _end_sessions(connection)
    return True


def _end_sessions(connection: psycopg.Connection[Any]) -> None:
    """So that new ones begin with the new settings."""
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ANY (%s)", [list(LOGINS.values())]
    )


QUOTED: Final = """
    SELECT symbol, lot_size FROM exchange_quote
     WHERE valid_until > clock_timestamp() AND ask_quantity >= lot_size ORDER BY symbol
"""
BLOCKED: Final = "SELECT 1 FROM pg_stat_activity WHERE usename = 'mm_console' AND %s = ANY (pg_blocking_pids(pid))"
DEADLOCKS: Final = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


def deadlock(it: Occasion) -> None:
    """A client's order is made to lose a deadlock: it is run again by itself, and answered."""
    # It looks for one a second after it began to wait, and once: on a busy machine we may be too late.
    for _ in range(DEADLOCK_TRIES):
        it.details["retried"] = _deadlock(it)
        if it.details["retried"]:
            break
        it.wait(1)
    it.cut_short = not it.details["retried"]


def _deadlock(it: Occasion) -> bool:
    """Whether one was counted. We have the symbol's position and want its quote, the order the other way round."""
    quoted = it.rows(QUOTED)
    if not quoted:
        return False
    symbol, lot = it.dice.choice(quoted)
    order = {
        "client_order_id": f"deadlock{it.seed}-{time.time_ns()}", "symbol": symbol, "side": "buy", "type": "market",
        "time_in_force": "IOC", "quantity": str(lot),
    }  # fmt: skip
    it.details["answer"] = None
    before = it.rows(DEADLOCKS)[0][0]
    with ThreadPoolExecutor(1) as pool, it.arena.client() as http, it.arena.connect() as ours:
        http.timeout = httpx.Timeout(20)
        ours.execute("SET deadlock_timeout = '20s'")  # so that it is the other one that finds out, and loses
        # In all well below the 5 s in which a symbol has to have a holder again: it may be on its way to another node.
        ours.execute("SET statement_timeout = '2500ms'")
        with suppress(psycopg.errors.QueryCanceled), ours.transaction():
            ours.execute("SELECT FROM ledger_position WHERE symbol = %s FOR UPDATE", [symbol])
            sent = pool.submit(it.order, http, order)
            with suppress(Broken):
                it.eventually(partial(_waits_or_is_done, it, ours.info.backend_pid, sent), "an order waits for us", 1)
            ours.execute("SELECT FROM exchange_quote WHERE symbol = %s FOR UPDATE", [symbol])
        answer = sent.result()
        it.details["answer"] = answer and answer.status_code
    if answer is not None and it.details["answer"] == 200:
        it.acknowledge(order, answer.json())
        with suppress(Broken):  # a session reports what it counted with a delay
            it.eventually(lambda: it.rows(DEADLOCKS)[0][0] > before, "a deadlock was counted", 2)
            return True
    return False


def _waits_or_is_done(it: Occasion, holder: int, sent: Future[Any]) -> bool:
    return sent.done() or bool(it.rows(BLOCKED, holder))
