"""`manage.py up`: the whole system on one machine, started, watched and stopped.

What it starts dies with it: on kill -9 the kernel tells supervisord to stop, which then stops the rest in order. The
next start waits for what is still on its way out, and carries on with the same data.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import IO, Any

import psutil
from django.db import connections

from mmproject import provision
from mmproject.conf import ROOT, Conf
from mmproject.crashpoints import checked_folder
from mmproject.db import described
from mmproject.errors import UsageError, UserError
from mmproject.postgres import Cluster, cluster_of, free_port
from mmproject.supervision import (
    Supervisor,
    configuration,
    inherited_environment,
    programs,
    remove_socket,
    socket_path,
)

STOP_TIMEOUT_S = 9.0  # then what is left is killed; the contract allows 10
LEFTOVER_TIMEOUT_S = 20  # how long a killed predecessor's processes get to end by themselves
READY_TIMEOUT_S = 60
EXTERNAL_WAIT_S = 5  # a server of somebody else's is either there or not
WATCH_INTERVAL_S = 1.0
POLL_S = 0.05
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Say = Callable[[str], None]


class Stop(BaseException):
    """A signal asked us to stop; raised wherever we are."""


class AlreadyRunning(UserError):
    """The system already runs on this data."""


def ignore_signals() -> None:
    """From here on nothing cuts the stopping short: it is under way, and bounded."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def say(text: str) -> None:
    print(text, flush=True)


# --- One at a time --------------------------------------------------------------------------------------------


