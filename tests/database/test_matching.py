"""The SQL of matching and ledger against the oracle: any sequence of commands, the same answers and the same books.

Every example trades a symbol of its own in the test's one database, so that examples do not see each other.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from exchange.catalogue import SymbolSpec, catalogue
from exchange.orderflow import ExternalCancel, external_orders
from exchange.prices import reference_price
from nodeagent.quoting import QuotingParameters, quote
from tests.database.side_by_side import Exchange, Row, Trial, answer_of, compare_books, compare_state, error
from tests.oracle import Market
from tests.racing import NO_SHORT_CUT, Mutation
from tests.support import Database

GENERAL = "every order the general way"


@pytest.fixture
def exchange(database: Database, request: pytest.FixtureRequest) -> Exchange:
    if getattr(request, "param", None) == GENERAL:
        Mutation(GENERAL, (NO_SHORT_CUT,), "").apply(database.connect("admin"))
    return Exchange(database)


def command(name: str, *values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, tuple[Any, ...]]]:
    return st.tuples(st.just(name), st.tuples(*values))


sides = st.sampled_from(["buy", "sell"])
# Few prices and sizes, so that orders and quotes meet, at the same price too, and use each other up.
offsets = st.integers(-2, 2)
lots = st.integers(1, 12)
quote_lots = st.integers(0, 10)
quotes = (st.integers(-3, 2), st.integers(1, 3), quote_lots, quote_lots)
CODES = (
    "unknown_symbol",
    "off_tick",
    "off_lot",
    "invalid_price",
    "invalid_quantity",
    "invalid_time_in_force",
    "invalid_side",
)
limit_orders = command(
    "submit", sides, st.just("limit"), st.sampled_from(["GTC", "GTC", "GTC", "IOC", "FOK"]), offsets, lots
)
commands = st.one_of(
    limit_orders,
    limit_orders,
    command("submit", sides, st.just("market"), st.sampled_from(["IOC", "FOK"]), st.none(), lots),
    command("replace", *quotes),
    command("replace", *quotes),
    command("replace", st.integers(-3, 2), st.integers(0, 3), quote_lots, quote_lots, st.booleans()),
    command("cancel", st.integers(0, 40)),
    command("submit_again", st.integers(0, 40), st.sampled_from([None, "quantity", "side", "price", "time_in_force"])),
    command("submit_bad", st.sampled_from(CODES)),
    command("set_quoting", st.sampled_from([True, True, True, False])),
)
# Hypothesis favours short lists, in which little meets; it shrinks towards the first of the two.
scripts = st.one_of(st.lists(commands, min_size=1, max_size=10), st.lists(commands, min_size=30, max_size=60))

one_database_for_all_examples = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=120
)


@pytest.fixture
def numbers() -> count[int]:
    return count(1)


@pytest.fixture
def new_trial(exchange: Exchange, numbers: count[int]) -> Callable[[], Trial]:
    return lambda: Trial(exchange, next(numbers))


@given(script=scripts)
@one_database_for_all_examples
def test_orders_handed_in_together_are_taken_as_if_one_after_another(
    exchange: Exchange, numbers: count[int], script: list[tuple[str, tuple[Any, ...]]]
) -> None:
    trial = Trial(exchange, next(numbers), batched=True)
    for name, values in script:
        getattr(trial, name)(*values)
    trial.settle()
    compare_state(trial.exchange, trial.market, lapsed=trial.lapsed)
    compare_books(trial.exchange, trial.market)
    for outcome in sorted(trial.seen):
        event(outcome)


@pytest.mark.parametrize("exchange", ["as it is", GENERAL], indirect=True)
@given(script=scripts)
@one_database_for_all_examples
def test_any_sequence_of_commands_does_what_the_oracle_says(
    new_trial: Callable[[], Trial], script: list[tuple[str, tuple[Any, ...]]]
) -> None:
    trial = new_trial()
    for name, values in script:
        getattr(trial, name)(*values)
        compare_state(trial.exchange, trial.market, lapsed=trial.lapsed)
    compare_books(trial.exchange, trial.market)
    for outcome in sorted(trial.seen):
        event(outcome)


def test_a_quote_used_up_by_one_resting_order_leaves_the_next_one_alone(new_trial: Callable[[], Trial]) -> None:
    trial = new_trial()
    trial.submit("sell", "limit", "GTC", 0, 5)
    trial.submit("sell", "limit", "GTC", 0, 5)
    trial.replace(0, 2, 5, 5)
    compare_state(trial.exchange, trial.market)
    compare_books(trial.exchange, trial.market)


def test_a_replaced_quote_stands_behind_the_orders_that_rest_at_its_price(new_trial: Callable[[], Trial]) -> None:
    trial = new_trial()
    trial.replace(-1, 1, 0, 5)
    trial.submit("sell", "limit", "GTC", 0, 5)
    trial.submit("buy", "limit", "IOC", 0, 1)
    assert (len(trial.market.fills), len(trial.market.trades)) == (1, 0), "the quote came first"
    trial.replace(-1, 1, 0, 5)
    trial.submit("buy", "limit", "IOC", 0, 6)
    assert (len(trial.market.fills), len(trial.market.trades)) == (2, 1), "the order came first, then the quote"
    compare_state(trial.exchange, trial.market)
    compare_books(trial.exchange, trial.market)


def test_a_batch_too_trades_first_with_the_order_that_was_there_before_the_quote(exchange: Exchange) -> None:
    trial = Trial(exchange, 1, batched=True)
    trial.submit("sell", "limit", "GTC", 0, 5)
    trial.replace(-1, 1, 0, 5)
    trial.submit("buy", "limit", "IOC", 0, 2)
    trial.settle()
    assert (len(trial.market.fills), len(trial.market.trades)) == (0, 1)
    compare_state(trial.exchange, trial.market)
    compare_books(trial.exchange, trial.market)


def test_the_generated_market_trades_in_sql_as_in_the_oracle(exchange: Exchange) -> None:
    """External orders in batches, quotes by the node's own logic: 150 steps of six symbols, each handed in twice."""
    specs, steps, seed = catalogue(6), 150, 5
    exchange.list_symbols(*specs)
    markets = {spec.name: Market(spec.name) for spec in specs}
    for step in range(steps):
        proposed = {}
        for spec in specs:
            market = markets[spec.name]
            price = reference_price(seed, spec.name, spec.seed_price, spec.tick_size, spec.volatility_bps, step)
            two = quote(price, market.position.quantity, parameters_of(spec))
            market.replace_quote(two.bid_price, two.bid_quantity, two.ask_price, two.ask_quantity)
            proposed[spec.name] = two
        assert {outcome for outcome, _, _ in exchange.replace(proposed).values()} == {"accepted"}
        entries, expected = [], []
        for spec in specs:
            for entry in external_orders(seed, spec, step):
                entries.append(entry.as_json())
                expected.append(expected_answer(markets[spec.name], entry))
        assert exchange.submit_batch(entries) == expected
        exchange.submit_batch(entries)  # a task delivered twice changes nothing
    for market in markets.values():
        compare_state(exchange, market)
        compare_books(exchange, market)
        assert len(market.fills) > 30, market.symbol


def parameters_of(spec: SymbolSpec) -> QuotingParameters:
    return QuotingParameters(
        spec.tick_size, spec.lot_size, spec.half_spread_ticks, spec.skew_ticks, spec.quote_size, spec.position_limit
    )


def expected_answer(market: Market, entry: Any) -> Row:
    if isinstance(entry, ExternalCancel):
        refused = market.cancel(entry.client_order_id)
        return error(refused) if refused else answer_of(market.orders[entry.client_order_id])
    order = market.submit(
        entry.client_order_id, entry.side, entry.type, entry.time_in_force, entry.price, entry.quantity
    )
    return answer_of(order)
