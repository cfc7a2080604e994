"""Quote obligation: the share of time in which a symbol was quoted on both sides and no wider than allowed.

Judged from the quote versions that there still are, by console/sql/authority_obligation.sql. That reads up to a million
rows, so a process does it for all who look, one at a time, and never more than a twentieth of the time. Each answer
says how old it is.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from django.db import connection, transaction

from console.authority_reads import RANGES_S
from mmproject import query

_SQL = Path(__file__).resolve().parent / "sql"
FROM: Final = (_SQL / "authority_obligation_from.sql").read_text(encoding="utf-8")
OBLIGATION: Final = (_SQL / "authority_obligation.sql").read_text(encoding="utf-8")

VERSIONS_MAX: Final = 1_000_000  # ten symbols once a second for a day; a thousand for a quarter of an hour
AGE_MIN_S: Final = 10.0  # a range is not read more often
LOAD_MAX: Final = 0.05  # ... nor may reading it take more of the time than this
WAIT_S: Final = 5.0  # for another request of this process that reads just now
SORT_MEMORY: Final = "192MB"  # a million versions, sorted by one request at a time; on disk it takes longer

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
            body = read(key[1])
            took_s = self._clock() - started_s
            self._answers[key] = _Answer(started_s, started_s + max(AGE_MIN_S, took_s / LOAD_MAX), body)
            return self._answers[key]
        finally:
            self._reading.release()


def read(last: str) -> dict[str, Any]:
    """How each symbol was quoted over a range of RANGES_S, worst first. Takes no lock. Raises django.db.Error.

    `from_ms` is later than asked where there are more than VERSIONS_MAX versions (`is_cut`); `known_from_ms` is set
    where versions of the range have been dropped. A share is in percent, rounded down; null where nothing is known.
    Times in ms.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL work_mem = '{SORT_MEMORY}'")
        (begin,) = query.rows(FROM, {"last_s": RANGES_S[last], "versions": VERSIONS_MAX})
        rows = query.rows(OBLIGATION, {"first_id": begin["first_id"], "from_at": begin["from_at"]})
    known = [row["known_from_s"] for row in rows if row["known_from_s"] is not None]
    symbols = sorted(
        map(_symbol, rows), key=lambda row: (row["share"] is None, float(row["share"] or 0), row["symbol"])
    )
    return {
        "last": last,
        "from_ms": _ms(begin["from_at"].timestamp()),
        "to_ms": _ms(rows[0]["now_s"]) if rows else None,
        "is_cut": begin["is_cut"],
        "versions_max": VERSIONS_MAX,
        "known_from_ms": _ms(max(known)) if known else None,
        "symbols": symbols,
    }


def _symbol(row: query.Row) -> dict[str, Any]:
    known_s = max(0.0, row["now_s"] - row["begins_s"] - row["unknown_s"])
    known_ms, good_ms = _ms(known_s), min(_ms(row["good_s"]), _ms(known_s))
    gap = _gap(row) if row["longest"] else None
    # A gap of microseconds is one, too: nothing that has a gap is shown as all of the time.
    thousandths = min(math.floor(100_000 * row["good_s"] / known_s), 99_999 if gap else 100_000) if known_s else 0
    return {
        "symbol": row["symbol"],
        "share": f"{thousandths // 1000}.{thousandths % 1000:03}" if known_s else None,
        "known_ms": known_ms,
        "missing_ms": known_ms - good_ms,
        "unknown_ms": _ms(row["unknown_s"]),
        "gaps": row["gaps"],
        "gap": gap,
    }


def _gap(row: query.Row) -> dict[str, Any]:
    microseconds, begins_s, cause = row["longest"]
    begins_ms, length_ms = _ms(float(begins_s)), int(microseconds) / 1000
    lasts = float(begins_s) + int(microseconds) / 1_000_000 >= row["now_s"] - 0.001
    return {
        "from_ms": begins_ms,
        "ms": round(length_ms, 3),
        "lasts": lasts,
        "cause": cause,
        "text": _because(cause, row["holder"]),
    }


def _because(cause: str, holder: str | None) -> str:
    if cause == "lapsed":
        return f"{holder} did not refresh it" if holder else "it lapsed while nobody held it"
    if cause == "session_lost" and holder:
        return f"its holder {holder} was lost"
    return CAUSES.get(cause, cause.replace("_", " "))


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


obligations: Final = Obligations()
