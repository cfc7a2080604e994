"""What the benchmarks rest on in the database: their markets, their floors, and what they read."""

from __future__ import annotations

import json
import re

import pytest

from bench import floor
from bench.handover import GAPS, GAPS_TO_QUOTE
from bench.loops import loop
from bench.maker import holders, quote_deep
from bench.orders import PLACE_ORDER, PLACE_ORDERS, batch_script, check_filled, grid_names, names, order_script
from bench.quotes import UNFENCED, quote_at, replace, replace_unfenced
from bench.requote import LATENCIES, NOT_REQUOTED
from bench.soak import REQUOTES, SIZES, fill_id, thirds
from bench.takeover import FIRST_QUOTES
from mmproject.errors import UserError
from mmproject.verify import verify
from tests.support import Database


def placed(script: str, **variables: object) -> str:
    """A line of a pgbench script as pgbench sends it in simple mode."""
    return re.sub(r"(?<!:):(\w+)", lambda found: str(variables[found[1]]), script)


def test_shares_are_held_quoted_deep_and_left_without_a_trace_of_blame(database: Database) -> None:
    listed = names(5)
    with holders(database, {"few": listed[:2], "many": listed[2:]}) as held:
        admin = database.connect()
        assert {node: sorted(one.epochs) for node, one in held.items()} == {"few": listed[:2], "many": listed[2:]}
        quoted = admin.execute("SELECT quote_node, count(*) FROM exchange_quote GROUP BY 1 ORDER BY 1").fetchall()
        assert quoted == [("few", 2), ("many", 3)]
        assert admin.execute("SELECT count(*) FROM authority_lease_in_force").fetchone() == (5,)
    assert database.connect().execute("SELECT count(*) FROM authority_lease_in_force").fetchone() == (0,)
    assert verify(database.connect()).broken == []


def test_the_orders_of_a_script_are_filled_whole_by_the_role_that_sends_them(database: Database) -> None:
    sides = [line for line in order_script(3).splitlines() if line.startswith(PLACE_ORDER.split("{", 1)[0])]
    assert len(sides) == 2
    with holders(database, {"bench": names(3)}):
        console = database.connect("console")
        for number, line in enumerate(sides):
            console.execute(placed(line, id=number, symbol=1 + number))
        check_filled(database.connect())
        assert database.connect().execute("SELECT count(*) FROM ledger_fill").fetchone() == (2,)


@pytest.mark.parametrize("sharded", [False, True])
def test_a_batch_is_orders_for_symbols_that_there_are_all_filled(database: Database, sharded: bool) -> None:
    script = batch_script(50, sharded=sharded)
    (line,) = [line for line in script.splitlines() if line.startswith(PLACE_ORDERS.split("{", 1)[0])]
    variables = {f"column{number}": number for number in range(10)}
    sent = placed(line, client_id=7, batch_order_id=123456789012345, **variables)
    orders = json.loads(sent[sent.index("[") : sent.rindex("]") + 1])
    symbols = {order["symbol"] for order in orders}
    assert symbols <= set(grid_names())
    # Each client's own ten, or any.
    assert {symbol[-1] for symbol in symbols} == ({"7"} if sharded else {"0", "1", "2", "3", "4"})
    assert len({order["client_order_id"] for order in orders}) == 50
    with holders(database, {"bench": grid_names()}):
        database.connect("console").execute(sent)
        check_filled(database.connect())


def test_the_variable_of_a_batchs_ids_is_as_long_as_its_value() -> None:
    # pgbench then moves no text when it puts one in the other's place, fifty times in ten thousand characters.
    name = re.search(r"\\set (\w+) random\((\d+), (\d+)\)", batch_script(1, sharded=True))
    assert name
    assert len(name[1]) + 1 == len(name[2]) == len(name[3])


