"""What was measured: percentiles, spreads over rounds, and one figure beside its floors and its goal."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

DIGITS: Final = 4  # significant ones: more than any of this repeats to

Side = Callable[[float], float]  # one run of about so many seconds; its figure


def percentile(values: Sequence[float], share: float) -> float:
    """The lowest value that `share` (0 to 1) of them don't exceed: one that was seen (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]  # 0.07 * 100 is a little more than 7


def summary_ms(seconds: Sequence[float]) -> dict[str, float | int]:
    """Count, median, 99th percentile and worst, in milliseconds."""
    if not seconds:
        return {"count": 0}
    return {
        "count": len(seconds),
        "p50_ms": round(percentile(seconds, 0.5) * 1000, 2),
        "p99_ms": round(percentile(seconds, 0.99) * 1000, 2),
        "worst_ms": round(max(seconds) * 1000, 2),
    }


def rounded(value: float) -> float:
    """To DIGITS significant digits, whole numbers to the unit: 8123.456 is 8123, 0.0123456 is 0.01235."""
    short = float(f"{value:.{DIGITS}g}")
    return round(value) if abs(short) >= 10 ** (DIGITS - 1) else short


@dataclass(frozen=True, slots=True)
class Spread:
    """What the rounds gave."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def as_json(self) -> dict[str, float]:
        return {
            "median": rounded(self.median),
            "lowest": rounded(self.lowest),
            "highest": rounded(self.highest),
        }


@dataclass(frozen=True, slots=True)
class Goal:
    """What the median of the figure, or of its ratio to the first floor, is to reach."""

    of: Literal["figure", "ratio"]
    bound: Literal["at least", "at most"]
    value: float

    def is_met(self, median: float) -> bool:
        return median >= self.value if self.bound == "at least" else median <= self.value

    @property
    def text(self) -> str:
        sign = ">=" if self.bound == "at least" else "<="
        return f"{sign} {self.value:g}{' x' if self.of == 'ratio' else ''}"


@dataclass(frozen=True, slots=True)
class Floor:
    """What a figure is held against, in the same unit; one value a round, taken in the same round as the figure's."""

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One figure: a value a round, the floors beside it, its goal if it has one.

    `at` says under which load (clients, symbols, nodes): a plot's axis. `detail` is what else was seen.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    floors: tuple[Floor, ...] = ()
    goal: Goal | None = None
    at: Mapping[str, int | str] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.values, f"{self.name}: nothing was measured"
        for floor in self.floors:
            assert len(floor.values) == len(self.values), f"{self.name}: {floor.name} was not measured in each round"
            assert min(floor.values) > 0, f"{self.name}: nothing can be held against a floor of 0"
        assert self.goal is None or self.goal.of == "figure" or self.floors, f"{self.name}: a goal without its floor"

    @property
    def figure(self) -> Spread:
        return Spread.of(self.values)

    def ratio(self, floor: Floor) -> Spread:
        """Figure over floor, round by round: what made one round slow made its floor slow too."""
        return Spread.of([ours / theirs for ours, theirs in zip(self.values, floor.values, strict=True)])

    @property
    def met(self) -> bool | None:
        """Whether the goal was met; None without one."""
        if self.goal is None:
            return None
        return self.goal.is_met((self.figure if self.goal.of == "figure" else self.ratio(self.floors[0])).median)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "at": dict(self.at),
            "rounds": len(self.values),
            "figure": self.figure.as_json(),
            "floors": [
                {"name": floor.name, **Spread.of(floor.values).as_json(), "ratio": self.ratio(floor).as_json()}
                for floor in self.floors
            ],
            "goal": self.goal and self.goal.text,
            "met": self.met,
            "detail": dict(self.detail),
        }


def alternate(
    sides: Mapping[str, Side], *, rounds: int, seconds: float, warm_up_s: float, tell: Callable[[str], None]
) -> dict[str, tuple[float, ...]]:
    """Every side once in each round, in the opposite order in every other one; a value a round for each.

    Each side runs for `warm_up_s` first, which is not counted: caches, plans, and the first growth of its tables.
    """
    for name, side in sides.items():
        tell(f"{name}: warm-up")
        side(warm_up_s)
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in sides if number % 2 == 0 else reversed(list(sides)):
            tell(f"{name}: round {number + 1} of {rounds}")
            taken[name].append(sides[name](seconds))
    return {name: tuple(values) for name, values in taken.items()}
