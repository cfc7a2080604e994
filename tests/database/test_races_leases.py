"""I1, I2, I3: who holds a symbol, when two want it, or one wants it and another takes it away."""

from __future__ import annotations

from itertools import pairwise

import psycopg

from tests.racing import (
    DAY_MS,
    Mutation,
    Stage,
    acquire,
    apply_assignment,
    drain,
    guarded,
    in_turn,
    register,
    release,
    renew,
    replace,
    sweep,
    unlocked,
)
from tests.support import Connection

NO_VACANCY_CHECK = Mutation(
    "granted-without-looking",
    (("authority_lock_leases_v1", " FILTER (WHERE l.incarnation IS NOT DISTINCT FROM p_incarnation)", ""),),
    "i3_no_overlap",
)


def assert_one_line_of_succession(stage: Stage, symbol: str, tenures: int) -> None:
    """The symbol's history has so many tenures, epochs 1, 2, 3 ..., each ended before the next was granted."""
    history = stage.admin.execute(
        "SELECT epoch, granted_at, ended_at FROM authority_tenure WHERE symbol = %s ORDER BY epoch", [symbol]
    ).fetchall()
    assert [epoch for epoch, _, _ in history] == list(range(1, tenures + 1)), f"epochs: {history}"
    for (_, _, ended_at), (_, granted_at, _) in pairwise(history):
        assert ended_at is not None, f"still open when the next was granted: {history}"
        assert ended_at <= granted_at, f"overlap: {history}"


@guarded(NO_VACANCY_CHECK)
def test_two_nodes_that_acquire_one_symbol_at_once_get_it_once(stage: Stage) -> None:
    """The assignment moves from a to b while a's grant is not yet committed."""
    a, b = stage.join("a"), stage.join("b")
    stage.assign(ALFA="a")

    def second(connection: Connection) -> object:
        stage.assign(ALFA="b")
        return acquire(b, "ALFA")(connection)

    outcome = stage.race(acquire(a, "ALFA"), second)
    assert outcome.first == {"ALFA": ("granted", 1)}
    assert outcome.second == {"ALFA": ("held", 1)}, f"the second got {outcome.second!r}"
    assert outcome.waited
    assert stage.column("SELECT node FROM authority_lease WHERE symbol = 'ALFA'") == ["a"]
    assert_one_line_of_succession(stage, "ALFA", 1)


@guarded(NO_VACANCY_CHECK)
def test_two_statements_of_one_node_acquire_a_known_symbol_once(stage: Stage) -> None:
    a = stage.holder("a", "ALFA")
    release(a, "ALFA")(stage.admin)
    outcome = stage.race(acquire(a, "ALFA"), acquire(a, "ALFA"))
    assert outcome.first == {"ALFA": ("granted", 2)}
    assert outcome.second == {"ALFA": ("held", 2)}, f"the second got {outcome.second!r}"
    assert outcome.waited
    assert_one_line_of_succession(stage, "ALFA", 2)


@guarded(
    Mutation(
        "lease-not-locked",
        (("authority_lock_leases_v1", "ORDER BY symbol FOR UPDATE) l", "ORDER BY symbol) l"),),
        "the successor got .*held",
    )
)
def test_a_successor_that_acquires_during_the_release_waits_and_gets_the_next_epoch(stage: Stage) -> None:
    a, b = stage.holder("a", "ALFA"), stage.join("b")
    stage.assign(ALFA="b")
    outcome = stage.race(release(a, "ALFA"), acquire(b, "ALFA"))
    assert outcome.first == 1
    assert outcome.second == {"ALFA": ("granted", 2)}, f"the successor got {outcome.second!r}"
    assert outcome.waited
    assert_one_line_of_succession(stage, "ALFA", 2)
    assert stage.one("SELECT (epoch, node) = (2, 'b') FROM exchange_quote WHERE symbol = 'ALFA'")


