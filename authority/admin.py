"""The authority in the admin: to read. What may be done to it is done in the console and at the terminal."""

from django.contrib import admin

from authority.models import TENURE_REASONS, Assignment, Incarnation, Lease, Node, Rebalance, Refusal, Tenure
from mmproject.admin import NodeFilter, ReadOnlyAdmin, SymbolFilter, one_of


@admin.register(Node)
class NodeAdmin(ReadOnlyAdmin):
    list_display = ("name", "draining", "created_at")
    search_fields = ("name",)
    ordering = ("name",)


@admin.register(Incarnation)
class IncarnationAdmin(ReadOnlyAdmin):
    list_display = ("serial", "node", "id", "registered_at", "expires_at", "ended_at", "end_reason")
    list_filter = (NodeFilter, one_of("end_reason", TENURE_REASONS))
    ordering = ("-serial",)


@admin.register(Lease)
class LeaseAdmin(ReadOnlyAdmin):
    list_display = ("symbol", "node", "epoch", "granted_at", "released_at")
    list_filter = (NodeFilter,)
    search_fields = ("symbol", "node")
    ordering = ("symbol",)


@admin.register(Tenure)
class TenureAdmin(ReadOnlyAdmin):
    list_display = ("id", "symbol", "epoch", "node", "granted_at", "ended_at", "reason")
    list_filter = (SymbolFilter, NodeFilter, one_of("reason", TENURE_REASONS))
    search_fields = ("symbol", "node")
    ordering = ("-id",)


@admin.register(Assignment)
class AssignmentAdmin(ReadOnlyAdmin):
    list_display = ("symbol", "node", "generation")
    list_filter = (NodeFilter,)
    search_fields = ("symbol", "node")
    ordering = ("symbol",)


@admin.register(Rebalance)
class RebalanceAdmin(ReadOnlyAdmin):
    list_display = ("generation", "at", "applied_by", "members", "moves", "cause")
    ordering = ("-generation",)


@admin.register(Refusal)
class RefusalAdmin(ReadOnlyAdmin):
    list_display = ("id", "at", "symbol", "node", "epoch", "current_epoch", "reason")
    list_filter = (SymbolFilter, NodeFilter, one_of("reason", ("stale_epoch", "not_holder", "expired")))
    search_fields = ("symbol", "node")
    ordering = ("-id",)
