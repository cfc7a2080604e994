"""The market and its ledger replayed without waiting for the clock.

One simulated node quotes every symbol through the same SQL functions and the same pure functions as the live system,
only that nothing waits: the exchange's clock has a tick of 0 ms, and leases and quotes outlive the run. What happens
then follows from the seed alone, to the digit: every order, fill and quote version. `digest` condenses it.

Each step, in the order in which the live system does it:
1. the clock advances and sets the step's reference prices;
2. the node replaces the quotes whose reference price changed;
3. the step's external orders of all symbols arrive;
4. the node replaces the quotes that were filled, until none is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import psycopg

from exchange.catalogue import SymbolSpec
from exchange.orderflow import external_orders
from exchange.prices import reference_price
from nodeagent.quoting import QuotingParameters, quote

Connection = psycopg.Connection[tuple[Any, ...]]

NODE: Final = "simulated"
DAY_MS: Final = 86_400_000  # time to live of the node's leases and of its quotes: longer than any run
ORDERS_PER_CALL: Final = 1000  # exchange_submit_orders_v4 takes no more
REQUOTES_MAX: Final = 100  # quotes that trade with resting orders as they appear; each time the book gets thinner
DIGEST_ROWS: Final = 5000  # fetched at a time, so that a long run's history is never in memory

_SESSION: Final = (
    "SET synchronous_commit = off",  # a crash loses the scratch database as a whole: nothing in it need be durable
    "SET plan_cache_mode = force_generic_plan",  # the same few statements for ever: planning them anew only costs
    "SET jit = off",
)
_ADVANCE: Final = "SELECT exchange_advance_clock_v1(%s, %s, %s::numeric[])"
_REPLACE: Final = (
    "SELECT symbol, outcome, traded FROM authority_replace_quotes_v3"
    "(%s, %s, %s::bigint[], %s::numeric[], %s::numeric[], %s::numeric[], %s::numeric[], %s)"
)
_SUBMIT: Final = "SELECT exchange_submit_orders_v4(%s::jsonb)"
_DONE: Final = "SELECT exchange_orders_done_v1(%s)"
_POSITIONS: Final = "SELECT symbol, quantity, version FROM ledger_position"

# What the digest covers, each as text in one order on every server: no times, no incarnation ids.
_LISTINGS: Final = (
    """SELECT 'quote', symbol, version, trim_scale(bid_price), trim_scale(bid_quantity), trim_scale(ask_price),
              trim_scale(ask_quantity), epoch, after_sequence, withdrawn_reason
         FROM exchange_quoteversion ORDER BY symbol COLLATE "C", version""",
    """SELECT 'fill', fill_id, symbol, sequence, side, trim_scale(price), trim_scale(quantity), client_order_id,
              quote_version, epoch, trim_scale(quantity_after), trim_scale(cost_after), trim_scale(cash_after)
         FROM ledger_fill ORDER BY fill_id COLLATE "C" """,
    """SELECT 'position', symbol, trim_scale(quantity), trim_scale(cost), trim_scale(cash),
              version
         FROM ledger_position ORDER BY symbol COLLATE "C" """,
)

# A step's reference prices, and its external orders as the JSON arrays that place them.
_Drawn = tuple[dict[str, Decimal], list[str]]


class SimulationFault(RuntimeError):
    """The system answered what it cannot answer to a node that does everything right: a defect of ours."""


@dataclass(slots=True)
class _Symbol:
    """What the node knows of one symbol."""

    spec: SymbolSpec
    parameters: QuotingParameters
    price: Decimal
    epoch: int = 0
    position: Decimal = Decimal(0)
    position_version: int = 0
    quoted: tuple[Decimal, int] | None = None  # price and position version that the live quote was made for


@dataclass
class Simulation:
    """A replay on a migrated, empty database, over one connection in autocommit that nothing else uses."""

    connection: Connection
    seed: int
    specs: list[SymbolSpec]
    _symbols: dict[str, _Symbol] = field(init=False, default_factory=dict)
    _incarnation: UUID = field(init=False)
    _ahead: _Drawn | None = field(init=False, default=None)
    _ahead_of: int = field(init=False, default=0)

    def start(self) -> None:
        """List the symbols, start the clock, register the one node, take every lease, and quote at the seed prices."""
        execute = self.connection.execute
        for setting in _SESSION:
            execute(setting)
        execute("SELECT exchange_add_symbols_v1(%s::jsonb)", [json.dumps([spec.as_json() for spec in self.specs])])
        execute("SELECT exchange_start_clock_v1(%s, 0)", [self.seed])
        for spec in self.specs:
            parameters = QuotingParameters(
                tick_size=spec.tick_size,
                lot_size=spec.lot_size,
                half_spread_ticks=spec.half_spread_ticks,
                skew_ticks=spec.skew_ticks,
                quote_size=spec.quote_size,
                position_limit=spec.position_limit,
            )
            self._symbols[spec.name] = _Symbol(spec, parameters, spec.seed_price)
        (self._incarnation,) = _one(execute("SELECT incarnation FROM authority_register_v3(%s, %s)", [NODE, DAY_MS]))
        names = sorted(self._symbols)
        assigned = "SELECT authority_apply_assignment_v2(0, %s, %s, %s, %s, 'simulation')"
        _expect(_one(execute(assigned, [[NODE], names, [NODE] * len(names), NODE])), "applied")
        granted = execute("SELECT * FROM authority_acquire_v3(%s, %s)", [self._incarnation, names]).fetchall()
        for name, epoch, outcome in granted:
            _expect((outcome,), "granted")
            self._symbols[name].epoch = epoch
        self._requote()

    def step(self, step: int) -> None:
        """Play one step; the first is 1, and each follows the one before it.

        One round trip for the market and one for the quotes that were filled. While the server works on the first,
        the next step's prices and orders are computed.
        """
        prices, orders = self._ahead if self._ahead and self._ahead_of == step else self._drawn(step)
        for name, price in prices.items():
            self._symbols[name].price = price
        execute = self.connection.execute
        with self.connection.pipeline() as pipeline:
            # Each sync is a commit, as in the live system, without a round trip of its own.
            advanced = execute(_ADVANCE, [step, list(prices), list(prices.values())])
            pipeline.sync()
            stale = self._stale()
            replaced = self._send_quotes(stale) if stale else None
            pipeline.sync()
            for chunk in orders:
                execute(_SUBMIT, [chunk])
                pipeline.sync()
            done = execute(_DONE, [step])
            pipeline.sync()
            positions = execute(_POSITIONS)
            pipeline.sync()
            self._ahead, self._ahead_of = self._drawn(step + 1), step + 1
            _expect(_one(advanced), step)
            if replaced is not None:
                self._check_accepted(replaced)
            _expect(_one(done), step)
            self._read_positions(positions)
        self._requote()

    def _drawn(self, step: int) -> _Drawn:
        """The reference prices of a step, and its external orders as the calls that place them."""
        prices = {
            spec.name: reference_price(self.seed, spec.name, spec.seed_price, spec.tick_size, spec.volatility_bps, step)
            for spec in self.specs
        }
        orders = [order.as_json() for spec in self.specs for order in external_orders(self.seed, spec, step)]
        starts = range(0, len(orders), ORDERS_PER_CALL)
        return prices, [json.dumps(orders[start : start + ORDERS_PER_CALL]) for start in starts]

    def _stale(self) -> list[_Symbol]:
        """The symbols whose live quote was made for another price or position."""
        return [s for s in self._symbols.values() if s.quoted != (s.price, s.position_version)]

    def _requote(self) -> None:
        """Replace stale quotes until none is left: a quote that trades as it appears moves the position again."""
        for _ in range(REQUOTES_MAX):
            stale = self._stale()
            if not stale:
                return
            if self._check_accepted(self._send_quotes(stale)):
                self._read_positions(self.connection.execute(_POSITIONS))
        raise SimulationFault(f"quotes still trade as they appear after {REQUOTES_MAX} replacements")

    def _send_quotes(self, symbols: list[_Symbol]) -> psycopg.Cursor[tuple[Any, ...]]:
        """Replace the quotes of these symbols in one call; the cursor has the answers."""
        sides = [quote(s.price, s.position, s.parameters) for s in symbols]
        for symbol in symbols:
            symbol.quoted = (symbol.price, symbol.position_version)
        return self.connection.execute(
            _REPLACE,
            [
                self._incarnation,
                [s.spec.name for s in symbols],
                [s.epoch for s in symbols],
                [side.bid_price for side in sides],
                [side.bid_quantity for side in sides],
                [side.ask_price for side in sides],
                [side.ask_quantity for side in sides],
                DAY_MS,
            ],
        )

    def _check_accepted(self, answers: psycopg.Cursor[tuple[Any, ...]]) -> bool:
        """Whether one of the new quotes traded with resting orders. Raises SimulationFault for a refusal."""
        any_traded = False
        for name, outcome, traded in answers:
            if outcome != "accepted":
                raise SimulationFault(f"the quote of {name} was refused: {outcome}")
            any_traded = any_traded or traded
        return any_traded

    def _read_positions(self, rows: Iterable[tuple[Any, ...]]) -> None:
        for name, quantity, version in rows:
            symbol = self._symbols[name]
            symbol.position, symbol.position_version = quantity, version

    def refresh(self) -> None:
        """Replace every quote as it is, as a node does after a few seconds of wall time; not part of the replay."""
        self._check_accepted(self._send_quotes(list(self._symbols.values())))

    def counts(self) -> dict[str, int]:
        """How many orders, fills and quote versions there are."""
        counted = self.connection.execute(
            "SELECT (SELECT count(*) FROM exchange_order), (SELECT count(*) FROM ledger_fill),"
            " (SELECT count(*) FROM exchange_quoteversion)"
        )
        return dict(zip(("orders", "fills", "quotes"), _one(counted), strict=True))

    def digest(self) -> str:
        """SHA-256, in hex, of every quote version, fill and position."""
        total = hashlib.sha256()
        for row in self._listed():
            total.update("|".join("" if value is None else str(value) for value in row).encode() + b"\n")
        return total.hexdigest()

    def _listed(self) -> Iterator[tuple[Any, ...]]:
        for number, listing in enumerate(_LISTINGS):
            with (
                self.connection.transaction(),
                self.connection.cursor(name=f"listing_{number}") as cursor,
            ):
                cursor.itersize = DIGEST_ROWS
                yield from cursor.execute(listing)


def replay(simulation: Simulation, steps: int, progress: Callable[[int], None]) -> None:
    """Start it and play steps 1 to `steps`, telling `progress` after each."""
    simulation.start()
    for step in range(1, steps + 1):
        simulation.step(step)
        progress(step)


def _one(cursor: psycopg.Cursor[tuple[Any, ...]]) -> tuple[Any, ...]:
    row = cursor.fetchone()
    if row is None:
        raise SimulationFault("no answer")
    return row


def _expect(row: tuple[Any, ...], wanted: object) -> None:
    if row != (wanted,):
        raise SimulationFault(f"{wanted} expected, not {row}")
