"""From a fill's commit to the commit of the quote that replaces it, by the database's commit timestamps.

Three nodes in processes of their own quote all symbols; orders that cross come at a fixed rate, each sent at the time
that it is due, by the product's own gateway, which rings the doorbell for each fill. Beside it: a bare NOTIFY's round
trip, and a replace of one row with no fence, which are what the way from fill to quote can't do without.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Final

from django.db import connection

from bench import floor
from bench.doorbells import notify_ms
from bench.figures import Floor, Goal, Measurement, Side, alternate, percentile, summary_ms
from bench.loops import Loop, loop
from bench.nodes import Market, node_market
from bench.quotes import quote_at, replace_unfenced
from bench.run import Run
from bench.scaffold import eventually
from exchange import services

NODES: Final = 3
IDLE_PER_S: Final = 20
BUSY_PER_S: Final = 500
QUICK_BUSY_PER_S: Final = 50
IDLE_CLIENTS: Final = 1
BUSY_CLIENTS: Final = 16  # so many orders may wait for the disk at once before the rate suffers
REACHED: Final = 0.95  # of the rate: less is noted
GOAL_IDLE_MS: Final = 5.0
GOAL_BUSY_MS: Final = 15.0
SECONDS_FACTOR: Final = 2  # a 99th percentile wants more fills
FLOOR_CALLS: Final = 100
SETTLE_TIMEOUT_S: Final = 20.0
START_TIMEOUT_S: Final = 30.0

# Per fill: the first quote that was made knowing it.
LATENCIES: Final = """
    SELECT extract(epoch FROM pg_xact_commit_timestamp(n.xmin) - pg_xact_commit_timestamp(f.xmin))::float8
      FROM ledger_fill f
      JOIN LATERAL (SELECT q.xmin FROM exchange_quoteversion q
                     WHERE q.symbol = f.symbol AND q.version > f.quote_version AND q.after_sequence >= f.sequence
                     ORDER BY q.version LIMIT 1) n ON true
     WHERE f.client_order_id LIKE %s
"""
NOT_REQUOTED: Final = """
    SELECT count(*) FROM exchange_quote q
      JOIN exchange_quoteversion v ON v.symbol = q.symbol AND v.version = q.version
     WHERE v.after_sequence < q.sequence
