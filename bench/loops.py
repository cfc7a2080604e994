"""Event loops of the benchmarks' own, which a signal ends as it ends everything else: by KeyboardInterrupt.

The handler that is in force raises it where it stands, and inside a loop that would be in the middle of a driver's
work. So as long as a loop runs, the signal cancels its work instead, and is raised when the loop has come to rest.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from nodeagent.connections import Link

T = TypeVar("T")

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def run(runner: asyncio.Runner, work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end. Raises KeyboardInterrupt when a signal came meanwhile."""
    loop = runner.get_loop()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    told = False

    async def whole() -> T:
        task = asyncio.current_task()
        assert task is not None

        def stop() -> None:
            nonlocal told
            told = True
            task.cancel()

        for number in SIGNALS:
            if before[number] is not signal.SIG_IGN:
                loop.add_signal_handler(number, stop)
        try:
            return await work
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)

    try:
        return runner.run(whole())
    except asyncio.CancelledError:
        if told:
            raise KeyboardInterrupt from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_alone(work: Coroutine[Any, Any, T]) -> T:
    """The same in a loop that is made for it."""
    with asyncio.Runner() as runner:
        return run(runner, work)


class Loop:
    """A loop with one connection, which stays open from one piece of work to the next."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self._link = Link(url, "mm bench")

    def run(self, work: Callable[[Link], Awaitable[object]]) -> None:
        async def alone() -> None:
            await work(self._link)

        run(self._runner, alone())

    def close(self) -> None:
        async def end() -> None:
            self._link.terminate()

        run(self._runner, end())
        self._runner.close()


@contextmanager
def loop(url: str) -> Iterator[Loop]:
    made = Loop(url)
    try:
        yield made
    finally:
        made.close()
