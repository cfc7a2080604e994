"""The catalogue of faults: each breaks something for a while, heals it, and checks what it can check by itself.

A fault is a function of an `Occasion`: where it happens, for how long, and its own dice, all set by the schedule before
the run begins. Whatever else happens meanwhile, it must leave things healed; what it expects of the system it states
with `expect`, which is a violation when it does not hold. Numbers are those of the catalogue in docs/chaos.md.
"""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import httpx
import psycopg
from psycopg import sql

from chaos.arena import CLOCK_NODE, NETWORK_NODE, Arena, can_mount, faketime_library, has_namespaces
from chaos.history.operations import recorded
from chaos.load import Client, Record, Terms, terms_of
from chaos.proxy import Direction, Moment
from mmproject.crashpoints import POINTS, arm, crashes
from mmproject.provision import LOGINS, ROLE_LIMITS
from mmproject.recording import Recorder

POLL_S: Final = 0.05
BACK_S: Final = 30.0  # a healed process or server is back by then, or that is a violation
CHURN_GROUPS: Final = 10
CHURN_GROUP: Final = 5  # nodes in one process, which come and go together
QUEUE: Final = "mm_tasks"


class Broken(AssertionError):
    """What a fault expected of the system did not hold."""


@dataclass(frozen=True)
class Fault:
    """One kind. Two occasions whose `touches` meet do not overlap; "node" stands for the node that is hit."""

    number: int
    name: str
    what: str
    seconds: tuple[float, float]
    act: Callable[[Occasion], None]
    touches: tuple[str, ...]
    nodes: tuple[str, ...] = ("node-1", "node-2", "node-3")  # that it may hit
    needs: Callable[[], str | None] = lambda: None  # what is missing on this machine for it, in words


