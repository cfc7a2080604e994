"""Doorbells: a bare NOTIFY's round trip, and listeners by the dozen."""

from __future__ import annotations

import asyncio
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

import asyncpg
import psycopg

from bench.loops import run_alone
from bench.scaffold import Database, eventually
from mmproject.conf import ROOT
from mmproject.db import asyncpg_url

CHANNEL: Final = "mm_bench"
MARKET_CHANNEL: Final = "mm_market"
PAUSE_S: Final = 0.002
HEARD_TIMEOUT_S: Final = 10.0
STOP_TIMEOUT_S: Final = 10
READ_BYTES: Final = 65_536
_LISTENING: Final = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mm bench listener'"


def notify_ms(database: Database, count: int) -> list[float]:
    """Milliseconds from sending a NOTIFY (not waiting for the disk) to another connection's hearing it; one by one."""
    return run_alone(_notify_ms(database.url(), count))


async def _notify_ms(url: str, count: int) -> list[float]:
    connect = cast(Any, asyncpg).connect
    listener = await connect(asyncpg_url(url))
    sender = await connect(asyncpg_url(url), server_settings={"synchronous_commit": "off"})
    heard = asyncio.Event()
    taken = []
    try:
        await listener.add_listener(CHANNEL, lambda *_: heard.set())
        for _ in range(count):
            heard.clear()
            began = time.perf_counter()
            await sender.execute(f"NOTIFY {CHANNEL}")
            async with asyncio.timeout(HEARD_TIMEOUT_S):
                await heard.wait()
            taken.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(PAUSE_S)
    finally:
        await sender.close()
        await listener.close()
    return taken


@contextmanager
def listeners(database: Database, count: int) -> Iterator[None]:
    """So many connections that LISTEN on the market's channel, in a process of their own."""
    if not count:
        yield
        return
    admin = database.connect()
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.doorbells", str(count)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(database.url() + "\n")  # not on the command line: it holds a password
    process.stdin.flush()
    try:
        eventually(lambda: admin.execute(_LISTENING).fetchone() == (count,), HEARD_TIMEOUT_S, f"{count} listeners")
        yield
    finally:
        process.stdin.close()  # the sign to end
        process.wait(STOP_TIMEOUT_S)
        eventually(lambda: admin.execute(_LISTENING).fetchone() == (0,), HEARD_TIMEOUT_S, "no listeners")


def _listen(url: str, count: int) -> None:
    """Listen and throw away what comes, unread, until standard input ends: what is measured is the server's part."""
    connections = [
        psycopg.connect(url, autocommit=True, application_name="mm bench listener") for _ in range(count)
    ]  # fmt: skip
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        for connection in connections:
            connection.execute(f"LISTEN {MARKET_CHANNEL}")
            selector.register(connection.fileno(), selectors.EVENT_READ)
        while True:
            for key, _events in selector.select():
                if key.fileobj is sys.stdin:
                    return
                if not os.read(key.fd, READ_BYTES):
                    raise ConnectionError("the server has ended a listener")


if __name__ == "__main__":
    _listen(sys.stdin.readline().strip(), int(sys.argv[1]))
