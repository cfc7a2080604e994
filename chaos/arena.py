"""A scratch cluster that may be broken: two database servers, the system's own processes, and proxies between them.

The processes are those of `manage.py up`, with the same commands and roles. Each has its own way to the servers,
through proxies, so that a network fault hits one of them. One node lives in a network namespace of its own (root only),
one under a clock that can be set wrong (libfaketime). All processes end with this one. What a killed run leaves (its
temporary folder mm-chaos-*, small file systems mounted in it, a network namespace) the next one clears away.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
from django.db import connections

from bench.scaffold import environment, free_web_port
from chaos.host import PREFIX, Disk, Namespace, can_mount, faketime_library, has_namespaces, remove_namespace
from chaos.processes import Managed, Supervisor, Tell
from chaos.proxy import Line, Loop
from chaos.servers import SERVERS, Servers, wait
from mmproject import provision
from mmproject.conf import ROOT, Conf
from mmproject.db import Role
from mmproject.postgres import free_port
from mmproject.supervision import Program, programs

NODES: Final = 3
CLOCK_NODE: Final = "node-2"  # its wall clock can be set wrong
NETWORK_NODE: Final = "node-3"  # it has a network of its own, where we are root
QUOTED_S: Final = 60.0
CLAIM: Final = "claim"  # the file in the temporary folder that is locked
OUR_NAMESPACE: Final = re.compile(r"mm-\d+")
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
UNQUOTED: Final = """
    SELECT count(*) FROM exchange_quote
     WHERE quoting_enabled AND NOT coalesce(valid_until > clock_timestamp(), false)
"""


@dataclasses.dataclass
class Arena:
    """Everything that runs. Made by `arena`."""

    folder: Path
    settings: Conf
    supervisor: Supervisor
    servers: Servers
    loop: Loop
    lines: dict[str, Line]
    namespace: Namespace | None
    disks: dict[str, Disk]  # by server; none where we may not mount
    urls: dict[str, str]  # by role, direct, to both servers: for commands run by hand and for us

    @property
    def nodes(self) -> list[str]:
        return [f"node-{number}" for number in range(1, NODES + 1)]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    @property
    def history(self) -> Path:
        """Where nodes and clients record what they ask and are told."""
        return self.folder / "history"

    @property
    def crash_points(self) -> Path:
        """What is put here has a process die (mmproject/crashpoints.py)."""
        return self.folder / "crash-points"

    @property
    def tested(self) -> dict[str, str]:
        """The environment of a process that records, and can be told where to die."""
        return {"MM_HISTORY": str(self.history), "MM_TEST_BUILD": "1", "MM_CRASH_POINTS": str(self.crash_points)}

    @property
    def clock_file(self) -> Path:
        """What the clock of CLOCK_NODE shows is written here: "+0", "+3600s x1.5" ... (see faketime(1))."""
        return self.folder / "clock"

    def connect(self, role: Role = "admin") -> psycopg.Connection[tuple[Any, ...]]:
        """A connection in autocommit to the server that can write. Raises psycopg.OperationalError."""
        return provision.connect(self.urls[role])

    def primary_url(self, role: Role) -> str:
        """Of the server that can write, and no other."""
        return _with_places(self.urls[role], f"127.0.0.1:{self.servers.primary.cluster.port}")

    def operator(self) -> dict[str, str]:
        credentials: dict[str, str] = json.loads((self.settings.var / "operator.json").read_text())
        return credentials

    def client(self) -> httpx.Client:
        """An HTTP client of the API, as the operator; the caller closes it."""
        token = self.operator()["token"]
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=5)

    def manage(self, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """A `manage.py` command against it, as a person would run it."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=environment(self.settings.var, DATABASE_URL=self.urls["console"]), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def is_quoted(self) -> bool:
        """Every enabled symbol has a live quote."""
        try:
            with self.connect("console") as connection:
                return connection.execute(UNQUOTED).fetchone() == (0,)
        except psycopg.Error:
            return False

    def add_process(self, name: str, command: list[str], env: dict[str, str]) -> Managed:
        """One more process of ours, with the environment that the others have."""
        return self.supervisor.add(
            Managed(
                name,
                _guarded(command),
                environment(self.settings.var, **env),
                ROOT,
                self.folder / "log" / f"{name}.log",
            )
        )


