"""The stream's socket over the wire: messages and frames that clients get wrong, and a client that gets them right."""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
import struct
import threading
import time
from typing import Any, Final

from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from console.stream.protocol import Close
from tests.fuzz.inputs import World

TIMEOUT_S: Final = 30
WAITED_S: Final = 1.0  # for the rest of a frame
# What the server closes with: our own codes, and the protocol's for frames that are no WebSocket's (RFC 6455, 7.4.1).
PROTOCOL_CODES: Final = frozenset({1002, 1003, 1007, 1009})
CODES: Final = frozenset(int(code) for code in Close) | PROTOCOL_CODES
_POSITION: Final = re.compile(r"[0-9]{1,18}-[0-9]{1,18}", re.ASCII)


HANDSHAKES_MAX: Final = 5  # Daphne gives up on one after 5 s, which a machine busy with other things can take


def opened(world: World) -> ClientConnection:
    """A socket after its handshake; the caller closes it."""
    for _ in range(HANDSHAKES_MAX - 1):
        with contextlib.suppress(OSError, InvalidHandshake):
            return _opened(world)
    return _opened(world)


def _opened(world: World) -> ClientConnection:
    return connect(
        f"ws://{world.host}/ws/stream/",
        origin=Origin(f"http://{world.host}"),
        additional_headers={"Cookie": f"mm_session_{world.port}={world.session}"},
        compression=None,
        open_timeout=TIMEOUT_S,
        close_timeout=TIMEOUT_S,
        max_size=None,
        proxy=None,
        legacy=True,
    )


def is_first(message: str | bytes) -> bool:
    """Whether this is what a client may begin with; written anew, and simpler than the server's own parser."""
    match _read(message):
        case {"resume": None, **rest}:
            return not rest
        case {"resume": str(position), **rest}:
            return not rest and bool(_POSITION.fullmatch(position))
    return False


def is_later(message: str | bytes) -> bool:
    """Whether this may be said later, if so much was sent: an acknowledgement."""
    match _read(message):
        case {"ack": int(number), **rest}:
            return not rest and type(number) is int and number > 0
    return False


def _read(message: str | bytes) -> Any:
    try:
        return json.loads(message) if isinstance(message, str) and len(message) <= 256 else None
    except (ValueError, RecursionError):
        return None


def closed_with(client: ClientConnection) -> int:
    """The code that the server closes with, whatever it sends before. Raises TimeoutError when it does not."""
    deadline = time.monotonic() + TIMEOUT_S
    try:
        while True:
            client.recv(timeout=max(0.0, deadline - time.monotonic()))
    except ConnectionClosed as error:
        return error.rcvd.code if error.rcvd is not None else 0


class Witness:
    """A client that does all right, all the time: it has to be served whatever others send."""

    def __init__(self, world: World) -> None:
        self.messages = 0
        self.error: BaseException | None = None
        self._client = opened(world)
        self._client.send('{"resume": null}')
        self._thread = threading.Thread(target=self._stay, daemon=True)
        self._thread.start()

    def _stay(self) -> None:
        try:
            while True:
                message = json.loads(self._client.recv(timeout=TIMEOUT_S))
                self.messages += 1
                self._client.send(json.dumps({"ack": message["seq"]}))
        except BaseException as error:  # noqa: BLE001 - told by whoever looks
            self.error = error

    @property
    def is_served(self) -> bool:
        return self._thread.is_alive()

    def leave(self) -> None:
        self._client.close()
        self._thread.join(TIMEOUT_S)


def frames_at(seed: int, number: int) -> bytes:
    """Bytes in the place of frames: nearly good ones, and no frames at all."""
    rng = random.Random(f"{seed}/frames/{number}")
    return b"".join(_frame(rng) for _ in range(rng.choice((1, 1, 2, 4))))


def _frame(rng: random.Random) -> bytes:
    """One frame with some of it wrong: bits, kind, mask, length, encoding."""
    kind = rng.choices(("any", "reserved", "control", "text", "raw"), (30, 20, 20, 20, 10))[0]
    if kind == "raw":
        return rng.randbytes(rng.choice((1, 2, 20, 200)))
    opcode = {
        "any": rng.randrange(16),
        "reserved": rng.choice((3, 7, 11, 15)),
        "control": rng.choice((8, 9, 10)),
        "text": 1,
    }[kind]
    first = opcode | (0x80 if rng.random() < 0.7 else 0) | (rng.choice((0x10, 0x20, 0x40)) if rng.random() < 0.3 else 0)
    payload = rng.choice(
        (
            b"",
            b"\x00",
            b"\x03\xe8",
            b"\x03\xe8\xff",
            b"\xff\xfe",
            b"\xed\xa0\x80",
            b"\xc3",
            b"x" * 126,
            b"x" * 70_000,
            b"{}",
        )
    )
    told = len(payload) if rng.random() < 0.8 else rng.choice((0, 5, 125, 2**16, 2**31, 2**63 - 1))
    masked = 0x80 if rng.random() < 0.8 else 0
    if told < 126 and rng.random() < 0.9:
        head = bytes((first, masked | told))
    elif told < 2**16:
        head = bytes((first, masked | 126)) + struct.pack("!H", told)
    else:
        head = bytes((first, masked | 127)) + struct.pack("!Q", told)
    if not masked:
        return head + payload
    mask = rng.randbytes(4)
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def told_of_frames(world: World, raw: bytes) -> int | None:
    """Open a socket by hand, send these bytes in place of frames, then a message that is none.

    Returns the code that the server closes with, 0 where it closes without one, None where it waits for more.
    """
    connection, said = _by_hand(world)
    with connection:
        bad = b"\x81\x82\x00\x00\x00\x00{}"  # {} as text, under a mask of zeros
        try:
            connection.sendall(raw + bad)
            connection.settimeout(WAITED_S)
            while part := connection.recv(65_536):
                said += part
        except TimeoutError:
            return None
        except OSError:
            pass  # reset: there were more frames than it cared to read
        return _close_code(said)


def _by_hand(world: World) -> tuple[socket.socket, bytes]:
    """A connection after its handshake, and what was said after that."""
    for _ in range(HANDSHAKES_MAX):
        connection = socket.create_connection(("127.0.0.1", world.port), TIMEOUT_S)
        connection.sendall(
            f"GET /ws/stream/ HTTP/1.1\r\nHost: {world.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://{world.host}\r\n"
            f"Cookie: mm_session_{world.port}={world.session}\r\n\r\n".encode()
        )
        said = b""
        with contextlib.suppress(OSError):
            while b"\r\n\r\n" not in said and (part := connection.recv(65_536)):
                said += part
        head, _, rest = said.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 101"):
            return connection, rest
        connection.close()
    raise AssertionError(f"no handshake: {said!r}")


def _close_code(said: bytes) -> int:
    """The code of the close frame among the server's frames, which are unmasked; 0 if there is none."""
    at = 0
    while at + 2 <= len(said):
        opcode, length, at = said[at] & 0x0F, said[at + 1] & 0x7F, at + 2
        if length == 126:
            length, at = struct.unpack_from("!H", said, at)[0], at + 2
        elif length == 127:
            length, at = struct.unpack_from("!Q", said, at)[0], at + 8
        if opcode == 8:
            return int(struct.unpack_from("!H", said, at)[0]) if length >= 2 else 0
        at += length
    return 0