@dataclass
class Occasion:
    """One happening of a fault. Times are Unix seconds, by the clock that the database reads too."""

    fault: Fault
    at_s: float  # since the run began
    seconds: float
    node: str | None
    seed: int
    arena: Arena = field(repr=False)
    record: Record = field(repr=False)
    history: Recorder = field(repr=False)
    stop: threading.Event = field(repr=False)
    tell: Callable[[str, str], None] = field(repr=False)
    began_at: float = 0.0
    ended_at: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    cut_short: bool = False  # by another fault; then it counts as not having happened
    symbols: list[str] = field(default_factory=list)  # that the node held when it began
    healed: threading.Event = field(default_factory=threading.Event, repr=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    @property
    def touches(self) -> set[str]:
        """What it breaks; two that share something do not overlap."""
        return {self.node if touched == "node" and self.node else touched for touched in self.fault.touches}

    def wait(self, seconds: float | None = None) -> None:
        """For the fault to last; cut short at the run's end."""
        self.stop.wait(self.seconds if seconds is None else seconds)

    def expect(self, holds: object, what: str) -> None:
        """Raises Broken."""
        if not holds:
            raise Broken(what)

    def eventually(self, condition: Callable[[], object], what: str, timeout_s: float = BACK_S) -> None:
        """Wait for it; errors of a connection count as not yet. Raises Broken."""
        deadline = time.monotonic() + timeout_s
        last: object = None
        while time.monotonic() < deadline:
            try:
                last = condition()
                if last:
                    return
            except (psycopg.Error, httpx.TransportError) as error:
                last = error
            time.sleep(POLL_S)
        raise Broken(f"not within {timeout_s:g} s: {what}; last seen: {last!r}")

    @contextmanager
    def database_lost(self) -> Iterator[None]:
        """Around whatever may make the server lose what it has not flushed, until one is back: histories need it."""
        number = self.history.invoke("database_lost", {})
        try:
            yield
        finally:
            self.history.returned(number, {})

    def toggle(self, http: httpx.Client, symbol: str | None, enabled: bool, why: str) -> httpx.Response | None:
        """An operator's command, recorded; None when no answer came."""
        reason = f"chaos {self.seed} {time.time_ns()}: {why}"
        path = f"/api/v1/symbols/{symbol}/quoting" if symbol else "/api/v1/quoting"
        answers: list[httpx.Response] = []

        def send() -> tuple[int, Any]:
            answers.append(http.post(path, json={"enabled": enabled, "reason": reason}))
            return answers[0].status_code, answers[0].json() if answers[0].status_code < 500 else None

        try:
            recorded(self.history, "toggle", {"symbol": symbol, "enabled": enabled, "reason": reason}, send)
        except httpx.TransportError:
            return None
        return answers[0]

    @property
    def process(self) -> Any:
        """The process of the node that is hit."""
        assert self.node is not None
        return self.arena.supervisor[self.node]

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """From the server that can write, as its admin. Raises psycopg.Error."""
        with self.arena.connect() as connection:
            return connection.execute(query.encode(), values or None).fetchall()

    def symbol(self) -> str:
        return str(self.dice.choice(sorted(row[0] for row in self.rows("SELECT name FROM exchange_symbol"))))


# --- Nodes ----------------------------------------------------------------------------------------------------------


def node_kill(it: Occasion) -> None:
    it.cut_short = not it.process.signal(signal.SIGKILL)


def node_stop(it: Occasion) -> None:
    """Stopped beyond its time to live, then let go on: it finds its incarnation ended, and is refused."""
    try:
        it.cut_short = not it.process.signal(signal.SIGSTOP)
        it.wait()
    finally:
        it.process.signal(signal.SIGCONT)


def node_stop_in_statement(it: Occasion) -> None:
    """Stopped while a statement of its own waits for a row that we hold; the row is let go while it is stopped."""
    assert it.node is not None
    held = it.rows("SELECT symbol FROM authority_lease_in_force WHERE node = %s ORDER BY symbol LIMIT 1", it.node)
    waits = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE %s AND wait_event_type = 'Lock'"
    it.cut_short = True
    try:
        with it.arena.connect() as connection, connection.transaction():
            connection.execute("SELECT FROM exchange_quote WHERE symbol = %s FOR UPDATE", held[0] if held else [""])
            with suppress(Broken):
                it.eventually(lambda: it.rows(waits, f"mm-node {it.node}%"), "a statement waits", 3)
                it.cut_short = not it.process.signal(signal.SIGSTOP)
        it.wait()
    finally:
        it.process.signal(signal.SIGCONT)


def node_starved(it: Occasion) -> None:
    """It gets a tenth of the time, in slices of 100 ms."""
    end = time.monotonic() + it.seconds
    it.cut_short = True
    try:
        while time.monotonic() < end and not it.stop.is_set():
            it.cut_short &= not it.process.signal(signal.SIGSTOP)
            time.sleep(0.09)
            it.process.signal(signal.SIGCONT)
            time.sleep(0.01)
    finally:
        it.process.signal(signal.SIGCONT)


def node_clock(it: Occasion) -> None:
    """An hour ahead, then an hour behind, then running at half and at twice the speed."""
    shows = it.dice.sample(["+3600s", "-3600s", "+0 x0.5", "+0 x2", "+86400s x1.5"], 4)
    try:
        for one in shows:
            it.arena.clock_file.write_text(f"{one}\n")
            it.wait(it.seconds / len(shows))
    finally:
        it.arena.clock_file.write_text("+0\n")
    it.details["clock"] = shows


def churn(it: Occasion) -> None:
    """50 more nodes, in groups, joining and leaving: ten changes a second."""
    arena = it.arena
    groups = [f"churn-{number}" for number in range(CHURN_GROUPS)]
    began, changes = time.monotonic(), 0
    try:
        for name in groups:
            names = ",".join(f"{name}-{number}" for number in range(CHURN_GROUP))
            command = [sys.executable, "-m", "bench.many_nodes", "--names", names]
            process = arena.add_process(
                name, command, {"DATABASE_URL": arena.urls["node"], "MM_PROCESS": name, **arena.tested}
            )
            process.wanted = True
            changes += CHURN_GROUP
            it.wait(CHURN_GROUP / 10)
        while time.monotonic() - began < it.seconds and not it.stop.is_set():
            process = arena.supervisor[it.dice.choice(groups)]
            process.signal(it.dice.choice([signal.SIGTERM, signal.SIGKILL]))  # and it is started again
            changes += 2 * CHURN_GROUP
            it.wait(2 * CHURN_GROUP / 10)
    finally:
        for name in groups:
            if name in arena.supervisor.names:
                arena.supervisor[name].wanted = False
        for name in groups:
            if name in arena.supervisor.names:
                arena.supervisor.stop(name)
    it.details["changes"] = changes
    joined = it.rows(
        "SELECT count(DISTINCT node) FROM authority_incarnation"
        " WHERE node LIKE 'churn-%%' AND registered_at > to_timestamp(%s)",
        it.began_at,
    )[0][0]
    it.details["nodes_that_joined"] = joined
    it.expect(joined > CHURN_GROUP or it.stop.is_set(), f"only {joined} nodes joined")


# --- The network ----------------------------------------------------------------------------------------------------


def partition_both(it: Occasion) -> None:
    line = it.arena.lines[it.node or ""]
    line.close_way("up", "down")
    try:
        it.wait()
    finally:
        line.open_way("up", "down")


def partition_one_way(it: Occasion) -> None:
    line = it.arena.lines[it.node or ""]
    ways: list[Direction] = ["up", "down"]
    way = it.dice.choice(ways)
    line.close_way(way)
    it.details["closed"] = way
    try:
        it.wait()
    finally:
        line.open_way(way)


def late_write(it: Occasion) -> None:
    """A quote is on its way when the network stops, and arrives when others have long taken over: it is refused."""
    line = it.arena.lines[it.node or ""]
    refused = "SELECT count(*) FROM authority_refusal WHERE node = %s"
    quotes = (
        "SELECT 1 FROM exchange_quote q JOIN authority_lease_in_force l ON l.symbol = q.symbol"
        " WHERE l.node = %s AND q.quote_incarnation = l.incarnation LIMIT 1"
    )
    it.eventually(lambda: it.rows(quotes, it.node), f"{it.node} quotes")
    before = it.rows(refused, it.node)[0][0]
    hold = line.hold(b"authority_replace_quotes")
    try:
        it.details["held"] = hold.held.wait(5)
        line.close_way("down")
        it.wait()
    finally:
        line.open_way("down")
        line.release()
    it.cut_short = not it.details["held"]
    if it.details["held"] and not it.stop.is_set():
        it.eventually(lambda: it.rows(refused, it.node)[0][0] > before, "the late write is refused, and recorded")


def partition_network(it: Occasion) -> None:
    """The cable of the node that has a network of its own."""
    assert it.arena.namespace is not None
    it.arena.namespace.unplug()
    try:
        it.wait()
    finally:
        it.arena.namespace.plug()


def slow_network(it: Occasion) -> None:
    line = it.arena.lines[it.dice.choice(["daphne", "worker", *it.arena.nodes])]
    latency_s, bytes_per_s = it.dice.uniform(0.02, 0.15), it.dice.choice([0.0, 200_000.0])

    line.slow(latency_s, bytes_per_s)
    it.details |= {"line": line.name, "latency_ms": round(latency_s * 1000), "bytes_per_s": bytes_per_s}
    try:
        it.wait()
    finally:
        line.slow(0, 0)


PATTERNS: Final = {"daphne": [b"exchange_place_order"], "worker": [b"exchange_place_orders", b"exchange_advance_clock"]}
NODES_PATTERNS: Final = [b"authority_replace_quotes", b"authority_replace_quotes", b"authority_renew", b""]


def reset_around_commit(it: Occasion) -> None:
    """Connections reset just before, while and just after orders commit, and in the middle of nodes' statements."""
    end, cuts = time.monotonic() + it.seconds, 0
    try:
        while time.monotonic() < end and not it.stop.is_set():
            name = it.dice.choice(["daphne", "daphne", "worker", *it.arena.nodes])
            moment: Moment = it.dice.choice(["before", "after_request", "after_answer"])
            pattern = it.dice.choice(PATTERNS.get(name, NODES_PATTERNS))
            cut = it.arena.lines[name].cut(pattern, moment)
            cuts += cut.done.wait(1.0)
            it.arena.lines[name].uncut()
            it.wait(0.2)
    finally:
        for line in it.arena.lines.values():
            line.uncut()
    it.details["cuts"] = cuts
    it.cut_short = not cuts  # all that could be cut was down


def listeners_lost(it: Occasion) -> None:
    """Listening sessions are ended again and again, and doorbells forged: unknown symbols, nonsense, and very many."""
    end, ended, forged = time.monotonic() + it.seconds, 0, 0
    listening = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database()"
        " AND (application_name = 'mm-node ' || %s OR usename = 'mm_console' AND query ILIKE '%%listen%%')"
    )
    while time.monotonic() < end and not it.stop.is_set():
        with suppress(psycopg.Error):
            ended += it.rows(listening, it.dice.choice(it.arena.nodes))[0][0]
            for channel in ("mm_market", "mm_authority"):
                for payload in ("", "NOSUCH", ",,,", "\u2603" * 500, "x" * 7000, "'; DROP TABLE ledger_fill; --"):
                    it.rows("SELECT pg_notify(%s, %s)", channel, payload)
                    forged += 1
            it.rows("SELECT count(pg_notify('mm_market', n::text)) FROM generate_series(1, 200) n")
        it.wait(1.0)
    it.details |= {"listeners_ended": ended, "forged": forged}
    it.cut_short = not (ended and forged)


