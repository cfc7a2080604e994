"""A whole system over real connections: Daphne, Twisted and their parsers, PostgreSQL, nodes that go on quoting."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, Final, cast

import hypothesis
import psutil
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks
from websockets.exceptions import ConnectionClosed

from tests.fuzz.conversation import (
    CODES,
    TIMEOUT_S,
    closed_with,
    frames_at,
    is_first,
    is_later,
    opened,
    told_of_frames,
)
from tests.fuzz.inputs import Input, input_at
from tests.fuzz.oracle import Answer, Tally, fault_of, fault_of_log, report, shortest
from tests.fuzz.target import Target, running_target
from tests.fuzz.wire import Line, broken_at, statuses
from tests.support import eventually

DAPHNE_MESSAGE_BYTES_MAX: Final = 1024**2
CONNECTIONS: Final = 4  # at once
CHECKS: Final = [
    checks.status_code_conformance, checks.content_type_conformance,
    checks.response_schema_conformance,
]  # fmt: skip
CHUNK: Final = 400  # inputs between two looks at Daphne's log
# What Daphne may have grown by at the end. It was seen to grow by about 25 MiB within the first seconds, and no more.
MEMORY_GROWTH_MAX_BYTES: Final = 128 * 1024**2
# A process makes so few of these at once, and says 503 to whoever wants more: that is no matter of input.
ONE_AT_A_TIME: Final = ("/fills/export.csv", "/orders/export.csv", "/authority/obligation/")

pytestmark = pytest.mark.timeout(3_600)


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with running_target() as target:
        target.fresh_log()
        target.memory_bytes = psutil.Process(target.daphne).memory_info().rss
        yield target


class Asker:
    """Sends inputs to the target and judges the answers; each thread on a connection of its own."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._own = threading.local()
        self._lines: list[Line] = []
        self._one = threading.Lock()

    def ask(self, sent: Input) -> tuple[int, str | None]:
        """The status (0: closed without an answer) and what is wrong with it."""
        if sent.path in ONE_AT_A_TIME:
            with self._one:
                answer = self._line().ask(sent)
        else:
            answer = self._line().ask(sent)
        if answer is None:
            return 0, "its connection is closed without an answer"
        self._target.taken.note(sent, answer)
        return answer.status, fault_of(sent, answer)

    def ask_alone(self, sent: Input) -> str | None:
        """What is wrong with an input, its traces in the log among that, when nothing else is asked."""
        _, fault = self.ask(sent)
        return fault or fault_of_log(self._target.fresh_log())

    def close(self) -> None:
        for line in self._lines:
            line.close()

    def _line(self) -> Line:
        if not hasattr(self._own, "line"):
            self._own.line = Line(self._target.world.port)
            self._lines.append(self._own.line)
        line: Line = self._own.line
        return line


def test_bad_input_in_good_http_is_refused(
    target: Target, request: pytest.FixtureRequest, phase: Callable[..., Tally], seed: int, first: int
) -> None:
    tally = phase("http", over_the_wire=True)
    asker = Asker(target)
    request.addfinalizer(asker.close)

    def fail(number: int, fault: str) -> None:
        sent = input_at(seed, number, target.world)
        pytest.fail(
            report(seed, number, sent, fault, target.url, shortest(sent, fault, asker.ask_alone)), pytrace=False
        )

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        for start in count(first, CHUNK):
            numbers = range(start, start + CHUNK)
            inputs = [_without_plain_switches(input_at(seed, number, target.world)) for number in numbers]
            for number, (status, fault) in zip(numbers, threads.map(asker.ask, inputs), strict=True):
                tally.count(status)
                if fault:
                    fail(number, fault)
            if fault := fault_of_log(target.fresh_log()):
                for number, sent in zip(numbers, inputs, strict=True):
                    if found := asker.ask_alone(sent):
                        fail(number, found)
                pytest.fail(f"one of the inputs {start} to {start + CHUNK - 1} of seed {seed}: {fault}", pytrace=False)
            if tally.is_done:
                break


