"""What benchmarks and tests share: waiting for a condition, a scratch database's URLs, a system's environment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import psycopg

from mmproject import provision
from mmproject.db import Role
from mmproject.postgres import free_port

T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]

POLL_S: Final = 0.02
WEB_PORTS: Final = range(10_000, 20_000)


def free_web_port() -> int:
    """A port for Daphne, which listens long after it was chosen: none that a server of PostgreSQL may get meanwhile."""
    return free_port(WEB_PORTS)


class NotInTime(AssertionError):
    """What was waited for did not come."""


def eventually(
    condition: Callable[[], T | None],
    timeout_s: float = 10,
    message: str = "",
    *,
    interval_s: float = POLL_S,
    not_yet: tuple[type[Exception], ...] = (AssertionError,),
) -> T:
    """Return what `condition` returns once that is true; raise NotInTime with `message` after `timeout_s`.

    An error of `not_yet` inside `condition` counts as not yet, and is shown if it stays.
    """
    deadline = time.monotonic() + timeout_s
    last: object = None
    while True:
        try:
            last = condition()
            if last:
                return last
        except not_yet as error:
            last = error
        if time.monotonic() > deadline:
            raise NotInTime(f"not within {timeout_s} s: {message or condition}; last seen: {last!r}")
        time.sleep(interval_s)


@dataclass
class Database:
    """A scratch database, migrated, with the roles' URLs. Whoever made it drops it."""

    urls: dict[str, str]
    _open: list[Connection] = field(default_factory=list)

    @property
    def name(self) -> str:
        return provision.database_name(self.urls["admin"])

    def url(self, role: Role = "admin") -> str:
        return self.urls[role]

    def connect(self, role: Role = "admin") -> Connection:
        """A connection in autocommit that is closed with the database. Every call opens a new one."""
        connection = provision.connect(self.urls[role])
        self._open.append(connection)
        return connection

    def close(self) -> None:
        for connection in self._open:
            connection.close()

    @contextmanager
    def django(self, role: Role = "console") -> Iterator[None]:
        """Django's default connection goes to this database, as `role`, in the meantime."""
        from django.db import connections

        before = provision.point_django_at(self.urls[role])
        try:
            yield
        finally:
            connections["default"].close()
            connections.settings["default"].update(before)


def environment(var: Path, **changes: str) -> dict[str, str]:
    """The environment for a system of its own: nothing of the caller's MM_* settings, its own var."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MM_") or k == "MM_POSTGRES_USER"}
    kept.pop("DATABASE_URL", None)
    kept.pop("CELERY_BROKER_URL", None)
    return {**kept, "MM_VAR": str(var), **changes}
