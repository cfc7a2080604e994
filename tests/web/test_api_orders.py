"""POST, GET and DELETE of orders, the kill switch and drain: what they answer and what they leave."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection

from exchange import services
from mmproject import doorbell, query
from tests.market import HandMarket
from tests.racing import Mutation, kept_locked
from tests.support import eventually
from tests.web.client import Answer, ApiClient

ANSWER_FIELDS = {
    "client_order_id",
    "status",
    "filled_quantity",
    "remaining_quantity",
    "average_price",
    "fills",
    "reject_code",
}


def order(market: HandMarket, **changes: Any) -> dict[str, Any]:
    """A limit IOC order that takes one lot of ALFA at our ask."""
    _, ask = market.best("ALFA")
    return {
        "client_order_id": "o-1",
        "symbol": "ALFA",
        "side": "buy",
        "type": "limit",
        "time_in_force": "IOC",
        "price": str(ask),
        "quantity": "1",
        **changes,
    }


def test_a_crossing_order_answers_its_fills(market: HandMarket, api: ApiClient) -> None:
    _, ask = market.best("ALFA")
    sequence = market.one("SELECT sequence FROM exchange_quote WHERE symbol = 'ALFA'")

    answer = api.post("orders", order(market, quantity="3"))

    price = f"{ask.normalize():f}"
    assert answer.status == 200
    assert set(answer.json) == ANSWER_FIELDS
    assert answer.json == {
        "client_order_id": "o-1",
        "status": "filled",
        "filled_quantity": "3",
        "remaining_quantity": "0",
        "average_price": price,
        "fills": [{"fill_id": f"ALFA-{sequence + 1:012d}", "price": price, "quantity": "3"}],
        "reject_code": None,
    }
    (fill,) = market.rows("SELECT side, price, quantity FROM ledger_fill WHERE client_order_id = 'o-1'")
    assert fill == ("sell", ask, Decimal(3))


def test_orders_of_a_batch_are_each_answered_as_if_sent_alone(market: HandMarket, api: ApiClient) -> None:
    bid, _ = market.best("ALFA")
    alone = api.post("orders", order(market)).json
    sent = [
        order(market),
        order(market, quantity="2"),
        order(market, client_order_id="o-2", price=str(bid / 2), time_in_force="GTC"),
        order(market, client_order_id="o-3", price="0.001"),
        order(market, client_order_id="o-4", symbol="NOPE"),
        order(market, client_order_id="o-5", quantity="2"),
        order(market, client_order_id="o-6", time_in_force="FOK", quantity="1000000"),
    ]

    answer = api.post("orders/batch", {"orders": sent})

    assert answer.status == 200
    items = answer.json["items"]
    assert items[0] == alone
    assert [item.get("code") or item["status"] for item in items] == [
        "filled", "duplicate_client_order_id", "resting", "off_tick", "unknown_symbol", "filled", "rejected",
    ]  # fmt: skip
    assert [item["client_order_id"] for item in items] == [item["client_order_id"] for item in sent]
    assert set(items[1]) == {"client_order_id", "code", "detail"}
    assert items[5] == api.get("orders/o-5").json
    assert api.post("orders/batch", {"orders": sent}).raw == answer.raw, (
        "sent again, it does nothing and answers the same"
    )
    assert market.rows(
        "SELECT client_order_id FROM ledger_fill WHERE starts_with(client_order_id, 'o-') ORDER BY sequence"
    ) == [("o-1",), ("o-5",)]


def test_a_batch_that_is_not_well_formed_does_nothing(market: HandMarket, api: ApiClient) -> None:
    good = order(market)
    for orders, status in (
        ([], 422),
        ([good] * 1001, 422),
        ([good, {**good, "client_order_id": "o-2", "quantity": "x"}], 422),
        ([good, 5], 422),
        ([good, {"cancel": "o-1"}], 422),
        ("o-1", 422),
    ):
        assert api.post("orders/batch", {"orders": orders}).status == status, orders
    assert api.post("orders/batch", [good]).status == 400
    assert market.rows("SELECT FROM exchange_order WHERE starts_with(client_order_id, 'o-')") == []


def test_the_same_order_again_answers_the_same_and_trades_once(market: HandMarket, api: ApiClient) -> None:
    sent = order(market)
    first = api.post("orders", sent)
    version = market.one("SELECT version FROM ledger_position WHERE symbol = 'ALFA'")

    again = [api.post("orders", sent), api.post("orders", {**sent, "quantity": "1.000"})]

    assert [(one.status, one.raw) for one in again] == [(first.status, first.raw)] * 2
    assert market.one("SELECT version FROM ledger_position WHERE symbol = 'ALFA'") == version


def test_a_resting_order_sent_again_answers_its_first_answer_and_get_its_present_state(
    market: HandMarket, api: ApiClient
) -> None:
    bid, ask = market.best("ALFA")
    sent = order(market, time_in_force="GTC", price=str(ask - Decimal("0.01")), quantity="5")
    first = api.post("orders", sent)
    assert first.json["status"] == "resting"

    api.post("orders", order(market, client_order_id="o-2", side="sell", price=str(bid), quantity="2"))

    assert api.post("orders", sent).raw == first.raw
    now = api.get("orders/o-1").json
    assert (now["status"], now["filled_quantity"], now["remaining_quantity"]) == ("partially_filled", "2", "3")
    assert list(now) == list(first.json)


def test_another_order_under_the_same_id_is_a_conflict(market: HandMarket, api: ApiClient) -> None:
    sent = order(market)
    api.post("orders", sent)
    state = api.get("orders/o-1").raw
    for change in (
        {"quantity": "2"}, {"side": "sell"}, {"time_in_force": "GTC"}, {"price": "1"},
        {"type": "market", "price": None}, {"symbol": "BRAVO", "price": "48.5", "quantity": "10"},
    ):  # fmt: skip
        answer = api.post("orders", {**sent, **change})

        assert (answer.status, answer.code) == (409, "duplicate_client_order_id"), change
    assert api.get("orders/o-1").raw == state


def test_business_rejects_are_answers_and_are_kept(market: HandMarket, api: ApiClient) -> None:
    kill = api.post("orders", order(market, time_in_force="FOK", quantity="1000000"))
    market.switch(False, "BRAVO")
    market.admin.execute("DELETE FROM exchange_order WHERE symbol = 'BRAVO'")
    none = api.post(
        "orders",
        {"client_order_id": "o-2", "symbol": "BRAVO", "side": "buy", "type": "market", "time_in_force": "IOC",
         "quantity": "10"},
    )  # fmt: skip

    assert (kill.status, kill.json["status"], kill.json["reject_code"]) == (200, "rejected", "fok_unfillable")
    assert (none.status, none.json["status"], none.json["reject_code"]) == (200, "rejected", "no_liquidity")
    assert api.get("orders/o-2").raw == none.raw


def test_a_json_number_is_taken_digit_by_digit(market: HandMarket, api: ApiClient) -> None:
    """As a float, 0.07 would be off tick."""
    body = b'{"client_order_id": "n", "symbol": "ALFA", "side": "buy", "type": "limit", "time_in_force": "GTC",'
    answer = api.post("orders", body + b' "price": 0.07, "quantity": 1e0}')

    assert answer.json["status"] == "resting"
    assert market.one("SELECT price FROM exchange_order WHERE client_order_id = 'n'") == Decimal("0.07")


def test_cancelling_ends_an_order_once_and_answers_the_same_again(market: HandMarket, api: ApiClient) -> None:
    api.post("orders", order(market, time_in_force="GTC", price="0.01"))

    first, again = api.delete("orders/o-1"), api.delete("orders/o-1")

    assert (first.status, first.json["status"], first.json["remaining_quantity"]) == (200, "cancelled", "1")
    assert again.raw == first.raw == api.get("orders/o-1").raw


def test_a_filled_order_cannot_be_cancelled_and_an_unknown_one_is_not_found(market: HandMarket, api: ApiClient) -> None:
    api.post("orders", order(market))

    assert (api.delete("orders/o-1").status, api.delete("orders/o-1").code) == (409, "not_open")
    for path in ("orders/none", "orders/%00", "orders/%F0%9F%90%82", "orders/" + "x" * 65, "orders/x%20y"):
        for method in ("GET", "DELETE"):
            answer = api.call(method, path)
            assert (answer.status, answer.code) == (404, "unknown_order"), path


def test_one_id_sent_to_two_symbols_at_once_becomes_one_order(market: HandMarket, api: ApiClient) -> None:
    """The loser of the race finds the winner's order: a conflict, and never a 5xx."""
    holder = market.database.connect("console")
    answers: dict[str, Answer] = {}

    def send() -> None:
        answers["api"] = api.post("orders", order(market, client_order_id="race"))
        connection.close()

    with holder.transaction():
        # Its transaction is open while the other order comes: that one waits for the unique id.
        holder.execute("SELECT exchange_submit_order_v3('race', 'BRAVO', 'buy', 'limit', 'GTC', 0.05, 10)")
        thread = threading.Thread(target=send)
        thread.start()
        eventually(
            lambda: market.one("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"),
            message="the second order waits for the first",
        )
    thread.join(10)

    assert (answers["api"].status, answers["api"].code) == (409, "duplicate_client_order_id")
    assert market.rows("SELECT symbol FROM exchange_order WHERE client_order_id = 'race'") == [("BRAVO",)]


