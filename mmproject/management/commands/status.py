"""`manage.py status`: nodes, leases, quotes and positions in the terminal."""

from __future__ import annotations

import time
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from django.core.management.base import CommandParser
from django.db import DatabaseError, connection
from rich import box
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mmproject import overview
from mmproject.cli import Command as BaseCommand
from mmproject.cli import add_json_option, decimal_text, explained, one_line
from mmproject.errors import UsageError
from mmproject.overview import Overview, Row

WATCH_PERIOD_S: Final = 1.0
STATE_STYLES: Final = {"active": "green", "draining": "yellow", "ended": "red"}
NOTHING: Final = "-"
WIDE: Final = 112  # columns of a terminal that shows all of the symbols' table; a narrower one gets less of it
NARROW_COLUMNS: Final = ("symbol", "holder", "bid", "ask", "position", "P&L", "quoting")


class Command(BaseCommand):
    help = "Show nodes, leases, quotes and positions, in one snapshot."
    epilog = "examples:\n  manage.py status --watch\n  manage.py status --json | python -m json.tool"

    def add_arguments(self, parser: CommandParser) -> None:
        add_json_option(parser, "the snapshot")
        parser.add_argument("--watch", action="store_true", help="repaint every second until Ctrl-C")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["json"] and options["watch"]:
            raise UsageError("--watch repaints a screen and --json prints one document: choose one")
        if options["watch"]:
            self.watch()
        elif options["json"]:
            self.emit(overview.read())
        else:
            self.console.print(painted(overview.read(), self.console.width))

    def watch(self) -> None:
        """Repaint until Ctrl-C, also through the database's outages."""
        console = self.console
        last: RenderableType = Text("reading ...")
        try:
            with Live(last, console=console, screen=console.is_terminal, auto_refresh=False) as live:
                while True:
                    try:
                        last = painted(overview.read(), console.width)
                        live.update(last, refresh=True)
                    except DatabaseError as error:
                        told = explained(error)
                        if told is None:
                            raise
                        connection.close()  # the next read connects anew
                        live.update(Group(Text(one_line(told), style="bold red"), last), refresh=True)
                    time.sleep(WATCH_PERIOD_S)
        except KeyboardInterrupt:
            pass  # how one ends it


def painted(seen: Overview, width: int) -> RenderableType:
    """The snapshot as a line of figures and two tables, for a terminal of that many columns."""
    return Group(_headline(seen), _nodes(seen), _symbols(seen, wide=width >= WIDE))


def _headline(seen: Overview) -> Text:
    if seen.clock is None:
        return Text("no market yet: start the system with `make run`", style="yellow")
    lag_ms = _ms(seen.at, seen.clock["due_at"]) - seen.clock["tick_ms"]
    late = f", {lag_ms / 1000:.0f} s behind" if lag_ms > seen.clock["tick_ms"] else ""
    waiting = seen.clock["step"] - seen.clock["orders_step"]
    return Text.assemble(
        (f"{seen.at:%H:%M:%S} UTC", "bold"),
        f"   step {seen.clock['step']}",
        (late, "red"),
        f"   {seen.orders_per_second:.1f} orders/s",
        f" ({waiting} steps of orders to place)" if waiting > 1 else "",
        f"   {len(seen.leases)} of {len(seen.symbols)} symbols held",
    )


def _nodes(seen: Overview) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("node", "state", "incarnation"):
        table.add_column(name, no_wrap=True)
    for name in ("symbols", "present for"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in seen.nodes:
        ended = row["state"] == "ended"
        why = f" ({row['end_reason']})" if ended and row["end_reason"] else ""
        table.add_row(
            row["name"],
            Text(row["state"] + why, style=STATE_STYLES[row["state"]]),
            str(row["incarnation"] or NOTHING)[:8],
            str(row["symbols"]),
            NOTHING if ended else f"{_ms(row['expires_at'], seen.at)} ms",
        )
    if not seen.nodes:
        table.add_row(Text("no node has registered yet", style="yellow"))
    return table


def _symbols(seen: Overview, *, wide: bool) -> Table:
    leases, quotes, prices, positions = (
        {row["symbol"]: row for row in rows} for rows in (seen.leases, seen.quotes, seen.prices, seen.positions)
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for row in seen.symbols:
        name = row["symbol"]
        lease, live = leases.get(name), quotes.get(name)
        quantity, earned = _position(positions.get(name))
        cells: dict[str, RenderableType] = {
            "symbol": name,
            "holder": lease["node"] if lease else Text("nobody", style="red"),
            "epoch": str(lease["epoch"]) if lease else NOTHING,
            "lease": f"{_ms(lease['expires_at'], seen.at)} ms" if lease else NOTHING,
            "bid": _side(live, "bid"),
            "ask": _side(live, "ask"),
            "age": f"{_ms(seen.at, live['published_at']) / 1000:.1f} s" if live else NOTHING,
            "reference": decimal_text(prices[name]["price"]) if name in prices else NOTHING,
            "position": quantity,
            "P&L": earned,
            "quoting": Text("on", style="green") if row["quoting_enabled"] else Text("OFF", style="bold red"),
        }
        shown = [column for column in cells if wide or column in NARROW_COLUMNS]
        if not table.columns:
            for column in shown:
                words = column in ("symbol", "holder", "quoting")
                table.add_column(column, no_wrap=True, justify="left" if words else "right")
        table.add_row(*(cells[column] for column in shown))
    return table


def _side(live: Row | None, side: str) -> str:
    """Size and price of a side, the price next to the middle."""
    if live is None or live[f"{side}_price"] is None:
        return NOTHING
    price, quantity = decimal_text(live[f"{side}_price"]), decimal_text(live[f"{side}_quantity"])
    return f"{quantity} x {price}" if side == "bid" else f"{price} x {quantity}"


def _position(row: Row | None) -> tuple[str, Text]:
    """Quantity, and what it has earned: realised and at the reference price."""
    if row is None:
        return NOTHING, Text(NOTHING)
    earned: Decimal = row["realised_pnl"] + row["unrealised_pnl"]
    return decimal_text(row["quantity"]), Text(f"{earned:,.2f}", style="red" if earned < 0 else "green")


def _ms(later: datetime, earlier: datetime) -> int:
    return round((later - earlier).total_seconds() * 1000)
