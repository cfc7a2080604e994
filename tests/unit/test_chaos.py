"""The chaos runner's own parts: what it plans, how it breaks a network, and how it judges."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import psycopg
import pytest

from chaos import arena, run
from chaos.catalogue import FAULTS, by_name
from chaos.excuse import nothing_written, unexcused
from chaos.host import PREFIX
from chaos.management.commands import chaos as chaos_command
from chaos.occasion import Fault, Occasion
from chaos.processes import Managed, Supervisor
from chaos.proxy import Line, Loop, Moment, Proxy
from chaos.report import document
from chaos.run import Bout, follow
from chaos.schedule import REST_S, TAIL_S, Entry, schedule
from chaos.servers import wait
from chaos.spectator import departures
from chaos.watch import Version, gaps, spread, taken_over
from mmproject.conf import conf
from mmproject.primary import is_unreplicated


def touched(entry: Entry) -> set[str]:
    return {entry.node if one == "node" and entry.node else one for one in entry.fault.touches}


def test_same_seed_same_schedule() -> None:
    assert schedule(FAULTS, 7, 600) == schedule(FAULTS, 7, 600)
    assert schedule(FAULTS, 7, 600) != schedule(FAULTS, 8, 600)


@pytest.mark.parametrize("seed", range(20))
def test_ten_minutes_hold_every_fault_and_none_that_touch_the_same_at_once(seed: int) -> None:
    planned = schedule(FAULTS, seed, 600)
    assert {entry.fault.name for entry in planned} == {fault.name for fault in FAULTS}
    assert all(entry.at_s + entry.seconds <= 600 - TAIL_S for entry in planned)
    for first, second in combinations(planned, 2):
        if touched(first) & touched(second):
            assert second.at_s >= first.at_s + first.seconds + REST_S - 1e-6
    overlapping = [
        1 for one, two in combinations(planned, 2) if two.at_s < one.at_s + one.seconds and one.at_s <= two.at_s
    ]
    assert overlapping, "faults overlap"


def test_what_found_nothing_to_break_comes_once_more_when_all_else_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    came: list[str] = []
    monkeypatch.setattr(run, "unsettled", lambda *_: [])

    def once(it: Occasion) -> None:
        came.append("once")

    def missed(it: Occasion) -> None:
        came.append("missed")
        it.cut_short = came.count("missed") == 1

    def never(it: Occasion) -> None:
        came.append("never")
        it.cut_short = True

    faults = tuple(Fault(1, act.__name__, "", (0.0, 0.0), act, ()) for act in (missed, never, once))
    bout = Bout(1, 0.0, faults, [Entry(fault, 0.0, 0.0, None, 1) for fault in faults], began_at=time.time())
    nothing: Any = None
    follow(bout, nothing, nothing, nothing, threading.Event(), lambda _who, _what: None)
    assert sorted(came[:3]) == ["missed", "never", "once"]
    assert came[3:] == ["missed", "never"]
    assert [one.fault.name for one in bout.occasions if not one.cut_short] == ["once", "missed"]


def test_every_number_of_the_catalogue_has_a_fault() -> None:
    assert {fault.number for fault in FAULTS} == set(range(1, 26))


# --- The proxy ------------------------------------------------------------------------------------------------------


class Echo(threading.Thread):
    """A server that answers each message with the same in capitals."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.heard: list[bytes] = []

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1000):
                    self.heard.append(data)
                    connection.sendall(data.upper())
            except OSError:
                return

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    server.start()
    yield server
    server.close()


@pytest.fixture
def line(echo: Echo) -> Iterator[Line]:
    loop = Loop()
    made = loop.line("client", [echo.port])
    yield made
    made.each(lambda proxy: proxy.close())
    time.sleep(0.05)
    loop.close()


def connected(line: Line) -> socket.socket:
    return socket.create_connection((line.proxies[0].host, line.proxies[0].port), 2)


def heard(echo: Echo, what: bytes) -> bool:
    deadline = time.monotonic() + 2
    while what not in b"".join(echo.heard):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_a_line_passes_on_what_it_gets(line: Line) -> None:
    with connected(line) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"HELLO"


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_closed_way_holds_data_back_until_it_is_healed(line: Line, echo: Echo, way: str) -> None:
    with connected(line) as client:
        client.sendall(b"one")
        assert client.recv(100) == b"ONE"
        line.close_way("up" if way == "up" else "down")
        client.sendall(b"two")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(100)
        assert (b"two" in echo.heard) == (way == "down")
        line.open_way("up", "down")
        client.settimeout(2)
        assert client.recv(100) == b"TWO"


