"""One WebSocket: who may open it, what it may say, and when it is dropped.

A plain ASGI application: a stock Channels consumer hops to a thread for each message.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

import structlog
from channels.auth import get_user
from django.conf import settings
from django.db import Error as DatabaseError

from console.stream.hub import Mailbox
from console.stream.protocol import Ack, Close, Cursor, Limits, Malformed, Resume, parse
from console.stream.reader import Reader, Unavailable
from mmproject.middleware import is_session_key

log = structlog.get_logger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Ended(Exception):
    """The socket's life is over; `code` is what to close it with, or None when the client has left."""

    def __init__(self, code: Close | None) -> None:
        self.code = code


async def is_signed_in(scope: Scope) -> bool:
    """The cookie's session is there and its user may still sign in. Read anew at each call. Raises DatabaseError."""
    key = scope.get("cookies", {}).get(settings.SESSION_COOKIE_NAME)
    if not key or not is_session_key(key):
        return False
    session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    user = await get_user({"session": session})
    return bool(user.is_authenticated and user.is_active)


class StreamSocket:
    """The ASGI application behind /ws/stream/. One per process; each call is one socket."""

    def __init__(self, reader: Reader, limits: Limits | None = None) -> None:
        self._reader = reader
        self._limits = limits or reader.limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        try:
            if not await is_signed_in(scope):
                await send({"type": "websocket.close"})  # before accepting: HTTP 403
                return
            refusal = None
        except DatabaseError as error:
            log.warning("console_socket_without_database", error=" ".join(str(error).split()))
            refusal = Close.UNAVAILABLE
        if len(self._reader.hub.mailboxes) >= self._limits.sockets:
            refusal = Close.FULL
        await send({"type": "websocket.accept"})
        code = refusal or await self._serve(scope, receive, send)
        if code is not None:
            await send({"type": "websocket.close", "code": int(code)})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> Close | None:
        """Talk until one side has reason to stop; returns the code to close with, None when the client has left."""
        mailbox: Mailbox | None = None
        tasks: list[asyncio.Task[None]] = []
        try:
            mailbox = await self._reader.join(await self._hello(receive))
            window = Window(self._limits)
            tasks = [
                asyncio.create_task(self._inbound(receive, window)),
                asyncio.create_task(self._outbound(send, mailbox, window)),
                asyncio.create_task(self._watch_session(scope)),
            ]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        except Ended as ended:
            if ended.code is not None:
                log.info("console_socket_dropped", code=int(ended.code), why=ended.code.name.lower())
            return ended.code
        except Unavailable:
            return Close.UNAVAILABLE
        finally:
            if mailbox is not None:
                self._reader.leave(mailbox)
            for task in tasks:
                task.cancel()
            for task in tasks:
                with contextlib.suppress(asyncio.CancelledError, Ended):
                    await task
        raise AssertionError("a socket's task ended without saying why")

    async def _message(self, receive: Receive) -> Resume | Ack:
        """The client's next message. Raises Ended."""
        event = await receive()
        if event["type"] == "websocket.disconnect":
            raise Ended(None)
        text = event.get("text")
        if text is None or len(text) > self._limits.message_bytes:
            raise Ended(Close.MALFORMED)
        try:
            return parse(text)
        except Malformed:
            raise Ended(Close.MALFORMED) from None

    async def _hello(self, receive: Receive) -> Cursor | None:
        try:
            async with asyncio.timeout(self._limits.hello_s):
                message = await self._message(receive)
        except TimeoutError:
            raise Ended(Close.TOO_SLOW) from None
        if not isinstance(message, Resume):
            raise Ended(Close.MALFORMED)
        return message.cursor

    async def _inbound(self, receive: Receive, window: Window) -> None:
        second, count = 0, 0
        while True:
            message = await self._message(receive)
            if not isinstance(message, Ack) or not window.acknowledge(message.seq):
                raise Ended(Close.MALFORMED)
            if int(time.monotonic()) != second:
                second, count = int(time.monotonic()), 0
            count += 1
            if count > self._limits.messages_per_s:
                raise Ended(Close.TOO_MUCH)

    async def _outbound(self, send: Send, mailbox: Mailbox, window: Window) -> None:
        while True:
            await window.room()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.beat_s):
                    await mailbox.ready.wait()
            await send({"type": "websocket.send", "text": mailbox.take(window.next(), self._reader.hub.status())})

    async def _watch_session(self, scope: Scope) -> None:
        while True:
            await asyncio.sleep(self._limits.session_check_s)
            try:
                if not await is_signed_in(scope):
                    raise Ended(Close.SIGNED_OUT)
            except DatabaseError:
                continue  # asked again next time; meanwhile the page is told that the database is unreachable


class Window:
    """How many messages are on their way. Daphne buffers without limit: the client's acknowledgements are the brake."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._sent = 0
        self._acknowledged = 0
        self._room = asyncio.Event()
        self._room.set()

    def next(self) -> int:
        """The number of the next message."""
        self._sent += 1
        if self._sent - self._acknowledged >= self._limits.window:
            self._room.clear()
        return self._sent

    def acknowledge(self, seq: int) -> bool:
        """False when the client acknowledges what it was never sent."""
        if seq > self._sent:
            return False
        self._acknowledged = max(self._acknowledged, seq)
        if self._sent - self._acknowledged < self._limits.window:
            self._room.set()
        return True

    async def room(self) -> None:
        """Return when another message may be sent. Raises Ended when the client has been silent for too long."""
        try:
            async with asyncio.timeout(self._limits.slow_s):
                await self._room.wait()
        except TimeoutError:
            raise Ended(Close.TOO_SLOW) from None
