"""The reader: one connection per process that listens, reads what changed, and publishes it to the hub.

A doorbell or a slow timer wakes it; it reads everything that changed since its position, once, and at most every
`read_interval_s`. Doorbells carry no facts, so a lost, doubled or forged one does no harm. It starts with the first
socket, ends a while after the last, and connects again with backoff for as long as it takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import asyncpg
import structlog

from console.selectors import ACTIVITY_AFTER, ACTIVITY_LATEST, STATE, activity_json
from console.stream.hub import KINDS, Entry, Hub, Mailbox, Reading
from console.stream.protocol import START, Cursor, Limits
from mmproject.db import asyncpg_url
from mmproject.primary import newest

log = structlog.get_logger(__name__)

CHANNELS = ("mm_market", "mm_authority")
RATE_WINDOW_S = 10.0  # fills per second are a mean over it: calm enough to read
# asyncpg makes these names from PostgreSQL's list of errors as it is imported, out of a type checker's sight.
_errors: Any = asyncpg.exceptions
# What a lost, restarting or frozen server can raise. A mistake in our own SQL is among them: it is logged, too.
DATABASE_ERRORS: tuple[type[Exception], ...] = (
    _errors.PostgresError,
    _errors.InterfaceError,
    _errors.InternalClientError,
    OSError,
    TimeoutError,
)


class Unavailable(Exception):
    """The database cannot be asked just now."""


def _entry(record: Any) -> Entry:
    return Cursor(record["xid"], record["id"]), activity_json(record)


class Reader:
    """Reads for one hub. `url` is asked at each connect. All methods belong to one event loop."""

    def __init__(self, url: Callable[[], str], limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.hub = Hub(self.limits)
        self._url = url
        self._task: asyncio.Task[None] | None = None
        self._connection: Any = None  # asyncpg's, most of which comes without types
        self._lock = asyncio.Lock()  # the connection, and the step from a reading to its publication
        self._wake = asyncio.Event()
        self._read_once = asyncio.Event()
        self._rates = {"fills": Rate(), "orders": Rate()}
        self._idle_since_s = 0.0

    async def join(self, cursor: Cursor | None) -> Mailbox:
        """A mailbox that begins with a snapshot and what was missed since `cursor`. Raises Unavailable.

        The caller hands it back to `leave`.
        """
        self._start()
        try:
            async with asyncio.timeout(self.limits.connect_timeout_s):
                await self._read_once.wait()
        except TimeoutError:
            raise Unavailable from None
        mailbox = Mailbox(self.limits)
        async with self._lock:
            missed = self.hub.latest() if cursor is None else await self._missed(cursor)
            gap = missed is None
            mailbox.snapshot(self.hub.rows, self.hub.summary, self.hub.latest() if missed is None else missed, gap=gap)
            self.hub.mailboxes.add(mailbox)
        return mailbox

    def leave(self, mailbox: Mailbox) -> None:
        self.hub.mailboxes.discard(mailbox)

    async def close(self) -> None:
        """Stop at once; for tests and shutdown."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _start(self) -> None:
        if self._task is None or self._task.done():
            # What is known may be old by now, and nobody is waiting for what came since.
            self._read_once.clear()
            self.hub.forget()
            self._idle_since_s = time.monotonic()
            self._task = asyncio.create_task(self._run(), name="console-reader")

    async def _run(self) -> None:
        pause_s = self.limits.backoff_s
        while self._is_wanted():
            try:
                await self._connect()
                while self._is_wanted():
                    started_s = time.monotonic()
                    await self._read()
                    pause_s = self.limits.backoff_s
                    await self._until_needed(started_s)
            except DATABASE_ERRORS as error:
                if self.hub.database or pause_s == self.limits.backoff_s:
                    log.warning("console_reader_lost_database", error=f"{type(error).__name__}: {error}")
                self.hub.unreachable()
            except Exception:  # our own mistake: the pages say that they are stale, the log says why
                log.exception("console_reader_failed")
                self.hub.unreachable()
            finally:
                await self._disconnect()
            await asyncio.sleep(random.uniform(0.5, 1) * pause_s)
            pause_s = min(2 * pause_s, self.limits.backoff_max_s)

    def _is_wanted(self) -> bool:
        now_s = time.monotonic()
        if self.hub.mailboxes:
            self._idle_since_s = now_s
        return now_s - self._idle_since_s <= self.limits.linger_s

    async def _connect(self) -> None:
        def connect(url: str) -> Any:
            return cast(Any, asyncpg).connect(
                asyncpg_url(url),
                timeout=self.limits.connect_timeout_s,
                command_timeout=self.limits.read_timeout_s,
                server_settings={"application_name": "mm console stream", "timezone": "UTC", "jit": "off"},
            )

        connection = await newest(self._url(), connect)
        self._connection = connection
        connection.add_termination_listener(lambda _: self._wake.set())  # noticed at once, not by the timer
        for channel in CHANNELS:
            await connection.add_listener(channel, lambda *_: self._wake.set())
        log.info("console_reader_connected")

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()  # a polite goodbye could hang on a server that is gone

    async def _until_needed(self, started_s: float) -> None:
        """Sleep to the timer or a doorbell, and never less than the read interval."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.timer_s):
                await self._wake.wait()
        await asyncio.sleep(max(0.0, started_s + self.limits.read_interval_s - time.monotonic()))

    async def _read(self) -> None:
        self._wake.clear()  # before reading: what rings from now on is read next time
        async with self._lock:
            more = True
            while more:
                rows: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
                summary: dict[str, Any] = {}
                for record in await self._connection.fetch(STATE):
                    if record["kind"] == "summary":
                        summary = json.loads(record["row"])
                    else:
                        rows[record["kind"]][record["key"]] = record["row"]
                activity, reset, more = await self._new_activity()
                now = summary.pop("now")
                for counted, rate in self._rates.items():
                    summary[f"{counted}_per_s"] = rate.after(summary[counted])
                self.hub.publish(Reading(rows, json.dumps(summary, separators=(",", ":")), now, activity, reset))
        self._read_once.set()

    async def _new_activity(self) -> tuple[list[Entry], bool, bool]:
        """Activity after the hub's position; whether that position is lost; whether there is more to read."""
        cursor = self.hub.cursor
        if cursor == START:
            latest = await self._connection.fetch(ACTIVITY_LATEST, self.limits.kept_rows)
            return [_entry(record) for record in reversed(latest)], False, False
        found = await self._connection.fetch(ACTIVITY_AFTER, str(cursor.xid), cursor.id, self.limits.batch_rows)
        if found and (found[0]["xid"], found[0]["id"]) == cursor:
            return [_entry(record) for record in found[1:]], False, len(found) == self.limits.batch_rows
        # Another database, or one restored or recovered to before what we have seen: begin anew, and say so.
        log.warning("console_reader_position_lost", cursor=str(cursor))
        latest = await self._connection.fetch(ACTIVITY_LATEST, self.limits.kept_rows)
        return [_entry(record) for record in reversed(latest)], True, False

    async def _missed(self, cursor: Cursor) -> list[Entry] | None:
        """What a client at `cursor` has missed, in order; None when that is too much or the position is unknown."""
        kept = self.hub.since(cursor)
        if kept is not None:
            return kept
        if cursor > self.hub.cursor:
            return None
        if self._connection is None:
            raise Unavailable
        try:
            found = await self._connection.fetch(
                ACTIVITY_AFTER, str(cursor.xid), cursor.id, self.limits.resume_rows + 2
            )
        except DATABASE_ERRORS:
            raise Unavailable from None
        if not found or (found[0]["xid"], found[0]["id"]) != cursor or len(found) > self.limits.resume_rows + 1:
            return None
        return [entry for record in found[1:] if (entry := _entry(record))[0] <= self.hub.cursor]


class Rate:
    """Per second, over the last RATE_WINDOW_S, by what a counter shows."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def after(self, count: int) -> float:
        """The rate now that the counter shows `count`. One that went back (the server restarted) begins anew."""
        now_s = time.monotonic()
        if self._seen and count < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now_s, count))
        while len(self._seen) > 1 and self._seen[1][0] <= now_s - RATE_WINDOW_S:
            self._seen.popleft()
        first_s, first = self._seen[0]
        return round((count - first) / max(now_s - first_s, 1.0), 1)
