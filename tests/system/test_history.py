"""A system whose nodes and clients record what they ask and are told, broken on purpose, and its history checked."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.history import Report, check
from chaos.history.operations import recorded
from chaos.load import made_up, terms_of
from mmproject.recording import Json, Recorder
from tests.support import System, eventually, running_system

CLIENTS = 3
KILL_AFTER, ORDERS = 40, 150  # orders answered when the node is killed, and when it is enough
LOAD_TIMEOUT_S = 120  # on a machine busy with other tests

# All that nodes do is done: the one that was killed has come back and has its share.
SETTLED = """
    SELECT (SELECT count(*) FROM authority_member) = 3 AND (SELECT count(*) FROM authority_incarnation) > 3
           AND (SELECT cardinality(members) FROM authority_rebalance ORDER BY generation DESC LIMIT 1) = 3
           AND NOT EXISTS (SELECT FROM authority_lease l JOIN authority_assignment a USING (symbol)
                            WHERE l.node IS DISTINCT FROM a.node)
"""

pytestmark = pytest.mark.timeout(300)


class Client(threading.Thread):
    """Orders, some of them twice, cancels, toggles and reads over HTTP, all recorded, until told to stop."""

    def __init__(self, number: int, system: System, recorder: Recorder, stop: threading.Event) -> None:
        super().__init__(name=f"client-{number}")
        self._dice, self._number, self._recorder, self._stopped = random.Random(number), number, recorder, stop
        self._http = system.client()
        self._terms = terms_of(self._http)
        self.answered = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            for count in itertools.count():
                if self._stopped.is_set():
                    return
                self._one(f"h{self._number}-{count}", count)
        except Exception as error:  # noqa: BLE001 - shown by the test
            self.error = error
        finally:
            self._http.close()

    def _one(self, id_: str, count: int) -> None:
        terms = self._dice.choice(self._terms)
        order = made_up(self._dice, terms, id_)
        for _repeated in range(1 + (count % 10 == 0)):
            status, answer = self._ask("order", order, "POST", "orders", order)
            assert status == 200, answer
            self.answered += 1
        if answer["status"] in ("resting", "partially_filled") and self._dice.random() < 0.7:
            self._ask("order_state", {"client_order_id": id_}, "GET", f"orders/{id_}")
            self._ask("cancel", {"client_order_id": id_}, "DELETE", f"orders/{id_}")
        if count % 5 == 0:
            self._ask("positions", {}, "GET", "positions?limit=1000")
            asked = {"symbol": terms.symbol, "after": None}
            self._ask("fills", asked, "GET", f"fills?limit=1000&symbol={terms.symbol}")
        if count % 25 == self._number:
            for enabled in (False, True):
                switch = {"symbol": terms.symbol, "enabled": enabled, "reason": f"{id_} {enabled}"}
                self._ask("toggle", switch, "POST", f"symbols/{terms.symbol}/quoting")

    def _ask(self, op: str, given: dict[str, Any], method: str, path: str, body: Any = None) -> tuple[int, Any]:
        if op == "toggle":
            body = {"enabled": given["enabled"], "reason": given["reason"]}

        def send() -> tuple[int, Any]:
            response = self._http.request(method, f"/api/v1/{path}", json=body)
            return response.status_code, response.json()

        return recorded(self._recorder, op, given, send)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[System, Path]]:
    """Load on three nodes, one of them killed meanwhile; the system, and the folder of its recordings."""
    folder = tmp_path_factory.mktemp("history")
    with running_system(nodes=3, symbols=4, MM_HISTORY=str(folder), MM_LEASE_TTL_MS="15000") as system:
        with system.client() as http:

            def is_quoted() -> bool:
                return len(http.get("/api/v1/quotes").json()["items"]) == 4

            eventually(is_quoted, 30, "all symbols are quoted")
        recorder, stop = Recorder(folder, "clients"), threading.Event()
        clients = [Client(number, system, recorder, stop) for number in range(CLIENTS)]
        for client in clients:
            client.start()

        def answered(orders: int) -> bool:
            if failed := [client.error for client in clients if client.error is not None]:
                raise RuntimeError(f"a client ended: {failed}")
            return sum(client.answered for client in clients) >= orders

        try:
            eventually(lambda: answered(KILL_AFTER), LOAD_TIMEOUT_S, "orders are answered")
            system.signal("node-2", signal.SIGKILL)
            eventually(lambda: answered(ORDERS), LOAD_TIMEOUT_S, "orders are answered after the kill")
        finally:
            stop.set()
            for client in clients:
                client.join(30)
        recorder.close()
        # From here on the tables of quotes and leases stand still, so that a copy of the recordings is all there is.
        with system.client() as http, system.connect("console") as connection:
            eventually(lambda: connection.execute(SETTLED).fetchone() == (True,), 60, "the killed node is back")
            assert http.post("/api/v1/quoting", json={"enabled": False}).status_code == 200
        yield system, folder


def checked(system: System, folder: Path) -> Report:
    with system.connect("console") as connection:
        return check(folder, connection)


def test_a_history_with_a_node_killed_is_linearizable_and_serializable(run: tuple[System, Path]) -> None:
    report = checked(*run)
    assert report.ok, "\n".join(str(one) for found in report.checks().values() for one in found.violations)
    assert report.recorded > 2 * ORDERS
    assert report.operations["order"] >= ORDERS
    assert report.operations["register"] >= 4, "three nodes, one of them twice"
    assert report.operations["toggle"] >= 4
    leases, transactions = report.leases.counts, report.transactions.counts
    assert leases["grants"] > 4, "symbols changed hands"
    assert leases["quotes"] > 50
    assert leases["toggles"] == report.operations["toggle"] + 4, "and the last one, of all symbols"
    assert transactions["fills"] > 20
    assert transactions["answers"] >= ORDERS
    assert transactions["reads"] > 50


def tampered(folder: Path, copy: Path, op: str, change: Callable[[Json], bool]) -> Path:
    """A copy of the recordings in which `change` has altered one answer to an `op`: the last that it takes."""
    shutil.copytree(folder, copy)
    for path in sorted(copy.iterdir()):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        asked = {line["id"] for line in lines if line.get("op") == op}
        for line in reversed(lines):
            if line.get("id") in asked and "output" in line and change(line["output"]):
                path.write_text("".join(json.dumps(line) + "\n" for line in lines))
                return copy
    raise AssertionError(f"no answer to {op} could be altered")


def _other_version(output: Json) -> bool:
    for outcome in output["outcomes"]:
        if outcome[1] == "accepted":
            outcome[2] += 1_000_000
            return True
    return False


def _less_filled(output: Json) -> bool:
    if output["status"] != 200 or not output["answer"]["fills"]:
        return False
    output["answer"]["fills"].pop()
    return True


def _stale_position(output: Json) -> bool:
    item = max(output["answer"]["items"], key=lambda item: int(item["version"]))
    item["version"] = 0
    return True


@pytest.mark.parametrize(
    ("op", "change", "why"),
    [
        ("replace", _other_version, "was accepted and is"),
        ("order", _less_filled, "was answered otherwise than at first"),
        ("positions", _stale_position, "no order agrees"),
    ],
)
def test_the_same_history_with_one_line_tampered_is_refused(
    run: tuple[System, Path], tmp_path: Path, op: str, change: Callable[[Json], bool], why: str
) -> None:
    system, folder = run
    assert checked(system, tampered(folder, tmp_path / "same", op, lambda _output: True)).ok
    report = checked(system, tampered(folder, tmp_path / "other", op, change))
    found = [one.what for found in report.checks().values() for one in found.violations]
    assert [what for what in found if why in what], found


def test_the_command_says_what_was_judged_and_exits_by_it(run: tuple[System, Path], tmp_path: Path) -> None:
    system, folder = run
    told = system.manage("history", str(folder), "--json")
    assert told.returncode == 0, told.stderr
    document = json.loads(told.stdout)
    assert document["ok"]
    assert document["recorded"] > 2 * ORDERS
    broken = system.manage("history", str(tampered(folder, tmp_path / "copy", "replace", _other_version)))
    assert broken.returncode == 1
    assert "BROKEN" in broken.stdout
    assert "was accepted and is" in broken.stdout
    assert system.manage("history", str(tmp_path / "none")).returncode == 2
