"""The page of one symbol: its prices, its book, its position, and who may quote it and why."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, TypeVar

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from console import symbol_data, ticket
from console.web import page, refusal, show
from exchange.errors import UnknownSymbol

T = TypeVar("T")

# How much of the past a picture shows, in seconds, and how much a story tells; the first is what is shown unasked.
RANGES: Final[Mapping[str, int]] = {"5m": 300, "30m": 1800, "2h": 7200}
STORIES: Final[Mapping[str, timedelta]] = {
    "1h": timedelta(hours=1), "15m": timedelta(minutes=15), "24h": timedelta(hours=24),
}  # fmt: skip


@page
def symbol(request: HttpRequest, symbol: str) -> HttpResponse:
    """All that there is to see of one symbol."""
    first = symbol_data.first(symbol)
    if first is None:
        return render(request, "console/symbol_unknown.html", {"symbol": symbol}, status=404)
    return show(request, "console/symbol.html", "live", symbol=symbol, first=first, ticket=ticket.new(symbol))


@page
def symbol_now(_request: HttpRequest, symbol: str) -> JsonResponse:
    """Parameters, book, newest fills and orders."""
    return _answer(symbol, symbol_data.now(symbol))


@page
def symbol_chart(request: HttpRequest, symbol: str) -> JsonResponse:
    """Prices, quotes, fills, position and P&L over the last while: `range` is 5m, 30m or 2h."""
    seconds = _chosen(request, "range", RANGES)
    if seconds is None:
        return _unknown_choice("range", RANGES)
    return _answer(symbol, symbol_data.chart(symbol, seconds))


@page
def symbol_story(request: HttpRequest, symbol: str) -> JsonResponse:
    """Who held it and why it moved: `last` is 15m, 1h or 24h."""
    last = _chosen(request, "last", STORIES)
    if last is None:
        return _unknown_choice("last", STORIES)
    try:
        return _answer(symbol, symbol_data.authority_story(symbol, last))
    except UnknownSymbol:
        return _answer(symbol, None)


def _chosen(request: HttpRequest, name: str, choices: Mapping[str, T]) -> T | None:
    """The choice that the address names, the first one if it names none, None if it names no such choice."""
    return choices.get(request.GET.get(name, next(iter(choices))))


def _unknown_choice(name: str, choices: Mapping[str, Any]) -> JsonResponse:
    return refusal("invalid", f"{name} must be one of {', '.join(choices)}.", 400)


def _answer(symbol: str, found: dict[str, Any] | None) -> JsonResponse:
    if found is None:
        return refusal(UnknownSymbol.code, f"There is no symbol {symbol}.", 404)
    return JsonResponse(found)
