"""Histories of leases, quotes and the kill switch: right ones are passed, and each planted violation is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chaos.history.facts import Facts, Tenure, Toggle, Version
from chaos.history.leases import check_leases
from chaos.history.operations import UNFLUSHED_NS, History, Operation
from tests.bench.history import made_up

A, B = "aaaaaaaa", "bbbbbbbb"


def op(op: str, at: tuple[int, int | None], given: dict[str, Any], output: dict[str, Any] | None) -> Operation:
    return Operation("node", op, at[0], at[1], given, output)


def acquire(at: tuple[int, int | None], who: str, epoch: int | None, outcome: str = "granted") -> Operation:
    output = None if at[1] is None else {"grants": [["X", epoch, outcome]]}
    return op("acquire", at, {"incarnation": who, "symbols": ["X"]}, output)


def replace(at: tuple[int, int | None], who: str, epoch: int, outcome: str | int | None) -> Operation:
    """`outcome` is the accepted version, or why it was refused."""
    told = ["X", "accepted", outcome] if isinstance(outcome, int) else ["X", outcome, None]
    output = None if at[1] is None else {"outcomes": [told]}
    return op("replace", at, {"incarnation": who, "epochs": {"X": epoch}}, output)


def release(at: tuple[int, int], who: str) -> Operation:
    return op("release", at, {"incarnation": who, "symbols": ["X"]}, {"released": ["X"]})


def toggle(at: tuple[int, int | None], enabled: bool, before: bool, reason: str) -> Operation:
    answer = {"symbol": "X", "before": before, "after": enabled}
    output = None if at[1] is None else {"status": 200, "answer": answer}
    return op("toggle", at, {"symbol": "X", "enabled": enabled, "reason": reason}, output)


def renew(at: tuple[int, int], who: str, alive: bool) -> Operation:
    return op("renew", at, {"incarnation": who}, {"alive": alive})


def register(at: tuple[int, int], who: str, serial: int, node: str = "n") -> Operation:
    return op("register", at, {"node": node}, {"incarnation": who, "serial": serial})


def tenure(epoch: int, who: str, reason: str | None = None) -> Tenure:
    return Tenure("X", epoch, who, "n", reason, 100 + epoch)


def version(number: int, epoch: int, who: str, withdrawn: str | None = None, xid: int = 0) -> Version:
    return Version("X", number, epoch, who, 0, withdrawn, None, None, xid or 200 + number)


def told(*operations: Operation, facts: Facts | None = None) -> list[str]:
    """What is found, each in one line."""
    found = check_leases(History(sorted(operations, key=lambda one: one.invoked)), facts)
    assert found.ok == (not found.violations)
    return [" | ".join((one.what, *one.lines)) for one in found.violations]


HANDED_OVER = (
    acquire((10, 20), A, 1),
    replace((30, 40), A, 1, 1),
    replace((50, 60), A, 1, 2),
    release((70, 80), A),
    acquire((75, 90), B, 2),
    replace((100, 110), B, 2, 3),
    replace((105, 120), A, 1, "stale_epoch"),
)


@pytest.mark.parametrize("seed", range(5))
def test_what_a_sequential_market_did_is_linearizable(seed: int) -> None:
    history, facts = made_up(3000, seed)
    found = check_leases(history, facts)
    assert found.ok, found.violations[0]
    assert found.counts["grants"] > 20
    assert found.counts["quotes"] > 300
    assert found.counts["refusals"] > 20
    assert found.counts["releases"] > 10
    assert found.counts["toggles"] > 5
    assert check_leases(history).ok, "without the tables too"


def test_a_handover_is_linearizable_with_the_tables_and_without() -> None:
    assert told(*HANDED_OVER) == []
    facts = Facts(
        tenures=[tenure(1, A, "released"), tenure(2, B)],
        versions=[version(1, 1, A), version(2, 1, A), version(3, 2, B)],
    )
    assert told(*HANDED_OVER, facts=facts) == []


def test_a_stale_epoch_accepted_after_the_successors_grant_returned_is_found() -> None:
    found = told(*HANDED_OVER, replace((130, 140), A, 1, 4))
    assert len(found) == 1
    assert "no order agrees" in found[0]
    late = told(acquire((10, 20), A, 1), acquire((30, 40), B, 2), replace((50, 60), A, 1, 1))
    assert "granted to bbbbbbbb under epoch 2" in late[0]
    assert "had returned before" in late[0]
    # The same while the grant was still on its way is right.
    assert told(acquire((10, 20), A, 1), acquire((30, 70), B, 2), replace((50, 60), A, 1, 1)) == []


def test_two_holders_are_found() -> None:
    assert "granted twice" in told(acquire((10, 20), A, 1), acquire((30, 40), B, 1))[0]
    facts = Facts(tenures=[tenure(1, B)])
    assert "the grant of epoch 1 is bbbbbbbb's" in told(acquire((10, 20), A, 1), facts=facts)[0]
    others = told(acquire((10, 20), A, 1), replace((30, 40), B, 1, 1))
    assert "had the right of epoch 1, which is aaaaaaaa's" in others[0]


def test_a_version_that_went_back_is_found() -> None:
    found = told(acquire((10, 20), A, 1), replace((30, 40), A, 1, 2), replace((50, 60), A, 1, 1))
    assert "quote versions rise" in found[0]
    assert told(acquire((10, 20), A, 1), replace((30, 55), A, 1, 2), replace((50, 60), A, 1, 1)) == []


def test_one_version_for_two_quotes_is_found() -> None:
    found = told(acquire((10, 20), A, 1), replace((30, 40), A, 1, 1), replace((50, 60), A, 1, 1))
    assert "two quotes were accepted as version 1" in found[0]


def test_epochs_against_time_are_found() -> None:
    assert "epochs rise" in told(acquire((10, 20), A, 2), acquire((30, 40), B, 1))[0]


def test_a_quote_accepted_after_its_release_returned_is_found() -> None:
    history = (acquire((10, 20), A, 1), release((30, 40), A), replace((50, 60), A, 1, 1))
    assert "epoch 1 ended" in told(*history)[0]
    # What was named and not released is its holder's still.
    some = op("release", (30, 40), {"incarnation": A, "symbols": ["X", "Y"]}, {"released": ["Y"]})
    assert told(history[0], some, history[2]) == []


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        (replace((25, 28), A, 1, "stale_epoch"), "a later epoch had been granted"),
        (replace((55, 58), A, 1, "not_holder"), "no later epoch been granted"),
        (replace((55, 58), A, 1, "expired"), "judged under an epoch while that lasts"),
        (acquire((55, 58), A, 1, "held"), "the last that was granted"),
        (acquire((25, 28), B, 2, "held"), "the last that was granted"),
    ],
)
def test_a_refusal_at_a_time_when_it_was_wrong_is_found(refused: Operation, why: str) -> None:
    found = told(acquire((10, 20), A, 1), acquire((30, 50), B, 2), refused)
    assert len(found) == 1
    assert why in found[0]


@pytest.mark.parametrize(
    "refused",
    [
        replace((45, 58), A, 1, "stale_epoch"),
        replace((45, 58), A, 1, "not_holder"),
        replace((45, 58), A, 1, "expired"),
        replace((45, 58), A, 1, "crossed"),
        acquire((45, 58), A, 1, "held"),
        acquire((45, 58), A, 2, "held"),
        acquire((1, 5), A, 0, "not_assigned"),
    ],
)
def test_a_refusal_at_a_time_when_it_may_have_been_right_is_passed(refused: Operation) -> None:
    assert told(acquire((10, 20), A, 1), acquire((30, 50), B, 2), refused) == []


def test_a_holder_that_was_refused_as_none_and_then_accepted_is_found() -> None:
    history = (acquire((10, 20), A, 1), replace((30, 40), A, 1, "not_holder"))
    assert told(*history) == [], "the tenure may have ended"
    assert "not_holder says that the tenure had ended" in told(*history, replace((50, 60), A, 1, 1))[0]


def test_an_unknown_grant_may_have_happened_or_not() -> None:
    unknown = acquire((10, None), A, None)
    assert told(unknown) == []
    assert told(unknown, replace((30, 40), A, 1, 1)) == []
    assert told(unknown, acquire((30, 40), B, 2)) == []
    # The tables say that it happened: then not before it was sent.
    facts = Facts(tenures=[tenure(1, A, "expired"), tenure(2, B)])
    assert told(unknown, acquire((30, 40), B, 2), facts=facts) == []
    found = told(acquire((50, None), A, None), acquire((30, 40), B, 2), facts=facts)
    assert "epoch 1, by the tables" in found[0]


def test_what_nobody_asked_for_is_found() -> None:
    facts = Facts(tenures=[tenure(1, A)], versions=[version(1, 1, A)])
    assert told(facts=facts) == [], "of an incarnation whose recording is not there nothing is known"
    found = told(register((1, 5), A, 1), facts=facts)
    assert "who never asked for it" in found[0]
    assert "who never sent it" in found[1]
    asked = (acquire((10, None), A, None), replace((30, None), A, 1, None))
    assert told(register((1, 5), A, 1), *asked, facts=facts) == []


def test_an_acknowledged_quote_that_the_tables_lack_is_found_unless_the_database_crashed_upon_it() -> None:
    facts = Facts(tenures=[tenure(1, A)], dropped={"X": 1})
    history = [acquire((10, 20), A, 1), replace((30, 40), A, 1, 1), replace((50, 60), A, 1, 2)]
    found = told(*history, facts=facts)
    assert len(found) == 1, "version 1 may have been dropped"
    assert "quote 2 was accepted and is missing" in found[0]
    soon, late = 60 + UNFLUSHED_NS // 2, 60 + 2 * UNFLUSHED_NS
    assert told(*history, op("database_lost", (soon, soon + 5), {}, {}), facts=facts) == []
    assert told(*history, op("database_lost", (late, late + 5), {}, {}), facts=facts) == found
    facts.versions.append(version(2, 1, B))
    assert "quote 2 was accepted and is bbbbbbbb's under epoch 1" in told(*history, facts=facts)[0]


def test_a_release_that_the_tables_lack_is_found() -> None:
    facts = Facts(tenures=[tenure(1, A, "session_lost")])
    assert "was released, and has not ended so" in told(acquire((10, 20), A, 1), release((30, 40), A), facts=facts)[0]


@pytest.mark.parametrize(
    "back",
    [renew((50, 60), A, True), acquire((50, 60), A, 2), replace((50, 60), A, 1, 1)],
    ids=["renewed", "granted", "quoted"],
)
@pytest.mark.parametrize(
    "over",
    [
        (renew((30, 40), A, False),),
        (op("sweep", (30, 40), {}, {"incarnation": A, "reason": "expired", "done": False}),),
        (op("leave", (30, 40), {"incarnation": A}, {"released": 0, "done": True}),),
        (register((5, 8), A, 1), register((30, 40), B, 2)),
    ],
    ids=["told so", "swept", "left", "succeeded"],
)
def test_an_incarnation_that_comes_back_is_found(over: tuple[Operation, ...], back: Operation) -> None:
    found = told(acquire((10, 20), A, 1), *over, back)
    assert [one for one in found if "incarnations" in one], found
    at_once = Operation(back.process, back.op, 35, 60, back.input, back.output)
    assert told(acquire((10, 20), A, 1), *over, at_once) == []


ON_AND_OFF = Facts(
    tenures=[tenure(1, A)],
    versions=[version(1, 1, A), version(2, 1, A, "quoting_disabled", xid=900), version(3, 1, A)],
    toggles=[Toggle("X", 1, True, False, "t1", 900), Toggle("X", 2, False, True, "t2", 901)],
)
SWITCHED = (
    acquire((10, 20), A, 1),
    replace((30, 40), A, 1, 1),
    toggle((50, 60), False, True, "t1"),
    replace((70, 80), A, 1, "quoting_disabled"),
    toggle((90, 100), True, False, "t2"),
    replace((110, 120), A, 1, 3),
)


def test_the_kill_switch_is_linearizable() -> None:
    assert told(*SWITCHED, facts=ON_AND_OFF) == []


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (lambda ops: [*ops[:5], replace((85, 88), A, 1, 3)], "quoting was off all the while"),
        (lambda ops: [*ops, replace((130, 140), A, 1, "quoting_disabled")], "quoting was on all the while"),
        (lambda ops: [*ops, replace((42, 44), A, 1, "quoting_disabled")], "quoting was on all the while"),
        (lambda ops: [*ops, toggle((130, 140), False, True, "t3")], "has no audit row"),
        (lambda ops: [*ops[:4], toggle((90, 100), True, True, "t2"), ops[5]], "the audit says False -> True"),
    ],
    ids=["quoted while off", "refused while on", "refused before it was off", "lost", "answered wrongly"],
)
def test_what_contradicts_the_kill_switch_is_found(
    changed: Callable[[list[Operation]], list[Operation]], why: str
) -> None:
    found = told(*changed(list(SWITCHED)), facts=ON_AND_OFF)
    assert [one for one in found if why in one], found


def test_toggles_against_time_are_found() -> None:
    swapped = (*SWITCHED[:2], toggle((90, 100), False, True, "t1"), toggle((50, 60), True, False, "t2"))
    assert "the audit rows are in this order" in told(*swapped, facts=ON_AND_OFF)[0]


def test_a_lost_toggle_is_found() -> None:
    toggles = [Toggle("X", 1, True, False, "", 900), Toggle("X", 2, True, True, "", 901)]
    assert told(facts=Facts(toggles=toggles)) == ["X: audit 2 does not go on from audit 1"]
