"""A run of pytest in the copy, and what came of it.

Most of a short run is spent importing Django, pytest and the like. So they are imported here once, and each run is a
fork of this process that forgets our own modules and takes the copy's in their place.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import signal
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from mmproject.conf import ROOT

RUN_TIMEOUT_S = 600  # each test has its own limit; this is for a pytest that hangs
TEST_TIMEOUT_S = 60  # a bug may well be a deadlock
OUTPUT_MAX_CHARACTERS = 2_000  # shown of a run that could not even begin
# Of what takes long to import, what needs no settings.
OTHERS = ("asyncpg", "celery", "django.db.models", "httpx", "hypothesis.strategies", "psycopg", "pydantic", "structlog")
# What takes time to import and is of no use here.
WITHOUT = ("randomly", "cacheprovider", "xdist", "schemathesis")


@dataclass(frozen=True)
class Outcome:
    """What pytest said of a run: the first test that failed or could not be run, if any."""

    passed: bool
    test: str = ""
    is_failure: bool = False  # the test itself failed: not its set-up, not an import
    message: str = ""


def warm_up() -> None:
    """Import what the runs need and that is not ours."""
    for name in OTHERS:
        importlib.import_module(name)


def run_tests(folder: Path, tests: Iterable[str], database_url: str = "", template: str = "") -> Outcome:
    """Run these in the folder, in this order, up to the first that is not green.

    `template` is a database of that server's for the tests to copy: set up if it isn't, and kept.
    """
    report, output = folder / "planted.xml", folder / "planted.out"
    report.unlink(missing_ok=True)
    arguments = [
        "-x", "--no-header", "--tb=short", f"--timeout={TEST_TIMEOUT_S}", f"--junitxml={report}", "-o",
        "junit_family=xunit2", "--hypothesis-seed=0", *(word for name in WITHOUT for word in ("-p", f"no:{name}")),
        *tests,
    ]  # fmt: skip
    environment = {"DATABASE_URL": database_url, "TEST_TEMPLATE": template}
    run = multiprocessing.get_context("fork").Process(target=_pytest, args=(folder, arguments, environment, output))
    run.start()
    try:
        run.join(RUN_TIMEOUT_S)
        if run.is_alive():
            return Outcome(False, message=f"pytest did not end within {RUN_TIMEOUT_S} s")
    finally:  # it is in a session of its own, and Ctrl-C did not reach it
        if run.is_alive():
            with suppress(ProcessLookupError):
                os.killpg(run.pid or 0, signal.SIGKILL)  # and what its tests had started
            run.kill()
            run.join()
    if run.exitcode == 0:
        return Outcome(True)
    told = _first_not_green(report) if report.exists() else None
    return told or Outcome(False, message=f"pytest: {output.read_text()[-OUTPUT_MAX_CHARACTERS:]}")


_parents: list[ModuleType] = []  # the project's modules in a forked process, kept for what they hold


def _pytest(folder: Path, arguments: Sequence[str], environment: dict[str, str], output: Path) -> None:
    """The forked process: from here on the project is the copy."""
    os.setsid()
    with output.open("w") as out:
        for stream in (1, 2):
            os.dup2(out.fileno(), stream)
    os.chdir(folder)
    os.environ.update(environment)
    # What tests leave lying about goes with the copy: nothing that was registered to run at exit does in a fork.
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = str(temporary)
    tempfile.tempdir = None
    # What the parent has left lying about, open connections among it, is its own to collect: it is no warning of ours.
    gc.freeze()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), "")
        if Path(file).is_relative_to(ROOT) and not Path(file).is_relative_to(ROOT / ".venv"):
            _parents.append(sys.modules.pop(name))
    sys.path[:] = [str(folder), *(entry for entry in sys.path if entry not in ("", str(ROOT)))]
    importlib.invalidate_caches()
    sys.exit(int(pytest.main(list(arguments))))


def _first_not_green(report: Path) -> Outcome | None:
    for case in ElementTree.parse(report).iter("testcase"):
        test = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        # An error is one of set-up or of collection: whatever it says, the test had no say.
        for kind in ("error", "failure"):
            found = case.find(kind)
            if found is not None:
                return Outcome(False, test, kind == "failure", _words(found.get("message", ""), found.text or ""))
    return None


def _words(message: str, text: str) -> str:
    """A failure's message, from the report where pytest has cut it short (after 500 characters)."""
    if message and not message.endswith("in element text]"):
        return message
    lines = [line.removeprefix("E").strip() for line in text.splitlines() if line.startswith("E ")]
    return "\n".join(lines) or message or text
