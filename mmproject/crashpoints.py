"""Crash points: named places around each commit that matters, where a test can have a process die on the spot.

`NAME.before` is passed when the statement is about to be sent, `NAME.after` when its answer has come, so it has
committed, and nobody has been told. Off in every process but a test build: MM_TEST_BUILD=1, and MM_CRASH_POINTS names
a folder. A file in that folder arms a point, in a running system too:

    touch "$MM_CRASH_POINTS/order.after"              whoever passes it next dies
    touch "$MM_CRASH_POINTS/replace.before@node-2"    the process of that name (MM_PROCESS) does, and no other

From Python: `arm(folder, "replace.before", process="node-2", passing=3)` is for its third passing from then on.

Dying is SIGKILL by the process's own hand: nothing is flushed, closed or said. It renames the file first, to
POINT.crashed-PID. So an arming kills one process once, whatever is started in its place passes, and `crashes(folder)`
tells who died where.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Final, Literal, NamedTuple, get_args

from mmproject.conf import Conf, conf
from mmproject.errors import ConfError

# A closed list: a point in the code that is not here fails `make check`, and one here without a test fails the tests.
Point = Literal[
    # A node's statements. `sweep` and `leave` may be a part each.
    "register.before", "register.after",
    "renew.before", "renew.after",
    "assign.before", "assign.after",
    "sweep.before", "sweep.after",
    "acquire.before", "acquire.after",
    "release.before", "release.after",
    "replace.before", "replace.after",
    "leave.before", "leave.after",
    # An order. Its fill commits before it is durable: `fill.committed` is in between, while the server goes on.
    "order.before", "fill.committed", "order.after",
    "cancel.before", "cancel.after",
    "batch.before", "batch.after",
    # The exchange's clock: a step, the step's external orders (a batch or several), and the note that they are done.
    "clock.before", "clock.after",
    "step.before", "step.after",
    # What operators do.
    "toggle.before", "toggle.after",
    "drain.before", "drain.after",
]  # fmt: skip
POINTS: Final[tuple[Point, ...]] = get_args(Point)

_CRASHED: Final = ".crashed-"


class Crash(NamedTuple):
    """A process that died at a point that it passed."""

    point: str
    pid: int


def arm(folder: Path, point: Point, *, process: str = "", passing: int = 1) -> None:
    """Have the next one that passes the point die there; only `process` if named, at its `passing`-th passing."""
    assert point in POINTS, point
    assert passing >= 1, passing
    name = f"{point}@{process}" if process else point
    unseen = folder / f".{name}"
    unseen.write_text(str(passing))
    unseen.rename(folder / name)  # nobody reads half of it


def crashes(folder: Path) -> set[Crash]:
    """Who has died where, of those armed in this folder."""
    found = (path.name.split(_CRASHED) for path in folder.glob(f"*{_CRASHED}*"))
    return {Crash(point, int(pid)) for point, pid in found}


def crash_point(point: Point) -> None:
    """Die here if this point is armed for this process."""
    if _folder is not None:
        _die_if_armed(_folder, point)


def _die_if_armed(folder: Path, point: Point) -> None:
    assert point in POINTS, point
    for name in (point, f"{point}@{conf.process}"):
        path = folder / name
        try:
            with path.open() as file:
                passing = int(file.read() or 1)
                stat = os.fstat(file.fileno())
        except FileNotFoundError:
            continue
        with _lock:
            # Armed again, it is another file, and counted anew.
            _passed[name, stat.st_ino, stat.st_mtime_ns] += 1
            if _passed[name, stat.st_ino, stat.st_mtime_ns] < passing:
                continue
        try:
            path.rename(folder / f"{point}{_CRASHED}{os.getpid()}")
        except FileNotFoundError:
            continue  # another process was first, and died of it
        os.kill(os.getpid(), signal.SIGKILL)


def checked_folder(settings: Conf) -> Path | None:
    """The folder that arms, or None. Raises ConfError when it is not there or arms what is no point."""
    folder = settings.crash_points
    if folder is None:
        return None
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError as error:
        raise ConfError(f"MM_CRASH_POINTS: cannot read the folder {folder}: {error.strerror}") from error
    for name in names:
        if not name.startswith(".") and _CRASHED not in name and name.partition("@")[0] not in POINTS:
            raise ConfError(f"MM_CRASH_POINTS: {folder / name} names no crash point; there are {', '.join(POINTS)}")
    return folder


_folder = checked_folder(conf)
_lock = threading.Lock()
_passed: Counter[tuple[str, int, int]] = Counter()
