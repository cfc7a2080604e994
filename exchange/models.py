"""The exchange: symbols, its clock and reference prices, quotes behind their fence, orders and trades."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Mod

from mmproject.fields import NumericField
from mmproject.functions import ClockTimestamp

OPEN_STATUSES = ("resting", "partially_filled")


def on_grid(column: str, grid: str) -> Q:
    """`column` is a positive multiple of `grid`, or null. NaN and Infinity have no remainder of 0."""
    exact = models.expressions.ExpressionWrapper(Mod(F(column), F(grid)), output_field=NumericField())
    return Q(**{f"{column}__isnull": True}) | (
        Q(**{f"{column}__gt": 0}) & Q(models.lookups.Exact(exact, models.Value(0, output_field=NumericField())))
    )


class Symbol(models.Model):
    """What is traded, and how we quote it. Tick, lot and seed price never change once orders exist.

    Prices in money per unit, quantities in units; `_ticks` in ticks; `volatility_bps` is the reference
    price's typical move per step, in hundredths of a basis point of the seed price.
    """

    name = models.TextField(primary_key=True)
    tick_size = NumericField()
    lot_size = NumericField()
    seed_price = NumericField()
    volatility_bps = models.IntegerField()
    half_spread_ticks = models.IntegerField()
    skew_ticks = models.IntegerField()
    quote_size = NumericField()
    position_limit = NumericField()
    orders_per_step = NumericField()
    parameters_version = models.BigIntegerField(default=1, db_default=1)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(name__regex=r"^[A-Z][A-Z0-9]{0,15}$"), name="symbol_name"),
            models.CheckConstraint(
                condition=Q(tick_size__gt=0, tick_size__lte=10**6, lot_size__gt=0, lot_size__lte=10**9),
                name="symbol_grid",
            ),
            models.CheckConstraint(condition=on_grid("seed_price", "tick_size"), name="symbol_seed_price_on_tick"),
            models.CheckConstraint(condition=on_grid("quote_size", "lot_size"), name="symbol_quote_size_on_lot"),
            models.CheckConstraint(
                condition=Q(position_limit__gte=0, position_limit__lte=10**15), name="symbol_position_limit"
            ),
            models.CheckConstraint(
                condition=Q(half_spread_ticks__gte=1, half_spread_ticks__lte=10_000),
                name="symbol_half_spread",
            ),
            models.CheckConstraint(condition=Q(skew_ticks__gte=0, skew_ticks__lte=10_000), name="symbol_skew"),
            models.CheckConstraint(
                condition=Q(volatility_bps__gte=0, volatility_bps__lte=10_000), name="symbol_volatility"
            ),
            models.CheckConstraint(
                condition=Q(orders_per_step__gte=0, orders_per_step__lte=100), name="symbol_orders_per_step"
            ),
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
            models.CheckConstraint(condition=Q(id=1), name="one_clock"),
            models.CheckConstraint(condition=Q(orders_step__lte=F("step")), name="i15_orders_follow_the_clock"),
        ]

    def __str__(self) -> str:
        return f"step {self.step}"


class Price(models.Model):
    """The reference price of a symbol at the clock's step."""

    symbol = models.TextField(primary_key=True)
    price = NumericField()
    step = models.BigIntegerField(default=0, db_default=0)
    at = models.DateTimeField(db_default=ClockTimestamp())

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(price__gt=0, price__lt=10**15), name="price_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.symbol} {self.price}"


class Quote(models.Model):
    """A symbol's one live quote, and the fence in front of it. Its row lock orders all that happens to the symbol.

    The fence: `epoch` is the highest ever granted, `holder` the incarnation that may write under it now (null
    between holders). The quote: null columns where there is none, quantities are what remains. One row per
    symbol, so there can't be two live quotes; each change also appends a `QuoteVersion`.
    `arrival` is the quote's time priority, drawn from the orders' sequence. `sequence` is the last fill's.
    """

    symbol = models.TextField(primary_key=True)
    tick_size = NumericField()
    lot_size = NumericField()
    quoting_enabled = models.BooleanField(default=True, db_default=True)
    epoch = models.BigIntegerField(default=0, db_default=0)
    holder = models.UUIDField(null=True)
    node = models.TextField(null=True)
    version = models.BigIntegerField(default=0, db_default=0)
    bid_price = NumericField(null=True)
    bid_quantity = NumericField(null=True)
    ask_price = NumericField(null=True)
    ask_quantity = NumericField(null=True)
    quote_epoch = models.BigIntegerField(null=True)
    quote_incarnation = models.UUIDField(null=True)
    quote_node = models.TextField(null=True)
    arrival = models.BigIntegerField(null=True)
    published_at = models.DateTimeField(null=True)
    valid_until = models.DateTimeField(null=True)
    sequence = models.BigIntegerField(default=0, db_default=0)
    trade_sequence = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=on_grid("bid_price", "tick_size"), name="quote_bid_on_tick"),
            models.CheckConstraint(condition=on_grid("ask_price", "tick_size"), name="quote_ask_on_tick"),
            models.CheckConstraint(condition=on_grid("bid_quantity", "lot_size"), name="quote_bid_on_lot"),
            models.CheckConstraint(condition=on_grid("ask_quantity", "lot_size"), name="quote_ask_on_lot"),
            models.CheckConstraint(
                condition=Q(bid_price__isnull=True) | Q(ask_price__isnull=True) | Q(bid_price__lt=F("ask_price")),
                name="quote_not_crossed",
            ),
            models.CheckConstraint(
                condition=Q(bid_price__isnull=True, bid_quantity__isnull=True)
                | Q(bid_price__isnull=False, bid_quantity__isnull=False),
                name="quote_bid_whole",
            ),
            models.CheckConstraint(
                condition=Q(ask_price__isnull=True, ask_quantity__isnull=True)
                | Q(ask_price__isnull=False, ask_quantity__isnull=False),
                name="quote_ask_whole",
            ),
            models.CheckConstraint(
                condition=Q(published_at__isnull=False, valid_until__isnull=False, quote_epoch__isnull=False)
                | Q(published_at__isnull=True, bid_price__isnull=True, ask_price__isnull=True),
                name="quote_published_whole",
            ),
            models.CheckConstraint(
                condition=Q(quoting_enabled=True) | Q(published_at__isnull=True), name="i12_kill_is_final"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.symbol} v{self.version}"


