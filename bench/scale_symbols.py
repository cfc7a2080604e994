"""How the size of the market tells: 10, 100, 1,000 and 10,000 symbols, each market in a database of its own.

All sizes take turns in each round, and each is held against the smallest.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from bench.figures import Floor, Measurement, Side, alternate
from bench.loops import Loop, loop
from bench.maker import Holder, holders
from bench.orders import check_filled, names, order_script
from bench.quotes import batches, quote_at, replace
from bench.renew import renewals
from bench.run import Run
from bench.scaffold import Database
from nodeagent import authority_client as client
from nodeagent.connections import Link

SIZES: Final = (10, 100, 1_000, 10_000)
QUICK_SIZES: Final = (10, 100)
CLIENTS: Final = 8


def per_call_s(call: Callable[[], None], seconds: float) -> float:
    """Mean seconds of a call that is made again and again for about so long, once at least."""
    began, calls = time.perf_counter(), 0
    while True:
        call()
        calls += 1
        took = time.perf_counter() - began
        if took >= seconds:
            return took / calls


class SizedMarket:
    """A market of one size, and what is measured on it."""

    def __init__(self, run: Run, database: Database, holder: Holder, own: Loop) -> None:
        self.symbols = len(holder.epochs)
        self.database = database
        self._run, self._holder, self._own, self._passes = run, holder, own, 0
        first = next(batches(list(holder.epochs)))
        self._batch = {symbol: holder.epochs[symbol] for symbol in first}  # a statement of a node's, whole or smaller

    def quotes(self, seconds: float) -> float:
        """Quotes a second of one node that replaces one batch over and over."""

        def call() -> None:
            self._passes += 1
            quote = quote_at(self._passes)
            self._own.run(lambda link: replace(link, self._holder.incarnation, self._batch, quote))

        return len(self._batch) / per_call_s(call, seconds)

    def reads(self, seconds: float) -> float:
        """Milliseconds to read what the quotes of one batch follow from, per 100 symbols."""

        async def read(link: Link) -> None:
            found = await client.market(link, dict.fromkeys(self._batch, 0))
            assert len(found) == len(self._batch)

        return 1000 * per_call_s(lambda: self._own.run(read), seconds) * 100 / len(self._batch)

    def orders(self) -> Side:
        """Orders a second."""
        bench, url = self._run.pgbench(), self.database.url("console")
        script = bench.script(f"order-{self.symbols}", order_script(self.symbols))
        return lambda seconds: bench.per_second(url, script, clients=CLIENTS, seconds=seconds)

    def renewals(self) -> Side:
        """Milliseconds per renewal, without the wait for the disk, which would hide a difference."""
        bench, url = self._run.pgbench(), self.database.url("node")
        return renewals(bench, url, self._holder, f"renew-{self.symbols}", waits=False)


def scale_symbols(run: Run) -> None:
    """Quotes, orders, renewals and reads at each size."""
    with ExitStack() as stack:
        markets = []
        for symbols in QUICK_SIZES if run.plan.quick else SIZES:
            run.say(f"making a market of {symbols:,} symbols")
            database = stack.enter_context(run.database())
            held = stack.enter_context(holders(database, {"bench": names(symbols)}))
            own = stack.enter_context(loop(database.url("node")))
            markets.append(SizedMarket(run, database, held["bench"], own))
        _measure(run, markets, "quotes replaced", "quotes/s", lambda market: market.quotes)
        _measure(run, markets, f"orders of {CLIENTS} clients", "orders/s", lambda market: market.orders())
        _measure(run, markets, "renewal", "ms", lambda market: market.renewals())
        _measure(run, markets, "market read, per 100 symbols", "ms", lambda market: market.reads)
        for market in markets:
            check_filled(market.database.connect())


def _measure(run: Run, markets: list[SizedMarket], what: str, unit: str, side: Callable[[SizedMarket], Side]) -> None:
    plan = run.plan
    taken = alternate(
        {f"{what}, {market.symbols:,} symbols": side(market) for market in markets},
        rounds=plan.rounds, seconds=plan.seconds, warm_up_s=plan.warm_up_s, tell=run.say,
    )  # fmt: skip
    smallest = next(iter(taken.values()))
    for market, (name, values) in zip(markets, taken.items(), strict=True):
        floors = (Floor(f"{markets[0].symbols} symbols", smallest),) if market is not markets[0] else ()
        run.add(
            Measurement(
                name=name, unit=unit, values=values, floors=floors, at={"symbols": market.symbols, "series": what}
            )
        )
