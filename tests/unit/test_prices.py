import itertools
from decimal import Decimal
from statistics import pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange import prices
from exchange.catalogue import SymbolSpec, catalogue
from exchange.grid import floor_count, on_grid
from exchange.prices import reference_price

SPECS = catalogue(200)
HOUR_STEPS = 3600


def price_of(seed: int, spec: SymbolSpec, step: int) -> Decimal:
    return reference_price(seed, spec.name, spec.seed_price, spec.tick_size, spec.volatility_bps, step)


specs = st.sampled_from(SPECS)
steps = st.integers(0, 10**10)


@given(seed=st.integers(-(2**63), 2**63 - 1), spec=specs, step=steps)
def test_every_price_is_on_tick_and_positive(seed: int, spec: SymbolSpec, step: int) -> None:
    price = price_of(seed, spec, step)
    assert price > 0
    assert on_grid(floor_count(price, spec.tick_size), spec.tick_size) == price


@given(seed=st.integers(0, 9), spec=specs, wanted=st.lists(steps, min_size=1, max_size=20))
def test_a_price_does_not_depend_on_which_steps_were_asked_before(
    seed: int, spec: SymbolSpec, wanted: list[int]
) -> None:
    asked_in_turn = [price_of(seed, spec, step) for step in wanted]
    fresh = []
    for step in reversed(wanted):
        prices._paths.clear()
        fresh.append(price_of(seed, spec, step))
    assert asked_in_turn == fresh[::-1]


@given(seed=st.integers(), spec=specs)
def test_a_path_starts_at_the_seed_price(seed: int, spec: SymbolSpec) -> None:
    assert price_of(seed, spec, 0) == spec.seed_price


@given(
    tick=st.sampled_from(["0.01", "0.5", "3", "0.0001"]),
    seed_ticks=st.integers(1, 50),
    volatility=st.integers(0, 10_000),
    step=steps,
)
def test_not_even_a_wild_symbol_worth_one_tick_reaches_zero(
    tick: str, seed_ticks: int, volatility: int, step: int
) -> None:
    tick_size = Decimal(tick)
    assert reference_price(5, "WILD", on_grid(seed_ticks, tick_size), tick_size, volatility, step) >= tick_size


def test_seeds_and_symbols_have_paths_of_their_own() -> None:
    alfa, bravo = SPECS[0], SPECS[1]
    paths = {
        tuple(reference_price(seed, name, Decimal(100), Decimal("0.01"), 60, step) for step in range(1, 200))
        for seed in (1, 2, 11)
        for name in (alfa.name, bravo.name, "A", "AA")
    }
    assert len(paths) == 12


def test_changes_grow_with_the_square_root_of_time_as_a_random_walks_do() -> None:
    # A fine tick and 1,000 paths: a standard deviation is then known to about 3 %.
    tick_size, volatility = Decimal("0.0001"), 100
    for lag_steps in (1, 16, 240, HOUR_STEPS):
        changes = []
        for number in range(1000):
            step = 1 + 7919 * number
            here, there = (
                reference_price(3, f"P{number}", Decimal(10_000), tick_size, volatility, k)
                for k in (step, step + lag_steps)
            )
            changes.append(float((there - here) / here))
        expected = volatility / 10_000 * (lag_steps / HOUR_STEPS) ** 0.5
        assert 0.85 < pstdev(changes) / expected < 1.15, lag_steps


def test_over_eight_hours_prices_move_like_a_market_and_stay_within_reason() -> None:
    for spec in SPECS[:26]:
        path = [price_of(1, spec, step) for step in range(0, 8 * HOUR_STEPS, 20)]
        excursion_bps = max(abs(price / spec.seed_price - 1) for price in path) * 10_000
        assert spec.volatility_bps / 2 < excursion_bps < 8 * spec.volatility_bps, spec.name
        moves = sum(a != b for a, b in itertools.pairwise(path))
        assert moves > len(path) // 4, spec.name  # of those 20 steps apart


def test_no_step_jumps_further_than_a_spread_can_follow() -> None:
    for spec in SPECS[:26]:
        path = [price_of(1, spec, step) for step in range(2000)]
        jump = max(abs(b - a) for a, b in itertools.pairwise(path))
        assert jump <= 5 * spec.half_spread_ticks * spec.tick_size, spec.name


def test_the_cache_of_paths_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices, "PATHS_MAX", 10)
    for number in range(35):
        reference_price(1, f"C{number}", Decimal(10), Decimal("0.01"), 50, 5)
        assert len(prices._paths) <= 10


def test_golden_prices_stay_what_they_are() -> None:
    observed = {
        (spec.name, step): str(price_of(7, spec, step))
        for spec in (SPECS[0], SPECS[2], SPECS[3], SPECS[26])
        for step in (1, 3600, 1_000_000)
    }
    assert observed == {
        ("ALFA", 1): "100.00",
        ("ALFA", 3600): "100.03",
        ("ALFA", 1000000): "100.48",
        ("CHARLIE", 1): "1.0850",
        ("CHARLIE", 3600): "1.0837",
        ("CHARLIE", 1000000): "1.0653",
        ("DELTA", 1): "42140.0",
        ("DELTA", 3600): "41643.0",
        ("DELTA", 1000000): "42178.0",
        ("S00027", 1): "133.17",
        ("S00027", 3600): "133.41",
        ("S00027", 1000000): "133.21",
    }
