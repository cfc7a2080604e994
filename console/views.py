"""The console's live page and what an operator can do on it. Nothing is ever done by GET."""

from __future__ import annotations

from django.contrib.auth import views as auth_views
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.permissions import DRAIN_NODE, TOGGLE_QUOTING
from authority.errors import UnknownNode
from authority.services import set_draining
from console.selectors import page_state
from console.web import acts, answers_without_database, done, flag, page, reason, refusal, show, user_of
from exchange.errors import SymbolsLocked, UnknownSymbol
from exchange.services import set_quoting


@page
def live(request: HttpRequest) -> HttpResponse:
    """The live table. It is painted with the state as of now; the stream keeps it so."""
    return show(request, "console/live.html", "live", state=page_state())


@require_safe
@never_cache
@answers_without_database
def session(request: HttpRequest) -> JsonResponse:
    """Why did the stream fail? 200: signed in, 401: not any more, 503: the database cannot be reached."""
    user = user_of(request)
    if not user.is_authenticated:
        return refusal("unauthenticated", "Sign in first.", 401)
    return JsonResponse({"username": user.get_username()})


def _quoting(request: HttpRequest, symbols: list[str] | None) -> HttpResponse:
    enabled = flag(request, "enabled")
    if enabled is None:
        return refusal("invalid", "enabled must be true or false.", 400)
    try:
        changed = set_quoting(symbols, enabled, user_of(request).get_username(), reason(request))
    except UnknownSymbol as error:
        return refusal(error.code, str(error), 404)
    except SymbolsLocked as error:
        return refusal(error.code, str(error), 503)
    return done(request, list(changed))


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
    draining = flag(request, "draining")
    if draining is None:
        return refusal("invalid", "draining must be true or false.", 400)
    try:
        changed = set_draining(node, draining, user_of(request).get_username(), reason(request))
    except UnknownNode as error:
        return refusal(error.code, str(error), 404)
    return done(request, [changed])


login = answers_without_database(
    auth_views.LoginView.as_view(template_name="console/login.html", redirect_authenticated_user=True)
)
logout = answers_without_database(auth_views.LogoutView.as_view(http_method_names=["post", "options"]))
