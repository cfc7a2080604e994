"""The node: one event loop, three connections, one incarnation after another until it is told to stop.

    session   registers, renews, listens; nothing else, so that work can't starve a renewal
    work      reads, grants, releases, assignments, sweeps, quotes: single statements, one at a time
    watch     waits for the end of the next node's session

One worker does all the work, so nothing of ours overtakes anything else of ours: a release follows the quote that was
in flight, and a quote follows its grant.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog

from mmproject.conf import Conf
from nodeagent import authority_client as client
from nodeagent.authority_client import Renewal
from nodeagent.connections import Backoff, ConnectionLost, Link, TryAgain, one_line, pause
from nodeagent.holdings import NEVER, Agenda, Holdings
from nodeagent.quoter import Quoter, QuotingTimes
from nodeagent.reconciler import Reconciler
from nodeagent.session import Session, Timing, expires_in_s, open_session
from nodeagent.watcher import Watcher

log = structlog.get_logger("nodeagent.agent")

EXPIRY_SLACK_S = 0.005  # a sweep that comes early ends nothing; this is more than the clocks drift in a TTL
OVERDUE_SWEEP_S = 0.2  # the pause between sweeps while one that should end can't be: somebody keeps its rows locked
LOST_RACE_CAP_S = 0.2  # of the pauses after statements that lost to others: the database is there, and quotes are due
SLOW_RECONCILE_S = 10.0  # the tables are compared anyway this often, should every doorbell have been lost
RECONCILE_MAX_ROUNDS = 4  # one after another before quotes have their turn
END_TIMEOUT_S = 5.0  # for tasks to end that were cancelled: none of them waits for anything then
HANDOVER_TIMEOUT_S = 1.0  # for the others to take what we hold when told to stop, of the two seconds for all of it
FINISH_TIMEOUT_S = 0.2  # for the statement in flight after that


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What a node needs to know."""

    name: str
    url: str
    timing: Timing
    quoting: QuotingTimes

    @classmethod
    def of(cls, name: str, url: str, conf: Conf) -> NodeOptions:
        times = QuotingTimes(conf.quote_validity_ms, conf.quote_refresh_ms / 1000)
        return cls(name, url, Timing.of(conf), times)


