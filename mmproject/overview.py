"""The whole system at one moment, for `manage.py status`: read in one snapshot, in the API's own shapes and names."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from django.db import connection, transaction

from mmproject import query

Row = dict[str, Any]

RATE_WINDOW_S: Final = 10
RATE_ROWS_MAX: Final = 100_000  # the newest orders that the rate is counted from: a bound on the read, not a limit

# Each as its list in the API (DESIGN, section 8); whatever is derived from the present moment ends in _ms.
_NODES = """
    SELECT n.name, i.id AS incarnation,
           CASE WHEN i.id IS NULL OR i.ended_at IS NOT NULL OR i.expires_at <= clock_timestamp() THEN 'ended'
                WHEN n.draining THEN 'draining' ELSE 'active' END AS state,
           n.draining, i.registered_at, i.expires_at, i.end_reason,
           (SELECT count(*) FROM authority_lease_in_force l WHERE l.node = n.name) AS symbols
      FROM authority_node n
      LEFT JOIN (SELECT DISTINCT ON (node) * FROM authority_incarnation ORDER BY node, serial DESC) i ON i.node = n.name
     ORDER BY n.name COLLATE "C"
"""
_SYMBOLS = 'SELECT symbol, quoting_enabled FROM exchange_quote ORDER BY symbol COLLATE "C"'
_LEASES = """
    SELECT symbol, node, incarnation, epoch, granted_at, expires_at
      FROM authority_lease_in_force ORDER BY symbol COLLATE "C"
"""
_QUOTES = """
    SELECT symbol, bid_price, bid_quantity, ask_price, ask_quantity, version, quote_epoch AS epoch, quote_node AS node,
           published_at, valid_until
      FROM exchange_quote WHERE published_at IS NOT NULL AND valid_until > clock_timestamp() ORDER BY symbol COLLATE "C"
"""
_PRICES = 'SELECT symbol, price, step, at FROM exchange_price ORDER BY symbol COLLATE "C"'
_POSITIONS = """
    SELECT symbol, quantity, average_cost, cash, realised_pnl, unrealised_pnl, version, updated_at
      FROM exchange_position_marked ORDER BY symbol COLLATE "C"
"""
_CLOCK = "SELECT step, orders_step, tick_ms, seed, due_at FROM exchange_clock"
# Ids rise with arrival, so the newest orders are found by them; their times have no index.
_RATE = """
    SELECT count(*) FROM exchange_order
     WHERE id > (SELECT coalesce(max(id), 0) FROM exchange_order) - %s
       AND created_at > clock_timestamp() - %s * interval '1 second'
"""


@dataclass(frozen=True, slots=True)
class Overview:
    """Rows as the API lists them, and the database's clock at which they were read."""

    at: datetime
    clock: Row | None  # None before the market was made
    orders_per_second: Decimal
    nodes: list[Row]
    symbols: list[Row]
    leases: list[Row]
    quotes: list[Row]
    prices: list[Row]
    positions: list[Row]


def read() -> Overview:
    """Read it all in one repeatable-read snapshot. Takes no locks. Raises django.db.Error."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        clocks = query.rows(_CLOCK)
        orders = query.value(_RATE, [RATE_ROWS_MAX, RATE_WINDOW_S])
        return Overview(
            at=query.value("SELECT clock_timestamp()"),
            clock=clocks[0] if clocks else None,
            orders_per_second=Decimal(orders) / RATE_WINDOW_S,
            nodes=query.rows(_NODES),
            symbols=query.rows(_SYMBOLS),
            leases=query.rows(_LEASES),
            quotes=query.rows(_QUOTES),
            prices=query.rows(_PRICES),
            positions=query.rows(_POSITIONS),
        )
