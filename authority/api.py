"""Nodes, assignments, leases and their history, and draining a node."""

from __future__ import annotations

import re
from typing import Any

from django.http import HttpRequest
from ninja import Path, Query, Router

from accounts.auth import Access
from accounts.permissions import DRAIN_NODE
from authority import selectors, services
from authority.errors import UnknownNode
from authority.schemas import AssignmentOut, DrainIn, DrainOut, LeaseOut, NodeOut, TenureOut
from exchange.selectors import has_symbol
from mmproject.apierrors import ERRORS, ApiError
from mmproject.paging import SYMBOL_PATTERN, ListQuery, LogQuery, Page, SymbolListQuery, log_page, number

router = Router(tags=["authority"])

_SYMBOL = re.compile(SYMBOL_PATTERN.strip("^$"), re.ASCII)
_NODE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)


@router.get("/nodes", response={200: Page[NodeOut], **ERRORS})
def list_nodes(request: HttpRequest, asked: Query[ListQuery]) -> Any:
    """Every node that ever registered, with its latest incarnation."""
    return selectors.nodes(asked)


@router.get("/assignments", response={200: Page[AssignmentOut], **ERRORS})
def list_assignments(request: HttpRequest, asked: Query[SymbolListQuery]) -> Any:
    """Which node should hold which symbol."""
    return selectors.assignments(asked)


@router.get("/leases", response={200: Page[LeaseOut], **ERRORS})
def list_leases(request: HttpRequest, asked: Query[SymbolListQuery]) -> Any:
    """Who may quote what now, until when, under which epoch."""
    return selectors.leases(asked)


@router.get("/leases/{symbol}/history", response={200: Page[TenureOut], **ERRORS})
def list_history(request: HttpRequest, symbol: Path[str], asked: Query[LogQuery]) -> Any:
    """Who held a symbol, oldest first. Resume with `?after=` and the epoch of the last one seen."""
    if not _SYMBOL.fullmatch(symbol) or not has_symbol(symbol):
        raise ApiError(404, "unknown_symbol", "there is no such symbol")
    position = asked.position
    after_epoch = 0 if position is None else number(position)
    return log_page(selectors.history(symbol, after_epoch=after_epoch, limit=asked.limit + 1), asked.limit, "epoch")


@router.post("/nodes/{name}/drain", response={200: DrainOut, **ERRORS}, auth=Access(DRAIN_NODE))
def drain_node(request: HttpRequest, name: Path[str], drain: DrainIn | None = None) -> Any:
    """Move a node's symbols to the others and let none come to it; with `"draining": false`, let it take some again."""
    if not _NODE.fullmatch(name):
        raise UnknownNode("there is no such node")
    wanted = drain or DrainIn()
    actor: str = request.auth.username  # type: ignore[attr-defined]
    return services.set_draining(name, wanted.draining, actor, wanted.reason or "")
