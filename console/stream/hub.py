"""The hub keeps the newest state and activity, and hands changes to each socket's mailbox.

Rows stay JSON text as the database made them: a change is a different text, and a message is a join. Nothing here
waits for a client: a mailbox holds the newest text per row and a bounded run of activity, and its socket takes them
when it can.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from console.stream.protocol import START, Cursor, Limits

Rows = dict[str, str]  # JSON text by key
Entry = tuple[Cursor, str]  # one row of activity

KINDS = ("symbol", "node")


def _joined(texts: Iterable[str]) -> str:
    return "[" + ",".join(texts) + "]"


@dataclass(slots=True)
class Reading:
    """What one read of the database found."""

    rows: dict[str, Rows]  # by kind, each complete
    summary: str
    now: str  # the database's clock
    activity: list[Entry]
    reset: bool = False  # the activity does not continue from what was known


class Mailbox:
    """What one socket has yet to send: newest state per row, and activity, whose oldest is left out when it grows."""

    def __init__(self, limits: Limits) -> None:
        self.ready = asyncio.Event()
        self._limits = limits
        self._clear()

    def _clear(self) -> None:
        self._snapshot = False
        self._gap = False
        self._rows: dict[str, Rows] = {kind: {} for kind in KINDS}
        self._gone: dict[str, set[str]] = {kind: set() for kind in KINDS}
        self._summary: str | None = None
        self._activity: deque[str] = deque()
        self._skipped = 0
        self.ready.clear()

    def snapshot(self, rows: dict[str, Rows], summary: str | None, activity: Iterable[Entry], *, gap: bool) -> None:
        """Everything anew: replaces whatever was waiting."""
        self._clear()
        self._snapshot, self._gap = True, gap
        self._rows = {kind: dict(rows[kind]) for kind in KINDS}
        self._summary = summary
        self._activity.extend(text for _, text in activity)
        self.ready.set()

    def update(
        self, changed: dict[str, Rows], gone: dict[str, set[str]], summary: str | None, texts: list[str]
    ) -> None:
        """Lay what changed over what is waiting."""
        for kind in KINDS:
            self._rows[kind].update(changed[kind])
            for key in gone[kind]:
                self._rows[kind].pop(key, None)
            self._gone[kind] = (self._gone[kind] - changed[kind].keys()) | gone[kind]
        self._summary = summary or self._summary
        self._activity.extend(texts)
        while len(self._activity) > self._limits.pending_rows:
            self._activity.popleft()
            self._skipped += 1
        self.ready.set()

    def nudge(self) -> None:
        """Have the socket send a message though no row changed."""
        self.ready.set()

    def take(self, seq: int, status: str) -> str:
        """The next message, with all that is waiting; `status` is the part that tells how fresh it is."""
        parts = [f'"seq":{seq}', status]
        if self._snapshot:
            parts += ['"type":"snapshot"', f'"gap":{json.dumps(self._gap)}']
        else:
            beat = not (any(self._rows.values()) or any(self._gone.values()) or self._summary or self._activity)
            parts.append('"type":"beat"' if beat else '"type":"update"')
        for kind in KINDS:
            if self._rows[kind] or self._snapshot:
                parts.append(f'"{kind}s":{_joined(self._rows[kind].values())}')
            if self._gone[kind]:
                parts.append(f'"{kind}s_gone":{json.dumps(sorted(self._gone[kind]))}')
        if self._summary:
            parts.append(f'"summary":{self._summary}')
        if self._activity or self._snapshot:
            parts.append(f'"activity":{_joined(self._activity)}')
        if self._skipped:
            parts.append(f'"skipped":{self._skipped}')
        self._clear()
        return "{" + ",".join(parts) + "}"


@dataclass
class Hub:
    """State and activity as last read, and the mailboxes of this process's sockets. Used from one event loop."""

    limits: Limits = field(default_factory=Limits)
    rows: dict[str, Rows] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    summary: str | None = None
    activity: deque[Entry] = field(default_factory=deque)
    cursor: Cursor = START
    database: bool = False  # whether the last read succeeded
    mailboxes: set[Mailbox] = field(default_factory=set)
    _now: str | None = None
    _read_at_s: float = 0.0  # this process's monotonic clock

    def status(self) -> str:
        """How fresh everything is, as the part of a message that says so."""
        age_ms = int((time.monotonic() - self._read_at_s) * 1000) if self._now else -1
        return (
            f'"now":{json.dumps(self._now)},"age_ms":{age_ms},"database":{json.dumps(self.database)},'
            f'"cursor":"{self.cursor}"'
        )

    def publish(self, reading: Reading) -> None:
        """Take in a reading and put what changed into every mailbox."""
        was_down, self.database = not self.database, True
        self._now, self._read_at_s = reading.now, time.monotonic()
        changed = {
            kind: {key: text for key, text in reading.rows[kind].items() if self.rows[kind].get(key) != text}
            for kind in KINDS
        }
        gone = {kind: self.rows[kind].keys() - reading.rows[kind].keys() for kind in KINDS}
        summary = reading.summary if reading.summary != self.summary else None
        self.rows, self.summary = reading.rows, reading.summary
        if reading.reset:
            self.activity.clear()
        self.activity.extend(reading.activity)
        while len(self.activity) > self.limits.kept_rows:
            self.activity.popleft()
        if reading.activity:
            self.cursor = reading.activity[-1][0]
        elif reading.reset:
            self.cursor = START
        if reading.reset:
            for mailbox in self.mailboxes:
                mailbox.snapshot(self.rows, self.summary, self.latest(), gap=True)
        elif was_down or summary or reading.activity or any(changed.values()) or any(gone.values()):
            texts = [text for _, text in reading.activity]
            for mailbox in self.mailboxes:
                mailbox.update(changed, gone, summary, texts)

    def forget(self) -> None:
        """Begin anew at the newest activity. For when there is no mailbox."""
        assert not self.mailboxes
        self.activity.clear()
        self.cursor = START

    def unreachable(self) -> None:
        """The database does not answer: every page is told at once."""
        if self.database:
            self.database = False
            for mailbox in self.mailboxes:
                mailbox.nudge()

    def latest(self) -> list[Entry]:
        """The activity that a page without a past begins with."""
        return list(self.activity)[-self.limits.first_rows :]

    def since(self, cursor: Cursor) -> list[Entry] | None:
        """The activity after `cursor`, or None when that position is not among what is kept."""
        if cursor == self.cursor:
            return []
        if not any(known == cursor for known, _ in self.activity):
            return None
        return [entry for entry in self.activity if entry[0] > cursor]
