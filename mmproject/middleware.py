"""The Content-Security-Policy, strict everywhere but where a theme of others needs more."""

from __future__ import annotations

from csp.constants import UNSAFE_EVAL, UNSAFE_INLINE
from csp.middleware import CSPMiddleware, PolicyParts
from django.http import HttpRequest, HttpResponseBase

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
