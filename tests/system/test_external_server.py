"""A server that is not ours to start, named by DATABASE_URL: the whole system on it, or one clear line."""

from __future__ import annotations

import secrets
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from psycopg import sql

from bench.scaffold import free_web_port
from mmproject import provision
from mmproject.postgres import Cluster, free_port
from tests.support import System, drop_database, eventually, running_system

ADMIN_PASSWORD = "the admin's: %40 @ / ?"  # every character that a URL has a meaning for
OWNER_PASSWORD = "the owner's"
EXIT_FAILED, EXIT_WRONG_USE = 1, 2


@dataclass
class Server:
    """A PostgreSQL that was set up by someone else."""

    cluster: Cluster

    @property
    def url(self) -> str:
        """Its superuser's, for a database of the name `market`, which nobody has made."""
        return self.cluster.url()

    def execute(self, statement: str, *names: str) -> None:
        with provision.connect(self.cluster.url("postgres")) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def owner(self, name: str, *, rights: str = "") -> str:
        """The URL of a new user who is no superuser and owns a new database of the same name."""
        with provision.connect(self.cluster.url("postgres")) as connection:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} " + rights).format(sql.Identifier(name), OWNER_PASSWORD)
            )
        self.execute("CREATE DATABASE {} OWNER {}", name, name)
        return provision.with_login(self.cluster.url(name), name, OWNER_PASSWORD)


@dataclass(frozen=True)
class Changed(Cluster):
    """A cluster with other settings than ours."""

    changes: tuple[str, ...] = ()

    def command(self) -> list[str]:
        return [*super().command(), *(word for change in self.changes for word in ("-c", change))]


@contextmanager
def external_server(*changes: str) -> Iterator[Server]:
    """A second embedded server, with these settings changed, as the external one."""
    with tempfile.TemporaryDirectory(prefix="mm-external-") as folder:
        cluster = Changed(Path(folder) / "postgres", free_port(), ADMIN_PASSWORD, fsync=False, changes=changes)
        cluster.prepare()
        with cluster.serving():
            provision.wait_for_server(cluster.url("postgres"))
            yield Server(cluster)


@pytest.fixture(scope="module")
def external() -> Iterator[Server]:
    """One for the tests that set nothing up on it."""
    with external_server() as server:
        yield server


@pytest.fixture
def untouched() -> Iterator[Server]:
    """One that has never heard of us: roles belong to whoever makes them first."""
    with external_server() as server:
        yield server


def up(var: Path, url: str) -> subprocess.CompletedProcess[str]:
    return System(var, free_web_port(), 1, 2, env={"DATABASE_URL": url}).manage("up", "--nodes=1", "--symbols=2")


def refused(done: subprocess.CompletedProcess[str], code: int = EXIT_FAILED) -> str:
    """The one line that a command which failed has said."""
    assert done.returncode == code, done.stderr
    (line,) = done.stderr.strip().splitlines()
    return line


def trades(system: System) -> bool:
    """Whether it quotes and fills, by its own API."""
    with system.client() as http:
        quotes = http.get("/api/v1/quotes").raise_for_status().json()["items"]
        fills = http.get("/api/v1/fills").raise_for_status().json()["items"]
    return len(quotes) == system.symbols and bool(fills)


def test_the_whole_system_runs_on_it_as_a_user_who_is_no_superuser(untouched: Server) -> None:
    url = untouched.owner("owner", rights="CREATEROLE CREATEDB")
    with running_system(nodes=2, symbols=2, DATABASE_URL=url, MM_TICK_MS="200") as system:
        assert "(embedded)" not in system.said()
        assert not (system.var / "postgres").exists()
        assert set(system.pids()) == {"daphne", "worker", "beat", "node-1", "node-2"}
        eventually(lambda: trades(system), 30, "it quotes and fills")
        verified = system.manage("verify", "--json")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        # By hand the same URL does: commands that need more rights than the console's take it as it is.
        simulated = system.manage("simulate", "--seed=1", "--steps=3", "--json")
        assert simulated.returncode == 0, simulated.stderr
        system.stop()
        assert OWNER_PASSWORD not in system.said()

        system.start()  # the data are there: it goes on
        assert "migrations" not in system.said().split("stopped")[-1]
        eventually(lambda: trades(system), 30, "it quotes again")

    with provision.connect(untouched.cluster.url("postgres")) as connection:
        left = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'mm_scratch_%'").fetchall()
    assert left == []


def test_a_database_that_is_not_there_yet_is_made(server: str, system: Callable[..., System]) -> None:
    name = f"mm_external_{secrets.token_hex(4)}"
    try:
        external = system(nodes=1, symbols=2, DATABASE_URL=provision.with_database(server, name))
        eventually(lambda: trades(external), 30, "it quotes and fills")
        assert external.interrupt() == 0
        assert external.processes() == []
    finally:
        drop_database(server, name)


def test_a_wrong_password_is_one_line_that_does_not_show_it(external: Server, tmp_path: Path) -> None:
    url = provision.with_login(external.url, "mm_admin", "wrong one")
    said = refused(up(tmp_path / "var", url))
    assert "password authentication failed" in said
    assert "wrong" not in said


def test_a_server_without_commit_timestamps_is_told_what_to_set(tmp_path: Path) -> None:
    with external_server("track_commit_timestamp=off") as server:
        said = refused(up(tmp_path / "var", server.url))
    assert "ALTER SYSTEM SET track_commit_timestamp = on" in said


def test_a_server_that_is_too_old_is_told_what_is_needed() -> None:
    old = SimpleNamespace(info=SimpleNamespace(server_version=140_012))
    with pytest.raises(provision.SetupError, match="PostgreSQL 15 or newer is needed; the server is 14"):
        provision.check_server(cast(Any, old))


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    port = free_port()
    said = refused(up(tmp_path / "var", f"postgresql://boss:secret@127.0.0.1:{port}/market"))
    assert f"127.0.0.1:{port}/market" in said
    assert "refused" in said
    assert "secret" not in said


def test_a_user_who_may_not_make_roles_is_told_what_to_grant(external: Server, tmp_path: Path) -> None:
    said = refused(up(tmp_path / "var", external.owner("plain")))
    assert "ALTER ROLE plain CREATEROLE" in said


def test_a_user_who_does_not_own_the_database_is_told_so(external: Server, tmp_path: Path) -> None:
    external.owner("landlord")
    tenant = external.owner("tenant", rights="CREATEROLE")
    said = refused(up(tmp_path / "var", provision.with_database(tenant, "landlord")))
    assert "ALTER DATABASE landlord OWNER TO tenant" in said


def test_roles_that_another_user_made_are_not_taken_from_him(untouched: Server, tmp_path: Path) -> None:
    provision.set_up(untouched.cluster.url("first"), tmp_path, market=None, broker=False)
    said = refused(up(tmp_path / "var", untouched.owner("second", rights="CREATEROLE")))
    assert "GRANT mm_authority, mm_console, mm_exchange, mm_ledger, mm_node TO second WITH ADMIN OPTION" in said


@pytest.mark.parametrize(
    "url",
    [
        "market",
        "mysql://user@host/market",
        "postgresql://user@host:port/market",
        "postgresql://[host/market",
        "postgresql://host/market?user=boss&password=secret",
    ],
)
def test_a_url_that_cannot_be_meant_is_wrong_use(url: str, tmp_path: Path) -> None:
    said = refused(up(tmp_path / "var", url), EXIT_WRONG_USE)
    assert "DATABASE_URL" in said
    assert "secret" not in said
