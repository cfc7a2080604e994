"""Are orders, fills, quotes and toggles strictly serializable?

The nodes are the database's own transactions, by their ids, together with the requests that only read. Everything that
they wrote and read has a version number in the tables, so that the order of versions is known and nothing is guessed:

    position of a symbol    its fills' sequence: a fill writes the next; a quote names the last that it was made after
    quote of a symbol       its version: a fill names the one that it traded with
    fence of a symbol       its epoch: a grant writes it; a quote names it
    trades of a symbol      their sequence
    switch of a symbol      its audit rows
    an order                1 when it came, one more with each later execution, one more with its cancel

From these follow Adya's dependencies: ww from the writer of a version to the next one's, wr from the writer to a
reader, rw from a reader to the writer of the next. Clients' and nodes' recordings say when a transaction can have
happened: after the first request for it was sent, and before the first answer was in. A cycle of dependencies alone is
a history that is not serializable, one with time in it one that is not strictly so (see order.py).

What is no question of order is compared: each fill goes on from the position that the one before it left (a lost
update is seen here), no quote trades more than its size, each order has the executions that say so and no others, what
was acknowledged is there, and the same order is answered the same, each time. Reads in the second before a crash of
the database count for nothing: they may have seen what was then taken back, which the tables do not remember.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final

from chaos.history.facts import Facts, Fill, OrderRow
from chaos.history.operations import History, Operation, may_be_lost
from chaos.history.order import Order
from chaos.history.report import Found

CHECK: Final = "serializability"
READS: Final = frozenset(("cancel", "order_state", "fills", "positions"))  # a cancel's answer is its state
ANSWERED: Final = ("client_order_id", "status", "filled_quantity", "fills", "reject_code")  # compared, of an answer


class Transaction:
    """A transaction of the database's, or a request that only read; in words, what it is known to have done."""

    __slots__ = ("did", "one", "xid")

    def __init__(self, xid: int | None, one: Operation | None = None) -> None:
        self.xid, self.one, self.did = xid, one, [] if one is None else [str(one)]

    def __str__(self) -> str:
        shown = ", ".join(self.did[:6]) + (f" and {len(self.did) - 6} more" if len(self.did) > 6 else "")
        return shown if self.xid is None else f"transaction {self.xid}: {shown}"


class Versions:
    """Who wrote and who read which version of one thing."""

    __slots__ = ("readers", "writers")

    def __init__(self) -> None:
        self.writers: dict[int, int] = {}  # version: node
        self.readers: list[tuple[int, int]] = []  # version, node


class _Things(dict[tuple[str, str], Versions]):
    def __missing__(self, thing: tuple[str, str]) -> Versions:
        self[thing] = Versions()
        return self[thing]


def check_transactions(history: History, facts: Facts) -> Found:
    """Judge them all together."""
    found = Found()
    _Check(history, facts, found).run()
    return found


