"""A node's parts on a real database, each by itself: what a whole node would show only after seconds, or by chance."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from nodeagent import agent, watcher
from nodeagent.agent import Life, NodeOptions
from nodeagent.authority_client import _MARKET, RELEASE, Renewal
from nodeagent.connections import ConnectionLost, Link, TryAgain
from nodeagent.holdings import Agenda, Holdings
from nodeagent.quoter import Quoter, QuotingTimes
from nodeagent.reconciler import Reconciler, sweep_and_tell
from nodeagent.session import Belief, Session, Timing, open_session
from tests.racing import BOUNDED, DEADLINE_S, Node, Stage, acquire, release, sweep
from tests.support import Database

TIMING = Timing(ttl_s=60.0, renew_interval_s=0.05, belief_margin_s=0.3)
TIMES = QuotingTimes(validity_ms=60_000, refresh_s=60.0)
FOR_EVER_S = 3_600.0


async def soon(condition: Callable[[], Any], message: str) -> None:
    """Return once it is true; fail with `message` after DEADLINE_S."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, message
        await asyncio.sleep(0.02)


@dataclass
class Parts:
    """A registered node `a`, and what it takes to let its parts work."""

    stage: Stage
    session: Session
    node: Node
    hears: list[Callable[[str], None]] = field(default_factory=list)  # what its doorbell of the authority rings
    links: list[Link] = field(default_factory=list)

    def link(self, kind: type[Link] = Link) -> Link:
        self.links.append(kind(self.stage.database.url("node"), "mm-node a work"))
        return self.links[-1]

    def hold(self, *symbols: str) -> Holdings:
        """Have the node granted these symbols; what it knows of them."""
        self.stage.assign(**dict.fromkeys(symbols, "a"))
        holdings = Holdings()
        for symbol, (outcome, epoch) in acquire(self.node, *symbols)(self.stage.admin).items():
            assert outcome == "granted"
            self.node.epochs[symbol] = epoch
            holdings.put(symbol, epoch)
        return holdings

    def quoter(self, holdings: Holdings, agenda: Agenda, link: Link | None = None) -> Quoter:
        return Quoter(link or self.link(), self.session, holdings, agenda, TIMES)

    def lapse(self) -> None:
        """As if no renewal had succeeded for longer than the time to live."""
        self.session.belief = Belief(TIMING, time.monotonic() - TIMING.ttl_s)

    def bounded(self) -> None:
        """What somebody keeps locked is left out soon."""
        for function in BOUNDED:
            self.stage.admin.execute(f"ALTER FUNCTION {function} SET lock_timeout = '200ms'".encode())

    def limit(self, name: str, value: str) -> None:
        """Of the node's sessions from now on."""
        database = self.stage.database.name
        self.stage.admin.execute(f"ALTER ROLE mm_node IN DATABASE {database} SET {name} = '{value}'".encode())

    def versions(self) -> int:
        return int(self.stage.one("SELECT count(*) FROM exchange_quoteversion"))


@pytest.fixture
async def parts(database: Database) -> AsyncIterator[Parts]:
    stage, hears = Stage(database), list[Callable[[str], None]]()
    for limit in ("statement_timeout", "lock_timeout", "transaction_timeout"):  # not what is tested here
        if limit == "transaction_timeout" and stage.admin.info.server_version < 170_000:
            continue
        stage.admin.execute(f"ALTER ROLE mm_node IN DATABASE {database.name} SET {limit} = '{DEADLINE_S}s'".encode())
    stage.wait_for_locks()

    def rung(hint: str) -> None:
        for hear in hears:
            hear(hint)

    session = await open_session(
        database.url("node"), "a", TIMING, on_authority=rung, on_market=lambda _hint: None, stopping=asyncio.Event()
    )
    assert session is not None
    made = Parts(stage, session, Node("a", stage.admin, session.incarnation), hears)
    yield made
    session.terminate()
    for link in made.links:
        link.terminate()
    await asyncio.sleep(0)  # for the sockets to be closed


