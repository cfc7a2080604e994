"""The keeper of the quote versions' partitions against those who read and write them, on real connections."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

import mmproject.verify
from mmproject.verify import verify
from tests.market import HandMarket
from tests.racing import DEADLINE_S, Mutation, Node, Stage, guarded, order, replace
from tests.retention import close_slot, dropped, end_all_partitions, keep, keep_all, keepers_clock, one_long_slot
from tests.support import Connection, Database, eventually

PATIENCE = ("exchange_keep_partitions_v1", "SET lock_timeout TO '50ms'", "SET lock_timeout TO '0'")
ASKS_ANYWAY = ("exchange_keep_partitions_v1", "AND l.granted AND", "AND false AND")


def with_a_past(stage: Stage) -> tuple[Node, str]:
    """A market whose next step is to drop a partition: its holder, and the partition."""
    one_long_slot(stage.admin)
    node = stage.maker()
    past = close_slot(stage.admin)
    replace(node, "ALFA", "BRAVO")(stage.admin)
    keepers_clock(stage.admin, "2 hours")
    return node, past


def meanwhile(stage: Stage, blocker: Connection, check: Callable[[], None]) -> tuple[str, str] | None:
    """Let the keeper take a step; check something once it is through or waits for the blocker; return its answer."""
    keeper = stage.database.connect("exchange")
    with ThreadPoolExecutor(1) as pool:
        step = pool.submit(keep, keeper)

        def waits() -> bool:
            return blocker.info.backend_pid in stage.one("SELECT pg_blocking_pids(%s)", keeper.info.backend_pid)

        eventually(lambda: step.done() or waits(), DEADLINE_S, "the keeper is through or waits")
        try:
            check()
        finally:
            blocker.execute("ROLLBACK")
        return step.result(DEADLINE_S)


def reader(stage: Stage) -> Connection:
    """Who reads for long, as verify does."""
    connection = stage.database.connect("console")
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    connection.execute("SELECT count(*) FROM exchange_quoteversion")
    return connection


def quote_without_waiting(stage: Stage, node: Node) -> None:
    connection = stage.database.connect("admin")
    connection.execute("SET lock_timeout = '100ms'")
    assert replace(node, "ALFA", "BRAVO")(connection) == {"ALFA": "accepted", "BRAVO": "accepted"}


@guarded(Mutation("asks-for-what-a-reader-holds", (PATIENCE, ASKS_ANYWAY), "lock timeout"))
def test_a_long_reader_delays_a_drop_and_no_quote(stage: Stage) -> None:
    node, past = with_a_past(stage)
    answer = meanwhile(stage, reader(stage), lambda: quote_without_waiting(stage, node))
    assert answer == ("busy", past)
    assert keep(stage.admin) == ("drop", past)


@guarded(Mutation("asks-for-what-a-reader-holds", (PATIENCE, ASKS_ANYWAY), "lock timeout"))
def test_a_long_reader_delays_a_new_partition_and_no_quote_that_falls_into_the_default(stage: Stage) -> None:
    end_all_partitions(stage.admin)
    node = stage.maker()
    answer = meanwhile(stage, reader(stage), lambda: quote_without_waiting(stage, node))
    assert answer is not None
    assert answer[0] == "busy"
    assert keep(stage.admin) == ("make", answer[1])


@guarded(Mutation("waits-for-ever", (PATIENCE,), "statement timeout"))
def test_a_quote_in_flight_is_not_waited_for_longer_than_the_keepers_patience(stage: Stage) -> None:
    node, past = with_a_past(stage)
    quoting = stage.database.connect("admin")
    quoting.execute("BEGIN")
    replace(node, "ALFA")(quoting)
    stage.admin.execute("SET statement_timeout = '2s'")
    assert keep(stage.admin) == ("busy", past)
    quoting.execute("COMMIT")
    assert keep(stage.admin) == ("drop", past)


def test_a_new_partition_waits_for_no_quote_in_flight(database: Database) -> None:
    """Else it would come later the busier the market is."""
    stage = Stage(database)
    end_all_partitions(stage.admin)
    keep_all(stage.admin)
    node = stage.maker()
    quoting = database.connect("admin")
    quoting.execute("BEGIN")
    replace(node, "ALFA")(quoting)
    keepers_clock(stage.admin, "5 minutes")
    step = keep(stage.admin)
    assert step is not None
    assert step[0] == "make"
    quoting.execute("COMMIT")


def test_two_keepers_at_once_drop_a_partition_once(database: Database) -> None:
    stage = Stage(database)
    _, past = with_a_past(stage)
    first, second = database.connect("exchange"), database.connect("exchange")
    first.execute("BEGIN")
    assert keep(first) == ("drop", past)
    answer = keep(second)
    assert answer is not None
    assert answer[0] == "busy"
    first.execute("COMMIT")
    assert past not in dropped(keep_all(second))


def test_a_keeper_that_dies_half_way_has_done_nothing(database: Database) -> None:
    stage = Stage(database)
    _, past = with_a_past(stage)
    keeper = database.connect("exchange")
    keeper.execute("BEGIN")
    assert keep(keeper) == ("drop", past)
    stage.admin.execute("SELECT pg_terminate_backend(%s, 5000)", [keeper.info.backend_pid])
    assert stage.one(f"SELECT count(*) FROM {past}") > 0
    assert stage.one("SELECT count(*) FROM exchange_retention") == 0
    assert keep(stage.admin) == ("drop", past)
    assert stage.column("SELECT version FROM exchange_retention ORDER BY symbol") == [1, 1]


@pytest.mark.parametrize("held", [True, False], ids=["holds", "lost: verify-takes-no-lock"])
def test_nothing_is_dropped_while_verify_reads(database: Database, held: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that is dropped is gone for every snapshot; what verify knows of the drop is of its own snapshot."""
    market = HandMarket(database)
    one_long_slot(market.admin)
    market.join("node-1")
    market.rebalance("node-1 joined")
    market.tick(3)
    past = close_slot(market.admin)
    market.tick()
    keepers_clock(market.admin, "2 hours")
    answers = []
    if not held:
        monkeypatch.setattr(mmproject.verify, "_NOTHING_IS_DROPPED", "SET LOCAL jit = off")

    report = verify(database.connect("console"), progress=lambda _text: answers.append(keep(market.worker)))

    if not held:
        assert ("drop", past) in answers
        assert "I4 fenced-quotes" in report.broken
        return
    assert report.ok
    assert {answer[0] for answer in answers if answer} == {"busy"}
    assert past in dropped(keep_all(market.worker))


