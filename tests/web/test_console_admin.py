"""The admin: everything can be read; nothing changed there but a symbol's quoting parameters, audited."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.permissions import ADMIN, OPERATOR
from tests.market import HandMarket
from tests.web.client import BACKEND, HOST, user_of

DOMAIN = ("journal", "ledger", "exchange", "authority")
MODELS = [model for app in DOMAIN for model in apps.get_app_config(app).get_models()]
PARAMETERS = {"half_spread_ticks": "3", "skew_ticks": "4", "quote_size": "200", "position_limit": "5000"}


def staff(group: str = ADMIN, *, superuser: bool = False) -> Client:
    user = user_of("root" if superuser else f"staff-{group}", group)
    User.objects.filter(pk=user.pk).update(is_staff=True, is_superuser=superuser)
    client = Client(headers={"host": HOST})
    client.force_login(user, backend=BACKEND)
    return client


def address(model: type[Model], *parts: object) -> str:
    meta = model._meta
    return "/".join(["/admin", meta.app_label, str(meta.model_name), *map(str, parts), ""])


def content_of(market: HandMarket, model: type[Model]) -> Any:
    return market.one(f"SELECT jsonb_agg(t ORDER BY t::text) FROM {model._meta.db_table} t")


@pytest.fixture
def rows(standing_market: HandMarket) -> HandMarket:
    """The market with at least one row in every table."""
    market = standing_market
    if not market.one("SELECT EXISTS (SELECT FROM authority_refusal)"):
        market.drain("node-2", reason="test")
        market.drain("node-2", False)
        node = market.nodes["node-1"]
        market.quote(node, sorted(market.nodes["node-2"].epochs))
    if not market.one("SELECT EXISTS (SELECT FROM exchange_trade)"):
        ask = market.best("ALFA")[1]
        spec = market.specs["ALFA"]
        market.send("maker", "ALFA", "sell", spec.lot_size, ask - spec.tick_size, "GTC")
        market.send("taker", "ALFA", "buy", spec.lot_size, ask - spec.tick_size)
    if not market.one("SELECT EXISTS (SELECT FROM exchange_retention)"):
        market.admin.execute("INSERT INTO exchange_retention VALUES ('ALFA', 0, clock_timestamp())")
    return market


def test_every_table_of_the_market_is_there() -> None:
    assert {model for model in MODELS if model not in admin.site._registry} == set()
    assert len(MODELS) == 19


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_every_list_and_every_row_can_be_read(rows: HandMarket, model: type[Model]) -> None:
    client = staff()
    row = model._default_manager.first()
    assert row is not None, "there is one to show"

    assert client.get(address(model)).status_code == 200
    detail = client.get(address(model, row.pk, "change"))

    assert detail.status_code == 200
    assert client.get(address(model), {"q": "ALFA"}).status_code == 200
    assert client.get(address(model), {"q": "a\0' %"}).status_code == 200


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_no_list_counts_a_table_without_a_limit(rows: HandMarket, model: type[Model]) -> None:
    client = staff()
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert client.get(address(model)).status_code == 200

    counts = [query["sql"] for query in captured.captured_queries if "COUNT(" in query["sql"].upper()]
    assert counts
    assert all("LIMIT" in sql for sql in counts), counts


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_nothing_can_be_added_changed_or_deleted_even_by_a_superuser(rows: HandMarket, model: type[Model]) -> None:
    client = staff(superuser=True)
    row = model._default_manager.first()
    assert row is not None
    before = content_of(rows, model)
    fields = {field.name: str(getattr(row, field.name)) + "1" for field in model._meta.fields}

    if model._meta.label != "exchange.Symbol":
        assert client.post(address(model, row.pk, "change"), fields).status_code == 403
    assert client.post(address(model, row.pk, "delete"), {"post": "yes"}).status_code == 403
    assert client.post(address(model, "add"), fields).status_code == 403
    many = client.post(address(model), {"action": "delete_selected", "_selected_action": str(row.pk), "post": "yes"})
    assert many.status_code in (200, 302, 403)

    assert content_of(rows, model) == before


def test_the_policy_is_relaxed_for_the_theme_and_no_further(rows: HandMarket) -> None:
    policy = staff().get("/admin/")["Content-Security-Policy"]
    directives = {name: values for name, *values in (part.split() for part in policy.split(";"))}

    assert sorted(directives["script-src"]) == ["'self'", "'unsafe-eval'"]
    assert sorted(directives["style-src"]) == ["'self'", "'unsafe-inline'"]
    assert directives["frame-ancestors"] == directives["default-src"] == ["'none'"]


def test_filters_and_decimals(rows: HandMarket) -> None:
    sides = dict(rows.rows("SELECT fill_id, symbol || side FROM ledger_fill"))
    page = staff().get("/admin/ledger/fill/", {"symbol": "ALFA", "side": "sell"}).content.decode()

    assert "ALFAsell" in sides.values()
    for fill_id, side in sides.items():
        assert (fill_id in page) == (side == "ALFAsell"), fill_id
    assert not re.search(r"[0-9]\.[0-9]*0{6}", page), "decimals without padding"


# Parameters


def change(client: Client, market: HandMarket, **fields: str) -> Any:
    return client.post("/admin/exchange/symbol/ALFA/change/", {**PARAMETERS, "reason": "", **fields})


def parameters(market: HandMarket) -> dict[str, str]:
    (row,) = market.rows(
        "SELECT half_spread_ticks, skew_ticks, quote_size, position_limit FROM exchange_symbol WHERE name = 'ALFA'"
    )
    return dict(zip(PARAMETERS, map(str, row), strict=True))


def test_a_parameters_edit_is_saved_and_audited_with_only_what_changed(market: HandMarket) -> None:
    before = parameters(market)
    answer = change(staff(), market, **{**before, "half_spread_ticks": "9", "reason": "wider"})

    assert answer.status_code == 302, answer.content.decode()
    assert parameters(market) == {**before, "half_spread_ticks": "9"}
    assert market.rows("SELECT actor, action, target, before, after, reason FROM journal_audit") == [
        (
            f"staff-{ADMIN}",
            "parameters",
            "ALFA",
            {"half_spread_ticks": int(before["half_spread_ticks"])},
            {"half_spread_ticks": 9},
            "wider",
        )
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"half_spread_ticks": "0"},
        {"half_spread_ticks": "x"},
        {"half_spread_ticks": "99999999999999999999"},
        {"skew_ticks": "-1"},
        {"quote_size": "0"},
        {"quote_size": "0.000001"},
        {"quote_size": "NaN"},
        {"position_limit": "-5"},
        {"position_limit": ""},
        {"position_limit": "1e30"},
    ],
    ids=json.dumps,
)
def test_a_wrong_parameter_is_an_error_of_the_form(market: HandMarket, wrong: dict[str, str]) -> None:
    before = parameters(market)
    answer = change(staff(), market, **{**before, **wrong})

    assert answer.status_code == 200
    assert "error" in answer.content.decode()
    assert parameters(market) == before
    assert market.rows("SELECT 1 FROM journal_audit") == []


def test_nothing_but_the_parameters_can_be_edited(market: HandMarket) -> None:
    rest = "SELECT name, tick_size, lot_size, seed_price, orders_per_step FROM exchange_symbol ORDER BY name"
    before = market.rows(rest)
    others = {"tick_size": "7", "lot_size": "7", "seed_price": "7", "name": "HACK", "orders_per_step": "7"}

    change(staff(superuser=True), market, **others)

    assert market.rows(rest) == before
    assert parameters(market) == PARAMETERS, "what may be edited was"


def test_an_edit_of_nothing_leaves_no_trace(market: HandMarket) -> None:
    assert change(staff(), market, **parameters(market)).status_code == 302
    assert market.rows("SELECT 1 FROM journal_audit") == []


def test_an_edit_needs_the_permission(market: HandMarket) -> None:
    before = parameters(market)
    client = staff(OPERATOR)

    assert change(client, market).status_code == 403
    assert parameters(market) == before
