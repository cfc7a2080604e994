"""What a lost node costs: from its end to the commit of the last first quote of its symbols under the next epoch.

Real nodes in processes of their own, with the default times to live. All moments are the database's: its clock just
before the kill, and its commit timestamps. The node that is killed holds every symbol; two survivors share them.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any, Final

from bench import floor
from bench.figures import Floor, Goal, Measurement, summary_ms
from bench.nodes import Market, node_market
from bench.run import Run
from bench.scaffold import POLL_S, eventually

GOAL_MS: Final = 1000.0  # for 1,000 symbols
NODES: Final = 3
STOPPED_SYMBOLS: Final = 10
STOPPED_ROUNDS: Final = 3  # each waits for a lease to expire
FIRST_QUOTES_TIMEOUT_S: Final = 60.0
POLL_S_PER_SYMBOL: Final = 50e-6

# Per symbol: when the first quote under an epoch above the given one committed.
FIRST_QUOTES: Final = """
    SELECT q.symbol, extract(epoch FROM min(pg_xact_commit_timestamp(q.xmin)))::float8
      FROM exchange_quoteversion q JOIN unnest(%s::text[], %s::bigint[]) AS old (symbol, epoch) ON old.symbol = q.symbol
     WHERE q.epoch > old.epoch AND q.withdrawn_reason IS NULL
     GROUP BY q.symbol
"""
STALE_WRITES: Final = """
    SELECT count(*) FROM exchange_quoteversion q JOIN authority_tenure n ON n.symbol = q.symbol AND n.epoch > q.epoch
     WHERE q.withdrawn_reason IS NULL
       AND pg_xact_commit_timestamp(q.xmin) > pg_xact_commit_timestamp(n.xid::xid)
"""
_NOW: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"
# Cheap to ask often, with 10,000 symbols too: what has no quote under a later epoch yet.
_UNQUOTED: Final = """
    SELECT count(*) FROM exchange_quote q JOIN unnest(%s::text[], %s::bigint[]) AS old (symbol, epoch) USING (symbol)
     WHERE q.quote_epoch IS NULL OR q.quote_epoch <= old.epoch
"""
_ASSIGN_ALL: Final = """
    SELECT authority_apply_assignment_v2(
        (SELECT max(generation) FROM authority_rebalance),
        ARRAY(SELECT node FROM authority_member ORDER BY node COLLATE "C"),
        ARRAY(SELECT name FROM exchange_symbol ORDER BY name),
        array_fill(%s::text, ARRAY[(SELECT count(*)::integer FROM exchange_symbol)]), 'bench', 'all to one node')
"""
_HELD: Final = """
    SELECT count(*) FROM exchange_quote q JOIN authority_lease_in_force l USING (symbol)
     WHERE l.node = %s AND q.quote_epoch = l.epoch AND q.quote_node = l.node
