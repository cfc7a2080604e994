"""The kill switch under load: `python -m tests.bench.kill_switch [--toggles 50]`.

A whole system with clients that cross one symbol's quote without pause, while that symbol's quoting is turned off and
on over the HTTP API, and a few times by `manage.py quoting`. From the commit of the toggle to the commit of the first
quote after it, both by the database's commit timestamps. Prints one JSON document; exit 1 when a fill or a quote
committed while off.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Any

import httpx

from bench.figures import summary_ms
from tests.support import Connection, System, eventually, running_system

QUOTED_TIMEOUT_S = 10.0
OFF_S = 0.1  # how long the clients knock at the closed door, at least
VERIFY_TIMEOUT_S = 120

# Per "on": seconds from its commit to the commit of the first quote after it. Both hold the quote row's lock.
ON_TO_QUOTE = """
    SELECT extract(epoch FROM (
               SELECT min(pg_xact_commit_timestamp(v.xmin)) FROM exchange_quoteversion v
                WHERE v.symbol = a.target AND v.withdrawn_reason IS NULL
                  AND pg_xact_commit_timestamp(v.xmin) > pg_xact_commit_timestamp(a.xid::xid)
           ) - pg_xact_commit_timestamp(a.xid::xid))::float8
      FROM journal_audit a
     WHERE a.action = 'quoting_on' AND a.target = %(symbol)s AND a.reason = %(reason)s ORDER BY a.id
"""
# Per "off": whether the quote went in that very commit, and what committed before the next "on".
OFF = """
    SELECT EXISTS (SELECT FROM exchange_quoteversion v
                    WHERE v.symbol = off.target AND v.xmin = off.xid::xid
                      AND v.withdrawn_reason = 'quoting_disabled') AS gone_in_that_commit,
           (SELECT count(*) FROM ledger_fill f
             WHERE f.symbol = off.target AND pg_xact_commit_timestamp(f.xid::xid) BETWEEN off.at AND off.until)
               AS fills,
           (SELECT count(*) FROM exchange_quoteversion v
             WHERE v.symbol = off.target AND v.withdrawn_reason IS NULL
               AND pg_xact_commit_timestamp(v.xmin) BETWEEN off.at AND off.until) AS quotes,
           (SELECT count(*) FROM exchange_order o
             WHERE o.symbol = off.target AND pg_xact_commit_timestamp(o.xmin) BETWEEN off.at AND off.until) AS orders,
           (SELECT count(*) FROM ledger_fill f
             WHERE f.symbol = off.target AND pg_xact_commit_timestamp(f.xid::xid)
                   BETWEEN off.at - interval '1 second' AND off.at) AS fills_just_before
      FROM (SELECT target, action, xid, reason, pg_xact_commit_timestamp(xid::xid) AS at,
                   lead(pg_xact_commit_timestamp(xid::xid)) OVER (ORDER BY id) AS until
              FROM journal_audit WHERE target = %(symbol)s) AS off
     WHERE off.action = 'quoting_off' AND off.reason = %(reason)s
