"""What operators and tasks can do to the authority. Nodes call its SQL functions on connections of their own."""

from __future__ import annotations

from typing import TypedDict

import structlog
from django.db import Error as DatabaseError

from authority.errors import UnknownNode
from mmproject import query
from mmproject.crashpoints import crash_point
from mmproject.db import retrying, sqlstate

UNKNOWN = "MM404"

logger = structlog.get_logger(__name__)


class Drain(TypedDict):
    """A node's draining flag before and after an operator's action."""

    node: str
    before: bool
    after: bool


SWEEP_MAX = 100  # each call ends one, or a part of one; what is left is swept a second later


class Ended(TypedDict):
    """An incarnation that a sweep ended, and why (`expired`, `session_lost`)."""

    incarnation: str
    node: str
    reason: str


def set_draining(node: str, draining: bool, actor: str, reason: str = "") -> Drain:
    """Drain a node (its symbols move to the others and none come to it), or let it take some again.

    Leaves an audit row, changed or not (I13). Locks the node's row. Raises UnknownNode.
    """

    def command() -> Drain:
        crash_point("drain.before")
        changed: Drain = query.document(
            "SELECT authority_set_draining_v1(%s, %s, %s, %s)", [node, draining, actor, reason]
        )
        crash_point("drain.after")
        return changed

    try:
        return retrying(command)
    except DatabaseError as error:
        if sqlstate(error) == UNKNOWN:
            raise UnknownNode(f"unknown node {node}") from None
        raise


def sweep() -> list[Ended]:
    """End every incarnation that has expired or whose session is gone. The second sweeper: nodes do it first.

    Locks what it ends, and waits for quotes in flight. Safe at any time and by anyone.
    """

    def command() -> list[query.Row]:
        return query.rows("SELECT incarnation, node, reason, done FROM authority_sweep_v3()")

    ended: list[Ended] = []
    for _call in range(SWEEP_MAX):
        found = retrying(command)
        if not found:
            break
        ended += [
            Ended(incarnation=str(row["incarnation"]), node=row["node"], reason=row["reason"])
            for row in found
            if row["done"]
        ]
    for one in ended:
        logger.info("swept", **one)
    return ended
