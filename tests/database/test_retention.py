"""Superseded quotes go after a while, by the partition: what stays, what verify makes of it, and what is refused."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from authority.explain import story
from exchange import services
from mmproject.verify import verify
from tests.market import HandMarket, busy_market
from tests.retention import (
    HOUR_MS,
    MINUTE_MS,
    PARTITIONS,
    close_slot,
    dropped,
    end_all_partitions,
    keep,
    keep_all,
    keepers_clock,
    one_long_slot,
)
from tests.support import Connection, Database

IN_DEFAULT = "SELECT count(*) FROM exchange_quoteversion_default"


@pytest.fixture
def market(database: Database) -> HandMarket:
    """Three quoted symbols, and one partition until a test closes it."""
    market = HandMarket(database)
    one_long_slot(market.admin)
    market.join("node-1")
    market.rebalance("node-1 joined")
    market.tick(3)
    return market


@pytest.fixture
def neglected(database: Database) -> HandMarket:
    """The same, but nobody has kept the partitions for long: every quote falls into the default one."""
    market = HandMarket(database)
    end_all_partitions(market.admin)
    market.join("node-1")
    market.rebalance("node-1 joined")
    market.tick(3)
    return market


def verified(database: Database) -> list[str]:
    """What verify says of a market in which every invariant holds: its notes."""
    report = verify(database.connect("console"))
    assert report.ok, [verdict.as_json() for verdict in report.verdicts if not verdict.ok]
    return [note for verdict in report.verdicts for note in verdict.notes]


# Partitions ahead of time


def spans(connection: Connection) -> list[tuple[Any, Any]]:
    return [(from_at, to_at) for _, from_at, to_at in connection.execute(PARTITIONS).fetchall()]


def test_partitions_follow_one_another_and_reach_four_widths_ahead(database: Database) -> None:
    admin = database.connect()
    end_all_partitions(admin)
    keep_all(database.connect("exchange"))
    found = spans(admin)
    now: Any = admin.execute("SELECT clock_timestamp()").fetchone()
    assert all(to_at == next_from for (_, to_at), (next_from, _) in pairwise(found))
    assert found[0][0] <= now[0]
    width = timedelta(milliseconds=HOUR_MS) / 12
    assert found[-1][1] - now[0] >= 4 * width - timedelta(seconds=30)
    assert {to_at - from_at for from_at, to_at in found} == {width}
    assert keep(admin) is None


@pytest.mark.parametrize("retention_ms", [MINUTE_MS, 24 * HOUR_MS])
def test_another_retention_goes_on_where_the_last_partition_ends(database: Database, retention_ms: int) -> None:
    admin = database.connect()
    end_all_partitions(admin)
    keep_all(admin)
    row: Any = admin.execute(f"SELECT max(to_at) - clock_timestamp() FROM ({PARTITIONS}) p").fetchone()
    keepers_clock(admin, f"{row[0].total_seconds() - 20} seconds")
    assert len(keep_all(admin, retention_ms)) >= 2
    found = spans(admin)
    assert all(to_at == next_from for (_, to_at), (next_from, _) in pairwise(found))
    widths = {to_at - from_at for from_at, to_at in found[-2:]}
    assert widths == {timedelta(seconds=10) if retention_ms == MINUTE_MS else timedelta(hours=2)}


def test_after_years_there_are_only_as_many_partitions_as_a_retention_needs(database: Database) -> None:
    admin = database.connect()
    end_all_partitions(admin)
    for ahead in ("1 day", "10 years", "10 years 30 minutes", "10 years 1 hour", "10 years 2 hours"):
        keepers_clock(admin, ahead)
        keep_all(admin)
    assert len(spans(admin)) <= 12 + 4 + 2


def test_the_worker_keeps_the_partitions(django_database: Database) -> None:
    admin = django_database.connect()
    end_all_partitions(admin)
    with django_database.django("exchange"):
        made = services.keep_partitions()
        assert [step["action"] for step in made] == ["make"] * len(made)
        assert len(made) == len(spans(admin)) >= 5
        assert services.keep_partitions() == []


@pytest.mark.parametrize("retention_ms", [None, 0, MINUTE_MS - 1, 30 * 24 * HOUR_MS + 1, -(2**62)])
def test_a_retention_that_makes_no_sense_is_refused(database: Database, retention_ms: int | None) -> None:
    with pytest.raises(psycopg.Error) as refusal:
        database.connect("exchange").execute("SELECT exchange_keep_partitions_v1(%s)", [retention_ms])
    assert refusal.value.sqlstate == "MM422"


def test_a_keeper_that_would_not_see_what_others_commit_is_refused(database: Database) -> None:
    worker = database.connect("exchange")
    worker.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with pytest.raises(psycopg.Error) as refusal, worker.transaction():
        keep(worker)
    assert refusal.value.sqlstate == "MM422"


# What is dropped, and what stays


def test_a_market_whose_past_has_been_dropped_satisfies_every_invariant(database: Database) -> None:
    one_long_slot(database.connect())
    market = busy_market(database)
    fills, tenures = market.one("SELECT count(*) FROM ledger_fill"), market.one("SELECT count(*) FROM authority_tenure")
    orders = market.one("SELECT count(*) FROM exchange_order")
    with database.django():
        before = story("ALFA")
    past = close_slot(market.admin)
    market.tick(2)
    gone = market.one(f"SELECT count(*) FROM {past}")
    assert gone > 0
    keepers_clock(market.admin, "2 hours")

    assert past in dropped(keep_all(market.worker))

    notes = " ".join(verified(database))
    assert "have been dropped" in notes
    assert "judged by their orders and tenures only" in notes
    assert market.one("SELECT min(version) FROM exchange_quoteversion") > 1
    assert market.one("SELECT count(*) FROM ledger_fill") >= fills
    assert market.one("SELECT count(*) FROM authority_tenure") == tenures
    assert market.one("SELECT count(*) FROM exchange_order") >= orders
    with database.django():
        after = story("ALFA")
    assert [event.text for event in after.events] == [event.text for event in before.events]
    assert any("was withdrawn" in event.text for event in after.events)


def test_a_version_that_is_lost_is_not_taken_for_a_dropped_one(market: HandMarket) -> None:
    past = close_slot(market.admin)
    market.tick(2)
    keepers_clock(market.admin, "2 hours")
    assert past in dropped(keep_all(market.worker))
    market.tick(2)
    lost = (
        "SELECT f.symbol, f.quote_version FROM ledger_fill f JOIN exchange_retention r ON r.symbol = f.symbol"
        " JOIN exchange_quote q ON q.symbol = f.symbol"
        " WHERE f.quote_version > r.version AND f.quote_version < q.version - 1 LIMIT 1"
    )
    symbol, version = market.rows(lost)[0]
    market.admin.execute("ALTER TABLE exchange_quoteversion DISABLE TRIGGER append_only_row")
    gone = "DELETE FROM exchange_quoteversion WHERE symbol = %s AND version = %s"
    assert market.admin.execute(gone, [symbol, version]).rowcount == 1
    market.admin.execute("ALTER TABLE exchange_quoteversion ENABLE TRIGGER append_only_row")

    report = verify(market.database.connect("console"))

    assert report.broken == ["I4 fenced-quotes", "I9 fair-fills"]
    rows = {verdict.invariant.id: verdict.rows for verdict in report.verdicts if not verdict.ok}
    assert [(row["symbol"], row["version"]) for row in rows["I4"]] == [(symbol, version + 1)]
    assert {row["unfair"] for row in rows["I9"]} == {"against no quote"}


def test_a_market_that_has_stood_still_keeps_its_present_quotes(market: HandMarket) -> None:
    past = close_slot(market.admin)
    keepers_clock(market.admin, "2 hours")
    assert past not in dropped(keep_all(market.worker)), "all three quotes are in it"
    market.quote(market.nodes["node-1"], ["ALFA", "BRAVO"])
    assert keep(market.worker) is None, "one is left"
    verified(market.database)

    market.quote(market.nodes["node-1"], ["CHARLIE"])

    assert dropped(keep_all(market.worker)) == [past]
    verified(market.database)


def test_a_symbol_that_is_off_keeps_its_withdrawal(market: HandMarket) -> None:
    market.switch(False, "ALFA")
    past = close_slot(market.admin)
    market.quote(market.nodes["node-1"], ["BRAVO", "CHARLIE"])
    later = close_slot(market.admin)
    market.quote(market.nodes["node-1"], ["BRAVO", "CHARLIE"])
    keepers_clock(market.admin, "2 hours")

    steps = dropped(keep_all(market.worker))

    assert later in steps
    assert past not in steps
    verified(market.database)
    assert market.rows("SELECT symbol FROM exchange_retention ORDER BY symbol") == [("BRAVO",), ("CHARLIE",)]
    market.switch(True, "ALFA")
    market.quote_all()
    assert dropped(keep_all(market.worker)) == [past]
    verified(market.database)


def test_nothing_is_dropped_before_its_time(market: HandMarket) -> None:
    past = close_slot(market.admin)
    market.quote_all()
    keepers_clock(market.admin, "59 minutes")
    assert dropped(keep_all(market.worker)) == []
    assert dropped(keep_all(market.worker, 58 * MINUTE_MS)) == [past]


# Without anybody to keep them


def test_quotes_go_on_without_any_partition_and_the_next_slot_has_one_again(neglected: HandMarket) -> None:
    market = neglected
    caught = market.one(IN_DEFAULT)
    assert caught > 0
    verified(market.database)

    assert keep_all(market.worker, 24 * HOUR_MS) != []

    (found,) = spans(market.admin)
    assert found[0] > market.one("SELECT clock_timestamp()"), "the default has rows of the current slot"
    market.tick()
    assert market.one(IN_DEFAULT) > caught
    verified(market.database)
    # Two hours later that slot is over, and quotes don't fall into the default any more: more are made again.
    keepers_clock(market.admin, "2 hours")
    assert len(keep_all(market.worker, 24 * HOUR_MS)) == 4


def test_a_default_partition_whose_rows_are_all_of_the_past_is_replaced(neglected: HandMarket) -> None:
    market = neglected
    market.admin.execute(
        "SELECT exchange_make_quote_partition_v1('exchange_quoteversion_now', format('FOR VALUES FROM (%L) TO (%L)',"
        " clock_timestamp(), clock_timestamp() + interval '3 hours'))"
    )
    keepers_clock(market.admin, "2 hours")
    assert dropped(keep_all(market.worker)) == [], "it has the present quotes"
    market.quote_all()

    assert dropped(keep_all(market.worker)) == ["exchange_quoteversion_default"]

    assert market.one(IN_DEFAULT) == 0
    assert "have been dropped" in " ".join(verified(market.database))
    end_all_partitions(market.admin)
    market.quote_all()
    assert market.one(IN_DEFAULT) == len(market.symbols), "it catches again"


# What every partition refuses


def test_every_partition_refuses_what_would_change_it(market: HandMarket) -> None:
    close_slot(market.admin)
    market.quote_all()
    keepers_clock(market.admin, "23 hours 50 minutes")
    assert keep_all(market.worker, 30 * 24 * HOUR_MS)
    partitions = market.rows("SELECT partition::text FROM exchange_quote_partitions_v1()")
    assert len(partitions) >= 6, "the closed one, the current one, those ahead, the default"
    for (partition,) in partitions:
        market.admin.execute(
            f"INSERT INTO {partition} SELECT (jsonb_populate_record(v, jsonb_build_object('published_at', coalesce("
            "  (SELECT greatest(from_at, to_at - interval '1 second') FROM exchange_quote_partitions_v1() p"
            f"   WHERE p.partition = '{partition}'::regclass), timestamptz '2000-01-01'), 'id', 999999,"
            " 'version', 999999))).*"
            " FROM exchange_quoteversion v WHERE symbol = 'ALFA' AND version = 1".encode()
        )
        for table in (partition, "exchange_quoteversion"):
            for statement in (
                f"UPDATE {table} SET node = node WHERE version = 999999",
                f"DELETE FROM {table} WHERE version = 999999",
                f"TRUNCATE {table}",
            ):
                with pytest.raises(psycopg.errors.RestrictViolation):
                    market.admin.execute(statement.encode())


def test_a_partition_refuses_a_second_version_under_a_number(market: HandMarket) -> None:
    """The key of the whole table would allow it at another time."""
    with pytest.raises(psycopg.errors.UniqueViolation, match="quote_version_once"):
        market.admin.execute(
            "INSERT INTO exchange_quoteversion SELECT (jsonb_populate_record(v, jsonb_build_object('id', 999999,"
            " 'published_at', published_at + interval '1 microsecond'))).*"
            " FROM exchange_quoteversion v WHERE symbol = 'ALFA' AND version = 1"
        )
