"""`manage.py bench`: see the package `bench` and docs/performance.md."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg
from django.core.management.base import CommandParser
from django.db import DatabaseError
from rich.markup import escape
from rich.status import Status

from bench import plot
from bench.figures import Measurement
from bench.registry import BENCHMARKS, Benchmark, chosen
from bench.run import Machine, Outcome, Plan, Run, measured_server
from bench.scaffold import NotInTime
from bench.tables import one_line_of, show
from mmproject.cli import Command as BaseCommand
from mmproject.cli import add_json_option, one_line
from mmproject.conf import conf
from mmproject.errors import UsageError, UserError
from mmproject.scratch import interruptible
from nodeagent.connections import ConnectionLost, DriverError, TryAgain

ROUNDS: Final = 5
SECONDS: Final = 3.0
QUICK_ROUNDS: Final = 2
QUICK_SECONDS: Final = 1.0
ROUNDS_MAX: Final = 100
SECONDS_MAX: Final = 600.0
MINUTES_MAX: Final = 24 * 60.0
# What can happen to one benchmark on a healthy machine that is too slow or too busy: told, and the others still run.
FAILURES: Final[tuple[type[Exception], ...]] = (
    UserError, NotInTime, ConnectionLost, TryAgain, *DriverError, psycopg.Error, DatabaseError, psutil.Error,
    subprocess.SubprocessError, EOFError,
)  # fmt: skip


class Command(BaseCommand):
    help = "Measure what the system costs, each figure beside its floor in the same run."
    epilog = (
        "Every benchmark has a scratch database of its own, on DATABASE_URL's server, else on an embedded one that is\n"
        "started for it; commits are durable (fsync and synchronous_commit on, or nothing is measured). Figure and\n"
        "floor take turns in each round, and the ratio is taken round by round. `verify` runs on what is left.\n"
        "Without a NAME: all that end within a few minutes each, which are all but those marked long.\n\n"
        "Exit 0 when all ran and everything verified holds, whether or not goals were met; 1 otherwise.\n\n"
        "examples:\n"
        "  manage.py bench orders renew\n"
        "  manage.py bench --quick --json\n"
        "  manage.py bench soak --minutes 30 --plot soak.svg"
    )
    needs_database = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks; --list shows them")
        parser.add_argument("--list", action="store_true", help="name the benchmarks, a line each, and measure nothing")
        parser.add_argument("--rounds", type=int, help=f"in which figure and floor take turns ({ROUNDS})")
        parser.add_argument("--seconds", type=float, help=f"of each side in each round ({SECONDS:g})")
        parser.add_argument("--minutes", type=float, help="of those marked long (soak 30, sustain 10)")
        parser.add_argument(
            "--quick", action="store_true",
            help="short rounds and small markets, to see that all works: such figures say nothing",
        )  # fmt: skip
        add_json_option(parser, "machine, measurements and verdicts")
        parser.add_argument(
            "--plot", type=Path, metavar="FILE",
            help="draw throughput and p99 against clients, symbols and nodes (.svg or .png; needs make setup-dev)",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        if options["list"]:
            for one in BENCHMARKS:
                self.stdout.write(f"{one.name:<14}{one.what}{' (long)' if one.long else ''}")
            return
        benchmarks = chosen(options["names"])
        plan, picture = _plan(options), options["plot"]
        if picture is not None:
            plot.check_path(picture)
        machine, outcomes = self._measure(benchmarks, plan)
        if options["json"]:
            self.emit(document(plan, machine, outcomes))
        else:
            show(machine, outcomes, self.console)
        if picture is not None and not plot.draw(outcomes, picture):
            self.progress_console.print("nothing was drawn: each figure was measured at one number of anything only")
        if not all(outcome.ok for outcome in outcomes):
            sys.exit(1)

    def _measure(self, benchmarks: list[Benchmark], plan: Plan) -> tuple[Machine, list[Outcome]]:
        console = self.progress_console
        outcomes: list[Outcome] = []
        with interruptible(), console.status("bench") as status, measured_server(conf, status.update) as found:
            server, machine = found
            for benchmark in benchmarks:
                outcome = Outcome(benchmark.name, benchmark.what, os.getloadavg()[0])
                outcomes.append(outcome)
                self._one(benchmark, plan, server, machine, outcome, status)
        return machine, outcomes

    def _one(
        self, benchmark: Benchmark, plan: Plan, server: str, machine: Machine, outcome: Outcome, status: Status
    ) -> None:
        """Run one benchmark. What can happen to a healthy program is kept as its error; the others still run."""
        console = self.progress_console

        def say(what: str) -> None:
            if console.is_terminal:  # in a log it would be noise
                status.update(f"{benchmark.name}: {escape(what)}")

        def told(measurement: Measurement) -> None:
            console.print(f"{benchmark.name}: {escape(one_line_of(measurement))}", soft_wrap=True)

        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="mm-bench-", ignore_cleanup_errors=True) as folder:
            run = Run(plan, conf, server, machine.embedded, Path(folder), outcome, say, told)
            try:
                benchmark.measure(run)
            except FAILURES as error:
                outcome.error = one_line(error)
                console.print(f"{benchmark.name}: [bold red]failed[/]: {escape(outcome.error)}", soft_wrap=True)
        outcome.took_s = time.monotonic() - began


def _plan(options: dict[str, Any]) -> Plan:
    """Raises UsageError."""
    quick = options["quick"]
    rounds = options["rounds"] or (QUICK_ROUNDS if quick else ROUNDS)
    seconds = options["seconds"] or (QUICK_SECONDS if quick else SECONDS)
    limits = {
        "rounds": (options["rounds"], 1, ROUNDS_MAX),
        "seconds": (options["seconds"], 1, SECONDS_MAX),
        "minutes": (options["minutes"], 0.1, MINUTES_MAX),
    }
    for name, (value, low, high) in limits.items():
        if value is not None and not low <= value <= high:
            raise UsageError(f"--{name} must be from {low:g} to {high:g}, not {value:g}")
    return Plan(rounds=rounds, seconds=seconds, quick=quick, minutes=options["minutes"])


def document(plan: Plan, machine: Machine, outcomes: list[Outcome]) -> dict[str, Any]:
    """The JSON document."""
    verdicts = [one.met for outcome in outcomes for one in outcome.measurements if one.goal]
    return {
        "ok": all(outcome.ok for outcome in outcomes),
        "quick": plan.quick,
        "machine": machine.as_json(),
        "goals": {"met": verdicts.count(True), "not_met": verdicts.count(False)},
        "benchmarks": [outcome.as_json() for outcome in outcomes],
    }
