"""The ledger's shapes in the API (DESIGN, section 8)."""

from __future__ import annotations

from typing import Literal

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
