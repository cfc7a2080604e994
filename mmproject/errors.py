"""Errors that a person can cause or mend. Their text is one clear line; a command prints it without a traceback."""

from __future__ import annotations


class UserError(Exception):
    """Shown as it is; the command exits with `exit_code` (2 = wrong use, 1 = failure)."""

    exit_code = 1


class UsageError(UserError):
    """The command was used wrongly."""

    exit_code = 2


class ConfError(UsageError):
    """A setting is missing or out of range."""


class NoDatabase(UserError):
    """No database is known."""
