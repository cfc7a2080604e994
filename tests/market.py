"""A market worked by hand: nodes, quotes, orders, handovers, one SQL call after another, for tests of what they leave.

Each node has a connection of its own, whose session holds its incarnation; `lose` ends that session as a crash would.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from authority.assignment import assign
from exchange.catalogue import catalogue
from exchange.orderflow import external_orders
from exchange.prices import reference_price
from nodeagent.quoting import QuotingParameters, quote
from tests.support import Connection, Database, eventually

TTL_MS = 600_000  # nothing expires by itself: see HandMarket.expire
VALIDITY_MS = 600_000
SEED = 7


@dataclass
class HandNode:
    """A registered node: its session, its incarnation, and the epoch of each lease that it was granted."""

    name: str
    connection: Connection
    incarnation: Any
    serial: int
    epochs: dict[str, int] = field(default_factory=dict)


class HandMarket:
    """A market of the catalogue's first symbols in a scratch database. Nothing happens but what is called."""

    def __init__(self, database: Database, symbols: int = 3) -> None:
        self.database = database
        self.gateway = database.connect("console")
        self.worker = database.connect("exchange")
        self.admin = database.connect("admin")
        self.specs = {spec.name: spec for spec in catalogue(symbols)}
        self.symbols = list(self.specs)
        self.nodes: dict[str, HandNode] = {}
        self.step = 0
        self.answers: list[dict[str, Any]] = []  # of every order that a client sent
        added = json.dumps([spec.as_json() for spec in self.specs.values()])
        self.worker.execute("SELECT exchange_add_symbols_v1(%s)", [added])
        self.worker.execute("SELECT exchange_start_clock_v1(%s, 0)", [SEED])

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self.admin.execute(query.encode(), parameters).fetchall()

    def one(self, query: str, *parameters: object) -> Any:
        return self.rows(query, *parameters)[0][0]

    # Nodes

    def join(self, name: str) -> HandNode:
        connection = self.database.connect("node")
        row = connection.execute(
            "SELECT incarnation, serial FROM authority_register_v3(%s, %s)", [name, TTL_MS]
        ).fetchone()
        assert row is not None
        self.nodes[name] = HandNode(name, connection, *row)
        return self.nodes[name]

    def rebalance(self, cause: str, by: str | None = None) -> None:
        """Assign to the members, let those that should not hold a symbol release it, and the others acquire theirs."""
        members = [row[0] for row in self.rows("SELECT node FROM authority_member ORDER BY node")]
        current = dict(self.rows("SELECT symbol, node FROM authority_assignment"))
        shares = assign(self.symbols, members, current)
        generation = self.one("SELECT coalesce(max(generation), 0) FROM authority_rebalance")
        writer = self.nodes[by or members[0]]
        outcome = writer.connection.execute(
            "SELECT authority_apply_assignment_v2(%s, %s, %s, %s, %s, %s)",
            [generation, members, list(shares), list(shares.values()), writer.name, cause],
        ).fetchone()
        assert outcome in [("applied",), ("unchanged",)], outcome
        for node in list(self.nodes.values()):
            unwanted = [symbol for symbol in node.epochs if shares.get(symbol) != node.name]
            if unwanted:
                self.release(node, unwanted)
        for name in members:
            self.acquire(self.nodes[name], [symbol for symbol in shares if shares[symbol] == name])

    def acquire(self, node: HandNode, symbols: list[str]) -> None:
        for symbol, epoch, outcome in node.connection.execute(
            "SELECT symbol, epoch, outcome FROM authority_acquire_v3(%s, %s)", [node.incarnation, symbols]
        ):
            if outcome == "granted":
                node.epochs[symbol] = epoch

    def release(self, node: HandNode, symbols: list[str]) -> None:
        node.connection.execute("SELECT authority_release_v3(%s, %s)", [node.incarnation, symbols])
        for symbol in symbols:
            node.epochs.pop(symbol)

    def leave(self, name: str) -> None:
        node = self.nodes.pop(name)
        node.connection.execute("SELECT authority_leave_v3(%s)", [node.incarnation])
        node.connection.close()

    def lose(self, name: str) -> HandNode:
        """The node's process dies: its session ends, and somebody sweeps."""
        node = self.nodes.pop(name)
        node.connection.close()
        eventually(
            lambda: not self.one("SELECT authority_session_alive_v1(%s)", node.serial), message="its session is gone"
        )
        assert node.name in self.sweep()
        return node

    def expire(self, node: HandNode) -> None:
        """The node has not renewed for as long as its lease was."""
        self.admin.execute(
            "UPDATE authority_incarnation SET expires_at = clock_timestamp() WHERE id = %s", [node.incarnation]
        )

    def sweep(self) -> list[str]:
        return [row[0] for row in self.worker.execute("SELECT node FROM authority_sweep_v3()")]

    # Quotes

    def quote(self, node: HandNode, symbols: list[str] | None = None) -> dict[str, str]:
        """Replace the quotes of what the node believes it holds; outcome by symbol."""
        symbols = sorted(node.epochs if symbols is None else symbols)
        if not symbols:
            return {}
        sides = [self._sides(symbol) for symbol in symbols]
        rows = node.connection.execute(
            "SELECT symbol, outcome FROM authority_replace_quotes_v3(%s, %s, %s, %s::numeric[], %s::numeric[],"
            " %s::numeric[], %s::numeric[], %s)",
            [
                node.incarnation,
                symbols,
                [node.epochs.get(symbol, 1) for symbol in symbols],
                *[[getattr(side, name) for side in sides]
                  for name in ("bid_price", "bid_quantity", "ask_price", "ask_quantity")],
                VALIDITY_MS,
            ],
        )  # fmt: skip
        return dict(rows.fetchall())

    def quote_all(self) -> None:
        for node in self.nodes.values():
            outcomes = self.quote(node)
            assert set(outcomes.values()) <= {"accepted", "quoting_disabled"}, outcomes

    def _sides(self, symbol: str) -> Any:
        spec = self.specs[symbol]
        reference = reference_price(SEED, symbol, spec.seed_price, spec.tick_size, spec.volatility_bps, self.step)
        position = self.one("SELECT quantity FROM ledger_position WHERE symbol = %s", symbol)
        parameters = QuotingParameters(
            spec.tick_size, spec.lot_size, spec.half_spread_ticks, spec.skew_ticks, spec.quote_size, spec.position_limit
        )
        return quote(reference, position, parameters)

    # The market

    def tick(self, steps: int = 1) -> None:
        """One step of the clock after another: prices, quotes, the step's external orders, quotes again."""
        for _ in range(steps):
            self.step += 1
            prices = [
                reference_price(SEED, s.name, s.seed_price, s.tick_size, s.volatility_bps, self.step)
                for s in self.specs.values()
            ]
            self.worker.execute(
                "SELECT exchange_advance_clock_v1(%s, %s, %s::numeric[])", [self.step, self.symbols, prices]
            )
            self.quote_all()
            orders = [o.as_json() for s in self.specs.values() for o in external_orders(SEED, s, self.step)]
            self.worker.execute("SELECT exchange_submit_orders_v4(%s)", [json.dumps(orders)])
            self.worker.execute("SELECT exchange_orders_done_v1(%s)", [self.step])
            self.quote_all()

    def send(
        self, order_id: str, symbol: str, side: str, quantity: Any, price: Any = None, tif: str = "IOC"
    ) -> dict[str, Any]:
        """A client's order: market without a price."""
        kind = "market" if price is None else "limit"
        row = self.gateway.execute(
            "SELECT exchange_submit_order_v3(%s, %s, %s, %s, %s, %s::numeric, %s::numeric)",
            [order_id, symbol, side, kind, tif, price, quantity],
        ).fetchone()
        assert row is not None
        assert "error" not in row[0], row
        self.answers.append(row[0])
        answer: dict[str, Any] = row[0]
        return answer

    def cancel(self, order_id: str) -> None:
        self.gateway.execute("SELECT exchange_cancel_order_v2(%s)", [order_id])

    def best(self, symbol: str) -> tuple[Decimal, Decimal]:
        """Bid and ask of the live quote."""
        (row,) = self.rows("SELECT bid_price, ask_price FROM exchange_quote WHERE symbol = %s", symbol)
        return row[0], row[1]

    # The operator

    def switch(self, enabled: bool, *symbols: str, reason: str = "") -> None:
        self.gateway.execute(
            "SELECT exchange_set_quoting_v2(%s::text[], %s, 'ada', %s)", [list(symbols) or None, enabled, reason]
        )

    def drain(self, node: str, draining: bool = True, reason: str = "") -> None:
        self.gateway.execute("SELECT authority_set_draining_v1(%s, %s, 'ada', %s)", [node, draining, reason])