def test_an_order_costs_one_statement_once_its_token_is_known(market: HandMarket, api: ApiClient) -> None:
    api.post("orders", order(market))
    statements: list[str] = []

    def count(execute: Any, sql: str, *rest: Any) -> Any:
        statements.append(sql)
        return execute(sql, *rest)

    with connection.execute_wrapper(count):
        assert api.post("orders", order(market, client_order_id="o-2")).status == 200

    assert len(statements) == 1, statements


def test_a_fill_rings_the_doorbell_with_its_symbol(market: HandMarket, api: ApiClient) -> None:
    listener = market.database.connect("console")
    listener.execute("LISTEN mm_market")
    api.post("orders", order(market, client_order_id="rests", time_in_force="GTC", price="0.01"))
    api.post("orders", order(market))

    # Only what moved our position: the order that rests needs no new quote.
    assert next(iter(listener.notifies(timeout=5, stop_after=1))).payload == "ALFA"


def test_a_fill_is_rung_for_while_its_order_waits_for_the_disk(
    market: HandMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, call, events = market.database.connect(), query.document, list[Any]()
    # The commit takes its time: whoever is rung for before it looks too early.
    admin.execute(
        "CREATE FUNCTION slow_commit() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END';"
        "CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON exchange_order DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION slow_commit()"
    )

    def rung(symbols: Iterable[str]) -> None:
        filled = "SELECT count(*) FROM ledger_fill WHERE client_order_id = 'o-1'"
        events.append((list(symbols), admin.execute(filled).fetchone()))

    def called(statement: str, parameters: Sequence[Any]) -> Any:
        answer = call(statement, parameters)
        events.append("answered")
        return answer

    monkeypatch.setattr(doorbell, "ring", rung)
    monkeypatch.setattr(query, "document", called)
    answer = services.submit_order(
        client_order_id="o-1", symbol="ALFA", side="buy", type="limit", time_in_force="IOC", price=Decimal(1000),
        quantity=Decimal(1),
    )  # fmt: skip

    assert len(answer["fills"]) == 1
    assert events == [(["ALFA"], (1,)), "answered"]  # whoever is woken sees it


def test_too_many_symbols_for_a_notification_ring_for_all() -> None:
    assert doorbell.payload(["BRAVO", "ALFA"]) == "ALFA,BRAVO"
    assert doorbell.payload(f"S{number:05d}" for number in range(2_000)) == ""


def test_the_kill_switch_for_one_symbol_withdraws_its_quote_and_is_audited(market: HandMarket, api: ApiClient) -> None:
    answer = api.post("symbols/ALFA/quoting", {"enabled": False, "reason": "news"})

    assert (answer.status, answer.json) == (200, {"symbol": "ALFA", "before": True, "after": False})
    assert "ALFA" not in {quote["symbol"] for quote in api.get("quotes").items}
    assert market.rows("SELECT actor, action, target, before, after, reason FROM journal_audit") == [
        ("desk", "quoting_off", "ALFA", True, False, "news")
    ]
    assert api.post("symbols/ALFA/quoting", {"enabled": True}).json["after"] is True


def test_the_kill_switch_for_all_names_every_symbol(market: HandMarket, api: ApiClient) -> None:
    answer = api.post("quoting", {"enabled": False, "reason": None})

    assert [item["symbol"] for item in answer.items] == ["ALFA", "BRAVO", "CHARLIE"]
    assert answer.json["next"] is None
    assert api.get("quotes").items == []
    assert market.one("SELECT count(*) FROM journal_audit WHERE actor = 'desk' AND action = 'quoting_off'") == 3


def test_the_kill_switch_stops_all_but_what_somebody_keeps_locked_and_names_it(
    market: HandMarket, api: ApiClient
) -> None:
    with kept_locked(market.database, "BRAVO"):
        answer = api.post("quoting", {"enabled": False, "reason": "news"})
        assert (answer.status, answer.json["code"]) == (503, "symbols_locked")
        assert "is off for 2 of 3 symbols, but could not be turned off for BRAVO," in answer.json["detail"]
        assert answer.headers["Retry-After"] == "1"
        assert [quote["symbol"] for quote in api.get("quotes").items] == ["BRAVO"]
        alone = api.post("symbols/BRAVO/quoting", {"enabled": False})
        assert (alone.status, alone.json["code"]) == (503, "symbols_locked")
        assert alone.json["detail"].startswith("quoting could not be turned off for BRAVO,")
    audited = "SELECT target, before, after FROM journal_audit ORDER BY target"
    assert market.rows(audited) == [("ALFA", True, False), ("CHARLIE", True, False)], "of what was done, and no more"
    assert [item["before"] for item in api.post("quoting", {"enabled": False}).items] == [False, True, False]
    assert api.get("quotes").items == []


def test_the_kill_switch_waits_for_what_is_only_busy(market: HandMarket, api: ApiClient) -> None:
    """While something else is locked for good."""
    patient = (
        ("exchange_set_quoting_v2", "least(1200,", "least(2000,"),
        ("exchange_set_quoting_v2", "'3500 ", "'35000 "),
    )
    Mutation("patient", patient, "").apply(market.database.connect("admin"))

    def stop_all() -> Answer:
        try:
            return api.post("quoting", {"enabled": False})
        finally:
            connection.close()  # this thread's own

    with (
        kept_locked(market.database, "ALFA"),
        kept_locked(market.database, "BRAVO") as busy,
        ThreadPoolExecutor(1) as pool,
    ):
        answer = pool.submit(stop_all)
        waits = f"SELECT count(*) FROM pg_stat_activity WHERE {busy.info.backend_pid} = ANY (pg_blocking_pids(pid))"
        eventually(lambda: answer.done() or market.one(waits), 20, "it waits for BRAVO")
        busy.rollback()
        assert answer.result(20).json["code"] == "symbols_locked"
    assert market.rows("SELECT symbol FROM exchange_quote WHERE quoting_enabled") == [("ALFA",)]


def test_a_node_is_drained_by_default_and_undrained_when_told(market: HandMarket, api: ApiClient) -> None:
    assert api.post("nodes/node-1/drain").json == {"node": "node-1", "before": False, "after": True}
    assert api.post("nodes/node-1/drain", {"reason": "again"}).json["before"] is True
    assert api.post("nodes/node-1/drain", {"draining": False}).json["after"] is False
    assert market.rows("SELECT actor, action, target FROM journal_audit ORDER BY id") == [
        ("desk", "drain", "node-1"), ("desk", "drain", "node-1"), ("desk", "undrain", "node-1"),
    ]  # fmt: skip
