"""The bulk: the application without Daphne before it, on a database where nobody else writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connections

from accounts.permissions import ADMIN, VIEWER
from mmproject.conf import conf
from tests.fuzz.application import Eye, Judge, Log
from tests.fuzz.inputs import World, input_at
from tests.fuzz.oracle import Tally, report, shortest
from tests.market import HandMarket
from tests.support import scratch_database
from tests.web.client import HOST, client_of
from tests.web.conftest import worked
from tests.web.stream import cookie_of


@pytest.fixture(scope="module")
def market(server: str, template: str) -> Iterator[HandMarket]:
    """A market with orders in every state, its nodes gone quiet: from here on only requests write."""
    with scratch_database(server, conf.var, template) as database, database.django("console"):
        for made in worked(database):
            ask = made.best("ALFA")[1]
            lot, tick = made.specs["ALFA"].lot_size, made.specs["ALFA"].tick_size
            made.send("c-rests", "ALFA", "buy", lot, ask - 50 * tick, "GTC")
            made.send("c-takes", "ALFA", "buy", lot)
            made.send("c-kill", "ALFA", "buy", lot * 10_000_000, ask, "FOK")
            yield made


@pytest.fixture(scope="module")
def world(market: HandMarket) -> World:
    full, viewer = client_of("desk", ADMIN), client_of("vera", VIEWER)
    User.objects.filter(username="desk").update(is_staff=True)
    session = cookie_of("desk").decode().partition("=")[2]
    assert full.token is not None
    assert viewer.token is not None
    return World(
        host=HOST,
        port=conf.port,
        token=full.token,
        viewer=viewer.token,
        session=session,
        symbols=market.symbols,
        nodes=tuple(market.nodes),
        orders=("c-rests", "c-takes", "c-kill"),
        fills=tuple(row[0] for row in market.rows("SELECT fill_id FROM ledger_fill ORDER BY 1 LIMIT 5")),
    )


@pytest.fixture
def _one_connection(market: HandMarket) -> Iterator[None]:
    """The requests' connection is kept from one to the next, as a pool's would be."""
    description = connections.settings["default"]
    before = dict(description)
    description.update(CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=False)
    yield
    description.update(before)


@pytest.mark.timeout(3_600)
@pytest.mark.usefixtures("_one_connection")
def test_bad_input_is_refused_by_the_application_and_changes_nothing(
    market: HandMarket, world: World, phase: Callable[..., Tally], seed: int, first: int
) -> None:
    assert f"mm_session_{world.port}" == settings.SESSION_COOKIE_NAME
    tally = phase("application", over_the_wire=False)
    with Log().heard() as log:
        judge = Judge(Eye(market.admin), log)
        for number in count(first):
            sent = input_at(seed, number, world)
            status, fault = judge.judge(sent)
            tally.count(status)
            if fault:
                shrunk = shortest(sent, fault, lambda other: judge.judge(other)[1])
                pytest.fail(report(seed, number, sent, fault, f"http://{HOST}", shrunk), pytrace=False)
            if tally.is_done:
                break
