"""From a fill's commit to the commit of the quote that replaces it: `python -m tests.bench.latency [--rate 200]`.

Both moments are the database's commit timestamps. Fills are made one order at a time, each with the doorbell rung after
its commit from another connection, as the exchange's services do. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.bench.figures import summary_ms
from tests.bench.nodes import Market, bench_database, node_market
from tests.support import eventually

IDLE_FILLS = 200
IDLE_PAUSE_S = 0.05
BUSY_S = 10.0
BUSY_CLIENTS = 4

# Per fill: the first quote that was made knowing it.
LATENCIES = """
    SELECT extract(epoch FROM pg_xact_commit_timestamp(n.xmin) - pg_xact_commit_timestamp(f.xmin))::float8
      FROM ledger_fill f
      JOIN LATERAL (SELECT q.xmin FROM exchange_quoteversion q
                     WHERE q.symbol = f.symbol AND q.version > f.quote_version AND q.after_sequence >= f.sequence
                     ORDER BY q.version LIMIT 1) n ON true
     WHERE f.client_order_id LIKE %s
"""

NOT_REQUOTED = """
    SELECT count(*) FROM exchange_quote q
      JOIN exchange_quoteversion v ON v.symbol = q.symbol AND v.version = q.version
     WHERE v.after_sequence < q.sequence
"""


class Client(threading.Thread):
    """Sends crossing orders of one lot to symbols in turn, one every `interval_s`, until told to stop."""

    def __init__(self, market: Market, tag: str, count: int, interval_s: float, symbols: list[str]) -> None:
        super().__init__(daemon=True)
        self._orders = market.database.connect("exchange")
        self._bell = market.database.connect("exchange")
        self._bell.execute("SET synchronous_commit = off")
        self._tag, self._count, self._interval_s, self._symbols = tag, count, interval_s, symbols
        self.fills = 0

    def run(self) -> None:
        next_at = time.monotonic()
        for number in range(self._count):
            symbol = self._symbols[number % len(self._symbols)]
            side, price = ("buy", "1000") if number // len(self._symbols) % 2 else ("sell", "1")
            answer = self._orders.execute(
                "SELECT exchange_submit_order_v2(%s, %s, %s, 'limit', 'IOC', %s, 1)",
                [f"{self._tag}-{number}", symbol, side, price],
            ).fetchone()
            assert answer is not None
            if answer[0].get("fills"):
                self.fills += 1
                self._bell.execute("SELECT pg_notify('mm_market', %s)", [symbol])
            next_at += self._interval_s
            time.sleep(max(0.0, next_at - time.monotonic()))


def latency(market: Market, tag: str, clients: int, count: int, interval_s: float) -> dict[str, Any]:
    """Run that many clients and read what became of their fills."""
    symbols = [row[0] for row in market.rows("SELECT name FROM exchange_symbol ORDER BY name")]
    threads = [Client(market, f"{tag}{n}", count, interval_s, symbols[n:] + symbols[:n]) for n in range(clients)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s = time.monotonic() - began
    fills = sum(thread.fills for thread in threads)

    def requoted() -> bool:
        return bool(market.value(NOT_REQUOTED) == 0)

    eventually(requoted, 10, "every fill is followed by a quote")
    return {
        "fills_per_s": round(fills / took_s, 1),
        **summary_ms([row[0] for row in market.rows(LATENCIES, f"{tag}%")]),
    }


def measure(market: Market, rate: int, nodes: int = 3) -> dict[str, Any]:
    """While idle, and at `rate` fills a second."""
    market.start_all(nodes)
    idle = latency(market, "idle", 1, IDLE_FILLS, IDLE_PAUSE_S)
    busy = latency(market, "busy", BUSY_CLIENTS, int(rate * BUSY_S / BUSY_CLIENTS), BUSY_CLIENTS / rate)
    return {"idle": idle, f"at_{rate}_per_s": busy}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=200, help="fills a second when busy")
    parser.add_argument("--symbols", type=int, default=10)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="mm-bench-") as folder,
        bench_database(Path(folder)) as database,
        node_market(database, options.symbols) as market,
    ):
        print(json.dumps(measure(market, options.rate), indent=1))


if __name__ == "__main__":
    import os

    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mmproject.settings")
    django.setup()
    main()
