"""The ledger: fills as recorded, and the position that they add up to."""

from __future__ import annotations

from django.db import models

from journal.functions import NextActivityId
from mmproject.fields import AmountField, NumericField, WordField, Xid8Field
from mmproject.functions import ClockTimestamp, CurrentXid, check


class Fill(models.Model):
    """A trade of ours, recorded once and never changed.

    `side` is ours; quantities are in the symbol's units, prices in money per unit. The `_after` columns are
    the position as this fill left it, so each fill can be checked against the one before it, and a
    position's history is its fills. A fill is its own entry in the activity, under (`xid`, `activity_id`): see the
    view ledger_activity. `sequence` counts a symbol's fills from 1 without a gap and equals the
    position's version after the fill; `fill_id` is derived from the two and sorts in that order.
    """

    fill_id = models.TextField(primary_key=True, db_collation="C")
    xid = Xid8Field(db_default=CurrentXid(), editable=False)
    activity_id = models.BigIntegerField(db_default=NextActivityId(), editable=False)
    symbol = models.TextField()
    sequence = models.BigIntegerField()
    side = WordField(domain="mm_side")
    price = AmountField()
    quantity = AmountField()
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
        indexes = [models.Index(fields=["xid", "activity_id"], name="fill_commit_order")]
        constraints = [
            # With the primary key this makes (symbol, sequence) unique without an index of its own.
            check("fill_holds", "ledger_fill_holds_v1(ledger_fill)"),
        ]

    def __str__(self) -> str:
        return f"{self.fill_id} {self.side} {self.quantity} @ {self.price}"


class Position(models.Model):
    """What the fills of a symbol add up to.

    `cost` is the signed cost of what is open (quantity x average cost), so that realised P&L = cash + cost holds
    exactly, whatever was rounded on the way (see the view exchange_position_marked). `version` counts the fills.
    What it says is its last fill's `_after` columns, whose rules are checked there.
    """

    symbol = models.TextField(primary_key=True)
    quantity = NumericField(default=0, db_default=0)
    cost = NumericField(default=0, db_default=0)
    cash = NumericField(default=0, db_default=0)
    version = models.BigIntegerField(default=0, db_default=0)
    updated_at = models.DateTimeField(db_default=ClockTimestamp())

    def __str__(self) -> str:
        return f"{self.symbol} {self.quantity}"
