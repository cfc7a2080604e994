"""What a planted bug is: a small change of one file, what it would do in the world, and the test that catches it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple


class DoesNotApply(Exception):
    """The code has changed since the bug was written down: its text isn't there as often as it says."""


class Edit(NamedTuple):
    """`text` becomes `instead` wherever it stands, which is exactly `times` times."""

    text: str
    instead: str
    times: int = 1


@dataclass(frozen=True)
class Bug:
    """A mutation of one file. `tests` are pytest's node ids; `shows` is what the failure must say (a regex).

    Without `shows` any breakage would pass for a catch: a typo in the SQL, an import that fails.
    """

    name: str
    file: str  # from the project's folder
    edits: tuple[Edit, ...]
    world: str  # one sentence: what would happen to somebody
    tests: tuple[str, ...]
    shows: str

    def planted(self, source: str) -> str:
        """The file's text with the bug in it. Raises DoesNotApply."""
        for edit in self.edits:
            times = source.count(edit.text)
            if times != edit.times:
                raise DoesNotApply(
                    f"{self.name}: {self.file} has {edit.text!r} {times} times, not {edit.times}: write the bug anew"
                )
            source = source.replace(edit.text, edit.instead)
        return source

    @property
    def is_in_migrations(self) -> bool:
        """Whether what it changes only comes about by migrating a database anew."""
        return "/migrations/" in self.file or self.file == "mmproject/functions.py"

    def is_shown_by(self, message: str) -> bool:
        """Whether a failure's message, on one line, says what this bug's must."""
        return re.search(self.shows, message) is not None


def bug(
    name: str,
    file: str,
    *edits: tuple[str, str] | tuple[str, str, int],
    world: str,
    caught_by: str | tuple[str, ...],
    shows: str,
) -> Bug:
    """A bug of one or more edits: (text, instead) or (text, instead, times)."""
    tests = (caught_by,) if isinstance(caught_by, str) else caught_by
    return Bug(name, file, tuple(Edit(*edit) for edit in edits), world, tests, shows)
