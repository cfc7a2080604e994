"""What a node's statements are in a recorded history: their names, what they asked, what they were told.

Off unless MM_HISTORY names a folder. Its one hook is in connections.fetch, which all statements pass through; what is
not named here (reads, waiting, planning) is not recorded. The shapes are read by chaos/history.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mmproject.recording import Json, Recorder
from nodeagent import authority_client as client
from nodeagent import connections

Rows = list[Any]


class Statement(NamedTuple):
    """How a statement is recorded: `given` of its arguments, `told` of its rows."""

    op: str
    given: Callable[..., Json]
    told: Callable[[Rows], Json]


STATEMENTS = {
    client.REGISTER: Statement(
        "register",
        lambda node, _ttl_ms: {"node": node},
        lambda rows: {"incarnation": rows[0][0], "serial": rows[0][1]} if rows else {"incarnation": None},
    ),
    client.RENEW: Statement(
        "renew", lambda incarnation: {"incarnation": incarnation}, lambda rows: {"alive": bool(rows)}
    ),
    client.BEGIN_LEAVE: Statement(
        "begin_leave", lambda incarnation: {"incarnation": incarnation}, lambda rows: {"members": rows[0][0]}
    ),
    client.LEAVE: Statement(
        "leave",
        lambda incarnation: {"incarnation": incarnation},
        lambda rows: {"released": rows[0][0], "done": rows[0][1]},
    ),
    client.SWEEP: Statement(
        "sweep",
        lambda: {},
        lambda rows: {"incarnation": rows[0][0], "reason": rows[0][2], "done": rows[0][4]} if rows else {},
    ),
    client.ACQUIRE: Statement(
        "acquire",
        lambda incarnation, symbols, _wait: {"incarnation": incarnation, "symbols": list(symbols)},
        lambda rows: {"grants": [list(row) for row in rows]},  # symbol, epoch, outcome
    ),
    client.RELEASE: Statement(
        "release",
        lambda incarnation, symbols, _wait: {"incarnation": incarnation, "symbols": list(symbols)},
        lambda rows: {"released": list(rows[0][0])},
    ),
    client.REPLACE: Statement(
        "replace",
        lambda incarnation, symbols, epochs, *_quotes: {
            "incarnation": incarnation,
            "epochs": dict(zip(symbols, epochs, strict=True)),
        },
        lambda rows: {"outcomes": [list(row[:3]) for row in rows]},  # symbol, outcome, version
    ),
}


class History(connections.Witness):
    """Records the statements of this process that are named above."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def asked(self, query: str, arguments: tuple[Any, ...]) -> Callable[[Rows | Exception], None] | None:
        statement = STATEMENTS.get(query)
        if statement is None:
            return None
        recorder, number = self._recorder, self._recorder.invoke(statement.op, statement.given(*arguments))

        def told(outcome: Rows | Exception) -> None:
            if not isinstance(outcome, Exception):
                recorder.returned(number, statement.told(outcome))
            elif not isinstance(outcome, connections.ConnectionLost):  # then nobody knows
                recorder.failed(number, connections.one_line(outcome))

        return told


def record(folder: Path, process: str) -> None:
    """Record this process's statements from now on, in a file of its own below `folder`."""
    connections.witness = History(Recorder(folder, process))
