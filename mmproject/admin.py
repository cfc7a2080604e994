"""What the apps' admin pages share: read-only, numbers as they are, and no count of a table that may be huge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, ClassVar

from django.apps import apps
from django.contrib import admin
from django.core.paginator import Paginator
from django.db import connection, models
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from unfold.admin import ModelAdmin

COUNTED_ROWS_MAX = 10_000  # counting so many takes milliseconds; beyond it, an estimate is as good
FILTER_CHOICES_MAX = 100  # more symbols or nodes than this are found by search
PAGE_ROWS = 50


class EstimatedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts up to COUNTED_ROWS_MAX; beyond it, takes the planner's estimate for a whole table."""

    @cached_property
    def count(self) -> int:
        found = self.object_list
        assert isinstance(found, QuerySet)
        counted = found.order_by()[: COUNTED_ROWS_MAX + 1].count()
        if counted <= COUNTED_ROWS_MAX or found.query.where:
            return counted
        with connection.cursor() as cursor:
            table = found.model._meta.db_table
            # A partitioned table has no estimate of its own, its partitions have; -1 is a table never looked at.
            cursor.execute(
                "SELECT sum(greatest(reltuples, 0))::bigint FROM pg_class WHERE oid = %s::regclass"
                " OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = %s::regclass)",
                [table, table],
            )
            return max(counted, int(cursor.fetchone()[0]))


def shown(value: Any) -> str:
    """Decimals with the digits they have (Django would pad them to 18 places), times to the microsecond, in UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(sep=" ", timespec="microseconds").removesuffix("+00:00")
    return format(value.normalize() + 0, ",f")


@cache  # Django compares a form's columns with its read-only ones: it must be given the same function each time
def as_it_is(field: models.Field[Any, Any]) -> Callable[[models.Model], str | None]:
    """A column that shows a decimal or a time by `shown`."""

    def column(row: models.Model) -> str | None:
        value = getattr(row, field.name)
        return None if value is None else shown(value)

    column.__name__ = field.name
    column.short_description = field.verbose_name  # type: ignore[attr-defined]
    column.admin_order_field = field.name  # type: ignore[attr-defined]
    return column


class _Known(admin.SimpleListFilter):
    """Filter by a name out of another table, without reading the listed one for its distinct values."""

    model: ClassVar[tuple[str, str]]

    def lookups(self, _request: HttpRequest, _admin: Any) -> list[tuple[str, str]]:
        names = apps.get_model(*self.model)._default_manager.order_by("pk").values_list("pk", flat=True)
        found = [str(name) for name in names[: FILTER_CHOICES_MAX + 1]]
        return [(name, name) for name in found] if len(found) <= FILTER_CHOICES_MAX else []

    def queryset(self, _request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        return rows.filter(**{str(self.parameter_name): value}) if value else rows


class SymbolFilter(_Known):
    """By symbol."""

    title, parameter_name, model = "symbol", "symbol", ("exchange", "Symbol")


class NodeFilter(_Known):
    """By node."""

    title, parameter_name, model = "node", "node", ("authority", "Node")


def one_of(field: str, values: Iterable[str]) -> type[admin.SimpleListFilter]:
    """A filter by values that are known beforehand."""
    known = [(value, value.replace("_", " ")) for value in values]

    class OneOf(admin.SimpleListFilter):
        title, parameter_name = field.replace("_", " "), field

        def lookups(self, _request: HttpRequest, _admin: Any) -> list[tuple[str, str]]:
            return known

        def queryset(self, _request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
            value = self.value()
            return rows.filter(**{field: value}) if value else rows

    return OneOf


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc]
    """Lists and shows rows; changes none, whatever the user's permissions. `search_fields` match exactly."""

    paginator = EstimatedPaginator
    show_full_result_count = False
    list_per_page = PAGE_ROWS
    list_max_show_all = PAGE_ROWS
    list_fullwidth = True
    list_filter_sheet = False
    compressed_fields = True
    actions = None

    def has_add_permission(self, _request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, _request: HttpRequest, _obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, _request: HttpRequest, _obj: models.Model | None = None) -> bool:
        return False

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return self._as_they_are(super().get_list_display(request))

    def get_fields(self, _request: HttpRequest, _obj: models.Model | None = None) -> list[Any]:
        return self._as_they_are([field.name for field in self.model._meta.fields])

    def get_readonly_fields(self, request: HttpRequest, obj: models.Model | None = None) -> list[Any]:
        return self.get_fields(request, obj)

    def get_search_results(self, _request: HttpRequest, rows: QuerySet[Any], term: str) -> tuple[QuerySet[Any], bool]:
        """Exact matches only, so that indexes serve them; symbols also in small letters."""
        term = term.strip()
        if not term:
            return rows, False
        matches = Q()
        for name in self.search_fields:
            matches |= Q(**{f"{name}__in": {term, term.upper()}})
        return rows.filter(matches), False

    def _as_they_are(self, names: Sequence[Any]) -> list[Any]:
        fields = {field.name: field for field in self.model._meta.fields}
        return [
            as_it_is(fields[name]) if isinstance(fields.get(name), models.DecimalField | models.DateTimeField) else name
            for name in names
        ]
