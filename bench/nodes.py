"""Nodes as real processes against a scratch database: started, killed, stopped, and read by their logs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from bench.scaffold import Connection, Database, NotInTime, environment, eventually
from mmproject.conf import ROOT

STOP_TIMEOUT_S = 10
BARE_NODE = ("-m", "bench.bare_node")
RUNNODE = ("manage.py", "runnode")
START_TIMEOUT_S = 60  # imports on a machine that is busy with other tests
BALANCE_TIMEOUT_S = 30


@dataclass
class Node:
    """One node in a process of its own."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]
    output: IO[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: int) -> float:
        """Send a signal; returns the wall-clock time just before, as a Unix timestamp."""
        at = time.time()
        self.process.send_signal(number)
        return at

    def kill(self) -> float:
        """kill -9, and reap it; returns when."""
        at = self.signal(signal.SIGKILL)
        self.process.wait(STOP_TIMEOUT_S)
        return at

    def stop(self) -> float:
        """Stop it as Ctrl-C does; returns the seconds it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(STOP_TIMEOUT_S)
        return time.monotonic() - began

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """What it has logged, oldest first; only events of that name if one is given."""
        events = []
        for line in self.log.read_text().splitlines():
            if line.startswith("{") and line.endswith("}"):
                event = json.loads(line)
                if name is None or event["event"] == name:
                    events.append(event)
        return events

    def close(self) -> None:
        """End it whatever state it is in."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(STOP_TIMEOUT_S)
        self.output.close()


@dataclass
class Market:
    """A scratch database with symbols and a clock, and the nodes that quote them."""

    database: Database
    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    step: int = 0
    _admin: Connection | None = None
    _count: int = 0

    @property
    def admin(self) -> Connection:
        if self._admin is None or self._admin.closed:
            self._admin = self.database.connect("admin")
        return self._admin

    def rows(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        return self.admin.execute(query, arguments or None).fetchall()

    def value(self, query: str, *arguments: Any) -> Any:
        return self.rows(query, *arguments)[0][0]

    def seed(self, symbols: int, **changes: Any) -> None:
        """Symbols S0001, S0002 ... that differ in name only, and a clock that nobody drives."""
        parameters = {
            "tick_size": "0.01",
            "lot_size": "1",
            "seed_price": "100",
            "volatility_bps": 5,
            "half_spread_ticks": 5,
            "skew_ticks": 5,
            "quote_size": "1000",
            "position_limit": "1000000",
            "orders_per_step": 1,
            **changes,
        }
        listed = [{"name": f"S{number:04}", **parameters} for number in range(1, symbols + 1)]
        self.value("SELECT exchange_add_symbols_v1(%s)", json.dumps(listed))
        self.value("SELECT exchange_start_clock_v1(1, 1000)")

    def start(self, name: str, *, program: tuple[str, ...] = BARE_NODE, **env: str) -> Node:
        """Start a node; it registers when it is up."""
        self._count += 1
        log = self.folder / f"{name}.{self._count}.log"
        output = log.open("wb")
        process = subprocess.Popen(
            [sys.executable, *program, "--name", name],
            cwd=ROOT,
            env=environment(
                self.folder, **{"DATABASE_URL": self.database.url("node"), "MM_PROCESS": name, **self.env, **env}
            ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        self.nodes[name] = Node(name, log, process, output)
        return self.nodes[name]

    def start_all(self, count: int) -> list[Node]:
        """node-1 ... node-count, all of them quoting their share."""
        nodes = [self.start(f"node-{number}") for number in range(1, count + 1)]
        self.balanced(count)
        return nodes

    def balanced(self, count: int, timeout_s: float = BALANCE_TIMEOUT_S) -> None:
        """Wait until `count` nodes hold all symbols evenly and every live quote is the holder's own."""

        def is_balanced() -> bool:
            loads = [row[0] for row in self.rows("SELECT count(*) FROM authority_lease_in_force GROUP BY node")]
            unquoted = self.value(
                "SELECT count(*) FROM exchange_quote WHERE holder IS NULL OR quote_epoch IS DISTINCT FROM epoch"
            )
            return len(loads) == count and max(loads) - min(loads) <= 1 and unquoted == 0

        eventually(is_balanced, timeout_s + START_TIMEOUT_S, f"{count} nodes quote all symbols", interval_s=0.05)

    def holder(self, symbol: str) -> str | None:
        rows = self.rows("SELECT node FROM authority_lease_in_force WHERE symbol = %s", symbol)
        return rows[0][0] if rows else None

    def advance(self, change: str = "0.01") -> None:
        """One step of the clock: every reference price moves by `change`."""
        self.rows("UPDATE exchange_clock SET due_at = clock_timestamp() RETURNING step")
        symbols = self.rows("SELECT array_agg(symbol), array_agg(price + %s::numeric) FROM exchange_price", change)[0]
        self.step = self.value("SELECT step + 1 FROM exchange_clock")
        assert self.value("SELECT exchange_advance_clock_v1(%s, %s, %s)", self.step, *symbols) == self.step

    def ring(self, hint: str = "") -> None:
        self.value("SELECT pg_notify('mm_market', %s)", hint)

    def complaints(self) -> str:
        """What each node last warned of, for whoever waits for it in vain."""
        said = []
        for node in self.nodes.values():
            warnings = [event for event in node.events() if event.get("level") in ("warning", "error", "critical")]
            if warnings:
                last = warnings[-1]
                said.append(f"{node.name}: {last['event']} {last.get('error', '')} ({len(warnings)} warnings)")
        return "; ".join(said) or "no node has warned of anything"

    def close(self) -> None:
        for node in self.nodes.values():
            node.close()


@contextmanager
def node_market(database: Database, symbols: int, **env: str) -> Iterator[Market]:
    """A market of that many symbols in a scratch database; its nodes are gone at the end."""
    with tempfile.TemporaryDirectory(prefix="mm-nodes-", ignore_cleanup_errors=True) as folder:
        market = Market(database, Path(folder), dict(env))
        market.seed(symbols)
        try:
            yield market
        except NotInTime as error:
            raise NotInTime(f"{error}; {market.complaints()}") from error
        finally:
            market.close()
