"""What can be read of the exchange."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from exchange.catalogue import SYMBOLS_MAX, SymbolSpec, catalogue
from mmproject import query

QUOTING_PARAMETERS = ("half_spread_ticks", "skew_ticks", "quote_size", "position_limit")


@dataclass(frozen=True, slots=True)
class ClockState:
    """The exchange's clock: its step, the last step whose external orders are all placed, and whether it is due."""

    seed: int
    step: int
    orders_step: int
    is_due: bool


def clock() -> ClockState:
    """The clock now; due half a tick early at most, as exchange_advance_clock_v1 has it."""
    found = query.rows(
        "SELECT seed, step, orders_step, clock_timestamp() >= due_at - tick_ms * interval '1 millisecond' / 2 AS is_due"
        "  FROM exchange_clock"
    )
    return ClockState(**found[0]) if found else ClockState(seed=0, step=0, orders_step=0, is_due=False)


def specs() -> list[SymbolSpec]:
    """Every symbol as the market was made with it, by name.

    An operator may change how we quote a symbol; the external orders, which follow from its spec, must not change with
    it, or a step that is computed again would bring other orders (I15). So the catalogue has the last word on its own.
    """
    found = [
        SymbolSpec(**row)
        for row in query.rows(
            "SELECT name, tick_size, lot_size, seed_price, volatility_bps, half_spread_ticks, skew_ticks, quote_size,"
            "       position_limit, orders_per_step FROM exchange_symbol ORDER BY name"
        )
    ]
    return [as_made(spec) for spec in found]


def as_made(spec: SymbolSpec) -> SymbolSpec:
    """The spec with the quoting parameters that the market was made with, where the catalogue knows it."""
    made = _catalogue().get(spec.name)
    if made is None:
        return spec
    quoting = {
        name: getattr(made, name) for name in ("half_spread_ticks", "skew_ticks", "quote_size", "position_limit")
    }
    return made if replace(spec, **quoting) == made else spec


@cache
def _catalogue() -> dict[str, SymbolSpec]:
    return {spec.name: spec for spec in catalogue(SYMBOLS_MAX)}
