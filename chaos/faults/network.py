"""Networks cut, slowed and reset, writes that arrive late, doorbells lost and forged."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Final

import psycopg

from chaos.occasion import Occasion
from chaos.proxy import Direction, Moment

LOST_S: Final = 10.0  # of TTL 3 s: far more than it takes
SETTLED_S: Final = 0.5  # sessions that were ended are gone by then


def partition_both(it: Occasion) -> None:
    line = it.arena.lines[it.node or ""]
    it.cut_short = not it.symbols
    line.close_way("up", "down")
    try:
        it.wait()
    finally:
        line.open_way("up", "down")


def partition_one_way(it: Occasion) -> None:
    line = it.arena.lines[it.node or ""]
    ways: list[Direction] = ["up", "down"]
    way = it.dice.choice(ways)
    line.close_way(way)
    it.details["closed"] = way
    it.cut_short = not it.symbols
    try:
        it.wait()
    finally:
        line.open_way(way)


def late_write(it: Occasion) -> None:
    """A quote is on its way when the network stops, and arrives when others have long taken over: it is refused."""
    line = it.arena.lines[it.node or ""]
    refused = "SELECT count(*) FROM authority_refusal WHERE node = %s"
    # A fault just before may have ended its sessions: what is held then would arrive nowhere. So it has to quote anew.
    quotes = (
        "SELECT 1 FROM exchange_quote q JOIN authority_lease_in_force l ON l.symbol = q.symbol"
        " WHERE l.node = %s AND q.quote_incarnation = l.incarnation AND q.published_at > to_timestamp(%s) LIMIT 1"
    )
    it.eventually(lambda: it.rows(quotes, it.node, it.began_at + SETTLED_S), f"{it.node} quotes")
    before = it.rows(refused, it.node)[0][0]
    alive = "SELECT id FROM authority_incarnation WHERE node = %s AND ended_at IS NULL"
    hold = line.hold(b"authority_replace_quotes")
    try:
        it.details["held"] = hold.held.wait(5)
        line.close_way("down")
        it.hit_at = time.time()
        writer = it.rows(alive, it.node)
        it.wait()
        # Its renewals went on arriving until it missed their answers, so the lease may outlast that.
        it.eventually(lambda: not writer or it.rows(alive, it.node) != writer, "its lease is lost", LOST_S)
    finally:
        line.open_way("down")
        line.release()
    it.cut_short = not it.details["held"]
    if it.details["held"] and not it.stop.is_set():
        it.eventually(lambda: it.rows(refused, it.node)[0][0] > before, "the late write is refused, and recorded")


def partition_network(it: Occasion) -> None:
    """The cable of the node that has a network of its own."""
    assert it.arena.namespace is not None
    it.cut_short = not it.symbols
    it.arena.namespace.unplug()
    try:
        it.wait()
    finally:
        it.arena.namespace.plug()


def slow_network(it: Occasion) -> None:
    line = it.arena.lines[it.dice.choice(["daphne", "worker", *it.arena.nodes])]
    latency_s, bytes_per_s = it.dice.uniform(0.02, 0.15), it.dice.choice([0.0, 200_000.0])

    line.slow(latency_s, bytes_per_s)
    it.details |= {"line": line.name, "latency_ms": round(latency_s * 1000), "bytes_per_s": bytes_per_s}
    try:
        it.wait()
    finally:
        line.slow(0, 0)


PATTERNS: Final = {"daphne": [b"exchange_place_order"], "worker": [b"exchange_place_orders", b"exchange_advance_clock"]}
NODES_PATTERNS: Final = [b"authority_replace_quotes", b"authority_replace_quotes", b"authority_renew", b""]


def reset_around_commit(it: Occasion) -> None:
    """Connections reset just before, while and just after orders commit, and in the middle of nodes' statements."""
    end, cuts = time.monotonic() + it.seconds, 0
    try:
        while time.monotonic() < end and not it.stop.is_set():
            name = it.dice.choice(["daphne", "daphne", "worker", *it.arena.nodes])
            moment: Moment = it.dice.choice(["before", "after_request", "after_answer"])
            pattern = it.dice.choice(PATTERNS.get(name, NODES_PATTERNS))
            cut = it.arena.lines[name].cut(pattern, moment)
            cuts += cut.done.wait(1.0)
            it.arena.lines[name].uncut()
            it.wait(0.2)
    finally:
        for line in it.arena.lines.values():
            line.uncut()
    it.details["cuts"] = cuts
    it.cut_short = not cuts  # all that could be cut was down


def listeners_lost(it: Occasion) -> None:
    """Listening sessions are ended again and again, and doorbells forged: unknown symbols, nonsense, and very many."""
    end, ended, forged = time.monotonic() + it.seconds, 0, 0
    listening = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name IN ('mm-node ' || %s, 'mm console stream')"
    )
    while time.monotonic() < end and not it.stop.is_set():
        with suppress(psycopg.Error):
            ended += it.rows(listening, it.dice.choice(it.arena.nodes))[0][0]
            for channel in ("mm_market", "mm_authority"):
                for payload in ("", "NOSUCH", ",,,", "\u2603" * 500, "x" * 7000, "'; DROP TABLE ledger_fill; --"):
                    it.rows("SELECT pg_notify(%s, %s)", channel, payload)
                    forged += 1
            it.rows("SELECT count(pg_notify('mm_market', n::text)) FROM generate_series(1, 200) n")
        it.wait(1.0)
    it.details |= {"listeners_ended": ended, "forged": forged}
    it.cut_short = not (ended and forged)
