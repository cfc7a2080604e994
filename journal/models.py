"""The journal: what happened beside the fills, in an order that can be read without gaps, and what operators did."""

from __future__ import annotations

from django.db import models

from mmproject.fields import Xid8Field
from mmproject.functions import ClockTimestamp, CurrentXid


class Activity(models.Model):
    """One thing that happened, written in the transaction that made it happen.

    Readers page through the view ledger_activity, which adds the fills, by (xid, id) below `pg_snapshot_xmin`: every
    transaction under that horizon has ended, so a reader that resumes from its last position misses nothing. A sequence
    alone can't promise that, since a lower number may commit later.
    """

    id = models.BigAutoField(primary_key=True)
    xid = Xid8Field(db_default=CurrentXid(), editable=False)
    at = models.DateTimeField(db_default=ClockTimestamp())
    kind = models.TextField()
    symbol = models.TextField(null=True)
    node = models.TextField(null=True)
    data = models.JSONField(default=dict, db_default={})

    class Meta:
        indexes = [
            models.Index(fields=["xid", "id"], name="activity_commit_order"),
            # A symbol's story needs its few withdrawals; the quote versions themselves are dropped after a while.
            models.Index(
                fields=["symbol", "id"], condition=models.Q(kind="quote_withdrawn"), name="activity_withdrawals"
            ),
        ]
        verbose_name_plural = "activity"

    def __str__(self) -> str:
        return f"{self.kind} {self.symbol or self.node or ''}".strip()


class Audit(models.Model):
    """An operator's action: who, when, what it was before and after (I13). Append-only."""

    id = models.BigAutoField(primary_key=True)
    xid = Xid8Field(db_default=CurrentXid(), editable=False)
    at = models.DateTimeField(db_default=ClockTimestamp())
    actor = models.TextField()
    action = models.TextField()
    target = models.TextField()
    before = models.JSONField()
    after = models.JSONField()
    reason = models.TextField(default="", db_default="")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~models.Q(actor=""), name="i13_audited_by_someone"),
            models.CheckConstraint(
                condition=models.Q(action__in=["quoting_on", "quoting_off", "drain", "undrain", "parameters"]),
                name="audit_action_known",
            ),
        ]
        indexes = [models.Index(fields=["target", "-id"], name="audit_target")]
        verbose_name_plural = "audit"

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.target}"
