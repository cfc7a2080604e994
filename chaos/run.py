"""One bout: a cluster is made, loaded, broken by the schedule, healed and judged."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg

from chaos import history, watch
from chaos.arena import Arena, arena, unsettled
from chaos.excuse import nothing_written, unexcused
from chaos.load import Client, Record
from chaos.occasion import Broken, Fault, Occasion
from chaos.processes import Tell
from chaos.schedule import Entry, schedule
from chaos.servers import NotThere
from chaos.spectator import Spectator
from chaos.watch import Watch
from mmproject.conf import Conf
from mmproject.errors import UserError
from mmproject.recording import Recorder

CLIENTS: Final = 4
PAUSE_S: Final = 0.03  # mean, of each client between two orders
SETTLE_S: Final = 60.0
VERIFY_S: Final = 300.0
AFTERMATH_S: Final = 8.0  # a fault's gaps are looked for until so long after it was healed
TAKEN_OVER_S: Final = 5.0  # ... and takeovers so long after a node was hit; what comes later has another cause
JOIN_S: Final = 240.0

SNAPSHOTS_AT_LEAST_EVERY_S: Final = 5.0  # on average, outages and all
RECORDED: Final = ("replace", "renew", "order", "cancel")  # by every run, however short
READ: Final = ("positions", "fills")  # the same, and answered

ROWS_KEPT: Final = 5  # of what breaks an invariant, of each snapshot

# What has to have happened at least once if one of these faults was to, or the run has shown too little.
SOMETIMES: Final[dict[str, tuple[str, frozenset[str]]]] = {
    "takeovers": (
        "a node's symbols were taken over when it was lost",
        frozenset({"node_kill", "node_stop", "partition_both", "late_write", "churn"}),
    ),
    "fenced_writes_refused": ("a write that came too late was refused by the fence", frozenset({"late_write"})),
    "duplicates_answered": ("an order that had been answered was sent again, and answered the same", frozenset()),
    "serialization_retries": ("a command lost a deadlock, was run again, and answered", frozenset({"deadlock"})),
    "unknown_outcomes_resolved": (
        "an order whose answer was lost was asked about, and had happened",
        frozenset({"reset_around_commit"}),
    ),
    "streams_resumed": (
        "a console that had lost its socket went on where it had been",
        frozenset({"daphne_killed_in_toggle", "rolling_restart"}),
    ),
}


@dataclass
class Bout:
    """What came of it. `reasons` says why it is not ok, or invalid; empty when it is fine."""

    seed: int
    seconds: float
    faults: tuple[Fault, ...]
    planned: list[Entry]
    timeline: list[dict[str, Any]] = field(default_factory=list)
    occasions: list[Occasion] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    sometimes: dict[str, int] = field(default_factory=dict)
    gap_seconds: dict[str, list[float]] = field(default_factory=dict)  # by fault
    takeover_seconds: dict[str, list[float]] = field(default_factory=dict)
    not_taken_over: dict[str, int] = field(default_factory=dict)  # symbols, by fault: not quoted by another by then
    gaps: list[dict[str, Any]] = field(default_factory=list)
    tenures: list[dict[str, Any]] = field(default_factory=list)
    orders: dict[str, Any] = field(default_factory=dict)
    history: dict[str, Any] = field(default_factory=dict)
    stream: dict[str, int] = field(default_factory=dict)
    snapshots: dict[str, int] = field(default_factory=dict)
    checked: dict[str, int] = field(default_factory=dict)  # at the end, by invariant
    violations: list[dict[str, Any]] = field(default_factory=list)
    excused: list[dict[str, Any]] = field(default_factory=list)  # of I11 and I14, while the disk was full
    broken: list[str] = field(default_factory=list)  # what did not hold
    invalid: list[str] = field(default_factory=list)  # what did not happen
    repeat: str = ""  # the command that repeats its schedule
    began_at: float = 0.0
    took_s: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.broken and not self.invalid

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok, "seed": self.seed, "minutes": round(self.seconds / 60, 2), "began_at": self.began_at,
            "took_s": round(self.took_s, 1), "broken": self.broken, "invalid": self.invalid, "repeat": self.repeat,
            "faults": self.counts,
            "sometimes": self.sometimes, "orders": self.orders, "snapshots": self.snapshots, "checked": self.checked,
            "history": self.history, "stream": self.stream,
            "violations": self.violations, "excused": self.excused, "gaps_by_fault": _spread(self.gap_seconds),
            "takeovers_by_fault": _spread(self.takeover_seconds), "not_taken_over": self.not_taken_over,
            "gaps": self.gaps, "tenures": self.tenures,
            "occasions": [_occasion(one, self.began_at) for one in self.occasions], "timeline": self.timeline,
        }  # fmt: skip


def _spread(seconds: dict[str, list[float]]) -> dict[str, Any]:
    return {name: watch.spread(values) for name, values in seconds.items()}


def _occasion(one: Occasion, began_at: float) -> dict[str, Any]:
    return {
        "fault": one.fault.name, "number": one.fault.number, "node": one.node, "planned_at_s": round(one.at_s, 2),
        "began_s": round(one.began_at - began_at, 2), "ended_s": round(one.ended_at - began_at, 2),
        "error": one.error, "details": one.details,
    }  # fmt: skip


def run(
    settings: Conf, faults: Sequence[Fault], *, seed: int, seconds: float, symbols: int, folder: Path | None, say: Tell
) -> Bout:
    """Whatever ends it early, a cluster that does not come up too, is told in its `broken`."""
    bout = Bout(seed, seconds, tuple(faults), schedule(faults, seed, seconds))
    began = time.monotonic()

    def tell(who: str, what: str) -> None:
        bout.timeline.append({"s": round(time.time() - (bout.began_at or time.time()), 2), "who": who, "what": what})
        say(who, what)

    try:
        with arena(settings, tell, symbols=symbols, seed=seed, keep=folder) as found:
            _bout(bout, found, (folder or found.folder) / "acknowledged.jsonl", tell)
    except Exception as error:  # noqa: BLE001 - no verdict is the worst one: what has been seen is to be told
        bout.broken.append(f"it ended early: {type(error).__name__}: {error}".strip())
    bout.took_s = time.monotonic() - began
    return bout


def _bout(bout: Bout, found: Arena, path: Path, tell: Tell) -> None:
    bout.began_at = time.time()
    record, enough, stop = Record(path), threading.Event(), threading.Event()
    tag = f"c{bout.seed}-{time.time_ns()}"
    recorder = Recorder(found.history, "chaos")
    clients = [
        Client(number, found.client(), record, enough, tag, pause_s=PAUSE_S, history=recorder)
        for number in range(CLIENTS)
    ]
    judge, spectator = Watch(found), Spectator(found)
    judge.start()
    spectator.start()
    for client in clients:
        client.start()
    try:
        follow(bout, found, record, recorder, stop, tell)
        tell("chaos", "all is healed")
        _settle(bout, found)
        bout.broken += [f"{client.name} ended early" for client in clients if not client.is_alive()]
    finally:
        stop.set()
        enough.set()
        for client in clients:
            client.join(JOIN_S)
        spectator.close()
        judge.close()
        record.close()
        _seen(bout, found, record, clients, judge)
    _judge(bout, found, record, spectator, tell)


def _settle(bout: Bout, found: Arena) -> None:
    at_s = time.time() - bout.began_at
    bout.broken += [
        f"healed at {at_s:.0f} s, and not within {SETTLE_S:g} s: {what}" for what in unsettled(found, SETTLE_S)
    ]


def follow(bout: Bout, found: Arena, record: Record, recorder: Recorder, stop: threading.Event, tell: Tell) -> None:
    """Follow the schedule; returns when its last fault is healed and the time is over."""
    threads: list[threading.Thread] = []
    end = bout.began_at + bout.seconds

    def begin(entry: Entry) -> None:
        one = Occasion(
            entry.fault, entry.at_s, entry.seconds, entry.node, entry.seed, found, record, recorder, stop, tell
        )
        time.sleep(max(0.0, bout.began_at + entry.at_s - time.time()))
        # What heals more slowly than was planned is waited for: two faults of one thing would not be two faults.
        before = [other for other in bout.occasions if other.touches & one.touches]
        bout.occasions.append(one)
        thread = threading.Thread(target=_happen, args=(one, before), name=entry.fault.name, daemon=True)
        thread.start()
        threads.append(thread)

    try:
        for entry in bout.planned:
            begin(entry)
        for thread in threads:
            thread.join(JOIN_S)
        happened = {one.fault.name for one in bout.occasions if not one.cut_short}
        # What never found anything to break comes once more, now that all else is healed.
        for missed in {entry.fault.name: entry for entry in bout.planned if entry.fault.name not in happened}.values():
            _settle(bout, found)
            begin(missed)
            threads[-1].join(JOIN_S)
        time.sleep(max(0.0, end - time.time()))
    except BaseException:
        stop.set()  # what is under way heals at once
        raise
    finally:
        for thread in threads:
            thread.join(JOIN_S)
        for one in bout.occasions:
            if not one.ended_at:
                one.error, one.ended_at = "did not end", time.time()
            if one.error:
                bout.broken.append(f"{one.fault.name} at {one.began_at - bout.began_at:.1f} s: {one.error}")


def _happen(one: Occasion, before: list[Occasion]) -> None:
    for other in before:
        other.healed.wait()
    one.began_at = time.time()
    one.tell(one.fault.name, f"begins{f' on {one.node}' if one.node else ''} ({one.seconds:.1f} s)")
    try:
        if one.node:
            one.symbols = _held(one)
        one.fault.act(one)
    except (Broken, NotThere) as error:
        one.error = str(error)
    except psycopg.OperationalError as error:  # it lost its own connection to a fault of the database
        one.cut_short, one.details["cut_short"] = True, str(error).strip()[:100]
    except Exception as error:  # noqa: BLE001 - a fault that fails is a finding, whatever it raised
        one.error = f"{type(error).__name__}: {error}"
    finally:
        one.ended_at = time.time()
        one.healed.set()
        one.tell(one.fault.name, one.error or f"healed {one.details or ''}".strip())


def _held(one: Occasion) -> list[str]:
    try:
        return [row[0] for row in one.rows("SELECT symbol FROM authority_lease_in_force WHERE node = %s", one.node)]
    except psycopg.Error:
        return []


# --- The verdict ----------------------------------------------------------------------------------------------------


def _seen(bout: Bout, found: Arena, record: Record, clients: list[Client], judge: Watch) -> None:
    """What is known by now, whatever comes of asking the database."""
    bout.counts = {fault.name: 0 for fault in bout.faults}
    for one in bout.occasions:
        bout.counts[one.fault.name] += not one.cut_short
    bout.invalid += [f"{name} did not happen" for name, count in bout.counts.items() if not count]
    bout.snapshots = {
        "verified": judge.snapshots, "no_server": judge.unreachable, "longest_ms": judge.longest_ms,
    }  # fmt: skip
    blame(bout, judge.violations)
    seen: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for violation in bout.violations:
        seen[violation["id"]].append(violation)
    bout.broken += [while_it_ran(each, bout.began_at) for each in seen.values()]
    bout.broken += [f"verify failed: {error}" for error in judge.errors[:5]]
    bout.broken += found.supervisor.unexplained
    _orders(bout, record, clients)
    if bout.snapshots["verified"] < bout.seconds / SNAPSHOTS_AT_LEAST_EVERY_S:
        bout.invalid.append(f"only {bout.snapshots['verified']} snapshots were verified in {bout.seconds:g} s")


def blame(bout: Bout, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Take down what `verify` has found; returns what is not excused of it."""
    full = nothing_written(bout.occasions)
    bout.excused += [
        {**violation, "rows": violation["rows"][:ROWS_KEPT]}
        for violation in found
        if unexcused(violation, full) is None
    ]
    blamed = [left for violation in found if (left := unexcused(violation, full)) is not None]
    bout.violations += [{**violation, "rows": violation["rows"][:ROWS_KEPT]} for violation in blamed]
    return blamed


