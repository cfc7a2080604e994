"""Orders sent and cancelled by hand in a browser: each is there once, whatever becomes of clicks and answers."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from playwright.sync_api import Locator, Page, Request, Route, expect

from tests.browser.conftest import Visitors, keep
from tests.support import System

SEND = re.compile("^Send")
PLACES = ["/orders/", "/symbols/ALFA/"]


@pytest.fixture
def lot(market: System) -> tuple[Decimal, Decimal]:
    """ALFA's lot, and the lowest price there is, at which an order to buy only rests."""
    with market.connect() as connection:
        row = connection.execute("SELECT lot_size, tick_size FROM exchange_symbol WHERE name = 'ALFA'").fetchone()
    assert row is not None
    return row[0], row[1]


def ticket_of(page: Page, quantity: Decimal, price: Decimal | None = None) -> Locator:
    """The page's ticket, filled in to buy ALFA: at the market without a price."""
    ticket = page.locator("#ticket")
    if ticket.get_by_label("Symbol").count():
        ticket.get_by_label("Symbol").fill("ALFA")
    ticket.get_by_role("radio", name="Market" if price is None else "Limit").check()
    ticket.get_by_label("Quantity").fill(f"{quantity:f}")
    if price is not None:
        ticket.get_by_label("Price").fill(f"{price:f}")
        ticket.get_by_label("Time in force").select_option("GTC")
    return ticket


def id_of(ticket: Locator) -> str:
    return ticket.locator("input[name=client_order_id]").input_value()


def told_ids(posts: list[Request]) -> list[str]:
    """The order ids of what was posted."""
    return re.findall(r'name="client_order_id"\s+(ui-[0-9a-f]+)', "".join(post.post_data or "" for post in posts))


def watched(page: Page) -> list[Request]:
    """Every order that the page posts from now on."""
    posts: list[Request] = []
    page.on("request", lambda one: posts.append(one) if one.url.endswith("/orders/new/") else None)
    return posts


def by_hand(system: System) -> dict[str, str]:
    """Every order sent by a ticket, with its status."""
    with system.connect() as connection:
        return dict(
            connection.execute(
                "SELECT client_order_id, status FROM exchange_order WHERE starts_with(client_order_id, 'ui-')"
            ).fetchall()
        )


@pytest.mark.parametrize("path", PLACES)
def test_a_double_click_sends_one_order(
    market: System, visitors: Visitors, lot: tuple[Decimal, Decimal], path: str
) -> None:
    page = visitors.page(market, path)
    posts, before = watched(page), by_hand(market)
    ticket = ticket_of(page, lot[0])
    ours = id_of(ticket)
    ticket.get_by_role("button", name=SEND).dblclick()
    expect(ticket.get_by_role("status")).to_contain_text("Bought")
    assert told_ids(posts) == [ours], "the second click asked for nothing"
    assert by_hand(market).keys() - before.keys() == {ours}
    expect(ticket.get_by_role("button", name="Sent")).to_be_disabled()


@pytest.mark.parametrize("path", PLACES)
def test_an_order_whose_answer_is_lost_is_sent_again_as_the_same_one(
    market: System, visitors: Visitors, lot: tuple[Decimal, Decimal], path: str
) -> None:
    visitors.forgiven = [r"ERR_FAILED"]
    page = visitors.page(market, path)
    posts, before = watched(page), by_hand(market)

    def lose(route: Route) -> None:
        assert route.fetch().ok, "it was taken"
        route.abort()

    page.route("**/orders/new/", lose, times=1)
    ticket = ticket_of(page, lot[0])
    ours = id_of(ticket)
    ticket.get_by_role("button", name=SEND).click()
    result = ticket.get_by_role("status")
    expect(result).to_contain_text("The order may have been taken, or not.")
    assert "Bought" not in result.inner_text()
    keep(page, f"order-unknown{path.replace('/', '-')}")
    assert by_hand(market).keys() - before.keys() == {ours}

    page.reload()  # whoever doubts the page does this first: it still knows which order that was
    expect(result).to_contain_text("has not heard what came of it")
    ticket.get_by_role("button", name="Send again").click()
    expect(result).to_contain_text("Bought")
    expect(result).to_contain_text("It was taken once.")
    expect(ticket.get_by_role("button", name="Sent")).to_be_disabled()
    assert told_ids(posts) == [ours, ours]
    assert by_hand(market).keys() - before.keys() == {ours}
    result.get_by_role("link", name="Look it up").click()
    expect(page.locator("#orders tbody tr")).to_have_count(1)
    expect(page.locator("#orders tbody tr")).to_have_attribute("data-order", ours)


@pytest.mark.parametrize("path", PLACES)
def test_a_resting_order_is_found_from_its_ticket_and_cancelled(
    market: System, visitors: Visitors, lot: tuple[Decimal, Decimal], path: str
) -> None:
    page = visitors.page(market, path)
    ticket = ticket_of(page, *lot)
    ours = id_of(ticket)
    ticket.get_by_role("button", name=SEND).click()
    result = ticket.get_by_role("status")
    expect(result).to_contain_text("is in the book. Nothing has traded yet.")
    assert by_hand(market)[ours] == "resting"

    result.get_by_role("link", name="Look it up").click()
    expect(page.locator("#status")).to_have_attribute("data-state", "live")
    page.get_by_role("button", name=f"Cancel order {ours}").click()
    expect(page.locator("#toasts")).to_contain_text(f"Order {ours} cancelled")
    row = page.locator(f'#orders tr[data-order="{ours}"]')
    expect(row).to_have_attribute("data-status", "cancelled")
    expect(row.get_by_role("button")).to_have_count(0)
    assert by_hand(market)[ours] == "cancelled"
    page.reload()
    expect(row.locator(".told")).to_contain_text("Cancelled")
