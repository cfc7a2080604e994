"""A market worked by hand behind the HTTP API, and clients of it with different rights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client

from accounts.permissions import ADMIN, OPERATOR
from mmproject import provision
from mmproject.conf import conf
from tests.market import HandMarket
from tests.support import Database, scratch_database
from tests.web.client import ApiClient, client_of, signed_in


def worked(database: Database) -> Iterator[HandMarket]:
    """Three symbols, two nodes that hold and quote them, a few steps of trading."""
    made = HandMarket(database, symbols=3)
    made.join("node-1")
    made.join("node-2")
    made.rebalance("both joined")
    made.tick(3)
    yield made
    for node in made.nodes.values():
        node.connection.close()


@pytest.fixture
def market(django_database: Database) -> Iterator[HandMarket]:
    """A market of the test's own; Django acts as the console."""
    yield from worked(django_database)


@pytest.fixture
def api(market: HandMarket) -> ApiClient:
    """A client that may do everything, by its token."""
    return client_of("desk", ADMIN)


@pytest.fixture
def operator(market: HandMarket) -> Client:
    """An operator's browser, signed in."""
    return signed_in("ola", OPERATOR)


@pytest.fixture
def unreachable(market: HandMarket) -> Iterator[Callable[[], None]]:
    """Calling it takes the database away from Django."""
    before: list[dict[str, Any]] = []
    yield lambda: before.append(provision.point_django_at("postgresql://nobody@127.0.0.1:9/none"))
    if before:
        provision.point_django_at(market.database.url("console"))


@pytest.fixture(scope="module")
def standing_market(server: str, template: str) -> Iterator[HandMarket]:
    """One market for all tests of a module: for those that change nothing. It has fills on both sides of ALFA."""
    with scratch_database(server, conf.var, template) as database, database.django("console"):
        for made in worked(database):
            for number in range(4):
                quantity = made.specs["ALFA"].lot_size * (number + 1)
                made.send(f"c-{number}", "ALFA", "buy" if number % 2 else "sell", quantity)
                made.quote_all()
            yield made


@pytest.fixture(scope="module")
def standing_api(standing_market: HandMarket) -> ApiClient:
    """A client of it that may do everything."""
    return client_of("desk", ADMIN)
