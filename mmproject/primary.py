"""Several database servers, one of which takes the writes: which one to connect to.

libpq's `target_session_attrs=read-write` takes the first that can write. After a failover that is not enough: an old
primary that comes back as it was can write too. Each promotion begins a new timeline of the log, so all servers are
asked, and the one with the highest timeline is taken.

A client that reaches only the old one takes that. A durable commit there waits for the standby, which follows another
by now, so nothing is acknowledged. When somebody cancels that wait (pg_cancel_backend, a driver's timeout), PostgreSQL
says so with a warning and reports success all the same; `is_unreplicated` knows the warning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Self
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

from mmproject.conf import hosts

# 0 for a server that takes no writes. The name of a log file begins with its timeline.
TIMELINE: Final = (
    "SELECT CASE WHEN pg_is_in_recovery() THEN 0"
    " ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END"
)
# How long the others may take to answer once one that takes writes has: a server that is cut off must not keep all out.
OTHERS_TIMEOUT_S: Final = 2  # psycopg's: libpq knows whole seconds, and no less than this
OTHERS_GRACE_S: Final = 0.5  # asyncpg's

_WAITS: Final = "SyncRepWaitForLSN"  # the server's function that warns, whatever its language
_UNREPLICATED: Final = "canceling wait for synchronous replication"


def is_unreplicated(severity: str | None, function: str | None, message: str | None) -> bool:
    """Whether a notice of the server's says that a commit is not known to have reached the standby."""
    return severity == "WARNING" and (function == _WAITS or (message or "").startswith(_UNREPLICATED))


# --- psycopg --------------------------------------------------------------------------------------------------------


class Connection(psycopg.Connection[Any]):
    """psycopg's, to the newest primary of those that are named."""

    @classmethod
    def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
        """As psycopg's. Raises psycopg.OperationalError when none of the servers takes writes."""
        given = {**conninfo_to_dict(conninfo), **kwargs}
        names = str(given.get("host") or "").split(",")
        ports = str(given.get("port") or "").split(",")
        if len(names) < 2:
            return super().connect(conninfo, **kwargs)
        best: tuple[int, Self] | None = None
        failure = psycopg.OperationalError("none of the servers takes writes")
        for number, name in enumerate(names):
            place = {"host": name, "port": ports[number] if len(ports) > 1 else ports[0]}
            if best is not None:
                place["connect_timeout"] = str(OTHERS_TIMEOUT_S)
            try:
                one = super().connect(conninfo, **{**kwargs, **place, "target_session_attrs": "any"})
            except psycopg.OperationalError as error:
                failure = error
                continue
            timeline = _timeline(one)
            if timeline > (best[0] if best else 0):
                if best:
                    best[1].close()
                best = timeline, one
            else:
                one.close()
        if best is None:
            raise failure
        return best[1]


def _timeline(connection: psycopg.Connection[Any]) -> int:
    """Of a server that takes writes; 0 of another, and of one that has just gone."""
    try:
        row = connection.execute(TIMELINE).fetchone()
        if not connection.autocommit:
            connection.rollback()
    except psycopg.OperationalError:
        return 0
    return int(next(iter(row.values())) if isinstance(row, dict) else row[0]) if row else 0


def place_of(options: Mapping[str, Any]) -> dict[str, str]:
    """Host and port of the newest primary, for who makes the connection itself. Raises psycopg.OperationalError."""
    names = ("host", "port", "dbname", "user", "password", "connect_timeout", "sslmode", "sslrootcert")
    with Connection.connect(**{name: options[name] for name in names if name in options}) as found:
        return {"host": found.info.host, "port": str(found.info.port)}


# --- asyncpg --------------------------------------------------------------------------------------------------------


async def newest(url: str, connect: Callable[[str], Awaitable[Any]]) -> Any:
    """asyncpg's connection to the newest primary of those in the URL; `connect` makes one to a URL of one server.

    Raises what the last of the failed ones raised, or ConnectionError when none that answered takes writes.
    """
    count = len(hosts(url))
    if count < 2:
        return await connect(url)
    pending = {asyncio.create_task(_with_timeline(_at(url, number), connect)) for number in range(count)}
    best: tuple[int, Any] | None = None
    failure: BaseException = ConnectionError("none of the servers takes writes")
    try:
        while pending:
            wait_s = OTHERS_GRACE_S if best else None
            done, pending = await asyncio.wait(pending, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            for task in done:
                if (error := task.exception()) is not None:
                    failure = error
                elif task.result()[0] > (best[0] if best else 0):
                    if best:
                        best[1].terminate()
                    best = task.result()
                else:
                    task.result()[1].terminate()
    except BaseException:
        if best:
            best[1].terminate()
        raise
    finally:
        for task in pending:
            task.add_done_callback(_drop)
            task.cancel()
    if best is None:
        raise failure
    return best[1]


def _at(url: str, number: int) -> str:
    """The URL with the one of its servers that has this number."""
    parts = urlsplit(url)
    login, at, places = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login}{at}{places.split(',')[number]}"))


async def _with_timeline(url: str, connect: Callable[[str], Awaitable[Any]]) -> tuple[int, Any]:
    connection = await connect(url)
    try:
        return int(await connection.fetchval(TIMELINE)), connection
    except BaseException:
        connection.terminate()
        raise


def _drop(task: asyncio.Task[tuple[int, Any]]) -> None:
    """One that came too late to be looked at."""
    if not task.cancelled() and task.exception() is None:
        task.result()[1].terminate()
