"""The stream: who may open it, what it sends, and that nobody misses anything or waits for anybody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from psycopg import sql

from console.routing import websocket_application
from console.stream.protocol import Close, Limits
from console.stream.reader import Reader
from mmproject.provision import connect, with_database
from tests.market import HandMarket
from tests.support import Connection, Database
from tests.web.client import HOST
from tests.web.stream import StreamClient, cookie_of, entries

Opener = Callable[..., StreamClient]
CALM = Limits(session_check_s=60)


@pytest.fixture
def cookie(market: HandMarket) -> bytes:
    return cookie_of("vera")


@pytest.fixture
async def readers(market: HandMarket) -> AsyncIterator[Callable[[Limits], Reader]]:
    """Makes readers of the market's database; all are closed at the end."""
    made: list[Reader] = []

    def make(limits: Limits = CALM) -> Reader:
        made.append(Reader(lambda: market.database.url("console"), limits))
        return made[-1]

    yield make
    for reader in made:
        await reader.close()


@pytest.fixture
def stream(readers: Callable[..., Reader], cookie: bytes) -> Opener:
    """Opens sockets of one process's stream."""
    application = websocket_application(readers())
    return lambda cookie=cookie, **options: StreamClient(application, cookie, **options)


@pytest.fixture
async def standing(standing_market: HandMarket) -> AsyncIterator[Opener]:
    """The same, of a market that tests share: for those that change nothing."""
    reader = Reader(lambda: standing_market.database.url("console"), CALM)
    application, cookie = websocket_application(reader), await sync_to_async(cookie_of)("vera")
    yield lambda cookie=cookie, **options: StreamClient(application, cookie, **options)
    await reader.close()


def log_after(market: HandMarket, cursor: str) -> list[str]:
    """The journal after a position, in the order of commits."""
    xid, number = cursor.split("-")
    rows = market.rows(
        "SELECT xid::text || '-' || id FROM ledger_activity WHERE (xid, id) > (%s::text::xid8, %s) ORDER BY xid, id",
        xid,
        int(number),
    )
    return [row[0] for row in rows]


def enabled(message: dict[str, Any]) -> dict[str, bool]:
    return {row["symbol"]: row["enabled"] for row in message.get("symbols", [])}


def switched_to(wanted: bool) -> Callable[[dict[str, Any]], bool]:
    return lambda message: wanted in enabled(message).values()


# Who may open it


async def test_nobody_opens_it_without_a_session(standing: Opener) -> None:
    assert not await standing(cookie=None).connect()
    assert not await standing(cookie=b"mm_session_8000=guessed").connect()


@pytest.mark.parametrize(
    "origin",
    [None, "http://elsewhere.example", f"http://{HOST}:9999", f"http://{HOST}.elsewhere.example", "null", "http://["],
)
async def test_a_page_from_elsewhere_cannot_open_it(standing: Opener, origin: str | None) -> None:
    assert not await standing(origin=origin).connect()


async def test_it_ends_with_the_session(readers: Callable[..., Reader], market: HandMarket, cookie: bytes) -> None:
    application = websocket_application(readers(Limits(session_check_s=0.05)))
    client = StreamClient(application, cookie)
    await client.begin()

    market.admin.execute("DELETE FROM django_session")

    assert await client.close_code() == Close.SIGNED_OUT


# What it sends


async def test_it_begins_with_everything_and_goes_on_with_what_changes(stream: Opener, market: HandMarket) -> None:
    client = stream()
    snapshot = await client.begin()

    assert {row["symbol"] for row in snapshot["symbols"]} == set(market.symbols)
    assert {row["node"] for row in snapshot["nodes"]} == {"node-1", "node-2"}
    assert snapshot["database"] is True
    assert snapshot["gap"] is False
    alfa = next(row for row in snapshot["symbols"] if row["symbol"] == "ALFA")
    assert all(isinstance(alfa[name], str) for name in ("bid", "ask", "price", "position", "realised", "unrealised"))
    assert [entry["id"] for entry in snapshot["activity"]] == log_after(market, "0-0")[-len(snapshot["activity"]) :]

    market.switch(False, "ALFA", reason="news")
    messages = await client.until(lambda message: enabled(message).get("ALFA") is False)
    changed = next(row for row in messages[-1]["symbols"] if row["symbol"] == "ALFA")

    assert (changed["bid"], changed["ask"]) == (None, None)
    assert set(enabled(messages[-1])) == {"ALFA"}, "only what changed is sent"
    if not entries(messages):
        messages += await client.until(lambda message: bool(message.get("activity")))
    assert "ada turned quoting off: news" in [entry["text"] for entry in entries(messages)]


