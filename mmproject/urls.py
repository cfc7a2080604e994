"""Where everything is: console at /, admin, API under /api/v1/, health and metrics."""

from django.contrib import admin
from django.urls import include, path

from mmproject import health
from mmproject.api import api

urlpatterns = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("metrics", health.metrics),
    path("admin/", admin.site.urls),
    path("api/", api.urls),
    path("", include("console.urls")),
]

handler400 = "mmproject.apierrors.bad_request"
handler404 = "mmproject.apierrors.not_found"
