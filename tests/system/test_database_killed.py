"""SIGKILL of the database's server, and of what writes to it, while clients hold it to what it told them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench.acknowledged import Kill, run
from tests.support import System, eventually, running_system

QUOTING_AGAIN_S = 10  # the contract's


@pytest.fixture(scope="module")
def running() -> Iterator[System]:
    with running_system(nodes=2, symbols=4, MM_TICK_MS="500") as system:
        eventually(lambda: len(system.pids()) == 6, 20, "all six programs run")
        yield system


def nothing_lost(result: dict[str, Any]) -> None:
    assert result["wrong"] == []
    assert result["broken"] == []
    assert result["verify_exit"] == 0, result["verify_said"]
    assert result["acknowledged_before_first_kill"] > 10, "too few to show anything"
    assert result["fills"] > 10, "too few to show anything"


def test_all_that_was_acknowledged_survives_a_killed_database_and_quoting_goes_on_by_itself(
    running: System, tmp_path: Path
) -> None:
    record = tmp_path / "acknowledged.jsonl"

    result = run(running, record, seconds=9, kills=[Kill("postgres", 3)], clients=3)

    nothing_lost(result)
    (requoted,) = result["quoted_again_after"]
    assert requoted["symbols"] == 4
    assert requoted["last_s"] < QUOTING_AGAIN_S
    assert result["acknowledged"] > result["acknowledged_before_first_kill"]
    a_lost_one_would_be_seen(running, record)


def a_lost_one_would_be_seen(running: System, record: Path) -> None:
    """The same file with one acknowledgement of an order that is not there."""
    lines = record.read_text().splitlines()
    lost = {**json.loads(lines[-1]), "client_order_id": "never-sent"}
    record.write_text("\n".join([*lines, json.dumps(lost)]) + "\n")

    verified = running.manage("verify", "--only", "I10", "--acknowledged", str(record), "--json")

    assert verified.returncode == 1
    (nothing_lost,) = json.loads(verified.stdout)["invariants"]
    assert [row["client_order_id"] for row in nothing_lost["rows"]] == ["never-sent"]


def test_nothing_is_lost_or_doubled_when_daphne_the_worker_and_beat_are_killed(running: System, tmp_path: Path) -> None:
    kills = [Kill("worker", 1.5), Kill("beat", 2.0), Kill("daphne", 2.5)]

    result = run(running, tmp_path / "acknowledged.jsonl", seconds=5, kills=kills, clients=3)

    nothing_lost(result)
    with running.connect("console") as connection:

        def step() -> int:
            row = connection.execute("SELECT orders_step FROM exchange_clock").fetchone()
            assert row is not None
            return int(row[0])

        before = step()
        eventually(lambda: step() > before + 1, 20, "the market's own orders come again")
    verified = running.manage("verify", "--only", "I7", "--only", "I15", "--json")
    assert verified.returncode == 0, verified.stdout
