"""How long does checking a history take? `python -m tests.bench.history --operations 100000`.

The history is made up by a sequential market with many processes: each operation takes effect at one moment between
its invocation and its return, in the order of those moments, so that the history is linearizable and serializable by
construction, and the tables are what that market holds at the end. Some operations get no answer, and half of those
took effect. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from chaos.history.check import judge
from chaos.history.facts import Facts, Fill, Note, OrderRow, Tenure, Toggle, Trade, Version
from chaos.history.operations import History, Operation, read

NODES, CLIENTS, SYMBOLS = 5, 20, 20
UNKNOWN = 0.01  # of all operations
PRICE, SIZE = Decimal(100), Decimal(20)
STEP_NS = 1_000_000  # the mean of each pause


@dataclass
class Book:
    """A symbol as the market has it."""

    name: str
    epoch: int = 0
    holder: str | None = None
    enabled: bool = True
    version: int = 0
    quote: list[Decimal] | None = None  # what is left of bid and ask
    quote_epoch: int = 0
    sequence: int = 0
    trades: int = 0
    quantity: Decimal = Decimal(0)
    cash: Decimal = Decimal(0)
    resting: list[str] = field(default_factory=list)


@dataclass
class Process:
    """One that asks for one thing after another. A node has an incarnation, a client its own orders."""

    name: str
    incarnation: str | None = None
    orders: list[dict[str, Any]] = field(default_factory=list)


class Market:
    """Everything happens here at one moment, one after another."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.books = {f"S{number}": Book(f"S{number}") for number in range(SYMBOLS)}
        self.facts = Facts()
        self.operations: list[Operation] = []
        self.xid = 1000
        self.count = 0
        self.ended: set[str] = set()
        self.nodes = [Process(f"node-{number}") for number in range(NODES)]
        self.clients = [Process(f"client-{number}") for number in range(CLIENTS)]

    # --- The run ----------------------------------------------------------------------------------------------

    def run(self, operations: int) -> None:
        """So many operations, by all processes at once."""
        queue: list[tuple[int, int, Process, int, str, dict[str, Any], Callable[[], Any]]] = []
        serial = 0

        def ask(process: Process, now: int) -> None:
            nonlocal serial
            serial += 1
            op, given, effect = self.next_of(process)
            invoked = now + self.dice.randrange(1, STEP_NS)
            heapq.heappush(
                queue, (invoked + self.dice.randrange(1, STEP_NS), serial, process, invoked, op, given, effect)
            )

        for process in (*self.nodes, *self.clients):
            ask(process, 1)
        while len(self.operations) < operations:
            moment, _serial, process, invoked, op, given, effect = heapq.heappop(queue)
            is_unknown = op != "register" and self.dice.random() < UNKNOWN
            output = None if is_unknown and self.dice.random() < 0.5 else effect()
            returned = moment + self.dice.randrange(1, STEP_NS)
            one = Operation(process.name, op, invoked, returned, given, output)
            if is_unknown:
                one.returned = one.output = None
            self.operations.append(one)
            ask(process, returned)
        self.operations.sort(key=lambda one: one.invoked)

    def next_of(self, process: Process) -> tuple[str, dict[str, Any], Callable[[], Any]]:
        """What it asks for next: name, input, and what happens when it happens."""
        if process in self.nodes:
            return self.next_of_node(process)
        return self.next_of_client(process)

    def next_of_node(self, node: Process) -> tuple[str, dict[str, Any], Callable[[], Any]]:
        if node.incarnation is None:
            return "register", {"node": node.name}, lambda: self.register(node)
        incarnation, kind = node.incarnation, self.dice.random()
        held = {book.name: book.epoch for book in self.books.values() if book.holder == incarnation}
        free = [book.name for book in self.books.values() if book.holder is None]
        if kind < 0.1 and free:
            symbols = self.dice.sample(free, min(len(free), 5))
            return (
                "acquire",
                {"incarnation": incarnation, "symbols": symbols},
                lambda: self.acquire(symbols, incarnation),
            )
        if kind < 0.13 and held:
            symbols = self.dice.sample(sorted(held), 1)
            return (
                "release",
                {"incarnation": incarnation, "symbols": symbols},
                lambda: {"released": [name for name in symbols if self.release(name, incarnation)]},
            )
        if kind < 0.15:
            return "renew", {"incarnation": incarnation}, lambda: self.renew(node, incarnation)
        if kind < 0.155:
            other = self.dice.choice([other for other in self.nodes if other is not node])
            return "sweep", {}, lambda: self.sweep(other)
        epochs = {name: held[name] for name in self.dice.sample(sorted(held), min(len(held), 3))}
        return (
            "replace",
            {"incarnation": incarnation, "epochs": epochs},
            lambda: self.replace(node, incarnation, epochs),
        )

    def next_of_client(self, client: Process) -> tuple[str, dict[str, Any], Callable[[], Any]]:
        kind, name = self.dice.random(), self.dice.choice(list(self.books))
        if kind < 0.05 and client.orders:
            order = self.dice.choice(client.orders[-50:])
            return "order", order, lambda: self.order(order)
        if kind < 0.1 and client.orders:
            id_ = self.dice.choice(client.orders[-50:])["client_order_id"]
            return "order_state", {"client_order_id": id_}, lambda: self.state(id_)
        if kind < 0.15 and client.orders:
            id_ = self.dice.choice(client.orders[-50:])["client_order_id"]
            return "cancel", {"client_order_id": id_}, lambda: self.cancel(id_)
        if kind < 0.16:
            self.count += 1
            enabled, reason = self.dice.random() < 0.7, f"toggle {self.count}"
            given = {"symbol": name, "enabled": enabled, "reason": reason}
            return "toggle", given, lambda: self.toggle(name, enabled, reason)
        if kind < 0.2:
            return "positions", {}, self.positions
        if kind < 0.23:
            last = self.books[name].sequence - 5
            after = f"{name}-{last:012}" if last > 0 else None
            return "fills", {"symbol": name, "after": after}, lambda: self.fills(name, max(last, 0))
        self.count += 1
        order = {
            "client_order_id": f"o{self.count}",
            "symbol": name,
            "side": self.dice.choice(["buy", "sell"]),
            "time_in_force": self.dice.choices(["IOC", "GTC"], [9, 1])[0],
            "quantity": str(self.dice.randint(1, 5)),
        }
        client.orders.append(order)
        return "order", order, lambda: self.order(order)

    # --- What happens -----------------------------------------------------------------------------------------

    def register(self, node: Process) -> dict[str, Any]:
        self.count += 1
        node.incarnation = f"i{self.count:07}"
        return {"incarnation": node.incarnation, "serial": self.count}

    def acquire(self, symbols: list[str], incarnation: str) -> dict[str, Any]:
        self.xid += 1
        return {"grants": [[name, *self.grant(name, incarnation)] for name in symbols]}

    def grant(self, name: str, incarnation: str) -> tuple[int, str]:
        book = self.books[name]
        if book.holder is not None or incarnation in self.ended:
            return book.epoch, "ended" if incarnation in self.ended else "held"
        book.epoch, book.holder = book.epoch + 1, incarnation
        self.facts.tenures.append(Tenure(name, book.epoch, incarnation, "", None, self.xid))
        return book.epoch, "granted"

    def release(self, name: str, incarnation: str, reason: str = "released") -> bool:
        book = self.books[name]
        if book.holder != incarnation:
            return False
        book.holder = None
        tenures = self.facts.tenures
        place = next(k for k in reversed(range(len(tenures))) if tenures[k][:2] == (name, book.epoch))
        tenures[place] = tenures[place]._replace(reason=reason)
        return True

    def renew(self, node: Process, incarnation: str) -> dict[str, Any]:
        if incarnation in self.ended:
            node.incarnation = None
        return {"alive": incarnation not in self.ended}

    def sweep(self, other: Process) -> dict[str, Any]:
        incarnation = other.incarnation
        if incarnation is None or incarnation in self.ended:
            return {}
        self.ended.add(incarnation)
        self.xid += 1
        for book in self.books.values():
            if self.release(book.name, incarnation, "session_lost"):
                self.withdraw(book, "session_lost")
        return {"incarnation": incarnation, "reason": "session_lost", "done": True}

    def replace(self, node: Process, incarnation: str, epochs: dict[str, int]) -> dict[str, Any]:
        self.xid += 1
        outcomes: list[list[Any]] = []
        for name, epoch in sorted(epochs.items()):
            book = self.books[name]
            if epoch < book.epoch:
                outcomes.append([name, "stale_epoch", None])
            elif book.holder != incarnation:
                outcomes.append([name, "not_holder", None])
            elif not book.enabled:
                outcomes.append([name, "quoting_disabled", None])
            else:
                book.version += 1
                book.quote, book.quote_epoch = [SIZE, SIZE], epoch
                self.facts.versions.append(
                    Version(name, book.version, epoch, incarnation, book.sequence, None, SIZE, SIZE, self.xid)
                )
                outcomes.append([name, "accepted", book.version])
        if incarnation in self.ended:
            node.incarnation = None
        return {"outcomes": outcomes}

    def withdraw(self, book: Book, reason: str) -> None:
        if book.quote is None:
            return
        book.version, book.quote = book.version + 1, None
        row = Version(book.name, book.version, book.quote_epoch, "", book.sequence, reason, None, None, self.xid)
        self.facts.versions.append(row)

    def toggle(self, symbol: str, enabled: bool, reason: str) -> dict[str, Any]:
        book, before = self.books[symbol], self.books[symbol].enabled
        self.xid += 1
        book.enabled = enabled
        if not enabled:
            self.withdraw(book, "quoting_disabled")
        self.facts.toggles.append(Toggle(symbol, self.xid, before, enabled, reason, self.xid))
        return {"status": 200, "answer": {"symbol": symbol, "before": before, "after": enabled}}

    def order(self, order: dict[str, Any]) -> dict[str, Any]:
        id_, book = order["client_order_id"], self.books[order["symbol"]]
        if (known := self.facts.orders.get(id_)) is not None:
            return {"status": 200, "answer": known.first or answer(known)}
        self.xid += 1
        wanted, buys, fills = Decimal(order["quantity"]), order["side"] == "buy", []
        side = 1 if buys else 0
        rests = order["time_in_force"] == "GTC" and self.dice.random() < 0.8
        taken = Decimal(0)
        if not rests and book.quote is not None and book.quote[side]:
            taken = min(wanted, book.quote[side])
            book.quote[side] -= taken
            fills.append(self.fill(book, -taken if buys else taken, id_))
        elif not rests and book.resting:
            maker = self.facts.orders[book.resting[0]]
            taken = min(wanted, maker.quantity - maker.filled_quantity)
            fills.append(self.trade(book, maker, id_, taken))
        status = "filled" if taken == wanted else "resting" if rests else "cancelled"
        row = OrderRow(id_, book.name, status, wanted, taken, tuple(fills), None, None)
        if rests:
            row = row._replace(first=answer(row))
            book.resting.append(id_)
        if status != "filled":
            self.facts.notes.append(Note(id_, False, self.xid))
        self.facts.orders[id_] = row
        return {"status": 200, "answer": answer(row)}

    def fill(self, book: Book, signed: Decimal, id_: str) -> tuple[str, str, str]:
        book.sequence += 1
        book.quantity, book.cash = book.quantity + signed, book.cash - signed * PRICE
        fill_id = f"{book.name}-{book.sequence:012}"
        self.facts.fills.append(
            Fill(
                book.name, book.sequence, fill_id, signed, PRICE, id_, book.version, book.quantity, book.cash, self.xid
            )
        )
        return fill_id, str(PRICE), str(abs(signed))

    def trade(self, book: Book, maker: OrderRow, taker: str, quantity: Decimal) -> tuple[str, str, str]:
        book.trades += 1
        execution = (f"{book.name}-X{book.trades:012}", str(PRICE), str(quantity))
        filled = maker.filled_quantity + quantity
        status = "filled" if filled == maker.quantity else "partially_filled"
        if status == "filled":
            book.resting.remove(maker.client_order_id)
        self.facts.orders[maker.client_order_id] = maker._replace(
            fills=(*maker.fills, execution), filled_quantity=filled, status=status
        )
        self.facts.trades.append(Trade(book.name, book.trades, execution[0], maker.client_order_id, taker, self.xid))
        return execution

    def cancel(self, id_: str) -> dict[str, Any]:
        row = self.facts.orders.get(id_)
        if row is None:
            return {"status": 404, "answer": {"code": "unknown_order"}}
        if row.status in ("resting", "partially_filled"):
            self.xid += 1
            self.books[row.symbol].resting.remove(id_)
            row = self.facts.orders[id_] = row._replace(status="cancelled")
            self.facts.notes.append(Note(id_, True, self.xid))
        if row.status == "cancelled":
            return {"status": 200, "answer": answer(row)}
        return {"status": 409, "answer": {"code": "not_open"}}

    # --- Reads ------------------------------------------------------------------------------------------------

    def state(self, id_: str) -> dict[str, Any]:
        row = self.facts.orders.get(id_)
        return {"status": 404, "answer": {}} if row is None else {"status": 200, "answer": answer(row)}

    def positions(self) -> dict[str, Any]:
        items = [{"symbol": book.name, "version": book.sequence} for book in self.books.values()]
        return {"status": 200, "answer": {"items": items, "next": None}}

    def fills(self, name: str, after: int) -> dict[str, Any]:
        items = [{"fill_id": f"{name}-{number:012}"} for number in range(after + 1, self.books[name].sequence + 1)]
        return {"status": 200, "answer": {"items": items, "next": None}}


