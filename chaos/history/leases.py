"""Are leases, quotes and the kill switch linearizable, symbol by symbol, as nodes and operators saw them?

A symbol is one object: epoch, holder, quote version, and whether quoting is on. What changes it is numbered: a grant by
its epoch, a quote by its version, a toggle by its audit row. So the place of each write is known, and what a refusal
or a read saw lies between two of them; that order and the order of time must have no cycle (see order.py for the method
and its sources). What is required, for a symbol:

    grant e -> end of e -> grant e+1           quote v -> quote v+1
    grant e -> quote under e -> end of e       (also one refused as expired, quoting_disabled, off_tick ...)
    grant of a later epoch -> refused as stale_epoch
    end of e -> refused as not_holder, for e's holder -> grant e+1
    grant e -> "held, under e" -> grant e+1

and for an incarnation: what needs it alive -> its end -> what saw that it is over.

An end of a tenure is placed by the release that was acknowledged, if one was, else only by what lies around it. A quote
that was accepted needs a moment at which quoting was on, and one refused as disabled a moment at which it was off,
between the earliest and the latest that the order leaves it: these are judged one by one, which would not see
two that need the same moment for themselves.

An operation of unknown outcome is resolved by the tables where they are given: what happened and nobody was told of
must be asked for by one of that incarnation's operations, after its invocation. Else it is left out: it may have taken
effect or not. What a crash of the database may have taken back (`may_be_lost`) counts as not having happened where the
tables lack it: quotes and releases commit without waiting for the disk.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from chaos.history.facts import Facts, Tenure, Toggle, Version
from chaos.history.operations import History, Operation, may_be_lost
from chaos.history.order import Order
from chaos.history.report import Found

ALWAYS: Final = 2**63
CONTENT: Final = frozenset(("off_tick", "crossed", "over_limit"))  # refused for what it said: the writer had the right

EPOCHS: Final = "epochs rise"
TENURE: Final = "a tenure lies between its grant and the next one"
VERSIONS: Final = "quote versions rise"
UNDER: Final = "a quote is judged under an epoch while that lasts"
STALE: Final = "stale_epoch says that a later epoch had been granted"
NOT_HOLDER: Final = "not_holder says that the tenure had ended, and no later epoch been granted"
EPOCH_READ: Final = "the answer names this epoch as the last that was granted"
SWITCHED: Final = "the audit rows are in this order"
ALIVE: Final = "it needs the incarnation alive"
OVER: Final = "it says that the incarnation is over"


class Said:
    """An operation's part about one symbol, in words when asked for."""

    __slots__ = ("one", "text")

    def __init__(self, one: Operation | None, text: str) -> None:
        self.one, self.text = one, text

    def __str__(self) -> str:
        return self.text if self.one is None else f"{self.one}: {self.text}"


@dataclass(slots=True)
class _Symbol:
    """What was said of one symbol; operations without an answer apart."""

    name: str
    grants: list[tuple[Operation, str, int]] = field(default_factory=list)  # incarnation, epoch
    grants_open: dict[str, list[Operation]] = field(default_factory=lambda: defaultdict(list))
    epochs_read: list[tuple[Operation, int, str]] = field(default_factory=list)
    releases: list[tuple[Operation, str]] = field(default_factory=list)  # that certainly released it
    quotes: list[tuple[Operation, str, int, int]] = field(default_factory=list)  # incarnation, epoch, version
    quotes_open: dict[tuple[str, int], list[Operation]] = field(default_factory=lambda: defaultdict(list))
    refusals: list[tuple[Operation, str, int, str]] = field(default_factory=list)
    toggles: list[tuple[Operation, bool, bool | None]] = field(default_factory=list)  # wanted, before
    tenures: list[Tenure] = field(default_factory=list)
    versions: list[Version] = field(default_factory=list)
    audits: list[Toggle] = field(default_factory=list)
    dropped: int = 0


class _Symbols(dict[str, _Symbol]):
    def __missing__(self, name: str) -> _Symbol:
        self[name] = _Symbol(name)
        return self[name]


def check_leases(history: History, facts: Facts | None = None) -> Found:
    """Judge all symbols and incarnations. Without `facts` only what was answered, and not the kill switch."""
    found = Found()
    symbols = _by_symbol(history)
    if facts is not None:
        for tenure in facts.tenures:
            symbols[tenure.symbol].tenures.append(tenure)
        for version in facts.versions:
            symbols[version.symbol].versions.append(version)
        for toggle in facts.toggles:
            symbols[toggle.symbol].audits.append(toggle)
        for name, dropped in facts.dropped.items():
            symbols[name].dropped = dropped
    asking = _asking(history.operations)
    for name in sorted(symbols):
        _SymbolCheck(symbols[name], facts is not None, asking, history.outages, found).run()
    _check_incarnations(history.operations, found)
    found.counts["symbols"] = len(symbols)
    return found


