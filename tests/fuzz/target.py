"""The system that is asked over the wire, what it was seen to take, and what its programs wrote meanwhile."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx

from accounts.permissions import VIEWER
from tests.fuzz.conversation import Witness
from tests.fuzz.inputs import Input, World
from tests.fuzz.oracle import Answer
from tests.support import Database, System, eventually, running_system
from tests.web.client import client_of

NODES: Final = 2
SYMBOLS: Final = 3


class Taken:
    """What was accepted, told by the answers alone: the orders' ids, and how many rows of audit there must be."""

    def __init__(self) -> None:
        self.orders: set[str] = set()
        self.audited = 0
        self._lock = threading.Lock()

    def note(self, sent: Input, answer: Answer) -> None:
        """Any answer; those to reads and refusals count for nothing."""
        if sent.method != "POST" or answer.status not in (200, 302):
            return
        with self._lock:
            if answer.status == 302:
                self._note_redirect(answer)
            elif answer.headers.get("content-type", "").startswith("application/json"):
                self._note_document(json.loads(answer.body))

    def _note_document(self, said: dict[str, Any]) -> None:
        match said:
            case {"items": [*items]}:  # a batch, or all symbols' switch
                self.orders |= {item["client_order_id"] for item in items if "status" in item}
                self.audited += sum("after" in item for item in items)
            case {"order": {"client_order_id": order_id}} | {"client_order_id": order_id}:
                self.orders.add(order_id)
            case {"changed": [*items]}:  # the console's switches, or a cancelled order
                self.audited += sum("after" in item for item in items)
            case {"before": _, "after": _}:
                self.audited += 1

    def _note_redirect(self, answer: Answer) -> None:
        """A form without a script is sent on: an order to itself in the blotter, a switch to the live page."""
        location = urlsplit(answer.headers["location"])
        if location.path == "/orders/":
            self.orders |= set(parse_qs(location.query)["q"])
        elif location.path == "/":
            raise AssertionError("a switch without a script: how many symbols it turned cannot be told from the answer")


@dataclass
class Target:
    """A running system, with a well-behaved client on its stream from the beginning to the end."""

    system: System
    world: World
    witness: Witness
    daphne: int  # its pid
    taken: Taken = field(default_factory=Taken)
    memory_bytes: int = 0  # of Daphne, at the beginning
    _read: int = 0  # of Daphne's log

    @property
    def url(self) -> str:
        return self.system.url

    def fresh_log(self) -> str:
        """What Daphne has written since the last time."""
        text = self.system.log("daphne")
        fresh, self._read = text[self._read :], len(text)
        return fresh


def _session(system: System) -> str:
    """The key of a session, signed in by the form as a person would."""
    operator = system.operator()
    with httpx.Client(base_url=system.url, timeout=30) as browser:
        browser.get("/login/")
        form = {"username": operator["username"], "password": operator["password"]}
        csrf = browser.cookies[f"mm_csrf_{system.port}"]
        answer = browser.post("/login/", data=form, headers={"X-CSRFToken": csrf, "Referer": system.url})
        assert answer.status_code == 302, answer
        return browser.cookies[f"mm_session_{system.port}"]


def _orders(system: System) -> list[str]:
    """An order that rests far away, and one that is done."""
    made = []
    with system.client() as client:
        for name, kind in (("c-rests", "GTC"), ("c-done", "IOC")):
            symbol = client.get("/api/v1/symbols").json()["items"][0]
            order = {
                "client_order_id": name, "symbol": symbol["symbol"], "side": "buy", "type": "limit",
                "time_in_force": kind, "price": symbol["tick_size"], "quantity": symbol["lot_size"],
            }  # fmt: skip
            answer = client.post("/api/v1/orders", json=order)
            assert answer.status_code == 200, answer.text
            made.append(name)
    return made


@contextmanager
def running_target() -> Iterator[Target]:
    """A system of its own that has traded. Only errors are logged: each refusal would be a warning."""
    with running_system(nodes=NODES, symbols=SYMBOLS, MM_LOG_LEVEL="ERROR") as system:
        with system.client() as client:
            fills = eventually(lambda: client.get("/api/v1/fills").json()["items"], 60, "it trades")
            symbols = [item["symbol"] for item in client.get("/api/v1/symbols").json()["items"]]
        viewer = _viewer(system)
        world = World(
            host=f"127.0.0.1:{system.port}",
            port=system.port,
            token=system.operator()["token"],
            viewer=viewer,
            session=_session(system),
            symbols=symbols,
            nodes=[f"node-{number}" for number in range(1, NODES + 1)],
            orders=_orders(system),
            fills=[fill["fill_id"] for fill in fills[:5]],
        )
        witness = Witness(world)
        target = Target(system, world, witness, system.pid("daphne"))
        target.taken.orders |= set(world.orders)
        try:
            yield target
        finally:
            witness.leave()


def _viewer(system: System) -> str:
    """The token of somebody who may only read."""
    database = Database(system.urls())
    with database.django("admin"):
        token = client_of("vera", VIEWER).token
    assert token is not None
    return token