@guarded(
    Mutation(
        "judged-before-the-lock",
        (("authority_sweep_v3", "WHEN i.expires_at <= clock_timestamp()", "WHEN c.expires_at <= clock_timestamp()"),),
        "ended although it was renewed",
    )
)
def test_a_sweep_at_the_edge_of_expiry_waits_for_the_renewal_and_spares_it(stage: Stage) -> None:
    a = stage.holder("a", "ALFA")
    stage.expire(a, in_ms=1500)
    outcome = stage.race(in_turn(renew(a), lambda _: stage.await_expiry(a)), sweep)
    assert outcome.second == [], f"ended although it was renewed: {outcome.second!r}"
    assert outcome.waited
    assert stage.one("SELECT ended_at IS NULL FROM authority_incarnation WHERE id = %s", a.incarnation)


@guarded(
    Mutation(
        "renewed-without-looking",
        (("authority_renew_v3", "AND ended_at IS NULL AND expires_at > clock_timestamp()", ""),),
        "came back",
    )
)
def test_a_renewal_that_waits_for_its_own_sweep_never_comes_back(stage: Stage) -> None:
    a = stage.holder("a", "ALFA")
    stage.lose(a)
    outcome = stage.race(sweep, renew(a))
    assert outcome.first == [("a", "session_lost")]
    assert outcome.second is None, f"an ended incarnation came back: {outcome.second!r}"
    assert outcome.waited
    assert stage.one("SELECT count(*) FROM authority_lease_in_force") == 0


@guarded(
    Mutation(
        "judged-before-the-lock",
        (
            (
                "authority_renew_v3",
                "PERFORM 1 FROM authority_incarnation WHERE id = p_incarnation FOR NO KEY UPDATE;",
                "",
            ),
        ),
        "came back after its expiry",
    )
)
def test_a_renewal_that_waits_for_its_own_grant_past_the_expiry_is_refused(stage: Stage) -> None:
    """The grant only shares the row's lock and leaves the row as it was: nothing makes the server look at it again."""
    a = stage.join("a")
    stage.assign(ALFA="a")
    stage.expire(a, in_ms=2_000)
    outcome = stage.race(acquire(a, "ALFA"), renew(a), meanwhile=lambda _: stage.await_expiry(a))
    assert outcome.waited
    assert outcome.second is None, f"came back after its expiry: {outcome.second!r}"


@guarded(
    Mutation(
        "counted-twice",
        (("authority_sweep_v3", "WHERE id = c.id AND ended_at IS NULL FOR UPDATE", "WHERE id = c.id FOR UPDATE"),),
        "ended it again",
    )
)
def test_two_sweeps_at_once_end_an_incarnation_once(stage: Stage) -> None:
    a = stage.holder("a", "ALFA")
    stage.lose(a)
    outcome = stage.race(sweep, sweep)
    assert outcome.first == [("a", "session_lost")]
    assert outcome.second == [], f"the second ended it again: {outcome.second!r}"
    assert outcome.waited
    assert stage.one("SELECT count(*) FROM journal_activity WHERE kind = 'ended'") == 1


@guarded(
    unlocked(
        "authority_register_v3",
        "PERFORM 1 FROM authority_node WHERE name = p_node FOR UPDATE;",
        "one_live_incarnation_per_node",
    )
)
def test_two_processes_that_register_one_name_at_once_become_one_node(stage: Stage) -> None:
    """The index is the second line: without the lock the loser gets its bare violation, where it should hear why."""
    stage.join("a").session.close()  # the node's row is there: the lock, not its insertion, decides
    stage.admin.execute("UPDATE authority_incarnation SET ended_at = clock_timestamp(), end_reason = 'released'")
    outcome = stage.race(register("a"), register("a"))
    assert isinstance(outcome.second, psycopg.Error)
    assert outcome.second.sqlstate == "MM001", f"the second was told: {outcome.second!r}"
    assert outcome.waited
    alive = "SELECT id FROM authority_incarnation WHERE node = 'a' AND ended_at IS NULL"
    assert stage.column(alive) == [outcome.first]


