"""The blotter's lists: pages of fills and orders behind a cursor, newest first, in bounded work whatever is asked.

No page skips or counts rows: each begins behind the row where the last one ended, through an index. A filter that no
index serves is judged row by row, over at most `scan` rows a page; a page that finds too few of them says how far back
it looked, and its cursor goes on from there. More indexes would make such searches shorter, and every order dearer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from console.filters import Filter, OrderFilter, bad_cursor
from ledger.selectors import position_of
from mmproject import query
from mmproject.paging import BIGINT_MAX
from mmproject.query import Row

PAGE_ROWS: Final = 100
SCAN_ROWS: Final = 50_000  # some tens of milliseconds
ORDER_FILLS_SHOWN: Final = 50
NEWER_SCAN: Final = 1_000  # orders looked at to say how many came; then it is "as many and more"
# How far a row's time may stand from its place in the order of transactions or numbers: more than twice the
# statement_timeout of whoever writes them (mmproject/provision.py).
DISORDER_S: Final = 60

_XID_MAX: Final = str(2**64 - 1)


def _sql(name: str) -> str:
    return (Path(__file__).resolve().parent / "sql" / name).read_text(encoding="utf-8")


def _fills_statement(where: str, order: str) -> str:
    return _sql("fills.sql").replace("{range}", where).replace("{order}", order)


def _orders_statement(where: str) -> str:
    return _sql("orders.sql").replace("{range}", where)


# In the order of commits, by fill_commit_order.
_FILLS_LATEST: Final = _fills_statement(
    "(f.xid, f.activity_id) < (%(before_xid)s::text::xid8, %(before_id)s)"
    " AND f.xid >= %(low)s::text::xid8 AND f.xid < %(high)s::text::xid8",
    "f.xid DESC, f.activity_id DESC",
)
# A symbol's in the order in which they were made, by the key.
_FILLS_OF_SYMBOL: Final = _fills_statement(
    'f.fill_id >= %(low)s AND f.fill_id < least(%(high)s COLLATE "C", %(before)s COLLATE "C")', "f.fill_id DESC"
)
# One by its id, or an order's, which are all of one symbol.
_FILLS_FOUND: Final = _fills_statement(
    "f.fill_id = ANY (ARRAY("
    "SELECT %(id)s UNION SELECT told.value ->> 'fill_id' FROM exchange_order o, jsonb_array_elements(o.fills) told"
    " WHERE o.client_order_id = %(id)s)) AND f.fill_id < %(before)s",
    "f.fill_id DESC",
)
_ORDERS_LATEST: Final = _orders_statement("o.id < %(before)s AND o.id >= %(low)s AND o.id < %(high)s")
# Those in the book, by its partial index: as many are read as are open.
_ORDERS_OPEN: Final = _orders_statement(
    "o.id < %(before)s AND o.id = ANY (ARRAY("
    "SELECT b.id FROM exchange_order b WHERE b.status IN ('resting', 'partially_filled')"
    " AND (%(symbol)s::text IS NULL OR b.symbol = %(symbol)s)))"
)
# By its own id, by that of one of its fills, or by that of a trade, which has two.
_ORDERS_FOUND: Final = _orders_statement(
    "o.id < %(before)s AND o.id = ANY (ARRAY("
    "SELECT n.id FROM exchange_order n WHERE n.client_order_id = ANY (ARRAY("
    "SELECT %(id)s UNION SELECT client_order_id FROM ledger_fill WHERE fill_id = %(id)s"
    " UNION SELECT maker_order_id FROM exchange_trade WHERE trade_id = %(id)s"
    " UNION SELECT taker_order_id FROM exchange_trade WHERE trade_id = %(id)s))))"
)
_FILLS_SINCE: Final = _sql("fills_since.sql")
_FILLS_SINCE_OF_SYMBOL: Final = _sql("fills_since_of_symbol.sql")
_ORDERS_SINCE: Final = _sql("orders_since.sql")
_ORDERS_NEWER: Final = _sql("orders_newer.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One page. Its rows are exact text, as in the statement.

    `next` is the cursor of what follows, or None at the end. `looked_back_to` is the time of the last row looked at,
    when that and not the number of rows ended the page, and `looked` how many those were. `as_of` is the time of all
    of it; `known` how many fills there were by then, or the newest order's number.
    """

    rows: list[Row]
    next: str | None
    looked_back_to: str | None
    looked: int | None
    as_of: str
    known: int


