"""The processes of a scratch cluster: started, started again when they end, stopped, and found by name.

What is started dies with the thread that started it (mmproject/guard.py asks the kernel for that), so one thread, which
lives as long as the cluster, starts all of them.
"""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

POLL_S: Final = 0.05
RESTART_S: Final = 0.5  # between an end and the next start
STOP_S: Final = 10.0
ENDING: Final = frozenset((signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT))

Tell = Callable[[str, str], None]  # who, what


@dataclass
class Managed:
    """One process. While it is `wanted` it is started again whenever it ends."""

    name: str
    command: list[str]
    environment: dict[str, str]
    directory: Path
    log: Path
    prepare: Callable[[], None] = lambda: None  # before each start
    wanted: bool = True
    starts: int = 0
    popen: subprocess.Popen[bytes] | None = None
    told_to_end: bool = False  # this start of it, by us
    may_end: bool = False  # by itself, of what we do to it just now
    ended_at: float = -RESTART_S
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        popen = self.popen
        return popen.pid if popen is not None and popen.returncode is None else None

    def signal(self, number: int) -> bool:
        """Send it a signal; False when it does not run."""
        with self.lock:
            if self.popen is None or self.popen.poll() is not None:
                return False
            self.popen.send_signal(number)
            self.told_to_end |= number in ENDING
            return True


class Supervisor:
    """Keeps the wanted ones running. Errors of starting are told, and tried again.

    `unexplained` is what no fault of ours explains: a process that ended by itself, or would not when it was told to.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.unexplained: list[str] = []
        self._all: dict[str, Managed] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()

    def add(self, process: Managed) -> Managed:
        self._all = {**self._all, process.name: process}
        return process

    def __getitem__(self, name: str) -> Managed:
        return self._all[name]

    @property
    def names(self) -> list[str]:
        return list(self._all)

    def _run(self) -> None:
        while not self._stop.wait(POLL_S):
            for process in self._all.values():
                try:
                    self._look_after(process)
                except Exception as error:  # noqa: BLE001 - this thread's end would be the end of all of them
                    self._tell(process.name, f"does not start: {type(error).__name__}: {error}")
                    process.ended_at = time.monotonic()

    def _look_after(self, process: Managed) -> None:
        with process.lock:
            if process.popen is not None and process.popen.poll() is not None:
                code = process.popen.returncode
                how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended: {code}"
                self._tell(process.name, how)
                # A process that is to die at a crash point does so by SIGKILL.
                if process.wanted and not (process.told_to_end or process.may_end or code == -signal.SIGKILL):
                    self.unexplained.append(f"{process.name} {how}, by itself")
                process.popen, process.told_to_end, process.ended_at = None, False, time.monotonic()
            due = time.monotonic() - process.ended_at > RESTART_S
            if process.popen is None and process.wanted and due and not self._stop.is_set():
                process.prepare()
                with process.log.open("ab") as output:
                    process.popen = subprocess.Popen(
                        process.command,
                        cwd=process.directory,
                        env=process.environment,
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                process.starts += 1
                self._tell(process.name, f"started (pid {process.popen.pid})")

    def ended(self, name: str, timeout_s: float = STOP_S) -> None:
        """Wait until it does not run. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while self[name].pid is not None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} does not end")
            time.sleep(POLL_S / 2)

    def stop(self, name: str, number: int = signal.SIGTERM, timeout_s: float = STOP_S) -> None:
        """End it, and do not start it again until `start`; by force after `timeout_s`."""
        process = self[name]
        process.wanted = False
        process.signal(signal.SIGCONT)
        process.signal(number)
        try:
            self.ended(name, timeout_s)
        except TimeoutError:
            self._tell(name, "killed: it did not stop")
            self.unexplained.append(f"{name} did not stop within {timeout_s:g} s, and was killed")
            process.signal(signal.SIGKILL)
            self.ended(name, timeout_s)

    def start(self, name: str) -> None:
        """Want it again; it is started soon."""
        self[name].ended_at = -RESTART_S
        self[name].wanted = True

    def close(self) -> None:
        """End everything by force: the order is the caller's to keep, by `stop`."""
        for process in self._all.values():
            process.wanted = False
            process.signal(signal.SIGCONT)
            process.signal(signal.SIGKILL)
        for name in self._all:
            self.ended(name)
        self._stop.set()
        self._thread.join(5)
