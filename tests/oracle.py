"""A small model of matching and ledger for one symbol, written to be obviously right, not fast.

The SQL is compared with it. Rules it states:
- best price first, then first come first; the quote stands in the same queue as the orders, and its time is
  that of its last publication, so each replacement goes to the back;
- a trade happens at the price of the side that was resting;
- a replaced quote that crosses resting orders trades with them at once, at the orders' prices: its bid
  against the sells, best first, then its ask against the buys;
- FOK is filled whole or rejected (fok_unfillable); a market order with nothing to hit is rejected
  (no_liquidity); what an IOC or market order leaves over is cancelled; what a GTC leaves over rests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal

ZERO = Decimal(0)
COST_UNIT = Decimal("1e-10")  # the open cost that a partial close releases is rounded to ten decimals


@dataclass
class Order:
    """An external order and what became of it."""

    client_order_id: str
    side: str
    type: str
    time_in_force: str
    price: Decimal | None
    quantity: Decimal
    arrival: int = 0
    status: str = "new"
    reject_code: str | None = None
    filled_quantity: Decimal = ZERO
    filled_notional: Decimal = ZERO
    executions: list[tuple[str, Decimal, Decimal]] = field(default_factory=list)  # id, price, quantity

    @property
    def remaining(self) -> Decimal:
        return self.quantity - self.filled_quantity

    @property
    def is_open(self) -> bool:
        return self.status in ("resting", "partially_filled")

    def accepts(self, price: Decimal) -> bool:
        """Whether it would trade at that price."""
        if self.price is None:
            return True
        return price <= self.price if self.side == "buy" else price >= self.price

    def fill(self, execution_id: str, price: Decimal, quantity: Decimal) -> None:
        assert ZERO < quantity <= self.remaining
        self.executions.append((execution_id, price, quantity))
        self.filled_quantity += quantity
        self.filled_notional += price * quantity
        self.status = "filled" if self.remaining == 0 else "partially_filled"


@dataclass
class QuoteSide:
    """One live side of our quote: what is left of it."""

    side: str
    price: Decimal
    remaining: Decimal
    arrival: int


@dataclass(frozen=True)
class Fill:
    """A trade of ours: the side is ours."""

    fill_id: str
    sequence: int
    side: str
    price: Decimal
    quantity: Decimal
    client_order_id: str
    quote_version: int
    quantity_after: Decimal
    cost_after: Decimal
    cash_after: Decimal


@dataclass(frozen=True)
class Trade:
    """A trade between two external orders."""

    trade_id: str
    sequence: int
    price: Decimal
    quantity: Decimal
    maker_order_id: str
    taker_order_id: str


@dataclass
class Position:
    """Quantity (signed), cash, and the signed cost of what is open; realised P&L is cash + cost."""

    quantity: Decimal = ZERO
    cash: Decimal = ZERO
    cost: Decimal = ZERO
    version: int = 0

    @property
    def realised_pnl(self) -> Decimal:
        return self.cash + self.cost

    def record(self, side: str, price: Decimal, quantity: Decimal) -> None:
        signed = quantity if side == "buy" else -quantity
        self.cash -= signed * price
        if self.quantity * signed < 0:
            closed = min(abs(signed), abs(self.quantity))
            if closed == abs(self.quantity):
                self.cost = ZERO
            else:
                released = self.cost * closed / abs(self.quantity)
                self.cost -= released.quantize(COST_UNIT, rounding=ROUND_HALF_UP)
            opened = signed + closed if signed < 0 else signed - closed
        else:
            opened = signed
        self.cost += opened * price
        self.quantity += signed
        self.version += 1


class Market:
    """One symbol: its book, our quote, its fills and our position."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.orders: dict[str, Order] = {}
        self.bid: QuoteSide | None = None
        self.ask: QuoteSide | None = None
        self.quote_version = 0
        self.is_published = False
        self.fills: list[Fill] = []
        self.trades: list[Trade] = []
        self.position = Position()
        self._arrivals = 0

    # Commands

    def submit(
        self,
        client_order_id: str,
        side: str,
        type: str,
        time_in_force: str,
        price: Decimal | None,
        quantity: Decimal,
    ) -> Order:
        """Match a new order against the book; the caller compares the order with the answer it got."""
        assert client_order_id not in self.orders
        order = Order(client_order_id, side, type, time_in_force, price, quantity, self._next_arrival())
        self.orders[client_order_id] = order
        makers = [maker for maker in self._queue("sell" if side == "buy" else "buy") if order.accepts(_price(maker))]
        if time_in_force == "FOK" and sum((maker.remaining for maker in makers), ZERO) < quantity:
            order.status, order.reject_code = "rejected", "fok_unfillable"
        elif type == "market" and not makers:
            order.status, order.reject_code = "rejected", "no_liquidity"
        else:
            for maker in makers:
                if order.remaining > 0:
                    self._trade(order, maker, min(order.remaining, maker.remaining))
            if order.remaining > 0:
                if time_in_force != "GTC":
                    order.status = "cancelled"
                elif order.filled_quantity == 0:
                    order.status = "resting"
        return order

    def cancel(self, client_order_id: str) -> str | None:
        """Cancel what is left of an open order, once or again; the error's code when there is nothing to cancel."""
        order = self.orders.get(client_order_id)
        if order is None:
            return "unknown_order"
        if order.is_open:
            order.status = "cancelled"
        return None if order.status == "cancelled" else "not_open"

    def replace_quote(
        self,
        bid_price: Decimal | None,
        bid_quantity: Decimal | None,
        ask_price: Decimal | None,
        ask_quantity: Decimal | None,
    ) -> bool:
        """Publish a quote in place of the old one; answers whether it traded with resting orders at once."""
        self.quote_version += 1
        self.is_published = True
        arrival = self._next_arrival()
        self.bid = self.ask = None
        if bid_price is not None and bid_quantity is not None:
            self.bid = QuoteSide("buy", bid_price, bid_quantity, arrival)
        if ask_price is not None and ask_quantity is not None:
            self.ask = QuoteSide("sell", ask_price, ask_quantity, arrival)
        fills_before = len(self.fills)
        for side in (self.bid, self.ask):
            if side is not None:
                self._cross_resting(side)
        return len(self.fills) > fills_before

    def withdraw_quote(self) -> None:
        """Take the quote out of the book for good, which is a version of its own."""
        if self.is_published:
            self.quote_version += 1
        self.is_published = False
        self.bid = self.ask = None

    def lapse_quote(self) -> None:
        """The quote has passed its valid_until: it is still the last one published, and trades no more."""
        self.bid = self.ask = None

    # The book

    def _queue(self, side: str) -> list[Order | QuoteSide]:
        """Everything that rests on a side, in the order in which it trades."""
        resting: list[Order | QuoteSide] = [o for o in self.orders.values() if o.is_open and o.side == side]
        quote = self.bid if side == "buy" else self.ask
        if quote is not None:
            resting.append(quote)
        sign = -1 if side == "buy" else 1
        return sorted(resting, key=lambda maker: (sign * _price(maker), maker.arrival))

    def _cross_resting(self, quote: QuoteSide) -> None:
        for order in self._queue("sell" if quote.side == "buy" else "buy"):
            if isinstance(order, QuoteSide):
                continue  # our own other side, which never crosses this one
            price = _price(order)
            crosses = price <= quote.price if quote.side == "buy" else price >= quote.price
            if crosses and quote.remaining > 0:
                self._fill(order, quote, price, min(order.remaining, quote.remaining))

    def _trade(self, taker: Order, maker: Order | QuoteSide, quantity: Decimal) -> None:
        price = _price(maker)
        if isinstance(maker, QuoteSide):
            self._fill(taker, maker, price, quantity)
            return
        sequence = len(self.trades) + 1
        trade = Trade(
            f"{self.symbol}-X{sequence:012d}",
            sequence,
            price,
            quantity,
            maker.client_order_id,
            taker.client_order_id,
        )
        self.trades.append(trade)
        maker.fill(trade.trade_id, price, quantity)
        taker.fill(trade.trade_id, price, quantity)

    def _fill(self, order: Order, quote: QuoteSide, price: Decimal, quantity: Decimal) -> None:
        sequence = len(self.fills) + 1
        fill_id = f"{self.symbol}-{sequence:012d}"
        order.fill(fill_id, price, quantity)
        quote.remaining -= quantity
        self.position.record(quote.side, price, quantity)
        self.fills.append(
            Fill(
                fill_id,
                sequence,
                quote.side,
                price,
                quantity,
                order.client_order_id,
                self.quote_version,
                self.position.quantity,
                self.position.cost,
                self.position.cash,
            )
        )
        if quote.remaining == 0:
            if quote.side == "buy":
                self.bid = None
            else:
                self.ask = None

    def _next_arrival(self) -> int:
        self._arrivals += 1
        return self._arrivals


def _price(maker: Order | QuoteSide) -> Decimal:
    assert maker.price is not None, "nothing without a price rests"
    return maker.price
