"""`simulate`'s own market, step after step, against the pace of the clock that people watch (a step a second)."""

from __future__ import annotations

import time
from typing import Final

from bench.figures import Floor, Goal, Measurement
from bench.run import Run
from exchange.catalogue import catalogue
from nodeagent.simulation import Simulation

SYMBOLS: Final = 100
SEED: Final = 1
GOAL: Final = 20.0
CLOCK_STEPS_PER_S: Final = 1.0  # MM_TICK_MS's default


def simulate(run: Run) -> None:
    """100 symbols, as many steps as go into each round."""
    with run.database() as database:
        connection = database.connect()
        connection.prepare_threshold = 0  # every statement comes again
        simulation = Simulation(connection, SEED, catalogue(SYMBOLS))
        simulation.start()
        step = 0

        def played(seconds: float) -> float:
            nonlocal step
            began, first = time.perf_counter(), step
            while (took := time.perf_counter() - began) < seconds:
                step += 1
                simulation.step(step)
            return (step - first) / took

        run.say("warm-up")
        played(run.plan.warm_up_s)
        rates = []
        for number in range(run.plan.rounds):
            run.say(f"round {number + 1} of {run.plan.rounds}")
            rates.append(played(run.plan.seconds))
        counts = simulation.counts()
        simulation.refresh()  # the database's clock went on while the market's was raced through
        run.add(
            Measurement(
                name=f"{SYMBOLS} symbols",
                unit="steps/s",
                values=tuple(rates),
                floors=(Floor("the default clock", (CLOCK_STEPS_PER_S,) * len(rates)),),
                goal=Goal("ratio", "at least", GOAL),
                at={"symbols": SYMBOLS},
                detail={"steps": step, **counts},
            )
        )
        run.note("simulate commits without waiting for the disk: a crash loses its scratch database as a whole")
