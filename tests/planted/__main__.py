"""`python -m tests.planted`: plant each bug in a copy of the project, and see it caught.

1. copy what git knows of the project to a scratch folder, and start one throwaway server for all runs
2. run every test named by a bug in the copy as it is: they must pass
3. for each bug: plant it, run its tests until the first fails, look why that one failed, take the bug out again
4. print who caught what; exit 1 when a bug survived or was caught for another reason, 2 when nothing could be judged
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg

from mmproject import provision
from mmproject.conf import ROOT
from mmproject.postgres import Cluster, free_port
from mmproject.scratch import interruptible
from tests.planted.bug import Bug, DoesNotApply
from tests.planted.registry import BUGS, table
from tests.planted.runs import Outcome, run_tests, warm_up
from tests.support import in_memory

SAID_MAX_CHARACTERS = 300  # of a failure's text
TEMPLATE = "mm_planted"  # the migrated database that the runs copy

CAUGHT = "caught"
SURVIVED = "survived"
WRONG_REASON = "failed for another reason"
DOES_NOT_APPLY = "does not apply"


@dataclass(frozen=True)
class Verdict:
    """What became of a bug: by which test it was caught, or what went wrong."""

    bug: str
    file: str
    result: str
    test: str  # "" when it survived
    said: str  # the failure's own words, shortened
    seconds: float


@contextmanager
def project_copy() -> Iterator[Path]:
    """A folder with every file of the project that git knows or would add, and its .venv."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="mm-planted-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():  # not one that was deleted and not yet committed
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        if (ROOT / ".venv").exists():
            (folder / ".venv").symlink_to((ROOT / ".venv").resolve())
        yield folder


@contextmanager
def server() -> Iterator[str]:
    """The admin's URL of a throwaway server, in memory where there is room."""
    with tempfile.TemporaryDirectory(prefix="mm-planted-") as made, in_memory(Path(made)) as folder:
        cluster = Cluster(folder / "postgres", free_port(), "for tests only", fsync=False)
        cluster.prepare()
        with cluster.serving():
            provision.wait_for_server(cluster.url("postgres"))
            yield cluster.url("postgres")


@contextmanager
def template_with(bug: Bug, folder: Path, database_url: str) -> Iterator[str]:
    """The template for a bug's tests: what the migrations of the planted copy make, and no slower than it must be.

    An SQL function is replaced in a copy of the sound template, by its planted file. What changes the migrations
    themselves has them all applied anew ("": the tests make a template of their own).
    """
    if bug.is_in_migrations:
        yield ""
        return
    function = (folder / bug.file).read_text(encoding="utf-8") if bug.file.endswith(".sql") else ""
    if not re.search(r"^CREATE (FUNCTION|PROCEDURE) ", function, re.MULTILINE):
        yield TEMPLATE
        return
    copy = f"{TEMPLATE}_with_bug"
    with provision.connect(database_url) as admin:
        provision.drop_database(admin, copy)
        admin.execute(f"CREATE DATABASE {copy} TEMPLATE {TEMPLATE} STRATEGY file_copy".encode())
    with provision.connect(provision.with_database(database_url, copy)) as admin:
        admin.execute(
            re.sub(r"^CREATE (?=FUNCTION|PROCEDURE)", "CREATE OR REPLACE ", function, flags=re.MULTILINE).encode()
        )
    yield copy


@contextmanager
def planted(bug: Bug, folder: Path) -> Iterator[None]:
    """The bug is in the copy meanwhile. Raises DoesNotApply."""
    path = folder / bug.file
    sound = path.read_text(encoding="utf-8")
    try:
        _write(path, bug.planted(sound))
        yield
    finally:
        _write(path, sound)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    # Python takes its compiled form for current when the time in seconds and the size are the same.
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()


def judged(bug: Bug, folder: Path, database_url: str) -> Verdict:
    """Plant one bug in the copy and look who catches it."""
    began_at = time.monotonic()
    result, test, said = DOES_NOT_APPLY, "", ""
    try:
        with planted(bug, folder), template_with(bug, folder, database_url) as template:
            outcome = run_tests(folder, bug.tests, database_url, template)
    except (DoesNotApply, psycopg.Error) as error:
        said = str(error)
    else:
        result, test, said = verdict_on(bug, outcome)
    return Verdict(bug.name, bug.file, result, test, said[:SAID_MAX_CHARACTERS], round(time.monotonic() - began_at, 1))


def verdict_on(bug: Bug, outcome: Outcome) -> tuple[str, str, str]:
    """Result, test and words. Caught is only what failed in a test's own body, with the words that the bug names."""
    if outcome.passed:
        return SURVIVED, "", ""
    words = " ".join(outcome.message.split())
    is_caught = outcome.is_failure and bug.is_shown_by(words)
    return (CAUGHT if is_caught else WRONG_REASON), outcome.test, words


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.planted", description="Plant each bug in a copy of the project, and see a test catch it."
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="this bug; may be given several times")
    parser.add_argument("--json", action="store_true", help="the verdicts as one JSON document")
    parser.add_argument("--list", action="store_true", help="name the bugs, and run nothing")
    parser.add_argument("--table", action="store_true", help="print docs/planted-bugs.md's table, and run nothing")
    options = parser.parse_args(arguments)
    known = {bug.name: bug for bug in BUGS}
    if unknown := sorted(set(options.only or ()) - known.keys()):
        parser.error(f"no bug is called {', '.join(unknown)}; --list names them")
    chosen = [bug for bug in BUGS if not options.only or bug.name in options.only]
    if options.list or options.table:
        print(table(chosen) if options.table else "\n".join(bug.name for bug in chosen))
        return 0
    try:
        with interruptible():
            return _run(chosen, as_json=options.json)
    except KeyboardInterrupt:
        _say("interrupted")
        return 130


def _run(bugs: Sequence[Bug], *, as_json: bool) -> int:
    began_at = time.monotonic()
    warm_up()
    with project_copy() as folder, server() as url:
        _say(f"{len(bugs)} bugs; their tests without any of them ...")
        green = run_tests(folder, dict.fromkeys(test for bug in bugs for test in bug.tests), url, TEMPLATE)
        if not green.passed:
            _say(f"not green before anything was planted: {green.test}\n{green.message}")
            return 2
        verdicts = []
        for number, bug in enumerate(bugs, 1):
            verdict = judged(bug, folder, url)
            verdicts.append(verdict)
            by = verdict.test if verdict.result == CAUGHT else f"{verdict.result.upper()} {verdict.test} {verdict.said}"
            _say(f"[{number}/{len(bugs)}] {bug.name}: {by} ({verdict.seconds} s)")
    caught = sum(verdict.result == CAUGHT for verdict in verdicts)
    took_s = round(time.monotonic() - began_at)
    if as_json:
        found = {"ok": caught == len(bugs), "bugs": len(bugs), "caught": caught, "seconds": took_s}
        print(json.dumps({**found, "verdicts": [asdict(verdict) for verdict in verdicts]}, indent=1))
    else:
        _print_table(verdicts)
        print(f"\n{caught} of {len(bugs)} caught, {took_s} s")
    return 0 if caught == len(bugs) else 1


def _print_table(verdicts: Sequence[Verdict]) -> None:
    rows = [("bug", "where", "caught by", "s")]
    for one in verdicts:
        rows.append((one.bug, one.file, one.test if one.result == CAUGHT else one.result.upper(), str(one.seconds)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
