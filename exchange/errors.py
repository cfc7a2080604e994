"""What a user of the exchange can do wrong. Each has a stable `code`, which is part of the API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmproject.errors import UsageError, UserError


class ExchangeError(UserError):
    """Refused, and nothing changed."""

    code = "refused"


class UnknownSymbol(ExchangeError):
    """There is no such symbol."""

    exit_code = 2
    code = "unknown_symbol"


class UnknownOrder(ExchangeError):
    """There is no order by that id."""

    code = "unknown_order"


class OrderNotOpen(ExchangeError):
    """The order is filled or rejected: nothing is left to cancel."""

    code = "not_open"


class SymbolsLocked(UserError):
    """The kill switch was not thrown for `left`, whose rows somebody keeps locked; it was for `changed`."""

    code = "symbols_locked"

    def __init__(self, enabled: bool, changed: Sequence[Any], left: Sequence[str]) -> None:
        state = "on" if enabled else "off"
        done = f"is {state} for {len(changed)} of {len(changed) + len(left)} symbols, but " if changed else ""
        named = ", ".join(left[:LEFT_NAMED_MAX]) + (" ..." if len(left) > LEFT_NAMED_MAX else "")
        super().__init__(
            f"quoting {done}could not be turned {state} for {named}, locked by somebody else for seconds:"
            " try again, and see the runbook for who it is"
        )
        self.changed = changed
        self.left = left


class InvalidParameters(ExchangeError):
    """A quoting parameter is unknown or out of its range."""

    exit_code = 2
    code = "invalid_parameters"


class OrderRefused(ExchangeError):
    """The order can't be taken as it is; `code` says why (see ORDER_REFUSALS)."""

    def __init__(self, code: str) -> None:
        super().__init__(ORDER_REFUSALS.get(code, code))
        self.code = code


class MarketDiffers(UsageError):
    """The data below var/ belong to a market with another seed."""


LEFT_NAMED_MAX = 20

ORDER_REFUSALS = {
    "unknown_symbol": "there is no such symbol",
    "invalid_order_id": "client_order_id must be 1 to 64 of A-Z a-z 0-9 . _ : -, not beginning with . _ : - or ext-",
    "invalid_side": "side must be buy or sell",
    "invalid_type": "type must be limit or market",
    "invalid_time_in_force": "time_in_force must be GTC, IOC or FOK, and IOC or FOK for a market order",
    "invalid_price": "a limit order needs a price above 0 and below 10^15, a market order takes none",
    "invalid_quantity": "quantity must be above 0 and below 10^15",
    "off_tick": "price must be a multiple of the symbol's tick_size",
    "off_lot": "quantity must be a multiple of the symbol's lot_size",
    "duplicate_client_order_id": "another order has been sent under this client_order_id",
}

PARAMETER_RANGES = (
    "half_spread_ticks must be a whole number of 1 to 10000, skew_ticks of 0 to 10000,"
    " quote_size a positive multiple of the symbol's lot_size, position_limit 0 to 10^15"
)
