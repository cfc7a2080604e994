"""The processes of a system under supervisord: what they are, its configuration, and how to talk to it.

Each one runs behind mmproject/guard.py and so dies with supervisord, which itself dies with `manage.py up`. Each gets
the credentials of its own role in its environment, and no other; none are on a command line.
"""

from __future__ import annotations

import http.client
import os
import sys
import tempfile
import xmlrpc.client
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from mmproject.conf import ROOT, Conf
from mmproject.errors import UsageError
from mmproject.postgres import Cluster, dropped

T = TypeVar("T")

LOG_MAX_BYTES = "10MB"
LOG_BACKUPS = 3
START_S = 1  # running for so long counts as started
START_RETRIES = 3  # with pauses of 1, 2, 3 s; then `up` begins anew, so that the pause stays short and never ends
SOCKET_PATH_MAX = 90  # the kernel's limit is 107, macOS's 103; supervisord appends a pid while it makes the socket
SHUTDOWN_STATE = 6  # supervisor.xmlrpc.Faults.SHUTDOWN_STATE
# Seconds to stop in, by group, one after another: together less than the contract's 10.
STOP_S = {"nodes": 3, "services": 3, "database": 3}
# Lower starts first and stops last.
PRIORITY = {"database": 1, "services": 10, "nodes": 20}


@dataclass(frozen=True)
class Program:
    """One process: how it is started and stopped, and what it may know."""

    name: str
    group: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    directory: Path = ROOT
    stop_signal: str = "TERM"
    guard: list[str] = field(default_factory=lambda: ["SIGKILL"])  # signal at supervisord's death; uid, gid


def programs(settings: Conf, urls: dict[str, str], *, cluster: Cluster | None) -> list[Program]:
    """The processes of a system with these settings."""
    python = [sys.executable, "-m"]
    celery = [*python, "celery", "-A", "mmproject.celery", "-q"]
    listen = ["-v", "0", "-b", settings.host, "-p", str(settings.port)]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]  # there is one worker, of no interest
    manage = [sys.executable, str(ROOT / "manage.py")]

    def known(role: str, process: str, **more: str) -> dict[str, str]:
        return {"DATABASE_URL": urls[role], "MM_PROCESS": process, "MM_VAR": str(settings.var), **more}

    secret = {"MM_SECRET_KEY": settings.secret_key} if settings.secret_key else {}
    broker = {"CELERY_SKIP_CHECKS": "1"}  # Django's checks import every view; `make check` runs them
    if settings.broker_url:
        broker["CELERY_BROKER_URL"] = settings.broker_url
    found = [
        Program(
            "daphne",
            "services",
            [*python, "daphne", *listen, "--server-name", "market-maker", "mmproject.asgi:application"],
            known("console", "daphne", MM_PORT=str(settings.port), MM_HOST=settings.host, **secret),
        ),
        Program(
            "worker",
            "services",
            [*celery, "worker", "-P", "threads", "-c", "2", *quiet],
            known("exchange", "worker", **broker),
        ),
        Program("beat", "services", [*celery, "beat", "--pidfile="], known("exchange", "beat", **broker)),
    ]
    for number in range(1, settings.nodes + 1):
        name = f"node-{number}"
        found.append(Program(name, "nodes", [*manage, "runnode", "--name", name], known("node", name)))
    if cluster:
        account = [str(cluster.account.uid), str(cluster.account.gid)] if dropped(cluster.account) else []
        found.append(
            Program(
                "postgres",
                "database",
                cluster.command(),
                {"MM_VAR": str(settings.var)},
                directory=cluster.directory,
                stop_signal="INT",  # fast: ends sessions, writes a checkpoint
                guard=["SIGINT", *account],
            )
        )
    return found


def _word(value: str) -> str:
    """A word of a command in supervisord's configuration, which expands % and then splits as a shell does."""
    if set(value) & {"\n", '"'}:
        raise UsageError(f"a path or host with a double quote or line break cannot be run from: {value!r}")
    return '"' + value.replace("\\", "\\\\").replace("%", "%%") + '"'


def _value(name: str, value: str) -> str:
    """A value of an environment there: the quotes are taken off, and nothing inside is unescaped."""
    if set(value) & {"\n", '"'} or value.strip("'") != value:
        raise UsageError(f"{name}: a double quote, a line break, or a quote at its end cannot be handed on")
    return '"' + value.replace("%", "%%") + '"'


def _section(program: Program, logs: Path) -> str:
    guard = [sys.executable, "-I", "-S", str(ROOT / "mmproject" / "guard.py"), *program.guard, "--"]
    # supervisord expands stdout_logfile twice, the others once.
    environment = ",".join(f"{name}={_value(name, value)}" for name, value in program.environment.items())
    return f"""
[program:{program.name}]
command={" ".join(_word(word) for word in [*guard, *program.command])}
environment={environment}
directory={str(program.directory).replace("%", "%%")}
autostart={"true" if program.group == "database" else "false"}
autorestart=true
startsecs={START_S}
startretries={START_RETRIES}
stopsignal={program.stop_signal}
stopwaitsecs={STOP_S[program.group]}
redirect_stderr=true
stdout_logfile={str(logs / program.name).replace("%", "%%%%")}.log
stdout_logfile_maxbytes={LOG_MAX_BYTES}
stdout_logfile_backups={LOG_BACKUPS}
"""


