"""What every request passes: the Content-Security-Policy, the shape of its session cookie, the admin's odd values."""

from __future__ import annotations

import re
from typing import Any

import structlog
from csp.constants import UNSAFE_EVAL, UNSAFE_INLINE
from csp.middleware import CSPMiddleware, PolicyParts
from django.conf import settings
from django.db import DataError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

logger = structlog.get_logger(__name__)

SESSION_KEY = re.compile(r"[a-z0-9]{32}")  # as Django makes them

# The admin's theme runs Alpine.js (evaluates expressions) and inline styles. It is behind the login, and shows nothing
# that a stranger wrote.
RELAXED = {
    "/admin/": {
        "script-src": [UNSAFE_EVAL],
        "style-src": [UNSAFE_INLINE],
    },
}


class ContentSecurityPolicy(CSPMiddleware):
    """django-csp's middleware with the exceptions above added by path."""

    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        for prefix, directives in RELAXED.items():
            if request.path.startswith(prefix) and not report_only:
                parts.update = {**directives, **(parts.update or {})}
        return parts


def is_session_key(value: str) -> bool:
    """Whether a cookie's value can be a session's key. One that cannot, say with a NUL, must not reach a query."""
    return SESSION_KEY.fullmatch(value) is not None


class SessionCookieShape(MiddlewareMixin):
    """A session cookie that can't be one is taken as none. Stands before the session's middleware."""

    def process_request(self, request: Any) -> None:
        if not is_session_key(request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")):
            request.COOKIES.pop(settings.SESSION_COOKIE_NAME, None)


class AdminsUnfitValues(MiddlewareMixin):
    """A value that no column can hold, such as a NUL, is 400: Django's admin hands an address's pieces to a query."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not (isinstance(exception, DataError) and request.path.startswith("/admin/")):
            return None
        logger.warning("admin_refused", path=request.path, error=str(exception).splitlines()[0])
        return HttpResponse("a value is out of its range\n", status=400, content_type="text/plain; charset=utf-8")
