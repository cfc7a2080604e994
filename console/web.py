"""What the console's pages and actions have in common: login, permission, and an answer when the database is away."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

import structlog
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts.permissions import CHANGE_PARAMETERS, DRAIN_NODE, PLACE_ORDER, TOGGLE_QUOTING

log = structlog.get_logger(__name__)

REASON_CHARACTERS_MAX: Final = 200
RETRY_AFTER_S: Final = 2
# The main menu: where it leads, by the address's name, and what it says.
PLACES: Final = (
    ("live", "Live"), ("authority", "Authority"), ("fills", "Fills"), ("orders", "Orders"),
)  # fmt: skip

View = Callable[..., HttpResponseBase]


def wants_json(request: HttpRequest) -> bool:
    """The page's own script asks, and not a form or an address typed by hand."""
    return "application/json" in request.headers.get("accept", "")


def answers_without_database(view: View) -> View:
    """Say that the database cannot be reached, with 503, where a view would fail with a traceback."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return view(request, *args, **kwargs)
        except (OperationalError, InterfaceError) as error:
            log.warning("console_without_database", path=request.path, error=str(error).strip().split("\n")[0])
            response: HttpResponse
            if wants_json(request):
                response = JsonResponse(
                    {"code": "unavailable", "detail": "The database cannot be reached."}, status=503
                )
            else:
                response = render(None, "console/unavailable.html", status=503)
            response["Retry-After"] = str(RETRY_AFTER_S)
            return response

    return wrapped


def page(view: View) -> View:
    """A page to look at: GET only, behind login, never cached."""
    return require_safe(never_cache(answers_without_database(login_required(view))))


def show(request: HttpRequest, template: str, here: str, **context: Any) -> HttpResponse:
    """Render a page that extends console/page.html. `here` is its entry of the main menu."""
    user = user_of(request)
    may = {
        "quoting": user.has_perm(TOGGLE_QUOTING), "drain": user.has_perm(DRAIN_NODE),
        "order": user.has_perm(PLACE_ORDER), "parameters": user.has_perm(CHANGE_PARAMETERS),
    }  # fmt: skip
    return render(request, template, {"places": PLACES, "here": here, "may": may, **context})


def acts(permission: str) -> Callable[[View], View]:
    """A view that changes something: POST only, behind login, with `permission`; its errors are answers."""

    def decorate(view: View) -> View:
        @require_POST
        @answers_without_database
        @login_required
        @wraps(view)
        def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not user_of(request).has_perm(permission):
                if wants_json(request):
                    return refusal("forbidden", "You may look, but not do this.", 403)
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return wrapped

    return decorate


def user_of(request: HttpRequest) -> Any:
    user: AbstractBaseUser | Any = request.user
    return user


def refusal(code: str, detail: str, status: int) -> JsonResponse:
    again = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}
    return JsonResponse({"code": code, "detail": detail}, status=status, headers=again)


def done(request: HttpRequest, changed: list[Any]) -> HttpResponse:
    """The script is told what changed; a plain form goes back to the page."""
    return JsonResponse({"changed": changed}) if wants_json(request) else redirect("live")


def flag(request: HttpRequest, name: str) -> bool | None:
    return {"true": True, "false": False}.get(request.POST.get(name, ""))


def reason(request: HttpRequest) -> str:
    text = request.POST.get("reason", "").replace("\0", "").strip()
    return text[:REASON_CHARACTERS_MAX]
