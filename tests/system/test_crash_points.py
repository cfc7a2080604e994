"""Every crash point of a whole system but the nodes' is crashed, and what follows is right.

While the worker is dead its supervisor is stopped, so that what it left can be looked at before its successor acts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import pytest

from exchange.orderflow import external_order_ids
from mmproject.crashpoints import POINTS, Crash, Point, arm, crashes
from mmproject.verify import verify
from tests.support import System, eventually, running_system
from tests.system.test_node_crash_points import DONE as NODE_DONE
from tests.system.test_node_crash_points import UNQUOTED, statement

NODES: Final = 2
SYMBOLS: Final = 12  # so that a step without orders is rare
CRASH_TIMEOUT_S: Final = 60  # on a machine that is busy with other tests
BACK_TIMEOUT_S: Final = 90
PROGRAMS: Final = NODES + 4  # PostgreSQL, Daphne, worker, beat
KILLED: Final = -9

pytestmark = pytest.mark.timeout(240)  # the first one starts the system

ORDERS_STEP: Final = "SELECT orders_step FROM exchange_clock"
LOADS: Final = "SELECT count(*) FROM authority_lease_in_force GROUP BY node"


@dataclass
class Scene:
    """The running system, the point that is armed in it, and who is to die there."""

    system: System
    folder: Path
    point: Point
    admin: Any
    pids: dict[str, int] = field(default_factory=dict)

    @property
    def is_after(self) -> bool:
        """Whether the database has done it by then."""
        return not self.point.endswith(".before")

    def rows(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self.admin.execute(query, arguments or None).fetchall()
        return found

    def value(self, query: str, *arguments: Any) -> Any:
        return self.rows(query, *arguments)[0][0]

    def settle(self) -> None:
        """Wait until all programs run and all nodes quote their share."""
        eventually(lambda: len(self.system.pids()) == PROGRAMS, BACK_TIMEOUT_S, "all programs run")
        eventually(self.system.is_ready, BACK_TIMEOUT_S, "the console answers")

        def is_balanced() -> bool:
            loads = [load for (load,) in self.rows(LOADS)]
            return loads == [SYMBOLS // NODES] * NODES and self.value(UNQUOTED, []) == 0

        eventually(is_balanced, BACK_TIMEOUT_S, f"{NODES} nodes quote all symbols")
        eventually(lambda: self.value(ORDERS_STEP) > 0, BACK_TIMEOUT_S, "the market's first orders")  # step 0 has none
        self.pids = self.system.pids()

    def arm(self, process: str) -> None:
        arm(self.folder, self.point, process=process)

    def await_crash(self, process: str) -> None:
        """Wait until the armed process has died at the point, and see that it was that one."""
        crash = Crash(self.point, self.pids[process])
        eventually(lambda: crash in crashes(self.folder), CRASH_TIMEOUT_S, f"{process} crashes at {self.point}")
        eventually(lambda: is_dead(crash.pid), CRASH_TIMEOUT_S, f"{process} is dead")

    @contextmanager
    def unsupervised(self) -> Iterator[None]:
        """Nothing that dies is started again in the meantime."""
        supervisor = psutil.Process(int((self.system.var / "run" / "supervisord.pid").read_text()))
        supervisor.suspend()
        try:
            yield
        finally:
            supervisor.resume()

    @contextmanager
    def stopped(self, process: str) -> Iterator[None]:
        """That process does nothing in the meantime."""
        stopped = psutil.Process(self.pids[process])
        stopped.suspend()
        try:
            yield
        finally:
            stopped.resume()

    def crashed(self) -> bool:
        """Whether anybody has died at the point."""
        return self.point in {crash.point for crash in crashes(self.folder)}

    def quoted_without(self, *nodes: str) -> None:
        """Wait until the others quote all symbols."""
        eventually(lambda: self.value(UNQUOTED, list(nodes)) == 0, CRASH_TIMEOUT_S, f"all are quoted without {nodes}")

    def back(self, process: str) -> None:
        """Wait until it runs again."""
        died = self.pids[process]
        eventually(lambda: self.system.pids().get(process, died) != died, BACK_TIMEOUT_S, f"{process} is back")

    def daphne_back(self) -> None:
        self.back("daphne")
        eventually(self.system.is_ready, BACK_TIMEOUT_S, "it answers again")


def is_dead(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(scope="module")
def crashing() -> Iterator[tuple[System, Path]]:
    """A test build of a system, and the folder that arms its crash points."""
    with (
        tempfile.TemporaryDirectory(prefix="mm-crash-") as folder,
        running_system(
            nodes=NODES, symbols=SYMBOLS, MM_TEST_BUILD="1", MM_CRASH_POINTS=folder, MM_LEASE_TTL_MS="15000"
        ) as system,
    ):
        yield system, Path(folder)


@pytest.mark.parametrize("point", [point for point in POINTS if statement(point) not in NODE_DONE])
def test_what_follows_a_crash_is_right(crashing: tuple[System, Path], point: Point) -> None:
    system, folder = crashing
    with system.connect() as admin:
        scene = Scene(system, folder, point, admin)
        scene.settle()
        SCENARIOS[statement(point)](scene)
        report = verify(admin)
    assert report.broken == [], [verdict.rows for verdict in report.verdicts if not verdict.ok]


# --- Orders ---------------------------------------------------------------------------------------------------

ORDERS: Final = "/api/v1/orders"
FILLS: Final = """
    SELECT fill_id FROM ledger_fill WHERE client_order_id = %(id)s
     UNION ALL SELECT trade_id FROM exchange_trade WHERE taker_order_id = %(id)s