def _asking(operations: Iterable[Operation]) -> set[str]:
    """The incarnations whose own recordings we have: nothing can be theirs that is not in them."""
    return {one.output["incarnation"] for one in operations if one.op == "register" and one.output}


def _by_symbol(history: History) -> _Symbols:
    symbols = _Symbols()
    for one in history.operations:
        match one.op:
            case "acquire":
                _acquire(symbols, one)
            case "replace":
                _replace(symbols, one)
            case "release" if one.output:
                for name in one.output["released"]:
                    symbols[name].releases.append((one, one.input["incarnation"]))
            case "toggle":
                _toggle(symbols, one)
    return symbols


def _acquire(symbols: _Symbols, one: Operation) -> None:
    incarnation = one.input["incarnation"]
    if one.output is None:
        for name in one.input["symbols"]:
            symbols[name].grants_open[incarnation].append(one)
        return
    for name, epoch, outcome in one.output["grants"]:
        if outcome == "granted":
            symbols[name].grants.append((one, incarnation, epoch))
        elif epoch is not None:
            symbols[name].epochs_read.append((one, epoch, outcome))


def _replace(symbols: _Symbols, one: Operation) -> None:
    incarnation, epochs = one.input["incarnation"], one.input["epochs"]
    if one.output is None:
        for name, epoch in epochs.items():
            symbols[name].quotes_open[incarnation, epoch].append(one)
        return
    for name, outcome, version in one.output["outcomes"]:
        if outcome == "accepted":
            symbols[name].quotes.append((one, incarnation, epochs[name], version))
        else:
            symbols[name].refusals.append((one, incarnation, epochs[name], outcome))


def _toggle(symbols: _Symbols, one: Operation) -> None:
    answer = one.output["answer"] if one.output and one.output["status"] == 200 else None
    if one.output and answer is None:
        return  # refused
    if answer is None:
        if one.input["symbol"] is not None:
            symbols[one.input["symbol"]].toggles.append((one, one.input["enabled"], None))
        return
    for item in answer.get("items", [answer]):
        symbols[item["symbol"]].toggles.append((one, one.input["enabled"], item["before"]))


