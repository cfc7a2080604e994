"""Orders per second beside pgbench's TPC-B: `python -m tests.bench.orders [--clients 8 32] [--rounds 5] [--seconds 5]`.

Both on one server with the settings of production (fsync and synchronous_commit on), driven by the same pgbench with
as many clients, in turn within each round; the ratio is taken per round. Each order is one call of
exchange_submit_order_v2 that crosses a deep quote, so that it fills: order, fill, position, quote. Afterwards every
invariant is verified on that database. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from psycopg import sql

from mmproject import provision
from mmproject.postgres import Cluster
from tests.bench.nodes import bench_database
from tests.support import Connection, Database, drop_database

THREADS = 2
DEEP = 1_000_000_000  # lots on each side: more than any run can fill
DAY_MS = 86_400_000
MODES = ("prepared", "simple")

# Ids are random, as clients' are: they fall all over the index.
ORDER = """
\\set symbol random(1, {symbols})
\\set id random(1, 1000000000000000)
\\set buys random(0, 1)
\\if :buys
SELECT exchange_submit_order_v2('b' || :id, 'S' || :symbol, 'buy', 'limit', 'IOC', 100.10, 1);
\\else
SELECT exchange_submit_order_v2('b' || :id, 'S' || :symbol, 'sell', 'limit', 'IOC', 99.90, 1);
\\endif
"""


def seed(connection: Connection, symbols: int) -> str:
    """Symbols with deep quotes by one node, whose session is `connection`; returns its incarnation."""
    listed = [
        {
            "name": f"S{number}",
            "tick_size": "0.01",
            "lot_size": "1",
            "seed_price": "100",
            "volatility_bps": 5,
            "half_spread_ticks": 5,
            "skew_ticks": 5,
            "quote_size": "100",
            "position_limit": str(1000 * DEEP),
            "orders_per_step": 1,
        }
        for number in range(1, symbols + 1)
    ]
    names = [one["name"] for one in listed]
    connection.execute("SELECT exchange_add_symbols_v1(%s)", [json.dumps(listed)])
    row = connection.execute("SELECT incarnation FROM authority_register_v1('bench', %s)", [DAY_MS]).fetchone()
    assert row is not None
    incarnation: str = row[0]
    connection.execute(
        "SELECT authority_apply_assignment_v1(0, ARRAY['bench'], %s::text[], %s::text[], 'bench', 'bench')",
        [names, ["bench"] * symbols],
    )
    connection.execute("SELECT count(*) FROM authority_acquire_v1(%s, %s::text[])", [incarnation, names])
    epochs = connection.execute("SELECT array_agg(epoch ORDER BY symbol) FROM authority_lease").fetchone()
    assert epochs is not None
    outcomes = connection.execute(
        "SELECT outcome, count(*) FROM authority_replace_quotes_v2("
        "%s, %s::text[], %s::bigint[], %s::numeric[], %s::numeric[], %s::numeric[], %s::numeric[], %s) GROUP BY 1",
        [incarnation, names, epochs[0], *([number] * symbols for number in (99.95, DEEP, 100.05, DEEP)), DAY_MS],
    ).fetchall()
    assert outcomes == [("accepted", symbols)], outcomes
    return incarnation


class PgBench:
    """pgbench against one server, as the user and password of the URLs given."""

    def __init__(self) -> None:
        self.program = Cluster(Path(), 0, "").bin / "pgbench"
        self.version = subprocess.run([self.program, "-V"], capture_output=True, text=True, check=True).stdout.strip()

    def _run(self, url: str, *options: str) -> str:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.username
        where = ["-h", parts.hostname, "-p", str(parts.port or 5432), "-U", parts.username]
        done = subprocess.run(
            [self.program, *where, *options, provision.database_name(url)],
            env={**os.environ, "PGPASSWORD": unquote(parts.password or "")},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"pgbench failed: {done.stderr.strip()}")
        return done.stdout

    def make(self, url: str, scale: int) -> None:
        """The tables of TPC-B."""
        self._run(url, "-i", "-q", "-s", str(scale))

    def per_second(self, url: str, clients: int, mode: str, seconds: int, script: Path | None = None) -> float:
        """Transactions a second: of the script, or of the built-in TPC-B."""
        what = ["-f", str(script)] if script else ["-b", "tpcb-like"]
        said = self._run(url, "-n", "-c", str(clients), "-j", str(THREADS), "-T", str(seconds), "-M", mode, *what)
        failed = re.search(r"number of failed transactions: (\d+)", said)
        assert failed is None or failed[1] == "0", said
        found = re.search(r"tps = ([0-9.]+)", said)
        assert found, said
        return float(found[1])


@contextmanager
def tpcb_database(database: Database, bench: PgBench, scale: int) -> Iterator[str]:
    """A database of TPC-B on the same server."""
    name = f"{database.name}_tpcb"
    url = provision.with_database(database.url(), name)
    with provision.connect(provision.with_database(url, "postgres")) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        bench.make(url, scale)
        yield url
    finally:
        drop_database(database.url(), name)


def spread(values: list[float], digits: int = 0) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), digits),
        "lowest": round(min(values), digits),
        "highest": round(max(values), digits),
    }


def compare(
    bench: PgBench, tpcb: str, orders: str, script: Path, *, clients: int, mode: str, rounds: int, seconds: int
) -> dict[str, Any]:
    """One kind of load, in turn: TPC-B first in even rounds, orders first in odd ones."""
    figures: dict[str, list[float]] = {"tpcb": [], "orders": []}
    for number in range(rounds):
        for what in ("tpcb", "orders") if number % 2 == 0 else ("orders", "tpcb"):
            url, its_script = (tpcb, None) if what == "tpcb" else (orders, script)
            figures[what].append(bench.per_second(url, clients, mode, seconds, its_script))
    ratios = [ours / theirs for ours, theirs in zip(figures["orders"], figures["tpcb"], strict=True)]
    return {
        "clients": clients,
        "mode": mode,
        "tpcb_per_s": spread(figures["tpcb"]),
        "orders_per_s": spread(figures["orders"]),
        "ratio": spread(ratios, 2),
    }


SETTINGS = "SELECT name, setting FROM pg_settings WHERE name = ANY (%s) ORDER BY name"
NAMED = ["fsync", "full_page_writes", "server_version", "shared_buffers", "synchronous_commit", "wal_sync_method"]


def measure(database: Database, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All the loads; then everything that the orders left is verified."""
    from mmproject.verify import verify  # needs Django's apps to be ready

    bench, script = PgBench(), folder / "order.sql"
    script.write_text(ORDER.format(symbols=options.symbols))
    with database.connect() as session, tpcb_database(database, bench, options.scale) as tpcb:
        incarnation = seed(session, options.symbols)
        settings: dict[str, str] = dict(session.execute(SETTINGS, [NAMED]).fetchall())
        assert (settings["fsync"], settings["synchronous_commit"]) == ("on", "on"), settings
        results = []
        for clients in options.clients:
            for mode in options.modes:
                result = compare(
                    bench, tpcb, database.url(options.role), script,
                    clients=clients, mode=mode, rounds=options.rounds, seconds=options.seconds,
                )  # fmt: skip
                results.append(result)
                print(json.dumps(result), file=sys.stderr)
        unfilled = session.execute("SELECT count(*) FROM exchange_order WHERE status <> 'filled'").fetchone()
        session.execute("SELECT authority_leave_v1(%s)", [incarnation])
        report = verify(session)
        orders = session.execute("SELECT count(*) FROM exchange_order").fetchone()
    return {
        "pgbench": bench.version,
        "settings": settings,
        "role": options.role,
        "scale": options.scale,
        "symbols": options.symbols,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "results": results,
        "orders": orders and orders[0],
        "orders_not_filled": unfilled and unfilled[0],
        "broken": report.broken,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each side in each round")
    parser.add_argument("--symbols", type=int, default=100)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--role", choices=("console", "exchange", "admin"), default="console", help="who sends orders")
    parser.add_argument("--scale", type=int, default=20, help="of TPC-B")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mm-bench-") as name:
        folder = Path(name)
        with bench_database(folder) as database:
            result = measure(database, options, folder)
    print(json.dumps(result, indent=1))
    if result["broken"] or result["orders_not_filled"]:
        sys.exit(1)


if __name__ == "__main__":
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mmproject.settings")
    django.setup()
    main()
