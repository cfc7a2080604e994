"""An incarnation's end that comes in parts, and a node that hands over before it leaves: I1, I2, I3, I4."""

from __future__ import annotations

from tests.racing import (
    Mutation,
    Node,
    Stage,
    acquire,
    apply_assignment,
    begin_leave,
    guarded,
    in_turn,
    order,
    register,
    release,
    renew,
    replace,
    sweep_part,
)
from tests.support import Connection, eventually


def tenures(stage: Stage) -> list[tuple[str, int, str, str | None]]:
    rows = stage.admin.execute("SELECT symbol, epoch, node, reason FROM authority_tenure ORDER BY symbol, epoch")
    return [(symbol, epoch, node, reason) for symbol, epoch, node, reason in rows]


def lost_maker(stage: Stage) -> Node:
    """A node with quotes in ALFA and BRAVO whose process is gone; b would take them over."""
    a = stage.maker()
    stage.join("b")
    stage.lose(a)
    return a


@guarded(
    Mutation(
        "the-reason-is-found-anew",
        (("authority_sweep_v3", "WHEN i.ending IN ('expired', 'session_lost') THEN i.ending", ""),),
        "'BRAVO', 1, 'a', 'expired'",
    )
)
def test_two_sweeps_at_once_take_away_a_part_each_for_one_reason(stage: Stage) -> None:
    a = lost_maker(stage)
    outcome = stage.race(sweep_part(1), sweep_part(1))
    assert outcome.first == ("a", "session_lost", 1, False)
    assert outcome.waited
    ended = tenures(stage)
    assert ended == [("ALFA", 1, "a", "session_lost"), ("BRAVO", 1, "a", "session_lost")], f"ended as {ended}"
    assert outcome.second == ("a", "session_lost", 1, True)
    ends = "SELECT count(DISTINCT e.at) FROM (SELECT ended_at AS at FROM authority_tenure UNION ALL"
    assert stage.one(f"{ends} SELECT ended_at FROM authority_incarnation WHERE id = %s) e", a.incarnation) == 1
    assert stage.one("SELECT count(*) FROM exchange_quote WHERE published_at IS NOT NULL") == 0


@guarded(
    Mutation(
        "still-in-time",
        (
            (
                "authority_end_incarnation_v3",
                "expires_at = CASE WHEN v_lost THEN least(expires_at, v_at) ELSE expires_at END",
                "expires_at = expires_at",
            ),
        ),
        "came back",
    )
)
def test_a_renewal_that_waits_for_the_first_part_of_its_end_never_comes_back(stage: Stage) -> None:
    a = lost_maker(stage)
    outcome = stage.race(sweep_part(1), renew(a))
    assert outcome.second is None, f"an incarnation whose end has begun came back: {outcome.second!r}"
    assert outcome.waited
    assert stage.members() == ["b"]


@guarded(
    Mutation(
        "still-in-time",
        (
            (
                "authority_end_incarnation_v3",
                "expires_at = CASE WHEN v_lost THEN least(expires_at, v_at) ELSE expires_at END",
                "expires_at = expires_at",
            ),
        ),
        "wrote after its end had begun",
    )
)
def test_what_is_not_taken_away_yet_cannot_be_quoted_any_more(stage: Stage) -> None:
    """A process that lives on without its session: its other connections must not go on while it is being ended."""
    a = lost_maker(stage)
    assert sweep_part(1)(stage.admin) == ("a", "session_lost", 1, False)
    answers = replace(a, "ALFA", "BRAVO")(stage.admin)
    assert answers == {"ALFA": "not_holder", "BRAVO": "expired"}, f"wrote after its end had begun: {answers}"


