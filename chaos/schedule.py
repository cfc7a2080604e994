"""What will be broken when: made from the seed alone, before anything runs. Same seed, same schedule."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chaos.occasion import Fault

CALM_S: Final = 10.0  # before the first fault; the run ends with a calm of its own
TAIL_S: Final = 15.0
SPACING_S: Final = (5.0, 11.0)  # between the beginnings of two faults, if what they touch is free
REST_S: Final = 3.0  # between two faults of the same thing


@dataclass(frozen=True)
class Entry:
    """A fault to come. `seed` is for its own dice."""

    fault: Fault
    at_s: float
    seconds: float
    node: str | None
    seed: int

    def as_json(self) -> dict[str, object]:
        return {
            "at_s": round(self.at_s, 2), "fault": self.fault.name, "seconds": round(self.seconds, 2), "node": self.node,
        }  # fmt: skip


def schedule(faults: Sequence[Fault], seed: int, seconds: float) -> list[Entry]:
    """The entries in the order of their beginnings, all ended before `seconds`.

    Every fault comes once before any comes twice. What touches the same thing does not overlap; everything else may.
    Where the time does not suffice for all of them, the first round is packed tighter, as far as that goes.
    """
    dice = random.Random(f"schedule {seed}")
    free_at: dict[str, float] = {}
    entries: list[Entry] = []
    clock = CALM_S
    first_round = min(1.0, max(0.2, (seconds - CALM_S - TAIL_S) / (len(faults) * sum(SPACING_S) / 2)))
    while True:
        for fault in dice.sample(list(faults), len(faults)):
            node = dice.choice(fault.nodes) if "node" in fault.touches else None
            touches = [node if touched == "node" and node else touched for touched in fault.touches]
            lasts = dice.uniform(*fault.seconds)
            at_s = max([clock, *(free_at.get(touched, 0.0) for touched in touches)])
            pace = first_round if len(entries) < len(faults) else 1.0
            own = dice.getrandbits(32)
            clock += dice.uniform(*SPACING_S) * pace
            if at_s + lasts > seconds - TAIL_S:
                return sorted(entries, key=lambda entry: entry.at_s)
            for touched in touches:
                free_at[touched] = at_s + lasts + REST_S
            entries.append(Entry(fault, at_s, lasts, node, own))
