"""Settings: read once, checked, and wrong ones named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmproject import conf as module
from mmproject.conf import ROOT
from mmproject.db import connect_url, described
from mmproject.errors import ConfError, NoDatabase
from mmproject.settings import database


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MM_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("DATABASE_URL", raising=False)


def test_without_an_environment_the_defaults_hold() -> None:
    conf = module.load()
    assert (conf.host, conf.port, conf.nodes, conf.symbols, conf.seed) == ("127.0.0.1", 8000, 3, 10, 1)
    assert (conf.lease_ttl_ms, conf.renew_interval_ms, conf.tick_ms) == (3000, 1000, 1000)
    assert conf.var == ROOT / "var"
    assert conf.quote_retention_ms == 3_600_000
    assert conf.quote_refresh_ms < 5000 < conf.quote_validity_ms


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MM_PORT", "0"),
        ("MM_PORT", "eight"),
        ("MM_NODES", "-1"),
        ("MM_SYMBOLS", "10001"),
        ("MM_SEED", "1.5"),
        ("MM_TICK_MS", ""),
        ("MM_DEBUG", "maybe"),
        ("MM_LOG_LEVEL", "LOUD"),
        ("MM_RENEW_INTERVAL_MS", "2800"),
        ("MM_QUOTE_REFRESH_MS", "8000"),
        ("MM_QUOTE_VALIDITY_MS", "2499"),
        ("MM_QUOTE_RETENTION_MS", "59999"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfError, match=name):
        module.load()


def test_a_wrong_setting_is_one_line_and_exit_2(tmp_path: Path) -> None:
    env = {**os.environ, "MM_VAR": str(tmp_path), "MM_PORT": "eight"}
    refused = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert len(refused.stderr.strip().splitlines()) == 1
    assert "MM_PORT" in refused.stderr


def test_a_command_without_a_database_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MM_VAR", str(tmp_path))
    with pytest.raises(NoDatabase, match="make run"):
        connect_url("console", module.load())


def test_database_url_wins_over_what_up_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MM_VAR", str(tmp_path))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "urls.json").write_text('{"console": "postgresql://written"}')
    assert connect_url("console", module.load()) == "postgresql://written"
    monkeypatch.setenv("DATABASE_URL", "postgresql://given")
    assert connect_url("console", module.load()) == "postgresql://given"


def test_a_url_is_shown_without_its_password() -> None:
    assert described("postgresql://me:secret@db.example:6543/market") == "db.example:6543/market"


def test_a_url_may_name_several_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://me:a,b@db-1.example:6543,db-2.example/market"
    monkeypatch.setenv("DATABASE_URL", url)
    assert connect_url("node", module.load()) == url
    assert described(url) == "db-1.example:6543,db-2.example:5432/market"
    told = database(url)
    assert (told["HOST"], told["PORT"]) == ("db-1.example,db-2.example", "6543,5432")
    assert (told["USER"], told["PASSWORD"], told["NAME"]) == ("me", "a,b", "market")
    assert told["ENGINE"] == "mmproject.backend"
    assert told["OPTIONS"]["target_session_attrs"] == "read-write"
    monkeypatch.setenv("DATABASE_URL", "postgresql://me@db-1.example:6543,db-2.example:none/market")
    with pytest.raises(ConfError, match="must look like"):
        module.load()
