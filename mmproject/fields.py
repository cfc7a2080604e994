"""Column types that PostgreSQL has and Django does not name."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db import models


class NumericField(models.DecimalField):  # type: ignore[type-arg]
    """Unconstrained `numeric`: keeps the scale it was given, so 100.5 is not stored as 100.5000000000.

    `max_digits` and `decimal_places` bound only what a form accepts; the tables' CHECK constraints are
    what refuses NaN, Infinity and values off tick or off lot.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_digits", 38)
        kwargs.setdefault("decimal_places", 18)
        super().__init__(*args, **kwargs)

    def db_type(self, connection: Any) -> str:
        return "numeric"

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        return value if value is None or hasattr(value, "as_sql") else Decimal(value)


class Xid8Field(models.BigIntegerField):  # type: ignore[type-arg]
    """A 64-bit transaction id (`xid8`), read as an int. Written by the database's default only."""

    def db_type(self, connection: Any) -> str:
        return "xid8"

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> int | None:
        return None if value is None else int(value)
