"""The database's functions and the oracle, driven side by side and compared to the last digit."""

from __future__ import annotations

import json
from collections import Counter
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import psycopg

from authority.assignment import assign
from exchange.catalogue import SymbolSpec
from exchange.grid import on_grid
from nodeagent.quoting import TwoSidedQuote
from tests.oracle import Market, Order, QuoteSide
from tests.support import Database, eventually

NODE = "node-1"
TTL_MS = VALIDITY_MS = 86_400_000  # nothing expires by itself here
TICK, LOT = Decimal("0.05"), Decimal("0.5")
LIMIT_LOTS = 60
# Costs stay below 10^4, where PostgreSQL divides to at least 16 decimals: rounding its quotient to 10 is then the same
# as rounding the exact one, so that the oracle may be compared to the last digit.
CENTRE_TICKS = 400

Row = dict[str, Any]


class Exchange:
    """The database's functions as their callers use them, each through the role that has the right."""

    def __init__(self, database: Database) -> None:
        self.gateway = database.connect("console")
        self.worker = database.connect("exchange")
        self.node = database.connect("node")
        self.reader = database.connect("admin")
        self.incarnation: Any = self._one(
            self.node, "SELECT incarnation FROM authority_register_v3(%s, %s)", NODE, TTL_MS
        )
        self.generation = 0
        self.epochs: dict[str, int] = {}

    @staticmethod
    def _one(connection: psycopg.Connection[Any], query: str, *parameters: object) -> Any:
        row = connection.execute(query, parameters).fetchone()
        assert row is not None
        return row[0]

    def list_symbols(self, *specs: SymbolSpec) -> None:
        """List symbols and give the node their leases."""
        added = json.dumps([spec.as_json() for spec in specs])
        assert self._one(self.worker, "SELECT exchange_add_symbols_v1(%s)", added) == len(specs)
        names = [spec.name for spec in specs]
        shares = assign(names, [NODE], {})
        applied = "SELECT authority_apply_assignment_v2(%s, %s, %s, %s, %s, 'test')"
        parameters = (self.generation, [NODE], list(shares), list(shares.values()), NODE)
        assert self._one(self.node, applied, *parameters) == "applied"
        self.generation += 1
        acquire = "SELECT symbol, epoch, outcome FROM authority_acquire_v3(%s, %s)"
        for symbol, epoch, outcome in self.node.execute(acquire, (self.incarnation, names)):
            assert outcome == "granted"
            self.epochs[symbol] = epoch

    def submit(self, symbol: str, order: Order) -> Row:
        given = (
            order.client_order_id,
            symbol,
            order.side,
            order.type,
            order.time_in_force,
            order.price,
            order.quantity,
        )
        answer = self._one(self.gateway, "SELECT exchange_submit_order_v3(%s, %s, %s, %s, %s, %s, %s)", *given)
        assert isinstance(answer, dict)
        return answer

    def submit_batch(self, entries: list[dict[str, Any]]) -> list[Row]:
        answers = self._one(self.worker, "SELECT exchange_submit_orders_v4(%s)", json.dumps(entries))
        assert isinstance(answers, list)
        return answers

    def cancel(self, client_order_id: str) -> Row:
        answer = self._one(self.gateway, "SELECT exchange_cancel_order_v2(%s)", client_order_id)
        assert isinstance(answer, dict)
        return answer

    def replace(
        self, quotes: dict[str, TwoSidedQuote], validity_ms: int = VALIDITY_MS
    ) -> dict[str, tuple[str, Any, Any]]:
        """Outcome, version and traded of each symbol."""
        sides = list(quotes.values())
        rows = self.node.execute(
            "SELECT symbol, outcome, version, traded FROM authority_replace_quotes_v3(%s, %s, %s, %s::numeric[],"
            " %s::numeric[], %s::numeric[], %s::numeric[], %s)",
            (
                self.incarnation,
                list(quotes),
                [self.epochs[symbol] for symbol in quotes],
                [side.bid_price for side in sides],
                [side.bid_quantity for side in sides],
                [side.ask_price for side in sides],
                [side.ask_quantity for side in sides],
                validity_ms,
            ),
        )
        return {symbol: (outcome, version, traded) for symbol, outcome, version, traded in rows}

    def set_quoting(self, symbol: str, enabled: bool) -> None:
        self.gateway.execute("SELECT exchange_set_quoting_v2(%s, %s, 'test')", ([symbol], enabled))

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self.reader.execute(query, parameters).fetchall()


# What the oracle holds, in the shape in which the database tells it


