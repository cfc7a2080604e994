"""Secrets, URLs, retries and the supervisor's configuration."""

from __future__ import annotations

import configparser
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from supervisor.datatypes import dict_of_key_value_pairs

from mmproject import provision
from mmproject.conf import ROOT, load
from mmproject.db import RETRY_ATTEMPTS, retrying
from mmproject.postgres import PORTS, free_port
from mmproject.secrets import kept_secret, role_password
from mmproject.supervision import Program, configuration
from tests.support import eventually


def test_a_kept_secret_is_private_and_the_same_next_time(tmp_path: Path) -> None:
    secret = kept_secret(tmp_path / "var", "django")
    assert len(secret) >= 48
    assert kept_secret(tmp_path / "var", "django") == secret
    assert kept_secret(tmp_path / "var", "roles") != secret
    path = tmp_path / "var" / "secrets" / "django"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_makers_of_the_same_secret_at_once_get_the_same_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(lambda _: kept_secret(tmp_path, "django"), range(64)))) == 1
    assert [path.name for path in (tmp_path / "secrets").iterdir()] == ["django"]


def test_a_roles_password_follows_from_the_admins_and_differs_by_role(tmp_path: Path) -> None:
    url = "postgresql://me:p%40ss@host/db"
    assert role_password(tmp_path, url, "mm_node") == role_password(tmp_path / "other", url, "mm_node")
    assert role_password(tmp_path, url, "mm_node") != role_password(tmp_path, url, "mm_console")
    assert role_password(tmp_path, url.replace("p%40ss", "other"), "mm_node") != role_password(tmp_path, url, "mm_node")
    assert not (tmp_path / "secrets").exists()


def test_an_admin_without_password_falls_back_on_a_random_key(tmp_path: Path) -> None:
    url = "postgresql://me@/db?host=/var/run/postgresql"
    assert role_password(tmp_path, url, "mm_node") != role_password(tmp_path / "other", url, "mm_node")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://admin:a%2Fb@db.example:6543/market?sslmode=require",
        "postgresql://admin@/market?host=/var/run/postgresql",
        "postgres://[::1]:5432/market",
    ],
)
def test_another_login_keeps_host_database_and_options(url: str) -> None:
    made = urlsplit(provision.with_login(url, "mm_node", "p/w@"))
    given = urlsplit(url)
    assert (made.username, unquote(made.password or "")) == ("mm_node", "p/w@")
    assert (made.hostname, made.port, made.path, made.query) == (given.hostname, given.port, given.path, given.query)


def test_a_free_port_is_none_that_clients_are_given() -> None:
    path = Path("/proc/sys/net/ipv4/ip_local_port_range")
    lowest = int(path.read_text().split()[0]) if path.exists() else 32_768
    assert free_port() in PORTS
    assert max(PORTS) < max(lowest, 32_768)


class Failing(Exception):
    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


def test_a_serialization_failure_is_tried_again_and_then_shown() -> None:
    calls = []

    def twice_then_done() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise Failing("40001")
        return "done"

    assert retrying(twice_then_done) == "done"
    assert len(calls) == 3

    calls.clear()

    def never() -> None:
        calls.append(1)
        raise Failing("40P01")

    with pytest.raises(Failing):
        retrying(never)
    assert len(calls) == RETRY_ATTEMPTS


def test_any_other_error_is_not_tried_again() -> None:
    calls = []

    def wrong() -> None:
        calls.append(1)
        raise Failing("23505")

    with pytest.raises(Failing):
        retrying(wrong)
    assert len(calls) == 1


def test_the_supervisors_configuration_survives_odd_paths_and_passwords(tmp_path: Path) -> None:
    """Read back the way supervisord does: % expanded, words and values unquoted."""
    odd = "it's 100% \\ odd, isn't=it"
    environment = {"DATABASE_URL": f"postgresql://{odd}"}
    program = Program("odd", "services", ["/bin/echo", odd], environment, directory=tmp_path)
    parser = configparser.RawConfigParser()
    parser.read_string(configuration([program], load(), tmp_path / "socket"))
    section = parser["program:odd"]
    assert shlex.split(section["command"] % {})[-2:] == ["/bin/echo", odd]
    assert dict_of_key_value_pairs(section["environment"] % {}) == environment


def test_a_guarded_program_dies_with_its_parent() -> None:
    """The parent starts it, says its pid, and is killed."""
    guard = str(ROOT / "mmproject" / "guard.py")
    parent = (
        "import subprocess, sys, time;"
        f"p = subprocess.Popen([sys.executable, {guard!r}, 'SIGKILL', '--', '/bin/sh', '-c', 'echo up; exec sleep 60'],"
        " stdout=subprocess.PIPE);"
        "p.stdout.readline(); print(p.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()

    def is_gone() -> bool:
        status = Path(f"/proc/{pid}/stat")
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"

    eventually(is_gone, 5, "the guarded program is gone")


def test_a_traceback_in_the_log_holds_no_local_variables() -> None:
    """A password in a local variable of a failing function must not reach the log."""
    code = """
import logging
from mmproject import logs
logs.configure({"level": "INFO", "process": "test"})
def fails():
    password = "hunter" + "2"
    raise ValueError(len(password))
try:
    fails()
except ValueError:
    logging.getLogger("test").exception("it failed")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "it failed" in done.stderr
    assert "ValueError" in done.stderr
    assert "hunter2" not in done.stderr
