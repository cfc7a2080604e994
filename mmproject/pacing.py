"""HTTP answers at the pace of whoever takes them, and broken off where they fail.

Daphne takes all that an application sends, at once, and keeps it until the client has taken it: a download of any
length to a slow client is then held in memory whole. And an answer that fails in the middle is never ended, while the
exception ends Daphne's task that watches over connections. This stands between the two, for answers in more than one
part: after each part it waits until the connection can take more, as Twisted tells its producers, and whatever goes
wrong once an answer has begun breaks the connection off. Without its last chunk no client takes it for complete.

It finds the request through the `send` that Daphne hands out; under any other server it does nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import structlog
from twisted.web import http

log = structlog.get_logger(__name__)

STALL_S: Final = 60  # a client that takes nothing for so long is gone, or as good as

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


class Stalled(Exception):
    """The client takes nothing."""


class _Producer:
    """What Twisted tells of the connection's buffer. Its interface is IPushProducer's."""

    def __init__(self) -> None:
        self._may_go_on = asyncio.Event()
        self._may_go_on.set()

    def pauseProducing(self) -> None:
        self._may_go_on.clear()

    def resumeProducing(self) -> None:
        self._may_go_on.set()

    def stopProducing(self) -> None:
        """The connection is lost: the application hears of it by itself."""
        self._may_go_on.set()

    async def turn(self, stall_s: float) -> None:
        """Wait until the connection can take more, and let others have their turn. Raises Stalled."""
        await asyncio.sleep(0)  # also where a lost client's task is cancelled that never waits for anything else
        try:
            async with asyncio.timeout(stall_s):
                await self._may_go_on.wait()
        except TimeoutError:
            raise Stalled from None


def _request_of(send: Send) -> Any:
    """Daphne's request, which is the first argument of the partial that it hands out as `send`; None for another's."""
    first = send.args[0] if isinstance(send, partial) and send.args else None
    return first if isinstance(first, http.Request) else None


def _is_open(request: Any) -> bool:
    """Whether its answer may still go on: neither ended nor its connection lost."""
    return not request.finished and request.channel is not None


def paced(inner: Application, stall_s: float = STALL_S) -> Application:
    """`inner`, an ASGI application for HTTP, with its answers paced and, when they fail, broken off."""

    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        request = _request_of(send)
        if request is None:
            return await inner(scope, receive, send)
        producer: _Producer | None = None
        has_begun = False

        async def send_paced(message: Message) -> None:
            nonlocal producer, has_begun
            has_begun = True
            goes_on = message["type"] == "http.response.body" and message.get("more_body", False)
            if goes_on and producer is None and _is_open(request):
                producer = _Producer()
                request.registerProducer(producer, True)
            elif not goes_on and producer is not None and _is_open(request):
                request.unregisterProducer()  # the end follows, and the next request of this connection
                producer = None
            await send(message)
            if producer is not None:
                await producer.turn(stall_s)

        try:
            return await inner(scope, receive, send_paced)
        except Exception as error:
            if not has_begun:
                raise
            log.warning("http_answer_broken_off", path=scope.get("path"), exc_info=error)
            if _is_open(request):
                request.channel.transport.abortConnection()
            return None

    return application