class QuoteVersion(models.Model):
    """One change of a symbol's quote: a publication, or a withdrawal (`withdrawn_reason`). Append-only.

    `after_sequence` is the symbol's last fill at that moment: fills with a higher sequence came later, by the
    order of commits and whatever the clocks say.
    """

    id = models.BigAutoField(primary_key=True)
    symbol = models.TextField()
    version = models.BigIntegerField()
    bid_price = NumericField(null=True)
    bid_quantity = NumericField(null=True)
    ask_price = NumericField(null=True)
    ask_quantity = NumericField(null=True)
    epoch = models.BigIntegerField()
    incarnation = models.UUIDField()
    node = models.TextField()
    published_at = models.DateTimeField()
    valid_until = models.DateTimeField(null=True)
    after_sequence = models.BigIntegerField()
    withdrawn_reason = models.TextField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["symbol", "version"], name="quote_version_once"),
            models.CheckConstraint(
                condition=Q(withdrawn_reason__isnull=True, valid_until__isnull=False)
                | Q(withdrawn_reason__isnull=False, bid_price__isnull=True, ask_price__isnull=True),
                name="quote_version_kind",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.symbol} v{self.version}"


class Order(models.Model):
    """An external order. `client_order_id` is its idempotency key; `id` its arrival, assigned under the symbol's lock.

    `fills` is what its owner was told: [{"fill_id", "price", "quantity"}]. `first_answer` is kept only for an
    order that rested, whose state moves on from what was first answered. `step` is set on generated orders.
    """

    id = models.BigAutoField(primary_key=True)
    client_order_id = models.TextField(unique=True)
    symbol = models.TextField()
    side = models.TextField()
    type = models.TextField()
    time_in_force = models.TextField()
    price = NumericField(null=True)
    quantity = NumericField()
    filled_quantity = NumericField(default=0, db_default=0)
    filled_notional = NumericField(default=0, db_default=0)
    status = models.TextField()
    reject_code = models.TextField(null=True)
    fills = models.JSONField(default=list, db_default=[])
    first_answer = models.JSONField(null=True)
    step = models.BigIntegerField(null=True)
    tick_size = NumericField()
    lot_size = NumericField()
    created_at = models.DateTimeField(db_default=ClockTimestamp())
    updated_at = models.DateTimeField(db_default=ClockTimestamp())

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(side__in=["buy", "sell"]), name="order_side"),
            models.CheckConstraint(
                condition=Q(type="limit", price__isnull=False, time_in_force__in=["GTC", "IOC", "FOK"])
                | Q(type="market", price__isnull=True, time_in_force__in=["IOC", "FOK"]),
                name="order_type",
            ),
            models.CheckConstraint(condition=on_grid("price", "tick_size"), name="order_price_on_tick"),
            models.CheckConstraint(condition=on_grid("quantity", "lot_size"), name="order_quantity_on_lot"),
            models.CheckConstraint(
                condition=Q(filled_quantity__gte=0) & Q(filled_quantity__lte=F("quantity")),
                name="i8_no_overfill",
            ),
            models.CheckConstraint(
                condition=Q(status="filled", filled_quantity=F("quantity"))
                | Q(status="partially_filled", filled_quantity__gt=0, time_in_force="GTC")
                | Q(status="resting", filled_quantity=0, time_in_force="GTC")
                | Q(status="cancelled")
                | Q(status="rejected", filled_quantity=0, reject_code__isnull=False),
                name="order_status",
            ),
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
    price = NumericField()
    quantity = NumericField()
    maker_order_id = models.TextField()
    taker_order_id = models.TextField()
    traded_at = models.DateTimeField(db_default=ClockTimestamp())

    def __str__(self) -> str:
        return self.trade_id