def make_var(var: Path) -> None:
    """Make var and its folders, private to us. Raises UsageError."""
    try:
        for folder in (var, var / "run", var / "log"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {var}: {error.strerror}; MM_VAR names another place") from error


def lock(settings: Conf) -> IO[str]:
    """Hold var/up.lock for as long as we live. Raises AlreadyRunning, UsageError."""
    try:
        file = open(settings.var / "up.lock", "a+")  # noqa: SIM115 - held open on purpose
    except PermissionError as error:
        raise UsageError(f"{settings.var} belongs to another user; MM_VAR names another place") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().split()
        pid, url = holder if len(holder) == 2 else ("unknown", "an address it has yet to print")
        raise AlreadyRunning(f"already running (pid {pid}) at {url}") from None
    file.truncate(0)
    file.write(f"{os.getpid()} {url_of(settings)}\n")
    file.flush()
    return file


def url_of(settings: Conf) -> str:
    """The console's address, as a browser on this machine reaches it."""
    address = ipaddress.ip_address(settings.host) if settings.host[-1:].isdigit() or ":" in settings.host else None
    host = settings.host
    if address and address.is_unspecified:
        host = "127.0.0.1" if address.version == 4 else "::1"
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{settings.port}/"


def check_port(settings: Conf) -> None:
    """Raises UsageError when the port is taken or not ours to take."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise UsageError(
                f"port {settings.port} {reason}: choose another, as in `make run PORT={settings.port + 1}`"
            ) from error


def _alive(pid: int) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        return process if process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def _await_end(find: Callable[[], list[psutil.Process]], timeout_s: float, tell: Say, what: str) -> None:
    """Wait until `find` finds nothing; after `timeout_s` kill what it finds."""
    deadline = time.monotonic() + timeout_s
    told = False
    while found := find():
        if not told:
            tell(f"waiting for {what} of an earlier run to end")
            told = True
        if time.monotonic() > deadline:
            for process in found:
                process.kill()
        time.sleep(POLL_S)


def await_predecessor(settings: Conf, cluster: Cluster | None, tell: Say) -> None:
    """Return when nothing is left of a run that was killed: its supervisord, then its PostgreSQL."""
    pidfile = settings.var / "run" / "supervisord.pid"

    def supervisor() -> list[psutil.Process]:
        try:
            process = _alive(int(pidfile.read_text()))
            ours = process and str(settings.var / "run" / "supervisord.conf") in process.cmdline()
        except (FileNotFoundError, ValueError, psutil.Error):
            return []
        return [process] if process and ours else []

    _await_end(supervisor, LEFTOVER_TIMEOUT_S, tell, "the processes")
    if cluster:
        _await_end(cluster.processes, LEFTOVER_TIMEOUT_S, tell, "PostgreSQL")
        cluster.remove_stale_lock()


# --- The run --------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Up:
    """One run of the system."""

    settings: Conf
    seed: int | None  # None: whatever the data was made with
    tell: Say = say
    supervisord: subprocess.Popen[bytes] | None = None
    supervisor: Supervisor | None = None
    cluster: Cluster | None = None

    def run(self) -> int:
        """Start, watch until a signal, stop; returns the exit code. Raises UserError."""
        make_var(self.settings.var)
        with lock(self.settings):
            try:
                for number in STOP_SIGNALS:
                    signal.signal(number, self._on_signal)
                self._start()
                return self._watch()
            except Stop:
                return 0
            finally:
                self._stop()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        ignore_signals()
        raise Stop

    def _start(self) -> None:
        started = time.monotonic()
        settings = self.settings
        if not settings.database_url:
            self.cluster = cluster_of(settings, free_port())
        await_predecessor(settings, self.cluster, self.tell)
        check_port(settings)
        if self.cluster:
            if not self.cluster.data.exists():
                self.tell("making a new database cluster")
            self.cluster.prepare()
        admin_url = settings.database_url or (self.cluster.url() if self.cluster else "")
        urls = provision.role_urls(admin_url, settings.var)
        self._start_supervisord(urls)
        self.tell(f"PostgreSQL: {described(admin_url)}{' (embedded)' if self.cluster else ''}")
        if crash_points := checked_folder(settings):
            self.tell(f"a test build: its processes kill themselves when {crash_points} says so")
        market = provision.Market(settings.symbols, self.seed, settings.tick_ms)
        provision.set_up(
            admin_url,
            settings.var,
            market=market,
            broker=not settings.broker_url,
            progress=self.tell,
            wait_s=READY_TIMEOUT_S if self.cluster else EXTERNAL_WAIT_S,
        )
        provision.write_urls(urls, settings.var)
        assert self.supervisor is not None
        for group in ["services", "nodes"] if settings.nodes else ["services"]:
            self.supervisor.start_group(group)
        self._welcome(started)

    def _start_supervisord(self, urls: dict[str, str]) -> None:
        run = self.settings.var / "run"
        found = programs(self.settings, urls, cluster=self.cluster)
        path = run / "supervisord.conf"
        path.unlink(missing_ok=True)
        path_socket = socket_path(self.settings.var, make=True)
        path_socket.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(configuration(found, self.settings, path_socket))
        guard = [sys.executable, "-I", "-S", str(ROOT / "mmproject" / "guard.py"), "SIGTERM", "--"]
        self.supervisord = subprocess.Popen(
            [*guard, sys.executable, "-m", "supervisor.supervisord", "-c", str(path)],
            cwd=ROOT,
            env=inherited_environment(self.settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # the terminal's Ctrl-C is for us alone: we stop the others in order
        )
        self.supervisor = Supervisor(path_socket)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while True:
            try:
                self.supervisor.wake()
                return
            except ConnectionError:
                if self.supervisord.poll() is not None or time.monotonic() > deadline:
                    raise UserError(f"supervisord did not start; see {self.settings.var}/log") from None
            time.sleep(POLL_S)

    def _welcome(self, started: float) -> None:
        from accounts.services import ensure_operator

        settings = self.settings
        url = url_of(settings)
        path = settings.var / "operator.json"
        credentials = ensure_operator(path=path, url=url.rstrip("/"))
        connections.close_all()  # the set-up's; from here on we need no database
        self._await_ready(url)
        self.tell("")
        self.tell(f"  Console   {url}")
        if credentials:
            self.tell(f"  Login     {credentials.username} / {credentials.password}")
            self.tell(f"  Token     {credentials.token}")
            self.tell(f"            (shown this once; kept in {shown(path)})")
        else:
            self.tell(f"  Login     in {shown(path)}")
        self.tell(f"  API       {url}api/docs")
        self.tell(f"  Logs      {shown(settings.var / 'log')}/")
        self.tell(f"  Stop      Ctrl-C (up after {time.monotonic() - started:.1f} s)")
        self.tell("")

    def _await_ready(self, url: str) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while True:
            try:
                with urllib.request.urlopen(f"{url}readyz", timeout=5):  # noqa: S310 - our own http address
                    return
            except (urllib.error.URLError, OSError) as error:
                if time.monotonic() > deadline:
                    raise UserError(
                        f"the console did not answer at {url}: {error}; see {self.settings.var}/log/daphne.log"
                    ) from error
            self._check_supervisord()
            time.sleep(2 * POLL_S)

    def _check_supervisord(self) -> None:
        assert self.supervisord is not None
        if self.supervisord.poll() is not None:
            raise UserError(
                f"supervisord ended by itself (exit {self.supervisord.returncode});"
                f" see {self.settings.var}/log/supervisord.log"
            )

    def _watch(self) -> int:
        """Say when a process ends and comes back, and never let supervisord give one up. Ends by Stop or UserError."""
        assert self.supervisor is not None
        seen: dict[str, int] = {}
        while True:
            self._check_supervisord()
            try:
                for one in self.supervisor.processes():
                    self._note(one, seen)
            except ConnectionError:
                pass  # it is gone or going, which the check above says
            time.sleep(WATCH_INTERVAL_S)

    def _note(self, one: dict[str, Any], seen: dict[str, int]) -> None:
        name, pid = one["name"], one["pid"]
        assert self.supervisor is not None
        if one["statename"] == "FATAL":
            self.tell(f"{name} does not stay up; see {shown(self.settings.var / 'log' / name)}.log; trying again")
            self.supervisor.start(one["group"], name)
        elif pid and seen.get(name, pid) != pid:
            self.tell(f"{name} ended and was started again (pid {pid})")
        if pid:
            seen[name] = pid

    def _stop(self) -> None:
        """End everything: nodes hand over first, PostgreSQL goes last. At most STOP_TIMEOUT_S, then by force."""
        ignore_signals()
        (self.settings.var / "run" / "urls.json").unlink(missing_ok=True)
        if self.supervisord is None:
            return
        self.tell("stopping ...")
        deadline = time.monotonic() + STOP_TIMEOUT_S
        if self.supervisord.poll() is None:
            self.supervisord.send_signal(signal.SIGTERM)
        while self.supervisord.poll() is None and time.monotonic() < deadline:
            self._wake()
            time.sleep(POLL_S)
        if self.supervisord.poll() is None:
            self.supervisord.kill()  # and with it, by the guard, the rest
            self.supervisord.wait()
        while self.cluster and (left := self.cluster.processes()):
            if time.monotonic() > deadline:
                for process in left:
                    process.kill()
            time.sleep(POLL_S)
        remove_socket(self.settings.var)
        self.tell("stopped")

    def _wake(self) -> None:
        assert self.supervisor is not None
        try:
            self.supervisor.wake()
        except ConnectionError:
            return  # stopping: it answers no more, but has been woken


def shown(path: Path) -> str:
    """The path as short as it can be given from where the user is."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def holder(var: Path) -> dict[str, str] | None:
    """Pid and url of the `up` that runs on this data, or None."""
    path = var / "up.lock"
    if not path.exists():
        return None
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pid, _, url = file.read().strip().partition(" ")
            return {"pid": pid, "url": url}
    return None
