"""`manage.py verify`: does every invariant hold, right now?"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any, Final

import psycopg
from django.core.management.base import CommandParser
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmproject.cli import Command as BaseCommand
from mmproject.cli import add_json_option, explained, one_line
from mmproject.db import connect_url
from mmproject.errors import UsageError
from mmproject.provision import connect
from mmproject.verify import Report, Verdict, named, shown, verify

WATCH_S: Final = (
    10.0  # default period: a snapshot that is held all the time would keep the hot tables from being pruned
)
WATCH_MIN_S: Final = 1.0
ROWS_PRINTED: Final = 5  # per invariant in the terminal; --json has more


class Command(BaseCommand):
    help = "Check every invariant against the live database, in one snapshot."
    epilog = (
        "Exit 0 when all hold, 1 when one is broken (its offending rows are shown).\n\n"
        "examples:\n"
        "  manage.py verify\n"
        "  manage.py verify --only I4 --only fills-once --json\n"
        "  manage.py verify --watch 30\n"
        "  manage.py verify --acknowledged answers.jsonl"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_json_option(parser, "the verdicts")
        parser.add_argument(
            "--watch", nargs="?", type=float, const=WATCH_S, metavar="SECONDS",
            help=f"check again every so many seconds ({WATCH_S:g}) until Ctrl-C",
        )  # fmt: skip
        parser.add_argument(
            "--only", action="append", default=[], metavar="NAME",
            help="this invariant only (I4, fenced-quotes); may be repeated",
        )  # fmt: skip
        parser.add_argument(
            "--acknowledged", type=Path, metavar="FILE",
            help="for I10: JSON lines, each an answer of POST orders that a client wrote down",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        named(options["only"])  # a wrong name is told before anything runs
        period_s = options["watch"]
        if period_s is not None and options["json"]:
            raise UsageError("--watch goes on and --json prints one document: choose one")
        if period_s is not None and not WATCH_MIN_S <= period_s < math.inf:
            raise UsageError(f"--watch takes a number of seconds from {WATCH_MIN_S:g} up")
        ok = self._once(options) if period_s is None else self._watch(options, period_s)
        if not ok:
            sys.exit(1)

    def _watch(self, options: dict[str, Any], period_s: float) -> bool:
        """Round after round until Ctrl-C, also through the database's outages; whether every one of them held."""
        ok = True
        try:
            while True:
                started = time.monotonic()
                try:
                    ok &= self._once(options)
                except psycopg.Error as error:
                    told = explained(error)
                    if told is None:
                        raise
                    self.progress_console.print(f"[bold red]not checked[/]: {escape(one_line(told))}")
                time.sleep(max(0.0, period_s - (time.monotonic() - started)))
        except KeyboardInterrupt:
            return ok

    def _once(self, options: dict[str, Any]) -> bool:
        report = self._report(options)
        if options["json"]:
            self.emit(report.as_json())
        else:
            show(report, self.console)
        return report.ok

    def _report(self, options: dict[str, Any]) -> Report:
        console = self.progress_console
        with connect(connect_url("console")) as connection, console.status("verify") as status:

            def progress(text: str) -> None:
                if console.is_terminal:  # in a log it would be noise
                    status.update(f"verify: {escape(text)}")

            return verify(connection, only=options["only"], acknowledged=options["acknowledged"], progress=progress)


def show(report: Report, console: Console) -> None:
    """The verdicts as a table, then what breaks them."""
    table = Table(box=None, pad_edge=False)
    for heading, justify in (("", "left"), ("invariant", "left"), ("", "left"), ("checked", "right"), ("ms", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for verdict in report.verdicts:
        found = "[green]holds[/]" if verdict.ok else f"[bold red]BROKEN[/] {verdict.violations:,}"
        table.add_row(
            verdict.invariant.id, verdict.invariant.name, found, f"{verdict.checked:,}", f"{verdict.took_ms:,}"
        )
    console.print(table)
    for verdict in report.verdicts:
        for note in verdict.notes:
            console.print(f"[dim]{verdict.invariant.title}: {escape(note)}[/]", highlight=False)
    for verdict in report.verdicts:
        if not verdict.ok:
            _show_rows(verdict, console)
    judged = f"{shown(report.checked_at)} in {report.took_ms / 1000:.2f} s"
    if report.ok:
        console.print(f"[green]All {len(report.verdicts)} hold[/], at {judged}", highlight=False)
    else:
        console.print(f"[bold red]Broken: {', '.join(report.broken)}[/], at {judged}", highlight=False)


def _show_rows(verdict: Verdict, console: Console) -> None:
    console.print(f"[bold red]{verdict.invariant.title}[/]: {escape(verdict.invariant.holds)}", highlight=False)
    for row in verdict.rows[:ROWS_PRINTED]:
        fields = ", ".join(f"{key}={shown(value)}" for key, value in row.items() if key != "check")
        console.print(f"  not so: {row['check']}\n    {escape(fields)}", highlight=False, soft_wrap=True)
    if verdict.violations > ROWS_PRINTED:
        console.print(f"  ... {verdict.violations:,} in all", highlight=False)