def _without_plain_switches(sent: Input) -> Input:
    """A script's, in place of a plain form's: its answer tells what was changed."""
    if sent.method == "POST" and not sent.path.startswith("/api/"):
        return Input(sent.method, sent.target, (*sent.headers, (b"Accept", b"application/json")), sent.body)
    return sent


def test_broken_http_and_handshakes_are_refused(
    target: Target, phase: Callable[..., Tally], seed: int, first: int
) -> None:
    tally = phase("broken", over_the_wire=True)

    def fault_in(raw: bytes, told: list[int]) -> str | None:
        failed = [status for status in told if status >= 500]
        return f"it is answered {failed[0]}" if failed else fault_of_log(target.fresh_log())

    def fail(number: int, fault: str) -> None:
        raw = broken_at(seed, number, target.world)
        pytest.fail(f"broken input {number} of seed {seed}: {fault}\nas sent: {raw[:2_000]!r}", pytrace=False)

    def ask(raw: bytes) -> list[int]:
        return statuses(target.world.port, raw)

    with ThreadPoolExecutor(4 * CONNECTIONS) as threads:  # most of the time they wait for what does not come
        for start in count(first, CHUNK):
            numbers = range(start, start + CHUNK)
            inputs = [broken_at(seed, number, target.world) for number in numbers]
            for number, told in zip(numbers, threads.map(ask, inputs), strict=True):
                tally.count(max(told, default=0))
                if any(status >= 500 for status in told):
                    fail(number, f"it is answered {told}")
            if fault := fault_of_log(target.fresh_log()):
                for number, raw in zip(numbers, inputs, strict=True):
                    if found := fault_in(raw, ask(raw)):
                        fail(number, found)
                pytest.fail(f"one of the broken inputs {start} to {start + CHUNK - 1} of seed {seed}: {fault}")
            if tally.is_done:
                break


