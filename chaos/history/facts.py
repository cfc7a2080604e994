"""What happened, by the database's own tables, read in one snapshot: what the recorded answers are held against.

Transactions are named by the low 32 bits of their id, which is all that a row's xmin has: unique within any run that is
shorter than four billion transactions.
"""

# ruff: noqa: S608 - put together from constants of this module
from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NamedTuple

import psycopg

_XID: Final = "(xid::text::bigint & 4294967295)"


class Tenure(NamedTuple):
    """A grant. `reason` is how it ended, None while it lasts."""

    symbol: str
    epoch: int
    incarnation: str
    node: str
    reason: str | None
    xid: int


class Version(NamedTuple):
    """A change of a symbol's quote: a publication, or a withdrawal (`withdrawn` says why; its epoch is the quote's)."""

    symbol: str
    version: int
    epoch: int
    incarnation: str
    after_sequence: int
    withdrawn: str | None
    bid_quantity: Decimal | None
    ask_quantity: Decimal | None
    xid: int


class Fill(NamedTuple):
    """A fill and the position as it left it. `signed` is above zero when we bought."""

    symbol: str
    sequence: int
    fill_id: str
    signed: Decimal
    price: Decimal
    client_order_id: str
    quote_version: int
    quantity_after: Decimal
    cash_after: Decimal
    xid: int


class Trade(NamedTuple):
    """A trade between two orders of others."""

    symbol: str
    sequence: int
    trade_id: str
    maker: str
    taker: str
    xid: int


class OrderRow(NamedTuple):
    """An order as it is now; `first` is what was first answered, when it has moved on or may."""

    client_order_id: str
    symbol: str
    status: str
    quantity: Decimal
    filled_quantity: Decimal
    fills: tuple[tuple[str, str, str], ...]  # id, price, quantity
    reject_code: str | None
    first: dict[str, Any] | None


class Note(NamedTuple):
    """What the activity says of an order: that it came (and did not simply fill), or that it was cancelled."""

    client_order_id: str
    is_cancel: bool
    xid: int


class Toggle(NamedTuple):
    """An audit row of the kill switch."""

    symbol: str
    number: int
    before: bool
    after: bool
    reason: str
    xid: int


@dataclass(slots=True)
class Facts:
    """The tables. `dropped`: a symbol's quote versions up to that one need not be there any more."""

    tenures: list[Tenure] = field(default_factory=list)
    versions: list[Version] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)
    orders: dict[str, OrderRow] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    toggles: list[Toggle] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)


_TENURES: Final = f"""
    SELECT symbol, epoch, incarnation::text, node, reason, {_XID}
      FROM authority_tenure ORDER BY symbol, epoch
"""
_VERSIONS: Final = """
    SELECT symbol, version, epoch, incarnation::text, after_sequence, withdrawn_reason, bid_quantity, ask_quantity,
           xmin::text::bigint
      FROM exchange_quoteversion ORDER BY symbol, version
"""
_FILLS: Final = f"""
    SELECT symbol, sequence, fill_id, CASE side WHEN 'buy' THEN quantity ELSE -quantity END, price, client_order_id,
           quote_version, quantity_after, cash_after, {_XID}
      FROM ledger_fill ORDER BY symbol, sequence
"""
_TRADES: Final = """
    SELECT symbol, sequence, trade_id, maker_order_id, taker_order_id, xmin::text::bigint
      FROM exchange_trade ORDER BY symbol, sequence
"""
_ORDERS: Final = """
    SELECT client_order_id, symbol, status::text, quantity, filled_quantity, fills, reject_code, first_answer
      FROM exchange_order
"""
# Only an order's own entry tells what kind of order it is; a cancel's does not.
_NOTES: Final = f"""
    SELECT data ->> 'client_order_id', NOT data ? 'time_in_force', {_XID}
      FROM journal_activity WHERE kind = 'order' ORDER BY id
"""
_TOGGLES: Final = f"""
    SELECT target, id, before = 'true', after = 'true', reason, {_XID}
      FROM journal_audit WHERE action IN ('quoting_on', 'quoting_off') ORDER BY target, id
"""
_DROPPED: Final = "SELECT symbol, version FROM exchange_retention"


def facts(connection: psycopg.Connection[Any]) -> Facts:
    """Read them, in one read-only snapshot. The connection is in autocommit, of a role that may read (any of ours)."""
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    try:
        with connection.transaction(force_rollback=True):
            # Before the snapshot: what is dropped meanwhile would be missed, and its mark not yet seen.
            connection.execute("SET LOCAL statement_timeout = 0")
            connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            connection.execute("LOCK TABLE ONLY exchange_quoteversion IN ACCESS SHARE MODE")

            def rows(statement: str) -> list[Any]:
                return connection.execute(statement.encode()).fetchall()

            return Facts(
                tenures=[Tenure(*row) for row in rows(_TENURES)],
                versions=[Version(*row) for row in rows(_VERSIONS)],
                fills=[Fill(*row) for row in rows(_FILLS)],
                trades=[Trade(*row) for row in rows(_TRADES)],
                orders={row[0]: OrderRow(*row)._replace(fills=_executions(row[5])) for row in rows(_ORDERS)},
                notes=[Note(*row) for row in rows(_NOTES)],
                toggles=[Toggle(*row) for row in rows(_TOGGLES)],
                dropped=dict(rows(_DROPPED)),
            )
    finally:
        connection.isolation_level = None
        connection.read_only = None


def _executions(fills: list[dict[str, str]]) -> tuple[tuple[str, str, str], ...]:
    return tuple((fill["fill_id"], fill["price"], fill["quantity"]) for fill in fills)
