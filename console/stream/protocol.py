"""What goes over the socket: limits, close codes, positions, and the messages that clients may send."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple


class Close(IntEnum):
    """Why the server closes a socket."""

    MALFORMED = 4400  # the client broke the protocol
    SIGNED_OUT = 4401  # the session has ended
    TOO_SLOW = 4408  # the client does not acknowledge
    TOO_MUCH = 4429  # the client sends more than it has reason to
    UNAVAILABLE = 4503  # the database cannot be reached to check who this is: try again later
    FULL = 1013  # as many sockets as one process takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the stream; each keeps one slow or odd party from costing the others."""

    read_interval_s: float = 0.1  # at most ten reads and updates a second, however often the doorbell rings
    timer_s: float = 1.0  # a lost doorbell is made up for by then; renewals ring none
    read_timeout_s: float = 4.0  # a database that does not answer for so long counts as unreachable
    connect_timeout_s: float = 5.0
    backoff_s: float = 0.1  # doubled with each failed try, jittered
    backoff_max_s: float = 1.0
    linger_s: float = 30.0  # the reader stays for a page that is merely reloaded
    batch_rows: int = 1000  # activity rows read at once
    kept_rows: int = 1000  # newest activity rows kept, for those who come or come back
    first_rows: int = 200  # activity rows that a page without a position begins with
    resume_rows: int = 2000  # a longer gap is answered with a flagged snapshot
    pending_rows: int = 1000  # activity waiting for one client; then the oldest are left out, and counted
    window: int = 4  # messages on their way to a client without acknowledgement
    slow_s: float = 10.0  # a full window for so long: dropped
    beat_s: float = 3.0
    hello_s: float = 10.0  # to say where to resume from
    session_check_s: float = 15.0
    message_bytes: int = 256  # the longest that a client has reason to send
    messages_per_s: int = 100
    sockets: int = 500


class Cursor(NamedTuple):
    """A position in the activity log, in the order of commits."""

    xid: int
    id: int

    def __str__(self) -> str:
        return f"{self.xid}-{self.id}"


START: Final = Cursor(0, 0)
_CURSOR: Final = re.compile(r"([0-9]{1,19})-([0-9]{1,19})", re.ASCII)
_BIGINT_MAX: Final = 2**63 - 1


class Malformed(Exception):
    """The client sent something that is no message of ours."""


@dataclass(frozen=True, slots=True)
class Resume:
    """The client's first message: where it was, or None for a page without a past."""

    cursor: Cursor | None


@dataclass(frozen=True, slots=True)
class Ack:
    """The client has taken in every message up to `seq`."""

    seq: int


def parse(text: str) -> Resume | Ack:
    """A client's message. Raises Malformed."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise Malformed from None
    match message:
        case {"resume": None, **rest} if not rest:
            return Resume(None)
        case {"resume": str(position), **rest} if not rest:
            return Resume(_cursor(position))
        case {"ack": int(seq), **rest} if not rest and not isinstance(seq, bool) and 0 < seq <= _BIGINT_MAX:
            return Ack(seq)
    raise Malformed


def _cursor(text: str) -> Cursor:
    found = _CURSOR.fullmatch(text)
    if not found or any(int(part) > _BIGINT_MAX for part in found.groups()):
        raise Malformed
    return Cursor(int(found[1]), int(found[2]))
