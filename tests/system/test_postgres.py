"""The embedded server by itself: where it can run, and that it lets nobody in without a password."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg import sql

from mmproject import provision
from mmproject.conf import ROOT
from mmproject.postgres import Cluster, free_port
from mmproject.scratch import throwaway_server
from tests.support import eventually


@contextmanager
def started(cluster: Cluster) -> Iterator[subprocess.Popen[bytes]]:
    """A server on the cluster's data that takes connections."""
    with cluster.serving() as process:
        provision.wait_for_server(cluster.url("postgres"), 20)
        yield process


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """A new one below a folder that is closed to everybody else, as `mktemp -d` makes them."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    made = Cluster(private / "postgres", free_port(), "not a secret", fsync=False)
    made.prepare()
    return made


def test_ctrl_c_while_the_cluster_is_made_leaves_no_process_that_makes_it(tmp_path: Path) -> None:
    data, draft = tmp_path / "postgres", tmp_path / "postgres.new"
    make = "import sys, pathlib, mmproject.postgres as p; p.Cluster(pathlib.Path(sys.argv[1]), 1, 'x').prepare()"
    with subprocess.Popen([sys.executable, "-c", make, str(data)], cwd=ROOT, stderr=subprocess.DEVNULL) as maker:
        eventually(lambda: (draft / "base" / "1").exists(), 20, "initdb is at work", interval_s=0.001)
        maker.send_signal(signal.SIGINT)
        maker.wait(10)
    assert not data.exists(), "it was through before the signal came"

    def is_at_work(process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            return str(draft) in (process.cwd(), *process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE
        return False

    assert [process for process in psutil.process_iter() if is_at_work(process)] == []


def test_it_runs_below_a_private_folder_and_never_as_root(cluster: Cluster) -> None:
    with started(cluster):
        owners = set()
        for process in cluster.processes():
            with suppress(psutil.NoSuchProcess):  # a worker of its own that has ended meanwhile
                owners.add(process.uids().effective)
        with provision.connect(cluster.url("postgres")) as connection:
            assert connection.execute("SHOW track_commit_timestamp").fetchone() == ("on",)
            # Reading its settings anew walks the path again, which must still be open to it.
            assert connection.execute("SELECT pg_reload_conf()").fetchone() == (True,)
            connection.execute("ALTER SYSTEM SET work_mem = '5MB'")
    assert owners == {cluster.account.uid}
    assert 0 not in owners
    assert cluster.data.stat().st_mode & 0o777 == 0o700
    assert cluster.data.parent.stat().st_mode & 0o777 == 0o700
    assert (cluster.data / "postmaster.pid").exists() is False


def test_nobody_gets_in_without_the_password(cluster: Cluster) -> None:
    with started(cluster):
        for url in [
            cluster.url("postgres").replace("not%20a%20secret", "wrong"),
            f"postgresql://mm_admin@127.0.0.1:{cluster.port}/postgres",
            f"postgresql://postgres@127.0.0.1:{cluster.port}/postgres",
        ]:
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(url, connect_timeout=5)
    assert "trust" not in [
        line.split()[-1] for line in (cluster.data / "pg_hba.conf").read_text().splitlines() if line[:1] not in "#"
    ]


def test_committed_rows_survive_kill_9_and_a_zombie_that_holds_the_pid(cluster: Cluster) -> None:
    with started(cluster) as killed:
        with provision.connect(cluster.url("postgres")) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS number")
        os.kill(killed.pid, signal.SIGKILL)
        eventually(lambda: not cluster.processes(), 10, "its processes end; the zombie does not count")
        assert (cluster.data / "postmaster.pid").exists()
        cluster.remove_stale_lock()
        with started(cluster), provision.connect(cluster.url("postgres")) as connection:
            assert connection.execute("SELECT number FROM kept").fetchall() == [(42,)]


def test_a_first_start_that_was_killed_is_begun_anew(tmp_path: Path) -> None:
    half_made = tmp_path / "postgres.new"
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("18\n")
    cluster = Cluster(tmp_path / "postgres", free_port(), "not a secret", fsync=False)
    cluster.prepare()
    assert (cluster.data / "base").is_dir()
    assert not half_made.exists()


def test_a_node_gets_in_when_all_ordinary_connections_are_taken(tmp_path: Path) -> None:
    with throwaway_server() as url, provision.connect(url) as admin, ExitStack() as taken:
        for role in provision.LOGINS.values():
            admin.execute(sql.SQL("CREATE ROLE {} NOLOGIN NOINHERIT").format(sql.Identifier(role)))  # as journal_roles
        urls = provision.role_urls(url, tmp_path)
        provision.ensure_logins(admin, urls)

        def take_all() -> None:
            while True:
                taken.enter_context(provision.connect(urls["console"]))

        with pytest.raises(psycopg.OperationalError, match="reserved"):
            take_all()
        with provision.connect(urls["node"]) as node:
            assert node.execute("SELECT current_user").fetchone() == ("mm_node",)
        with pytest.raises(psycopg.OperationalError, match="reserved"):
            provision.connect(urls["exchange"])
