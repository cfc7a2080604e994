"""WebSocket addresses of the console."""

from typing import Any, cast

from django.urls import path

from console.stream.reader import Reader
from console.stream.socket import StreamSocket
from mmproject.db import connect_url

reader = Reader(lambda: connect_url("console"))  # one per process; it starts with the first socket

# Channels routes to ASGI applications by Django's paths, which are typed for views.
websocket_urlpatterns = [path("ws/stream/", cast(Any, StreamSocket(reader)))]
