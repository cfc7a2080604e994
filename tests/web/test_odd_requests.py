"""Requests that once were answered 500, found by tests/fuzz."""

from __future__ import annotations

import logging
import re
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from accounts.permissions import ADMIN
from bench.scaffold import free_web_port
from mmproject.conf import ROOT
from mmproject.logs import ClientsFaults
from tests.market import HandMarket
from tests.support import environment, eventually
from tests.web.client import HOST, user_of

BACKEND = "django.contrib.auth.backends.ModelBackend"
CSRF = "c" * 32


@pytest.fixture(scope="module")
def daphne(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Daphne that serves our application, without a database: nothing here gets as far."""
    port = free_web_port()
    command = [sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(port), "mmproject.asgi:application"]
    env = environment(tmp_path_factory.mktemp("daphne") / "var")
    with subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            eventually(lambda: httpx.get(f"{url}/healthz").status_code == 200, 60, "Daphne answers")
            yield url
        finally:
            process.terminate()
            process.wait(timeout=20)


def status(url: str, path: str, *headers: bytes) -> int:
    """The status of the answer to a GET with these header lines."""
    host, _, port = url.removeprefix("http://").partition(":")
    lines = [f"GET {path} HTTP/1.1".encode(), f"Host: {host}:{port}".encode(), *headers, b"", b""]
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(b"\r\n".join(lines))
        said = re.match(rb"HTTP/1.1 ([0-9]{3}) ", client.recv(65_536))
    assert said is not None
    return int(said[1])


def handshake(url: str, path: str, *headers: bytes) -> int:
    return status(
        url, path, b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", f"Origin: {url}".encode(), *headers,
    )  # fmt: skip


@pytest.mark.parametrize("value", [b"\xff", b"/elsewhere", b"%ff%00"])
def test_a_client_cannot_choose_the_prefix_of_our_addresses(daphne: str, value: bytes) -> None:
    header = b"Daphne-Root-Path: " + value

    assert status(daphne, "/healthz", header, b"Connection: close") == 200
    answer = httpx.get(f"{daphne}/favicon.ico", headers=[(b"Daphne-Root-Path", value)])
    assert answer.headers["location"].startswith("/static/")


@pytest.mark.parametrize("path", ["/", "/ws/", "/ws/stream/x", "/%ff", "/api/v1/orders"])
def test_a_websocket_to_an_address_without_a_stream_is_refused(daphne: str, path: str) -> None:
    assert handshake(daphne, path) == 403
    assert handshake(daphne, path, b"Daphne-Root-Path: /x") == 403


def test_a_websockets_protocol_that_is_no_text_is_refused(daphne: str) -> None:
    assert handshake(daphne, "/ws/stream/", b"Sec-WebSocket-Protocol: \xff") == 400


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data; boundary=" + "b" * 300, b"x"),
        ("application/x-www-form-urlencoded", b"&".join(b"f%d=1" % number for number in range(1_100))),
    ],
    ids=["a boundary of 300 characters", "1,100 fields"],
)
def test_a_form_that_cannot_be_read_at_an_address_that_is_none_is_404(content_type: str, body: bytes) -> None:
    browser = Client(enforce_csrf_checks=True, raise_request_exception=False)
    browser.cookies[settings.CSRF_COOKIE_NAME] = CSRF

    answer = browser.post("/nowhere/", body, content_type=content_type, headers={"host": HOST})

    assert answer.status_code == 404
    assert b"nothing here" in answer.content


@pytest.mark.parametrize(
    "address", ["authority/node/%00/change/", "exchange/order/1%00/history/", "auth/group/%00/delete/"]
)
def test_an_address_of_the_admin_with_a_nul_is_refused(standing_market: HandMarket, address: str) -> None:
    browser = Client(raise_request_exception=False)
    browser.force_login(user_of("ada", ADMIN), BACKEND)
    User.objects.filter(username="ada").update(is_staff=True)

    answer = browser.get(f"/admin/{address}", headers={"host": HOST})

    assert answer.status_code in (400, 403, 302), answer.content


@pytest.mark.parametrize(("name", "status_code"), [("django.security.DisallowedHost", 400), ("django.request", 404)])
def test_what_a_client_did_wrong_is_logged_as_a_warning_without_a_traceback(name: str, status_code: int) -> None:
    record = logging.LogRecord(name, logging.ERROR, "", 1, "no", None, (ValueError, ValueError(), None))
    record.status_code = status_code

    assert ClientsFaults().filter(record)
    assert (record.levelname, record.exc_info) == ("WARNING", None)


@pytest.mark.parametrize(("name", "status_code"), [("django.request", 500), ("console.views", 400)])
def test_what_we_did_wrong_stays_an_error_with_its_traceback(name: str, status_code: int) -> None:
    record = logging.LogRecord(name, logging.ERROR, "", 1, "no", None, (ValueError, ValueError(), None))
    record.status_code = status_code

    assert ClientsFaults().filter(record)
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
