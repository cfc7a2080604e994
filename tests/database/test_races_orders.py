"""I6, I7, I8, I9, I15: two orders, two fills, two tasks at once, and each has one effect."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
from django.db import connections

from exchange import selectors
from exchange.orderflow import external_order_ids
from exchange.services import advance_clock, ensure_market, place_external_orders
from tests.racing import (
    DEADLINE_S,
    NO_SHORT_CUT,
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
    retried,
)
from tests.support import Connection, Database, eventually

GENERAL = Mutation("the general way", (NO_SHORT_CUT,), "")
UNLOCKED = Mutation(
    "submitted-without-the-lock", (NO_SHORT_CUT, SUBMIT_UNLOCKED), "already recorded with other contents"
)
LATE = "IF q.valid_until <= clock_timestamp() THEN"
LATE_IN_GENERAL = "IF v_recorded IS NOT NULL AND q.valid_until <= clock_timestamp() THEN"
SNAPSHOT = "(SELECT {column} FROM exchange_quote WHERE symbol = p_symbol)"


def stale(column: str, condition: str, shows: str) -> Mutation:
    """The short cut judges a column as the statement's snapshot has it, and not as it is under the lock."""
    stale_condition = condition.replace(column, SNAPSHOT.format(column=column), 1)
    return Mutation(f"stale-{column}", (("exchange_submit_order_v3", condition, stale_condition),), shows)


def positions(stage: Stage) -> list[tuple[Any, ...]]:
    """(quantity, cash, version) of ALFA, and the same added up from its fills."""
    return stage.admin.execute(
        "SELECT quantity, cash, version FROM ledger_position WHERE symbol = 'ALFA' UNION ALL"
        " SELECT sum(CASE side WHEN 'buy' THEN quantity ELSE -quantity END),"
        "        sum(CASE side WHEN 'buy' THEN -quantity * price ELSE quantity * price END), count(*)"
        "   FROM ledger_fill WHERE symbol = 'ALFA'"
    ).fetchall()


@guarded(UNLOCKED, also_with=(GENERAL,))
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
    Mutation(
        "known-ids-forgotten",
        (("exchange_match_order_v2", "IF FOUND THEN\n        IF (v_known", "IF false THEN\n        IF (v_known"),),
        "UniqueViolation",
    ),
    also_with=(GENERAL,),
)
def test_the_same_order_twice_at_once_has_one_effect_and_one_answer(stage: Stage) -> None:
    stage.maker()
    resting = order("same", "buy", 30, price="99.99", tif="GTC")
    outcome = stage.race(resting, retried(resting))
    assert outcome.second == outcome.first, f"the second was told {outcome.second!r}"
    assert outcome.waited
    assert stage.column("SELECT status FROM exchange_order") == ["resting"]
    filled = stage.race(order("taker", "buy", 30), retried(order("taker", "buy", 30)))
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
    second = retried(order("same", "buy", 30, symbol="BRAVO"))
    outcome = stage.race(order("same", "buy", 30), second)
    assert outcome.second == {"error": "duplicate_client_order_id"}, f"two orders under one id: {outcome.second!r}"
    assert outcome.waited
    assert stage.column("SELECT symbol FROM ledger_fill") == ["ALFA"]
    assert stage.one("SELECT quantity FROM ledger_position WHERE symbol = 'BRAVO'") == 0


@guarded(UNLOCKED, also_with=(GENERAL,))
def test_two_takers_of_the_last_lot_share_it_with_nobody(stage: Stage) -> None:
    stage.maker()
    order("first", "buy", 98)(stage.admin)
    outcome = stage.race(order("quick", "buy", 2), order("slow", "buy", 1))
    assert outcome.first["status"] == "filled"
    assert not isinstance(outcome.second, psycopg.Error), f"{outcome.second!r}"
    assert (outcome.second["status"], outcome.second["reject_code"]) == ("rejected", "no_liquidity")
    assert outcome.waited
    assert stage.one("SELECT sum(quantity) FROM ledger_fill") == 100


