"""The console's pages and actions: behind login, permitted, audited, and never by GET."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.hashers import identify_hasher
from django.contrib.auth.models import User
from django.test import Client

from accounts.permissions import ADMIN, OPERATOR, VIEWER
from console.words import GROUPS, sentence
from mmproject.conf import ROOT
from tests.market import HandMarket, busy_market
from tests.racing import kept_locked
from tests.support import Database
from tests.web.client import signed_in, user_of, visitor

PASSWORD = "correct horse battery staple"
ACTIONS = [
    ("/quoting/", {"enabled": "false"}),
    ("/symbols/ALFA/quoting/", {"enabled": "false"}),
    ("/nodes/node-1/draining/", {"draining": "true"}),
]


def audits(market: HandMarket) -> list[tuple[Any, ...]]:
    return market.rows("SELECT actor, action, target, before, after, reason FROM journal_audit ORDER BY id")


def state_of(html: str) -> dict[str, Any]:
    found = re.search(r'<script id="state" type="application/json">(.*?)</script>', html, re.DOTALL)
    assert found
    state: dict[str, Any] = json.loads(found[1])
    return state


# Login


@pytest.mark.parametrize("path", ["/", "/admin/", "/admin/ledger/fill/"])
def test_every_page_asks_for_a_login(standing_market: HandMarket, path: str) -> None:
    answer = visitor().get(path)

    assert answer.status_code == 302
    assert "login" in answer["Location"]


@pytest.mark.parametrize(("path", "fields"), ACTIONS)
def test_every_action_asks_for_a_login(market: HandMarket, path: str, fields: dict[str, str]) -> None:
    answer = visitor().post(path, fields)

    assert answer.status_code == 302
    assert answer["Location"].startswith("/login/")
    assert audits(market) == []


def test_signing_in_and_out(market: HandMarket) -> None:
    user = User.objects.create_user("ola", password=PASSWORD)
    assert identify_hasher(user.password).algorithm == "argon2"
    client = visitor()

    wrong = client.post("/login/", {"username": "ola", "password": "guess"})
    assert wrong.status_code == 200
    assert 'role="alert"' in wrong.content.decode()
    assert client.get("/session/").status_code == 401

    right = client.post("/login/", {"username": "ola", "password": PASSWORD, "next": "/"})
    assert (right.status_code, right["Location"]) == (302, "/")
    assert client.get("/session/").json() == {"username": "ola"}

    assert client.get("/logout/").status_code == 405, "no action by GET"
    assert client.get("/session/").status_code == 200
    assert client.post("/logout/").status_code == 302
    assert client.get("/session/").status_code == 401


def test_after_signing_in_nobody_is_sent_elsewhere(market: HandMarket) -> None:
    User.objects.create_user("ola", password=PASSWORD)
    answer = visitor().post("/login/", {"username": "ola", "password": PASSWORD, "next": "https://elsewhere.example/"})

    assert answer["Location"] == "/"


def test_guessing_a_password_is_locked_out_even_with_the_right_one(market: HandMarket) -> None:
    User.objects.create_user("ola", password=PASSWORD)
    client = visitor()
    for number in range(10):
        client.post("/login/", {"username": "ola", "password": f"guess {number}"})

    answer = client.post("/login/", {"username": "ola", "password": PASSWORD})

    assert answer.status_code in (403, 429)
    assert client.get("/session/").status_code == 401


# The page


def test_the_page_is_painted_with_every_symbol_and_node(standing_market: HandMarket) -> None:
    answer = signed_in("vera", VIEWER).get("/")

    state = state_of(answer.content.decode())
    assert answer.status_code == 200
    assert [row["symbol"] for row in sorted(state["symbols"], key=lambda row: row["symbol"])] == standing_market.symbols
    assert {row["node"] for row in state["nodes"]} == {"node-1", "node-2"}
    for row in state["symbols"]:
        bid, ask = standing_market.best(row["symbol"])
        assert (row["bid"], row["ask"]) == (str(bid), str(ask)), "exactly, and with the tick's decimals"
        assert row["node"] in ("node-1", "node-2")
        assert row["epoch"] >= 1


def test_what_the_page_says_of_a_position_is_what_the_ledger_says(standing_market: HandMarket) -> None:
    state = state_of(signed_in("vera", VIEWER).get("/").content.decode())

    shown = {row["symbol"]: (row["position"], row["realised"], row["unrealised"]) for row in state["symbols"]}
    kept = standing_market.rows(
        "SELECT symbol, quantity, round(realised_pnl, 2)::text, round(unrealised_pnl, 2)::text"
        " FROM exchange_position_marked"
    )
    assert shown.keys() == {row[0] for row in kept}
    for symbol, quantity, realised, unrealised in kept:
        assert shown[symbol][1:] == (realised, unrealised)
        assert shown[symbol][0].replace(".", "").strip("-0") == str(quantity.normalize()).replace(".", "").strip("-0")


def test_a_viewer_has_no_switches(standing_market: HandMarket) -> None:
    viewer = signed_in("vera", VIEWER).get("/").content.decode()
    operator = signed_in("ola", OPERATOR).get("/").content.decode()

    for control in ('role="switch"', "stop-all", "drain"):
        assert control in operator
    assert 'role="switch"' not in viewer
    assert 'id="stop-all"' not in viewer
    assert "dialog-drain" not in viewer


@pytest.mark.parametrize("path", ["/", "/login/", "/no-such-page/"])
def test_pages_bring_no_script_or_style_of_their_own_and_nothing_from_elsewhere(
    standing_market: HandMarket, path: str
) -> None:
    client = visitor() if path == "/login/" else signed_in("ola", OPERATOR)
    answer = client.get(path)
    html, policy = answer.content.decode(), answer["Content-Security-Policy"]

    assert "unsafe" not in policy
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    for attributes, content in re.findall(r"<script([^>]*)>(.*?)</script>", html, re.DOTALL):
        assert "application/json" in attributes or not content.strip(), "an inline script"
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", html)
    assert not re.search(r"""(src|href|action)=["']?(https?:)?//""", html)


