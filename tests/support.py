"""What tests share: waiting for a condition, scratch databases, and whole systems started and stopped."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeVar

import httpx
import psutil
from psycopg import sql

from bench import scaffold
from bench.scaffold import POLL_S, Connection, Database, environment, free_web_port
from mmproject import provision
from mmproject.conf import ROOT
from mmproject.db import Role

T = TypeVar("T")

__all__ = ["Connection", "Database", "System", "drop_database", "environment", "eventually", "running_system"]

START_TIMEOUT_S = 90  # a machine busy with other tests; the budget itself is asserted where it is the subject
STOP_TIMEOUT_S = 10  # the contract's
ROOM_BYTES = 4 * 1024**3  # two servers with their logs, many times over


def eventually(
    condition: Callable[[], T | None], timeout_s: float = 10, message: str = "", *, interval_s: float = POLL_S
) -> T:
    """Return what `condition` returns once that is true; fail with `message` after `timeout_s`.

    An AssertionError or httpx.TransportError inside `condition` counts as not yet, and is shown if it stays.
    """
    not_yet = (AssertionError, httpx.TransportError)
    return scaffold.eventually(condition, timeout_s, message, interval_s=interval_s, not_yet=not_yet)


@contextmanager
def in_memory(otherwise: Path) -> Iterator[Path]:
    """A folder in memory where there is room, else below `otherwise` on disk, which is slow at hundreds of files.

    Each test's database is such a folder. What must survive a crash is tested on disk (tests/system).
    """
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM_BYTES
    with tempfile.TemporaryDirectory(prefix="mm-test-", dir=memory if roomy else otherwise) as folder:
        os.chmod(folder, 0o755)  # the server's account has to reach its data
        yield Path(folder)


@contextmanager
def scratch_database(server_url: str, var: Path, template: str) -> Iterator[Database]:
    """A copy of `template` on the server of `server_url`."""
    name = f"mm_test_{os.getpid()}_{secrets.token_hex(4)}"
    with provision.connect(provision.with_database(server_url, "postgres")) as admin:
        # By copying files: through the log, as is the default, each of the many would be written twice.
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        admin.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
    database = Database(provision.role_urls(provision.with_database(server_url, name), var))
    try:
        yield database
    finally:
        database.close()
        drop_database(server_url, name)


def drop_database(server_url: str, name: str) -> None:
    with provision.connect(provision.with_database(server_url, "postgres")) as admin:
        provision.drop_database(admin, name)


@dataclass
class System:
    """A `manage.py up` of its own: port, var folder and processes."""

    var: Path
    port: int
    nodes: int
    symbols: int
    seed: int | None = None
    env: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None
    output: IO[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *, wait: bool = True) -> None:
        """Start it; with `wait`, return when /readyz answers. Its output is in `said()`."""
        if self.process is not None:
            self.process.wait(STOP_TIMEOUT_S)
        if self.output is not None:
            self.output.close()
        self.output = open(self.var.parent / f"{self.var.name}.out", "a")  # noqa: SIM115 - closed by stop
        options = ["--port", str(self.port), "--nodes", str(self.nodes), "--symbols", str(self.symbols)]
        if self.seed is not None:
            options += ["--seed", str(self.seed)]
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "up", *options],
            cwd=ROOT,
            env=environment(self.var, **self.env),
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        if wait:
            eventually(self.is_ready, START_TIMEOUT_S, f"the system is ready\n{self.said()}", interval_s=0.1)

    def is_ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"`manage.py up` ended with {self.process.returncode}:\n{self.said()}")
        return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200

    def said(self) -> str:
        """All that `up` has printed."""
        return (self.var.parent / f"{self.var.name}.out").read_text()

    def log(self, program: str) -> str:
        return (self.var / "log" / f"{program}.log").read_text()

    def pids(self) -> dict[str, int]:
        """Pid of each running program by its name (postgres, daphne, worker, beat, node-1 ...)."""
        from mmproject.supervision import running_pids

        return running_pids(self.var)

    def pid(self, program: str) -> int:
        return eventually(lambda: self.pids().get(program), 20, f"{program} runs")

    def signal(self, program: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to a program; returns the pid that got it."""
        pid = self.pid(program)
        os.kill(pid, number)
        return pid

    def urls(self) -> dict[str, str]:
        """The roles' database URLs."""
        urls: dict[str, str] = json.loads((self.var / "run" / "urls.json").read_text())
        return urls

    def connect(self, role: Role = "admin") -> Connection:
        """A connection to its database in autocommit. The caller closes it."""
        return provision.connect(self.urls()[role])

    def operator(self) -> dict[str, str]:
        """url, username, password and token of the first operator."""
        credentials: dict[str, str] = json.loads((self.var / "operator.json").read_text())
        return credentials

    def client(self, *, token: bool = True) -> httpx.Client:
        """An HTTP client of its API; the caller closes it."""
        headers = {"Authorization": f"Bearer {self.operator()['token']}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=10)

    def manage(self, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run another `manage.py` command against it, as a person would by hand."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=environment(self.var, **self.env, MM_PORT=str(self.port)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def processes(self) -> list[psutil.Process]:
        """Every live process that belongs to it: also ones that nobody supervises.

        Found by its environment, or by its folder: PostgreSQL's processes write their titles over the environment.
        """
        mark, found = f"MM_VAR={self.var}", []
        for process in psutil.process_iter():
            try:
                environ = Path(f"/proc/{process.pid}/environ").read_bytes().decode(errors="replace")
                is_ours = mark in environ.split("\0") or Path(process.cwd()).is_relative_to(self.var)
                if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (OSError, psutil.Error):
                continue  # gone, or another user's
        return found

    def interrupt(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Stop it as Ctrl-C does; returns its exit code. Raises subprocess.TimeoutExpired after `timeout_s`."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout_s)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """As `interrupt`, and nothing is left alive, whatever becomes of it."""
        try:
            self.interrupt(timeout_s)
        finally:
            self.kill_what_is_left()

    def kill_what_is_left(self) -> None:
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if self.process is not None:
            self.process.wait(10)
        if self.output is not None:
            self.output.close()


@contextmanager
def running_system(
    *, nodes: int = 1, symbols: int = 3, seed: int | None = None, wait: bool = True, subfolder: str = "", **env: str
) -> Iterator[System]:
    """A whole system in a folder of its own, on free ports, stopped and removed at the end.

    It has its own embedded server, unless `env` gives it a DATABASE_URL.
    """
    with tempfile.TemporaryDirectory(prefix="mm-system-", ignore_cleanup_errors=False) as folder:
        system = System(Path(folder) / subfolder / "var", free_web_port(), nodes, symbols, seed, dict(env))
        system.var.parent.mkdir(exist_ok=True)
        try:
            system.start(wait=wait)
            yield system
        except BaseException:
            show_logs(system)
            raise
        finally:
            if system.process is not None and system.process.poll() is None:
                system.stop(2 * STOP_TIMEOUT_S)
            system.kill_what_is_left()


def show_logs(system: System, lines: int = 15) -> None:
    """Print the end of everything it wrote: pytest shows it with the failure."""
    print(system.said())
    for path in sorted((system.var / "log").glob("*.log")):
        print(f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:]))
