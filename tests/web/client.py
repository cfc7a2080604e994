"""Clients for tests, all Django's: of the HTTP API, with a token, JSON both ways; and of the console, signed in."""

from __future__ import annotations

import json
from typing import Any

from django.contrib.auth.models import Group, User
from django.test import Client

from accounts.services import create_token

HOST = "localhost"
BACKEND = "django.contrib.auth.backends.ModelBackend"  # who signs in by force_login


def user_of(username: str, group: str | None = None) -> User:
    """A user in a group. There is no password to hash: tests sign in by token or by force_login."""
    user, _ = User.objects.get_or_create(username=username)
    if group:
        user.groups.add(Group.objects.get(name=group))
    return user


def visitor(*, headers: dict[str, str] | None = None, **options: Any) -> Client:
    """A browser that nobody has signed in with."""
    return Client(headers={"host": HOST, **(headers or {})}, raise_request_exception=False, **options)


def signed_in(username: str, group: str | None = None, **options: Any) -> Client:
    """A visitor signed in as this user, made if need be."""
    client = visitor(**options)
    client.force_login(user_of(username, group), backend=BACKEND)
    return client


def client_of(username: str, group: str | None = None) -> ApiClient:
    """A client of this user, made if need be, with a new token."""
    user_of(username, group)
    return ApiClient(create_token(username=username, name="test"))


class Answer:
    """Status, headers and JSON of an answer."""

    def __init__(self, response: Any) -> None:
        self.status: int = response.status_code
        self.headers = response.headers
        self.raw: bytes = response.content
        is_json = response.headers.get("Content-Type", "").startswith("application/json")
        self.json: Any = json.loads(self.raw) if is_json else None

    @property
    def code(self) -> str | None:
        """The error's code."""
        return self.json.get("code") if isinstance(self.json, dict) else None

    @property
    def items(self) -> list[dict[str, Any]]:
        assert self.status == 200, self
        items: list[dict[str, Any]] = self.json["items"]
        return items

    def __repr__(self) -> str:
        return f"{self.status} {self.raw[:300]!r}"


class ApiClient:
    """Speaks to /api/v1/ with a token, or with none."""

    def __init__(self, token: str | None = None) -> None:
        self.http = Client(raise_request_exception=False)
        self.token = token

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """`body` is sent as it is when it is bytes, else as JSON; `path` is below /api/v1/ unless it begins with /."""
        headers = {"host": HOST, **headers}
        if self.token is not None:
            headers.setdefault("authorization", f"Bearer {self.token}")
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        content_type = headers.pop("content_type", "application/json")
        path = path if path.startswith("/") else f"/api/v1/{path}"
        return Answer(self.http.generic(method, path, content, content_type, headers=headers))

    def get(self, path: str, **headers: str) -> Answer:
        return self.call("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.call("POST", path, body, **headers)

    def delete(self, path: str) -> Answer:
        return self.call("DELETE", path)

    def pages(self, path: str, limit: int) -> list[dict[str, Any]]:
        """All items of a list, read page by page."""
        items: list[dict[str, Any]] = []
        cursor, separator = "", "&" if "?" in path else "?"
        while True:
            answer = self.get(f"{path}{separator}limit={limit}{cursor}")
            assert len(answer.items) <= limit
            items += answer.items
            if answer.json["next"] is None:
                return items
            assert len(answer.items) == limit
            cursor = f"&cursor={answer.json['next']}"