def test_scripts_and_styles_load_nothing_from_elsewhere() -> None:
    files = [path for path in (ROOT / "static" / "console").iterdir() if path.suffix in (".js", ".css")]
    assert len(files) > 5
    for path in files:
        text = re.sub(r"^\s*//.*$", "", path.read_text(), flags=re.MULTILINE)  # without comments
        assert not re.search(r"https?://|(?<![:\w])//[a-z]+\.", text), path
        for name in re.findall(r'from "\./([^"]+)"|import "\./([^"]+)"', text):
            assert (path.parent / (name[0] or name[1])).is_file(), f"{path.name} imports {name}"


def test_static_files_are_served(standing_market: HandMarket) -> None:
    from django.contrib.staticfiles import finders

    html = visitor().get("/login/").content.decode()
    linked = re.findall(r'(?:href|src)="/static/([^"]+)"', html)
    assert linked
    for path in [*linked, "console/live.js", "console/console.css"]:
        assert Path(finders.find(path) or "nowhere").is_file(), path


# Actions


@pytest.mark.parametrize(("path", "fields"), ACTIONS)
def test_nothing_is_done_by_get(market: HandMarket, operator: Client, path: str, fields: dict[str, str]) -> None:
    assert operator.get(path, fields).status_code == 405
    assert operator.head(path, fields).status_code == 405
    assert audits(market) == []


@pytest.mark.parametrize(("path", "fields"), ACTIONS)
@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_an_action_needs_its_permission(market: HandMarket, path: str, fields: dict[str, str], accept: str) -> None:
    answer = signed_in("vera", VIEWER).post(path, fields, headers={"accept": accept})

    assert answer.status_code == 403
    assert audits(market) == []


@pytest.mark.parametrize(("path", "fields"), ACTIONS)
def test_an_action_needs_the_pages_token(market: HandMarket, path: str, fields: dict[str, str]) -> None:
    client = signed_in("ola", OPERATOR, enforce_csrf_checks=True)
    assert client.post(path, fields).status_code == 403
    assert audits(market) == []

    client.get("/")
    token = client.cookies[next(name for name in client.cookies if "csrf" in name)].value
    answer = client.post(path, fields, headers={"X-CSRFToken": token, "accept": "application/json"})

    assert answer.status_code == 200
    assert audits(market)


def test_turning_a_symbol_off_withdraws_its_quote_and_is_audited(market: HandMarket, operator: Client) -> None:
    answer = operator.post(
        "/symbols/ALFA/quoting/", {"enabled": "false", "reason": "news"}, headers={"accept": "application/json"}
    )

    assert answer.json() == {"changed": [{"symbol": "ALFA", "before": True, "after": False}]}
    assert audits(market) == [("ola", "quoting_off", "ALFA", True, False, "news")]
    assert market.rows("SELECT symbol FROM exchange_quote WHERE published_at IS NULL OR NOT quoting_enabled") == [
        ("ALFA",)
    ]

    operator.post("/symbols/ALFA/quoting/", {"enabled": "true"})
    assert audits(market)[1] == ("ola", "quoting_on", "ALFA", False, True, "")


def test_stopping_all_withdraws_every_quote_and_is_audited_per_symbol(market: HandMarket, operator: Client) -> None:
    answer = operator.post("/quoting/", {"enabled": "false"})

    assert (answer.status_code, answer["Location"]) == (302, "/"), "a form without script goes back to the page"
    assert market.one("SELECT count(*) FROM exchange_quote WHERE published_at IS NOT NULL OR quoting_enabled") == 0
    assert [(actor, action, target) for actor, action, target, *_ in audits(market)] == [
        ("ola", "quoting_off", symbol) for symbol in market.symbols
    ]


