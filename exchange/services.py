"""What can be done to the exchange. Each command is one SQL function: one round trip, one commit.

None of them may be called inside a transaction: they commit, retry as a whole, and ring the doorbell for what they
have committed.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import chain
from typing import Any, NotRequired, TypedDict

import structlog
from django.db import Error as DatabaseError
from django.db import IntegrityError, OperationalError
from psycopg.errors import Diagnostic

from exchange import selectors
from exchange.catalogue import SymbolSpec, catalogue
from exchange.errors import (
    PARAMETER_RANGES,
    InvalidParameters,
    MarketDiffers,
    OrderNotOpen,
    OrderRefused,
    SymbolsLocked,
    UnknownOrder,
    UnknownSymbol,
)
from exchange.orderflow import external_orders
from exchange.prices import reference_price
from mmproject import doorbell, query
from mmproject.conf import conf
from mmproject.crashpoints import crash_point
from mmproject.db import retrying, sqlstate

ORDERS_PER_CALL = 200  # of 1,000 allowed: a call keeps its symbols locked, and other clients' orders wait for it
BATCH_LOCK_MS = 700  # that a batch waits for each lock, and its other symbols with it
TOGETHER_LOCK_MS = 100  # ... that of the external orders, which are sent apart then
ALONE_S = 1.0  # that a call sends symbols' external orders one by one; the next call goes on
STEPS_PER_CALL = 100  # that one place_external_orders() makes up for; the next call goes on
KEEP_STEPS_PER_CALL = 50  # after a long outage the next call goes on
ADVANCES_PER_CALL = 5  # the clock is never more than one tick behind, so two would do; simulate's never waits

logger = structlog.get_logger(__name__)

UNKNOWN = "MM404"
INVALID = "MM422"
LOCKED = "55P03"  # lock_not_available
FILLED = "MM100"  # the class of a notice
CHECK_VIOLATION = "23514"
NOT_NULL_VIOLATION = "23502"
INVALID_TEXT = "22P02"  # "abc" where a number is asked for
OUT_OF_RANGE = "22003"


class OrderFill(TypedDict):
    """One trade of an order; decimals are strings."""

    fill_id: str
    price: str
    quantity: str


class OrderAnswer(TypedDict):
    """An order's state as its owner is told of it (DESIGN, section 8); decimals are strings."""

    client_order_id: str
    status: str
    filled_quantity: str
    remaining_quantity: str
    average_price: str | None
    fills: list[OrderFill]
    reject_code: str | None
    error: NotRequired[str]


class Toggle(TypedDict):
    """A symbol's switch before and after an operator's action."""

    symbol: str
    before: bool
    after: bool


class Kept(TypedDict):
    """A step in keeping the quote versions' partitions: `action` is make or drop."""

    action: str
    partition: str


def ensure_market(*, symbols: int, seed: int, tick_ms: int) -> None:
    """Make the market: the catalogue's first `symbols` symbols and the clock. What is there already stays.

    Raises MarketDiffers when the data were made with another seed: their prices and orders follow from it.
    """
    running = query.value("SELECT seed FROM exchange_clock")
    if running is not None and running != seed:
        raise MarketDiffers(
            f"the data belong to a market with seed {running}, not {seed}: name that one, or clean them"
        )
    listed = {row["name"] for row in query.rows("SELECT name FROM exchange_symbol")}
    missing = [spec.as_json() for spec in catalogue(symbols) if spec.name not in listed]
    if missing:
        query.value("SELECT exchange_add_symbols_v1(%s::jsonb)", [json.dumps(missing)])
    keep_partitions()  # the worker's task, done once before anybody quotes
    in_force = query.value("SELECT exchange_start_clock_v1(%s, %s)", [seed, tick_ms])
    if in_force != seed:
        raise MarketDiffers(f"the data belong to a market with seed {in_force}, not {seed}")


def submit_order(
    *,
    client_order_id: str,
    symbol: str,
    side: str,
    type: str,
    time_in_force: str,
    price: Decimal | None,
    quantity: Decimal,
) -> OrderAnswer:
    """Send one order; the same order again answers the same. Locks the symbol.

    The doorbell is rung as soon as its fills can be seen, which is before it is durable and answered; also for trades
    with other orders alone, which move no position of ours.

    Raises OrderRefused, whose code says why, with nothing changed. A business reject (`fok_unfillable`,
    `no_liquidity`) is an answer with status `rejected`, and is kept like any order.
    """

    def told(notice: Diagnostic) -> None:
        if notice.sqlstate == FILLED:
            crash_point("fill.committed")
            doorbell.ring((symbol,))

    def command() -> OrderAnswer:
        crash_point("order.before")
        with query.noticed(told):
            answer: OrderAnswer = query.document(
                "CALL exchange_place_order_v3(%s, %s, %s, %s, %s, %s::numeric, %s::numeric)",
                [client_order_id, symbol, side, type, time_in_force, price, quantity],
            )
        crash_point("order.after")
        return answer

    try:
        answer = retrying(command)
    except IntegrityError:
        # The same id at the same moment: that one has committed, and now is what we are judged by.
        answer = retrying(command)
    if "error" in answer:
        raise OrderRefused(answer["error"])
    return answer


