"""Authority: who may quote what, until when, under which epoch, and how it came to that."""

from __future__ import annotations

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import ArrayField, DateTimeRangeField, RangeOperators
from django.db import models
from django.db.models import F, Func, Q

from mmproject.fields import Xid8Field
from mmproject.functions import ClockTimestamp, CurrentXid

TENURE_REASONS = ("released", "expired", "session_lost", "drained", "ended_by_operator")


class Node(models.Model):
    """A name under which incarnations register, and whether an operator is draining it."""

    name = models.TextField(primary_key=True)
    draining = models.BooleanField(default=False, db_default=False)
    created_at = models.DateTimeField(db_default=ClockTimestamp())

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(name__regex=r"^[a-z0-9][a-z0-9-]{0,62}$"), name="node_name")]

    def __str__(self) -> str:
        return self.name


class Incarnation(models.Model):
    """One life of a node: from its registration until it ends, is lost or expires. It never comes back.

    `expires_at` moves on with each renewal and is in no index, so that renewals stay HOT. `serial` is the key
    of the session advisory lock that its dedicated connection holds. `ending` is why its end has begun, since
    `ending_at`: it leaves and hands over, or it was lost and more is to be taken away than one statement does.
    `steady_since`: from then on it has renewed without a pause of more than half its TTL.
    """

    id = models.UUIDField(primary_key=True)
    serial = models.IntegerField(unique=True)
    node = models.TextField()
    ttl_ms = models.IntegerField()
    registered_at = models.DateTimeField(db_default=ClockTimestamp())
    expires_at = models.DateTimeField()
    steady_since = models.DateTimeField(db_default=ClockTimestamp())
    ended_at = models.DateTimeField(null=True)
    end_reason = models.TextField(null=True)
    ending = models.TextField(null=True)
    ending_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["node"], condition=Q(ended_at__isnull=True), name="one_live_incarnation_per_node"
            ),
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True, end_reason__isnull=True)
                | Q(ended_at__isnull=False, end_reason__in=TENURE_REASONS),
                name="incarnation_end",
            ),
            models.CheckConstraint(
                condition=Q(ending__isnull=True, ending_at__isnull=True)
                | Q(ending__in=["released", "expired", "session_lost"], ending_at__isnull=False),
                name="incarnation_ending",
            ),
            models.CheckConstraint(condition=Q(ttl_ms__gte=200, ttl_ms__lte=86_400_000), name="incarnation_ttl"),
        ]

    def __str__(self) -> str:
        return f"{self.node}/{str(self.id)[:8]}"


class Lease(models.Model):
    """The right to replace a symbol's quote: one row per symbol (I1), in force while its holder is unexpired."""

    symbol = models.TextField(primary_key=True)
    incarnation = models.UUIDField(null=True)
    node = models.TextField(null=True)
    epoch = models.BigIntegerField(default=0, db_default=0)
    granted_at = models.DateTimeField(null=True)
    released_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(incarnation__isnull=True, node__isnull=True)
                | Q(incarnation__isnull=False, node__isnull=False, granted_at__isnull=False),
                name="i1_one_lease",
            )
        ]
        indexes = [models.Index(fields=["incarnation"], name="lease_holder")]

    def __str__(self) -> str:
        return f"{self.symbol} epoch {self.epoch}"


class Tenure(models.Model):
    """One grant from its beginning to its end, under its epoch. Only its end may ever be written, once."""

    id = models.BigAutoField(primary_key=True)
    xid = Xid8Field(db_default=CurrentXid(), editable=False)
    symbol = models.TextField()
    epoch = models.BigIntegerField()
    incarnation = models.UUIDField()
    node = models.TextField()
    granted_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    reason = models.TextField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["symbol", "epoch"], name="i2_epochs_rise"),
            ExclusionConstraint(
                name="i3_no_overlap",
                expressions=[
                    ("symbol", RangeOperators.EQUAL),
                    (
                        Func("granted_at", "ended_at", function="tstzrange", output_field=DateTimeRangeField()),
                        RangeOperators.OVERLAPS,
                    ),
                ],
            ),
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True, reason__isnull=True)
                | Q(ended_at__gte=F("granted_at"), reason__in=TENURE_REASONS),
                name="tenure_end",
            ),
        ]
        indexes = [
            models.Index(fields=["symbol"], condition=Q(ended_at__isnull=True), name="tenure_open"),
        ]

    def __str__(self) -> str:
        return f"{self.symbol} epoch {self.epoch} {self.node}"


class Assignment(models.Model):
    """Which node should hold a symbol. A wish: the lease says who does."""

    symbol = models.TextField(primary_key=True)
    node = models.TextField()
    generation = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.symbol} -> {self.node}"


class Rebalance(models.Model):
    """One applied assignment. The highest generation is the current one; the next writer must name it."""

    generation = models.BigIntegerField(primary_key=True)
    at = models.DateTimeField(db_default=ClockTimestamp())
    applied_by = models.TextField()
    members = ArrayField(models.TextField())
    moves = models.IntegerField()
    cause = models.TextField()

    def __str__(self) -> str:
        return f"generation {self.generation}"


class Refusal(models.Model):
    """A quote that was refused because its writer had no right to write it: the fence at work."""

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(db_default=ClockTimestamp())
    symbol = models.TextField()
    node = models.TextField(null=True)
    incarnation = models.UUIDField()
    epoch = models.BigIntegerField()
    reason = models.TextField()
    current_epoch = models.BigIntegerField(null=True)

    class Meta:
        indexes = [models.Index(fields=["symbol", "at"], name="refusal_story")]

    def __str__(self) -> str:
        return f"{self.symbol} epoch {self.epoch} {self.reason}"
