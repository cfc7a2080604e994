"""Is anything lost that a client was told? `python -m tests.bench.acknowledged --seconds 30 --kill-postmaster-at 10`.

A whole system under orders over HTTP from several clients. Each answer is written to a file, with fsync, before it
counts; an order whose answer did not come is asked about and sent again under its id. Meanwhile processes are killed
with SIGKILL (`--kill beat@5` any of them, any number of times). At the end `manage.py verify` compares the file with
the database. Prints one JSON document; exit 1 when anything was lost, doubled, or not quoted again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from chaos.load import REQUEST_TIMEOUT_S, SETTLE_TIMEOUT_S, Client, Record, Sent
from tests.support import System, eventually, running_system

QUOTED_TIMEOUT_S = 30.0
UNDER_WAY = 20  # answers
REPEATED = 50  # answers of before the kill that are asked for again after it
VERIFY_TIMEOUT_S = 300

# Per enabled symbol: the commit of its first quote by an incarnation that registered after the given moment.
QUOTED_AGAIN = """
    SELECT q.symbol,
           (SELECT extract(epoch FROM min(pg_xact_commit_timestamp(v.xmin)))::float8
              FROM exchange_quoteversion v JOIN authority_incarnation i ON i.id = v.incarnation
             WHERE v.symbol = q.symbol AND v.withdrawn_reason IS NULL AND i.registered_at > to_timestamp(%(at)s))
      FROM exchange_quote q WHERE q.quoting_enabled
"""
RESTARTED = """
    SELECT extract(epoch FROM pg_postmaster_start_time())::float8 - %(at)s::float8,
           extract(epoch FROM (SELECT min(registered_at) FROM authority_incarnation
                                WHERE registered_at > to_timestamp(%(at)s)))::float8 - %(at)s::float8
"""
UNQUOTED = """
    SELECT count(*) FROM exchange_quote
     WHERE quoting_enabled AND NOT coalesce(valid_until > clock_timestamp(), false)
"""


@dataclass
class Kill:
    """SIGKILL of a program, so many seconds after the load is under way."""

    program: str
    at_s: float
    killed_at: float = 0.0  # Unix time


def quoted_again(system: System, kill: Kill) -> dict[str, float]:
    """Seconds from the kill of PostgreSQL to each enabled symbol's first quote by an incarnation of afterwards."""

    def all_quoted() -> dict[str, float]:
        with system.connect("console") as connection:
            rows: dict[str, float] = dict(connection.execute(QUOTED_AGAIN, {"at": kill.killed_at}).fetchall())
            live = connection.execute(UNQUOTED).fetchone() == (0,)
        return rows if rows and None not in rows.values() and live else {}

    def answered() -> dict[str, float]:
        try:
            return all_quoted()
        except psycopg.OperationalError:
            return {}  # still down

    found = eventually(answered, QUOTED_TIMEOUT_S, "every enabled symbol is quoted again", interval_s=0.1)
    return {symbol: at - kill.killed_at for symbol, at in found.items()}


def repeated_alike(system: System, sent: list[Sent]) -> list[str]:
    """Send these orders again; what is answered otherwise than the first time, in words."""
    wrong = []
    with system.client() as http:
        for one in sent:
            again = http.post("/api/v1/orders", json=one.order)
            if again.status_code != 200 or again.json() != one.answer:
                wrong.append(f"first answered {one.answer}, and again {again.status_code} {again.text}")
    return wrong


