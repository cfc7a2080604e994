"""Celery tasks of the exchange: thin, and harmless when doubled, lost or killed half-way."""

from __future__ import annotations

import threading

from celery import shared_task

from exchange import services

# One at a time per worker process: a tick that comes while one is at work would only compute the same again.
_at_work = threading.Lock()


@shared_task(name="exchange.tasks.tick")  # type: ignore[untyped-decorator]
def tick() -> None:
    """Advance the clock as far as it is due and place the external orders that are missing."""
    if not _at_work.acquire(blocking=False):
        return
    try:
        services.advance_clock()
        services.place_external_orders()
    finally:
        _at_work.release()


@shared_task(name="exchange.tasks.keep_partitions")  # type: ignore[untyped-decorator]
def keep_partitions() -> None:
    """Make the quote versions' next partitions, and drop those past the retention."""
    services.keep_partitions()
