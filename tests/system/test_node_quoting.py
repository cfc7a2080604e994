"""What makes a node replace a quote, seen in the tables."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from bench.nodes import Market, node_market
from tests.support import Database, eventually

QUOTE = "SELECT version, bid_price, bid_quantity, ask_price, ask_quantity FROM exchange_quote WHERE symbol = 'S0001'"
# So that nothing below can be a refresh, or an expiry.
NEVER = {
    "MM_QUOTE_REFRESH_MS": "60000", "MM_QUOTE_VALIDITY_MS": "90000", "MM_LEASE_TTL_MS": "30000",
    "MM_RENEW_INTERVAL_MS": "1000",
}  # fmt: skip


@pytest.fixture
def market(database: Database) -> Iterator[Market]:
    with node_market(database, 2, **NEVER) as made:
        made.start_all(1)
        yield made


def replaced(market: Market, version: int) -> tuple[Any, ...]:
    """S0001's quote, once it is a later version."""
    found = eventually(
        lambda: [row for row in market.rows(QUOTE) if row[0] > version], 10, f"a version after {version}"
    )
    quote: tuple[Any, ...] = found[0]
    return quote


def order(market: Market, side: str, quantity: int, number: int = 1) -> None:
    price = "1000" if side == "buy" else "1"
    answer = market.value(
        "SELECT exchange_submit_order_v3(%s, 'S0001', %s, 'limit', 'IOC', %s, %s)",
        f"order-{number}",
        side,
        price,
        quantity,
    )
    assert answer["status"] == "filled", answer


def test_a_new_price_moves_every_quote(market: Market) -> None:
    assert replaced(market, 0)[1:] == (Decimal("99.95"), 1000, Decimal("100.05"), 1000)
    market.advance("1")
    assert replaced(market, 1)[1:] == (Decimal("100.95"), 1000, Decimal("101.05"), 1000)
    symbols = "SELECT count(*) FROM exchange_quoteversion WHERE version = 2"
    eventually(lambda: market.value(symbols) == 2, 10, "the other one too")


def test_a_fill_is_followed_by_a_whole_quote_at_once_on_a_hint_for_its_symbol_alone(market: Market) -> None:
    order(market, "buy", 400)
    market.ring("S0001")
    assert replaced(market, 1)[4] == 1000
    assert market.value("SELECT version FROM exchange_quote WHERE symbol = 'S0002'") == 1


def test_a_doorbell_with_nonsense_does_no_harm(market: Market) -> None:
    for hint in ("NOPE", ",,,", "S0001;DROP", "x" * 7000):
        market.ring(hint)
    order(market, "sell", 1000)
    market.ring("NOPE,S0001")
    assert replaced(market, 1)[2] == 1000
    assert market.value("SELECT version FROM exchange_quote WHERE symbol = 'S0001'") == 2


def test_new_parameters_are_followed(market: Market) -> None:
    market.value("SELECT exchange_set_parameters_v1('S0001', '{\"half_spread_ticks\": 20}', 'tester')")
    assert replaced(market, 1)[1] == Decimal("99.80")


def test_quoting_turned_off_and_on_again_is_quoted_again(market: Market) -> None:
    switch = "SELECT count(*) FROM exchange_set_quoting_v2(ARRAY['S0001'], %s, 'tester')"
    market.value(switch, False)
    assert market.rows(QUOTE) == [(2, None, None, None, None)]
    market.advance("1")
    eventually(lambda: market.value("SELECT version FROM exchange_quote WHERE symbol = 'S0002'") == 2, 10, "S0002")
    assert market.rows(QUOTE) == [(2, None, None, None, None)]

    market.value(switch, True)

    assert replaced(market, 2)[1] == Decimal("100.95")
    took = market.value(
        "SELECT extract(epoch FROM pg_xact_commit_timestamp(q.xmin) - pg_xact_commit_timestamp(a.xid::xid))::float8"
        " FROM exchange_quoteversion q, journal_activity a"
        " WHERE q.symbol = 'S0001' AND q.version = 3 AND a.kind = 'quoting_on'"
    )
    assert took > 0  # 100 ms, says the bench, with nothing else to do


def test_a_quote_that_crosses_resting_orders_is_made_whole_again(market: Market) -> None:
    rest = "SELECT exchange_submit_order_v3('resting', 'S0001', 'sell', 'limit', 'GTC', '100.04', 300)"
    assert market.value(rest)["status"] == "resting"

    market.advance("1")

    eventually(lambda: market.rows(QUOTE)[0][2] == 1000 and market.rows(QUOTE)[0][0] >= 3, 10, "two versions on")
    assert market.rows("SELECT quantity FROM ledger_position WHERE symbol = 'S0001'") == [(Decimal(300),)]


def test_quotes_are_refreshed_without_any_doorbell(database: Database) -> None:
    with node_market(database, 3, **NEVER | {"MM_QUOTE_REFRESH_MS": "300"}) as market:
        market.start_all(1)
        versions = "SELECT min(version) FROM exchange_quote"
        eventually(lambda: market.value(versions) >= 4, 15, "every quote is refreshed again and again")
        withdrawn = "SELECT count(*) FROM exchange_quoteversion WHERE withdrawn_reason IS NOT NULL"
        assert market.value(withdrawn) == 0


def test_a_symbol_added_later_is_assigned_and_quoted(market: Market) -> None:
    market.seed(3)
    # Whoever adds symbols need not ring: the next look at the tables finds them.
    market.value("SELECT pg_notify('mm_authority', '')")
    live = "SELECT quote_epoch FROM exchange_quote WHERE symbol = 'S0003'"
    eventually(lambda: market.value(live) == 1, 15, "the new symbol is quoted")
