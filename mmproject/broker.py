"""Kombu's transport over pgmq, but for what ends its worker: messages that nobody can read, and a queue that is gone.

Kombu takes a message apart while it hands it over, and what it raises then ends the worker. The message is read again
after the visibility timeout and ends the next one: one `[]` in the queue stops the exchange's clock for good. Here it
is dropped, and the worker goes on. A queue that somebody dropped is made again.
"""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from queue import Empty
from typing import Any, Final, NamedTuple

import structlog
from kombu.transport import TRANSPORT_ALIASES, pgmq
from psycopg.errors import RaiseException, UndefinedTable

log = structlog.get_logger(__name__)

SHOWN: Final = 200  # characters of a message that is dropped
READ: Final = "SELECT msg_id, read_ct, message::text FROM pgmq.read(%s, %s, %s)"


class Read(NamedTuple):
    """A message as pgmq's client would give it."""

    msg_id: int
    read_ct: int
    message: Any


class Channel(pgmq.Channel):
    """As kombu's, but that it reads by itself, one message at a time, and can do without its queue."""

    def _get_bulk(
        self, queue: Any, callback: Any = None, timeout: Any = None, max_if_unlimited: int = pgmq.PGMQ_MAX_MESSAGES
    ) -> None:
        """Hand over what there is, up to the prefetch count. Raises Empty, and the errors of a connection."""
        most: int = self._get_message_estimate(max_if_unlimited)  # type: ignore[no-untyped-call]
        name = self._queue_name(queue)
        pool = self.pgmq.pool
        if pool is None:  # closed
            raise Empty
        try:
            with pool.connection() as connection:
                # As text: a driver that reads JSON for us fails for all of them when one is too much for it.
                found = connection.execute(READ, [name, self.visibility_timeout, most]).fetchall() if most else []
        except UndefinedTable:
            log.error("queue made again, somebody had dropped it", queue=name)
            with suppress(UndefinedTable):  # again; then so do we
                self._new_queue(queue)  # type: ignore[no-untyped-call]
            raise Empty from None
        if not found:
            raise Empty
        for number, reads, text in found:
            tag = None
            try:
                message = json.loads(text)
                tag = _tag_of_task(message)
                self.connection._deliver(self._pgmq_message_to_python(Read(number, reads, message), queue), queue)
            except (*self.connection.connection_errors, *self.connection.channel_errors):
                raise
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it would be wrong again
                log.error(
                    "message dropped", queue=name, message_id=number, message=text[:SHOWN],
                    error=f"{type(error).__name__}: {error}"[:SHOWN],
                )  # fmt: skip
                self.pgmq.delete(name, number)
                with suppress(KeyError):  # it counts towards the prefetch count if it got that far
                    self.qos.reject(tag, requeue=False)

    def _size(self, queue: str) -> int:
        """Asked as a queue is declared, which may be gone again by then. It is made again when it is read."""
        try:
            return int(super()._size(queue))  # type: ignore[no-untyped-call]
        except UndefinedTable:
            return 0

    def _maybe_enable_notify(self, queue: str, queue_name: str | None = None) -> None:
        with suppress(UndefinedTable, RaiseException):  # the same; pgmq says so in words
            super()._maybe_enable_notify(queue, queue_name)  # type: ignore[no-untyped-call]

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        try:
            super().basic_ack(delivery_tag, multiple)  # type: ignore[no-untyped-call]
        except UndefinedTable:  # its queue was dropped, and the message with it
            self.qos.ack(delivery_tag)

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        try:
            super().basic_reject(delivery_tag, requeue)  # type: ignore[no-untyped-call]
        except UndefinedTable:
            self.qos.reject(delivery_tag, requeue=False)


class Transport(pgmq.Transport):
    """As kombu's."""

    Channel = Channel


def _tag_of_task(message: Any) -> str:
    """Its delivery tag. Raises one of many errors unless it is a message with a task's arguments.

    A thread of Celery's pool would raise it where nobody acknowledges: some of those, and the worker takes no more.
    """
    body, properties = message["body"], message["properties"]
    arguments, keywords, embedded = json.loads(
        base64.b64decode(body) if properties.get("body_encoding") == "base64" else body
    )
    if not (isinstance(arguments, list) and isinstance(keywords, dict) and isinstance(embedded, dict)):
        raise TypeError("no arguments of a task")
    tag = properties["delivery_tag"]
    if not isinstance(tag, str):
        raise TypeError("no delivery tag")
    return tag


def use() -> None:
    """Have `pgmq://` mean this transport, in this process."""
    TRANSPORT_ALIASES["pgmq"] = f"{__name__}:Transport"
