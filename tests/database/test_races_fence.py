"""I4, I5 and the position limit: a quote's writer races its own loss of the right to write."""

from __future__ import annotations

import psycopg

from tests.racing import (
    REPLACE_UNLOCKED,
    Mutation,
    Node,
    Stage,
    acquire,
    guarded,
    in_turn,
    order,
    replace,
    sweep,
)
from tests.support import Connection, eventually

# A takeover leaves the quote row alone: authority without its fence. (The first grant, epoch 1, still sets it up.)
NO_FENCE = (
    ("exchange_lock_quotes_v1", "BEGIN\n", "BEGIN\n    RETURN p_symbols;\n"),
    ("exchange_drop_fence_v1", "BEGIN\n", "BEGIN\n    RETURN;\n"),
    ("exchange_raise_fence_v1", "BEGIN\n", "BEGIN\n    IF p_epochs[1] > 1 THEN RETURN; END IF;\n"),
)
NO_DEADLINE = (
    "authority_replace_quotes_v3",
    "CASE WHEN me.ended_at IS NULL THEN me.expires_at END",
    "'infinity'::timestamptz",
)
ACCEPTED = "a stale epoch was accepted.*: 'accepted'"


def assert_nothing_of_an_old_epoch_committed_after_a_later_grant(stage: Stage) -> None:
    """I4 by the commits' own times."""
    late = stage.admin.execute(
        "SELECT v.symbol, v.epoch, t.epoch FROM exchange_quoteversion v"
        "  JOIN authority_tenure t ON t.symbol = v.symbol AND t.epoch > v.epoch"
        " WHERE v.withdrawn_reason IS NULL"
        "   AND pg_xact_commit_timestamp(v.xmin) > pg_xact_commit_timestamp(t.xid::xid)"
    ).fetchall()
    assert late == [], f"committed after a later epoch's grant: {late}"


def takeover(stage: Stage, heir: Node) -> object:
    """The command by which a survivor takes ALFA over: sweep, then acquire."""

    def command(connection: Connection) -> object:
        return in_turn(sweep, acquire(heir, "ALFA"))(connection)

    return command


def dying_and_heir(stage: Stage) -> tuple[Node, Node]:
    """Node a holds ALFA under epoch 1 and has not quoted; b is assigned to take it over."""
    a, b = stage.holder("a", "ALFA"), stage.join("b")
    stage.assign(ALFA="b")
    return a, b


@guarded(Mutation("without-a-fence", NO_FENCE, "committed after a later epoch's grant"))
def test_a_takeover_waits_for_the_quote_in_flight(stage: Stage) -> None:
    """The process dies with its replace done and not committed: the sweep waits, and the grant follows it."""
    a, b = dying_and_heir(stage)
    outcome = stage.race(replace(a, "ALFA"), in_turn(lambda _: stage.lose(a), sweep, acquire(b, "ALFA")))
    assert outcome.first == {"ALFA": "accepted"}
    assert_nothing_of_an_old_epoch_committed_after_a_later_grant(stage)
    assert outcome.waited, "the takeover did not wait for the quote in flight"
    assert outcome.second == {"ALFA": ("granted", 2)}
    # Of a lost holder nothing stays live: its quote went in the takeover's own commit.
    assert stage.one("SELECT published_at IS NULL FROM exchange_quote WHERE symbol = 'ALFA'")


@guarded(
    Mutation("judged-before-the-lock", (REPLACE_UNLOCKED,), ACCEPTED),
    Mutation("without-a-fence", NO_FENCE, ACCEPTED),
)
def test_a_stopped_node_cannot_write_while_its_successor_takes_over(stage: Stage) -> None:
    """The trap of DESIGN, section 6: a write that blocks on the takeover's lock and is judged by what was before."""
    a, b = dying_and_heir(stage)
    stage.lose(a)
    outcome = stage.race(in_turn(sweep, acquire(b, "ALFA")), replace(a, "ALFA"))
    assert outcome.first == {"ALFA": ("granted", 2)}
    assert outcome.second in ({"ALFA": "stale_epoch"}, {"ALFA": "expired"}), (
        f"a stale epoch was accepted after the grant: {outcome.second!r}"
    )
    assert outcome.waited
    assert_nothing_of_an_old_epoch_committed_after_a_later_grant(stage)


@guarded(Mutation("without-a-fence-and-a-deadline", (*NO_FENCE, NO_DEADLINE), ACCEPTED))
def test_a_stopped_node_cannot_write_after_its_successor(stage: Stage) -> None:
    a, b = dying_and_heir(stage)
    stage.lose(a)
    in_turn(sweep, acquire(b, "ALFA"))(stage.admin)
    b.epochs["ALFA"] = 2
    late = replace(a, "ALFA")(stage.admin)
    assert late in ({"ALFA": "stale_epoch"}, {"ALFA": "expired"}), f"a stale epoch was accepted: {late!r}"
    assert replace(a, "ALFA", epoch=2)(stage.admin) == {"ALFA": "not_holder"}  # not even under the right number
    assert replace(b, "ALFA")(stage.admin) == {"ALFA": "accepted"}
    refused = stage.admin.execute("SELECT node, epoch, reason, current_epoch FROM authority_refusal ORDER BY id")
    assert refused.fetchall() == [("a", 1, "stale_epoch", 2), ("a", 2, "not_holder", 2)]


