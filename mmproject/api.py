"""The HTTP API under /api/v1/, its documentation at /api/docs, and how it says no.

Every error is {"code", "detail"}: 400 malformed, 401 not signed in, 403 not permitted, 404 no such thing, 405 wrong
method, 409 in conflict, 422 understood and refused, 503 the database is away or something in it is locked. Input never
makes a 5xx.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import structlog
from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.db import DataError, InterfaceError, OperationalError
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
    RawPostDataException,
    UnreadablePostError,
)
from django.http.multipartparser import MultiPartParserError
from django.urls import URLPattern, URLResolver, re_path
from django.views.decorators.http import require_safe
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError

from accounts.auth import Access
from authority.api import router as authority_router
from exchange.api import router as exchange_router
from ledger.api import router as ledger_router
from mmproject.apierrors import ApiError
from mmproject.apiparser import StrictParser, too_large
from mmproject.errors import UserError

logger = structlog.get_logger(__name__)

LOCATION_OF_BODY = 2  # ("body", parameter): the whole of it is missing, not a field
DETAIL_ERRORS_MAX = 5  # a body can be wrong in many ways; the first few will do

# Kinds of pydantic's errors that are codes of ours already.
OWN_CODES = frozenset({"unknown_symbol", "unknown_parameter", "invalid_query"})
# What a user did wrong, by the `code` of the services' exceptions. Others are refusals of what was understood: 422.
STATUS_OF_CODE = {
    "unknown_order": 404,
    "unknown_node": 404,
    "not_open": 409,
    "duplicate_client_order_id": 409,
    "symbols_locked": 503,
}


class Api(NinjaAPI):
    """django-ninja's, whose answers are JSON also where no operation was reached."""

    def _get_urls(self) -> list[URLResolver | URLPattern]:
        urls = super()._get_urls()
        for url in urls:
            if isinstance(url, URLPattern):
                is_document = url.name in ("openapi-json", "openapi-view")
                url.callback = _in_json(require_safe(url.callback) if is_document else url.callback)
        return [*urls, re_path("", _in_json(_no_such_path))]


def _in_json(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    @wraps(view, updated=())
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            response = view(request, *args, **kwargs)
        except Http404:
            return refused(404, "not_found", "there is nothing at this address; see /api/docs")
        if response.status_code == 405:
            allow = response.headers["Allow"]
            answer = refused(405, "method_not_allowed", f"this address takes {allow}")
            answer.headers["Allow"] = allow
            return answer
        return response

    wrapped.csrf_exempt = True  # type: ignore[attr-defined]  # accounts.auth checks it where a session is used
    return wrapped


def _no_such_path(_request: HttpRequest) -> HttpResponse:
    raise Http404


def refused(status: int, code: str, detail: str) -> HttpResponse:
    """The answer that says no."""
    retry = {"Retry-After": "1"} if status == 503 else {}
    return JsonResponse({"code": code, "detail": detail}, status=status, headers=retry)


api = Api(
    title="Market maker",
    version="1",
    description="Orders, quotes, fills, positions, and who may quote what. Decimals are strings; times are UTC.",
    docs_url="/docs",
    openapi_url="/openapi.json",
    urls_namespace="api",
    auth=[Access()],
    parser=StrictParser(),
)
for _router in (exchange_router, ledger_router, authority_router):
    api.add_router("/v1/", _router)


@api.exception_handler(ApiError)
def _api_error(_request: HttpRequest, error: ApiError) -> HttpResponse:
    answer = refused(error.status, error.code, error.detail)
    if error.status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


@api.exception_handler(UserError)
def _user_error(_request: HttpRequest, error: UserError) -> HttpResponse:
    code = getattr(error, "code", "refused")
    return refused(STATUS_OF_CODE.get(code, 422), code, str(error))


@api.exception_handler(HttpError)
def _http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    if isinstance(error.__cause__, ApiError):  # what our parser said, before django-ninja wrapped it
        return _api_error(request, error.__cause__)
    return refused(error.status_code, "malformed_request", str(error))


@api.exception_handler(ValidationError)
def _validation_error(_request: HttpRequest, error: ValidationError) -> HttpResponse:
    first = error.errors[0]
    if first["type"] == "missing" and len(first["loc"]) == LOCATION_OF_BODY:
        return refused(400, "malformed_request", "a JSON object is needed as the body")
    details = "; ".join(_described(one) for one in error.errors[:DETAIL_ERRORS_MAX])
    return refused(422, _code(first), details)


@api.exception_handler(RequestDataTooBig)
def _too_large(request: HttpRequest, _error: Exception) -> HttpResponse:
    return _api_error(request, too_large())


@api.exception_handler(RawPostDataException)  # a form with files, whose body the check of its CSRF token has read
@api.exception_handler(UnreadablePostError)
@api.exception_handler(BadRequest)
@api.exception_handler(SuspiciousOperation)
@api.exception_handler(MultiPartParserError)
def _bad_request(_request: HttpRequest, _error: Exception) -> HttpResponse:
    return refused(400, "malformed_request", "the request cannot be read")


@api.exception_handler(DataError)
def _data_error(request: HttpRequest, error: DataError) -> HttpResponse:
    # The schemas should have refused it; the database did instead. Nothing changed, and we want to know.
    logger.warning("input_reached_the_database", path=request.path, error=str(error).splitlines()[0])
    return refused(422, "invalid_request", "a value is out of its range")


@api.exception_handler(OperationalError)
@api.exception_handler(InterfaceError)
def _unavailable(request: HttpRequest, error: Exception) -> HttpResponse:
    logger.warning("database_unavailable", path=request.path, error=str(error).strip())
    return refused(503, "unavailable", "the database cannot be reached or is too busy; try again")


@api.exception_handler(Exception)
def _internal(request: HttpRequest, error: Exception) -> HttpResponse:
    logger.error("internal_error", path=request.path, exc_info=error)
    return refused(500, "internal", "a defect of ours; it has been logged")


def _code(error: dict[str, Any]) -> str:
    """The stable code of a schema's refusal: missing_field, unknown_field, one of its own, or invalid_<field>."""
    kind, field = error["type"], _field(error)
    if kind == "missing":
        return "missing_field"
    if kind == "extra_forbidden":
        return "unknown_field"
    if kind in OWN_CODES:
        return str(kind)
    return {"client_order_id": "invalid_order_id"}.get(field, f"invalid_{field}")


def _field(error: dict[str, Any]) -> str:
    """The field's name; of an unknown one too, if it is short enough to repeat."""
    names = [part for part in error["loc"] if isinstance(part, str)]
    return names[-1][:64] if names else "request"


def _described(error: dict[str, Any]) -> str:
    if error["type"] in OWN_CODES:
        return str(error["msg"])
    return f"{_field(error)}: {error['msg']}"
