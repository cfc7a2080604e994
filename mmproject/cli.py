"""What the project's own commands share: how they read, what they print, how they fail.

* A person who uses a command wrongly gets one line on stderr and exit 2; whatever fails gives one line and exit 1.
  No traceback for anything that can happen to a healthy program: no running system, a database that is down or
  not set up, Ctrl-C, a closed pipe. What is left is a defect of ours, and its traceback is wanted.
* `--json` prints exactly one document on stdout and nothing else: decimals as strings, times in UTC.
* Progress, warnings and logs go to stderr; logs are quiet unless MM_LOG_LEVEL asks for them.
"""

from __future__ import annotations

import json
import logging
import os
import pwd
import sys
import textwrap
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NoReturn
from uuid import UUID

import django
import psycopg
from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand, CommandParser
from django.db import Error as DjangoDatabaseError
from django.db import connection
from rich.console import Console

from mmproject.conf import ROOT
from mmproject.db import connect_url, described, sqlstate
from mmproject.errors import UsageError, UserError

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE: what `| head` does to any program
PIPE_WIDTH = 200
LINE_MAX = 400  # characters of an error's one line

# SQLSTATEs that people cause, beside our own MM...: what to say of them.
_SQL_ADVICE = {
    "42P01": "the database has not been set up (or is older than this code): start the system with `make run`",
    "42883": "the database has not been set up (or is older than this code): start the system with `make run`",
    "42501": "this database user may not do that",
    "28P01": "the database refused the password",
    "28000": "the database refused the login",
    "3D000": "there is no such database",
    "57014": "the database took too long to answer",
    "55P03": "somebody else holds what this needs; try again",
    "25006": "the database is read-only now",
}
# Raised by our SQL functions for a name or a value that a person gave: wrong use.
_SQL_USAGE = frozenset({"MM404", "MM422"})


class _Terminal(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # for `reported`, as from any other print


class Command(BaseCommand):
    """A command of ours. `handle` raises UsageError for wrong use, UserError for what else a person can cause."""

    epilog = ""  # examples, shown as written below the options
    needs_database = True  # False: the command does without one, or finds its own
    requires_system_checks: list[str] = []
    suppressed_base_arguments = {
        "--version",
        "--verbosity",
        "--settings",
        "--pythonpath",
        "--traceback",
        "--no-color",
        "--force-color",
        "--skip-checks",
    }

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        # No abbreviations: an option that is added later must not change what a script's `--re` means.
        kwargs = {"formatter_class": RawDescriptionHelpFormatter, "allow_abbrev": False, **kwargs}
        return super().create_parser(prog_name, subcommand, epilog=self.epilog or None, **kwargs)

    def run_from_argv(self, argv: list[str]) -> None:
        with reported(f"{os.path.basename(argv[0])} {argv[1]}"):
            super().run_from_argv(argv)
            sys.stdout.flush()  # while a closed pipe can still be caught

    def execute(self, *args: Any, **options: Any) -> str | None:
        if "MM_LOG_LEVEL" not in os.environ:
            logging.getLogger().setLevel(logging.ERROR)
        if self.needs_database:
            connect_url("console")  # NoDatabase now, and not a failing query later
        return super().execute(*args, **options)

    def emit(self, document: Any) -> None:
        """Print the one JSON document."""
        self.stdout.write(to_json(document))

    @property
    def console(self) -> Console:
        """The terminal, for tables and prose; plain text when it is none."""
        # Without a terminal nothing is cut to a width: lines are for `grep`.
        return _Terminal(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)

    @property
    def progress_console(self) -> Console:
        """stderr, for progress and notes."""
        return Console(stderr=True, highlight=False)


def add_json_option(parser: ArgumentParser, what: str = "the answer") -> None:
    """The `--json` that every command has alike."""
    parser.add_argument("--json", action="store_true", help=f"print {what} as one JSON document")


def to_json(document: Any) -> str:
    """One document on one line per top-level call: decimals as plain strings, times in UTC with microseconds."""
    return json.dumps(document, default=_plain, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, datetime):
        return utc_text(value)
    if isinstance(value, UUID):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"no JSON form for {type(value).__name__}")


def decimal_text(value: Decimal) -> str:
    """The number with neither an exponent nor trailing zeros: 0.50 is 0.5, 1E+2 is 100, -0.0 is 0."""
    if not value:
        return "0"
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def utc_text(value: datetime) -> str:
    """ISO 8601 in UTC with microseconds: 2026-01-31T09:00:00.000000Z."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def actor() -> str:
    """Who types: `cli:` and the operating system's user (not the environment's word for it)."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"cli:{os.getuid()}"  # an account without a name, as containers have


@contextmanager
def reported(program: str) -> Iterator[None]:
    """Turn what can happen to a healthy program into one line on stderr and the exit code. See the module's text."""
    try:
        yield
    except KeyboardInterrupt:
        _leave("", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _leave("", EXIT_BROKEN_PIPE)
    except UserError as error:
        _leave(f"{program}: {one_line(error)}", error.exit_code)
    except (DjangoDatabaseError, psycopg.Error) as error:
        told = explained(error)
        if told is None:
            raise
        _leave(f"{program}: {one_line(told)}", told.exit_code)


def explained(error: BaseException) -> UserError | None:
    """What a person needs to hear of a database error; None for one that is a defect of ours."""
    state = sqlstate(error)
    if state in _SQL_USAGE:
        return UsageError(message_of(error))
    if state is not None and state in _SQL_ADVICE:
        return UserError(f"{_SQL_ADVICE[state]} ({message_of(error)})")
    if state is None or state.startswith(("08", "53", "57")):  # connection, resources, operator's intervention
        return UserError(f"cannot reach the database at {_where()}: {message_of(error)}; is the system running?")
    return None


def message_of(error: BaseException) -> str:
    """The database's own sentence, without position and context; of a failed connection the cause."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text.rpartition("failed: ")[2] if text.startswith("connection ") else text


def one_line(error: BaseException) -> str:
    """An error's text on one line, bounded."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LINE_MAX else text[: LINE_MAX - 1] + "…"


def list_of_commands() -> str:
    """What `manage.py help` shows: our commands with a line each; Django's by name."""
    django.setup()
    ours, others = [], []
    for name, app in sorted(get_commands().items()):
        command = load_command_class(app, name) if isinstance(app, str) and (ROOT / app).is_dir() else app
        if isinstance(command, BaseCommand):
            ours.append(f"  {name:<11}{command.help.splitlines()[0]}")
        else:
            others.append(name)
    rest = textwrap.fill(", ".join(others), 100, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(
        ["usage: manage.py COMMAND [options]; `manage.py COMMAND --help` says more", "", *ours, "", "Django's:", rest]
    )


def _where() -> str:
    settings = connection.settings_dict
    places = zip((settings["HOST"] or "localhost").split(","), str(settings["PORT"] or 5432).split(","), strict=True)
    return described(f"//{','.join(f'{host}:{port}' for host, port in places)}/{settings['NAME']}")


def _leave(message: str, code: int) -> NoReturn:
    if message:
        with suppress(BrokenPipeError):  # nobody listens on stderr either; the exit code still tells
            print(message, file=sys.stderr)
    sys.exit(code)
