"""The ASGI application, as Daphne calls it."""

from __future__ import annotations

from typing import Any, cast

import pytest
from asgiref.sync import SyncToAsync
from asgiref.testing import ApplicationCommunicator

from tests.web.client import HOST

HOPS_MAX = 3  # the request's start, all of its middleware with its view, its end


async def test_a_request_goes_to_its_thread_for_all_of_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmproject.asgi import application

    hops: list[object] = []
    call = SyncToAsync.__call__

    async def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        hops.append(self.func)
        return await call(self, *args, **kwargs)

    monkeypatch.setattr(SyncToAsync, "__call__", counted)
    client = cast(Any, ApplicationCommunicator)(
        application,
        {
            "type": "http", "method": "GET", "path": "/healthz", "query_string": b"", "http_version": "1.1",
            "headers": [(b"host", HOST.encode())],
        },
    )  # fmt: skip
    await client.send_input({"type": "http.request", "body": b"", "more_body": False})
    start, body = await client.receive_output(), await client.receive_output()
    await client.wait()

    assert (start["status"], body["type"]) == (200, "http.response.body")
    assert 0 < len(hops) <= HOPS_MAX, hops
