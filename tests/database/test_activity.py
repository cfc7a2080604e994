"""The activity is one list of two tables, and reading on costs what is read, not what has been written."""

from __future__ import annotations

import re

import pytest

from console.selectors import ACTIVITY_AFTER, ACTIVITY_LATEST
from tests.market import busy_market
from tests.support import Database

READINGS = {
    "after": (ACTIVITY_AFTER, ("'0'", "0", "100")),
    "latest": (ACTIVITY_LATEST, ("100",)),
    "api": (
        "SELECT xid FROM ledger_activity WHERE (xid, id) > ('0'::xid8, 0)"
        " AND xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY xid, id LIMIT 100",
        (),
    ),
}


@pytest.mark.parametrize("reading", READINGS)
def test_a_page_of_activity_comes_out_of_the_indexes_in_order(database: Database, reading: str) -> None:
    market = busy_market(database)
    market.admin.execute("SET enable_seqscan = off")  # few rows: reading all would be cheaper than an index
    query, values = READINGS[reading]
    for number, value in enumerate(values, start=1):
        query = query.replace(f"${number}", value)
    plan = "\n".join(row[0] for row in market.rows(f"EXPLAIN {query}"))

    assert "Merge Append" in plan
    assert {*re.findall(r"using (\w+)", plan)} == {"activity_commit_order", "fill_commit_order"}
    assert not re.search(r"\bSort\b(?! Key)", plan), plan


def test_each_fill_is_in_the_activity_once_among_what_its_transaction_did(database: Database) -> None:
    market = busy_market(database)
    fills = market.rows("SELECT xid, activity_id, fill_id FROM ledger_fill ORDER BY 1, 2")
    told = market.rows("SELECT xid, id, data ->> 'fill_id' FROM ledger_activity WHERE kind = 'fill' ORDER BY 1, 2")

    assert fills
    assert told == fills
    assert market.one("SELECT count(*) - count(DISTINCT id) FROM ledger_activity") == 0
