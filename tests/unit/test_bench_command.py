"""What `bench` makes of a benchmark that fails, and of its document."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from rich.console import Console

from bench.figures import Floor, Goal, Measurement
from bench.management.commands.bench import Command, document
from bench.registry import Benchmark
from bench.run import Machine, Outcome, Plan, Run
from bench.scaffold import NotInTime
from mmproject.errors import UserError
from nodeagent.connections import TryAgain

PLAN = Plan(rounds=1, seconds=1, quick=True, minutes=None)
MACHINE = Machine({"fsync": "on", "server_version": "18"}, True, 2, (0.1, 0.2, 0.3), "ext4")


def outcome_of(measure: Callable[[Run], None]) -> Outcome:
    outcome = Outcome("one", "what it is")
    with Console(stderr=True).status("") as status:
        Command()._one(Benchmark("one", "what it is", measure), PLAN, "postgresql://nowhere", MACHINE, outcome, status)
    return outcome


@pytest.mark.parametrize(
    "error",
    [
        UserError("0 of 0 orders\nwere not filled"),
        NotInTime("not within 20 s"),
        TryAgain("canceling statement due to statement timeout"),
        TimeoutError(),
        psycopg.OperationalError("server closed the connection"),
    ],
)
def test_one_that_fails_is_told_in_a_line_with_what_it_had_found(error: Exception) -> None:
    def fails(run: Run) -> None:
        run.add(Measurement(name="a", unit="ms", values=(1.0,)))
        raise error

    outcome = outcome_of(fails)

    assert outcome.error
    assert "\n" not in outcome.error
    assert not outcome.ok
    assert [one.name for one in outcome.measurements] == ["a"]


def test_a_defect_of_ours_is_not_hidden() -> None:
    def defect(_run: Run) -> None:
        raise KeyError("symbol")

    with pytest.raises(KeyError):
        outcome_of(defect)


def test_what_was_not_verified_is_not_ok() -> None:
    assert not outcome_of(lambda _run: None).ok


def test_goals_that_are_not_met_are_counted_apart_from_failures() -> None:
    def measures(run: Run) -> None:
        for goal in (1.0, 3.0):
            floors = (Floor("least", (10.0,)),)
            run.add(
                Measurement(name="x", unit="/s", values=(20.0,), floors=floors, goal=Goal("ratio", "at least", goal))
            )

    made = document(PLAN, MACHINE, [outcome_of(measures)])

    assert made["goals"] == {"met": 1, "not_met": 1}
    assert made["machine"]["load_average_at_start"] == [0.1, 0.2, 0.3]
    assert made["ok"] is False  # nothing was verified
