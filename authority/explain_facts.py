"""What `explain` tells from: a symbol's tenures, refusals, withdrawals and operators' actions, in one snapshot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection, transaction

from exchange.errors import UnknownSymbol
from mmproject import query

Row = dict[str, Any]

# Of each kind the newest ones. A story longer than that is not read by people; what is left out is said.
FACTS_MAX: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Rows as the tables have them, oldest first. `tenures` begins with the one before the period, if there is one."""

    symbol: str
    since: datetime
    at: datetime
    lease: Row
    tenures: list[Row]
    refusals: list[Row]
    withdrawals: list[Row]
    audits: list[Row]
    rebalances: list[Row]
    truncated: bool


@contextmanager
def one_snapshot() -> Iterator[None]:
    """Everything inside reads the same moment, unless the caller has a transaction of its own: then that one's."""
    if connection.in_atomic_block:
        yield
        return
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield


def read(symbol: str, last: timedelta) -> Facts:
    """The facts of the last while. Takes no lock. Raises UnknownSymbol."""
    with one_snapshot():
        lease = _lease(symbol)
        at = lease["at"]
        since = at - last
        tenures = _tenures(symbol, since)
        refusals = _newest(
            "SELECT id, at, node, incarnation, epoch, reason, current_epoch FROM authority_refusal"
            " WHERE symbol = %s AND at >= %s ORDER BY at DESC, id DESC LIMIT %s",
            [symbol, since],
        )
        nodes = {row["node"] for row in tenures} | {lease["assigned_node"]}
        audits = _newest(
            "SELECT id, (xid::xid)::text::bigint AS xid, at, actor, action, target, before::text, after::text, reason"
            " FROM journal_audit WHERE (target = %s OR target = ANY (%s) AND action IN ('drain', 'undrain'))"
            " AND at >= %s ORDER BY id DESC LIMIT %s",
            [symbol, sorted(nodes - {None}), since],
        )
        withdrawals = _newest(
            # The journal's word for them, written in the same commit: the quote versions are dropped after a while.
            "SELECT (data ->> 'version')::bigint AS version, (xid::xid)::text::bigint AS xid, at,"
            "       (data ->> 'epoch')::bigint AS epoch, node, data ->> 'reason' AS reason"
            " FROM journal_activity WHERE kind = 'quote_withdrawn' AND symbol = %s AND at >= %s"
            " ORDER BY id DESC LIMIT %s",
            [symbol, since],
        )
        rebalances = _newest("SELECT * FROM authority_rebalance ORDER BY generation DESC LIMIT %s", [])
    for row in audits:
        row["before"], row["after"] = json.loads(row["before"]), json.loads(row["after"])
    return Facts(
        symbol=symbol,
        since=since,
        at=at,
        lease=lease,
        tenures=tenures,
        refusals=refusals,
        withdrawals=withdrawals,
        audits=audits,
        rebalances=rebalances,
        truncated=FACTS_MAX in map(len, (tenures, refusals, withdrawals, audits)),
    )


def _newest(statement: str, parameters: list[Any]) -> list[Row]:
    """The newest FACTS_MAX rows of a statement that takes a limit last, oldest first."""
    return query.rows(statement, [*parameters, FACTS_MAX])[::-1]


def _lease(symbol: str) -> Row:
    """Who holds the symbol now, who should, and whether it is quoted. `at` is the snapshot's time."""
    found = query.rows(
        "SELECT statement_timestamp() AS at, q.quoting_enabled, l.epoch, l.node, l.incarnation, l.granted_at,"
        "       i.expires_at, i.ttl_ms, a.node AS assigned_node, a.generation AS assigned_generation,"
        "       s.at AS switched_at, s.actor AS switched_by, s.reason AS switched_reason"
        "  FROM exchange_quote q"
        "  LEFT JOIN authority_lease l ON l.symbol = q.symbol"
        "  LEFT JOIN authority_incarnation i ON i.id = l.incarnation"
        "  LEFT JOIN authority_assignment a ON a.symbol = q.symbol"
        "  LEFT JOIN LATERAL (SELECT * FROM journal_audit j WHERE j.target = q.symbol"
        "                        AND j.action IN ('quoting_on', 'quoting_off') AND j.before <> j.after"
        "                      ORDER BY j.id DESC LIMIT 1) s ON true"
        " WHERE q.symbol = %s",
        [symbol],
    )
    if not found:
        raise UnknownSymbol(f"there is no symbol {symbol}")
    return found[0]


def _tenures(symbol: str, since: datetime) -> list[Row]:
    """The tenures that reach into the period, and the one before them: a grant is told by what it follows."""
    return query.rows(
        "SELECT * FROM ("
        "  SELECT t.epoch, t.node, t.incarnation, t.granted_at, t.ended_at, t.reason, i.ttl_ms,"
        "         CASE 'released' WHEN i.ending THEN i.ending_at WHEN i.end_reason THEN i.ended_at END AS left_at"
        "    FROM authority_tenure t LEFT JOIN authority_incarnation i ON i.id = t.incarnation"
        "   WHERE t.symbol = %s AND t.epoch >= coalesce((SELECT max(e.epoch) FROM authority_tenure e"
        "         WHERE e.symbol = t.symbol AND e.ended_at < %s), 0)"
        "   ORDER BY t.epoch DESC LIMIT %s) AS newest ORDER BY epoch",
        [symbol, since, FACTS_MAX],
    )
