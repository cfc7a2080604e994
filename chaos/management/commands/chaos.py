"""`manage.py chaos`: see the package `chaos` and docs/chaos.md."""

from __future__ import annotations

import math
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Final

from django.core.management.base import CommandParser
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chaos import report
from chaos.catalogue import FAULTS, by_name
from chaos.occasion import Fault
from chaos.run import Bout, run
from chaos.schedule import schedule
from mmproject.cli import Command as BaseCommand
from mmproject.cli import add_json_option
from mmproject.conf import conf
from mmproject.errors import UsageError
from mmproject.scratch import interruptible

BOUT_MINUTES: Final = 10.0
MINUTES_MAX: Final = 24 * 60.0
SYMBOLS: Final = 10


class Command(BaseCommand):
    help = "Break a scratch cluster on purpose, and check every invariant throughout."
    epilog = (
        "A cluster of its own is made (two PostgreSQL servers, nodes, worker, beat, Daphne), loaded with orders by\n"
        "clients that keep their own record, and broken by a schedule that follows from the seed. `verify` judges it\n"
        "each second and at the end. Long runs are bouts of ten minutes, each on a new cluster with the next seed.\n\n"
        "Exit 0: every fault and every condition that must come about happened, and everything held. Exit 1\n"
        "otherwise, with the command that repeats the bout. The running system, if there is one, is not touched.\n\n"
        "examples:\n"
        "  manage.py chaos --list\n"
        "  manage.py chaos --minutes 10 --seed 7 --report build/chaos\n"
        "  manage.py chaos --minutes 1 --only node_stop,failover"
    )
    needs_database = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--minutes", type=float, default=BOUT_MINUTES, help=f"in all ({BOUT_MINUTES:g})")
        parser.add_argument("--seed", type=int, default=1, help="of the first bout; the others count up (1)")
        parser.add_argument("--bout", type=float, default=BOUT_MINUTES, metavar="MINUTES", help="at most, of each bout")
        parser.add_argument("--only", metavar="FAULTS", help="these faults, separated by commas")
        parser.add_argument("--without", metavar="FAULTS", help="all but these")
        parser.add_argument(
            "--skip-unavailable", action="store_true", help="do without the faults that can't be had on this machine"
        )
        parser.add_argument("--symbols", type=int, default=SYMBOLS, help=f"to be quoted ({SYMBOLS})")
        parser.add_argument("--report", type=Path, metavar="FOLDER", help="write JSON, an HTML page and the logs there")
        parser.add_argument("--list", action="store_true", help="name the faults, a line each, and break nothing")
        parser.add_argument("--plan", action="store_true", help="print the schedule, and break nothing")
        add_json_option(parser, "bouts, counts, gaps and verdicts")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["json"] and (options["list"] or options["plan"]):
            raise UsageError("--json is for a run: --list and --plan print lines")
        if options["list"]:
            for fault in FAULTS:
                self.stdout.write(f"{fault.number:>2}  {fault.name:<24}{fault.what}")
            return
        chosen = _chosen(options["only"], options["without"])
        faults = self._available(chosen, options["skip_unavailable"])
        left_out = [fault.name for fault in FAULTS if fault not in faults]
        lengths = _lengths(options["minutes"], options["bout"])
        if not 1 <= options["symbols"] <= 1000:
            raise UsageError(f"--symbols must be from 1 to 1000, not {options['symbols']}")
        if options["plan"]:
            self._plan(faults, options["seed"], lengths)
            return
        bouts: list[Bout] = []
        if options["report"]:
            report.clear(options["report"])
        for number, minutes in enumerate(lengths):
            with interruptible():
                bouts.append(self._bout(faults, options["seed"] + number, minutes, options))
            document = report.document(bouts, left_out, to_come=len(lengths) - len(bouts))
            if options["report"]:
                report.write(document, options["report"])  # a run that is cut short has told what it has seen
        if options["json"]:
            self.emit(document)
        else:
            self._show(document)
        if not document["ok"]:
            sys.exit(1)

    def _available(self, faults: list[Fault], skip: bool) -> list[Fault]:
        """Raises UsageError when one can't be had here and may not be skipped."""
        missing = {fault.name: why for fault in faults if (why := fault.needs())}
        told = "; ".join(f"{name} needs {why}" for name, why in missing.items())
        if missing and not skip:
            raise UsageError(f"{told}: leave out with --without {','.join(missing)}")
        if missing:
            self.progress_console.print(f"[bold red]left out:[/] {escape(told)}", soft_wrap=True)
        return [fault for fault in faults if fault.name not in missing]

    def _bout(self, faults: list[Fault], seed: int, minutes: float, options: dict[str, Any]) -> Bout:
        began, console = time.monotonic(), self.progress_console
        console.print(f"[bold]bout with seed {seed}[/], {minutes:g} minutes, {len(faults)} kinds of faults")

        def say(who: str, what: str) -> None:
            console.print(f"{time.monotonic() - began:7.1f}  {escape(who):<24} {escape(what)}", soft_wrap=True)

        folder = options["report"] / f"seed-{seed}" if options["report"] else None
        if folder:
            shutil.rmtree(folder, ignore_errors=True)  # an earlier run's: its orders are in no database any more
            folder.mkdir(parents=True)
        bout = run(
            conf, faults, seed=seed, seconds=minutes * 60, symbols=options["symbols"], folder=folder, say=say
        )  # fmt: skip
        bout.repeat = _command(seed, minutes, options)
        if not bout.ok:
            _why(console, [*bout.broken, *bout.invalid], [bout.repeat])
        return bout

    def _plan(self, faults: list[Fault], seed: int, lengths: list[float]) -> None:
        for number, minutes in enumerate(lengths):
            for entry in schedule(faults, seed + number, minutes * 60):
                on = f" on {entry.node}" if entry.node else ""
                self.stdout.write(
                    f"{seed + number}  {entry.at_s:7.1f} s  {entry.fault.name}{on}, {entry.seconds:.1f} s"
                )

    def _show(self, document: dict[str, Any]) -> None:
        table = Table(box=None, pad_edge=False)
        spread = ("p50 ms", "p99 ms", "max ms")
        for title in ("fault", "times", "gaps", *spread, "taken over", *spread, "not"):
            table.add_column(title, justify="left" if title == "fault" else "right")
        for row in report.fault_rows(document):
            table.add_row(*map(str, row))
        self.console.print(table)
        for name, count in document["sometimes"].items():
            self.console.print(f"{count:>8}  {name.replace('_', ' ')}")
        orders = document["orders"]
        self.console.print(
            f"{orders.get('acknowledged', 0)} answers acknowledged,"
            f" {document['snapshots'].get('verified', 0)} snapshots verified,"
            f" {sum(document['operations'].values())} operations checked as a history,"
            f" {document['stream'].get('shown', 0)} rows shown to a console,"
            f" {len(document['violations'])} violations",
            soft_wrap=True,
        )
        if document["excused"]:
            self.console.print(f"{document['excused']} verdicts on progress were excused: the disk was full")
        if document["left_out"]:
            self.console.print(f"left out: {', '.join(document['left_out'])}", soft_wrap=True)
        # Told at the end of its bout already; but of a long output it is the end that is kept.
        _why(self.console, document["broken"], [bout["repeat"] for bout in document["bouts"] if not bout["ok"]])
        self.console.print("ok" if document["ok"] else "NOT ok", style="bold green" if document["ok"] else "bold red")


