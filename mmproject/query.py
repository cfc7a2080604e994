"""Calling SQL: one statement, one round trip, its rows or its one value. Uses Django's default connection."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from django.db import connection
from psycopg.errors import Diagnostic

Row = dict[str, Any]
Parameters = Sequence[Any] | Mapping[str, Any]


def rows(statement: str, parameters: Parameters = ()) -> list[Row]:
    """The statement's rows as dictionaries. Raises django.db.Error."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def value(statement: str, parameters: Parameters = ()) -> Any:
    """The first column of the statement's first row, or None without rows. Raises django.db.Error."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        row = cursor.fetchone()
        return None if row is None else row[0]


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