# --- The database ---------------------------------------------------------------------------------------------------


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
    servers.start(old)
    it.wait()
    try:
        with old.connect() as connection:
            waiting = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            ).fetchone()
            it.details["commits_that_waited_in_vain"] = waiting[0] if waiting else 0
    except psycopg.Error as error:
        it.details["old"] = str(error).strip()
    it.arena.supervisor.stop(old.process.name, signal.SIGQUIT)
    servers.follow()


def disk_full(it: Occasion) -> None:
    """No space for the data or the log for a while, then some again."""
    assert it.arena.disk is not None
    with it.database_lost():  # it may end of it
        it.arena.disk.fill()
        try:
            it.wait()
        finally:
            it.arena.disk.free()
        it.eventually(it.arena.servers.primary.answers, "the server answers again")


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
        before, end, killed_at = it.process.starts, time.monotonic() + it.seconds, time.time()
        it.process.signal(signal.SIGKILL)
        registered = (
            "SELECT count(*) FROM authority_incarnation WHERE node = %s AND ended_at IS NULL"
            " AND registered_at > to_timestamp(%s) AND expires_at > clock_timestamp()"
        )

        def is_back() -> bool:
            take()  # what others gave up meanwhile
            row = admin.execute(registered, [it.node, killed_at]).fetchone()
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