def run(system: System, path: Path, seconds: float, kills: list[Kill], clients: int = 4) -> dict[str, Any]:
    """Load the running system for `seconds`, with these kills meanwhile; what came of it. It is left running."""
    with system.connect("console") as connection:

        def quoted() -> bool:
            return connection.execute(UNQUOTED).fetchone() == (0,)

        eventually(quoted, 30, "all symbols are quoted at the start")
    record, stop = Record(path), threading.Event()
    threads = [Client(number, system.client(), record, stop, f"ack{time.time_ns()}") for number in range(clients)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: record.acknowledged >= UNDER_WAY, 30, "the load is under way")
        under_way = time.monotonic()
        for kill in sorted(kills, key=lambda kill: kill.at_s):
            time.sleep(max(0.0, under_way + kill.at_s - time.monotonic()))
            pid = system.pid(kill.program)
            kill.killed_at = time.time()
            os.kill(pid, signal.SIGKILL)
        time.sleep(max(0.0, under_way + seconds - time.monotonic()))
        requoted = [quoted_again(system, kill) for kill in kills if kill.program == "postgres"]
    finally:
        stop.set()
        for thread in threads:
            thread.join(SETTLE_TIMEOUT_S + 2 * REQUEST_TIMEOUT_S)
        record.close()
    took_s = time.monotonic() - began
    again = [span(one) for one in requoted]
    if again:
        again[-1] |= restarted(system, max(kill.killed_at for kill in kills if kill.program == "postgres"))
    return {**figures(system, record, threads, kills, took_s), "quoted_again_after": again}


def restarted(system: System, killed_at: float) -> dict[str, float]:
    """Seconds from the last kill of PostgreSQL to its new start, and to the first node that registered on it."""
    with system.connect("console") as connection:
        row = connection.execute(RESTARTED, {"at": killed_at}).fetchone()
    assert row is not None
    return {"server_started_s": round(row[0], 2), "first_node_registered_s": round(row[1], 2)}


def span(seconds: dict[str, float]) -> dict[str, float | int]:
    """Symbols, and the first and the last one's time."""
    return {
        "symbols": len(seconds),
        "first_s": round(min(seconds.values()), 2),
        "last_s": round(max(seconds.values()), 2),
    }


def figures(system: System, record: Record, clients: list[Client], kills: list[Kill], took_s: float) -> dict[str, Any]:
    """What the clients saw, and what `verify` says of it."""
    sent = sorted((one for client in clients for one in client.sent), key=lambda one: one.at)
    first_kill = min((kill.killed_at for kill in kills), default=0.0)
    before = [one for one in sent if one.at < first_kill]
    wrong = [text for client in clients for text in client.tally.wrong]
    wrong += repeated_alike(system, before[-REPEATED:])
    verified = system.manage("verify", "--acknowledged", str(record.path), "--json", timeout_s=VERIFY_TIMEOUT_S)
    report: dict[str, Any] = {"ok": False, "invariants": []}
    if verified.stdout:
        report = json.loads(verified.stdout)
    return {
        "clients": len(clients),
        "seconds": round(took_s, 1),
        "kills": {f"{kill.program}@{kill.at_s:g}": round(kill.killed_at, 3) for kill in kills},
        "acknowledged": record.acknowledged,
        "orders_per_s": round(len(sent) / took_s, 1),
        "fills": sum(len(one.answer["fills"]) for one in sent),
        "acknowledged_before_first_kill": len(before),
        "outcome_unknown_at_first": sum(client.tally.unknown for client in clients),
        "of_those_had_happened": sum(client.tally.unknown_happened for client in clients),
        "longest_wait_s": round(max(client.tally.longest_wait_s for client in clients), 2),
        "wrong": wrong,
        "verify_ok": report["ok"],
        "verify_exit": verified.returncode,
        "verify_said": verified.stderr.strip(),
        "broken": [one for one in report["invariants"] if not one["ok"]],
    }


def parsed_kill(text: str) -> Kill:
    """PROGRAM@SECONDS."""
    program, _, at_s = text.partition("@")
    return Kill(program, float(at_s))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--kill-postmaster-at", type=float, action="append", default=[], metavar="SECONDS")
    parser.add_argument("--kill", type=parsed_kill, action="append", default=[], metavar="PROGRAM@SECONDS")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--symbols", type=int, default=10)
    parser.add_argument("--record", type=Path, help="the file of acknowledgements; kept")
    options = parser.parse_args()
    kills = [*options.kill, *(Kill("postgres", at_s) for at_s in options.kill_postmaster_at)]
    with (
        tempfile.TemporaryDirectory(prefix="mm-bench-") as folder,
        running_system(nodes=options.nodes, symbols=options.symbols) as system,
    ):
        path = options.record or Path(folder) / "acknowledged.jsonl"
        result = run(system, path, options.seconds, kills, options.clients)
    print(json.dumps(result, indent=1))
    if result["wrong"] or not result["verify_ok"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
