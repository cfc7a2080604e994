"""Scratch databases: made on a real server, migrated, used by one process, and dropped at its end.

The server is DATABASE_URL's, or the running system's (its market is not touched), or else a throwaway embedded one.
A scratch database that a killed process left behind is dropped by the next one who makes one.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final

import psycopg
import structlog

from mmproject import provision
from mmproject.conf import Conf
from mmproject.db import connect_url
from mmproject.errors import NoDatabase
from mmproject.postgres import Cluster, free_port

log = structlog.get_logger(__name__)

# Advisory lock class, in the server's `postgres` database, held by whoever uses the scratch database of that name.
LOCK_CLASS: Final = 6999
PREFIX: Final = "mm_scratch_"

Say = Callable[[str], None]


@contextmanager
def scratch_database(settings: Conf, purpose: str, say: Say, *, server: str | None = None) -> Iterator[str]:
    """The admin's URL of a migrated, empty database; Django's default connection points at it in the meantime.

    It is made on `server` (an admin's URL) if that is given. `say` is told what takes a while. SIGTERM and Ctrl-C end
    the caller with KeyboardInterrupt, and the database is dropped all the same. Raises SetupError.
    """
    with interruptible(), _server(settings, say, server) as server_url, provision.connect(server_url) as owner:
        provision.check_server(owner)
        _drop_orphans(owner)
        name = f"{PREFIX}{purpose}_{os.getpid()}_{secrets.token_hex(4)}"
        url = provision.with_database(server_url, name)
        owner.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", [LOCK_CLASS, name])
        before = None
        try:
            say("making a scratch database")
            provision.ensure_database(url)
            before = provision.point_django_at(url)
            provision.migrate()
            yield url
        finally:
            with _undisturbed():
                if before is not None:
                    _point_back(before)
                _drop(owner, name)


@contextmanager
def _server(settings: Conf, say: Say, given: str | None) -> Iterator[str]:
    """The admin's URL of a server's `postgres` database."""
    if given is not None:
        yield provision.with_database(given, "postgres")
        return
    try:
        url = provision.with_database(connect_url("admin", settings), "postgres")
        if not settings.database_url:
            provision.connect(url).close()  # var/run/urls.json outlives the system that wrote it
    except (NoDatabase, psycopg.OperationalError):
        say("starting a throwaway PostgreSQL")
        with throwaway_server() as url:
            yield url
    else:
        yield url


@contextmanager
def throwaway_server(*, fsync: bool = False) -> Iterator[str]:
    """An embedded server in a temporary folder; gone afterwards, also when we are killed.

    Without `fsync` it is faster than safe.
    """
    folder = Path(tempfile.mkdtemp(prefix="mm-scratch-"))
    try:
        cluster = Cluster(folder / "postgres", free_port(), secrets.token_urlsafe(24), fsync=fsync)
        cluster.prepare()
        with (folder / "postgres.log").open("w") as output, cluster.serving(output):
            url = cluster.url("postgres")
            provision.wait_for_server(url)
            yield url
    finally:
        with _undisturbed():
            shutil.rmtree(folder, ignore_errors=True)


def _drop(owner: psycopg.Connection[tuple[object, ...]], name: str) -> None:
    try:
        provision.drop_database(owner, name)
    except psycopg.OperationalError as error:
        # The server is gone, which the caller is being told; the next scratch database's maker drops this one.
        log.warning("scratch database left", database=name, reason=str(error).strip())


def _drop_orphans(owner: psycopg.Connection[tuple[object, ...]]) -> None:
    """Drop the scratch databases whose makers are gone: their advisory locks are free."""
    found = owner.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [PREFIX]).fetchall()
    for (name,) in found:
        lock = [LOCK_CLASS, name]
        if owner.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", lock).fetchone() == (True,):
            try:
                _drop(owner, str(name))
            finally:
                owner.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", lock)


def _point_back(before: dict[str, object]) -> None:
    from django.db import connections

    connections["default"].close()
    connections.settings["default"].update(before)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends us as Ctrl-C does, so that what is ours is cleared away."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No signal but SIGKILL cuts the clearing away short; it is bounded by the server's own limits."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        with suppress(ValueError):
            for number, handler in before.items():
                signal.signal(number, handler)
