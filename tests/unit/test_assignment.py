from collections import Counter
from itertools import product
from random import Random
from time import process_time

from hypothesis import given
from hypothesis import strategies as st

from authority.assignment import assign


def moves(before: dict[str, str], after: dict[str, str]) -> int:
    return sum(before.get(symbol) != node for symbol, node in after.items())


def loads(assignment: dict[str, str], members: list[str]) -> list[int]:
    count = Counter(assignment.values())
    return [count[member] for member in members]


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number:05d}" for number in range(count)]


@st.composite
def situations(
    draw: st.DrawFn, symbols_max: int = 60, members_max: int = 8
) -> tuple[list[str], list[str], dict[str, str]]:
    """Symbols, members and any current assignment: with leavers, joiners, new symbols and delisted ones."""
    symbols = names("S", draw(st.integers(0, symbols_max)))
    members = names("node-", draw(st.integers(1, members_max)))
    holders = st.sampled_from([*members, "gone-1", "gone-2"])
    current = draw(st.dictionaries(st.sampled_from([*symbols, "DELISTED"]), holders))
    return symbols, members, current


@given(situations())
def test_every_symbol_has_one_member_and_loads_differ_by_one_at_most(
    situation: tuple[list[str], list[str], dict[str, str]],
) -> None:
    symbols, members, current = situation
    after = assign(symbols, members, current)
    assert sorted(after) == symbols
    assert set(after.values()) <= set(members)
    assert max(loads(after, members)) - min(loads(after, members)) <= 1


@given(situations())
def test_the_moves_are_those_of_the_closed_form(
    situation: tuple[list[str], list[str], dict[str, str]],
) -> None:
    symbols, members, current = situation
    base, larger = divmod(len(symbols), len(members))
    held = Counter(current[symbol] for symbol in symbols if current.get(symbol) in members)
    kept = sum(min(held[member], base) for member in members)
    kept += min(larger, sum(held[member] > base for member in members))
    assert moves(current, assign(symbols, members, current)) == len(symbols) - kept


@given(situations(symbols_max=6, members_max=4))
def test_no_balanced_assignment_moves_fewer(situation: tuple[list[str], list[str], dict[str, str]]) -> None:
    symbols, members, current = situation
    fewest = min(
        moves(current, candidate)
        for choice in product(members, repeat=len(symbols))
        if (candidate := dict(zip(symbols, choice, strict=True))) is not None
        and max(loads(candidate, members)) - min(loads(candidate, members)) <= 1
    )
    assert moves(current, assign(symbols, members, current)) == fewest


@given(situations(), st.randoms(use_true_random=False))
def test_the_order_in_which_things_are_named_does_not_matter(
    situation: tuple[list[str], list[str], dict[str, str]], shuffler: Random
) -> None:
    symbols, members, current = situation
    expected = assign(symbols, members, current)
    items = list(current.items())
    for shuffled in (symbols, members, items):
        shuffler.shuffle(shuffled)
    assert assign(symbols, members, dict(items)) == expected


@given(situations())
def test_assigning_again_changes_nothing(situation: tuple[list[str], list[str], dict[str, str]]) -> None:
    symbols, members, current = situation
    after = assign(symbols, members, current)
    assert assign(symbols, members, after) == after


@given(symbols=st.integers(0, 200), members=st.integers(2, 12), leaver=st.integers(0, 11))
def test_a_leaver_moves_its_own_symbols_only(symbols: int, members: int, leaver: int) -> None:
    nodes = names("node-", members)
    before = assign(names("S", symbols), nodes, {})
    gone = nodes[leaver % members]
    after = assign(before, [node for node in nodes if node != gone], before)
    assert {symbol for symbol in before if before[symbol] != after[symbol]} == {
        symbol for symbol in before if before[symbol] == gone
    }


@given(symbols=st.integers(0, 200), members=st.integers(1, 12))
def test_a_joiner_takes_its_share_and_nothing_else_moves(symbols: int, members: int) -> None:
    nodes = names("node-", members)
    before = assign(names("S", symbols), nodes, {})
    after = assign(before, [*nodes, "joiner"], before)
    moved = [symbol for symbol in before if before[symbol] != after[symbol]]
    assert len(moved) == symbols // (members + 1)
    assert all(after[symbol] == "joiner" for symbol in moved)


def test_without_members_nothing_is_assigned() -> None:
    assert assign(["ALFA"], [], {"ALFA": "node-1"}) == {}


def test_a_leavers_symbols_are_spread_over_all_who_stay() -> None:
    nodes = names("node-", 5)
    before = assign(names("S", 100), nodes, {})
    after = assign(before, nodes[:4], before)
    moved_to = Counter(after[symbol] for symbol in before if before[symbol] == nodes[4])
    assert sorted(moved_to.values()) == [5, 5, 5, 5]


def test_ten_thousand_symbols_on_fifty_nodes_are_assigned_at_once() -> None:
    symbols, nodes = names("S", 10_000), names("node-", 50)
    before = assign(symbols, nodes, {})
    started = process_time()
    after = assign(symbols, nodes[1:], before)
    assert process_time() - started < 0.5  # measured 0.007 s: a quadratic way would take seconds
    assert moves(before, after) == 200


def test_a_golden_assignment_stays_what_it_is() -> None:
    current = {"S00000": "a", "S00001": "a", "S00002": "a", "S00003": "b", "S00004": "gone"}
    assert assign(names("S", 7), ["a", "b", "c"], current) == {
        "S00000": "a",
        "S00001": "a",
        "S00002": "a",
        "S00003": "b",
        "S00004": "b",
        "S00005": "c",
        "S00006": "c",
    }
