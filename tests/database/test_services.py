"""The services: what tasks do when doubled or killed half-way, and what operators and set-up are told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.db import OperationalError, connection, connections

from authority import services as authority
from authority.errors import UnknownNode
from exchange import selectors, services, tasks
from exchange.errors import InvalidParameters, MarketDiffers, OrderNotOpen, UnknownOrder, UnknownSymbol
from exchange.orderflow import external_order_ids
from mmproject import doorbell, query
from mmproject.conf import conf
from tests.racing import Mutation, kept_locked
from tests.support import Database, eventually, scratch_database

SEED = 7


@pytest.fixture
def worker(database: Database) -> Iterator[Database]:
    """Django acts as the Celery worker does, on a market of four symbols whose clock never waits."""
    with database.django("exchange"):
        services.ensure_market(symbols=4, seed=SEED, tick_ms=0)
        yield database


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Run these at the same time in threads of their own; their answers. Raises what they raise."""
    answers: list[Any] = [None] * len(calls)
    errors: list[BaseException] = []
    ready = threading.Barrier(len(calls))

    def run(index: int, call: Callable[[], Any]) -> None:
        try:
            ready.wait(10)
            answers[index] = call()
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)
        finally:
            connections["default"].close()

    threads = [threading.Thread(target=run, args=numbered) for numbered in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    if errors:
        raise errors[0]
    return answers


def orders_placed(database: Database) -> list[tuple[Any, ...]]:
    """Every order and all that became of it, without times."""
    return database.connect().execute(
        "SELECT client_order_id, symbol, side, price, quantity, step, status, filled_quantity"
        "  FROM exchange_order ORDER BY client_order_id"
    ).fetchall()  # fmt: skip


def expected_ids(steps: int) -> list[str]:
    return sorted(
        order_id
        for spec in selectors.specs()
        for step in range(1, steps + 1)
        for order_id in external_order_ids(SEED, spec.name, spec.orders_per_step, step)
    )


def test_the_market_is_made_once_and_grows_when_asked(database: Database) -> None:
    with database.django("exchange"):
        services.ensure_market(symbols=2, seed=1, tick_ms=1000)
        services.ensure_market(symbols=2, seed=1, tick_ms=1000)
        assert [spec.name for spec in selectors.specs()] == ["ALFA", "BRAVO"]

        services.ensure_market(symbols=3, seed=1, tick_ms=500)
        services.ensure_market(symbols=1, seed=1, tick_ms=500)
        assert [spec.name for spec in selectors.specs()] == ["ALFA", "BRAVO", "CHARLIE"]


def test_data_of_another_seed_are_left_alone(database: Database) -> None:
    with database.django("exchange"):
        services.ensure_market(symbols=1, seed=1, tick_ms=1000)
        with pytest.raises(MarketDiffers, match="seed 1, not 2"):
            services.ensure_market(symbols=5, seed=2, tick_ms=1000)
        assert len(selectors.specs()) == 1


def test_without_a_market_a_tick_does_nothing(database: Database) -> None:
    with database.django("exchange"):
        tasks.tick()
        assert selectors.clock().step == 0


def test_a_clock_that_is_not_due_does_not_advance(database: Database) -> None:
    with database.django("exchange"):
        services.ensure_market(symbols=1, seed=1, tick_ms=60_000)
        assert services.advance_clock() == 1
        assert services.advance_clock() == 1


def test_an_outage_is_not_replayed(database: Database) -> None:
    """The clock goes on from where it stood; it does not race through the steps that were missed."""
    with database.django("exchange"):
        services.ensure_market(symbols=1, seed=1, tick_ms=60_000)
        database.connect().execute("UPDATE exchange_clock SET due_at = due_at - interval '1 day'")

        assert services.advance_clock() <= 2


def test_two_clocks_at_once_take_each_step_once(worker: Database) -> None:
    at_once(services.advance_clock, services.advance_clock, services.advance_clock)

    steps = (
        worker.connect().execute("SELECT DISTINCT p.step, c.step FROM exchange_price p, exchange_clock c").fetchall()
    )
    assert len(steps) == 1
    assert steps[0][0] == steps[0][1]
    assert services.ADVANCES_PER_CALL <= steps[0][0] <= 3 * services.ADVANCES_PER_CALL


def test_each_steps_orders_are_placed_once_whoever_runs_and_however_often(worker: Database) -> None:
    steps = services.advance_clock()
    at_once(services.place_external_orders, services.place_external_orders, services.place_external_orders)
    placed = orders_placed(worker)
    services.place_external_orders()

    assert [row[0] for row in placed] == expected_ids(steps)
    assert orders_placed(worker) == placed
    assert selectors.clock().orders_step == steps


class Killed(BaseException):
    """The worker's process ends here."""


@pytest.mark.parametrize("survives", range(1, 5))
def test_a_worker_killed_half_way_leaves_nothing_out_and_nothing_twice(
    worker: Database, monkeypatch: pytest.MonkeyPatch, survives: int
) -> None:
    monkeypatch.setattr(services, "ORDERS_PER_CALL", 1)  # a commit for each symbol
    steps = services.advance_clock()
    submit, calls = services.submit_orders, 0

    def dies(orders: Any, lock_ms: int) -> Any:
        nonlocal calls
        calls += 1
        if calls > survives:
            raise Killed
        return submit(orders, lock_ms)

    with monkeypatch.context() as patched:
        patched.setattr(services, "submit_orders", dies)
        with pytest.raises(Killed):
            services.place_external_orders()
    assert selectors.clock().orders_step < steps

    services.place_external_orders()
    assert [row[0] for row in orders_placed(worker)] == expected_ids(steps)


def test_a_step_is_not_done_without_the_orders_of_a_symbol_that_somebody_keeps_locked(
    worker: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = services.advance_clock()
    with kept_locked(worker, "DELTA"):
        services.place_external_orders()
        step = selectors.clock().orders_step + 1
        assert step <= steps, "nothing is done that was not sent"
        others = [order_id for order_id in expected_ids(step) if "DELTA" not in order_id]
        assert [row[0] for row in orders_placed(worker) if row[5] == step] == [
            order_id for order_id in others if order_id not in expected_ids(step - 1)
        ], "the others' orders of that step are there"
        monkeypatch.setattr(
            services, "ORDERS_PER_CALL", 1
        )  # each symbol by itself: nothing is left to be sent with another
        services.place_external_orders()
        assert selectors.clock().orders_step == step - 1
    services.place_external_orders()
    assert [row[0] for row in orders_placed(worker)] == expected_ids(steps)
    assert selectors.clock().orders_step == steps


def test_a_batch_that_cannot_lock_all_its_symbols_lets_go_of_them_soon(worker: Database) -> None:
    """Their quotes, and an operator who wants to stop them, wait for it."""
    order = {"side": "buy", "type": "market", "time_in_force": "IOC", "price": None, "quantity": "1"}
    orders = [{**order, "symbol": symbol, "client_order_id": symbol} for symbol in ("ALFA", "DELTA")]
    with kept_locked(worker, "DELTA"), worker.django("console"):
        query.value("SELECT set_config('lock_timeout', '20s', false)")  # the statement itself may take 15 s
        with pytest.raises(OperationalError, match="lock timeout"):
            services.submit_orders(orders)
        assert query.value("SHOW lock_timeout") == "20s", "what comes after has its own time"
        connection.close()
    assert orders_placed(worker) == []


def test_orders_do_not_depend_on_how_they_were_sent(
    database: Database, server: str, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In large calls or small: the same orders, with the same outcome."""
    outcomes = []
    with scratch_database(server, conf.var, template) as other:
        for each, size in ((database, 1), (other, 1000)):
            monkeypatch.setattr(services, "ORDERS_PER_CALL", size)
            with each.django("exchange"):
                services.ensure_market(symbols=4, seed=SEED, tick_ms=0)
                for _ in range(4):
                    services.advance_clock()
                    services.place_external_orders()
            outcomes.append(orders_placed(each))
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0]) > 20


def test_an_operators_parameters_do_not_change_the_external_orders(worker: Database) -> None:
    """Else a step that is computed again, by a doubled task or by verify, would bring other orders."""
    before = selectors.specs()
    with worker.django("console"):
        services.set_parameters("ALFA", {"quote_size": "1", "half_spread_ticks": 9}, "ada")

    assert selectors.specs() == before


def test_a_tick_that_finds_another_at_work_leaves_it_to_that_one(
    worker: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_work() -> int:
        tasks.tick()  # a second message comes while this one is worked on
        return 0

    monkeypatch.setattr(services, "advance_clock", at_work)
    tasks.tick()

    assert selectors.clock().step == 0


def test_a_tick_after_a_failed_one_runs(worker: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> int:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(services, "advance_clock", fails)
        with pytest.raises(Killed):
            tasks.tick()
    tasks.tick()

    assert selectors.clock().step > 0


def test_a_wrong_batch_item_concerns_itself_alone(worker: Database) -> None:
    order = {"symbol": "ALFA", "side": "buy", "type": "limit", "time_in_force": "GTC", "price": "1", "quantity": "1"}
    answers = services.submit_orders(
        [{**order, "client_order_id": "a"}, {**order, "client_order_id": "b", "price": "1.001"}, {"cancel": "nobody"},
         {"cancel": "a"}]
    )  # fmt: skip

    assert [answer.get("error") or answer["status"] for answer in answers] == [
        "resting", "off_tick", "unknown_order", "cancelled",
    ]  # fmt: skip


def test_an_answered_order_is_on_disk(worker: Database) -> None:
    """Its work commits without waiting, and a commit of its own waits: without it some of these would be early."""
    admin = worker.connect()
    order = {"symbol": "ALFA", "side": "buy", "type": "limit", "time_in_force": "GTC"}
    for number in range(20):
        (before,) = admin.execute("SELECT pg_current_wal_insert_lsn()").fetchone() or ()
        if number % 2:
            services.submit_order(**order, client_order_id=f"o{number}", price=Decimal(1), quantity=Decimal(1))
        else:
            services.submit_orders([{**order, "client_order_id": f"o{number}", "price": "1", "quantity": "1"}])
        assert admin.execute("SELECT pg_current_wal_flush_lsn() > %s::pg_lsn", [before]).fetchone() == (True,), number


def test_parameters_out_of_range_are_refused_and_change_nothing(worker: Database) -> None:
    admin = worker.connect()
    before = admin.execute("SELECT s::text FROM exchange_symbol s ORDER BY 1").fetchall()
    wrong: list[dict[str, Any]] = [
        {"quote_size": "1.5"}, {"quote_size": "0"}, {"quote_size": "NaN"}, {"quote_size": "x"},
        {"half_spread_ticks": 0}, {"half_spread_ticks": 1.5}, {"half_spread_ticks": 10**30}, {"skew_ticks": -1},
        {"position_limit": "-1"}, {"position_limit": None}, {"seed_price": "5"}, {"volatility_bps": 1},
    ]  # fmt: skip
    with worker.django("console"):
        for parameters in wrong:
            with pytest.raises(InvalidParameters) as refusal:
                services.set_parameters("ALFA", parameters, "ada")
            assert "\n" not in str(refusal.value), parameters

    assert admin.execute("SELECT s::text FROM exchange_symbol s ORDER BY 1").fetchall() == before
    assert admin.execute("SELECT count(*) FROM journal_audit").fetchone() == (0,)


def test_what_does_not_exist_is_said_to_be_unknown(worker: Database) -> None:
    with worker.django("console"):
        for call in (
            lambda: services.set_quoting(["ALFA", "NOPE"], False, "ada"),
            lambda: services.set_parameters("NOPE", {"skew_ticks": 1}, "ada"),
        ):
            with pytest.raises(UnknownSymbol):
                call()
        with pytest.raises(UnknownNode):
            authority.set_draining("nobody", True, "ada")
        with pytest.raises(UnknownOrder):
            services.cancel_order("none")
    assert worker.connect().execute("SELECT count(*) FROM journal_audit").fetchone() == (0,)


def test_a_rejected_order_is_not_open(worker: Database) -> None:
    order = {"symbol": "ALFA", "side": "buy", "type": "market", "time_in_force": "IOC", "price": None, "quantity": "1"}
    services.submit_orders([{**order, "client_order_id": "r"}])
    with pytest.raises(OrderNotOpen):
        services.cancel_order("r")


def test_the_second_sweeper_ends_a_node_that_lost_its_session(worker: Database) -> None:
    node = worker.connect("node")
    node.execute("SELECT authority_register_v3('node-1', 600000)")
    assert authority.sweep() == []

    node.close()

    (ended,) = eventually(authority.sweep, message="its session is seen to be gone")
    assert (ended["node"], ended["reason"]) == ("node-1", "session_lost")
    assert authority.sweep() == []


def test_a_node_is_steady_since_its_last_late_renewal(worker: Database) -> None:
    """Late is half a time to live after the one before it: I11 asks nothing of it for ten seconds from then on."""
    node, admin = worker.connect("node"), worker.connect()
    row = node.execute("SELECT incarnation FROM authority_register_v3('node-1', 600000)").fetchone()

    def renewed(left_ms: int) -> object:
        """Renew with so much of the time to live left; since when it is steady then."""
        admin.execute(
            "UPDATE authority_incarnation SET expires_at = clock_timestamp() + %s * interval '1 ms'", [left_ms]
        )
        assert node.execute("SELECT FROM authority_renew_v3(%s)", row).fetchone() is not None
        return admin.execute("SELECT steady_since FROM authority_incarnation").fetchone()

    first = admin.execute("SELECT steady_since FROM authority_incarnation").fetchone()
    assert renewed(599_000) == first, "a renewal in time"
    assert renewed(310_000) == first, "a renewal in time"
    late = renewed(290_000)
    assert late != first, "the pause before this renewal is forgotten"
    assert admin.execute("SELECT steady_since > clock_timestamp() - interval '1 minute' FROM authority_incarnation"
                         ).fetchone() == (True,)  # fmt: skip
    assert renewed(599_000) == late


def test_the_doorbell_comes_back_after_its_connection_was_lost(worker: Database) -> None:
    admin = worker.connect()
    listener = worker.connect("console")
    listener.execute("LISTEN mm_market")

    def heard(symbol: str) -> bool:
        doorbell.ring([symbol])
        return any(symbol in bell.payload for bell in listener.notifies(timeout=0.2, stop_after=1))

    eventually(lambda: heard("ALFA"), message="it rings")
    admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE '%pg_notify%' AND pid <> pg_backend_pid()"
    )
    eventually(lambda: heard("BRAVO"), message="it rings again")


def test_the_ring_that_finds_its_connection_lost_is_rung_all_the_same(worker: Database) -> None:
    """After a restart of the database nobody knows that it is lost before it is used."""
    admin, listener = worker.connect(), worker.connect("console")
    listener.execute("LISTEN mm_market")
    doorbell.ring(["ALFA"])
    assert [bell.payload for bell in listener.notifies(timeout=10, stop_after=1)] == ["ALFA"]
    ended = admin.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE '%pg_notify%' AND pid <> pg_backend_pid()"
    )
    assert ended.fetchall() == [(True,)]

    doorbell.ring(["BRAVO"])

    heard = [bell.payload for bell in listener.notifies(timeout=5, stop_after=1)]
    assert heard == ["BRAVO"], "nothing was rung"


def test_a_command_that_loses_twice_is_done_once_and_as_a_whole_by_its_third_try(worker: Database) -> None:
    """The database has it lose: a sequence counts the tries, as nothing of a lost one stays but that."""
    admin = worker.connect()
    admin.execute("CREATE SEQUENCE tries")
    admin.execute("GRANT USAGE ON SEQUENCE tries TO mm_exchange")
    begins = "BEGIN\n    SELECT s INTO v_unknown"
    loses = begins.replace("BEGIN\n", "BEGIN\n    IF nextval('tries') < 3 THEN RAISE deadlock_detected; END IF;\n")
    Mutation("it loses twice", (("exchange_set_quoting_v2", begins, loses),), "").apply(admin)
    with worker.django("console"):
        changed = services.set_quoting(["ALFA", "BRAVO"], False, "ada")

    assert [(toggle["symbol"], toggle["before"], toggle["after"]) for toggle in changed] == [
        ("ALFA", True, False), ("BRAVO", True, False),
    ]  # fmt: skip
    assert admin.execute("SELECT count(*) FROM journal_audit").fetchone() == (2,)


def test_the_doorbell_never_holds_up_or_fails_its_caller(worker: Database) -> None:
    """The database is gone: a ring is dropped."""
    settings = connection.settings_dict
    port, settings["PORT"] = settings["PORT"], "9"
    started = time.monotonic()
    try:
        for _ in range(1_000):
            doorbell.ring(["ALFA"])
    finally:
        settings["PORT"] = port
    assert time.monotonic() - started < 1
