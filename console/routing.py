"""WebSocket addresses of the console."""

from typing import cast

from django.urls import URLPattern, path

from console.stream.reader import Reader
from console.stream.socket import StreamSocket
from mmproject.db import connect_url

reader = Reader(lambda: connect_url("console"))  # one per process; it starts with the first socket

websocket_urlpatterns = [cast(URLPattern, path("ws/stream/", StreamSocket(reader)))]  # type: ignore[call-overload]