def _guarded(command: list[str]) -> list[str]:
    return [sys.executable, "-I", "-S", str(ROOT / "mmproject" / "guard.py"), "SIGKILL", "--", *command]


def _with_places(url: str, places: str) -> str:
    """The URL with these in place of its servers."""
    head, at, tail = url.partition("@")
    return f"{head}{at}{places}/{tail.partition('/')[2]}"


@contextmanager
def arena(settings: Conf, tell: Tell, *, symbols: int, seed: int, keep: Path | None = None) -> Iterator[Arena]:
    """A cluster that quotes all its symbols. It is taken down at the end; `keep` is where its logs are copied to then.

    Raises NotThere when it does not come up.
    """
    sweep(tell)
    namespace = Namespace() if has_namespaces() else None
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    disks = {name: Disk(folder / name) for name in SERVERS} if can_mount() else {}
    with ExitStack() as undo:  # the last first, and each of them whatever becomes of the others
        undo.callback(_heed_signals, [signal.getsignal(number) for number in SIGNALS])
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        undo.enter_context(_claimed(folder, namespace))
        folder.chmod(0o755)
        (folder / "log").mkdir()
        for disk in disks.values():
            undo.callback(disk.unmount)
            disk.mount()
        undo.callback(_keep, folder, keep)
        if namespace:
            undo.callback(namespace.remove)
            namespace.make()
        loop = Loop()
        undo.callback(loop.close)
        supervisor = Supervisor(tell)
        undo.callback(_take_down, supervisor)
        undo.callback(_ignore_signals)
        yield _made(folder, settings, supervisor, loop, namespace, disks, symbols, seed)


@contextmanager
def _claimed(folder: Path, namespace: Namespace | None) -> Iterator[None]:
    """The folder's claim is locked for as long as we live, and names what else is ours."""
    with (folder / CLAIM).open("w") as claim:
        fcntl.flock(claim, fcntl.LOCK_EX)
        claim.write(namespace.name if namespace else "")
        claim.flush()
        yield


def sweep(tell: Tell) -> None:
    """Clear away what runs have left that were killed: those whose claim nobody holds any more."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{CLAIM}"):
        with suppress(OSError):
            if path.parent.lstat().st_uid != os.geteuid():
                continue  # anybody can make one like it in the folder for temporary files
        with suppress(OSError), path.open() as claim:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if OUR_NAMESPACE.fullmatch(name := claim.read()):
                remove_namespace(name)
            for disk in SERVERS:
                if (path.parent / disk).is_mount():
                    Disk(path.parent / disk).unmount()
            shutil.rmtree(path.parent)
            tell("chaos", f"cleared away {path.parent.name}, which a run had left that was killed")


def _ignore_signals() -> None:
    """From here on nothing but SIGKILL cuts the clearing away short."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _heed_signals(handlers: list[Any]) -> None:
    for number, handler in zip(SIGNALS, handlers, strict=True):
        signal.signal(number, handler)


def _keep(folder: Path, keep: Path | None) -> None:
    for name in ("log", "history"):
        if keep and (folder / name).exists():
            shutil.copytree(folder / name, keep / name, dirs_exist_ok=True)


def _take_down(supervisor: Supervisor) -> None:
    """Nodes and services by force, they are used to it; the servers after them."""
    for name in sorted(supervisor.names, key=lambda name: name.startswith("postgres")):
        supervisor[name].wanted = False
    supervisor.close()


