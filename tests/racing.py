"""Two connections racing for the same row, made to meet every time; and proof that each such test can fail.

`race` lets the first command do its work and keep its locks, uncommitted, until the second one either waits for them
(seen in pg_blocking_pids, never slept for) or is through. Then the first commits. So the interleaving that matters
happens in every run.

`guarded` runs a test as it is, and once more for each mutation: the guard that the test is about is taken out of the
scratch database's function, and the test must then fail in the way that the mutation names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from tests.support import Connection, Database, eventually

DAY_MS = 86_400_000  # leases and quotes that outlive every test, unless a test says otherwise
DEADLINE_S = 20  # for a step of a race on a machine that runs other tests too
BOUNDED = ("exchange_set_quoting_v2", "exchange_lock_quotes_v1", "authority_lock_leases_v1", "authority_sweep_v3")

Command = Callable[[Connection], Any]


@contextmanager
def kept_locked(database: Database, symbol: str, table: str = "exchange_quote") -> Iterator[Connection]:
    """Somebody has that symbol's row and does nothing with it, until the block ends or its connection rolls back."""
    with database.connect("admin") as holder:
        holder.autocommit = False
        holder.execute(sql.SQL("SELECT 1 FROM {} WHERE symbol = %s FOR UPDATE").format(sql.Identifier(table)), [symbol])
        yield holder
        holder.rollback()


@dataclass(frozen=True)
class Mutation:
    """A guard taken out. `edits` are (function, text, replacement); `shows` is what the failure must say (a regex)."""

    name: str
    edits: tuple[tuple[str, str, str], ...]
    shows: str
    statements: tuple[str, ...] = ()

    def apply(self, connection: Connection) -> None:
        """Change the functions of this database. Fails when a text isn't there: nothing would change."""
        for function, old, new in self.edits:
            row = connection.execute("SELECT pg_get_functiondef(%s::regproc)", [function]).fetchone()
            assert row is not None
            assert old in row[0], f"{function} has no {old!r}"
            connection.execute(row[0].replace(old, new).encode())
        for statement in self.statements:
            connection.execute(statement.encode())


def unlocked(function: str, locking: str, shows: str, *, name: str = "") -> Mutation:
    """The mutation that takes FOR UPDATE from the end of a statement."""
    assert locking.endswith("FOR UPDATE;"), locking
    without = locking.removesuffix(" FOR UPDATE;") + ";"
    return Mutation(name or f"{function}-unlocked", ((function, locking, without),), shows)


REPLACE_UNLOCKED = (
    "exchange_replace_quotes_v3",
    "PERFORM 1 FROM exchange_quote WHERE symbol = ANY (p_symbols) ORDER BY symbol FOR UPDATE;",
    "",
)
# Every order goes the general way, also one that the quote alone fills.
NO_SHORT_CUT = ("exchange_submit_order_v3", "AND p_step IS NULL", "AND false")
SUBMIT_UNLOCKED = ("exchange_match_order_v2", "WHERE symbol = p_symbol FOR UPDATE;", "WHERE symbol = p_symbol;")
TOGGLE_UNLOCKED = ("exchange_set_quoting_v2", "ORDER BY q.symbol FOR UPDATE) l", "ORDER BY q.symbol) l")


def guarded(
    *mutations: Mutation, also_with: tuple[Mutation, ...] = ()
) -> Callable[[Callable[[Stage], None]], Callable[[Database, Mutation | None], None]]:
    """Decorate a test that takes a Stage: it holds as it is and with each of `also_with`; each mutation loses it."""

    def decorate(test: Callable[[Stage], None]) -> Callable[[Database, Mutation | None], None]:
        def run(database: Database, mutation: Mutation | None) -> None:
            stage = Stage(database)
            if mutation is not None:
                mutation.apply(stage.admin)
            stage.wait_for_locks()
            if mutation not in mutations:
                test(stage)
                return
            with pytest.raises((AssertionError, psycopg.Error), match=mutation.shows):
                test(stage)

        run.__name__, run.__qualname__, run.__doc__ = test.__name__, test.__qualname__, test.__doc__
        run.__module__ = test.__module__
        held = [f"holds: {variant.name}" for variant in also_with]
        ids = ["holds", *held, *(f"lost: {mutation.name}" for mutation in mutations)]
        return pytest.mark.parametrize("mutation", [None, *also_with, *mutations], ids=ids)(run)

    return decorate


