"""A node's renewal with few and with many symbols held, beside a function that updates one row.

Renewing is one row whatever a node holds. Waiting for the disk is most of it and would hide a difference, so it is
measured without that too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench import floor
from bench.figures import Floor, Goal, Measurement, Side, alternate
from bench.maker import Holder, holders
from bench.orders import names
from bench.pgbench import PgBench
from bench.run import Run
from bench.scaffold import Database
from nodeagent.authority_client import RENEW

FEW: Final = 10
MANY: Final = 10_000
QUICK_MANY: Final = 500
GOAL: Final = 1.1


def renewals(bench: PgBench, url: str, holder: Holder, name: str, *, waits: bool) -> Side:
    """Milliseconds per renewal of this incarnation, one after another."""
    script = bench.script(name, RENEW.replace("$1", f"'{holder.incarnation}'") + ";\n")
    return _ms_per_call(bench, url, script, waits=waits)


def _ms_per_call(bench: PgBench, url: str, script: Path, *, waits: bool) -> Side:
    settings = {} if waits else {"synchronous_commit": "off"}
    return lambda seconds: 1000 / bench.per_second(url, script, clients=1, seconds=seconds, settings=settings)


def touches(bench: PgBench, url: str, *, waits: bool) -> Side:
    """Milliseconds per call of the floor's function."""
    return _ms_per_call(bench, url, bench.script("touch", floor.TOUCH + ";\n"), waits=waits)


def renew(run: Run) -> None:
    """Two nodes in one market, one of which holds nearly all of it."""
    many = QUICK_MANY if run.plan.quick else MANY
    listed = names(FEW + many)
    with run.database() as database, holders(database, {"few": listed[:FEW], "many": listed[FEW:]}) as held:
        floor.make(database.connect())
        for waits in (True, False):
            _measure(run, database, held, many, waits=waits)


def _measure(run: Run, database: Database, held: dict[str, Holder], many: int, *, waits: bool) -> None:
    bench, url, plan = run.pgbench(), database.url("node"), run.plan
    taken = alternate(
        {
            "many": renewals(bench, url, held["many"], "many", waits=waits),
            "few": renewals(bench, url, held["few"], "few", waits=waits),
            "function": touches(bench, url, waits=waits),
        },
        rounds=plan.rounds, seconds=plan.seconds, warm_up_s=plan.warm_up_s, tell=run.say,
    )  # fmt: skip
    run.add(
        Measurement(
            name=f"{many:,} symbols held, {'durable' if waits else 'without waiting for the disk'}",
            unit="ms",
            values=taken["many"],
            floors=(Floor(f"{FEW} symbols held", taken["few"]), Floor("function, one row", taken["function"])),
            goal=Goal("ratio", "at most", GOAL),
            at={"symbols": many},
        )
    )