def _command(seed: int, minutes: float, options: dict[str, Any]) -> str:
    """What repeats the bout's schedule."""
    told = [
        f"--{name.replace('_', '-')} {options[name]}"
        for name, default in (("only", None), ("without", None), ("symbols", SYMBOLS))
        if options[name] != default
    ]
    told += ["--skip-unavailable"] if options["skip_unavailable"] else []
    command = f"manage.py chaos --minutes {minutes:g} --bout {max(minutes, BOUT_MINUTES):g} --seed {seed}"
    return " ".join([command, *told])


def _why(console: Console, reasons: list[str], commands: list[str]) -> None:
    for text in reasons:
        console.print(f"[bold red]{escape(text)}[/]", soft_wrap=True)
    for command in commands:
        console.print(f"to repeat: {escape(command)}", soft_wrap=True)


def _names(text: str | None) -> list[Fault]:
    found = []
    for name in (text or "").split(","):
        if name.strip():
            fault = by_name(name.strip())
            if fault is None:
                raise UsageError(f"no fault is called {name.strip()!r}; `manage.py chaos --list` names them")
            found.append(fault)
    return found


def _chosen(only: str | None, without: str | None) -> list[Fault]:
    left_out = _names(without)
    chosen = [fault for fault in (_names(only) or FAULTS) if fault not in left_out]
    if not chosen:
        raise UsageError("no fault is left to happen")
    return chosen


def _lengths(minutes: float, bout: float) -> list[float]:
    """Of each bout, in minutes: all the same, and none longer than `bout`."""
    if not 0.5 <= minutes <= MINUTES_MAX:
        raise UsageError(f"--minutes must be from 0.5 to {MINUTES_MAX:g}, not {minutes:g}")
    if not 0.5 <= bout <= 60:
        raise UsageError(f"--bout must be from 0.5 to 60, not {bout:g}")
    count = math.ceil(minutes / bout)
    return [minutes / count] * count
