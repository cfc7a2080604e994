"""I6, I7, I8, I9, I15: two orders, two fills, two tasks at once, and each has one effect."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
from django.db import connections

from exchange import selectors
from exchange.orderflow import external_order_ids
from exchange.services import advance_clock, ensure_market, place_external_orders
from tests.racing import (
    DEADLINE_S,
    SUBMIT_UNLOCKED,
    Command,
    Mutation,
    Stage,
    advance,
    cancel,
    guarded,
    order,
    orders,
    record_fill,
    replace,
)
from tests.support import Connection, Database

UNLOCKED = Mutation("submitted-without-the-lock", (SUBMIT_UNLOCKED,), "already recorded with other contents")


def positions(stage: Stage) -> list[tuple[Any, ...]]:
    """(quantity, cash, version) of ALFA, and the same added up from its fills."""
    return stage.admin.execute(
        "SELECT quantity, cash, version FROM ledger_position WHERE symbol = 'ALFA' UNION ALL"
        " SELECT sum(CASE side WHEN 'buy' THEN quantity ELSE -quantity END),"
        "        sum(CASE side WHEN 'buy' THEN -quantity * price ELSE quantity * price END), count(*)"
        "   FROM ledger_fill WHERE symbol = 'ALFA'"
    ).fetchall()


@guarded(UNLOCKED)
def test_two_orders_at_once_on_one_symbol_are_two_fills_in_sequence(stage: Stage) -> None:
    """Without the exchange's lock the ledger itself refuses the second: two fills can't share a number."""
    stage.maker()
    outcome = stage.race(order("one", "buy", 30), order("two", "buy", 40))
    assert outcome.first["status"] == "filled"
    assert not isinstance(outcome.second, psycopg.Error), f"{outcome.second!r}"
    assert outcome.second["status"] == "filled"
    assert outcome.waited
    assert stage.column("SELECT sequence FROM ledger_fill ORDER BY sequence") == [1, 2]
    position, summed = positions(stage)
    assert position == summed
    assert position[0] == -70


@guarded(
    Mutation("submitted-without-the-lock", (SUBMIT_UNLOCKED,), "UniqueViolation"),
    Mutation(
        "known-ids-forgotten",
        (("exchange_submit_order_v1", "IF v_known_id IS NOT NULL THEN", "IF false THEN"),),
        "UniqueViolation",
    ),
)
def test_the_same_order_twice_at_once_has_one_effect_and_one_answer(stage: Stage) -> None:
    stage.maker()
    resting = order("same", "buy", 30, price="99.99", tif="GTC")
    outcome = stage.race(resting, resting)
    assert outcome.second == outcome.first, f"the second was told {outcome.second!r}"
    assert outcome.waited
    assert stage.column("SELECT status FROM exchange_order") == ["resting"]
    filled = stage.race(order("taker", "buy", 30), order("taker", "buy", 30))
    assert filled.first == filled.second
    assert stage.one("SELECT count(*) FROM ledger_fill") == 1


@guarded(
    Mutation(
        "ids-not-unique",
        (),
        "two orders under one id",
        ("ALTER TABLE exchange_order DROP CONSTRAINT exchange_order_client_order_id_key",),
    )
)
def test_one_id_at_once_on_two_symbols_is_one_order_and_the_other_is_refused(stage: Stage) -> None:
    """No lock is shared by two symbols: the unique key decides, and the retry hears of it."""
    stage.maker()

    def second(connection: Connection) -> Any:
        command = order("same", "buy", 30, symbol="BRAVO")
        try:
            return command(connection)
        except psycopg.errors.UniqueViolation:
            return command(connection)

    outcome = stage.race(order("same", "buy", 30), second)
    assert outcome.second == {"error": "duplicate_client_order_id"}, f"two orders under one id: {outcome.second!r}"
    assert outcome.waited
    assert stage.column("SELECT symbol FROM ledger_fill") == ["ALFA"]
    assert stage.one("SELECT quantity FROM ledger_position WHERE symbol = 'BRAVO'") == 0


@guarded(UNLOCKED)
def test_two_takers_of_the_last_lot_share_it_with_nobody(stage: Stage) -> None:
    stage.maker()
    order("first", "buy", 99)(stage.admin)
    outcome = stage.race(order("quick", "buy", 1), order("slow", "buy", 1))
    assert outcome.first["status"] == "filled"
    assert not isinstance(outcome.second, psycopg.Error), f"{outcome.second!r}"
    assert (outcome.second["status"], outcome.second["reject_code"]) == ("rejected", "no_liquidity")
    assert outcome.waited
    assert stage.one("SELECT sum(quantity) FROM ledger_fill") == 100


@guarded(
    Mutation(
        "judged-by-the-transactions-start",
        (("exchange_submit_order_v1", "q.valid_until > clock_timestamp()", "q.valid_until > now()"),),
        "filled against a lapsed quote",
    )
)
def test_an_order_that_waits_until_the_quote_has_lapsed_is_not_filled(stage: Stage) -> None:
    stage.maker()

    def lapse(holder: Connection) -> None:
        holder.execute("UPDATE exchange_quote SET valid_until = clock_timestamp() WHERE symbol = 'ALFA'")

    outcome = stage.race(order("in-flight", "buy", 1, price="50", tif="GTC"), order("late", "buy", 1), meanwhile=lapse)
    assert outcome.waited
    assert outcome.second["reject_code"] == "no_liquidity", f"filled against a lapsed quote: {outcome.second!r}"


@guarded(
    Mutation(
        "cancelled-without-the-lock",
        (("exchange_cancel_order_v1", "PERFORM 1 FROM exchange_quote WHERE symbol = v_symbol FOR UPDATE;", ""),),
        "traded with a cancelled order",
    )
)
def test_an_order_being_cancelled_trades_no_more(stage: Stage) -> None:
    stage.maker()
    order("resting", "buy", 10, price="99.99", tif="GTC")(stage.admin)
    outcome = stage.race(cancel("resting"), order("seller", "sell", 10, price="99.99"))
    assert outcome.first["status"] == "cancelled"
    assert outcome.second["status"] == "cancelled", f"traded with a cancelled order: {outcome.second!r}"
    assert outcome.waited
    assert stage.one("SELECT count(*) FROM exchange_trade") == 0


@guarded(Mutation("submitted-without-the-lock", (SUBMIT_UNLOCKED,), "i8_no_overfill"))
def test_a_quote_that_crosses_a_resting_order_and_a_taker_of_it_fill_it_once(stage: Stage) -> None:
    """The replace trades with the resting buy as it appears; the order that wants that buy too finds nothing left."""
    a = stage.holder()
    order("resting", "buy", 10, price="100.05", tif="GTC")(stage.admin)
    outcome = stage.race(replace(a, "ALFA"), order("seller", "sell", 10, price="100.05"))
    assert outcome.first == {"ALFA": "accepted"}
    assert not isinstance(outcome.second, psycopg.Error), f"{outcome.second!r}"
    assert outcome.second["status"] == "cancelled"
    assert outcome.waited
    (resting,) = stage.admin.execute("SELECT quantity, filled_quantity FROM exchange_order WHERE id = 1").fetchall()
    assert resting == (10, 10)
    assert stage.one("SELECT sum(quantity) FROM ledger_fill") == 10


VERSION_IGNORED = (("ledger_record_fill_v1", " AND version = p_sequence - 1", ""),)


@guarded(Mutation("recorded-out-of-sequence", VERSION_IGNORED, "UniqueViolation"))
def test_the_same_fill_recorded_twice_at_once_moves_the_position_once(stage: Stage) -> None:
    a = stage.holder()
    outcome = stage.race(record_fill(1, node=a), record_fill(1, node=a))
    assert (outcome.first, outcome.second) == ("recorded", "duplicate"), f"{outcome!r}"
    assert outcome.waited
    position, summed = positions(stage)
    assert position == summed == (10, -1000, 1)


@guarded(
    Mutation(
        "contents-not-compared",
        (
            (
                "ledger_record_fill_v1",
                "(v_known.side, v_known.price, v_known.quantity,",
                "(p_side, p_price, p_quantity,",
            ),
        ),
        "another fill under a known id",
    )
)
def test_another_fill_under_a_known_id_raises_and_moves_nothing(stage: Stage) -> None:
    a = stage.holder()
    outcome = stage.race(record_fill(1, node=a), record_fill(1, node=a, quantity=11))
    assert isinstance(outcome.second, psycopg.Error), f"took another fill under a known id: {outcome.second!r}"
    assert outcome.second.sqlstate == "MM409"
    assert positions(stage)[0] == (10, -1000, 1)


@guarded(Mutation("recorded-out-of-sequence", VERSION_IGNORED, "left a gap"))
def test_a_fill_that_would_leave_a_gap_raises(stage: Stage) -> None:
    a = stage.holder()
    outcome = stage.race(order("in-flight", "buy", 1, price="50", tif="GTC"), record_fill(2, node=a))
    assert isinstance(outcome.second, psycopg.Error), f"left a gap: {outcome.second!r}"
    assert outcome.second.sqlstate == "MM410"
    assert positions(stage)[0] == (0, 0, 0)


def batch() -> Command:
    """One step's orders of two symbols, as the task sends them; not in symbol order."""
    return orders(
        *(
            {
                "client_order_id": f"ext-{symbol}-1-{number}", "symbol": symbol, "side": side, "type": "market",
                "time_in_force": "IOC", "price": None, "quantity": "5", "step": 1,
            }
            for symbol in ("BRAVO", "ALFA")
            for number, side in enumerate(("buy", "sell"))
        )
    )  # fmt: skip


