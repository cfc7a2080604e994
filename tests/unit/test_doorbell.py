"""The doorbell's own queue: what is asked for while a ring is on its way."""

from __future__ import annotations

import threading

from mmproject.doorbell import Doorbell, Target
from tests.support import eventually

DEADLINE_S = 10


class SlowDoorbell(Doorbell):
    """Its notifications take until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.rung: list[str] = []
        self.let_go = threading.Event()

    def _notify(self, target: Target, text: str) -> None:
        self.rung.append(text)
        assert self.let_go.wait(DEADLINE_S)


def test_what_is_asked_for_while_a_ring_is_on_its_way_goes_into_the_next() -> None:
    bell = SlowDoorbell()
    bell.ring(["ALFA"])
    eventually(lambda: bell.rung, DEADLINE_S, "the first is on its way")
    bell.ring(["CHARLIE"])
    bell.ring(["BRAVO", "CHARLIE"])
    bell.let_go.set()
    eventually(lambda: len(bell.rung) > 1, DEADLINE_S, "the second rings")
    assert bell.rung == ["ALFA", "BRAVO,CHARLIE"]
