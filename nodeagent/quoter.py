"""Quoting: look at what has changed, and replace what needs it, a batch in one statement.

A symbol is looked at when a doorbell names it (a fill, a new price, a switch, new parameters), right after its grant,
after a quote of ours has traded, and when its refresh is due. Looking reads the truth from the tables: the doorbell is
only a hint. It is replaced when the price, the position or the parameters have changed since our last quote, when the
live quote is not of our epoch, when there is none, or when the refresh is due.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import structlog

from mmproject.crashpoints import crash_point
from nodeagent import authority_client as client
from nodeagent.authority_client import Market, Outcome
from nodeagent.connections import STATEMENT_TIMEOUT_S, ConnectionLost, Link, TryAgain
from nodeagent.holdings import REFRESH_COALESCE_S, Agenda, Holding, Holdings
from nodeagent.quoting import TwoSidedQuote, quote
from nodeagent.session import Session

log = structlog.get_logger("nodeagent.quoter")

BATCH_MAX_SYMBOLS = 200  # one statement locks that many quote rows until it commits: orders for them wait so long
LOGGED_MAX_SYMBOLS = 20  # that a line about a batch of quotes names
RIGHT_LOST = frozenset(("not_holder", "stale_epoch", "expired"))
ALONE_S = 0.1  # in a round, for symbols that are tried by themselves
REFUSED_AGAIN_S = 0.1  # the pause before a quote that was refused for what it said is tried again, doubling
REFRESH_SPREAD = 0.25  # refreshes are spread over the last quarter of the interval, so that they don't come at once

Quotes = dict[str, tuple[int, TwoSidedQuote]]


@dataclass(frozen=True, slots=True)
class QuotingTimes:
    """How long a quote is valid, in milliseconds, and how old it may get before it is replaced, in seconds."""

    validity_ms: int
    refresh_s: float


class Quoter:
    """Replaces the quotes of the symbols that a session holds."""

    def __init__(self, link: Link, session: Session, holdings: Holdings, agenda: Agenda, times: QuotingTimes) -> None:
        self._link = link
        self._session = session
        self._holdings = holdings
        self._agenda = agenda
        self._times = times
        self.has_lapsed = False  # the belief, when it was last asked for

    @property
    def incarnation(self) -> UUID:
        return self._session.incarnation

    def believes(self) -> bool:
        """Whether our leases can still be taken as ours; says so once when they can't."""
        if self._session.belief.left_s() > 0:
            self.has_lapsed = False
            return True
        if not self.has_lapsed:
            self.has_lapsed = True
            log.warning(
                "belief lapsed",
                node=self._session.node,
                incarnation=str(self.incarnation),
                epochs=self._holdings.epochs(),
            )
        return False

    async def quote_batch(self) -> None:
        """Look at one batch of the symbols on the agenda and replace the quotes that need it.

        1. take the symbols off the agenda, so that a doorbell from now on puts them back
        2. read what their quotes follow from, in one statement
        3. replace those that need it, in one statement, if we may still believe in our leases
        4. take in the answers
        A batch that fails, with the database still there, is taken apart: its symbols are tried one by one, for ALONE_S
        a round after a batch of all others, so that one whose row somebody keeps locked holds up nothing but itself.
        When the database can't be asked, they go back on the agenda. Raises ConnectionLost, TryAgain.
        """
        symbols = [symbol for symbol in self._agenda.take_symbols(BATCH_MAX_SYMBOLS) if symbol in self._holdings]
        if not symbols or not self.believes():
            return  # a renewal that brings the belief back puts all symbols on the agenda
        together, alone = self._sorted(symbols)
        self._agenda.ask_then(alone)
        try:
            await self._quote(together)
        except (ConnectionLost, TryAgain):
            self._agenda.ask_first(together)
            raise
        until = asyncio.get_running_loop().time() + ALONE_S
        for symbol in alone:
            self._agenda.then.pop(symbol, None)
            try:
                await self._quote([symbol])
            except ConnectionLost:
                self._agenda.ask_first([symbol])
                raise
            except TryAgain as error:
                if held := self._holdings.get(symbol):
                    self._try_later(held)
                log.warning("quote held up", node=self._session.node, symbol=symbol, error=str(error))
            if asyncio.get_running_loop().time() > until:
                return

    def _sorted(self, symbols: list[str]) -> tuple[list[str], list[str]]:
        """Those to be quoted together, and those by themselves; one whose pause is not over comes back when it is."""
        now = asyncio.get_running_loop().time()
        together, alone = [], []
        for symbol in symbols:
            held = self._holdings.get(symbol)
            if held is None or not held.apart:
                together.append(symbol)
            elif held.due_at <= now + REFRESH_COALESCE_S:
                alone.append(symbol)
        return together, alone

    async def _quote(self, symbols: list[str]) -> None:
        if not symbols:
            return
        try:
            known = {symbol: held.parameters_version for symbol in symbols if (held := self._holdings.get(symbol))}
            markets = {market.symbol: market for market in await client.market(self._link, known)}
            quotes = self._quotes(markets)
            left_s = self._session.belief.left_s()
            if quotes and self.believes():
                crash_point("replace.before")
                outcomes = await client.replace_quotes(
                    self._link,
                    self.incarnation,
                    quotes,
                    self._times.validity_ms,
                    timeout_s=min(STATEMENT_TIMEOUT_S, left_s),
                )
                crash_point("replace.after")
                self._take_in(outcomes, markets, quotes)
        except (ConnectionLost, TryAgain) as error:
            for held in self._held(symbols):
                held.basis = None  # it may have committed or not: what was quoted last is no longer known
                if isinstance(error, TryAgain):
                    held.apart = True
                    self._holdings.set_due(held, asyncio.get_running_loop().time())
            raise
        for held in self._held(symbols):
            held.apart = False

    def _held(self, symbols: list[str]) -> list[Holding]:
        return [held for symbol in symbols if (held := self._holdings.get(symbol))]

    def _quotes(self, markets: Mapping[str, Market]) -> Quotes:
        """The quotes that are to be replaced, each with the epoch that we hold it under."""
        now = asyncio.get_running_loop().time()
        quotes: Quotes = {}
        for symbol, market in markets.items():
            held = self._holdings.get(symbol)
            if held is None:
                continue
            if market.parameters is not None:
                held.parameters, held.parameters_version = market.parameters, market.parameters_version
            if not market.quoting_enabled:
                # The doorbell tells when it is on again; if that gets lost, the refresh does.
                held.basis = None
                self._holdings.set_due(held, self._refresh_at(now))
            elif self._needs_quote(held, market, now):
                assert held.parameters is not None, "parameters of another version than we know came with the market"
                quotes[symbol] = (held.epoch, quote(market.price, market.position, held.parameters))
        return quotes

    @staticmethod
    def _needs_quote(held: Holding, market: Market, now: float) -> bool:
        return (
            held.basis != market.basis
            or market.quote_epoch != held.epoch
            or not market.is_live
            or held.due_at <= now + REFRESH_COALESCE_S
        )

    def _refresh_at(self, now: float) -> float:
        return now + self._times.refresh_s * random.uniform(1 - REFRESH_SPREAD, 1)

    def _take_in(self, outcomes: list[Outcome], markets: Mapping[str, Market], quotes: Quotes) -> None:
        """Remember what is quoted now; drop what we had no right to; try again later what was refused otherwise."""
        now = asyncio.get_running_loop().time()
        accepted: dict[str, list[int | None]] = {}
        refused: dict[str, list[int | str]] = {}
        for symbol, outcome, version, traded in outcomes:
            held = self._holdings.get(symbol)
            assert held is not None, "only the worker drops holdings, and it is here"
            if outcome == "accepted":
                accepted[symbol] = [held.epoch, version]
                held.basis, held.refusals = markets[symbol].basis, 0
                self._holdings.set_due(held, self._refresh_at(now))
                if traded:  # it crossed resting orders: the position has moved, and the quote is smaller
                    self._agenda.ask_first((symbol,))
            elif outcome == "quoting_disabled":
                held.basis = None
                self._holdings.set_due(held, self._refresh_at(now))
            elif outcome in RIGHT_LOST:
                refused[symbol] = [held.epoch, outcome]
                self._holdings.drop(symbol)
            else:
                self._refused_for_content(symbol, held, outcome, quotes[symbol][1])
        self._tell(accepted, refused)

    def _try_later(self, held: Holding) -> None:
        """Not quoted, and what is quoted now is not known: after a pause, doubling."""
        now = asyncio.get_running_loop().time()
        held.basis = None
        self._holdings.set_due(held, now + min(REFUSED_AGAIN_S * 2 ** min(held.refusals, 16), self._times.refresh_s))
        held.refusals += 1

    def _refused_for_content(self, symbol: str, held: Holding, outcome: str, refused: TwoSidedQuote) -> None:
        """over_limit is what a fill between our reading and our writing looks like; the others are errors of ours."""
        self._try_later(held)
        (log.warning if outcome == "over_limit" and held.refusals == 1 else log.error)(
            "quote refused",
            node=self._session.node,
            symbol=symbol,
            epoch=held.epoch,
            reason=outcome,
            bid=[str(refused.bid_price), str(refused.bid_quantity)],
            ask=[str(refused.ask_price), str(refused.ask_quantity)],
        )

    def _tell(self, accepted: Mapping[str, object], refused: Mapping[str, list[int | str]]) -> None:
        if accepted:
            # Which ones is in the tables: a line of hundreds of symbols several times a second would fill the disk.
            which = {"epochs_versions": accepted} if len(accepted) <= LOGGED_MAX_SYMBOLS else {}
            log.info("quoted", node=self._session.node, symbols=len(accepted), **which)
        if refused:
            log.warning("refused", node=self._session.node, incarnation=str(self.incarnation), epochs_reasons=refused)
            self._agenda.ask_compare()
            self._session.renew_soon()
