"""What operators do, and what nobody should send."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Final

import httpx
import psycopg

from chaos.faults.work import QUEUE
from chaos.occasion import BACK_S, Occasion


def daphne_killed_in_toggle(it: Occasion) -> None:
    """Killed a few milliseconds after an operator's command was sent: it happened with its audit, or not at all."""
    symbol, killed = it.symbol(), 0
    audit = "SELECT count(*) FROM journal_audit WHERE target = %s AND reason LIKE %s"
    for number in range(3):
        why = f"{number} of {time.time_ns()}"
        with it.arena.client() as http, ThreadPoolExecutor(1) as pool:
            it.eventually(it.arena.is_ready, "the API answers", 2 * BACK_S)
            sent = pool.submit(it.toggle, http, symbol, number % 2 == 1, why)
            time.sleep(it.dice.uniform(0, 0.03))
            killed += it.arena.supervisor["daphne"].signal(signal.SIGKILL)
            answer = sent.result()
        if answer is not None and answer.status_code == 200:
            it.eventually(partial(_is_there, it, audit, symbol, f"%{why}"), "an answered toggle has its audit row")
    it.details |= {"symbol": symbol, "killed": killed}
    it.cut_short = not killed
    quoting_on(it, symbol)


def _is_there(it: Occasion, count: str, *values: str) -> bool:
    return it.rows(count, *values) == [(1,)]


def quoting_on(it: Occasion, symbol: str) -> None:
    """Turn it on again, however long it takes."""

    def on() -> bool:
        with it.arena.client() as http:
            answer = it.toggle(http, symbol, True, "healed")
            return answer is not None and answer.status_code == 200

    it.eventually(on, "quoting is turned on again", 3 * BACK_S)


def kill_switch(it: Occasion) -> None:
    """Turned off and on by an operator while orders come in: I12 is what is at stake."""
    symbol = it.symbol()
    try:
        with it.arena.client() as http:
            answer = it.toggle(http, symbol, False, "the kill switch")
            it.cut_short = answer is None or answer.status_code != 200
        it.wait()
    finally:
        quoting_on(it, symbol)
    it.details["symbol"] = symbol


POISON: Final = (
    b"", b"{", b"[]", b"null", b'"\\ud800"', b"\x00\xff", b'{"client_order_id": 1}', b'{"quantity": NaN}',
    b'{"client_order_id":"p","symbol":"ALFA","side":"buy","type":"limit","time_in_force":"IOC","price":"1e400","quantity":"1"}',
    b'{"client_order_id":"p","symbol":"ALFA","side":"buy","type":"limit","time_in_force":"IOC","price":"-1","quantity":"0"}',
    b"[" * 20_000,
)  # fmt: skip
POISONED_MESSAGES: Final = ("{}", "[]", "null", '{"body": "!!", "headers": {}, "properties": {}}')


def poison(it: Occasion) -> None:
    """Input that nobody should send: to the API, and into the queue."""
    sent = queued = 0
    with it.arena.client() as http:
        for body in POISON:
            for path in ("/api/v1/orders", "/api/v1/quoting", "/api/v1/symbols/%00/quoting"):
                with suppress(httpx.TransportError):
                    answer = http.post(path, content=body, headers={"content-type": "application/json"})
                    if answer.status_code not in (503, 504):  # which say that the database is away
                        sent += 1
                        it.expect(answer.status_code < 500, f"{path} with {body[:60]!r}: {answer.status_code}")
                        it.expect(answer.status_code >= 400, f"{path} took {body[:60]!r}")
    with suppress(psycopg.OperationalError):
        for message in POISONED_MESSAGES:
            with suppress(psycopg.ProgrammingError):  # dropped a moment ago, by another fault
                it.rows(f"SELECT pgmq.send('{QUEUE}', %s::jsonb)", message)
                queued += 1
    it.details |= {"sent": sent, "queued": queued}
    it.cut_short = not (sent and queued)