class _Check:
    def __init__(self, history: History, facts: Facts, found: Found) -> None:
        self.history, self.facts, self.found = history, facts, found
        self.outages = history.outages
        self.order = Order()
        self.things = _Things()
        self.nodes: dict[int, int] = {}  # xid: node
        self.created: dict[str, int] = {}  # order: node of the transaction that it came in
        self.cancelled: dict[str, int] = {}  # order: of the one that cancelled what was left of it
        self.executed: dict[str, int] = {}  # fill or trade id: xid

    def run(self) -> None:
        self._compare_fills()
        self._compare_orders()
        self._add_fills()
        self._add_quotes()
        self._add_orders()
        self._add_toggles()
        self._add_nodes_operations()
        self._add_requests()
        self._link()
        self.found.contradictions(CHECK, "transactions", self.order)
        self.found.counts["transactions"] = len(self.nodes)

    def _wrong(self, what: str, *lines: Any) -> None:
        self.found.add(CHECK, what, *lines)

    # --- Nodes and edges --------------------------------------------------------------------------------------

    def _of(self, xid: int, did: str) -> int:
        """The node of a transaction, of which this is one more thing that it did."""
        node = self.nodes.get(xid)
        if node is None:
            node = self.nodes[xid] = self.order.add(Transaction(xid))
        self.order.whats[node].did.append(did)
        return node

    def _write(self, kind: str, name: str, version: int, node: int) -> None:
        writers = self.things[kind, name].writers
        if writers.setdefault(version, node) != node:
            first = self.order.whats[writers[version]]
            self._wrong(f"{kind} of {name}: version {version} was written twice", first, self.order.whats[node])

    def _read(self, kind: str, name: str, version: int, node: int) -> None:
        self.things[kind, name].readers.append((version, node))

    def _between(self, node: int, asked: Iterable[Operation]) -> None:
        """The transaction was asked for by these: not before the first was sent, nor after the first that was told."""
        order = self.order
        for one in asked:
            invoked, returned = order.invoked[node], order.returned[node]
            order.invoked[node] = one.invoked if invoked is None else min(invoked, one.invoked)
            if one.returned is not None and one.output and one.output.get("status", 200) == 200:
                order.returned[node] = one.returned if returned is None else min(returned, one.returned)
            order.whats[node].did.insert(0, str(one))

    def _link(self) -> None:
        """The dependencies that follow from what was written and read."""
        edges = 0
        for (kind, name), thing in self.things.items():
            written = sorted(thing.writers)
            ww, wr, rw = (
                f"{kind} of {name}: it wrote the version before",
                f"{kind} of {name}: the next read what it wrote, or later",
                f"{kind} of {name}: it read a version before the next wrote another",
            )
            for first, second in pairwise(written):
                self.order.edge(thing.writers[first], thing.writers[second], ww)
            for version, node in thing.readers:
                place = bisect_right(written, version)
                if place:
                    self.order.edge(thing.writers[written[place - 1]], node, wr)
                if place < len(written):
                    self.order.edge(node, thing.writers[written[place]], rw)
            edges += len(written) + 2 * len(thing.readers)
        self.found.counts["dependencies"] = edges

    # --- What the tables say ----------------------------------------------------------------------------------

    def _add_fills(self) -> None:
        for fill in self.facts.fills:
            node = self._of(fill.xid, f"fill {fill.fill_id}")
            self._write("position", fill.symbol, fill.sequence, node)
            self._read("quote", fill.symbol, fill.quote_version, node)
            self.executed[fill.fill_id] = fill.xid
        for trade in self.facts.trades:
            node = self._of(trade.xid, f"trade {trade.trade_id}")
            self._write("trades", trade.symbol, trade.sequence, node)
            self.executed[trade.trade_id] = trade.xid
        self.found.counts["fills"] = len(self.facts.fills)

    def _add_quotes(self) -> None:
        for tenure in self.facts.tenures:
            node = self._of(tenure.xid, f"grant of {tenure.symbol} epoch {tenure.epoch}")
            self._write("fence", tenure.symbol, tenure.epoch, node)
        for version in self.facts.versions:
            did = f"quote {version.symbol} version {version.version}"
            node = self._of(version.xid, f"{did} withdrawn" if version.withdrawn else did)
            self._write("quote", version.symbol, version.version, node)
            self._read("position", version.symbol, version.after_sequence, node)
            if version.withdrawn is None:
                self._read("fence", version.symbol, version.epoch, node)

    def _add_orders(self) -> None:
        came: dict[str, int] = {}
        cancelled: dict[str, int] = {}
        for note in self.facts.notes:
            (cancelled if note.is_cancel else came)[note.client_order_id] = note.xid
        for id_, row in self.facts.orders.items():
            at_first = _first_fills(row)
            xid = came.get(id_)
            if xid is None and at_first:
                xid = self.executed.get(at_first[0])
            if xid is None:
                self._wrong(f"order {id_} came in no transaction that left a trace: neither execution nor activity")
                continue
            node = self.created[id_] = self._of(xid, f"order {id_}")
            self._write("order", id_, 1, node)
            version = 1
            for fill_id, *_ in row.fills[len(at_first) :]:
                version += 1
                if fill_id in self.executed:  # else it is missing, which is told elsewhere
                    self._write("order", id_, version, self._of(self.executed[fill_id], f"order {id_} executed"))
            if id_ in cancelled:
                self.cancelled[id_] = self._of(cancelled[id_], f"order {id_} cancelled")
                self._write("order", id_, version + 1, self.cancelled[id_])
        self.found.counts["orders"] = len(self.facts.orders)

    def _add_toggles(self) -> None:
        asked: dict[tuple[str | None, str], list[Operation]] = defaultdict(list)
        for one in self.history.operations:
            if one.op == "toggle" and one.input.get("reason"):
                asked[one.input["symbol"], one.input["reason"]].append(one)
        for place, toggle in enumerate(self.facts.toggles):
            node = self._of(toggle.xid, f"quoting of {toggle.symbol} {'on' if toggle.after else 'off'}")
            self._write("switch", toggle.symbol, place, node)
            for symbol in (toggle.symbol, None):
                self._between(node, asked.pop((symbol, toggle.reason), []))

    # --- Compared ---------------------------------------------------------------------------------------------

    def _compare_fills(self) -> None:
        """Each fill goes on from the one before it, and no quote trades more than its size."""
        before: Fill | None = None
        for fill in self.facts.fills:
            if before is None or before.symbol != fill.symbol:
                before = None
            sequence, quantity, cash = (
                (before.sequence, before.quantity_after, before.cash_after) if before else (0, Decimal(0), Decimal(0))
            )
            if fill.sequence != sequence + 1:
                self._wrong(f"fill {fill.fill_id} follows number {sequence}: there is a gap")
            elif (fill.quantity_after, fill.cash_after) != (quantity + fill.signed, cash - fill.signed * fill.price):
                self._wrong(
                    f"fill {fill.fill_id} does not go on from the position before it: an update was lost",
                    f"position {quantity}, cash {cash}; {fill.signed:+} at {fill.price}",
                    f"after it: position {fill.quantity_after}, cash {fill.cash_after}",
                )
            before = fill
        traded: dict[tuple[str, int, bool], Decimal] = defaultdict(Decimal)
        for fill in self.facts.fills:
            traded[fill.symbol, fill.quote_version, fill.signed > 0] += abs(fill.signed)
        for version in self.facts.versions:
            for bought, size in ((True, version.bid_quantity), (False, version.ask_quantity)):
                quantity = traded.get((version.symbol, version.version, bought), Decimal(0))
                if quantity > (size or 0):
                    side = "bid" if bought else "ask"
                    self._wrong(
                        f"quote {version.symbol} {version.version} traded {quantity} of a {side} of {size or 0}"
                    )

    def _compare_orders(self) -> None:
        """Each order lists its executions, each once."""
        executions: Counter[tuple[str, str]] = Counter()
        for fill in self.facts.fills:
            executions[fill.client_order_id, fill.fill_id] += 1
        for trade in self.facts.trades:
            executions[trade.maker, trade.trade_id] += 1
            executions[trade.taker, trade.trade_id] += 1
        listed: Counter[tuple[str, str]] = Counter()
        for id_, row in self.facts.orders.items():
            for fill_id, _price, _quantity in row.fills:
                listed[id_, fill_id] += 1
            total = sum((Decimal(quantity) for *_, quantity in row.fills), Decimal(0))
            if total != row.filled_quantity or total > row.quantity:
                self._wrong(f"order {id_} for {row.quantity} has executions of {total} and says {row.filled_quantity}")
        for (id_, fill_id), count in ((executions - listed) + (listed - executions)).items():
            told = "is not among the order's" if executions[id_, fill_id] else "is nowhere but in the order"
            self._wrong(f"order {id_}: execution {fill_id} {told} ({count})")

    # --- What was recorded ------------------------------------------------------------------------------------

    def _add_nodes_operations(self) -> None:
        """When the nodes' grants and quotes can have happened. (What was answered wrongly is for leases.py to say.)"""
        grants = {(row.symbol, row.epoch): row.xid for row in self.facts.tenures}
        versions = {
            (row.symbol, row.version, row.incarnation, row.epoch): row.xid
            for row in self.facts.versions
            if row.withdrawn is None
        }
        for one in self.history.operations:
            if one.output is None:
                continue
            if one.op == "acquire":
                xids = {grants.get((s, epoch)) for s, epoch, outcome in one.output["grants"] if outcome == "granted"}
            elif one.op == "replace":
                writer, epochs = one.input["incarnation"], one.input["epochs"]
                xids = {
                    versions.get((symbol, version, writer, epochs[symbol]))
                    for symbol, outcome, version in one.output["outcomes"]
                    if outcome == "accepted"
                }
            else:
                continue
            known = [xid for xid in xids if xid is not None]
            if len(known) > 1:
                self._wrong(f"one statement committed in parts: transactions {sorted(known)}", one)
            for xid in known:
                self._between(self.nodes[xid], [one])

    def _add_requests(self) -> None:
        sent: dict[str, list[Operation]] = defaultdict(list)
        for one in self.history.operations:
            if one.op == "order":
                sent[one.input["client_order_id"]].append(one)
            elif one.op == "cancel" and one.input["client_order_id"] in self.cancelled:
                self._between(self.cancelled[one.input["client_order_id"]], [one])
            if one.op in READS and one.output:
                self._add_read(one)
        for id_, requests in sent.items():
            self._add_order(id_, requests)
        self.found.counts["orders sent"] = len(sent)

    def _add_order(self, id_: str, requests: list[Operation]) -> None:
        row = self.facts.orders.get(id_)
        answered = [one for one in requests if one.output]
        acknowledged = [one for one in answered if one.output and one.output["status"] == 200]
        same = [one for one in requests if one.input == acknowledged[0].input] if acknowledged else requests
        if row is None:
            for one in acknowledged:
                self._wrong(f"order {id_} was acknowledged and is not there", one)
            return
        if len(answered) == len(requests) and all(one.output and one.output["status"] == 422 for one in answered):
            self._wrong(f"order {id_} was refused each time and is there", *answered)
            return
        expected = _answer(row)
        for one in acknowledged:
            assert one.output is not None
            told = {name: one.output["answer"].get(name) for name in ANSWERED}
            if told != expected:
                self._wrong(
                    f"order {id_} was answered otherwise than at first", one, f"now {told}", f"first {expected}"
                )
        if id_ in self.created:
            self._between(self.created[id_], same)
            # Whoever answered it again has seen it.
            for one in acknowledged[1:]:
                node = self.order.add(Transaction(None, one), one.invoked, one.returned)
                self.order.edge(self.created[id_], node, f"order {id_}: the next answered it again")
        self.found.counts["answers"] += len(acknowledged)

    def _add_read(self, one: Operation) -> None:
        assert one.output is not None
        if may_be_lost(one, self.outages):
            self.found.counts["reads near a crash"] += 1
            return
        node = self.order.add(Transaction(None, one), one.invoked, one.returned)
        status, answer = one.output["status"], one.output["answer"]
        match one.op:
            case "positions" if status == 200:
                for item in answer["items"]:
                    self._read("position", item["symbol"], item["version"], node)
            case "fills" if status == 200:
                self._add_fills_read(one, node)
            case "order_state" | "cancel":
                self._add_order_read(one, node, status)
        self.found.counts["reads"] += 1
        if one.op in ("positions", "fills") and status == 200:
            self.found.counts[f"{one.op} read"] += 1

    def _add_fills_read(self, one: Operation, node: int) -> None:
        """A page of a symbol's fills: without a next one it has all that there were."""
        assert one.output is not None
        symbol, after = one.input["symbol"], one.input["after"]
        answer = one.output["answer"]
        last = 0 if after is None else _sequence(after)
        for item in answer["items"]:
            sequence = _sequence(item["fill_id"])
            if sequence != last + 1:
                self._wrong(f"fills of {symbol}: {item['fill_id']} was shown after number {last}", one)
            last = sequence
        if answer["next"] is None:
            self._read("position", symbol, last, node)
        elif last:
            thing = self.things["position", symbol]
            if last in thing.writers:
                self.order.edge(thing.writers[last], node, f"fill {last} of {symbol}: the next has seen it")

    def _add_order_read(self, one: Operation, node: int, status: int) -> None:
        """What a state, or a cancel's answer, says of how far the order had come."""
        assert one.output is not None
        id_, answer = one.input["client_order_id"], one.output["answer"]
        if status == 404:
            self._read("order", id_, 0, node)
            return
        row = self.facts.orders.get(id_)
        if row is None:
            if status in (200, 409):
                self._wrong(f"order {id_} was seen and is not there", one)
            return
        if status != 200:
            if status == 409 and id_ in self.created:
                self.order.edge(self.created[id_], node, f"order {id_}: the next found it, and not open")
            return
        shown = [fill["fill_id"] for fill in answer["fills"]]
        if shown != [fill_id for fill_id, *_ in row.fills][: len(shown)]:
            self._wrong(f"order {id_} was shown with executions that it does not have in that order", one, f"{shown}")
            return
        version = 1 + max(0, len(shown) - len(_first_fills(row)))
        if answer["status"] == "cancelled" and row.first is not None:
            version += 1
            if row.status != "cancelled" or len(shown) != len(row.fills):
                self._wrong(f"order {id_} was cancelled, and went on", one, f"now {row.status}")
                return
        self._read("order", id_, version, node)


def _first_fills(row: OrderRow) -> list[str]:
    """The executions of the moment when it came; all, unless it then rested."""
    if row.first is None:
        return [fill_id for fill_id, *_ in row.fills]
    return [fill["fill_id"] for fill in row.first["fills"]]


def _answer(row: OrderRow) -> dict[str, Any]:
    """What its owner was first told, by the tables: what is compared of it."""
    if row.first is not None:
        return {name: row.first.get(name) for name in ANSWERED}
    return {
        "client_order_id": row.client_order_id,
        "status": row.status,
        "filled_quantity": _plain(row.filled_quantity),
        "fills": [{"fill_id": id_, "price": price, "quantity": quantity} for id_, price, quantity in row.fills],
        "reject_code": row.reject_code,
    }


def _plain(number: Decimal) -> str:
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _sequence(fill_id: str) -> int:
    return int(fill_id.rpartition("-")[2])
