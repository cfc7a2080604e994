"""Column types that PostgreSQL has and Django does not name."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db import models


class NumericField(models.DecimalField):  # type: ignore[type-arg]
    """Unconstrained `numeric`: keeps the scale it was given, so 100.5 is not stored as 100.5000000000.

    `max_digits` and `decimal_places` bound only what a form accepts; the domains and the tables' CHECK constraints
    are what refuses NaN, Infinity and values off tick or off lot.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_digits", 38)
        kwargs.setdefault("decimal_places", 18)
        super().__init__(*args, **kwargs)

    def db_type(self, connection: Any) -> str:
        return "numeric"

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        return value if value is None or hasattr(value, "as_sql") else Decimal(value)


class DomainField(models.Field):  # type: ignore[type-arg]
    """Mixin: a column of one of the project's domains (journal/sql/journal_domains_v1.sql).

    A domain's rule is compiled once per session, where a CHECK of the table is parsed again by every statement that
    writes it; measured, the tables' CHECKs had been a third of an order's CPU time.
    """

    domain: str

    def __init__(self, *args: Any, domain: str, **kwargs: Any) -> None:
        self.domain = domain
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        return name, path, args, {**kwargs, "domain": self.domain}

    def db_type(self, connection: Any) -> str:
        return self.domain


class AmountField(DomainField, NumericField):
    """A price or a quantity: `mm_amount`, greater than 0 and less than 10^15; so neither NaN nor Infinity."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"domain": "mm_amount", **kwargs})


class WordField(DomainField, models.TextField):  # type: ignore[type-arg]
    """One of a domain's few words, such as `mm_side`."""


class Xid8Field(models.BigIntegerField):  # type: ignore[type-arg]
    """A 64-bit transaction id (`xid8`), read as an int. Written by the database's default only."""

    def db_type(self, connection: Any) -> str:
        return "xid8"

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> int | None:
        return None if value is None else int(value)
