"""What `drain` and `undrain` share."""

from __future__ import annotations

import time
from typing import Any, Final

from django.core.management.base import CommandParser

from authority.services import Drain, set_draining
from mmproject import query
from mmproject.cli import Command as BaseCommand
from mmproject.cli import actor, add_json_option
from mmproject.errors import UsageError, UserError

TIMEOUT_S: Final = 30  # a healthy handover takes tens of milliseconds
POLL_S: Final = 0.05

# Drained: of what it held, what nobody else holds yet.
_TO_LEAVE = """
    SELECT count(*) FROM unnest(%s::text[]) AS s (symbol)
     WHERE NOT EXISTS (SELECT FROM authority_lease_in_force l WHERE l.symbol = s.symbol AND l.node <> %s)
"""
# Undrained: what is assigned to it and not yet held by it; null until an assignment counts it among the members.
_TO_COME = """
    SELECT CASE WHEN %s = ANY (members) THEN (
               SELECT count(*) FROM authority_assignment a
                WHERE a.node = %s AND NOT EXISTS (
                      SELECT FROM authority_lease_in_force l WHERE l.symbol = a.symbol AND l.node = a.node)) END
      FROM authority_rebalance ORDER BY generation DESC LIMIT 1
"""
_HELD = "SELECT coalesce(array_agg(symbol ORDER BY symbol), '{}') FROM authority_lease_in_force WHERE node = %s"
_ALIVE = "SELECT EXISTS (SELECT FROM authority_incarnation WHERE node = %s AND ended_at IS NULL AND expires_at > now())"
_OTHERS = "SELECT count(*) FROM authority_member WHERE node <> %s"


class DrainingCommand(BaseCommand):
    """Sets a node's draining flag and, with --wait, stays until its symbols have moved."""

    draining: bool

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("node", metavar="NODE")
        parser.add_argument("--reason", default="", metavar="TEXT", help="why, for the audit")
        parser.add_argument("--wait", action="store_true", help="return when its symbols have moved")
        parser.add_argument(
            "--timeout",
            type=float,
            default=TIMEOUT_S,
            metavar="S",
            help=f"how long --wait waits, in seconds ({TIMEOUT_S})",
        )
        add_json_option(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        node, timeout_s = options["node"], options["timeout"]
        if not 0 < timeout_s <= 3600:
            raise UsageError("--timeout must be above 0 and at most 3600 seconds")
        held = query.value(_HELD, [node])
        who = actor()
        changed = set_draining(node, self.draining, who, options["reason"])
        started = time.monotonic()
        alive, others = query.value(_ALIVE, [node]), query.value(_OTHERS, [node])
        if options["wait"] and (alive or held):
            self.wait(node, held, timeout_s, others)
        if options["json"]:
            waited_ms = round((time.monotonic() - started) * 1000) if options["wait"] else None
            self.emit({**changed, "actor": who, "reason": options["reason"], "symbols": held, "waited_ms": waited_ms})
            return
        self.stdout.write(self.told(changed, alive=alive, held=len(held), waited=options["wait"], others=others))

    def wait(self, node: str, held: list[str], timeout_s: float, others: int) -> None:
        """Return when nothing is left to move. Raises UserError at the deadline."""
        deadline = time.monotonic() + timeout_s
        with self.progress_console.status("") as status:
            while True:
                left = query.value(_TO_LEAVE, [held, node]) if self.draining else query.value(_TO_COME, [node, node])
                if left == 0:
                    return
                status.update(f"{node}: {'the assignment' if left is None else f'{left} symbols'} to move")
                if time.monotonic() > deadline:
                    break
                time.sleep(POLL_S)
        alone = "" if others or not self.draining else ": no other node is there to take them"
        what = "the assignment has" if left is None else f"{left} of its symbols have"
        raise UserError(f"{what} not moved within {timeout_s:g} s{alone}; the flag is set, and they will when they can")

    def told(self, changed: Drain, *, alive: bool, held: int, waited: bool, others: int) -> str:
        """What to tell the operator."""
        before = " (as before)" if changed["before"] == changed["after"] else ""
        if not self.draining:
            return f"{changed['node']} takes symbols again{before}" + ("" if alive else " once it runs")
        if not alive:
            return f"{changed['node']} is draining{before}; it is not running, and will take no symbols when it does"
        if waited:
            return f"{changed['node']} is drained{before}: {held} symbols moved"
        if not others:
            return f"{changed['node']} is draining{before}; it keeps its {held} symbols: no other node can take them"
        return f"{changed['node']} is draining{before}: {held} symbols to move"
