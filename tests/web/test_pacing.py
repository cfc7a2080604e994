"""Long answers under a real Daphne: at the pace of who takes them, and never complete when they are not."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from bench.scaffold import free_web_port
from mmproject.conf import ROOT
from tests.support import eventually
from tests.web.paced_app import PART, PARTS

BUFFERS_PARTS = 200  # 13 MB: more than the two sockets' buffers can grow to, far less than an unpaced answer
CALM_LOOKS = 10  # in a row with nothing sent in between


@pytest.fixture
def daphne() -> Iterator[str]:
    """The address of a Daphne that serves tests/web/paced_app.py."""
    port = free_web_port()
    command = [sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(port), "tests.web.paced_app:application"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            eventually(lambda: httpx.get(f"{url}/told").status_code == 200, 30, "Daphne answers")
            yield url
        finally:
            process.terminate()
            process.communicate(timeout=20)


def told(url: str, what: str, path: str) -> int:
    counts: dict[str, Any] = httpx.get(f"{url}/told").json()
    return int(counts[what].get(path, 0))


def opened(url: str, path: str) -> socket.socket:
    """A client that has asked, and takes nothing by itself."""
    client = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=20)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return client


def sent_in_the_end(url: str, path: str) -> int:
    """How many parts were sent when no more are."""
    looks: list[int] = []

    def is_calm() -> bool:
        looks.append(told(url, "sent", path))
        assert looks[-1] < 20 * BUFFERS_PARTS, "it sends as if somebody took it"
        return len(looks) > CALM_LOOKS and 0 < looks[-1 - CALM_LOOKS] == looks[-1]

    eventually(is_calm, 30, "it stops sending", interval_s=0.05)
    return looks[-1]


def test_an_answer_waits_for_a_client_that_takes_nothing_and_goes_on_when_it_does(daphne: str) -> None:
    with opened(daphne, "/endless") as client:
        before = sent_in_the_end(daphne, "/endless")
        assert before < BUFFERS_PARTS

        wanted = 50 * len(PART)
        while wanted > 0:
            wanted -= len(client.recv(min(wanted, 1_000_000)))

        eventually(lambda: told(daphne, "sent", "/endless") > before, message="it goes on")
        assert told(daphne, "ended", "/endless") == 0


def test_a_client_that_takes_nothing_for_long_is_let_go(daphne: str) -> None:
    with opened(daphne, "/stalls"):
        eventually(lambda: told(daphne, "ended", "/stalls") == 1, message="it is given up")

    assert httpx.get(f"{daphne}/told").status_code == 200


def test_an_answer_that_fails_in_the_middle_is_broken_off(daphne: str) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{daphne}/breaks")

    assert told(daphne, "sent", "/breaks") == 3


def test_an_answer_that_fails_at_once_is_an_error(daphne: str) -> None:
    assert httpx.get(f"{daphne}/fails").status_code == 500


def test_a_whole_answer_comes_whole_and_its_connection_takes_the_next_request(daphne: str) -> None:
    with httpx.Client(base_url=daphne) as client:
        assert len(client.get("/whole").content) == PARTS * len(PART)
        assert client.get("/told").json()["ended"] == {"/whole": 1}
