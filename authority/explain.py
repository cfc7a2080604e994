"""`explain`: the story of a symbol's authority, in words and times.

Who held it, under which epoch, from when to when; why each holder got it and why it ended; how long nobody had it;
which writes the fence refused; what operators did. Told from the tables alone, so that it is the same story tomorrow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise
from typing import Any, Final

from authority.explain_facts import Facts, Row, read

LAST: Final = timedelta(hours=1)

# Why a tenure ended, as the next holder's beginning tells it.
_AFTER: Final = {
    "released": "{node} released it",
    "drained": "{node} released it, being drained",
    "expired": "{node}'s lease expired",
    "session_lost": "{node}'s session was lost",
    "ended_by_operator": "an operator ended {node}",
}
_WITHDRAWN: Final = {
    "quoting_disabled": "quoting was turned off",
    "expired": "its holder's lease expired",
    "session_lost": "its holder's session was lost",
}
# What is told first when two things carry one time.
_RANK: Final = {"operator": 0, "ended": 1, "withdrawn": 2, "granted": 3, "refused": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened. `kind` is granted, ended, refused, withdrawn or operator; `text` is one sentence."""

    at: datetime
    kind: str
    text: str
    epoch: int | None = None
    node: str | None = None
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds the lease now. `expires_at` moves on with every renewal."""

    node: str
    incarnation: str
    epoch: int
    granted_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A symbol's story from `since` to `at`, oldest event first. `now` tells the present in a few sentences."""

    symbol: str
    at: datetime
    since: datetime
    now: tuple[str, ...]
    holder: Holder | None
    assigned_to: str | None
    quoting_enabled: bool
    events: tuple[Event, ...]
    truncated: bool  # there is more than a story holds: ask for less time


def story(symbol: str, last: timedelta = LAST) -> Story:
    """The story of the last while, in one snapshot. Takes no lock. Raises UnknownSymbol."""
    facts = read(symbol, last)
    events = [*_tenures(facts), *_refusals(facts), *_operators(facts), *_withdrawals(facts)]
    return Story(
        symbol=symbol,
        at=facts.at,
        since=facts.since,
        now=tuple(_present(facts)),
        holder=_holder(facts.lease),
        assigned_to=facts.lease["assigned_node"],
        quoting_enabled=facts.lease["quoting_enabled"],
        events=tuple(
            sorted((e for e in events if e.at >= facts.since), key=lambda e: (e.at, _RANK[e.kind], e.epoch or 0))
        ),
        truncated=facts.truncated,
    )


# Tenures


def _tenures(facts: Facts) -> Iterator[Event]:
    for before, tenure in pairwise([None, *facts.tenures]):
        assert tenure is not None
        if before is not None or tenure["epoch"] == 1:
            yield _granted(facts, before, tenure)
        if tenure["ended_at"] is not None:
            yield _ended(facts, tenure)


def _granted(facts: Facts, before: Row | None, tenure: Row) -> Event:
    text = f"{tenure['node']} took over under epoch {tenure['epoch']}"
    data: dict[str, Any] = {"incarnation": str(tenure["incarnation"])}
    if before is None:
        text = f"{tenure['node']} became its first holder, under epoch 1"
    elif before["ended_at"] is not None:
        gap = tenure["granted_at"] - before["ended_at"]
        data |= {"gap_ms": milliseconds(gap), "previous_node": before["node"], "previous_epoch": before["epoch"]}
        if before["node"] == tenure["node"]:
            again = "as a new incarnation" if before["incarnation"] != tenure["incarnation"] else "again"
            text = f"{tenure['node']} took it {again} under epoch {tenure['epoch']}"
        held = (
            f"{before['node']} held epoch {before['epoch']} for {duration(before['ended_at'] - before['granted_at'])}"
        )
        text += f", {duration(gap)} after {_why_ended(before)} ({held})"
    rebalance = _rebalance_before(facts, before, tenure)
    if rebalance:
        text += f"; assignment {rebalance['generation']}: {rebalance['cause']}"
        data |= {"generation": rebalance["generation"], "cause": rebalance["cause"]}
    return Event(
        at=tenure["granted_at"], kind="granted", text=text, epoch=tenure["epoch"], node=tenure["node"], data=data
    )


def _rebalance_before(facts: Facts, before: Row | None, tenure: Row) -> Row | None:
    """The assignment that was the newest at a grant, if it was made since the grant before: what led to it."""
    made = [
        row
        for row in facts.rebalances
        if row["at"] <= tenure["granted_at"] and (before is None or row["at"] >= before["granted_at"])
    ]
    return made[-1] if made else None


