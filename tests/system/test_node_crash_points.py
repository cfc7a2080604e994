"""Each crash point of a node is crashed, and what follows is right.

When it has died, what the database did for it is compared with what it logged of the answers that it got. Died before
the statement: the same. Died after the answer: the database has done what nobody was told of.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest

from bench.nodes import Market, Node, node_market
from mmproject.conf import conf
from mmproject.crashpoints import POINTS, Crash, Point, arm, crashes
from mmproject.verify import verify
from tests.support import eventually, scratch_database

NODES: Final = 3
SYMBOLS: Final = 6  # two a node, so that each of two survivors has one to take over
LONG: Final = {"MM_LEASE_TTL_MS": "60000", "MM_RENEW_INTERVAL_MS": "500"}  # so that nothing below is an expiry
CRASH_TIMEOUT_S: Final = 60  # on a machine that is busy with other tests
KILLED: Final = -9

pytestmark = pytest.mark.timeout(240)

Facts = set[Any]

# By statement: what the database has done of it for a node, its incarnation, and the incarnation of one that was lost.
DONE: Final = {
    "register": "SELECT id::text FROM authority_incarnation WHERE node = %(node)s",
    "renew": "SELECT expires_at FROM authority_incarnation WHERE id = %(incarnation)s",
    "assign": "SELECT generation FROM authority_rebalance WHERE applied_by = %(node)s",
    "sweep": "SELECT id::text FROM authority_incarnation WHERE id = %(lost)s AND end_reason = 'session_lost'",
    "acquire": "SELECT symbol, epoch FROM authority_tenure WHERE incarnation = %(incarnation)s",
    "release": "SELECT symbol, epoch FROM authority_tenure WHERE incarnation = %(incarnation)s AND reason = 'released'",
    "replace": """SELECT symbol, epoch, version FROM exchange_quoteversion
                   WHERE incarnation = %(incarnation)s AND withdrawn_reason IS NULL""",
    "leave": "SELECT id::text FROM authority_incarnation WHERE id = %(incarnation)s AND end_reason = 'released'",
}
INCARNATION: Final = "SELECT id FROM authority_incarnation WHERE node = %s AND ended_at IS NULL"
# Symbols without a live quote of their holder's own, or held by one of these nodes.
UNQUOTED: Final = """
    SELECT count(*) FROM exchange_quote q
      LEFT JOIN authority_lease_in_force l ON l.symbol = q.symbol AND l.epoch = q.quote_epoch
     WHERE l.node IS NULL OR q.valid_until <= clock_timestamp() OR l.node = ANY (%s)
"""


def statement(point: Point) -> str:
    """What is sent between NAME.before and NAME.after."""
    return point.partition(".")[0]


def known(node: Node, point: Point) -> Facts:
    """What the node logged of its statement's answers, in the terms of DONE."""

    def of(event: str, *fields: str) -> Facts:
        return {tuple(found[name] for name in fields) for found in node.events(event)}

    def by_symbol(event: str, field: str) -> list[tuple[str, Any]]:
        return [item for found in node.events(event) for item in found[field].items()]

    match statement(point):
        case "register":
            return of("registered", "incarnation")
        case "renew":
            told = of("registered", "expires_at") | of("renewed", "expires_at")
            return {(datetime.fromisoformat(at),) for (at,) in told}
        case "assign":
            return {
                (generation,) for generation, answer in of("rebalanced", "generation", "answer") if answer == "applied"
            }
        case "sweep":
            return of("swept", "incarnation")
        case "acquire":
            return set(by_symbol("granted", "epochs"))
        case "release":
            return set(by_symbol("released", "epochs"))
        case "replace":
            return {(symbol, *epoch_version) for symbol, epoch_version in by_symbol("quoted", "epochs_versions")}
        case "leave":
            return of("left", "incarnation")
    raise AssertionError(point)


