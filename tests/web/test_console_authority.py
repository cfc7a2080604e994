"""The authority page's data: what it says of tenures, lives, refusals and quotes is what the tables say."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import connections
from django.test import Client

from accounts.permissions import VIEWER
from console import authority_page, authority_reads, obligation, obligation_past
from console.authority_reads import RANGES_S
from console.obligation import CAUSES, Obligations
from console.obligation_past import Past
from console.words import WITHDRAWN_REASONS
from mmproject import provision
from tests.market import HandMarket, HandNode, busy_market
from tests.support import Database, eventually
from tests.web.client import signed_in, visitor

HISTORY = "/authority/history/?last=1h"
PATHS = ["/authority/", HISTORY, "/authority/obligation/?last=1h"]


@pytest.fixture
def viewer(django_database: Database) -> Client:
    return signed_in("vera", VIEWER, headers={"accept": "application/json"})


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test reads for itself."""
    monkeypatch.setattr(authority_page, "obligations", Obligations())


@pytest.fixture
def busy(django_database: Database) -> Iterator[HandMarket]:
    """Joins, handovers, a crash, a late write, an expiry."""
    market = busy_market(django_database)
    yield market
    for node in market.nodes.values():
        node.connection.close()


@pytest.fixture
def still(django_database: Database) -> HandMarket:
    """Three symbols and no node: what is quoted is what a test writes."""
    return HandMarket(django_database, symbols=3)


def told(client: Client, path: str = HISTORY) -> dict[str, Any]:
    answer = client.get(path)
    assert answer.status_code == 200, answer.content
    body: dict[str, Any] = answer.json()
    return body


def ms(at: datetime | None) -> int | None:
    return None if at is None else round(at.timestamp() * 1000)


def tenures(market: HandMarket) -> dict[tuple[str, int], list[Any]]:
    """The table, by symbol and epoch, as the page is told it."""
    rows = market.rows("SELECT symbol, epoch, node, granted_at, ended_at, reason FROM authority_tenure")
    return {
        (symbol, epoch): [symbol, epoch, node, ms(granted), ms(ended), reason]
        for symbol, epoch, node, granted, ended, reason in rows
    }


# Who may look


@pytest.mark.parametrize("path", PATHS)
def test_looking_needs_a_login(standing_market: HandMarket, path: str) -> None:
    answer = visitor().get(path)

    assert answer.status_code == 302
    assert answer["Location"].startswith("/login/")


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_sent_there(viewer: Client, path: str) -> None:
    assert viewer.post(path).status_code == 405


