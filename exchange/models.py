"""The exchange: symbols, its clock and reference prices, quotes behind their fence, orders and trades."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from exchange.functions import ClockStep
from mmproject.fields import AmountField, NumericField, WordField
from mmproject.functions import ClockTimestamp, check

OPEN_STATUSES = ("resting", "partially_filled")


class Symbol(models.Model):
    """What is traded, and how we quote it. Tick, lot and seed price never change once orders exist.

    Prices in money per unit, quantities in units; `_ticks` in ticks; `volatility_bps` is the standard deviation of
    the reference price over 3,600 steps, in basis points of the seed price. External orders come from the step after
    `added_step` on.
    """

    name = models.TextField(primary_key=True)
    tick_size = AmountField()
    lot_size = AmountField()
    seed_price = AmountField()
    volatility_bps = models.IntegerField()
    half_spread_ticks = models.IntegerField()
    skew_ticks = models.IntegerField()
    quote_size = AmountField()
    position_limit = NumericField()
    orders_per_step = NumericField()
    parameters_version = models.BigIntegerField(default=1, db_default=1)
    added_at = models.DateTimeField(db_default=ClockTimestamp(), editable=False)
    added_step = models.BigIntegerField(db_default=ClockStep(), editable=False)

    class Meta:
        constraints = [
            check("symbol_name", "name ~ '^[A-Z][A-Z0-9]{0,15}$'"),
            check("symbol_on_grid", "mod(seed_price, tick_size) = 0 AND mod(quote_size, lot_size) = 0"),
            check("symbol_position_limit", "position_limit >= 0 AND position_limit < 1e15"),
            check("symbol_half_spread", "half_spread_ticks BETWEEN 1 AND 10000"),
            check("symbol_skew", "skew_ticks BETWEEN 0 AND 10000"),
            check("symbol_volatility", "volatility_bps BETWEEN 0 AND 10000"),
            check("symbol_orders_per_step", "orders_per_step BETWEEN 0 AND 100"),
        ]

    def __str__(self) -> str:
        return self.name


class Clock(models.Model):
    """The exchange's clock: one row. `orders_step` is the last step whose external orders are all placed."""

    id = models.IntegerField(primary_key=True, default=1)
    seed = models.BigIntegerField()
    tick_ms = models.IntegerField()
    step = models.BigIntegerField(default=0, db_default=0)
    due_at = models.DateTimeField(db_default=ClockTimestamp())
    orders_step = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        constraints = [
            check("one_clock", "id = 1"),
            check("i15_orders_follow_the_clock", "orders_step <= step"),
        ]

    def __str__(self) -> str:
        return f"step {self.step}"


class Price(models.Model):
    """The reference price of a symbol at the clock's step."""

    symbol = models.TextField(primary_key=True)
    price = AmountField()
    step = models.BigIntegerField(default=0, db_default=0)
    at = models.DateTimeField(db_default=ClockTimestamp())

    def __str__(self) -> str:
        return f"{self.symbol} {self.price}"


class Quote(models.Model):
    """A symbol's one live quote, and the fence in front of it. Its row lock orders all that happens to the symbol.

    The fence: `epoch` is the highest ever granted, `holder` the incarnation that may write under it now (null
    between holders). The quote: null columns where there is none, quantities are what remains. One row per
    symbol, so there can't be two live quotes; each change also appends a `QuoteVersion`.
    `arrival` is the quote's time priority, drawn from the orders' sequence. `sequence` is the last fill's.
    `book_bid` and `book_ask` are the best prices that rest on each side of the symbol's book.
    """

    symbol = models.TextField(primary_key=True)
    tick_size = AmountField()
    lot_size = AmountField()
    quoting_enabled = models.BooleanField(default=True, db_default=True)
    epoch = models.BigIntegerField(default=0, db_default=0)
    holder = models.UUIDField(null=True)
    node = models.TextField(null=True)
    version = models.BigIntegerField(default=0, db_default=0)
    bid_price = AmountField(null=True)
    bid_quantity = AmountField(null=True)
    ask_price = AmountField(null=True)
    ask_quantity = AmountField(null=True)
    quote_epoch = models.BigIntegerField(null=True)
    quote_incarnation = models.UUIDField(null=True)
    quote_node = models.TextField(null=True)
    arrival = models.BigIntegerField(null=True)
    published_at = models.DateTimeField(null=True)
    valid_until = models.DateTimeField(null=True)
    sequence = models.BigIntegerField(default=0, db_default=0)
    trade_sequence = models.BigIntegerField(default=0, db_default=0)
    book_bid = AmountField(null=True)
    book_ask = AmountField(null=True)

    class Meta:
        constraints = [
            # What the quote was when published is checked there, in QuoteVersion; this row is written by every fill.
            check("i12_kill_is_final", "quoting_enabled OR published_at IS NULL"),
        ]

    def __str__(self) -> str:
        return f"{self.symbol} v{self.version}"


