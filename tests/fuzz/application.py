"""The application itself, without Daphne before it; and an exact eye on what a request changed."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast
from urllib.parse import unquote

from asgiref.sync import async_to_sync
from django.core.signals import request_started
from django.urls import set_script_prefix
from psycopg import sql
from structlog.stdlib import ProcessorFormatter

from mmproject.asgi import OneHopHandler
from tests.fuzz.inputs import Input
from tests.fuzz.oracle import Answer, fault_of, fault_of_log
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


_handler: Final = OneHopHandler()


def _called(sent: Input) -> Answer:
    """The answer to what Daphne would make of the request: as its ASGI handler answers, but in this thread."""
    headers = [(name.lower(), value.strip(b" \t")) for name, value in sent.headers if b"_" not in name]
    if sent.body or not sent.is_read:
        headers.append((b"content-length", b"%d" % len(sent.body)))
    path, _, query = sent.target.partition("?")
    scope = {
        "type": "http", "http_version": "1.1", "method": sent.method, "path": unquote(path), "raw_path": path.encode(),
        "root_path": "", "scheme": "http", "query_string": query.encode(), "headers": headers,
        "client": ["127.0.0.1", 1], "server": ["127.0.0.1", 1],
    }  # fmt: skip
    set_script_prefix("/")
    request_started.send(sender=OneHopHandler, scope=scope)
    request, refusal = _handler.create_request(scope, io.BytesIO(sent.body))
    response: Any = refusal if request is None else _handler.get_response(request)
    try:
        body = _whole(response)
    finally:
        response.close()
    told = {name.lower(): value for name, value in response.items()}
    return Answer(response.status_code, told, body)


def _whole(response: Any) -> bytes:
    if not response.streaming:
        return bytes(response.content)
    if not response.is_async:
        return b"".join(response.streaming_content)

    async def whole() -> bytes:
        return b"".join([part async for part in response.streaming_content])

    return async_to_sync(whole)()


class Judge:
    """Sends requests to the application, one at a time, and says what is wrong."""

    def __init__(self, eye: Eye, log: Log) -> None:
        self._eye = eye
        self._log = log

    def judge(self, sent: Input) -> tuple[int, str | None]:
        """The status of the answer and what is wrong, if anything is."""
        self._log.taken()
        try:
            answer = _called(sent)
        except Exception as error:  # noqa: BLE001 - whatever it is, Daphne would answer 500
            return 500, f"the application fails: {error!r}"
        changed = self._eye.changed()
        if fault := fault_of(sent, answer) or fault_of_log(self._log.taken()):
            return answer.status, fault
        if changed and (answer.is_refusal or sent.is_read):
            return answer.status, f"it is answered {answer.status}, and has changed {', '.join(changed)}"
        return answer.status, None
