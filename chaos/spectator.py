"""A console that watches throughout, and what it was shown held against the tables.

It does as the page does: it signs in, acknowledges each message, and comes back to where it was when the socket is
lost. What it is shown without being told of a gap has to be the activity log itself, row after row.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import httpx
import psycopg
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect
from websockets.typing import Origin

from chaos.arena import Arena

RETRY_S: Final = 0.3
SILENCE_S: Final = 10.0  # three beats missed: the socket is given up
CATCH_UP_S: Final = 15.0
LOG: Final = "SELECT xid::text || '-' || id FROM ledger_activity ORDER BY ledger_activity.xid, id"
_LOST: Final = (OSError, TimeoutError, WebSocketException, httpx.TransportError)


@dataclass
class Spectator:
    """One socket from a thread of its own, until `close`."""

    arena: Arena
    stretches: list[list[str]] = field(default_factory=list)  # positions ("xid-id"); each without a gap told of
    lost: int = 0  # sockets
    resumed: int = 0  # times that it went on where it had been
    gaps: int = 0  # that it was told of
    wrong: list[str] = field(default_factory=list)
    cursor: str | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="spectator", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Wait until it has seen all that there is now, and end."""
        newest = None
        try:
            with self.arena.connect() as connection:
                rows = connection.execute(LOG).fetchall()
                newest = rows[-1][0] if rows else None
        except psycopg.Error as error:
            self.wrong.append(f"does not know what it should have seen: {error}")
        deadline = time.monotonic() + CATCH_UP_S
        while newest and _position(self.cursor) < _position(newest):
            if time.monotonic() > deadline:
                self.wrong.append(f"at {self.cursor}, and not at {newest} after {CATCH_UP_S:g} s")
                break
            time.sleep(0.1)
        self._stop.set()
        if self._thread:
            self._thread.join(2 * SILENCE_S)
            if self._thread.is_alive():
                self.wrong.append("it does not end")

    def judge(self, connection: psycopg.Connection[Any]) -> list[str]:
        """What is wrong with what it was shown, in words. To be called after `close`."""
        log = [row[0] for row in connection.execute(LOG).fetchall()]
        return self.wrong + departures(self.stretches, log)

    def as_json(self) -> dict[str, int]:
        shown = sum(len(one) for one in self.stretches)
        return {"shown": shown, "sockets_lost": self.lost, "resumed": self.resumed, "gaps_told_of": self.gaps}

    def _run(self) -> None:
        cookie: str | None = None
        while not self._stop.is_set():
            try:
                cookie = cookie or self._signed_in()
                if cookie:
                    self._watch(cookie)
            except _LOST:
                self.lost += 1
            except Exception as error:  # noqa: BLE001 - whatever ends it is told
                self.wrong.append(f"{type(error).__name__}: {error}")
                return
            self._stop.wait(RETRY_S)

    def _signed_in(self) -> str | None:
        """The session's cookie; None while nobody can sign in. Raises httpx.TransportError."""
        operator = self.arena.operator()
        with httpx.Client(base_url=self.arena.url, timeout=SILENCE_S) as http:
            http.get("/login/")
            token = next((value for name, value in http.cookies.items() if name.startswith("mm_csrf")), "")
            form = {"username": operator["username"], "password": operator["password"], "csrfmiddlewaretoken": token}
            answer = http.post("/login/", data=form, headers={"Referer": self.arena.url})
            if answer.status_code != HTTPStatus.FOUND:
                return None
            return "; ".join(f"{name}={value}" for name, value in http.cookies.items())

    def _watch(self, cookie: str) -> None:
        """Until the socket is lost or the run over. Raises one of _LOST."""
        url = self.arena.url.replace("http", "ws", 1) + "/ws/stream/"
        with connect(
            url, additional_headers={"Cookie": cookie}, origin=Origin(self.arena.url), compression=None, max_size=None,
            open_timeout=SILENCE_S, close_timeout=1,
        ) as socket:  # fmt: skip
            socket.send(json.dumps({"resume": self.cursor}))
            while not self._stop.is_set():
                message = json.loads(socket.recv(SILENCE_S))
                self._take(message)
                socket.send(json.dumps({"ack": message["seq"]}))

    def _take(self, message: dict[str, Any]) -> None:
        shown = [entry["id"] for entry in message.get("activity", [])]
        anew = message["type"] == "snapshot" and (message["gap"] or self.cursor is None)
        self.resumed += message["type"] == "snapshot" and not anew
        self.gaps += bool(self.cursor and anew) + bool(message.get("skipped"))
        if anew or message.get("skipped") or not self.stretches:
            self.stretches.append([])
        self.stretches[-1] += shown
        self.cursor = message["cursor"]


def _position(cursor: str | None) -> tuple[int, int]:
    xid, _, number = (cursor or "0-0").partition("-")
    return int(xid), int(number)


def departures(stretches: list[list[str]], log: list[str]) -> list[str]:
    """Where stretches are not runs of `log`, in words; the first place of each stretch. Empty when all are.

    What a stretch ends with before a gap that was told of may be missing: an order is told of before its commit is on
    disk, and a server that is killed in between has lost it (DESIGN, section 6).
    """
    places = {position: place for place, position in enumerate(log)}
    found = []
    for number, stretch in enumerate(stretches):
        there = len(stretch)
        while number < len(stretches) - 1 and there and stretch[there - 1] not in places:
            there -= 1
        before: str | None = None
        for position in stretch[:there]:
            if position not in places:
                found.append(f"was shown {position}, which is not in the log")
                break
            if before is not None and places[position] != places[before] + 1:
                due = log[places[before] + 1] if places[before] + 1 < len(log) else "nothing"
                found.append(f"was shown {position} after {before}, and not {due}")
                break
            before = position
    return found
