from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor

from hypothesis import given
from hypothesis import strategies as st

from exchange.grid import floor_count, on_grid
from nodeagent.quoting import QuotingParameters, TwoSidedQuote, quote

PLAIN = QuotingParameters(
    tick_size=Decimal("0.01"),
    lot_size=Decimal(1),
    half_spread_ticks=3,
    skew_ticks=4,
    quote_size=Decimal(200),
    position_limit=Decimal(1000),
)


@st.composite
def parameters(draw: st.DrawFn) -> QuotingParameters:
    lot_size = Decimal(draw(st.sampled_from(["1", "0.001", "10", "0.5"])))
    return QuotingParameters(
        tick_size=Decimal(draw(st.sampled_from(["0.01", "0.05", "0.0001", "0.5", "3"]))),
        lot_size=lot_size,
        half_spread_ticks=draw(st.integers(0, 50)),
        skew_ticks=draw(st.integers(0, 50)),
        quote_size=on_grid(draw(st.integers(1, 500)), lot_size),
        position_limit=on_grid(draw(st.integers(0, 2000)), lot_size),
    )


references = st.decimals("0.0001", "100000", places=4)
positions_lots = st.integers(-2500, 2500)


@given(reference=references, lots=positions_lots, parameters=parameters())
def test_a_quote_is_on_grid_positive_and_never_crossed(
    reference: Decimal, lots: int, parameters: QuotingParameters
) -> None:
    two = quote(reference, on_grid(lots, parameters.lot_size), parameters)
    for price, quantity in ((two.bid_price, two.bid_quantity), (two.ask_price, two.ask_quantity)):
        assert (price is None) == (quantity is None)
        if price is not None and quantity is not None:
            assert price >= parameters.tick_size
            assert on_grid(floor_count(price, parameters.tick_size), parameters.tick_size) == price
            assert 0 < quantity <= parameters.quote_size
            assert on_grid(floor_count(quantity, parameters.lot_size), parameters.lot_size) == quantity
    if two.bid_price is not None and two.ask_price is not None:
        assert two.bid_price < two.ask_price


@given(reference=references, lots=positions_lots, parameters=parameters())
def test_no_side_filled_whole_takes_the_position_past_its_limit(
    reference: Decimal, lots: int, parameters: QuotingParameters
) -> None:
    position = on_grid(lots, parameters.lot_size)
    two = quote(reference, position, parameters)
    if two.bid_quantity is not None:
        assert position + two.bid_quantity <= parameters.position_limit
    if two.ask_quantity is not None:
        assert position - two.ask_quantity >= -parameters.position_limit


@given(reference=references, lots=positions_lots, parameters=parameters())
def test_a_side_is_withdrawn_only_where_not_one_lot_is_left(
    reference: Decimal, lots: int, parameters: QuotingParameters
) -> None:
    position = on_grid(lots, parameters.lot_size)
    two = quote(reference, position, parameters)
    assert (two.bid_price is None) == (parameters.position_limit - position < parameters.lot_size)
    assert (two.ask_price is None) == (parameters.position_limit + position < parameters.lot_size)


@given(reference=references, lots=positions_lots, parameters=parameters())
def test_prices_are_those_of_exact_fractions(reference: Decimal, lots: int, parameters: QuotingParameters) -> None:
    position = on_grid(lots, parameters.lot_size)
    two = quote(reference, position, parameters)
    limit = Fraction(parameters.position_limit)
    ratio = max(Fraction(-1), min(Fraction(position) / limit, Fraction(1))) if limit else Fraction(0)
    centre = Fraction(reference) / Fraction(parameters.tick_size) - parameters.skew_ticks * ratio
    bid = max(floor(centre - parameters.half_spread_ticks), 1)
    ask = max(ceil(centre + parameters.half_spread_ticks), bid + 1)
    assert two.bid_price in (None, on_grid(bid, parameters.tick_size))
    assert two.ask_price in (None, on_grid(ask, parameters.tick_size))


@given(reference=references, lots=st.integers(-2000, 1999), parameters=parameters())
def test_the_longer_the_position_the_lower_both_sides(
    reference: Decimal, lots: int, parameters: QuotingParameters
) -> None:
    shorter = quote(reference, on_grid(lots, parameters.lot_size), parameters)
    longer = quote(reference, on_grid(lots + 1, parameters.lot_size), parameters)
    if shorter.bid_price is not None and longer.bid_price is not None:
        assert longer.bid_price <= shorter.bid_price
    if shorter.ask_price is not None and longer.ask_price is not None:
        assert longer.ask_price <= shorter.ask_price


def test_a_flat_position_is_quoted_evenly_around_the_reference() -> None:
    assert quote(Decimal("100.00"), Decimal(0), PLAIN) == TwoSidedQuote(
        Decimal("99.97"), Decimal(200), Decimal("100.03"), Decimal(200)
    )


def test_a_long_position_moves_both_prices_down_by_its_share_of_the_skew() -> None:
    two = quote(Decimal("100.00"), Decimal(500), PLAIN)  # half of the limit: two of four ticks
    assert (two.bid_price, two.ask_price) == (Decimal("99.95"), Decimal("100.01"))


def test_a_side_near_the_limit_shrinks_to_the_room_left() -> None:
    assert quote(Decimal(100), Decimal(950), PLAIN).bid_quantity == Decimal(50)
    assert quote(Decimal(100), Decimal(-950), PLAIN).ask_quantity == Decimal(50)


def test_the_room_left_is_cut_to_whole_lots() -> None:
    tens = replace(PLAIN, lot_size=Decimal(10))
    assert quote(Decimal(100), Decimal("955"), tens).bid_quantity == Decimal(40)


def test_at_the_limit_only_the_side_that_reduces_the_position_is_left() -> None:
    two = quote(Decimal(100), Decimal(1000), PLAIN)
    assert (two.bid_price, two.bid_quantity) == (None, None)
    assert two.ask_quantity == Decimal(200)


def test_past_a_lowered_limit_the_skew_stays_at_its_most() -> None:
    two = quote(Decimal("100.00"), Decimal(9000), PLAIN)
    assert two.bid_price is None
    assert two.ask_price == Decimal("99.99")


def test_a_limit_of_zero_quotes_nothing_when_flat() -> None:
    assert quote(Decimal(100), Decimal(0), replace(PLAIN, position_limit=Decimal(0))) == TwoSidedQuote(
        None, None, None, None
    )


def test_a_price_near_zero_is_still_quoted_two_sided() -> None:
    two = quote(Decimal("0.01"), Decimal(0), PLAIN)
    assert (two.bid_price, two.ask_price) == (Decimal("0.01"), Decimal("0.04"))


def test_without_a_spread_the_ask_still_stands_above_the_bid() -> None:
    two = quote(Decimal("100.00"), Decimal(0), replace(PLAIN, half_spread_ticks=0))
    assert (two.bid_price, two.ask_price) == (Decimal("100.00"), Decimal("100.01"))