@pytest.mark.parametrize(
    "query",
    ["", "last=", "last=2h", "last[]=1h", "last=1h&after=", "last=1h&after=-1", "last=1h&after=x", "last=1h&after=%00",
     "last=1h&after=9223372036854775808", "last=1h&after=1%3B", "last=1h&after=\N{ARABIC-INDIC DIGIT ONE}"],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(viewer: Client, query: str) -> None:
    paths = ["/authority/history/"] if "after" in query else ["/authority/history/", "/authority/obligation/"]
    for path in paths:
        answer = viewer.get(f"{path}?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


@pytest.mark.parametrize("path", PATHS)
def test_without_a_database_it_says_so(still: HandMarket, viewer: Client, path: str) -> None:
    provision.point_django_at("postgresql://nobody@127.0.0.1:9/none")
    try:
        answer = viewer.get(path)
    finally:
        provision.point_django_at(still.database.url("console"))

    assert answer.status_code == 503
    assert answer.json()["code"] == "unavailable"
    assert answer["Retry-After"]


# The page


@pytest.mark.parametrize(("query", "last"), [("", "5m"), ("?last=24h", "24h"), ("?last=for-ever", "5m")])
def test_the_page_comes_with_its_terms_and_nothing_inline(viewer: Client, query: str, last: str) -> None:
    html = viewer.get(f"/authority/{query}").content.decode()

    found = re.search(r'<script id="terms" type="application/json">(.*?)</script>', html, re.DOTALL)
    assert found
    terms = json.loads(found[1])
    assert terms["last"] == last
    assert terms["ranges"] == {"5m": 300_000, "1h": 3_600_000, "24h": 86_400_000}
    assert terms["ended"].keys() >= {"released", "expired", "session_lost", "drained"}
    for attributes, content in re.findall(r"<script([^>]*)>(.*?)</script>", html, re.DOTALL):
        assert "application/json" in attributes or not content.strip()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=", html)


# The history


def test_the_history_is_what_the_tables_say(busy: HandMarket, viewer: Client) -> None:
    history = told(viewer)

    assert history["complete"]
    assert history["known_from"] is None
    assert history["symbols"] == busy.symbols
    assert {(row[0], row[1]): row for row in history["tenures"]} == tenures(busy)
    assert [
        (life["id"], life["node"], life["end_reason"], datetime.fromisoformat(life["registered_at"]))
        for life in history["lives"]
    ] == [
        (str(identity), *rest)
        for identity, *rest in busy.rows(
            "SELECT id, node, end_reason, registered_at FROM authority_incarnation ORDER BY serial"
        )
    ]
    assert {life["end_reason"] for life in history["lives"]} >= {None, "session_lost", "expired"}
    assert [
        tuple(made[name] for name in ("generation", "by", "members", "moves", "cause"))
        for made in history["generations"]
    ] == busy.rows("SELECT generation, applied_by, members, moves, cause FROM authority_rebalance ORDER BY generation")
    refusals = busy.rows("SELECT id, symbol, node, epoch, reason FROM authority_refusal ORDER BY id")
    assert refusals
    assert [(row[0], row[1], *row[3:]) for row in history["refusals"]] == refusals


class Picture:
    """Takes answers in as the page's script does: by key, so that what is told twice changes nothing."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.answer: dict[str, Any] = {}
        self.kept: dict[str, dict[Any, Any]] = {}
        self.read()

    def read(self) -> dict[str, Any]:
        after = f"&after={self.answer['horizon']}" if self.answer else ""
        self.answer = told(self.client, HISTORY + after)
        if self.answer["complete"]:
            self.kept = {"tenures": {}, "lives": {}, "generations": {}, "refusals": {}}
        self.kept["tenures"] |= {(row[0], row[1]): row for row in self.answer["tenures"]}
        self.kept["lives"] |= {row["id"]: row for row in self.answer["lives"]}
        self.kept["generations"] |= {row["generation"]: row for row in self.answer["generations"]}
        self.kept["refusals"] |= {row[0]: row for row in self.answer["refusals"]}
        return self.answer


def test_what_has_changed_makes_of_the_history_what_it_is_now(market: HandMarket, viewer: Client) -> None:
    picture = Picture(viewer)

    def step() -> dict[str, Any]:
        changes = picture.read()
        assert not changes["complete"]
        assert picture.kept == Picture(viewer).kept
        return changes

    market.join("node-3")
    market.rebalance("node-3 joined")
    changes = step()
    assert {row["node"] for row in changes["lives"]} >= {"node-3"}
    assert {row[2] for row in changes["tenures"]} >= {"node-3"}, "its grant, and the end of whoever had it before"
    assert {row[5] for row in changes["tenures"]} >= {"released", None}

    lost = market.lose("node-2")
    assert {row[5] for row in step()["tenures"]} >= {"session_lost"}
    late = HandNode("node-1", market.nodes["node-1"].connection, lost.incarnation, lost.serial, lost.epochs)
    assert set(market.quote(late).values()) <= {"stale_epoch", "not_holder"}
    assert step()["refusals"]

    market.rebalance("node-2 lost")
    market.leave("node-3")
    market.rebalance("node-3 left")
    for _ in range(3):  # more than once between two reads
        held = list(market.nodes["node-1"].epochs)
        market.release(market.nodes["node-1"], held)
        market.acquire(market.nodes["node-1"], held)
    step()

    late_one = market.join("node-4")
    market.rebalance("node-4 joined")
    market.expire(late_one)
    assert market.sweep() == ["node-4"]
    market.nodes.pop("node-4").connection.close()
    changes = step()
    assert {row["end_reason"] for row in changes["lives"]} >= {"expired"}
    assert {row[5] for row in changes["tenures"]} >= {"expired"}


def test_what_commits_late_is_told_late_and_not_lost(market: HandMarket, viewer: Client) -> None:
    """A grant whose transaction began before a read, and commits after it, is among the next read's changes."""
    symbol = market.symbols[0]
    holder = next(node for node in market.nodes.values() if symbol in node.epochs)
    market.release(holder, [symbol])
    picture = Picture(viewer)
    with holder.connection.transaction():
        holder.connection.execute("SELECT * FROM authority_acquire_v3(%s, %s)", [holder.incarnation, [symbol]])
        picture.read()  # newer transactions have committed by now, older ones not
        market.switch(False, market.symbols[1])
        picture.read()
        assert not any(row[0] == symbol and row[4] is None for row in picture.kept["tenures"].values())
    picture.read()

    assert picture.kept["tenures"] == tenures(market)


def test_a_horizon_of_another_database_is_answered_with_all(market: HandMarket, viewer: Client) -> None:
    assert told(viewer, f"{HISTORY}&after={2**63 - 1}")["complete"]


def test_more_changes_than_are_read_are_answered_with_all(
    market: HandMarket, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = Picture(viewer)
    market.join("node-3")
    market.rebalance("node-3 joined")
    monkeypatch.setattr(authority_reads, "ENTRIES_MAX", 2)

    assert picture.read()["complete"]
    assert picture.kept["tenures"] == tenures(market)


def test_only_so_many_tenures_are_read_and_it_says_from_when_on(
    market: HandMarket, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    symbol = market.symbols[0]
    holder = next(node for node in market.nodes.values() if symbol in node.epochs)
    for _ in range(8):
        market.release(holder, [symbol])
        market.acquire(holder, [symbol])
    monkeypatch.setattr(authority_reads, "TENURES_MAX", 4)

    history = told(viewer)

    shown = {(row[0], row[1]): row for row in history["tenures"]}
    known_from = ms(datetime.fromisoformat(history["known_from"]))
    assert known_from is not None
    assert len(shown) <= 4 + len(market.symbols)
    assert min(epoch for name, epoch in shown if name == symbol) > 1
    assert known_from == min(row[3] for row in shown.values() if row[0] == symbol)
    for key, row in tenures(market).items():
        if row[4] is None or row[4] > known_from:
            assert shown[key] == row, "from then on none is missing, of any symbol"


def test_the_tenure_before_a_gap_is_told_and_older_ones_are_not(still: HandMarket, viewer: Client) -> None:
    symbol = still.symbols[0]
    for epoch, (granted, ended) in enumerate([(300, 240), (200, 180), (120, 90)], start=1):
        still.admin.execute(
            "INSERT INTO authority_tenure (symbol, epoch, incarnation, node, granted_at, ended_at, reason)"
            " VALUES (%s, %s, gen_random_uuid(), 'node-1', now() - %s * interval '1 minute',"
            "         now() - %s * interval '1 minute', 'session_lost')",
            [symbol, epoch, granted, ended],
        )

    assert [row[1] for row in told(viewer, "/authority/history/?last=1h")["tenures"]] == [3]
    assert [row[1] for row in told(viewer, "/authority/history/?last=24h")["tenures"]] == [1, 2, 3]


# The quote obligation


class Quotes:
    """Writes a symbol's quote versions as of so many seconds ago, as the market would have."""

    def __init__(self, market: HandMarket, symbol: str) -> None:
        self.market, self.symbol, self.spec, self.version = market, symbol, market.specs[symbol], 0

    def add(
        self,
        ago_s: float,
        valid_s: float | None = 8,
        *,
        wider_ticks: int = 0,
        one_sided: bool = False,
        withdrawn: str | None = None,
        skipped: int = 0,
    ) -> None:
        """One more version: as wide as is allowed and `wider_ticks` more; `skipped` versions before it are missing."""
        self.version += 1 + skipped
        bid = self.spec.seed_price
        ask = bid + (2 * (self.spec.half_spread_ticks + 1) + wider_ticks) * self.spec.tick_size
        sides: list[Decimal | None] = [bid, self.spec.lot_size, ask, self.spec.lot_size]
        if withdrawn:
            sides, valid_s = [None] * 4, None
        elif one_sided:
            sides[2:] = [None, None]
        grid = [self.spec.tick_size, self.spec.lot_size]
        self.market.admin.execute(
            "UPDATE exchange_symbol SET added_at = least(added_at, now() - %s * interval '1 second') WHERE name = %s",
            [ago_s, self.symbol],
        )
        self.market.admin.execute(
            "INSERT INTO exchange_quoteversion (symbol, version, bid_price, bid_quantity, ask_price, ask_quantity,"
            "  epoch, incarnation, node, published_at, valid_until, after_sequence, withdrawn_reason,"
            "  tick_size, lot_size)"
            " VALUES (%s, %s, %s, %s, %s, %s, 1, gen_random_uuid(), 'node-1', now() - %s * interval '1 second',"
            "         now() - (%s::float8 - %s::float8) * interval '1 second', 0, %s, %s, %s)",
            [self.symbol, self.version, *sides, ago_s, ago_s, valid_s, withdrawn, *grid],
        )


def judged(client: Client, symbol: str, last: str = "5m") -> dict[str, Any]:
    rows = told(client, f"/authority/obligation/?last={last}")["symbols"]
    row: dict[str, Any] = next(row for row in rows if row["symbol"] == symbol)
    return row


def about(seconds: float) -> Any:
    """So many seconds in ms, give or take what passes between a test's writing and the page's reading."""
    return pytest.approx(seconds * 1000, abs=5_000)


def test_the_obligation_counts_what_was_quoted_as_allowed(still: HandMarket, viewer: Client) -> None:
    quotes = Quotes(still, "ALFA")
    quotes.add(400)  # lapses at 392, before the range begins
    quotes.add(200)  # 5 s good, then
    quotes.add(195, one_sided=True)
    quotes.add(190, 90)  # 40 s good, then
    quotes.add(150, withdrawn="quoting_disabled")
    quotes.add(120, 10)  # 5 s good, then
    quotes.add(115, 30, wider_ticks=1)
    quotes.add(100, 160)  # 100 s good until now

    row = judged(viewer, "ALFA")

    assert row["known_ms"] == about(300)
    assert row["missing_ms"] == about(150)
    assert 50 <= float(row["share"]) < 52
    assert row["gaps"] == 4
    assert row["unknown_ms"] == 0
    assert row["gap"]["ms"] == about(100)
    assert not row["gap"]["lasts"]
    assert (row["gap"]["cause"], row["gap"]["text"]) == ("lapsed", "it lapsed while nobody held it")


@pytest.mark.parametrize(
    ("ends", "cause"),
    [
        ({"withdrawn": "quoting_disabled"}, "quoting_disabled"),
        ({"withdrawn": "session_lost"}, "session_lost"),
        ({"one_sided": True}, "not_two_sided"),
        ({"wider_ticks": 1}, "too_wide"),
    ],
)
def test_a_gap_that_lasts_is_told_with_its_cause(
    still: HandMarket, viewer: Client, ends: dict[str, Any], cause: str
) -> None:
    quotes = Quotes(still, "ALFA")
    quotes.add(310, 300)
    quotes.add(60, 600, **ends)

    row = judged(viewer, "ALFA")

    assert row["gap"]["ms"] == about(60)
    assert row["gap"]["lasts"]
    assert (row["gap"]["cause"], row["gap"]["text"]) == (cause, CAUSES[cause])
    assert row["missing_ms"] == about(60)


def test_a_quote_that_was_replaced_in_time_leaves_no_gap(still: HandMarket, viewer: Client) -> None:
    quotes = Quotes(still, "ALFA")
    for ago_s in range(304, 0, -4):
        quotes.add(ago_s, 120 if ago_s == 4 else 8)

    row = judged(viewer, "ALFA")

    assert (row["share"], row["missing_ms"], row["gap"], row["gaps"]) == ("100.000", 0, None, 0)


def test_the_smallest_gap_is_not_rounded_away(still: HandMarket, viewer: Client) -> None:
    quotes = Quotes(still, "ALFA")
    quotes.add(310, 300)
    quotes.add(100.0, withdrawn="quoting_disabled")
    quotes.add(99.9995, 600)

    row = judged(viewer, "ALFA")

    assert 0 < row["gap"]["ms"] < 1000
    assert 99.6 < float(row["share"]) < 100


def test_who_should_have_refreshed_a_lapsed_quote_is_named(still: HandMarket, viewer: Client) -> None:
    still.admin.execute(
        "INSERT INTO authority_tenure (symbol, epoch, incarnation, node, granted_at)"
        " VALUES ('ALFA', 1, gen_random_uuid(), 'node-7', now() - interval '1 hour')"
    )
    quotes = Quotes(still, "ALFA")
    quotes.add(310, 250)

    assert judged(viewer, "ALFA")["gap"]["text"] == "node-7 did not refresh it"


def test_a_quote_is_judged_by_the_half_spread_of_its_time(
    still: HandMarket, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    quotes = Quotes(still, "ALFA")
    quotes.add(310, 600)
    narrower = json.dumps({"half_spread_ticks": quotes.spec.half_spread_ticks - 1})
    still.gateway.execute("SELECT exchange_set_parameters_v1('ALFA', %s, 'ada', '')", [narrower])
    assert judged(viewer, "ALFA")["share"] == "100.000"

    monkeypatch.setattr(authority_page, "obligations", Obligations())
    quotes.add(0, 600)
    row = judged(viewer, "ALFA")

    assert row["gap"]["cause"] == "too_wide"
    assert row["missing_ms"] == about(0)


def test_what_has_been_dropped_is_not_counted_and_it_says_from_when_it_is_known(
    still: HandMarket, viewer: Client
) -> None:
    still.admin.execute("UPDATE exchange_symbol SET added_at = added_at - interval '1 day'")
    quotes = Quotes(still, "ALFA")
    quotes.add(310, 70)
    quotes.add(250)
    quotes.add(100, 60, skipped=40)  # between them versions were dropped
    quotes.add(50, 600)
    dropped = Quotes(still, "BRAVO")
    dropped.add(60, 30, skipped=7)  # all before it were

    answer = told(viewer, "/authority/obligation/?last=5m")
    never, bravo, alfa = answer["symbols"]

    assert [row["symbol"] for row in (never, bravo, alfa)] == ["CHARLIE", "BRAVO", "ALFA"], "the worst comes first"
    assert (alfa["known_ms"], alfa["unknown_ms"]) == (about(150), about(150))
    assert (alfa["share"], alfa["gap"]) == ("100.000", None), "what is not known is no gap"
    assert (bravo["known_ms"], bravo["missing_ms"]) == (about(60), about(30))
    assert answer["known_from_ms"] == pytest.approx(answer["to_ms"] - 60_000, abs=5_000)


def test_a_symbol_that_was_never_quoted_is_judged_since_it_was_listed(still: HandMarket, viewer: Client) -> None:
    row = judged(viewer, "CHARLIE", "24h")

    assert row["share"] == "0.000"
    assert row["known_ms"] < 60_000
    assert row["gap"]["cause"] == "never"


@pytest.mark.parametrize("slice_versions", [1, 7, 40, 1_000])
def test_read_in_slices_it_is_what_it_is_read_at_once(
    busy: HandMarket, monkeypatch: pytest.MonkeyPatch, slice_versions: int
) -> None:
    """Every gap is whole, wherever the slices end; and it says how far it came."""
    at_once = Past()
    at_once.read(RANGES_S["1h"])
    monkeypatch.setattr(obligation_past, "SLICE_VERSIONS", slice_versions)
    past = Past()
    froms = []
    for _ in range(200):
        answer = obligation.read(past, "1h")
        froms.append(answer["from_ms"])
        if not answer["is_filling"]:
            break
        assert answer["from_ms"] > answer["asked_from_ms"]

    assert froms == sorted(froms, reverse=True)
    assert (len(froms) == 1) == (slice_versions == 1_000)
    for symbol, whole in at_once.symbols.items():
        kept = past.symbols[symbol]
        assert (kept.first_version, kept.first_at, kept.last_at) == (0, whole.first_at, whole.last_at)
        assert kept.parts == whole.parts
        assert len(kept.parts) > 1


def test_what_is_new_is_added_to_what_is_kept(market: HandMarket) -> None:
    past = Past()
    for number in range(6):
        if number % 2:
            market.switch(False, "ALFA")
        else:
            market.switch(True)
            market.quote_all()
            market.tick()
        past.read(RANGES_S["1h"])
        at_once = Past()
        at_once.read(RANGES_S["1h"])
        for symbol, whole in at_once.symbols.items():
            assert past.symbols[symbol].parts == whole.parts
            assert [part[::2] for part in past.symbols[symbol].tail] == [part[::2] for part in whole.tail]
    assert len(past.symbols["ALFA"].parts) > 2, "it was off in between"


def test_a_gap_goes_on_over_versions_and_reads_with_the_cause_it_began_with(still: HandMarket) -> None:
    quotes = Quotes(still, "ALFA")
    quotes.add(310, 100)
    quotes.add(200, one_sided=True)
    past = Past()
    obligation.read(past, "5m")
    quotes.add(190, withdrawn="quoting_disabled")
    quotes.add(180, wider_ticks=1)
    row = obligation.read(past, "5m")["symbols"][-1]

    assert (row["symbol"], row["gaps"]) == ("ALFA", 1)
    assert (row["gap"]["cause"], row["gap"]["ms"]) == ("lapsed", about(210))


def test_what_is_kept_outlives_the_versions(still: HandMarket) -> None:
    quotes = Quotes(still, "ALFA")
    for ago_s in (310, 250, 240, 100):
        quotes.add(ago_s, 50)
    past = Past()
    before = obligation.read(past, "5m")
    with still.admin.transaction():  # as the drop of a partition does
        still.admin.execute("ALTER TABLE exchange_quoteversion DISABLE TRIGGER USER")
        still.admin.execute("DELETE FROM exchange_quoteversion WHERE version < 4")
    after = obligation.read(past, "5m")

    assert after["known_from_ms"] is None
    assert after["symbols"][-1]["gaps"] == before["symbols"][-1]["gaps"] == 3


@pytest.mark.parametrize("taken_back", [False, True])
def test_what_does_not_go_on_from_what_is_kept_is_read_anew(
    still: HandMarket, monkeypatch: pytest.MonkeyPatch, taken_back: bool
) -> None:
    """A crash took versions back and others got their numbers; or too many came for one slice since somebody asked."""
    quotes = Quotes(still, "ALFA")
    quotes.add(310, 600)
    quotes.add(200, one_sided=True)
    past = Past()
    assert obligation.read(past, "5m")["symbols"][-1]["missing_ms"] == about(200)
    if taken_back:
        with still.admin.transaction():
            still.admin.execute("ALTER TABLE exchange_quoteversion DISABLE TRIGGER USER")
            still.admin.execute("DELETE FROM exchange_quoteversion WHERE version = 2")
        quotes.version = 1
    monkeypatch.setattr(obligation_past, "SLICE_VERSIONS", 3)
    for ago_s in range(100, 40, -10):
        quotes.add(ago_s, 60)
    answers = [obligation.read(past, "5m") for _ in range(4)]
    row = next(row for row in answers[-1]["symbols"] if row["symbol"] == "ALFA")

    assert answers[0]["is_filling"]
    assert not answers[-1]["is_filling"]
    assert row["known_ms"] == about(300)
    assert row["missing_ms"] == about(0 if taken_back else 100)


def test_of_too_many_gaps_the_newest_are_kept_and_it_says_since_when(
    still: HandMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    alfa, bravo = Quotes(still, "ALFA"), Quotes(still, "BRAVO")
    for ago_s in range(300, 0, -10):
        alfa.add(ago_s, 5)
        bravo.add(ago_s - 2, 5)
    monkeypatch.setattr(obligation_past, "PARTS_MAX", 10)
    past = Past()
    for _ in range(3):
        answer = obligation.read(past, "5m")
        assert sum(len(kept.parts) for kept in past.symbols.values()) == 10

    assert answer["is_cut"]
    assert not answer["is_filling"]
    assert answer["from_ms"] == pytest.approx(answer["to_ms"] - 55_000, abs=5_000)
    for row in answer["symbols"]:
        if row["symbol"] != "CHARLIE":
            assert row["known_ms"] == about(55)
            assert row["missing_ms"] == pytest.approx(row["known_ms"] / 2, abs=5_000)


@pytest.mark.parametrize("last", ["5m", "1h", "24h"])
def test_where_a_range_begins_is_found_wherever_it_is(still: HandMarket, viewer: Client, last: str) -> None:
    quotes = Quotes(still, "ALFA")
    range_s = authority_reads.RANGES_S[last]
    steps = [4 * range_s, 2 * range_s, 1.01 * range_s, range_s / 2, range_s / 3, 1]
    for ago_s in steps:
        quotes.add(ago_s, 0.1 * range_s)

    answer = told(viewer, f"/authority/obligation/?last={last}")
    row = next(row for row in answer["symbols"] if row["symbol"] == "ALFA")

    assert not answer["is_cut"]
    assert row["known_ms"] == about(range_s)
    assert row["missing_ms"] == about(range_s - (0.09 + 0.1 + 0.1) * range_s - 1)


def test_in_a_busy_market_it_is_what_an_oracle_says(busy: HandMarket, viewer: Client) -> None:
    answer = told(viewer, "/authority/obligation/?last=1h")

    for row in answer["symbols"]:
        versions = busy.rows(
            "SELECT v.published_at, v.valid_until,"
            "       v.bid_price IS NOT NULL AND v.ask_price IS NOT NULL FROM exchange_quoteversion v"
            " WHERE v.symbol = %s ORDER BY v.version",
            row["symbol"],
        )
        to_s = answer["to_ms"] / 1000
        ends = [later[0].timestamp() for later in versions[1:]] + [to_s]
        good_s = sum(
            max(0.0, min(end, valid.timestamp()) - published.timestamp())
            for (published, valid, two_sided), end in zip(versions, ends, strict=True)
            if two_sided  # BRAVO's parameters, which are wider since, were as narrow when it was published
        )
        ((added_at,),) = busy.rows("SELECT added_at FROM exchange_symbol WHERE name = %s", row["symbol"])
        assert row["known_ms"] == pytest.approx((to_s - added_at.timestamp()) * 1000, abs=5)
        assert row["missing_ms"] == pytest.approx(row["known_ms"] - good_s * 1000, abs=5)
        assert row["gap"], "all were off for a moment"


# How often it is read


class HandClock:
    """A monotonic clock that a test turns; each look at it takes `look_s`."""

    def __init__(self, look_s: float = 0) -> None:
        self.now_s, self.look_s = 1000.0, look_s

    def __call__(self) -> float:
        self.now_s += self.look_s
        return self.now_s


def test_a_range_is_not_read_again_for_ten_seconds_and_says_how_old_it_is(still: HandMarket) -> None:
    clock = HandClock()
    kept = Obligations(clock)
    first = kept.get("5m")
    Quotes(still, "ALFA").add(200, 600)

    clock.now_s += 9.9
    second = kept.get("5m")
    clock.now_s += 0.2
    third = kept.get("5m")

    assert (first["age_ms"], second["age_ms"], third["age_ms"]) == (0, 9_900, 0)
    assert second["symbols"] == first["symbols"]
    assert third["symbols"] != first["symbols"]
    assert kept.get("1h")["last"] == "1h"


def test_what_takes_long_to_read_is_read_more_rarely(still: HandMarket) -> None:
    kept = Obligations(HandClock(look_s=2))  # as if each read took two seconds

    assert kept.get("5m")["due_ms"] > 30_000, "a twentieth of the time at most"


def test_while_it_reads_back_it_is_due_sooner(still: HandMarket, monkeypatch: pytest.MonkeyPatch) -> None:
    quotes = Quotes(still, "ALFA")
    for ago_s in range(310, 0, -10):
        quotes.add(ago_s, 15)
    monkeypatch.setattr(obligation_past, "SLICE_VERSIONS", 12)
    clock = HandClock()
    kept = Obligations(clock)
    filling = kept.get("5m")
    assert (filling["is_filling"], filling["due_ms"]) == (True, 1_000)
    clock.now_s += 1
    clock.look_s = 4  # as if it took four seconds to read
    due_ms = kept.get("5m")["due_ms"]
    assert due_ms == 4 * 4_000 - 3 * 4_000, "a quarter of the time at most; three looks passed since it began"


def test_one_request_reads_and_the_others_get_what_there_is(
    still: HandMarket, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = HandClock()
    kept = Obligations(clock)
    monkeypatch.setattr(authority_page, "obligations", kept)
    monkeypatch.setattr(obligation, "WAIT_S", 0.01)
    before = kept.get("5m")
    clock.now_s += 60
    with kept._reading:  # somebody else does
        assert told(viewer, "/authority/obligation/?last=5m")["to_ms"] == before["to_ms"]
        busy = viewer.get("/authority/obligation/?last=1h")

    assert (busy.status_code, busy.json()["code"]) == (503, "busy")
    assert told(viewer, "/authority/obligation/?last=5m")["to_ms"] > before["to_ms"]


def test_a_read_that_takes_too_long_is_not_called_an_outage(
    still: HandMarket, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(obligation_past, "OBLIGATION", "SELECT pg_sleep(60)")
    done: list[Any] = []

    def ask() -> None:
        try:
            done.append(viewer.get("/authority/obligation/?last=5m"))
        finally:
            connections.close_all()  # this thread's own

    asking = threading.Thread(target=ask)
    asking.start()
    eventually(
        lambda: still.rows("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'"),
        message="it is reading",
    )
    asking.join(10)

    assert (done[0].status_code, done[0].json()["code"]) == (503, "busy")


def test_every_cause_has_its_words() -> None:
    assert CAUSES.keys() >= {*WITHDRAWN_REASONS, "parameters", "not_two_sided", "too_wide", "never"}


def test_answers_are_found_by_whoever_may_look(standing_market: HandMarket) -> None:
    client = signed_in("vic")

    assert all(client.get(path).status_code == 200 for path in PATHS), "a user without any group may look"