@guarded()
def test_what_is_taken_away_is_taken_over_while_the_rest_still_goes(stage: Stage) -> None:
    a = stage.maker()
    b = stage.join("b")
    stage.lose(a)
    assert sweep_part(1)(stage.admin) == ("a", "session_lost", 1, False)
    stage.assign(ALFA="b", BRAVO="b")
    outcome = stage.race(sweep_part(1), acquire(b, "ALFA", "BRAVO"))
    assert outcome.second == {"ALFA": ("granted", 2), "BRAVO": ("granted", 2)}
    assert outcome.waited
    assert [row[2:] for row in tenures(stage)] == [("a", "session_lost"), ("b", None)] * 2


@guarded()
def test_a_name_is_free_again_once_all_of_its_earlier_self_is_gone(stage: Stage) -> None:
    a = lost_maker(stage)
    outcome = stage.race(sweep_part(1), register("a"))
    assert outcome.waited
    assert outcome.second not in (None, a.incarnation)
    assert {row[3] for row in tenures(stage)} == {"session_lost"}


@guarded(
    Mutation(
        "granted-whatever-its-plans",
        (("authority_acquire_v3", "AND ended_at IS NULL AND ending IS NULL", "AND ended_at IS NULL"),),
        "a leaving node was granted",
    )
)
def test_a_node_that_is_leaving_is_granted_nothing(stage: Stage) -> None:
    a, b = stage.holder("a", "ALFA"), stage.join("b")
    stage.assign(ALFA="b", BRAVO="b")
    outcome = stage.race(begin_leave(b), acquire(b, "BRAVO"))
    assert outcome.first == 1, "only a is a member then"
    assert outcome.second == {"BRAVO": ("ended", 0)}, f"a leaving node was granted: {outcome.second!r}"
    assert outcome.waited
    assert stage.members() == [a.name]


@guarded()
def test_a_node_that_is_leaving_renews_and_quotes_until_it_has_handed_over(stage: Stage) -> None:
    a, b = stage.maker(), stage.join("b")
    assert begin_leave(a)(stage.admin) == 1
    assert begin_leave(a)(stage.admin) == 1
    stage.assign(ALFA="b", BRAVO="b")
    assert renew(a)(stage.admin) is not None
    assert replace(a, "ALFA", "BRAVO")(stage.admin) == {"ALFA": "accepted", "BRAVO": "accepted"}
    outcome = stage.race(release(a, "ALFA"), acquire(b, "ALFA", "BRAVO"))
    assert outcome.second == {"ALFA": ("granted", 2), "BRAVO": ("held", 1)}
    assert stage.one("SELECT count(*) FROM exchange_quote WHERE published_at IS NULL") == 0
    leave = "SELECT released, done FROM authority_leave_v3(%s)"
    assert stage.admin.execute(leave, [a.incarnation]).fetchone() == (1, True)
    assert {row[3] for row in tenures(stage) if row[2] == "a"} == {"released"}


@guarded(
    Mutation(
        "leaving-is-enough",
        (
            (
                "authority_sweep_v3",
                "WHEN i.ending IN ('expired', 'session_lost') THEN",
                "WHEN i.ending IS NOT NULL THEN",
            ),
        ),
        "ended as",
    )
)
def test_a_node_that_dies_while_it_hands_over_was_lost(stage: Stage) -> None:
    a = stage.maker()
    stage.join("b")
    begin_leave(a)(stage.admin)
    assert sweep_part(1)(stage.admin) is None, "it is alive"
    stage.lose(a)
    in_turn(sweep_part(1), sweep_part(1))(stage.admin)
    ended = tenures(stage)
    assert {row[3] for row in ended} == {"session_lost"}, f"ended as {ended}"


@guarded()
def test_the_doorbell_names_those_who_may_take_what_is_free(stage: Stage) -> None:
    a, b = stage.holder("a", "ALFA"), stage.join("b")
    stage.assign(ALFA="b")
    listener = stage.database.connect("node")
    listener.execute("LISTEN mm_authority")

    def heard(connection: Connection) -> str:
        (notification,) = eventually(lambda: list(connection.notifies(timeout=0.05, stop_after=1)), message="a ring")
        return notification.payload

    release(a, "ALFA")(stage.admin)
    assert heard(listener) == "b"
    acquire(b, "ALFA")(stage.admin)
    assert heard(listener) == "-"
    begin_leave(b)(stage.admin)
    assert heard(listener) == ""


