"""Old quotes without waiting for them: a slot is closed when a test says so, and the keeper's clock runs ahead."""

from __future__ import annotations

import re
from typing import Any

from tests.support import Connection

HOUR_MS = 3_600_000
MINUTE_MS = 60_000
PARTITIONS = "SELECT partition::text, from_at, to_at FROM exchange_quote_partitions_v1() WHERE NOT is_default"


def keep(connection: Connection, retention_ms: int = HOUR_MS) -> tuple[str, str] | None:
    """One step of the keeper, as the worker's task calls it: what it did, and to which partition."""
    answer: Any = connection.execute(
        "SELECT action, partition FROM exchange_keep_partitions_v1(%s)", [retention_ms]
    ).fetchone()
    return answer  # type: ignore[no-any-return]


def keep_all(connection: Connection, retention_ms: int = HOUR_MS) -> list[tuple[str, str]]:
    """Steps until nothing is due. Fails when it is told to come again."""
    steps: list[tuple[str, str]] = []
    while step := keep(connection, retention_ms):
        assert step[0] != "busy", step
        assert len(steps) < 100, steps
        steps.append(step)
    return steps


def dropped(steps: list[tuple[str, str]]) -> list[str]:
    return [partition for action, partition in steps if action == "drop"]


def keepers_clock(connection: Connection, ahead: str) -> None:
    """From here on the keeper sees another time than everybody else: that much ahead."""
    row = connection.execute("SELECT pg_get_functiondef('exchange_quote_partition_due_v1'::regproc)").fetchone()
    assert row is not None
    definition, changed = re.subn(
        r"clock_timestamp\(\)( \+ interval '[^']*')?", f"clock_timestamp() + interval '{ahead}'", row[0]
    )
    assert changed == 1
    connection.execute(definition.encode())


def one_long_slot(admin: Connection) -> None:
    """One partition for all that a test does: those of its template are as old as that, and end when they like."""
    end_all_partitions(admin)
    admin.execute(
        "SELECT exchange_make_quote_partition_v1('exchange_quoteversion_long', format('FOR VALUES FROM (%L) TO (%L)',"
        " clock_timestamp(), clock_timestamp() + interval '1 day'))"
    )


def close_slot(admin: Connection) -> str:
    """End the current partition now, with all it holds, and begin the next one; returns the ended one's name.

    The rows stay where they are, written by the transactions that wrote them.
    """
    row: Any = admin.execute(
        f"SELECT p.*, to_char(clock_timestamp(), 'HH24MISSUS') FROM ({PARTITIONS}) p"
        " WHERE clock_timestamp() BETWEEN from_at AND to_at"
    ).fetchone()
    partition, from_at, to_at, suffix = row
    with admin.transaction():
        admin.execute("LOCK TABLE exchange_quoteversion IN ACCESS EXCLUSIVE MODE")
        now: Any = admin.execute("SELECT clock_timestamp()").fetchone()
        admin.execute(f"ALTER TABLE exchange_quoteversion DETACH PARTITION {partition}".encode())
        admin.execute(
            f"ALTER TABLE exchange_quoteversion ATTACH PARTITION {partition}"
            f" FOR VALUES FROM ('{from_at}') TO ('{now[0]}')".encode()
        )
        admin.execute(
            "SELECT exchange_make_quote_partition_v1(%s, %s)",
            [f"exchange_quoteversion_at_{suffix}", f"FOR VALUES FROM ('{now[0]}') TO ('{to_at}')"],
        )
    return str(partition)


def end_all_partitions(admin: Connection) -> None:
    """As if nobody had kept them for long: every quote falls into the default partition."""
    for partition, _, _ in admin.execute(PARTITIONS).fetchall():
        admin.execute(f"DROP TABLE {partition}".encode())
