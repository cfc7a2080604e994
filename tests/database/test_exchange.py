"""The exchange's rules one by one, each in the smallest market that shows it. test_matching.py tries all at once."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from tests.racing import Node, Stage, advance, guarded, order, orders, quoting, replace
from tests.support import Connection, Database


@pytest.fixture
def stage(database: Database) -> Stage:
    return Stage(database)


def resting(stage: Stage, order_id: str, side: str, quantity: int, price: str) -> None:
    answer = order(order_id, side, quantity, price=price, tif="GTC")(stage.admin)
    assert answer["status"] == "resting", answer


def filled(stage: Stage) -> dict[str, int]:
    """What has been filled of each order."""
    rows = stage.admin.execute("SELECT client_order_id, filled_quantity FROM exchange_order WHERE filled_quantity > 0")
    return {order_id: int(quantity) for order_id, quantity in rows}


# Priority and prices


@pytest.mark.parametrize(
    ("side", "taker", "worse", "better"), [("buy", "sell", "99", "99.5"), ("sell", "buy", "101", "100.5")]
)
def test_the_best_price_of_the_book_trades_first_and_at_its_own_price(
    stage: Stage, side: str, taker: str, worse: str, better: str
) -> None:
    resting(stage, "worse", side, 10, worse)
    resting(stage, "better", side, 10, better)
    answer = order("taker", taker, 10, price=worse)(stage.admin)
    assert filled(stage) == {"better": 10, "taker": 10}, f"the worse price went first: {filled(stage)}"
    traded = answer["average_price"]
    assert traded == better, f"not at the resting side's price, {better}: {traded}"


@pytest.mark.parametrize(("side", "taker"), [("buy", "sell"), ("sell", "buy")])
def test_of_two_orders_at_one_price_the_older_trades_first(stage: Stage, side: str, taker: str) -> None:
    resting(stage, "older", side, 10, "100")
    resting(stage, "younger", side, 10, "100")
    order("taker", taker, 10, price="100")(stage.admin)
    assert filled(stage) == {"older": 10, "taker": 10}, f"the younger went first: {filled(stage)}"


def test_a_quote_stands_behind_the_orders_that_rested_at_its_price_before_it(stage: Stage) -> None:
    node = stage.holder()
    resting(stage, "older", "sell", 10, "100.05")
    replace(node, "ALFA")(stage.admin)
    resting(stage, "younger", "sell", 10, "100.05")
    order("first", "buy", 10, price="100.05")(stage.admin)
    assert filled(stage) == {"older": 10, "first": 10}, f"the quote stepped in front: {filled(stage)}"
    order("second", "buy", 105, price="100.05")(stage.admin)
    assert filled(stage)["younger"] == 5, "the quote is no longer behind than that"
    assert stage.one("SELECT sum(quantity) FROM ledger_fill WHERE client_order_id = 'second'") == 100


def test_a_quote_that_crosses_trades_with_the_oldest_of_the_best_price_first(stage: Stage) -> None:
    node = stage.holder()
    resting(stage, "older", "buy", 60, "100.05")
    resting(stage, "younger", "buy", 60, "100.05")
    resting(stage, "best", "buy", 10, "100.10")
    assert replace(node, "ALFA")(stage.admin) == {"ALFA": "accepted"}
    assert filled(stage) == {"best": 10, "older": 60, "younger": 30}, f"traded out of turn: {filled(stage)}"


def test_a_quote_that_crosses_never_trades_more_than_its_size(stage: Stage) -> None:
    node = stage.holder()
    for number in range(3):
        resting(stage, f"buys-{number}", "buy", 100, "100.05")
    replace(node, "ALFA")(stage.admin)
    sold = stage.one("SELECT sum(quantity) FROM ledger_fill")
    assert sold == 100, f"sold {sold} of a quote for 100"
    assert stage.one("SELECT ask_price IS NULL FROM exchange_quote WHERE symbol = 'ALFA'")


def test_an_order_for_all_or_nothing_that_finds_too_little_trades_nothing(stage: Stage) -> None:
    stage.maker()
    resting(stage, "rests", "sell", 10, "100.04")
    answer = order("all", "buy", 111, price="101", tif="FOK")(stage.admin)
    assert (answer["status"], answer["reject_code"]) == ("rejected", "fok_unfillable"), answer
    assert filled(stage) == {}
    assert order("fits", "buy", 110, price="101", tif="FOK")(stage.admin)["status"] == "filled"


def test_the_same_order_again_takes_nothing_more_of_the_quote(stage: Stage) -> None:
    stage.maker()
    first = order("same", "buy", 30)(stage.admin)
    again = order("same", "buy", 30)(stage.admin)
    assert again == first
    assert stage.one("SELECT ask_quantity FROM exchange_quote WHERE symbol = 'ALFA'") == 70


# What a quote may say


@pytest.mark.parametrize(
    ("bid", "ask", "outcome"),
    [(("100", 100), ("100", 100), "crossed"), (("100", 100), ("100.01", 100), "accepted"),
     (("99.995", 100), ("100.01", 100), "off_tick"), (("100", 150), ("100.01", 150), "accepted"),
     (("100", 151), ("100.01", 100), "over_limit"), (("100", 100), ("100.01", 151), "over_limit")],
)  # fmt: skip
def test_a_quote_is_judged_by_its_prices_and_by_what_the_position_would_become(
    stage: Stage, bid: tuple[str, int], ask: tuple[str, int], outcome: str
) -> None:
    """Up to the limit, 150, and not one lot more; bid and ask at least a tick apart."""
    node = stage.holder()
    (answer,) = stage.column(
        "SELECT outcome FROM authority_replace_quotes_v3(%s, ARRAY['ALFA'], ARRAY[1], ARRAY[%s::numeric],"
        " ARRAY[%s::numeric], ARRAY[%s::numeric], ARRAY[%s::numeric], 60000)",
        node.incarnation, *bid, *ask,
    )  # fmt: skip
    assert answer == outcome, f"judged {answer}, not {outcome}"


# Many in one commit


def batch_of(*sizes: int) -> Any:
    return orders(
        *(
            {"client_order_id": f"batch-{number}", "symbol": "ALFA", "side": "buy", "type": "market",
             "time_in_force": "IOC", "price": None, "quantity": str(size)}
            for number, size in enumerate(sizes)
        )
    )  # fmt: skip


@guarded()
def test_a_batch_that_waits_for_an_order_takes_what_that_one_left(stage: Stage) -> None:
    stage.maker()
    outcome = stage.race(order("first", "buy", 90), batch_of(30, 30))
    assert outcome.waited
    assert not isinstance(outcome.second, psycopg.Error), f"the batch failed: {outcome.second!r}"
    assert [answer["filled_quantity"] for answer in outcome.second] == ["10", "0"], (
        f"sold twice what was left: {outcome.second!r}"
    )
    assert stage.one("SELECT sum(quantity) FROM ledger_fill") == 100


def fills(*sequences: int, node: Node) -> str:
    count = len(sequences)
    return (
        f"SELECT ledger_record_fills_v1(clock_timestamp(), array_fill('ALFA'::text, ARRAY[{count}]),"
        f" ARRAY{list(sequences)}::bigint[], array_fill(10::numeric, ARRAY[{count}]),"
        f" array_fill(100::numeric, ARRAY[{count}]), array_fill('o'::text, ARRAY[{count}]),"
        f" array_fill(1::bigint, ARRAY[{count}]), array_fill(1::bigint, ARRAY[{count}]),"
        f" array_fill('{node.incarnation}'::uuid, ARRAY[{count}]), array_fill('a'::text, ARRAY[{count}]),"
        f" array_fill(0.01::numeric, ARRAY[{count}]), array_fill(1::numeric, ARRAY[{count}]))"
    )


def test_fills_handed_in_twice_in_a_set_move_the_position_once(stage: Stage) -> None:
    node = stage.holder()
    assert stage.one(fills(1, 2, node=node)) == 2
    again = stage.one(fills(1, 2, node=node))
    assert again == 0, f"recorded {again} of them again"
    assert stage.one(fills(2, 3, node=node)) == 1
    position = stage.admin.execute("SELECT quantity, cash, version FROM ledger_position WHERE symbol = 'ALFA'")
    assert position.fetchone() == (30, -3000, 3)


def test_fills_in_a_set_that_would_leave_a_gap_are_refused(stage: Stage) -> None:
    node = stage.holder()
    with pytest.raises(psycopg.Error) as refusal:
        stage.one(fills(2, 3, node=node))
    assert refusal.value.sqlstate == "MM410"
    assert stage.one("SELECT version FROM ledger_position WHERE symbol = 'ALFA'") == 0


def test_a_position_that_is_reduced_keeps_its_average_cost(stage: Stage) -> None:
    """Ten bought at 100, five sold at 110: what is left still cost 100 each, and 50 are gained."""
    node = stage.holder()
    record = "SELECT ledger_record_fill_v2('ALFA', %s, %s, %s, %s, 'o', 1, 1, %s, 'a', 0.01, 1)"
    stage.one(record, 1, "buy", 100, 10, node.incarnation)
    stage.one(record, 2, "sell", 110, 5, node.incarnation)
    shown = "SELECT average_cost, realised_pnl FROM exchange_position_marked WHERE symbol = 'ALFA'"
    found = tuple(map(int, stage.admin.execute(shown).fetchone() or ()))
    assert found == (100, 50), f"average cost and realised P&L: {found}"


# The clock


def test_the_clock_takes_no_step_before_the_one_that_is_next(stage: Stage) -> None:
    stage.admin.execute("UPDATE exchange_clock SET due_at = due_at - interval '1 day'")
    for step in (0, 2, 3):
        shown = advance(step)(stage.admin)
        assert shown == 0, f"it took step {step} first"
    assert advance(1)(stage.admin) == 1


def test_the_clock_takes_no_step_before_it_is_due_whoever_asks(stage: Stage) -> None:
    stage.admin.execute("SELECT exchange_start_clock_v1(1, 60000)")
    assert advance(1)(stage.admin) == 1
    early = advance(2)(stage.admin)
    assert early == 1, "a minute early"


def test_steps_are_noted_as_done_one_after_another_and_never_before_they_are_taken(stage: Stage) -> None:
    stage.admin.execute("UPDATE exchange_clock SET step = 3")
    for step, noted in ((2, 0), (1, 1), (3, 1), (2, 2), (1, 2), (3, 3), (4, 3)):
        done = stage.one("SELECT exchange_orders_done_v1(%s)", step)
        assert done == noted, f"after step {step}: done to {done}, not {noted}"


@guarded()
def test_a_symbol_that_is_added_while_the_clock_advances_begins_with_the_step_after(stage: Stage) -> None:
    """Else that step's orders would be missed, and the step noted as done."""
    charlie = {
        "name": "CHARLIE", "tick_size": "0.01", "lot_size": "1", "seed_price": "100", "volatility_bps": 50,
        "half_spread_ticks": 5, "skew_ticks": 5, "quote_size": "100", "position_limit": "150", "orders_per_step": "1",
    }  # fmt: skip

    def add(connection: Connection) -> None:
        connection.execute("SELECT exchange_add_symbols_v1(%s::jsonb)", [json.dumps([charlie])])

    outcome = stage.race(advance(1), add)
    added = stage.one("SELECT added_step FROM exchange_symbol WHERE name = 'CHARLIE'")
    assert added == 1, f"added at step {added} while the clock was on its way to 1"
    assert outcome.waited


# The switch


def test_each_throw_of_the_switch_is_audited_also_one_that_changes_nothing(stage: Stage) -> None:
    for enabled in (False, False, True):
        quoting(enabled, "ALFA")(stage.admin)
    audited = stage.admin.execute("SELECT action, before, after FROM journal_audit ORDER BY id").fetchall()
    assert audited == [("quoting_off", True, False), ("quoting_off", False, False), ("quoting_on", False, True)], (
        audited
    )
