"""Orders per second beside pgbench's TPC-B and beside a single row that is inserted and committed.

All are driven by the same pgbench with as many clients, in turn within each round. Each order crosses a deep quote, so
that it fills: order, fill, position, quote. The latency is measured in the open loop at 70 % of the peak just found,
TPC-B's at 70 % of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import floor
from bench.figures import Floor, Goal, Measurement, Side, alternate, percentile
from bench.maker import holders
from bench.pgbench import Mode, PgBench
from bench.run import Run
from bench.scaffold import Connection, Database
from mmproject.errors import UserError

# How an order, and a batch of them, is sent. Everything here that sends one goes through these two.
PLACE_ORDER: Final = (
    "CALL exchange_place_order_v3({client_order_id}, {symbol}, {side}, 'limit', 'IOC', {price}, {quantity}, NULL)"
)
PLACE_ORDERS: Final = "CALL exchange_place_orders_v3({orders}, 700, NULL)"

MODES: Final[tuple[Mode, ...]] = ("prepared", "simple")
# pgbench has nobody to ring for, and would print each notice of a fill. `fanout` has what they cost.
UNTOLD: Final = {"client_min_messages": "warning"}
SCALE: Final = 32  # of TPC-B: its branches, no fewer than clients, as pgbench's manual asks
QUICK_SCALE: Final = 8
PEAK_SHARE: Final = 0.7
LATENCY_SECONDS_FACTOR: Final = 2  # a 99th percentile wants more of them than a mean does
BATCH_CLIENTS: Final = 8

# Ids are random, as clients' are: they fall all over the index.
_ORDER: Final = """
\\set symbol random(1, {symbols})
\\set id random(1, 1000000000000000)
\\set buys random(0, 1)
\\if :buys
{buy};
\\else
{sell};
\\endif
"""


def order_script(
    symbols: int, *, symbol: str = "'S' || :symbol", buy_price: str = "100.10", sell_price: str = "99.90"
) -> str:
    """pgbench's script: one order of one lot for one of the symbols, either way.

    `symbol` makes a symbol's name of its number (S1 ... S<symbols>); the prices cross whatever quotes there are.
    """
    common = {"client_order_id": "'b' || :id", "symbol": symbol, "quantity": "1"}
    buy = PLACE_ORDER.format(**common, side="'buy'", price=buy_price)
    sell = PLACE_ORDER.format(**common, side="'sell'", price=sell_price)
    return _ORDER.format(symbols=symbols, buy=buy, sell=sell)


def names(symbols: int) -> list[str]:
    return [f"S{number}" for number in range(1, symbols + 1)]


def check_filled(admin: Connection) -> None:
    """Raises UserError when an order was not filled whole: it was something else that was measured then."""
    row = admin.execute("SELECT count(*) FILTER (WHERE status <> 'filled'), count(*) FROM exchange_order").fetchone()
    assert row is not None
    if row[0] or not row[1]:
        raise UserError(f"{row[0]:,} of {row[1]:,} orders were not filled")


@dataclass
class Arena:
    """Orders, TPC-B and single inserts on one database."""

    run: Run
    bench: PgBench
    database: Database
    script: Path
    insert: Path

    @classmethod
    def make(cls, run: Run, database: Database, script: str, *, tpcb: bool = True) -> Arena:
        bench, admin = run.pgbench(), database.connect()
        floor.make(admin)
        if tpcb:
            run.say("making the tables of TPC-B")
            bench.make_tpcb(database.url(), QUICK_SCALE if run.plan.quick else SCALE)
        return cls(run, bench, database, bench.script("order", script), bench.script("insert", floor.INSERT))

    def orders(self, clients: int, mode: Mode, script: Path | None = None, *, told: bool = False) -> Side:
        """Orders; `told`: with the notice of each fill that the gateway's sessions have."""
        url, settings = self.database.url("console"), {} if told else UNTOLD
        return lambda s: self.bench.per_second(
            url, script or self.script, clients=clients, seconds=s, mode=mode, settings=settings
        )

    def tpcb(self, clients: int, mode: Mode) -> Side:
        return lambda s: self.bench.per_second(self.database.url(), None, clients=clients, seconds=s, mode=mode)

    def inserts(self, clients: int, mode: Mode) -> Side:
        url = self.database.url()
        return lambda s: self.bench.per_second(url, self.insert, clients=clients, seconds=s, mode=mode)

    def taken(self, sides: dict[str, Side], seconds: float | None = None) -> dict[str, tuple[float, ...]]:
        plan = self.run.plan
        return alternate(
            sides, rounds=plan.rounds, seconds=seconds or plan.seconds, warm_up_s=plan.warm_up_s, tell=self.run.say
        )


def throughput(arena: Arena, *, clients: int, mode: Mode, symbols: int, goal: float | None) -> Measurement:
    taken = arena.taken(
        {
            "orders": arena.orders(clients, mode),
            "TPC-B": arena.tpcb(clients, mode),
            "insert": arena.inserts(clients, mode),
        }
    )
    return arena.run.add(
        Measurement(
            name=f"{clients} clients, {mode}",
            unit="orders/s",
            values=taken["orders"],
            floors=(Floor("TPC-B", taken["TPC-B"]), Floor("insert + commit", taken["insert"])),
            goal=None if goal is None else Goal("ratio", "at least", goal),
            at={"clients": clients, "mode": mode, "symbols": symbols},
        )
    )


