"""The blotter: what it lists is what the ledger and the exchange have, in any order of asking, and exactly."""

from __future__ import annotations

import asyncio
import csv
import gc
import io
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, connection
from django.test import AsyncClient, Client, override_settings

from accounts.permissions import OPERATOR, VIEWER
from console import export, listing
from console.export import EXPORTS_MAX, FILL_COLUMNS, ORDER_COLUMNS, Export, TooManyExports
from console.filters import BadQuery, Filter, OrderFilter, judged
from console.listing import Listing
from console.words import order_status
from mmproject import provision
from mmproject.conf import conf
from tests.market import HandMarket, busy_market
from tests.support import Database, scratch_database
from tests.web.client import BACKEND, signed_in, user_of, visitor

PAGES = ["/fills/", "/orders/"]
EXPORTS = ["/fills/export.csv", "/orders/export.csv"]
JSON = {"accept": "application/json"}


@pytest.fixture(scope="module")
def standing_market(server: str, template: str) -> Iterator[HandMarket]:
    """One market for all tests of this module that change nothing: fills on both sides, the last four from clients."""
    with scratch_database(server, conf.var, template) as database, database.django("console"):
        made = busy_market(database)
        made.quote_all()
        for number, side in enumerate(["buy", "sell", "buy", "sell"]):
            answer = made.send(f"c-{number}", "ALFA", side, made.specs["ALFA"].lot_size)
            assert answer["status"] == "filled"
        yield made
        for node in made.nodes.values():
            node.connection.close()


@pytest.fixture
def viewer(standing_market: HandMarket) -> Client:
    return signed_in("vera", VIEWER)


@pytest.fixture
def busy(django_database: Database) -> Iterator[HandMarket]:
    """A market with every kind of order in it."""
    made = busy_market(django_database)
    yield made
    for node in made.nodes.values():
        node.connection.close()


def html(client: Client, path: str, **query: str) -> str:
    answer = client.get(path, query)
    assert answer.status_code == 200, answer.content.decode()[:500]
    return answer.content.decode()


def shown(page: str, kind: str) -> list[str]:
    """The ids of the rows on a page, from top to bottom."""
    return re.findall(rf'<tr role="row" data-{kind}="([^"]+)"', page)


def fills_newest_first(market: HandMarket, where: str = "true", *parameters: object) -> list[str]:
    rows = market.rows(
        f"SELECT fill_id FROM ledger_fill WHERE {where} ORDER BY xid DESC, activity_id DESC", *parameters
    )
    return [row[0] for row in rows]


def orders_newest_first(market: HandMarket, where: str = "true", *parameters: object) -> list[str]:
    rows = market.rows(f"SELECT client_order_id FROM exchange_order WHERE {where} ORDER BY id DESC", *parameters)
    return [row[0] for row in rows]


def through(read: Callable[[str | None], Listing], key: str) -> tuple[list[str], list[Listing]]:
    """All rows' keys, page by page, and the pages."""
    pages = [read(None)]
    while (cursor := pages[-1].next) is not None:
        pages.append(read(cursor))
    return [row[key] for page in pages for row in page.rows], pages


def fills_asked(cursor: str | None = None, **fields: str) -> Filter:
    return judged(Filter, {**fields, **({"cursor": cursor} if cursor else {})})


def orders_asked(cursor: str | None = None, **fields: str) -> OrderFilter:
    return judged(OrderFilter, {**fields, **({"cursor": cursor} if cursor else {})})


# Who may see it


@pytest.mark.parametrize("path", [*PAGES, *EXPORTS, "/orders/newer/"])
def test_the_blotter_asks_for_a_login_and_only_looks(standing_market: HandMarket, path: str) -> None:
    answer = visitor().get(path)
    assert (answer.status_code, answer["Location"].partition("?")[0]) == (302, "/login/")
    assert signed_in("vera", VIEWER).post(path).status_code == 405


@pytest.mark.parametrize("path", [*PAGES, *EXPORTS, "/orders/newer/?after=1"])
@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_without_a_database_the_blotter_says_so(
    market: HandMarket, operator: Client, unreachable: Callable[[], None], path: str, accept: str
) -> None:
    unreachable()
    answer = operator.get(path, headers={"accept": accept})

    assert answer.status_code == 503
    assert "cannot be reached" in answer.content.decode()


