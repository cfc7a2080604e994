"""`manage.py bench` as a person meets it: what it lists, refuses, measures and prints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.registry import BENCHMARKS, chosen
from mmproject import provision
from mmproject.conf import ROOT
from mmproject.errors import UsageError
from tests.support import environment

TIMEOUT_S = 240  # an embedded server, two markets and their rounds, on a machine that runs other tests too
pytestmark = pytest.mark.timeout(TIMEOUT_S + 30)
NAMES = [
    "orders", "orders-hot", "orders-batch", "quotes", "renew", "takeover", "handover", "requote", "fanout", "api",
    "simulate", "scale-symbols", "scale-nodes", "soak", "sustain",
]  # fmt: skip


def bench(var: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "bench", *arguments],
        cwd=ROOT,
        env=environment(var, **env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_it_lists_the_benchmarks_with_a_line_each(tmp_path: Path) -> None:
    done = bench(tmp_path, "--list")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted(NAMES)
    assert all(len(line.split()) > 3 for line in lines)
    assert [line.split()[0] for line in lines if line.endswith("(long)")] == ["soak", "sustain"]


def test_without_a_name_all_run_but_those_that_go_on_and_on() -> None:
    assert [one.name for one in chosen([])] == [one.name for one in BENCHMARKS if one.name not in ("soak", "sustain")]
    assert [one.name for one in chosen(["renew", "orders", "renew"])] == ["renew", "orders"]
    with pytest.raises(UsageError, match=r"no benchmark is called order; there are orders, .*sustain"):
        chosen(["orders", "order"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "no benchmark is called nonsense; there are orders"),
        (["orders", "--rounds", "0"], "--rounds must be from 1 to 100"),
        (["orders", "--plot", "figure.docx"], "--plot writes .svg or .png"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(tmp_path: Path, arguments: list[str], told: str) -> None:
    done = bench(tmp_path, *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_a_server_that_does_not_wait_for_the_disk_is_not_measured_on(tmp_path: Path, server: str) -> None:
    provision.wait_for_server(server)
    with provision.connect(server) as connection:
        if connection.execute("SHOW fsync").fetchone() == ("on",):
            pytest.skip("the tests run on a server of somebody else's, which is durable")
    done = bench(tmp_path, "renew", "--quick", DATABASE_URL=server)
    assert done.returncode == 1
    assert "fsync = off" in done.stderr
    assert "durable" in done.stderr


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = bench(tmp_path_factory.mktemp("bench"), "renew", "orders", "--quick", "--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    parsed: dict[str, Any] = json.loads(done.stdout)  # all of it: nothing else is on stdout
    return parsed


def test_the_document_says_where_it_was_measured(document: dict[str, Any]) -> None:
    server = document["machine"]["server"]
    assert (server["fsync"], server["synchronous_commit"], server["embedded"]) == ("on", "on", True)
    assert server["server_version"]
    assert document["machine"]["cores"] > 0
    assert len(document["machine"]["load_average_at_start"]) == 3
    assert document["quick"] is True


def test_every_figure_stands_beside_its_floor_with_a_ratio_and_a_goal(document: dict[str, Any]) -> None:
    renew, orders = document["benchmarks"]
    assert (renew["name"], orders["name"]) == ("renew", "orders")
    throughput = [one for one in orders["measurements"] if one["unit"] == "orders/s"]
    assert [one["at"]["mode"] for one in throughput] == ["prepared", "simple"]
    for one in throughput:
        assert [floor["name"] for floor in one["floors"]] == ["TPC-B", "insert + commit"]
        assert one["goal"] == ">= 2 x"
    for one in renew["measurements"] + orders["measurements"]:
        assert one["rounds"] == 1
        for spread in (one["figure"], *one["floors"], *(floor["ratio"] for floor in one["floors"])):
            assert 0 < spread["lowest"] <= spread["median"] <= spread["highest"]
        assert one["met"] in ((None,) if one["goal"] is None else (True, False))
    latency = [one for one in orders["measurements"] if one["unit"] == "ms"]
    assert [one["at"]["quantile"] for one in latency] == ["p99"]


def test_what_it_left_was_verified(document: dict[str, Any]) -> None:
    for outcome in document["benchmarks"]:
        assert outcome["ok"], outcome
        (report,) = outcome["verify"]
        assert (report["ok"], report["broken"]) == (True, [])
        assert report["invariants"] == 15
        assert report["checked"] > 100
    assert document["ok"]