"""
# Somebody to trade with, for as long as the quotes are only refreshed; us, if no order rests in front of our quote.
OFFERED: Final = """
    SELECT symbol, lot_size::text, tick_size::text FROM exchange_quote WHERE ask_quantity >= 2 * lot_size
     ORDER BY book_ask <= ask_price NULLS FIRST LIMIT 1
"""


def fills_of(scene: Scene, order_id: str) -> list[str]:
    """Ids of the fills that are recorded of an order, with us or with other orders."""
    return [row[0] for row in scene.admin.execute(FILLS, {"id": order_id})]


def unanswered(scene: Scene, http: httpx.Client, method: str, path: str, body: Any = None) -> None:
    """Send a request that Daphne dies of, and wait until it is back."""
    scene.arm("daphne")
    with pytest.raises(httpx.TransportError):
        http.request(method, path, json=body)
    scene.await_crash("daphne")


def answered(http: httpx.Client, method: str, path: str, body: Any = None) -> Any:
    response = http.request(method, path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def order_or_fill(scene: Scene) -> None:
    order_id = f"crash-{scene.point}"
    with scene.stopped("worker"), scene.system.client() as http:
        symbol, lot, _tick = scene.rows(OFFERED)[0]
        order = {"client_order_id": order_id, "symbol": symbol, "side": "buy", "type": "market",
                 "time_in_force": "IOC", "quantity": lot}  # fmt: skip
        unanswered(scene, http, "POST", ORDERS, order)
        filled_then = fills_of(scene, order_id)
        assert len(filled_then) == scene.is_after
        scene.daphne_back()

        found = http.get(f"{ORDERS}/{order_id}")
        answer = answered(http, "POST", ORDERS, order)
        again = answered(http, "POST", ORDERS, order)

    assert found.status_code == (200 if scene.is_after else 404)
    assert answer == again
    assert answer["status"] == "filled"
    filled = fills_of(scene, order_id)
    assert [fill["fill_id"] for fill in answer["fills"]] == filled
    if scene.is_after:
        assert found.json() == answer
        assert filled == filled_then


def cancel(scene: Scene) -> None:
    order_id = f"crash-{scene.point}"
    with scene.stopped("worker"), scene.system.client() as http:  # or a large order of the market's may take it
        symbol, lot, tick = scene.rows(OFFERED)[0]
        order = {"client_order_id": order_id, "symbol": symbol, "side": "buy", "type": "limit", "time_in_force": "GTC",
                 "price": tick, "quantity": lot}  # fmt: skip
        rested = answered(http, "POST", ORDERS, order)
        unanswered(scene, http, "DELETE", f"{ORDERS}/{order_id}")
        status = scene.value("SELECT status::text FROM exchange_order WHERE client_order_id = %s", order_id)
        assert status == ("cancelled" if scene.is_after else "resting")
        scene.daphne_back()

        cancelled = answered(http, "DELETE", f"{ORDERS}/{order_id}")
        assert answered(http, "DELETE", f"{ORDERS}/{order_id}") == cancelled
        assert cancelled["status"] == "cancelled"
        assert answered(http, "POST", ORDERS, order) == rested, "the order again gets its first answer"
    cancels = """SELECT count(*) FROM journal_activity WHERE kind = 'order' AND data->>'client_order_id' = %s
                    AND data->>'status' = 'cancelled'"""
    assert scene.value(cancels, order_id) == 1


# --- The market's own steps -----------------------------------------------------------------------------------


def generated(scene: Scene, step: int) -> set[str]:
    """Ids of the orders that the step brings."""
    seed = scene.value("SELECT seed FROM exchange_clock")
    symbols = scene.rows("SELECT name, orders_per_step FROM exchange_symbol")
    return {order_id for name, rate in symbols for order_id in external_order_ids(seed, name, rate, step)}


def placed(scene: Scene, step: int) -> set[str]:
    """Ids of the step's orders that are there."""
    return {row[0] for row in scene.rows("SELECT client_order_id FROM exchange_order WHERE step = %s", step)}


