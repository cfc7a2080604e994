"""A whole market for half an hour at 70 % of its peak: does anything grow that should not?

Nodes, Celery worker and beat in processes of their own, as `manage.py up` starts them; orders by pgbench at a steady
rate, in windows of some seconds with a sample after each. The verdict compares the medians of the first and the last
third: flat is within the bounds below. Orders, fills and tenures grow by design; they are told per fill.
"""

from __future__ import annotations

import dataclasses
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import psutil

from bench import floor
from bench.figures import Floor, Goal, Measurement, percentile, rounded
from bench.nodes import RUNNODE, Market, node_market
from bench.orders import PEAK_SHARE, order_script
from bench.processes import MIB, family, postgres_of, private_mib, rss_mib
from bench.run import Run
from bench.scaffold import Database, environment
from mmproject import doorbell, provision
from mmproject.conf import Conf
from mmproject.errors import UserError
from mmproject.supervision import programs

MINUTES: Final = 30.0
QUICK_MINUTES: Final = 0.5
SYMBOLS: Final = 100
NODES: Final = 3
CLIENTS: Final = 8
WINDOW_S: Final = 10.0
QUICK_WINDOW_S: Final = 2.0
PEAK_S: Final = 20.0
BELL_S: Final = 0.005  # how soon after its commit a fill is rung for, at most
RETENTION_SHARE: Final = 0.1  # of the whole: retention acts several times
RETENTION_MIN_S: Final = 20.0  # a window's quotes must still be there when it is looked at
PROBED: Final = 3  # symbols whose requotes are looked at
STOP_TIMEOUT_S: Final = 15
TABLE_SHOWN_BYTES: Final = MIB  # smaller ones are not worth a line
# Append-only for ever; what is dropped after a while (exchange_quoteversion) is none of them.
GROWING: Final = (
    "exchange_order", "exchange_trade", "ledger_fill", "authority_tenure", "authority_rebalance", "journal_activity",
)  # fmt: skip

# Flat: the last third's median is at most so many times the first's.
MEMORY_BOUND: Final = 1.1
TABLE_BOUND: Final = 1.25
LATENCY_BOUND: Final = 1.5

# Of each of our tables, with all partitions where it has any: bytes with indexes, and dead rows.
SIZES: Final = """
    SELECT c.relname, sum(pg_total_relation_size(coalesce(t.relid, c.oid)))::bigint,
           coalesce(sum(s.n_dead_tup), 0)::bigint
      FROM pg_class c
      LEFT JOIN LATERAL pg_partition_tree(c.oid) t ON true
      LEFT JOIN pg_stat_user_tables s ON s.relid = coalesce(t.relid, c.oid)
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
       AND c.relname ~ '^(exchange|ledger|authority|journal)_'
     GROUP BY c.relname
"""
SEQUENCES: Final = "SELECT symbol, sequence FROM exchange_quote"
# Per fill of a symbol after one and up to another (ids sort as they came): the first quote that was made knowing it.
REQUOTES: Final = """
    SELECT extract(epoch FROM pg_xact_commit_timestamp(n.xmin) - pg_xact_commit_timestamp(f.xmin))::float8
      FROM ledger_fill f
      JOIN LATERAL (SELECT q.xmin FROM exchange_quoteversion q
                     WHERE q.symbol = f.symbol AND q.version > f.quote_version AND q.after_sequence >= f.sequence
                     ORDER BY q.version LIMIT 1) n ON true
     WHERE f.fill_id > %s AND f.fill_id <= %s
"""


