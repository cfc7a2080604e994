"""What the console reads. The statements are in console/sql; one round trip each, no locks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from django.db import connection

from console.words import group, sentence

_SQL = Path(__file__).resolve().parent / "sql"
STATE: Final = (_SQL / "state.sql").read_text(encoding="utf-8")
ACTIVITY_AFTER: Final = (_SQL / "activity_after.sql").read_text(encoding="utf-8")
ACTIVITY_LATEST: Final = (_SQL / "activity_latest.sql").read_text(encoding="utf-8")


def page_state() -> dict[str, Any]:
    """Symbols, nodes and summary as the page is first painted with; the stream takes over from there."""
    state: dict[str, Any] = {"symbols": [], "nodes": [], "summary": {}}
    with connection.cursor() as cursor:
        cursor.execute(STATE)
        for kind, _key, row in cursor.fetchall():
            if kind == "summary":
                state["summary"] = json.loads(row)
            else:
                state[f"{kind}s"].append(json.loads(row))
    return state


def activity_json(record: Mapping[str, Any]) -> str:
    """One row of the feed, as sent to the page, from a record of activity_after.sql or activity_latest.sql."""
    data = json.loads(record["data"])
    at: datetime = record["at"]
    return json.dumps(
        {
            "id": f"{record['xid']}-{record['id']}",
            "at": at.astimezone(UTC).isoformat(timespec="microseconds"),
            "kind": record["kind"],
            "group": group(record["kind"]),
            "symbol": record["symbol"],
            "node": record["node"],
            "side": data.get("side"),
            "text": sentence(record["kind"], record["node"], data),
        },
        separators=(",", ":"),
    )
