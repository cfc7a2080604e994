"""What must hold: DESIGN §9's I1 to I5 and I14, and two rules of §3 and §4 that they rest on.

Safety is judged at each step from the state before it and the one after. Coverage is about what must happen in the
end, and is judged on the graph of all states (`model.checker.uncovered`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from model.protocol import COMMIT, GRANT, REGISTER, RENEW, SWEEP, Step, runs
from model.state import TIMEOUT, Node, State

Holds = Callable[[State, Step], bool]


class Property(NamedTuple):
    """A name, what it says, and for safety how a step is judged (None: coverage)."""

    name: str
    says: str
    holds: Holds | None


def _one_lease(_before: State, step: Step) -> bool:
    after = step.after
    return all(
        (symbol.holder is None or after.is_alive(symbol.holder))
        and symbol.tenure == symbol.holder
        and (symbol.fence_holder, symbol.fence_epoch) == (symbol.holder, symbol.epoch)
        for symbol in after.symbols
    )


def _epochs_rise(before: State, step: Step) -> bool:
    return step.action is not GRANT or step.after.symbols[step.symbol].epoch > before.symbols[step.symbol].newest


def _no_overlap(before: State, step: Step) -> bool:
    return step.action is not GRANT or before.symbols[step.symbol].tenure is None


def _fenced(before: State, step: Step) -> bool:
    if step.action is not COMMIT:
        return True
    flight, symbol = before.flight, before.symbols[step.symbol]
    assert flight is not None
    # The incarnation of an open tenure is known; an ended one's is the one that the statement was sent under.
    return flight.epoch == symbol.newest and symbol.tenure in (None, flight.incarnation)


def _in_time(before: State, step: Step) -> bool:
    if step.action is not COMMIT:
        return True
    assert before.flight is not None
    return before.flight.late <= TIMEOUT


def _never_back(before: State, step: Step) -> bool:
    return step.action is not RENEW or (before.nodes[step.node].alive and before.nodes[step.node].left > 0)


def _withdrawn(before: State, step: Step) -> bool:
    if step.action not in (SWEEP, REGISTER):
        return True
    rows = zip(before.symbols, step.after.symbols, strict=True)
    return not any(old.holder is not None and new.holder is None and new.quote for old, new in rows)


PROPERTIES: Final[Mapping[str, Property]] = {
    one.name: one
    for one in (
        Property("I1", "lease, open tenure and fence have one holder, which has not ended", _one_lease),
        Property("I2", "every grant's epoch is higher than all before it, also after a failover", _epochs_rise),
        Property("I3", "no tenure begins while another of its symbol is open", _no_overlap),
        Property("I4", "a quote commits under a tenure, and before any later epoch's grant", _fenced),
        Property("I5", "no quote commits later than its tenure's end plus the transaction timeout", _in_time),
        Property("never-back", "an incarnation that has ended or expired never comes back (§3)", _never_back),
        Property("withdrawn", "the end of a lost holder withdraws its quote in the same commit (§4)", _withdrawn),
        Property("covered", "a symbol is held in the end while some node is healthy (I14, without its seconds)", None),
    )
}  # fmt: skip
SAFETY: Final = tuple(name for name, one in PROPERTIES.items() if one.holds)


def is_healthy(node: Node) -> bool:
    """A node that coverage may count on: it runs, is a member, and nobody has told it to leave."""
    return runs(node) and not node.ending and not node.draining


def must_renew(state: State) -> bool:
    """Whether a node that runs would expire with the next tick: while nothing goes wrong, it renews before."""
    return any(node.up and node.session and node.left == 1 for node in state.nodes)


def is_bad(state: State) -> bool:
    """Whether some symbol has no holder whose lease is in force, though some node is healthy."""
    if not any(map(is_healthy, state.nodes)):
        return False
    for symbol in state.symbols:
        holder = symbol.holder
        if holder is None or not state.is_alive(holder):
            return True
        node = state.nodes[holder.node]
        if not node.left or not node.session:
            return True
    return False
