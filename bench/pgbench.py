"""pgbench, which comes with the embedded server: the driver of figures and floors alike."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

from bench.floor import SCHEMA
from mmproject import provision
from mmproject.errors import UserError
from mmproject.postgres import Cluster

Mode = Literal["simple", "prepared"]

PATH: Final = {"search_path": f"{SCHEMA},public"}
WARM_UP_S: Final = 1.0
THREADS: Final = 2  # of pgbench's own: it needs a fraction of what the server does


class PgBench:
    """Runs scripts, or the built-in TPC-B, against the database of a URL, as its user."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._program = Cluster(Path(), 0, "").bin / "pgbench"
        if not self._program.exists():
            raise UserError(f"the benchmarks need pgbench, and there is none at {self._program}")

    def script(self, name: str, text: str) -> Path:
        """Keep a script in a file; to be handed to the calls below."""
        path = self._folder / f"{name}.sql"
        path.write_text(text)
        return path

    def make_tpcb(self, url: str, scale: int) -> None:
        """The tables of TPC-B, in the schema of the floors."""
        self._run(url, "-i", "-q", "-s", str(scale))

    def per_second(
        self,
        url: str,
        script: Path | None,
        *,
        clients: int,
        seconds: float,
        mode: Mode = "prepared",
        settings: Mapping[str, str] | None = None,
    ) -> float:
        """Transactions a second, as fast as `clients` connections can: of the script, or (None) of TPC-B.

        `settings` are the sessions', for PostgreSQL.
        """
        said = self._run(url, *self._load(script, clients, seconds, mode), settings=settings or {})
        found = re.search(r"tps = ([0-9.]+)", said)
        assert found, said
        return float(found[1])

    def latencies_s(
        self,
        url: str,
        script: Path | None,
        *,
        clients: int,
        seconds: float,
        rate: float,
        mode: Mode = "prepared",
        settings: Mapping[str, str] | None = None,
    ) -> list[float]:
        """Of each transaction, at `rate` of them a second: from the moment that it was due, whenever it could begin.

        So a stall counts against all that it made wait (open loop: no coordinated omission). Not counted are those due
        in the first WARM_UP_S: new sessions compile and plan, and the rest waits for them.
        """
        with tempfile.TemporaryDirectory(dir=self._folder) as logs:
            options = ["--rate", f"{rate:.1f}", "-l", "--log-prefix", f"{logs}/log"]
            load = self._load(script, clients, seconds + WARM_UP_S, mode)
            self._run(url, *load, *options, settings=settings or {})
            lines = [line.split() for path in Path(logs).iterdir() for line in path.read_text().splitlines()]
        # client, transaction, microseconds it took, script, seconds and microseconds of the end, ...
        taken = [(int(line[4]) + int(line[5]) / 1e6, int(line[2]) / 1e6) for line in lines]
        counted_from = min(end - took for end, took in taken) + WARM_UP_S
        return [took for end, took in taken if end - took >= counted_from]

    def _load(self, script: Path | None, clients: int, seconds: float, mode: Mode) -> Sequence[str]:
        what = ["-f", str(script)] if script else ["-b", "tpcb-like"]
        threads = min(THREADS, clients)
        return ["-n", "-c", str(clients), "-j", str(threads), "-T", str(max(1, round(seconds))), "-M", mode, *what]

    def _run(self, url: str, *options: str, settings: Mapping[str, str] = MappingProxyType({})) -> str:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.username
        where = ["-h", parts.hostname, "-p", str(parts.port or 5432), "-U", parts.username]
        set_to = " ".join(f"-c {name}={value}" for name, value in {**settings, **PATH}.items())
        done = subprocess.run(
            [self._program, *where, *options, provision.database_name(url)],
            env={**os.environ, "PGPASSWORD": unquote(parts.password or ""), "PGOPTIONS": set_to},
            capture_output=True,
            text=True,
            check=False,
        )
        failed = re.search(r"number of failed transactions: ([1-9]\d*)", done.stdout)
        if done.returncode or failed:
            raise UserError(f"pgbench failed: {(done.stderr or done.stdout).strip()[-400:]}")
        return done.stdout
