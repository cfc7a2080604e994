"""verify holds its peace over a healthy, busy market, and names what was broken when something was."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.excuse import unexcused
from mmproject.conf import ROOT, conf
from mmproject.errors import UsageError
from mmproject.invariants import INVARIANTS
from mmproject.verify import CHECKS, Report, verify
from tests.database.planted import COVERAGE, FRESH, PLANTS, Plant
from tests.market import HandMarket, busy_market
from tests.support import Database, environment, scratch_database

# Needs a server that was started with the setting off.
NOT_PLANTED = {("I4", "commit times are kept")}

Answers = list[dict[str, Any]]


def broken(report: Report) -> list[dict[str, Any]]:
    return [verdict.as_json() for verdict in report.verdicts if not verdict.ok]


@pytest.fixture(scope="module")
def busy(server: str, template: str) -> Iterator[tuple[str, Answers]]:
    """A busy market whose nodes have left, to be copied; and what its clients were told."""
    with scratch_database(server, conf.var, template) as database:
        market = busy_market(database)
        for name in list(market.nodes):
            market.leave(name)
        report = verify(database.connect("console"))
        assert report.ok, broken(report)
        database.close()
        yield database.name, market.answers


@pytest.fixture
def market(server: str, busy: tuple[str, Answers]) -> Iterator[Database]:
    """A copy of the busy market of the test's own."""
    with scratch_database(server, conf.var, busy[0]) as database:
        yield database


def commit(database: Database, statements: tuple[str, ...]) -> None:
    """Run the statements as the tables' owner, past our own triggers, one commit each."""
    admin = database.connect("admin")
    tables = [
        row[0]
        for row in admin.execute("SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal")
    ]
    for table in tables:
        admin.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER".encode())
    guards, others = (
        [s for s in statements if " DISABLE TRIGGER " in s],
        [s for s in statements if " DISABLE TRIGGER " not in s],
    )
    for statement in others:
        cursor = admin.execute(statement.encode())
        assert cursor.rowcount != 0, f"it changed nothing: {statement}"
    for table in tables:
        admin.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER".encode())
    for statement in guards:
        admin.execute(statement.encode())


def test_every_invariant_holds_in_a_busy_market_with_its_nodes_alive(database: Database) -> None:
    busy_market(database)
    report = verify(database.connect("console"))
    assert report.ok, broken(report)
    assert [verdict.invariant for verdict in report.verdicts] == list(INVARIANTS)
    assert all(verdict.checked for verdict in report.verdicts), "each looked at something"


def test_every_invariant_holds_in_an_empty_database(database: Database) -> None:
    report = verify(database.connect("console"))
    assert report.ok, broken(report)


# What the database itself refuses does not depend on any row, so all those plants fit into one copy.
STRUCTURE = tuple(plant for plant in PLANTS if plant.check.startswith("the database refuses"))


@pytest.mark.parametrize("plant", [plant for plant in PLANTS if plant not in STRUCTURE], ids=lambda plant: plant.name)
def test_a_planted_violation_is_caught_by_its_name(plant: Plant, market: Database) -> None:
    commit(market, plant.statements)
    assert_caught(plant, verify(market.connect("console")))


def test_a_node_that_had_stopped_a_moment_ago_is_not_blamed_for_its_old_quotes(market: Database) -> None:
    """I11 is about a node that has been healthy for ten seconds, and not about one that has come back just now."""
    (stale,) = FRESH
    commit(market, stale.statements)
    assert "I11 fresh-quotes" in verify(market.connect("console")).broken
    paused = "UPDATE authority_incarnation SET steady_since = clock_timestamp() - interval '8 seconds'"
    commit(market, (paused,))
    assert "I11 fresh-quotes" not in verify(market.connect("console")).broken


def test_a_node_that_has_lost_its_session_is_not_blamed_for_its_old_quotes(market: Database) -> None:
    """It can't quote, and is about to be ended."""
    (stale,) = FRESH
    commit(market, stale.statements)
    assert "I11 fresh-quotes" in verify(market.connect("console")).broken
    market.connect().execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory'"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    assert "I11 fresh-quotes" not in verify(market.connect("console")).broken


def test_what_was_uncovered_is_told_with_its_times_so_that_they_can_be_held_against_an_outage(market: Database) -> None:
    uncovered, _ = COVERAGE
    commit(market, uncovered.statements)
    (verdict,) = verify(market.connect("console"), only=["I14"]).verdicts
    found = {"at": time.time(), **verdict.as_json()}
    assert unexcused(found, []) == found
    assert unexcused(found, [(0.0, time.time() - 600)]) == found
    assert unexcused(found, [(0.0, time.time())]) is None


def test_a_constraint_or_trigger_that_is_gone_is_missed(market: Database) -> None:
    commit(market, tuple(dict.fromkeys(statement for plant in STRUCTURE for statement in plant.statements)))
    report = verify(market.connect("console"))
    for plant in STRUCTURE:
        assert_caught(plant, report)


def assert_caught(plant: Plant, report: Report) -> None:
    titles = {invariant.id: invariant.title for invariant in INVARIANTS}
    assert titles[plant.invariant] in report.broken
    seen = [
        row
        for verdict in report.as_json()["invariants"]
        if verdict["id"] == plant.invariant
        for row in verdict["rows"]
        if row["check"] == plant.check
    ]
    assert any(plant.says in json.dumps(row) for row in seen), broken(report)