def while_it_ran(seen: list[dict[str, Any]], began_at: float) -> str:
    """What the snapshots say of one invariant: how often it was broken, when, and by what at first."""
    first, last = seen[0], seen[-1]
    return (
        f"{first['id']} {first['name']} while it ran, in {len(seen)} snapshots from {first['at'] - began_at:.1f} s to"
        f" {last['at'] - began_at:.1f} s; at first: {_rows(first)}"
    )


def _rows(violation: dict[str, Any]) -> str:
    """A verdict's violations: how many, and one of them as JSON."""
    return f"{violation['violations']} x {json.dumps(next(iter(violation['rows']), {}))}"


def _judge(bout: Bout, found: Arena, record: Record, spectator: Spectator, tell: Tell) -> None:
    tell("chaos", "judging")
    with found.connect() as connection:
        _history(bout, found, connection)
        _stream(bout, spectator, connection)
        bout.sometimes |= watch.counted(connection)
        bout.sometimes["serialization_retries"] = sum(bool(one.details.get("retried")) for one in bout.occasions)
        _gaps(bout, watch.versions(connection, bout.began_at - 1))
        _tenures(bout, connection)
    chosen = {fault.name for fault in bout.faults}
    for name, (what, faults) in SOMETIMES.items():
        if (not faults or chosen & faults) and not bout.sometimes.get(name):
            bout.invalid.append(f"never: {what}")
    _verify(bout, found, record)


