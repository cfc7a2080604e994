"""The authority page: who held what, as a picture."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from console.web import page, show


@page
def authority(request: HttpRequest) -> HttpResponse:
    """Who held which symbol over the last minutes, hours or day."""
    return show(request, "console/authority.html", "authority")