def test_a_reset_line_resets(line: Line) -> None:
    with connected(line) as client:
        client.sendall(b"one")
        assert client.recv(100) == b"ONE"
        line.each(Proxy.reset)
        with pytest.raises(ConnectionResetError):
            client.recv(100)


@pytest.mark.parametrize(("moment", "arrives"), [("before", False), ("after_request", True), ("after_answer", True)])
def test_a_cut_falls_where_it_was_asked_for(line: Line, echo: Echo, moment: Moment, arrives: bool) -> None:
    with connected(line) as client:
        cut = line.cut(b"COMMIT", moment)
        client.sendall(b"begin")
        assert client.recv(100) == b"BEGIN"
        client.sendall(b"COMMIT")
        with pytest.raises(ConnectionResetError):
            client.recv(100)
        assert cut.done.wait(2)
    assert heard(echo, b"COMMIT") == arrives
    with connected(line) as client:  # one only
        client.sendall(b"COMMIT")
        assert client.recv(100) == b"COMMIT"


def test_a_held_request_is_known_by_its_prepared_statement(line: Line, echo: Echo) -> None:
    with connected(line) as client:
        client.sendall(
            b"P__asyncpg_stmt_1__\x00SELECT authority_replace_quotes_v3($1)\x00\x00\x00DS__asyncpg_stmt_1__\x00H"
        )
        assert client.recv(100)
        hold = line.hold(b"authority_replace_quotes")
        client.sendall(b"B__asyncpg_stmt_2__")
        assert client.recv(100) == b"B__ASYNCPG_STMT_2__"
        assert not hold.held.is_set()
        client.sendall(b"B__asyncpg_stmt_1__ late")
        assert hold.held.wait(2)
    assert b"late" not in b"".join(echo.heard)
    line.release()
    assert heard(echo, b"late"), "what was sent arrives, although the client has gone"


# --- Gaps -----------------------------------------------------------------------------------------------------------


def quote(
    at: float, until: float = 0.0, withdrawn: str | None = None, by: str = "one", symbol: str = "ALFA"
) -> Version:
    return Version(symbol, at, until or at + 8, withdrawn, by, by)


def test_a_quote_that_is_replaced_leaves_no_gap() -> None:
    assert gaps([quote(0), quote(1), quote(2)]) == []


def test_a_withdrawn_and_a_lapsed_quote_do() -> None:
    found = gaps([quote(0), quote(1, withdrawn="expired"), quote(1.5), quote(12)])
    assert [(gap.began_at, gap.ended_at) for gap in found] == [(1, 1.5), (9.5, 12)]


def test_what_an_operator_turned_off_is_no_gap() -> None:
    assert gaps([quote(0), quote(1, withdrawn="quoting_disabled"), quote(5), quote(6)]) == []


def test_a_takeover_is_the_first_quote_by_another() -> None:
    versions = [quote(0), quote(1), quote(2), quote(3.25, by="two"), quote(4, by="two")]
    other = [quote(0, symbol="BRAVO"), quote(9, symbol="BRAVO", by="two")]
    assert taken_over([*versions, *other], ["ALFA"], since=1.0, until=5.0) == [2.25]
    assert taken_over([*versions, *other], ["BRAVO"], since=1.0, until=5.0) == [], "that has another cause"


def test_a_spread_of_nothing_says_so() -> None:
    assert spread([]) == {"count": 0}
    assert spread([0.1, 0.2, 0.3]) == {"count": 3, "p50_ms": 200, "p99_ms": 300, "max_ms": 300}


def test_the_servers_word_for_a_commit_without_its_standby() -> None:
    told = "canceling wait for synchronous replication due to user request"
    assert is_unreplicated("WARNING", None, told)
    assert is_unreplicated("WARNING", "SyncRepWaitForLSN", "in any language")
    assert not is_unreplicated("NOTICE", None, told)
    assert not is_unreplicated("WARNING", "other", "something else")
    assert not is_unreplicated(None, None, None)


# --- What a console was shown ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stretches", "found"),
    [
        ([["1-1", "1-2", "2-3"], ["2-4"]], []),
        ([["1-2", "2-3", "2-4"]], []),
        ([["1-1", "2-3"]], ["was shown 2-3 after 1-1, and not 1-2"]),
        ([["1-1", "1-2", "1-2"]], ["was shown 1-2 after 1-2, and not 2-3"]),
        ([["1-2", "1-1"]], ["was shown 1-1 after 1-2, and not 2-3"]),
        ([["1-1"], ["2-4", "2-3"]], ["was shown 2-3 after 2-4, and not nothing"]),
        ([["1-1", "9-9"]], ["was shown 9-9, which is not in the log"]),
        ([["1-1", "9-9"], ["2-3"]], []),  # lost with a server, and a gap told of
        ([["1-1", "9-9", "1-2"], ["2-3"]], ["was shown 9-9, which is not in the log"]),
    ],
)
def test_a_row_missed_doubled_or_made_up_is_seen(stretches: list[list[str]], found: list[str]) -> None:
    assert departures(stretches, ["1-1", "1-2", "2-3", "2-4"]) == found