"""


class Client(threading.Thread):
    """Sends crossing orders of one lot to symbols in turn, each when it is due (open loop).

    As the product's own gateway does, which rings the doorbell; Django's connection is where they go. One more order is
    sent before `ready`: a new session compiles and plans.
    """

    def __init__(
        self, tag: str, count: int, interval_s: float, after_s: float, symbols: Sequence[str], ready: threading.Barrier
    ) -> None:
        super().__init__(daemon=True)
        self._after_s, self._ready = after_s, ready
        self._tag, self._count, self._interval_s, self._symbols = tag, count, interval_s, symbols
        self.fills = 0
        self.failed: Exception | None = None

    def run(self) -> None:
        try:
            self._send()
        except Exception as error:  # noqa: BLE001
            self.failed = error  # raised by whoever waits for us
            self._ready.abort()
        finally:
            connection.close()

    def _send(self) -> None:
        self._place(f"warm.{self._tag}", "buy", 1000, self._symbols[0])
        self._ready.wait(START_TIMEOUT_S)
        due_at = time.monotonic() + self._after_s
        for number in range(self._count):
            time.sleep(max(0.0, due_at - time.monotonic()))
            due_at += self._interval_s
            symbol = self._symbols[number % len(self._symbols)]
            side, price = ("buy", 1000) if number // len(self._symbols) % 2 else ("sell", 1)
            self.fills += self._place(f"{self._tag}-{number}", side, price, symbol)

    @staticmethod
    def _place(client_order_id: str, side: str, price: int, symbol: str) -> bool:
        """Whether it was filled."""
        answer = services.submit_order(
            client_order_id=client_order_id, symbol=symbol, side=side, type="limit", time_in_force="IOC",
            price=Decimal(price), quantity=Decimal(1),
        )  # fmt: skip
        return bool(answer["fills"])


def fill(market: Market, tag: str, *, clients: int, per_s: float, seconds: float) -> tuple[list[float], float]:
    """Send orders at that rate; seconds from each fill to its requote, and the fills a second that there were."""
    symbols = [row[0] for row in market.rows("SELECT name FROM exchange_symbol ORDER BY name")]
    share = len(symbols) // clients
    count = max(1, round(per_s * seconds / clients))
    ready = threading.Barrier(clients + 1)
    threads = [
        # Each begins with a share of its own, so that they seldom meet; their orders are evenly spaced.
        Client(f"{tag}.{n}", count, clients / per_s, n / per_s, symbols[n * share :] + symbols[: n * share], ready)
        for n in range(clients)
    ]
    for thread in threads:
        thread.start()
    with suppress(threading.BrokenBarrierError):  # what broke it is raised below
        ready.wait(START_TIMEOUT_S)
    began = time.monotonic()
    for thread in threads:
        thread.join()
    took_s = time.monotonic() - began
    for thread in threads:
        if thread.failed is not None:
            raise thread.failed
    eventually(lambda: market.value(NOT_REQUOTED) == 0, SETTLE_TIMEOUT_S, "every fill is followed by a quote")
    taken = [row[0] for row in market.rows(LATENCIES, f"{tag}.%")]
    return taken, sum(thread.fills for thread in threads) / took_s


def requote(run: Run) -> None:
    """10 and 100 symbols, while little happens and at 500 fills a second."""
    for symbols in (10,) if run.plan.quick else (10, 100):
        with (
            run.database() as database,
            node_market(database, symbols) as market,
            loop(database.url()) as plain,
        ):
            market.start_all(NODES)
            floor.make(market.admin)
            floor.make_quotes(market.admin)
            with database.django("exchange"):
                _measure(run, market, plain, symbols)


def _measure(run: Run, market: Market, plain: Loop, symbols: int) -> None:
    plan = run.plan
    busy_per_s = QUICK_BUSY_PER_S if plan.quick else BUSY_PER_S
    seen: dict[str, list[list[float]]] = {"idle": [], "busy": []}
    rates: dict[str, list[float]] = {"idle": [], "busy": []}

    def filled(kind: str, clients: int, per_s: float) -> Side:
        def side(seconds: float) -> float:
            tag = f"{kind}{len(seen[kind])}"
            taken, rate = fill(market, tag, clients=clients, per_s=per_s, seconds=seconds)
            seen[kind].append(taken)
            rates[kind].append(rate)
            return percentile(taken, 0.99) * 1000

        return side

    def notified(_seconds: float) -> float:
        return percentile(notify_ms(market.database, FLOOR_CALLS), 0.99)

    def replaced(_seconds: float) -> float:
        def one(number: int) -> float:
            return run.seconds_of(lambda: plain.run(lambda link: replace_unfenced(link, ["S0001"], quote_at(number))))

        return percentile([one(number) for number in range(FLOOR_CALLS)], 0.99) * 1000

    taken = alternate(
        {
            "idle": filled("idle", IDLE_CLIENTS, IDLE_PER_S),
            "NOTIFY": notified,
            "busy": filled("busy", BUSY_CLIENTS, busy_per_s),
            "replace": replaced,
        },
        rounds=plan.rounds, seconds=plan.seconds * SECONDS_FACTOR, warm_up_s=plan.warm_up_s, tell=run.say,
    )  # fmt: skip
    floors = (Floor("NOTIFY round trip p99", taken["NOTIFY"]), Floor("unfenced replace p99", taken["replace"]))
    for kind, goal in (("idle", GOAL_IDLE_MS), ("busy", GOAL_BUSY_MS)):
        rate = f"{busy_per_s} fills/s" if kind == "busy" else "idle"
        reached = percentile(rates[kind][1:], 0.5)
        if kind == "busy" and reached < REACHED * busy_per_s:
            run.note(f"{symbols} symbols: of {busy_per_s} fills/s only {reached:.0f} were reached: the server was full")
        run.add(
            Measurement(
                name=f"{symbols} symbols, {rate}, p99",
                unit="ms",
                values=taken[kind],
                floors=floors,
                goal=Goal("figure", "at most", goal),
                at={"symbols": symbols, "nodes": NODES, "load": kind, "quantile": "p99"},
                detail={
                    **summary_ms([one for taken_ in seen[kind][1:] for one in taken_]),
                    "fills_per_s": round(reached, 1),
                },
            )
        )
