"""What a node asks of the database, each as one statement with a typed result. No decisions are made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from nodeagent.connections import STATEMENT_TIMEOUT_S
from nodeagent.quoting import QuotingParameters, TwoSidedQuote


class Runs(Protocol):
    """Something that runs one statement (a Link)."""

    async def fetch(self, query: str, *arguments: Any, timeout_s: float = ...) -> list[Any]: ...


class Registration(NamedTuple):
    incarnation: UUID
    serial: int
    expires_at: datetime


class Renewal(NamedTuple):
    expires_at: datetime
    now: datetime
    next_expiry: datetime | None  # of the others
    generation: int


class Neighbour(NamedTuple):
    incarnation: UUID
    node: str
    serial: int


class Ended(NamedTuple):
    """A part of an incarnation's end, or all of it."""

    incarnation: UUID
    node: str
    reason: str
    symbols: int  # that were taken away
    done: bool


class Membership(NamedTuple):
    """Who could be given symbols, and whom the assignment in force was made for."""

    generation: int
    applied_members: list[str]
    members: list[str]
    draining: list[str]
    unassigned: int  # symbols without an assignment
    symbols: int = 0  # that there are


class Claim(NamedTuple):
    """A symbol that is assigned to us or held by us."""

    symbol: str
    is_assigned: bool
    is_held: bool
    is_free: bool
    epoch: int


class Due(NamedTuple):
    """What an incarnation should give away, and what it may ask for: at most as many as were asked about."""

    surplus: dict[str, int]  # held and assigned to another node: symbol and epoch
    free: list[str]  # assigned to this node, and held by nobody


class Grant(NamedTuple):
    symbol: str
    epoch: int | None
    outcome: str


class Outcome(NamedTuple):
    """What became of one symbol's quote."""

    symbol: str
    outcome: str
    version: int | None
    traded: bool


@dataclass(frozen=True, slots=True)
class Market:
    """What a symbol's next quote is made from, and what its present one is."""

    symbol: str
    price: Decimal
    position: Decimal
    position_version: int
    parameters_version: int
    parameters: QuotingParameters | None  # None: of the version that the reader knows
    quoting_enabled: bool
    quote_epoch: int | None
    is_live: bool  # published, and not past valid_until

    @property
    def basis(self) -> tuple[Decimal, int, int]:
        """What a quote follows from: it is replaced when this changes."""
        return self.price, self.position_version, self.parameters_version


NOBODY = UUID(int=0)

