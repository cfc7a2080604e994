"""GET activity."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Query, Router

from journal import selectors
from journal.schemas import ActivityOut
from mmproject.apierrors import ERRORS
from mmproject.paging import Page, SymbolLogQuery, invalid_cursor, log_page, number

router = Router(tags=["activity"])


@router.get("/activity", response={200: Page[ActivityOut], **ERRORS}, operation_id="list_activity")
def list_activity(request: HttpRequest, asked: Query[SymbolLogQuery]) -> Any:
    """What happened, oldest first. Resume with `?after=` and the id of the last item seen."""
    rows = selectors.activity(after=_position(asked.position), symbol=asked.symbol, limit=asked.limit + 1)
    return log_page(rows, asked.limit, "id")


def _position(cursor: str | None) -> tuple[int, int]:
    if cursor is None:
        return (0, 0)
    xid, dash, id_ = cursor.partition("-")
    if not dash:
        raise invalid_cursor()
    return (number(xid), number(id_))
