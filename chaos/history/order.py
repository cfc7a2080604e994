"""The one idea behind both checks: what the answers say came first must not contradict what time says came first.

Operations are nodes. An edge a -> b says that a took effect before b. Some edges follow from what was answered (it
made version 6, that one version 7; it read version 6, so it came before 7), the others from real time: a had returned
before b was invoked. The operations can be put in one order that agrees with all of that exactly when there is no
cycle, and a cycle is a proof, small enough to be read, that they can't.

* With each write's place known, as here from versions, epochs and sequences, linearizability of an object is this
  test, and no search: Gibbons and Korach, Testing Shared Memories, SIAM J. Comput. 26(4), 1997 (theorem 4.2's case);
  with unknown places it is NP-complete. It is a local property: objects may be checked one by one (Herlihy and Wing,
  Linearizability, ACM TOPLAS 12(3), 1990).
* With transactions in place of operations, and edges ww, wr and rw from the versions that they wrote and read, it is
  (strict) serializability: Adya, Weak Consistency, MIT 1999 (the direct serialization graph), as Elle does from
  clients' observations: Kingsbury and Alvaro, VLDB 14(3), 2020.

Real time is n^2 edges, but an interval order: a chain of one node per return, in the order of time, stands for all of
them. An operation leads to the node of its own return; the last return before its invocation leads to it. Cycles are
found as strongly connected components: Tarjan, SIAM J. Comput. 1(2), 1972. Everything is linear but the sorting.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

REAL_TIME: Final = "it had returned before the next was invoked"
SHORTEST_WORK_MAX: Final = 2_000_000  # edges looked at in search of the shortest cycle of a component
SHORTEST_STARTS_MAX: Final = 200  # nodes of a component that the search starts from
CYCLES_MAX: Final = 20  # that are reported of one order; every component is counted


@dataclass(frozen=True, slots=True)
class Cycle:
    """Operations that each come before the next one, and the last before the first; `why` says why each does."""

    whats: tuple[Any, ...]
    why: tuple[str, ...]

    def lines(self) -> list[str]:
        """In words, a line per step."""
        return [f"{what}\n      before the next: {why}" for what, why in zip(self.whats, self.why, strict=True)]


class Order:
    """Operations and what is known of their order. `what` is anything whose text names the operation in a report."""

    def __init__(self) -> None:
        self.whats: list[Any] = []
        self.invoked: list[int | None] = []  # None: nobody knows when, so that time orders nothing before it
        self.returned: list[int | None] = []  # None: nothing is after it for time's sake
        self.after: list[list[int]] = []
        self._why: list[list[str]] = []

    def __len__(self) -> int:
        return len(self.whats)

    def add(self, what: Any, invoked: int | None = None, returned: int | None = None) -> int:
        """A node; its number."""
        self.whats.append(what)
        self.invoked.append(invoked)
        self.returned.append(returned)
        self.after.append([])
        self._why.append([])
        return len(self.whats) - 1

    def edge(self, first: int, second: int, why: str) -> None:
        """`first` came before `second`."""
        if first != second:  # one transaction may write a version and the next
            self.after[first].append(second)
            self._why[first].append(why)

    def cycles(self) -> tuple[int, list[Cycle]]:
        """How many components can't be ordered, and the shortest cycle found in each of the first of them."""
        graph, starts = self._with_time()
        contradictory = [one for one in _components(graph) if len(one) > 1]
        return len(contradictory), [self._shortest(graph, set(one), starts) for one in contradictory[:CYCLES_MAX]]

    def _with_time(self) -> tuple[list[list[int]], int]:
        """The edges of answers and of time; nodes from the returned number on are those of time's chain."""
        count = len(self.whats)
        moments = sorted({moment for moment in self.returned if moment is not None})
        place = {moment: count + k for k, moment in enumerate(moments)}
        graph = [list(one) for one in self.after]
        graph += [[count + k + 1] for k in range(len(moments) - 1)]
        if moments:
            graph.append([])
        for node in range(count):
            returned, invoked = self.returned[node], self.invoked[node]
            if returned is not None:
                graph[node].append(place[returned])
            if invoked is not None and (before := bisect_left(moments, invoked)):
                graph[count + before - 1].append(node)
        return graph, count

    def _shortest(self, graph: list[list[int]], members: set[int], chain: int) -> Cycle:
        """An answer that time contradicts by itself, else a shortest cycle through as many members as can be tried.

        Steps along the chain are free.
        """
        for node in sorted(member for member in members if member < chain):
            invoked = self.invoked[node]
            if invoked is None:
                continue
            for following in self.after[node]:
                returned = self.returned[following]
                if returned is not None and returned < invoked:
                    why = self._why[node][self.after[node].index(following)]
                    return Cycle((self.whats[node], self.whats[following]), (why, REAL_TIME))
        edges = sum(len(graph[node]) for node in members)
        starts = [node for node in sorted(members) if node < chain]
        starts = starts[: max(1, min(SHORTEST_STARTS_MAX, SHORTEST_WORK_MAX // max(edges, 1)))]
        best: list[int] | None = None
        for start in starts:
            found = _cycle_through(graph, members, chain, start)
            if best is None or sum(node < chain for node in found) < sum(node < chain for node in best):
                best = found
        assert best is not None, "a component has an operation: the chain alone has no cycle"
        return self._told(best, chain)

    def _told(self, path: list[int], chain: int) -> Cycle:
        nodes = [node for node in path if node < chain]
        why = []
        for k, node in enumerate(path):
            if node >= chain:
                continue
            following = path[(k + 1) % len(path)]
            why.append(REAL_TIME if following >= chain else self._why[node][self.after[node].index(following)])
        return Cycle(tuple(self.whats[node] for node in nodes), tuple(why))

    def sorted(self) -> Iterator[int]:
        """The nodes, each after all that it comes after. Only when there is no cycle."""
        for component in reversed(_components(self.after)):
            yield from component


def _components(graph: list[list[int]]) -> list[list[int]]:
    """Tarjan's strongly connected components, last ones first; without recursion."""
    index = [-1] * len(graph)
    low = [0] * len(graph)
    on_stack = bytearray(len(graph))
    stack: list[int] = []
    found: list[list[int]] = []
    counter = 0
    for root in range(len(graph)):
        if index[root] >= 0:
            continue
        index[root] = low[root] = counter
        counter += 1
        stack.append(root)
        on_stack[root] = 1
        path = [root]
        todo = [iter(graph[root])]
        while path:
            node = path[-1]
            for following in todo[-1]:
                if index[following] < 0:
                    index[following] = low[following] = counter
                    counter += 1
                    stack.append(following)
                    on_stack[following] = 1
                    path.append(following)
                    todo.append(iter(graph[following]))
                    break
                if on_stack[following] and index[following] < low[node]:
                    low[node] = index[following]
            else:
                path.pop()
                todo.pop()
                if path and low[node] < low[path[-1]]:
                    low[path[-1]] = low[node]
                if low[node] == index[node]:
                    component = []
                    while True:
                        member = stack.pop()
                        on_stack[member] = 0
                        component.append(member)
                        if member == node:
                            break
                    found.append(component)
    return found


def _cycle_through(graph: list[list[int]], members: set[int], chain: int, start: int) -> list[int]:
    """The cycle through `start` with the fewest operations: breadth first, where nodes of the chain cost nothing."""
    came: dict[int, int] = {}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        for following in graph[node]:
            if following == start:
                path = [node]
                while path[-1] != start:
                    path.append(came[path[-1]])
                return path[::-1]
            if following in members and following not in came:
                came[following] = node
                if following >= chain:
                    queue.appendleft(following)
                else:
                    queue.append(following)
    raise AssertionError("a strongly connected component has a cycle through each of its nodes")
