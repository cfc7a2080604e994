"""Several database servers, one of which takes the writes: which one to connect to.

libpq's `target_session_attrs=read-write` takes the first that can write. After a failover that is not enough: an old
primary that comes back as it was can write too. Each promotion begins a new timeline of the log, so all servers are
asked, and the one with the highest timeline is taken.

A client that reaches only the old one takes that. Nothing it does there lasts: a commit waits for the standby, which
follows another by now. When somebody cancels that wait (pg_cancel_backend, a driver's timeout), PostgreSQL says so with
a warning and reports success all the same; `is_unreplicated` knows the warning, and such an answer is not passed on.
"""

from __future__ import annotations

from typing import Any, Final, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict

# 0 for a server that takes no writes. The name of a log file begins with its timeline.
TIMELINE: Final = (
    "SELECT CASE WHEN pg_is_in_recovery() THEN 0"
    " ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END"
)
OTHERS_TIMEOUT_S: Final = 2  # once a server has been found, the others get no longer to answer than this

_UNREPLICATED: Final = "canceling wait for synchronous replication"


def is_unreplicated(severity: str | None, message: str | None) -> bool:
    """Whether a notice of the server's says that a commit is not known to have reached the standby."""
    return severity == "WARNING" and (message or "").startswith(_UNREPLICATED)


class Connection(psycopg.Connection[Any]):
    """psycopg's, to the newest primary of those that are named."""

    @classmethod
    def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
        """As psycopg's. Raises psycopg.OperationalError when none of the servers takes writes."""
        given = {**conninfo_to_dict(conninfo), **kwargs}
        hosts = str(given.get("host") or "").split(",")
        ports = str(given.get("port") or "").split(",")
        if len(hosts) < 2:
            return super().connect(conninfo, **kwargs)
        best: tuple[int, Self] | None = None
        failure = psycopg.OperationalError("none of the servers takes writes")
        for number, host in enumerate(hosts):
            place = {"host": host, "port": ports[number] if len(ports) > 1 else ports[0]}
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
