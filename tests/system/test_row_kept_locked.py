"""A whole system in which somebody keeps one symbol's row locked and does nothing with it, and a node is killed.

It is the last symbol: whoever wants several and waits for it has all others.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any, Final

import pytest

from tests.support import eventually, running_system

JUDGED_S: Final = 7.0  # in all, after TAKEN_OVER_S: longer than any of the system's own timeouts
LOCKED_S_MAX: Final = 60.0
LOOK_S: Final = 0.25
TAKEN_OVER_S: Final = 5.0  # the lease's time to live and 2 s: I14
FRESH_S: Final = 5.0  # I11
BACK_S: Final = 30.0
STATE: Final = """
    SELECT q.symbol, l.node IS NOT NULL, extract(epoch FROM clock_timestamp() - q.published_at)::float8
      FROM exchange_quote q LEFT JOIN authority_lease_in_force l USING (symbol) WHERE q.symbol <> %s ORDER BY q.symbol
"""

pytestmark = pytest.mark.timeout(180)


def test_one_locked_row_and_a_lost_node_cost_one_symbol_only() -> None:
    with running_system(nodes=2, symbols=8) as system, system.connect() as admin, system.connect() as holder:

        def rows(query: str, *values: object) -> list[tuple[Any, ...]]:
            found: list[tuple[Any, ...]] = admin.execute(query.encode(), values or None).fetchall()
            return found

        loads = "SELECT count(*) FROM authority_lease_in_force GROUP BY node"
        eventually(lambda: rows(loads) == [(4,), (4,)], BACK_S, "two nodes hold four symbols each")
        symbol, node = rows("SELECT symbol, node FROM authority_lease_in_force ORDER BY symbol DESC LIMIT 1")[0]
        with holder.transaction():
            holder.execute("SELECT FROM exchange_quote WHERE symbol = %s FOR UPDATE", [symbol])
            os.kill(system.pid(node), signal.SIGKILL)
            began = undisturbed_since = looked_at = time.monotonic()
            judged_s = 0.0
            while judged_s < JUDGED_S and looked_at - began < LOCKED_S_MAX:
                time.sleep(LOOK_S)
                states, now = rows(STATE, symbol), time.monotonic()
                step_s, looked_at = now - looked_at, now
                if step_s > 3 * LOOK_S:
                    undisturbed_since = now  # the machine stood still, and the node with it: that says nothing of it
                if now - undisturbed_since < TAKEN_OVER_S:
                    continue
                judged_s += step_s
                for other, is_held, age_s in states:
                    assert is_held, f"{other} is held by nobody after {now - began:.1f} s, for a lock of {symbol}'s"
                    assert age_s is not None, f"{other} is not quoted, for a lock of {symbol}'s"
                    assert age_s < FRESH_S, f"{other}'s quote is {age_s:.1f} s old, for a lock of {symbol}'s"
            assert judged_s >= JUDGED_S, f"only {judged_s:.1f} s of a minute could be judged"
        live = "SELECT count(*) FROM exchange_quote WHERE valid_until > clock_timestamp()"
        eventually(lambda: rows(live) == [(8,)], BACK_S, "all are quoted")
        eventually(lambda: rows(loads) == [(4,), (4,)], BACK_S, "both nodes share them again")
