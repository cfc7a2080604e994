"""The order ticket: an external order sent by hand.

The page makes the order's id, once for each ticket, and keeps it until an answer has come. So a double click, a retry
after a timeout and a form sent anew are the same order, which the exchange takes once and answers alike (decision 8).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Final
from urllib.parse import urlencode
from uuid import uuid4

import structlog
from django.db import DataError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from pydantic import ValidationError

from accounts.permissions import PLACE_ORDER
from console.web import acts, show, user_of, wants_json
from console.words import order_result
from exchange.errors import OrderRefused
from exchange.schemas import OrderIn
from exchange.services import submit_order
from mmproject import query

log = structlog.get_logger(__name__)

FIELDS: Final = ("client_order_id", "symbol", "side", "type", "time_in_force", "price", "quantity")
VALUE_LENGTH_MAX: Final = 100  # what is longer is no value of any field, and is not sent back whole

# What is told of a field that cannot be read, under the codes that the API has for them.
_INVALID: Final = {
    "client_order_id": ("invalid_order_id", "This ticket is out of date: load the page anew."),
    "symbol": ("unknown_symbol", "There is no such symbol."),
    "side": ("invalid_side", "Buy or sell."),
    "type": ("invalid_type", "Limit or market."),
    "time_in_force": ("invalid_time_in_force", "GTC, IOC or FOK."),
    "price": ("invalid_price", "A price such as 100.25, with a point and no commas."),
    "quantity": ("invalid_quantity", "A quantity such as 100, without commas."),
}
# What the exchange refuses: which field it concerns, and how it is told there.
_REFUSED: Final = {
    "invalid_order_id": ("client_order_id", "This ticket is out of date: load the page anew."),
    "unknown_symbol": ("symbol", "There is no such symbol."),
    "invalid_side": ("side", "Buy or sell."),
    "invalid_type": ("type", "Limit or market."),
    "invalid_time_in_force": ("time_in_force", "A market order is IOC or FOK: it cannot wait in the book."),
    "invalid_price": ("price", "A limit order needs a price above 0, a market order takes none."),
    "invalid_quantity": ("quantity", "A quantity above 0."),
    "off_tick": ("price", "The price must be a multiple of {tick_size}."),
    "off_lot": ("quantity", "The quantity must be a multiple of {lot_size}."),
    "duplicate_client_order_id": (
        "client_order_id", "Another order was sent with this ticket already; nothing was sent now. Start a new one.",
    ),
}  # fmt: skip
_CONFLICT: Final = "duplicate_client_order_id"


@dataclass(frozen=True, slots=True)
class Ticket:
    """What the form shows: its id, what it is filled in with, and what was wrong with that, by field."""

    client_order_id: str
    symbol: str | None = None  # the one that it is for; None: any
    values: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    times_in_force: ClassVar[tuple[tuple[str, str], ...]] = (
        ("GTC", "GTC: the rest waits in the book"),
        ("IOC", "IOC: the remainder is cancelled"),
        ("FOK", "FOK: all of it or nothing"),
    )


def new(symbol: str | None = None) -> Ticket:
    """A fresh ticket, for a page to show: `{% include "console/ticket.html" %}` with this as `ticket`."""
    return Ticket(f"ui-{uuid4().hex}", symbol, {"symbol": symbol or ""})


@acts(PLACE_ORDER)
def order_new(request: HttpRequest) -> HttpResponse:
    """Send one order. Form fields: those of `POST /api/v1/orders`, whose checks they pass; an empty price is none.

    A script is answered the order's state and, in words, what came of it; a plain form goes on to the order in the
    blotter. The same order again answers the same.
    """
    values = {name: request.POST.get(name, "").strip() for name in FIELDS}
    values["symbol"] = values["symbol"].upper()
    try:
        order = OrderIn.model_validate({name: text for name, text in values.items() if text or name != "price"})
    except ValidationError as error:
        names = list(dict.fromkeys(str(one["loc"][0]) for one in error.errors()))
        return _refused(request, values, _INVALID[names[0]][0], {name: _INVALID[name][1] for name in names}, 422)

    username = user_of(request).get_username()
    noted = log.bind(username=username, client_order_id=order.client_order_id)
    # Before it is sent: whatever becomes of the answer, who sent it is on record.
    noted.info("console_order", symbol=order.symbol, side=order.side, type=order.type, price=values["price"],
               time_in_force=order.time_in_force, quantity=values["quantity"])  # fmt: skip
    try:
        answer = submit_order(
            client_order_id=order.client_order_id,
            symbol=order.symbol,
            side=order.side,
            type=order.type,
            time_in_force=order.time_in_force,
            price=order.price,
            quantity=order.quantity,
        )
    except OrderRefused as error:
        noted.info("console_order_refused", code=error.code)
        name, detail = _REFUSED[error.code]
        told = detail.format(**_grid(order.symbol)) if "{" in detail else detail
        return _refused(request, values, error.code, {name: told}, 409 if error.code == _CONFLICT else 422)
    except DataError as error:
        # The schema should have refused it; the database did instead. Nothing changed, and we want to know.
        noted.warning("input_reached_the_database", path=request.path, error=str(error).splitlines()[0])
        return _refused(request, values, "invalid_request", {"quantity": "A value is out of its range."}, 422)
    noted.info("console_order_answered", status=answer["status"])

    if not wants_json(request):
        return redirect(f"{reverse('orders')}?{urlencode({'q': order.client_order_id})}")
    return JsonResponse({"order": answer, "text": order_result(values, dict(answer))})


def _grid(symbol: str) -> dict[str, str]:
    """The symbol's tick and lot, as they are written."""
    (row,) = query.rows(
        "SELECT trim_scale(tick_size)::text AS tick_size, trim_scale(lot_size)::text AS lot_size"
        "  FROM exchange_symbol WHERE name = %s",
        [symbol],
    )
    return row


def _refused(
    request: HttpRequest, values: dict[str, str], code: str, errors: dict[str, str], status: int
) -> HttpResponse:
    """Nothing was sent: `errors` says why, by field. A plain form is shown again, filled in."""
    if wants_json(request):
        answer: dict[str, Any] = {"code": code, "detail": " ".join(errors.values()), "fields": errors}
        return JsonResponse(answer, status=status)
    kept = {name: text[:VALUE_LENGTH_MAX] for name, text in values.items()}
    fresh = new()
    # Where the id itself is at fault, or used up, the next try needs another.
    order_id = fresh.client_order_id if "client_order_id" in errors else kept["client_order_id"]
    page = show(request, "console/ticket_page.html", "orders", ticket=Ticket(order_id, None, kept, errors))
    page.status_code = status
    return page
