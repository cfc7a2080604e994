"""Planned handovers: a node joins, then leaves on purpose, while prices move.

Per symbol, from the end of the old tenure to the next grant, and to the successor's first quote. The old quote stays
live all along; this is how long nobody may replace it. Beside it, the round trip of a bare NOTIFY: the successor
has to be told.
"""

from __future__ import annotations

from typing import Final

from bench.doorbells import notify_ms
from bench.figures import Floor, Goal, Measurement, percentile, summary_ms
from bench.nodes import Market, node_market
from bench.run import Run

SYMBOLS: Final = 500
NODES: Final = 3  # before the one that joins
GOAL_MS: Final = 50.0
NOTIFICATIONS: Final = 100

# Per handover since a moment: from the old tenure's end to the commit of the next grant.
GAPS: Final = """
    SELECT extract(epoch FROM pg_xact_commit_timestamp(n.xid::xid) - t.ended_at)::float8
      FROM authority_tenure t JOIN authority_tenure n ON n.symbol = t.symbol AND n.epoch = t.epoch + 1
     WHERE n.granted_at > %s
"""
# ... and to the commit of the first quote under the next epoch.
GAPS_TO_QUOTE: Final = """
    SELECT extract(epoch FROM q.at - t.ended_at)::float8
      FROM authority_tenure t JOIN authority_tenure n ON n.symbol = t.symbol AND n.epoch = t.epoch + 1
      JOIN LATERAL (SELECT pg_xact_commit_timestamp(v.xmin) AS at FROM exchange_quoteversion v
                     WHERE v.symbol = n.symbol AND v.epoch = n.epoch AND v.withdrawn_reason IS NULL
                     ORDER BY v.version LIMIT 1) q ON true
     WHERE n.granted_at > %s
"""


def handover(run: Run) -> None:
    """Join and leave of a fourth node."""
    symbols = SYMBOLS // 10 if run.plan.quick else SYMBOLS
    with run.database() as database, node_market(database, symbols) as market:
        market.start_all(NODES)
        gaps: dict[tuple[str, str], list[list[float]]] = {}
        moves: dict[str, list[int]] = {"join": [], "leave": []}
        bare: list[float] = []
        for number in range(run.plan.rounds + 1):
            run.say(f"round {number} of {run.plan.rounds}" if number else "warm-up")
            before = [percentile(notify_ms(market.database, NOTIFICATIONS), 0.99)] if number % 2 else []
            for kind in ("join", "leave"):
                since = _move(market, kind)
                if number == 0:
                    continue
                for what, query in (("grant", GAPS), ("first quote", GAPS_TO_QUOTE)):
                    gaps.setdefault((kind, what), []).append([gap for (gap,) in market.rows(query, since)])
                count = "SELECT sum(moves)::int FROM authority_rebalance WHERE at > %s"
                moves[kind].append(market.value(count, since))
            if number:
                bare += before or [percentile(notify_ms(market.database, NOTIFICATIONS), 0.99)]
        for (kind, what), rounds in gaps.items():
            run.add(
                Measurement(
                    name=f"{kind}: end of tenure to {what}, p99",
                    unit="ms",
                    values=tuple(percentile(one, 0.99) * 1000 for one in rounds),
                    floors=(Floor("NOTIFY round trip p99", tuple(bare)),),
                    goal=Goal("figure", "at most", GOAL_MS),
                    at={"symbols": symbols, "nodes": NODES, "quantile": "p99"},
                    detail={
                        **summary_ms([gap for one in rounds for gap in one]),
                        "symbols moved": moves[kind],
                        **({"fewest possible": symbols // (NODES + 1)} if kind == "join" else {}),
                    },
                )
            )


def _move(market: Market, kind: str) -> object:
    """One node joins or leaves, while every price moves; returns the database's time just before."""
    market.advance()
    since: object = market.value("SELECT clock_timestamp()")
    name = f"node-{NODES + 1}"
    if kind == "join":
        market.start(name)
        market.balanced(NODES + 1)
    else:
        market.nodes[name].stop()
        market.balanced(NODES)
    return since
