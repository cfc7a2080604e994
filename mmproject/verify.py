"""`verify`: every invariant of DESIGN, section 9, judged against the live database in one snapshot.

One read-only REPEATABLE READ transaction: what it reports was true of one moment, whatever went on meanwhile. It takes
no lock that a writer waits for; old quote versions are dropped after it. It needs no rights beyond reading.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.types.range import Range

import authority.verify
import exchange.verify
import ledger.verify
from mmproject.errors import UsageError
from mmproject.invariants import INVARIANTS, ROWS_SHOWN, Check, Invariant, Row, Snapshot

CHECKS: Final[tuple[Check, ...]] = (*authority.verify.CHECKS, *exchange.verify.CHECKS, *ledger.verify.CHECKS)

# Set for the snapshot's transaction only. Verifying may take longer than a request may, and may compute in Python
# between two queries; large sorts stay in memory; compiling queries costs more than it saves.
_LIMITS: Final = {
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "work_mem": "128MB",
    "jit": "off",
    "search_path": "public",
}
# Taken before the snapshot: a dropped table is gone for every snapshot, and what was noted of the drop only for later
# ones. So either both have happened, or the drop waits until we are through.
_NOTHING_IS_DROPPED: Final = "LOCK TABLE ONLY exchange_quoteversion IN ACCESS SHARE MODE"
# With the sessions that live: they hold (class, serial) advisory locks, and those of other classes have no serial.
_MOMENT: Final = """
    SELECT statement_timestamp(), pg_current_snapshot()::text,
           ARRAY (SELECT objid::bigint FROM pg_locks
                   WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted AND objsubid = 2 AND objid <> 0
                     AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""
_LIMITS_SINCE_17: Final = {"transaction_timeout": "0"}


@dataclass(slots=True)
class Verdict:
    """One invariant: whether it holds, how much was looked at, and what breaks it."""

    invariant: Invariant
    checks: int = 0
    checked: int = 0  # rows looked at
    violations: int = 0
    rows: list[Row] = field(default_factory=list)  # the first few; each says under `check` what it breaks
    notes: list[str] = field(default_factory=list)  # what could not be judged, and why
    took_ms: int = 0

    @property
    def ok(self) -> bool:
        return self.violations == 0

    def as_json(self) -> Row:
        return {
            "id": self.invariant.id,
            "name": self.invariant.name,
            "holds": self.invariant.holds,
            "ok": self.ok,
            "violations": self.violations,
            "rows": [{key: shown(value) for key, value in row.items()} for row in self.rows],
            "checked": self.checked,
            "note": "; ".join(self.notes),
            "took_ms": self.took_ms,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What a run found. `snapshot` is PostgreSQL's own name of the moment that was judged."""

    checked_at: datetime
    snapshot: str
    took_ms: int
    verdicts: tuple[Verdict, ...]

    @property
    def ok(self) -> bool:
        return all(verdict.ok for verdict in self.verdicts)

    @property
    def broken(self) -> list[str]:
        """Titles of the invariants that don't hold: "I4 fenced-quotes"."""
        return [verdict.invariant.title for verdict in self.verdicts if not verdict.ok]

    def as_json(self) -> Row:
        return {
            "ok": self.ok,
            "checked_at": shown(self.checked_at),
            "snapshot": self.snapshot,
            "took_ms": self.took_ms,
            "invariants": [verdict.as_json() for verdict in self.verdicts],
        }


def shown(value: Any) -> Any:
    """A database value as JSON has it: decimals as plain text, times in ISO 8601."""
    match value:
        case Decimal():
            return format(value.normalize(), "f")
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        case date() | timedelta() | Range():
            return str(value)
        case None | bool() | int() | str():
            return value
        case dict():
            return {str(key): shown(item) for key, item in value.items()}
        case list() | tuple():
            return [shown(item) for item in value]
    return str(value)


def named(names: Iterable[str]) -> list[Invariant]:
    """The invariants of these names ("I4", "fenced-quotes" or both), in their order. Raises UsageError."""
    wanted = set()
    for name in names:
        found = [i for i in INVARIANTS if name.lower() in (i.id.lower(), i.name, i.title.lower())]
        if not found:
            known = ", ".join(f"{i.id} {i.name}" for i in INVARIANTS)
            raise UsageError(f"no invariant is called {name!r}; there are {known}")
        wanted.update(found)
    return [i for i in INVARIANTS if i in wanted]


def verify(
    connection: psycopg.Connection[Any],
    *,
    only: Iterable[str] = (),
    acknowledged: Path | None = None,
    progress: Callable[[str], None] = lambda _text: None,
) -> Report:
    """Judge the invariants (`only` these names, or all) in one snapshot of `connection`'s database.

    The connection is in autocommit and outside a transaction. `acknowledged` is a client's record for I10: a file of
    JSON lines, each an answer of POST orders. Raises UsageError for an unknown name or an unreadable record.
    """
    invariants = named(only) or list(INVARIANTS)
    started = time.monotonic()
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    try:
        with connection.transaction(force_rollback=True):
            limits = {**_LIMITS, **(_LIMITS_SINCE_17 if connection.info.server_version >= 170_000 else {})}
            for name, value in limits.items():
                # Not set_config(): a SELECT would take the snapshot.
                connection.execute(sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), value))
            connection.execute(_NOTHING_IS_DROPPED)
            # The clock is read as the snapshot's first statement begins: a moment later than this is never judged.
            row = connection.execute(_MOMENT).fetchone()
            assert row is not None
            snapshot = Snapshot(connection, row[0], row[2], acknowledged, progress)
            verdicts = tuple(_judge(snapshot, invariant) for invariant in invariants)
    finally:
        connection.isolation_level = None
        connection.read_only = None
    return Report(row[0], row[1], _ms_since(started), verdicts)


def _judge(snapshot: Snapshot, invariant: Invariant) -> Verdict:
    verdict = Verdict(invariant)
    started = time.monotonic()
    for check in CHECKS:
        if check.invariant != invariant.id:
            continue
        snapshot.progress(f"{invariant.title}: {check.title}")
        found = check(snapshot)
        verdict.checks += 1
        verdict.checked += found.checked
        verdict.violations += found.violations
        verdict.rows += [{"check": check.title, **row} for row in found.rows][: ROWS_SHOWN - len(verdict.rows)]
        if found.note:
            verdict.notes.append(found.note)
    assert verdict.checks, f"{invariant.title} has no check"
    verdict.took_ms = _ms_since(started)
    return verdict


def _ms_since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
