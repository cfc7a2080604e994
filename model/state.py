"""The state of the model: what the tables say, what is in flight, and what a crash would bring back.

Two states that differ only in names and absolute numbers are one: the protocol compares epochs and incarnations, and
never looks at their size. `canonical` picks one of them, so that there are finitely many though it runs for ever.
"""

from __future__ import annotations

from itertools import pairwise, permutations
from typing import Any, Final, NamedTuple

TTL: Final = 2  # ticks: the fewest with which a node lives through a tick and one that doesn't renew does not
TIMEOUT: Final = 1  # ticks that a transaction lives through: transaction_timeout (2 s) is below the TTL (3 s)
PART: Final = 1  # symbols that one call takes away from an incarnation (250 in the product): two symbols make two parts
OLD: Final = 2  # epochs this far below the newest are all alike
NOBODY: Final = -1  # no node

SENT, WAITS, HOLDS = "sent", "waits", "holds"  # a statement: on its way; has begun and waits for the row; has its lock


class Incarnation(NamedTuple):
    """One life of a node: a row of authority_incarnation by its key."""

    node: int
    serial: int


class Node(NamedTuple):
    """A name, the row of its newest incarnation, and (where it matters who can act) its process."""

    serial: int = 0  # of the newest incarnation; 0: it has never registered
    alive: bool = False  # ended_at is null
    left: int = 0  # ticks until expires_at, by the database's clock; 0: expired
    session: bool = False  # the session advisory lock is held
    ending: str = ""  # "", "released" (it leaves), "lost" (a part of it has been taken away)
    up: bool = True  # its process runs: not stopped, not dead
    draining: bool = False  # authority_node.draining
    rung: bool = True  # it has something on its agenda (only a node without a slow timer depends on that)


class Symbol(NamedTuple):
    """A symbol's lease row, the fence in its quote row, its open tenure, and whether it has a live quote."""

    holder: Incarnation | None = None
    epoch: int = 0
    fence_holder: Incarnation | None = None
    fence_epoch: int = 0
    tenure: Incarnation | None = None  # the open one's incarnation
    newest: int = 0  # the highest epoch ever granted. History: nothing in the protocol reads it
    quote: bool = False  # published and not withdrawn
    assigned: int = NOBODY  # the node that should hold it


class Flight(NamedTuple):
    """A statement of a node's that others' come between: what it names, and what it has read."""

    kind: str  # "replace", "release", "renew"
    stage: str
    symbol: int
    incarnation: Incarnation
    epoch: int
    deadline: int = 0  # ticks until the expires_at that it read when it began
    age: int = 0  # ticks since it began
    late: int = 0  # ticks since its tenure was over


class Grant(NamedTuple):
    """An acquire that was judged and has the incarnation's and the lease's row, and does not have the quote's yet."""

    symbol: int
    incarnation: Incarnation


class State(NamedTuple):
    """Everything. `disk` has the symbols as a crash would bring them back; None: as they are."""

    nodes: tuple[Node, ...]
    symbols: tuple[Symbol, ...]
    disk: tuple[Symbol, ...] | None = None
    flight: Flight | None = None
    grant: Grant | None = None

    def with_node(self, n: int, **changes: object) -> State:
        """The state with one node's fields changed."""
        node = self.nodes[n]._replace(**changes)  # type: ignore[arg-type]  # _replace takes any field by name
        return self._replace(nodes=(*self.nodes[:n], node, *self.nodes[n + 1 :]))

    def with_symbol(self, s: int, **changes: object) -> State:
        """The state with one symbol's fields changed."""
        symbol = self.symbols[s]._replace(**changes)  # type: ignore[arg-type]
        return self._replace(symbols=(*self.symbols[:s], symbol, *self.symbols[s + 1 :]))

    def current(self, n: int) -> Incarnation:
        """The newest incarnation of a node, ended or not."""
        return Incarnation(n, self.nodes[n].serial)

    def is_alive(self, incarnation: Incarnation) -> bool:
        """Whether its row is there without ended_at."""
        node = self.nodes[incarnation.node]
        return node.alive and node.serial == incarnation.serial


def initial(nodes: int, symbols: int) -> State:
    """Nobody has registered, nothing was ever granted."""
    return State((Node(),) * nodes, (Symbol(),) * symbols)