@guarded(stale("ask_quantity", "AND ask_quantity > p_quantity", "mm_amount"), also_with=(GENERAL,))
def test_two_takers_of_more_than_there_is_get_what_there_is(stage: Stage) -> None:
    stage.maker()
    order("first", "buy", 97)(stage.admin)
    outcome = stage.race(order("quick", "buy", 2), order("slow", "buy", 2))
    assert outcome.first["status"] == "filled"
    assert not isinstance(outcome.second, psycopg.Error), f"{outcome.second!r}"
    assert (outcome.second["status"], outcome.second["filled_quantity"]) == ("cancelled", "1")
    assert outcome.waited
    assert stage.one("SELECT sum(quantity) FROM ledger_fill") == 100


@guarded(
    Mutation(
        "looked-at-the-book-before-the-lock",
        (
            (
                "exchange_submit_order_v3",
                "(book_ask > ask_price) IS NOT FALSE",
                "NOT EXISTS (SELECT FROM exchange_order o WHERE o.symbol = p_symbol AND o.side = 'sell'"
                " AND o.status = 'resting' AND o.price <= ask_price)",
            ),
        ),
        "passed over the better price",
    ),
    also_with=(GENERAL,),
)
def test_an_order_that_waits_for_one_that_rests_before_the_quote_trades_with_that_one_first(stage: Stage) -> None:
    stage.maker()
    outcome = stage.race(order("better", "sell", 10, price="100.01", tif="GTC"), order("taker", "buy", 10))
    assert outcome.waited
    assert outcome.second["average_price"] == "100.01", f"passed over the better price: {outcome.second!r}"
    assert stage.one("SELECT count(*) FROM ledger_fill") == 0


@guarded(
    Mutation(
        "judged-by-the-transactions-start",
        (
            NO_SHORT_CUT,
            ("exchange_match_order_v2", "q.valid_until > clock_timestamp()", "q.valid_until > now()"),
            ("exchange_match_order_v2", LATE_IN_GENERAL, "IF false THEN"),
        ),
        "filled against a lapsed quote",
    ),
    also_with=(GENERAL,),
)
def test_an_order_that_waits_until_the_quote_has_lapsed_is_not_filled(stage: Stage) -> None:
    stage.maker()

    def lapse(holder: Connection) -> None:
        holder.execute("UPDATE exchange_quote SET valid_until = clock_timestamp() WHERE symbol = 'ALFA'")

    outcome = stage.race(order("in-flight", "buy", 1, price="50", tif="GTC"), order("late", "buy", 1), meanwhile=lapse)
    assert outcome.waited
    assert outcome.second["reject_code"] == "no_liquidity", f"filled against a lapsed quote: {outcome.second!r}"


def lapse_soon(stage: Stage, *symbols: str) -> Callable[[Connection], None]:
    """Quotes these symbols for a short time, and the others for long; answers with what waits until that is over."""
    node = stage.maker()
    assert set(replace(node, *symbols, validity_ms=3_000)(stage.admin).values()) == {"accepted"}

    def lapsed(_: Connection) -> None:
        passed = "SELECT max(valid_until) < clock_timestamp() FROM exchange_quote WHERE symbol = ANY (%s)"
        eventually(lambda: stage.one(passed, list(symbols)), DEADLINE_S, "the quotes have lapsed")

    return lapsed


def hold(table: str, symbol: str) -> Command:
    """Lock a row, and change nothing in it: nothing makes the server judge it again, only the clock moves on."""
    return lambda connection: connection.execute(
        f"SELECT 1 FROM {table} WHERE symbol = '{symbol}' FOR UPDATE".encode()
    ).fetchone()


TOO_LATE = Mutation(
    "the clock asked once", (("exchange_submit_order_v3", LATE, "IF false THEN"),), "filled against a lapsed quote"
)


@guarded(TOO_LATE, also_with=(GENERAL,))
def test_an_order_that_waits_for_a_lock_whose_holder_changes_nothing_is_not_filled_late(stage: Stage) -> None:
    lapsed = lapse_soon(stage, "ALFA")
    outcome = stage.race(hold("exchange_quote", "ALFA"), retried(order("late", "buy", 1)), meanwhile=lapsed)
    assert outcome.waited
    assert outcome.second["reject_code"] == "no_liquidity", f"filled against a lapsed quote: {outcome.second!r}"
    assert stage.one("SELECT ask_quantity FROM exchange_quote WHERE symbol = 'ALFA'") == 100
    assert stage.one("SELECT sequence FROM exchange_quote WHERE symbol = 'ALFA'") == 0


