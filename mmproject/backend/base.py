"""Each connection that Django makes by itself goes to the newest primary; a pool's do so by their own class."""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql import base

from mmproject import primary


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's, asked for its parameters at each connection: the servers are asked then."""

    def get_connection_params(self) -> dict[str, Any]:
        params: dict[str, Any] = super().get_connection_params()
        if self.settings_dict["OPTIONS"].get("pool") or "," not in str(params.get("host", "")):
            return params
        return {**params, **primary.place_of(params)}
