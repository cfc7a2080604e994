"""The page of one symbol: what it shows is what the tables say, within bounds, for whoever may see it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from accounts.permissions import ADMIN, OPERATOR, VIEWER
from console import symbol_data
from console.symbol_data import Dated
from exchange.prices import reference_price
from tests.market import SEED, HandMarket, HandNode
from tests.support import Database, eventually
from tests.web.client import signed_in, user_of, visitor

PAGE = "/symbols/ALFA/"
PARTS = ("", "now/", "chart/", "story/")


@pytest.fixture
def viewer(standing_market: HandMarket) -> Client:
    return signed_in("vera", VIEWER)


def html_of(client: Client, symbol: str = "ALFA") -> str:
    answer = client.get(f"/symbols/{symbol}/")
    assert answer.status_code == 200
    return answer.content.decode()


def first_of(html: str) -> dict[str, Any]:
    found = re.search(r'<script id="symbol-first" type="application/json">(.*?)</script>', html, re.DOTALL)
    assert found
    first: dict[str, Any] = json.loads(found[1])
    return first


def read(client: Client, part: str, symbol: str = "ALFA") -> dict[str, Any]:
    answer = client.get(f"/symbols/{symbol}/{part}")
    assert answer.status_code == 200, answer.content
    said: dict[str, Any] = answer.json()
    return said


# Who may see it, and what is there to see


@pytest.mark.parametrize("part", PARTS)
def test_every_part_asks_for_a_login(standing_market: HandMarket, part: str) -> None:
    answer = visitor().get(PAGE + part)

    assert answer.status_code == 302
    assert answer["Location"].startswith("/login/")


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_only_to_be_read(viewer: Client, part: str) -> None:
    assert viewer.post(PAGE + part).status_code == 405


def test_the_page_is_painted_with_the_symbol_as_it_is_now(standing_market: HandMarket, viewer: Client) -> None:
    first = first_of(html_of(viewer))

    bid, ask = standing_market.best("ALFA")
    assert (first["row"]["symbol"], first["row"]["bid"], first["row"]["ask"]) == ("ALFA", str(bid), str(ask))
    (lease,) = standing_market.rows("SELECT node, epoch FROM authority_lease WHERE symbol = 'ALFA'")
    assert (first["row"]["node"], first["row"]["epoch"]) == lease


def test_the_parameters_are_those_that_the_market_has(standing_market: HandMarket, viewer: Client) -> None:
    shown = first_of(html_of(viewer))["now"]["parameters"]

    spec = standing_market.specs["ALFA"]
    for name in ("tick_size", "lot_size", "half_spread_ticks", "skew_ticks", "quote_size", "position_limit"):
        assert Decimal(shown[name]) == getattr(spec, name)


def test_a_viewer_has_no_switch_and_only_who_may_edits_the_parameters(standing_market: HandMarket) -> None:
    viewer, operator = html_of(signed_in("vera", VIEWER)), html_of(signed_in("ola", OPERATOR))
    staff = user_of("ada", ADMIN)
    staff.is_staff = True
    staff.save()
    admin = html_of(signed_in("ada", ADMIN))

    assert 'id="symbol-switch"' not in viewer
    assert 'id="symbol-switch"' in operator
    assert "/admin/exchange/symbol/" not in viewer + operator
    assert 'href="/admin/exchange/symbol/ALFA/change/"' in admin
    for html in (viewer, operator):
        assert 'href="/fills/?symbol=ALFA"' in html
        assert 'href="/orders/?symbol=ALFA"' in html


def test_the_page_brings_no_script_or_style_of_its_own(viewer: Client) -> None:
    html = html_of(viewer)

    for attributes, content in re.findall(r"<script([^>]*)>(.*?)</script>", html, re.DOTALL):
        assert "application/json" in attributes or not content.strip(), "an inline script"
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", html)


# What is not there


@pytest.mark.parametrize("symbol", ["NOPE", "alfa", "A" * 300, "ALFA-1", "_"])
def test_an_unknown_symbol_is_not_found(viewer: Client, symbol: str) -> None:
    page = viewer.get(f"/symbols/{symbol}/")
    assert page.status_code == 404
    assert f"There is no symbol {symbol}" in page.content.decode()

    for part in PARTS[1:]:
        answer = viewer.get(f"/symbols/{symbol}/{part}", headers={"accept": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_symbol")


@pytest.mark.parametrize(
    "asked",
    ["chart/?range=", "chart/?range=1y", "chart/?range=5M", "chart/?range=%00", "story/?last=", "story/?last=1d"],
)
def test_a_time_that_is_not_offered_is_refused(viewer: Client, asked: str) -> None:
    answer = viewer.get(PAGE + asked)

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert "must be one of" in answer.json()["detail"]


@pytest.mark.parametrize("part", PARTS)
def test_without_a_database_every_part_says_so(operator: Client, unreachable: Callable[[], None], part: str) -> None:
    unreachable()
    answer = operator.get(PAGE + part, headers={"accept": "application/json"})

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer["Retry-After"]


# The book, fills and orders


def test_the_book_adds_up_what_rests_at_each_price_best_first(market: HandMarket, operator: Client) -> None:
    spec = market.specs["BRAVO"]
    bid, ask = market.best("BRAVO")
    tick, lot = spec.tick_size, spec.lot_size
    before = read(operator, "now/", "BRAVO")
    market.send("b-1", "BRAVO", "buy", lot * 2, bid - 300 * tick, "GTC")
    market.send("b-2", "BRAVO", "buy", lot * 3, bid - 300 * tick, "GTC")
    market.send("b-3", "BRAVO", "buy", lot, bid - 299 * tick, "GTC")
    market.send("a-1", "BRAVO", "sell", lot * 7, ask + 300 * tick, "GTC")

    book = read(operator, "now/", "BRAVO")

    def size(lots: int) -> str:
        return str((lot * lots).quantize(Decimal(spec.lot_size)))

    bids, asks = ([line for line in book[side] if line not in before[side]] for side in ("bids", "asks"))
    assert bids == [[str(bid - 299 * tick), size(1), 1], [str(bid - 300 * tick), size(5), 2]]
    assert asks == [[str(ask + 300 * tick), size(7), 1]]

    market.cancel("b-1")
    assert [str(bid - 300 * tick), size(3), 1] in read(operator, "now/", "BRAVO")["bids"]


def test_the_book_shows_the_ten_best_prices_of_a_side(market: HandMarket, operator: Client) -> None:
    bid, _ = market.best("BRAVO")
    spec = market.specs["BRAVO"]
    for number in range(12):
        market.send(f"b-{number}", "BRAVO", "buy", spec.lot_size, bid - (200 + number) * spec.tick_size, "GTC")

    shown = [Decimal(price) for price, *_ in read(operator, "now/", "BRAVO")["bids"]]
    kept = market.rows(
        "SELECT DISTINCT price FROM exchange_order WHERE symbol = 'BRAVO' AND side = 'buy'"
        " AND status IN ('resting', 'partially_filled') ORDER BY price DESC LIMIT 10"
    )
    assert shown == [price for (price,) in kept]
    assert len(shown) == 10


def test_newest_fills_and_orders_are_the_tables_newest(standing_market: HandMarket, viewer: Client) -> None:
    shown = read(viewer, "now/")

    fills = standing_market.rows(
        "SELECT fill_id, side, price, quantity, quantity_after FROM ledger_fill WHERE symbol = 'ALFA'"
        " ORDER BY sequence DESC LIMIT 20"
    )
    assert len(fills) >= 4
    assert [
        (f["fill_id"], f["side"], Decimal(f["price"]), Decimal(f["quantity"]), Decimal(f["position"]))
        for f in shown["fills"]
    ] == fills
    orders = standing_market.rows(
        "SELECT client_order_id, status FROM exchange_order WHERE symbol = 'ALFA' ORDER BY id DESC LIMIT 20"
    )
    assert [(o["client_order_id"], o["status"]) for o in shown["orders"]] == orders


# The chart


def test_the_reference_is_the_price_of_every_step_and_its_times_rise(
    standing_market: HandMarket, viewer: Client
) -> None:
    points = read(viewer, "chart/")["reference"]

    spec = standing_market.specs["ALFA"]
    assert [price for _, price in points] == [
        str(reference_price(SEED, "ALFA", spec.seed_price, spec.tick_size, spec.volatility_bps, step))
        for step in range(standing_market.step + 1)
    ]
    assert [at for at, _ in points] == sorted(at for at, _ in points)


def test_every_quote_and_fill_of_a_short_while_is_in_the_chart(standing_market: HandMarket, viewer: Client) -> None:
    chart = read(viewer, "chart/?range=30m")

    quotes = standing_market.rows(
        "SELECT bid_price::text, ask_price::text FROM exchange_quoteversion WHERE symbol = 'ALFA' ORDER BY version"
    )
    assert [(bid, ask) for _, bid, ask, _ in chart["quotes"]["points"]] == quotes
    fills = standing_market.rows(
        "SELECT sequence, side, price, quantity FROM ledger_fill WHERE symbol = 'ALFA' ORDER BY sequence"
    )
    assert [(n, side, Decimal(p), Decimal(q)) for _, n, side, p, q in chart["fills"]["points"]] == fills
    assert (chart["quotes"]["stride"], chart["fills"]["stride"]) == (1, 1)
    assert (chart["quotes"]["in_all"], chart["fills"]["in_all"]) == (len(quotes), len(fills))


def test_position_and_result_end_where_the_ledger_is(standing_market: HandMarket, viewer: Client) -> None:
    chart = read(viewer, "chart/")

    (kept,) = standing_market.rows(
        "SELECT quantity, round(realised_pnl, 2)::text, round(realised_pnl + unrealised_pnl, 2)::text"
        " FROM exchange_position_marked WHERE symbol = 'ALFA'"
    )
    assert (Decimal(chart["position"][-1][1]), chart["realised"][-1][1]) == kept[:2]
    # The newest reference is older than the last fills here: a point marks what was held then.
    at = chart["reference"][-1][0]
    cash, quantity, price = standing_market.rows(
        "SELECT coalesce(f.cash_after, 0), coalesce(f.quantity_after, 0), m.price FROM exchange_price m"
        "  LEFT JOIN LATERAL (SELECT * FROM ledger_fill WHERE symbol = 'ALFA'"
        "                        AND floor(extract(epoch FROM filled_at) * 1000 + 0.5) <= %s"
        "                      ORDER BY sequence DESC LIMIT 1) f ON true WHERE m.symbol = 'ALFA'",
        at,
    )[0]
    assert Decimal(chart["total"][-1][1]) == round(cash + quantity * price, 2)


def test_a_long_while_is_thinned_out_and_keeps_its_ends_and_withdrawals(
    market: HandMarket, operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    market.tick(20)
    market.switch(False, "ALFA")
    market.switch(True, "ALFA")
    market.tick(20)
    (last,) = market.rows("SELECT version, sequence FROM exchange_quote WHERE symbol = 'ALFA'")
    monkeypatch.setattr(symbol_data, "POINTS_MAX", 10)

    chart = read(operator, "chart/")

    quotes, fills = chart["quotes"], chart["fills"]
    assert quotes["stride"] > 1
    assert (quotes["in_all"], fills["in_all"]) == last
    assert len(quotes["points"]) <= 10 + 1 + 3, "the newest, and those around the withdrawal"
    assert None in [bid for _, bid, *_ in quotes["points"]], "the withdrawal is there"
    assert [at for at, *_ in quotes["points"]] == sorted(at for at, *_ in quotes["points"])
    numbers = [number for _, number, *_ in fills["points"]]
    assert numbers[-1] == last[1]
    assert all(number % fills["stride"] == 0 for number in numbers[:-1])
    assert len(numbers) <= 10 + 1
    assert len(chart["reference"]) <= 10 + 1
    assert chart["reference"][-1][1] == str(market.one("SELECT price FROM exchange_price WHERE symbol = 'ALFA'"))


def test_only_the_last_while_is_shown_and_what_was_in_force_when_it_began(market: HandMarket, operator: Client) -> None:
    market.send("c-old", "ALFA", "buy", market.specs["ALFA"].lot_size)
    market.quote_all()
    eventually(
        lambda: market.one(
            "SELECT clock_timestamp() > max(published_at) + interval '1 second' FROM exchange_quoteversion"
        ),
        message="a second has passed",
    )

    quiet = symbol_data.chart("ALFA", 1)

    assert quiet is not None
    assert (quiet["fills"]["points"], quiet["fills"]["in_all"], quiet["quotes"]["in_all"]) == ([], 0, 0)
    ((_, bid, ask, _),) = quiet["quotes"]["points"]
    assert (Decimal(bid), Decimal(ask)) == market.best("ALFA")
    ((at, held),) = quiet["position"]
    assert at < quiet["since"]
    assert Decimal(held) == market.one("SELECT quantity FROM ledger_position WHERE symbol = 'ALFA'")

    market.send("c-new", "ALFA", "buy", market.specs["ALFA"].lot_size)
    busy = symbol_data.chart("ALFA", 1)
    assert busy is not None
    ((_, number, side, *_),) = busy["fills"]["points"]
    assert (number, side) == (market.one("SELECT version FROM ledger_position WHERE symbol = 'ALFA'"), "sell")


def test_a_symbol_that_was_never_quoted_has_an_empty_chart(django_database: Database) -> None:
    HandMarket(django_database, symbols=1)

    chart = symbol_data.chart("ALFA", 300)

    assert chart is not None
    assert (chart["quotes"]["points"], chart["fills"]["points"], chart["position"]) == ([], [], [])
    assert {total for _, total in chart["total"]} == {"0.00"}


def test_steps_are_dated_between_the_orders_that_are_known() -> None:
    outage = Dated([(10, 10_000), (20, 20_000), (21, 90_000)], 1000)

    assert [outage.at(step) for step in (8, 10, 15, 20, 21, 23)] == [8000, 10_000, 15_000, 20_000, 90_000, 92_000]


# The story


def test_every_tenure_is_shown_with_its_end_and_every_refused_write(market: HandMarket, operator: Client) -> None:
    holder = market.one("SELECT node FROM authority_lease WHERE symbol = 'ALFA'")
    dead = market.lose(holder)
    market.rebalance(f"{holder} lost")
    survivor = next(iter(market.nodes.values()))
    late = HandNode(survivor.name, survivor.connection, dead.incarnation, dead.serial, dead.epochs)
    assert market.quote(late, ["ALFA"]) == {"ALFA": "stale_epoch"}

    story = read(operator, "story/?last=15m")

    kept = market.rows(
        "SELECT epoch, node, reason FROM authority_tenure WHERE symbol = 'ALFA' ORDER BY epoch DESC LIMIT 200"
    )
    assert [(row["epoch"], row["node"], row["reason"]) for row in story["tenures"]] == kept
    newest, before = story["tenures"]
    assert newest["ended_at"] is None
    assert before["ended"] == "connection to the database lost"
    assert f"{holder}'s session was lost" in newest["because"]
    assert [(row["epoch"], row["reason"]) for row in story["refusals"]] == [(dead.epochs["ALFA"], "stale_epoch")]
    assert story["refusals"][0]["why"] == "a newer epoch has been granted"
    assert {"granted", "ended", "refused"} <= {event["kind"] for event in story["events"]}
    assert [event["at"] for event in story["events"]] == sorted((e["at"] for e in story["events"]), reverse=True)
    assert story["now"][0].startswith(f"{survivor.name} holds ALFA under epoch {newest['epoch']} since ")


def test_a_long_story_says_that_it_leaves_something_out(
    market: HandMarket, operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(symbol_data, "EVENTS_MAX", 3)
    for _ in range(3):
        market.switch(False, "ALFA")
        market.switch(True, "ALFA")

    story = read(operator, "story/")

    assert len(story["events"]) == 3
    assert story["left_out"] >= 3
    assert story["events"][0]["text"].startswith("ada turned quoting on")