# --- What ends by itself, and a run without a verdict ----------------------------------------------------------------


def test_a_process_that_ends_by_itself_is_a_finding_and_one_that_we_end_is_not(tmp_path: Path) -> None:
    supervisor = Supervisor(lambda _who, _what: None)

    def begin(name: str, code: str, **options: Any) -> Managed:
        command = [sys.executable, "-c", code]
        return supervisor.add(Managed(name, command, dict(os.environ), tmp_path, tmp_path / name, **options))

    try:
        ends = [begin("error", "exit(3)"), begin("nothing", "pass")]
        begin("excused", "exit(1)", may_end=True)
        begin("crash_point", "import os; os.kill(os.getpid(), 9)")
        killed, stubborn = (
            begin(name, f"import signal, time; signal.signal(15, {handler}); print(1, flush=True); time.sleep(60)")
            for name, handler in (("killed", "signal.SIG_DFL"), ("stubborn", "signal.SIG_IGN"))
        )
        wait(lambda: all(one.log.exists() and one.log.read_text() for one in (killed, stubborn)), "both have begun")
        killed.signal(signal.SIGTERM)
        wait(lambda: all(one.starts > 1 for one in (*ends, killed)), "they are started again")
        supervisor.stop("stubborn", timeout_s=0.2)
    finally:
        supervisor.close()
    assert set(supervisor.unexplained) == {
        "error ended: 3, by itself",
        "nothing ended: 0, by itself",
        "stubborn did not stop within 0.2 s, and was killed",
    }


def test_a_bout_that_ends_early_is_not_ok_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: Any, **__: Any) -> None:
        raise psycopg.OperationalError("no server came back")

    monkeypatch.setattr(run, "arena", lost)
    bout = run.run(conf, FAULTS, seed=1, seconds=600, symbols=1, folder=None, say=lambda _who, _what: None)
    assert bout.broken == ["it ended early: OperationalError: no server came back"]
    assert not document([bout])["ok"]


def full_disk(fault: str = "disk_full", hit: float = 10.0, freed: float = 20.0) -> Occasion:
    """Begun at 9; from 10 on something was refused, freed at 20, and until 25 for what is tried again."""
    found = by_name(fault)
    assert found is not None
    nothing: Any = None
    one = Occasion(found, 0.0, 10.0, None, 1, nothing, nothing, nothing, nothing, nothing)
    one.began_at, one.hit_at, one.ended_at = hit - 1, hit, freed
    return one


@pytest.mark.parametrize(
    ("name", "at", "fault", "excused"),
    [
        ("I11", 9.5, "disk_full", False),
        ("I11", 12.0, "disk_full", True),
        ("I11", 24.0, "disk_full", True),
        ("I11", 26.0, "disk_full", False),
        ("I1", 12.0, "disk_full", False),
        ("I11", 12.0, "failover", False),
    ],
)
def test_only_progress_is_excused_and_only_by_a_full_disk(name: str, at: float, fault: str, excused: bool) -> None:
    one = full_disk(fault)
    assert (unexcused({"id": name, "at": at}, nothing_written([one])) is None) == excused
    one.hit_at = 0.0  # nothing was refused for want of space
    assert not nothing_written([one])


def uncovered(*times: tuple[float, float], at: float = 400.0, unseen: int = 0) -> dict[str, Any]:
    """I14 as `verify` tells of it, with 5 s allowed."""
    rows = [
        {"symbol": "ALFA", "allowed_seconds": "5"}
        | {
            f"uncovered_{name}": datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
            for name, moment in (("since", since), ("until", until))
        }
        for since, until in times
    ]
    return {"id": "I14", "name": "covered", "at": at, "violations": len(rows) + unseen, "rows": rows}


ONCE = (full_disk(), full_disk("failover", 20, 60))
TWICE = (full_disk(hit=22, freed=30), full_disk())  # 10 to 35, as one
AGAIN = (*TWICE, full_disk(hit=100, freed=105))


