"""The exchange's shapes in the API (DESIGN, section 8)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.functional_validators import AfterValidator
from pydantic_core import PydanticCustomError

from mmproject.apiparser import DecimalIn, Reason
from mmproject.paging import DecimalText, SymbolListQuery, UtcText

ORDER_ID_LENGTH_MAX = 64
SYMBOL_LENGTH_MAX = 16
ORDERS_PER_BATCH_MAX = 1000

Side = Literal["buy", "sell"]
OrderType = Literal["limit", "market"]
TimeInForce = Literal["GTC", "IOC", "FOK"]
Status = Literal["filled", "partially_filled", "resting", "cancelled", "rejected"]


def _name(value: str) -> str:
    """Whether the symbol exists is the exchange's to say; here only what could not even be asked for."""
    if not (value.isascii() and value.isprintable()):
        raise PydanticCustomError("unknown_symbol", "there is no such symbol")
    return value


class OrderIn(BaseModel):
    """An order. Decimals are strings; price is for limit orders only, on the symbol's tick; quantity on its lot."""

    model_config = ConfigDict(extra="forbid", strict=True)

    client_order_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$", description="the idempotency key")
    symbol: Annotated[str, Field(min_length=1, max_length=SYMBOL_LENGTH_MAX), AfterValidator(_name)]
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    price: DecimalIn | None = None
    quantity: DecimalIn


class OrderBatchIn(BaseModel):
    """Orders to be taken one after another. All of them must be well-formed, or none is taken."""

    model_config = ConfigDict(extra="forbid", strict=True)

    orders: list[OrderIn] = Field(min_length=1, max_length=ORDERS_PER_BATCH_MAX)


class OrderFillOut(BaseModel):
    """One trade of an order."""

    fill_id: str
    price: str
    quantity: str


class OrderAnswerOut(BaseModel):
    """An order's state. `reject_code` is fok_unfillable or no_liquidity when status is rejected."""

    client_order_id: str
    status: Status
    filled_quantity: str
    remaining_quantity: str
    average_price: str | None
    fills: list[OrderFillOut]
    reject_code: str | None


class OrderRefusedOut(BaseModel):
    """Why an order of a batch was not taken, as it would have been told alone."""

    client_order_id: str
    code: str
    detail: str


class OrderBatchOut(BaseModel):
    """An answer for each order, in their order."""

    items: list[OrderAnswerOut | OrderRefusedOut]


class OrderOut(BaseModel):
    """An order in the list of orders."""

    client_order_id: str
    symbol: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    price: DecimalText | None
    quantity: DecimalText
    status: Status
    filled_quantity: DecimalText
    remaining_quantity: DecimalText
    average_price: DecimalText | None
    reject_code: str | None
    created_at: UtcText
    updated_at: UtcText


class OrderListQuery(SymbolListQuery):
    """Orders can be narrowed to one status, too."""

    status: Status | None = Field(None, description="of this status only")


class SymbolOut(BaseModel):
    """A symbol and how it is quoted."""

    symbol: str
    tick_size: DecimalText
    lot_size: DecimalText
    quoting_enabled: bool
    position_limit: DecimalText
    half_spread_ticks: int
    skew_ticks: int
    quote_size: DecimalText


class PriceOut(BaseModel):
    """A reference price."""

    symbol: str
    price: DecimalText
    step: int
    at: UtcText


class QuoteOut(BaseModel):
    """An active quote; quantities are what is left of it."""

    symbol: str
    bid_price: DecimalText | None
    bid_quantity: DecimalText | None
    ask_price: DecimalText | None
    ask_quantity: DecimalText | None
    version: int
    epoch: int
    node: str
    published_at: UtcText
    valid_until: UtcText


class PositionOut(BaseModel):
    """A position, marked at the reference price."""

    symbol: str
    quantity: DecimalText
    average_cost: DecimalText
    cash: DecimalText
    realised_pnl: DecimalText
    unrealised_pnl: DecimalText
    version: int
    updated_at: UtcText


class QuotingIn(BaseModel):
    """The kill switch."""

    model_config = ConfigDict(extra="forbid", strict=True)

    enabled: bool
    reason: Reason = ""


class ToggleOut(BaseModel):
    """A symbol's switch before and after."""

    symbol: str
    before: bool
    after: bool