def submit_orders(orders: Sequence[dict[str, Any]], lock_ms: int = BATCH_LOCK_MS) -> list[dict[str, Any]]:
    """Send up to 1,000 orders and cancels, taken one after another in one commit; their answers in the same order.

    An item is an order's JSON object (decimals as strings, `step` on generated ones) or {"cancel": client_order_id}.
    An answer may be {"error": code}, which concerns that item alone. Locks all the symbols concerned. Raises
    OperationalError (LOCKED) when it can't have one of them for `lock_ms`, with nothing changed.
    """

    def command() -> list[dict[str, Any]]:
        crash_point("batch.before")
        answers: list[dict[str, Any]] = query.value(
            "CALL exchange_place_orders_v3(%s::jsonb, %s)", [json.dumps(orders), lock_ms]
        )
        crash_point("batch.after")
        return answers

    try:
        answers = retrying(command)
    except IntegrityError:
        answers = retrying(command)
    _ring_for((order["symbol"], answer) for order, answer in zip(orders, answers, strict=True) if "symbol" in order)
    return answers


def cancel_order(client_order_id: str) -> OrderAnswer:
    """Cancel what is left of an open order; cancelling it again answers the same. Locks the symbol.

    Raises UnknownOrder, OrderNotOpen.
    """

    def command() -> OrderAnswer:
        crash_point("cancel.before")
        cancelled: OrderAnswer = query.document("SELECT exchange_cancel_order_v2(%s)", [client_order_id])
        crash_point("cancel.after")
        return cancelled

    answer = retrying(command)
    match answer.get("error"):
        case "unknown_order":
            raise UnknownOrder(f"there is no order {client_order_id}")
        case "not_open":
            raise OrderNotOpen(f"order {client_order_id} is filled or rejected: nothing is left to cancel")
    return answer


def set_quoting(symbols: Sequence[str] | None, enabled: bool, actor: str, reason: str = "") -> list[Toggle]:
    """The kill switch, for these symbols or for all (None). Off withdraws their quotes in the same commit (I12).

    Leaves an audit row per symbol, changed or not (I13). Locks the symbols; one whose row somebody keeps locked keeps
    no other from being turned. Raises UnknownSymbol, with nothing changed, and SymbolsLocked, which says what was
    changed and what was not.
    """

    def command() -> list[Any]:
        crash_point("toggle.before")
        toggles = query.rows(
            "SELECT symbol, before, after FROM exchange_set_quoting_v2(%s::text[], %s, %s, %s)",
            [None if symbols is None else list(symbols), enabled, actor, reason],
        )
        crash_point("toggle.after")
        return toggles

    try:
        toggles = retrying(command)
    except DatabaseError as error:
        if sqlstate(error) == UNKNOWN:
            raise UnknownSymbol(_message(error)) from None
        raise
    changed = [toggle for toggle in toggles if toggle["after"] is not None]
    left = [toggle["symbol"] for toggle in toggles if toggle["after"] is None]
    if left:
        logger.warning("symbols_locked", actor=actor, enabled=enabled, reason=reason, symbols=left)
        raise SymbolsLocked(enabled, changed, left)
    return changed


def set_parameters(symbol: str, parameters: dict[str, Any], actor: str, reason: str = "") -> dict[str, Any]:
    """Change any of half_spread_ticks, skew_ticks, quote_size, position_limit; the holder's next quote follows them.

    Leaves an audit row. Locks the symbol. Returns {"before", "after"}.
    Raises UnknownSymbol, InvalidParameters (unknown name, not a number, out of range, off lot).
    """
    sent = json.dumps({name: str(value) if isinstance(value, Decimal) else value for name, value in parameters.items()})

    def command() -> dict[str, Any]:
        changed: dict[str, Any] = query.document(
            "SELECT exchange_set_parameters_v1(%s, %s::jsonb, %s, %s)", [symbol, sent, actor, reason]
        )
        return changed

    try:
        return retrying(command)
    except DatabaseError as error:
        state = sqlstate(error)
        if state == UNKNOWN:
            raise UnknownSymbol(_message(error)) from None
        if state == INVALID:
            raise InvalidParameters(_message(error)) from None
        if state in (CHECK_VIOLATION, NOT_NULL_VIOLATION, INVALID_TEXT, OUT_OF_RANGE):
            raise InvalidParameters(PARAMETER_RANGES) from None
        raise


def keep_partitions(retention_ms: int = conf.quote_retention_ms) -> list[Kept]:
    """Make the quote versions' next partitions ahead of time, and drop those past the retention; returns what was done.

    Each step is a commit of its own, and reads again what is due: run twice, at once or killed half-way, it does no
    harm. It makes nobody wait for longer than 50 ms (exchange_keep_partitions_v1), and is done with little when nothing
    is due.
    """
    done: list[Kept] = []
    while len(done) < KEEP_STEPS_PER_CALL:
        step: list[Any] = retrying(
            lambda: query.rows("SELECT action, partition FROM exchange_keep_partitions_v1(%s)", [retention_ms])
        )
        if not step:
            break
        if step[0]["action"] == "busy":
            # Somebody reads, or another keeper is at work: the next call goes on.
            logger.info("quote_partitions_busy", partition=step[0]["partition"])
            break
        done += step
        logger.info("quote_partition", **step[0])
    return done


