"""A row that somebody keeps locked (a session left open, a server process that hangs) holds up nothing but itself."""

from __future__ import annotations

import pytest

from tests.racing import Stage, acquire, in_turn, release, replace, sweep, sweep_part
from tests.support import Database, eventually

TABLES = ("exchange_quote", "authority_lease")


@pytest.fixture
def stage(database: Database) -> Stage:
    return Stage(database)


def held_by(stage: Stage, node: str) -> list[str]:
    return stage.column("SELECT symbol FROM authority_lease WHERE node = %s ORDER BY symbol", node)


@pytest.mark.parametrize("table", TABLES)
def test_a_lost_nodes_other_symbols_are_taken_over(stage: Stage, table: str) -> None:
    a, b = stage.maker(), stage.join("b")
    stage.assign(ALFA="b", BRAVO="b")
    stage.lose(a)
    with stage.kept_locked(table, "ALFA"):
        assert sweep_part(250)(stage.admin) == ("a", "session_lost", 1, False)
        taken = acquire(b, "ALFA", "BRAVO")(stage.admin)
        assert taken == {"ALFA": ("held", 1), "BRAVO": ("granted", 2)}
        b.epochs["BRAVO"] = 2
        assert replace(b, "BRAVO")(stage.admin) == {"BRAVO": "accepted"}
        told = stage.one("SELECT count(*) FROM journal_activity WHERE kind = 'ended'")
        assert sweep(stage.admin) == [], "it has ended nothing, and says so"
        assert stage.one("SELECT count(*) FROM journal_activity WHERE kind = 'ended'") == told
        assert stage.one(
            "SELECT ended_at IS NULL AND ending = 'session_lost' FROM authority_incarnation WHERE node = 'a'"
        )
    assert sweep_part(250)(stage.admin) == ("a", "session_lost", 1, True)
    assert acquire(b, "ALFA")(stage.admin) == {"ALFA": ("granted", 2)}


def test_what_is_left_of_a_lost_node_can_be_quoted_by_nobody(stage: Stage) -> None:
    """Its rows can't be touched; its right to write them is over all the same."""
    a = stage.maker()
    stage.lose(a)
    with stage.kept_locked("authority_lease", "ALFA"):
        assert sweep(stage.admin) == [("a", "session_lost")]
        assert replace(a, "ALFA", "BRAVO")(stage.admin) == {"ALFA": "expired", "BRAVO": "not_holder"}


def test_another_lost_node_is_ended(stage: Stage) -> None:
    a, b = stage.holder("a", "ALFA"), stage.holder("b", "BRAVO")
    stage.lose(a)
    stage.lose(b)
    with stage.kept_locked("exchange_quote", "ALFA"):
        assert sweep_part(250)(stage.admin) == ("a", "session_lost", 0, False), "its end has begun"
        assert sweep_part(250)(stage.admin) == ("b", "session_lost", 1, True)
        assert sweep_part(250)(stage.admin) is None
    assert sweep_part(250)(stage.admin) == ("a", "session_lost", 1, True)


def test_another_lost_node_is_ended_while_the_row_of_the_first_is_locked(stage: Stage) -> None:
    a, b = stage.holder("a", "ALFA"), stage.holder("b", "BRAVO")
    stage.lose(a)
    stage.lose(b)
    with stage.database.connect("admin") as holder, holder.transaction():
        holder.execute("SELECT FROM authority_incarnation WHERE node = 'a' FOR UPDATE")
        # Each sweep waits for the first one's row, and its second may be over then: it is tried again, as nodes do.
        eventually(lambda: sweep(stage.admin) == [("b", "session_lost")], message="the other is ended")
    assert sweep(stage.admin) == [("a", "session_lost")]


@pytest.mark.parametrize("table", TABLES)
def test_other_free_symbols_are_granted(stage: Stage, table: str) -> None:
    a = stage.holder()
    release(a, "ALFA", "BRAVO")(stage.admin)
    with stage.kept_locked(table, "ALFA"):
        assert acquire(a, "ALFA", "BRAVO")(stage.admin) == {"ALFA": ("busy", 1), "BRAVO": ("granted", 2)}
    assert acquire(a, "ALFA")(stage.admin) == {"ALFA": ("granted", 2)}


@pytest.mark.parametrize("table", TABLES)
def test_other_symbols_are_handed_over(stage: Stage, table: str) -> None:
    a = stage.maker()
    with stage.kept_locked(table, "ALFA"):
        assert release(a, "ALFA", "BRAVO")(stage.admin) == 1
        assert held_by(stage, "a") == ["ALFA"]
    assert in_turn(release(a, "ALFA", "BRAVO"), replace(a, "ALFA"))(stage.admin) == {"ALFA": "not_holder"}


def test_a_node_whose_old_self_cannot_be_ended_whole_is_asked_to_come_again(stage: Stage) -> None:
    """Its other symbols are free by then."""
    a = stage.maker()
    stage.lose(a)
    register = "SELECT serial FROM authority_register_v3('a', 60000)"
    with stage.kept_locked("exchange_quote", "ALFA"):
        assert stage.column(register) == []
        assert held_by(stage, "a") == ["ALFA"]
    assert len(stage.column(register)) == 1


def test_a_release_does_not_wait_for_an_assignment_that_hangs(stage: Stage) -> None:
    """It can't tell for whom to ring then: all look."""
    a = stage.maker()
    listener = stage.database.connect("node")
    listener.execute("LISTEN mm_authority")
    with stage.kept_locked("authority_assignment", "ALFA"):
        assert release(a, "BRAVO", "ALFA")(stage.admin) == 2
        assert [bell.payload for bell in listener.notifies(timeout=5, stop_after=1)] == [""]
