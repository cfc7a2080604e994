"""I12, I13: the kill switch and the drain, against everything that may be in flight when they are thrown."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import psycopg

from tests.racing import (
    DEADLINE_S,
    NO_SHORT_CUT,
    REPLACE_UNLOCKED,
    SUBMIT_UNLOCKED,
    TOGGLE_UNLOCKED,
    Command,
    Mutation,
    Stage,
    drain,
    guarded,
    order,
    quoting,
    replace,
)
from tests.support import Database


def assert_no_fill_after_the_kill(stage: Stage) -> None:
    """I12 by the order of the symbol's own numbers: no fill of a version later than its withdrawal."""
    late = stage.admin.execute(
        "SELECT f.fill_id, w.after_sequence FROM exchange_quoteversion w"
        "  JOIN ledger_fill f ON f.symbol = w.symbol AND f.quote_version < w.version AND f.sequence > w.after_sequence"
        " WHERE w.withdrawn_reason = 'quoting_disabled'"
    ).fetchall()
    assert late == [], f"filled after the kill: {late}"


@guarded(Mutation("toggled-without-the-lock", (TOGGLE_UNLOCKED,), "filled after the kill"))
def test_quoting_off_waits_for_the_order_in_flight_and_comes_after_its_fill(stage: Stage) -> None:
    stage.maker()
    outcome = stage.race(order("in-flight", "buy", 30), quoting(False, "ALFA"))
    assert outcome.first["status"] == "filled"
    assert outcome.second == [True], f"{outcome.second!r}"
    assert outcome.waited
    assert_no_fill_after_the_kill(stage)
    assert order("late", "buy", 1)(stage.admin)["reject_code"] == "no_liquidity"


@guarded(Mutation("submitted-without-the-lock", (NO_SHORT_CUT, SUBMIT_UNLOCKED), "filled after the kill"))
def test_an_order_that_waits_for_quoting_off_is_not_filled(stage: Stage) -> None:
    """Without the lock the whole ask is taken by what was read before the kill, and no constraint stands in the way."""
    stage.maker()
    outcome = stage.race(quoting(False, "ALFA"), order("late", "buy", 100))
    assert_no_fill_after_the_kill(stage)
    assert outcome.second["reject_code"] == "no_liquidity"
    assert outcome.waited


@guarded(Mutation("judged-before-the-lock", (REPLACE_UNLOCKED,), "i12_kill_is_final"))
def test_a_quote_that_waits_for_quoting_off_is_refused(stage: Stage) -> None:
    """The constraint is the second line: an unguarded replace fails by it, and would take its whole batch along."""
    a = stage.maker()
    outcome = stage.race(quoting(False, "ALFA"), replace(a, "ALFA", "BRAVO"))
    assert outcome.second == {"ALFA": "quoting_disabled", "BRAVO": "accepted"}, f"{outcome.second!r}"
    assert outcome.waited
    assert stage.one("SELECT published_at IS NULL FROM exchange_quote WHERE symbol = 'ALFA'")


@guarded(Mutation("toggled-without-the-lock", (TOGGLE_UNLOCKED,), "i12_kill_is_final"))
def test_quoting_off_waits_for_the_quote_in_flight_and_withdraws_it(stage: Stage) -> None:
    a = stage.holder()
    outcome = stage.race(replace(a, "ALFA"), quoting(False, "ALFA"))
    assert outcome.first == {"ALFA": "accepted"}
    assert outcome.second == [True], f"{outcome.second!r}"
    assert outcome.waited
    assert stage.one("SELECT published_at IS NULL FROM exchange_quote WHERE symbol = 'ALFA'")
    assert stage.column("SELECT withdrawn_reason FROM exchange_quoteversion ORDER BY version") == [
        None,
        "quoting_disabled",
    ]


def audited(stage: Stage, target: str) -> list[tuple[Any, Any]]:
    rows = stage.admin.execute("SELECT before, after FROM journal_audit WHERE target = %s ORDER BY id", [target])
    return [(before, after) for before, after in rows.fetchall()]


@guarded(Mutation("toggled-without-the-lock", (TOGGLE_UNLOCKED,), "the audit does not follow"))
def test_two_toggles_at_once_are_audited_one_after_the_other(stage: Stage) -> None:
    stage.maker()
    outcome = stage.race(quoting(False), quoting(True))
    assert audited(stage, "ALFA") == [(True, False), (False, True)], (
        f"the audit does not follow: {audited(stage, 'ALFA')}"
    )
    assert outcome.waited
    assert stage.column("SELECT quoting_enabled FROM exchange_quote") == [True, True]


@guarded(
    Mutation(
        "drained-without-the-lock",
        (("authority_set_draining_v1", "WHERE name = p_node FOR UPDATE;", "WHERE name = p_node;"),),
        "the audit does not follow",
    )
)
def test_a_drain_and_an_undrain_at_once_are_audited_one_after_the_other(stage: Stage) -> None:
    stage.holder("a")
    outcome = stage.race(drain("a", True), drain("a", False))
    assert audited(stage, "a") == [(False, True), (True, False)], f"the audit does not follow: {audited(stage, 'a')}"
    assert outcome.waited
    assert stage.one("SELECT draining FROM authority_node WHERE name = 'a'") is False


@guarded(
    Mutation(
        "locked-backwards",
        (("exchange_set_quoting_v2", "ORDER BY q.symbol FOR UPDATE) l", "ORDER BY q.symbol DESC FOR UPDATE) l"),),
        "BRAVO was locked before ALFA",
    )
)
def test_the_kill_switch_locks_in_symbol_order_whatever_was_named_first(stage: Stage) -> None:
    stage.maker()
    seen: list[bool] = []
    outcome = stage.race(
        order("in-flight", "buy", 1),
        quoting(False, "BRAVO", "ALFA"),
        meanwhile=lambda _: seen.append(stage.is_locked("exchange_quote", "BRAVO")),
    )
    assert outcome.waited
    assert seen == [False], "BRAVO was locked before ALFA"


def test_batches_toggles_and_orders_in_opposite_symbol_order_do_not_deadlock(database: Database) -> None:
    stage = Stage(database)
    a = stage.maker()
    rounds = 40

    def repeated(*commands: Command) -> None:
        connection = database.connect("admin")
        for turn in range(rounds):
            commands[turn % len(commands)](connection)

    def buys(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        order(f"buys-{connection.info.backend_pid}-{next(numbers)}", "buy", 1)(connection)

    numbers = iter(range(10_000))
    with ThreadPoolExecutor(4) as pool:
        running = [
            pool.submit(repeated, replace(a, "ALFA", "BRAVO")),
            pool.submit(repeated, replace(a, "BRAVO", "ALFA"), buys),
            pool.submit(repeated, quoting(False, "BRAVO", "ALFA"), quoting(True, "ALFA", "BRAVO")),
            pool.submit(repeated, quoting(True), buys),
        ]
        for one in running:
            one.result(3 * DEADLINE_S)
    assert_no_fill_after_the_kill(stage)
    chain = audited(stage, "ALFA")
    assert all(earlier[1] == later[0] for earlier, later in pairwise(chain))
