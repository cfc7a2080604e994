"""The protocol: each action is what one SQL function does, or what happens to a process, a clock or a server.

A function that judges and writes under the locks that it waited for is one step: whoever could change what it judged
waits for it. Where something else can come between, it is several: a replacement reads its deadline, waits for the
quote's row, holds it, commits; a grant holds its incarnation and lease while it waits for the quote's row. Statements
that were sent and not begun may come at any time, whatever has become of their sender by then.

`Rules` are the decisions that keep the protocol right. Each trap is one of them decided otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import combinations, product
from typing import Final, NamedTuple

from model.state import HOLDS, NOBODY, PART, SENT, TIMEOUT, TTL, WAITS, Flight, Grant, Node, State


class Action(NamedTuple):
    """What a step is called, and the SQL functions it stands for: the one that is called, then those that it calls."""

    name: str
    sql: tuple[str, ...] = ()
    fair: bool = True  # whoever can do it for ever does it some time; the others are faults, orders, and losses
    rings: bool = False  # it rings mm_authority

    @property
    def title(self) -> str:
        """The SQL function where there is one, and which part of it when it is several steps."""
        return f"{self.sql[0]}: {self.name}" if self.sql else self.name


_END = ("authority_end_incarnation_v3", "exchange_drop_fence_v1", "exchange_withdraw_quotes_v1")
_REPLACE = ("authority_replace_quotes_v3", "exchange_replace_quotes_v3")
_ACQUIRE = ("authority_acquire_v3", "exchange_raise_fence_v1")
_RELEASE = ("authority_release_v3", "exchange_drop_fence_v1", "authority_ring_v2")

REGISTER = Action("register", ("authority_register_v3", "authority_session_alive_v1", *_END), rings=True)
RENEW = Action("renew", ("authority_renew_v3",))
RENEW_BEGINS = Action("begin", RENEW.sql)
SWEEP = Action("sweep", ("authority_sweep_v3", "authority_session_alive_v1", *_END, "authority_ring_v2"), rings=True)
BEGIN_LEAVE = Action("begin to leave", ("authority_begin_leave_v1",), fair=False, rings=True)
LEAVE = Action("leave", ("authority_leave_v3", *_END), rings=True)
ACQUIRE = Action("judge", _ACQUIRE)
GRANT = Action("commit", _ACQUIRE)
RELEASE = Action("release", _RELEASE, rings=True)
APPLY = Action("apply", ("authority_apply_assignment_v2",), rings=True)
DRAIN = Action("drain or undrain", ("authority_set_draining_v1",), fair=False, rings=True)
SEND = Action("send", _REPLACE)
READ = Action("read the deadline", _REPLACE)
JUDGE = Action("lock the quote and judge", _REPLACE)
COMMIT = Action("commit", _REPLACE)
SEND_RELEASE = Action("send", _RELEASE, fair=False)
LATE_RELEASE = Action("release, late", _RELEASE)
LOST = Action("a statement is lost", fair=False)
TICK = Action("tick of the database's clock")
SESSION_LOST = Action("session lost", ("authority_watch_v1",), fair=False)
CRASH = Action("crash or failover", fair=False)
STOP = Action("stop (SIGSTOP)", fair=False)
RESUME = Action("resume (SIGCONT) or start again", fair=False)
KILL = Action("kill (SIGKILL)", fair=False)
LOOK = Action("look and find nothing to do")
UNHEARD = Action("the same, and the doorbell is lost", fair=False)

ACTIONS: Final = (
    REGISTER, RENEW, RENEW_BEGINS, SWEEP, BEGIN_LEAVE, LEAVE, ACQUIRE, GRANT, RELEASE, APPLY, DRAIN,
    SEND, READ, JUDGE, COMMIT, SEND_RELEASE, LATE_RELEASE, LOST,
    TICK, SESSION_LOST, CRASH, STOP, RESUME, KILL, LOOK, UNHEARD,
)  # fmt: skip


class Step(NamedTuple):
    """One action of one node (or NOBODY) on one symbol (or NOBODY), and what it leads to."""

    action: Action
    node: int
    symbol: int
    after: State


@dataclass(frozen=True, slots=True)
class Rules:
    """What keeps the protocol right. The defaults are the product's."""

    writer_lock: str = "update"  # that a replacement takes on the quote's row before it judges
    taker_lock: str = "update"  # that a grant, a release and an end take on it
    judges_after_lock: bool = True  # the right is judged by what stands there once the lock is held
    clock_after_lock: bool = True  # the deadline is judged by clock_timestamp() then, and not by now()
    renewal_locks_first: bool = True  # a renewal is judged once it has the row
    expired_stays_expired: bool = True  # a renewal needs expires_at > clock_timestamp()
    register_ends_former: bool = True  # the name's former incarnation is ended first
    epoch_rises: bool = True  # at every grant
    grant_raises_fence: bool = True
    end_drops_fence: bool = True
    end_withdraws: bool = True  # the quotes of a holder that was lost, in the same commit
    part_expires: bool = True  # the first part of a lost one's end expires the rest
    release_names_holder: bool = True
    grant_is_durable: bool = True  # on the standby too, before anyone sees it
    timeouts: bool = True  # transaction_timeout, idle_in_transaction_session_timeout
    autocommit: bool = True  # the server ends a node's transaction by itself, whatever has become of the node
    slow_timer: bool = True  # tables are read again though no doorbell was heard
    expiry_is_swept: bool = True  # survivors end what has expired, and not only what has lost its session