@dataclass(frozen=True)
class Outcome:
    """What each command answered (an error of the database is an answer too), and whether the second had to wait."""

    first: Any
    second: Any
    waited: bool


@dataclass
class Node:
    """A registered node, its session, and the epochs that it was granted."""

    name: str
    session: Connection
    incarnation: UUID
    epochs: dict[str, int] = field(default_factory=dict)


class Stage:
    """A market of ALFA and BRAVO in a scratch database, worked by hand, with the admin's rights and no timeouts."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.admin = database.connect("admin")
        symbols = [
            {
                "name": name, "tick_size": "0.01", "lot_size": "1", "seed_price": "100", "volatility_bps": 50,
                "half_spread_ticks": 5, "skew_ticks": 5, "quote_size": "100", "position_limit": "150",
                "orders_per_step": "1",
            }
            for name in ("ALFA", "BRAVO")
        ]  # fmt: skip
        self.admin.execute("SELECT exchange_add_symbols_v1(%s::jsonb)", [json.dumps(symbols)])
        self.admin.execute("SELECT exchange_start_clock_v1(1, 1000)")

    def wait_for_locks(self) -> None:
        """Have those that leave out what somebody keeps locked wait as long as it takes: a race takes its time."""
        for function in BOUNDED:
            patient = sql.SQL("ALTER FUNCTION {} SET lock_timeout = '20s'").format(sql.Identifier(function))
            self.admin.execute(patient)
        Mutation("patient", (("exchange_set_quoting_v2", "'2s'", "'20s'"),), "").apply(self.admin)

    def one(self, query: str, *parameters: object) -> Any:
        """The first column of the first row, read with the admin's connection."""
        row = self.admin.execute(query.encode(), parameters).fetchone()
        return None if row is None else row[0]

    def column(self, query: str, *parameters: object) -> list[Any]:
        return [row[0] for row in self.admin.execute(query.encode(), parameters).fetchall()]

    def race(self, first: Command, second: Command, *, meanwhile: Command | None = None) -> Outcome:
        """Run both as the module's text says. `meanwhile` runs in the first's transaction once the second waits."""
        holder, other = self.database.connect("admin"), self.database.connect("admin")
        holder.execute("BEGIN")
        held = first(holder)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(second, other)

            def waits() -> bool:
                blockers = self.one("SELECT pg_blocking_pids(%s)", other.info.backend_pid)
                return holder.info.backend_pid in blockers

            eventually(lambda: running.done() or waits(), DEADLINE_S, "the second command waits or ends")
            waited = not running.done()
            try:
                if meanwhile is not None:
                    meanwhile(holder)
            finally:
                holder.execute("COMMIT")  # or the second would wait for ever
            try:
                answer = running.result(DEADLINE_S)
            except psycopg.Error as error:
                answer = error
        return Outcome(held, answer, waited)

    # Nodes

    def join(self, name: str, ttl_ms: int = DAY_MS) -> Node:
        """Register a node on a connection of its own."""
        session = self.database.connect("admin")
        return Node(name, session, register(name, ttl_ms)(session))

    def assign(self, **nodes: str) -> None:
        """Assign symbols to nodes: assign(ALFA="a")."""
        outcome = apply_assignment(self.generation(), self.members(), nodes)(self.admin)
        assert outcome in ("applied", "unchanged"), outcome

    def generation(self) -> int:
        return int(self.one("SELECT coalesce(max(generation), 0) FROM authority_rebalance"))

    def members(self) -> list[str]:
        return self.column('SELECT node FROM authority_member ORDER BY node COLLATE "C"')

    def holder(self, name: str = "a", *symbols: str) -> Node:
        """A registered node that holds these symbols (ALFA and BRAVO), and has not quoted yet."""
        node = self.join(name)
        names = symbols or ("ALFA", "BRAVO")
        self.assign(**dict.fromkeys(names, name))
        for symbol, (outcome, epoch) in acquire(node, *names)(self.admin).items():
            assert outcome == "granted", (symbol, outcome)
            node.epochs[symbol] = epoch
        return node

    def maker(self) -> Node:
        """A holder with a live quote in each symbol: 100 bid for at 99.95, 100 offered at 100.05."""
        node = self.holder()
        assert replace(node, "ALFA", "BRAVO")(self.admin) == {"ALFA": "accepted", "BRAVO": "accepted"}
        return node

    def lose(self, node: Node) -> None:
        """End the node's session as its process's death does, and wait until the server has noticed."""
        node.session.close()
        serial = self.one("SELECT serial FROM authority_incarnation WHERE id = %s", node.incarnation)
        eventually(lambda: not self.one("SELECT authority_session_alive_v1(%s)", serial), DEADLINE_S, "session gone")

    def expire(self, node: Node, in_ms: int) -> None:
        """Let the node's incarnation expire so many milliseconds from now."""
        self.admin.execute(
            "UPDATE authority_incarnation SET expires_at = clock_timestamp() + %s * interval '1 ms' WHERE id = %s",
            [in_ms, node.incarnation],
        )

    def await_expiry(self, node: Node) -> None:
        passed = "SELECT expires_at <= clock_timestamp() FROM authority_incarnation WHERE id = %s"
        eventually(lambda: self.one(passed, node.incarnation), DEADLINE_S, "it has expired")

    @contextmanager
    def kept_locked(self, table: str, symbol: str) -> Iterator[None]:
        """Somebody has that symbol's row and does nothing with it: a session left open, a server process that hangs."""
        with kept_locked(self.database, symbol, table):
            yield

    def is_locked(self, table: str, symbol: str) -> bool:
        """Whether somebody holds that symbol's row."""
        query = sql.SQL("SELECT 1 FROM {} WHERE symbol = %s FOR UPDATE NOWAIT").format(sql.Identifier(table))
        try:
            self.admin.execute(query, [symbol])
        except psycopg.errors.LockNotAvailable:
            return True
        return False


