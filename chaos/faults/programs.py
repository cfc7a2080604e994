"""Processes killed, stopped, starved, misled about the time, and restarted."""

from __future__ import annotations

import json
import signal
import sys
import time
from contextlib import suppress
from datetime import datetime
from typing import Final

from chaos.arena import CLOCK_NODE
from chaos.occasion import BACK_S, POLL_S, Broken, Occasion
from mmproject.crashpoints import POINTS, arm, crashes

CLOCK_OFF_S: Final = 1000.0  # two of the clocks to be shown are further off
LOG_TAIL: Final = 8192  # bytes: several lines
WANTED_S: Final = 3.0  # a symbol is quoted anew after 2.5 s (MM_QUOTE_REFRESH_MS) also when nothing happens to it
# For us, or for somebody who waits for us: of all that wait for a row only the first waits for who has it.
WAITS: Final = """
    SELECT 1 FROM pg_stat_activity, LATERAL pg_blocking_pids(pid) AS blockers
     WHERE application_name LIKE %s
       AND (%s = ANY (blockers) OR EXISTS (SELECT FROM unnest(blockers) b WHERE %s = ANY (pg_blocking_pids(b))))
"""
CHURN_GROUPS: Final = 10
CHURN_GROUP: Final = 5  # nodes in one process, which come and go together


def node_kill(it: Occasion) -> None:
    it.cut_short = not it.process.signal(signal.SIGKILL)


def node_stop(it: Occasion) -> None:
    """Stopped beyond its time to live, then let go on: it finds its incarnation ended, and is refused."""
    try:
        it.cut_short = not it.process.signal(signal.SIGSTOP)
        it.wait()
    finally:
        it.process.signal(signal.SIGCONT)


def node_stop_in_statement(it: Occasion) -> None:
    """Stopped while a statement of its own waits for rows that we hold; they are let go while it is stopped."""
    assert it.node is not None
    held = "SELECT symbol FROM authority_lease_in_force WHERE node = %s"
    lock = f"SELECT FROM exchange_quote WHERE symbol IN ({held}) ORDER BY symbol FOR UPDATE"
    it.cut_short = True
    try:
        with suppress(Broken):
            it.eventually(lambda: it.rows(held, it.node), "it holds something", WANTED_S)
        with it.arena.connect() as connection, connection.transaction():
            it.details["symbols"] = connection.execute(lock.encode(), [it.node]).rowcount
            with suppress(Broken):
                us = connection.info.backend_pid
                it.eventually(
                    lambda: it.rows(WAITS, f"mm-node {it.node}%", us, us), "a statement waits for us", WANTED_S
                )
                it.cut_short = not it.process.signal(signal.SIGSTOP)
                it.hit_at = time.time()
        it.wait()
    finally:
        it.process.signal(signal.SIGCONT)


def node_starved(it: Occasion) -> None:
    """It gets a tenth of the time, in slices of 100 ms."""
    end = time.monotonic() + it.seconds
    it.cut_short = True
    try:
        while time.monotonic() < end and not it.stop.is_set():
            it.cut_short &= not it.process.signal(signal.SIGSTOP)
            time.sleep(0.09)
            it.process.signal(signal.SIGCONT)
            time.sleep(0.01)
    finally:
        it.process.signal(signal.SIGCONT)


def node_clock(it: Occasion) -> None:
    """An hour ahead, then an hour behind, then running at half and at twice the speed."""
    shows = it.dice.sample(["+3600s", "-3600s", "+0 x0.5", "+0 x2", "+86400s x1.5"], 4)
    seen: list[float] = []
    try:
        for one in shows:
            it.arena.clock_file.write_text(f"{one}\n")
            began = time.time()
            it.wait(it.seconds / len(shows))
            seen += _clock_errors_s(it, began)
    finally:
        it.arena.clock_file.write_text("+0\n")
    it.details |= {"clock": shows, "seen_off_by_s": [round(one, 1) for one in seen]}
    it.cut_short = not any(abs(one) > CLOCK_OFF_S for one in seen)  # the node was down, or its clock is not ours to set


def _clock_errors_s(it: Occasion, since: float) -> list[float]:
    """By how much the newest line of the node's log is dated wrongly; none when it has written nothing since then."""
    path = it.arena.folder / "log" / f"{CLOCK_NODE}.log"
    written = path.stat().st_mtime
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - LOG_TAIL))
        lines = log.read().splitlines()[1:]
    if written < since:
        return []
    for line in reversed(lines):
        with suppress(ValueError, KeyError, TypeError):
            return [datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp() - written]
    return []


def churn(it: Occasion) -> None:
    """50 more nodes, in groups, joining and leaving: ten changes a second."""
    arena = it.arena
    groups = [f"churn-{number}" for number in range(CHURN_GROUPS)]
    began, changes = time.monotonic(), 0
    try:
        for name in groups:
            names = ",".join(f"{name}-{number}" for number in range(CHURN_GROUP))
            command = [sys.executable, "-m", "bench.many_nodes", "--names", names]
            process = arena.add_process(
                name, command, {"DATABASE_URL": arena.urls["node"], "MM_PROCESS": name, **arena.tested}
            )
            process.wanted = True
            changes += CHURN_GROUP
            it.wait(CHURN_GROUP / 10)
        while time.monotonic() - began < it.seconds and not it.stop.is_set():
            process = arena.supervisor[it.dice.choice(groups)]
            process.signal(it.dice.choice([signal.SIGTERM, signal.SIGKILL]))  # and it is started again
            changes += 2 * CHURN_GROUP
            it.wait(2 * CHURN_GROUP / 10)
    finally:
        for name in groups:
            if name in arena.supervisor.names:
                arena.supervisor[name].wanted = False
        for name in groups:
            if name in arena.supervisor.names:
                arena.supervisor.stop(name)
    it.details["changes"] = changes
    joined = it.rows(
        "SELECT count(DISTINCT node) FROM authority_incarnation"
        " WHERE node LIKE 'churn-%%' AND registered_at > to_timestamp(%s)",
        it.began_at,
    )[0][0]
    it.details["nodes_that_joined"] = joined
    it.cut_short = joined < CHURN_GROUPS * CHURN_GROUP


def rolling_restart(it: Occasion) -> None:
    """Every process in turn, as for a new version; the database last."""
    for name in [*it.arena.nodes, "worker", "beat", "daphne"]:
        it.arena.supervisor.stop(name)
        it.arena.supervisor.start(name)
        it.wait(1.0)
    servers = it.arena.servers
    with it.database_lost():
        servers.stop(servers.primary)
        servers.start(servers.primary)


def crash_points(it: Occasion) -> None:
    """Processes die just before and just after a commit, at named places, one after another; at one at least.

    Some places are rarely come by: it goes on until something has died.
    """
    folder, end = it.arena.crash_points, time.monotonic() + it.seconds
    crashed: list[str] = []
    while not it.stop.is_set() and time.monotonic() < end + (0 if crashed else BACK_S):
        point = it.dice.choice(POINTS)
        before = crashes(folder)
        arm(folder, point)
        armed = time.monotonic()
        while crashes(folder) == before and time.monotonic() - armed < 2:
            it.wait(POLL_S)
        (folder / point).unlink(missing_ok=True)
        if crashes(folder) != before:
            crashed.append(point)
    it.details["crashed"] = crashed
    it.cut_short = not crashed
