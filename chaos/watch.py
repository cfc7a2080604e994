"""Judging a run: every invariant in one snapshot each second, what must have happened, and the quotes' gaps."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from chaos.arena import Arena
from mmproject.invariants import INVARIANTS
from mmproject.verify import Report, verify

EVERY_S: Final = 1.0
# I10 needs the clients' record and is judged at the end.
WHILE_RUNNING: Final = tuple(one.id for one in INVARIANTS if one.id != "I10")


@dataclass
class Watch:
    """Verifies each second, as long as there is a server, from a thread of its own."""

    arena: Arena
    snapshots: int = 0
    unreachable: int = 0  # times when there was no server to ask
    longest_ms: int = 0
    violations: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Judge no more."""
        self._stop.set()
        if self._thread:
            self._thread.join(120)
            if self._thread.is_alive():
                self.errors.append("it does not end")

    def _run(self) -> None:
        connection: psycopg.Connection[Any] | None = None
        while not self._stop.is_set():
            due = time.monotonic() + EVERY_S
            try:
                if connection is None:
                    connection = self.arena.connect()
                self._judge(verify(connection, only=WHILE_RUNNING))
            except Exception as error:  # noqa: BLE001 - whatever keeps it from judging is told
                if connection is not None:
                    connection.close()
                connection = None
                if _is_no_server(error):
                    self.unreachable += 1
                else:
                    self.errors.append(f"{type(error).__name__}: {error}".strip())
            self._stop.wait(max(0.0, due - time.monotonic()))
        if connection is not None:
            connection.close()

    def _judge(self, report: Report) -> None:
        self.snapshots += 1
        self.longest_ms = max(self.longest_ms, report.took_ms)
        for verdict in report.verdicts:
            if not verdict.ok:
                self.violations.append({"at": report.checked_at.timestamp(), **verdict.as_json()})


def _is_no_server(error: Exception) -> bool:
    """Gone, going or coming: no state, a connection's (08), no room for one (53), a shutdown (57P), its disk (58)."""
    if not isinstance(error, psycopg.OperationalError):
        return False
    return error.sqlstate is None or error.sqlstate[:2] in ("08", "53", "58") or error.sqlstate[:3] == "57P"


# --- Gaps -------------------------------------------------------------------------------------------------------

_VERSIONS: Final = """
    SELECT symbol, extract(epoch FROM published_at)::float8, extract(epoch FROM valid_until)::float8, withdrawn_reason,
           node, incarnation::text
      FROM exchange_quoteversion WHERE published_at > to_timestamp(%s) ORDER BY symbol, version
"""


@dataclass(frozen=True)
class Version:
    """A quote, or a withdrawal (then it is never live). Unix seconds."""

    symbol: str
    at: float
    until: float
    withdrawn: str | None
    node: str
    incarnation: str


@dataclass(frozen=True)
class Gap:
    """A time in which an enabled symbol had no live quote."""

    symbol: str
    began_at: float
    ended_at: float

    @property
    def seconds(self) -> float:
        return self.ended_at - self.began_at


def versions(connection: psycopg.Connection[Any], since: float) -> list[Version]:
    """All since then, by symbol and in order."""
    return [
        Version(symbol, at, until or at, withdrawn, node, incarnation)
        for symbol, at, until, withdrawn, node, incarnation in connection.execute(_VERSIONS, [since]).fetchall()
    ]


def gaps(found: Iterable[Version]) -> list[Gap]:
    """Between two quotes of a symbol: from the end of the one (replaced, withdrawn, lapsed) to the next.

    What an operator turned off is no gap.
    """
    result = []
    by_symbol: dict[str, list[Version]] = defaultdict(list)
    for version in found:
        by_symbol[version.symbol].append(version)
    for symbol, each in by_symbol.items():
        live_until, disabled = each[0].at, False
        for version in each:
            if version.withdrawn is not None:
                live_until = min(live_until, version.at)
                disabled |= version.withdrawn == "quoting_disabled"
                continue
            if version.at > live_until and not disabled:
                result.append(Gap(symbol, live_until, version.at))
            live_until, disabled = version.until, False
    return result


def taken_over(found: Iterable[Version], symbols: Iterable[str], since: float, until: float) -> list[float]:
    """For each of these symbols: seconds from `since` to the first quote by another node or incarnation than before.

    Those that had none by `until` are left out: the caller counts them.
    """
    wanted = set(symbols)
    last: dict[str, str] = {}
    result: dict[str, float] = {}
    for version in found:
        if version.symbol not in wanted or version.withdrawn is not None:
            continue
        if version.at <= since:
            last[version.symbol] = version.incarnation
        elif version.at <= until and version.symbol not in result and version.incarnation != last.get(version.symbol):
            result[version.symbol] = version.at - since
    return list(result.values())


# --- What must have happened --------------------------------------------------------------------------------------

_COUNTS: Final = {
    # Tenures that ended with their node, and were followed by another's.
    "takeovers": """
        SELECT count(*) FROM authority_tenure t WHERE reason IN ('expired', 'session_lost')
           AND EXISTS (SELECT FROM authority_tenure n
                        WHERE n.symbol = t.symbol AND n.epoch = t.epoch + 1 AND n.node <> t.node)""",
    "fenced_writes_refused": "SELECT count(*) FROM journal_activity WHERE kind = 'refused'",
}


def counted(connection: psycopg.Connection[Any]) -> dict[str, int]:
    """How often each of the database's `sometimes` came about."""
    result = {}
    for name, query in _COUNTS.items():
        row = connection.execute(query.encode()).fetchone()
        result[name] = int(row[0]) if row else 0
    return result


def spread(values: Iterable[float]) -> dict[str, float | int]:
    """count, p50, p99 and max, in milliseconds."""
    ordered = sorted(values)
    if not ordered:
        return {"count": 0}

    def at(share: float) -> int:
        return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))])

    return {"count": len(ordered), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": round(1000 * ordered[-1])}
