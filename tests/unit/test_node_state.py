"""The node's own small state machines: belief, pauses, agenda, holdings, and the words for a rebalance."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import cast
from uuid import UUID

import pytest

from mmproject.db import asyncpg_url
from mmproject.errors import UserError
from nodeagent import reconciler
from nodeagent.authority_client import Membership
from nodeagent.connections import Backoff, ConnectionLost, Link, connect, pause
from nodeagent.holdings import NEVER, OTHERS_WITH_FIRST, Agenda, Holdings
from nodeagent.reconciler import Reconciler, cause
from nodeagent.session import Belief, Session, Timing

TIMING = Timing(ttl_s=3.0, renew_interval_s=1.0, belief_margin_s=0.3)


def test_a_lease_is_believed_from_the_sending_of_the_renewal_for_the_ttl_less_the_margin() -> None:
    now = time.monotonic()
    assert Belief(TIMING, now).left_s() == pytest.approx(2.7, abs=0.1)
    assert Belief(TIMING, now - 2.71).left_s() < 0


def test_a_belief_that_has_lapsed_comes_back_with_a_renewal_and_never_gets_shorter() -> None:
    now = time.monotonic()
    belief = Belief(TIMING, now - 5)
    assert belief.left_s() < 0
    belief.confirm(now)
    belief.confirm(now - 1)
    assert belief.left_s() == pytest.approx(2.7, abs=0.1)


def test_pauses_double_from_50_ms_to_2_s_with_jitter_and_begin_again_after_a_reset() -> None:
    backoff = Backoff()
    pauses = [backoff.next_s() for _ in range(10)]
    longest = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2, 2, 2, 2]
    assert all(most / 2 <= wait <= most for wait, most in zip(pauses, longest, strict=True))
    backoff.reset()
    assert backoff.next_s() <= 0.05


def test_the_agenda_gives_the_named_symbols_first_and_each_only_once() -> None:
    agenda = Agenda()
    agenda.ask_then(["A", "B", "C", "D"])
    agenda.ask_first(["D", "C"])
    assert agenda.wake.is_set()
    assert agenda.take_symbols(3) == ["D", "C", "A"]
    assert agenda.take_symbols(3) == ["B"]
    assert agenda.is_empty


def test_no_symbol_starves_when_all_are_asked_for_again_before_the_last_had_its_turn() -> None:
    agenda = Agenda()
    looked_at: list[str] = []
    for _tick in range(4):
        agenda.ask_then("ABCDEFGH")
        looked_at += agenda.take_symbols(2)
    assert sorted(looked_at) == list("ABCDEFGH")


def test_urgent_symbols_take_only_a_few_others_along_so_that_neither_waits_for_the_other() -> None:
    agenda = Agenda()
    agenda.ask_then(f"S{number}" for number in range(100))
    agenda.ask_first(["S99"])
    assert agenda.take_symbols(50) == ["S99", *(f"S{number}" for number in range(OTHERS_WITH_FIRST))]
    assert len(agenda.take_symbols(50)) == 50


def test_a_doorbell_names_only_what_is_held_and_all_when_it_names_nothing() -> None:
    holdings = Holdings()
    holdings.put("A", 1)
    holdings.put("B", 4)
    assert holdings.named("B,NOPE,,B") == ["B", "B"]
    assert holdings.named("") == ["A", "B"]


def test_a_new_epoch_forgets_what_was_quoted_under_the_old_one() -> None:
    holdings = Holdings()
    holdings.put("A", 1)
    held = holdings.get("A")
    assert held is not None
    held.refusals = 3
    holdings.put("A", 1)
    assert holdings.get("A") is held
    holdings.put("A", 2)
    again = holdings.get("A")
    assert again is not None
    assert (again.epoch, again.refusals, again.basis) == (2, 0, None)


def test_what_is_due_is_taken_together_and_the_rest_keeps_its_time() -> None:
    holdings = Holdings()
    for number, symbol in enumerate("ABC"):
        holdings.put(symbol, 1)
        held = holdings.get(symbol)
        assert held is not None
        holdings.set_due(held, 10 + number * 0.04)
    assert holdings.next_due == 10
    assert holdings.take_due(10) == ["A", "B"]
    assert holdings.next_due == pytest.approx(10.08)
    assert holdings.take_due(11) == ["A", "B", "C"]
    assert holdings.next_due == NEVER


def test_a_rebalance_says_in_words_who_came_and_who_went_and_why() -> None:
    seen = Membership(7, ["node-1", "node-2", "node-3"], ["node-1", "node-4"], ["node-3"], 2)
    words = cause(seen, {"node-2": "session_lost"})
    assert words == "node-4 joined, node-2 lost its session, node-3 is draining, 2 symbols had no node"
    assert cause(seen._replace(unassigned=0), {}) == "node-4 joined, node-2 expired, node-3 is draining"


def test_options_that_only_libpq_knows_are_left_out_of_the_url() -> None:
    url = "postgresql://mm_node:p%40ss@db:5432/market?connect_timeout=5&sslmode=require&keepalives=1"
    assert asyncpg_url(url) == "postgresql://mm_node:p%40ss@db:5432/market?sslmode=require"


async def test_a_pause_ends_with_the_event_it_waits_for() -> None:
    event = asyncio.Event()
    assert await pause(0, event) is False
    event.set()
    assert await pause(60, event) is True


async def test_a_cancellation_that_comes_together_with_the_event_is_not_lost() -> None:
    event = asyncio.Event()

    async def worker() -> None:
        while True:
            await pause(60, event)
            event.clear()

    task = asyncio.create_task(worker())
    await asyncio.sleep(0)
    event.set()
    task.cancel()
    done, _running = await asyncio.wait([task], timeout=1)
    assert task in done
    assert task.cancelled()


async def test_a_server_that_is_not_there_is_worth_another_try_and_a_bad_url_is_not() -> None:
    with pytest.raises(ConnectionLost, match=r"cannot connect to 127\.0\.0\.1:9/none"):
        await connect("postgresql://nobody:secret@127.0.0.1:9/none", "test")
    with pytest.raises(UserError, match="DATABASE_URL"):
        await connect("mysql://nobody@127.0.0.1/none", "test")


async def test_a_round_that_failed_is_doubted_once_more_when_its_statement_can_no_longer_act(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A grant whose answer was lost may commit after the next round has looked."""
    monkeypatch.setattr(reconciler, "STATEMENT_TIMEOUT_S", 0.05)
    agenda = Agenda()
    nobody_answers = Link("postgresql://nobody@127.0.0.1:9/none", "test")
    session = cast(Session, SimpleNamespace(node="node-1", incarnation=UUID(int=1)))
    with pytest.raises(ConnectionLost):
        await Reconciler(nobody_answers, session, Holdings(), agenda).reconcile()
    assert (agenda.reconcile, agenda.compare) == (True, True)

    agenda.reconcile = agenda.compare = False  # the next round has looked, and found nothing
    agenda.wake.clear()

    assert await pause(5, agenda.wake)
    assert agenda.compare