def _why_ended(tenure: Row) -> str:
    return _AFTER[tenure["reason"]].format(node=tenure["node"])


def _ended(facts: Facts, tenure: Row) -> Event:
    node, epoch, reason = tenure["node"], tenure["epoch"], tenure["reason"]
    held = tenure["ended_at"] - tenure["granted_at"]
    after = f"epoch {epoch} ended after {duration(held)}"
    withdrawal = next((w for w in facts.withdrawals if (w["epoch"], w["reason"]) == (epoch, reason)), None)
    data: dict[str, Any] = {"reason": reason, "held_ms": milliseconds(held)}
    match reason:
        case "session_lost":
            text = f"{node}'s session was lost (its process or its connection died): {after}"
        case "expired":
            ttl = f" of {duration(timedelta(milliseconds=tenure['ttl_ms']))}" if tenure["ttl_ms"] else ""
            text = f"{node} did not renew in time: its lease{ttl} expired, {after}"
            if withdrawal:
                noticed = withdrawal["at"] - tenure["ended_at"]
                text += f", noticed {duration(noticed)} later"
                data["noticed_after_ms"] = milliseconds(noticed)
        case "drained":
            text = f"{node} released it, being drained by an operator: {after}"
        case "ended_by_operator":
            text = f"an operator ended {node}: {after}"
        case _:
            left = tenure["left_at"] is not None and tenure["left_at"] <= tenure["ended_at"]
            text = f"{node} {'left on purpose' if left else 'released it'}: {after}"
    if withdrawal:
        text += f"; its quote (version {withdrawal['version'] - 1}) was withdrawn"
        data["withdrawn_version"] = withdrawal["version"]
    return Event(at=tenure["ended_at"], kind="ended", text=text, epoch=epoch, node=node, data=data)


# Refusals


def _refusals(facts: Facts) -> Iterator[Event]:
    """What the fence refused; a run of the same refusals is one event."""

    def same(row: Row) -> tuple[Any, ...]:
        return row["incarnation"], row["epoch"], row["reason"], row["current_epoch"]

    tenures = {row["epoch"]: row for row in facts.tenures}
    for _, run in groupby(facts.refusals, same):
        rows = list(run)
        first, last = rows[0], rows[-1]
        text = f"REFUSED: {first['node']} tried to replace the quote under epoch {first['epoch']}"
        text += _why_refused(first, tenures.get(first["epoch"]), tenures.get(first["current_epoch"]))
        if len(rows) > 1:
            text += f"; {len(rows)} times until {clock(last['at'])}"
        yield Event(
            at=first["at"],
            kind="refused",
            text=text,
            epoch=first["epoch"],
            node=first["node"],
            data={
                "reason": first["reason"],
                "current_epoch": first["current_epoch"],
                "incarnation": str(first["incarnation"]),
                "times": len(rows),
                "last_at": last["at"],
            },
        )


def _why_refused(refusal: Row, tried: Row | None, current: Row | None) -> str:
    at = refusal["at"]
    ended = ""
    if tried and tried["ended_at"] and tried["ended_at"] <= at:
        ended = f", which had ended {duration(at - tried['ended_at'])} before"
    match refusal["reason"]:
        case "stale_epoch" if current and current["granted_at"] <= at:
            since = duration(at - current["granted_at"])
            return f"{ended}; epoch {current['epoch']} was current, granted to {current['node']} {since} before"
        case "stale_epoch":
            return f"{ended}; epoch {refusal['current_epoch']} was current"
        case "expired":
            return f" after its own lease had expired{ended}; nobody had taken over yet"
        case _:
            return f"{ended or ', which it did not hold'}; the epoch then was {refusal['current_epoch']}"


# Operators, and quotes that were withdrawn


def _operators(facts: Facts) -> Iterator[Event]:
    withdrawn = {row["xid"]: row for row in facts.withdrawals if row["reason"] == "quoting_disabled"}
    for row in facts.audits:
        actor, target = row["actor"], row["target"]
        unchanged = row["before"] == row["after"]
        match row["action"]:
            case "quoting_off" | "quoting_on":
                state = row["action"].removeprefix("quoting_")
                text = f"{actor} turned quoting {state}" + (f" (it was {state} already)" if unchanged else "")
                if row["xid"] in withdrawn:
                    quote = withdrawn[row["xid"]]
                    text += (
                        f"; {quote['node']}'s quote (version {quote['version'] - 1}) was withdrawn in the same commit"
                    )
            case "drain":
                already = "already draining" if unchanged else "its symbols go to the others"
                text = f"{actor} began to drain {target} ({already})"
            case "undrain":
                already = " (it was not draining)" if unchanged else ""
                text = f"{actor} ended the draining of {target}{already}: it may hold symbols again"
            case _:
                changes = ", ".join(f"{k} from {row['before'].get(k)} to {v}" for k, v in row["after"].items())
                text = f"{actor} changed how it is quoted: {changes or 'nothing'}"
        if row["reason"]:
            text += f" (\N{LEFT DOUBLE QUOTATION MARK}{row['reason']}\N{RIGHT DOUBLE QUOTATION MARK})"
        yield Event(
            at=row["at"],
            kind="operator",
            text=text,
            node=target if row["action"] in ("drain", "undrain") else None,
            data={key: row[key] for key in ("actor", "action", "target", "before", "after", "reason")},
        )


