"""`manage.py verify`: does every invariant hold, right now?"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
from django.core.management.base import CommandParser
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from mmproject.cli import Command as BaseCommand
from mmproject.db import connect_url, described
from mmproject.errors import UserError
from mmproject.provision import connect
from mmproject.verify import Report, Verdict, named, shown, verify

WATCH_S = 10.0
ROWS_PRINTED = 5  # per invariant in the terminal; --json has more


class DatabaseGone(UserError):
    """The database could not be read."""


class Command(BaseCommand):
    help = "Check every invariant against the live database in one snapshot. Exit 0 when all hold, 1 otherwise."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON document")
        parser.add_argument(
            "--watch", nargs="?", type=float, const=WATCH_S, metavar="SECONDS",
            help=f"check again every so many seconds ({WATCH_S:g}) until Ctrl-C; with --json, one document a line",
        )  # fmt: skip
        parser.add_argument(
            "--only", action="append", default=[], metavar="NAME",
            help="this invariant only (I4, fenced-quotes); may be repeated",
        )  # fmt: skip
        parser.add_argument(
            "--acknowledged", type=Path, metavar="FILE",
            help="JSON lines, each an answer of POST orders that a client wrote down: for I10",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        named(options["only"])  # a wrong name is told before anything runs
        ok = self._once(options) if options["watch"] is None else self._watch(options)
        if not ok:
            sys.exit(1)

    def _watch(self, options: dict[str, Any]) -> bool:
        """Round after round until Ctrl-C; whether every one of them held."""
        ok = True
        try:
            while True:
                started = time.monotonic()
                try:
                    ok &= self._once(options)
                except DatabaseGone as error:
                    # A watch outlives a restart of the database; what it could not see it says.
                    print(error, file=sys.stderr)
                time.sleep(max(0.0, options["watch"] - (time.monotonic() - started)))
        except KeyboardInterrupt:
            return ok

    def _once(self, options: dict[str, Any]) -> bool:
        report = self._report(options)
        if options["json"]:
            indent = 1 if options["watch"] is None else None
            self.stdout.write(json.dumps(report.as_json(), indent=indent))
            self.stdout.flush()
        else:
            show(report, Console())
        return report.ok

    def _report(self, options: dict[str, Any]) -> Report:
        url = connect_url("console")
        console = Console(stderr=True)
        try:
            # Shown only at a terminal; in a log it would be noise.
            with connect(url) as connection, console.status("verify") as status:
                return verify(
                    connection,
                    only=options["only"],
                    acknowledged=options["acknowledged"],
                    progress=lambda text: _progress(status, console, text),
                )
        except psycopg.errors.UndefinedTable as error:
            raise UserError(f"{described(url)} has no market: its migrations were never applied") from error
        except psycopg.OperationalError as error:
            raise DatabaseGone(f"cannot read {described(url)}: {str(error).strip().splitlines()[0]}") from error


def _progress(status: Status, console: Console, text: str) -> None:
    if console.is_terminal:
        status.update(f"verify: {escape(text)}")


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
