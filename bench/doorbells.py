"""Doorbells: a bare NOTIFY's round trip, listeners by the dozen, and what a quote follows a fill with."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

import asyncpg

from bench.scaffold import Database, eventually
from mmproject.conf import ROOT
from mmproject.db import asyncpg_url

CHANNEL: Final = "mm_bench"
MARKET_CHANNEL: Final = "mm_market"
PAUSE_S: Final = 0.002
HEARD_TIMEOUT_S: Final = 10.0
STOP_TIMEOUT_S: Final = 10
_LISTENING: Final = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mm bench listener'"


def notify_ms(database: Database, count: int) -> list[float]:
    """Milliseconds from sending a NOTIFY (not waiting for the disk) to another connection's hearing it; one by one."""
    return asyncio.run(_notify_ms(database.url(), count))


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
    process.stdin.write(asyncpg_url(database.url()) + "\n")  # not on the command line: it holds a password
    process.stdin.flush()
    try:
        eventually(lambda: admin.execute(_LISTENING).fetchone() == (count,), HEARD_TIMEOUT_S, f"{count} listeners")
        yield
    finally:
        process.stdin.close()  # the sign to end
        process.wait(STOP_TIMEOUT_S)
        eventually(lambda: admin.execute(_LISTENING).fetchone() == (0,), HEARD_TIMEOUT_S, "no listeners")


async def _listen(url: str, count: int) -> None:
    settings = {"application_name": "mm bench listener"}
    connect = cast(Any, asyncpg).connect
    connections = [await connect(url, server_settings=settings) for _ in range(count)]
    for connection in connections:
        await connection.add_listener(MARKET_CHANNEL, lambda *_: None)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    for connection in connections:
        await connection.close()


if __name__ == "__main__":
    asyncio.run(_listen(sys.stdin.readline().strip(), int(sys.argv[1])))