class Bell(threading.Thread):
    """Rings the product's doorbell for the symbols that were filled, as whoever sent the orders would.

    pgbench can't, so the quote rows are read every few milliseconds. Only what has committed is seen.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(daemon=True)
        self._connection = database.connect()
        self._ended = threading.Event()

    def run(self) -> None:
        last: dict[str, int] = {}
        while not self._ended.wait(BELL_S):
            now: dict[str, int] = dict(self._connection.execute(SEQUENCES).fetchall())
            doorbell.ring([symbol for symbol, sequence in now.items() if sequence != last.get(symbol)])
            last = now

    def end(self) -> None:
        self._ended.set()
        self.join()


@contextmanager
def background(settings: Conf, database: Database, folder: Path, **env: str) -> Iterator[dict[str, int]]:
    """Celery's worker and beat on this database, as `manage.py up` runs them; their pids."""
    with provision.connect(database.url()) as admin:
        provision.ensure_broker(admin)
    own = dataclasses.replace(settings, var=folder / "var", nodes=0, database_url="", broker_url="")
    with ExitStack() as stack:
        started = {}
        for program in programs(own, database.urls, cluster=None):
            if program.name not in ("worker", "beat"):
                continue
            output = stack.enter_context((folder / f"{program.name}.log").open("w"))
            process = subprocess.Popen(
                program.command,
                cwd=program.directory,
                env=environment(own.var, **program.environment, **env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            stack.callback(_stop, process)
            started[program.name] = process.pid
        yield started


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Sampler:
    """What is looked at after each window."""

    def __init__(self, market: Market, pids: dict[str, int], postgres: psutil.Process | None) -> None:
        self._market, self._pids, self._postgres = market, pids, postgres
        self._sequences = self._read_sequences()
        self.samples: list[dict[str, Any]] = []

    def _read_sequences(self) -> dict[str, int]:
        return dict(self._market.rows(SEQUENCES))

    def take(self, at_s: float, orders_s: Sequence[float]) -> None:
        """One sample, `at_s` seconds after the start, of a window with these latencies."""
        before, self._sequences = self._sequences, self._read_sequences()
        requotes: list[float] = []
        for symbol in sorted(before)[:PROBED]:
            rows = self._market.rows(
                REQUOTES, fill_id(symbol, before[symbol]), fill_id(symbol, self._sequences[symbol])
            )
            requotes += [row[0] for row in rows]
        memory = {name: rss_mib(pid) for name, pid in self._pids.items()}
        if self._postgres is not None:
            memory["postgres"] = private_mib(family(self._postgres))
        tables = self._market.rows(SIZES)
        self.samples.append(
            {
                "at_s": round(at_s, 1),
                "fills": sum(self._sequences.values()),
                "orders": len(orders_s),
                "order_p99_ms": rounded(percentile(orders_s, 0.99) * 1000) if orders_s else None,
                "requote_p99_ms": rounded(percentile(requotes, 0.99) * 1000) if requotes else None,
                "memory_mib": {name: rounded(value) for name, value in memory.items()},
                "table_bytes": {name: size for name, size, _dead in tables},
                "dead_rows": {name: dead for name, _size, dead in tables if dead},
            }
        )


def fill_id(symbol: str, sequence: int) -> str:
    return f"{symbol}-{sequence:012}"


def soak(run: Run) -> None:
    """The whole market, the load, the samples, the verdict."""
    plan = run.plan
    whole_s = 60 * (plan.minutes or (QUICK_MINUTES if plan.quick else MINUTES))
    retention_s = max(RETENTION_MIN_S, whole_s * RETENTION_SHARE)
    retention = {"MM_QUOTE_RETENTION_MS": str(round(retention_s * 1000))}
    with run.database() as database, node_market(database, SYMBOLS, **retention) as market, ExitStack() as stack:
        floor.make(market.admin)
        pids = stack.enter_context(background(run.settings, database, run.folder, **retention))
        for number in range(1, NODES + 1):
            market.start(f"node-{number}", program=RUNNODE)
        market.balanced(NODES)
        pids |= {name: node.pid for name, node in market.nodes.items()}
        bell = Bell(database)
        bell.start()
        stack.callback(bell.end)
        sampler = Sampler(market, pids, postgres_of(market.admin))
        peak, rate = _load(run, market, sampler, whole_s)
        alive = {name for name, pid in pids.items() if psutil.pid_exists(pid)}
        if alive != set(pids):
            raise UserError(f"ended by themselves: {', '.join(sorted(set(pids) - alive))}")
    run.outcome.samples += sampler.samples
    run.note(f"{whole_s / 60:g} minutes, a peak of {peak:,.0f} orders/s at the start, {rate:,.0f} orders/s since then")
    run.note(f"quotes are kept for {retention_s:g} s; a fill is rung for within {BELL_S * 1000:g} ms of its commit")
    _judge(run, sampler.samples)


def _load(run: Run, market: Market, sampler: Sampler, whole_s: float) -> tuple[float, float]:
    """Find the peak, then window after window at 70 % of it; the peak and the rate, in orders a second."""
    window_s, peak_s = (QUICK_WINDOW_S, QUICK_WINDOW_S) if run.plan.quick else (WINDOW_S, PEAK_S)
    bench, url = run.pgbench(), market.database.url("console")
    names = {"symbol": "'S' || lpad(:symbol::text, 4, '0')", "buy_price": "1000", "sell_price": "1"}
    script = bench.script("soak", order_script(SYMBOLS, **names))
    run.say("finding the peak")
    peak = bench.per_second(url, script, clients=CLIENTS, seconds=peak_s)
    rate = peak * PEAK_SHARE
    began = time.monotonic()
    while (at_s := time.monotonic() - began) < whole_s:
        run.say(f"{at_s / 60:.1f} of {whole_s / 60:g} minutes at {rate:,.0f} orders/s")
        latencies = bench.latencies_s(url, script, clients=CLIENTS, seconds=window_s, rate=rate)
        sampler.take(time.monotonic() - began, latencies)
    return peak, rate


def _judge(run: Run, samples: list[dict[str, Any]]) -> None:
    def compared(name: str, unit: str, values: list[float | None], bound: float | None) -> None:
        first, last = thirds([value for value in values if value is not None])
        run.add(
            Measurement(
                name=f"{name}, last third",
                unit=unit,
                values=(last,),
                floors=(Floor("first third", (first,)),),
                goal=None if bound is None else Goal("ratio", "at most", bound),
                at={"symbols": SYMBOLS, "nodes": NODES},
            )
        )

    for name in samples[0]["memory_mib"]:
        kind = "private memory of all processes" if name == "postgres" else "resident memory"
        compared(f"{name}: {kind}", "MiB", [one["memory_mib"][name] for one in samples], MEMORY_BOUND)
    for name, size in sorted(samples[-1]["table_bytes"].items(), key=lambda item: -item[1]):
        if name not in GROWING and size > TABLE_SHOWN_BYTES:
            sizes = [one["table_bytes"].get(name, 0) / MIB for one in samples]
            compared(f"{name}: size", "MiB", list(sizes), TABLE_BOUND)
    compared("order p99", "ms", [one["order_p99_ms"] for one in samples], LATENCY_BOUND)
    compared("requote p99", "ms", [one["requote_p99_ms"] for one in samples], LATENCY_BOUND)
    fills = samples[-1]["fills"] - samples[0]["fills"]
    if fills > 0:
        grown = {name: samples[-1]["table_bytes"][name] - samples[0]["table_bytes"][name] for name in GROWING}
        run.add(
            Measurement(
                name="growth by design",
                unit="bytes per fill",
                values=(sum(grown.values()) / fills,),
                detail={name: rounded(bytes_ / fills) for name, bytes_ in grown.items()},
            )
        )
    else:
        run.note("no fills between the first sample and the last")


def thirds(values: Sequence[float]) -> tuple[float, float]:
    """The medians of the first and of the last third; at least one value each."""
    third = max(1, len(values) // 3)
    return median(values[:third]), median(values[-third:])
