"""The first operator, tokens, groups."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import Group, User
from django.test import RequestFactory

from accounts import services
from accounts.models import ApiToken
from accounts.permissions import ADMIN, OPERATOR, VIEWER, ensure_groups
from tests.support import Database

URL = "http://127.0.0.1:8000/"


@pytest.fixture
def path(database: Database, tmp_path: Path) -> Iterator[Path]:
    """Where the login is kept; Django acts as set-up does."""
    with database.django("admin"):
        yield tmp_path / "var" / "operator.json"


def can_sign_in(login: dict[str, str]) -> bool:
    request = RequestFactory().post("/login/")
    user = authenticate(request, username=login["username"], password=login["password"])
    token = ApiToken.objects.filter(token_hash=services.token_hash(login["token"]))
    return user is not None and token.exists()


def test_the_first_run_makes_an_operator_and_tells_the_login_once(path: Path) -> None:
    credentials = services.ensure_operator(path=path, url=URL)
    kept = json.loads(path.read_text())

    assert credentials is not None
    assert kept == {
        "url": URL, "username": "operator", "password": credentials.password, "token": credentials.token,
    }  # fmt: skip
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert can_sign_in(kept)
    assert services.ensure_operator(path=path, url=URL) is None
    assert json.loads(path.read_text()) == kept


def test_another_address_changes_the_address_alone(path: Path) -> None:
    services.ensure_operator(path=path, url=URL)
    kept = json.loads(path.read_text())

    assert services.ensure_operator(path=path, url="http://127.0.0.1:9000/") is None
    assert json.loads(path.read_text()) == {**kept, "url": "http://127.0.0.1:9000/"}
    assert can_sign_in(kept)


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"username": "operator"}'])
def test_nobody_is_locked_out_when_the_file_is_gone_or_broken(path: Path, content: str | None) -> None:
    services.ensure_operator(path=path, url=URL)
    lost = json.loads(path.read_text())
    path.unlink()
    if content is not None:
        path.write_text(content)

    assert services.ensure_operator(path=path, url=URL) is not None
    assert can_sign_in(json.loads(path.read_text()))
    assert not can_sign_in(lost)
    assert User.objects.count() == 1
    assert ApiToken.objects.count() == 1


def test_a_file_of_other_data_is_replaced(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps({"url": URL, "username": "operator", "password": "old", "token": "old"}))

    assert services.ensure_operator(path=path, url=URL) is not None
    assert can_sign_in(json.loads(path.read_text()))


def test_the_operator_is_no_superuser_and_cannot_make_one(path: Path) -> None:
    services.ensure_operator(path=path, url=URL)
    user = User.objects.get()

    assert user.is_staff
    assert not user.is_superuser
    assert not {"auth.add_user", "auth.change_user", "auth.change_group"} & user.get_all_permissions()
    assert {
        "accounts.place_order", "accounts.toggle_quoting", "accounts.drain_node", "accounts.change_parameters",
        "exchange.change_symbol", "ledger.view_fill", "authority.view_tenure", "journal.view_audit",
    } <= user.get_all_permissions()  # fmt: skip


def test_the_groups_are_made_with_the_migrations_and_making_them_again_changes_nothing(path: Path) -> None:
    def held() -> dict[str, set[str]]:
        return {g.name: set(g.permissions.values_list("codename", flat=True)) for g in Group.objects.all()}

    before = held()
    assert before[VIEWER] == set()
    assert before[OPERATOR] == {"place_order", "toggle_quoting", "drain_node"}
    assert before[ADMIN] > before[OPERATOR]
    ensure_groups()
    assert held() == before


def test_a_token_belongs_to_a_user_who_exists(path: Path) -> None:
    with pytest.raises(services.UnknownUser):
        services.create_token(username="nobody", name="x")
    with pytest.raises(services.UnknownToken):
        services.revoke_token(1)


def test_the_console_makes_and_revokes_tokens_with_its_own_rights(path: Path, database: Database) -> None:
    services.ensure_operator(path=path, url=URL)
    with database.django("console"):
        services.create_token(username="operator", name="laptop")
        token = ApiToken.objects.get(name="laptop")
        services.revoke_token(token.pk)
        reset = services.reset_operator(path=path)

    kept = json.loads(path.read_text())
    assert (kept["url"], kept["password"], kept["token"]) == (URL, reset.password, reset.token)
    assert can_sign_in(kept)
