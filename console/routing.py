"""WebSocket addresses of the console, behind what every socket has to pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast
from urllib.parse import urlsplit

from channels.routing import URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from channels.sessions import CookieMiddleware
from django.urls import path, re_path

from console.stream.reader import Reader
from console.stream.socket import Receive, Scope, Send, StreamSocket
from mmproject.db import connect_url

Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def same_origin(scope: Scope) -> bool:
    """The page that opens the socket came from this very host and port; another port's page shares our cookies."""
    headers = dict(scope.get("headers", []))
    origin, host = headers.get(b"origin", b"").decode("latin1"), headers.get(b"host", b"").decode("latin1")
    try:
        return bool(host) and urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


def same_origin_only(inner: Application) -> Application:
    """Refuses, with HTTP 403, what a page of another origin opens. Outermost: it survives an Origin that is no URL."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if same_origin(scope):
            return await inner(scope, receive, send)
        await receive()  # websocket.connect
        return await send({"type": "websocket.close"})

    return application


async def nowhere(_scope: Scope, receive: Receive, send: Send) -> None:
    """An address with no stream behind it, which Channels would take for an error of ours: HTTP 403."""
    await receive()  # websocket.connect
    await send({"type": "websocket.close"})


def websocket_application(reader: Reader | None = None) -> Application:
    """The ASGI application for WebSockets. It has one reader for the whole process, which the first socket starts.

    The socket looks up its session itself, in place of Channels' middleware: it must answer, and not fail, when the
    database cannot be reached.
    """
    reader = reader or Reader(lambda: connect_url("console"))
    # Channels routes to ASGI applications by Django's paths, which are typed for views.
    routes = [path("ws/stream/", cast(Any, StreamSocket(reader))), re_path("", cast(Any, nowhere))]
    return same_origin_only(AllowedHostsOriginValidator(CookieMiddleware(URLRouter(routes))))
