"""What a fault is, and one happening of it.

A fault is a function of an `Occasion`: where it happens, for how long, and its own dice, all set by the schedule before
the run begins. Whatever else happens meanwhile, it must leave things healed; what it expects of the system it states
with `expect`, which is a violation when it does not hold.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import psycopg

from chaos.arena import Arena
from chaos.history.operations import recorded
from chaos.load import Record
from mmproject.recording import Recorder

POLL_S: Final = 0.05
BACK_S: Final = 30.0  # a healed process or server is back by then, or that is a violation


class Broken(AssertionError):
    """What a fault expected of the system did not hold."""


@dataclass(frozen=True)
class Fault:
    """One kind. Two occasions whose `touches` meet do not overlap; "node" stands for the node that is hit."""

    number: int
    name: str
    what: str
    seconds: tuple[float, float]
    act: Callable[[Occasion], None]
    touches: tuple[str, ...]
    nodes: tuple[str, ...] = ("node-1", "node-2", "node-3")  # that it may hit
    needs: Callable[[], str | None] = lambda: None  # what is missing on this machine for it, in words


@dataclass
class Occasion:
    """One happening of a fault. Times are Unix seconds, by the clock that the database reads too."""

    fault: Fault
    at_s: float  # since the run began
    seconds: float
    node: str | None
    seed: int
    arena: Arena = field(repr=False)
    record: Record = field(repr=False)
    history: Recorder = field(repr=False)
    stop: threading.Event = field(repr=False)
    tell: Callable[[str, str], None] = field(repr=False)
    began_at: float = 0.0
    ended_at: float = 0.0
    hit_at: float = 0.0  # when what it breaks was hit, if that is later than it began
    details: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    cut_short: bool = False  # by another fault; then it counts as not having happened
    symbols: list[str] = field(default_factory=list)  # that the node held when it began
    healed: threading.Event = field(default_factory=threading.Event, repr=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    @property
    def touches(self) -> set[str]:
        """What it breaks; two that share something do not overlap."""
        return {self.node if touched == "node" and self.node else touched for touched in self.fault.touches}

    def wait(self, seconds: float | None = None) -> None:
        """For the fault to last; cut short at the run's end."""
        self.stop.wait(self.seconds if seconds is None else seconds)

    def expect(self, holds: object, what: str) -> None:
        """Raises Broken."""
        if not holds:
            raise Broken(what)

    def eventually(self, condition: Callable[[], object], what: str, timeout_s: float = BACK_S) -> None:
        """Wait for it; errors of a connection count as not yet. Raises Broken."""
        deadline = time.monotonic() + timeout_s
        last: object = None
        while time.monotonic() < deadline:
            try:
                last = condition()
                if last:
                    return
            except (psycopg.Error, httpx.TransportError) as error:
                last = error
            time.sleep(POLL_S)
        raise Broken(f"not within {timeout_s:g} s: {what}; last seen: {last!r}")

    @contextmanager
    def database_lost(self) -> Iterator[None]:
        """Around whatever may make the server lose what it has not flushed, until one is back: histories need it."""
        number = self.history.invoke("database_lost", {})
        try:
            yield
        finally:
            self.history.returned(number, {})

    def toggle(self, http: httpx.Client, symbol: str | None, enabled: bool, why: str) -> httpx.Response | None:
        """An operator's command, recorded; None when no answer came."""
        reason = f"chaos {self.seed} {time.time_ns()}: {why}"
        path = f"/api/v1/symbols/{symbol}/quoting" if symbol else "/api/v1/quoting"
        told = {"symbol": symbol, "enabled": enabled, "reason": reason}
        return self._post(http, "toggle", told, path, {"enabled": enabled, "reason": reason})

    def order(self, http: httpx.Client, order: dict[str, str]) -> httpx.Response | None:
        """A client's order, recorded in the history; None when no answer came."""
        return self._post(http, "order", order, "/api/v1/orders", order)

    def _post(
        self, http: httpx.Client, op: str, told: dict[str, Any], path: str, body: dict[str, Any]
    ) -> httpx.Response | None:
        answers: list[httpx.Response] = []

        def send() -> tuple[int, Any]:
            answers.append(http.post(path, json=body))
            return answers[0].status_code, answers[0].json() if answers[0].status_code < 500 else None

        try:
            recorded(self.history, op, told, send)
        except httpx.TransportError:
            return None
        return answers[0]

    def acknowledge(self, order: dict[str, str], answer: dict[str, Any]) -> None:
        """Into the clients' record, on disk: it has to be there at the end (I10)."""
        self.record.write({**{key: order[key] for key in ("symbol", "side", "type", "time_in_force")}, **answer})

    @property
    def process(self) -> Any:
        """The process of the node that is hit."""
        assert self.node is not None
        return self.arena.supervisor[self.node]

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """From the server that can write, as its admin. Raises psycopg.Error."""
        with self.arena.connect() as connection:
            return connection.execute(query.encode(), values or None).fetchall()

    def symbol(self) -> str:
        return str(self.dice.choice(sorted(row[0] for row in self.rows("SELECT name FROM exchange_symbol"))))
