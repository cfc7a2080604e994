"""The node's connections: direct (no pooler: session locks and LISTEN need that), every wait with a deadline.

What can go wrong with a statement is sorted into three: the connection is gone (ConnectionLost: make a new one), the
database chose this statement to lose, or lacks what it takes (TryAgain: the same again, soon), and everything else,
which is an error of ours or of the set-up and is not hidden.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Protocol, cast

import asyncpg

from mmproject.db import asyncpg_url, described
from mmproject.errors import UserError
from mmproject.primary import is_unreplicated, newest

CONNECT_TIMEOUT_S = 3.0  # a server that takes longer is tried again
STATEMENT_TIMEOUT_S = 2.5  # the role's own statement_timeout is 1.8 s: the server answers first, unless it is gone
BACKOFF_BASE_S = 0.05
BACKOFF_CAP_S = 2.0

# The server's side of the socket: a host that vanishes frees its session lock even when nothing is sent to it.
_SERVER_SETTINGS = {
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "3000",
    "jit": "off",  # the statements take less than compiling them would
    # Every statement comes again and again, also those inside the functions. Left to choose, the server plans the ones
    # that take an array anew each time, as it expects less from an array whose length it knows: that costs more than
    # to run them.
    "plan_cache_mode": "force_generic_plan",
    # A plan that lasts must suit a table that has grown since: one made while it was small would read all of it.
    "enable_seqscan": "off",
    "timezone": "UTC",
}
# serialization_failure, deadlock_detected, lock_not_available, query_canceled (its timeout), io_error
_TRY_AGAIN = frozenset(("40001", "40P01", "55P03", "57014", "58030"))
_LACKS = "53"  # the class of a full disk, no memory, a limit that is reached: whoever runs it will see to that
# The server ends the session: shutdowns, idle and transaction timeouts, too many connections; all of class 08.
_SESSION_ENDED = frozenset(("57P01", "57P02", "57P03", "57P05", "25P03", "25P04", "53300", "57P04"))


# asyncpg makes these names from PostgreSQL's list of errors as it is imported, out of a type checker's sight.
_errors: Any = asyncpg.exceptions
DriverError: tuple[type[Exception], ...] = (
    _errors.PostgresError,
    _errors.InterfaceError,
    _errors.InternalClientError,
    OSError,
    TimeoutError,
)


class Connection(Protocol):
    """What we use of an asyncpg connection, most of which it leaves without types."""

    async def fetch(self, query: str, *arguments: Any, timeout: float) -> list[Any]: ...  # noqa: ASYNC109

    async def add_listener(self, channel: str, callback: Callable[[object, int, str, object], None]) -> None: ...

    def add_termination_listener(self, callback: Callable[[object], None]) -> None: ...

    def is_closed(self) -> bool: ...

    def terminate(self) -> None: ...


class ConnectionLost(Exception):
    """The connection is gone, or could not be made. Its text says why, in one line."""


class TryAgain(Exception):
    """The statement lost a race, ran into a timeout or found no space on the disk, and changed nothing."""


class Witness(Protocol):
    """One who is told of every statement before it is sent, and of its rows or its error (nodeagent/history.py)."""

    def asked(self, query: str, arguments: tuple[Any, ...]) -> Callable[[list[Any] | Exception], None] | None: ...


witness: Witness | None = None  # of this process's statements; none unless MM_HISTORY asks for one


class Backoff:
    """Pauses between tries: doubling from 50 ms to 2 s, with jitter so that many who lost at once do not meet again."""

    def __init__(self, base_s: float = BACKOFF_BASE_S, cap_s: float = BACKOFF_CAP_S) -> None:
        self._base_s, self._cap_s, self._tries = base_s, cap_s, 0

    def next_s(self) -> float:
        """How long to wait now, in seconds."""
        longest = min(self._cap_s, self._base_s * 2**self._tries)
        self._tries = min(self._tries + 1, 16)
        return random.uniform(longest / 2, longest)

    def reset(self) -> None:
        self._tries = 0


def one_line(error: BaseException) -> str:
    """An error's text without line breaks, for a log event; its type when it has none."""
    return " ".join(str(error).split()) or type(error).__name__


async def connect(url: str, application_name: str) -> Connection:
    """One connection: of several servers in the URL, to the newest that takes writes (see mmproject/primary.py).

    Raises ConnectionLost, or UserError where trying again will not help.
    """
    try:
        found = await newest(url, lambda one: _connect(one, application_name))
    except (ConnectionLost, UserError):
        raise
    except DriverError as error:
        raise ConnectionLost(f"cannot connect to {described(url)}: {one_line(error)}") from error
    return cast(Connection, found)