_RULES_OF_ENDS: Final = (
    "renewal_locks_first", "expired_stays_expired", "register_ends_former", "expiry_is_swept", "grant_is_durable",
)  # fmt: skip
_RULES_OF_THE_FENCE: Final = (
    *_RULES_OF_ENDS, "part_expires", "writer_lock", "taker_lock", "judges_after_lock", "clock_after_lock",
    "epoch_rises", "grant_raises_fence", "end_drops_fence", "release_names_holder", "timeouts", "autocommit",
)  # fmt: skip


class Protocol:
    """The steps from a state. With `cover` the model says who runs and what is assigned to whom, too.

    Without, every node may take or release any symbol at any time, and may do nothing for as long as it likes: more can
    happen than with any assignment and with any stops and kills, which is what safety is to be checked against. Who
    must do something is what coverage is about; quotes and their statements, of which none changes a lease, are left
    out then.

    `reduced` leaves out what provably makes no difference while the rules are as they are (see `settled`).
    """

    def __init__(self, rules: Rules | None = None, *, cover: bool = False, reduced: bool = True) -> None:
        self.rules = rules or Rules()
        self.cover = cover
        decided = {
            field.name for field in fields(Rules) if getattr(self.rules, field.name) == getattr(Rules(), field.name)
        }
        self._forgets_disk = reduced and "grant_is_durable" in decided
        self._ends_are_alike = reduced and decided.issuperset(_RULES_OF_ENDS)
        self._late_is_now = reduced and decided.issuperset(_RULES_OF_THE_FENCE)

    def steps(self, state: State) -> Iterator[Step]:
        """All steps from a state, with those that change nothing."""
        if self.rules.slow_timer:
            yield from self._steps(state)
            return
        for step in self._steps(state):
            if not step.action.rings:
                yield step
                continue
            nodes = tuple(node._replace(rung=True) for node in step.after.nodes)
            yield step._replace(after=step.after._replace(nodes=nodes))
            yield step._replace(action=UNHEARD)
        for n, node in enumerate(state.nodes):
            has_work = any(step.node == n and step.action in (GRANT, RELEASE, APPLY) for step in self._steps(state))
            if node.up and node.rung and not has_work:
                yield Step(LOOK, n, NOBODY, state.with_node(n, rung=False))

    def has(self, action: Action) -> bool:
        """Whether the action belongs to this model at all."""
        if action in (BEGIN_LEAVE, APPLY, DRAIN, STOP, RESUME, KILL):
            return self.cover
        if action in (ACQUIRE, READ, JUDGE, COMMIT, LOST):
            return not self.cover
        if action in (LOOK, UNHEARD):
            return not self.rules.slow_timer
        if action is RENEW_BEGINS:
            return not self.rules.renewal_locks_first
        return action not in (SEND, SEND_RELEASE, LATE_RELEASE) or not (self.cover or self._late_is_now)

    def _steps(self, state: State) -> Iterator[Step]:
        for n in range(len(state.nodes)):
            yield from self._membership(state, n)
        for n, s in product(range(len(state.nodes)), range(len(state.symbols))):
            yield from self._lease(state, n, s)
        if state.grant:
            yield from self._grant_commits(state)
        if state.flight:
            yield from self._flight_goes_on(state, state.flight)
        else:
            yield from self._flight_begins(state)
        if self.cover:
            yield from self._assignment(state)
            yield from self._processes(state)
        yield from self._world(state)

    def settled(self, state: State) -> State:
        """The state without differences that make none, each while the rules that it rests on are as they are:

        1. an incarnation that is over can only be ended: how much of its TTL is left, its session and why do not
           matter; and when it holds nothing, its end changes nothing. (A lost session alone is no such end while there
           are quotes: until it is swept, a statement of its other connection still has the right.)
        2. a statement that is bound to be refused changes nothing: it is refused at once. One that is on its way and is
           not might as well be sent now, since it names the incarnation and the epoch that stand there; and so might a
           late release, since it frees what its incarnation holds, and that may release at any time
        3. what a crash takes back (quotes and releases) might as well not have happened: nothing after it has survived
        4. without coverage, any node may leave at any time: one that has begun to may do less than the others
        """
        if self._ends_are_alike:
            nodes = tuple(self._end_alike(state, n) for n in range(len(state.nodes)))
            if nodes != state.nodes:
                state = state._replace(nodes=nodes)
        if self._forgets_disk and state.disk is not None:
            state = state._replace(disk=None)
        if self._late_is_now and state.flight and self._is_hopeless(state, state.flight):
            state = state._replace(flight=None)
        return state

    def _end_alike(self, state: State, n: int) -> Node:
        node = state.nodes[n]
        if node.alive and (not node.left or (self.cover and not node.session)):
            me = state.current(n)
            has_grant = state.grant is not None and state.grant.incarnation == me
            if has_grant or any(symbol.holder == me for symbol in state.symbols):
                return node._replace(left=0, session=False, ending="")
            return Node(node.serial, up=node.up, draining=node.draining, rung=node.rung)
        return node._replace(ending="") if node.ending == "released" and not self.cover else node

    def _is_hopeless(self, state: State, flight: Flight) -> bool:
        """Of a replacement: whether it will be refused, or is as good as not sent yet."""
        if flight.stage == WAITS:
            return not self._is_right(state, flight, flight.deadline)
        return flight.stage == SENT or flight.kind == "release"

    # Membership

    def _membership(self, state: State, n: int) -> Iterator[Step]:
        node = state.nodes[n]
        if not node.up:
            return
        is_over = not node.left or not node.session or node.ending == "lost"
        is_locked = state.grant is not None and state.grant.incarnation.node == n
        if not node.alive:
            yield Step(REGISTER, n, NOBODY, self._registered(state, n))
        elif not is_locked and is_over:
            for ended in self._ends(state, n, "lost") if self.rules.register_ends_former else (state,):
                is_done = not ended.nodes[n].alive or not self.rules.register_ends_former
                # A part is taken away, and it is called again, or that was all.
                yield Step(REGISTER, n, NOBODY, self._registered(ended, n) if is_done else ended)
        if not node.alive:
            return
        if self.rules.renewal_locks_first:
            is_good = node.left > 0 or not self.rules.expired_stays_expired
            if is_good and node.session and not is_locked and node.left < TTL:
                yield Step(RENEW, n, NOBODY, state.with_node(n, left=TTL)._replace(disk=None))
        if not is_locked:
            if self.cover and not node.ending and node.left and node.session:
                yield Step(BEGIN_LEAVE, n, NOBODY, state.with_node(n, ending="released")._replace(disk=None))
            if not self.cover or node.ending == "released":
                for ended in self._ends(state, n, "released"):
                    gone = self.cover and not ended.nodes[n].alive
                    yield Step(LEAVE, n, NOBODY, ended.with_node(n, up=False) if gone else ended)

    def _registered(self, state: State, n: int) -> State:
        node = state.nodes[n]
        return state.with_node(
            n, serial=node.serial + 1, alive=True, left=TTL, session=True, ending="", rung=True
        )._replace(disk=None)

    def _ends(self, state: State, n: int, reason: str) -> Iterator[State]:
        """authority_end_incarnation_v3: a part, whichever comes first; none while the quote's row of it is locked."""
        me = state.current(n)
        held = [s for s, symbol in enumerate(state.symbols) if symbol.holder == me]
        for part in combinations(held, min(PART, len(held))):
            if any(self._is_row_locked(state, s) for s in part):
                continue
            after = state
            for s in part:
                after = self._freed(after, s, me, withdrawn=reason == "lost" and self.rules.end_withdraws)
            if len(held) <= PART:
                node = state.nodes[n]
                row = Node(node.serial, up=node.up, draining=node.draining, rung=node.rung)
                after = after._replace(nodes=(*state.nodes[:n], row, *state.nodes[n + 1 :]))
            else:
                after = after.with_node(n, ending=reason)
                if reason == "lost" and self.rules.part_expires:
                    after = after.with_node(n, left=0)
            yield after._replace(disk=None)

    def _freed(self, state: State, s: int, me: object, *, withdrawn: bool = False) -> State:
        """The lease is free, the fence down and the tenure closed, as far as they are that incarnation's."""
        symbol = state.symbols[s]
        if symbol.fence_holder == me and self.rules.end_drops_fence:
            symbol = symbol._replace(fence_holder=None)
        if symbol.tenure == me:
            symbol = symbol._replace(tenure=None)
        symbol = symbol._replace(holder=None, quote=symbol.quote and not withdrawn)
        return state._replace(symbols=(*state.symbols[:s], symbol, *state.symbols[s + 1 :]))

    def _is_row_locked(self, state: State, s: int) -> bool:
        """Whether a replacement holds the quote's row in a way that a taker waits for."""
        flight = state.flight
        if flight is None or flight.stage != HOLDS or flight.symbol != s:
            return False
        return conflicts(self.rules.writer_lock, self.rules.taker_lock)

    # Leases

    def _lease(self, state: State, n: int, s: int) -> Iterator[Step]:
        node, symbol, me = state.nodes[n], state.symbols[s], state.current(n)
        if not node.alive or not node.up:
            return
        if symbol.holder is None:
            is_mine = not self.cover or (symbol.assigned == n and node.session and self._acts(node))
            if is_mine and not state.grant and node.left and not node.ending:
                judged = state._replace(grant=Grant(s, me))
                if not self.cover:
                    yield Step(ACQUIRE, n, s, judged)
                elif not self._is_row_locked(state, s):
                    yield Step(GRANT, n, s, self._granted(judged, Grant(s, me)))
        elif symbol.holder == me and not self._is_row_locked(state, s):
            is_surplus = symbol.assigned not in (n, NOBODY) and node.session and self._acts(node)
            if not self.cover or is_surplus:
                yield Step(RELEASE, n, s, self._released(state, s, me))

    def _released(self, state: State, s: int, me: object) -> State:
        # Committed without waiting for the disk: a crash may take it back.
        return self._freed(state, s, me)._replace(disk=state.disk or state.symbols)

    def _grant_commits(self, state: State) -> Iterator[Step]:
        grant = state.grant
        assert grant is not None
        if not self._is_row_locked(state, grant.symbol):
            yield Step(GRANT, grant.incarnation.node, grant.symbol, self._granted(state, grant))
        yield Step(LOST, grant.incarnation.node, grant.symbol, state._replace(grant=None))

    def _granted(self, state: State, grant: Grant) -> State:
        symbol, me = state.symbols[grant.symbol], grant.incarnation
        epoch = symbol.epoch + self.rules.epoch_rises
        after = state.with_symbol(grant.symbol, holder=me, epoch=epoch, tenure=me, newest=max(epoch, symbol.newest))
        if self.rules.grant_raises_fence:
            after = after.with_symbol(grant.symbol, fence_holder=me, fence_epoch=epoch)
        return after._replace(grant=None, disk=None if self.rules.grant_is_durable else state.disk or state.symbols)

    # Statements in flight

    def _flight_begins(self, state: State) -> Iterator[Step]:
        for s, symbol in enumerate(state.symbols):
            holder = symbol.holder
            if holder is None:
                continue
            sent = Flight("replace", SENT, s, holder, symbol.epoch)
            if self._late_is_now and not self.cover:
                yield from self._flight_goes_on(state, sent)
            elif not self.cover:
                yield Step(SEND, holder.node, s, state._replace(flight=sent))
                yield Step(SEND_RELEASE, holder.node, s, state._replace(flight=sent._replace(kind="release")))
            elif not self.rules.autocommit and state.is_alive(holder) and runs(state.nodes[holder.node]):
                yield Step(
                    JUDGE, holder.node, s, state._replace(flight=Flight("replace", HOLDS, s, holder, symbol.epoch))
                )
        if not self.rules.renewal_locks_first:
            for n, node in enumerate(state.nodes):
                if node.alive and node.session and node.left:
                    flight = Flight("renew", WAITS, 0, state.current(n), 0)
                    yield Step(RENEW_BEGINS, n, NOBODY, state._replace(flight=flight))

    def _flight_goes_on(self, state: State, flight: Flight) -> Iterator[Step]:
        n, s, me = flight.incarnation.node, flight.symbol, flight.incarnation
        without = state._replace(flight=None)
        if flight.kind == "release":
            holder = state.symbols[s].holder
            is_mine = holder == me if self.rules.release_names_holder else holder is not None
            yield Step(LATE_RELEASE, n, s, self._released(without, s, me) if is_mine else without)
        elif flight.kind == "renew":
            if state.is_alive(me) and not (state.grant and state.grant.incarnation == me):
                yield Step(RENEW, n, NOBODY, without.with_node(n, left=TTL)._replace(disk=None))
        elif flight.stage == SENT:
            deadline = state.nodes[n].left if state.is_alive(me) else 0
            if self.rules.judges_after_lock or self._is_right(state, flight, deadline):
                yield Step(READ, n, s, state._replace(flight=flight._replace(stage=WAITS, deadline=deadline)))
        elif flight.stage == WAITS:
            if not self.rules.judges_after_lock or self._is_right(state, flight, flight.deadline):
                yield Step(JUDGE, n, s, state._replace(flight=flight._replace(stage=HOLDS, deadline=0)))
            else:
                yield Step(JUDGE, n, s, without)  # refused
        elif self.rules.autocommit or state.nodes[n].up:
            # Without waiting for the disk, too.
            done = (
                without if self.cover else without.with_symbol(s, quote=True)._replace(disk=state.disk or state.symbols)
            )
            yield Step(COMMIT, n, s, done)
        if state.flight and flight.kind != "renew" and not self.cover:
            yield Step(LOST, n, s, without)  # cancelled, or never delivered

    def _is_right(self, state: State, flight: Flight, deadline: int) -> bool:
        symbol = state.symbols[flight.symbol]
        return deadline > 0 and (symbol.fence_holder, symbol.fence_epoch) == (flight.incarnation, flight.epoch)

    # The world

    def _world(self, state: State) -> Iterator[Step]:
        yield Step(TICK, NOBODY, NOBODY, self._ticked(state))
        for n, node in enumerate(state.nodes):
            if not node.alive:
                continue
            if node.session:
                yield Step(SESSION_LOST, n, NOBODY, state.with_node(n, session=False))
            if self._is_swept(state, n):
                for ended in self._ends(state, n, "lost"):
                    yield Step(SWEEP, n, NOBODY, ended)
        crashed = state._replace(
            nodes=tuple(node._replace(session=False) for node in state.nodes),
            flight=state.flight if state.flight and state.flight.stage == SENT else None,
            grant=None,
            disk=None,
        )
        yield Step(CRASH, NOBODY, NOBODY, crashed)
        if state.disk:
            lost = zip(state.disk, state.symbols, strict=True)
            symbols = tuple(old._replace(newest=new.newest) for old, new in lost)
            flight = crashed.flight._replace(late=0) if crashed.flight else None  # its tenure may be back
            yield Step(CRASH, NOBODY, NOBODY, crashed._replace(symbols=symbols, flight=flight))

    def _is_swept(self, state: State, n: int) -> bool:
        node = state.nodes[n]
        if state.grant and state.grant.incarnation.node == n:
            return False
        if self.cover and not any(map(runs, state.nodes)):
            return False  # nobody to call it
        return (not node.left and self.rules.expiry_is_swept) or not node.session or node.ending == "lost"

    def _ticked(self, state: State) -> State:
        nodes = tuple(node._replace(left=max(node.left - 1, 0)) for node in state.nodes)
        flight = state.flight
        if flight:
            symbol = state.symbols[flight.symbol]
            is_over = (
                (symbol.holder, symbol.epoch) != (flight.incarnation, flight.epoch)
                or not state.is_alive(flight.incarnation)
                or not state.nodes[flight.incarnation.node].left
                or state.nodes[flight.incarnation.node].ending == "lost"
            )
            has_begun = flight.stage != SENT and flight.kind == "replace"
            keeps = flight.stage == WAITS and not self.rules.clock_after_lock
            flight = flight._replace(
                age=min(flight.age + has_begun, TIMEOUT + 1),
                late=min(flight.late + 1, TIMEOUT + 1) if is_over and flight.kind == "replace" else 0,
                deadline=flight.deadline if keeps else max(flight.deadline - 1, 0),
            )
            if flight.age > TIMEOUT and self.rules.timeouts:
                flight = None
        return state._replace(nodes=nodes, flight=flight)

    # Who must act

    def _acts(self, node: Node) -> bool:
        return self.rules.slow_timer or node.rung

    def _members(self, state: State) -> list[int]:
        return [
            n
            for n, node in enumerate(state.nodes)
            if node.alive and node.left and not node.ending and not node.draining
        ]

    def _assignment(self, state: State) -> Iterator[Step]:
        """Every balanced assignment with the fewest moves: `assign` takes one of them."""
        members = self._members(state)
        if not members:
            return
        now = [symbol.assigned for symbol in state.symbols]
        wanted = balanced(now, members)
        if now in wanted:
            return
        appliers = [n for n, node in enumerate(state.nodes) if runs(node) and self._acts(node)]
        for n, nodes in product(appliers[:1], wanted):
            after = state
            for s, assigned in enumerate(nodes):
                after = after.with_symbol(s, assigned=assigned)
            yield Step(APPLY, n, NOBODY, after._replace(disk=None))

    def _processes(self, state: State) -> Iterator[Step]:
        for n, node in enumerate(state.nodes):
            if node.up:
                yield Step(STOP, n, NOBODY, state.with_node(n, up=False))
                if node.session:
                    # Its connections close: the server ends a transaction that waits for its client.
                    is_open = (
                        state.flight is not None and state.flight.incarnation.node == n and not self.rules.autocommit
                    )
                    killed = state.with_node(n, up=False, session=False)
                    yield Step(KILL, n, NOBODY, killed._replace(flight=None) if is_open else killed)
            else:
                yield Step(RESUME, n, NOBODY, state.with_node(n, up=True))
            if node.draining or not any(other.draining for other in state.nodes):
                yield Step(DRAIN, n, NOBODY, state.with_node(n, draining=not node.draining))


def runs(node: Node) -> bool:
    """Whether its process is at work under an incarnation in force."""
    return node.up and node.alive and node.session and node.left > 0


def conflicts(one: str, other: str) -> bool:
    """Whether PostgreSQL lets two transactions hold these locks on one row: they conflict if not."""
    strength = ("none", "key share", "share", "no key update", "update")
    a, b = sorted((strength.index(one), strength.index(other)))
    return a > 0 and a + b >= 5


def balanced(now: list[int], members: list[int]) -> list[list[int]]:
    """The assignments with loads at most one apart that move the fewest symbols."""
    fair = [
        list(nodes)
        for nodes in product(members, repeat=len(now))
        if max(loads := [nodes.count(n) for n in members]) - min(loads) <= 1
    ]
    moves = [sum(old != new for old, new in zip(now, nodes, strict=True)) for nodes in fair]
    return [nodes for nodes, count in zip(fair, moves, strict=True) if count == min(moves)]
