"""Clients that send orders over HTTP and keep their own record, on disk, of what they were told.

What is in the record was acknowledged: each answer is written with fsync before it counts, so that whether anything was
lost (I10) is judged from outside. An order whose answer did not come is asked about and sent again under its id.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, Final, Literal

import httpx

from chaos.history.operations import recorded
from mmproject.recording import Recorder

REQUEST_TIMEOUT_S: Final = 5.0
RETRY_MIN_S: Final = 0.05
RETRY_CAP_S: Final = 0.5
SETTLE_TIMEOUT_S: Final = 90.0  # that an order's outcome may stay unknown for; longer than any outage
REPEATS: Final = 0.05  # of the orders are sent again although they were answered
READS: Final = 0.05  # of the answers are followed by a look at what they have changed
OPEN: Final = ("resting", "partially_filled")

Answer = dict[str, Any]
Request = Literal["order", "cancel", "order_state", "positions", "fills"]
REQUESTS: Final[dict[Request, tuple[str, str]]] = {
    "order": ("POST", "/api/v1/orders"),
    "cancel": ("DELETE", "/api/v1/orders/{client_order_id}"),
    "order_state": ("GET", "/api/v1/orders/{client_order_id}"),
    "positions": ("GET", "/api/v1/positions?limit=1000"),
    "fills": ("GET", "/api/v1/fills?limit=1000&symbol={symbol}&after={after}"),
}


class Record:
    """The client's own record on disk: one answer a line, durable before `write` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.acknowledged = 0
        self._file: IO[str] = path.open("x", encoding="utf-8")
        self._lock = threading.Lock()

    def write(self, answer: Answer) -> None:
        with self._lock:
            self._file.write(json.dumps(answer) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self.acknowledged += 1

    def close(self) -> None:
        self._file.close()


@dataclass
class Terms:
    """What a client knows of a symbol when it makes up orders."""

    symbol: str
    tick: Decimal
    lot: Decimal
    price: Decimal

    def at(self, ticks: int) -> str:
        """The reference price and so many ticks, at least one tick."""
        whole = (self.price / self.tick).to_integral_value()
        return format(max(whole + ticks, Decimal(1)) * self.tick, "f")


def terms_of(http: httpx.Client) -> list[Terms]:
    """All symbols, with the reference prices of now."""
    prices = {item["symbol"]: Decimal(item["price"]) for item in _items(http, "prices")}
    return [
        Terms(item["symbol"], Decimal(item["tick_size"]), Decimal(item["lot_size"]), prices[item["symbol"]])
        for item in _items(http, "symbols")
    ]


def _items(http: httpx.Client, name: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = http.get(f"/api/v1/{name}", params={"limit": 1000}).raise_for_status().json()["items"]
    return items


def made_up(dice: random.Random, terms: Terms, order_id: str) -> dict[str, str]:
    """An order of any kind: most cross the quote, some rest, some can't be filled."""
    side, kind = dice.choice(["buy", "sell"]), dice.random()
    away = 1 if side == "buy" else -1
    order = {
        "client_order_id": order_id,
        "symbol": terms.symbol,
        "side": side,
        "type": "limit",
        "time_in_force": "IOC",
        "quantity": format(terms.lot * dice.randint(1, 10), "f"),
    }
    if kind < 0.15:
        return order | {"type": "market"}
    if kind < 0.55:
        return order | {"price": terms.at(away * 200)}
    if kind < 0.9:
        return order | {"time_in_force": "GTC", "price": terms.at(away * dice.randint(-8, 8))}
    return order | {"time_in_force": "FOK", "price": terms.at(away * dice.randint(0, 20))}


@dataclass
class Tally:
    """What one client saw. `unknown` orders got no answer at first; some of them had happened all the same."""

    unknown: int = 0
    unknown_happened: int = 0
    repeated: int = 0  # orders sent again on purpose, and answered as the first time
    wrong: list[str] = field(default_factory=list)
    longest_wait_s: float = 0.0  # between two acknowledgements


@dataclass(frozen=True)
class Sent:
    """An order and its first answer."""

    order: dict[str, str]
    answer: Answer
    at: float  # Unix time of the answer


class Client(threading.Thread):
    """Sends orders one after another, and cancels some that rest, until `stop` is set; every answer is recorded.

    `pause_s` is the mean pause between two orders, `terms` are the symbols (all of them by default).
    `history` gets every request, for chaos/history.
    """

    def __init__(
        self, number: int, http: httpx.Client, record: Record, stop: threading.Event, tag: str, *,
        pause_s: float = 0.0, terms: list[Terms] | None = None, history: Recorder | None = None,
    ) -> None:  # fmt: skip
        super().__init__(daemon=True, name=f"client-{number}")
        self._dice = random.Random(f"{tag}-{number}")
        self._http = http  # closed at our end
        self._http.timeout = httpx.Timeout(REQUEST_TIMEOUT_S)
        self._pause_s = pause_s
        self._terms = terms or terms_of(self._http)
        self._history = history
        self._record, self._stopped, self._tag, self._number = record, stop, tag, number
        self.tally = Tally()
        self.sent: list[Sent] = []
        self._last_at = time.monotonic()

    def run(self) -> None:
        count = 0
        try:
            while not self._stopped.is_set():
                count += 1
                order = made_up(self._dice, self._dice.choice(self._terms), f"{self._tag}-{self._number}-{count}")
                answer = self._settled("order", order)
                if answer is None:
                    continue
                told = {key: value for key, value in order.items() if key in ("symbol", "side", "type")}
                self._acknowledge({**told, "time_in_force": order["time_in_force"], **answer})
                self.sent.append(Sent(order, answer, time.time()))
                if self._dice.random() < READS:
                    self._read(order["symbol"], answer)
                if answer["status"] in OPEN and self._dice.random() < 0.5:
                    self._cancel({"client_order_id": order["client_order_id"]})
                if self._dice.random() < REPEATS:
                    self._repeat(self._dice.choice(self.sent))
                if self._pause_s:
                    self._stopped.wait(self._dice.uniform(0, 2 * self._pause_s))
        except Exception as error:
            self.tally.wrong.append(f"{self.name} ended: {error!r}")
            raise
        finally:
            self._http.close()

    def _read(self, symbol: str, answer: Answer) -> None:
        """What others see of it, for the history to judge."""
        asked = [self._asked("positions", {})]
        ours = [fill["fill_id"] for fill in answer["fills"] if "-X" not in fill["fill_id"]]  # not between two of theirs
        if ours:
            asked.append(self._asked("fills", {"symbol": symbol, "after": ours[0]}))
        self.tally.wrong += [
            f"a read was answered {one.status_code}: {one.text[:200]}"
            for one in asked
            if one is not None and one.status_code not in (200, 503)
        ]

    def _cancel(self, order: dict[str, str]) -> None:
        answer = self._settled("cancel", order)
        if answer is not None:
            self._acknowledge(answer)
            return
        state = self._settled("order_state", order)  # it came too late, they say
        if state is not None and state["status"] in OPEN:
            self.tally.wrong.append(f"a cancel was refused, and the order is open: {state}")

    def _repeat(self, one: Sent) -> None:
        """Send it again: the answer is to be the first one, whatever has become of the order since."""
        again = self._settled("order", one.order)
        if again is not None and again != one.answer:
            self.tally.wrong.append(f"first answered {one.answer}, and again {again}")
        self.tally.repeated += again == one.answer

    def _acknowledge(self, answer: Answer) -> None:
        self._record.write(answer)
        now = time.monotonic()
        self.tally.longest_wait_s = max(self.tally.longest_wait_s, now - self._last_at)
        self._last_at = now

    def _settled(self, op: Request, order: dict[str, str]) -> Answer | None:
        """The answer, however long it takes. None: a cancel came too late, or the answer was wrong (and is noted)."""
        order_id = order["client_order_id"]
        deadline, pause_s = time.monotonic() + SETTLE_TIMEOUT_S, RETRY_MIN_S
        unknown = happened = False
        while True:
            response = self._asked(op, order)
            if response is not None and response.status_code < 500:
                break
            unknown = True
            if time.monotonic() > deadline:
                self.tally.wrong.append(f"{op} {order_id}: no outcome in {SETTLE_TIMEOUT_S:g} s")
                return None
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_CAP_S)
            state = self._asked("order_state", {"client_order_id": order_id})
            happened |= op == "order" and state is not None and state.status_code == 200
        if unknown and op == "order":
            self.tally.unknown += 1
            self.tally.unknown_happened += happened
        if response.status_code == 200:
            answer: Answer = response.json()
            return answer
        if not (op == "cancel" and response.status_code == 409):  # 409: filled meanwhile
            self.tally.wrong.append(f"{op} {order_id}: {response.status_code} {response.text[:200]}")
        return None

    def _asked(self, op: Request, given: dict[str, str]) -> httpx.Response | None:
        """None: it may have happened or not, which is what is found out next."""
        answers: list[httpx.Response] = []

        def send() -> tuple[int, Any]:
            method, path = REQUESTS[op]
            answers.append(self._http.request(method, path.format_map(given), json=given if method == "POST" else None))
            return answers[0].status_code, answers[0].json() if answers[0].status_code < 500 else None

        try:
            recorded(self._history, op, given, send)
        except httpx.TransportError:
            return None
        return answers[0]
