"""DATABASE_URL: somebody's server instead of the embedded one."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmproject import provision
from mmproject.errors import UserError
from mmproject.postgres import Cluster, free_port
from tests.support import STOP_TIMEOUT_S, System, drop_database, eventually


@pytest.fixture
def fresh_server(tmp_path: Path) -> Iterator[str]:
    """The admin's URL of a server that has never heard of us."""
    cluster = Cluster(tmp_path / "postgres", free_port(), "a password", fsync=False)
    cluster.prepare()
    with cluster.serving():
        provision.wait_for_server(cluster.url("postgres"), 20)
        yield cluster.url("postgres")


def has_a_fill(system: System) -> bool:
    with system.connect() as connection:
        return connection.execute("SELECT EXISTS (SELECT FROM ledger_fill)").fetchone() == (True,)


def test_it_makes_its_database_there_and_starts_no_server(server: str, system: Callable[..., System]) -> None:
    name = f"mm_external_{secrets.token_hex(4)}"
    try:
        external = system(nodes=1, symbols=2, DATABASE_URL=provision.with_database(server, name))
        assert "postgres" not in external.pids()
        assert not (external.var / "postgres").exists()
        eventually(lambda: has_a_fill(external), 30, "orders meet quotes")
        assert external.stop() < STOP_TIMEOUT_S
        assert external.processes() == []
    finally:
        drop_database(server, name)


def test_an_owner_without_superuser_rights_is_enough(fresh_server: str, system: Callable[..., System]) -> None:
    with provision.connect(fresh_server) as connection:
        connection.execute("CREATE ROLE owner LOGIN PASSWORD 'of the market' CREATEDB CREATEROLE")
    url = provision.with_login(provision.with_database(fresh_server, "market"), "owner", "of the market")
    system_of_owner = system(nodes=1, symbols=2, DATABASE_URL=url)
    eventually(lambda: has_a_fill(system_of_owner), 30, "orders meet quotes")


@pytest.mark.parametrize(
    ("version", "track", "said"),
    [(140_011, "on", "PostgreSQL 15 or newer"), (180_006, "off", "track_commit_timestamp = on")],
)
def test_a_server_that_will_not_do_is_named_with_what_to_change(version: int, track: str, said: str) -> None:
    answer = SimpleNamespace(fetchone=lambda: (track,))
    connection: Any = SimpleNamespace(info=SimpleNamespace(server_version=version), execute=lambda _: answer)
    with pytest.raises(UserError, match=said):
        provision.check_server(connection)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://mm_admin:wrong@127.0.0.1:{port}/market", "password authentication failed"),
        ("postgresql://127.0.0.1:{port}/", "no password supplied|names no database"),
        ("mysql://127.0.0.1/market", "DATABASE_URL"),
        ("nonsense", "DATABASE_URL"),
    ],
)
def test_a_wrong_database_url_is_one_clear_line(server: str, tmp_path: Path, url: str, said: str) -> None:
    port = server.rpartition(":")[2].partition("/")[0]
    env = {"DATABASE_URL": url.format(port=port)}
    refused = System(tmp_path / "var", free_port(), 1, 1, env=env).manage("up", "--port", str(free_port()))
    assert refused.returncode in (1, 2)
    assert re.search(said, refused.stderr)
    assert "Traceback" not in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