@pytest.mark.parametrize("path", PAGES)
def test_pages_bring_no_script_or_style_of_their_own(viewer: Client, path: str) -> None:
    page = html(viewer, path)

    for attributes, content in re.findall(r"<script([^>]*)>(.*?)</script>", page, re.DOTALL):
        assert "application/json" in attributes or not content.strip(), "an inline script"
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", page)


# What is on the pages


def test_the_fills_are_listed_newest_first_with_what_each_left(viewer: Client, standing_market: HandMarket) -> None:
    page = html(viewer, "/fills/")

    assert shown(page, "fill") == fills_newest_first(standing_market)
    assert f'data-known="{standing_market.one("SELECT sum(version) FROM ledger_position")}"' in page
    newest = listing.fills(fills_asked()).rows[0]
    spec = standing_market.specs[newest["symbol"]]
    places = -spec.tick_size.normalize().as_tuple().exponent  # type: ignore[operator]
    row = page.partition(f'data-fill="{newest["fill_id"]}"')[2].partition("</tr>")[0]
    assert f">{Decimal(newest['price']):,.{places}f}<" in row, "with the tick's decimals"
    assert (">bought<" if newest["side"] == "buy" else ">sold<") in row
    assert f'href="/symbols/{newest["symbol"]}/"' in row


def test_what_each_fill_left_and_realised_follows_from_the_fills(standing_market: HandMarket) -> None:
    """Against the rules of average cost, worked out here fill by fill."""
    rows = {row["fill_id"]: row for row in listing.fills(fills_asked(), limit=10_000).rows}
    assert len(rows) >= 10

    state: dict[str, tuple[Decimal, Decimal, Decimal]] = defaultdict(lambda: (Decimal(0), Decimal(0), Decimal(0)))
    realised_something = False
    for fill_id in sorted(rows):
        row = rows[fill_id]
        position, cost, realised = state[row["symbol"]]
        price, signed = Decimal(row["price"]), Decimal(row["quantity"]) * (1 if row["side"] == "buy" else -1)
        if position * signed >= 0:
            gained, cost = Decimal(0), cost + signed * price
        elif abs(position) <= abs(signed):
            gained, cost = position * price - cost, (position + signed) * price
        else:
            given_up = round(cost * abs(signed) / abs(position), 10)
            gained, cost = -signed * price - given_up, cost - given_up
        position, realised = position + signed, realised + gained
        state[row["symbol"]] = position, cost, realised
        realised_something = realised_something or gained != 0

        assert Decimal(row["position_after"]) == position, fill_id
        assert Decimal(row["average_cost_after"]) == (round(cost / position, 10) if position else 0), fill_id
        assert Decimal(row["realised_pnl"]) == gained, fill_id
        assert Decimal(row["realised_pnl_after"]) == realised, fill_id
    assert realised_something


def test_the_orders_are_listed_newest_first_each_with_its_fills(busy: HandMarket) -> None:
    page = html(signed_in("vera", VIEWER), "/orders/")

    assert shown(page, "order") == orders_newest_first(busy)[: listing.PAGE_ROWS]
    found = listing.orders(orders_asked(q="c-hits"), with_fills=True).rows[0]
    (fill,) = busy.rows("SELECT fills FROM exchange_order WHERE client_order_id = 'c-hits'")[0][0]
    row = (
        html(signed_in("vera", VIEWER), "/orders/", q="c-hits")
        .partition('data-order="c-hits"')[2]
        .partition("</tr>")[0]
    )
    assert found["fill_count"] == 1
    assert f">{fill['fill_id']}<" in row
    is_trade = fill["fill_id"].split("-")[1].startswith("X")
    assert ("/fills/?q=" in row) != is_trade, "only what is a fill of ours leads there"


def test_an_orders_status_is_told_in_words(busy: HandMarket) -> None:
    rows = {row["client_order_id"]: row for row in listing.orders(orders_asked(), limit=10_000).rows}

    assert (rows["c-kill"]["status"], order_status(rows["c-kill"])) == ("rejected", "FOK: could not be filled in full")
    assert (rows["c-away"]["status"], order_status(rows["c-away"])) == ("cancelled", "what was left in the book")
    assert order_status(rows["c-takes"]) == ""
    page = html(signed_in("vera", VIEWER), "/orders/", q="c-kill")
    assert "Rejected" in page
    assert "FOK: could not be filled in full" in page


