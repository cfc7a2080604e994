"""What every request passes: the Content-Security-Policy, and a look at the shape of its session cookie."""

from __future__ import annotations

import re
from typing import Any

from csp.constants import UNSAFE_EVAL, UNSAFE_INLINE
from csp.middleware import CSPMiddleware, PolicyParts
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

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
