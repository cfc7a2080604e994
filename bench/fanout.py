"""What the doorbell costs those who trade: orders at 32 clients with and without it.

Rung as the product rings it: after the commit, from a connection of its own, coalesced, here for all symbols as fast as
it goes, with 1, 10 and 50 connections that listen. By itself, the notice by which each client is told of its fill
before the wait for the disk. And, for contrast, a NOTIFY in each order's own transaction.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench.doorbells import listeners
from bench.figures import Floor, Goal, Measurement, Side
from bench.maker import holders
from bench.orders import Arena, check_filled, names, order_script
from bench.run import Run
from bench.scaffold import Connection
from mmproject import doorbell

SYMBOLS: Final = 100
CLIENTS: Final = 32
LISTENERS: Final = (1, 10, 50)
JUDGED: Final = 10  # listeners
GOAL: Final = 0.9  # of the throughput without a bell
RING_S: Final = 0.001  # twice as often as it rings, so that there is always something to ring for

_IN_TRANSACTION: Final = """
    CREATE FUNCTION floor.ring() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('mm_market', NEW.symbol);
        RETURN NULL;
    END
    $$;
    GRANT USAGE ON SCHEMA floor TO PUBLIC;
    CREATE TRIGGER bench_rings AFTER INSERT ON ledger_fill FOR EACH ROW EXECUTE FUNCTION floor.ring();
    ALTER TABLE ledger_fill DISABLE TRIGGER bench_rings;
"""


@contextmanager
def ringing(symbols: list[str]) -> Iterator[None]:
    """Ask the product's own doorbell for all symbols without pause, as many fills would."""
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(RING_S):
            doorbell.ring(symbols)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def in_transaction(admin: Connection) -> Iterator[None]:
    """Each fill notifies in its own transaction."""
    admin.execute("ALTER TABLE ledger_fill ENABLE TRIGGER bench_rings")
    try:
        yield
    finally:
        admin.execute("ALTER TABLE ledger_fill DISABLE TRIGGER bench_rings")


def fanout(run: Run) -> None:
    """No bell; the product's; its notice to the client; a NOTIFY in each transaction."""
    counts = (1, JUDGED) if run.plan.quick else LISTENERS
    with run.database() as database, holders(database, {"bench": names(SYMBOLS)}):
        arena = Arena.make(run, database, order_script(SYMBOLS), tpcb=False)
        admin = database.connect()
        admin.execute(_IN_TRANSACTION)
        orders = arena.orders(CLIENTS, "prepared")

        def rung(count: int) -> Side:
            def side(seconds: float) -> float:
                with listeners(database, count), ringing(names(SYMBOLS)):
                    return orders(seconds)

            return side

        def notified(seconds: float) -> float:
            with listeners(database, JUDGED), in_transaction(admin):
                return orders(seconds)

        inside = f"NOTIFY in the transaction, {JUDGED} listeners"
        notice = "each client told by a notice, nobody listening"
        sides = {str(count): rung(count) for count in counts}
        told = arena.orders(CLIENTS, "prepared", told=True)
        taken = arena.taken({"no bell": orders, **sides, notice: told, inside: notified})
        silent = (Floor("no bell", taken["no bell"]),)
        for count in counts:
            run.add(
                Measurement(
                    name=f"rung after the commit, {count} listening",
                    unit="orders/s",
                    values=taken[str(count)],
                    floors=silent,
                    goal=Goal("ratio", "at least", GOAL) if count == JUDGED else None,
                    at={"clients": CLIENTS, "listeners": count},
                )
            )
        for name, listening in ((notice, 0), (inside, JUDGED)):
            at: dict[str, int | str] = {"clients": CLIENTS, "listeners": listening}
            run.add(Measurement(name=name, unit="orders/s", values=taken[name], floors=silent, at=at))
        check_filled(admin)
