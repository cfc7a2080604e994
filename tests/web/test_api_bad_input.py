"""Whatever is sent, the answer is a 4xx with a code, and nothing has changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from accounts.permissions import ADMIN
from tests.market import HandMarket
from tests.web.client import BACKEND, HOST, Answer, ApiClient, user_of

GOOD = {
    "client_order_id": "bad-input", "symbol": "ALFA", "side": "buy", "type": "limit", "time_in_force": "IOC",
    "price": "100.25", "quantity": "1",
}  # fmt: skip
ABSENT = object()


def raw(**changes: str) -> bytes:
    """The good order with some values replaced by literal JSON text."""
    fields = {name: json.dumps(value) for name, value in GOOD.items()} | changes
    return ("{" + ", ".join(f'"{name}": {text}' for name, text in fields.items()) + "}").encode()


def changed(**changes: Any) -> dict[str, Any]:
    """The good order with some values replaced, or left out."""
    return {name: value for name, value in {**GOOD, **changes}.items() if value is not ABSENT}


# what it is: (body, status, code)
ORDERS: dict[str, tuple[Any, int, str]] = {
    # Not JSON, or not an object
    "no body": (b"", 400, "malformed_request"),
    "only spaces": (b"   ", 400, "malformed_json"),
    "not JSON": (b"price=1", 400, "malformed_json"),
    "half a document": (raw()[:-1], 400, "malformed_json"),
    "two documents": (raw() + raw(), 400, "malformed_json"),
    "a trailing comma": (raw()[:-1] + b",}", 400, "malformed_json"),
    "a comment": (raw() + b" // please", 400, "malformed_json"),
    "single quotes": (b"{'symbol': 'ALFA'}", 400, "malformed_json"),
    "an array": (b"[" + raw() + b"]", 400, "malformed_request"),
    "null": (b"null", 400, "malformed_request"),
    "a string": (b'"order"', 400, "malformed_request"),
    "a number": (b"7", 400, "malformed_request"),
    "true": (b"true", 400, "malformed_request"),
    "UTF-16": (raw().decode().encode("utf-16"), 400, "malformed_json"),
    "a byte order mark": (b"\xef\xbb\xbf" + raw(), 400, "malformed_json"),
    "bad UTF-8": (raw(client_order_id='"\xff"').decode().encode("latin-1"), 400, "malformed_json"),
    "a literal NUL": (raw().replace(b"bad-input", b"bad\x00input"), 400, "malformed_json"),
    "a field twice": (raw()[:-1] + b', "quantity": "2"}', 400, "malformed_json"),
    "an array nested 10,000 deep": (raw(price="[" * 10_000 + "]" * 10_000), 400, "malformed_json"),
    "an object nested 5,000 deep": (raw(price='{"a":' * 5_000 + "1" + "}" * 5_000), 400, "malformed_json"),
    "a body of 2 MB": (raw(symbol='"' + "A" * 2_000_000 + '"'), 400, "body_too_large"),
    "a body of 600 kB": (raw(symbol='"' + "A" * 600_000 + '"'), 400, "body_too_large"),
    # Numbers that JSON does not have, or that nothing can hold
    "NaN": (raw(price="NaN"), 400, "malformed_json"),
    "Infinity": (raw(quantity="Infinity"), 400, "malformed_json"),
    "-Infinity": (raw(quantity="-Infinity"), 400, "malformed_json"),
    "a number of 5,000 digits": (raw(quantity="1" * 5_000), 400, "malformed_json"),
    "an exponent of 20 digits": (raw(price="1e99999999999999999999"), 400, "malformed_json"),
    "1e400": (raw(price="1e400"), 422, "invalid_price"),
    "1e400 of quantity": (raw(quantity="1e400"), 422, "invalid_quantity"),
    "1e999999": (raw(quantity="1e999999"), 422, "invalid_quantity"),
    "1e-400": (raw(price="1e-400"), 422, "invalid_price"),
    "a leading zero": (raw(price="0100"), 400, "malformed_json"),
    "a leading plus": (raw(price="+1"), 400, "malformed_json"),
    "a hexadecimal number": (raw(price="0x10"), 400, "malformed_json"),
    # Prices
    "the text NaN": (changed(price="NaN"), 422, "invalid_price"),
    "the text sNaN": (changed(price="sNaN"), 422, "invalid_price"),
    "the text Infinity": (changed(price="Infinity"), 422, "invalid_price"),
    "the text 1e2": (changed(price="1e2"), 422, "invalid_price"),
    "a price of nothing": (changed(price=""), 422, "invalid_price"),
    "a price in words": (changed(price="a lot"), 422, "invalid_price"),
    "a price with a space": (changed(price=" 100.25"), 422, "invalid_price"),
    "a price with a line end": (changed(price="100.25\n"), 422, "invalid_price"),
    "a price with a comma": (changed(price="100,25"), 422, "invalid_price"),
    "a price with an underscore": (changed(price="1_00"), 422, "invalid_price"),
    "a price with a NUL": (changed(price="100\x00"), 422, "invalid_price"),
    "a price in Arabic digits": (changed(price="\u0661\u0660\u0660"), 422, "invalid_price"),
    "a price of true": (changed(price=True), 422, "invalid_price"),
    "a price in an array": (changed(price=["100.25"]), 422, "invalid_price"),
    "a price in an object": (changed(price={"value": "1"}), 422, "invalid_price"),
    "a negative price": (changed(price="-100.25"), 422, "invalid_price"),
    "a price of zero": (changed(price="0"), 422, "invalid_price"),
    "a price of minus zero": (changed(price="-0.00"), 422, "invalid_price"),
    "a price of 10^15": (changed(price="1000000000000000"), 422, "invalid_price"),
    "a price of 50 digits": (changed(price="1" * 50), 422, "invalid_price"),
    "a limit order without a price": (changed(price=ABSENT), 422, "invalid_price"),
    "a limit order with a null price": (changed(price=None), 422, "invalid_price"),
    "a market order with a price": (changed(type="market"), 422, "invalid_price"),
    "off tick": (changed(price="100.255"), 422, "off_tick"),
    "off tick by a hair": (changed(price="100.2500000000000000000000001"), 422, "off_tick"),
    # Quantities
    "a quantity of zero": (changed(quantity="0"), 422, "invalid_quantity"),
    "a negative quantity": (changed(quantity="-1"), 422, "invalid_quantity"),
    "a quantity of null": (changed(quantity=None), 422, "invalid_quantity"),
    "a quantity of false": (changed(quantity=False), 422, "invalid_quantity"),
    "a quantity of 10^15": (changed(quantity="1000000000000000"), 422, "invalid_quantity"),
    "off lot": (changed(quantity="1.5"), 422, "off_lot"),
    "a quantity with 40 decimals": (changed(quantity="1." + "0" * 39 + "1"), 422, "off_lot"),
    # Symbols
    "an unknown symbol": (changed(symbol="NOPE"), 422, "unknown_symbol"),
    "a symbol in small letters": (changed(symbol="alfa"), 422, "unknown_symbol"),
    "a symbol with a NUL": (changed(symbol="ALFA\x00"), 422, "unknown_symbol"),
    "a symbol that is no text": (raw(symbol='"\\ud800"'), 422, "invalid_symbol"),
    "an empty symbol": (changed(symbol=""), 422, "invalid_symbol"),
    "a long symbol": (changed(symbol="A" * 17), 422, "invalid_symbol"),
    "a symbol that is a number": (changed(symbol=1), 422, "invalid_symbol"),
    "SQL for a symbol": (changed(symbol="'; DROP TABLE--"), 422, "unknown_symbol"),
    # Order ids
    "an empty id": (changed(client_order_id=""), 422, "invalid_order_id"),
    "a long id": (changed(client_order_id="x" * 65), 422, "invalid_order_id"),
    "an id of the generated flow": (changed(client_order_id="ext-ALFA-000009999-0"), 422, "invalid_order_id"),
    "an id of 50,000 characters": (changed(client_order_id="x" * 50_000), 422, "invalid_order_id"),
    "an id with a space": (changed(client_order_id="a b"), 422, "invalid_order_id"),
    "an id with a line end": (changed(client_order_id="a\n"), 422, "invalid_order_id"),
    "an id with a NUL": (changed(client_order_id="a\x00b"), 422, "invalid_order_id"),
    "an id with half a surrogate pair": (raw(client_order_id='"a\\udc00"'), 422, "invalid_order_id"),
    "an id beyond ASCII": (changed(client_order_id="ordré"), 422, "invalid_order_id"),
    "an id with a slash": (changed(client_order_id="a/b"), 422, "invalid_order_id"),
    "an id that is a number": (changed(client_order_id=1), 422, "invalid_order_id"),
    "an id of null": (changed(client_order_id=None), 422, "invalid_order_id"),
    # Choices
    "an unknown side": (changed(side="hold"), 422, "invalid_side"),
    "a side in capitals": (changed(side="BUY"), 422, "invalid_side"),
    "a side that is a boolean": (changed(side=True), 422, "invalid_side"),
    "an unknown type": (changed(type="stop"), 422, "invalid_type"),
    "an unknown time in force": (changed(time_in_force="DAY"), 422, "invalid_time_in_force"),
    "a time in force of null": (changed(time_in_force=None), 422, "invalid_time_in_force"),
    "a market order that would rest": (
        changed(type="market", price=None, time_in_force="GTC"), 422, "invalid_time_in_force",
    ),
    # Fields
    "nothing": ({}, 422, "missing_field"),
    "no id": (changed(client_order_id=ABSENT), 422, "missing_field"),
    "no symbol": (changed(symbol=ABSENT), 422, "missing_field"),
    "no side": (changed(side=ABSENT), 422, "missing_field"),
    "no type": (changed(type=ABSENT), 422, "missing_field"),
    "no time in force": (changed(time_in_force=ABSENT), 422, "missing_field"),
    "no quantity": (changed(quantity=ABSENT), 422, "missing_field"),
    "a field too many": (changed(stop_price="1"), 422, "unknown_field"),
    "a field with a strange name": (changed(**{"\x00" * 100: "1"}), 422, "unknown_field"),
    "the step of a generated order": (changed(step=1), 422, "unknown_field"),
    "a prototype": (changed(__proto__={}), 422, "unknown_field"),
}  # fmt: skip

# what it is: (method, path, body, status, code)
OTHERS: dict[str, tuple[str, str, Any, int, str]] = {
    **{
        f"{method} {path}": (method, path, {}, 405, "method_not_allowed")
        for method, path in [
            ("PUT", "orders"), ("PATCH", "orders"), ("DELETE", "orders"), ("OPTIONS", "orders"), ("TRACE", "orders"),
            ("PURGE", "orders"), ("POST", "orders/x"), ("PUT", "orders/x"), ("POST", "quotes"), ("DELETE", "fills"),
            ("POST", "fills"), ("PUT", "positions"), ("GET", "quoting"), ("DELETE", "symbols/ALFA/quoting"),
            ("GET", "nodes/node-1/drain"), ("POST", "/api/openapi.json"), ("POST", "/api/docs"),
        ]
    },
    **{
        f"no such path {path[:40]!r}": ("GET", path, None, 404, "not_found")
        for path in [
            "/api/", "/api/v1", "/api/v1/", "/api/v2/orders", "order", "orders/", "orders/x/", "orders/a%2Fb",
            "leases/ALFA", "leases/ALFA/history/", "%00", "..%2f..%2fetc/passwd", "%ff%fe", "x" * 3_000,
        ]
    },
    **{
        f"the query {query[:40]!r}": ("GET", query, None, 422, code)
        for query, code in [
            ("orders?limit=0", "invalid_limit"), ("orders?limit=-1", "invalid_limit"),
            ("orders?limit=10001", "invalid_limit"), ("orders?limit=1e3", "invalid_limit"),
            ("orders?limit=1.5", "invalid_limit"), ("orders?limit=", "invalid_limit"),
            ("orders?limit=ten", "invalid_limit"), ("orders?limit=" + "9" * 5_000, "invalid_limit"),
            ("orders?limit=%00", "invalid_limit"), ("orders?limit=NaN", "invalid_limit"),
            ("orders?limit=1&limit=2", "invalid_query"), ("orders?limt=5", "unknown_parameter"),
            ("orders?cursor=", "invalid_cursor"), ("orders?cursor=abc", "invalid_cursor"),
            ("orders?cursor=-1", "invalid_cursor"), ("orders?cursor=99999999999999999999", "invalid_cursor"),
            ("orders?cursor=%00", "invalid_cursor"), ("orders?cursor=" + "1" * 500, "invalid_cursor"),
            ("orders?after=1", "unknown_parameter"), ("orders?status=open", "invalid_status"),
            ("orders?symbol=alfa", "invalid_symbol"), ("orders?symbol=%00", "invalid_symbol"),
            ("orders?symbol=ALFA%0A", "invalid_symbol"), ("orders?symbol=%ED%A0%80", "invalid_symbol"),
            ("quotes?cursor=x~ALFA", "invalid_cursor"), ("quotes?cursor=1~", "invalid_cursor"),
            ("quotes?cursor=1~A%27--", "invalid_cursor"), ("quotes?cursor=9999999999999999999~A", "invalid_cursor"),
            ("quotes?cursor=%D9%A1~ALFA", "invalid_cursor"), ("leases?cursor=1", "invalid_cursor"),
            ("fills?after=ALFA-000000999999", "invalid_cursor"), ("fills?after=ALFA", "invalid_cursor"),
            ("fills?cursor=%00", "invalid_cursor"), ("fills?after=ALFA-1&cursor=ALFA-1", "invalid_cursor"),
            ("activity?after=1", "invalid_cursor"), ("activity?after=1-", "invalid_cursor"),
            ("activity?after=-1-1", "invalid_cursor"), ("activity?after=1-99999999999999999999", "invalid_cursor"),
            ("activity?after=18446744073709551616-1", "invalid_cursor"), ("activity?after=1-1%00", "invalid_cursor"),
            ("leases/ALFA/history?after=x", "invalid_cursor"), ("nodes?symbol=ALFA", "unknown_parameter"),
            ("symbols?%00=1", "unknown_parameter"),
        ]
    },
    "an unknown order": ("GET", "orders/none", None, 404, "unknown_order"),
    "cancelling an unknown order": ("DELETE", "orders/none", None, 404, "unknown_order"),
    "cancelling a strange id": ("DELETE", "orders/%00", None, 404, "unknown_order"),
    "the history of an unknown symbol": ("GET", "leases/NOPE/history", None, 404, "unknown_symbol"),
    "the history of a NUL": ("GET", "leases/%00/history", None, 404, "unknown_symbol"),
    "a switch without a word": ("POST", "quoting", b"", 400, "malformed_request"),
    "a switch without enabled": ("POST", "quoting", {}, 422, "missing_field"),
    "a switch that is a text": ("POST", "quoting", {"enabled": "true"}, 422, "invalid_enabled"),
    "a switch that is a number": ("POST", "quoting", {"enabled": 0}, 422, "invalid_enabled"),
    "a switch that is null": ("POST", "quoting", {"enabled": None}, 422, "invalid_enabled"),
    "a switch with a symbol": ("POST", "quoting", {"enabled": False, "symbol": "ALFA"}, 422, "unknown_field"),
    "a reason that is a number": ("POST", "quoting", {"enabled": False, "reason": 5}, 422, "invalid_reason"),
    "a reason with a NUL": ("POST", "quoting", {"enabled": False, "reason": "\x00"}, 422, "invalid_reason"),
    "a long reason": ("POST", "quoting", {"enabled": False, "reason": "x" * 501}, 422, "invalid_reason"),
    "a reason of half a pair": ("POST", "quoting", b'{"enabled": false, "reason": "\\ud83d"}', 422, "invalid_reason"),
    "an unknown symbol's switch": ("POST", "symbols/NOPE/quoting", {"enabled": False}, 404, "unknown_symbol"),
    "a NUL's switch": ("POST", "symbols/%00/quoting", {"enabled": False}, 404, "unknown_symbol"),
    "a symbol's switch gone wrong": ("POST", "symbols/ALFA/quoting", {"enabled": 1}, 422, "invalid_enabled"),
    "draining an unknown node": ("POST", "nodes/none/drain", {}, 404, "unknown_node"),
    "draining a NUL": ("POST", "nodes/%00/drain", {}, 404, "unknown_node"),
    "draining with a text": ("POST", "nodes/node-1/drain", {"draining": "yes"}, 422, "invalid_draining"),
    "draining with a field too many": ("POST", "nodes/node-1/drain", {"force": True}, 422, "unknown_field"),
    "draining with broken JSON": ("POST", "nodes/node-1/drain", b"{", 400, "malformed_json"),
}  # fmt: skip

TABLES = (
    "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
    " AND table_name ~ '^(journal|ledger|exchange|authority)_' ORDER BY 1"
)


def checksums(market: HandMarket) -> dict[str, str]:
    """One digest for each table of the domain."""
    names = [name for (name,) in market.rows(TABLES)]
    assert len(names) >= 15, names
    return {
        name: market.one(f"SELECT coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM {name} t")
        for name in names
    }


@pytest.fixture(autouse=True)
def _nothing_changes(standing_market: HandMarket) -> Iterator[None]:
    before = checksums(standing_market)
    yield
    assert checksums(standing_market) == before


def says_no(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.code) == (status, code), answer
    assert set(answer.json) == {"code", "detail"}
    assert isinstance(answer.json["detail"], str)
    assert 0 < len(answer.json["detail"]) < 2_000


@pytest.mark.parametrize("kind", ORDERS)
def test_a_bad_order_is_refused(standing_api: ApiClient, kind: str) -> None:
    body, status, code = ORDERS[kind]

    says_no(standing_api.post("orders", body), status, code)


@pytest.mark.parametrize("kind", OTHERS)
def test_another_bad_request_is_refused(standing_api: ApiClient, kind: str) -> None:
    method, path, body, status, code = OTHERS[kind]

    says_no(standing_api.call(method, path, body), status, code)


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "", "image/png", "x" * 500]
)
def test_what_is_no_json_is_refused_whatever_it_is_called(standing_api: ApiClient, content_type: str) -> None:
    says_no(standing_api.post("orders", b"symbol=ALFA", content_type=content_type), 400, "malformed_json")


def test_a_form_with_files_is_refused(standing_api: ApiClient) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="symbol"\r\n\r\nALFA\r\n--b--\r\n'
    for broken in (body, body[:-10], b"--b"):
        answer = standing_api.post("orders", broken, content_type="multipart/form-data; boundary=b")
        assert (answer.status, answer.code) == (400, "malformed_json")


def test_a_form_with_files_in_a_session_is_refused_after_its_csrf_token_was_looked_for(
    standing_market: HandMarket,
) -> None:
    """Looking for it reads the body, which then cannot be read again."""
    browser = Client(raise_request_exception=False, enforce_csrf_checks=True)
    browser.force_login(user_of("ada", ADMIN), BACKEND)
    body = b'--b\r\nContent-Disposition: form-data; name="symbol"\r\n\r\nALFA\r\n--b--\r\n'
    for content in (body, body[:-10], b"--b", b"\r\n".join([body[:-7]] * 2_000) + b"--b--\r\n"):
        answer = browser.post(
            "/api/v1/orders", content, content_type="multipart/form-data; boundary=b", headers={"host": HOST}
        )
        assert answer.status_code in (400, 403), answer.content
        assert answer.json()["code"] in ("malformed_request", "malformed_json", "csrf_failed")


def test_there_are_more_than_60_kinds_and_the_order_that_they_start_from_is_good(
    standing_market: HandMarket, standing_api: ApiClient
) -> None:
    """Else each refusal could have another cause than the one that it is there for."""
    assert len(ORDERS) + len(OTHERS) > 60
    with standing_market.admin.transaction(force_rollback=True):
        row = standing_market.one(
            "SELECT exchange_submit_order_v3(%s, %s, %s, %s, %s, %s::numeric, %s::numeric)",
            *(
                GOOD[name]
                for name in ("client_order_id", "symbol", "side", "type", "time_in_force", "price", "quantity")
            ),
        )
    assert "error" not in row


class TestDetails:
    """What a refusal says to a person."""

    def test_it_names_the_field(self, standing_api: ApiClient) -> None:
        assert standing_api.post("orders", changed(side="hold")).json["detail"].startswith("side: ")

    def test_it_does_not_repeat_what_was_sent(self, standing_api: ApiClient) -> None:
        for body in (changed(symbol="<script>"), changed(price="<script>"), changed(client_order_id="<script>")):
            assert "<script>" not in standing_api.post("orders", body).json["detail"]