def advance_clock() -> int:
    """Advance the exchange's clock as far as it is due and set the reference prices; returns the step it shows.

    Safe to run twice or at once with another: a step is taken by whoever is first.
    """
    for _ in range(ADVANCES_PER_CALL):
        clock = selectors.clock()
        if not clock.is_due:
            return clock.step
        step = clock.step + 1
        specs = selectors.specs()
        prices = [
            reference_price(clock.seed, spec.name, spec.seed_price, spec.tick_size, spec.volatility_bps, step)
            for spec in specs
        ]
        names = [spec.name for spec in specs]
        crash_point("clock.before")
        retrying(
            lambda step=step, names=names, prices=prices: query.value(  # type: ignore[misc]
                "SELECT exchange_advance_clock_v1(%s, %s::text[], %s::numeric[])", [step, names, prices]
            )
        )
        crash_point("clock.after")
    return selectors.clock().step


def place_external_orders() -> None:
    """Send the external orders of every step that the clock has reached and that lacks them.

    What a step brings follows from (seed, symbol, step) alone, under ids derived from them, and a step is noted as done
    only after all its orders committed. So running twice, at once or being killed half-way changes nothing (I15).
    A symbol that somebody keeps locked holds up the steps after this one, and no other symbol's quotes.
    """
    clock = selectors.clock()
    if clock.orders_step >= clock.step:
        return
    specs = selectors.specs()
    last = min(clock.step, clock.orders_step + STEPS_PER_CALL)
    for step in range(clock.orders_step + 1, last + 1):
        held_up: list[str] = []
        for chunk in _chunks(clock.seed, specs, step):
            held_up += _send(chunk)
        if held_up:
            # The step is not done, so the next call sends all of it again.
            logger.warning("orders_held_up", step=step, symbols=held_up, error="locked by somebody")
            return
        crash_point("step.before")
        retrying(lambda step=step: query.value("SELECT exchange_orders_done_v1(%s)", [step]))  # type: ignore[misc]
        crash_point("step.after")


def _send(chunk: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Send these orders, by symbol, in one commit; returns the symbols left out, as somebody keeps them locked.

    Those that can't be locked with the others are sent alone: waiting for them, it has no other row.
    """
    symbols = list(chunk)
    try:
        _send_checked(chunk.values(), TOGETHER_LOCK_MS)
    except OperationalError as error:
        if sqlstate(error) != LOCKED:
            raise
    else:
        return []
    # For this statement only, which does not wait for the disk with them.
    free = query.value(
        "SELECT exchange_lock_quotes_v1(%s::text[], false), set_config('synchronous_commit', 'off', true)", [symbols]
    )
    held_up = [symbol for symbol in symbols if symbol not in free]
    try:
        if free:
            _send_checked([chunk[symbol] for symbol in free], TOGETHER_LOCK_MS)
    except OperationalError as error:
        if sqlstate(error) != LOCKED:
            raise
        held_up = symbols
    until = time.monotonic() + ALONE_S
    for symbol in random.sample(held_up, len(held_up)):  # each has its turn, were there more than there is time for
        if time.monotonic() > until:
            break
        try:
            _send_checked([chunk[symbol]], BATCH_LOCK_MS)
        except OperationalError as error:
            if sqlstate(error) != LOCKED:
                raise
        else:
            held_up.remove(symbol)
    return held_up


def _send_checked(orders_by_symbol: Iterable[list[dict[str, Any]]], lock_ms: int) -> None:
    orders = list(chain.from_iterable(orders_by_symbol))
    for order, answer in zip(orders, submit_orders(orders, lock_ms), strict=True):
        # A cancel may well come too late; an order that we made up ourselves is valid.
        assert "cancel" in order or "error" not in answer, (order, answer)


def _chunks(seed: int, specs: Iterable[SymbolSpec], step: int) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """A step's orders by symbol, at most ORDERS_PER_CALL at a time unless one symbol alone has more."""
    chunk: dict[str, list[dict[str, Any]]] = {}
    count = 0
    for spec in specs:
        orders = [order.as_json() for order in external_orders(seed, spec, step)]
        if not orders:
            continue
        if chunk and count + len(orders) > ORDERS_PER_CALL:
            yield chunk
            chunk, count = {}, 0
        chunk[spec.name] = orders
        count += len(orders)
    if chunk:
        yield chunk


def _ring_for(answers: Iterable[tuple[str, Any]]) -> None:
    """Ring for the symbols whose position moved. Trades between two external orders ("ALFA-X...") move none."""
    doorbell.ring(
        symbol
        for symbol, answer in answers
        if any(not fill["fill_id"].startswith(f"{symbol}-X") for fill in answer.get("fills", ()))
    )


def _message(error: BaseException) -> str:
    """The first line of what the database said."""
    return str(error).strip().splitlines()[0]
