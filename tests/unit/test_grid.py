from decimal import Decimal, getcontext, localcontext

from hypothesis import given
from hypothesis import strategies as st

from exchange.grid import floor_count, on_grid, plain

units = st.sampled_from([Decimal(u) for u in ("0.01", "0.05", "0.0001", "0.5", "0.25", "1", "5", "100", "0.001")])


@given(count=st.integers(-(10**15), 10**15), unit=units)
def test_a_count_of_units_survives_the_way_to_a_decimal_and_back(count: int, unit: Decimal) -> None:
    value = on_grid(count, unit)
    assert floor_count(value, unit) == count
    assert Decimal(plain(value)) == value
    assert "E" not in plain(value)


@given(value=st.decimals("-1e9", "1e9", places=6), unit=units)
def test_the_floor_is_the_last_grid_point_at_or_below_the_value(value: Decimal, unit: Decimal) -> None:
    count = floor_count(value, unit)
    assert on_grid(count, unit) <= value < on_grid(count + 1, unit)


def test_a_unit_gives_the_same_text_however_many_zeros_it_is_written_with() -> None:
    assert plain(on_grid(3, Decimal("0.50"))) == plain(on_grid(3, Decimal("0.5"))) == "1.5"
    assert plain(on_grid(3, Decimal("1E+2"))) == plain(on_grid(3, Decimal("100.000"))) == "300"


def test_a_changed_decimal_context_changes_nothing() -> None:
    with localcontext() as context:
        context.prec = 3
        assert getcontext().prec == 3
        assert plain(on_grid(123456789, Decimal("0.0001"))) == "12345.6789"
