"""The authority's shapes in the API (DESIGN, section 8)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from mmproject.apiparser import Reason
from mmproject.paging import UtcText


class NodeOut(BaseModel):
    """A node and its latest incarnation; `symbols` is how many leases in force it holds."""

    name: str
    incarnation: str
    state: Literal["active", "draining", "ended"]
    registered_at: UtcText
    expires_at: UtcText
    symbols: int


class AssignmentOut(BaseModel):
    """Which node should hold a symbol. The lease says who does."""

    symbol: str
    node: str
    generation: int


class LeaseOut(BaseModel):
    """A lease in force."""

    symbol: str
    node: str
    incarnation: str
    epoch: int
    granted_at: UtcText
    expires_at: UtcText


class TenureOut(BaseModel):
    """One grant, from its beginning to its end; ended_at and reason are null while it lasts."""

    epoch: int
    node: str
    incarnation: str
    granted_at: UtcText
    ended_at: UtcText | None
    reason: str | None


class DrainIn(BaseModel):
    """Drain (the default) or undrain."""

    model_config = ConfigDict(extra="forbid", strict=True)

    draining: bool = True
    reason: Reason = ""


class DrainOut(BaseModel):
    """A node's draining flag before and after."""

    node: str
    before: bool
    after: bool
