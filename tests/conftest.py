"""Fixtures. Every test that needs a database gets one of its own on a real server.

The server is DATABASE_URL's, or a throwaway embedded one in a temporary folder. Its template database is migrated
once; each test's is a copy of it.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

# Before anything reads the settings: tests neither see nor touch the system that may run in this clone.
SERVER_URL = os.environ.pop("DATABASE_URL", "")
TEMPLATE = os.environ.pop("TEST_TEMPLATE", "")  # a database of that server's to use and keep: tests/planted
for _name in [name for name in os.environ if name.startswith("MM_") and name != "MM_POSTGRES_USER"]:
    del os.environ[_name]
os.environ.pop("CELERY_BROKER_URL", None)
FOLDER = Path(tempfile.mkdtemp(prefix="mm-test-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
# A shell starts what runs in the background with SIGINT ignored, and programs that we start would inherit it: none of
# them could then be stopped as Ctrl-C does.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["MM_VAR"] = str(FOLDER / "var")
os.environ["DJANGO_SETTINGS_MODULE"] = "mmproject.settings"

import django  # noqa: E402
import pytest  # noqa: E402

django.setup()
logging.getLogger().setLevel("WARNING")  # a failing test shows what matters

from mmproject import provision  # noqa: E402
from mmproject.conf import conf  # noqa: E402
from mmproject.postgres import Cluster, free_port  # noqa: E402
from tests.support import Database, System, drop_database, in_memory, running_system, scratch_database  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole systems run one at a time, in one of the two processes of `make test`: each needs all the machine."""
    for item in items:
        if "tests/system/" in item.nodeid or "tests/browser/" in item.nodeid:
            item.add_marker(pytest.mark.xdist_group("system"))


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    """A command that a test runs in this process lowers it for its own process's sake."""
    before = logging.getLogger().level
    yield
    logging.getLogger().setLevel(before)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The admin's URL of the server that the scratch databases are made on."""
    if SERVER_URL:
        yield provision.with_database(SERVER_URL, "postgres")  # its own database need not be there
        return
    with in_memory(FOLDER) as folder:
        cluster = Cluster(folder / "postgres", free_port(), "for tests only", fsync=False)
        cluster.prepare()
        with (FOLDER / "postgres.log").open("w") as log, cluster.serving(log):
            yield cluster.url("postgres")


@pytest.fixture(scope="session")
def template(server: str) -> Iterator[str]:
    """Name of a migrated database without data, which nobody may connect to."""
    from django.db import connections

    name = TEMPLATE or f"mm_template_{os.getpid()}"
    provision.set_up(provision.with_database(server, name), conf.var, market=None, broker=True)
    connections["default"].close()
    yield name
    if not TEMPLATE:
        drop_database(server, name)


@pytest.fixture
def database(server: str, template: str) -> Iterator[Database]:
    """A migrated database of the test's own, with a URL for each role."""
    with scratch_database(server, conf.var, template) as made:
        yield made


@pytest.fixture
def django_database(database: Database) -> Iterator[Database]:
    """The same, and Django's ORM and test client use it with the console's rights, as Daphne does.

    For more rights: `with django_database.django("admin"): ...`
    """
    with database.django("console"):
        yield database


@pytest.fixture
def system() -> Iterator[Callable[..., System]]:
    """Starts whole systems: `system(nodes=2, symbols=4, MM_TICK_MS="200")`; all are stopped at the end."""
    with ExitStack() as stack:

        def start(**options: Any) -> System:
            return stack.enter_context(running_system(**options))

        yield start