async def _connect(url: str, application_name: str) -> Connection:
    try:
        connection = await cast(Any, asyncpg).connect(
            asyncpg_url(url),
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=STATEMENT_TIMEOUT_S,
            max_cached_statement_lifetime=0,  # for ever: they are few, and preparing one again makes a quote late
            target_session_attrs="read-write",
            server_settings={**_SERVER_SETTINGS, "application_name": application_name},
        )
    except (_errors.InvalidAuthorizationSpecificationError, _errors.InvalidCatalogNameError) as error:
        raise UserError(f"cannot connect to {described(url)}: {one_line(error)}") from error
    except _errors.ClientConfigurationError as error:
        raise UserError(f"DATABASE_URL: {one_line(error)}") from error
    except DriverError as error:
        raise ConnectionLost(f"cannot connect to {described(url)}: {one_line(error)}") from error
    connection.add_log_listener(_heard)
    return cast(Connection, connection)


def _heard(connection: Connection, message: Any) -> None:
    """A commit that may be lost is no success: the connection is dropped, before its answer is looked at."""
    if is_unreplicated(message.severity_en or message.severity, message.server_source_function, message.message):
        connection.terminate()


def sorted_error(error: Exception, connection: Connection) -> Exception:
    """The error to raise in place of what asyncpg raised on `connection`."""
    state = getattr(error, "sqlstate", None) or ""
    if state in _SESSION_ENDED or state.startswith("08") or isinstance(error, OSError | TimeoutError):
        return ConnectionLost(one_line(error))
    if state in _TRY_AGAIN or state.startswith(_LACKS):
        return TryAgain(one_line(error))
    if state in ("42883", "42P01", "42703", "3F000"):
        return UserError(f"the database is not set up for this version: {one_line(error)}")
    if state == "42501":
        return UserError(f"this database role may not work as a node (mm_node may): {one_line(error)}")
    if connection.is_closed():
        return ConnectionLost(one_line(error))
    return error


async def listen(connection: Connection, channel: str, rung: Callable[[str, str], None]) -> None:
    """Call `rung` with channel and payload at every notification. Raises ConnectionLost, TryAgain."""

    def heard(_connection: object, _pid: int, heard_channel: str, payload: object) -> None:
        rung(heard_channel, str(payload))

    try:
        async with asyncio.timeout(STATEMENT_TIMEOUT_S):
            await connection.add_listener(channel, heard)
    except DriverError as error:
        raise sorted_error(error, connection) from error


async def fetch(connection: Connection, query: str, *arguments: Any, timeout_s: float) -> list[Any]:
    """Run one statement in autocommit. Raises ConnectionLost, TryAgain, or the error that it is.

    A statement that is not answered in time ends the connection: what becomes of it is then the server's to say.
    """
    told = witness.asked(query, arguments) if witness is not None else None
    try:
        rows = await connection.fetch(query, *arguments, timeout=timeout_s)
    except DriverError as error:
        sorted_one = sorted_error(error, connection)
        if told is not None:
            told(sorted_one)
        if isinstance(sorted_one, ConnectionLost):
            connection.terminate()
        if sorted_one is error:
            raise
        raise sorted_one from error
    if connection.is_closed():
        # By us, for a commit that its standby may lack, or by the server just after its answer: in doubt either way.
        raise ConnectionLost("the connection was closed with its answer: what it did may be lost")
    if told is not None:
        told(rows)
    return rows


class Link:
    """A connection that is made when it is first needed, and again after it was lost. One statement at a time."""

    def __init__(self, url: str, application_name: str) -> None:
        self._url = url
        self._application_name = application_name
        self._connection: Connection | None = None

    async def fetch(self, query: str, *arguments: Any, timeout_s: float = STATEMENT_TIMEOUT_S) -> list[Any]:
        """Run one statement. Raises ConnectionLost, TryAgain, UserError."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._url, self._application_name)
        return await fetch(self._connection, query, *arguments, timeout_s=timeout_s)

    def terminate(self) -> None:
        """Drop the connection now, whatever it is doing."""
        if self._connection is not None and not self._connection.is_closed():
            self._connection.terminate()
        self._connection = None


async def pause(seconds: float, until: asyncio.Event) -> bool:
    """Wait, but no longer than until the event is set; returns whether it is."""
    # Not wait_for: before Python 3.12 it loses a cancellation that comes together with the event.
    try:
        async with asyncio.timeout(seconds):
            await until.wait()
    except TimeoutError:
        return False
    return True
