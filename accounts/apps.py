from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "access"

    def ready(self) -> None:
        post_migrate.connect(_ensure_groups, sender=self)


def _ensure_groups(using: str, **_: Any) -> None:
    """After the migrations, because Django makes the permissions then (this app comes after all that have models)."""
    from accounts.permissions import ensure_groups

    ensure_groups(using)
