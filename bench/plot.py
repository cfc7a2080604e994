"""Throughput and 99th percentiles against the number of clients, symbols and nodes, as one picture.

matplotlib is for developers only: `available` says how to get it where it is missing, before anything is measured.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.figures import Measurement, Spread
from bench.run import Outcome
from mmproject.errors import UsageError, UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES: Final = (".svg", ".png")
AXES: Final = ("clients", "symbols", "nodes")
PANEL_INCHES: Final = (6.4, 4.2)
DPI: Final = 120


@dataclass(frozen=True, slots=True)
class Point:
    """One figure: where it stands, its median and how far the rounds went."""

    x: int
    median: float
    lowest: float
    highest: float


Series = dict[str, list[Point]]  # by name, points in the order of x
Panel = tuple[str, str]  # axis and unit kind: ("clients", "throughput")


def check_path(path: Path) -> None:
    """Raises UsageError for a file that can't be written as a picture, UserError when there is nothing to draw with."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--plot writes {' or '.join(SUFFIXES)}, not {path.name}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--plot: there is no folder {path.absolute().parent}")
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("--plot needs matplotlib, which is for developers: make setup-dev")


def panels(outcomes: Sequence[Outcome]) -> dict[Panel, Series]:
    """What there is to draw: measurements of one benchmark that differ in clients, symbols or nodes make a line.

    A figure's floors are lines of their own. A line has two points or more.
    """
    drawn: dict[Panel, Series] = {}
    for outcome in outcomes:
        for axis in AXES:
            for one in outcome.measurements:
                kind, x = _kind(one), one.at.get(axis)
                if kind is None or not isinstance(x, int):
                    continue
                series, name = drawn.setdefault((axis, kind), {}), _line(outcome.name, one, axis)
                series.setdefault(name, []).append(_point(x, one.figure))
                for floor in one.floors if "series" not in one.at else ():  # those are held against their smallest
                    series.setdefault(f"{name}: {floor.name}", []).append(_point(x, Spread.of(floor.values)))
    for panel, series in drawn.items():
        drawn[panel] = {
            name: sorted(points, key=lambda point: point.x)
            for name, points in series.items()
            if len({point.x for point in points}) > 1
        }
    return {panel: series for panel, series in drawn.items() if series}


def _point(x: int, spread: Spread) -> Point:
    return Point(x, spread.median, spread.lowest, spread.highest)


def _kind(one: Measurement) -> str | None:
    if one.unit.endswith("/s"):
        return "throughput"
    if one.unit == "ms":
        return "p99" if one.at.get("quantile") == "p99" else None if "quantile" in one.at else "time"
    return None


def _line(benchmark: str, one: Measurement, axis: str) -> str:
    """What the points of one line share: the benchmark, and how it was loaded but for the axis."""
    shared = [f"{value}" for key, value in one.at.items() if key not in (*AXES, "quantile")]
    others = [f"{value} {key}" for key, value in one.at.items() if key in AXES and key != axis]
    return ", ".join([f"{benchmark} ({one.unit})", *shared, *others])


def draw(outcomes: Sequence[Outcome], path: Path) -> bool:
    """Write the picture; False when nothing was measured at more than one number of anything."""
    import matplotlib as mpl

    mpl.use("Agg")  # no display is needed
    from matplotlib.figure import Figure

    found = panels(outcomes)
    if not found:
        return False
    kinds = [kind for kind in ("throughput", "p99", "time") if any(panel[1] == kind for panel in found)]
    axes = [axis for axis in AXES if any(panel[0] == axis for panel in found)]
    width, height = PANEL_INCHES
    figure = Figure(figsize=(width * len(kinds), height * len(axes)), layout="constrained", dpi=DPI)
    grid = figure.subplots(len(axes), len(kinds), squeeze=False)
    for row, axis in enumerate(axes):
        for column, kind in enumerate(kinds):
            _draw_panel(grid[row][column], axis, kind, found.get((axis, kind), {}))
    figure.savefig(path)
    return True


def _draw_panel(panel: Axes, axis: str, kind: str, series: Series) -> None:
    from matplotlib.ticker import NullLocator

    if not series:
        panel.set_axis_off()
        return
    for name, points in series.items():
        medians = [point.median for point in points]
        below = [point.median - point.lowest for point in points]
        above = [point.highest - point.median for point in points]
        panel.errorbar(
            [point.x for point in points], medians, yerr=[below, above], marker="o", capsize=3, label=name,
            linestyle="--" if ": " in name else "-",
        )  # fmt: skip
    panel.set_xscale("log")
    panel.set_yscale("log")
    ticks = sorted({point.x for points in series.values() for point in points})
    panel.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlabel(axis)
    panel.set_ylabel({"throughput": "per second", "p99": "p99, ms", "time": "ms"}[kind])
    panel.set_title(f"{kind} against {axis}")
    panel.grid(visible=True, alpha=0.3)
    panel.legend(fontsize="small")
