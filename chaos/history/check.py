"""Both checks of a recorded run against its database."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from chaos.history.facts import Facts, facts
from chaos.history.leases import check_leases
from chaos.history.operations import History, read, sizes
from chaos.history.report import Found
from chaos.history.transactions import check_transactions


@dataclass(frozen=True, slots=True)
class Report:
    """What was recorded, and what the checks found in it. Times in seconds."""

    operations: Counter[str]  # by name
    unknown: int
    failed: int
    leases: Found
    transactions: Found
    took_s: float

    @property
    def ok(self) -> bool:
        return self.leases.ok and self.transactions.ok

    @property
    def recorded(self) -> int:
        return self.operations.total()

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "recorded": self.recorded,
            "operations": dict(sorted(self.operations.items())),
            "unknown": self.unknown,
            "failed": self.failed,
            "took_s": round(self.took_s, 3),
            "checks": {name: _json(found) for name, found in self.checks().items()},
        }

    def checks(self) -> dict[str, Found]:
        return {"linearizability": self.leases, "serializability": self.transactions}


def check(folder: Path, connection: psycopg.Connection[Any]) -> Report:
    """Check the recordings below `folder` against the tables of `connection`'s database.

    The system may be running: what is answered after the tables were read counts as not yet answered. The connection
    is in autocommit, of any role of ours. Raises UserError for a folder without recordings, and for a broken one.
    """
    told_until = sizes(folder)
    tables = facts(connection)
    return judge(read(folder, told_until), tables)


def judge(history: History, tables: Facts) -> Report:
    """Check a history against the tables of its run."""
    started = time.monotonic()
    leases, transactions = check_leases(history, tables), check_transactions(history, tables)
    return Report(
        Counter(one.op for one in history.operations),
        sum(not one.is_known for one in history.operations),
        history.failed,
        leases,
        transactions,
        time.monotonic() - started,
    )


def _json(found: Found) -> dict[str, Any]:
    return {
        "ok": found.ok,
        "violations": found.count,
        "shown": [{"what": one.what, "lines": list(one.lines)} for one in found.violations],
        "counts": dict(sorted(found.counts.items())),
    }
