"""What the quote obligation is counted from: when each symbol was not quoted as it should be, read once and kept.

A stretch between two versions of a symbol's quote never changes once both are there, so it is read once, by
console/sql/authority_obligation.sql: forward to what is new, and backward a slice at a time as far as somebody asks.
Only what was not good is kept, which is little, and for no longer than the longest range.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from console.authority_reads import RANGES_S
from mmproject import query

OBLIGATION: Final = (Path(__file__).resolve().parent / "sql" / "authority_obligation.sql").read_text(encoding="utf-8")

SLICE_VERSIONS: Final = 50_000  # read by one statement: well under a second, far from the role's statement_timeout
PARTS_MAX: Final = 100_000  # kept: 25 MB. With more of them the oldest are forgotten
UNKNOWN: Final = "unknown"


class Part(NamedTuple):
    """A time in which a symbol was not quoted as it should be. `cause` is what it began with, or UNKNOWN."""

    begins: datetime
    ends: datetime
    cause: str


@dataclass(slots=True)
class Kept:
    """What is known of one symbol, without a hole: from a version that stood at `first_at` to now.

    `parts`, in order, end with the version of `last_at`, and stay as they are; what follows it is in `tail`.
    A `first_version` of 0 is the symbol's listing.
    """

    first_version: int
    first_at: datetime
    last_version: int
    last_at: datetime
    parts: list[Part] = field(default_factory=list)
    tail: list[Part] = field(default_factory=list)

    def within(self, begins: datetime, ends: datetime) -> list[Part]:
        """All parts of that time, cut to it."""
        return clipped(joined(self.parts, self.tail), begins, ends)


class Past:
    """One database's past, read as it is asked for. Not safe for threads. Its methods raise django.db.Error."""

    def __init__(self) -> None:
        self.symbols: dict[str, Kept] = {}
        self.now: datetime | None = None  # the database's, when it was read last; None without symbols
        self.forgotten_to: datetime | None = None  # what ended before is not kept, because it was too much

    def read(self, last_s: int) -> None:
        """Read what is new, and one slice of what is older if that does not reach `last_s` back. Takes no lock."""
        self._forward()
        if self.now is not None:
            since = self.now - timedelta(seconds=last_s)
            self._backward(max(since, self.forgotten_to or since))
            self._forget(self.now - timedelta(seconds=max(RANGES_S.values())))

    def is_forgotten(self, since: datetime) -> bool:
        return self.forgotten_to is not None and self.forgotten_to > since

    def known_since(self, since: datetime) -> datetime:
        """From when on all symbols are known, at or after `since`."""
        begun = [kept.first_at for kept in self.symbols.values() if kept.first_version > 0]
        return max(since, *begun, self.forgotten_to or since)

    def _forward(self) -> None:
        known = [(name, kept.last_version, None, None) for name, kept in self.symbols.items()]
        rows = _read(known, is_of_all=True)
        self.now = rows[0]["now"] if rows else None
        read = {}
        for row in rows:
            kept = self.symbols.get(row["symbol"])
            # Where it does not go on from what is kept, that is dropped: nobody asked for too long, or a crash took
            # versions back and others have their numbers.
            if kept is None or (row["first_version"], row["first_at"]) != (kept.last_version, kept.last_at):
                kept = Kept(row["first_version"], row["first_at"], row["last_version"], row["last_at"])
            kept.last_version, kept.last_at = row["last_version"], row["last_at"]
            parts = _parts(row)
            kept.parts = joined(kept.parts, clipped(parts, row["first_at"], kept.last_at))
            kept.tail = clipped(parts, kept.last_at, row["now"])
            read[row["symbol"]] = kept
        self.symbols = read

    def _backward(self, since: datetime) -> None:
        wanting = [
            (name, 0, kept.first_version, kept.first_at)
            for name, kept in self.symbols.items()
            if kept.first_version > 0 and kept.first_at > since
        ]
        for row in _read(wanting) if wanting else []:
            kept = self.symbols[row["symbol"]]
            kept.parts = joined(_parts(row), kept.parts)
            kept.first_version, kept.first_at = row["first_version"], row["first_at"]

    def _forget(self, before: datetime) -> None:
        """Drop the parts that ended before, and where there are too many the oldest of the others."""
        if sum(len(kept.parts) for kept in self.symbols.values()) > PARTS_MAX:
            ends = sorted(part.ends for kept in self.symbols.values() for part in kept.parts)
            before = self.forgotten_to = max(before, ends[-PARTS_MAX - 1])
        for kept in self.symbols.values():
            if kept.parts and kept.parts[0].ends <= before:
                kept.parts = [part for part in kept.parts if part.ends > before]


def _read(
    wanted: Sequence[tuple[str, int, int | None, datetime | None]], *, is_of_all: bool = False
) -> list[query.Row]:
    names, after, until, until_at = (list(column) for column in zip(*wanted, strict=True)) if wanted else ([],) * 4
    return query.rows(OBLIGATION, {
        "symbols": names, "after": after, "until": until, "until_at": until_at, "all": is_of_all,
        "versions": SLICE_VERSIONS,
    })  # fmt: skip


def _parts(row: query.Row) -> list[Part]:
    return joined([], map(Part, row["begins"] or [], row["ends"] or [], row["causes"] or []))


def joined(parts: list[Part], following: Iterable[Part]) -> list[Part]:
    """Both, in order; of parts that touch only the first cause is kept. What is unknown joins nothing else."""
    found = parts[:]
    for part in following:
        before = found[-1] if found else None
        if before and part.begins <= before.ends and (part.cause == UNKNOWN) == (before.cause == UNKNOWN):
            found[-1] = before._replace(ends=max(before.ends, part.ends))
        else:
            found.append(part)
    return found


def clipped(parts: Iterable[Part], begins: datetime, ends: datetime) -> list[Part]:
    """What of them lies in that time."""
    cut = (part._replace(begins=max(part.begins, begins), ends=min(part.ends, ends)) for part in parts)
    return [part for part in cut if part.begins < part.ends]