def deadlock(it: Occasion) -> None:
    """An operator's command is made to lose a deadlock: it is run again by itself, and answered."""
    first, *_, last = sorted(row[0] for row in it.rows("SELECT name FROM exchange_symbol"))
    http = it.arena.client()
    http.timeout = httpx.Timeout(20)
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before = it.rows(deadlocks)[0][0]
    waits = (
        "SELECT 1 FROM pg_stat_activity WHERE usename = 'mm_console' AND wait_event_type = 'Lock'"
        " AND query LIKE '%%exchange_set_quoting%%'"
    )
    with ThreadPoolExecutor(1) as pool, http, it.arena.connect() as ours:
        ours.execute("SET deadlock_timeout = '20s'")  # so that it is the other one that finds out, and loses
        ours.execute("SET statement_timeout = '5s'")
        with suppress(psycopg.errors.QueryCanceled), ours.transaction():
            ours.execute("SELECT FROM exchange_quote WHERE symbol = %s FOR UPDATE", [last])
            toggle = pool.submit(it.toggle, http, None, True, "to lose a deadlock")
            it.eventually(lambda: it.rows(waits) or toggle.done(), "the command waits for our lock", 3)
            ours.execute("SELECT FROM exchange_quote WHERE symbol = %s FOR UPDATE", [first])
        answer = toggle.result()
        it.details["answer"] = answer.status_code if answer is not None else None
    it.cut_short, it.details["retried"] = True, False
    if it.details["answer"] == 200:
        with suppress(Broken):  # a session reports what it counted with a delay
            it.eventually(lambda: it.rows(deadlocks)[0][0] > before, "a deadlock was counted", 5)
            it.cut_short, it.details["retried"] = False, True


