"""What an operator's change or a foreign caller must not be able to do to a market that runs."""

from __future__ import annotations

import json

import pytest

from tests.market import HandMarket
from tests.support import Database, eventually


@pytest.fixture
def market(django_database: Database) -> HandMarket:
    """One symbol, held by node-1 and quoted."""
    market = HandMarket(django_database, symbols=1)
    market.join("node-1")
    market.rebalance("node-1 joined")
    market.quote_all()
    return market


def withdrawals(market: HandMarket) -> list[tuple[object, ...]]:
    return market.rows("SELECT withdrawn_reason FROM exchange_quoteversion WHERE withdrawn_reason IS NOT NULL")


@pytest.mark.parametrize(("limit", "withdrawn"), [("0", [("parameters",)]), ("1000000000", [])])
def test_a_lowered_limit_binds_the_live_quote_in_the_same_commit(
    market: HandMarket, limit: str, withdrawn: list[tuple[object, ...]]
) -> None:
    change = json.dumps({"position_limit": limit})
    market.gateway.execute("SELECT exchange_set_parameters_v1('ALFA', %s, 'ada', '')", [change])

    assert withdrawals(market) == withdrawn
    assert market.one("SELECT published_at IS NULL FROM exchange_quote WHERE symbol = 'ALFA'") is bool(withdrawn)


@pytest.mark.parametrize(("role", "answer"), [("console", "invalid_order_id"), ("exchange", None)])
def test_only_the_worker_can_place_an_order_of_the_generated_flow(
    market: HandMarket, role: str, answer: str | None
) -> None:
    connection = market.gateway if role == "console" else market.worker
    row = connection.execute(
        "SELECT exchange_submit_order_v3('ext-ALFA-000000001-0', 'ALFA', 'buy', 'market', 'IOC', NULL, %s, 1)"
        " ->> 'error'",
        [market.specs["ALFA"].lot_size],
    ).fetchone()

    assert row == (answer,)


def test_each_sweep_ends_one_and_all_are_ended_in_the_end(market: HandMarket) -> None:
    gone = [market.join(f"node-{number}") for number in (2, 3)]
    for node in gone:
        node.connection.close()
    swept: list[str] = []

    def all_ended() -> bool:
        found = market.sweep()
        assert len(found) <= 1
        swept.extend(found)
        return len(swept) == len(gone)

    eventually(all_ended, message="both sessions are seen to be gone")
    assert sorted(swept) == ["node-2", "node-3"]