def _orders(bout: Bout, record: Record, clients: list[Client]) -> None:
    wrong = [text for client in clients for text in client.tally.wrong]
    stuck = [client.name for client in clients if client.is_alive()]
    bout.orders = {
        "acknowledged": record.acknowledged,
        "sent_again": sum(client.tally.repeated for client in clients),
        "unknown_at_first": sum(client.tally.unknown for client in clients),
        "of_those_had_happened": sum(client.tally.unknown_happened for client in clients),
        "longest_wait_s": round(max(client.tally.longest_wait_s for client in clients), 2),
    }
    bout.sometimes |= {
        "duplicates_answered": bout.orders["sent_again"],
        "unknown_outcomes_resolved": bout.orders["of_those_had_happened"],
    }
    bout.broken += [f"a client: {text}" for text in wrong[:10]]
    bout.broken += [f"{name} did not end" for name in stuck]


def _gaps(bout: Bout, found: list[watch.Version]) -> None:
    all_gaps = watch.gaps(found)
    bout.gaps = [
        {"symbol": gap.symbol, "began_s": round(gap.began_at - bout.began_at, 2), "seconds": round(gap.seconds, 3)}
        for gap in all_gaps
    ]
    near: dict[str, list[float]] = defaultdict(list)
    taken: dict[str, list[float]] = defaultdict(list)
    not_taken: Counter[str] = Counter()
    for one in bout.occasions:
        near[one.fault.name] += [
            gap.seconds for gap in all_gaps if gap.began_at < one.ended_at + AFTERMATH_S and gap.ended_at > one.began_at
        ]
        if one.symbols:
            since = one.hit_at or one.began_at
            until = max(one.ended_at, since + TAKEN_OVER_S)
            seconds = watch.taken_over(found, one.symbols, since, until)
            taken[one.fault.name] += seconds
            not_taken[one.fault.name] += len(one.symbols) - len(seconds)
    bout.gap_seconds, bout.takeover_seconds, bout.not_taken_over = dict(near), dict(taken), dict(not_taken)


