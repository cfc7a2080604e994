"""What the hot paths cost, in counts that are the same on every machine. A change that makes one dearer says so here.

Round trips are counted at the client, statements inside a function by auto_explain, rows by the transaction id that
they carry, and bytes of the log by EXPLAIN.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection as django_connection

from exchange import services
from mmproject import query
from tests.market import HandMarket
from tests.support import Connection, Database

# Rows that the transaction wrote or locked carry its id.
TOUCHED = "SELECT count(*) FROM {table} WHERE pg_current_xact_id()::xid IN (xmin, xmax)"
TABLES = """
    SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
       AND NOT relispartition AND relname ~ '^(journal|ledger|exchange|authority)_'
"""
ORDER = "SELECT exchange_submit_order_v3('{id}', 'ALFA', 'buy', 'market', 'IOC', NULL, 1)"
RENEW = "SELECT * FROM authority_renew_v3(%s)"


@pytest.fixture
def market(database: Database) -> HandMarket:
    market = HandMarket(database, symbols=40)
    market.join("node-1")
    market.rebalance("test")
    market.quote_all()
    return market


def rows_touched(connection: Connection, statement: str, *parameters: object) -> dict[str, int]:
    """The rows that a statement wrote or locked, by table. It is rolled back."""
    touched = {}
    with connection.transaction(force_rollback=True):
        connection.execute(statement.encode(), parameters)
        for (table,) in connection.execute(TABLES.encode()).fetchall():
            row = connection.execute(TOUCHED.format(table=table).encode()).fetchone()
            assert row is not None
            touched[str(table)] = int(row[0])
    return {table: rows for table, rows in touched.items() if rows}


def log_bytes(connection: Connection, statements: Iterator[str]) -> int:
    """The bytes that a statement adds to the log: the least of some, as a page's first change logs all of it."""
    least: list[int] = []
    for statement in statements:
        row = connection.execute(f"EXPLAIN (ANALYZE, WAL, FORMAT JSON) {statement}".encode()).fetchone()
        assert row is not None
        least.append(row[0][0]["Plan"]["WAL Bytes"])
    return min(least)


def statements_run(connection: Connection, statement: str, *parameters: object) -> int:
    """How many statements the server runs for this one, those inside of functions included."""
    texts: list[str] = []
    connection.execute("LOAD 'auto_explain'")
    for setting in ("log_min_duration = 0", "log_nested_statements = on", "log_level = notice"):
        connection.execute(f"SET auto_explain.{setting}".encode())

    def noticed(notice: Any) -> None:
        texts.append(notice.message_primary)

    connection.add_notice_handler(noticed)
    try:
        connection.execute(statement.encode(), parameters)
    finally:
        connection.remove_notice_handler(noticed)
        connection.execute("SET auto_explain.log_min_duration = -1")
    return len(texts)


@contextmanager
def round_trips() -> Iterator[list[str]]:
    """The statements that Django's connection sends meanwhile."""
    sent: list[str] = []

    def counted(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        sent.append(sql)
        return execute(sql, *rest)

    with django_connection.execute_wrapper(counted):
        yield sent


def test_each_command_is_one_round_trip(market: HandMarket) -> None:
    order = {"symbol": "ALFA", "side": "buy", "type": "limit", "time_in_force": "GTC"}
    one = Decimal(1)
    commands: dict[str, Callable[[], object]] = {
        "an order": lambda: services.submit_order(**order, client_order_id="a", price=one, quantity=one),
        "a cancel": lambda: services.cancel_order("a"),
        "fifty orders": lambda: services.submit_orders(
            [{**order, "client_order_id": f"b{number}", "price": "1", "quantity": "1"} for number in range(50)]
        ),
        "the kill switch": lambda: services.set_quoting(["ALFA"], False, "ada"),
    }
    with market.database.django("console"):
        query.value("SELECT 1")  # the connection is made
        for name, command in commands.items():
            with round_trips() as sent:
                command()
            assert len(sent) == 1, (name, sent)


def test_an_order_that_the_quote_fills_touches_four_rows(market: HandMarket) -> None:
    assert rows_touched(market.admin, ORDER.format(id="a")) == {
        "exchange_order": 1, "exchange_quote": 1, "ledger_fill": 1, "ledger_position": 1,
    }  # fmt: skip


def test_an_order_that_the_quote_fills_runs_five_statements(market: HandMarket) -> None:
    """Its own, and one per table: quote, position, fill, order."""
    market.admin.execute(ORDER.format(id="first").encode())
    assert statements_run(market.admin, ORDER.format(id="a")) == 5


def test_a_fill_adds_at_most_so_many_bytes_to_the_log(market: HandMarket) -> None:
    assert log_bytes(market.admin, (ORDER.format(id=f"o{number}") for number in range(20))) <= 1_100


def test_a_batch_runs_as_many_statements_for_ten_orders_as_for_two_hundred(market: HandMarket) -> None:
    def batch(tag: str, size: int) -> str:
        orders = [
            {"client_order_id": f"{tag}{number}", "symbol": market.symbols[number % 40], "side": "buy", "type": "limit",
             "time_in_force": "GTC", "price": market.specs[market.symbols[number % 40]].as_json()["tick_size"],
             "quantity": market.specs[market.symbols[number % 40]].as_json()["lot_size"]}
            for number in range(size)
        ]  # fmt: skip
        return json.dumps(orders)

    submit = "SELECT exchange_submit_orders_v4(%s)"
    market.admin.execute(submit.encode(), [batch("first", 10)])
    counts = [statements_run(market.admin, submit, batch(f"b{size}-", size)) for size in (10, 200)]

    assert counts[0] == counts[1] <= 6


def test_a_renewal_costs_the_same_whatever_a_node_holds(market: HandMarket) -> None:
    empty = market.join("node-2")
    market.admin.execute(RENEW.encode(), [empty.incarnation])
    costs = []
    for node in (market.nodes["node-1"], empty):
        touched = rows_touched(market.admin, RENEW, node.incarnation)
        costs.append((touched, statements_run(market.admin, RENEW, node.incarnation)))
    assert len(market.nodes["node-1"].epochs) == 40

    assert costs[0] == costs[1]
    assert costs[0][0] == {"authority_incarnation": 1}
    assert costs[0][1] <= 4


def test_a_quote_adds_at_most_so_many_bytes_to_the_log(market: HandMarket) -> None:
    replace = market.one(
        "SELECT format('SELECT * FROM authority_replace_quotes_v3(%%L, %%L, %%L, %%L, %%L, %%L, %%L, 60000)', %s::uuid,"
        "              array_agg(symbol), array_agg(epoch), array_agg(bid_price), array_agg(bid_quantity),"
        "              array_agg(ask_price), array_agg(ask_quantity)) FROM exchange_quote",
        market.nodes["node-1"].incarnation,
    )
    assert log_bytes(market.admin, (replace for _ in range(20))) <= 40 * 600
