"""What the page of one symbol shows: its row, its book, its last while as a picture, and the story of its authority.

The statements are in console/sql, one round trip each but for the story's, all without locks and bounded.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any, Final

from authority.explain import story
from authority.explain_facts import one_snapshot
from console.selectors import STATE
from console.words import END_REASONS, REFUSED_REASONS
from exchange.prices import reference_price
from mmproject import query

_SQL = Path(__file__).resolve().parent / "sql"
# One symbol of what the live page is painted with: PostgreSQL carries the condition into the UNION, down to its keys.
_ROW: Final = (
    f"SELECT row FROM ({STATE.replace('%', '%%')}) AS state"  # noqa: S608 - a file of ours
    " WHERE kind = 'symbol' AND key = %s"
)
_NOW: Final = (_SQL / "symbol_now.sql").read_text(encoding="utf-8")
_CHART: Final = (_SQL / "symbol_chart.sql").read_text(encoding="utf-8")
_TENURES: Final = (_SQL / "symbol_tenures.sql").read_text(encoding="utf-8")

LEVELS_MAX: Final = 10
RESTING_MAX: Final = 2000  # orders a side that the levels are added up from
ROWS_MAX: Final = 20
LOOKED_MAX: Final = 50_000  # orders of all symbols that are looked through for this one's newest
POINTS_MAX: Final = 400  # about one for three pixels of the widest picture
WITHDRAWALS_MAX: Final = 50
ANCHORS_MAX: Final = 32  # steps dated by an order; what lies between is interpolated
BUSIEST_MAX: Final = 8  # symbols in which such an order is looked for: quiet ones bring none for minutes
TENURES_MAX: Final = 200
EVENTS_MAX: Final = 200

_CENT: Final = Decimal("0.01")

Point = tuple[int, str]  # milliseconds since 1970, and a decimal


def first(symbol: str) -> dict[str, Any] | None:
    """What the page is painted with before the stream speaks: the symbol's row of state.sql, and what now() returns.

    None when there is no such symbol.
    """
    present, row = now(symbol), query.document(_ROW, [symbol])
    return None if present is None or row is None else {"row": row, "now": present}


def now(symbol: str) -> dict[str, Any] | None:
    """Parameters, book, newest fills and orders; None when there is no such symbol. `looked` bounds the orders."""
    text = query.value(
        _NOW,
        {"symbol": symbol, "levels": LEVELS_MAX, "resting": RESTING_MAX, "rows": ROWS_MAX, "looked": LOOKED_MAX},
    )
    return None if text is None else {**json.loads(text), "looked": LOOKED_MAX}


# The picture


@dataclass(frozen=True, slots=True)
class Held:
    """The position as a fill left it, and what it has cost: P&L at a price is cash + quantity x price."""

    at: int
    quantity: Decimal
    cash: Decimal
    cost: Decimal


def chart(symbol: str, seconds: int) -> dict[str, Any] | None:
    """The last `seconds` of a symbol: reference, quotes, fills, position and P&L; None when there is no such symbol.

    Reference prices of the past are kept nowhere: a step's is computed (decision 6), and dated between the orders that
    are known to have come with one. P&L is marked at them. Decimals are strings, times milliseconds since 1970.
    """
    text = query.value(
        _CHART,
        {
            "symbol": symbol,
            "seconds": seconds,
            "points": POINTS_MAX,
            "withdrawals": WITHDRAWALS_MAX,
            "anchors": ANCHORS_MAX,
            "busiest": BUSIEST_MAX,
        },
    )
    if text is None:
        return None
    read = json.loads(text)
    fills = read["fills"]
    reference = _reference(symbol, read, seconds)
    held = [Held(at, Decimal(after), Decimal(cash), Decimal(cost)) for at, *_, after, cash, cost in fills]
    return {
        "symbol": symbol,
        **{name: read[name] for name in ("now", "since", "price_decimals", "tick_ms", "step")},
        "reference": reference,
        "quotes": {
            "points": read["quotes"],
            "stride": read["quote_stride"],
            "in_all": read["quotes_in_all"],
            "kept_from": read["quotes_kept_from"],
        },
        "fills": {
            "points": [[at, number, *told[:3]] for at, number, *told in fills if number >= read["first_fill"]],
            "stride": read["fill_stride"],
            "in_all": read["fills_in_all"],
        },
        "position": [(at, after) for at, *_, after, _cash, _cost in fills],
        "realised": [(point.at, _money(point.cash + point.cost)) for point in held],
        "total": _marked(held, reference, from_first=not fills or fills[0][1] == 1),
    }


def _reference(symbol: str, read: dict[str, Any], seconds: int) -> list[Point]:
    """The reference price of every so many-th step of the last while, and of the newest."""
    step: int = read["step"]
    lowest = max(read["added_step"], step - seconds * 1000 // max(read["tick_ms"], 1) - 1, 0)
    stride = max(1, -(-(step - lowest + 1) // POINTS_MAX))
    steps = range(-(-lowest // stride) * stride, step, stride)
    dated = _dated(read["steps"], (step, read["step_at"]), read["tick_ms"])
    seed_price, tick_size = Decimal(read["seed_price"]), Decimal(read["tick_size"])
    points = [
        (
            dated.at(number),
            str(reference_price(read["seed"], symbol, seed_price, tick_size, read["volatility_bps"], number)),
        )
        for number in steps
    ]
    return [*points, (read["step_at"], read["price"])]


@dataclass(frozen=True, slots=True)
class Dated:
    """When each step was: known at some, in a straight line between them, a tick apart before the first."""

    known: Sequence[tuple[int, int]]  # step and milliseconds, both rising; never empty
    tick_ms: int

    def at(self, step: int) -> int:
        """Milliseconds since 1970."""
        index = bisect_right(self.known, step, key=lambda pair: pair[0])
        if index == 0:
            first_step, first_at = self.known[0]
            return first_at - (first_step - step) * self.tick_ms
        before, at = self.known[index - 1]
        if index == len(self.known):
            return at + (step - before) * self.tick_ms
        after, then = self.known[index]
        return at + (then - at) * (step - before) // (after - before)


def _dated(found: Sequence[Sequence[int]], newest: tuple[int, int], tick_ms: int) -> Dated:
    """What steps are dated by. An order comes a little after its step, and never counts against a later step's time."""
    known: list[tuple[int, int]] = [newest]
    for step, at in reversed(found):
        if step < known[0][0]:
            known.insert(0, (step, min(at, known[0][1])))
    return Dated(known, tick_ms)


