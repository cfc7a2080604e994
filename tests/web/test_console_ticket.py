"""The order ticket: it sends what the API would take, says what came of it, and sends nothing twice."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from django.db import connections
from django.test import Client

from accounts.permissions import OPERATOR, VIEWER
from console import ticket
from exchange.errors import ORDER_REFUSALS
from exchange.schemas import OrderIn
from tests.market import HandMarket
from tests.web.client import signed_in, visitor

JSON = {"accept": "application/json"}
PATH = "/orders/new/"


def form(market: HandMarket, **others: str) -> dict[str, str]:
    """A limit order to buy one lot of ALFA at our ask, as the form sends it."""
    return {
        "client_order_id": "ui-1", "symbol": "ALFA", "side": "buy", "type": "limit", "time_in_force": "GTC",
        "price": str(market.best("ALFA")[1]), "quantity": str(market.specs["ALFA"].lot_size), **others,
    }  # fmt: skip


def sent(market: HandMarket) -> list[tuple[Any, ...]]:
    return market.rows(
        "SELECT client_order_id, symbol, side, type, time_in_force, price, quantity, status FROM exchange_order"
        " WHERE NOT starts_with(client_order_id, 'ext-') ORDER BY id"
    )


# Sending


def test_an_order_is_sent_and_its_result_told(
    market: HandMarket, operator: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    order = form(market)
    answer = operator.post(PATH, order, headers=JSON)

    said = answer.json()
    assert answer.status_code == 200
    assert said["order"]["status"] == "filled"
    assert said["text"].startswith("Bought ")
    assert Decimal(said["order"]["fills"][0]["price"]) == Decimal(order["price"])
    assert sent(market) == [
        ("ui-1", "ALFA", "buy", "limit", "GTC", Decimal(order["price"]), Decimal(order["quantity"]), "filled")
    ]
    noted = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    told = {event["event"]: (event["username"], event["client_order_id"]) for event in noted if "username" in event}
    assert told == {"console_order": ("ola", "ui-1"), "console_order_answered": ("ola", "ui-1")}


def test_each_kind_of_result_is_told_in_words(market: HandMarket, operator: Client) -> None:
    bid, ask = market.best("ALFA")
    huge = str(market.specs["ALFA"].lot_size * 10_000_000)
    far = str(market.specs["ALFA"].tick_size)
    for number, (others, status, words) in enumerate(
        [
            ({"price": far}, "resting", "is in the book. Nothing has traded yet."),
            ({"price": far, "time_in_force": "IOC"}, "cancelled", "Nothing traded"),
            ({"quantity": huge, "time_in_force": "FOK", "price": str(ask)}, "rejected", "could not be filled in full"),
            ({"quantity": huge, "time_in_force": "IOC", "price": str(ask)}, "cancelled", "could not trade at once"),
            ({"quantity": huge, "side": "sell", "price": str(bid)}, "partially_filled", "wait in the book"),
            ({"type": "market", "time_in_force": "IOC", "price": "", "side": "sell", "symbol": "bravo",
              "quantity": str(market.specs["BRAVO"].lot_size)}, "filled", "Sold "),
        ]
    ):  # fmt: skip
        answer = operator.post(PATH, form(market, client_order_id=f"ui-{number}", **others), headers=JSON).json()
        assert (answer["order"]["status"], words in answer["text"]) == (status, True), answer
        assert "None" not in answer["text"]


def test_a_market_without_a_quote_is_told_in_words(market: HandMarket, operator: Client) -> None:
    market.switch(False)
    order = form(market, price="1") | {"type": "market", "time_in_force": "IOC", "price": ""}
    answer = operator.post(PATH, order, headers=JSON).json()

    assert answer["order"]["reject_code"] == "no_liquidity"
    assert answer["text"] == "Rejected: nothing to trade with. Nothing traded."


def test_the_same_ticket_is_one_order_however_often_it_is_sent(market: HandMarket, operator: Client) -> None:
    order = form(market)
    answers = [operator.post(PATH, order, headers=JSON).json() for _ in range(3)]

    assert answers[0] == answers[1] == answers[2]
    assert len(sent(market)) == 1


def test_a_double_click_is_one_order(market: HandMarket) -> None:
    clients = [signed_in("ola", OPERATOR) for _ in range(4)]
    order = form(market)

    def click(client: Client) -> Any:
        try:
            return client.post(PATH, order, headers=JSON).json()
        finally:
            connections["default"].close()

    with ThreadPoolExecutor(len(clients)) as pool:
        answers = list(pool.map(click, clients))

    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["order"]["status"] == "filled"
    assert len(sent(market)) == 1
    assert market.one("SELECT count(*) FROM ledger_fill WHERE client_order_id = 'ui-1'") == 1


def test_another_order_with_a_used_ticket_is_refused(market: HandMarket, operator: Client) -> None:
    operator.post(PATH, form(market), headers=JSON)
    answer = operator.post(PATH, form(market, side="sell"), headers=JSON)

    assert (answer.status_code, answer.json()["code"]) == (409, "duplicate_client_order_id")
    assert list(answer.json()["fields"]) == ["client_order_id"]
    assert len(sent(market)) == 1


# Refusals


@pytest.mark.parametrize(
    ("others", "code", "fields"),
    [
        ({"client_order_id": ""}, "invalid_order_id", ["client_order_id"]),
        ({"client_order_id": "=1+1"}, "invalid_order_id", ["client_order_id"]),
        ({"client_order_id": "ext-1"}, "invalid_order_id", ["client_order_id"]),
        ({"symbol": ""}, "unknown_symbol", ["symbol"]),
        ({"symbol": "NONE"}, "unknown_symbol", ["symbol"]),
        ({"symbol": "a\0b"}, "unknown_symbol", ["symbol"]),
        ({"side": ""}, "invalid_side", ["side"]),
        ({"side": "both"}, "invalid_side", ["side"]),
        ({"type": "stop"}, "invalid_type", ["type"]),
        ({"time_in_force": "DAY"}, "invalid_time_in_force", ["time_in_force"]),
        ({"type": "market", "price": ""}, "invalid_time_in_force", ["time_in_force"]),
        ({"price": ""}, "invalid_price", ["price"]),
        ({"price": "0"}, "invalid_price", ["price"]),
        ({"price": "1,000"}, "invalid_price", ["price"]),
        ({"price": "NaN"}, "invalid_price", ["price"]),
        ({"price": "1e3"}, "invalid_price", ["price"]),
        ({"price": "0." + "1" * 200}, "invalid_price", ["price"]),
        ({"quantity": ""}, "invalid_quantity", ["quantity"]),
        ({"quantity": "-1"}, "invalid_quantity", ["quantity"]),
        ({"quantity": "9" * 40}, "invalid_quantity", ["quantity"]),
        ({"price": "x", "quantity": "y", "side": "z"}, "invalid_side", ["side", "price", "quantity"]),
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_what_the_api_would_refuse_is_refused_and_sends_nothing(
    market: HandMarket, operator: Client, others: dict[str, str], code: str, fields: list[str], accept: str
) -> None:
    answer = operator.post(PATH, form(market, **others), headers={"accept": accept})

    assert answer.status_code == 422
    assert sent(market) == []
    if accept == "application/json":
        assert answer.json()["code"] == code
        assert list(answer.json()["fields"]) == fields
        assert answer.json()["detail"]
    else:
        page = answer.content.decode()
        for name in fields:
            told = re.search(rf'data-error="{name}">([^<]+)<', page)
            assert told, name


def test_off_tick_and_off_lot_name_the_grid(market: HandMarket, operator: Client) -> None:
    tick, lot = market.specs["ALFA"].tick_size.normalize(), market.specs["ALFA"].lot_size.normalize()
    for others, code, words in [
        ({"price": str(market.best("ALFA")[1] + tick / 2)}, "off_tick", f"a multiple of {tick:f}."),
        ({"quantity": str(lot / 2)}, "off_lot", f"a multiple of {lot:f}."),
    ]:
        answer = operator.post(PATH, form(market, **others), headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (422, code)
        assert words in answer.json()["detail"]
    assert sent(market) == []


def test_every_refusal_and_every_field_has_its_words() -> None:
    assert set(ticket._REFUSED) == set(ORDER_REFUSALS)
    assert set(ticket._INVALID) == set(OrderIn.model_fields) == set(ticket.FIELDS)
    assert {name for name, _ in ticket._REFUSED.values()} <= set(ticket.FIELDS)


def test_unknown_fields_are_not_sent_on(market: HandMarket, operator: Client) -> None:
    assert operator.post(PATH, form(market, step="3"), headers=JSON).status_code == 200
    assert market.one("SELECT step FROM exchange_order WHERE client_order_id = 'ui-1'") is None


# Who may


def test_the_ticket_is_there_for_who_may_send(standing_market: HandMarket) -> None:
    page = signed_in("ola", OPERATOR).get("/orders/").content.decode()
    made = re.search(r'name="client_order_id" value="(ui-[0-9a-f]{32})"', page)
    assert made
    assert made[1] not in signed_in("ola", OPERATOR).get("/orders/").content.decode(), (
        "each page has a ticket of its own"
    )

    assert 'id="ticket"' not in signed_in("vera", VIEWER).get("/orders/").content.decode()


def test_sending_needs_login_permission_and_the_pages_token(market: HandMarket) -> None:
    order = form(market)

    assert visitor().post(PATH, order).status_code == 302
    for accept in ("application/json", "text/html"):
        assert signed_in("vera", VIEWER).post(PATH, order, headers={"accept": accept}).status_code == 403
    client = signed_in("ola", OPERATOR, enforce_csrf_checks=True)
    assert client.post(PATH, order).status_code == 403
    assert client.get(PATH, order).status_code == 405
    assert sent(market) == []

    client.get("/orders/")
    token = client.cookies[next(name for name in client.cookies if "csrf" in name)].value
    assert client.post(PATH, order, headers={"X-CSRFToken": token, **JSON}).status_code == 200
    assert len(sent(market)) == 1


def test_without_a_database_the_outcome_is_unknown_and_the_page_is_told_503(
    market: HandMarket, operator: Client, unreachable: Callable[[], None]
) -> None:
    order = form(market)
    unreachable()
    answer = operator.post(PATH, order, headers=JSON)

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


# Without a script


def test_a_plain_form_goes_on_to_its_order(market: HandMarket, operator: Client) -> None:
    answer = operator.post(PATH, form(market))

    assert (answer.status_code, answer["Location"]) == (302, "/orders/?q=ui-1")
    page = operator.get(answer["Location"]).content.decode()
    assert 'data-order="ui-1"' in page
    assert "<details open>" in page, "its fills are shown"


def test_a_plain_form_that_is_refused_is_shown_again_as_it_was(market: HandMarket, operator: Client) -> None:
    answer = operator.post(PATH, form(market, quantity="<b>", side="sell", time_in_force="IOC"))
    page = answer.content.decode()

    assert answer.status_code == 422
    for kept in ('value="&lt;b&gt;"', 'value="sell" checked', 'value="IOC" selected', 'value="ui-1"', 'value="ALFA"'):
        assert kept in page
    assert "<b>" not in page


def test_a_used_ticket_that_is_shown_again_has_a_new_id(market: HandMarket, operator: Client) -> None:
    operator.post(PATH, form(market))
    answer = operator.post(PATH, form(market, side="sell"))

    assert answer.status_code == 409
    assert re.search(r'name="client_order_id" value="ui-[0-9a-f]{32}"', answer.content.decode())
