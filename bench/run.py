"""One run of `bench`: the server it measures on, what each benchmark is given, and what comes out of it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.figures import Measurement
from bench.pgbench import PgBench
from bench.scaffold import Database
from mmproject import provision
from mmproject.conf import Conf
from mmproject.errors import UserError
from mmproject.scratch import scratch_database, throwaway_server
from mmproject.verify import Report, verify

Say = Callable[[str], None]

_SETTINGS: Final = "SELECT name, setting FROM pg_settings WHERE name = ANY (%s) ORDER BY name"
_SHOWN: Final = (
    "fsync", "synchronous_commit", "full_page_writes", "wal_sync_method", "shared_buffers", "max_wal_size",
    "server_version",
)  # fmt: skip
_DURABLE: Final = ("fsync", "synchronous_commit", "full_page_writes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long to measure. `quick` is to see that all works: its figures say nothing."""

    rounds: int
    seconds: float  # of each side in each round
    quick: bool
    minutes: float | None  # of those that go on and on; None: as long as each of them is meant to

    @property
    def warm_up_s(self) -> float:
        return min(2.0, self.seconds)


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it was measured. A load average well above 0 at the start says: not alone here, look at the spreads."""

    settings: dict[str, str]
    embedded: bool
    cores: int
    load_average: tuple[float, float, float]
    filesystem: str  # of the embedded server's data

    def as_json(self) -> dict[str, Any]:
        return {
            "server": {**self.settings, "embedded": self.embedded, "filesystem": self.filesystem or None},
            "cores": self.cores,
            "load_average_at_start": [round(value, 2) for value in self.load_average],
        }


@dataclass
class Outcome:
    """What became of one benchmark."""

    name: str
    what: str
    load_average: float = 0.0  # of the last minute, as it began
    took_s: float = 0.0
    measurements: list[Measurement] = field(default_factory=list)
    verified: list[Report] = field(default_factory=list)  # one for each database
    notes: list[str] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)  # what a long one saw as time went by
    error: str | None = None  # why it ended early

    @property
    def ok(self) -> bool:
        """Whether it ran through and everything that it left holds. Goals have no say in this."""
        return self.error is None and bool(self.verified) and all(report.ok for report in self.verified)

    @property
    def broken(self) -> list[str]:
        return [title for report in self.verified for title in report.broken]

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "what": self.what,
            "ok": self.ok,
            "error": self.error,
            "load_average_at_start": round(self.load_average, 2),
            "took_s": round(self.took_s, 1),
            "measurements": [one.as_json() for one in self.measurements],
            "notes": self.notes,
            "samples": self.samples,
            "verify": [
                {
                    "ok": report.ok,
                    "invariants": len(report.verdicts),
                    "checked": sum(verdict.checked for verdict in report.verdicts),
                    "broken": [verdict.as_json() for verdict in report.verdicts if not verdict.ok],
                    "took_ms": report.took_ms,
                }
                for report in self.verified
            ],
        }


@dataclass
class Run:
    """What a benchmark is given to work with, and where it puts what it finds."""

    plan: Plan
    settings: Conf
    server: str  # an admin's URL
    embedded: bool
    folder: Path  # for files of this run only
    outcome: Outcome
    say: Say  # what goes on now, for a terminal
    told: Callable[[Measurement], None]  # what was found

    @contextmanager
    def database(self) -> Iterator[Database]:
        """A migrated scratch database. When the benchmark is done with it, every invariant is verified there."""
        with scratch_database(self.settings, "bench", self.say, server=self.server) as url:
            database = Database(provision.role_urls(url, self.settings.var))
            with provision.connect(url) as admin:
                provision.ensure_logins(admin, database.urls)
            try:
                yield database
                self._verify(database)
            finally:
                database.close()

    def _verify(self, database: Database) -> None:
        connection = database.connect()
        report = verify(connection, progress=lambda what: self.say(f"verifying {what}"))
        self.outcome.verified.append(report)

    def pgbench(self) -> PgBench:
        return PgBench(self.folder)

    def add(self, measurement: Measurement) -> Measurement:
        """Keep what was measured."""
        self.outcome.measurements.append(measurement)
        self.told(measurement)
        return measurement

    def note(self, text: str) -> None:
        """Keep something that a reader of the figures should know."""
        self.outcome.notes.append(text)

    def seconds_of(self, work: Callable[[], object]) -> float:
        """How long it takes."""
        began = time.perf_counter()
        work()
        return time.perf_counter() - began


@contextmanager
def measured_server(settings: Conf, say: Say) -> Iterator[tuple[str, Machine]]:
    """The admin's URL of the server to measure on: DATABASE_URL's, or one of our own. Never the running system's.

    Raises UserError when it commits without waiting for the disk: nothing could be compared with that.
    """
    load = os.getloadavg()
    if settings.database_url:
        url = provision.with_database(settings.database_url, "postgres")
        yield url, _machine(url, load, embedded=False)
        return
    say("starting a PostgreSQL of our own")
    with throwaway_server(fsync=True) as url:
        yield url, _machine(url, load, embedded=True)


def _machine(url: str, load: tuple[float, float, float], *, embedded: bool) -> Machine:
    with provision.connect(url) as connection:
        provision.check_server(connection)
        settings: dict[str, str] = dict(connection.execute(_SETTINGS, [list(_SHOWN)]).fetchall())
    lax = [f"{name} = {settings[name]}" for name in _DURABLE if settings[name] != "on"]
    if lax:
        raise UserError(f"the server has {', '.join(lax)}: measure on one whose commits are durable")
    filesystem = _filesystem(Path(tempfile.gettempdir())) if embedded else ""
    return Machine(settings, embedded, os.cpu_count() or 0, load, filesystem)


def _filesystem(path: Path) -> str:
    """Type of the file system that a path is on, as Linux has it; nothing elsewhere."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return ""
    found = [(len(place), kind) for place, kind in mounts if path.resolve().is_relative_to(place)]
    return max(found)[1] if found else ""
