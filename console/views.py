"""The console's pages and what an operator can do on them. Nothing is ever done by GET."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

import structlog
from django.contrib.auth import views as auth_views
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts.permissions import DRAIN_NODE, TOGGLE_QUOTING
from authority.errors import UnknownNode
from authority.services import set_draining
from console.selectors import page_state
from exchange.errors import UnknownSymbol
from exchange.services import set_quoting

log = structlog.get_logger(__name__)

View = Callable[..., HttpResponseBase]

REASON_CHARACTERS_MAX: Final = 200
RETRY_AFTER_S: Final = 2


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


def acts(permission: str) -> Callable[[View], View]:
    """A view that changes something: POST only, behind login, with `permission`; its errors are answers."""

    def decorate(view: View) -> View:
        @require_POST
        @answers_without_database
        @login_required
        @wraps(view)
        def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not _user(request).has_perm(permission):
                if wants_json(request):
                    return _refusal("forbidden", "You may look, but not do this.", 403)
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return wrapped

    return decorate


def _user(request: HttpRequest) -> Any:
    user: AbstractBaseUser | Any = request.user
    return user


def _refusal(code: str, detail: str, status: int) -> JsonResponse:
    return JsonResponse({"code": code, "detail": detail}, status=status)


def _done(request: HttpRequest, changed: list[Any]) -> HttpResponse:
    """The script is told what changed; a plain form goes back to the page."""
    return JsonResponse({"changed": changed}) if wants_json(request) else redirect("live")


def _flag(request: HttpRequest, name: str) -> bool | None:
    return {"true": True, "false": False}.get(request.POST.get(name, ""))


def _reason(request: HttpRequest) -> str:
    text = request.POST.get("reason", "").replace("\0", "").strip()
    return text[:REASON_CHARACTERS_MAX]


@require_safe
@never_cache
@answers_without_database
@login_required
def live(request: HttpRequest) -> HttpResponse:
    """The live table. It is painted with the state as of now; the stream keeps it so."""
    user = _user(request)
    may = {"quoting": user.has_perm(TOGGLE_QUOTING), "drain": user.has_perm(DRAIN_NODE)}
    return render(request, "console/live.html", {"state": {**page_state(), "may": may}, "may": may})


@require_safe
@never_cache
@answers_without_database
def session(request: HttpRequest) -> JsonResponse:
    """Why did the stream fail? 200: signed in, 401: not any more, 503: the database cannot be reached."""
    user = _user(request)
    if not user.is_authenticated:
        return _refusal("unauthenticated", "Sign in first.", 401)
    return JsonResponse({"username": user.get_username()})


def _quoting(request: HttpRequest, symbols: list[str] | None) -> HttpResponse:
    enabled = _flag(request, "enabled")
    if enabled is None:
        return _refusal("invalid", "enabled must be true or false.", 400)
    try:
        changed = set_quoting(symbols, enabled, _user(request).get_username(), _reason(request))
    except UnknownSymbol as error:
        return _refusal(error.code, str(error), 404)
    return _done(request, list(changed))


@acts(TOGGLE_QUOTING)
def symbol_quoting(request: HttpRequest, symbol: str) -> HttpResponse:
    """Turn quoting on or off for one symbol. Form fields: enabled (true, false), reason."""
    return _quoting(request, [symbol])


@acts(TOGGLE_QUOTING)
def all_quoting(request: HttpRequest) -> HttpResponse:
    """The same for all symbols, in one commit."""
    return _quoting(request, None)


@acts(DRAIN_NODE)
def node_draining(request: HttpRequest, node: str) -> HttpResponse:
    """Drain a node or let it take symbols again. Form fields: draining (true, false), reason."""
    draining = _flag(request, "draining")
    if draining is None:
        return _refusal("invalid", "draining must be true or false.", 400)
    try:
        changed = set_draining(node, draining, _user(request).get_username(), _reason(request))
    except UnknownNode as error:
        return _refusal(error.code, str(error), 404)
    return _done(request, [changed])


login = answers_without_database(
    auth_views.LoginView.as_view(template_name="console/login.html", redirect_authenticated_user=True)
)
logout = answers_without_database(auth_views.LogoutView.as_view(http_method_names=["post", "options"]))
