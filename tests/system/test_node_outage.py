"""The whole database is killed and comes back."""

from __future__ import annotations

from collections.abc import Callable

import psycopg

from tests.support import System, eventually

QUOTED_SINCE = """
    SELECT count(DISTINCT symbol) FROM exchange_quoteversion q WHERE withdrawn_reason IS NULL AND published_at > %s
"""


def test_after_kill_9_of_the_database_every_symbol_is_quoted_again_within_ten_seconds(
    system: Callable[..., System],
) -> None:
    made = system(nodes=2, symbols=4)
    with made.connect() as admin:
        everything = "SELECT count(*) FROM exchange_quote WHERE quote_epoch = epoch"
        eventually(lambda: admin.execute(everything).fetchone() == (4,), 20, "all are quoted")
        row = admin.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
    made.signal("postgres")

    def quoted_again() -> bool:
        try:
            with made.connect() as connection:
                return connection.execute(QUOTED_SINCE, row).fetchone() == (4,)
        except psycopg.OperationalError:
            return False

    eventually(quoted_again, 10, "all are quoted again")
    for node in ("node-1", "node-2"):
        assert "Traceback" not in made.log(node)