class QuoteVersion(models.Model):
    """One change of a symbol's quote: a publication, or a withdrawal (`withdrawn_reason`). Append-only.

    In the database a table partitioned by `published_at`: what is older than MM_QUOTE_RETENTION_MS is dropped, except
    a symbol's newest version. Its key there is (id, published_at), and (symbol, version) is unique in each partition;
    over all of them the quote row's lock makes it so, and verify counts them (I4).
    `after_sequence` is the symbol's last fill at that moment: fills with a higher sequence came later, by the
    order of commits and whatever the clocks say.
    """

    id = models.BigAutoField(primary_key=True)
    symbol = models.TextField()
    version = models.BigIntegerField()
    bid_price = AmountField(null=True)
    bid_quantity = AmountField(null=True)
    ask_price = AmountField(null=True)
    ask_quantity = AmountField(null=True)
    epoch = models.BigIntegerField()
    incarnation = models.UUIDField()
    node = models.TextField()
    published_at = models.DateTimeField()
    valid_until = models.DateTimeField(null=True)
    after_sequence = models.BigIntegerField()
    withdrawn_reason = models.TextField(null=True)
    tick_size = AmountField()
    lot_size = AmountField()

    class Meta:
        indexes = [
            # A symbol's story needs its few withdrawals among its very many versions.
            models.Index(
                fields=["symbol", "version"], condition=Q(withdrawn_reason__isnull=False), name="quote_withdrawals"
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["symbol", "version"], name="quote_version_once"),
            check(
                "quote_version_on_grid",
                "mod(bid_price, tick_size) = 0 AND mod(ask_price, tick_size) = 0"
                " AND mod(bid_quantity, lot_size) = 0 AND mod(ask_quantity, lot_size) = 0",
            ),
            check("quote_version_not_crossed", "bid_price < ask_price"),
            check(
                "quote_version_whole",
                "num_nulls(bid_price, bid_quantity) <> 1 AND num_nulls(ask_price, ask_quantity) <> 1",
            ),
            check(
                "quote_version_kind",
                "CASE WHEN withdrawn_reason IS NULL THEN valid_until IS NOT NULL"
                " ELSE num_nonnulls(bid_price, ask_price, valid_until) = 0 END",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.symbol} v{self.version}"


class Retention(models.Model):
    """How far a symbol's quote versions have been dropped: any up to `version` may be missing, and none above it.

    The newest of those was published before `dropped_before`. Written by the drop itself, in the same commit.
    """

    symbol = models.TextField(primary_key=True)
    version = models.BigIntegerField()
    dropped_before = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.symbol} to v{self.version}"


class Order(models.Model):
    """An external order. `client_order_id` is its idempotency key; `id` its arrival, assigned under the symbol's lock.

    `fills` is what its owner was told: [{"fill_id", "price", "quantity"}]. `first_answer` is kept only for an
    order that rested, whose state moves on from what was first answered. `step` is set on generated orders.
    """

    id = models.BigAutoField(primary_key=True)
    client_order_id = models.TextField(unique=True)
    symbol = models.TextField()
    side = WordField(domain="mm_side")
    type = WordField(domain="mm_order_type")
    time_in_force = WordField(domain="mm_time_in_force")
    price = AmountField(null=True)
    quantity = AmountField()
    filled_quantity = NumericField(default=0, db_default=0)
    filled_notional = NumericField(default=0, db_default=0)
    status = WordField(domain="mm_order_status")
    reject_code = models.TextField(null=True)
    fills = models.JSONField(default=list, db_default=[])
    first_answer = models.JSONField(null=True)
    step = models.BigIntegerField(null=True)
    tick_size = AmountField()
    lot_size = AmountField()
    created_at = models.DateTimeField(db_default=ClockTimestamp())
    updated_at = models.DateTimeField(db_default=ClockTimestamp())

    class Meta:
        constraints = [
            check("order_holds", "exchange_order_holds_v1(exchange_order)"),
        ]
        indexes = [
            # The book: what rests on one side of a symbol, best price and then oldest first.
            models.Index(
                fields=["symbol", "side", "price", "id"],
                condition=Q(status__in=OPEN_STATUSES),
                name="order_book",
            ),
        ]

    def __str__(self) -> str:
        return self.client_order_id


class Trade(models.Model):
    """A trade between two external orders, at the resting one's price. It moves no position of ours. Append-only."""

    trade_id = models.TextField(primary_key=True, db_collation="C")
    symbol = models.TextField()
    sequence = models.BigIntegerField()
    price = AmountField()
    quantity = AmountField()
    maker_order_id = models.TextField()
    taker_order_id = models.TextField()
    traded_at = models.DateTimeField(db_default=ClockTimestamp())

    def __str__(self) -> str:
        return self.trade_id
