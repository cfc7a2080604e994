"""Watching the next node in the ring: its session's lock is freed by the server the moment its process dies.

Every node watches the next one by name, so each is watched by one, and from any survivor a chain of hits reaches all
that died together: a hit sweeps, and the next in the ring is then somebody else.
"""

from __future__ import annotations

import asyncio

import structlog

from nodeagent import authority_client as client
from nodeagent.authority_client import Neighbour
from nodeagent.connections import Backoff, ConnectionLost, Link, TryAgain, pause
from nodeagent.holdings import Agenda
from nodeagent.reconciler import sweep_and_tell
from nodeagent.session import Session

log = structlog.get_logger("nodeagent.watcher")

WAIT_MS = 250  # short: a waiting statement holds a snapshot, which keeps old row versions from being pruned
IN_VAIN_S = 0.2  # the pause after a sweep that ended nothing
RING_READ_S = 10.0  # the ring is read again after this, should every doorbell have been lost


class Watcher:
    """Watches for one session."""

    def __init__(self, link: Link, session: Session, agenda: Agenda) -> None:
        self._link = link
        self._session = session
        self._agenda = agenda
        self._ring_changed = asyncio.Event()
        self._ring_changed.set()

    def ring_changed(self) -> None:
        """Somebody may have joined or ended: look again whom to watch."""
        self._ring_changed.set()

    async def run(self) -> None:
        """For ever: find the neighbour, wait for its end, sweep. Errors of the connection only make it pause."""
        backoff = Backoff()
        neighbour: Neighbour | None = None
        while True:
            try:
                if self._ring_changed.is_set() or neighbour is None:
                    self._ring_changed.clear()
                    neighbour = await self._next_in_ring()
                if neighbour is None:
                    await pause(RING_READ_S, self._ring_changed)
                elif await client.watch(self._link, neighbour.serial, WAIT_MS):
                    in_vain = True
                    while await sweep_and_tell(self._link, self._session.node, "session lost", self._agenda):
                        in_vain = False  # the next part, or the next that is lost
                    self._agenda.ask_reconcile()
                    neighbour = None
                    if in_vain:  # somebody else did it; or it can't be done, as somebody keeps its rows locked
                        await pause(IN_VAIN_S, self._ring_changed)
                backoff.reset()
            except (ConnectionLost, TryAgain) as error:
                wait_s = backoff.next_s()
                log.warning(
                    "watch interrupted", node=self._session.node, error=str(error), again_in_ms=round(wait_s * 1000)
                )
                self._ring_changed.set()
                await asyncio.sleep(wait_s)

    async def _next_in_ring(self) -> Neighbour | None:
        """The first by name after us, from the beginning again at the end; None when we are alone."""
        others = await client.ring(self._link, self._session.incarnation)
        after = [other for other in others if other.node > self._session.node]
        return next(iter(after or others), None)
