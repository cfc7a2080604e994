"""explain tells what happened to a symbol, in words and times: from real nodes, real handovers and real refusals."""

from __future__ import annotations

import io
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from authority.explain import Event, Story, duration, story
from exchange.errors import UnknownSymbol
from mmproject.errors import UsageError
from mmproject.management.commands.explain import Command, show, span
from tests.market import HandMarket, HandNode, busy_market
from tests.support import Database

SYMBOL = "ALFA"


@pytest.fixture
def market(django_database: Database) -> HandMarket:
    """One symbol, held by node-1."""
    market = HandMarket(django_database, symbols=1)
    market.join("node-1")
    market.rebalance("node-1 joined")
    market.quote_all()
    return market


def events(kind: str) -> list[Event]:
    return [event for event in story(SYMBOL).events if event.kind == kind]


def now() -> str:
    return " ".join(story(SYMBOL).now)


def late_write(market: HandMarket, node: HandNode) -> str:
    """The node tries to quote with what it believes, on any connection that is left."""
    writer = HandNode(node.name, market.database.connect("node"), node.incarnation, node.serial, node.epochs)
    return market.quote(writer)[SYMBOL]


def test_a_first_holder_is_told_with_what_led_to_it(market: HandMarket) -> None:
    (granted,) = events("granted")
    assert granted.text == "node-1 became its first holder, under epoch 1; assignment 1: node-1 joined"
    assert (granted.node, granted.epoch) == ("node-1", 1)
    assert now().startswith("node-1 holds ALFA under epoch 1 since ")
    assert "unless renewed, its lease ends in" in now()


def test_a_lost_session_its_successor_and_the_refused_late_write_are_told(market: HandMarket) -> None:
    dead = market.lose("node-1")
    market.join("node-2")
    market.rebalance("node-1 lost its session")
    assert late_write(market, dead) == "stale_epoch"

    (ended,) = events("ended")
    assert ended.text.startswith("node-1's session was lost (its process or its connection died): epoch 1 ended after ")
    assert ended.text.endswith("; its quote (version 1) was withdrawn")
    granted = events("granted")[-1]
    assert granted.text.startswith("node-2 took over under epoch 2, ")
    assert " after node-1's session was lost (node-1 held epoch 1 for " in granted.text
    assert granted.text.endswith("; assignment 2: node-1 lost its session")
    assert granted.data["gap_ms"] == pytest.approx((granted.at - ended.at) / timedelta(milliseconds=1))
    (refused,) = events("refused")
    assert refused.text.startswith("REFUSED: node-1 tried to replace the quote under epoch 1, which had ended ")
    assert "; epoch 2 was current, granted to node-2 " in refused.text
    assert refused.data["current_epoch"] == 2
    assert [event.kind for event in story(SYMBOL).events] == ["granted", "ended", "granted", "refused"]


def test_a_run_of_the_same_refusal_is_told_once(market: HandMarket) -> None:
    dead = market.lose("node-1")
    for _ in range(5):
        assert late_write(market, dead) == "not_holder"
    (refused,) = events("refused")
    assert "; 5 times until " in refused.text
    assert refused.data["times"] == 5
    assert "nobody" in now().lower()
    assert "It is assigned to node-1 (assignment 1)." in now()


def test_an_expired_lease_is_told_with_how_late_it_was_noticed(django_database: Database) -> None:
    market = HandMarket(django_database, symbols=1)
    node = market.join("node-1")
    market.rebalance("node-1 joined")
    market.quote_all()
    market.expire(node)
    assert late_write(market, node) == "expired"
    (refused,) = events("refused")
    assert refused.text.startswith("REFUSED: node-1 tried to replace the quote under epoch 1 after its own lease had")
    assert "did not renew: its lease expired" in now()
    assert market.sweep() == ["node-1"]
    (ended,) = events("ended")
    assert ended.text.startswith("node-1 did not renew in time: its lease of 10 min 0 s expired, epoch 1 ended after ")
    assert re.search(r", noticed [0-9.]+ m?s later; its quote \(version [0-9]+\) was withdrawn$", ended.text)


def test_a_drain_is_told_with_who_and_why(market: HandMarket) -> None:
    market.join("node-2")
    market.rebalance("node-2 joined")
    market.drain("node-1", reason="upgrade")
    market.rebalance("node-1 is draining", by="node-2")
    market.drain("node-1", False)
    market.drain("node-1", False)
    began, ended, again = events("operator")
    assert began.text == "ada began to drain node-1 (its symbols go to the others) (“upgrade”)"
    assert ended.text == "ada ended the draining of node-1: it may hold symbols again"
    assert "(it was not draining)" in again.text
    assert events("ended")[0].text.startswith("node-1 released it, being drained by an operator: epoch 1 ended after ")
    assert " after node-1 released it, being drained (" in events("granted")[-1].text


