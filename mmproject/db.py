"""Where the database is, how we connect, and which errors are worth a second try. Free of Django."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any, Literal, TypeVar, get_args
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from mmproject.conf import Conf, conf, hosts
from mmproject.errors import NoDatabase

Role = Literal["admin", "console", "exchange", "node"]
T = TypeVar("T")

RETRY_ATTEMPTS = 8  # a serialization failure that lasts longer than this is a fault to show, not to hide
RETRY_BASE_MS = 4
RETRY_CAP_MS = 250
RETRYABLE = frozenset({"40001", "40P01"})  # serialization_failure, deadlock_detected

# A dropped network must not hang us: the kernel gives up on unacknowledged data after TCP_USER_TIMEOUT_MS.
CONNECT_TIMEOUT_S = 5
TCP_USER_TIMEOUT_MS = 5_000

PSYCOPG_OPTIONS: dict[str, Any] = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": TCP_USER_TIMEOUT_MS,
    "target_session_attrs": "read-write",
    "application_name": f"mm {conf.process}",
}


def connect_url(role: Role, settings: Conf = conf) -> str:
    """The URL to connect with as `role`.

    DATABASE_URL wins, whatever its user: `up` hands each process its own. Without it, commands run by hand use what
    `up` wrote to var/run/urls.json. Raises NoDatabase.
    """
    assert role in get_args(Role), role
    if settings.database_url:
        return settings.database_url
    path = settings.var / "run" / "urls.json"
    try:
        url = json.loads(path.read_text())[role]
    except FileNotFoundError:
        raise NoDatabase("no database: start the system with `make run`, or set DATABASE_URL") from None
    except PermissionError:
        raise NoDatabase(f"{path} can only be read by the user who started the system") from None
    assert isinstance(url, str)
    return url


# Options of libpq's that other drivers take in a URL; asyncpg would hand them to the server as settings.
_LIBPQ_ONLY = frozenset(
    ("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")
)


def asyncpg_url(url: str) -> str:
    """The URL without the options that only libpq knows."""
    parts = urlsplit(url)
    options = [(name, value) for name, value in parse_qsl(parts.query) if name not in _LIBPQ_ONLY]
    return urlunsplit(parts._replace(query=urlencode(options)))


def described(url: str) -> str:
    """Hosts, ports and database of a URL: what may be shown, without user and password."""
    places = ",".join(f"{host or 'local socket'}:{port}" for host, port in hosts(url))
    return f"{places}/{urlsplit(url).path.lstrip('/')}"


def sqlstate(error: BaseException | None) -> str | None:
    """The SQLSTATE of an error of psycopg or asyncpg, also when Django has wrapped it."""
    while error is not None:
        state = getattr(error, "sqlstate", None)
        if isinstance(state, str):
            return state
        error = error.__cause__
    return None


def retry_pause_s(attempt: int) -> float:
    """Seconds to wait before the next try: doubling, capped, with full jitter so that losers do not meet again."""
    return random.uniform(0, min(RETRY_CAP_MS, RETRY_BASE_MS * 2**attempt)) / 1000


def retrying(command: Callable[[], T], *, attempts: int = RETRY_ATTEMPTS) -> T:
    """Run a whole command, again if the database chose it to lose (40001, 40P01).

    The command begins and ends its own transaction and is safe to run twice. Any other error, and the last one, is
    raised as it is. Must not be called inside a transaction: that one would stay failed.
    """
    for attempt in range(attempts):
        try:
            return command()
        except Exception as error:
            if sqlstate(error) not in RETRYABLE or attempt == attempts - 1:
                raise
        time.sleep(retry_pause_s(attempt))
    raise AssertionError("attempts must be at least 1")
