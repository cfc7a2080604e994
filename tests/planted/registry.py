"""All planted bugs, and the table of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from tests.planted import authority, exchange, node, readers
from tests.planted.bug import Bug

BUGS: tuple[Bug, ...] = (*authority.BUGS, *exchange.BUGS, *node.BUGS, *readers.BUGS)


def table(bugs: Iterable[Bug] = BUGS) -> str:
    """The bugs in Markdown: what each would do, where it is planted, and what catches it."""
    rows = ["| bug | where | what it would do | caught by |", "|---|---|---|---|"]
    for bug in bugs:
        tests = "<br>".join(f"`{_short(test)}`" for test in bug.tests)
        rows.append(f"| {bug.name} | `{PurePosixPath(bug.file).name}` | {bug.world} | {tests} |")
    return "\n".join(rows)


def _short(test: str) -> str:
    """A node id as a person would look for it: no folder, no parameters."""
    file, _, name = test.partition("::")
    return f"{PurePosixPath(file).stem}: {name.partition('[')[0]}"