@pytest.fixture(scope="module")
def crashing(server: str, template: str) -> Iterator[tuple[Market, Path]]:
    """Nodes of a test build, and the folder that arms their crash points."""
    with (
        tempfile.TemporaryDirectory(prefix="mm-crash-") as folder,
        scratch_database(server, conf.var, template) as made,
    ):
        env = {"MM_TEST_BUILD": "1", "MM_CRASH_POINTS": folder, "MM_LOG_LEVEL": "DEBUG"}
        with node_market(made, SYMBOLS, **LONG, **env) as market:
            yield market, Path(folder)


def all_quote(market: Market) -> None:
    """Start the nodes that don't run, and wait until all quote their share."""
    for name in (f"node-{number}" for number in range(1, NODES + 1)):
        node = market.nodes.get(name)
        if node is None or node.process.poll() is not None:
            if node is not None:
                node.close()
            market.start(name)
    market.balanced(NODES)


@pytest.mark.parametrize("point", [point for point in POINTS if statement(point) in DONE])
def test_what_follows_a_nodes_crash_is_right(crashing: tuple[Market, Path], point: Point) -> None:
    market, folder = crashing
    all_quote(market)
    victim, lost, provoke = SCENES[statement(point)]
    nodes = {name: market.nodes[name] for name in (victim, lost)}
    incarnations = {name: market.value(INCARNATION, name) for name in nodes}
    names = {"node": victim, "incarnation": incarnations[victim], "lost": incarnations[lost]}

    def done() -> Facts:
        return set(market.admin.execute(DONE[statement(point)], names).fetchall())

    before = done()
    arm(folder, point, process=victim)
    node = provoke(market)
    assert node.process.wait(CRASH_TIMEOUT_S) == KILLED
    try:
        assert Crash(point, node.pid) in crashes(folder)
        unknown = done() - before - known(node, point)
    finally:  # it may have been stopped, so as not to do what the victim was about to
        market.nodes["node-3"].signal(signal.SIGCONT)

    assert bool(unknown) == point.endswith(".after"), unknown
    is_quoted = "SELECT 0 = (" + UNQUOTED + ")"
    eventually(lambda: market.value(is_quoted, [victim, lost]), CRASH_TIMEOUT_S, "the others quote all symbols")
    left = {incarnations[victim]} if point == "leave.after" else set()
    reasons = "SELECT DISTINCT end_reason FROM authority_incarnation WHERE id = ANY (%s)"
    gone = list({*incarnations.values()} - left)
    eventually(
        lambda: market.rows(reasons, gone) in ([], [("session_lost",)]), CRASH_TIMEOUT_S, "they are seen to be gone"
    )
    all_quote(market)
    report = verify(market.admin)
    assert report.broken == [], [verdict.rows for verdict in report.verdicts if not verdict.ok]


def started_again(market: Market) -> Node:
    market.nodes["node-2"].kill()
    market.nodes["node-2"].close()
    return market.start("node-2")


def left_alone(market: Market) -> Node:
    return market.nodes["node-2"]


def told_a_new_price(market: Market) -> Node:
    market.advance()
    return market.nodes["node-2"]


def told_to_stop(market: Market) -> Node:
    market.nodes["node-2"].signal(signal.SIGTERM)
    return market.nodes["node-2"]


def neighbour_lost(market: Market) -> Node:
    market.nodes["node-3"].signal(signal.SIGSTOP)  # until the other has died: it would do the same work
    market.nodes["node-2"].kill()
    return market.nodes["node-1"]


# Who crashes, who is killed for it (or the same), and what makes it send the statement. The first node watches the
# second, and takes over one of its two symbols.
SCENES: Final[dict[str, tuple[str, str, Callable[[Market], Node]]]] = {
    "register": ("node-2", "node-2", started_again),
    "renew": ("node-2", "node-2", left_alone),
    "assign": ("node-1", "node-2", neighbour_lost),
    "sweep": ("node-1", "node-2", neighbour_lost),
    "acquire": ("node-1", "node-2", neighbour_lost),
    "release": ("node-2", "node-2", told_to_stop),
    "replace": ("node-2", "node-2", told_a_new_price),
    "leave": ("node-2", "node-2", told_to_stop),
}