"""


def held_by(market: Market, node: str) -> dict[str, int]:
    """Symbol and epoch of what a node holds."""
    return dict(market.rows("SELECT symbol, epoch FROM authority_lease_in_force WHERE node = %s", node))


def first_quotes(market: Market, held: dict[str, int], timeout_s: float = 20) -> dict[str, float]:
    """When each of these symbols was first quoted under a later epoch, as Unix timestamps; waits for all of them."""
    symbols, epochs = list(held), list(held.values())

    def quoted() -> bool:
        return bool(market.value(_UNQUOTED, symbols, epochs) == 0)

    # Asking reads all of them, on the cores that the nodes work on. When they were quoted is read afterwards.
    interval_s = max(POLL_S, len(held) * POLL_S_PER_SYMBOL)
    eventually(quoted, timeout_s, f"{len(held)} symbols quoted under a later epoch", interval_s=interval_s)
    return dict(market.rows(FIRST_QUOTES, symbols, epochs))


def give_all_to(market: Market, node: str, timeout_s: float = 60) -> dict[str, int]:
    """Assign every symbol to one of the nodes, and wait until it holds and quotes them all; symbol and epoch of each.

    The nodes keep to that: an assignment is computed anew only when their membership changes.
    """

    def all_given() -> bool:
        # Refused as stale while the nodes themselves are applying one.
        if market.value("SELECT count(*) FROM authority_assignment WHERE node <> %s", node) > 0:
            market.value(_ASSIGN_ALL, node)
        return bool(market.value(_HELD, node) == market.value("SELECT count(*) FROM exchange_symbol"))

    eventually(all_given, timeout_s, f"{node} holds every symbol", interval_s=0.1)
    return held_by(market, node)


def takeover(run: Run) -> None:
    """kill -9 of a node that holds 10, 1,000 and 10,000 symbols; and SIGSTOP of one, whose leases have to expire."""
    sizes: Sequence[int] = (10, 100) if run.plan.quick else (10, 1_000, 10_000)
    for symbols in sizes:
        with run.database() as database, node_market(database, symbols) as market:
            floor.make(market.admin)
            market.start_all(NODES)
            _kills(run, market, symbols)
            if symbols == STOPPED_SYMBOLS and not run.plan.quick:
                _stops(run, market)


def _kills(run: Run, market: Market, symbols: int) -> None:
    rounds = run.plan.rounds if symbols <= 1_000 else min(run.plan.rounds, 3)
    whole: list[float] = []
    plain: list[float] = []
    per_symbol: list[float] = []
    for number in range(rounds + 1):
        run.say(f"{symbols:,} symbols, kill {number} of {rounds}" if number else f"{symbols:,} symbols, warm-up")
        held = give_all_to(market, "node-1")
        if number == 0:
            floor.make_quotes(market.admin)
        if number % 2 == 0:
            plain.append(_rewrite_ms(run, market))
        killed_at: float = market.value(_NOW)
        market.nodes["node-1"].kill()
        gaps = [at - killed_at for at in first_quotes(market, held, FIRST_QUOTES_TIMEOUT_S).values()]
        if number % 2 == 1:
            plain.append(_rewrite_ms(run, market))
        if number:
            whole.append(max(gaps) * 1000)
            per_symbol += gaps
        market.balanced(NODES - 1)
        market.start("node-1")
        market.balanced(NODES)
    run.add(
        Measurement(
            name=f"{symbols:,} symbols, kill to last first quote",
            unit="ms",
            values=tuple(whole),
            floors=(Floor("UPDATE + INSERT of as many", tuple(plain[1:])),),
            goal=Goal("figure", "at most", GOAL_MS) if symbols == 1_000 else None,
            at={"symbols": symbols, "nodes": NODES},
            detail={f"per_symbol_{key}": value for key, value in summary_ms(per_symbol).items()},
        )
    )


def _rewrite_ms(run: Run, market: Market) -> float:
    """One pair of statements that writes as many quotes and versions, without any right, check or news of it."""
    rewrite = """
        WITH replaced AS (
            UPDATE floor.quote SET version = version + 1, published_at = clock_timestamp() RETURNING *
        )
        INSERT INTO floor.quoteversion (symbol, version, bid_price, bid_quantity, ask_price, ask_quantity, epoch,
                                        incarnation, node, published_at, valid_until, after_sequence,
                                        tick_size, lot_size)
        SELECT symbol, version, bid_price, bid_quantity, ask_price, ask_quantity, quote_epoch,
               quote_incarnation, quote_node, published_at, valid_until, sequence, tick_size, lot_size
          FROM replaced
    """
    return run.seconds_of(lambda: market.admin.execute(rewrite)) * 1000


def _stops(run: Run, market: Market) -> None:
    """SIGSTOP, and SIGCONT once the others have its symbols: how long after its expiry they were granted and quoted."""
    granted: list[float] = []
    quoted: list[float] = []
    for number in range(STOPPED_ROUNDS):
        run.say(f"a node is stopped, {number + 1} of {STOPPED_ROUNDS}")
        node = market.nodes[f"node-{number % NODES + 1}"]
        held = held_by(market, node.name)
        incarnation: Any = market.value(
            "SELECT id FROM authority_incarnation WHERE node = %s AND ended_at IS NULL", node.name
        )
        node.signal(signal.SIGSTOP)
        try:
            first = first_quotes(market, held)
            expired_at: float = market.value(
                "SELECT extract(epoch FROM expires_at)::float8 FROM authority_incarnation WHERE id = %s", incarnation
            )
        finally:
            node.signal(signal.SIGCONT)
        quoted.append((max(first.values()) - expired_at) * 1000)
        grants = market.rows(
            "SELECT extract(epoch FROM t.granted_at)::float8 FROM authority_tenure t"
            " JOIN unnest(%s::text[], %s::bigint[]) AS old (symbol, epoch) ON old.symbol = t.symbol"
            " AND t.epoch = old.epoch + 1",
            list(held),
            list(held.values()),
        )
        granted.append((max(at for (at,) in grants) - expired_at) * 1000)
        market.balanced(NODES)
    at: dict[str, int | str] = {"nodes": NODES}
    stale = {"late writes refused": market.value("SELECT count(*) FROM authority_refusal"),
             "late writes committed": market.value(STALE_WRITES)}  # fmt: skip
    run.add(Measurement(name="stopped: expiry to last grant", unit="ms", values=tuple(granted), at=at))
    run.add(
        Measurement(name="stopped: expiry to last first quote", unit="ms", values=tuple(quoted), at=at, detail=stale)
    )