class _SymbolCheck:
    """One symbol's order, put together and judged."""

    def __init__(
        self, symbol: _Symbol, has_facts: bool, asking: set[str], outages: list[tuple[int, int]], found: Found
    ) -> None:
        self.symbol, self.name, self.has_facts = symbol, symbol.name, has_facts
        self.asking, self.outages, self.found = asking, outages, found
        self.order = Order()
        self.holders: dict[int, str] = {}
        self.grants: dict[int, int] = {}  # epoch: node
        self.ends: dict[int, int] = {}
        self.quotes: dict[int, int] = {}  # version: node
        self.switches: list[int] = []
        self.epochs: list[int] = []

    def run(self) -> None:
        self._add_grants()
        self._add_ends()
        self._add_quotes()
        self._add_refusals()
        self._add_switches()
        if not self.found.contradictions("linearizability", self.name, self.order):
            self._check_switch()

    def _wrong(self, what: str, *lines: Any) -> None:
        self.found.add("linearizability", f"{self.name}: {what}", *lines)

    # --- Grants -----------------------------------------------------------------------------------------------

    def _add_grants(self) -> None:
        told: dict[int, tuple[Operation, str]] = {}
        for one, incarnation, epoch in self.symbol.grants:
            if epoch in told:
                self._wrong(f"epoch {epoch} was granted twice", told[epoch][0], one)
            told[epoch] = (one, incarnation)
        granted = {tenure.epoch: tenure.incarnation for tenure in self.symbol.tenures}
        if self.has_facts:
            for epoch, (one, incarnation) in told.items():
                if granted.get(epoch) != incarnation:
                    self._wrong(f"the grant of epoch {epoch} is {granted.get(epoch, 'nobody')}'s in the tables", one)
        else:
            granted = {epoch: incarnation for epoch, (_one, incarnation) in told.items()}
            for _one, incarnation, epoch, _version in self.symbol.quotes:
                granted.setdefault(epoch, incarnation)
        self.holders = granted
        self.epochs = sorted(granted)
        for epoch in self.epochs:
            self.grants[epoch] = self._grant(epoch, granted[epoch], told[epoch][0] if epoch in told else None)
        for first, second in pairwise(self.epochs):
            self.order.edge(self.grants[first], self.grants[second], EPOCHS)
        self.found.counts["grants"] += len(self.epochs)

    def _grant(self, epoch: int, holder: str, one: Operation | None) -> int:
        text = f"{self.name} granted to {holder[:8]} under epoch {epoch}"
        if one is not None:
            return self.order.add(Said(one, text), one.invoked, one.returned)
        asked = self.symbol.grants_open.get(holder, [])
        if self.has_facts and not asked and holder in self.asking:
            self._wrong(f"epoch {epoch} is {holder[:8]}'s in the tables, who never asked for it")
        return self.order.add(Said(None, f"{text}, by the tables"), min((a.invoked for a in asked), default=None))

    def _next(self, epoch: int) -> int | None:
        """The node of the first grant of a later epoch that is known."""
        place = bisect_right(self.epochs, epoch)
        return self.grants[self.epochs[place]] if place < len(self.epochs) else None

    # --- Ends of tenures --------------------------------------------------------------------------------------

    def _add_ends(self) -> None:
        released = self._released()
        for epoch in self.epochs:
            one = released.get(epoch)
            text = f"{self.name}'s epoch {epoch} ended"
            times = (None, None) if one is None else (one.invoked, one.returned)
            end = self.ends[epoch] = self.order.add(Said(one, text), *times)
            self.order.edge(self.grants[epoch], end, TENURE)
            following = self._next(epoch)
            if following is not None:
                self.order.edge(end, following, TENURE)

    def _released(self) -> dict[int, Operation]:
        """The tenures that an acknowledged release ended. A node's grants and releases of a symbol take turns."""
        reasons = {tenure.epoch: tenure.reason for tenure in self.symbol.tenures}
        released: dict[int, Operation] = {}
        for one, incarnation in self.symbol.releases:
            assert one.returned is not None
            before, open_ = [], False
            for epoch in self.epochs:
                if self.holders[epoch] == incarnation:
                    node = self.grants[epoch]
                    returned, invoked = self.order.returned[node], self.order.invoked[node]
                    if returned is not None and returned < one.invoked:
                        before.append(epoch)
                    elif returned is None and (invoked is None or invoked < one.returned):
                        open_ = True  # it may be this one that was released
            if open_ or not before:
                continue
            epoch = before[-1]
            if self.has_facts and reasons.get(epoch) not in ("released", "drained"):
                if may_be_lost(one, self.outages):
                    self.found.counts["lost with the database"] += 1
                else:
                    self._wrong(f"epoch {epoch} was released, and has not ended so in the tables", one)
            elif epoch in released:
                if not may_be_lost(released[epoch], self.outages):
                    self._wrong(f"epoch {epoch} was released twice", released[epoch], one)
            else:
                released[epoch] = one
        self.found.counts["releases"] += len(released)
        return released

    # --- Quotes -----------------------------------------------------------------------------------------------

    def _add_quotes(self) -> None:
        told = self._told_versions()
        rows = {row.version: row for row in self.symbol.versions}
        for version in sorted(told.keys() | rows.keys()):
            row = rows.get(version)
            if version in told:
                one, incarnation, epoch = told[version]
                said = Said(one, f"{self.name} quote {version} accepted under epoch {epoch}")
                node = self.order.add(said, one.invoked, one.returned)
            else:
                assert row is not None
                incarnation, epoch, node = row.incarnation, row.epoch, self._untold(row)
            self.quotes[version] = node
            if row is None or row.withdrawn is None:
                self._under(node, incarnation, epoch)
        for first, second in pairwise(sorted(self.quotes)):
            self.order.edge(self.quotes[first], self.quotes[second], VERSIONS)
        self.found.counts["quotes"] += len(self.quotes)

    def _told_versions(self) -> dict[int, tuple[Operation, str, int]]:
        """The acknowledged versions that count: those that the tables have, or may have dropped."""
        rows = {row.version: row for row in self.symbol.versions}
        told: dict[int, tuple[Operation, str, int]] = {}
        for one, incarnation, epoch, version in self.symbol.quotes:
            row = rows.get(version)
            is_lost = may_be_lost(one, self.outages)
            if self.has_facts and (row is not None or version > self.symbol.dropped):
                if row is not None and (row.incarnation, row.epoch, row.withdrawn) == (incarnation, epoch, None):
                    pass
                elif is_lost:
                    self.found.counts["lost with the database"] += 1
                    continue
                else:
                    now = "missing" if row is None else f"{row.incarnation[:8]}'s under epoch {row.epoch}"
                    self._wrong(f"quote {version} was accepted and is {now} in the tables", one)
                    continue
            if version in told:
                if not may_be_lost(told[version][0], self.outages):
                    self._wrong(f"two quotes were accepted as version {version}", told[version][0], one)
                    continue
                self.found.counts["lost with the database"] += 1
            told[version] = (one, incarnation, epoch)
        return told

    def _untold(self, row: Version) -> int:
        if row.withdrawn is not None:
            return self.order.add(Said(None, f"{self.name} quote withdrawn as version {row.version}, by the tables"))
        asked = self.symbol.quotes_open.get((row.incarnation, row.epoch), [])
        if not asked and row.incarnation in self.asking:
            self._wrong(f"quote {row.version} is {row.incarnation[:8]}'s in the tables, who never sent it")
        said = Said(None, f"{self.name} quote {row.version} under epoch {row.epoch}, by the tables")
        return self.order.add(said, min((one.invoked for one in asked), default=None))

    def _under(self, node: int, incarnation: str, epoch: int) -> None:
        """It was judged while `incarnation` held the symbol under `epoch`."""
        if self.holders.get(epoch) != incarnation:
            holder = self.holders.get(epoch, "nobody")[:8]
            self._wrong(
                f"{incarnation[:8]} had the right of epoch {epoch}, which is {holder}'s", self.order.whats[node]
            )
            return
        self.order.edge(self.grants[epoch], node, UNDER)
        self.order.edge(node, self.ends[epoch], UNDER)

    def _add_refusals(self) -> None:
        order = self.order
        for one, incarnation, epoch, outcome in self.symbol.refusals:
            node = order.add(
                Said(one, f"{self.name} quote under epoch {epoch} refused: {outcome}"), one.invoked, one.returned
            )
            following = self._next(epoch)
            if outcome == "stale_epoch":
                if following is not None:
                    order.edge(following, node, STALE)
                elif self.has_facts:
                    self._wrong(f"epoch {epoch} was refused as stale, and none later was granted", order.whats[node])
            elif outcome == "not_holder":
                if self.holders.get(epoch) == incarnation:
                    order.edge(self.ends[epoch], node, NOT_HOLDER)
                    if following is not None:
                        order.edge(node, following, NOT_HOLDER)
            elif outcome in CONTENT or outcome in ("expired", "quoting_disabled"):
                self._under(node, incarnation, epoch)
        for one, epoch, outcome in self.symbol.epochs_read:
            node = order.add(Said(one, f"{self.name} not granted: {outcome}, epoch {epoch}"), one.invoked, one.returned)
            if epoch in self.grants:
                order.edge(self.grants[epoch], node, EPOCH_READ)
            elif epoch and self.has_facts:
                self._wrong(f"epoch {epoch} was never granted", order.whats[node])
            if (following := self._next(epoch)) is not None:
                order.edge(node, following, EPOCH_READ)
        self.found.counts["refusals"] += len(self.symbol.refusals) + len(self.symbol.epochs_read)

    # --- The kill switch --------------------------------------------------------------------------------------

    def _add_switches(self) -> None:
        if not self.has_facts:
            return
        withdrawals = {row.xid: row.version for row in self.symbol.versions if row.withdrawn == "quoting_disabled"}
        by_reason: dict[str, list[tuple[Operation, bool, bool | None]]] = defaultdict(list)
        for toggle in self.symbol.toggles:
            if toggle[0].input.get("reason"):
                by_reason[toggle[0].input["reason"]].append(toggle)
        for audit in self.symbol.audits:
            text = f"{self.name} quoting turned {'on' if audit.after else 'off'} (audit {audit.number})"
            version = withdrawals.get(audit.xid)
            node = self.order.add(None) if version is None else self.quotes[version]
            asked = by_reason.pop(audit.reason, [])
            self.order.whats[node] = Said(asked[0][0] if asked else None, text)
            if asked:
                self.order.invoked[node] = min(one.invoked for one, *_ in asked)
                self.order.returned[node] = min((one.returned for one, *_ in asked if one.returned), default=None)
                if not any(wanted == audit.after and before in (None, audit.before) for _, wanted, before in asked):
                    self._wrong(f"the audit says {audit.before} -> {audit.after}", *(one for one, *_ in asked))
            self.switches.append(node)
        for first, second in pairwise(self.symbol.audits):
            if second.before != first.after:
                self._wrong(f"audit {second.number} does not go on from audit {first.number}")
        for first_node, second_node in pairwise(self.switches):
            self.order.edge(first_node, second_node, SWITCHED)
        for toggles in by_reason.values():
            for one, *_ in toggles:
                if one.is_known:
                    self._wrong("a toggle was acknowledged and has no audit row", one)
        self.found.counts["toggles"] += len(self.switches)

    def _check_switch(self) -> None:
        """Each quote needs a moment with quoting on, each one refused as disabled a moment with it off."""
        if not self.has_facts or (not self.switches and not self._refused_as_disabled()):
            return
        earliest, latest = self._windows()
        begins = [-ALWAYS, *(earliest[node] for node in self.switches)]
        ends = [*(latest[node] for node in self.switches), ALWAYS]
        states = [self.symbol.audits[0].before if self.symbol.audits else True]
        states += [audit.after for audit in self.symbol.audits]
        on_until = [0]  # how many of the first k states are on
        for state in states:
            on_until.append(on_until[-1] + state)
        withdrawn = {row.version for row in self.symbol.versions if row.withdrawn is not None}
        wants_on = [(node, True) for version, node in self.quotes.items() if version not in withdrawn]
        for node, wanted in [*wants_on, *((node, False) for node in self._refused_as_disabled())]:
            # States that can begin before its latest moment and end after its earliest: neighbours, as both rise.
            first = bisect_left(ends, earliest[node])
            last = bisect_right(begins, latest[node]) - 1
            on = on_until[last + 1] - on_until[first]
            if (on if wanted else last + 1 - first - on) <= 0:
                self._wrong(f"quoting was {'off' if wanted else 'on'} all the while", self.order.whats[node])

    def _refused_as_disabled(self) -> list[int]:
        return [
            node
            for node, what in enumerate(self.order.whats)
            if what is not None and what.text.endswith("refused: quoting_disabled")
        ]

    def _windows(self) -> tuple[list[int], list[int]]:
        """The earliest and the latest moment that the order leaves each node."""
        order, nodes = self.order, list(self.order.sorted())
        earliest = [-ALWAYS if moment is None else moment for moment in order.invoked]
        latest = [ALWAYS if moment is None else moment for moment in order.returned]
        for node in nodes:
            for following in order.after[node]:
                earliest[following] = max(earliest[following], earliest[node])
        for node in reversed(nodes):
            for following in order.after[node]:
                latest[node] = min(latest[node], latest[following])
        return earliest, latest


