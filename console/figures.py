"""Exact decimals and times as people read them, from text as the statements give it. Nothing goes through a float."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final

NONE: Final = "\N{EN DASH}"
MINUS: Final = "\N{MINUS SIGN}"
_EXACT: Final = Context(prec=60)  # 15 digits before the point and 18 behind it, and room


def number(text: str | None, places: int) -> str:
    """With so many decimals, rounded half away from zero as PostgreSQL does, a comma and a minus sign: 1,234.50."""
    if text is None:
        return NONE
    value = Decimal(text).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, _EXACT)
    return f"{abs(value):,f}" if not value else f"{value:,f}".replace("-", MINUS)


def signed(text: str, places: int) -> str:
    """The same with its sign, so that colour is never the only one to tell."""
    shown = number(text, places)
    return f"+{shown}" if sign(text) > 0 and shown.strip("0.,") else shown


def sign(text: str) -> int:
    value = Decimal(text)
    return (value > 0) - (value < 0)


def moment(text: str) -> dict[str, str]:
    """A time in UTC as the statements give it: `iso`, `date` and `time` to the millisecond."""
    return {"iso": text, "date": text[:10], "time": text[11:23]}


def field(at: datetime | None) -> str:
    """A time as a form's datetime-local has it, in UTC; empty for none."""
    return "" if at is None else at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
