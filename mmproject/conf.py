"""Settings of the project, read once from the environment and checked; README has the table.

`conf` is the one instance. A value that cannot be used raises ConfError, whose text names the variable.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from environs import Env, EnvError, validate

from mmproject.errors import ConfError

ROOT = Path(__file__).resolve().parent.parent

SYMBOLS_MAX = 10_000  # the most that the assignment and the page were measured with
NODES_MAX = 50
# A quote may trade with what rests in the transaction that publishes it, which lasts 2 s at most (see ROLE_LIMITS):
# no fill is to come after its quote has lapsed.
QUOTE_VALIDITY_MS_MIN = 2_500
RETENTION_MS_MIN = 60_000  # verify and the benchmarks look back this far; exchange_keep_partitions_v1 allows no less
RETENTION_MS_MAX = 2_592_000_000  # 30 days
LOGIN_PARAMETERS = frozenset({"user", "password", "passfile", "service"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Conf:
    """Every setting. Times are in milliseconds and say so."""

    var: Path  # everything that is written at run time lies below it
    database_url: str  # empty: the embedded server, or what `up` wrote for commands run by hand
    broker_url: str  # empty: pgmq in the same database
    secret_key: str  # empty: a random one, kept below var
    host: str
    port: int
    nodes: int
    symbols: int
    seed: int
    tick_ms: int  # one step of the exchange's clock
    lease_ttl_ms: int
    renew_interval_ms: int
    belief_margin_ms: int  # a node stops trusting its leases this long before they end
    quote_validity_ms: int  # a quote that nobody refreshes lapses after it
    quote_refresh_ms: int  # a quote is replaced at least this often; I11 allows 5 s
    quote_retention_ms: int  # superseded quote versions are dropped after it
    allowed_hosts: tuple[str, ...]
    debug: bool
    log_level: str
    process: str  # name of this process in logs and in pg_stat_activity
    history: str  # folder in which nodes record what they asked and were told; empty: they don't
    pool_size: int  # connections in Django's pool; 0 = one plain connection per thread
    crash_points: Path | None  # test builds only: the folder that arms crash points (mmproject.crashpoints)

    def __post_init__(self) -> None:
        if self.database_url and not _is_postgres_url(self.database_url):
            # Not shown: it may hold a password.
            raise ConfError("DATABASE_URL must look like postgresql://user:password@host:5432/market")
        if named := LOGIN_PARAMETERS.intersection(parse_qs(urlsplit(self.database_url).query)):
            # They would win over the user that each process is given, and make all of them the admin.
            raise ConfError(
                f"DATABASE_URL must not have {', '.join(sorted(named))} after the question mark:"
                " the login goes before the host, as in postgresql://user:password@/market?host=/run/postgresql"
            )
        if self.renew_interval_ms + self.belief_margin_ms >= self.lease_ttl_ms:
            raise ConfError(
                "MM_RENEW_INTERVAL_MS + MM_BELIEF_MARGIN_MS must be less than MM_LEASE_TTL_MS,"
                " or a healthy node would stop trusting its leases between two renewals"
            )
        if self.quote_refresh_ms >= self.quote_validity_ms:
            raise ConfError("MM_QUOTE_REFRESH_MS must be less than MM_QUOTE_VALIDITY_MS, or quotes would lapse")


def hosts(url: str) -> list[tuple[str, int]]:
    """Host ("" is the local socket) and port of each server that a URL names: several when one may take over.

    Raises ValueError for a port that is none.
    """
    place = urlsplit(url).netloc.rpartition("@")[2]
    each = [urlsplit(f"//{one}") for one in place.split(",")]
    return [(one.hostname or "", one.port or 5432) for one in each]


def _is_postgres_url(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("postgresql", "postgres") and all(port > 0 for _, port in hosts(url))
    except ValueError:  # a port that is no number, an address in half a bracket
        return False


def _crash_points(env: Env) -> Path | None:
    """The folder of MM_CRASH_POINTS. Two switches, so that no deployment can be killed by one stray variable."""
    folder = env.str("MM_CRASH_POINTS", "")
    if folder and not env.bool("MM_TEST_BUILD", False):
        raise ConfError("MM_CRASH_POINTS lets processes be killed, and is for tests only: it needs MM_TEST_BUILD=1 too")
    return Path(folder).absolute() if folder else None


def load() -> Conf:
    """Read the environment. Raises ConfError."""
    env = Env()

    def integer(name: str, default: int, low: int, high: int) -> int:
        return env.int(name, default, validate=validate.Range(low, high))

    try:
        return Conf(
            var=Path(env.str("MM_VAR", "") or ROOT / "var").absolute(),
            database_url=env.str("DATABASE_URL", "").strip(),
            broker_url=env.str("CELERY_BROKER_URL", "").strip(),
            secret_key=env.str("MM_SECRET_KEY", ""),
            host=env.str("MM_HOST", "127.0.0.1"),
            port=integer("MM_PORT", 8000, 1, 65_535),
            nodes=integer("MM_NODES", 3, 0, NODES_MAX),
            symbols=integer("MM_SYMBOLS", 10, 1, SYMBOLS_MAX),
            seed=integer("MM_SEED", 1, 0, 2**31 - 1),
            tick_ms=integer("MM_TICK_MS", 1000, 50, 60_000),
            lease_ttl_ms=integer("MM_LEASE_TTL_MS", 3000, 500, 600_000),
            renew_interval_ms=integer("MM_RENEW_INTERVAL_MS", 1000, 50, 300_000),
            belief_margin_ms=integer("MM_BELIEF_MARGIN_MS", 300, 0, 60_000),
            quote_validity_ms=integer("MM_QUOTE_VALIDITY_MS", 8000, QUOTE_VALIDITY_MS_MIN, 600_000),
            quote_refresh_ms=integer("MM_QUOTE_REFRESH_MS", 2500, 100, 300_000),
            quote_retention_ms=integer("MM_QUOTE_RETENTION_MS", 3_600_000, RETENTION_MS_MIN, RETENTION_MS_MAX),
            allowed_hosts=tuple(env.list("MM_ALLOWED_HOSTS", [])),
            debug=env.bool("MM_DEBUG", False),
            log_level=env.str("MM_LOG_LEVEL", "INFO", validate=validate.OneOf(["DEBUG", "INFO", "WARNING", "ERROR"])),
            process=env.str("MM_PROCESS", "manage"),
            history=env.str("MM_HISTORY", ""),
            pool_size=integer("MM_DB_POOL_SIZE", 0, 0, 100),
            crash_points=_crash_points(env),
        )
    except EnvError as error:
        raise ConfError(str(error)) from error


conf = load()
