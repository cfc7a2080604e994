"""One incarnation of the node: its registration, its renewals, and until when it may believe in its leases.

The session's connection does nothing else but LISTEN, so no amount of work can starve a renewal. Its backend holds the
incarnation's advisory lock: when this process or this connection dies, the server frees the lock and the others know.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog

from mmproject.conf import Conf
from mmproject.crashpoints import crash_point
from mmproject.db import sqlstate
from mmproject.errors import UsageError
from nodeagent import authority_client as client
from nodeagent.authority_client import Registration, Renewal
from nodeagent.connections import (
    STATEMENT_TIMEOUT_S,
    Backoff,
    Connection,
    ConnectionLost,
    TryAgain,
    connect,
    fetch,
    listen,
    pause,
)

log = structlog.get_logger("nodeagent.session")

AUTHORITY_CHANNEL = "mm_authority"
MARKET_CHANNEL = "mm_market"
PARTS_S = (
    0.05  # between two parts of an earlier self's end; the last may be long in coming, if somebody keeps rows locked
)
RENEW_AGAIN_S = 0.05  # after a renewal that lost a race or timed out in the server
LEAVE_TIMEOUT_S = 0.7  # part of the two seconds that a node may take to stop
NAME_IN_USE = "MM001"
INVALID = "MM422"


@dataclass(frozen=True, slots=True)
class Timing:
    """A node's times, in seconds."""

    ttl_s: float
    renew_interval_s: float
    belief_margin_s: float

    @classmethod
    def of(cls, conf: Conf) -> Timing:
        return cls(conf.lease_ttl_ms / 1000, conf.renew_interval_ms / 1000, conf.belief_margin_ms / 1000)


class Belief:
    """Until when this process may take its leases as its own, by its own monotonic clock.

    Counted from when a renewal was *sent*: the database can't have counted from any earlier moment. The margin is for
    clocks that run at different speeds. Safety does not rest on it (the fence does); it spares futile writes.
    """

    def __init__(self, timing: Timing, sent_at: float) -> None:
        self._lasts_s = timing.ttl_s - timing.belief_margin_s
        self._until = sent_at + self._lasts_s

    def confirm(self, sent_at: float) -> None:
        """A renewal that was sent then has succeeded."""
        self._until = max(self._until, sent_at + self._lasts_s)

    def left_s(self) -> float:
        """Seconds that are left, negative when it has lapsed."""
        return self._until - time.monotonic()


class Session:
    """A registered incarnation and its dedicated connection."""

    def __init__(
        self, connection: Connection, node: str, registration: Registration, timing: Timing, sent_at: float
    ) -> None:
        self.node = node
        self.incarnation = registration.incarnation
        self.serial = registration.serial
        self.belief = Belief(timing, sent_at)
        self._timing = timing
        self._sent_at = sent_at
        self._connection = connection
        self._one_statement = asyncio.Lock()  # a renewal in flight ends before `leave` begins
        self._over = asyncio.Event()  # the connection has closed
        self._renew_now = asyncio.Event()
        connection.add_termination_listener(lambda _connection: self._over.set())

    def renew_soon(self) -> None:
        """Ask for a renewal now: something suggests that the incarnation is over."""
        self._renew_now.set()

    async def renew_until_over(self, renewed: Callable[[Renewal], None]) -> str:
        """Renew every interval and hand each answer on; returns why the incarnation is over.

        1. wait for the interval since the last renewal was sent, or until one is asked for
        2. renew; what lost a race in the server is sent again soon
        3. no row: it has ended or expired, and never comes back
        """
        wait_s = self._timing.renew_interval_s
        while True:
            await pause(self._sent_at + wait_s - time.monotonic(), self._renew_now)
            self._renew_now.clear()
            if self._over.is_set():
                return "connection lost"
            self._sent_at = time.monotonic()
            wait_s = self._timing.renew_interval_s
            try:
                renewal = await self._renew()
            except TryAgain as error:
                log.warning("renewal failed", node=self.node, incarnation=str(self.incarnation), error=str(error))
                wait_s = RENEW_AGAIN_S
                continue
            except ConnectionLost as error:
                return f"connection lost: {error}"
            if renewal is None:
                return "ended or expired"
            self.belief.confirm(self._sent_at)
            renewed(renewal)

    async def _renew(self) -> Renewal | None:
        # The database judges for as long as the lease may last. No answer by then: the connection is dead.
        async with self._one_statement:
            crash_point("renew.before")
            rows = await fetch(self._connection, client.RENEW, self.incarnation, timeout_s=self._timing.ttl_s)
            crash_point("renew.after")
        return Renewal(*rows[0]) if rows else None

    async def over(self) -> None:
        """Return when the connection has closed."""
        await self._over.wait()

    async def begin_leave(self) -> int:
        """Be no member any more, so that the others are assigned what we hold; how many members there are.

        Raises ConnectionLost, TryAgain, TimeoutError.
        """
        async with asyncio.timeout(LEAVE_TIMEOUT_S), self._one_statement:
            rows = await fetch(self._connection, client.BEGIN_LEAVE, self.incarnation, timeout_s=LEAVE_TIMEOUT_S)
        return int(rows[0][0])

    async def leave(self) -> int:
        """End the incarnation on purpose; how many symbols it gave back.

        Raises ConnectionLost, TryAgain, TimeoutError.
        """
        released, done = 0, False
        async with asyncio.timeout(LEAVE_TIMEOUT_S), self._one_statement:
            while not done:
                crash_point("leave.before")
                rows = await fetch(self._connection, client.LEAVE, self.incarnation, timeout_s=LEAVE_TIMEOUT_S)
                crash_point("leave.after")
                released, done = released + rows[0][0], rows[0][1]
        return released

    def terminate(self) -> None:
        """Close the connection now; the server frees the session's lock, and the others end the incarnation."""
        if not self._connection.is_closed():
            self._connection.terminate()


