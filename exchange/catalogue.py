"""The symbols that the exchange lists, and what each looks like: a fixed catalogue, the same on every
machine.

The first 26 are named and set by hand; the rest are generated from their number, in one of a dozen
characters, so that a market of thousands still holds cheap and dear, quiet and wild, coarse and fine
instruments.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from typing import Final

from exchange.grid import on_grid, plain

SYMBOLS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class SymbolSpec:
    """One symbol as `exchange_symbol` stores it: the grid, the path of its price, and the quoting parameters.

    Half-spread and skew count ticks; quote_size and position_limit are quantities on lot; volatility_bps is
    the standard deviation of the price's change over 3,600 steps; orders_per_step is the mean number of
    external orders.
    """

    name: str
    tick_size: Decimal
    lot_size: Decimal
    seed_price: Decimal
    volatility_bps: int
    half_spread_ticks: int
    skew_ticks: int
    quote_size: Decimal
    position_limit: Decimal
    orders_per_step: Decimal

    def as_json(self) -> dict[str, str | int]:
        """The object that `exchange_init_v1` takes: decimals as strings."""
        return {
            "name": self.name,
            "tick_size": plain(self.tick_size),
            "lot_size": plain(self.lot_size),
            "seed_price": plain(self.seed_price),
            "volatility_bps": self.volatility_bps,
            "half_spread_ticks": self.half_spread_ticks,
            "skew_ticks": self.skew_ticks,
            "quote_size": plain(self.quote_size),
            "position_limit": plain(self.position_limit),
            "orders_per_step": plain(self.orders_per_step),
        }


# name, tick, lot, seed price, volatility, half-spread, skew (ticks), quote size and position limit (lots),
# orders per step. Half-spreads are a few times the price's movement per step, so that a quote is worth
# hitting and worth replacing.
_Row = tuple[str, str, str, str, int, int, int, int, int, str]
_NAMED: Final[tuple[_Row, ...]] = (
    ("ALFA", "0.01", "1", "100.00", 60, 3, 4, 200, 4000, "1.2"),
    ("BRAVO", "0.05", "10", "48.50", 120, 2, 3, 50, 900, "0.9"),
    ("CHARLIE", "0.0001", "1000", "1.0850", 40, 2, 3, 100, 2500, "1.5"),
    ("DELTA", "0.5", "0.001", "42150.0", 150, 24, 30, 750, 12000, "1.4"),
    ("ECHO", "0.01", "100", "7.42", 180, 2, 3, 30, 450, "0.8"),
    ("FOXTROT", "0.25", "1", "5320.25", 55, 3, 5, 20, 300, "1.3"),
    ("GOLF", "0.1", "0.1", "1948.6", 70, 5, 6, 120, 2000, "1.0"),
    ("HOTEL", "0.005", "100", "2.315", 160, 2, 3, 80, 1200, "0.6"),
    ("INDIA", "1", "1", "18450", 65, 6, 8, 12, 180, "0.9"),
    ("JULIETT", "0.01", "5", "31.17", 110, 2, 4, 60, 800, "0.7"),
    ("KILO", "0.02", "1", "264.80", 85, 4, 5, 150, 2400, "1.0"),
    ("LIMA", "0.01", "0.01", "2280.40", 170, 90, 110, 400, 6000, "1.1"),
    ("MIKE", "0.001", "50", "0.684", 220, 2, 3, 200, 2600, "0.5"),
    ("NOVEMBER", "0.05", "1", "412.35", 50, 3, 4, 90, 1500, "0.8"),
    ("OSCAR", "0.0005", "500", "1.2765", 45, 2, 2, 60, 1100, "1.2"),
    ("PAPA", "0.01", "1", "15.98", 240, 2, 4, 300, 3600, "0.7"),
    ("QUEBEC", "5", "1", "96400", 60, 5, 6, 4, 60, "0.6"),
    ("ROMEO", "0.01", "10", "78.06", 95, 3, 4, 40, 700, "0.9"),
    ("SIERRA", "0.1", "1", "640.7", 130, 5, 7, 35, 500, "0.8"),
    ("TANGO", "0.001", "1", "9.914", 75, 4, 5, 800, 16000, "1.0"),
    ("UNIFORM", "0.01", "0.5", "128.33", 100, 5, 6, 160, 2200, "0.7"),
    ("VICTOR", "0.0001", "100", "0.0924", 350, 3, 4, 2500, 30000, "0.6"),
    ("WHISKEY", "0.25", "5", "86.75", 140, 2, 2, 25, 350, "0.5"),
    ("XRAY", "0.01", "0.001", "351.08", 280, 30, 36, 2000, 24000, "0.9"),
    ("YANKEE", "0.001", "1000", "0.370", 400, 2, 2, 15, 200, "0.3"),
    ("ZULU", "0.02", "20", "22.44", 90, 2, 3, 45, 750, "0.6"),
)

# tick, lot, lowest seed price and range (both in ticks), volatility, half-spread, skew, quote size, position
# limit (lots).
_Character = tuple[str, str, int, int, int, int, int, int, int]
_CHARACTERS: Final[tuple[_Character, ...]] = (
    ("0.01", "1", 4_000, 16_000, 60, 3, 4, 200, 4000),
    ("0.01", "10", 800, 4_000, 120, 2, 3, 60, 900),
    ("0.05", "1", 2_000, 9_000, 70, 3, 4, 100, 1600),
    ("0.0001", "1000", 6_000, 12_000, 45, 2, 3, 80, 2000),
    ("0.5", "0.001", 20_000, 90_000, 140, 22, 28, 600, 9000),
    ("0.25", "1", 4_000, 20_000, 55, 3, 5, 20, 300),
    ("0.1", "0.1", 5_000, 30_000, 80, 6, 8, 150, 2400),
    ("0.001", "50", 400, 3_000, 180, 2, 3, 150, 2000),
    ("0.02", "5", 1_500, 8_000, 90, 3, 4, 40, 700),
    ("1", "1", 6_000, 25_000, 65, 5, 7, 10, 160),
    ("0.005", "100", 300, 2_000, 150, 2, 3, 50, 750),
    ("0.0005", "500", 1_200, 4_000, 50, 2, 2, 70, 1200),
)


def catalogue(count: int) -> list[SymbolSpec]:
    """The first `count` symbols. A longer catalogue begins with the shorter one: nothing listed changes."""
    if not 1 <= count <= SYMBOLS_MAX:
        raise ValueError(f"a market has 1 to {SYMBOLS_MAX} symbols, not {count}")
    named = [_named(row) for row in _NAMED[:count]]
    return named + [_generated(number) for number in range(len(_NAMED) + 1, count + 1)]


def _named(row: _Row) -> SymbolSpec:
    name, tick, lot, seed_price, volatility, half_spread, skew, size, limit, orders = row
    tick_size, lot_size = Decimal(tick), Decimal(lot)
    return SymbolSpec(
        name=name,
        tick_size=tick_size,
        lot_size=lot_size,
        seed_price=Decimal(seed_price),
        volatility_bps=volatility,
        half_spread_ticks=half_spread,
        skew_ticks=skew,
        quote_size=on_grid(size, lot_size),
        position_limit=on_grid(limit, lot_size),
        orders_per_step=Decimal(orders),
    )


def _generated(number: int) -> SymbolSpec:
    """The symbol with that number in the catalogue, drawn from its number alone."""
    draw = blake2b(str(number).encode(), digest_size=32, person=b"mm-catalogue").digest()
    tick, lot, lowest, width, volatility, half_spread, skew, size, limit = _CHARACTERS[draw[0] % len(_CHARACTERS)]
    tick_size, lot_size = Decimal(tick), Decimal(lot)
    scale_pct = 50 + draw[1] % 151  # sizes from half to twice the character's
    return SymbolSpec(
        name=f"S{number:05d}",
        tick_size=tick_size,
        lot_size=lot_size,
        seed_price=on_grid(lowest + int.from_bytes(draw[2:6], "big") % width, tick_size),
        volatility_bps=volatility * (70 + draw[6] % 81) // 100,
        half_spread_ticks=half_spread + draw[7] % (1 + half_spread // 2),
        skew_ticks=skew + draw[8] % (1 + skew // 2),
        quote_size=on_grid(max(size * scale_pct // 100, 1), lot_size),
        position_limit=on_grid(max(limit * scale_pct // 100, 10), lot_size),
        # Quieter than the named ones, 0.02 to 0.17: ten thousand of them are still under a thousand orders a
        # step.
        orders_per_step=on_grid(2 + draw[9] % 16, Decimal("0.01")),
    )