@guarded(
    Mutation(
        "without-the-membership-lock",
        (
            (
                "authority_apply_assignment_v2",
                "PERFORM pg_advisory_xact_lock(journal_lock_v1('membership'), 0);",
                "",
            ),
        ),
        "UniqueViolation",
    )
)
def test_an_assignment_applied_twice_at_once_is_one_generation(stage: Stage) -> None:
    stage.join("a")
    stage.join("b")
    command = apply_assignment(0, ["a", "b"], {"ALFA": "a", "BRAVO": "b"})
    outcome = stage.race(command, command)
    assert outcome.first == "applied"
    assert outcome.second == "stale", f"the second got {outcome.second!r}"
    assert outcome.waited
    assert stage.column("SELECT generation FROM authority_rebalance") == [1]


@guarded()
def test_an_assignment_computed_before_a_drain_committed_is_stale_afterwards(stage: Stage) -> None:
    stage.join("a")
    stage.join("b")
    outcome = stage.race(drain("b", True), apply_assignment(0, ["a", "b"], {"ALFA": "a", "BRAVO": "b"}))
    assert outcome.second == "applied"  # nobody could know of the drain yet
    late = apply_assignment(1, ["a", "b"], {"ALFA": "b", "BRAVO": "a"})(stage.admin)
    assert late == "stale"
    assert apply_assignment(1, ["a"], {"ALFA": "a", "BRAVO": "a"})(stage.admin) == "applied"


@guarded()
def test_a_node_drained_while_it_acquires_hands_over_without_an_overlap(stage: Stage) -> None:
    a, b = stage.join("a"), stage.join("b")
    stage.assign(ALFA="a")
    outcome = stage.race(drain("a", True), acquire(a, "ALFA"))
    assert outcome.second == {"ALFA": ("granted", 1)}
    stage.assign(ALFA="b")
    assert acquire(b, "ALFA")(stage.admin) == {"ALFA": ("held", 1)}
    outcome = stage.race(release(a, "ALFA"), acquire(b, "ALFA"))
    assert outcome.second == {"ALFA": ("granted", 2)}
    assert_one_line_of_succession(stage, "ALFA", 2)
    assert stage.one("SELECT reason FROM authority_tenure WHERE epoch = 1") == "drained"


@guarded(
    Mutation(
        "fence-left-up",
        (
            (
                "exchange_drop_fence_v1",
                "UPDATE exchange_quote SET holder = NULL, node = NULL",
                "UPDATE exchange_quote SET node = NULL",
            ),
        ),
        "wrote after its release",
    )
)
def test_a_quote_that_waits_for_its_own_release_is_refused(stage: Stage) -> None:
    a = stage.holder("a", "ALFA")
    outcome = stage.race(release(a, "ALFA"), replace(a, "ALFA"))
    assert outcome.second == {"ALFA": "not_holder"}, f"wrote after its release: {outcome.second!r}"
    assert outcome.waited
    assert stage.one("SELECT count(*) FROM exchange_quoteversion") == 0


@guarded(
    Mutation(
        "leases-locked-backwards",
        (("authority_lock_leases_v1", "ORDER BY symbol FOR UPDATE) l", "ORDER BY symbol DESC FOR UPDATE) l"),),
        "BRAVO was locked before ALFA",
    )
)
def test_leases_are_locked_in_symbol_order(stage: Stage) -> None:
    """Whoever waits for ALFA has not locked BRAVO: two batches in opposite orders can't deadlock."""
    a = stage.holder()
    release(a, "ALFA", "BRAVO")(stage.admin)
    seen: list[bool] = []
    outcome = stage.race(
        acquire(a, "ALFA"),
        acquire(a, "BRAVO", "ALFA"),
        meanwhile=lambda _: seen.append(stage.is_locked("authority_lease", "BRAVO")),
    )
    assert outcome.waited
    assert seen == [False], "BRAVO was locked before ALFA"
    assert outcome.second == {"ALFA": ("held", 2), "BRAVO": ("granted", 2)}