@pytest.mark.parametrize(
    ("violation", "occasions", "excused"),
    [
        (uncovered((12, 19), at=13), ONCE, True),
        (uncovered((12, 19)), ONCE, True),  # it stays in every snapshot, long after
        (uncovered((8, 27.9)), ONCE, True),  # 4.9 s of it apart from that
        (uncovered((8, 28.1)), ONCE, False),
        (uncovered((4, 10)), ONCE, False),
        (uncovered((30, 35.1)), ONCE, False),
        (uncovered((12, 19), (300, 306)), ONCE, False),
        (uncovered((12, 19), unseen=1), ONCE, False),
        (uncovered((12, 19)), (), False),
        (uncovered((10, 40)), TWICE, True),
        (uncovered((10, 40.1)), TWICE, False),
        (uncovered((10, 19), (99, 112)), AGAIN, True),
        (uncovered((10, 111)), AGAIN, False),
    ],
)
def test_what_was_uncovered_is_excused_by_when_it_was_and_not_by_when_it_is_seen(
    violation: dict[str, Any], occasions: tuple[Occasion, ...], excused: bool
) -> None:
    assert (unexcused(violation, nothing_written(occasions)) is None) == excused


def test_of_what_was_uncovered_only_what_is_not_excused_is_told() -> None:
    left = unexcused(uncovered((12, 19), (300, 306), unseen=2), nothing_written(ONCE))
    assert left is not None
    assert left["violations"] == 3
    assert [row["uncovered_since"] for row in left["rows"]] == ["1970-01-01T00:05:00Z"]


def test_what_is_blamed_is_what_is_not_excused_with_its_first_rows() -> None:
    bout = Bout(1, 600.0, FAULTS, [], occasions=list(ONCE))
    fenced = {"id": "I4", "at": 12.0, "violations": 9, "rows": [{"symbol": "ALFA"}] * 9}
    stale = {"id": "I11", "at": 12.0, "violations": 1, "rows": [{"symbol": "ALFA"}]}
    run.blame(bout, [stale, fenced, uncovered((12, 19)), uncovered((12, 19), (300, 306))])
    assert [one["id"] for one in bout.excused] == ["I11", "I14"]
    assert [(one["id"], one["violations"], len(one["rows"])) for one in bout.violations] == [
        ("I4", 9, 5),
        ("I14", 1, 1),
    ]


def test_why_it_is_not_ok_comes_last_of_all_that_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = [uncovered((30.0, 36.0), at=at) for at in (40.0, 41.0, 90.0)]

    def broken(*_: Any, **__: Any) -> Bout:
        bout = Bout(7, 60.0, FAULTS, [], began_at=30.0, violations=seen)
        bout.broken.append(run.while_it_ran(seen, bout.began_at))
        return bout

    monkeypatch.setattr(chaos_command, "run", broken)
    monkeypatch.setattr(chaos_command.Command, "_available", lambda _self, faults, _skip: faults)  # on any machine
    with pytest.raises(SystemExit) as ended:
        chaos_command.Command().run_from_argv(
            ["manage.py", "chaos", "--minutes", "1", "--seed", "7", "--skip-unavailable"]
        )
    assert ended.value.code == 1
    *_, sums, why, command, verdict = capsys.readouterr().out.splitlines()
    assert sums.endswith("3 violations")
    assert why.startswith("seed 7: I14 covered while it ran, in 3 snapshots from 10.0 s to 60.0 s; at first: 1 x {")
    assert '"symbol": "ALFA"' in why
    assert command == "to repeat: manage.py chaos --minutes 1 --bout 10 --seed 7 --skip-unavailable"
    assert verdict == "NOT ok"


def test_a_run_is_ok_when_no_bout_is_to_come() -> None:
    done = Bout(1, 60.0, FAULTS, [])
    assert document([done])["ok"]
    assert not document([done], to_come=1)["ok"]


# --- What a killed run leaves ----------------------------------------------------------------------------------------


def test_what_a_killed_run_left_is_cleared_away_and_a_running_one_is_let_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    told: list[str] = []
    for name in ("dead", "alive", "begun"):
        (tmp_path / f"{PREFIX}{name}").mkdir()
    for name in ("dead", "alive"):
        (tmp_path / f"{PREFIX}{name}" / arena.CLAIM).touch()
    with (tmp_path / f"{PREFIX}alive" / arena.CLAIM).open() as claim:
        fcntl.flock(claim, fcntl.LOCK_EX)
        arena.sweep(lambda _who, what: told.append(what))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{PREFIX}alive", f"{PREFIX}begun"]
    assert told == [f"cleared away {PREFIX}dead, which a run had left that was killed"]
