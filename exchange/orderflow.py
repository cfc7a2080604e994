"""External orders: the deterministic customers of the simulated exchange.

What step k of a symbol brings follows from (seed, symbol's spec, k) alone: no state, no clock, no order book.
So a step may be computed again by anybody, at any time and in any order, and gives the same orders under the
same ids. That is what makes a task that ran twice, half-way or on two workers harmless (I15).

Orders come in bursts, lean to one side for a while, are mostly small and rarely larger than a quote. About
three in five cross a typical quote; the others rest inside, around or away from the spread, until a later
step cancels them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from exchange.catalogue import SymbolSpec
from exchange.grid import floor_count, on_grid, plain
from exchange.prices import reference_price

# What a resting order lives for, in steps, before its cancel comes. A few fixed lifetimes, so that a step
# finds what it must cancel by looking back at these steps only; the longest bounds the book: no generated
# order rests longer.
LIFETIMES_STEPS: Final = (2, 5, 11, 23, 47)

# Orders per step is spread over bursts of 32 steps: a rate in eighths of the mean, drawn per burst. Mean
# exactly 8/8.
_BURST_STEPS: Final = 32
_BURST_EIGHTHS: Final = (2, 2, 4, 4, 4, 6, 6, 6, 8, 8, 8, 8, 10, 12, 16, 24)
# How many of 256 orders buy, drawn per stretch of 64 steps: 128 on average, so that positions swing both
# ways.
_LEAN_STEPS: Final = 64
_LEAN_OF_256: Final = (80, 96, 108, 118, 138, 148, 160, 176)


@dataclass(frozen=True, slots=True)
class ExternalOrder:
    """One order as `exchange_submit_orders_v4` takes it. Market orders have no price."""

    client_order_id: str
    symbol: str
    side: str
    type: str
    time_in_force: str
    price: Decimal | None
    quantity: Decimal
    step: int

    def as_json(self) -> dict[str, str | int | None]:
        """The submission: decimals as strings."""
        return {
            "client_order_id": self.client_order_id,
            "symbol": self.symbol,
            "side": self.side,
            "type": self.type,
            "time_in_force": self.time_in_force,
            "price": None if self.price is None else plain(self.price),
            "quantity": plain(self.quantity),
            "step": self.step,
        }


@dataclass(frozen=True, slots=True)
class ExternalCancel:
    """The cancel of an earlier order, which may be gone by then: "not_open" is a normal answer to it."""

    client_order_id: str

    def as_json(self) -> dict[str, str | int | None]:
        """The submission."""
        return {"cancel": self.client_order_id}


@dataclass(frozen=True, slots=True)
class _Kind:
    """A sort of customer: how the order is priced, and whether it may rest."""

    type: str
    time_in_force: str
    # The limit against the reference, as seen from the order's side: > 0 pays up through the far quote, < 0
    # waits. Lowest value in eighths of the half-spread, and how many eighths above it the range goes on.
    from_eighths: int = 0
    range_eighths: int = 1


# (orders of 256, kind); the quote stands half a spread (8 eighths) away from the reference, less or more by
# its skew.
_KINDS: Final[tuple[tuple[int, _Kind], ...]] = (
    (66, _Kind("market", "IOC")),
    (8, _Kind("market", "FOK")),
    (70, _Kind("limit", "IOC", 6, 14)),  # crosses, unless the quote is skewed away
    (14, _Kind("limit", "FOK", 8, 12)),
    (8, _Kind("limit", "IOC", -8, 8)),  # asks for too good a price: cancelled
    (50, _Kind("limit", "GTC", -12, 18)),  # rests inside or around the spread
    (14, _Kind("limit", "GTC", 4, 8)),  # marketable for part of its size, and the remainder rests
    (26, _Kind("limit", "GTC", -96, 80)),  # rests away from the market
)
_KIND_OF_BYTE: Final = tuple(kind for weight, kind in _KINDS for _ in range(weight))
assert len(_KIND_OF_BYTE) == 256, "the weights of the kinds add up to 256"


def external_orders(seed: int, spec: SymbolSpec, step: int) -> list[ExternalOrder | ExternalCancel]:
    """What step `step` brings for one symbol, in the order to submit it: cancels first, then new orders.

    Every order is valid: on tick, on lot, above zero. The result depends on the spec, so a caller that lets
    an operator change a symbol's parameters accepts other orders from then on; ids only depend on
    `orders_per_step`.
    """
    flow: list[ExternalOrder | ExternalCancel] = [
        ExternalCancel(order_id) for order_id in _due_cancels(seed, spec.name, spec.orders_per_step, step)
    ]
    order_ids = external_order_ids(seed, spec.name, spec.orders_per_step, step)
    if not order_ids:
        return flow
    price = reference_price(seed, spec.name, spec.seed_price, spec.tick_size, spec.volatility_bps, step)
    reference_ticks = floor_count(price, spec.tick_size)
    quote_lots = max(floor_count(spec.quote_size, spec.lot_size), 1)
    lean = _drawn(seed, spec.name, "lean", step // _LEAN_STEPS, _LEAN_OF_256)
    for index, order_id in enumerate(order_ids):
        draw = _order_draw(seed, spec.name, step, index)
        kind = _KIND_OF_BYTE[draw[0]]
        buys = draw[1] < lean
        limit: Decimal | None = None
        if kind.type == "limit":
            eighths = kind.from_eighths + int.from_bytes(draw[2:4], "big") % kind.range_eighths
            # A half-spread below two ticks would round most limits to the reference itself.
            offset_ticks = eighths * max(spec.half_spread_ticks, 2) // 8
            limit = on_grid(max(reference_ticks + (offset_ticks if buys else -offset_ticks), 1), spec.tick_size)
        flow.append(
            ExternalOrder(
                client_order_id=order_id,
                symbol=spec.name,
                side="buy" if buys else "sell",
                type=kind.type,
                time_in_force=kind.time_in_force,
                price=limit,
                quantity=on_grid(_lots(draw, quote_lots), spec.lot_size),
                step=step,
            )
        )
    return flow


def external_order_ids(seed: int, symbol: str, orders_per_step: Decimal, step: int) -> list[str]:
    """The ids of a step's orders, without their prices: what `verify` expects to find exactly once (I15)."""
    return [f"ext-{symbol}-{step:09d}-{index}" for index in range(_orders_count(seed, symbol, orders_per_step, step))]


