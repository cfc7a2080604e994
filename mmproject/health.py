"""Is it up, is it ready, and how is it doing: for load balancers and Prometheus."""

from __future__ import annotations

from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest


def unapplied_migrations() -> int:
    """How many migrations the database still lacks. Raises django.db.Error when it cannot be asked."""
    executor = MigrationExecutor(connection)
    return len(executor.migration_plan(executor.loader.graph.leaf_nodes()))


@require_safe
def healthz(_request: HttpRequest) -> JsonResponse:
    """The process is up; asks nobody else."""
    return JsonResponse({"status": "ok"})


@require_safe
def readyz(_request: HttpRequest) -> JsonResponse:
    """The database can be reached and has every migration."""
    try:
        missing = unapplied_migrations()
    except OperationalError:
        return JsonResponse({"status": "unavailable", "detail": "the database cannot be reached"}, status=503)
    if missing:
        return JsonResponse({"status": "unavailable", "detail": f"{missing} migrations to apply"}, status=503)
    return JsonResponse({"status": "ok"})


@require_safe
def metrics(_request: HttpRequest) -> HttpResponse:
    """This process's metrics in Prometheus' text format."""
    return HttpResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)
