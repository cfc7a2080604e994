"""A TCP proxy of ours between a process and a server, with the faults of a network: nothing else is in the way.

All proxies of a run live in one event loop in a thread of its own; whoever causes a fault does it from another thread,
so each fault is a plain attribute or a call that is handed over to the loop.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, Literal

CHUNK: Final = 65_536
POLL_S: Final = 0.02  # how soon a healed direction goes on
LINGER_ZERO: Final = struct.pack("ii", 1, 0)  # closing sends RST

Direction = Literal["up", "down"]  # to the server, to the client
Moment = Literal["before", "after_request", "after_answer"]


PREPARED: Final = re.compile(rb"(__asyncpg_stmt_\w+__)\x00([^\x00]+)")


class Statements:
    """What a connection has prepared: a request that only names its statement is known by the statement's text."""

    def __init__(self) -> None:
        self._texts: dict[bytes, bytes] = {}

    def learn(self, data: bytes) -> None:
        for name, text in PREPARED.findall(data):
            self._texts.setdefault(name, text)  # it is named again in what follows, before other messages

    def mention(self, pattern: bytes, data: bytes) -> bool:
        """Whether the request's text, or its statement's, has `pattern` in it."""
        return pattern in data or any(pattern in text and name in data for name, text in self._texts.items())

    def runs(self, pattern: bytes, data: bytes) -> bool:
        """Whether the request runs such a statement that was prepared before; preparing one is not running it."""
        return pattern not in data and self.mention(pattern, data)


@dataclass
class Cut:
    """Reset the connection around the next request that mentions `pattern`.

    before: the server never sees it. after_request: it does, and the client sees no answer. after_answer: it has
    begun to answer, and the client sees no answer either: of an order with fills that is between its two commits.
    """

    pattern: bytes
    moment: Moment
    done: threading.Event = field(default_factory=threading.Event)


@dataclass
class Hold:
    """Keep back the next request that runs a prepared statement with `pattern` in it, and what follows it."""

    pattern: bytes
    held: threading.Event = field(default_factory=threading.Event)


