"""10,000 symbols on 4 nodes while every price moves every second: is every quote at most 5 s old, and at what cost?

Nodes are `manage.py runnode`. The exchange's clock is driven from here, once a second, at times fixed in advance; half
a second after each step the oldest quote is looked at. CPU is each process's own, from the operating system.
"""

from __future__ import annotations

import time
from typing import Any, Final

import psutil

from bench.figures import Goal, Measurement, percentile, rounded
from bench.nodes import RUNNODE, Market, node_market
from bench.processes import cpu_s, family, machine_busy_s, own_process, postgres_of
from bench.run import Run

MINUTES: Final = 10.0
QUICK_MINUTES: Final = 0.2
SYMBOLS: Final = 10_000
QUICK_SYMBOLS: Final = 200
NODES: Final = 4
STEP_S: Final = 1.0
FRESH_S: Final = 5.0  # I11's
BALANCE_TIMEOUT_S: Final = 180.0

# Every price, up and down in turn, so that they stay where they are.
_ADVANCE: Final = """
    SELECT exchange_advance_clock_v1(
        (SELECT step + 1 FROM exchange_clock), array_agg(symbol), array_agg(price + %s::numeric))
      FROM exchange_price
"""
_AGES: Final = """
    SELECT extract(epoch FROM clock_timestamp() - min(published_at))::float8,
           count(*) FILTER (WHERE published_at < clock_timestamp() - %s * interval '1 second'),
           count(*) FILTER (WHERE published_at IS NULL), sum(version)::bigint
      FROM exchange_quote
"""
_STEP: Final = "SELECT step FROM exchange_clock"


def sustain(run: Run) -> None:
    """All nodes up and quoting; then minutes of it."""
    quick = run.plan.quick
    symbols = QUICK_SYMBOLS if quick else SYMBOLS
    whole_s = 60 * (run.plan.minutes or (QUICK_MINUTES if quick else MINUTES))
    with run.database() as database, node_market(database, symbols) as market:
        run.say(f"{NODES} nodes take {symbols:,} symbols")
        for number in range(1, NODES + 1):
            market.start(f"node-{number}", program=RUNNODE)
        market.balanced(NODES, BALANCE_TIMEOUT_S)
        processes = {name: [psutil.Process(node.pid)] for name, node in market.nodes.items()}
        server = postgres_of(market.admin)
        before = {name: cpu_s(found) for name, found in processes.items()}
        before |= {"bench": cpu_s([own_process()]), "postgres": cpu_s(family(server)) if server else {}}
        busy, began = machine_busy_s(), time.monotonic()
        samples, steps = _watch(run, market, whole_s)
        took_s, busy_s = time.monotonic() - began, machine_busy_s() - busy
        after = {name: cpu_s(found) for name, found in processes.items()}
        after |= {"bench": cpu_s([own_process()]), "postgres": cpu_s(family(server)) if server else {}}
    run.outcome.samples += samples
    _tell(run, symbols, samples, steps, took_s)
    at: dict[str, int | str] = {"symbols": symbols, "nodes": NODES}
    for name, used in after.items():
        # Of those that were there before and still are; a backend that ended in between took its seconds along.
        spent = sum(seconds - before[name].get(pid, 0.0) for pid, seconds in used.items())
        run.add(Measurement(name=f"CPU: {name}", unit="% of a core", values=(100 * spent / took_s,), at=at))
    run.add(Measurement(name="CPU: the machine, all of it", unit="% of a core", values=(100 * busy_s / took_s,), at=at))


def _watch(run: Run, market: Market, whole_s: float) -> tuple[list[dict[str, Any]], int]:
    """A step and a sample a second; the samples, and how far the clock got."""
    samples: list[dict[str, Any]] = []
    first_step: int = market.value(_STEP)
    began = time.monotonic()
    for number in range(max(1, round(whole_s / STEP_S))):
        due_at = began + number * STEP_S
        time.sleep(max(0.0, due_at - time.monotonic()))
        market.value(_ADVANCE, "0.01" if number % 2 else "-0.01")
        stepped_s = time.monotonic() - due_at
        time.sleep(max(0.0, due_at + STEP_S / 2 - time.monotonic()))
        worst_s, old, none, versions = market.rows(_AGES, FRESH_S)[0]
        samples.append(
            {
                "at_s": round(time.monotonic() - began, 2),
                "worst_age_s": rounded(worst_s),
                "old": old,
                "unquoted": none,
                "versions": versions,
                "step_ms": rounded(stepped_s * 1000),
            }
        )
        run.say(
            f"{(number + 1) * STEP_S / 60:.1f} of {whole_s / 60:g} minutes: the oldest quote is {worst_s:.1f} s old"
        )
    return samples, market.value(_STEP) - first_step


def _tell(run: Run, symbols: int, samples: list[dict[str, Any]], steps: int, took_s: float) -> None:
    at: dict[str, int | str] = {"symbols": symbols, "nodes": NODES}
    fresh = [one["old"] == 0 and one["unquoted"] == 0 for one in samples]
    ages = [float(one["worst_age_s"]) for one in samples]
    run.add(
        Measurement(
            name=f"samples at which every quote is at most {FRESH_S:g} s old",
            unit="%",
            values=(100 * sum(fresh) / len(fresh),),
            goal=Goal("figure", "at least", 100.0),
            at=at,
            detail={"samples": len(samples), "minutes": round(took_s / 60, 2), "steps_of_the_clock": steps},
        )
    )
    run.add(
        Measurement(
            name="oldest quote",
            unit="s",
            values=tuple(ages),  # median, best and worst of all samples
            at=at,
            detail={"p99_s": rounded(percentile(ages, 0.99))},
        )
    )
    if len(samples) > 1:
        replaced = samples[-1]["versions"] - samples[0]["versions"]
        span_s = samples[-1]["at_s"] - samples[0]["at_s"]
        run.add(Measurement(name="quotes replaced", unit="quotes/s", values=(replaced / span_s,), at=at))
