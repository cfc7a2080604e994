"""Lists by page: `?limit=` items, and `?cursor=` with the `next` of the page before.

Two kinds, and neither counts or skips rows. State (quotes, leases ...) comes newest first; a row that changes while
somebody pages moves to the front, so whoever needs one consistent picture asks for it in one page. A log (fills,
activity, a history) comes oldest first in the order of commits, and nothing ever appears before a position that has
been handed out: `?after=` (or `?cursor=`) with the last item's own id resumes it at any later time, missing nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from mmproject import query
from mmproject.apierrors import ApiError
from mmproject.cli import decimal_text, utc_text

T = TypeVar("T")

LIMIT_DEFAULT = 500
LIMIT_MAX = 10_000  # the largest market's symbols in one picture
CURSOR_LENGTH_MAX = 128
BIGINT_MAX = 2**63 - 1

SYMBOL_PATTERN = r"^[A-Z][A-Z0-9]{0,15}$"
_STATE_CURSOR = re.compile(r"([0-9]{1,19})~([A-Za-z0-9-]{1,64})", re.ASCII)

DecimalText = Annotated[Decimal, PlainSerializer(decimal_text, return_type=str)]
UtcText = Annotated[datetime, PlainSerializer(utc_text, return_type=str)]


class Page(BaseModel, Generic[T]):
    """One page of a list. `next` is null on the last one."""

    items: list[T]
    next: str | None


class ListQuery(BaseModel):
    """The query of a list. What it does not know it refuses: a misspelt filter must not answer with everything."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(LIMIT_DEFAULT, ge=1, le=LIMIT_MAX, description="how many items at most")
    cursor: str | None = Field(None, max_length=CURSOR_LENGTH_MAX, description="the `next` of the page before")

    @model_validator(mode="after")
    def _refuse_the_unknown(self, info: ValidationInfo) -> Self:
        request = (info.context or {}).get("request")
        if request is not None:
            for name, values in request.GET.lists():
                if name not in type(self).model_fields:
                    known = ", ".join(type(self).model_fields)
                    raise PydanticCustomError(
                        "unknown_parameter", "this list knows the query parameters {known}", {"known": known}
                    )
                if len(values) > 1:
                    raise PydanticCustomError("invalid_query", "each query parameter may be given once")
        return self


class SymbolListQuery(ListQuery):
    """A list that can be narrowed to one symbol."""

    symbol: str | None = Field(None, pattern=SYMBOL_PATTERN, description="of this symbol only")


class LogQuery(ListQuery):
    """A log, which can also be resumed after the last item seen."""

    after: str | None = Field(None, max_length=CURSOR_LENGTH_MAX, description="the id of the last item seen")

    @property
    def position(self) -> str | None:
        """After which item to go on. Raises ApiError when two positions are given."""
        if self.cursor is not None and self.after is not None:
            raise ApiError(422, "invalid_cursor", "give either cursor or after")
        return self.after if self.cursor is None else self.cursor


class SymbolLogQuery(LogQuery):
    """A log that can be narrowed to one symbol."""

    symbol: str | None = Field(None, pattern=SYMBOL_PATTERN, description="of this symbol only")


def invalid_cursor() -> ApiError:
    """What is answered to a cursor that none of our pages handed out."""
    return ApiError(422, "invalid_cursor", "that is no cursor of this list: pass on `next` as it was answered")


def number(text: str) -> int:
    """A cursor's non-negative bigint. Raises ApiError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19) or int(text) > BIGINT_MAX:
        raise invalid_cursor()
    return int(text)


def log_page(rows: Sequence[dict[str, Any]], limit: int, key: str) -> dict[str, Any]:
    """A page from rows of which one more than `limit` were asked for, each with its position in `key`."""
    items = rows[:limit]
    return {"items": items, "next": str(items[-1][key]) if len(rows) > limit else None}


def state_page(statement: str, parameters: Sequence[Any], asked: ListQuery) -> dict[str, Any]:
    """A page of the rows of `statement`, newest first.

    Its rows carry two columns for the order: `sort` (bigint: microseconds or a number, highest first) and `key` (text,
    which tells rows of one moment apart). Raises ApiError for a cursor that is none.
    """
    sort, key = None, ""
    if asked.cursor is not None:
        match = _STATE_CURSOR.fullmatch(asked.cursor)
        if match is None:
            raise invalid_cursor()
        sort, key = number(match[1]), match[2]
    found = query.rows(
        f"SELECT * FROM ({statement}) AS state"  # noqa: S608 - our own statements, with placeholders
        " WHERE %s::bigint IS NULL OR sort < %s OR sort = %s AND key > %s ORDER BY sort DESC, key LIMIT %s",
        [*parameters, sort, sort, sort, key, asked.limit + 1],
    )
    items = found[: asked.limit]
    following = f"{items[-1]['sort']}~{items[-1]['key']}" if len(found) > asked.limit else None
    return {"items": items, "next": following}
