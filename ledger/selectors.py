"""What can be read of the ledger."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from mmproject import query

_FILL = (
    "SELECT fill_id, symbol, sequence, side, price, quantity, client_order_id, quote_version, epoch, node, filled_at"
    "  FROM ledger_fill"
)


def position_of(fill_id: str) -> tuple[int, int] | None:
    """A fill's position in the activity, (xid, number), or None when there is no such fill."""
    found = query.rows("SELECT xid::text AS xid, activity_id FROM ledger_fill WHERE fill_id = %s", [fill_id])
    return (int(found[0]["xid"]), found[0]["activity_id"]) if found else None


def fills(*, after: tuple[int, int], limit: int) -> list[dict[str, Any]]:
    """Up to `limit` fills behind a position in the activity, oldest first in the order of commits.

    Below pg_snapshot_xmin every transaction has ended, so nothing can appear before what has been read.
    """
    return query.rows(
        _FILL + " WHERE (xid, activity_id) > (%s::text::xid8, %s) AND xid < pg_snapshot_xmin(pg_current_snapshot())"
        " ORDER BY xid, activity_id LIMIT %s",
        [*after, limit],
    )


def fills_of(symbol: str, *, after: str, limit: int) -> list[dict[str, Any]]:
    """Up to `limit` fills of one symbol behind `after` (a fill's id), oldest first.

    A symbol's fills commit in the order of their ids, since each is recorded under the symbol's lock.
    """
    first, end = f"{symbol}-", f"{symbol}."  # "." is the character after "-"
    return query.rows(
        _FILL + ' WHERE fill_id > greatest(%s, %s) COLLATE "C" AND fill_id < %s COLLATE "C" ORDER BY fill_id LIMIT %s',
        [first, after, end, limit],
    )


def activity(*, after: tuple[int, int], symbol: str | None = None, limit: int) -> list[dict[str, Any]]:
    """Up to `limit` entries behind the position `after` = (xid, id), oldest first in the order of commits.

    Below pg_snapshot_xmin every transaction has ended, so nothing can appear before what has been read. Each has
    `id` (its position, "xid-id"), at, kind, symbol, node, data.
    """
    found = query.rows(
        "SELECT xid::text || '-' || id AS id, at, kind, symbol, node, data FROM ledger_activity"
        " WHERE (xid, id) > (%s::text::xid8, %s) AND xid < pg_snapshot_xmin(pg_current_snapshot())"
        "   AND (%s::text IS NULL OR symbol = %s)"
        " ORDER BY ledger_activity.xid, ledger_activity.id LIMIT %s",
        [after[0], after[1], symbol, symbol, limit],
    )
    return [{**row, "data": json.loads(row["data"], parse_float=Decimal)} for row in found]
