"""Exact arithmetic on price and quantity grids, independent of the thread's decimal context.

A price is a whole number of ticks and a quantity a whole number of lots. Everything that must come out the
same to the digit on any machine goes through these three functions: they work on integers, so neither a
changed decimal context nor a database that hands ``0.50`` back for ``0.5`` can change a result or its text.
"""

from __future__ import annotations

from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from functools import lru_cache

# 60 digits hold any price times any quantity here; if ever not, Inexact raises instead of rounding in
# silence.
_EXACT = Context(prec=60, traps=[DivisionByZero, Inexact, InvalidOperation, Overflow])


@lru_cache(maxsize=1024)
def _canonical(unit: Decimal) -> Decimal:
    """The unit without trailing zeros and without a positive exponent (1E+2 -> 100): one text per value."""
    assert unit.is_finite(), f"not a grid unit: {unit}"
    assert unit > 0, f"not a grid unit: {unit}"
    short = unit.normalize(_EXACT)
    exponent = short.as_tuple().exponent
    assert isinstance(exponent, int)
    return short.quantize(Decimal(1), context=_EXACT) if exponent > 0 else short


def on_grid(count: int, unit: Decimal) -> Decimal:
    """`count` units, exactly, with as many decimals as the unit has."""
    return _EXACT.multiply(_canonical(unit), count)


def floor_count(value: Decimal, unit: Decimal) -> int:
    """How many whole units fit: floor(value / unit), towards minus infinity."""
    value_over, value_under = value.as_integer_ratio()
    unit_over, unit_under = unit.as_integer_ratio()
    return (value_over * unit_under) // (value_under * unit_over)


def plain(value: Decimal) -> str:
    """The decimal as text with no exponent, the form in which decimals travel in JSON."""
    return format(value, "f")
