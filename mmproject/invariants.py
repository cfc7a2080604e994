"""What an invariant is to `verify`: a name, what it holds, and the checks that would find it broken.

Each component declares the checks that it can make (`ledger/verify.py`, `exchange/verify.py`, `authority/verify.py`)
as data; mmproject/verify.py runs them all in one snapshot.
"""

# ruff: noqa: S608 - queries are put together from constants of this project only
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.rows import dict_row
from psycopg.types.datetime import TimestamptzLoader

ROWS_SHOWN: Final = 200  # offending rows that a check hands back; all of them are counted
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Invariant:
    """One invariant of DESIGN, section 9. `id` is "I4", `name` is "fenced-quotes"."""

    id: str
    name: str
    holds: str

    @property
    def title(self) -> str:
        return f"{self.id} {self.name}"


INVARIANTS: Final = (
    Invariant("I1", "one-lease", "at most one lease per symbol, and its holder is one incarnation"),
    Invariant("I2", "epochs-rise", "epochs of a symbol's tenures strictly increase with no repeats"),
    Invariant("I3", "no-overlap", "tenures of a symbol never overlap"),
    Invariant("I4", "fenced-quotes", "every quote was written within its tenure and before any later epoch's grant"),
    Invariant("I5", "in-time", "no quote committed later than its tenure's end plus the transaction timeout"),
    Invariant("I6", "positions-add-up", "every position is the signed sum of its fills: quantity, cash, realised P&L"),
    Invariant("I7", "fills-once", "ids are unique, and each fill moved its position exactly once"),
    Invariant("I8", "no-overfill", "an order's fills never exceed its quantity, a quote's never its size"),
    Invariant(
        "I9", "fair-fills", "each fill lies within the quote and the order that traded, both valid at that commit"
    ),
    Invariant("I10", "nothing-lost", "every acknowledged order and fill is there"),
    Invariant(
        "I11", "fresh-quotes", "enabled and held by a healthy node for 10 s: the newest quote is at most 5 s old"
    ),
    Invariant("I12", "kill-is-final", "no fill against a quote after the commit that disabled its symbol"),
    Invariant("I13", "audited", "each toggle and drain has an audit row with who, when, before and after"),
    Invariant(
        "I14", "covered", "no enabled symbol without a holder for longer than TTL + 2 s while any node is healthy"
    ),
    Invariant("I15", "one-effect", "each step's generated orders exist exactly once"),
)


@dataclass(slots=True)
class Found:
    """What a check found: how many violations, the first of them, and what it could not judge."""

    violations: int = 0
    rows: list[Row] = field(default_factory=list)
    checked: int = 0
    note: str = ""

    def add(self, **row: Any) -> None:
        """Count one violation, and keep its row while there is room."""
        self.violations += 1
        if len(self.rows) < ROWS_SHOWN:
            self.rows.append(row)


class _Timestamp(Loader):
    """A time, or the text of one that Python has none for: what is broken may hold "infinity" too."""

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        self._load = TimestamptzLoader(oid, context).load

    def load(self, data: Buffer) -> datetime | str:
        text = bytes(data).decode()
        return text if text.endswith(("infinity", "BC")) else self._load(data)


@dataclass(slots=True)
class Snapshot:
    """The one snapshot that every check of a run reads. `at` is when it was taken, by the database's clock.

    `sessions` are the serials of the incarnations whose session lived then: no table has them.
    """

    connection: psycopg.Connection[Any]
    at: datetime
    sessions: list[int]
    acknowledged: Path | None = None  # what a client wrote down, for I10
    progress: Callable[[str], None] = lambda _text: None
    counted: dict[str, int] = field(default_factory=dict)

    def rows(self, query: str, **parameters: Any) -> list[Row]:
        """All rows of a query. `%(at)s` is the snapshot's time, `%(sessions)s` the serials that had a session then."""
        with self.connection.cursor(row_factory=dict_row) as cursor:
            cursor.adapters.register_loader("timestamptz", _Timestamp)
            return cursor.execute(query.encode(), {"at": self.at, "sessions": self.sessions, **parameters}).fetchall()

    def value(self, query: str) -> Any:
        """The first column of a query's only row."""
        return next(iter(self.rows(query)[0].values()))

    def count(self, query: str) -> int:
        """A count that several checks share is taken once."""
        if query not in self.counted:
            self.counted[query] = int(self.value(query))
        return self.counted[query]


@dataclass(frozen=True, slots=True)
class Check:
    """One way in which an invariant could be seen broken.

    Either `sql`, whose rows are the violations, or `run`. `checked` counts what was looked at; `note` is a query whose
    one text, unless null, says what could not be judged. In SQL, `%(at)s` is the snapshot's time and a percent sign is
    doubled.
    """

    invariant: str
    title: str
    sql: str = ""
    run: Callable[[Snapshot], Found] | None = None
    checked: str = ""
    note: str = ""

    def __call__(self, snapshot: Snapshot) -> Found:
        if self.run is not None:
            return self.run(snapshot)
        found = Found()
        for row in snapshot.rows(
            f"SELECT *, count(*) OVER () AS all_violations FROM ({self.sql}) AS violation LIMIT {ROWS_SHOWN}"
        ):
            found.violations = row.pop("all_violations")
            found.rows.append(row)
        if self.checked:
            found.checked = snapshot.count(self.checked)
        if self.note:
            found.note = snapshot.value(self.note) or ""
        return found


def _partitions(table: str) -> str:
    return f"SELECT inhrelid AS relation FROM pg_inherits WHERE inhparent = '{table}'::regclass"


def unique_on(table: str, *columns: str) -> str:
    """Query: a row when no valid unique index covers exactly these columns of every row.

    For a partitioned table, a row for each partition without one.
    """
    wanted = ", ".join(f"'{column}'" for column in columns)
    return f"""
        SELECT 'a valid unique index on ' || relation::regclass || ' ({", ".join(columns)})' AS missing
          FROM ({_partitions(table)}
                UNION ALL SELECT oid FROM pg_class WHERE oid = '{table}'::regclass AND relkind = 'r') AS t
         WHERE NOT EXISTS (
            SELECT FROM pg_index i
             WHERE i.indrelid = relation AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
               AND (SELECT array_agg(a.attname::text ORDER BY k.n)
                      FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
                      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum) = ARRAY[{wanted}])"""


def constraint_on(table: str, name: str) -> str:
    """Query: a row when the table lacks the constraint, or it was never validated."""
    return f"""
        SELECT 'constraint {name} on {table}' AS missing
         WHERE NOT EXISTS (SELECT FROM pg_constraint
                            WHERE conrelid = '{table}'::regclass AND conname = '{name}' AND convalidated)"""


def triggers_on(table: str, *names: str) -> str:
    """Query: a row for each of these triggers that the table, or a partition of it, lacks or that is disabled there."""
    wanted = ", ".join(f"'{name}'" for name in names)
    return f"""
        SELECT 'enabled trigger ' || wanted || ' on ' || relation::regclass AS missing
          FROM ({_partitions(table)} UNION ALL SELECT '{table}'::regclass) AS t
         CROSS JOIN unnest(ARRAY[{wanted}]) AS wanted
         WHERE NOT EXISTS (SELECT FROM pg_trigger
                            WHERE tgrelid = relation AND tgname = wanted AND tgenabled IN ('O', 'A'))"""
