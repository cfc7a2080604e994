"""The catalogue of faults: every kind that a schedule draws from. Numbers are those of docs/chaos.md."""

from __future__ import annotations

from typing import Final

from chaos.arena import CLOCK_NODE, NETWORK_NODE
from chaos.faults.database import (
    connections_taken,
    deadlock,
    disk_full,
    failover,
    old_primary_returns,
    postgres_kill,
    postgres_restart,
    short_statements,
)
from chaos.faults.network import (
    late_write,
    listeners_lost,
    partition_both,
    partition_network,
    partition_one_way,
    reset_around_commit,
    slow_network,
)
from chaos.faults.operators import daphne_killed_in_toggle, kill_switch, poison
from chaos.faults.programs import (
    churn,
    crash_points,
    node_clock,
    node_kill,
    node_starved,
    node_stop,
    node_stop_in_statement,
    rolling_restart,
)
from chaos.faults.work import broker_emptied, fills_twice, hot_symbol, same_order, tasks_redelivered
from chaos.host import can_mount, faketime_library, has_namespaces
from chaos.occasion import Fault


def _needs_namespace() -> str | None:
    return None if has_namespaces() else "root and iproute2, for a network namespace"


def _needs_disk() -> str | None:
    return None if can_mount() else "root, to mount a small file system"


def _needs_clock() -> str | None:
    return None if faketime_library() else "libfaketime (apt-get install faketime)"


ONE: Final = ("node",)
DATABASE: Final = ("database",)
FAULTS: Final = (
    Fault(1, "node_kill", "a node is killed", (1, 2), node_kill, ONE),
    Fault(2, "node_stop", "a node is stopped beyond its TTL", (4, 8), node_stop, ONE),
    Fault(2, "node_stop_in_statement", "the same in the middle of a statement", (4, 8), node_stop_in_statement, ONE),
    Fault(3, "node_starved", "a node gets a tenth of a CPU's time", (4, 10), node_starved, ONE),
    Fault(4, "postgres_kill", "PostgreSQL is killed", (0, 1), postgres_kill, DATABASE),
    Fault(5, "postgres_restart", "PostgreSQL is stopped and started", (0.5, 6), postgres_restart, DATABASE),
    Fault(6, "failover", "the primary is killed, the standby promoted", (2, 5), failover, DATABASE),
    Fault(7, "old_primary_returns", "... and the old primary comes back", (5, 10), old_primary_returns, DATABASE),
    Fault(8, "partition_both", "a node is cut off", (2, 9), partition_both, ONE),
    Fault(8, "partition_one_way", "a node is cut off one way", (2, 9), partition_one_way, ONE),
    Fault(
        8, "partition_network", "a node's network is unplugged", (2, 9), partition_network, ONE,
        (NETWORK_NODE,), _needs_namespace,
    ),
    Fault(8, "late_write", "a quote arrives after its lease", (4, 7), late_write, ("node", "database", "network")),
    Fault(8, "slow_network", "latency and little bandwidth", (4, 10), slow_network, ("network",)),
    Fault(9, "reset_around_commit", "connections reset around commits", (5, 10), reset_around_commit, ("network",)),
    Fault(10, "node_clock", "a node's clock is wrong", (6, 12), node_clock, ("clock",), (CLOCK_NODE,), _needs_clock),
    Fault(11, "disk_full", "the database's disk is full", (3, 6), disk_full, DATABASE, needs=_needs_disk),
    Fault(12, "connections_taken", "all ordinary connections taken", (6, 9), connections_taken, ("database", "node")),
    Fault(13, "hot_symbol", "32 writers on one symbol", (3, 6), hot_symbol, ("flow",)),
    Fault(14, "same_order", "an order 50 times at once", (1, 2), same_order, ("flow",)),
    Fault(15, "fills_twice", "fills recorded again", (1, 2), fills_twice, ("ledger",)),
    Fault(16, "tasks_redelivered", "tasks redelivered, worker killed", (5, 10), tasks_redelivered, ("tasks",)),
    Fault(17, "daphne_killed_in_toggle", "Daphne killed in a toggle", (1, 2), daphne_killed_in_toggle, ("web",)),
    Fault(17, "kill_switch", "a symbol off and on", (1, 4), kill_switch, ("web",)),
    Fault(18, "listeners_lost", "listeners ended, doorbells forged", (3, 6), listeners_lost, ("bell",)),
    Fault(19, "poison", "poison input", (1, 2), poison, ("web",)),
    Fault(20, "churn", "50 nodes joining and leaving", (12, 18), churn, ("database", "churn")),
    Fault(21, "rolling_restart", "everything restarted in turn", (1, 2), rolling_restart,
          ("database", "node-1", "node-2", "node-3", "web", "tasks")),
    Fault(22, "short_statements", "statement_timeout of 50 ms", (3, 6), short_statements, DATABASE),
    Fault(23, "broker_emptied", "the broker lost and emptied", (2, 5), broker_emptied, ("tasks",)),
    Fault(25, "crash_points", "processes die around their commits", (6, 12), crash_points, ("crash",)),
    Fault(24, "deadlock", "a command loses a deadlock", (1, 2), deadlock, ("database", "web")),
)  # fmt: skip


def by_name(name: str) -> Fault | None:
    return next((fault for fault in FAULTS if fault.name == name), None)


assert len({fault.name for fault in FAULTS}) == len(FAULTS), "names are unique"
