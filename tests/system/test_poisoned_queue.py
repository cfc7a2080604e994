"""Messages in the queue that nobody should send, and a queue that is gone: the worker goes on."""

from __future__ import annotations

import base64
import json
from itertools import count
from typing import Any, Final

import pytest

from tests.support import eventually, running_system

BACK_S: Final = 60.0
_number = count()


def message(**changes: Any) -> dict[str, Any]:
    """One as beat sends it, but for the changes to its headers (h_...), properties (p_...) or itself."""
    body, name = base64.b64encode(json.dumps([[], {}, {}]).encode()).decode(), f"poison-{next(_number)}"
    made: dict[str, Any] = {
        "body": body, "content-type": "application/json", "content-encoding": "utf-8",
        "headers": {"task": "authority.tasks.sweep", "id": name, "lang": "py", "argsrepr": "()", "kwargsrepr": "{}"},
        "properties": {
            "delivery_tag": name, "delivery_mode": 2, "priority": 0, "body_encoding": "base64",
            "correlation_id": name, "reply_to": "",
            "delivery_info": {"exchange": "", "routing_key": "mm_tasks"},
        },
    }  # fmt: skip
    for name, value in changes.items():
        part = {"h_": made["headers"], "p_": made["properties"]}.get(name[:2], made)
        key = name.removeprefix("h_").removeprefix("p_").replace("_type", "-type").replace("_enc", "-enc")
        key = "body_encoding" if key == "body-encoding" else key
        part[key] = value
    return made


POISON: Final[list[Any]] = [
    [], None, "text", 5, True, {}, {"body": 1}, {"properties": None}, {"properties": []}, {"properties": {}},
    {"headers": None, "properties": {"delivery_tag": "x"}}, {"body": "!!", "headers": {}, "properties": {}},
    message(headers=None), message(headers=[]), message(properties=None), message(body=None), message(body=[]),
    message(body="!!"), message(body="AAAA"), message(body=base64.b64encode(b"\xff\x00").decode()),
    message(body=base64.b64encode(b"[").decode()), message(body=base64.b64encode(b"[" * 5000).decode()),
    message(body=base64.b64encode(b"{}").decode()), message(body=base64.b64encode(b"[1,2,3]").decode()),
    message(body=base64.b64encode(b"[[1],{},{}]").decode()), message(body=base64.b64encode(b"null").decode()),
    message(content_type="application/x-python-serialize"), message(content_type=[]), message(content_type=None),
    message(content_encoding="nonsense"), message(h_task=None), message(h_task=[]), message(h_task={}),
    message(h_task=5), message(h_task="no.such.task"), message(h_id=None), message(h_id=[]), message(h_id=5),
    message(h_eta="never"), message(h_eta=5), message(h_expires="never"), message(h_expires=[]),
    message(h_retries="many"), message(h_timelimit=5), message(h_timelimit=["a", {}]), message(h_lang=None),
    message(h_root_id={}), message(h_group=[]), message(h_shadow=[]), message(h_ignore_result="x"),
    message(p_delivery_tag=None), message(p_delivery_tag=[]), message(p_delivery_tag={}),
    message(p_delivery_info=None), message(p_delivery_info=[]), message(p_delivery_info="x"),
    message(p_body_encoding="nonsense"), message(p_body_encoding=[]), message(p_priority="high"),
    message(p_reply_to=[]), message(p_correlation_id={}),
]  # fmt: skip

TOO_MUCH: Final = ["9" * 5000, "[" * 1500 + "]" * 1500]  # for Python's parser, and not for PostgreSQL's

pytestmark = pytest.mark.timeout(180)


def test_messages_that_nobody_should_send_do_not_stop_the_worker() -> None:
    with running_system(nodes=1, symbols=1) as system, system.connect() as admin:

        def value(query: str, *values: object) -> Any:
            row = admin.execute(query.encode(), values or None).fetchone()
            return row[0] if row else None

        step = "SELECT step FROM exchange_clock"
        eventually(lambda: value(step) > 1, BACK_S, "the clock goes")
        worker = system.pid("worker")
        texts = [json.dumps(one) for one in POISON] + TOO_MUCH
        sent = [value("SELECT pgmq.send('mm_tasks', %s::jsonb)", text) for text in texts]
        left = "SELECT count(*) FROM pgmq.q_mm_tasks WHERE msg_id = ANY (%s)"
        try:
            eventually(lambda: value(left, sent) == 0, BACK_S, "every message is off the queue")
        except AssertionError:
            rows = admin.execute("SELECT message FROM pgmq.q_mm_tasks WHERE msg_id = ANY (%s)", [sent]).fetchall()
            pytest.fail(f"left in the queue: {rows}")
        before = value(step)
        eventually(lambda: value(step) > before + 2, BACK_S, "the clock goes on")
        assert system.pid("worker") == worker, "the worker has ended, and was started again"


def test_a_queue_that_somebody_drops_is_made_again_by_the_worker_at_work() -> None:
    with running_system(nodes=1, symbols=1) as system, system.connect() as admin:

        def step() -> int:
            row = admin.execute("SELECT step FROM exchange_clock").fetchone()
            assert row is not None
            return int(row[0])

        eventually(lambda: step() > 1, BACK_S, "the clock goes")
        worker = system.pid("worker")
        for _ in range(4):
            before = step()
            assert admin.execute("SELECT pgmq.drop_queue('mm_tasks')").fetchone() == (True,)
            eventually(lambda before=before: step() > before + 1, BACK_S, "the clock goes on without its queue")  # type: ignore[misc]
        assert system.pid("worker") == worker, "the worker has ended, and was started again"
