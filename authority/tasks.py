"""Celery tasks of the authority."""

from __future__ import annotations

from celery import shared_task

from authority import services


@shared_task(name="authority.tasks.sweep")  # type: ignore[untyped-decorator]
def sweep() -> None:
    """End what has expired or lost its session, in case no node is left to see it."""
    services.sweep()
