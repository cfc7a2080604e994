"""The reads: shapes of DESIGN section 8, order, paging, and logs that miss nothing."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from accounts.permissions import VIEWER
from tests.market import HandMarket
from tests.web.client import ApiClient, client_of

FIELDS = {
    "quotes": "symbol bid_price bid_quantity ask_price ask_quantity version epoch node published_at valid_until",
    "leases": "symbol node incarnation epoch granted_at expires_at",
    "leases/ALFA/history": "epoch node incarnation granted_at ended_at reason",
    "positions": "symbol quantity average_cost cash realised_pnl unrealised_pnl version updated_at",
    "fills": "fill_id symbol sequence side price quantity client_order_id quote_version epoch node filled_at",
    "nodes": "name incarnation state registered_at expires_at symbols",
    "assignments": "symbol node generation",
    "prices": "symbol price step at",
    "symbols": "symbol tick_size lot_size quoting_enabled position_limit half_spread_ticks skew_ticks quote_size",
    "activity": "id at kind symbol node data",
    "orders": "client_order_id symbol side type time_in_force price quantity status filled_quantity"
    " remaining_quantity average_price reject_code created_at updated_at",
}
DECIMALS = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
DECIMAL_FIELDS = re.compile(r".*(price|quantity|cost|cash|pnl|_size|_limit)$")


@pytest.mark.parametrize("path", FIELDS)
def test_each_list_has_exactly_the_fields_of_the_contract(
    standing_market: HandMarket, standing_api: ApiClient, path: str
) -> None:
    answer = standing_api.get(path)

    assert answer.status == 200
    assert set(answer.json) == {"items", "next"}
    assert answer.items, f"{path} lists something, or this shows nothing"
    for item in answer.items:
        assert list(item) == FIELDS[path].split()
        for name, value in item.items():
            if name.endswith("_at") or name in ("at", "valid_until"):
                assert value is None or TIME.fullmatch(value), (name, value)
            elif DECIMAL_FIELDS.fullmatch(name):
                assert value is None or DECIMALS.fullmatch(value), (name, value)


@pytest.mark.parametrize("path", FIELDS)
def test_a_viewer_reads_everything(standing_market: HandMarket, path: str) -> None:
    assert client_of("vera", VIEWER).get(path).status == 200


@pytest.mark.parametrize("path", FIELDS)
@pytest.mark.parametrize("limit", [1, 2])
def test_pages_put_together_are_the_whole_list(
    standing_market: HandMarket, standing_api: ApiClient, path: str, limit: int
) -> None:
    whole = standing_api.get(f"{path}?limit=10000").items

    assert standing_api.pages(path, limit) == whole


@pytest.mark.parametrize(
    "path", ["quotes", "leases", "positions", "fills", "assignments", "prices", "symbols", "activity", "orders"]
)
def test_a_list_can_be_narrowed_to_one_symbol(standing_market: HandMarket, standing_api: ApiClient, path: str) -> None:
    whole = standing_api.get(f"{path}?limit=10000").items
    wanted = [item for item in whole if item["symbol"] == "ALFA"]

    assert wanted
    assert standing_api.pages(f"{path}?symbol=ALFA", 2) == wanted
    assert standing_api.get(f"{path}?symbol=NOPE").items == []


@pytest.mark.parametrize(
    ("path", "field"),
    [("quotes", "published_at"), ("leases", "granted_at"), ("positions", "updated_at"), ("nodes", "registered_at")],
)
def test_state_comes_newest_first(standing_market: HandMarket, standing_api: ApiClient, path: str, field: str) -> None:
    times = [item[field] for item in standing_api.get(path).items]

    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize(("path", "field"), [("fills", "filled_at"), ("activity", "at")])
def test_a_log_comes_oldest_first(standing_market: HandMarket, standing_api: ApiClient, path: str, field: str) -> None:
    times = [item[field] for item in standing_api.get(path).items]

    assert times == sorted(times)


@pytest.mark.parametrize(("path", "id_field"), [("fills", "fill_id"), ("activity", "id")])
def test_a_log_resumes_after_the_last_item_seen(market: HandMarket, api: ApiClient, path: str, id_field: str) -> None:
    seen = api.get(path).items
    assert api.get(f"{path}?after={seen[-1][id_field]}").json == {"items": [], "next": None}

    market.send("c-later", "ALFA", "buy", market.specs["ALFA"].lot_size)
    market.send("c-rests", "BRAVO", "buy", market.specs["BRAVO"].lot_size, market.specs["BRAVO"].tick_size, "GTC")

    fresh = api.get(f"{path}?after={seen[-1][id_field]}").items
    assert fresh
    assert seen + fresh == api.get(path).items


def test_a_fill_still_uncommitted_holds_back_those_that_would_overtake_it(market: HandMarket, api: ApiClient) -> None:
    """A reader that saw the later transaction first would never come back for the earlier one."""
    before = api.get("fills").items
    lot = {name: spec.lot_size for name, spec in market.specs.items()}
    slow = market.database.connect("console")
    with slow.transaction():
        slow.execute("SELECT exchange_submit_order_v3('slow', 'ALFA', 'buy', 'market', 'IOC', NULL, %s)", [lot["ALFA"]])
        market.send("quick", "BRAVO", "buy", lot["BRAVO"])

        assert api.get("fills").items == before
        assert market.one("SELECT count(*) FROM ledger_fill WHERE client_order_id = 'quick'") == 1
        activity = api.get("activity?limit=10000").items
    after = api.get(f"fills?after={before[-1]['fill_id']}").items

    assert [fill["client_order_id"] for fill in after] == ["slow", "quick"]
    rest = api.get(f"activity?limit=10000&after={activity[-1]['id']}").items
    assert {entry["data"].get("client_order_id") for entry in rest} >= {"slow", "quick"}


def test_the_history_tells_each_tenure_and_how_it_ended(market: HandMarket, api: ApiClient) -> None:
    symbol = next(iter(market.nodes["node-2"].epochs))
    market.leave("node-2")
    market.rebalance("node-2 left")

    first, second = api.get(f"leases/{symbol}/history").items

    assert (first["epoch"], first["node"], first["reason"]) == (1, "node-2", "released")
    assert (second["epoch"], second["node"], second["ended_at"], second["reason"]) == (2, "node-1", None, None)
    assert second["granted_at"] >= first["ended_at"]
    assert api.get(f"leases/{symbol}/history?after=1").items == [second]


def test_nodes_are_active_draining_or_ended_with_what_they_hold(market: HandMarket, api: ApiClient) -> None:
    def states() -> dict[str, tuple[str, int]]:
        return {node["name"]: (node["state"], node["symbols"]) for node in api.get("nodes").items}

    assert states() == {"node-1": ("active", 2), "node-2": ("active", 1)}
    market.drain("node-1")
    assert states()["node-1"] == ("draining", 2)
    market.leave("node-2")
    assert states()["node-2"] == ("ended", 0)


def test_only_active_quotes_are_listed(market: HandMarket, api: ApiClient) -> None:
    assert {quote["symbol"] for quote in api.get("quotes").items} == {"ALFA", "BRAVO", "CHARLIE"}

    market.switch(False, "ALFA")
    market.admin.execute("UPDATE exchange_quote SET valid_until = clock_timestamp() WHERE symbol = 'BRAVO'")

    assert [quote["symbol"] for quote in api.get("quotes").items] == ["CHARLIE"]


def test_positions_are_what_the_fills_add_up_to(standing_market: HandMarket, standing_api: ApiClient) -> None:
    fills = standing_api.get("fills?symbol=ALFA").items
    (position,) = standing_api.get("positions?symbol=ALFA").items
    (price,) = standing_api.get("prices?symbol=ALFA").items
    signed = [Decimal(fill["quantity"]) * (1 if fill["side"] == "buy" else -1) for fill in fills]
    cash = -sum(quantity * Decimal(fill["price"]) for quantity, fill in zip(signed, fills, strict=True))

    assert Decimal(position["quantity"]) == sum(signed)
    assert Decimal(position["cash"]) == cash
    assert position["version"] == len(fills) == fills[-1]["sequence"]
    total = Decimal(position["realised_pnl"]) + Decimal(position["unrealised_pnl"])
    assert total == cash + sum(signed) * Decimal(price["price"])


def test_orders_can_be_narrowed_to_a_status(market: HandMarket, api: ApiClient) -> None:
    spec = market.specs["ALFA"]
    market.send("c-rests", "ALFA", "buy", spec.lot_size, spec.tick_size, "GTC")
    every = api.get("orders").items

    for status in ("filled", "resting", "cancelled", "rejected", "partially_filled"):
        assert api.get(f"orders?status={status}").items == [order for order in every if order["status"] == status]
    assert "c-rests" in {order["client_order_id"] for order in api.get("orders?status=resting").items}


def test_times_are_the_databases_in_utc(standing_market: HandMarket, standing_api: ApiClient) -> None:
    (row,) = standing_market.rows("SELECT published_at FROM exchange_quote WHERE symbol = 'ALFA'")
    (quote,) = standing_api.get("quotes?symbol=ALFA").items

    assert datetime.fromisoformat(quote["published_at"]) == row[0].astimezone(UTC)


def test_the_documentation_page_needs_nothing_from_elsewhere() -> None:
    stranger = ApiClient()
    page = stranger.get("/api/docs")
    html = page.raw.decode()
    policy = page.headers["Content-Security-Policy"]

    assert page.status == 200
    assert "unsafe-inline" not in policy
    assert "script-src 'self'" in policy
    assert not re.findall(r"https?://|//[a-z]", html)
    assert not re.findall(r"<script(?![^>]*(src=|application/json))|<style|\son[a-z]+=", html)
    for address in re.findall(r'(?:src|href)="([^"]+)"', html):
        assert address.startswith("/static/")
        served = stranger.http.get(address, headers={"host": "localhost"})
        served.close()
        assert served.status_code == 200, address


def test_the_openapi_document_lists_every_operation_of_the_contract() -> None:
    document: dict[str, Any] = ApiClient().get("/api/openapi.json").json
    operations = {(verb.upper(), path) for path, verbs in document["paths"].items() for verb in verbs}

    assert operations == {
        ("GET", f"/api/v1/{path}")
        for path in (
            "orders", "orders/{client_order_id}", "symbols", "prices", "quotes", "fills", "positions", "nodes",
            "assignments", "leases", "leases/{symbol}/history", "activity",
        )
    } | {
        ("POST", "/api/v1/orders"), ("POST", "/api/v1/orders/batch"),
        ("DELETE", "/api/v1/orders/{client_order_id}"), ("POST", "/api/v1/quoting"),
        ("POST", "/api/v1/symbols/{symbol}/quoting"), ("POST", "/api/v1/nodes/{name}/drain"),
    }  # fmt: skip
