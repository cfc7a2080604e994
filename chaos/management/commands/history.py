"""`manage.py history FOLDER`: could a correct system have said all that?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

from django.core.management.base import CommandParser
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chaos.history import Report, check
from mmproject.cli import Command as BaseCommand
from mmproject.cli import add_json_option
from mmproject.db import connect_url
from mmproject.errors import UsageError
from mmproject.provision import connect

SHOWN: Final = 5  # violations of each check in the terminal; --json has more


class Command(BaseCommand):
    help = "Check a recorded run: linearizable and serializable, or the operations that show why not."
    epilog = (
        "FOLDER is where the run was recorded: MM_HISTORY in the environment of `up` or `runnode` makes nodes record\n"
        "what they ask and are told there, a file per process; the chaos run's clients do the same. Every answer is\n"
        "held against the tables of DATABASE_URL (or of the system that runs in this folder), and against time:\n\n"
        "  linearizability   of each symbol's grants, releases, quotes and toggles, with what was refused and why\n"
        "  serializability   of orders, fills, quotes and toggles: what each transaction read and wrote\n\n"
        "What breaks them is a cycle: operations that each must come before the next, and the last before the first.\n"
        "All processes must have run on one machine (its monotonic clock orders them). The system may still be\n"
        "running. docs/history.md says what is recorded and how it is judged.\n\n"
        "Exit 0 when all agrees, 1 when it does not.\n\n"
        "examples:\n"
        "  MM_HISTORY=/tmp/run manage.py up\n"
        "  manage.py history /tmp/run\n"
        "  manage.py history /tmp/run --json"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, metavar="FOLDER", help="with the recordings (*.jsonl)")
        add_json_option(parser, "counts and violations")

    def handle(self, *args: Any, **options: Any) -> None:
        folder = options["folder"]
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder")
        with connect(connect_url("console")) as connection, self.progress_console.status("history"):
            report = check(folder, connection)
        if options["json"]:
            self.emit(report.as_json())
        else:
            show(report, self.console)
        if not report.ok:
            sys.exit(1)


def show(report: Report, console: Console) -> None:
    """Counts and verdicts as a table, then what breaks them."""
    table = Table(box=None, pad_edge=False)
    for heading in ("check", "", "judged"):
        table.add_column(heading)
    for name, found in report.checks().items():
        verdict = "[green]holds[/]" if found.ok else f"[bold red]BROKEN[/] {found.count:,}"
        table.add_row(name, verdict, ", ".join(f"{count:,} {what}" for what, count in sorted(found.counts.items())))
    console.print(table)
    for found in report.checks().values():
        for violation in found.violations[:SHOWN]:
            console.print(escape(str(violation)), highlight=False, soft_wrap=True)
        if found.count > SHOWN:
            console.print(f"... {found.count:,} in all", highlight=False)
    console.print(
        f"{report.recorded:,} operations, {report.unknown:,} of unknown outcome, judged in {report.took_s:.1f} s",
        highlight=False,
    )