# Commands: what a race is made of. Each takes the connection that it runs on.


def _value(query: str, *parameters: object) -> Command:
    def command(connection: Connection) -> Any:
        row = connection.execute(query.encode(), parameters).fetchone()
        return None if row is None else row[0]

    return command


def retried(command: Command) -> Command:
    """As the services send it: again, once, if it lost the race for an id or took too long for its quote."""

    def twice(connection: Connection) -> Any:
        try:
            return command(connection)
        except (psycopg.errors.UniqueViolation, psycopg.errors.SerializationFailure):
            return command(connection)

    return twice


def in_turn(*commands: Command) -> Command:
    """One after another on the same connection; answers the last's answer."""
    return lambda connection: [command(connection) for command in commands][-1]


def register(name: str, ttl_ms: int = DAY_MS) -> Command:
    return _value("SELECT incarnation FROM authority_register_v3(%s, %s)", name, ttl_ms)


def apply_assignment(generation: int, members: Sequence[str], nodes: dict[str, str]) -> Command:
    query = "SELECT authority_apply_assignment_v2(%s, %s, %s, %s, 'a', 'test')"
    return _value(query, generation, list(members), list(nodes), list(nodes.values()))


def acquire(node: Node, *symbols: str) -> Command:
    """Answers {symbol: (outcome, epoch)}."""

    def command(connection: Connection) -> dict[str, tuple[str, int]]:
        rows = connection.execute("SELECT * FROM authority_acquire_v3(%s, %s)", [node.incarnation, list(symbols)])
        return {symbol: (outcome, epoch) for symbol, epoch, outcome in rows}

    return command