# --- Orders, fills and steps ----------------------------------------------------------------------------------------


def _terms(it: Occasion, symbol: str) -> list[Terms]:
    """The symbol's, as the API tells them once it answers."""
    found: list[Terms] = []

    def asked() -> bool:
        with it.arena.client() as http, suppress(httpx.HTTPStatusError):
            found[:] = [one for one in terms_of(http) if one.symbol == symbol]
        return bool(found)

    it.eventually(asked, "the API answers", 3 * BACK_S)
    return found


def hot_symbol(it: Occasion) -> None:
    """32 clients send orders for one symbol as fast as they can."""
    symbol = it.symbol()
    enough = threading.Event()
    clients = []
    terms = _terms(it, symbol)
    for number in range(32):
        tag = f"hot{it.seed}-{time.time_ns()}"
        clients.append(Client(number, it.arena.client(), it.record, enough, tag, terms=terms, history=it.history))
    for client in clients:
        client.start()
    it.wait()
    enough.set()
    for client in clients:
        client.join(120)
    it.details |= {"symbol": symbol, "orders": sum(len(client.sent) for client in clients)}
    wrong = [text for client in clients for text in client.tally.wrong]
    it.expect(not wrong, f"orders for a hot symbol: {wrong[:3]}")
    it.expect(not any(client.is_alive() for client in clients), "every client ended")
    it.cut_short = not it.details["orders"]


def same_order(it: Occasion) -> None:
    """One order is sent 50 times at once: one effect, one answer."""
    symbol = it.symbol()
    side, lot = it.dice.choice(["buy", "sell"]), format(_terms(it, symbol)[0].lot, "f")
    with it.arena.client() as http:
        order = {
            "client_order_id": f"same{it.seed}-{time.time_ns()}", "symbol": symbol, "side": side,
            "type": "market", "time_in_force": "IOC", "quantity": lot,
        }  # fmt: skip

        def send(_number: int) -> dict[str, Any] | None:
            deadline = time.monotonic() + BACK_S
            while time.monotonic() < deadline:
                with suppress(httpx.TransportError):
                    answer = http.post("/api/v1/orders", json=order)
                    if answer.status_code == 200:
                        found: dict[str, Any] = answer.json()
                        return found
                    it.expect(answer.status_code >= 500, f"answered {answer.status_code}: {answer.text[:200]}")
                time.sleep(0.1)
            return None

        with ThreadPoolExecutor(50) as pool:
            answers = [one for one in pool.map(send, range(50)) if one is not None]
    it.details |= {"answers": len(answers)}
    it.expect(answers, "the order was answered")
    it.expect(all(one == answers[0] for one in answers), f"one answer for all: {answers[:2]}")
    it.record.write({**{key: order[key] for key in ("symbol", "side", "type", "time_in_force")}, **answers[0]})


FILL: Final = """
    SELECT ledger_record_fill_v2(symbol, sequence, side, price, quantity + %s * lot_size, client_order_id,
                                 quote_version, epoch, incarnation, node, tick_size, lot_size)
      FROM ledger_fill ORDER BY {} LIMIT 20
"""