def test_a_node_that_leaves_and_comes_back_is_told_as_a_new_incarnation(market: HandMarket) -> None:
    market.leave("node-1")
    assert events("ended")[0].text.startswith("node-1 left on purpose: epoch 1 ended after ")
    market.join("node-1")
    market.rebalance("node-1 joined")
    assert events("granted")[-1].text.startswith("node-1 took it as a new incarnation under epoch 2, ")


def test_the_switch_is_told_with_the_quote_that_it_withdrew(market: HandMarket) -> None:
    market.switch(False, SYMBOL, reason="news")
    assert events("operator")[0].text == (
        "ada turned quoting off; node-1's quote (version 1) was withdrawn in the same commit (“news”)"
    )
    assert not events("withdrawn"), "told once"
    assert "Quoting is off since " in now()
    assert now().endswith("by ada: news.")
    market.switch(False)
    assert events("operator")[-1].text == "ada turned quoting off (it was off already)"


def test_changed_parameters_are_told(market: HandMarket) -> None:
    market.gateway.execute("SELECT exchange_set_parameters_v1('ALFA', '{\"skew_ticks\": 9}', 'ada', '')")
    assert events("operator")[0].text == "ada changed how it is quoted: skew_ticks from 4 to 9"


def test_a_story_begins_where_it_is_asked_to_and_still_says_who_came_before(market: HandMarket) -> None:
    market.lose("node-1")
    market.join("node-2")
    market.rebalance("node-1 lost its session")
    (before, last) = events("granted")
    told = story(SYMBOL, last=timedelta(microseconds=1))
    assert not told.events
    assert last.text in told.now[1]
    later = story(SYMBOL, last=story(SYMBOL).at - before.at)
    assert before not in later.events
    assert last in later.events


def test_a_symbol_that_nobody_ever_held_says_so(django_database: Database) -> None:
    HandMarket(django_database, symbols=1)
    assert story(SYMBOL).now == ("Nobody has ever held ALFA.", "It is assigned to no node.")
    assert not story(SYMBOL).events


def test_an_unknown_symbol_is_wrong_use(django_database: Database) -> None:
    with pytest.raises(UnknownSymbol, match="there is no symbol NOPE") as refused:
        story("NOPE")
    assert refused.value.exit_code == 2


def test_the_story_is_told_alike_on_screen_and_as_json(django_database: Database) -> None:
    market = busy_market(django_database)
    for symbol in market.symbols:
        told = story(symbol)
        assert told.holder is not None
        shown = on_screen(told)
        assert all(event.text in shown for event in told.events)
        assert all(sentence in shown for sentence in told.now)
        document = as_json(symbol)
        assert [event["text"] for event in document["events"]] == [event.text for event in told.events]
        assert document["holder"]["epoch"] == told.holder.epoch
        assert document["events"][0]["at"].endswith("Z")


def on_screen(told: Story) -> str:
    out = io.StringIO()
    show(told, Console(file=out, width=80))
    return out.getvalue()


def as_json(symbol: str) -> dict[str, Any]:
    out = io.StringIO()
    Command(stdout=out).handle(symbol=symbol, last="2d", json=True)
    document = json.loads(out.getvalue())
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", timedelta(seconds=90)), ("15m", timedelta(minutes=15)), ("1.5h", timedelta(hours=1.5)),
     ("2d", timedelta(days=2)), ("250ms", timedelta(milliseconds=250)), ("5 min", timedelta(minutes=5))],
)  # fmt: skip
def test_a_time_is_read_as_people_write_it(text: str, expected: timedelta) -> None:
    assert span(text) == expected


@pytest.mark.parametrize("text", ["", "1", "h", "0s", "-1h", "1y", "1e9s", "99999999d", "1h1h", "\u0661h", "nan s"])
def test_what_is_no_time_is_wrong_use(text: str) -> None:
    with pytest.raises(UsageError, match="--last"):
        span(text)


@pytest.mark.parametrize(
    ("span", "words"),
    [(timedelta(microseconds=-5), "0.0 ms"), (timedelta(microseconds=3250), "3.2 ms"),
     (timedelta(milliseconds=41), "41 ms"), (timedelta(milliseconds=999, microseconds=700), "1.0 s"),
     (timedelta(seconds=3.2), "3.2 s"), (timedelta(seconds=59.96), "1 min 0 s"),
     (timedelta(minutes=12, seconds=3), "12 min 3 s"), (timedelta(minutes=59, seconds=59.9), "1 h 0 min"),
     (timedelta(hours=5, minutes=12), "5 h 12 min"), (timedelta(days=3, hours=4, minutes=59), "3 d 4 h")],
)  # fmt: skip
def test_a_span_is_said_as_people_say_it(span: timedelta, words: str) -> None:
    assert duration(span) == words