@guarded(
    TOO_LATE,
    Mutation(
        "the clock asked once, the general way",
        (NO_SHORT_CUT, ("exchange_match_order_v2", LATE_IN_GENERAL, "IF false THEN")),
        "filled against a lapsed quote",
    ),
    also_with=(GENERAL,),
)
def test_an_order_that_waits_for_the_position_until_the_quote_has_lapsed_is_not_filled(stage: Stage) -> None:
    """The quote was live when it was matched: valid at its commit is what a fill has to be."""
    lapsed = lapse_soon(stage, "ALFA")
    outcome = stage.race(hold("ledger_position", "ALFA"), retried(order("late", "buy", 1)), meanwhile=lapsed)
    assert outcome.waited
    assert outcome.second["reject_code"] == "no_liquidity", f"filled against a lapsed quote: {outcome.second!r}"
    assert positions(stage)[0] == (0, 0, 0)


@guarded(
    Mutation(
        "the clock not asked again",
        (("exchange_submit_orders_v4", "AND valid_until <= clock_timestamp()) THEN", "AND false) THEN"),),
        "filled against a lapsed quote",
    ),
)
def test_a_batch_whose_last_order_waits_until_a_quote_has_lapsed_fills_nothing_against_it(stage: Stage) -> None:
    """Both trade with what rests first, so one after another: ALFA's is done while BRAVO's waits for its position."""
    lapsed = lapse_soon(stage, "ALFA")
    items = []
    for symbol in ("ALFA", "BRAVO"):
        order(f"resting-{symbol}", "sell", 1, symbol=symbol, price="100.01", tif="GTC")(stage.admin)
        items.append(
            {
                "client_order_id": f"late-{symbol}", "symbol": symbol, "side": "buy", "type": "market",
                "time_in_force": "IOC", "price": None, "quantity": "5",
            }
        )  # fmt: skip
    outcome = stage.race(hold("ledger_position", "BRAVO"), retried(orders(*items)), meanwhile=lapsed)
    assert outcome.waited
    filled = [answer["filled_quantity"] for answer in outcome.second]
    assert filled == ["1", "5"], f"filled against a lapsed quote: {outcome.second!r}"
    assert stage.column("SELECT symbol FROM ledger_fill") == ["BRAVO"]


@guarded(
    Mutation(
        "the clock not asked again",
        (("exchange_submit_orders_v4", "AND valid_until <= clock_timestamp()) THEN", "AND false) THEN"),),
        "filled against a lapsed quote",
    ),
)
def test_a_batch_in_sets_that_waits_until_the_quotes_have_lapsed_fills_nothing(stage: Stage) -> None:
    lapsed = lapse_soon(stage, "ALFA", "BRAVO")
    outcome = stage.race(hold("ledger_position", "BRAVO"), retried(batch()), meanwhile=lapsed)
    assert outcome.waited
    rejected = [answer["reject_code"] for answer in outcome.second]
    assert rejected == ["no_liquidity"] * 4, f"filled against a lapsed quote: {outcome.second!r}"


@guarded(
    Mutation(
        "cancelled-without-the-lock",
        (
            ("exchange_cancel_order_v2", "PERFORM 1 FROM exchange_quote WHERE symbol = v_symbol FOR UPDATE;", ""),
            ("exchange_cancel_order_v2", "PERFORM exchange_note_book_v1(v_symbol);", ""),
        ),
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


VERSION_IGNORED = (("ledger_record_fill_v2", " AND version = p_sequence - 1", ""),)


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
                "ledger_record_fill_v2",
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
        (SUBMIT_UNLOCKED, ("exchange_submit_orders_v4", "ORDER BY symbol FOR UPDATE) l;", "ORDER BY symbol) l;")),
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
        (("exchange_submit_orders_v4", "ORDER BY symbol FOR UPDATE", "ORDER BY symbol DESC FOR UPDATE"),),
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
