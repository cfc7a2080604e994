"""What a user of the authority can do wrong. Each has a stable `code`, which is part of the API."""

from __future__ import annotations

from mmproject.errors import UserError


class UnknownNode(UserError):
    """No node has ever registered under that name."""

    exit_code = 2
    code = "unknown_node"
