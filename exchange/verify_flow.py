"""What `verify` checks of orders with more than SQL: what clients were told (I10), and the generated flow (I15)."""

# ruff: noqa: S608 - queries are put together from constants of this project only
from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from itertools import islice
from pathlib import Path
from typing import Final

from exchange.catalogue import SymbolSpec
from exchange.orderflow import ExternalOrder, external_order_ids, external_orders
from exchange.selectors import as_made
from mmproject.errors import UsageError
from mmproject.invariants import Check, Found, Row, Snapshot

ACKNOWLEDGED_PER_QUERY: Final = 2_000
# Steps whose orders are computed again in full: enough to see a generator that has changed or a seed that has not been
# kept, without computing for minutes on a market that has run for days.
STEPS_COMPARED: Final = 500

# What may have become of an order since its owner was told.
_LATER: Final = {
    "filled": {"filled"},
    "rejected": {"rejected"},
    "cancelled": {"cancelled"},
    "partially_filled": {"partially_filled", "filled", "cancelled"},
    "resting": {"resting", "partially_filled", "filled", "cancelled"},
}

_TOLD = """
    SELECT o.client_order_id, f.fill_id, f.price::numeric AS price, f.quantity::numeric AS quantity
      FROM exchange_order o, jsonb_to_recordset(o.fills) AS f (fill_id text, price text, quantity text)"""
_TRADED = """
    SELECT client_order_id, fill_id, price::numeric AS price, quantity::numeric AS quantity FROM ledger_fill
    UNION ALL SELECT maker_order_id, trade_id, price::numeric, quantity::numeric FROM exchange_trade
    UNION ALL SELECT taker_order_id, trade_id, price::numeric, quantity::numeric FROM exchange_trade"""


def _acknowledged(path: Path) -> Iterator[tuple[int, Row]]:
    """The answers in a client's record, one JSON object a line, with their line numbers.

    A last line without its end is one that the client was killed while writing. Raises UsageError.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    answer = json.loads(line, parse_float=Decimal)
                except ValueError as error:
                    if not line.endswith("\n"):
                        return
                    raise UsageError(f"{path}, line {number}: {error}") from error
                if not isinstance(answer, dict) or not isinstance(answer.get("client_order_id"), str):
                    raise UsageError(f"{path}, line {number}: no answer to an order (client_order_id is missing)")
                yield number, answer
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error


def nothing_lost(snapshot: Snapshot) -> Found:
    """I10, from outside: every order that a client was told of is there, and so is each of its fills, unchanged."""
    if snapshot.acknowledged is None:
        return Found(
            note="judged from inside only: --acknowledged FILE compares with what a client wrote down as it was told"
        )
    found = Found()
    answers = _acknowledged(snapshot.acknowledged)
    while batch := list(islice(answers, ACKNOWLEDGED_PER_QUERY)):
        ids = [answer["client_order_id"] for _, answer in batch]
        orders = {
            row["client_order_id"]: row
            for row in snapshot.rows("SELECT * FROM exchange_order WHERE client_order_id = ANY (%(ids)s)", ids=ids)
        }
        fills = {
            (row["client_order_id"], row["fill_id"]): (row["price"], row["quantity"])
            for row in snapshot.rows(f"SELECT * FROM ({_TRADED}) AS t WHERE client_order_id = ANY (%(ids)s)", ids=ids)
        }
        for number, answer in batch:
            found.checked += 1
            try:
                lost = _lost(answer, orders.get(answer["client_order_id"]), fills)
            except (KeyError, TypeError, InvalidOperation) as error:
                raise UsageError(
                    f"{snapshot.acknowledged}, line {number}: no answer to an order ({error!r})"
                ) from error
            if lost:
                found.add(line=number, client_order_id=answer["client_order_id"], lost=lost)
        snapshot.progress(f"{found.checked:,} acknowledged orders compared")
    return found


def _lost(answer: Row, order: Row | None, fills: dict[tuple[str, str], tuple[Decimal, Decimal]]) -> str:
    """What of an acknowledged order is not there, in words; "" when all of it is."""
    if order is None:
        return "the order"
    if order["status"] not in _LATER[answer["status"]]:
        return f"its state: {answer['status']} was acknowledged, and now it is {order['status']}"
    if order["filled_quantity"] < Decimal(answer["filled_quantity"]):
        return f"a part of its fills: {answer['filled_quantity']} was acknowledged, and now {order['filled_quantity']}"
    if order["quantity"] != Decimal(answer["filled_quantity"]) + Decimal(answer["remaining_quantity"]):
        return f"its quantity, which now is {order['quantity']}"
    for name in ("symbol", "side", "type", "time_in_force"):
        if name in answer and answer[name] != order[name]:
            return f"its {name}: {answer[name]} was acknowledged, and now it is {order[name]}"
    told = {fill["fill_id"] for fill in order["fills"]}
    for fill in answer["fills"]:
        terms = Decimal(fill["price"]), Decimal(fill["quantity"])
        if fills.get((answer["client_order_id"], fill["fill_id"])) != terms or fill["fill_id"] not in told:
            return f"fill {fill['fill_id']} of {fill['quantity']} at {fill['price']}"
    return ""


# Generated orders by symbol: per step, how many there are and whether they are numbered 0 to n-1 under their ids.
_GENERATED = """
    SELECT symbol, array_agg(step ORDER BY step) AS steps, array_agg(orders ORDER BY step) AS orders,
           array_agg(step ORDER BY step) FILTER (WHERE NOT whole) AS misnumbered
      FROM (SELECT symbol, step, count(*) AS orders,
                   count(DISTINCT index) = count(*) AND min(index) = 0 AND max(index) = count(*) - 1
                   AND bool_and(client_order_id = 'ext-' || symbol || '-' || lpad(step::text, 9, '0') || '-' || index)
                   AS whole
              FROM (SELECT symbol, step, client_order_id,
                           substring(client_order_id FROM '-([0-9]{1,9})$')::bigint AS index
                      FROM exchange_order WHERE step IS NOT NULL) AS o
             GROUP BY symbol, step) AS s
     GROUP BY symbol"""


def _symbols(snapshot: Snapshot) -> list[tuple[SymbolSpec, int]]:
    """Each symbol as it was made, with the step after which its orders begin."""
    rows = snapshot.rows(
        """SELECT name, tick_size, lot_size, seed_price, volatility_bps, half_spread_ticks, skew_ticks, quote_size,
                  position_limit, orders_per_step, added_step FROM exchange_symbol ORDER BY name"""
    )
    return [(as_made(SymbolSpec(**row)), added) for row in rows for added in [row.pop("added_step")]]


def one_effect(snapshot: Snapshot) -> Found:
    """I15: each step's orders, computed again from the seed, are there exactly once, and no others are."""
    found = Found()
    clocks = snapshot.rows("SELECT seed, step, orders_step FROM exchange_clock")
    if not clocks:
        found.note = "the exchange's clock has not been started"
        return found
    clock = clocks[0]
    symbols = _symbols(snapshot)
    generated = {row["symbol"]: row for row in snapshot.rows(_GENERATED)}
    for symbol in sorted(generated.keys() - {spec.name for spec, _ in symbols}):
        found.add(symbol=symbol, wrong="orders of a symbol that is not listed")
    for spec, added_step in symbols:
        row = generated.get(spec.name, {"steps": [], "orders": [], "misnumbered": None})
        for step in row["misnumbered"] or []:
            found.add(symbol=spec.name, step=step, wrong="its orders are not numbered from 0 without a gap")
        _compare_counts(found, clock, spec, added_step, dict(zip(row["steps"], row["orders"], strict=True)))
        snapshot.progress(f"{found.checked:,} steps of generated orders counted")
    _compare_contents(found, snapshot, clock, [spec for spec, _ in symbols])
    return found


