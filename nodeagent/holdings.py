"""What a node holds and what is due: plain state, changed only on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain, islice

from nodeagent.quoting import QuotingParameters

NEVER = float("inf")
REFRESH_COALESCE_S = 0.05  # symbols that are due this close together go in one batch
OTHERS_WITH_FIRST = 20  # taken along with urgent symbols: few, so that they are soon done, and the others never starve


@dataclass(slots=True)
class Holding:
    """A lease that we hold, and what we last quoted under it."""

    epoch: int
    basis: tuple[Decimal, int, int] | None = None  # price, position version, parameters version; None: not quoted yet
    due_at: float = 0.0  # on the loop's clock: looked at again by then, whatever the doorbell says
    refusals: int = 0  # quotes in a row that came to nothing, though we have the right
    apart: bool = False  # it was in a batch that failed: until it is quoted again it is tried by itself
    parameters: QuotingParameters | None = None  # as last read, and their version
    parameters_version: int = 0


@dataclass(slots=True)
class Agenda:
    """What the worker has to do next. Every part is a flag or a set of symbols held, so it can't grow without bound.

    The symbols are kept in the order in which they were asked for, and asking again keeps a symbol's place: whatever
    the load, each has its turn.
    """

    wake: asyncio.Event = field(default_factory=asyncio.Event)
    sweep: bool = False
    reconcile: bool = False  # the members or the assignment may have changed
    claim: bool = False  # leases that are assigned to us may be free
    compare: bool = False  # what we hold may not be what the tables say that we hold
    first: dict[str, None] = field(default_factory=dict)  # named by a doorbell, just filled or just granted
    late: dict[str, None] = field(default_factory=dict)  # whose refresh is due: not behind all that has just changed
    then: dict[str, None] = field(default_factory=dict)  # all the others that are to be looked at

    def ask_sweep(self) -> None:
        self.sweep = True
        self.wake.set()

    def ask_reconcile(self) -> None:
        self.reconcile = True
        self.wake.set()

    def ask_claim(self) -> None:
        self.claim = True
        self.wake.set()

    def ask_compare(self) -> None:
        self.compare = True
        self.wake.set()

    def ask_first(self, symbols: Iterable[str]) -> None:
        self.first.update(dict.fromkeys(symbols))
        self.wake.set()

    def ask_late(self, symbols: Iterable[str]) -> None:
        self.late.update(dict.fromkeys(symbols))
        self.wake.set()

    def ask_then(self, symbols: Iterable[str]) -> None:
        self.then.update(dict.fromkeys(symbols))
        self.wake.set()

    def take_symbols(self, most: int) -> list[str]:
        """Up to `most` symbols to look at now, longest asked for first; they are off the agenda.

        Urgent ones go almost alone: they are replaced the sooner, and their rows are locked the shorter.
        """
        taken = list(islice(self.first, most))
        room = min(most - len(taken), OTHERS_WITH_FIRST) if taken else most
        others = (symbol for symbol in chain(self.late, self.then) if symbol not in self.first)
        taken = list(dict.fromkeys([*taken, *islice(others, room)]))
        for symbol in taken:
            self.first.pop(symbol, None)
            self.late.pop(symbol, None)
            self.then.pop(symbol, None)
        return taken

    @property
    def is_empty(self) -> bool:
        return not (self.sweep or self.is_reconcile_due or self.is_quoting_due)

    @property
    def is_reconcile_due(self) -> bool:
        return self.reconcile or self.claim or self.compare

    @property
    def is_quoting_due(self) -> bool:
        return bool(self.first or self.late or self.then)


class Holdings:
    """The leases that this incarnation holds as far as it knows, by symbol."""

    def __init__(self) -> None:
        self._held: dict[str, Holding] = {}
        self.none_left = asyncio.Event()
        self.next_due = NEVER  # no later than the earliest due_at of those that are not being looked at

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._held

    def __len__(self) -> int:
        return len(self._held)

    def symbols(self) -> list[str]:
        return list(self._held)

    def epochs(self) -> dict[str, int]:
        """The epoch that each symbol is held under."""
        return {symbol: held.epoch for symbol, held in self._held.items()}

    def get(self, symbol: str) -> Holding | None:
        return self._held.get(symbol)

    def named(self, hint: str) -> list[str]:
        """The symbols held among those a doorbell names, comma-joined; all when it names none."""
        if not hint:
            return self.symbols()
        return [symbol for symbol in hint.split(",") if symbol in self._held]

    def put(self, symbol: str, epoch: int) -> None:
        """We hold it under this epoch; whatever we knew under another one is forgotten."""
        held = self._held.get(symbol)
        if held is None or held.epoch != epoch:
            self._held[symbol] = Holding(epoch)

    def drop(self, symbol: str) -> None:
        self._held.pop(symbol, None)
        if not self._held:
            self.none_left.set()

    def set_due(self, held: Holding, at: float) -> None:
        """Have it looked at again by `at`, on the loop's clock."""
        held.due_at = at
        self.next_due = min(self.next_due, at)

    def take_due(self, now: float) -> list[str]:
        """The symbols due by `now`, or so soon after that waiting would only make another batch.

        Each gets its next time when it has been looked at.
        """
        taken, self.next_due = [], NEVER
        for symbol, held in self._held.items():
            if held.due_at <= now + REFRESH_COALESCE_S:
                taken.append(symbol)
            else:
                self.next_due = min(self.next_due, held.due_at)
        return taken