@pytest.fixture
async def life(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Life]:
    """The whole of the node but for its slow timers: they would make good in time whatever is tested here."""
    monkeypatch.setattr(agent, "SLOW_RECONCILE_S", FOR_EVER_S)
    monkeypatch.setattr(watcher, "RING_READ_S", FOR_EVER_S)
    parts.bounded()
    stopping = asyncio.Event()
    options = NodeOptions("a", parts.stage.database.url("node"), TIMING, TIMES)
    made = Life(parts.session, options, stopping, work=parts.link(), watch=parts.link())
    living = asyncio.create_task(made.run())
    yield made
    stopping.set()
    await living


# The session: until when a node believes


async def test_a_renewal_that_is_answered_late_is_believed_from_when_it_was_sent(parts: Parts) -> None:
    """The database counted from a moment after the sending, and nobody knows how long before the answer."""
    late_s, left_s, renewed = 0.5, list[float](), asyncio.Event()

    def note(_renewal: Renewal) -> None:
        left_s.append(parts.session.belief.left_s())
        renewed.set()

    holder = parts.stage.database.connect("admin")
    holder.execute("BEGIN")
    holder.execute("SELECT 1 FROM authority_incarnation FOR UPDATE")
    renewing = asyncio.create_task(parts.session.renew_until_over(note))
    waits = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
    await soon(lambda: parts.stage.one(waits, holder.info.backend_pid), "the renewal waits")
    await asyncio.sleep(late_s)
    holder.execute("COMMIT")
    await asyncio.wait_for(renewed.wait(), DEADLINE_S)
    renewing.cancel()

    longest_s = TIMING.ttl_s - TIMING.belief_margin_s - late_s
    assert left_s[0] <= longest_s, f"believed for {left_s[0]} s more, which is longer than {longest_s} s"


async def test_a_session_that_was_swept_is_over_at_its_next_renewal(parts: Parts) -> None:
    parts.stage.admin.execute("UPDATE authority_incarnation SET expires_at = clock_timestamp()")
    assert sweep(parts.stage.admin) == [("a", "expired")]
    renewing = asyncio.create_task(parts.session.renew_until_over(lambda _renewal: None))
    await soon(renewing.done, "it goes on renewing what has ended")
    assert renewing.result() == "ended or expired"


async def test_a_node_that_waits_for_its_former_selfs_end_can_be_told_to_stop(parts: Parts) -> None:
    parts.bounded()
    holder, stopping = parts.stage.holder("b"), asyncio.Event()
    parts.stage.lose(holder)
    with parts.stage.kept_locked("exchange_quote", "ALFA"):
        opening = asyncio.create_task(
            open_session(
                parts.stage.database.url("node"), "b", TIMING, on_authority=lambda _hint: None,
                on_market=lambda _hint: None, stopping=stopping,
            )
        )  # fmt: skip
        ending = "SELECT count(*) FROM authority_incarnation WHERE node = 'b' AND ending IS NOT NULL"
        await soon(lambda: parts.stage.one(ending), "it has begun to end its former self")
        assert not opening.done(), "registered beside its former self"
        stopping.set()
        assert await asyncio.wait_for(opening, DEADLINE_S) is None


# The quoter: what it may write


async def test_nothing_is_quoted_under_a_belief_that_has_lapsed(parts: Parts) -> None:
    holdings, agenda = parts.hold("ALFA"), Agenda()
    parts.lapse()
    agenda.ask_first(["ALFA"])
    await parts.quoter(holdings, agenda).quote_batch()
    assert parts.versions() == 0, "quoted under a belief that had lapsed"

    parts.session.belief.confirm(time.monotonic())
    agenda.ask_first(["ALFA"])
    await parts.quoter(holdings, agenda).quote_batch()
    assert parts.versions() == 1


async def test_nothing_is_quoted_when_the_belief_lapses_between_reading_and_writing(parts: Parts) -> None:
    class StopsInBetween(Link):
        """The process is stopped when it has read the market, and continued long after."""

        async def fetch(self, query: str, *arguments: Any, timeout_s: float = 5.0) -> list[Any]:
            rows = await super().fetch(query, *arguments, timeout_s=timeout_s)
            if query == _MARKET:
                parts.lapse()
            return rows

    holdings, agenda = parts.hold("ALFA"), Agenda()
    agenda.ask_first(["ALFA"])
    await parts.quoter(holdings, agenda, parts.link(StopsInBetween)).quote_batch()
    assert parts.versions() == 0, "quoted under a belief that had lapsed meanwhile"


