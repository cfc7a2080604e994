"""Nodes as real processes that are killed, stopped, drained, joined and sent away."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from bench.handover import GAPS
from bench.nodes import Market, node_market
from bench.takeover import STALE_WRITES, first_quotes, held_by
from tests.support import Database, eventually

# An expiry that can be waited for, and that no node meets by itself because the machine was busy for a moment.
SHORT = {"MM_LEASE_TTL_MS": "5000", "MM_RENEW_INTERVAL_MS": "500", "MM_BELIEF_MARGIN_MS": "500"}
TRUSTING_NODE = ("-m", "tests.bench.trusting_node")
LONG = {"MM_LEASE_TTL_MS": "30000", "MM_RENEW_INTERVAL_MS": "1000"}  # so that nothing below can be an expiry
WITHDRAWN = "SELECT count(*) FROM exchange_quoteversion WHERE withdrawn_reason IS NOT NULL"


@pytest.fixture
def market(database: Database) -> Iterator[Callable[..., Market]]:
    with ExitStack() as stack:

        def make(symbols: int, **env: str) -> Market:
            return stack.enter_context(node_market(database, symbols, **env))

        yield make


def test_a_killed_nodes_symbols_are_quoted_by_others_without_waiting_for_its_expiry(
    market: Callable[..., Market],
) -> None:
    made = market(7, **LONG)
    made.start_all(3)
    lost = held_by(made, "node-2")
    killed_at = made.nodes["node-2"].kill()

    quoted = first_quotes(made, lost)

    assert max(quoted.values()) - killed_at < 5, "the TTL is 30 s"
    made.balanced(2)
    # What it held when it was killed; it may have handed a symbol over before, while the others joined.
    last = "SELECT DISTINCT ON (symbol) symbol, reason FROM authority_tenure WHERE node = 'node-2'"
    reasons = dict(made.rows(f"{last} ORDER BY symbol, epoch DESC"))
    assert {reasons[symbol] for symbol in lost} == {"session_lost"}
    assert made.value(STALE_WRITES) == 0


def test_a_killed_nodes_many_symbols_are_taken_away_in_parts_and_all_of_them_are_taken_over(
    market: Callable[..., Market],
) -> None:
    made = market(600, **LONG)
    made.start_all(2)
    lost = held_by(made, "node-2")
    assert len(lost) == 300
    made.nodes["node-2"].kill()

    first_quotes(made, lost)

    made.balanced(1)
    parts = [(event["symbols"], event["done"]) for event in made.nodes["node-1"].events("swept")]
    assert parts == [(250, False), (50, True)]
    reasons = "SELECT reason, count(*) FROM authority_tenure WHERE node = 'node-2' AND ended_at IS NOT NULL GROUP BY 1"
    assert dict(made.rows(reasons))["session_lost"] == 300
    assert made.value(STALE_WRITES) == 0


def test_nodes_killed_together_are_all_found_by_the_one_that_is_left(market: Callable[..., Market]) -> None:
    made = market(6, **LONG)
    made.start_all(3)
    for name in ("node-1", "node-3"):
        made.nodes[name].process.kill()

    made.balanced(1)

    assert set(held_by(made, "node-2")) == {f"S{number:04}" for number in range(1, 7)}


def test_a_stopped_node_loses_its_symbols_stops_by_itself_and_comes_back_as_another_incarnation(
    market: Callable[..., Market],
) -> None:
    made = market(4, **SHORT)
    made.start_all(2)
    node, lost = made.nodes["node-1"], held_by(made, "node-1")
    before = made.value("SELECT id FROM authority_incarnation WHERE node = 'node-1' AND ended_at IS NULL")
    node.signal(signal.SIGSTOP)

    first_quotes(made, lost)
    node.signal(signal.SIGCONT)
    made.balanced(2)

    assert node.process.poll() is None
    assert [event["reason"] for event in node.events("lost session")] == ["ended or expired"]
    after = made.value("SELECT id FROM authority_incarnation WHERE node = 'node-1' AND ended_at IS NULL")
    assert after != before
    late = made.rows(
        "SELECT extract(epoch FROM n.granted_at - t.ended_at)::float8 FROM authority_tenure t"
        " JOIN authority_tenure n ON n.symbol = t.symbol AND n.epoch = t.epoch + 1 WHERE t.reason = 'expired'"
    )
    assert len(late) == len(lost)
    assert all(0 <= gap < 3 for (gap,) in late), "the next node does not wait for one more lease"
    assert made.value(STALE_WRITES) == 0


def test_a_node_that_believes_for_ever_is_stopped_by_the_fence(market: Callable[..., Market]) -> None:
    made = market(2, **SHORT, MM_QUOTE_REFRESH_MS="500")
    trusting = made.start("node-1", program=TRUSTING_NODE)
    made.start("node-2")
    made.balanced(2)
    lost = held_by(made, "node-1")
    trusting.signal(signal.SIGSTOP)
    first_quotes(made, lost)

    trusting.signal(signal.SIGCONT)

    refused = eventually(
        lambda: made.rows("SELECT symbol, epoch, reason, current_epoch FROM authority_refusal"), 10, "a late write"
    )
    symbol, epoch, reason, current = refused[0]
    assert epoch == lost[symbol]
    assert current > epoch
    assert reason == "stale_epoch"
    assert eventually(lambda: trusting.events("refused"), 5, "the node says so")
    made.balanced(2)
    assert made.value(STALE_WRITES) == 0


def test_a_joining_node_takes_exactly_its_share_and_no_quote_is_withdrawn_meanwhile(
    market: Callable[..., Market],
) -> None:
    made = market(11, **LONG)
    made.start_all(2)
    before = dict(made.rows("SELECT symbol, node FROM authority_lease"))
    made.start("node-3")
    made.balanced(3)

    after = dict(made.rows("SELECT symbol, node FROM authority_lease"))

    moved = [symbol for symbol in after if after[symbol] != before[symbol]]
    assert len(moved) == 11 // 3
    assert {after[symbol] for symbol in moved} == {"node-3"}
    assert made.value(WITHDRAWN) == 0


def test_a_node_told_to_stop_hands_over_within_two_seconds_and_its_quotes_stay_until_superseded(
    market: Callable[..., Market],
) -> None:
    made = market(6, **LONG)
    made.start_all(2)
    since = made.value("SELECT clock_timestamp()")

    took_s = made.nodes["node-1"].stop()

    assert made.nodes["node-1"].process.returncode == 0
    assert took_s < 2
    made.balanced(1)
    assert made.value(WITHDRAWN) == 0
    gaps = [gap for (gap,) in made.rows(GAPS, since)]
    assert len(gaps) == 3
    assert max(gaps) < 2
    left = made.nodes["node-1"].events("left")
    assert [event["released"] for event in left] == [3]
    # Handed over one by one while it still quoted, not all at its end.
    before_its_end = made.value(
        "SELECT count(*) FROM authority_tenure t JOIN authority_incarnation i ON i.id = t.incarnation"
        " WHERE t.node = 'node-1' AND t.reason = 'released' AND t.ended_at < i.ended_at AND t.ended_at > %s",
        since,
    )
    assert before_its_end == 3


def test_a_second_signal_ends_a_node_at_once(market: Callable[..., Market]) -> None:
    made = market(1, **LONG)
    made.start_all(1)
    node = made.nodes["node-1"]
    # Its leaving waits for the lock that is held here, so the second signal finds it still there.
    with made.database.connect("admin") as blocker:
        blocker.execute("BEGIN")
        blocker.execute("SELECT FROM authority_incarnation FOR UPDATE")
        node.signal(signal.SIGTERM)
        eventually(lambda: node.events("stopping"), 5, "it has heard the first")
        node.signal(signal.SIGTERM)
        assert node.process.wait(5) == -signal.SIGTERM
        blocker.execute("ROLLBACK")


def test_a_drained_node_gives_its_symbols_away_and_takes_some_again_after(market: Callable[..., Market]) -> None:
    made = market(4, **LONG)
    made.start_all(2)
    drain = "SELECT authority_set_draining_v1(%s, %s, 'tester')"
    held = held_by(made, "node-1")

    made.value(drain, "node-1", True)
    made.balanced(1)
    assert held_by(made, "node-1") == {}
    for symbol, epoch in held.items():
        reason = "SELECT reason FROM authority_tenure WHERE symbol = %s AND epoch = %s"
        assert made.value(reason, symbol, epoch) == "drained"

    made.value(drain, "node-1", False)
    made.balanced(2)


def test_nothing_moves_while_every_node_is_draining(market: Callable[..., Market]) -> None:
    made = market(4, **LONG)
    made.start_all(1)
    epochs = held_by(made, "node-1")
    made.value("SELECT authority_set_draining_v1('node-1', true, 'tester')")
    made.advance()

    moved_on = "SELECT count(*) FROM exchange_quoteversion WHERE version = 2"
    eventually(lambda: made.value(moved_on) == 4, 10, "it still quotes")

    assert held_by(made, "node-1") == epochs


def test_a_node_whose_name_is_taken_waits_for_it(market: Callable[..., Market]) -> None:
    made = market(1, **LONG)
    made.start_all(1)
    first = made.nodes["node-1"]
    second = made.start("node-1")
    eventually(lambda: second.events("name_in_use"), 30, "the second is told")

    first.kill()

    eventually(lambda: second.events("granted"), 10, "the second takes the first's place")
    first.close()


@pytest.mark.parametrize("purpose", ["work", "watch"])
def test_a_node_that_loses_a_connection_other_than_its_sessions_keeps_its_leases(
    market: Callable[..., Market], purpose: str
) -> None:
    made = market(2, **LONG)
    made.start_all(2)
    before = made.rows("SELECT symbol, incarnation, epoch FROM authority_lease ORDER BY symbol")

    ended = made.rows(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE application_name LIKE %s AND datname = current_database()",
        f"mm-node node-_ {purpose}",
    )
    assert ended == [(True,)] * 2
    made.advance()

    moved_on = "SELECT count(*) FROM exchange_quoteversion WHERE version = 2"
    eventually(lambda: made.value(moved_on) == 2, 10, "both quote the new price")
    assert made.rows("SELECT symbol, incarnation, epoch FROM authority_lease ORDER BY symbol") == before


def test_a_node_that_loses_its_session_registers_again_and_quotes(market: Callable[..., Market]) -> None:
    made = market(2, **LONG)
    made.start_all(1)
    before = held_by(made, "node-1")
    ended = made.rows(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE application_name = 'mm-node node-1' AND datname = current_database()"
    )
    assert ended == [(True,)]
    began = time.monotonic()

    first_quotes(made, before)

    assert time.monotonic() - began < 10
    made.balanced(1)
    assert made.value("SELECT count(*) FROM authority_incarnation WHERE node = 'node-1'") == 2
    assert "Traceback" not in made.nodes["node-1"].log.read_text()