def _orders_count(seed: int, symbol: str, orders_per_step: Decimal, step: int) -> int:
    """How many orders a step brings: the burst's rate, its fraction decided by a draw."""
    assert step >= 0, f"steps start at 0, not {step}"
    over, under = orders_per_step.as_integer_ratio()
    rate_over = over * _drawn(seed, symbol, "burst", step // _BURST_STEPS, _BURST_EIGHTHS)
    whole, fraction = divmod(rate_over, under * 8)
    draw = blake2b(f"{seed}/{symbol}/{step}".encode(), digest_size=4, person=b"mm-orders").digest()
    return whole + (int.from_bytes(draw, "big") * under * 8 < fraction << 32)


def _due_cancels(seed: int, symbol: str, orders_per_step: Decimal, step: int) -> Iterator[str]:
    """The ids of the earlier resting orders whose lifetime ends at this step, oldest first."""
    for lifetime in reversed(LIFETIMES_STEPS):
        placed_at = step - lifetime
        if placed_at < 0:
            continue
        for index, order_id in enumerate(external_order_ids(seed, symbol, orders_per_step, placed_at)):
            draw = _order_draw(seed, symbol, placed_at, index)
            rests = _KIND_OF_BYTE[draw[0]].time_in_force == "GTC"
            if rests and LIFETIMES_STEPS[draw[4] % len(LIFETIMES_STEPS)] == lifetime:
                yield order_id


def _order_draw(seed: int, symbol: str, step: int, index: int) -> bytes:
    """The bytes that decide an order: 0 kind, 1 side, 2-3 price, 4 lifetime, 5 class of size, 6-9 size."""
    return blake2b(f"{seed}/{symbol}/{step}/{index}".encode(), digest_size=10, person=b"mm-order").digest()


def _lots(draw: bytes, quote_lots: int) -> int:
    """The size in lots: 3 in 4 up to a quarter of a quote, 1 in 5 up to a whole one, else up to 2.5."""
    size = int.from_bytes(draw[6:10], "big")
    if draw[5] < 192:
        return 1 + size % max(quote_lots // 4, 1)
    if draw[5] < 243:
        return 1 + size % quote_lots
    return quote_lots + 1 + size % max(quote_lots * 3 // 2, 1)


@lru_cache(maxsize=65_536)
def _drawn(seed: int, symbol: str, purpose: str, period: int, choices: tuple[int, ...]) -> int:
    """One of the choices, drawn for a whole period of steps; cached, because each of them asks again."""
    draw = blake2b(f"{seed}/{symbol}/{period}".encode(), digest_size=4, person=f"mm-{purpose}".encode()).digest()
    return choices[int.from_bytes(draw, "big") % len(choices)]