REGISTER = "SELECT incarnation, serial, expires_at FROM authority_register_v3($1, $2)"
RENEW = "SELECT expires_at, now, next_expiry, generation FROM authority_renew_v3($1)"
BEGIN_LEAVE = "SELECT authority_begin_leave_v1($1)"
LEAVE = "SELECT released, done FROM authority_leave_v3($1)"
_WATCH = "SELECT authority_watch_v1($1, $2)"
SWEEP = "SELECT incarnation, node, reason, symbols, done FROM authority_sweep_v3()"
_RING = """
    SELECT id, node, serial FROM authority_incarnation
     WHERE ended_at IS NULL AND id <> $1 ORDER BY node COLLATE "C"
"""
_MEMBERSHIP = """
    SELECT coalesce(last.generation, 0), coalesce(last.members, '{}'),
           ARRAY(SELECT node FROM authority_member ORDER BY node COLLATE "C"),
           ARRAY(SELECT name FROM authority_node WHERE draining ORDER BY name),
           -- Only symbols that are listed are assigned, and neither is ever deleted.
           (SELECT count(*) FROM exchange_symbol) - (SELECT count(*) FROM authority_assignment),
           (SELECT count(*) FROM exchange_symbol)
      FROM (SELECT) AS always
      LEFT JOIN (SELECT generation, members FROM authority_rebalance ORDER BY generation DESC LIMIT 1) last ON true
"""
_ASSIGNMENT = """
    SELECT s.name, a.node FROM exchange_symbol s LEFT JOIN authority_assignment a ON a.symbol = s.name
"""
_END_REASONS = """
    SELECT DISTINCT ON (node) node, coalesce(end_reason, ending) FROM authority_incarnation
     WHERE node = ANY ($1) AND (ended_at IS NOT NULL OR ending IS NOT NULL) ORDER BY node, serial DESC
"""
_APPLY = "SELECT authority_apply_assignment_v2($1, $2, $3, $4, $5, $6)"
# A lease is only ever granted for an assigned symbol, and assignments are not deleted: so the join misses none.
_CLAIMS = """
    SELECT a.symbol, a.node = $1, coalesce(l.incarnation = $2, false), l.incarnation IS NULL, coalesce(l.epoch, 0)
      FROM authority_assignment a LEFT JOIN authority_lease l ON l.symbol = a.symbol
     WHERE a.node = $1 OR l.incarnation = $2
     ORDER BY a.symbol
"""
# Found by who holds them, in whatever order: what follows takes its locks in that of the symbols. With 0 asked for, a
# half is not looked for.
_DUE = """
    (SELECT l.symbol, l.epoch, true AS is_surplus
       FROM authority_lease l JOIN authority_assignment a ON a.symbol = l.symbol
      WHERE l.incarnation = $2 AND a.node <> $1 LIMIT $3)
    UNION ALL
    (SELECT l.symbol, l.epoch, false AS is_surplus
       FROM authority_lease l JOIN authority_assignment a ON a.symbol = l.symbol
      WHERE l.incarnation IS NULL AND a.node = $1 LIMIT $4)
"""
ACQUIRE = "SELECT symbol, epoch, outcome FROM authority_acquire_v3($1, $2, $3)"
# A release need not be durable before the next grant, which comes after it in the log and is. A crash that takes it
# back ends our session too.
RELEASE = "SELECT authority_release_v3($1, $2, $3), set_config('synchronous_commit', 'off', true)"
# The parameters hardly ever change: they are read when the version is not the one that the node knows.
_MARKET = """
    SELECT q.symbol, p.price, l.quantity, l.version, s.parameters_version, q.quoting_enabled, q.quote_epoch,
           q.published_at IS NOT NULL AND q.valid_until > clock_timestamp(),
           CASE WHEN s.parameters_version <> k.version THEN s.tick_size END,
           CASE WHEN s.parameters_version <> k.version THEN s.lot_size END,
           CASE WHEN s.parameters_version <> k.version THEN s.half_spread_ticks END,
           CASE WHEN s.parameters_version <> k.version THEN s.skew_ticks END,
           CASE WHEN s.parameters_version <> k.version THEN s.quote_size END,
           CASE WHEN s.parameters_version <> k.version THEN s.position_limit END
      FROM unnest($1::text[], $2::bigint[]) AS k (symbol, version)
      JOIN exchange_quote q ON q.symbol = k.symbol
      JOIN exchange_symbol s ON s.name = k.symbol
      JOIN exchange_price p ON p.symbol = k.symbol
      JOIN ledger_position l ON l.symbol = k.symbol
"""
# A quote need not be durable when it is published, so its locks are not held through an fsync: a fill against it can't
# be made durable before it, as the log is written in order, and a crash ends our session, after which all is quoted
# anew. When it has traded with resting orders, the commit waits.
REPLACE = """
    SELECT symbol, outcome, version, traded,
           set_config('synchronous_commit', CASE WHEN bool_or(traded) OVER () THEN 'on' ELSE 'off' END, true)
      FROM authority_replace_quotes_v3($1, $2, $3, $4, $5, $6, $7, $8)
"""


async def watch(link: Runs, serial: int, wait_ms: int) -> bool:
    """Whether that incarnation's session is gone; waits for it for `wait_ms`."""
    rows = await link.fetch(_WATCH, serial, wait_ms)
    return bool(rows[0][0])


async def sweep(link: Runs) -> Ended | None:
    """End one that has expired or whose session is gone, or a part of it; None when there is none (left)."""
    rows = await link.fetch(SWEEP)
    return Ended(*rows[0]) if rows else None


async def ring(link: Runs, incarnation: UUID) -> list[Neighbour]:
    """The other un-ended incarnations, by node name."""
    return [Neighbour(*row) for row in await link.fetch(_RING, incarnation)]


async def warm_up(link: Runs) -> None:
    """Run for nobody and no symbols what will be run in haste: the server compiles and plans at the first call."""
    await membership(link)
    await due(link, "", NOBODY, 1, 1)
    await acquire(link, NOBODY, [])
    await release(link, NOBODY, [])
    await market(link, {})
    await replace_quotes(link, NOBODY, {}, validity_ms=1)