class Life:
    """One incarnation at work, from its registration to its end."""

    def __init__(
        self, session: Session, options: NodeOptions, stopping: asyncio.Event, *, work: Link, watch: Link
    ) -> None:
        self._session = session
        self._stopping = stopping
        self._finishing = asyncio.Event()  # the worker is to stop
        self._work = work
        self._watch = watch
        self.holdings = Holdings()
        self.agenda = Agenda(compare=True)
        self._quoter = Quoter(self._work, session, self.holdings, self.agenda, options.quoting)
        self._reconciler = Reconciler(self._work, session, self.holdings, self.agenda)
        self._watcher = Watcher(self._watch, session, self.agenda)
        self._expiry: asyncio.TimerHandle | None = None
        self._lapse: asyncio.TimerHandle | None = None
        self._refresh: asyncio.TimerHandle | None = None

    async def run(self) -> str | None:
        """Work until the incarnation is over (the reason why), or the node is told to stop (None).

        An unexpected error of any part is raised: the process ends, and with it the session.
        """
        work = asyncio.create_task(self._worker())
        renew = asyncio.create_task(self._session.renew_until_over(self._renewed))
        tasks: list[asyncio.Task[Any]] = [work, renew]
        tasks += [
            asyncio.create_task(part) for part in (self._watcher.run(), self._session.over(), self._told_to_stop())
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            if self._stopping.is_set():
                await self._leave(work)
                return None
            return renew.result() if renew.done() else "connection lost"
        finally:
            await self._end(tasks)

    async def _told_to_stop(self) -> None:
        await self._stopping.wait()

    async def _hand_over(self, work: asyncio.Task[None]) -> None:
        """Quote on while the others are assigned what we hold, and release it as they are."""
        loop = asyncio.get_running_loop()
        until = loop.time() + HANDOVER_TIMEOUT_S
        self.holdings.none_left.clear()
        try:
            if not len(self.holdings) or not await self._session.begin_leave():
                return
        except TryAgain as error:
            log.warning("leaves without handing over", node=self._session.node, error=one_line(error))
            return
        self.agenda.ask_reconcile()
        none_left = asyncio.create_task(self.holdings.none_left.wait())
        try:
            await asyncio.wait([work, none_left], timeout=until - loop.time(), return_when=asyncio.FIRST_COMPLETED)
        finally:
            none_left.cancel()

    async def _leave(self, work: asyncio.Task[None]) -> None:
        """Stop on purpose: hand over, end the statement in flight, then the incarnation and what leases are left."""
        released_before = self._reconciler.released
        try:
            await self._hand_over(work)
            self._finishing.set()
            self.agenda.wake.set()
            await asyncio.wait([work], timeout=FINISH_TIMEOUT_S)
            released = self._reconciler.released - released_before + await self._session.leave()
        except (ConnectionLost, TryAgain, TimeoutError) as error:
            # Closing the connection ends the incarnation too, only less politely.
            log.warning("could not leave", node=self._session.node, error=one_line(error))
            return
        log.info(
            "left",
            node=self._session.node,
            incarnation=str(self._session.incarnation),
            released=released,
            epochs=self.holdings.epochs(),
        )

    async def _end(self, tasks: list[asyncio.Task[Any]]) -> None:
        """Leave nothing of this incarnation running: neither tasks nor timers nor connections."""
        for timer in (self._expiry, self._lapse, self._refresh):
            if timer is not None:
                timer.cancel()
        for task in tasks:
            task.cancel()
        self._work.terminate()
        self._watch.terminate()
        self._session.terminate()
        done, running = await asyncio.wait(tasks, timeout=END_TIMEOUT_S)
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                log.debug("ended with", node=self._session.node, error=one_line(error))
        if running:  # better no node than one that goes on with a life that is over
            raise RuntimeError(f"did not end when cancelled: {[task.get_coro() for task in running]}")

    def authority_rung(self, hint: str = "") -> None:
        """The authority's doorbell: somebody joined, ended, leaves or drains; or leases of nodes it names are free."""
        if not hint:
            self._watcher.ring_changed()
            self.agenda.ask_reconcile()
        elif self._session.node in hint.split(","):
            self.agenda.ask_claim()

    def market_rung(self, hint: str) -> None:
        """The market's doorbell: look at these symbols, or at all."""
        if hint:
            self.agenda.ask_first(self.holdings.named(hint))
        else:
            self.agenda.ask_then(self.holdings.symbols())

    def _renewed(self, renewal: Renewal) -> None:
        """After each renewal: sweep exactly when the first of the others expires; catch up with a lost doorbell."""
        loop = asyncio.get_running_loop()
        for timer in (self._expiry, self._lapse):
            if timer is not None:
                timer.cancel()
        left_s = expires_in_s(renewal)
        if left_s is not None:
            slack_s = OVERDUE_SWEEP_S if left_s <= 0 and self._reconciler.swept_in_vain else EXPIRY_SLACK_S
            self._expiry = loop.call_later(max(left_s, 0) + slack_s, self.agenda.ask_sweep)
        self._lapse = loop.call_later(self._session.belief.left_s(), self._quoter.believes)
        if renewal.generation != self._reconciler.generation:
            self.authority_rung()
        if self._quoter.has_lapsed and self._quoter.believes():
            log.info("belief restored", node=self._session.node, epochs=self.holdings.epochs())
            self.agenda.ask_then(self.holdings.symbols())
        # No list of what is held: a renewal costs the same however much that is.
        log.debug(
            "renewed",
            node=self._session.node,
            incarnation=str(self._session.incarnation),
            expires_at=renewal.expires_at.isoformat(),
            symbols=len(self.holdings),
        )

    async def _worker(self) -> None:
        """Do what is on the agenda, one statement after another, until told to stop.

        What fails for the connection's sake is still on the agenda, and is tried again after a pause.
        """
        loop = asyncio.get_running_loop()
        backoff, losing = Backoff(), Backoff(cap_s=LOST_RACE_CAP_S)
        slow_at = loop.time()
        while not self._finishing.is_set():
            self.agenda.wake.clear()
            if loop.time() >= slow_at:
                slow_at = loop.time() + SLOW_RECONCILE_S
                self.agenda.ask_reconcile()
                self.agenda.ask_compare()
            try:
                await self._round()
            except (ConnectionLost, TryAgain) as error:
                wait_s = (losing if isinstance(error, TryAgain) else backoff).next_s()
                log.warning(
                    "work interrupted", node=self._session.node, error=str(error), again_in_ms=round(wait_s * 1000)
                )
                await pause(wait_s, self._finishing)
                continue
            backoff.reset()
            losing.reset()
            self._set_refresh_timer()
            if self.agenda.is_empty:
                await pause(slow_at - loop.time(), self.agenda.wake)

    async def _round(self) -> None:
        """Sweep, reconcile and quote one batch, as far as each is due: none of them can keep another from its turn."""
        agenda = self.agenda
        failed: ConnectionLost | TryAgain | None = None
        parts: list[tuple[Callable[[], bool], Callable[[], Awaitable[None]]]] = [
            (lambda: agenda.sweep, self._reconciler.sweep),
            (lambda: agenda.is_reconcile_due, self._reconcile),
            (lambda: agenda.is_quoting_due, self._quoter.quote_batch),
        ]
        for is_due, part in parts:
            if is_due() and not self._finishing.is_set():
                try:
                    await part()
                except (ConnectionLost, TryAgain) as error:
                    failed = failed or error  # the others still have their turn: a locked row must not stop all quoting
        if failed is not None:
            raise failed

    async def _reconcile(self) -> None:
        """Again while others release a few at a time: nobody holds those, while each still has its last quote.

        What a lost node held comes in large batches and has no quote: each is quoted before the next.
        """
        for _round in range(RECONCILE_MAX_ROUNDS):
            if await self._reconciler.reconcile() or not self.agenda.claim or self._finishing.is_set():
                return

    def _set_refresh_timer(self) -> None:
        due_at = self.holdings.next_due
        if self._refresh is not None:
            if self._refresh.when() <= due_at:
                return
            self._refresh.cancel()
        self._refresh = None if due_at == NEVER else asyncio.get_running_loop().call_at(due_at, self._refresh_due)

    def _refresh_due(self) -> None:
        self._refresh = None
        self.agenda.ask_late(self.holdings.take_due(asyncio.get_running_loop().time()))


class Agent:
    """Lives one incarnation after another."""

    def __init__(self, options: NodeOptions) -> None:
        self._options = options
        self._stopping = asyncio.Event()
        self._life: Life | None = None

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises UserError where trying again will not help, and what nobody expected.

        1. make the connections to work with: who is registered is given symbols, and should be ready for them
        2. register, as often as it takes
        3. work until the incarnation is over; all that was believed goes with it
        4. again, as a new incarnation
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stop, number)
        backoff = Backoff()
        while not self._stopping.is_set():
            work, watch = (Link(self._options.url, f"mm-node {self._options.name} {use}") for use in ("work", "watch"))
            await self._warm_up(work, watch)
            session = await open_session(
                self._options.url,
                self._options.name,
                self._options.timing,
                on_authority=self._authority_rung,
                on_market=self._market_rung,
                stopping=self._stopping,
            )
            if session is None:
                work.terminate()
                watch.terminate()
                return
            began_at = time.monotonic()
            self._life = Life(session, self._options, self._stopping, work=work, watch=watch)
            reason = await self._life.run()
            if reason is not None:
                log.warning(
                    "lost session",
                    node=self._options.name,
                    incarnation=str(session.incarnation),
                    reason=reason,
                    epochs=self._life.holdings.epochs(),
                )
                if time.monotonic() - began_at > self._options.timing.ttl_s:
                    backoff.reset()
                await pause(backoff.next_s(), self._stopping)
            self._life = None

    async def _warm_up(self, work: Link, watch: Link) -> None:
        try:
            await client.warm_up(work)
            await client.sweep(watch)
        except (ConnectionLost, TryAgain) as error:
            # They are made when they are needed; until then, registering tries again and again.
            log.info("not ready yet", node=self._options.name, error=one_line(error))

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop cleanly, within two seconds. From here on a second signal ends the process at once."""
        log.info("stopping", node=self._options.name, signal=signal.Signals(number).name)
        for other in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(other)
            signal.signal(other, signal.SIG_DFL)
        self._stopping.set()

    def _authority_rung(self, hint: str) -> None:
        if self._life is not None:
            self._life.authority_rung(hint)

    def _market_rung(self, hint: str) -> None:
        if self._life is not None:
            self._life.market_rung(hint)
