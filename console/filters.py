"""What a blotter is asked for: the query of its address, judged before anything is read."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import urlencode

from django.http import QueryDict
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from exchange.models import OPEN_STATUSES
from exchange.schemas import Side, Status
from mmproject.paging import BIGINT_MAX, SYMBOL_PATTERN

TEXT_LENGTH_MAX: Final = 64  # of an order's id, the longest there is
_FILL_ID: Final = re.compile(r"[A-Z][A-Z0-9]{0,15}-[0-9]{12}", re.ASCII)

# What is told of a field that cannot be read.
_DETAILS: Final = {
    "q": "Search takes a whole id, or its beginning and a *: letters, digits and . _ : - only.",
    "symbol": "A symbol is a capital letter and up to 15 capitals and digits.",
    "side": "The side is buy or sell.",
    "status": "The status is open, or one of an order's.",
    "from": "From is a time such as 2026-01-31T09:00, in UTC.",
    "to": "To is a time such as 2026-01-31T09:00, in UTC.",
    "cursor": "That is no cursor of this list: follow its links.",
}


class BadQuery(Exception):
    """The query makes no sense. `field` is where, `code` is stable, the text is for people."""

    def __init__(self, field: str, code: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field
        self.code = code


def _time(text: Any) -> datetime:
    """A form's time, which has no zone and means UTC, or any ISO 8601 with one."""
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise PydanticCustomError("time", "no time") from None


Time = Annotated[datetime, BeforeValidator(_time)]


class Filter(BaseModel):
    """Which rows are wanted. A field that is None wants them all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    q: str = Field("", pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}\*?$")
    symbol: str | None = Field(None, pattern=SYMBOL_PATTERN)
    side: Side | None = None
    since: Time | None = Field(None, alias="from")
    until: Time | None = Field(None, alias="to")
    cursor: str | None = Field(None, max_length=TEXT_LENGTH_MAX)

    @property
    def id(self) -> str | None:
        """The whole id that is searched for."""
        return self.q if self.q and not self.q.endswith("*") else None

    @property
    def prefix(self) -> str | None:
        """The beginning of an order's id that is searched for."""
        return self.q[:-1] if self.q.endswith("*") else None

    @property
    def is_narrow(self) -> bool:
        """Whether it leaves anything out."""
        return any((self.q, self.symbol, self.side, self.since, self.until))

    @property
    def is_among_all(self) -> bool:
        """Whether a symbol's rows are looked for among those of all symbols."""
        return False  # fills have an order of their own in each symbol

    @property
    def fill(self) -> str | None:
        """The cursor of a list of fills, which is a fill's id. Raises BadQuery."""
        if self.cursor is None:
            return None
        mine = self.symbol is None or self.cursor.startswith(f"{self.symbol}-")
        if not _FILL_ID.fullmatch(self.cursor) or not mine:
            raise bad_cursor()
        return self.cursor

    def parameters(self) -> dict[str, Any]:
        """For the statements' conditions."""
        names = ("symbol", "side", "since", "until", "prefix")
        return {name: getattr(self, name) for name in names}


class OrderFilter(Filter):
    """Orders can be narrowed to a status, too; `open` is what rests in the book."""

    status: Literal["open"] | Status | None = None

    @property
    def statuses(self) -> list[str] | None:
        if self.status is None:
            return None
        return list(OPEN_STATUSES) if self.status == "open" else [self.status]

    @property
    def is_of_open(self) -> bool:
        """Whether only orders in the book are wanted."""
        return self.statuses is not None and set(self.statuses) <= set(OPEN_STATUSES)

    @property
    def is_among_all(self) -> bool:
        return self.symbol is not None and self.id is None and not self.is_of_open  # no index of all orders has it

    @property
    def is_narrow(self) -> bool:
        return super().is_narrow or self.status is not None

    @property
    def order(self) -> int:
        """The cursor of a list of orders, which is an order's number. Raises BadQuery."""
        if self.cursor is None:
            return BIGINT_MAX
        if not (self.cursor.isascii() and self.cursor.isdigit() and int(self.cursor) <= BIGINT_MAX):
            raise bad_cursor()
        return int(self.cursor)

    def parameters(self) -> dict[str, Any]:
        return {**super().parameters(), "statuses": self.statuses}


F = TypeVar("F", bound=Filter)


def bad_cursor() -> BadQuery:
    return BadQuery("cursor", "invalid_cursor", _DETAILS["cursor"])


def given(query: QueryDict) -> dict[str, str]:
    """What was asked, as a form sends it, without the fields left empty. Raises BadQuery for one given twice."""
    fields = {}
    for name, values in query.lists():
        if len(values) > 1:
            raise BadQuery(name[:TEXT_LENGTH_MAX], "invalid_query", "Each field may be given once.")
        if text := values[0].strip():
            fields[name] = text.upper() if name == "symbol" else text
    return fields


def judged(model: type[F], fields: dict[str, str]) -> F:
    """The filter that `fields` asks for. Raises BadQuery."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        if first["type"] != "extra_forbidden":
            raise BadQuery(field, f"invalid_{field}", _DETAILS[field]) from None
        known = ", ".join(info.alias or name for name, info in model.model_fields.items())
        raise BadQuery(field[:TEXT_LENGTH_MAX], "unknown_parameter", f"This page knows {known}.") from None


def query_of(fields: dict[str, str], **others: str | None) -> str:
    """The query of an address of the same filter, with `others` put in or, when None, left out."""
    return urlencode({name: text for name, text in {**fields, **others}.items() if text is not None})
