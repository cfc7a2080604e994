"""Histories of orders and fills: right ones are passed, and each planted violation is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from chaos.history.facts import Facts, Fill, Note, OrderRow, Tenure, Version
from chaos.history.operations import History, Operation
from chaos.history.transactions import check_transactions
from tests.bench.history import made_up

D = Decimal


def fill(sequence: int, xid: int, quote: int, *, symbol: str = "X", order: str | None = None) -> Fill:
    """The sequence-th fill of one lot, bought at 100."""
    id_, after = f"{symbol}-{sequence:012}", D(sequence)
    return Fill(symbol, sequence, id_, D(1), D(100), order or f"o{xid}", quote, after, -100 * after, xid)


def quote(number: int, xid: int, after: int, *, symbol: str = "X", epoch: int = 1) -> Version:
    return Version(symbol, number, epoch, "a", after, None, D(9), D(9), xid)


def filled(one: Fill, *others: Fill) -> OrderRow:
    """The order of these fills, filled at once."""
    fills = tuple((each.fill_id, "100", "1") for each in (one, *others))
    total = D(len(fills))
    return OrderRow(one.client_order_id, one.symbol, "filled", total, total, fills, None, None)


def tables(*rows: Fill | Version | Tenure) -> Facts:
    facts = Facts()
    for row in rows:
        match row:
            case Fill():
                facts.fills.append(row)
            case Version():
                facts.versions.append(row)
            case Tenure():
                facts.tenures.append(row)
    by_order: dict[str, list[Fill]] = {}
    for one in facts.fills:
        by_order.setdefault(one.client_order_id, []).append(one)
    facts.orders = {id_: filled(*fills) for id_, fills in by_order.items()}
    return facts


def answer(row: OrderRow, **changed: Any) -> dict[str, Any]:
    fills = [{"fill_id": id_, "price": price, "quantity": quantity} for id_, price, quantity in row.fills]
    told = {"client_order_id": row.client_order_id, "status": row.status, "filled_quantity": str(row.filled_quantity)}
    return {**told, "fills": fills, "reject_code": row.reject_code, **changed}


def http(op: str, at: tuple[int, int | None], given: dict[str, Any], status: int, body: Any = None) -> Operation:
    output = None if at[1] is None else {"status": status, "answer": body}
    return Operation("client", op, at[0], at[1], given, output)


def sent(at: tuple[int, int | None], row: OrderRow, status: int = 200, **changed: Any) -> Operation:
    return http("order", at, {"client_order_id": row.client_order_id}, status, answer(row, **changed))


def positions(at: tuple[int, int], **versions: int) -> Operation:
    items = [{"symbol": symbol, "version": version} for symbol, version in versions.items()]
    return http("positions", at, {}, 200, {"items": items, "next": None})


def fills_read(at: tuple[int, int], *sequences: int) -> Operation:
    items = [{"fill_id": f"X-{sequence:012}"} for sequence in sequences]
    return http("fills", at, {"symbol": "X", "after": None}, 200, {"items": items, "next": None})


def told(facts: Facts, *operations: Operation) -> list[str]:
    found = check_transactions(History(sorted(operations, key=lambda one: one.invoked)), facts)
    assert found.ok == (not found.violations)
    return [" | ".join((one.what, *one.lines)) for one in found.violations]


@pytest.mark.parametrize("seed", range(5))
def test_what_a_sequential_market_did_is_strictly_serializable(seed: int) -> None:
    history, facts = made_up(3000, seed)
    found = check_transactions(history, facts)
    assert found.ok, found.violations[0]
    assert found.counts["fills"] > 500
    assert found.counts["answers"] > 1000
    assert found.counts["reads"] > 200
    assert len(facts.trades) > 5


def swap(facts: Facts, place: int, **changed: Any) -> None:
    facts.fills[place] = facts.fills[place]._replace(**changed)


def test_a_lost_update_of_a_position_is_found() -> None:
    """Two fills that both went on from the same position."""
    history, facts = made_up(2000, 1)
    before, lost = facts.fills[4], facts.fills[5]
    assert before.symbol == lost.symbol
    behind = facts.fills[3]
    swap(facts, 5, quantity_after=behind.quantity_after + lost.signed, cash_after=behind.cash_after - 100 * lost.signed)
    found = check_transactions(history, facts)
    assert "an update was lost" in found.violations[0].what


def test_a_gap_in_the_fills_is_found() -> None:
    history, facts = made_up(2000, 1)
    del facts.fills[5]
    assert [one for one in check_transactions(history, facts).violations if "there is a gap" in one.what]


def test_two_transactions_that_wrote_one_version_are_found() -> None:
    facts = tables(quote(1, 10, 0), quote(1, 11, 0))
    assert "version 1 was written twice" in told(facts)[0]


def test_a_write_skew_is_found() -> None:
    """A quote made after fill 5, and fill 6 against the quote before: each read what the other then wrote."""
    right = [fill(n, 20 + n, 1) for n in range(1, 6)]
    facts = tables(quote(1, 10, 0), *right, fill(6, 31, 1), quote(2, 30, 5))
    found = told(facts)
    assert len(found) == 1
    assert "position of X: it read a version before the next wrote another" in found[0]
    assert "quote of X: it read a version before the next wrote another" in found[0]
    assert told(tables(quote(1, 10, 0), *right, fill(6, 31, 2), quote(2, 30, 5))) == []


def test_a_batch_that_saw_half_of_another_is_found() -> None:
    """Both fills came in one transaction; the quotes of another saw one of them."""
    both = (fill(1, 20, 1, order="o"), fill(1, 20, 1, symbol="Y", order="p"))
    old = (quote(1, 10, 0), quote(1, 10, 0, symbol="Y"))
    assert told(tables(*both, *old, quote(2, 30, 1), quote(2, 30, 1, symbol="Y"))) == []
    assert "no order agrees" in told(tables(*both, *old, quote(2, 30, 1), quote(2, 30, 0, symbol="Y")))[0]


def test_readers_that_disagree_on_the_order_of_two_fills_are_found() -> None:
    facts = tables(quote(1, 10, 0), quote(1, 11, 0, symbol="Y"), fill(1, 20, 1), fill(1, 21, 1, symbol="Y"))
    first, second = positions((100, 200), X=1, Y=0), positions((100, 200), X=0, Y=1)
    assert told(facts, first) == []
    assert told(facts, second) == []
    assert "no order agrees" in told(facts, first, second)[0]


def test_a_quote_of_an_epoch_committed_after_the_next_ones_is_found() -> None:
    grants = (Tenure("X", 1, "a", "n", "expired", 1), Tenure("X", 2, "b", "n", None, 2))
    assert told(tables(*grants, quote(1, 10, 0), quote(2, 11, 0, epoch=2))) == []
    found = told(tables(*grants, quote(1, 10, 0, epoch=2), quote(2, 11, 0)))
    assert "fence of X" in found[0]


def test_a_read_of_fills_without_an_acknowledged_one_is_found() -> None:
    facts = tables(quote(1, 10, 0), fill(1, 20, 1), fill(2, 21, 1))
    acknowledged = sent((100, 200), facts.orders["o21"])
    assert told(facts, acknowledged, fills_read((300, 400), 1, 2)) == []
    assert told(facts, acknowledged, fills_read((150, 400), 1)) == [], "it may have been read before"
    found = told(facts, acknowledged, fills_read((300, 400), 1))
    assert "had returned before" in found[0]
    assert "was shown after number 0" in told(facts, fills_read((300, 400), 2))[0]
    assert "no order agrees" in told(facts, acknowledged, positions((300, 400), X=1))[0]
    assert "no order agrees" in told(facts, sent((300, 400), facts.orders["o21"]), positions((100, 200), X=2))[0]


def test_reads_near_a_crash_count_for_nothing() -> None:
    facts = tables(quote(1, 10, 0), fill(1, 20, 1))
    lost = http("database_lost", (450, 500), {}, 200)
    assert told(facts, sent((100, 200), facts.orders["o20"]), fills_read((300, 400)), lost) == []


def test_a_duplicate_that_is_answered_otherwise_is_found() -> None:
    facts = tables(quote(1, 10, 0), fill(1, 20, 1))
    row = facts.orders["o20"]
    assert told(facts, sent((100, 200), row), sent((300, 400), row)) == []
    found = told(facts, sent((100, 200), row), sent((300, 400), row, status=200, filled_quantity="2"))
    assert "answered otherwise than at first" in found[0]


def test_a_resting_order_is_answered_as_it_was_at_first_and_shown_as_it_is() -> None:
    later = fill(1, 21, 1, order="o")
    facts = tables(quote(1, 10, 0), later)
    at_first = {**answer(filled(later)), "status": "resting", "filled_quantity": "0", "fills": []}
    facts.orders["o"] = facts.orders["o"]._replace(first=at_first)
    facts.notes.append(Note("o", False, 20))
    now = answer(facts.orders["o"])
    asked = {"client_order_id": "o"}
    order = http("order", (100, 200), asked, 200, at_first)
    assert told(facts, order, http("order", (500, 600), asked, 200, at_first)) == []
    assert "answered otherwise" in told(facts, order, http("order", (500, 600), asked, 200, now))[0]
    assert told(facts, order, http("order_state", (300, 400), asked, 200, now)) == []
    stale = (http("order_state", (300, 400), asked, 200, now), http("order_state", (500, 600), asked, 200, at_first))
    assert "order of o" in told(facts, order, *stale)[0]


def test_an_acknowledged_order_that_is_not_there_is_found() -> None:
    facts = tables(quote(1, 10, 0), fill(1, 20, 1))
    row = facts.orders["o20"]._replace(client_order_id="gone")
    assert told(facts, sent((100, 200), row)) == [
        "order gone was acknowledged and is not there | client order [0.000000 .. 0.000000]"
    ]
    assert told(facts, sent((100, None), row)) == [], "of unknown outcome"
    assert told(facts, sent((100, 200), row, status=422)) == []


def test_an_order_that_was_refused_and_is_there_is_found() -> None:
    facts = tables(quote(1, 10, 0), fill(1, 20, 1))
    row = facts.orders["o20"]
    refused = http("order", (100, 200), {"client_order_id": "o20"}, 422, {"code": "off_tick"})
    assert "was refused each time and is there" in told(facts, refused)[0]
    assert told(facts, refused, sent((50, None), row)) == []


def test_an_order_that_took_effect_before_it_was_sent_is_found() -> None:
    """Its fill was seen by a read that had returned before."""
    facts = tables(quote(1, 10, 0), fill(1, 20, 1))
    row = facts.orders["o20"]
    unknown = sent((300, None), row)
    assert told(facts, unknown) == []
    assert "had returned before" in told(facts, unknown, fills_read((100, 200), 1))[0]
    assert told(facts, sent((50, None), row), unknown, fills_read((100, 200), 1)) == []


def cancelled(executed: tuple[Fill, ...] = ()) -> Facts:
    """An order that rested, was executed by these fills, and was then cancelled in transaction 40."""
    facts = tables(quote(1, 10, 0), *executed)
    fills = tuple((one.fill_id, "100", "1") for one in executed)
    first: dict[str, Any] = {
        "client_order_id": "o",
        "status": "resting",
        "filled_quantity": "0",
        "fills": [],
        "reject_code": None,
    }
    facts.orders["o"] = OrderRow("o", "X", "cancelled", D(5), D(len(fills)), fills, None, first)
    facts.notes += [Note("o", False, 20), Note("o", True, 40)]
    return facts


def test_a_cancelled_order_that_went_on_is_found() -> None:
    asked = {"client_order_id": "o"}
    facts = cancelled((fill(1, 30, 1, order="o"),))
    state = answer(facts.orders["o"])
    assert told(facts, http("cancel", (300, 400), asked, 200, state)) == []
    before = {**state, "fills": [], "filled_quantity": "0"}
    assert "was cancelled, and went on" in told(facts, http("cancel", (300, 400), asked, 200, before))[0]


def test_a_cancel_before_it_was_asked_for_is_found() -> None:
    asked = {"client_order_id": "o"}
    facts = cancelled()
    state = answer(facts.orders["o"])
    seen = http("order_state", (100, 200), asked, 200, state)
    assert "order of o" in told(facts, seen, http("cancel", (300, 400), asked, 200, state))[0]
    assert told(facts, seen, http("cancel", (150, 400), asked, 200, state)) == []


def test_a_cancel_that_found_nothing_says_nothing_of_the_one_that_did() -> None:
    facts = cancelled()
    asked = {"client_order_id": "o"}
    order = http("order", (100, 200), asked, 200, facts.orders["o"].first)
    assert told(facts, http("cancel", (10, 20), asked, 404), order, http("cancel", (300, None), asked, 200)) == []


def test_an_order_that_was_not_found_after_its_acknowledgement_is_found() -> None:
    facts = tables(quote(1, 10, 0), fill(1, 20, 1))
    order = sent((100, 200), facts.orders["o20"])
    asked = {"client_order_id": "o20"}
    assert "order of o20" in told(facts, order, http("order_state", (300, 400), asked, 404))[0]
    assert told(facts, order, http("order_state", (150, 400), asked, 404)) == []
    assert "was seen and is not there" in told(facts, http("cancel", (1, 2), {"client_order_id": "no"}, 409))[0]


@pytest.mark.parametrize(
    ("planted", "why"),
    [
        (lambda facts: facts.fills.append(fill(2, 21, 1, order="o20")), "is not among the order's"),
        (lambda facts: facts.fills.clear(), "is nowhere but in the order"),
        (lambda facts: facts.orders.update(o20=facts.orders["o20"]._replace(filled_quantity=D(2))), "and says 2"),
        (lambda facts: facts.orders.update(o20=facts.orders["o20"]._replace(quantity=D("0.5"))), "for 0.5"),
        (lambda facts: facts.versions.append(quote(1, 10, 0)._replace(bid_quantity=D("0.5"))), "traded 1 of a bid"),
        (
            lambda facts: facts.orders.update(z=facts.orders["o20"]._replace(client_order_id="z", fills=())),
            "left a trace",
        ),
    ],
    ids=["fill twice", "no fill", "wrong sum", "overfilled", "quote overfilled", "no transaction"],
)
def test_what_does_not_add_up_is_found(planted: Callable[[Facts], None], why: str) -> None:
    facts = tables(quote(1, 10, 0), fill(1, 20, 1))
    assert told(facts) == []
    planted(facts)
    assert [one for one in told(facts) if why in one]


def test_a_statement_that_committed_in_parts_is_found() -> None:
    facts = tables(quote(1, 10, 0), quote(1, 11, 0, symbol="Y"))
    given = {"incarnation": "a", "epochs": {"X": 1, "Y": 1}}
    output = {"outcomes": [["X", "accepted", 1], ["Y", "accepted", 1]]}
    assert "committed in parts" in told(facts, Operation("n", "replace", 1, 2, given, output))[0]


def test_what_was_seen_of_a_quote_orders_its_fills_in_time() -> None:
    """A node was told of version 2 before the order was sent that traded with version 1."""
    facts = tables(quote(1, 10, 0), fill(1, 20, 1), quote(2, 11, 1))
    given, output = {"incarnation": "a", "epochs": {"X": 1}}, {"outcomes": [["X", "accepted", 2]]}
    replaced = Operation("n", "replace", 100, 200, given, output)
    assert told(facts, replaced, sent((150, 400), facts.orders["o20"])) == []
    assert "had returned before" in told(facts, replaced, sent((300, 400), facts.orders["o20"]))[0]
    assert told(facts, replace(replaced, returned=None, output=None), sent((300, 400), facts.orders["o20"])) == []