"""


class Crosser(threading.Thread):
    """Sends market orders of one lot for one symbol, one after another, until `stop` is set."""

    def __init__(self, system: System, symbol: str, lot: str, number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True, name=f"crosser-{number}")
        self._http = system.client()
        self._symbol, self._lot, self._number, self._stopped = symbol, lot, number, stop
        self.statuses: dict[str, int] = {}
        self.failed: Exception | None = None

    def run(self) -> None:
        try:
            self._send()
        except Exception as error:  # noqa: BLE001
            self.failed = error  # shown by whoever waits for orders to come

    def _send(self) -> None:
        with self._http:
            for number in count():
                if self._stopped.is_set():
                    return
                order = {
                    "client_order_id": f"switch-{self._number}-{number}",
                    "symbol": self._symbol,
                    "side": ("buy", "sell")[(number + self._number) % 2],
                    "type": "market",
                    "time_in_force": "IOC",
                    "quantity": self._lot,
                }
                response = self._http.post("/api/v1/orders", json=order)
                assert response.status_code == 200, (response.status_code, response.text)
                answer = response.json()
                self.statuses[answer["status"]] = self.statuses.get(answer["status"], 0) + 1


def toggled(
    connection: Connection,
    symbol: str,
    times: int,
    reason: str,
    switch: Callable[[bool, str], None],
    crossers: list[Crosser],
) -> dict[str, Any]:
    """Off and on again so many times; what committed meanwhile, and how soon it was quoted again."""
    live = "SELECT valid_until > clock_timestamp() FROM exchange_quote WHERE symbol = %s"
    orders = "SELECT count(*) FROM exchange_order WHERE symbol = %s AND id > %s"

    def is_live() -> bool:
        return connection.execute(live, [symbol]).fetchone() == (True,)

    for _ in range(times):
        eventually(is_live, QUOTED_TIMEOUT_S, f"{symbol} is quoted", interval_s=0.005)
        switch(False, reason)
        newest = connection.execute("SELECT max(id) FROM exchange_order").fetchone()
        assert newest is not None
        off_until = time.monotonic() + OFF_S

        def knocked(newest: Any = newest[0], off_until: float = off_until) -> bool:
            assert not (failed := [crosser.failed for crosser in crossers if crosser.failed]), failed
            row = connection.execute(orders, [symbol, newest]).fetchone()
            return row is not None and row[0] > 0 and time.monotonic() > off_until

        eventually(knocked, QUOTED_TIMEOUT_S, "an order came while it was off")
        switch(True, reason)
    eventually(is_live, QUOTED_TIMEOUT_S, f"{symbol} is quoted")
    asked = {"symbol": symbol, "reason": reason}
    offs = connection.execute(OFF, asked).fetchall()
    return {
        "toggles": len(offs),
        "quote_gone_in_the_same_commit": sum(row[0] for row in offs),
        "fills_while_off": sum(row[1] for row in offs),
        "quotes_while_off": sum(row[2] for row in offs),
        "orders_while_off": sum(row[3] for row in offs),
        "fills_in_the_second_before_each": sum(row[4] for row in offs),
        "on_to_quote": summary_ms([row[0] for row in connection.execute(ON_TO_QUOTE, asked).fetchall()]),
    }


def by_http(system: System, symbol: str, http: httpx.Client) -> Callable[[bool, str], None]:
    def switch(enabled: bool, reason: str) -> None:
        body = {"enabled": enabled, "reason": reason}
        answer = http.post(f"/api/v1/symbols/{symbol}/quoting", json=body).raise_for_status().json()
        assert (answer["before"], answer["after"]) == (not enabled, enabled), answer

    return switch


def by_command(system: System, symbol: str) -> Callable[[bool, str], None]:
    def switch(enabled: bool, reason: str) -> None:
        done = system.manage("quoting", "on" if enabled else "off", symbol, "--reason", reason, "--json")
        assert done.returncode == 0, done.stderr
        told = [{"symbol": symbol, "before": not enabled, "after": enabled}]
        assert json.loads(done.stdout)["symbols"] == told, done.stdout

    return switch


def run(system: System, toggles: int = 50, commands: int = 3, clients: int = 3) -> dict[str, Any]:
    """Both ways of toggling, under load; then `verify`. The system is left running."""
    stop = threading.Event()
    with system.client() as http, system.connect("console") as connection:
        listed = http.get("/api/v1/symbols").raise_for_status().json()["items"]
        symbol, lot = listed[0]["symbol"], listed[0]["lot_size"]
        threads = [Crosser(system, symbol, lot, number, stop) for number in range(clients)]
        for thread in threads:
            thread.start()
        try:
            result = {
                "http": toggled(connection, symbol, toggles, "bench http", by_http(system, symbol, http), threads),
                "command": toggled(connection, symbol, commands, "bench command", by_command(system, symbol), threads),
            }
        finally:
            stop.set()
            for thread in threads:
                thread.join(2 * QUOTED_TIMEOUT_S)
        statuses: dict[str, int] = {}
        for thread in threads:
            for status, number in thread.statuses.items():
                statuses[status] = statuses.get(status, 0) + number
    verified = system.manage("verify", "--json", timeout_s=VERIFY_TIMEOUT_S)
    report = json.loads(verified.stdout) if verified.stdout else {"invariants": []}
    return {
        "orders": statuses,
        **result,
        "verify_exit": verified.returncode,
        "broken": [one for one in report["invariants"] if not one["ok"]],
    }


def kept(result: dict[str, Any]) -> bool:
    """Whether the switch did what it promises, speed apart."""
    ways = [result["http"], result["command"]]
    return result["verify_exit"] == 0 and all(
        way["quote_gone_in_the_same_commit"] == way["toggles"]
        and way["fills_while_off"] == way["quotes_while_off"] == 0
        and way["on_to_quote"]["count"] == way["toggles"]
        for way in ways
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toggles", type=int, default=50, help="over HTTP")
    parser.add_argument("--commands", type=int, default=3, help="by `manage.py quoting`")
    parser.add_argument("--clients", type=int, default=3)
    options = parser.parse_args()
    with running_system(nodes=3, symbols=10) as system:
        result = run(system, options.toggles, options.commands, options.clients)
    print(json.dumps(result, indent=1))
    if not kept(result):
        sys.exit(1)


if __name__ == "__main__":
    main()