@guarded(
    Mutation(
        "without-any-lock",
        (SUBMIT_UNLOCKED, ("exchange_submit_orders_v1", "ORDER BY symbol FOR UPDATE;", "ORDER BY symbol;")),
        "the second was told (AssertFailure|UniqueViolation)",
    )
)
def test_a_steps_orders_placed_twice_at_once_exist_once(stage: Stage) -> None:
    stage.maker()
    outcome = stage.race(batch(), batch())
    assert outcome.second == outcome.first, f"the second was told {outcome.second!r}"
    assert outcome.waited
    assert stage.one("SELECT count(*) FROM exchange_order") == 4
    assert stage.one("SELECT count(*) FROM ledger_fill") == 4


@guarded(
    Mutation(
        "locked-backwards",
        (("exchange_submit_orders_v1", "ORDER BY symbol FOR UPDATE", "ORDER BY symbol DESC FOR UPDATE"),),
        "BRAVO was locked before ALFA",
    ),
    Mutation(
        "locked-as-they-come",
        (("exchange_submit_orders_v1", "ORDER BY symbol FOR UPDATE;", "ORDER BY symbol;"),),
        "BRAVO was locked before ALFA",
    ),
)
def test_a_batch_locks_its_symbols_in_order_whatever_its_own(stage: Stage) -> None:
    stage.maker()
    seen: list[bool] = []
    outcome = stage.race(
        order("in-flight", "buy", 1),
        batch(),
        meanwhile=lambda _: seen.append(stage.is_locked("exchange_quote", "BRAVO")),
    )
    assert outcome.waited
    assert seen == [False], "BRAVO was locked before ALFA"


