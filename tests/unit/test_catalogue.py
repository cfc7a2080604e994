import re

import pytest

from exchange.catalogue import SYMBOLS_MAX, catalogue
from exchange.grid import floor_count, on_grid

EVERYTHING = catalogue(SYMBOLS_MAX)


def test_the_first_symbols_are_named_and_the_rest_numbered() -> None:
    assert [spec.name for spec in EVERYTHING[:3]] == ["ALFA", "BRAVO", "CHARLIE"]
    assert [spec.name for spec in EVERYTHING[25:28]] == ["ZULU", "S00027", "S00028"]
    assert EVERYTHING[-1].name == "S10000"


def test_every_name_is_valid_and_used_once() -> None:
    names = [spec.name for spec in EVERYTHING]
    assert len(set(names)) == SYMBOLS_MAX
    assert all(re.fullmatch(r"[A-Z][A-Z0-9]{0,15}", name) for name in names)


@pytest.mark.parametrize("count", [1, 10, 26, 27, 500])
def test_a_longer_catalogue_begins_with_the_shorter_one(count: int) -> None:
    assert catalogue(count) == EVERYTHING[:count]


@pytest.mark.parametrize("count", [0, -1, SYMBOLS_MAX + 1])
def test_a_market_without_symbols_or_with_too_many_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 10000 symbols"):
        catalogue(count)


def test_every_price_is_on_tick_and_every_size_on_lot() -> None:
    for spec in EVERYTHING:
        for value, unit in (
            (spec.seed_price, spec.tick_size),
            (spec.quote_size, spec.lot_size),
            (spec.position_limit, spec.lot_size),
        ):
            assert value > 0, spec
            assert on_grid(floor_count(value, unit), unit) == value, spec


def test_every_symbol_can_be_quoted_and_its_limit_holds_several_quotes() -> None:
    for spec in EVERYTHING:
        assert spec.half_spread_ticks >= 1, spec
        assert 0 <= spec.skew_ticks <= 3 * spec.half_spread_ticks, spec
        assert spec.volatility_bps > 0, spec
        assert spec.orders_per_step > 0, spec
        assert spec.position_limit >= 5 * spec.quote_size, spec
        # The whole quote stays well above zero, whatever the skew.
        assert spec.seed_price > 20 * (spec.half_spread_ticks + spec.skew_ticks) * spec.tick_size, spec


def test_the_named_symbols_differ_from_each_other_in_more_than_their_name() -> None:
    characters = {(spec.tick_size, spec.lot_size, spec.seed_price) for spec in EVERYTHING[:26]}
    assert len(characters) == 26
    assert len({spec.tick_size for spec in EVERYTHING[:26]}) >= 8
    assert len({spec.lot_size for spec in EVERYTHING[:26]}) >= 8


def test_the_largest_market_orders_no_more_than_it_can_match() -> None:
    assert sum(spec.orders_per_step for spec in EVERYTHING) < 1200


def test_a_symbol_as_json_holds_strings_and_whole_numbers_only() -> None:
    assert EVERYTHING[3].as_json() == {
        "name": "DELTA",
        "tick_size": "0.5",
        "lot_size": "0.001",
        "seed_price": "42150.0",
        "volatility_bps": 150,
        "half_spread_ticks": 24,
        "skew_ticks": 30,
        "quote_size": "0.750",
        "position_limit": "12.000",
        "orders_per_step": "1.4",
    }
