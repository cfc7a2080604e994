"""Options of the fuzz run, what its parts share, and the count at its end."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from tests.fuzz.oracle import Tally

TALLIES = pytest.StashKey[list[Tally]]()

# Of all inputs that must be refused, how many each part has to bring.
SHARES = {"application": 0.775, "http": 0.13, "broken": 0.07, "schema": 0.005, "messages": 0.01, "frames": 0.01}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-seed", type=int, default=1, help="which inputs; the same seed gives the same ones")
    parser.addoption("--fuzz-inputs", type=int, default=100_000, help="how many inputs have to be refused, in all")
    parser.addoption("--fuzz-first", type=int, default=0, help="the number of the input to begin with")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TALLIES] = []


def pytest_unconfigure(config: pytest.Config) -> None:
    """Last of all: how much was sent, and what became of it."""
    tallies = config.stash.get(TALLIES, [])
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if not tallies or reporter is None:
        return
    for tally in tallies:
        reporter.write_line(str(tally))
    total = sum(tally.inputs for tally in tallies)
    wire = sum(tally.inputs for tally in tallies if tally.over_the_wire)
    refused, failed = sum(tally.refused for tally in tallies), sum(tally.failed for tally in tallies)
    reporter.write_line(
        f"fuzz: seed {config.getoption('--fuzz-seed')}: {total:,} inputs, {wire:,} of them over the wire:"
        f" {refused:,} refused, {total - refused - failed:,} taken, {failed:,} answered 5xx"
    )


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    found: int = pytestconfig.getoption("--fuzz-seed")
    return found


@pytest.fixture(scope="session")
def first(pytestconfig: pytest.Config) -> int:
    found: int = pytestconfig.getoption("--fuzz-first")
    return found


@pytest.fixture
def phase(pytestconfig: pytest.Config) -> Callable[..., Tally]:
    """Begins the count of a part of the run: `phase("http", over_the_wire=True)`."""

    def begin(name: str, *, over_the_wire: bool) -> Tally:
        goal = math.ceil(SHARES[name] * pytestconfig.getoption("--fuzz-inputs"))
        pytestconfig.stash[TALLIES].append(Tally(name, over_the_wire, goal))
        return pytestconfig.stash[TALLIES][-1]

    return begin
