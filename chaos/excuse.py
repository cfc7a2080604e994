"""What can't be blamed on the system: no progress (I11, I14) while the disk was full, and nothing could be written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from chaos.occasion import Occasion

FREED_S: Final = 5.0  # until what failed has been tried again
Times = Sequence[tuple[float, float]]  # Unix seconds, apart from one another and in order


def nothing_written(occasions: Iterable[Occasion]) -> Times:
    """From the first refusal for want of space until a while after the server was there again, with space."""
    full = [one for one in occasions if one.fault.name == "disk_full" and one.hit_at]
    times: list[tuple[float, float]] = []
    for since, until in sorted((one.hit_at, one.ended_at + FREED_S) for one in full):
        if times and since <= times[-1][1]:
            times[-1] = times[-1][0], max(times[-1][1], until)
        else:
            times.append((since, until))
    return times


def unexcused(violation: dict[str, Any], full: Times) -> dict[str, Any] | None:
    """What a broken verdict of `verify` (and `at`, when it was found) says beyond that; None when nothing.

    I11 speaks of the moment that is seen, I14 of all that has been: what was uncovered then is in every later snapshot.
    Only the first rows of a verdict are shown: what isn't shown isn't excused.
    """
    if violation["id"] == "I11" and any(since <= violation["at"] <= until for since, until in full):
        return None
    if violation["id"] == "I14":
        rows = [row for row in violation["rows"] if not _is_within_reason(row, full)]
        excused = len(violation["rows"]) - len(rows)
        left = violation["violations"] - excused
        return {**violation, "violations": left, "rows": rows} if left else None
    return violation


def _is_within_reason(row: dict[str, Any], full: Times) -> bool:
    """Whether a symbol was uncovered for no longer than I14 allows, the times in `full` not counted."""
    since, until = (datetime.fromisoformat(row[key]).timestamp() for key in ("uncovered_since", "uncovered_until"))
    excused_s = sum(max(0.0, min(until, end) - max(since, begin)) for begin, end in full)
    return until - since - excused_s <= float(row["allowed_seconds"])
