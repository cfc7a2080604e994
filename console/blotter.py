"""The blotter: fills and orders, searched, paged and exported."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from console.web import page, show


@page
def fills(request: HttpRequest) -> HttpResponse:
    """Fills, newest first."""
    return show(request, "console/fills.html", "fills")


@page
def orders(request: HttpRequest) -> HttpResponse:
    """Orders, newest first."""
    return show(request, "console/orders.html", "orders")