@guarded(
    Mutation(
        "advanced-without-the-lock",
        (("exchange_advance_clock_v1", "FROM exchange_clock FOR UPDATE;", "FROM exchange_clock;"),),
        "the second (took the step|advanced it) again",
    )
)
def test_a_clock_advanced_by_two_at_once_takes_one_step(stage: Stage) -> None:
    seen: list[Any] = []

    def look(holder: Connection) -> None:
        seen.extend(holder.execute("SELECT step, due_at FROM exchange_clock").fetchall())

    outcome = stage.race(advance(1, "101"), advance(1, "102"), meanwhile=look)
    assert (outcome.first, outcome.second) == (1, 1)
    assert outcome.waited
    clock = stage.admin.execute("SELECT step, due_at FROM exchange_clock").fetchall()
    assert clock == seen, f"the second advanced it again: {seen} {clock}"
    price = stage.one("SELECT price FROM exchange_price WHERE symbol = 'ALFA'")
    assert price == 101, f"the second took the step again: {price}"


def test_external_orders_placed_by_two_workers_at_once_exist_exactly_once(database: Database) -> None:
    """The task itself, twice at the same moment and over several steps, as a redelivery or a second beat would."""
    steps = 6
    with database.django("admin"):
        ensure_market(symbols=3, seed=7, tick_ms=0)
        for _ in range(steps):
            advance_clock()
        reached = selectors.clock().step
        assert reached >= steps
        together = threading.Barrier(2, timeout=DEADLINE_S)

        def work() -> None:
            try:
                together.wait()
                place_external_orders()
            finally:
                connections.close_all()

        with ThreadPoolExecutor(2) as pool:
            for running in [pool.submit(work), pool.submit(work)]:
                running.result(DEADLINE_S)
        assert selectors.clock().orders_step == reached
        expected = sorted(
            order_id
            for spec in selectors.specs()
            for step in range(1, reached + 1)
            for order_id in external_order_ids(7, spec.name, spec.orders_per_step, step)
        )
    placed = database.connect("admin").execute("SELECT client_order_id FROM exchange_order").fetchall()
    assert sorted(row[0] for row in placed) == expected