async def test_a_doorbell_is_answered_before_the_timer(
    readers: Callable[..., Reader], market: HandMarket, cookie: bytes
) -> None:
    application = websocket_application(readers(Limits(timer_s=8, beat_s=9)))
    client = StreamClient(application, cookie)
    await client.begin()

    started_s = time.monotonic()
    market.switch(False, "ALFA")
    await client.until(lambda message: enabled(message).get("ALFA") is False)

    assert time.monotonic() - started_s < 4


async def test_what_rings_no_doorbell_is_seen_by_the_timer(
    readers: Callable[..., Reader], market: HandMarket, cookie: bytes
) -> None:
    """A doorbell that was lost looks the same."""
    client = StreamClient(websocket_application(readers(Limits(timer_s=0.2, beat_s=0.5))), cookie)
    await client.begin()

    market.admin.execute("UPDATE exchange_quote SET quoting_enabled = false, published_at = NULL, valid_until = NULL,"
                         " bid_price = NULL, bid_quantity = NULL, ask_price = NULL, ask_quantity = NULL,"
                         " quote_epoch = NULL, quote_incarnation = NULL, quote_node = NULL, arrival = NULL"
                         " WHERE symbol = 'ALFA'")  # fmt: skip

    for _beat in range(20):
        if enabled(await client.next()).get("ALFA") is False:
            break
    else:
        pytest.fail("nothing is read before a doorbell rings")


async def test_it_says_that_it_is_there_when_nothing_happens(
    readers: Callable[..., Reader], market: HandMarket, cookie: bytes
) -> None:
    application = websocket_application(readers(Limits(beat_s=0.05)))
    client = StreamClient(application, cookie)
    snapshot = await client.begin()

    beat = await client.next()

    assert beat["type"] == "beat"
    assert beat["cursor"] == snapshot["cursor"]
    assert beat["age_ms"] >= 0


# Nothing missed, nothing doubled


async def test_a_reader_that_resumes_misses_nothing_that_a_slow_transaction_held_back(
    stream: Opener, market: HandMarket
) -> None:
    first = stream()
    await first.begin()
    slow = market.database.connect("console")
    slow.execute("BEGIN")
    slow.execute(
        "SELECT exchange_set_quoting_v2(ARRAY['ALFA'], false, 'ada', 'slow')"
    )  # the lower number, not committed

    market.switch(False, "BRAVO", reason="quick")
    messages = await first.until(lambda message: enabled(message).get("BRAVO") is False)
    assert entries(messages) == [], "shown only when nothing can come before it any more"
    cursor = messages[-1]["cursor"]
    await first.leave()

    slow.execute("COMMIT")
    resumed = await stream().begin(cursor)

    expected = log_after(market, cursor)
    seen = entries([resumed])
    while len(seen) < len(expected):
        again = stream()
        seen += entries([await again.begin(seen[-1]["id"] if seen else cursor)])
        await again.leave()
    assert [entry["id"] for entry in seen] == expected
    switched = [entry["symbol"] for entry in seen if entry["kind"] == "quoting_off"]
    assert switched == ["ALFA", "BRAVO"]


async def test_a_reader_that_stays_sees_the_same(stream: Opener, market: HandMarket) -> None:
    client = stream()
    cursor = (await client.begin())["cursor"]
    slow = market.database.connect("console")
    slow.execute("BEGIN")
    slow.execute("SELECT exchange_set_quoting_v2(ARRAY['ALFA'], false, 'ada', 'slow')")
    market.switch(False, "BRAVO")
    seen = entries(await client.until(lambda message: enabled(message).get("BRAVO") is False))
    market.switch(False, "CHARLIE")
    slow.execute("COMMIT")
    market.switch(True, "BRAVO")

    expected = log_after(market, cursor)
    while len(seen) < len(expected):
        seen += entries([await client.next()])

    assert [entry["id"] for entry in seen] == expected


async def test_a_page_that_comes_back_at_once_is_told_what_it_missed_and_nothing_twice(
    stream: Opener, market: HandMarket
) -> None:
    away, stays = stream(), stream()
    cursor = (await away.begin())["cursor"]
    await away.leave()
    await stays.begin()
    market.switch(False, "ALFA")
    newest = log_after(market, "0-0")[-1]
    await stays.until(lambda message: message["cursor"] == newest)

    back = await stream().begin(cursor)

    assert [entry["id"] for entry in back["activity"]] == log_after(market, cursor)
    assert back["gap"] is False


