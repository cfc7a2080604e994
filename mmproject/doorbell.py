"""Ring `mm_market` after a commit that made fills, so that the holders of these symbols look at once.

NOTIFY takes one cluster-wide lock through its commit, so it stays out of the transactions that do the work. It is
rung from a connection of its own with `synchronous_commit = off`, by one daemon thread per process, and whatever is
asked for while a ring is on its way goes into the next. A doorbell carries no facts: one that is lost is made good by
the readers' own timers, so nothing here ever raises into the caller, waits for the database or retries what is old.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from typing import Any

import psycopg
import structlog
from django.db import connections

from mmproject import primary

CHANNEL = "mm_market"
PAYLOAD_BYTES_MAX = 7_000  # NOTIFY takes less than 8,000; an empty payload says: read all
INTERVAL_MIN_S = 0.004  # from ring to ring: 250 a second are more than a reader can use, and each takes that lock
BACKOFF_MIN_S = 0.05
BACKOFF_MAX_S = 2.0

Target = tuple[tuple[str, Any], ...]  # where to connect: psycopg's parameters
NOT_LIBPQ = frozenset({"pool", "options", "server_side_binding"})  # Django's own, and what we set ourselves

logger = structlog.get_logger(__name__)


def payload(symbols: Iterable[str]) -> str:
    """The symbols joined by commas, or nothing when they are too many for one notification."""
    text = ",".join(sorted(symbols))
    return text if len(text.encode()) <= PAYLOAD_BYTES_MAX else ""


class Doorbell:
    """What is still to be rung (a set, so bounded by the number of symbols) and the thread that rings."""

    def __init__(self) -> None:
        self._pending: set[str] = set()
        self._wanted_at: Target = ()
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None
        self._connected_to: Target = ()

    def ring(self, symbols: Iterable[str]) -> None:
        """Ask for a ring and return at once. Call it after the commit."""
        with self._lock:
            self._pending.update(symbols)
            if not self._pending:
                return
            # The caller's database, and not what Django's settings say by the time that the thread comes to it.
            self._wanted_at = _target()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
                self._thread.start()
        self._wanted.set()

    def _run(self) -> None:
        backoff_s = BACKOFF_MIN_S
        while True:
            self._wanted.wait()
            self._wanted.clear()
            with self._lock:
                symbols, self._pending = self._pending, set()
                target = self._wanted_at
            if not symbols:
                continue
            rung_at = time.monotonic()
            try:
                self._notify_or_reconnect(target, payload(symbols))
                backoff_s = BACKOFF_MIN_S
                pause_s = max(0.0, rung_at + INTERVAL_MIN_S - time.monotonic())
            except psycopg.Error as error:
                # The readers' timers make up for this ring: it is dropped, and the next one tries a new connection.
                logger.warning("doorbell_lost", error=str(error).strip(), symbols=len(symbols))
                self._disconnect()
                pause_s, backoff_s = backoff_s, min(2 * backoff_s, BACKOFF_MAX_S)
            time.sleep(pause_s)

    def _notify_or_reconnect(self, target: Target, text: str) -> None:
        """Notify; a connection that turns out to be dead (the server restarted) is replaced for this very ring."""
        was_connected = self._connection is not None and target == self._connected_to
        try:
            self._notify(target, text)
        except psycopg.OperationalError:
            if not was_connected:
                raise
            self._disconnect()
            self._notify(target, text)

    def _notify(self, target: Target, text: str) -> None:
        if self._connection is None or target != self._connected_to:
            self._disconnect()
            self._connection = primary.Connection.connect(
                **dict(target), autocommit=True, options="-c synchronous_commit=off"
            )
            self._connected_to = target
        self._connection.execute("SELECT pg_notify(%s, %s)", [CHANNEL, text])

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _target() -> Target:
    """Where Django's default connection goes, as psycopg takes it."""
    settings = connections.settings["default"]
    names = {"host": "HOST", "port": "PORT", "dbname": "NAME", "user": "USER", "password": "PASSWORD"}
    options = {key: option for key, option in settings["OPTIONS"].items() if key not in NOT_LIBPQ}
    options |= {name: settings[key] for name, key in names.items() if settings[key]}
    return tuple(options.items())


_doorbell = Doorbell()


def ring(symbols: Iterable[str]) -> None:
    """Tell whoever listens on mm_market to look at these symbols. Never raises, never waits for the database."""
    _doorbell.ring(symbols)


def _start_anew() -> None:
    """A forked child has no thread, and must not use its parent's connection."""
    global _doorbell
    _doorbell = Doorbell()


os.register_at_fork(after_in_child=_start_anew)
