"""Quote obligation: the share of time in which a symbol was quoted on both sides and no wider than allowed.

A process reads the quote versions for all who look (console/obligation_past.py), one at a time, and no more than some
of the time. A range that has not been read as far back as was asked is answered as far as it has, and says so. Each
answer says how old it is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from django.db import connection

from console.authority_reads import RANGES_S
from console.obligation_past import PARTS_MAX, UNKNOWN, Kept, Part, Past
from mmproject import query

HOLDERS: Final = (Path(__file__).resolve().parent / "sql" / "authority_obligation_holders.sql").read_text(
    encoding="utf-8"
)

AGE_MIN_S: Final = 10.0  # a range is not read more often
LOAD_MAX: Final = 0.05  # ... nor may reading it take more of the time than this
FILL_AGE_MIN_S: Final = 1.0  # the same while it is not known as far back as was asked
FILL_LOAD_MAX: Final = 0.25
WAIT_S: Final = 5.0  # for another request of this process that reads just now

# What a gap began with. `lapsed` is told with who should have refreshed the quote.
CAUSES: Final = {
    "quoting_disabled": "quoting was switched off",
    "session_lost": "its holder was lost",
    "expired": "its holder's lease expired",
    "parameters": "withdrawn when its parameters changed",
    "not_two_sided": "one side only: its position was at the limit",
    "too_wide": "wider than allowed",
    "never": "it had not been quoted yet",
}


class Busy(Exception):
    """Another request of this process has been reading for long, and there is no earlier answer to give."""


@dataclass(frozen=True, slots=True)
class _Answer:
    read_s: float  # by the process's monotonic clock
    due_s: float
    body: dict[str, Any]


class Obligations:
    """Answers for each range, each read anew when it is due. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._reading = threading.Lock()
        self._answers: dict[tuple[object, str], _Answer] = {}
        self._pasts: dict[object, Past] = {}  # by database

    def get(self, last: str) -> dict[str, Any]:
        """The range's answer with its age in ms. Raises Busy, django.db.Error.

        It may be as old as it takes to keep the load down; while somebody else reads, the one before is given.
        """
        key = (connection.settings_dict["NAME"], last)
        known = self._answers.get(key)
        if known is None or self._clock() >= known.due_s:
            known = self._renewed(key, known)
        age_ms = max(0, round((self._clock() - known.read_s) * 1000))
        return {**known.body, "age_ms": age_ms, "due_ms": max(0, round((known.due_s - self._clock()) * 1000))}

    def _renewed(self, key: tuple[object, str], known: _Answer | None) -> _Answer:
        if not self._reading.acquire(timeout=WAIT_S if known is None else 0):
            if known is None:
                raise Busy
            return known
        try:
            meanwhile = self._answers.get(key)
            if meanwhile is not None and self._clock() < meanwhile.due_s:
                return meanwhile
            started_s = self._clock()
            body = read(self._pasts.setdefault(key[0], Past()), key[1])
            took_s = self._clock() - started_s
            pause_s = max(FILL_AGE_MIN_S, took_s / FILL_LOAD_MAX)
            if not body["is_filling"]:
                pause_s = max(AGE_MIN_S, took_s / LOAD_MAX)
            self._answers[key] = _Answer(started_s, started_s + pause_s, body)
            return self._answers[key]
        finally:
            self._reading.release()