CLOCK: Final = """
    SELECT step, orders_step, clock_timestamp() >= due_at - tick_ms * interval '1 ms' / 2 FROM exchange_clock
"""


def clock_batch_or_step(scene: Scene) -> None:
    with scene.unsupervised():
        scene.arm("worker")
        scene.await_crash("worker")
        step, done, is_due = scene.rows(CLOCK)[0]
        next_there = placed(scene, done + 1)
        prices = scene.rows("SELECT DISTINCT step FROM exchange_price")
        scene.quoted_without()
    assert prices == [(step,)]
    assert placed(scene, done) == generated(scene, done)
    match scene.point:
        case "clock.before":
            assert is_due, "the step that it was about to take"
            assert next_there == set()
        case "clock.after" | "batch.before":
            assert done < step
            assert next_there == set()
        case "batch.after" | "step.before":
            assert done < step
            assert next_there == generated(scene, done + 1)
        case "step.after":
            assert next_there == set()
        case other:
            raise AssertionError(other)
    scene.back("worker")
    eventually(lambda: scene.rows(CLOCK)[0][1] > step, BACK_TIMEOUT_S, "the steps go on")
    for one in range(done, step + 2):
        assert placed(scene, one) == generated(scene, one)


# --- Operators ------------------------------------------------------------------------------------------------

AUDIT: Final = "SELECT before, after FROM journal_audit WHERE reason = %s ORDER BY id"


def toggle(scene: Scene) -> None:
    symbol, reason = scene.value("SELECT min(name) FROM exchange_symbol"), f"crash {scene.point}"
    path, off = f"/api/v1/symbols/{symbol}/quoting", {"enabled": False, "reason": f"crash {scene.point}"}
    switch = "SELECT quoting_enabled, published_at IS NOT NULL FROM exchange_quote WHERE symbol = %s"
    with scene.system.client() as http:
        unanswered(scene, http, "POST", path, off)
        assert scene.rows(switch, symbol) == [(not scene.is_after, not scene.is_after)]
        assert scene.rows(AUDIT, reason) == [(True, False)] * scene.is_after
        scene.daphne_back()

        assert answered(http, "POST", path, off)["before"] is not scene.is_after
        assert scene.rows(switch, symbol) == [(False, False)]
        assert scene.rows(AUDIT, reason) == [(True, False)] + [(False, False)] * scene.is_after
        answered(http, "POST", path, {"enabled": True})


def drain(scene: Scene) -> None:
    reason = f"crash {scene.point}"
    command = ("drain", "node-2", "--reason", reason)
    draining = "SELECT draining FROM authority_node WHERE name = 'node-2'"
    scene.arm("manage")
    assert scene.system.manage(*command).returncode == KILLED
    assert scene.crashed()
    assert scene.value(draining) is scene.is_after
    assert scene.rows(AUDIT, reason) == [(False, True)] * scene.is_after

    assert scene.system.manage(*command).returncode == 0
    scene.quoted_without("node-2")
    assert scene.rows(AUDIT, reason) == [(False, True)] + [(True, True)] * scene.is_after
    scene.rows("SELECT authority_set_draining_v1('node-2', false, 'tester')")


SCENARIOS: Final[dict[str, Callable[[Scene], None]]] = {
    "order": order_or_fill,
    "fill": order_or_fill,
    "cancel": cancel,
    "batch": clock_batch_or_step,
    "clock": clock_batch_or_step,
    "step": clock_batch_or_step,
    "toggle": toggle,
    "drain": drain,
}
