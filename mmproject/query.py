"""Calling SQL: one statement, one round trip, its rows or its one value. Uses Django's default connection."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from django.db import OperationalError, connection
from psycopg.errors import Diagnostic

from mmproject.primary import is_unreplicated

Row = dict[str, Any]
Parameters = Sequence[Any] | Mapping[str, Any]  # for %s, or for %(name)s


class NotReplicated(OperationalError):
    """A commit was made and may be lost: the server stopped waiting for its standby. Its outcome is unknown."""


def rows(statement: str, parameters: Parameters = ()) -> list[Row]:
    """The statement's rows as dictionaries. Raises django.db.Error."""
    with _executed(statement, parameters) as cursor:
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def value(statement: str, parameters: Parameters = ()) -> Any:
    """The first column of the statement's first row, or None without rows. Raises django.db.Error."""
    with _executed(statement, parameters) as cursor:
        row = cursor.fetchone()
        return None if row is None else row[0]


@contextmanager
def _executed(statement: str, parameters: Parameters) -> Iterator[Any]:
    told: list[str] = []

    def hear(notice: Diagnostic) -> None:
        if is_unreplicated(notice.severity_nonlocalized, notice.source_function, notice.message_primary):
            told.append(notice.message_primary or "")

    with connection.cursor() as cursor:
        with noticed(hear):
            cursor.execute(statement, parameters)
        if told:
            raise NotReplicated(told[0])
        yield cursor


def document(statement: str, parameters: Parameters = ()) -> Any:
    """The same for a statement whose value is `jsonb`; numbers with decimals come as Decimal, never as float."""
    text = value(statement, parameters)
    return None if text is None else json.loads(text, parse_float=Decimal)


@contextmanager
def noticed(told: Callable[[Diagnostic], None]) -> Iterator[None]:
    """Have the server's notices told to `told` in the meantime, each as it comes, while the statement goes on."""
    connection.ensure_connection()
    link = connection.connection
    link.add_notice_handler(told)
    try:
        yield
    finally:
        link.remove_notice_handler(told)
