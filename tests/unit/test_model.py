"""The model of the lease protocol: checked in full, its traps found, and linked to the SQL that it is a model of."""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path

import pytest

from authority.assignment import assign
from model.__main__ import check, fall_into, main
from model.checker import Exploration, TooManyStates, components
from model.properties import SAFETY
from model.protocol import ACTIONS, Protocol, Rules, balanced, conflicts
from model.state import Incarnation, State, canonical, initial
from model.traps import TRAPS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/model.md").read_text(encoding="utf-8")
STATES_MAX = 100_000
# Changes membership, leases, the assignment or the fence.
CHANGES_RIGHTS = re.compile(
    r"(INSERT INTO|UPDATE) authority_(node|incarnation|lease|tenure|assignment|rebalance)\b"
    r"|SET\s+(epoch = [^;]*)?holder = "
)


def current_functions() -> dict[str, str]:
    """The newest version of each SQL function of authority and exchange, and its text."""
    newest: dict[str, tuple[int, Path]] = {}
    for path in (*ROOT.glob("authority/sql/*.sql"), *ROOT.glob("exchange/sql/*.sql")):
        name, _, version = path.stem.rpartition("_v")
        newest[name] = max(newest.get(name, (0, path)), (int(version), path))
    return {path.stem: path.read_text(encoding="utf-8") for _version, path in newest.values()}


def every_state(protocol: Protocol, nodes: int, symbols: int) -> list[State]:
    exploration = Exploration(protocol, nodes, symbols, states_max=STATES_MAX)
    assert exploration.run(SAFETY).trace is None
    return exploration.states


@pytest.mark.timeout(600)  # 50 s of a core
@pytest.mark.parametrize("part", ["safety", "coverage"])
def test_every_state_of_three_nodes_and_two_symbols_is_right(part: str) -> None:
    answer = check(part, nodes=3, symbols=2, states_max=STATES_MAX)
    assert answer["trace"] == []
    assert answer["holds"]
    assert answer["never_done"] == []
    assert f"| {part} | {answer['states']:,} | {answer['steps']:,} | {answer['depth']} |" in PAGE


@pytest.mark.parametrize("name", TRAPS)
def test_each_trap_is_found_and_told_step_by_step(name: str) -> None:
    answer = fall_into(TRAPS[name], STATES_MAX)
    assert answer["found"]
    assert answer["trace"][-1].strip().startswith(f"{TRAPS[name].breaks} is broken")
    assert re.search(rf"\| `{name}` \|.*\| {answer['breaks']} \| {answer['trace_steps']} \|", PAGE)


@pytest.mark.parametrize("name", TRAPS)
def test_a_trap_is_a_rule_decided_otherwise(name: str) -> None:
    assert TRAPS[name].rules != Rules()


@pytest.mark.timeout(600)  # 20 s of a core, which a busy machine shares
def test_leaving_out_what_makes_no_difference_leaves_out_nothing_else() -> None:
    reduced = Protocol()
    full = every_state(Protocol(reduced=False), 2, 1)
    assert {canonical(reduced.settled(state)) for state in full} == set(every_state(reduced, 2, 1))


def under_other_names(state: State) -> State:
    """The same with its two nodes and its two symbols called by each other's name."""

    def of(incarnation: Incarnation | None) -> Incarnation | None:
        return incarnation and Incarnation(1 - incarnation.node, incarnation.serial)

    rows = tuple(
        row._replace(holder=of(row.holder), fence_holder=of(row.fence_holder), tenure=of(row.tenure))
        for row in state.symbols
    )
    return state._replace(
        nodes=state.nodes[::-1],
        symbols=rows[::-1],
        flight=state.flight
        and state.flight._replace(
            incarnation=Incarnation(1 - state.flight.incarnation.node, state.flight.incarnation.serial),
            symbol=1 - state.flight.symbol,
        ),
        grant=state.grant
        and state.grant._replace(
            incarnation=Incarnation(1 - state.grant.incarnation.node, state.grant.incarnation.serial),
            symbol=1 - state.grant.symbol,
        ),
    )


def test_a_state_is_the_same_whatever_its_nodes_and_symbols_are_called() -> None:
    for state in every_state(Protocol(), 2, 2):
        assert canonical(state) == canonical(under_other_names(state)) == state


def test_every_action_names_sql_functions_in_their_current_version() -> None:
    named = {name for action in ACTIONS for name in action.sql}
    assert named <= set(current_functions())
    applied = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("*/migrations/*.py"))
    for name in named:
        assert f'sql_function("{name}"' in applied or f'"{name}"' in applied
        assert f'drop_function("{name}")' not in applied


def test_every_function_that_changes_leases_or_membership_is_an_actions() -> None:
    named = {name for action in ACTIONS for name in action.sql}
    changing = {name for name, text in current_functions().items() if CHANGES_RIGHTS.search(text)}
    assert {"authority_acquire_v3", "exchange_raise_fence_v1", "exchange_drop_fence_v1"} <= changing
    assert changing <= named


def test_row_locks_conflict_as_in_postgresql() -> None:
    """Table 13.3 of its manual, with a row that says that no lock is taken."""
    modes = ("none", "key share", "share", "no key update", "update")
    table = ("00000", "00001", "00011", "00111", "01111")
    assert [[conflicts(a, b) for b in modes] for a in modes] == [[cell == "1" for cell in row] for row in table]


def test_the_products_assignment_is_one_of_the_models() -> None:
    for members in ([0], [0, 1], [1, 2], [0, 1, 2]):
        for now in product((-1, 0, 1, 2), repeat=2):
            current = {f"S{s}": str(n) for s, n in enumerate(now) if n >= 0}
            wanted = assign(["S0", "S1"], [str(n) for n in members], current)
            assert [int(wanted["S0"]), int(wanted["S1"])] in balanced(list(now), members)


def test_components_are_the_largest_sets_that_reach_each_other() -> None:
    graph = {0: [1], 1: [2], 2: [1, 3], 3: [3], 4: [0, 5], 5: [4]}
    assert sorted(sorted(one) for one in components(graph)) == [[0], [1, 2], [3], [4, 5]]


def test_a_bound_that_is_met_is_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TooManyStates):
        Exploration(Protocol(), 2, 1, states_max=10).run()
    assert main(["--only", "safety", "--states-max", "10"]) == 2
    assert "raise --states-max" in capsys.readouterr().err


def test_the_command_answers_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--nodes", "1", "--symbols", "1", "--only", "safety", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"]
    assert [one["part"] for one in answer["checked"]] == ["safety"]


def test_the_start_is_nobody_holding_anything() -> None:
    assert all(symbol.holder is None for symbol in initial(3, 2).symbols)