async def test_a_new_process_resumes_from_the_journal(
    readers: Callable[..., Reader], market: HandMarket, cookie: bytes
) -> None:
    old = StreamClient(websocket_application(readers()), cookie)
    cursor = (await old.begin())["cursor"]
    await old.leave()
    market.tick(5)

    few = Limits(kept_rows=3, first_rows=3)
    resumed = await StreamClient(websocket_application(readers(few)), cookie).begin(cursor)

    assert resumed["gap"] is False
    assert [entry["id"] for entry in resumed["activity"]] == log_after(market, cursor)


@pytest.mark.parametrize("cursor", ["1-1", "999999999999-1"], ids=["long ago", "another database's"])
async def test_a_gap_is_flagged(readers: Callable[..., Reader], market: HandMarket, cookie: bytes, cursor: str) -> None:
    few = Limits(kept_rows=3, first_rows=3, resume_rows=2)
    snapshot = await StreamClient(websocket_application(readers(few)), cookie).begin(cursor)

    assert snapshot["gap"] is True
    assert [entry["id"] for entry in snapshot["activity"]] == log_after(market, "0-0")[-3:]
    assert len(snapshot["symbols"]) == 3


async def test_too_much_to_catch_up_with_is_flagged(
    readers: Callable[..., Reader], market: HandMarket, cookie: bytes
) -> None:
    old = StreamClient(websocket_application(readers()), cookie)
    cursor = (await old.begin())["cursor"]
    await old.leave()
    for _ in range(3):
        market.switch(False)
        market.switch(True)

    few = Limits(kept_rows=3, first_rows=3, resume_rows=5)
    snapshot = await StreamClient(websocket_application(readers(few)), cookie).begin(cursor)

    assert snapshot["gap"] is True


# Nobody waits for anybody


