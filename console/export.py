"""Downloads of the blotter as CSV, of any length in memory for one page.

A page is read, written and sent before the next one is read, and no snapshot is held in between: a reader who is slow,
or has gone to lunch, keeps neither dead rows from being cleared away nor a connection from others. What is in it:
everything that had been committed when it began, each row as it was when its page was read. What committed later may
be in it or not.

When the database goes away in the middle the connection is broken off (mmproject/pacing.py), without the end that a
complete answer has: no browser and no program takes what came for all there is.
"""

from __future__ import annotations

import csv
import io
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import structlog
from asgiref.sync import sync_to_async
from django.db import InterfaceError, OperationalError, connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse

from console.listing import Listing, now_text
from mmproject.query import Row

log = structlog.get_logger(__name__)

EXPORT_ROWS: Final = 5_000  # a page: some megabytes, some tens of milliseconds
EXPORTS_MAX: Final = 2  # at once in a process: each is a statement after another, for as long as it lasts
EXPORT_RETRY_S: Final = 30

FILL_COLUMNS: Final = (
    "fill_id", "filled_at", "symbol", "side", "price", "quantity", "client_order_id", "position_after",
    "average_cost_after", "realised_pnl", "realised_pnl_after", "node", "epoch", "quote_version",
)  # fmt: skip
ORDER_COLUMNS: Final = (
    "client_order_id", "created_at", "updated_at", "symbol", "side", "type", "time_in_force", "price", "quantity",
    "filled_quantity", "remaining_quantity", "average_price", "status", "reject_code",
)  # fmt: skip
# What others than we have worded. A spreadsheet runs a text that begins like a formula.
_WORDED_ELSEWHERE: Final = ("client_order_id", "node")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")

_slots = threading.BoundedSemaphore(EXPORTS_MAX)


class TooManyExports(Exception):
    """As many as one process does at once are under way."""


class Export:
    """The chunks of one download: a header, then a page of rows each. Made with a slot, which ends with it.

    Raises TooManyExports. Its iterator raises OperationalError or InterfaceError when the database goes away.
    """

    def __init__(self, columns: Sequence[str], page: Callable[[str | None], Listing]) -> None:
        if not _slots.acquire(blocking=False):
            raise TooManyExports
        # However it ends, also as a response that nobody waited for: once.
        self.close = weakref.finalize(self, _slots.release)
        self._columns = columns
        self._page = page
        self._ready = [self._read(None)]  # now, while an error can still be answered

    async def __aiter__(self) -> AsyncIterator[bytes]:
        listing, rows = self._ready.pop(), 0
        yield _text([self._columns])
        try:
            while True:
                rows += len(listing.rows)
                yield _text([_values(self._columns, row) for row in listing.rows])
                if listing.next is None:
                    break
                listing = await sync_to_async(self._read)(listing.next)
        except (OperationalError, InterfaceError) as error:
            log.warning("console_export_broken_off", rows=rows, error=str(error).strip().split("\n")[0])
            raise
        log.info("console_export_complete", rows=rows)

    def _read(self, cursor: str | None) -> Listing:
        """A page, with the connection given back to the pool: the next one is read when its reader is ready for it."""
        try:
            return self._page(cursor)
        finally:
            connection.close()


def download(
    request: HttpRequest, name: str, columns: Sequence[str], page: Callable[[str | None], Listing]
) -> HttpResponseBase:
    """The answer with the rows of `page(cursor)`, from `page(None)` on. Raises TooManyExports."""
    headers = {
        "Content-Type": "text/csv; charset=utf-8",
        "Content-Disposition": f'attachment; filename="{name}-{now_text()}.csv"',
    }
    if request.method == "HEAD":
        return HttpResponse(headers=headers)
    # An asynchronous iterator: of any other, Django under ASGI makes one list before it sends the first byte.
    return StreamingHttpResponse(Export(columns, page), headers=headers)


def _values(columns: Sequence[str], row: Row) -> list[str]:
    return [_harmless(name, row[name]) for name in columns]


def _harmless(column: str, text: str | None) -> str:
    if text is None:
        return ""
    return f"'{text}" if column in _WORDED_ELSEWHERE and text.startswith(_FORMULA) else text


def _text(rows: Sequence[Sequence[str]]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue().encode()