def configuration(found: list[Program], settings: Conf, socket: Path) -> str:
    """The text of supervisord.conf."""
    run, logs = settings.var / "run", settings.var / "log"
    escaped = {name: str(path).replace("%", "%%") for name, path in [("run", run), ("logs", logs)]}
    text = f"""# Written by `manage.py up` at each start.
[unix_http_server]
file={str(socket).replace("%", "%%")}
chmod=0600

[supervisord]
nodaemon=true
silent=true
umask=077
pidfile={escaped["run"]}/supervisord.pid
logfile={escaped["logs"]}/supervisord.log
logfile_maxbytes={LOG_MAX_BYTES}
logfile_backups={LOG_BACKUPS}
childlogdir={escaped["logs"]}
{"user=root" if os.geteuid() == 0 else ""}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
    for group, priority in PRIORITY.items():
        members = [program.name for program in found if program.group == group]
        if members:
            text += f"\n[group:{group}]\nprograms={','.join(members)}\npriority={priority}\n"
    return text + "".join(_section(program, logs) for program in found)


def inherited_environment(settings: Conf) -> dict[str, str]:
    """What supervisord and all programs get from `up`'s environment: its settings, and none of its credentials."""
    secret = {"DATABASE_URL", "CELERY_BROKER_URL", "MM_SECRET_KEY", "PGPASSWORD", "PGPASSFILE", "PGSERVICEFILE"}
    kept = {name: value for name, value in os.environ.items() if name not in secret}
    given = {
        "MM_VAR": settings.var,
        "MM_PORT": settings.port,
        "MM_NODES": settings.nodes,
        "MM_SYMBOLS": settings.symbols,
        "PYTHONUNBUFFERED": 1,
    }
    return {**kept, **{name: str(value) for name, value in given.items()}}


# --- Talking to it --------------------------------------------------------------------------------------------


def socket_path(var: Path, *, make: bool = False) -> Path:
    """supervisord's socket: below var, or, where that path is too long for one, in a private temporary folder.

    With `make` that folder is made, and written down for those who look for it later.
    """
    path = var / "run" / "supervisor.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_MAX:
        return path
    pointer = var / "run" / "supervisor-socket"
    if make and not (pointer.exists() and Path(pointer.read_text()).parent.is_dir()):
        folder = tempfile.mkdtemp(prefix="mm-", dir="/tmp")
        pointer.write_text(f"{folder}/supervisor.sock")
    return Path(pointer.read_text())


def remove_socket(var: Path) -> None:
    """Remove the socket, and the temporary folder that was made for it."""
    try:
        path = socket_path(var)
    except FileNotFoundError:
        return  # it was never made
    path.unlink(missing_ok=True)
    if path.parent != var / "run":
        path.parent.rmdir()
        (var / "run" / "supervisor-socket").unlink()


class Supervisor:
    """A client of supervisord. Its calls raise ConnectionError when it cannot be reached or is about to end."""

    def __init__(self, socket: Path) -> None:
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{socket}")
        self._server = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        self._transport = transport

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self._transport.close()

    def _call(self, call: Callable[[Any], T]) -> T:
        try:
            return call(cast(Any, self._server).supervisor)
        except (xmlrpc.client.ProtocolError, http.client.HTTPException, OSError) as error:
            self._transport.close()  # the next call connects anew
            raise ConnectionError(f"supervisord does not answer: {error}") from error
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == SHUTDOWN_STATE:
                raise ConnectionError("supervisord is stopping") from fault
            raise

    def processes(self) -> list[dict[str, Any]]:
        """Per program: name, group, pid, statename, start (epoch seconds), exitstatus, spawnerr."""
        return self._call(lambda supervisor: cast(list[dict[str, Any]], supervisor.getAllProcessInfo()))

    def start_group(self, group: str) -> None:
        """Start every program of a group at once; returns before they are up."""
        self._call(lambda supervisor: supervisor.startProcessGroup(group, False))

    def start(self, group: str, name: str) -> None:
        self._call(lambda supervisor: supervisor.startProcess(f"{group}:{name}", False))

    def wake(self) -> None:
        """Let its loop, which may sleep for a second, notice now what happened."""
        self._call(lambda supervisor: supervisor.getState())


def running_pids(var: Path) -> dict[str, int]:
    """Pid of each program that runs, by name. Empty when there is no supervisor."""
    try:
        with Supervisor(socket_path(var)) as supervisor:
            found = supervisor.processes()
    except (ConnectionError, FileNotFoundError):
        return {}
    return {one["name"]: one["pid"] for one in found if one["pid"]}
