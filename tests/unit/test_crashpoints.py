"""Crash points: off unless both switches are on, and each arming kills one process once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mmproject import crashpoints
from mmproject.conf import ROOT
from mmproject.crashpoints import POINTS, Crash, Point, arm, crashes
from tests.support import environment

KILLED = -9
DIES_AT = "from mmproject.crashpoints import crash_point; [(crash_point({point!r}), print(n)) for n in (1, 2, 3)]"


def passed(folder: Path, point: str = "order.after", **env: str) -> tuple[int, list[str], str]:
    """A process that passes the point three times: its exit code, what it printed, its last complaint."""
    switches = {"MM_TEST_BUILD": "1", "MM_CRASH_POINTS": str(folder), "MM_PROCESS": "node-2", **env}
    ended = subprocess.run(
        [sys.executable, "-u", "-c", DIES_AT.format(point=point)],
        cwd=ROOT,
        env=environment(folder, **{name: value for name, value in switches.items() if value}),
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout.split(), ended.stderr.strip().rpartition("\n")[2]


def test_names_come_in_an_order_and_once() -> None:
    assert len(set(POINTS)) == len(POINTS)
    assert {name.partition(".")[2] for name in POINTS} == {"before", "after", "committed"}


def test_an_arming_kills_the_first_that_passes_once_and_is_told(tmp_path: Path) -> None:
    arm(tmp_path, "order.after")
    assert passed(tmp_path)[:2] == (KILLED, [])
    ((point, pid),) = crashes(tmp_path)
    assert point == "order.after"
    assert pid > 0
    assert passed(tmp_path)[:2] == (0, ["1", "2", "3"])

    arm(tmp_path, "order.after")
    assert passed(tmp_path)[:2] == (KILLED, [])
    assert len(crashes(tmp_path)) == 2


def test_an_empty_file_made_by_hand_arms_too(tmp_path: Path) -> None:
    (tmp_path / "order.after").touch()
    assert passed(tmp_path)[0] == KILLED


def test_it_can_be_at_a_later_passing(tmp_path: Path) -> None:
    arm(tmp_path, "order.after", passing=3)
    assert passed(tmp_path)[:2] == (KILLED, ["1", "2"])


@pytest.mark.parametrize(("process", "code"), [("node-2", KILLED), ("node-1", 0)])
def test_it_can_be_for_one_process_alone(tmp_path: Path, process: str, code: int) -> None:
    arm(tmp_path, "order.after", process=process)
    assert passed(tmp_path)[0] == code
    assert len(crashes(tmp_path)) == (code == KILLED)


def test_another_point_is_passed(tmp_path: Path) -> None:
    arm(tmp_path, "order.before")
    assert passed(tmp_path)[:2] == (0, ["1", "2", "3"])


def test_one_switch_alone_kills_nobody(tmp_path: Path) -> None:
    arm(tmp_path, "order.after")

    code, printed, said = passed(tmp_path, MM_TEST_BUILD="")
    assert (code, printed) == (1, [])
    assert "it needs MM_TEST_BUILD=1 too" in said
    assert passed(tmp_path, MM_CRASH_POINTS="")[:2] == (0, ["1", "2", "3"])
    assert crashes(tmp_path) == set()


@pytest.mark.parametrize("name", ["order.aftr", "order", "node-2@order.after"])
def test_arming_what_is_no_point_is_refused_at_the_start(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    code, printed, said = passed(tmp_path)
    assert (code, printed) == (1, [])
    assert f"{name} names no crash point; there are register.before" in said


def test_a_folder_that_is_not_there_is_refused_at_the_start(tmp_path: Path) -> None:
    assert "cannot read the folder" in passed(tmp_path, MM_CRASH_POINTS=str(tmp_path / "none"))[2]


def test_a_command_says_so_in_one_line(tmp_path: Path) -> None:
    env = environment(tmp_path, MM_CRASH_POINTS=str(tmp_path))
    refused = subprocess.run(
        [sys.executable, "manage.py", "up"], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert len(refused.stderr.strip().splitlines()) == 1
    assert "MM_TEST_BUILD" in refused.stderr


def test_passing_a_point_that_is_not_registered_fails_in_a_test_build(tmp_path: Path) -> None:
    assert passed(tmp_path, point="order.aftr")[2] == "AssertionError: order.aftr"


def test_no_point_is_armed_in_this_process_and_passing_one_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert crashpoints._folder is None
    monkeypatch.delattr(crashpoints, "_die_if_armed")
    point: Point = "order.after"
    crashpoints.crash_point(point)


def test_who_crashed_is_read_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "replace.before.crashed-17").touch()
    assert crashes(tmp_path) == {Crash("replace.before", 17)}