def _tenures(bout: Bout, connection: psycopg.Connection[Any]) -> None:
    rows = connection.execute(
        "SELECT symbol, node, epoch, extract(epoch FROM granted_at)::float8, extract(epoch FROM ended_at)::float8,"
        " reason FROM authority_tenure ORDER BY symbol, epoch"
    ).fetchall()
    bout.tenures = [
        {
            "symbol": symbol, "node": node, "epoch": epoch, "from_s": round(granted - bout.began_at, 2),
            "to_s": None if ended is None else round(ended - bout.began_at, 2), "reason": reason,
        }
        for symbol, node, epoch, granted, ended, reason in rows
    ]  # fmt: skip


def _history(bout: Bout, found: Arena, connection: psycopg.Connection[Any]) -> None:
    """What nodes and clients were told, against time and the tables (docs/history.md)."""
    try:
        report = history.check(found.history, connection)
    except UserError as error:
        bout.broken.append(f"history: {error}")
        return
    bout.history = report.as_json()
    bout.invalid += [f"no {op} is in the history" for op in RECORDED if not report.operations[op]]
    answered = {name: count for one in report.checks().values() for name, count in one.counts.items()}
    bout.invalid += [f"no {what} were read" for what in READ if not answered.get(f"{what} read")]
    for name, one in report.checks().items():
        bout.broken += [f"{name}: {violation.what}" for violation in one.violations[:5]]


def _stream(bout: Bout, spectator: Spectator, connection: psycopg.Connection[Any]) -> None:
    """What a console was shown throughout."""
    bout.stream = spectator.as_json()
    bout.sometimes["streams_resumed"] = spectator.resumed
    bout.broken += [f"a console {text}" for text in spectator.judge(connection)[:5]]
    if not bout.stream["shown"]:
        bout.invalid.append("a console was shown nothing")


def _verify(bout: Bout, found: Arena, record: Record) -> None:
    """Everything of section 9 once more, with the clients' record, by the command that anyone would use."""
    done = found.manage("verify", "--acknowledged", str(record.path), "--json", timeout_s=VERIFY_S)
    if not done.stdout:
        bout.broken.append(f"verify: {done.stderr.strip()[:300]}")
        return
    report = json.loads(done.stdout)
    bad = [{"at": time.time(), **one} for one in report["invariants"] if not one["ok"]]
    bout.broken += [f"{one['id']} {one['name']} at the end: {_rows(one)}" for one in blame(bout, bad)]
    bout.checked = {one["id"]: one["checked"] for one in report["invariants"]}
    bout.invalid += [f"{name} had nothing to look at" for name, count in bout.checked.items() if not count]
