"""A system whose nodes and clients record what they ask and are told, broken on purpose, and its history checked."""

from __future__ import annotations

import itertools
import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.history import Report, check
from chaos.history.operations import recorded
from mmproject.recording import Recorder
from tests.bench.acknowledged import made_up, terms_of
from tests.support import System, eventually, running_system

CLIENTS = 3
LOAD_S = 10.0
KILL_AT_S = 3.0


class Client(threading.Thread):
    """Orders, some of them twice, cancels, toggles and reads over HTTP, all recorded, until told to stop."""

    def __init__(self, number: int, system: System, recorder: Recorder, stop: threading.Event) -> None:
        super().__init__(name=f"client-{number}")
        self._dice, self._number, self._recorder, self._stopped = random.Random(number), number, recorder, stop
        self._http = system.client()
        self._terms = terms_of(self._http)
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
        if answer["status"] in ("resting", "partially_filled") and self._dice.random() < 0.7:
            self._ask("order_state", {"client_order_id": id_}, "GET", f"orders/{id_}")
            self._ask("cancel", {"client_order_id": id_}, "DELETE", f"orders/{id_}")
        if count % 5 == 0:
            self._ask("positions", {}, "GET", "positions?limit=1000")
            asked = {"symbol": terms.symbol, "after": None}
            self._ask("fills", asked, "GET", f"fills?limit=1000&symbol={terms.symbol}")
        if count % 25 == self._number:
            for enabled in (False, True):
                asked = {"symbol": terms.symbol, "enabled": enabled, "reason": f"{id_} {enabled}"}
                self._ask("toggle", asked, "POST", f"symbols/{terms.symbol}/quoting", asked)

    def _ask(self, op: str, given: dict[str, Any], method: str, path: str, body: Any = None) -> tuple[int, Any]:
        if op == "toggle":
            body = {"enabled": given["enabled"], "reason": given["reason"]}

        def send() -> tuple[int, Any]:
            response = self._http.request(method, f"/api/v1/{path}", json=body)
            return response.status_code, response.json()

        return recorded(self._recorder, op, given, send)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[System, Path]]:
    """Ten seconds of load on three nodes, one of them killed; the system, and the folder of its recordings."""
    folder = tmp_path_factory.mktemp("history")
    with running_system(nodes=3, symbols=4, MM_HISTORY=str(folder)) as system:
        with system.client() as http:

            def is_quoted() -> bool:
                return len(http.get("/api/v1/quotes").json()["items"]) == 4

            eventually(is_quoted, 30, "all symbols are quoted")
        recorder, stop = Recorder(folder, "clients"), threading.Event()
        clients = [Client(number, system, recorder, stop) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        time.sleep(KILL_AT_S)
        system.signal("node-2", signal.SIGKILL)
        time.sleep(LOAD_S - KILL_AT_S)
        stop.set()
        for client in clients:
            client.join(30)
            assert client.error is None, repr(client.error)
        recorder.close()
        yield system, folder


def checked(system: System, folder: Path) -> Report:
    with system.connect("console") as connection:
        return check(folder, connection)


def test_a_history_with_a_node_killed_is_linearizable_and_serializable(run: tuple[System, Path]) -> None:
    report = checked(*run)
    assert report.ok, "\n".join(str(one) for found in report.checks().values() for one in found.violations)
    print(json.dumps(report.as_json(), indent=1))
    assert report.recorded > 1000
    assert report.operations["order"] > 300
    assert report.operations["toggle"] > 5
    leases, transactions = report.leases.counts, report.transactions.counts
    assert leases["grants"] > 4, "symbols changed hands"
    assert leases["quotes"] > 300
    assert transactions["fills"] > 100
    assert transactions["answers"] > report.operations["order"] * 0.9
    assert transactions["reads"] > 50
