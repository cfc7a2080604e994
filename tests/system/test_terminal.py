"""The terminal's commands against a running market, as an operator types them."""

from __future__ import annotations

import getpass
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmproject.conf import ROOT
from tests.support import System, environment, eventually, running_system

SYMBOLS = 4
COMMAND_TIMEOUT_S = 30


@pytest.fixture(scope="module")
def market() -> Iterator[System]:
    """Two nodes and four symbols, all quoted."""
    with running_system(nodes=2, symbols=SYMBOLS, MM_LEASE_TTL_MS="15000") as system:  # nothing here is an expiry
        eventually(lambda: len(status(system)["quotes"]) == SYMBOLS, 30, "all symbols are quoted")
        eventually(lambda: shares(system) == {"node-1": 2, "node-2": 2}, 30, "the nodes share them")
        yield system


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON document of a command that went well."""
    assert done.returncode == 0, done.stderr
    parsed: dict[str, Any] = json.loads(done.stdout)
    return parsed


def status(system: System) -> dict[str, Any]:
    return document(system.manage("status", "--json"))


def shares(system: System) -> dict[str, int]:
    """How many symbols each node holds."""
    return {row["name"]: row["symbols"] for row in status(system)["nodes"]}


def audit(system: System, target: str) -> list[tuple[Any, ...]]:
    with system.connect() as connection:
        return connection.execute(
            "SELECT actor, action, before, after, reason FROM journal_audit WHERE target = %s ORDER BY id", [target]
        ).fetchall()


ME = f"cli:{getpass.getuser()}"


def test_status_prints_the_api_s_lists_as_one_document(market: System) -> None:
    seen = status(market)
    assert set(seen) == {
        "at", "clock", "orders_per_second", "nodes", "symbols", "leases", "quotes", "prices", "positions",
    }  # fmt: skip
    shapes = {
        "leases": {"symbol", "node", "incarnation", "epoch", "granted_at", "expires_at"},
        "quotes": {
            "symbol", "bid_price", "bid_quantity", "ask_price", "ask_quantity", "version", "epoch", "node",
            "published_at", "valid_until",
        },
        "positions": {
            "symbol", "quantity", "average_cost", "cash", "realised_pnl", "unrealised_pnl", "version", "updated_at",
        },
        "prices": {"symbol", "price", "step", "at"},
    }  # fmt: skip
    for name, fields in shapes.items():
        assert len(seen[name]) == SYMBOLS, name
        assert set(seen[name][0]) == fields, name
    assert {"name", "incarnation", "state", "registered_at", "expires_at", "symbols"} <= set(seen["nodes"][0])
    assert [row["state"] for row in seen["nodes"]] == ["active", "active"]
    assert isinstance(seen["prices"][0]["price"], str)
    assert seen["at"].endswith("Z")


def test_status_is_a_table_for_people(market: System) -> None:
    done = market.manage("status")
    assert done.returncode == 0, done.stderr
    for word in ("node-1", "node-2", "active", "ALFA", "step", "quoting"):
        assert word in done.stdout
    assert "\x1b" not in done.stdout  # no colours where there is no terminal


def read(terminal: int) -> bytes:
    """What comes out of a pseudo-terminal next; nothing when its other end is closed or quiet."""
    if not select.select([terminal], [], [], 0.2)[0]:
        return b""
    try:
        return os.read(terminal, 65_536)
    except OSError:  # EIO: nobody has the other end open any more
        return b""


def test_status_watch_repaints_until_ctrl_c_and_ends_quietly(market: System) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "manage.py", "status", "--watch"],
        cwd=ROOT,
        env=environment(market.var, COLUMNS="140", LINES="40", TERM="xterm"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    painted = b""
    try:
        deadline = time.monotonic() + COMMAND_TIMEOUT_S
        while painted.count(b"DELTA") < 2 and time.monotonic() < deadline:
            painted += read(ours)
        process.send_signal(signal.SIGINT)
        while process.poll() is None and time.monotonic() < deadline:
            painted += read(ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert painted.count(b"DELTA") >= 2, "painted twice"
    assert process.returncode == 0
    assert b"Traceback" not in painted


def test_a_closed_pipe_ends_a_command_quietly(market: System) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "manage.py", "status"],
        cwd=ROOT,
        env=environment(market.var),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_quoting_off_withdraws_and_on_brings_back_and_both_are_audited(market: System) -> None:
    before = len(audit(market, "BRAVO"))
    off = document(market.manage("quoting", "off", "BRAVO", "ALFA", "BRAVO", "--reason", "news; 'tis", "--json"))
    assert off["symbols"] == [
        {"symbol": "ALFA", "before": True, "after": False},
        {"symbol": "BRAVO", "before": True, "after": False},
    ]
    assert (off["enabled"], off["actor"], off["reason"]) == (False, ME, "news; 'tis")
    assert {row["symbol"] for row in status(market)["quotes"]} == {"CHARLIE", "DELTA"}
    again = market.manage("quoting", "off", "BRAVO")
    assert again.stdout == "BRAVO: quoting off (as before)\n"
    assert document(market.manage("quoting", "on", "--all", "--json"))["symbols"][0]["after"] is True
    eventually(lambda: len(status(market)["quotes"]) == SYMBOLS, 20, "quoted again")
    assert audit(market, "BRAVO")[before:] == [
        (ME, "quoting_off", True, False, "news; 'tis"),
        (ME, "quoting_off", False, False, ""),
        (ME, "quoting_on", False, True, ""),
    ]


def test_quoting_off_for_all_names_what_somebody_keeps_locked(market: System) -> None:
    with market.connect() as holder, holder.transaction():
        holder.execute("SELECT FROM exchange_quote WHERE symbol = 'CHARLIE' FOR UPDATE")
        off = market.manage("quoting", "off", "--all", "--json")
        quoted = {row["symbol"] for row in status(market)["quotes"]}
    assert (off.returncode, off.stderr.count("\n")) == (1, 1)
    assert f"of {SYMBOLS} symbols, but could not be turned off for" in off.stderr
    told = json.loads(off.stdout)
    assert "CHARLIE" in told["locked"]
    turned = [toggle["symbol"] for toggle in told["symbols"]]
    assert turned, "the others don't wait for it"
    assert sorted(turned + told["locked"]) == ["ALFA", "BRAVO", "CHARLIE", "DELTA"]
    assert quoted <= set(told["locked"])
    assert document(market.manage("quoting", "on", "--all", "--json"))["locked"] == []
    eventually(lambda: len(status(market)["quotes"]) == SYMBOLS, 20, "quoted again")


def test_drain_waits_until_the_symbols_have_moved_and_undrain_until_they_are_back(market: System) -> None:
    drained = document(market.manage("drain", "node-2", "--wait", "--reason", "upgrade", "--json"))
    assert (drained["node"], drained["before"], drained["after"]) == ("node-2", False, True)
    assert len(drained["symbols"]) == 2
    assert drained["waited_ms"] < 10_000
    assert shares(market) == {"node-1": 4, "node-2": 0}
    assert [row["state"] for row in status(market)["nodes"]] == ["active", "draining"]
    back = market.manage("undrain", "node-2", "--wait")
    assert (back.returncode, back.stdout) == (0, "node-2 takes symbols again\n"), back.stderr
    assert shares(market) == {"node-1": 2, "node-2": 2}
    assert [row[1] for row in audit(market, "node-2")][-2:] == ["drain", "undrain"]


def test_a_drain_that_nobody_can_take_over_says_so_at_its_deadline(market: System) -> None:
    document(market.manage("drain", "node-1", "--wait", "--json"))
    stuck = market.manage("drain", "node-2", "--wait", "--timeout", "0.5")
    assert (stuck.returncode, stuck.stdout) == (1, "")
    assert "no other node" in stuck.stderr.strip().splitlines()[-1]
    assert market.manage("undrain", "node-1").returncode == 0
    document(market.manage("undrain", "node-2", "--wait", "--json"))
    eventually(lambda: shares(market) == {"node-1": 2, "node-2": 2}, 20, "balanced again")


def test_verify_and_explain_answer_with_one_document(market: System) -> None:
    report = document(market.manage("verify", "--json"))
    assert report["ok"] is True, [one for one in report["invariants"] if not one["ok"]]
    assert len(report["invariants"]) == 15
    story = document(market.manage("explain", "ALFA", "--json"))
    assert story


def test_simulate_on_the_running_server_leaves_the_market_alone(market: System) -> None:
    before = status(market)["clock"]["seed"]
    run = document(market.manage("simulate", "--seed", "9", "--steps", "3", "--symbols", "2", "--json"))
    assert run["steps"] == 3
    assert status(market)["clock"]["seed"] == before
    assert len(status(market)["symbols"]) == SYMBOLS
    with market.connect() as connection:
        names = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'mm_scratch%'").fetchall()
    assert names == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["quoting"], 2),
        (["quoting", "off"], 2),
        (["quoting", "maybe", "ALFA"], 2),
        (["quoting", "off", "ALFA", "--all"], 2),
        (["quoting", "off", "ALFA", "NOPE"], 2),
        (["quoting", "off", "alfa"], 2),
        (["quoting", "off", ""], 2),
        (["quoting", "off", "ALFA", "--because", "x"], 2),
        (["drain"], 2),
        (["drain", "nobody"], None),
        (["drain", "node-1", "--timeout", "0"], 2),
        (["undrain", "nobody", "--wait"], None),
        (["explain"], 2),
        (["explain", "NOPE"], None),
        (["status", "ALFA"], 2),
        (["status", "--json", "--watch"], 2),
        (["verify", "--only", "I99"], 2),
        (["nosuchcommand"], None),
    ],
)
def test_wrong_use_is_told_in_one_line_and_changes_nothing(market: System, words: list[str], code: int | None) -> None:
    with market.connect() as connection:
        count = "SELECT count(*) FROM journal_audit"
        before = connection.execute(count).fetchone()
        done = market.manage(*words)
        assert done.returncode in ((1, 2) if code is None else (code,)), done.stderr
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        assert done.stderr.strip().splitlines()[-1].startswith(("manage.py", "Unknown command", "Type "))
        assert connection.execute(count).fetchone() == before


@pytest.mark.parametrize(
    ("command", "url"),
    [
        (["status"], ""),
        (["quoting", "off", "--all"], ""),
        (["status"], "postgresql://nobody:secret@127.0.0.1:9/market"),
        (["drain", "node-1"], "postgresql://nobody:secret@127.0.0.1:9/market"),
        (["explain", "ALFA"], "postgresql://nobody:secret@127.0.0.1:9/market"),
        (["status"], "secret"),
        (["status"], "mysql://nobody:secret@127.0.0.1/market"),
        (["status"], "postgresql://nobody:secret@127.0.0.1:http/market"),
    ],
)
def test_without_a_database_a_command_says_so_in_one_line(tmp_path: Path, command: list[str], url: str) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=ROOT,
        env=environment(tmp_path, DATABASE_URL=url),
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "secret" not in done.stderr


def test_help_lists_our_commands_first_with_a_line_each() -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=True,
    )
    ours = done.stdout.partition("Django's:")[0]
    for name in ("up", "runnode", "status", "quoting", "drain", "undrain", "explain", "verify", "simulate"):
        assert f"\n  {name} " in ours, name