def _marked(held: Sequence[Held], reference: Sequence[Point], *, from_first: bool) -> list[Point]:
    """Total P&L at each reference price: realised and unrealised, by the position that was held then.

    Before the first of `held` it was nothing if that is the symbol's first fill (`from_first`), else it is not known.
    """
    times = [point.at for point in held]
    marked = []
    for at, price in reference:
        index = bisect_right(times, at)
        if index:
            marked.append((at, _money(held[index - 1].cash + held[index - 1].quantity * Decimal(price))))
        elif from_first:
            marked.append((at, _money(Decimal(0))))
    return marked


def _money(amount: Decimal) -> str:
    """To the cent, rounded as PostgreSQL does it."""
    return format(amount.quantize(_CENT, rounding=ROUND_HALF_UP) + 0, "f")  # + 0: no "-0.00"


# The authority


def authority_story(symbol: str, last: timedelta) -> dict[str, Any]:
    """Who held a symbol over the last while and why it moved, as rows and in words. Raises UnknownSymbol."""
    with one_snapshot():
        told = story(symbol, last)
        read = query.document(_TENURES, {"symbol": symbol, "seconds": int(last.total_seconds()), "rows": TENURES_MAX})
    because = {event.epoch: event.text for event in told.events if event.kind == "granted"}
    events = [
        {"at": _time(event.at), "kind": event.kind, "text": event.text, "epoch": event.epoch, "node": event.node}
        for event in reversed(told.events)
    ]
    return {
        "symbol": symbol,
        "at": _time(told.at),
        "since": _time(told.since),
        "now": told.now,
        "tenures": [
            {**row, "because": because.get(row["epoch"]), "ended": END_REASONS.get(row["reason"], row["reason"])}
            for row in read["tenures"]
        ],
        "refusals": [{**row, "why": REFUSED_REASONS.get(row["reason"], row["reason"])} for row in read["refusals"]],
        "events": events[:EVENTS_MAX],
        "left_out": max(0, len(events) - EVENTS_MAX),
        "truncated": told.truncated or TENURES_MAX in (len(read["tenures"]), len(read["refusals"])),
    }


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")
