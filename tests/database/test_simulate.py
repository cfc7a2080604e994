"""`simulate`: the same seed gives the same market to the digit, and the server is left as it was found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from exchange.catalogue import catalogue
from exchange.orderflow import external_order_ids
from mmproject import provision
from mmproject.conf import ROOT
from mmproject.scratch import PREFIX
from mmproject.verify import verify
from nodeagent.simulation import Simulation, replay
from tests.support import Database, environment, eventually

STEPS, SYMBOLS = 60, 4
TIMEOUT_S = 100  # of one run, on a machine that runs other tests too


def started(server: str | None, var: Path, *options: str, **env: str) -> subprocess.Popen[str]:
    """`manage.py simulate` as a person starts it, on the tests' server or (None) on none."""
    variables = environment(var, **env)
    if server is not None:
        variables["DATABASE_URL"] = server
    return subprocess.Popen(
        [sys.executable, "manage.py", "simulate", *options],
        cwd=ROOT,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def simulated(server: str | None, var: Path, *options: str, **env: str) -> tuple[int, str, str]:
    process = started(server, var, *options, **env)
    out, err = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, out, err


def options(seed: int = 7, steps: int = STEPS, symbols: int = SYMBOLS) -> list[str]:
    return ["--seed", str(seed), "--steps", str(steps), "--symbols", str(symbols), "--json"]


def document(run: tuple[int, str, str]) -> dict[str, Any]:
    """The one JSON document that a good run prints."""
    code, out, err = run
    assert code == 0, err
    assert out.count("\n") == 1, out
    parsed: dict[str, Any] = json.loads(out)
    return parsed


def scratch_databases(server: str) -> list[str]:
    with provision.connect(server) as connection:
        found = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [PREFIX])
        return [row[0] for row in found.fetchall()]


def replayed(database: Database, seed: int = 7, steps: int = STEPS) -> Simulation:
    connection = database.connect("admin")
    simulation = Simulation(connection, seed, catalogue(SYMBOLS))
    replay(simulation, steps, lambda _step: None)
    return simulation


def test_the_same_seed_gives_the_same_digest_whatever_the_hash_seed(server: str, tmp_path: Path) -> None:
    first = document(simulated(server, tmp_path, *options(), PYTHONHASHSEED="1"))
    again = document(simulated(server, tmp_path, *options(), PYTHONHASHSEED="4242"))
    assert first["digest"] == again["digest"]
    assert len(first["digest"]) == 64
    for name in ("seed", "symbols", "steps", "orders", "fills", "quotes", "verified"):
        assert first[name] == again[name], name
    expected = sum(
        len(external_order_ids(7, spec.name, spec.orders_per_step, step))
        for spec in catalogue(SYMBOLS)
        for step in range(1, STEPS + 1)
    )
    assert (first["steps"], first["orders"], first["verified"]) == (STEPS, expected, 15)
    assert first["fills"] > 0
    assert scratch_databases(server) == []


def test_another_seed_gives_another_digest(server: str, tmp_path: Path) -> None:
    runs = [document(simulated(server, tmp_path, *options(seed=seed, steps=10))) for seed in (7, 8)]
    assert runs[0]["digest"] != runs[1]["digest"]


def test_a_run_is_the_beginning_of_a_longer_one(database: Database) -> None:
    simulation = replayed(database, steps=10)
    short = simulation.digest()
    for step in range(11, 21):
        simulation.step(step)
    assert simulation.digest() != short
    fills = simulation.connection.execute("SELECT count(*) FROM ledger_fill").fetchone()
    assert fills == (simulation.counts()["fills"],)


def unguard(simulation: Simulation) -> None:
    """Let the tables' owner change history, which their triggers forbid to everybody."""
    for table in ("ledger_fill", "ledger_position", "exchange_quoteversion"):
        simulation.connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER".encode())


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE ledger_fill SET price = price + 0.01 WHERE fill_id = 'ALFA-000000000002'",
        "UPDATE ledger_fill SET client_order_id = 'other' WHERE fill_id = 'ALFA-000000000002'",
        "UPDATE ledger_position SET cash = cash + 0.01 WHERE symbol = 'BRAVO'",
        "UPDATE exchange_quoteversion SET ask_quantity = ask_quantity + lot_size WHERE symbol = 'ALFA' AND version = 3",
        "DELETE FROM exchange_quoteversion WHERE symbol = 'CHARLIE' AND version = 2",
    ],
)
def test_the_digest_notices_the_smallest_change(database: Database, change: str) -> None:
    simulation = replayed(database, steps=20)
    before = simulation.digest()
    assert simulation.digest() == before
    unguard(simulation)
    assert simulation.connection.execute(change.encode()).rowcount == 1
    assert simulation.digest() != before


