"""What a process recorded is read back as it happened, also when it died in the middle."""

from __future__ import annotations

import json
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest

from chaos.history.operations import History, Operation, read, recorded, sizes
from mmproject.errors import UserError
from mmproject.recording import Recorder
from nodeagent import authority_client as client
from nodeagent import connections, history
from tests.bench.history import made_up, write


def test_an_operation_is_read_with_the_interval_in_which_it_happened(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "node-1")
    first = recorder.invoke("renew", {"incarnation": uuid.UUID(int=7)})
    second = recorder.invoke("sweep", {})
    third = recorder.invoke("leave", {})
    recorder.returned(second, {})
    recorder.failed(third, "57014")
    recorder.close()
    found = read(tmp_path)
    assert found.failed == 1
    renew, sweep, leave = found.operations
    assert (renew.process, renew.op, renew.input) == ("node-1", "renew", {"incarnation": str(uuid.UUID(int=7))})
    assert (renew.returned, renew.output) == (None, None), f"number {first} has no answer"
    assert sweep.output == {}
    assert sweep.returned is not None
    assert renew.invoked < sweep.invoked < sweep.returned
    assert leave.op.startswith("failed")


def test_the_line_that_a_process_died_over_counts_for_nothing(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "node-1")
    recorder.returned(recorder.invoke("sweep", {}), {})
    recorder.close()
    whole = recorder.path.read_bytes()
    recorder.path.write_bytes(whole[:-5])
    assert [one.is_known for one in read(tmp_path).operations] == [False]
    recorder.path.write_bytes(whole[:-5] + b"\n")
    with pytest.raises(UserError, match=r":3: not a line of a recording"):
        read(tmp_path)


def test_answers_of_after_the_tables_were_read_are_not_yet_in(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "node-1")
    number = recorder.invoke("sweep", {})
    until = sizes(tmp_path)
    recorder.returned(number, {})
    later = Recorder(tmp_path, "node-2")
    later.returned(later.invoke("sweep", {}), {})
    recorder.close()
    later.close()
    assert [one.is_known for one in read(tmp_path, until).operations] == [False, False]
    assert [one.is_known for one in read(tmp_path).operations] == [True, True]


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no recordings"):
        read(tmp_path)


def test_many_threads_share_one_recorder(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "clients")

    def work() -> None:
        for _ in range(300):
            recorder.returned(recorder.invoke("order", {"x": "y" * 200}), {})

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.close()
    found = read(tmp_path)
    assert len(found.operations) == 2400
    assert all(one.is_known for one in found.operations)


def test_a_request_that_was_not_answered_is_of_unknown_outcome(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "client")

    def broken() -> tuple[int, Any]:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        recorded(recorder, "order", {"id": 1}, broken)
    assert recorded(recorder, "order", {"id": 2}, lambda: (503, None)) == (503, None)
    assert recorded(recorder, "order", {"id": 3}, lambda: (409, {"code": "x"})) == (409, {"code": "x"})
    recorder.close()
    outputs = [one.output for one in read(tmp_path).operations]
    assert outputs == [None, None, {"status": 409, "answer": {"code": "x"}}]


def test_a_made_up_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    made, _facts = made_up(500, 1)
    write(made, tmp_path)

    def plain(one: Operation) -> str:
        return json.dumps([one.process, one.op, one.invoked, one.returned, one.input, one.output])

    def lines(history: History) -> list[str]:
        return sorted(plain(one) for one in history.operations)

    assert lines(read(tmp_path)) == lines(made)


class Server:
    """A connection that answers with rows, or fails."""

    def __init__(self, outcome: list[Any] | Exception) -> None:
        self.outcome = outcome

    async def fetch(self, _query: str, *_arguments: Any, timeout: float) -> list[Any]:  # noqa: ASYNC109
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def is_closed(self) -> bool:
        return False

    def terminate(self) -> None: ...


class Refused(Exception):
    sqlstate = "55P03"


async def test_a_nodes_statements_are_recorded_with_what_became_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "witness", None)
    monkeypatch.setattr(connections, "DriverError", (*connections.DriverError, Refused))
    history.record(tmp_path, "node-1")
    incarnation = uuid.UUID(int=7)

    async def ask(outcome: list[Any] | Exception, query: str, *arguments: Any) -> None:
        await connections.fetch(Server(outcome), query, *arguments, timeout_s=1)  # type: ignore[arg-type]

    await ask([(incarnation, 3, None)], client.REGISTER, "node-1", 3000)
    await ask([], client.RENEW, incarnation)
    await ask([("X", 4, "granted")], client.ACQUIRE, incarnation, ["X"], True)
    quotes = ([1], [1], [2], [1], 8000)
    await ask([("X", "accepted", 9, False, "off")], client.REPLACE, incarnation, ["X"], [4], *quotes)
    await ask([(["X"], "off")], client.RELEASE, incarnation, ["X"], True)
    await ask([(incarnation, "n", "expired", 1, True)], client.SWEEP)
    await ask([(1, True)], client.LEAVE, incarnation)
    await ask([(2,)], client.BEGIN_LEAVE, incarnation)
    await ask([(1,)], "SELECT 1")
    with pytest.raises(connections.ConnectionLost):
        await ask(TimeoutError(), client.RENEW, incarnation)
    with pytest.raises(connections.TryAgain):
        await ask(Refused("locked"), client.RENEW, incarnation)
    found = read(tmp_path)
    known = {one.op: (one.input, one.output) for one in found.operations if one.is_known}
    who = {"incarnation": str(incarnation)}
    assert known == {
        "register": ({"node": "node-1"}, {**who, "serial": 3}),
        "renew": (who, {"alive": False}),
        "acquire": ({**who, "symbols": ["X"]}, {"grants": [["X", 4, "granted"]]}),
        "replace": ({**who, "epochs": {"X": 4}}, {"outcomes": [["X", "accepted", 9]]}),
        "release": ({**who, "symbols": ["X"]}, {"released": ["X"]}),
        "sweep": ({}, {**who, "reason": "expired", "done": True}),
        "leave": (who, {"released": 1, "done": True}),
        "begin_leave": (who, {"members": 2}),
    }
    assert [one.op for one in found.operations if not one.is_known] == ["renew", "failed: locked"]
