"""Explicit-state model checking: every reachable state is visited once, breadth first, so that a counter-example is a
shortest one.

Safety: each step is judged as it is found. Coverage (liveness): see `uncovered`.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from model.properties import PROPERTIES, SAFETY, Property, is_bad, must_renew
from model.protocol import ACTIONS, TICK, Action, Protocol, Step
from model.state import State, canonical, initial

STATES_MAX: Final = 2_000_000  # about 2 GB: a bound on memory, and no result when it is met
TOLD_EVERY_S: Final = 5.0

Told = Callable[[str], None]


class TooManyStates(Exception):
    """The bound on states was met before all had been visited: nothing is known."""


@dataclass(slots=True)
class Trace:
    """A counter-example: the state it starts from and its steps, with the real names and epochs."""

    broken: str
    start: State
    steps: list[Step]
    then: str = ""


@dataclass(slots=True)
class Result:
    """What was looked at, and the first property that was found broken, if any."""

    states: int = 0
    steps: int = 0
    depth: int = 0
    seconds: float = 0.0
    done: dict[str, int] = field(default_factory=dict)  # how often each action was a step
    trace: Trace | None = None


class Exploration:
    """All reachable states of a protocol, by number in the order in which they were found."""

    def __init__(self, protocol: Protocol, nodes: int, symbols: int, *, states_max: int = STATES_MAX) -> None:
        self.protocol = protocol
        self.start = initial(nodes, symbols)
        self.states: list[State] = []
        self._number: dict[State, int] = {}
        self._parents = array("l")
        self._quiet: list[list[tuple[Action, int]]] = []
        self._states_max = states_max

    def run(self, properties: Iterable[str] = SAFETY, told: Told | None = None) -> Result:
        """Visit every state, or stop at the first step that breaks one of the properties. Raises TooManyStates."""
        judged = [PROPERTIES[name] for name in properties]
        result, began_at = Result(), time.perf_counter()
        told_at = began_at
        self._visit(canonical(self.start), -1)
        level_end, n = 1, 0
        while n < len(self.states):
            if n == level_end:
                result.depth, level_end = result.depth + 1, len(self.states)
            if told and time.perf_counter() > told_at + TOLD_EVERY_S:
                told_at = time.perf_counter()
                told(f"{len(self.states):,} states found, {n:,} looked at, {result.steps:,} steps")
            broken = self._expand(n, judged, result)
            if broken is not None:
                result.trace = self._trace(broken[0], n, broken[1])
                break
            n += 1
        result.states, result.seconds = len(self.states), time.perf_counter() - began_at
        return result

    def _expand(self, n: int, judged: Sequence[Property], result: Result) -> tuple[str, Step] | None:
        state = self.states[n]
        quiet: list[tuple[Action, int]] = []
        for step in self.protocol.steps(state):
            for one in judged:
                if one.holds is not None and not one.holds(state, step):
                    return one.name, step
            if step.after == state:
                continue
            result.steps += 1
            result.done[step.action.title] = result.done.get(step.action.title, 0) + 1
            after = self._visit(canonical(self.protocol.settled(step.after)), n)
            if step.action.fair and after != n and not (step.action is TICK and must_renew(state)):
                quiet.append((step.action, after))
        self._quiet.append(quiet if is_bad(state) else [])
        return None

    def _visit(self, state: State, parent: int) -> int:
        number = self._number.get(state)
        if number is not None:
            return number
        if len(self.states) >= self._states_max:
            raise TooManyStates(
                f"more than {self._states_max:,} states: raise --states-max, or take fewer nodes or symbols"
            )
        self._number[state] = len(self.states)
        self.states.append(state)
        self._parents.append(parent)
        return len(self.states) - 1

    def quiet_steps(self, n: int) -> list[tuple[Action, int]]:
        """From a bad state, the steps while nothing goes wrong any more, and the number of the state each leads to."""
        return self._quiet[n]

    def path(self, n: int) -> list[Step]:
        """The steps that lead to a state from the start, replayed: each node keeps its name, each epoch its number."""
        numbers = [n]
        while self._parents[numbers[-1]] >= 0:
            numbers.append(self._parents[numbers[-1]])
        state, steps = self.start, []
        for number in reversed(numbers[:-1]):
            step = next(
                step
                for step in self.protocol.steps(state)
                if canonical(self.protocol.settled(step.after)) == self.states[number]
            )
            steps.append(step)
            state = self.protocol.settled(step.after)
        return steps

    def _trace(self, broken: str, n: int, last: Step) -> Trace:
        steps = self.path(n)
        holds = PROPERTIES[broken].holds
        assert holds is not None
        state = self.protocol.settled(steps[-1].after) if steps else self.start
        found = next(
            step for step in self.protocol.steps(state) if step.action is last.action and not holds(state, step)
        )
        return Trace(broken, self.start, [*steps, found])


def uncovered(exploration: Exploration, told: Told | None = None) -> Trace | None:
    """A way for ever round states in which some symbol is unheld and some node healthy, or None: then coverage holds.

    From some moment on nothing more goes wrong and nobody gives orders (steps that are not fair do not happen any
    more): who keeps breaking things can keep anything from being done. Fairness is weak: what can be done all the time,
    by whoever, is done some time; what is possible only now and then need never happen. And a node that runs renews in
    time: the clock does not tick on beyond its expires_at. How quick it is in all else is left open.

    1. take the states that are bad, and the fair steps between them
    2. find their strongly connected components: who stays bad for ever ends up going round in one (or standing in one)
    3. in one that is really stayed in, every action that is possible in all of its states is taken within it. One of
       which that is true is a counter-example.
    A step in the reduced graph stands for its images under renaming, and "some symbol" may be one and then the other:
    that makes more runs count as bad, never fewer.
    """
    bad = [n for n, state in enumerate(exploration.states) if is_bad(state)]
    if told:
        told(f"{len(bad):,} of {len(exploration.states):,} states have an unheld symbol and a healthy node")
    is_in = frozenset(bad)
    possible: dict[int, frozenset[Action]] = {}
    inner: dict[int, list[tuple[Action, int]]] = {}
    for n in bad:
        steps = exploration.quiet_steps(n)
        possible[n] = frozenset(action for action, _after in steps)
        inner[n] = [(action, after) for action, after in steps if after in is_in]
    for component in components({n: [after for _action, after in inner[n]] for n in bad}):
        members = frozenset(component)
        always = frozenset.intersection(*(possible[n] for n in component))
        taken = {action for n in component for action, after in inner[n] if after in members}
        if always <= taken:
            first = min(component)
            still = ", ".join(sorted(action.title for action in taken)) or "nothing"
            then = f"and so it stays: all that still happens is {still}"
            return Trace("covered", exploration.start, exploration.path(first), then)
    return None


def components(graph: Mapping[int, Sequence[int]]) -> Iterator[list[int]]:
    """The strongly connected components of a graph (Tarjan 1972), without recursion."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    for root in graph:
        if root in index:
            continue
        work = [(root, iter(graph[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            n, after = work[-1]
            for m in after:
                if m not in index:
                    index[m] = low[m] = len(index)
                    stack.append(m)
                    on_stack.add(m)
                    work.append((m, iter(graph[m])))
                    break
                if m in on_stack:
                    low[n] = min(low[n], index[m])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[n])
                if low[n] == index[n]:
                    component: list[int] = []
                    while not component or component[-1] != n:
                        component.append(stack.pop())
                        on_stack.discard(component[-1])
                    yield component


def never_done(result: Result, protocol: Protocol) -> list[str]:
    """Actions of the protocol that were never a step: a model in which they can't happen proves nothing about them."""
    return [action.title for action in ACTIONS if action.title not in result.done and protocol.has(action)]