def release(node: Node, *symbols: str) -> Command:
    """Answers how many were released."""
    return _value("SELECT cardinality(authority_release_v3(%s, %s))", node.incarnation, list(symbols))


def renew(node: Node) -> Command:
    """Answers the new expires_at, or None when it is over."""
    return _value("SELECT expires_at FROM authority_renew_v3(%s)", node.incarnation)


def sweep(connection: Connection) -> list[tuple[str, str]]:
    """Answers (node, reason) of each that it ended."""
    return [(node, reason) for node, reason in connection.execute("SELECT node, reason FROM authority_sweep_v3()")]


def sweep_part(most: int) -> Command:
    """Sweep at most so many symbols; answers (node, reason, symbols, done), or None when there is nothing to sweep."""

    def command(connection: Connection) -> tuple[str, str, int, bool] | None:
        query = "SELECT node, reason, symbols, done FROM authority_sweep_v3(%s)"
        row = connection.execute(query, [most]).fetchone()
        return None if row is None else (row[0], row[1], row[2], row[3])

    return command


def begin_leave(node: Node) -> Command:
    """Answers how many members there are to hand over to."""
    return _value("SELECT authority_begin_leave_v1(%s)", node.incarnation)


def replace(
    node: Node, *symbols: str, epoch: int | None = None, quantity: int = 100, validity_ms: int = DAY_MS
) -> Command:
    """Quote 99.95 to 100.05 in these symbols; answers {symbol: outcome}."""

    def command(connection: Connection) -> dict[str, str]:
        epochs = [node.epochs[symbol] if epoch is None else epoch for symbol in symbols]
        prices = [["99.95"] * len(symbols), ["100.05"] * len(symbols)]
        sizes = [str(quantity)] * len(symbols)
        rows = connection.execute(
            "SELECT symbol, outcome FROM authority_replace_quotes_v3"
            "(%s, %s, %s::bigint[], %s::numeric[], %s::numeric[], %s::numeric[], %s::numeric[], %s)",
            [node.incarnation, list(symbols), epochs, prices[0], sizes, prices[1], sizes, validity_ms],
        )
        return dict(rows.fetchall())

    return command


def order(
    order_id: str, side: str, quantity: int, *, symbol: str = "ALFA", price: str | None = None, tif: str = "IOC"
) -> Command:
    """A market order, or a limit order when it has a price; answers the exchange's answer."""
    kind = "market" if price is None else "limit"
    query = "SELECT exchange_submit_order_v3(%s, %s, %s, %s, %s, %s::numeric, %s::numeric)"
    return _value(query, order_id, symbol, side, kind, tif, price, quantity)


def orders(*items: dict[str, Any]) -> Command:
    return _value("SELECT exchange_submit_orders_v4(%s::jsonb)", json.dumps(items))


def cancel(order_id: str) -> Command:
    return _value("SELECT exchange_cancel_order_v2(%s)", order_id)


def quoting(enabled: bool, *symbols: str) -> Command:
    query = "SELECT array_agg(before) FROM exchange_set_quoting_v2(%s, %s, 'tester')"
    return _value(query, list(symbols) or None, enabled)


def drain(node: str, draining: bool) -> Command:
    return _value("SELECT authority_set_draining_v1(%s, %s, 'tester')", node, draining)


def advance(step: int, price: str = "100") -> Command:
    query = "SELECT exchange_advance_clock_v1(%s, ARRAY['ALFA'], ARRAY[%s::numeric])"
    return _value(query, step, price)


def record_fill(sequence: int, *, node: Node, quantity: int = 10) -> Command:
    """The ledger's own function, called past the exchange."""
    query = "SELECT ledger_record_fill_v2('ALFA', %s, 'buy', 100, %s, 'order', 1, 1, %s, %s, 0.01, 1)"
    return _value(query, sequence, quantity, node.incarnation, node.name)
