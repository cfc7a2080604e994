"""How fast and how frugal the console is: `python -m tests.bench.console screen|sockets|memory|many|shots`.

A whole system under orders at a fixed number of events a second, beside its own flow.

    screen   from a fill's commit to its row painted in Chromium, at 50 and at 1,000 events a second
    sockets  100 sockets at 500 events a second: from commit to arrival; one more that never reads is dropped
    memory   a tab's heap and Daphne's memory for some minutes at 500 events a second
    many     1,000 symbols: first paint, and frames a second while they change
    shots    a picture of each page at 1,000 events a second, for a desk and a phone, dark and light

Moments of commits are the database's commit timestamps; browser and clients run on the same machine and read the same
clock. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psutil
import websockets
from playwright.sync_api import Page, sync_playwright
from websockets.typing import Origin

from bench.figures import summary_ms
from tests.support import System, eventually, running_system

BATCHES_PER_S = 20
SOCKETS = 100
SECONDS = 20.0
MINUTES = 30.0
EVENTS_PER_S = 500
SIZES: dict[str, Any] = {"desk": {"width": 1440, "height": 900}, "phone": {"width": 390, "height": 844}}
PAGES = {
    "overview": "/",
    "symbol": "/symbols/ALFA/",
    "authority": "/authority/",
    "fills": "/fills/",
    "orders": "/orders/",
}
COMMITS = "SELECT x, extract(epoch FROM pg_xact_commit_timestamp(x::text::xid))::float8 FROM unnest(%s::bigint[]) x"

# Records when each row of the activity was painted: the frame after the one in which it was put there.
_WATCH = """
    window.painted = [];
    new MutationObserver((changes) => {
      const ids = [];
      for (const change of changes) {
        for (const node of change.addedNodes) if (node.dataset?.id) ids.push(node.dataset.id);
      }
      requestAnimationFrame(() => setTimeout(() => {
        const at = performance.timeOrigin + performance.now();
        for (const id of ids) window.painted.push([id, at]);
      }));
    }).observe(document.getElementById("feed"), { childList: true });
"""
_FRAMES = """
    async (seconds) => {
      const times = [];
      await new Promise((done) => {
        const end = performance.now() + seconds * 1000;
        const frame = (at) => { times.push(at); at < end ? requestAnimationFrame(frame) : done(); };
        requestAnimationFrame(frame);
      });
      return times;
    }
"""


class Load:
    """Market orders of one lot for symbols in turn, in batches, at a fixed rate, each rung for."""

    def __init__(self, system: System, per_s: float) -> None:
        self._system, self._per_s = system, per_s
        self._stop_now = threading.Event()
        self.sent = 0

    def send(self) -> None:
        """Until it is told to stop."""
        with self._system.connect("exchange") as connection:
            lots: dict[str, Decimal] = dict(
                connection.execute("SELECT symbol, lot_size FROM exchange_quote").fetchall()
            )
            symbols = sorted(lots)
            turn, run = itertools.cycle(symbols), time.time_ns()
            size = max(1, round(self._per_s / BATCHES_PER_S))
            due_at = time.monotonic()
            while not self._stop_now.is_set():
                time.sleep(max(0.0, due_at - time.monotonic()))
                due_at += size / self._per_s
                orders = [
                    {
                        "client_order_id": f"load-{run}-{number}", "symbol": symbol,
                        "side": "buy" if number // len(symbols) % 2 else "sell", "type": "market",
                        "time_in_force": "IOC", "price": None, "quantity": str(lots[symbol]),
                    }
                    for number, symbol in zip(range(self.sent, self.sent + size), turn, strict=False)
                ]  # fmt: skip
                connection.execute("CALL exchange_place_orders_v3(%s::jsonb, 700)", [json.dumps(orders)])
                named = ",".join(sorted({str(order["symbol"]) for order in orders}))
                connection.execute("SELECT pg_notify('mm_market', %s)", [named if len(named) < 7000 else ""])
                self.sent += size

    def stop(self) -> None:
        self._stop_now.set()


@contextmanager
def loaded(system: System, per_s: float) -> Iterator[Load]:
    load = Load(system, per_s)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(load.send)
        try:
            yield load
        finally:
            load.stop()
            sending.result()


@contextmanager
def chromium_page(system: System, path: str = "/") -> Iterator[Page]:
    """A signed-in page that is live."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--enable-precise-memory-info"]
        )
        page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
        operator = system.operator()
        page.goto(f"{system.url}/login/?next={path}")
        page.get_by_label("Username").fill(operator["username"])
        page.get_by_label("Password").fill(operator["password"])
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_selector('#status[data-state="live"]')
        yield page
        browser.close()


