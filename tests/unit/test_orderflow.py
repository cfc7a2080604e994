from collections import Counter
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from exchange.catalogue import SymbolSpec, catalogue
from exchange.grid import floor_count, on_grid
from exchange.orderflow import (
    LIFETIMES_STEPS,
    ExternalCancel,
    ExternalOrder,
    external_order_ids,
    external_orders,
)
from exchange.prices import reference_price

SPECS = catalogue(60)
ALFA = SPECS[0]


def orders_of(seed: int, spec: SymbolSpec, steps: range) -> list[ExternalOrder]:
    return [entry for step in steps for entry in external_orders(seed, spec, step) if isinstance(entry, ExternalOrder)]


def cancels_of(seed: int, spec: SymbolSpec, steps: range) -> list[tuple[int, str]]:
    return [
        (step, entry.client_order_id)
        for step in steps
        for entry in external_orders(seed, spec, step)
        if isinstance(entry, ExternalCancel)
    ]


seeds = st.integers(-(2**63), 2**63 - 1)
specs = st.sampled_from(SPECS)
steps = st.integers(0, 10**9)


@given(seed=seeds, spec=specs, start=steps)
def test_every_order_is_one_that_the_exchange_takes(seed: int, spec: SymbolSpec, start: int) -> None:
    for order in orders_of(seed, spec, range(start, start + 20)):
        assert order.quantity > 0
        assert on_grid(floor_count(order.quantity, spec.lot_size), spec.lot_size) == order.quantity
        assert order.side in ("buy", "sell")
        if order.type == "market":
            assert order.price is None
            assert order.time_in_force in ("IOC", "FOK")
        else:
            assert order.type == "limit"
            assert order.price is not None
            assert order.price > 0
            assert on_grid(floor_count(order.price, spec.tick_size), spec.tick_size) == order.price
            assert order.time_in_force in ("GTC", "IOC", "FOK")


@given(seed=seeds, spec=specs, step=steps)
def test_a_step_gives_the_same_orders_however_often_it_is_asked(seed: int, spec: SymbolSpec, step: int) -> None:
    once = external_orders(seed, spec, step)
    external_orders(seed, spec, step + 1)
    assert external_orders(seed, spec, step) == once


@given(seed=seeds, spec=specs, start=steps)
def test_the_ids_alone_agree_with_the_orders(seed: int, spec: SymbolSpec, start: int) -> None:
    for step in range(start, start + 10):
        ids = [order.client_order_id for order in orders_of(seed, spec, range(step, step + 1))]
        assert ids == external_order_ids(seed, spec.name, spec.orders_per_step, step)


def test_ids_depend_on_nothing_but_seed_symbol_step_and_rate() -> None:
    other = SymbolSpec(ALFA.name, Decimal(1), Decimal(1), Decimal(9), 1, 1, 1, Decimal(5), Decimal(9), Decimal("1.20"))
    for step in range(50):
        assert [o.client_order_id for o in orders_of(1, other, range(step, step + 1))] == external_order_ids(
            1, ALFA.name, ALFA.orders_per_step, step
        )


def test_no_two_orders_of_a_market_share_an_id() -> None:
    ids = [o.client_order_id for spec in SPECS[:12] for o in orders_of(1, spec, range(500))]
    assert len(ids) == len(set(ids)) > 2000
    assert external_order_ids(1, "ALFA", Decimal(3), 123)[0] == "ext-ALFA-000000123-0"


def test_orders_come_as_often_as_the_symbol_says() -> None:
    for rate in (Decimal("0.05"), Decimal("0.8"), Decimal(3)):
        count = sum(len(external_order_ids(1, "RATE", rate, step)) for step in range(40_000))
        assert abs(Decimal(count) / (40_000 * rate) - 1) < Decimal("0.06"), rate


def test_every_gtc_order_is_cancelled_once_and_nothing_else_is() -> None:
    span = 2000
    placed = {o.client_order_id: o for o in orders_of(4, ALFA, range(span))}
    resting = {order_id for order_id, order in placed.items() if order.time_in_force == "GTC"}
    cancels = cancels_of(4, ALFA, range(span + max(LIFETIMES_STEPS) + 1))
    cancelled = Counter(order_id for _, order_id in cancels if order_id in placed)
    assert cancelled == Counter(resting)
    assert all(step - placed[order_id].step in LIFETIMES_STEPS for step, order_id in cancels if order_id in placed)