class Proxy:
    """Listens on `host` for one client process and hands its connections on to `target`, a port of 127.0.0.1."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target: int, host: str = "127.0.0.1") -> None:
        self._loop = loop
        self.target = target
        self.closed: set[Direction] = set()  # nothing passes this way; it waits, as unacknowledged data does
        self.latency_s = 0.0  # added to each chunk, each way
        self.bytes_per_s = 0.0  # 0: no limit
        self.cut: Cut | None = None
        self.hold: Hold | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._server = self._call(self._listen(host))
        self.host, self.port = self._server.sockets[0].getsockname()[:2]

    def _call(self, work: Coroutine[Any, Any, asyncio.Server]) -> asyncio.Server:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self, host: str) -> asyncio.Server:
        return await asyncio.start_server(self._accepted, host, 0)

    def reset(self) -> None:
        """Reset every connection now."""

        def reset_all() -> None:
            for writer in list(self._writers):
                _reset(writer)

        self._loop.call_soon_threadsafe(reset_all)

    def close(self) -> None:
        """Listen no more, and reset what is connected."""
        self._loop.call_soon_threadsafe(self._server.close)
        self.reset()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A server that is cut off answers no SYN either: the client's connection waits.
        await self._while(lambda: bool(self.closed))
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            _reset(writer)
            return
        pair = {writer, far_writer}
        self._writers |= pair
        answered: list[Cut] = []  # to be cut when the answer comes
        try:
            await asyncio.gather(
                self._pump(reader, far_writer, writer, "up", answered),
                self._pump(far_reader, writer, far_writer, "down", answered),
            )
        except OSError:
            pass
        finally:
            for one in pair:
                _reset(one)
            self._writers -= pair

    @staticmethod
    async def _while(shut: Callable[[], bool]) -> None:
        """Wait as long as it is. It is changed from another thread, so an asyncio.Event would not do."""
        while shut():  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)

    async def _held_back(self, statements: Statements, data: bytes) -> None:
        hold = self.hold
        if hold is not None and statements.runs(hold.pattern, data):
            hold.held.set()
            await self._while(lambda: self.hold is hold)

    async def _cut_around(
        self,
        statements: Statements,
        data: bytes,
        writer: asyncio.StreamWriter,
        other: asyncio.StreamWriter,
        answered: list[Cut],
    ) -> None:
        """Raises ConnectionResetError where a cut is due; one that waits for the answer goes to `answered`."""
        cut = self.cut
        if cut is None or not statements.mention(cut.pattern, data):
            return
        self.cut = None
        if cut.moment == "after_answer":
            answered.append(cut)
            return
        if cut.moment == "after_request":
            writer.write(data)
            await writer.drain()
            _reset(other)
            await asyncio.sleep(0.2)  # for the server to have read it
        cut.done.set()
        raise ConnectionResetError

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        other: asyncio.StreamWriter,
        direction: Direction,
        answered: list[Cut],
    ) -> None:
        """Pass on until the side that is read ends, and end the other then: what was sent before still arrives.

        Raises OSError for a reset.
        """
        statements = Statements()
        while data := await reader.read(CHUNK):
            await self._while(lambda: direction in self.closed)
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            if self.bytes_per_s:
                await asyncio.sleep(len(data) / self.bytes_per_s)
            if direction == "up":
                statements.learn(data)
                await self._held_back(statements, data)
                await self._cut_around(statements, data, writer, other, answered)
            elif answered:
                answered[0].done.set()
                raise ConnectionResetError  # the answer to the cut request is not passed on
            writer.write(data)
            await writer.drain()
        await self._while(lambda: direction in self.closed)
        writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    found: socket.socket | None = writer.get_extra_info("socket")
    if found is not None and not writer.transport.is_closing():
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    writer.transport.abort()


@dataclass
class Line:
    """A client process's ways to all servers: a fault on the line is one on each of them."""

    name: str
    proxies: list[Proxy]

    @property
    def places(self) -> str:
        """host:port of each, as a URL has them."""
        return ",".join(f"{proxy.host}:{proxy.port}" for proxy in self.proxies)

    def each(self, do: Callable[[Proxy], object]) -> None:
        for proxy in self.proxies:
            do(proxy)

    def close_way(self, *directions: Direction) -> None:
        self.each(lambda proxy: proxy.closed.update(directions))

    def open_way(self, *directions: Direction) -> None:
        """What waited goes on."""
        self.each(lambda proxy: proxy.closed.difference_update(directions))

    def slow(self, latency_s: float, bytes_per_s: float) -> None:
        """From here on; nothing of either is as fast as it goes."""

        def slowed(proxy: Proxy) -> None:
            proxy.latency_s, proxy.bytes_per_s = latency_s, bytes_per_s

        self.each(slowed)

    def hold(self, pattern: bytes) -> Hold:
        """The next such request, and what follows it on its connection, until `release`."""
        hold = Hold(pattern)

        def arm(proxy: Proxy) -> None:
            proxy.hold = hold

        self.each(arm)
        return hold

    def release(self) -> None:
        """What is held goes on, and no more is held."""

        def disarm(proxy: Proxy) -> None:
            proxy.hold = None

        self.each(disarm)

    def uncut(self) -> None:
        """No request is cut any more."""

        def disarm(proxy: Proxy) -> None:
            proxy.cut = None

        self.each(disarm)

    def cut(self, pattern: bytes, moment: Moment) -> Cut:
        """The next such request, on whichever way it goes."""
        cut = Cut(pattern, moment)

        def arm(proxy: Proxy) -> None:
            proxy.cut = cut

        self.each(arm)
        return cut


class Loop:
    """The event loop of all proxies, in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="proxies", daemon=True)
        self._thread.start()

    def line(self, name: str, targets: list[int], host: str = "127.0.0.1") -> Line:
        return Line(name, [Proxy(self.loop, target, host) for target in targets])

    def close(self) -> None:
        """End all proxies and their connections."""
        asyncio.run_coroutine_threadsafe(self._end(), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()

    @staticmethod
    async def _end() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
