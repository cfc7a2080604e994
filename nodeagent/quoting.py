"""The quote a node proposes: a pure function of reference price, position and the symbol's parameters.

Simple on purpose. Both sides stand half a spread from a centre, which moves against the position (inventory
skew) so that the side that brings the position back is the better price. Exact: rational arithmetic on
integers, no rounding but the one to the tick.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from exchange.grid import floor_count, on_grid


@dataclass(frozen=True, slots=True)
class QuotingParameters:
    """What a symbol is quoted with: spreads and skew in ticks, size and limit as quantities on lot."""

    tick_size: Decimal
    lot_size: Decimal
    half_spread_ticks: int
    skew_ticks: int
    quote_size: Decimal
    position_limit: Decimal


@dataclass(frozen=True, slots=True)
class TwoSidedQuote:
    """A bid and an ask; a side that is withdrawn has neither price nor quantity."""

    bid_price: Decimal | None
    bid_quantity: Decimal | None
    ask_price: Decimal | None
    ask_quantity: Decimal | None


def quote(reference: Decimal, position: Decimal, parameters: QuotingParameters) -> TwoSidedQuote:
    """The quote for a reference price and a signed position (long > 0).

    The bid is floored to the tick and at least one tick; the ask is ceiled and above the bid. A side is as
    large as quote_size, less where a full fill of it would breach position_limit, withdrawn where not even
    one lot is left.
    """
    bid_ticks, ask_ticks = _prices_ticks(reference, position, parameters)
    bid_lots, ask_lots = _sizes_lots(position, parameters)
    tick_size, lot_size = parameters.tick_size, parameters.lot_size
    return TwoSidedQuote(
        bid_price=on_grid(bid_ticks, tick_size) if bid_lots else None,
        bid_quantity=on_grid(bid_lots, lot_size) if bid_lots else None,
        ask_price=on_grid(ask_ticks, tick_size) if ask_lots else None,
        ask_quantity=on_grid(ask_lots, lot_size) if ask_lots else None,
    )


def _prices_ticks(reference: Decimal, position: Decimal, parameters: QuotingParameters) -> tuple[int, int]:
    """Bid and ask in ticks, around the centre: reference - skew_ticks * position / position_limit."""
    reference_over, reference_under = reference.as_integer_ratio()
    tick_over, tick_under = parameters.tick_size.as_integer_ratio()
    over, under = reference_over * tick_under, reference_under * tick_over
    limit = parameters.position_limit
    if limit > 0:
        # Beyond the limit (it may have been lowered) the skew stays at its most.
        clamped = max(-limit, min(position, limit))
        position_over, position_under = clamped.as_integer_ratio()
        limit_over, limit_under = limit.as_integer_ratio()
        skew_over = parameters.skew_ticks * position_over * limit_under
        skew_under = position_under * limit_over
        over, under = over * skew_under - skew_over * under, under * skew_under
    bid_ticks = max(over // under - parameters.half_spread_ticks, 1)
    ask_ticks = max(-(-over // under) + parameters.half_spread_ticks, bid_ticks + 1)
    return bid_ticks, ask_ticks


def _sizes_lots(position: Decimal, parameters: QuotingParameters) -> tuple[int, int]:
    """Bid and ask size in lots, so that neither side, filled whole, leaves the position outside its limit."""
    lot_size = parameters.lot_size
    size_lots = floor_count(parameters.quote_size, lot_size)
    room_to_buy = floor_count(parameters.position_limit - position, lot_size)
    room_to_sell = floor_count(parameters.position_limit + position, lot_size)
    return max(min(size_lots, room_to_buy), 0), max(min(size_lots, room_to_sell), 0)