def test_an_order_with_very_many_fills_shows_the_first_and_says_how_many_more(market: HandMarket) -> None:
    told = [f'{{"fill_id": "ALFA-{n:012}", "price": "1", "quantity": "1"}}' for n in range(1, 61)]
    market.send("c-many", "ALFA", "buy", market.specs["ALFA"].lot_size)
    market.admin.execute(
        "UPDATE exchange_order SET fills = %s WHERE client_order_id = 'c-many'", [f"[{','.join(told)}]"]
    )

    page = html(signed_in("vera", VIEWER), "/orders/", q="c-many")

    assert page.count("/fills/?q=ALFA-") == listing.ORDER_FILLS_SHOWN
    assert "and 10 more" in page


@pytest.mark.parametrize("path", PAGES)
def test_a_market_without_orders_says_what_to_do(django_database: Database, path: str) -> None:
    HandMarket(django_database, symbols=1)
    page = html(signed_in("ola", OPERATOR), path)

    assert 'id="empty"' in page
    assert ("the ticket on this page" in page) == (path == "/orders/")
    assert ("send one on" in page) == (path == "/fills/")
    assert 'id="older"' not in page


def test_pages_lead_to_the_older_ones_and_back(
    viewer: Client, standing_market: HandMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing.fills, "__kwdefaults__", {"limit": 4, "scan": listing.SCAN_ROWS})
    path, seen = "/fills/?symbol=ALFA", []
    while path:
        page = viewer.get(path).content.decode()
        seen += shown(page, "fill")
        assert ('id="newest"' in page) == ("cursor" in path)
        older = re.search(r'href="([^"]+)" id="older"', page)
        path = older[1].replace("&amp;", "&") if older else ""

    assert seen == fills_newest_first(standing_market, "symbol = 'ALFA'")
    assert len(seen) > 4
    assert 'id="the-end"' in page


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("symbol=NONE", "2 orders of all symbols"),
        ("symbol=NONE&side=buy", "2 orders of all symbols"),
        ("side=buy&q=none*", "2 orders"),
        ("status=open&q=none*", "2 orders"),
    ],
)
def test_a_page_that_looked_at_some_says_at_what_and_that_there_may_be_more(
    busy: HandMarket, monkeypatch: pytest.MonkeyPatch, query: str, said: str
) -> None:
    monkeypatch.setattr(listing.orders, "__kwdefaults__", {"limit": 4, "scan": 2, "with_fills": False})
    ask = busy.best("BRAVO")[1]
    for number in range(3):
        busy.send(f"rests-{number}", "BRAVO", "buy", busy.specs["BRAVO"].lot_size, ask / 2 // 1, "GTC")
    page = html(signed_in("ola", OPERATOR), f"/orders/?{query}")

    assert f"Looked through {said}, back to" in page
    assert "the filter wants none of them" in page
    assert "the 2 orders looked through, the newest." in page
    older = re.search(r'href="([^"]+)" id="older"', page)
    assert older
    second = html(signed_in("ola", OPERATOR), older[1].replace("&amp;", "&"))
    assert "looked through, the newest" not in second
    assert "No order matches" not in second or 'id="older"' not in second


# The filter


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({}, "true"),
        ({"symbol": "ALFA"}, "symbol = 'ALFA'"),
        ({"side": "buy"}, "side = 'buy'"),
        ({"symbol": "ALFA", "side": "sell"}, "symbol = 'ALFA' AND side = 'sell'"),
        ({"q": "c-0"}, "client_order_id = 'c-0'"),
        ({"q": "c-*"}, "starts_with(client_order_id, 'c-')"),
        ({"q": "ext-BRAVO*", "side": "sell"}, "starts_with(client_order_id, 'ext-BRAVO') AND side = 'sell'"),
        ({"q": "ALFA-000000000002"}, "fill_id = 'ALFA-000000000002'"),
        ({"q": "ALFA-000000000002", "symbol": "BRAVO"}, "false"),
        ({"symbol": "NONE"}, "false"),
        ({"q": "none"}, "false"),
        ({"from": "2100-01-01T00:00"}, "false"),
        ({"to": "2000-01-01T00:00"}, "false"),
        ({"from": "0001-01-01T00:00", "to": "9999-12-31T23:59:59.999999"}, "true"),
    ],
)
@pytest.mark.parametrize("limit", [3, 10_000])
@pytest.mark.parametrize("scan", [2, 50_000])
def test_fills_of_a_filter_page_by_page(
    standing_market: HandMarket, fields: dict[str, str], where: str, limit: int, scan: int
) -> None:
    """However short the pages, and however few rows one may look at: all of them, once, in order."""
    found, pages = through(
        lambda cursor: listing.fills(fills_asked(cursor, **fields), limit=limit, scan=scan), "fill_id"
    )

    expected = fills_newest_first(standing_market, where)
    assert found == expected
    assert (where == "false") == (expected == [])
    for page in pages:
        assert len(page.rows) <= limit
        assert page.looked_back_to is None or (len(page.rows) < limit and page.next)
    if scan < limit < len(expected) or (scan == 2 and limit == 3 and len(expected) > 3):
        assert any(page.looked_back_to for page in pages), "a page that looked at too little says so"


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({}, "true"),
        ({"symbol": "BRAVO"}, "symbol = 'BRAVO'"),
        ({"side": "sell"}, "side = 'sell'"),
        ({"status": "open"}, "status IN ('resting', 'partially_filled')"),
        ({"status": "open", "symbol": "BRAVO"}, "status IN ('resting', 'partially_filled') AND symbol = 'BRAVO'"),
        ({"status": "resting", "side": "buy"}, "status = 'resting' AND side = 'buy'"),
        ({"status": "rejected"}, "status = 'rejected'"),
        ({"status": "filled", "symbol": "ALFA"}, "status = 'filled' AND symbol = 'ALFA'"),
        ({"q": "c-hits"}, "client_order_id = 'c-hits'"),
        ({"q": "c-*"}, "starts_with(client_order_id, 'c-')"),
        ({"q": "ALFA-000000000001"}, 'fills @> \'[{"fill_id": "ALFA-000000000001"}]\''),
        ({"q": "nobody"}, "false"),
        ({"from": "2100-01-01T00:00"}, "false"),
        ({"to": "2000-01-01T00:00"}, "false"),
    ],
)
def test_orders_of_a_filter_page_by_page(busy: HandMarket, fields: dict[str, str], where: str) -> None:
    expected = orders_newest_first(busy, where)
    assert (where == "false") == (expected == [])
    for limit, scan in [(3, 2), (3, 50_000), (10_000, 2), (10_000, 50_000)]:
        found, pages = through(
            lambda cursor, limit=limit, scan=scan: listing.orders(  # type: ignore[misc]
                orders_asked(cursor, **fields), limit=limit, scan=scan
            ),
            "client_order_id",
        )
        assert found == expected, (limit, scan)
        assert all(len(page.rows) <= limit for page in pages)


