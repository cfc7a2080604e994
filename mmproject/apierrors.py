"""How the API says no: {"code", "detail"} with the status that fits."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from pydantic import BaseModel


class ApiError(Exception):
    """Answered as `status` with {"code", "detail"}. `code` is stable; `detail` is for people."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


class ErrorOut(BaseModel):
    """Why not. `code` is stable; `detail` is for people."""

    code: str
    detail: str


# For an operation's `response=`: what each of them may answer.
ERRORS: dict[Any, type[ErrorOut]] = {frozenset({400, 401, 403, 404, 405, 409, 422, 503}): ErrorOut}


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler400: requests that it refuses before any view, such as one for another host name."""
    detail = "the request cannot be read"
    if isinstance(exception, DisallowedHost):
        detail = "this host name is not served here; MM_ALLOWED_HOSTS names further ones"
    if request.path.startswith("/api/"):
        return JsonResponse({"code": "bad_request", "detail": detail}, status=400)
    return HttpResponse(f"{detail}\n", status=400, content_type="text/plain; charset=utf-8")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler404, without its look for a CSRF token: a form that cannot be read would then be an error."""
    return render(request, "404.html", status=404)