# --- Incarnations ---------------------------------------------------------------------------------------------


def _check_incarnations(operations: Iterable[Operation], found: Found) -> None:
    """An incarnation that is over never comes back."""
    order = Order()
    overs: dict[str, int] = {}
    lives: dict[str, list[tuple[int, str, Operation]]] = defaultdict(list)  # of a node: serial, incarnation

    def over(incarnation: str) -> int:
        if incarnation not in overs:
            overs[incarnation] = order.add(Said(None, f"the end of {incarnation[:8]}"))
        return overs[incarnation]

    for one in operations:
        if one.output is None:
            continue
        incarnation, lives_on = _judged(one)
        if one.op == "register" and incarnation:
            lives[one.input["node"]].append((one.output["serial"], incarnation, one))
        if incarnation is None or lives_on is None:
            continue
        said = Said(one, f"{incarnation[:8]} {'alive' if lives_on else 'over'}")
        node = order.add(said, one.invoked, one.returned)
        if lives_on:
            order.edge(node, over(incarnation), ALIVE)
        else:
            order.edge(over(incarnation), node, OVER)
    for registered in lives.values():
        registered.sort(key=lambda life: life[0])
        for (_, before, _one), (_, after, one) in pairwise(registered):
            node = order.add(Said(one, f"{after[:8]} registered after {before[:8]}"), one.invoked, one.returned)
            order.edge(over(before), node, OVER)
    found.contradictions("linearizability", "incarnations", order)
    found.counts["incarnations"] = len(overs)


def _judged(one: Operation) -> tuple[str | None, bool | None]:
    """The incarnation of which an answer says that it was alive (True) or over (False); None: neither."""
    assert one.output is not None
    match one.op:
        case "register":
            return one.output["incarnation"], True
        case "renew":
            return one.input["incarnation"], one.output["alive"]
        case "acquire" if any(outcome == "granted" for _, _, outcome in one.output["grants"]):
            return one.input["incarnation"], True
        case "replace" if any(outcome == "accepted" for _, outcome, _ in one.output["outcomes"]):
            return one.input["incarnation"], True
        case "sweep" if one.output:
            return one.output["incarnation"], False
        case "leave" if one.output["done"]:
            return one.input["incarnation"], False
    return None, None
