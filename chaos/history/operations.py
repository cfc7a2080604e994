"""Reading what processes recorded (mmproject/recording.py): operations with the interval in which they happened."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mmproject.errors import UserError
from mmproject.recording import SUFFIX, Json, Recorder

# A database that crashes may take back what it answered without waiting for its disk, as quotes and releases are
# (decision 9): by PostgreSQL's own account up to three times wal_writer_delay (200 ms) of it.
UNFLUSHED_NS: Final = 1_000_000_000


@dataclass(slots=True)
class Operation:
    """One operation of one process. `invoked` and `returned` are nanoseconds of one machine's CLOCK_MONOTONIC.

    `returned` and `output` are None while the outcome is unknown: it may take effect at any time after `invoked`, or
    never.
    """

    process: str
    op: str
    invoked: int
    returned: int | None
    input: Json
    output: Json | None

    @property
    def is_known(self) -> bool:
        return self.returned is not None

    def __str__(self) -> str:
        until = "?" if self.returned is None else seconds(self.returned)
        return f"{self.process} {self.op} [{seconds(self.invoked)} .. {until}]"


@dataclass(slots=True)
class History:
    """All operations of a run, and how many were certainly not done (`failed`)."""

    operations: list[Operation]
    failed: int = 0

    @property
    def outages(self) -> list[tuple[int, int]]:
        """When the database was lost: the intervals that the fault runner recorded as `database_lost`."""
        return [
            (one.invoked, one.returned if one.returned is not None else 2**63)
            for one in self.operations
            if one.op == "database_lost"
        ]


def seconds(moment: int) -> str:
    return f"{moment / 1e9:.6f}"


def may_be_lost(one: Operation, outages: Iterable[tuple[int, int]]) -> bool:
    """Whether a crash of the database may have taken back what this operation was told, had it not been flushed."""
    returned = one.invoked if one.returned is None else one.returned
    return any(one.invoked <= end and returned >= begin - UNFLUSHED_NS for begin, end in outages)


def sizes(folder: Path) -> dict[str, int]:
    """How long each file is now: what `read` takes as the end of what was told."""
    return {path.name: path.stat().st_size for path in folder.glob(f"*{SUFFIX}")}


def read(folder: Path, told_until: Mapping[str, int] | None = None) -> History:
    """All operations below `folder`, in the order in which they were invoked.

    With `told_until` (`sizes()` of before the tables were read) answers behind those sizes count as not yet in: the
    tables need not have them. What was invoked behind them may be in the tables, and is read. A process may have been
    killed in the middle of its last line, which then counts for nothing. Raises UserError for a folder without
    recordings and for lines that are none.
    """
    history = History([])
    paths = sorted(folder.glob(f"*{SUFFIX}"))
    if not paths:
        raise UserError(f"{folder}: no recordings (*{SUFFIX}) there")
    for path in paths:
        until = None if told_until is None else told_until.get(path.name, 0)
        _read_file(path, until, history)
    history.operations.sort(key=lambda one: one.invoked)
    return history


def _read_file(path: Path, told_until: int | None, history: History) -> None:
    process, position = path.stem, 0
    open_: dict[int, Operation] = {}
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        position += len(line)
        if not line.endswith(b"\n"):
            break  # its writer died over it
        try:
            entry = json.loads(line)
            if "op" in entry:
                one = Operation(process, entry["op"], int(entry["at"]), None, dict(entry["input"]), None)
                open_[entry["id"]] = one
                history.operations.append(one)
            elif "id" not in entry:
                process = str(entry["process"])
            elif told_until is not None and position > told_until:
                continue
            elif "output" in entry:
                one = open_.pop(entry["id"])
                one.returned, one.output = int(entry["at"]), dict(entry["output"])
            else:
                open_.pop(entry["id"]).op = f"failed: {entry['failed']}"
                history.failed += 1
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}:{number}: not a line of a recording: {error!r}") from error


def recorded(recorder: Recorder | None, op: str, given: Json, send: Callable[[], tuple[int, Any]]) -> tuple[int, Any]:
    """Ask over HTTP and record it: `send` sends the request and returns status and JSON body.

    What raises, and a 5xx, leaves the outcome unknown. The operations that the checks know, each with its input:

        order          the body of POST orders
        cancel         {"client_order_id"}
        order_state    {"client_order_id"}                       GET orders/{id}
        toggle         {"symbol" (null: all), "enabled", "reason"}: a reason of its own ties it to its audit row
        fills          {"symbol", "after" (a fill_id, or null)}  GET fills
        positions      {}                                        GET positions, all in one page
        database_lost  {}: not a request; from before the server was killed until it is back (see `History.outages`)
    """
    if recorder is None:
        return send()
    number = recorder.invoke(op, given)
    status, answer = send()
    if status < 500:
        recorder.returned(number, {"status": status, "answer": answer})
    return status, answer