def plain(value: Decimal) -> str:
    """As the contract writes decimals: no exponent, no trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def answer_of(order: Order) -> Row:
    average = None
    if order.filled_quantity:
        exact = order.filled_notional / order.filled_quantity
        average = plain(exact.quantize(Decimal("1e-10"), rounding=ROUND_HALF_UP))
    return {
        "client_order_id": order.client_order_id,
        "status": order.status,
        "filled_quantity": plain(order.filled_quantity),
        "remaining_quantity": plain(order.remaining),
        "average_price": average,
        "fills": [
            {"fill_id": execution, "price": plain(price), "quantity": plain(quantity)}
            for execution, price, quantity in order.executions
        ],
        "reject_code": order.reject_code,
    }


def compare_state(exchange: Exchange, market: Market, *, lapsed: bool = False) -> None:
    """Quote and position: cheap enough to compare after each command."""
    live = "bid_price, bid_quantity, ask_price, ask_quantity"
    [(version, published, *sides)] = exchange.rows(
        f"SELECT version, published_at IS NOT NULL, {live} FROM exchange_quote WHERE symbol = %s", market.symbol
    )
    assert (version, published) == (market.quote_version, market.is_published)
    if not lapsed:  # a lapsed quote stays in its row until it is replaced
        assert tuple(sides) == (*side_of(market.bid), *side_of(market.ask))
    position = market.position
    assert exchange.rows(
        "SELECT quantity, cash, cost, cash + cost, version FROM ledger_position WHERE symbol = %s", market.symbol
    ) == [(position.quantity, position.cash, position.cost, position.realised_pnl, position.version)]


def side_of(side: QuoteSide | None) -> tuple[Decimal | None, Decimal | None]:
    return (None, None) if side is None else (side.price, side.remaining)


def compare_books(exchange: Exchange, market: Market) -> None:
    """Every order, fill and trade."""
    orders = exchange.rows(
        "SELECT client_order_id, exchange_order_state_v1(client_order_id) FROM exchange_order WHERE symbol = %s",
        market.symbol,
    )
    assert dict(orders) == {name: answer_of(order) for name, order in market.orders.items()}
    fills = exchange.rows(
        "SELECT fill_id, sequence, side, price, quantity, client_order_id, quote_version, quantity_after, cost_after,"
        " cash_after FROM ledger_fill WHERE symbol = %s ORDER BY sequence",
        market.symbol,
    )
    assert fills == [
        (
            fill.fill_id,
            fill.sequence,
            fill.side,
            fill.price,
            fill.quantity,
            fill.client_order_id,
            fill.quote_version,
            fill.quantity_after,
            fill.cost_after,
            fill.cash_after,
        )
        for fill in market.fills
    ]
    trades = exchange.rows(
        "SELECT trade_id, sequence, price, quantity, maker_order_id, taker_order_id FROM exchange_trade"
        " WHERE symbol = %s ORDER BY sequence",
        market.symbol,
    )
    assert trades == [
        (trade.trade_id, trade.sequence, trade.price, trade.quantity, trade.maker_order_id, trade.taker_order_id)
        for trade in market.trades
    ]


class Trial:
    """One example: a symbol in the database and its oracle, driven side by side.

    When `batched`, orders and cancels are kept and handed in together before whatever else comes.
    """

    def __init__(self, exchange: Exchange, number: int, *, batched: bool = False) -> None:
        self.exchange = exchange
        self._batched = batched
        self._entries: list[dict[str, Any]] = []
        self._expected: list[Row] = []
        self.market = Market(f"T{number}")
        self.first_answers: dict[str, Row] = {}
        self.seen: Counter[str] = Counter()
        self.enabled = True
        self.lapsed = False
        exchange.list_symbols(
            SymbolSpec(
                name=self.market.symbol,
                tick_size=TICK,
                lot_size=LOT,
                seed_price=on_grid(CENTRE_TICKS, TICK),
                volatility_bps=50,
                half_spread_ticks=2,
                skew_ticks=2,
                quote_size=on_grid(10, LOT),
                position_limit=on_grid(LIMIT_LOTS, LOT),
                orders_per_step=Decimal(1),
            )
        )

    def submit(self, side: str, kind: str, time_in_force: str, offset_ticks: int | None, lots: int) -> None:
        name = f"{self.market.symbol}-o{len(self.market.orders)}"
        price = None if offset_ticks is None else on_grid(CENTRE_TICKS + offset_ticks, TICK)
        order = self.market.submit(name, side, kind, time_in_force, price, on_grid(lots, LOT))
        self._submit(self.market.symbol, order, answer_of(order))
        self.first_answers[name] = answer_of(order)
        self.seen[order.reject_code or order.status] += 1

    def submit_again(self, index: int, change: str | None) -> None:
        """The same order gets its first answer, a changed one a refusal; neither does anything."""
        if not self.market.orders:
            return
        order = list(self.market.orders.values())[index % len(self.market.orders)]
        again = Order(order.client_order_id, order.side, order.type, order.time_in_force, order.price, order.quantity)
        if change == "quantity":
            again.quantity += LOT
        elif change == "side":
            again.side = "buy" if order.side == "sell" else "sell"
        elif change == "price" and again.price is not None:
            again.price += TICK
        elif change == "time_in_force":
            again.time_in_force = "FOK" if order.time_in_force == "IOC" else "IOC"
        else:
            change = None
        if index % 2:
            self.settle()  # an id that comes twice in a batch changes how all of it is taken
        known = self.first_answers[order.client_order_id] if change is None else error("duplicate_client_order_id")
        self._submit(self.market.symbol, again, known)

    def submit_bad(self, code: str) -> None:
        """What is not an order is refused by its code and leaves nothing behind."""
        bad = Order(f"{self.market.symbol}-bad", "buy", "limit", "GTC", on_grid(CENTRE_TICKS, TICK), LOT)
        symbol = self.market.symbol
        assert bad.price is not None
        match code:
            case "unknown_symbol":
                symbol = "NOBODY"
            case "off_tick":
                bad.price += TICK / 2
            case "off_lot":
                bad.quantity += LOT / 2
            case "invalid_price":
                bad.price = Decimal("NaN")
            case "invalid_quantity":
                bad.quantity = Decimal(0)
            case "invalid_time_in_force":
                bad.type, bad.price = "market", None
            case "invalid_side":
                bad.side = "hold"
        self._submit(symbol, bad, error(code))

    def cancel(self, index: int) -> None:
        name = f"{self.market.symbol}-o{index % (len(self.market.orders) + 1)}"  # now and then one that never was
        if index % 2:
            self.settle()
        refused = self.market.cancel(name)
        expected = error(refused) if refused else answer_of(self.market.orders[name])
        if self._batched:
            self._keep({"cancel": name}, expected)
        else:
            assert self.exchange.cancel(name) == expected

    def replace(self, bid_ticks: int, spread_ticks: int, bid_lots: int, ask_lots: int, lapses: bool = False) -> None:
        """A new quote, either side of which may be missing; refused where it could breach the position's limit."""
        self.settle()
        bid, ask = on_grid(bid_ticks + CENTRE_TICKS, TICK), on_grid(bid_ticks + spread_ticks + CENTRE_TICKS, TICK)
        two = TwoSidedQuote(
            bid if bid_lots else None,
            on_grid(bid_lots, LOT) if bid_lots else None,
            ask if ask_lots else None,
            on_grid(ask_lots, LOT) if ask_lots else None,
        )
        limit, quantity = on_grid(LIMIT_LOTS, LOT), self.market.position.quantity
        expected: tuple[str, Any, Any]
        if not self.enabled:
            expected = ("quoting_disabled", None, False)
        elif bid_lots and ask_lots and spread_ticks <= 0:
            expected = ("crossed", None, False)
        elif (bid_lots and quantity + on_grid(bid_lots, LOT) > limit) or (
            ask_lots and quantity - on_grid(ask_lots, LOT) < -limit
        ):
            expected = ("over_limit", None, False)
        else:
            traded = self.market.replace_quote(two.bid_price, two.bid_quantity, two.ask_price, two.ask_quantity)
            expected = ("accepted", self.market.quote_version, traded)
            self.lapsed = lapses
        self.seen["traded at once" if expected[2] else expected[0]] += 1
        outcomes = self.exchange.replace({self.market.symbol: two}, 1 if lapses else VALIDITY_MS)
        assert outcomes == {self.market.symbol: expected}
        if self.lapsed:
            past = "SELECT valid_until < clock_timestamp() FROM exchange_quote WHERE symbol = %s"
            eventually(lambda: self.exchange.rows(past, self.market.symbol)[0][0], 5, "the quote has lapsed")
            self.market.lapse_quote()

    def set_quoting(self, enabled: bool) -> None:
        self.settle()
        self.exchange.set_quoting(self.market.symbol, enabled)
        self.enabled = enabled
        if not enabled:
            self.market.withdraw_quote()
            self.lapsed = False

    def _submit(self, symbol: str, order: Order, expected: Row) -> None:
        if not self._batched:
            assert self.exchange.submit(symbol, order) == expected
            return
        entry = {
            "client_order_id": order.client_order_id,
            "symbol": symbol,
            "side": order.side,
            "type": order.type,
            "time_in_force": order.time_in_force,
            "price": None if order.price is None else str(order.price),
            "quantity": str(order.quantity),
        }
        self._keep(entry, expected)

    def _keep(self, entry: dict[str, Any], expected: Row) -> None:
        self._entries.append(entry)
        self._expected.append(expected)

    def settle(self) -> None:
        """Hand in what was kept; from here on the database and the oracle are to agree."""
        entries, self._entries = self._entries, []
        expected, self._expected = self._expected, []
        if entries:
            assert self.exchange.submit_batch(entries) == expected


def error(code: str) -> Row:
    return {"error": code}