def test_what_the_openapi_document_allows_and_forbids_is_answered_as_it_says(
    target: Target, phase: Callable[..., Tally], seed: int
) -> None:
    tally = phase("schema", over_the_wire=True)
    with target.system.client() as client:
        document = client.get("/api/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    operations = [cast(Any, found).ok() for found in schema.get_all_operations()]
    assert len(operations) >= 18
    headers = {"Authorization": f"Bearer {target.world.token}"}
    each = max(2, tally.goal // (2 * len(operations)))

    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @hypothesis.seed(seed)
            @_settings(each)
            @given(operation.as_strategy(generation_mode=mode))
            def answered_as_it_says(case: Any) -> None:
                case.headers = {**(case.headers or {}), **headers}  # in place of credentials made up
                response = case.call(base_url=target.url)
                sent = Input(response.request.method, response.request.path_url)
                told = {name.lower(): values[0] for name, values in response.headers.items()}
                answer = Answer(response.status_code, told, response.content)
                tally.count(answer.status)
                target.taken.note(sent, answer)
                fault = fault_of(sent, answer) or fault_of_log(target.fresh_log())
                assert fault is None, f"{fault}\n{case.as_curl_command()}"
                case.validate_response(response, checks=CHECKS)

            answered_as_it_says()


def _settings(examples: int) -> Any:
    return hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_POSITIONS = st.from_regex(r"\A-?[0-9]{0,22}-[0-9]{0,22}\Z") | st.text(max_size=30)
_MESSAGES = st.one_of(
    st.text(max_size=300),
    st.binary(max_size=300),
    _VALUES.map(json.dumps),
    st.fixed_dictionaries({"resume": _VALUES | _POSITIONS}, optional={"ack": _VALUES, "more": _VALUES}).map(json.dumps),
    st.fixed_dictionaries({"ack": _VALUES}, optional={"resume": _VALUES}).map(json.dumps),
    st.sampled_from([1_000, 100_000, 2_000_000]).map(lambda length: "x" * length),
    st.sampled_from(
        [
            "[" * 200,
            '{"resume":' * 25,
            '{"resume": null}{"resume": null}',
            '{"resume": null, "resume": null}',
            "\ufeff{}",
        ]
    ),
)
_BEGINNINGS = st.one_of(st.just('{"resume": null}'), st.just('{"resume": "1-1"}'), _MESSAGES)


def test_bad_messages_close_the_socket_with_a_code_and_concern_nobody_else(
    target: Target, phase: Callable[..., Tally], seed: int
) -> None:
    tally = phase("messages", over_the_wire=True)

    @hypothesis.seed(seed)
    @_settings(tally.goal)
    @given(_BEGINNINGS, st.lists(_MESSAGES, min_size=1, max_size=4))
    def closes(beginning: str | bytes, later: list[str | bytes]) -> None:
        with opened(target.world) as client:
            # What is longer than Daphne takes, it drops with the connection.
            codes = CODES | {0} if max(map(len, [beginning, *later])) > DAPHNE_MESSAGE_BYTES_MAX else CODES
            bad = not is_first(beginning)
            try:
                client.send(beginning)
                if not bad:
                    client.recv(timeout=TIMEOUT_S)
                    for message in later:
                        client.send(message)
                        if bad := not is_later(message):
                            break
            except ConnectionClosed:  # while it was sent: it is too long, or follows an acknowledgement of nothing
                bad, codes = True, CODES | {0}
            code = closed_with(client) if bad else 0
        if bad:
            tally.count(code)
            assert code in codes, code
        fault = fault_of_log(target.fresh_log())
        assert fault is None, fault

    closes()
    assert target.witness.is_served, target.witness.error


def test_bad_frames_close_the_socket_and_concern_nobody_else(
    target: Target, phase: Callable[..., Tally], seed: int, first: int
) -> None:
    tally = phase("frames", over_the_wire=True)

    def ask(number: int) -> int | None:
        return told_of_frames(target.world, frames_at(seed, number))

    with ThreadPoolExecutor(4 * CONNECTIONS) as threads:
        for start in count(first, CHUNK):
            numbers = range(start, start + CHUNK)
            for number, code in zip(numbers, threads.map(ask, numbers), strict=True):
                again = f"frames {number} of seed {seed}: {frames_at(seed, number)[:200]!r}"
                if code is not None:
                    tally.count(code)
                    assert code in CODES | {0, 1000, 1001}, f"{code}: {again}"
            fault = fault_of_log(target.fresh_log())
            assert fault is None, f"one of the frames {start} to {start + CHUNK - 1} of seed {seed}: {fault}"
            if tally.is_done:
                break
    assert target.witness.is_served, target.witness.error


def test_afterwards_the_system_is_sound_and_has_taken_what_it_said_and_no_more(target: Target) -> None:
    system = target.system
    messages = target.witness.messages
    eventually(lambda: target.witness.messages > messages, 30, f"the stream goes on: {target.witness.error!r}")
    assert target.witness.is_served, target.witness.error

    assert system.pid("daphne") == target.daphne, "Daphne was restarted"
    grown = psutil.Process(target.daphne).memory_info().rss - target.memory_bytes
    assert grown < MEMORY_GROWTH_MAX_BYTES, f"Daphne has grown by {grown / 1024**2:.0f} MiB"

    with system.connect() as connection:
        orders = {row[0] for row in connection.execute("SELECT client_order_id FROM exchange_order WHERE step IS NULL")}
        audited = connection.execute("SELECT count(*) FROM journal_audit").fetchone()
    assert orders == target.taken.orders
    assert audited == (target.taken.audited,)

    for program in ("daphne", "worker", "beat", "node-1", "node-2"):
        assert fault_of_log(system.log(program)) is None
    print("\n".join(system.log("postgres").splitlines()[-40:]))
    verified = system.manage("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