def busy_market(database: Database) -> HandMarket:
    """A market through everything that happens to one, healthy to the end: trades, handovers, a crash, toggles."""
    market = HandMarket(database, symbols=3)
    market.join("node-1")
    market.rebalance("node-1 joined")
    market.tick(12)
    market.join("node-2")
    market.rebalance("node-2 joined")
    market.quote_all()
    alfa, bravo, charlie = market.symbols

    # Clients: taken at once, resting and taken by a replaced quote, traded with one another, cancelled, refused.
    spec = market.specs[alfa]
    ask = market.best(alfa)[1]
    market.send("c-takes", alfa, "buy", spec.lot_size, ask)
    market.send("c-market", alfa, "sell", spec.lot_size * 2)
    market.send("c-kill", alfa, "buy", spec.lot_size * 10_000_000, ask, "FOK")
    market.send("c-rests", alfa, "buy", spec.lot_size * 3, ask - spec.tick_size, "GTC")
    market.send("c-hits", alfa, "sell", spec.lot_size, ask - spec.tick_size)
    market.send("c-away", bravo, "buy", market.specs[bravo].lot_size, market.specs[bravo].tick_size, "GTC")
    market.cancel("c-away")
    market.send("c-part", charlie, "sell", market.specs[charlie].lot_size * 1500, market.best(charlie)[0], "GTC")
    market.quote_all()
    market.tick(4)

    # The operator: a symbol off and on, all off and on, a node drained and taken back.
    market.switch(False, alfa, reason="news")
    market.switch(True, alfa)
    market.switch(False)
    market.switch(False, bravo)
    market.tick()
    market.switch(True)
    market.quote_all()
    market.drain("node-2", reason="upgrade")
    market.rebalance("node-2 drained")
    market.tick(2)
    market.drain("node-2", False)
    market.rebalance("node-2 undrained")
    market.tick()

    # A crash with what it held, its late write, and its return; a node that expires.
    dead = market.lose("node-2")
    market.rebalance("node-2 lost")
    market.tick()
    late = HandNode("node-1", market.nodes["node-1"].connection, dead.incarnation, dead.serial, dead.epochs)
    assert set(market.quote(late).values()) <= {"stale_epoch", "not_holder"}
    market.expire(market.join("node-2"))
    assert market.sweep() == ["node-2"]
    market.nodes.pop("node-2").connection.close()
    market.join("node-2")
    market.rebalance("node-2 returned")
    market.tick(3)
    market.gateway.execute(
        "SELECT exchange_set_parameters_v1(%s, %s, 'ada', 'wider')", [bravo, json.dumps({"half_spread_ticks": 5})]
    )
    market.quote_all()
    return market
