"""Tables that are updated many times a second stay small: new row versions go beside the old ones, no index grows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.racing import DEADLINE_S, Mutation, Stage, advance, guarded, order, renew, replace
from tests.support import Connection, eventually

HOT = ["exchange_quote", "ledger_position", "authority_incarnation", "exchange_price", "exchange_clock"]
UPDATES = 500  # of each of these, at least
IN_PLACE = 0.99
AN_INDEX_TOO_MANY = tuple(
    f"CREATE INDEX ON {table} ({column})"
    for table, column in (
        ("exchange_quote", "version"), ("ledger_position", "version"), ("authority_incarnation", "expires_at"),
        ("exchange_price", "step"), ("exchange_clock", "due_at"),
    )
)  # fmt: skip


@guarded(Mutation("an-index-on-what-changes", (), " ".join(sorted(HOT)), AN_INDEX_TOO_MANY))
def test_hot_rows_are_updated_in_place_under_load(stage: Stage) -> None:
    """Counted by the server: updates that needed no new index entry, among all."""
    node = stage.maker()
    over = threading.Event()

    def repeat(command: Callable[[Connection, int], object]) -> int:
        connection, times = stage.database.connect("admin"), 0
        connection.execute("SET synchronous_commit = off")
        while not over.is_set():
            command(connection, times)
            times += 1
        connection.execute("SELECT pg_stat_force_next_flush()")
        connection.close()
        return times

    def trade(client: str) -> Callable[[Connection, int], object]:
        return lambda connection, n: order(f"{client}-{n}", "sell" if n % 2 else "buy", 1)(connection)

    def tick(connection: Connection, n: int) -> None:
        connection.execute("UPDATE exchange_clock SET due_at = clock_timestamp()")
        advance(n + 1)(connection)

    def flushed() -> dict[str, tuple[int, float]]:
        stage.admin.execute("SELECT pg_stat_clear_snapshot()")
        rows = stage.admin.execute(
            "SELECT relname, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = ANY (%s)", [HOT]
        )
        return {name: (updates, hot / max(updates, 1)) for name, updates, hot in rows}

    with ThreadPoolExecutor(5) as pool:
        working = [
            pool.submit(repeat, command)
            for command in (
                lambda connection, _n: replace(node, "ALFA", "BRAVO", quantity=10)(connection),
                trade("one"),
                trade("two"),
                lambda connection, _n: renew(node)(connection),
                tick,
            )
        ]
        try:
            eventually(
                lambda: any(work.done() for work in working) or min(n for n, _ in flushed().values()) >= UPDATES,
                90, "enough updates of each", interval_s=0.5,
            )  # fmt: skip
        finally:
            over.set()
        assert all(work.result(DEADLINE_S) for work in working)

    missed = sorted(name for name, (_, share) in flushed().items() if share < IN_PLACE)
    assert missed == [], " ".join(missed)
