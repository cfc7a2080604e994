"""The page of one symbol: its prices, its book, its position, and who may quote it and why."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from console.web import page, show


@page
def symbol(request: HttpRequest, symbol: str) -> HttpResponse:
    """All that there is to see of one symbol."""
    return show(request, "console/symbol.html", "live", symbol=symbol)
