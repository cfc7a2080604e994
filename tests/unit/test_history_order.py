"""An order of operations is refused exactly when no sequence agrees with the answers and with time."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.history.order import REAL_TIME, Order

Interval = tuple[int | None, int | None]
Edges = list[tuple[int, int]]


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Interval], Edges]:
    """Up to five operations, some without a known beginning or end, and what must come before what."""
    count = draw(st.integers(1, 5))
    intervals: list[Interval] = []
    for _ in range(count):
        begin = draw(st.integers(0, 8))
        end = begin + draw(st.integers(0, 4))
        intervals.append((draw(st.sampled_from([begin, begin, None])), draw(st.sampled_from([end, end, None]))))
    node = st.integers(0, count - 1)
    return intervals, [edge for edge in draw(st.lists(st.tuples(node, node), max_size=6)) if edge[0] != edge[1]]


def can_be_sequenced(intervals: list[Interval], edges: Edges) -> bool:
    def agrees(sequence: tuple[int, ...]) -> bool:
        place = {node: k for k, node in enumerate(sequence)}
        if any(place[first] > place[second] for first, second in edges):
            return False
        for first, second in permutations(sequence, 2):
            returned, invoked = intervals[first][1], intervals[second][0]
            if returned is not None and invoked is not None and returned < invoked and place[first] > place[second]:
                return False
        return True

    return any(agrees(sequence) for sequence in permutations(range(len(intervals))))


@settings(max_examples=400, deadline=None)
@given(problems())
def test_it_has_a_cycle_exactly_when_no_sequence_of_the_operations_agrees(
    problem: tuple[list[Interval], Edges],
) -> None:
    intervals, edges = problem
    order = Order()
    for node, (invoked, returned) in enumerate(intervals):
        order.add(f"op {node}", invoked, returned)
    for first, second in edges:
        order.edge(first, second, "told")
    count, cycles = order.cycles()
    assert (count == 0) == can_be_sequenced(intervals, edges)
    for cycle in cycles:
        nodes = [int(str(what).removeprefix("op ")) for what in cycle.whats]
        for (first, second), why in zip(zip(nodes, nodes[1:] + nodes[:1], strict=True), cycle.why, strict=True):
            if why == REAL_TIME:
                returned, invoked = intervals[first][1], intervals[second][0]
                assert returned is not None and invoked is not None and returned < invoked  # noqa: PT018
            else:
                assert (first, second) in edges


def test_the_shortest_cycle_is_the_one_that_is_told() -> None:
    order = Order()
    nodes = [order.add(f"op {number}") for number in range(50)]
    for first, second in zip(nodes, nodes[1:] + nodes[:1], strict=True):
        order.edge(first, second, "next")
    order.edge(nodes[8], nodes[6], "back")
    count, cycles = order.cycles()
    assert count == 1
    assert cycles[0].whats == ("op 6", "op 7", "op 8")
    assert cycles[0].why == ("next", "next", "back")


def test_contradictions_that_share_nothing_are_told_apart() -> None:
    order = Order()
    for moment in (0, 100):
        late = order.add(f"late {moment}", moment + 50, moment + 60)
        early = order.add(f"early {moment}", moment + 10, moment + 20)
        order.edge(late, early, "told")
    count, cycles = order.cycles()
    assert count == 2
    assert {cycle.whats for cycle in cycles} == {("late 0", "early 0"), ("late 100", "early 100")}


def test_a_node_comes_after_all_that_it_comes_after() -> None:
    order = Order()
    nodes = [order.add(number) for number in range(6)]
    edges = [(5, 0), (0, 3), (3, 1), (4, 2), (5, 2)]
    for first, second in edges:
        order.edge(nodes[first], nodes[second], "")
    place = {node: k for k, node in enumerate(order.sorted())}
    assert all(place[first] < place[second] for first, second in edges)