def test_the_digest_does_not_depend_on_times_or_incarnations(database: Database) -> None:
    simulation = replayed(database, steps=5)
    before = simulation.digest()
    unguard(simulation)
    simulation.connection.execute("UPDATE ledger_fill SET filled_at = now(), incarnation = gen_random_uuid()")
    simulation.connection.execute("UPDATE exchange_quoteversion SET published_at = now(), node = 'other'")
    assert simulation.digest() == before


def test_a_replayed_market_satisfies_every_invariant(database: Database) -> None:
    simulation = replayed(database)
    report = verify(simulation.connection)
    assert report.broken == []
    assert len(report.verdicts) == 15


def test_what_is_broken_in_a_replay_is_found(database: Database) -> None:
    simulation = replayed(database, steps=5)
    unguard(simulation)
    simulation.connection.execute("UPDATE ledger_position SET cash = cash + 1 WHERE symbol = 'ALFA'")
    assert "I6 positions-add-up" in verify(simulation.connection).broken


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_quietly_and_leaves_nothing_behind(server: str, tmp_path: Path, number: int) -> None:
    process = started(server, tmp_path, *options(steps=100_000))
    try:
        eventually(lambda: is_playing(server), 60, "it plays")
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert (out, "Traceback" in err) == ("", False), err
    assert scratch_databases(server) == []


def is_playing(server: str) -> bool:
    """Whether a scratch database has taken a few steps."""
    for name in scratch_databases(server):
        try:
            with provision.connect(provision.with_database(server, name)) as connection:
                return bool(connection.execute("SELECT step > 3 FROM exchange_clock").fetchone() == (True,))
        except psycopg.errors.UndefinedTable:
            continue
    return False


def test_what_a_killed_run_left_behind_is_dropped_by_the_next(server: str, tmp_path: Path) -> None:
    process = started(server, tmp_path, *options(steps=100_000))
    try:
        eventually(lambda: is_playing(server), 60, "it plays")
    finally:
        process.kill()
        process.communicate()
    (left,) = scratch_databases(server)
    document(simulated(server, tmp_path, *options(steps=2)))
    assert left not in scratch_databases(server)
    assert scratch_databases(server) == []


def test_without_any_server_a_throwaway_one_is_used(tmp_path: Path) -> None:
    run = simulated(None, tmp_path / "var", *options(steps=5), TMPDIR=str(tmp_path))
    assert document(run)["steps"] == 5
    assert [path for path in tmp_path.iterdir() if path.name.startswith("mm-scratch")] == []


@pytest.mark.parametrize(
    "wrong",
    [
        ["--seed", "7"],
        ["--steps", "5"],
        ["--seed", "7", "--steps", "0"],
        ["--seed", "-1", "--steps", "5"],
        ["--seed", "7", "--steps", "five"],
        ["--seed", "7", "--steps", "5", "--symbols", "10001"],
        ["--seed", "7", "--steps", "5", "ALFA"],
        ["--seed", "7", "--steps", "5", "--jso"],
        ["--seed", os.fsdecode(b"\xff"), "--steps", "5"],
    ],
)
def test_wrong_use_is_one_line_and_exit_2(tmp_path: Path, wrong: list[str]) -> None:
    code, out, err = simulated(None, tmp_path, *wrong)
    assert (code, out) == (2, "")
    assert "manage.py simulate: " in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_server_that_is_not_there_is_one_line_and_exit_1(tmp_path: Path) -> None:
    code, out, err = simulated("postgresql://nobody@127.0.0.1:9/market", tmp_path, *options())
    assert (code, out) == (1, "")
    assert len(err.strip().splitlines()) == 1, err
    assert "127.0.0.1:9" in err