def _compare_counts(found: Found, clock: Row, spec: SymbolSpec, added_step: int, orders: dict[int, int]) -> None:
    """A symbol's orders per step against the generator's."""
    seed, done = clock["seed"], clock["orders_step"]
    for step in range(added_step + 1, done + 1):
        expected = len(external_order_ids(seed, spec.name, spec.orders_per_step, step))
        found.checked += 1
        if orders.get(step, 0) != expected:
            found.add(symbol=spec.name, step=step, orders=orders.get(step, 0), expected=expected)
    for step, count in orders.items():
        if added_step < step <= done:
            continue
        if not 0 < step <= clock["step"]:
            found.add(symbol=spec.name, step=step, orders=count, wrong=f"the clock shows step {clock['step']}")
        elif count > len(external_order_ids(seed, spec.name, spec.orders_per_step, step)):
            found.add(symbol=spec.name, step=step, orders=count, wrong="more than the step brings")


def _compare_contents(found: Found, snapshot: Snapshot, clock: Row, specs: list[SymbolSpec]) -> None:
    """The orders of the newest steps, and of steps spread over all the others, against the generator's."""
    done = clock["orders_step"]
    stride = max(1, done // STEPS_COMPARED)
    steps = sorted({*range(1, done + 1, stride), *range(max(1, done - STEPS_COMPARED // 10), done + 1)})
    orders = {
        row["client_order_id"]: row
        for row in snapshot.rows(
            """SELECT client_order_id, symbol, side, type, time_in_force, price, quantity, step
                 FROM exchange_order WHERE step = ANY (%(steps)s)""",
            steps=steps,
        )
    }
    for step in steps:
        for spec in specs:
            for order in external_orders(clock["seed"], spec, step):
                row = orders.get(order.client_order_id) if isinstance(order, ExternalOrder) else None
                if row is not None and any(row[name] != getattr(order, name) for name in row):
                    found.add(client_order_id=order.client_order_id, wrong="other contents than the step brings")
    if stride > 1:
        found.note = f"contents compared for {len(steps):,} of {done:,} steps; numbers and ids for all"


FLOW_CHECKS: tuple[Check, ...] = (
    Check("I10", "what clients were told is there", run=nothing_lost),
    Check(
        "I10",
        "what the orders tell of their fills is what was traded, and the other way round",
        f"""
        SELECT CASE WHEN sum(told) > 0 THEN 'told, but not traded' ELSE 'traded, but not told' END AS lost,
               client_order_id, fill_id, price, quantity
          FROM (SELECT 1 AS told, t.* FROM ({_TOLD}) AS t UNION ALL SELECT -1, t.* FROM ({_TRADED}) AS t) AS both_sides
         GROUP BY client_order_id, fill_id, price, quantity HAVING sum(told) <> 0""",
        checked="SELECT count(*) FROM exchange_order",
    ),
    Check("I15", "each step's orders, computed again, are there exactly once", run=one_effect),
    Check(
        "I15",
        "ids of generated orders belong to generated orders",
        """
        SELECT client_order_id, symbol, step FROM exchange_order
         WHERE (step IS NULL) <> (client_order_id !~ '^ext-[A-Z][A-Z0-9]*-[0-9]{9,}-[0-9]+$')""",
        checked="SELECT count(*) FROM exchange_order",
    ),
)
