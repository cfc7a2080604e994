"""What Daphne would answer with 500 and a traceback before any application sees it, refused as the client's fault.

Two headers that a client may send are decoded by Daphne 4.2 as if they could only be ASCII. `Daphne-Root-Path` is for a
proxy of one's own that mounts the application below a prefix; here there is none, so whoever sends it is a client that
would choose the prefix of our links, and it is left out.
"""

from __future__ import annotations

from typing import Any, Final

from daphne.http_protocol import WebRequest

ROOT_PATH: Final = b"daphne-root-path"


def fault(request: Any) -> str | None:
    """Why a request cannot be read, or None. `request` is Twisted's, its headers and path as they came."""
    upgrade = request.requestHeaders.getRawHeaders(b"upgrade", [b""])[0]
    if upgrade.lower() != b"websocket":
        return None
    if not all(value.isascii() for value in request.requestHeaders.getRawHeaders(b"sec-websocket-protocol", [])):
        return "a WebSocket's protocols are ASCII"
    return None


def install() -> None:
    """Put the gate before Daphne's handling of each request, WebSockets' handshakes among them. Once per process."""
    process = WebRequest.process

    def process_what_can_be_read(self: Any) -> Any:
        self.requestHeaders.removeHeader(ROOT_PATH)
        if (detail := fault(self)) is not None:
            return self.basic_error(400, b"Bad Request", detail)
        return process(self)

    WebRequest.process = process_what_can_be_read  # type: ignore[method-assign]
