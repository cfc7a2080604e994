"""`manage.py explain`: why is this symbol where it is?"""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, timedelta
from typing import Any, Final

from django.core.management.base import CommandParser
from rich.console import Console
from rich.table import Table
from rich.text import Text

from authority.explain import Story, clock, duration, story
from mmproject.cli import Command as BaseCommand
from mmproject.cli import add_json_option
from mmproject.errors import UsageError

UNITS: Final = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days"}
LAST_MAX: Final = timedelta(days=366)
STYLES: Final = {
    "refused": "bold red",
    "ended": "yellow",
    "granted": "green",
    "operator": "cyan",
    "withdrawn": "yellow",
}


class Command(BaseCommand):
    help = "Tell the story of a symbol's authority: who held it, why it moved, what was refused."
    epilog = (
        "Times are UTC, by the database's clock.\n\n"
        "examples:\n"
        "  manage.py explain ALFA\n"
        "  manage.py explain ALFA --last 15m\n"
        "  manage.py explain ALFA --last 2d --json"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("symbol", metavar="SYMBOL")
        parser.add_argument("--last", default="1h", metavar="TIME", help="how far back: 90s, 15m, 1h (the default), 2d")
        add_json_option(parser, "the story")

    def handle(self, *args: Any, **options: Any) -> None:
        told = story(options["symbol"], span(options["last"]))
        if options["json"]:
            self.emit(asdict(told))
        else:
            show(told, self.console)


def span(text: str) -> timedelta:
    """A length of time as people write it: 90s, 15m, 1h, 2d. Raises UsageError."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*(ms|s|min|m|h|d)", text.strip(), re.ASCII)
    length = timedelta(**{UNITS[found[2]]: float(found[1])}) if found else timedelta(0)
    if not timedelta(0) < length <= LAST_MAX:
        raise UsageError(f"--last takes a time of up to {LAST_MAX.days} days such as 90s, 15m, 1h or 2d, not {text!r}")
    return length


def show(told: Story, console: Console) -> None:
    """The present first, then the events, oldest first."""
    for sentence in told.now:
        console.print(Text(sentence), soft_wrap=not console.is_terminal)
    console.print()
    if not told.events:
        console.print(Text(f"Nothing changed in the last {duration(told.at - told.since)}."))
        return
    day = None
    for event in told.events:
        date = event.at.astimezone(UTC).date()
        if date != day:
            day = date
            console.print(Text(f"{date:%d %b %Y}", style="dim"))
        text = Text(event.text, style=STYLES[event.kind])
        if console.is_terminal:
            table = Table.grid(padding=(0, 2))  # a long sentence goes on under its own beginning
            table.add_row(clock(event.at), text)
            console.print(table)
        else:
            console.print(Text(f"{clock(event.at)}  ") + text, soft_wrap=True)  # a line each, for `grep`
    if told.truncated:
        console.print(Text("There is more than is shown: ask for less time with --last.", style="bold"))
