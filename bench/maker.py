"""Nodes in the benchmark's own hands: sessions that hold symbols and quote them deep."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from bench.scaffold import Connection, Database

DEEP: Final = 1_000_000_000  # lots on each side: more than any run can fill
DAY_MS: Final = 86_400_000  # of leases and quotes: longer than any run
QUOTED_PER_CALL: Final = 10_000  # authority_replace_quotes_v3 takes no more

_REPLACE: Final = (
    "SELECT outcome, count(*) FROM authority_replace_quotes_v3("
    "%s, %s::text[], %s::bigint[], %s::numeric[], %s::numeric[], %s::numeric[], %s::numeric[], %s) GROUP BY 1"
)


@dataclass(frozen=True, slots=True)
class Holder:
    """An incarnation, the session that it lives and ends with, and the epochs that it holds symbols under."""

    session: Connection
    incarnation: UUID
    epochs: dict[str, int]


def add_symbols(connection: Connection, names: Sequence[str], **changes: object) -> None:
    """Symbols that differ in name only."""
    parameters = {
        "tick_size": "0.01",
        "lot_size": "1",
        "seed_price": "100",
        "volatility_bps": 5,
        "half_spread_ticks": 5,
        "skew_ticks": 5,
        "quote_size": "100",
        "position_limit": str(1000 * DEEP),
        "orders_per_step": 1,
        **changes,
    }
    listed = [{"name": name, **parameters} for name in names]
    connection.execute("SELECT exchange_add_symbols_v1(%s)", [json.dumps(listed)])


@contextmanager
def holders(database: Database, shares: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Holder]]:
    """Adds the symbols of all shares; a node for each share, which holds them and quotes them at 99.95 and 100.05.

    At the end they leave, so that nobody is blamed for quotes that get old.
    """
    admin = database.connect()
    names = [name for share in shares.values() for name in share]
    add_symbols(admin, names)
    nodes = sorted(shares)
    sessions = {node: database.connect() for node in nodes}
    incarnations: dict[str, UUID] = {}
    for node in nodes:
        row = sessions[node].execute("SELECT incarnation FROM authority_register_v3(%s, %s)", [node, DAY_MS]).fetchone()
        assert row is not None
        incarnations[node] = row[0]
    given = [node for node, share in shares.items() for _ in share]
    applied = admin.execute(
        "SELECT authority_apply_assignment_v2(0, %s::text[], %s::text[], %s::text[], 'bench', 'bench')",
        [nodes, names, given],
    ).fetchone()
    assert applied == ("applied",), applied
    made = {}
    for node, share in shares.items():
        grants = sessions[node].execute(
            "SELECT symbol, epoch FROM authority_acquire_v3(%s, %s::text[])", [incarnations[node], list(share)]
        )
        made[node] = Holder(sessions[node], incarnations[node], dict(grants.fetchall()))
        quote_deep(made[node])
    # As autovacuum would soon do, in the middle of a round.
    admin.execute("VACUUM ANALYZE")
    try:
        yield made
    finally:
        for holder in made.values():
            if not holder.session.closed:
                leave(holder.session, holder.incarnation)


def leave(session: Connection, incarnation: UUID) -> None:
    """End the incarnation, a part of what it holds after another."""
    while session.execute("SELECT done FROM authority_leave_v3(%s)", [incarnation]).fetchone() != (True,):
        pass


def quote_deep(holder: Holder) -> None:
    """Quote all that it holds, with more than any run can fill."""
    symbols = list(holder.epochs)
    for start in range(0, len(symbols), QUOTED_PER_CALL):
        some = symbols[start : start + QUOTED_PER_CALL]
        sides = [[number] * len(some) for number in (99.95, DEEP, 100.05, DEEP)]
        epochs = [holder.epochs[symbol] for symbol in some]
        outcomes = holder.session.execute(_REPLACE, [holder.incarnation, some, epochs, *sides, DAY_MS]).fetchall()
        assert outcomes == [("accepted", len(some))], outcomes
