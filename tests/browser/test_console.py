"""The console in a browser: what an operator sees and does, while things go well and while they fail."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from contextlib import suppress

import httpx
import psutil
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visitors, keep
from tests.support import System, eventually

SYMBOLS = ["ALFA", "BRAVO", "CHARLIE", "DELTA", "ECHO", "FOXTROT"]  # of the `market`
PAGES = ["/", "/symbols/ALFA/", "/authority/", "/fills/", "/orders/"]
NOTHING = "\N{EN DASH}"  # what stands where there is no value
SERIOUS = frozenset({"serious", "critical"})


def cell(page: Page, symbol: str, name: str) -> str:
    return page.locator(f'#symbols-body tr[data-symbol="{symbol}"] .c-{name}').inner_text()


def number(text: str) -> int:
    return int(re.sub(r"[^0-9]", "", text))


def fills_shown(page: Page) -> int:
    return number(page.locator("#stat-fills dd").inner_text())


def value(system: System, query: str) -> int:
    with system.connect() as connection:
        (number,) = connection.execute(query.encode()).fetchone() or (None,)
    return int(number or 0)


def fills_kept(system: System) -> int:
    return value(system, "SELECT count(*) FROM ledger_fill")


def newest_audit(system: System) -> int:
    return value(system, "SELECT max(id) FROM journal_audit")


def orders_step(system: System) -> int:
    return value(system, "SELECT orders_step FROM exchange_clock")


# Coming in


def test_signing_in_and_out(market: System, visitors: Visitors) -> None:
    page = visitors.page(market)
    expect(page.locator("#symbols-body tr[data-symbol]")).to_have_count(6)
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile(r"/login/"))
    page.goto(f"{market.url}/fills/")
    expect(page).to_have_url(re.compile(r"/login/\?next=/fills/"))


def test_a_wrong_password_says_so(market: System, visitors: Visitors) -> None:
    page = visitors.context().new_page()
    visitors.watch(page)
    page.goto(f"{market.url}/login/")
    page.get_by_label("Username").fill("nobody")
    page.get_by_label("Password").fill("guess")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()


# Seeing


def test_the_page_lives(market: System, visitors: Visitors) -> None:
    page = visitors.page(market)
    before = cell(page, "ALFA", "bid"), fills_shown(page)
    eventually(lambda: cell(page, "ALFA", "bid") != before[0], 20, "the bid follows the price")
    eventually(lambda: fills_shown(page) > before[1], 20, "fills are counted")
    expect(page.locator("#feed li").first).to_be_visible()
    for node in ("node-1", "node-2", "node-3"):
        expect(page.locator("#nodes-list")).to_contain_text(node)
    eventually(
        lambda: abs(fills_shown(page) - fills_kept(market)) <= 5, 20, "the page shows about as many as there are now"
    )


def test_sorting_and_filtering_survive_a_reload(market: System, visitors: Visitors) -> None:
    page = visitors.page(market)
    rows = page.locator("#symbols-body tr[data-symbol] .c-symbol")
    page.get_by_role("button", name="Symbol", exact=True).click()
    expect(rows).to_have_text(SYMBOLS[::-1])
    page.get_by_role("searchbox").fill("alf")
    expect(page.locator("#symbols-body tr[data-symbol]")).to_have_count(1)
    page.reload()
    expect(page.locator("#symbols-body tr[data-symbol]")).to_have_count(1)
    page.get_by_role("button", name="Clear").click()
    expect(rows).to_have_text(SYMBOLS[::-1])


def test_the_rows_are_never_in_another_order_than_their_header_says(market: System, visitors: Visitors) -> None:
    page = visitors.page(market)
    expect(page.locator("#symbols-body tr[data-symbol]")).to_have_count(len(SYMBOLS))
    for sort, names in [("descending", SYMBOLS[::-1]), ("ascending", SYMBOLS)] * 5:
        seen = page.evaluate(
            """() => {
                const button = document.querySelector("#symbols thead button[data-sort=symbol]");
                button.click();
                const rows = [...document.querySelectorAll("#symbols-body tr[data-symbol]")];
                return [button.closest("th").ariaSort, rows.map((row) => row.dataset.symbol)];
            }"""
        )
        assert seen == [sort, names]


def test_the_activity_pauses_and_goes_on(market: System, visitors: Visitors) -> None:
    page = visitors.page(market)
    expect(page.locator("#feed li").first).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    first = page.locator("#feed li").first.get_attribute("data-id")
    expect(page.locator("#feed-count")).to_contain_text("new")
    assert page.locator("#feed li").first.get_attribute("data-id") == first
    page.get_by_role("button", name="Go on").click()
    eventually(lambda: page.locator("#feed li").first.get_attribute("data-id") != first, 10, "it goes on")


# Acting


def test_a_toggle_on_one_page_is_seen_on_another(market: System, visitors: Visitors) -> None:
    acting, watching = visitors.page(market), visitors.page(market)
    switch = acting.get_by_role("switch", name="Quoting BRAVO")
    seen = watching.get_by_role("switch", name="Quoting BRAVO")
    before = newest_audit(market)
    try:
        switch.click()
        expect(switch).to_have_attribute("aria-checked", "false")
        expect(seen).to_have_attribute("aria-checked", "false")
        eventually(lambda: cell(watching, "BRAVO", "bid") == NOTHING, 5, "its quote is gone")
        switch.click()
        expect(switch).to_have_attribute("aria-checked", "true")
        expect(seen).to_have_attribute("aria-checked", "true")
        eventually(lambda: cell(watching, "BRAVO", "bid") != NOTHING, 10, "it is quoted again")
    finally:
        market.manage("quoting", "on", "--all", "--reason", "the test is over")
    with market.connect() as connection:
        audited = connection.execute(
            "SELECT actor, action FROM journal_audit WHERE target = 'BRAVO' AND id > %s ORDER BY id LIMIT 2", [before]
        ).fetchall()
    assert audited == [("operator", "quoting_off"), ("operator", "quoting_on")]


def test_stopping_all_asks_first_and_says_when_it_is_done(market: System, visitors: Visitors) -> None:
    page = visitors.page(market, "/fills/")
    before = newest_audit(market)
    page.get_by_role("button", name="Stop all quoting").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("all 6 symbols")
    dialog.get_by_role("button", name="Keep quoting").click()
    expect(dialog).to_be_hidden()
    expect(page.locator("#stat-quoted dd")).to_have_text("6 / 6")
    assert newest_audit(market) == before, "nothing was asked for"

    page.get_by_role("button", name="Stop all quoting").click()
    dialog.get_by_role("button", name="Stop all quoting").click()
    try:
        expect(page.locator("#toasts")).to_contain_text("Quoting stopped for 6 symbols")
        expect(page.locator("#stat-quoted dd")).to_have_text("0 / 0")
        expect(page.get_by_role("button", name="Stop all quoting")).to_be_disabled()
        fills, step = fills_kept(market), orders_step(market)
        eventually(lambda: orders_step(market) > step + 1, 20, "orders come")
        assert fills_kept(market) == fills, "and none is filled by us"
    finally:
        market.manage("quoting", "on", "--all", "--reason", "the test is over")
    expect(page.locator("#stat-quoted dd")).to_have_text("6 / 6")


def test_what_could_not_be_stopped_is_said_until_somebody_has_taken_note(market: System, visitors: Visitors) -> None:
    visitors.forgiven = [r"503"]  # the answer
    page = visitors.page(market)
    try:
        with market.connect() as holder, holder.transaction():
            holder.execute("SELECT FROM exchange_quote WHERE symbol = 'BRAVO' FOR UPDATE")
            page.get_by_role("button", name="Stop all quoting").click()
            page.get_by_role("dialog").get_by_role("button", name="Stop all quoting").click()
            said = page.locator("#toasts .bad")
            expect(said).to_contain_text(
                re.compile("of 6 symbols, but could not be turned off for .*BRAVO"), timeout=10_000
            )
        bravo = page.locator("#symbols-body tr[data-symbol=BRAVO]")
        expect(bravo.get_by_role("switch")).to_have_attribute("aria-checked", "true")
        keep(page, "could-not-be-stopped")
        bravo.get_by_role("switch").click()
        went_well = page.locator("#toasts .toast:not(.bad)")
        expect(went_well).to_have_text("Quoting off for BRAVO")
        expect(went_well).to_have_count(0, timeout=15_000)
        expect(said).to_be_visible()
        said.get_by_role("button", name="Dismiss").click()
        expect(said).to_have_count(0)
    finally:
        market.manage("quoting", "on", "--all", "--reason", "the test is over")
    expect(page.locator("#stat-quoted dd")).to_have_text("6 / 6")


def test_a_viewer_sees_and_may_do_nothing(market: System, visitors: Visitors) -> None:
    page = visitors.page(market, viewer=True)
    expect(page.locator("#symbols-body tr[data-symbol]")).to_have_count(6)
    assert page.get_by_role("switch").count() == 0
    assert page.get_by_role("button", name=re.compile("Stop all|Start all|Drain")).count() == 0
    cookies = {one["name"]: one["value"] for one in page.context.cookies() if "name" in one and "value" in one}
    token = next(value for name, value in cookies.items() if name.startswith("mm_csrf"))
    with httpx.Client(base_url=market.url, cookies=cookies, headers={"X-CSRFToken": token}) as client:
        for path, fields in [
            ("/quoting/", {"enabled": "false"}),
            ("/symbols/ALFA/quoting/", {"enabled": "false"}),
            ("/nodes/node-1/draining/", {"draining": "true"}),
        ]:
            assert client.post(path, data=fields).status_code == 403, path


# Two tabs of one browser


def test_two_tabs_show_the_same(market: System, visitors: Visitors) -> None:
    first = visitors.page(market)
    second = first.context.new_page()
    visitors.watch(second)
    second.goto(f"{market.url}/")
    expect(second.locator("#status")).to_have_attribute("data-state", "live")
    eventually(
        lambda: all(cell(first, name, "bid") == cell(second, name, "bid") for name in ("ALFA", "BRAVO", "CHARLIE")),
        10, "both tabs show the same quotes",
    )  # fmt: skip


# For everybody


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
@pytest.mark.parametrize("path", PAGES)
def test_no_page_keeps_anybody_out(market: System, visitors: Visitors, path: str, phone: bool, scheme: str) -> None:
    page = visitors.page(market, path, phone=phone, scheme=scheme)
    keep(page, f"page{path.replace('/', '-')}{'phone' if phone else 'desk'}-{scheme}", whole=phone)
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    serious = [
        (one["id"], one["impact"], [node["html"][:160] for node in one["nodes"][:3]])
        for one in found
        if one["impact"] in SERIOUS
    ]
    assert serious == []
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, "the page is wider than the screen"


# While things fail


def test_a_killed_node_is_seen_and_so_is_who_took_over(system: Callable[..., System], visitors: Visitors) -> None:
    market = system(nodes=2, symbols=4, MM_TICK_MS="500")
    page, timeline = visitors.page(market), visitors.page(market, "/authority/")
    eventually(
        lambda: {cell(page, name, "holder").strip() for name in ("ALFA", "BRAVO", "CHARLIE", "DELTA")}
        == {"node-1", "node-2"},
        30, "both nodes hold something",
    )  # fmt: skip
    market.signal("node-1", signal.SIGKILL)
    expect(page.locator("#feed")).to_contain_text("node-1 ended")
    expect(timeline.locator("#lives-list")).to_contain_text("Connection to the database lost")
    expect(timeline.locator("#changes-list")).to_contain_text(re.compile("After node-1: connection .* lost", re.I))
    keep(timeline, "after-a-kill")


def test_a_database_that_stops_and_comes_back(system: Callable[..., System], visitors: Visitors) -> None:
    visitors.forgiven = [r"WebSocket connection", r"503", r"Failed to load resource", r"ERR_CONNECTION"]
    market = system(nodes=1, symbols=3, MM_TICK_MS="500")
    page = visitors.page(market)
    eventually(lambda: fills_shown(page) > 0, 30, "there are fills")
    postmaster = psutil.Process(market.pid("postgres"))
    frozen = [postmaster, *postmaster.children(recursive=True)]
    try:
        for process in frozen:
            with suppress(psutil.NoSuchProcess):  # a connection that has just ended
                process.suspend()
        expect(page.locator("#status")).not_to_have_attribute("data-state", "live")
        expect(page.locator("#status-age")).to_contain_text("old")
        keep(page, "database-away")
    finally:
        for process in frozen:
            with suppress(psutil.NoSuchProcess):
                process.resume()
    expect(page.locator("#status")).to_have_attribute("data-state", "live", timeout=30_000)
    killed = market.signal("postgres", signal.SIGKILL)
    expect(page.locator("#status")).not_to_have_attribute("data-state", "live")
    eventually(lambda: market.pids().get("postgres") not in (None, killed), 30, "postgres is back")
    expect(page.locator("#status")).to_have_attribute("data-state", "live", timeout=30_000)
    market.manage("quoting", "off", "--all", "--reason", "count what there is")
    eventually(lambda: fills_shown(page) == fills_kept(market), 15, "the page has counted every fill")
