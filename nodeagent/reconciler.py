"""Bringing what we hold to what is assigned: read the tables, compare, act.

Run after every change, and safe to run at any time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import structlog

from authority.assignment import assign
from mmproject.crashpoints import crash_point
from nodeagent import authority_client as client
from nodeagent.authority_client import Claim, Membership
from nodeagent.connections import STATEMENT_TIMEOUT_S, ConnectionLost, Link, TryAgain
from nodeagent.holdings import Agenda, Holdings
from nodeagent.session import Session

log = structlog.get_logger("nodeagent.reconciler")

APPLY_ATTEMPTS = 5  # each 'stale' means that somebody else has applied one: another doorbell comes anyway
TURN_S = 0.01  # per member before us in the order of names: longer than it takes to apply one
TURN_MAX_S = 0.1
# One commit each, whose locks orders and quotes wait for. What is released has no holder until that has committed and
# the next one has acquired it: few at a time. What is free waits already.
RELEASE_MAX_SYMBOLS = 50
ACQUIRE_MAX_SYMBOLS = 200
BUSY_AGAIN_S = 0.2  # until what somebody else kept locked is asked for again


class Reconciler:
    """Assignment, releases and grants of one session."""

    def __init__(self, link: Link, session: Session, holdings: Holdings, agenda: Agenda) -> None:
        self._link = link
        self._session = session
        self._holdings = holdings
        self._agenda = agenda
        self.generation = 0  # of the assignment that we last acted on
        self.released = 0  # symbols that we gave to others
        self._may_have_surplus = False  # the assignment may have changed, or we are not through with what it took away
        self._planned_for = 0  # symbols that there were when this connection's statements were last planned
        self._need: Membership | None = None  # the one that a new assignment was last found to be needed for
        self._turn_at = 0.0  # when we may apply it, on the loop's clock
        self.swept_in_vain = False  # the last sweep found nothing that it could end
        self._locked: set[str] = set()  # could not be granted or given back last time, for a row that is locked
        self._kept: set[str] = set()  # of these, those that we still hold though we have dropped them

    async def sweep(self) -> None:
        """End what has expired or lost its session, a part at a time: quoting has its turn in between.

        Raises ConnectionLost, TryAgain: then it is due again.
        """
        self._agenda.sweep = False
        try:
            self._agenda.sweep = await sweep_and_tell(self._link, self._session.node, "expiry", self._agenda)
            self.swept_in_vain = not self._agenda.sweep
        except (ConnectionLost, TryAgain):
            self._agenda.sweep = True
            raise
        # Only a renewal tells when the next of the others expires, and that may be sooner than our next one.
        self._session.renew_soon()

    async def reconcile(self) -> bool:
        """One round, from the tables alone. Raises ConnectionLost, TryAgain: it is on the agenda again then.

        1. apply a new assignment if the members have changed or symbols have none
        2. when in doubt (an answer was lost), take over what the tables say that we hold, forget what they don't
        3. release what is assigned to others
        4. acquire what is assigned to us and free; what others still hold comes with their release's doorbell
        More than one batch in 3 or 4 asks for another round; returns whether it does: then quotes go out in between.
        """
        agenda = self._agenda
        # Off the agenda first, so that a doorbell from here on puts it back.
        is_full, is_doubtful = agenda.reconcile, agenda.compare
        agenda.reconcile = agenda.claim = agenda.compare = False
        self._may_have_surplus |= is_full or is_doubtful
        try:
            if is_full:
                await self._rebalance_if_needed()
            if is_doubtful:
                claims = await client.claims(self._link, self._session.node, self._session.incarnation)
                self._adopt([claim for claim in claims if claim.is_held])
            return await self._give_and_take()
        except (ConnectionLost, TryAgain):
            # What became of a release or a grant is then unknown, and stays so for as long as its statement may go on
            # without us: a grant that it still makes is looked for once more when it can't.
            agenda.reconcile = agenda.compare = True
            asyncio.get_running_loop().call_later(STATEMENT_TIMEOUT_S, agenda.ask_compare)
            raise

    async def _give_and_take(self) -> bool:
        session = self._session
        # All that we hold is looked through for surplus. A lease that has become free makes none.
        most_surplus = RELEASE_MAX_SYMBOLS if self._may_have_surplus else 0
        due = await client.due(self._link, session.node, session.incarnation, most_surplus, ACQUIRE_MAX_SYMBOLS)
        self._may_have_surplus = len(due.surplus) == RELEASE_MAX_SYMBOLS
        if not self._kept <= due.surplus.keys():
            self._agenda.ask_compare()  # assigned to us again before we could give it back
        self._kept.clear()
        if due.surplus:
            await self._release(due.surplus)
        if due.free:
            await self._acquire(due.free)
        is_more = len(due.surplus) == RELEASE_MAX_SYMBOLS or len(due.free) == ACQUIRE_MAX_SYMBOLS
        if is_more:
            self._agenda.ask_claim()
        return is_more

    async def _rebalance_if_needed(self) -> None:
        for _attempt in range(APPLY_ATTEMPTS):
            seen = await client.membership(self._link)
            self.generation = seen.generation
            if seen.symbols > 2 * self._planned_for:
                await client.plan_anew(self._link)
                self._planned_for = seen.symbols
            # While no one is a member (all are draining) everything stays where it is.
            if not seen.members or (seen.members == seen.applied_members and not seen.unassigned):
                return
            if not self._is_our_turn(seen):
                return
            if await self._rebalance(seen) != "stale":
                return
        self._agenda.ask_reconcile()

    def _is_our_turn(self, seen: Membership) -> bool:
        """The first member by name applies a new assignment at once, the others a little later if it still needs to be.

        Otherwise all of them would compute the same at the same moment, for all but one in vain. Comes back by itself.
        """
        loop = asyncio.get_running_loop()
        if seen != self._need:
            names = seen.members
            rank = names.index(self._session.node) if self._session.node in names else len(names)
            self._need, self._turn_at = seen, loop.time() + min(rank * TURN_S, TURN_MAX_S)
            if rank:
                loop.call_at(self._turn_at, self._agenda.ask_reconcile)
        return loop.time() >= self._turn_at

    async def _rebalance(self, seen: Membership) -> str:
        current = await client.assignment(self._link)
        wanted = assign(current, seen.members, {symbol: node for symbol, node in current.items() if node})
        moves = {symbol: node for symbol, node in wanted.items() if current[symbol] != node}
        gone = sorted(set(seen.applied_members) - set(seen.members) - set(seen.draining))
        ends = await client.end_reasons(self._link, gone) if gone else {}
        why = cause(seen, ends)
        crash_point("assign.before")
        answer = await client.apply_assignment(self._link, seen, moves, self._session.node, why)
        crash_point("assign.after")
        if answer != "stale":
            self.generation = seen.generation + (answer == "applied")
            log.info(
                "rebalanced",
                node=self._session.node,
                answer=answer,
                generation=self.generation,
                members=seen.members,
                cause=why,
                moves=moves,
            )
        return answer

    def _adopt(self, held: list[Claim]) -> None:
        epochs = {claim.symbol: claim.epoch for claim in held}
        for symbol in self._holdings.symbols():
            if symbol not in epochs:
                self._holdings.drop(symbol)
                log.warning("lease gone", node=self._session.node, symbol=symbol)
        for symbol, epoch in epochs.items():
            if symbol not in self._holdings:
                self._holdings.put(symbol, epoch)
                self._agenda.ask_first((symbol,))

    async def _release(self, surplus: dict[str, int]) -> None:
        # Not ours from here on, even if the answer gets lost: the next round reads what became of it.
        for symbol in surplus:
            self._holdings.drop(symbol)
        crash_point("release.before")
        released = await client.release(
            self._link, self._session.incarnation, list(surplus), wait=self._locked.isdisjoint(surplus)
        )
        crash_point("release.after")
        self.released += len(released)
        epochs = {symbol: surplus[symbol] for symbol in released}
        if epochs:
            log.info("released", node=self._session.node, incarnation=str(self._session.incarnation), epochs=epochs)
        self._kept = set(surplus) - set(released)
        self._come_back_for(self._kept, surplus)

    async def _acquire(self, free: list[str]) -> None:
        crash_point("acquire.before")
        wait = self._locked.isdisjoint(free)
        grants = await client.acquire(self._link, self._session.incarnation, free, wait=wait)
        crash_point("acquire.after")
        granted = {grant.symbol: grant.epoch for grant in grants if grant.outcome == "granted" and grant.epoch}
        for symbol, epoch in granted.items():
            self._holdings.put(symbol, epoch)
        self._agenda.ask_first(granted)
        if granted:
            log.info("granted", node=self._session.node, incarnation=str(self._session.incarnation), epochs=granted)
        if any(grant.outcome == "ended" for grant in grants):
            self._session.renew_soon()
        self._come_back_for({grant.symbol for grant in grants if grant.outcome == "busy"}, free)

    def _come_back_for(self, locked: set[str], asked: Iterable[str]) -> None:
        """Of these symbols somebody keeps a row locked: they are due still, and no doorbell will say when.

        They were waited for once. From now on a try takes what it gets, so that nothing else waits.
        """
        if new := sorted(locked - self._locked):
            log.warning("locked by somebody", node=self._session.node, symbols=new)
        self._locked = (self._locked - set(asked)) | locked
        if locked:
            self._may_have_surplus = True
            asyncio.get_running_loop().call_later(BUSY_AGAIN_S, self._agenda.ask_claim)


ENDED = {
    "released": "left",
    "drained": "left",
    "expired": "expired",
    "session_lost": "lost its session",
    "ended_by_operator": "was ended by an operator",
}


def cause(seen: Membership, ends: Mapping[str, str]) -> str:
    """Why a new assignment is needed, in words that stay in the history; `ends` says how each that is gone ended."""
    joined = sorted(set(seen.members) - set(seen.applied_members))
    gone = sorted(set(seen.applied_members) - set(seen.members))
    parts = [f"{node} joined" for node in joined]
    # One that has expired and is not swept yet is no member any more, and has no reason yet.
    parts += [f"{node} {'is draining' if node in seen.draining else ENDED[ends.get(node, 'expired')]}" for node in gone]
    if seen.unassigned:
        parts.append(f"{seen.unassigned} symbols had no node")
    return ", ".join(parts)


async def sweep_and_tell(link: Link, node: str, trigger: str, agenda: Agenda) -> bool:
    """Sweep once and log what this call ended; whether there was something. Raises ConnectionLost, TryAgain."""
    crash_point("sweep.before")
    ended = await client.sweep(link)
    crash_point("sweep.after")
    if ended is None:
        return False
    log.warning(
        "swept",
        node=node,
        trigger=trigger,
        ended=ended.node,
        incarnation=str(ended.incarnation),
        reason=ended.reason,
        symbols=ended.symbols,
        done=ended.done,
    )
    agenda.ask_reconcile()
    return True
