"""The authority page: who held what, as a picture."""

from __future__ import annotations

import re
from typing import Final

from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse

from console.authority_reads import (
    GENERATIONS_MAX,
    LIVES_MAX,
    RANGES_S,
    REFUSALS_MAX,
    TENURES_MAX,
    changes,
    history,
)
from console.obligation import Busy, obligations
from console.web import RETRY_AFTER_S, page, refusal, show
from console.words import END_REASONS, REFUSED_REASONS
from mmproject.db import sqlstate

QUERY_CANCELED: Final = "57014"
RANGE_FIRST: Final = "5m"  # what the page begins with
XID_MAX: Final = 2**63 - 1
_XID: Final = re.compile(r"[0-9]{1,19}", re.ASCII)


@page
def authority(request: HttpRequest) -> HttpResponse:
    """Who held which symbol over the last minutes, hours or day: the frame; its script asks for what is in it."""
    last = request.GET.get("last", "")
    most = {"tenures": TENURES_MAX, "lives": LIVES_MAX, "refusals": REFUSALS_MAX, "generations": GENERATIONS_MAX}
    terms = {
        "ranges": {name: 1000 * seconds for name, seconds in RANGES_S.items()},  # ms
        "last": last if last in RANGES_S else RANGE_FIRST,
        "ended": END_REASONS,
        "refused": REFUSED_REASONS,
        "most": most,
    }
    return show(request, "console/authority.html", "authority", terms=terms)


@page
def authority_history(request: HttpRequest) -> HttpResponse:
    """Tenures, lives, generations and refusals as JSON. `last`: 5m, 1h or 24h; `after`: the horizon of an answer."""
    last_s = RANGES_S.get(request.GET.get("last", ""))
    if last_s is None:
        return _which_range()
    after = request.GET.get("after")
    if after is None:
        return HttpResponse(history(last_s), content_type="application/json")
    if not _XID.fullmatch(after) or int(after) > XID_MAX:
        return refusal("invalid", "after must be the horizon of an earlier answer.", 400)
    return HttpResponse(changes(int(after), last_s), content_type="application/json")


@page
def authority_obligation(request: HttpRequest) -> HttpResponse:
    """How each symbol was quoted as JSON, and how old that is. `last`: 5m, 1h or 24h."""
    last = request.GET.get("last", "")
    if last not in RANGES_S:
        return _which_range()
    try:
        return JsonResponse(obligations.get(last))
    except Busy:
        return _busy()
    except OperationalError as error:
        if sqlstate(error) == QUERY_CANCELED:  # the database is there, but has other things to do
            return _busy()
        raise


def _which_range() -> JsonResponse:
    return refusal("invalid", f"last must be one of {', '.join(RANGES_S)}.", 400)


def _busy() -> JsonResponse:
    answer = refusal("busy", "Reading the quotes takes too long just now.", 503)
    answer["Retry-After"] = str(RETRY_AFTER_S)
    return answer
