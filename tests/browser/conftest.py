"""A real browser against a whole system. Whatever a page complains of in its console fails the test.

Chromium is the system's own (Debian's package `chromium`); Playwright downloads none.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from django.contrib.auth.models import Group, User
from django.db import connections
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from accounts.permissions import VIEWER
from mmproject import provision
from mmproject.conf import ROOT
from tests.support import System, running_system

SCREENSHOTS = ROOT / "build" / "screenshots"  # kept by whoever runs the tests
WAIT_MS = 15_000
VIEWER_PASSWORD = "only here to look"
DESK = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}

expect.set_options(timeout=WAIT_MS)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    # For a module: as long as Playwright runs, its event loop does in this thread, and Django's ORM can't be called.
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.fail("the browser tests need Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def market() -> Iterator[System]:
    """One whole system for the tests that leave it as it was: everything on, all nodes there."""
    with running_system(nodes=3, symbols=6, seed=7, MM_TICK_MS="500", MM_LEASE_TTL_MS="15000") as system:
        # Playwright runs an event loop in this thread, and Django's ORM will not be called from one.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(_make_viewer, system).result()
        yield system


def _make_viewer(system: System) -> None:
    before = provision.point_django_at(system.urls()["console"])
    try:
        viewer = User.objects.create_user("vera", password=VIEWER_PASSWORD)
        viewer.groups.add(Group.objects.get(name=VIEWER))
    finally:
        connections["default"].close()
        connections.settings["default"].update(before)


@dataclass
class Visitors:
    """Signed-in pages of one system, and what they complained of."""

    browser: Browser
    stack: ExitStack
    complaints: list[str] = field(default_factory=list)
    forgiven: list[str] = field(default_factory=list)  # regular expressions: a lost connection is logged by the browser
    pages: list[Page] = field(default_factory=list)

    def page(
        self, system: System, path: str = "/", *, viewer: bool = False, phone: bool = False, scheme: str = "dark"
    ) -> Page:
        """A page in a browser profile of its own, signed in and live."""
        page = self.context(phone=phone, scheme=scheme).new_page()
        return self.visit(page, system, path, viewer=viewer)

    def context(self, *, phone: bool = False, scheme: str = "dark") -> BrowserContext:
        context = self.browser.new_context(
            viewport=PHONE if phone else DESK, has_touch=phone, color_scheme=scheme,  # type: ignore[arg-type]
        )  # fmt: skip
        context.set_default_timeout(WAIT_MS)
        self.stack.callback(context.close)
        return context

    def visit(self, page: Page, system: System, path: str, *, viewer: bool = False) -> Page:
        """Sign in by the form, and go there."""
        self.watch(page)
        name, password = ("vera", VIEWER_PASSWORD) if viewer else _operator(system)
        page.goto(f"{system.url}/login/?next={path}")
        page.get_by_label("Username").fill(name)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#status")).to_have_attribute("data-state", "live")
        return page

    def watch(self, page: Page) -> None:
        def heard(message: ConsoleMessage) -> None:
            if message.type == "error":
                self.complaints.append(f"{page.url}: {message.text}")

        page.on("console", heard)
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))
        self.pages.append(page)

    def unforgiven(self) -> list[str]:
        return [text for text in self.complaints if not any(re.search(one, text) for one in self.forgiven)]


def _operator(system: System) -> tuple[str, str]:
    operator = system.operator()
    return operator["username"], operator["password"]


@pytest.fixture
def visitors(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Visitors]:
    """Opens pages; keeps a picture of each as the test left it; no page may have complained."""
    with ExitStack() as stack:
        visitors = Visitors(chromium, stack)
        yield visitors
        for number, page in enumerate(visitors.pages):
            if not page.is_closed():
                keep(page, f"{request.node.name}-{number}")
        assert visitors.unforgiven() == []


def keep(page: Page, name: str, *, whole: bool = False) -> Path:
    """A picture of the page for whoever looks at the run."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('-')}.png"
    page.screenshot(path=path, full_page=whole, animations="disabled")
    return path


@pytest.fixture
def system() -> Iterator[Callable[..., System]]:
    """Starts whole systems for tests that break them."""
    with ExitStack() as stack:

        def start(**options: object) -> System:
            return stack.enter_context(running_system(**options))  # type: ignore[arg-type]

        yield start