@guarded(
    Mutation(
        "dated-before-the-wait",
        (("authority_sweep_v3", "THEN i.expires_at END,", "THEN i.expires_at ELSE clock_timestamp() END,"),),
        "quoted after its tenure's end",
    )
)
def test_a_lost_session_ends_when_its_fences_are_down_and_not_when_it_was_found(stage: Stage) -> None:
    """The sweep waits for an order in flight; until it has what it came for, the node's other connections may quote."""
    a = lost_maker(stage)
    outcome = stage.race(
        order("in-flight", "buy", 1),
        sweep_part(10),
        meanwhile=lambda _: replace(a, "BRAVO")(stage.admin),
    )
    assert outcome.waited
    assert outcome.second == ("a", "session_lost", 2, True)
    late = stage.column(
        "SELECT q.symbol FROM exchange_quoteversion q JOIN authority_tenure t USING (symbol, epoch)"
        " WHERE q.withdrawn_reason IS NULL AND q.published_at > t.ended_at"
    )
    assert late == [], f"{late} quoted after its tenure's end"


@guarded(
    Mutation(
        "assigned-anew-meanwhile",
        (("authority_ring_v2", "ORDER BY symbol FOR SHARE;", "ORDER BY symbol;"),),
        "b was rung for and c is never told",
    )
)
def test_a_release_rings_for_the_node_that_its_symbols_are_assigned_to_when_they_are_free(stage: Stage) -> None:
    a = stage.maker()
    stage.join("b")
    stage.join("c")
    stage.assign(ALFA="b")
    generation, members = stage.generation(), stage.members()
    listener = stage.database.connect("admin")
    listener.execute("LISTEN mm_authority")
    outcome = stage.race(release(a, "ALFA"), apply_assignment(generation, members, {"ALFA": "c"}))
    assert outcome.second == "applied"
    bells = [bell.payload for bell in listener.notifies(timeout=5, stop_after=2)]
    assert bells == ["b", ""], f"b was rung for and c is never told: {bells}"


@guarded(
    Mutation(
        "dated-before-the-wait",
        (("authority_release_v3", "v_at := clock_timestamp();", "v_at := now();"),),
        "quoted after its tenure's end",
    )
)
def test_a_release_that_waits_for_the_quote_in_flight_ends_the_tenure_after_it(stage: Stage) -> None:
    a = stage.holder("a", "ALFA")
    held = "SELECT 1 FROM exchange_quote WHERE symbol = 'ALFA' FOR UPDATE"
    outcome = stage.race(
        lambda connection: connection.execute(held).fetchone(),
        release(a, "ALFA"),
        meanwhile=lambda holder: replace(a, "ALFA")(holder),
    )
    assert outcome.waited
    assert outcome.second == 1
    late = stage.one(
        "SELECT q.published_at > t.ended_at FROM exchange_quoteversion q JOIN authority_tenure t USING (symbol, epoch)"
    )
    assert late is False, "quoted after its tenure's end"


@guarded(
    Mutation(
        "whoever-holds-it",
        (
            (
                "authority_lock_leases_v1",
                " FILTER (WHERE l.incarnation IS NOT DISTINCT FROM p_incarnation)",
                "",
            ),
        ),
        "took it from its next holder",
    )
)
def test_a_release_sent_again_leaves_the_next_holder_alone(stage: Stage) -> None:
    """Its answer was lost, and meanwhile somebody else holds the symbol."""
    a, b = stage.holder("a", "ALFA"), stage.join("b")
    stage.assign(ALFA="b")
    release(a, "ALFA")(stage.admin)
    b.epochs["ALFA"] = acquire(b, "ALFA")(stage.admin)["ALFA"][1]
    again = release(a, "ALFA")(stage.admin)
    assert again == 0, "took it from its next holder"
    assert replace(b, "ALFA")(stage.admin) == {"ALFA": "accepted"}
