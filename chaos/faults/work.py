"""Orders, fills and tasks: many at once, several times, out of order, and lost."""

from __future__ import annotations

import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

import httpx
import psycopg

from chaos.load import Client, Terms, terms_of
from chaos.occasion import BACK_S, Occasion

QUEUE: Final = "mm_tasks"
SAME: Final = 50


def _terms(it: Occasion, symbol: str) -> list[Terms]:
    """The symbol's, as the API tells them once it answers."""
    found: list[Terms] = []

    def asked() -> bool:
        with it.arena.client() as http, suppress(httpx.HTTPStatusError):
            found[:] = [one for one in terms_of(http) if one.symbol == symbol]
        return bool(found)

    it.eventually(asked, "the API answers", 3 * BACK_S)
    return found


def hot_symbol(it: Occasion) -> None:
    """32 clients send orders for one symbol as fast as they can."""
    symbol = it.symbol()
    enough = threading.Event()
    clients = []
    terms = _terms(it, symbol)
    for number in range(32):
        tag = f"hot{it.seed}-{time.time_ns()}"
        clients.append(Client(number, it.arena.client(), it.record, enough, tag, terms=terms, history=it.history))
    for client in clients:
        client.start()
    it.wait()
    enough.set()
    for client in clients:
        client.join(120)
    it.details |= {"symbol": symbol, "orders": sum(len(client.sent) for client in clients)}
    wrong = [text for client in clients for text in client.tally.wrong]
    it.expect(not wrong, f"orders for a hot symbol: {wrong[:3]}")
    it.expect(not any(client.is_alive() for client in clients), "every client ended")
    it.cut_short = not it.details["orders"]


def same_order(it: Occasion) -> None:
    """One order is sent 50 times at once: one effect, one answer."""
    symbol = it.symbol()
    side, lot = it.dice.choice(["buy", "sell"]), format(_terms(it, symbol)[0].lot, "f")
    with it.arena.client() as http:
        order = {
            "client_order_id": f"same{it.seed}-{time.time_ns()}", "symbol": symbol, "side": side,
            "type": "market", "time_in_force": "IOC", "quantity": lot,
        }  # fmt: skip

        def send(_number: int) -> dict[str, Any] | None:
            deadline = time.monotonic() + BACK_S
            while time.monotonic() < deadline:
                answer = it.order(http, order)
                if answer is not None and answer.status_code == 200:
                    found: dict[str, Any] = answer.json()
                    return found
                it.expect(answer is None or answer.status_code >= 500, f"answered {answer and answer.text[:200]}")
                time.sleep(0.1)
            return None

        with ThreadPoolExecutor(SAME) as pool:
            answers = [one for one in pool.map(send, range(SAME)) if one is not None]
    it.details |= {"answers": len(answers)}
    it.expect(answers, "the order was answered")
    it.expect(all(one == answers[0] for one in answers), f"one answer for all: {answers[:2]}")
    it.acknowledge(order, answers[0])
    it.cut_short = len(answers) < SAME


FILL: Final = """
    SELECT ledger_record_fill_v2(symbol, sequence, side, price, quantity + %s * lot_size, client_order_id,
                                 quote_version, epoch, incarnation, node, tick_size, lot_size)
      FROM ledger_fill ORDER BY {} LIMIT 20
"""


def fills_twice(it: Occasion) -> None:
    """Fills that are recorded are handed to the ledger again, in other orders, and then with other contents."""
    again = []
    for order in ("fill_id", "fill_id DESC", "md5(fill_id)", "quantity, fill_id"):
        again += [row[0] for row in it.rows(FILL.format(order), 0)]
    it.details["again"] = len(again)
    it.cut_short = not again
    it.expect(set(again) <= {"duplicate"}, f"each is a duplicate: {set(again)}")
    refused = None
    try:
        it.rows(FILL.format("fill_id"), 1)
    except psycopg.Error as error:
        refused = error.sqlstate
        if isinstance(error, psycopg.OperationalError):
            raise
    it.expect(refused == "MM409" or not again, f"other contents under a known id are refused: {refused}")


def tasks_redelivered(it: Occasion) -> None:
    """The worker is killed while it works, a second beat runs, and each message comes several times."""
    arena = it.arena
    env = {"DATABASE_URL": arena.urls["exchange"], "MM_PROCESS": "beat-2", "CELERY_SKIP_CHECKS": "1"}
    command = [sys.executable, "-m", "celery", "-A", "mmproject.celery", "-q", "beat", "--pidfile="]
    copies, kills, twice = 0, 0, False
    process = arena.add_process("beat-2", command, env)
    process.wanted = True
    end = time.monotonic() + it.seconds
    try:
        while time.monotonic() < end and not it.stop.is_set():
            it.wait(it.dice.uniform(0.2, 1.2))
            with suppress(psycopg.Error):
                copies += len(it.rows(f"SELECT pgmq.send('{QUEUE}', message, 0) FROM pgmq.q_{QUEUE} LIMIT 5"))  # noqa: S608
            twice |= process.pid is not None and arena.supervisor["beat"].pid is not None
            if it.dice.random() < 0.4 or not kills:
                kills += arena.supervisor["worker"].signal(signal.SIGKILL)
    finally:
        arena.supervisor.stop("beat-2")
    it.details |= {"copies": copies, "worker_killed": kills, "second_beat": twice}
    it.cut_short = not (copies and kills and twice)


def broker_emptied(it: Occasion) -> None:
    """The queue is emptied and dropped under the worker, which makes it again and goes on."""
    emptied, dropped = 0, False
    end = time.monotonic() + it.seconds
    while time.monotonic() < end and not it.stop.is_set():
        with suppress(psycopg.Error):
            emptied += it.rows(f"SELECT pgmq.purge_queue('{QUEUE}')")[0][0]
        it.wait(0.1)
    with suppress(psycopg.Error):
        dropped = it.rows(f"SELECT pgmq.drop_queue('{QUEUE}')")[0][0]
    it.details |= {"messages_lost": emptied, "dropped": dropped}
    it.cut_short = not dropped
    steps: list[int] = []

    def goes_on() -> bool:
        steps.append(it.rows("SELECT step FROM exchange_clock")[0][0])
        return steps[-1] > steps[0] + 2

    it.eventually(goes_on, "the clock goes on without its queue", 2 * BACK_S)
