"""An ASGI application for tests/web/test_pacing.py: answers in many parts, and how many of them were sent."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from mmproject.pacing import paced

PART = b"x" * 65_536
PARTS = 64
IMPATIENT_S = 0.5

sent: Counter[str] = Counter()
ended: Counter[str] = Counter()


async def answers(scope: Any, receive: Any, send: Any) -> None:
    path = scope["path"]
    await receive()
    if path == "/told":
        body = json.dumps({"sent": sent, "ended": ended}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
        return
    try:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while path != "/whole" or sent[path] < PARTS:
            if path == "/breaks" and sent[path] >= 3:
                raise ConnectionError("what it reads from is gone")
            await send({"type": "http.response.body", "body": PART, "more_body": True})
            sent[path] += 1
        await send({"type": "http.response.body"})
    finally:
        ended[path] += 1


async def fails_at_once(_scope: Any, _receive: Any, _send: Any) -> None:
    raise ConnectionError("before anything was sent")


_patient, _impatient, _failing = paced(answers), paced(answers, IMPATIENT_S), paced(fails_at_once)


async def application(scope: Any, receive: Any, send: Any) -> None:
    chosen = {"/stalls": _impatient, "/fails": _failing}.get(scope["path"], _patient)
    await chosen(scope, receive, send)
