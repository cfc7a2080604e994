"""How the number of nodes tells: 1 to 50 registered nodes with their real sessions and renewals.

One of them has a process of its own and is killed; the others share a few. A probe that takes no symbols renews
beside them all, at times of its own (open loop).
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from bench import floor
from bench.figures import Floor, Measurement, percentile, summary_ms
from bench.loops import Loop, loop
from bench.maker import DAY_MS, leave
from bench.nodes import BARE_NODE, Market, Node, node_market
from bench.run import Run
from bench.scaffold import eventually
from bench.takeover import first_quotes, held_by
from nodeagent import authority_client as client
from nodeagent.connections import Link

NUMBERS: Final = (1, 2, 5, 10, 25, 50)
QUICK_NUMBERS: Final = (1, 5)
SYMBOLS: Final = 100
PROCESSES: Final = 4  # that the survivors share
PROBE_PER_S: Final = 50.0
BALANCE_TIMEOUT_S: Final = 120.0
LOST_TIMEOUT_S: Final = 60.0
VICTIM: Final = "victim"

_NOW: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"
# The last by name: each node watches the session of the next, and the one before the victim has to be a real one.
PROBE: Final = "z-probe"
# The first assignment after a moment.
_ASSIGNED: Final = "SELECT extract(epoch FROM min(at))::float8 FROM authority_rebalance WHERE at > to_timestamp(%s)"
_REGISTERED: Final = """
    SELECT extract(epoch FROM max(registered_at))::float8 FROM authority_incarnation
     WHERE node = %s AND ended_at IS NULL
"""


class Probe:
    """An incarnation that is draining before others come: it renews like any of them, and nothing is assigned to it."""

    def __init__(self, market: Market, own: Loop) -> None:
        self._session = market.database.connect()  # it holds the incarnation's lock
        row = self._session.execute("SELECT incarnation FROM authority_register_v3(%s, %s)", [PROBE, DAY_MS]).fetchone()
        assert row is not None
        self._incarnation, self._own = row[0], own
        market.value("SELECT authority_set_draining_v1(%s, true, 'bench')", PROBE)

    def renewals_s(self, seconds: float) -> list[float]:
        """Of each renewal, from the time that it was due."""
        return self._at_a_rate(client.RENEW, seconds, self._incarnation)

    def touches_s(self, seconds: float) -> list[float]:
        """Of a function that updates one row, the same way."""
        return self._at_a_rate(floor.TOUCH, seconds)

    def _at_a_rate(self, statement: str, seconds: float, *arguments: object) -> list[float]:
        taken: list[float] = []

        async def calls(link: Link) -> None:
            began = time.perf_counter()
            for number in range(round(seconds * PROBE_PER_S)):
                due_at = began + number / PROBE_PER_S
                await asyncio.sleep(max(0.0, due_at - time.perf_counter()))
                await link.fetch(statement, *arguments)
                taken.append(time.perf_counter() - due_at)

        self._own.run(calls)
        return taken

    def leave(self) -> None:
        leave(self._session, self._incarnation)


def scale_nodes(run: Run) -> None:
    """Each number of nodes in a market of its own."""
    for number in QUICK_NUMBERS if run.plan.quick else NUMBERS:
        run.say(f"starting {number} nodes")
        with (
            run.database() as database,
            node_market(database, SYMBOLS) as market,
            loop(database.url("node")) as own,
        ):
            floor.make(market.admin)
            probe = Probe(market, own)
            market.start(VICTIM, program=BARE_NODE)
            _start_others(market, number - 1)
            market.balanced(number, BALANCE_TIMEOUT_S)
            _renewals(run, probe, number)
            if number > 1:
                _losses(run, market, number)
            probe.leave()


def _start_others(market: Market, count: int) -> list[Node]:
    """The nodes that stay, spread over a few processes."""
    names = [f"node-{number}" for number in range(1, count + 1)]
    hosts = [names[first::PROCESSES] for first in range(min(PROCESSES, count))]
    return [
        market.start(f"host-{number}", program=("-m", "bench.many_nodes", "--names", ",".join(host)))
        for number, host in enumerate(hosts, 1)
    ]


def _renewals(run: Run, probe: Probe, number: int) -> None:
    renewed: list[list[float]] = []
    touched: list[list[float]] = []
    probe.renewals_s(run.plan.warm_up_s)
    probe.touches_s(run.plan.warm_up_s)
    for which in range(run.plan.rounds):
        run.say(f"{number} nodes: renewals, round {which + 1} of {run.plan.rounds}")
        if which % 2:
            touched.append(probe.touches_s(run.plan.seconds))
        renewed.append(probe.renewals_s(run.plan.seconds))
        if not which % 2:
            touched.append(probe.touches_s(run.plan.seconds))
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        run.add(
            Measurement(
                name=f"{number} nodes: renewal, {name}",
                unit="ms",
                values=tuple(percentile(one, share) * 1000 for one in renewed),
                floors=(Floor(f"function, one row, {name}", tuple(percentile(one, share) * 1000 for one in touched)),),
                at={"nodes": number, "quantile": name},
                detail=summary_ms([one for taken in renewed for one in taken]) if name == "p99" else {},
            )
        )


def _losses(run: Run, market: Market, number: int) -> None:
    """The victim is killed and comes back, again and again."""
    lost: list[float] = []
    left: list[float] = []
    joined: list[float] = []
    for which in range(run.plan.rounds + 1):
        run.say(f"{number} nodes: kill {which} of {run.plan.rounds}" if which else f"{number} nodes: warm-up")
        held = held_by(market, VICTIM)
        killed_at: float = market.value(_NOW)
        market.nodes[VICTIM].kill()
        last = max(first_quotes(market, held, LOST_TIMEOUT_S).values())
        market.balanced(number - 1, BALANCE_TIMEOUT_S)
        assigned_at: float = market.value(_ASSIGNED, killed_at)
        restarted_at: float = market.value(_NOW)
        market.start(VICTIM, program=BARE_NODE)
        market.balanced(number, BALANCE_TIMEOUT_S)
        registered_at: float = market.value(_REGISTERED, VICTIM)
        if which:
            lost.append((last - killed_at) * 1000)
            left.append((assigned_at - killed_at) * 1000)
            applied_at = eventually(lambda since=restarted_at: market.value(_ASSIGNED, since))  # type: ignore[misc]
            joined.append((applied_at - registered_at) * 1000)
    for name, values in (
        ("kill to last first quote", lost),
        ("kill to the new assignment", left),
        ("registration to the new assignment", joined),
    ):
        run.add(
            Measurement(
                name=f"{number} nodes: {name}",
                unit="ms",
                values=tuple(values),
                at={"nodes": number, "symbols": SYMBOLS, "series": name},
            )
        )
