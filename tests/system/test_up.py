"""`manage.py up` as a whole: real processes, killed and counted."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from mmproject.management.commands.up import Command
from tests.support import START_TIMEOUT_S, STOP_TIMEOUT_S, System, eventually, running_system

START_BUDGET_S = 60
BACK_TIMEOUT_S = 20


@pytest.fixture(scope="module")
def running() -> Iterator[System]:
    """One system for the tests that leave it running."""
    with running_system(nodes=1, symbols=2) as system:
        # A first kill while it still starts would only test supervisord's patience.
        eventually(lambda: len(system.pids()) == 5, 20, "all five programs run")
        yield system


@pytest.mark.parametrize("program", ["daphne", "worker", "beat", "node-1"])
def test_a_killed_process_comes_back(running: System, program: str) -> None:
    killed = running.signal(program)
    eventually(lambda: running.pids().get(program) not in (None, killed), BACK_TIMEOUT_S, f"{program} is back")
    eventually(running.is_ready, BACK_TIMEOUT_S, "the console answers")


def test_a_killed_postgres_comes_back_at_its_address_with_its_data(running: System) -> None:
    with running.connect() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (number int)")
        connection.execute("INSERT INTO kept VALUES (42)")
    killed = running.signal("postgres")
    eventually(lambda: running.pids().get("postgres") not in (None, killed), BACK_TIMEOUT_S, "postgres is back")
    eventually(running.is_ready, BACK_TIMEOUT_S, "the console answers again, by itself")
    with running.connect() as connection:
        assert connection.execute("SELECT DISTINCT number FROM kept").fetchall() == [(42,)]


def test_a_second_up_on_the_same_data_says_so_and_exits(running: System) -> None:
    second = running.manage("up", "--port", str(running.port))
    assert second.returncode == 1
    assert running.process is not None
    assert second.stderr.strip().endswith(f"already running (pid {running.process.pid}) at {running.url}/")


def test_a_port_in_use_is_wrong_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = System(tmp_path / "var", port, 1, 2).manage("up", "--port", str(port))
    assert refused.returncode == 2
    assert f"port {port} is in use" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("option", ["--nodes=99", "--symbols=0", "--port=0", "--seed=-1", "--nodes=x", "--what"])
def test_a_wrong_option_is_wrong_use(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        Command().run_from_argv(["manage.py", "up", option])
    assert exited.value.code == 2
    assert option.strip("-").partition("=")[0] in capsys.readouterr().err.splitlines()[-1]


def test_no_secret_is_in_a_log_or_on_a_command_line(running: System) -> None:
    secrets = [path.read_text() for path in (running.var / "secrets").iterdir()]
    secrets += [urlsplit(url).password or "" for url in running.urls().values()]
    secrets += [running.operator()["password"], running.operator()["token"]]
    assert all(len(secret) >= 12 for secret in secrets)
    shown = {path.name: path.read_text(errors="replace") for path in (running.var / "log").iterdir()}
    for process in psutil.process_iter():
        try:
            shown[f"ps {process.pid}"] = " ".join(process.cmdline())
        except psutil.Error:
            continue  # it ended meanwhile
    assert {"daphne.log", "worker.log", "beat.log", "node-1.log", "postgres.log"} <= set(shown)
    found = [where for where, text in shown.items() if any(secret in text for secret in secrets)]
    assert found == []


def test_each_process_knows_the_credentials_of_its_own_role_only(running: System) -> None:
    urls = running.urls()
    roles = {"daphne": "console", "worker": "exchange", "beat": "exchange", "node-1": "node"}
    for program, role in roles.items():
        environ = Path(f"/proc/{running.pid(program)}/environ").read_text()
        known = {name for name, url in urls.items() if (urlsplit(url).password or "") in environ}
        assert known == {role}, program


def test_files_with_secrets_are_private(running: System) -> None:
    names = ["run/urls.json", "run/supervisord.conf", "operator.json", "secrets/django", "secrets/postgres"]
    assert {(running.var / name).stat().st_mode & 0o777 for name in names} == {0o600}
    assert (running.var / "postgres").stat().st_mode & 0o777 == 0o700


def test_it_stops_within_ten_seconds_leaves_no_orphan_and_carries_on(system: Callable[..., System]) -> None:
    # A folder name that would break sloppy quoting, and too long for a socket's path.
    first = system(nodes=2, symbols=2, seed=5, subfolder="it's 100% long " + 90 * "x")
    with first.connect() as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS number")
    assert first.interrupt() == 0
    assert first.processes() == []

    other_seed = first.manage("up", "--port", str(first.port), "--seed", "6", timeout_s=START_BUDGET_S)
    assert other_seed.returncode == 2
    assert "made with seed 5" in other_seed.stderr
    assert first.processes() == []

    first.seed = None
    first.start()
    with first.connect() as connection:
        assert connection.execute("SELECT number FROM kept").fetchall() == [(42,)]


def test_after_kill_9_of_up_everything_ends_and_the_next_one_carries_on(system: Callable[..., System]) -> None:
    killed = system(nodes=1, symbols=2)
    with killed.connect() as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS number")
    assert killed.process is not None
    killed.process.kill()
    killed.process.wait()
    killed.start()  # at once: it has to wait for what is still ending
    with killed.connect() as connection:
        assert connection.execute("SELECT number FROM kept").fetchall() == [(42,)]


def test_kill_9_of_everything_at_once_loses_no_data(system: Callable[..., System]) -> None:
    killed = system(nodes=1, symbols=2)
    with killed.connect() as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS number")
    postmaster = psutil.Process(killed.pid("postgres"))
    writers, everything = set(postmaster.children()), killed.processes()
    assert postmaster in everything
    assert writers & set(everything), "PostgreSQL's other processes are seen too, or no test here would miss them"
    for process in everything:
        with suppress(psutil.NoSuchProcess):  # its parent's end was its own
            process.kill()
    killed.start()
    with killed.connect() as connection:
        assert connection.execute("SELECT number FROM kept").fetchall() == [(42,)]


def test_kill_9_of_the_supervisor_ends_everything(system: Callable[..., System]) -> None:
    killed = system(nodes=1, symbols=2)
    assert killed.process is not None
    os.kill(int((killed.var / "run" / "supervisord.pid").read_text()), signal.SIGKILL)
    assert killed.process.wait(STOP_TIMEOUT_S) == 1
    assert "supervisord ended by itself" in killed.said()
    eventually(lambda: not killed.processes(), STOP_TIMEOUT_S, "nothing is left")


MOMENTS: dict[str, Callable[[System], bool]] = {
    "reads its own code": lambda system: cpu_s(system) > 0.3,
    "makes a cluster": lambda system: "making a new database cluster" in system.said(),
    "sets up the database": lambda system: "PostgreSQL: " in system.said(),
    "starts its programs": lambda system: "daphne" in system.pids(),
}


def cpu_s(system: System) -> float:
    """Processor time of `up` itself: how far it has come on a machine of any speed."""
    assert system.process is not None
    times = psutil.Process(system.process.pid).cpu_times()
    return float(times.user + times.system)


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_while_it_starts_leaves_nothing(system: Callable[..., System], moment: str) -> None:
    early = system(nodes=1, symbols=2, wait=False)
    eventually(lambda: MOMENTS[moment](early), START_TIMEOUT_S, f"it {moment}")
    assert early.interrupt() in (0, 130, -signal.SIGINT)
    assert early.processes() == []
    assert "Traceback" not in early.said()
