"""The oracle is trusted by the tests of the SQL, so its own rules are pinned here by small markets."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracle import Market, Order, Position


def d(text: str | int) -> Decimal:
    return Decimal(text)


@pytest.fixture
def market() -> Market:
    """A quote of 99 for 10 and 101 for 10, and nothing else."""
    market = Market("ALFA")
    market.replace_quote(d(99), d(10), d(101), d(10))
    return market


def limit(market: Market, name: str, side: str, price: int, quantity: int, time_in_force: str = "GTC") -> Order:
    return market.submit(name, side, "limit", time_in_force, d(price), d(quantity))


def at_market(market: Market, name: str, side: str, quantity: int, time_in_force: str = "IOC") -> Order:
    return market.submit(name, side, "market", time_in_force, None, d(quantity))


def executed(order: Order) -> list[tuple[str, int, int]]:
    return [(name, int(price), int(quantity)) for name, price, quantity in order.executions]


def test_a_market_buy_takes_our_ask_and_we_sell(market: Market) -> None:
    order = at_market(market, "a", "buy", 4)
    assert order.status == "filled"
    assert executed(order) == [("ALFA-000000000001", 101, 4)]
    assert market.fills[0].side == "sell"
    assert market.position.quantity == -4
    assert market.ask is not None
    assert market.ask.remaining == 6


def test_a_side_that_is_filled_whole_is_gone(market: Market) -> None:
    limit(market, "a", "sell", 99, 10, "IOC")
    assert market.bid is None
    assert market.ask is not None


def test_the_better_price_trades_first_whoever_came_first(market: Market) -> None:
    limit(market, "a", "sell", 100, 3)
    order = limit(market, "b", "buy", 101, 5)
    assert executed(order) == [("ALFA-X000000000001", 100, 3), ("ALFA-000000000001", 101, 2)]


def test_at_one_price_the_first_come_trades_first_and_a_replaced_quote_goes_to_the_back(market: Market) -> None:
    limit(market, "a", "sell", 101, 3)
    assert executed(at_market(market, "b", "buy", 1)) == [("ALFA-000000000001", 101, 1)]  # the quote came first
    market.replace_quote(d(99), d(10), d(101), d(10))
    order = at_market(market, "c", "buy", 4)
    assert executed(order) == [("ALFA-X000000000001", 101, 3), ("ALFA-000000000002", 101, 1)]


def test_a_trade_happens_at_the_resting_price(market: Market) -> None:
    assert executed(limit(market, "a", "buy", 105, 2)) == [("ALFA-000000000001", 101, 2)]


def test_what_a_gtc_order_leaves_over_rests_and_trades_later_at_its_price(market: Market) -> None:
    order = limit(market, "a", "buy", 101, 12)
    assert (order.status, order.remaining) == ("partially_filled", d(2))
    limit(market, "b", "sell", 100, 2)
    assert order.status == "filled"
    assert executed(order)[-1] == ("ALFA-X000000000001", 101, 2)


def test_what_an_ioc_order_leaves_over_is_cancelled(market: Market) -> None:
    order = limit(market, "a", "buy", 101, 12, "IOC")
    assert (order.status, order.filled_quantity) == ("cancelled", d(10))
    assert limit(market, "b", "buy", 98, 1, "IOC").status == "cancelled"


def test_what_a_market_order_leaves_over_is_cancelled_and_with_nothing_to_hit_it_is_rejected(
    market: Market,
) -> None:
    order = at_market(market, "a", "buy", 12)
    assert (order.status, order.reject_code, order.filled_quantity) == ("cancelled", None, d(10))
    order = at_market(market, "b", "buy", 1)
    assert (order.status, order.reject_code) == ("rejected", "no_liquidity")


@pytest.mark.parametrize("kind", ["limit", "market"])
def test_fok_is_filled_whole_over_several_makers_or_not_at_all(market: Market, kind: str) -> None:
    limit(market, "a", "sell", 101, 5)
    price = d(101) if kind == "limit" else None
    too_large = market.submit("b", "buy", kind, "FOK", price, d(16))
    assert (too_large.status, too_large.reject_code) == ("rejected", "fok_unfillable")
    assert market.fills == []
    assert market.submit("c", "buy", kind, "FOK", price, d(15)).status == "filled"


def test_only_an_open_order_can_be_cancelled_and_it_trades_no_more(market: Market) -> None:
    order = limit(market, "a", "buy", 100, 5)
    assert market.cancel("a") is None
    assert order.status == "cancelled"
    assert market.cancel("a") is None  # again changes nothing
    at_market(market, "taker", "buy", 1)
    assert market.cancel("taker") == "not_open"
    assert market.cancel("nobody") == "unknown_order"
    assert executed(limit(market, "b", "sell", 99, 1)) == [("ALFA-000000000002", 99, 1)]


def test_a_new_quote_trades_with_the_orders_that_it_crosses_best_first_at_their_prices(market: Market) -> None:
    limit(market, "a", "sell", 101, 2)
    limit(market, "b", "sell", 100, 3)
    limit(market, "c", "sell", 103, 9)
    assert market.replace_quote(d(102), d(4), d(104), d(4)) is True
    assert [(fill.client_order_id, int(fill.price), int(fill.quantity)) for fill in market.fills] == [
        ("b", 100, 3),
        ("a", 101, 1),
    ]
    assert market.bid is None  # used up
    assert {fill.side for fill in market.fills} == {"buy"}
    assert {fill.quote_version for fill in market.fills} == {2}


def test_a_new_ask_trades_with_resting_buys(market: Market) -> None:
    limit(market, "a", "buy", 100, 2)
    assert market.replace_quote(d(95), d(4), d(98), d(4)) is True
    assert [(fill.side, int(fill.price)) for fill in market.fills] == [("sell", 100)]
    assert market.ask is not None
    assert market.ask.remaining == 2


def test_a_quote_that_crosses_nothing_trades_nothing(market: Market) -> None:
    limit(market, "a", "buy", 98, 2)
    assert market.replace_quote(d(99), d(4), d(101), d(4)) is False


def test_a_withdrawn_quote_leaves_the_orders_alone(market: Market) -> None:
    market.withdraw_quote()
    assert limit(market, "a", "buy", 101, 1).status == "resting"
    assert market.fills == []


def state(position: Position) -> tuple[int, int, int]:
    return int(position.quantity), int(position.cost), int(position.realised_pnl)


def test_a_position_opens_reduces_flips_and_keeps_its_cost() -> None:
    position = Position()
    position.record("buy", d(100), d(10))
    assert state(position) == (10, 1000, 0)
    position.record("buy", d(106), d(5))
    assert state(position) == (15, 1530, 0)
    position.record("sell", d(110), d(5))
    assert state(position) == (10, 1020, 40)
    position.record("sell", d(110), d(12))  # closes 10, opens 2 short
    assert state(position) == (-2, -220, 120)
    position.record("buy", d(100), d(2))
    assert state(position) == (0, 0, 140)
    assert position.version == 5


def test_the_cost_released_is_rounded_to_ten_decimals_half_away_from_zero() -> None:
    position = Position()
    position.record("sell", d("0.01"), d(3))
    position.record("buy", d("0.02"), d(1))
    assert position.cost == d("-0.03") + d("0.01")
    position = Position(quantity=d(3), cash=d(-1), cost=d(1))
    position.record("sell", d(1), d(1))
    assert position.cost == d(1) - d("0.3333333333")


sides = st.sampled_from(["buy", "sell"])
commands = st.lists(
    st.one_of(
        st.tuples(st.just("quote"), st.integers(95, 104), st.integers(1, 5), st.integers(0, 9), st.integers(0, 9)),
        st.tuples(
            st.just("limit"), sides, st.integers(94, 106), st.integers(1, 20), st.sampled_from(["GTC", "IOC", "FOK"])
        ),
        st.tuples(st.just("market"), sides, st.integers(1, 20), st.sampled_from(["IOC", "FOK"])),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("withdraw")),
    ),
    max_size=40,
)


@given(commands)
def test_whatever_happens_nothing_is_overfilled_or_left_crossed_and_the_books_add_up(
    steps: list[tuple[object, ...]],
) -> None:
    market = Market("ALFA")
    for number, (name, *values) in enumerate(steps):
        if name == "quote":
            bid, spread, bid_quantity, ask_quantity = (int(str(value)) for value in values)
            market.replace_quote(
                d(bid) if bid_quantity else None,
                d(bid_quantity) if bid_quantity else None,
                d(bid + spread) if ask_quantity else None,
                d(ask_quantity) if ask_quantity else None,
            )
        elif name == "limit":
            side, price, quantity, time_in_force = (str(value) for value in values)
            market.submit(f"o{number}", side, "limit", time_in_force, d(price), d(quantity))
        elif name == "market":
            side, quantity, time_in_force = (str(value) for value in values)
            market.submit(f"o{number}", side, "market", time_in_force, None, d(quantity))
        elif name == "cancel":
            market.cancel(f"o{values[0]}")
        else:
            market.withdraw_quote()
        check_books(market)


def check_books(market: Market) -> None:
    buys, sells = market._queue("buy"), market._queue("sell")
    if buys and sells:
        assert buys[0].price is not None
        assert sells[0].price is not None
        assert buys[0].price < sells[0].price, "the book is left crossed"
    for order in market.orders.values():
        assert order.filled_quantity == sum((quantity for _, _, quantity in order.executions), d(0))
        assert order.filled_quantity <= order.quantity
        if order.time_in_force == "FOK":
            assert order.status in ("filled", "rejected")
        assert order.is_open <= (order.time_in_force == "GTC")
    signed = [fill.quantity if fill.side == "buy" else -fill.quantity for fill in market.fills]
    assert market.position.quantity == sum(signed, d(0))
    assert market.position.cash == -sum(
        (quantity * fill.price for quantity, fill in zip(signed, market.fills, strict=True)), d(0)
    )
    assert (market.position.quantity == 0) <= (market.position.cost == 0)
    assert market.position.cost * market.position.quantity >= 0
    bought = sum((order.filled_quantity for order in market.orders.values() if order.side == "buy"), d(0))
    sold = sum((order.filled_quantity for order in market.orders.values() if order.side == "sell"), d(0))
    assert bought - sold == -market.position.quantity, "each trade has two sides"
