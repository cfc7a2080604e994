"""The planted bugs themselves: that each can still be planted, and that the runner can tell a catch from a breakage."""

from __future__ import annotations

import ast
import gc
import re
import socket
import warnings
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from mmproject.conf import ROOT
from tests.planted.__main__ import CAUGHT, SURVIVED, WRONG_REASON, planted, verdict_on
from tests.planted.bug import Bug, DoesNotApply, bug
from tests.planted.registry import BUGS, table
from tests.planted.runs import run_tests

BUGS_MIN = 30  # asked for; fewer is not enough to say anything
DOCUMENT = ROOT / "docs" / "planted-bugs.md"


def named(bugs: tuple[Bug, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("one", bugs, ids=lambda one: one.name)


@cache
def functions_in(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@named(BUGS)
def test_each_bug_can_still_be_planted(one: Bug) -> None:
    """Its text is there as often as it says, and what comes of it is no mere syntax error."""
    sound = (ROOT / one.file).read_text(encoding="utf-8")
    broken = one.planted(sound)
    assert broken != sound
    if one.file.endswith(".py"):
        compile(broken, one.file, "exec")


@named(tuple(one for one in BUGS if one.file.endswith(".sql")))
def test_a_bug_in_sql_is_in_the_version_that_is_in_force(one: Bug) -> None:
    """A later version takes the place of the one that was mutated: the test would still be green for it."""
    found = re.fullmatch(r"(.*)_v([0-9]+)\.sql", one.file)
    if found is not None:
        later = ROOT / f"{found[1]}_v{int(found[2]) + 1}.sql"
        assert not later.exists(), f"write the bug anew for {later.name}"


@named(BUGS)
def test_the_tests_that_are_to_catch_a_bug_are_there(one: Bug) -> None:
    assert one.tests
    for test in one.tests:
        file, _, name = test.partition("::")
        assert name.partition("[")[0] in functions_in(file), test
    re.compile(one.shows)


def test_there_are_enough_bugs_and_each_has_a_name_of_its_own() -> None:
    assert len(BUGS) >= BUGS_MIN
    assert [name for name, count in Counter(one.name for one in BUGS).items() if count > 1] == []


def test_the_document_lists_the_bugs_that_there_are() -> None:
    assert table() in DOCUMENT.read_text(encoding="utf-8"), "python -m tests.planted --table prints what it should say"


# The runner

ADD = bug("add: subtracts", "sums.py", ("a + b", "a - b"), world="", caught_by="test_sums.py::test_two_and_two",
          shows="assert 0 == 4")  # fmt: skip
SUMS = "def add(a: int, b: int) -> int:\n    return a + b\n"
TEST = "from sums import add\n\n\ndef test_two_and_two() -> None:\n    assert add(2, 2) == 4\n"
BROKEN_FIXTURE = """
import pytest
from sums import add

@pytest.fixture
def four() -> int:
    assert add(2, 2) == 4
    return 4

def test_two_and_two(four: int) -> None:
    assert four == 4
"""

# pytest cuts a message short after 500 characters; the source that it shows beside it says nothing.
LONG = TEST.replace(
    "    assert", "    said = 'x' * 600 + '\\n' + f'assert {add(2, 2)} == 4'\n    assert not said, said\n    assert"
)
LONG_OTHERWISE = TEST.replace("    assert", "    raise AssertionError('x\\n' * 600)  # assert 0 == 4\n    assert")


@pytest.mark.parametrize(
    ("tests", "result"),
    [
        (TEST, CAUGHT),
        (LONG, CAUGHT),
        (LONG_OTHERWISE, WRONG_REASON),
        (TEST.replace("4", "add(2, 2)"), SURVIVED),
        (TEST.replace("    assert", "    assert add(2, 2) != 0, 'something else'\n    assert"), WRONG_REASON),
        (BROKEN_FIXTURE, WRONG_REASON),
        ("import no_such_module\n" + TEST, WRONG_REASON),
        ("def test_three() -> None:\n    pass\n", WRONG_REASON),
    ],
    ids=[
        "caught",
        "caught in many words",
        "only in the source",
        "survived",
        "another failure",
        "set-up failed",
        "import failed",
        "no such test",
    ],
)
def test_only_a_failure_of_the_tests_own_that_says_what_it_should_counts_as_a_catch(
    tmp_path: Path, tests: str, result: str
) -> None:
    (tmp_path / "sums.py").write_text(SUMS)
    (tmp_path / "test_sums.py").write_text(tests)
    with planted(ADD, tmp_path):
        outcome = run_tests(tmp_path, ADD.tests)
    assert verdict_on(ADD, outcome)[0] == result, outcome
    assert (tmp_path / "sums.py").read_text() == SUMS


def test_what_the_parent_has_left_open_is_not_the_runs_to_complain_of(tmp_path: Path) -> None:
    class Left:
        def __init__(self) -> None:
            self.me, self.socket = self, socket.socket()

    (tmp_path / "sums.py").write_text(SUMS)
    (tmp_path / "test_sums.py").write_text(TEST)
    gc.disable()
    try:
        Left()
        assert run_tests(tmp_path, ADD.tests).passed
    finally:
        gc.enable()
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            gc.collect()


def test_python_sees_a_bug_of_the_same_length_in_the_same_second(tmp_path: Path) -> None:
    """It takes a compiled file for current when time and size are the same."""
    (tmp_path / "sums.py").write_text(SUMS)
    (tmp_path / "test_sums.py").write_text(TEST)
    assert run_tests(tmp_path, ADD.tests).passed
    with planted(ADD, tmp_path):
        assert not run_tests(tmp_path, ADD.tests).passed
    assert run_tests(tmp_path, ADD.tests).passed


def test_a_bug_whose_text_is_gone_or_there_more_often_says_so() -> None:
    with pytest.raises(DoesNotApply, match="0 times, not 1"):
        ADD.planted("def add(a, b): ...")
    with pytest.raises(DoesNotApply, match="2 times, not 1"):
        ADD.planted(SUMS + SUMS)
