"""Who may call what: 401, 403, CSRF, revocation, and the answer when the database is away."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client

from accounts import auth
from accounts.models import ApiToken
from accounts.permissions import ADMIN, OPERATOR, VIEWER
from accounts.services import token_hash
from mmproject.provision import point_django_at, with_database
from tests.market import HandMarket
from tests.web.client import BACKEND, HOST, Answer, ApiClient, client_of, user_of

READS = [
    "orders", "orders/x", "symbols", "prices", "quotes", "fills", "positions", "nodes", "assignments", "leases",
    "leases/ALFA/history", "activity",
]  # fmt: skip
ORDER = {
    "client_order_id": "a-1", "symbol": "ALFA", "side": "buy", "type": "limit", "time_in_force": "IOC", "price": "1",
    "quantity": "1",
}  # fmt: skip
# method, path, body, the permission that it needs
WRITES: list[tuple[str, str, Any, str]] = [
    ("POST", "orders", ORDER, "accounts.place_order"),
    ("POST", "orders/batch", {"orders": [ORDER]}, "accounts.place_order"),
    ("DELETE", "orders/x", None, "accounts.place_order"),
    ("POST", "quoting", {"enabled": True}, "accounts.toggle_quoting"),
    ("POST", "symbols/ALFA/quoting", {"enabled": True}, "accounts.toggle_quoting"),
    ("POST", "nodes/node-1/drain", {"draining": False}, "accounts.drain_node"),
]
EVERY = [("GET", path, None, "") for path in READS] + WRITES


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer nonsense", "Bearer \x00", "Bearer " + "x" * 5000, "Basic YTpi", "bearer\t"],
    ids=range(9),
)
def test_nobody_is_let_in_without_a_valid_token_or_session(
    standing_market: HandMarket, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    for method, path, body, _ in EVERY:
        answer = ApiClient().call(method, path, body, **headers)

        assert (answer.status, answer.code) == (401, "unauthenticated"), (method, path)
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path", "body", "permission"), WRITES)
def test_a_write_needs_the_permission_named_for_it(
    standing_market: HandMarket, method: str, path: str, body: Any, permission: str
) -> None:
    refused = client_of("vera", VIEWER).call(method, path, body)
    permitted = [
        client_of("otto", OPERATOR).call(method, path, body),
        client_of("ada", ADMIN).call(method, path, body),
    ]

    assert (refused.status, refused.code) == (403, "forbidden")
    assert permission in refused.json["detail"]
    for answer in permitted:
        assert answer.status == 404 if path == "orders/x" else answer.status == 200, answer


def test_permission_is_judged_before_the_body(standing_market: HandMarket) -> None:
    assert client_of("vera", VIEWER).post("orders", b"{").status == 403


def test_a_revoked_token_is_refused_as_soon_as_the_cache_forgets_it(
    standing_market: HandMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = client_of("rita", VIEWER)
    assert api.get("symbols").status == 200
    ApiToken.objects.filter(user__username="rita").delete()
    later = time.monotonic() + auth.CACHE_TTL_S
    monkeypatch.setattr("accounts.auth.time.monotonic", lambda: later)

    assert auth.CACHE_TTL_S <= 5
    assert api.get("symbols").status == 401


def test_a_user_who_may_no_longer_sign_in_cannot_use_a_token(
    standing_market: HandMarket,
) -> None:
    api = client_of("gone", ADMIN)
    User.objects.filter(username="gone").update(is_active=False)

    assert api.get("symbols").status == 401


def test_only_a_tokens_hash_is_kept(standing_market: HandMarket) -> None:
    token = client_of("hash", VIEWER).token
    assert token is not None
    kept = [row for (row,) in standing_market.rows("SELECT t::text FROM accounts_apitoken t")]

    assert any(token_hash(token) in row for row in kept)
    assert not any(token in row or token.removeprefix("mm_") in row for row in kept)


@pytest.fixture
def browser(standing_market: HandMarket) -> Client:
    """A signed-in browser that has to show its CSRF token."""
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.force_login(user_of("bea", ADMIN), BACKEND)
    return client


def test_a_session_reads_without_and_writes_only_with_the_csrf_token(
    browser: Client, standing_market: HandMarket
) -> None:
    def send(**headers: str) -> Answer:
        return Answer(
            browser.post(
                "/api/v1/quoting",
                {"enabled": True},
                content_type="application/json",
                headers={"host": HOST, **headers},
            )
        )

    assert browser.get("/api/v1/quotes", headers={"host": HOST}).status_code == 200
    assert (send().status, send().code) == (403, "csrf_failed")
    assert send(**{"x-csrftoken": "x" * 32}).code == "csrf_failed"

    page = browser.get("/api/docs", headers={"host": HOST}).content.decode()
    token = page.split('data-csrf-token="')[1].split('"')[0]
    assert send(**{"x-csrftoken": token}).status == 200
    assert standing_market.one("SELECT count(*) FROM journal_audit WHERE actor = 'bea'") == 3


def test_a_session_without_the_permission_is_refused(browser: Client) -> None:
    browser.force_login(user_of("vera", VIEWER), BACKEND)
    browser.handler.enforce_csrf_checks = False  # what is asked here is the permission

    answer = Answer(browser.post("/api/v1/quoting", b"{}", content_type="application/json", headers={"host": HOST}))

    assert answer.status == 403


def test_a_wrong_token_is_not_rescued_by_a_session(browser: Client) -> None:
    response = browser.get("/api/v1/quotes", headers={"host": HOST, "authorization": "Bearer wrong"})

    assert response.status_code == 401


@pytest.mark.parametrize(
    "cookie", ["", "x", "\\000" * 32, '"\\000aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"', "x" * 5000, "é" * 32]
)
def test_a_forged_session_cookie_is_nobody(standing_market: HandMarket, cookie: str) -> None:
    answer = ApiClient().get("quotes", cookie=f"{settings.SESSION_COOKIE_NAME}={cookie}")

    assert answer.status == 401


@pytest.mark.parametrize("path", ["/", "/login/", "/admin/", "/api/v1/quotes"])
def test_a_session_cookie_with_a_nul_is_nobodys_and_no_error(standing_market: HandMarket, path: str) -> None:
    browser = Client(headers={"host": HOST})
    browser.cookies[settings.SESSION_COOKIE_NAME] = "\0" + "a" * 31

    assert browser.get(path).status_code in (200, 302, 401)


@pytest.mark.parametrize("path", ["/", "/api/v1/quotes"])
def test_another_host_name_is_refused_in_words(standing_market: HandMarket, path: str) -> None:
    response = Client(headers={"host": "evil.example"}).get(path)

    assert response.status_code == 400
    assert b"MM_ALLOWED_HOSTS" in response.content
    assert response.headers["content-type"].startswith("application/json" if "api" in path else "text/plain")


def test_without_the_database_every_call_answers_503_in_our_words(market: HandMarket, api: ApiClient) -> None:
    assert api.get("quotes").status == 200
    before = point_django_at(with_database(market.database.url("console"), "gone"))
    try:
        for method, path, body, _ in EVERY:
            answer = api.call(method, path, body)
            assert (answer.status, answer.code) == (503, "unavailable"), (path, answer)
            assert b"Traceback" not in answer.raw
            assert b"gone" not in answer.raw
    finally:
        connections["default"].close()
        connections.settings["default"].update(before)
