"""Orders, symbols, prices, quotes, positions, and the kill switch."""

from __future__ import annotations

import re
from typing import Any

from django.http import HttpRequest
from ninja import Path, Query, Router

from accounts.auth import Access
from accounts.permissions import PLACE_ORDER, TOGGLE_QUOTING
from exchange import selectors, services
from exchange.errors import OrderRefused, UnknownOrder
from exchange.schemas import (
    OrderAnswerOut,
    OrderBatchIn,
    OrderBatchOut,
    OrderIn,
    OrderListQuery,
    OrderOut,
    PositionOut,
    PriceOut,
    QuoteOut,
    QuotingIn,
    SymbolOut,
    ToggleOut,
)
from mmproject.apierrors import ERRORS, ApiError
from mmproject.paging import SYMBOL_PATTERN, Page, SymbolListQuery, log_page, number

router = Router()

_ORDER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", re.ASCII)
_SYMBOL = re.compile(SYMBOL_PATTERN.strip("^$"), re.ASCII)

ORDERS = ["orders"]
MARKET = ["market"]
POSITIONS = ["positions and fills"]
SWITCH = ["kill switch"]


@router.post("/orders", response={200: OrderAnswerOut, **ERRORS}, auth=Access(PLACE_ORDER), tags=ORDERS)
def send_order(request: HttpRequest, order: OrderIn) -> Any:
    """Send an order. The same order again answers the same; another one under its id is refused with 409."""
    return services.submit_order(
        client_order_id=order.client_order_id,
        symbol=order.symbol,
        side=order.side,
        type=order.type,
        time_in_force=order.time_in_force,
        price=order.price,
        quantity=order.quantity,
    )


@router.post("/orders/batch", response={200: OrderBatchOut, **ERRORS}, auth=Access(PLACE_ORDER), tags=ORDERS)
def send_orders(request: HttpRequest, batch: OrderBatchIn) -> Any:
    """Send up to 1,000 orders, taken one after another, durable together. Each has its own answer or refusal."""
    orders = [order.model_dump(mode="json") for order in batch.orders]
    answers = services.submit_orders(orders)
    return {"items": [_or_refusal(order, answer) for order, answer in zip(orders, answers, strict=True)]}


@router.get("/orders", response={200: Page[OrderOut], **ERRORS}, tags=ORDERS)
def list_orders(request: HttpRequest, asked: Query[OrderListQuery]) -> Any:
    """All orders, the newest first."""
    before = None if asked.cursor is None else number(asked.cursor)
    rows = selectors.orders(before=before, symbol=asked.symbol, status=asked.status, limit=asked.limit + 1)
    return log_page(rows, asked.limit, "id")


@router.get("/orders/{client_order_id}", response={200: OrderAnswerOut, **ERRORS}, tags=ORDERS)
def get_order(request: HttpRequest, client_order_id: Path[str]) -> Any:
    """An order's present state."""
    state = selectors.order_state(_order_id(client_order_id))
    if state is None:
        raise UnknownOrder(f"there is no order {client_order_id}")
    return state


@router.delete(
    "/orders/{client_order_id}", response={200: OrderAnswerOut, **ERRORS}, auth=Access(PLACE_ORDER), tags=ORDERS
)
def cancel_order(request: HttpRequest, client_order_id: Path[str]) -> Any:
    """Cancel what is left of an order. Cancelling it again answers the same."""
    return services.cancel_order(_order_id(client_order_id))


@router.get("/symbols", response={200: Page[SymbolOut], **ERRORS}, tags=MARKET)
def list_symbols(request: HttpRequest, asked: Query[SymbolListQuery]) -> Any:
    """What is traded, and how we quote it."""
    return selectors.symbols(asked)


@router.get("/prices", response={200: Page[PriceOut], **ERRORS}, tags=MARKET)
def list_prices(request: HttpRequest, asked: Query[SymbolListQuery]) -> Any:
    """The reference prices."""
    return selectors.prices(asked)


@router.get("/quotes", response={200: Page[QuoteOut], **ERRORS}, tags=MARKET)
def list_quotes(request: HttpRequest, asked: Query[SymbolListQuery]) -> Any:
    """The active quotes, the newest first."""
    return selectors.quotes(asked)


@router.get("/positions", response={200: Page[PositionOut], **ERRORS}, tags=POSITIONS)
def list_positions(request: HttpRequest, asked: Query[SymbolListQuery]) -> Any:
    """What the fills add up to, marked at the reference prices."""
    return selectors.positions(asked)


@router.post("/quoting", response={200: Page[ToggleOut], **ERRORS}, auth=Access(TOGGLE_QUOTING), tags=SWITCH)
def set_all_quoting(request: HttpRequest, quoting: QuotingIn) -> Any:
    """Turn quoting on or off for all symbols. Off is final at its commit: no fill follows it."""
    changed = services.set_quoting(None, quoting.enabled, _actor(request), quoting.reason or "")
    return {"items": changed, "next": None}


@router.post("/symbols/{symbol}/quoting", response={200: ToggleOut, **ERRORS}, auth=Access(TOGGLE_QUOTING), tags=SWITCH)
def set_symbol_quoting(request: HttpRequest, symbol: Path[str], quoting: QuotingIn) -> Any:
    """Turn quoting on or off for one symbol."""
    if not _SYMBOL.fullmatch(symbol) or not selectors.has_symbol(symbol):
        raise ApiError(404, "unknown_symbol", "there is no such symbol")
    return services.set_quoting([symbol], quoting.enabled, _actor(request), quoting.reason or "")[0]


def _or_refusal(order: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, or what it says in place of one, in the words of the API."""
    if "error" not in answer:
        return answer
    refused = OrderRefused(answer["error"])
    return {"client_order_id": order["client_order_id"], "code": refused.code, "detail": str(refused)}


def _order_id(client_order_id: str) -> str:
    if not _ORDER_ID.fullmatch(client_order_id):
        raise UnknownOrder("there is no order by that id")
    return client_order_id


def _actor(request: HttpRequest) -> str:
    """Who the audit row names."""
    username: str = request.auth.username  # type: ignore[attr-defined]
    return username