def fills_twice(it: Occasion) -> None:
    """Fills that are recorded are handed to the ledger again, in other orders, and then with other contents."""
    again = []
    for order in ("fill_id", "fill_id DESC", "md5(fill_id)", "quantity, fill_id"):
        again += [row[0] for row in it.rows(FILL.format(order), 0)]
    it.details["again"] = len(again)
    it.cut_short = not again
    it.expect(set(again) <= {"duplicate"}, f"each is a duplicate: {set(again)}")
    refused = None
    try:
        it.rows(FILL.format("fill_id"), 1)
    except psycopg.Error as error:
        refused = error.sqlstate
        if isinstance(error, psycopg.OperationalError):
            raise
    it.expect(refused == "MM409" or not again, f"other contents under a known id are refused: {refused}")


def tasks_redelivered(it: Occasion) -> None:
    """The worker is killed while it works, a second beat runs, and each message comes several times."""
    arena = it.arena
    env = {"DATABASE_URL": arena.urls["exchange"], "MM_PROCESS": "beat-2", "CELERY_SKIP_CHECKS": "1"}
    command = [sys.executable, "-m", "celery", "-A", "mmproject.celery", "-q", "beat", "--pidfile="]
    copies = kills = 0
    process = arena.add_process("beat-2", command, env)
    process.wanted = True
    end = time.monotonic() + it.seconds
    try:
        while time.monotonic() < end and not it.stop.is_set():
            it.wait(it.dice.uniform(0.2, 1.2))
            with suppress(psycopg.Error):
                copies += len(it.rows(f"SELECT pgmq.send('{QUEUE}', message, 0) FROM pgmq.q_{QUEUE} LIMIT 5"))  # noqa: S608
            if it.dice.random() < 0.4:
                kills += arena.supervisor["worker"].signal(signal.SIGKILL)
    finally:
        arena.supervisor.stop("beat-2")
    it.details |= {"copies": copies, "worker_killed": kills}
    it.cut_short = not (copies or kills)


def broker_emptied(it: Occasion) -> None:
    """The queue is emptied and dropped under the worker."""
    emptied = 0
    end = time.monotonic() + it.seconds
    while time.monotonic() < end and not it.stop.is_set():
        with suppress(psycopg.Error):
            it.rows(f"SELECT pgmq.purge_queue('{QUEUE}')")
            emptied += 1
        it.wait(0.5)
    with suppress(psycopg.Error):
        it.details["dropped"] = it.rows(f"SELECT pgmq.drop_queue('{QUEUE}')")[0][0]
    it.details["emptied"] = emptied
    it.cut_short = not emptied
    step = "SELECT step FROM exchange_clock"
    with suppress(psycopg.Error):
        before = it.rows(step)[0][0]
        it.eventually(lambda: it.rows(step)[0][0] > before + 2, "the clock goes on without its queue", 2 * BACK_S)


def daphne_killed_in_toggle(it: Occasion) -> None:
    """Killed a few milliseconds after an operator's command was sent: it happened with its audit, or not at all."""
    symbol, killed = it.symbol(), 0
    audit = "SELECT count(*) FROM journal_audit WHERE target = %s AND reason LIKE %s"
    for number in range(3):
        why = f"{number} of {time.time_ns()}"
        with it.arena.client() as http, ThreadPoolExecutor(1) as pool:
            it.eventually(it.arena.is_ready, "the API answers", 2 * BACK_S)
            sent = pool.submit(it.toggle, http, symbol, number % 2 == 1, why)
            time.sleep(it.dice.uniform(0, 0.03))
            killed += it.arena.supervisor["daphne"].signal(signal.SIGKILL)
            answer = sent.result()
        if answer is not None and answer.status_code == 200:
            it.eventually(partial(_is_there, it, audit, symbol, f"%{why}"), "an answered toggle has its audit row")
    it.details |= {"symbol": symbol, "killed": killed}
    it.cut_short = not killed
    quoting_on(it, symbol)


def _is_there(it: Occasion, count: str, *values: str) -> bool:
    return it.rows(count, *values) == [(1,)]


