"""The application itself, as Daphne calls it, without the network; and an exact eye on what a request changed."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast
from urllib.parse import unquote

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from psycopg import sql
from structlog.stdlib import ProcessorFormatter

from mmproject.asgi import application
from tests.fuzz.inputs import Input
from tests.fuzz.oracle import Answer, Tally, fault_of, fault_of_log
from tests.support import Connection

# Every table of the domain, and who may do what. Not: sessions, counts of failed logins, when a token was last used.
_DOMAIN: Final = (
    "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
    " AND table_name ~ '^(journal|ledger|exchange|authority)_' ORDER BY 1"
)
_ACCOUNTS: Final = {
    "auth_user": "(SELECT id, username, password, is_active, is_staff, is_superuser FROM auth_user)",
    "auth_user_groups": "auth_user_groups",
    "accounts_apitoken": "(SELECT id, user_id, name, token_hash FROM accounts_apitoken)",
}


# They warn of input that should have been refused before it reached the database.
TELLING: Final = ("mmproject.api", "console.ticket")


class Eye:
    """Sees whether anything was changed, in a database where nobody else writes.

    Whoever writes takes a transaction number. So when no number was taken since the last look nothing was written, and
    when one was, a digest of each table tells whether anything came of it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        names = [name for (name,) in connection.execute(_DOMAIN)]
        assert len(names) >= 15, names
        sources = {name: sql.Identifier(name) for name in names} | {
            name: sql.SQL(cast(Any, source)) for name, source in _ACCOUNTS.items()
        }
        self._digest = sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {}, count(*), sum(hashtextextended(t::text, 0)) FROM {} t").format(name, source)
            for name, source in sources.items()
        )
        self._number = self._next_number()
        self.tables = self._tables()

    def _next_number(self) -> str:
        row = self._connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text").fetchone()
        assert row is not None
        return str(row[0])

    def _tables(self) -> dict[str, tuple[int, Any]]:
        return {name: (count, digest) for name, count, digest in self._connection.execute(self._digest)}

    def changed(self) -> list[str]:
        """The tables that were changed since the last look."""
        number = self._next_number()
        if number == self._number:
            return []
        tables = self._tables()
        found = [name for name, digest in tables.items() if digest != self.tables[name]]
        self._number, self.tables = number, tables
        return found


class Log:
    """What the application logs meanwhile, as it would be written to the log's file."""

    def __init__(self) -> None:
        self._text = io.StringIO()

    @contextmanager
    def heard(self) -> Iterator[Log]:
        """Takes the place of the file. Refusals are not logged, of which there are too many."""
        (handler,) = (one for one in logging.getLogger().handlers if isinstance(one.formatter, ProcessorFormatter))
        assert isinstance(handler, logging.StreamHandler)
        loggers = {name: logging.getLogger(name) for name in ("", "django", *TELLING)}
        before = {name: logger.level for name, logger in loggers.items()}
        stream = handler.setStream(self._text)
        for name, logger in loggers.items():
            logger.setLevel("WARNING" if name in TELLING else "ERROR")
        try:
            yield self
        finally:
            handler.setStream(stream)
            for name, level in before.items():
                loggers[name].setLevel(level)

    def taken(self) -> str:
        """What was logged since the last time."""
        text = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return text


async def _called(sent: Input) -> Answer:
    """The application's answer."""
    headers = [(name.lower(), value.strip(b" \t")) for name, value in sent.headers if b"_" not in name]
    headers = [header for header in headers if header[0] != b"daphne-root-path"]
    if sent.body or not sent.is_read:
        headers.append((b"content-length", b"%d" % len(sent.body)))
    path, _, query = sent.target.partition("?")
    scope = {
        "type": "http", "http_version": "1.1", "method": sent.method, "path": unquote(path), "raw_path": path.encode(),
        "root_path": "", "scheme": "http", "query_string": query.encode(), "headers": headers,
        "client": ["127.0.0.1", 1], "server": ["127.0.0.1", 1],
    }  # fmt: skip
    status, told, body = 0, {}, b""
    is_read = False

    async def receive() -> dict[str, Any]:
        nonlocal is_read
        if is_read:
            await asyncio.Event().wait()  # the client stays: its leaving never comes
        is_read = True
        return {"type": "http.request", "body": sent.body, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status, told, body
        if message["type"] == "http.response.start":
            status = message["status"]
            told = {name.decode("latin1").lower(): value.decode("latin1") for name, value in message["headers"]}
        else:
            body += message.get("body", b"")

    await application(scope, cast(Any, receive), cast(Any, send))
    return Answer(status, told, body)


class Judge:
    """Sends requests to the application, one at a time, and says what is wrong."""

    def __init__(self, eye: Eye, log: Log) -> None:
        self._eye = eye
        self._log = log

    async def judge(self, sent: Input) -> tuple[int, str | None]:
        """The status of the answer and what is wrong, if anything is."""
        self._log.taken()
        try:
            answer = await _called(sent)
        except Exception as error:  # noqa: BLE001 - whatever it is, Daphne would answer 500
            return 500, f"the application fails: {error!r}"
        changed = self._eye.changed()
        if fault := fault_of(sent, answer):
            return answer.status, fault
        if fault := fault_of_log(self._log.taken()):
            return answer.status, f"it is answered {answer.status}, and {fault}"
        if changed and (answer.is_refusal or sent.is_read):
            return answer.status, f"it is answered {answer.status}, and has changed {', '.join(changed)}"
        return answer.status, None


def judged(
    inputs: Callable[[int], Input], judge: Judge, tally: Tally, *, first: int
) -> tuple[int, str, Callable[[Input], str | None]] | None:
    """Send inputs from number `first` on until the tally has its goal.

    Returns None, or of the first that goes wrong its number, what is wrong, and what sends another and says the same.
    """
    runner = asyncio.Runner()

    async def all_of_them() -> tuple[int, str] | None:
        number = first
        # One thread for all requests, and so one connection to the database: else each would open its own.
        async with ThreadSensitiveContext():
            try:
                while not tally.is_done:
                    status, fault = await judge.judge(inputs(number))
                    tally.count(status)
                    if fault:
                        return number, fault
                    number += 1
                return None
            finally:
                await sync_to_async(_close)()

    async def again(sent: Input) -> str | None:
        async with ThreadSensitiveContext():
            try:
                return (await judge.judge(sent))[1]
            finally:
                await sync_to_async(_close)()

    found = runner.run(all_of_them())
    if found is None:
        runner.close()
        return None
    return *found, lambda sent: runner.run(again(sent))


def _close() -> None:
    from django.db import connections

    connections["default"].close()