def answer(row: OrderRow) -> dict[str, Any]:
    """What the owner is told of its order."""
    return {
        "client_order_id": row.client_order_id,
        "status": row.status,
        "filled_quantity": str(row.filled_quantity),
        "fills": [{"fill_id": id_, "price": price, "quantity": quantity} for id_, price, quantity in row.fills],
        "reject_code": row.reject_code,
    }


def made_up(operations: int, seed: int) -> tuple[History, Facts]:
    """A history of so many operations, and the tables that it left."""
    market = Market(seed)
    market.run(operations)
    facts = market.facts
    facts.tenures.sort()
    facts.versions.sort(key=lambda row: (row.symbol, row.version))
    facts.fills.sort(key=lambda row: (row.symbol, row.sequence))
    facts.toggles.sort(key=lambda row: (row.symbol, row.number))
    return History(market.operations), facts


def write(history: History, folder: Path) -> None:
    """As if each process had recorded its own part."""
    files: dict[str, list[tuple[int, str]]] = {}
    for number, one in enumerate(history.operations):
        lines = files.setdefault(one.process, [])
        lines.append((one.invoked, json.dumps({"id": number, "op": one.op, "at": one.invoked, "input": one.input})))
        if one.returned is not None:
            lines.append((one.returned, json.dumps({"id": number, "at": one.returned, "output": one.output})))
    for process, lines in files.items():
        text = "\n".join([json.dumps({"process": process, "pid": 1}), *(line for _at, line in sorted(lines))])
        (folder / f"{process}.jsonl").write_text(text + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    history, facts = made_up(options.operations, options.seed)
    with tempfile.TemporaryDirectory() as name:
        write(history, Path(name))
        began = time.process_time()
        history = read(Path(name))
        read_at = time.process_time()
        report = judge(history, facts)
        ended = time.process_time()
    times = {"read_cpu_s": read_at - began, "check_cpu_s": ended - read_at, "cpu_s": ended - began}
    print(json.dumps({key: round(value, 2) for key, value in times.items()} | report.as_json(), indent=1))


if __name__ == "__main__":
    main()
