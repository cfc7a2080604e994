"""GET fills, GET activity. (Positions are marked at the exchange's prices: see exchange/api.py.)"""

from __future__ import annotations

import re
from typing import Any

from django.http import HttpRequest
from ninja import Query, Router

from ledger import selectors
from ledger.schemas import ActivityOut, FillOut
from mmproject.apierrors import ERRORS
from mmproject.paging import Page, SymbolLogQuery, invalid_cursor, log_page, number

router = Router(tags=["positions and fills"])

_FILL_ID = re.compile(r"[A-Z][A-Z0-9]{0,15}-[0-9]{12}", re.ASCII)


@router.get("/fills", response={200: Page[FillOut], **ERRORS}, operation_id="list_fills")
def list_fills(request: HttpRequest, asked: Query[SymbolLogQuery]) -> Any:
    """Our trades, oldest first. Resume with `?after=` and the fill_id of the last one seen."""
    after = asked.position
    if after is not None and not _FILL_ID.fullmatch(after):
        raise invalid_cursor()
    if asked.symbol is not None:
        rows = selectors.fills_of(asked.symbol, after=after or "", limit=asked.limit + 1)
    else:
        position = (0, 0) if after is None else selectors.position_of(after)
        if position is None:
            raise invalid_cursor()
        rows = selectors.fills(after=position, limit=asked.limit + 1)
    return log_page(rows, asked.limit, "fill_id")


@router.get("/activity", response={200: Page[ActivityOut], **ERRORS}, operation_id="list_activity", tags=["activity"])
def list_activity(request: HttpRequest, asked: Query[SymbolLogQuery]) -> Any:
    """What happened, oldest first. Resume with `?after=` and the id of the last item seen."""
    rows = selectors.activity(after=_activity_position(asked.position), symbol=asked.symbol, limit=asked.limit + 1)
    return log_page(rows, asked.limit, "id")


def _activity_position(cursor: str | None) -> tuple[int, int]:
    if cursor is None:
        return (0, 0)
    xid, dash, id_ = cursor.partition("-")
    if not dash:
        raise invalid_cursor()
    return (number(xid), number(id_))