@guarded(
    Mutation(
        "judged-by-the-transactions-start",
        (("exchange_replace_quotes_v3", "clock_timestamp() >= p_deadline", "now() >= p_deadline"),),
        "accepted past its expiry",
    )
)
def test_a_writer_that_waits_for_the_row_beyond_its_expiry_is_refused(stage: Stage) -> None:
    """now() is the transaction's start: the deadline must be judged by the clock, once the lock is held."""
    a = stage.holder()
    stage.expire(a, in_ms=1500)
    outcome = stage.race(
        order("in-flight", "buy", 1, price="50", tif="GTC"),
        replace(a, "ALFA"),
        meanwhile=lambda _: stage.await_expiry(a),
    )
    assert outcome.waited
    assert outcome.second == {"ALFA": "expired"}, f"accepted past its expiry: {outcome.second!r}"
    assert stage.column("SELECT reason FROM authority_refusal") == ["expired"]


@guarded(Mutation("judged-before-the-lock", (REPLACE_UNLOCKED,), "quote_version_once"))
def test_two_replacements_at_once_are_two_versions(stage: Stage) -> None:
    a = stage.holder()
    outcome = stage.race(replace(a, "ALFA"), replace(a, "ALFA"))
    assert outcome.second == {"ALFA": "accepted"}, f"the second got {outcome.second!r}"
    assert outcome.waited
    versions = stage.column("SELECT version FROM exchange_quoteversion ORDER BY version")
    assert versions == [1, 2]


@guarded(Mutation("judged-before-the-lock", (REPLACE_UNLOCKED,), "beyond the limit"))
def test_a_quote_computed_before_a_fill_cannot_take_the_position_beyond_its_limit(stage: Stage) -> None:
    """100 bought in flight, a limit of 150, and a writer that still believes the position flat bids for 100 more."""
    a = stage.maker()
    outcome = stage.race(order("sells", "sell", 100), replace(a, "ALFA"))
    assert outcome.first["status"] == "filled"
    assert outcome.second == {"ALFA": "over_limit"}, f"bid for 100 more, beyond the limit: {outcome.second!r}"
    assert outcome.waited


@guarded(
    Mutation(
        "locked-backwards",
        (("exchange_replace_quotes_v3", "ORDER BY symbol FOR UPDATE", "ORDER BY symbol DESC FOR UPDATE"),),
        "BRAVO was locked before ALFA",
    )
)
def test_quotes_are_locked_in_symbol_order_whatever_the_batchs_order(stage: Stage) -> None:
    a = stage.holder()
    seen: list[bool] = []
    outcome = stage.race(
        replace(a, "ALFA"),
        replace(a, "BRAVO", "ALFA"),
        meanwhile=lambda _: seen.append(stage.is_locked("exchange_quote", "BRAVO")),
    )
    assert outcome.waited
    assert seen == [False], "BRAVO was locked before ALFA"
    assert outcome.second == {"ALFA": "accepted", "BRAVO": "accepted"}


@guarded()
def test_a_renewal_waits_for_nothing_that_quotes_or_trades(stage: Stage) -> None:
    """A replace in flight reads the deadline without a lock: the heartbeat must not queue behind it."""
    a = stage.maker()
    before = stage.one("SELECT expires_at FROM authority_incarnation")
    renewing = "SELECT expires_at FROM authority_renew_v3(%s)"
    outcome = stage.race(
        replace(a, "ALFA", "BRAVO"),
        lambda connection: connection.execute(renewing.encode(), [a.incarnation]).fetchone(),
    )
    assert not outcome.waited
    eventually(lambda: stage.one("SELECT expires_at FROM authority_incarnation") > before, message="it is renewed")


def refusal_to_raise(stage: Stage, epochs: list[int], holder: Node) -> str | None:
    """Raise the fences of ALFA and BRAVO; the code of the error, or None when it was done."""
    try:
        stage.admin.execute(
            "SELECT exchange_raise_fence_v1(ARRAY['ALFA', 'BRAVO'], %s::bigint[], %s, 'b')",
            [epochs, holder.incarnation],
        )
    except psycopg.Error as error:
        return error.sqlstate
    return None


@guarded(
    Mutation(
        "not-only-higher",
        (("exchange_raise_fence_v1", "AND q.epoch < i.epoch;", "AND q.epoch <= i.epoch;"),),
        "raised to an epoch that was granted before",
    )
)
def test_a_fence_is_raised_to_higher_epochs_only(stage: Stage) -> None:
    """The last line: whatever granted an epoch twice, the second grant fails as a whole."""
    a, b = stage.holder(), stage.join("b")
    for epochs in ([1, 2], [2, 1], [0, 2]):
        refused = refusal_to_raise(stage, epochs, b)
        assert refused == "MM409", f"raised to an epoch that was granted before: {epochs}"
    assert stage.column("SELECT holder FROM exchange_quote ORDER BY symbol") == [a.incarnation] * 2
