"""What can be read of the ledger."""

from __future__ import annotations

from typing import Any

from mmproject import query

_FILL = (
    "SELECT fill_id, symbol, sequence, side, price, quantity, client_order_id, quote_version, epoch, node, filled_at"
    "  FROM ledger_fill"
)


def fill_xid(fill_id: str) -> int | None:
    """The transaction that recorded a fill, or None when there is no such fill."""
    xid = query.value("SELECT xid::text FROM ledger_fill WHERE fill_id = %s", [fill_id])
    return None if xid is None else int(xid)


def fills(*, after: tuple[int, str], limit: int) -> list[dict[str, Any]]:
    """Up to `limit` fills behind the position (xid, fill_id), oldest first in the order of commits.

    Below pg_snapshot_xmin every transaction has ended, so nothing can appear before what has been read.
    """
    return query.rows(
        _FILL + " WHERE (xid, fill_id) > (%s::text::xid8, %s) AND xid < pg_snapshot_xmin(pg_current_snapshot())"
        " ORDER BY xid, fill_id LIMIT %s",
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
