"""Who calls the API: a bearer token, or the session of a signed-in browser (whose writes need the CSRF token)."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import DataError
from django.http import HttpRequest
from django.utils import timezone
from ninja.security.base import SecuritySchema
from ninja.utils import check_csrf

from accounts.models import ApiToken
from accounts.services import token_hash
from mmproject.apierrors import ApiError

CACHE_TTL_S = 2.0  # a revoked token or permission is refused within this time, in every process
CACHE_SIZE_MAX = 1_000
LAST_USED_RESOLUTION = timedelta(minutes=1)  # last_used_at is written at most this often


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling, and what they may do."""

    username: str
    permissions: frozenset[str]


class TokenCache:
    """Tokens that were looked up just now, by their hash: so that an order costs no query for its authentication.

    Unknown tokens are not kept: one that is created works at once.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Principal]] = {}
        self._lock = threading.Lock()

    def principal(self, token: str) -> Principal | None:
        """The token's user, or None for a token that is not valid (any more)."""
        hashed = token_hash(token)
        now = time.monotonic()
        with self._lock:
            until, principal = self._known.get(hashed, (0.0, None))
        if principal is not None and now < until:
            return principal
        found = _looked_up(hashed)
        with self._lock:
            if found is None:
                self._known.pop(hashed, None)
            else:
                if len(self._known) >= CACHE_SIZE_MAX:
                    self._known.clear()
                self._known[hashed] = (now + CACHE_TTL_S, found)
        return found


_tokens = TokenCache()


def _looked_up(hashed: str) -> Principal | None:
    token = ApiToken.objects.select_related("user").filter(token_hash=hashed, user__is_active=True).first()
    if token is None:
        return None
    now = timezone.now()
    if token.last_used_at is None or now - token.last_used_at > LAST_USED_RESOLUTION:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return _principal(token.user)


def _principal(user: User) -> Principal:
    return Principal(user.get_username(), frozenset(user.get_all_permissions()))


class Access:
    """django-ninja's `auth=` of one operation: who is calling (401), and may they (403).

    `Access()` lets everybody in who is known; `Access("accounts.place_order")` asks for that permission.
    """

    csrf = True  # django-ninja's documentation page then sends the CSRF token with what it tries out

    def __init__(self, permission: str | None = None) -> None:
        self.permission = permission
        # What the OpenAPI document says of it.
        self.openapi_security_schema = SecuritySchema(type="http", scheme="bearer")

    def __call__(self, request: HttpRequest) -> Principal:
        principal = _identified(request)
        if principal is None:
            raise ApiError(401, "unauthenticated", "sign in, or send a valid token: Authorization: Bearer TOKEN")
        if self.permission and self.permission not in principal.permissions:
            raise ApiError(403, "forbidden", f"this needs the permission {self.permission}")
        return principal


def _identified(request: HttpRequest) -> Principal | None:
    header = request.headers.get("Authorization")
    if header is not None:
        # A caller who shows a token is judged by it alone, whatever cookies come along.
        scheme, _, token = header.partition(" ")
        return _tokens.principal(token.strip()) if scheme.lower() == "bearer" and token.strip() else None
    try:
        user: Any = request.user
        if not user.is_authenticated:
            return None
    except (DataError, ValueError):
        return None  # a session cookie that can't be one, such as one with a NUL
    if check_csrf(request) is not None:
        raise ApiError(403, "csrf_failed", "the CSRF token is missing or wrong: send it in the X-CSRFToken header")
    return _principal(user)
