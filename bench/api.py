"""Orders over HTTP, through the product's own Daphne, beside the same server's /healthz, which asks no database.

Clients keep their connections open, in one event loop of the benchmark's own. The latency is measured in the open loop:
each request is due at a time of its own, and measured from then, whether or not a connection was free.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import secrets
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from accounts.services import ensure_operator
from bench.figures import Floor, Measurement, Side, alternate, percentile
from bench.loops import run_alone
from bench.maker import holders
from bench.orders import PEAK_SHARE, check_filled, names
from bench.run import Run
from bench.scaffold import Database, environment, eventually
from mmproject.conf import Conf
from mmproject.errors import UserError
from mmproject.postgres import free_port
from mmproject.supervision import programs

SYMBOLS: Final = 100
CLIENTS: Final = (8, 32)
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 10
RESPONSE_TIMEOUT_S: Final = 20.0
HOST: Final = "127.0.0.1"

Make = Callable[[int], bytes]  # the request of a number


@dataclass
class HttpClient:
    """One connection that is kept open; HTTP/1.1, one request at a time."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, request: bytes) -> bytes:
        """The body of the answer. Raises UserError for any but 200."""
        self.writer.write(request)
        async with asyncio.timeout(RESPONSE_TIMEOUT_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]
            body = await self.reader.readexactly(int(length))
        if head.split(b" ", 2)[1] != b"200":
            raise UserError(f"the API answered {head.splitlines()[0].decode()}: {body[:200].decode()}")
        return body


@asynccontextmanager
async def connected(port: int, count: int) -> AsyncIterator[list[HttpClient]]:
    clients = [HttpClient(*await asyncio.open_connection(HOST, port)) for _ in range(count)]
    try:
        yield clients
    finally:
        for client in clients:
            client.writer.close()


async def as_fast_as_it_goes(port: int, count: int, seconds: float, make: Make) -> float:
    """Requests a second, each connection sending the next as soon as the last was answered."""
    done = 0

    async def client(one: HttpClient, until: float) -> None:
        nonlocal done
        while time.perf_counter() < until:
            done += 1
            await one.ask(make(done))

    async with connected(port, count) as clients:
        began = time.perf_counter()
        await asyncio.gather(*(client(one, began + seconds) for one in clients))
        return done / (time.perf_counter() - began)


async def at_a_rate(port: int, count: int, seconds: float, per_s: float, make: Make) -> list[float]:
    """Seconds from when each request was due to its answer."""
    total, taken, sent = round(per_s * seconds), [], 0

    async def client(one: HttpClient, began: float) -> None:
        nonlocal sent
        while sent < total:
            number, sent = sent, sent + 1
            due_at = began + number / per_s
            await asyncio.sleep(max(0.0, due_at - time.perf_counter()))
            await one.ask(make(number))
            taken.append(time.perf_counter() - due_at)

    async with connected(port, count) as clients:
        began = time.perf_counter()
        await asyncio.gather(*(client(one, began) for one in clients))
    return taken


def request(method: str, path: str, token: str = "", body: bytes = b"") -> bytes:
    """One request's bytes."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}"]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def orders_over_http(token: str) -> Make:
    """Orders that cross, for the symbols in turn, under ids that no other round uses."""
    run = secrets.token_hex(6)

    def make(number: int) -> bytes:
        buys = number // SYMBOLS % 2
        order = {
            "client_order_id": f"h{run}-{number}",
            "symbol": f"S{number % SYMBOLS + 1}",
            "side": "buy" if buys else "sell",
            "type": "limit",
            "time_in_force": "IOC",
            "price": "100.10" if buys else "99.90",
            "quantity": "1",
        }
        return request("POST", "/api/v1/orders", token, json.dumps(order).encode())

    return make


def healthz(_number: int) -> bytes:
    return request("GET", "/healthz")


@contextmanager
def daphne(settings: Conf, database: Database, folder: Path) -> Iterator[int]:
    """The product's web server on this database, as `manage.py up` runs it; its port."""
    own = dataclasses.replace(
        settings, var=folder / "var", host=HOST, port=free_port(), nodes=0, database_url="", secret_key=""
    )
    (program,) = [one for one in programs(own, database.urls, cluster=None) if one.name == "daphne"]
    log = folder / "daphne.log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            program.command,
            cwd=program.directory,
            env=environment(own.var, **program.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:

            def is_up() -> bool:
                if process.poll() is not None:
                    raise UserError(f"Daphne ended: {log.read_text()[-300:]}")
                try:
                    run_alone(as_fast_as_it_goes(own.port, 1, 0.01, healthz))
                except (OSError, asyncio.IncompleteReadError):
                    return False
                return True

            eventually(is_up, START_TIMEOUT_S, "Daphne answers")
            yield own.port
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def api(run: Run) -> None:
    """8 and 32 connections, as fast as they go; then at 70 % of that."""
    with run.database() as database, holders(database, {"bench": names(SYMBOLS)}):
        credentials = ensure_operator(path=run.folder / "operator.json", url=f"http://{HOST}")
        assert credentials is not None, "the scratch database is empty"
        with daphne(run.settings, database, run.folder) as port:
            for clients in CLIENTS[:1] if run.plan.quick else CLIENTS:
                _measure(run, port, credentials.token, clients)
        check_filled(database.connect())


def _measure(run: Run, port: int, token: str, clients: int) -> None:
    plan = run.plan

    def fast(make: Callable[[], Make]) -> Side:
        return lambda seconds: run_alone(as_fast_as_it_goes(port, clients, seconds, make()))

    taken = alternate(
        {"orders": fast(lambda: orders_over_http(token)), "healthz": fast(lambda: healthz)},
        rounds=plan.rounds, seconds=plan.seconds, warm_up_s=plan.warm_up_s, tell=run.say,
    )  # fmt: skip
    peak = run.add(
        Measurement(
            name=f"{clients} connections",
            unit="orders/s",
            values=taken["orders"],
            floors=(Floor("/healthz", taken["healthz"]),),
            at={"clients": clients, "symbols": SYMBOLS},
        )
    )
    rates = {
        "orders": peak.figure.median * PEAK_SHARE,
        "healthz": percentile(taken["healthz"], 0.5) * PEAK_SHARE,
    }

    def steady(name: str, make: Callable[[], Make]) -> Side:
        def side(seconds: float) -> float:
            return percentile(run_alone(at_a_rate(port, clients, seconds, rates[name], make())), 0.99) * 1000

        return side

    taken = alternate(
        {"orders": steady("orders", lambda: orders_over_http(token)), "healthz": steady("healthz", lambda: healthz)},
        rounds=plan.rounds, seconds=plan.seconds, warm_up_s=plan.warm_up_s, tell=run.say,
    )  # fmt: skip
    run.add(
        Measurement(
            name=f"{clients} connections, p99 at 70 % of the peak",
            unit="ms",
            values=taken["orders"],
            floors=(Floor("/healthz p99 at 70 % of its own", taken["healthz"]),),
            at={"clients": clients, "symbols": SYMBOLS, "quantile": "p99"},
            detail={"rate_per_s": round(rates["orders"])},
        )
    )