def quoting_on(it: Occasion, symbol: str) -> None:
    """Turn it on again, however long it takes."""

    def on() -> bool:
        with it.arena.client() as http:
            answer = it.toggle(http, symbol, True, "healed")
            return answer is not None and answer.status_code == 200

    it.eventually(on, "quoting is turned on again", 3 * BACK_S)


def kill_switch(it: Occasion) -> None:
    """Turned off and on by an operator while orders come in: I12 is what is at stake."""
    symbol = it.symbol()
    try:
        with it.arena.client() as http:
            answer = it.toggle(http, symbol, False, "the kill switch")
            it.cut_short = answer is None or answer.status_code != 200
        it.wait()
    finally:
        quoting_on(it, symbol)
    it.details["symbol"] = symbol


POISON: Final = (
    b"", b"{", b"[]", b"null", b'"\\ud800"', b"\x00\xff", b'{"client_order_id": 1}', b'{"quantity": NaN}',
    b'{"client_order_id":"p","symbol":"ALFA","side":"buy","type":"limit","time_in_force":"IOC","price":"1e400","quantity":"1"}',
    b'{"client_order_id":"p","symbol":"ALFA","side":"buy","type":"limit","time_in_force":"IOC","price":"-1","quantity":"0"}',
    b"[" * 20_000,
)  # fmt: skip
POISONED_MESSAGES: Final = ("{}", "[]", "null", '{"body": "!!", "headers": {}, "properties": {}}')


def poison(it: Occasion) -> None:
    """Input that nobody should send: to the API, and into the queue."""
    sent = 0
    with it.arena.client() as http:
        for body in POISON:
            for path in ("/api/v1/orders", "/api/v1/quoting", "/api/v1/symbols/%00/quoting"):
                with suppress(httpx.TransportError):
                    answer = http.post(path, content=body, headers={"content-type": "application/json"})
                    sent += 1
                    if answer.status_code not in (503, 504):  # which say that the database is away
                        it.expect(answer.status_code < 500, f"{path} with {body[:60]!r}: {answer.status_code}")
                        it.expect(answer.status_code >= 400, f"{path} took {body[:60]!r}")
    with suppress(psycopg.OperationalError):
        for message in POISONED_MESSAGES:
            with suppress(psycopg.ProgrammingError):  # dropped a moment ago, by another fault
                it.rows(f"SELECT pgmq.send('{QUEUE}', %s::jsonb)", message)
                sent += 1
    it.details["sent"] = sent
    it.cut_short = not sent


def rolling_restart(it: Occasion) -> None:
    """Every process in turn, as for a new version; the database last."""
    for name in [*it.arena.nodes, "worker", "beat", "daphne"]:
        it.arena.supervisor.stop(name)
        it.arena.supervisor.start(name)
        it.wait(1.0)
    servers = it.arena.servers
    with it.database_lost():
        servers.stop(servers.primary)
        servers.start(servers.primary)


def crash_points(it: Occasion) -> None:
    """Processes die just before and just after a commit, at named places, one after another."""
    folder, end = it.arena.crash_points, time.monotonic() + it.seconds
    crashed: list[str] = []
    while time.monotonic() < end and not it.stop.is_set():
        point = it.dice.choice(POINTS)
        before = crashes(folder)
        arm(folder, point)
        armed = time.monotonic()
        while crashes(folder) == before and time.monotonic() - armed < 2:
            it.wait(POLL_S)
        (folder / point).unlink(missing_ok=True)
        if crashes(folder) != before:
            crashed.append(point)
    it.details["crashed"] = crashed
    it.cut_short = not crashed


def _needs_namespace() -> str | None:
    return None if has_namespaces() else "root and iproute2, for a network namespace"


def _needs_disk() -> str | None:
    return None if can_mount() else "root, to mount a small file system"


def _needs_clock() -> str | None:
    return None if faketime_library() else "libfaketime (apt-get install faketime)"