def since_commit(system: System, seen: list[tuple[str, float]]) -> list[float]:
    """Seconds from each entry's commit to the moment (Unix seconds) at which it was seen. Ids are "xid-id"."""
    xids = sorted({int(entry.split("-")[0]) for entry, _ in seen})
    with system.connect() as connection:
        committed: dict[int, float] = dict(connection.execute(COMMITS, [xids]).fetchall())
    return [at - committed[int(entry.split("-")[0])] for entry, at in seen]


def events(system: System) -> int:
    with system.connect() as connection:
        row = connection.execute("SELECT count(*) FROM ledger_activity").fetchone()
    assert row is not None
    return int(row[0])


def screen(seconds: float) -> dict[str, Any]:
    """From commit to paint."""
    result: dict[str, Any] = {}
    with running_system(nodes=3, symbols=10) as system, chromium_page(system) as page:
        page.evaluate(_WATCH)
        for per_s in (50, 1000):
            with loaded(system, per_s):
                time.sleep(3)
                page.evaluate("window.painted.length = 0")
                began, before = time.monotonic(), events(system)
                page.wait_for_timeout(seconds * 1000)
                rate = (events(system) - before) / (time.monotonic() - began)
                painted = page.evaluate("window.painted.splice(0)")
            taken = since_commit(system, [(entry, at / 1000) for entry, at in painted])
            result[f"{per_s} per second"] = {
                "events_per_s": round(rate), "rows_painted": len(taken), **summary_ms(taken),
            }  # fmt: skip
    return result


def _connected(url: str, cookie: str, origin: str) -> websockets.connect:
    return websockets.connect(
        url, additional_headers={"Cookie": cookie}, origin=Origin(origin), max_size=None, compression=None
    )


async def _socket(
    url: str, cookie: str, origin: str, until: float, seen: list[tuple[str, float]], skipped: list[int]
) -> None:
    async with _connected(url, cookie, origin) as socket:
        await socket.send(json.dumps({"resume": None}))
        first = True
        while time.time() < until:
            message = json.loads(await asyncio.wait_for(socket.recv(), 10))
            at = time.time()
            await socket.send(json.dumps({"ack": message["seq"]}))
            if not first:
                seen += [(entry["id"], at) for entry in message.get("activity", [])]
            skipped.append(message.get("skipped", 0))
            first = False


async def _never_reads(url: str, cookie: str, origin: str, daphne: psutil.Process) -> float:
    """Says hello and reads nothing, not even from its TCP socket: seconds until Daphne has none of it any more."""
    async with _connected(url, cookie, origin) as socket:
        began = time.monotonic()
        await socket.send(json.dumps({"resume": None}))
        socket.transport.pause_reading()
        port = socket.local_address[1]
        while any(one.raddr and one.raddr.port == port for one in daphne.net_connections("tcp")):
            if time.monotonic() - began > 60:
                raise TimeoutError("a client that reads nothing is still connected")
            await asyncio.sleep(0.2)
        socket.transport.abort()
        return time.monotonic() - began


