"""The ledger: fills as recorded, and the position that they add up to."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q, Value
from django.db.models.functions import Cast, Concat, LPad, Round

from mmproject.fields import NumericField, Xid8Field
from mmproject.functions import ClockTimestamp, CurrentXid


class Fill(models.Model):
    """A trade of ours, recorded once and never changed.

    `side` is ours; quantities are in the symbol's units, prices in money per unit. The `_after` columns are
    the position as this fill left it, so each fill can be checked against the one before it, and a
    position's history is its fills. `sequence` counts a symbol's fills from 1 without a gap and equals the
    position's version after the fill; `fill_id` is derived from the two and sorts in that order.
    """

    fill_id = models.TextField(primary_key=True, db_collation="C")
    xid = Xid8Field(db_default=CurrentXid(), editable=False)
    symbol = models.TextField()
    sequence = models.BigIntegerField()
    side = models.TextField()
    price = NumericField()
    quantity = NumericField()
    client_order_id = models.TextField()
    quote_version = models.BigIntegerField()
    epoch = models.BigIntegerField()
    incarnation = models.UUIDField()
    node = models.TextField()
    filled_at = models.DateTimeField()
    tick_size = NumericField()
    lot_size = NumericField()
    quantity_after = NumericField()
    cost_after = NumericField()
    cash_after = NumericField()

    class Meta:
        indexes = [models.Index(fields=["xid", "fill_id"], name="fill_commit_order")]
        constraints = [
            # With the primary key this makes (symbol, sequence) unique without an index of its own.
            models.CheckConstraint(
                condition=Q(
                    fill_id=Concat(
                        F("symbol"),
                        Value("-"),
                        LPad(Cast(F("sequence"), models.TextField()), 12, Value("0")),
                    )
                ),
                name="i7_fills_once",
            ),
            models.CheckConstraint(condition=Q(side__in=["buy", "sell"]), name="fill_side"),
            models.CheckConstraint(condition=Q(sequence__gt=0), name="fill_sequence_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.fill_id} {self.side} {self.quantity} @ {self.price}"


class Position(models.Model):
    """What the fills of a symbol add up to.

    `cost` is the signed cost of what is open (quantity x average cost), so that
    realised P&L = cash + cost holds exactly, whatever was rounded on the way. `version` counts the fills.
    """

    symbol = models.TextField(primary_key=True)
    quantity = NumericField(default=0, db_default=0)
    cost = NumericField(default=0, db_default=0)
    cash = NumericField(default=0, db_default=0)
    version = models.BigIntegerField(default=0, db_default=0)
    updated_at = models.DateTimeField(db_default=ClockTimestamp())
    average_cost = models.GeneratedField(
        expression=models.Case(
            models.When(quantity=0, then=Value(0, output_field=NumericField())),
            default=Round(F("cost") / F("quantity"), 10),
            output_field=NumericField(),
        ),
        output_field=NumericField(),
        db_persist=True,
    )
    realised_pnl = models.GeneratedField(expression=F("cash") + F("cost"), output_field=NumericField(), db_persist=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(version__gte=0), name="position_version"),
            # A flat position has no cost; NaN and Infinity fit neither branch.
            models.CheckConstraint(
                condition=Q(quantity=0, cost=0) | Q(quantity__gt=0, cost__gt=0) | Q(quantity__lt=0, cost__lt=0),
                name="i6_positions_add_up",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.symbol} {self.quantity}"
