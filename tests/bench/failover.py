"""What a lost, stopped, joining or leaving node costs: `python -m tests.bench.failover [kills|stops|moves ...]`.

Every figure is taken from the tables and the commit timestamps of the database, with real nodes and the default TTL.
Prints one JSON document. DATABASE_URL may name a server (its admin's URL); otherwise one is started with fsync on.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.figures import summary_ms
from tests.bench.nodes import BARE_NODE, TRUSTING_NODE, Market, bench_database, node_market
from tests.support import eventually

STOPPED_S = 8.0
LOAD_INTERVAL_S = 1.0

# Per symbol: when the first quote under an epoch above the given one committed.
FIRST_QUOTES = """
    SELECT q.symbol, extract(epoch FROM min(pg_xact_commit_timestamp(q.xmin)))::float8
      FROM exchange_quoteversion q JOIN unnest(%s::text[], %s::bigint[]) AS old (symbol, epoch) ON old.symbol = q.symbol
     WHERE q.epoch > old.epoch AND q.withdrawn_reason IS NULL
     GROUP BY q.symbol
"""
# Per handover since a generation: from the old tenure's end to the next grant.
GAPS = """
    SELECT extract(epoch FROM n.granted_at - t.ended_at)::float8
      FROM authority_tenure t JOIN authority_tenure n ON n.symbol = t.symbol AND n.epoch = t.epoch + 1
     WHERE n.granted_at > %s
"""
STALE_WRITES = """
    SELECT count(*) FROM exchange_quoteversion q JOIN authority_tenure n ON n.symbol = q.symbol AND n.epoch > q.epoch
     WHERE q.withdrawn_reason IS NULL
       AND pg_xact_commit_timestamp(q.xmin) > pg_xact_commit_timestamp(n.xid::xid)
"""


def held_by(market: Market, node: str) -> dict[str, int]:
    """Symbol and epoch of what a node holds."""
    return dict(market.rows("SELECT symbol, epoch FROM authority_lease_in_force WHERE node = %s", node))


def first_quotes(market: Market, held: dict[str, int]) -> dict[str, float]:
    """When each of these symbols was first quoted under a later epoch, as Unix timestamps; waits for all of them."""

    def quoted() -> dict[str, float]:
        rows = dict(market.rows(FIRST_QUOTES, list(held), list(held.values())))
        return rows if len(rows) == len(held) else {}

    return eventually(quoted, 20, f"{len(held)} symbols quoted under a later epoch", interval_s=0.02)


def kills(market: Market, times: int = 20, nodes: int = 3) -> dict[str, Any]:
    """kill -9 of one node after another: from the kill to the first quote under the next epoch, per symbol and the
    slowest per kill."""
    market.start_all(nodes)
    per_symbol: list[float] = []
    per_kill: list[float] = []
    for number in range(times):
        name = f"node-{number % nodes + 1}"
        held = held_by(market, name)
        killed_at = market.nodes[name].kill()
        gaps = [at - killed_at for at in first_quotes(market, held).values()]
        per_symbol += gaps
        per_kill.append(max(gaps))
        market.start(name)
        market.balanced(nodes)
    return {"per_kill": summary_ms(per_kill), "per_symbol": summary_ms(per_symbol)}


def stops(market: Market, times: int = 10, *, nodes: int = 3, trusting: bool = False) -> dict[str, Any]:
    """SIGSTOP for 8 s, then SIGCONT: how long after its expiry the others were granted its symbols and quoted them.

    `trusting` nodes never stop by themselves, so that their late writes reach the fence.
    """
    program = TRUSTING_NODE if trusting else BARE_NODE
    for number in range(1, nodes + 1):
        market.start(f"node-{number}", program=program)
    market.balanced(nodes)
    granted: list[float] = []
    quoted: list[float] = []
    for number in range(times):
        node = market.nodes[f"node-{number % nodes + 1}"]
        held = held_by(market, node.name)
        incarnation = market.value(
            "SELECT id FROM authority_incarnation WHERE node = %s AND ended_at IS NULL", node.name
        )
        stopped_at = node.signal(signal.SIGSTOP)
        try:
            first = first_quotes(market, held)
            expired_at = market.value(
                "SELECT extract(epoch FROM expires_at)::float8 FROM authority_incarnation WHERE id = %s", incarnation
            )
            for symbol, epoch in held.items():
                granted_at = market.value(
                    "SELECT extract(epoch FROM granted_at)::float8 FROM authority_tenure"
                    " WHERE symbol = %s AND epoch = %s",
                    symbol,
                    epoch + 1,
                )
                granted.append(granted_at - expired_at)
            quoted += [at - expired_at for at in first.values()]
            eventually(lambda since=stopped_at: time.time() >= since + STOPPED_S, STOPPED_S + 2)  # type: ignore[misc]
        finally:
            node.signal(signal.SIGCONT)
        market.balanced(nodes)
    return {
        "expiry_to_grant": summary_ms(granted),
        "expiry_to_quote": summary_ms(quoted),
        "late_writes_refused": market.value("SELECT count(*) FROM authority_refusal"),
        "late_writes_committed": market.value(STALE_WRITES),
    }


def moves(market: Market, rounds: int = 5, nodes: int = 3) -> dict[str, Any]:
    """A node joins, then leaves on purpose: moves against the minimum, and the gap per symbol between the end of the
    old tenure and the next grant. Prices move all along, so that every symbol is requoted."""
    market.start_all(nodes)
    symbols = market.value("SELECT count(*) FROM exchange_symbol")
    gaps: dict[str, list[float]] = {"join": [], "leave": []}
    counts: dict[str, list[int]] = {"join": [], "leave": []}
    leave_took: list[float] = []
    for _round in range(rounds):
        for kind in ("join", "leave"):
            market.advance()
            since = market.value("SELECT clock_timestamp()")
            if kind == "join":
                market.start(f"node-{nodes + 1}")
                market.balanced(nodes + 1)
            else:
                leave_took.append(market.nodes[f"node-{nodes + 1}"].stop())
                market.balanced(nodes)
            gaps[kind] += [row[0] for row in market.rows(GAPS, since)]
            counts[kind].append(market.value("SELECT sum(moves)::int FROM authority_rebalance WHERE at > %s", since))
    return {
        "symbols": symbols,
        "join": {"moves": counts["join"], "minimum": symbols // (nodes + 1), "gap": summary_ms(gaps["join"])},
        "leave": {"moves": counts["leave"], "gap": summary_ms(gaps["leave"]), "took": summary_ms(leave_took)},
    }


def main() -> None:
    measures: dict[str, tuple[int, Callable[[Market], dict[str, Any]]]] = {
        "kills": (10, kills),
        "stops": (10, stops),
        "stops_trusting": (10, lambda market: stops(market, trusting=True)),
        "moves": (10, moves),
        "moves_500": (500, moves),
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measure", nargs="*", help=", ".join(measures))
    chosen = parser.parse_args().measure or list(measures)
    results: dict[str, Any] = {}
    for name in chosen:
        symbols, measure = measures[name]
        with (
            tempfile.TemporaryDirectory(prefix="mm-bench-") as folder,
            bench_database(Path(folder)) as database,
            node_market(database, symbols) as market,
        ):
            results[name] = measure(market)
            print(name, json.dumps(results[name]), file=sys.stderr)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    import os

    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mmproject.settings")
    django.setup()
    main()