async def open_session(
    url: str,
    node: str,
    timing: Timing,
    *,
    on_authority: Callable[[str], None],
    on_market: Callable[[str], None],
    stopping: asyncio.Event,
) -> Session | None:
    """Connect, LISTEN and register, as often as it takes; None when told to stop meanwhile.

    1. connect; while that fails, pause and try again, for ever
    2. LISTEN first, so that no doorbell between registration and the first reading is lost
    3. register; while an earlier incarnation of the name is alive, pause and try again
    Raises UsageError for a name that the database refuses, UserError where trying again will not help.
    """
    backoff = Backoff()
    while not stopping.is_set():
        connection: Connection | None = None
        try:
            connection = await connect(url, f"mm-node {node}")
            await listen(connection, AUTHORITY_CHANNEL, lambda _channel, payload: on_authority(payload))
            await listen(connection, MARKET_CHANNEL, lambda _channel, payload: on_market(payload))
            return await _register(connection, node, timing, stopping)
        except (ConnectionLost, TryAgain) as error:
            wait_s = backoff.next_s()
            log.warning("cannot register yet", node=node, error=str(error), again_in_ms=round(wait_s * 1000))
            if connection is not None and not connection.is_closed():
                connection.terminate()
            await pause(wait_s, stopping)
        except BaseException:
            if connection is not None and not connection.is_closed():
                connection.terminate()
            raise
    return None


async def _register(connection: Connection, node: str, timing: Timing, stopping: asyncio.Event) -> Session | None:
    backoff = Backoff()
    while True:
        sent_at = time.monotonic()
        crash_point("register.before")
        try:
            rows = await fetch(
                connection, client.REGISTER, node, round(timing.ttl_s * 1000), timeout_s=STATEMENT_TIMEOUT_S
            )
        except Exception as error:
            if sqlstate(error) == INVALID:
                raise UsageError(str(error)) from error
            if sqlstate(error) != NAME_IN_USE:
                raise
            wait_s = backoff.next_s()
            log.warning("name_in_use", node=node, error=str(error), again_in_ms=round(wait_s * 1000))
            if await pause(wait_s, stopping):
                connection.terminate()
                return None
            continue
        crash_point("register.after")
        if not rows:  # a part of what its earlier self held has been taken away: the next part
            if await pause(PARTS_S, stopping):
                connection.terminate()
                return None
            continue
        registration = Registration(*rows[0])
        log.info(
            "registered",
            node=node,
            incarnation=str(registration.incarnation),
            serial=registration.serial,
            expires_at=registration.expires_at.isoformat(),
        )
        return Session(connection, node, registration, timing, sent_at)


def expires_in_s(renewal: Renewal) -> float | None:
    """Seconds until the first of the others expires, by the database's clock alone; None when there are none."""
    if renewal.next_expiry is None:
        return None
    left: timedelta = renewal.next_expiry - renewal.now
    return left.total_seconds()
