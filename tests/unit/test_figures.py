"""The arithmetic of the benchmarks: percentiles, spreads, ratios round by round, goals, and who goes first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.figures import Floor, Goal, Measurement, Spread, alternate, percentile, rounded, summary_ms

values = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=50)


def test_percentiles_are_values_that_were_seen() -> None:
    hundred = [float(number) for number in range(1, 101)]
    assert percentile(hundred, 0.5) == 50
    assert percentile(hundred, 0.99) == 99
    assert percentile(hundred, 1) == 100
    assert percentile([7.0], 0.99) == 7


@given(values, st.floats(0.01, 1))
def test_at_least_that_share_does_not_exceed_a_percentile(seen: list[float], share: float) -> None:
    found = percentile(seen, share)
    assert found in seen
    assert sum(value <= found for value in seen) >= share * len(seen) - 1e-6


def test_a_summary_is_in_milliseconds() -> None:
    assert summary_ms([0.001, 0.002, 0.003]) == {"count": 3, "p50_ms": 2.0, "p99_ms": 3.0, "worst_ms": 3.0}
    assert summary_ms([]) == {"count": 0}


@pytest.mark.parametrize(
    ("value", "shown"), [(8123.456, 8123), (123456.7, 123457), (0.0123456, 0.01235), (12.3456, 12.35), (0, 0)]
)
def test_figures_have_four_significant_digits(value: float, shown: float) -> None:
    assert rounded(value) == shown


def measured(ours: tuple[float, ...], theirs: tuple[float, ...], goal: Goal | None = None) -> Measurement:
    return Measurement(name="one", unit="orders/s", values=ours, floors=(Floor("least", theirs),), goal=goal)


def test_ratios_are_taken_round_by_round() -> None:
    # The second round was three times as slow for both. Median over median would be 600 / 250 = 2.4.
    one = measured((600, 200, 700), (300, 100, 250))
    assert one.ratio(one.floors[0]) == Spread(2.0, 2.0, 2.8)
    assert one.figure == Spread(600, 200, 700)


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal("ratio", "at least", 2.0), True),
        (Goal("ratio", "at least", 2.1), False),
        (Goal("ratio", "at most", 2.0), True),
        (Goal("ratio", "at most", 1.9), False),
        (Goal("figure", "at least", 600), True),
        (Goal("figure", "at most", 599), False),
        (None, None),
    ],
)
def test_a_goal_is_judged_by_the_median(goal: Goal | None, met: bool | None) -> None:
    assert measured((600, 200, 700), (300, 100, 250), goal).met is met


def test_its_json_says_all_that_a_table_shows() -> None:
    document = measured((600, 200), (300, 100), Goal("ratio", "at least", 2.5)).as_json()
    assert document["figure"] == {"median": 400, "lowest": 200, "highest": 600}
    assert document["floors"][0]["name"] == "least"
    assert document["floors"][0]["ratio"] == {"median": 2, "lowest": 2, "highest": 2}
    assert (document["goal"], document["met"], document["rounds"]) == (">= 2.5 x", False, 2)


def test_a_floor_that_was_not_measured_in_each_round_is_an_error_of_ours() -> None:
    with pytest.raises(AssertionError, match="not measured in each round"):
        measured((600, 200), (300,))


def test_sides_take_turns_and_swap_their_order_and_the_warm_up_is_not_counted() -> None:
    runs: list[tuple[str, float]] = []

    def side(name: str) -> float:
        runs.append((name, 0))
        return float(len(runs))

    taken = alternate(
        {"a": lambda _s: side("a"), "b": lambda _s: side("b")}, rounds=3, seconds=1, warm_up_s=1, tell=lambda _t: None
    )

    assert [name for name, _ in runs] == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert taken == {"a": (3.0, 6.0, 7.0), "b": (4.0, 5.0, 8.0)}


def test_each_side_is_told_how_long_to_run() -> None:
    told: list[float] = []

    def side(seconds: float) -> float:
        told.append(seconds)
        return 1.0

    alternate({"a": side}, rounds=2, seconds=5, warm_up_s=0.5, tell=lambda _t: None)

    assert told == [0.5, 5, 5]