def test_a_market_goes_on_while_its_partitions_come_and_go(database: Database) -> None:
    """Partitions of a second, kept as fast as they can be: no quote and no order fails, and every invariant holds."""
    stage = Stage(database)
    Mutation("seconds", (
        ("exchange_quote_partition_due_v1", "CONSTANT integer := 10;", "CONSTANT integer := 1;"),
        ("exchange_keep_partitions_v1", "NOT BETWEEN 60000", "NOT BETWEEN 1000"),
    ), "").apply(stage.admin)  # fmt: skip
    end_all_partitions(stage.admin)
    keep_all(stage.admin, 2000)
    node = stage.maker()
    both = {"ALFA": "accepted", "BRAVO": "accepted"}
    over = threading.Event()

    def quote() -> int:
        connection, quotes = database.connect("admin"), 0
        while not over.is_set():
            assert replace(node, "ALFA", "BRAVO", quantity=10)(connection) == both
            quotes += 1
        return quotes

    def trade(client: str) -> int:
        connection, orders = database.connect("admin"), 0
        while not over.is_set():
            side = "sell" if orders % 2 else "buy"  # so that the position stays where it is
            assert order(f"{client}-{orders}", side, 1)(connection)["status"] in ("filled", "rejected")
            orders += 1
        return orders

    drops: list[str] = []

    def kept() -> bool:
        step = keep(stage.admin, 2000)
        if step is not None and step[0] == "drop":
            drops.append(step[1])
        return len(drops) >= 4

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(quote), pool.submit(quote), pool.submit(trade, "one"), pool.submit(trade, "two")]
        try:
            eventually(lambda: kept() or any(work.done() for work in working), 60, "partitions are dropped")
        finally:
            over.set()
        assert all(work.result(DEADLINE_S) > 0 for work in working)

    report = verify(database.connect("console"))
    assert report.ok, [verdict.as_json() for verdict in report.verdicts if not verdict.ok]
    with pytest.raises(psycopg.errors.UndefinedTable):
        stage.admin.execute(f"SELECT FROM {drops[0]}".encode())
