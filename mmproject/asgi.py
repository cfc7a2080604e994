"""HTTP and WebSocket, as Daphne serves them."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mmproject.settings")
os.environ.setdefault("MM_DB_POOL_SIZE", "10")  # requests run in threads that come and go: they share a pool

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()  # first: it loads the apps that the imports below need

from channels.routing import ProtocolTypeRouter  # noqa: E402

from console.routing import websocket_application  # noqa: E402
from mmproject.pacing import paced  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": paced(django_application),
        "websocket": websocket_application(),
    }
)
