"""`manage.py runnode` as a person or a supervisor meets it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.nodes import RUNNODE, node_market
from mmproject import provision
from mmproject.conf import ROOT
from mmproject.postgres import free_port
from tests.support import Database, environment, eventually


def runnode(*arguments: str, folder: Path, timeout_s: float = 60, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "runnode", *arguments],
        cwd=ROOT,
        env=environment(folder, **env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if not line.startswith("{")]


@pytest.mark.parametrize("name", ["Node_1", "n" * 64])
def test_a_bad_name_is_one_line_and_exit_2(tmp_path: Path, name: str) -> None:
    done = runnode(f"--name={name}", folder=tmp_path, DATABASE_URL="postgresql://nobody@127.0.0.1:9/none")
    assert done.returncode == 2
    assert len(errors(done)) == 1
    assert "node name" in done.stderr


def test_without_a_database_it_says_what_to_do(tmp_path: Path) -> None:
    done = runnode("--name", "node-1", folder=tmp_path)
    assert done.returncode == 1
    assert errors(done) == ["manage.py: no database: start the system with `make run`, or set DATABASE_URL"]


def test_the_wrong_password_and_a_missing_database_are_one_line_and_exit_1(tmp_path: Path, database: Database) -> None:
    wrong = provision.with_login(database.url("node"), "mm_node", "not it")
    done = runnode("--name", "node-1", folder=tmp_path, DATABASE_URL=wrong)
    assert (done.returncode, len(errors(done))) == (1, 1), done.stderr
    assert "not it" not in done.stderr

    missing = provision.with_database(database.url("node"), "no_such_database")
    done = runnode("--name", "node-1", folder=tmp_path, DATABASE_URL=missing)
    assert (done.returncode, len(errors(done))) == (1, 1), done.stderr


def test_a_role_that_may_not_work_as_a_node_is_told_so(tmp_path: Path, database: Database) -> None:
    done = runnode("--name", "node-1", folder=tmp_path, DATABASE_URL=database.url("console"))
    assert (done.returncode, len(errors(done))) == (1, 1), done.stderr
    assert "mm_node" in done.stderr


def test_it_registers_quotes_and_leaves_with_exit_0(database: Database) -> None:
    with node_market(database, 2) as market:
        node = market.start("node-1", program=RUNNODE)
        market.balanced(1)
        assert node.stop() < 2
        assert node.process.returncode == 0
        told = [event["event"] for event in node.events()]
        assert told[:4] == ["registered", "rebalanced", "granted", "quoted"]
        assert told[-2:] == ["stopping", "left"]
        assert market.rows("SELECT DISTINCT epoch, reason FROM authority_tenure") == [(1, "released")]


def test_an_unreachable_server_is_tried_again_until_told_to_stop(database: Database) -> None:
    with node_market(database, 1) as market:
        nowhere = f"postgresql://mm_node:x@127.0.0.1:{free_port()}/market"
        node = market.start("node-1", DATABASE_URL=nowhere)
        eventually(lambda: len(node.events("cannot register yet")) > 2, 60, "it tries again")
        assert node.stop() < 2
        assert node.process.returncode == 0
        assert "Traceback" not in node.log.read_text()