def _withdrawals(facts: Facts) -> Iterator[Event]:
    """Withdrawals that no other event tells of."""
    told = {row["xid"] for row in facts.audits}
    ended = {(row["epoch"], row["reason"]) for row in facts.tenures}
    for row in facts.withdrawals:
        if row["xid"] in told or (row["epoch"], row["reason"]) in ended:
            continue
        why = _WITHDRAWN.get(row["reason"], row["reason"])
        yield Event(
            at=row["at"],
            kind="withdrawn",
            text=f"{row['node']}'s quote (version {row['version'] - 1}, epoch {row['epoch']}) was withdrawn: {why}",
            epoch=row["epoch"],
            node=row["node"],
            data={"reason": row["reason"], "version": row["version"]},
        )


# The present


def _holder(lease: Row) -> Holder | None:
    if lease["incarnation"] is None or lease["expires_at"] <= lease["at"]:
        return None
    return Holder(
        node=lease["node"],
        incarnation=str(lease["incarnation"]),
        epoch=lease["epoch"],
        granted_at=lease["granted_at"],
        expires_at=lease["expires_at"],
    )


def _present(facts: Facts) -> Iterator[str]:
    lease, at, symbol = facts.lease, facts.at, facts.symbol
    last = facts.tenures[-1] if facts.tenures else None
    if lease["incarnation"] is not None:
        held = f"epoch {lease['epoch']} since {moment(lease['granted_at'])} ({duration(at - lease['granted_at'])})"
        if lease["expires_at"] > at:
            left = duration(lease["expires_at"] - at)
            yield f"{lease['node']} holds {symbol} under {held}; unless renewed, its lease ends in {left}."
        else:
            gone = duration(at - lease["expires_at"])
            yield f"{lease['node']}, who held {symbol} under {held}, did not renew: its lease expired {gone} ago."
    elif last is not None and last["ended_at"] is not None:
        since = f"{moment(last['ended_at'])} ({duration(at - last['ended_at'])})"
        yield f"Nobody holds {symbol} since {since}: {_why_ended(last)} (epoch {last['epoch']})."
    else:
        yield f"Nobody has ever held {symbol}."
    if last is not None and last["ended_at"] is None:
        before = facts.tenures[-2] if len(facts.tenures) > 1 else None
        if before is not None or last["epoch"] == 1:
            yield f"How it came to that: {_granted(facts, before, last).text}."
    if lease["assigned_node"] is None:
        yield "It is assigned to no node."
    elif lease["assigned_node"] != lease["node"]:
        yield f"It is assigned to {lease['assigned_node']} (assignment {lease['assigned_generation']})."
    if not lease["quoting_enabled"]:
        by = ""
        if lease["switched_at"]:
            reason = f": {lease['switched_reason']}" if lease["switched_reason"] else ""
            by = f" since {moment(lease['switched_at'])}, by {lease['switched_by']}{reason}"
        yield f"Quoting is off{by}."


# Words for times


def milliseconds(span: timedelta) -> float:
    """A span in milliseconds, to the microsecond."""
    return span // timedelta(microseconds=1) / 1000


def duration(span: timedelta) -> str:
    """A span as people say it: "41 ms", "3.2 s", "12 min 3 s", "5 h 12 min", "3 d 4 h"."""
    ms = max(0.0, milliseconds(span))
    if ms < 10:
        return f"{ms:.1f} ms"
    if ms < 999.5:
        return f"{ms:.0f} ms"
    if ms < 59_950:
        return f"{ms / 1000:.1f} s"
    minutes, seconds = divmod(round(ms / 1000), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def clock(at: datetime) -> str:
    """The time of day in UTC, to the millisecond: 10:02:03.125."""
    return at.astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]


def moment(at: datetime) -> str:
    """Date and time in UTC: 2026-01-31 10:02:03."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
