"""One node that replaces the quotes of all its symbols, beside a plain UPDATE and INSERT of as many rows.

The node's own statement, batches and wait for the disk (none, see decision 9); the floor's rows are as wide.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Final
from uuid import UUID

from bench import floor
from bench.figures import Floor, Measurement, Side, alternate
from bench.loops import Loop, loop
from bench.maker import DAY_MS, DEEP, Holder, holders
from bench.orders import names
from bench.run import Run
from bench.scaffold import Connection, Database
from mmproject.errors import UserError
from nodeagent import authority_client as client
from nodeagent.connections import Link
from nodeagent.quoter import BATCH_MAX_SYMBOLS
from nodeagent.quoting import TwoSidedQuote

TIMEOUT_S: Final = 60.0
_SMALL, _LARGE = 1_000, 10_000

_FLUSH: Final = "SELECT pg_stat_force_next_flush()"
_HOT: Final = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'exchange_quote'"
_WAL: Final = "SELECT pg_current_wal_insert_lsn() - '0/0'"


def quote_at(pass_number: int) -> TwoSidedQuote:
    """Another quote than the pass before: nothing is replaced by what it was."""
    bid = Decimal("99.90") + Decimal("0.01") * (pass_number % 5)
    return TwoSidedQuote(bid, Decimal(DEEP), bid + Decimal("0.10"), Decimal(DEEP))


def batches(symbols: list[str], size: int = BATCH_MAX_SYMBOLS) -> Iterator[list[str]]:
    for start in range(0, len(symbols), size):
        yield symbols[start : start + size]


async def replace(link: Link, incarnation: UUID, epochs: dict[str, int], quote: TwoSidedQuote) -> None:
    """One pass over all symbols, as a node makes it."""
    for batch in batches(list(epochs)):
        sent = {symbol: (epochs[symbol], quote) for symbol in batch}
        outcomes = await client.replace_quotes(link, incarnation, sent, DAY_MS, timeout_s=TIMEOUT_S)
        if any(one.outcome != "accepted" for one in outcomes):
            raise UserError(f"a quote was refused: {next(one for one in outcomes if one.outcome != 'accepted')}")


async def replace_unfenced(link: Link, symbols: list[str], quote: TwoSidedQuote) -> None:
    """The same pass over the pair of plain tables, without waiting for the disk either."""
    for batch in batches(symbols):
        sides = [[side] * len(batch) for side in
                 (quote.bid_price, quote.bid_quantity, quote.ask_price, quote.ask_quantity)]  # fmt: skip
        await link.fetch(UNFENCED, batch, *sides, timeout_s=TIMEOUT_S)


# Whether the commit waits is said in the statement itself, as the node's says it.
UNFENCED: Final = floor.REPLACE.rstrip().replace(
    "SELECT count(*) FROM recorded", "SELECT count(*), set_config('synchronous_commit', 'off', true) FROM recorded"
)


class Passes:
    """Passes over one node's symbols, timed."""

    def __init__(self, holder: Holder, own: Loop, plain: Loop) -> None:
        self._holder, self._own, self._plain, self._number = holder, own, plain, 0
        self.quotes = 0  # replaced by passes of the node's kind

    def _for(self, seconds: float, one: Callable[[TwoSidedQuote], None]) -> float:
        """Whole passes until the time is up, one at least; symbols a second."""
        began, done = time.perf_counter(), 0
        while True:
            self._number += 1
            one(quote_at(self._number))
            done += len(self._holder.epochs)
            took = time.perf_counter() - began
            if took >= seconds:
                return done / took

    def fenced(self, seconds: float) -> float:
        def one(quote: TwoSidedQuote) -> None:
            self._own.run(lambda link: replace(link, self._holder.incarnation, self._holder.epochs, quote))
            self.quotes += len(self._holder.epochs)

        return self._for(seconds, one)

    def unfenced(self, seconds: float) -> float:
        symbols = list(self._holder.epochs)
        return self._for(seconds, lambda quote: self._plain.run(lambda link: replace_unfenced(link, symbols, quote)))


def quotes(run: Run) -> None:
    """1,000 and 10,000 symbols, each in a market of its own."""
    for symbols in (_SMALL // 5,) if run.plan.quick else (_SMALL, _LARGE):
        with (
            run.database() as database,
            holders(database, {"bench": names(symbols)}) as held,
            loop(database.url("node")) as own,
            loop(database.url()) as plain,
        ):
            floor.make(database.connect())
            floor.make_quotes(database.connect())
            _measure(run, database, Passes(held["bench"], own, plain), own, symbols)


def _measure(run: Run, database: Database, passes: Passes, own: Loop, symbols: int) -> None:
    admin, plan = database.connect(), run.plan
    wal_per_quote: list[float] = []

    def fenced(seconds: float) -> float:
        before, quotes_before = _wal_bytes(admin), passes.quotes
        rate = passes.fenced(seconds)
        wal_per_quote.append((_wal_bytes(admin) - before) / (passes.quotes - quotes_before))
        return rate

    sides: dict[str, Side] = {"replace": fenced, "unfenced": passes.unfenced}
    taken = alternate(
        sides, rounds=plan.rounds, seconds=plan.seconds, warm_up_s=plan.warm_up_s, tell=lambda text: run.say(text)
    )
    own.run(lambda link: link.fetch(_FLUSH))
    at = {"symbols": symbols, "batch": BATCH_MAX_SYMBOLS}
    plain = Floor("UPDATE + INSERT", taken["unfenced"])
    run.add(Measurement(name=f"{symbols:,} symbols", unit="quotes/s", values=taken["replace"], floors=(plain,), at=at))
    run.add(
        Measurement(
            name=f"{symbols:,} symbols, per 1,000 quotes",
            unit="ms",
            values=tuple(1e6 / rate for rate in taken["replace"]),
            floors=(Floor("UPDATE + INSERT", tuple(1e6 / rate for rate in taken["unfenced"])),),
            at=at,
        )
    )
    run.add(
        Measurement(
            name=f"{symbols:,} symbols, log written per quote",
            unit="bytes",
            values=tuple(wal_per_quote[1:]),  # the first is the warm-up's
            at=at,
        )
    )
    updated, hot = admin.execute(_HOT).fetchone() or (0, 0)
    run.add(Measurement(name=f"{symbols:,} symbols, HOT share", unit="%", values=(100 * hot / max(updated, 1),), at=at))


def _wal_bytes(admin: Connection) -> float:
    """How far the server's log has got; whatever else is written there meanwhile counts too."""
    row = admin.execute(_WAL).fetchone()
    assert row is not None
    return float(row[0])
