"""A counter-example in words: what each step did, who did it, and what it changed."""

from __future__ import annotations

from collections.abc import Iterator

from model.checker import Trace
from model.properties import PROPERTIES
from model.protocol import CRASH, SWEEP, Protocol, Step
from model.state import NOBODY, Incarnation, Node, State

SYMBOLS = ("ALFA", "BRAVO", "CHARLIE")


def show(trace: Trace, protocol: Protocol) -> Iterator[str]:
    """Lines: each step with its SQL function, then what changed, then what is broken."""
    state = trace.start
    for number, step in enumerate(trace.steps, 1):
        # The last step is what breaks the property: shown as it is. The others as the search goes on from them.
        is_last = number == len(trace.steps) and not trace.then
        after = step.after if is_last else protocol.settled(step.after)
        yield f"{number:3}  {_who(step):9}  {step.action.title}"
        for change in changes(state, after):
            yield f"{'':16}{change}"
        state = after
    if trace.then:
        yield f"     {trace.then}"
    yield f"     {trace.broken} is broken: {PROPERTIES[trace.broken].says}"


def _who(step: Step) -> str:
    node = "" if step.node == NOBODY or step.action is CRASH else f"n{step.node + 1}"
    if step.action is SWEEP:
        node = f"({node})"  # whom it happens to: anyone may have called it
    return f"{node} {SYMBOLS[step.symbol] if step.symbol != NOBODY else ''}".strip()


def _name(incarnation: Incarnation | None) -> str:
    return "nobody" if incarnation is None else f"n{incarnation.node + 1}/{incarnation.serial}"


def _node(n: int, node: Node) -> str:
    process = "" if node.up else ", its process does not run"
    process += ", draining" if node.draining else ""
    process += "" if node.rung else ", hears nothing"
    if not node.alive:
        return f"n{n + 1}: no incarnation{process}"
    left = f"{node.left} ticks left" if node.left else "expired"
    session = "" if node.session or not node.left else ", its session lost"
    ending = f", its end has begun ({node.ending})" if node.ending else ""
    return f"n{n + 1}/{node.serial}: {left}{session}{ending}{process}"


def changes(before: State, after: State) -> Iterator[str]:
    """What is different, a line for each node, symbol and statement."""
    for n, (old, new) in enumerate(zip(before.nodes, after.nodes, strict=True)):
        if old != new:
            yield _node(n, new)
    for s, (was, row) in enumerate(zip(before.symbols, after.symbols, strict=True)):
        said = [
            f"{label} {a} -> {b}"
            for label, a, b in (
                ("lease", f"{_name(was.holder)} epoch {was.epoch}", f"{_name(row.holder)} epoch {row.epoch}"),
                ("fence", _name(was.fence_holder), _name(row.fence_holder)),
                ("fence's epoch", was.fence_epoch, row.fence_epoch),
                ("open tenure", _name(was.tenure), _name(row.tenure)),
                ("live quote", was.quote, row.quote),
                ("assigned to", was.assigned + 1 or "-", row.assigned + 1 or "-"),
            )
            if a != b
        ]  # fmt: skip
        if said:
            yield f"{SYMBOLS[s]}: {'; '.join(said)}"
    flight = after.flight
    if flight and flight != before.flight:
        stage = {
            "sent": "is on its way",
            "waits": "waits for the row",
            "holds": "was judged good, and holds what lock it has",
        }
        yield f"the {flight.kind} of {_name(flight.incarnation)} under epoch {flight.epoch} {stage[flight.stage]}"
    if after.grant and after.grant != before.grant:
        yield f"the grant to {_name(after.grant.incarnation)} was judged good"
