"""HTTP and WebSocket, as Daphne serves them."""

import os
from typing import Any, cast

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mmproject.settings")
os.environ.setdefault("MM_DB_POOL_SIZE", "10")  # requests run in threads that come and go: they share a pool

import django

django.setup(set_prefix=False)  # first: it loads the apps that the imports below need

from asgiref.sync import sync_to_async  # noqa: E402
from channels.routing import ProtocolTypeRouter  # noqa: E402
from django.core.handlers.asgi import ASGIHandler  # noqa: E402
from django.http import HttpRequest, HttpResponseBase  # noqa: E402

from console.routing import websocket_application  # noqa: E402
from mmproject import gate  # noqa: E402
from mmproject.pacing import paced  # noqa: E402


class OneHopHandler(ASGIHandler):
    """Django's, with all of a request's middleware and its view run in a row in the request's thread.

    All of ours is synchronous. Left to itself, Django runs the middleware on the event loop and goes to the thread and
    back for each step of each of them, which takes longer than the steps.
    """

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await sync_to_async(self.get_response, thread_sensitive=True)(request)
        return response


gate.install()
application = ProtocolTypeRouter(
    {
        "http": paced(cast(Any, OneHopHandler())),
        "websocket": websocket_application(),
    }
)
