"""The journal in the admin: to read."""

from django.contrib import admin

from journal.models import Activity, Audit
from mmproject.admin import NodeFilter, ReadOnlyAdmin, SymbolFilter, one_of

KINDS = (
    "order",
    "quote_withdrawn",
    "registered",
    "ended",
    "granted",
    "released",
    "rebalanced",
    "refused",
    "quoting_on",
    "quoting_off",
    "drain",
    "undrain",
    "parameters",
)
ACTIONS = ("quoting_on", "quoting_off", "drain", "undrain", "parameters")


@admin.register(Activity)
class ActivityAdmin(ReadOnlyAdmin):
    list_display = ("id", "at", "kind", "symbol", "node", "data")
    list_filter = (one_of("kind", KINDS), SymbolFilter, NodeFilter)
    ordering = ("-id",)


@admin.register(Audit)
class AuditAdmin(ReadOnlyAdmin):
    list_display = ("id", "at", "actor", "action", "target", "before", "after", "reason")
    list_filter = (one_of("action", ACTIONS),)
    search_fields = ("actor", "target")
    ordering = ("-id",)
