"""What an answer may be, how answers are counted, and the shortest request that fails alike."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from tests.fuzz.inputs import Input, simpler

# DESIGN, section 8, and 405: the API's own way to say that an address does not take a method.
API_REFUSALS: Final = frozenset({400, 401, 403, 404, 405, 409, 422})
# Pages redirect, answer from a cache or in parts, and lock out who guesses passwords (429).
PAGE_STATUSES: Final = API_REFUSALS | {200, 204, 206, 301, 302, 303, 304, 410, 411, 413, 414, 415, 416, 417, 429}
TRACEBACK: Final = b"Traceback (most recent call last)"
SHRINKING_TRIES_MAX: Final = 400


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a request. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def is_refusal(self) -> bool:
        return self.status >= 400


def fault_of(sent: Input, answer: Answer) -> str | None:
    """What is wrong with the answer, or None."""
    if answer.status >= 500:
        return f"it is answered {answer.status}"
    if TRACEBACK in answer.body:
        return "its answer shows a traceback"
    if not unquote(sent.path).startswith("/api/"):
        return None if answer.status in PAGE_STATUSES else f"it is answered {answer.status}"
    if not answer.is_refusal:
        return None
    if answer.status not in API_REFUSALS:
        return f"the API refuses it with {answer.status}"
    if sent.method == "HEAD" or (answer.status, answer.body) == (400, b""):
        return None  # the latter is Twisted's own, to a request or form that cannot be taken apart
    return _fault_of_refusal(answer)


def _fault_of_refusal(answer: Answer) -> str | None:
    """A refusal of the API is {"code", "detail"}, and both say something."""
    try:
        said = json.loads(answer.body)
    except ValueError:
        return f"the API's refusal is no JSON: {answer.body[:80]!r}"
    if not isinstance(said, dict) or set(said) != {"code", "detail"}:
        return f"the API's refusal has another shape: {answer.body[:80]!r}"
    if not all(isinstance(text, str) and 0 < len(text) < 2_000 for text in said.values()):
        return f"the API's refusal says nothing: {answer.body[:80]!r}"
    return None


def fault_of_log(text: str) -> str | None:
    """What is wrong with what a process of ours has logged, or None: there must be no error and no traceback."""
    for line in text.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            return f"prints: {line[:300]}"
        if said["level"] in ("error", "critical") or "exception" in said or "Traceback" in line:
            return f"logs: {line[:500]}"
        if said["event"] == "input_reached_the_database":
            return f"logs: {line[:500]}"
    return None


@dataclass
class Tally:
    """How many inputs one part of the run has sent, and what became of them.

    Statuses are HTTP's, those of a WebSocket's close (1000 and more), or 0 for a connection closed without an answer.
    """

    name: str
    over_the_wire: bool
    goal: int  # so many have to be refused
    statuses: Counter[int] = field(default_factory=Counter)
    started_s: float = field(default_factory=time.monotonic)
    took_s: float = 0.0

    def count(self, status: int) -> None:
        self.statuses[status] += 1
        self.took_s = time.monotonic() - self.started_s

    @property
    def is_done(self) -> bool:
        return self.refused >= self.goal

    @property
    def inputs(self) -> int:
        return self.statuses.total()

    @property
    def refused(self) -> int:
        return sum(
            count for status, count in self.statuses.items() if status == 0 or 400 <= status < 500 or status >= 1000
        )

    @property
    def failed(self) -> int:
        return sum(count for status, count in self.statuses.items() if 500 <= status < 1000)

    def __str__(self) -> str:
        each = ", ".join(f"{status or 'closed'}: {count:,}" for status, count in sorted(self.statuses.items()))
        rate = self.inputs / self.took_s if self.took_s else 0
        return f"{self.name}: {self.inputs:,} inputs, {self.refused:,} refused, {rate:.0f}/s ({each})"


def shortest(sent: Input, fault: str, again: Callable[[Input], str | None]) -> Input:
    """All left out that can be while the same is wrong; `again` sends a request and says what is."""
    kind = fault.partition(":")[0]
    tries = 0
    while True:
        for candidate in simpler(sent):
            tries += 1
            if tries > SHRINKING_TRIES_MAX:
                return sent
            if (again(candidate) or "").partition(":")[0] == kind:
                sent = candidate
                break
        else:
            return sent


def report(seed: int, number: int, sent: Input, fault: str, base: str, shrunk: Input) -> str:
    """What a failure says: enough to send it again, and to begin the run again where it failed."""
    return (
        f"input {number} of seed {seed}: {fault}\n"
        f"as sent:  {sent.curl(base)[:2_000]}\n"
        f"shortest: {shrunk.curl(base)[:2_000]}\n"
        f"again:    make fuzz SEED={seed} FIRST={number}"
    )
