"""`manage.py simulate`: see nodeagent.simulation."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import CommandParser
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from exchange.catalogue import catalogue
from mmproject import provision
from mmproject.cli import Command as BaseCommand
from mmproject.cli import add_json_option
from mmproject.conf import SYMBOLS_MAX, conf
from mmproject.errors import UsageError, UserError
from mmproject.scratch import scratch_database
from mmproject.verify import verify
from nodeagent.simulation import Simulation, replay

STEPS_MAX = 10_000_000
SEED_MAX = 2**31 - 1


class InvariantBroken(UserError):
    """The replay ran through and left something that `verify` finds wrong."""


class Command(BaseCommand):
    help = "Replay the market and its ledger in a scratch database, without waiting for the clock."
    epilog = (
        "The same seed gives the same digest of quotes, fills and positions, on any machine.\n"
        "Every invariant is verified in the scratch database before it is dropped.\n"
        "Runs on DATABASE_URL's server, else on the running system's, else on a throwaway one;\n"
        "the market that runs there is not touched.\n\n"
        "example:\n  manage.py simulate --seed 7 --steps 5000 --json"
    )
    needs_database = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--seed", type=int, required=True, help="of the market's prices and orders")
        parser.add_argument("--steps", type=int, required=True, help="how many steps of the exchange's clock")
        parser.add_argument("--symbols", type=int, default=10, help="how many symbols (10)")
        add_json_option(parser, "digest and counts")

    def handle(self, *args: Any, **options: Any) -> None:
        limits = {"seed": (0, SEED_MAX), "steps": (1, STEPS_MAX), "symbols": (1, SYMBOLS_MAX)}
        for name, (low, high) in limits.items():
            if not low <= options[name] <= high:
                raise UsageError(f"--{name} must be from {low} to {high}, not {options[name]}")
        result = self.simulate(options["seed"], options["steps"], options["symbols"])
        if options["json"]:
            self.emit(result)
            return
        for name, value in result.items():
            self.stdout.write(f"{name:<17}{value}")

    def simulate(self, seed: int, steps: int, symbols: int) -> dict[str, Any]:
        """Replay it, with progress on stderr; returns the digest and the counts."""
        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self.progress_console,
            transient=True,
        )
        with progress:
            task = progress.add_task("simulate", total=steps, rate="")

            def say(what: str) -> None:
                progress.update(task, description=what)

            with scratch_database(conf, "simulate", say) as url, provision.connect(url) as connection:
                connection.prepare_threshold = 0  # every statement comes again
                simulation = Simulation(connection, seed, catalogue(symbols))
                started = time.monotonic()

                def played(step: int) -> None:
                    rate = f"{step / (time.monotonic() - started):.0f} steps/s"
                    progress.update(task, description="simulating", completed=step, rate=rate)

                replay(simulation, steps, played)
                elapsed_s = time.monotonic() - started
                say("condensing")
                counts, digest = simulation.counts(), simulation.digest()
                simulation.refresh()  # the database's clock went on while the market's was raced through
                report = verify(connection, progress=lambda what: say(f"verifying {what}"))
        if not report.ok:
            raise InvariantBroken(f"the replayed market breaks {', '.join(report.broken)}")
        return {
            "digest": digest,
            "seed": seed,
            "symbols": symbols,
            "steps": steps,
            **counts,
            "elapsed_ms": round(elapsed_s * 1000),
            "steps_per_second": round(steps / elapsed_s, 1),
            "verified": len(report.verdicts),
        }
