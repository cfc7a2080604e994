"""The permissions that the console asks for, by the names that the accounts app gives them."""

from __future__ import annotations

from typing import Final

TOGGLE_QUOTING: Final = "accounts.toggle_quoting"
DRAIN_NODE: Final = "accounts.drain_node"
