"""`manage.py chaos` as anyone runs it: a small run is ok, and one of a system with a planted bug is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.scaffold import environment
from mmproject.conf import ROOT
from tests.planted.__main__ import project_copy

FENCE = "exchange/sql/exchange_replace_quotes_v3.sql"
UNFENCED = (
    ("WHEN i.epoch < q.epoch THEN 'stale_epoch'", "WHEN false THEN 'stale_epoch'"),
    ("WHEN i.epoch IS DISTINCT FROM q.epoch OR q.holder IS DISTINCT FROM p_holder THEN", "WHEN false THEN"),
    ("clock_timestamp() >= p_deadline", "false"),
    ("p_deadline IS NULL", "false"),
)


def chaos(folder: Path, var: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, JSON document, and what it said."""
    done = subprocess.run(
        [sys.executable, "manage.py", "chaos", "--json", *arguments],
        cwd=folder, env=environment(var), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=500,
        check=False,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


@pytest.mark.timeout(600)
def test_a_small_run_is_ok_and_says_what_happened(tmp_path: Path) -> None:
    report = tmp_path / "report"
    code, found, said = chaos(
        ROOT, tmp_path / "var", "--minutes=1.5", "--seed=3",
        "--only=late_write,deadlock,reset_around_commit,same_order,daphne_killed_in_toggle", f"--report={report}",
    )  # fmt: skip
    assert code == 0, said[-3000:]
    assert found["ok"]
    assert found["violations"] == found["broken"] == []
    assert all(count > 0 for count in (*found["faults"].values(), *found["sometimes"].values()))
    assert found["orders"]["acknowledged"] > 100
    assert found["stream"]["shown"] > 100
    assert found["snapshots"]["verified"] > 10
    assert found["operations"]["replace"] > 100
    assert found["operations"]["order"] > 100
    assert json.loads((report / "chaos.json").read_text()) == found
    page = (report / "chaos.html").read_text()
    assert page.count("<rect") > 20
    assert "late_write" in page
    assert (report / "seed-3" / "log" / "node-1.log").exists()


@pytest.mark.timeout(600)
def test_without_the_fence_it_is_red_and_says_how_to_see_it_again(tmp_path: Path) -> None:
    with project_copy() as folder:
        text = (folder / FENCE).read_text()
        for original, instead in UNFENCED:
            assert original in text
            text = text.replace(original, instead)
        (folder / FENCE).write_text(text)
        code, found, said = chaos(folder, tmp_path / "var", "--minutes=0.7", "--seed=3", "--only=late_write")
    assert code == 1
    assert any("I4 fenced-quotes" in text for text in found["broken"]), found["broken"]
    assert any("linearizability" in text for text in found["broken"]), found["broken"]
    assert "to repeat: manage.py chaos --minutes 0.7 --bout 10 --seed 3 --only late_write" in said


def test_same_seed_same_plan(tmp_path: Path) -> None:
    def plan(seed: int) -> str:
        return subprocess.run(
            [sys.executable, "manage.py", "chaos", "--plan", f"--seed={seed}", "--skip-unavailable"],
            cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=60, check=True,
        ).stdout  # fmt: skip

    assert plan(5) == plan(5) != plan(6)


@pytest.mark.parametrize("arguments", [["--only=nothing"], ["--minutes=0"], ["--symbols=0"], ["--bout=99"]])
def test_a_wrong_option_is_wrong_use(tmp_path: Path, arguments: list[str]) -> None:
    code, _, said = chaos(ROOT, tmp_path, *arguments)
    assert code == 2
    assert len(said.splitlines()) == 1
