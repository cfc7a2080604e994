"""What can be read of the exchange."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from exchange.catalogue import SYMBOLS_MAX, SymbolSpec, catalogue
from exchange.models import OPEN_STATUSES
from mmproject import query
from mmproject.paging import SymbolListQuery, state_page

QUOTING_PARAMETERS = ("half_spread_ticks", "skew_ticks", "quote_size", "position_limit")


@dataclass(frozen=True, slots=True)
class ClockState:
    """The exchange's clock: its step, the last step whose external orders are all placed, and whether it is due."""

    seed: int
    step: int
    orders_step: int
    is_due: bool


def clock() -> ClockState:
    """The clock now; due half a tick early at most, as exchange_advance_clock_v1 has it."""
    found = query.rows(
        "SELECT seed, step, orders_step, clock_timestamp() >= due_at - tick_ms * interval '1 millisecond' / 2 AS is_due"
        "  FROM exchange_clock"
    )
    return ClockState(**found[0]) if found else ClockState(seed=0, step=0, orders_step=0, is_due=False)


def specs() -> list[SymbolSpec]:
    """Every symbol as the market was made with it, by name.

    An operator may change how we quote a symbol; the external orders, which follow from its spec, must not change with
    it, or a step that is computed again would bring other orders (I15). So the catalogue has the last word on its own.
    """
    found = [
        SymbolSpec(**row)
        for row in query.rows(
            "SELECT name, tick_size, lot_size, seed_price, volatility_bps, half_spread_ticks, skew_ticks, quote_size,"
            "       position_limit, orders_per_step FROM exchange_symbol ORDER BY name"
        )
    ]
    return [as_made(spec) for spec in found]


def as_made(spec: SymbolSpec) -> SymbolSpec:
    """The spec with the quoting parameters that the market was made with, where the catalogue knows it."""
    made = _catalogue().get(spec.name)
    if made is None:
        return spec
    quoting = {
        name: getattr(made, name) for name in ("half_spread_ticks", "skew_ticks", "quote_size", "position_limit")
    }
    return made if replace(spec, **quoting) == made else spec


@cache
def _catalogue() -> dict[str, SymbolSpec]:
    return {spec.name: spec for spec in catalogue(SYMBOLS_MAX)}


def symbols(asked: SymbolListQuery) -> dict[str, Any]:
    """A page of the symbols, by name: their grid, switch and quoting parameters."""
    return state_page(
        "SELECT s.name AS symbol, s.tick_size, s.lot_size, q.quoting_enabled, s.position_limit, s.half_spread_ticks,"
        "       s.skew_ticks, s.quote_size, 0 AS sort, s.name AS key"
        "  FROM exchange_symbol s JOIN exchange_quote q ON q.symbol = s.name WHERE %s::text IS NULL OR s.name = %s",
        [asked.symbol, asked.symbol],
        asked,
    )


def prices(asked: SymbolListQuery) -> dict[str, Any]:
    """A page of the reference prices, newest first."""
    return state_page(
        "SELECT symbol, price, step, at, step AS sort, symbol AS key"
        "  FROM exchange_price WHERE %s::text IS NULL OR symbol = %s",
        [asked.symbol, asked.symbol],
        asked,
    )


def quotes(asked: SymbolListQuery) -> dict[str, Any]:
    """A page of the active quotes, newest first: published, not past valid_until, and with a side left."""
    return state_page(
        "SELECT symbol, bid_price, bid_quantity, ask_price, ask_quantity, version, quote_epoch AS epoch,"
        "       quote_node AS node, published_at, valid_until,"
        "       (extract(epoch FROM published_at) * 1000000)::bigint AS sort, symbol AS key"
        "  FROM exchange_quote"
        " WHERE published_at IS NOT NULL AND valid_until > clock_timestamp()"
        "   AND (bid_price IS NOT NULL OR ask_price IS NOT NULL) AND (%s::text IS NULL OR symbol = %s)",
        [asked.symbol, asked.symbol],
        asked,
    )


def positions(asked: SymbolListQuery) -> dict[str, Any]:
    """A page of the positions, marked at the reference prices; the one that moved last first."""
    return state_page(
        "SELECT symbol, quantity, average_cost, cash, realised_pnl, unrealised_pnl, version, updated_at,"
        "       (extract(epoch FROM updated_at) * 1000000)::bigint AS sort, symbol AS key"
        "  FROM exchange_position_marked WHERE %s::text IS NULL OR symbol = %s",
        [asked.symbol, asked.symbol],
        asked,
    )


def orders(*, before: int | None, symbol: str | None, status: str | None, limit: int) -> list[dict[str, Any]]:
    """Up to `limit` orders that arrived before number `before`, newest first."""
    # Said again as a list, so that the open ones are found through the book's partial index.
    is_open = "AND status IN ('resting', 'partially_filled')" if status in OPEN_STATUSES else ""
    return query.rows(
        "SELECT id, client_order_id, symbol, side, type, time_in_force, price, quantity, status, filled_quantity,"  # noqa: S608
        "       quantity - filled_quantity AS remaining_quantity,"
        "       CASE WHEN filled_quantity > 0 THEN round(filled_notional / filled_quantity, 10) END AS average_price,"
        "       reject_code, created_at, updated_at"
        "  FROM exchange_order WHERE (%s::bigint IS NULL OR id < %s) AND (%s::text IS NULL OR symbol = %s)"
        f"   AND (%s::text IS NULL OR status = %s) {is_open} ORDER BY id DESC LIMIT %s",
        [before, before, symbol, symbol, status, status, limit],
    )


def order_state(client_order_id: str) -> dict[str, Any] | None:
    """An order as its owner is told of it now, or None when there is no order by that id."""
    state: dict[str, Any] | None = query.document("SELECT exchange_order_state_v1(%s)", [client_order_id])
    return state


def has_symbol(symbol: str) -> bool:
    """Whether the exchange lists it."""
    return bool(query.value("SELECT EXISTS (SELECT FROM exchange_quote WHERE symbol = %s)", [symbol]))
