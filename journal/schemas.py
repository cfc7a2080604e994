"""The journal's shapes in the API."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from mmproject.paging import UtcText


class ActivityOut(BaseModel):
    """One thing that happened. `id` is its position in the log; `data` depends on the kind."""

    id: str
    at: UtcText
    kind: str
    symbol: str | None
    node: str | None
    data: dict[str, Any]