async def test_a_client_that_never_reads_is_dropped_and_delays_nobody(
    readers: Callable[..., Reader], market: HandMarket, cookie: bytes
) -> None:
    reader = readers(Limits(window=2, slow_s=1.0, pending_rows=4, read_interval_s=0.02))
    application = websocket_application(reader)
    slow, quick = StreamClient(application, cookie), StreamClient(application, cookie)
    assert await slow.connect()
    await slow.send('{"resume": null}')
    await quick.begin()
    delays_s = []
    for _ in range(12):
        for wanted in (False, True):
            started_s = time.monotonic()
            market.switch(wanted)
            await quick.until(switched_to(wanted))
            delays_s.append(time.monotonic() - started_s)
        for mailbox in reader.hub.mailboxes:
            assert len(mailbox._activity) <= 4, "what waits for the slow one is bounded"

    assert await slow.close_code() == Close.TOO_SLOW
    assert sorted(delays_s)[len(delays_s) // 2] < 0.5, delays_s
    assert len(reader.hub.mailboxes) == 1, "and nothing is kept for it"


async def test_what_a_slow_client_did_not_get_is_counted(
    readers: Callable[..., Reader], market: HandMarket, cookie: bytes
) -> None:
    application = websocket_application(readers(Limits(window=1, pending_rows=2, slow_s=30)))
    client = StreamClient(application, cookie)
    assert await client.connect()
    await client.send('{"resume": null}')
    snapshot = await client.take()  # not acknowledged: the window is full
    watch = StreamClient(application, cookie)
    await watch.begin()
    market.switch(False)
    await watch.until(lambda message: False in enabled(message).values())
    cursor = log_after(market, "0-0")[-1]
    await watch.until(lambda message: message["cursor"] == cursor)

    await client.send(f'{{"ack": {snapshot["seq"]}}}')
    message = await client.next()

    assert len(message["activity"]) == 2
    assert message["skipped"] == len(log_after(market, snapshot["cursor"])) - 2
    assert set(enabled(message).values()) == {False}, "the state is whole all the same"


# Malformed input

MALFORMED_FIRST = [
    "",
    "x",
    "{}",
    "[]",
    "null",
    '{"resume": 5}',
    '{"resume": "5"}',
    '{"resume": "-1-2"}',
    '{"resume": "1-2-3"}',
    '{"resume": "99999999999999999999-1"}',
    '{"resume": "\\u0661-\\u0661"}',
    '{"resume": null, "more": 1}',
    '{"ack": 1}',
    "[" * 200,
    '{"resume": "' + "1" * 400 + '"}',
]


@pytest.mark.parametrize("text", MALFORMED_FIRST)
async def test_a_malformed_first_message_closes_with_a_code(standing: Opener, text: str) -> None:
    client = standing()
    assert await client.connect()
    await client.send(text)

    assert await client.close_code() == Close.MALFORMED


@pytest.mark.parametrize(
    "text", ['{"ack": 999}', '{"ack": 0}', '{"ack": -1}', '{"ack": true}', '{"ack": 1.5}', '{"resume": null}', "NaN"]
)
async def test_a_malformed_later_message_closes_with_a_code(standing: Opener, text: str) -> None:
    client = standing()
    await client.begin()
    await client.send(text)

    assert await client.close_code() == Close.MALFORMED


async def test_bytes_close_with_a_code(standing: Opener) -> None:
    client = standing()
    assert await client.connect()
    await client.send_bytes(b"\xff\x00")

    assert await client.close_code() == Close.MALFORMED


async def test_a_flood_closes_with_a_code(readers: Callable[..., Reader], cookie: bytes) -> None:
    client = StreamClient(websocket_application(readers(Limits(messages_per_s=10))), cookie)
    await client.begin()
    for _ in range(40):
        await client.send('{"ack": 1}')

    assert await client.close_code() == Close.TOO_MUCH


async def test_a_client_that_says_nothing_is_dropped(readers: Callable[..., Reader], cookie: bytes) -> None:
    client = StreamClient(websocket_application(readers(Limits(hello_s=0.05))), cookie)
    assert await client.connect()

    assert await client.close_code() == Close.TOO_SLOW


async def test_more_sockets_than_a_process_takes_are_told_so(readers: Callable[..., Reader], cookie: bytes) -> None:
    application = websocket_application(readers(Limits(sockets=1)))
    first, second = StreamClient(application, cookie), StreamClient(application, cookie)
    await first.begin()
    assert await second.connect()

    assert await second.close_code() == Close.FULL


# The reader


def sessions_of_reader(market: HandMarket) -> list[int]:
    return [
        row[0]
        for row in market.rows(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'mm console stream'"
        )
    ]


def shut(server: Connection, database: Database, market: HandMarket) -> None:
    """Nobody new gets in, and the reader's session is ended: a server that is down, as the reader sees it."""
    name = sql.Identifier(database.name)
    server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
    market.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mm console stream'")


async def test_a_lost_database_is_said_at_once_and_nothing_is_missed(
    readers: Callable[..., Reader], market: HandMarket, cookie: bytes
) -> None:
    client = StreamClient(websocket_application(readers()), cookie)
    cursor = (await client.begin())["cursor"]
    with connect(with_database(market.database.url(), "postgres")) as server:
        shut(server, market.database, market)
        lost = await client.until(lambda message: message["database"] is False)
        market.switch(False, "ALFA")  # by someone whose connection still stands
        server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(market.database.name)))

    back = await client.until(lambda message: message["database"] is True)
    seen, expected = entries(lost + back), log_after(market, cursor)
    while len(seen) < len(expected):
        seen += entries([await client.next()])

    assert [entry["id"] for entry in seen] == expected
    assert expected


async def test_it_starts_with_the_first_socket_and_ends_after_the_last(
    readers: Callable[..., Reader], market: HandMarket, cookie: bytes
) -> None:
    reader = readers(Limits(linger_s=0.1, timer_s=0.05))
    application = websocket_application(reader)
    assert sessions_of_reader(market) == []
    clients = [StreamClient(application, cookie) for _ in range(3)]
    for client in clients:
        await client.begin()
    assert len(sessions_of_reader(market)) == 1, "one for all sockets"

    for client in clients:
        await client.leave()
    async with asyncio.timeout(10):
        while sessions_of_reader(market):  # noqa: ASYNC110 - nobody is told of a session that ends
            await asyncio.sleep(0.02)

    assert (await StreamClient(application, cookie).begin())["gap"] is False, "and starts again with the next"


async def test_a_restored_database_is_shown_anew(
    readers: Callable[..., Reader], market: HandMarket, cookie: bytes
) -> None:
    """The journal no longer holds what was read: a restore, or a crash that took back what was not yet durable."""
    market.gateway.execute("SELECT authority_set_draining_v1('node-1', false, 'ada')")  # the last entry, and no fill
    client = StreamClient(websocket_application(readers()), cookie)
    snapshot = await client.begin()
    xid, number = snapshot["cursor"].split("-")
    market.admin.execute("DELETE FROM journal_activity WHERE id = %s", [int(number)])

    again = (await client.until(lambda message: message["type"] == "snapshot"))[-1]

    assert again["gap"] is True
    assert again["cursor"] != snapshot["cursor"]
    assert again["cursor"].split("-")[0] <= xid