def latency(arena: Arena, peak: Measurement) -> None:
    """p99 at 70 % of the measured peak, each round's; TPC-B at 70 % of its own peak beside it."""
    clients, mode = int(peak.at["clients"]), "prepared"
    rates = [peak.figure.median * PEAK_SHARE, sorted(peak.floors[0].values)[len(peak.values) // 2] * PEAK_SHARE]
    medians: list[float] = []

    def orders(seconds: float) -> float:
        url = arena.database.url("console")
        taken = arena.bench.latencies_s(
            url, arena.script, clients=clients, seconds=seconds, rate=rates[0], settings=UNTOLD
        )
        medians.append(percentile(taken, 0.5) * 1000)
        return percentile(taken, 0.99) * 1000

    def tpcb(seconds: float) -> float:
        url = arena.database.url()
        return percentile(
            arena.bench.latencies_s(url, None, clients=clients, seconds=seconds, rate=rates[1]), 0.99
        ) * 1000  # fmt: skip

    seconds = arena.run.plan.seconds * LATENCY_SECONDS_FACTOR
    taken = arena.taken({"orders, open loop": orders, "TPC-B, open loop": tpcb}, seconds)
    arena.run.add(
        Measurement(
            name=f"{clients} clients, p99 at 70 % of the peak",
            unit="ms",
            values=taken["orders, open loop"],
            floors=(Floor("TPC-B p99 at 70 % of its own", taken["TPC-B, open loop"]),),
            at={"clients": clients, "mode": mode, "symbols": peak.at["symbols"], "quantile": "p99"},
            detail={"rate_per_s": round(rates[0]), "p50_ms": round(percentile(medians, 0.5), 3)},
        )
    )


def measure(run: Run, symbols: int, goals: dict[int, float | None]) -> None:
    """Every number of clients, in both modes; then the latency, prepared."""
    if run.plan.quick:
        goals = dict(list(goals.items())[:1])
    with run.database() as database, holders(database, {"bench": names(symbols)}):
        arena = Arena.make(run, database, order_script(symbols))
        for clients, goal in goals.items():
            found = [throughput(arena, clients=clients, mode=mode, symbols=symbols, goal=goal) for mode in MODES]
            latency(arena, found[0])
        check_filled(database.connect())


def orders(run: Run) -> None:
    """Many symbols."""
    measure(run, 100, {8: 2.0, 32: 2.0})


def orders_hot(run: Run) -> None:
    """One symbol, which all clients want."""
    measure(run, 1, {8: None, 32: 1.2})


# --- Batches --------------------------------------------------------------------------------------------------

_DIGITS: Final = 10  # symbols are S<row><column>, both one digit, so that a script can put them together
# Fifteen characters with its colon, as its value has digits: pgbench puts one in the other's place without moving text.
_ID: Final = "batch_order_id"


def grid_names() -> list[str]:
    return [f"S{row}{column}" for row in range(_DIGITS) for column in range(_DIGITS)]


def batch_script(size: int, *, sharded: bool) -> str:
    """A batch of orders as one JSON literal. pgbench replaces :names inside it only in simple mode.

    Shared: each order is for any of the 100 symbols. Sharded: a client has ten to itself (column = client).
    """
    columns = [":client_id"] * _DIGITS if sharded else [f":column{number}" for number in range(_DIGITS)]
    sets = [f"\\set {_ID} random(100000000000000, 999999999999999)"]
    if not sharded:
        sets += [f"\\set column{number} random(0, {_DIGITS - 1})" for number in range(_DIGITS)]
    orders = []
    for number in range(size):
        side, price = ("buy", "100.10") if number % 2 else ("sell", "99.90")
        symbol = f"S{number % _DIGITS}{columns[number // _DIGITS % _DIGITS]}"
        orders.append(
            f'{{"client_order_id":"b:{_ID}-{number}","symbol":"{symbol}","side":"{side}","type":"limit",'
            f'"time_in_force":"IOC","price":"{price}","quantity":"1"}}'
        )
    return "\n".join([*sets, PLACE_ORDERS.format(orders=f"'[{','.join(orders)}]'") + ";"]) + "\n"


def orders_batch(run: Run) -> None:
    """Batches of 50 and 200, symbols shared by all clients or each client's own."""
    sizes: Sequence[int] = (50,) if run.plan.quick else (50, 200)
    clients = BATCH_CLIENTS
    with run.database() as database, holders(database, {"bench": grid_names()}):
        arena = Arena.make(run, database, order_script(1))
        for size in sizes:
            for sharded in (False, True):
                kind = "sharded" if sharded else "shared"
                script = arena.bench.script(f"batch-{size}-{kind}", batch_script(size, sharded=sharded))
                taken = arena.taken(
                    {"orders": arena.orders(clients, "simple", script), "TPC-B": arena.tpcb(clients, "prepared")}
                )
                run.add(
                    Measurement(
                        name=f"batches of {size}, symbols {kind}",
                        unit="orders/s",
                        values=tuple(batches * size for batches in taken["orders"]),
                        floors=(Floor("TPC-B, prepared", taken["TPC-B"]),),
                        goal=Goal("ratio", "at least", 8.0),
                        at={"clients": clients, "batch": size, "symbols": len(grid_names()), "shape": kind},
                    )
                )
        check_filled(database.connect())