ONE: Final = ("node",)
DATABASE: Final = ("database",)
FAULTS: Final = (
    Fault(1, "node_kill", "a node is killed", (1, 2), node_kill, ONE),
    Fault(2, "node_stop", "a node is stopped beyond its TTL", (4, 8), node_stop, ONE),
    Fault(2, "node_stop_in_statement", "the same in the middle of a statement", (4, 8), node_stop_in_statement, ONE),
    Fault(3, "node_starved", "a node gets a tenth of a CPU's time", (4, 10), node_starved, ONE),
    Fault(4, "postgres_kill", "PostgreSQL is killed", (0, 1), postgres_kill, DATABASE),
    Fault(5, "postgres_restart", "PostgreSQL is stopped and started", (0.5, 6), postgres_restart, DATABASE),
    Fault(6, "failover", "the primary is killed, the standby promoted", (2, 5), failover, DATABASE),
    Fault(7, "old_primary_returns", "... and the old primary comes back", (5, 10), old_primary_returns, DATABASE),
    Fault(8, "partition_both", "a node is cut off", (2, 9), partition_both, ONE),
    Fault(8, "partition_one_way", "a node is cut off one way", (2, 9), partition_one_way, ONE),
    Fault(
        8, "partition_network", "a node's network is unplugged", (2, 9), partition_network, ONE,
        (NETWORK_NODE,), _needs_namespace,
    ),
    Fault(8, "late_write", "a quote arrives after its lease", (4, 7), late_write, ("node", "database", "network")),
    Fault(8, "slow_network", "latency and little bandwidth", (4, 10), slow_network, ("network",)),
    Fault(9, "reset_around_commit", "connections reset around commits", (5, 10), reset_around_commit, ("network",)),
    Fault(10, "node_clock", "a node's clock is wrong", (6, 12), node_clock, ("clock",), (CLOCK_NODE,), _needs_clock),
    Fault(11, "disk_full", "the database's disk is full", (3, 6), disk_full, DATABASE, needs=_needs_disk),
    Fault(12, "connections_taken", "all ordinary connections taken", (6, 9), connections_taken, ("database", "node")),
    Fault(13, "hot_symbol", "32 writers on one symbol", (3, 6), hot_symbol, ("flow",)),
    Fault(14, "same_order", "an order 50 times at once", (1, 2), same_order, ("flow",)),
    Fault(15, "fills_twice", "fills recorded again", (1, 2), fills_twice, ("ledger",)),
    Fault(16, "tasks_redelivered", "tasks redelivered, worker killed", (5, 10), tasks_redelivered, ("tasks",)),
    Fault(17, "daphne_killed_in_toggle", "Daphne killed in a toggle", (1, 2), daphne_killed_in_toggle, ("web",)),
    Fault(17, "kill_switch", "a symbol off and on", (1, 4), kill_switch, ("web",)),
    Fault(18, "listeners_lost", "listeners ended, doorbells forged", (3, 6), listeners_lost, ("bell",)),
    Fault(19, "poison", "poison input", (1, 2), poison, ("web",)),
    Fault(20, "churn", "50 nodes joining and leaving", (12, 18), churn, ("database", "churn")),
    Fault(21, "rolling_restart", "everything restarted in turn", (1, 2), rolling_restart,
          ("database", "node-1", "node-2", "node-3", "web", "tasks")),
    Fault(22, "short_statements", "statement_timeout of 50 ms", (3, 6), short_statements, DATABASE),
    Fault(23, "broker_emptied", "the broker lost and emptied", (2, 5), broker_emptied, ("tasks",)),
    Fault(25, "crash_points", "processes die around their commits", (6, 12), crash_points, ("crash",)),
    Fault(24, "deadlock", "a command loses a deadlock", (1, 2), deadlock, ("database", "web")),
)  # fmt: skip


def by_name(name: str) -> Fault | None:
    return next((fault for fault in FAULTS if fault.name == name), None)


assert len({fault.name for fault in FAULTS}) == len(FAULTS), "names are unique"
