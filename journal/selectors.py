"""What can be read of the journal."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from mmproject import query


def activity(*, after: tuple[int, int], symbol: str | None = None, limit: int) -> list[dict[str, Any]]:
    """Up to `limit` entries behind the position `after` = (xid, id), oldest first in the order of commits.

    Below pg_snapshot_xmin every transaction has ended, so nothing can appear before what has been read. Each has
    `id` (its position, "xid-id"), at, kind, symbol, node, data.
    """
    found = query.rows(
        "SELECT xid::text || '-' || id AS id, at, kind, symbol, node, data FROM journal_activity"
        " WHERE (xid, id) > (%s::text::xid8, %s) AND xid < pg_snapshot_xmin(pg_current_snapshot())"
        "   AND (%s::text IS NULL OR symbol = %s)"
        " ORDER BY journal_activity.xid, journal_activity.id LIMIT %s",
        [after[0], after[1], symbol, symbol, limit],
    )
    return [{**row, "data": json.loads(row["data"], parse_float=Decimal)} for row in found]
