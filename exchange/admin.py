"""The exchange in the admin: to read, but for a symbol's quoting parameters."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db import models, transaction
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts.permissions import CHANGE_PARAMETERS
from exchange.errors import ExchangeError
from exchange.models import Clock, Order, Price, Quote, QuoteVersion, Retention, Symbol, Trade
from exchange.services import set_parameters
from mmproject.admin import ReadOnlyAdmin, SymbolFilter, one_of

PARAMETERS = ("half_spread_ticks", "skew_ticks", "quote_size", "position_limit")
STATUSES = ("resting", "partially_filled", "filled", "cancelled", "rejected")


class ParametersForm(forms.ModelForm):  # type: ignore[type-arg]
    """A symbol's quoting parameters.

    The database is their judge, so it is asked while the form is validated: a refusal is an error of the form, and what
    it takes is committed, audited, with the request. Only what the user changed is sent, so that two people's edits of
    different parameters do not undo each other.
    """

    actor: str
    reason = forms.CharField(
        required=False, max_length=200, widget=UnfoldAdminTextInputWidget, help_text="Goes into the audit record."
    )

    class Meta:
        model = Symbol
        fields = PARAMETERS
        help_texts = {
            "half_spread_ticks": "Distance of bid and ask from the middle, in ticks, 1 to 10,000.",
            "skew_ticks": "How far the middle moves against a position at its limit, in ticks, 0 to 10,000.",
            "quote_size": "Quantity offered on each side, a multiple of the lot.",
            "position_limit": "The position that no quote may take us beyond, long or short.",
        }

    def validate_constraints(self) -> None:
        """Left to the table itself: Django can't try its CHECKs, which are plain SQL, without the row."""

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if self.errors:
            return
        changes = {name: self.cleaned_data[name] for name in self.changed_data if name in PARAMETERS}
        if not changes:
            return
        try:
            with transaction.atomic():  # a refusal must not take the request's transaction with it
                set_parameters(self.instance.name, changes, self.actor, self.cleaned_data["reason"])
        except ExchangeError as error:
            self.add_error(None, str(error))


@admin.register(Symbol)
class SymbolAdmin(ReadOnlyAdmin):
    form = ParametersForm
    list_display = ("name", "tick_size", "lot_size", "seed_price", *PARAMETERS, "orders_per_step")
    search_fields = ("name",)
    ordering = ("name",)

    def has_change_permission(self, request: HttpRequest, _obj: models.Model | None = None) -> bool:
        return bool(request.user.has_perm(CHANGE_PARAMETERS))

    def get_fields(self, request: HttpRequest, obj: models.Model | None = None) -> list[Any]:
        if not self.has_change_permission(request, obj):
            return super().get_fields(request, obj)
        return [*PARAMETERS, "reason", *self.get_readonly_fields(request, obj)]

    def get_readonly_fields(self, request: HttpRequest, obj: models.Model | None = None) -> list[Any]:
        everything = super().get_fields(request, obj)
        if not self.has_change_permission(request, obj):
            return everything
        names = [field.name for field in self.model._meta.fields]
        return [shown for name, shown in zip(names, everything, strict=True) if name not in PARAMETERS]

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        return type(form.__name__, (form,), {"actor": request.user.get_username()})

    def save_model(self, _request: HttpRequest, obj: Symbol, _form: Any, _change: bool) -> None:
        obj.refresh_from_db()  # the form's validation has saved it, through the function that audits


@admin.register(Clock)
class ClockAdmin(ReadOnlyAdmin):
    list_display = ("id", "seed", "tick_ms", "step", "due_at", "orders_step")


@admin.register(Price)
class PriceAdmin(ReadOnlyAdmin):
    list_display = ("symbol", "price", "step", "at")
    search_fields = ("symbol",)
    ordering = ("symbol",)


@admin.register(Quote)
class QuoteAdmin(ReadOnlyAdmin):
    list_display = (
        "symbol",
        "quoting_enabled",
        "node",
        "epoch",
        "version",
        "bid_quantity",
        "bid_price",
        "ask_price",
        "ask_quantity",
        "published_at",
        "valid_until",
    )
    list_filter = ("quoting_enabled",)
    search_fields = ("symbol", "node")
    ordering = ("symbol",)


@admin.register(QuoteVersion)
class QuoteVersionAdmin(ReadOnlyAdmin):
    list_display = (
        "symbol",
        "version",
        "published_at",
        "bid_quantity",
        "bid_price",
        "ask_price",
        "ask_quantity",
        "node",
        "epoch",
        "withdrawn_reason",
    )
    list_filter = (SymbolFilter,)
    search_fields = ("symbol",)
    ordering = ("-id",)


@admin.register(Retention)
class RetentionAdmin(ReadOnlyAdmin):
    list_display = ("symbol", "version", "dropped_before")
    search_fields = ("symbol",)
    ordering = ("symbol",)


@admin.register(Order)
class OrderAdmin(ReadOnlyAdmin):
    list_display = (
        "client_order_id",
        "created_at",
        "symbol",
        "side",
        "type",
        "time_in_force",
        "quantity",
        "price",
        "filled_quantity",
        "status",
        "reject_code",
    )
    list_filter = (SymbolFilter, one_of("status", STATUSES), one_of("side", ("buy", "sell")))
    search_fields = ("client_order_id",)
    ordering = ("-id",)


@admin.register(Trade)
class TradeAdmin(ReadOnlyAdmin):
    list_display = ("trade_id", "traded_at", "symbol", "quantity", "price", "maker_order_id", "taker_order_id")
    list_filter = (SymbolFilter,)
    search_fields = ("trade_id",)
    ordering = ("-trade_id",)