async def plan_anew(link: Runs) -> None:
    """Have this connection's statements planned anew, each at its next run: the tables may have grown."""
    await link.fetch("DISCARD PLANS")


async def membership(link: Runs) -> Membership:
    """Members now, and those of the assignment in force."""
    return Membership(*(await link.fetch(_MEMBERSHIP))[0])


async def assignment(link: Runs) -> dict[str, str | None]:
    """Every symbol and the node that it is assigned to, if any."""
    return {symbol: node for symbol, node in await link.fetch(_ASSIGNMENT)}


async def end_reasons(link: Runs, nodes: Sequence[str]) -> dict[str, str]:
    """How the last incarnation of each of these nodes ended, for those that have one that did."""
    return {node: reason for node, reason in await link.fetch(_END_REASONS, nodes)}


async def apply_assignment(link: Runs, seen: Membership, moves: Mapping[str, str], applied_by: str, cause: str) -> str:
    """Apply the moves computed from `seen`: 'applied', 'unchanged' or 'stale' (see the function's header)."""
    rows = await link.fetch(_APPLY, seen.generation, seen.members, list(moves), list(moves.values()), applied_by, cause)
    return str(rows[0][0])


async def claims(link: Runs, node: str, incarnation: UUID) -> list[Claim]:
    """The symbols that are assigned to the node or held by the incarnation."""
    return [Claim(*row) for row in await link.fetch(_CLAIMS, node, incarnation)]


async def due(link: Runs, node: str, incarnation: UUID, most_surplus: int, most_free: int) -> Due:
    """What is to be released and what can be acquired now, by the tables."""
    rows = await link.fetch(_DUE, node, incarnation, most_surplus, most_free)
    return Due(
        surplus={symbol: epoch for symbol, epoch, is_surplus in rows if is_surplus},
        free=[symbol for symbol, _epoch, is_surplus in rows if not is_surplus],
    )


async def acquire(link: Runs, incarnation: UUID, symbols: Sequence[str], *, wait: bool = True) -> list[Grant]:
    """Ask for these symbols' leases: granted, held, busy, not_assigned or ended for each.

    With `wait` it waits a little for rows that somebody else has locked; without, they are busy at once.
    """
    return [Grant(*row) for row in await link.fetch(ACQUIRE, incarnation, symbols, wait)]


async def release(link: Runs, incarnation: UUID, symbols: Sequence[str], *, wait: bool = True) -> list[str]:
    """Give these symbols' leases back; those that were ours and of which nobody kept a row locked. `wait`: as above."""
    return list((await link.fetch(RELEASE, incarnation, symbols, wait))[0][0])


async def market(link: Runs, known: Mapping[str, int]) -> list[Market]:
    """What these symbols' quotes follow from and what they are now, as of one snapshot.

    `known` has the version of the parameters that the caller knows for each, 0 for none.
    """
    return [
        Market(
            symbol=row[0],
            price=row[1],
            position=row[2],
            position_version=row[3],
            parameters_version=row[4],
            parameters=None if row[8] is None else QuotingParameters(*row[8:14]),
            quoting_enabled=row[5],
            quote_epoch=row[6],
            is_live=row[7],
        )
        for row in await link.fetch(_MARKET, list(known), list(known.values()))
    ]


async def replace_quotes(
    link: Runs,
    incarnation: UUID,
    quotes: Mapping[str, tuple[int, TwoSidedQuote]],
    validity_ms: int,
    *,
    timeout_s: float = STATEMENT_TIMEOUT_S,
) -> list[Outcome]:
    """Replace the quotes of many symbols, each under its epoch, in one commit. Each is answered by itself."""
    sides = [quote for _epoch, quote in quotes.values()]
    rows = await link.fetch(
        REPLACE,
        incarnation,
        list(quotes),
        [epoch for epoch, _quote in quotes.values()],
        [quote.bid_price for quote in sides],
        [quote.bid_quantity for quote in sides],
        [quote.ask_price for quote in sides],
        [quote.ask_quantity for quote in sides],
        validity_ms,
        timeout_s=timeout_s,
    )
    return [Outcome(*row[:4]) for row in rows]
