"""What a check found: violations that can be read, and counts of what was judged."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from chaos.history.order import Order

VIOLATIONS_KEPT: Final = 50  # of each check; all are counted


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that no correct system could have answered. `lines` are the operations that show it."""

    check: str
    what: str
    lines: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join((f"{self.check}: {self.what}", *(f"    {line}" for line in self.lines)))


@dataclass(slots=True)
class Found:
    """One check's result. `counts`: what it judged, by name; a count of nothing is a check that could not fail."""

    violations: list[Violation] = field(default_factory=list)
    count: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        return self.count == 0

    def add(self, check: str, what: str, *lines: Any) -> None:
        self.count += 1
        if len(self.violations) < VIOLATIONS_KEPT:
            self.violations.append(Violation(check, what, tuple(str(line) for line in lines)))

    def contradictions(self, check: str, what: str, order: Order) -> bool:
        """Add the order's cycles; whether there are any."""
        count, cycles = order.cycles()
        for cycle in cycles:
            self.add(check, f"{what}: no order agrees with these answers and with time", *cycle.lines())
        self.count += count - len(cycles)
        return count > 0
