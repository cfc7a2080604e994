"""The traps: one rule each that is decided otherwise, and what is broken then.

Most are DESIGN §6's. A trap is looked for in the smallest system that shows it, and judged by the property it names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from model.protocol import Rules

_RIGHT = Rules()


class Trap(NamedTuple):
    """A rule decided otherwise, the property that is broken then, and the size of the system that shows it."""

    name: str
    says: str
    rules: Rules
    breaks: str
    nodes: int = 2
    symbols: int = 1


TRAPS: Final[Mapping[str, Trap]] = {
    trap.name: trap
    for trap in (
        Trap("no-lock", "a replacement checks its right without a lock, and then writes",
             replace(_RIGHT, writer_lock="none"), "I4"),
        Trap("key-share", "it checks under FOR KEY SHARE, which a takeover's UPDATE does not wait for",
             replace(_RIGHT, writer_lock="key share", taker_lock="no key update"), "I4"),
        Trap("snapshot", "it waits for the quote's row, and judges by the lease that it read before",
             replace(_RIGHT, judges_after_lock=False), "I4"),
        Trap("no-raise", "a grant leaves the fence as it is, and an end too",
             replace(_RIGHT, grant_raises_fence=False, end_drops_fence=False), "I1"),
        Trap("no-fence-at-end", "the end of a tenure leaves its fence up",
             replace(_RIGHT, end_drops_fence=False), "I5"),
        Trap("quote-stays", "a takeover leaves the quote of the holder that was lost",
             replace(_RIGHT, end_withdraws=False), "withdrawn"),
        Trap("same-epoch", "a grant does not raise the epoch",
             replace(_RIGHT, epoch_rises=False), "I2"),
        Trap("now-renewal", "a renewal is judged by now(), before it has waited for the row",
             replace(_RIGHT, renewal_locks_first=False), "never-back"),
        Trap("revival", "a renewal brings back an incarnation that has expired",
             replace(_RIGHT, expired_stays_expired=False), "never-back"),
        Trap("now-replace", "a replacement's deadline is judged by now(), and no timeout bounds its wait",
             replace(_RIGHT, clock_after_lock=False, timeouts=False), "I5"),
        Trap("no-timeout", "no timeout ends a transaction that holds the quote's row",
             replace(_RIGHT, timeouts=False), "I5"),
        Trap("lost-part-writes", "the first part of a lost one's end does not expire the rest",
             replace(_RIGHT, part_expires=False), "I5", symbols=2),
        Trap("release-any", "a release names the symbol and not its holder",
             replace(_RIGHT, release_names_holder=False), "I3"),
        Trap("former-stays", "a node registers anew while its former incarnation still holds",
             replace(_RIGHT, register_ends_former=False), "I1"),
        Trap("async-standby", "a grant is seen before the standby has it, and a failover takes its epoch back",
             replace(_RIGHT, grant_is_durable=False), "I2"),
        Trap("open-transaction", "a stopped node's transaction keeps its locks: no autocommit, no timeout",
             replace(_RIGHT, autocommit=False, timeouts=False), "covered"),
        Trap("doorbell-only", "a node looks only when the doorbell rings, and one was lost",
             replace(_RIGHT, slow_timer=False), "covered"),
        Trap("session-only", "only lost sessions are swept, and what has expired is not",
             replace(_RIGHT, expiry_is_swept=False), "covered"),
    )
}  # fmt: skip
