"""Quote versions that were there before they were partitioned stay what they were: rows, writers, rights, refusals."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.core.management import call_command

from exchange.catalogue import catalogue
from mmproject import provision
from mmproject.conf import conf
from mmproject.verify import verify
from tests.retention import PARTITIONS, dropped, keep_all, keepers_clock
from tests.support import Database, drop_database

# The last ones before it, of each app that has SQL functions; what follows depends on them.
BEFORE = {
    "exchange": "0005_order_in_one_statement_per_table",
    "authority": "0003_renewal_judged_under_its_lock",
    "journal": "0003_activity_numbers",
    "ledger": "0003_fill_is_its_activity",
}
ROWS = "SELECT xmin::text, to_jsonb(v) FROM exchange_quoteversion v ORDER BY symbol, version"
DAY_MS = 86_400_000


@pytest.fixture
def unpartitioned(server: str) -> Iterator[Database]:
    """A database as it was before exchange/0006."""
    from django.db import connections

    url = provision.with_database(server, f"mm_before_{os.getpid()}")
    provision.wait_for_server(server)
    provision.ensure_database(url)
    database = Database(provision.role_urls(url, conf.var))
    before = provision.point_django_at(url)
    try:
        call_command("migrate", "auth", verbosity=0)  # whose tables a handler of every migration fills
        for app, name in BEFORE.items():
            call_command("migrate", app, name, verbosity=0)
        connections["default"].close()
        yield database
    finally:
        connections["default"].close()
        connections.settings["default"].update(before)
        database.close()
        drop_database(server, database.name)


def quoted(database: Database) -> None:
    """Quotes, fills, a handover and a withdrawal, by the functions of then."""
    admin = database.connect()

    def call(statement: str, *arguments: Any) -> Any:
        row = admin.execute(statement.encode(), arguments).fetchone()
        assert row is not None
        return row[0]

    specs = catalogue(2)
    names = [spec.name for spec in specs]
    prices = [spec.seed_price for spec in specs]
    sizes = [spec.lot_size * 100 for spec in specs]
    call("SELECT exchange_add_symbols_v1(%s)", json.dumps([spec.as_json() for spec in specs]))
    call("SELECT exchange_start_clock_v1(1, 1000)")
    for generation, name in enumerate(("a", "b")):
        incarnation = call("SELECT incarnation FROM authority_register_v1(%s, %s)", name, DAY_MS)
        call(
            "SELECT authority_apply_assignment_v1(%s, %s, %s, %s, %s, 'test')",
            generation, [name], names, [name] * 2, name,
        )  # fmt: skip
        epochs = [
            row[0]
            for row in admin.execute(
                "SELECT epoch FROM authority_acquire_v1(%s, %s) ORDER BY symbol", [incarnation, names]
            )
        ]
        for number in range(3):
            quote = (
                "SELECT array_agg(outcome) FROM authority_replace_quotes_v2"
                "(%s, %s, %s::bigint[], %s::numeric[], %s::numeric[], %s::numeric[], %s::numeric[], %s)"
            )
            asks = [price + spec.tick_size * 10 for price, spec in zip(prices, specs, strict=True)]
            outcomes = call(quote, incarnation, names, epochs, prices, sizes, asks, sizes, DAY_MS)
            assert outcomes == ["accepted"] * 2
            answer = call(
                "SELECT exchange_submit_order_v2(%s, %s, 'buy', 'market', 'IOC', NULL, %s)",
                f"{name}-{number}", names[0], specs[0].lot_size,
            )  # fmt: skip
            assert answer["status"] == "filled"
        if name == "a":
            call("SELECT authority_leave_v1(%s)", incarnation)
    call("SELECT count(*) FROM exchange_set_quoting_v1(%s, false, 'tester')", names[1:])


def migrate(database: Database) -> None:
    provision.set_up(database.url(), conf.var, market=None, broker=False)


def test_what_was_there_stays_with_those_who_wrote_it(unpartitioned: Database) -> None:
    quoted(unpartitioned)
    admin = unpartitioned.connect()
    before = admin.execute(ROWS).fetchall()
    assert len(before) == 13
    admin.close()

    migrate(unpartitioned)

    admin = unpartitioned.connect()
    assert admin.execute(ROWS).fetchall() == before
    report = verify(unpartitioned.connect("console"))
    assert report.ok, [verdict.as_json() for verdict in report.verdicts if not verdict.ok]
    for statement in ("DELETE FROM {}", "UPDATE {} SET node = 'x'", "TRUNCATE {}"):
        for table in ("exchange_quoteversion", "exchange_quoteversion_before"):
            with pytest.raises(psycopg.errors.RestrictViolation):
                admin.execute(statement.format(table).encode())
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        unpartitioned.connect("exchange").execute("INSERT INTO exchange_quoteversion_before DEFAULT VALUES")
    newest: Any = admin.execute("SELECT nextval('exchange_quoteversion_id_seq')").fetchone()
    assert newest[0] == 1 + max(row["id"] for _, row in before)
    # It ends with the current slot, and the partitions made ahead go on from there.
    found = admin.execute(f"SELECT partition, to_at = lead(from_at) OVER (ORDER BY to_at) FROM ({PARTITIONS}) p")
    assert found.fetchone() == ("exchange_quoteversion_before", True)
    # Two hours on it is past, but it has the quote of one symbol and the withdrawal of the other.
    keepers_clock(admin, "2 hours")
    assert "exchange_quoteversion_before" not in dropped(keep_all(admin))


def test_an_empty_market_begins_with_partitions(unpartitioned: Database) -> None:
    migrate(unpartitioned)
    admin = unpartitioned.connect()
    assert admin.execute("SELECT to_regclass('exchange_quoteversion_before')").fetchone() == (None,)
    assert len(admin.execute(PARTITIONS).fetchall()) >= 5
