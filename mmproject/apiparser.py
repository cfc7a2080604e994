"""JSON as the API takes it: exact decimals, nothing twice, nothing that JSON does not know."""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, NoReturn

from django.http import HttpRequest
from ninja.parser import Parser
from pydantic import AfterValidator, BeforeValidator, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from mmproject.apierrors import ApiError

BODY_BYTES_MAX = 512 * 1024  # a thousand orders, each as long as it may be
NUMBER_LENGTH_MAX = 64
DIGITS_MAX = 40  # before and behind the point; what is valid has 15 and 18
REASON_LENGTH_MAX = 500

_DECIMAL = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?", re.ASCII)


class StrictParser(Parser):
    """django-ninja's parser of bodies. Every failure is an ApiError with status 400."""

    def parse_body(self, request: HttpRequest) -> dict[str, Any]:
        return parsed(request.body)


def parsed(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`, its numbers as Decimal. Raises ApiError."""
    if len(body) > BODY_BYTES_MAX:
        raise too_large()
    try:
        document = json.loads(
            body.decode("utf-8"),
            parse_float=_number,
            parse_int=_number,
            parse_constant=_refuse_constant,
            object_pairs_hook=_object,
        )
    except UnicodeDecodeError:
        raise ApiError(400, "malformed_json", "the body is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ApiError(400, "malformed_json", f"not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ApiError(400, "malformed_json", "nested too deeply") from None
    if not isinstance(document, dict):
        raise ApiError(400, "malformed_request", "the body must be a JSON object")
    return document


def too_large() -> ApiError:
    """What is answered to a body beyond our limit, or beyond Django's, which is larger."""
    return ApiError(400, "body_too_large", f"a body has at most {BODY_BYTES_MAX} bytes")


def _number(text: str) -> Decimal:
    if len(text) > NUMBER_LENGTH_MAX:
        raise ApiError(400, "malformed_json", f"a number has at most {NUMBER_LENGTH_MAX} characters")
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent of 19 digits and more
        raise ApiError(400, "malformed_json", "a number is out of all range") from None


def _refuse_constant(text: str) -> NoReturn:
    raise ApiError(400, "malformed_json", f"{text} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ApiError(400, "malformed_json", "a field is given twice")
    return made


def _decimal(value: Any) -> Decimal:
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        return Decimal(value)
    if isinstance(value, Decimal):
        if not value.is_finite() or abs(value.adjusted()) > DIGITS_MAX or len(value.as_tuple().digits) > 2 * DIGITS_MAX:
            raise PydanticCustomError("out_of_range", "the number is out of range")
        return value
    raise PydanticCustomError("decimal", 'must be a decimal in a string, such as "100.25"')


def _reason(value: str | None) -> str:
    if value is None:
        return ""
    if not all(character.isprintable() or character in "\n\t" for character in value):
        raise PydanticCustomError("invalid_reason", "must be printable text")
    return value.strip()


# Strings are preferred; a JSON number is taken exactly, digit by digit, and never becomes a float.
DecimalIn = Annotated[
    Decimal,
    BeforeValidator(_decimal),
    WithJsonSchema({"type": "string", "pattern": r"^-?[0-9]{1,40}(\.[0-9]{1,40})?$", "examples": ["100.25"]}),
]
Reason = Annotated[
    Annotated[str, StringConstraints(max_length=REASON_LENGTH_MAX, strict=True)] | None, AfterValidator(_reason)
]
