"""The kill switch of a whole system under load, over HTTP and from the terminal."""

from __future__ import annotations

from collections.abc import Callable

from tests.bench.kill_switch import run
from tests.support import System

QUOTED_AGAIN_MS = 2000  # 100 ms on a machine with nothing else to do; the bench measures it


def test_off_is_final_at_its_commit_and_on_is_quoted_again(system: Callable[..., System]) -> None:
    result = run(system(nodes=2, symbols=2), toggles=8, commands=1, clients=2)

    for way, toggles in (("http", 8), ("command", 1)):
        seen = result[way]
        assert seen["toggles"] == toggles
        assert seen["quote_gone_in_the_same_commit"] == toggles, way
        assert (seen["fills_while_off"], seen["quotes_while_off"]) == (0, 0), way
        assert seen["orders_while_off"] > 0, "nobody knocked: the test shows nothing"
        assert seen["fills_in_the_second_before_each"] > 0, "nothing was filled before: the test shows nothing"
        assert seen["on_to_quote"]["count"] == toggles, way
        assert seen["on_to_quote"]["worst_ms"] < QUOTED_AGAIN_MS, way
    assert result["orders"]["filled"] > 0
    assert result["orders"]["rejected"] > 0
    assert result["broken"] == []
    assert result["verify_exit"] == 0