def canonical(state: State) -> State:
    """The one state that stands for all that differ from it by names of nodes and symbols and by absolute numbers.

    An incarnation is its node's current one, or a former one (they have all ended); an epoch is the newest of its
    symbol, the one before, or an old one. Symbols are sorted by what is known of them whatever the nodes are called;
    where that is the same, both orders are tried. Then nodes are sorted by all that is known of them: those of which
    the same is known may change places. So states that are images of each other come out the same.
    """
    count = len(state.symbols)
    keys = [_known_of_symbol(state, s) for s in range(count)]
    if len(set(keys)) == count:
        return _renamed(state, sorted(range(count), key=keys.__getitem__))
    orders = (order for order in permutations(range(count)) if all(keys[a] <= keys[b] for a, b in pairwise(order)))
    return min((_renamed(state, list(order)) for order in orders), key=_sortable)


def _role(state: State, incarnation: Incarnation | None, n: int) -> int:
    """0: not this node's, 1: a former one of it, 2: its current one."""
    if incarnation is None or incarnation.node != n:
        return 0
    return 2 if state.is_alive(incarnation) else 1


def _known_of_symbol(state: State, s: int) -> tuple[object, ...]:
    symbol, flight, grant = state.symbols[s], state.flight, state.grant
    holder = state.nodes[symbol.holder.node][1:] if symbol.holder else ()
    return (
        symbol.quote,
        max(symbol.epoch - symbol.newest, -OLD),
        flight is not None and flight.symbol == s,
        grant is not None and grant.symbol == s,
        holder,
    )


def _known_of_node(state: State, n: int, order: list[int]) -> tuple[object, ...]:
    known: list[object] = [state.nodes[n][1:]]
    for symbols in (state.symbols, state.disk):
        if symbols is not None:
            for s in order:
                symbol = symbols[s]
                known.append(_role(state, symbol.holder, n))
                if symbol.fence_holder is not symbol.holder or symbol.tenure is not symbol.holder:
                    known += (_role(state, symbol.fence_holder, n), _role(state, symbol.tenure, n))
                known.append(symbol.assigned == n)
    if state.flight is not None:
        known.append(_role(state, state.flight.incarnation, n))
    if state.grant is not None:
        known.append(state.grant.incarnation.node == n)
    return tuple(known)


def _renamed(state: State, order: list[int]) -> State:
    nodes = state.nodes
    ranked = sorted(range(len(nodes)), key=lambda n: _known_of_node(state, n, order))
    rank = {n: place for place, n in enumerate(ranked)}

    def incarnation(old: Incarnation) -> Incarnation:
        return Incarnation(rank[old.node], int(state.is_alive(old)))

    def row(symbol: Symbol, newest: int) -> Symbol:
        holder, fence, tenure = symbol.holder, symbol.fence_holder, symbol.tenure
        new = incarnation(holder) if holder else None
        return Symbol(
            new,
            max(symbol.epoch - newest, -OLD),
            new if fence is holder else incarnation(fence) if fence else None,
            max(symbol.fence_epoch - newest, -OLD),
            new if tenure is holder else incarnation(tenure) if tenure else None,
            0,
            symbol.quote,
            rank.get(symbol.assigned, NOBODY),
        )

    def rows(symbols: tuple[Symbol, ...]) -> tuple[Symbol, ...]:
        return tuple(row(symbols[s], state.symbols[s].newest) for s in order)

    flight, grant = state.flight, state.grant
    if flight is not None:
        flight = flight._replace(
            symbol=order.index(flight.symbol),
            incarnation=incarnation(flight.incarnation),
            epoch=max(flight.epoch - state.symbols[flight.symbol].newest, -OLD) if flight.kind == "replace" else 0,
        )
    if grant is not None:
        grant = grant._replace(symbol=order.index(grant.symbol), incarnation=incarnation(grant.incarnation))
    return State(
        tuple(nodes[n] if nodes[n].serial == 1 else nodes[n]._replace(serial=1) for n in ranked),
        rows(state.symbols),
        None if state.disk is None else rows(state.disk),
        flight,
        grant,
    )


def _sortable(value: object) -> Any:
    """Of states that are told apart by their order only: None does not compare with a tuple."""
    if value is None:
        return ()
    return tuple(_sortable(part) for part in value) if isinstance(value, tuple) else value