async def test_what_it_had_no_right_to_quote_is_held_no_longer(parts: Parts) -> None:
    holdings, agenda = parts.hold("ALFA", "BRAVO"), Agenda()
    release(parts.node, "ALFA")(parts.stage.admin)  # by its own statement whose answer was lost, say
    agenda.ask_first(["ALFA", "BRAVO"])
    await parts.quoter(holdings, agenda).quote_batch()
    assert holdings.symbols() == ["BRAVO"], f"still taken for its own: {holdings.symbols()}"
    assert agenda.compare, "the tables are to be asked"


async def test_what_changed_while_its_quote_was_under_way_is_quoted_again(parts: Parts) -> None:
    """A doorbell that comes between reading and writing is for what was read too early."""
    holdings, agenda = parts.hold("ALFA"), Agenda()

    class RungInBetween(Link):
        async def fetch(self, query: str, *arguments: Any, timeout_s: float = 5.0) -> list[Any]:
            rows = await super().fetch(query, *arguments, timeout_s=timeout_s)
            if query == _MARKET:
                agenda.ask_first(["ALFA"])
            return rows

    agenda.ask_first(["ALFA"])
    await parts.quoter(holdings, agenda, parts.link(RungInBetween)).quote_batch()
    assert list(agenda.first) == ["ALFA"], "the doorbell was forgotten"


async def test_a_symbol_whose_row_somebody_keeps_locked_holds_up_no_other(parts: Parts) -> None:
    """The batch fails once; then each is tried by itself, and the doorbell of the locked one changes nothing."""
    holdings, agenda = parts.hold("ALFA", "BRAVO"), Agenda()
    locked, other = holdings.get("ALFA"), holdings.get("BRAVO")
    assert locked is not None
    assert other is not None
    quoter = parts.quoter(holdings, agenda)
    parts.limit("lock_timeout", "200ms")
    with parts.stage.kept_locked("exchange_quote", "ALFA"):
        agenda.ask_first(["ALFA", "BRAVO"])
        with pytest.raises(TryAgain):
            await quoter.quote_batch()
        for version in (1, 2, 3, 4):
            agenda.ask_first(["ALFA", "BRAVO"])
            holdings.set_due(other, 0.0)
            while not agenda.is_empty:
                await quoter.quote_batch()
            assert parts.versions() >= version, "held up by ALFA"
    await soon(lambda: locked.due_at <= asyncio.get_running_loop().time(), "its pause is over")
    agenda.ask_first(["ALFA"])
    await quoter.quote_batch()
    assert parts.stage.one("SELECT version > 0 FROM exchange_quote WHERE symbol = 'ALFA'")
    assert not locked.apart, "it goes with the others again"


@pytest.mark.parametrize("state", ["53100", "53200", "53400", "58030"])
async def test_a_statement_that_found_the_disk_full_is_tried_again(parts: Parts, state: str) -> None:
    """... or no memory, or a limit reached: the process goes on, and with it the session."""
    link = parts.link()
    with pytest.raises(TryAgain, match="No space left"):
        await link.fetch(f"DO $$ BEGIN RAISE 'No space left on device' USING ERRCODE = '{state}'; END $$")
    assert await link.fetch("SELECT 1"), "on the connection that it has"


# The reconciler: an answer that gets lost


async def test_what_is_being_released_is_not_quoted_even_if_the_answer_gets_lost(parts: Parts) -> None:
    class LosesTheAnswer(Link):
        async def fetch(self, query: str, *arguments: Any, timeout_s: float = 5.0) -> list[Any]:
            rows = await super().fetch(query, *arguments, timeout_s=timeout_s)
            if query == RELEASE:
                raise ConnectionLost("after the commit, before the answer")
            return rows

    holdings, agenda = parts.hold("ALFA", "BRAVO"), Agenda(reconcile=True)
    parts.stage.join("b")
    parts.stage.assign(BRAVO="b")
    with pytest.raises(ConnectionLost):
        await Reconciler(parts.link(LosesTheAnswer), parts.session, holdings, agenda).reconcile()
    assert holdings.symbols() == ["ALFA"], f"still taken for its own: {holdings.symbols()}"
    assert agenda.compare, "what became of it is to be looked up"


