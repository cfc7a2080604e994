"""Memory and CPU of processes, from the operating system."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

import psutil

from bench.scaffold import Connection

MIB: Final = 1024 * 1024


def postgres_of(connection: Connection) -> psutil.Process | None:
    """The server's first process, if it runs on this machine and may be looked at."""
    row = connection.execute(
        "SELECT pg_backend_pid(), inet_server_addr() IS NULL OR inet_server_addr() <<= '127.0.0.0/8'"
    )
    pid, is_here = row.fetchone() or (0, False)
    if not is_here:
        return None
    try:
        backend = psutil.Process(pid)
        parent = backend.parent()
        return parent if parent is not None and "postgres" in backend.name() else None
    except psutil.Error:
        return None


def rss_mib(pid: int) -> float:
    """Resident memory."""
    return float(psutil.Process(pid).memory_info().rss) / MIB


def private_mib(processes: Iterable[psutil.Process]) -> float:
    """Memory that belongs to these alone, in all: PostgreSQL's processes share most of theirs."""
    total = 0
    for process in processes:
        try:
            total += process.memory_full_info().uss
        except psutil.Error:
            continue  # it has ended meanwhile
    return total / MIB


def family(process: psutil.Process) -> list[psutil.Process]:
    """The process and its children."""
    try:
        return [process, *process.children()]
    except psutil.Error:
        return []


def cpu_s(processes: Iterable[psutil.Process]) -> dict[int, float]:
    """User and system seconds that each has used so far, by pid."""
    used = {}
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        used[process.pid] = times.user + times.system
    return used


def own_process() -> psutil.Process:
    return psutil.Process(os.getpid())


def machine_busy_s() -> float:
    """Seconds that all cores together have been busy since the machine started, whoever kept them so."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))
