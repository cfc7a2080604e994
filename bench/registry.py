"""The benchmarks by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench import (
    api,
    fanout,
    handover,
    orders,
    quotes,
    renew,
    requote,
    scale_nodes,
    scale_symbols,
    simulate,
    soak,
    sustain,
    takeover,
)
from bench.run import Run
from mmproject.errors import UsageError


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark. A `long` one runs only when it is named."""

    name: str
    what: str  # one line: figure beside floor
    measure: Callable[[Run], None]
    long: bool = False


BENCHMARKS: Final = (
    Benchmark("orders", "orders filled a second over 100 symbols, one call each; beside TPC-B", orders.orders),
    Benchmark("orders-hot", "the same on one symbol that all clients want", orders.orders_hot),
    Benchmark("orders-batch", "orders in batches of 50 and 200; beside TPC-B", orders.orders_batch),
    Benchmark("quotes", "one node replacing 1,000 and 10,000 quotes; beside a plain UPDATE + INSERT", quotes.quotes),
    Benchmark("renew", "a renewal with 10,000 symbols held against one with 10; beside a raw call", renew.renew),
    Benchmark("takeover", "kill -9 of a node to its symbols' last first quote; beside bare writes", takeover.takeover),
    Benchmark("handover", "a node joins and leaves: each symbol's gap; beside a NOTIFY", handover.handover),
    Benchmark("requote", "a fill's commit to the next quote's; beside a NOTIFY and a bare replace", requote.requote),
    Benchmark("fanout", "what the doorbell costs orders at 32 clients; beside no bell", fanout.fanout),
    Benchmark("api", "orders over HTTP through Daphne; beside its /healthz", api.api),
    Benchmark("simulate", "steps a second of the replay with 100 symbols; beside the clock's", simulate.simulate),
    Benchmark(
        "scale-symbols", "quotes, orders, renewals, reads with 10 to 10,000 symbols", scale_symbols.scale_symbols
    ),
    Benchmark("scale-nodes", "renewals, takeovers, assignments with 1 to 50 nodes", scale_nodes.scale_nodes),
    Benchmark("soak", "half an hour at 70 % of the peak; the last third beside the first", soak.soak, long=True),
    Benchmark("sustain", "10,000 symbols on 4 nodes, every price moving each second", sustain.sustain, long=True),
)


def chosen(names: Sequence[str]) -> list[Benchmark]:
    """The benchmarks of these names in the order given; without any, all that end by themselves within minutes.

    Raises UsageError, which lists what there is.
    """
    if not names:
        return [one for one in BENCHMARKS if not one.long]
    known = {one.name: one for one in BENCHMARKS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)]