def test_both_orders_of_a_trade_are_found_by_its_id(busy: HandMarket) -> None:
    trade = busy.rows("SELECT trade_id, maker_order_id, taker_order_id FROM exchange_trade ORDER BY traded_at LIMIT 1")[
        0
    ]

    found = {row["client_order_id"] for row in listing.orders(orders_asked(q=trade[0])).rows}

    assert found == set(trade[1:])


@pytest.mark.parametrize("symbol", [None, "ALFA"])
def test_fills_are_found_by_their_time(
    standing_market: HandMarket, symbol: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no allowance for disorder: between this market's transactions there is none, and each look-up counts."""
    monkeypatch.setattr(listing, "DISORDER_S", 0)
    where = "symbol = 'ALFA'" if symbol else "true"
    starts = f"SELECT min(filled_at) FROM ledger_fill WHERE {where} GROUP BY xid ORDER BY 1"
    times = [row[0] for row in standing_market.rows(starts)]
    assert len(times) >= 5
    moments = [times[0] - timedelta(seconds=1), *times, times[-1] + timedelta(seconds=1)]
    fields = {"symbol": symbol} if symbol else {}
    for since, until in [(a, b) for a in moments for b in moments]:
        asked = fills_asked(**fields, **{"from": since.isoformat(), "to": until.isoformat()})
        expected = fills_newest_first(standing_market, f"{where} AND filled_at >= %s AND filled_at < %s", since, until)
        assert [row["fill_id"] for row in listing.fills(asked, limit=10_000).rows] == expected, (since, until)


def test_orders_are_found_by_their_time(standing_market: HandMarket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "DISORDER_S", 0)
    alone = "SELECT created_at FROM exchange_order WHERE starts_with(client_order_id, 'c-') ORDER BY 1"
    times = [row[0] for row in standing_market.rows(alone)]
    oldest = standing_market.one("SELECT min(created_at) FROM exchange_order")
    moments = [oldest - timedelta(seconds=1), *times, times[-1] + timedelta(seconds=1)]
    for since, until in [(a, b) for a in moments for b in moments]:
        asked = orders_asked(**{"from": since.isoformat(), "to": until.isoformat()})
        expected = orders_newest_first(standing_market, "created_at >= %s AND created_at < %s", since, until)
        assert [row["client_order_id"] for row in listing.orders(asked, limit=10_000).rows] == expected


@pytest.mark.parametrize("symbol", [None, "ALFA"])
def test_a_time_is_looked_up_and_not_searched_for(
    standing_market: HandMarket, symbol: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of what is older looks at nothing that is newer."""
    monkeypatch.setattr(listing, "DISORDER_S", 0)
    at = standing_market.one("SELECT filled_at FROM ledger_fill WHERE client_order_id = 'c-0'")
    fields = {"symbol": symbol} if symbol else {}
    expected = fills_newest_first(standing_market, "filled_at < %s AND symbol = coalesce(%s, symbol)", at, symbol)
    newer = fills_newest_first(standing_market, "filled_at >= %s AND symbol = coalesce(%s, symbol)", at, symbol)
    assert min(len(expected), len(newer)) > 1

    found = listing.fills(fills_asked(**fields, to=at.isoformat()), scan=len(expected) + 1)

    assert [row["fill_id"] for row in found.rows] == expected
    assert found.looked_back_to is None


def test_rows_out_of_the_order_of_their_times_are_found(market: HandMarket) -> None:
    """Made by transactions that took their time: the first fill is stamped last."""
    first, *_ = reversed(fills_newest_first(market))
    market.admin.execute("ALTER TABLE ledger_fill DISABLE TRIGGER USER")
    market.admin.execute("UPDATE ledger_fill SET filled_at = filled_at + interval '15 s' WHERE fill_id = %s", [first])
    at = market.one("SELECT filled_at FROM ledger_fill WHERE fill_id = %s", first)

    for fields in ({}, {"symbol": first.split("-")[0]}):
        asked = fills_asked(**fields, **{"from": at.isoformat()})
        assert [row["fill_id"] for row in listing.fills(asked).rows] == [first]


@pytest.mark.parametrize("path", [*PAGES, *EXPORTS])
@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("side=both", "invalid_side"),
        ("symbol=al-fa", "invalid_symbol"),
        ("symbol=ALFA%00", "invalid_symbol"),
        ("q=%27;--", "invalid_q"),
        ("q=a%00b", "invalid_q"),
        ("q=" + "a" * 66, "invalid_q"),
        ("q=**", "invalid_q"),
        ("from=yesterday", "invalid_from"),
        ("to=0001-01-01T00:00%2B23:59", "invalid_to"),
        ("to=99999-01-01T00:00", "invalid_to"),
        ("cursor=nowhere", "invalid_cursor"),
        ("cursor=-1", "invalid_cursor"),
        ("cursor=99999999999999999999", "invalid_cursor"),
        ("cursor=%C2%B2", "invalid_cursor"),
        ("side=buy&side=sell", "invalid_query"),
        ("colour=red", "unknown_parameter"),
    ],
)
def test_what_makes_no_sense_is_refused(viewer: Client, path: str, query: str, code: str) -> None:
    answer = viewer.get(f"{path}?{query}", headers=JSON)

    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert answer.json()["detail"]
    page = viewer.get(f"{path}?{query}")
    assert page.status_code == 400
    if path in PAGES:
        assert 'role="alert"' in page.content.decode()


@pytest.mark.parametrize("query", ["cursor=ALFA-999999999999", "cursor=BRAVO-000000000001&symbol=ALFA"])
def test_a_cursor_of_no_fill_of_this_list_is_refused(viewer: Client, query: str) -> None:
    assert viewer.get(f"/fills/?{query}", headers=JSON).json()["code"] == "invalid_cursor"


def test_an_orders_status_must_be_one(viewer: Client) -> None:
    assert viewer.get("/orders/?status=lost", headers=JSON).json()["code"] == "invalid_status"
    assert viewer.get("/fills/?status=open", headers=JSON).json()["code"] == "unknown_parameter"


def test_a_form_that_is_sent_empty_asks_for_everything(viewer: Client, standing_market: HandMarket) -> None:
    page = html(viewer, "/orders/", q="", symbol=" ", side="", status="", **{"from": "", "to": ""})

    assert shown(page, "order") == orders_newest_first(standing_market)[: listing.PAGE_ROWS]


def test_the_form_shows_what_was_asked(viewer: Client) -> None:
    page = html(viewer, "/orders/", q="c-*", symbol="alfa", side="sell", status="open", **{"from": "2026-01-31T09:00Z"})

    for field in ('value="c-*"', 'value="ALFA"', '"sell" selected', '"open" selected', 'value="2026-01-31T09:00:00"'):
        assert field in page


# What came since


def test_orders_that_came_since_are_counted_by_the_same_filter(market: HandMarket, operator: Client) -> None:
    page = html(operator, "/orders/", symbol="ALFA", side="buy")
    address = re.search(r'data-address="([^"]+)"', page)
    assert address
    lot = market.specs["ALFA"].lot_size

    def newer() -> dict[str, Any]:
        answer = operator.get(address[1].replace("&amp;", "&"), headers=JSON)
        body: dict[str, Any] = answer.json()
        return body

    assert newer() == {"newer": 0, "is_all": True}
    for number, side in enumerate(["buy", "sell", "buy"]):
        market.send(f"c-{number}", "ALFA", side, lot)
    market.send("c-other", "BRAVO", "buy", market.specs["BRAVO"].lot_size)
    assert newer() == {"newer": 2, "is_all": True}


def test_counting_what_came_has_an_end(
    standing_market: HandMarket, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "NEWER_SCAN", 3)

    assert viewer.get("/orders/newer/?after=0", headers=JSON).json() == {"newer": 3, "is_all": False}


@pytest.mark.parametrize(
    "query", ["", "after=-1", "after=x", "after=1e3", "after=99999999999999999999", "after=1&side=x"]
)
def test_what_came_since_nowhere_is_refused(viewer: Client, query: str) -> None:
    assert viewer.get(f"/orders/newer/?{query}", headers=JSON).status_code == 400


# Cancelling


def rests(market: HandMarket) -> str:
    """An order that is in the book."""
    spec = market.specs["ALFA"]
    answer = market.send("c-rests", "ALFA", "buy", spec.lot_size * 3, spec.tick_size, "GTC")
    assert answer["status"] == "resting"
    return "c-rests"


def test_an_order_in_the_book_is_cancelled(
    market: HandMarket, operator: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    order_id = rests(market)
    assert 'class="cancel"' in html(operator, "/orders/", q=order_id)

    answer = operator.post("/orders/cancel/", {"client_order_id": order_id}, headers=JSON)

    (changed,) = answer.json()["changed"]
    assert (answer.status_code, changed["status"], changed["word"]) == (200, "cancelled", "Cancelled")
    assert market.one("SELECT status FROM exchange_order WHERE client_order_id = %s", order_id) == "cancelled"
    assert 'class="cancel"' not in html(operator, "/orders/", q=order_id)
    noted = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert {"ola"} == {event["username"] for event in noted if event["event"].startswith("console_order_cancel")}


def test_a_form_without_script_comes_back_to_the_order(market: HandMarket, operator: Client) -> None:
    answer = operator.post("/orders/cancel/", {"client_order_id": rests(market)})

    assert (answer.status_code, answer["Location"]) == (302, "/orders/?q=c-rests")


@pytest.mark.parametrize(
    ("order_id", "status", "code"),
    [("c-filled", 409, "not_open"), ("nobody", 404, "unknown_order"), ("", 404, "unknown_order"),
     ("a\0b", 404, "unknown_order"), ("x" * 500, 404, "unknown_order")],
)  # fmt: skip
def test_what_is_not_in_the_book_cannot_be_cancelled(
    market: HandMarket, operator: Client, order_id: str, status: int, code: str
) -> None:
    market.send("c-filled", "ALFA", "buy", market.specs["ALFA"].lot_size)
    answer = operator.post("/orders/cancel/", {"client_order_id": order_id}, headers=JSON)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_who_may_only_look_cannot_cancel(market: HandMarket) -> None:
    order_id, client = rests(market), signed_in("vera", VIEWER)

    assert 'class="cancel"' not in html(client, "/orders/")
    assert client.post("/orders/cancel/", {"client_order_id": order_id}, headers=JSON).status_code == 403
    assert client.get("/orders/cancel/", {"client_order_id": order_id}).status_code == 405
    assert visitor().post("/orders/cancel/", {"client_order_id": order_id}).status_code == 302
    assert signed_in("ola", OPERATOR, enforce_csrf_checks=True).post(
        "/orders/cancel/", {"client_order_id": order_id}
    ).status_code == 403  # fmt: skip
    assert market.one("SELECT status FROM exchange_order WHERE client_order_id = %s", order_id) == "resting"


# Exports


async def body_of(client: AsyncClient, path: str) -> tuple[Any, list[dict[str, str]]]:
    """The answer, and the lines of its CSV by column."""
    answer: Any = await client.get(path)
    assert answer.status_code == 200
    content = b"".join([part async for part in answer.streaming_content]).decode()
    answer.close()
    return answer, list(csv.DictReader(io.StringIO(content, newline=""), strict=True))


def let_go() -> None:
    connection.close()


@pytest.fixture
async def downloader(market: HandMarket) -> AsyncIterator[AsyncClient]:
    """It keeps no connection to a database that is dropped, in the thread where asynchronous code calls Django."""
    await sync_to_async(let_go)()
    client = AsyncClient()
    await client.aforce_login(await sync_to_async(user_of)("vera", VIEWER), backend=BACKEND)
    with override_settings(ALLOWED_HOSTS=["testserver"]):  # which this client of Django's adds to any other
        yield client
    await sync_to_async(let_go)()


async def test_an_export_of_fills_is_exactly_the_ledger(
    market: HandMarket, downloader: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("console.blotter.EXPORT_ROWS", 4)
    answer, lines = await body_of(downloader, "/fills/export.csv")

    assert re.fullmatch(r'attachment; filename="fills-\d{8}T\d{6}Z\.csv"', answer["Content-Disposition"])
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert list(lines[0]) == list(FILL_COLUMNS)
    assert len(lines) > 4
    kept = market.rows(
        "SELECT fill_id, filled_at, symbol, side, price, quantity, client_order_id, quantity_after, node, epoch,"
        "       cash_after + cost_after FROM ledger_fill ORDER BY xid DESC, activity_id DESC"
    )
    for line, row in zip(lines, kept, strict=True):
        assert line["filled_at"] == row[1].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        told = [line[name] for name in ("fill_id", "symbol", "side", "client_order_id", "node", "epoch")]
        assert told == [row[0], row[2], row[3], row[6], row[8], str(row[9])]
        amounts = [line[name] for name in ("price", "quantity", "position_after", "realised_pnl_after")]
        assert [Decimal(text) for text in amounts] == [row[4], row[5], row[7], row[10]]
        assert not any("E" in text for text in amounts), "no exponents"


async def test_an_export_of_orders_is_exactly_the_exchange(
    market: HandMarket, downloader: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("console.blotter.EXPORT_ROWS", 4)
    answer, lines = await body_of(downloader, "/orders/export.csv?symbol=ALFA")

    assert 'filename="orders-ALFA-' in answer["Content-Disposition"]
    assert list(lines[0]) == list(ORDER_COLUMNS)
    kept = market.rows(
        "SELECT client_order_id, status, price, quantity, filled_quantity, coalesce(reject_code, '')"
        "  FROM exchange_order WHERE symbol = 'ALFA' ORDER BY id DESC"
    )
    for line, row in zip(lines, kept, strict=True):
        assert (line["client_order_id"], line["status"], line["reject_code"]) == (row[0], row[1], row[5])
        assert (Decimal(line["price"]) if line["price"] else None) == row[2]
        assert [Decimal(line["quantity"]), Decimal(line["filled_quantity"])] == [row[3], row[4]]
        assert Decimal(line["remaining_quantity"]) == row[3] - row[4]


async def test_an_export_of_nothing_is_a_header(downloader: AsyncClient) -> None:
    answer: Any = await downloader.get("/fills/export.csv?symbol=NONE")

    assert [part async for part in answer.streaming_content if part] == [(",".join(FILL_COLUMNS) + "\r\n").encode()]


async def test_no_text_in_an_export_is_a_formula(market: HandMarket, downloader: AsyncClient) -> None:
    """The exchange takes no such id; the column would."""
    market.send("c-1", "ALFA", "buy", market.specs["ALFA"].lot_size)
    market.admin.execute(
        "UPDATE exchange_order SET client_order_id = %s WHERE client_order_id = 'c-1'", ['=HYPERLINK("http://x")']
    )
    _, lines = await body_of(downloader, "/orders/export.csv")

    assert lines[0]["client_order_id"] == '\'=HYPERLINK("http://x")'
    for first in "=+-@":
        answer = market.gateway.execute(
            "SELECT exchange_submit_order_v3(%s, 'ALFA', 'buy', 'market', 'IOC', NULL, 1)", [f"{first}1"]
        ).fetchone()
        assert answer == ({"error": "invalid_order_id"},)


def test_what_commits_while_an_export_is_read_neither_doubles_nor_hides_a_row(market: HandMarket) -> None:
    before = fills_newest_first(market)
    lines: list[str] = []

    def page(cursor: str | None) -> Listing:
        market.send(f"c-{len(lines)}-{cursor}", "ALFA", "buy", market.specs["ALFA"].lot_size)
        found = listing.fills(fills_asked(cursor), limit=2)
        lines.extend(row["fill_id"] for row in found.rows)
        return found

    asyncio.run(collect(Export(FILL_COLUMNS, page), []))

    assert len(lines) == len(set(lines))
    assert [line for line in lines if line in before] == before


async def collect(chunks: Export, into: list[bytes]) -> None:
    async for chunk in chunks:
        into.append(chunk)


def test_an_export_whose_database_goes_away_ends_with_an_error(
    market: HandMarket, caplog: pytest.LogCaptureFixture
) -> None:
    chunks: list[bytes] = []

    def page(cursor: str | None) -> Listing:
        if cursor is not None:
            provision.point_django_at("postgresql://nobody@127.0.0.1:9/none")
        return listing.fills(fills_asked(cursor), limit=2)

    try:
        with pytest.raises(OperationalError):
            asyncio.run(collect(Export(FILL_COLUMNS, page), chunks))
    finally:
        provision.point_django_at(market.database.url("console"))
    assert len(chunks) == 2, "the header and the page that there was"
    assert any("console_export_broken_off" in str(record.msg) for record in caplog.records)


def test_so_many_exports_at_once_and_no_more(viewer: Client) -> None:
    gc.collect()
    under_way = [Export(FILL_COLUMNS, lambda cursor: listing.fills(fills_asked(cursor))) for _ in range(EXPORTS_MAX)]
    for path in EXPORTS:
        refused = viewer.get(path)
        assert refused.status_code == 503
        assert refused["Retry-After"]
        assert "under way" in refused.content.decode()
        assert viewer.get(path, headers=JSON).json()["code"] == "busy"
        assert viewer.head(path).status_code == 200, "asked for no rows"

    under_way.pop().close()
    with pytest.raises(TooManyExports):
        [Export(FILL_COLUMNS, lambda cursor: listing.fills(fills_asked(cursor))) for _ in range(2)]
    gc.collect()
    answer = viewer.get(EXPORTS[0])
    assert answer.status_code == 200
    answer.close()
    under_way.clear()  # nobody has closed it: it is enough that nobody has it
    gc.collect()
    for _ in range(2 * EXPORTS_MAX):
        answer = viewer.get(EXPORTS[0])
        assert answer.status_code == 200
        answer.close()


def test_an_export_that_fails_at_once_gives_its_place_back(market: HandMarket) -> None:
    def page(_cursor: str | None) -> Listing:
        raise BadQuery("cursor", "invalid_cursor", "no cursor")

    for _ in range(EXPORTS_MAX + 1):
        with pytest.raises(BadQuery):
            Export(FILL_COLUMNS, page)
        gc.collect()
    assert export._slots._value == EXPORTS_MAX


def test_times_are_read_as_utc_or_with_their_zone() -> None:
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    for text in ("2026-01-31T12:00", "2026-01-31T12:00Z", "2026-01-31T13:00+01:00"):
        assert judged(Filter, {"from": text}).since == noon