def read(past: Past, last: str) -> dict[str, Any]:
    """How each symbol was quoted over a range of RANGES_S, worst first. Takes no lock. Raises django.db.Error.

    `from_ms` is later than `asked_from_ms` while `past` has not been read that far (`is_filling`), or where there were
    more than PARTS_MAX gaps (`is_cut`); `known_from_ms` is set where versions of the range have been dropped. A share
    is in percent, rounded down; null where nothing is known. Times in ms.
    """
    past.read(RANGES_S[last])
    if past.now is None:
        return {"last": last, "from_ms": None, "asked_from_ms": None, "to_ms": None, "known_from_ms": None,
                "is_filling": False, "is_cut": False, "gaps_max": PARTS_MAX, "symbols": []}  # fmt: skip
    asked = past.now - timedelta(seconds=RANGES_S[last])
    since = past.known_since(asked)
    judged = [_Judged.of(symbol, kept, since, past.now) for symbol, kept in past.symbols.items()]
    holders = _holders(judged)
    symbols = sorted(
        (one.told(holders.get(one.symbol)) for one in judged),
        key=lambda row: (row["share"] is None, float(row["share"] or 0), row["symbol"]),
    )
    unknown = [part.ends for one in judged for part in one.unknown]
    return {
        "last": last,
        "from_ms": _ms(since),
        "asked_from_ms": _ms(asked),
        "to_ms": _ms(past.now),
        "known_from_ms": _ms(max(unknown)) if unknown else None,
        "is_filling": since > max(asked, past.forgotten_to or asked),
        "is_cut": past.is_forgotten(asked),
        "gaps_max": PARTS_MAX,
        "symbols": symbols,
    }


@dataclass(frozen=True, slots=True)
class _Judged:
    """One symbol from `begins` to `now`."""

    symbol: str
    begins: datetime
    now: datetime
    gaps: list[Part]
    unknown: list[Part]

    @classmethod
    def of(cls, symbol: str, kept: Kept, since: datetime, now: datetime) -> _Judged:
        parts = kept.within(since, now)
        begins = min(max(since, kept.first_at), now)
        gaps = [part for part in parts if part.cause != UNKNOWN]
        return cls(symbol, begins, now, gaps, [part for part in parts if part.cause == UNKNOWN])

    @property
    def longest(self) -> Part | None:
        """The longest gap, the latest of those."""
        return max(self.gaps, key=lambda part: (part.ends - part.begins, part.begins), default=None)

    def told(self, holder: str | None) -> dict[str, Any]:
        known_us = _us(self.now - self.begins) - sum(_us(part.ends - part.begins) for part in self.unknown)
        missing_us = sum(_us(part.ends - part.begins) for part in self.gaps)
        # Rounded down: nothing that has a gap, be it of microseconds, is shown as all of the time.
        thousandths = 100_000 * (known_us - missing_us) // known_us if known_us else 0
        return {
            "symbol": self.symbol,
            "share": f"{thousandths // 1000}.{thousandths % 1000:03}" if known_us else None,
            "known_ms": round(known_us / 1000),
            "missing_ms": round(missing_us / 1000),
            "unknown_ms": round(sum(_us(part.ends - part.begins) for part in self.unknown) / 1000),
            "gaps": len(self.gaps),
            "gap": _gap(self.longest, self.now, holder) if self.longest else None,
        }


def _gap(gap: Part, now: datetime, holder: str | None) -> dict[str, Any]:
    return {
        "from_ms": _ms(gap.begins),
        "ms": _us(gap.ends - gap.begins) / 1000,
        "lasts": gap.ends >= now,
        "cause": gap.cause,
        "text": _because(gap.cause, holder),
    }


def _holders(judged: list[_Judged]) -> dict[str, str | None]:
    """Who held each symbol when its longest gap began."""
    gaps = {one.symbol: one.longest.begins for one in judged if one.longest}
    rows = query.rows(HOLDERS, {"symbols": list(gaps), "at": list(gaps.values())})
    return {row["symbol"]: row["holder"] for row in rows}


def _because(cause: str, holder: str | None) -> str:
    if cause == "lapsed":
        return f"{holder} did not refresh it" if holder else "it lapsed while nobody held it"
    if cause == "session_lost" and holder:
        return f"its holder {holder} was lost"
    return CAUSES.get(cause, cause.replace("_", " "))


def _us(time: timedelta) -> int:
    return time // timedelta(microseconds=1)


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


obligations: Final = Obligations()