def test_what_could_not_be_stopped_is_said(market: HandMarket, operator: Client) -> None:
    with kept_locked(market.database, "BRAVO"):
        answer = operator.post("/quoting/", {"enabled": "false"}, headers={"accept": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (503, "symbols_locked")
    assert "is off for 2 of 3 symbols, but could not be turned off for BRAVO," in answer.json()["detail"]
    assert [target for _, _, target, *_ in audits(market)] == ["ALFA", "CHARLIE"]


def test_draining_is_audited(market: HandMarket, operator: Client) -> None:
    assert operator.post("/nodes/node-1/draining/", {"draining": "true"}).status_code == 302
    assert operator.post("/nodes/node-1/draining/", {"draining": "false"}).status_code == 302

    assert audits(market) == [
        ("ola", "drain", "node-1", False, True, ""),
        ("ola", "undrain", "node-1", True, False, ""),
    ]


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/symbols/NOPE/quoting/", {"enabled": "false"}, 404),
        ("/symbols/%00/quoting/", {"enabled": "false"}, 404),
        ("/symbols/" + "A" * 500 + "/quoting/", {"enabled": "false"}, 404),
        ("/nodes/node-9/draining/", {"draining": "true"}, 404),
        ("/quoting/", {}, 400),
        ("/quoting/", {"enabled": "maybe"}, 400),
        ("/quoting/", {"enabled": ""}, 400),
        ("/symbols/ALFA/quoting/", {"enabled": "1"}, 400),
        ("/nodes/node-1/draining/", {"draining": "on"}, 400),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    market: HandMarket, operator: Client, path: str, fields: dict[str, str], status: int
) -> None:
    assert operator.post(path, fields, headers={"accept": "application/json"}).status_code == status
    assert audits(market) == []


def test_a_reason_is_kept_as_plain_text_of_bounded_length(market: HandMarket, operator: Client) -> None:
    operator.post("/symbols/ALFA/quoting/", {"enabled": "false", "reason": "a\0b<script>" + "x" * 5000})

    ((*_, reason),) = audits(market)
    assert reason.startswith("ab<script>")
    assert len(reason) == 200


# Without the database


@pytest.mark.parametrize("path", ["/", "/login/"])
def test_without_a_database_the_page_says_so(
    market: HandMarket, operator: Client, unreachable: Callable[[], None], path: str
) -> None:
    unreachable()
    login = {"username": "ola", "password": PASSWORD}
    answer = operator.post(path, login) if path == "/login/" else operator.get(path)

    assert answer.status_code == 503
    assert "cannot be reached" in answer.content.decode()
    assert answer["Retry-After"]


@pytest.mark.parametrize("path", ["/session/", "/quoting/"])
def test_without_a_database_a_script_is_told_so(
    market: HandMarket, operator: Client, unreachable: Callable[[], None], path: str
) -> None:
    unreachable()
    call = operator.get if path == "/session/" else operator.post
    answer = call(path, {"enabled": "false"}, headers={"accept": "application/json"})

    assert answer.status_code == 503
    assert answer.json()["code"] == "unavailable"


# Words


def test_everything_that_happens_has_its_sentence(database: Database) -> None:
    market = busy_market(database)
    rows = market.rows("SELECT DISTINCT ON (kind, data ->> 'status') kind, node, data FROM ledger_activity")

    kinds = {kind for kind, *_ in rows}
    assert kinds == set(GROUPS) - {"trade"}, "a kind without a place in the feed, or one that never happens"
    for kind, node, data in rows:
        said = sentence(kind, node, data)
        assert said != kind.replace("_", " ")
        assert "None" not in said
        assert said[0].isupper() or said.startswith((node or "", data.get("actor", "")))
    for node in market.nodes.values():
        node.connection.close()


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        (
            "fill",
            {"side": "sell", "quantity": "12500", "price": "100.05", "position": "-2500.5"},
            "Sold 12,500 at 100.05, position now \N{MINUS SIGN}2,500.5",
        ),
        (
            "order",
            {"status": "rejected", "side": "buy", "type": "market", "time_in_force": "IOC", "price": None,
             "quantity": "5", "reject_code": "no_liquidity"},
            "Buy order for 5 at market (IOC) rejected: nothing to trade with",
        ),
        (
            "refused",
            {"epoch": 3, "reason": "stale_epoch"},
            "Quote of node-1 under epoch 3 refused: a newer epoch has been granted",
        ),
        (
            "ended",
            {"reason": "session_lost", "symbols": ["A", "B", "C", "D", "E", "F"]},
            "node-1 ended, connection to the database lost; held A, B, C, D and 2 more",
        ),
        ("quoting_off", {"actor": "ola", "changed": False}, "ola turned quoting off (it was off already)"),
        ("rebalanced", {"generation": 2, "moves": 1, "members": ["a"], "cause": "a joined"},
         "Assignment generation 2: 1 symbol assigned anew, members a (a joined)"),
        ("something_new", {}, "something new"),
    ],
)  # fmt: skip
def test_sentences(kind: str, data: dict[str, Any], said: str) -> None:
    assert sentence(kind, "node-1", data) == said


def test_an_admin_sees_what_an_operator_sees(standing_market: HandMarket) -> None:
    assert 'href="/admin/"' not in signed_in("ola", OPERATOR).get("/").content.decode()
    staff = user_of("ada", ADMIN)
    staff.is_staff = True
    staff.save()

    assert 'href="/admin/"' in signed_in("ada", ADMIN).get("/").content.decode()
