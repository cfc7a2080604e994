"""Who may use the market from a program, and the permissions that actions need."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q


class ApiToken(models.Model):
    """A bearer token of the HTTP API, with its user's permissions. Only its SHA-256 is kept: nobody can read it back.

    A token is 256 random bits, so a plain hash is enough: there is nothing to guess from a dictionary.
    `last_used_at` is coarse (see accounts.auth). Revoking a token deletes its row.
    """

    token_hash = models.TextField(unique=True, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        verbose_name = "API token"
        constraints = [
            models.CheckConstraint(condition=Q(token_hash__regex="^[0-9a-f]{64}$"), name="token_is_hashed"),  # noqa: S106
        ]

    def __str__(self) -> str:
        return f"{self.user} {self.name}"


class Desk(models.Model):
    """What people can be permitted to do at the desk. It has no table: it carries the permissions' names."""

    class Meta:
        managed = False
        default_permissions = ()
        permissions = [
            ("place_order", "Can send and cancel orders"),
            ("toggle_quoting", "Can turn quoting on and off"),
            ("drain_node", "Can drain and undrain nodes"),
            ("change_parameters", "Can change a symbol's quoting parameters"),
        ]
