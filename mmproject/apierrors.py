"""How the API says no: {"code", "detail"} with the status that fits."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class ApiError(Exception):
    """Answered as `status` with {"code", "detail"}. `code` is stable; `detail` is for people."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


class ErrorOut(BaseModel):
    """Why not. `code` is stable; `detail` is for people."""

    code: str
    detail: str


# For an operation's `response=`: what each of them may answer.
ERRORS: dict[Any, type[ErrorOut]] = {frozenset({400, 401, 403, 404, 405, 409, 422, 503}): ErrorOut}
