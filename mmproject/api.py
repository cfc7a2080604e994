"""The HTTP API under /api/v1/."""

from ninja import NinjaAPI

api = NinjaAPI(title="Market maker", version="1")
