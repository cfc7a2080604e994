"""Requests over real connections: good HTTP around bad input, and HTTP that is broken itself."""

# ruff: noqa: E501 - tables

from __future__ import annotations

import random
import re
import socket
from contextlib import suppress
from dataclasses import replace
from http.client import HTTPException, HTTPResponse
from typing import Final

from tests.fuzz import nasty
from tests.fuzz.inputs import Input, World, input_at
from tests.fuzz.oracle import Answer

TIMEOUT_S: Final = 30  # for an answer that is due
WAITED_S: Final = 1.0  # for one that may never come, because the server still waits for the rest of the request
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
_STATUS_LINE: Final = re.compile(rb"(?:\A|\r\n)HTTP/1\.[01] ([0-9]{3})[ \r]")


class Line:
    """A connection that is kept for one request after another, and made anew when the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ask(self, sent: Input) -> Answer | None:
        """The answer; None when the connection is closed without one, also at the second try."""
        for is_kept in (self._socket is not None, False):
            try:
                return self._ask(sent)
            except (OSError, HTTPException):
                self.close()
                if not is_kept:
                    break
        return None

    def _ask(self, sent: Input) -> Answer:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), TIMEOUT_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(sent.raw())
        response = HTTPResponse(self._socket, method=sent.method)
        try:
            response.begin()
            body = response.read()
        finally:
            response.close()
        if response.will_close:
            self.close()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)


def statuses(port: int, raw: bytes) -> list[int]:
    """The statuses of all answers to these bytes; none when the connection is closed, or nothing comes for a while."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        with suppress(OSError):  # refused before all of it was sent; what it said of that can still be read
            connection.sendall(raw)
        connection.settimeout(WAITED_S)
        with suppress(OSError):
            while len(said) < ANSWER_BYTES_MAX and (part := connection.recv(65_536)):
                said += part
    return [int(status) for status in _STATUS_LINE.findall(said)]


def broken_at(seed: int, number: int, world: World) -> bytes:
    """Bytes that are nearly a request, or nearly a WebSocket's handshake.

    Of one who may only read: that one has no right to do what it asks for is what keeps it without effect, however the
    pieces are put together.
    """
    rng = random.Random(f"{seed}/broken/{number}")
    harmless = replace(world, token=world.viewer, session="a" * 32)
    if rng.random() < 0.25:
        raw = _handshake(rng, world)
    else:
        sent = input_at(seed, rng.getrandbits(40), harmless)
        raw = replace(sent, headers=(*sent.headers, (b"Connection", b"close"))).raw()
    if rng.random() < 0.15:
        return raw
    head, _, body = raw.partition(b"\r\n\r\n")
    request, *lines = head.split(b"\r\n")
    match rng.randrange(9):
        case 0:
            head = nasty.hurt(rng, head)
            return head + b"\r\n\r\n" + body
        case 1:
            request = rng.choice(_REQUESTS)(request)
        case 2:
            lines = [line for line in lines if not line.startswith(b"Content-Length")]
            lines += [b"Content-Length: " + length for length in rng.choice(_LENGTHS)]
        case 3:
            lines = [line for line in lines if not line.startswith(b"Content-Length")]
            lines += rng.choice(_TRANSFERS)
            body = rng.choice(_CHUNKS)
        case 4:
            lines.insert(rng.randrange(len(lines) + 1), rng.choice(_LINES))
        case 5:
            end = rng.choice((b"\n", b"\r", b"\r\r\n", b"\n\r"))
            return end.join([request, *lines, b"", b""]) + body
        case 6:
            return (raw * 2)[: len(raw) + rng.randrange(len(raw))]
        case 7:
            return raw[: rng.randrange(1, len(raw) + 1)]
        case _:
            return rng.choice(_GREETINGS)
    return b"\r\n".join([request, *lines]) + b"\r\n\r\n" + body


def _handshake(rng: random.Random, world: World) -> bytes:
    """A WebSocket's opening, seldom a good one."""
    path = rng.choice(
        (b"/ws/stream/", b"/ws/stream/", b"/ws/stream", b"/", b"/ws/", b"/%ff", b"/ws/stream/%00", b"/api/v1/orders")
    )
    origin = rng.choice((f"http://{world.host}".encode(), b"null", b"http://[", b"http://evil.example", b"\xff", b""))
    lines = [
        b"GET " + path + rng.choice((b"", b"?%ff", b"?x=1")) + b" HTTP/1.1",
        b"Host: " + rng.choice((world.host.encode(),) * 3 + nasty.HOSTS),
        b"Upgrade: " + rng.choice((b"websocket", b"websocket", b"WebSocket", b"websocket, x")),
        b"Connection: " + rng.choice((b"Upgrade", b"upgrade, keep-alive", b"close")),
        b"Sec-WebSocket-Version: " + rng.choice((b"13", b"13", b"0", b"99", b"x", b"13, 8")),
        b"Sec-WebSocket-Key: " + rng.choice((b"dGhlIHNhbXBsZSBub25jZQ==", b"x", b"", b"\xff" * 24, b"A" * 500)),
        b"Origin: " + (origin if rng.random() < 0.4 else f"http://{world.host}".encode()),
        b"Cookie: " + rng.choice((f"mm_session_{world.port}={nasty.cookie(rng)}".encode(), b"\xff=\xfe", b"", b"=;=")),
    ]  # fmt: skip
    for extra in (b"Sec-WebSocket-Protocol", b"Sec-WebSocket-Extensions", b"Daphne-Root-Path"):
        if rng.random() < 0.2:
            lines.append(
                extra + b": " + rng.choice((b"\xff", b"x, y", b"%ff", b"permessage-deflate; x=y", b"/evil", b",,;"))
            )
    rng.shuffle(lines[1:])
    return b"\r\n".join(lines) + b"\r\n\r\n" + rng.choice((b"", b"", b"x", b"\x81\x02hi"))