def test_cancels_come_before_the_orders_of_their_step() -> None:
    for step in range(300):
        kinds = [isinstance(entry, ExternalOrder) for entry in external_orders(1, ALFA, step)]
        assert kinds == sorted(kinds)


def test_the_flow_looks_like_a_market() -> None:
    orders = orders_of(1, ALFA, range(12_000))
    share = {
        name: sum(map(test, orders)) / len(orders)
        for name, test in {
            "buys": lambda o: o.side == "buy",
            "market": lambda o: o.type == "market",
            "rests": lambda o: o.time_in_force == "GTC",
            "fok": lambda o: o.time_in_force == "FOK",
            "small": lambda o: o.quantity <= ALFA.quote_size / 4,
            "larger than the quote": lambda o: o.quantity > ALFA.quote_size,
        }.items()
    }
    assert 0.45 < share["buys"] < 0.55
    assert 0.25 < share["market"] < 0.35
    assert 0.25 < share["rests"] < 0.45
    assert 0.05 < share["fok"] < 0.12
    assert 0.7 < share["small"] < 0.9
    assert 0.02 < share["larger than the quote"] < 0.08
    assert len({o.quantity for o in orders}) > 100


def test_some_limits_cross_the_quote_some_rest_inside_it_and_some_far_away() -> None:
    seen: Counter[str] = Counter()
    for order in orders_of(1, ALFA, range(4000)):
        if order.price is None:
            continue
        reference = reference_price(1, ALFA.name, ALFA.seed_price, ALFA.tick_size, ALFA.volatility_bps, order.step)
        towards = 1 if order.side == "buy" else -1
        ticks = towards * (order.price - reference) / ALFA.tick_size
        half = ALFA.half_spread_ticks
        seen["crosses" if ticks >= half else "inside" if ticks > -half else "around or away"] += 1
        seen["far"] += ticks < -3 * half
    assert min(seen["crosses"], seen["inside"], seen["around or away"], seen["far"]) > 150, seen


def test_buying_and_selling_take_turns_to_prevail() -> None:
    signed = [
        sum(1 if o.side == "buy" else -1 for o in orders_of(1, ALFA, range(start, start + 64)))
        for start in range(0, 64 * 60, 64)
    ]
    assert max(signed) > 15
    assert min(signed) < -15


def test_orders_travel_as_json_with_decimals_as_strings() -> None:
    order = ExternalOrder("ext-ALFA-000000001-0", "ALFA", "buy", "limit", "IOC", Decimal("100.10"), Decimal(5), 1)
    assert order.as_json() == {
        "client_order_id": "ext-ALFA-000000001-0",
        "symbol": "ALFA",
        "side": "buy",
        "type": "limit",
        "time_in_force": "IOC",
        "price": "100.10",
        "quantity": "5",
        "step": 1,
    }
    market = ExternalOrder("ext-ALFA-000000001-1", "ALFA", "sell", "market", "IOC", None, Decimal(5), 1)
    assert market.as_json()["price"] is None
    assert ExternalCancel("ext-ALFA-000000001-0").as_json() == {"cancel": "ext-ALFA-000000001-0"}


def test_golden_orders_stay_what_they_are() -> None:
    observed = [tuple(entry.as_json().values()) for step in (100, 101, 102) for entry in external_orders(7, ALFA, step)]
    assert observed == [
        ("ext-ALFA-000000100-0", "ALFA", "buy", "market", "IOC", None, "9", 100),
        ("ext-ALFA-000000100-1", "ALFA", "buy", "market", "IOC", None, "5", 100),
        ("ext-ALFA-000000100-2", "ALFA", "buy", "limit", "GTC", "100.06", "50", 100),
        ("ext-ALFA-000000101-0", "ALFA", "buy", "limit", "IOC", "100.07", "27", 101),
        ("ext-ALFA-000000101-1", "ALFA", "buy", "market", "IOC", None, "48", 101),
        ("ext-ALFA-000000101-2", "ALFA", "sell", "limit", "IOC", "100.00", "34", 101),
        ("ext-ALFA-000000102-0", "ALFA", "sell", "limit", "GTC", "100.04", "2", 102),
        ("ext-ALFA-000000102-1", "ALFA", "buy", "limit", "IOC", "100.01", "4", 102),
        ("ext-ALFA-000000102-2", "ALFA", "sell", "limit", "GTC", "100.05", "46", 102),
        ("ext-ALFA-000000102-3", "ALFA", "buy", "limit", "FOK", "100.08", "41", 102),
    ]
