"""The quote a node proposes: a pure function of reference price, position and the symbol's parameters.

Simple on purpose. Both sides stand half a spread from a centre, which moves against the position (inventory
skew) so that the side that brings the position back is the better price. Exact: rational arithmetic on
integers, no rounding but the one to the tick.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

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
    # What follows from them for every quote, worked out once: integer ratios, and the full size in lots and as it is.
    tick_ratio: tuple[int, int] = field(init=False, repr=False, compare=False)
    lot_ratio: tuple[int, int] = field(init=False, repr=False, compare=False)
    limit_ratio: tuple[int, int] = field(init=False, repr=False, compare=False)
    size_lots: int = field(init=False, repr=False, compare=False)
    full_size: Decimal = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        size_lots = floor_count(self.quote_size, self.lot_size)
        derived = {
            "tick_ratio": self.tick_size.as_integer_ratio(),
            "lot_ratio": self.lot_size.as_integer_ratio(),
            "limit_ratio": self.position_limit.as_integer_ratio(),
            "size_lots": size_lots,
            "full_size": on_grid(size_lots, self.lot_size),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)  # frozen for everybody else


class TwoSidedQuote(NamedTuple):
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
    held = position.as_integer_ratio()
    bid_ticks, ask_ticks = _prices_ticks(reference, held, parameters)
    bid_lots, ask_lots = _sizes_lots(held, parameters)
    tick_size = parameters.tick_size
    return TwoSidedQuote(
        on_grid(bid_ticks, tick_size) if bid_lots else None,
        _size(bid_lots, parameters),
        on_grid(ask_ticks, tick_size) if ask_lots else None,
        _size(ask_lots, parameters),
    )


def _prices_ticks(reference: Decimal, held: tuple[int, int], parameters: QuotingParameters) -> tuple[int, int]:
    """Bid and ask in ticks, around the centre: reference - skew_ticks * position / position_limit."""
    reference_over, reference_under = reference.as_integer_ratio()
    tick_over, tick_under = parameters.tick_ratio
    over, under = reference_over * tick_under, reference_under * tick_over
    limit_over, limit_under = parameters.limit_ratio
    position_over, position_under = held
    if limit_over > 0 and position_over:
        # The position as a share of its limit. Beyond the limit (it may have been lowered) the skew stays at its most.
        share_over, share_under = position_over * limit_under, position_under * limit_over
        share_over = max(-share_under, min(share_over, share_under))
        over, under = over * share_under - parameters.skew_ticks * share_over * under, under * share_under
    bid_ticks = max(over // under - parameters.half_spread_ticks, 1)
    ask_ticks = max(-(-over // under) + parameters.half_spread_ticks, bid_ticks + 1)
    return bid_ticks, ask_ticks


def _sizes_lots(held: tuple[int, int], parameters: QuotingParameters) -> tuple[int, int]:
    """Bid and ask size in lots, so that neither side, filled whole, leaves the position outside its limit."""
    limit_over, limit_under = parameters.limit_ratio
    lot_over, lot_under = parameters.lot_ratio
    position_over, position_under = held
    limit, position = limit_over * position_under, position_over * limit_under  # over the same denominator
    lot = limit_under * position_under * lot_over
    room_to_buy = (limit - position) * lot_under // lot
    room_to_sell = (limit + position) * lot_under // lot
    return max(min(parameters.size_lots, room_to_buy), 0), max(min(parameters.size_lots, room_to_sell), 0)


def _size(lots: int, parameters: QuotingParameters) -> Decimal | None:
    if lots == parameters.size_lots:
        return parameters.full_size if lots else None
    return on_grid(lots, parameters.lot_size) if lots else None
