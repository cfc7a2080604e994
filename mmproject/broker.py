"""Kombu's transport over pgmq, but for messages that nobody can read: they are dropped, and the worker goes on.

Kombu takes a message apart while it hands it over, and what it raises then ends the worker. The message is read again
after the visibility timeout and ends the next one: one `[]` in the queue stops the exchange's clock for good.
"""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from queue import Empty
from typing import Any, Final

import structlog
from kombu.transport import TRANSPORT_ALIASES, pgmq

log = structlog.get_logger(__name__)

SHOWN: Final = 200  # characters of a message that is dropped


class Channel(pgmq.Channel):
    """As kombu's, one message at a time."""

    def _get_bulk(
        self, queue: Any, callback: Any = None, timeout: Any = None, max_if_unlimited: int = pgmq.PGMQ_MAX_MESSAGES
    ) -> None:
        """Hand over what there is, up to the prefetch count. Raises Empty, and the errors of a connection."""
        most: int = self._get_message_estimate(max_if_unlimited)  # type: ignore[no-untyped-call]
        messages = self._receive_messages(queue, qty=most, poll=True, timeout=timeout) if most else []
        if not messages:
            raise Empty
        for message in messages:
            try:
                _check(message.message)
                self.connection._deliver(self._pgmq_message_to_python(message, queue), queue)
            except (*self.connection.connection_errors, *self.connection.channel_errors):
                raise
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it would be wrong again
                self._drop(queue, message, error)

    def _drop(self, queue: str, message: Any, error: Exception) -> None:
        log.error(
            "message dropped",
            queue=queue,
            message_id=message.msg_id,
            error=f"{type(error).__name__}: {error}"[:SHOWN],
            message=repr(message.message)[:SHOWN],
        )
        self.pgmq.delete(self._queue_name(queue), message.msg_id)
        with suppress(Exception):  # it counts towards the prefetch count if it got that far
            self.qos.reject(message.message["properties"]["delivery_tag"], requeue=False)


class Transport(pgmq.Transport):
    Channel = Channel


def _check(message: Any) -> None:
    """Raises ValueError, TypeError, KeyError, AttributeError or RecursionError unless its body is that of a task.

    A thread of Celery's pool would raise it where nobody acknowledges: some of those, and the worker takes no more.
    """
    body = message["body"]
    arguments, keywords, embedded = json.loads(
        base64.b64decode(body) if message["properties"].get("body_encoding") == "base64" else body
    )
    if not (isinstance(arguments, list) and isinstance(keywords, dict) and isinstance(embedded, dict)):
        raise TypeError("no arguments of a task")


def use() -> None:
    """Have `pgmq://` mean this transport, in this process."""
    TRANSPORT_ALIASES["pgmq"] = f"{__name__}:Transport"