_REQUESTS: Final = (
    lambda line: line.replace(b"HTTP/1.1", b"HTTP/1.0"), lambda line: line.replace(b"HTTP/1.1", b"HTTP/2.0"),
    lambda line: line.replace(b"HTTP/1.1", b"HTTP/\xff"), lambda line: line.replace(b" HTTP/1.1", b""),
    lambda line: line.replace(b" ", b"  "), lambda line: line.replace(b" ", b"\t"), lambda line: b" " + line,
    lambda line: b"\r\n" + line, lambda line: line.replace(b"/", b"\xe9/", 1), lambda line: line.replace(b" /", b" ", 1),
    lambda line: line.replace(b" /", b" http://evil.example/", 1), lambda line: line.replace(b" /", b" *", 1),
    lambda line: b"CONNECT evil.example:443 HTTP/1.1", lambda line: b"G\xffT / HTTP/1.1", lambda line: b"G(T / HTTP/1.1",
    lambda line: b"GET /?" + b"a" * 20_000 + b" HTTP/1.1", lambda line: b"GET /#x HTTP/1.1", lambda line: b"GET /\x00 HTTP/1.1",
    lambda line: b"GET /?\xff HTTP/1.1", lambda line: b"A" * 5_000 + b" / HTTP/1.1", lambda line: b"GET //evil.example/%2e%2e HTTP/1.1",
)  # fmt: skip
_LENGTHS: Final = (
    (b"-1",), (b"x",), (b"+5",), (b"0x5",), (b"5, 5",), (b"5", b"6"), (b"5", b"5"), (b"9" * 30,), (b"\xd9\xa1",), (b"",), (b"0",),
    (b"1",), (b"00000002",), (b"2 ",), (b"1e1",), (b"1_0",),
)  # fmt: skip
_TRANSFERS: Final = (
    [b"Transfer-Encoding: chunked"], [b"Transfer-Encoding: chunked"], [b"Transfer-Encoding: CHUNKED"],
    [b"Transfer-Encoding: gzip, chunked"], [b"Transfer-Encoding: identity"], [b"Transfer-Encoding: xchunked"],
    [b"Transfer-Encoding: chunked", b"Content-Length: 5"], [b"Transfer-Encoding: chunked", b"Transfer-Encoding: x"],
    [b"Transfer-Encoding: \x0bchunked"], [b"Transfer-Encoding : chunked"],
)  # fmt: skip
_CHUNKS: Final = (
    b"2\r\n{}\r\n0\r\n\r\n", b"ZZ\r\n{}\r\n0\r\n\r\n", b"-2\r\n{}\r\n0\r\n\r\n", b"2;x=y\r\n{}\r\n0\r\n\r\n", b"0\r\n\r\n", b"\r\n",
    b"f" * 20 + b"\r\n{}", b"2\r\n{}\r\n0\r\nX: \xff\r\n\r\n", b"2\n{}\n0\n\n", b"0x2\r\n{}\r\n0\r\n\r\n", b"2\r\n{}x0\r\n\r\n",
    b"2" + b";" * 20_000 + b"\r\n{}\r\n0\r\n\r\n", b"0\r\n" + b"X: y\r\n" * 2_000 + b"\r\n",
)  # fmt: skip
_LINES: Final = (
    b"", b"no colon", b": no name", b"X : y", b" X: y", b"X: y\r\n folded", b"X\xff: y", b"X\x00: y", b"X: \x00", b"X: \xff\xfe", b"X:\x7f",
    b"(X): y", b"X: " + b"y" * 20_000, b"\r\n".join(b"X%d: y" % n for n in range(600)), b"Host: evil.example", b"Expect: 100-continue",
    b"Expect: nonsense", b"Upgrade: h2c", b"Upgrade: websocket", b"Upgrade: \xff", b"Connection: Upgrade", b"Connection: \xff",
    b"Daphne-Root-Path: \xff", b"Daphne-Root-Path: /x", b"Content-Type: \xff", b"Cookie: \xff", b"X-Forwarded-For: \xff", b"TE: \xff",
    b"Sec-WebSocket-Key: x",
)  # fmt: skip
_GREETINGS: Final = (
    b"\r\n\r\n", b"\x00" * 100, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET\r\n\r\n", b"HELO x\r\n\r\n",
    b"\xff" * 5_000 + b"\r\n\r\n", b"A" * 40_000, b"GET / HTTP/1.1\r\n" * 50 + b"\r\n", b"{}\r\n\r\n", b"\x05\x01\x00\r\n\r\n",
)  # fmt: skip