async def test_what_was_granted_is_found_by_the_tables_when_the_answer_got_lost(parts: Parts) -> None:
    parts.hold("ALFA")
    nothing, agenda = Holdings(), Agenda(compare=True)
    await Reconciler(parts.link(), parts.session, nothing, agenda).reconcile()
    assert nothing.epochs() == {"ALFA": 1}, "held, and not known"
    assert list(agenda.first) == ["ALFA"]


# All of it


async def test_a_node_that_hears_no_doorbell_follows_the_assignment_all_the_same(parts: Parts, life: Life) -> None:
    """Each renewal tells the assignment's generation: a lost doorbell costs one interval."""
    stage = parts.stage
    await soon(lambda: set(life.holdings.symbols()) == {"ALFA", "BRAVO"}, "it is alone, and takes both")
    stage.join("b")
    stage.assign(BRAVO="b")
    held = "SELECT array_agg(symbol) FROM authority_lease WHERE node = 'a'"
    await soon(lambda: stage.one(held) == ["ALFA"], "it never heard that BRAVO is assigned to another")


async def test_a_neighbour_whose_session_ends_is_swept_at_once(parts: Parts, life: Life) -> None:
    parts.hears.append(life.authority_rung)
    stage = parts.stage
    await soon(lambda: len(life.holdings) == 2, "it is alone, and takes both")
    b = stage.join("b")
    await soon(lambda: stage.one("SELECT count(*) FROM authority_lease WHERE node = 'a'") == 1, "b is given one")
    assert "granted" in {outcome for outcome, _ in acquire(b, "ALFA", "BRAVO")(stage.admin).values()}

    stage.lose(b)

    ended = "SELECT end_reason FROM authority_incarnation WHERE node = 'b'"
    await soon(lambda: stage.one(ended) == "session_lost", "nobody sweeps it")
    await soon(lambda: len(life.holdings) == 2, "its symbol is taken over")


async def test_what_somebody_kept_locked_is_asked_for_until_it_comes(parts: Parts, life: Life) -> None:
    """No doorbell rings when a lock goes."""
    with parts.stage.kept_locked("exchange_quote", "ALFA"):
        parts.stage.assign(ALFA="a", BRAVO="a")
        await soon(lambda: life.holdings.get("BRAVO"), "BRAVO is held up by ALFA")
        await asyncio.sleep(10 * TIMING.renew_interval_s)  # nothing else asks any more
        assert "ALFA" not in life.holdings
    await soon(lambda: life.holdings.get("ALFA"), "it has stopped asking for what was locked")


async def test_what_it_could_not_give_back_at_once_is_given_back_later(parts: Parts, life: Life) -> None:
    parts.stage.assign(ALFA="a", BRAVO="a")
    await soon(lambda: len(life.holdings) == 2, "it holds both")
    held = "SELECT count(*) FROM authority_lease WHERE node = 'a'"
    with parts.stage.kept_locked("exchange_quote", "ALFA"):
        parts.stage.join("b")
        parts.stage.assign(ALFA="b", BRAVO="b")
        await soon(lambda: parts.stage.one(held) == 1, "BRAVO is held up by ALFA")
        await asyncio.sleep(10 * TIMING.renew_interval_s)  # nothing else asks any more
    await soon(lambda: parts.stage.one(held) == 0, "it keeps what was locked")


async def test_a_neighbour_that_cannot_be_ended_is_not_swept_without_a_pause(
    parts: Parts, life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[bool] = []

    async def counted(*arguments: Any) -> bool:
        swept.append(await sweep_and_tell(*arguments))
        return swept[-1]

    monkeypatch.setattr(watcher, "sweep_and_tell", counted)
    await soon(lambda: len(life.holdings) == 2, "it is alone, and takes both")
    b = parts.stage.join("b")
    parts.stage.assign(ALFA="b")
    await soon(lambda: acquire(b, "ALFA")(parts.stage.admin)["ALFA"][0] == "granted", "b is given one")
    with parts.stage.kept_locked("exchange_quote", "ALFA"):
        parts.stage.lose(b)
        await soon(lambda: False in swept, "it is swept as far as can be")
        swept.clear()
        await asyncio.sleep(5 * watcher.IN_VAIN_S)  # what is measured
        assert len(swept) <= 6, f"{len(swept)} sweeps in the time of five pauses"
        await soon(lambda: swept, "it is tried again")