def _made(
    folder: Path, settings: Conf, supervisor: Supervisor, loop: Loop, namespace: Namespace | None,
    disks: dict[str, Disk], symbols: int, seed: int,
) -> Arena:  # fmt: skip
    ports = _free_ports(2)
    servers = Servers(folder, (ports[0], ports[1]), secrets.token_urlsafe(24), supervisor)
    servers.begin()
    settings = dataclasses.replace(
        settings, var=folder / "var", port=free_web_port(), host="127.0.0.1", nodes=NODES, symbols=symbols, seed=seed,
        database_url="", broker_url="", secret_key="",
    )  # fmt: skip
    market = provision.Market(symbols, seed, settings.tick_ms)
    provision.set_up(servers.primary.url, settings.var, market=market, broker=True)
    from accounts.services import ensure_operator

    ensure_operator(path=settings.var / "operator.json", url=f"http://127.0.0.1:{settings.port}")
    connections.close_all()
    servers.follow()
    both = ",".join(f"127.0.0.1:{port}" for port in ports)
    urls = {
        role: _with_places(url, both) for role, url in provision.role_urls(servers.primary.url, settings.var).items()
    }
    found = Arena(folder, settings, supervisor, servers, loop, {}, namespace, disks, urls)
    found.clock_file.write_text("+0\n")
    found.crash_points.mkdir()
    for program in programs(settings, urls, cluster=None):
        _start(found, program)
    wait(found.is_ready, "the API answers", QUOTED_S)
    wait(found.is_quoted, "all symbols are quoted", QUOTED_S)
    return found


def _free_ports(count: int) -> list[int]:
    """Different ones: none of them is taken yet when the next is looked for."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)


def _start(arena: Arena, program: Program) -> None:
    """One of the system's processes, on a line of its own."""
    inside = arena.namespace if program.name == NETWORK_NODE else None
    ports = [server.cluster.port for server in sorted(arena.servers.both, key=lambda one: one.name)]
    line = arena.loop.line(program.name, ports, inside.host if inside else "127.0.0.1")
    arena.lines[program.name] = line
    env = {
        **program.environment,
        **arena.tested,
        "DATABASE_URL": _with_places(program.environment["DATABASE_URL"], line.places),
    }
    command = program.command
    if inside:
        command = [shutil.which("ip") or "ip", "netns", "exec", inside.name, *command]
    library = faketime_library()
    if program.name == CLOCK_NODE and library:
        env |= {
            "LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(arena.clock_file), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_RESET": "1",
        }  # fmt: skip
    arena.add_process(program.name, command, env)


_STATE: Final = f"""
    SELECT (SELECT count(*) FROM exchange_quote WHERE NOT quoting_enabled),
           ({UNQUOTED}),
           (SELECT count(DISTINCT node) FROM authority_incarnation WHERE ended_at IS NULL
               AND expires_at > clock_timestamp() AND node = ANY (%s)),
           (SELECT step FROM exchange_clock)
"""  # noqa: S608 - put together from constants


def unsettled(arena: Arena, timeout_s: float) -> list[str]:
    """What of a healed system is not there after `timeout_s`: empty as soon as all of it is."""
    deadline = time.monotonic() + timeout_s
    step: int | None = None  # of the clock, at first
    while True:
        try:
            with arena.connect() as connection:
                row = connection.execute(_STATE.encode(), [arena.nodes]).fetchone()
        except psycopg.Error as error:
            missing = [f"the database: {error}".strip()]
        else:
            assert row is not None
            step = row[3] if step is None else step
            checks = {
                "every symbol is turned on": row[0] == 0,
                "every enabled symbol is quoted": row[1] == 0,
                "every node is registered": row[2] == len(arena.nodes),
                "the exchange's clock goes on": row[3] > step,
                "the API is ready": arena.is_ready(),
            }
            missing = [what for what, holds in checks.items() if not holds]
        if not missing or time.monotonic() > deadline:
            return missing
        time.sleep(0.1)
