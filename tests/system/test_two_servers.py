"""Two servers: who is the primary after a failover, when the old one comes back as it was, and what it may promise."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from django.db import connections

from chaos.processes import Supervisor
from chaos.servers import Server, Servers
from console.stream.reader import Reader
from mmproject import provision, query
from mmproject.db import sqlstate
from mmproject.postgres import free_port
from nodeagent.connections import ConnectionLost, connect, fetch
from tests.support import eventually


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """A primary that its standby follows, with a table."""
    (tmp_path / "log").mkdir()
    supervisor = Supervisor(lambda _who, _what: None)
    made = Servers(tmp_path, (free_port(), free_port()), secrets.token_urlsafe(12), supervisor)
    try:
        made.begin()
        with made.primary.connect() as connection:
            connection.execute("CREATE TABLE thing (what text)")
        made.follow()
        yield made
    finally:
        supervisor.close()


def url_of(*names: str) -> str:
    """Of several servers, in that order."""
    parts = urlsplit(names[0])
    login = parts.netloc.rpartition("@")[0]
    places = ",".join(urlsplit(name).netloc.rpartition("@")[2] for name in names)
    return f"postgresql://{login}@{places}/postgres"


async def node_port(url: str) -> int:
    connection = await connect(url, "test")
    try:
        return int((await fetch(connection, "SELECT inet_server_port()", timeout_s=2))[0][0])
    finally:
        connection.terminate()


async def reader_port(url: str) -> int:
    """Where the console's reader of the stream goes."""
    reader = Reader(lambda: url)
    await reader._connect()
    try:
        return int(await reader._connection.fetchval("SELECT inet_server_port()"))
    finally:
        await reader._disconnect()


def test_clients_take_the_newest_primary_and_nothing_of_the_old_one_is_promised(servers: Servers) -> None:
    old, new = servers.primary, servers.standby
    both = url_of(old.cluster.url("postgres"), new.cluster.url("postgres"))
    with provision.connect(both) as connection:
        assert connection.info.port == old.cluster.port, "before the failover"
    assert asyncio.run(node_port(both)) == old.cluster.port

    servers.kill(old, again=False)
    servers.promote()
    with provision.connect(both) as connection:
        assert connection.info.port == new.cluster.port, "the old one is gone"
    servers.start(old)  # as it was: it takes writes, and comes first in the URL
    with old.connect() as connection:
        assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
    with provision.connect(both) as connection:
        assert connection.info.port == new.cluster.port, "the old one is back"
    assert asyncio.run(node_port(both)) == new.cluster.port
    assert asyncio.run(reader_port(both)) == new.cluster.port
    before = provision.point_django_at(both)
    try:
        assert query.value("SELECT inet_server_port()") == new.cluster.port, "Django without a pool"
    finally:
        connections["default"].close()
        connections.settings["default"].update(before)

    # Whoever reaches the old one alone waits, and is told of no success when somebody ends the wait.
    before = provision.point_django_at(old.cluster.url("postgres"))
    try:
        with wait_ended_by_an_operator(old), pytest.raises(query.NotReplicated) as caught:
            query.value("INSERT INTO thing VALUES ('in vain') RETURNING what")
        assert sqlstate(caught.value) is None, "and it is not tried again as if it had changed nothing"
    finally:
        connections["default"].close()
        connections.settings["default"].update(before)
    # Its driver drops the connection at the server's warning: before the answer has come, or just after. Either way
    # nobody knows the outcome, which is what ConnectionLost means to a node.
    with wait_ended_by_an_operator(old), pytest.raises(ConnectionLost, match=r"may be lost|closed in the middle"):
        asyncio.run(write_as_a_node(old.cluster.url("postgres")))
    with new.connect() as connection:
        assert connection.execute("SELECT count(*) FROM thing").fetchone() == (0,)
    servers._supervisor.stop(old.process.name, signal.SIGQUIT)


@contextmanager
def wait_ended_by_an_operator(server: Server) -> Iterator[None]:
    """Cancel, once, what waits for a standby that does not come."""
    cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"

    def run() -> None:
        with server.connect() as connection:
            eventually(lambda: connection.execute(cancel).fetchone(), 20, "a commit waits for the standby")

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(run)
        yield
        ended.result()


async def write_as_a_node(url: str) -> None:
    connection = await connect(url, "test")
    try:
        await fetch(connection, "INSERT INTO thing VALUES ('in vain')", timeout_s=20)
    finally:
        connection.terminate()


def test_none_that_takes_writes_is_an_error_and_not_a_wait(servers: Servers) -> None:
    url = url_of(servers.standby.cluster.url("postgres"), f"postgresql://x@127.0.0.1:{free_port()}/postgres")
    with pytest.raises(psycopg.OperationalError):
        provision.connect(url)
    with pytest.raises(ConnectionLost):
        asyncio.run(connect(url, "test"))
