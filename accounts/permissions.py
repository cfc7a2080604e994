"""The permissions that actions need, and the groups that hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Q

if TYPE_CHECKING:
    from django.contrib.auth.models import Permission
    from django.db.models import QuerySet

PLACE_ORDER: Final = "accounts.place_order"
TOGGLE_QUOTING: Final = "accounts.toggle_quoting"
DRAIN_NODE: Final = "accounts.drain_node"
CHANGE_PARAMETERS: Final = "accounts.change_parameters"

VIEWER: Final = "viewer"  # reads, as everybody who is signed in may
OPERATOR: Final = "operator"  # runs the desk: orders, the kill switch, drains
ADMIN: Final = "admin"  # the operator's, the parameters, and reads everything in the admin

_OPERATOR_CODENAMES = ("place_order", "toggle_quoting", "drain_node")
_DOMAIN = ("journal", "ledger", "exchange", "authority")


def ensure_groups(using: str = DEFAULT_DB_ALIAS) -> None:
    """Make the three groups and give them what they lack. Idempotent; takes nothing away."""
    from django.contrib.auth.models import Group, Permission

    permissions = Permission.objects.using(using)
    desk = permissions.filter(content_type__app_label="accounts", content_type__model="desk")
    everything = permissions.filter(
        Q(content_type__app_label__in=_DOMAIN, codename__startswith="view_")
        | Q(content_type__app_label="exchange", codename="change_symbol")
        | Q(content_type__app_label="accounts", codename__in=("view_apitoken", "delete_apitoken"))
        | Q(content_type__app_label="auth", codename__in=("view_user", "view_group"))
    )
    granted: dict[str, list[QuerySet[Permission]]] = {
        VIEWER: [],
        OPERATOR: [desk.filter(codename__in=_OPERATOR_CODENAMES)],
        ADMIN: [desk, everything],
    }
    for name, sets in granted.items():
        group, _ = Group.objects.using(using).get_or_create(name=name)
        for found in sets:
            group.permissions.add(*found)