def sockets(seconds: float) -> dict[str, Any]:
    """Delivery to many."""
    with running_system(nodes=3, symbols=10) as system:
        cookie = _session(system)
        url = system.url.replace("http", "ws") + "/ws/stream/"
        per_socket: list[list[tuple[str, float]]] = [[] for _ in range(SOCKETS)]
        skipped: list[int] = []
        daphne = psutil.Process(system.pid("daphne"))

        async def all_of_them() -> tuple[int, float]:
            until = time.time() + 5 + seconds
            readers = [_socket(url, cookie, system.url, until, seen, skipped) for seen in per_socket]
            silent = asyncio.create_task(_never_reads(url, cookie, system.url, daphne))
            done = await asyncio.gather(*readers, return_exceptions=True)
            return sum(isinstance(one, BaseException) for one in done), await silent

        with loaded(system, EVENTS_PER_S):
            before, began, cpu = events(system), time.monotonic(), sum(daphne.cpu_times()[:2])
            failed, dropped_s = asyncio.run(all_of_them())
            took = time.monotonic() - began
            rate, cpu = (events(system) - before) / took, (sum(daphne.cpu_times()[:2]) - cpu) / took
        taken = since_commit(system, [one for seen in per_socket for one in seen[len(seen) // 5 :]])
    return {
        "sockets": SOCKETS, "events_per_s": round(rate), "delivered": len(taken), **summary_ms(taken),
        "left_out": sum(skipped), "sockets_lost": failed, "one_that_reads_nothing_dropped_after_s": round(dropped_s, 1),
        "daphne_cpu": round(cpu, 2),
    }  # fmt: skip


def _session(system: System) -> str:
    with httpx.Client(base_url=system.url) as client:
        client.get("/login/")
        token = next(value for name, value in client.cookies.items() if name.startswith("mm_csrf"))
        operator = system.operator()
        client.post(
            "/login/",
            data={"username": operator["username"], "password": operator["password"], "csrfmiddlewaretoken": token},
            headers={"Referer": system.url},
        )
        return "; ".join(f"{name}={value}" for name, value in client.cookies.items())


def memory(minutes: float) -> dict[str, Any]:
    """A tab's heap after a collection, and Daphne's resident memory, ten times."""
    samples = []
    with running_system(nodes=3, symbols=10) as system, chromium_page(system) as page:
        link = page.context.new_cdp_session(page)
        link.send("Performance.enable")
        daphne = psutil.Process(system.pid("daphne"))
        with loaded(system, EVENTS_PER_S):
            for number in range(11):
                if number:
                    page.wait_for_timeout(minutes * 60_000 / 10)
                link.send("HeapProfiler.collectGarbage")
                metrics = {one["name"]: one["value"] for one in link.send("Performance.getMetrics")["metrics"]}
                samples.append(
                    {
                        "minute": round(number * minutes / 10, 1),
                        "tab_mib": round(metrics["JSHeapUsedSize"] / 2**20, 1), "elements": round(metrics["Nodes"]),
                        "daphne_mib": round(daphne.memory_info().rss / 2**20, 1), "events": events(system),
                    }
                )  # fmt: skip
                print(json.dumps(samples[-1]), file=sys.stderr, flush=True)
    return {"events_per_s": EVENTS_PER_S, "samples": samples}


def many(seconds: float) -> dict[str, Any]:
    """1,000 symbols."""
    with running_system(nodes=3, symbols=1000) as system:
        with system.connect() as connection:
            eventually(
                lambda: connection.execute("SELECT count(*) FROM exchange_quote WHERE valid_until > now()").fetchone()
                == (1000,),
                60, "all are quoted",
            )  # fmt: skip
        with chromium_page(system) as page:
            page.reload()
            page.wait_for_selector("#symbols-body tr[data-symbol]")
            paints = page.evaluate(
                "Object.fromEntries(performance.getEntriesByType('paint').map((one) => [one.name, one.startTime]))"
            )
            table = page.evaluate("performance.now()")
            page.wait_for_selector('#status[data-state="live"]')
            frames = page.evaluate(_FRAMES, seconds)
            rows = page.locator("#symbols-body tr[data-symbol]").count()
            size = page.evaluate("performance.getEntriesByType('navigation')[0].encodedBodySize")
    gaps = [b - a for a, b in itertools.pairwise(frames)]
    return {
        "first_paint_ms": round(paints.get("first-contentful-paint", -1)), "table_seen_by_ms": round(table),
        "page_bytes": size, "rows_in_document": rows, "frames_per_s": round(len(frames) / seconds, 1),
        "frame_ms": {"p50": round(statistics.median(gaps), 1), "p99": round(sorted(gaps)[int(len(gaps) * 0.99)], 1),
                     "worst": round(max(gaps), 1)},
    }  # fmt: skip


def shots(folder: Path) -> dict[str, Any]:
    """Pictures to look at."""
    folder.mkdir(parents=True, exist_ok=True)
    taken = []
    with running_system(nodes=3, symbols=10) as system, loaded(system, 1000), chromium_page(system) as page:
        state = page.context.storage_state()
        time.sleep(20)
        for size, viewport in SIZES.items():
            for theme in ("dark", "light"):
                browser = page.context.browser
                assert browser is not None
                context = browser.new_context(viewport=viewport, color_scheme=theme, storage_state=state)
                for name, path in PAGES.items():
                    one = context.new_page()
                    one.goto(f"{system.url}{path}")
                    one.wait_for_timeout(2500)
                    taken.append(f"{name}-{size}-{theme}.png")
                    one.screenshot(path=folder / taken[-1], full_page=size == "phone")
                    one.close()
                context.close()
    return {"folder": str(folder), "pictures": len(taken)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["screen", "sockets", "memory", "many", "shots"])
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of `memory`")
    parser.add_argument("--folder", type=Path, default=Path("build/screenshots-under-load"), help="of `shots`")
    options = parser.parse_args()
    match options.what:
        case "screen":
            result = screen(options.seconds)
        case "sockets":
            result = sockets(options.seconds)
        case "memory":
            result = memory(options.minutes)
        case "many":
            result = many(options.seconds)
        case _:
            result = shots(options.folder)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
