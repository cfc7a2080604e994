"""The ledger's shapes in the API (DESIGN, section 8)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from mmproject.paging import DecimalText, UtcText


class FillOut(BaseModel):
    """A trade of ours; `side` is ours."""

    fill_id: str
    symbol: str
    sequence: int
    side: Literal["buy", "sell"]
    price: DecimalText
    quantity: DecimalText
    client_order_id: str
    quote_version: int
    epoch: int
    node: str
    filled_at: UtcText


class ActivityOut(BaseModel):
    """One thing that happened. `id` is its position in the log; `data` depends on the kind."""

    id: str
    at: UtcText
    kind: str
    symbol: str | None
    node: str | None
    data: dict[str, Any]
