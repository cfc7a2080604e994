"""JSON and cursors as the API takes them, without a database."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from mmproject.apierrors import ApiError
from mmproject.apiparser import DecimalIn, parsed
from mmproject.paging import log_page, number

DECIMAL: TypeAdapter[Decimal] = TypeAdapter(DecimalIn)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_refused(body: bytes) -> None:
    refused = None
    try:
        assert isinstance(parsed(body), dict)
    except ApiError as error:
        refused = error.status
    assert refused in (None, 400)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=18, min_value=-(10**15), max_value=10**15))
def test_a_decimal_comes_through_to_the_last_digit(value: Decimal) -> None:
    text = f"{value:f}"
    document = parsed(f'{{"number": {text}, "string": "{text}"}}'.encode())

    assert DECIMAL.validate_python(document["number"]) == value
    assert DECIMAL.validate_python(document["string"]) == value


@given(
    st.one_of(
        st.text(), st.booleans(), st.none(), st.lists(st.integers()), st.integers(), st.floats(),
        st.decimals(allow_nan=True, allow_infinity=True),
    )
)  # fmt: skip
def test_what_is_taken_for_a_decimal_is_finite_and_of_bounded_length(value: Any) -> None:
    """Whatever passes can be handed to the database: no NaN, no float, nothing of a million digits."""
    try:
        taken = DECIMAL.validate_python(value)
    except ValidationError:
        return
    assert isinstance(value, str | Decimal)
    assert taken.is_finite()
    assert len(f"{taken:f}") < 200


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", " 1", "1 ", "1_0", "1.0", "\u0661", "9223372036854775808", "1" * 1000]
)
def test_a_cursors_number_is_a_plain_bigint(text: str) -> None:
    with pytest.raises(ApiError):
        number(text)


def test_the_largest_bigint_is_a_cursor() -> None:
    assert number("9223372036854775807") == 2**63 - 1


def test_a_page_ends_with_a_cursor_only_when_there_is_more() -> None:
    rows = [{"id": 1}, {"id": 2}, {"id": 3}]
    assert log_page(rows, 3, "id") == {"items": rows, "next": None}
    assert log_page(rows, 2, "id") == {"items": rows[:2], "next": "2"}
    assert log_page([], 2, "id") == {"items": [], "next": None}
