"""`python -m model`, `make model`: the model checked, and each trap found."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from model.checker import STATES_MAX, Exploration, Result, TooManyStates, never_done, uncovered
from model.properties import SAFETY
from model.protocol import Protocol
from model.show import show
from model.traps import TRAPS, Trap

NODES_MAX, SYMBOLS_MAX = 4, 3

EPILOG = """\
Every reachable state of the lease protocol is visited: all interleavings of registering, renewing, expiring, losing a
session, taking, handing over, replacing quotes, stopping, leaving and crashing, of --nodes nodes and --symbols symbols.

  safety    I1 to I5 at every step, with any node doing anything at any time
  coverage  whatever has gone wrong before: a symbol is held in the end while some node is healthy
  traps     the protocol with one rule decided otherwise: a shortest counter-example of each must be found

docs/model.md says what is in the model, what is not, and why the bounds are enough.
Exit 0 when everything holds and every trap was found, 1 otherwise, 2 when the bound on states was met.

examples:
  python -m model                        all of it, 3 nodes and 2 symbols: a minute or two
  python -m model --nodes 2 --symbols 1  a few seconds
  python -m model --trap no-lock         one trap, step by step
  python -m model --only safety --json
"""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(
        prog="python -m model",
        description="Check a model of the lease protocol, state by state.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--nodes", type=int, default=3, choices=range(1, NODES_MAX + 1), help="default 3")
    made.add_argument("--symbols", type=int, default=2, choices=range(1, SYMBOLS_MAX + 1), help="default 2")
    made.add_argument("--only", choices=("safety", "coverage", "traps"), help="one part of it")
    names = "; ".join(f"{trap.name}: {trap.says}" for trap in TRAPS.values())
    made.add_argument("--trap", metavar="NAME", choices=(*TRAPS, "all"), help=f"fall into one, or all ({names})")
    made.add_argument(
        "--states-max", type=int, default=STATES_MAX, metavar="N", help=f"give up beyond (default {STATES_MAX:,})"
    )
    made.add_argument("--json", action="store_true", help="one JSON document, nothing else")
    return made


def told(text: str) -> None:
    """Progress, for whoever waits: never in the answer."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K  {text}")
    else:
        sys.stderr.write(f"  {text}\n")
    sys.stderr.flush()


def settle_line() -> None:
    """Take the progress line away."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")


def check(part: str, nodes: int, symbols: int, states_max: int) -> dict[str, Any]:
    """One part of the protocol as it is: `safety` or `coverage`."""
    protocol = Protocol(cover=part == "coverage")
    exploration = Exploration(protocol, nodes, symbols, states_max=states_max)
    result = exploration.run(SAFETY, told)
    if result.trace is None and part == "coverage":
        result.trace = uncovered(exploration, told)
    never = [] if result.trace else never_done(result, protocol)
    properties = list(SAFETY) if part == "safety" else [*SAFETY, "covered"]
    return {"part": part, "nodes": nodes, "symbols": symbols, "properties": properties, "never_done": never,
            "holds": result.trace is None, **figures(result, protocol)}  # fmt: skip


def fall_into(trap: Trap, states_max: int) -> dict[str, Any]:
    """One trap, in the smallest system that shows it."""
    is_coverage = trap.breaks == "covered"
    protocol = Protocol(trap.rules, cover=is_coverage)
    exploration = Exploration(protocol, trap.nodes, trap.symbols, states_max=states_max)
    result = exploration.run(() if is_coverage else (trap.breaks,), told)
    if is_coverage:
        result.trace = uncovered(exploration, told)
    return {"trap": trap.name, "says": trap.says, "breaks": trap.breaks, "nodes": trap.nodes, "symbols": trap.symbols,
            "found": result.trace is not None, **figures(result, protocol)}  # fmt: skip


def figures(result: Result, protocol: Protocol) -> dict[str, Any]:
    """What every answer has."""
    trace = list(show(result.trace, protocol)) if result.trace else []
    return {"states": result.states, "steps": result.steps, "depth": result.depth, "seconds": round(result.seconds, 1),
            "trace_steps": len(result.trace.steps) if result.trace else 0, "trace": trace}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; the exit code."""
    options = parser().parse_args(arguments)
    parts = [options.only] if options.only else ["traps"] if options.trap else ["safety", "coverage", "traps"]
    chosen = list(TRAPS.values()) if options.trap in (None, "all") else [TRAPS[options.trap]]
    document: dict[str, Any] = {"checked": [], "traps": []}
    began_at = time.perf_counter()
    try:
        for part in parts:
            if part == "traps":
                for trap in chosen:
                    document["traps"].append(fall_into(trap, options.states_max))
                    settle_line()
                    if not options.json:
                        print_trap(document["traps"][-1], with_trace=options.trap is not None)
            else:
                document["checked"].append(check(part, options.nodes, options.symbols, options.states_max))
                settle_line()
                if not options.json:
                    print_check(document["checked"][-1])
    except TooManyStates as error:
        settle_line()
        sys.stderr.write(f"{error}\n")
        return 2
    document["seconds"] = round(time.perf_counter() - began_at, 1)
    document["ok"] = all(one["holds"] and not one["never_done"] for one in document["checked"]) and all(
        one["found"] for one in document["traps"]
    )
    if options.json:
        json.dump(document, sys.stdout, indent=2)
        sys.stdout.write("\n")
    return 0 if document["ok"] else 1


def print_check(one: dict[str, Any]) -> None:
    """One part's answer, and its counter-example if there is one."""
    verdict = "holds" if one["holds"] else "BROKEN"
    print(f"{one['part']:9} {verdict}: {', '.join(one['properties'])}")
    print(f"          {one['nodes']} nodes, {one['symbols']} symbols: {one['states']:,} states, {one['steps']:,} "
          f"steps, at most {one['depth']} from the start, {one['seconds']} s")  # fmt: skip
    for title in one["never_done"]:
        print(f"          never happened: {title}")
    print(*one["trace"], sep="\n", end="\n" if one["trace"] else "")


def print_trap(one: dict[str, Any], *, with_trace: bool) -> None:
    """One trap's answer; step by step when it was asked for by name."""
    found = f"{one['breaks']} broken in {one['trace_steps']} steps" if one["found"] else "NOT FOUND"
    print(f"trap {one['trap']:17} {found:28} {one['says']}")
    if with_trace:
        print(*one["trace"], sep="\n", end="\n\n")


if __name__ == "__main__":
    sys.exit(main())
