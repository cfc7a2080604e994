"""The ledger in the admin: to read."""

from django.contrib import admin

from ledger.models import Fill, Position
from mmproject.admin import ReadOnlyAdmin, SymbolFilter, one_of, shown


@admin.register(Fill)
class FillAdmin(ReadOnlyAdmin):
    list_display = ("fill_id", "filled_at", "symbol", "side", "quantity", "price", "quantity_after", "node", "epoch")
    list_filter = (SymbolFilter, one_of("side", ("buy", "sell")))
    search_fields = ("fill_id", "client_order_id")
    ordering = ("-xid", "-activity_id")


@admin.register(Position)
class PositionAdmin(ReadOnlyAdmin):
    list_display = ("symbol", "quantity", "cost", "cash", "realised_pnl", "version", "updated_at")
    search_fields = ("symbol",)
    ordering = ("symbol",)

    @admin.display(description="realised P&L")
    def realised_pnl(self, position: Position) -> str:
        return shown(position.cash + position.cost)
