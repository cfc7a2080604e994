"""A client of the console's stream for tests: the application itself, with no server in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.test import Client

from tests.web.client import BACKEND, HOST, user_of

TIMEOUT_S = 10


def cookie_of(username: str) -> bytes:
    """The cookie header of a new session of this user, who is made if need be."""
    client = Client()
    client.force_login(user_of(username), backend=BACKEND)
    return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}".encode()


class StreamClient:
    """One socket. `next` acknowledges what it takes, as the page does."""

    def __init__(self, application: Any, cookie: bytes | None, origin: str | None = f"http://{HOST}") -> None:
        headers = [(b"host", HOST.encode())]
        if origin is not None:
            headers.append((b"origin", origin.encode()))
        if cookie is not None:
            headers.append((b"cookie", cookie))
        # Not Channels' communicator: that one keeps Django's connections open, which the application closes.
        self._socket: Any = cast(Any, ApplicationCommunicator)(
            application, {"type": "websocket", "path": "/ws/stream/", "query_string": b"", "headers": headers}
        )

    async def connect(self) -> bool:
        """Whether the handshake was accepted."""
        await self._socket.send_input({"type": "websocket.connect"})
        answer = await self._socket.receive_output(TIMEOUT_S)
        return bool(answer["type"] == "websocket.accept")

    async def begin(self, resume: str | None = None) -> dict[str, Any]:
        """Connect, say where to resume from, and return the snapshot."""
        assert await self.connect()
        await self.send(json.dumps({"resume": resume}))
        snapshot = await self.next()
        assert snapshot["type"] == "snapshot", snapshot
        return snapshot

    async def send(self, text: str) -> None:
        await self._socket.send_input({"type": "websocket.receive", "text": text})

    async def send_bytes(self, content: bytes) -> None:
        await self._socket.send_input({"type": "websocket.receive", "bytes": content})

    async def take(self) -> dict[str, Any]:
        """The next event of the server: a message, or {"type": "websocket.close", "code": ...}."""
        event = await self._socket.receive_output(TIMEOUT_S)
        if event["type"] == "websocket.send":
            message: dict[str, Any] = json.loads(event["text"])
            return message
        return dict(event)

    async def next(self) -> dict[str, Any]:
        """The next message, acknowledged."""
        message = await self.take()
        assert "seq" in message, f"the server closed the socket: {message}"
        await self.send(json.dumps({"ack": message["seq"]}))
        return message

    async def until(self, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """The messages up to and with the first that is `wanted`."""
        messages: list[dict[str, Any]] = []
        async with asyncio.timeout(TIMEOUT_S):
            while not messages or not wanted(messages[-1]):
                messages.append(await self.next())
        return messages

    async def close_code(self) -> int | None:
        """The code that the server closes with; what it sends before is not acknowledged."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                event = await self.take()
                if event["type"] == "websocket.close":
                    code: int | None = event.get("code")
                    return code

    async def leave(self) -> None:
        await self._socket.send_input({"type": "websocket.disconnect", "code": 1000})
        await self._socket.wait(TIMEOUT_S)


def entries(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The activity of these messages, in the order in which it came."""
    return [entry for message in messages for entry in message.get("activity", [])]
