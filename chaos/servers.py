"""The database of a scratch cluster: two servers, of which one can write and the other follows it synchronously.

A server is killed, stopped, promoted and made anew as whoever runs PostgreSQL in earnest does it: pg_basebackup makes
the standby, `synchronous_standby_names` makes commits wait for it, and a new primary waits for nobody until it has a
standby of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import psycopg

from chaos.processes import Managed, Supervisor
from mmproject.postgres import ADMIN, Cluster, dropped

SERVERS: Final = ("postgres_a", "postgres_b")
WAIT_S: Final = 40.0
POLL_S: Final = 0.05
BASEBACKUP_S: Final = 120.0
# Small, so that a disk that is full is full soon; connections few, so that they can all be taken.
SETTINGS: Final = {
    "max_wal_size": "256MB",
    # For a standby that is away while the primary ends and starts again and again, with a checkpoint each time.
    "wal_keep_size": "128MB",
    "max_connections": "220",
    "wal_log_hints": "on",
    "hot_standby_feedback": "off",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "500ms",
    "wal_sender_timeout": "10s",
    "log_min_messages": "warning",
}


class NotThere(AssertionError):
    """A server did not do in time what it was asked for."""


@dataclass
class Server:
    """One data folder, the process on it, and its name for replication."""

    name: str
    cluster: Cluster
    process: Managed

    @property
    def url(self) -> str:
        """The admin's, to the database `market`; directly."""
        return self.cluster.url()

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """The admin's, in autocommit, whether or not the server can write. Raises psycopg.OperationalError."""
        url = self.cluster.url("postgres")  # not in the market's: it can be there before that is made
        return psycopg.connect(url, autocommit=True, connect_timeout=3, options="-c statement_timeout=10s")

    def answers(self) -> bool:
        try:
            with self.connect() as connection:
                connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True


class Servers:
    """`primary` and `standby`; they change places at a failover."""

    def __init__(self, folder: Path, ports: tuple[int, int], password: str, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._folder = folder
        self.primary = self._server(SERVERS[0], ports[0], password)
        self.standby = self._server(SERVERS[1], ports[1], password)

    def _server(self, name: str, port: int, password: str) -> Server:
        cluster = Cluster(self._folder / name / "data", port, password)
        command = [
            *cluster.guarded_command(),
            *(w for key, value in SETTINGS.items() for w in ("-c", f"{key}={value}")),
        ]
        command = [*command, "-c", f"cluster_name={name}"]

        def prepare() -> None:
            deadline = time.monotonic() + WAIT_S
            while left := cluster.processes():  # of a server that was killed: they end by themselves
                if time.monotonic() > deadline:
                    for one in left:
                        one.kill()
                time.sleep(POLL_S)
            cluster.remove_stale_lock()

        log = self._folder / "log" / f"{name}.log"
        environment = {"PATH": os.environ.get("PATH", os.defpath), "TZ": "UTC"}
        process = Managed(name, command, environment, cluster.directory, log, prepare, wanted=False)
        return Server(name, cluster, self._supervisor.add(process))

    @property
    def both(self) -> tuple[Server, Server]:
        return self.primary, self.standby

    def begin(self) -> None:
        """Make the primary and start it."""
        (self._folder / self.primary.name).mkdir(mode=0o755, exist_ok=True)
        self.primary.cluster.prepare()
        self.start(self.primary)

    def start(self, server: Server) -> None:
        """Start it, and return when it answers. Raises NotThere."""
        self._supervisor.start(server.process.name)
        wait(server.answers, f"{server.name} answers")

    def kill(self, server: Server, *, again: bool = True) -> None:
        """SIGKILL of its first process; the others notice and end. With `again` it is started again by itself."""
        server.process.wanted = again
        server.process.signal(signal.SIGKILL)

    def stop(self, server: Server) -> None:
        """The fast way: sessions are ended, a checkpoint is written."""
        self._supervisor.stop(server.process.name, signal.SIGINT, 30)

    # --- Replication ----------------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Make the standby anew from the primary, start it, and have commits wait for it. Raises NotThere."""
        standby, primary = self.standby, self.primary
        data, account = standby.cluster.data, standby.cluster.account
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(mode=0o700, parents=True)
        os.chown(data, account.uid, account.gid)
        where, directory = standby.cluster.place(data)
        done = subprocess.run(
            [
                str(standby.cluster.bin / "pg_basebackup"), "-D", where, "-h", "127.0.0.1",
                "-p", str(primary.cluster.port), "-U", ADMIN, "-X", "stream", "-c", "fast", "--no-sync",
            ],
            cwd=directory, capture_output=True, text=True, timeout=BASEBACKUP_S, check=False,
            env={"PATH": os.environ.get("PATH", os.defpath), "PGPASSWORD": primary.cluster.password},
            **dropped(account),  # type: ignore[call-overload]
        )  # fmt: skip
        if done.returncode:
            raise NotThere(f"pg_basebackup: {done.stderr.strip()}")
        conninfo = (
            f"host=127.0.0.1 port={primary.cluster.port} user={ADMIN} password={quote(primary.cluster.password)}"
            f" application_name={standby.name}"
        )
        (data / "postgresql.auto.conf").write_text(f"primary_conninfo = '{conninfo}'\n")
        (data / "standby.signal").touch()
        for name in ("postgresql.auto.conf", "standby.signal"):
            os.chown(data / name, account.uid, account.gid)
        self.start(standby)
        wait(self.is_followed, f"{standby.name} follows {primary.name}")
        self._wait_for_standby(primary, standby.name)

    def is_followed(self) -> bool:
        """Whether the standby has the primary's log up to now, or nearly."""
        try:
            with self.primary.connect() as connection:
                row = connection.execute(
                    "SELECT state, pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn) FROM pg_stat_replication"
                    " WHERE application_name = %s",
                    [self.standby.name],
                ).fetchone()
        except psycopg.Error:
            return False
        return row is not None and row[0] == "streaming" and row[1] is not None and row[1] < 16 * 2**20

    @staticmethod
    def _wait_for_standby(server: Server, name: str) -> None:
        """Have the server's commits wait for this standby; for none with an empty name."""
        with server.connect() as connection:
            connection.execute("SET synchronous_commit = local")
            connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
            connection.execute("SELECT pg_reload_conf()")

    def promote(self) -> Server:
        """Make the standby the primary, waiting for nobody; returns the old one, which does not run. Raises NotThere.

        The old one must have been killed before, and must not be started meanwhile.
        """
        old, new = self.primary, self.standby
        self._supervisor.ended(old.process.name)
        with new.connect() as connection:
            connection.execute("SELECT pg_promote(true, 30)")
        self._wait_for_standby(new, "")
        self.primary, self.standby = new, old
        return old


def wait(condition: Callable[[], object], what: str, timeout_s: float = WAIT_S) -> None:
    """Raises NotThere after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise NotThere(f"not within {timeout_s:g} s: {what}")
        time.sleep(POLL_S)
