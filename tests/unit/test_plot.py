"""The picture of `bench --plot`: which measurements make a line, and what is said where it can't be drawn."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from bench import plot
from bench.figures import Floor, Measurement
from bench.run import Outcome
from mmproject.errors import UsageError, UserError


def outcome(name: str, *measurements: Measurement) -> Outcome:
    return Outcome(name, "what it is", measurements=list(measurements))


def orders(clients: int, mode: str, rate: float) -> Measurement:
    return Measurement(
        name=f"{clients} clients, {mode}",
        unit="orders/s",
        values=(rate, rate + 10, rate - 10),
        floors=(Floor("TPC-B", (rate / 2,) * 3),),
        at={"clients": clients, "mode": mode},
    )


def p99(clients: int, ms: float) -> Measurement:
    return Measurement(name="p99", unit="ms", values=(ms,), at={"clients": clients, "quantile": "p99"})


def test_measurements_that_differ_in_clients_alone_make_a_line_with_the_floor_beside_it() -> None:
    found = plot.panels(
        [outcome("orders", orders(32, "simple", 800), orders(8, "simple", 500), orders(8, "prepared", 600), p99(8, 2))]
    )
    # One mode, and the latency, were measured at one number of clients only.
    assert list(found) == [("clients", "throughput")]
    assert found["clients", "throughput"] == {
        "orders (orders/s), simple": [plot.Point(8, 500, 490, 510), plot.Point(32, 800, 790, 810)],
        "orders (orders/s), simple: TPC-B": [plot.Point(8, 250, 250, 250), plot.Point(32, 400, 400, 400)],
    }


def test_a_99th_percentile_has_a_panel_of_its_own_and_a_median_is_not_drawn() -> None:
    median = Measurement(name="p50", unit="ms", values=(1,), at={"nodes": 1, "quantile": "p50"})
    found = plot.panels([outcome("api", p99(8, 2), p99(32, 4), median)])
    assert list(found) == [("clients", "p99")]


@pytest.mark.parametrize(("suffix", "begins"), [(".svg", b"<?xml"), (".png", b"\x89PNG")])
def test_it_writes_a_picture(tmp_path: Path, suffix: str, begins: bytes) -> None:
    path = tmp_path / f"bench{suffix}"
    plot.check_path(path)
    found = [outcome("orders", orders(8, "simple", 500), orders(32, "simple", 800), p99(8, 2), p99(32, 3))]
    assert plot.draw(found, path)
    assert path.read_bytes().startswith(begins)
    assert not plot.draw([outcome("orders", orders(8, "simple", 500))], tmp_path / "nothing.svg")
    assert not (tmp_path / "nothing.svg").exists()


def test_what_cannot_be_written_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"writes \.svg or \.png"):
        plot.check_path(tmp_path / "bench.pdf")
    with pytest.raises(UsageError, match="there is no folder"):
        plot.check_path(tmp_path / "nowhere" / "bench.svg")


def test_without_matplotlib_it_says_in_one_line_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name == "matplotlib" else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(UserError, match=r"make setup-dev") as told:
        plot.check_path(tmp_path / "bench.svg")
    assert "\n" not in str(told.value)
