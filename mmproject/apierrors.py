"""How the API says no: {"code", "detail"} with the status that fits."""

from __future__ import annotations


class ApiError(Exception):
    """Answered as `status` with {"code", "detail"}. `code` is stable; `detail` is for people."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