def test_orders_that_were_not_filled_are_an_error(database: Database) -> None:
    with holders(database, {"bench": names(1)}):
        admin = database.connect()
        with pytest.raises(UserError, match="0 of 0 orders"):
            check_filled(admin)
        parts = {"client_order_id": "'far'", "symbol": "'S1'", "side": "'buy'", "price": "1", "quantity": "1"}
        admin.execute(PLACE_ORDER.format(**parts))
        with pytest.raises(UserError, match="1 of 1 orders"):
            check_filled(admin)


def test_the_floor_of_quotes_writes_as_many_rows_as_the_nodes_own_statement(database: Database) -> None:
    with holders(database, {"bench": names(4)}) as held, loop(database.url("node")) as own:
        admin = database.connect()
        floor.make(admin)
        floor.make_quotes(admin)
        holder = held["bench"]
        quote = quote_at(1)
        own.run(lambda link: replace(link, holder.incarnation, holder.epochs, quote))
        with loop(database.url()) as plain:
            plain.run(lambda link: replace_unfenced(link, list(holder.epochs), quote))
        ours, theirs = (
            admin.execute(f"SELECT symbol, bid_price, ask_quantity FROM {name} ORDER BY 1").fetchall()
            for name in ("exchange_quote", "floor.quote")
        )
        assert ours == theirs
        assert admin.execute("SELECT count(*) FROM floor.quoteversion").fetchone() == (4,)
        assert "synchronous_commit', 'off'" in UNFENCED
        quote_deep(holder)  # what the node's own had put aside
        assert admin.execute("SELECT floor.touch(1) IS NOT NULL").fetchone() == (True,)


def test_sizes_are_summed_over_partitions(database: Database) -> None:
    admin = database.connect()
    admin.execute("CREATE TABLE exchange_parted (at integer, note text) PARTITION BY RANGE (at)")
    for number in range(2):
        admin.execute(
            f"CREATE TABLE exchange_parted_{number} PARTITION OF exchange_parted"
            f" FOR VALUES FROM ({number}) TO ({number + 1})"
        )
    admin.execute("INSERT INTO exchange_parted SELECT n % 2, repeat('x', 100) FROM generate_series(1, 1000) n")

    sizes = {name: size for name, size, _dead in admin.execute(SIZES).fetchall()}

    parts = admin.execute(
        "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c WHERE relname ~ '^exchange_parted_'"
    ).fetchone()
    assert parts is not None
    assert sizes["exchange_parted"] == parts[0] > 100_000
    assert not {name for name in sizes if name.startswith("exchange_parted_")}
    assert sizes["exchange_order"] > 0


def test_what_is_read_of_fills_and_handovers_fits_the_tables(database: Database) -> None:
    with holders(database, {"bench": names(1)}) as held:
        admin = database.connect()
        parts = {"client_order_id": "'tag.1'", "symbol": "'S1'", "side": "'buy'", "price": "100.10", "quantity": "1"}
        admin.execute(PLACE_ORDER.format(**parts))
        assert admin.execute(NOT_REQUOTED).fetchone() == (1,)
        quote_deep(held["bench"])
        assert admin.execute(NOT_REQUOTED).fetchone() == (0,)
        for query, arguments in ((LATENCIES, ["tag.%"]), (REQUOTES, [fill_id("S1", 0), fill_id("S1", 1)])):
            ((latency_s,),) = admin.execute(query, arguments).fetchall()
            assert 0 < latency_s < 60
        assert admin.execute(REQUOTES, [fill_id("S1", 1), fill_id("S1", 2)]).fetchall() == []
        for query in (GAPS, GAPS_TO_QUOTE):
            assert admin.execute(query, ["-infinity"]).fetchall() == []
        ((symbol, _at),) = admin.execute(FIRST_QUOTES, [["S1"], [0]]).fetchall()
        assert symbol == "S1"


def test_thirds_are_compared_by_their_medians() -> None:
    assert thirds([1, 2, 3, 50, 60, 70, 7, 8, 900]) == (2, 8)
    assert thirds([5.0]) == (5.0, 5.0)