def fills(wanted: Filter, *, limit: int = PAGE_ROWS, scan: int = SCAN_ROWS) -> Listing:
    """A page of fills. Raises BadQuery for a wrong cursor."""
    parameters = {**wanted.parameters(), "limit": limit + 1, "scan": scan}
    if wanted.id is not None:
        found = query.rows(_FILLS_FOUND, {**parameters, "id": wanted.id, "before": wanted.fill or "~"})
    elif wanted.symbol is not None:
        found = query.rows(_FILLS_OF_SYMBOL, {**parameters, **_span_of_symbol(wanted, wanted.symbol)})
    else:
        before = (_XID_MAX, BIGINT_MAX) if wanted.fill is None else position_of(wanted.fill)
        if before is None:
            raise bad_cursor()
        place = {"before_xid": str(before[0]), "before_id": before[1]}
        found = query.rows(_FILLS_LATEST, {**parameters, **place, **_span(wanted)})
    return _page(found, limit, scan, key="fill_id", time="filled_at")


def orders(wanted: OrderFilter, *, limit: int = PAGE_ROWS, scan: int = SCAN_ROWS, with_fills: bool = False) -> Listing:
    """A page of orders, with the first of their fills if those are asked for. Raises BadQuery for a wrong cursor."""
    parameters = {
        **wanted.parameters(), "limit": limit + 1, "scan": scan, "before": wanted.order,
        "fills": ORDER_FILLS_SHOWN - 1 if with_fills else None,
    }  # fmt: skip
    if wanted.id is not None:
        found = query.rows(_ORDERS_FOUND, {**parameters, "id": wanted.id})
    elif wanted.is_of_open:
        found = query.rows(_ORDERS_OPEN, parameters)
    else:
        low, high = (query.value(_ORDERS_SINCE, at) if at else None for at in _times(wanted))
        if low is None and wanted.since is not None:
            low = BIGINT_MAX
        found = query.rows(_ORDERS_LATEST, {**parameters, "low": low or 0, "high": high or BIGINT_MAX})
    return _page(found, limit, scan, key="id", time="created_at")


def newer_orders(wanted: OrderFilter, after: int) -> tuple[int, bool]:
    """How many orders that are wanted came after number `after`, and whether those are all (see NEWER_SCAN)."""
    parameters = {**wanted.parameters(), "after": after, "scan": NEWER_SCAN}
    (found,) = query.rows(_ORDERS_NEWER, parameters)
    return found["newer"], found["is_all"]


def _page(found: Sequence[Row], limit: int, scan: int, *, key: str, time: str) -> Listing:
    wanted = [row for row in found if row["is_wanted"]]
    last = found[-1]
    following = looked_back_to = None
    if len(wanted) > limit:
        following = str(wanted[limit - 1][key])
    elif last["place"] == scan:
        following = str(last[key])
        looked_back_to = last[time] if len(wanted) < limit else None
    return Listing(
        rows=wanted[:limit],
        next=following,
        looked_back_to=looked_back_to,
        looked=scan if looked_back_to else None,
        as_of=last["as_of"],
        known=int(last["known"]),
    )


def _times(wanted: Filter) -> tuple[dict[str, datetime] | None, dict[str, datetime] | None]:
    """The filter's span, wider by the disorder there may be: what lies outside of it is surely not wanted."""
    since = None if wanted.since is None else {"at": _moved(wanted.since, -DISORDER_S)}
    until = None if wanted.until is None else {"at": _moved(wanted.until, DISORDER_S)}
    return since, until


def _moved(at: datetime, by_s: int) -> datetime:
    try:
        return at + timedelta(seconds=by_s)
    except OverflowError:  # the first or the last minute that there is
        return at


def _span(wanted: Filter) -> dict[str, str]:
    """The transactions among which the fills are: from `low` to before `high`."""
    low, high = (query.value(_FILLS_SINCE, at) if at else None for at in _times(wanted))
    if low is None and wanted.since is not None:
        return {"low": _XID_MAX, "high": _XID_MAX}
    return {"low": str(low or 0), "high": _XID_MAX if high is None else str(high)}


def _span_of_symbol(wanted: Filter, symbol: str) -> dict[str, str]:
    """The ids among which the symbol's fills are: from `low` to before `high` and `before`."""
    low, high = (query.value(_FILLS_SINCE_OF_SYMBOL, {**at, "symbol": symbol}) if at else None for at in _times(wanted))
    end = f"{symbol}."  # "." is the character after "-"
    if low is None and wanted.since is not None:
        return {"low": end, "high": end, "before": end}
    return {
        "low": _fill_id(symbol, low or 0), "high": end if high is None else _fill_id(symbol, high),
        "before": wanted.fill or end,
    }  # fmt: skip


def _fill_id(symbol: str, sequence: int) -> str:
    return f"{symbol}-{sequence:012}"


def now_text() -> str:
    """This process's time for a file's name: 20260131T090000Z."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
