"""The whole database is killed and comes back."""

from __future__ import annotations

from collections.abc import Callable

import psycopg

from tests.support import System, eventually

QUOTED_SINCE_ITS_START = """
    SELECT count(DISTINCT symbol) FROM exchange_quoteversion
     WHERE withdrawn_reason IS NULL AND published_at > pg_postmaster_start_time()
"""


def test_after_kill_9_of_the_database_every_symbol_is_quoted_again_within_ten_seconds(
    system: Callable[..., System],
) -> None:
    made = system(nodes=2, symbols=4)
    with made.connect() as admin:
        everything = "SELECT count(*) FROM exchange_quote WHERE quote_epoch = epoch"
        eventually(lambda: admin.execute(everything).fetchone() == (4,), 20, "all are quoted")
        (started,) = admin.execute("SELECT pg_postmaster_start_time()").fetchone() or (None,)
    made.signal("postgres")

    def quoted_again() -> bool:
        try:
            with made.connect() as connection:
                assert connection.execute("SELECT pg_postmaster_start_time()").fetchone() != (started,)
                return connection.execute(QUOTED_SINCE_ITS_START).fetchone() == (4,)
        except psycopg.OperationalError:
            return False

    eventually(quoted_again, 10, "all are quoted again")
    for node in ("node-1", "node-2"):
        assert "Traceback" not in made.log(node)