@guarded()
def test_a_node_that_registers_while_its_old_self_is_swept_becomes_the_next_incarnation(stage: Stage) -> None:
    a = stage.holder("a", "ALFA")
    stage.lose(a)
    outcome = stage.race(sweep, register("a", DAY_MS))
    assert outcome.first == [("a", "session_lost")]
    assert outcome.waited
    assert outcome.second not in (None, a.incarnation)
    assert not isinstance(outcome.second, psycopg.Error)
    assert_one_line_of_succession(stage, "ALFA", 1)


@guarded()
def test_a_free_symbol_is_granted_to_the_node_that_it_is_assigned_to_and_no_other(stage: Stage) -> None:
    a, b = stage.join("a"), stage.join("b")
    stage.assign(ALFA="a")
    early = acquire(b, "ALFA", "BRAVO")(stage.admin)
    assert early == {"ALFA": ("not_assigned", 0), "BRAVO": ("not_assigned", None)}, (
        f"b took what is assigned to a: {early}"
    )
    assert acquire(a, "ALFA")(stage.admin) == {"ALFA": ("granted", 1)}


@guarded(
    Mutation(
        "incarnation-not-locked",
        (("authority_acquire_v3", "AND ending IS NULL FOR SHARE;", "AND ending IS NULL;"),),
        "granted to the dead",
    )
)
def test_a_grant_that_waits_for_its_own_sweep_gets_nothing(stage: Stage) -> None:
    """What was granted to an incarnation that has ended would never be taken away again."""
    a = stage.holder("a", "ALFA")
    stage.lose(a)
    outcome = stage.race(sweep, acquire(a, "ALFA"))
    assert outcome.first == [("a", "session_lost")]
    assert outcome.second == {"ALFA": ("ended", 1)}, f"granted to the dead: {outcome.second!r}"
    assert outcome.waited
    assert stage.column("SELECT node FROM authority_lease") == [None]


@guarded(
    Mutation(
        "judged-by-the-transactions-start",
        (("authority_acquire_v3", "IF me.expires_at > clock_timestamp() THEN", "IF me.expires_at > now() THEN"),),
        "granted to an expired incarnation",
    )
)
def test_a_grant_that_waits_beyond_its_own_expiry_gets_nothing(stage: Stage) -> None:
    a, b = stage.holder("a", "ALFA"), stage.join("b")
    stage.assign(ALFA="b")
    stage.expire(b, in_ms=1500)
    outcome = stage.race(release(a, "ALFA"), acquire(b, "ALFA"), meanwhile=lambda _: stage.await_expiry(b))
    assert outcome.waited
    assert outcome.second == {"ALFA": ("ended", 1)}, f"granted to an expired incarnation: {outcome.second!r}"


@guarded(
    Mutation(
        "dated-at-the-transactions-start",
        (("authority_acquire_v3", "greatest(clock_timestamp(), l.released_at)", "now()"),),
        "i3_no_overlap",
    )
)
def test_a_grant_that_waits_for_a_release_is_dated_after_it(stage: Stage) -> None:
    """The release came after the grant was asked for and before it was made."""
    a, b = stage.holder("a", "ALFA"), stage.join("b")
    stage.assign(ALFA="b")
    held = "SELECT 1 FROM authority_lease WHERE symbol = 'ALFA' FOR UPDATE"
    outcome = stage.race(
        lambda connection: connection.execute(held).fetchone(),
        acquire(b, "ALFA"),
        meanwhile=lambda holder: release(a, "ALFA")(holder),
    )
    assert outcome.waited
    assert outcome.second == {"ALFA": ("granted", 2)}, f"the successor got {outcome.second!r}"
    assert_one_line_of_succession(stage, "ALFA", 2)