def test_each_check_has_a_violation_that_it_was_seen_to_catch() -> None:
    made = {(check.invariant, check.title) for check in CHECKS if check.run is None or check.invariant != "I10"}
    assert {(plant.invariant, plant.check) for plant in PLANTS} == made - NOT_PLANTED
    assert {check.invariant for check in CHECKS} == {invariant.id for invariant in INVARIANTS}


# I10, from outside: what a client wrote down


def record(path: Path, answers: Answers, tail: str = "") -> Path:
    path.write_text("".join(json.dumps(answer) + "\n" for answer in answers) + tail)
    return path


def test_what_a_client_wrote_down_is_there(market: Database, busy: tuple[str, Answers], tmp_path: Path) -> None:
    # The client was killed while it wrote the last line.
    told = record(tmp_path / "told", busy[1], tail='{"client_order_id": "c-ta')
    report = verify(market.connect("console"), only=["I10"], acknowledged=told)
    assert report.ok, broken(report)
    assert report.verdicts[0].checked >= len(busy[1])
    assert not report.verdicts[0].notes


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("DELETE FROM exchange_order WHERE client_order_id = 'c-takes'", "the order"),
        ("DELETE FROM ledger_fill WHERE client_order_id = 'c-takes'", "fill ALFA-"),
        ("UPDATE ledger_fill SET quantity = quantity * 2 WHERE client_order_id = 'c-takes'", "fill ALFA-"),
        ("UPDATE ledger_fill SET price = price * 2 WHERE client_order_id = 'c-takes'", "fill ALFA-"),
        ("UPDATE exchange_order SET fills = '[]' WHERE client_order_id = 'c-takes'", "fill ALFA-"),
        ("UPDATE exchange_order SET quantity = quantity * 2 WHERE client_order_id = 'c-away'", "its quantity"),
        (
            "UPDATE exchange_order SET status = 'cancelled', reject_code = NULL WHERE client_order_id = 'c-kill'",
            "its state",
        ),
        ("UPDATE exchange_order SET filled_quantity = 0 WHERE client_order_id = 'c-part'", "a part of its fills"),
    ],
)  # fmt: skip
def test_what_was_acknowledged_and_is_lost_is_named(
    market: Database, busy: tuple[str, Answers], tmp_path: Path, statement: str, says: str
) -> None:
    commit(market, (statement,))
    report = verify(market.connect("console"), only=["nothing-lost"], acknowledged=record(tmp_path / "told", busy[1]))
    assert report.broken == ["I10 nothing-lost"]
    assert any(says in row.get("lost", "") and "line" in row for row in report.verdicts[0].rows), broken(report)


@pytest.mark.parametrize(
    "line",
    ["no json\n", "[1]\n", '{"status": "filled"}\n', '{"client_order_id": "c-takes"}\n',
     '{"client_order_id": "c-takes", "status": "filled", "filled_quantity": "many", "fills": []}\n'],
)  # fmt: skip
def test_a_record_that_holds_no_answers_is_wrong_use(market: Database, tmp_path: Path, line: str) -> None:
    told = tmp_path / "told"
    told.write_text(line)
    with pytest.raises(UsageError, match="line 1"):
        verify(market.connect("console"), only=["I10"], acknowledged=told)


def test_a_record_that_is_not_there_is_wrong_use(market: Database, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        verify(market.connect("console"), acknowledged=tmp_path / "nowhere")


# The snapshot


def test_verify_judges_one_moment_while_the_market_goes_on(database: Database) -> None:
    """Every check reads the same snapshot: what commits between two of them is in none."""
    market = HandMarket(database)
    market.join("node-1")
    market.rebalance("node-1 joined")
    market.tick(2)
    steps = iter(range(1000))

    def meanwhile(_text: str) -> None:
        if next(steps) % 8 == 0:
            market.tick()

    report = verify(database.connect("console"), progress=meanwhile)
    assert report.ok, broken(report)
    assert market.step > 5, "the market went on"


def test_what_breaks_after_the_moment_that_is_judged_is_not_of_it(market: Database) -> None:
    """Checks that saw different moments would contradict one another in a market that is sound."""
    said: list[str] = []

    def meanwhile(text: str) -> None:
        if not said:  # the snapshot is there, and no check has been made yet
            commit(market, ("UPDATE ledger_position SET cash = cash + 0.01",))
        said.append(text)

    judged = verify(market.connect("console"), only=["I6"], progress=meanwhile)
    assert judged.broken == []
    assert said
    assert verify(market.connect("console"), only=["I6"]).broken == ["I6 positions-add-up"]


def test_an_unknown_name_is_wrong_use(database: Database) -> None:
    with pytest.raises(UsageError, match="one-lease"):
        verify(database.connect("console"), only=["I99"])


# The command


@pytest.mark.parametrize("broken_by", [None, "UPDATE ledger_position SET cash = cash + 0.01"])
def test_the_command_says_by_its_exit_code_whether_all_hold(
    market: Database, broken_by: str | None, tmp_path: Path
) -> None:
    if broken_by:
        commit(market, (broken_by,))
    ran = subprocess.run(
        [sys.executable, "manage.py", "verify", "--json"],
        cwd=ROOT, env=environment(tmp_path / "var", DATABASE_URL=market.url("console")), capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert json.loads(ran.stdout)["ok"] is (broken_by is None), ran.stderr
    assert ran.returncode == (1 if broken_by else 0), f"exit code {ran.returncode}"
