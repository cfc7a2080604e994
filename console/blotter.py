"""The blotter: fills and orders, searched, paged and exported; and an order in the book cancelled.

Everything on a page is as of one moment, which it names. What comes later does not move the rows under a reader: the
page says how many there are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import wraps
from typing import Any, Final, TypeVar

import structlog
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from accounts.permissions import PLACE_ORDER
from console import figures, listing, ticket
from console.export import (
    EXPORT_RETRY_S,
    EXPORT_ROWS,
    EXPORTS_MAX,
    FILL_COLUMNS,
    ORDER_COLUMNS,
    TooManyExports,
    download,
)
from console.filters import BadQuery, Filter, OrderFilter, given, judged, query_of
from console.listing import Listing
from console.web import View, acts, page, refusal, show, user_of, wants_json
from console.words import ORDER_STATUSES, order_status
from exchange.errors import OrderNotOpen, UnknownOrder
from exchange.models import OPEN_STATUSES
from exchange.services import cancel_order
from mmproject.paging import BIGINT_MAX
from mmproject.query import Row

log = structlog.get_logger(__name__)
F = TypeVar("F", bound=Filter)

_ORDER_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", re.ASCII)
MONEY_PLACES: Final = 2
AVERAGE_PLACES: Final = 2  # beyond those of the tick


def fill_row(row: Row) -> Row:
    """A fill as the page shows it."""
    price, size = row["price_decimals"], row["size_decimals"]
    return {
        **row,
        "at": figures.moment(row["filled_at"]),
        "price": figures.number(row["price"], price),
        "quantity": figures.number(row["quantity"], size),
        "position_after": figures.signed(row["position_after"], size),
        "position_sign": figures.sign(row["position_after"]),
        "average_cost_after": figures.number(row["average_cost_after"], price + AVERAGE_PLACES),
        "realised": figures.signed(row["realised_pnl"], MONEY_PLACES),
        "realised_sign": figures.sign(row["realised_pnl"]),
        "realised_after": figures.signed(row["realised_pnl_after"], MONEY_PLACES),
        "realised_after_sign": figures.sign(row["realised_pnl_after"]),
    }


def order_row(row: Row) -> Row:
    """An order as the page shows it, with its fills."""
    price, size = row["price_decimals"], row["size_decimals"]
    return {
        **row,
        "at": figures.moment(row["created_at"]),
        "changed": figures.moment(row["updated_at"]),
        "price": "market" if row["price"] is None else figures.number(row["price"], price),
        "quantity": figures.number(row["quantity"], size),
        "filled_quantity": figures.number(row["filled_quantity"], size),
        "average_price": figures.number(row["average_price"], price + AVERAGE_PLACES),
        "word": ORDER_STATUSES[row["status"]],
        "meaning": order_status(row),
        "is_open": row["status"] in OPEN_STATUSES,
        "fills": [
            {
                "fill_id": told["fill_id"],
                # A trade with another order moved no position of ours, and is no fill of ours.
                "is_ours": not told["fill_id"].startswith(f"{row['symbol']}-X"),
                "price": figures.number(told["price"], price),
                "quantity": figures.number(told["quantity"], size),
            }
            for told in json.loads(row["fills"])
        ],
        "fills_left_out": max(0, row["fill_count"] - listing.ORDER_FILLS_SHOWN),
    }


def _answers_bad_queries(kind: str, template: str = "") -> Callable[[View], View]:
    """Say what is wrong with a query, with 400: in `template`, or as JSON to a script and where there is none."""

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                return view(request, *args, **kwargs)
            except BadQuery as error:
                if wants_json(request) or not template:
                    return refusal(error.code, str(error), 400)
                fields = {name: request.GET.get(name, "")[:100] for name in ("q", "symbol", "side", "status")}
                answer = show(request, template, kind, fields=fields, problem=error, **_fixed(request, kind))
                answer.status_code = 400
                return answer

        return wrapped

    return decorate


def _fixed(request: HttpRequest, kind: str) -> dict[str, Any]:
    """What a page has whatever is asked."""
    if kind == "fills":
        return {}
    return {"statuses": [("open", "In the book"), *ORDER_STATUSES.items()], "ticket": ticket.new()}


def _shown(
    request: HttpRequest, kind: str, fields: dict[str, str], wanted: Filter, found: Listing, rows: list[Row]
) -> HttpResponse:
    form = {**fields, "from": figures.field(wanted.since), "to": figures.field(wanted.until)}
    filtered = {name: text for name, text in fields.items() if name != "cursor"}
    here = reverse(kind)
    return show(
        request, f"console/{kind}.html", kind, fields=form, rows=rows, wanted=wanted, known=found.known,
        as_of=figures.moment(found.as_of),
        looked=found.looked and f"{found.looked:,}",
        looked_back_to=found.looked_back_to and figures.moment(found.looked_back_to),
        newest=f"{here}?{query_of(filtered)}" if filtered else here,
        older=found.next and f"{here}?{query_of(filtered, cursor=found.next)}",
        export=f"{reverse(f'{kind}-export')}?{query_of(filtered)}",
        newer=f"{reverse('orders-newer')}?{query_of(filtered, after=str(found.known))}",
        **_fixed(request, kind),
    )  # fmt: skip


@page
@_answers_bad_queries("fills", "console/fills.html")
def fills(request: HttpRequest) -> HttpResponse:
    """Fills, newest first. Query: q, symbol, side (ours), from, to, cursor."""
    fields = given(request.GET)
    wanted = judged(Filter, fields)
    found = listing.fills(wanted)
    return _shown(request, "fills", fields, wanted, found, [fill_row(row) for row in found.rows])


@page
@_answers_bad_queries("orders", "console/orders.html")
def orders(request: HttpRequest) -> HttpResponse:
    """Orders, newest first. Query: q, symbol, side, status, from, to, cursor."""
    fields = given(request.GET)
    wanted = judged(OrderFilter, fields)
    found = listing.orders(wanted, with_fills=True)
    return _shown(request, "orders", fields, wanted, found, [order_row(row) for row in found.rows])


@page
@_answers_bad_queries("orders")
def orders_newer(request: HttpRequest) -> HttpResponse:
    """How many orders of the same filter came after number `after`: {"newer", "is_all"}. See listing.NEWER_SCAN."""
    fields = given(request.GET)
    after = fields.pop("after", "")
    if not (after.isascii() and after.isdigit() and int(after) <= BIGINT_MAX):
        raise BadQuery("after", "invalid_after", "After is an order's number.")
    newer, is_all = listing.newer_orders(judged(OrderFilter, fields), int(after))
    return JsonResponse({"newer": newer, "is_all": is_all})


@page
@_answers_bad_queries("fills")
def fills_export(request: HttpRequest) -> HttpResponseBase:
    """The fills of a filter, all of them, as CSV."""
    wanted = judged(Filter, given(request.GET))

    def read(cursor: str | None) -> Listing:
        return listing.fills(_from(wanted, cursor), limit=EXPORT_ROWS)

    return _download(request, "fills", wanted, FILL_COLUMNS, read)


@page
@_answers_bad_queries("orders")
def orders_export(request: HttpRequest) -> HttpResponseBase:
    """The orders of a filter, all of them, as CSV."""
    wanted = judged(OrderFilter, given(request.GET))

    def read(cursor: str | None) -> Listing:
        return listing.orders(_from(wanted, cursor), limit=EXPORT_ROWS)

    return _download(request, "orders", wanted, ORDER_COLUMNS, read)


def _from(wanted: F, cursor: str | None) -> F:
    return wanted if cursor is None else wanted.model_copy(update={"cursor": cursor})


def _download(
    request: HttpRequest, kind: str, wanted: Filter, columns: tuple[str, ...], read: Callable[[str | None], Listing]
) -> HttpResponseBase:
    try:
        return download(request, f"{kind}-{wanted.symbol}" if wanted.symbol else kind, columns, read)
    except TooManyExports:
        answer: HttpResponse
        if wants_json(request):
            answer = refusal("busy", f"{EXPORTS_MAX} exports are under way; try again when one is done.", 503)
        else:
            answer = render(request, "console/busy.html", {"exports": EXPORTS_MAX, "back": reverse(kind)}, status=503)
        answer["Retry-After"] = str(EXPORT_RETRY_S)
        return answer


@acts(PLACE_ORDER)
def order_cancel(request: HttpRequest) -> HttpResponse:
    """Cancel what is left of an order in the book. Form field: client_order_id. Done again it answers the same."""
    client_order_id = request.POST.get("client_order_id", "")
    if not _ORDER_ID.fullmatch(client_order_id):
        return refusal("unknown_order", "there is no order by that id", 404)
    noted = log.bind(username=user_of(request).get_username(), client_order_id=client_order_id)
    noted.info("console_order_cancel")  # before it is done: whatever becomes of the answer, who asked is on record
    try:
        answer = cancel_order(client_order_id)
    except UnknownOrder as error:
        return refusal(error.code, str(error), 404)
    except OrderNotOpen as error:
        return refusal(error.code, str(error), 409)
    noted.info("console_order_cancelled", filled_quantity=answer["filled_quantity"])
    if not wants_json(request):
        return redirect(f"{reverse('orders')}?{query_of({'q': client_order_id})}")
    return JsonResponse({"changed": [{**answer, "word": ORDER_STATUSES[answer["status"]]}]})
