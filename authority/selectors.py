"""What can be read of the authority."""

from __future__ import annotations

from typing import Any

from mmproject import query
from mmproject.paging import ListQuery, SymbolListQuery, state_page


def nodes(asked: ListQuery) -> dict[str, Any]:
    """A page of the nodes with their latest incarnations, the one that registered last first.

    `state` is `active`, `draining`, or `ended` (its incarnation ended or expired); `symbols` is how many leases in
    force it holds.
    """
    return state_page(
        "SELECT n.name, i.id::text AS incarnation,"
        "       CASE WHEN i.ended_at IS NOT NULL OR i.expires_at <= clock_timestamp() THEN 'ended'"
        "            WHEN n.draining THEN 'draining' ELSE 'active' END AS state,"
        "       i.registered_at, i.expires_at, coalesce(held.symbols, 0) AS symbols,"
        "       (extract(epoch FROM i.registered_at) * 1000000)::bigint AS sort, n.name AS key"
        "  FROM authority_node n"
        "  JOIN (SELECT DISTINCT ON (node) * FROM authority_incarnation ORDER BY node, serial DESC) i"
        "    ON i.node = n.name"
        "  LEFT JOIN (SELECT incarnation, count(*) AS symbols FROM authority_lease_in_force GROUP BY incarnation) held"
        "         ON held.incarnation = i.id",
        [],
        asked,
    )


def assignments(asked: SymbolListQuery) -> dict[str, Any]:
    """A page of which node should hold which symbol, the latest generation first."""
    return state_page(
        "SELECT symbol, node, generation, generation AS sort, symbol AS key"
        "  FROM authority_assignment WHERE %s::text IS NULL OR symbol = %s",
        [asked.symbol, asked.symbol],
        asked,
    )


def leases(asked: SymbolListQuery) -> dict[str, Any]:
    """A page of the leases in force, the latest grant first."""
    return state_page(
        "SELECT symbol, node, incarnation::text AS incarnation, epoch, granted_at, expires_at,"
        "       (extract(epoch FROM granted_at) * 1000000)::bigint AS sort, symbol AS key"
        "  FROM authority_lease_in_force WHERE %s::text IS NULL OR symbol = %s",
        [asked.symbol, asked.symbol],
        asked,
    )


def history(symbol: str, *, after_epoch: int, limit: int) -> list[dict[str, Any]]:
    """Up to `limit` tenures of a symbol above an epoch, oldest first. Epochs commit in their order, under its lock."""
    return query.rows(
        "SELECT epoch, node, incarnation::text AS incarnation, granted_at, ended_at, reason"
        "  FROM authority_tenure WHERE symbol = %s AND epoch > %s ORDER BY epoch LIMIT %s",
        [symbol, after_epoch, limit],
    )
