"""A process's own record of what it asked and what it was told, to be checked afterwards (chaos/history).

One file per process, JSON lines. The first names the process; then two lines per operation, one before it is sent and
one when its answer is in:

    {"process": "node-1", "pid": 4711}
    {"id": 7, "op": "replace", "at": 81234567890, "input": {...}}
    {"id": 7, "at": 81236567890, "output": {...}}          or {"id": 7, "at": ..., "failed": "55P03 ..."}

An operation without its second line has an unknown outcome: it may have happened or not, then or later. One that
`failed` has certainly not happened. Each line is one write() of an unbuffered file opened for appending, so SIGKILL
loses none that was written, and threads need no lock.

Times are nanoseconds of CLOCK_MONOTONIC, which all processes of one machine share, containers and network namespaces
included, and which nobody can set. A wall clock can be set, and in a fault run it is. Whoever fakes a process's clock
(libfaketime) must leave it this one (DONT_FAKE_MONOTONIC=1), or its history says nothing.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from pathlib import Path
from typing import Any, Final

Json = dict[str, Any]

SUFFIX: Final = ".jsonl"


class Recorder:
    """Appends to a file of its own below `folder`. Any number of threads may use one. Raises OSError.

    A line that cannot be written raises: an operation that nobody recorded would make the history a wrong one.
    """

    def __init__(self, folder: Path, process: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{process}-{os.getpid()}-{time.monotonic_ns()}{SUFFIX}"
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._ids = itertools.count(1)
        self._write({"process": process, "pid": os.getpid()})

    def invoke(self, op: str, given: Json) -> int:
        """About to ask: call it before anything is sent. Returns the operation's number."""
        number = next(self._ids)
        self._write({"id": number, "op": op, "at": time.monotonic_ns(), "input": given})
        return number

    def returned(self, number: int, output: Json) -> None:
        """The answer is in: call it after all of it has come, before anybody acts on it."""
        self._write({"id": number, "at": time.monotonic_ns(), "output": output})

    def failed(self, number: int, why: str) -> None:
        """It has certainly not happened, and never will: a refusal of the server's, not a lost connection."""
        self._write({"id": number, "at": time.monotonic_ns(), "failed": why})

    def close(self) -> None:
        os.close(self._file)

    def _write(self, line: Json) -> None:
        data = json.dumps(line, separators=(",", ":"), default=str).encode() + b"\n"
        if os.write(self._file, data) != len(data):  # a full disk may take a part
            raise OSError(f"{self.path}: a line was not written whole")
